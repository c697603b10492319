# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH to the lab's machines: keys and known_hosts are made by the lab, nothing of the user's is used or changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.config import MachineSpec, Plan
from lab.network import in_namespace
from lab.run import call, run
from lab.state import folder, write_if_changed


def ensure_key(path: Path, comment: str) -> None:
    """An ed25519 key pair without passphrase at ``path`` and ``path``.pub, made once."""
    if path.with_name(path.name + ".pub").exists() and path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def render_known_hosts(entries: Sequence[tuple[Sequence[str], str]]) -> str:
    """known_hosts lines of (names and addresses of a machine, its public key as in a .pub file). Pure."""
    return "".join(f"{','.join(names)} {' '.join(key.split()[:2])}\n" for names, key in entries)


def ensure_keys(plan: Plan) -> None:
    """The user's key, each machine's host key, and the known_hosts that names them all."""
    base = folder(plan.config.name)
    ensure_key(base / "ssh" / "id_ed25519", f"lab {plan.config.name}")
    entries = []
    for machine in plan.machines:
        key = base / "machines" / machine.name / "share" / "ssh_host_ed25519_key"
        ensure_key(key, machine.name)
        entries.append(((machine.name, machine.ip, machine.ip6), key.with_name(key.name + ".pub").read_text()))
    write_if_changed(base / "ssh" / "known_hosts", render_known_hosts(entries))


def options(plan: Plan) -> list[str]:
    """ssh options that use the lab's own key and known_hosts, and nothing of the user's configuration."""
    base = folder(plan.config.name) / "ssh"
    return [
        "-F",
        "none",
        "-i",
        str(base / "id_ed25519"),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "IdentityAgent=none",
        "-o",
        f"UserKnownHostsFile={base / 'known_hosts'}",
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "UpdateHostKeys=no",
        "-o",
        "LogLevel=ERROR",
    ]


def argv(plan: Plan, machine: MachineSpec, command: Sequence[str] = (), connect_timeout_s: int = 5) -> list[str]:
    """The command line for a command (or a login) on a machine, over the management address that no cut touches."""
    return in_namespace(
        plan.namespace("gateway"),
        [
            "ssh",
            *options(plan),
            "-o",
            f"BindAddress={plan.management_ip}",
            "-o",
            f"ConnectTimeout={connect_timeout_s}",
            "-o",
            "ServerAliveInterval=5",
            "-o",
            "ServerAliveCountMax=6",
            f"root@{machine.ip}",
            *(["--", *command] if command else []),
        ],
    )


def execute(plan: Plan, machine: MachineSpec, script: str, timeout_s: float = 60, check: bool = True) -> str:
    """Run a shell script on a machine (given on standard input, so nothing needs quoting) and return its output."""
    return run(argv(plan, machine, ["sh", "-es"]), input_text=script, timeout_s=timeout_s, check=check)


def interactive(plan: Plan, machine: MachineSpec, command: Sequence[str]) -> int:
    """Hand the terminal over to ssh; returns its exit status."""
    return call(argv(plan, machine, command))
