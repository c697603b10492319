# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client knows after each kind of error, and that it never claims to know more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from tests.robustness.history import Intent, Operation, Outcome
from tests.robustness.recorder import NOT_CONNECTED, SURELY_NOT_DONE, classify, error_number
from tests.robustness.workloads.append import Append
from tests.robustness.workloads.base import Client, Target
from tests.robustness.workloads.register import Register
from tests.unit.robustness.histories import A

TARGET = Target("proxy", 3306, "app", "open sesame", "faults")


@pytest.mark.parametrize(
    ("number", "was_sent", "outcome"),
    [
        (2003, False, Outcome.FAIL),
        (1290, True, Outcome.FAIL),
        (1062, True, Outcome.FAIL),
        (2013, True, Outcome.INFO),  # lost during the query: it may have been done
        (2006, True, Outcome.INFO),
        (2013, False, Outcome.FAIL),  # lost during the greeting
        (1180, True, Outcome.INFO),  # error during commit
        (1053, True, Outcome.INFO),  # server shutdown in progress
        (1317, True, Outcome.INFO),  # interrupted: the wait for the acknowledgement may be what was
        (3169, True, Outcome.INFO),
        (None, True, Outcome.INFO),
        (None, False, Outcome.FAIL),
        (99999, True, Outcome.INFO),
    ],
)
def test_classify(number: int | None, was_sent: bool, outcome: Outcome) -> None:
    assert classify(number, was_sent=was_sent) is outcome


def test_no_error_of_a_lost_connection_or_of_a_commit_counts_as_sure() -> None:
    assert not {1053, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1317, 3024, 3169, 2006, 2013} & SURELY_NOT_DONE
    assert not {2006, 2013} & NOT_CONNECTED


def test_error_number() -> None:
    assert error_number(pymysql.err.OperationalError(2013, "gone")) == 2013
    assert error_number(TimeoutError("timed out")) is None
    assert error_number(pymysql.err.InterfaceError("", "x")) is None


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rowcount = 1

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str, arguments: tuple[Any, ...] = ()) -> None:
        if sql == "SELECT @@server_uuid":
            return
        self.connection.sent.append((sql, arguments))
        self.rowcount = self.connection.rowcount
        if self.connection.error is not None:
            raise self.connection.error

    def fetchone(self) -> tuple[str]:
        return (A,)


class Connection:
    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[Any, ...]]] = []
        self.error: Exception | None = None
        self.rowcount = 1
        self.is_closed = False

    def cursor(self) -> Cursor:
        return Cursor(self)

    def close(self) -> None:
        self.is_closed = True


def client(connector: Callable[[Target], Any], job: Any = None) -> tuple[Client, list[Operation]]:
    """A client, and what it has recorded of operations that came to an end."""
    seen: list[Operation] = []
    ticks = iter(range(0, 10_000, 10))

    def record(one: Intent | Operation) -> None:
        if isinstance(one, Operation):
            seen.append(one)

    made = Client(
        3,
        job or Append(100),
        TARGET,
        record,
        connector=connector,
        now_ns=lambda: next(ticks),
        sleep=lambda _: None,
    )
    return made, seen


def test_an_acknowledged_row_is_recorded_with_its_server_and_times() -> None:
    connection = Connection()
    one, seen = client(lambda _: connection)
    one.step()
    one.step()
    assert seen == [
        Operation(3, "append", (100, 1), 0, 10, Outcome.OK, "", A),
        Operation(3, "append", (100, 2), 20, 30, Outcome.OK, "", A),
    ]
    assert [arguments for _, arguments in connection.sent] == [(100, 1), (100, 2)]


def test_what_is_to_be_tried_is_recorded_before_it_is_sent() -> None:
    connection = Connection()
    recorded: list[tuple[Intent | Operation, int]] = []
    one, _seen = client(lambda _: connection)
    one.record = lambda record: recorded.append((record, len(connection.sent)))
    one.step()
    (intent, sent), (done, _sent) = recorded
    assert (intent, sent) == (Intent(3, "append", (100, 1), 0), 0)
    assert isinstance(done, Operation)


def test_after_an_error_the_connection_is_new_and_the_row_is_not_sent_again() -> None:
    first, second = Connection(), Connection()
    first.error = pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
    made = iter([first, second])
    one, seen = client(lambda _: next(made))
    one.step()
    one.step()
    assert first.is_closed
    assert [(op.outcome, op.value) for op in seen] == [(Outcome.INFO, (100, 1)), (Outcome.OK, (100, 2))]


def test_a_connection_that_cannot_be_made_is_a_sure_failure_without_a_server() -> None:
    def refuse(_: Target) -> Any:
        raise pymysql.err.OperationalError(2003, "Can't connect")

    one, seen = client(refuse)
    one.step()
    assert (seen[0].outcome, seen[0].server) == (Outcome.FAIL, "")
    assert "2003" in seen[0].error


def test_a_change_that_changed_nothing_is_not_acknowledged() -> None:
    connection = Connection()
    connection.rowcount = 0
    one, seen = client(lambda _: connection, Register(7))
    one.step()
    assert (seen[0].outcome, seen[0].error) == (Outcome.FAIL, "0 rows changed")


def test_the_password_is_in_no_text() -> None:
    assert "sesame" not in repr(TARGET)
