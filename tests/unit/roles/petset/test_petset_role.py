# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role says to the variables of the playbooks, before a module is asked."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import names
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import parse_export_path

from tests.unit.roles.plays import collections_path, run_play
from tools.common import ROOT

pytestmark = pytest.mark.programs


def parse_path(variable: str, value: str) -> object:
    """As pet_volume does."""
    parse_export_path(variable, value)
    return names.expand_pattern(variable, value, namespace="default", set_name="mysql", ordinal=0)


# Words to try, and what the modules say to them; the role's forms have to say the same.
LABELS = ["a", "0", "mysql-0", "a--b", "1a", *("a" * length for length in (52, 53, 63, 64))]
LABELS += ["", "-a", "a-", "My", "my.sql", "my_sql", "m\u00fc", "a b", "a\n", "mysql\n"]
DOMAINS = [*LABELS, "a.b", "cluster.local", "a..b", ".a", "a.", "a.b\n", ".".join(["a" * 62] * 4), "a" * 63 + ".b"]
DOMAINS += [".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 62])]
PATHS = [
    "/srv/{ordinal}", "/srv/{namespace}/{set}/{pet}", "/{pet}", "//srv//{pet}/", "/my data/{pet}", "/srv/.x/..y/{pet}",
    "", "/", "/srv", "srv/{pet}", "./{pet}", "/srv/{set}", "/srv/../{pet}", "/srv/./{pet}", "/{pet}/..",
    "/srv/{host}/{pet}", "/{pet}/{}", "/srv/{pet} ", "/srv/{pet}\n", "/srv/a\tb/{pet}",
]  # fmt: skip
FORMS: dict[str, tuple[Callable[[str, str], object], list[str]]] = {
    "__petset_set_form": (names.parse_set_name, LABELS),
    "__petset_label_form": (names.parse_dns_label, LABELS),
    "__petset_service_form": (names.parse_service_name, LABELS),
    "__petset_domain_form": (names.parse_dns_subdomain, DOMAINS),
    "__petset_path_form": (parse_path, PATHS),
}
# name of the host -> its variables, and words of the message; none for input that is accepted
INPUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "good": ({}, []),
    # As -e and an AWX survey give them.
    "texts": ({"petset_replicas": "3", "petset_proxy": "no", "petset_proxy_count": "0"}, []),
    "none-named": ({"petset_confirm_absent": ""}, []),
    "named": ({"petset_confirm_absent": ["mysql-1"]}, []),
    "named-as-text": ({"petset_confirm_absent": "mysql-1,mysql-0"}, []),
    "no-path-needed": ({"petset_storage_class": "fast", "petset_nfs_path": "srv"}, []),
    # This inventory has no groups.
    "no-server": (
        {"test_server": True},
        [
            "petset_nfs_managed: true: the inventory has 0 hosts in the group nfs_servers. Allowed: exactly one",
            "petset_nfs_clients: []: nobody could mount",
        ],
    ),
    "server-of-others": (
        {"test_server": True, "petset_nfs_managed": "false"},
        ["petset_nfs_server: '': with petset_nfs_managed: false its address has to be given"],
    ),
    "server-of-others-named": (
        {"test_server": True, "petset_nfs_managed": False, "petset_nfs_server": "192.0.2.1"}, [],
    ),
    "class-and-no-server": ({"test_server": True, "petset_storage_class": "fast", "petset_nfs_managed": True}, []),
    # What other tasks of the run would not have (case rp-ans-09).
    "two-clusters": (
        {"pet_set_host": "https://192.0.2.1", "haproxy_api_key": "t0ken"},
        ["haproxy_api_key, pet_set_host: one run talks to one API", "K8S_AUTH_HOST"],
    ),
    "dots": (
        {"petset_set": "my.sql", "petset_namespace": "a.b"},
        ['petset_set: "my.sql"', "at most 52 characters", 'petset_namespace: "a.b"', "at most 63 characters"],
    ),
    "number-as-name": ({"petset_namespace": False}, ["petset_namespace: false: no text", "in quotes"]),
    # Cases rp-ans-12 and rp-ans-02: what YAML makes of 9.10, 0123, on, and nothing at all.
    "no-texts": (
        {
            "petset_image": 9.1,
            "petset_agent_image": 9,
            "petset_capacity": 8,
            "petset_memory": 1073741824,
            "petset_cpu": 0.5,
            "petset_set": 83,
            "petset_namespace": True,
            "petset_storage_class": datetime.date(2026, 11, 29),
            "petset_nfs_clients": ["192.0.2.1", 10],
        },
        [
            "petset_image: 9.1: no text, YAML has read it as a number and may have changed it. Allowed: ",
            "petset_agent_image: 9: no text, YAML has read it as a number",
            "petset_capacity: 8: no text",
            "petset_memory: 1073741824: no text",
            "petset_cpu: 0.5: no text",
            "petset_set: 83: no text",
            "petset_namespace: true: no text, YAML has read it as true or false",
            'petset_storage_class: "2026-11-29',
            "petset_nfs_clients: 10: no text",
        ],
    ),
    "texts-in-quotes": (
        {
            "petset_set": "123",
            "petset_namespace": "0123",
            "petset_cpu": 2,
            "petset_nfs_clients": "192.0.2.1,192.0.2.2",
            "petset_mount_options": "hard,vers=4.1",
            "petset_passwords": {"root": "0123", "agent": None},
            "petset_app": {"user": "a", "password": "0"},
        },
        [],
    ),
    "list-with-nothing": ({"petset_mount_options": [None]}, ["petset_mount_options"]),
    "processors-on": ({"petset_cpu": True}, ["petset_cpu: true: no text"]),
    "passwords": (
        {"petset_passwords": {"root": 83, "admin": "x", "agent": None}, "petset_app": {"user": "a", "password": False}},
        ["petset_passwords.root, petset_app.password: no text", "(0123 is 83)", "in quotes"],
    ),
    "password-zero": ({"petset_app": {"user": "a", "password": 0}}, ["petset_app.password: no text"]),
    "no-pets": ({"petset_replicas": 0}, ["petset_replicas: 0", "from 1 to 1000"]),
    "fewer": ({"petset_replicas": "-1"}, ["petset_replicas: -1", "from 1 to 1000"]),
    "many": ({"petset_replicas": 1001}, ["petset_replicas: 1001", "from 1 to 1000"]),
    "no-masters": ({"petset_masters": 0}, ["petset_masters: 0", "from 1 to 1000"]),
    "no-proxies": ({"petset_proxy_count": 0}, ["petset_proxy_count: 0", "from 1 to 100", "petset_proxy false"]),
    "no-agent": (
        {"petset_agent": False},
        ["petset_agent: false", "the proxies (petset_proxy) and replication (petset_replication)", "Allowed: true; or"],
    ),
    "no-agent-no-proxy": ({"petset_agent": "no", "petset_proxy": False}, ["so that replication (petset_replication)"]),
    "no-agent-no-replication": (
        {"petset_agent": False, "petset_replication": "false"},
        ["so that the proxies (petset_proxy) would"],
    ),
    "no-agent-alone": ({"petset_agent": False, "petset_proxy": False, "petset_replication": False}, []),
    "compare": ({"petset_status_compare": "no"}, []),
    "compare-maybe": ({"petset_status_compare": "maybe"}, ["petset_status_compare: maybe", "auto"]),
    "no-time": ({"petset_status_compare_limit": 0}, ["petset_status_compare_limit: 0"]),
    "relative": ({"petset_nfs_path": "srv/{pet}"}, ['petset_nfs_path: "srv/{pet}"', "an absolute path"]),
    "word": ({"petset_replicas": "two"}, ["petset_replicas", "two"]),
    "boolean": ({"petset_proxy": "maybe"}, ["petset_proxy", "maybe"]),
    "choice": ({"petset_mode": "both"}, ["petset_mode", "both", "single_writer"]),
    "action": ({"petset_recovery_action": "dril"}, ["petset_recovery_action", "dril", "passive, drill"]),
    "drills": ({"petset_recovery_drills": ["pod_delete"]}, ["petset_recovery_drills"]),
    "other-set": (
        {"petset_confirm_absent": ["mysql-0", "pg-0"]},
        ['petset_confirm_absent: ["mysql-0", "pg-0"]: pg-0: no pet of default/mysql', "from mysql-0 to mysql-1"],
    ),
    "beyond": (
        {"petset_confirm_absent": ["mysql-2"]},
        ["mysql-2: no pet", "which has 2 (petset_replicas)", "from mysql-0 to mysql-1"],
    ),
    "another-spelling": ({"petset_confirm_absent": ["mysql-00"]}, ["mysql-00: no pet"]),
    "ordinal": ({"petset_confirm_absent": 0}, ["petset_confirm_absent", "0: no pet"]),
    "yes": ({"petset_confirm_absent": "true"}, ["true: no pet"]),
    "blank": ({"petset_confirm_absent": "mysql-0, mysql-1"}, [" mysql-1: no pet"]),
    "mapping": ({"petset_confirm_absent": {"mysql-0": True}}, ["petset_confirm_absent"]),
}  # fmt: skip
# name of the host -> the settings, and the longest time in seconds that a session of theirs may idle
IDLE: dict[str, tuple[dict[str, Any], int]] = {
    "idle-default": ({}, 28800),
    "idle-shorter": ({"wait_timeout": 60}, 28800),
    "idle-underscore": ({"wait_timeout": 100000}, 100000),
    "idle-dash": ({"wait-timeout": 100000, "max-connections": 900000}, 100000),
    "idle-text": ({"wait-timeout": "100000"}, 100000),
    "idle-interactive": ({"interactive-timeout": 200000, "wait_timeout": 100000}, 200000),
    "idle-capitals": ({"Loose-Wait_Timeout": 100000}, 100000),
    "idle-others": ({"lock_wait_timeout": 100000, "innodb_lock_wait_timeout": 100000, "wait_timeouts": 1}, 28800),
}
# Each variable with nothing at all (case rp-ans-02): null, ~, or a name without a value. That of petset_kubeconfig is
# handed on as an empty one everywhere. The argument spec tells all of its types at once.
DEFAULTS = yaml.safe_load((ROOT / "roles/petset/defaults/main.yml").read_text())
TEXTS = yaml.safe_load((ROOT / "roles/petset/vars/main.yml").read_text())["__petset_texts"]
OTHERS = [name for name in DEFAULTS if name not in (*TEXTS, "petset_kubeconfig")]
INPUT["null-texts"] = (dict.fromkeys(TEXTS), TEXTS)
INPUT["null-others"] = (dict.fromkeys(OTHERS), OTHERS)
INPUT["null-kubeconfig"] = ({"petset_kubeconfig": None}, [])
PLAY = """
- hosts: all
  gather_facts: false
  vars:
    petset_nfs_needed: "{{ test_server | default(false) }}"
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: stateful.petset.petset
        - ansible.builtin.include_role:
            name: stateful.petset.petset
            tasks_from: confirmed
        - ansible.builtin.debug:
            msg: "{{ {'msg': '', 'argument_errors': []} | to_json }}"
      rescue:
        - ansible.builtin.debug:
            msg: "{{ ansible_failed_result | to_json }}"
"""


