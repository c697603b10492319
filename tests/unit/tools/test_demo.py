# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo believes the recap of the second run, and a row when every pet has it; tests/lab asks real pets."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import pytest

from tools import demo
from tools.common import Failed

RECAP = """
TASK [a] ***
nfs-0 : ok=1 changed=9 unreachable=0

PLAY RECAP *********************************************************************
\x1b[0;33mlocalhost\x1b[0m                  : \x1b[0;32mok=12  \x1b[0m changed={0}    unreachable=0    failed=0
nfs-0                      : ok=9    changed=0    unreachable=0    failed=0    skipped=2

"""


def test_parse_recap() -> None:
    assert demo.parse_recap(RECAP.format(3)) == {"localhost": 3, "nfs-0": 0}


def test_no_recap_is_no_proof() -> None:
    assert demo.parse_recap("ERROR! the playbook could not be found") == {}


@pytest.mark.parametrize(("second", "status"), [(RECAP.format(0), 0), (RECAP.format(1), 1), ("", 1)])
def test_the_second_run_must_change_nothing(monkeypatch: pytest.MonkeyPatch, second: str, status: int) -> None:
    printed = iter([RECAP.format(7), second, "table"])
    monkeypatch.setattr(demo, "play", lambda _name: next(printed))
    monkeypatch.setattr(demo, "row", lambda: "row 1")
    assert demo.main() == status


SETTINGS = {
    "proxy": "10.0.0.7",
    "pets": {"mysql-0": "10.1.0.1", "mysql-1": "10.1.0.2"},
    "user": "demo",
    "password": "p'a\"ss wörd",
    "database": "shop",
    "ca": "-----BEGIN CERTIFICATE-----\n",
}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    ("secret", "mysql-secret"): {
        "data": {
            "app-user": encoded("demo"),
            "app-password": encoded(str(SETTINGS["password"])),
            "app-database": encoded("shop"),
            "root-password": encoded("another"),
        }
    },
    ("secret", "mysql-tls"): {"data": {"ca.crt": encoded(str(SETTINGS["ca"])), "tls.key": encoded("key")}},
    ("service", "mysql-proxy"): {"spec": {"clusterIP": "10.0.0.7"}},
    ("pod", "mysql-0"): {"status": {"podIP": "10.1.0.1"}},
    ("pod", "mysql-1"): {"status": {"podIP": "10.1.0.2"}},
}


def test_the_row_is_asked_for_with_what_the_cluster_has_and_no_password_in_argv(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[list[str]] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(argv)
        if "kubectl" in argv:
            assert argv[argv.index("-n") + 1] == "elsewhere"
            kind, name = argv[argv.index("get") + 1 :][:2]
            return subprocess.CompletedProcess(argv, 0, json.dumps(OBJECTS[kind, name]), "")
        assert json.loads(options["input"]) == SETTINGS
        return subprocess.CompletedProcess(argv, 0, "row 1\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert demo.row("elsewhere", "other") == "row 1"
    assert ran[-1][-3:] == ["-m", "tools.demo", "row"]
    assert all(argv[argv.index("--name") + 1] == "other" for argv in ran)
    assert not [word for argv in ran for word in argv if str(SETTINGS["password"]) in word]


def test_why_there_is_no_row_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda argv, **_rest: subprocess.CompletedProcess(argv, 1, "", "not found"))
    with pytest.raises(Failed, match="secret mysql-secret: not found"):
        demo.row()
    monkeypatch.setattr(demo, "get", lambda kind, name, *_where: OBJECTS[kind, name])
    with pytest.raises(Failed, match="a row through HAProxy: not found"):
        demo.row()


class Pets:
    """Pets in memory. What is written at the proxy's address a pet has after ``late`` looks; -1: never."""

    def __init__(self, late: dict[str, int]) -> None:
        self.late = late
        self.rows: list[str] = []
        self.lastrowid = 0
        self.answer: tuple[str, ...] = ()
        self.time_s = 0.0
        self.asked: list[str] = []

    def connect(self, settings: dict[str, Any], host: str) -> Pets:
        assert settings == SETTINGS
        self.asked.append(host)
        return self

    def cursor(self) -> Pets:
        return self

    def __enter__(self) -> Pets:
        return self

    def __exit__(self, *_problem: object) -> None:
        return None

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        host = self.asked[-1]
        if statement.startswith("SELECT text"):
            assert values == (self.lastrowid,)
            self.late[host] -= 1
            self.answer = (self.rows[-1],)
            return int(self.late[host] == -1)
        assert host == SETTINGS["proxy"], "nothing is written past HAProxy"
        if statement.startswith("INSERT"):
            self.rows += values
            self.lastrowid = 41
        self.answer = ("mysql-1.db.demo.svc.cluster.local",)
        return 1

    def fetchone(self) -> tuple[str, ...]:
        return self.answer

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds


def pets(monkeypatch: pytest.MonkeyPatch, **late: int) -> Pets:
    made = Pets({"10.1.0.1": late["first"], "10.1.0.2": late["second"]})
    monkeypatch.setattr(demo, "connect", made.connect)
    monkeypatch.setattr(demo.time, "sleep", made.sleep)
    monkeypatch.setattr(demo.time, "monotonic", lambda: made.time_s)
    return made


def test_the_row_is_read_from_every_pet_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pets(monkeypatch, first=3, second=0)
    taken, *had = demo.write_and_read(SETTINGS).splitlines()
    assert made.asked == ["10.0.0.7", "10.1.0.1", "10.1.0.2"]
    assert taken == f"row 41 ({made.rows[0]}) was taken by mysql-1"
    assert had == [f"mysql-0 has it: {made.rows[0]}", f"mysql-1 has it: {made.rows[0]}"]


def test_a_pet_that_never_gets_the_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pets(monkeypatch, first=0, second=-1)
    with pytest.raises(Failed, match="mysql-1 does not have row 41 after 10 s"):
        demo.write_and_read(SETTINGS)
