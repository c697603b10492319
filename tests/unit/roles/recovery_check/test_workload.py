# SPDX-License-Identifier: GPL-3.0-or-later
"""The workload's program, run as it is, with a MySQL client that answers as the test wants."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.drill_proof import WorkLog, parse_log
from ansible_collections.stateful.petset.plugins.module_utils._io.openssl import make_certificates

pytestmark = pytest.mark.programs

PROGRAM = Path(__file__).parents[4] / "roles/recovery_check/files/workload.py"
PASSWORD = "v3ry-s3cret"
# Every fifth row is refused by the server, every seventh loses its connection.
CLIENT = """
from . import err

class Cursor:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def execute(self, text):
        number = int(text.rpartition(",")[2].strip(" )"))
        assert text.startswith("INSERT INTO petset.drill VALUES (")
        if number % 5 == 0: raise err.OperationalError(1290, "read-only")
        if number % 7 == 0: raise err.OperationalError(2013, "lost")

class Connection:
    def connect(self, sock): self.sock = sock
    def cursor(self): return Cursor()
    def _force_close(self): self.sock.close()

def connect(**options):
    assert options["password"] == "v3ry-s3cret" and options["host"] == "mysql-0.db"
    assert options["ssl"].check_hostname
    return Connection()
"""


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for connection in kept:
            connection.close()


class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/writer" else 404)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def agent() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def run(folder: Path, port: int, agents: str) -> str:
    (folder / "pymysql").mkdir()
    (folder / "pymysql" / "__init__.py").write_text(CLIENT)
    (folder / "pymysql" / "err.py").write_text("class Error(Exception): pass\nclass OperationalError(Error): pass\n")
    (folder / "password").write_text(PASSWORD)

    def openssl(words: object) -> tuple[int, str, str]:
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
        return done.returncode, done.stdout, done.stderr

    files, _end = make_certificates(openssl, "test", ("mysql-0.db",), 2)
    (folder / "ca.crt").write_text(files["ca.crt"])
    settings = {
        "PYTHONPATH": str(folder), "DRILL_HOST": "127.0.0.1", "DRILL_PORT": str(port),
        "DRILL_SERVER_NAME": "mysql-0.db",
        "DRILL_USER": "petset_drill", "DRILL_TABLE": "petset.drill", "DRILL_PASSWORD_FILE": str(folder / "password"),
        "DRILL_CA_FILE": str(folder / "ca.crt"), "DRILL_AGENTS": agents, "DRILL_LIMIT_S": "30",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-u", str(PROGRAM)], env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    return str(output)


def test_rows_are_told_with_their_fate(tmp_path: Path, listening: int, agent: int) -> None:
    before = time.time()
    text = run(tmp_path, listening, f"mysql-0=127.0.0.1:{agent},mysql-1=127.0.0.1:1")
    log: WorkLog = parse_log(text)
    assert log.complete
    assert log.began is not None
    assert before <= log.began <= time.time()
    assert {one.client for one in log.writes} == {0, 1}
    assert 30 < len(log.writes) < 100
    for one in log.writes:
        wanted = "fail" if one.number % 5 == 0 else "info" if one.number % 7 == 0 else "ok"
        assert one.outcome == wanted
        assert 0 <= one.sent_s <= one.ended_s <= log.end_s
    assert len({one.row for one in log.writes}) == len(log.writes)
    assert {state for _at, state in log.looks["mysql-0"]} == {"open"}
    assert {state for _at, state in log.looks["mysql-1"]} == {"away"}
    assert PASSWORD not in text


def test_no_part_of_its_password_is_told_where_a_reason_is_cut(
    tmp_path: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reason was cut, and then nobody could recognise the half of a password at its end."""
    refusal = f"def connect(**options): raise err.OperationalError(1045, {'.' * 174!r} + options['password'])"
    monkeypatch.setattr(sys.modules[__name__], "CLIENT", f"from . import err\n{refusal}\n")
    text = run(tmp_path, listening, "")
    log = parse_log(text)
    assert log.trouble.startswith("OperationalError: 1045 ...")
    assert len(log.trouble) == 200
    assert PASSWORD[:3] not in text


def test_an_address_that_does_not_answer_is_told_once(tmp_path: Path) -> None:
    log = parse_log(run(tmp_path, 1, ""))
    assert (log.writes, log.complete) == ((), True)
    assert "ConnectionRefusedError" in log.trouble
    assert json.dumps(log.trouble)
