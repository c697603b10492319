# SPDX-License-Identifier: GPL-3.0-or-later
"""A small world for the agents' decisions: mysqlds with semi-sync, one record with compare-and-set, faults, a client.

It follows MySQL where it matters: with AFTER_SYNC a commit that waits is in the binary log and invisible; a killed
server has it after its restart; a standby that was killed forgets what it had received and not applied; whatever waits
is let go when semi-sync is switched off; a statement sent to a stopped process is carried out when it wakes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.unit.roles.pet_set import agent_rig  # noqa: F401

from petset_agent import model as m  # isort: skip
from petset_agent.decide import Decision, Memory, decide, pledge  # isort: skip

STEP_S = 0.05
TICK_S = 0.25
# The limit of lag, for how long an answer may be told after the last look, and how old the look of another may be.
READ_LIMIT_S = 10.0 + 2.0 + 1.0
Gtids = frozenset[int]


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Waiter:
    """A commit that waits for its acknowledgement. ``client`` False: nobody is there any more to be told.

    ``own``: the agent's, whose sessions are not ended when the pet is closed.
    """

    gtid: int
    client: bool
    own: bool
    done: Callable[[], None]


@dataclass(slots=True)
class MySQL:
    """One server. ``executed`` is visible, ``waiting`` only in its binary log, ``relay`` received and not applied."""

    executed: set[int] = field(default_factory=set)
    relay: set[int] = field(default_factory=set)
    waiting: list[Waiter] = field(default_factory=list)
    starts: int = 1
    up: bool = True
    paused: bool = False
    open: bool = False
    offline: bool = False
    """Clients are kept out, with commits that wait: as good as closed."""
    semi_source: bool = False
    semi_replica: bool = False
    io: bool = False
    sql: bool = False
    broken: bool = False
    """An error has stopped the applier. It still receives, and acknowledges."""
    locked: bool = False
    """A reader's lock holds the applier up."""
    linked: bool = False
    acks: int = 0
    back_s: float = 0.0

    @property
    def takes_writes(self) -> bool:
        return self.open and not self.offline

    def history(self) -> set[int]:
        return self.executed | self.relay

    def log(self) -> set[int]:
        """What it finds when it starts again."""
        return self.executed | {waiter.gtid for waiter in self.waiting}

    def release(self) -> None:
        for waiter in self.waiting:
            self.executed.add(waiter.gtid)
            if waiter.client:
                waiter.done()
        self.waiting.clear()


@dataclass(slots=True)
class Call:
    """A write of the lease on its way: it takes effect at ``lands_s`` and is answered at ``ends_s``."""

    put: m.PutLease
    started_s: float
    lands_s: float
    ends_s: float
    landed: bool | None = None


@dataclass(slots=True)
class Question:
    """For a pledge, on its way: the other hears it at ``heard_s`` and its answer is here at ``ends_s``."""

    asked_s: float
    heard_s: float
    ends_s: float
    pledged: bool | None = None


@dataclass(slots=True)
class Pet:
    name: str
    ordinal: int
    settings: m.Settings
    mysql: MySQL
    memory: Memory
    agent_up: bool = True
    agent_back_s: float = 0.0
    tick_s: float = 0.0
    server: m.Server = field(default_factory=m.Server)
    lease: m.Lease | None = None
    read_s: float = 0.0
    call: Call | None = None
    put: m.PutResult | None = None
    sql: tuple[float, float, Any] | None = None
    """When a statement is carried out, when the agent gives it up, and what it is."""
    orphans: list[Any] = field(default_factory=list)
    marker: m.MarkerState = field(default_factory=m.MarkerState)
    marker_started_s: float = 0.0
    snapshots: list[tuple[float, Gtids]] = field(default_factory=list)
    told: Gtids = frozenset()
    heard: dict[str, Gtids] = field(default_factory=dict)
    known: dict[str, Gtids] = field(default_factory=dict)
    """What the others had told of at the last look."""
    trails: dict[str, m.Trail[Gtids]] = field(default_factory=dict)
    follows: int | None = None
    """The ordinal of its source, if not the other master, or the first."""
    peers: dict[str, m.Peer] = field(default_factory=dict)
    compared: dict[str, m.Peer] = field(default_factory=dict)
    """The same as of the last look that mysqld answered: a peer is compared by it."""
    polled_s: float = 0.0
    question: Question | None = None
    pledged_s: float = m.NEVER
    decision: Decision | None = None
    api_cut: bool = False
    unwell_s: float = 0.0
    """When its agent or its mysqld was last stopped."""

    @property
    def uuid(self) -> str:
        return f"u{self.ordinal}"


