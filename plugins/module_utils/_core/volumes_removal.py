# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of claims and volumes as objects: what has to be true before, and the steps. Pure.

Invariant, re-checked by the property tests: a step exists only for a pet that is confirmed by name, whose claim no
pod uses, and whose volume keeps its data.
"""

from __future__ import annotations

from dataclasses import replace

from . import names
from .errors import InvalidInput
from .kinds import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, ObjectRef
from .steps import Findings, Plan, Step, Verb
from .volumes import RETAIN, Pet, VolumeSet
from .volumes_live import LiveClaim, LiveVolume, Snapshot, is_ours


def plan_absent(wanted: VolumeSet, snapshot: Snapshot, confirmed: tuple[str, ...]) -> Plan:
    """The steps that remove claims and volumes as objects; data and whatever holds it stay.

    ``confirmed``: the names of the pets whose objects may go, each in full.
    InvalidInput: a name that is none of these pets. Refused: not confirmed, in use, not kept by policy, not ours.
    """
    known = {pet.name for pet in wanted.pets}
    for name in confirmed:
        if name not in known:
            raise InvalidInput("confirm_absent", name, "no such pet in this call", ", ".join(sorted(known)))
    found = Findings()
    groups: dict[int, tuple[Step, ...]] = {}
    kept: list[str] = []
    for pet in wanted.pets:
        steps = _plan_removal(wanted, pet, snapshot, pet.name in confirmed, found, kept)
        if steps:
            groups[pet.ordinal] = tuple(steps)
    found.raise_if_any()
    return Plan(groups, (), tuple(found.warnings), tuple(kept))


def without_set(wanted: VolumeSet, snapshot: Snapshot) -> Snapshot:
    """What will be there once the set and its pods are gone, whoever else uses the claims: for a prediction."""
    pets = {pet.name for pet in wanted.pets}
    users = None
    if snapshot.users is not None:
        users = {claim: tuple(pod for pod in pods if pod not in pets) for claim, pods in snapshot.users.items()}
    return replace(snapshot, users=users, set_ordinals=frozenset())


def is_anything_left(wanted: VolumeSet, snapshot: Snapshot) -> bool:
    """True when any pet still has a claim or a volume."""
    claims = [snapshot.claims.get(pet.claim) for pet in wanted.pets]
    return any(
        claim is not None or _volume_of(wanted, pet, snapshot, None) is not None
        for pet, claim in zip(wanted.pets, claims, strict=True)
    )


def _plan_removal(
    wanted: VolumeSet, pet: Pet, snapshot: Snapshot, confirmed: bool, found: Findings, kept: list[str]
) -> list[Step]:
    claim = snapshot.claims.get(pet.claim)
    volume = _volume_of(wanted, pet, snapshot, claim)
    if claim is None and not _is_of_no_class(volume):
        if volume is not None:
            kept.append(_describe(pet, volume))
        return []
    before = len(found.problems)
    if not confirmed:
        there = [f"claim {claim.name}"] if claim else []
        there += [f"volume {volume.name}"] if volume else []
        found.refuse(
            f"pet {pet.name}",
            f"removing {' and '.join(there)} is not confirmed",
            f"name the pet in confirm_absent: ['{pet.name}']; the data stays, only the objects go",
        )
    _check_gone(wanted, pet, snapshot, found)
    _check_kept(wanted, pet, snapshot, claim, volume, found)
    if len(found.problems) > before:
        return []
    steps: list[Step] = []
    if claim is not None and not claim.is_terminating:
        ref = ObjectRef(PERSISTENT_VOLUME_CLAIM, claim.name, wanted.namespace)
        steps.append(Step(Verb.DELETE, ref, "confirmed", before=claim.raw))
    if volume is not None and _is_of_no_class(volume):
        kept.append(f"{pet.name}: {volume.source}")
        if not volume.is_terminating:
            ref = ObjectRef(PERSISTENT_VOLUME, volume.name)
            steps.append(Step(Verb.DELETE, ref, "confirmed; its directory stays", before=volume.raw))
    elif volume is not None:
        kept.append(_describe(pet, volume))
    return steps


def _is_of_no_class(volume: LiveVolume | None) -> bool:
    """A volume on NFS as the collection makes and adopts them, which may go as an object.

    One of a class is kept, wherever it is: its object is all that tells where the data is, and it is not ours.
    """
    return volume is not None and volume.source is not None and volume.storage_class == ""


def _describe(pet: Pet, volume: LiveVolume) -> str:
    return f"{pet.name}: PersistentVolume {volume.name} ({volume.source or volume.source_kind})"


def _volume_of(wanted: VolumeSet, pet: Pet, snapshot: Snapshot, claim: LiveClaim | None) -> LiveVolume | None:
    """The volume of a pet: what its claim names, else the one that our labels or its reservation give to the pet."""
    volumes = snapshot.volumes or {}
    if claim is not None and claim.volume:
        return volumes.get(claim.volume)
    for volume in volumes.values():
        ref = volume.claim_ref
        reserved = ref is not None and (ref.namespace, ref.name) == (wanted.namespace, pet.claim)
        labelled = volume.labels.get(names.LABEL_ORDINAL) == str(pet.ordinal)
        if reserved and labelled and is_ours(volume.labels, wanted.namespace, wanted.name):
            return volume
    return None


def _check_gone(wanted: VolumeSet, pet: Pet, snapshot: Snapshot, found: Findings) -> None:
    """A claim must not be removed under a pet that runs, nor one that the set would start again at once."""
    if snapshot.users is None:
        found.refuse(
            f"pet {pet.name}",
            "whether a pod uses its claim cannot be seen",
            f"allow list of pods in {wanted.namespace}",
        )
    elif snapshot.users.get(pet.claim):
        pods = ", ".join(snapshot.users[pet.claim])
        found.refuse(
            f"PersistentVolumeClaim {wanted.namespace}/{pet.claim}",
            f"it is in use by {pods}",
            f"scale the set down to {pet.ordinal} pets or remove it first, and wait until the pod is gone",
        )
    elif snapshot.set_ordinals is None:
        found.refuse(
            f"pet {pet.name}",
            f"whether StatefulSet {wanted.namespace}/{wanted.name} still wants it cannot be seen",
            f"allow get of statefulsets in {wanted.namespace}",
        )
    elif pet.ordinal in snapshot.set_ordinals:
        found.refuse(
            f"pet {pet.name}",
            f"StatefulSet {wanted.namespace}/{wanted.name} still wants it and would make the claim anew, empty",
            f"scale the set down to {pet.ordinal} pets or remove it first",
        )


def _check_kept(
    wanted: VolumeSet,
    pet: Pet,
    snapshot: Snapshot,
    claim: LiveClaim | None,
    volume: LiveVolume | None,
    found: Findings,
) -> None:
    """Retention: removing the objects must not remove the data, and they have to be ours."""
    for kind, one in ((PERSISTENT_VOLUME_CLAIM, claim), (PERSISTENT_VOLUME, volume)):
        if one is None or (kind is PERSISTENT_VOLUME and not _is_of_no_class(volume)):
            continue
        if not is_ours(one.labels, wanted.namespace, wanted.name):
            found.refuse(
                f"{kind.kind} {one.name}",
                "it does not carry the labels of this set, so it may be somebody else's",
                "adopt it first with state present, or remove it by hand",
            )
    if volume is not None and volume.reclaim_policy != RETAIN:
        found.refuse(
            f"PersistentVolume {volume.name}",
            f"its reclaim policy is {volume.reclaim_policy}: removing claim {pet.claim} would destroy the data",
            f"set it to Retain first: kubectl patch pv {volume.name} "
            '-p \'{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}\'',
        )
    elif claim is not None and claim.volume and snapshot.volumes is None:
        found.refuse(
            f"PersistentVolume {claim.volume}",
            "it cannot be read, so whether it keeps its data cannot be seen",
            "allow list of persistentvolumes, or let an administrator remove the claim",
        )
