# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the cluster that several modules share. What may not be read is None or empty, save where it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .._core import kinds
from .._core.errors import ApiError, Forbidden, NotFound
from .._core.kinds import Kind
from .._core.pods import Event, NodeState, Pod, last_lines, parse_event, parse_node
from .._core.set_steps import NamespaceState
from .._core.shared_nodes import SharedNode, find_shared_nodes, group_by_node
from .kube import KubeClient, Manifest


def observe_namespace(client: KubeClient, name: str) -> NamespaceState:
    """The namespace, as far as it may be read."""
    try:
        live = client.get(kinds.NAMESPACE, name)
    except Forbidden:
        # Rights in one namespace only: that is enough, whether it exists shows in the next request.
        return NamespaceState()
    if live is None:
        return NamespaceState(exists=False)
    status = live.get("status") or {}
    going = bool(live["metadata"].get("deletionTimestamp")) or status.get("phase") == "Terminating"
    holds = [
        str(one.get("message"))
        for one in status.get("conditions") or ()
        if one.get("status") == "True"
        and one.get("type") in ("NamespaceContentRemaining", "NamespaceFinalizersRemaining")
    ]
    return NamespaceState(exists=True, terminating=going, holds=" ".join(holds))


def list_pods(client: KubeClient, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
    """The pods with all of these labels, in one request. Forbidden is passed on, unlike by the looks below."""
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return client.list(kinds.POD, namespace, label_selector=selector)


def try_list(client: KubeClient, kind: Kind, namespace: str | None, **selectors: str) -> list[Manifest] | None:
    """A list, or None when it may not be read."""
    try:
        return client.list(kind, namespace, **selectors)
    except Forbidden:
        return None


def try_get(client: KubeClient, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
    """An object, or None when it is not there or may not be read."""
    try:
        return client.get(kind, name, namespace)
    except Forbidden:
        return None


def observe_events(client: KubeClient, namespace: str, kind: str, name: str, uid: str = "") -> tuple[Event, ...]:
    """Events about one object; none when they may not be read."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    if uid:
        selector += f",involvedObject.uid={uid}"
    return tuple(map(parse_event, try_list(client, kinds.EVENT, namespace, field_selector=selector) or ()))


def observe_node(client: KubeClient, name: str) -> NodeState:
    """Whether a node is Ready, as far as it may be read."""
    live = try_get(client, kinds.NODE, name)
    return NodeState(name) if live is None else parse_node(live)


def observe_shared_nodes(client: KubeClient, pods: Iterable[Pod]) -> tuple[SharedNode, ...]:
    """Nodes that several of these pods share. Nodes are listed only if there is one."""
    placed = tuple(pods)
    if all(len(here) < 2 for here in group_by_node(placed).values()):
        return ()
    nodes = try_list(client, kinds.NODE, None)
    return find_shared_nodes(placed, None if nodes is None else list(map(parse_node, nodes)))


def observe_logs(client: KubeClient, namespace: str, pod: Pod, hide: Callable[[str], str]) -> dict[str, str]:
    """The last lines of containers that ended badly and left no word in their status."""
    found: dict[str, str] = {}
    for container in pod.containers:
        if container.exit_code in (None, 0) or container.ended_message:
            continue
        try:
            text = client.pod_log(pod.name, namespace, container=container.name, previous=container.running)
        except (Forbidden, NotFound, ApiError):
            continue
        # Before it is cut: half a password would not be recognised.
        found[container.name] = last_lines(hide(text or ""))
    return found
