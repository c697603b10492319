# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: true, false, or unknown; the worst one wins, and unknown is no pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum


class Verdict(IntEnum):
    """Ordered from the best to the worst."""

    TRUE = 0
    UNKNOWN = 1
    FALSE = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one checker says. ``evidence``: lines for a person; ``figures``: numbers for the table, times in seconds."""

    checker: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    figures: dict[str, float | None] = field(default_factory=dict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; unknown when there is none: nothing was checked.

    >>> str(worst([Verdict.TRUE, Verdict.UNKNOWN]))
    'unknown'
    """
    return max(verdicts, default=Verdict.UNKNOWN)


def some(items: Iterable[object], limit: int = 10) -> str:
    """The first few, and how many more there are."""
    listed = [str(one) for one in items]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
