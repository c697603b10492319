# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the export files to the export table, and what is wrong or unwise about it.

The table of exportfs holds one row per real path and client. Which row, when two files name the same pair, is decided
by the order of reading (/etc/exports first, then the drop-ins); the later one is ignored and makes exportfs fail, even
when both are equal, and then the NFS service does not start at boot.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .exports import Entry, ParsedFile, Problem, encode, printable
from .exports_clients import (
    ClientKind,
    Host,
    classify,
    has_host_bits,
    is_address_pattern,
    is_bracketed,
    is_world,
    network_problem,
    parse_address,
    same_client,
)
from .exports_options import ExportOptions, same_options

EXPORTS_FILE = "/etc/exports"
EXPORTS_FOLDER = "/etc/exports.d"
SUFFIX = ".exports"
_DIGITS = re.compile(rb"[0-9]*")

# File systems whose files the kernel's server cannot hand out, or not so that a handle stays good.
# Source: a mount of an export on overlay is refused although exportfs is silent (case ex-35); the others have no
# export operations in the kernel or are views of something else.
UNEXPORTABLE = frozenset(
    "overlay aufs 9p hostfs vboxsf autofs proc sysfs cgroup cgroup2 devtmpfs devpts ecryptfs ramfs "
    "nfs nfs4 cifs smb3".split()
)


@dataclass(frozen=True)
class PathFact:
    """What the server sees at a path.

    ``kind``   "directory", "missing", or what it is instead ("file")
    ``real``   the path with symbolic links resolved
    ``fstype`` type of the file system it is on, "" when unknown
    ``mount_options`` of that file system
    """

    kind: str
    real: str
    fstype: str = ""
    is_mountpoint: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    device: str = ""
    mount_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What only the server can say. A name that is missing here was not looked up; None: it does not resolve."""

    hosts: Mapping[str, Host | None] = field(default_factory=dict)
    paths: Mapping[str, PathFact] = field(default_factory=dict)

    def real(self, path: str) -> str:
        """The path as the table has it."""
        fact = self.paths.get(path)
        return path if fact is None else fact.real


@dataclass(frozen=True)
class Row:
    """One row of the table. ``client`` is the name in the table, ``entry`` where it comes from."""

    path: str
    client: str
    entry: Entry

    @property
    def kind(self) -> ClientKind:
        """The kind of client."""
        return classify(self.client)


@dataclass(frozen=True)
class Table:
    """What `exportfs -ra` makes of the files: the rows in the order `exportfs -s` prints, and all problems."""

    rows: tuple[Row, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> int:
        """The exit status of exportfs."""
        return 1 if any(problem.fails for problem in self.problems) else 0


def reads_file(name: str) -> bool:
    """Whether exportfs reads a file of this name in exports.d. It skips others without a word."""
    return name.endswith(SUFFIX) and not name.startswith(".") and len(name) > len(SUFFIX)


def _compare_versions(one: str, other: str) -> int:
    """glibc's strverscmp, by which exportfs orders the drop-ins: 9-b before 10-a, a01 before a1."""
    first, second = encode(one) + b"\0", encode(other) + b"\0"
    if first == second:
        return 0
    differs = next(place for place in range(len(first)) if first[place] != second[place])
    run = differs
    while run > 0 and first[run - 1 : run].isdigit():
        run -= 1
    if first[run] in b"123456789" and second[run] in b"123456789":
        # Whole numbers: the one with more digits is greater.
        length = len(_DIGITS.match(first, run).group()) - len(_DIGITS.match(second, run).group())  # type: ignore[union-attr]
        if length:
            return length
    elif run < differs and not first[run:differs].strip(b"0"):
        # After leading zeros comes a fraction: a further digit sorts before anything else.
        digits = (first[differs : differs + 1].isdigit(), second[differs : differs + 1].isdigit())
        if digits[0] != digits[1]:
            return -1 if digits[0] else 1
    return first[differs] - second[differs]


