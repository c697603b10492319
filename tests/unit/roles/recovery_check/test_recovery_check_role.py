# SPDX-License-Identifier: GPL-3.0-or-later
"""Module, role and playbook speak of the same drills, and the page of the role names each variable and kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.drill import DrillKind
from ansible_collections.stateful.petset.plugins.modules import pet_drill

from tests.unit.roles.plays import LOCAL, collections_path, run_playbook, tasks_in

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[4]
ROLE = ROOT / "roles/recovery_check"
PAGE = (ROOT / "docs/roles/recovery_check.md").read_text()
# Steps give these, or they are a part of the connection that is set by variables of the environment.
NOT_IN_THE_ROLE = {
    "step", "drill_id", "program", "progress_file", "lag_limit", "host", "api_key", "username", "password",
    "client_cert", "client_key", "ca_cert", "validate_certs", "proxy", "proxy_headers", "no_proxy",
    "impersonate_user", "impersonate_groups",
}  # fmt: skip
STEPS = {"plan", "begin", "crash", "prove", "abandon"}


def load(path: str) -> Any:
    return yaml.safe_load((ROLE / path).read_text())


OPTIONS: dict[str, Any] = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
DRILL: dict[str, Any] = OPTIONS["recovery_check_drill"]["options"]


def test_every_option_of_the_module_is_handed_on() -> None:
    (block,) = [task for task in load("tasks/drill.yml") if "module_defaults" in task]
    given = block["module_defaults"]["stateful.petset.pet_drill"]
    assert set(given) == set(pet_drill.argument_spec()) - NOT_IN_THE_ROLE
    spec = pet_drill.argument_spec()
    for name, text in given.items():
        default = spec[name].get("default")
        if "recovery_check_drill" in text and default not in (None, "", []):
            assert f"default({default!r})" in text, name
        assert "recovery_check_" in text


def test_every_key_of_a_drill_is_used_and_told() -> None:
    text = "".join(path.read_text() for path in (ROLE / "tasks").glob("*.yml")) + (ROLE / "vars/main.yml").read_text()
    for name in DRILL:
        assert f"recovery_check_drill.{name}" in text, name
        assert f"`{name}`" in PAGE, name
    for name in OPTIONS:
        assert f"`{name}`" in PAGE, name


def test_kinds_are_the_same_everywhere() -> None:
    kinds = [one.value for one in DrillKind]
    assert kinds == pet_drill.KINDS
    assert DRILL["kind"]["choices"] == kinds
    for kind in kinds:
        assert f"| `{kind}` |" in PAGE, kind
    for kind in DrillKind:
        assert (ROLE / "tasks" / f"{kind.value}.yml").exists() is kind.by_hook


def test_each_step_is_taken_and_a_failure_is_healed() -> None:
    every = tasks_in(load("tasks/drill.yml")) + tasks_in(load("tasks/stage.yml"))
    taken = {task["stateful.petset.pet_drill"]["step"] for task in every if "stateful.petset.pet_drill" in task}
    assert taken == STEPS
    rescue = next(task["rescue"] for task in load("tasks/stage.yml") if "rescue" in task)
    words = [next(key for key in task if "." in key) for task in rescue]
    assert words == [
        "ansible.builtin.set_fact",
        "ansible.builtin.include_tasks",
        "stateful.petset.pet_drill",
        "ansible.builtin.fail",
    ]


UNDO = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: stateful.petset.recovery_check
        tasks_from: undo
      vars:
        recovery_check_undo: {kind: node_power_off, nodes: [node-7]}
"""


def test_a_node_of_a_killed_run_is_switched_on_by_the_hook_of_another_drill(tmp_path: Path) -> None:
    """The drill at hand may be of another kind and have no hook: the node stayed off and only a message was left."""
    hook = tmp_path / "power.yml"
    hook.write_text(
        "- ansible.builtin.debug:\n    msg: 'HOOK {{ inventory_hostname }} {{ recovery_check_node }}"
        " {{ recovery_check_power }}'\n"
    )
    power, kill = {"kind": "node_power_off", "hook": str(hook)}, {"kind": "mysqld_kill"}
    hosts = {
        "itself": {"recovery_check_drill": power},
        "another": {"recovery_check_drill": kill, "recovery_check_drills": [kill, power]},
        "nobody": {"recovery_check_drill": kill, "recovery_check_drills": [kill]},
    }
    inventory = {"hosts": {name: {**LOCAL, **given} for name, given in hosts.items()}}
    done = run_playbook(tmp_path, collections_path(), UNDO, inventory)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("itself", "another"):
        assert f"HOOK {name} node-7 on" in done.stdout
    assert "HOOK nobody" not in done.stdout
    assert done.stdout.count("nodes node-7 may be off") == 1
