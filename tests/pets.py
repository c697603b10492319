# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployed set for tests on real clusters: its objects by kubectl, a pet's shell and SQL."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The password comes from the pod's own Secret and stays in the pod.
MYSQL = (
    'MYSQL_PWD="$(cat /petset/secret/root-password)" exec mysql --user=root --socket=/petset/run/mysqld.sock '
    "--batch --skip-column-names --execute="
)


@dataclass(frozen=True, slots=True)
class Pets:
    """The set of a scenario."""

    namespace: str
    names: tuple[str, ...] = ("mysql-0", "mysql-1")
    kubectl_argv: tuple[str, ...] = ("kubectl",)

    def kubectl(self, *words: str) -> str:
        done = subprocess.run(
            [*self.kubectl_argv, f"--namespace={self.namespace}", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).resolve().parents[1],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def sh(self, pet: str, script: str) -> str:
        return self.kubectl("exec", pet, "--container=mysqld", "--", "sh", "-c", script).strip()

    def sql(self, pet: str, statements: str) -> str:
        assert "'" not in statements
        return self.sh(pet, f"{MYSQL}'{statements}'")

    def greeting(self, here: str, there: str) -> str:
        """The version that a pet's mysqld tells another pet, reached by its short name."""
        script = f"exec 3<>/dev/tcp/{there}.db/3306; head -c 20 <&3 | tr -cd 0-9."
        return self.kubectl("exec", here, "--container=mysqld", "--", "timeout", "10", "bash", "-c", script)

    def greetings(self, here: str) -> list[str]:
        """The versions that all pets' mysqld tell a pet which reaches them by their short names, in order."""
        script = "for pet; do exec 3<>/dev/tcp/$pet.db/3306; head -c 20 <&3 | tr -cd 0-9.; echo; done"
        words = ["timeout", "20", "bash", "-c", script, "bash", *self.names]
        return self.kubectl("exec", here, "--container=mysqld", "--", *words).split()

    def answers(self, here: str) -> list[str]:
        """The server_uuid that all pets tell a pet in SQL, asked by their short names, in order."""
        ask = (
            'export MYSQL_PWD="$(cat /petset/secret/replication-password)"; for pet; do mysql --user=petset_repl '
            "--host=$pet.db --ssl-mode=VERIFY_CA --ssl-ca=/petset/tls/ca.crt --connect-timeout=5 "
            '--batch --skip-column-names --execute="SELECT @@server_uuid"; done'
        )
        return self.kubectl("exec", here, "--container=mysqld", "--", "sh", "-c", ask, "sh", *self.names).split()

    def addresses(self, here: str, there: str) -> set[str]:
        """The addresses that a pet's short name leads to in another pet."""
        lines = self.sh(here, f"getent ahosts {there}.db").splitlines()
        return {line.split()[0] for line in lines}

    def version(self, pet: str) -> str:
        """The version of a pet's mysqld, its numbers only."""
        return self.sql(pet, "SELECT VERSION()").split("-")[0]

    def write_marker(self, pet: str, value: str) -> None:
        """A row that is this pet's alone."""
        statements = (
            "CREATE DATABASE IF NOT EXISTS marker; "
            "CREATE TABLE IF NOT EXISTS marker.pet (id INT PRIMARY KEY, name VARCHAR(99)); "
            f'REPLACE INTO marker.pet VALUES (1, "{value}")'
        )
        self.sql_here_alone(pet, statements)

    def sql_here_alone(self, pet: str, statements: str) -> None:
        """Statements that go into no binary log, so that replication does not know them."""
        read_only = self.sql(pet, "SELECT @@super_read_only, @@read_only").split()
        try:
            self.sql(pet, f"SET sql_log_bin=0; SET GLOBAL super_read_only=0; {statements}")
        finally:
            self.sql(pet, f"SET GLOBAL read_only={read_only[1]}; SET GLOBAL super_read_only={read_only[0]}")

    def read_marker(self, pet: str) -> str:
        return self.sql(pet, "SELECT name FROM marker.pet")

    def stored_passwords(self) -> dict[str, list[str]]:
        """What the pets store of each account's password, in hexadecimal; each may have its own salt."""
        found: dict[str, list[str]] = {}
        for pet in self.names:
            rows = self.sql(pet, "SELECT user, HEX(authentication_string) FROM mysql.user")
            for account, *stored in map(str.split, rows.splitlines()):
                found.setdefault(account, []).extend(stored)
        return found

    def identity(self, pet: str) -> Mapping[str, Any]:
        """What a pet keeps for ever."""
        pod = self.get("pod", pet)
        claims = [
            v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v
        ]
        claim = self.get("persistentvolumeclaim", *claims)
        volume = self.get("persistentvolume", claim["spec"]["volumeName"])
        return {
            "name": pod["metadata"]["name"],
            "ordinal": pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"],
            "claims": claims,
            "claim_uid": claim["metadata"]["uid"],
            "volume": volume["metadata"]["name"],
            "volume_uid": volume["metadata"]["uid"],
            "path": volume["spec"]["nfs"]["path"],
            "server": self.sql(pet, "SELECT @@server_uuid, @@server_id").split(),
        }

    def uid(self, pet: str) -> str:
        uid: str = self.get("pod", pet)["metadata"]["uid"]
        return uid

    def starts(self, pet: str) -> tuple[str, str]:
        """Which start of mysqld this is: its pod and its container."""
        pod = self.get("pod", pet)
        [state] = [s for s in pod["status"]["containerStatuses"] if s["name"] == "mysqld"]
        return pod["metadata"]["uid"], state.get("containerID", "")

    def wait_started(self, pet: str, old: tuple[str, str], seconds: int = 300) -> None:
        """Until mysqld of a pet was started anew."""
        deadline = time.monotonic() + seconds
        while self.starts(pet) == old:
            assert time.monotonic() < deadline, f"{pet} was not started anew within {seconds} s"
            time.sleep(1)

    def wait_there(self, old: Mapping[str, str], names: Sequence[str], seconds: int = 120) -> None:
        """Until pods of these names are there that are not the old ones."""
        deadline = time.monotonic() + seconds
        while True:
            now = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in self.get("pods")["items"]}
            if all(name in now and now[name] != old[name] for name in names):
                return
            assert time.monotonic() < deadline, f"no new {', '.join(names)} within {seconds} s: {now}"
            time.sleep(1)

    def wait_node(self, node: str, ready: bool, seconds: int = 120) -> None:
        """Until the control plane holds a node for ready, or not."""
        deadline = time.monotonic() + seconds
        while True:
            conditions = self.get("node", node)["status"]["conditions"]
            if [c["status"] == "True" for c in conditions if c["type"] == "Ready"] == [ready]:
                return
            assert time.monotonic() < deadline, f"node {node} after {seconds} s: {conditions}"
            time.sleep(1)

    def status(self) -> str:
        """What the collection says about the set, as Ansible prints it."""
        words = ["ansible", "localhost", "-m", "stateful.petset.pet_set_info", "-a"]
        done = subprocess.run(
            [*words, f"set=mysql namespace={self.namespace} probe=false"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_ready(self, pet: str) -> bool:
        return any(c["type"] == "Ready" and c["status"] == "True" for c in self.get("pod", pet)["status"]["conditions"])

    def wait_ready(self, seconds: int = 300) -> None:
        """Until the set has all its pets, ready. A deleted pod is not there at once, so its name is no sure thing."""
        self.kubectl("rollout", "status", "statefulset/mysql", f"--timeout={seconds}s")
        self.kubectl("wait", "pod", *self.names, "--for=condition=Ready", f"--timeout={seconds}s")
