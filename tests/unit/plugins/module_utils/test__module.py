# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.doc_fragments import kube as kube_docs
from ansible_collections.stateful.petset.plugins.doc_fragments import wait as wait_docs
from ansible_collections.stateful.petset.plugins.module_utils import _module
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput, Refused
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster


class Exit(Exception):
    def __init__(self, failed: bool, result: Mapping[str, Any]) -> None:
        self.failed = failed
        self.result = dict(result)
        super().__init__(str(result))


class FakeModule:
    check_mode = False
    _name = "pet_volume"
    _diff = False

    def __init__(self, verbosity: int = 0, **params: Any) -> None:
        self.params = params
        self.no_log_values: set[str] = set()
        self.warnings: list[str] = []
        self.logged: list[str] = []
        self._verbosity = verbosity

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        raise Exit(True, {"msg": msg, **kwargs})

    def exit_json(self, **kwargs: Any) -> NoReturn:
        raise Exit(False, kwargs)

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)

    def log(self, msg: str) -> None:
        self.logged.append(msg)

    def run_command(self, args: Any, **kwargs: Any) -> tuple[int, str, str]:
        return 0, "", ""


def test_a_typed_error_becomes_a_failure_with_what_was_done() -> None:
    def run(partial: Any) -> dict[str, Any]:
        partial.update(changed=True, actions=["created one"])
        raise Refused("Volume x", "it is somebody else's", way_out="choose another name", details={"pets": [1]})

    with pytest.raises(Exit) as end:
        _module.guarded_run(FakeModule(), run)
    assert end.value.failed
    assert end.value.result == {
        "msg": "Volume x: it is somebody else's. Choose another name.",
        "error": "refused",
        "reason": "it is somebody else's",
        "way_out": "choose another name",
        "changed": True,
        "actions": ["created one"],
        "pets": [1],
    }


def test_a_result_warns_and_tells_the_api() -> None:
    client = FakeCluster().client()
    module = FakeModule()
    with pytest.raises(Exit) as end:
        _module.guarded_run(module, lambda partial: {"warnings": ["careful"], "pets": []}, client)
    assert not end.value.failed
    assert module.warnings == ["careful"]
    assert end.value.result == {"changed": False, "pets": [], "api": client.describe()}


def test_requests_are_told_at_higher_verbosity() -> None:
    client = FakeCluster().client()
    with pytest.raises(Exit) as end:
        _module.guarded_run(FakeModule(2), lambda partial: {}, client)
    assert end.value.result["requests"] == {}


@pytest.mark.parametrize("version", ["36.0.0", "36.0.1"])
def test_clients_that_drop_the_token_are_refused_by_name(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "client_version", lambda: version)
    with pytest.raises(Exit) as end:
        _module.require_client(FakeModule())
    assert version in end.value.result["msg"]
    assert end.value.result["error"] == "broken_client"


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "HAS_KUBERNETES", False)
    with pytest.raises(Exit) as end:
        _module.require_client(FakeModule())
    assert "kubernetes" in end.value.result["msg"]


def test_rp_ans_03_secrets_from_variables_and_mappings_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "_register_secret", None)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "t0ken")
    user = {"token": "in-config", "client-key-data": "a2V5", "client-certificate-data": "Y2VydA=="}
    module = FakeModule(kubeconfig={"users": [{"name": "u", "user": user}]}, host="https://127.0.0.1:1")
    _module.kube_client(module)
    assert module.no_log_values == {"t0ken", "in-config", "a2V5"}


def test_secrets_of_a_kubeconfig_are_masked_before_the_first_line_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """AnsibleModule logs its arguments while it is made, before any code of a module runs."""
    seen: list[set[str]] = []
    monkeypatch.setattr(_module, "_register_secret", None)
    monkeypatch.setattr(_module.AnsibleModule, "_log_invocation", lambda self: seen.append(set(self.no_log_values)))
    env = [{"name": "AWS_SECRET_ACCESS_KEY", "value": "wJalrXUtnFEMI"}, {"name": "AWS_PROFILE", "value": "default-one"}]
    module = _module.KubeModule.__new__(_module.KubeModule)
    module.no_log_values = set()
    module.params = {"kubeconfig": {"users": [{"user": {"token": "t0ken", "exec": {"env": env}}}]}}
    module._log_invocation()
    assert seen == [{"t0ken", "wJalrXUtnFEMI"}]


