# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane and the gateway's services: real programs as plain processes in the lab's namespaces.

Nothing is anonymous and nothing is always allowed: Node and RBAC authorisation, client certificates for every part,
NodeRestriction. What works here has to work on a hardened cluster.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab import netns, pki, processes
from lab.config import DOMAIN, GATEWAY, PODS, SERVICES, Plan
from lab.log import LabError, say, tail
from lab.network import host_nameservers, in_namespace
from lab.run import run
from lab.state import LabState, folder, save, write_atomically

PARTS = ("etcd", "apiserver", "controller-manager", "scheduler", "kube-proxy", "coredns", "registry")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs are: Kubernetes' own, CoreDNS, and the tools' tree with etcd and the registry."""

    kube: Path
    coredns: Path
    tools: Path


def log_file(plan: Plan, part: str) -> Path:
    """A part's log."""
    return folder(plan.config.name) / "logs" / f"{part}.log"


def render_audit_policy() -> dict[str, Any]:
    """Who asked for what, without bodies: tests count requests and look for secrets in addresses with it."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
            {
                "level": "None",
                "users": [
                    "system:kube-controller-manager",
                    "system:kube-scheduler",
                    "system:kube-proxy",
                    "lab:coredns",
                    "system:apiserver",
                ],
            },
            {"level": "Metadata"},
        ],
    }


def render_corefile(plan: Plan, kubeconfig: Path, nameservers: Sequence[str]) -> str:
    """CoreDNS as kubeadm sets it up (cache 30, ttl 5 for pods' records by the plugin's default), on the gateway."""
    return f"""{DOMAIN}:53 10.in-addr.arpa:53 {{
    bind {plan.gateway_ip}
    errors
    ready {plan.gateway_ip}:8181
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig} lab-{plan.config.name}
        pods insecure
        ttl 5
    }}
    cache 30
    loadbalance
}}
.:53 {{
    bind {plan.gateway_ip}
    errors
    hosts {{
        {plan.gateway_ip} registry.lab
        fallthrough
    }}
    forward . {" ".join(nameservers)}
    cache 30
}}
"""


def render_kube_proxy(plan: Plan, kubeconfig: Path) -> dict[str, Any]:
    """kube-proxy on the gateway: nftables mode; service traffic is masqueraded, as the way back must pass here."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "bindAddress": plan.gateway_ip,
        "hostnameOverride": GATEWAY,
        "clusterCIDR": f"{PODS}.0.0/16",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
        "nodePortAddresses": [f"{plan.gateway_ip}/32"],
        "healthzBindAddress": f"{plan.gateway_ip}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0},
    }


