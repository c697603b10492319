# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams through an API server whose answer comes in one TLS record with all that is said first."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.certificates import certificate_names
from ansible_collections.stateful.petset.plugins.module_utils._io import mysql, podexec
from ansible_collections.stateful.petset.plugins.module_utils._io.openssl import make_certificates
from ansible_collections.stateful.petset.tests.unit.fakes.pets import SPEC

kubernetes = pytest.importorskip("kubernetes")

GREETING = b"the greeting of mysqld"
# RFC 6455, 1.3.
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA


def run(words: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def frame(opcode: int, payload: bytes) -> bytes:
    """A short frame of a server."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, len(payload)]) + payload


def read_exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def read_frame(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    """A short frame of a client."""
    first, second = read_exactly(connection, 2)
    mask = read_exactly(connection, 4)
    payload = read_exactly(connection, second & 0x7F)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def close_frame() -> bytes:
    return frame(CLOSE, (1000).to_bytes(2, "big"))


class ApiServer:
    """Takes one stream and says all this in the record of its answer; then echoes what comes, and answers pings."""

    def __init__(self, folder: Path, *said: bytes) -> None:
        self._said = b"".join(said)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        plain, _address = self._listener.accept()
        with self._listener, self._context.wrap_socket(plain, server_side=True) as connection:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += read_exactly(connection, 1)
            headers = dict(
                line.lower().split(b": ", 1)[:1] + line.split(b": ", 1)[1:] for line in request.split(b"\r\n")[1:-2]
            )
            accept = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + ACCEPT).digest())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: "
                + accept
                + b"\r\n\r\n"
                + self._said
            )
            try:
                while True:
                    opcode, payload = read_frame(connection)
                    if opcode == PING:
                        connection.sendall(frame(PONG, payload))
                    elif opcode == BINARY:
                        connection.sendall(frame(BINARY, payload))
                    else:
                        return
            except (EOFError, OSError):
                return


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server that says this; gives the collection's client of it."""
    files, _end_s = make_certificates(run, "mysql.default", certificate_names(SPEC), 30, str(tmp_path))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    servers = []

    def begin(*said: bytes) -> Any:
        server = ApiServer(tmp_path, *said)
        servers.append(server)
        configuration = kubernetes.client.Configuration()
        configuration.host = f"https://localhost:{server.port}"
        configuration.ssl_ca_cert = str(tmp_path / "ca.crt")
        api_client = kubernetes.client.ApiClient(configuration)
        return SimpleNamespace(transport=SimpleNamespace(api_client=api_client), requests=[])

    yield begin
    for server in servers:
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_a_greeting_that_comes_together_with_the_answer_is_not_left_lying(start: Start) -> None:
    """mysqld gave up after ten seconds, and what was seen was a handshake that it had ended."""
    port = mysql.ADMIN_PORT.to_bytes(2, "little")
    kube = start(frame(BINARY, b"\0" + port), frame(BINARY, b"\1" + port), frame(BINARY, b"\0" + GREETING))
    forward = mysql._forward(kube, "default", "mysql-0")
    ours = forward.socket(mysql.ADMIN_PORT)
    ours.settimeout(5)
    assert ours.recv(100) == GREETING
    ours.sendall(b"hello")
    assert ours.recv(100) == b"hello"
    mysql._end(ours._socket)


def test_a_program_that_has_ended_before_its_stream_is_read_is_not_waited_for(start: Start) -> None:
    """With the library before 37 all that came in one record was read a minute later."""
    began_s = time.monotonic()
    kube = start(frame(BINARY, b"\1one, "), frame(BINARY, b"\1two"), frame(BINARY, b"\3{}"), close_frame())
    assert podexec.run_once_in_pod(kube, "default", "mysql-0", "mysqld", ["true"]) == "one, two"
    assert time.monotonic() - began_s < 10


def test_a_stream_never_acts_as_another_than_was_asked_for() -> None:
    """The library drops the header without a word, and the stream had the rights of who asked."""
    api_client = kubernetes.client.ApiClient(kubernetes.client.Configuration())
    api_client.set_default_header("Impersonate-User", "somebody")
    kube: Any = SimpleNamespace(transport=SimpleNamespace(api_client=api_client), requests=[])
    with pytest.raises(mysql.PetDown, match="impersonate"):
        mysql._forward(kube, "default", "mysql-0")
    with pytest.raises(RuntimeError, match="impersonate"):
        podexec.run_once_in_pod(kube, "default", "mysql-0", "mysqld", ["true"])


def test_a_stream_does_not_read_the_whole_api_first() -> None:
    """Its models take seconds of a processor, for each module of a playbook."""
    begin = f"import sys; sys.path.insert(0, {str(Path(mysql.__file__).parents[6])!r}); "
    package = "ansible_collections.stateful.petset.plugins.module_utils._io"
    _code, before, _said = run([sys.executable, "-c", f"{begin}import kubernetes.client; print(*sys.modules)"])
    if "core_v1_api" in before:
        pytest.skip("this release of the library reads it whatever is wanted of it")
    script = f"{begin}from {package} import mysql, podexec, streams; streams.ws_client; print(*sys.modules)"
    code, names, said = run([sys.executable, "-c", script])
    assert code == 0, said
    assert "kubernetes.stream.ws_client" in names
    assert "core_v1_api" not in names
