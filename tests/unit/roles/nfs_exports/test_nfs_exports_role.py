# SPDX-License-Identifier: GPL-3.0-or-later
"""The role without a server: what it computes, what it refuses, and the settings it writes."""

from __future__ import annotations

import configparser
import json
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import parse_mode

from tests.unit.roles.plays import collections_path, run_play
from tools.common import ROOT

pytestmark = pytest.mark.programs

ROLE = ROOT / "roles" / "nfs_exports"
RP_ANS_12 = ROOT / "tests" / "unit" / "cases" / "reports" / "rp-ans-12.yml"
# As YAML has read them.
NUMBERS = [one["mode"] for one in yaml.safe_load(RP_ANS_12.read_text("utf-8"))["inputs"] if "mode" in one]
# Who may mount is given, so that nothing else is refused.
MODE: dict[str, Any] = {"nfs_exports_clients": ["*"]}
# name of the host -> its variables, and words of the message; none for input that is accepted
INPUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "good": ({"nfs_exports_managed": False, "nfs_exports_server": "nfs"}, []),
    "ordinals": (
        {
            "nfs_exports_managed": False, "nfs_exports_server": "nfs", "nfs_exports_ordinals": [4, 1],
            "nfs_exports_path": "/data/{pet}", "nfs_exports_set": "m",
        },
        [],
    ),
    # As -e replicas=3 and an AWX survey give them.
    "texts": ({"nfs_exports_managed": "false", "nfs_exports_server": "nfs", "nfs_exports_replicas": "3"}, []),
    "lists-as-texts": (
        {
            "nfs_exports_managed": "false", "nfs_exports_server": "nfs", "nfs_exports_ordinals": "2, 0",
            "nfs_exports_clients": "192.0.2.0/24, node-1",
        },
        [],
    ),
    "one-as-text": (
        {"nfs_exports_managed": "false", "nfs_exports_server": "nfs", "nfs_exports_ordinals": "1"},
        [],
    ),
    "twice-as-text": ({"nfs_exports_ordinals": "1,1"}, ["nfs_exports_ordinals: 1,1"]),
    "clients-as-commas": ({"nfs_exports_clients": ","}, ["nfs_exports_clients", "192.0.2.0/24"]),
    "relative": ({"nfs_exports_path": "srv/{ordinal}"}, ["nfs_exports_path", '"srv/{ordinal}"', "absolute"]),
    "one-for-all": ({"nfs_exports_path": "/srv/x"}, ["nfs_exports_path", '"/srv/x"', "{ordinal}"]),
    "backslash": ({**MODE, "nfs_exports_path": "/srv\\{ordinal}"}, ["nfs_exports_path", "without backslashes"]),
    **{
        f"mode-{mode}": ({**MODE, "nfs_exports_mode": mode}, [f'nfs_exports_mode: "{mode}": not a mode', "'0750'"])
        for mode in ("rwx", "8", "0758", "07500", "")
    },
    **{
        f"mode-as-number-{mode}": ({**MODE, "nfs_exports_mode": mode}, [f"nfs_exports_mode: {mode}: without quotes"])
        for mode in NUMBERS
    },
    "all-at-once": (
        {"nfs_exports_path": "srv", "nfs_exports_replicas": 0, "nfs_exports_mode": "9"},
        ["nfs_exports_path:", "nfs_exports_replicas:", "nfs_exports_clients:", "nfs_exports_mode:"],
    ),
    "no-pets": ({"nfs_exports_replicas": 0}, ["nfs_exports_replicas: 0", "at least one"]),
    "negative": ({"nfs_exports_replicas": -1}, ["nfs_exports_replicas: -1", "at least one"]),
    "twice": ({"nfs_exports_ordinals": [1, 1]}, ["nfs_exports_ordinals: [1, 1]"]),
    "no-clients": ({}, ["nfs_exports_clients", "192.0.2.0/24"]),
    "no-address": ({"nfs_exports_managed": False}, ["nfs_exports_server: '': with nfs_exports_managed=false"]),
    "long-lease": ({"nfs_exports_clients": ["*"], "nfs_exports_lease_time": 100}, ["nfs_exports_lease_time: 100"]),
    "short-grace": ({"nfs_exports_clients": ["*"], "nfs_exports_grace_time": 29}, ["nfs_exports_grace_time: 29"]),
    "choice": ({"nfs_exports_restart": "maybe"}, ["nfs_exports_restart", "maybe", "when_idle"]),
    "word": ({"nfs_exports_replicas": "two"}, ["nfs_exports_replicas", "two"]),
}  # fmt: skip
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: stateful.petset.nfs_exports
            public: true
        - ansible.builtin.debug:
            msg: "{{ {'pets': __nfs_exports_pets, 'name': nfs_exports_name} | to_json }}"
      rescue:
        - ansible.builtin.debug:
            msg: "{{ {'msg': ansible_failed_result | to_json} | to_json }}"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the role says to each of the inputs, in one run of ansible-playbook."""
    folder = tmp_path_factory.mktemp("role")
    hosts = {name: given for name, (given, _words) in INPUT.items()}
    _output, shown = run_play(folder, collections_path(), PLAY, hosts)
    return {host: json.loads(message) for host, message in shown}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (_given, words) in INPUT.items() if words])
def test_refused_input(results: dict[str, dict[str, Any]], name: str) -> None:
    message = json.loads(results[name]["msg"])
    said = json.dumps([message.get("msg"), message.get("argument_errors", [])]).replace('\\"', '"').replace('\\"', '"')
    for word in INPUT[name][1]:
        assert word in said


@pytest.mark.parametrize("name", [name for name in INPUT if name.startswith("mode-")])
def test_rp_ans_12_what_is_refused_as_a_mode_is_none_for_the_module_either(name: str) -> None:
    """A role that made a text of a number would hide that YAML has read it, and 755 would pass as 0755."""
    with pytest.raises(InvalidInput):
        parse_mode(INPUT[name][0]["nfs_exports_mode"], "mode")


@pytest.mark.slow
def test_exports_of_the_pets(results: dict[str, dict[str, Any]]) -> None:
    assert results["good"]["name"] == "default-mysql"
    pets = results["good"]["pets"]
    assert [(pet["path"], pet["fsid_seed"]) for pet in pets] == [
        ("/srv/petset/default/mysql/0", "default/mysql/0"),
        ("/srv/petset/default/mysql/1", "default/mysql/1"),
    ]
    assert (pets[0]["owner"], pets[0]["group"], pets[0]["mode"], pets[0]["create"]) == ("999", "999", "0750", True)
    assert [pet["path"] for pet in results["texts"]["pets"]] == [f"/srv/petset/default/mysql/{n}" for n in range(3)]
    assert [(pet["path"], pet["fsid_seed"]) for pet in results["ordinals"]["pets"]] == [
        ("/data/m-4", "default/m/4"),
        ("/data/m-1", "default/m/1"),
    ]
    texts = results["lists-as-texts"]["pets"]
    assert [pet["fsid_seed"] for pet in texts] == ["default/mysql/2", "default/mysql/0"]
    assert [client["client"] for client in texts[0]["clients"]] == ["192.0.2.0/24", "node-1"]
    assert [pet["fsid_seed"] for pet in results["one-as-text"]["pets"]] == ["default/mysql/1"]


def render(**given: Any) -> tuple[str, configparser.ConfigParser]:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), autoescape=False)
    text = environment.get_template("petset.conf.j2").render({**defaults, **given})
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return text, parser


def test_settings() -> None:
    text, parser = render(nfs_exports_lease_time=40, nfs_exports_grace_time=50, nfs_exports_threads=4)
    assert dict(parser["nfsd"]) == {
        "threads": "4", "vers3": "n", "vers4": "y", "vers4.0": "n", "vers4.1": "y", "vers4.2": "y",
        "lease-time": "40", "grace-time": "50",
    }  # fmt: skip
    assert "lease-time 40 s  <  100 s" in text
    assert "grace-time 50 s  >=  lease-time 40 s" in text
    assert parser.sections() == ["nfsd"]


def test_defaults_are_sound() -> None:
    _text, parser = render()
    lease, grace = int(parser["nfsd"]["lease-time"]), int(parser["nfsd"]["grace-time"])
    assert 10 <= lease < 100
    assert lease <= grace
