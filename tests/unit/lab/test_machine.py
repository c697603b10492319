# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine is booted and reached: its command lines, its hosts file, and the known_hosts that trusts it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import debian, machine, processes, ssh
from lab.config import REGISTRY, LabConfig, MachineSpec, Plan
from lab.log import LabError
from lab.state import LabState, ProcessRecord

PLAN = Plan(LabConfig("green", nodes=2, extra=1), 3)
NODE, NFS = PLAN.machine("node-1"), PLAN.machine("nfs")
plans = st.builds(
    Plan,
    st.builds(LabConfig, st.from_regex(r"\A[a-z][a-z0-9-]{0,11}\Z"), nodes=st.integers(1, 9), extra=st.integers(0, 9)),
    st.integers(0, 63),
)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


# -- /etc/hosts ------------------------------------------------------------------------------------------------------


@given(plans)
def test_every_party_has_a_line_in_the_hosts_file_and_no_name_stands_twice(plan: Plan) -> None:
    table: dict[str, str] = {}
    for line in machine.render_hosts(plan).splitlines():
        address, *names = line.split()
        assert ip_address(address)
        for name in names:
            if name != "localhost":
                assert name not in table
                table[name] = address
    assert {name: table[name] for name in plan.parties()} == {n: nets[0] for n, (_, nets) in plan.parties().items()}
    assert table[REGISTRY.partition(":")[0]] == plan.gateway_ip


# -- the boot line ---------------------------------------------------------------------------------------------------


def test_the_boot_line_of_a_node() -> None:
    assert machine.render_boot_line(PLAN, NODE, "/cache/machines-1/node.ext4") == [
        "/usr/bin/linux.uml",
        "mem=2560M",
        "umid=node-1",
        "uml_dir=/lab/uml/",
        "ubda=/lab/machines/node-1/disk.cow,/cache/machines-1/node.ext4",
        "root=/dev/ubda",
        "rw",
        "vec0:transport=hybrid,ifname=node-1,mac=02:5a:00:00:00:0b,depth=512,gro=1",
        "con=null",
        "con0=null,fd:1",
        "quiet",
        "seccomp=on",
        "systemd.machine_id=9610f1a1c964e2e34b7e6fa0a1d28a71",
        "lab.name=node-1",
        "lab.ip=10.213.0.11",
        "lab.ip6=fd21:3:0:1::11",
        "lab.gw=10.213.0.1",
        "lab.share=/lab/machines/node-1/share",
        "lab.kube=/kube",
    ]


@given(plans)
def test_each_machine_boots_as_itself(plan: Plan) -> None:
    lines = {
        m.name: dict(w.partition("=")[::2] for w in machine.render_boot_line(plan, m, "/d")) for m in plan.machines
    }
    for key in ("umid", "ubda", "systemd.machine_id", "lab.ip", "lab.ip6", "lab.share", "vec0:transport"):
        assert len({line[key] for line in lines.values()}) == len(plan.machines), key
    for spec in plan.machines:
        assert ("lab.kube" in lines[spec.name]) is (spec.kind == "node"), "a plain machine sees no Kubernetes"


@given(plans, plans)
def test_a_machine_has_an_id_that_is_the_same_at_each_boot_and_in_no_other_lab(one: Plan, other: Plan) -> None:
    def ids(plan: Plan) -> set[str]:
        return {
            word.partition("=")[2]
            for spec in plan.machines
            for word in machine.render_boot_line(plan, spec, "/d")
            if word.startswith("systemd.machine_id=")
        }

    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in ids(one))
    assert ids(one) == ids(Plan(one.config, 9))
    if one.config.name != other.config.name:
        assert not ids(one) & ids(other)


@given(plans)
def test_a_machine_is_known_by_its_word_and_taken_for_no_other(plan: Plan) -> None:
    lines = {m.name: " ".join(machine.render_boot_line(plan, m, "/d")) + " " for m in plan.machines}
    for spec in plan.machines:
        assert [name for name, line in lines.items() if f"umid={spec.name} " in line] == [spec.name]


