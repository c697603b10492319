# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that a person says are off: only such a one gets the taint, and only while it is not Ready and holds a pet."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.nodes_off import parse_nodes_off, plan_nodes_off
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import Pod
from hypothesis import given
from hypothesis import strategies as st

KEY = "node.kubernetes.io/out-of-service"
TAINT = {"key": KEY, "value": "nodeshutdown", "effect": "NoExecute"}
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


def node(ready: str | None, *taints: dict[str, str]) -> dict[str, Any]:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": "n1", "resourceVersion": "7"},
        "spec": {"taints": list(taints)} if taints else {},
        "status": {"conditions": conditions},
    }


def pet(on: str = "n1") -> Pod:
    return Pod("mysql-0", "uid", node=on)


@pytest.mark.parametrize("ready", ["False", "Unknown"])
@pytest.mark.parametrize("own", [(), (UNREACHABLE,)])
def test_rp_sts_06_a_node_that_is_off_gets_the_taint(ready: str, own: tuple[dict[str, str], ...]) -> None:
    (step,), refusals = plan_nodes_off({"n1": node(ready, *own)}, [pet("n2"), pet()])
    assert refusals == ()
    assert step.describe() == "update Node n1 (.spec.taints)"
    assert step.manifest == {"spec": {"taints": [*own, TAINT]}}
    assert step.before == {"spec": {"taints": list(own)}}
    assert step.resource_version == "7"


@pytest.mark.parametrize(
    ("live", "pods"),
    [
        (node("Unknown", UNREACHABLE, TAINT), [pet()]),
        (node("Unknown", {**TAINT, "effect": "NoSchedule"}), [pet()]),
        (node("Unknown"), [pet("n2"), pet("")]),
        (node("Unknown"), []),
    ],
)
def test_a_node_that_has_the_taint_or_no_pet_is_left_alone(live: dict[str, Any], pods: list[Pod]) -> None:
    assert plan_nodes_off({"n1": live}, pods) == ((), ())


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (node("True"), ["it is Ready", "may still run there and write", "Take it out of nodes_off"]),
        (node("True", TAINT), ["it is Ready", f"take the taint off: kubectl taint node n1 {KEY}-"]),
        (node(None), ["it is of unknown state"]),
        (None, ["there is no such node", "the set's pets are on n1, n2"]),
    ],
)
def test_rp_sts_06_a_node_that_is_not_off_is_refused(live: dict[str, Any] | None, words: list[str]) -> None:
    steps, (refusal,) = plan_nodes_off({"n1": live}, [pet("n2"), pet(), pet("")])
    assert steps == ()
    assert str(refusal).startswith("Node n1")
    assert [word for word in words if word not in str(refusal)] == []


@given(st.lists(st.tuples(st.sampled_from(["True", "False", "Unknown", None]), st.booleans(), st.booleans())))
def test_each_node_is_judged_by_itself(states: list[tuple[str | None, bool, bool]]) -> None:
    nodes = {f"n{at}": node(ready, *[TAINT] * tainted) for at, (ready, tainted, _used) in enumerate(states)}
    pods = [pet(f"n{at}") for at, (_ready, _tainted, used) in enumerate(states) if used]
    steps, refusals = plan_nodes_off(nodes, pods)
    off = {f"n{at}" for at, (ready, _tainted, _used) in enumerate(states) if ready in ("False", "Unknown")}
    assert {step.ref.name for step in steps} <= off
    assert len(refusals) == len(nodes) - len(off)
    for step in steps:
        done = {**nodes[step.ref.name], "spec": step.manifest["spec"]}
        assert plan_nodes_off({step.ref.name: done}, pods) == ((), ())


def test_names_are_checked_and_counted_once() -> None:
    assert parse_nodes_off("nodes_off", ["n1", "n2.example.net", "n1"]) == ("n1", "n2.example.net")
    with pytest.raises(InvalidInput, match=r"nodes_off\[1\]"):
        parse_nodes_off("nodes_off", ["n1", "Node_2"])
