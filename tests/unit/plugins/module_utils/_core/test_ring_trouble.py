# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, Fault, State
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_judge import (
    RingJudgement,
    judge_ring,
    render_ring_table,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import plan_ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_trouble import (
    TROUBLES,
    WAYS_OUT,
    RingTrouble,
    classify_fault,
)
from ansible_collections.stateful.petset.tests.unit.plugins.module_utils._core.rings import (
    channel_to,
    lease_of,
    pet_of,
    ring_of,
    states_of,
    writer_of,
)

RING = ring_of()
DOCS = Path(__file__).resolve().parents[5] / "docs/roles/mysql_replication.md"

# Numbers and texts as MySQL 9.7.4 says them.
FAULTS = [
    (1062, "Could not execute Write_rows event on table d.t; Duplicate entry '1' for key", RingTrouble.DUPLICATE_KEY),
    (1032, "Could not execute Update_rows event on table d.t; Can't find record in 't'", RingTrouble.MISSING_ROW),
    (
        13114,
        "Got fatal error 1236 from source when reading data from binary log: 'Cannot replicate because the source "
        "purged required binary logs.'",
        RingTrouble.PURGED_LOG,
    ),
    (1236, "'Cannot replicate because the source purged required binary logs.'", RingTrouble.PURGED_LOG),
    (13114, "Got fatal error 1236 ...: 'Replica has more GTIDs than the source has'", RingTrouble.PURGED_LOG),
    (
        13114,
        "Got fatal error 1236 from source when reading data from binary log: 'A replica with the same "
        "server_uuid/server_id as this replica has connected to the source'",
        RingTrouble.SAME_SERVER,
    ),
    (
        13117,
        "Fatal error: The replica I/O thread stops because source and replica have equal MySQL server UUIDs",
        RingTrouble.SAME_SERVER,
    ),
    (1045, "Error connecting to source 'petset_repl@a:3306'. Message: Access denied", RingTrouble.PASSWORD),
    (2026, "Message: SSL connection error: certificate verify failed", RingTrouble.TLS),
    (2061, "Message: Authentication plugin 'caching_sha2_password' reported error: ...", RingTrouble.TLS),
    (2003, "Message: Can't connect to MySQL server on 'a:3306' (111)", RingTrouble.NETWORK),
    (2005, "Message: Unknown MySQL server host 'a' (-2)", RingTrouble.NETWORK),
    (2013, "Message: Lost connection to MySQL server", RingTrouble.NETWORK),
    (1129, "Message: Host '10.0.0.7' is blocked because of many connection errors", RingTrouble.NETWORK),
    (1594, "Relay log read failure: Could not parse relay log event entry.", RingTrouble.RELAY_LOG),
    (13121, "Relay log read failure: Could not parse relay log event entry.", RingTrouble.RELAY_LOG),
    (13117, "Fatal error: Failed to run 'after_read_event' hook", RingTrouble.ERROR),
    (1146, "Error executing row event: 'Table 'd.t' doesn't exist'", RingTrouble.ERROR),
    (0, "", RingTrouble.STOPPED),
]


@pytest.mark.parametrize(("number", "text", "trouble"), FAULTS)
def test_each_error_has_its_name(number: int, text: str, trouble: RingTrouble) -> None:
    assert classify_fault(Fault(number, text)) is trouble


def judged(*pets: State, in_sync: str = "mysql-0,mysql-1") -> RingJudgement:
    states, lease = states_of(*pets), lease_of(in_sync=in_sync)
    return judge_ring(RING, states, lease, plan_ring(RING, states, lease))


@pytest.mark.parametrize(("number", "text", "trouble"), [one for one in FAULTS if one[0]])
def test_a_thread_that_stopped_is_told_by_name_with_the_way_out(number: int, text: str, trouble: RingTrouble) -> None:
    fault = Fault(number, text)
    channels = [channel_to(RING, 1, io="No", io_error=fault), channel_to(RING, 1, sql="No", sql_error=fault)]
    for channel in channels:
        told = judged(writer_of(RING, 0), pet_of(RING, 1, channel=channel))
        (found,) = (one.as_dict() for one in told.troubles)
        assert (found["pet"], found["check"], found["trouble"]) == ("mysql-1", "replication", trouble.value)
        assert str(number) in found["evidence"]
        assert found["way_out"]
        assert f"    {trouble.value}: {found['way_out']}" in render_ring_table(told).splitlines()


@pytest.mark.parametrize(
    ("pets", "pet", "trouble"),
    [
        ((writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9,x:1")), "mysql-1", RingTrouble.ERRANT),
        ((writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9,1:1")), "mysql-1", RingTrouble.LATE),
        ((writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9", super_read_only=False)), "mysql-1",
         RingTrouble.NOT_READ_ONLY),
        ((writer_of(RING, 0, "0:1-9"), Down("lost", "it is down")), "mysql-1", RingTrouble.NO_ANSWER),
        ((writer_of(RING, 0, "0:1-9"), Down("access_denied", "denied")), "mysql-1", RingTrouble.OLD_PASSWORD),
        ((pet_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9")), "mysql-0", RingTrouble.NOT_OPEN),
        ((writer_of(RING, 0, "0:1-5"), pet_of(RING, 1, "0:1-9")), "", RingTrouble.LOST_OWN),
        ((writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, server_uuid="0aaaaaaa-0000-0000-0000-000000000000")), "",
         RingTrouble.SAME_SERVER),
    ],
)  # fmt: skip
def test_other_troubles_have_names(pets: tuple[State, ...], pet: str, trouble: RingTrouble) -> None:
    told = judged(*pets)
    assert (pet, trouble) in {(one.pet, one.trouble) for one in told.troubles}, told.summary()


def test_every_sentence_has_a_name_and_a_healthy_ring_has_none() -> None:
    assert judged(writer_of(RING, 0, "0:1-9"), pet_of(RING, 1, "0:1-9")).troubles == []
    told = judged(pet_of(RING, 0, channel=None), pet_of(RING, 1, channel=channel_to(RING, 1, lag_s=99.0)), in_sync="")
    assert sorted(one.evidence for one in told.troubles) == sorted(told.reasons)
    assert len(told.reasons) > 2


def test_the_documentation_names_each() -> None:
    text = DOCS.read_text()
    assert [word for word in TROUBLES if f"`{word}`" not in text] == []
    assert not set(WAYS_OUT) - set(RingTrouble)
