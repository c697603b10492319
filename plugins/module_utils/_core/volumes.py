# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What volumes and claims a set of pets is to have, read from the options of pet_volume, and their manifests.

Everything that can be wrong with the options is found here, before any request is sent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import names
from .errors import InvalidInput
from .quantity import format_bytes, parse_capacity

DEFAULT_MOUNT_OPTIONS = (
    "nfsvers=4.1",
    "hard",
    "proto=tcp",
    "timeo=600",
    "retrans=2",
    "noatime",
    "nosuid",
    "nodev",
)
"""What MySQL needs of NFS. 60 s and two repeats are the defaults of TCP, written down; see nfs(5)."""
# Names of transports (netids) with an address family, see nfs(5): mount.nfs does not reach IPv6 with proto=tcp.
_OF_IPV4, _OF_IPV6 = ("tcp", "rdma"), ("tcp6", "rdma6")
DEFAULT_VOLUME_PATTERN = "{namespace}-{set}-{ordinal}"
DEFAULT_CLAIM_TEMPLATE = "db"
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany")
RETAIN = "Retain"

_NAME_PART = re.compile(r"[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?", re.ASCII)
_SAFE_VERSIONS = ("4.1", "4.2")
_REFUSED_OPTIONS: Mapping[str, str] = {
    "soft": "after a time-out MySQL would see errors and could lose or corrupt data; use hard",
    "softerr": "after a time-out MySQL would see errors and could lose or corrupt data; use hard",
    "nolock": "locks would hold on one node only, so two servers could open the same data",
    "udp": "NFS over UDP can corrupt data; use proto=tcp",
    "bg": "a mount in the background lets the pet start without its data",
    "ro": "a database has to write",
    "nocto": "another node could see old data after a pet moved",
    "noac": "every write would be synchronous; one server to a directory does not need it",
    "v3": "NFS version 3 loses locks when its server restarts; use nfsvers=4.1 or nfsvers=4.2",
    "v2": "NFS version 2 is gone; use nfsvers=4.1 or nfsvers=4.2",
    "v4": "this may settle on 4.0; use nfsvers=4.1 or nfsvers=4.2",
    "v4.0": "NFS 4.0 has no sessions; use nfsvers=4.1 or nfsvers=4.2",
}
_OPPOSITES = (("hard", "soft"), ("atime", "noatime"), ("suid", "nosuid"), ("dev", "nodev"), ("lock", "nolock"))


@dataclass(frozen=True, slots=True)
class NfsSource:
    """A directory on an NFS server. ``server`` has no brackets, ``path`` no trailing slash."""

    server: str
    path: str

    def __str__(self) -> str:
        host = f"[{self.server}]" if ":" in self.server else self.server
        return f"{host}:{self.path}"


@dataclass(frozen=True, slots=True)
class Pet:
    """What one pet is to have. ``volume`` and ``source`` are None when a storage class makes the volume."""

    ordinal: int
    name: str
    claim: str
    capacity_bytes: int
    capacity: str
    volume: str | None = None
    source: NfsSource | None = None


@dataclass(frozen=True, slots=True)
class VolumeSet:
    """What a set is to have. ``storage_class`` is empty for NFS: the claims then take no class at all.

    ``warnings`` are about the options alone.
    """

    namespace: str
    name: str
    claim_template: str
    pets: tuple[Pet, ...]
    storage_class: str
    access_mode: str
    mount_options: tuple[str, ...]
    labels: Mapping[str, str]
    accept_delete_policy: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def is_static(self) -> bool:
        """True when the volumes are made here (NFS), False when a class makes them."""
        return not self.storage_class


