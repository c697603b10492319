# SPDX-License-Identifier: GPL-3.0-or-later
"""No acknowledged write is missing on any pet, none that surely failed is there, and no register went back."""

from __future__ import annotations

from collections import defaultdict

from tests.robustness.checkers.base import Finding, Verdict, some
from tests.robustness.history import FinalRead, History, Operation, Outcome


def _unread(history: History) -> list[str]:
    """Pets whose final state is not known, with the reason."""
    seen = {final.pet: final for final in history.finals}
    return [
        f"{pet}: {seen[pet].error if pet in seen else 'not read at the end'}"
        for pet in history.meta.pets
        if pet not in seen or seen[pet].error
    ]


def _rows(final: FinalRead) -> set[tuple[int, int]]:
    return {
        (int(client), number)
        for client, ranges in final.rows.items()
        for low, high in ranges
        for number in range(low, high + 1)
    }


def check_lost_writes(history: History) -> Finding:
    """Every acknowledged row is on every pet, and so are as many rows of earlier runs as they left behind."""
    wanted = {one.value for one in history.acknowledged() if one.f == "append"}
    evidence = []
    lost: set[tuple[int, ...]] = set()
    for final in history.finals:
        if final.error:
            continue
        if missing := wanted - _rows(final):
            lost |= missing
            evidence.append(f"{final.pet} lacks {len(missing)} acknowledged rows: {some(sorted(missing))}")
    figures: dict[str, float | None] = {"acknowledged": len(wanted), "lost": len(lost)}
    earlier = [
        f"{final.pet} has {final.earlier} of {history.meta.earlier} rows of earlier runs"
        for final in history.finals
        if not final.error and 0 <= final.earlier < history.meta.earlier
    ]
    if earlier and not lost:
        fewest = min(final.earlier for final in history.finals if final.earlier >= 0)
        figures["lost"] = history.meta.earlier - fewest
        return Finding("lost_writes", Verdict.FALSE, tuple(earlier), figures)
    if lost:
        evidence += earlier
        # missing on one pet may be replication that stands still; missing on all is gone
        gone = lost.difference(*(_rows(final) for final in history.finals if not final.error))
        evidence.append(f"{len(gone)} of them are on no pet" + (f": {some(sorted(gone))}" if gone else ""))
        return Finding("lost_writes", Verdict.FALSE, tuple(evidence), {**figures, "gone": len(gone)})
    if unread := _unread(history):
        return Finding("lost_writes", Verdict.UNKNOWN, tuple(unread), {**figures, "lost": None})
    if not wanted:
        return Finding("lost_writes", Verdict.UNKNOWN, ("no row was acknowledged",), figures)
    return Finding("lost_writes", Verdict.TRUE, (), figures)


def check_unexpected_rows(history: History) -> Finding:
    """No row that no client sent, or that a client was told had surely failed. One of unknown fate may be there."""
    possible = {one.value for one in history.operations if one.f == "append" and one.outcome is not Outcome.FAIL}
    unknown = {one.value for one in history.operations if one.f == "append" and one.outcome is Outcome.INFO}
    evidence, landed = [], set()
    for final in history.finals:
        rows = _rows(final)
        landed |= rows & unknown
        if strange := rows - possible:
            evidence.append(f"{final.pet} has {len(strange)} rows that nobody wrote: {some(sorted(strange))}")
    figures: dict[str, float | None] = {"unknown": len(unknown), "unknown_landed": len(landed)}
    if evidence:
        return Finding("unexpected_rows", Verdict.FALSE, tuple(evidence), figures)
    if unread := _unread(history):
        return Finding("unexpected_rows", Verdict.UNKNOWN, tuple(unread), figures)
    return Finding("unexpected_rows", Verdict.TRUE, (), figures)


def _allowed(writes: list[Operation]) -> tuple[int, set[int]]:
    """The last acknowledged number of a register, and all numbers that it may have at the end.

    A write of unknown fate may have landed in place of what came before it. One that was sent before the last
    acknowledged one must not have come after it: its connection was gone, so only a late replay would do that, and
    that is the silent overwrite we look for.
    """
    last = max((one.value[1] for one in writes if one.outcome is Outcome.OK), default=0)
    return last, {last} | {one.value[1] for one in writes if one.outcome is Outcome.INFO and one.value[1] > last}


def check_registers(history: History) -> Finding:
    """A register holds its last acknowledged number, or a later one whose fate is unknown, on every pet."""
    by_register: dict[int, list[Operation]] = defaultdict(list)
    for one in history.operations:
        if one.f == "write":
            by_register[one.value[0]].append(one)
    if not by_register:
        return Finding("registers", Verdict.TRUE, ("no register was written",))
    evidence = []
    for register, writes in sorted(by_register.items()):
        last, allowed = _allowed(writes)
        for final in history.finals:
            if final.error:
                continue
            number = final.registers.get(str(register))
            if number not in allowed:
                evidence.append(
                    f"{final.pet}: register {register} is {number}, acknowledged was {last}, allowed are"
                    f" {some(sorted(allowed))}"
                )
    if evidence:
        return Finding("registers", Verdict.FALSE, tuple(evidence), {"overwritten": len(evidence)})
    if unread := _unread(history):
        return Finding("registers", Verdict.UNKNOWN, tuple(unread))
    return Finding("registers", Verdict.TRUE, (), {"overwritten": 0})
