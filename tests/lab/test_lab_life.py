# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's life: up again changes nothing, a killed ``up`` is finished by the next, ``down`` leaves nothing.

These run on a second lab, beside the one of the other tests, which must not notice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.processes import is_alive, look
from lab.state import ProcessRecord
from tests.patience import patient

from .conftest import ROOT, Lab, call

pytestmark = pytest.mark.lab


def snapshot() -> dict[str, Any]:
    """What a lab could leave on the host: namespaces, devices, addresses, routes, mounts, rules, sysctls, files."""

    def out(*argv: str) -> str:
        return call(list(argv)).stdout

    links = sorted(link["ifname"] for link in json.loads(out("ip", "-json", "link")))
    return {
        "namespaces": sorted(out("ip", "netns", "list").split("\n")),
        "links": links,
        "addresses": sorted(
            line for line in out("ip", "-o", "addr").splitlines() if "valid_lft" in line and "dynamic" not in line
        ),
        "routes": sorted(out("ip", "route", "show", "table", "all").splitlines()),
        "mounts": sorted(
            line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "/run/user" not in line
        ),
        "rules": out("nft", "list", "ruleset"),
        "forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "netns files": sorted(p.name for p in Path("/etc/netns").glob("*")),
        "state": sorted(p.name for p in Path("/var/lib/petset-lab").glob("*")),
        "memory files": sorted(p.name for p in Path("/dev/shm").glob("*vm_file*")),
    }


def its_processes(lab: Lab) -> list[ProcessRecord]:
    """All that runs in a lab's namespaces, each as a record by which exactly it is known again."""
    pids = [int(pid) for ns in lab.state.plan.namespaces for pid in call(["ip", "netns", "pids", ns]).stdout.split()]
    return [ProcessRecord(seen.pid, seen.start_ticks, "") for pid in pids if (seen := look(pid))]


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    """Another lab's name; whatever a test leaves of it goes, and the first lab must have stayed as it was."""
    before = lab.state.processes
    other = Lab("second")
    other.cli("down")
    yield other
    other.cli("down")
    assert lab.state.processes == before
    assert json.loads(lab.cli("status", "--json").stdout)["healthy"] is True


def test_up_again_changes_nothing_and_is_quick(lab: Lab) -> None:
    # other tests broke this lab before; what they left off is on again, and told with its last words
    sys.stderr.write(lab.cli("up").stderr)
    before = (lab.state.to_json(), Path("/proc/uptime").read_text())
    began = time.monotonic()
    done = lab.cli("up")
    took = time.monotonic() - began
    assert "nothing to do" in done.stderr
    assert lab.state.to_json() == before[0]
    assert took < patient(3), f"up on a lab that is up took {took:.1f} s"


def test_down_leaves_nothing_of_a_second_lab(second: Lab) -> None:
    before = snapshot()
    second.cli("up", "--nodes", "1")
    during = snapshot()
    for what in ("namespaces", "links", "rules", "netns files", "state"):
        assert during[what] != before[what], what
    nodes = second.get("nodes")["items"]
    assert [n["metadata"]["name"] for n in nodes] == ["node-1"]
    running = its_processes(second)
    assert len(running) > 9
    second.cli("down")
    assert [record for record in running if is_alive(record)] == []
    assert snapshot() == before


def test_an_extra_machine_and_a_node_join_a_lab_that_is_up(second: Lab) -> None:
    second.cli("up", "--nodes", "1")
    pids = second.state.processes
    second.cli("up", "--nodes", "2", "--machines", "extra=1")
    assert {n: r for n, r in second.state.processes.items() if n in pids} == pids
    assert [n["metadata"]["name"] for n in second.get("nodes")["items"]] == ["node-1", "node-2"]
    done = second.ssh(
        "extra-1", "command -v python3 sshd; command -v mount.nfs4 exportfs mysqld kubelet || echo plain; hostname"
    )
    assert done.stdout.split()[-2:] == ["plain", "extra-1"]


@pytest.mark.parametrize("after_s", [0.5, 1.5, 4.0, 8.0])
def test_up_killed_on_the_way_is_finished_by_the_next_up(second: Lab, after_s: float) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "lab", "up", "--name", second.name, "--nodes", "1"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(after_s)
    started.send_signal(signal.SIGKILL)
    started.wait()
    second.cli("up", "--nodes", "1")
    seen = json.loads(second.cli("status", "--json").stdout)
    assert seen["healthy"] is True
    # nothing runs twice: each machine's kernel once, each part once
    plan = second.state.plan
    commands = [
        Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        for ns in plan.namespaces
        for pid in map(int, call(["ip", "netns", "pids", ns]).stdout.split())
        if Path(f"/proc/{pid}/cmdline").exists()
    ]
    for word in (b"kube-apiserver", b"etcd", b"coredns"):
        assert sum(1 for c in commands if c[0].endswith(word)) == 1, word


def test_down_finds_a_lab_whose_state_file_is_lost(second: Lab) -> None:
    before = snapshot()
    second.cli("up", "--nodes", "1")
    running = its_processes(second)
    Path("/var/lib/petset-lab/second/state.json").unlink()
    second.cli("down")
    assert [record for record in running if is_alive(record)] == []
    assert snapshot() == before


def test_down_of_what_is_not_there_is_no_error(lab: Lab) -> None:
    done = Lab("nobody").cli("down")
    assert "there was no lab 'nobody'" in done.stderr
    assert lab.state.processes