def parse_server(variable: str, value: object) -> tuple[str, str | None]:
    """Name or address of an NFS server as it is stored, and a warning or None.

    IPv6 with or without brackets and in any spelling becomes one: kubelet adds the brackets itself.

    >>> parse_server("x", "[2001:DB8:0::10]")
    ('2001:db8::10', None)
    """
    allowed = "a host name, an IPv4 or an IPv6 address (with or without brackets)"
    if not isinstance(value, str) or not value:
        raise InvalidInput(variable, value, "no server is named", allowed)
    if any(char.isspace() for char in value):
        raise InvalidInput(variable, value, "no blanks are allowed in the name of a server", allowed)
    if "://" in value or "/" in value:
        raise InvalidInput(variable, value, "this is more than a server; the path is an option of its own", allowed)
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if ":" in bare:
        try:
            address = ipaddress.IPv6Address(bare)
        except ValueError:
            raise InvalidInput(variable, value, "not an IPv6 address", allowed) from None
        warning = None
        if "%" in bare:
            zone = bare.rpartition("%")[2]
            warning = f"{variable}: {value}: the zone {zone!r} has to be the name of an interface on every node"
        return str(address), warning
    if re.fullmatch(r"[0-9.]+", bare):
        try:
            return str(ipaddress.IPv4Address(bare)), None
        except ValueError:
            raise InvalidInput(variable, value, "not an IPv4 address", allowed) from None
    name = bare.lower().rstrip(".")
    if len(name) > 253 or not all(len(p) <= 63 and _NAME_PART.fullmatch(p) for p in name.split(".")):
        raise InvalidInput(variable, value, "not a host name", allowed)
    return name, None


def canonical_server(value: str) -> str:
    """One spelling for each server, for comparing; text that is no server stays as it is. Never raises."""
    try:
        return parse_server("", value)[0]
    except InvalidInput:
        return value


def parse_export_path(variable: str, value: object) -> str:
    """Directory on the server in one spelling: absolute, without '.', '..', double and trailing slashes.

    >>> parse_export_path("x", "/srv//my data/")
    '/srv/my data'
    """
    allowed = "an absolute path without '.' and '..', for example /srv/petset/default/mysql/{ordinal}"
    if not isinstance(value, str) or not value:
        raise InvalidInput(variable, value, "no path is given", allowed)
    if not value.startswith("/"):
        raise InvalidInput(variable, value, "the path is relative", allowed)
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise InvalidInput(variable, value, "control characters are not allowed in a path", allowed)
    if value != value.rstrip():
        raise InvalidInput(variable, value, "the path ends in a blank", allowed)
    parts = value.split("/")
    if ".." in parts or "." in parts:
        raise InvalidInput(variable, value, "'.' and '..' are not allowed in a path", allowed)
    path = canonical_path(value)
    if path == "/":
        raise InvalidInput(variable, value, "the whole file system of the server is no folder for a pet", allowed)
    if len(path.encode()) > 4095:
        raise InvalidInput(variable, value, "longer than a path can be", allowed)
    return path


def canonical_path(value: str) -> str:
    """One spelling for each path, for comparing. Never raises."""
    return "/" + "/".join(part for part in value.split("/") if part)


def canonical_export(value: str) -> str:
    """One spelling for each ``server:/path``, for comparing; text of another form stays as it is. Never raises.

    >>> canonical_export("NFS.example.com.:/srv//A/"), canonical_export("[FD00:0::1]:/srv")
    ('nfs.example.com:/srv/A', '[fd00::1]:/srv')
    """
    server, colon, path = value.partition(":/")
    return str(NfsSource(canonical_server(server), canonical_path(path))) if server and colon else value


