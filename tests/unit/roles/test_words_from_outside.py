# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables come as texts from -e and from AWX surveys, and facts of an earlier job as extra variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.roles.plays import collections_path, run_play, tasks_in
from tools.common import ROOT

pytestmark = pytest.mark.programs

ROLES = ROOT / "roles"
ADDRESSES = """
- hosts: with
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ nfs_exports_clients | to_json }}"
      vars: VARIABLES
"""


def all_tasks() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        for task in tasks_in(yaml.safe_load(path.read_text())):
            yield path.relative_to(ROLES), task


def booleans() -> set[str]:
    found = set()
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= {name for name, one in entry.get("options", {}).items() if one["type"] == "bool"}
    return found


def test_a_boolean_is_never_a_condition_as_it_came() -> None:
    """ "false" is true below ansible-core 2.19 and an error above."""
    names = booleans()
    assert len(names) > 10
    bare = []
    for path, task in all_tasks():
        given = task.get("when", [])
        for condition in given if isinstance(given, list) else [given]:
            for name in re.findall(r"(?:^|\b(?:not|and|or) |\()(\w+)(?=$| and | or |\))", str(condition)):
                if name in names:
                    bare.append(f"{path}: {task.get('name')}: {condition}")
    assert not bare


def test_nothing_that_is_handed_on_is_read_back() -> None:
    """AWX gives what set_stats hands on to later jobs as extra variables, which win over facts of the same name."""
    handed, facts = set(), set()
    for _path, task in all_tasks():
        handed |= set(task.get("ansible.builtin.set_stats", {}).get("data", {}))
        facts |= set(task.get("ansible.builtin.set_fact", {}))
        facts |= {task["register"]} if "register" in task else set()
    assert handed
    assert not handed & facts


NODES = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ nfs_exports_nodes | to_json }}"
      vars: VARIABLES
"""


@pytest.mark.slow
def test_nodes_are_compared_with_the_clients_by_their_addresses(tmp_path: Path) -> None:
    """A name is no address. Without clients of the user's own the nodes are the clients."""
    (task,) = yaml.safe_load((ROLES / "petset/tasks/exports.yml").read_text())
    names = ("nfs_exports_nodes", "__petset_names", "__petset_hosts", "__petset_nodes")
    given = {name: task["vars"][name].replace("kube_nodes", "all") for name in names}
    hosts: dict[str, dict[str, Any]] = {
        "four": {"ansible_host": "192.0.2.1", "petset_nfs_clients": ["192.0.2.0/24"]},
        "six": {"ansible_host": "2001:db8::1", "petset_nfs_clients": "192.0.2.0/24"},
        "named": {"ansible_host": "bad.example", "petset_nfs_clients": []},
        "bare": {"petset_nfs_clients": []},
    }
    _output, shown = run_play(tmp_path, collections_path(), NODES.replace("VARIABLES", json.dumps(given)), hosts)
    nodes = [{"name": "four", "addresses": ["192.0.2.1"]}, {"name": "six", "addresses": ["2001:db8::1"]}]
    told = {host: json.loads(message) for host, message in shown}
    assert told == {"four": nodes, "six": nodes, "named": [], "bare": []}


@pytest.mark.slow
def test_a_node_without_ansible_host_is_known_by_its_name(tmp_path: Path) -> None:
    (task,) = yaml.safe_load((ROLES / "petset/tasks/exports.yml").read_text())
    names = ("nfs_exports_clients", "__petset_names", "__petset_hosts")
    given = {name: task["vars"][name].replace("kube_nodes", "all") for name in names} | {"petset_nfs_clients": []}
    play = ADDRESSES.replace("VARIABLES", json.dumps(given))
    hosts: dict[str, dict[str, Any]] = {"with": {"ansible_host": "192.0.2.1"}, "without": {}}
    _output, shown = run_play(tmp_path, collections_path(), play, hosts)
    assert [json.loads(message) for _host, message in shown] == [["192.0.2.1", "without"]]
