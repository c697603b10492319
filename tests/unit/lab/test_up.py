# SPDX-License-Identifier: GPL-3.0-or-later
"""``up`` does what is missing and nothing else; ``down`` finds everything by the lab's name; the inventory is whole."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import controlplane, gobuild, machine, network, node, pki, processes, registry, ssh, state, up
from lab.config import LabConfig, MachineSpec, Plan
from lab.log import LabError
from lab.processes import Seen
from lab.state import LabState, ProcessRecord


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PETSET_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state"


# -- inventory -------------------------------------------------------------------------------------------------------

plans = st.builds(Plan, st.builds(LabConfig, nodes=st.integers(1, 9), extra=st.integers(0, 9)), st.integers(0, 63))


@given(plans)
def test_each_machine_is_in_the_group_of_its_kind_with_its_address(plan: Plan) -> None:
    groups = json.loads(up.render_inventory(plan, "/lab"))["all"]["children"]
    assert set(groups) == {"nfs_servers", "kube_nodes", "extra", "gateway"}
    for group, kind in (("nfs_servers", "nfs"), ("kube_nodes", "node"), ("extra", "extra")):
        assert groups[group]["hosts"] == {m.name: {"ansible_host": m.ip} for m in plan.machines if m.kind == kind}
    assert groups["gateway"]["hosts"] == {
        "lab-gateway": {"ansible_host": plan.gateway_ip, "ansible_connection": "local"}
    }


def test_machines_are_logged_in_to_as_root_with_the_labs_own_key_and_known_hosts() -> None:
    groups = json.loads(up.render_inventory(Plan(LabConfig(), 0), "/var/lib/petset-lab/lab"))["all"]["children"]
    for group in ("nfs_servers", "kube_nodes", "extra"):
        login = groups[group]["vars"]
        assert login["ansible_user"] == "root"
        assert login["ansible_ssh_private_key_file"] == "/var/lib/petset-lab/lab/ssh/id_ed25519"
        options = shlex.split(login["ansible_ssh_common_args"])
        assert options[0::2] == ["-o"] * (len(options) // 2)
        assert {"UserKnownHostsFile=/var/lib/petset-lab/lab/ssh/known_hosts", "StrictHostKeyChecking=yes"} <= set(
            options[1::2]
        )
    assert "vars" not in groups["gateway"]


def test_the_inventory_is_written_only_when_it_changes(root: Path) -> None:
    plan = Plan(LabConfig(), 0)
    up._write_access_files(plan)
    path = root / "lab" / "inventory.yml"
    before = path.stat()
    up._write_access_files(plan)
    after = path.stat()
    # Reading it may change the time of access.
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    up._write_access_files(Plan(LabConfig(nodes=3), 0))
    assert "node-3" in path.read_text()


# -- up --------------------------------------------------------------------------------------------------------------


class World:
    """A host in memory: what runs, what answers, and each thing that ``up`` did to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.did: list[str] = []
        self.alive: set[str] = set()
        self.paused: set[str] = set()
        self.silent: set[str] = set()
        self.ready = {"node-1": True, "node-2": True}
        names: dict[int, str] = {}

        def record(name: str) -> ProcessRecord:
            number = 1000 + len(names)
            names[number] = name
            self.alive.add(name)
            return ProcessRecord(number, 1, name)

        def boot(plan: Plan, spec: MachineSpec, **_how: object) -> ProcessRecord:
            self.did.append(f"boot {spec.name}")
            return record(spec.name)

        def start(lab: LabState, part: str, _programs: object) -> bool:
            if part in self.alive:
                return False
            self.did.append(f"start {part}")
            lab.processes[part] = record(part)
            state.save(lab)
            return True

        def write_configuration(plan: Plan) -> None:
            self.did.append("configuration")
            for certificate in pki.certificates(plan):
                state.write_atomically(pki.pki_folder(plan) / f"{certificate.name}.crt", "")
            state.write_atomically(state.folder(plan.config.name) / "kubeconfig", "")

        def seed(source: Path, target: Path) -> None:
            self.did.append("seed registry")
            target.mkdir(parents=True)

        def send(pids: list[int], number: int) -> None:
            for pid in pids:
                self.did.append(f"signal {int(number)} {names[pid]}")
                self.paused.discard(names[pid])

        def waits(what: str, clears: set[str]) -> None:
            self.did.append(what)
            self.silent -= clears

        artefacts = SimpleNamespace(
            tools=Path("/tools"),
            kube=Path("/kube"),
            registry=Path("/registry"),
            programs=None,
            disk=lambda spec: Path("/d"),
        )
        for target, replacements in (
            (up, {"Artefacts": lambda config: artefacts}),
            (network, {"ensure_base": lambda plan: None, "ensure_machine_links": lambda plan: None,
                       "apply_cuts": lambda plan, cuts: self.did.append(f"cuts {cuts}") if cuts else None,
                       "pids_in": lambda namespace: []}),
            (ssh, {"ensure_keys": lambda plan: None}),
            (node, {"prepare": lambda plan, spec: None}),
            (registry, {"seed_storage": seed}),
            (machine, {"boot": boot,
                       "answers": lambda plan, spec: spec.name not in self.silent,
                       "wait_until_up": lambda lab, specs: waits("wait " + " ".join(s.name for s in specs),
                                                                  {s.name for s in specs})}),
            (processes, {"is_alive": lambda r: r is not None and names[r.pid] in self.alive,
                         "is_paused": lambda r: r is not None and names[r.pid] in self.paused,
                         "session_pids": lambda pid: [pid], "send": send}),
            (controlplane, {"start": start, "write_configuration": write_configuration,
                            "is_ready": lambda plan, part: part not in self.silent,
                            "wait_until_ready": lambda lab, parts: waits("wait " + " ".join(parts), set(parts)),
                            "has_addons": lambda plan: "addons" in self.did,
                            "apply_addons": lambda plan: self.did.append("addons"),
                            "node_conditions": lambda plan: self.ready,
                            "wait_until_nodes_ready": lambda lab, names: waits("Ready " + " ".join(names), set())}),
        ):  # fmt: skip
            for name, value in replacements.items():
                monkeypatch.setattr(target, name, value)

    def up(self, config: LabConfig | None = None) -> list[str]:
        """What a further ``up`` does."""
        before = len(self.did)
        up.up(config or LabConfig())
        return self.did[before:]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, root: Path) -> World:
    return World(monkeypatch, root)


