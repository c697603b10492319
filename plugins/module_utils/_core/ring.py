# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring: what was asked for, what each pet says of itself, and what the Lease says. Pure; ``_io.mysql`` asks."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

from .gtid import GtidSet
from .names import LABEL_MANAGED_BY, LABEL_SET, PREFIX
from .ring_copy import CloneProgress, parse_clone_progress

CHANNEL = "ring"
ANNOTATION_IN_SYNC = f"{PREFIX}/in-sync"
# The agents cut nothing off a killed writer's log while further pets may have received it, or while nobody says so.
ANNOTATION_FOLLOWERS = f"{PREFIX}/followers"
ANNOTATION_MODE = f"{PREFIX}/mode"
REPLICATION_USER = "petset_repl"
SECRET_KEY = "replication-password"  # noqa: S105 - the name of a key
MAX_PASSWORD_BYTES = 32
"""MySQL takes no longer password for a channel (error 3056); measured in bytes of UTF-8."""

VARIABLES = (
    "server_uuid",
    "server_id",
    "version",
    "read_only",
    "super_read_only",
    "offline_mode",
    "gtid_mode",
    "enforce_gtid_consistency",
    "log_bin",
    "log_replica_updates",
    "gtid_executed",
    "gtid_purged",
    "auto_increment_increment",
    "auto_increment_offset",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "replica_net_timeout",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_replica_enabled",
    "rpl_semi_sync_source_wait_point",
    "rpl_semi_sync_source_timeout",
)
STATUSES = (
    "Rpl_semi_sync_source_status",
    "Rpl_semi_sync_source_clients",
    "Rpl_semi_sync_replica_status",
)


class Mode(enum.Enum):
    """Who is written to: one master at a time, or all of them."""

    SINGLE_WRITER = "single_writer"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True)
class RingPet:
    """A pet as the others reach it."""

    name: str
    ordinal: int
    host: str
    port: int = 3306


