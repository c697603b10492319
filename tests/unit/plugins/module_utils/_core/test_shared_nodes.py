# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that share a node: told only where another node would take one of them and the places would be better for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import Pod, parse_node, parse_pod
from ansible_collections.stateful.petset.plugins.module_utils._core.shared_nodes import (
    SharedNode,
    find_shared_nodes,
    move_a_proxy,
)
from hypothesis import given
from hypothesis import strategies as st

CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
DEDICATED = {"key": "dedicated", "value": "mysql", "effect": "NoExecute"}


def pods(*nodes: str, **spec: Any) -> list[Pod]:
    return [
        parse_pod({"metadata": {"name": f"mysql-{n}"}, "spec": {"nodeName": node, **spec}})
        for n, node in enumerate(nodes)
    ]


def node(name: str, ready: str | None = "True", *, labels: dict[str, str] | None = None, **spec: Any) -> Any:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    return parse_node(
        {"metadata": {"name": name, "labels": labels or {}}, "spec": spec, "status": {"conditions": conditions}}
    )


def test_two_pets_on_one_of_two_nodes_are_told_with_the_free_one() -> None:
    (found,) = find_shared_nodes(pods("n1", "n1"), [node("n1"), node("n2")])
    assert found == SharedNode("n1", ("mysql-0", "mysql-1"), ("n2",))
    assert found.describe() == (
        "mysql-0 and mysql-1 share node n1, so a fault of it stops them all at once; node n2 would take one"
    )


@pytest.mark.parametrize(
    "other",
    [
        node("n2", "False"),
        node("n2", "Unknown"),
        node("n2", None),
        node("n2", unschedulable=True),
        node("n2", taints=[CONTROL_PLANE]),
        node("n2", taints=[{"key": "spot", "effect": "PreferNoSchedule"}, DEDICATED]),
        node("n2", labels={"disk": "hdd"}),
    ],
)
def test_a_node_that_takes_none_is_no_way_out(other: Any) -> None:
    """A cluster with one node for all would be told for ever what nobody can mend."""
    assert find_shared_nodes(pods("n1", "n1", nodeSelector={"disk": "ssd"}), [node("n1"), other]) == ()


@pytest.mark.parametrize(
    ("toleration", "taint"),
    [
        ({"operator": "Exists"}, DEDICATED),
        ({"key": "dedicated", "operator": "Exists"}, DEDICATED),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, DEDICATED),
        ({"key": "dedicated", "value": "mysql"}, DEDICATED),
        ({"key": "node-role.kubernetes.io/control-plane", "operator": "Equal"}, CONTROL_PLANE),
        ({"key": "other"}, {"key": "spot", "effect": "PreferNoSchedule"}),
    ],
)
def test_a_taint_that_pods_tolerate_keeps_none_away(toleration: dict[str, str], taint: dict[str, str]) -> None:
    here = pods("n1", "n1", tolerations=[toleration])
    assert [one.free for one in find_shared_nodes(here, [node("n1"), node("n2", taints=[taint])])] == [("n2",)]


@pytest.mark.parametrize(
    "toleration",
    [
        {"key": "dedicated", "value": "other"},
        {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "other", "operator": "Exists"},
        {"value": "mysql"},
        {"key": "dedicated", "operator": "Lt", "value": "mysql"},
    ],
)
def test_another_toleration_does_not_help(toleration: dict[str, str]) -> None:
    here = pods("n1", "n1", tolerations=[toleration])
    assert find_shared_nodes(here, [node("n1"), node("n2", taints=[DEDICATED])]) == ()


def test_three_pets_on_two_nodes_are_as_far_apart_as_can_be() -> None:
    two = [node("n1"), node("n2")]
    assert find_shared_nodes(pods("n1", "n2", "n1"), two) == ()
    assert [one.free for one in find_shared_nodes(pods("n1", "n1", "n1"), two)] == [("n2",)]
    (found,) = find_shared_nodes(pods("n1", "n2", "n1"), [*two, node("n4"), node("n3")])
    assert found == SharedNode("n1", ("mysql-0", "mysql-2"), ("n3", "n4"))
    assert found.describe().endswith("nodes n3, n4 would each take one")


def test_where_nodes_may_not_be_listed_only_what_is_sure_is_told() -> None:
    """All on one node is a fault away from an outage, whether or not that can be mended."""
    (found,) = find_shared_nodes(pods("n1", "n1"), None)
    assert found.free is None
    assert found.describe().endswith("whether another node would take one is not known, nodes may not be listed")
    assert found.render("do it")["free"] is None
    assert find_shared_nodes(pods("n1", "n1", "n2"), None) == ()
    assert find_shared_nodes(pods("n1"), None) == ()


@pytest.mark.parametrize("gone", [{"deleting": True}, {"phase": "Failed"}, {"phase": "Succeeded"}, {"node": ""}])
def test_a_pod_that_leaves_or_has_ended_shares_nothing(gone: dict[str, Any]) -> None:
    """Pods that a node has evicted stay listed beside those that took their place."""
    first, second = pods("n1", "n1")
    assert find_shared_nodes([first, replace(second, **gone)], [node("n1"), node("n2")]) == ()


def test_the_way_out_names_the_proxy_and_its_namespace() -> None:
    (found,) = find_shared_nodes(pods("n1", "n1"), [node("n2")])
    assert move_a_proxy("db", found).startswith("kubectl --namespace db delete pod mysql-1: ")


@given(st.lists(st.sampled_from(["n1", "n2", "n3"]), min_size=1, max_size=6))
def test_told_is_exactly_what_moving_one_pod_makes_better(places: list[str]) -> None:
    nodes = [node(name) for name in ("n1", "n2", "n3")]
    counts = Counter(places)
    told = {one.node: one.free for one in find_shared_nodes(pods(*places), nodes)}
    for name in ("n1", "n2", "n3"):
        better = tuple(one for one in ("n1", "n2", "n3") if counts[name] - 1 > counts[one])
        assert told.get(name, ()) == better
