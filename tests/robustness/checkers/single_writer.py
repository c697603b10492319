# SPDX-License-Identifier: GPL-3.0-or-later
"""At most one pet is open for writes at any moment.

Only what is proven counts. A pet was open, at some moment between question and answer, when a look found it open and
when it acknowledged a write. Between two such moments that are near each other it was open as well, unless a look
between them got another answer or none. Two such windows of different pets that overlap are two writers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from tests.robustness.checkers.base import Finding, Verdict, some
from tests.robustness.history import History, Sample

# Between looks further apart than this, a pet may have closed and opened again.
MAX_STEP_NS = 1_500_000_000
# A pet whose looks end so long before those of others was no longer looked at.
MAX_SILENCE_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """A pet was open for writes from ``begin_ns`` to ``end_ns``."""

    pet: str
    begin_ns: int
    end_ns: int


def open_windows(samples: Iterable[Sample], max_step_ns: int = MAX_STEP_NS) -> list[Window]:
    """The proven windows, in the order of their begin."""
    by_pet: dict[str, list[Sample]] = {}
    for sample in samples:
        by_pet.setdefault(sample.pet, []).append(sample)
    windows = [one for pet, ours in by_pet.items() for one in _windows_of(pet, ours, max_step_ns)]
    return sorted(windows, key=lambda one: (one.begin_ns, one.pet))


def _windows_of(pet: str, samples: list[Sample], max_step_ns: int) -> list[Window]:
    found = sorted((one for one in samples if one.is_open), key=lambda one: one.answered_ns)
    answered = [one.answered_ns for one in found]
    others = sorted((one for one in samples if not one.is_open), key=lambda one: one.asked_ns)
    asked = [one.asked_ns for one in others]
    windows: list[Window] = []
    for after in sorted(found, key=lambda one: one.asked_ns):
        place = bisect_left(answered, after.asked_ns)
        if place == 0:
            continue
        before = found[place - 1]
        if before.server != after.server or after.asked_ns - before.answered_ns > max_step_ns:
            continue
        # Looks at one pet are one after the other, so the last one that was asked before is the last that answered.
        last = bisect_left(asked, after.asked_ns)
        if last and others[last - 1].answered_ns > before.answered_ns:
            continue
        if windows and windows[-1].end_ns >= before.asked_ns:
            windows[-1] = Window(pet, windows[-1].begin_ns, max(windows[-1].end_ns, after.asked_ns))
        else:
            windows.append(Window(pet, before.answered_ns, after.asked_ns))
    return windows


def proofs(history: History) -> list[Sample]:
    """The looks, and each acknowledged write as a look that found the pet open whose server acknowledged it."""
    pets: dict[str, set[str]] = {}
    for pet, servers in history.servers().items():
        for server in servers:
            pets.setdefault(server, set()).add(pet)
    acknowledged = [
        Sample(pet, one.invoked_ns, one.completed_ns, True, one.server)
        for one in history.acknowledged()
        # What two pets share is told by another checker.
        if len(names := pets.get(one.server.lower(), set())) == 1
        for pet in names
    ]
    return [*history.samples, *acknowledged]


def _overlaps(windows: list[Window]) -> list[str]:
    overlaps = []
    for index, one in enumerate(windows):
        for other in windows[index + 1 :]:
            begin, end = max(one.begin_ns, other.begin_ns), min(one.end_ns, other.end_ns)
            if one.pet != other.pet and begin < end:
                overlaps.append(f"{one.pet} and {other.pet} for {(end - begin) / 1e9:.3f} s")
    return overlaps


def _moments(windows: list[Window], seen: Iterable[Sample]) -> list[str]:
    """Single proofs of one pet that lie within a window of another: open at some moment of it, however shortly."""
    return [
        f"{one.pet} and {window.pet} at a moment {one.asked_ns / 1e9:.3f} s to {one.answered_ns / 1e9:.3f} s"
        for one in seen
        if one.is_open
        for window in windows
        if window.pet != one.pet and window.begin_ns <= one.asked_ns and one.answered_ns <= window.end_ns
    ]


def _unseen(history: History) -> list[str]:
    """Pets of which the looks say nothing, or nothing any more."""
    last_ns = max((one.asked_ns for one in history.samples), default=0)
    unseen = []
    for pet in history.meta.pets:
        looks = [one for one in history.samples if one.pet == pet]
        if not any(one.is_open is not None for one in looks):
            unseen.append(f"{pet} answered no look")
        elif last_ns - max(one.asked_ns for one in looks) > MAX_SILENCE_NS:
            unseen.append(f"{pet} was not looked at until the end")
    return unseen


def check_single_writer(history: History) -> Finding:
    """No two pets' windows overlap. In spread mode there is nothing to check."""
    if history.meta.mode != "single_writer":
        return Finding("single_writer", Verdict.TRUE, (f"not asked for in mode {history.meta.mode}",))
    seen = proofs(history)
    windows = open_windows(seen)
    if not windows:
        return Finding("single_writer", Verdict.UNKNOWN, ("no pet was ever seen open for writes",))
    overlaps = _overlaps(windows) or _moments(windows, seen)
    figures: dict[str, float | None] = {"overlaps": len(overlaps)}
    if overlaps:
        return Finding("single_writer", Verdict.FALSE, (f"two pets were open: {some(overlaps)}",), figures)
    if unseen := _unseen(history):
        return Finding("single_writer", Verdict.UNKNOWN, tuple(unseen), figures)
    return Finding("single_writer", Verdict.TRUE, (), figures)
