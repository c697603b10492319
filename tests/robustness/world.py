# SPDX-License-Identifier: GPL-3.0-or-later
"""The set on the lab, as the harness reaches it: kubectl, machines, playbooks, clients. Thin; it decides nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from lab import controlplane, ssh, state
from tools.common import ROOT, VENV, environment
from tools.stages import INSTALLED

DATABASE = "faults"
# Where the API has what the harness looks at.
PLACES = {
    "pod": "/api/v1/namespaces/{namespace}/pods",
    "service": "/api/v1/namespaces/{namespace}/services",
    "secret": "/api/v1/namespaces/{namespace}/secrets",
    "deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "lease": "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "pv": "/api/v1/persistentvolumes",
}


class CommandFailed(Exception):
    """A command of the harness's own ended badly; the text has its words."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    rc: int
    out: str
    err: str


def call(argv: Sequence[str], *, text: str | None = None, limit_s: float = 300, ok: bool = True, **env: str) -> Done:
    """Run to the end. Raises CommandFailed when it fails and ``ok`` is set."""
    try:
        done = subprocess.run(
            argv,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            cwd=ROOT,
            env=environment(**env),
        )
    except subprocess.TimeoutExpired as error:
        if ok:
            raise CommandFailed(f"{' '.join(argv[:8])}: not done in {limit_s:.0f} s") from error
        return Done(124, "", f"not done in {limit_s:.0f} s")
    if ok and done.returncode != 0:
        raise CommandFailed(
            f"{' '.join(argv[:8])}: exit status {done.returncode}\n{done.stdout[-800:]}\n{done.stderr[-800:]}"
        )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Place:
    """Names of what is tested."""

    namespace: str = "faults"
    set_name: str = "mysql"
    service: str = "db"
    proxy_service: str = "mysql-proxy"
    lab: str = "lab"
    replicas: int = 2
    nfs_root: str = "/srv/petset"

    @property
    def pets(self) -> tuple[str, ...]:
        """By ordinal."""
        return tuple(f"{self.set_name}-{ordinal}" for ordinal in range(self.replicas))

    def folder(self, pet: str) -> str:
        """The pet's folder on the NFS server, as roles/petset has it by default."""
        return f"{self.nfs_root}/{self.namespace}/{self.set_name}/{pet.rsplit('-', 1)[1]}"

    def host(self, pet: str) -> str:
        """The pet's name in the cluster's DNS."""
        return f"{pet}.{self.service}.{self.namespace}.svc.cluster.local"

    def variables(self) -> dict[str, Any]:
        """For the playbooks."""
        return {
            "petset_namespace": self.namespace,
            "petset_create_namespace": True,
            "petset_set": self.set_name,
            "petset_service": self.service,
            "petset_replicas": self.replicas,
            "petset_image": "registry.lab:5000/mysql:9.7",
            # the lab's nodes are small and may carry other sets: little is asked for, more is allowed
            "pet_set_resources": {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "1Gi"}},
            "petset_wait_timeout": 240,
            "petset_proxy_image": "registry.lab:5000/haproxy:3.2",
            "petset_agent_image": "registry.lab:5000/python:3",
            "petset_app": {"user": DATABASE, "database": DATABASE},
        }


