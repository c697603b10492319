# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that breaks off is asked for again; what is refused is not, nor what must not be run twice."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._io import podexec


@pytest.mark.parametrize(
    ("problems", "attempts", "succeeds"),
    [
        ([], 1, True),
        (["(0) Reason: Connection reset by peer"], 2, True),
        (["(0) Reason: Handshake status 500", "(0) Reason: Handshake status 500"], 3, True),
        (["broke off"] * 3, 3, False),
        (["(0) Reason: Handshake status 403 Forbidden"], 1, False),
        (["(0) Reason: Handshake status 404 Not Found"], 1, False),
    ],
)
def test_a_stream_that_broke_off_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, problems: list[str], attempts: int, succeeds: bool
) -> None:
    asked: list[Any] = []

    def run_once(*args: Any) -> str:
        asked.append(args)
        if len(asked) <= len(problems):
            raise RuntimeError(problems[len(asked) - 1])
        return "said"

    monkeypatch.setattr(podexec, "run_once_in_pod", run_once)
    monkeypatch.setattr(podexec, "_PAUSES_S", (0.0, 0.0))
    if succeeds:
        assert podexec.run_in_pod(None, "default", "mysql-0", "mysql", ["true"]) == "said"  # type: ignore[arg-type]
    else:
        with pytest.raises(RuntimeError):
            podexec.run_in_pod(None, "default", "mysql-0", "mysql", ["true"])  # type: ignore[arg-type]
    assert len(asked) == attempts


class _BrokenStream:
    """Gives way as the one does whose container ends."""

    sock = None

    def is_open(self) -> bool:
        raise ConnectionResetError("Connection to remote host was lost.")


def test_what_must_not_be_run_twice_is_sent_once_when_its_stream_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def open_exec(*args: Any) -> _BrokenStream:
        sent.append(args)
        return _BrokenStream()

    monkeypatch.setattr(podexec, "open_exec", open_exec)
    monkeypatch.setattr(podexec, "_PAUSES_S", (0.0, 0.0))
    with pytest.raises(RuntimeError, match="was lost") as caught:
        podexec.run_once_in_pod(None, "default", "mysql-0", "mysqld", ["kill"])  # type: ignore[arg-type]
    assert not isinstance(caught.value, podexec.NotRun)
    assert len(sent) == 1


def test_what_was_not_run_is_told_from_what_may_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def open_exec(*args: Any) -> _BrokenStream:
        asked.append(args)
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(podexec, "open_exec", open_exec)
    with pytest.raises(podexec.NotRun, match="Connection refused"):
        podexec.run_once_in_pod(None, "default", "mysql-0", "mysqld", ["kill"])  # type: ignore[arg-type]
    assert len(asked) == 1
