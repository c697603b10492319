# SPDX-License-Identifier: GPL-3.0-or-later
"""Module, role and playbooks speak of the same options, and the page of the role names each variable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.stateful.petset.plugins.modules import mysql_ring, mysql_ring_info

ROOT = Path(__file__).parents[4]
ROLE = ROOT / "roles/mysql_replication"
# Has one value only, or is a part of the connection that is set by variables of the environment.
NOT_IN_THE_ROLE = {
    "state", "username", "password", "client_cert", "client_key", "proxy", "no_proxy", "proxy_headers",
    "impersonate_user", "impersonate_groups",
}  # fmt: skip


def load(path: str) -> Any:
    return yaml.safe_load((ROLE / path).read_text())


OPTIONS: dict[str, Any] = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def test_every_option_of_the_module_is_a_variable_and_handed_on() -> None:
    module = set(mysql_ring.argument_spec()) - NOT_IN_THE_ROLE
    assert {f"mysql_replication_{name}" for name in module} == set(OPTIONS)
    task = load("tasks/main.yml")[-1]["stateful.petset.mysql_ring"]
    assert set(task) == module
    for name in module:
        assert f"mysql_replication_{name}" in task[name]


def test_defaults_are_the_same_everywhere() -> None:
    assert load("defaults/main.yml") == {name: one["default"] for name, one in OPTIONS.items() if "default" in one}
    for name, option in mysql_ring.argument_spec().items():
        variable = OPTIONS.get(f"mysql_replication_{name}")
        if variable is None or name in ("set", "wait_timeout"):
            continue
        if option.get("default") is None:
            assert variable.get("default") in ("", None), name
        else:
            assert variable["default"] == option["default"], name
        assert variable.get("choices") == option.get("choices"), name


def test_both_modules_describe_a_ring_alike() -> None:
    ring, info = mysql_ring.argument_spec(), mysql_ring_info.argument_spec()
    of_looks = {"compare", "compare_limit"}
    assert {name: ring[name] for name in set(info) - of_looks} == {name: info[name] for name in set(info) - of_looks}
    assert set(ring) - set(info) == {"state", "wait", "wait_timeout", "progress_file", "clone_limit"}


def test_the_page_names_each_variable() -> None:
    page = (ROOT / "docs/roles/mysql_replication.md").read_text()
    for name in OPTIONS:
        short = name.removeprefix("mysql_replication")
        assert f"`{name}`" in page or f"`{short}`" in page, name
