# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is there to what is wanted: the steps for volumes and claims of a set, or the reasons against it.

Pure. Invariants, re-checked by the property tests:

* no step changes where data is (server and path), nor deletes an object in a plan for ``present``;
* a volume is never taken from another claim, and a claim is never pointed at another volume;
* planning again on the predicted outcome gives no step.

All reasons of all pets are collected before anything is said, so that one run shows everything there is to repair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import names
from .errors import NamespaceMissing, NamespaceTerminating
from .kinds import NAMESPACE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, ObjectRef
from .steps import Findings, Plan, Step, Verb
from .volumes import (
    RETAIN,
    Pet,
    VolumeSet,
    claim_manifest,
    labels_of,
    mount_options_of,
    overlap,
    server_clashes,
    volume_manifest,
)
from .volumes_live import ClaimRef, LiveClaim, LiveVolume, Snapshot, is_ours

IN_TREE_DRIVERS: Mapping[str, str] = {
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
    "kubernetes.io/portworx-volume": "pxd.portworx.com",
}
"""In-tree provisioners that are gone; Kubernetes hands their volumes to these CSI drivers (KEP-625)."""


NO_PROVISIONER = "kubernetes.io/no-provisioner"
"""What a class says whose volumes somebody makes beforehand, such as local ones."""


def driver_of(provisioner: str) -> str | None:
    """The CSI driver that has to be installed for a provisioner, None when that cannot be told from its name.

    >>> driver_of("kubernetes.io/aws-ebs"), driver_of("rancher.io/local-path")
    ('ebs.csi.aws.com', None)
    """
    if provisioner in IN_TREE_DRIVERS:
        return IN_TREE_DRIVERS[provisioner]
    parts = provisioner.replace("/", ".").split(".")
    return provisioner if "csi" in parts else None


def needs_class(wanted: VolumeSet, snapshot: Snapshot) -> bool:
    """True when the storage class has to be looked at: only when a claim is missing, not bound or has to grow."""
    if wanted.is_static:
        return False
    claims = [snapshot.claims.get(pet.claim) for pet in wanted.pets]
    return any(
        claim is None or claim.phase != "Bound" or claim.request_bytes != pet.capacity_bytes
        for pet, claim in zip(wanted.pets, claims, strict=True)
    )


def needs_namespace(wanted: VolumeSet, snapshot: Snapshot) -> bool:
    """True when the namespace has to be looked at: only when a claim is to be made in it."""
    return any(pet.claim not in snapshot.claims for pet in wanted.pets)


def plan_present(
    wanted: VolumeSet, snapshot: Snapshot, *, create_namespace: bool = False, check_mode: bool = False
) -> Plan:
    """The steps that make volumes and claims as wanted.

    Refused: something that is there stands against it; nothing is planned then.
    NamespaceMissing, NamespaceTerminating: no claim can be made.
    """
    found = Findings(warnings=list(wanted.warnings))
    first = _plan_namespace(wanted, snapshot, create_namespace, check_mode, found)
    if not wanted.is_static:
        _check_class(wanted, snapshot, found)
    _check_directories(wanted, snapshot, found)
    groups: dict[int, tuple[Step, ...]] = {}
    for pet in wanted.pets:
        claim = snapshot.claims.get(pet.claim)
        if claim is not None and claim.is_terminating:
            _terminating(PERSISTENT_VOLUME_CLAIM.kind, claim.name, check_mode, found)
            claim = None
        steps: list[Step] = []
        if wanted.is_static:
            steps += _plan_volume(wanted, pet, snapshot, claim, check_mode, found)
        steps += _plan_claim(wanted, pet, snapshot, claim, found)
        if steps:
            groups[pet.ordinal] = tuple(steps)
    found.raise_if_any()
    return Plan(groups, first, tuple(dict.fromkeys(found.warnings)))


