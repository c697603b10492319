# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab looks like now: gathered in one pass, shown as a table or as JSON."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import controlplane, machine, processes, ssh
from lab.config import MachineSpec
from lab.log import LabError
from lab.state import LabState, ProcessRecord, folder


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """A machine: power (on, off, paused), whether SSH answers, kubelet's word, memory in MiB, TCP counters."""

    name: str
    kind: str
    ip: str
    power: str
    ssh: bool
    node: str
    memory_mib: int
    segments_out: int | None = None
    segments_retransmitted: int | None = None
    uptime_s: int | None = None


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part of the control plane: its process (on, off, paused), whether it answers, memory in MiB."""

    name: str
    process: str
    answers: bool
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Status:
    """The whole lab. ``healthy``: every machine on and answering, every part answering, every node Ready, no cut."""

    name: str
    kubernetes: str
    healthy: bool
    machines: list[MachineStatus]
    parts: list[PartStatus]
    cuts: list[tuple[str, str]]
    memory_mib: int
    boot: dict[str, Any] = field(default_factory=dict)


def parse_snmp_tcp(text: str) -> tuple[int, int]:
    """(segments sent, segments retransmitted) of a /proc/net/snmp. Pure. Raises ValueError when they are not there."""
    rows = [line.split() for line in text.splitlines() if line.startswith("Tcp:")]
    try:
        names, values = rows
        table = dict(zip(names, values, strict=True))
        return int(table["OutSegs"]), int(table["RetransSegs"])
    except (ValueError, KeyError) as missing:
        raise ValueError(f"no TCP counters in /proc/net/snmp: {rows}") from missing


def _memory_mib(record: ProcessRecord | None) -> int:
    """Resident memory of a process; the machines' memory is a file in memory, of which it counts what they use."""
    if record is None or not processes.is_alive(record):
        return 0
    try:
        text = Path(f"/proc/{record.pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) // 1024


def _power(lab: LabState, name: str) -> str:
    record = lab.processes.get(name)
    if not processes.is_alive(record):
        return "off"
    return "paused" if processes.is_paused(record) else "on"


def _machine(lab: LabState, spec: MachineSpec, ready: dict[str, bool] | None) -> MachineStatus:
    power = _power(lab, spec.name)
    record = lab.processes.get(spec.name)
    reachable = power == "on" and machine.answers(lab.plan, spec)
    out = again = uptime = None
    if reachable:
        try:
            text = ssh.execute(lab.plan, spec, "cat /proc/net/snmp; cut -d. -f1 /proc/uptime", timeout_s=15)
            out, again = parse_snmp_tcp(text)
            uptime = int(text.split()[-1])
        except (LabError, ValueError, IndexError):
            reachable = False
    node = "-"
    if spec.kind == "node":
        node = "unknown" if ready is None else "Ready" if ready.get(spec.name) else "NotReady"
    return MachineStatus(spec.name, spec.kind, spec.ip, power, reachable, node, _memory_mib(record), out, again, uptime)


def observe(lab: LabState) -> Status:
    """Ask everything at once. Never raises for a part that is down: that is what it reports."""
    try:
        ready: dict[str, bool] | None = controlplane.node_conditions(lab.plan)
        reply = controlplane.request(lab.plan, "/version")
        version = str(reply.json()["gitVersion"])
    except (OSError, http.client.HTTPException, KeyError, ValueError):
        ready, version = None, "no answer"
    with ThreadPoolExecutor(max_workers=16) as pool:
        machines = list(pool.map(lambda spec: _machine(lab, spec, ready), lab.plan.machines))
        answers = list(pool.map(lambda part: controlplane.is_ready(lab.plan, part), controlplane.PARTS))
    parts = [
        PartStatus(part, _power(lab, part), ok, _memory_mib(lab.processes.get(part)))
        for part, ok in zip(controlplane.PARTS, answers, strict=True)
    ]
    healthy = (
        all(m.ssh and m.node in ("-", "Ready") for m in machines) and all(p.answers for p in parts) and not lab.cuts
    )
    try:
        boot = json.loads((folder(lab.config.name) / "boot.json").read_text())
    except OSError:
        boot = {}
    memory = sum(m.memory_mib for m in machines) + sum(p.memory_mib for p in parts)
    return Status(lab.config.name, version, healthy, machines, parts, lab.cuts, memory, boot)


def render(status: Status) -> str:
    """The table that a person reads. Pure."""
    lines = [
        f"lab '{status.name}': {'healthy' if status.healthy else 'NOT healthy'}, Kubernetes {status.kubernetes}, "
        f"{status.memory_mib / 1024:.1f} GiB of memory"
        + (f", last boot took {status.boot['seconds']} s" if status.boot else ""),
        "",
        f"{'MACHINE':<10} {'KIND':<6} {'ADDRESS':<14} {'POWER':<7} {'SSH':<4} {'NODE':<9} {'MEMORY':>8} "
        f"{'UPTIME':>8} {'TCP SEGMENTS':>13} {'SENT AGAIN':>10}",
    ]
    for m in status.machines:
        lines.append(
            f"{m.name:<10} {m.kind:<6} {m.ip:<14} {m.power:<7} {'yes' if m.ssh else 'no':<4} {m.node:<9} "
            f"{m.memory_mib:>4} MiB "
            f"{_or_dash(m.uptime_s, ' s'):>8} {_or_dash(m.segments_out):>13} {_or_dash(m.segments_retransmitted):>10}"
        )
    lines += ["", f"{'PART':<19} {'PROCESS':<8} {'ANSWERS':<8} {'MEMORY':>8}"]
    lines += [
        f"{p.name:<19} {p.process:<8} {'yes' if p.answers else 'no':<8} {p.memory_mib:>4} MiB" for p in status.parts
    ]
    for a, b in status.cuts:
        lines.append(f"cut: {a} -> {b}")
    return "\n".join(lines)


def _or_dash(value: int | None, unit: str = "") -> str:
    return "-" if value is None else f"{value}{unit}"


def to_json(status: Status) -> str:
    """The same as JSON."""
    return json.dumps(asdict(status), indent=1)
