# SPDX-License-Identifier: GPL-3.0-or-later
"""The role hands every option of the module on, and has its words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.stateful.petset.plugins.modules import pet_proxy

ROOT = Path(__file__).parents[4]
ROLE = ROOT / "roles" / "haproxy"
# Of the connection the role has those that a play is given; the rest comes by K8S_AUTH_*.
NOT_HANDED_ON = {
    "username", "password", "client_cert", "client_key", "proxy", "no_proxy", "proxy_headers", "impersonate_user",
    "impersonate_groups",
}  # fmt: skip


def task() -> dict[str, Any]:
    (only,) = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text())
    options: dict[str, Any] = only["stateful.petset.pet_proxy"]
    return options


@cache
def specs() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    options: dict[str, Any] = loaded["argument_specs"]["main"]["options"]
    return options


def test_every_option_of_the_module_is_handed_on() -> None:
    assert set(task()) == set(pet_proxy.argument_spec()) - NOT_HANDED_ON
    assert all(text.startswith(f"{{{{ haproxy_{name}") for name, text in task().items())


def test_role_and_module_have_the_same_defaults_and_choices() -> None:
    module, defaults = pet_proxy.argument_spec(), yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    for name, value in defaults.items():
        option = module[name.removeprefix("haproxy_")]
        assert specs()[name]["default"] == value, name
        assert specs()[name].get("choices") == option.get("choices"), name
        if option.get("default") is not None and name != "haproxy_set":
            assert value == option["default"], name
        for key, below in (option.get("options") or {}).items():
            assert specs()[name]["options"][key].get("default") == below.get("default"), (name, key)


def test_the_page_has_every_variable() -> None:
    page = (ROOT / "docs" / "roles" / "haproxy.md").read_text()
    assert [name for name in specs() if f"| `{name}` |" not in page] == []
