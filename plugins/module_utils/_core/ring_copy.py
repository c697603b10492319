# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a CLONE is or a replica that catches up, whether it still moves, and what to do when it does not.

A copy takes as long as the data are large, and a pet that was away for long has much to apply, so the time that it
takes says nothing; that it gets no further does.

Source: MySQL 8.4 Reference Manual, "Monitoring Cloning Operations": clone_progress has one row for each stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_MIB: Final = 1048576

WAY_OUT_COPY: Final = (
    "run again: the pet goes on with the copy by itself, nothing is lost; if it stands still then as well, look at the "
    "logs of the pet and of its donor, then delete the pod: it is still empty, and is seeded anew"
)


@dataclass(frozen=True, slots=True)
class CloneStage:
    """One stage; ``state`` is MySQL's word: Not Started, In Progress, Completed, Failed."""

    name: str
    state: str
    done_bytes: int
    all_bytes: int


@dataclass(frozen=True, slots=True)
class CloneProgress:
    """The stages in their order; none before the copy begins."""

    stages: tuple[CloneStage, ...] = ()

    @property
    def reached(self) -> tuple[int, int]:
        """Stages that are over, and bytes of all: more than before whenever it gets on."""
        over = sum(stage.state == "Completed" for stage in self.stages)
        return over, sum(stage.done_bytes for stage in self.stages)

    def describe(self) -> str:
        """The stage that runs, or the last that ended.

        >>> CloneProgress((CloneStage("FILE COPY", "In Progress", 120 << 20, 480 << 20),)).describe()
        'FILE COPY, 120 of 480 MiB'
        """
        running = [stage for stage in self.stages if stage.state == "In Progress"]
        over = [stage for stage in self.stages if stage.state == "Completed"]
        shown = running[:1] or over[-1:]
        if not shown:
            return "beginning"
        stage = shown[0]
        return f"{stage.name}, {stage.done_bytes // _MIB} of {stage.all_bytes // _MIB} MiB"


def parse_clone_progress(rows: Sequence[Mapping[str, Any]]) -> CloneProgress:
    """The rows of clone_progress, whose numbers may be NULL."""
    return CloneProgress(
        tuple(
            CloneStage(str(row["stage"]), str(row["state"]), int(row["data"] or 0), int(row["estimate"] or 0))
            for row in rows
        )
    )


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """In seconds: how long a copy may stand still, and how long a run waits for it however it moves."""

    still_s: float = math.inf
    overall_s: float = math.inf


@dataclass(slots=True)
class CopyWatch:
    """The copy of one pet as one run sees it. One that begins anew by itself has to get further than it was to count:
    a pet that dies at the same place each time does not get on."""

    began_s: float
    moved_s: float
    progress: CloneProgress = field(default_factory=CloneProgress)

    def see(self, progress: CloneProgress, now_s: float) -> bool:
        """Is it further than it ever was?"""
        if progress.reached <= self.progress.reached:
            return False
        self.progress, self.moved_s = progress, now_s
        return True

    def is_too_long(self, now_s: float, limits: CopyLimits) -> bool:
        """Has the run waited for it as long as it may?"""
        return now_s - self.began_s >= limits.overall_s

    def why_over(self, now_s: float, limits: CopyLimits) -> str:
        """Why it is not waited for any more, with how far it is; empty while it is."""
        if self.is_too_long(now_s, limits):
            spent = f"CLONE has taken {now_s - self.began_s:.0f} s, clone_limit is {limits.overall_s:.0f} s"
            return f"{spent}: {self.progress.describe()}"
        if now_s - self.moved_s >= limits.still_s:
            return f"CLONE has got no further for {now_s - self.moved_s:.0f} s: {self.progress.describe()}"
        return ""


@dataclass(slots=True)
class LagWatch:
    """The transactions that pets had still to apply, as one run sees it: the fewest of each.

    Only fewer than ever count: a pet that its writer outruns does not get on.
    """

    fewest: dict[str, int] = field(default_factory=dict)

    def see(self, behind: Mapping[str, int]) -> bool:
        """Has any of these pets, each with the transactions that it lacks, fewer than ever?"""
        further = any(number < self.fewest.get(pet, number) for pet, number in behind.items())
        for pet, number in behind.items():
            self.fewest[pet] = min(number, self.fewest.get(pet, number))
        return further
