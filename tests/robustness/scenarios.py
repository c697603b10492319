# SPDX-License-Identifier: GPL-3.0-or-later
"""Which faults there are, and in which order a suite stages them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.robustness.nemesis import kill, machines, sabotage, volumes
from tests.robustness.nemesis.base import Fault

FAULTS: dict[str, type[Fault]] = {
    one.name: one
    for one in (
        kill.Noop,
        kill.PodDelete,
        kill.PodDeleteOther,
        kill.BothPodsDelete,
        kill.MysqldKill,
        kill.MysqldKillOther,
        kill.MysqldKillBehind,
        kill.BothKill,
        kill.ContainerKill,
        kill.MysqldStop,
        machines.NodeOff,
        machines.NodeOffLong,
        machines.NodePause,
        machines.CutApi,
        machines.CutPeer,
        machines.CutApiAndPeer,
        machines.CutAll,
        machines.NfsRestart,
        machines.NfsAway,
        machines.NfsAwayLong,
        machines.DiskFull,
        machines.CorednsStop,
        machines.ApiStop,
        machines.ClockShift,
        machines.NetSlow,
        machines.SiteWhileDown,
        volumes.EmptyFolder,
        volumes.TwoMysqld,
        volumes.ClaimLost,
        volumes.VolumeReleased,
        sabotage.RowDeleted,
        sabotage.NoSemiSync,
        sabotage.TwoWriters,
    )
}
# Never among the others: a set that was damaged on purpose is damaged. Last in the long suite, once each, so that each
# such suite proves that its checkers bite.
SABOTAGE = tuple(name for name, fault in FAULTS.items() if fault.expect == "red")
# Within some minutes, and one of each group: processes, pods, both pets, storage that must be refused, the network.
SHORT = (
    "noop",
    "mysqld-kill",
    "pod-delete",
    "mysqld-kill-both",
    "two-mysqld",
    "empty-folder",
    "nfs-restart",
    "cut-all",
)
# So often in the long suite; all others three times.
TIMES = {"mysqld-kill-both": 5, "mysqld-kill": 5, "pod-delete": 5, "nfs-away-11min": 1, "node-off-long": 2}
# What once went wrong: each by the name of the fault and the seed that showed it.
REGRESSIONS: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run: a fault, and the seed that its random choices come from."""

    fault: str
    seed: int


def exploratory(seed: int, rounds: dict[str, int]) -> list[Scenario]:
    """Each fault so many times, in an order that only the seed decides."""
    chance = random.Random(seed)
    names = [name for name, times in sorted(rounds.items()) for index in range(times) if index >= 0]
    chance.shuffle(names)
    return [Scenario(name, chance.randrange(1 << 31)) for name in names]


def regression() -> list[Scenario]:
    """One for each failure that was found and mended."""
    return [Scenario(name, seed) for name, seed in REGRESSIONS]


def plan_suite(suite: str, seed: int, only: Sequence[str] = (), times: int | None = None) -> list[Scenario]:
    """The runs of a suite in their order. ``only`` picks faults by name. ValueError: no such suite or fault."""
    if suite not in ("short", "long"):
        raise ValueError(f"suite {suite!r}: short or long")
    if unknown := sorted(set(only) - set(FAULTS)):
        raise ValueError(f"no fault named {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    if only:
        return exploratory(seed, dict.fromkeys(only, times or 1))
    if suite == "short":
        chance = random.Random(seed)
        return [
            Scenario(name, chance.randrange(1 << 31)) for name in SHORT for index in range(times or 1) if index >= 0
        ]
    rounds = {name: times or TIMES.get(name, 3) for name in FAULTS if name not in SABOTAGE}
    return regression() + exploratory(seed, rounds) + exploratory(seed, dict.fromkeys(SABOTAGE, 1))
