# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents, servers and faults in a random order: what must hold at every moment, and at the end.

``PETSET_AGENT_SCHEDULES=100000`` asks for more than the gate's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.roles.pet_set import agent_world
from tests.unit.roles.pet_set.agent_world import STEP_S, World, m
from tests.unit.roles.pet_set.agent_world import Violation as Broken

import petset_agent.decide as decide_module  # isort: skip

SCHEDULES = int(os.environ.get("PETSET_AGENT_SCHEDULES", "300"))
PAUSES_S = (0.3, 1.0, 2.5, 4.0, 8.0)
Fault = Callable[[World, int, float], None]


def _pause_all(world: World, _which: int, _seconds: float) -> None:
    """One storage is under all of them."""
    for pet in world.pets:
        pet.mysql.paused = True


def _pause(world: World, which: int, _seconds: float) -> None:
    world.pets[which].mysql.paused = True


def _cut_api(world: World, which: int, _seconds: float) -> None:
    world.pets[which].api_cut = True


def _cut_api_of_all(world: World, _which: int, _seconds: float) -> None:
    for pet in world.pets:
        pet.api_cut = True


def _api_comes_back_for_one(world: World, which: int, seconds: float) -> None:
    _cut_api_of_all(world, which, seconds)
    world.run(seconds)
    world.pets[which].api_cut = False


def _cut_peers(world: World, _which: int, _seconds: float) -> None:
    world.peer_cut = True


def _cut_api_and_peers(world: World, which: int, _seconds: float) -> None:
    world.pets[which].api_cut = world.peer_cut = True


def _kill(world: World, which: int, seconds: float) -> None:
    world.kill(world.pets[which], seconds)


def _kill_all(world: World, _which: int, _seconds: float) -> None:
    for pet in world.pets:
        world.kill(pet, world.random.choice((0.3, 1.0, 4.0)))


def _lock(world: World, which: int, _seconds: float) -> None:
    world.pets[which].mysql.locked = True


def _restart_agent(world: World, which: int, seconds: float) -> None:
    world.restart_agent(world.pets[which], seconds)


FAULTS: tuple[Fault, ...] = (
    _kill, _kill, _kill_all, _pause, _pause_all, _restart_agent, _cut_api, _cut_api_of_all, _cut_peers,
    _cut_api_and_peers, _api_comes_back_for_one,
)  # fmt: skip


def mend(world: World) -> None:
    world.peer_cut = False
    for pet in world.pets:
        pet.mysql.paused = pet.api_cut = pet.mysql.broken = pet.mysql.locked = False


def play(world: World, faults: Sequence[Fault] = FAULTS) -> None:
    """Start, one to four faults, mend all, and wait for the end: one writer, nothing lost, all equal."""
    random = world.random
    world.run(4.0)
    for _fault in range(random.randint(1, 4)):
        fault, which, seconds = random.choice(faults), random.randrange(len(world.pets)), random.choice(PAUSES_S)
        world.log.append(f"{world.now_s:.2f} {fault.__name__} {which} {seconds}")
        fault(world, which, seconds)
        world.run(random.choice((seconds, random.random() * seconds)))
        if random.random() < 0.6:
            mend(world)
            world.run(random.choice((0.2, 1.0, 4.0)))
    mend(world)
    world.log.append(f"{world.now_s:.2f} mended")
    for step in range(400):
        world.step()
        if step > 100 and world.settled():
            break
    else:
        raise Broken("no settled writer 20 s after the last fault")
    for _step in range(40):
        world.step(write=False)
    for pet in world.pets:
        if not world.acked <= pet.mysql.executed:
            raise Broken(f"{pet.name} lacks {sorted(world.acked - pet.mysql.executed)[:5]}")
        if pet.mysql.executed != world.pets[0].mysql.executed:
            raise Broken(f"{pet.name} and {world.pets[0].name} differ")


def play_locks(world: World) -> None:
    """The same with readers whose locks hold appliers up."""
    play(world, (*FAULTS, _lock, _lock, _lock, _lock))


