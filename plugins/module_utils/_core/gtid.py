# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of GTIDs as MySQL writes them, compared as sets and never by count.

Source: MySQL 8.4 Reference Manual, "GTID Format and Storage"::

    gtid_set: uuid_set [, uuid_set] ... | ''
    uuid_set: uuid[:tag]:interval[:interval]...[:tag:interval...]
    interval: m[-n] with 1 <= m; an interval with n < m is empty

Tags exist since 8.3: ``[a-z_][a-z0-9_]{0,31}``, case does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

Interval = tuple[int, int]
"""First and last transaction number, both included."""
Source = tuple[str, str]
"""server_uuid in lower case and tag (empty without one)."""

LAST = 2**63 - 2
"""The largest number that MySQL gives to a transaction."""

_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|"
    r"\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}",
    re.ASCII,
)
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_INTERVAL = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_BLANKS = re.compile(r"\s+", re.ASCII)


class BadGtidSet(ValueError):
    """A text is no GTID set; the message names the part and what is wrong with it."""


class GtidSet:
    """An immutable set of GTIDs. ``GtidSet()`` is the empty one.

    >>> str(GtidSet.parse("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-3:5:4"))
    '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5'
    """

    __slots__ = ("_held",)

    def __init__(self, held: Mapping[Source, Iterable[Interval]] | None = None) -> None:
        merged = {source: _merged(intervals) for source, intervals in (held or {}).items()}
        self._held: dict[Source, tuple[Interval, ...]] = {
            source: merged[source] for source in sorted(merged) if merged[source]
        }

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """A set from MySQL's text, in any case, with blanks and line ends. BadGtidSet names the faulty part."""
        held: dict[Source, list[Interval]] = {}
        for part in _BLANKS.sub("", text).lower().split(","):
            if not part:
                continue
            uuid, *rest = part.split(":")
            if _UUID.fullmatch(uuid) is None:
                raise BadGtidSet(f"GTID set: {part[:80]!r}: {uuid[:40]!r} is not a UUID")
            if not rest:
                raise BadGtidSet(f"GTID set: {part[:80]!r}: no interval after the UUID")
            _read_intervals(_canonical_uuid(uuid), rest, part, held)
        return cls(held)

    def __str__(self) -> str:
        """MySQL's canonical form without line ends: sources in order, a tag after its UUID."""
        by_uuid: dict[str, str] = {}
        for (uuid, tag), intervals in self._held.items():
            text = (f":{tag}" if tag else "") + "".join(
                f":{first}" if first == last else f":{first}-{last}" for first, last in intervals
            )
            by_uuid[uuid] = by_uuid.get(uuid, uuid) + text
        return ",".join(by_uuid.values())

    def __repr__(self) -> str:
        return f"GtidSet({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._held == other._held if isinstance(other, GtidSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._held.items()))

    def __bool__(self) -> bool:
        """False for the empty set."""
        return bool(self._held)

    def __len__(self) -> int:
        """Number of transactions: for lags and messages, never for comparison."""
        return sum(last - first + 1 for _source, first, last in self.intervals())

    def __contains__(self, gtid: str) -> bool:
        """Is that one GTID (or set) in here?"""
        return GtidSet.parse(gtid).issubset(self)

    def issubset(self, other: GtidSet) -> bool:
        """Is every transaction of this set in the other?"""
        return not self - other

    def __le__(self, other: GtidSet) -> bool:
        return self.issubset(other)

    def __or__(self, other: GtidSet) -> GtidSet:
        return GtidSet({source: (*self._of(source), *other._of(source)) for source in {*self._held, *other._held}})

    def __sub__(self, other: GtidSet) -> GtidSet:
        return GtidSet({source: _without(mine, other._of(source)) for source, mine in self._held.items()})

    def __and__(self, other: GtidSet) -> GtidSet:
        return self - (self - other)

    def uuids(self) -> frozenset[str]:
        """The servers that the transactions come from, lower case."""
        return frozenset(uuid for uuid, _tag in self._held)

    def of(self, uuids: Iterable[str]) -> GtidSet:
        """Only the transactions of these servers."""
        wanted = {uuid.lower() for uuid in uuids}
        return GtidSet({source: held for source, held in self._held.items() if source[0] in wanted})

    def intervals(self) -> Iterator[tuple[Source, int, int]]:
        """Source, first and last number of each interval, in order."""
        for source, held in self._held.items():
            for first, last in held:
                yield source, first, last

    def _of(self, source: Source) -> tuple[Interval, ...]:
        return self._held.get(source, ())


def _canonical_uuid(text: str) -> str:
    digits = text.strip("{}").replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _read_intervals(uuid: str, words: list[str], part: str, held: dict[Source, list[Interval]]) -> None:
    tag = ""
    bare_tag = False
    for word in words:
        if _TAG.fullmatch(word):
            if bare_tag:
                raise BadGtidSet(f"GTID set: {part[:80]!r}: no interval after tag {tag!r}")
            tag, bare_tag = word, True
            continue
        found = _INTERVAL.fullmatch(word)
        if found is None:
            raise BadGtidSet(f"GTID set: {part[:80]!r}: {word[:40]!r} is neither an interval nor a tag")
        first = int(found[1])
        last = int(found[2]) if found[2] else first
        if first < 1 or max(first, last) > LAST:
            raise BadGtidSet(f"GTID set: {part[:80]!r}: {word!r} is not within 1 to {LAST}")
        held.setdefault((uuid, tag), []).append((first, last))
        bare_tag = False
    if bare_tag:
        raise BadGtidSet(f"GTID set: {part[:80]!r}: no interval after tag {tag!r}")


def _merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """In order, neighbours joined; an interval that ends before it begins is empty."""
    merged: list[Interval] = []
    for first, last in sorted(one for one in intervals if one[0] <= one[1]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _without(mine: tuple[Interval, ...], others: tuple[Interval, ...]) -> list[Interval]:
    left: list[Interval] = []
    for first, last in mine:
        at = first
        for start, end in others:
            if end < at or start > last:
                continue
            if start > at:
                left.append((at, start - 1))
            at = end + 1
        if at <= last:
            left.append((at, last))
    return left
