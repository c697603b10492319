# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import kubeconfig as kc
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import BadConnectionSettings, InvalidInput


def config(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "clusters": [
            {"name": "lab", "cluster": {"server": "https://lab:6443/", "certificate-authority": "ca.pem"}},
            {"name": "prod", "cluster": {"server": "https://prod:6443", "tls-server-name": "kubernetes"}},
        ],
        "users": [{"name": "me", "user": {"token": "t0ken"}}],
        "contexts": [
            {"name": "lab", "context": {"cluster": "lab", "user": "me"}},
            {"name": "prod", "context": {"cluster": "prod", "user": "me"}},
        ],
        "current-context": "prod",
    }
    return {**base, **changes}


def connect(document: dict[str, Any], context: str | None = None) -> kc.Connection:
    wanted = kc.Setting(context, "option context") if context else None
    merged = kc.merge_kubeconfigs([("/home/me/config", document)])
    return kc.connection_from_kubeconfig(merged, "kubeconfig /home/me/config", wanted)


def test_an_option_wins_over_its_variable_and_both_say_where_they_come_from() -> None:
    environ = {"K8S_AUTH_HOST": "https://env:1", "K8S_AUTH_API_KEY": "t", "K8S_AUTH_VERIFY_SSL": "False"}
    found = kc.resolve_settings({"host": "https://option:2"}, environ)
    assert found["host"] == kc.Setting("https://option:2", "option host")
    assert found["api_key"] == kc.Setting("t", "environment variable K8S_AUTH_API_KEY")
    assert found["validate_certs"].value is False


@pytest.mark.parametrize("empty", ["", None, [], {}])
def test_what_is_empty_counts_as_not_set(empty: Any) -> None:
    assert kc.resolve_settings(dict.fromkeys(kc.ENVIRONMENT, empty), {"K8S_AUTH_CONTEXT": ""}) == {}
    assert kc.resolve_settings({"host": empty}, {"K8S_AUTH_HOST": "https://x"})["host"].value == "https://x"


def test_false_is_a_setting() -> None:
    assert kc.resolve_settings({"validate_certs": False}, {})["validate_certs"].value is False


def test_the_variable_of_a_boolean_has_to_be_one() -> None:
    with pytest.raises(InvalidInput, match="K8S_AUTH_VERIFY_SSL"):
        kc.resolve_settings({}, {"K8S_AUTH_VERIFY_SSL": "maybe"})


def test_rp_ans_09_the_context_option_wins_over_the_current_context() -> None:
    assert connect(config()).host == "https://prod:6443"
    chosen = connect(config(), "lab")
    assert chosen.host == "https://lab:6443"
    assert chosen.context == "lab"
    assert chosen.source == "kubeconfig /home/me/config, context lab"
    assert chosen.ca_cert == "/home/me/ca.pem"


def test_rp_ans_09_an_unknown_context_lists_the_known_ones() -> None:
    with pytest.raises(BadConnectionSettings) as problem:
        connect(config(), "stage")
    text = str(problem.value)
    assert "'stage'" in text
    assert "option context" in text
    assert "lab, prod" in text
    assert problem.value.details["contexts"] == ["lab", "prod"]


def test_no_current_context() -> None:
    with pytest.raises(BadConnectionSettings, match="no current context"):
        connect(config(**{"current-context": ""}))


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("not a mapping", "not a kubeconfig"),
        ({"clusters": "x"}, "clusters is no list"),
        ({"users": [{"user": {}}]}, "has no name"),
    ],
)
def test_what_is_no_kubeconfig(document: Any, text: str) -> None:
    with pytest.raises(BadConnectionSettings, match=text):
        kc.merge_kubeconfigs([("/x", document)])


def test_a_context_that_points_to_nothing() -> None:
    with pytest.raises(BadConnectionSettings, match="cluster 'prod' is not there"):
        connect(config(clusters=[]))
    with pytest.raises(BadConnectionSettings, match="user 'me' is not there"):
        connect(config(users=[]))


def test_the_first_of_several_files_wins() -> None:
    other = {"clusters": [{"name": "lab", "cluster": {"server": "https://other:1"}}], "current-context": "lab"}
    merged = kc.merge_kubeconfigs([("/a/config", other), ("/b/config", config())])
    chosen = kc.connection_from_kubeconfig(merged, "both", None)
    assert chosen.host == "https://other:1"
    assert chosen.context == "lab"


def test_rp_ans_08_tls_server_name_and_exec_are_kept() -> None:
    plugin = {
        "command": "./bin/login",
        "apiVersion": "client.authentication.k8s.io/v1",
        "args": ["--for", "me"],
        "env": [{"name": "A", "value": "b"}],
        "installHint": "get it there",
    }
    chosen = connect(config(users=[{"name": "me", "user": {"exec": plugin}}]))
    assert chosen.tls_server_name == "kubernetes"
    assert chosen.exec_plugin is not None
    assert chosen.exec_plugin.command == "/home/me/./bin/login"
    assert chosen.exec_plugin.args == ("--for", "me")
    assert chosen.exec_plugin.env == {"A": "b"}


def settings(**params: Any) -> dict[str, kc.Setting]:
    return kc.resolve_settings(params, {})


def test_a_host_with_a_token_is_complete() -> None:
    given = settings(host="https://h:6443/", api_key="t")
    assert kc.complete_by_options(given)
    assert kc.connection_from_options(given).host == "https://h:6443"
    assert not kc.complete_by_options(settings(host="https://h"))
    assert not kc.complete_by_options(settings(api_key="t"))


@pytest.mark.parametrize("half", [{"client_cert": "/c"}, {"client_key": "/k"}, {"username": "u"}, {"password": "p"}])
def test_half_a_pair_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(BadConnectionSettings, match="is missing beside"):
        kc.connection_from_options(settings(host="https://h", **half))


def test_options_are_laid_over_what_was_loaded() -> None:
    base = connect(config(users=[{"name": "me", "user": {"exec": {"command": "x", "apiVersion": "v1"}}}]))
    made = kc.connection_from_options(settings(api_key="mine", validate_certs=False), base)
    assert (made.host, made.api_key, made.verify, made.exec_plugin) == (base.host, "mine", False, None)


@pytest.mark.parametrize("host", ["lab:6443", "ftp://lab", "lab"])
def test_an_address_without_scheme(host: str) -> None:
    with pytest.raises(BadConnectionSettings, match="https://host:port"):
        kc.connection_from_options(settings(host=host, api_key="t"))
