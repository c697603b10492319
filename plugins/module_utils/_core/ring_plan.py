# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was asked for and what is there to the statements that are missing, or to the reasons against them.

Never RESET, never over data, never a CHANGE that would drop relay logs which are not applied yet. What one pet lacks
is compared as a set, the replica's first reading against its source's later one.

Source of the settings: MySQL 8.4 Reference Manual, "CHANGE REPLICATION SOURCE TO": SOURCE_RETRY_COUNT 0 sets no limit;
"Asynchronous Connection Failover": the limit has to be above 0 there, since the next source is tried when it is
reached.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Refused
from .gtid import GtidSet
from .names import own_labels
from .ring import (
    ANNOTATION_FOLLOWERS,
    ANNOTATION_IN_SYNC,
    ANNOTATION_MODE,
    CHANNEL,
    SECRET_KEY,
    Channel,
    LeaseView,
    PetState,
    Ring,
    RingPet,
    State,
)
from .ring_doubt import ONE_LOOK, Key, Looks, Verdict, errant_of_replicas, lost_own, torn_masters
from .ring_trouble import RingTrouble

CONNECT_RETRY_S = 1
HEARTBEAT_S = 1.0
NEVER_GIVES_UP = 0
BEFORE_FAILOVER = 3
"""Attempts at one source before the other is tried."""
PLACEHOLDER = f"{{{SECRET_KEY}}}"
_SHOWN_GTIDS = 400
_WAIT_POINT = "rpl_semi_sync_source_wait_point"
# What no pet may run without. After another wait point others read what an unplanned change of the writer takes back.
_NEEDED: Mapping[str, str] = {
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "log_bin": "ON",
    "log_replica_updates": "ON",
    _WAIT_POINT: "AFTER_SYNC",
}
_MIB = 1048576


class Kind(enum.Enum):
    """What a step does. WAIT_APPLIED lets the applier finish what it has received; CLONE takes minutes."""

    SQL = "sql"
    WAIT_APPLIED = "wait"
    CLONE = "clone"
    LEASE_CREATE = "create"
    LEASE_CHANGE = "change"


@dataclass(frozen=True, slots=True)
class RingStep:
    """One thing to do. ``text`` is a statement with ``{replication-password}`` in place of the secret, or the GTID set
    to wait for; ``body`` and ``before`` belong to the Lease."""

    kind: Kind
    pet: str
    text: str
    why: str = ""
    body: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None

    def describe(self) -> str:
        """One line for people, without any secret."""
        why = f" ({self.why})" if self.why else ""
        if self.kind in (Kind.LEASE_CREATE, Kind.LEASE_CHANGE):
            return f"{self.kind.value} {self.text}{why}"
        if self.kind is Kind.WAIT_APPLIED:
            return f"{self.pet}: wait until received transactions are applied: {shorten(self.text)}{why}"
        return f"{self.pet}: {self.text.replace(PLACEHOLDER, '<' + SECRET_KEY + '>')}{why}"


def batches_of(steps: Sequence[RingStep]) -> list[list[list[RingStep]]]:
    """What may go on at the same time: batches in their order, each of one list for a pet, in the order of its steps.

    Pets do not wait for each other's statements. The Lease stands alone, before or after them; so does a pet that is
    seeded: a donor gives one CLONE at a time, and its channel is to be there.
    """
    groups = [(pet, list(group)) for pet, group in itertools.groupby(steps, key=lambda step: step.pet)]
    batches: list[list[list[RingStep]]] = []
    alone = True
    for pet, group in groups:
        was_alone, alone = alone, not pet or any(step.kind is Kind.CLONE for step in group)
        seen = {other[0].pet for other in batches[-1]} if batches else set()
        if alone or was_alone or pet in seen:
            batches.append([group])
        else:
            batches[-1].append(group)
    return batches


