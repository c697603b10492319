# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the network between the machines is fit to measure on: small synchronous writes over NFS, idle and loaded.

One node writes 4 KiB with O_DSYNC again and again; in the second phase another node (the same when there is but one)
writes three streams of fsynced files, together about a gigabit a second, and all machines keep a busy loop (of low
priority: a server that starves its own nfsd says nothing of the network). The streams are steady, a MiB at a time:
files of 16 MiB in one go put 48 MiB before a small write, which take 0.4 s at that rate on any network. What counts:
the writes' times, the longest pause, and TCP segments sent again. The export lies in the server's memory: what is
judged is the way there and back; on its disk the small writes would wait for the streams' data in the file system's
journal (0.4 to 0.9 s, the same with any network).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from lab import ssh
from lab.config import LAN, MachineSpec, Plan
from lab.log import LabError, step
from lab.processes import prefer
from lab.state import LabState
from lab.status import parse_snmp_tcp

# The goals (issue "The lab"): measured on 2 cores.
IDLE_MEDIAN_MS = 0.6
IDLE_P99_MS = 3.0
STALL_S = 0.2
RETRANSMITTED = 1 / 100_000

# A node that is connected is known to the kernel's server under the client name that it had; an export for another
# name is then "No such file or directory" to it until these caches are emptied, which exportfs does not do.
FLUSH_CACHES = """
for cache in auth.unix.ip auth.unix.gid nfsd.fh nfsd.export; do
    date +%s > /proc/net/rpc/$cache/flush
done
"""
SERVER = (
    r"""
if ! command -v exportfs >/dev/null; then
    apt-get -q update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get -q -y install nfs-kernel-server >/dev/null
fi
mkdir -p /etc/exports.d /srv/lab-soak
mountpoint -q /srv/lab-soak || mount -t tmpfs -o size=512m,mode=1777 lab-soak /srv/lab-soak
options=rw,sync,no_subtree_check,all_squash,fsid=7a1f5f0e-6d0c-4b52-9f3e-50ac00000001
echo "/srv/lab-soak LAN($options)" > /etc/exports.d/lab-soak.exports
systemctl start nfs-server
exportfs -ra
"""
    + FLUSH_CACHES
)
SERVER_CLEAN = """
rm -f /etc/exports.d/lab-soak.exports
exportfs -ra
umount -l /srv/lab-soak 2>/dev/null
rmdir /srv/lab-soak
"""
MOUNT = """
mkdir -p /mnt/lab-soak
mountpoint -q /mnt/lab-soak ||
    mount -t nfs -o nfsvers=4.2,hard,proto=tcp,noatime SERVER:/srv/lab-soak /mnt/lab-soak
"""
UMOUNT = "umount -l /mnt/lab-soak 2>/dev/null || true\n"

WRITER = r"""
import json, os, sys, time
count, seconds, pause = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
path = "/mnt/lab-soak/probe-%d" % os.getpid()
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DSYNC, 0o600)
block, times, end = os.urandom(4096), [], time.monotonic() + seconds
while (len(times) < count or count == 0) and time.monotonic() < end:
    before = time.monotonic()
    os.pwrite(fd, block, 4096 * (len(times) % 1024))
    times.append(time.monotonic() - before)
    if pause:
        time.sleep(pause)
os.close(fd)
os.unlink(path)
times.sort()
n = len(times)
median, p99, longest = (1e3 * times[i] for i in (n // 2, min(n - 1, n * 99 // 100), n - 1))
print(json.dumps({"n": n, "median_ms": median, "p99_ms": p99, "max_ms": longest}))
"""
STREAM = r"""
import os, sys, time
end, block, due = time.monotonic() + float(sys.argv[1]), os.urandom(1 << 20), time.monotonic()
while time.monotonic() < end:
    with open("/mnt/lab-soak/stream-" + sys.argv[2], "wb") as file:
        for _ in range(16):
            due = max(due + 0.025, time.monotonic() - 0.025)
            time.sleep(max(0, due - time.monotonic()))
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
os.unlink("/mnt/lab-soak/stream-" + sys.argv[2])
"""
BUSY = """
import os, sys, time
os.nice(19)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pass
"""
# On the host, as preferred as the machines: how late a sleeper is woken. A pause that it has as well is no network's.
WAKING = """
import select, sys, time
worst, before = 0.0, time.monotonic()
while not select.select([sys.stdin], [], [], 0.002)[0]:
    now = time.monotonic()
    worst, before = max(worst, now - before - 0.002), now
print(1e3 * worst)
"""


