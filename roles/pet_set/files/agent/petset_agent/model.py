# SPDX-License-Identifier: GPL-3.0-or-later
"""The words between the agent's eyes, its one decision function and its hands. All times ``*_s`` are monotonic."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SPREAD = "spread"
SINGLE_WRITER = "single_writer"
NEVER = float("-inf")
# The largest time-out that MySQL takes, 49 days.
FOREVER_MS = 4294967295
# Looks at what this pet has executed that are kept, 0.4 s apart: the age of what a peer's agent tells, and some.
SNAPSHOTS = 8
# What a peer had executed that this pet has not yet: longer than the lag that readers are spared.
TRAIL = 40
_Set = TypeVar("_Set")


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change while the agent runs; times in seconds.

    ``fence_s`` plus the time that closing takes has to stay below ``lease_s``: the old writer is closed before
    another may open. With no renewal for ``pledge_after_s`` one was missed: the holder asks the other for a pledge,
    which gives it when its own last good read is older than ``read_late_s``, or was within the last ``pledge_on_s``.
    ``eligible_masters`` is at most 2: a write waits for one acknowledgement, so only two pets can be known to hold it.
    """

    me: str
    ordinal: int
    masters: int = 2
    lease_s: float = 3.0
    renew_s: float = 0.7
    fence_s: float = 2.0
    pledge_after_s: float = 1.1
    read_late_s: float = 0.8
    pledge_on_s: float = 5.0
    hang_s: float = 2.0
    drop_s: float = 1.5
    stuck_s: float = 2.5
    failback_s: float = 3.0
    stagger_s: float = 1.5
    backoff_s: float = 2.0
    answer_s: float = 2.0
    marker_every_s: float = 0.7
    lag_limit_s: float = 10.0

    @property
    def eligible_masters(self) -> int:
        """Pets with a lower ordinal than this may hold the lease."""
        return min(self.masters, 2)


@dataclass(frozen=True, slots=True)
class Channel:
    """The replication channel ``ring``. ``io`` is on, connecting or off; ``source`` the pet that it reads from."""

    configured: bool = False
    io: str = "off"
    applier: bool = False
    error_no: int = 0
    error: str = ""
    lag_s: float | None = None
    source: str = ""

    @property
    def running(self) -> bool:
        """Whether it receives and applies."""
        return self.io == "on" and self.applier