@dataclass(slots=True)
class RingPlan:
    """Steps in their order, or refusals and no steps.

    ``refused_for``: the trouble that each refusal is about.
    ``pending``: what has to happen first, for example a pet that has to answer. ``predicted``: the settings of each
    changed channel afterwards, for the diff. ``left``: by pet, what its agent is about to do, a step only when it
    does not. ``doubts``: what would be refused if it lasted and has to be looked at again; no steps until then.
    """

    steps: list[RingStep] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    refused_for: list[RingTrouble] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    predicted: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    left: dict[str, RingStep] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    looks: Looks = ONE_LOOK

    def refuse(self, subject: str, reason: str, way_out: str, trouble: RingTrouble = RingTrouble.REFUSED) -> None:
        """Note a reason against the plan."""
        self.refused_for.append(trouble)
        self.refusals.append(Refused(subject, reason, way_out=way_out))

    def raise_if_refused(self, set_name: str) -> None:
        """Refused: one as it is, several as one that says them all."""
        if len(self.refusals) == 1:
            raise self.refusals[0]
        if self.refusals:
            raise Refused(
                f"set {set_name}",
                "; ".join(one.render().rstrip(".") for one in self.refusals),
                way_out="repair each of them and run again; nothing was changed",
                details={
                    "problems": [
                        {"subject": one.subject, "reason": one.reason, "way_out": one.way_out} for one in self.refusals
                    ]
                },
            )


def shorten(gtids: object) -> str:
    """A GTID set for a message, cut when it is very long."""
    text = str(gtids)
    return text if len(text) <= _SHOWN_GTIDS else f"{text[:_SHOWN_GTIDS]}… ({len(text)} characters)"


def hash_password(password: str) -> str:
    """As SHA2(password, 256) of MySQL: how a stored password is compared without being read."""
    return hashlib.sha256(password.encode()).hexdigest()


def wanted_settings(ring: Ring, pet: RingPet, source: RingPet) -> dict[str, Any]:
    """The settings of a pet's channel by their names in CHANGE REPLICATION SOURCE TO, without the password."""
    replica = not ring.is_master(pet)
    return {
        "SOURCE_HOST": source.host,
        "SOURCE_PORT": source.port,
        "SOURCE_USER": ring.user,
        "SOURCE_AUTO_POSITION": 1,
        "SOURCE_SSL": 1,
        "SOURCE_SSL_CA": ring.ca_path,
        "SOURCE_SSL_VERIFY_SERVER_CERT": 1,
        "SOURCE_CONNECT_RETRY": CONNECT_RETRY_S,
        "SOURCE_RETRY_COUNT": BEFORE_FAILOVER if replica else NEVER_GIVES_UP,
        "SOURCE_HEARTBEAT_PERIOD": HEARTBEAT_S,
        "SOURCE_CONNECTION_AUTO_FAILOVER": int(replica),
    }


def channel_settings(channel: Channel) -> dict[str, Any]:
    """The same of a channel as it is."""
    return {
        "SOURCE_HOST": channel.host,
        "SOURCE_PORT": channel.port,
        "SOURCE_USER": channel.user,
        "SOURCE_AUTO_POSITION": int(channel.auto_position),
        "SOURCE_SSL": int(channel.ssl),
        "SOURCE_SSL_CA": channel.ssl_ca,
        "SOURCE_SSL_VERIFY_SERVER_CERT": int(channel.ssl_verify),
        "SOURCE_CONNECT_RETRY": channel.connect_retry_s,
        "SOURCE_RETRY_COUNT": channel.retry_count,
        "SOURCE_HEARTBEAT_PERIOD": channel.heartbeat_s,
        "SOURCE_CONNECTION_AUTO_FAILOVER": int(channel.auto_failover),
    }