def test_the_boot_script_in_the_machine_reads_each_word_that_it_is_given() -> None:
    script = (debian.ROOTFS / "plain/usr/local/sbin/lab-boot").read_text()
    given_words = {w.partition("=")[0] for w in machine.render_boot_line(PLAN, NODE, "/d") if w.startswith("lab.")}
    assert given_words == set(re.findall(r"word (lab\.\w+)", script))


# -- the spawn command -----------------------------------------------------------------------------------------------


def spawn_command(tmp_path: Path, spec: MachineSpec = NODE) -> list[str]:
    return machine.render_spawn(
        PLAN,
        spec,
        tools=tmp_path / "tools",
        lab=Path("/var/lib/petset lab"),
        cache=Path("/cache"),
        kube=Path("/kube $HOME"),
        base_disk="/cache/d",
    )


def test_a_machine_is_started_in_the_gateways_network_with_mounts_of_its_own(tmp_path: Path) -> None:
    argv = spawn_command(tmp_path)
    assert argv[:12] == [
        "ip", "netns", "exec", "petset-green-gw",
        "unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", argv[11],
    ]  # fmt: skip
    assert argv[12] == "sh"
    assert argv[13:17] == [str(tmp_path / "tools"), "/var/lib/petset lab", "/cache", "/kube $HOME"]
    assert argv[17:] == machine.render_boot_line(PLAN, NODE, "/cache/d")


def run_its_script(tmp_path: Path, fail: str = "") -> subprocess.CompletedProcess[str]:
    """The shell's part of the command, with programs that only tell how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mount", "mkdir", "chroot"):
        (programs / name).write_text(
            f'#!/bin/sh\nprintf "%s" {name}; printf " <%s>" "$@"; echo\ncase "$*" in {fail or "-"}) exit 1;; esac\n'
        )
        (programs / name).chmod(0o755)
    argv = spawn_command(tmp_path)
    return subprocess.run(
        ["/bin/sh", *argv[argv.index("sh") + 1 :]], env={"PATH": str(programs)}, capture_output=True, text=True
    )


def test_the_script_mounts_what_the_machine_needs_into_its_tree_and_boots_it(tmp_path: Path) -> None:
    done = run_its_script(tmp_path)
    tree = tmp_path / "tools"
    boot = "".join(f" <{word}>" for word in machine.render_boot_line(PLAN, NODE, "/cache/d"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"mount <--rbind> </dev> <{tree}/dev>",
        f"mount <-t> <proc> <proc> <{tree}/proc>",
        f"mkdir <-p> <{tree}/lab> <{tree}/cache> <{tree}/kube>",
        f"mount <--bind> </var/lib/petset lab> <{tree}/lab>",
        f"mount <--bind> </cache> <{tree}/cache>",
        f"mount <--bind> </kube $HOME> <{tree}/kube>",
        f"chroot <{tree}>{boot}",
    ]


@pytest.mark.parametrize("fail", ["--rbind*", "*/lab", "*/kube"])
def test_a_machine_whose_mounts_fail_is_not_booted(tmp_path: Path, fail: str) -> None:
    done = run_its_script(tmp_path, fail)
    assert done.returncode != 0
    assert "chroot" not in done.stdout


# -- boot ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab's folder with keys."""
    folder = root / "green"
    (folder / "ssh").mkdir(parents=True)
    (folder / "ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAA lab\n")
    monkeypatch.setattr(machine, "host_nameservers", lambda: ("10.0.0.2", "9.9.9.9"))
    return folder


def boot(monkeypatch: pytest.MonkeyPatch, spec: MachineSpec) -> tuple[list[str], dict[str, Any]]:
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def spawn(argv: list[str], **how: Any) -> ProcessRecord:
        calls.append((argv, how))
        return ProcessRecord(1, 2, how["word"])

    monkeypatch.setattr(processes, "spawn", spawn)
    machine.boot(
        PLAN,
        spec,
        tools=Path("/tools"),
        cache=Path("/c/ache"),
        kube=Path("/kube"),
        base_disk=Path("/c/ache/machines-1/plain.ext4"),
    )
    (call,) = calls
    return call


