# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent answers, from its last decision: nothing here waits for mysqld or the API."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .model import NEVER


@dataclass(frozen=True, slots=True)
class View:
    """What is known. A view that the loop has not renewed for ``stale_s`` answers no to everything."""

    decided_s: float = NEVER
    writer_until_s: float = NEVER
    reader_until_s: float = NEVER
    healthy_until_s: float = NEVER
    reasons: tuple[str, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    stale_s: float = 2.0
    left: bool = False
    """Whether mysqld may be stopped: nobody is told anything any more that only this pet has."""


def answer(view: View, path: str, now_s: float) -> tuple[int, str, str]:
    """Status, type and text for a path.

    >>> answer(View(), "/writer", 0.0)[0]
    503
    """
    until_s = {"/writer": view.writer_until_s, "/reader": view.reader_until_s, "/healthz": view.healthy_until_s}
    current = now_s - view.decided_s <= view.stale_s
    if path == "/livez":
        return 200 if current else 503, "text/plain; charset=utf-8", "ok\n" if current else "the loop hangs\n"
    if path == "/left":
        return (200, "text/plain; charset=utf-8", "yes\n") if view.left else (503, "text/plain; charset=utf-8", "no\n")
    if path in until_s:
        good = current and now_s < until_s[path]
        why = "; ".join(view.reasons) or ("no" if current else "")
        text = "ok" if good else why or "the agent has decided nothing lately"
        return 200 if good else 503, "text/plain; charset=utf-8", text + "\n"
    if path == "/status":
        body = {
            **view.status,
            "current": current,
            "writer": answer(view, "/writer", now_s)[0] == 200,
            "reader": answer(view, "/reader", now_s)[0] == 200,
            "age_s": round(now_s - view.decided_s, 3) if view.decided_s != NEVER else None,
        }
        return 200, "application/json", json.dumps(body, sort_keys=True) + "\n"
    if path == "/metrics":
        values = {
            **view.metrics,
            "petset_writer": float(answer(view, "/writer", now_s)[0] == 200),
            "petset_reader": float(answer(view, "/reader", now_s)[0] == 200),
        }
        lines = [f"# TYPE {name} gauge\n{name} {value:g}\n" for name, value in sorted(values.items())]
        return 200, "text/plain; version=0.0.4; charset=utf-8", "".join(lines)
    return 404, "text/plain; charset=utf-8", "/writer /reader /healthz /metrics /status\n"


class _Handler(BaseHTTPRequestHandler):
    """GET, HEAD and OPTIONS of the paths above."""

    timeout = 5
    server: AgentServer

    def do_GET(self) -> None:
        """With the text."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Without the text."""
        self._answer(body=False)

    do_OPTIONS = do_GET  # noqa: N815 - http.server's name

    def _answer(self, *, body: bool) -> None:
        path, _mark, query = self.path.partition("?")
        if path == "/pledge" and body:
            said: dict[str, Any] = {"pledged": self.server.pledge(query.removeprefix("to="))}
            me = self.server.look().status
            if me:
                said["by"] = f"{me['namespace']}/{me['name']}"
            status, kind, text = 200, "application/json", json.dumps(said) + "\n"
        elif path == "/start":
            good, why = self.server.may_start(query)
            status, kind, text = 200 if good else 503, "text/plain; charset=utf-8", f"{why}\n"
        else:
            status, kind, text = answer(self.server.look(), path, time.monotonic())
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Checks come several times a second: nothing is logged."""


class AgentServer(ThreadingHTTPServer):
    """On all addresses, IPv6 and IPv4."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        port: int,
        look: Callable[[], View],
        host: str = "",
        pledge: Callable[[str], bool] = lambda _holder: False,
        may_start: Callable[[str], tuple[bool, str]] = lambda _token: (True, ""),
    ) -> None:
        self.look = look
        self.pledge = pledge
        self.may_start = may_start
        if not host:
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - the pod's own port
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """One socket for both families."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A checker that hangs up after the status line is no error."""

    def start(self) -> None:
        """Serve in the background."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.5}, name="http", daemon=True).start()
