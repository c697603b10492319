# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and addresses: no two parties share one, all lie in the lab's networks, and wrong wishes are named."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import config, gobuild
from lab.config import LabConfig, MachineSpec, Plan
from lab.log import LabError

LAB = ip_network("10.212.0.0/14")
LAN = ip_network(f"{config.LAN}.0/24")
LAN6 = ip_network(f"{config.LAN6}::/64")
PODS = ip_network(f"{config.PODS}.0.0/16")
SERVICES = ip_network(f"{config.SERVICES}.0.0/16")
UPLINK = ip_network(f"{config.UPLINK}.0.0/16")

names = st.from_regex(r"\A[a-z][a-z0-9-]{0,11}\Z")
plans = st.builds(
    Plan,
    st.builds(LabConfig, name=names, nodes=st.integers(1, 9), extra=st.integers(0, 9)),
    st.integers(0, 63),
)


@given(plans)
def test_no_two_parties_share_a_name_or_an_address(plan: Plan) -> None:
    fixed = [plan.gateway_ip, plan.api_ip, plan.client_ip, plan.management_ip]
    for taken in (
        fixed + [m.ip for m in plan.machines],
        # ::1 to ::3 are the gateway, the API server and the client
        [f"{config.LAN6}::{i}" for i in (1, 2, 3)] + [m.ip6 for m in plan.machines],
        # the first is the bridge's
        ["02:5a:00:00:00:01"] + [m.mac for m in plan.machines],
        [config.GATEWAY, config.API, config.CLIENT] + [m.name for m in plan.machines],
    ):
        assert len(set(taken)) == len(taken)


@given(plans)
def test_all_addresses_lie_in_the_labs_networks(plan: Plan) -> None:
    in_lan = [plan.gateway_ip, plan.api_ip, plan.client_ip, plan.management_ip, *(m.ip for m in plan.machines)]
    assert all(ip_address(ip) in LAN for ip in in_lan)
    assert all(ip_address(m.ip6) in LAN6 for m in plan.machines)
    assert all(ip_network(m.pod_cidr).subnet_of(PODS) for m in plan.nodes if m.pod_cidr)
    assert ip_address(plan.dns_service_ip) in SERVICES
    assert {ip_address(plan.uplink_ip), ip_address(plan.uplink_host_ip)} <= set(
        IPv4Network(f"{plan.uplink_host_ip}/30", strict=False).hosts()
    )


@given(plans)
def test_addresses_are_written_as_programs_print_them(plan: Plan) -> None:
    """ssh looks an address up in known_hosts as text."""
    for machine in plan.machines:
        assert str(ip_address(machine.ip)) == machine.ip
        assert str(ip_address(machine.ip6)) == machine.ip6


def test_the_networks_do_not_overlap() -> None:
    networks = [LAN, PODS, SERVICES, UPLINK]
    assert all(network.subnet_of(LAB) for network in networks)
    assert not any(a.overlaps(b) for a, b in combinations(networks, 2))


@given(plans)
def test_each_node_and_only_a_node_has_a_pod_network_of_its_own(plan: Plan) -> None:
    cidrs = [ip_network(m.pod_cidr) for m in plan.nodes if m.pod_cidr]
    assert len(cidrs) == plan.config.nodes
    assert not any(a.overlaps(b) for a, b in combinations(cidrs, 2))
    assert all(m.pod_cidr is None for m in plan.machines if m.kind != "node")


@given(plans)
def test_there_is_what_was_asked_for_and_one_nfs_server(plan: Plan) -> None:
    kinds = [m.kind for m in plan.machines]
    assert (kinds.count("node"), kinds.count("nfs"), kinds.count("extra")) == (plan.config.nodes, 1, plan.config.extra)
    assert [m.name for m in plan.nodes] == [f"node-{i}" for i in range(1, plan.config.nodes + 1)]


@given(plans, st.integers(1, 9), st.integers(0, 9))
def test_a_machine_keeps_its_addresses_when_the_lab_grows(plan: Plan, nodes: int, extra: int) -> None:
    larger = Plan(LabConfig(plan.config.name, max(nodes, plan.config.nodes), max(extra, plan.config.extra)), plan.slot)
    assert set(plan.machines) <= set(larger.machines)


def test_addresses_of_a_small_lab() -> None:
    assert {m.name: (m.ip, m.ip6, m.mac, m.pod_cidr) for m in Plan(LabConfig(nodes=1, extra=1), 0).machines} == {
        "node-1": ("10.213.0.11", "fd21:3:0:1::11", "02:5a:00:00:00:0b", "10.214.1.0/24"),
        "nfs": ("10.213.0.21", "fd21:3:0:1::21", "02:5a:00:00:00:15", None),
        "extra-1": ("10.213.0.31", "fd21:3:0:1::31", "02:5a:00:00:00:1f", None),
    }