@dataclass(frozen=True, slots=True)
class Ring:
    """What was asked for.

    ``ca_path``         the authority's certificate in the pets' own file system
    ``clone_over_mib``  an empty pet is seeded by CLONE when the donor holds more than this
    ``agents``          an agent beside each mysqld starts a channel that is stopped, and stops it itself while it opens
                        the pet
    """

    set_name: str
    namespace: str
    pets: tuple[RingPet, ...]
    masters: int = 2
    mode: Mode = Mode.SINGLE_WRITER
    ca_path: str = "/petset/tls/ca.crt"
    user: str = REPLICATION_USER
    clone_over_mib: int = 1024
    lease_duration_s: int = 3
    lag_limit_s: float = 10.0
    agents: bool = False

    def is_master(self, pet: RingPet) -> bool:
        """Pets from ordinal 0 on, as many as there are masters."""
        return pet.ordinal < self.masters

    @property
    def master_pets(self) -> tuple[RingPet, ...]:
        """The pets that may be written to."""
        return tuple(pet for pet in self.pets if self.is_master(pet))

    def source_of(self, pet: RingPet) -> RingPet | None:
        """Whom a master replicates from: the master before it in the circle; None when it is the only one."""
        masters = self.master_pets
        if len(masters) < 2 or pet not in masters:
            return None
        return masters[masters.index(pet) - 1]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of a replication thread, number 0 for none."""

    number: int = 0
    text: str = ""

    def __bool__(self) -> bool:
        return self.number != 0

    def __str__(self) -> str:
        return f"error {self.number}: {' '.join(self.text.split())}" if self else "no error"


@dataclass(frozen=True, slots=True)
class Channel:
    """The channel ``ring`` of a pet. ``io`` and ``sql`` are MySQL's words: Yes, No, Connecting.

    ``heartbeat_s``, ``connect_retry_s`` and ``lag_s`` are seconds; ``retry_count`` 0 never gives up.
    ``password_hash`` is SHA-256 of the stored password, in hexadecimal; empty when it was not readable.
    """

    host: str
    port: int
    user: str
    ssl: bool
    ssl_ca: str
    ssl_verify: bool
    auto_position: bool
    connect_retry_s: int
    retry_count: int
    heartbeat_s: float
    auto_failover: bool
    io: str
    sql: str
    io_error: Fault
    sql_error: Fault
    received: GtidSet
    lag_s: float | None
    source_uuid: str = ""
    password_hash: str = ""


@dataclass(frozen=True, slots=True)
class PetState:
    """What a pet said. ``executed`` was read before any pet's ``later``, so that a replica's first set can be held
    against its source's later one: what flows in between never looks like an errant transaction.

    ``beats``: the pets that have a row in the agents' table, which each writer writes; none where the table is not.
    """

    server_uuid: str
    server_id: int
    version: str
    executed: GtidSet
    later: GtidSet
    purged: GtidSet
    read_only: bool
    super_read_only: bool
    variables: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, str] = field(default_factory=dict)
    channel: Channel | None = None
    other_channels: tuple[str, ...] = ()
    failover_sources: frozenset[tuple[str, int]] = frozenset()
    clone_state: str = ""
    data_bytes: int = 0
    beats: frozenset[str] = frozenset()
    clone_progress: CloneProgress = field(default_factory=CloneProgress)

    @property
    def is_copied_to(self) -> bool:
        """Is a CLONE under way, whoever began it?"""
        return self.clone_state == "In Progress"

    @property
    def is_open(self) -> bool:
        """Takes writes of ordinary and of privileged clients."""
        return not self.read_only and not self.super_read_only

    def semi_sync(self, side: str) -> str:
        """on, off (configured on and not working: ``waiting``) or ``none`` without the plugin."""
        enabled = self.variables.get(f"rpl_semi_sync_{side}_enabled")
        if enabled is None:
            return "none"
        if not _is_on(enabled):
            return "off"
        return "on" if _is_on(self.status.get(f"rpl_semi_sync_{side}_status", "OFF")) else "waiting"

    @property
    def semi_sync_clients(self) -> int:
        """Replicas that acknowledge."""
        return _number(self.status.get("rpl_semi_sync_source_clients"))


@dataclass(frozen=True, slots=True)
class Down:
    """A pet that could not be asked. ``kind`` is a stable word, ``reason`` a sentence."""

    kind: str
    reason: str
    way_out: str = ""


State = Union[PetState, Down]


def redact_state(state: State, hide: Callable[[str], str]) -> State:
    """The state without secrets in what MySQL said: an error of the applier quotes the statement that failed."""
    if isinstance(state, Down):
        return replace(state, reason=hide(state.reason))
    channel = state.channel
    if channel is None:
        return state
    io_error, sql_error = (replace(one, text=hide(one.text)) for one in (channel.io_error, channel.sql_error))
    return replace(state, channel=replace(channel, io_error=io_error, sql_error=sql_error))


@dataclass(frozen=True, slots=True)
class LeaseView:
    """The Lease of the set. ``in_sync`` None: no ring was set up yet. ``unknown``: why it could not be read."""

    manifest: Mapping[str, Any] | None = None
    unknown: str = ""

    @property
    def holder(self) -> str | None:
        """The pet that holds it, if any."""
        return ((self.manifest or {}).get("spec") or {}).get("holderIdentity") or None

    @property
    def in_sync(self) -> tuple[str, ...] | None:
        """The pets that hold every acknowledged write."""
        text = self._annotations.get(ANNOTATION_IN_SYNC)
        return None if text is None else tuple(name for name in text.replace(" ", "").split(",") if name)

    @property
    def mode(self) -> str | None:
        """single_writer or spread, as recorded."""
        return self._annotations.get(ANNOTATION_MODE)

    @property
    def followers(self) -> str | None:
        """The pets that follow and are no masters, as recorded: names with commas. None: nothing is recorded."""
        return self._annotations.get(ANNOTATION_FOLLOWERS)

    def is_own(self, set_name: str) -> bool:
        """Was it made by this collection for this set?"""
        labels = ((self.manifest or {}).get("metadata") or {}).get("labels") or {}
        return labels.get(LABEL_MANAGED_BY) == PREFIX and labels.get(LABEL_SET) == set_name

    @property
    def _annotations(self) -> Mapping[str, str]:
        return ((self.manifest or {}).get("metadata") or {}).get("annotations") or {}


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """The rows of a pet's answers, by column name in lower case; see ``QUERIES`` in ``_io.mysql``."""

    variables: Sequence[Row]
    status: Sequence[Row]
    configuration: Sequence[Row]
    replica_status: Sequence[Row]
    failover: Sequence[Row]
    clone: Sequence[Row]
    size: Sequence[Row]
    secrets: Sequence[Row]
    workers: Sequence[Row]
    later: str
    clone_progress: Sequence[Row] = ()
    beats: Sequence[Row] = ()


