# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods that share a node although another one would take some of them: a fault of that node is a fault of them all.

Kubernetes spreads pods when they start and moves none later. Pods that lost their node (Kubernetes gives them up after
300 s) start on those that are left, and stay there when it is back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .pods import NodeState, Pod, Taint, Toleration


@dataclass(frozen=True, slots=True)
class SharedNode:
    """A node with several pods of one kind.

    ``free``  nodes that would take one of them and have fewer by two or more; None when nodes may not be read
    """

    node: str
    pods: tuple[str, ...]
    free: tuple[str, ...] | None

    def describe(self) -> str:
        """What is seen, and what it means."""
        names = " and ".join(self.pods)
        if self.free is None:
            rest = "whether another node would take one is not known, nodes may not be listed"
        elif len(self.free) == 1:
            rest = f"node {self.free[0]} would take one"
        else:
            rest = f"nodes {', '.join(self.free)} would each take one"
        return f"{names} share node {self.node}, so a fault of it stops them all at once; {rest}"

    def render(self, way_out: str) -> dict[str, Any]:
        """For a result. ``way_out``: :func:`move_a_pet` or :func:`move_a_proxy`."""
        return {
            "node": self.node,
            "pods": list(self.pods),
            "free": None if self.free is None else list(self.free),
            "evidence": self.describe(),
            "way_out": way_out,
        }


def move_a_pet(namespace: str) -> str:
    """What has pets on different nodes again. Which of them writes is not known here."""
    return (
        "when all pets are ready and in sync, delete the pod of one that does not write (kubectl --namespace"
        f" {namespace} delete pod NAME): it starts on a node with fewer, if that has room"
    )


def move_a_proxy(namespace: str, shared: SharedNode) -> str:
    """What has proxies on different nodes again."""
    command = f"kubectl --namespace {namespace} delete pod {shared.pods[-1]}"
    return f"{command}: another starts on a node with fewer, if that has room"


def note_shared_nodes(shared: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each rendered one, for a person."""
    return [f"{one['evidence']}: {one['way_out']}" for one in shared]


def group_by_node(pods: Iterable[Pod]) -> dict[str, list[Pod]]:
    """The pods of each node, without those that are leaving or have ended (evicted ones stay to be looked at)."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        if pod.node and not pod.deleting and pod.phase not in ("Failed", "Succeeded"):
            found[pod.node].append(pod)
    return dict(found)


def find_shared_nodes(pods: Iterable[Pod], nodes: Sequence[NodeState] | None) -> tuple[SharedNode, ...]:
    """Nodes that could share their pods with another one, by name.

    ``nodes``: all of the cluster; None when they may not be listed: then only pods that are all on one node are told.
    Room on a node is not looked at.
    """
    placed = group_by_node(pods)
    found = []
    for name, here in sorted(placed.items()):
        free = None if nodes is None else tuple(sorted(_free_nodes(here, placed, nodes)))
        if len(here) > 1 and (free or (free is None and len(placed) == 1)):
            found.append(SharedNode(name, tuple(pod.name for pod in here), free))
    return tuple(found)


def _free_nodes(here: Sequence[Pod], placed: Mapping[str, Sequence[Pod]], nodes: Sequence[NodeState]) -> list[str]:
    # A pod that goes to a node with only one pod less than here would change the nodes' places and nothing else.
    most = len(here) - 2
    return [one.name for one in nodes if len(placed.get(one.name, ())) <= most and _takes(one, here[0])]


def _takes(node: NodeState, pod: Pod) -> bool:
    labels = dict(node.labels)
    return (
        node.ready is True
        and not node.unschedulable
        and all(labels.get(key) == value for key, value in pod.node_selector)
        and all(
            taint.effect == "PreferNoSchedule" or any(_tolerates(one, taint) for one in pod.tolerations)
            for taint in node.taints
        )
    )


def _tolerates(one: Toleration, taint: Taint) -> bool:
    """Source: Kubernetes, "Taints and Tolerations". Other operators (Lt, Gt) are taken for a refusal."""
    if one.effect not in ("", taint.effect) or one.key not in ("", taint.key):
        return False
    return one.operator == "Exists" or (one.operator == "Equal" and one.key == taint.key and one.value == taint.value)