@given(plans)
def test_parties_are_the_fixed_three_and_the_machines_with_all_their_networks(plan: Plan) -> None:
    parties = plan.parties()
    assert set(parties) == {"gateway", "api", "client", *(m.name for m in plan.machines)}
    ports = [port for name, (port, _) in parties.items() if name != "gateway"]
    assert parties["gateway"][0] == ""
    assert all(ports)
    assert len(set(ports)) == len(ports)
    nets = [ip_network(net) for _, many in parties.values() for net in many]
    assert not any(a.overlaps(b) for a, b in combinations(nets, 2))
    for machine in plan.nodes:
        assert parties[machine.name][1] == (machine.ip, machine.pod_cidr)


@given(plans)
def test_the_names_fit_the_kernel(plan: Plan) -> None:
    """IFNAMSIZ is 16 with the ending zero; a longer name is refused by ip."""
    devices = [plan.uplink_device, *(m.name for m in plan.machines)]
    assert all(len(device) <= 15 for device in devices)
    assert not set(devices) & {"br0", "lo", "uplink", "api", "client", "eth0"}


@given(names, names, st.integers(0, 63), st.integers(0, 63))
def test_two_labs_share_nothing_on_the_host(one: str, other: str, slot: int, other_slot: int) -> None:
    a, b = Plan(LabConfig(one), slot), Plan(LabConfig(other), other_slot)
    if one != other:
        assert not set(a.namespaces) & set(b.namespaces)
        assert a.uplink_device != b.uplink_device
        assert a.host_table != b.host_table
    if slot != other_slot:
        assert not {a.uplink_ip, a.uplink_host_ip} & {b.uplink_ip, b.uplink_host_ip}


@given(names)
def test_what_down_looks_for_follows_from_the_name_alone(name: str) -> None:
    """``down`` works without the state file."""
    real, guessed = Plan(LabConfig(name, 9, 9, "1.33"), 17), Plan(LabConfig(name), 0)
    for attribute in ("namespaces", "uplink_device", "host_table"):
        assert getattr(real, attribute) == getattr(guessed, attribute)


@given(names)
def test_the_hosts_nft_table_has_a_name_that_nft_takes(name: str) -> None:
    assert Plan(LabConfig(name), 0).host_table.isidentifier()


def test_namespaces_of_the_default_lab() -> None:
    assert Plan(LabConfig(), 0).namespaces == ("petset-lab-gw", "petset-lab-api", "petset-lab-client")


def test_a_machine_is_found_by_its_name() -> None:
    machine = Plan(LabConfig(nodes=3, extra=1), 0).machine("node-3")
    assert machine == MachineSpec("node-3", "node", 3, 2560)
    assert (machine.ip, machine.pod_cidr) == ("10.213.0.13", "10.214.3.0/24")


@pytest.mark.parametrize("name", ["node-4", "extra-1", "gateway", "api", "", "NODE-1", "node-1 "])
def test_a_machine_that_is_not_there_is_told_with_those_that_are(name: str) -> None:
    with pytest.raises(LabError, match=f"no machine '{name}' in lab 'green'") as caught:
        Plan(LabConfig("green", nodes=3), 0).machine(name)
    assert caught.value.hint == "one of: node-1, node-2, node-3, nfs"


@pytest.mark.parametrize(
    "name", ["", "1lab", "-lab", "Lab", "lab_1", "lab.1", "lab 1", "../lab", "läb", "lab\n", "abcdefghijklm"]
)
def test_a_name_that_is_none_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(LabError, match="1 to 12 lower-case letters, digits and '-', a letter first") as caught:
        LabConfig(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["a", "lab", "lab-2", "abcdefghijkl", "a-----------", "x1"])
def test_a_name_that_is_one_is_taken(name: str) -> None:
    assert LabConfig(name).name == name


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"nodes": 0}, "--nodes 0: 1 to 9"),
        ({"nodes": 10}, "--nodes 10: 1 to 9"),
        ({"nodes": -1}, "--nodes -1: 1 to 9"),
        ({"extra": -1}, "--machines extra=-1: 0 to 9"),
        ({"extra": 10}, "--machines extra=10: 0 to 9"),
    ],
)
def test_a_number_of_machines_that_cannot_be_is_refused(wish: dict[str, int], message: str) -> None:
    with pytest.raises(LabError, match=message):
        LabConfig(**wish)


def test_the_default_is_two_nodes_of_the_version_that_the_builder_has_as_default() -> None:
    assert LabConfig() == LabConfig("lab", 2, 0, gobuild.DEFAULT_MINOR, None)


@given(
    st.builds(
        LabConfig,
        names,
        st.integers(1, 9),
        st.integers(0, 9),
        st.sampled_from(sorted(gobuild.KUBERNETES_PATCHES)),
        st.none() | st.text(min_size=1),
    )
)
def test_a_configuration_comes_back_from_json(wish: LabConfig) -> None:
    assert LabConfig.from_json(wish.to_json()) == wish