def _plan_namespace(
    wanted: VolumeSet, snapshot: Snapshot, create: bool, check_mode: bool, found: Findings
) -> tuple[Step, ...]:
    subject = f"Namespace {wanted.namespace}"
    if snapshot.namespace == "terminating" and needs_namespace(wanted, snapshot):
        raise NamespaceTerminating(
            subject,
            "it is being deleted, so no claim can be made in it",
            way_out="wait until it is gone (a claim that a pod still uses can hold it), then run again",
        )
    if snapshot.namespace != "missing":
        return ()
    if create:
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": wanted.namespace, "labels": {names.LABEL_MANAGED_BY: names.PREFIX}},
        }
        return (Step(Verb.CREATE, ObjectRef(NAMESPACE, wanted.namespace), "it is not there", manifest),)
    if check_mode:
        found.warnings.append(f"{subject} is not there; unless an earlier task makes it, the real run will fail")
        return ()
    raise NamespaceMissing(
        subject, "it is not there", way_out="check its name, or let it be created (create_namespace: true)"
    )


def _check_class(wanted: VolumeSet, snapshot: Snapshot, found: Findings) -> None:
    """The class and its driver have to be there before a claim names them, or the claim waits for ever."""
    if not needs_class(wanted, snapshot):
        return
    subject = f"StorageClass {wanted.storage_class}"
    if snapshot.classes is None:
        found.warnings.append(
            f"{subject} could not be checked, also not whether it deletes the data with the claim:"
            " no permission to get storageclasses"
        )
        return
    known = snapshot.classes.get(wanted.storage_class)
    if known is None:
        listed = ", ".join(sorted(snapshot.classes)) or "none"
        found.refuse(subject, "it is not there", f"make it, or use one of: {listed}")
        return
    if known.provisioner == NO_PROVISIONER:
        _check_ready_made(wanted, snapshot, subject, found)
        return
    driver = driver_of(known.provisioner)
    if driver is None:
        found.warnings.append(
            f"{subject}: whether its provisioner {known.provisioner} is installed cannot be told from the API"
        )
    elif snapshot.drivers is None:
        found.warnings.append(f"{subject}: no permission to look whether CSI driver {driver} is installed")
    elif not snapshot.drivers.get(driver):
        found.refuse(
            subject,
            f"its CSI driver {driver} is not installed, so no volume would ever be made",
            f"install {driver} in the cluster",
        )
    if known.reclaim_policy != RETAIN and not wanted.accept_delete_policy:
        found.refuse(
            subject,
            f"its reclaim policy is {known.reclaim_policy}: the data would go with the claim",
            "make a class like it with reclaimPolicy: Retain, or set accept_delete_policy: true to take the risk",
        )


def _check_ready_made(wanted: VolumeSet, snapshot: Snapshot, subject: str, found: Findings) -> None:
    """A class that makes no volumes has to have one for each claim that needs one, or the claim waits for ever.

    What keeps the data is the reclaim policy of such a volume; that of the class is for volumes that a class makes.
    """
    needing = [pet for pet in wanted.pets if _takes_any(snapshot.claims.get(pet.claim))]
    if not needing:
        return
    if snapshot.ready_made is None:
        found.warnings.append(
            f"{subject}: it makes no volumes, and whether it has any that are free and keep the data cannot be told:"
            " no permission to list persistentvolumes"
        )
        return
    kept = {pet.claim: [one for one in snapshot.ready_made if _is_kept(wanted, pet, snapshot, one)] for pet in needing}
    choosing = [pet for pet in needing if not kept[pet.claim]]
    free = [one for one in snapshot.ready_made if one.claim_ref is None and _is_free(wanted, one)]
    # The smallest claim takes the smallest volume that is large enough: so as many as possible find one.
    left = sorted(free, key=_size)
    without: list[Pet] = []
    for pet in sorted(choosing, key=lambda one: one.capacity_bytes):
        taken = next((one for one in left if _size(one) >= pet.capacity_bytes), None)
        if taken is None:
            without.append(pet)
        else:
            left.remove(taken)
    if without:
        listed = ", ".join(f"{pet.claim} ({pet.capacity})" for pet in sorted(without, key=lambda one: one.ordinal))
        found.refuse(
            subject,
            f"it makes no volumes, and none of its volumes is free for {listed} with access mode {wanted.access_mode}",
            "make a PersistentVolume of that class for each of them (a Released one is free again without its claimRef,"
            " after a look at its data), or use a class with a provisioner, or nfs",
        )
    may_be_taken = [one for volumes in kept.values() for one in volumes]
    if choosing:
        least = min(pet.capacity_bytes for pet in choosing)
        may_be_taken += [one for one in free if _size(one) >= least]
        found.warnings.append(
            f"{subject}: it makes no volumes, and Kubernetes chooses which of those that are there it binds to"
            f" {', '.join(pet.claim for pet in choosing)}; a volume whose claimRef names a claim is kept for it"
        )
    losing = sorted({f"{one.name} ({one.reclaim_policy})" for one in may_be_taken if one.reclaim_policy != RETAIN})
    if losing and not wanted.accept_delete_policy:
        found.refuse(
            subject,
            f"the reclaim policy of its volumes {', '.join(losing)} is not {RETAIN}: the data would go with the claim",
            "set persistentVolumeReclaimPolicy: Retain in them, or set accept_delete_policy: true to take the risk",
        )


