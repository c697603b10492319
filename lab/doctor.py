# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host lacks for a lab, and what to do about it, found before anything is started."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import debian, gobuild, network
from lab.config import LAN, PODS, SERVICES, UPLINK
from lab.log import LabError, step
from lab.paths import cache_root, state_root
from lab.run import run

# program -> Debian package that has it
PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "openssl": "openssl",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "chroot": "coreutils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "git": "git",
}
FREE_BYTES = 15 * 1024**3
MEMORY_BYTES = 8 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, what was seen, and the way out when it is not."""

    what: str
    ok: bool
    seen: str
    way_out: str = ""


def has_program(name: str) -> bool:
    """Whether a program is there; root's own folders count even where the login's PATH lacks them."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def missing_packages(has: Callable[[str], bool]) -> list[str]:
    """The Debian packages to install, given which programs are there. Pure but for ``has``."""
    return sorted({package for program, package in PROGRAMS.items() if not has(program)})


def parse_meminfo(text: str, key: str) -> int:
    """A value of /proc/meminfo in bytes; 0 when there is no such line."""
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _first_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def overlapping(routes: list[str]) -> list[str]:
    """Those of the host's routes (destinations as ``ip route`` prints them) that lie in the lab's own networks."""
    mine = tuple(net + "." for net in (LAN.rsplit(".", 1)[0], PODS, SERVICES, UPLINK))
    return [route for route in routes if route.startswith(mine)]


def examine() -> list[Finding]:
    """All checks, none of which changes anything."""
    packages = missing_packages(has_program)
    memory = parse_meminfo(Path("/proc/meminfo").read_text(), "MemAvailable")
    findings = [
        Finding("user", os.geteuid() == 0, f"uid {os.geteuid()}", "run as root: namespaces, taps and chroot need it"),
        Finding(
            "machine", platform.machine() == "x86_64", platform.machine(), "user-mode-linux of Debian is for x86-64"
        ),
        Finding(
            "programs",
            not packages,
            "missing: " + ", ".join(packages) if packages else "all there",
            "python3 -m lab doctor --fix   (or: apt-get install " + " ".join(packages) + ")",
        ),
        Finding(
            "/dev/net/tun",
            Path("/dev/net/tun").exists(),
            "there" if Path("/dev/net/tun").exists() else "not there",
            "load the kernel module tun, or pass the device into this container",
        ),
        Finding(
            "memory", memory >= MEMORY_BYTES, f"{memory / 1024**3:.1f} GiB available", "two nodes take up to 8 GiB"
        ),
    ]
    for name, path in (("cache", cache_root()), ("state", state_root())):
        free = shutil.disk_usage(_first_existing(path)).free
        findings.append(
            Finding(
                f"disk of the {name}",
                free >= FREE_BYTES,
                f"{free / 1024**3:.0f} GiB free at {path}",
                f"set PETSET_LAB_{name.upper()} to a folder with 15 GiB",
            )
        )
    shm = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").exists() else 0
    findings.append(
        Finding(
            "/dev/shm",
            shm >= 6 * 1024**3,
            f"{shm / 1024**3:.0f} GiB",
            "mount a tmpfs of 6 GiB or more there: the machines' memory lives in it",
        )
    )
    try:
        findings.append(Finding("go", True, ".".join(map(str, gobuild.parse_go_release(gobuild.observe_go_version())))))
    except LabError as error:
        findings.append(
            Finding(
                "go", False, str(error), error.hint or "install Go 1.21 or later (newer ones are fetched as modules)"
            )
        )
    if has_program("apt-config"):
        try:
            findings.append(Finding("Debian mirror", True, debian.find_mirror().uri))
        except LabError as error:
            findings.append(Finding("Debian mirror", False, str(error), error.hint or ""))
    servers = network.host_nameservers()
    findings.append(
        Finding(
            "name server",
            bool(servers),
            ", ".join(servers) or "none that is not on loopback",
            "name one in /etc/resolv.conf that machines can reach",
        )
    )
    if has_program("ip"):
        routes = [line.split()[0] for line in run(["ip", "route", "show"]).splitlines() if line.split()]
        clash = [r for r in overlapping(routes) if not r.startswith(UPLINK + ".")]
        findings.append(
            Finding(
                "networks",
                not clash,
                "free" if not clash else "the host routes " + ", ".join(clash),
                "the lab uses 10.212.0.0/14 inside its own namespaces; those hosts cannot be reached from it",
            )
        )
    return findings


def fix() -> None:
    """Install the Debian packages that are missing."""
    packages = missing_packages(has_program)
    if not packages:
        return
    with step("install " + " ".join(packages)):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        log = state_root() / "doctor.log"
        run(["apt-get", "-q", "update"], env=env, log=log)
        run(["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages], env=env, log=log)


def report(findings: list[Finding]) -> str:
    """The findings as a table that a person reads."""
    lines = []
    for finding in findings:
        lines.append(f"{'ok ' if finding.ok else '!! '} {finding.what:<18} {finding.seen}")
        if not finding.ok and finding.way_out:
            lines.append(f"    way out: {finding.way_out}")
    return "\n".join(lines)