def test_up_makes_everything_in_an_order_in_which_each_finds_what_it_needs(world: World) -> None:
    assert world.up() == [
        "configuration",
        "boot node-1",
        "boot node-2",
        "boot nfs",
        "seed registry",
        "start etcd",
        "wait etcd",
        "start apiserver",
        "addons",
        "start controller-manager",
        "start scheduler",
        "start kube-proxy",
        "start coredns",
        "start registry",
    ]
    lab = state.need("lab")
    assert set(lab.processes) == {*controlplane.PARTS, "node-1", "node-2", "nfs"}
    boot = json.loads((state.folder("lab") / "boot.json").read_text())
    assert boot["seconds"] >= 0


def test_up_on_a_lab_that_is_up_changes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.up()

    def seen() -> dict[Path, tuple[int, int, int]]:
        """Looking sets a folder's time of access, and only that."""
        found = {path: path.stat() for path in state.folder("lab").rglob("*")}
        return {path: (one.st_ino, one.st_size, one.st_mtime_ns) for path, one in found.items()}

    before = seen()
    capsys.readouterr()
    assert world.up() == []
    assert seen() == before
    assert "lab 'lab' was up: nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("off", "does"),
    [
        ("node-2", ["boot node-2"]),
        ("nfs", ["boot nfs"]),
        ("scheduler", ["start scheduler"]),
        ("etcd", ["start etcd", "wait etcd"]),
    ],
)
def test_up_starts_what_was_switched_off_and_leaves_the_rest(world: World, off: str, does: list[str]) -> None:
    world.up()
    world.alive.remove(off)
    assert world.up() == does