def _takes_any(claim: LiveClaim | None) -> bool:
    return claim is None or claim.is_terminating or (claim.phase == "Pending" and not claim.volume)


def _is_free(wanted: VolumeSet, volume: LiveVolume) -> bool:
    """A volume that may be bound to a claim of the set, as far as its size allows. A new one has no phase yet."""
    return (
        not volume.is_terminating
        and volume.phase in ("", "Pending", "Available")
        and wanted.access_mode in volume.access_modes
        and volume.volume_mode == "Filesystem"
    )


def _is_kept(wanted: VolumeSet, pet: Pet, snapshot: Snapshot, volume: LiveVolume) -> bool:
    """A volume that is kept for the claim of this pet, or that is on its way to it."""
    ref, claim = volume.claim_ref, snapshot.claims.get(pet.claim)
    if ref is None or (ref.namespace, ref.name) != (wanted.namespace, pet.claim):
        return False
    if ref.uid:
        return claim is not None and ref.uid == claim.uid
    return _is_free(wanted, volume) and _size(volume) >= pet.capacity_bytes


def _size(volume: LiveVolume) -> int:
    return volume.capacity_bytes or 0


def _check_directories(wanted: VolumeSet, snapshot: Snapshot, found: Findings) -> None:
    """No directory may belong to two: not by another spelling of the server, not by a volume of somebody else."""
    for other, pet in server_clashes(wanted.pets):
        if pet.source is None or other.source is None:
            continue
        if _is_one_server(pet.source.server, other.source.server, snapshot):
            found.refuse(
                f"path of {pet.name}",
                f"{pet.source} and {other.source} of {other.name} are the same server, so both would share files",
                "give each pet a directory of its own",
            )
    for pet, volume in foreign_clashes(wanted, snapshot):
        if pet.source is None or volume.source is None:
            continue
        if not _is_one_server(pet.source.server, volume.source.server, snapshot):
            continue
        there = "" if pet.source.server == volume.source.server else f" as {volume.source}"
        if pet.source.path == volume.source.path:
            claimed = f", reserved for {volume.claim_ref}" if volume.claim_ref else ""
            found.refuse(
                f"path of {pet.name}",
                f"{pet.source} belongs to PersistentVolume {volume.name} already{there}{claimed}",
                f"give {pet.name} a directory of its own, or name that volume in pets[{pet.ordinal}].volume",
            )
        else:
            found.warnings.append(f"{pet.source} of {pet.name} and PersistentVolume {volume.name}{there} share files")


def foreign_clashes(wanted: VolumeSet, snapshot: Snapshot) -> tuple[tuple[Pet, LiveVolume], ...]:
    """Pets, each with a volume that is no pet's of the set and has an overlapping path, perhaps on the same server."""
    own = {pet.volume for pet in wanted.pets}
    return tuple(
        (pet, volume)
        for volume in (snapshot.volumes or {}).values()
        if volume.name not in own and volume.source is not None
        for pet in wanted.pets
        if pet.source is not None and overlap(pet.source.path, volume.source.path)
    )


def servers_in_doubt(wanted: VolumeSet, snapshot: Snapshot) -> frozenset[str]:
    """Servers with different names and overlapping paths: whether they are one, their addresses have to tell."""
    pairs = [(pet.source, other.source) for pet, other in server_clashes(wanted.pets)]
    pairs += [(pet.source, volume.source) for pet, volume in foreign_clashes(wanted, snapshot)]
    return frozenset(
        source.server
        for one, other in pairs
        if one is not None and other is not None and one.server != other.server
        for source in (one, other)
    )


