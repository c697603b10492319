# SPDX-License-Identifier: GPL-3.0-or-later
"""What a killed writer told nobody is cut off, and nothing else is: the word by a table, the volume in a folder."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.roles.pet_set import agent_rig  # noqa: F401
from tests.unit.roles.pet_set.test_agent_binlog import ME, PEER, log

from petset_agent import model as m  # isort: skip
from petset_agent.mysqld import RawPeer  # isort: skip
from petset_agent.rewind import API_S, FREE_S, HELD_S, Rewinder, Word, judge  # isort: skip

NOW = 1000.0
SETTINGS = m.Settings("mysql-0", 0)
INC = {"mysql-0": "a/1", "mysql-1": "b/1"}
LEASE = m.Lease(True, "7", "mysql-1", ("mysql-1",), INC, m.SINGLE_WRITER, "mysql-1", NOW - 0.5, followers="")
WRITER = RawPeer(
    m.Peer("mysql-1", 1, asked_s=NOW - 0.5, alive=True, incarnation="b/1", open=True),
    PEER,
    f"{ME}:1-11,{PEER}:1-9",
    f"{ME}:1-10",
)
MINE = replace(LEASE, holder="", in_sync=("mysql-0", "mysql-1"), last_writer="mysql-0")

OPENED = Word(True, "mysql-1 is the writer", f"{ME}:1-11,{PEER}:1-9,{ME}:1-10")


def peer(**changes: object) -> RawPeer:
    return replace(WRITER, peer=replace(WRITER.peer, **changes))


CASES = {
    "the other has opened": (LEASE, [WRITER], 0.0, OPENED),
    "a pet that is never written to": (LEASE, [], 0.0, None),
    "no lease": (replace(LEASE, exists=False), [], 0.0, Word(True, "no ring was set up yet")),
    "no ring": (replace(LEASE, in_sync=None), [], 0.0, Word(True, "no ring was set up yet")),
    "both are open": (replace(LEASE, mode=m.SPREAD), [WRITER], 0.0, True),
    "a follower may have it": (replace(LEASE, followers="mysql-2"), [WRITER], 0.0, True),
    "the ring has not said whether there are followers": (replace(LEASE, followers=None), [WRITER], 0.0, True),
    "the API is silent": (None, [WRITER], API_S, False),
    "the API is silent for long": (None, [WRITER], API_S + 1, True),
    "the record is old": (replace(LEASE, asked_s=NOW - 3), [WRITER], API_S, False),
    "alone": (replace(MINE, in_sync=("mysql-0",)), [WRITER], 0.0, True),
    "alone, and not yet told that it wrote": (
        replace(MINE, in_sync=("mysql-0",), last_writer="mysql-1"), [WRITER], 0.0, True,
    ),
    "a standby": (replace(MINE, last_writer="mysql-1"), [WRITER], 0.0, True),
    "the first ring": (replace(MINE, last_writer=""), [WRITER], 0.0, True),
    "the other may take over": (MINE, [peer(open=False)], FREE_S, False),
    "the other does not take over": (MINE, [peer(open=False)], FREE_S + 1, True),
    "both were killed": (MINE, [peer(alive=False, open=False)], 0.0, True),
    "both were killed, and the other is back": (MINE, [peer(open=False, incarnation="b/2")], 0.0, True),
    "the other is silent": (MINE, [peer(asked_s=NOW - 3)], FREE_S, False),
    "the other stays silent": (MINE, [peer(asked_s=NOW - 3)], FREE_S + 1, True),
    "the other has not opened yet": (replace(LEASE, last_writer="mysql-0"), [peer(open=False)], HELD_S, False),
    "the other never opens": (replace(LEASE, last_writer="mysql-0"), [peer(open=False)], HELD_S + 1, True),
    "the other is open and the record does not say so": (replace(LEASE, last_writer="mysql-0"), [WRITER], 0.0, False),
    "the new writer is silent": (LEASE, [peer(asked_s=NOW - 3)], HELD_S, False),
    "the new writer is down": (LEASE, [peer(alive=False)], HELD_S, False),
    "the new writer has closed": (LEASE, [peer(open=False)], HELD_S, False),
    "the new writer has given the lease back": (replace(LEASE, holder=""), [WRITER], FREE_S, False),
    "nobody takes it": (replace(LEASE, holder=""), [WRITER], FREE_S + 1, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_when_a_killed_mysqld_may_start(case: str) -> None:
    lease, peers, waited_s, expected = CASES[case]
    settings = m.Settings("mysql-2", 2) if expected is None else SETTINGS
    word = judge(settings, lease, peers, NOW, waited_s)
    if isinstance(expected, Word):
        assert word == expected
    else:
        assert (word.may_start, word.theirs) == (expected is not False, "")
    assert word.why


class Volume:
    """A pet's folder with a log, and a start that waits."""

    def __init__(self, root: Path, data: bytes) -> None:
        self.volume, self.run = root / "volume", root / "run"
        (self.volume / "data").mkdir(parents=True)
        self.run.mkdir()
        self.log = self.volume / "data" / "binlog.000002"
        self.log.write_bytes(data)
        (self.volume / "data" / "binlog.index").write_text("./binlog.000001\n./binlog.000002\n")
        (self.volume / "data" / "ibdata1").write_bytes(b"x")
        (self.volume / "data" / "auto.cnf").write_text(f"[auto]\nserver-uuid={ME}\n")
        self.told: list[str] = []
        self.word = Word(True, "mysql-1 is the writer", f"{ME}:1-11,{PEER}:1-9")
        self.rewinder = self.agent()

    def agent(self) -> Rewinder:
        made = Rewinder(self.volume, self.run, lambda _waited_s: self.word, self.told.append)
        made.step()
        return made

    def guard(self, place: str = "binlog.000001 99") -> None:
        (self.volume / ".petset-guarded").write_text(f"{place}\n")

    def start(self, token: str = "a") -> bool:
        (self.run / "starting").write_text(f"{token}\n")
        self.rewinder.step()
        return self.rewinder.may_start(token)[0]