def play_readers(world: World) -> None:
    """A pet that only reads behind one of the masters, an applier that an error stops, and up to two faults beside."""
    random = world.random
    world.pets[2].follows = random.randrange(2)
    world.run(4.0)
    if random.random() < 0.5:
        world.kill(world.pets[0], 1.0)
        world.run(6.0)
    which = random.randrange(len(world.pets))
    world.log.append(
        f"{world.now_s:.2f} {world.pets[2].name} behind {world.source_of(world.pets[2]).name}, error on {which}"
    )
    world.pets[which].mysql.broken = True
    for _fault in range(random.randint(0, 2)):
        world.run(random.random() * 8.0)
        fault, other, seconds = random.choice(FAULTS), random.randrange(len(world.pets)), random.choice(PAUSES_S)
        world.log.append(f"{world.now_s:.2f} {fault.__name__} {other} {seconds}")
        fault(world, other, seconds)
    world.run(22.0)
    mend(world)
    world.run(15.0)
    world.log.append(f"{world.now_s:.2f} mended")
    silent = [pet.name for pet in world.pets if pet.decision is None or world.now_s >= pet.decision.reader_until_s]
    if silent:
        raise Broken(f"no reader 15 s after all was mended: {', '.join(silent)}")


def play_restored(world: World) -> None:
    """A volume comes back as it was a while ago; others are killed at about that time, or cannot be asked."""
    random = world.random
    world.run(4.0)
    writer = next((pet for pet in world.pets if world.says_writer(pet)), world.pets[0])
    pet = writer if random.random() < 0.8 else world.source_of(writer)
    for step in sorted(random.sample(("restore", "kill", "agent", "api", "peers"), random.randint(1, 3))):
        seconds = random.choice(PAUSES_S)
        world.log.append(f"{world.now_s:.2f} {step} {pet.name} {seconds}")
        if step == "kill":
            world.kill(world.source_of(pet), seconds)
        elif step == "agent":
            _restart_agent(world, random.randrange(2), seconds)
        elif step == "api":
            _cut_api_of_all(world, 0, seconds)
        elif step == "peers":
            _cut_peers(world, 0, seconds)
        else:
            world.restore(pet, seconds, random.choice((0.0, 0.5, 0.9)))
        world.run(random.choice((0.0, 0.2, 1.0)))
    if not world.restored:
        world.restore(pet, random.choice(PAUSES_S), random.choice((0.0, 0.5, 0.9)))
    world.run(random.choice((0.0, 1.0, 4.0)))
    mend(world)
    world.run(15.0)
    world.log.append(f"{world.now_s:.2f} mended")
    told = " ".join(reason for one in world.pets if one.decision for reason in one.decision.reasons)
    if "of its own" not in told and not any(world.says_writer(one) for one in world.pets):
        raise Broken("nobody writes, and nobody says why")


def explore(count: int, pets: int = 2, first: int = 0, story: Callable[[World], None] = play) -> None:
    for seed in range(first, first + count):
        world = World(seed, pets)
        try:
            story(world)
        except Broken as broken:
            told = [f"{pet.name}: {pet.decision.role} {pet.decision.reasons}" for pet in world.pets if pet.decision]
            raise Broken("\n".join([f"seed {seed}: {broken}", *world.log[-25:], *told])) from None


def test_two_pets() -> None:
    explore(SCHEDULES)


