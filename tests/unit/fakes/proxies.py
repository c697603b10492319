# SPDX-License-Identifier: GPL-3.0-or-later
"""What Kubernetes does around the proxies, on the API server in memory: the controller, the kubelet, and HAProxy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import read_hash
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster

Json = Any
STATS = "# pxname,svname,scur,status,check_status,check_code,last_chk,lastchg,addr,\n"


class Proxies:
    """Makes pods for every Deployment, brings them the ConfigMap's file, and answers what is run in them.

    ``refuses``  a text in a configuration that this HAProxy does not take
    ``late``     looks until a touched pod has the new file; ``broken`` images never become ready
    ``silent``   pods in which nothing can be run; ``deaf`` ones go on with what they have
    """

    def __init__(self, cluster: FakeCluster, *, broken: frozenset[str] = frozenset()) -> None:
        self.cluster = cluster
        self.broken = broken
        self.refuses = "\0"
        self.late = 1
        self.silent: set[str] = set()
        self.deaf: set[str] = set()
        self.writers: dict[str, str] = {}
        self.live: dict[str, str] = {}
        self.mounted: dict[str, str] = {}
        self.ran: list[tuple[str, str]] = []
        self._waits: dict[str, int] = {}
        self._pods = 0

    def __call__(self) -> None:
        for live in self.cluster.all(kinds.DEPLOYMENT):
            self._reconcile(live)

    def text(self, namespace: str = "default") -> str:
        live = self.cluster.live(kinds.CONFIG_MAP, "mysql-haproxy", namespace)
        assert live is not None
        return str(live["data"]["haproxy.cfg"])

    def pods(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.cluster.all(kinds.POD)]

    def _reconcile(self, live: Json) -> None:
        meta, spec = live["metadata"], live["spec"]
        text = json.dumps(spec["template"], sort_keys=True)
        revision = hashlib.sha256(text.encode()).hexdigest()[:10]
        image = spec["template"]["spec"]["containers"][0]["image"]
        pods = self.cluster.all(kinds.POD)
        new = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-hash"] == revision]
        old = [pod for pod in pods if pod not in new]
        while len(new) < spec["replicas"]:
            new.append(self.cluster.add(self._make(live, revision, image)))
        works = image not in self.broken
        for pod in [*(old if works else []), *new[spec["replicas"] :]]:
            self.cluster.remove(kinds.POD, pod["metadata"]["name"], meta["namespace"])
        live["status"] = {
            "observedGeneration": meta["generation"],
            "replicas": len(self.cluster.all(kinds.POD)),
            "updatedReplicas": spec["replicas"],
            "availableReplicas": spec["replicas"] if works or old else 0,
        }

    def _make(self, live: Json, revision: str, image: str) -> dict[str, Any]:
        meta, template = live["metadata"], live["spec"]["template"]
        self._pods += 1
        name = f"{meta['name']}-{revision}-{self._pods}"
        works = image not in self.broken
        self.live[name] = self.mounted[name] = read_hash(self.text(meta["namespace"]))
        container: dict[str, Any] = {"name": "haproxy", "ready": works, "restartCount": 0}
        container["state"] = {"running": {"startedAt": "2026-11-25T00:00:00Z"}}
        if not works:
            container["state"] = {"waiting": {"reason": "ErrImagePull", "message": f"no such image {image}"}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": {**template["metadata"]["labels"], "pod-template-hash": revision},
            },
            "spec": {"nodeName": f"node-{self._pods % 2}"},
            "status": {
                "phase": "Running",
                "podIP": f"10.1.0.{self._pods}",
                "conditions": [{"type": "Ready", "status": str(works)}],
                "containerStatuses": [container],
            },
        }

    def run_in_pod(self, _client: object, namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
        """In the place of the collection's function of that name."""
        assert container == "haproxy"
        what = command[3].removeprefix("petset-")
        self.ran.append((what, pod))
        if pod in self.silent or self.cluster.live(kinds.POD, pod, namespace) is None:
            raise RuntimeError(f"Handshake status 404 Not Found: pod {pod}")
        if what == "try":
            return self._judge(command[4]) or "taken\n"
        if what == "look":
            return f"mounted {self.mounted[pod]}\nlive {self.live[pod]}\n{self._stats(pod)}"
        return self._load(namespace, pod, re.findall(r"^wanted=(\w+)$", command[2], re.MULTILINE)[0])

    def _load(self, namespace: str, pod: str, wanted: str) -> str:
        live = self.cluster.live(kinds.POD, pod, namespace)
        assert live is not None
        if "stateful.petset/config-hash" in live["metadata"].get("annotations", {}):
            self._waits[pod] = self._waits.get(pod, 0) + 1
            if self._waits[pod] > self.late:
                self.mounted[pod] = read_hash(self.text(namespace))
        if self.mounted[pod] != wanted:
            return f"mounted {self.mounted[pod]}\n"
        if self.live[pod] == wanted:
            return "live\n"
        if refused := self._judge(self.text(namespace)):
            return refused
        if pod in self.deaf:
            return f"still {self.live[pod]}\n"
        self.live[pod] = wanted
        self._waits.clear()
        return "loaded\n"

    def _judge(self, text: str) -> str:
        return "refused\n[NOTICE] x\n[ALERT]    (7) : config : no good.\n" if self.refuses in text else ""

    def _stats(self, pod: str) -> str:
        writer = self.writers.get(pod, "mysql-0")
        rows = [
            f"{backend},{pet},1,{'UP' if backend == 'reader' or pet == writer else 'DOWN'},"
            "L7OK,200,OK,9,10.0.0.1:3306,\n"
            for backend in ("writer", "reader")
            for pet in ("mysql-0", "mysql-1")
        ]
        return STATS + "writer_clients,FRONTEND,0,OPEN,,,,,,\n" + "".join(rows) + "writer,BACKEND,0,UP,,,,,,\n"
