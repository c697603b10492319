# SPDX-License-Identifier: GPL-3.0-or-later
"""probe.sh and stop.sh against a made-up process table and a server that greets, is silent, or is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.roles.pet_set.boot_rig import Rig, in_each_shell

pytestmark = pytest.mark.programs

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(tmp_path / "pod", getattr(request, "param", ("sh",)))


def process(rig: Rig, state: str = "S", name: str = "mysqld") -> None:
    """Process 1 in this state, with the marker that start.sh leaves."""
    (rig.root / "petset" / "run" / "main.pid").write_text("1\n")
    folder = rig.root / "proc" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(f"1 ({name}) {state} 0 1 1 0 -1 4194560 1 0 0\n")


def listening(rig: Rig, port: int, *, table: str = "tcp") -> None:
    folder = rig.root / "proc" / "net"
    folder.mkdir(parents=True, exist_ok=True)
    local = "0" * (8 if table == "tcp" else 32)
    (folder / table).write_text(
        f"{HEADER}   0: 0100007F:0CEB {'0' * 8}:0000 0A 00000000:00000000 00:00000000 00000000   999  0 1 1 0\n"
        f"   1: {local}:{port:04X} {local}:0000 0A 00000000:00000000 00:00000000 00000000   999        0 2 1 0\n"
    )


@contextlib.contextmanager
def server(greeting: bytes) -> Iterator[int]:
    """A port that says ``greeting`` to whoever connects; nothing means that it only listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(greeting)

        if greeting:
            threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def probe(rig: Rig, what: str, port: int = 3306) -> tuple[int, str]:
    done = rig.run("probe.sh", what, PETSET_PORT=str(port))
    assert done.stderr == ""
    return done.returncode, done.stdout


GREETING = b"\x4a\x00\x00\x00\x0a9.7.4\x00"
TOO_MANY = b"\x17\x00\x00\x00\xff\x10\x04Too many connections"


@in_each_shell
def test_before_mysqld(rig: Rig) -> None:
    """start.sh still waits for a lock: not started, not ready, and no reason to kill it."""
    assert probe(rig, "startup") == (1, "still checking the volume, or waiting for its lock\n")
    assert probe(rig, "live")[0] == 0
    assert probe(rig, "ready")[0] == 1


def test_shell_that_is_about_to_become_mysqld(rig: Rig) -> None:
    process(rig, name="sh")
    assert probe(rig, "startup")[0] == 1
    assert probe(rig, "live")[0] == 0


@in_each_shell
def test_crash_recovery_is_live_and_not_ready(rig: Rig) -> None:
    process(rig, "D")
    assert probe(rig, "startup") == (0, "")
    assert probe(rig, "live") == (0, "")
    assert probe(rig, "ready") == (1, "not listening on port 3306 yet\n")


@in_each_shell
@pytest.mark.parametrize("greeting", [GREETING, TOO_MANY], ids=["greeting", "too many connections"])
@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_server_that_answers(rig: Rig, table: str, greeting: bytes) -> None:
    process(rig)
    for what in ("ready", "live"):
        with server(greeting) as port:
            listening(rig, port, table=table)
            assert probe(rig, what, port) == (0, "")


@pytest.mark.slow
def test_server_that_is_silent(rig: Rig) -> None:
    process(rig)
    with server(b"") as port:
        listening(rig, port)
        with ThreadPoolExecutor() as pool:  # both wait in vain
            ready, live = pool.map(lambda what: probe(rig, what, port), ("ready", "live"))
        assert ready == (1, f"no answer on port {port} within 2 s\n")
        assert live == (1, f"mysqld listens on port {port} and does not answer within 5 s\n")


@pytest.mark.parametrize(("state", "words"), [("T", "stopped"), ("t", "stopped"), ("Z", "dead"), ("X", "dead")])
def test_process_that_will_not_answer(rig: Rig, state: str, words: str) -> None:
    process(rig, state)
    assert probe(rig, "live") == (1, f"mysqld is {words}\n")


def test_process_that_is_gone(rig: Rig) -> None:
    process(rig)
    (rig.root / "proc" / "1" / "stat").unlink()
    assert probe(rig, "live") == (1, "mysqld (process 1) is gone\n")


def test_another_port_of_the_same_pod_does_not_count(rig: Rig) -> None:
    process(rig)
    listening(rig, 33062)
    assert probe(rig, "ready") == (1, "not listening on port 3306 yet\n")


def test_usage(rig: Rig) -> None:
    assert probe(rig, "") == (1, "usage: probe.sh startup|live|ready\n")


@contextlib.contextmanager
def agent(*answers: str) -> Iterator[tuple[int, list[bytes]]]:
    """A port that answers one status line after the other, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                for answer in answers:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(200))
                        connection.sendall(f"HTTP/1.0 {answer}\r\n\r\n".encode())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], asked


@in_each_shell
def test_stop_waits_until_the_agent_has_closed_the_pet(rig: Rig) -> None:
    with agent("503 no", "503 no", "200 OK") as (port, asked):
        done = rig.run("stop.sh", PETSET_AGENT_PORT=str(port))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [one.split(b"\r\n", 1)[0] for one in asked] == [b"GET /left HTTP/1.0"] * 3
    assert (rig.root / "petset" / "run" / "leaving").exists()


@in_each_shell
def test_stop_does_not_wait_for_ever_for_an_agent_that_is_not_there(rig: Rig) -> None:
    done = rig.run("stop.sh", PETSET_AGENT_PORT="1", PETSET_LEAVE_S="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
