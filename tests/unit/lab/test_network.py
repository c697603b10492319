# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules and links of the lab's network as text: what is cut is cut once each way, and nothing private leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import network
from lab.config import LabConfig, Plan
from lab.network import Cut

PLAN = Plan(LabConfig("lab", nodes=2, extra=1), 5)
PAIRS = list(permutations(PLAN.parties(), 2))
DELETES = (
    "table bridge petset_cuts\ndelete table bridge petset_cuts\ntable ip petset_cuts\ndelete table ip petset_cuts\n"
)
cut_sets = st.sets(st.sampled_from(PAIRS))


def chains(text: str) -> dict[tuple[str, str], list[str]]:
    """(family, hook) -> rules."""
    found: dict[tuple[str, str], list[str]] = {}
    family, rules = "", []
    for line in text.splitlines():
        if match := re.fullmatch(r"table (\S+) \S+ \{", line):
            family = match[1]
        elif match := re.fullmatch(r"    chain (\S+) \{", line):
            rules = found.setdefault((family, match[1]), [])
        elif line.startswith("        ") and not line.strip().startswith("type "):
            rules.append(line.strip())
    return found


# -- cuts ------------------------------------------------------------------------------------------------------------


def expected_rules(cut: Cut) -> set[tuple[tuple[str, str], str]]:
    (port_a, _), (port_b, _) = (PLAN.parties()[name] for name in cut)
    if cut[1] == "gateway":
        at, rules = "input", [f'iifname "{port_a}" ether type ip ip daddr != 10.213.0.254 drop']
        rules.append(f'iifname "{port_a}" ether type ip6 drop')
    elif cut[0] == "gateway":
        at, rules = "output", [f'oifname "{port_b}" ether type ip ip saddr != 10.213.0.254 drop']
        rules.append(f'oifname "{port_b}" ether type ip6 drop')
    else:
        at, rules = "forward", [f'iifname "{port_a}" oifname "{port_b}" drop']
    return {(("bridge", at), rule) for rule in rules}


@given(cut_sets)
def test_each_direction_has_its_rules_on_the_bridge_and_there_are_no_others(cuts: set[Cut]) -> None:
    seen = chains(network.render_cuts_nft(PLAN, cuts))
    on_bridge = [(where, rule) for where, rules in seen.items() if where[0] == "bridge" for rule in rules]
    assert len(on_bridge) == len(set(on_bridge))
    assert set(on_bridge) == {rule for cut in cuts for rule in expected_rules(cut)}


@given(cut_sets)
def test_each_cut_between_two_ports_is_made_again_where_pods_are_routed(cuts: set[Cut]) -> None:
    parties = PLAN.parties()
    routed = chains(network.render_cuts_nft(PLAN, cuts)).get(("ip", "forward"), [])
    assert sorted(routed) == sorted(
        f"ip saddr {{ {', '.join(parties[a][1])} }} ip daddr {{ {', '.join(parties[b][1])} }} drop"
        for a, b in cuts
        if "gateway" not in (a, b)
    )


def test_a_cut_between_nodes_takes_their_pods_along() -> None:
    text = network.render_cuts_nft(PLAN, [("node-1", "node-2")])
    assert "ip saddr { 10.213.0.11, 10.214.1.0/24 } ip daddr { 10.213.0.12, 10.214.2.0/24 } drop" in text
    assert "ip saddr { 10.213.0.12" not in text


@given(cut_sets)
def test_the_management_address_is_never_in_a_rule_that_drops_it(cuts: set[Cut]) -> None:
    """Or nobody could heal the machine."""
    for where, rules in chains(network.render_cuts_nft(PLAN, cuts)).items():
        for rule in rules:
            if where in (("bridge", "input"), ("bridge", "output")):
                assert "!= 10.213.0.254 drop" in rule or rule.endswith("ether type ip6 drop")
            else:
                nets = re.findall(r"\d+\.\d+\.\d+\.\d+(?:/\d+)?", rule)
                assert not any(ip_address(PLAN.management_ip) in ip_network(net) for net in nets)


def test_no_cut_only_deletes() -> None:
    assert network.render_cuts_nft(PLAN, []) == DELETES