def _is_one_server(one: str, other: str, snapshot: Snapshot) -> bool:
    addresses = [snapshot.addresses.get(server, frozenset()) for server in (one, other)]
    return one == other or bool(addresses[0] & addresses[1])


def _terminating(kind: str, name: str, check_mode: bool, found: Findings) -> None:
    text = f"{kind} {name}"
    if check_mode:
        found.warnings.append(f"{text} is being deleted; the real run waits for that and makes it anew")
    else:
        found.refuse(text, "it is being deleted", "wait until it is gone; a pod that still uses it can hold it")


def _plan_volume(
    wanted: VolumeSet, pet: Pet, snapshot: Snapshot, claim: LiveClaim | None, check_mode: bool, found: Findings
) -> list[Step]:
    if pet.volume is None or pet.source is None:
        return []
    ref = ObjectRef(PERSISTENT_VOLUME, pet.volume)
    live = (snapshot.volumes or {}).get(pet.volume)
    if live is not None and live.is_terminating:
        _terminating(PERSISTENT_VOLUME.kind, live.name, check_mode, found)
        live = None
    if live is None:
        lost = claim is not None and claim.was_bound and claim.volume == pet.volume
        manifest = volume_manifest(wanted, pet, claim.uid if lost and claim is not None else None)
        why = f"claim {pet.claim} has lost it" if lost else "the pet has none"
        return [Step(Verb.CREATE, ref, why, manifest)]
    before = len(found.problems)
    ours = is_ours(live.labels, wanted.namespace, wanted.name)
    _check_volume(wanted, pet, live, claim, ours, found)
    if len(found.problems) > before:
        return []
    patch, reasons = _volume_changes(wanted, pet, live, claim)
    if "mountOptions" in patch.get("spec", {}):
        found.warnings.append(
            f"mount options of {ref} change only for new mounts: restart {pet.name} for them to take effect"
        )
    return [_patch(ref, live.raw, patch, reasons)] if patch else []


def _check_volume(
    wanted: VolumeSet, pet: Pet, live: LiveVolume, claim: LiveClaim | None, ours: bool, found: Findings
) -> None:
    """What cannot be changed in a volume, or must not be, has to agree; of one made by hand all has to."""
    subject = f"PersistentVolume {live.name}"
    if live.source is None or live.source != pet.source:
        there = str(live.source) if live.source else f"a volume of kind {live.source_kind}"
        found.refuse(
            subject,
            f"it stands for {there}, wanted is {pet.source}; where a volume points to cannot be changed",
            f"to move the data: stop {pet.name}, copy the files, remove claim and volume with state absent and "
            f"confirm_absent ['{pet.name}'], then run again; to keep them, set server and path back",
        )
    if live.claim_ref is not None and (live.claim_ref.namespace, live.claim_ref.name) != (wanted.namespace, pet.claim):
        found.refuse(
            subject,
            f"it is reserved for claim {live.claim_ref}, wanted is {wanted.namespace}/{pet.claim}",
            "choose another name with volume_pattern, or free that volume by hand after looking at its data",
        )
    label = live.labels.get(names.LABEL_ORDINAL)
    others = {key: live.labels.get(key) for key in (names.LABEL_SET, names.LABEL_NAMESPACE)}
    foreign = [value for key, value in others.items() if value not in (None, _own(wanted)[key])]
    if foreign or (label is not None and label != str(pet.ordinal)):
        owner = "/".join(str(value) for value in others.values())
        found.refuse(
            subject,
            f"its labels say that it belongs to ordinal {label} of {owner}, wanted is {pet.name}",
            "correct volume_pattern or the ordinal",
        )
    if live.capacity_bytes != pet.capacity_bytes:
        found.refuse(
            subject,
            f"its capacity is {live.capacity}, wanted is {pet.capacity}; volumes on NFS have no size of their own and "
            "their claims cannot be resized (only dynamically provisioned ones can)",
            f"leave capacity at {live.capacity} for this pet (pets[].capacity); the real limit is on the NFS server",
        )
    if live.volume_mode != "Filesystem" or live.read_only:
        found.refuse(subject, "it is a block or read-only volume", "use another volume for this pet")
    if live.storage_class != "":
        found.refuse(
            subject,
            f"its class is {live.storage_class!r}, wanted is '' (none)",
            "the class of a volume cannot be changed: make the volume anew, its data stays where it is",
        )
    bound = claim is not None and live.claim_ref is not None and live.claim_ref.uid == claim.uid
    if wanted.access_mode not in live.access_modes and (bound or not ours):
        found.refuse(
            subject,
            f"its access modes are {_joined(live.access_modes)}, wanted is {wanted.access_mode}",
            f"set access_mode to {_joined(live.access_modes)}",
        )
    if not ours:
        _check_foreign_volume(mount_options_of(wanted, pet), live, subject, found)


