# SPDX-License-Identifier: GPL-3.0-or-later
"""All checkers over one history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.robustness.checkers.availability import check_availability, check_effect, check_healing
from tests.robustness.checkers.base import Finding, Verdict, worst
from tests.robustness.checkers.convergence import check_checksums, check_foreign, check_gtids, check_identity
from tests.robustness.checkers.lost_writes import check_lost_writes, check_registers, check_unexpected_rows
from tests.robustness.checkers.single_writer import check_single_writer
from tests.robustness.history import History

CHECKERS: tuple[Callable[[History], Finding], ...] = (
    check_effect,
    check_lost_writes,
    check_unexpected_rows,
    check_registers,
    check_gtids,
    check_identity,
    check_foreign,
    check_checksums,
    check_single_writer,
    check_healing,
    check_availability,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict over a run and what each checker found."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def is_damaged(self) -> bool:
        """Whether the pets' data are not what they should be, and stay so: runs after this one would tell it again."""
        of_data = {"lost_writes", "unexpected_rows", "registers", "gtids", "identity", "foreign", "checksums"}
        return any(one.verdict is Verdict.FALSE and one.checker in of_data for one in self.findings)

    def figure(self, name: str) -> float | None:
        """A figure by its name, from whichever checker has it."""
        return next((f.figures[name] for f in self.findings if name in f.figures), None)


def judge(history: History) -> Judgement:
    """Judge a run by every checker; the worst verdict wins."""
    findings = tuple(check(history) for check in CHECKERS)
    return Judgement(worst(one.verdict for one in findings), findings)
