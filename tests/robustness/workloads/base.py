# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the set as applications are: one connection, time-outs of a second, a new connection after any error."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pymysql

from tests.robustness.history import Intent, Operation, Outcome
from tests.robustness.recorder import classify, error_number

# What a client library raises when the other side is gone, slow, or refuses.
CLIENT_ERRORS = (pymysql.MySQLError, OSError, EOFError, ValueError, AttributeError, IndexError)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as whom. The password is not shown by repr."""

    host: str
    port: int
    user: str
    password: str
    database: str
    timeout_s: float = 1.0

    def __repr__(self) -> str:
        return f"Target({self.user}@{self.host}:{self.port}/{self.database})"


def connect(target: Target) -> Any:
    """A connection with TLS. What the certificate says is not looked at: this measures the set, not its names."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return pymysql.connect(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password.encode(),  # text would be taken for Latin-1
        database=target.database,
        autocommit=True,
        connect_timeout=target.timeout_s,
        read_timeout=target.timeout_s,
        write_timeout=target.timeout_s,
        ssl=context,
    )


def connect_plainly(target: Target) -> Any:
    """A connection without TLS, which the pets refuse."""
    return pymysql.connect(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password.encode(),
        connect_timeout=target.timeout_s,
        read_timeout=target.timeout_s,
        ssl_disabled=True,
    )


class Workload(Protocol):
    """What a process does next; no value is used twice, whatever became of the operation."""

    f: str

    def next_value(self) -> tuple[int, ...]:
        """The value of the next operation."""

    def statement(self, value: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        """Its one statement and the arguments."""


class Client:
    """Runs one workload's operations one after the other and records each, before it and after it."""

    def __init__(
        self,
        process: int,
        workload: Workload,
        target: Target,
        record: Callable[[Intent | Operation], None],
        *,
        connector: Callable[[Target], Any] = connect,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        pause_s: float = 0.02,
        retry_s: float = 0.05,
    ) -> None:
        self.process = process
        self.workload = workload
        self.target = target
        self.record = record
        self.connector = connector
        self.now_ns = now_ns
        self.sleep = sleep
        self.pause_s = pause_s
        self.retry_s = retry_s
        self.connection: Any = None
        self.server = ""

    def step(self) -> Operation:
        """One operation, with a connection made before it if there is none."""
        value = self.workload.next_value()
        invoked_ns = self.now_ns()
        self.record(Intent(self.process, self.workload.f, value, invoked_ns))
        was_sent = False
        outcome, error = Outcome.OK, ""
        try:
            if self.connection is None:
                self._open()
            with self.connection.cursor() as cursor:
                was_sent = True
                cursor.execute(*self.workload.statement(value))
                if cursor.rowcount != 1:
                    # no error, but nothing was changed: not what an acknowledgement means
                    outcome, error = Outcome.FAIL, f"{cursor.rowcount} rows changed"
        except CLIENT_ERRORS as problem:
            outcome = classify(error_number(problem), was_sent=was_sent)
            error = f"{type(problem).__name__}: {problem}"[:200]
        done = Operation(self.process, self.workload.f, value, invoked_ns, self.now_ns(), outcome, error, self.server)
        self.record(done)
        if outcome is not Outcome.OK:
            self.close()
        self.sleep(self.pause_s if outcome is Outcome.OK else self.retry_s)
        return done

    def _open(self) -> None:
        self.server = ""
        self.connection = self.connector(self.target)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@server_uuid")
            self.server = str(cursor.fetchone()[0])

    def close(self) -> None:
        """Let the connection go, whatever state it is in."""
        if self.connection is not None:
            with contextlib.suppress(*CLIENT_ERRORS):
                self.connection.close()
        self.connection = None
