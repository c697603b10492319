# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab import controlplane, deployer, doctor, faults, machine, soak, ssh, state, status, up
from lab.config import LabConfig
from lab.log import LabError, die, say
from lab.network import host_nameservers, in_namespace
from lab.paths import locked, state_root
from lab.run import call, run
from lab.state import LabState, folder

EPILOG = """\
a first day with it:
  python3 -m lab doctor --fix          what this host lacks, installed
  python3 -m lab up                    two nodes, an NFS machine, a control plane (12 min at most the first time)
  python3 -m lab status
  python3 -m lab kubectl get nodes
  python3 -m lab run -- ansible all -m ping
  python3 -m lab power-off node-2      ... and watch what your cluster does
  python3 -m lab power-on node-2
  python3 -m lab cut node-1 nfs; python3 -m lab heal
  python3 -m lab down
All commands take --name NAME: several labs can be up side by side.
"""


def _parse_machines(text: str) -> int:
    kind, _, count = text.partition("=")
    if kind != "extra" or not count.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write extra=N")
    return int(count)


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="A real Kubernetes with real NFS machines on one Linux host.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, handler: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--name",
            dest="lab",
            default=os.environ.get("PETSET_LAB") or "lab",
            metavar="LAB",
            help="which lab (default: $PETSET_LAB or 'lab')",
        )
        sub.set_defaults(handler=handler)
        return sub

    sub = add("up", "Bring a lab up, whatever is there of it; run again it changes nothing.", cmd_up)
    sub.add_argument(
        "--nodes", type=int, default=None, help="Kubernetes nodes, 1 to 9 (default: 2, or what the lab has)"
    )
    sub.add_argument(
        "--machines", type=_parse_machines, default=None, metavar="extra=N", help="further plain Debian machines"
    )
    sub.add_argument(
        "--kubernetes", default=None, metavar="VERSION", help="1.33 to 1.37, or a full version (default: 1.36)"
    )
    sub.add_argument(
        "--kube-bin-dir", default=None, metavar="DIR", help="ready Kubernetes binaries instead of building them"
    )
    add(
        "down",
        "Take a lab away: processes, namespaces, devices, files. Works after a crash, too.",
        cmd_down,
    )
    sub = add("status", "What runs, what answers, memory, TCP counters.", cmd_status)
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub = add("doctor", "What this host lacks for a lab, and what to do.", cmd_doctor)
    sub.add_argument("--fix", action="store_true", help="install the missing Debian packages")
    add("build", "Build what a lab needs (Kubernetes, disks, images) into the cache and start nothing.", cmd_build)
    sub = add(
        "soak",
        "Whether the machines' network is fit to measure on: small synchronous writes over NFS, idle and beside load.",
        cmd_soak,
    )
    sub.add_argument("--seconds", type=float, default=300, help="length of the loaded phase (default 300)")
    sub.add_argument("--json", action="store_true", help="as JSON")
    sub = add(
        "run",
        "Run a command inside the lab's network, with KUBECONFIG and the inventory set: lab run -- COMMAND ...",
        cmd_run,
    )
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    sub = add("kubectl", "kubectl as the lab's administrator.", cmd_kubectl)
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    sub = add("kubeconfig", "Where a kubeconfig is: the administrator's, or one with few rights.", cmd_kubeconfig)
    sub.add_argument(
        "--deployer",
        metavar="NAMESPACE",
        help="of an account in that namespace with the rights in roles/petset/files/rights.yml, made now;"
        f" its token is good for {deployer.LIFETIME}",
    )
    sub = add("ssh", "A shell or a command on a machine, by a way that no cut touches.", cmd_ssh)
    sub.add_argument("machine")
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    sub = add("logs", "The log of a machine's console or of a part of the control plane.", cmd_logs)
    sub.add_argument("what", help="a machine, or one of: " + ", ".join((*controlplane.PARTS, "audit")))
    sub.add_argument("-n", type=int, default=50, metavar="LINES", help="last lines (default 50; 0 = all)")

    for name, text in (
        ("power-off", "Cut a machine's power: killed at once, nothing flushed."),
        ("power-on", "Switch a machine on with the disk it had; waits for its SSH, and for Ready on a node."),
        ("pause", "Freeze a machine or a part of the control plane."),
        ("resume", "Let a paused machine or part go on."),
    ):
        add(name, text, cmd_fault).add_argument("target", metavar="NAME")
    for name, text in (
        ("stop", "Stop a part of the control plane."),
        ("start", "Start it again and wait for its answer."),
    ):
        add(name, text, cmd_fault).add_argument("target", metavar="PART", choices=controlplane.PARTS)
    sub = add(
        "cut",
        "Drop all packets between two parties: gateway, api, client, or a machine (a node's pods included).",
        cmd_fault,
    )
    sub.add_argument("target", metavar="A")
    sub.add_argument("peer", metavar="B")
    sub.add_argument("--one-way", action="store_true", help="only what A sends to B")
    sub = add("heal", "Undo cuts: all, those of A, or those between A and B.", cmd_fault)
    sub.add_argument("target", metavar="A", nargs="?")
    sub.add_argument("peer", metavar="B", nargs="?")
    sub = add("slow", "Slow a machine's network, each way.", cmd_fault)
    sub.add_argument("target", metavar="NAME")
    sub.add_argument("--delay", type=float, metavar="MS", help="milliseconds")
    sub.add_argument("--loss", type=float, metavar="PERCENT")
    sub.add_argument("--rate", type=float, metavar="MBIT", help="Mbit/s")
    sub.add_argument("--off", action="store_true", help="let it run free again")
    sub = add("disk-full", "Fill the file system of a path on a machine with one file.", cmd_fault)
    sub.add_argument("target", metavar="NAME")
    sub.add_argument("path", metavar="PATH")
    sub.add_argument("--leave", type=int, default=0, metavar="BYTES", help="bytes to leave free")
    sub = add("disk-free", "Take that file away.", cmd_fault)
    sub.add_argument("target", metavar="NAME")
    sub.add_argument("path", metavar="PATH")
    sub = add("clock", "Move a machine's clock: +90, -5m, 2h; 0 puts it back to the host's time.", cmd_fault)
    sub.add_argument("target", metavar="NAME")
    sub.add_argument("shift", metavar="SHIFT")
    # -90 is an argument to argparse, -5m is to become one
    sub._negative_number_matcher = re.compile(r"-\d+(\.\d+)?[smh]?$")
    return parser


