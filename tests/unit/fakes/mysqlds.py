# SPDX-License-Identifier: GPL-3.0-or-later
"""Pets in memory that answer as mysqlds do, as far as the ring asks; replication takes no time, unless it is slow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.gtid import GtidSet
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, RingPet
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import PLACEHOLDER, hash_password
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import ChannelRuns, PetDown, SqlError

Rows = list[dict[str, Any]]

_COLUMNS = {
    "SOURCE_HOST": "host",
    "SOURCE_PORT": "port",
    "SOURCE_USER": "user",
    "SOURCE_AUTO_POSITION": "auto_position",
    "SOURCE_SSL": "ssl_allowed",
    "SOURCE_SSL_CA": "ssl_ca_file",
    "SOURCE_SSL_VERIFY_SERVER_CERT": "ssl_verify_server_certificate",
    "SOURCE_CONNECT_RETRY": "connection_retry_interval",
    "SOURCE_RETRY_COUNT": "connection_retry_count",
    "SOURCE_HEARTBEAT_PERIOD": "heartbeat_interval",
    "SOURCE_CONNECTION_AUTO_FAILOVER": "source_connection_auto_failover",
}


class FakeMysqld:
    def __init__(self, ordinal: int, masters: int = 2) -> None:
        self.uuid = f"{ordinal}aaaaaaa-0000-0000-0000-00000000000{ordinal}"
        self.executed = GtidSet()
        self.purged = GtidSet()
        self.is_up = True
        self.is_open = False
        self.config: dict[str, Any] | None = None
        self.runs = False
        self.password = ""
        self.failover: set[tuple[str, int]] = set()
        self.size = 0
        self.copied_mib: int | None = None
        self.is_slow = False
        self.is_super_read_only = True
        self.ran: list[str] = []
        self.beats: set[str] | None = None
        self.sql_error: tuple[int, str] = (0, "")
        self.variables = {
            "server_uuid": self.uuid,
            "server_id": str(1000 + ordinal),
            "version": "8.4.5",
            "auto_increment_increment": str(masters),
            "auto_increment_offset": str(ordinal % masters + 1),
            "rpl_semi_sync_source_enabled": "ON",
            "rpl_semi_sync_replica_enabled": "ON",
        }


class FakeMysqlds:
    """All pets; ``before`` is told each statement and may raise, as a kill would."""

    def __init__(self, count: int, masters: int = 2) -> None:
        self.pets = {f"mysql-{ordinal}": FakeMysqld(ordinal, masters) for ordinal in range(count)}
        self.before: Callable[[str, str], None] = lambda _pet, _text: None

    def connector(self, *_args: Any) -> Callable[[RingPet, float | None], FakeSqlSession]:
        def connect(pet: RingPet, _limit_s: float | None) -> FakeSqlSession:
            session = FakeSqlSession(self, pet.name)
            session.check()
            return session

        return connect

    def write(self, name: str, number: int) -> None:
        pet = self.pets[name]
        pet.executed = pet.executed | GtidSet.parse(f"{pet.uuid}:1-{number}")
        self.replicate()

    def replicate(self) -> None:
        for _round in self.pets:
            for pet in self.pets.values():
                if pet.is_up and pet.runs and not pet.is_slow and pet.config is not None:
                    source = self.pets[str(pet.config["host"]).partition(".")[0]]
                    if source.is_up:
                        pet.executed = pet.executed | source.executed


class FakeSqlSession:
    def __init__(self, world: FakeMysqlds, name: str) -> None:
        self.world, self.name = world, name

    @property
    def pet(self) -> FakeMysqld:
        return self.world.pets[self.name]

    def check(self) -> None:
        if not self.pet.is_up:
            raise PetDown(Down("lost", "the connection was lost"))

    def close(self) -> None:
        pass

    def query(self, text: str) -> list[Mapping[str, Any]]:
        self.check()
        pet = self.pet
        if "WAIT_FOR" in text:
            return [{"late": 0}]
        if "petset.heartbeat" in text:
            if pet.beats is None:
                raise SqlError("pet", "no such database", details={"mysql_error": 1049})
            return [{"pet": name} for name in pet.beats]
        answers: dict[str, Rows] = {
            "@@GLOBAL.gtid_executed": [{"gtid_executed": str(pet.executed), "gtid_purged": str(pet.purged)}],
            "global_variables": _rows(
                {
                    **pet.variables,
                    "read_only": "OFF" if pet.is_open else "ON",
                    "super_read_only": "OFF" if pet.is_open or not pet.is_super_read_only else "ON",
                }
            ),
            "global_status": _rows(
                {
                    "rpl_semi_sync_source_status": "ON",
                    "rpl_semi_sync_source_clients": "1",
                    "rpl_semi_sync_replica_status": "ON",
                }
            ),
            "connection_configuration": [{"channel_name": "ring", **pet.config}] if pet.config else [],
            "SHOW REPLICA STATUS": [
                {
                    "channel_name": "ring",
                    "replica_io_running": "Yes" if pet.runs else "No",
                    "replica_sql_running": "Yes" if pet.runs and not pet.sql_error[0] else "No",
                    "last_sql_errno": pet.sql_error[0],
                    "last_sql_error": pet.sql_error[1],
                    "seconds_behind_source": 500 if pet.is_slow else 0,
                }
            ]
            if pet.config
            else [],
            "connection_failover": [
                {"channel_name": "ring", "host": host, "port": port} for host, port in pet.failover
            ],
            "clone_status": [] if pet.copied_mib is None else [{"state": "In Progress"}],
            "INNODB_TABLESPACES": [{"bytes": pet.size}],
            "slave_master_info": [{"channel_name": "ring", "password_hash": hash_password(pet.password)}],
            "status_by_worker": [],
            "clone_progress": [
                {"stage": "FILE COPY", "state": "In Progress", "estimate": 480 << 20, "data": pet.copied_mib << 20}
            ]
            if pet.copied_mib is not None
            else [],
        }
        return next(list(rows) for words, rows in answers.items() if words in text)

    def run(self, text: str, secret: str = "") -> None:
        self.check()
        self.world.before(self.name, text)
        pet = self.pet
        pet.ran.append(text)
        if text.startswith("CHANGE"):
            if pet.runs:
                raise ChannelRuns("pet", "error 3081: running replication threads", details={"mysql_error": 3081})
            pet.config = pet.config or {}
            for name, value in re.findall(r"(SOURCE_\w+) = ('[^']*'|[^\s,]+)", text):
                if name == "SOURCE_PASSWORD":
                    assert value == PLACEHOLDER
                    pet.password = secret
                else:
                    pet.config[_COLUMNS[name]] = value.strip("'")
        elif text.startswith("START REPLICA"):
            pet.runs = True
        elif text.startswith("STOP REPLICA"):
            pet.runs = False
        elif found := re.match(r"SELECT asynchronous_connection_failover_add_source\('ring', '([^']+)', (\d+)", text):
            pet.failover.add((found[1], int(found[2])))
        elif found := re.match(r"CLONE INSTANCE FROM 'petset_repl'@'(mysql-\d)", text):
            if pet.is_super_read_only:
                # It has the application's database, which the CLONE would drop.
                raise SqlError("pet", "error 1290", details={"mysql_error": 1290})
            pet.is_super_read_only = True
            donor = self.world.pets[found[1]]
            pet.executed, pet.purged, pet.runs = donor.executed, donor.executed, False
            pet.config, pet.password, pet.size = dict(donor.config or {}), donor.password, donor.size
            self.world.replicate()
            raise SqlError("pet", "restart", details={"mysql_error": 3707})
        elif text == "SET GLOBAL super_read_only = OFF":
            pet.is_super_read_only = False
        elif not text.startswith("SET GLOBAL"):
            raise AssertionError(text)
        self.world.replicate()


def _rows(values: Mapping[str, str]) -> Rows:
    return [{"variable_name": name, "variable_value": value} for name, value in values.items()]
