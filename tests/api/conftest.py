# SPDX-License-Identifier: GPL-3.0-or-later
"""One API server for the whole run, a namespace of its own for each test."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.kubeconfig import resolve_settings
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient, RetryPolicy
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import (
    Answer,
    HttpTransport,
    NoAnswer,
    find_connection,
)

from lab.gobuild import DEFAULT_MINOR
from tests.api.cluster import ADMIN_TOKEN, Cluster, running_cluster

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real API server with etcd and the controllers, without nodes."""
    version = os.environ.get("PETSET_API_KUBERNETES") or DEFAULT_MINOR
    # On a fresh machine it is built first, for minutes: no reason for pytest to print the stacks of a test that hangs.
    faulthandler.cancel_dump_traceback_later()
    with running_cluster(tmp_path_factory.mktemp("api"), version) as cluster:
        yield cluster


@pytest.fixture
def namespace(api: Cluster) -> Iterator[str]:
    """A namespace that nobody else uses. What is cluster-wide in a test should carry its name."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    for volume in api.request("GET", "/api/v1/persistentvolumes")["items"]:
        if volume["metadata"]["name"].startswith(name):
            api.request("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")


@pytest.fixture
def client(api: Cluster) -> KubeClient:
    """The collection's own client as the administrator."""
    return client_for(api, ADMIN_TOKEN)


def client_for(api: Cluster, token: str, **retry: float) -> KubeClient:
    """The collection's own client with a token; counts from zero."""
    settings = resolve_settings({"host": api.host, "api_key": token, "ca_cert": str(api.ca)}, {})
    transport = HttpTransport(
        find_connection(settings, {}), run_command=no_plugin, register_secret=lambda _secret: None
    )
    return KubeClient(transport, retry=RetryPolicy(**retry))


class Killed(BaseException):
    """Stands for the end of a run's process."""


def dying_client(api: Cluster, writes: int) -> KubeClient:
    """The administrator's client of a run that gets ``writes`` writes through and is killed in the next one."""
    client = client_for(api, ADMIN_TOKEN)
    left, lock, real = [writes], threading.Lock(), client.transport.send

    def send(method: str, path: str, query: Any, *rest: Any) -> Answer:
        if method != "GET" and "dryRun" not in query:
            with lock:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
        return real(method, path, query, *rest)

    client.transport.send = send  # type: ignore[method-assign, assignment]
    return client


@contextlib.contextmanager
def losing_client(
    api: Cluster, writes: int, *, answered: bool = True, back: bool = False, **retry: float
) -> Iterator[KubeClient]:
    """The administrator's client of a run whose API server is killed after ``writes`` writes; it is back at the end.

    ``answered`` False: it dies between the last of these writes and its answer.
    ``back``: it is started at once again, while the run goes on.
    """
    client = client_for(api, ADMIN_TOKEN, **retry)
    left, lock, real = [writes], threading.Lock(), client.transport.send
    starter = threading.Thread(target=api.start_api)

    def send(method: str, path: str, query: Any, *rest: Any) -> Answer:
        if method == "GET" or "dryRun" in query:
            return real(method, path, query, *rest)
        with lock:
            answer = real(method, path, query, *rest)
            left[0] -= 1
            if left[0] == 0:
                api.stop_api()
                if back:
                    starter.start()
                if not answered:
                    raise NoAnswer("Connection reset by peer", sent=True)
            return answer

    client.transport.send = send  # type: ignore[method-assign, assignment]
    try:
        yield client
    finally:
        if back and left[0] <= 0:
            starter.join()
        elif left[0] <= 0:
            api.start_api()
    assert left[0] <= 0, f"the run was over {left[0]} writes before the API server was to be killed"


def no_plugin(*_args: object) -> tuple[int, str, str]:
    """No credential plugin is run here."""
    raise AssertionError("no plugin is expected")
