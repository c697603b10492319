# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the state of the pets means: one word, the reasons, and what is not known kept apart from what is."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .gtid import GtidSet
from .names import claim_name
from .ring import Channel, Down, LeaseView, Mode, PetState, Ring, RingPet, State
from .ring_doubt import Looks, Verdict, find_extra, lost_own
from .ring_plan import RingPlan, shorten
from .ring_trouble import WAYS_OUT, Found, RingTrouble, classify_fault
from .status_table import render_table

_UNDER_WAY = "which may be under way: a commit that waits for its acknowledgement is not counted yet"


class Word(enum.Enum):
    """broken: somebody has to act. uncertain: a pet could not be asked. degraded: it works, or soon will, not fully."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    BROKEN = "broken"
    UNCERTAIN = "uncertain"


@dataclass(slots=True)
class PetJudgement:
    """One pet: role is writer, master, standby, replica or unknown. ``lag_s`` seconds, ``behind`` transactions."""

    name: str
    ordinal: int
    role: str
    answers: bool
    read_only: str = ""
    server_uuid: str = ""
    version: str = ""
    gtid_executed: str = ""
    channel: str = ""
    source: str = ""
    lag_s: float | None = None
    behind: int | None = None
    semi_sync: str = ""
    errant: str = ""
    late: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For results."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class RingJudgement:
    """``broken`` and ``degraded`` are certain, ``uncertain`` is what could not be known, ``notes`` change nothing."""

    pets: list[PetJudgement]
    writer: str | None
    in_sync: tuple[str, ...]
    broken: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    uncertain: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    troubles: list[Found] = field(default_factory=list)

    def tell(self, word: Word, pet: str, trouble: RingTrouble, text: str, way_out: str = "") -> None:
        """What is wrong, as a sentence among those of ``word`` and as a trouble with its name. ``pet`` may be empty."""
        lists = {Word.BROKEN: self.broken, Word.UNCERTAIN: self.uncertain, Word.DEGRADED: self.degraded}
        lists[word].append(text)
        self.troubles.append(Found(pet, trouble, text, way_out))

    @property
    def word(self) -> Word:
        """What is broken for certain comes before what is not known, and that before what is merely not complete."""
        if self.broken:
            return Word.BROKEN
        if self.uncertain:
            return Word.UNCERTAIN
        return Word.DEGRADED if self.degraded else Word.HEALTHY

    @property
    def reasons(self) -> list[str]:
        """Everything that keeps it from healthy, the worst first."""
        return [*self.broken, *self.uncertain, *self.degraded]

    def catching_up(self) -> dict[str, int]:
        """Pets that apply what they receive and have not applied all, each with the transactions that it lacks."""
        return {pet.name: pet.behind for pet in self.pets if pet.channel == "running" and pet.behind}

    def summary(self) -> str:
        """One line."""
        return f"{self.word.value}: {'; '.join(self.reasons)}" if self.reasons else self.word.value


@dataclass(frozen=True, slots=True)
class _Extra:
    """By pet: what it alone has, for ever or for a while, and what it lacks of its own."""

    errant: Mapping[str, GtidSet]
    late: Mapping[str, GtidSet]
    lost: Mapping[str, GtidSet]


def judge_ring(ring: Ring, states: Mapping[str, State], lease: LeaseView, plan: RingPlan) -> RingJudgement:
    """Judge the same observation that ``plan`` was made from."""
    up = {pet.name: state for pet in ring.pets if isinstance(state := states.get(pet.name), PetState)}
    judged = RingJudgement([], None, lease.in_sync or ())
    _judge_lease(ring, up, lease, judged)
    for problem, trouble in zip(plan.refusals, plan.refused_for):
        judged.tell(Word.BROKEN, "", trouble, problem.render().rstrip("."), problem.way_out)
    errant, late = find_extra(ring, up, lease)
    lost = lost_own(ring, up)
    for name in late:
        # What a pet lacks of its own is told there, and it fetches none of it.
        for gtids in lost.values():
            late[name] = late[name] - gtids
    for pet in ring.pets:
        state = states.get(pet.name, Down("unknown", "was not asked"))
        if isinstance(state, Down):
            judged.pets.append(PetJudgement(pet.name, pet.ordinal, "unknown", False, reason=state.reason))
            text = f"{pet.name} could not be asked: {state.reason}"
            trouble = RingTrouble.NO_ANSWER
            if state.kind == "access_denied":
                # As after the set was made anew, with new passwords, around data that were kept.
                trouble = RingTrouble.OLD_PASSWORD
                claim = claim_name("db", ring.set_name, pet.ordinal)
                text += f"; the data on the volume of claim {claim} hold another password than the Secret"
            judged.tell(Word.UNCERTAIN, pet.name, trouble, text, state.way_out)
            continue
        judged.pets.append(_judge_pet(ring, pet, state, up, lease, _Extra(errant, late, lost), plan.looks, judged))
    if plan.doubts and not judged.uncertain:
        for doubt in plan.doubts:
            judged.tell(Word.UNCERTAIN, "", RingTrouble.UNDER_WAY, f"{doubt}, {_UNDER_WAY}")
    if plan.steps:
        text = f"not set up as described: {len(plan.steps)} steps are missing"
        judged.tell(Word.DEGRADED, "", RingTrouble.NOT_SET_UP, text)
    for reason in plan.pending:
        if not reason.endswith("does not answer"):
            judged.tell(Word.DEGRADED, "", RingTrouble.PENDING, reason)
    return judged


def _judge_lease(ring: Ring, up: Mapping[str, PetState], lease: LeaseView, judged: RingJudgement) -> None:
    if lease.unknown:
        judged.tell(Word.UNCERTAIN, "", RingTrouble.NO_ANSWER, f"the Lease could not be read: {lease.unknown}")
        return
    if lease.in_sync is None:
        text = "no ring was set up yet: the Lease does not name the pets in sync"
        judged.tell(Word.DEGRADED, "", RingTrouble.NOT_SET_UP, text)
        return
    away = [pet.name for pet in ring.master_pets if pet.name not in lease.in_sync]
    if away:
        text = f"not in sync: {', '.join(away)} (cannot take over without loss)"
        judged.tell(Word.DEGRADED, away[0], RingTrouble.NOT_IN_SYNC, text)
    holder = lease.holder
    if ring.mode is Mode.SPREAD:
        # All masters are written to; whoever holds the Lease is only named.
        open_masters = [pet.name for pet in ring.master_pets if pet.name in up and up[pet.name].is_open]
        judged.writer = holder if holder in open_masters else next(iter(open_masters), None)
    elif holder is None:
        judged.tell(Word.DEGRADED, "", RingTrouble.NO_WRITER, "no pet holds the Lease: there is no writer")
    elif holder in up:
        if up[holder].is_open:
            judged.writer = holder
        else:
            text = f"{holder} holds the Lease and is not open for writes"
            judged.tell(Word.DEGRADED, holder, RingTrouble.NOT_OPEN, text)


def _judge_pet(
    ring: Ring,
    pet: RingPet,
    state: PetState,
    up: Mapping[str, PetState],
    lease: LeaseView,
    extra: _Extra,
    looks: Looks,
    judged: RingJudgement,
) -> PetJudgement:
    role = _role_of(ring, pet, lease)
    (errant_key, lost_key) = ((trouble, (pet.name,)) for trouble in (RingTrouble.ERRANT, RingTrouble.LOST_OWN))
    is_errant = pet.name in extra.errant and looks.verdict(errant_key) is Verdict.CERTAIN
    told = PetJudgement(
        pet.name,
        pet.ordinal,
        role,
        True,
        read_only="super" if state.super_read_only else "on" if state.read_only else "off",
        server_uuid=state.server_uuid,
        version=state.version,
        gtid_executed=str(state.later),
        errant=str(looks.lasting(errant_key, (extra.errant[pet.name],))[0]) if is_errant else "",
        late=str(extra.late.get(pet.name, "")),
    )
    before = len(judged.reasons)
    if is_errant:
        if not any(told.errant in reason for reason in judged.broken):
            text = f"{pet.name} alone has {shorten(told.errant)}: errant transactions"
            judged.tell(Word.BROKEN, pet.name, RingTrouble.ERRANT, text)
    elif pet.name in extra.errant:
        text = f"{pet.name} alone has {shorten(extra.errant[pet.name])}, {_UNDER_WAY}"
        judged.tell(Word.UNCERTAIN, pet.name, RingTrouble.UNDER_WAY, text)
    if told.late and ring.mode is Mode.SINGLE_WRITER and lease.holder:
        text = f"{pet.name} has {shorten(told.late)}, which the writer has not; the ring merges it unacknowledged"
        judged.tell(Word.DEGRADED, pet.name, RingTrouble.LATE, text)
    if pet.name in extra.lost:
        if looks.verdict(lost_key) is not Verdict.CERTAIN:
            text = f"{pet.name} lacks transactions of its own ({shorten(extra.lost[pet.name])}), {_UNDER_WAY}"
            judged.tell(Word.UNCERTAIN, pet.name, RingTrouble.UNDER_WAY, text)
        elif not any("of its own" in one for one in judged.broken):
            text = f"{pet.name} lacks transactions of its own: {shorten(extra.lost[pet.name])}"
            judged.tell(Word.BROKEN, pet.name, RingTrouble.LOST_OWN, text)
    _judge_open(ring, pet, role, state, lease, judged)
    _judge_settings(ring, pet, state, judged)
    if role != "writer" or ring.source_of(pet) is not None:
        _judge_channel(ring, pet, role, state, up, told, judged)
    told.semi_sync = _judge_semi_sync(ring, role, state, lease, judged, pet.name)
    if not told.reason and len(judged.reasons) > before:
        mine = [reason for reason in judged.reasons if reason.startswith(f"{pet.name} ")]
        told.reason = "; ".join(mine)
    return told


def _role_of(ring: Ring, pet: RingPet, lease: LeaseView) -> str:
    if not ring.is_master(pet):
        return "replica"
    if ring.mode is Mode.SPREAD or lease.unknown:
        # Which of them is the writer stands in the Lease and is not guessed from who is open.
        return "master"
    return "writer" if lease.holder == pet.name else "standby"


def _judge_open(ring: Ring, pet: RingPet, role: str, state: PetState, lease: LeaseView, judged: RingJudgement) -> None:
    if role == "master" and not state.is_open and lease.in_sync is not None:
        judged.tell(Word.DEGRADED, pet.name, RingTrouble.NOT_OPEN, f"{pet.name} is not open for writes")
    # A CLONE cannot drop a database under super_read_only.
    is_open_for_copy = state.is_copied_to and state.read_only
    if role in ("standby", "replica") and not state.super_read_only and not is_open_for_copy:
        text = f"{pet.name} is {'open for writes' if state.is_open else 'not super_read_only'} although it is a {role}"
        judged.tell(Word.BROKEN, pet.name, RingTrouble.NOT_READ_ONLY, text)


def _judge_settings(ring: Ring, pet: RingPet, state: PetState, judged: RingJudgement) -> None:
    for name in ("sync_binlog", "innodb_flush_log_at_trx_commit"):
        value = state.variables.get(name, "1")
        if value != "1":
            judged.notes.append(f"{pet.name}: {name} is {value}: acknowledged writes could be lost in a crash")
    if not ring.is_master(pet) or len(ring.master_pets) < 2:
        return
    step, offset = (state.variables.get(f"auto_increment_{name}", "") for name in ("increment", "offset"))
    masters, place = len(ring.master_pets), str(pet.ordinal % ring.masters + 1)
    if (not step.isdigit() or int(step) < masters) or offset != place:
        text = (
            f"{pet.name} has auto_increment_increment {step or 'unknown'} and auto_increment_offset "
            f"{offset or 'unknown'}, it should have {masters} and {place}: two masters could draw the same number"
        )
        if ring.mode is Mode.SPREAD:
            judged.tell(Word.DEGRADED, pet.name, RingTrouble.AUTO_INCREMENT, text)
        else:
            judged.notes.append(text)


def _judge_channel(
    ring: Ring,
    pet: RingPet,
    role: str,
    state: PetState,
    up: Mapping[str, PetState],
    told: PetJudgement,
    judged: RingJudgement,
) -> None:
    channel = state.channel
    if channel is None:
        told.channel = "none"
        return
    addresses = {(one.host, one.port): one.name for one in ring.pets}
    told.source = addresses.get((channel.host, channel.port), f"{channel.host}:{channel.port}")
    told.lag_s = channel.lag_s
    source = up.get(told.source)
    if source is not None:
        told.behind = len(source.executed - state.later)
    if channel.sql == "No" or channel.sql_error:
        told.channel = f"applier stopped ({channel.sql_error.number})" if channel.sql_error else "stopped"
        if channel.sql_error:
            text = f"{pet.name} does not apply what {told.source} sends: {channel.sql_error}"
            judged.tell(Word.BROKEN, pet.name, classify_fault(channel.sql_error), text)
        else:
            text = f"{pet.name} does not apply what it receives (stopped)"
            judged.tell(Word.DEGRADED, pet.name, RingTrouble.STOPPED, text)
    elif channel.io == "No":
        told.channel = f"receiver stopped ({channel.io_error.number})" if channel.io_error else "stopped"
        text = f"{pet.name} does not receive from {told.source}: {explain_io(channel)}"
        word = Word.BROKEN if channel.io_error else Word.DEGRADED
        judged.tell(word, pet.name, classify_fault(channel.io_error), text)
    elif channel.io != "Yes":
        told.channel = "connecting"
        # A source of this ring that could not be asked is told by itself.
        if source is not None or told.source not in {one.name for one in ring.pets}:
            text = f"{pet.name} is connecting to {told.source}: {explain_io(channel)}"
            trouble = classify_fault(channel.io_error) if channel.io_error else RingTrouble.CONNECTING
            judged.tell(Word.DEGRADED, pet.name, trouble, text)
    else:
        told.channel = "running"
        if channel.lag_s is not None and channel.lag_s > ring.lag_limit_s:
            number = f", {told.behind} transactions," if told.behind else ""
            text = f"{pet.name} lags {channel.lag_s:.0f} s{number} behind {told.source}"
            judged.tell(Word.DEGRADED, pet.name, RingTrouble.LAG, text)


def lacks_markers(states: Mapping[str, State]) -> dict[str, dict[str, frozenset[str]]]:
    """For each pet that answers: the pets whose row in the agents' table it lacks, and who has that row.

    Each writer commits such a row before a peer counts as in sync, so once there is one, every pet has it.
    """
    up = {name: state for name, state in states.items() if isinstance(state, PetState)}
    every = {
        row: frozenset(name for name, state in up.items() if row in state.beats)
        for state in up.values()
        for row in state.beats
    }
    lacks = {name: {row: who for row, who in every.items() if row not in state.beats} for name, state in up.items()}
    return {name: rows for name, rows in lacks.items() if rows}


def judge_markers(first: Mapping[str, State], second: Mapping[str, State], judged: RingJudgement) -> None:
    """Tell of the rows that a pet lacked in two looks. It is certain once the pet has applied all that those who have
    the row had in the first one; before that the row may be on its way.
    """
    before = lacks_markers(first)
    for name, rows in lacks_markers(second).items():
        state = second[name]
        lasting = {row: who for row, who in rows.items() if row in before.get(name, {})}
        if not lasting or not isinstance(state, PetState):
            continue
        held = [one.later for who in lasting.values() for pet in who if isinstance(one := first.get(pet), PetState)]
        keepers = ", ".join(sorted({pet for who in lasting.values() for pet in who}))
        text = f"{name} has no row of {', '.join(sorted(lasting))} in petset.heartbeat, which {keepers} has"
        if held and all(gtids <= state.executed for gtids in held):
            judged.tell(Word.BROKEN, name, RingTrouble.NO_MARKER, f"{text}, though it has applied all transactions")
        else:
            judged.tell(Word.UNCERTAIN, name, RingTrouble.NO_MARKER, f"{text}; it may be on its way")


def explain_io(channel: Channel) -> str:
    """A receiver's error with what to do about it."""
    fault = channel.io_error
    hints = {
        2061: "the connection has to be encrypted: SOURCE_SSL=1 (or GET_SOURCE_PUBLIC_KEY=1) is missing on the channel",
        1045: f"the password of {channel.user} in the Secret is not that of the account",
        1129: "the source has blocked this address after too many broken handshakes: TRUNCATE TABLE"
        " performance_schema.host_cache there",
        1236: "the source no longer has the binary logs, or has fewer transactions than this replica",
    }
    number = fault.number
    if number == 13114:  # since 8.0 the receiver wraps 1236
        number = 1236
    hint = next((text for code, text in hints.items() if code == number or f"error {code}" in fault.text), "")
    return f"{fault}{f' ({hint})' if hint else ''}"