def test_a_machine_is_booted_from_a_base_disk_as_it_is_called_inside(
    monkeypatch: pytest.MonkeyPatch, lab: Path
) -> None:
    argv, how = boot(monkeypatch, NFS)
    assert "ubda=/lab/machines/nfs/disk.cow,/cache/machines-1/plain.ext4" in argv
    assert how["word"] in " ".join(argv) + " "
    assert how["log"] == lab / "logs" / "nfs.log"
    # the machine's memory is a file there
    assert how["env"]["TMPDIR"] == "/dev/shm"


def test_a_machine_finds_names_servers_and_keys_in_its_share(monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
    boot(monkeypatch, NFS)
    share = lab / "machines" / "nfs" / "share"
    assert (share / "hosts").read_text() == machine.render_hosts(PLAN)
    assert (share / "resolv.conf").read_text() == "nameserver 10.0.0.2\nnameserver 9.9.9.9\n"
    assert (share / "authorized_keys").read_text() == "ssh-ed25519 AAAA lab\n"


def test_a_machine_that_was_killed_boots_with_the_disk_it_had(monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
    """Its control folder is in the way of the next one; its disk must stay."""
    for left in (lab / "uml" / "nfs" / "pid", lab / "uml" / "node-1" / "pid", lab / "machines" / "nfs" / "disk.cow"):
        left.parent.mkdir(parents=True)
        left.touch()
    boot(monkeypatch, NFS)
    assert sorted(p.name for p in (lab / "uml").iterdir()) == ["node-1"]
    assert (lab / "machines" / "nfs" / "disk.cow").exists()


# -- waiting ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch, root: Path) -> Callable[..., Clock]:
    """Wait for all machines, each of which answers after so many seconds."""

    def waiting(after_s: dict[str, float], alive: bool = True, timeout_s: float = 90) -> Clock:
        clock = Clock()
        monkeypatch.setattr(machine, "time", clock)
        monkeypatch.setattr(machine, "answers", lambda plan, spec: clock.now >= after_s[spec.name])
        monkeypatch.setattr(processes, "is_alive", lambda record: alive)
        specs = [PLAN.machine(name) for name in after_s]
        machine.wait_until_up(LabState(PLAN.config, 0), specs, timeout_s=timeout_s)
        return clock

    return waiting


def test_machines_are_waited_for_until_the_last_one_answers(wait: Callable[..., Clock]) -> None:
    assert 5 <= wait({"node-1": 3, "nfs": 5}).now < 5.5
    assert wait({"node-1": 0}).now == 0
    assert wait({}).now == 0


def test_a_machine_that_ends_while_booting_is_told_at_once_with_its_console(
    wait: Callable[..., Clock], root: Path
) -> None:
    log = machine.log_file(PLAN, NFS)
    log.parent.mkdir(parents=True)
    log.write_text("Kernel panic - not syncing\n")
    with pytest.raises(LabError, match=r"machine nfs ended while booting\n    \| Kernel panic") as caught:
        wait({"nfs": 60}, alive=False)
    assert f"(whole log: {log})" in str(caught.value)


def test_a_machine_that_stays_silent_is_told_when_time_is_over(wait: Callable[..., Clock]) -> None:
    with pytest.raises(LabError, match="no SSH on node-2, nfs after 30 s"):
        wait({"node-1": 1, "node-2": 1000, "nfs": 1000}, timeout_s=30)


@pytest.mark.parametrize(
    ("greeting", "well"), [(b"SSH-", True), (b"HTTP", False), (b"", False)], ids=["ssh", "other", "closed"]
)
def test_a_machine_answers_when_its_sshd_greets_the_management_address(
    monkeypatch: pytest.MonkeyPatch, greeting: bytes, well: bool
) -> None:
    asked: list[tuple[Any, ...]] = []

    class Socket:
        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_error: object) -> None:
            asked.append(("closed",))

        def recv(self, _count: int) -> bytes:
            return greeting

    def connect(*where: Any, **how: Any) -> Socket:
        asked.append((*where, how))
        return Socket()

    monkeypatch.setattr(machine.netns, "connect", connect)
    assert machine.answers(PLAN, NODE) is well
    assert asked == [("petset-green-gw", "10.213.0.11", 22, 1, {"source_ip": "10.213.0.254"}), ("closed",)]


def test_a_machine_that_refuses_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_where: Any, **_how: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(machine.netns, "connect", refuse)
    assert machine.answers(PLAN, NODE) is False


# -- ssh -------------------------------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDummyDummyDummyDummyDummyDummyDummyDummyDum1 node-1\n"


def test_known_hosts_name_each_machine_in_all_its_ways_without_the_comment() -> None:
    entries = [(("node-1", "10.213.0.11", "fd21:3:0:1::11"), "ssh-ed25519 AAAA node-1\n"), (("nfs",), "ssh-rsa BBBB")]
    assert ssh.render_known_hosts(entries) == ("node-1,10.213.0.11,fd21:3:0:1::11 ssh-ed25519 AAAA\nnfs ssh-rsa BBBB\n")
    assert ssh.render_known_hosts([]) == ""


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen on this host")
def test_ssh_finds_every_machine_in_the_known_hosts_of_a_lab(root: Path) -> None:
    plan = Plan(LabConfig("green", nodes=1), 0)
    ssh.ensure_keys(plan)
    base = root / "green"
    for spec in plan.machines:
        key = (base / "machines" / spec.name / "share" / "ssh_host_ed25519_key.pub").read_text().split()
        for name in (spec.name, spec.ip, spec.ip6):
            found = subprocess.run(
                ["ssh-keygen", "-F", name, "-f", base / "ssh" / "known_hosts"], capture_output=True, text=True
            )
            assert found.stdout.splitlines()[-1].split()[1:] == key[:2], name
    before = {p: p.stat() for p in base.rglob("*") if p.is_file()}
    ssh.ensure_keys(plan)
    assert {p: p.stat() for p in base.rglob("*") if p.is_file()} == before


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen on this host")
@pytest.mark.parametrize("left", ["key", "key.pub"])
def test_half_a_pair_that_a_killed_up_left_is_made_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("half")
    ssh.ensure_key(tmp_path / "key", "lab")
    public = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True).stdout
    assert public.split()[:2] == (tmp_path / "key.pub").read_text().split()[:2]
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_ssh_uses_nothing_of_the_users_and_a_way_that_no_cut_touches(root: Path) -> None:
    argv = ssh.argv(PLAN, NODE, ["uptime", "-p"])
    assert argv[:5] == ["ip", "netns", "exec", "petset-green-gw", "ssh"]
    assert argv[-4:] == ["root@10.213.0.11", "--", "uptime", "-p"]
    pairs = dict(zip(argv[5:-4:2], argv[6:-4:2], strict=True))
    assert pairs["-F"] == "none"
    assert pairs["-i"] == f"{root}/green/ssh/id_ed25519"
    options = argv[6:-4:2]
    for wanted in (
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={root}/green/ssh/known_hosts",
        "GlobalKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BindAddress=10.213.0.254",
        "ConnectTimeout=5",
    ):
        assert wanted in options
    assert ssh.argv(PLAN, NODE)[-1] == "root@10.213.0.11"


def test_a_script_goes_over_standard_input_so_that_nothing_needs_quoting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(ssh, "run", lambda argv, **how: calls.append((argv, how)) or "out")
    assert ssh.execute(PLAN, NODE, "echo '$x'\n", timeout_s=7) == "out"
    ((argv, how),) = calls
    assert argv[-3:] == ["--", "sh", "-es"]
    assert how == {"input_text": "echo '$x'\n", "timeout_s": 7, "check": True}
