# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program in a container by way of the API server. Audit logs have its arguments: nothing secret in them."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .._core.manifests import MYSQL_CONTAINER
from .._core.pet_probe import Probe, parse_probe, probe_command
from .kube import KubeClient
from .streams import open_exec

# The program itself waits 5 s at most for each peer that does not answer.
_LIMIT_S = 60
_AT_ONCE = 8
# A way through API server, kubelet and runtime breaks off now and then; what is refused or not there stays so.
_PAUSES_S = (0.2, 0.6)
_BROKE_OFF_S = 5.0
_LASTING = ("401", "403", "404")


class NotRun(RuntimeError):
    """The way to the container did not open, so nothing was run in it."""


def run_in_pod(client: KubeClient, namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
    """Standard output of a command that does no harm when run again. RuntimeError: it could not be run, and why."""
    for pause_s in _PAUSES_S:
        begin = time.monotonic()
        try:
            return run_once_in_pod(client, namespace, pod, container, command)
        except RuntimeError as problem:
            # One that used up its time would use it up again.
            if time.monotonic() - begin > _BROKE_OFF_S or any(code in str(problem) for code in _LASTING):
                raise
            time.sleep(pause_s)
    return run_once_in_pod(client, namespace, pod, container, command)


def run_once_in_pod(client: KubeClient, namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
    """Standard output of a command that must not be run twice. NotRun: it was not run. RuntimeError: the stream broke
    off after the command was sent; it may have been run.
    """
    try:
        stream = open_exec(client, namespace, pod, container, command)
    except Exception as problem:  # the library lets through those of its websocket library as well
        raise NotRun(_words_of(problem)) from problem
    try:
        return _read_to_end(stream)
    except Exception as problem:
        raise RuntimeError(_words_of(problem)) from problem


def _words_of(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300] or type(problem).__name__


def _read_to_end(stream: Any) -> str:
    deadline_s = time.monotonic() + _LIMIT_S
    while stream.is_open() and (left_s := deadline_s - time.monotonic()) > 0:
        plain = stream.sock.sock
        if isinstance(plain, ssl.SSLSocket) and plain.pending():
            # Before 37 the library waits for the network although more lies decrypted behind its back: so more comes.
            stream.sock.ping()
        stream.update(timeout=left_s)
    with contextlib.suppress(Exception):
        stream.close()
        # After the other side's goodbye closing leaves the socket open.
        stream.sock.shutdown()
    return str(stream.read_all())


def observe_probes(client: KubeClient, namespace: str, pets: Sequence[str], service: str) -> Mapping[str, Probe]:
    """What each of these pets sees of its volume and of all of them by name; all look at the same time."""
    peers = [f"{pet}.{service}" for pet in pets]

    def probe(pet: str) -> Probe:
        try:
            return parse_probe(run_in_pod(client, namespace, pet, MYSQL_CONTAINER, probe_command(peers)))
        except RuntimeError as problem:
            return Probe(failure=str(problem))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(pets, pool.map(probe, pets), strict=True))
