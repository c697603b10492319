# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user asked for (:class:`LabConfig`) and which names and addresses follow from it (:class:`Plan`). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lab.log import LabError

Kind = Literal["node", "nfs", "extra"]

# All labs use the same inner networks: each has network namespaces of its own. Only the uplink to the host differs.
LAN = "10.213.0"
LAN6 = "fd21:3:0:1"
PODS = "10.214"
SERVICES = "10.215"
UPLINK = "10.212"
DOMAIN = "cluster.local"
REGISTRY = "registry.lab:5000"

GATEWAY = "gateway"
API = "api"
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class LabConfig:
    """What a lab is to be: its name, the number of Kubernetes nodes (1 to 9), of further plain machines (0 to 9), and
    the Kubernetes version (a minor like ``1.36``, or a full version). ``kube_bin_dir``: ready binaries to use instead.
    """

    name: str = "lab"
    nodes: int = 2
    extra: int = 0
    kubernetes: str = "1.36"
    kube_bin_dir: str | None = None

    def __post_init__(self) -> None:
        # the name is part of a network device's name, which may have 15 characters
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", self.name):
            raise LabError(
                f"--name {self.name!r}: a lab's name is 1 to 12 lower-case letters, digits and '-', a letter first"
            )
        if not 1 <= self.nodes <= 9:
            raise LabError(f"--nodes {self.nodes}: 1 to 9 nodes are possible")
        if not 0 <= self.extra <= 9:
            raise LabError(f"--machines extra={self.extra}: 0 to 9 further machines are possible")

    def to_json(self) -> dict[str, Any]:
        """As plain data for the state file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabConfig:
        """Back from the state file."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine: its name (also its tap's name and a party for ``cut``), what it is, memory, and addresses."""

    name: str
    kind: Kind
    index: int
    memory_mib: int

    @property
    def host_number(self) -> int:
        """The last part of its address: nodes from 11, the NFS server 21, further machines from 31."""
        return {"node": 10, "nfs": 20, "extra": 30}[self.kind] + self.index

    @property
    def ip(self) -> str:
        """IPv4 address in the lab's LAN."""
        return f"{LAN}.{self.host_number}"

    @property
    def ip6(self) -> str:
        """IPv6 address in the lab's LAN."""
        return f"{LAN6}::{self.host_number}"

    @property
    def mac(self) -> str:
        """A locally administered hardware address; the same at every boot, so that neighbours keep their tables."""
        return f"02:5a:00:00:00:{self.host_number:02x}"

    @property
    def pod_cidr(self) -> str | None:
        """The pods' network on this node; None for a machine that is no node."""
        return f"{PODS}.{self.index}.0/24" if self.kind == "node" else None


@dataclass(frozen=True, slots=True)
class Plan:
    """Names and addresses of one lab, all derived from its configuration and its slot (0 to 63, one for each lab)."""

    config: LabConfig
    slot: int

    @property
    def machines(self) -> tuple[MachineSpec, ...]:
        """All machines: nodes, the NFS server, further plain ones."""
        nodes = [MachineSpec(f"node-{i}", "node", i, 2560) for i in range(1, self.config.nodes + 1)]
        extra = [MachineSpec(f"extra-{i}", "extra", i, 512) for i in range(1, self.config.extra + 1)]
        return (*nodes, MachineSpec("nfs", "nfs", 1, 768), *extra)

    @property
    def nodes(self) -> tuple[MachineSpec, ...]:
        """The machines that are Kubernetes nodes."""
        return tuple(m for m in self.machines if m.kind == "node")

    def machine(self, name: str) -> MachineSpec:
        """The machine of that name; LabError lists those there are."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise LabError(
            f"no machine '{name}' in lab '{self.config.name}'", "one of: " + ", ".join(m.name for m in self.machines)
        )

    @property
    def gateway_ip(self) -> str:
        """Router, registry, cluster DNS (behind its service address) and NodePorts."""
        return f"{LAN}.1"

    @property
    def api_ip(self) -> str:
        """The Kubernetes API server."""
        return f"{LAN}.2"

    @property
    def client_ip(self) -> str:
        """Where ``lab run`` puts a command."""
        return f"{LAN}.3"

    @property
    def management_ip(self) -> str:
        """The gateway's second address, for the lab's own SSH; ``cut`` never touches it."""
        return f"{LAN}.254"

    @property
    def dns_service_ip(self) -> str:
        """Service address of the cluster's DNS, as kubelet hands it to pods."""
        return f"{SERVICES}.0.10"

    @property
    def api_url(self) -> str:
        """Address in every kubeconfig."""
        return f"https://{self.api_ip}:6443"

    def namespace(self, party: Literal["gateway", "api", "client"]) -> str:
        """The network namespace's name on the host."""
        return f"petset-{self.config.name}-{ {'gateway': 'gw', 'api': 'api', 'client': 'client'}[party] }"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All network namespaces of this lab."""
        return tuple(self.namespace(p) for p in ("gateway", "api", "client"))

    @property
    def uplink_device(self) -> str:
        """The host's end of the veth pair through which machines reach package registries."""
        return f"pl-{self.config.name}"

    @property
    def host_table(self) -> str:
        """The host's nft table for the uplink's NAT; like all that a lab leaves on the host named by the lab alone,
        so that ``down`` finds it without the state file.
        """
        return "petset_lab_" + self.config.name.replace("-", "_")

    @property
    def uplink_host_ip(self) -> str:
        """The host's address on the uplink."""
        return f"{UPLINK}.{self.slot}.1"

    @property
    def uplink_ip(self) -> str:
        """The gateway's address on the uplink."""
        return f"{UPLINK}.{self.slot}.2"

    def parties(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Who can be cut from whom: party -> (its port on the bridge, its networks). The gateway has no port."""
        table: dict[str, tuple[str, tuple[str, ...]]] = {
            GATEWAY: ("", (self.gateway_ip,)),
            API: ("api", (self.api_ip,)),
            CLIENT: ("client", (self.client_ip,)),
        }
        for machine in self.machines:
            nets = (machine.ip,) if machine.pod_cidr is None else (machine.ip, machine.pod_cidr)
            table[machine.name] = (machine.name, nets)
        return table
