# SPDX-License-Identifier: GPL-3.0-or-later
"""A killed playbook left its worker behind, in a session of its own, for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.processes import find_marked, kill_marked

FORKS = "import os, time; os.fork() or os.setsid(); time.sleep(60)"


def test_what_left_the_process_group_is_killed_as_well(tmp_path: Path) -> None:
    mark = f"PETSET_TEST_RUN={tmp_path}"
    with subprocess.Popen(["env", mark, sys.executable, "-c", FORKS], start_new_session=True) as process:
        deadline = time.monotonic() + 20
        while len(find_marked(mark)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(find_marked(mark)) == 2
        assert find_marked(f"{mark}-other") == []
        kill_marked(mark)
        assert process.wait(5) == -9
    assert find_marked(mark) == []