def render_commands(plan: Plan, programs: Programs) -> dict[str, list[str]]:
    """The command line of each part, without the way into its namespace. Pure."""
    base = folder(plan.config.name)
    p = str(base / "pki")
    kube = str(programs.kube)

    def with_kubeconfig(name: str) -> list[str]:
        path = base / "kubeconfigs" / name
        return [f"--kubeconfig={path}", f"--authentication-kubeconfig={path}", f"--authorization-kubeconfig={path}"]

    return {
        "etcd": [
            str(programs.tools / "usr/bin/etcd"),
            "--name=lab",
            f"--data-dir={base / 'etcd'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=lab=http://127.0.0.1:2380",
            "--auto-compaction-retention=1h",
            "--log-level=warn",
            # for a lab alone: a crash of the host may lose the cluster, and that is all it may lose
            "--unsafe-no-fsync",
        ],
        "apiserver": [
            f"{kube}/kube-apiserver",
            f"--advertise-address={plan.api_ip}",
            "--secure-port=6443",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={SERVICES}.0.0/16",
            f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
            f"--service-account-key-file={p}/service-account.pub",
            f"--service-account-signing-key-file={p}/service-account.key",
            f"--client-ca-file={p}/ca.crt",
            f"--tls-cert-file={p}/apiserver.crt",
            f"--tls-private-key-file={p}/apiserver.key",
            f"--kubelet-certificate-authority={p}/ca.crt",
            f"--kubelet-client-certificate={p}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={p}/apiserver-kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--anonymous-auth=false",
            "--allow-privileged=true",
            "--profiling=false",
            "--event-ttl=2h",
            f"--audit-policy-file={base / 'audit-policy.json'}",
            f"--audit-log-path={base / 'logs' / 'audit.log'}",
            "--audit-log-maxsize=100",
            "--audit-log-maxbackup=1",
        ],
        "controller-manager": [
            f"{kube}/kube-controller-manager",
            *with_kubeconfig("controller-manager"),
            "--bind-address=127.0.0.1",
            f"--root-ca-file={p}/ca.crt",
            f"--service-account-private-key-file={p}/service-account.key",
            f"--cluster-signing-cert-file={p}/ca.crt",
            f"--cluster-signing-key-file={p}/ca.key",
            f"--client-ca-file={p}/ca.crt",
            f"--requestheader-client-ca-file={p}/ca.crt",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--allocate-node-cidrs=false",
            "--profiling=false",
            # the default is 50 s; the lab's nodes renew their lease every 5 s
            "--node-monitor-grace-period=20s",
            "--terminated-pod-gc-threshold=50",
        ],
        "scheduler": [
            f"{kube}/kube-scheduler",
            *with_kubeconfig("scheduler"),
            "--bind-address=127.0.0.1",
            f"--client-ca-file={p}/ca.crt",
            f"--requestheader-client-ca-file={p}/ca.crt",
            "--leader-elect=false",
            "--profiling=false",
        ],
        "kube-proxy": [f"{kube}/kube-proxy", f"--config={base / 'kube-proxy.json'}"],
        "coredns": [str(programs.coredns), f"-conf={base / 'Corefile'}"],
        "registry": ["chroot", str(programs.tools), "/usr/bin/docker-registry", "serve", "/lab/registry.yml"],
    }


# What a part's own program is called in its command line: its record is checked against it.
WORDS = {
    "etcd": "bin/etcd ",
    "apiserver": "kube-apiserver ",
    "controller-manager": "kube-controller-manager ",
    "scheduler": "kube-scheduler ",
    "kube-proxy": "kube-proxy ",
    "coredns": "coredns ",
    "registry": "docker-registry ",
}


def part_namespace(plan: Plan, part: str) -> str:
    """The network namespace that a part lives in."""
    return plan.namespace("api" if part in ("etcd", "apiserver", "controller-manager", "scheduler") else "gateway")


def write_configuration(plan: Plan) -> None:
    """All files that the parts read; the administrator's kubeconfig comes last, as the sign that all are there."""
    base = folder(plan.config.name)
    pki.ensure(plan)
    for name in ("controller-manager", "scheduler", "kube-proxy", "coredns"):
        pki.write_kubeconfig(plan, name, base / "kubeconfigs" / name)
    write_atomically(base / "audit-policy.json", json.dumps(render_audit_policy()))
    write_atomically(base / "kube-proxy.json", json.dumps(render_kube_proxy(plan, base / "kubeconfigs" / "kube-proxy")))
    write_atomically(base / "Corefile", render_corefile(plan, base / "kubeconfigs" / "coredns", host_nameservers()))
    pki.write_kubeconfig(plan, "admin", base / "kubeconfig")


def start(state: LabState, part: str, programs: Programs) -> bool:
    """Start one part unless it runs; returns whether it had to be started. Its answer is waited for elsewhere."""
    if processes.is_alive(state.processes.get(part)):
        return False
    if part == "kube-proxy":
        return _start_kube_proxy(state, programs)
    return _start(state, part, programs)


def _start(state: LabState, part: str, programs: Programs) -> bool:
    plan = state.plan
    argv = render_commands(plan, programs)[part]
    if part == "registry":
        script = 'mkdir -p "$1/lab" && mount --bind "$2" "$1/lab" && shift 2 && exec "$@"'
        argv = [
            "unshare",
            "--mount",
            "--",
            "sh",
            "-ec",
            script,
            "sh",
            str(programs.tools),
            str(folder(plan.config.name)),
            *argv,
        ]
    state.processes[part] = processes.spawn(
        in_namespace(part_namespace(plan, part), argv), word=WORDS[part], log=log_file(plan, part)
    )
    save(state)
    return True


