# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mysqlds with agents beside them on loopback, in a ring, without pods: the lab's MySQL, the pets' option file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pymysql
from ansible_collections.stateful.petset.plugins.module_utils._core.agent import render_zip
from ansible_collections.stateful.petset.plugins.module_utils._io.agent import read_pymysql

from tests.api.cluster import ADMIN_TOKEN, Cluster, free_ports
from tests.api.mysqlds import mysql_tree, option_file
from tests.patience import patient

ROLE = Path(__file__).resolve().parents[2] / "roles" / "pet_set" / "files"
PASSWORD = "p'ä \\ss"
PREFIX = "stateful.petset"


def agent_grants() -> str:
    """What the pets' start-up program grants to the agent, from its own text."""
    text = (ROLE / "boot" / "prepare.sh").read_text()
    found = re.findall(r"^GRANT [^;]*?'petset_agent'@'localhost';", text, re.MULTILINE)
    return "\n".join(one for one in found if "petset_admin" not in one)


def zip_of_agent(target: Path) -> Path:
    """The zip that a ConfigMap would hold."""
    files = {f"petset_agent/{path.name}": path.read_text() for path in (ROLE / "agent" / "petset_agent").glob("*.py")}
    target.write_bytes(render_zip(files, read_pymysql() or {}))
    return target


def open_session(path: Path, user: str, password: str = "", **options: Any) -> pymysql.Connection[Any]:
    """A connection over a socket. PyMySQL leaks that of a refused connection, so somebody else is refused first."""
    with socket.socket(socket.AF_UNIX) as first:
        first.settimeout(2)
        first.connect(str(path))
    return pymysql.connect(
        unix_socket=str(path), user=user, password=password.encode(), autocommit=True, **{"read_timeout": 10, **options}
    )


class Pet:
    """One mysqld and its agent."""

    def __init__(self, rig: Rig, ordinal: int) -> None:
        self.rig, self.ordinal, self.name = rig, ordinal, f"mysql-{ordinal}"
        self.folder = rig.folder / self.name
        self.port, self.agent_port = free_ports(2)
        self.mysqld: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None

    def start_mysqld(self) -> None:
        log, fence = self.folder / "log", self.folder / "fence"
        self.mysqld = self.rig.spawn(self.rig.mysqld(f"--defaults-file={self.folder / 'my.cnf'}"), log)
        fence.unlink(missing_ok=True)
        os.mkfifo(fence)
        self.rig.spawn(["bash", str(ROLE / "boot" / "fence.sh"), str(fence), str(self.mysqld.pid)], log)

    def restart_mysqld(self) -> None:
        """After a kill, as start.sh does it: the agent says when."""
        assert self.mysqld is not None
        self.mysqld.wait()
        starting, token = self.folder / "starting", f"start-{time.monotonic_ns()}"
        starting.write_text(token)
        self.rig.wait(lambda: self.ask(f"/start?{token}")[0] == 200, 30, f"the agent of {self.name} lets it start")
        starting.unlink()
        (self.folder / ".petset-guarded").unlink(missing_ok=True)
        self.start_mysqld()

    def start_agent(self) -> None:
        peers = ",".join(f"{one.name}=http://127.0.0.1:{one.agent_port}" for one in self.rig.pets if one is not self)
        environment = {
            "PATH": os.environ["PATH"],
            "PETSET_SET": "mysql",
            "PETSET_POD": self.name,
            "PETSET_SERVICE": "db",
            "PETSET_NAMESPACE": self.rig.namespace,
            "PETSET_AGENT_API": self.rig.api.host,
            "PETSET_AGENT_CA_FILE": str(self.rig.api.ca),
            "PETSET_AGENT_TOKEN_FILE": str(self.rig.folder / "token"),
            "PETSET_AGENT_SOCKET": str(self.folder / "mysqld.sock"),
            "PETSET_AGENT_PASSWORD_FILE": str(self.rig.folder / "agent-password"),
            "PETSET_AGENT_PEERS": peers,
            "PETSET_AGENT_PORT": str(self.agent_port),
            "PETSET_AGENT_HOST": "127.0.0.1",
            "PETSET_AGENT_VOLUME": str(self.folder),
        }
        # -I: nothing but the zip and the standard library, as in an image without PyMySQL.
        command = [sys.executable, "-I", "-S", str(self.rig.zip)]
        self.agent = self.rig.spawn(command, self.folder / "agent.log", environment)

    def sql(self, *statements: str, user: str = "root", password: str = "") -> list[tuple[Any, ...]]:
        connection = open_session(self.folder / "mysqld.sock", user, password)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def is_up(self) -> bool:
        """Whether its mysqld lets somebody in."""
        try:
            self.sql("SELECT 1")
        except (OSError, pymysql.err.MySQLError):
            return False
        return True

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.agent_port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def status(self) -> Mapping[str, Any]:
        found = json.loads(self.ask("/status")[1])
        assert isinstance(found, dict)
        return found

    def is_writer(self) -> bool:
        return self.ask("/writer")[0] == 200


