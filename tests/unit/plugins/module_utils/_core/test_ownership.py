# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ownership import (
    MISSING,
    compare_fields,
    compare_owned,
    owned_leftovers,
    project,
)
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster
from hypothesis import given
from hypothesis import strategies as st

ME = "stateful.petset"


def paths(wanted: Any, live: Any) -> list[str]:
    return [change.path for change in compare_fields(wanted, live)]


@pytest.mark.parametrize(
    ("wanted", "live", "differing"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 2}, [".a"]),
        ({"a": {"b": "x"}}, {}, [".a"]),
        ({"a": {"b": "x"}}, {"a": None}, [".a"]),
        ({"a": {}}, {}, []),
        ({"a": []}, {"a": None}, []),
        ({"emptyDir": {}}, {}, [".emptyDir"]),
        ({"minReadySeconds": 0, "publishNotReadyAddresses": False}, {}, []),
        ({"minReadySeconds": 5}, {}, [".minReadySeconds"]),
        ({"publishNotReadyAddresses": False}, {"publishNotReadyAddresses": True}, [".publishNotReadyAddresses"]),
        ({"automountServiceAccountToken": False}, {}, [".automountServiceAccountToken"]),
        ({"replicas": 1}, {"replicas": True}, [".replicas"]),
        ({"requests": {"cpu": "0.5"}}, {"requests": {"cpu": "500m"}}, []),
        ({"requests": {"memory": "1024Mi"}}, {"requests": {"memory": "1Gi"}}, []),
        ({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "1G"}}, [".requests.memory"]),
        ({"divisor": "1"}, {"divisor": "0"}, [".divisor"]),
        ({"note": "1024Mi"}, {"note": "1Gi"}, [".note"]),
        # Atomic lists: length and place count, defaults inside an element do not.
        ({"args": ["a", "b"]}, {"args": ["a"]}, [".args"]),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}, [".args[0]", ".args[1]"]),
        ({"rules": [{"verbs": ["get"]}]}, {"rules": [{"verbs": ["get"], "x": 1}]}, []),
        # Keyed lists: others' elements are not ours to judge, order does not count.
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B"}, {"name": "A", "value": "1"}]}, []),
        ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}, []),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "2"}]}, [".env[A].value"]),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": []}, [".env[A]"]),
        (
            {"ports": [{"port": 3306, "protocol": "TCP"}]},
            {"ports": [{"port": 3306, "nodePort": 30000, "targetPort": 3306}]},
            [".ports[3306,TCP].protocol"],
        ),
        # Maps that are one value.
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"a": "1", "b": "2"}}, [".nodeSelector"]),
        ({"matchLabels": {"a": "1"}}, {"matchLabels": {"a": "1"}}, []),
        ({"labels": {"example.com/x": "1"}}, {"labels": {}}, [".labels[example.com/x]"]),
    ],
)
def test_only_our_fields_count_and_only_by_meaning(wanted: Any, live: Any, differing: list[str]) -> None:
    assert paths(wanted, live) == differing


def config_map(data: dict[str, str], labels: dict[str, str] | None = None) -> dict[str, Any]:
    meta = {"name": "x", "namespace": "default", "labels": labels or {"a": "1"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def applied(manifest: dict[str, Any]) -> dict[str, Any]:
    cluster = FakeCluster()
    return cluster.client().apply(manifest)


def test_a_field_that_we_do_not_render_any_more_has_to_go() -> None:
    live = applied(config_map({"a": "1", "b": "2"}))
    (change,) = compare_owned(config_map({"a": "1"}), live, ME)
    assert (change.path, change.live, change.wanted) == (".data.b", "2", MISSING)


def test_a_field_of_somebody_else_stays() -> None:
    live = applied(config_map({"a": "1"}))
    live["data"]["theirs"] = "x"
    assert compare_owned(config_map({"a": "1"}), live, ME) == ()


def test_what_others_changed_is_seen() -> None:
    live = applied(config_map({"a": "1"}))
    live["data"]["a"] = "changed"
    assert [change.path for change in compare_owned(config_map({"a": "1"}), live, ME)] == [".data.a"]


def test_leftovers_in_keyed_lists() -> None:
    fields = {"f:spec": {"f:env": {'k:{"name":"OLD"}': {".": {}, "f:value": {}}, 'k:{"name":"A"}': {".": {}}}}}
    entry = {"manager": ME, "operation": "Apply", "fieldsV1": fields}
    live = {"metadata": {"managedFields": [entry]}}
    assert list(owned_leftovers({"spec": {"env": [{"name": "A"}]}}, live, ME)) == [".spec.env[OLD]"]


@pytest.mark.parametrize("entry", [{"manager": "other"}, {"operation": "Update"}, {"subresource": "status"}])
def test_only_our_own_applies_count_as_ours(entry: dict[str, str]) -> None:
    mine = {"manager": ME, "operation": "Apply", "fieldsV1": {"f:data": {"f:b": {}}}}
    live = {"metadata": {"managedFields": [{**mine, **entry}]}}
    assert list(owned_leftovers({"data": {}}, live, ME)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_an_object_is_as_wanted_after_its_own_fields_were_laid_over(wanted: Any, live: Any) -> None:
    assert paths(wanted, copy.deepcopy(wanted)) == []
    laid = {**live, **copy.deepcopy(wanted)}
    assert paths(wanted, laid) == []
    assert paths(wanted, project(laid, wanted)) == []


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_a_diff_without_differences_is_empty(wanted: Any, live: Any) -> None:
    before = project(live, wanted)
    if not paths(wanted, live):
        assert paths(before, wanted) == []
