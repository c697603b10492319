# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible itself reads the examples of the pages and of the modules, and checks them as far as nothing is asked.

What roles and playbooks refuse before they ask anything is really run, with real templating.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples import (
    ALL_PAGES,
    INSTALL,
    PAGES,
    ROOT,
    USUAL,
    Kind,
    all_blocks,
    commands_of,
    plays_of,
    read_page,
    role_of,
)
from tests.unit.meta.test_collection import MODULES, documentation
from tests.unit.roles.plays import collections_path
from tools.gates import SHIPPED

pytestmark = pytest.mark.programs

# With a tag that nothing has, Ansible runs what it puts before each role: the check of its variables.
ONLY_ARGUMENTS = ("--tags", "nothing_has_this_tag")
# What a playbook does before it asks anything, by role and file of its tasks.
CHECKS = {("stateful.petset.petset", None), ("stateful.petset.recovery_check", "check")}


def run(folder: Path, home: Path, words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible in a folder, with nothing of the user's own settings."""
    return subprocess.run(
        [Path(sys.executable).with_name(words[0]), *words[1:]],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def ansible_playbook(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it there, without a way to any machine or cluster."""
    return run(
        folder,
        folder,
        ("ansible-playbook", *words),
        ANSIBLE_COLLECTIONS_PATH=str(collections_path()),
        ANSIBLE_LOCAL_TEMP=str(folder / "tmp"),
        ANSIBLE_INVENTORY_UNPARSED_FAILED="true",
        ANSIBLE_LOCALHOST_WARNING="false",
    )


def write_plays(folder: Path, plays: list[dict[str, Any]]) -> None:
    """As ``plays.yml``, with an inventory that has each of their hosts as this one."""
    (folder / "plays.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    hosts = {play["hosts"]: {"ansible_connection": "local"} for play in plays}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))


def check_roles(folder: Path, plays: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """What the argument specs of the roles say to the plays."""
    write_plays(folder, plays)
    return ansible_playbook(folder, "-i", "hosts.yml", "plays.yml", *ONLY_ARGUMENTS, "-e", "ansible_become=false")


def example_plays() -> list[dict[str, Any]]:
    """The plays of all pages, and one for each example that is variables of a role."""
    blocks = all_blocks(Kind.PLAYS, Kind.VARIABLES)
    return [play for block in blocks if not block.name for play in plays_of(block)]


def test_the_roles_take_the_variables_of_the_plays(tmp_path: Path) -> None:
    plays = example_plays()
    # Facts of this host would take longer than all the rest.
    done = check_roles(tmp_path, [{**play, "gather_facts": False} for play in plays])
    assert done.returncode == 0, done.stdout + done.stderr
    checked = re.findall(r"^TASK \[stateful\.petset\.(\w+) : Validating arguments", done.stdout, re.MULTILINE)
    assert checked == [role["role"].removeprefix("stateful.petset.") for play in plays for role in play["roles"]]
    assert "[WARNING]" not in done.stdout + done.stderr


def test_a_play_with_a_value_of_another_type_is_found(tmp_path: Path) -> None:
    role = {"role": "stateful.petset.haproxy", "vars": {"haproxy_replicas": "{{ 'thr' ~ 'ee' }}"}}
    done = check_roles(tmp_path, [{"hosts": "localhost", "gather_facts": False, "roles": [role]}])
    assert done.returncode != 0
    assert "haproxy_replicas" in done.stdout + done.stderr


def test_ansible_reads_the_plays_and_the_examples_of_the_modules(tmp_path: Path) -> None:
    tasks = [task for module in MODULES for task in documentation(module)["EXAMPLES"]]
    write_plays(tmp_path, [*example_plays(), {"hosts": "localhost", "tasks": tasks}])
    done = ansible_playbook(tmp_path, "-i", "hosts.yml", "plays.yml", "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


def write_checks(folder: Path) -> None:
    """Of each playbook the tasks that look at variables, under its name in the folder."""
    for path in (ROOT / "playbooks").glob("*.yml"):
        play = yaml.safe_load(path.read_text())[0]
        tasks = []
        for task in play["tasks"]:
            included = task.get("ansible.builtin.include_role", {})
            if (included.get("name"), included.get("tasks_from")) in CHECKS:
                tasks.append(task)
        assert tasks
        (folder / path.name).write_text(yaml.safe_dump([{**play, "tasks": tasks}], sort_keys=False))


# Page, inventory, options, playbooks.
Run = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def runs() -> list[Run]:
    """The commands of the pages, those with the same inventory and options at once. The README's are a story's."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for name in PAGES:
        page = read_page(name)
        if name == "README.md":
            continue
        for words in page.commands:
            (playbook,) = [word for word in words if word.startswith("stateful.petset.")]
            options = tuple(word for word in words[1:] if word != playbook)
            for inventory in page.inventories or (USUAL,):
                found.setdefault((name, inventory, options), []).append(playbook.removeprefix("stateful.petset."))
    return [(*key, tuple(playbooks)) for key, playbooks in found.items()]


def check_variables(folder: Path, given: Run, files: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run what the playbooks check before they ask anything, with the options of the command."""
    _page, inventory, options, playbooks = given
    for name, content in {**files, "inventory.yml": inventory}.items():
        (folder / name).write_text(content)
    write_checks(folder)
    return ansible_playbook(folder, *options, *(f"{playbook}.yml" for playbook in playbooks))


@pytest.mark.parametrize("given", runs(), ids=lambda given: f"{given[0]} {'+'.join(given[3])}")
def test_the_playbooks_take_inventory_and_options(tmp_path: Path, given: Run) -> None:
    done = check_variables(tmp_path, given, dict(read_page(given[0]).files))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("Validating arguments against arg spec 'main'") >= len(given[3])
    assert "[WARNING]" not in said


@pytest.mark.parametrize(
    ("playbook", "variables", "words"),
    [
        ("site", {"petset_nfs_path": "/srv/petset"}, "petset_nfs_path"),
        ("recovery", {"petset_recovery_drills": [{"kind": "unplug"}]}, "unplug"),
        ("recovery", {"petset_recovery_drills": [{"kind": "node_power_off", "hook": "a.yml"}]}, "its absolute path"),
    ],
)
def test_variables_that_a_playbook_refuses_are_found(
    tmp_path: Path, playbook: str, variables: dict[str, Any], words: str
) -> None:
    given = ("", USUAL, ("-i", "inventory.yml", "-e", "@given.yml"), (playbook,))
    done = check_variables(
        tmp_path, given, {"given.yml": yaml.safe_dump({"petset_recovery_action": "drill", **variables})}
    )
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


def test_the_checkout_is_installed_as_the_readme_says(tmp_path: Path) -> None:
    assert INSTALL in {
        words for block in all_blocks(Kind.COMMANDS, pages=("README.md",)) for words in commands_of(block)
    }
    done = run(ROOT, tmp_path, INSTALL)
    assert done.returncode == 0, done.stdout + done.stderr
    installed = tmp_path / ".ansible/collections/ansible_collections/stateful/petset"
    assert {path.name for path in installed.iterdir()} - {"FILES.json", "MANIFEST.json"} <= SHIPPED
    assert {path.stem for path in (installed / "plugins/modules").glob("*.py")} >= set(MODULES)


def test_no_example_is_left_out() -> None:
    """What is neither a play here nor a file of a command is a document, which test_examples.py knows."""
    named = {(name, file) for name in PAGES for file, _content in read_page(name).files}
    blocks = all_blocks(Kind.PLAYS, Kind.INVENTORY, Kind.VARIABLES, pages=ALL_PAGES)
    of_roles = [block for block in blocks if not block.name]
    assert all((block.page, block.name) in named for block in blocks if block.name)
    assert all(block.kind is Kind.PLAYS or role_of(yaml.safe_load(block.text)) != "petset" for block in of_roles)
