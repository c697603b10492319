# SPDX-License-Identifier: GPL-3.0-or-later
"""All processes of a run, also those that left its process group: Ansible's workers have sessions of their own."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def find_marked(mark: str) -> list[int]:
    """Processes that have ``NAME=value`` in the environment that they began with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def kill_marked(mark: str) -> None:
    """Kill them all, and those that they began meanwhile. A worker whose playbook is gone waits for ever."""
    while pids := find_marked(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
