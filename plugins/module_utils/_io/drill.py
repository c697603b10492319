# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging a crash, and reading what a drill needs to know. Everything that is decided, is decided in ``_core``."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .._core import kinds
from .._core.drill import ANNOTATION_RECORD, ANNOTATION_UNDER_WAY, DrillKind, Identity
from .._core.drill_objects import CONTAINER, KILL_AGENT, KILL_MYSQLD, READ
from .._core.drill_proof import Row, WorkLog, parse_log
from .._core.drill_refs import drill_refs
from .._core.errors import Refused
from .._core.kinds import ObjectRef
from .._core.manifests import AGENT_CONTAINER, MYSQL_CONTAINER, PetSetSpec
from .._core.names import claim_name, pet_name
from .._core.pods import POD_INDEX_LABEL
from .._core.ring import RingPet
from .._core.set_steps import is_own
from .._core.statefulset import SetView
from .kube import KubeClient, Manifest
from .mysql import Connector, PetDown, SqlError
from .observe import list_pods, try_get, try_list
from .podexec import NotRun, run_once_in_pod

_AT_ONCE = 8
# Least that Kubernetes waits for: the pod's mysqld is killed in the middle of its shutdown.
_SHORT_GRACE_S = 1
_STATEMENT_S = 30.0


def utc_now() -> datetime.datetime:
    """The controller's wall clock."""
    return datetime.datetime.now(datetime.timezone.utc)


def set_ref(spec: PetSetSpec) -> ObjectRef:
    """The StatefulSet."""
    return ObjectRef(kinds.STATEFUL_SET, spec.name, spec.namespace)


def annotate(client: KubeClient, spec: PetSetSpec, version: str | None, **values: str | None) -> Manifest:
    """Set ``record`` and ``under_way`` in the set's own metadata in one write; None takes one away.

    Conflict: the set has changed since ``version``.
    """
    keys = {"record": ANNOTATION_RECORD, "under_way": ANNOTATION_UNDER_WAY}
    metadata: dict[str, Any] = {"annotations": {keys[name]: value for name, value in values.items()}}
    if version:
        metadata["resourceVersion"] = version
    return client.patch(set_ref(spec), {"metadata": metadata})


def read_identities(
    client: KubeClient, spec: PetSetSpec, view: SetView, uuids: Mapping[str, str]
) -> dict[str, Identity]:
    """Who each pet is; empty fields for what may not be read. ``uuids``: what each mysqld says of itself."""
    template = view.claim_template or spec.claim_template
    pods = {one["metadata"]["name"]: one for one in list_pods(client, spec.namespace, spec.selector)}
    listed = try_list(client, kinds.PERSISTENT_VOLUME_CLAIM, spec.namespace) or []
    claims = {one["metadata"]["name"]: one for one in listed}
    found = {}
    for ordinal in range(view.replicas):
        name = pet_name(spec.name, ordinal)
        pod = pods.get(name)
        if pod is None:
            continue
        claim = claims.get(claim_name(template, spec.name, ordinal)) or {}
        volume = str((claim.get("spec") or {}).get("volumeName") or "")
        live = try_get(client, kinds.PERSISTENT_VOLUME, volume) if volume else None
        found[name] = Identity(
            index=str((pod["metadata"].get("labels") or {}).get(POD_INDEX_LABEL, "")),
            pod_uid=str(pod["metadata"].get("uid", "")),
            claim_uid=str((claim.get("metadata") or {}).get("uid", "")),
            volume=volume,
            volume_uid=str(((live or {}).get("metadata") or {}).get("uid", "")),
            server_uuid=uuids.get(name, ""),
            node=str((pod.get("spec") or {}).get("nodeName") or ""),
            restarts=restarts_of(pod),
        )
    return found


def restarts_of(pod: Mapping[str, Any]) -> dict[str, int]:
    """How often each container was started again; the agent is among the init containers."""
    status = pod.get("status") or {}
    told = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return {str(one["name"]): int(one.get("restartCount") or 0) for one in told}


# --- the crash --------------------------------------------------------------------------------------------------------


def strike(client: KubeClient, kind: DrillKind, spec: PetSetSpec, pets: Mapping[str, Identity]) -> list[str]:
    """Stage the crash on all these pets at the same moment; gives what was done, a line for each.

    Refused: it could not be staged.
    """
    acts: list[Callable[[], str]] = []
    for name, one in pets.items():
        if kind.replaces_pod:
            acts.append(_deletion(client, spec, name, one, kind))
        else:
            acts += [_kill(client, spec, name, container) for container in kind.restarts]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [future.result() for future in [pool.submit(act) for act in acts]]