@dataclass(frozen=True, slots=True)
class Writes:
    """Times of the synchronous writes of one phase, in milliseconds."""

    n: int
    median_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Soak:
    """What was measured; ``segments`` and ``retransmitted`` are of all machines together, over both phases.

    ``host_late_ms``: by how much a process of the host itself was woken too late at worst, over both phases.
    """

    seconds: float
    idle: Writes
    loaded: Writes
    segments: int
    retransmitted: int
    host_late_ms: float

    def problems(self) -> list[str]:
        """Which goals were missed, with the figures; empty when the network is fit."""
        found = []
        if self.idle.median_ms > IDLE_MEDIAN_MS:
            found.append(f"idle median {self.idle.median_ms:.2f} ms (goal {IDLE_MEDIAN_MS})")
        if self.idle.p99_ms > IDLE_P99_MS:
            found.append(f"idle p99 {self.idle.p99_ms:.2f} ms (goal {IDLE_P99_MS})")
        worst = max(self.idle.max_ms, self.loaded.max_ms)
        if worst > 1000 * STALL_S:
            found.append(
                f"a write took {worst:.0f} ms (goal {1000 * STALL_S:.0f});"
                f" the host itself woke a sleeper up to {self.host_late_ms:.0f} ms late meanwhile"
            )
        if self.retransmitted > self.segments * RETRANSMITTED:
            found.append(f"{self.retransmitted} of {self.segments} TCP segments were sent again (goal 1 in 100,000)")
        return found

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1)


def _counters(plan: Plan) -> tuple[int, int]:
    rows = [parse_snmp_tcp(ssh.execute(plan, m, "cat /proc/net/snmp")) for m in plan.machines]
    return sum(r[0] for r in rows), sum(r[1] for r in rows)


def _python(plan: Plan, spec: MachineSpec, program: str, *args: object, timeout_s: float) -> str:
    words = " ".join(str(a) for a in args)
    return ssh.execute(
        plan,
        spec,
        f"cat > /run/lab-soak-$$.py <<'END_OF_PROGRAM'\n{program}\nEND_OF_PROGRAM\n"
        f"python3 /run/lab-soak-$$.py {words}; rm -f /run/lab-soak-$$.py\n",
        timeout_s=timeout_s,
    )


@dataclass(slots=True)
class Host:
    """How late the host woke the sleeper ``pid`` at worst, known when the watch is over."""

    pid: int
    late_ms: float = 0.0


@contextlib.contextmanager
def host_watched() -> Iterator[Host]:
    """Watch how late the host wakes a sleeper."""
    words = [sys.executable, "-I", "-c", WAKING]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
        host = Host(child.pid)
        prefer(child.pid)
        try:
            yield host
        finally:
            said, _nothing = child.communicate()
            host.late_ms = float(said)


def soak(lab: LabState, seconds: float, idle_writes: int = 2000) -> Soak:
    """Run both phases (``seconds`` is the loaded one's length) and leave nothing mounted or exported."""
    plan = lab.plan
    server = next(m for m in plan.machines if m.kind == "nfs")
    writer, loader = plan.nodes[0], plan.nodes[-1]
    try:
        with step("an NFS export for the soak"):
            ssh.execute(plan, server, SERVER.replace("LAN", f"{LAN}.0/24"), timeout_s=300)
            for spec in {writer, loader}:
                ssh.execute(plan, spec, MOUNT.replace("SERVER", server.ip))
        before = _counters(plan)
        with host_watched() as host:
            with step(f"{idle_writes} idle writes"):
                # the first writes pay for the mount, the file and the host's caches
                _python(plan, writer, WRITER, 200, 60, 0, timeout_s=120)
                idle = Writes(**json.loads(_python(plan, writer, WRITER, idle_writes, 60, 0, timeout_s=120)))
            loaded = _loaded(plan, writer, loader, seconds)
        after = _counters(plan)
        return Soak(seconds, idle, loaded, after[0] - before[0], after[1] - before[1], host.late_ms)
    finally:
        for spec, script in [*((node, UMOUNT) for node in {writer, loader}), (server, SERVER_CLEAN)]:
            # the machine that failed is named by the error on its way out; a second one would hide it
            with contextlib.suppress(LabError):
                ssh.execute(plan, spec, script)


def _loaded(plan: Plan, writer: MachineSpec, loader: MachineSpec, seconds: float) -> Writes:
    limit_s = seconds + 120
    with step(f"{seconds:.0f} s of writes beside three streams and busy machines"), ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(_python, plan, loader, STREAM, seconds, i, timeout_s=limit_s) for i in range(3)]
        jobs += [pool.submit(_python, plan, m, BUSY, seconds, timeout_s=limit_s) for m in plan.machines]
        text = _python(plan, writer, WRITER, 0, seconds, 0, timeout_s=limit_s)
        for job in jobs:
            job.result()
    return Writes(**json.loads(text))


def render(result: Soak) -> str:
    """A few lines that a person reads."""
    lines = [f"{'phase':<8} {'writes':>7} {'median':>9} {'p99':>9} {'longest':>9}"]
    for name, w in (("idle", result.idle), ("loaded", result.loaded)):
        lines.append(f"{name:<8} {w.n:>7} {w.median_ms:>6.2f} ms {w.p99_ms:>6.2f} ms {w.max_ms:>6.1f} ms")
    lines.append(f"TCP segments sent: {result.segments}, sent again: {result.retransmitted}")
    lines.append(f"the host woke a sleeper up to {result.host_late_ms:.1f} ms late")
    lines += [f"!! {problem}" for problem in result.problems()] or ["fit to measure on"]
    return "\n".join(lines)
