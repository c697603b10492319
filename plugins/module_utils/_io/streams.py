# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WebSocket streams through the API server: a program in a container, a port of a pod.

The library's own way to them (``kubernetes.stream.stream`` with a method of ``CoreV1Api``) reads the models of the
whole API first: 2.5 s of a processor with client 37, for each module of a playbook. What it calls in the end is called
here, with the same connection settings; it is the same in 31.0 as in 37.0 (``kubernetes/stream/ws_client.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from .._core.kinds import POD
from .kube import KubeClient

with contextlib.suppress(ImportError):  # require_client has told the user
    from kubernetes.stream import ws_client


def open_exec(client: KubeClient, namespace: str, pod: str, container: str, command: Sequence[str]) -> Any:
    """The library's WSClient on a program's standard output. Raises what the library and its websockets raise."""
    query = [("command", word) for word in command]
    query += [("container", container), ("stderr", "false"), ("stdin", "false"), ("stdout", "true"), ("tty", "false")]
    return _call("websocket_call", client, POD.path(namespace, pod, "exec"), query)


def open_port_forward(client: KubeClient, namespace: str, pod: str, port: int) -> Any:
    """The library's PortForward to one port of a pod. Raises what the library and its websockets raise."""
    path = POD.path(namespace, pod, "portforward")
    return _call("portforward_call", client, path, [("ports", str(port))])


def _call(name: str, client: KubeClient, path: str, query: list[tuple[str, str]]) -> Any:
    shared = client.transport.api_client  # type: ignore[attr-defined]
    configuration = shared.configuration
    # The library sends this one header with a stream and no other; without that one it would act as who it really is.
    if "Impersonate-User" in shared.default_headers:
        raise PermissionError(
            "the Kubernetes library cannot impersonate in a stream (exec, port-forward): leave impersonate_user out, "
            "and give the credentials of a user with the rights that are wanted"
        )
    authorization = configuration.api_key.get("authorization")
    headers = {"authorization": authorization} if authorization else {}
    return getattr(ws_client, name)(
        configuration,
        "GET",
        configuration.host.rstrip("/") + path,
        query_params=query,
        headers=headers,
        _preload_content=False,
    )
