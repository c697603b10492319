# SPDX-License-Identifier: GPL-3.0-or-later
"""The ring on real mysqlds: planned, applied, judged; second plans are empty; what is unsafe is refused by name."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import LeaseView, Mode, PetState, Ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_judge import (
    RingJudgement,
    judge_ring,
    render_ring_table,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import (
    Kind,
    RingPlan,
    RingStep,
    change_statement,
    hash_password,
    plan_ring,
)
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import ChannelRuns, Pets, SqlError

from tests.api.mysqlds import ADMIN_PASSWORD, REPLICATION_PASSWORD, Mysqld, Rig, running_rig
from tests.hidden import find_hidden

pytestmark = [pytest.mark.api, pytest.mark.servers]
CASES = Path(__file__).resolve().parents[1] / "unit/cases/reports"
# What the agents' Lease says while mysql-0 is the only pet that has all acknowledged writes.
ALONE = {
    "metadata": {
        "annotations": {"stateful.petset/in-sync": "mysql-0", "stateful.petset/mode": "single_writer"},
        "labels": {"app.kubernetes.io/managed-by": "stateful.petset", "stateful.petset/set": "mysql"},
    },
    "spec": {"holderIdentity": "mysql-0"},
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running_rig(tmp_path) as rig:
        yield rig


class Story:
    """What the module does, with a Lease that is only remembered."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self.ring: Ring = rig.ring(**options)
        self.pets = Pets(self.ring, rig.connector())
        self.lease = LeaseView()
        self.lines: list[str] = []

    def plan(self) -> RingPlan:
        return plan_ring(self.ring, self.pets.observe(), self.lease, hash_password(REPLICATION_PASSWORD))

    def run(self) -> list[str]:
        plan = self.plan()
        plan.raise_if_refused("mysql")
        for step in plan.steps:
            if step.kind is Kind.LEASE_CREATE:
                assert step.body is not None
                self.lease = LeaseView(step.body)
            else:
                self.pets.run(step, REPLICATION_PASSWORD, self.lines.append)
        return [step.describe() for step in plan.steps]

    def judge(self) -> RingJudgement:
        states = self.pets.observe()
        return judge_ring(self.ring, states, self.lease, plan_ring(self.ring, states, self.lease))

    def settle(self, *pets: Mysqld) -> None:
        end = time.monotonic() + 30
        while len({pet.gtids() for pet in pets}) > 1:
            assert time.monotonic() < end, [pet.gtids() for pet in pets] + [self.judge().reasons]
            time.sleep(0.1)


