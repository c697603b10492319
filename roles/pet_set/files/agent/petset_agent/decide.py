# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent does next: one pure function of what it sees, what it remembers and the monotonic clock.

In this order: never two writers, never lose an acknowledged write, then availability.

* Only a pet that the lease names in-sync may take it, and only when it is free or has not changed for its duration by
  this agent's own clock. Every write of the lease is a compare-and-set.
* Taking it writes in-sync = {me}. A peer is added after semi-sync is on, it has all that was committed before that, and
  a marker commit was acknowledged; it is removed before commits stop waiting for it.
* The in-sync set names a start of mysqld (an incarnation), since a restarted standby drops what it has acknowledged and
  not applied. A pet named for another start is allowed if it was the last writer (its own binary log has everything),
  if it is the only member, or if all other members answer and it has all that they have.
* The holder closes itself ``fence_s`` after the start of its last good renewal, whatever the reason; or of the last
  question after which the only other pet that could take the lease pledged to leave it. A pledge lasts ``lease_s`` from
  its answer: until then its giver neither takes a held lease nor opens. So the API may be away while the pets see each
  other. A pet that reads the lease itself gives none: it can take over, and clients may not reach the holder either. A
  new agent keeps the pledges that the one before it may have given.
* What a closed writer had told nobody must not come back after the next writer's commits. As long as nobody knows who
  writes it goes on waiting, with clients kept out; once another holds the lease, mysqld is killed and what it held is
  cut off before it starts again (rewind.py). Where that is not possible it is committed, and comes late.
  A mysqld that hangs meanwhile is killed at once: it would be open for a moment when it wakes.
* A pet that lacks what another has of this pet's own transactions came back with older data than it has written. It
  would give out their GTIDs a second time, for other rows: it neither takes the lease nor opens, and serves no reads.
  Nor does what it has prove to a restarted standby that it has everything. When no other's agent has told of its set,
  nobody knows of that, and the last writer opens.
* A follower's rows are as old as the writer's set that it has executed, however they come to it: its source may be
  another follower that has stopped applying.
* A holder whose mysqld is dead hands the lease back at once, and so does one whose mysqld hangs when the other's
  answers meanwhile. One storage under both makes both hang: then nobody could take over, and nobody is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .model import (
    DRAIN,
    KEEP,
    KILL,
    NEVER,
    RELEASE,
    SPREAD,
    Action,
    Close,
    Fence,
    KillDumps,
    KillHolders,
    Lease,
    Marker,
    Observation,
    Open,
    Peer,
    PutLease,
    SemiReplica,
    SemiSource,
    Server,
    Settings,
    StartChannel,
    StopReceiver,
    made_by,
)

# In spread mode a commit of the master without the lease waits at most this long for the other.
SPREAD_TIMEOUT_MS = 10_000
# With a lease that nobody takes, commits without an acknowledgement are kept for so long.
_KEEP_FREE_S = 20.0
# Between two looks for sessions that hold the applier up, while it has something to apply before the pet opens.
_UNLOCK_EVERY_S = 1.0
# Between two orders to kill a mysqld that hangs.
_FENCE_EVERY_S = 2.0
# A decision comes every 0.25 s. After a pause a mysqld that is well has answered within the second of these times.
_PAUSE_S, _AWAKE_S = 1.0, 0.3
# Between two attempts to hand the lease back. The first one is at once.
_GIVE_UP_EVERY_S = 0.5
# A lock that was waited for in vain, a deadlock: the same transaction comes through later.
_TRANSIENT = (1205, 1213)
# MySQL has no limit for a TLS handshake: when the source's node loses its power in the middle of one, the receiver
# waits for as long as TCP keeps silent connections, hours. Longer than replica_net_timeout, which bounds all else.
_CONNECTING_S = 15.0
_RESOLVED_S = 3.0
# Commits that have waited this long may wait for a commit of our own, see _keep_members.
_UNSTICK_S = 0.4
# Of GTIDs that are named.
_SHOWN_CHARS = 200


