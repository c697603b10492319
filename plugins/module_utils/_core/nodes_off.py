# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of which a person says that they are off: their pets are let go by a taint, and never by force.

Source: Kubernetes, "Non-graceful node shutdown". Pods of a node that is not Ready stay until it is back, since nobody
can know whether it still runs. The taint tells that it is off, and the controllers let them go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from . import kinds
from .errors import PetsetError, Refused
from .kinds import ObjectRef
from .names import parse_dns_subdomain
from .ownership import FieldChange
from .pods import OUT_OF_SERVICE, NodeState, Pod, describe_untaint, parse_node
from .set_steps import Action, Step

Json = Any

_TAINT: Final = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}


def parse_nodes_off(variable: str, names: Iterable[object]) -> tuple[str, ...]:
    """The names, each once. InvalidInput: what cannot be the name of a node."""
    return tuple(dict.fromkeys(parse_dns_subdomain(f"{variable}[{n}]", name) for n, name in enumerate(names)))


def plan_nodes_off(
    nodes: Mapping[str, Json | None], pods: Iterable[Pod]
) -> tuple[tuple[Step, ...], tuple[PetsetError, ...]]:
    """The taint for each node that holds a pet and has none yet, and what contradicts that it is off.

    ``nodes``: each node by its name, None where there is no such node. ``pods``: those of the set.
    """
    steps: list[Step] = []
    refusals: list[PetsetError] = []
    used = sorted({pod.node for pod in pods if pod.node})
    for name, live in nodes.items():
        state = None if live is None else parse_node(live)
        if state is None or state.ready is not False:
            refusals.append(_doubt(name, state, used))
        elif name in used and not state.out_of_service:
            steps.append(_taint(name, live))
    return tuple(steps), tuple(refusals)


def _doubt(name: str, state: NodeState | None, used: Sequence[str]) -> PetsetError:
    if state is None:
        return Refused(
            f"Node {name}",
            "it is said to be off, and there is no such node",
            way_out=f"correct its name in nodes_off; the set's pets are on {', '.join(used) or 'no node'}",
        )
    seen = "Ready" if state.ready else "of unknown state"
    return Refused(
        f"Node {name}",
        f"it is said to be off, and it is {seen}: a pet that is let go may still run there and write to its folder",
        way_out=f"take it out of nodes_off{', and ' + describe_untaint(name) if state.out_of_service else ''}",
    )


def _taint(name: str, live: Json) -> Step:
    meta = live.get("metadata") or {}
    there = list((live.get("spec") or {}).get("taints") or ())
    return Step(
        Action.UPDATE,
        ObjectRef(kinds.NODE, name),
        {"spec": {"taints": [*there, _TAINT]}},
        changes=(FieldChange(".spec.taints", there, [*there, _TAINT]),),
        before={"spec": {"taints": there}},
        resource_version=str(meta.get("resourceVersion", "")),
    )
