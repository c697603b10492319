# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.gtid import GtidSet
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import (
    Down,
    Fault,
    LeaseView,
    PetState,
    Ring,
    State,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_copy import CloneProgress, CloneStage
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import (
    Kind,
    RingPlan,
    RingStep,
    batches_of,
    hash_password,
    plan_ring,
    quote,
    shorten,
)
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


def plan_of(ring: Ring, *pets: State, lease: LeaseView | None = None, **options: Any) -> RingPlan:
    return plan_ring(ring, states_of(*pets), lease_of() if lease is None else lease, **options)


def lines(plan: RingPlan) -> list[str]:
    assert plan.refusals == []
    return [step.describe() for step in plan.steps]


def refusals(plan: RingPlan) -> str:
    assert plan.steps == []
    assert plan.predicted == {}
    return "\n".join(problem.render() for problem in plan.refusals)


BATCHES: dict[str, tuple[str, list[list[str]]]] = {
    "nothing": ("", []),
    "masters": ("0a 0b 1a 1b", [["0a 0b", "1a 1b"]]),
    "the Lease before and after": ("-a 0a 1a -b -c", [["-a"], ["0a", "1a"], ["-b -c"]]),
    "a pet that is seeded": ("0a 1a 2C 2b 3a", [["0a", "1a"], ["2C 2b"], ["3a"]]),
    "two that are seeded": ("0a 2C 3C 3b", [["0a"], ["2C"], ["3C 3b"]]),
    "a pet twice": ("0a 1a 0b", [["0a", "1a"], ["0b"]]),
}


@pytest.mark.parametrize("case", BATCHES)
def test_what_goes_on_at_the_same_time(case: str) -> None:
    """``0a``: a statement on pet 0, ``C``: a CLONE, ``-``: the Lease."""
    given_text, wanted = BATCHES[case]
    steps = [
        RingStep(Kind.CLONE if text == "C" else Kind.SQL, pet.replace("-", ""), text)
        for pet, text in given_text.split()
    ]
    batches = batches_of(steps)
    assert [[" ".join((one.pet or "-") + one.text for one in group) for group in batch] for batch in batches] == wanted


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from([Kind.SQL, Kind.CLONE]))))
def test_batches_keep_the_order_of_each_pet_and_lose_nothing(given_steps: list[tuple[str, Kind]]) -> None:
    steps = [RingStep(kind, pet, str(index)) for index, (pet, kind) in enumerate(given_steps)]
    batches = batches_of(steps)
    assert [step for batch in batches for group in batch for step in group] == steps
    for batch in batches:
        pets = [group[0].pet for group in batch]
        assert len(set(pets)) == len(pets)
        assert all({step.pet for step in group} == {group[0].pet} for group in batch)
        if len(batch) > 1:
            assert "" not in pets
            assert all(step.kind is not Kind.CLONE for group in batch for step in group)


def test_a_fresh_ring_is_set_up_in_order() -> None:
    ring = ring_of()
    plan = plan_of(ring, pet_of(ring, 0, channel=None), pet_of(ring, 1, channel=None), lease=LeaseView())
    change, start, _change, _start, lease = lines(plan)
    assert change == (
        "mysql-0: CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'mysql-1.db.default.svc.cluster.local', "
        "SOURCE_PORT = 3306, SOURCE_USER = 'petset_repl', SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, "
        "SOURCE_SSL_CA = '/petset/tls/ca.crt', SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_CONNECT_RETRY = 1, "
        "SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 1.0, SOURCE_CONNECTION_AUTO_FAILOVER = 0, "
        "SOURCE_PASSWORD = <replication-password> FOR CHANNEL 'ring'"
    )
    assert start == "mysql-0: START REPLICA FOR CHANNEL 'ring'"
    assert lease == "create Lease default/mysql (in sync: mysql-0)"
    assert plan.steps[-1].body is not None
    assert "holderIdentity" not in plan.steps[-1].body["spec"]


def test_rp_rep_01_uses_the_words_of_8_4() -> None:
    ring = ring_of(3)
    fresh = [pet_of(ring, ordinal, channel=None) for ordinal in range(3)]
    for lease in (LeaseView(), lease_of()):
        text = " ".join(step.text for step in plan_of(ring, *fresh, lease=lease).steps)
        assert not re.search(r"MASTER|SLAVE|RESET", text)
        assert text.count("CHANGE REPLICATION SOURCE TO") == 3
        assert text.count("START REPLICA FOR CHANNEL 'ring'") == 3


