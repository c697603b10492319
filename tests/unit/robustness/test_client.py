# SPDX-License-Identifier: GPL-3.0-or-later
"""What the harness reads at the end of a run, without a server."""

from __future__ import annotations

import json

import pytest

from tests.robustness import client
from tests.robustness.history import FinalRead

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


class Applying:
    """A pet with 100 transactions and one that applies so many a second; the clock is of its sleeps alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, a_second: float) -> None:
        self.now_s, self.a_second = 0.0, a_second
        monkeypatch.setattr(client.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(client.time, "sleep", self.sleep)
        monkeypatch.setattr(client, "read_gtids", lambda _settings, host: self.gtids(host))
        monkeypatch.setattr(client, "read_pet", lambda _settings, pet, host: FinalRead(pet, host, self.gtids(host)))

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def gtids(self, host: str) -> str:
        has = 100 if host == "a" else min(100, 1 + int(self.now_s * self.a_second))
        return f"{UUID}:1-{has}"


@pytest.mark.parametrize(
    ("a_second", "has", "least_s", "most_s"),
    [(1.0, 100, 99, 103), (0.0, 1, 10, 13), (0.01, 1, 10, 13), (0.2, 41, 200, 203)],
    ids=["catches up", "stands still", "takes too long for one", "takes too long in all"],
)
def test_a_pet_that_catches_up_is_read_when_it_has_all(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    a_second: float,
    has: int,
    least_s: float,
    most_s: float,
) -> None:
    """A node was off for 400 s of writes; a minute after its pet was Ready it was called unequal while it caught up."""
    world = Applying(monkeypatch, a_second)
    client.read({"pets": {"mysql-0": "a", "mysql-1": "b"}, "limit_s": 10, "overall_s": 200})
    finals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["gtid_executed"] for one in finals] == [f"{UUID}:1-100", f"{UUID}:1-{has}"]
    assert least_s <= world.now_s <= most_s
