# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks is found without changing it, and told with the way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import doctor
from lab.config import UPLINK, LabConfig, Plan
from lab.doctor import Finding
from lab.log import LabError

# -- packages --------------------------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(sorted(doctor.PROGRAMS))))
def test_the_packages_to_install_are_those_of_the_programs_that_are_missing(missing: set[str]) -> None:
    packages = doctor.missing_packages(lambda program: program not in missing)
    assert packages == sorted({doctor.PROGRAMS[program] for program in missing})


def test_all_there_is_nothing_to_install() -> None:
    assert doctor.missing_packages(lambda program: True) == []


def test_every_program_that_the_lab_starts_on_the_host_is_looked_for() -> None:
    """First words of argument lists in the package, less what any Debian cannot be without."""
    always = {"sh", "cp", "dpkg", "mount", "tail", "env", "rm"}
    # those that run in a tree of the lab's own, or that other checks are about
    other = {"go", "nice", "apt-config", "docker-registry", "kubectl"}
    started = set()
    for path in Path(doctor.__file__).parent.glob("*.py"):
        started |= set(re.findall(r'\b(?:run|argv = |check_output)\(?\s*\[\s*"([a-z][a-z0-9.-]+)"', path.read_text()))
    assert {"ip", "nft", "openssl", "ssh-keygen", "mmdebstrap", "mkfs.ext4"} <= started
    assert started - always - other <= set(doctor.PROGRAMS)


def test_programs_in_roots_own_folders_are_found_by_any_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    (tmp_path / "no-program").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.has_program("mine")
    assert not doctor.has_program("no-program")
    assert not doctor.has_program("no-such-program-of-the-lab")
    asked: list[str] = []
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path: asked.append(path))
    doctor.has_program("nft")
    assert {"/usr/sbin", "/sbin"} <= set(asked[0].split(":"))


# -- memory and networks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("MemTotal:  100 kB\nMemAvailable:   24576000 kB\n", 24576000 * 1024),
        ("MemAvailable: 0 kB", 0),
        ("MemAvailableX: 5 kB\n", 0),
        ("", 0),
    ],
)
def test_meminfo(text: str, size_bytes: int) -> None:
    assert doctor.parse_meminfo(text, "MemAvailable") == size_bytes


@pytest.mark.parametrize(
    ("routes", "clash"),
    [
        (["default", "192.168.1.0/24", "172.17.0.0/16", "10.0.0.0/24"], []),
        (["default", "10.213.0.0/24"], ["10.213.0.0/24"]),
        (["10.214.7.0/24", "10.215.0.0/16", "10.212.3.0/30"], ["10.214.7.0/24", "10.215.0.0/16", "10.212.3.0/30"]),
        (["10.213.0.7"], ["10.213.0.7"]),
        # one text begins like the other
        (["10.21.0.0/16", "10.2.0.0/16", "110.213.0.0/16", "10.2130.0.0"], []),
        (["10.211.0.0/16", "10.216.0.0/16"], []),
        ([], []),
    ],
)
def test_routes_of_the_host_in_the_labs_networks(routes: list[str], clash: list[str]) -> None:
    assert doctor.overlapping(routes) == clash


@given(st.integers(1, 9), st.integers(0, 63))
def test_every_network_of_a_lab_would_be_noticed(nodes: int, slot: int) -> None:
    plan = Plan(LabConfig(nodes=nodes), slot)
    nets = [plan.gateway_ip, plan.uplink_ip, plan.dns_service_ip, *(m.pod_cidr for m in plan.nodes if m.pod_cidr)]
    assert doctor.overlapping(nets) == nets


@given(st.integers(0, 2**32 - 1), st.integers(17, 32))
def test_a_route_clashes_when_it_lies_in_the_labs_networks(address: int, length: int) -> None:
    network = ip_network((address, length), strict=False)
    assert (doctor.overlapping([str(network)]) != []) is network.subnet_of(ip_network("10.212.0.0/14"))


# -- the table -------------------------------------------------------------------------------------------------------


def test_a_way_out_is_shown_where_one_is_needed() -> None:
    findings = [
        Finding("user", True, "uid 0", "run as root"),
        Finding("memory", False, "2.0 GiB available", "two nodes take up to 8 GiB"),
        Finding("machine", False, "aarch64"),
    ]
    assert doctor.report(findings).splitlines() == [
        "ok  user               uid 0",
        "!!  memory             2.0 GiB available",
        "    way out: two nodes take up to 8 GiB",
        "!!  machine            aarch64",
    ]


# -- a host ----------------------------------------------------------------------------------------------------------


