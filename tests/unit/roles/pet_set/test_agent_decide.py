# SPDX-License-Identifier: GPL-3.0-or-later
"""Single decisions of the agent, one line of the table each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.roles.pet_set import agent_rig  # noqa: F401

from petset_agent import model as m  # isort: skip
from petset_agent.decide import Decision, Memory, decide, pledge  # isort: skip

NOW = 100.0
ME, PEER = "mysql-0", "mysql-1"
INC = {ME: "a/1", PEER: "b/1"}
CHANNEL = m.Channel(configured=True, io="on", applier=True, lag_s=0.0, source=PEER)
SERVER = m.Server(
    answered_s=NOW - 0.1, dead=False, incarnation="a/1", applied=True, semi_replica=True, clients=1, channel=CHANNEL
)
OTHER = m.Peer(
    PEER, 1, NOW - 0.2, True, "b/1", False, ME, True, True, NOW - 0.3, True, answered_s=NOW - 0.3, reached_s=NOW - 0.8
)
BROKEN = replace(CHANNEL, io="off", applier=False, error_no=1062, error="Duplicate entry")
LOCKED = replace(BROKEN, error_no=1205, error="Lock wait timeout exceeded")
HANGS = replace(OTHER, alive=False, answered_s=NOW - 8.5)
NAMED = replace(OTHER, resolved_s=NOW - 1)
PLEDGED = replace(OTHER, pledged_s=NOW - 0.5)
FREE = m.Lease(True, "7", "", (ME, PEER), INC, last_writer=PEER, asked_s=NOW - 0.1)
MINE = replace(FREE, holder=ME, last_writer=ME)
THEIRS = replace(FREE, holder=PEER)
HOLDS = {"renewed_s": NOW - 0.1, "put_started_s": NOW - 0.1, "promoted": "a/1", "semi_on_s": NOW - 5, "acks": 0}
WRITER = replace(SERVER, open=True, semi_source=True)
AWAY = replace(WRITER, answered_s=NOW - 9)


def ask(
    server: m.Server = SERVER,
    lease: m.Lease | None = FREE,
    *,
    peers: tuple[m.Peer, ...] = (OTHER,),
    ordinal: int = 0,
    memory: dict[str, Any] | None = None,
    **seen: Any,
) -> Decision:
    """A decision at NOW by mysql-0, which has run long and has seen the lease for long."""
    past = {"lease_version": "7", "lease_changed_s": NOW - 1, "decided_s": NOW - 0.2, "awake_s": NOW - 50}
    past |= memory or {}
    settings = m.Settings(ME if ordinal < 2 else f"mysql-{ordinal}", ordinal)
    observation = m.Observation(server, lease, peers=peers, heard=peers, **seen)
    return decide(settings, observation, Memory(NOW - 60, **past), NOW)


def short(decision: Decision) -> list[str]:
    """The actions as words."""
    return [
        f"put {one.purpose} {one.holder or '-'} {','.join(one.in_sync)}"
        if isinstance(one, m.PutLease)
        else f"semi-sync {'on' if one.on else 'off'}"
        if isinstance(one, m.SemiSource)
        else type(one).__name__
        for one in decision.actions
    ]


STUCK = {**HOLDS, "stuck_since_s": NOW - 3}
LOST = {**HOLDS, "lost_since_s": NOW - 2}
ALONE = replace(MINE, in_sync=(ME,), incarnations={ME: "a/1"})
STOPPED = replace(SERVER, channel=replace(CHANNEL, io="off", applier=False))
RESTARTED = replace(SERVER, incarnation="a/2")
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
LESS = replace(SERVER, uuid=UUID)
KNOWS_MORE = replace(OTHER, more=f"4f22fa47-71ca-11e1-9e33-c80aa9429562:5,{UUID}:6-7", covered=False)
KNEW_MORE = replace(KNOWS_MORE, asked_s=NOW - 60, alive=False, answered_s=NOW - 61)
HAS_LESS = replace(OTHER, uuid=UUID, less=f"{UUID}:6-7")
WROTE = replace(FREE, last_writer=ME)
CASES: dict[str, tuple[Decision, list[str]]] = {
    "no answer of the API yet": (ask(replace(SERVER, open=True), None), ["Close"]),
    "no lease": (ask(replace(SERVER, open=True), m.Lease()), ["Close"]),
    "no ring yet, the channel is left alone": (ask(STOPPED, replace(FREE, in_sync=None)), []),
    "free, named, this start": (ask(), [f"put take {ME} {ME}"]),
    "free since after the last look at mysqld, which may have died with the writer's": (
        ask(memory={"lease_changed_s": NOW - 0.05}),
        [],
    ),
    "free, not named": (ask(lease=replace(FREE, in_sync=(PEER,))), []),
    "held by the other and fresh": (ask(lease=THEIRS), []),
    "held by the other and unchanged for longer than the lease": (
        ask(lease=THEIRS, memory={"lease_changed_s": NOW - 3.1}),
        [f"put take {ME} {ME}"],
    ),
    "an old view of the lease": (ask(lease=replace(FREE, asked_s=NOW - 2.5)), []),
    "my mysqld is down": (ask(replace(SERVER, dead=True)), []),
    "the channel is broken with things not applied": (
        ask(replace(SERVER, applied=False, channel=replace(CHANNEL, applier=False, error_no=1062))),
        [],
    ),
    "the last writer, just gave it up": (
        ask(lease=replace(FREE, last_writer=ME), memory={"gave_up_s": NOW - 1}),
        [],
    ),
    "the last writer, the other had its chance": (
        ask(lease=replace(FREE, last_writer=ME), memory={"gave_up_s": NOW - 4}),
        [f"put take {ME} {ME}"],
    ),
    "the last writer after a restart, the other is away": (
        ask(RESTARTED, replace(FREE, last_writer=ME), peers=(), memory={"gave_up_s": NOW - 4}),
        [f"put take {ME} {ME}"],
    ),
    "restarted standby, the other is away": (ask(RESTARTED, peers=()), []),
    "restarted standby, the other has more": (ask(RESTARTED, peers=(replace(OTHER, covered=False),)), []),
    "restarted standby, has all that the other has": (ask(RESTARTED), [f"put take {ME} {ME}"]),
    "restarted and the only member": (
        ask(RESTARTED, replace(FREE, in_sync=(ME,), last_writer=ME), peers=()),
        [f"put take {ME} {ME}"],
    ),
    "restarted between taking the lease and opening, the last writer is away": (
        ask(RESTARTED, replace(FREE, in_sync=(ME,)), peers=()),
        [],
    ),
    "restarted between taking the lease and opening, the last writer has more": (
        ask(RESTARTED, replace(FREE, in_sync=(ME,)), peers=(replace(OTHER, covered=False),)),
        [],
    ),
    "restarted between taking the lease and opening, has all that the last writer has": (
        ask(RESTARTED, replace(FREE, in_sync=(ME,))),
        [f"put take {ME} {ME}"],
    ),
    "the last writer came back with less than it has written, as the other tells": (
        ask(LESS, WROTE, peers=(KNOWS_MORE,), memory={"gave_up_s": NOW - 9}),
        [],
    ),
    "the same, and the other has told it long ago": (
        ask(LESS, WROTE, peers=(KNEW_MORE,), memory={"gave_up_s": NOW - 9}),
        [],
    ),
    "the same, and nobody else is in-sync": (
        ask(LESS, replace(WROTE, in_sync=(ME,)), peers=(KNOWS_MORE,), memory={"gave_up_s": NOW - 9}),
        [],
    ),
    "the same, and the other cannot be asked": (
        ask(LESS, WROTE, peers=(), memory={"gave_up_s": NOW - 9}),
        [f"put take {ME} {ME}"],
    ),
    "the last writer has an empty volume: what it wrote is another server_uuid's": (
        ask(
            replace(SERVER, uuid="9999fa47-71ca-11e1-9e33-c80aa9429562"),
            replace(WROTE, incarnations={ME: f"{UUID[:8]}-12-34", PEER: "b/1"}),
            peers=(KNOWS_MORE,),
            memory={"gave_up_s": NOW - 9},
        ),
        [],
    ),
    "the other has more, and none of it is this pet's own: the last writer takes it": (
        ask(
            LESS,
            WROTE,
            peers=(replace(KNOWS_MORE, more="4f22fa47-71ca-11e1-9e33-c80aa9429562:5"),),
            memory={"gave_up_s": NOW - 9},
        ),
        [f"put take {ME} {ME}"],
    ),
    "a standby of this start that lacks what it wrote once": (ask(LESS, peers=(KNOWS_MORE,)), []),
    "holder that is not open yet, and the other tells of more": (
        ask(LESS, replace(ALONE, last_writer=ME), peers=(KNOWS_MORE,), memory={**HOLDS, "alone": True}),
        [f"put give up - {ME}"],
    ),
    "restarted standby, and the last writer has less than it has written": (ask(RESTARTED, peers=(HAS_LESS,)), []),
    "restarted standby, and the last writer has an empty volume": (
        ask(
            RESTARTED,
            replace(FREE, incarnations={ME: "a/1", PEER: f"{UUID[:8]}-12-34"}),
            peers=(replace(HAS_LESS, uuid="9999fa47-71ca-11e1-9e33-c80aa9429562"),),
        ),
        [],
    ),
    "standby of this start, and the last writer has less than it has written": (
        ask(peers=(HAS_LESS,)),
        [f"put take {ME} {ME}"],
    ),
    "follower, offline_mode was left on": (ask(replace(SERVER, offline=True), THEIRS), ["Close"]),
    "writer, its mysqld is about to be stopped": (ask(WRITER, MINE, memory=HOLDS, leaving=True), ["Close"]),
    "closed, its mysqld is about to be stopped": (
        ask(SERVER, MINE, memory=HOLDS, leaving=True),
        [f"put give up - {ME},{PEER}"],
    ),
    "free, and the own mysqld is about to be stopped": (ask(leaving=True), []),
    "opening, what was received cannot be applied: the last writer has everything as well": (
        ask(replace(SERVER, applied=False, channel=BROKEN), replace(ALONE, last_writer=PEER), memory=HOLDS),
        [f"put give up - {ME},{PEER}"],
    ),
    "opening, what was received could not be applied for a lock": (
        ask(replace(SERVER, applied=False, channel=LOCKED), replace(ALONE, last_writer=PEER), memory=HOLDS),
        ["StartChannel"],
    ),
    "opening, what was received cannot be applied, and it was the writer itself": (
        ask(replace(SERVER, applied=False, channel=BROKEN), ALONE, memory=HOLDS),
        [],
    ),
    "writer, offline_mode was left on": (ask(replace(WRITER, offline=True), MINE, memory=HOLDS), ["Open"]),
    "writer, semi-sync would go on alone without a replica": (
        ask(replace(WRITER, waits_forever=False), MINE, memory=HOLDS),
        ["semi-sync on"],
    ),
    "writer alone, the API is away: nobody else may take the lease": (
        ask(
            replace(WRITER, semi_source=False, clients=0),
            replace(ALONE, asked_s=NOW - 9),
            peers=(),
            memory={**HOLDS, "renewed_s": NOW - 9, "alone": True, "lost_since_s": NOW - 9},
            lease_busy=True,
        ),
        [],
    ),
    "writer alone by the last read, and its last write may have added the other; the API is away": (
        ask(
            replace(WRITER, semi_source=False, clients=0),
            replace(ALONE, asked_s=NOW - 9),
            peers=(),
            memory={**HOLDS, "renewed_s": NOW - 9, "lost_since_s": NOW - 9},
            lease_busy=True,
        ),
        ["Close"],
    ),
    "follower, open": (ask(replace(SERVER, open=True), THEIRS), ["Close"]),
    "follower, open, its mysqld hangs": (ask(AWAY, replace(THEIRS, followers="")), ["Fence"]),
    "follower, open, its mysqld hangs, others may have what it holds": (ask(AWAY, THEIRS), []),
    "follower, open, its mysqld hangs, ordered a moment ago": (
        ask(AWAY, replace(THEIRS, followers=""), memory={"fenced_s": NOW - 1}),
        [],
    ),
    "follower, open, its mysqld was not looked at as the agent stood still": (
        ask(AWAY, replace(THEIRS, followers=""), memory={"decided_s": NOW - 9}),
        [],
    ),
    "follower, open, its mysqld is dead": (ask(replace(AWAY, dead=True), replace(THEIRS, followers="")), []),
    "nobody holds it, open, its mysqld hangs": (ask(AWAY, replace(FREE, followers="")), []),
    "follower, semi-sync source still on": (ask(replace(SERVER, semi_source=True), THEIRS), ["semi-sync off"]),
    "follower, does not acknowledge": (ask(replace(SERVER, semi_replica=False), THEIRS), ["SemiReplica"]),
    "follower, channel stopped": (ask(STOPPED, THEIRS), ["StartChannel"]),
    "follower, channel stopped, tried a moment ago": (ask(STOPPED, THEIRS, memory={"channel_s": NOW - 1}), []),
    "follower, channel stopped by an error": (
        ask(replace(STOPPED, channel=replace(STOPPED.channel, error_no=1062, error="Duplicate entry")), THEIRS),
        [],
    ),
    "no master, lease free": (ask(replace(SERVER, semi_replica=False), ordinal=2), []),
    "no master, open": (ask(replace(SERVER, semi_replica=False, open=True), ordinal=2), ["Close"]),
    "holder, receiver still on": (ask(SERVER, ALONE, memory={**HOLDS, "promoted": ""}), ["StopReceiver"]),
    "holder, replicas of before": (
        ask(replace(SERVER, channel=replace(CHANNEL, io="off")), ALONE, memory={**HOLDS, "promoted": ""}),
        ["KillDumps"],
    ),
    "holder, not all applied": (ask(replace(SERVER, applied=False), ALONE, memory=HOLDS), ["KillHolders"]),
    "holder, not all applied, locks looked at a moment ago": (
        ask(replace(SERVER, applied=False), ALONE, memory={**HOLDS, "unlocked_s": NOW - 0.9}),
        [],
    ),
    "holder, not all applied, locks looked at a second ago": (
        ask(replace(SERVER, applied=False), ALONE, memory={**HOLDS, "unlocked_s": NOW - 1}),
        ["KillHolders"],
    ),
    "holder, alone by a write that succeeded": (ask(SERVER, ALONE, memory={**HOLDS, "alone": True}), ["Open"]),
    "holder, alone but not sure of it": (ask(SERVER, ALONE, memory=HOLDS), []),
    "holder, named with another, semi-sync off": (ask(SERVER, MINE, memory=HOLDS), ["semi-sync on"]),
    "writer": (ask(WRITER, MINE, memory=HOLDS), []),
    "writer, time to renew": (
        ask(WRITER, MINE, memory={**HOLDS, "put_started_s": NOW - 0.8}),
        [f"put renew {ME} {ME},{PEER}"],
    ),
    "writer, not renewed in time": (
        ask(WRITER, MINE, memory={**HOLDS, "renewed_s": NOW - 2}, lease_busy=True),
        ["Close"],
    ),
    "writer, not renewed, the other has just pledged to leave the lease": (
        ask(WRITER, MINE, peers=(PLEDGED,), memory={**HOLDS, "renewed_s": NOW - 60}, lease_busy=True),
        [],
    ),
    "writer, not renewed, the other's pledge is nearly over": (
        ask(
            WRITER,
            MINE,
            peers=(replace(OTHER, pledged_s=NOW - 2),),
            memory={**HOLDS, "renewed_s": NOW - 60},
            lease_busy=True,
        ),
        ["Close"],
    ),
    "holder that has renewed nothing by itself: a pledge is not enough": (
        ask(WRITER, MINE, peers=(PLEDGED,), memory={"put_started_s": NOW - 1, "restart_tried": True}, lease_busy=True),
        ["Close"],
    ),
    "held by the other and unchanged, but it was pledged to it": (
        ask(lease=THEIRS, memory={"lease_changed_s": NOW - 9, "pledge_until_s": NOW + 0.1}),
        [],
    ),
    "held by the other and unchanged, and the pledge is over": (
        ask(lease=THEIRS, memory={"lease_changed_s": NOW - 9, "pledge_until_s": NOW}),
        [f"put take {ME} {ME}"],
    ),
    "handed back by the other, to which it was pledged": (
        ask(memory={"pledge_until_s": NOW + 2}),
        [f"put take {ME} {ME}"],
    ),
    "holder by a request that landed late, pledged meanwhile to the other": (
        ask(SERVER, ALONE, memory={**HOLDS, "alone": True, "pledge_until_s": NOW + 2}),
        [],
    ),
    "writer, restarted agent: one try to renew": (
        ask(WRITER, MINE, memory={"put_started_s": m.NEVER}),
        [f"put renew {ME} {ME},{PEER}"],
    ),
    "writer, mysqld dies": (
        ask(replace(WRITER, dead=True), MINE, memory=HOLDS),
        [f"put give up - {ME},{PEER}"],
    ),
    "handing back, tried a moment ago": (
        ask(replace(WRITER, dead=True), MINE, memory={**HOLDS, "giving_up": True, "give_up_put_s": NOW - 0.4}),
        [],
    ),
    "handing back as it cannot apply, tried a while ago: who wrote last may still take it": (
        ask(
            replace(SERVER, applied=False, channel=BROKEN),
            replace(ALONE, last_writer=PEER),
            memory={**HOLDS, "giving_up": True, "give_up_put_s": NOW - 0.6, "give_back_to": PEER},
        ),
        [f"put give up - {ME},{PEER}"],
    ),
    "handing back, and somebody has written since": (
        ask(
            replace(WRITER, dead=True),
            ALONE,
            memory={**HOLDS, "giving_up": True, "give_up_put_s": NOW - 0.6, "give_back_to": PEER},
        ),
        [f"put give up - {ME}"],
    ),
    "handing back, tried a while ago": (
        ask(replace(WRITER, dead=True), MINE, memory={**HOLDS, "giving_up": True, "give_up_put_s": NOW - 0.6}),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, mysqld hangs, the other's has answered meanwhile": (
        ask(replace(WRITER, answered_s=NOW - 2.4), MINE, memory=HOLDS),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, mysqld hangs, and the other has still to apply what it received": (
        ask(replace(WRITER, answered_s=NOW - 9), MINE, peers=(replace(OTHER, applied=False),), memory=HOLDS),
        [],
    ),
    "writer, mysqld hangs, the other's may hang as well": (
        ask(replace(WRITER, answered_s=NOW - 2.1), MINE, memory=HOLDS),
        [],
    ),
    "writer, both hang, as one storage is under both": (
        ask(
            replace(WRITER, answered_s=NOW - 9),
            MINE,
            peers=(HANGS,),
            memory={**HOLDS, "lost_since_s": NOW - 9, "stuck_since_s": NOW - 9},
        ),
        [],
    ),
    "writer, the other answers again, a little sooner": (
        ask(replace(WRITER, answered_s=NOW - 9), MINE, memory={**HOLDS, "other_hung_s": NOW - 1}),
        [],
    ),
    "writer, the other has answered for so long that this one is judged alone": (
        ask(replace(WRITER, answered_s=NOW - 9), MINE, memory={**HOLDS, "other_hung_s": NOW - 2.4}),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, mysqld hangs, the other's agent is silent": (
        ask(
            replace(WRITER, answered_s=NOW - 2.1),
            MINE,
            peers=(replace(OTHER, asked_s=NOW - 3, answered_s=NOW - 3),),
            memory=HOLDS,
        ),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, mysqld hangs, and nobody else is in-sync": (
        ask(replace(WRITER, answered_s=NOW - 9), ALONE, memory=HOLDS),
        [],
    ),
    "writer, after both have hung the other is not dropped for that": (
        ask(WRITER, MINE, peers=(HANGS,), memory={**HOLDS, "hung_s": NOW - 1}),
        [],
    ),
    "writer, mysqld hangs, and the API is away: nobody could take over": (
        ask(
            replace(WRITER, answered_s=NOW - 9),
            replace(MINE, asked_s=NOW - 9),
            peers=(PLEDGED,),
            memory={**HOLDS, "renewed_s": NOW - 9},
            lease_busy=True,
        ),
        [],
    ),
    "writer, mysqld hangs, and the API is back": (
        ask(
            replace(WRITER, answered_s=NOW - 9),
            MINE,
            peers=(PLEDGED,),
            memory={**HOLDS, "renewed_s": NOW - 9, "put_started_s": NOW - 0.8},
        ),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, mysqld dies while the API is away": (
        ask(
            replace(WRITER, dead=True),
            replace(MINE, asked_s=NOW - 9),
            peers=(PLEDGED,),
            memory={**HOLDS, "renewed_s": NOW - 9},
        ),
        [f"put give up - {ME},{PEER}"],
    ),
    "holder, mysqld was restarted between two looks": (
        ask(RESTARTED, MINE, memory=HOLDS),
        [f"put give up - {ME},{PEER}"],
    ),
    "writer, peer not connected": (
        ask(replace(WRITER, clients=0), MINE, memory=LOST),
        [f"put remove {ME} {ME}"],
    ),
    "writer, peer not connected, write on its way: still waiting": (
        ask(replace(WRITER, clients=0), MINE, memory=LOST, lease_busy=True),
        [],
    ),
    "writer, removed but not sure of it: still waiting": (ask(replace(WRITER, clients=0), ALONE, memory=LOST), []),
    "writer, removed: waits no more": (
        ask(replace(WRITER, clients=0), ALONE, memory={**LOST, "alone": True}),
        ["semi-sync off"],
    ),
    "writer, peer does not acknowledge": (
        ask(replace(WRITER, waiting=2, acks=0), MINE, memory=STUCK),
        [f"put remove {ME} {ME}"],
    ),
    "writer, commits wait for a commit of its own": (
        ask(replace(WRITER, waiting=1, acks=0), MINE, memory={**HOLDS, "stuck_since_s": NOW - 0.5}),
        ["Marker"],
    ),
    "writer, peer says its mysqld is down": (
        ask(WRITER, MINE, peers=(replace(OTHER, alive=False),), memory=HOLDS),
        [f"put remove {ME} {ME}"],
    ),
    "writer, peer was restarted": (
        ask(WRITER, MINE, peers=(replace(OTHER, incarnation="b/2"),), memory=HOLDS),
        [f"put remove {ME} {ME}"],
    ),
    "alone, peer caught up": (
        ask(replace(WRITER, semi_source=False), ALONE, memory={**HOLDS, "alone": True}),
        ["semi-sync on"],
    ),
    "alone, peer behind": (
        ask(replace(WRITER, semi_source=False), ALONE, peers=(replace(OTHER, covers=False),), memory=HOLDS),
        [],
    ),
    "alone, semi-sync on, no marker yet": (ask(WRITER, ALONE, memory=HOLDS), ["Marker"]),
    "alone, marker of before semi-sync": (
        ask(WRITER, ALONE, memory=HOLDS, marker=m.MarkerState(None, NOW - 6)),
        ["Marker"],
    ),
    "alone, marker acknowledged": (
        ask(WRITER, ALONE, memory=HOLDS, marker=m.MarkerState(None, NOW - 1)),
        [f"put add {ME} {ME},{PEER}"],
    ),
    "alone, marker acknowledged, peer still open": (
        ask(WRITER, ALONE, peers=(replace(OTHER, open=True),), memory=HOLDS, marker=m.MarkerState(None, NOW - 1)),
        [],
    ),
    "writer, own channel stopped, the peer follows": (
        ask(replace(WRITER, channel=STOPPED.channel), MINE, memory=HOLDS),
        ["StartChannel"],
    ),
    "writer, own channel stopped, the peer is still open": (
        ask(replace(WRITER, channel=STOPPED.channel), MINE, peers=(replace(OTHER, open=True),), memory=HOLDS),
        [],
    ),
    "writer, a time-out is left from spread": (
        ask(replace(WRITER, waits_forever=False), MINE, memory=HOLDS),
        ["semi-sync on"],
    ),
    "spread, second master": (ask(SERVER, replace(THEIRS, mode=m.SPREAD)), ["semi-sync on"]),
    "spread, second master, ready": (
        ask(replace(SERVER, semi_source=True), replace(THEIRS, mode=m.SPREAD)),
        ["Open"],
    ),
    "spread, second master, not named": (
        ask(replace(SERVER, open=True), replace(THEIRS, mode=m.SPREAD, in_sync=(PEER,))),
        ["Close"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_decisions(name: str) -> None:
    decision, expected = CASES[name]
    assert short(decision) == expected, decision.reasons


def test_a_decision_changes_nothing_that_it_was_given() -> None:
    memory = Memory(NOW - 60)
    settings, seen = m.Settings(ME, 0), m.Observation(SERVER, FREE)
    first = decide(settings, seen, memory, NOW)
    assert memory == Memory(NOW - 60)
    assert decide(settings, seen, memory, NOW) == first


@pytest.mark.parametrize(
    ("decision", "writer_s", "reader_s"),
    [
        (ask(WRITER, MINE, memory=HOLDS), 1.9, 1.9),
        (ask(WRITER, MINE, memory={**HOLDS, "renewed_s": NOW - 1.5}), 0.5, 1.9),
        (ask(WRITER, MINE, peers=(PLEDGED,), memory={**HOLDS, "renewed_s": NOW - 60}), 1.5, 1.9),
        (ask(SERVER, MINE, memory=HOLDS), None, 1.9),
        (ask(SERVER, MINE, memory={**HOLDS, "renewed_s": NOW - 9}, lease_busy=True), None, 1.0),
        (ask(SERVER, MINE, memory={**HOLDS, "renewed_s": NOW - 11}, lease_busy=True), None, None),
        (ask(SERVER, THEIRS), None, 1.9),
        (ask(replace(SERVER, channel=replace(CHANNEL, lag_s=11.0)), THEIRS), None, None),
        (ask(STOPPED, THEIRS), None, None),
        (ask(replace(WRITER, dead=True), MINE, memory=HOLDS), None, None),
    ],
    ids=[
        "writer",
        "writer, nearly fenced",
        "writer, by a pledge",
        "opening",
        "closed, as it could not renew the lease",
        "closed for long, and another may have written",
        "follower",
        "lagging",
        "not receiving",
        "dead",
    ],
)
def test_answers_have_an_end(decision: Decision, writer_s: float | None, reader_s: float | None) -> None:
    def left(until_s: float) -> float | None:
        return round(until_s - NOW, 3) if until_s > NOW else None

    assert (left(decision.writer_until_s), left(decision.reader_until_s)) == (writer_s, reader_s)


def test_reasons_name_what_is_missing() -> None:
    assert any("not in-sync (mysql-1)" in why for why in ask(lease=replace(FREE, in_sync=(PEER,))).reasons)
    broken = replace(STOPPED, channel=replace(STOPPED.channel, error_no=1062, error="Duplicate entry"))
    assert "the channel is stopped by error 1062: Duplicate entry" in ask(broken, THEIRS).reasons


@pytest.mark.parametrize(
    ("memory", "asks"),
    [(HOLDS, False), ({**HOLDS, "renewed_s": NOW - 1.2}, True), ({**HOLDS, "renewed_s": NOW - 60}, True), ({}, False)],
)
def test_a_missed_renewal_makes_the_holder_ask_for_a_pledge(memory: dict[str, Any], asks: bool) -> None:
    assert ask(WRITER, MINE, peers=(PLEDGED,), memory=memory).ask_pledge is asks
    assert not ask(SERVER, THEIRS, memory=memory).ask_pledge


LATE = replace(THEIRS, asked_s=NOW - 0.9)


@pytest.mark.parametrize(
    ("lease", "holder", "pledged"),
    [
        (LATE, PEER, True),
        (replace(LATE, mode=m.SPREAD), PEER, True),
        (THEIRS, PEER, False),
        (replace(MINE, asked_s=NOW - 0.9), PEER, False),
        (replace(MINE, asked_s=NOW - 0.9), ME, False),
        (replace(FREE, asked_s=NOW - 0.9), PEER, False),
        (replace(FREE, asked_s=NOW - 0.9), "", False),
        (m.Lease(), PEER, False),
        (None, PEER, False),
    ],
)
def test_a_pledge_is_given_to_the_holder_alone_and_only_without_the_api(
    lease: m.Lease | None, holder: str, pledged: bool
) -> None:
    before = Memory(NOW - 60)
    after = pledge(m.Settings(ME, 0), lease, before, holder, NOW)
    assert after == (replace(before, pledge_until_s=NOW + 3) if pledged else None)


@pytest.mark.parametrize(("ago_s", "pledged"), [(4.9, True), (5.1, False)])
def test_pledges_go_on_for_a_while_when_the_api_is_back(ago_s: float, pledged: bool) -> None:
    """The holder's first renewal may take longer than this pet's first read."""
    away = ask(SERVER, LATE).memory
    assert away.read_late_s == NOW
    before = replace(ask(SERVER, THEIRS).memory, read_late_s=NOW - ago_s)
    assert ask(SERVER, THEIRS).memory.read_late_s == m.NEVER
    assert (pledge(m.Settings(ME, 0), THEIRS, before, PEER, NOW) is not None) is pledged


def test_an_earlier_pledge_is_not_cut_short() -> None:
    before = Memory(NOW - 60, pledge_until_s=NOW + 99)
    assert pledge(m.Settings(ME, 0), LATE, before, PEER, NOW) == before


def test_a_set_with_one_master_needs_no_pledge() -> None:
    memory = Memory(NOW - 60, lease_version="7", **{**HOLDS, "renewed_s": NOW - 60})
    alone = replace(MINE, in_sync=(ME,), incarnations={ME: "a/1"})
    seen = m.Observation(replace(WRITER, semi_source=False, clients=0), alone, lease_busy=True)
    decision = decide(m.Settings(ME, 0, masters=1), seen, memory, NOW)
    assert short(decision) == []
    assert decision.writer_until_s > NOW


@pytest.mark.parametrize(
    ("since_s", "peer", "again"),
    [
        (NOW - 16, NAMED, True),
        (NOW - 14, NAMED, False),
        (None, NAMED, False),
        (NOW - 16, replace(NAMED, alive=False), False),
        (NOW - 16, replace(NAMED, asked_s=NOW - 5), False),
        (NOW - 16, replace(NAMED, resolved_s=NOW - 5), False),
    ],
)
@pytest.mark.parametrize("writes", [True, False])
def test_a_receiver_that_hangs_in_a_handshake_is_started_again(
    since_s: float | None, peer: m.Peer, again: bool, writes: bool
) -> None:
    """Seen on the lab (node-off-30s): it was connecting for 10 minutes, to the address of a pod that was gone."""
    channel = replace(CHANNEL, io="connecting")
    memory = {"connecting_s": since_s, **(HOLDS if writes else {})}
    decision = ask(
        replace(WRITER if writes else SERVER, channel=channel),
        MINE if writes else THEIRS,
        peers=(peer,),
        memory=memory,
    )
    assert ("StopReceiver" in short(decision)) is again
    assert (decision.memory.connecting_s is None) is again


def test_a_pet_whose_data_cannot_be_trusted_takes_acknowledges_and_answers_nothing() -> None:
    free = ask(spoilt="it has rows that the others have not")
    assert short(free) == ["SemiReplica"]
    (action,) = free.actions
    assert isinstance(action, m.SemiReplica)
    assert not action.on
    assert (free.writer_until_s, free.reader_until_s) == (m.NEVER, m.NEVER)
    assert free.reasons == ("it has rows that the others have not",)
    held = ask(WRITER, MINE, memory=HOLDS, spoilt="it has rows that the others have not")
    assert short(held) == ["Close", f"put give up - {ME},{PEER}"]


def test_while_it_is_not_known_whether_its_data_can_be_trusted_a_pet_waits() -> None:
    new = ask(replace(SERVER, semi_replica=False), doubt="it is not known yet")
    assert short(new) == []
    assert new.reader_until_s == m.NEVER
    assert new.reasons == ("it is not known yet",)
    assert short(ask(doubt="it is not known yet")) == [], "the receiver of one that acknowledges is not disturbed"
    writer = ask(WRITER, MINE, memory=HOLDS, doubt="it is not known yet")
    assert writer.writer_until_s > NOW, "an agent that was restarted beside an open mysqld closes nothing"


def test_who_takes_the_lease_is_the_last_writer_only_once_it_is_open() -> None:
    """It applies what it has received first; a crash meanwhile lets it forget, and the writer before it has all."""
    (taken,) = ask().actions
    assert isinstance(taken, m.PutLease)
    assert taken.last_writer == PEER
    opening = ask(replace(SERVER, semi_source=True), replace(ALONE, last_writer=PEER), memory={**HOLDS, "alone": True})
    assert not [one for one in opening.actions if isinstance(one, m.PutLease)]
    opened = ask(replace(WRITER, semi_source=False), replace(ALONE, last_writer=PEER), memory={**HOLDS, "alone": True})
    assert [one.last_writer for one in opened.actions if isinstance(one, m.PutLease)] == [ME], "at once"


KEPT = replace(WRITER, offline=True, waiting=2)


@pytest.mark.parametrize(
    ("server", "lease", "memory", "waiting"),
    [
        (WRITER, replace(THEIRS, followers=""), {}, m.KILL),
        (KEPT, replace(THEIRS, followers=""), {}, m.KILL),
        (WRITER, THEIRS, {}, m.RELEASE),
        (WRITER, replace(THEIRS, followers="mysql-2"), {}, m.RELEASE),
        (WRITER, replace(THEIRS, followers="", in_sync=(PEER,), mode=m.SPREAD), {}, m.RELEASE),
        (WRITER, replace(FREE, followers=""), {}, m.KEEP),
        (KEPT, replace(FREE, followers=""), {"lease_changed_s": NOW}, None),
        (WRITER, replace(MINE, followers=""), {**HOLDS, "renewed_s": NOW - 2}, m.KEEP),
        (KEPT, replace(MINE, followers=""), {**HOLDS, "renewed_s": NOW - 2}, None),
        (WRITER, replace(MINE, followers=""), {**HOLDS, "giving_up": True}, m.KEEP),
        (WRITER, None, {}, m.KEEP),
        # Nobody could take it, and the other cannot fetch what it lacks from a pet that keeps receivers out.
        (KEPT, replace(FREE, followers="", in_sync=(PEER,)), {}, m.KILL),
        (KEPT, replace(FREE, followers=""), {"lease_changed_s": NOW - 30}, m.KILL),
        # Nothing has to wait for anybody.
        (WRITER, replace(ALONE, followers=""), {**HOLDS, "giving_up": True}, m.RELEASE),
    ],
)
def test_what_becomes_of_commits_that_wait(
    server: m.Server, lease: m.Lease | None, memory: dict[str, Any], waiting: str | None
) -> None:
    """Killed when another writes, if what it holds can be cut off; kept as long as that is not known."""
    closes = [one for one in ask(server, lease, memory=memory).actions if isinstance(one, m.Close)]
    assert [one.waiting for one in closes] == ([] if waiting is None else [waiting])


@pytest.mark.parametrize(
    ("lease", "waiting"),
    [
        (replace(MINE, followers=""), m.DRAIN),
        (replace(ALONE, followers=""), m.RELEASE),
        (MINE, m.RELEASE),
        (replace(FREE, followers=""), m.KILL),
    ],
)
def test_what_becomes_of_commits_that_wait_when_mysqld_is_about_to_be_stopped(lease: m.Lease, waiting: str) -> None:
    """Under load some always wait, and the peer acknowledges them."""
    (close,) = (one for one in ask(WRITER, lease, memory=HOLDS, leaving=True).actions if isinstance(one, m.Close))
    assert close.waiting == waiting


@pytest.mark.parametrize("word", ["leaving", "terminating"])
def test_no_channel_is_started_when_mysqld_is_about_to_be_stopped(word: str) -> None:
    """START REPLICA and a shutdown at once made both wait for ever: the pod hung until it was killed."""
    for server in (STOPPED, replace(STOPPED, semi_replica=False)):
        assert short(ask(server, THEIRS, **{word: True})) == []
        assert short(ask(server, THEIRS)) != []


def test_a_pet_that_keeps_what_waits_takes_the_lease_back() -> None:
    free = replace(FREE, followers="", last_writer=ME)
    assert short(ask(KEPT, free, memory={"lease_changed_s": NOW - 9})) == [f"put take {ME} {ME}"]
    assert short(ask(WRITER, free, memory={"lease_changed_s": NOW - 9})) == ["Close"], "clients first"


def test_rp_rep_07_a_last_writer_with_less_than_it_has_written_is_named_with_the_way_out() -> None:
    """It took the lease and opened: it gave its numbers out again, for other rows, and both pets kept their own."""
    free = ask(LESS, WROTE, peers=(KNOWS_MORE,), memory={"gave_up_s": NOW - 9})
    (said,) = (why for why in free.reasons if "of its own" in why)
    assert f"lacks transactions of its own that {PEER} has ({UUID}:6-7)" in said
    assert "keep its volume aside, give it an empty one, and run site" in said
    follows = ask(LESS, THEIRS, peers=(KNOWS_MORE,))
    assert said in follows.reasons
    assert follows.reader_until_s == m.NEVER, "its rows are old"
    restarted = ask(RESTARTED, peers=(HAS_LESS,))
    assert any(f"{PEER}, which may have had more, came back without" in why for why in restarted.reasons)


_GTIDS = st.lists(
    st.tuples(st.sampled_from((UUID, UUID.upper(), "4f22fa47-71ca-11e1-9e33-c80aa9429562")), st.integers(1, 99)),
    max_size=4,
)


@given(
    more=_GTIDS,
    lease=st.sampled_from((FREE, WROTE, replace(WROTE, in_sync=(ME,)), THEIRS, MINE, ALONE)),
    peer=st.sampled_from((OTHER, KNEW_MORE, replace(OTHER, alive=False))),
    server=st.sampled_from((LESS, replace(LESS, incarnation="a/2"), replace(LESS, applied=False))),
    memory=st.sampled_from(({}, HOLDS, {**HOLDS, "alone": True}, {"lease_changed_s": NOW - 9})),
)
def test_nothing_opens_while_another_is_known_to_have_more_of_its_own(
    more: list[tuple[str, int]], lease: m.Lease, peer: m.Peer, server: m.Server, memory: dict[str, Any]
) -> None:
    said = replace(peer, more=",".join(f"{uuid}:{number}" for uuid, number in more))
    decision = ask(server, lease, peers=(said,), memory=memory)
    if any(uuid.lower() == UUID for uuid, _number in more):
        assert not [one for one in decision.actions if isinstance(one, m.Open)]
        assert "take" not in [one.purpose for one in decision.actions if isinstance(one, m.PutLease)]
        assert (decision.writer_until_s, decision.reader_until_s) == (m.NEVER, m.NEVER)
        assert any("transactions of its own" in why for why in decision.reasons)
    else:
        without = ask(server, lease, peers=(replace(peer, more=""),), memory=memory)
        assert (decision.actions, decision.reasons) == (without.actions, without.reasons)


# mysql-2 reads from mysql-0, a standby; mysql-1 writes.
SOURCE = replace(OTHER, name=ME, ordinal=0, incarnation="a/1", source=PEER)
THROUGH = replace(SERVER, semi_replica=False, channel=replace(CHANNEL, source=ME))
SILENT = {"asked_s": NOW - 30, "answered_s": NOW - 30}
HANDED_BACK = replace(FREE, holder="")
READERS: dict[str, tuple[m.Lease, tuple[m.Peer, ...], bool]] = {
    "has what the writer had": (THEIRS, (SOURCE, OTHER), True),
    "its source has stopped applying": (THEIRS, (SOURCE, replace(OTHER, reached_s=NOW - 10.1)), False),
    "late, within the limit": (THEIRS, (SOURCE, replace(OTHER, reached_s=NOW - 9.9)), True),
    "it was never seen to have what the writer had": (THEIRS, (SOURCE, replace(OTHER, reached_s=m.NEVER)), False),
    "it has all that its source has, and nobody told of the writer": (THEIRS, (SOURCE,), False),
    "the writer's agent is away for a moment": (
        THEIRS,
        (SOURCE, replace(OTHER, **{**SILENT, "reached_s": NOW - 5})),
        True,
    ),
    "the writer's agent is away": (THEIRS, (SOURCE, replace(OTHER, **{**SILENT, "reached_s": NOW - 30})), False),
    "the writer's mysqld is down, and it had what that had": (
        THEIRS,
        (SOURCE, replace(OTHER, alive=False, answered_s=NOW - 60, reached_s=NOW - 60.5)),
        True,
    ),
    "the writer's mysqld is down, and it had not": (
        THEIRS,
        (SOURCE, replace(OTHER, alive=False, answered_s=NOW - 60, reached_s=NOW - 75)),
        False,
    ),
    "nobody writes since the last writer has gone": (
        HANDED_BACK,
        (SOURCE, replace(OTHER, **{**SILENT, "reached_s": NOW - 31})),
        True,
    ),
    "nobody wrote when the lease was last read, long ago": (
        replace(HANDED_BACK, asked_s=NOW - 60),
        (SOURCE, replace(OTHER, **{**SILENT, "reached_s": NOW - 31})),
        False,
    ),
    "the lease is an old one: another is open by now": (
        replace(THEIRS, holder=ME, asked_s=NOW - 60),
        (SOURCE, replace(OTHER, open=True, reached_s=NOW - 30)),
        False,
    ),
    "nobody has written yet": (replace(FREE, last_writer=""), (SOURCE, replace(OTHER, reached_s=m.NEVER)), True),
}


@pytest.mark.parametrize("name", READERS)
def test_rows_are_as_old_as_the_writer_says_not_the_source(name: str) -> None:
    """A replica behind a standby whose applier an error had stopped was a reader with a lag of 0, for days."""
    lease, peers, reads = READERS[name]
    decision = ask(THROUGH, lease, peers=peers, ordinal=2)
    assert (decision.reader_until_s > NOW) is reads, decision.reasons
    assert any("no reader" in why for why in decision.reasons) is not reads
    assert all(f"through {ME}" in why for why in decision.reasons if PEER in why and "no reader" in why)


def test_how_far_a_follower_is_behind_the_writer_is_a_number() -> None:
    assert ask(THROUGH, THEIRS, peers=(SOURCE, replace(OTHER, reached_s=NOW - 42)), ordinal=2).behind_s == 42
    assert ask(THROUGH, THEIRS, peers=(SOURCE,), ordinal=2).behind_s is None
    assert ask(WRITER, MINE, memory=HOLDS).behind_s == 0
    lagging = ask(
        replace(THROUGH, channel=replace(THROUGH.channel, lag_s=11.0)), THEIRS, peers=(SOURCE, OTHER), ordinal=2
    )
    assert f"more than 10 s behind {ME}: no reader" in lagging.reasons


@pytest.mark.parametrize(("reached_s", "reads"), [(NOW - 5, True), (NOW - 3600, False)])
def test_a_pet_that_opens_with_much_to_apply_is_no_reader_yet(reached_s: float, reads: bool) -> None:
    """It took the lease with all that was acknowledged, an hour of it in its relay log, and was a reader at once."""
    late = replace(OTHER, alive=False, answered_s=NOW - 1, reached_s=reached_s)
    decision = ask(replace(SERVER, applied=False), replace(ALONE, last_writer=PEER), peers=(late,), memory=HOLDS)
    assert (decision.role, decision.reader_until_s > NOW) == ("opening", reads)


@given(
    ages=st.tuples(*[st.floats(0, 40) | st.none()] * 2),
    asked=st.tuples(*[st.floats(0, 4)] * 2),
    opened=st.tuples(st.booleans(), st.booleans()),
    holder=st.sampled_from((ME, PEER)),
    source=st.sampled_from((ME, PEER)),
    lag_s=st.floats(0, 20),
)
def test_no_follower_reads_that_is_too_far_behind_whoever_is_the_source(
    ages: tuple[float | None, float | None],
    asked: tuple[float, float],
    opened: tuple[bool, bool],
    holder: str,
    source: str,
    lag_s: float,
) -> None:
    peers = tuple(
        replace(
            OTHER,
            name=name,
            ordinal=number,
            asked_s=NOW - asked[number],
            answered_s=NOW - asked[number] - 0.1,
            open=opened[number],
            reached_s=m.NEVER if age is None else NOW - age,
        )
        for number, (name, age) in enumerate(zip((ME, PEER), ages, strict=True))
    )
    server = replace(THROUGH, channel=replace(THROUGH.channel, source=source, lag_s=lag_s))
    reads = ask(server, replace(FREE, holder=holder), peers=peers, ordinal=2).reader_until_s > NOW
    age = dict(zip((ME, PEER), ages, strict=True))[holder]
    if age is None or age > 10 or lag_s > 10:
        assert not reads
    if all(one is not None and one <= 10 for one in ages) and lag_s <= 10:
        assert reads
