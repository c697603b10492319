# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer that was killed comes back without what it had told nobody.

Its binary log may end with commits that no other pet has acknowledged. If they came back, a late change could overwrite
a newer one that the new writer has acknowledged, or stop replication. So they are cut off before mysqld starts, when
it is sure that nobody was told of them: another pet has taken the lease as a member of the in-sync set and has opened
since, which it may only with all that was acknowledged. start.sh waits for that with the volume's lock in its hand.
What is cut off is kept in the volume, below ``.petset-rewound``. Whatever is not sure stays as it is, and the ring
merges it.

Files in the volume: ``.petset-guarded`` names the place in the log since which every commit waits for an
acknowledgement, so that InnoDB has only prepared what has none; it is there only while that holds, and start.sh takes
it away. ``.petset-cut`` says what was cut off, until it was seen that mysqld had not committed it all the same;
``.petset-spoilt`` that it had.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .binlog import Cut, NotReadable, holds, is_in_use, parse_set, plan_cut, read_log
from .model import NEVER, SPREAD, Lease, Server, Settings
from .mysqld import RawPeer

# For so long the start is put off while the API does not answer; while nobody takes a lease that is free; and while who
# has taken it has not opened. Then all is kept.
API_S, FREE_S, HELD_S = 20.0, 8.0, 60.0
STARTING = "starting"
GUARDED, PENDING, SPOILT, REWOUND = ".petset-guarded", ".petset-cut", ".petset-spoilt", ".petset-rewound"
_POLL_S = 0.1
# A volume that hangs does not put off that clients are cut off.
_GUARD_LIMIT_S = 1.0
_COPY_BYTES = 1 << 20
_SHOWN = 20
_UNREADABLE = (OSError, ValueError, struct.error)


@dataclass(frozen=True, slots=True)
class Word:
    """Whether mysqld may start. ``theirs``: the GTID set of the new writer, when it counts."""

    may_start: bool
    why: str
    theirs: str = ""


def judge(settings: Settings, lease: Lease | None, peers: Iterable[RawPeer], now_s: float, waited_s: float) -> Word:
    """Whether another has opened since this pet's mysqld was killed, or may; ``waited_s``: how long the start waits."""
    me = settings.me
    if settings.ordinal >= settings.eligible_masters:
        return Word(True, "this pet is never written to")
    if lease is None or now_s - lease.asked_s > settings.answer_s:
        return Word(waited_s > API_S, "the API server does not answer")
    if not lease.exists or lease.in_sync is None:
        return Word(True, "no ring was set up yet")
    if lease.mode == SPREAD:
        return Word(True, "with mode spread both pets are written to")
    if lease.followers is None or lease.followers:
        # One of them may have received what the new writer has not. Its number must not be used again.
        return Word(True, "further pets may follow, and have received it")
    heard = {raw.peer.name: raw for raw in peers if now_s - raw.peer.asked_s <= settings.answer_s}
    others = [name for name in lease.in_sync if name != me]
    if me in lease.in_sync and not others:
        return Word(True, "nobody else is in-sync")
    if me in lease.in_sync and lease.last_writer != me:
        return Word(True, "this pet has not written since it is in-sync")
    if me in lease.in_sync:
        # One that was restarted as well waits for this pet, which wrote last.
        if all(
            name in heard
            and (not heard[name].peer.alive or heard[name].peer.incarnation != lease.incarnations.get(name))
            for name in others
        ):
            return Word(True, f"the mysqld of {', '.join(others)} was down as well")
        return Word(waited_s > FREE_S, f"{', '.join(others)} may be about to take over")
    if not lease.holder:
        return Word(waited_s > FREE_S, f"nobody has taken the lease; in-sync is {', '.join(lease.in_sync)}")
    new = heard.get(lease.holder)
    if lease.holder == lease.last_writer != me and new is not None and new.peer.alive and new.peer.open:
        return Word(True, f"{lease.holder} is the writer", ",".join((new.executed, new.received)))
    return Word(waited_s > HELD_S, f"{lease.holder} has not opened yet, or does not answer")


