# SPDX-License-Identifier: GPL-3.0-or-later
"""A good history, and ways to spoil it."""

from __future__ import annotations

from dataclasses import replace

from tests.robustness.history import Event, FinalRead, History, Meta, Operation, Outcome, Sample

A = "aaaaaaaa-0000-4000-8000-00000000000a"
B = "bbbbbbbb-0000-4000-8000-00000000000b"
C = "cccccccc-0000-4000-8000-00000000000c"
S = 1_000_000_000
PETS = ("mysql-0", "mysql-1")


def append(at_s: float, number: int, outcome: Outcome = Outcome.OK, server: str = A) -> Operation:
    return Operation(0, "append", (100, number), int(at_s * S), int((at_s + 0.01) * S), outcome, "", server)


def write(at_s: float, number: int, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation(1, "write", (7, number), int(at_s * S), int((at_s + 0.01) * S), outcome)


def final(pet: str, server: str, **changes: object) -> FinalRead:
    good = FinalRead(
        pet, server, f"{A}:1-5,{B}:1-6", "", {"100": [[1, 4], [6, 9]]}, {"7": 4}, {"appended": 11, "registers": 12}
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def good(**changes: object) -> History:
    """The writer is killed at 2 s; mysql-1 takes over at 4 s; row 5 has an unknown fate and never landed."""
    events = (
        Event(2 * S, "inject", "mysqld-kill", "mysqld-kill on mysql-0"),
        Event(int(2.2 * S), "effective", "mysqld-kill"),
        Event(int(2.3 * S), "recover", "mysqld-kill"),
        Event(6 * S, "recovered", "mysqld-kill"),
        Event(int(7.5 * S), "healthy", "mysqld-kill"),
    )
    operations = (
        append(0.5, 1),
        write(0.6, 1),
        append(1, 2),
        append(1.5, 3),
        write(1.6, 2),
        append(1.9, 4),
        append(2.05, 5, Outcome.INFO),
        write(2.1, 3, Outcome.INFO),
        append(4.5, 6, server=B),
        append(5, 7, server=B),
        append(6.5, 8, server=B),
        write(6.6, 4),
        append(7, 9, server=B),
    )
    looks = [Sample("mysql-0", int(t / 10 * S), int((t / 10 + 0.01) * S), t < 20, A) for t in range(80)]
    looks += [Sample("mysql-1", int(t / 10 * S), int((t / 10 + 0.01) * S), t > 40, B) for t in range(80)]
    history = History(
        Meta("mysqld-kill", 1, PETS, 0, target="mysql-0"),
        operations,
        events,
        tuple(sorted(looks, key=lambda one: one.asked_ns)),
        (final("mysql-0", A), final("mysql-1", B)),
    )
    return replace(history, **changes)  # type: ignore[arg-type]
