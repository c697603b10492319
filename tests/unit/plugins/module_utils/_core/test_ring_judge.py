# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import (
    Answers,
    Down,
    Fault,
    LeaseView,
    Mode,
    PetState,
    Ring,
    State,
    parse_answers,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_judge import (
    RingJudgement,
    Word,
    explain_io,
    judge_markers,
    judge_ring,
    lacks_markers,
    render_ring_table,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import plan_ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_trouble import RingTrouble
from ansible_collections.stateful.petset.tests.unit.plugins.module_utils._core.rings import (
    STRANGER,
    UUIDS,
    channel_to,
    gtids,
    lease_of,
    pet_of,
    ring_of,
    states_of,
    writer_of,
)
from hypothesis import given
from hypothesis import strategies as st

DOWN = Down("lost", "it is down")
RING = ring_of()
BLOCKED = "Host '10.0.0.7' is blocked because of many connection errors"


def judged(*pets: State, ring: Ring = RING, lease: LeaseView | None = None) -> RingJudgement:
    states = states_of(*pets)
    view = lease_of() if lease is None else lease
    return judge_ring(ring, states, view, plan_ring(ring, states, view))


def test_all_is_well() -> None:
    told = judged(writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9"))
    assert told.reasons == []
    assert told.summary() == "healthy"
    assert told.writer == "mysql-0"
    assert [pet.role for pet in told.pets] == ["writer", "standby"]
    assert render_ring_table(told).splitlines() == [
        "PET      ROLE     READ_ONLY  GTID          LAG  CHANNEL               SEMI-SYNC      ERRANT",
        "mysql-0  writer   off        0aaaaaaa:1-9  0 s  running from mysql-1  source on (1)  -",
        "mysql-1  standby  super      0aaaaaaa:1-9  0 s  running from mysql-0  replica on     -",
        "replication: healthy",
    ]


def test_a_pet_that_is_copied_to_is_out_of_super_read_only_and_not_called_open() -> None:
    """A CLONE drops the application's database, which it cannot under super_read_only."""
    closed = pet_of(RING, 1, super_read_only=False)
    assert judged(writer_of(RING, 0), closed).word.value == "broken"
    copied = replace(closed, clone_state="In Progress")
    assert "not_read_only" not in {one.trouble.value for one in judged(writer_of(RING, 0), copied).troubles}
    opened = replace(copied, read_only=False)
    assert "not_read_only" in {one.trouble.value for one in judged(writer_of(RING, 0), opened).troubles}


@pytest.mark.parametrize(
    ("pets", "lease", "word", "reason"),
    [
        ((writer_of(RING, 0), DOWN), None, "uncertain", "mysql-1 could not be asked: it is down"),
        (
            (writer_of(RING, 0), pet_of(RING, 1)),
            lease_of(in_sync="mysql-0"),
            "degraded",
            "not in sync: mysql-1 (cannot take over without loss)",
        ),
        ((pet_of(RING, 0), pet_of(RING, 1)), None, "degraded", "mysql-0 holds the Lease and is not open for writes"),
        ((pet_of(RING, 0), pet_of(RING, 1)), lease_of(None), "degraded", "no pet holds the Lease: there is no writer"),
        (
            (writer_of(RING, 0), pet_of(RING, 1)),
            LeaseView(),
            "broken",
            "mysql-0 is open for writes although it is a standby",
        ),
        (
            (writer_of(RING, 0), pet_of(RING, 1, super_read_only=False)),
            None,
            "broken",
            "mysql-1 is not super_read_only although it is a standby",
        ),
        (
            (pet_of(RING, 0), pet_of(RING, 1)),
            LeaseView(),
            "degraded",
            "no ring was set up yet: the Lease does not name the pets in sync",
        ),
        (
            (writer_of(RING, 0), pet_of(RING, 1)),
            LeaseView(unknown="forbidden"),
            "uncertain",
            "the Lease could not be read: forbidden",
        ),
        (
            (writer_of(RING, 0), pet_of(RING, 1, channel=channel_to(RING, 1, lag_s=60.0))),
            None,
            "degraded",
            "mysql-1 lags 60 s behind mysql-0",
        ),
        (
            (
                writer_of(RING, 0),
                pet_of(RING, 1, channel=channel_to(RING, 1, io="Connecting", io_error=Fault(2003, "no"))),
            ),
            None,
            "degraded",
            "mysql-1 is connecting to mysql-0: error 2003: no",
        ),
        (
            (writer_of(RING, 0), pet_of(RING, 1, channel=channel_to(RING, 1, io="No"))),
            None,
            "degraded",
            "mysql-1 does not receive from mysql-0: no error",
        ),
        (
            (writer_of(RING, 0), pet_of(RING, 1, channel=channel_to(RING, 1, sql="No"))),
            None,
            "degraded",
            "mysql-1 does not apply what it receives (stopped)",
        ),
    ],
)
def test_what_is_told(pets: tuple[State, ...], lease: LeaseView | None, word: str, reason: str) -> None:
    told = judged(*pets, lease=lease)
    assert told.word.value == word, told.summary()
    assert reason in told.reasons


def test_rp_rep_02_error_2061_names_both_ways_out() -> None:
    channel = channel_to(RING, 1, io="Connecting", io_error=Fault(2061, "Authentication requires secure connection."))
    assert "SOURCE_SSL=1 (or GET_SOURCE_PUBLIC_KEY=1)" in explain_io(channel)
    told = judged(writer_of(RING, 0), pet_of(RING, 1, channel=channel))
    assert any("error 2061" in reason and "SOURCE_SSL=1" in reason for reason in told.reasons)


@pytest.mark.parametrize("fault", [Fault(1129, BLOCKED), Fault(2003, f"error connecting: error 1129: {BLOCKED}")])
def test_rp_hap_03_error_1129_names_cause_and_cure(fault: Fault) -> None:
    channel = channel_to(RING, 1, io="Connecting", io_error=fault)
    hint = (
        "the source has blocked this address after too many broken handshakes: TRUNCATE TABLE"
        " performance_schema.host_cache there"
    )
    assert explain_io(channel) == f"{fault} ({hint})"
    told = judged(writer_of(RING, 0), pet_of(RING, 1, channel=channel))
    assert told.degraded == [f"mysql-1 is connecting to mysql-0: {fault} ({hint})"]
    (found,) = (one.as_dict() for one in told.troubles)
    assert (found["pet"], found["trouble"]) == ("mysql-1", "replication_network")
    assert hint in render_ring_table(told)


def test_rp_hap_03_other_errors_are_not_taken_for_a_blocked_address() -> None:
    for fault in (Fault(2003, "Can't connect to MySQL server on 'a:1129' (111)"), Fault(11290, "no"), Fault()):
        assert "host_cache" not in explain_io(channel_to(RING, 1, io="Connecting", io_error=fault))


def test_rp_rep_06_error_1236_is_broken_and_explained() -> None:
    fault = Fault(13114, "Got fatal error 1236 from source when reading data from binary log: 'purged'")
    told = judged(writer_of(RING, 0), pet_of(RING, 1, channel=channel_to(RING, 1, io="No", io_error=fault)))
    assert told.word.value == "broken"
    assert "no longer has the binary logs" in told.broken[0]


def test_rp_rep_07_weak_durability_is_noted_and_lost_transactions_are_named() -> None:
    weak = pet_of(RING, 1, "0:1-5")
    weak = replace(weak, variables={**weak.variables, "sync_binlog": "0"})
    told = judged(writer_of(RING, 0, "0:1-5"), weak)
    assert told.notes == ["mysql-1: sync_binlog is 0: acknowledged writes could be lost in a crash"]
    told = judged(writer_of(RING, 0, "0:1-5"), pet_of(RING, 1, "0:1-7"))
    assert told.word.value == "broken"
    assert f"{UUIDS[0]}:6-7" in told.broken[0]


def test_rp_rep_08_automatic_numbers_as_they_run() -> None:
    wrong = pet_of(RING, 1)
    wrong = replace(wrong, variables={**wrong.variables, "auto_increment_increment": "1"})
    told = judged(writer_of(RING, 0), wrong)
    assert told.word.value == "healthy"
    assert "auto_increment_increment 1" in told.notes[0]
    spread = replace(RING, mode=Mode.SPREAD)
    open_pet = replace(wrong, read_only=False, super_read_only=False)
    told = judged(writer_of(RING, 0), open_pet, ring=spread, lease=lease_of(mode="spread"))
    assert any("two masters could draw the same number" in reason for reason in told.degraded)
    # pet_set refuses these settings, so "take them out of the set's own" was no way out.
    (found,) = (one.as_dict() for one in told.troubles if one.trouble is RingTrouble.AUTO_INCREMENT)
    assert "SET GLOBAL both on the pet" in found["way_out"]


def test_a_wait_point_that_shows_what_is_not_acknowledged_is_told_with_the_way_out() -> None:
    """It was read and never judged."""
    writer = writer_of(RING, 0)
    early = replace(writer, variables={**writer.variables, "rpl_semi_sync_source_wait_point": "AFTER_COMMIT"})
    told = judged(early, pet_of(RING, 1))
    assert told.word.value == "broken"
    (found,) = (one.as_dict() for one in told.troubles)
    assert "rpl_semi_sync_source_wait_point is AFTER_COMMIT, the ring needs AFTER_SYNC" in found["evidence"]
    assert "SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC'" in found["way_out"]


def test_rp_rep_08_a_conflict_is_told_with_channel_and_transaction() -> None:
    text = (
        f"Worker 1 failed executing transaction '{UUIDS[0]}:7' at source log binlog.000002; Could not execute "
        "Write_rows event on table d.t; Duplicate entry '3' for key 't.PRIMARY'"
    )
    told = judged(
        writer_of(RING, 0), pet_of(RING, 1, channel=channel_to(RING, 1, sql="No", sql_error=Fault(1062, text)))
    )
    assert told.word.value == "broken"
    for word in ("mysql-1", "1062", f"{UUIDS[0]}:7", "d.t"):
        assert word in told.broken[0]


def test_late_and_errant_transactions_are_told_apart() -> None:
    late = judged(writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9,1:1"))
    assert late.word.value == "degraded"
    assert late.pets[1].late == f"{UUIDS[1]}:1"
    assert f"{UUIDS[1]}:1, which the writer has not" in late.degraded[0]
    errant = judged(writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-8,x:1"))
    assert errant.word.value == "broken"
    assert errant.pets[1].errant == f"{STRANGER}:1"
    ring = ring_of(3)
    errant = judged(writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-9"), pet_of(ring, 2, "0:1,2:1"), ring=ring)
    assert errant.pets[2].errant == f"{UUIDS[2]}:1"
    assert len(errant.broken) == 1


def test_spread_needs_no_holder_and_has_no_late_transactions_to_tell() -> None:
    spread = replace(RING, mode=Mode.SPREAD)
    both = (writer_of(RING, 0, "0:1-9"), writer_of(RING, 1, "0:1-8,1:1-3"))
    told = judged(*both, ring=spread, lease=lease_of(None, mode="spread"))
    assert (told.summary(), told.writer) == ("healthy", "mysql-0")
    assert [pet.role for pet in told.pets] == ["master", "master"]
    told = judged(both[0], pet_of(RING, 1, "0:1-8,1:1-3"), ring=spread, lease=lease_of(None, mode="spread"))
    assert told.degraded == ["mysql-1 is not open for writes"]


def test_lag_in_transactions() -> None:
    told = judged(writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-4"))
    assert told.pets[1].behind == 5
    assert "0 s, 5 behind" in render_ring_table(told)


def test_unacknowledged_writing_is_told() -> None:
    alone = writer_of(RING, 0)
    alone = replace(alone, status={**alone.status, "rpl_semi_sync_source_clients": "0"})
    told = judged(alone, pet_of(RING, 1))
    assert "mysql-0 waits for no acknowledgement although mysql-1 should be in sync (semi-sync on, 0 replicas)" in (
        told.degraded
    )
    assert judged(alone, pet_of(RING, 1), lease=lease_of(in_sync="mysql-0")).degraded == [
        "not in sync: mysql-1 (cannot take over without loss)"
    ]


@given(st.lists(st.booleans(), min_size=2, max_size=4), st.sampled_from([lease_of(), LeaseView(), lease_of(None)]))
def test_a_pet_that_was_not_asked_is_never_healthy(up: list[bool], lease: LeaseView) -> None:
    ring = ring_of(len(up))
    pets: list[State] = [pet_of(ring, n) if alive else DOWN for n, alive in enumerate(up)]
    told = judged(*pets, ring=ring, lease=lease)
    assert (told.word.value == "healthy") <= all(up)
    assert len(told.uncertain) == up.count(False)
    for pet, alive in zip(told.pets, up, strict=True):
        assert pet.answers is alive
        assert (pet.role == "unknown") is not alive
    assert not any("it is down" in reason for reason in (*told.broken, *told.degraded))


# --- what a pet says --------------------------------------------------------------------------------------------------


def rows(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"variable_name": name, "variable_value": value} for name, value in values.items()]


def answers(**changes: Any) -> Answers:
    good = Answers(
        variables=rows(
            {
                "server_uuid": UUIDS[0].upper(),
                "server_id": "1000",
                "version": "9.7.4-2",
                "gtid_executed": f"{UUIDS[0].upper()}:1-5,\n{UUIDS[1]}:1",
                "gtid_purged": "",
                "read_only": "ON",
                "super_read_only": "ON",
                "rpl_semi_sync_source_enabled": "ON",
            }
        ),
        status=rows({"Rpl_semi_sync_source_status": "OFF", "Rpl_semi_sync_source_clients": "2"}),
        configuration=[
            {
                "channel_name": "ring",
                "host": "mysql-1.db",
                "port": 3306,
                "user": "petset_repl",
                "ssl_allowed": "YES",
                "ssl_ca_file": "/petset/tls/ca.crt",
                "ssl_verify_server_certificate": "YES",
                "auto_position": "1",
                "connection_retry_interval": 1,
                "connection_retry_count": 0,
                "heartbeat_interval": "1.000",
                "source_connection_auto_failover": "0",
            }
        ],
        replica_status=[
            {
                "channel_name": "ring",
                "replica_io_running": "Connecting",
                "replica_sql_running": "Yes",
                "last_io_errno": 2061,
                "last_io_error": "secure\nconnection",
                "last_sql_errno": 0,
                "last_sql_error": "",
                "retrieved_gtid_set": f"{UUIDS[1]}:1-2",
                "seconds_behind_source": None,
                "source_uuid": UUIDS[1].upper(),
            }
        ],
        failover=[
            {"channel_name": "ring", "host": "a", "port": 3306},
            {"channel_name": "other", "host": "b", "port": 1},
        ],
        clone=[{"state": "Completed"}],
        size=[{"bytes": "1048576"}],
        secrets=[{"channel_name": "ring", "password_hash": "abc"}],
        workers=[],
        later=f"{UUIDS[0]}:1-6",
    )
    return replace(good, **changes)


HAS_ROW = {"beats": frozenset({"mysql-0"})}


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((HAS_ROW, HAS_ROW), (HAS_ROW, HAS_ROW), None),
        (({}, {}), ({}, {}), None),
        ((HAS_ROW, {}), (HAS_ROW, HAS_ROW), None),
        (({}, {}), (HAS_ROW, {}), None),
        ((HAS_ROW, {}), (HAS_ROW, {}), Word.BROKEN),
        ((HAS_ROW, {}), (HAS_ROW, {"held": "0:1-8"}), Word.UNCERTAIN),
        ((HAS_ROW, {}), ({**HAS_ROW, "held": "0:1-12"}, {"held": "0:1-10"}), Word.BROKEN),
    ],
    ids=["all have it", "nobody has it", "it arrives", "just made", "missing", "lags", "written to meanwhile"],
)
def test_a_pet_without_the_marker_row_is_told(
    first: tuple[dict[str, Any], ...], second: tuple[dict[str, Any], ...], word: Word | None
) -> None:
    """What it may still receive is not called missing."""

    def look(changes: tuple[dict[str, Any], ...]) -> Mapping[str, State]:
        held = {"held": "0:1-10"}
        return states_of(*(pet_of(ring_of(), n, **{**held, **one}) for n, one in enumerate(changes)))

    judged = RingJudgement([], None, ())
    judge_markers(look(first), look(second), judged)
    told = [(one.pet, one.trouble) for one in judged.troubles]
    assert told == ([("mysql-1", RingTrouble.NO_MARKER)] if word else [])
    assert judged.word is (word or Word.HEALTHY)
    if word:
        assert "mysql-1 has no row of mysql-0 in petset.heartbeat, which mysql-0 has" in judged.summary()


def test_a_pet_that_cannot_be_asked_lacks_no_row() -> None:
    states = states_of(pet_of(ring_of(), 0, **HAS_ROW), Down("silent", "no answer"))
    assert lacks_markers(states) == {}


def test_answers_are_understood() -> None:
    state = parse_answers(answers(beats=[{"pet": "mysql-0"}]))
    assert state.beats == {"mysql-0"}
    assert state.server_uuid == UUIDS[0]
    assert state.executed == gtids("0:1-5,1:1")
    assert state.later == gtids("0:1-6")
    assert state.super_read_only
    assert not state.is_open
    assert state.semi_sync("source") == "waiting"
    assert state.semi_sync("replica") == "none"
    assert state.semi_sync_clients == 2
    assert state.failover_sources == {("a", 3306)}
    assert (state.clone_state, state.data_bytes) == ("Completed", 1048576)
    assert not state.is_copied_to
    channel = state.channel
    assert channel is not None
    assert (channel.ssl, channel.auto_position, channel.retry_count, channel.heartbeat_s) == (True, True, 0, 1.0)
    assert str(channel.io_error) == "error 2061: secure connection"
    assert not channel.sql_error
    assert channel.lag_s is None
    assert channel.source_uuid == UUIDS[1]
    assert channel.password_hash == "abc"


def test_the_worker_knows_what_the_applier_only_points_to() -> None:
    status = {**answers().replica_status[0], "last_sql_errno": 1062, "last_sql_error": "see the workers' table"}
    workers = [
        {"channel_name": "other", "number": 1062, "message": "elsewhere"},
        {"channel_name": "ring", "number": 1032, "message": "older"},
        {"channel_name": "ring", "number": 1062, "message": "Duplicate entry in d.t"},
    ]
    channel = parse_answers(answers(replica_status=[status], workers=workers)).channel
    assert channel is not None
    assert str(channel.sql_error) == "error 1062: Duplicate entry in d.t"
    channel = parse_answers(answers(replica_status=[status])).channel
    assert channel is not None
    assert str(channel.sql_error) == "error 1062: see the workers' table"


def test_answers_of_a_new_pet_and_of_something_else() -> None:
    state = parse_answers(answers(configuration=[], replica_status=[], failover=[], clone=[], size=[], secrets=[]))
    assert isinstance(state, PetState)
    assert state.channel is None
    assert (state.clone_state, state.data_bytes) == ("", 0)
    other = [{**answers().configuration[0], "channel_name": ""}]
    assert parse_answers(answers(configuration=other)).other_channels == ("",)
    with pytest.raises(KeyError):
        parse_answers(answers(variables=[]))