LATE = log((ME, 11), (ME, 12), (ME, 13))


@pytest.fixture
def one(tmp_path: Path) -> Volume:
    return Volume(tmp_path, LATE)


def test_what_nobody_was_told_of_is_cut_off_and_kept_aside(one: Volume) -> None:
    one.guard()
    assert one.start()
    assert one.log.read_bytes() == log((ME, 11))
    (aside,) = (one.volume / ".petset-rewound").iterdir()
    assert log((ME, 11)) + aside.read_bytes() == LATE
    assert f"2 transactions ({ME}:12, {ME}:13)" in one.told[-1]
    assert one.rewinder.may_start("a")[0]
    assert not one.rewinder.may_start("b")[0]


def test_a_start_with_another_token_waits_for_a_word_of_its_own(one: Volume) -> None:
    one.guard()
    assert one.start()
    one.word = Word(False, "mysql-1 has not opened yet")
    assert not one.start("b")
    assert one.rewinder.may_start("b") == (False, "mysql-1 has not opened yet")


@pytest.mark.parametrize(
    ("place", "is_cut"),
    [
        (None, False),  # not all commits had to wait
        ("binlog.000001 99", True),  # since a log before this one
        (f"binlog.000002 {len(log((ME, 11)))}", True),
        (f"binlog.000002 {len(log((ME, 11), (ME, 12)))}", False),
        ("binlog.000002 x", False),
    ],
)
def test_only_what_had_to_wait_for_its_acknowledgement_goes(one: Volume, place: str | None, is_cut: bool) -> None:
    if place is not None:
        one.guard(place)
    assert one.start()
    assert (one.log.read_bytes() == log((ME, 11))) is is_cut
    assert (one.log.read_bytes() == LATE) is not is_cut


def test_the_guard_is_a_place_and_goes(one: Volume) -> None:
    path = one.volume / ".petset-guarded"
    one.rewinder.guard(True, wait=True)
    assert path.read_text() == f"binlog.000002 {len(LATE)}\n"
    path.unlink()
    one.rewinder.guard(True, wait=True)
    assert not path.exists(), "what is known is not done again"
    one.rewinder.guard(False, wait=True)
    one.rewinder.guard(True, wait=True)
    assert path.exists()
    one.rewinder.guard(False, wait=True)
    assert not path.exists()


