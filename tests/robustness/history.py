# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened in a run, as data on disk: what clients tried and saw, what was done to the set, what was read after.

All times are of this host's monotonic clock in nanoseconds (``time.monotonic_ns``): every part of the harness runs on
one host, so they compare. ``meta.wall_base_ns`` turns one into the time of day. A history is one file of JSON lines,
each with a ``type``; it is judged from the file, never from memory, so that a stored one can be judged again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

FORMAT = 1


class Outcome(StrEnum):
    """What a client knows of its operation: done, surely not done, or unknown (it may land at any time later)."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a client is about to try, written before its statement is sent: a client that dies has said so."""

    type: ClassVar[str] = "intent"
    process: int
    f: str
    value: tuple[int, ...]
    invoked_ns: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One transaction of one client.

    ``process``  which client; one operation of a process is in flight at a time
    ``f``        append (value: [client, sequence]) or write (value: [register, number])
    ``server``   server_uuid that the connection had reached; empty if it never got that far
    ``error``    for fail and info: the client library's number and text
    """

    type: ClassVar[str] = "operation"
    process: int
    f: str
    value: tuple[int, ...]
    invoked_ns: int
    completed_ns: int
    outcome: Outcome
    error: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the harness did or saw.

    ``phase``  setup, inject, effective, recover, recovered, heal, healthy, or state for what changed by itself
    """

    type: ClassVar[str] = "event"
    at_ns: int
    phase: str
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one pet, between two times. ``is_open`` None: it did not answer, which says nothing."""

    type: ClassVar[str] = "sample"
    pet: str
    asked_ns: int
    answered_ns: int
    is_open: bool | None
    server: str = ""


@dataclass(frozen=True, slots=True)
class FinalRead:
    """What one pet had after everything was healed. ``error``: why it could not be read; then the rest is empty.

    ``gtid_later``  the set again, after it had time to catch up: pets may write heartbeats all the time, so the
                   sets of two times need not be equal; what one had first, all must have later
    ``rows``       of the append workload, of this run's clients: client -> list of [first, last] sequence ranges
    ``registers``  register -> number, of this run's clients
    ``checksums``  table -> CHECKSUM TABLE
    ``earlier``    how many rows of the append workload are of other runs' clients; -1: not counted
    """

    type: ClassVar[str] = "final"
    pet: str
    server: str
    gtid_executed: str
    gtid_later: str = ""
    rows: dict[str, list[list[int]]] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, int | None] = field(default_factory=dict)
    error: str = ""
    earlier: int = -1


@dataclass(frozen=True, slots=True)
class Meta:
    """The run itself.

    ``expect``  what the fault is supposed to do: heal (by itself), site (the playbook heals it), refuse (the pet must
                not start until a person acts), red (damage on purpose, which has to be found)
    ``healed_by``  empty: by itself; else the command
    ``gap_limit_s``  clients may be without an acknowledged write for so long; 0: however long
    ``keeps_writer``  the fault must not make another pet the writer
    ``reddens``  of damage on purpose: the checkers that have to find it
    ``earlier``  how many rows clients of earlier runs have in the set; -1: not known
    """

    type: ClassVar[str] = "meta"
    fault: str
    seed: int
    pets: tuple[str, ...]
    wall_base_ns: int
    mode: str = "single_writer"
    target: str = ""
    expect: str = "heal"
    healed_by: str = ""
    is_settled: bool = True
    notes: tuple[str, ...] = ()
    gap_limit_s: float = 0.0
    keeps_writer: bool = False
    reddens: tuple[str, ...] = ()
    earlier: int = -1
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class History:
    """A whole run; operations in the order of their completion."""

    meta: Meta
    operations: tuple[Operation, ...] = ()
    events: tuple[Event, ...] = ()
    samples: tuple[Sample, ...] = ()
    finals: tuple[FinalRead, ...] = ()

    def first(self, phase: str) -> int | None:
        """When this phase was first reached."""
        return next((event.at_ns for event in self.events if event.phase == phase), None)

    def last(self, phase: str) -> int | None:
        """When this phase was last reached."""
        return next((event.at_ns for event in reversed(self.events) if event.phase == phase), None)

    def servers(self) -> dict[str, list[str]]:
        """The server_uuids that were seen under each pet's name, in the order of the first look at each."""
        found: dict[str, dict[str, None]] = {pet: {} for pet in self.meta.pets}
        seen = [(one.pet, one.server) for one in self.samples] + [(one.pet, one.server) for one in self.finals]
        for pet, server in seen:
            if server:
                found.setdefault(pet, {})[server.lower()] = None
        return {pet: list(uuids) for pet, uuids in found.items()}

    def acknowledged(self) -> Iterator[Operation]:
        """What clients were told is done."""
        return (one for one in self.operations if one.outcome is Outcome.OK)


