# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault, and the one who stages it in the right order and never leaves it behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.robustness.world import World


# Each look may be a process or a login.
_LOOK_EVERY_S = 0.5


class NotEffective(Exception):
    """The fault's effect was not seen in time; the run says nothing."""


class NotRecovered(Exception):
    """What the fault did was not undone in time."""


class WrongOrder(Exception):
    """A step was called out of turn: a mistake in the harness."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Which pets a fault is aimed at: names, the first one being the one that matters most."""

    pets: tuple[str, ...]

    @property
    def pet(self) -> str:
        """The pet."""
        return self.pets[0]


class Fault:
    """One kind of fault. Subclasses act in ``inject`` and ``recover``; the waits only look.

    ``hold_s``     how long it stays once its effect was seen
    ``expect``     heal, site or refuse; see history.Meta
    ``aim``        writer, other or both
    ``heal_limit_s``  how long the set may take until it is healthy again without help
    ``gap_limit_s``  clients may be without an acknowledged write for so long; 0: however long
    ``keeps_writer``  no pet is concerned, so no other may become the writer
    ``reddens``    of damage on purpose: the checkers that have to find it
    ``is_long``    only in the long suite
    """

    name = ""
    hold_s = 0.0
    expect = "heal"
    aim = "writer"
    effect_limit_s = 60.0
    heal_limit_s = 120.0
    gap_limit_s = 0.0
    keeps_writer = False
    reddens: tuple[str, ...] = ()
    is_long = False

    def setup(self, world: World, pick: Pick) -> None:
        """Remember what is needed to see the effect and to undo it."""

    def inject(self, world: World, pick: Pick) -> None:
        """Do it."""
        raise NotImplementedError

    def is_effective(self, world: World, pick: Pick) -> bool:
        """Whether the effect is seen."""
        raise NotImplementedError

    def recover(self, world: World, pick: Pick) -> None:
        """Undo what does not mend itself; must be safe to call more than once, and after a failed inject."""

    def is_recovered(self, world: World, pick: Pick) -> bool:
        """Whether what was broken is whole again (not yet: whether the set is healthy)."""
        return True

    def describe(self, pick: Pick) -> str:
        """For the history."""
        return f"{self.name} on {', '.join(pick.pets)}"


class Stage(IntEnum):
    """How far a fault has come."""

    NEW = 0
    SET_UP = 1
    INJECTED = 2
    EFFECTIVE = 3
    RECOVERING = 4
    RECOVERED = 5


class Failer:
    """Takes one fault through its stages. ``note(phase, text)`` is told of each.

    The order is enforced; ``clean_up`` undoes the fault from any stage and may be called at any time.
    """

    def __init__(
        self,
        fault: Fault,
        world: World,
        pick: Pick,
        note: Callable[[str, str], None],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.fault = fault
        self.world = world
        self.pick = pick
        self.note = note
        self.now = now
        self.sleep = sleep
        self.stage = Stage.NEW

    def _from(self, *allowed: Stage) -> None:
        if self.stage not in allowed:
            raise WrongOrder(f"{self.fault.name}: not from {self.stage.name}")

    def _poll(self, look: Callable[[], bool], limit_s: float) -> bool:
        deadline = self.now() + limit_s
        while not look():
            if self.now() > deadline:
                return False
            self.sleep(_LOOK_EVERY_S)
        return True

    def setup(self) -> None:
        """First."""
        self._from(Stage.NEW)
        self.fault.setup(self.world, self.pick)
        self.stage = Stage.SET_UP

    def inject(self) -> None:
        """The blow. The stage is set before it: a blow that fails half-way is undone all the same."""
        self._from(Stage.SET_UP)
        self.stage = Stage.INJECTED
        self.note("inject", self.fault.describe(self.pick))
        self.fault.inject(self.world, self.pick)

    def wait_until_effective(self) -> None:
        """Raises NotEffective."""
        self._from(Stage.INJECTED)
        if not self._poll(lambda: self.fault.is_effective(self.world, self.pick), self.fault.effect_limit_s):
            raise NotEffective(f"{self.fault.name}: no effect seen in {self.fault.effect_limit_s:.0f} s")
        self.note("effective", self.fault.name)
        self.stage = Stage.EFFECTIVE

    def hold(self) -> None:
        """Let it work."""
        self._from(Stage.EFFECTIVE)
        self.sleep(self.fault.hold_s)

    def recover(self) -> None:
        """Undo it."""
        self._from(Stage.EFFECTIVE)
        self.stage = Stage.RECOVERING
        self.note("recover", self.fault.name)
        self.fault.recover(self.world, self.pick)

    def wait_until_recovered(self, limit_s: float | None = None) -> None:
        """Raises NotRecovered."""
        self._from(Stage.RECOVERING)
        limit = self.fault.heal_limit_s if limit_s is None else limit_s
        if not self._poll(lambda: self.fault.is_recovered(self.world, self.pick), limit):
            raise NotRecovered(f"{self.fault.name}: not whole again after {limit:.0f} s")
        self.note("recovered", self.fault.name)
        self.stage = Stage.RECOVERED

    def clean_up(self) -> None:
        """Undo it whatever happened. What was never injected needs nothing."""
        if self.stage in (Stage.INJECTED, Stage.EFFECTIVE, Stage.RECOVERING):
            self.fault.recover(self.world, self.pick)
            self.stage = Stage.RECOVERED


def pick_pets(aim: str, writer: str | None, pets: Sequence[str]) -> Pick:
    """The pets that a fault is aimed at. Without a known writer the first pet stands in.

    >>> pick_pets("other", "mysql-0", ["mysql-0", "mysql-1"]).pets
    ('mysql-1',)
    """
    first = writer if writer is not None and writer in pets else pets[0]
    others = [pet for pet in pets if pet != first]
    if aim == "writer":
        return Pick((first,))
    if aim == "other":
        return Pick((others[0] if others else first,))
    if aim == "both":
        return Pick((first, *others))
    raise ValueError(f"aim {aim!r}: writer, other or both")
