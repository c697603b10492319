# SPDX-License-Identifier: GPL-3.0-or-later
"""All pets end with the same transactions, the same rows, and no transaction of a stranger."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from tests.robustness.checkers.base import Finding, Verdict, some
from tests.robustness.history import FinalRead, History

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_gtids(text: str) -> dict[str, list[tuple[int, int]]]:
    """``uuid`` or ``uuid:tag`` -> merged ranges. The harness's own, so that it does not share the product's bugs.

    ValueError: not a GTID set.

    >>> parse_gtids("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-3:5")
    {'3e11fa47-71ca-11e1-9e33-c80aa9429562': [(1, 3), (5, 5)]}
    """
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for part in filter(None, (one.strip().lower() for one in text.split(","))):
        uuid, *words = [word.strip() for word in part.split(":")]
        if not _UUID.fullmatch(uuid) or not words:
            raise ValueError(f"not a GTID set: {part!r}")
        key = uuid
        for word in words:
            if match := _RANGE.fullmatch(word):
                found[key].append((int(match[1]), int(match[2] or match[1])))
            elif _TAG.fullmatch(word):
                key = f"{uuid}:{word}"
            else:
                raise ValueError(f"not a GTID set: {part!r}")
    return {key: _merge(ranges) for key, ranges in sorted(found.items())}


def _merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def subtract(left: dict[str, list[tuple[int, int]]], right: dict[str, list[tuple[int, int]]]) -> list[str]:
    """What is in ``left`` and not in ``right``, as ``uuid:low-high``."""
    gone = []
    for key, ranges in left.items():
        for low, high in ranges:
            at = low
            for other_low, other_high in right.get(key, []):
                if other_high < at or other_low > high:
                    continue
                if other_low > at:
                    gone.append(f"{key}:{at}-{other_low - 1}")
                at = other_high + 1
            if at <= high:
                gone.append(f"{key}:{at}-{high}")
    return gone


def count_lacking(first: Iterable[str | None], later: Iterable[str | None]) -> int | None:
    """Of what any pet had first, the transactions that each has not later, summed up; None: one did not answer.

    >>> count_lacking(["3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"], ["3e11fa47-71ca-11e1-9e33-c80aa9429562:1-4:7"])
    4
    """
    had, have = list(first), list(later)
    if None in had or None in have:
        return None
    lacking = 0
    for one in had:
        for other in have:
            for gone in subtract(parse_gtids(one or ""), parse_gtids(other or "")):
                low, high = gone.rpartition(":")[2].split("-")
                lacking += int(high) - int(low) + 1
    return lacking


def _readable(history: History, checker: str) -> tuple[list[FinalRead], Finding | None]:
    finals = [final for final in history.finals if not final.error]
    missing = sorted(set(history.meta.pets) - {final.pet for final in finals})
    if missing:
        return finals, Finding(checker, Verdict.UNKNOWN, (f"not read at the end: {some(missing)}",))
    return finals, None


def check_gtids(history: History) -> Finding:
    """GTID sets are equal as sets: what any pet had, every pet has a little later."""
    finals, problem = _readable(history, "gtids")
    sets = {final.pet: parse_gtids(final.gtid_executed) for final in finals}
    later = {final.pet: parse_gtids(final.gtid_later or final.gtid_executed) for final in finals}
    evidence = [
        f"{one} has, {other} has not: {some(extra)}"
        for one in sets
        for other in sets
        if one != other and (extra := subtract(sets[one], later[other]))
    ]
    if evidence:
        return Finding("gtids", Verdict.FALSE, tuple(evidence))
    if problem:
        return problem
    if not any(sets.values()):
        return Finding("gtids", Verdict.UNKNOWN, ("no pet has any transaction",))
    return Finding("gtids", Verdict.TRUE)


def check_identity(history: History) -> Finding:
    """Each pet is one server from its first look to its last read: none was initialised anew."""
    servers = history.servers()
    evidence = [f"{pet} was {' and then '.join(uuids)}" for pet, uuids in servers.items() if len(uuids) > 1]
    if evidence:
        return Finding("identity", Verdict.FALSE, tuple(evidence))
    if unknown := [pet for pet, uuids in servers.items() if not uuids]:
        return Finding("identity", Verdict.UNKNOWN, (f"never seen: {some(unknown)}",))
    return Finding("identity", Verdict.TRUE)


def check_foreign(history: History) -> Finding:
    """Every transaction comes from one of the set's own servers."""
    finals, problem = _readable(history, "foreign")
    if problem:
        return problem
    ours = {final.server.lower() for final in finals}
    evidence = [
        f"{final.pet} has transactions of {uuid}, which is no pet of the set"
        for final in finals
        for uuid in sorted({key.split(":")[0] for key in parse_gtids(final.gtid_executed)} - ours)
    ]
    if len(ours) != len(finals):
        evidence.append(f"{len(finals)} pets share {len(ours)} server_uuids")
    return Finding("foreign", Verdict.FALSE if evidence else Verdict.TRUE, tuple(evidence))


def check_checksums(history: History) -> Finding:
    """CHECKSUM TABLE gives the same on every pet, for the same tables."""
    finals, problem = _readable(history, "checksums")
    evidence = []
    for table in sorted({name for final in finals for name in final.checksums}):
        values = {final.pet: final.checksums.get(table) for final in finals}
        if len(set(values.values())) > 1 or None in values.values():
            evidence.append(f"table {table}: " + ", ".join(f"{pet} {value}" for pet, value in sorted(values.items())))
    if evidence:
        return Finding("checksums", Verdict.FALSE, tuple(evidence))
    if problem:
        return problem
    if not any(final.checksums for final in finals):
        return Finding("checksums", Verdict.UNKNOWN, ("no table was compared",))
    return Finding("checksums", Verdict.TRUE)