def parse_mount_options(variable: str, options: Sequence[object] | None) -> tuple[str, ...]:
    """Mount options of the volumes; the default when None.

    InvalidInput: an option that endangers data, or no protocol version, or two that contradict each other.
    """
    if options is None:
        return DEFAULT_MOUNT_OPTIONS
    allowed = "a list with one option each, for example: " + ", ".join(DEFAULT_MOUNT_OPTIONS)
    seen: dict[str, str] = {}
    for option in options:
        if not isinstance(option, str) or not option or any(char.isspace() or char == "," for char in option):
            raise InvalidInput(variable, option, "not one mount option", allowed)
        key, _equals, value = option.partition("=")
        key = "nfsvers" if key == "vers" else key
        reason = _refused_option(key, value, option)
        if reason:
            raise InvalidInput(variable, option, reason, allowed)
        if key in seen and seen[key] != option:
            raise InvalidInput(variable, option, f"contradicts {seen[key]!r}", allowed)
        seen[key] = option
    for one, other in _OPPOSITES:
        if one in seen and other in seen:
            raise InvalidInput(variable, other, f"contradicts {one!r}", allowed)
    if not {"nfsvers", "v4.1", "v4.2"} & set(seen):
        raise InvalidInput(
            variable, list(options), "the NFS version is missing; without it an old one may be used", allowed
        )
    return tuple(dict.fromkeys(str(option) for option in options))


def _refuse_other_family(variable: str, options: Sequence[str], pets: Sequence[Pet]) -> None:
    """A name may have addresses of both families, so only the addresses are judged."""
    for option in options:
        key, _equals, value = option.partition("=")
        if key not in ("proto", "mountproto"):
            continue
        for pet in pets:
            kind = address_family(pet.source.server) if pet.source is not None else 0
            if kind and value in (_OF_IPV4 if kind == 6 else _OF_IPV6):
                right = f"{key}={value + '6' if kind == 6 else value[:-1]}"
                reason = f"{pet.name} has its volume on an IPv{kind} address, which mount.nfs does not reach so"
                raise InvalidInput(variable, option, reason, right)


def address_family(server: str) -> int:
    """4 or 6 for an address, 0 for a name.

    >>> address_family("192.0.2.1"), address_family("2001:db8::1"), address_family("nfs.example.com")
    (4, 6, 0)
    """
    return 6 if ":" in server else 4 if re.fullmatch(r"[0-9.]+", server) else 0


def mount_options_of(wanted: VolumeSet, pet: Pet) -> tuple[str, ...]:
    """A pet's mount options: the default, which nobody has chosen, goes by the family of its server's address."""
    if pet.source is None or address_family(pet.source.server) != 6 or wanted.mount_options != DEFAULT_MOUNT_OPTIONS:
        return wanted.mount_options
    return tuple("proto=tcp6" if one == "proto=tcp" else one for one in wanted.mount_options)


def _refused_option(key: str, value: str, option: str) -> str | None:
    """Why an option must not be used on a data volume, None when it may."""
    if option in _REFUSED_OPTIONS:
        return _REFUSED_OPTIONS[option]
    if key == "nfsvers" and value not in _SAFE_VERSIONS:
        return "only NFS 4.1 and 4.2 give sessions and locks that survive a restart of the server; use nfsvers=4.1"
    if key == "minorversion":
        return "write nfsvers=4.1 or nfsvers=4.2 instead"
    if key in ("proto", "mountproto") and value not in (*_OF_IPV4, *_OF_IPV6):
        return "NFS over UDP can corrupt data; use proto=tcp"
    if key == "local_lock" and value != "none":
        return "locks would hold on one node only, so two servers could open the same data"
    if key == "actimeo" and value == "0":
        return _REFUSED_OPTIONS["noac"]
    if key == "nconnect" and not (value.isdigit() and 1 <= int(value) <= 16):
        return "nconnect is 1 to 16"
    if key in ("timeo", "retrans", "rsize", "wsize") and not (value.isdigit() and int(value) > 0):
        return f"{key} is a number above 0"
    return None


