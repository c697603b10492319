# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real mysqlds, two agents from the zip, one real Lease: a story, in order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator

import pymysql
import pytest

from tests.api.agents import Pet, Rig, open_session, running_rig
from tests.api.cluster import Cluster

pytestmark = [
    pytest.mark.servers,
    pytest.mark.api,
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def rig(api: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    namespace = f"agent-{os.getpid()}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with running_rig(tmp_path_factory.mktemp("agent"), api, namespace) as rig:
        yield rig


class Client:
    """Writes through whatever pet says that it is the writer, and keeps what was acknowledged."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.acked, self.failed = rig, [0], 0
        self.acked.clear()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        numbers = itertools.count(int(time.time() * 1e6))
        connection = None
        while not self._end.is_set():
            number = next(numbers)
            try:
                if connection is None:
                    pet = next((one for one in self.rig.pets if one.is_writer()), None)
                    if pet is None:
                        time.sleep(0.02)
                        continue
                    connection = open_session(pet.folder / "mysqld.sock", "app", read_timeout=1.5)
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO app.t VALUES (%s)", (number,))
                self.acked.append(number)
                time.sleep(0.01)
            except (pymysql.err.Error, OSError):
                self.failed += 1
                connection = None
                time.sleep(0.02)


def check_rows(rig: Rig, client: Client) -> None:
    """Every acknowledged row is on both pets, and their histories are equal."""

    def equal() -> bool:
        return len({pet.sql("SELECT @@GLOBAL.gtid_executed")[0][0] for pet in rig.pets}) == 1

    rig.wait(equal, 15, "both have the same history")
    for pet in rig.pets:
        there = {row[0] for row in pet.sql("SELECT id FROM app.t")}
        assert len(client.acked) > 5
        assert set(client.acked) <= there, f"{pet.name} lacks acknowledged rows"


def test_nothing_opens_before_there_is_a_ring(rig: Rig) -> None:
    for pet in rig.pets:
        rig.wait(lambda pet=pet: pet.ask("/healthz")[0] == 200, 20, f"{pet.name} is healthy")
        rig.wait(lambda pet=pet: "no ring was set up yet" in pet.ask("/writer")[1], 5, "it says why")
        assert pet.sql("SELECT @@global.super_read_only") == [(1,)]


def test_one_becomes_the_writer_and_both_are_in_sync(rig: Rig) -> None:
    rig.make_lease()
    rig.wait(rig.pets[0].is_writer, 12, "mysql-0 is the writer")
    rig.wait(lambda: rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"}), 10, "both are in-sync")
    assert not rig.pets[1].is_writer()
    rig.wait(lambda: rig.pets[1].ask("/reader")[0] == 200, 5, "mysql-1 is a reader")
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 20, 5, "rows are acknowledged")
    check_rows(rig, client)
    status = rig.pets[0].status
    assert (status["role"], status["semi_sync"]["source"], status["semi_sync"]["clients"]) == ("writer", True, 1)
    assert "petset_writer 1\n" in rig.pets[0].ask("/metrics")[1]


def test_a_writer_that_is_stopped_hands_over_first(rig: Rig) -> None:
    """stop.sh makes the file and waits for /left; mysqld gets its signal only then."""
    writer, other = rig.pets
    assert writer.mysqld is not None
    leaving = writer.folder / "leaving"
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        assert writer.ask("/left")[0] == 503
        leaving.touch()
        rig.wait(lambda: writer.ask("/left")[0] == 200, 5, "the pet is closed")
        assert writer.sql("SELECT @@global.super_read_only") == [(1,)]
        rig.wait(other.is_writer, 5, "mysql-1 is the writer")
        writer.mysqld.terminate()
        writer.mysqld.wait()
        leaving.unlink()
        writer.start_mysqld()
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are acknowledged again")
        rig.wait(lambda: rig.lease() == ("mysql-1", {"mysql-0", "mysql-1"}), 20, "mysql-0 is in-sync again")
    check_rows(rig, client)
    leaving = other.folder / "leaving"
    leaving.touch()
    rig.wait(writer.is_writer, 10, "mysql-0 is the writer again")
    leaving.unlink()
    rig.wait(lambda: rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"}), 20, "mysql-1 is in-sync again")


def test_a_super_read_only_that_waits_is_not_taken_for_closed(rig: Rig) -> None:
    """Seen on the lab (nfs-restart): a pet that was open for a second more said meanwhile that all was well."""
    writer = rig.pets[0]
    path = writer.folder / "mysqld.sock"
    with open_session(path, "root") as holder, open_session(path, "root") as setter:
        holder.cursor().execute("LOCK TABLES app.t WRITE")
        setter.cursor().execute("SET SESSION lock_wait_timeout = 3")
        failed: list[int] = []

        def close() -> None:
            try:
                setter.cursor().execute("SET GLOBAL super_read_only = ON")
            except pymysql.err.OperationalError as error:
                failed.append(error.args[0])

        thread = threading.Thread(target=close)
        thread.start()
        flags = "SELECT @@global.super_read_only, @@global.read_only"
        rig.wait(lambda: writer.sql(flags) == [(1, 0)], 2, "MySQL says super_read_only and is open")
        asked_s = time.monotonic()
        rig.wait(lambda: writer.status["super_read_only"], 2, "the agent has seen it")
        assert writer.status["role"] == "writer"
        assert time.monotonic() - asked_s < 2.5
        thread.join()
        assert failed == [1205]
    assert writer.sql(flags) == [(0, 0)]
    assert rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"})


def test_both_hang_as_one_storage_is_under_both_and_nobody_takes_over(rig: Rig) -> None:
    changes = rig.lease_changes()
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        for pet in rig.pets:
            assert pet.mysqld is not None
            pet.mysqld.send_signal(signal.SIGSTOP)
        try:
            rig.wait(lambda: "waiting for it" in "; ".join(rig.pets[0].status["reasons"]), 8, "it says that it waits")
            time.sleep(3)
        finally:
            for pet in reversed(rig.pets):
                assert pet.mysqld is not None
                pet.mysqld.send_signal(signal.SIGCONT)
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 8, "rows are acknowledged again")
        assert rig.pets[0].is_writer()
        assert rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"})
    assert rig.lease_changes() == changes, "the lease was handed over"
    check_rows(rig, client)


def test_killed_writer_is_replaced_and_comes_back_as_a_follower(rig: Rig) -> None:
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        assert rig.pets[0].mysqld is not None
        rig.pets[0].mysqld.kill()
        gap_s = rig.wait(rig.pets[1].is_writer, 5, "mysql-1 is the writer")
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are acknowledged again")
        rig.pets[0].restart_mysqld()
        rig.wait(lambda: rig.lease() == ("mysql-1", {"mysql-0", "mysql-1"}), 20, "mysql-0 is in-sync again")
    check_rows(rig, client)
    assert rig.pets[1].is_writer(), "no fail-back"
    print(f"writer again after {gap_s:.2f} s")


LATE = ("UPDATE app.t SET id = -2 WHERE id = -1", "INSERT INTO app.t VALUES (-3)")


@contextlib.contextmanager
def late_commits(rig: Rig, writer: Pet, other: Pet) -> Iterator[None]:
    """The row -1 is on both pets, and then the writer has commits that nobody acknowledges: they change that row.

    Afterwards the other pet has written that row as well. It goes on at the end of the block.
    """
    assert other.agent is not None
    writer.sql("DELETE FROM app.t WHERE id < 0", "INSERT INTO app.t VALUES (-1)")
    told: list[str] = []

    def commit(statement: str) -> None:
        try:
            with open_session(writer.folder / "mysqld.sock", "app") as session:
                session.cursor().execute(statement)
            told.append(statement)
        except (pymysql.err.Error, OSError):
            pass

    rig.wait(lambda: other.sql("SELECT COUNT(*) FROM app.t WHERE id = -1") == [(1,)], 5, "the row is on both")
    # It would start the receiver again at once.
    other.agent.send_signal(signal.SIGSTOP)
    try:
        other.sql("STOP REPLICA IO_THREAD FOR CHANNEL 'ring'")
        threads = [threading.Thread(target=commit, args=(one,)) for one in LATE]
        for thread in threads:
            thread.start()
        # One of them waits for its acknowledgement, and the other behind it.
        waiting = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_STATE LIKE 'Waiting for semi%'"
        held = "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_USER = 'app'"
        rig.wait(lambda: writer.sql(waiting) != [(0,)] and writer.sql(held) == [(2,)], 2, "the commits wait")
        time.sleep(0.1)
        yield
    finally:
        other.agent.send_signal(signal.SIGCONT)
    rig.wait(other.is_writer, 12, f"{other.name} is the writer")
    other.sql("UPDATE app.t SET id = -4 WHERE id = -1")
    for thread in threads:
        thread.join()
    assert told == []


def check_that_late_commits_are_gone(rig: Rig, writer: Pet, other: Pet) -> None:
    rig.wait(lambda: rig.lease() == (other.name, {"mysql-0", "mysql-1"}), 20, f"{writer.name} is in-sync again")
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
    check_rows(rig, client)
    for pet in rig.pets:
        assert pet.sql("SELECT id FROM app.t WHERE id < 0") == [(-4,)]
    assert not (writer.folder / ".petset-cut").exists()


def test_a_killed_writer_comes_back_without_what_it_told_nobody(rig: Rig) -> None:
    """Its log ends with commits that nobody has acknowledged: they would come back and overwrite the other's row."""
    other, writer = rig.pets
    with late_commits(rig, writer, other):
        assert writer.mysqld is not None
        writer.mysqld.kill()
    writer.restart_mysqld()
    check_that_late_commits_are_gone(rig, writer, other)
    assert len(list((writer.folder / ".petset-rewound").iterdir())) == 1
    # The numbers that were cut off are used again, by other transactions.
    assert other.mysqld is not None
    other.mysqld.kill()
    rig.wait(writer.is_writer, 8, "mysql-1 is the writer")
    other.restart_mysqld()
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        rig.wait(lambda: rig.lease() == ("mysql-1", {"mysql-0", "mysql-1"}), 20, "mysql-0 is in-sync again")
    check_rows(rig, client)


def test_a_writer_that_hung_loses_what_it_told_nobody(rig: Rig) -> None:
    """Seen on the lab (mysqld-sigstop): when it woke, its agent closed it and its late commits came to the others."""
    other, writer = rig.pets
    assert writer.mysqld is not None
    with late_commits(rig, writer, other):
        writer.mysqld.send_signal(signal.SIGSTOP)
    assert not writer.is_writer()
    writer.mysqld.send_signal(signal.SIGCONT)
    assert writer.mysqld.wait(10) == -signal.SIGKILL, "its agent has it killed"
    writer.restart_mysqld()
    check_that_late_commits_are_gone(rig, writer, other)


def test_a_writer_whose_node_stood_still_loses_what_it_told_nobody(rig: Rig) -> None:
    """The lease runs out before its agent can do anything; mysqld wakes first."""
    writer, other = rig.pets
    both = (writer.mysqld, writer.agent)
    with late_commits(rig, writer, other):
        for process in both:
            assert process is not None
            process.send_signal(signal.SIGSTOP)
    for process in both:
        assert process is not None
        process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
    assert writer.mysqld is not None
    assert writer.mysqld.wait(10) == -signal.SIGKILL, "its agent has it killed"
    writer.restart_mysqld()
    check_that_late_commits_are_gone(rig, writer, other)


@dataclasses.dataclass(frozen=True)
class Holder:
    """Whose session on the follower does what; what is written then; and what the session waits for after that."""

    user: str
    statements: tuple[str, ...]
    written: str = ""
    waits: str = ""


HOLDERS = {
    # It waits for a row whose transaction waits for the one before, which waits for it: MySQL takes no notice of that.
    "a row's lock, and a wait for another": Holder(
        "app",
        ("START TRANSACTION", "SELECT COUNT(*) FROM app.t WHERE id < 0 FOR SHARE"),
        "INSERT INTO app.t VALUES (-9)",
        "SELECT COUNT(*) FROM app.t FOR SHARE",
    ),
    "a lock on a table": Holder("root", ("LOCK TABLES app.t READ",)),
    "a lock on all tables": Holder("root", ("FLUSH TABLES WITH READ LOCK",)),
    "a transaction before a change of its table": Holder(
        "app", ("START TRANSACTION", "SELECT COUNT(*) FROM app.t"), "ALTER TABLE app.t COMMENT = 'changed'"
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_session_that_holds_the_applier_up_holds_no_failover_up(rig: Rig, name: str) -> None:
    """Seen on the lab (mysqld-kill-behind): the other pet opened only once a session there had let go of its lock."""
    holder = HOLDERS[name]
    writer, other = sorted(rig.pets, key=Pet.is_writer, reverse=True)
    assert writer.mysqld is not None
    path = other.folder / "mysqld.sock"
    with Client(rig) as client, open_session(path, holder.user, read_timeout=60) as session:
        cursor = session.cursor()

        def use() -> None:
            with pytest.raises(pymysql.err.Error):
                cursor.execute(holder.waits or "SELECT SLEEP(60)")

        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        for statement in holder.statements:
            cursor.execute(statement)
        if holder.written:
            writer.sql(holder.written)
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are acknowledged that are not applied")
        told = writer.sql("SELECT @@GLOBAL.gtid_executed")[0][0]
        assert other.sql(f"SELECT GTID_SUBSET('{told}', @@GLOBAL.gtid_executed)") == [(0,)]
        using = threading.Thread(target=use)
        using.start()
        time.sleep(0.3)
        assert using.is_alive()
        writer.mysqld.kill()
        gap_s = rig.wait(other.is_writer, 6, f"{other.name} is the writer")
        using.join(1)
        assert not using.is_alive(), "the session was ended"
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are acknowledged again")
        writer.restart_mysqld()
        rig.wait(lambda: rig.lease() == (other.name, {"mysql-0", "mysql-1"}), 20, f"{writer.name} is in-sync again")
    check_rows(rig, client)
    print(f"writer again after {gap_s:.2f} s")


def test_stopped_follower_is_dropped_and_commits_go_on(rig: Rig) -> None:
    assert rig.pets[0].mysqld is not None
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        rig.pets[0].mysqld.send_signal(signal.SIGSTOP)
        rig.wait(lambda: rig.lease() == ("mysql-1", {"mysql-1"}), 6, "mysql-0 is out")
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are acknowledged again")
        rig.pets[0].mysqld.send_signal(signal.SIGCONT)
        rig.wait(lambda: len(rig.lease()[1]) == 2, 20, "mysql-0 is in-sync again")
    check_rows(rig, client)


def test_both_crash_and_come_back_with_every_row(rig: Rig) -> None:
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        for pet in rig.pets:
            assert pet.mysqld is not None
            pet.mysqld.kill()
        for pet in rig.pets:
            pet.restart_mysqld()
        count = len(client.acked)
        rig.wait(lambda: len(client.acked) > count + 10, 20, "rows are acknowledged again")
        rig.wait(lambda: len(rig.lease()[1]) == 2, 20, "both are in-sync again")
    # Who writes now is left open: the last writer, or the other if that had everything, also what nobody acknowledged.
    check_rows(rig, client)


def test_a_writer_whose_agent_is_stopped_is_replaced_and_closed(rig: Rig) -> None:
    writer = rig.pets[1]
    assert writer.agent is not None
    writer.agent.send_signal(signal.SIGSTOP)
    try:
        rig.wait(rig.pets[0].is_writer, 8, "mysql-0 has taken the lease that ran out")
    finally:
        writer.agent.send_signal(signal.SIGCONT)
    rig.wait(lambda: writer.status["super_read_only"] is True and writer.status["current"], 5, "the old one is closed")
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        rig.wait(lambda: len(rig.lease()[1]) == 2, 20, "mysql-1 is in-sync again")
    check_rows(rig, client)


def test_without_the_api_the_writer_goes_on_as_the_other_has_pledged(rig: Rig) -> None:
    writer = rig.pets[0]
    assert writer.is_writer()
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        failed = client.failed
        rig.api.stop_api()
        try:
            rig.wait(lambda: writer.status["lease"]["renewed_s_ago"] > 6, 20, "the lease was not renewed for 6 s")
            count = len(client.acked)
            rig.wait(lambda: len(client.acked) > count + 10, 5, "rows are still acknowledged")
            assert writer.status["role"] == "writer"
            assert any("nobody else takes it meanwhile" in why for why in writer.status["reasons"])
        finally:
            rig.api.start_api()
        rig.wait(lambda: writer.status["lease"]["renewed_s_ago"] < 2, 20, "the lease is renewed again")
        assert rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"})
        assert client.failed == failed, "no client has noticed"
    check_rows(rig, client)


def test_with_neither_the_api_nor_the_other_the_writer_closes_although_commits_wait(rig: Rig) -> None:
    writer, standby = rig.pets
    assert writer.is_writer()
    assert standby.mysqld is not None
    assert standby.agent is not None
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 5, "rows are acknowledged")
        rig.api.stop_api()
        standby.mysqld.send_signal(signal.SIGSTOP)
        standby.agent.send_signal(signal.SIGSTOP)
        try:
            # With commits that wait offline_mode keeps clients out: super_read_only would wait for them.
            closed = "SELECT @@global.read_only OR @@global.offline_mode"
            rig.wait(lambda: writer.sql(closed) == [(1,)], 8, "the writer is closed")
            count = len(client.acked)
            time.sleep(1)
            assert len(client.acked) == count
            assert writer.ask("/writer")[0] == 503
        finally:
            rig.api.start_api()
            standby.mysqld.send_signal(signal.SIGCONT)
            standby.agent.send_signal(signal.SIGCONT)
        rig.wait(lambda: len(client.acked) > count + 10, 20, "rows are acknowledged again")
        rig.wait(lambda: len(rig.lease()[1]) == 2, 20, "both are in-sync again")
        assert writer.mysqld is not None
        assert writer.mysqld.poll() is None, "nobody else came: what waited is kept"
    check_rows(rig, client)


def test_spread_opens_both_and_single_writer_closes_one(rig: Rig) -> None:
    rig.set_mode("spread")
    rig.wait(lambda: all(pet.is_writer() for pet in rig.pets), 10, "both are writers")
    for number in range(1, 41):
        pet = rig.pets[number % 2]
        pet.sql(f"INSERT INTO app.t VALUES ({number})", user="app")
    rig.wait(
        lambda: all(pet.sql("SELECT COUNT(*) FROM app.t WHERE id BETWEEN 1 AND 40")[0][0] == 40 for pet in rig.pets),
        15,
        "all rows are on both",
    )
    rig.set_mode("single_writer")
    rig.wait(lambda: sum(pet.is_writer() for pet in rig.pets) == 1, 5, "one writer")
    with Client(rig) as client:
        rig.wait(lambda: len(client.acked) > 10, 10, "rows are acknowledged")
    check_rows(rig, client)
