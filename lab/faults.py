# SPDX-License-Identifier: GPL-3.0-or-later
"""The means to break each part of a lab, and to mend it. Every fault is verified where it can be."""

from __future__ import annotations

import math
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from lab import controlplane, machine, network, processes, ssh, up
from lab.config import MachineSpec, Plan
from lab.log import LabError, step
from lab.network import Cut
from lab.state import LabState, ProcessRecord, save


def power_off(lab: LabState, name: str) -> None:
    """Cut a machine's power: its processes are killed at once, nothing is flushed."""
    spec = lab.plan.machine(name)
    record = lab.processes.get(spec.name)
    if record is not None:
        processes.kill_session(record)


def power_on(lab: LabState, name: str, artefacts: up.Artefacts) -> None:
    """Switch a machine on again with the disk it had, and wait for its SSH."""
    spec = lab.plan.machine(name)
    if not processes.is_alive(lab.processes.get(spec.name)):
        up.boot(lab, spec, artefacts)
    with step(f"machine {name} answers on SSH"):
        machine.wait_until_up(lab, [spec])


def _record(lab: LabState, name: str) -> ProcessRecord:
    if name not in controlplane.PARTS:
        lab.plan.machine(name)
    record = lab.processes.get(name)
    if record is None or not processes.is_alive(record):
        raise LabError(f"'{name}' does not run", f"python3 -m lab up --name {lab.config.name}")
    return record


def pause(lab: LabState, name: str) -> None:
    """Freeze a machine or a part of the control plane (SIGSTOP): its connections stay, it answers nothing."""
    record = _record(lab, name)
    # the leader first: it is the machine's kernel, the others run its user processes
    processes.send([record.pid], signal.SIGSTOP)
    processes.send(processes.session_pids(record.pid), signal.SIGSTOP)
    if not processes.is_paused(record):
        raise LabError(f"'{name}' did not stop")


def resume(lab: LabState, name: str) -> None:
    """Let it go on."""
    _record(lab, name)
    up.resume(lab, name)


def stop_part(lab: LabState, part: str) -> None:
    """Stop a part of the control plane or of the gateway."""
    if part not in controlplane.PARTS:
        raise LabError(f"no part '{part}'", "one of: " + ", ".join(controlplane.PARTS))
    if record := lab.processes.get(part):
        processes.stop(record)


def start_part(lab: LabState, part: str, artefacts: up.Artefacts) -> None:
    """Start it again and wait for its answer."""
    if part not in controlplane.PARTS:
        raise LabError(f"no part '{part}'", "one of: " + ", ".join(controlplane.PARTS))
    controlplane.start(lab, part, artefacts.programs)
    controlplane.wait_until_ready(lab, [part])


def _check_parties(plan: Plan, names: Iterable[str], to_do: str) -> None:
    parties = plan.parties()
    for name in names:
        if name not in parties:
            raise LabError(f"no party '{name}' to {to_do}", "one of: " + ", ".join(parties))


def plan_cuts(plan: Plan, now: Iterable[Cut], a: str, b: str, one_way: bool) -> list[Cut]:
    """The cuts after ``cut a b``. Pure. Raises LabError for a party that does not exist, or for a cut to oneself."""
    _check_parties(plan, (a, b), "cut")
    if a == b:
        raise LabError(f"'{a}' cannot be cut from itself")
    new = {(a, b)} if one_way else {(a, b), (b, a)}
    return sorted(set(now) | new)


def plan_heal(plan: Plan, now: Iterable[Cut], a: str | None, b: str | None) -> list[Cut]:
    """The cuts that stay after ``heal``: none, or those that do not touch a, or not the pair a, b. Pure.

    Raises LabError for a party that does not exist: behind a mistyped name a cut would stay.
    """
    _check_parties(plan, (name for name in (a, b) if name is not None), "heal")
    if a is None:
        return []
    if b is None:
        return sorted(cut for cut in now if a not in cut)
    return sorted(cut for cut in now if set(cut) != {a, b})


def set_cuts(lab: LabState, cuts: list[Cut]) -> None:
    """Make these cuts the only ones, in the kernel and in the state."""
    network.apply_cuts(lab.plan, cuts)
    lab.cuts = cuts
    save(lab)


@dataclass(frozen=True, slots=True)
class Slowness:
    """How a machine's network is slowed, each way: delay in ms, loss in percent, rate in Mbit/s; None leaves it."""

    delay_ms: float | None = None
    loss_percent: float | None = None
    rate_mbit: float | None = None

    def __post_init__(self) -> None:
        # tc would refuse it half-way, when the queues that were there are gone
        if self.delay_ms is not None and not 0 <= self.delay_ms < math.inf:
            raise LabError(f"slow --delay {self.delay_ms:g}: milliseconds are 0 or more")
        if self.loss_percent is not None and not 0 <= self.loss_percent <= 100:
            raise LabError(f"slow --loss {self.loss_percent:g}: percent are 0 to 100")
        if self.rate_mbit is not None and not 0 < self.rate_mbit < math.inf:
            raise LabError(f"slow --rate {self.rate_mbit:g}: Mbit/s are more than 0 (cut drops everything)")

    def render_netem(self) -> str:
        """The netem words for tc. Pure."""
        words = ["netem", "limit", "20000"]
        if self.delay_ms is not None:
            words += ["delay", _plain(self.delay_ms) + "ms"]
        if self.loss_percent is not None:
            words += ["loss", _plain(self.loss_percent) + "%"]
        if self.rate_mbit is not None:
            words += ["rate", _plain(self.rate_mbit) + "mbit"]
        return " ".join(words)