IDLE_PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ longest_idle }}"
"""


def test_the_longest_idle_time_is_read_in_each_spelling(tmp_path: Path) -> None:
    """wait-timeout was not seen, so HAProxy ended idle sessions before MySQL did."""
    (task,) = yaml.safe_load((ROOT / "roles/petset/tasks/proxy.yml").read_text())
    expression = task["vars"]["petset_longest_idle"]
    hosts = {name: {"petset_mysql_config": given, "longest_idle": expression} for name, (given, _idle) in IDLE.items()}
    _output, shown = run_play(tmp_path, collections_path(), IDLE_PLAY, hosts)
    assert {host: int(idle) for host, idle in shown} == {name: idle for name, (_given, idle) in IDLE.items()}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the role says to each of the inputs, in one run of ansible-playbook; nothing to what it accepts."""
    hosts = {name: given for name, (given, _words) in INPUT.items()}
    _output, shown = run_play(tmp_path_factory.mktemp("role"), collections_path(), PLAY, hosts)
    results = {host: json.loads(message) for host, message in shown}
    assert set(results) == set(hosts)
    return {host: " ".join([one["msg"], *one.get("argument_errors", [])]) for host, one in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUT)
def test_input(said: dict[str, str], name: str) -> None:
    words = INPUT[name][1]
    assert bool(said[name].strip()) is bool(words), said[name]
    for word in words:
        assert word in said[name]


