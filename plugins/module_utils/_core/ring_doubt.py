# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost and errant transactions, and how they are told from transactions that are only under way.

With semi-sync AFTER_SYNC a commit that waits for its acknowledgement is in the binary log, from which another pet may
have applied it already, and is not yet in gtid_executed of the pet that makes it. One look cannot tell this from data
that are older than what the pet once wrote. So what is seen missing counts only when every look has shown it for a
while: what arrives in between was under way.

Source: MySQL 8.4 Reference Manual, "Semisynchronous Replication", rpl_semi_sync_source_wait_point.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from .gtid import GtidSet
from .ring import LeaseView, Mode, PetState, Ring
from .ring_trouble import RingTrouble

LEAST_LOOKS = 3

Key = tuple[RingTrouble, tuple[str, ...]]
"""What is suspected, and the pets that it is about."""
Suspects = Mapping[Key, tuple[GtidSet, ...]]
"""Each with the transactions that it rests on: all of these sets have to last for it to be true."""


class Verdict(enum.Enum):
    """DOUBTED: has to be looked at again. PASSING: others of the kind have arrived since, so these may as well."""

    CERTAIN = "certain"
    DOUBTED = "doubted"
    PASSING = "passing"


@dataclass(frozen=True, slots=True)
class Seen:
    """What all ``looks`` since ``since_s`` have shown, and the pets that answered in the last one that showed it.

    ``has_passed``: there was something before, which arrived.
    """

    sets: tuple[GtidSet, ...] = ()
    since_s: float = 0.0
    looks: int = 0
    answering: frozenset[str] = frozenset()
    has_passed: bool = False


@dataclass(frozen=True, slots=True)
class Looks:
    """The looks of one run. ``patience_s``: how long something has to be seen to be certain; 0 believes one look.

    ``shown``: what the last look has shown. ``began_s``: since when something was doubted in each of them.
    """

    patience_s: float = 0.0
    now_s: float = 0.0
    began_s: float | None = None
    shown: frozenset[Key] = frozenset()
    seen: Mapping[Key, Seen] = field(default_factory=dict)

    def after(self, suspects: Suspects, answering: Collection[str], now_s: float) -> Looks:
        """With one more look."""
        up = frozenset(answering)
        keys = {**dict.fromkeys(self.seen), **dict.fromkeys(suspects)}
        seen = {key: _follow(self.seen.get(key, Seen()), suspects.get(key, ()), up, now_s) for key in keys}
        looks = Looks(self.patience_s, now_s, None, frozenset(suspects), seen)
        began_s = now_s if self.began_s is None else self.began_s
        return replace(looks, began_s=began_s) if looks.doubted else looks

    def verdict(self, key: Key) -> Verdict:
        """What is to be believed of something that the last look has shown."""
        seen = self.seen.get(key)
        if seen is None or self.patience_s <= 0:
            return Verdict.CERTAIN
        if seen.looks >= LEAST_LOOKS and self.now_s - seen.since_s >= self.patience_s:
            return Verdict.CERTAIN
        return Verdict.PASSING if seen.has_passed else Verdict.DOUBTED

    def lasting(self, key: Key, sets: tuple[GtidSet, ...]) -> tuple[GtidSet, ...]:
        """Of what the last look has shown, what all looks have."""
        return self.seen[key].sets if key in self.shown else sets

    def seconds(self, key: Key) -> float:
        """For how long it has been seen."""
        return self.now_s - self.seen[key].since_s if key in self.shown else 0.0

    @property
    def doubted(self) -> list[Key]:
        """What the last look has shown and nobody can say yet."""
        return [key for key in self.seen if key in self.shown and self.verdict(key) is Verdict.DOUBTED]

    @property
    def must_go_on(self) -> bool:
        """Is another look due? Pets that come and go do not make it endless."""
        return self.began_s is not None and self.now_s - self.began_s < 2 * self.patience_s


ONE_LOOK = Looks()
"""Believes what it sees at once."""


def _follow(before: Seen, sets: tuple[GtidSet, ...], up: frozenset[str], now_s: float) -> Seen:
    lasting = tuple(old & new for old, new in zip(before.sets, sets))
    if lasting and all(lasting):
        return Seen(lasting, before.since_s, before.looks + 1, up, before.has_passed)
    # What a pet that went away has said is unknown now, not arrived.
    whole = before.answering <= up
    if not sets and not whole:
        return before
    has_passed = before.has_passed or (bool(before.sets) and whole)
    return Seen(sets, now_s, 1 if sets else 0, up, has_passed)


