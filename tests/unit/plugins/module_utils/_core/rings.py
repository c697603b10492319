# SPDX-License-Identifier: GPL-3.0-or-later
"""Pets and rings for tests: everything as it should be, and what a test changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.gtid import GtidSet
from ansible_collections.stateful.petset.plugins.module_utils._core.names import own_labels
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import (
    Channel,
    Fault,
    LeaseView,
    PetState,
    Ring,
    RingPet,
    State,
)

UUIDS = tuple(f"{ordinal}aaaaaaa-0000-0000-0000-00000000000{ordinal}" for ordinal in range(4))
STRANGER = "ffffffff-0000-0000-0000-000000000000"


def ring_of(count: int = 2, **options: Any) -> Ring:
    pets = tuple(RingPet(f"mysql-{n}", n, f"mysql-{n}.db.default.svc.cluster.local") for n in range(count))
    return Ring("mysql", "default", pets, **options)


def gtids(text: str) -> GtidSet:
    """``0:1-5,1:3`` with the ordinals of pets in place of their uuids, x for a stranger's."""
    parts = [part.partition(":") for part in text.split(",") if part]
    return GtidSet.parse(",".join(f"{STRANGER if who == 'x' else UUIDS[int(who)]}:{rest}" for who, _c, rest in parts))


def channel_to(ring: Ring, ordinal: int, source: int | None = None, **changes: Any) -> Channel:
    replica = ordinal >= ring.masters
    place = (ordinal - 1) % ring.masters if source is None else source
    good = Channel(
        host=ring.pets[place].host,
        port=3306,
        user="petset_repl",
        ssl=True,
        ssl_ca=ring.ca_path,
        ssl_verify=True,
        auto_position=True,
        connect_retry_s=1,
        retry_count=3 if replica else 0,
        heartbeat_s=1.0,
        auto_failover=replica,
        io="Yes",
        sql="Yes",
        io_error=Fault(),
        sql_error=Fault(),
        received=GtidSet(),
        lag_s=0.0,
    )
    return replace(good, **changes)


def pet_of(ring: Ring, ordinal: int, held: str = "", **changes: Any) -> PetState:
    """A pet of a ring that is set up; ``channel=None`` for a new one, ``later`` as text."""
    now = gtids(held)
    replica = ordinal >= ring.masters
    good = PetState(
        server_uuid=UUIDS[ordinal],
        server_id=1000 + ordinal,
        version="8.4.5",
        executed=now,
        later=now,
        purged=GtidSet(),
        read_only=True,
        super_read_only=True,
        variables={
            "auto_increment_increment": str(ring.masters),
            "auto_increment_offset": str(ordinal % ring.masters + 1),
            "sync_binlog": "1",
            "innodb_flush_log_at_trx_commit": "1",
            "rpl_semi_sync_source_enabled": "OFF",
            "rpl_semi_sync_replica_enabled": "ON",
        },
        status={"rpl_semi_sync_replica_status": "ON"},
        channel=channel_to(ring, ordinal),
        failover_sources=frozenset((one.host, one.port) for one in ring.master_pets) if replica else frozenset(),
    )
    return replace(good, **changes)


def writer_of(ring: Ring, ordinal: int, held: str = "", **changes: Any) -> PetState:
    state = pet_of(ring, ordinal, held, read_only=False, super_read_only=False, **changes)
    return replace(
        state,
        variables={**state.variables, "rpl_semi_sync_source_enabled": "ON"},
        status={"rpl_semi_sync_source_status": "ON", "rpl_semi_sync_source_clients": "1"},
    )


def states_of(*pets: State) -> Mapping[str, State]:
    return {f"mysql-{ordinal}": state for ordinal, state in enumerate(pets)}


def lease_of(
    holder: str | None = "mysql-0", in_sync: str | None = "mysql-0,mysql-1", mode: str = "single_writer"
) -> LeaseView:
    annotations = {"stateful.petset/mode": mode, "stateful.petset/followers": ""}
    if in_sync is not None:
        annotations["stateful.petset/in-sync"] = in_sync
    return LeaseView(
        {
            "metadata": {
                "name": "mysql",
                "labels": own_labels("default", "mysql"),
                "annotations": annotations,
                "resourceVersion": "7",
            },
            "spec": {"holderIdentity": holder} if holder else {},
        }
    )