@cache
def _tls(lab: str, base: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(base / "ca.crt"))
    context.load_cert_chain(base / "admin.crt", base / "admin.key")
    return context


def request(
    plan: Plan,
    path: str,
    *,
    method: str = "GET",
    body: Any = None,
    content_type: str = "application/json",
    timeout_s: float = 5,
) -> netns.Reply:
    """One request to the API server as the lab's administrator, from within the lab's network. Raises OSError."""
    return netns.http_request(
        plan.namespace("gateway"),
        plan.api_ip,
        6443,
        path,
        method=method,
        timeout_s=timeout_s,
        body=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": content_type, "User-Agent": "petset-lab"},
        tls=_tls(plan.config.name, pki.pki_folder(plan)),
    )


def is_ready(plan: Plan, part: str) -> bool:
    """Whether a part answers (its process alone says little)."""
    gateway, api = plan.namespace("gateway"), plan.namespace("api")
    try:
        if part == "apiserver":
            return request(plan, "/readyz", timeout_s=2).status == 200
        namespace, ip, port, path = {
            "etcd": (api, "127.0.0.1", 2379, "/health"),
            # not /healthz: that one is for load balancers, and says no on what is no node, as the gateway
            "kube-proxy": (gateway, plan.gateway_ip, 10256, "/livez"),
            "coredns": (gateway, plan.gateway_ip, 8181, "/ready"),
            "registry": (gateway, plan.gateway_ip, 5000, "/v2/"),
            "controller-manager": (api, "127.0.0.1", 10257, "/healthz"),
            "scheduler": (api, "127.0.0.1", 10259, "/healthz"),
        }[part]
        tls = None
        if part in ("controller-manager", "scheduler"):
            tls = ssl.create_default_context()
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        return netns.http_request(namespace, ip, port, path, timeout_s=2, tls=tls).status == 200
    except (OSError, http.client.HTTPException):
        return False


def wait_until_ready(state: LabState, parts: Sequence[str], timeout_s: float = 90) -> None:
    """Wait until all parts answer; one that has ended is an error at once, with the end of its log."""
    deadline = time.monotonic() + timeout_s
    waiting = list(parts)
    told = time.monotonic() + 5
    while True:
        waiting = [part for part in waiting if not is_ready(state.plan, part)]
        if not waiting:
            return
        for part in waiting:
            if not processes.is_alive(state.processes.get(part)):
                log = log_file(state.plan, part)
                raise LabError(f"{part} ended while starting\n{tail(log)}\n(whole log: {log})")
        if time.monotonic() > deadline:
            log = log_file(state.plan, waiting[0])
            raise LabError(
                f"no answer from {', '.join(waiting)} after {timeout_s:.0f} s\n{tail(log)}\n(whole log: {log})"
            )
        if time.monotonic() > told:
            say(f"    waiting for {', '.join(waiting)}")
            told = time.monotonic() + 5
        time.sleep(0.1)


def render_addons(plan: Plan) -> list[dict[str, Any]]:
    """Objects that a cluster has from its installer: the DNS service, and the rights of the parts of our own."""
    dns_ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    rbac = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}

    def binding(name: str, role: str, user: str) -> dict[str, Any]:
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {**rbac, "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }

    return [
        binding("lab:apiserver", "system:kubelet-api-admin", "lab:apiserver"),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "lab:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        binding("lab:coredns", "lab:coredns", "lab:coredns"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": plan.dns_service_ip, "ports": dns_ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-gateway",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [plan.gateway_ip]}],
            "ports": [{"name": p["name"], "port": p["port"], "protocol": p["protocol"]} for p in dns_ports],
        },
    ]


