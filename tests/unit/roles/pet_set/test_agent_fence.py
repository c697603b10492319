# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent has mysqld killed by fence.sh, which start.sh leaves beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.patience import patient
from tests.unit.roles.pet_set import agent_rig  # noqa: F401 - makes petset_agent importable
from tests.unit.roles.pet_set.boot_rig import Rig, in_each_shell

from petset_agent.fence import PIPE, order_kill  # isort: skip

pytestmark = pytest.mark.programs


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(tmp_path / "pod", getattr(request, "param", ("sh",)))


@pytest.fixture
def running(rig: Rig) -> subprocess.Popen[bytes]:
    """start.sh that has become a mysqld, with an agent beside it."""
    rig.fill()
    process = subprocess.Popen(
        [*rig.shell, str(rig.boot / "start.sh")],
        env={**rig.environment, "PETSET_AGENT_PORT": "1", "FAKE_SERVE_S": "60"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline_s = time.monotonic() + patient(20)
    while "sleep" not in Path(f"/proc/{process.pid}/cmdline").read_text() or not is_heard(rig):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return process


def is_heard(rig: Rig) -> bool:
    """Whether fence.sh reads the pipe by now."""
    try:
        os.close(os.open(rig.root / "petset" / "run" / PIPE, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@in_each_shell
def test_mysqld_is_killed_when_its_agent_says_so(rig: Rig, running: subprocess.Popen[bytes]) -> None:
    run = rig.root / "petset" / "run"
    try:
        assert order_kill(run)
        assert running.wait(patient(20)) == -signal.SIGKILL
    finally:
        running.kill()
        running.wait()
    # Nobody but mysqld has held the lock of the volume.
    assert rig.run("start.sh").returncode == 0


def test_other_words_are_no_order(rig: Rig, running: subprocess.Popen[bytes]) -> None:
    try:
        with (rig.root / "petset" / "run" / PIPE).open("w") as pipe:
            pipe.write("\nkil\nkill me\n")
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1.5)
    finally:
        running.kill()
        running.wait()


def test_nobody_hears_an_order(tmp_path: Path) -> None:
    """An image without bash, a start.sh that is older than the agent, a mysqld that has gone."""
    assert not order_kill(tmp_path)
    os.mkfifo(tmp_path / PIPE)
    assert not order_kill(tmp_path)