def test_another_mysqld_that_has_the_data_open_keeps_all(one: Volume) -> None:
    """Without flock in the image, or after its lock was lost, the mysqld of a pod before may still run elsewhere."""
    one.guard()
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(one.volume / "data" / "ibdata1")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == b"held\n"
        assert one.start()
        holder.stdin.close()
    assert one.log.read_bytes() == LATE
    assert "another mysqld may have the data open" in one.told[-1]


@pytest.mark.parametrize(
    "data",
    [
        log((ME, 11), (ME, 12), in_use=False),
        log((ME, 11)),
        log((ME, 11), (ME, 12), (PEER, 9999)),
        log((ME, 11), before=((ME, 1, 12),)),
        b"\xfdbinencrypted",
        b"",
    ],
)
def test_what_is_closed_or_known_or_not_understood_stays(tmp_path: Path, data: bytes) -> None:
    one = Volume(tmp_path, data)
    one.guard()
    assert one.start()
    assert one.log.read_bytes() == data
    assert not (one.volume / ".petset-rewound").exists()


def test_without_a_word_of_the_new_writer_nothing_is_cut(one: Volume) -> None:
    one.guard()
    one.word = Word(True, "nobody else is in-sync")
    assert one.start()
    assert one.log.read_bytes() == LATE


def test_no_log_no_wait(tmp_path: Path) -> None:
    one = Volume(tmp_path, LATE)
    one.word = Word(False, "")
    (one.volume / "data" / "binlog.index").unlink()
    assert one.start()


def test_a_start_that_has_not_waited_loses_nothing(one: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    one.guard()
    monkeypatch.setattr(
        one.rewinder, "_ask", lambda _waited_s: ((one.run / "starting").unlink(), one.word)[1], raising=True
    )
    one.start()
    assert one.log.read_bytes() == LATE
    assert not (one.volume / ".petset-cut").exists()


SERVER = m.Server(answered_s=float("inf"), dead=False, executed=f"{ME}:1-11,\n{PEER}:1-9")


def test_data_are_trusted_again_once_mysqld_has_shown_that_it_has_not_committed_it(one: Volume) -> None:
    one.guard()
    one.start()
    assert "not known yet" in one.rewinder.check(replace(SERVER, dead=True))[1]
    assert "not known yet" in one.rewinder.check(replace(SERVER, answered_s=1.0))[1]
    assert "not known yet" in one.agent().check(m.Server())[1], "an agent that was restarted looks as well"
    assert one.rewinder.check(SERVER) == ("", "")
    one.rewinder.step()
    assert one.rewinder.check(m.Server()) == ("", "")
    assert not (one.volume / ".petset-cut").exists()


def test_a_pet_that_had_committed_it_is_not_trusted_and_says_so_for_ever(one: Volume) -> None:
    one.guard()
    one.start()
    why, doubt = one.rewinder.check(replace(SERVER, executed=f"{ME}:1-12"))
    assert f"{ME}:12" in why
    assert f"{ME}:13" not in why
    assert doubt == ""
    one.rewinder.step()
    assert one.agent().check(SERVER) == one.rewinder.check(SERVER) == (why, "")


def test_an_agent_that_was_killed_before_it_cut_takes_nothing_for_cut(one: Volume) -> None:
    """mysqld has started with all that it had, and goes on in the next log."""
    (one.volume / ".petset-cut").write_text(f"binlog.000002 {len(LATE) - 1}\n{ME} 13\n")
    (one.volume / "data" / "binlog.000003").write_bytes(log())
    (one.volume / "data" / "binlog.index").write_text("./binlog.000002\n./binlog.000003\n")
    assert one.agent().check(replace(SERVER, executed=f"{ME}:1-13")) == ("", "")
    assert not (one.volume / ".petset-cut").exists()


def test_a_volume_that_cannot_be_read_is_no_proof(one: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object, **_options: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fails)
    agent = one.agent()
    assert agent.check(SERVER) == ("", "the volume was not looked at yet")
    monkeypatch.undo()
    agent.step()
    assert agent.check(SERVER) == ("", "")


def test_a_volume_that_hangs_or_is_full_puts_nothing_off(one: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr("petset_agent.rewind._GUARD_LIMIT_S", 0.05)
    monkeypatch.setattr(one.rewinder, "_newest", lambda: free.wait(10) and None)
    began_s = time.monotonic()
    one.rewinder.guard(True)
    one.rewinder.guard(False, wait=True)
    assert time.monotonic() - began_s < 5
    free.set()
