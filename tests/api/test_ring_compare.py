# SPDX-License-Identifier: GPL-3.0-or-later
"""What a conflicting update does to two real masters, and that comparing their rows finds it, also under load."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Mode
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_compare import Comparison
from ansible_collections.stateful.petset.plugins.module_utils._io.clock import MonotonicClock
from ansible_collections.stateful.petset.plugins.module_utils._io.compare import compare_pets

from tests.api.mysqlds import Mysqld, Rig, running_rig
from tests.api.test_ring import Story
from tests.lab import traffic

pytestmark = [pytest.mark.api, pytest.mark.servers]

EVERY_TYPE = """CREATE TABLE d.types (a INT, b VARCHAR(9), f FLOAT, d DOUBLE, n DECIMAL(10,3), dt DATETIME(6),
    ts TIMESTAMP NULL, y YEAR, t TIME(3), bits BIT(5), e ENUM('a','b'), s SET('x','y'), j JSON, g GEOMETRY, v VECTOR(3),
    bl BLOB, tx TEXT CHARACTER SET latin1, vb VARBINARY(20), ch CHAR(3) CHARACTER SET utf16, `odd ``name` INT,
    made INT GENERATED ALWAYS AS (a + 1) STORED, virt INT GENERATED ALWAYS AS (a + 2), PRIMARY KEY (b, vb))"""
EVERY_VALUE = """INSERT INTO d.types (a, b, f, d, n, dt, ts, y, t, bits, e, s, j, g, v, bl, tx, vb, ch, `odd ``name`)
    VALUES (1, 'é', 1.23456789, 0.1, 1.5, NOW(6), NOW(), 2020, '01:02:03.4', b'101', 'a', 'x,y', '{"a": 1}',
    ST_GeomFromText('POINT(1 2)'), TO_VECTOR('[1,2,3]'), x'00ff', 'é', x'00', 'ab', NULL)"""
CHANGES = {
    "a": "2", "f": "1.2345671", "d": "0.1000000001", "n": "1.501", "dt": "dt + INTERVAL 1 MICROSECOND",
    "ts": "ts - INTERVAL 1 HOUR", "y": "2021", "t": "'01:02:03.5'", "bits": "b'100'", "e": "'b'", "s": "'x'",
    "j": "'{\"a\": 2}'", "g": "ST_GeomFromText('POINT(1 3)')", "v": "TO_VECTOR('[1,2,4]')", "bl": "x'00fe'",
    "tx": "'è'", "ch": "'ac'", "`odd ``name`": "0",
}  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running_rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def masters(rig: Rig) -> tuple[Story, Mysqld, Mysqld]:
    zero, one = rig.add(0), rig.add(1)
    story = Story(rig, mode=Mode.SPREAD)
    story.run()
    for pet in (zero, one):
        pet.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    zero.sql(
        "CREATE DATABASE d",
        "CREATE TABLE d.stock (item INT PRIMARY KEY, shelf INT, sold INT)",
        "INSERT INTO d.stock VALUES (7, 0, 0), (8, 0, 0), (9, 0, 0)",
    )
    story.settle(zero, one)
    return story, zero, one


def compare(story: Story, limit_s: float = 30) -> Comparison:
    return compare_pets(story.ring.pets, story.pets.connector, limit_s, MonotonicClock())


def conflict(story: Story, *pets: Mysqld, statements: tuple[str, str]) -> None:
    """Both change the same row, and neither knows of the other's change."""
    for pet in pets:
        pet.sql("STOP REPLICA FOR CHANNEL 'ring'")
    for pet, statement in zip(pets, statements, strict=True):
        pet.sql(statement)
    for pet in pets:
        pet.sql("START REPLICA FOR CHANNEL 'ring'")
    story.settle(*pets)


def test_a_conflicting_update_stops_nothing_and_is_found(masters: tuple[Story, Mysqld, Mysqld]) -> None:
    story, zero, one = masters
    assert compare(story).as_dict() == {"tables": 1, "different": [], "not_compared": []}
    both = ("UPDATE d.stock SET shelf = 1 WHERE item = 7", "UPDATE d.stock SET sold = 2 WHERE item = 7")
    conflict(story, zero, one, statements=both)
    # Each has the other's row now, replication is content: that is why rows have to be compared.
    assert zero.sql("SELECT * FROM d.stock WHERE item = 7") == [(7, 0, 2)]
    assert one.sql("SELECT * FROM d.stock WHERE item = 7") == [(7, 1, 0)]
    assert zero.gtids() == one.gtids()
    assert story.judge().broken == []
    (found,) = compare(story).different
    assert found.describe() == ("table d.stock differs between mysql-0 and mysql-1 in 1 row, by primary key: 7")
    # The way out that the documentation names: any change of the row carries the whole row over.
    zero.sql("UPDATE d.stock SET sold = 3 WHERE item = 7")
    story.settle(zero, one)
    assert one.sql("SELECT * FROM d.stock WHERE item = 7") == [(7, 0, 3)]
    assert compare(story).different == []