def _plain(number: float) -> str:
    """A number in plain decimals, without an exponent and with nothing rounded away that tc could use."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


SLOW_OFF = """
tc qdisc del dev vec0 root 2>/dev/null || true
tc qdisc del dev vec0 ingress 2>/dev/null || true
ip link del ifb-lab 2>/dev/null || true
"""


def render_slow(slowness: Slowness, spared_ip: str) -> str:
    """The script that slows a machine: netem on what it sends, and through an ifb device on what it receives. Pure.

    netem is in the machines' kernel; the host's may lack it. What goes to and comes from ``spared_ip`` stays quick:
    it is the lab's own way in, and has to work to undo this.
    """
    netem = slowness.render_netem()
    return (
        SLOW_OFF
        + f"""
modprobe -a -q sch_netem sch_prio sch_ingress act_mirred act_gact cls_flower cls_matchall || true
modprobe -q ifb numifbs=0 || true
ip link add ifb-lab type ifb
ip link set ifb-lab txqueuelen 10000 up
tc qdisc add dev vec0 root handle 1: prio bands 2 priomap {" ".join("1" * 16)}
tc qdisc add dev vec0 parent 1:2 handle 20: {netem}
tc filter add dev vec0 parent 1: protocol ip prio 1 flower dst_ip {spared_ip} classid 1:1
tc qdisc add dev vec0 handle ffff: ingress
tc filter add dev vec0 parent ffff: protocol ip prio 1 flower src_ip {spared_ip} action pass
tc filter add dev vec0 parent ffff: protocol all prio 2 matchall action mirred egress redirect dev ifb-lab
tc qdisc add dev ifb-lab root {netem}
tc qdisc show dev vec0
"""
    )


def slow(lab: LabState, name: str, slowness: Slowness | None) -> None:
    """Slow a machine's network, or (None) let it run free again; both ways."""
    spec = lab.plan.machine(name)
    if slowness is None:
        ssh.execute(lab.plan, spec, SLOW_OFF)
        return
    if slowness == Slowness():
        raise LabError("slow: nothing to do", "give --delay, --loss or --rate, or --off")
    shown = ssh.execute(lab.plan, spec, render_slow(slowness, lab.plan.management_ip))
    if "netem" not in shown:
        raise LabError(f"netem did not take on {name}:\n{shown}")


BALLAST = ".lab-ballast"


def disk_full(lab: LabState, name: str, path: str, leave_bytes: int = 0) -> str:
    """Fill the file system of a path on a machine, less ``leave_bytes``, with one file; returns what df says."""
    spec = lab.plan.machine(name)
    _check_path(path)
    # fallocate reserves in no time; what it cannot get in one piece is written until the disk says no
    return ssh.execute(
        lab.plan,
        spec,
        f"""
cd '{path}'
free=$(df --output=avail -B1 . | tail -n 1)
want=$((free - {leave_bytes}))
[ "$want" -le 0 ] || fallocate -l "$want" {BALLAST} 2>/dev/null || true
if [ {leave_bytes} -eq 0 ]; then dd if=/dev/zero bs=64k >> {BALLAST} 2>/dev/null || true; fi
sync -f .
df -h .
""",
        timeout_s=180,
    )


def disk_free(lab: LabState, name: str, path: str) -> str:
    """Take away what disk_full put there."""
    spec = lab.plan.machine(name)
    _check_path(path)
    return ssh.execute(lab.plan, spec, f"rm -f '{path}/{BALLAST}'\ndf -h '{path}'\n", timeout_s=120)


def _check_path(path: str) -> None:
    if not re.fullmatch(r"/[A-Za-z0-9._/-]*", path):
        raise LabError(f"disk-full {path!r}: an absolute path of letters, digits and ._/- is needed")


def parse_shift(text: str) -> float:
    """Seconds of a clock shift like ``+90``, ``-5m``, ``2h``. Pure."""
    found = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)([smh]?)", text)
    if not found:
        raise LabError(f"clock {text!r}: a shift is a number with s, m or h: +90, -5m, 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def clock(lab: LabState, name: str, shift_s: float) -> str:
    """Move a machine's clock by so many seconds against what it shows now; 0 puts it back to the host's time."""
    spec: MachineSpec = lab.plan.machine(name)
    target = f"{time.time():.3f}" if shift_s == 0 else f"$(($(date +%s) + {round(shift_s)}))"
    return ssh.execute(lab.plan, spec, f"date -s @{target}\n")