def test_up_tells_which_part_had_ended_and_its_last_words(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It only said '1 parts started': which one had died, and of what, was lost."""
    world.up()
    world.alive.remove("coredns")
    log = controlplane.log_file(state.need("lab").plan, "coredns")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("before\npanic: out of luck\n")
    capsys.readouterr()
    world.up()
    told = capsys.readouterr().err
    assert "panic: out of luck" in told
    assert "; started: coredns\n" in told


@pytest.mark.parametrize("paused", ["node-1", "coredns"])
def test_up_lets_go_on_what_was_paused(world: World, paused: str) -> None:
    world.up()
    world.paused.add(paused)
    assert world.up() == [f"signal 18 {paused}"]


def test_up_waits_for_what_runs_but_does_not_answer_yet(world: World) -> None:
    """As after an ``up`` that was killed a moment ago."""
    world.up()
    world.silent = {"scheduler", "nfs"}
    world.ready = {"node-1": True, "node-2": False}
    assert world.up() == ["wait scheduler", "wait nfs", "Ready node-1 node-2"]


def test_up_keeps_the_cuts(world: World) -> None:
    world.up()
    lab = state.need("lab")
    lab.cuts = [("node-1", "nfs")]
    state.save(lab)
    assert world.up() == ["cuts [('node-1', 'nfs')]"]


def test_up_with_more_nodes_makes_their_certificates_and_switches_them_on(world: World) -> None:
    world.up()
    world.ready["node-3"] = True
    assert world.up(LabConfig(nodes=3)) == ["configuration", "boot node-3"]


def test_a_registry_that_was_half_seeded_is_seeded_anew(world: World, root: Path) -> None:
    (root / "lab" / ".registry.partial" / "half").mkdir(parents=True)
    assert "seed registry" in world.up()
    assert list((root / "lab" / "registry").iterdir()) == []


@pytest.mark.parametrize("version", ["1.20", "1.99", "latest", "1.36.x"])
def test_a_version_that_nobody_has_leaves_no_lab_behind(world: World, version: str) -> None:
    """A state with that version would refuse every other one until ``down``."""
    with pytest.raises(LabError, match="Kubernetes"):
        world.up(LabConfig(kubernetes=version))
    assert state.all_labs() == []
    assert world.did == []
    world.up(LabConfig(kubernetes="1.36"))


def test_a_folder_without_programs_leaves_no_lab_behind(world: World, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="lacks kube-apiserver"):
        world.up(LabConfig(kube_bin_dir=str(tmp_path)))
    assert state.all_labs() == []


def test_a_lab_of_a_version_that_is_no_longer_built_stays_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.up()
    monkeypatch.setattr(gobuild, "KUBERNETES_PATCHES", {"1.40": "v1.40.1"})
    assert world.up() == []


# -- strays ----------------------------------------------------------------------------------------------------------


def ended_strays(monkeypatch: pytest.MonkeyPatch, name: str, seen: list[Seen], inside: set[int]) -> list[int]:
    table = {s.pid: s for s in seen}
    ended: list[int] = []
    monkeypatch.setattr(network, "pids_in", lambda ns: sorted(inside) if ns == "petset-lab-gw" else [])
    monkeypatch.setattr(processes, "look", table.get)
    monkeypatch.setattr(processes, "end_session", lambda session, what: ended.append(session))
    up._end_strays(LabState(LabConfig(), 0), name)
    return ended


UML = "/usr/bin/linux.uml mem=2560M umid={} uml_dir=/lab/uml/ "


def test_a_machine_that_a_killed_up_did_not_note_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [
        Seen(10, 10, 5, "S", UML.format("node-1")),
        Seen(11, 10, 6, "S", ""),
        Seen(20, 20, 5, "S", UML.format("node-11")),
        Seen(30, 30, 5, "S", UML.format("nfs")),
    ]
    assert ended_strays(monkeypatch, "node-1", seen, {10, 11, 20, 30}) == [10]


def test_one_whose_leader_is_gone_is_ended_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended_strays(monkeypatch, "nfs", [Seen(31, 30, 6, "S", UML.format("nfs"))], {31}) == [30]


def test_a_part_is_known_by_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [
        Seen(10, 10, 5, "S", "/c/coredns/coredns -conf=/s/lab/Corefile "),
        Seen(20, 20, 5, "S", "/k/kube-proxy --config=/s/lab/kube-proxy.json "),
    ]
    assert ended_strays(monkeypatch, "coredns", seen, {10, 20}) == [10]


def test_a_users_own_command_in_the_network_is_no_stray(monkeypatch: pytest.MonkeyPatch) -> None:
    """``lab ssh node-1 pgrep coredns -a``: it is in the session of the user's shell, which is outside."""
    seen = [
        Seen(7, 7, 1, "S", "-bash "),
        Seen(50, 7, 9, "S", "ssh root@10.213.0.11 -- pgrep coredns -a "),
    ]
    assert ended_strays(monkeypatch, "coredns", seen, {50}) == []


# -- down ------------------------------------------------------------------------------------------------------------


class Host:
    """The namespaces and processes of a host in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.namespaces: dict[str, list[int]] = {}
        self.immortal: set[int] = set()
        self.did: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(network, "existing_namespaces", lambda: set(self.namespaces))
        monkeypatch.setattr(network, "pids_in", lambda ns: list(self.namespaces.get(ns, [])))
        monkeypatch.setattr(network, "remove", self.remove)
        monkeypatch.setattr(network, "restore_host_sysctls", lambda: self.did.append("sysctls"))
        monkeypatch.setattr(processes, "kill_all", self.kill)
        monkeypatch.setattr(up, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def kill(self, pids: list[int]) -> None:
        self.did.append(f"kill {pids}")
        for name, inside in self.namespaces.items():
            self.namespaces[name] = [pid for pid in inside if pid not in pids or pid in self.immortal]

    def remove(self, plan: Plan) -> None:
        assert not any(self.namespaces.get(ns) for ns in plan.namespaces), "processes go first"
        self.did.append(f"remove {plan.config.name}")
        for ns in plan.namespaces:
            self.namespaces.pop(ns, None)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_down_takes_processes_network_and_files_and_leaves_other_labs(host: Host, root: Path) -> None:
    for name in ("lab", "other"):
        state.save(LabState(LabConfig(name), 0))
        host.namespaces |= {f"petset-{name}-gw": [1, 2] if name == "lab" else [9], f"petset-{name}-api": []}
    host.namespaces["petset-lab-api"] = [3]
    assert up.down("lab") is True
    assert host.did == ["kill [1, 2, 3]", "remove lab"]
    assert host.namespaces == {"petset-other-gw": [9], "petset-other-api": []}
    assert sorted(p.name for p in root.iterdir()) == ["other"]


def test_the_last_lab_puts_the_hosts_sysctls_back(host: Host) -> None:
    state.save(LabState(LabConfig(), 0))
    up.down("lab")
    assert host.did == ["remove lab", "sysctls"]


def test_down_without_a_lab_says_so_and_leaves_nothing(host: Host, root: Path) -> None:
    assert up.down("lab") is False
    assert list(root.iterdir()) == []
    assert host.did == ["sysctls"]


def test_down_works_when_the_state_file_is_gone(host: Host) -> None:
    host.namespaces = {"petset-lab-gw": [4711]}
    assert up.down("lab") is True
    assert host.did[:2] == ["kill [4711]", "remove lab"]


@pytest.mark.parametrize("text", ["", "{", '{"config": {"name": "lab", "colour": "red"}}'])
def test_down_works_when_the_state_file_cannot_be_read(host: Host, root: Path, text: str) -> None:
    (root / "lab").mkdir(parents=True)
    (root / "lab" / "state.json").write_text(text)
    assert up.down("lab") is True
    assert not (root / "lab").exists()


def test_down_tells_of_processes_that_do_not_end_and_keeps_the_lab(host: Host, root: Path) -> None:
    state.save(LabState(LabConfig(), 0))
    host.namespaces = {"petset-lab-gw": [13]}
    host.immortal = {13}
    with pytest.raises(LabError, match=r"processes do not end: \[13\]"):
        up.down("lab")
    assert 20 <= host.now < 21
    assert state.load("lab") is not None
