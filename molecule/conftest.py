# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the scenarios share."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra

from tests.pets import Pets


@pytest.fixture(scope="session")
def pets() -> Pets:
    return Pets(f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}")


@pytest.fixture(scope="session")
def nfs() -> Any:
    """The NFS server, as testinfra sees it."""
    [server] = testinfra.get_hosts(["ansible://nfs_servers"], ansible_inventory=os.environ["ANSIBLE_INVENTORY"])
    return server


@pytest.fixture(scope="session")
def project() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def power(project: Path) -> Callable[[str, str], None]:
    """Switch a node's power: ``power("off", node)``. PETSET_POWER is the command that takes these two words; on the lab
    it is the lab's own. Without one the test is left out.
    """
    command = shlex.split(os.environ.get("PETSET_POWER", ""))
    lab = os.environ.get("PETSET_LAB")
    if not command and not lab:
        pytest.skip("PETSET_POWER names no command that switches a node off and on")

    def switch(word: str, node: str) -> None:
        own = [sys.executable, "-m", "lab", f"power-{word}", "--name", str(lab), node]
        words = [*command, word, node] if command else own
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240, cwd=project)
        assert done.returncode == 0, done.stderr

    return switch
