# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab says while it works. Standard output stays free for values: all talk goes to standard error."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

_lock = threading.Lock()
_started = time.monotonic()


class LabError(Exception):
    """A failure that a person can act on: what failed, why, and the way out (``hint``)."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def elapsed_s() -> float:
    """Seconds since this process started to talk."""
    return time.monotonic() - _started


def say(text: str) -> None:
    """Print one line with the time since the start, whole even when several threads talk."""
    with _lock:
        print(f"[{elapsed_s():6.1f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a piece of work, and how long it took or that it failed."""
    say(f"... {what}")
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"!!! {what}: failed after {time.monotonic() - began:.1f} s")
        raise
    say(f"ok  {what} ({time.monotonic() - began:.1f} s)")


def in_parallel(jobs: Sequence[Callable[[], object]]) -> None:
    """Run all jobs at once, wait for all, then raise the first error if there was one."""
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        futures = [pool.submit(job) for job in jobs]
    for future in futures:
        future.result()


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log file, indented; empty when there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join("    | " + line for line in text.splitlines()[-lines:])


def die(error: LabError) -> NoReturn:
    """Print the error with its way out and leave with status 1."""
    print(f"lab: {error}", file=sys.stderr)
    if error.hint:
        print(f"  way out: {error.hint}", file=sys.stderr)
    raise SystemExit(1)