def reading_order(names: Iterable[str]) -> list[str]:
    """The names of the drop-ins that exportfs reads, in its order.

    >>> reading_order(["10-a.exports", "9-b.exports", "x.conf"])
    ['9-b.exports', '10-a.exports']
    """
    return sorted((name for name in names if reads_file(name)), key=functools.cmp_to_key(_compare_versions))


@dataclass
class _Clients:
    """The clients met so far: exportfs keeps the name that it saw first, whatever the path."""

    machines: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)

    def name_machine(self, host: Host) -> str:
        """A host by any of its addresses."""
        addresses = frozenset(host.addresses)
        for name, known in self.machines:
            if known & addresses:
                return name
        self.machines.append((host.canonical, addresses))
        return host.canonical

    def name_other(self, text: str) -> str:
        """A network, pattern or netgroup by its text, upper and lower case being the same."""
        return self.others.setdefault(text.casefold(), text)


def build_table(files: Sequence[ParsedFile], facts: Facts) -> Table:
    """The table that exportfs makes of these files, in reading order, and everything to say about it."""
    problems = [problem for file in files for problem in file.problems]
    rows: list[Row] = []
    ignored: list[Row] = []
    clients = _Clients()
    for file in files:
        for entry in file.entries:
            client = _table_client(entry, clients, facts, problems)
            if client is None:
                continue
            row = Row(facts.real(entry.path), client, entry)
            same = [known for known in rows + ignored if _same_row(known, row)]
            if not same:
                rows.append(row)
                continue
            # A path that stands alone is another client than '*' for exportfs, which then shows only the first.
            alike = [known for known in same if bool(known.entry.client) == bool(entry.client)]
            problems.append(_duplicate((alike or same)[0], row, fails=bool(alike)))
            ignored.append(row)
    problems += _review(rows, facts)
    return Table(_table_order(rows), tuple(problems))


def _same_row(one: Row, other: Row) -> bool:
    """exportfs's own idea of the same row: by text for all but machines, whose names are settled before."""
    return one.path == other.path and one.client.casefold() == other.client.casefold()


def _table_order(rows: Sequence[Row]) -> tuple[Row, ...]:
    """By kind of client, then paths as first seen, then as written."""
    first_seen: dict[tuple[int, str], int] = {}
    for row in rows:
        first_seen.setdefault((row.kind.value, row.path), len(first_seen))
    return tuple(sorted(rows, key=lambda row: (row.kind.value, first_seen[row.kind.value, row.path])))


def _table_client(entry: Entry, clients: _Clients, facts: Facts, problems: list[Problem]) -> str | None:
    """The client's name in the table, or None when exportfs drops the client."""
    kind = classify(entry.client)
    if kind is ClientKind.NETWORK:
        wrong = network_problem(entry.client)
        if wrong is None:
            return clients.name_other(entry.client)
        code, value = wrong
        what = {"bad_prefix": "prefix length", "bad_netmask": "netmask"}.get(code, "address")
        text = f"client {printable(entry.client)}: {printable(value)!r} is no {what}; this client is left out"
        problems.append(_about(entry, code, text, fails=True, loses=True))
        return None
    if kind is not ClientKind.HOST:
        return "*" if kind is ClientKind.ANYBODY else clients.name_other(entry.client)
    address = parse_address(entry.client.partition("%")[0])
    host: Host | None = Host(entry.client, (str(address),)) if address is not None else None
    if entry.client in facts.hosts:
        host = facts.hosts[entry.client]
    elif host is None:
        # Not looked up: nothing is known, so nothing is said.
        host = Host(entry.client, (entry.client,))
    if host is None:
        text = f"client {printable(entry.client)} does not resolve on the server; this client is left out"
        problems.append(_about(entry, "unresolved", text, loses=True))
        return None
    return clients.name_machine(host)


def _about(entry: Entry, code: str, text: str, *, fails: bool = False, loses: bool = False) -> Problem:
    return Problem(code, text, entry.file, entry.line, fails, loses, entry.path, entry.client)


