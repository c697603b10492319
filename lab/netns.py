# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets inside the lab's network namespaces, from a process that stays outside.

A socket belongs to the namespace that its thread was in when it was made, for all its life. So a thread goes in, makes
the socket, and comes back. (``os.setns`` is there from Python 3.12 only.)
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def tcp_socket(namespace: str) -> socket.socket:
    """An unconnected IPv4 TCP socket that lives in the namespace. Raises OSError when there is no such namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            _setns(there)
            try:
                return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            finally:
                _setns(home)
        finally:
            os.close(there)
    finally:
        os.close(home)


def connect(namespace: str, ip: str, port: int, timeout_s: float, source_ip: str | None = None) -> socket.socket:
    """A TCP connection from within the namespace."""
    sock = tcp_socket(namespace)
    try:
        sock.settimeout(timeout_s)
        if source_ip:
            sock.bind((source_ip, 0))
        sock.connect((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: status and body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, sock: socket.socket, host: str) -> None:
        super().__init__(host)
        self.sock = sock


def http_request(
    namespace: str,
    ip: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 5,
) -> Reply:
    """One HTTP(S) request from within the namespace. Raises OSError (refused, timeout, TLS) or HTTPException."""
    wrapped = sock = connect(namespace, ip, port, timeout_s)
    try:
        if tls:
            wrapped = tls.wrap_socket(sock, server_hostname=ip)
        connection = _Connection(wrapped, ip)
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return Reply(answer.status, answer.read())
    finally:
        # TLS has taken the file descriptor over.
        wrapped.close()
        sock.close()
