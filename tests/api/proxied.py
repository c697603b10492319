# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy on loopback before pets of a few lines: a server that greets, an agent that answers a status, DNS."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import (
    CONFIG_FILE,
    Ports,
    ProxyConfig,
    Times,
    render_files,
)

from lab.debian import ensure_haproxy
from tests.api.cluster import free_ports
from tests.patience import patient

DOMAIN = "db.default.svc.cluster.local"


class Names:
    """A DNS server for A records; a name that is not there does not exist."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        names = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                data, channel = self.request
                channel.sendto(names.answer(data), self.client_address)

        self._server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        address = self.addresses.get(".".join(labels))
        has = address is not None and kind == 1
        head = struct.pack("!HHHHHH", struct.unpack("!H", query[:2])[0], 0x8580 | (0 if address else 3), 1, has, 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(address or "0.0.0.0")
        return head + question + (record if has else b"")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class Pet:
    """Greets with its name and echoes lines. ``status`` is what its agent answers, by path; ``asked`` counts."""

    def __init__(self, name: str, address: str, mysql: int, health: int) -> None:
        self.name, self.address = name, address
        self.status = {"/writer": 503, "/reader": 503}
        self.asked = 0
        self.sessions = 0
        pet = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                pet.sessions += 1
                with contextlib.suppress(OSError):
                    self.wfile.write(pet.name.encode() + b"\n")
                    for line in self.rfile:
                        self.wfile.write(line)

        class Agent(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                pet.asked += 1
                with contextlib.suppress(OSError):
                    self.send_response(pet.status.get(self.path, 404))
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_args: Any) -> None:
                return

        self._mysql = _Server((address, mysql), Session)
        self._agent = ThreadingHTTPServer((address, health), Agent)
        for server in (self._mysql, self._agent):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        for server in (self._mysql, self._agent):
            server.shutdown()
            server.server_close()


class Client:
    """One connection through the proxy; ``server`` is the pet that greeted it, empty when it was turned away."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.settimeout(5)
        self.server = self._line()

    def _line(self) -> str:
        got = b""
        while not got.endswith(b"\n"):
            try:
                more = self._socket.recv(100)
            except OSError:
                return ""
            if not more:
                return ""
            got += more
        return got.decode().strip()

    def echo(self, word: str) -> str:
        """The word as it comes back, empty when the session is cut."""
        try:
            self._socket.sendall(word.encode() + b"\n")
        except OSError:
            return ""
        return self._line()

    def is_cut(self, within_s: float) -> bool:
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._socket.close()


class Proxied:
    """Pets, their names and a proxy. The configuration is the rendered one; only ports and the DNS server differ."""

    def __init__(self, folder: Path, pets: int = 3, proxies: int = 1, **config: Any) -> None:
        self.folder = folder
        self.names = Names()
        mysql, health, *ports = free_ports(2 + 3 * proxies)
        self.config = ProxyConfig(
            tuple(f"mysql-{ordinal}" for ordinal in range(pets)),
            DOMAIN,
            ports=Ports(*ports[:3], mysql=mysql, health=health),
            nameservers=(f"127.0.0.1:{self.names.port}",),
            bind_address="127.0.0.1",
            folder=str(folder),
            times=Times(waiting_ms=500),
            **config,
        )
        self.ports = [Ports(*ports[3 * one : 3 * one + 3], mysql=mysql, health=health) for one in range(proxies)]
        self.pets: dict[str, Pet] = {}
        self.masters: list[subprocess.Popen[bytes]] = []
        self._clients: list[Client] = []

    def add(self, ordinal: int, last: int = 1) -> Pet:
        """Start a pet with an address of its own (``last``: another one for the same pet) and give it its name."""
        name, address = f"mysql-{ordinal}", f"127.7.{ordinal}.{last}"
        pet = Pet(name, address, self.config.ports.mysql, self.config.ports.health)
        self.pets[name] = pet
        self.names.addresses[f"{name}.{DOMAIN}"] = address
        return pet

    def write(self, number: int = 0) -> None:
        """Write the configuration of one proxy."""
        for name, text in render_files(replace(self.config, ports=self.ports[number])).items():
            (self.folder / name).write_text(text)
        (self.folder / CONFIG_FILE).rename(self.folder / f"haproxy-{number}.cfg")

    def start(self) -> None:
        for number in range(len(self.ports)):
            self.write(number)
            with (self.folder / f"haproxy-{number}.log").open("ab") as log:
                self.masters.append(
                    subprocess.Popen(
                        [ensure_haproxy(), "-W", "-db", "-f", self.folder / f"haproxy-{number}.cfg"],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={"PATH": os.environ["PATH"]},
                    )
                )
            wait_for(lambda number=number: self.get("/healthz", number) is not None)  # type: ignore[misc]

    def get(self, path: str, number: int = 0) -> str | None:
        """What the proxy's own pages say; None when it does not answer."""
        url = f"http://127.0.0.1:{self.ports[number].stats}{path}"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return None

    def client(self, reader: bool = False, number: int = 0) -> Client:
        client = Client(self.ports[number].reader if reader else self.ports[number].writer)
        self._clients.append(client)
        return client

    def writer(self, number: int = 0) -> str:
        """The pet that a new client of the writer's port gets now."""
        client = self.client(number=number)
        client.close()
        return client.server

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        for master in self.masters:
            master.terminate()
        for master in self.masters:
            master.wait(10)
        for pet in self.pets.values():
            pet.stop()
        self.names.stop()


def wait_for(condition: Callable[[], Any], limit_s: float = 10.0) -> float:
    """Seconds until the condition held. AssertionError: it never did."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < patient(limit_s), "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - start


@contextlib.contextmanager
def proxied(folder: Path, **options: Any) -> Iterator[Proxied]:
    """The whole for as long as the context lasts; the caller adds pets and starts it."""
    one = Proxied(folder, **options)
    try:
        yield one
    finally:
        one.stop()
