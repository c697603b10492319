# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one set under the site playbook: its first run killed at every task, pets that restart or lag while it
runs, a third and a fourth pet under clients, a replica that is written to, a run that is killed during CLONE, writes to
both masters.

The tests are one story, in this order, on one set.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.pets import Pets
from tests.robustness.checkers.base import Verdict
from tests.robustness.checkers.convergence import check_checksums, check_gtids
from tests.robustness.checkers.lost_writes import check_lost_writes, check_registers, check_unexpected_rows
from tests.robustness.checkers.single_writer import check_single_writer
from tests.robustness.history import FinalRead, History, Meta, assemble, read_records
from tests.robustness.processes import stop_process
from tests.robustness.world import DATABASE, Place, World

from .conftest import ROOT, Lab, wait_for
from .sites import Play, Site, a_site, folder_of, pets_of

pytestmark = [pytest.mark.lab, pytest.mark.stories]

NAMESPACE = "test-life"
SMALL = {
    "pet_set_resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "640Mi"}},
    "petset_app": {"user": DATABASE, "database": DATABASE},
}
# Seconds into a task: before the module has begun, in the middle of its requests, in its wait.
MOMENTS = {
    "Export the directories": (0.0, 1.2),
    "Volumes and claims of the pets": (0.0, 1.2),
    "The set of pets": (0.0, 2.0),
    "Replication between the pets": (0.0, 2.0),
    "The proxies": (0.0, 2.0),
}
CHECKS = (
    check_lost_writes,
    check_unexpected_rows,
    check_registers,
    check_gtids,
    check_checksums,
    check_single_writer,
)
BULK_MIB = 96
SLOW_CLONE_MIB_PER_S = 8


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_site(lab, NAMESPACE, tmp_path_factory.mktemp("life"), 5, **SMALL) as site:
        yield site


@pytest.fixture(scope="module")
def pets(lab: Lab) -> Pets:
    return pets_of(lab, NAMESPACE)


def world_of(site: Site, count: int) -> World:
    return World(Place(namespace=NAMESPACE, lab=site.lab.name, replicas=count), site.folder / "world.log")


def writer(pets: Pets) -> str:
    return str(pets.get("lease", "mysql")["spec"]["holderIdentity"])


def standby(pets: Pets) -> str:
    return next(name for name in pets.names[:2] if name != writer(pets))


def settled(site: Site, **variables: Any) -> Play:
    """A run that finds nothing to do."""
    play = site.play("site", **variables)
    assert play.changes == []
    assert play.writes == []
    return play


def actions_of(play: Play) -> list[str]:
    return [action for _host, name, _task, actions in play.changes if "Check" not in name for action in actions]


