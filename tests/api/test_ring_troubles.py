# SPDX-License-Identifier: GPL-3.0-or-later
"""Troubles of replication, staged on two real mysqlds: each is told by its own name, and its way out mends it.

The cases of reports here are about servers alone: what a server takes, refuses or says, whatever it runs in.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import LeaseView
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import Kind, RingStep, change_statement
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import SqlError
from ansible_collections.stateful.petset.plugins.module_utils._io.openssl import make_certificates

from tests.api.mysqlds import REPLICATION_PASSWORD, Mysqld, Rig, run_words, running_rig
from tests.api.test_ring import Story

pytestmark = [pytest.mark.api, pytest.mark.servers]
STOP, START = "STOP REPLICA FOR CHANNEL 'ring'", "START REPLICA FOR CHANNEL 'ring'"


class Ring(Story):
    """Two masters that replicate, mysql-0 the writer, with a table of some rows."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig)
        self.zero, self.one = rig.pets
        self.run()
        assert self.lease.manifest is not None
        self.lease = LeaseView({**self.lease.manifest, "spec": {"holderIdentity": "mysql-0"}})
        self.zero.write("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY, b INT)")
        self.zero.write("INSERT INTO d.t VALUES (1, 1), (2, 2)")
        self.settle(self.zero, self.one)

    def troubles(self) -> dict[str, str]:
        """The words of the standby's troubles with their ways out."""
        told = (found.as_dict() for found in self.judge().troubles)
        return {one["trouble"]: one["way_out"] for one in told if one["pet"] in ("mysql-1", "")}

    def wait_for(self, word: str) -> str:
        """Until the trouble is told; its way out."""
        end = time.monotonic() + 30
        while word not in (told := self.troubles()):
            assert time.monotonic() < end, (word, told, self.judge().reasons)
            time.sleep(0.2)
        return told[word]

    def behind(self, *statements: str, pet: Mysqld | None = None) -> None:
        """Statements on a pet behind the others' backs, the standby by default: in no binary log."""
        (pet or self.one).write("SET SESSION sql_log_bin = 0", *statements)

    def heal(self) -> None:
        """All is well again, by what the collection runs itself and by nothing else."""
        end = time.monotonic() + 30
        while set(self.troubles()) & {found for found in self.troubles() if found.startswith("replication_")}:
            self.run()
            assert time.monotonic() < end, self.judge().reasons
            time.sleep(0.2)
        self.settle(self.zero, self.one)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Ring]]:
    with running_rig(tmp_path_factory.mktemp("ring")) as rig:
        for ordinal in (0, 1):
            rig.add(ordinal)
        ring = Ring(rig)
        yield rig, ring
        ring.pets.close()


@pytest.fixture
def ring(shared: tuple[Rig, Ring]) -> Iterator[Ring]:
    """The ring, well before and after each test."""
    _rig, ring = shared
    ring.heal()
    yield ring
    ring.heal()


def test_a_duplicate_key(ring: Ring) -> None:
    ring.behind("INSERT INTO d.t VALUES (10, 0)")
    ring.zero.write("INSERT INTO d.t VALUES (10, 1)")
    assert "START REPLICA" in ring.wait_for("replication_duplicate_key")
    assert ring.plan().steps == []
    # The way out: the row that does not count is deleted.
    ring.behind("DELETE FROM d.t WHERE a = 10")
    ring.one.sql(START)


def test_a_missing_row(ring: Ring) -> None:
    ring.behind("DELETE FROM d.t WHERE a = 1")
    ring.zero.write("UPDATE d.t SET b = 7 WHERE a = 1")
    assert "bring the row back" in ring.wait_for("replication_missing_row")
    assert ring.plan().steps == []
    ring.behind("INSERT INTO d.t VALUES (1, 1)")
    ring.one.sql(START)


