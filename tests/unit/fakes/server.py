# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server in memory behind a real socket on loopback, for tests that run a module as Ansible runs it."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import NoAnswer
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster

TOKEN = "fake-token-of-the-tests"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        cluster: FakeCluster = self.server.cluster  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            code, headers, content = 401, {}, b'{"kind": "Status", "message": "Unauthorized"}'
        else:
            try:
                answer = cluster.send(self.command, parts.path, dict(parse_qsl(parts.query)), self.headers, body, 5.0)  # type: ignore[arg-type]
            except NoAnswer:
                self.close_connection = True
                return
            code, headers, content = answer.status, dict(answer.headers), answer.body
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer  # noqa: N815

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


@contextlib.contextmanager
def serving(cluster: FakeCluster) -> Iterator[str]:
    """The URL of a server for this cluster, for as long as the context lasts."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.cluster = cluster  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