def starts(pets: Pets) -> dict[str, tuple[str, list[int]]]:
    """Of each pod its uid, and how often each of its containers was restarted."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            [one["restartCount"] for one in pod["status"]["containerStatuses"]],
        )
        for pod in pets.get("pods")["items"]
    }


# --- the first run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grown(site: Site) -> list[tuple[str, float]]:
    """A set that came to be although its first run was killed at every task, each time where the last one got to."""
    foretold = site.play("site", "--check")
    tasks = [(play, task) for _host, play, task, _actions in foretold.changes if "Check" not in play]
    # New ones start while the pets do, so the task comes once more.
    [proxies] = [pair for pair in tasks if pair[1].endswith(" : The proxies")]
    return site.kill_at_each([*tasks, proxies], MOMENTS)


def test_a_first_run_that_is_killed_at_every_task_is_caught_up_with(site: Site, grown: list[tuple[str, float]]) -> None:
    assert set(MOMENTS) <= {name for name, _after_s in grown}
    site.play("site")
    settled(site)
    assert re.search(rf"{NAMESPACE}/mysql: healthy", site.play("status").output)


# --- a second run -----------------------------------------------------------------------------------------------------


def test_a_run_while_a_pet_restarts_waits_and_changes_nothing(site: Site, grown: object, pets: Pets) -> None:
    old = pets.uid(standby(pets))
    name = standby(pets)
    pets.kubectl("delete", "pod", name, "--wait=false")
    settled(site)
    assert pets.uid(name) != old
    assert [pets.is_ready(pet) for pet in pets.names] == [True, True]


def test_a_run_while_replication_catches_up_waits_and_changes_nothing(site: Site, grown: object, pets: Pets) -> None:
    """A lock holds the applier up, so the standby lags, as behind a long transaction."""
    lagging = standby(pets)
    pets.sql(writer(pets), f"CREATE TABLE {DATABASE}.late (a INT PRIMARY KEY AUTO_INCREMENT, b INT)")
    wait_for("the table", lambda: pets.sql(lagging, f'SHOW TABLES FROM {DATABASE} LIKE "late"'), 30)
    words = [*pets.kubectl_argv, f"--namespace={NAMESPACE}", "exec", lagging, "--container=mysqld", "--", "sh", "-c"]
    lock = f"LOCK TABLES {DATABASE}.late READ; SELECT SLEEP(600)"
    mysql = 'MYSQL_PWD="$(cat /petset/secret/root-password)" exec mysql -uroot -S /petset/run/mysqld.sock -e'
    holder = subprocess.Popen([*words, f"{mysql} '{lock}'"], cwd=ROOT, stdout=subprocess.DEVNULL)
    who = 'SELECT id FROM performance_schema.processlist WHERE info = "SELECT SLEEP(600)"'
    session = wait_for("the lock", lambda: pets.sql(lagging, who), 30)
    pets.sql(writer(pets), f"INSERT INTO {DATABASE}.late (b) VALUES (1), (2), (3), (4);" * 8)
    run = site.start("site")
    try:
        run.wait_for_task("TASK [stateful.petset.mysql_replication : Replication between the pets]", 120)
        time.sleep(8)
        assert run.process.poll() is None
        assert pets.sql(lagging, f"SELECT COUNT(*) FROM {DATABASE}.late") == "0"
    finally:
        pets.sql(lagging, f"KILL {session}")
        holder.wait(60)
        play = run.wait()
    assert (play.rc, play.changes, play.writes) == (0, [], []), play.output
    assert pets.sql(lagging, f"SELECT COUNT(*) FROM {DATABASE}.late") == "32"


def test_a_channel_that_somebody_stopped_is_started_and_nothing_else_is_done(
    site: Site, grown: object, pets: Pets
) -> None:
    """By the agent or by the run, whoever sees it first: then the run says that it started it, and only that."""
    lagging = standby(pets)
    pets.sql(lagging, 'STOP REPLICA SQL_THREAD FOR CHANNEL "ring"')
    pets.sql(writer(pets), f"INSERT INTO {DATABASE}.late (b) VALUES (1), (2)")
    play = site.play("site")
    assert set(actions_of(play)) <= {f"{lagging}: START REPLICA FOR CHANNEL 'ring'"}
    wait_for("all rows", lambda: pets.sql(lagging, f"SELECT COUNT(*) FROM {DATABASE}.late") == "34", 30)
    settled(site)


# --- more pets --------------------------------------------------------------------------------------------------------


@dataclass
class Clients:
    """What clients did and what the pets held in the end."""

    history: History | None = None

    def must_be_well(self) -> None:
        assert self.history is not None
        assert sum(1 for _one in self.history.acknowledged()) > 100
        for check in CHECKS:
            found = check(self.history)
            assert found.verdict is Verdict.TRUE, found


@contextlib.contextmanager
def clients_writing(site: Site, count: int, number: int) -> Iterator[Clients]:
    """The clients that log each acknowledgement, through HAProxy; at the end all pets are read."""
    world = world_of(site, count)
    folder = site.folder / f"clients-{number}"
    folder.mkdir()
    settings = {**world.settings(number, 2, 1), "folder": str(folder), "pause_s": 0.05}
    world.client("setup", {**settings, "limit_s": 60}, limit_s=120)
    process = world.start(*world.client_argv("workload"))
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    found = Clients()
    try:
        wait_for("writes", lambda: (folder / "operations.jsonl").exists(), 30)
        yield found
        time.sleep(1)
    finally:
        said = stop_process(process, 30)
    assert said[1].strip() == "", said
    done = world.client("read", {**settings, "limit_s": 60}, limit_s=180)
    finals = [FinalRead(**json.loads(line)) for line in done.out.splitlines() if line.startswith("{")]
    assert [one.pet for one in finals] == list(world.place.pets)
    meta = Meta("none", 0, world.place.pets, time.time_ns() - time.monotonic_ns())
    records = [one for path in sorted(folder.glob("*.jsonl")) for one in read_records(path)]
    found.history = assemble([meta, *records, *finals])


def traffic(site: Site, count: int, command: str, **more: Any) -> dict[str, Any]:
    world = world_of(site, count)
    settings = {**world.settings(0, 1, 1), **more}
    done = world.lab("run", "--", sys.executable, "-m", "tests.lab.traffic", command, text=json.dumps(settings) + "\n")
    answer: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return answer


def test_a_third_pet_is_seeded_by_clone_while_clients_write(site: Site, grown: object, pets: Pets) -> None:
    before = starts(pets)
    site.progress.unlink(missing_ok=True)
    with clients_writing(site, 3, 1) as clients:
        play = site.play("site", petset_replicas=3, mysql_replication_clone_threshold=0)
    done = actions_of(play)
    assert any(action.startswith("mysql-2: CLONE INSTANCE FROM") for action in done), done
    assert "mysql-2: CLONE: " in site.progress.read_text()
    clients.must_be_well()
    after = starts(pets)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"mysql-2"}
    servers = [pets.sql(name, "SELECT @@server_uuid") for name in (*pets.names, "mysql-2")]
    assert traffic(site, 3, "readers", servers=3)["servers"] == sorted(servers)
    assert pets.sql("mysql-2", "SELECT @@super_read_only") == "1"
    settled(site, petset_replicas=3, mysql_replication_clone_threshold=0)


def test_an_errant_transaction_of_a_replica_is_told_by_its_name(site: Site, grown: object, pets: Pets) -> None:
    """No other pet fetches from a replica, so what somebody writes there stays there."""
    options = {"petset_replicas": 3, "mysql_replication_clone_threshold": 0}
    opened = "SET GLOBAL super_read_only = 0; {}; SET GLOBAL super_read_only = 1"
    pets.sql("mysql-2", opened.format("CREATE DATABASE errant"))
    everybody = pets.sql(writer(pets), "SELECT @@global.gtid_executed")
    errant = pets.sql("mysql-2", f'SELECT GTID_SUBTRACT(@@global.gtid_executed, "{everybody}")')
    assert errant == f"{pets.sql('mysql-2', 'SELECT @@server_uuid')}:1"
    try:
        play = site.play("recovery", recovery_check_must_be_healthy=False, recovery_check_second_look=0, **options)
        assert '"    errant_transactions: keep its volume aside' in play.output
        assert f"pet mysql-2: holds transactions that no master has: {errant}" in play.output
        refused = site.play("site", rc=2, **options)
        assert (refused.changes, refused.writes) == ([], [])
        assert f"pet mysql-2: holds transactions that no master has: {errant}" in refused.output
    finally:
        # As somebody who decides that it does not count: the pet without it, all others with an empty one in its place.
        pets.sql("mysql-2", "SET sql_log_bin = 0; " + opened.format("DROP DATABASE errant"))
        pets.sql(writer(pets), f'SET GTID_NEXT = "{errant}"; BEGIN; COMMIT; SET GTID_NEXT = AUTOMATIC')
    site.play("site", **options)
    settled(site, **options)


def test_a_run_that_is_killed_during_clone_is_caught_up_with(site: Site, grown: object, pets: Pets) -> None:
    options = {"petset_replicas": 4, "mysql_replication_clone_threshold": 0}
    root = writer(pets)
    pets.sql(
        root,
        f"CREATE TABLE {DATABASE}.bulk (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB); "
        f"INSERT INTO {DATABASE}.bulk (b) VALUES (RANDOM_BYTES(1024)); "
        f"UPDATE {DATABASE}.bulk SET b = REPEAT(b, 4096); "
        + f"INSERT INTO {DATABASE}.bulk (b) SELECT b FROM {DATABASE}.bulk; " * 4
        + f"INSERT INTO {DATABASE}.bulk (b) SELECT b FROM {DATABASE}.bulk LIMIT {BULK_MIB // 4 - 16}",
    )
    before = starts(pets)
    site.progress.unlink(missing_ok=True)
    with clients_writing(site, 4, 2) as clients:
        run = site.start("site", **options)

        def is_slow() -> bool:
            # The one that receives holds back: so there is time to be killed in, on any machine.
            with contextlib.suppress(AssertionError):
                pets.sql("mysql-3", f"SET GLOBAL clone_max_data_bandwidth = {SLOW_CLONE_MIB_PER_S}")
                return True
            return False

        def is_cloning() -> bool:
            assert run.process.poll() is None, run.printed.read_text()
            return site.progress.exists() and "mysql-3: CLONE: FILE COPY" in site.progress.read_text()

        wait_for("mysqld of mysql-3", is_slow, 200, every_s=0.2)
        wait_for("CLONE", is_cloning, 100, every_s=0.2)
        run.kill()
        assert run.wait().was_killed
        site.play("site", **options)
    clients.must_be_well()
    after = starts(pets)
    assert {name: after[name] for name in before} == before
    assert pets.sql("mysql-3", f"SELECT COUNT(*) FROM {DATABASE}.bulk") == str(BULK_MIB // 4)
    settled(site, **options)


# --- both masters are written to --------------------------------------------------------------------------------------


def test_numbers_drawn_on_both_masters_never_collide_and_a_conflict_is_found(
    site: Site, grown: object, pets: Pets
) -> None:
    options = {"petset_replicas": 4, "petset_mode": "spread"}
    site.play("site", **options)
    settled(site, **options)
    one = writer(pets)
    pets.sql(
        one,
        f"CREATE TABLE {DATABASE}.drawn (number BIGINT PRIMARY KEY AUTO_INCREMENT, side CHAR(36)); "
        f"CREATE TABLE {DATABASE}.stock (item INT PRIMARY KEY, shelf INT, sold INT); "
        f"INSERT INTO {DATABASE}.stock VALUES (7, 0, 0), (8, 0, 0)",
    )
    everywhere = ("mysql-0", "mysql-1", "mysql-2", "mysql-3")
    wait_for(
        "the tables", lambda: all(pets.sql(p, f'SHOW TABLES FROM {DATABASE} LIKE "stock"') for p in everywhere), 30
    )
    answer = traffic(site, 4, "fill", rows=100_000, batch=250)
    assert answer["failed"] == []
    (first, second) = answer["spans"].values()
    # Both sides wrote at the same time for most of it.
    begin, end = max(b for b, _e in (*first, *second)), min(e for _b, e in (*first, *second))
    assert end - begin > 0.5 * (max(e for _b, e in (*first, *second)) - begin)
    counted = f"SELECT side, COUNT(*) FROM {DATABASE}.drawn GROUP BY side ORDER BY side"
    wanted = [word for side in sorted(answer["spans"]) for word in (side, "50000")]
    wait_for("all rows", lambda: all(pets.sql(pet, counted).split() == wanted for pet in everywhere), 60)
    checksum = f"CHECKSUM TABLE {DATABASE}.drawn"
    assert len({pets.sql(pet, checksum) for pet in everywhere}) == 1

    assert f"{NAMESPACE}/mysql: healthy" in site.play("status", **options).output
    traffic(site, 4, "conflict")
    # Nothing has stopped, and without a look at the rows nothing is seen.
    time.sleep(2)
    assert f"{NAMESPACE}/mysql: healthy" in site.play("status", **options, petset_status_compare=False).output
    play = site.play("status", **options)
    assert f"{NAMESPACE}/mysql: broken" in play.output
    assert re.search(rf"table {DATABASE}\.stock differs between mysql-\d.* in 1 row, by primary key: 7", play.output)
    pets.sql(one, f"UPDATE {DATABASE}.stock SET shelf = 3, sold = 3 WHERE item = 7")
    assert f"{NAMESPACE}/mysql: healthy" in site.play("status", **options).output


# --- new pets that find something -------------------------------------------------------------------------------------


def files_of(site: Site, ordinal: int) -> str:
    """Everything in a pet's folder on the NFS server, with sizes and times."""
    script = f"cd {folder_of(NAMESPACE)}/mysql/{ordinal}; find . -mindepth 1 -printf '%p %U %s %T@\\n' | sort"
    done = site.lab.ssh("nfs", script)
    assert done.rc == 0, done.stderr
    return done.stdout