def plan_ring(
    ring: Ring,
    states: Mapping[str, State],
    lease: LeaseView,
    password_hash: str = "",
    looks: Looks = ONE_LOOK,
) -> RingPlan:
    """What is missing. With ``password_hash`` (see ``hash_password``) a channel's stored password is compared too.

    ``looks`` holds what this look and those before it have shown; without it, one look is believed.
    """
    plan = RingPlan(looks=looks)
    up = {pet.name: state for pet in ring.pets if isinstance(state := states.get(pet.name), PetState)}
    _check_servers(ring, up, plan)
    _check_lease(ring, lease, plan)
    _check_masters(ring, up, looks, plan)
    _check_replicas(ring, up, looks, plan)
    emptied = _check_emptied(ring, up, lease, plan)
    if plan.refusals or plan.doubts:
        return plan
    _plan_lease_first(ring, lease, emptied, plan)
    for pet in ring.pets:
        if pet.name not in up:
            plan.pending.append(f"{pet.name} does not answer")
    for pet in ring.pets:
        if pet.name in up:
            _plan_pet(ring, pet, up, lease, password_hash, plan)
    _plan_lease(ring, up, lease, plan)
    if plan.refusals:
        plan.steps.clear()
        plan.predicted.clear()
    return plan


# --- reasons against ------------------------------------------------------------------------------------------------


