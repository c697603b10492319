# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as a thing that can be handed in, so that tests wait for nothing."""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes back, and the only way to sleep."""

    def now_s(self) -> float:
        """Seconds since some moment; only differences mean something."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass; nothing for zero or less."""


class MonotonicClock:
    """The clock of the system that is not changed when somebody sets the time."""

    def now_s(self) -> float:
        """Seconds of ``time.monotonic``."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """``time.sleep``, never a negative one."""
        if seconds > 0:
            time.sleep(seconds)


class Deadline:
    """A moment until which something has to be done; all parts of one task take their budget from one deadline."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self.clock = clock
        self.limit_s = limit_s
        self._start_s = self._since_s = clock.now_s()

    @property
    def spent_s(self) -> float:
        """Seconds since the deadline was set."""
        return self.clock.now_s() - self._start_s

    @property
    def left_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.limit_s - (self.clock.now_s() - self._since_s))

    @property
    def over(self) -> bool:
        """True when nothing is left."""
        return self.left_s <= 0.0

    def extend(self) -> None:
        """Something that takes as long as it takes gets on: the limit counts anew from now."""
        self._since_s = self.clock.now_s()

    def end(self) -> None:
        """Another limit is over, and so is this one."""
        self._since_s = -math.inf
