# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reasons for which nothing is written. Each function gives sentences that name the object and the way out."""

from __future__ import annotations

from collections.abc import Sequence

from .exports import Entry, ParsedFile, printable
from .exports_clients import ClientKind, classify, parse_address, same_client, uncovered
from .exports_desired import Desired, DesiredExport, Machine, is_written_here
from .exports_options import same_options
from .exports_steps import FileText, Snapshot
from .exports_table import Facts, unexportable


def refuse_lines(new_own: ParsedFile, paths: int, pairs: int) -> list[str]:
    """What we are about to write must be read back as it was meant; this is a last guard, not a check of input."""
    wrong = [problem.describe() for problem in new_own.problems if problem.fails or problem.loses]
    read = {entry.path for entry in new_own.entries}
    if not wrong and (len(read) != paths or len(new_own.entries) != pairs):
        wrong.append(f"{new_own.name}: the lines to write would be read as {len(new_own.entries)} exports, not {pairs}")
    return wrong


def refuse_foreign(new_own: ParsedFile, files: Sequence[ParsedFile], facts: Facts) -> list[str]:
    """One path and client in our file and in another one: exportfs fails, and only the first counts."""
    order = {file.name: position for position, file in enumerate(files)}
    refusals = []
    for entry in new_own.entries:
        for file in files:
            if file.name == new_own.name:
                continue
            for other in file.entries:
                if facts.real(other.path) != facts.real(entry.path):
                    continue
                if not same_client(other.client or "*", entry.client or "*", facts.hosts):
                    continue
                pair = f"{printable(entry.path)} for {printable(entry.client)}"
                theirs = f"{other.file}:{other.line}"
                if same_options(other.options, entry.options):
                    refusals.append(
                        f"{pair} is already exported by {theirs}, equally; exported twice, exportfs fails "
                        f"and the NFS service may not start at boot: remove it there"
                    )
                else:
                    winner = other.file if order[other.file] < order[new_own.name] else new_own.name
                    refusals.append(
                        f"{pair} is exported by {theirs} with other options than in {new_own.name}; {winner} would win"
                    )
    return refusals


def is_others(file: FileText | None) -> bool:
    """Whether what has the name of our drop-in was not written by the collection. An empty file is nobody's."""
    if file is None:
        return False
    return file.raw is None or (bool(file.raw.strip()) and not is_written_here(file.raw))


def refuse_others(file: FileText | None, desired: Desired) -> list[str]:
    """A drop-in of our name that somebody else wrote: its lines would be gone with the first run."""
    if file is None or desired.adopt or not is_others(file):
        return []
    found = "was not written by this collection" if file.raw is not None else f"cannot be read ({file.error})"
    return [
        f"{file.name} {found}, so its lines are somebody else's; move it away, take another name (nfs_exports_name in "
        "the role nfs_exports), or set adopt (nfs_exports_adopt) to true: its exports are then this set's, and go "
        "unless they are wanted or purge is false"
    ]


def refuse_path(export: DesiredExport, snapshot: Snapshot) -> list[str]:
    """The directory, its file system, and its owner."""
    shown = printable(export.path)
    refusals = []
    for names, known, kind in ((export.owner, snapshot.users, "user"), (export.group, snapshot.groups, "group")):
        if names is not None and known.get(names) is None:
            refusals.append(f"{shown}: the server knows no {kind} {names!r}; use its number")
    fact = snapshot.facts.paths.get(export.path)
    if fact is None:
        return refusals
    if fact.kind == "missing" and not export.create:
        refusals.append(f"{shown} does not exist; make it, or set create to true")
    elif fact.kind not in ("missing", "directory"):
        refusals.append(f"{shown} is a {fact.kind}, not a directory")
    why = unexportable(fact)
    if why:
        refusals.append(f"{shown} {why}")
    if fact.fstype.startswith("fuse") and not export.clients[0][1].identity:
        refusals.append(f"{shown} is on {fact.fstype}, which has no identity of its own; it needs an fsid")
    for _client, options in export.clients:
        if options.mountpoint is None:
            continue
        point = snapshot.facts.paths.get(options.mountpoint or export.path)
        if point is not None and not point.is_mountpoint:
            refusals.append(
                f"{printable(options.mountpoint or export.path)} is not a mount point (option mountpoint); "
                "clients would be refused"
            )
            break
    return refusals


def refuse_clients(export: DesiredExport, desired: Desired, facts: Facts) -> list[str]:
    """Names that do not resolve, one machine under two names, machines that would be shut out."""
    shown = printable(export.path)
    words = [client for client, _options in export.clients]
    refusals = [
        f"{shown}: client {word} does not resolve on the server; exportfs would leave it out, with exit status 0"
        for word in words
        if word in facts.hosts and facts.hosts[word] is None
    ]
    for position, word in enumerate(words):
        for earlier in words[:position]:
            if same_client(earlier, word, facts.hosts):
                refusals.append(f"{shown}: clients {earlier} and {word} name the same machine or network")
    for name in _shut_out(export, [one for one in desired.machines if one.required], facts):
        refusals.append(f"{shown}: no client entry lets in {name}")
    return refusals


def _shut_out(export: DesiredExport, machines: Sequence[Machine], facts: Facts) -> list[str]:
    """The machines with those of their addresses that no client of the export lets in."""
    words = [client for client, _options in export.clients]
    found = [(machine.name, uncovered(machine.addresses, words, facts.hosts)) for machine in machines]
    return [f"{name} ({', '.join(missing)})" for name, missing in found if missing]


def warn_machines(desired: Desired, facts: Facts) -> list[str]:
    """One sentence for all exports that shut out the same machines.

    Silent where a pattern or a netgroup is among the clients: it may let in anybody.
    """
    paths: dict[str, list[str]] = {}
    for export in desired.exports:
        if any(classify(client) in (ClientKind.WILDCARD, ClientKind.NETGROUP) for client, _options in export.clients):
            continue
        names = _shut_out(export, [one for one in desired.machines if not one.required], facts)
        if names:
            paths.setdefault(", ".join(names), []).append(printable(export.path))
    return [
        f"no client entry lets in {names}; mounts from there would be refused: {', '.join(exports)}"
        for names, exports in paths.items()
    ]


def _access(address: str, path: str, entries: Sequence[Entry], facts: Facts) -> int:
    """0 no access, 1 reading, 2 writing. A pattern or netgroup may match, so it counts."""
    level = 0
    for entry in entries:
        if facts.real(entry.path) != path:
            continue
        word = entry.client or "*"
        if not uncovered([address], [word], facts.hosts) or word[:1] == "@" or (word != "*" and set("*?[") & set(word)):
            level = max(level, 2 if entry.options.writable else 1)
    return level


def refuse_in_use(before: Sequence[Entry], after: Sequence[Entry], snapshot: Snapshot) -> list[str]:
    """A client with open files that would lose its access gets 'Stale file handle' at once."""
    refusals = []
    for path in dict.fromkeys(snapshot.facts.real(entry.path) for entry in before):
        for address in snapshot.busy.get(path, ()):
            if parse_address(address) is None:
                continue
            was = _access(address, path, before, snapshot.facts)
            will = _access(address, path, after, snapshot.facts)
            if will < was:
                what = "withdrawn" if will == 0 else "made read-only"
                refusals.append(
                    f"{printable(path)} would be {what} for {address}, which holds files open there; stop "
                    "its pet first, or set withdraw_in_use to true"
                )
    return refusals