class World:
    """``pets`` pets, and time in steps. Everything random comes from ``seed``."""

    def __init__(self, seed: int, pets: int = 2, mode: str = m.SINGLE_WRITER) -> None:
        self.random = random.Random(seed)
        self.now_s = 1000.0
        self.next_gtid = 1
        self.acked: set[int] = set()
        self.writing_s = 0.0
        """A clock that stands still while nobody can write: nothing becomes old then."""
        self.acked_s: dict[int, float] = {}
        self.maker: dict[int, Pet] = {}
        self.restored = False
        self.version = 1
        followers = ",".join(f"p-{n}" for n in range(2, pets))
        names = tuple(f"p-{n}" for n in range(min(pets, 2)))
        self.record = m.Lease(True, "1", "", names, {}, mode, followers=followers)
        self.peer_cut = False
        self.log: list[str] = []
        self.pets = [
            Pet(f"p-{n}", n, m.Settings(f"p-{n}", n), MySQL(), self.fresh_memory(), tick_s=self.now_s + n * 0.1)
            for n in range(pets)
        ]

    def fresh_memory(self) -> Memory:
        """What an agent begins with."""
        return Memory(self.now_s, pledge_until_s=self.now_s + m.Settings("", 0).lease_s)

    # --- replication --------------------------------------------------------------------------------------------------

    def source_of(self, pet: Pet) -> Pet:
        if pet.follows is not None:
            return self.pets[pet.follows]
        return self.pets[1] if pet.ordinal == 0 else self.pets[0]

    def connected(self, pet: Pet) -> bool:
        """Whether this pet's receiver gets what its source has now."""
        source = self.source_of(pet).mysql
        both = pet.mysql.up and source.up and not pet.mysql.paused and not source.paused
        return both and pet.mysql.io and not self.peer_cut

    def replicate(self) -> None:
        for pet in self.pets:
            mysql, source = pet.mysql, self.source_of(pet).mysql
            if self.connected(pet):
                mysql.linked = True
                mysql.relay |= source.executed - mysql.executed
                for waiter in list(source.waiting):
                    if waiter.gtid not in mysql.executed:
                        mysql.relay.add(waiter.gtid)
                    if mysql.semi_replica and source.semi_source:
                        source.waiting.remove(waiter)
                        source.executed.add(waiter.gtid)
                        source.acks += 1
                        if waiter.client:
                            waiter.done()
            elif not (mysql.up and source.up and mysql.io):
                # A silent cut leaves the dump thread; an end that died does not.
                mysql.linked = False
            if mysql.up and not mysql.paused and mysql.sql and not mysql.broken and not mysql.locked and mysql.relay:
                many = self.random.randint(0, len(mysql.relay))
                for gtid in sorted(mysql.relay)[:many]:
                    mysql.relay.discard(gtid)
                    mysql.executed.add(gtid)

    def commit(self, pet: Pet, done: Callable[[], None], *, client: bool = True) -> None:
        mysql = pet.mysql
        gtid, self.next_gtid = self.next_gtid, self.next_gtid + 1
        self.maker[gtid] = pet

        def told() -> None:
            if client:
                self.acknowledge(pet, gtid)
            done()

        if mysql.semi_source:
            mysql.waiting.append(Waiter(gtid, True, not client, told))
        else:
            mysql.executed.add(gtid)
            told()

    def acknowledge(self, pet: Pet, gtid: int) -> None:
        self.acked.add(gtid)
        self.acked_s[gtid] = self.writing_s
        if self.record.mode == m.SPREAD:
            return
        for other in self.pets:
            if other is not pet and other.mysql.takes_writes and self.record.holder == other.name:
                raise Violation(f"{pet.name} acknowledges while {other.name} is the open holder")

    # --- what agents do -----------------------------------------------------------------------------------------------

    def carry_out(self, pet: Pet, action: Any) -> None:
        mysql = pet.mysql
        match action:
            case m.Close():
                self.close(pet, action.waiting)
            case m.Open():
                if self.now_s < action.until_s:
                    self.check_opening(pet)
                    mysql.open, mysql.offline = True, False
            case m.StartChannel():
                mysql.sql = not mysql.broken
                mysql.io = mysql.io or not action.applier_only
            case m.StopReceiver():
                mysql.io = False
                mysql.locked = mysql.locked and not action.opening
            case m.KillDumps():
                mysql.locked = False
                for other in self.pets:
                    if self.source_of(other) is pet:
                        other.mysql.linked = False
            case m.KillHolders():
                mysql.locked = False
            case m.SemiSource():
                mysql.semi_source = action.on
                if not action.on:
                    mysql.release()
            case m.SemiReplica():
                mysql.semi_replica = action.on

    def close(self, pet: Pet, waiting: str) -> None:
        mysql = pet.mysql
        for waiter in mysql.waiting:
            waiter.client = waiter.own
        if mysql.waiting and waiting == m.KEEP:
            mysql.offline = True
        elif mysql.waiting and waiting == m.KILL and self.random.random() < 0.8:
            # Else nobody was there to do it.
            self.kill(pet, 1.0, rewind=True)
        else:
            mysql.open = mysql.offline = mysql.semi_source = False
            mysql.release()

    def check_opening(self, pet: Pet) -> None:
        if self.record.mode == m.SPREAD:
            return
        lost = self.acked - pet.mysql.executed
        if lost and self.restored and (self.record.last_writer == pet.name or not self.is_fallen_back(pet)):
            # Nobody has told it of more, see ``check_numbers``; or what is lost left no trace.
            self.acked -= lost
        elif self.record.holder == pet.name and lost:
            raise Violation(f"{pet.name} opens without {sorted(lost)[:5]}")
        for other in self.pets:
            # An agent that could act has closed its own by now; one that could not is kept from acknowledging.
            if other is not pet and other.mysql.takes_writes and self.now_s - other.unwell_s > other.settings.lease_s:
                raise Violation(f"{pet.name} opens while {other.name} is open")

    def is_fallen_back(self, pet: Pet) -> bool:
        """Whether this pet has what another has made and has no more."""
        mine, others = pet.mysql.history(), [other for other in self.pets if other is not pet]
        return any(self.maker[gtid] is other for other in others for gtid in mine - other.mysql.log())

    def check_numbers(self, pet: Pet) -> None:
        """When it decides to open: what a pet made and another has told of is not made again."""
        for name, theirs in pet.known.items():
            again = {gtid for gtid in theirs - pet.mysql.log() if self.maker[gtid] is pet}
            if again:
                raise Violation(f"{pet.name} opens, and gives out again what {name} has: {sorted(again)[:5]}")

    def look(self, pet: Pet) -> None:
        mysql = pet.mysql
        if not mysql.up:
            pet.server = replace(pet.server, dead=True, open=False, offline=False, waiting=0)
            return
        if mysql.paused:
            return
        clients = sum(
            other.mysql.linked and other.mysql.semi_replica for other in self.pets if self.source_of(other) is pet
        )
        pet.server = m.Server(
            answered_s=self.now_s,
            dead=False,
            incarnation=f"{pet.uuid}-{mysql.starts}",
            uuid=pet.uuid,
            open=mysql.open,
            offline=mysql.offline,
            applied=not mysql.relay,
            semi_source=mysql.semi_source,
            semi_replica=mysql.semi_replica,
            clients=clients,
            waiting=len(mysql.waiting),
            acks=mysql.acks,
            channel=m.Channel(
                True,
                "on" if mysql.io and mysql.linked else "connecting" if mysql.io else "off",
                mysql.sql,
                1062 if mysql.broken else 0,
                # Of its source alone, and of a silent one as well.
                lag_s=0.0,
                source=self.source_of(pet).name,
            ),
        )
        pet.snapshots = [*pet.snapshots[1 - m.SNAPSHOTS :], (self.now_s, frozenset(mysql.executed))]
        pet.told = frozenset(mysql.history())
        pet.known = dict(pet.heard)
        pet.compared = {name: self.compare(pet, peer) for name, peer in pet.peers.items()}

    def compare(self, pet: Pet, peer: m.Peer) -> m.Peer:
        """As ``Database._compare``; the sets of names are sorted out by who has made what."""
        mysql, theirs = pet.mysql, pet.heard[peer.name]
        trail = pet.trails[peer.name]
        closed = not mysql.open and not mysql.waiting
        return replace(
            peer,
            reached_s=trail.follow(lambda one: one <= mysql.executed),
            more=self.name(theirs - mysql.executed) if closed else "",
            less="" if peer.open or peer.answered_s == m.NEVER else self.name(mysql.history() - theirs),
        )

    def name(self, gtids: set[int] | Gtids) -> str:
        return ",".join(f"{self.maker[gtid].uuid}:{gtid}" for gtid in sorted(gtids))

    def poll(self, pet: Pet) -> None:
        """What the peers' agents say, of their last look."""
        if self.now_s - pet.polled_s < 0.45:
            return
        pet.polled_s = self.now_s
        for other in self.pets:
            if other is pet or self.peer_cut or not other.agent_up or not pet.snapshots:
                continue
            server, seen = other.server, other.told
            pet.heard[other.name] = seen
            trail = pet.trails.setdefault(other.name, m.Trail())
            if server.answered_s != m.NEVER:
                trail.add(server.answered_s, server.incarnation, other.snapshots[-1][1])
            as_of_s = m.newest_covered(pet.snapshots, lambda ours, seen=seen: ours <= seen)
            pet.peers[other.name] = m.Peer(
                other.name,
                other.ordinal,
                asked_s=self.now_s,
                alive=not server.dead and self.now_s - server.answered_s < 2,
                incarnation=server.incarnation,
                open=server.open,
                source=server.channel.source if server.channel.io == "on" else "",
                semi_replica=server.semi_replica,
                covers=as_of_s != m.NEVER,
                covers_as_of_s=as_of_s,
                covered=seen <= pet.mysql.history(),
                pledged_s=pet.pledged_s,
                answered_s=server.answered_s,
                uuid=other.uuid,
            )

    def ask_pledge(self, pet: Pet) -> None:
        """One question at a time; it may be heard late, and its answer may be lost."""
        asked = pet.question
        if asked is None:
            if pet.agent_up and pet.decision is not None and pet.decision.ask_pledge:
                heard_s = self.now_s + self.random.choice((0.0, 0.05, 0.3))
                pet.question = Question(self.now_s, heard_s, heard_s + self.random.choice((0.0, 0.05, 0.3)))
            return
        other = self.source_of(pet)
        if asked.pledged is None and self.now_s >= asked.heard_s:
            asked.pledged = False
            if other.agent_up and not self.peer_cut:
                after = pledge(other.settings, other.lease, other.memory, pet.name, self.now_s)
                other.memory, asked.pledged = after or other.memory, after is not None
        if self.now_s >= asked.ends_s:
            pet.question = None
            if asked.pledged and not self.peer_cut and pet.agent_up:
                pet.pledged_s = asked.asked_s
                if other.name in pet.peers:
                    pet.peers[other.name] = replace(pet.peers[other.name], pledged_s=pet.pledged_s)

    def api(self, pet: Pet) -> None:
        call = pet.call
        if call is not None:
            if call.landed is None and self.now_s >= call.lands_s:
                call.landed = call.put.version == self.record.version
                if call.landed:
                    self.store(call.put)
            if self.now_s >= call.ends_s and call.landed is not None:
                pet.call = None
                answered = not pet.api_cut and call.ends_s - call.started_s < 0.7
                pet.put = m.PutResult((pet.put.serial if pet.put else 0) + 1, call.started_s, answered and call.landed)
                if not pet.api_cut:
                    pet.lease = replace(self.record, asked_s=call.started_s if answered else self.now_s)
        elif self.now_s - pet.read_s > 0.4 and not pet.api_cut:
            pet.read_s = self.now_s
            pet.lease = replace(self.record, asked_s=self.now_s)

    def store(self, put: m.PutLease) -> None:
        self.version += 1
        self.log.append(f"{self.now_s:.2f} {put.purpose}: holder {put.holder or '-'} in-sync {','.join(put.in_sync)}")
        self.record = replace(
            self.record,
            version=str(self.version),
            holder=put.holder,
            in_sync=put.in_sync,
            incarnations=dict(put.incarnations),
            last_writer=put.last_writer,
        )

    def send(self, pet: Pet, put: m.PutLease) -> None:
        pause_s = self.random.choice((0.01, 0.05, 0.2))
        # Cut: it never arrives, or it does, later, and the answer is lost.
        lands_s = self.now_s + (pause_s if not pet.api_cut else self.random.choice((0.3, 1.5, 1e9)))
        if lands_s > self.now_s + 100:
            put = replace(put, version="never")
            lands_s = self.now_s + 0.7
        pet.call = Call(put, self.now_s, lands_s, max(lands_s, self.now_s + (0.75 if pet.api_cut else pause_s * 2)))

    def statements(self, pet: Pet) -> None:
        mysql = pet.mysql
        if mysql.up and not mysql.paused:
            for action in pet.orphans:
                self.carry_out(pet, action)
            pet.orphans.clear()
        elif not mysql.up:
            pet.orphans.clear()
            pet.sql = None
        if pet.sql is None:
            return
        start_s, end_s, action = pet.sql
        if mysql.paused and self.now_s >= end_s:
            # Sent, and carried out when the process wakes.
            pet.orphans.append(action)
            pet.sql = None
        elif not mysql.paused and self.now_s >= start_s:
            self.carry_out(pet, action)
            pet.sql = None
            if pet.agent_up:
                self.look(pet)
                pet.tick_s = self.now_s

    def tick(self, pet: Pet) -> None:
        if not pet.agent_up or self.now_s < pet.tick_s:
            return
        pet.tick_s = self.now_s + TICK_S
        if pet.sql is None:
            self.look(pet)
        self.poll(pet)
        seen = m.Observation(
            server=pet.server,
            lease=pet.lease,
            put=pet.put,
            lease_busy=pet.call is not None,
            sql_busy=pet.sql is not None,
            peers=tuple(pet.compared.values()),
            heard=tuple(pet.peers.values()),
            marker=pet.marker,
        )
        pet.decision = decide(pet.settings, seen, pet.memory, self.now_s)
        pet.memory = pet.decision.memory
        for action in pet.decision.actions:
            if isinstance(action, m.PutLease):
                self.send(pet, action)
            elif isinstance(action, m.Marker):
                self.mark(pet)
            elif isinstance(action, m.Fence):
                if self.random.random() < 0.8:
                    self.kill(pet, 1.0, rewind=True)
            else:
                if isinstance(action, m.Open) and self.record.mode != m.SPREAD and not pet.mysql.open:
                    self.check_numbers(pet)
                start_s = self.now_s + self.random.choice((0.0, 0.05, 0.3))
                pet.sql = (start_s, self.now_s + 2.0, action)

    def mark(self, pet: Pet) -> None:
        if not pet.mysql.up or pet.mysql.paused or not pet.mysql.open:
            return
        started_s, semi = self.now_s, pet.mysql.semi_source
        pet.marker = replace(pet.marker, pending_since_s=started_s)

        def done() -> None:
            good = semi and pet.mysql.semi_source
            pet.marker = m.MarkerState(None, started_s if good else pet.marker.acked_s)

        self.commit(pet, done, client=False)

    # --- faults -------------------------------------------------------------------------------------------------------

    def kill(self, pet: Pet, seconds: float, *, rewind: bool = False) -> None:
        """``rewind``: what waited is cut off before it starts again, if no other pet has it."""
        mysql = pet.mysql
        if not mysql.up:
            return
        elsewhere = {gtid for other in self.pets if other is not pet for gtid in other.mysql.history()}
        mysql.executed |= {waiter.gtid for waiter in mysql.waiting if not rewind or waiter.gtid in elsewhere}
        mysql.waiting.clear()
        mysql.relay.clear()
        mysql.up = mysql.open = mysql.offline = mysql.io = mysql.sql = mysql.semi_source = mysql.semi_replica = False
        mysql.linked = mysql.paused = mysql.locked = False
        mysql.back_s = self.now_s + seconds
        pet.marker = replace(pet.marker, pending_since_s=None)

    def restore(self, pet: Pet, seconds: float, share: float) -> None:
        """Its volume comes back as it was when it had executed that share. The right one may be found again."""
        self.kill(pet, seconds)
        mysql = pet.mysql
        mysql.executed = set(sorted(mysql.executed)[: round(len(mysql.executed) * share)])
        self.restored = True

    def restart_agent(self, pet: Pet, seconds: float) -> None:
        pet.agent_up, pet.agent_back_s = False, self.now_s + seconds

    def revive(self, pet: Pet) -> None:
        if not pet.mysql.up and self.now_s >= pet.mysql.back_s:
            pet.mysql.up = True
            pet.mysql.starts += 1
        if not pet.agent_up and self.now_s >= pet.agent_back_s:
            pet.agent_up = True
            pet.memory = self.fresh_memory()
            pet.question, pet.pledged_s = None, m.NEVER
            pet.server, pet.lease, pet.put, pet.call = m.Server(), None, None, None
            pet.peers, pet.compared, pet.marker, pet.snapshots, pet.sql = {}, {}, m.MarkerState(), [], None
            pet.told, pet.heard, pet.known, pet.trails = frozenset(), {}, {}, {}

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self, *, write: bool = True) -> None:
        self.now_s = round(self.now_s + STEP_S, 3)
        for pet in self.pets:
            if not pet.agent_up or pet.mysql.paused:
                pet.unwell_s = self.now_s
            self.revive(pet)
            self.api(pet)
            self.ask_pledge(pet)
            self.statements(pet)
        self.replicate()
        for pet in self.pets:
            self.tick(pet)
            mysql = pet.mysql
            if write and mysql.takes_writes and mysql.up and not mysql.paused and len(mysql.waiting) < 3:
                self.commit(pet, lambda: None)
        self.check()

    def check(self) -> None:
        yes = [pet.name for pet in self.pets if self.says_writer(pet)]
        if len(yes) > 1 and self.record.mode == m.SINGLE_WRITER:
            raise Violation(f"/writer of {' and '.join(yes)} say yes")
        if yes and self.record.mode == m.SINGLE_WRITER and self.record.holder != yes[0]:
            self.check_pledged(yes[0])
        for pet in self.pets:
            if pet.ordinal >= 2 and pet.mysql.takes_writes:
                raise Violation(f"{pet.name} is open and no master")
        self.check_readers()

    def check_readers(self) -> None:
        """A reader has what was acknowledged a while ago: what agents know of each other is some seconds old."""
        if self.record.mode == m.SPREAD:
            return
        if any(pet.mysql.takes_writes and pet.mysql.up and not pet.mysql.paused for pet in self.pets):
            self.writing_s += STEP_S
        old = [gtid for gtid, at_s in self.acked_s.items() if self.writing_s - at_s > READ_LIMIT_S]
        for gtid in old:
            if all(gtid in pet.mysql.executed for pet in self.pets) or gtid not in self.acked:
                del self.acked_s[gtid]
        for pet in self.pets:
            if not pet.agent_up or pet.decision is None or self.now_s >= pet.decision.reader_until_s:
                continue
            lacks = [gtid for gtid in old if gtid in self.acked_s and gtid not in pet.mysql.executed]
            if lacks:
                raise Violation(f"/reader of {pet.name} says yes, without {lacks[:5]} of long ago")

    def check_pledged(self, name: str) -> None:
        """A writer that is not the holder is so by a pledge, while the holder has the lease by a request that landed
        late and is closed: not for longer than a pledge once the holder knows of it.
        """
        held = [pet for pet in self.pets if pet.name == self.record.holder]
        one = next(pet for pet in self.pets if pet.name == name)
        if not held or held[0].mysql.takes_writes or one.memory.pledged_s <= one.memory.renewed_s:
            raise Violation(f"/writer of {name} says yes, the holder is {self.record.holder or 'nobody'}")
        lease, memory = held[0].lease, held[0].memory
        knows = lease is not None and lease.holder == held[0].name and memory.lease_version == lease.version
        if knows and self.now_s - memory.lease_changed_s > 3.5:
            raise Violation(f"/writer of {name} says yes, and {self.record.holder} waits for ever")

    def says_writer(self, pet: Pet) -> bool:
        return pet.agent_up and pet.decision is not None and self.now_s < pet.decision.writer_until_s

    def run(self, seconds: float) -> None:
        for _step in range(round(seconds / STEP_S)):
            self.step()

    def settled(self) -> bool:
        """One writer that says so, all masters in-sync with it, and everybody up."""
        if not all(pet.mysql.up and pet.agent_up and pet.mysql.io for pet in self.pets if not self.says_writer(pet)):
            return False
        writers = [pet for pet in self.pets if self.says_writer(pet) and pet.mysql.takes_writes]
        return len(writers) >= 1 and len(self.record.in_sync or ()) == min(len(self.pets), 2)