def test_the_life_of_a_ring(rig: Rig) -> None:
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    assert story.judge().word.value == "degraded"
    done = story.run()
    assert [line.split(" ")[0:2] for line in done] == [
        ["mysql-0:", "CHANGE"],
        ["mysql-0:", "START"],
        ["mysql-1:", "CHANGE"],
        ["mysql-1:", "START"],
        ["create", "Lease"],
    ]
    secrets = {"admin": ADMIN_PASSWORD, "replication": REPLICATION_PASSWORD}
    assert find_hidden(secrets, {"steps": " ".join(done)}) == []
    assert story.lease.in_sync == ("mysql-0",)

    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    story.settle(zero, one)
    one.write("INSERT INTO d.t VALUES (2)")
    story.settle(zero, one)
    assert zero.sql("SELECT a FROM d.t ORDER BY a") == one.sql("SELECT a FROM d.t ORDER BY a") == [(1,), (2,)]
    assert story.run() == []

    # A setting that somebody changed is set again, and nothing else; the password is compared too.
    one.sql(
        "STOP REPLICA FOR CHANNEL 'ring'",
        "CHANGE REPLICATION SOURCE TO SOURCE_RETRY_COUNT = 5 FOR CHANNEL 'ring'",
        "START REPLICA FOR CHANNEL 'ring'",
    )
    changed = story.run()
    assert any("TO SOURCE_RETRY_COUNT = 0 FOR CHANNEL" in line for line in changed), changed
    assert not any("mysql-0" in line for line in changed)
    one.sql(
        "STOP REPLICA FOR CHANNEL 'ring'",
        "CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'wrong' FOR CHANNEL 'ring'",
    )
    assert any("SOURCE_PASSWORD = <replication-password>" in line for line in story.run())
    assert story.run() == []

    # A third: empty, with what it needs purged from the logs of both, is seeded by CLONE.
    for pet in (zero, one):
        pet.sql("FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
    two = rig.add(2)
    before = two.sql("SELECT @@server_uuid")
    # As its start makes the application's; under super_read_only nobody may drop it, so that CLONE got error 1290.
    two.write("SET SESSION sql_log_bin = 0", "CREATE DATABASE shop")
    # What the pet's own start checks looks for has to outlive a CLONE.
    (two.folder / "data/.petset-identity.json").write_text("{}")
    story = Story(rig)
    story.lease = LeaseView(ALONE)
    cloned = story.run()
    assert "CLONE INSTANCE FROM 'petset_repl'@'127.0.0.1':" in cloned[-1], cloned
    assert "purged" in cloned[-1]
    two.wait()
    assert two.restarts == 1
    assert two.sql("SELECT @@server_uuid") == before
    assert two.sql("SELECT @@super_read_only") == [(1,)]
    assert list(two.sql("SHOW DATABASES LIKE 'shop'")) == []
    for kept in ("auto.cnf", ".petset-identity.json", "mysql.ibd", "mysql"):
        assert (two.folder / "data" / kept).exists()
    follow = story.run()
    assert any("SOURCE_CONNECTION_AUTO_FAILOVER = 1" in line for line in follow), follow
    assert sum("asynchronous_connection_failover_add_source" in line for line in follow) == 2
    zero.write("INSERT INTO d.t VALUES (3)")
    story.settle(zero, one, two)
    assert story.run() == []
    assert two.sql("SELECT COUNT(*) FROM d.t") == [(3,)]

    # MySQL's own failover: the replica follows the other master when its source is gone, and the plan stays empty.
    source = two.sql("SHOW REPLICA STATUS")[0]
    gone, left = (zero, one) if str(zero.port) in map(str, source) else (one, zero)
    gone.stop()
    left.write("INSERT INTO d.t VALUES (4)")
    story.settle(left, two)
    judged = story.judge()
    assert judged.word.value == "uncertain", judged.summary()
    assert any(gone.name in reason for reason in judged.uncertain)
    assert story.run() == []
    gone.start()
    end = time.monotonic() + 30
    while "ON" not in str(gone.sql("SELECT SERVICE_STATE FROM performance_schema.replication_connection_status")):
        assert time.monotonic() < end
        story.run()
        time.sleep(0.3)
    story.settle(zero, one, two)

    # Both sources away for longer than it tries one of them: it goes on trying.
    for pet in (zero, one):
        pet.stop()
    time.sleep(12)
    for pet in (zero, one):
        pet.start()
    zero.write("INSERT INTO d.t VALUES (5)")
    story.run()
    story.settle(zero, one, two)

    # An errant transaction on the replica is refused by its name.
    two.write("CREATE DATABASE errant")
    uuid = two.sql("SELECT @@server_uuid")[0][0]
    plan = story.plan()
    assert f"{uuid}:1" in plan.refusals[0].render()
    assert "mysql-2" in plan.refusals[0].render()
    assert plan.steps == []
    assert story.judge().word.value == "broken"
    story.pets.close()


def led_by(story: Story, holder: str) -> None:
    """What the agents do with the Lease that the first run has made."""
    assert story.lease.manifest is not None
    story.lease = LeaseView({**story.lease.manifest, "spec": {"holderIdentity": holder}})


def test_a_third_pet_fetches_the_binary_logs_when_they_reach_back_and_data_are_small(rig: Rig) -> None:
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    story.run()
    # The data are in several logs, the first ones closed long before the third pet comes.
    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY, b LONGBLOB)", "FLUSH BINARY LOGS")
    for row in range(8):
        zero.write(f"INSERT INTO d.t VALUES ({row}, REPEAT('x', 1048576))", "FLUSH BINARY LOGS")
    story.settle(zero, one)
    lease = story.lease
    two = rig.add(2)
    story.pets.close()
    story = Story(rig)
    story.lease = lease
    led_by(story, "mysql-0")
    assert all(pet.sql("SELECT @@GLOBAL.gtid_purged") == [("",)] for pet in (zero, one))
    # It is the limit that decides, by what the donor really holds.
    donor, ring = story.pets.observe()["mysql-1"], story.ring
    assert isinstance(donor, PetState)
    mib = donor.data_bytes // 1048576
    assert 8 < mib < ring.clone_over_mib
    for limit, is_copied in ((mib - 1, True), (mib + 1, False)):
        story.ring = replace(ring, clone_over_mib=limit)
        assert any(step.kind is Kind.CLONE for step in story.plan().steps) is is_copied
    story.ring = ring
    done = story.run()
    assert [line.split(" ")[0:2] for line in done] == [
        ["mysql-2:", "CHANGE"],
        ["mysql-2:", "START"],
        ["mysql-2:", "SELECT"],
        ["mysql-2:", "SELECT"],
    ]
    zero.write("INSERT INTO d.t VALUES (100, 'after')")
    story.settle(zero, one, two)
    for pet in rig.pets:
        assert pet.sql("SELECT COUNT(*), SUM(LENGTH(b)) FROM d.t") == [(9, 8 * 1048576 + 5)]
    assert len({str(pet.sql("CHECKSUM TABLE d.t")) for pet in rig.pets}) == 1
    # No copy: the pet was not started anew, and it has every transaction in a log of its own.
    assert two.restarts == 0
    assert two.sql("SELECT @@GLOBAL.gtid_purged") == [("",)]
    assert two.sql("SELECT COUNT(*) FROM performance_schema.clone_status") == [(0,)]
    assert story.run() == []
    judged = story.judge()
    assert (judged.pets[2].role, judged.pets[2].channel) == ("replica", "running")
    assert judged.broken == judged.uncertain == []
    story.pets.close()