class Rewinder:
    """One thread for the volume: waits for start.sh, and says when mysqld may start. ``ask`` is ``judge``."""

    def __init__(self, volume: Path, run: Path, ask: Callable[[float], Word], tell: Callable[[str], None]) -> None:
        self._volume, self._data = volume, volume / "data"
        self._starting = run / STARTING
        self._ask = ask
        self._tell = tell
        self._token = self._allowed = ""
        self._begun_s = 0.0
        self._why = "it was not looked at yet"
        # What the file says, as far as is known; what it shall say; and told when that is done.
        self._guarded: bool | None = None
        self._wish: bool | None = None
        self._wished = threading.Condition()
        self._is_loaded = False
        # What was cut off, and since when a look at mysqld tells whether it is gone.
        self._cut_off: tuple[tuple[str, int], ...] = ()
        self._cut_s = NEVER
        self._seen: bool | None = None
        self.spoilt = ""

    # --- for other threads --------------------------------------------------------------------------------------------

    def may_start(self, token: str) -> tuple[bool, str]:
        """Whether the start that bears this token may go on, and why not."""
        return bool(token) and token == self._allowed, self._why

    def check(self, server: Server) -> tuple[str, str]:
        """Why this pet's data cannot be trusted, and why that is not known yet; "" when all is well.

        ``server``: the last look at its mysqld.
        """
        if self.spoilt:
            return self.spoilt, ""
        if not self._is_loaded:
            return "", "the volume was not looked at yet"
        if not self._cut_off or self._seen is False:
            return "", ""
        if server.dead or server.answered_s < self._cut_s:
            return "", "it is not known yet whether what was cut off its binary log is gone"
        try:
            executed = parse_set(server.executed)
            hit = [f"{uuid}:{number}" for uuid, number in self._cut_off if holds(executed, uuid, number)]
        except NotReadable as problem:
            hit = [str(problem)]
        self._seen = bool(hit)
        if hit:
            self.spoilt = (
                f"mysqld had committed what was cut off its binary log: {', '.join(hit[:_SHOWN])};"
                " this pet has rows that the others have not, and has to be made anew"
            )
        return self.spoilt, ""

    def guard(self, on: bool, wait: bool = False) -> None:
        """Every commit waits for its acknowledgement from now on; or some may not. ``wait`` until the file says so, but
        not for a volume that hangs or is full: what was told last is done when it can be.
        """
        with self._wished:
            if on is self._guarded is self._wish:
                return
            if self._wish is None:
                threading.Thread(target=self._guard, name="guard", daemon=True).start()
            self._wish = on
            self._wished.notify_all()
            if wait:
                self._wished.wait_for(lambda: self._guarded is on, _GUARD_LIMIT_S)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """For ever."""
        while True:
            self.step()
            time.sleep(_POLL_S)

    def _load(self) -> None:
        """What an agent before this one has left to be looked at. OSError, ValueError: try again."""
        with contextlib.suppress(FileNotFoundError):
            self.spoilt = (self._volume / SPOILT).read_text(encoding="utf-8").strip()
        with contextlib.suppress(FileNotFoundError):
            (name, offset), *lines = map(str.split, (self._volume / PENDING).read_text(encoding="utf-8").splitlines())
            with contextlib.suppress(FileNotFoundError):
                if (self._data / name).stat().st_size > int(offset):
                    # The agent before this one did not come to it, and mysqld has started with all that it had.
                    lines = []
                    (self._volume / PENDING).unlink()
            self._cut_s = time.monotonic()
            self._cut_off = tuple((uuid, int(number)) for uuid, number in lines)
        self._is_loaded = True

    def step(self) -> None:
        """One look. A volume that cannot be read is mysqld's to tell: all is kept."""
        if not self._is_loaded:
            with contextlib.suppress(*_UNREADABLE):
                self._load()
        self._settle()
        token = self._read_token()
        if not token or token == self._allowed:
            return
        now_s = time.monotonic()
        if token != self._token:
            self._token, self._begun_s = token, now_s
        try:
            done = self._decide(now_s - self._begun_s)
        except _UNREADABLE as problem:
            self._tell(f"rewind: the binary log stays as it is: {problem}")
            done = True
        if done:
            self._allowed = token

    def _read_token(self) -> str:
        with contextlib.suppress(*_UNREADABLE):
            return self._starting.read_text(encoding="utf-8").strip()
        return ""

    def _settle(self) -> None:
        """Put in the volume what ``check`` has found."""
        if self._seen is None or not self._cut_off:
            return
        with contextlib.suppress(*_UNREADABLE):
            if self._seen:
                _write(self._volume / SPOILT, self.spoilt + "\n")
                self._tell(f"rewind: {self.spoilt}")
            (self._volume / PENDING).unlink(missing_ok=True)
            self._cut_off, self._seen = (), None

    def _decide(self, waited_s: float) -> bool:
        path = self._newest()
        if path is None:
            return True
        with path.open("rb") as file:
            if not is_in_use(file):
                return True
            word = self._ask(waited_s)
            self._why = word.why
            if not word.may_start:
                return False
            begin = self._guarded_from(path) if word.theirs else None
            if begin is None:
                self._tell(f"rewind: nothing is cut off: {word.why}")
                return True
            with self._no_other_mysqld():
                cut = plan_cut(read_log(file, path.stat().st_size), self._server_uuid(), parse_set(word.theirs))
                if cut is None:
                    self._tell(f"rewind: it has nothing that {word.why.partition(' ')[0]} has not")
                elif cut.offset < begin:
                    self._tell(f"rewind: {_name(cut)} stays: not all of it had to wait for an acknowledgement")
                else:
                    self._cut(path, cut)
        return True

    @contextlib.contextmanager
    def _no_other_mysqld(self) -> Iterator[None]:
        """Hold InnoDB's own lock: the log of a mysqld that runs, elsewhere and unknown to us, looks like this one."""
        with (self._data / "ibdata1").open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise NotReadable(f"another mysqld may have the data open: {error}") from None
            yield

    def _newest(self) -> Path | None:
        with contextlib.suppress(FileNotFoundError):
            names = (self._data / "binlog.index").read_text(encoding="utf-8").split()
            if names and (self._data / names[-1]).exists():
                return self._data / names[-1]
        return None

    def _server_uuid(self) -> str:
        found = re.search(r"^\s*server-uuid\s*=\s*(\S+)", (self._data / "auto.cnf").read_text(encoding="utf-8"), re.M)
        if found is None:
            raise NotReadable("auto.cnf has no server-uuid")
        return found[1].lower()

    def _guarded_from(self, path: Path) -> int | None:
        """From where on in this log every commit had to wait; None: that is not said."""
        with contextlib.suppress(FileNotFoundError):
            name, _space, length = (self._volume / GUARDED).read_text(encoding="utf-8").strip().partition(" ")
            # In a log before this one: mysqld has gone on to the next file since.
            return int(length) if name == path.name else 0
        return None

    def _guard(self) -> None:
        """One thread: the file as it was wished last."""
        while True:
            with self._wished:
                self._wished.wait_for(lambda: self._wish is not self._guarded)
                wish = self._wish
            try:
                self._put_guard(bool(wish))
            except _UNREADABLE:
                time.sleep(_POLL_S)
                continue
            with self._wished:
                self._guarded = wish
                self._wished.notify_all()

    def _put_guard(self, on: bool) -> None:
        path = self._newest() if on else None
        if path is not None:
            _write(self._volume / GUARDED, f"{path.name} {path.stat().st_size}\n")
        else:
            (self._volume / GUARDED).unlink(missing_ok=True)
            _sync_folder(self._volume)

    def _cut(self, path: Path, cut: Cut) -> None:
        """The end aside first, whole and synced; then it is cut off."""
        folder = self._volume / REWOUND
        folder.mkdir(mode=0o750, exist_ok=True)
        aside = folder / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{path.name}-{cut.offset}"
        with path.open("rb") as source, aside.open("wb") as target:
            source.seek(cut.offset)
            while part := source.read(_COPY_BYTES):
                target.write(part)
            target.flush()
            os.fsync(target.fileno())
        _sync_folder(folder)
        lines = [f"{path.name} {cut.offset}", *(f"{one.uuid} {one.number}" for one in cut.transactions)]
        _write(self._volume / PENDING, "\n".join(lines) + "\n")
        if self._read_token() != self._token:
            (self._volume / PENDING).unlink()
            raise NotReadable("the start has not waited")
        with path.open("r+b") as file:
            file.truncate(cut.offset)
            os.fsync(file.fileno())
        self._seen, self._cut_s = None, time.monotonic()
        self._cut_off = tuple((one.uuid, one.number) for one in cut.transactions)
        self._tell(f"rewind: {_name(cut)}, which nobody was told of, cut off {path.name}; kept in {aside}; {self._why}")


def _name(cut: Cut) -> str:
    shown = ", ".join(map(str, cut.transactions[:_SHOWN]))
    return f"{len(cut.transactions)} transactions ({shown}{', ...' if len(cut.transactions) > _SHOWN else ''})"


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for good."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