@dataclass(frozen=True, slots=True)
class Server:
    """The own mysqld. ``answered_s``: start of the last look that it answered; ``dead``: its socket says so.

    ``applied``     all that was received is executed
    ``clients``     semi-sync replicas that are connected; ``waiting``: sessions that wait for an acknowledgement;
    ``acks``        commits acknowledged so far
    ``offline``     only administrators may connect: closing was interrupted half-way
    ``waits_forever`` semi-sync, when on, never lets commits go on alone: neither after a time-out nor without a replica
    ``incarnation`` another one after each start of mysqld; begins with that of ``uuid``, its server_uuid
    """

    answered_s: float = NEVER
    dead: bool = True
    incarnation: str = ""
    uuid: str = ""
    open: bool = False
    offline: bool = False
    executed: str = ""
    received: str = ""
    applied: bool = False
    semi_source: bool = False
    waits_forever: bool = True
    semi_replica: bool = False
    clients: int = 0
    waiting: int = 0
    acks: int = 0
    channel: Channel = Channel()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another pet as its agent tells. ``asked_s``: start of the last question that was answered; ``answered_s``: when
    its mysqld last answered its agent, as far as that question tells.

    ``source``      the pet that it is connected to and reads from now, "" when it is not
    ``covers``      it holds (received or executed) all that this pet had executed at ``covers_as_of_s``, a few looks
                    back at most: what its agent tells is as old as two rounds, and meanwhile clients write
    ``covered``     this pet holds all that it holds
    ``resolved_s``  when its name was last looked up, with an answer
    ``pledged_s``   start of the last question after which it pledged to leave the lease to this pet
    ``applied``     it has executed all that it has received: it can open at once
    ``reached_s``   this pet has executed all that it had executed at that time
    ``more``        GTIDs that it holds and this pet has not executed; "" while clients may write here, as a commit on
                    its way is not counted yet
    ``less``        GTIDs that this pet holds and it does not; "" while clients may write there
    """

    name: str
    ordinal: int
    asked_s: float = NEVER
    alive: bool = False
    incarnation: str = ""
    open: bool = False
    source: str = ""
    semi_replica: bool = False
    covers: bool = False
    covers_as_of_s: float = NEVER
    covered: bool = False
    pledged_s: float = NEVER
    answered_s: float = NEVER
    applied: bool = True
    resolved_s: float = NEVER
    uuid: str = ""
    reached_s: float = NEVER
    more: str = ""
    less: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """The record in the API as last read or written. ``in_sync`` is None when no ring was set up yet.

    ``incarnations``: for which start of its mysqld a pet is named in ``in_sync``. ``last_writer``: the pet that opened
    last, not one that took the lease and has not opened yet; whatever was acknowledged is in its binary log.
    ``followers``: pets that follow and may not take the lease, "" for none; None: the ring has not said it yet.
    """

    exists: bool = False
    version: str = ""
    holder: str = ""
    in_sync: tuple[str, ...] | None = None
    incarnations: Mapping[str, str] = field(default_factory=dict)
    mode: str = SINGLE_WRITER
    last_writer: str = ""
    asked_s: float = NEVER
    followers: str | None = None


@dataclass(frozen=True, slots=True)
class PutResult:
    """The last write of the lease that ended. ``ok`` False: refused, or its fate is unknown."""

    serial: int
    started_s: float
    ok: bool


@dataclass(frozen=True, slots=True)
class MarkerState:
    """The last marker commit: ``acked_s``: start of one that a replica has acknowledged."""

    pending_since_s: float | None = None
    acked_s: float = NEVER


@dataclass(frozen=True, slots=True)
class Observation:
    """All that is known at one moment. ``lease`` is None until the API has answered once.

    ``peers`` were compared with the own server at its last look; ``heard`` is what their agents told since, also while
    the own server hangs, without that comparison. ``leaving``: mysqld is about to be stopped (stop.sh waits for that).
    ``spoilt``: why this pet's data cannot be trusted; ``doubt``: why that is not known yet.
    """

    server: Server = Server()
    lease: Lease | None = None
    put: PutResult | None = None
    lease_busy: bool = False
    sql_busy: bool = False
    peers: tuple[Peer, ...] = ()
    heard: tuple[Peer, ...] = ()
    marker: MarkerState = MarkerState()
    terminating: bool = False
    leaving: bool = False
    spoilt: str = ""
    doubt: str = ""


# --- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PutLease:
    """Write the lease if it still has ``version``."""

    purpose: str
    version: str
    holder: str
    in_sync: tuple[str, ...]
    incarnations: Mapping[str, str]
    last_writer: str


# What becomes of commits without an acknowledgement when a pet is closed. Their clients are cut off in any case.
RELEASE = "release"
KEEP = "keep"
KILL = "kill"
DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Close:
    """No client writes any more: super_read_only, sessions ended, semi-sync source off.

    ``waiting``: what becomes of commits that are not acknowledged. ``RELEASE``: they are committed, and come to the
    other pets late. ``KEEP``: they go on waiting, as it is not known yet who writes; offline_mode keeps clients out,
    and other pets' receivers. ``KILL``: another writes, mysqld is killed, and they are cut off before it starts again
    (rewind.py). ``DRAIN``: the peer may still acknowledge them, for a second; then as with ``KILL``.
    """

    why: str
    waiting: str = RELEASE


@dataclass(frozen=True, slots=True)
class Fence:
    """Have mysqld killed, without a word to it."""

    why: str


@dataclass(frozen=True, slots=True)
class Open:
    """Let clients write, unless it is later than ``until_s`` by now."""

    until_s: float


@dataclass(frozen=True, slots=True)
class StartChannel:
    """Start what does not run of the channel ``ring``; ``applier_only`` to apply what is here and fetch nothing."""

    applier_only: bool = False


@dataclass(frozen=True, slots=True)
class StopReceiver:
    """Take nothing more from the old writer; nothing that it still commits is acknowledged by this pet then.

    ``opening``: with ``KillHolders``, as a lock on all tables may hold this up as well.
    """

    opening: bool = False


@dataclass(frozen=True, slots=True)
class KillDumps:
    """End the sessions of replicas: those of dead ones would still count as connected. With ``KillHolders``."""


@dataclass(frozen=True, slots=True)
class KillHolders:
    """End the sessions of clients whose locks the applier may have to wait for, or writers once this pet is open."""


@dataclass(frozen=True, slots=True)
class SemiSource:
    """Commits wait for an acknowledgement, or do not. ``timeout_ms``: give up waiting after this time."""

    on: bool
    timeout_ms: int = FOREVER_MS


@dataclass(frozen=True, slots=True)
class SemiReplica:
    """Acknowledge what is received, or do not."""

    on: bool


@dataclass(frozen=True, slots=True)
class Marker:
    """Commit a row of our own, in the background."""


SqlAction = Close | Open | StartChannel | StopReceiver | KillDumps | KillHolders | SemiSource | SemiReplica
Action = PutLease | Marker | Fence | SqlAction


def newest_covered(snapshots: Sequence[tuple[float, _Set]], covers: Callable[[_Set], bool]) -> float:
    """When the newest snapshot (time, set), oldest first, that is covered was taken; NEVER without one.

    >>> newest_covered([(1.0, {1}), (2.0, {1, 2}), (3.0, {1, 2, 3})], lambda ours: ours <= {1, 2})
    2.0
    """
    return next((taken_s for taken_s, ours in reversed(snapshots) if covers(ours)), NEVER)


@dataclass(slots=True)
class Trail(Generic[_Set]):
    """What a peer had executed at times, oldest first, as far as this pet has not executed it.

    ``reached_s``: the newest time of which this pet has everything. It is right however the peer's rows come here.

    >>> trail = Trail()
    >>> for taken_s, theirs in ((1.0, {1}), (2.0, {1, 2}), (3.0, {1, 2, 3})):
    ...     trail.add(taken_s, "start 1", theirs)
    >>> trail.follow(lambda theirs: theirs <= {1, 2})
    2.0
    """

    reached_s: float = NEVER
    _incarnation: str = ""
    _newest_s: float = NEVER
    _left: deque[tuple[float, _Set]] = field(default_factory=lambda: deque(maxlen=TRAIL))

    def add(self, taken_s: float, incarnation: str, theirs: _Set) -> None:
        """What its mysqld had at ``taken_s``; one answer may be told again and again."""
        if incarnation != self._incarnation:
            # It may have come back without what it had told nobody: this pet would wait for that for ever.
            self._left.clear()
            self._incarnation = incarnation
        if taken_s <= self._newest_s:
            return
        self._newest_s = taken_s
        if self._left and self._left[-1][1] == theirs:
            self._left.pop()
        self._left.append((taken_s, theirs))

    def follow(self, covered: Callable[[_Set], bool]) -> float:
        """``reached_s`` now that this pet has all of what ``covered`` says yes to. A set once covered stays so."""
        while self._left and covered(self._left[0][1]):
            self.reached_s, _theirs = self._left.popleft()
        return self.reached_s


def made_by(gtids: str, uuids: Iterable[str]) -> str:
    """The part of a GTID set that servers with these server_uuids, or begins of them, have made.

    >>> made_by("3e11-aa:1-3:7,4f22-bb:5,3E11-aa:tag:1", ("3e11",))
    '3e11-aa:1-3:7,3E11-aa:tag:1'
    """
    begins = tuple(one.lower() for one in uuids if one)
    return ",".join(part for part in "".join(gtids.split()).split(",") if part and part.lower().startswith(begins))