def find_suspects(ring: Ring, up: Mapping[str, PetState], lease: LeaseView) -> dict[Key, tuple[GtidSet, ...]]:
    """Everything in one look that a transaction under way could explain."""
    lost = lost_own(ring, up)
    found: dict[Key, tuple[GtidSet, ...]] = {(RingTrouble.LOST_OWN, (name,)): (gtids,) for name, gtids in lost.items()}
    for pets, sets in torn_masters(ring, up).items():
        found[(RingTrouble.ERRANT, pets)] = sets
    for name, gtids in find_extra(ring, up, lease)[0].items():
        found[(RingTrouble.ERRANT, (name,))] = (gtids,)
    return found


def lost_own(ring: Ring, up: Mapping[str, PetState]) -> dict[str, GtidSet]:
    """Transactions that a pet itself made, that another has and that it does not have any more.

    It cannot fetch them: a server skips what carries its own server_id. Worse, it would use their numbers again.
    """
    lost: dict[str, GtidSet] = {}
    for name, state in up.items():
        known = GtidSet()
        for other, peer in up.items():
            if other != name:
                known = known | peer.executed.of([state.server_uuid])
        if missing := known - state.later:
            lost[name] = missing
    return lost


def torn_masters(ring: Ring, up: Mapping[str, PetState]) -> dict[tuple[str, ...], tuple[GtidSet, ...]]:
    """Pairs of masters that both have what the other has not, and what each of them alone has."""
    lost = lost_own(ring, up)
    known = {state.server_uuid for state in up.values()}
    masters = [pet for pet in ring.master_pets if pet.name in up]
    torn: dict[tuple[str, ...], tuple[GtidSet, ...]] = {}
    for position, one in enumerate(masters):
        for two in masters[position + 1 :]:
            mine, theirs = up[one.name], up[two.name]
            only_one = mine.executed - theirs.later
            only_two = theirs.executed - mine.later
            if not only_one or not only_two or {one.name, two.name} & set(lost):
                continue
            if _is_on_its_way(only_one, theirs, known) and _is_on_its_way(only_two, mine, known):
                continue
            torn[(one.name, two.name)] = (only_one, only_two)
    return torn


def _is_on_its_way(missing: GtidSet, at: PetState, known: Iterable[str]) -> bool:
    """Is that only what a channel which is there will fetch, written by a pet of this set?"""
    return at.channel is not None and missing.uuids() <= set(known)


def errant_of_replicas(ring: Ring, up: Mapping[str, PetState]) -> tuple[dict[str, GtidSet], bool]:
    """What pets that only read have and no master has; and whether all masters were asked."""
    masters = [up[pet.name] for pet in ring.master_pets if pet.name in up]
    at_masters = GtidSet()
    for master in masters:
        at_masters = at_masters | master.later
    found: dict[str, GtidSet] = {}
    for pet in ring.pets:
        state = up.get(pet.name)
        if state is not None and not ring.is_master(pet) and (extra := state.executed - at_masters):
            found[pet.name] = extra
    return found, len(masters) == len(ring.master_pets)


def find_extra(
    ring: Ring, up: Mapping[str, PetState], lease: LeaseView
) -> tuple[dict[str, GtidSet], dict[str, GtidSet]]:
    """Per pet: errant transactions, and late ones.

    errant  only this pet has them and nothing will bring them to the writer's side
    late    only this pet has them, it wrote them itself as a master, and its peer's channel fetches them: the tail of
            a writer that died before they were acknowledged, or writes that are under way in spread mode
    """
    errant, _all_up = errant_of_replicas(ring, up)
    late: dict[str, GtidSet] = {}
    known = {state.server_uuid for state in up.values()}
    for pet in ring.master_pets:
        peers = [up[other.name] for other in ring.master_pets if other.name != pet.name and other.name in up]
        if pet.name not in up or not peers or (ring.mode is Mode.SINGLE_WRITER and pet.name == lease.holder):
            continue
        extra = up[pet.name].executed
        for peer in peers:
            extra = extra - peer.later
        if not extra:
            continue
        # A channel that stands still is told by itself.
        fetched = extra.of(known) if any(peer.channel for peer in peers) else GtidSet()
        if fetched:
            late[pet.name] = fetched
        if extra - fetched:
            errant[pet.name] = extra - fetched
    return errant, late
