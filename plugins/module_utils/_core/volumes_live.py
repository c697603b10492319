# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes and claims as they are in the cluster: from the API's JSON to what the planner looks at.

Garbage becomes an empty value, never an exception: other people's objects are among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import names
from .quantity import read_quantity
from .volumes import NfsSource, canonical_path, canonical_server

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """The claim that a volume is reserved for or was bound to; ``uid`` is empty until it is bound."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class LiveVolume:
    """A PersistentVolume. ``capacity_bytes`` is None when unreadable; ``source`` is None for all but NFS."""

    raw: Json
    name: str
    phase: str
    source: NfsSource | None
    source_kind: str
    claim_ref: ClaimRef | None
    capacity_bytes: int | None
    capacity: str
    access_modes: frozenset[str]
    storage_class: str
    reclaim_policy: str
    mount_options: tuple[str, ...]
    labels: Mapping[str, str]
    volume_mode: str
    read_only: bool
    is_terminating: bool


@dataclass(frozen=True, slots=True)
class LiveClaim:
    """A PersistentVolumeClaim. ``storage_class`` is None when none was ever written.

    ``was_bound``: the controller noted a finished binding; such a claim takes no other volume any more.
    """

    raw: Json
    name: str
    uid: str
    phase: str
    volume: str
    storage_class: str | None
    access_modes: frozenset[str]
    request_bytes: int | None
    request: str
    labels: Mapping[str, str]
    volume_mode: str
    was_bound: bool
    is_terminating: bool


@dataclass(frozen=True, slots=True)
class LiveClass:
    """A StorageClass."""

    name: str
    provisioner: str
    reclaim_policy: str
    waits_for_consumer: bool
    can_expand: bool
    is_default: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was read. None means that it was not looked at or may not be read: never that it is not there.

    ``namespace``  ``present``, ``missing``, ``terminating`` or ``unknown``
    ``volumes``    every volume of the cluster by name
    ``claims``     every claim of the namespace by name
    ``classes``    every storage class by name
    ``drivers``    of the CSI drivers that were asked for, those that are installed
    ``users``      for each claim the pods that name it
    ``set_ordinals`` the ordinals that a StatefulSet of that name wants
    ``ready_made`` the volumes of a class that makes none
    ``waiting``    claims whose events say that they wait for their first pod
    ``addresses``  for servers whose spelling left a doubt, their addresses
    """

    namespace: str = "unknown"
    volumes: Mapping[str, LiveVolume] | None = None
    claims: Mapping[str, LiveClaim] = field(default_factory=dict)
    classes: Mapping[str, LiveClass] | None = None
    drivers: Mapping[str, bool] | None = None
    ready_made: tuple[LiveVolume, ...] | None = None
    users: Mapping[str, tuple[str, ...]] | None = None
    set_ordinals: frozenset[int] | None = None
    waiting: frozenset[str] = frozenset()
    addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)


def parse_volume(raw: Json) -> LiveVolume:
    """A PersistentVolume of the API."""
    metadata, spec = _map(raw, "metadata"), _map(raw, "spec")
    nfs, ref = _map(spec, "nfs"), _map(spec, "claimRef")
    source = None
    if nfs:
        source = NfsSource(canonical_server(str(nfs.get("server", ""))), canonical_path(str(nfs.get("path", ""))))
    kinds = [key for key, value in spec.items() if isinstance(value, Mapping) and key not in _NO_SOURCES]
    capacity = str(_map(spec, "capacity").get("storage", ""))
    return LiveVolume(
        raw=raw,
        name=str(metadata.get("name", "")),
        phase=str(_map(raw, "status").get("phase", "")),
        source=source,
        source_kind="nfs" if nfs else next(iter(kinds), "unknown"),
        claim_ref=ClaimRef(*(str(ref.get(key) or "") for key in ("namespace", "name", "uid"))) if ref else None,
        capacity_bytes=_bytes(capacity),
        capacity=capacity,
        access_modes=frozenset(_strings(spec.get("accessModes"))),
        storage_class=str(spec.get("storageClassName") or ""),
        reclaim_policy=str(spec.get("persistentVolumeReclaimPolicy") or ""),
        mount_options=tuple(_strings(spec.get("mountOptions"))),
        labels=_labels(metadata),
        volume_mode=str(spec.get("volumeMode") or "Filesystem"),
        read_only=bool(nfs.get("readOnly")),
        is_terminating=bool(metadata.get("deletionTimestamp")),
    )


