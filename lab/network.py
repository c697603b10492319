# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: three namespaces (gateway, api, client), one bridge in the gateway's, a tap for each machine.

    host ── uplink ── gateway namespace ── bridge ──┬─ api namespace      (veth "api")
                      (router, NAT, DNS, registry)  ├─ client namespace   (veth "client")
                                                    └─ machines           (taps "node-1", "nfs", ...)

``render_*`` are pure; ``ensure_*`` and ``remove`` do the work. Nothing is made on the host itself but the uplink's
end, one nft table for its NAT, and three sysctls that are put back when the last lab goes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.config import GATEWAY, LAN, LAN6, Plan
from lab.log import LabError
from lab.paths import state_root
from lab.run import run
from lab.state import write_atomically

Cut = tuple[str, str]

# The raw sockets of the machines' network (see README, "hybrid") lose packets with the default buffer, and the host
# has to route for the machines that fetch packages.
HOST_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.core.rmem_max": str(32 * 1024**2),
    "net.core.rmem_default": str(32 * 1024**2),
}
# Where no registry can be: a stray packet to a service or pod that is gone must die here, not on somebody's network.
PRIVATE = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)


def in_namespace(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` in a network namespace, with that namespace's /etc/resolv.conf and hosts."""
    return ["ip", "netns", "exec", namespace, *argv]


def render_host_nft(plan: Plan) -> str:
    """The host's NAT for one lab's uplink."""
    table = plan.host_table
    return f"""table ip {table}
delete table ip {table}
table ip {table} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {plan.uplink_ip} oifname != "{plan.uplink_device}" masquerade
    }}
}}
"""


def render_gateway_nft(nameservers: Iterable[str]) -> str:
    """The gateway's own rules: NAT for machines that fetch packages, and nothing private leaves by the uplink."""
    dns = ", ".join(sorted(nameservers))
    allow = (
        f"        ip daddr {{ {dns} }} udp dport 53 accept\n        ip daddr {{ {dns} }} tcp dport 53 accept\n"
        if dns
        else ""
    )
    return f"""table ip petset_lab
delete table ip petset_lab
table ip petset_lab {{
    chain leave {{
{allow}        ip daddr {{ {", ".join(PRIVATE)} }} reject
        tcp dport {{ 80, 443, 3128, 8080 }} accept
        reject
    }}
    chain forward {{
        type filter hook forward priority 10;
        oifname "uplink" ct state established,related accept
        oifname "uplink" jump leave
    }}
    chain output {{
        type filter hook output priority 10;
        oifname "uplink" jump leave
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname "uplink" masquerade
    }}
}}
"""


def render_cuts_nft(plan: Plan, cuts: Iterable[Cut]) -> str:
    """The rules for all directed cuts (from, to), replacing those before.

    Machines of one LAN meet on the bridge, so a cut is made there by port; traffic between pods, and through a
    service's address, is routed by the gateway, so it is made there again by the networks behind each party. Cutting
    the gateway itself spares its management address, or nobody could heal the machine.
    """
    parties = plan.parties()
    bridge: dict[str, list[str]] = {"forward": [], "input": [], "output": []}
    routed: list[str] = []
    for source, target in sorted(set(cuts)):
        (port_a, nets_a), (port_b, nets_b) = parties[source], parties[target]
        if target == GATEWAY:
            bridge["input"].append(f'iifname "{port_a}" ether type ip ip daddr != {plan.management_ip} drop')
            bridge["input"].append(f'iifname "{port_a}" ether type ip6 drop')
        elif source == GATEWAY:
            bridge["output"].append(f'oifname "{port_b}" ether type ip ip saddr != {plan.management_ip} drop')
            bridge["output"].append(f'oifname "{port_b}" ether type ip6 drop')
        else:
            bridge["forward"].append(f'iifname "{port_a}" oifname "{port_b}" drop')
            routed.append(f"ip saddr {{ {', '.join(nets_a)} }} ip daddr {{ {', '.join(nets_b)} }} drop")
    text = (
        "table bridge petset_cuts\ndelete table bridge petset_cuts\ntable ip petset_cuts\ndelete table ip petset_cuts\n"
    )
    if not any(bridge.values()):
        return text
    chains = "".join(
        f"    chain {hook} {{\n        type filter hook {hook} priority 0;\n"
        + "".join(f"        {r}\n" for r in rules)
        + "    }\n"
        for hook, rules in bridge.items()
        if rules
    )
    text += f"table bridge petset_cuts {{\n{chains}}}\n"
    if routed:
        rules = "".join(f"        {r}\n" for r in routed)
        hook = "        type filter hook forward priority 5;\n"
        text += f"table ip petset_cuts {{\n    chain forward {{\n{hook}{rules}    }}\n}}\n"
    return text


def render_base_links(plan: Plan, uplink_mtu: int) -> dict[str, list[str]]:
    """``ip -batch`` lines for each namespace, run in this order, on empty namespaces. The key "" is the host."""
    gw, api, client = plan.namespaces
    host = [
        f"link add {plan.uplink_device} type veth peer name uplink netns {gw}",
        f"addr add {plan.uplink_host_ip}/30 dev {plan.uplink_device}",
        f"link set {plan.uplink_device} mtu {uplink_mtu} up",
    ]
    gateway = [
        "link set lo up",
        f"addr add {plan.uplink_ip}/30 dev uplink",
        f"link set uplink mtu {uplink_mtu} up",
        f"route add default via {plan.uplink_host_ip}",
        # the fixed hardware address keeps the machines' neighbour entries valid over a new `up`
        "link add br0 address 02:5a:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"addr add {plan.gateway_ip}/24 dev br0",
        f"addr add {plan.management_ip}/24 dev br0",
        f"addr add {LAN6}::1/64 dev br0 nodad",
        "link set br0 up",
        # pods and services that are not there: an answer at once instead of a packet on the uplink
        f"route add unreachable {plan.gateway_ip.split('.')[0]}.212.0.0/14",
    ]
    links = {"": host, gw: gateway}
    for name, namespace, ip, ip6 in (
        ("api", api, plan.api_ip, f"{LAN6}::2"),
        ("client", client, plan.client_ip, f"{LAN6}::3"),
    ):
        gateway += [f"link add {name} type veth peer name eth0 netns {namespace}", f"link set {name} master br0 up"]
        links[namespace] = [
            "link set lo up",
            f"addr add {ip}/24 dev eth0",
            f"addr add {ip6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {plan.gateway_ip}",
        ]
    return links


def render_machine_links(plan: Plan, existing: Iterable[str]) -> list[str]:
    """``ip -batch`` lines in the gateway's namespace for the machines that have no tap yet, with the pods' routes."""
    have = set(existing)
    lines = []
    for machine in plan.machines:
        if machine.name in have:
            continue
        lines += [
            f"tuntap add dev {machine.name} mode tap",
            # a machine that is busy for a moment must find its packets later, not lose them
            f"link set {machine.name} txqueuelen 10000 master br0 up",
        ]
        if machine.pod_cidr:
            lines.append(f"route replace {machine.pod_cidr} via {machine.ip}")
    return lines


def parse_nameservers(resolv_conf: str) -> tuple[str, ...]:
    """IPv4 name servers of a resolv.conf; those on loopback cannot be reached from a machine and are left out."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = ipaddress.IPv4Address(words[1])
        except ValueError:
            continue
        if not address.is_loopback and not address.is_unspecified:
            found.append(str(address))
    return tuple(found)


def host_nameservers() -> tuple[str, ...]:
    """Name servers that machines can use through the gateway."""
    # Inside of `lab run` stands another resolv.conf, which is for what runs there.
    if told := os.environ.get("PETSET_LAB_NAMESERVERS"):
        return tuple(told.split())
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        try:
            if found := parse_nameservers(Path(path).read_text()):
                return found
        except OSError:
            continue
    return ()


def _ip_batch(namespace: str, lines: Sequence[str]) -> None:
    if lines:
        prefix = ["-n", namespace] if namespace else []
        run(["ip", *prefix, "-batch", "-"], input_text="\n".join(lines) + "\n")


def _nft(namespace: str, text: str) -> None:
    argv = ["nft", "-f", "-"]
    run(in_namespace(namespace, argv) if namespace else argv, input_text=text)


def _sysctl(name: str, value: str) -> None:
    Path("/proc/sys", *name.split(".")).write_text(value)


def _saved_sysctls() -> Path:
    return state_root() / ".host-sysctls.json"


def _netns_mark() -> Path:
    return state_root() / ".made-etc-netns"


def ensure_host_sysctls() -> None:
    """Set the host's sysctls that a lab needs; what they were is kept once, for the last lab to put back."""
    now = {name: Path("/proc/sys", *name.split(".")).read_text().strip() for name in HOST_SYSCTLS}
    if not _saved_sysctls().exists():
        _saved_sysctls().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_saved_sysctls(), json.dumps(now))
    for name, value in HOST_SYSCTLS.items():
        if int(now[name]) < int(value):
            _sysctl(name, value)


def restore_host_sysctls() -> None:
    """Put back what ensure_host_sysctls changed."""
    if _saved_sysctls().exists():
        for name, value in json.loads(_saved_sysctls().read_text()).items():
            _sysctl(name, value)
        _saved_sysctls().unlink()


def existing_namespaces() -> set[str]:
    """Names of all network namespaces that ``ip netns`` knows on this host."""
    try:
        return {p.name for p in Path("/run/netns").iterdir()}
    except OSError:
        return set()


def default_route_mtu() -> int:
    """MTU of the device behind the host's default route, 1500 when there is none."""
    routes = json.loads(run(["ip", "-json", "route", "show", "default"]) or "[]")
    if not routes:
        return 1500
    links = json.loads(run(["ip", "-json", "link", "show", "dev", routes[0]["dev"]]))
    return min(1500, int(links[0]["mtu"]))


def ensure_base(plan: Plan) -> None:
    """Namespaces, bridge, uplink and NAT. A half-made network (killed ``up``, rebooted host) is made anew: the mark
    that it is complete is a file beside the namespaces, which a reboot takes along with them.
    """
    mark = Path("/run") / f"petset-lab-{plan.config.name}.network"
    ensure_host_sysctls()
    if mark.exists() and existing_namespaces() >= set(plan.namespaces):
        return
    remove(plan)
    nameservers = host_nameservers()
    if not nameservers:
        raise LabError(
            "no name server that machines could use in /etc/resolv.conf", "name one there that is not on loopback"
        )
    for namespace in plan.namespaces:
        run(["ip", "netns", "add", namespace])
    for namespace, lines in render_base_links(plan, default_route_mtu()).items():
        _ip_batch(namespace, lines)
    gateway = plan.namespace("gateway")
    run(in_namespace(gateway, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]))
    # bridged frames must not meet the IP rules a second time (kube-proxy's NAT would bite node-to-node traffic)
    run(in_namespace(gateway, ["sysctl", "-q", "-e", "-w", "net.bridge.bridge-nf-call-iptables=0"]), check=False)
    _nft("", render_host_nft(plan))
    _nft(gateway, render_gateway_nft(nameservers))
    hosts = "".join(f"{ip}\t{name}\n" for name, (ip, *_) in ((n, nets) for n, (_, nets) in plan.parties().items()))
    for namespace in plan.namespaces:
        folder = Path("/etc/netns") / namespace
        if not folder.parent.exists():
            # one that was there before the first lab stays after the last
            write_atomically(_netns_mark(), "")
        folder.mkdir(parents=True, exist_ok=True)
        upstream = (plan.gateway_ip,) if namespace == plan.namespace("client") else nameservers
        (folder / "resolv.conf").write_text("".join(f"nameserver {ip}\n" for ip in upstream))
        (folder / "hosts").write_text(f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{hosts}{plan.gateway_ip}\tregistry.lab\n")
    mark.touch()


def ensure_machine_links(plan: Plan) -> None:
    """A tap on the bridge for each machine, and a route to each node's pods."""
    gateway = plan.namespace("gateway")
    links = json.loads(run(["ip", "-n", gateway, "-json", "link", "show"]))
    _ip_batch(gateway, render_machine_links(plan, (link["ifname"] for link in links)))


def apply_cuts(plan: Plan, cuts: Iterable[Cut]) -> None:
    """Make the given directed cuts the only ones."""
    _nft(plan.namespace("gateway"), render_cuts_nft(plan, cuts))


def pids_in(namespace: str) -> list[int]:
    """Processes in a network namespace: the lab's own, and nobody else's, live there."""
    if namespace not in existing_namespaces():
        return []
    return [int(word) for word in run(["ip", "netns", "pids", namespace], check=False).split()]


def remove(plan: Plan) -> None:
    """Take away what ensure_* made. Works on any half-made state; processes must be gone before."""
    (Path("/run") / f"petset-lab-{plan.config.name}.network").unlink(missing_ok=True)
    run(["ip", "link", "del", plan.uplink_device], check=False)
    for namespace in plan.namespaces:
        if namespace in existing_namespaces():
            run(["ip", "netns", "del", namespace])
        folder = Path("/etc/netns") / namespace
        for name in ("resolv.conf", "hosts"):
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()
    if _netns_mark().exists():
        with contextlib.suppress(OSError):
            Path("/etc/netns").rmdir()
            _netns_mark().unlink()
    # naming a table that is not there makes it, so that deleting it cannot fail
    _nft("", f"table ip {plan.host_table}\ndelete table ip {plan.host_table}\n")


def lan_network() -> str:
    """The LAN's network, for messages and exports."""
    return f"{LAN}.0/24"
