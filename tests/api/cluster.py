# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd, kube-apiserver and kube-controller-manager on loopback, without machines: the API's own semantics.

Everything lives in one folder and in free ports; several may run at the same time. The programs come from the lab's
cache (built on the first use, some minutes). ``PETSET_API_KUBERNETES`` chooses the release; empty is the lab's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.debian import ensure_tools_tree
from lab.gobuild import ensure_api_programs

ADMIN_TOKEN = "token-of-the-administrator"
"""Member of system:masters."""
PLAIN_TOKEN = "token-of-somebody-without-rights"
"""User ``plain``; a test gives it the rights that it wants to have tried."""
START_LIMIT_S = 90.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has; all are held until the last is found."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]


class Cluster:
    """The three programs. ``stop_api`` and ``start_api`` take the API away and bring it back with its data."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.version = version
        self._kube = ensure_api_programs(version)
        self._etcd = ensure_tools_tree() / "usr/bin/etcd"
        self._ports = dict(zip(("client", "peer", "api", "manager"), free_ports(4), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.host = f"https://127.0.0.1:{self._ports['api']}"
        self.ca = folder / "ca.crt"
        self.audit_log = folder / "audit.log"
        folder.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        self._write_files()

    def kubeconfig(self, token: str = ADMIN_TOKEN, name: str = "admin") -> Path:
        """A kubeconfig for one of the tokens."""
        path = self.folder / f"{name}.kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.host, "certificate-authority": "ca.crt"}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}}],
            "current-context": name,
        }
        path.write_text(json.dumps(document))
        return path

    def start(self) -> None:
        """All three, until the API and the controllers answer."""
        self._start("etcd", self._etcd_command())
        self.start_api()
        self._start("kube-controller-manager", self._manager_command())
        self._wait("kube-controller-manager", self._controllers_work)

    def start_api(self) -> None:
        """The API server, until it is ready."""
        self._start("kube-apiserver", self._api_command())
        self._wait("kube-apiserver", lambda: self.request("GET", "/readyz") == "ok")

    def stop_api(self) -> None:
        """Kill the API server as a crash would."""
        process = self._running.pop("kube-apiserver")
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End whatever runs. Nothing is worth a graceful end: the folder is thrown away."""
        for process in reversed(self._running.values()):
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """A plain request as the administrator, past all code of the collection. Raises HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": content_type}
        sent = urllib.request.Request(self.host + path, data, headers, method=method)
        context = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(sent, timeout=10, context=context) as response:
            text = response.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def audited_writes(self, since: int = 0) -> list[str]:
        """Of ``audited_requests`` those that are writes."""
        return [one for one in self.audited_requests(since) if not one.startswith(("get ", "list ", "watch "))]

    def audited_requests(self, since: int = 0) -> list[str]:
        """Requests by the users of the tests that the API server itself has recorded, as ``verb resource name``.

        ``since`` is what ``audit_position`` gave. Dry runs are marked.
        """
        found = []
        with self.audit_log.open("rb") as log:
            log.seek(since)
            # What stands after the last line end is being written.
            whole = log.read().rpartition(b"\n")[0]
        for line in whole.splitlines():
            event = json.loads(line)
            agent = str(event.get("userAgent", ""))
            if agent.startswith("stateful.petset"):
                dry = " (dry run)" if "dryRun=All" in event["requestURI"] else ""
                ref = event.get("objectRef", {})
                found.append(f"{event['verb']} {ref.get('resource')} {ref.get('name', '')}{dry}".strip())
        return found

    def audit_position(self) -> int:
        """Where the last line of the audit log ends now, in bytes."""
        with self.audit_log.open("rb") as log:
            # A line of metadata is far shorter.
            begin = max(0, log.seek(0, os.SEEK_END) - 65536)
            log.seek(begin)
            return begin + len(b"".join(log.read().rpartition(b"\n")[:2]))

    def _controllers_work(self) -> bool:
        # Every namespace gets its default service account from a controller.
        with contextlib.suppress(urllib.error.HTTPError):
            return bool(self.request("GET", "/api/v1/namespaces/default/serviceaccounts/default"))
        return False

    def _start(self, name: str, command: list[str]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        environment: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        self._running[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
        )
        log.close()

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START_LIMIT_S
        while True:
            with contextlib.suppress(OSError):
                if ready():
                    return
            dead = [one for one, process in self._running.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                tail = (self.folder / f"{(dead or [name])[0]}.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{(dead or [name])[0]} {'ended' if dead else 'is not ready'}:\n{tail}")
            time.sleep(0.2)

    def _etcd_command(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("client", "peer"))
        return [
            str(self._etcd),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def _api_command(self) -> list[str]:
        f = self.folder
        return [
            str(self._kube / "kube-apiserver"),
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports['api']}",
            f"--etcd-servers=http://127.0.0.1:{self._ports['client']}",
            f"--etcd-prefix=/{self.version}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={f / 'tokens.csv'}",
            f"--tls-cert-file={f / 'api.crt'}",
            f"--tls-private-key-file={f / 'api.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={f / 'sa.pub'}",
            f"--service-account-signing-key-file={f / 'sa.key'}",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={f / 'audit.json'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking-strict",
        ]

    def _manager_command(self) -> list[str]:
        f = self.folder
        return [
            str(self._kube / "kube-controller-manager"),
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports['manager']}",
            f"--kubeconfig={f / 'manager.kubeconfig'}",
            f"--service-account-private-key-file={f / 'sa.key'}",
            f"--root-ca-file={self.ca}",
            "--leader-elect=false",
            "--allocate-node-cidrs=false",
            "--pvclaimbinder-sync-period=1s",
        ]

    def _write_files(self) -> None:
        tokens = (
            f'{ADMIN_TOKEN},admin,1,"system:masters"\n{PLAIN_TOKEN},plain,2\nmanager-token,manager,3,"system:masters"\n'
        )
        (self.folder / "tokens.csv").write_text(tokens)
        self.kubeconfig("manager-token", "manager")
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                {"level": "Metadata", "users": ["admin", "plain"]},
                {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
                {"level": "None"},
            ],
        }
        (self.folder / "audit.json").write_text(json.dumps(policy))
        self.audit_log.touch()

    def _make_certificates(self) -> None:
        f = self.folder
        (f / "ca.cnf").write_text(
            "[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n[dn]\nCN=test-ca\n"
            "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
        )
        (f / "api.cnf").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
            "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n"
        )
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for command in (
            ["req", "-x509", *new_key, "-days", "30", "-config", "ca.cnf", "-keyout", "ca.key", "-out", "ca.crt"],
            ["req", *new_key, "-subj", "/CN=kube-apiserver", "-keyout", "api.key", "-out", "api.csr"],
            ["x509", "-req", "-in", "api.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
             "-extfile", "api.cnf", "-out", "api.crt"],
            ["genrsa", "-out", "sa.key", "2048"],
            ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
        ):  # fmt: skip
            subprocess.run(["openssl", *command], cwd=f, check=True, capture_output=True)


@contextlib.contextmanager
def running_cluster(folder: Path, version: str) -> Iterator[Cluster]:
    """A cluster for as long as the context lasts."""
    cluster = Cluster(folder, version)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