def _judge_semi_sync(ring: Ring, role: str, state: PetState, lease: LeaseView, judged: RingJudgement, name: str) -> str:
    if role in ("writer", "master"):
        side = state.semi_sync("source")
        text = f"source {side} ({state.semi_sync_clients})"
        others_in_sync = [one for one in lease.in_sync or () if one != name]
        if state.is_open and others_in_sync and (side != "on" or state.semi_sync_clients == 0):
            text = (
                f"{name} waits for no acknowledgement although {', '.join(others_in_sync)} should be in sync "
                f"(semi-sync {side}, {state.semi_sync_clients} replicas)"
            )
            judged.tell(Word.DEGRADED, name, RingTrouble.NO_ACKNOWLEDGEMENT, text)
        return text
    return f"replica {state.semi_sync('replica')}"


def render_ring_table(judged: RingJudgement) -> str:
    """The table for a terminal, the overall word with its reasons below."""
    titles = ["PET", "ROLE", "READ_ONLY", "GTID", "LAG", "CHANNEL", "SEMI-SYNC", "ERRANT"]
    rows: list[Sequence[Any]] = []
    for pet in judged.pets:
        lag = None if pet.lag_s is None else f"{pet.lag_s:.0f} s"
        if pet.behind:
            lag = f"{lag or '?'}, {pet.behind} behind"
        rows.append(
            [
                pet.name,
                pet.role,
                pet.read_only,
                _short_set(pet.gtid_executed) if pet.answers else "?",
                lag,
                f"{pet.channel} from {pet.source}" if pet.source else pet.channel,
                pet.semi_sync,
                "; ".join(text for text in (pet.errant, f"late: {pet.late}" if pet.late else "") if text),
            ]
        )
    lines = [render_table(titles, rows), f"replication: {judged.word.value}"]
    for lead, reasons in (("certain", [*judged.broken, *judged.degraded]), ("not known", judged.uncertain)):
        for reason in reasons:
            found = next((one for one in judged.troubles if one.evidence == reason), None)
            lines.append(f"  {lead}: {reason}")
            if found is not None:
                mends = found.way_out or WAYS_OUT.get(found.trouble, "")
                lines.append(f"    {found.trouble.value}" + (f": {mends}" if mends else ""))
    lines += [f"  note: {note}" for note in judged.notes]
    return "\n".join(lines)


def _short_set(text: str) -> str:
    """``3e11fa47:1-5``: the first part of each UUID tells pets apart."""
    parts = []
    for part in text.split(","):
        uuid, _colon, rest = part.partition(":")
        parts.append(f"{uuid[:8]}:{rest}" if rest else "")
    return ",".join(parts) or "empty"