def parse_claim(raw: Json) -> LiveClaim:
    """A PersistentVolumeClaim of the API."""
    metadata, spec = _map(raw, "metadata"), _map(raw, "spec")
    request = str(_map(_map(spec, "resources"), "requests").get("storage", ""))
    storage_class = spec.get("storageClassName")
    return LiveClaim(
        raw=raw,
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        phase=str(_map(raw, "status").get("phase", "")),
        volume=str(spec.get("volumeName") or ""),
        storage_class=None if storage_class is None else str(storage_class),
        access_modes=frozenset(_strings(spec.get("accessModes"))),
        request_bytes=_bytes(request),
        request=request,
        labels=_labels(metadata),
        volume_mode=str(spec.get("volumeMode") or "Filesystem"),
        was_bound="pv.kubernetes.io/bind-completed" in _map(metadata, "annotations"),
        is_terminating=bool(metadata.get("deletionTimestamp")),
    )


def parse_class(raw: Json) -> LiveClass:
    """A StorageClass of the API. Its reclaim policy is Delete when none is written."""
    metadata = _map(raw, "metadata")
    annotations = _map(metadata, "annotations")
    return LiveClass(
        name=str(metadata.get("name", "")),
        provisioner=str(raw.get("provisioner") or ""),
        reclaim_policy=str(raw.get("reclaimPolicy") or "Delete"),
        waits_for_consumer=raw.get("volumeBindingMode") == "WaitForFirstConsumer",
        can_expand=bool(raw.get("allowVolumeExpansion")),
        is_default=annotations.get("storageclass.kubernetes.io/is-default-class") == "true",
    )


def users_of_claims(pods: Sequence[Json]) -> dict[str, tuple[str, ...]]:
    """For each claim the pods that name it and are not finished, sorted."""
    users: dict[str, set[str]] = {}
    for pod in pods:
        if _map(pod, "status").get("phase") in ("Succeeded", "Failed"):
            continue
        for volume in _map(pod, "spec").get("volumes") or ():
            claim = _map(volume, "persistentVolumeClaim").get("claimName") if isinstance(volume, Mapping) else None
            if claim:
                users.setdefault(str(claim), set()).add(str(_map(pod, "metadata").get("name", "")))
    return {claim: tuple(sorted(pods_)) for claim, pods_ in users.items()}


def ordinals_of_set(raw: Json | None) -> frozenset[int]:
    """The ordinals that a StatefulSet wants; none when it is not there or being deleted."""
    if raw is None or _map(raw, "metadata").get("deletionTimestamp"):
        return frozenset()
    spec = _map(raw, "spec")
    replicas = spec.get("replicas")
    start = int(_map(spec, "ordinals").get("start") or 0)
    return frozenset(range(start, start + (1 if replicas is None else int(replicas))))


def is_ours(labels: Mapping[str, str], namespace: str, set_name: str) -> bool:
    """True when the labels say that the collection made or adopted it for this set."""
    wanted = names.own_labels(namespace, set_name)
    return all(labels.get(key) == value for key, value in wanted.items())


_NO_SOURCES = frozenset({"capacity", "claimRef", "nodeAffinity"})


def _map(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _strings(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


def _labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in _map(metadata, "labels").items()}


def _bytes(text: str) -> int | None:
    exact = read_quantity(text)
    return int(exact) if exact is not None and exact.denominator == 1 else None