class World:
    """One set on one lab."""

    def __init__(self, place: Place, log: Path) -> None:
        self.place = place
        self.log = log
        self._password = ""

    def say(self, text: str) -> None:
        """To the log of this session of runs."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    # -- commands ----------------------------------------------------------------------------------------------------

    def lab(self, command: str, *words: str, ok: bool = True, limit_s: float = 300, text: str | None = None) -> Done:
        """A command of the lab's own command line."""
        self.say(f"lab {command} {' '.join(words)}"[:300])
        argv = [sys.executable, "-m", "lab", command, "--name", self.place.lab, *words]
        return call(argv, ok=ok, limit_s=limit_s, text=text)

    def kubectl(self, *words: str, ok: bool = True, limit_s: float = 60, text: str | None = None) -> Done:
        """kubectl in the set's namespace, with a limit on each request."""
        return self.lab(
            "kubectl",
            "--",
            "-n",
            self.place.namespace,
            "--request-timeout=10s",
            *words,
            ok=ok,
            limit_s=limit_s,
            text=text,
        )

    def get(self, kind: str, name: str = "") -> dict[str, Any] | None:
        """An object of the set's namespace, or all volumes; None if there is none, or no answer.

        Asked without kubectl: a process for each look takes the machines' time from what is tested.
        """
        place = PLACES[kind].format(namespace=self.place.namespace)
        try:
            reply = controlplane.request(state.need(self.place.lab).plan, f"{place}/{name}".rstrip("/"), timeout_s=10)
        except (OSError, HTTPException):
            return None
        if reply.status != 200:
            return None
        data: dict[str, Any] = reply.json()
        return data

    def ssh(self, machine: str, script: str, *, ok: bool = True, limit_s: float = 60) -> Done:
        """A shell script on a machine, by the way that no fault touches."""
        plan = state.need(self.place.lab).plan
        self.say(f"ssh {machine}: {' '.join(script.split())[:300]}")
        return call(ssh.argv(plan, plan.machine(machine), [f"sh -euc {_quoted(script)}"]), ok=ok, limit_s=limit_s)

    def play(self, name: str, *, ok: bool = True, limit_s: float = 900, check: bool = False) -> Done:
        """A playbook of the built collection on the set."""
        begin = time.monotonic()
        self.say(f"playbook {name}")
        done = self.lab("run", "--", *self.play_argv(name, check=check), ok=ok, limit_s=limit_s, text=None)
        self.say(f"playbook {name}: exit status {done.rc} after {time.monotonic() - begin:.1f} s")
        if done.rc != 0:
            self.say(done.out[-4000:])
        return done

    def play_argv(self, name: str, *, check: bool = False) -> list[str]:
        """The words of a playbook's run, its environment with them (``lab run`` passes its own on)."""
        return [
            "env",
            f"ANSIBLE_COLLECTIONS_PATH={INSTALLED}",
            str(VENV / "bin" / "ansible-playbook"),
            f"stateful.petset.{name}",
            "-e",
            json.dumps(self.place.variables()),
            *(["--check"] if check else []),
        ]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that runs on in the lab's network."""
        return subprocess.Popen(
            [sys.executable, "-m", "lab", "run", "--name", self.place.lab, "--", *words],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # -- the set -----------------------------------------------------------------------------------------------------

    def pod(self, name: str) -> dict[str, Any] | None:
        """A pod, or None."""
        return self.get("pod", name)

    def nodes(self) -> list[str]:
        """The machines that are Kubernetes nodes."""
        return [one.name for one in state.need(self.place.lab).plan.machines if one.kind == "node"]

    def node_of(self, pet: str) -> str:
        """The node that a pet is on. Raises CommandFailed if it is on none."""
        node = ((self.pod(pet) or {}).get("spec") or {}).get("nodeName")
        if not node:
            raise CommandFailed(f"{pet} is on no node")
        return str(node)

    def is_ready(self, pet: str) -> bool:
        """Whether the pod is there, not leaving, and Ready."""
        pod = self.pod(pet)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return False
        return any(
            c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or []
        )

    def are_proxies_ready(self) -> bool:
        """As many as there have to be."""
        live = self.get("deployment", f"{self.place.set_name}-haproxy") or {}
        return bool(live) and (live.get("status") or {}).get("readyReplicas") == live["spec"]["replicas"]

    def crowded(self) -> list[str]:
        """A proxy if all are on one node, and a pet that does not write if all pets are."""
        lease = self.get("lease", self.place.set_name) or {}
        return pick_crowded(
            (self.get("pod") or {}).get("items") or [], str((lease.get("spec") or {}).get("holderIdentity") or "")
        )

    def is_in_sync(self) -> bool:
        """Whether every pet holds all acknowledged writes by the Lease, so that any of them may take over."""
        lease = self.get("lease", self.place.set_name)
        named = ((lease or {}).get("metadata", {}).get("annotations") or {}).get("stateful.petset/in-sync", "")
        return set(named.split(",")) == set(self.place.pets)

    def renewed_at(self) -> str:
        """When the writer has renewed the Lease; empty without one."""
        lease = self.get("lease", self.place.set_name) or {}
        return str((lease.get("spec") or {}).get("renewTime") or "")

    def mysqld_pid(self, pet: str, pod_uid: str, node: str) -> str:
        """The pid of the pet's mysqld as the node sees it; empty if it does not run."""
        marks = f"{pod_uid}|{pod_uid.replace('-', '_')}"
        script = f"for pid in $(pgrep -x mysqld); do grep -Eq '{marks}' /proc/$pid/cgroup && echo $pid; done; true"
        return (self.ssh(node, script, ok=False).out.split() or [""])[0]

    def sql(self, pet: str, statements: str, *, ok: bool = True) -> str:
        """Statements as root from within the pet; the password never leaves it."""
        script = 'MYSQL_PWD="$(cat /petset/secret/root-password)" exec mysql -N -uroot -S /petset/run/mysqld.sock'
        return self.kubectl("exec", "-i", pet, "-c", "mysqld", "--", "sh", "-c", script, text=statements, ok=ok).out

    def proxy_address(self) -> str:
        """The address of the service that clients use."""
        service = self.get("service", self.place.proxy_service)
        if service is None:
            raise CommandFailed(f"no service {self.place.proxy_service} in {self.place.namespace}")
        return str(service["spec"]["clusterIP"])

    def settings(self, number: int, clients: int, registers: int) -> dict[str, Any]:
        """What the clients of one run need; ``number`` keeps the runs' rows apart."""
        if not self._password:
            secret = self.get("secret", f"{self.place.set_name}-secret")
            if secret is None:
                raise CommandFailed("the set's Secret is not there")
            self._password = base64.b64decode(secret["data"]["app-password"]).decode()
        return {
            "proxy": self.proxy_address(),
            "port": 3306,
            "user": DATABASE,
            "password": self._password,
            "database": DATABASE,
            "clients": [number * 100 + one for one in range(clients)],
            "registers": [number * 100 + one for one in range(registers)],
            "pets": {pet: self.place.host(pet) for pet in self.place.pets},
        }

    def client_argv(self, command: str) -> list[str]:
        """The words that start a part of the harness in the lab's network."""
        return [str(VENV / "bin" / "python"), "-m", "tests.robustness.client", command]

    def client(self, command: str, settings: dict[str, Any], limit_s: float = 300) -> Done:
        """Run a part of the harness in the lab's network to its end."""
        return self.lab("run", "--", *self.client_argv(command), text=json.dumps(settings) + "\n", limit_s=limit_s)

    def rebuild(self) -> None:
        """A new set in the place of one that was damaged on purpose, with nothing of its data."""
        self.heal_everything()
        namespace, labels = self.place.namespace, f"stateful.petset/namespace={self.place.namespace}"
        self.kubectl("delete", "namespace", namespace, "--timeout=180s", limit_s=200)
        self.kubectl("delete", "pv", "-l", labels, "--timeout=60s", limit_s=90)
        self.ssh("nfs", f"rm -rf {self.place.nfs_root}/{namespace}/{self.place.set_name}")
        self._password = ""
        self.play("site")

    def heal_everything(self) -> None:
        """Nothing of any fault stays: cuts, slowness, ballast, clocks, stopped parts, machines that are off."""
        plan = state.need(self.place.lab).plan
        for step in (
            ("heal",),
            ("up",),
            *((("slow", m.name, "--off")) for m in plan.machines),
            *((("clock", m.name, "0")) for m in plan.machines),
            ("disk-free", "nfs", "/srv"),
        ):
            self.lab(*step, ok=False, limit_s=600)
        self.ssh("nfs", "systemctl is-active -q nfs-server || systemctl start nfs-server", ok=False)
        for node in self.nodes():
            self.kubectl("uncordon", node, ok=False)
            self.kubectl("taint", "node", node, "node.kubernetes.io/out-of-service-", ok=False)
            self.ssh(node, "pkill -CONT -x mysqld || true", ok=False)


def pick_crowded(pods: Sequence[dict[str, Any]], writer: str) -> list[str]:
    """The pod to be moved of each kind whose pods are all on one node: the last one that is not the writer."""
    found = []
    for kind in ("proxy", "pet"):
        own = [one for one in pods if one["metadata"]["labels"].get("app.kubernetes.io/component") == kind]
        if len(own) > 1 and len({one["spec"].get("nodeName") for one in own}) == 1:
            found.append(max(one["metadata"]["name"] for one in own if one["metadata"]["name"] != writer))
    return found


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"
