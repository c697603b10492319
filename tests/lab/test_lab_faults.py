# SPDX-License-Identifier: GPL-3.0-or-later
"""Each means to break a part does what it says, shows in ``status``, and is undone without a trace."""

from __future__ import annotations

import json
import time

import pytest

from lab import controlplane, faults

from .conftest import Lab, wait_for

pytestmark = pytest.mark.lab


def status(lab: Lab) -> dict:
    return json.loads(lab.cli("status", "--json", ok=False).stdout)


def machine(lab: Lab, name: str) -> dict:
    return next(m for m in status(lab)["machines"] if m["name"] == name)


def part(lab: Lab, name: str) -> dict:
    return next(p for p in status(lab)["parts"] if p["name"] == name)


def test_a_healthy_lab_says_so_and_shows_its_counters(lab: Lab) -> None:
    seen = status(lab)
    assert seen["healthy"] is True
    assert {p["name"] for p in seen["parts"]} == set(controlplane.PARTS)
    assert all(m["segments_out"] > 0 and m["segments_retransmitted"] >= 0 for m in seen["machines"])
    assert 0 < seen["memory_mib"] < 8 * 1024
    table = lab.cli("status").stdout
    assert "healthy" in table
    assert "node-2" in table


def test_a_paused_machine_answers_nothing_and_goes_on(lab: Lab) -> None:
    boot = lab.ssh("node-2", "cat /proc/sys/kernel/random/boot_id").stdout
    lab.cli("pause", "node-2")
    try:
        seen = machine(lab, "node-2")
        assert (seen["power"], seen["ssh"]) == ("paused", False)
    finally:
        lab.cli("resume", "node-2")
    assert lab.ssh("node-2", "cat /proc/sys/kernel/random/boot_id").stdout == boot


def test_up_resumes_what_is_paused(lab: Lab) -> None:
    lab.cli("pause", "node-2")
    lab.cli("up")
    assert machine(lab, "node-2")["power"] == "on"


@pytest.mark.parametrize("name", ["scheduler", "coredns", "kube-proxy", "controller-manager"])
def test_a_part_stops_and_starts(lab: Lab, name: str) -> None:
    lab.cli("stop", name)
    try:
        seen = part(lab, name)
        assert (seen["process"], seen["answers"]) == ("off", False)
    finally:
        lab.cli("start", name)
    assert part(lab, name)["answers"] is True


def test_the_api_server_away_is_told_and_comes_back(lab: Lab) -> None:
    lab.cli("stop", "apiserver")
    try:
        assert status(lab)["kubernetes"] == "no answer"
        assert lab.kubectl("get", "nodes", "--request-timeout=3s", ok=False).rc != 0
    finally:
        lab.cli("start", "apiserver")
    assert lab.kubectl("get", "nodes").rc == 0


def round_trip_ms(lab: Lab, source: str, target: str) -> float:
    done = lab.ssh(source, f"ping -c 5 -i 0.2 -q {target}")
    assert done.rc == 0, done.stdout + done.stderr
    return float(done.stdout.split("=")[-1].split("/")[1])


def test_a_slow_machine_is_slow_both_ways_until_let_free(lab: Lab) -> None:
    usual = round_trip_ms(lab, "node-1", "nfs")
    lab.cli("slow", "node-1", "--delay", "50")
    try:
        assert round_trip_ms(lab, "node-1", "nfs") > usual + 90
        assert round_trip_ms(lab, "node-2", "nfs") < 50
    finally:
        lab.cli("slow", "node-1", "--off")
    assert round_trip_ms(lab, "node-1", "nfs") < 50


def test_a_lossy_machine_loses_packets(lab: Lab) -> None:
    lab.cli("slow", "node-2", "--loss", "40")
    try:
        text = lab.ssh("nfs", "ping -c 50 -i 0.05 -W 1 -q node-2 || true").stdout
    finally:
        lab.cli("slow", "node-2", "--off")
    lost = float(text.split("% packet loss")[0].split()[-1])
    assert 20 < lost < 95, text


def test_a_full_disk_is_full_and_freed(lab: Lab) -> None:
    lab.cli("disk-full", "nfs", "/srv")
    try:
        full = lab.ssh("nfs", "dd if=/dev/zero of=/srv/more bs=1M count=64 conv=fsync 2>&1 || true").stdout
        assert "No space left on device" in full
    finally:
        lab.cli("disk-free", "nfs", "/srv")
        lab.ssh("nfs", "rm -f /srv/more")
    free = int(lab.ssh("nfs", "df --output=avail -B1M /srv | tail -n 1").stdout)
    assert free > 1024


