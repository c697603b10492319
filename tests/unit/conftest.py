# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every unit test: nothing leaves this host, and property tests repeat themselves."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run, so that a red gate is red again; no deadline, as the cores may be busy.
settings.register_profile("gate", derandomize=True, deadline=None)
# For the runs that ask whether the code works with another ansible-core or another loader, not whether it is right.
settings.register_profile("quick", settings.get_profile("gate"), max_examples=10)
# By hand: PETSET_HYPOTHESIS=explore make unit
settings.register_profile("explore", max_examples=2000, deadline=None)
UNDER_ANSIBLE_TEST = "ansible_pytest" in os.environ.get("PYTEST_PLUGINS", "")
settings.load_profile(os.environ.get("PETSET_HYPOTHESIS", "quick" if UNDER_ANSIBLE_TEST else "gate"))


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this host: a path, or a loopback address or its name."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Refuse connections to anything but this host, whatever a test's double forgot to replace."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(address: Any) -> None:
        if not is_local(address):
            raise AssertionError(f"a unit test reaches for {address!r}, which is not on this host")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None:
            refuse((host.decode() if isinstance(host, bytes) else host, 0))
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def no_pause_between_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double that is down is down at once: four attempts at each look took minutes of the tests' time."""
    # Not at the top: under ansible-test this file is read before the collection can be imported.
    from ansible_collections.stateful.petset.plugins.module_utils._io import mysql

    monkeypatch.setattr(mysql, "PAUSES_S", (0.0,))
