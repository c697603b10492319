# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.diff import (
    merge_patch,
    render_diff,
    render_yaml,
)
from hypothesis import given
from hypothesis import strategies as st

SECRET = {"kind": "Secret", "metadata": {"name": "s", "uid": "1"}, "data": {"a": "b2xk", "b": "c2FtZQ=="}}


def test_rp_ans_03_a_secret_shows_keys_and_which_of_them_change() -> None:
    after = {**SECRET, "data": {"a": "bmV3", "b": "c2FtZQ==", "c": "bW9yZQ=="}, "stringData": {"d": "plain"}}
    shown = render_diff("Secret s", SECRET, after)
    for value in ("b2xk", "c2FtZQ", "bmV3", "bW9yZQ", "plain"):
        assert value not in str(shown)
    assert yaml.safe_load(shown["after"])["data"] == {
        "a": "(hidden, will be different)",
        "b": "(hidden)",
        "c": "(hidden)",
    }
    assert yaml.safe_load(shown["before"])["data"] == {"a": "(hidden)", "b": "(hidden)"}


def test_what_only_the_server_writes_is_left_out() -> None:
    live = {
        "kind": "ConfigMap",
        "metadata": {
            "name": "a",
            "uid": "1",
            "resourceVersion": "5",
            "managedFields": [{}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"},
        },
        "status": {"phase": "x"},
    }
    shown = yaml.safe_load(render_diff("x", live, None)["before"])
    assert shown == {"kind": "ConfigMap", "metadata": {"name": "a", "annotations": {"mine": "x"}}}
    assert render_diff("x", live, None)["after"] == ""


def test_lists_and_maps_read_like_yaml() -> None:
    assert render_yaml({"b": [{"x": 1, "z": []}, "on"], "a": {}}) == 'a: {}\nb:\n  - x: 1\n    z: []\n  - "on"\n'


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_what_is_rendered_can_be_parsed_again(value: Any) -> None:
    assert yaml.safe_load(render_yaml(value)) == value


@given(json_values, json_values)
def test_a_merge_patch_changes_nothing_in_place_and_can_be_repeated(target: Any, patch: Any) -> None:
    before = repr(target)
    once = merge_patch(target, patch)
    assert repr(target) == before
    assert merge_patch(once, patch) == once