def _shield(words: Sequence[str]) -> list[str]:
    """The command line with ``--`` before what is the words of another program: argparse would take the ``-n`` of
    ``lab kubectl -n kube-system get pods`` for an option of the lab's own. Pure.
    """
    if not words or words[0] not in ("run", "kubectl"):
        return list(words)
    at = 1
    while at < len(words) and re.fullmatch(r"--name(=.*)?|-h|--help", words[at], re.DOTALL):
        at += 2 if words[at] == "--name" else 1
    if at >= len(words) or words[at] == "--":
        return list(words)
    return [*words[:at], "--", *words[at:]]


def _config(args: argparse.Namespace) -> LabConfig:
    known = state.load(args.lab)
    base = known.config if known else LabConfig(args.lab)
    return LabConfig(
        name=args.lab,
        nodes=base.nodes if args.nodes is None else args.nodes,
        extra=base.extra if args.machines is None else args.machines,
        kubernetes=args.kubernetes or base.kubernetes,
        kube_bin_dir=str(Path(args.kube_bin_dir).resolve()) if args.kube_bin_dir else base.kube_bin_dir,
    )


def cmd_up(args: argparse.Namespace) -> int:
    """Up."""
    config = _config(args)
    if state.load(config.name) is None:
        bad = [f for f in doctor.examine() if not f.ok]
        if bad:
            raise LabError(
                "this host is not ready for a lab:\n" + doctor.report(bad), "mend that, or see: python3 -m lab doctor"
            )
    up.up(config)
    return 0


def cmd_down(args: argparse.Namespace) -> int:
    """Down."""
    if not up.down(LabConfig(args.lab).name):
        say(f"there was no lab '{args.lab}'")
    return 0


def cmd_status(args: argparse.Namespace) -> int:
    """Status; exit status 1 when the lab is not healthy."""
    seen = status.observe(state.need(args.lab))
    print(status.to_json(seen) if args.json else status.render(seen))
    return 0 if seen.healthy else 1


def cmd_doctor(args: argparse.Namespace) -> int:
    """Doctor; exit status 1 when something is missing."""
    if args.fix:
        doctor.fix()
    findings = doctor.examine()
    print(doctor.report(findings))
    return 0 if all(f.ok for f in findings) else 1


def cmd_build(args: argparse.Namespace) -> int:
    """Build the artefacts of the lab's configuration."""
    known = state.load(args.lab)
    up.Artefacts(known.config if known else LabConfig(args.lab))
    return 0


def cmd_soak(args: argparse.Namespace) -> int:
    """Soak; exit status 1 when a goal is missed."""
    result = soak.soak(state.need(args.lab), args.seconds)
    print(result.to_json() if args.json else soak.render(result))
    return 1 if result.problems() else 0