@dataclass(slots=True)
class Memory:
    """What one decision leaves to the next; only a decision's own copy is ever changed.

    ``lease_changed_s``  when this agent first saw the present version of the lease
    ``renewed_s``        start of the last good write with this pet as the holder
    ``pledged_s``        start of the last question after which the other pledged to leave the lease to this pet
    ``pledge_until_s``   this pet has pledged to leave the lease to its holder until then
    ``read_late_s``      when the last good read of the lease was last found to be old
    ``hung_s``           when the own mysqld was last found not to answer
    ``other_hung_s``     when an agent was last asked that told of its mysqld that it had not answered for a while
    ``alone``            the last write of the lease succeeded, is ours, and names nobody else in-sync
    ``giving_up``        the lease was, or is still to be, handed back; it is not kept however well things look
    ``give_up_put_s``    the last attempt at it
    ``give_back_to``     who wrote last, when this pet cannot apply what it received and nobody has written since
    ``promoted``         incarnation whose receiver and dump threads were ended after taking the lease
    ``unlocked_s``       when sessions that hold locks were last ended after taking the lease
    ``lost_since_s``     since when no semi-sync replica is connected
    ``stuck_since_s``    since when commits wait without any acknowledgement, with ``acks`` at that time
    ``semi_on_s``        since when semi-sync is seen on in this role
    ``add_after_s``      no new attempt to add a peer before
    ``connecting_s``     since when the receiver has been connecting
    ``fenced_s``         when mysqld was last ordered to be killed
    ``decided_s``        the last decision
    ``awake_s``          since when this agent has decided without a long pause: before, it has not looked at anything
    """

    started_s: float
    lease_version: str = ""
    lease_changed_s: float = NEVER
    put_serial: int = 0
    put_started_s: float = NEVER
    renewed_s: float = NEVER
    pledged_s: float = NEVER
    pledge_until_s: float = NEVER
    read_late_s: float = NEVER
    hung_s: float = NEVER
    other_hung_s: float = NEVER
    alone: bool = False
    giving_up: bool = False
    give_up_put_s: float = NEVER
    give_back_to: str = ""
    gave_up_s: float = NEVER
    restart_tried: bool = False
    promoted: str = ""
    unlocked_s: float = NEVER
    lost_since_s: float | None = None
    stuck_since_s: float | None = None
    acks: int = -1
    semi_on_s: float | None = None
    add_after_s: float = NEVER
    marker_s: float = NEVER
    channel_s: float = NEVER
    connecting_s: float | None = None
    fenced_s: float = NEVER
    decided_s: float = NEVER
    awake_s: float = NEVER


@dataclass(frozen=True, slots=True)
class Decision:
    """``writer_until_s``: /writer may say yes before this time only; ``reader_until_s`` likewise.

    ``ask_pledge``: the lease could not be renewed lately, the other is to be asked to leave it to this pet.
    ``behind_s``: how old this pet's rows may be at most, beside the writer's; None when that is not known.
    """

    actions: tuple[Action, ...]
    memory: Memory
    role: str
    writer_until_s: float = NEVER
    reader_until_s: float = NEVER
    reasons: tuple[str, ...] = ()
    ask_pledge: bool = False
    behind_s: float | None = None


@dataclass(slots=True)
class _Look:
    """One decision in the making."""

    settings: Settings
    seen: Observation
    memory: Memory
    now_s: float
    actions: list[Action]
    reasons: list[str]

    @property
    def server(self) -> Server:
        return self.seen.server

    @property
    def up(self) -> bool:
        return not self.server.dead and self.now_s - self.server.answered_s <= self.settings.hang_s

    @property
    def held_s(self) -> float:
        """Since when nobody else can have begun to hold the lease. A pledge only prolongs what this agent renewed."""
        renewed_s = self.memory.renewed_s
        return renewed_s if renewed_s == NEVER else max(renewed_s, self.memory.pledged_s)

    @property
    def fresh(self) -> bool:
        return self.now_s - self.held_s < self.settings.fence_s

    @property
    def pledged(self) -> bool:
        """Whether this pet has pledged to leave the lease to another, or an agent before this one may have."""
        return self.now_s < self.memory.pledge_until_s

    def remember(self, **changes: object) -> None:
        for name, value in changes.items():
            setattr(self.memory, name, value)

    def sql(self, action: Action) -> bool:
        """Ask for a statement, if mysqld answers and does nothing else for us now. One at a time."""
        if (
            not self.up
            or self.seen.sql_busy
            or any(not isinstance(one, PutLease | Marker | Fence) for one in self.actions)
        ):
            return False
        self.actions.append(action)
        return True

    def put(
        self,
        purpose: str,
        lease: Lease,
        holder: str,
        in_sync: tuple[str, ...],
        incarnations: dict[str, str],
        last_writer: str,
    ) -> bool:
        if self.seen.lease_busy or any(isinstance(one, PutLease) for one in self.actions):
            return False
        self.actions.append(PutLease(purpose, lease.version, holder, in_sync, incarnations, last_writer))
        # Until it has succeeded nobody knows what the record says.
        me = (self.settings.me,)
        self.remember(put_started_s=self.now_s, alone=self.memory.alone and in_sync == me == lease.in_sync)
        return True


