# SPDX-License-Identifier: GPL-3.0-or-later
"""A network is fit when every goal is met, and a soak leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import soak, ssh
from lab.config import LabConfig, MachineSpec, Plan
from lab.log import LabError
from lab.soak import Soak, Writes
from lab.state import LabState

FIT = Soak(300, Writes(2000, 0.45, 1.2, 9.0), Writes(90_000, 2.3, 6.0, 180.0), 3_000_000, 12, 4.0)
LATE = "; the host itself woke a sleeper up to 4 ms late meanwhile"

# -- judgement -------------------------------------------------------------------------------------------------------


def test_a_fit_network_has_no_problems() -> None:
    assert FIT.problems() == []


@pytest.mark.parametrize(
    "at_the_goal",
    [
        replace(FIT, idle=replace(FIT.idle, median_ms=0.6, p99_ms=3.0)),
        replace(FIT, idle=replace(FIT.idle, max_ms=200.0), loaded=replace(FIT.loaded, max_ms=200.0)),
        replace(FIT, segments=1_000_000, retransmitted=10),
        replace(FIT, segments=0, retransmitted=0),
        # beside load only stalls count
        replace(FIT, loaded=replace(FIT.loaded, median_ms=50.0, p99_ms=150.0)),
    ],
)
def test_a_network_at_its_goals_is_fit(at_the_goal: Soak) -> None:
    assert at_the_goal.problems() == []


@pytest.mark.parametrize(
    ("missed", "told"),
    [
        (replace(FIT, idle=replace(FIT.idle, median_ms=0.7)), "idle median 0.70 ms (goal 0.6)"),
        (replace(FIT, idle=replace(FIT.idle, p99_ms=3.5)), "idle p99 3.50 ms (goal 3.0)"),
        (replace(FIT, idle=replace(FIT.idle, max_ms=201.0)), "a write took 201 ms (goal 200)" + LATE),
        (replace(FIT, loaded=replace(FIT.loaded, max_ms=5000.0)), "a write took 5000 ms (goal 200)" + LATE),
        (replace(FIT, retransmitted=31), "31 of 3000000 TCP segments were sent again (goal 1 in 100,000)"),
        (replace(FIT, segments=0, retransmitted=1), "1 of 0 TCP segments were sent again (goal 1 in 100,000)"),
    ],
)
def test_each_goal_that_is_missed_is_told_with_its_figures(missed: Soak, told: str) -> None:
    assert missed.problems() == [told]
    assert f"!! {told}" in soak.render(missed).splitlines()


times = st.floats(0.01, 10_000, allow_nan=False)
soaks = st.builds(
    Soak,
    st.just(300.0),
    *[st.builds(Writes, st.integers(1, 10**6), times, times, times)] * 2,
    st.integers(0, 10**8),
    st.integers(0, 10**5),
    times,
)


@given(soaks)
def test_a_network_is_fit_exactly_when_all_goals_of_the_lab_are_met(seen: Soak) -> None:
    met = [
        seen.idle.median_ms <= 0.6,
        seen.idle.p99_ms <= 3,
        max(seen.idle.max_ms, seen.loaded.max_ms) <= 200,
        seen.retransmitted <= seen.segments / 100_000,
    ]
    assert len(seen.problems()) == met.count(False)
    assert ("fit to measure on" in soak.render(seen)) is all(met)


@given(soaks)
def test_json_has_all_figures(seen: Soak) -> None:
    data = json.loads(seen.to_json())
    assert Soak(
        data["seconds"],
        Writes(**data["idle"]),
        Writes(**data["loaded"]),
        data["segments"],
        data["retransmitted"],
        data["host_late_ms"],
    ) == seen  # fmt: skip


def test_the_table() -> None:
    assert soak.render(FIT).splitlines() == [
        "phase     writes    median       p99   longest",
        "idle        2000   0.45 ms   1.20 ms    9.0 ms",
        "loaded     90000   2.30 ms   6.00 ms  180.0 ms",
        "TCP segments sent: 3000000, sent again: 12",
        "the host woke a sleeper up to 4.0 ms late",
        "fit to measure on",
    ]


# -- the programs ----------------------------------------------------------------------------------------------------


def run_program(program: str, tmp_path: Path, *arguments: object) -> str:
    """One of the machines' programs on this host, on a folder of its own."""
    text = program.replace("/mnt/lab-soak", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-I", "-c", text, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_writer_counts_and_sorts_its_times_and_leaves_no_file(tmp_path: Path) -> None:
    seen = Writes(**json.loads(run_program(soak.WRITER, tmp_path, 20, 30, 0)))
    assert seen.n == 20
    assert 0 < seen.median_ms <= seen.p99_ms <= seen.max_ms
    assert list(tmp_path.iterdir()) == []


def test_the_writer_ends_when_its_time_is_over(tmp_path: Path) -> None:
    assert json.loads(run_program(soak.WRITER, tmp_path, 0, 0.02, 0))["n"] >= 1
    assert list(tmp_path.iterdir()) == []


def test_a_stream_leaves_no_file(tmp_path: Path) -> None:
    program = soak.STREAM.replace("range(16)", "range(1)").replace("1 << 20", "1 << 12")
    assert run_program(program, tmp_path, 0.01, 2) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_was_late_is_found() -> None:
    with soak.host_watched() as host:
        time.sleep(0.3)
        os.kill(host.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(host.pid, signal.SIGCONT)
        time.sleep(0.05)
    assert 350 < host.late_ms < 30_000


@pytest.mark.parametrize("script", [soak.SERVER, soak.SERVER_CLEAN, soak.MOUNT, soak.UMOUNT])
def test_the_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- a run -----------------------------------------------------------------------------------------------------------


class Machines:
    """Machines in memory: what is exported and mounted on them, and what their programs say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: str = "") -> None:
        self.exported: set[str] = set()
        self.mounted: set[str] = set()
        self.ran: list[tuple[str, str]] = []
        self.fail = fail
        self.counters = iter([(1000, 5)] * 3 + [(51_000, 6)] * 3)
        monkeypatch.setattr(ssh, "execute", self.execute)

    def execute(self, plan: Plan, spec: MachineSpec, script: str, timeout_s: float = 60, check: bool = True) -> str:
        kind = self.kind(script)
        self.ran.append((spec.name, kind))
        if kind == self.fail:
            if kind == "export":
                # half-way: the file is written, exportfs is not through
                self.exported.add(spec.name)
            raise LabError(f"{kind} failed")
        match kind:
            case "export":
                assert "10.213.0.0/24(" in script
                self.exported.add(spec.name)
            case "unexport":
                self.exported.discard(spec.name)
            case "mount":
                assert self.exported
                assert "10.213.0.21:/srv/lab-soak" in script
                self.mounted.add(spec.name)
            case "unmount":
                self.mounted.discard(spec.name)
            case "count":
                out, again = next(self.counters)
                return f"Tcp: OutSegs RetransSegs\nTcp: {out} {again}\n"
            case "write":
                assert spec.name in self.mounted
                return '{"n": 5, "median_ms": 0.5, "p99_ms": 1.0, "max_ms": 2.0}\n'
        return ""

    def kind(self, script: str) -> str:
        for mark, kind in (
            ("nfs-kernel-server", "export"),
            ("exportfs -ra", "unexport"),
            ("mount -t nfs", "mount"),
            ("umount", "unmount"),
            ("/proc/net/snmp", "count"),
            ("O_DSYNC", "write"),
            ("stream-", "stream"),
            ("pass", "busy"),
        ):
            if mark in script:
                return kind
        raise AssertionError(script)


def test_a_soak_of_two_nodes_writes_on_one_streams_on_the_other_and_keeps_all_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Machines(monkeypatch)
    seen = soak.soak(LabState(LabConfig(), 0), 30)
    assert (seen.segments, seen.retransmitted, seen.seconds) == (150_000, 3, 30)
    assert 0 <= seen.host_late_ms < 60_000
    assert {name for name, kind in lab.ran if kind == "write"} == {"node-1"}
    assert [name for name, kind in lab.ran if kind == "stream"] == ["node-2"] * 3
    assert sorted(name for name, kind in lab.ran if kind == "busy") == ["nfs", "node-1", "node-2"]
    assert (lab.exported, lab.mounted) == (set(), set())


def test_a_lab_of_one_node_can_be_soaked(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Machines(monkeypatch)
    lab.counters = iter([(1000, 5)] * 2 + [(51_000, 6)] * 2)
    assert soak.soak(LabState(LabConfig(nodes=1), 0), 30).segments == 100_000
    assert [kind for name, kind in lab.ran if name == "node-1" and kind in ("mount", "unmount")] == ["mount", "unmount"]


@pytest.mark.parametrize("fail", ["export", "mount", "count", "write", "stream", "busy"])
def test_a_soak_that_fails_tells_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, fail: str) -> None:
    lab = Machines(monkeypatch, fail)
    with pytest.raises(LabError, match=f"{fail} failed"):
        soak.soak(LabState(LabConfig(), 0), 30)
    assert (lab.exported, lab.mounted) == (set(), set())


@pytest.mark.parametrize("fail", ["unmount", "unexport"])
def test_cleaning_that_fails_does_not_hide_the_reason_or_the_result(monkeypatch: pytest.MonkeyPatch, fail: str) -> None:
    Machines(monkeypatch, fail)
    result: Any = soak.soak(LabState(LabConfig(), 0), 30)
    assert result.idle.n == 5


def test_an_unmount_that_fails_on_one_node_does_not_keep_the_others_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Machines(monkeypatch, "unmount")
    soak.soak(LabState(LabConfig(), 0), 30)
    assert {name for name, kind in lab.ran if kind == "unmount"} == {"node-1", "node-2"}
    assert lab.exported == set()
