# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of the lab is known again by pid, start time and a word, and nobody else's is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import processes
from lab.log import LabError
from lab.processes import Seen
from lab.state import ProcessRecord

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the lab reads /proc"),
    # the lab's processes outlive the object that started them, and are meant to
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

STAT = "{pid} ({name}) {state} 1 {pid} {session} 0 -1 4194560 142 0 0 0 1 2 3 4 20 0 1 0 {ticks} 8462336 210 {rest}"


@given(
    pid=st.integers(1, 2**22),
    name=st.text(max_size=15),
    state=st.sampled_from("RSDTtZXI"),
    session=st.integers(0, 2**22),
    ticks=st.integers(0, 2**40),
)
def test_a_stat_line_is_read_whatever_the_process_calls_itself(
    pid: int, name: str, state: str, session: int, ticks: int
) -> None:
    text = STAT.format(pid=pid, name=name, state=state, session=session, ticks=ticks, rest="0 0 17 1\n")
    assert processes.parse_stat(text) == (pid, session, ticks, state)


@pytest.mark.parametrize(
    "name",
    ["etcd", "a b", "(sd-pam)", ") S 1 1 1 (", "x) Z 9 9 9 9 9", "", ")", "kworker/0:1", "tmux: server", "a\nb"],
)
def test_odd_process_names(name: str) -> None:
    text = STAT.format(pid=4711, name=name, state="S", session=4700, ticks=8000, rest="0\n")
    assert processes.parse_stat(text) == (4711, 4700, 8000, "S")


def test_this_process_is_seen() -> None:
    seen = processes.look(os.getpid())
    assert seen is not None
    assert (seen.pid, seen.session) == (os.getpid(), os.getsid(0))
    assert "python" in seen.command


def test_a_process_that_is_not_there_is_not_seen() -> None:
    assert processes.look(2**22 + 1) is None


# -- with processes of our own ---------------------------------------------------------------------------------------