@given(cut_sets)
def test_new_cuts_replace_those_before_and_order_does_not_count(cuts: set[Cut]) -> None:
    text = network.render_cuts_nft(PLAN, sorted(cuts))
    assert text.startswith(DELETES)
    assert text == network.render_cuts_nft(PLAN, [*sorted(cuts, reverse=True), *cuts])


# -- the gateway's own rules -----------------------------------------------------------------------------------------


def leave_rules(nameservers: tuple[str, ...]) -> list[str]:
    return chains(network.render_gateway_nft(nameservers))[("ip", "leave")]


def test_name_servers_are_let_through_before_private_addresses_are_refused() -> None:
    rules = leave_rules(("10.0.0.2", "9.9.9.9"))
    assert rules[:2] == [
        "ip daddr { 10.0.0.2, 9.9.9.9 } udp dport 53 accept",
        "ip daddr { 10.0.0.2, 9.9.9.9 } tcp dport 53 accept",
    ]
    assert re.fullmatch(r"ip daddr \{ .* \} reject", rules[2])


@pytest.mark.parametrize("servers", [(), ("10.0.0.2",)])
def test_private_addresses_are_refused_before_anything_but_dns_is_let_out(servers: tuple[str, ...]) -> None:
    rules = [rule for rule in leave_rules(servers) if "dport 53" not in rule]
    refused = [ip_network(word) for word in rules[0].removeprefix("ip daddr { ").removesuffix(" } reject").split(", ")]
    for inside in (
        "10.0.0.1", "10.212.0.1", "10.213.0.11", "10.214.1.7", "10.215.0.10", "100.64.1.1", "127.0.0.1",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.251",
        "255.255.255.255",
    ):  # fmt: skip
        assert any(ip_address(inside) in net for net in refused), inside
    for outside in ("9.9.9.9", "151.101.2.132", "172.32.0.1", "100.128.0.1", "198.20.0.1"):
        assert not any(ip_address(outside) in net for net in refused), outside
    assert rules[1].startswith("tcp dport {")
    assert rules[2:] == ["reject"]


@given(st.sets(st.ip_addresses(v=4).map(str), max_size=4))
def test_only_port_53_of_the_named_servers_is_added(servers: set[str]) -> None:
    before, now = leave_rules(()), leave_rules(tuple(servers))
    assert now[len(now) - len(before) :] == before
    added = now[: len(now) - len(before)]
    assert len(added) == (2 if servers else 0)
    for rule, protocol in zip(added, ("udp", "tcp"), strict=False):
        match = re.fullmatch(rf"ip daddr \{{ (.*) \}} {protocol} dport 53 accept", rule)
        assert match
        assert set(match[1].split(", ")) == servers


def test_both_what_is_forwarded_and_what_the_gateway_sends_passes_those_rules() -> None:
    seen = chains(network.render_gateway_nft(("9.9.9.9",)))
    assert 'oifname "uplink" jump leave' in seen[("ip", "forward")]
    assert seen[("ip", "output")] == ['oifname "uplink" jump leave']
    assert seen[("ip", "postrouting")] == ['oifname "uplink" masquerade']


def test_the_host_translates_the_uplinks_address_alone() -> None:
    text = network.render_host_nft(PLAN)
    assert text.startswith("table ip petset_lab_lab\ndelete table ip petset_lab_lab\ntable ip petset_lab_lab {")
    assert chains(text)[("ip", "postrouting")] == ['ip saddr 10.212.5.2 oifname != "pl-lab" masquerade']


