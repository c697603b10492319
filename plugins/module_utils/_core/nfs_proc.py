# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what the kernel's NFS server tells under /proc/fs/nfsd and /proc/net/rpc. Parsers never raise.

Source: nfsd(7) (versions, threads, clients/*/info and states) and the export cache's description in the kernel's
Documentation/filesystems/nfs/rpc-cache.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .exports import decode, printable


@dataclass(frozen=True)
class NfsClient:
    """A connected NFSv4 client. ``renewed_s`` is the time since it renewed its lease, None when not told."""

    address: str
    name: str
    version: str
    status: str
    renewed_s: int | None
    clientid: str


@dataclass(frozen=True)
class OpenFile:
    """A file that a client holds open: device as (major, minor), and the number of the inode."""

    device: tuple[int, int]
    inode: int


@dataclass(frozen=True)
class ServerFacts:
    """The server for the results of modules. None or empty where the kernel's server does not run or does not tell."""

    threads: int
    versions: Mapping[str, bool]
    lease_s: int | None
    grace_s: int | None
    clients: tuple[NfsClient, ...]
    kernel_table: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    package_version: str
    listening: bool = False
    enabled: bool = False
    settings: str | None = None
    delegations: bool | None = None


def describe_server(facts: ServerFacts) -> dict[str, Any]:
    """``server`` and ``clients`` of a result, alike in all modules that tell of them."""
    return {
        "server": {
            "running": facts.threads > 0,
            "threads": facts.threads,
            "versions": dict(facts.versions),
            "lease_s": facts.lease_s,
            "grace_s": facts.grace_s,
            "package_version": facts.package_version,
            "listening": facts.listening,
            "enabled": facts.enabled,
            "settings": facts.settings,
            "delegations": facts.delegations,
        },
        "clients": [
            {
                "address": client.address,
                "name": printable(client.name),
                "version": client.version,
                "status": client.status,
                "renewed_s": client.renewed_s,
            }
            for client in facts.clients
        ],
    }


def parse_listening(table: str, port: int) -> bool:
    """/proc/net/tcp or tcp6: whether a socket in state LISTEN (0A) has the port.

    >>> parse_listening("  0: 00000000:0801 00000000:0000 0A 00000000:00000000\\n", 2049)
    True
    """
    return re.search(rf"^\s*\d+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ", table, re.MULTILINE) is not None


def parse_versions(text: str) -> dict[str, bool]:
    """``-2 +3 +4 -4.0 +4.1``: which versions are served.

    >>> parse_versions("-3 +4 -4.0 +4.1 +4.2")
    {'3': False, '4': True, '4.0': False, '4.1': True, '4.2': True}
    """
    return {match[1]: match[0] == "+" for match in re.findall(r"([+-])(\d+(?:\.\d+)?)", text)}


def parse_number(text: str) -> int | None:
    """A file with one number in it."""
    text = text.strip()
    return int(text) if re.match(r"-?[0-9]{1,18}\Z", text) else None


def strip_port(address: str) -> str:
    """``192.0.2.11:890`` or ``[2001:db8::11]:890`` without the port."""
    match = re.match(r"\[([^\]]*)\](?::\d+)?\Z|([^:]*):\d+\Z", address)
    if match is None:
        return address
    return str(match.group(1) if match.group(1) is not None else match.group(2))


def parse_client_info(text: str) -> NfsClient:
    """clients/<id>/info: lines of ``key: value``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip()] = value.strip().strip('"')
    minor = fields.get("minor version", "")
    return NfsClient(
        address=strip_port(fields.get("address", "")),
        name=fields.get("name", ""),
        version=f"4.{minor}" if minor else "4",
        status=fields.get("status", ""),
        renewed_s=parse_number(fields.get("seconds from last renew", "")),
        clientid=fields.get("clientid", ""),
    )


def parse_states(text: str) -> tuple[OpenFile, ...]:
    """clients/<id>/states: one line for each open file, lock, delegation and layout."""
    found = re.findall(r'superblock:\s*"([0-9a-fA-F]+):([0-9a-fA-F]+):(\d{1,20})"', text)
    return tuple(dict.fromkeys(OpenFile((int(a, 16), int(b, 16)), int(inode)) for a, b, inode in found))


def unescape(word: str) -> str:
    r"""Words of the kernel's tables have blanks, tabs, backslashes and line ends as octal escapes."""
    raw = re.sub(rb"\\([0-3][0-7]{2})", lambda m: bytes((int(m.group(1), 8),)), word.encode("utf-8", "surrogateescape"))
    return decode(raw)


def parse_known_addresses(text: str) -> dict[str, frozenset[str]]:
    """/proc/net/rpc/auth.unix.ip/content: by which client names the kernel knows each address.

    A domain that begins with ``$`` is the address itself: the daemon then decides anew for each export, and no name
    is cached, so such addresses are left out, like those that are not known.
    """
    known: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "nfsd" and not words[2].startswith(("$", "-no-domain-")):
            address = words[1][7:] if words[1].startswith("::ffff:") and "." in words[1] else words[1]
            known[address] = frozenset(unescape(words[2]).split(","))
    return known


def parse_refused(text: str) -> tuple[tuple[str, str], ...]:
    """/proc/net/rpc/nfsd.export/content: pairs of path and client names that were asked for and are not exported."""
    refused = []
    for line in text.splitlines():
        # Entries that only ran out are marked in the same way, but have their flags in the parentheses.
        match = re.match(r"# (/\S*)\t(\S+)\(\)\Z", line)
        if match is not None:
            refused.append((unescape(match.group(1)), unescape(match.group(2))))
    return tuple(dict.fromkeys(refused))


def parse_kernel_table(text: str) -> tuple[tuple[str, str], ...]:
    """/proc/fs/nfsd/exports: pairs of path and client name that clients use now."""
    rows: list[tuple[str, str]] = []
    for line in text.splitlines():
        match = re.match(r"(/\S*)\t([^\s(]+)\(", line)
        if match is not None:
            rows.extend((unescape(match.group(1)), client) for client in unescape(match.group(2)).split(","))
    return tuple(dict.fromkeys(rows))


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo. ``options`` are those of the file system, for example nfs_export=on."""

    target: str
    fstype: str
    options: tuple[str, ...]


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts, later ones covering earlier ones at the same place."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if dash and len(before) >= 6 and after[0]:
            options = after[2].split(",") if len(after) > 2 else []
            mounts.append(Mount(unescape(before[4]), after[0], tuple(options)))
    return tuple(mounts)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that a real path lies on."""
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.target or path.startswith(mount.target.rstrip("/") + "/")
        if inside and (best is None or len(mount.target) >= len(best.target)):
            best = mount
    return best


# InnoDB asks for the lock on its first data file 100 times, once a second, and gives up then (os0file.cc).
INNODB_LOCK_RETRIES_S = 100


def review_versions(versions: Mapping[str, bool]) -> list[tuple[str, str]]:
    """Served versions that a database should not be on, as (code, sentence)."""
    found = []
    if versions.get("2") or versions.get("3"):
        text = "NFSv3 is served: it forgets the locks of clients when the server restarts; turn it off (vers3=n)"
        found.append(("v3_served", text))
    if versions.get("4.0"):
        text = "NFSv4.0 is served: a client without sessions may repeat a request; turn it off (vers4.0=n)"
        found.append(("v4_0_served", text))
    return found


def review_server(facts: ServerFacts) -> list[tuple[str, str]]:
    """What is unwise about the server for a database, as (code, sentence)."""
    found = review_versions(facts.versions)
    if not facts.threads:
        found.append(("not_running", "the kernel's NFS server does not run"))
    if facts.lease_s is not None and facts.lease_s >= INNODB_LOCK_RETRIES_S:
        text = (
            f"the lease of {facts.lease_s} s is longer than InnoDB waits for its lock ({INNODB_LOCK_RETRIES_S} s): "
            "a pet that starts on another node would give up first"
        )
        found.append(("long_lease", text))
    return found