def parse_volume_set(params: Mapping[str, Any], *, present: bool = True) -> VolumeSet:
    """The options of pet_volume as what the set is to have.

    ``present`` False: for removal only names matter, so neither back end nor capacity is needed.
    InvalidInput: names the option, the value and what is allowed.
    """
    namespace = names.parse_dns_label("namespace", params["namespace"])
    set_name = names.parse_set_name("set", params["set"])
    template = names.parse_dns_label("claim_template", params.get("claim_template") or DEFAULT_CLAIM_TEMPLATE)
    ordinals = _ordinals(params)
    nfs = params.get("nfs")
    storage_class = params.get("storage_class") or ""
    if present and bool(nfs) == bool(storage_class):
        raise InvalidInput("nfs", nfs, "exactly one of nfs and storage_class has to be set", "nfs or storage_class")
    if storage_class:
        names.parse_dns_subdomain("storage_class", storage_class)
    access_mode = params.get("access_mode") or ACCESS_MODES[0]
    if nfs and access_mode == "ReadWriteOncePod":
        raise InvalidInput(
            "access_mode",
            access_mode,
            "NFS volumes without a CSI driver cannot do that",
            "ReadWriteOnce or ReadWriteMany",
        )
    overrides = _overrides(params.get("pets") or (), ordinals)
    warnings: list[str] = []
    pets = tuple(
        _pet(params, namespace, set_name, template, ordinal, overrides.get(ordinal, {}), warnings, present)
        for ordinal in ordinals
    )
    _refuse_shared(pets)
    mount_options = parse_mount_options("nfs.mount_options", nfs.get("mount_options")) if nfs else ()
    if nfs and nfs.get("mount_options") is not None:
        _refuse_other_family("nfs.mount_options", mount_options, pets)
    return VolumeSet(
        namespace=namespace,
        name=set_name,
        claim_template=template,
        pets=pets,
        storage_class=storage_class,
        access_mode=access_mode,
        mount_options=mount_options,
        labels=names.parse_labels("labels", params.get("labels")),
        accept_delete_policy=bool(params.get("accept_delete_policy")),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _ordinals(params: Mapping[str, Any]) -> tuple[int, ...]:
    listed = params.get("ordinals")
    if listed is not None:
        found = [names.parse_ordinal("ordinals", one) for one in listed]
        if not found:
            raise InvalidInput("ordinals", listed, "the list is empty", "at least one ordinal")
        if len(set(found)) != len(found):
            raise InvalidInput("ordinals", listed, "an ordinal is named twice", "each ordinal once")
        return tuple(sorted(found))
    replicas = names.parse_count("replicas", params.get("replicas"))
    start = names.parse_ordinal("start", params.get("start") or 0)
    names.parse_ordinal("start + replicas", start + replicas - 1)
    return tuple(range(start, start + replicas))


def _overrides(entries: Iterable[Mapping[str, Any]], ordinals: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for entry in entries:
        ordinal = names.parse_ordinal("pets[].ordinal", entry.get("ordinal"))
        if ordinal not in ordinals:
            listed = ", ".join(map(str, ordinals))
            raise InvalidInput("pets[].ordinal", ordinal, "no pet of this call has that ordinal", f"one of {listed}")
        if ordinal in found:
            raise InvalidInput("pets[].ordinal", ordinal, "two entries are for the same pet", "one entry for each pet")
        found[ordinal] = entry
    return found


def _pet(
    params: Mapping[str, Any],
    namespace: str,
    set_name: str,
    template: str,
    ordinal: int,
    override: Mapping[str, Any],
    warnings: list[str],
    present: bool,
) -> Pet:

    def fill_in(variable: str, pattern: str) -> str:
        return names.expand_pattern(variable, pattern, namespace=namespace, set_name=set_name, ordinal=ordinal)

    where = f"pets[{ordinal}]"
    nfs = params.get("nfs")
    volume = source = None
    if nfs or not params.get("storage_class"):
        volume = override.get("volume") or fill_in(
            "volume_pattern", params.get("volume_pattern") or DEFAULT_VOLUME_PATTERN
        )
        names.parse_dns_subdomain(f"{where}.volume" if override.get("volume") else "volume_pattern", volume)
    if nfs:
        server, warning = parse_server(
            f"{where}.server" if override.get("server") else "nfs.server", override.get("server") or nfs.get("server")
        )
        if warning:
            warnings.append(warning)
        if override.get("path"):
            path = parse_export_path(f"{where}.path", override["path"])
        else:
            parse_export_path("nfs.path", nfs.get("path"))
            path = parse_export_path("nfs.path", fill_in("nfs.path", nfs["path"]))
        source = NfsSource(server, path)
    capacity_bytes, capacity = 0, ""
    if present:
        variable = f"{where}.capacity" if override.get("capacity") else "capacity"
        capacity = str(override.get("capacity") or params.get("capacity") or "")
        capacity_bytes = parse_capacity(capacity, variable)
    return Pet(
        ordinal=ordinal,
        name=names.pet_name(set_name, ordinal),
        claim=names.parse_dns_subdomain("claim_template", names.claim_name(template, set_name, ordinal)),
        capacity_bytes=capacity_bytes,
        capacity=capacity,
        volume=volume,
        source=source,
    )


def _refuse_shared(pets: Sequence[Pet]) -> None:
    """No two pets may get one volume or one directory, nor one inside the other's."""
    for index, pet in enumerate(pets):
        for other in pets[:index]:
            if pet.volume is not None and pet.volume == other.volume:
                raise InvalidInput(
                    "volume", pet.volume, f"{other.name} and {pet.name} would share a volume", "a name for each pet"
                )
            if pet.source is None or other.source is None or pet.source.server != other.source.server:
                continue
            if overlap(pet.source.path, other.source.path):
                raise InvalidInput(
                    "path",
                    str(pet.source),
                    f"{other.name} ({other.source}) and {pet.name} would share files",
                    "a directory for each pet, none inside another's",
                )


def overlap(one: str, other: str) -> bool:
    """True when two canonical paths are the same or one is inside the other."""
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def server_clashes(pets: Sequence[Pet]) -> tuple[tuple[Pet, Pet], ...]:
    """Pairs of pets with overlapping paths on servers that are spelled differently: the same server, perhaps."""
    return tuple(
        (other, pet)
        for index, pet in enumerate(pets)
        for other in pets[:index]
        if pet.source is not None
        and other.source is not None
        and pet.source.server != other.source.server
        and overlap(pet.source.path, other.source.path)
    )


def volume_manifest(wanted: VolumeSet, pet: Pet, claim_uid: str | None = None) -> dict[str, Any]:
    """The PersistentVolume of a pet, reserved for its claim.

    ``claim_uid`` only for a claim that was bound before and has lost its volume: it takes no volume without it.
    """
    if pet.volume is None or pet.source is None:
        raise ValueError(f"{pet.name} has no volume of its own")
    claim_ref = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": wanted.namespace,
        "name": pet.claim,
    }
    if claim_uid is not None:
        claim_ref["uid"] = claim_uid
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": pet.volume, "labels": labels_of(wanted, pet)},
        "spec": {
            "accessModes": [wanted.access_mode],
            "capacity": {"storage": format_bytes(pet.capacity_bytes)},
            "claimRef": claim_ref,
            "mountOptions": list(mount_options_of(wanted, pet)),
            "nfs": {"server": pet.source.server, "path": pet.source.path},
            "persistentVolumeReclaimPolicy": RETAIN,
            "storageClassName": "",
            "volumeMode": "Filesystem",
        },
    }


def claim_manifest(wanted: VolumeSet, pet: Pet) -> dict[str, Any]:
    """The PersistentVolumeClaim of a pet. The class is always written, also when empty: otherwise the cluster's
    default class would be filled in and the claim would never bind."""
    spec: dict[str, Any] = {
        "accessModes": [wanted.access_mode],
        "resources": {"requests": {"storage": format_bytes(pet.capacity_bytes)}},
        "storageClassName": wanted.storage_class,
        "volumeMode": "Filesystem",
    }
    if pet.volume is not None:
        spec["volumeName"] = pet.volume
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": pet.claim, "namespace": wanted.namespace, "labels": labels_of(wanted, pet)},
        "spec": spec,
    }


def labels_of(wanted: VolumeSet, pet: Pet) -> dict[str, str]:
    """Labels of both objects of a pet."""
    return {**wanted.labels, **names.own_labels(wanted.namespace, wanted.name, pet.ordinal)}
