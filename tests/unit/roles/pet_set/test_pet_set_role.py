# SPDX-License-Identifier: GPL-3.0-or-later
"""Module, role and playbooks speak of the same options."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_set_spec import BOOT_FILES
from ansible_collections.stateful.petset.plugins.modules import pet_set

ROLES = Path(__file__).parents[4] / "roles"
# Not for users, or parts of the connection that are set by variables of the environment.
NOT_IN_THE_ROLE = {
    "boot_files", "agent_files", "username", "password", "client_cert", "client_key", "proxy", "no_proxy",
    "proxy_headers", "impersonate_user", "impersonate_groups",
}  # fmt: skip
# Nothing has another spelling in variables, which cannot be left out of a task by themselves.
EMPTY_FOR_NONE = ("", {}, None)


@cache
def load(role: str, name: str) -> Any:
    return yaml.safe_load((ROLES / role / name).read_text())


def options_of(role: str) -> dict[str, Any]:
    found: dict[str, Any] = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def test_every_option_of_the_module_is_a_variable_of_the_role_and_handed_on() -> None:
    module = set(pet_set.argument_spec()) - NOT_IN_THE_ROLE
    assert {f"pet_set_{name}" for name in module} == set(options_of("pet_set"))
    task = load("pet_set", "tasks/main.yml")[-1]["stateful.petset.pet_set"]
    assert set(task) == module | {"boot_files", "agent_files"}
    for name in module:
        assert f"pet_set_{name}" in task[name]


def test_the_defaults_are_those_of_the_module() -> None:
    for name, option in pet_set.argument_spec().items():
        variable = options_of("pet_set").get(f"pet_set_{name}")
        if variable is None or name in ("set", "image", "wait_timeout"):
            continue
        if option.get("default") is None:
            assert variable.get("default") in EMPTY_FOR_NONE, name
        else:
            assert variable["default"] == option["default"], name
        assert variable.get("choices") == option.get("choices"), name


@pytest.mark.parametrize("role", ["pet_set", "petset"])
def test_defaults_and_argument_spec_agree(role: str) -> None:
    said = {name: option["default"] for name, option in options_of(role).items() if "default" in option}
    assert load(role, "defaults/main.yml") == said


def test_the_role_ships_the_whole_start_up_program() -> None:
    files = {path.name for pattern in ("*.sh", "*.in") for path in (ROLES / "pet_set/files/boot").glob(pattern)}
    assert files >= BOOT_FILES
    assert {path.name for path in (ROLES / "pet_set/files/boot").iterdir()} == files


def test_the_role_of_the_playbooks_sets_only_variables_that_the_roles_have() -> None:
    for tasks, role, prefix in (
        ("exports", "nfs_exports", "nfs_exports_"),
        ("volumes", "pet_volumes", "pet_volumes_"),
        ("removal", "pet_volumes", "pet_volumes_"),
        ("pets", "pet_set", "pet_set_"),
        ("proxy", "haproxy", "haproxy_"),
    ):
        (task,) = load("petset", f"tasks/{tasks}.yml")
        handed = {name for name in task["vars"] if name.startswith(prefix)}
        assert handed <= set(options_of(role)), tasks
        assert task["ansible.builtin.include_role"]["name"] == f"stateful.petset.{role}"


def test_every_variable_of_the_playbooks_is_used() -> None:
    used = "".join(path.read_text() for path in (ROLES / "petset/tasks").iterdir())
    used += "".join(path.read_text() for path in (ROLES.parent / "playbooks").iterdir())
    for name in options_of("petset"):
        assert name in used, name


@pytest.mark.parametrize("role", ["pet_set", "petset"])
def test_the_page_names_every_variable(role: str) -> None:
    page = (ROLES.parent / "docs" / "roles" / f"{role}.md").read_text()
    for name in options_of(role):
        assert f"| `{name}` |" in page, name
