# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Kubernetes node reads from its shared folder: kubelet's configuration, its credentials, the pod network."""

from __future__ import annotations

import json
import shutil
from typing import Any

from lab import pki
from lab.config import DOMAIN, MachineSpec, Plan
from lab.state import folder, write_atomically


def render_kubelet_config(plan: Plan) -> dict[str, Any]:
    """KubeletConfiguration: as on a hardened cluster, no anonymous request and every request authorised by the API."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": "/lab/node/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/lab/node/kubelet.crt",
        "tlsPrivateKeyFile": "/lab/node/kubelet.key",
        "readOnlyPort": 0,
        "clusterDNS": [plan.dns_service_ip],
        "clusterDomain": DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "systemd",
        # no cpuset controller on user-mode-linux: kubelet would log a failure every minute and change nothing
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "serializeImagePulls": False,
        "maxPods": 60,
        "nodeStatusUpdateFrequency": "4s",
        # renewed every quarter; the controller manager's grace period (20 s) has to be longer than two of them
        "nodeLeaseDurationSeconds": 20,
        "shutdownGracePeriod": "0s",
        "imageGCHighThresholdPercent": 95,
        "imageGCLowThresholdPercent": 90,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "logging": {"format": "text"},
    }


def render_cni(machine: MachineSpec) -> dict[str, Any]:
    """The pod network on one node: a bridge and addresses of the node's own range. NAT is the gateway's (README)."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": machine.pod_cidr}]]},
            }
        ],
    }


def prepare(plan: Plan, machine: MachineSpec) -> None:
    """Write the node's part of the shared folder."""
    share = folder(plan.config.name) / "machines" / machine.name / "share" / "node"
    base = pki.pki_folder(plan)
    write_atomically(share / "kubelet.yaml", json.dumps(render_kubelet_config(plan), indent=1))
    write_atomically(share / "cni" / "10-pods.conflist", json.dumps(render_cni(machine), indent=1))
    write_atomically(share / "env", f"NODE_NAME={machine.name}\nNODE_IP={machine.ip}\n")
    shutil.copy(base / "ca.crt", share / "ca.crt")
    for ending in ("crt", "key"):
        shutil.copy(base / f"kubelet-{machine.name}.{ending}", share / f"kubelet.{ending}")
    pki.write_kubeconfig(plan, f"kubelet-{machine.name}", share / "kubeconfig")
