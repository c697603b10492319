# Copyright: (c) 2026, stateful.petset contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A StatefulSet as the API server shows it, whether all its pets are really ready, and which pods hold a roll-out up.

``status.readyReplicas`` alone lies in four ways: it may be older than the specification, it counts pods of the old
revision, it still counts a pod that was deleted a moment ago, and with ``OnDelete`` or a partition the revisions never
become equal. So the pods themselves are judged, each by its ordinal, owner and uid.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .pods import READY, WAY_OUT, Event, Evidence, Pod, Trouble, WhyNot, decide_create_trouble, decide_why_not_ready

Json = Any


class Strategy(enum.Enum):
    """``spec.updateStrategy.type``. RECREATE is alpha in Kubernetes 1.37 (KEP-3541)."""

    ROLLING_UPDATE = "RollingUpdate"
    ON_DELETE = "OnDelete"
    RECREATE = "Recreate"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SetView:
    """What counts of a StatefulSet. Ordinals run from ``first_ordinal`` to ``first_ordinal + replicas - 1``.

    ``claim_template``  first part of its claims' names, that of its first template; empty without one
    """

    name: str
    namespace: str
    uid: str
    generation: int
    observed_generation: int
    replicas: int
    first_ordinal: int = 0
    strategy: Strategy = Strategy.ROLLING_UPDATE
    partition: int = 0
    min_ready_s: int = 0
    available_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    deleting: bool = False
    claim_template: str = ""

    @property
    def ordinals(self) -> range:
        """The ordinals that the set should have."""
        return range(self.first_ordinal, self.first_ordinal + self.replicas)

    @property
    def is_observed(self) -> bool:
        """Whether the status speaks of the present specification."""
        return self.observed_generation >= self.generation

    def pod_name(self, ordinal: int) -> str:
        """Name of a pet."""
        return f"{self.name}-{ordinal}"

    def must_be_new(self, ordinal: int) -> bool:
        """Whether the controller will bring this ordinal to the newest revision by itself."""
        if self.strategy is Strategy.ON_DELETE:
            return False
        return self.strategy is not Strategy.ROLLING_UPDATE or ordinal >= self.partition


@dataclass(frozen=True, slots=True)
class PetState:
    """One pet as of now. ``why`` is READY when it is; ``outdated``: ready at an older revision, which is allowed."""

    ordinal: int
    name: str
    pod: Pod | None
    why: WhyNot
    outdated: bool = False

    @property
    def ready(self) -> bool:
        """Whether the pet serves, at a revision that it may have."""
        return self.why.trouble is Trouble.NONE


