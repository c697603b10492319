# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines: user-mode-linux processes with a disk, a network device and a shared folder each."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from lab import netns, processes
from lab.config import MachineSpec, Plan
from lab.log import LabError, tail
from lab.network import host_nameservers, in_namespace
from lab.state import LabState, ProcessRecord, folder, write_atomically


def render_hosts(plan: Plan) -> str:
    """/etc/hosts of every machine."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost"]
    lines += [f"{machine.ip}\t{machine.name}" for machine in plan.machines]
    lines += [f"{plan.gateway_ip}\tgateway registry.lab", f"{plan.api_ip}\tapi", f"{plan.client_ip}\tclient"]
    return "\n".join(lines) + "\n"


def render_boot_line(plan: Plan, machine: MachineSpec, base_disk: str) -> list[str]:
    """The user-mode-linux command line. Paths are those inside its chroot: /lab the lab's folder, /cache the cache.

    hybrid: a tap to send and a raw socket to receive, the fastest of user-mode-linux's transports that does not lose
    packets under load (README). con0 writes to the log and reads nothing.
    """
    here = f"/lab/machines/{machine.name}"
    machine_id = hashlib.sha256(f"{plan.config.name}/{machine.name}".encode()).hexdigest()[:32]
    words = [
        "/usr/bin/linux.uml",
        f"mem={machine.memory_mib}M",
        f"umid={machine.name}",
        "uml_dir=/lab/uml/",
        f"ubda={here}/disk.cow,{base_disk}",
        "root=/dev/ubda",
        "rw",
        f"vec0:transport=hybrid,ifname={machine.name},mac={machine.mac},depth=512,gro=1",
        "con=null",
        "con0=null,fd:1",
        "quiet",
        "seccomp=on",
        f"systemd.machine_id={machine_id}",
        f"lab.name={machine.name}",
        f"lab.ip={machine.ip}",
        f"lab.ip6={machine.ip6}",
        f"lab.gw={plan.gateway_ip}",
        f"lab.share={here}/share",
    ]
    if machine.kind == "node":
        words.append("lab.kube=/kube")
    return words


def render_spawn(
    plan: Plan, machine: MachineSpec, *, tools: Path, lab: Path, cache: Path, kube: Path, base_disk: str
) -> list[str]:
    """The whole command line: into the gateway's namespace, a mount namespace of its own, the tools' tree, and boot.

    Its mounts are seen by the machine alone and vanish with it.
    """
    script = (
        'mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && mkdir -p "$1/lab" "$1/cache" "$1/kube" && '
        'mount --bind "$2" "$1/lab" && mount --bind "$3" "$1/cache" && mount --bind "$4" "$1/kube" && '
        'root=$1 && shift 4 && exec chroot "$root" "$@"'
    )
    inner = render_boot_line(plan, machine, base_disk)
    # the tree is shared by all machines of all labs, so mount points on it are made in a private copy of the mounts
    argv = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", script, "sh"]
    argv += [str(tools), str(lab), str(cache), str(kube), *inner]
    return in_namespace(plan.namespace("gateway"), argv)


def prepare(plan: Plan, machine: MachineSpec) -> None:
    """Fill the shared folder with what the machine reads at boot."""
    share = folder(plan.config.name) / "machines" / machine.name / "share"
    write_atomically(share / "hosts", render_hosts(plan))
    write_atomically(share / "resolv.conf", "".join(f"nameserver {ip}\n" for ip in host_nameservers()))
    public = folder(plan.config.name) / "ssh" / "id_ed25519.pub"
    shutil.copy(public, share / "authorized_keys")


def boot(plan: Plan, machine: MachineSpec, *, tools: Path, cache: Path, kube: Path, base_disk: Path) -> ProcessRecord:
    """Switch a machine on. Its disk is kept from boot to boot; it is made on the first one."""
    lab = folder(plan.config.name)
    prepare(plan, machine)
    # a machine that was killed leaves its control folder, and a new one with that name would refuse to start
    shutil.rmtree(lab / "uml" / machine.name, ignore_errors=True)
    (lab / "uml").mkdir(exist_ok=True)
    argv = render_spawn(
        plan,
        machine,
        tools=tools,
        lab=lab,
        cache=cache,
        kube=kube,
        base_disk="/cache/" + str(base_disk.relative_to(cache)),
    )
    # the machine's memory is a file in TMPDIR, unlinked once open: it has to be in memory itself
    return processes.spawn(
        argv, word=f"umid={machine.name} ", log=log_file(plan, machine), env={"TMPDIR": "/dev/shm", "HOME": "/tmp"}
    )


def log_file(plan: Plan, machine: MachineSpec) -> Path:
    """The machine's console."""
    return folder(plan.config.name) / "logs" / f"{machine.name}.log"


def answers(plan: Plan, machine: MachineSpec, timeout_s: float = 1) -> bool:
    """Whether the machine's sshd greets."""
    try:
        with netns.connect(plan.namespace("gateway"), machine.ip, 22, timeout_s, source_ip=plan.management_ip) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_until_up(state: LabState, machines: Sequence[MachineSpec], timeout_s: float = 90) -> None:
    """Wait until sshd of each machine greets; a machine that ended meanwhile is an error at once."""
    deadline = time.monotonic() + timeout_s
    waiting = list(machines)
    while waiting:
        waiting = [m for m in waiting if not answers(state.plan, m)]
        for machine in waiting:
            if not processes.is_alive(state.processes.get(machine.name)):
                log = log_file(state.plan, machine)
                raise LabError(f"machine {machine.name} ended while booting\n{tail(log)}\n(whole log: {log})")
        if waiting and time.monotonic() > deadline:
            log = log_file(state.plan, waiting[0])
            names = ", ".join(m.name for m in waiting)
            raise LabError(f"no SSH on {names} after {timeout_s:.0f} s\n{tail(log)}\n(whole log: {log})")
        if waiting:
            time.sleep(0.2)
