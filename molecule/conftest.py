# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the scenarios share."""

from __future__ import annotations

import os
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
