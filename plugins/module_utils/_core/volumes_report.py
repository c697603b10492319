# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of each pet's claim in words: bound, waiting for its pod, or why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .judgement import Judgement
from .names import LABEL_ORDINAL, claim_name, pet_name
from .volumes import Pet, VolumeSet
from .volumes_live import LiveClaim, LiveVolume, Snapshot, is_ours

_EVENT_HINTS: Mapping[str, str] = {
    "ProvisioningFailed": "look at the storage class and the logs of its provisioner",
    "FailedBinding": "a volume with this class, mode and size has to be there",
    "ClaimMisbound": "two claims want one volume: look at claimRef of the volume",
    "VolumeMismatch": "claim and volume do not fit: look at class, access mode and capacity",
    "ExternalProvisioning": "the provisioner has not answered yet: is it running?",
}


@dataclass(frozen=True, slots=True)
class ClaimReport:
    """One pet in the result. ``phase`` is empty for a claim that is not there; ``ready``: nothing is waited for."""

    ordinal: int
    name: str
    claim: str
    claim_uid: str
    volume: str
    server: str
    path: str
    storage_class: str
    capacity: str
    phase: str
    volume_phase: str
    ready: bool
    reason: str

    def as_result(self) -> dict[str, Any]:
        """The report as a mapping for the result of the module."""
        return asdict(self)


def report_claims(wanted: VolumeSet, snapshot: Snapshot) -> list[ClaimReport]:
    """The state of every pet of the set, in the order of their ordinals."""
    return [_report(wanted, pet, snapshot) for pet in wanted.pets]


def judge_bound(wanted: VolumeSet, snapshot: Snapshot) -> Judgement:
    """Done when every claim is bound both ways, or rightly waits for its first pod."""
    reports = report_claims(wanted, snapshot)
    ready = sum(report.ready for report in reports)
    missing = "; ".join(f"{report.claim}: {report.reason}" for report in reports if not report.ready)
    summary = f"{ready} of {len(reports)} claims bound" + (f"; {missing}" if missing else "")
    return Judgement(ready == len(reports), summary, [report.as_result() for report in reports])


def explain_claims(wanted: VolumeSet, snapshot: Snapshot, events: Sequence[Mapping[str, Any]]) -> Judgement:
    """As judge_bound, with the last event of each claim that is not bound."""
    judgement = judge_bound(wanted, snapshot)
    last: dict[str, Mapping[str, Any]] = {}
    for one in sorted(events, key=_when):
        last[str((one.get("involvedObject") or {}).get("name", ""))] = one
    pets: list[dict[str, Any]] = []
    told: list[str] = []
    hints: list[str] = []
    for pet in judgement.pets:
        event = last.get(str(pet["claim"]), {})
        text = f"{event.get('reason')}: {event.get('message')}" if event else ""
        pets.append({**pet, "event": text})
        if not pet["ready"]:
            told.append(f"{pet['claim']}: {pet['reason']}" + (f" ({text})" if text else " (no event)"))
            hints.append(_EVENT_HINTS.get(str(event.get("reason")), ""))
    ready = sum(bool(pet["ready"]) for pet in judgement.pets)
    way_out = next(
        (hint for hint in hints if hint), "look at the events of the claim; is the controller manager running?"
    )
    return Judgement(judgement.done, f"{ready} of {len(pets)} claims bound; " + "; ".join(told), pets, way_out=way_out)


def judge_gone(wanted: VolumeSet, snapshot: Snapshot, uids: set[str]) -> Judgement:
    """Done when no claim and no volume has one of these uids. What holds a claim is named when users are known."""
    left: list[str] = []
    pets: list[dict[str, Any]] = []
    for claim in snapshot.claims.values():
        if claim.uid in uids:
            users = ", ".join((snapshot.users or {}).get(claim.name, ()))
            held = f", held by pod {users}" if users else ""
            left.append(f"PersistentVolumeClaim {wanted.namespace}/{claim.name}{held}")
            pets.append({"claim": claim.name, "held_by": users})
    for volume in (snapshot.volumes or {}).values():
        if (volume.raw.get("metadata") or {}).get("uid") in uids:
            left.append(f"PersistentVolume {volume.name} ({volume.phase})")
    summary = "all gone" if not left else "still there: " + "; ".join(left)
    return Judgement(not left, summary, pets, way_out="end the pods that use the claim, then run again")


def _report(wanted: VolumeSet, pet: Pet, snapshot: Snapshot) -> ClaimReport:
    claim = snapshot.claims.get(pet.claim)
    bound_to = claim.volume if claim else ""
    volume = (snapshot.volumes or {}).get(bound_to or pet.volume or "")
    ready, reason = _state(wanted, pet, snapshot, claim)
    source = (volume.source if volume else None) or pet.source
    return ClaimReport(
        ordinal=pet.ordinal,
        name=pet.name,
        claim=pet.claim,
        claim_uid=claim.uid if claim else "",
        volume=bound_to or pet.volume or "",
        server=source.server if source else "",
        path=source.path if source else "",
        storage_class=(claim.storage_class or "") if claim else wanted.storage_class,
        capacity=claim.request if claim else pet.capacity,
        phase=claim.phase if claim else "",
        volume_phase=volume.phase if volume else "",
        ready=ready,
        reason=reason,
    )


