# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage done on purpose, to prove that the checkers bite: such a run is good only when its verdict is false."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.robustness.nemesis.base import Fault, NotEffective, Pick
from tests.robustness.nemesis.machines import NodeOff
from tests.robustness.workloads import append

if TYPE_CHECKING:
    from tests.robustness.world import World


class RowDeleted(Fault):
    """A row is deleted on the pet that does not write, past its binary log."""

    name = "sabotage-row-deleted"
    aim = "other"
    expect = "red"
    reddens = ("lost_writes", "checksums")

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


class NoSemiSync(NodeOff):
    """Commits wait for no other pet and are not synced, as with the settings of a fast benchmark; then the power goes.

    The pets are cut from each other, so that the agent itself lets commits go on alone. That alone loses nothing, as
    the fault cut-peer shows: what was acknowledged is on the writer's disk, were it not for the two settings.
    """

    name = "sabotage-no-semi-sync"
    expect = "red"
    reddens = ("lost_writes",)
    hold_s = 0.0
    # For how long commits are acknowledged by the one pet alone.
    alone_s = 4.0

    def setup(self, world: World, pick: Pick) -> None:
        """Where the pets are."""
        super().setup(world, pick)
        self.peers = sorted({world.node_of(pet) for pet in world.place.pets if pet != pick.pet})

    def inject(self, world: World, pick: Pick) -> None:
        """Settings, cut, some seconds of writes, power off."""
        world.sql(pick.pet, "SET GLOBAL sync_binlog = 0; SET GLOBAL innodb_flush_log_at_trx_commit = 0;")
        for peer in self.peers:
            world.lab("cut", self.nodes[pick.pet], peer)
        deadline = time.monotonic() + 30
        while world.sql(pick.pet, "SELECT @@rpl_semi_sync_source_enabled", ok=False).strip() != "0":
            if time.monotonic() > deadline:
                raise NotEffective(f"{self.name}: commits of {pick.pet} still wait for another pet")
            time.sleep(0.2)
        time.sleep(self.alone_s)
        super().inject(world, pick)

    def recover(self, world: World, pick: Pick) -> None:
        """Cut and power are mended; the settings went with the power, and so did the writes."""
        world.lab("heal", self.nodes[pick.pet])
        super().recover(world, pick)


class TwoWriters(Fault):
    """The pet that does not write is opened for some seconds."""

    name = "sabotage-two-writers"
    aim = "other"
    expect = "red"
    reddens = ("single_writer",)
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