def test_every_variable_that_is_free_text_has_to_be_text() -> None:
    spec = yaml.safe_load((ROOT / "roles/petset/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    free = {name for name, option in spec.items() if option["type"] == "str" and "choices" not in option}
    # true, false or auto.
    assert free - {"petset_status_compare"} == set(TEXTS)


def is_good(parse: Callable[[str, str], object], word: str) -> bool:
    try:
        parse("", word)
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize("form", FORMS)
def test_the_role_refuses_what_the_modules_refuse(form: str) -> None:
    parse, words = FORMS[form]
    pattern = yaml.safe_load((ROOT / "roles/petset/vars/main.yml").read_text())[form]
    accepted = [word for word in words if re.match(pattern, word)]
    assert accepted == [word for word in words if is_good(parse, word)]
    assert 0 < len(accepted) < len(words)


def test_each_playbook_begins_with_the_check_of_its_variables() -> None:
    for path in (ROOT / "playbooks").glob("*.yml"):
        first = yaml.safe_load(path.read_text())[0]
        assert first["hosts"] == "localhost", path
        assert first["tasks"][0]["ansible.builtin.include_role"] == {"name": "stateful.petset.petset"}, path


def test_the_page_has_every_variable() -> None:
    page = (ROOT / "docs/roles/petset.md").read_text()
    defaults = yaml.safe_load((ROOT / "roles/petset/defaults/main.yml").read_text())
    assert [name for name in defaults if f"| `{name}` |" not in page] == []