def test_a_clock_moves_and_comes_back(lab: Lab) -> None:
    lab.cli("clock", "nfs", "-90")
    try:
        off = time.time() - float(lab.ssh("nfs", "date +%s.%N").stdout)
        assert 80 < off < 100
    finally:
        lab.cli("clock", "nfs", "0")
    assert abs(time.time() - float(lab.ssh("nfs", "date +%s.%N").stdout)) < 5


def test_the_gateway_cut_from_a_node_leaves_the_way_to_mend_it(lab: Lab) -> None:
    lab.cli("cut", "node-1", "gateway")
    try:
        assert lab.ssh("node-1", "ping -c 1 -W 1 gateway || echo gone").stdout.strip().endswith("gone")
        assert lab.ssh("node-1", "ping -c 1 -W 1 nfs >/dev/null && echo there").stdout.strip() == "there"
    finally:
        lab.cli("heal", "node-1", "gateway")
    assert lab.ssh("node-1", "ping -c 1 -W 2 gateway >/dev/null && echo there").stdout.strip() == "there"


def test_a_machine_fetches_packages_but_reaches_no_private_address(lab: Lab) -> None:
    """A packet to a service that is gone must not wander into the networks around the host."""
    done = lab.ssh("nfs", "apt-get -q update >/dev/null && echo fetched")
    assert done.stdout.strip() == "fetched", done.stderr
    for address in ("10.215.99.99", "192.168.77.77"):
        began = time.monotonic()
        text = lab.ssh(
            "nfs", f"python3 -c \"import socket; socket.create_connection(('{address}', 80), 5)\" 2>&1 || true"
        ).stdout
        assert "timed out" not in text, text
        assert time.monotonic() - began < 5
        assert "OSError" in text or "Refused" in text or "refused" in text, text


def test_wrong_words_are_refused_and_change_nothing(lab: Lab) -> None:
    before = (lab.state.cuts, lab.state.processes)
    for words, said in (
        (("cut", "node-1", "node-9"), "node-9"),
        (("cut", "nfs", "nfs"), "itself"),
        (("power-off", "mysql-0"), "one of: node-1, node-2, nfs"),
        (("slow", "nfs"), "--delay"),
        (("disk-full", "nfs", "srv"), "absolute path"),
        (("clock", "nfs", "soon"), "+90"),
        (("up", "--nodes", "1"), "take it down first"),
    ):
        done = lab.cli(*words, ok=False)
        assert done.rc == 1, words
        assert said in done.stderr, done.stderr
    assert (lab.state.cuts, lab.state.processes) == before


def test_logs_tell_of_machines_and_parts(lab: Lab) -> None:
    assert "vec0" in lab.cli("logs", "node-1", "-n", "0").stdout
    assert lab.cli("logs", "apiserver").stdout
    entry = json.loads(lab.cli("logs", "audit", "-n", "1").stdout)
    assert entry["kind"] == "Event"
    assert "no machine 'nobody'" in lab.cli("logs", "nobody", ok=False).stderr


def test_run_gives_a_command_the_cluster_the_inventory_and_the_network(lab: Lab) -> None:
    text = lab.run("sh", "-c", "cat $ANSIBLE_INVENTORY; kubectl get --raw /readyz; exit 7", ok=False)
    assert text.rc == 7
    assert '"nfs_servers"' in text.stdout
    assert text.stdout.rstrip().endswith("ok")


def test_power_on_brings_a_node_to_ready_soon(lab: Lab) -> None:
    lab.cli("power-off", "node-2")
    assert lab.ssh("node-2", "true", timeout_s=20).rc != 0
    assert machine(lab, "node-2")["power"] == "off"
    lab.cli("power-on", "node-2")
    assert machine(lab, "node-2")["node"] == "Ready"


def test_parse_shift_is_what_the_help_says() -> None:
    assert [faults.parse_shift(t) for t in ("+90", "-5m", "2h", "0")] == [90, -300, 7200, 0]


def test_the_network_holds_under_load(lab: Lab) -> None:
    """A short soak: correctness of the path, not a time; the figures are the bench's (``lab soak``)."""
    done = lab.cli("soak", "--seconds", "15", "--json", ok=False, timeout_s=600)
    figures = json.loads(done.stdout)
    assert figures["idle"]["n"] == 2000
    assert figures["loaded"]["n"] > 100
    assert figures["retransmitted"] < figures["segments"] / 1000
    assert figures["loaded"]["max_ms"] < 5000
    wait_for("nothing is left mounted", lambda: "lab-soak" not in lab.ssh("node-1", "cat /proc/mounts").stdout, 10)