def decide(settings: Settings, seen: Observation, memory: Memory, now_s: float) -> Decision:
    """The next actions, with the answers for the proxies."""
    look = _Look(settings, seen, replace(memory), now_s, [], [])
    _remember(look)
    lease = seen.lease
    if lease is None:
        role = _stay_closed(look, "the API server has not answered yet")
    elif not lease.exists or lease.in_sync is None:
        role = _stay_closed(look, "no ring was set up yet: the lease is missing or names no pet in-sync")
    elif settings.ordinal >= settings.eligible_masters:
        role = _follow(look, lease, may_take=False)
    elif lease.holder == settings.me:
        role = _hold(look, lease)
    else:
        role = _follow(look, lease, may_take=not seen.spoilt)
    look.reasons += [one for one in (seen.spoilt, seen.doubt, _why_older(look, lease)) if one]
    if not look.up:
        look.reasons.append("mysqld is down" if look.server.dead else "mysqld does not answer")
    writer_until_s, reader_until_s = _answers(look, lease, role)
    late = look.memory.renewed_s != NEVER and now_s - look.memory.renewed_s >= settings.pledge_after_s
    return Decision(
        tuple(look.actions),
        look.memory,
        role,
        writer_until_s,
        reader_until_s,
        tuple(dict.fromkeys(look.reasons)),
        ask_pledge=late and role in ("writer", "opening"),
        behind_s=_behind(look, lease)[1] if lease is not None and look.up else None,
    )


def pledge(settings: Settings, lease: Lease | None, memory: Memory, holder: str, now_s: float) -> Memory | None:
    """This pet's memory after its pledge to leave the lease to ``holder``; None when it may not pledge.

    It is safe also when this pet has asked for the lease and does not know what became of that: until the pledge is
    over it does not open.
    """
    if lease is None or not holder or lease.holder != holder or holder == settings.me:
        return None
    if settings.ordinal >= settings.eligible_masters:
        # It never takes the lease; who asks it has an old address of the pet that might.
        return None
    late = now_s - lease.asked_s > settings.read_late_s
    if not late and now_s - memory.read_late_s > settings.pledge_on_s:
        return None
    return replace(memory, pledge_until_s=max(memory.pledge_until_s, now_s + settings.lease_s))


def _remember(look: _Look) -> None:
    seen, memory, now_s = look.seen, look.memory, look.now_s
    lease, put = seen.lease, seen.put
    look.remember(awake_s=now_s if now_s - memory.decided_s > _PAUSE_S else memory.awake_s, decided_s=now_s)
    if lease is not None and lease.version != memory.lease_version:
        look.remember(lease_version=lease.version, lease_changed_s=now_s)
    if lease is not None and now_s - lease.asked_s > look.settings.read_late_s:
        look.remember(read_late_s=now_s)
    if put is not None and put.serial != memory.put_serial:
        look.remember(put_serial=put.serial)
        if put.ok and lease is not None and lease.holder == look.settings.me:
            look.remember(renewed_s=put.started_s, alone=lease.in_sync == (look.settings.me,))
    if lease is not None and lease.holder == look.settings.me:
        # Nobody else is eligible: nobody else ever takes it.
        others = [ordinal for ordinal in range(look.settings.eligible_masters) if ordinal != look.settings.ordinal]
        pledges = {peer.ordinal: peer.pledged_s for peer in seen.heard}
        if look.memory.alone and lease.in_sync == (look.settings.me,):
            # Nor is anybody while the record names nobody else.
            others = []
        else:
            look.remember(alone=False)
        look.remember(pledged_s=min((pledges.get(ordinal, NEVER) for ordinal in others), default=now_s))
    elif lease is not None:
        look.remember(renewed_s=NEVER, alone=False, giving_up=False, give_up_put_s=NEVER, promoted="", semi_on_s=None)
        look.remember(give_back_to="")
        if lease.exists and not lease.holder:
            # Handed back: it is open no more by what was pledged to it.
            look.remember(pledge_until_s=NEVER)
    _remember_hangs(look)
    _remember_semi_sync(look)
    connecting = look.up and look.server.channel.io == "connecting"
    look.remember(connecting_s=(now_s if memory.connecting_s is None else memory.connecting_s) if connecting else None)


def _remember_hangs(look: _Look) -> None:
    settings, seen, memory = look.settings, look.seen, look.memory
    if not look.up:
        look.remember(hung_s=look.now_s)
    hung = [
        peer.asked_s
        for peer in seen.heard
        if peer.ordinal < settings.eligible_masters and peer.asked_s - peer.answered_s > settings.hang_s
    ]
    look.remember(other_hung_s=max([memory.other_hung_s, *hung]))


def _remember_semi_sync(look: _Look) -> None:
    server, memory, now_s = look.server, look.memory, look.now_s
    if not look.up:
        # Time in which the own server answers nothing says nothing of the others.
        look.remember(lost_since_s=None, stuck_since_s=None)
        return
    if server.semi_source:
        # The look that saw it on began after it was on.
        look.remember(semi_on_s=server.answered_s if memory.semi_on_s is None else memory.semi_on_s)
    else:
        look.remember(semi_on_s=None)
    lost = server.clients == 0
    look.remember(lost_since_s=(now_s if memory.lost_since_s is None else memory.lost_since_s) if lost else None)
    if server.waiting == 0 or server.acks != memory.acks:
        look.remember(stuck_since_s=now_s if server.waiting else None, acks=server.acks)
    elif memory.stuck_since_s is None:
        look.remember(stuck_since_s=now_s)


