# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: look, judge, sleep a little longer each time, and say in words what is still missing.

Ansible shows nothing of a module while it runs: standard output is the result and standard error is dropped. So each
line of progress goes to every sink that the module was given: the system log, and a file that somebody can follow
(``progress_file``, or the variable STATEFUL_PETSET_PROGRESS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .._core.errors import ApiError, TimedOut, TryAgain, Unreachable
from .._core.judgement import Judgement
from .clock import Clock, Deadline

Observation = TypeVar("Observation")
Progress = Callable[[str], None]

FIRST_INTERVAL_S = 0.2
GROWTH = 1.5
LONGEST_INTERVAL_S = 3.0


@dataclass(slots=True)
class Waited(Generic[Observation]):
    """The outcome of a wait: the last observation and judgement, and how long it took."""

    observation: Observation
    judgement: Judgement
    seconds: float
    looks: int
    lines: list[str] = field(default_factory=list)


def no_progress(line: str) -> None:
    """A sink that drops the line."""


def wait_until(
    what: str,
    observe: Callable[[], Observation],
    judge: Callable[[Observation], Judgement],
    deadline: Deadline,
    *,
    clock: Clock,
    progress: Progress = no_progress,
    explain: Callable[[Observation], Judgement] | None = None,
    longest_interval_s: float = LONGEST_INTERVAL_S,
) -> Waited[Observation]:
    """Look until ``judge`` says done. The last look is always after the last sleep, never before it.

    ``explain`` looks deeper once, when the time is up (events, for example), so that each look stays cheap.
    An API that is away in between is waited for as well, up to the same deadline.
    TimedOut: the deadline passed, or the judgement is hopeless; its details hold ``pets`` as last seen.
    """
    interval_s = FIRST_INTERVAL_S
    looks = 0
    said = ""
    lines: list[str] = []
    while True:
        looks += 1
        try:
            seen = observe()
        except (Unreachable, TryAgain) as problem:
            if deadline.over:
                raise
            said = _say(f"{what}: the API does not answer: {problem.reason}", said, lines, deadline, progress)
        else:
            judgement = judge(seen)
            if judgement.done:
                if looks > 1:
                    _say(f"{what}: {judgement.summary}", said, lines, deadline, progress)
                return Waited(seen, judgement, deadline.spent_s, looks, lines)
            said = _say(f"{what}: {judgement.summary}", said, lines, deadline, progress)
            if judgement.hopeless or deadline.over:
                raise _timed_out(what, seen, judgement, deadline, explain, lines)
        clock.sleep(min(interval_s, deadline.left_s))
        interval_s = min(interval_s * GROWTH, longest_interval_s)


def _say(line: str, said: str, lines: list[str], deadline: Deadline, progress: Progress) -> str:
    """Pass on a line only when it says something new."""
    if line != said:
        stamped = f"[{deadline.spent_s:5.1f} s] {line}"
        lines.append(stamped)
        progress(stamped)
    return line


def _timed_out(
    what: str,
    seen: Observation,
    judgement: Judgement,
    deadline: Deadline,
    explain: Callable[[Observation], Judgement] | None,
    lines: list[str],
) -> TimedOut:
    if explain is not None:
        try:
            judgement = explain(seen)
        except ApiError as problem:
            lines.append(f"no further explanation: {problem}")
    if judgement.hopeless:
        reason = f"waiting does not help: {judgement.hopeless}"
        if judgement.summary and judgement.hopeless not in judgement.summary:
            reason += f" ({judgement.summary})"
    else:
        reason = f"not done after {deadline.spent_s:.0f} s: {judgement.summary}"
    return TimedOut(
        what,
        reason,
        way_out=judgement.way_out,
        details={
            "pets": [dict(pet) for pet in judgement.pets],
            "waited_s": round(deadline.spent_s, 1),
            "progress": lines,
        },
    )


__all__ = ["Judgement", "Progress", "Waited", "no_progress", "wait_until"]