def until(true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Children:
    """Sessions started by a test, ended after it by their own pids."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        self.all.append(child)
        until(lambda: argv[-1] in getattr(processes.look(child.pid), "command", argv[-1]))
        return child


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    for child in made.all:
        processes.send(processes.session_pids(child.pid), signal.SIGKILL)
        child.wait()


def record_of(child: subprocess.Popen[bytes], word: str = "sleep") -> ProcessRecord:
    seen = processes.look(child.pid)
    assert seen is not None
    return ProcessRecord(child.pid, seen.start_ticks, word)


def test_a_process_is_alive_when_all_three_match(children: Children) -> None:
    record = record_of(children.start("sleep", "30"))
    assert processes.is_alive(record)
    assert not processes.is_alive(None)
    assert not processes.is_alive(ProcessRecord(record.pid, record.start_ticks + 1, "sleep"))
    assert not processes.is_alive(ProcessRecord(record.pid, record.start_ticks, "etcd "))


def test_a_process_that_ended_unasked_is_not_alive(children: Children) -> None:
    child = children.start("sleep", "30")
    record = record_of(child)
    child.kill()
    # it is a zombie as long as nobody waits for it
    until(lambda: not processes.is_alive(record))
    # while it ends it is to be seen without a command line
    until(lambda: processes.look(child.pid) is None)
    processes.kill_session(record)


def test_a_stopped_process_is_paused_until_it_goes_on(children: Children) -> None:
    record = record_of(children.start("sleep", "30"))
    assert not processes.is_paused(record)
    assert not processes.is_paused(None)
    processes.send([record.pid], signal.SIGSTOP)
    until(lambda: processes.is_paused(record))
    assert processes.is_alive(record)
    processes.send([record.pid], signal.SIGCONT)
    until(lambda: not processes.is_paused(record))


def test_somebody_elses_stopped_process_with_our_old_pid_is_not_a_paused_one_of_ours(children: Children) -> None:
    """``up`` lets what is paused go on: all of its session."""
    child = children.start("sleep", "30")
    mine = record_of(child)
    child.send_signal(signal.SIGSTOP)
    until(lambda: processes.is_paused(mine))
    assert not processes.is_paused(ProcessRecord(child.pid, mine.start_ticks - 1, "sleep"))
    assert not processes.is_paused(ProcessRecord(child.pid, mine.start_ticks, "umid=node-1 "))


def test_a_signal_to_one_that_is_gone_is_no_error(children: Children) -> None:
    child = children.start("sleep", "30")
    processes.send([2**22 + 1, child.pid], signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_a_session_ends_with_all_that_it_forked_stopped_ones_too(children: Children) -> None:
    child = children.start("sh", "-c", "sleep 31 & sleep 32 & wait")
    until(lambda: len(processes.session_pids(child.pid)) == 3)
    record = record_of(child, "sleep 31")
    processes.send(processes.session_pids(child.pid), signal.SIGSTOP)
    processes.kill_session(record)
    assert processes.session_pids(child.pid) == []
    processes.kill_session(record)


def test_what_a_dead_leader_left_ends_too(children: Children) -> None:
    child = children.start("sh", "-c", "sleep 31 & sleep 32 & wait")
    until(lambda: len(processes.session_pids(child.pid)) == 3)
    record = record_of(child, "sleep 31")
    child.kill()
    child.wait()
    assert len(processes.session_pids(child.pid)) == 2
    processes.kill_session(record)
    assert processes.session_pids(child.pid) == []


@pytest.mark.parametrize("ticks", [-1, 1], ids=["started-later", "started-earlier"])
@pytest.mark.parametrize("end", [processes.kill_session, processes.stop], ids=["kill_session", "stop"])
def test_somebody_elses_session_with_our_old_pid_lives_on(
    children: Children, end: Callable[[ProcessRecord], None], ticks: int
) -> None:
    """After a reboot of the host the pids in the state file are other people's."""
    child = children.start("sh", "-c", "sleep 31 & wait")
    until(lambda: len(processes.session_pids(child.pid)) == 2)
    mine = record_of(child, "sh")
    end(ProcessRecord(mine.pid, mine.start_ticks + ticks, "sh"))
    end(ProcessRecord(mine.pid, mine.start_ticks, "umid=node-1 "))
    assert child.poll() is None
    assert len(processes.session_pids(child.pid)) == 2


def test_a_session_that_lost_its_leader_and_is_older_than_our_process_lives_on(children: Children) -> None:
    child = children.start("sh", "-c", "sleep 31 & wait")
    until(lambda: len(processes.session_pids(child.pid)) == 2)
    record = record_of(child, "sh")
    child.kill()
    child.wait()
    processes.kill_session(ProcessRecord(record.pid, record.start_ticks + 100_000, "umid=node-1 "))
    assert len(processes.session_pids(child.pid)) == 1


def test_a_process_is_asked_to_end_first(children: Children, tmp_path: Path) -> None:
    said = tmp_path / "said"
    child = children.start(
        "sh", "-c", f'trap "echo bye > {said}; exit 0" TERM; : > {tmp_path}/ready; while :; do sleep 0.01; done'
    )
    until((tmp_path / "ready").exists)
    record = record_of(child, "sh")
    processes.stop(record)
    assert said.read_text() == "bye\n"
    assert processes.session_pids(child.pid) == []


def test_a_paused_process_is_asked_to_end_as_well(children: Children) -> None:
    child = children.start("sleep", "30")
    record = record_of(child)
    child.send_signal(signal.SIGSTOP)
    until(lambda: processes.is_paused(record))
    processes.stop(record)
    assert child.wait() == -signal.SIGTERM


def test_a_process_that_does_not_listen_is_killed(children: Children, tmp_path: Path) -> None:
    child = children.start("sh", "-c", f'trap "" TERM; : > {tmp_path}/ready; while :; do sleep 0.01; done')
    until((tmp_path / "ready").exists)
    processes.stop(record_of(child, "sh"), timeout_s=0.03)
    assert child.wait() == -signal.SIGKILL


# -- spawn -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def spawned(children: Children) -> Iterator[list[ProcessRecord]]:
    made: list[ProcessRecord] = []
    yield made
    for record in made:
        processes.kill_session(record)


def test_a_process_is_started_apart_and_its_output_is_added_to_the_log(
    tmp_path: Path, spawned: list[ProcessRecord]
) -> None:
    log = tmp_path / "logs" / "part.log"
    log.parent.mkdir()
    log.write_text("before\n")
    env = {"LAB_WORD": "hello"}
    # the shell is a wrapper: the record is taken of what it turns into
    script = 'echo "$LAB_WORD"; pwd; cat; echo err >&2; exec sleep 33'
    record = processes.spawn(["sh", "-c", script], word="sleep 33", log=log, env=env)
    spawned.append(record)
    assert processes.is_alive(record)
    assert processes.session_pids(record.pid) == [record.pid]
    assert record.pid != os.getsid(0)
    seen = processes.look(record.pid)
    assert isinstance(seen, Seen)
    assert seen.command == "sleep 33 "
    assert log.read_text() == "before\nhello\n/\nerr\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may let a process go first")
def test_what_a_lab_starts_goes_before_the_hosts_other_work(tmp_path: Path, spawned: list[ProcessRecord]) -> None:
    """With builds beside it the lab's NFS answered half as often: niceness alone counts within an autogroup only."""
    record = processes.spawn(["sleep", "33"], word="sleep 33", log=tmp_path / "log")
    spawned.append(record)
    assert os.getpriority(os.PRIO_PROCESS, record.pid) == processes.NICENESS
    group = Path(f"/proc/{record.pid}/autogroup")
    if group.exists():
        assert group.read_text().endswith(f"nice {processes.NICENESS}\n")


def test_one_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with pytest.raises(LabError) as caught:
        processes.spawn(["sh", "-c", "echo no such option >&2; exit 4"], word="bin/etcd ", log=log)
    assert "bin/etcd  ended at once with status 4\n    | no such option\n" in str(caught.value)
    assert f"(whole log: {log})" in str(caught.value)


def test_one_that_never_becomes_the_program_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, children: Children
) -> None:
    real, started = subprocess.Popen, []

    class Clock:
        """Ten seconds pass at a glance."""

        now = 0.0

        def monotonic(self) -> float:
            self.now += 3
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    def popen(argv: list[str], **how: object) -> subprocess.Popen[bytes]:
        child = real(argv, **how)  # type: ignore[call-overload]
        started.append(child)
        children.all.append(child)
        return child

    monkeypatch.setattr(processes, "time", Clock())
    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    with pytest.raises(LabError, match="umid=node-1  did not start within 10 s"):
        processes.spawn(["sleep", "34"], word="umid=node-1 ", log=tmp_path / "log")
    assert len(started) == 1
