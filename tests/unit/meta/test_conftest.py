# SPDX-License-Identifier: GPL-3.0-or-later
"""The test bed itself."""

from __future__ import annotations

import importlib.util
import socket

import pytest


@pytest.mark.parametrize("name", ["ansible_collections.stateful.petset", "lab.paths"])
def test_the_checkout_is_importable(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "db.example.org"])
def test_connections_beyond_this_host_are_refused(host: str) -> None:
    with pytest.raises(AssertionError, match="not on this host"):
        socket.create_connection((host, 80), timeout=1)


def test_connections_to_loopback_work() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname(), timeout=5) as client:
        assert client.getpeername() == server.getsockname()
