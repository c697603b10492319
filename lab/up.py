# SPDX-License-Identifier: GPL-3.0-or-later
"""``up`` and ``down``: every step looks at what is there and does what is missing, so a killed ``up`` is run again."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from lab import controlplane, debian, gobuild, machine, network, node, pki, processes, registry, ssh, state
from lab.config import LabConfig, MachineSpec, Plan
from lab.controlplane import Programs
from lab.log import LabError, elapsed_s, in_parallel, say, step, tail
from lab.paths import cache_root, locked, state_root
from lab.state import LabState, folder, save, write_atomically, write_if_changed


class Artefacts:
    """Everything that is built once and cached: programs, disks, images. ``build`` makes what is missing."""

    def __init__(self, config: LabConfig) -> None:
        self.tools = debian.ensure_tools_tree()
        found: dict[str, object] = {}

        def compile_programs() -> None:
            # one after the other: each compile takes all cores by itself
            bin_dir = Path(config.kube_bin_dir) if config.kube_bin_dir else None
            found["kube"] = gobuild.ensure_kubernetes(config.kubernetes, bin_dir).folder
            found["coredns"] = gobuild.ensure_coredns()

        def make_disks() -> None:
            # downloading and unpacking: beside the compiler
            found["disks"] = debian.ensure_machine_disks()
            found["registry"] = registry.ensure_registry_storage()

        in_parallel([compile_programs, make_disks])
        kube, coredns, disks, images = found["kube"], found["coredns"], found["disks"], found["registry"]
        if not (
            isinstance(kube, Path)
            and isinstance(coredns, Path)
            and isinstance(disks, tuple)
            and isinstance(images, Path)
        ):
            raise LabError(f"builders returned {found!r}")
        self.kube = kube
        self.coredns = coredns
        self.plain_disk: Path = disks[0]
        self.node_disk: Path = disks[1]
        self.registry = images

    @property
    def programs(self) -> Programs:
        """The control plane's programs."""
        return Programs(self.kube, self.coredns, self.tools)

    def disk(self, spec: MachineSpec) -> Path:
        """The disk that a machine starts from."""
        return self.node_disk if spec.kind == "node" else self.plain_disk


def up(config: LabConfig) -> LabState:
    """Bring a lab up, whatever is there of it. Parts that a user stopped are started; cuts stay until ``heal``."""
    with locked(state_root() / f".{config.name}.lock"):
        _check_kubernetes(config)
        lab = state.create_or_update(config)
        plan = lab.plan
        artefacts = Artefacts(lab.config)
        began = time.monotonic()
        network.ensure_base(plan)
        network.ensure_machine_links(plan)
        network.apply_cuts(plan, lab.cuts)
        ssh.ensure_keys(plan)
        if not (folder(config.name) / "kubeconfig").exists() or not _certificates_complete(plan):
            with step("certificates, configuration, keys"):
                controlplane.write_configuration(plan)
        _write_access_files(plan)
        started = _start_machines(lab, artefacts)
        parts = _start_control_plane(lab, artefacts)
        # what runs may still be on its way up (an `up` killed a moment ago): the answers count, not the processes
        if silent := [part for part in controlplane.PARTS if not controlplane.is_ready(plan, part)]:
            with step("control plane answers"):
                controlplane.wait_until_ready(lab, silent)
        if silent_machines := [spec for spec in plan.machines if not machine.answers(plan, spec)]:
            with step("machines answer on SSH"):
                machine.wait_until_up(lab, silent_machines)
        nodes = [n.name for n in plan.nodes]
        if not all(_ready_now(plan).get(name) for name in nodes):
            with step("nodes are Ready"):
                controlplane.wait_until_nodes_ready(lab, nodes)
        if started or parts:
            took = time.monotonic() - began
            say(f"lab '{config.name}' is up in {took:.1f} s; started: {', '.join([*started, *parts])}")
            _record_boot(plan, took)
        else:
            say(f"lab '{config.name}' was up: nothing to do ({elapsed_s():.1f} s)")
        return lab


def _check_kubernetes(config: LabConfig) -> None:
    """Refuse a version or a folder that cannot be used before the state keeps it, where only ``down`` takes it away."""
    known = state.load(config.name)
    if known is not None and known.config == config:
        return
    if config.kube_bin_dir:
        gobuild.ensure_kubernetes(config.kubernetes, Path(config.kube_bin_dir))
    else:
        gobuild.parse_kubernetes_version(config.kubernetes)


def _record_boot(plan: Plan, seconds: float) -> None:
    path = folder(plan.config.name) / "boot.json"
    write_atomically(
        path,
        json.dumps({"seconds": round(seconds, 1), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}) + "\n",
    )


def _certificates_complete(plan: Plan) -> bool:
    return all((pki.pki_folder(plan) / f"{c.name}.crt").exists() for c in pki.certificates(plan))


def _ready_now(plan: Plan) -> dict[str, bool]:
    try:
        return controlplane.node_conditions(plan)
    except OSError:
        return {}


def _start_machines(lab: LabState, artefacts: Artefacts) -> list[str]:
    plan = lab.plan
    started = []
    for spec in plan.machines:
        record = lab.processes.get(spec.name)
        if processes.is_paused(record):
            resume(lab, spec.name)
        if processes.is_alive(record):
            continue
        boot(lab, spec, artefacts)
        started.append(spec.name)
    if started:
        say(f"ok  machines switched on: {', '.join(started)}")
    return started


