# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that these tests run on: brought up if it is down, left up for the next stage."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import ssh, state
from lab.state import LabState

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    rc: int
    stdout: str
    stderr: str


def call(argv: Sequence[str], input_text: str | None = None, timeout_s: float = 300) -> Done:
    """Run a command to its end and keep what it said."""
    done = subprocess.run(
        argv,
        input=input_text,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
        stdin=None if input_text is not None else subprocess.DEVNULL,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def cli(*words: str, timeout_s: float = 300, input_text: str | None = None) -> Done:
    """The lab's own command line, as a user calls it."""
    return call([sys.executable, "-m", "lab", *words], input_text=input_text, timeout_s=timeout_s)


def wait_for(what: str, check: Callable[[], Any], timeout_s: float = 60, every_s: float = 0.5) -> Any:
    """Poll until ``check`` gives something true, and return it; fail with the last thing it gave."""
    deadline = time.monotonic() + timeout_s
    while True:
        last = check()
        if last:
            return last
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {what}; last seen: {last!r}")
        time.sleep(every_s)


class Lab:
    """One lab for tests: its command line, its machines, its cluster."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def state(self) -> LabState:
        """The state as it is on disk now."""
        return state.need(self.name)

    def cli(
        self, command: str, *words: str, ok: bool = True, timeout_s: float = 300, input_text: str | None = None
    ) -> Done:
        """A command of the lab; with ``ok`` its failure fails the test and shows what it said."""
        done = cli(command, "--name", self.name, *words, timeout_s=timeout_s, input_text=input_text)
        if ok and done.rc != 0:
            pytest.fail(f"lab {command} {' '.join(words)}: exit status {done.rc}\n{done.stdout}\n{done.stderr}")
        return done

    def ssh(
        self, machine: str, command: str | Sequence[str], input_text: str | None = None, timeout_s: float = 120
    ) -> Done:
        """A shell script (text) or a command (words) on a machine."""
        plan = self.state.plan
        words = ["sh", "-ec", command] if isinstance(command, str) else list(command)
        return call(
            ssh.argv(plan, plan.machine(machine), [shlex.join(words)]), input_text=input_text, timeout_s=timeout_s
        )

    def put(self, machine: str, local: Path | str, remote: str) -> None:
        """Copy a file to a machine."""
        done = self.ssh(machine, f"cat > '{remote}'", input_text=Path(local).read_text())
        assert done.rc == 0, done.stderr

    def kubectl(self, *words: str, ok: bool = True, input_text: str | None = None, timeout_s: float = 120) -> Done:
        """kubectl as administrator."""
        return self.cli("kubectl", "--", *words, ok=ok, input_text=input_text, timeout_s=timeout_s)

    def get(self, *words: str) -> Any:
        """kubectl get ... as data."""
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def run(self, *words: str, ok: bool = True, timeout_s: float = 300) -> Done:
        """A command in the lab's client network."""
        return self.cli("run", "--", *words, ok=ok, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab named by $PETSET_LAB (default ``lab``), up and healthy at the start."""
    one = Lab(os.environ.get("PETSET_LAB", "lab"))
    one.cli("up", timeout_s=3600)
    one.cli("heal")
    yield one
    one.cli("heal")


@pytest.fixture(scope="session")
def nfs_server(lab: Lab) -> Lab:
    """The lab with the kernel's NFS server installed on its NFS machine, from packages through the gateway."""
    done = lab.ssh(
        "nfs",
        "export DEBIAN_FRONTEND=noninteractive\n"
        "command -v exportfs || { apt-get -q update && apt-get -q -y install nfs-kernel-server; }\n"
        "mkdir -p /etc/exports.d; systemctl start nfs-server; cat /proc/fs/nfsd/threads",
        timeout_s=600,
    )
    assert done.rc == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0
    return lab