def _stay_closed(look: _Look, why: str) -> str:
    look.reasons.append(why)
    if look.server.open:
        _close(look, why, KEEP if look.seen.lease is None else RELEASE)
    return "closed"


def _close(look: _Look, why: str, waiting: str) -> None:
    """Close the pet. ``waiting``: as it is wanted, where that is possible; see ``Close``."""
    lease, me = look.seen.lease, look.settings.me
    if lease is not None and (
        lease.mode == SPREAD
        or lease.followers != ""
        or look.settings.ordinal >= look.settings.eligible_masters
        or (lease.holder == me and lease.in_sync == (me,))
    ):
        # Both are written to, or somebody else may have received it, so nothing is cut off (rewind.judge); or nothing
        # has to wait for anybody.
        waiting = RELEASE
    if waiting == KEEP and _is_kept(look):
        look.reasons.append("commits that nobody has acknowledged wait until it is known who writes")
        return
    hangs = not look.up and not look.server.dead and look.now_s - look.memory.awake_s >= _AWAKE_S
    if waiting == KILL and hangs and look.now_s - look.memory.fenced_s >= _FENCE_EVERY_S:
        # It would be open for a moment when it wakes, and no statement reaches it before.
        look.actions.append(Fence(why))
        look.remember(fenced_s=look.now_s)
    look.sql(Close(why, waiting))


def _is_kept(look: _Look) -> bool:
    """Closed by offline_mode alone, as super_read_only would have waited for commits."""
    return look.server.offline and look.server.open


def _answers(look: _Look, lease: Lease | None, role: str) -> tuple[float, float]:
    """Until when /writer and /reader may say yes."""
    settings, server = look.settings, look.server
    if not look.up or lease is None or look.seen.spoilt or _why_older(look, lease):
        return NEVER, NEVER
    if look.seen.doubt and role == "follower":
        return NEVER, NEVER
    until_s = server.answered_s + settings.hang_s
    if role == "opening" and not server.applied:
        # What it has still to apply may be of hours ago.
        return NEVER, until_s if _is_current(look, lease) else NEVER
    if role == "opening":
        # Another may write since, when its view of the lease is an old one.
        return NEVER, min(until_s, look.held_s + settings.lag_limit_s)
    if role == "writer":
        closing = any(isinstance(one, Close) for one in look.actions)
        return NEVER if closing else min(until_s, look.held_s + settings.fence_s), until_s
    if role == "co-writer":
        return min(until_s, lease.asked_s + settings.fence_s), until_s
    channel = server.channel
    if role != "follower" or not channel.running:
        return NEVER, NEVER
    if channel.lag_s is None or channel.lag_s > settings.lag_limit_s:
        look.reasons.append(f"more than {settings.lag_limit_s:g} s behind {channel.source}: no reader")
        return NEVER, NEVER
    return NEVER, until_s if _is_current(look, lease) else NEVER


def _is_current(look: _Look, lease: Lease) -> bool:
    """Whether a pet that is not open has the rows that the writer had lately; if not, it is told."""
    limit_s = look.settings.lag_limit_s
    name, behind_s = _behind(look, lease)
    if behind_s is not None and behind_s <= limit_s:
        return True
    source = look.server.channel.source
    through = f", which reach it through {source}" if source and source != name else ""
    look.reasons.append(
        f"it is not known to have the rows that {name} had {limit_s:g} s ago{through}: no reader"
        if behind_s is None
        else f"lacks rows that {name} had {limit_s:g} s ago{through}: no reader"
    )
    return False


def _behind(look: _Look, lease: Lease) -> tuple[str, float | None]:
    """The writer that this pet is farthest behind, and how old its rows may be at most: since when it has not been seen
    to have all that the writer had. None: it never was. What its own channel says is of its source alone.
    """
    me, now_s = look.settings.me, look.now_s
    heard = {peer.name: peer for peer in look.seen.heard}
    reached_s = {peer.name: peer.reached_s for peer in look.seen.peers}
    nobody = lease.holder in ("", me) and now_s - lease.asked_s <= look.settings.fence_s
    # With a view of the lease that is old, and with mode spread, it is not the holder alone.
    names = {peer.name for peer in heard.values() if peer.open and _answers_now(look, peer)}
    names.add(lease.last_writer if lease.holder in ("", me) else lease.holder)
    worst: tuple[str, float | None] = ("", 0.0)
    for name in sorted(names - {"", me}):
        peer, since_s = heard.get(name), reached_s.get(name, NEVER)
        if since_s == NEVER:
            return name, None
        closed = peer is not None and (nobody or (_answers_now(look, peer) and not peer.alive))
        # A mysqld that does not answer has no new rows: what it had last is all there is.
        age_s = max(0.0, (peer.answered_s if closed and peer is not None else now_s) - since_s)
        if worst[1] is not None and age_s > worst[1]:
            worst = name, age_s
    return worst