class Rig:
    """Two pets in a ring, and the Lease in a real API server."""

    def __init__(self, folder: Path, api: Cluster, namespace: str) -> None:
        self.folder, self.api, self.namespace = folder, api, namespace
        self.tree = mysql_tree()
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / "token").write_text(ADMIN_TOKEN)
        (folder / "agent-password").write_text(PASSWORD)
        self.zip = zip_of_agent(folder / "agent.zip")
        self.pets = [Pet(self, 0), Pet(self, 1)]

    def mysqld(self, first: str, *options: str) -> list[str]:
        """mysqld with the libraries of its own tree, on whatever this host is."""
        tree = self.tree
        return [
            str(tree / "usr/lib64/ld-linux-x86-64.so.2"),
            "--library-path",
            str(tree / "usr/lib/x86_64-linux-gnu"),
            str(tree / "usr/sbin/mysqld"),
            first,
            *options,
            f"--basedir={tree / 'usr'}",
            f"--plugin-dir={tree / 'usr/lib/mysql/plugin'}",
            f"--lc-messages-dir={tree / 'usr/share/mysql'}",
            f"--character-sets-dir={tree / 'usr/share/mysql/charsets'}",
            "--user=root",
        ]

    def spawn(
        self, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        self._processes.append(process)
        return process

    def start(self) -> None:
        self._make_template()
        for pet in self.pets:
            self._begin(pet)
        for pet, source in zip(self.pets, reversed(self.pets), strict=True):
            self._follow(pet, source)
        for pet in self.pets:
            pet.start_agent()

    def add_replica(self, ordinal: int, source: Pet) -> Pet:
        """A pet that only reads, which is none of ``pets``."""
        pet = Pet(self, ordinal)
        self._begin(pet)
        self._follow(pet, source)
        pet.start_agent()
        return pet

    def _begin(self, pet: Pet) -> None:
        shutil.copytree(self.folder / "template", pet.folder / "data")
        (pet.folder / "data" / "auto.cnf").unlink(missing_ok=True)
        for name in ("tmp", "innodb-temp"):
            (pet.folder / name).mkdir()
        (pet.folder / "my.cnf").write_text(self._option_file(pet))
        pet.start_mysqld()

    def _follow(self, pet: Pet, source: Pet) -> None:
        self.wait(lambda: bool(pet.sql("SELECT 1")), 30, f"{pet.name} answers")
        pet.sql(
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {source.port},"
            " SOURCE_USER = 'petset_repl', SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_CONNECT_RETRY = 1,"
            " SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 1 FOR CHANNEL 'ring'"
        )

    def make_lease(self, *, in_sync: str = "mysql-0,mysql-1") -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "mysql", "annotations": {f"{PREFIX}/in-sync": in_sync, f"{PREFIX}/followers": ""}},
            "spec": {"leaseDurationSeconds": 3},
        }
        self.api.request("POST", self._leases, body)

    def set_mode(self, mode: str) -> None:
        body = {"metadata": {"annotations": {f"{PREFIX}/mode": mode}}}
        self.api.request("PATCH", f"{self._leases}/mysql", body, "application/merge-patch+json")

    def lease(self) -> tuple[str, set[str]]:
        """Holder and in-sync set."""
        found = self._lease()
        members = found["metadata"]["annotations"][f"{PREFIX}/in-sync"]
        return found["spec"].get("holderIdentity", ""), set(members.split(","))

    def lease_changes(self) -> int:
        """How often another pet has taken the lease."""
        return int(self._lease()["spec"].get("leaseTransitions") or 0)

    def _lease(self) -> Any:
        return self.api.request("GET", f"{self._leases}/mysql")

    @property
    def _leases(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def wait(self, reached: Any, limit_s: float, what: str) -> float:
        """Seconds until it is so."""
        limit_s = patient(limit_s)
        started_s = time.monotonic()
        while True:
            with contextlib.suppress(pymysql.err.Error, OSError):
                if reached():
                    return time.monotonic() - started_s
            if time.monotonic() - started_s > limit_s:
                logs = [
                    f"--- {path}\n{path.read_text(errors='replace')[-2500:]}"
                    for pet in self.pets
                    for path in (pet.folder / "agent.log",)
                    if path.exists()
                ]
                raise AssertionError("\n".join([f"not within {limit_s} s: {what}", *logs]))
            time.sleep(0.05)

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def _make_template(self) -> None:
        data, accounts = self.folder / "template", self.folder / "accounts.sql"
        literal = "'" + pymysql.converters.escape_string(PASSWORD) + "'"
        accounts.write_text(
            "SET SESSION sql_log_bin = 0; SET NAMES utf8mb4;\n"
            "CREATE USER 'petset_repl'@'%' IDENTIFIED BY '' REQUIRE SSL;\n"
            "GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO 'petset_repl'@'%';\n"
            f"CREATE USER 'petset_agent'@'localhost' IDENTIFIED BY {literal};\n{agent_grants()}\n"
            "CREATE USER 'app'@'localhost'; CREATE DATABASE app; GRANT ALL ON app.* TO 'app'@'localhost';\n"
            "CREATE TABLE app.t (id BIGINT PRIMARY KEY);\nSHUTDOWN;\n",
            encoding="utf-8",
        )
        for first in ("--initialize-insecure", f"--init-file={accounts}"):
            command = self.mysqld(
                "--no-defaults",
                first,
                f"--datadir={data}",
                "--skip-log-bin",
                "--skip-networking",
                "--mysqlx=OFF",
                "--secure-file-priv=NULL",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-redo-log-capacity=16M",
                "--innodb-doublewrite=OFF",
                f"--socket={self.folder / 'init.sock'}",
                f"--pid-file={self.folder / 'init.pid'}",
            )
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
        tls = self.folder / "tls"
        tls.mkdir()
        # mysqld has made its own in the data folder.
        for theirs, ours in (("ca.pem", "ca.crt"), ("server-cert.pem", "tls.crt"), ("server-key.pem", "tls.key")):
            shutil.copy(data / theirs, tls / ours)

    def _option_file(self, pet: Pet) -> str:
        text = option_file(pet.folder, self.folder / "tls", pet.name, pet.ordinal)
        text = text.replace("port = 3306\n", f"port = {pet.port}\n").replace(
            "bind_address = *", "bind_address = 127.0.0.1"
        )
        return re.sub(r"^admin_(address|port).*\n|^create_admin.*\n", "", text, flags=re.MULTILINE)


@contextlib.contextmanager
def running_rig(folder: Path, api: Cluster, namespace: str) -> Iterator[Rig]:
    """A rig for as long as the context lasts."""
    rig = Rig(folder, api, namespace)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()