@pytest.mark.skipif(shutil.which("nft") is None, reason="no nft on this host")
@pytest.mark.skipif(os.geteuid() != 0, reason="nft -c needs root, in a network namespace of its own")
@pytest.mark.parametrize(
    "text",
    [
        network.render_host_nft(Plan(LabConfig("a-b-c"), 63)),
        network.render_gateway_nft(()),
        network.render_gateway_nft(("10.0.0.2", "9.9.9.9")),
        network.render_cuts_nft(PLAN, []),
        network.render_cuts_nft(PLAN, PAIRS),
        network.render_cuts_nft(PLAN, [("node-1", "gateway")]),
        network.render_cuts_nft(PLAN, [("gateway", "nfs"), ("api", "node-2")]),
    ],
    ids=["host", "gateway", "gateway-dns", "no-cut", "all-cuts", "cut-input", "cut-output-forward"],
)
def test_nft_takes_the_rules(text: str) -> None:
    done = subprocess.run(["unshare", "-n", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this root may not make network namespaces")
    assert (done.returncode, done.stderr) == (0, "")


# -- links -----------------------------------------------------------------------------------------------------------


def test_links_are_made_on_the_host_first_and_then_in_each_namespace() -> None:
    links = network.render_base_links(PLAN, 1460)
    assert list(links) == ["", "petset-lab-gw", "petset-lab-api", "petset-lab-client"]
    assert links[""] == [
        "link add pl-lab type veth peer name uplink netns petset-lab-gw",
        "addr add 10.212.5.1/30 dev pl-lab",
        "link set pl-lab mtu 1460 up",
    ]
    assert links["petset-lab-api"] == [
        "link set lo up",
        "addr add 10.213.0.2/24 dev eth0",
        "addr add fd21:3:0:1::2/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 10.213.0.1",
    ]
    assert "addr add 10.213.0.3/24 dev eth0" in links["petset-lab-client"]


def test_the_gateway_has_both_its_addresses_both_ports_and_the_uplinks_mtu() -> None:
    lines = network.render_base_links(PLAN, 1460)["petset-lab-gw"]
    for wanted in (
        "addr add 10.212.5.2/30 dev uplink",
        "link set uplink mtu 1460 up",
        "route add default via 10.212.5.1",
        "addr add 10.213.0.1/24 dev br0",
        "addr add 10.213.0.254/24 dev br0",
        "link add api type veth peer name eth0 netns petset-lab-api",
        "link add client type veth peer name eth0 netns petset-lab-client",
        "link set api master br0 up",
        "link set client master br0 up",
    ):
        assert wanted in lines
    assert lines.index("link add api type veth peer name eth0 netns petset-lab-api") < lines.index(
        "link set api master br0 up"
    )


def test_a_pod_or_service_that_is_gone_is_unreachable_not_sent_out() -> None:
    (line,) = [x for x in network.render_base_links(PLAN, 1500)["petset-lab-gw"] if "unreachable" in x]
    hole = ip_network(line.split()[-1])
    assert ip_address(PLAN.dns_service_ip) in hole
    assert all(ip_network(m.pod_cidr).subnet_of(hole) for m in PLAN.nodes if m.pod_cidr)
    # the way to the host is more specific, so it stays
    assert ip_address(PLAN.uplink_host_ip) in hole


def test_a_machine_gets_a_tap_with_a_long_queue_and_a_node_a_route_to_its_pods() -> None:
    lines = network.render_machine_links(PLAN, ["lo", "br0", "node-2"])
    assert lines == [
        "tuntap add dev node-1 mode tap",
        "link set node-1 txqueuelen 10000 master br0 up",
        "route replace 10.214.1.0/24 via 10.213.0.11",
        "tuntap add dev nfs mode tap",
        "link set nfs txqueuelen 10000 master br0 up",
        "tuntap add dev extra-1 mode tap",
        "link set extra-1 txqueuelen 10000 master br0 up",
    ]


@given(st.sets(st.sampled_from([m.name for m in PLAN.machines])))
def test_links_that_are_there_are_not_made_again(existing: set[str]) -> None:
    lines = network.render_machine_links(PLAN, iter(sorted(existing)))
    made = {line.split()[3] for line in lines if line.startswith("tuntap add")}
    assert made == {m.name for m in PLAN.machines} - existing
    assert network.render_machine_links(PLAN, existing | made) == []


@pytest.mark.skipif(shutil.which("ip") is None, reason="no ip on this host")
@pytest.mark.skipif(os.geteuid() != 0, reason="links need root, in a network namespace of its own")
def test_ip_takes_the_lines_of_the_gateways_bridge() -> None:
    """Those that need no other namespace and no device of the host."""
    lines = network.render_base_links(PLAN, 1500)["petset-lab-gw"]
    own = [line for line in lines if "br0" in line.split() and "master" not in line and "addr add fd" not in line]
    assert len(own) == 4
    own += [line for line in lines if "unreachable" in line]
    done = subprocess.run(
        ["unshare", "-n", "sh", "-ec", "ip link set lo up; ip -batch -; ip -json addr show br0"],
        input="\n".join(own) + "\n",
        capture_output=True,
        text=True,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("this root may not make network namespaces")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert shown[0]["address"] == "02:5a:00:00:00:01"
    assert [a["local"] for a in shown[0]["addr_info"] if a["family"] == "inet"] == ["10.213.0.1", "10.213.0.254"]


def test_a_command_goes_into_its_namespace_word_by_word() -> None:
    assert network.in_namespace("petset-lab-gw", ["echo", "a b"]) == [
        "ip", "netns", "exec", "petset-lab-gw", "echo", "a b",
    ]  # fmt: skip


# -- name servers and sysctls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 10.0.0.2\n", ("10.0.0.2",)),
        (
            "# nameserver 1.1.1.1\nsearch corp\nnameserver\t9.9.9.9 # quad9\nnameserver 10.0.0.2",
            ("9.9.9.9", "10.0.0.2"),
        ),
        # a stub on the host's loopback cannot be reached from a machine
        ("nameserver 127.0.0.53\noptions edns0\n", ()),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.2\n", ("10.0.0.2",)),
        # the gateway translates IPv4 alone
        ("nameserver fd00::1\nnameserver ::1\nnameserver fe80::1%eth0\n", ()),
        ("nameserver\n", ()),
        # what is no address would break the gateway's rules as a whole
        ("nameserver resolver.example\nnameserver 0.0.0.0\nnameserver 10.0.0.2\n", ("10.0.0.2",)),
        ("nameservers 10.0.0.2\n", ()),
        ("", ()),
    ],
)
def test_name_servers_that_machines_can_reach(text: str, servers: tuple[str, ...]) -> None:
    assert network.parse_nameservers(text) == servers


def test_machines_that_are_booted_inside_of_lab_run_get_the_hosts_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """There /etc/resolv.conf is the client's, which asks the lab's own DNS first."""
    monkeypatch.setenv("PETSET_LAB_NAMESERVERS", "10.0.0.2 9.9.9.9")
    assert network.host_nameservers() == ("10.0.0.2", "9.9.9.9")


class FakeSysctls:
    """The host's sysctls, in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, values: Mapping[str, str]) -> None:
        self.root = root
        for name, value in values.items():
            path = root.joinpath("proc/sys", *name.split("."))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value + "\n")
        real = network.Path

        def moved(*parts: str) -> Path:
            return real(root / "proc/sys", *parts[1:]) if parts[0] == "/proc/sys" else real(*parts)

        monkeypatch.setattr(network, "Path", moved)
        monkeypatch.setenv("PETSET_LAB_STATE", str(root / "state"))

    def now(self) -> dict[str, str]:
        base = self.root / "proc/sys"
        return {
            ".".join(p.relative_to(base).parts): p.read_text().strip() for p in sorted(base.rglob("*")) if p.is_file()
        }


LOW = {"net.core.rmem_default": "212992", "net.core.rmem_max": "212992", "net.ipv4.ip_forward": "0"}


def test_the_hosts_sysctls_are_raised_and_put_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = FakeSysctls(monkeypatch, tmp_path, LOW)
    network.ensure_host_sysctls()
    assert host.now() == network.HOST_SYSCTLS
    # a second lab must not take the raised values for the host's own
    network.ensure_host_sysctls()
    network.restore_host_sysctls()
    assert host.now() == LOW
    network.restore_host_sysctls()
    assert host.now() == LOW


def test_a_sysctl_that_is_higher_already_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = {**LOW, "net.core.rmem_max": str(64 * 1024**2), "net.ipv4.ip_forward": "1"}
    host = FakeSysctls(monkeypatch, tmp_path, mine)
    network.ensure_host_sysctls()
    assert host.now()["net.core.rmem_max"] == str(64 * 1024**2)
    network.restore_host_sysctls()
    assert host.now() == mine