def _duplicate(winner: Row, loser: Row, *, fails: bool) -> Problem:
    """A second row for one path and client: it is ignored."""
    where = f"{winner.entry.file}:{winner.entry.line}"
    names = printable(loser.entry.client)
    if winner.entry.client != loser.entry.client:
        names += f" (the same machine as {printable(winner.entry.client)})"
    pair = f"{printable(loser.path)} is exported to {names}"
    if same_options(winner.entry.options, loser.entry.options):
        text = f"{pair} here and in {where}; equal, but exportfs ends with status 1 and the service may not start"
        return _about(loser.entry, "duplicate", text, fails=fails)
    text = f"{pair} here and, with other options, in {where}, which wins"
    return _about(loser.entry, "conflict", text, fails=fails, loses=True)


def _review(rows: Sequence[Row], facts: Facts) -> list[Problem]:
    """What exportfs does not say, or says too softly."""
    problems: list[Problem] = []
    seen: set[str] = set()
    for row in rows:
        problems += review_options(row)
        problems += _review_client(row)
        if row.path not in seen:
            seen.add(row.path)
            problems += _review_path(row, facts)
        problems += _review_mountpoint(row, facts)
    return problems + _review_identities(rows) + _review_nesting(rows) + _review_networks(rows) + _review_root(rows)


def review_options(row: Row) -> list[Problem]:
    """Options that weaken the protection of the data."""
    options, entry = row.entry.options, row.entry
    pair = f"{printable(row.path)} for {printable(row.client)}"
    found = []
    if is_world(row.client):
        how = "read-write" if options.writable else "read-only"
        found.append(("world", f"{printable(row.path)} is exported to the whole world, {how}"))
    if any(not access.root_squash and not access.all_squash for _name, access in options.flavours):
        found.append(("no_root_squash", f"{pair}: root of the client is root on the server (no_root_squash)"))
    if any(access.insecure for _name, access in options.flavours):
        found.append(("insecure", f"{pair}: any user of the client may talk to the server (insecure)"))
    if options.async_writes:
        found.append(("async", f"{pair}: async acknowledges writes that a crash of the server loses"))
    if options.pnfs:
        found.append(("pnfs", f"{pair}: pnfs hands out layouts; a database needs plain NFS"))
    if options.subtree_check:
        found.append(("subtree_check", f"{pair}: subtree_check breaks open files when they are renamed"))
    return [_about(entry, code, text) for code, text in found]


def _review_client(row: Row) -> list[Problem]:
    client, entry = row.entry.client, row.entry
    shown = printable(client)
    if is_bracketed(client):
        text = f"client {shown}: brackets make a character class that matches nobody; write the address without them"
        return [_about(entry, "bracketed_client", text, loses=True)]
    if is_address_pattern(client):
        text = f"client {shown}: a pattern is compared with host names; it matches only machines without reverse DNS"
        return [_about(entry, "address_pattern", text)]
    if row.kind is ClientKind.GSS:
        text = (
            f"client {shown} is no Kerberos protection, the export has sec=sys; write sec={client[4:]} in the options"
        )
        return [_about(entry, "gss_client", text)]
    if has_host_bits(client):
        return [_about(entry, "host_bits", f"client {shown} means the whole network")]
    return []


def _review_path(row: Row, facts: Facts) -> list[Problem]:
    fact = facts.paths.get(row.entry.path)
    shown = printable(row.path)
    if fact is None:
        return []
    if not row.path.startswith("/"):
        text = f"{shown} is no absolute path: a continued or broken line, or quotes that do not quote"
        return [_about(row.entry, "relative_path", text, fails=fact.kind != "directory")]
    if fact.kind == "missing":
        return [_about(row.entry, "missing_path", f"{shown} does not exist, but stays in the export table", fails=True)]
    if fact.kind != "directory":
        return [_about(row.entry, "not_a_directory", f"{shown} is a {fact.kind}, not a directory", fails=True)]
    why = unexportable(fact)
    return [_about(row.entry, "unexportable", f"{shown} {why}")] if why else []


