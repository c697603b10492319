# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module and role of the collection owes its users. New ones are picked up from the folders."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tools.common import ROOT

MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("[!_]*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").glob("[!_.]*") if (path / "tasks").is_dir())
# Words in the name of an option whose value must not be shown.
SECRET_WORDS = ("password", "token", "secret", "api_key", "passphrase")


class SpecSeenError(Exception):
    """Stops a module once its argument spec is known."""


def spec_of(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that a module gives to AnsibleModule."""
    seen: dict[str, Any] = {}

    def remember(_self: AnsibleModule, *args: Any, **kwargs: Any) -> None:
        if args:
            kwargs["argument_spec"] = args[0]
        seen.update(kwargs)
        raise SpecSeenError

    monkeypatch.setattr(AnsibleModule, "__init__", remember)
    with pytest.raises(SpecSeenError):
        importlib.import_module(f"ansible_collections.stateful.petset.plugins.modules.{module}").main()
    return seen


def constants(path: Path) -> dict[str, str]:
    """The texts that a file assigns to names at its top."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def documentation(module: str) -> dict[str, Any]:
    texts = constants(ROOT / "plugins" / "modules" / f"{module}.py")
    return {name: yaml.safe_load(texts[name]) for name in ("DOCUMENTATION", "EXAMPLES", "RETURN")}


def runtime() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    return loaded


def test_the_action_group_lists_every_module_and_no_other() -> None:
    assert runtime()["action_groups"]["petset"] == MODULES


def test_the_oldest_core_is_the_one_that_is_tested() -> None:
    assert runtime()["requires_ansible"] == ">=2.18.0"
    assert (ROOT / "requirements" / "core-oldest.lock").read_text().startswith("ansible-core==2.18.")


@pytest.mark.parametrize("module", MODULES)
def test_documentation(module: str) -> None:
    texts = documentation(module)
    page = texts["DOCUMENTATION"]
    assert page["module"] == module
    assert page["version_added"]
    assert page["author"]
    fragments = page["extends_documentation_fragment"]
    assert any(name.split(".")[:3] == ["stateful", "petset", "attributes"] for name in fragments)
    for task in texts["EXAMPLES"]:
        assert any(key.count(".") == 2 for key in task), f"an action without its full name: {task}"
    assert any(f"stateful.petset.{module}" in task for task in texts["EXAMPLES"])
    assert texts["RETURN"]


@pytest.mark.parametrize("module", MODULES)
def test_argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = spec_of(module, monkeypatch)
    assert given["supports_check_mode"] is True
    spec = given["argument_spec"]
    outcome = ArgumentSpecValidator(spec, mutually_exclusive=given.get("mutually_exclusive")).validate({})
    missing = {name for name, option in spec.items() if option.get("required")}
    unexpected = [text for text in outcome.error_messages if not text.startswith("missing required arguments")]
    assert bool(outcome.error_messages) == bool(missing)
    assert unexpected == []


def unsaid(spec: dict[str, Any], above: str = "") -> list[str]:
    """The options that sound secret and do not say whether they are."""
    found = []
    for name, option in spec.items():
        if any(word in name for word in SECRET_WORDS) and "no_log" not in option:
            found.append(above + name)
        found += unsaid(option.get("options") or {}, f"{above}{name}.")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_options_that_sound_secret_say_whether_they_are(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unsaid(spec_of(module, monkeypatch)["argument_spec"]) == []


def test_a_secret_in_a_nested_option_is_found() -> None:
    assert unsaid({"a": {"options": {"db_password": {"type": "str"}}}}) == ["a.db_password"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_refuses_wrong_input_by_its_argument_spec(role: str) -> None:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    main = specs["main"]
    assert main["short_description"]
    for name, option in (main.get("options") or {}).items():
        assert option.get("type"), name
        assert option.get("description"), name


@pytest.mark.parametrize("role", ROLES)
def test_a_role_documents_every_default(role: str) -> None:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    defaults = ROOT / "roles" / role / "defaults" / "main.yml"
    names = set(yaml.safe_load(defaults.read_text()) or {}) if defaults.exists() else set()
    documented = {name for spec in specs.values() for name in spec.get("options") or {}}
    assert {name for name in names if not name.startswith("_")} <= documented