def test_the_late_transactions_of_a_writer_that_died_are_named_until_they_are_merged(rig: Rig) -> None:
    """It was killed with a commit in its log that nobody had acknowledged, and the other pet is the writer since."""
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    story.run()
    led_by(story, "mysql-0")
    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)")
    story.settle(zero, one)
    uuid, numbers = zero.gtids().split(":")
    late = f"{uuid}:{int(numbers.split('-')[-1]) + 1}"

    zero.sql("SET GLOBAL rpl_semi_sync_source_enabled = ON", "SET GLOBAL super_read_only = OFF")
    zero.sql("SET GLOBAL read_only = OFF")
    one.sql("STOP REPLICA FOR CHANNEL 'ring'")
    answers: list[object] = []

    def commit() -> None:
        try:
            answers.append(zero.sql("INSERT INTO d.t VALUES (1)"))
        except (pymysql.err.MySQLError, OSError):
            answers.append(None)

    thread = threading.Thread(target=commit)
    thread.start()
    # Nothing shorter: a thread of semi-sync itself waits for semi-sync replicas, before anything is in the log.
    state = "Waiting for semi-sync ACK from replica"
    waiting = f"SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_STATE = '{state}'"
    end = time.monotonic() + 20
    while zero.sql(waiting) == [(0,)]:
        assert time.monotonic() < end, zero.sql("SHOW PROCESSLIST")
        time.sleep(0.05)
    zero.stop(signal.SIGKILL)
    thread.join()
    assert answers == [None]
    led_by(story, "mysql-1")
    one.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF", "INSERT INTO d.t VALUES (2)")

    zero.start()
    judged = story.judge()
    assert (judged.writer, judged.pets[0].role, judged.pets[0].late) == ("mysql-1", "standby", late)
    assert judged.pets[0].errant == judged.pets[1].late == ""
    assert judged.word.value == "degraded"
    told = [found for found in judged.troubles if found.trouble.value == "late_transactions"]
    assert [(found.pet, late in found.evidence) for found in told] == [("mysql-0", True)]
    table = render_ring_table(judged)
    assert f"late: {late}" in table
    assert f"certain: mysql-0 has {late}, which the writer has not; the ring merges it unacknowledged" in table

    # What it says comes true: the ring merges them, both hold both rows, and nothing is late any more.
    story.run()
    story.settle(zero, one)
    for pet in (zero, one):
        assert pet.sql("SELECT a FROM d.t ORDER BY a") == [(1,), (2,)]
    judged = story.judge()
    assert [pet.late for pet in judged.pets] == ["", ""]
    assert not any(found.trouble.value == "late_transactions" for found in judged.troubles)
    story.pets.close()