def _why_older(look: _Look, lease: Lease | None) -> str:
    """Why this pet's data are older than what it has written; "" when that is not known of any other's set, however
    long ago that was told. An empty volume in place of its old one is the same: the record names its server_uuid.
    """
    named = (lease.incarnations if lease is not None else {}).get(look.settings.me, "")
    for peer in look.seen.peers:
        lost = made_by(peer.more, (look.server.uuid, _uuid_begin(named)))
        if lost:
            return (
                f"lacks transactions of its own that {peer.name} has ({_shorten(lost)}): its data are older than what"
                " it has written, and it would use their numbers again; keep its volume aside, give it an empty one,"
                " and run site"
            )
    return ""


def _uuid_begin(incarnation: str) -> str:
    """The begin of a server_uuid that an incarnation names, "" without one."""
    begin, dash, _start = incarnation.partition("-")
    return begin if dash else ""


def _shorten(gtids: str) -> str:
    return gtids if len(gtids) <= _SHOWN_CHARS else f"{gtids[:_SHOWN_CHARS]}..."


# --- the holder of the lease ------------------------------------------------------------------------------------------


def _hold(look: _Look, lease: Lease) -> str:
    settings, memory, server, now_s = look.settings, look.memory, look.server, look.now_s
    in_sync = lease.in_sync or ()
    # Nobody can take over: a mysqld that hangs is waited for. Should it answer again, it goes on.
    hangs = not look.up and not server.dead
    waits = hangs and (now_s - lease.asked_s > settings.fence_s or _hang_together(look, lease))
    if look.seen.leaving and server.open and look.up:
        # mysqld tells clients OK for commits that still wait when it is stopped: it is closed before that, as long as
        # semi-sync guards it, and only then is the lease another's.
        look.reasons.append("mysqld is about to be stopped")
        _close(look, "mysqld is about to be stopped", DRAIN)
        return "closed"
    if (
        look.seen.leaving
        or look.seen.spoilt
        or memory.giving_up
        or not (look.up or waits)
        or settings.me not in in_sync
        or _restarted(look, lease)
        or _why_older(look, lease)
    ):
        return _give_up(look, lease)
    role = "opening"
    if server.open:
        role = "writer"
        # An agent that was restarted beside an open mysqld may try once to renew what is still its own.
        trying = memory.renewed_s == NEVER and (
            not memory.restart_tried or (look.seen.lease_busy and now_s - memory.put_started_s < settings.renew_s)
        )
        if not look.fresh and not trying:
            look.reasons.append("the lease could not be renewed in time")
            _close(look, "the lease could not be renewed in time", KEEP)
            role = "opening"
    if role == "writer" and look.fresh and server.offline:
        # Closing was given up half-way, and the lease is ours again: clients are refused although this is the writer.
        look.sql(Open(look.held_s + settings.fence_s))
    elif role == "writer" and look.fresh:
        if now_s - memory.renewed_s >= settings.fence_s:
            look.reasons.append("the lease cannot be renewed; nobody else takes it meanwhile")
        if look.up:
            _keep_members(look, lease)
    elif role == "opening" and look.fresh and not look.actions:
        _open(look, lease)
    # Only a pet that has opened has all that was acknowledged in its own binary log.
    last_writer = settings.me if role == "writer" and look.up else lease.last_writer
    if now_s - memory.put_started_s >= settings.renew_s or last_writer != lease.last_writer:
        look.put("renew", lease, settings.me, in_sync, dict(lease.incarnations), last_writer)
        look.remember(restart_tried=True)
    if not look.fresh:
        return "opening"
    return role


def _hang_together(look: _Look, lease: Lease) -> bool:
    """Whether no mysqld that could take over has answered since ours does not: for as long as ours may hang, counted
    from when both last did. One storage is under both, or the other is down, or has still to apply what it received.
    """
    since_s = max(look.server.answered_s, look.memory.other_hung_s)
    heard = {peer.name: peer for peer in look.seen.heard if _answers_now(look, peer)}
    others = [name for name in lease.in_sync or () if name != look.settings.me]
    ready_s = since_s + look.settings.hang_s
    if any(name not in heard or (heard[name].answered_s >= ready_s and heard[name].applied) for name in others):
        return False
    look.reasons.append("waiting for it: no other mysqld could take over now" if others else "waiting for it")
    return True


def _restarted(look: _Look, lease: Lease) -> bool:
    """mysqld died and came back between two looks: the peers go first, as if it had been seen."""
    named = lease.incarnations.get(look.settings.me)
    return named is not None and bool(look.server.incarnation) and named != look.server.incarnation