def _state(wanted: VolumeSet, pet: Pet, snapshot: Snapshot, claim: LiveClaim | None) -> tuple[bool, str]:
    if claim is None:
        return False, "not there"
    if claim.is_terminating:
        return False, "being deleted"
    if claim.phase != "Bound":
        known = (snapshot.classes or {}).get(wanted.storage_class)
        waits = claim.name in snapshot.waiting or (known is not None and known.waits_for_consumer)
        if claim.phase == "Pending" and waits:
            return True, "waits for its first pod, as its class wants it"
        return False, f"{claim.phase or 'new'}" + (
            f" (its volume {claim.volume} is gone)" if claim.phase == "Lost" else ""
        )
    if pet.volume is None:
        return True, "bound"
    volume = (snapshot.volumes or {}).get(pet.volume)
    if claim.volume != pet.volume:
        return False, f"bound to {claim.volume} instead of {pet.volume}"
    if volume is not None and (volume.claim_ref is None or volume.claim_ref.uid != claim.uid):
        return False, f"bound, but volume {pet.volume} is not bound to it ({volume.phase})"
    return True, "bound"


def _when(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((one for one in times if one), (event.get("metadata") or {}).get("creationTimestamp") or ""))


def find_pets_in(namespace: str, set_name: str, template: str, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every pet that has a claim by name, or a volume that is reserved for such a claim, whoever made them."""
    prefix = claim_name(template, set_name, 0)[:-1]
    named = list(snapshot.claims)
    for volume in (snapshot.volumes or {}).values():
        if volume.claim_ref is not None and volume.claim_ref.namespace == namespace:
            named.append(volume.claim_ref.name)
    ordinals = sorted({int(name[len(prefix) :]) for name in named if _is_claim(name, prefix)})
    return [_found(namespace, set_name, template, ordinal, snapshot) for ordinal in ordinals]


def find_others_in(wanted: VolumeSet, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Pets of the set that are not wanted here and have a claim or a volume all the same, by name or by our labels."""
    found = {
        one["ordinal"]: one for one in find_pets_in(wanted.namespace, wanted.name, wanted.claim_template, snapshot)
    }
    for _name, volume in sorted((snapshot.volumes or {}).items()):
        label = volume.labels.get(LABEL_ORDINAL, "")
        if is_ours(volume.labels, wanted.namespace, wanted.name) and _is_claim(label, "") and int(label) not in found:
            ordinal = int(label)
            found[ordinal] = _found(
                wanted.namespace, wanted.name, wanted.claim_template, ordinal, snapshot, labelled=volume
            )
    ours = {pet.ordinal for pet in wanted.pets}
    return [one for ordinal, one in sorted(found.items()) if ordinal not in ours]


def _is_claim(name: str, prefix: str) -> bool:
    tail = name[len(prefix) :]
    return name.startswith(prefix) and tail.isdecimal() and tail.isascii() and str(int(tail)) == tail


def _found(
    namespace: str,
    set_name: str,
    template: str,
    ordinal: int,
    snapshot: Snapshot,
    labelled: LiveVolume | None = None,
) -> dict[str, Any]:
    name = claim_name(template, set_name, ordinal)
    claim = snapshot.claims.get(name)
    volumes = snapshot.volumes or {}
    if claim is not None and claim.volume:
        volume = volumes.get(claim.volume)
    else:
        refs = [one for one in volumes.values() if one.claim_ref and str(one.claim_ref) == f"{namespace}/{name}"]
        volume = refs[0] if refs else labelled
    pet = Pet(ordinal, pet_name(set_name, ordinal), name, 0, "", volume.name if volume else None)
    wanted = VolumeSet(namespace, set_name, template, (pet,), "", "", (), {})
    return {
        **_report(wanted, pet, snapshot).as_result(),
        "reclaim_policy": volume.reclaim_policy if volume else "",
        "mount_options": list(volume.mount_options) if volume else [],
    }


def find_volumes_in(directories: Sequence[str], snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every NFS volume that is one of these directories (canonical) or below one, whoever made it, by name."""
    above = tuple(f"{one.rstrip('/')}/" for one in directories)
    return [
        {
            "name": volume.name,
            "claim": str(volume.claim_ref or ""),
            "phase": volume.phase,
            "server": volume.source.server,
            "path": volume.source.path,
        }
        for _name, volume in sorted((snapshot.volumes or {}).items())
        if volume.source is not None and f"{volume.source.path}/".startswith(above)
    ]