def scale(pets: Pets, count: int) -> None:
    """As somebody does by hand; back when the pod above the count is gone."""
    pets.kubectl("scale", "statefulset", "mysql", f"--replicas={count}")

    def is_gone() -> bool:
        return f"mysql-{count}" not in {pod["metadata"]["name"] for pod in pets.get("pods")["items"]}

    wait_for("the pod above the count is gone", is_gone, 60)


def test_a_new_pet_that_finds_a_strangers_data_in_its_folder_is_refused_by_name(
    site: Site, grown: object, pets: Pets
) -> None:
    """Only the pet itself can look into the folder: it writes nothing there, and the run ends with its words."""
    folder = f"{folder_of(NAMESPACE)}/mysql/4"
    uuid = pets.sql("mysql-0", "SELECT @@server_uuid")
    before = starts(pets)
    try:
        fill = f"mkdir -p {folder}/data/mysql\ncd {folder}/data\n: > mysql.ibd\necho server-uuid={uuid} > auto.cnf"
        assert site.lab.ssh("nfs", fill).rc == 0
        held = files_of(site, 4)
        play = site.play("site", rc=2, petset_replicas=5, petset_mode="spread", petset_wait_timeout=120)
        assert re.search(r"mysql-4: container prepare .*refused: unknown-content: .*\(first entry: data\)", play.output)
        assert files_of(site, 4) == held
        after = starts(pets)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {"mysql-4"}
        record = pets.get("configmap", "mysql-boot")["data"]["known-pets"]
        assert [line.split()[0] for line in record.splitlines()] == ["0", "1", "2", "3"]
    finally:
        scale(pets, 4)
        gone = ("--ignore-not-found", "--timeout=60s")
        pets.kubectl("delete", "persistentvolumeclaim", "db-mysql-4", *gone)
        site.lab.kubectl("delete", "persistentvolume", f"{NAMESPACE}-mysql-4", *gone)
        site.lab.ssh("nfs", f"rm -rf {folder}/data")


def test_a_new_pet_whose_claim_holds_data_already_is_refused_by_name(site: Site, grown: object, pets: Pets) -> None:
    """Of a replica that somebody scaled away: nobody knows how old they are. Told before anything is touched."""
    uuid = pets.sql("mysql-3", "SELECT @@server_uuid")
    try:
        scale(pets, 3)
        before, held = starts(pets), files_of(site, 3)
        play = site.play("site", rc=2, petset_replicas=4, petset_mode="spread")
        had = f"pet mysql-3 had data (server_uuid {uuid}) before the count was lowered"
        assert f"claim {NAMESPACE}/db-mysql-3: {had}" in play.output
        assert f"known-pets in ConfigMap {NAMESPACE}/mysql-boot" in play.output
        assert (play.changes, play.writes) == ([], [])
        assert {task["host"] for task in play.tasks} == {"localhost"}
        assert (starts(pets), files_of(site, 3)) == (before, held)
    finally:
        scale(pets, 4)
    pets_of(site.lab, NAMESPACE, 4).wait_ready()
    assert pets.sql("mysql-3", "SELECT @@server_uuid") == uuid