def _give_up(look: _Look, lease: Lease) -> str:
    """Hand the lease back. The in-sync set stays: it says who may take it; see ``_open`` for the one who wrote last."""
    look.reasons.append("giving the lease up")
    if look.server.open:
        _close(look, "the lease is given up", KEEP)
    look.remember(giving_up=True, gave_up_s=look.now_s)
    # A mysqld that hangs is not waited for: what it holds open cannot be acknowledged once the peer has left it.
    # A put whose fate was unknown may have been this one; the next read tells.
    due = look.now_s - look.memory.give_up_put_s >= _GIVE_UP_EVERY_S
    members = lease.in_sync or ()
    if look.memory.give_back_to and look.memory.give_back_to == lease.last_writer:
        members = tuple(sorted({*members, lease.last_writer}))
    if due and look.put("give up", lease, "", members, dict(lease.incarnations), lease.last_writer):
        look.remember(give_up_put_s=look.now_s)
    return "closed"


def _open(look: _Look, lease: Lease) -> None:
    """Promotion, a step at a time: receiver stopped, dump threads ended, all applied, semi-sync right, open.

    Whoever holds a lock here is ended from the first step on: it held up nobody but the applier, and would now hold up
    everybody who writes.
    """
    settings, memory, server = look.settings, look.memory, look.server
    if memory.promoted != server.incarnation:
        if server.channel.io != "off":
            look.reasons.append("stopping the receiver before opening")
            look.sql(StopReceiver(opening=True))
        elif look.sql(KillDumps()):
            look.remember(promoted=server.incarnation, unlocked_s=look.now_s)
        return
    if not server.applied:
        channel = server.channel
        if channel.error_no and channel.error_no not in _TRANSIENT and lease.last_writer not in ("", settings.me):
            # Nobody has written since the last writer, so that one has everything as well, and this pet may be stuck.
            look.reasons.append(f"cannot apply what was received: error {channel.error_no}: {channel.error}")
            look.remember(give_back_to=lease.last_writer)
            _give_up(look, lease)
            return
        look.reasons.append("applying what was received before opening")
        if not channel.applier:
            if _may_start(look):
                _start_channel(look, applier_only=True)
        elif look.now_s - memory.unlocked_s >= _UNLOCK_EVERY_S and look.sql(KillHolders()):
            look.remember(unlocked_s=look.now_s)
        return
    waits = lease.mode != SPREAD and lease.in_sync != (settings.me,)
    if waits and not (server.semi_source and server.waits_forever):
        look.sql(SemiSource(on=True))
    elif not waits and server.semi_source and memory.alone:
        look.sql(SemiSource(on=False))
    elif look.pledged:
        look.reasons.append("has pledged to leave the lease to the other pet: opening a little later")
    elif waits or memory.alone or lease.mode == SPREAD:
        look.sql(Open(look.held_s + settings.fence_s))


def _keep_members(look: _Look, lease: Lease) -> None:
    """The in-sync set of an open writer, semi-sync with it, and its own channel."""
    settings, memory, server, now_s = look.settings, look.memory, look.server, look.now_s
    me, alone = settings.me, lease.in_sync == (settings.me,)
    if (not server.semi_source and not alone) or (server.semi_source and not server.waits_forever):
        # Nobody but a hand from outside has switched it off; a time-out is left from spread.
        look.sql(SemiSource(on=True))
    for why in _why_drop(look, lease):
        look.reasons.append(why)
        look.put("remove", lease, me, (me,), {me: server.incarnation}, me)
        return
    stuck = memory.stuck_since_s is not None and now_s - memory.stuck_since_s > settings.stuck_s
    gone = memory.lost_since_s is not None
    if alone and server.semi_source and memory.alone and (gone or stuck):
        look.reasons.append("nobody else is in-sync: commits do not wait")
        if look.sql(SemiSource(on=False)):
            look.remember(add_after_s=now_s + settings.backoff_s)
        return
    if alone:
        _add_member(look, lease)
    elif memory.stuck_since_s is not None and now_s - memory.stuck_since_s > _UNSTICK_S:
        # What was applied from the peer is acknowledged by nobody, until a commit of our own is.
        _marker(look)
    _feed(look)


def _why_drop(look: _Look, lease: Lease) -> list[str]:
    settings, memory, now_s = look.settings, look.memory, look.now_s
    why = []
    for name in lease.in_sync or ():
        if name == settings.me:
            continue
        peer = _peer(look, name)
        if memory.lost_since_s is not None and now_s - memory.lost_since_s > settings.drop_s:
            why.append(f"{name} is not connected: no longer in-sync")
        elif memory.stuck_since_s is not None and now_s - memory.stuck_since_s > settings.stuck_s:
            why.append(f"{name} does not acknowledge: no longer in-sync")
        elif peer is not None and not peer.alive and now_s - memory.hung_s > settings.hang_s:
            why.append(f"{name} says that its mysqld is down: no longer in-sync")
        elif peer is not None and peer.incarnation != lease.incarnations.get(name):
            why.append(f"{name} was restarted: no longer in-sync")
    return why


