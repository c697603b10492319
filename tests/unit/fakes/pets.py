# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes does around a pet set, on the API server in memory: the controller, the scheduler and the kubelet."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import ClientService, PetSetSpec
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster

Json = Any
BOOT_FILES = {
    name: f"# {name}\n"
    for name in ("lib.sh", "settings.sh", "prepare.sh", "start.sh", "stop.sh", "fence.sh", "probe.sh", "petset.cnf.in")
}
AGENT_FILES = {f"petset_agent/{name}.py": f"# {name}\n" for name in ("__init__", "__main__", "decide", "model")}
SPEC = PetSetSpec(
    name="mysql",
    namespace="default",
    replicas=2,
    image="mysql:8.4",
    boot_files=BOOT_FILES,
    client_service=ClientService("mysql"),
    resources={"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    user_config="[mysqld]\n",
)


def spec_with(**changes: Any) -> PetSetSpec:
    return replace(SPEC, **changes)


def claim_of(name: str, namespace: str = "default", phase: str = "Bound", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "uid": f"claim-{name}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": f"{namespace}-{name}",
            "resources": {"requests": {"storage": "10Gi"}},
            **spec,
        },
        "status": {"phase": phase},
    }


def volume_of(claim: Mapping[str, Any], server: str = "192.0.2.10") -> dict[str, Any]:
    name, meta = claim["spec"]["volumeName"], claim["metadata"]
    ref = {key: meta[key] for key in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "nfs": {"server": server, "path": f"/srv/{name}"},
            "capacity": {"storage": "10Gi"},
            "claimRef": ref,
        },
        "status": {"phase": "Bound"},
    }


def server_uuid(ordinal: int) -> str:
    return f"00000000-0000-4000-8000-{ordinal:012d}"


class Controller:
    """Makes pods for every set and keeps its status. ``broken`` images never become ready; ``order`` is by ordinal.

    ``stuck_on_broken``: like the real one with a pod that never became ready, it does not replace it.
    """

    def __init__(self, cluster: FakeCluster, *, broken: frozenset[str] = frozenset()) -> None:
        self.cluster = cluster
        self.broken = broken
        self.replace_pods = True
        self.paused = False
        self.unready: set[str] = set()
        self._pods = 0

    def __call__(self) -> None:
        if self.paused:
            return
        for live in self.cluster.all(kinds.STATEFUL_SET):
            self._reconcile(live)

    def _reconcile(self, live: Json) -> None:
        meta, spec = live["metadata"], live["spec"]
        revision = self.revision_of(live)
        ready = 0
        for ordinal in range(spec["replicas"]):
            name = f"{meta['name']}-{ordinal}"
            pod = self.cluster.live(kinds.POD, name, meta["namespace"])
            if pod is not None and self.replace_pods and self._is_replaced(pod, ordinal, spec, revision):
                self.cluster.remove(kinds.POD, name, meta["namespace"])
                pod = None
            if pod is None:
                pod = self.cluster.add(self._make(live, name, ordinal, revision))
            ready += pod["status"]["conditions"][0]["status"] == "True"
        live["status"] = {
            "observedGeneration": meta["generation"],
            "replicas": spec["replicas"],
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updateRevision": revision,
            "currentRevision": revision,
        }

    def _is_replaced(self, pod: Json, ordinal: int, spec: Json, revision: str) -> bool:
        update = spec["updateStrategy"]
        if update["type"] != "RollingUpdate" or ordinal < (update.get("rollingUpdate") or {}).get("partition", 0):
            return False
        is_old = pod["metadata"]["labels"]["controller-revision-hash"] != revision
        return is_old and pod["status"]["conditions"][0]["status"] == "True"

    @staticmethod
    def revision_of(live: Json) -> str:
        text = json.dumps(live["spec"]["template"], sort_keys=True)
        return f"{live['metadata']['name']}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def _make(self, live: Json, name: str, ordinal: int, revision: str) -> dict[str, Any]:
        meta, template = live["metadata"], live["spec"]["template"]
        image = template["spec"]["containers"][0]["image"]
        is_ready = image not in self.broken and name not in self.unready
        self._pods += 1
        container: dict[str, Any] = {"name": "mysqld", "ready": is_ready, "restartCount": 0}
        container["state"] = {"running": {"startedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}
        if image in self.broken:
            container["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": f"Back-off pulling {image}"}}
        told = f"petset: prepared: ordinal={ordinal} server_uuid={server_uuid(ordinal)} generation=1 data=fresh"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "uid": f"pod-{name}-{self._pods}",
                "labels": {
                    **template["metadata"]["labels"],
                    "controller-revision-hash": revision,
                    "apps.kubernetes.io/pod-index": str(ordinal),
                },
                "ownerReferences": [
                    {"kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"], "controller": True}
                ],
            },
            "spec": {
                "nodeName": f"node-{ordinal % 2}",
                "volumes": [
                    {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}}
                    for one in live["spec"].get("volumeClaimTemplates") or ()
                    for claim in [one["metadata"]["name"]]
                ],
            },
            "status": {
                "phase": "Running" if is_ready else "Pending",
                "podIP": f"10.0.0.{ordinal + 1}",
                "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
                "initContainerStatuses": []
                if image in self.broken
                else [
                    {
                        "name": "prepare",
                        "ready": True,
                        "restartCount": 0,
                        "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": told}},
                    }
                ],
                "containerStatuses": [container],
            },
        }


def node_of(name: str, ready: str = "True") -> dict[str, Any]:
    """A node as far as it is looked at; ``ready`` is True, False or Unknown."""
    conditions = [{"type": "Ready", "status": ready}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": conditions}}


def put_on_one_node(cluster: FakeCluster) -> None:
    """Every pod on node-1, and node-0 free, as after node-0 was away for longer than Kubernetes waits."""
    for name in ("node-0", "node-1"):
        cluster.add(node_of(name))
    for pod in cluster.all(kinds.POD):
        pod["spec"]["nodeName"] = "node-1"


def cluster_with_claims(count: int = 2, namespace: str = "default", set_name: str = "mysql") -> FakeCluster:
    cluster = FakeCluster(namespaces=(namespace,))
    for ordinal in range(count):
        claim = claim_of(f"db-{set_name}-{ordinal}", namespace)
        cluster.add(claim)
        cluster.add(volume_of(claim))
    return cluster