def render_gateway_node(plan: Plan) -> dict[str, Any]:
    """A node that is none: kube-proxy waits half a minute for the node it runs on, and the gateway runs no kubelet."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": GATEWAY},
        "spec": {"unschedulable": True, "taints": [{"key": "lab/no-node", "effect": "NoExecute"}]},
    }


def outlives_its_node(version: str) -> bool:
    """Whether a kube-proxy goes on when its node is deleted; from 1.37 on it exits (pkg/proxy/node.go).

    ``version`` is what its ``--version`` says.

    >>> outlives_its_node("Kubernetes v1.36.3"), outlives_its_node("Kubernetes v1.37.0-rc.1")
    (True, False)
    """
    major, minor = version.split()[-1].lstrip("v").split(".")[:2]
    return (int(major), int(minor)) < (1, 37)


def _start_kube_proxy(state: LabState, programs: Programs) -> bool:
    """Start kube-proxy, with a node for it to find that is there only until it has found it.

    One that would exit with the node waits out its half minute without, while the machines boot.
    """
    plan = state.plan
    if not outlives_its_node(run([str(programs.kube / "kube-proxy"), "--version"])):
        return _start(state, "kube-proxy", programs)
    request(plan, "/api/v1/nodes", method="POST", body=render_gateway_node(plan))
    address = {"status": {"addresses": [{"type": "InternalIP", "address": plan.gateway_ip}]}}
    request(
        plan,
        f"/api/v1/nodes/{GATEWAY}/status",
        method="PATCH",
        body=address,
        content_type="application/merge-patch+json",
    )
    try:
        _start(state, "kube-proxy", programs)
        wait_until_ready(state, ["kube-proxy"])
    finally:
        request(plan, f"/api/v1/nodes/{GATEWAY}", method="DELETE")
    return True


def _object_path(manifest: dict[str, Any]) -> str:
    plural = {
        "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
        "Service": "services",
        "EndpointSlice": "endpointslices",
    }
    group = manifest["apiVersion"]
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    namespace = manifest["metadata"].get("namespace")
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{where}/{plural[manifest['kind']]}/{manifest['metadata']['name']}"


def has_addons(plan: Plan) -> bool:
    """Whether the last of the add-ons is there; they are applied in order."""
    return request(plan, _object_path(render_addons(plan)[-1])).status == 200


def apply_addons(plan: Plan) -> None:
    """Server-side apply of the add-ons; the API server answers 'unchanged' by itself when they are there."""
    for manifest in render_addons(plan):
        deadline = time.monotonic() + 20
        while True:
            reply = request(
                plan,
                _object_path(manifest) + "?fieldManager=petset-lab&force=true",
                method="PATCH",
                body=manifest,
                content_type="application/apply-patch+yaml",
            )
            if reply.status in (200, 201):
                break
            # kube-system and the bootstrap roles come a moment after readiness
            if time.monotonic() > deadline:
                raise LabError(
                    f"{manifest['kind']} {manifest['metadata']['name']}: {reply.status} {reply.body[:300]!r}"
                )
            time.sleep(0.3)


def node_conditions(plan: Plan, boots: Mapping[str, str] | None = None) -> dict[str, bool]:
    """Ready or not for each node that the API knows. Raises OSError when the API does not answer.

    ``boots``: the boot ids of machines. What the API says of an earlier boot of one is old: for 40 s after its power
    went a node still stands there as Ready.
    """
    reply = request(plan, "/api/v1/nodes")
    if reply.status != 200:
        raise OSError(f"nodes: {reply.status}")
    return {
        item["metadata"]["name"]: any(
            c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", [])
        )
        and (boots or {}).get(item["metadata"]["name"]) in (None, item["status"].get("nodeInfo", {}).get("bootID"))
        for item in reply.json()["items"]
    }


def wait_until_nodes_ready(
    state: LabState, names: Sequence[str], boots: Mapping[str, str] | None = None, timeout_s: float = 120
) -> None:
    """Wait until the named nodes are Ready, in these boots of theirs, telling every five seconds which are not."""
    deadline = time.monotonic() + timeout_s
    told = time.monotonic() + 5
    while True:
        try:
            ready = node_conditions(state.plan, boots)
        except (OSError, http.client.HTTPException):
            ready = {}
        missing = [name for name in names if not ready.get(name)]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise LabError(
                f"not Ready after {timeout_s:.0f} s: {', '.join(missing)}",
                f"python3 -m lab logs {missing[0]}; python3 -m lab ssh {missing[0]} journalctl -u kubelet",
            )
        if time.monotonic() > told:
            say(f"    waiting for Ready: {', '.join(missing)}")
            told = time.monotonic() + 5
        time.sleep(0.25)