def _check_foreign_volume(mount_options: Sequence[str], live: LiveVolume, subject: str, found: Findings) -> None:
    differences = []
    if live.reclaim_policy != RETAIN:
        differences.append(f"reclaim policy {live.reclaim_policy}, wanted {RETAIN}")
    if set(live.mount_options) != set(mount_options):
        differences.append(
            f"mount options {', '.join(live.mount_options) or 'none'}, wanted {', '.join(mount_options)}"
        )
    if differences:
        found.refuse(
            subject,
            f"it was made by somebody else and differs: {'; '.join(differences)}",
            "change it by hand so that it agrees, or name another volume; it is adopted only when everything agrees",
        )


def _volume_changes(
    wanted: VolumeSet, pet: Pet, live: LiveVolume, claim: LiveClaim | None
) -> tuple[dict[str, Any], list[str]]:
    """The merge patch for what may be changed, and why."""
    spec: dict[str, Any] = {}
    reasons: list[str] = []
    if live.reclaim_policy != RETAIN:
        spec["persistentVolumeReclaimPolicy"] = RETAIN
        reasons.append(f"reclaim policy {live.reclaim_policy} would not keep the data")
    mount_options = mount_options_of(wanted, pet)
    if set(live.mount_options) != set(mount_options):
        spec["mountOptions"] = list(mount_options)
        reasons.append("mount options differ")
    if wanted.access_mode not in live.access_modes:
        spec["accessModes"] = [wanted.access_mode]
        reasons.append("access mode differs")
    ref = live.claim_ref
    if ref is None:
        spec["claimRef"] = volume_manifest(wanted, pet)["spec"]["claimRef"]
        reasons.append("not reserved for its claim")
    elif _is_stale(ref, claim):
        # Of the old binding only uid and version go; the claim stays the same by name.
        spec["claimRef"] = {"uid": None, "resourceVersion": None}
        reasons.append(f"repaired: released by an earlier {ref}, data kept")
        if claim is not None and claim.was_bound:
            spec["claimRef"]["uid"] = claim.uid
    elif ref.uid == "" and claim is not None and claim.was_bound and claim.volume == live.name:
        spec["claimRef"] = {"uid": claim.uid}
        reasons.append(f"claim {pet.claim} was bound to it and has lost it")
    patch: dict[str, Any] = {"spec": spec} if spec else {}
    labels = _label_changes(live.labels, labels_of(wanted, pet))
    if labels:
        patch["metadata"] = {"labels": labels}
        reasons.append("labels")
    return patch, reasons


def _is_stale(ref: ClaimRef, claim: LiveClaim | None) -> bool:
    return ref.uid != "" and (claim is None or claim.uid != ref.uid)


def _plan_claim(wanted: VolumeSet, pet: Pet, snapshot: Snapshot, live: LiveClaim | None, found: Findings) -> list[Step]:
    ref = ObjectRef(PERSISTENT_VOLUME_CLAIM, pet.claim, wanted.namespace)
    if live is None:
        return [Step(Verb.CREATE, ref, "the pet has none", claim_manifest(wanted, pet))]
    before = len(found.problems)
    _check_claim(wanted, pet, snapshot, live, str(ref), found)
    if len(found.problems) > before:
        return []
    spec: dict[str, Any] = {}
    reasons: list[str] = []
    if pet.volume is not None and live.volume == "":
        spec["volumeName"] = pet.volume
        reasons.append("would bind to any volume that fits")
    if live.request_bytes is not None and live.request_bytes < pet.capacity_bytes:
        spec["resources"] = {"requests": {"storage": pet.capacity}}
        reasons.append(f"grows from {live.request}")
    patch: dict[str, Any] = {"spec": spec} if spec else {}
    labels = _label_changes(live.labels, labels_of(wanted, pet))
    if labels:
        patch["metadata"] = {"labels": labels}
        reasons.append("labels")
    return [_patch(ref, live.raw, patch, reasons)] if patch else []


