# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab is healthy when everything is, and the table says what is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import controlplane, machine, processes, ssh, state, status
from lab.config import LabConfig, MachineSpec, Plan
from lab.controlplane import PARTS
from lab.log import LabError
from lab.netns import Reply
from lab.state import LabState, ProcessRecord
from lab.status import MachineStatus, PartStatus, Status

SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens InSegs OutSegs RetransSegs InErrs
Tcp: 1 200 120000 -1 12 34567 45678 9 0
Udp: InDatagrams
Udp: 7
"""


def test_tcp_counters_are_found_by_their_names() -> None:
    assert status.parse_snmp_tcp(SNMP) == (45678, 9)


@given(st.permutations(["OutSegs", "RetransSegs", "InSegs", "MaxConn"]))
def test_tcp_counters_may_stand_in_any_order(names: list[str]) -> None:
    values = {"OutSegs": 45678, "RetransSegs": 9, "InSegs": 5, "MaxConn": -1}
    text = f"Tcp: {' '.join(names)}\nTcp: {' '.join(str(values[n]) for n in names)}\n"
    assert status.parse_snmp_tcp(text) == (45678, 9)


@pytest.mark.parametrize(
    "text", ["", "Udp: x\nUdp: 1\n", "Tcp: OutSegs RetransSegs\n", "Tcp: OutSegs\nTcp: 1 2\n", "Tcp: a\nTcp: 1\n"]
)
def test_counters_that_are_not_there_are_no_zeros(text: str) -> None:
    with pytest.raises(ValueError, match=r"no TCP counters in"):
        status.parse_snmp_tcp(text)


# -- the table -------------------------------------------------------------------------------------------------------


def a_status(**changes: Any) -> Status:
    base: dict[str, Any] = {
        "name": "lab",
        "kubernetes": "v1.36.3",
        "healthy": True,
        "machines": [
            MachineStatus("node-1", "node", "10.213.0.11", "on", True, "Ready", 812, 45678, 9, 3600),
            MachineStatus("nfs", "nfs", "10.213.0.21", "off", False, "-", 0),
        ],
        "parts": [PartStatus("etcd", "on", True, 61), PartStatus("kube-proxy", "paused", False, 40)],
        "cuts": [],
        "memory_mib": 913,
        "boot": {"seconds": 31.4, "at": "2026-11-25T04:00:00Z"},
    }
    return Status(**{**base, **changes})


def test_the_table() -> None:
    assert status.render(a_status()).splitlines() == [
        "lab 'lab': healthy, Kubernetes v1.36.3, 0.9 GiB of memory, last boot took 31.4 s",
        "",
        "MACHINE    KIND   ADDRESS        POWER   SSH  NODE        MEMORY   UPTIME  TCP SEGMENTS SENT AGAIN",
        "node-1     node   10.213.0.11    on      yes  Ready      812 MiB   3600 s         45678          9",
        "nfs        nfs    10.213.0.21    off     no   -            0 MiB        -             -          -",
        "",
        "PART                PROCESS  ANSWERS    MEMORY",
        "etcd                on       yes        61 MiB",
        "kube-proxy          paused   no         40 MiB",
    ]


def test_cuts_are_shown_with_their_direction() -> None:
    text = status.render(a_status(healthy=False, cuts=[("node-1", "nfs"), ("nfs", "node-1")], boot={}))
    assert text.splitlines()[0] == "lab 'lab': NOT healthy, Kubernetes v1.36.3, 0.9 GiB of memory"
    assert text.splitlines()[-2:] == ["cut: node-1 -> nfs", "cut: nfs -> node-1"]


@given(
    st.builds(
        MachineStatus,
        st.sampled_from([m.name for m in Plan(LabConfig(nodes=9, extra=9), 0).machines]),
        st.sampled_from(["node", "nfs", "extra"]),
        st.sampled_from([m.ip for m in Plan(LabConfig(nodes=9, extra=9), 0).machines]),
        st.sampled_from(["on", "off", "paused"]),
        st.booleans(),
        st.sampled_from(["-", "Ready", "NotReady", "unknown"]),
        st.integers(0, 9999),
        st.none() | st.integers(0, 10**13 - 1),
        st.none() | st.integers(0, 10**10 - 1),
        st.none() | st.integers(0, 10**6 - 1),
    )
)
def test_columns_stay_under_their_heads(one: MachineStatus) -> None:
    lines = status.render(a_status(machines=[one])).splitlines()
    head, row = lines[2], lines[3]
    assert len(row) == len(head)
    for title, value in (("KIND", one.kind), ("ADDRESS", one.ip), ("POWER", one.power), ("NODE", one.node)):
        assert row[head.index(title) :].startswith(value)


def test_json_has_all_of_it() -> None:
    seen = json.loads(status.to_json(a_status(cuts=[("node-1", "nfs")])))
    assert (seen["healthy"], seen["memory_mib"], seen["cuts"]) == (True, 913, [["node-1", "nfs"]])
    assert seen["machines"][0]["segments_retransmitted"] == 9
    assert seen["machines"][1]["segments_out"] is None
    assert seen["parts"][1] == {"name": "kube-proxy", "process": "paused", "answers": False, "memory_mib": 40}


# -- judgement -------------------------------------------------------------------------------------------------------


class World:
    """A lab in memory that is well, unless a test breaks a part of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["node-1", "node-2", "nfs", *PARTS]
        self.lab = LabState(LabConfig(), 0, {n: ProcessRecord(100 + i, 1, n) for i, n in enumerate(names)})
        self.off: set[str] = set()
        self.paused: set[str] = set()
        self.silent: set[str] = set()
        self.ready: dict[str, bool] | Exception = {"node-1": True, "node-2": True}
        self.says: str | Exception = SNMP + "812\n"
        by_pid = {record.pid: name for name, record in self.lab.processes.items()}

        def conditions(plan: Plan) -> dict[str, bool]:
            if isinstance(self.ready, Exception):
                raise self.ready
            return self.ready

        def execute(plan: Plan, spec: MachineSpec, script: str, timeout_s: float = 60) -> str:
            if isinstance(self.says, Exception):
                raise self.says
            return self.says

        monkeypatch.setattr(processes, "is_alive", lambda r: r is not None and by_pid[r.pid] not in self.off)
        monkeypatch.setattr(processes, "is_paused", lambda r: r is not None and by_pid[r.pid] in self.paused)
        monkeypatch.setattr(machine, "answers", lambda plan, spec: spec.name not in self.silent)
        monkeypatch.setattr(controlplane, "is_ready", lambda plan, part: part not in self.silent | self.paused)
        monkeypatch.setattr(controlplane, "node_conditions", conditions)
        monkeypatch.setattr(controlplane, "request", lambda plan, path: Reply(200, b'{"gitVersion": "v1.36.3"}'))
        monkeypatch.setattr(ssh, "execute", execute)
        monkeypatch.setattr(status, "_memory_mib", lambda record: 10 if record else 0)

    def seen(self) -> Status:
        return status.observe(self.lab)

    def machine(self, name: str) -> MachineStatus:
        return next(m for m in self.seen().machines if m.name == name)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    return World(monkeypatch)