def _deletion(client: KubeClient, spec: PetSetSpec, name: str, one: Identity, kind: DrillKind) -> Callable[[], str]:
    grace_s = _SHORT_GRACE_S if kind is DrillKind.BOTH_PETS else None

    def act() -> str:
        client.delete(ObjectRef(kinds.POD, name, spec.namespace), uid=one.pod_uid, grace_period_s=grace_s)
        return f"delete Pod {spec.namespace}/{name}" + (f" with {grace_s} s of grace" if grace_s else "")

    return act


def _kill(client: KubeClient, spec: PetSetSpec, name: str, container: str) -> Callable[[], str]:
    command = {MYSQL_CONTAINER: KILL_MYSQLD, AGENT_CONTAINER: KILL_AGENT}[container]

    def act() -> str:
        said = ""
        try:
            # Never asked for again: the second one would hit the process that has come after the one that was meant.
            said = run_once_in_pod(client, spec.namespace, name, container, command).strip()
        except NotRun as problem:
            raise Refused(
                f"Pod {spec.namespace}/{name}",
                f"nothing could be run in its container {container}: {problem}",
                way_out="see to the right to create pods/exec and to the API server's way to the node, then run again",
            ) from problem
        except RuntimeError:
            pass  # the way to the container may end with it; whether it did is seen in the pod
        return f"kill container {container} of Pod {spec.namespace}/{name} ({said or 'SIGKILL'})"

    return act


# --- the workload -----------------------------------------------------------------------------------------------------


def read_log(client: KubeClient, spec: PetSetSpec, last: int | None = None) -> WorkLog:
    """What the workload has told; nothing when it cannot be read."""
    pod = drill_refs(spec.name, spec.namespace)[0]
    return parse_log(client.pod_log(pod.name, spec.namespace, container=CONTAINER, tail_lines=last) or "")


def make_objects(client: KubeClient, manifests: Iterable[Mapping[str, Any]]) -> None:
    """In their order."""
    for manifest in manifests:
        client.create(manifest)


def find_leftovers(client: KubeClient, spec: PetSetSpec) -> list[ObjectRef]:
    """Objects of a drill that are there. Refused: one of them is somebody else's."""
    found = []
    for ref in drill_refs(spec.name, spec.namespace):
        live = client.get(ref.kind, ref.name, ref.namespace)
        if live is None:
            continue
        if not is_own(live, spec.name):
            raise Refused(str(ref), f"it was not made for the set {spec.name}", way_out="give it another name")
        found.append(ref)
    return found


def remove_objects(client: KubeClient, spec: PetSetSpec, limit_s: float = 30) -> list[str]:
    """Take the objects of a drill away and wait until they are; gives what was deleted."""
    found = find_leftovers(client, spec)
    for ref in found:
        client.delete(ref, grace_period_s=1 if ref.kind is kinds.POD else None)
    begin = client.clock.now_s()
    while find_leftovers(client, spec):
        if client.clock.now_s() - begin > limit_s:
            raise Refused(
                str(found[0]), f"it is still there {limit_s:.0f} s after it was deleted", way_out="look at its node"
            )
        client.clock.sleep(0.5)
    return [f"delete {ref}" for ref in found]


# --- SQL --------------------------------------------------------------------------------------------------------------


def run_statements(connector: Connector, pet: RingPet, statements: Sequence[str], secret: str = "") -> None:
    """One after the other on a pet. SqlError; PetDown."""
    session = connector(pet, _STATEMENT_S)
    try:
        for text in statements:
            session.run(text, secret)
    finally:
        session.close()


def read_rows(connector: Connector, pets: Sequence[RingPet]) -> dict[str, frozenset[Row] | None]:
    """The drill's table on each pet; None where it could not be read."""

    def read(pet: RingPet) -> frozenset[Row] | None:
        try:
            session = connector(pet, _STATEMENT_S)
            try:
                return frozenset((int(row["client"]), int(row["number"])) for row in session.query(READ))
            finally:
                session.close()
        except (PetDown, SqlError):
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip([pet.name for pet in pets], pool.map(read, pets), strict=True))