def _check_servers(ring: Ring, up: Mapping[str, PetState], plan: RingPlan) -> None:
    for what, values in (
        ("server_uuid", {name: state.server_uuid for name, state in up.items()}),
        ("server_id", {name: str(state.server_id) for name, state in up.items()}),
    ):
        for value in sorted(set(values.values())):
            same = [name for name, one in values.items() if one == value]
            if len(same) > 1:
                plan.refuse(
                    f"pets {' and '.join(same)}",
                    f"have the same {what} {value}: they would push each other out of replication",
                    "one of them runs on a copy of the other's data folder or with another's settings: give it its own "
                    "volume back"
                    if what == "server_uuid"
                    else "delete the pod whose server_id is not its own, so that it starts with its option file",
                    RingTrouble.SAME_SERVER,
                )
    for pet in ring.pets:
        state = up.get(pet.name)
        if state is None:
            continue
        numbers = re.match(r"(\d+)\.(\d+)", state.version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < (8, 4):
            plan.refuse(f"pet {pet.name}", f"MySQL {state.version} is too old", "use an image of MySQL 8.4 or later")
        if state.server_id == 0:
            plan.refuse(
                f"pet {pet.name}",
                "server_id is 0, with which no replica is served",
                "delete the pod, so that it starts with its option file",
            )
        for name, right in _NEEDED.items():
            value = state.variables.get(name, right)
            if value.upper() not in ((right, "1") if right == "ON" else (right,)):
                plan.refuse(
                    f"pet {pet.name}",
                    f"{name} is {value}, the ring needs {right}",
                    "its option file has the right value, so somebody changed it at run time or started it without: "
                    + (f"SET GLOBAL {name} = '{right}' there, or " if name == _WAIT_POINT else "")
                    + "delete the pod",
                )
        if state.other_channels:
            names = ", ".join(repr(name) for name in state.other_channels)
            plan.refuse(
                f"pet {pet.name}",
                f"replicates by channel {names} as well, which is not the collection's",
                "remove it (STOP REPLICA and RESET REPLICA ALL for that channel) when it is not needed",
            )


def _check_lease(ring: Ring, lease: LeaseView, plan: RingPlan) -> None:
    if lease.manifest is not None and not lease.is_own(ring.set_name):
        plan.refuse(
            f"Lease {ring.namespace}/{ring.set_name}",
            "was not made by this collection for this set",
            "give the set another name, or delete the Lease when nobody needs it",
        )


def _check_masters(ring: Ring, up: Mapping[str, PetState], looks: Looks, plan: RingPlan) -> None:
    for name, gtids in lost_own(ring, up).items():
        key: Key = (RingTrouble.LOST_OWN, (name,))
        (lasting,) = looks.lasting(key, (gtids,))
        if _is_certain(looks, key, plan, f"{name} seems to lack transactions of its own ({shorten(lasting)})"):
            plan.refuse(
                f"pet {name}",
                f"lacks transactions of its own that another pet has ({shorten(lasting)}{_for_how_long(looks, key)}): "
                "its data is older than what it once wrote, and it would use these numbers again",
                "keep its volume aside and give it an empty one: it is then seeded anew",
                RingTrouble.LOST_OWN,
            )
    for pets, sets in torn_masters(ring, up).items():
        key = (RingTrouble.ERRANT, pets)
        one, two = pets
        only_one, only_two = looks.lasting(key, sets)
        if _is_certain(looks, key, plan, f"{one} and {two} seem to have data that the other does not have"):
            plan.refuse(
                f"pets {one} and {two}",
                f"have data that the other does not have: only {one} has {shorten(only_one)}; "
                f"only {two} has {shorten(only_two)}{_for_how_long(looks, key)}",
                "decide whose data counts, keep the other's volume aside and give that pet an empty one",
                RingTrouble.ERRANT,
            )


def _is_certain(looks: Looks, key: Key, plan: RingPlan, doubt: str) -> bool:
    """May it be refused for? If it has to be looked at again, the plan says so; what passes is no hindrance."""
    verdict = looks.verdict(key)
    if verdict is Verdict.DOUBTED:
        plan.doubts.append(doubt)
    return verdict is Verdict.CERTAIN


def _for_how_long(looks: Looks, key: Key) -> str:
    seconds = looks.seconds(key)
    return f", seen for {seconds:.0f} s" if seconds >= 1 else ""


def _check_emptied(ring: Ring, up: Mapping[str, PetState], lease: LeaseView, plan: RingPlan) -> list[str]:
    """Pets that the Lease takes for holders of every acknowledged write and that are new and empty while others hold
    data: their volume was replaced. They must never become the writer."""
    in_sync = lease.in_sync or ()
    emptied = [
        pet.name
        for pet in ring.master_pets
        if pet.name in in_sync
        and pet.name in up
        and up[pet.name].channel is None
        and not up[pet.name].later
        and any(state.executed for state in up.values())
    ]
    for name in emptied:
        if lease.holder == name or up[name].is_open:
            what = "holds the Lease" if lease.holder == name else "is open for writes"
        elif set(in_sync) <= set(emptied):
            what = "is named by the Lease as the one that holds every acknowledged write"
        else:
            continue
        plan.refuse(
            f"pet {name}",
            f"{what} and is empty, while other pets hold data: its volume was lost, or another one is mounted",
            f"bring its volume back; to go on with what the others hold, delete pod {name} so that it gives the Lease "
            f"up, and name the pet that holds most in the annotation {ANNOTATION_IN_SYNC} of the Lease",
        )
    return emptied


def _check_replicas(ring: Ring, up: Mapping[str, PetState], looks: Looks, plan: RingPlan) -> None:
    extra, all_up = errant_of_replicas(ring, up)
    for name, gtids in extra.items():
        if not all_up:
            plan.pending.append(f"{name} holds transactions that a pet which does not answer may have")
            continue
        key = (RingTrouble.ERRANT, (name,))
        (lasting,) = looks.lasting(key, (gtids,))
        if _is_certain(looks, key, plan, f"{name} seems to hold transactions that no master has ({shorten(lasting)})"):
            plan.refuse(
                f"pet {name}",
                f"holds transactions that no master has: {shorten(lasting)}{_for_how_long(looks, key)}",
                "keep its volume aside and give it an empty one: a read-only replica is seeded anew",
                RingTrouble.ERRANT,
            )


# --- pets ------------------------------------------------------------------------------------------------------------


def _plan_pet(
    ring: Ring,
    pet: RingPet,
    up: Mapping[str, PetState],
    lease: LeaseView,
    password_hash: str,
    plan: RingPlan,
) -> None:
    state = up[pet.name]
    if state.is_copied_to:
        plan.pending.append(f"{pet.name} is being seeded by CLONE: {state.clone_progress.describe()}")
        return
    if ring.is_master(pet):
        source = ring.source_of(pet)
        if source is None:
            return
        sources: tuple[RingPet, ...] = (source,)
    else:
        sources = ring.master_pets
        current = state.channel
        alive = [one for one in sources if one.name in up]
        preferred = [one for one in alive if one.name == lease.holder] or alive or list(sources)
        # The failover of MySQL itself moves between the masters: where it is now is right.
        source = next(
            (one for one in sources if current and (current.host, current.port) == (one.host, one.port)), preferred[0]
        )
    if all(one.name not in up for one in sources):
        if _difference(ring, pet, source, state.channel, password_hash):
            plan.pending.append(f"{pet.name} can be connected only when {source.name} has been asked for its data")
        return
    givers = [one for one in sources if one.name in up]
    if _plan_seed(ring, pet, state, givers, up, lease, plan):
        return
    # Before the ring is set up the agents keep still.
    has_agent = ring.agents and lease.in_sync is not None
    _plan_channel(ring, pet, source, state, password_hash, plan, has_agent=has_agent)
    if lease.holder == pet.name and not state.is_open:
        # Its agent has stopped the receiver to open the pet, once all that came is applied, and starts it afterwards.
        plan.left.pop(pet.name, None)
    if not ring.is_master(pet):
        _plan_failover(ring, pet, state, sources, plan)


def _plan_seed(
    ring: Ring,
    pet: RingPet,
    state: PetState,
    givers: list[RingPet],
    up: Mapping[str, PetState],
    lease: LeaseView,
    plan: RingPlan,
) -> bool:
    """Can it follow by its own GTID set? If not and it is empty: CLONE. True when a channel has to wait."""
    purged = {one.name: up[one.name].purged - state.later for one in givers}
    can_serve = [one for one in givers if not purged[one.name]]
    if state.later:
        if not can_serve:
            worst = givers[0]
            plan.refuse(
                f"pet {pet.name}",
                f"lacks transactions that {worst.name} has already purged from its binary logs: "
                f"{shorten(purged[worst.name])}",
                f"keep the volume of {pet.name} aside and give it an empty one: it is then seeded by CLONE",
                RingTrouble.PURGED_LOG,
            )
            return True
        return False
    # A donor that serves no clients is kinder to them.
    donor = sorted(givers, key=lambda one: (len(up[one.name].later) == 0, one.name == lease.holder, one.ordinal))[0]
    large = up[donor.name].data_bytes > ring.clone_over_mib * _MIB and bool(up[donor.name].later)
    if can_serve and not large:
        return False
    if state.is_open or lease.holder == pet.name:
        plan.refuse(
            f"pet {pet.name}",
            f"is empty, {'is open for writes' if state.is_open else 'holds the Lease'}, and {donor.name} holds data: a "
            "writer is never seeded",
            "find out why it is the writer; it may have lost its volume",
        )
        return True
    if lease.in_sync is None and ring.is_master(pet):
        # Nobody has said yet whose data counts; the Lease comes first and names the pet that has all.
        plan.pending.append(f"{pet.name} is empty and is seeded once the Lease names whose data counts")
        return True
    why = f"{pet.name} is empty; {donor.name} has {up[donor.name].data_bytes // _MIB} MiB"
    if not can_serve:
        why += " and has purged its first binary logs"
    address = f"{donor.host}:{donor.port}"
    plan.steps += [
        RingStep(Kind.SQL, pet.name, f"SET GLOBAL clone_ssl_ca = {quote(ring.ca_path)}"),
        RingStep(Kind.SQL, pet.name, f"SET GLOBAL clone_valid_donor_list = {quote(address)}"),
        # Else error 1290 where there is a database to drop, such as that of the application. read_only stays ON, so
        # that no client writes; the restart that ends a CLONE brings both back.
        RingStep(Kind.SQL, pet.name, "SET GLOBAL super_read_only = OFF"),
        RingStep(
            Kind.CLONE,
            pet.name,
            f"CLONE INSTANCE FROM {quote(ring.user)}@{quote(donor.host)}:{donor.port} IDENTIFIED BY {PLACEHOLDER} "
            "REQUIRE SSL",
            why,
        ),
    ]
    return True


def _difference(
    ring: Ring, pet: RingPet, source: RingPet, channel: Channel | None, password_hash: str
) -> dict[str, Any]:
    wanted = wanted_settings(ring, pet, source)
    if channel is None:
        return {**wanted, "SOURCE_PASSWORD": True}
    current = channel_settings(channel)
    different = {name: value for name, value in wanted.items() if current[name] != value}
    if password_hash and channel.password_hash and channel.password_hash != password_hash:
        different["SOURCE_PASSWORD"] = True
    if {"SOURCE_HOST", "SOURCE_PORT", "SOURCE_USER"} & set(different):
        different["SOURCE_PASSWORD"] = True
    return different


def _plan_channel(
    ring: Ring,
    pet: RingPet,
    source: RingPet,
    state: PetState,
    password_hash: str,
    plan: RingPlan,
    *,
    has_agent: bool,
) -> None:
    channel = state.channel
    different = _difference(ring, pet, source, channel, password_hash)
    start = RingStep(Kind.SQL, pet.name, f"START REPLICA FOR CHANNEL '{CHANNEL}'")
    if not different:
        if channel is None or (channel.io != "No" and channel.sql != "No"):
            return
        if not channel.sql_error and not (channel.io == "No" and channel.io_error):
            if has_agent:
                plan.left[pet.name] = start
            else:
                plan.steps.append(start)
        return
    if channel is not None:
        waiting = channel.received - state.later
        if waiting and channel.sql_error:
            plan.refuse(
                f"pet {pet.name}",
                f"its channel has to be changed ({', '.join(sorted(different))}), but its applier stopped with "
                f"{channel.sql_error} before it applied {shorten(waiting)}, which the change would drop",
                "repair what stopped the applier first",
            )
            return
        if channel.io != "No":
            plan.steps.append(RingStep(Kind.SQL, pet.name, f"STOP REPLICA IO_THREAD FOR CHANNEL '{CHANNEL}'"))
        if waiting:
            if channel.sql == "No":
                plan.steps.append(RingStep(Kind.SQL, pet.name, f"START REPLICA SQL_THREAD FOR CHANNEL '{CHANNEL}'"))
            plan.steps.append(
                RingStep(Kind.WAIT_APPLIED, pet.name, str(channel.received), "the change would drop what is not")
            )
        if channel.io != "No" or channel.sql != "No" or waiting:
            plan.steps.append(RingStep(Kind.SQL, pet.name, f"STOP REPLICA FOR CHANNEL '{CHANNEL}'"))
    plan.predicted[pet.name] = {
        **(channel_settings(channel) if channel else {}),
        **{name: value for name, value in different.items() if name != "SOURCE_PASSWORD"},
    }
    plan.steps.append(RingStep(Kind.SQL, pet.name, change_statement(different)))
    plan.steps.append(start)


def change_statement(settings: Mapping[str, Any]) -> str:
    """CHANGE REPLICATION SOURCE TO with only these settings; the password is a placeholder."""
    words = [
        f"{name} = {PLACEHOLDER if name == 'SOURCE_PASSWORD' else quote(value) if isinstance(value, str) else value}"
        for name, value in settings.items()
    ]
    return f"CHANGE REPLICATION SOURCE TO {', '.join(words)} FOR CHANNEL '{CHANNEL}'"


def _plan_failover(ring: Ring, pet: RingPet, state: PetState, sources: tuple[RingPet, ...], plan: RingPlan) -> None:
    wanted = {(one.host, one.port) for one in sources}
    for host, port in sorted(wanted - state.failover_sources):
        plan.steps.append(
            RingStep(
                Kind.SQL,
                pet.name,
                f"SELECT asynchronous_connection_failover_add_source('{CHANNEL}', {quote(host)}, {port}, '', 50)",
            )
        )
    for host, port in sorted(state.failover_sources - wanted):
        plan.steps.append(
            RingStep(
                Kind.SQL,
                pet.name,
                f"SELECT asynchronous_connection_failover_delete_source('{CHANNEL}', {quote(host)}, {port}, '')",
            )
        )


def quote(text: str) -> str:
    """An SQL string that means the same in every sql_mode. ValueError: it has a backslash or a control character."""
    if "\\" in text or any(ord(char) < 32 for char in text):
        raise ValueError(f"not fit for an SQL string: {text!r}")
    return "'" + text.replace("'", "''") + "'"


# --- the Lease -------------------------------------------------------------------------------------------------------


def best_pets(ring: Ring, up: Mapping[str, PetState]) -> tuple[str, ...]:
    """The masters that hold everything; only the first one while there is nothing. Empty: nobody holds all."""
    union = GtidSet()
    for state in up.values():
        union = union | state.executed
    names = tuple(pet.name for pet in ring.master_pets if pet.name in up and union <= up[pet.name].later)
    return names if union else names[:1]


def _plan_lease_first(ring: Ring, lease: LeaseView, emptied: Sequence[str], plan: RingPlan) -> None:
    """What has to stand in the record before anything is done to a pet."""
    annotations, why = {}, []
    if emptied:
        annotations[ANNOTATION_IN_SYNC] = ",".join(name for name in lease.in_sync or () if name not in emptied)
        why.append(f"not in sync any more: {', '.join(emptied)}, empty")
    followers = _followers(ring)
    if ring.agents and lease.in_sync is not None and followers != lease.followers:
        annotations[ANNOTATION_FOLLOWERS] = followers
        why.append(f"followers: {followers or 'none'}")
    if annotations:
        patch = {"metadata": {"annotations": annotations}}
        name = f"Lease {ring.namespace}/{ring.set_name}"
        plan.steps.append(_lease_change(name, lease, patch, "; ".join(why)))


def _followers(ring: Ring) -> str:
    return ",".join(pet.name for pet in ring.pets if not ring.is_master(pet))


def _plan_lease(ring: Ring, up: Mapping[str, PetState], lease: LeaseView, plan: RingPlan) -> None:
    name = f"Lease {ring.namespace}/{ring.set_name}"
    if lease.unknown:
        plan.pending.append(f"{name} could not be read: {lease.unknown}")
        return
    if lease.in_sync is not None:
        if lease.mode != ring.mode.value:
            patch = {"metadata": {"annotations": {ANNOTATION_MODE: ring.mode.value}}}
            plan.steps.append(_lease_change(name, lease, patch, f"mode {lease.mode or '(none)'} -> {ring.mode.value}"))
        return
    missing = [pet.name for pet in ring.pets if pet.name not in up]
    if missing:
        plan.pending.append(f"whose data counts is judged when all pets answer; {', '.join(missing)} do not")
        return
    best = best_pets(ring, up)
    if not best:
        plan.pending.append("no master holds all transactions yet")
        return
    annotations = {ANNOTATION_IN_SYNC: ",".join(best), ANNOTATION_MODE: ring.mode.value}
    if ring.agents:
        annotations[ANNOTATION_FOLLOWERS] = _followers(ring)
    why = f"in sync: {', '.join(best)}"
    if lease.manifest is not None:
        plan.steps.append(_lease_change(name, lease, {"metadata": {"annotations": annotations}}, why))
        return
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": ring.set_name,
            "namespace": ring.namespace,
            "labels": own_labels(ring.namespace, ring.set_name),
            "annotations": annotations,
        },
        "spec": {"leaseDurationSeconds": ring.lease_duration_s},
    }
    plan.steps.append(RingStep(Kind.LEASE_CREATE, "", name, why, body=body))


def _lease_change(name: str, lease: LeaseView, patch: dict[str, Any], why: str) -> RingStep:
    # With its version when it names who is in-sync: an agent that writes at the same moment is not overwritten.
    version = ((lease.manifest or {}).get("metadata") or {}).get("resourceVersion")
    if version and ANNOTATION_IN_SYNC in patch["metadata"]["annotations"]:
        patch = {"metadata": {**patch["metadata"], "resourceVersion": version}}
    return RingStep(Kind.LEASE_CHANGE, "", name, why, body=patch, before=lease.manifest)