def test_a_lab_in_which_all_is_well_is_healthy(world: World) -> None:
    seen = world.seen()
    assert seen.healthy is True
    assert (seen.name, seen.kubernetes, seen.boot) == ("lab", "v1.36.3", {})
    assert seen.memory_mib == 10 * (3 + len(PARTS))
    assert [p.name for p in seen.parts] == list(PARTS)
    assert world.machine("node-2") == MachineStatus(
        "node-2", "node", "10.213.0.12", "on", True, "Ready", 10, 45678, 9, 812
    )
    assert world.machine("nfs").node == "-"


@pytest.mark.parametrize(
    "spoil",
    [
        *(pytest.param(lambda w, n=n: w.off.add(n), id=f"{n}-off") for n in ("node-1", "nfs")),
        *(pytest.param(lambda w, n=n: w.paused.add(n), id=f"{n}-paused") for n in ("node-1", "nfs", "etcd")),
        *(pytest.param(lambda w, n=n: w.silent.add(n), id=f"{n}-silent") for n in ("node-2", "nfs", *PARTS)),
        pytest.param(lambda w: w.ready.update({"node-2": False}), id="not-ready"),
        pytest.param(lambda w: w.ready.pop("node-2"), id="not-registered"),
        pytest.param(lambda w: setattr(w, "ready", OSError("refused")), id="no-api"),
        pytest.param(lambda w: setattr(w.lab, "cuts", [("node-1", "nfs")]), id="cut"),
        pytest.param(lambda w: w.lab.processes.pop("nfs"), id="never-started"),
        pytest.param(lambda w: setattr(w, "says", LabError("no login")), id="no-login"),
    ],
)
def test_a_lab_with_any_one_thing_wrong_is_not_healthy(world: World, spoil: Callable[[World], object]) -> None:
    spoil(world)
    assert world.seen().healthy is False


def test_what_is_off_or_paused_is_not_asked_and_shown_so(world: World) -> None:
    world.off, world.paused = {"nfs"}, {"node-1"}
    assert (world.machine("nfs").power, world.machine("nfs").ssh) == ("off", False)
    assert (world.machine("node-1").power, world.machine("node-1").ssh) == ("paused", False)
    assert world.machine("nfs").segments_out is None


def test_without_the_api_nodes_are_unknown_not_unready(world: World) -> None:
    world.ready = ConnectionRefusedError()
    seen = world.seen()
    assert seen.kubernetes == "no answer"
    assert [m.node for m in seen.machines] == ["unknown", "unknown", "-"]


def test_a_node_that_the_api_does_not_know_is_not_ready(world: World) -> None:
    world.ready = {"node-1": True}
    assert world.machine("node-2").node == "NotReady"


@pytest.mark.parametrize("says", ["", "garbage", "Tcp: a\nTcp: 1\n", LabError("no end after 15 s")])
def test_a_machine_that_greets_but_tells_nothing_is_not_reachable(world: World, says: str | Exception) -> None:
    world.says = says
    assert (world.machine("nfs").ssh, world.machine("nfs").segments_out) == (False, None)


def test_the_last_boot_is_shown(world: World) -> None:
    state.write_atomically(state.folder("lab") / "boot.json", '{"seconds": 31.4, "at": "2026-11-25T04:00:00Z"}\n')
    assert world.seen().boot["seconds"] == 31.4


def test_memory_is_that_of_a_process_that_is_ours() -> None:
    seen = processes.look(os.getpid())
    assert seen is not None
    assert status._memory_mib(ProcessRecord(seen.pid, seen.start_ticks, "")) > 5
    assert status._memory_mib(ProcessRecord(seen.pid, seen.start_ticks + 1, "")) == 0
    assert status._memory_mib(None) == 0
