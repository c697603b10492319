# SPDX-License-Identifier: GPL-3.0-or-later
"""At most one pet is open for writes at any moment.

Only what is proven counts: a pet that was seen open by two looks in a row was open from the answer of the first to the
question of the second. Two such windows of different pets that overlap are two writers.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.robustness.checkers.base import Finding, Verdict, some
from tests.robustness.history import History, Sample

# Between looks further apart than this, a pet may have closed and opened again.
MAX_STEP_NS = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """A pet was open for writes from ``begin_ns`` to ``end_ns``."""

    pet: str
    begin_ns: int
    end_ns: int


def open_windows(samples: tuple[Sample, ...], max_step_ns: int = MAX_STEP_NS) -> list[Window]:
    """The proven windows, in the order of their begin."""
    windows: list[Window] = []
    for pet in sorted({sample.pet for sample in samples}):
        before: Sample | None = None
        for sample in (one for one in samples if one.pet == pet):
            if (
                before is not None
                and before.is_open
                and sample.is_open
                and before.server == sample.server
                and before.answered_ns < sample.asked_ns <= before.answered_ns + max_step_ns
            ):
                if windows and windows[-1].pet == pet and windows[-1].end_ns >= before.asked_ns:
                    windows[-1] = Window(pet, windows[-1].begin_ns, sample.asked_ns)
                else:
                    windows.append(Window(pet, before.answered_ns, sample.asked_ns))
            before = sample
    return sorted(windows, key=lambda one: (one.begin_ns, one.pet))


def check_single_writer(history: History) -> Finding:
    """No two pets' windows overlap. In spread mode there is nothing to check."""
    if history.meta.mode != "single_writer":
        return Finding("single_writer", Verdict.TRUE, (f"not asked for in mode {history.meta.mode}",))
    windows = open_windows(history.samples)
    if not windows:
        return Finding("single_writer", Verdict.UNKNOWN, ("no pet was ever seen open for writes",))
    overlaps = []
    for index, one in enumerate(windows):
        for other in windows[index + 1 :]:
            begin, end = max(one.begin_ns, other.begin_ns), min(one.end_ns, other.end_ns)
            if one.pet != other.pet and begin < end:
                overlaps.append(f"{one.pet} and {other.pet} for {(end - begin) / 1e9:.3f} s")
    figures: dict[str, float | None] = {"overlaps": len(overlaps)}
    if overlaps:
        return Finding("single_writer", Verdict.FALSE, (f"two pets were open: {some(overlaps)}",), figures)
    return Finding("single_writer", Verdict.TRUE, (), figures)