def _add_member(look: _Look, lease: Lease) -> None:
    settings, memory, server, now_s = look.settings, look.memory, look.server, look.now_s
    for peer in look.seen.peers:
        fit = (
            peer.ordinal < settings.eligible_masters
            and _answers_now(look, peer)
            and peer.alive
            and peer.source == settings.me
            and peer.semi_replica
            and (not peer.open or lease.mode == SPREAD)
        )
        if not fit or not server.clients or now_s < memory.add_after_s:
            continue
        if not server.semi_source:
            if peer.covers:
                look.sql(SemiSource(on=True))
            else:
                look.reasons.append(f"{peer.name} is catching up")
            return
        since_s = memory.semi_on_s
        acked_s = look.seen.marker.acked_s
        proven = since_s is not None and peer.covers and peer.covers_as_of_s >= since_s and acked_s >= since_s
        if proven and peer.asked_s >= acked_s:
            members = (settings.me, peer.name)
            named = {settings.me: server.incarnation, peer.name: peer.incarnation}
            look.put("add", lease, settings.me, members, named, settings.me)
        else:
            look.reasons.append(f"{peer.name} is about to be in-sync")
            if since_s is None or acked_s < since_s:
                _marker(look)
        return


def _marker(look: _Look) -> None:
    due = look.now_s - look.memory.marker_s >= look.settings.marker_every_s
    if due and look.seen.marker.pending_since_s is None:
        look.actions.append(Marker())
        look.remember(marker_s=look.now_s)


def _feed(look: _Look) -> None:
    """The writer's own channel runs when its source is a closed follower of ours: what it still held is merged."""
    channel = look.server.channel
    peer = _peer(look, channel.source)
    spread = look.seen.lease is not None and look.seen.lease.mode == SPREAD
    if channel.configured and not channel.running and peer is not None and peer.alive and (spread or not peer.open):
        _run_channel(look)


# --- everybody else ---------------------------------------------------------------------------------------------------


def _follow(look: _Look, lease: Lease, *, may_take: bool) -> str:
    settings, server = look.settings, look.server
    together = may_take and lease.mode == SPREAD and not look.seen.leaving and _may_write_too(look, lease)
    if server.open and not together:
        why = f"{lease.holder or 'nobody'} holds the lease"
        look.reasons.append(why)
        # What is kept keeps the other's receiver out as well: not for longer than somebody may come to take the lease.
        mine = (
            not lease.holder
            and may_take
            and settings.me in (lease.in_sync or ())
            and not look.seen.leaving
            and look.now_s - look.memory.lease_changed_s < _KEEP_FREE_S
        )
        _close(look, why, KEEP if mine else KILL)
        if mine and _is_kept(look) and not look.seen.doubt:
            # Nobody else came: it goes on with what waits.
            _take(look, lease)
        return "closed"
    if server.offline:
        look.reasons.append("offline_mode was left on")
        look.sql(Close("offline_mode was left on"))
    if server.semi_source and not together:
        look.sql(SemiSource(on=False))
    if look.seen.leaving or look.seen.terminating:
        # START REPLICA in the moment in which mysqld shuts down makes both wait for ever (MySQL 9.7).
        return "follower"
    if server.semi_replica != may_take and not look.seen.doubt:
        # It takes effect when the receiver starts.
        look.sql(SemiReplica(on=may_take))
    if together:
        return _write_too(look, lease)
    if may_take and not look.seen.doubt:
        _take(look, lease)
    if not any(isinstance(one, PutLease) for one in look.actions):
        _run_channel(look)
    return "follower"


def _may_write_too(look: _Look, lease: Lease) -> bool:
    """spread: a master that the holder counts as in-sync, whose view of the lease is fresh, and that receives."""
    me, server = look.settings.me, look.server
    named = me in (lease.in_sync or ()) and lease.incarnations.get(me) == server.incarnation
    current = look.now_s - lease.asked_s < look.settings.fence_s and bool(lease.holder) and not _expired(look)
    return named and current and server.channel.applier and server.channel.io != "off"


def _write_too(look: _Look, lease: Lease) -> str:
    server = look.server
    if server.semi_source != (server.clients > 0):
        look.sql(SemiSource(on=server.clients > 0, timeout_ms=SPREAD_TIMEOUT_MS))
    if not server.open:
        if server.channel.running:
            look.sql(Open(lease.asked_s + look.settings.fence_s))
        return "follower"
    if look.memory.stuck_since_s is not None and look.now_s - look.memory.stuck_since_s > _UNSTICK_S:
        _marker(look)
    return "co-writer"