def _check_claim(
    wanted: VolumeSet, pet: Pet, snapshot: Snapshot, live: LiveClaim, subject: str, found: Findings
) -> None:
    """A claim's spec cannot be changed after it is made, but for the request of a class that can expand."""
    way_out = (
        f"stop {pet.name}, then remove claim and volume as objects (state absent, confirm_absent ['{pet.name}']; the "
        "data stays) and run again, or set the option to what is there"
    )
    there = "none" if live.storage_class is None else repr(live.storage_class)
    if (live.storage_class or "") != wanted.storage_class:
        found.refuse(
            subject,
            f"its storage class is {there}, wanted is {wanted.storage_class!r}; that cannot be changed",
            way_out,
        )
    if pet.volume is not None and live.volume not in ("", pet.volume):
        found.refuse(
            subject,
            f"it is bound to volume {live.volume}, wanted is {pet.volume}; that cannot be changed",
            f"if {live.volume} holds the data of {pet.name}, name it in pets[].volume; else " + way_out,
        )
    if wanted.access_mode not in live.access_modes:
        found.refuse(
            subject,
            f"its access modes are {_joined(live.access_modes)}, wanted is {wanted.access_mode}; they cannot change",
            f"set access_mode to {_joined(live.access_modes)}, or " + way_out,
        )
    if live.volume_mode != "Filesystem":
        found.refuse(subject, f"its volume mode is {live.volume_mode}, wanted is Filesystem", way_out)
    for label in (names.LABEL_SET, names.LABEL_ORDINAL):
        value = live.labels.get(label)
        if value not in (None, labels_of(wanted, pet)[label]):
            found.refuse(subject, f"its label {label} says {value!r}", "correct the names of set and claim template")
    if live.request_bytes is None or live.request_bytes > pet.capacity_bytes:
        found.refuse(
            subject,
            f"it asks for {live.request or 'nothing readable'}, wanted is {pet.capacity}; a claim cannot shrink",
            f"set capacity to {live.request} for this pet (pets[].capacity)",
        )
    elif live.request_bytes < pet.capacity_bytes:
        _check_growth(wanted, pet, snapshot, live, subject, found)


def _check_growth(
    wanted: VolumeSet, pet: Pet, snapshot: Snapshot, live: LiveClaim, subject: str, found: Findings
) -> None:
    asked = f"it asks for {live.request}, wanted is {pet.capacity}"
    if wanted.is_static:
        found.refuse(
            subject,
            f"{asked}; only claims of dynamically provisioned volumes can be resized",
            f"leave capacity at {live.request} for this pet (pets[].capacity); the real limit is on the NFS server",
        )
        return
    known = (snapshot.classes or {}).get(wanted.storage_class)
    if known is not None and not known.can_expand:
        found.refuse(
            subject,
            f"{asked}, but StorageClass {known.name} has no allowVolumeExpansion",
            f"set allowVolumeExpansion: true in that class if its driver can, or leave capacity at {live.request}",
        )
    elif live.phase != "Bound":
        found.refuse(
            subject, f"{asked}, but it is not bound yet and only bound claims can grow", "run again once it is"
        )


def _patch(ref: ObjectRef, live: Mapping[str, Any], patch: dict[str, Any], reasons: list[str]) -> Step:
    version = (live.get("metadata") or {}).get("resourceVersion")
    metadata = {**patch.get("metadata", {}), "resourceVersion": version}
    return Step(Verb.PATCH, ref, "; ".join(reasons), {**patch, "metadata": metadata}, live)


def _label_changes(live: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in wanted.items() if live.get(key) != value}


def _own(wanted: VolumeSet) -> dict[str, str]:
    return names.own_labels(wanted.namespace, wanted.name)


def _joined(modes: frozenset[str]) -> str:
    return ", ".join(sorted(modes)) or "none"