def test_rp_rep_02_always_encrypts() -> None:
    ring = ring_of()
    plain = pet_of(ring, 1, channel=channel_to(ring, 1, ssl=False, ssl_verify=False))
    told = lines(plan_of(ring, writer_of(ring, 0), plain))
    assert told[-2] == (
        "mysql-1: CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_VERIFY_SERVER_CERT = 1 FOR CHANNEL 'ring'"
    )


def test_nothing_is_left_to_do() -> None:
    ring = ring_of(3)
    pets = (writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-8"), pet_of(ring, 2, "0:1-7"))
    assert lines(plan_of(ring, *pets)) == []
    # Where the failover of MySQL itself has gone is right, and so is the other master.
    for source in (0, 1):
        moved = replace(pets[2], channel=channel_to(ring, 2, source))
        assert lines(plan_of(ring, *pets[:2], moved)) == []


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (
            {"host": "old"},
            "SOURCE_HOST = 'mysql-0.db.default.svc.cluster.local', SOURCE_PASSWORD = <replication-password>",
        ),
        ({"port": 3307}, "SOURCE_PORT = 3306, SOURCE_PASSWORD = <replication-password>"),
        ({"user": "other"}, "SOURCE_USER = 'petset_repl', SOURCE_PASSWORD = <replication-password>"),
        ({"ssl_ca": ""}, "SOURCE_SSL_CA = '/petset/tls/ca.crt'"),
        ({"auto_position": False}, "SOURCE_AUTO_POSITION = 1"),
        ({"connect_retry_s": 60}, "SOURCE_CONNECT_RETRY = 1"),
        ({"retry_count": 10}, "SOURCE_RETRY_COUNT = 0"),
        ({"heartbeat_s": 30.0}, "SOURCE_HEARTBEAT_PERIOD = 1.0"),
        ({"password_hash": hash_password("old")}, "SOURCE_PASSWORD = <replication-password>"),
    ],
)
def test_only_what_differs_is_changed(change: dict[str, Any], setting: str) -> None:
    ring = ring_of()
    pet = pet_of(ring, 1, channel=channel_to(ring, 1, **change))
    assert lines(plan_of(ring, writer_of(ring, 0), pet, password_hash=hash_password("new"))) == [
        "mysql-1: STOP REPLICA IO_THREAD FOR CHANNEL 'ring'",
        "mysql-1: STOP REPLICA FOR CHANNEL 'ring'",
        f"mysql-1: CHANGE REPLICATION SOURCE TO {setting} FOR CHANNEL 'ring'",
        "mysql-1: START REPLICA FOR CHANNEL 'ring'",
    ]


def test_the_stored_password_may_be_right_or_unreadable() -> None:
    ring = ring_of()
    for stored in (hash_password("new"), ""):
        pet = pet_of(ring, 1, channel=channel_to(ring, 1, password_hash=stored))
        assert lines(plan_of(ring, writer_of(ring, 0), pet, password_hash=hash_password("new"))) == []