def boot(lab: LabState, spec: MachineSpec, artefacts: Artefacts) -> None:
    """Switch one machine on and note its process."""
    _end_strays(lab, spec.name)
    if spec.kind == "node":
        node.prepare(lab.plan, spec)
    lab.processes[spec.name] = machine.boot(
        lab.plan, spec, tools=artefacts.tools, cache=cache_root(), kube=artefacts.kube, base_disk=artefacts.disk(spec)
    )
    save(lab)


def _end_strays(lab: LabState, name: str) -> None:
    """End what plays the same part but is not in the state file: an ``up`` killed between start and note leaves it."""
    words = (f"umid={name} ", controlplane.WORDS.get(name, "\0"))
    for namespace in lab.plan.namespaces:
        inside = network.pids_in(namespace)
        for pid in inside:
            seen = processes.look(pid)
            if seen is None or not any(word in seen.command for word in words):
                continue
            # a user's command in the namespace may have the word among its arguments: its session began outside
            if seen.session in inside or processes.look(seen.session) is None:
                processes.end_session(seen.session, name)


def _start_control_plane(lab: LabState, artefacts: Artefacts) -> list[str]:
    plan = lab.plan
    base = folder(plan.config.name)
    storage = base / "registry"
    if not storage.exists():
        partial = base / ".registry.partial"
        shutil.rmtree(partial, ignore_errors=True)
        registry.seed_storage(artefacts.registry, partial)
        partial.rename(storage)
    write_if_changed(base / "registry.yml", registry.render_config(Path("/lab/registry"), f"{plan.gateway_ip}:5000"))
    started = []
    for part in controlplane.PARTS:
        record = lab.processes.get(part)
        if processes.is_paused(record):
            resume(lab, part)
        if not processes.is_alive(record):
            if record is not None:
                # stopped by a person, or ended by itself: then its last words are wanted
                say(f"    {part} does not run; the end of its log:\n{tail(controlplane.log_file(plan, part), 5)}")
            _end_strays(lab, part)
        if controlplane.start(lab, part, artefacts.programs):
            started.append(part)
        if part == "etcd" and started:
            controlplane.wait_until_ready(lab, ["etcd"])
        if part == "apiserver":
            # the others would only retry meanwhile; a refused start is told here with its reason
            if not controlplane.is_ready(plan, "apiserver"):
                with step("API server is ready"):
                    controlplane.wait_until_ready(lab, ["apiserver"])
            if not controlplane.has_addons(plan):
                controlplane.apply_addons(plan)
    return started


def resume(lab: LabState, name: str) -> None:
    """Let a paused machine or part go on."""
    record = lab.processes.get(name)
    if record is not None:
        processes.send(processes.session_pids(record.pid), signal.SIGCONT)


def render_inventory(plan: Plan, lab_folder: str) -> str:
    """The lab's inventory (JSON is YAML): groups nfs_servers, kube_nodes, extra and gateway. Pure."""
    options = " ".join(
        f"-o {text}"
        for text in (
            f"UserKnownHostsFile={lab_folder}/ssh/known_hosts",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "ControlMaster=auto",
            "ControlPersist=60s",
        )
    )

    def host(spec: MachineSpec) -> dict[str, object]:
        return {"ansible_host": spec.ip}

    groups: dict[str, dict[str, object]] = {
        "nfs_servers": {"hosts": {m.name: host(m) for m in plan.machines if m.kind == "nfs"}},
        "kube_nodes": {"hosts": {m.name: host(m) for m in plan.nodes}},
        "extra": {"hosts": {m.name: host(m) for m in plan.machines if m.kind == "extra"}},
        "gateway": {"hosts": {"lab-gateway": {"ansible_host": plan.gateway_ip, "ansible_connection": "local"}}},
    }
    login = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": f"{lab_folder}/ssh/id_ed25519",
        "ansible_ssh_common_args": options,
        "ansible_python_interpreter": "/usr/bin/python3",
        # One round trip for a task instead of several; root needs no sudo, which could forbid it.
        "ansible_ssh_pipelining": True,
    }
    for name in ("nfs_servers", "kube_nodes", "extra"):
        groups[name]["vars"] = login
    return json.dumps({"all": {"children": groups}}, indent=1) + "\n"


def _write_access_files(plan: Plan) -> None:
    base = folder(plan.config.name)
    write_if_changed(base / "inventory.yml", render_inventory(plan, str(base)))


def down(name: str) -> bool:
    """Take a lab away: processes, namespaces, devices, mounts, files. Returns whether there was anything.

    What is looked for follows from the lab's name alone, so it works after a crash, and on a half-made lab.
    """
    with locked(state_root() / f".{name}.lock"):
        plan = Plan(LabConfig(name), 0)
        there = folder(name).exists() or any(ns in network.existing_namespaces() for ns in plan.namespaces)
        if there:
            with step(f"take lab '{name}' down"):
                deadline = time.monotonic() + 20
                while pids := [pid for ns in plan.namespaces for pid in network.pids_in(ns)]:
                    processes.kill_all(pids)
                    if time.monotonic() > deadline:
                        raise LabError(f"processes do not end: {pids}")
                    time.sleep(0.05)
                network.remove(plan)
                shutil.rmtree(folder(name), ignore_errors=True)
        if not state.all_labs():
            network.restore_host_sysctls()
        # while it is held: after that it may be somebody else's lock
        (state_root() / f".{name}.lock").unlink(missing_ok=True)
    return there