def test_bad_input_does_not_show_the_secrets_of_a_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "_register_secret", None)
    module = FakeModule(kubeconfig={"users": [{"user": {"token": "t0ken"}}]})

    def parse() -> int:
        raise InvalidInput("capacity", "1GB", "no", "Gi")

    with pytest.raises(Exit):
        _module.run_module(module, lambda client, partial: {}, parse)
    assert module.no_log_values == {"t0ken"}


def test_secrets_are_registered_where_core_has_a_register(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[str] = []
    monkeypatch.setattr(_module, "_register_secret", registered.append)
    module = FakeModule()
    _module.mask_secret(module, "x")
    _module.mask_secret(module, "")
    assert registered == ["x"]
    assert module.no_log_values == set()


def test_settings_that_do_not_add_up_fail_within_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(Exit) as end:
        _module.run_module(FakeModule(host="https://x"), lambda client, partial: {})
    assert end.value.result["error"] == "bad_connection_settings"


def test_bad_input_is_told_before_the_connection_is_tried() -> None:
    def parse() -> int:
        raise InvalidInput("capacity", "1GB", "no", "Gi")

    with pytest.raises(Exit) as end:
        _module.run_module(FakeModule(kubeconfig="/nowhere"), lambda client, partial: {}, parse)
    assert end.value.result["error"] == "invalid_input"


def test_progress_goes_to_the_log_and_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_module.PROGRESS_VARIABLE, raising=False)
    module = FakeModule(progress_file=str(tmp_path / "progress"))
    tell = _module.progress_of(module)
    tell("one")
    tell("two")
    assert (tmp_path / "progress").read_text() == "pet_volume: one\npet_volume: two\n"
    assert module.logged == ["one", "two"]
    monkeypatch.setenv(_module.PROGRESS_VARIABLE, str(tmp_path / "nowhere" / "progress"))
    module = FakeModule()
    _module.progress_of(module)("three")
    assert module.logged[0] == "three"
    assert "No such file" in module.logged[1]


@pytest.mark.parametrize(
    ("fragment", "spec"),
    [(kube_docs, _module.KUBE_ARG_SPEC), (wait_docs, _module.WAIT_ARG_SPEC)],
    ids=["kube", "wait"],
)
def test_the_documentation_fragments_match_the_specs(fragment: Any, spec: dict[str, Any]) -> None:
    documented = yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(spec)
    for name, entry in spec.items():
        for key in ("type", "elements", "default"):
            assert documented[name].get(key) == entry.get(key), name
        assert documented[name].get("aliases", []) == entry.get("aliases", []), name
        assert set(documented[name].get("suboptions", {})) == set(entry.get("options", {})), name


TRUTHS: list[tuple[Any, bool]] = [("no", False), ("false", False), ("0", False), ("yes", True), (1, True)]


@pytest.mark.parametrize(("given", "value"), TRUTHS)
def test_rp_ans_02_booleans_as_text_go_through_the_spec(given: Any, value: bool) -> None:
    errors, taken = validate({"wait": given})
    assert not errors
    assert taken["wait"] is value


@pytest.mark.parametrize("given", ["", "maybe", []])
def test_rp_ans_02_what_is_no_boolean_is_refused(given: Any) -> None:
    errors, _taken = validate({"wait": given})
    assert errors


def validate(given: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    from ansible.module_utils.common import arg_spec

    validator: Any = arg_spec.ArgumentSpecValidator
    result = validator(_module.kube_argument_spec(wait=True)).validate(given)
    return result.error_messages, result.validated_parameters


def test_the_specs_are_copies() -> None:
    spec = _module.kube_argument_spec(set={"type": "str"})
    spec["host"]["type"] = "int"
    assert _module.KUBE_ARG_SPEC["host"]["type"] == "str"
    assert "wait" not in spec


def test_the_message_has_one_full_stop() -> None:
    assert str(InvalidInput("x", "y", "wrong", "this")) == "x: 'y': wrong. Allowed: this."