Record = Intent | Operation | Event | Sample | FinalRead | Meta


def render_line(record: Record) -> str:
    """One record as a line of JSON, its end included."""
    return json.dumps({"type": record.type, **dataclasses.asdict(record)}, separators=(",", ":")) + "\n"


def parse_line(text: str) -> Record:
    """A record back from its line. ValueError: not one of ours, with what is wrong."""
    try:
        data: dict[str, Any] = json.loads(text)
        kind = data.pop("type")
        if kind == "intent":
            return Intent(**{**data, "value": tuple(data["value"])})
        if kind == "operation":
            return Operation(**{**data, "value": tuple(data["value"]), "outcome": Outcome(data["outcome"])})
        if kind == "event":
            return Event(**data)
        if kind == "sample":
            return Sample(**data)
        if kind == "final":
            return FinalRead(**data)
        if kind == "meta":
            lists: dict[str, Any] = {name: tuple(data[name]) for name in ("pets", "notes", "reddens") if name in data}
            meta = Meta(**{**data, **lists})
            if meta.format != FORMAT:
                raise ValueError(f"format {meta.format}, not {FORMAT}")
            return meta
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a record of a history: {text[:80]!r}: {error}") from error
    raise ValueError(f"not a record of a history: unknown type {kind!r}")


def assemble(records: Iterable[Record]) -> History:
    """A history of records in any order. ValueError: no meta, or more than one.

    An intent of which nothing more is known is an operation of unknown fate, the last that its client has tried.
    """
    found = list(records)
    metas = [one for one in found if isinstance(one, Meta)]
    if len(metas) != 1:
        raise ValueError(f"a history has one meta record, not {len(metas)}")
    return History(
        metas[0],
        tuple(sorted(_operations(found), key=lambda r: (r.completed_ns, r.process))),
        tuple(sorted((r for r in found if isinstance(r, Event)), key=lambda r: r.at_ns)),
        tuple(sorted((r for r in found if isinstance(r, Sample)), key=lambda r: r.asked_ns)),
        tuple(sorted((r for r in found if isinstance(r, FinalRead)), key=lambda r: r.pet)),
    )


def _operations(records: Iterable[Record]) -> list[Operation]:
    found: list[Operation] = []
    intents: dict[tuple[int, str, tuple[int, ...]], Intent] = {}
    for one in records:
        if isinstance(one, Operation):
            found.append(one)
        elif isinstance(one, Intent):
            intents[one.process, one.f, one.value] = one
    for done in found:
        intents.pop((done.process, done.f, done.value), None)
    end_ns = max((one.completed_ns for one in found), default=0)
    return found + [
        Operation(
            one.process,
            one.f,
            one.value,
            one.invoked_ns,
            max(end_ns, one.invoked_ns),
            Outcome.INFO,
            "its client ended before it knew",
        )
        for one in intents.values()
    ]


def read_records(path: Path) -> Iterator[Record]:
    """The records of one file. A last line that a kill cut short is left out: its operation was never complete."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield parse_line(line)


def load(folder: Path) -> History:
    """The history of a run from its folder (all ``*.jsonl``)."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ValueError(f"{folder} holds no history (*.jsonl)")
    return assemble(record for path in files for record in read_records(path))


def to_ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Sorted [first, last] ranges of whole numbers.

    >>> to_ranges([3, 1, 2, 7])
    [[1, 3], [7, 7]]
    """
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