@pytest.mark.stories
def test_a_run_that_is_killed_during_clone_is_caught_up_with(rig: Rig) -> None:
    """Nobody waits for the CLONE any more; the pet goes on with it, ends, is started anew, and the next run knows."""
    zero, two = rig.add(0), rig.add(2)
    ring = replace(rig.ring(clone_over_mib=0), masters=1)
    # MiB/s, so that there is time to be killed in; it is the one that receives who holds back.
    two.sql("SET GLOBAL clone_max_data_bandwidth = 16")
    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    zero.write("CREATE TABLE d.big (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
    zero.write(*["INSERT INTO d.big (b) VALUES (RANDOM_BYTES(1024)), (REPEAT('x', 8388608))"] * 16)
    story = Story(rig)
    story.ring = ring
    story.pets = Pets(ring, rig.connector())
    story.lease = LeaseView(ALONE)
    steps = story.plan().steps
    assert [step.kind for step in steps] == [Kind.SQL, Kind.SQL, Kind.SQL, Kind.CLONE]
    lines = rig.folder / "lines"
    pid = os.fork()
    if pid == 0:
        # A process of its own, which is killed as it is, connections and all.
        try:
            pets = Pets(ring, rig.connector())
            with lines.open("a", buffering=1) as file:
                for step in steps:
                    pets.run(step, REPLICATION_PASSWORD, lambda line: print(line, file=file))
        except BaseException:  # noqa: BLE001 - it must never come back into the tests
            lines.write_text(traceback.format_exc())
        finally:
            os._exit(0)
    end = time.monotonic() + 20
    while not lines.exists() or "FILE COPY" not in lines.read_text():
        assert time.monotonic() < end, lines.read_text()
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    # The first look of the next run: seen as what it is, and nothing is begun a second time.
    plan = story.plan()
    (pending,) = plan.pending
    assert re.fullmatch(r"mysql-2 is being seeded by CLONE: [A-Z ]+, \d+ of \d+ MiB", pending)
    assert plan.steps == []
    assert story.judge().word.value == "degraded"
    end = time.monotonic() + 90
    while not any("START REPLICA" in line for line in story.run()):
        assert time.monotonic() < end, story.plan().pending
        time.sleep(0.3)
    assert two.restarts == 1
    story.settle(zero, two)
    assert two.sql("SELECT * FROM d.t") == [(1,)]
    assert story.run() == []
    story.pets.close()


def test_rp_rep_13_ten_looks_under_load_are_clean(rig: Rig) -> None:
    """The same on the lab is in tests/lab/test_cases.py."""
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    story.run()
    led_by(story, "mysql-0")
    zero.sql(
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
        "CREATE DATABASE d",
        "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT)",
    )
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            zero.sql("INSERT INTO d.t VALUES ()")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _look in range(10):
            judged = story.judge()
            assert judged.broken == [], judged.summary()
            assert not any(pet.errant or pet.late for pet in judged.pets)
            assert story.plan().steps == []
    finally:
        ended.set()
        thread.join()
    story.settle(zero, one)
    story.pets.close()


def test_a_change_of_a_channel_that_runs_is_told_apart(rig: Rig) -> None:
    rig.add(0)
    rig.add(1)
    story = Story(rig)
    story.run()
    told = []
    for settings in (
        {"SOURCE_RETRY_COUNT": 3},
        {"SOURCE_DELAY": 1},
        {"SOURCE_RETRY_COUNT": 3, "SOURCE_CONNECTION_AUTO_FAILOVER": 1},
    ):
        with pytest.raises(ChannelRuns) as found:
            story.pets.run(RingStep(Kind.SQL, "mysql-1", change_statement(settings)), "", story.lines.append)
        told.append(found.value.details["mysql_error"])
    # The receiver, the applier, both.
    assert told == [3021, 3085, 3081]
    story.pets.close()


def test_unrelated_data_is_refused(rig: Rig) -> None:
    zero, one = rig.add(0), rig.add(1)
    for pet in (zero, one):
        pet.write(f"CREATE DATABASE d{pet.ordinal}")
    story = Story(rig)
    plan = story.plan()
    assert plan.steps == []
    text = plan.refusals[0].render()
    for pet in (zero, one):
        assert f"only {pet.name} has {pet.sql('SELECT @@server_uuid')[0][0]}:1" in text
    story.pets.close()


def test_a_wrong_password_and_a_dead_pet_are_told_by_name(rig: Rig) -> None:
    rig.add(0)
    rig.add(1).stop()
    pets = Pets(rig.ring(), rig.connector("wrong"))
    states = pets.observe()
    assert getattr(states["mysql-0"], "kind", "") == "access_denied"
    assert getattr(states["mysql-1"], "kind", "") == "lost"
    assert "wrong" not in repr(states)


def test_a_change_waits_for_what_was_received(rig: Rig) -> None:
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    story.run()
    one.sql("STOP REPLICA SQL_THREAD FOR CHANNEL 'ring'")
    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    end = time.monotonic() + 20
    received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status"
    while ":1-3" not in str(one.sql(received)):
        assert time.monotonic() < end
        time.sleep(0.1)
    changed = replace(story.ring, ca_path=str(rig.folder / "tls/other.crt"))
    (rig.folder / "tls/other.crt").write_text((rig.folder / "tls/ca.crt").read_text())
    story.ring = changed
    done = story.run()
    words = [line.split()[1] for line in done if line.startswith("mysql-1")]
    assert words == ["STOP", "START", "wait", "STOP", "CHANGE", "START"], done
    assert one.sql("SELECT a FROM d.t") == [(1,)]
    story.pets.close()


def test_rp_rep_04_a_copied_data_folder(rig: Rig) -> None:
    """About servers alone: a copied auto.cnf is the same wherever they run."""
    zero = rig.add(0)
    uuid = zero.sql("SELECT @@server_uuid")[0][0]
    rig.add(1, auto_cnf=(zero.folder / "data/auto.cnf").read_text())
    story = Story(rig)
    plan = story.plan()
    assert f"pets mysql-0 and mysql-1: have the same server_uuid {uuid}" in plan.refusals[0].render()
    assert plan.steps == []
    story.pets.close()


def test_rp_rep_06_purged_logs_are_named(rig: Rig) -> None:
    """About servers alone: what their logs still hold."""
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig)
    story.run()
    zero.write("CREATE DATABASE d")
    story.settle(zero, one)
    one.sql("STOP REPLICA FOR CHANNEL 'ring'")
    zero.write("CREATE DATABASE e")
    zero.sql("FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
    text = story.plan().refusals[0].render()
    assert f"has already purged from its binary logs: {zero.sql('SELECT @@server_uuid')[0][0]}:2" in text
    assert story.judge().word.value == "broken"
    story.pets.close()


def test_rp_rep_08_a_conflict_is_reported_and_not_skipped(rig: Rig) -> None:
    """About servers alone: the rows of both, whatever they run in."""
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig, mode=Mode.SPREAD)
    story.run()
    zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b INT)")
    story.settle(zero, one)
    for pet in (zero, one):
        pet.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
        pet.sql(*["INSERT INTO d.t (b) VALUES (1)"] * 20)
    story.settle(zero, one)
    assert zero.sql("SELECT COUNT(*) FROM d.t") == one.sql("SELECT COUNT(*) FROM d.t") == [(40,)]
    one.sql("STOP REPLICA FOR CHANNEL 'ring'")
    for pet in (zero, one):
        pet.sql("INSERT INTO d.t VALUES (1000, 1)")
    one.sql("START REPLICA FOR CHANNEL 'ring'")
    # Each of the two meets the other's row, in whatever order.
    words = ["1062", "d.t", *(pet.sql("SELECT @@server_uuid")[0][0] for pet in (zero, one))]
    end = time.monotonic() + 20
    while not all(word in (text := " ".join(story.judge().broken)) for word in words):
        assert time.monotonic() < end, (words, text)
        time.sleep(0.2)
    # Nothing is skipped, and nothing is tried again blindly.
    assert story.plan().steps == []
    assert "1062" in " ".join(story.judge().broken)
    story.pets.close()


PASSWORDS = yaml.safe_load((CASES / "rp-rep-11.yml").read_text())["inputs"]


@pytest.mark.parametrize("sql_mode", ["", "NO_BACKSLASH_ESCAPES"])
def test_rp_rep_11_each_password_arrives_whole(rig: Rig, sql_mode: str) -> None:
    zero = rig.add(0)
    zero.sql(f"SET GLOBAL sql_mode = '{sql_mode}'")
    pets = Pets(rig.ring(), rig.connector())
    assert len(PASSWORDS) > 15
    for password in [*PASSWORDS, "é" * 16]:
        if len(password.encode()) > 32:
            continue
        step = RingStep(Kind.SQL, "mysql-0", change_statement({"SOURCE_HOST": "a", "SOURCE_PASSWORD": True}))
        pets.run(step, password, lambda _line: None)
        state = pets.observe()["mysql-0"]
        assert isinstance(state, PetState)
        assert state.channel is not None
        assert state.channel.password_hash == hash_password(password), password
    with pytest.raises(SqlError) as problem:
        pets.run(step, "x" * 33, lambda _line: None)
    assert problem.value.details["mysql_error"] == 3056
    assert "xxx" not in problem.value.render()
    pets.close()