def _expired(look: _Look) -> bool:
    return look.now_s - look.memory.lease_changed_s > look.settings.lease_s


def _take(look: _Look, lease: Lease) -> None:
    """Take a lease that is free or has run out, if this pet has every acknowledged write."""
    settings, server, now_s = look.settings, look.server, look.now_s
    me, in_sync = settings.me, lease.in_sync or ()
    if lease.holder and not _expired(look):
        return
    if lease.holder and look.pledged:
        look.reasons.append(f"has pledged to leave the lease to {lease.holder}")
        return
    if me not in in_sync:
        look.reasons.append(f"not in-sync ({', '.join(in_sync)}): may not take the free lease")
        return
    if not look.up or look.seen.terminating or look.seen.leaving or now_s - lease.asked_s > settings.fence_s:
        return
    free_since_s = look.memory.lease_changed_s + (settings.lease_s if lease.holder else 0.0)
    if server.answered_s < free_since_s:
        # A look from before may be of a mysqld that died together with the writer's; what it comes back without would
        # then be written over the record.
        look.reasons.append("looking at mysqld once more before taking the lease")
        return
    if not server.applied and server.channel.error_no:
        look.reasons.append(f"may not take the lease: the channel is stopped by error {server.channel.error_no}")
        return
    # Its reason is told for each pet.
    if _why_older(look, lease):
        return
    wait = _why_wait(look, lease)
    if wait:
        look.reasons.append(wait)
        return
    look.put("take", lease, me, (me,), {me: server.incarnation}, lease.last_writer)


def _why_wait(look: _Look, lease: Lease) -> str:
    """Why a named pet does not take the free lease now; "" when it does."""
    settings, memory, now_s = look.settings, look.memory, look.now_s
    me = settings.me
    # The last writer as well: who took the lease after it and did not come to open may be the only member by now.
    others = sorted({*(lease.in_sync or ()), lease.last_writer} - {me, ""})
    if not others:
        return ""
    last = lease.last_writer == me
    if last and now_s - max(memory.gave_up_s, memory.started_s) < settings.failback_s:
        return "the others go first: no fail-back"
    if lease.incarnations.get(me) == look.server.incarnation or last:
        return ""
    free_s = now_s - memory.lease_changed_s
    for name in others:
        peer = _peer(look, name)
        if peer is None or not peer.alive:
            return f"mysqld was restarted since it was in-sync, and {name}, which may have more, does not answer"
        if not peer.covered:
            return f"{name} has more"
        lost = made_by(peer.less, (peer.uuid, _uuid_begin(lease.incarnations.get(name, ""))))
        if lost:
            return (
                f"mysqld was restarted since it was in-sync, and {name}, which may have had more, came back without"
                f" transactions of its own ({_shorten(lost)}): what it has now proves nothing"
            )
        if peer.ordinal < settings.ordinal and free_s < settings.stagger_s + settings.failback_s:
            return f"{name} goes first"
    return ""


# --- the channel ------------------------------------------------------------------------------------------------------


def _run_channel(look: _Look) -> None:
    channel = look.server.channel
    if not channel.configured:
        look.reasons.append("the channel is not set up")
    elif channel.error_no and not channel.applier and channel.error_no not in _TRANSIENT:
        look.reasons.append(f"the channel is stopped by error {channel.error_no}: {channel.error}")
    elif (channel.io == "off" or not channel.applier) and _may_start(look):
        _start_channel(look, applier_only=False)
    elif not channel.running:
        look.reasons.append(f"the channel is {channel.io}{': ' if channel.error else ''}{channel.error}")
        since_s, peer = look.memory.connecting_s, _peer(look, channel.source)
        # STOP REPLICA would wait for a name server that is silent.
        knows = peer is not None and peer.alive and look.now_s - peer.resolved_s < _RESOLVED_S
        if since_s is not None and look.now_s - since_s > _CONNECTING_S and knows:
            look.reasons.append(f"{channel.source} answers: the receiver is started again")
            if look.sql(StopReceiver()):
                look.remember(connecting_s=None)


def _may_start(look: _Look) -> bool:
    """A channel that an error has stopped is left to a person: starting it again would hide the conflict."""
    channel = look.server.channel
    again = look.now_s - look.memory.channel_s >= look.settings.backoff_s
    return channel.configured and (not channel.error_no or channel.error_no in _TRANSIENT) and again


def _start_channel(look: _Look, *, applier_only: bool) -> None:
    if look.sql(StartChannel(applier_only)):
        look.remember(channel_s=look.now_s)


def _answers_now(look: _Look, peer: Peer) -> bool:
    return look.now_s - peer.asked_s <= look.settings.answer_s


def _peer(look: _Look, name: str) -> Peer | None:
    """A peer by name, if its agent has answered lately."""
    return next((peer for peer in look.seen.peers if peer.name == name and _answers_now(look, peer)), None)
