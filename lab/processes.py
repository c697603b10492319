# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's long-running processes: started apart from the session, found again later, stopped by pid.

Each is the leader of a session of its own, so that all it forks (a user-mode-linux machine has a process for each of
its own) is known by the session's number even when the leader is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.log import LabError, tail
from lab.state import ProcessRecord

NICENESS = -10
"""Of all that a lab starts; negative goes first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as /proc shows it."""

    pid: int
    session: int
    start_ticks: int
    state: str
    command: str


def parse_stat(text: str) -> tuple[int, int, int, str]:
    """(pid, session, start time in ticks, state letter) of a /proc/PID/stat; its name may hold blanks and ')'."""
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return int(head.split(" ", 1)[0]), int(fields[3]), int(fields[19]), fields[0]


def look(pid: int) -> Seen | None:
    """The process with that pid; None when there is none, or when it has ended and nobody has asked for it."""
    try:
        number, session, ticks, state = parse_stat(Path(f"/proc/{pid}/stat").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else Seen(number, session, ticks, state, command)


def is_alive(record: ProcessRecord | None) -> bool:
    """Whether the very process of the record runs."""
    if record is None:
        return False
    seen = look(record.pid)
    return seen is not None and seen.start_ticks == record.start_ticks and record.word in seen.command


def session_pids(session: int) -> list[int]:
    """All live processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (seen := look(int(entry.name))) and seen.session == session:
            found.append(seen.pid)
    return found


def spawn(argv: Sequence[str], *, word: str, log: Path, env: Mapping[str, str] | None = None) -> ProcessRecord:
    """Start a process that outlives this one; its output is appended to ``log``.

    ``word`` is a part of its final command line by which it is known again. The record is taken when the program
    itself runs: what enters namespaces before (ip, unshare, chroot) executes it in the same process. Raises LabError
    when it ends before that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            cwd="/",
        )
    prefer(child.pid)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise LabError(f"{word} ended at once with status {child.returncode}\n{tail(log)}\n(whole log: {log})")
        seen = look(child.pid)
        # the wrappers carry the word among their arguments, too: wait for the program itself to come first
        if seen and word in seen.command and not seen.command.startswith(("ip ", "unshare ", "sh ", "chroot ")):
            return ProcessRecord(child.pid, seen.start_ticks, word)
        time.sleep(0.01)
    raise LabError(f"{word} did not start within 10 s\n{tail(log)}")


def prefer(pid: int) -> None:
    """Let a process and its children go before the host's other work: a machine that waits for a processor looks to
    its peers like one that is cut off.

    Where the kernel groups processes by session (sched_autogroup), niceness counts within the group alone and the
    group has one of its own (sched(7)). Who may not is left at the usual one: slower under load, otherwise the same.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
        Path(f"/proc/{pid}/autogroup").write_text(str(NICENESS))


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal; who is gone already is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_session(record: ProcessRecord) -> None:
    """Kill a process and all of its session at once, as a power cut does, and wait until they are gone.

    Nothing is touched when the pid is somebody else's by now, as after a reboot of the host: a session's number is
    not given to a new process while any process of the session lives, so none of ours is left.
    """
    if look(record.pid) is not None and not is_alive(record):
        return
    # without its leader a session is known by its number alone; one that is older than our process is not ours
    left = [seen for pid in session_pids(record.pid) if (seen := look(pid))]
    if all(seen.start_ticks >= record.start_ticks for seen in left):
        end_session(record.pid, record.word)


def end_session(session: int, what: str) -> None:
    """Kill all processes of a session that is known to be ours, and wait until they are gone."""
    deadline = time.monotonic() + 10
    while pids := session_pids(session):
        send(pids, signal.SIGKILL)
        # a stopped process dies as well; nothing else to do than to look again
        if time.monotonic() > deadline:
            raise LabError(f"processes of {what} do not end: {pids}")
        time.sleep(0.02)


def stop(record: ProcessRecord, timeout_s: float = 10) -> None:
    """Ask a process to end (SIGTERM), then kill its session."""
    if is_alive(record):
        send([record.pid], signal.SIGCONT)
        send([record.pid], signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while is_alive(record) and time.monotonic() < deadline:
            time.sleep(0.02)
    kill_session(record)


def kill_all(pids_now: Sequence[int]) -> None:
    """Kill the given processes (those in the lab's namespaces), stopped ones too."""
    send(pids_now, signal.SIGKILL)


def is_paused(record: ProcessRecord | None) -> bool:
    """Whether the very process of the record runs and is stopped by a signal."""
    seen = look(record.pid) if record and is_alive(record) else None
    return seen is not None and seen.state in "Tt"