def environment(lab: LabState) -> dict[str, str]:
    """What a command in the lab finds in its environment: kubectl and ansible work without further words."""
    base = folder(lab.config.name)
    tools = up.Artefacts(lab.config)
    return {
        "KUBECONFIG": str(base / "kubeconfig"),
        "K8S_AUTH_KUBECONFIG": str(base / "kubeconfig"),
        "ANSIBLE_INVENTORY": str(base / "inventory.yml"),
        "PETSET_LAB": lab.config.name,
        "PETSET_LAB_FOLDER": str(base),
        "PETSET_LAB_NAMESERVERS": " ".join(host_nameservers()),
        "PATH": f"{tools.kube}:{os.environ.get('PATH', '')}",
    }


def _call_in_client(lab: LabState, argv: Sequence[str]) -> int:
    if not argv:
        raise LabError("no command given", "python3 -m lab run -- COMMAND ...")
    env = environment(lab)
    words = [f"{name}={value}" for name, value in env.items()]
    return call(in_namespace(lab.plan.namespace("client"), ["env", *words, *argv]))


def _command(argv: list[str]) -> list[str]:
    return argv[1:] if argv[:1] == ["--"] else argv


def cmd_run(args: argparse.Namespace) -> int:
    """Run a command as a client of the lab; its exit status."""
    return _call_in_client(state.need(args.lab), _command(args.argv))


def cmd_kubectl(args: argparse.Namespace) -> int:
    """Run kubectl."""
    return _call_in_client(state.need(args.lab), ["kubectl", *_command(args.argv)])


def cmd_kubeconfig(args: argparse.Namespace) -> int:
    """Print the path of a kubeconfig; that of a deployer is made on the way."""
    lab = state.need(args.lab)
    if args.deployer is None:
        print(folder(lab.config.name) / "kubeconfig")
    else:
        print(deployer.write_kubeconfig(lab, args.deployer, up.Artefacts(lab.config).kube / "kubectl"))
    return 0


def cmd_ssh(args: argparse.Namespace) -> int:
    """Log in, or run a command; its exit status."""
    lab = state.need(args.lab)
    return ssh.interactive(lab.plan, lab.plan.machine(args.machine), _command(args.argv))


def cmd_logs(args: argparse.Namespace) -> int:
    """Print a log's end."""
    lab = state.need(args.lab)
    if args.what not in (*controlplane.PARTS, "audit"):
        path = machine.log_file(lab.plan, lab.plan.machine(args.what))
    else:
        path = controlplane.log_file(lab.plan, args.what)
    if not path.exists():
        raise LabError(f"no log {path} yet")
    sys.stdout.write(run(["tail", "-n", str(args.n) if args.n else "+1", str(path)]))
    return 0


def cmd_fault(args: argparse.Namespace) -> int:
    """All faults and their mending."""
    # before the lock, whose file would stay for a lab that is none
    state.need(args.lab)
    with locked(state_root() / f".{args.lab}.lock"):
        lab = state.need(args.lab)
        name = args.target
        match args.command:
            case "power-off":
                faults.power_off(lab, name)
            case "power-on":
                faults.power_on(lab, name, up.Artefacts(lab.config))
                if lab.plan.machine(name).kind == "node":
                    boot = ssh.execute(lab.plan, lab.plan.machine(name), "cat /proc/sys/kernel/random/boot_id").strip()
                    controlplane.wait_until_nodes_ready(lab, [name], {name: boot})
            case "pause":
                faults.pause(lab, name)
            case "resume":
                faults.resume(lab, name)
            case "stop":
                faults.stop_part(lab, name)
            case "start":
                faults.start_part(lab, name, up.Artefacts(lab.config))
            case "cut":
                faults.set_cuts(lab, faults.plan_cuts(lab.plan, lab.cuts, name, args.peer, args.one_way))
            case "heal":
                faults.set_cuts(lab, faults.plan_heal(lab.plan, lab.cuts, name, args.peer))
            case "slow":
                slowness = None if args.off else faults.Slowness(args.delay, args.loss, args.rate)
                faults.slow(lab, name, slowness)
            case "disk-full":
                sys.stdout.write(faults.disk_full(lab, name, args.path, args.leave))
            case "disk-free":
                sys.stdout.write(faults.disk_free(lab, name, args.path))
            case "clock":
                sys.stdout.write(faults.clock(lab, name, faults.parse_shift(args.shift)))
        say(f"ok  {args.command} {' '.join(str(w) for w in (name, getattr(args, 'peer', None)) if w)}")
    return 0


def _reader_has_gone() -> bool:
    """Whether the output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _fd, event in poll.poll(0))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; errors that a person can act on are printed with their way out."""
    args = build_parser().parse_args(_shield(sys.argv[1:] if argv is None else argv))
    try:
        # the name is a part of files' names in all that follows
        LabConfig(args.lab)
        code: int = args.handler(args)
        sys.stdout.flush()
        return code
    except LabError as error:
        die(error)
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        # "| head": whoever read has seen enough. What is still buffered goes nowhere, instead of failing at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("lab: interrupted; what was begun is found by the next command", file=sys.stderr)
        return 130