def test_a_relay_log_that_is_damaged(ring: Ring) -> None:
    ring.one.sql("STOP REPLICA SQL_THREAD FOR CHANNEL 'ring'")
    before = {path: path.stat().st_size for path in relay_logs(ring.one)}
    ring.zero.write(*[f"UPDATE d.t SET b = {number} WHERE a = 2" for number in range(20)])
    end = time.monotonic() + 20
    wanted = ring.zero.gtids().rpartition(":")[2]
    while wanted not in str(
        ring.one.sql("SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status")
    ):
        assert time.monotonic() < end
        time.sleep(0.1)
    log = max(relay_logs(ring.one))
    grown = log.stat().st_size - before.get(log, 0)
    with log.open("r+b") as file:
        file.seek(before.get(log, 0) + grown // 2)
        file.write(b"\xff" * 200)
    ring.one.sql("START REPLICA SQL_THREAD FOR CHANNEL 'ring'")
    assert "delete the pod" in ring.wait_for("replication_relay_log")
    assert ring.plan().steps == []
    # The way out: a new start of mysqld, which drops what it received and fetches it again.
    ring.one.stop()
    ring.one.start()


def relay_logs(pet: Mysqld) -> list[Path]:
    return sorted(path for path in (pet.folder / "data").glob("relaylog*.[0-9]*"))


def test_a_source_that_cannot_be_reached(ring: Ring) -> None:
    ring.one.sql(STOP, "CHANGE REPLICATION SOURCE TO SOURCE_PORT = 1 FOR CHANNEL 'ring'", START)
    assert "the way to it" in ring.wait_for("replication_network")


def test_a_password_that_is_not_the_accounts(ring: Ring) -> None:
    ring.behind("ALTER USER petset_repl IDENTIFIED BY 'another'", pet=ring.zero)
    ring.one.sql(STOP, START)
    assert "Secret" in ring.wait_for("replication_password")
    assert "another" not in " ".join(ring.judge().reasons)
    given = pymysql.converters.escape_string(REPLICATION_PASSWORD)
    ring.behind(f"ALTER USER petset_repl IDENTIFIED BY '{given}'", pet=ring.zero)


def test_rp_rep_02_a_channel_without_tls_and_an_empty_cache(ring: Ring) -> None:
    """About servers alone: the source forgets who has logged in, as after a restart."""
    ring.zero.sql("FLUSH PRIVILEGES")
    ring.one.sql(
        STOP, "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 0 FOR CHANNEL 'ring'", START
    )
    ring.wait_for("replication_tls")
    text = " ".join(ring.judge().reasons)
    assert "2061" in text
    assert "SOURCE_SSL=1 (or GET_SOURCE_PUBLIC_KEY=1)" in text
    # What the collection sets cures it.
    assert any("SOURCE_SSL = 1" in line for line in ring.run())
    ring.zero.sql("FLUSH PRIVILEGES")
    ring.one.sql(STOP, START)
    ring.heal()


def test_a_certificate_of_another_authority(ring: Ring, tmp_path: Path) -> None:
    files, _end = make_certificates(run_words, "other.default", ["localhost"], 30)
    (tmp_path / "ca.crt").write_text(files["ca.crt"])
    change = f"CHANGE REPLICATION SOURCE TO SOURCE_SSL_CA = '{tmp_path / 'ca.crt'}' FOR CHANNEL 'ring'"
    ring.one.sql(STOP, change, START)
    ring.wait_for("replication_tls")
    assert "2026" in " ".join(ring.judge().reasons)


OLD = (
    "SHOW MASTER STATUS",
    "SHOW SLAVE STATUS",
    "CHANGE MASTER TO MASTER_HOST = 'a'",
    "START SLAVE",
    "STOP SLAVE",
    "RESET MASTER",
)


def test_rp_rep_01_the_old_words_are_syntax_errors_and_none_is_sent(ring: Ring) -> None:
    """About servers alone."""
    for statement in OLD:
        with pytest.raises(pymysql.err.ProgrammingError) as problem:
            ring.one.sql(statement)
        assert problem.value.args[0] == 1064
    ring.one.sql(STOP, "CHANGE REPLICATION SOURCE TO SOURCE_RETRY_COUNT = 5 FOR CHANNEL 'ring'")
    sent = " ".join(ring.run()).upper()
    assert "CHANGE REPLICATION SOURCE TO" in sent
    assert "START REPLICA" in sent
    assert not [word for word in ("MASTER", "SLAVE") if word in sent]


def test_rp_rep_03_a_password_that_is_too_long_for_a_channel(ring: Ring) -> None:
    """About servers alone: the limit is the server's, and is in bytes."""
    ring.one.sql(STOP)
    for password, number in (("a" * 32, 0), ("é" * 16, 0), ("a" * 33, 3056), ("é" * 32, 3056)):
        step = RingStep(Kind.SQL, "mysql-1", change_statement({"SOURCE_PASSWORD": True}))
        if number:
            with pytest.raises(SqlError, match=str(number)):
                ring.pets.run(step, password, lambda _line: None)
        else:
            ring.pets.run(step, password, lambda _line: None)
    with pytest.raises(pymysql.err.OperationalError) as problem:
        ring.behind(f"CREATE USER {'u' * 33}")
    assert problem.value.args[0] == 1470


def test_rp_rep_05_the_running_server_id_counts(ring: Ring) -> None:
    """About servers alone: a server takes 0, and its peer's, without a word."""
    for wrong, words in ((0, "server_id is 0"), (1001, "the same server_id 1001")):
        ring.zero.sql(f"SET GLOBAL server_id = {wrong}")
        plan = ring.plan()
        assert words in plan.refusals[0].render()
        assert plan.steps == []
        assert ring.judge().word.value == "broken"
        ring.zero.sql("SET GLOBAL server_id = 1000")


@pytest.fixture
def own_ring(tmp_path: Path) -> Iterator[Ring]:
    """One that may be spoilt for good."""
    with running_rig(tmp_path) as rig:
        for ordinal in (0, 1):
            rig.add(ordinal)
        ring = Ring(rig)
        yield ring
        ring.pets.close()


def test_binary_logs_that_are_purged(own_ring: Ring) -> None:
    own_ring.one.sql(STOP)
    own_ring.zero.write("INSERT INTO d.t VALUES (10, 1)")
    own_ring.zero.sql("FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
    own_ring.one.sql(START)
    assert "CLONE" in own_ring.wait_for("replication_purged_log")
    end = time.monotonic() + 20
    while not any(found.pet and found.trouble.value == "replication_purged_log" for found in own_ring.judge().troubles):
        assert time.monotonic() < end, own_ring.judge().reasons
        time.sleep(0.2)
    # Both are told: what the channel says, and what the sets say without any channel.
    assert "1236" in " ".join(own_ring.judge().reasons)


def test_rp_rep_07_a_peer_that_knows_more_of_a_pet_than_the_pet_itself(own_ring: Ring) -> None:
    """About servers alone: the writer loses the tail of its log with its power, its peer has it. Nothing is sent to
    either, and the range is named.
    """
    zero, one = own_ring.zero, own_ring.one
    zero.stop()
    shutil.copytree(zero.folder / "data", zero.folder / "before")
    zero.start()
    own_ring.run()
    zero.write("INSERT INTO d.t VALUES (10, 1)", "INSERT INTO d.t VALUES (11, 1)")
    own_ring.settle(zero, one)
    uuid, last = zero.gtids().split(",")[0].split(":1-")
    zero.stop()
    shutil.rmtree(zero.folder / "data")
    shutil.move(zero.folder / "before", zero.folder / "data")
    zero.start()
    plan = own_ring.plan()
    assert plan.steps == []
    assert f"{uuid}:{int(last) - 1}-{last}" in plan.refusals[0].render()
    assert "lost_transactions" in own_ring.troubles()
    # Both settings that guard against it are the pets' own.
    settings = "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit"
    assert zero.sql(settings) == one.sql(settings) == [(1, 1)]


def test_rp_rep_10_the_old_authentication_is_gone(ring: Ring) -> None:
    """About servers alone; that such settings are refused before a pet sees them is in the unit tests."""
    for statement, number in (
        ("CREATE USER old IDENTIFIED WITH mysql_native_password BY 'x'", 1524),
        ("SELECT @@default_authentication_plugin", 1193),
    ):
        with pytest.raises(pymysql.err.MySQLError) as problem:
            ring.behind(statement)
        assert problem.value.args[0] == number