def test_with_a_pet_that_only_reads() -> None:
    explore(SCHEDULES // 8, pets=3, first=1_000_000)


def test_with_readers_whose_locks_hold_appliers_up() -> None:
    explore(SCHEDULES // 8, first=4_000_000, story=play_locks)


def test_readers_have_what_was_acknowledged_however_it_comes_to_them() -> None:
    explore(SCHEDULES // 8, pets=3, first=2_000_000, story=play_readers)


def test_a_pet_with_older_data_than_it_has_written_gives_no_number_out_again() -> None:
    explore(SCHEDULES // 2, first=3_000_000, story=play_restored)


def test_a_quiet_start_has_a_writer_and_all_in_sync_within_seconds() -> None:
    world = World(1)
    world.run(4.0)
    assert world.settled(), world.log
    assert world.record.holder == "p-0"


def test_a_killed_writer_is_replaced_and_nobody_falls_back() -> None:
    world = World(2)
    world.run(4.0)
    world.kill(world.pets[0], 1.0)
    world.run(2.5)
    assert world.says_writer(world.pets[1])
    world.run(20.0)
    assert world.record.holder == "p-1"
    assert world.settled()


@pytest.mark.parametrize("seconds", [(0.5, 3.0), (3.0, 0.5)])
def test_both_pets_crash_and_the_set_comes_back(seconds: tuple[float, float]) -> None:
    world = World(3)
    world.run(4.0)
    for pet, away_s in zip(world.pets, seconds, strict=True):
        world.kill(pet, away_s)
    world.run(14.0)
    assert world.settled(), world.log


def test_the_api_may_be_away_while_the_pets_see_each_other() -> None:
    """As with a control plane of one machine that is upgraded: nothing closes, and nothing moves."""
    world = World(5)
    world.run(4.0)
    _cut_api_of_all(world, 0, 0.0)
    for _step in range(round(60 / STEP_S)):
        world.step()
        assert world.says_writer(world.pets[0]), world.now_s
        assert world.pets[0].mysql.takes_writes
    assert "nobody else takes it meanwhile" in " ".join(world.pets[0].decision.reasons)
    mend(world)
    world.run(2.0)
    assert world.record.holder == "p-0"
    assert world.log[-1].endswith("renew: holder p-0 in-sync p-0,p-1")
    world.kill(world.pets[0], 1.0)
    world.run(2.5)
    assert world.says_writer(world.pets[1]), "a pledge that is over holds nobody up"


def test_an_api_that_one_pet_sees_again_before_the_other_moves_nothing() -> None:
    world = World(9)
    world.run(4.0)
    _cut_api_of_all(world, 0, 0.0)
    world.run(10.0)
    world.pets[1].api_cut = False
    world.run(4.0)
    assert world.says_writer(world.pets[0])
    mend(world)
    world.run(2.0)
    assert world.record.holder == "p-0"


def test_a_pet_that_sees_the_api_takes_over_from_one_that_does_not() -> None:
    """Clients may not reach the holder either, as it is cut from all but the other pet."""
    world = World(5)
    world.run(4.0)
    world.pets[0].api_cut = True
    world.run(8.0)
    assert world.says_writer(world.pets[1])
    assert not world.pets[0].mysql.takes_writes


def test_a_mysqld_that_hangs_for_a_moment_while_the_api_is_away_goes_on() -> None:
    """Seen on a busy host: it gave the lease up, which nobody could hear, and stayed closed until the API was back."""
    world = World(8)
    world.run(4.0)
    for pet in world.pets:
        pet.api_cut = True
    world.run(6.0)
    world.pets[0].mysql.paused = True
    world.run(4.0)
    assert not world.says_writer(world.pets[0])
    world.pets[0].mysql.paused = False
    world.run(2.0)
    assert world.says_writer(world.pets[0])
    count = len(world.acked)
    world.run(1.0)
    assert len(world.acked) > count


def test_one_storage_that_stalls_under_both_moves_no_writer() -> None:
    """Seen on the lab (nfs-restart): the writer's pet handed the lease over to one that hung as well, and was open for
    a second after it woke. What it had not told anybody then overwrote what the new writer had acknowledged.
    """
    world = World(9)
    world.run(4.0)
    log = list(world.log)
    for pet in world.pets:
        pet.mysql.paused = True
        world.run(0.7)
    world.run(20.0)
    for pet in reversed(world.pets):
        pet.mysql.paused = False
        world.run(0.7)
    count = len(world.acked)
    world.run(3.0)
    assert world.says_writer(world.pets[0])
    assert len(world.acked) > count
    assert {line.split(" ", 1)[1] for line in world.log[len(log) :]} == {"renew: holder p-0 in-sync p-0,p-1"}


def test_a_mysqld_that_hangs_alone_is_replaced() -> None:
    world = World(10)
    world.run(4.0)
    world.pets[0].mysql.paused = True
    world.run(5.0)
    assert world.says_writer(world.pets[1])


def test_a_reader_with_a_lock_does_not_hold_a_failover_up() -> None:
    """Seen on the lab (mysqld-kill-behind): the pet opened only when that session let go of its lock."""
    world = World(11)
    world.run(4.0)
    world.pets[1].mysql.locked = True
    world.run(2.0)
    assert world.pets[1].mysql.relay
    world.kill(world.pets[0], 60.0)
    # Another one as soon as one is ended: with the receiver, with the dump threads, and while it applies.
    end_s = world.now_s + 8.0
    for _lock in range(3):
        while world.pets[1].mysql.locked:
            world.step()
            assert world.now_s < end_s, world.log
        assert world.pets[1].mysql.relay
        world.pets[1].mysql.locked = True
    world.run(4.0)
    assert world.says_writer(world.pets[1])
    assert not world.pets[1].mysql.relay


def test_a_writer_that_sees_neither_the_api_nor_the_other_closes_in_time() -> None:
    world = World(6)
    world.run(4.0)
    _cut_api_and_peers(world, 0, 0.0)
    world.run(2.6)
    assert not world.pets[0].mysql.takes_writes
    world.run(5.0)
    assert world.says_writer(world.pets[1])


def cut_the_writer(world: World) -> agent_world.Pet:
    """The pet that writes, cut off from everybody while clients write."""
    world.run(4.0)
    writer = next(pet for pet in world.pets if world.says_writer(pet))
    _cut_api_and_peers(world, writer.ordinal, 0.0)
    return writer


def held(writer: agent_world.Pet) -> set[int]:
    """Commits of clients that nobody has acknowledged, and clients are kept out since."""
    assert (writer.mysql.open, writer.mysql.takes_writes) == (True, False)
    return {waiter.gtid for waiter in writer.mysql.waiting}


def test_what_a_cut_writer_held_does_not_come_back_when_another_has_written() -> None:
    """Seen on the lab (mysqld-sigstop): it was committed when the old writer woke, over an acknowledged row."""
    killed = 0
    for seed in range(20):
        world = World(seed)
        writer = cut_the_writer(world)
        world.run(2.9)
        late = held(writer)
        world.run(5.0)
        assert world.says_writer(world.source_of(writer))
        assert late & writer.mysql.executed == set(), "it is not known yet who writes"
        mend(world)
        world.run(8.0)
        # In some of these worlds nobody is there to kill it: then it comes late.
        was_killed = writer.mysql.starts == 2
        killed += was_killed
        for pet in world.pets:
            assert (late <= pet.mysql.history()) is not was_killed
            assert world.acked <= pet.mysql.history()
    assert 10 < killed < 20


def test_what_a_cut_writer_held_is_kept_when_nobody_else_came() -> None:
    """Neither killed nor closed for good: it is the writer again, with everything."""
    world = World(3)
    writer = cut_the_writer(world)
    world.kill(world.source_of(writer), 60.0)
    world.run(5.0)
    late = held(writer)
    mend(world)
    world.source_of(writer).mysql.back_s = world.now_s + 30.0
    world.run(10.0)
    assert world.says_writer(writer)
    assert writer.mysql.starts == 1
    assert writer.mysql.takes_writes
    assert late <= writer.mysql.executed


def test_a_writer_that_is_killed_just_after_a_pledge_is_replaced_as_fast_as_ever() -> None:
    world = World(7)
    world.run(4.0)
    _cut_api_of_all(world, 0, 0.0)
    world.run(5.0)
    mend(world)
    world.run(0.8)
    assert world.now_s < world.pets[1].memory.pledge_until_s
    world.kill(world.pets[0], 1.0)
    world.run(2.0)
    assert world.says_writer(world.pets[1])


def test_spread_has_two_writers() -> None:
    world = World(4, mode=m.SPREAD)
    world.run(6.0)
    assert [pet.mysql.takes_writes for pet in world.pets] == [True, True]
    world.kill(world.pets[0], 3.0)
    world.run(12.0)
    assert [pet.mysql.takes_writes for pet in world.pets] == [True, True]


# ---- the world finds mistakes ----------------------------------------------------------------------------------------


def _any_member_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module, "_why_wait", lambda _look, _lease: "")


def _never_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module._Look, "fresh", property(lambda _self: True))


def _stops_waiting_before_the_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(look: decide_module._Look, lease: m.Lease) -> list[str]:
        if look.memory.lost_since_s is not None:
            look.sql(m.SemiSource(on=False))
        return []

    monkeypatch.setattr(decide_module, "_why_drop", drop)


def _forgets_pledges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module._Look, "pledged", property(lambda _self: False))


def _pledges_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    def pledge(settings: m.Settings, _lease: object, memory: Any, _holder: str, now_s: float) -> Any:
        return replace(memory, pledge_until_s=now_s + settings.lease_s)

    monkeypatch.setattr(agent_world, "pledge", pledge)


def _believes_its_own_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module, "_is_current", lambda _look, _lease: True)


def _opens_with_less_than_it_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_module, "_why_older", lambda _look, _lease: "")


def _believes_who_came_back_with_less(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decide_module._why_wait

    def why_wait(look: decide_module._Look, lease: m.Lease) -> str:
        peers = tuple(replace(peer, less="") for peer in look.seen.peers)
        return right(replace(look, seen=replace(look.seen, peers=peers)), lease)

    monkeypatch.setattr(decide_module, "_why_wait", why_wait)


MISTAKES = (
    _any_member_may_take, _never_fences, _stops_waiting_before_the_record_says_so, _forgets_pledges,
    _pledges_to_anybody, _believes_its_own_channel, _opens_with_less_than_it_has_written,
    _believes_who_came_back_with_less,
)  # fmt: skip


# Where the world has the chance; elsewhere it takes long to find.
FIRST = {_pledges_to_anybody: 1400}
STORIES = {
    _believes_its_own_channel: (3, play_readers),
    _opens_with_less_than_it_has_written: (2, play_restored),
    _believes_who_came_back_with_less: (2, play_restored),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(mistake: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    pets, story = STORIES.get(mistake, (2, play))
    with pytest.raises(Broken):
        explore(300, pets, FIRST.get(mistake, 0), story)