def unexportable(fact: PathFact) -> str:
    """Why a directory cannot be exported because of its file system, "" when it can."""
    if fact.fstype == "overlay" and "nfs_export=on" in fact.mount_options:
        return ""
    if fact.fstype in UNEXPORTABLE:
        return f"is on a file system of type {fact.fstype}, which the NFS server cannot export; mounts will be refused"
    return ""


def _review_mountpoint(row: Row, facts: Facts) -> list[Problem]:
    """The option mountpoint: while it is none, the export is refused to clients, silently."""
    wanted = row.entry.options.mountpoint
    if wanted is None:
        return []
    fact = facts.paths.get(wanted or row.entry.path)
    if fact is None or fact.is_mountpoint:
        return []
    text = f"{printable(wanted or row.path)} is not a mount point, so clients are refused (option mountpoint)"
    return [_about(row.entry, "not_a_mountpoint", text, loses=True)]


def _review_identities(rows: Sequence[Row]) -> list[Problem]:
    """One fsid for two paths: clients would get the files of the other one."""
    first: dict[str, Row] = {}
    problems = []
    for row in rows:
        identity = row.entry.options.identity
        if not identity:
            continue
        known = first.setdefault(identity, row)
        if known.path != row.path:
            first[identity + "\0" + row.path] = row
            text = (
                f"fsid {identity} of {printable(row.path)} is also the one of {printable(known.path)} in "
                f"{known.entry.file}:{known.entry.line}"
            )
            problems.append(_about(row.entry, "fsid_twice", text))
    return problems


def _review_nesting(rows: Sequence[Row]) -> list[Problem]:
    """A parent exported to more than its child."""
    problems = []
    for row in rows:
        for parent in rows:
            inside = row.path.startswith(parent.path.rstrip("/") + "/")
            if not inside or same_options(_without_identity(parent), _without_identity(row)):
                continue
            if parent.client == row.client or is_world(parent.client):
                text = (
                    f"{printable(row.path)} lies inside {printable(parent.path)}, which {parent.entry.file}:"
                    f"{parent.entry.line} exports with other options; it may stay reachable through that one"
                )
                problems.append(_about(row.entry, "nested", text))
                break
    return problems


def _without_identity(row: Row) -> ExportOptions:
    """The options without the fsid, which always differs between two paths."""
    return replace(row.entry.options, fsid=None, uuid=None, uuid_text=None)


def _review_networks(rows: Sequence[Row]) -> list[Problem]:
    """One network in two notations: two rows, and nobody can say which one counts."""
    problems = []
    for position, row in enumerate(rows):
        for earlier in rows[:position]:
            if earlier.path != row.path or earlier.kind is not row.kind or row.kind is not ClientKind.NETWORK:
                continue
            if same_client(earlier.client, row.client, {}):
                text = (
                    f"{printable(row.path)}: client {printable(row.client)} is the network {printable(earlier.client)} "
                    f"of {earlier.entry.file}:{earlier.entry.line} in another notation"
                )
                problems.append(_about(row.entry, "same_network", text))
    return problems


def _review_root(rows: Sequence[Row]) -> list[Problem]:
    """A root of the tree (fsid=0) that does not allow a flavour which a child needs: mounts are refused."""
    roots = [row for row in rows if row.entry.options.uuid is None and row.entry.options.fsid == 0]
    problems = []
    for row in rows:
        needed = {name for name, _access in row.entry.options.meaning().flavours}
        for root in roots:
            if root is row or root.path == row.path or root.client != row.client:
                continue
            missing = needed - {name for name, _access in root.entry.options.meaning().flavours}
            if missing:
                text = (
                    f"{printable(row.path)} needs sec={':'.join(sorted(missing))}, which the root of the tree, "
                    f"{printable(root.path)} (fsid=0) in {root.entry.file}:{root.entry.line}, does not allow"
                )
                problems.append(_about(row.entry, "root_lacks_flavour", text, loses=True))
                break
    return problems
