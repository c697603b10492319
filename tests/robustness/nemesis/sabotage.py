# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage done on purpose, to prove that the checkers bite: such a run is good only when its verdict is false."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.robustness.nemesis.base import Fault, Pick
from tests.robustness.workloads import append

if TYPE_CHECKING:
    from tests.robustness.world import World


class RowDeleted(Fault):
    """A row is deleted on the pet that does not write, past its binary log."""

    name = "sabotage-row-deleted"
    aim = "other"
    expect = "red"

    def inject(self, world: World, pick: Pick) -> None:
        """The first row of the newest client: acknowledged long ago."""
        world.sql(
            pick.pet,
            "SET SESSION sql_log_bin = 0; SET GLOBAL super_read_only = 0; SET GLOBAL read_only = 0;"
            f" DELETE FROM faults.{append.TABLE} ORDER BY client DESC, seq LIMIT 1; SET GLOBAL super_read_only = 1;",
        )

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The statements came through."""
        return True

    def recover(self, world: World, pick: Pick) -> None:
        """Put back after the reads, by hand or by a new clone: the damage is the point."""


class TwoWriters(Fault):
    """The pet that does not write is opened for some seconds."""

    name = "sabotage-two-writers"
    aim = "other"
    expect = "red"
    hold_s = 5.0

    def inject(self, world: World, pick: Pick) -> None:
        """Open."""
        world.sql(pick.pet, "SET GLOBAL super_read_only = 0; SET GLOBAL read_only = 0;")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The statements came through."""
        return True

    def recover(self, world: World, pick: Pick) -> None:
        """Closed."""
        world.sql(pick.pet, "SET GLOBAL super_read_only = 1;", ok=False)
