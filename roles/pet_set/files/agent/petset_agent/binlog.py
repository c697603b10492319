# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a binary log, read without a server: which transactions stand there, and where.

A writer that is killed leaves transactions in its binary log that no other pet has acknowledged. With semi-sync
AFTER_SYNC InnoDB has only prepared them: mysqld commits at its next start what it finds in the log and rolls back the
rest (two-phase commit of MySQL's manual, "Binary Log", sync_binlog). So what is cut off before that start never was.

Format: MySQL's "Replication Protocol", "Binlog Event"; integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

MAGIC = b"\xfebin"
ENCRYPTED = b"\xfdbin"
_HEADER = struct.Struct("<IBIIIH")
_FORMAT, _GTID, _ANONYMOUS, _PREVIOUS, _TAGGED = 15, 33, 34, 35, 42
_INTERESTING = frozenset({_GTID, _ANONYMOUS, _PREVIOUS, _TAGGED})
_IN_USE = 0x1
_READ_BYTES = 1 << 20
# Flags, server_uuid, number: the begin of a GTID event's body.
_GTID_BODY = struct.Struct("<B16sq")

Intervals = tuple[tuple[int, int], ...]
"""First and last number, both inclusive, in order."""
GtidSet = Mapping[str, Intervals]
"""By server_uuid in lower case."""


class NotReadable(ValueError):
    """The log is of a kind that is not cut, or is no log; the text says why."""


class Transaction(NamedTuple):
    """``offset``: of its first event, in bytes from the begin of the file; ``sid``: the server_uuid as it is there."""

    offset: int
    sid: bytes
    number: int

    @property
    def uuid(self) -> str:
        """The server_uuid."""
        return _uuid(self.sid)

    def __str__(self) -> str:
        return f"{self.uuid}:{self.number}"


@dataclass(frozen=True, slots=True)
class Log:
    """A binary log. ``in_use``: its mysqld did not close it. ``before``: all that stands in the logs before it.
    ``transactions`` are read once, while they are asked for: there may be a million.
    """

    in_use: bool
    before: GtidSet
    transactions: Iterable[Transaction]


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut the log at ``offset``; these transactions go."""

    offset: int
    transactions: tuple[Transaction, ...]


def parse_set(text: str) -> dict[str, Intervals]:
    """A set as MySQL writes it. NotReadable: tagged GTIDs, or no set.

    >>> parse_set("B5-1:1-3:5,\\n a:7")
    {'b5-1': ((1, 3), (5, 5)), 'a': ((7, 7),)}
    """
    found: dict[str, Intervals] = {}
    for part in "".join(text.split()).split(","):
        if not part:
            continue
        uuid, *ranges = part.lower().split(":")
        try:
            pairs = [(int(first), int(last or first)) for first, _dash, last in (one.partition("-") for one in ranges)]
        except ValueError:
            raise NotReadable(f"GTIDs with tags: {part[:80]}") from None
        found[uuid] = tuple(sorted((*found.get(uuid, ()), *pairs)))
    return found


def holds(gtids: GtidSet, uuid: str, number: int) -> bool:
    """Whether one GTID is in a set."""
    return any(first <= number <= last for first, last in gtids.get(uuid, ()))


def is_subset_of(inner: Sequence[tuple[int, int]], outer: Sequence[tuple[int, int]]) -> bool:
    """Of the numbers of one server. The intervals of ``outer`` may touch."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(outer):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return all(any(first <= a and b <= last for first, last in merged) for a, b in inner)


def _events(file: BinaryIO, length: int) -> Iterator[tuple[int, int, bytes]]:
    """Offset, type and body of the whole events that interest; the rest is skipped: a log may be a GiB."""
    offset, begin, data = len(MAGIC), 0, b""
    while offset + _HEADER.size <= length:
        at = offset - begin
        if at + _HEADER.size > len(data):
            begin, at, data = offset, 0, _read_at(file, offset, _READ_BYTES)
            if len(data) < _HEADER.size:
                return
        _when, kind, _server, size, _end, _flags = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or offset + size > length:
            return
        if kind in _INTERESTING:
            if at + size > len(data):
                begin, at, data = offset, 0, _read_at(file, offset, max(size, _READ_BYTES))
                if len(data) < size:
                    return
            yield offset, kind, data[at + _HEADER.size : at + size]
        offset += size


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def is_in_use(file: BinaryIO) -> bool:
    """Whether its mysqld did not close it: all in a closed one is committed. NotReadable."""
    file.seek(0)
    magic = file.read(len(MAGIC))
    if magic == ENCRYPTED:
        raise NotReadable("the binary log is encrypted")
    if magic != MAGIC:
        raise NotReadable("it is no binary log")
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[4] != _FORMAT:
        raise NotReadable("it does not begin as a binary log")
    return bool(_HEADER.unpack(head)[5] & _IN_USE)


def read_log(file: BinaryIO, length: int) -> Log:
    """A binary log of ``length`` bytes; a last event that is cut off is left out. NotReadable, also from its
    ``transactions``.
    """
    in_use = is_in_use(file)
    events = _events(file, length)
    for _offset, kind, body in events:
        if kind == _PREVIOUS:
            return Log(in_use, _decode_set(body), _transactions(events))
        break
    raise NotReadable("it does not say what stands in the logs before it")


def _transactions(events: Iterable[tuple[int, int, bytes]]) -> Iterator[Transaction]:
    for offset, kind, body in events:
        if kind != _GTID:
            raise NotReadable("it has transactions without a plain GTID")
        _flags, sid, number = _GTID_BODY.unpack_from(body)
        yield Transaction(offset, sid, number)


def _uuid(sid: bytes) -> str:
    text = sid.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _decode_set(body: bytes) -> dict[str, Intervals]:
    """The body of PREVIOUS_GTIDS: per server its id and intervals, whose ends are exclusive."""
    (count,) = struct.unpack_from("<Q", body)
    if count >> 56:
        raise NotReadable("it has GTIDs with tags")
    at, found = 8, {}
    for _server in range(count):
        sid, many = struct.unpack_from("<16sQ", body, at)
        at += 24
        pairs = [struct.unpack_from("<qq", body, at + 16 * one) for one in range(many)]
        at += 16 * many
        found[_uuid(sid)] = tuple((first, end - 1) for first, end in pairs)
    return found


def plan_cut(log: Log, me: str, theirs: GtidSet) -> Cut | None:
    """Where a killed writer's newest log is cut so that nothing is left that the new writer has not; None: nowhere.

    What the new writer wrote may stand behind: a pet that wakes has received it before it was closed. It waits for the
    commits before it, goes with them, and is fetched again. ``me``: the own server_uuid. NotReadable: the end is not
    such that it could be cut.
    """
    if not log.in_use:
        # Closed in order: all of it is committed.
        return None
    if not is_subset_of(log.before.get(me, ()), theirs.get(me, ())):
        raise NotReadable("logs before the newest one have transactions that the new writer has not")
    missing: list[Transaction] = []
    own, known = bytes.fromhex(me.replace("-", "")), theirs.get(me, ())
    for one in log.transactions:
        if one.sid == own and not any(first <= one.number <= last for first, last in known):
            missing.append(one)
        elif missing and one.sid == own:
            raise NotReadable(f"behind {missing[0]}, which the new writer has not, stands {one}, which it has")
        elif missing and not holds(theirs, _uuid(one.sid), one.number):
            raise NotReadable(f"behind {missing[0]} stands {one} of another server, and the new writer has neither")
    return Cut(missing[0].offset, tuple(missing)) if missing else None