def test_numbers_that_both_masters_draw_at_once_never_collide(
    masters: tuple[Story, Mysqld, Mysqld], monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 rows; then clients change one row on both sides at once, and nothing is stopped for it."""
    story, zero, one = masters
    zero.sql("CREATE TABLE d.drawn (number BIGINT PRIMARY KEY AUTO_INCREMENT, side CHAR(36))")
    story.settle(zero, one)
    turns = itertools.cycle([zero, one])

    def connect(_target: object) -> Any:
        path = str(next(turns).folder / "mysqld.sock")
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        connection = pymysql.connect(unix_socket=path, user="root", database="d", autocommit=True, defer_connect=True)
        connection.connect(sock)
        return connection

    # On the lab it is HAProxy that chooses.
    monkeypatch.setattr(traffic, "connect", connect)
    settings = {"proxy": "", "port": 0, "user": "", "password": "", "database": "d", "rows": 100_000, "batch": 250}
    answer = traffic.fill(settings)
    assert answer["failed"] == []
    story.settle(zero, one)
    counted = "SELECT side, COUNT(*) FROM d.drawn GROUP BY side ORDER BY side"
    assert zero.sql(counted) == one.sql(counted) == [(side, 50_000) for side in sorted(answer["spans"])]
    assert compare(story).as_dict() == {"tables": 2, "different": [], "not_compared": []}
    traffic.conflict(settings)
    story.settle(zero, one)
    assert {
        zero.sql("SELECT * FROM d.stock WHERE item = 7")[0],
        one.sql("SELECT * FROM d.stock WHERE item = 7")[0],
    } == {
        (7, 1, 0),
        (7, 0, 2),
    }
    assert story.judge().broken == []
    (found,) = compare(story).different
    assert found.describe() == "table d.stock differs between mysql-0 and mysql-1 in 1 row, by primary key: 7"


def test_every_type_of_column_is_compared(masters: tuple[Story, Mysqld, Mysqld]) -> None:
    story, zero, one = masters
    zero.sql(EVERY_TYPE, EVERY_VALUE, "CREATE TABLE d.keyless (a INT)", "INSERT INTO d.keyless VALUES (1), (1), (2)")
    story.settle(zero, one)
    assert compare(story).as_dict() == {"tables": 3, "different": [], "not_compared": []}
    for column, value in CHANGES.items():
        one.sql("SET sql_log_bin = 0", f"UPDATE d.types SET {column} = {value}")
        texts = [found.describe() for found in compare(story).different]
        assert texts == ["table d.types differs between mysql-0 and mysql-1 in 1 row, by primary key: é, 00"], column
        zero.sql("SET sql_log_bin = 0", f"UPDATE d.types SET {column} = {value}")
        assert compare(story).different == [], column
    # Rows that are there twice do not cancel each other out.
    one.sql("SET sql_log_bin = 0", "UPDATE d.keyless SET a = 3 WHERE a = 1")
    one.sql("SET sql_log_bin = 0", "CREATE TABLE d.alone (a INT)", "ALTER TABLE d.stock ADD COLUMN more INT")
    assert {found.describe() for found in compare(story).different} == {
        "table d.keyless differs between mysql-0 and mysql-1",
        "table d.alone is on mysql-1 and not on mysql-0",
        "table d.stock has other columns on mysql-0 than on mysql-1",
    }


def test_writes_that_are_on_their_way_are_no_difference(masters: tuple[Story, Mysqld, Mysqld]) -> None:
    story, zero, one = masters
    rows = ", ".join(f"({number}, 0, 0)" for number in range(1000, 1300))
    zero.sql(f"INSERT INTO d.stock VALUES {rows}")
    story.settle(zero, one)
    ended = threading.Event()
    written: list[int] = []

    def load() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            zero.sql(
                f"INSERT INTO d.stock VALUES ({5000 + number}, 0, 0)",
                *[f"UPDATE d.stock SET sold = {number} WHERE item = {1000 + n}" for n in range(number % 7, 300, 7)],
            )
            written.append(number)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _look in range(5):
            before = len(written)
            while len(written) < before + 2:
                assert compare(story).different == []
        one.sql("SET sql_log_bin = 0", "UPDATE d.stock SET shelf = 4 WHERE item = 8")
        (found,) = compare(story).different
        assert found.describe().endswith("in 1 row, by primary key: 8")
    finally:
        ended.set()
        thread.join()
    story.settle(zero, one)


def test_what_cannot_be_compared_is_named(masters: tuple[Story, Mysqld, Mysqld]) -> None:
    story, zero, one = masters
    zero.sql("CREATE TABLE d.very_large (a INT PRIMARY KEY)")
    story.settle(zero, one)
    # Somebody has it locked for longer than the limit.
    held = threading.Thread(target=zero.sql, args=("LOCK TABLES d.very_large WRITE", "SELECT SLEEP(6)"))
    held.start()
    time.sleep(0.5)
    begin = time.monotonic()
    result = compare(story, 3)
    assert time.monotonic() - begin < 5
    held.join()
    assert result.tables == 1
    assert result.not_compared == ["rows were not compared of d.very_large: the limit of 3 s was over"]
    one.sql("STOP REPLICA SQL_THREAD FOR CHANNEL 'ring'")
    zero.sql("INSERT INTO d.stock VALUES (10, 0, 0)")
    text = compare(story, 3).not_compared
    assert len(text) == 1
    assert text[0].startswith("rows were not compared: mysql-1 did not apply within ")
    one.stop()
    (said,) = compare(story).not_compared
    assert said.startswith("rows were not compared: ")


def test_a_thousand_rows_that_differ(masters: tuple[Story, Mysqld, Mysqld]) -> None:
    story, zero, one = masters
    rows = ", ".join(f"({number}, 0, 0)" for number in range(1000, 4000))
    zero.sql(f"INSERT INTO d.stock VALUES {rows}")
    story.settle(zero, one)
    one.sql("SET sql_log_bin = 0", "DELETE FROM d.stock WHERE item >= 3990")
    (found,) = compare(story).different
    assert found.describe().endswith("in 10 rows, by primary key: 3990; 3991; 3992; …")
    one.sql("SET sql_log_bin = 0", "UPDATE d.stock SET shelf = 9")
    (found,) = compare(story).different
    assert found.rows is None
    assert len(found.keys) == 3