def test_what_was_received_is_applied_first() -> None:
    ring = ring_of()
    behind = channel_to(ring, 1, retry_count=10, received=gtids("0:1-9"), sql="No")
    told = lines(plan_of(ring, writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-5", channel=behind)))
    assert told[1] == "mysql-1: START REPLICA SQL_THREAD FOR CHANNEL 'ring'"
    assert told[2].startswith(f"mysql-1: wait until received transactions are applied: {UUIDS[0]}:1-9")
    assert [line.split()[1] for line in told] == ["STOP", "START", "wait", "STOP", "CHANGE", "START"]
    stuck = replace(behind, sql_error=Fault(1062, "Duplicate entry"))
    said = refusals(plan_of(ring, writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-5", channel=stuck)))
    assert f"error 1062: Duplicate entry before it applied {UUIDS[0]}:6-9" in said


def test_what_stands_is_started_and_what_failed_is_not() -> None:
    ring = ring_of()

    def told(**channel: Any) -> list[str]:
        return lines(plan_of(ring, writer_of(ring, 0), pet_of(ring, 1, channel=channel_to(ring, 1, **channel))))

    start = ["mysql-1: START REPLICA FOR CHANNEL 'ring'"]
    assert told(io="No") == told(sql="No") == told(io="No", sql="No") == start
    assert told(io="Connecting", io_error=Fault(2003, "no")) == []
    assert told(sql="No", sql_error=Fault(1062, "Duplicate entry")) == []
    assert told(io="No", io_error=Fault(13114, "Got fatal error 1236")) == []


def test_a_channel_that_an_agent_is_about_to_start_is_no_step() -> None:
    """A run that met a change of the writer foretold a START REPLICA, and one that did it was in the agent's way."""
    ring = replace(ring_of(), agents=True)
    stopped = pet_of(ring, 1, channel=channel_to(ring, 1, io="No", sql="No"))
    plan = plan_of(ring, writer_of(ring, 0), stopped)
    assert (lines(plan), list(plan.left)) == ([], ["mysql-1"])
    assert plan.left["mysql-1"].describe() == "mysql-1: START REPLICA FOR CHANNEL 'ring'"
    # The holder that is not open yet has stopped its receiver for a reason.
    opening = pet_of(ring, 0, channel=channel_to(ring, 0, io="No"))
    plan = plan_of(ring, opening, pet_of(ring, 1))
    assert (lines(plan), plan.left) == ([], {})
    # Before there is a ring the agents keep still.
    plan = plan_of(ring, pet_of(ring, 0), stopped, lease=LeaseView())
    assert "mysql-1: START REPLICA FOR CHANNEL 'ring'" in lines(plan)
    assert plan.left == {}


def test_unrelated_data_is_refused_with_its_names() -> None:
    ring = ring_of()
    said = refusals(
        plan_of(ring, pet_of(ring, 0, "0:1-5", channel=None), pet_of(ring, 1, "1:1-3", channel=None), lease=LeaseView())
    )
    assert f"only mysql-0 has {UUIDS[0]}:1-5; only mysql-1 has {UUIDS[1]}:1-3" in said
    # With channels it is what they are about to fetch, unless somebody else wrote it.
    assert lines(plan_of(ring, writer_of(ring, 0, "0:1-5"), pet_of(ring, 1, "1:1-3"))) == []
    said = refusals(plan_of(ring, writer_of(ring, 0, "0:1-5"), pet_of(ring, 1, "x:1")))
    assert f"only mysql-1 has {STRANGER}:1" in said


def test_rp_rep_13_the_later_reading_of_the_source_counts() -> None:
    """The replica was read first; what its source wrote between the two readings is no errant transaction."""
    ring = ring_of(3)
    zero = writer_of(ring, 0, "0:1-100", later=gtids("0:1-130"))
    one = pet_of(ring, 1, "0:1-110", later=gtids("0:1-131"))
    two = pet_of(ring, 2, "0:1-125", later=gtids("0:1-128"))
    assert lines(plan_of(ring, zero, one, two)) == []


def test_rp_rep_04_one_server_uuid_on_two_pets() -> None:
    ring = ring_of()
    said = refusals(plan_of(ring, pet_of(ring, 0), pet_of(ring, 1, server_uuid=UUIDS[0])))
    assert f"mysql-0 and mysql-1: have the same server_uuid {UUIDS[0]}" in said


@pytest.mark.parametrize(("server_id", "reason"), [(1000, "the same server_id 1000"), (0, "server_id is 0")])
def test_rp_rep_05_server_ids_as_they_run(server_id: int, reason: str) -> None:
    ring = ring_of()
    assert reason in refusals(plan_of(ring, pet_of(ring, 0), pet_of(ring, 1, server_id=server_id)))


def test_rp_rep_06_purged_logs() -> None:
    ring = ring_of()
    zero = writer_of(ring, 0, "0:1-9", purged=gtids("0:1-7"))
    said = refusals(plan_of(ring, zero, pet_of(ring, 1, "0:1-5")))
    assert f"mysql-1: lacks transactions that mysql-0 has already purged from its binary logs: {UUIDS[0]}:6-7" in said
    told = lines(plan_of(ring, zero, pet_of(ring, 1, channel=None)))
    assert told[-1].startswith(
        "mysql-1: CLONE INSTANCE FROM 'petset_repl'@'mysql-0.db.default.svc.cluster.local':3306 IDENTIFIED BY "
        "<replication-password> REQUIRE SSL (mysql-1 is empty; mysql-0 has 0 MiB and has purged"
    )


def test_rp_rep_07_a_peer_that_knows_more_of_me_than_i_do() -> None:
    ring = ring_of()
    said = refusals(plan_of(ring, writer_of(ring, 0, "0:1-5"), pet_of(ring, 1, "0:1-9")))
    assert f"pet mysql-0: lacks transactions of its own that another pet has ({UUIDS[0]}:6-9)" in said


def test_rp_rep_10_old_servers() -> None:
    ring = ring_of()
    said = refusals(plan_of(ring, pet_of(ring, 0, version="8.0.42"), pet_of(ring, 1, version="5.7.1-log")))
    assert "MySQL 8.0.42 is too old. Use an image of MySQL 8.4 or later" in said
    assert "MySQL 5.7.1-log is too old" in said
    for version in ("8.4.0", "9.0.1", "9.7.4-2", "10.0.0"):
        assert lines(plan_of(ring, writer_of(ring, 0, version=version), pet_of(ring, 1))) == []


@pytest.mark.parametrize(
    ("name", "value", "right", "way_out"),
    [
        ("gtid_mode", "OFF", "ON", "delete the pod"),
        ("enforce_gtid_consistency", "WARN", "ON", "delete the pod"),
        ("log_bin", "0", "ON", "delete the pod"),
        ("log_replica_updates", "OFF", "ON", "delete the pod"),
        (
            "rpl_semi_sync_source_wait_point",
            "AFTER_COMMIT",
            "AFTER_SYNC",
            "SET GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC' there, or delete the pod",
        ),
    ],
)
def test_settings_that_replication_needs(name: str, value: str, right: str, way_out: str) -> None:
    ring = ring_of()

    def with_value(one: str) -> PetState:
        state = pet_of(ring, 1)
        return replace(state, variables={**state.variables, name: one})

    said = refusals(plan_of(ring, writer_of(ring, 0), with_value(value)))
    assert f"pet mysql-1: {name} is {value}, the ring needs {right}" in said
    assert way_out in said
    assert lines(plan_of(ring, writer_of(ring, 0), with_value(right))) == []


def test_other_channels_are_refused() -> None:
    ring = ring_of()
    said = refusals(plan_of(ring, pet_of(ring, 0, other_channels=("", "mine")), pet_of(ring, 1)))
    assert "channel '', 'mine' as well" in said


def test_a_pet_that_is_down_holds_up_only_what_depends_on_it() -> None:
    ring = ring_of(3)
    plan = plan_of(ring, writer_of(ring, 0, "0:1-9"), DOWN, pet_of(ring, 2, channel=None, failover_sources=frozenset()))
    assert [line.split()[1] for line in lines(plan)] == ["CHANGE", "START", "SELECT", "SELECT"]
    assert "mysql-1 does not answer" in plan.pending
    # No new channel to a pet whose data nobody knows, and no Lease while one cannot be asked.
    plan = plan_of(ring_of(), pet_of(ring, 0, "0:1-9", channel=None), DOWN, lease=LeaseView())
    assert lines(plan) == []
    assert any("mysql-0 can be connected only when mysql-1 has been asked" in reason for reason in plan.pending)
    assert any("mysql-1 do not" in reason for reason in plan.pending)


def test_replicas() -> None:
    ring = ring_of(3)
    new = pet_of(ring, 2, channel=None, failover_sources=frozenset())
    told = lines(plan_of(ring, writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-9"), new))
    assert "SOURCE_RETRY_COUNT = 3" in told[0]
    assert "SOURCE_CONNECTION_AUTO_FAILOVER = 1" in told[0]
    assert told[2:] == [
        f"mysql-2: SELECT asynchronous_connection_failover_add_source('ring', '{pet.host}', 3306, '', 50)"
        for pet in ring.master_pets
    ]
    big = {"data_bytes": 2 << 30}
    told = lines(plan_of(ring, writer_of(ring, 0, "0:1-9", **big), pet_of(ring, 1, "0:1-9", **big), new))
    # The standby is the donor: it serves no clients.
    assert told[1] == "mysql-2: SET GLOBAL clone_valid_donor_list = 'mysql-1.db.default.svc.cluster.local:3306'"
    assert told[-1].endswith("(mysql-2 is empty; mysql-1 has 2048 MiB)")
    copy = CloneProgress((CloneStage("FILE COPY", "In Progress", 120 << 20, 480 << 20),))
    plan = plan_of(
        ring,
        writer_of(ring, 0, "0:1-9", **big),
        pet_of(ring, 1, "0:1-9"),
        replace(new, clone_state="In Progress", clone_progress=copy),
    )
    assert lines(plan) == []
    assert "mysql-2 is being seeded by CLONE: FILE COPY, 120 of 480 MiB" in plan.pending
    said = refusals(plan_of(ring, writer_of(ring, 0, "0:1-9"), pet_of(ring, 1, "0:1-9"), pet_of(ring, 2, "0:1-4,2:1")))
    assert f"pet mysql-2: holds transactions that no master has: {UUIDS[2]}:1" in said


def test_one_master_has_no_channel() -> None:
    ring = ring_of(1, masters=1)
    assert lines(plan_of(ring, writer_of(ring, 0, "0:1", channel=None))) == []


@pytest.mark.parametrize(
    ("zero", "one", "best"),
    [
        ("", "", "mysql-0"),
        ("0:1-5", "", "mysql-0"),
        ("", "1:1-5", "mysql-1"),
        ("0:1-5", "0:1-5", "mysql-0,mysql-1"),
        ("0:1-5", "0:1-4", "mysql-0"),
    ],
)
def test_the_best_pets_are_in_sync(zero: str, one: str, best: str) -> None:
    ring = ring_of()
    plan = plan_of(ring, pet_of(ring, 0, zero), pet_of(ring, 1, one), lease=LeaseView())
    assert plan.steps[-1].kind is Kind.LEASE_CREATE
    assert plan.steps[-1].body is not None
    assert plan.steps[-1].body["metadata"]["annotations"]["stateful.petset/in-sync"] == best


def test_nobody_is_named_while_nobody_holds_all() -> None:
    ring = ring_of()
    plan = plan_of(ring, pet_of(ring, 0, "0:1-5"), pet_of(ring, 1, "1:1"), lease=LeaseView())
    assert lines(plan) == []
    assert "no master holds all transactions yet" in plan.pending


def test_the_lease_that_is_there() -> None:
    ring = ring_of()
    pets = (writer_of(ring, 0), pet_of(ring, 1))
    assert lines(plan_of(ring, *pets, lease=lease_of(mode="spread"))) == [
        "change Lease default/mysql (mode spread -> single_writer)"
    ]
    plan = plan_of(ring, *pets, lease=lease_of(in_sync=None))
    assert plan.steps[-1].body == {
        "metadata": {
            "annotations": {"stateful.petset/in-sync": "mysql-0", "stateful.petset/mode": "single_writer"},
            "resourceVersion": "7",
        }
    }
    foreign = LeaseView({"metadata": {"name": "mysql", "labels": {}}})
    assert "was not made by this collection" in refusals(plan_of(ring, *pets, lease=foreign))
    plan = plan_of(ring, *pets, lease=LeaseView(unknown="forbidden"))
    assert lines(plan) == []
    assert plan.pending == ["Lease default/mysql could not be read: forbidden"]


def test_the_lease_names_further_pets_before_they_receive_anything() -> None:
    """One of them may receive what a writer that is killed has told nobody: then nothing of it is cut off."""
    ring = ring_of(3, agents=True)
    pets = (writer_of(ring, 0, "0:1-5"), pet_of(ring, 1, "0:1-5"), pet_of(ring, 2, channel=None))
    plan = plan_of(ring, *pets)
    assert plan.steps[0].body == {"metadata": {"annotations": {"stateful.petset/followers": "mysql-2"}}}
    assert lines(plan)[0] == "change Lease default/mysql (followers: mysql-2)"
    lease = lease_of()
    assert lease.manifest is not None
    lease.manifest["metadata"]["annotations"]["stateful.petset/followers"] = "mysql-2"
    assert not [step for step in plan_of(ring, *pets, lease=lease).steps if step.kind is Kind.LEASE_CHANGE]
    new = plan_of(ring, *(pet_of(ring, ordinal, channel=None) for ordinal in range(3)), lease=LeaseView())
    assert new.steps[-1].body is not None
    assert new.steps[-1].body["metadata"]["annotations"]["stateful.petset/followers"] == "mysql-2"


def test_a_pet_whose_volume_was_replaced_is_in_sync_no_more() -> None:
    ring = ring_of()
    new = pet_of(ring, 1, channel=None)
    told = lines(plan_of(ring, writer_of(ring, 0, "0:1-9"), new))
    assert told[0] == "change Lease default/mysql (not in sync any more: mysql-1, empty)"
    assert told[1].startswith("mysql-1: CHANGE")
    # As the writer, or as the only one that is in sync, its loss is somebody's decision.
    for lease, words in (
        (lease_of("mysql-1"), "holds the Lease and is empty, while other pets hold data"),
        (lease_of(None, in_sync="mysql-1"), "is named by the Lease as the one that holds every acknowledged write"),
    ):
        said = refusals(plan_of(ring, pet_of(ring, 0, "0:1-9"), new, lease=lease))
        assert f"pet mysql-1: {words}" in said
    # A standby that is merely slow has its channel.
    assert lines(plan_of(ring, writer_of(ring, 0, "0:1-9"), pet_of(ring, 1))) == []


def test_a_writer_is_never_seeded() -> None:
    ring = ring_of()
    big = pet_of(ring, 0, "0:1-9", purged=gtids("0:1-9"))
    for pet, lease in ((pet_of(ring, 1), lease_of("mysql-1")), (writer_of(ring, 1), lease_of(None))):
        assert "a writer is never seeded" in refusals(plan_of(ring, big, pet, lease=lease))


def test_refusals_are_told_together() -> None:
    ring = ring_of()
    plan = plan_of(ring, pet_of(ring, 0, version="8.0.1"), pet_of(ring, 1, version="8.0.1"))
    with pytest.raises(Refused, match=r"mysql-0.*mysql-1") as problem:
        plan.raise_if_refused("mysql")
    assert len(problem.value.details["problems"]) == 2
    assert shorten("x" * 1000).endswith("(1000 characters)")


def test_rp_rep_11_text_in_statements() -> None:
    assert quote("it's") == "'it''s'"
    for text in ("a\\b", "a\nb"):
        with pytest.raises(ValueError, match="not fit"):
            quote(text)


# --- whatever the pets say --------------------------------------------------------------------------------------------

_sets = st.lists(st.sampled_from(["0:1-3", "0:1-5", "1:1-2", "2:1", "x:1"]), max_size=3, unique=True).map(",".join)
_channels = st.sampled_from(
    [
        None,
        {},
        {"retry_count": 10},
        {"host": "old", "received": gtids("0:1-9")},
        {"io": "No", "sql": "No"},
        {"sql": "No", "sql_error": Fault(1062, "Duplicate entry"), "received": gtids("0:1-9"), "retry_count": 5},
    ]
)


@st.composite
def _pets(draw: st.DrawFn, ring: Ring, ordinal: int) -> State:
    if draw(st.integers(0, 5)) == 0:
        return DOWN
    channel = draw(_channels)
    held = draw(_sets)
    more = gtids(held) | gtids(draw(_sets))
    return pet_of(
        ring,
        ordinal,
        held,
        later=more,
        purged=gtids(draw(st.sampled_from(["", "0:1-2"]))) & more,
        channel=None if channel is None else channel_to(ring, ordinal, **channel),
        data_bytes=draw(st.sampled_from([0, 2 << 30])),
    )


_leases = st.sampled_from([LeaseView(), lease_of(), lease_of(None), lease_of(in_sync=None), lease_of("mysql-1")])


@given(st.data(), st.integers(2, 3), _leases)
def test_no_plan_endangers_data(data: st.DataObject, count: int, lease: LeaseView) -> None:
    ring = ring_of(count)
    pets = [data.draw(_pets(ring, ordinal)) for ordinal in range(count)]
    plan = plan_of(ring, *pets, lease=lease)
    assert not plan.refusals or not plan.steps
    for place, step in enumerate(plan.steps):
        assert "RESET" not in step.text
        assert not step.text.startswith("PURGE")
        if not step.pet:
            continue
        state = pets[int(step.pet[-1])]
        assert isinstance(state, PetState)
        if step.kind is Kind.CLONE:
            assert not state.executed
            assert not state.later
        if step.text.startswith("CHANGE") and state.channel and state.channel.received - state.later:
            earlier = [one for one in plan.steps[:place] if one.pet == step.pet]
            assert any(one.kind is Kind.WAIT_APPLIED for one in earlier)
    for step in plan.steps:
        if step.kind in (Kind.LEASE_CREATE, Kind.LEASE_CHANGE) and lease.in_sync is None:
            assert step.body is not None
            named = step.body["metadata"]["annotations"]["stateful.petset/in-sync"].split(",")
            union = GtidSet()
            for state in pets:
                assert isinstance(state, PetState)
                union = union | state.executed
            for name in named:
                best = pets[int(name[-1])]
                assert isinstance(best, PetState)
                assert union <= best.later
