# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that breaks off is asked for again; what is refused is not."""

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

    monkeypatch.setattr(podexec, "_run_once", run_once)
    monkeypatch.setattr(podexec, "_PAUSES_S", (0.0, 0.0))
    if succeeds:
        assert podexec.run_in_pod(None, "default", "mysql-0", "mysql", ["true"]) == "said"  # type: ignore[arg-type]
    else:
        with pytest.raises(RuntimeError):
            podexec.run_in_pod(None, "default", "mysql-0", "mysql", ["true"])  # type: ignore[arg-type]
    assert len(asked) == attempts
