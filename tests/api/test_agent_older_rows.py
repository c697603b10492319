# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mysqlds and agents: rows that are older than they seem to be, and a pet with less than it has written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.api.agents import Pet, Rig, running_rig
from tests.api.cluster import Cluster

pytestmark = [
    pytest.mark.servers,
    pytest.mark.api,
    pytest.mark.slow,
]


@pytest.fixture
def rig(request: pytest.FixtureRequest, api: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """mysql-0 writes, and both are in-sync."""
    namespace = f"older-{os.getpid()}-{abs(hash(request.node.name)) % 10000}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with running_rig(tmp_path_factory.mktemp("older"), api, namespace) as rig:
        rig.make_lease()
        rig.wait(lambda: rig.lease() == ("mysql-0", {"mysql-0", "mysql-1"}), 60, "both are in-sync")
        rig.wait(rig.pets[0].is_writer, 5, "mysql-0 is the writer")
        yield rig


def has(pet: Pet, number: int) -> bool:
    return pet.sql(f"SELECT COUNT(*) FROM app.t WHERE id = {number}") == [(1,)]


def write(pet: Pet, *numbers: int) -> None:
    for number in numbers:
        pet.sql(f"INSERT INTO app.t VALUES ({number})", user="app")


def behind_replication(pet: Pet, statement: str) -> None:
    opened = "SET GLOBAL super_read_only = OFF"
    pet.sql("SET SESSION sql_log_bin = 0", opened, statement, "SET GLOBAL super_read_only = ON")


def test_a_replica_behind_a_standby_that_has_stopped_applying_is_no_reader(rig: Rig) -> None:
    """Its receiver and its applier ran, and it was 0 s late: all that its source had sent was here."""
    writer, standby = rig.pets
    replica = rig.add_replica(2, standby)
    write(writer, 1)
    rig.wait(lambda: has(replica, 1) and replica.ask("/reader")[0] == 200, 30, "mysql-2 is a reader")
    behind_replication(standby, "INSERT INTO app.t VALUES (2)")
    write(writer, 2)
    rig.wait(lambda: "1062" in standby.ask("/reader")[1], 10, "an error has stopped the standby")
    write(writer, 3)
    rig.wait(lambda: replica.ask("/reader")[0] == 503, 25, "mysql-2 is no reader")
    said = replica.ask("/reader")[1]
    assert "lacks rows that mysql-0 had 10 s ago, which reach it through mysql-1: no reader" in said
    assert replica.status["channels"][0]["lag_s"] == 0
    assert (replica.status["channels"][0]["io"], replica.status["channels"][0]["sql"]) == ("Yes", "Yes")
    assert writer.ask("/reader")[0] == 200
    assert writer.is_writer()
    behind_replication(standby, "DELETE FROM app.t WHERE id = 2")
    standby.sql("START REPLICA SQL_THREAD FOR CHANNEL 'ring'")
    rig.wait(lambda: has(replica, 3) and replica.ask("/reader")[0] == 200, 15, "mysql-2 is a reader again")


def test_rp_rep_07_a_last_writer_with_an_older_copy_of_its_data_does_not_open(rig: Rig) -> None:
    """It opened, and gave its numbers out a second time, for other rows: both kept their own and nobody noticed."""
    writer, standby = rig.pets
    write(writer, 1)
    older = writer.folder / "older"
    writer.sql(f"CLONE LOCAL DATA DIRECTORY = '{older}'")
    shutil.copy(writer.folder / "data" / "auto.cnf", older)
    write(writer, 2, 3)
    rig.wait(lambda: has(standby, 3), 10, "all rows are on both")
    uuid = writer.status["server_uuid"]
    for pet in rig.pets:
        assert pet.mysqld is not None
        pet.mysqld.kill()
        pet.mysqld.wait()
    (writer.folder / "data").rename(writer.folder / "kept")
    older.rename(writer.folder / "data")
    for pet in rig.pets:
        pet.restart_mysqld()
    # The agents know of each other's transactions before that.
    rig.wait(lambda: all(pet.is_up() for pet in rig.pets), 30, "both have started")
    rig.wait(lambda: "transactions of its own that mysql-1 has" in writer.ask("/writer")[1], 20, "it says why")
    end_s = time.monotonic() + 8
    while time.monotonic() < end_s:
        for pet in rig.pets:
            assert pet.sql("SELECT @@global.super_read_only") == [(1,)]
        time.sleep(0.2)
    said = writer.ask("/reader")
    assert said[0] == 503
    assert f"({uuid}:" in said[1]
    assert "keep its volume aside, give it an empty one, and run site" in said[1]
    assert "came back without transactions of its own" in standby.ask("/writer")[1]
    assert rig.lease()[0] == ""
    # The right volume is there after all.
    assert writer.mysqld is not None
    writer.mysqld.kill()
    writer.mysqld.wait()
    shutil.rmtree(writer.folder / "data")
    (writer.folder / "kept").rename(writer.folder / "data")
    writer.restart_mysqld()
    rig.wait(lambda: any(pet.is_writer() for pet in rig.pets), 20, "one writes again")
    rig.wait(lambda: len(rig.lease()[1]) == 2, 20, "both are in-sync again")
    for pet in rig.pets:
        assert pet.sql("SELECT id FROM app.t ORDER BY id") == [(1,), (2,), (3,)]
