# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server's port-forward without an API server: its WebSocket subprotocol, bridged to ports of this host.

Source: "kubectl port-forward" over WebSockets, subprotocol v4.channel.k8s.io: channel 0 carries data and channel 1
errors, and each begins with the port as two bytes, low byte first.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections.abc import Mapping

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class PortForwarder:
    """``pods``: where each pod's port really is. A pod that is not there is 404, without the token it is 403."""

    def __init__(self, pods: Mapping[str, int], token: str) -> None:
        self.pods = dict(pods)
        self.token = token
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            found = re.match(rb"GET \S*/pods/([^/]+)/portforward\?ports=(\d+) ", head)
            if f"bearer {self.token}".encode().lower() not in head.lower():
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            if found is None or found[1].decode() not in self.pods:
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            key = re.search(rb"sec-websocket-key: *(\S+)", head, re.IGNORECASE)
            assert key is not None
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
            client.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            port = struct.pack("<H", int(found[2]))
            for channel in (b"\0", b"\1"):
                client.sendall(_frame(channel + port))
            try:
                target = socket.create_connection(("127.0.0.1", self.pods[found[1].decode()]), 5)
            except OSError as problem:
                client.sendall(_frame(b"\1" + f"error forwarding port: {problem.strerror}".encode()))
                client.recv(65536)
                return
            with target:
                target.settimeout(None)
                threading.Thread(target=self._back, args=(target, client), daemon=True).start()
                while (payload := _read_frame(client)) is not None:
                    if payload[:1] == b"\0":
                        self.seen.append(payload[1:])
                        target.sendall(payload[1:])

    @staticmethod
    def _back(target: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := target.recv(30000):
                client.sendall(_frame(b"\0" + data))
            client.sendall(b"\x88\x00")


def _frame(payload: bytes) -> bytes:
    length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
    return b"\x82" + length + payload


def _read_frame(client: socket.socket) -> bytes | None:
    """One frame of a client, unmasked; None when it ends."""
    head = _exactly(client, 2)
    if head is None or head[0] & 0x0F == 8:
        return None
    size = head[1] & 0x7F
    if size >= 126:
        more = _exactly(client, 2 if size == 126 else 8)
        if more is None:
            return None
        size = int.from_bytes(more, "big")
    mask, body = _exactly(client, 4), _exactly(client, size)
    if mask is None or body is None:
        return None
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))


def _exactly(client: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