class Host:
    """A host that is fit for a lab, unless a test takes something away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.uid = 0
        self.machine = "x86_64"
        self.missing: set[str] = set()
        self.free_gib = 100.0
        self.shm_gib = 12.0
        self.nameservers: tuple[str, ...] = ("10.0.0.2",)
        self.go: str | LabError = "go1.26.1"
        self.mirror: str | LabError = "http://m/debian"
        self.routes = "default via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 scope link\n"
        self.ran: list[list[str]] = []
        gib = 1024**3

        def answer(value: str | LabError) -> str:
            if isinstance(value, LabError):
                raise value
            return value

        def run(argv: list[str], **_how: object) -> str:
            self.ran.append(argv)
            return self.routes if argv[:2] == ["ip", "route"] else ""

        monkeypatch.setenv("PETSET_LAB_CACHE", str(tmp_path / "not" / "yet" / "cache"))
        monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path / "state"))
        monkeypatch.setattr(doctor.os, "geteuid", lambda: self.uid)
        monkeypatch.setattr(doctor.platform, "machine", lambda: self.machine)
        monkeypatch.setattr(doctor, "has_program", lambda name: name not in self.missing)
        monkeypatch.setattr(doctor, "parse_meminfo", lambda text, key: 16 * gib)
        monkeypatch.setattr(
            doctor.shutil,
            "disk_usage",
            lambda path: SimpleNamespace(
                free=self.free_gib * gib, total=(self.shm_gib if str(path) == "/dev/shm" else 500) * gib
            ),
        )
        monkeypatch.setattr(doctor.network, "host_nameservers", lambda: self.nameservers)
        monkeypatch.setattr(doctor.gobuild, "observe_go_version", lambda: answer(self.go))
        monkeypatch.setattr(doctor.debian, "find_mirror", lambda: SimpleNamespace(uri=answer(self.mirror)))
        monkeypatch.setattr(doctor, "run", run)

    def bad(self) -> dict[str, Finding]:
        return {f.what: f for f in doctor.examine() if not f.ok}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


def test_a_fit_host_is_found_fit_and_left_as_it_is(host: Host, tmp_path: Path) -> None:
    assert set(host.bad()) <= {"/dev/net/tun"}
    assert list(tmp_path.iterdir()) == []
    assert host.ran == [["ip", "route", "show"]]


@pytest.mark.parametrize(
    ("spoil", "what", "seen", "way_out"),
    [
        (lambda h: vars(h).update(uid=1000), "user", "uid 1000", "root"),
        (lambda h: vars(h).update(machine="aarch64"), "machine", "aarch64", "x86-64"),
        (lambda h: h.missing.update(["nft", "openssl"]), "programs", "missing: nftables, openssl", "doctor --fix"),
        (lambda h: vars(h).update(free_gib=14.9), "disk of the cache", "15 GiB free", "PETSET_LAB_CACHE"),
        (lambda h: vars(h).update(free_gib=1), "disk of the state", "1 GiB free", "PETSET_LAB_STATE"),
        (lambda h: vars(h).update(nameservers=()), "name server", "none that is not on loopback", "resolv.conf"),
        (lambda h: vars(h).update(go=LabError("no Go", "install Go 1.26")), "go", "no Go", "install Go 1.26"),
        (lambda h: vars(h).update(go=LabError("no Go")), "go", "no Go", "install Go"),
        (lambda h: vars(h).update(mirror=LabError("none", "set X")), "Debian mirror", "none", "set X"),
        (lambda h: vars(h).update(shm_gib=0.0625), "/dev/shm", "0 GiB", "tmpfs"),
        (
            lambda h: vars(h).update(routes="10.214.0.0/16 dev vpn0\n"),
            "networks", "the host routes 10.214.0.0/16", "cannot be reached",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_with_the_way_out(
    host: Host, spoil: Callable[[Host], None], what: str, seen: str, way_out: str
) -> None:
    spoil(host)
    found = host.bad()
    assert seen in found[what].seen
    assert way_out in found[what].way_out
    assert set(found) <= {what, "/dev/net/tun", "disk of the cache", "disk of the state"}
    text = doctor.report(list(found.values()))
    assert way_out in text


def test_the_uplink_of_a_lab_that_is_up_is_no_clash(host: Host) -> None:
    host.routes += f"{UPLINK}.0.0/30 dev pl-lab scope link\n"
    assert "networks" not in host.bad()


def test_a_host_without_the_programs_that_look_is_examined_all_the_same(host: Host) -> None:
    host.missing = {*doctor.PROGRAMS, "apt-config"}
    assert "programs" in host.bad()
    assert host.ran == []


def test_fix_installs_what_is_missing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.missing = {"nft", "mkfs.ext4"}
    doctor.fix()
    assert host.ran == [
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "-y", "--no-install-recommends", "install", "e2fsprogs", "nftables"],
    ]
    assert "install e2fsprogs nftables" in capsys.readouterr().err


def test_fix_does_nothing_when_nothing_is_missing(host: Host) -> None:
    doctor.fix()
    assert host.ran == []