def parse_answers(answers: Answers) -> PetState:
    """A pet's state from its rows. BadGtidSet, KeyError, ValueError: it is no MySQL 8.4 or later that answered."""
    variables = _pairs(answers.variables)
    channels = {str(row["channel_name"]): row for row in answers.configuration}
    running = {str(row["channel_name"]): row for row in answers.replica_status}
    hashes = {str(row["channel_name"]): str(row["password_hash"] or "") for row in answers.secrets}
    channel = None
    if CHANNEL in channels:
        channel = _parse_channel(channels[CHANNEL], running.get(CHANNEL, {}), hashes.get(CHANNEL, ""), answers.workers)
    return PetState(
        server_uuid=variables["server_uuid"].lower(),
        server_id=int(variables["server_id"]),
        version=variables["version"],
        executed=GtidSet.parse(variables.get("gtid_executed", "")),
        later=GtidSet.parse(answers.later),
        purged=GtidSet.parse(variables.get("gtid_purged", "")),
        read_only=_is_on(variables.get("read_only", "OFF")),
        super_read_only=_is_on(variables.get("super_read_only", "OFF")),
        variables=variables,
        status=_pairs(answers.status),
        channel=channel,
        # Two plugins of MySQL have channels of their own; an empty name is the default channel.
        other_channels=tuple(
            sorted(name for name in channels if name != CHANNEL and not name.startswith("group_replication"))
        ),
        failover_sources=frozenset(
            (str(row["host"]), int(row["port"])) for row in answers.failover if row["channel_name"] == CHANNEL
        ),
        clone_state=str(answers.clone[0]["state"]) if answers.clone else "",
        data_bytes=_number(answers.size[0]["bytes"]) if answers.size else 0,
        clone_progress=parse_clone_progress(answers.clone_progress),
        beats=frozenset(str(row["pet"]) for row in answers.beats),
    )


def _parse_channel(row: Row, status: Row, password_hash: str, workers: Sequence[Row]) -> Channel:
    behind = status.get("seconds_behind_source")
    sql_error = Fault(_number(status.get("last_sql_errno")), str(status.get("last_sql_error") or ""))
    # The applier as a whole only points to its workers, which know table and transaction.
    failed = [Fault(_number(one["number"]), str(one["message"])) for one in workers if one["channel_name"] == CHANNEL]
    if sql_error and any(failed):
        sql_error = next((one for one in failed if one.number == sql_error.number), sql_error)
    return Channel(
        host=str(row["host"]),
        port=int(row["port"]),
        user=str(row["user"]),
        ssl=_is_on(row["ssl_allowed"]),
        ssl_ca=str(row["ssl_ca_file"] or ""),
        ssl_verify=_is_on(row["ssl_verify_server_certificate"]),
        auto_position=_is_on(row["auto_position"]),
        connect_retry_s=int(row["connection_retry_interval"]),
        retry_count=int(row["connection_retry_count"]),
        heartbeat_s=float(row["heartbeat_interval"]),
        auto_failover=_is_on(row["source_connection_auto_failover"]),
        io=str(status.get("replica_io_running") or "No"),
        sql=str(status.get("replica_sql_running") or "No"),
        io_error=Fault(_number(status.get("last_io_errno")), str(status.get("last_io_error") or "")),
        sql_error=sql_error,
        received=GtidSet.parse(str(status.get("retrieved_gtid_set") or "")),
        lag_s=None if behind is None else float(behind),
        source_uuid=str(status.get("source_uuid") or "").lower(),
        password_hash=password_hash,
    )


def _pairs(rows: Sequence[Row]) -> dict[str, str]:
    return {str(row["variable_name"]).lower(): str(row["variable_value"]) for row in rows}


def _is_on(value: object) -> bool:
    return str(value).upper() in ("1", "ON", "YES", "TRUE")


def _number(value: object) -> int:
    text = str(value if value is not None else "")
    return int(float(text)) if text.replace(".", "", 1).isdigit() else 0