@dataclass(frozen=True, slots=True)
class Readiness:
    """The whole set as of now. ``note`` tells what the pets do not show (status not yet observed)."""

    pets: tuple[PetState, ...]
    observed: bool
    note: str = ""

    @property
    def ready(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.observed and not self.note and all(pet.ready for pet in self.pets)

    @property
    def missing(self) -> tuple[PetState, ...]:
        """The pets that are not ready."""
        return tuple(pet for pet in self.pets if not pet.ready)

    def describe(self) -> str:
        """What is waited for, for a person: one clause per pet."""
        parts = [f"{pet.name}: {pet.why.describe()}" for pet in self.missing]
        if not self.observed:
            parts.insert(0, "the controller has not yet looked at the new specification")
        elif self.note and not parts:
            parts.append(self.note)
        return "; ".join(parts) or "all pets are ready"


_NO_EVIDENCE: Final = Evidence()


def parse_statefulset(obj: Mapping[str, Json]) -> SetView:
    """Read a StatefulSet's JSON. An unset replica count means 1, as the API has it."""
    meta = obj.get("metadata") or {}
    spec = obj.get("spec") or {}
    status = obj.get("status") or {}
    update = spec.get("updateStrategy") or {}
    replicas = spec.get("replicas")
    kind = str(update.get("type") or Strategy.ROLLING_UPDATE.value)
    return SetView(
        name=str(meta.get("name", "")),
        namespace=str(meta.get("namespace", "")),
        uid=str(meta.get("uid", "")),
        generation=int(meta.get("generation") or 0),
        observed_generation=int(status.get("observedGeneration") or 0),
        replicas=1 if replicas is None else int(replicas),
        first_ordinal=int((spec.get("ordinals") or {}).get("start") or 0),
        strategy=Strategy(kind) if kind in {one.value for one in Strategy} else Strategy.UNKNOWN,
        partition=int((update.get("rollingUpdate") or {}).get("partition") or 0),
        min_ready_s=int(spec.get("minReadySeconds") or 0),
        available_replicas=int(status.get("availableReplicas") or 0),
        current_revision=str(status.get("currentRevision") or ""),
        update_revision=str(status.get("updateRevision") or ""),
        deleting=meta.get("deletionTimestamp") is not None,
        claim_template=_claim_template(spec),
    )


def _claim_template(spec: Mapping[str, Json]) -> str:
    template = next(iter(spec.get("volumeClaimTemplates") or ()), None) or {}
    return str((template.get("metadata") or {}).get("name") or "")


def decide_readiness(
    view: SetView,
    pods: Iterable[Pod],
    evidence: Mapping[str, Evidence] | None = None,
    *,
    set_events: tuple[Event, ...] = (),
    gone_uids: Collection[str] = (),
) -> Readiness:
    """Judge every pet of the set.

    ``evidence`` is per pod name and only needed for good sentences. ``gone_uids`` are pods that were told to go:
    such a pod is never ready, however its conditions look.
    """
    by_ordinal = {
        pod.ordinal: pod for pod in pods if pod.ordinal is not None and pod.name == view.pod_name(pod.ordinal)
    }
    pets = tuple(
        _judge(view, ordinal, by_ordinal.get(ordinal), evidence or {}, set_events, gone_uids)
        for ordinal in view.ordinals
    )
    pets = tuple(_stuck(view, pet, pets) for pet in pets)
    note = ""
    if view.deleting:
        note = "the set is being deleted"
    elif view.min_ready_s and view.available_replicas < view.replicas:
        note = f"{view.available_replicas} of {view.replicas} pets are ready for {view.min_ready_s} s"
    return Readiness(pets, view.is_observed, note)


def _judge(
    view: SetView,
    ordinal: int,
    pod: Pod | None,
    evidence: Mapping[str, Evidence],
    set_events: tuple[Event, ...],
    gone_uids: Collection[str],
) -> PetState:
    name = view.pod_name(ordinal)
    if pod is None:
        return PetState(ordinal, name, None, decide_create_trouble(name, set_events))
    if not pod.owner_uid:
        # The controller takes such a pod over; it is the way of a set that was made anew around its pods.
        return PetState(ordinal, name, pod, WhyNot(Trouble.FOREIGN, "its pod is not under the set's control yet"))
    if pod.owner_uid != view.uid:
        why = WhyNot(Trouble.FOREIGN, "a pod of this name belongs to somebody else", "delete that pod", final=True)
        return PetState(ordinal, name, pod, why)
    if pod.uid in gone_uids and not pod.deleting:
        return PetState(ordinal, name, pod, WhyNot(Trouble.TERMINATING, "the old pod has not gone yet"))
    why = decide_why_not_ready(pod, evidence.get(name, _NO_EVIDENCE))
    is_old = bool(view.update_revision) and pod.revision != view.update_revision
    if why is READY and is_old and view.is_observed and view.must_be_new(ordinal):
        why = WhyNot(Trouble.OLD_REVISION, f"ready, but still at revision {pod.revision}; its turn is to come")
    return PetState(ordinal, name, pod, why, outdated=is_old)


# Troubles of a pod that its revision brings with it: a roll-out does not get past them by itself.
_OF_REVISION: Final = frozenset(
    {Trouble.IMAGE, Trouble.CONFIG, Trouble.CRASH, Trouble.PREPARE, Trouble.OUT_OF_MEMORY, Trouble.SCHEDULING}
)
# Troubles of a pet of the new revision that somebody has to mend before the roll-out goes on, its revision's or not.
# What passes by itself is not among them: a start, probes until it is done, locks and a server that are waited for. A
# start that takes far too long counts as well (WhyNot.overdue).
_HOLDS_UP: Final = _OF_REVISION | {
    Trouble.QUOTA,
    Trouble.ADMISSION,
    Trouble.CLAIM,
    Trouble.NO_NFS_CLIENT,
    Trouble.MOUNT_REFUSED,
    Trouble.EXPORT_MISSING,
    Trouble.FOLDER_EMPTIED,
    Trouble.FOLDER_OF_OTHER,
    Trouble.READ_ONLY,
    Trouble.DISK_FULL,
    Trouble.STALE_HANDLE,
    Trouble.WRONG_OWNER,
}


def _holds_up(why: WhyNot) -> bool:
    return why.overdue or why.trouble in _HOLDS_UP


def _stuck(view: SetView, pet: PetState, pets: tuple[PetState, ...]) -> PetState:
    """The pet as it is, or with the name of a roll-out that stands still and the pet that it waits for."""
    way_out = WAY_OUT[Trouble.ROLLOUT_STUCK]
    if pet.why.trouble is Trouble.OLD_REVISION:
        others = [one for one in pets if not one.outdated and not one.ready]
        first = next((one for one in others if _holds_up(one.why)), next(iter(others), None))
        if first is None:
            return pet
        seen = f"{pet.why.seen.partition(';')[0]}; the roll-out waits for {first.name}: {first.why.seen}"
        # One that starts may only take its time: it is named all the same, since it may never get ready.
        if not _holds_up(first.why):
            return replace(pet, why=replace(pet.why, seen=seen))
        return replace(pet, why=WhyNot(Trouble.ROLLOUT_STUCK, seen, way_out))
    if pet.outdated and pet.why.trouble in _OF_REVISION and view.is_observed and view.must_be_new(pet.ordinal):
        revision = pet.pod.revision if pet.pod is not None else ""
        seen = f"{pet.why.seen}; the roll-out waits for this pod of the old revision {revision}"
        return replace(pet, why=WhyNot(Trouble.ROLLOUT_STUCK, seen, way_out, pet.why.final))
    return pet


def plan_healing(view: SetView, pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Pods to delete so that a good template can replace a bad one, highest ordinal first as the controller does.

    Kubernetes waits for a pod of a broken revision to become ready, though it never will, even after the template is
    good again (kubernetes/kubernetes#67250). Only such pods are named: of an old revision, not ready, not already
    going, at an ordinal that the roll-out would replace anyway. Never a ready one, never one of the newest revision.
    """
    if not view.is_observed or not view.update_revision or view.deleting:
        return ()
    stuck = [
        pod
        for pod in pods
        if pod.ordinal is not None
        and pod.ordinal in view.ordinals
        and pod.owner_uid == view.uid
        and pod.revision not in ("", view.update_revision)
        and not pod.ready
        and not pod.deleting
        and view.must_be_new(pod.ordinal)
    ]
    return tuple(sorted(stuck, key=lambda pod: -(pod.ordinal or 0)))
