# SPDX-License-Identifier: GPL-3.0-or-later
"""Real mysqlds on loopback with the pets' own option file, without pods: the MySQL of the lab's image.

A mysqld that ends by itself, as after CLONE, is started anew, as its container would be.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, Mode, Ring, RingPet
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import (
    Connector,
    PetDown,
    Session,
    open_session,
    tls_context,
)
from ansible_collections.stateful.petset.plugins.module_utils._io.openssl import make_certificates

from lab.images import ensure_images, parse_index
from lab.paths import cached, key_of
from tests.api.cluster import free_ports

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "roles/pet_set/files/boot/petset.cnf.in"
ADMIN_PASSWORD = "admin-Secret-of-the-test-päß€"
REPLICATION_PASSWORD = 'it\'s \\ a "secret" %s'
PREPARE = ROOT / "roles/pet_set/files/boot/prepare.sh"


def accounts() -> str:
    """The accounts for replication and for the collection, from the text of the pets' start-up program."""
    (made,) = re.findall(
        r"^CREATE USER 'petset_repl'.*?(?=^CREATE USER 'petset_agent')", PREPARE.read_text(), re.M | re.S
    )
    given = {"replication": REPLICATION_PASSWORD, "admin": ADMIN_PASSWORD}

    def literal(match: re.Match[str]) -> str:
        return f"'{pymysql.converters.escape_string(given[match[1]])}'"

    filled = re.sub(r'\$\(sql_string <"\$secret/(\w+)-password"\)', literal, made)
    return f"SET SESSION sql_log_bin = 0;\n{filled}SHUTDOWN;\n"


def mysql_tree() -> Path:
    """The file system of the image mysql of the lab, unpacked once."""
    images = ensure_images()
    blobs = images / "blobs" / "sha256"
    manifest = next(
        blob for ref, blob in parse_index((images / "index.json").read_text()).items() if ref.startswith("mysql:")
    )

    def build(target: Path) -> None:
        for layer in json.loads((blobs / manifest.digest.partition(":")[2]).read_text())["layers"]:
            with tarfile.open(blobs / layer["digest"].partition(":")[2]) as archive:
                archive.extractall(target, filter="fully_trusted")

    return cached("mysql-tree", manifest.digest.partition(":")[2][:12], "unpack the image of MySQL", build)


def mysqld_command(tree: Path) -> list[str]:
    """mysqld with the libraries of its own tree, on whatever this host is."""
    return [
        str(tree / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        str(tree / "usr/lib/x86_64-linux-gnu"),
        str(tree / "usr/sbin/mysqld"),
    ]


def data_template() -> Path:
    """A fresh data folder with the collection's accounts, made once. No server_uuid: each copy draws its own."""
    tree = mysql_tree()

    def build(target: Path) -> None:
        data, init = target / "data", target / "accounts.sql"
        common = [
            *mysqld_command(tree),
            "--no-defaults",
            f"--datadir={data}",
            f"--basedir={tree / 'usr'}",
            f"--lc-messages-dir={tree / 'usr/share/mysql'}",
            f"--character-sets-dir={tree / 'usr/share/mysql/charsets'}",
            f"--plugin-dir={tree / 'usr/lib/mysql/plugin'}",
            "--user=root",
            "--skip-log-bin",
            "--skip-networking",
            "--secure-file-priv=NULL",
            "--mysqlx=OFF",
            "--auto-generate-certs=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-redo-log-capacity=16M",
            "--innodb-doublewrite=OFF",
            f"--socket={target / 'init.sock'}",
            f"--pid-file={target / 'init.pid'}",
        ]
        init.write_text(accounts())
        for more in (["--initialize-insecure"], [f"--init-file={init}"]):
            done = subprocess.run([*common, *more], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
        (data / "auto.cnf").unlink()
        init.unlink()

    key = key_of(tree.name, accounts())
    return cached("mysql-data", key, "initialise a data folder", build) / "data"


@dataclass(slots=True)
class Mysqld:
    """One pet's mysqld."""

    tree: Path
    folder: Path
    ordinal: int
    port: int
    admin_port: int
    masters: int = 2
    restarts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _wanted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"mysql-{self.ordinal}"

    def start(self) -> None:
        for folder in ("tmp", "innodb-temp"):
            (self.folder / folder).mkdir(exist_ok=True)
        (self.folder / "my.cnf").write_text(self._option_file())
        self._wanted = True
        self._launch()
        threading.Thread(target=self._keep, daemon=True).start()
        self.wait()

    def _launch(self) -> None:
        command = [
            *mysqld_command(self.tree),
            f"--defaults-file={self.folder / 'my.cnf'}",
            f"--port={self.port}",
            f"--report-port={self.port}",
            f"--admin-port={self.admin_port}",
            "--bind-address=127.0.0.1",
            f"--basedir={self.tree / 'usr'}",
            f"--plugin-dir={self.tree / 'usr/lib/mysql/plugin'}",
            f"--lc-messages-dir={self.tree / 'usr/share/mysql'}",
            f"--character-sets-dir={self.tree / 'usr/share/mysql/charsets'}",
            "--user=root",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _keep(self) -> None:
        while self._wanted:
            process = self._process
            assert process is not None
            process.wait()
            with self._lock:
                if self._wanted and process is self._process:
                    self.restarts += 1
                    self._launch()

    def wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                self.sql("SELECT 1")
                return
            except (pymysql.err.OperationalError, OSError):
                assert time.monotonic() < end, (self.folder / "log").read_text()[-3000:]
                time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> None:
        with self._lock:
            self._wanted = False
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(60)

    def sql(self, *statements: str, user: str = "root") -> list[tuple[Any, ...]]:
        """Statements as root over the socket; the rows of the last one."""
        sock = socket.socket(socket.AF_UNIX)
        connection = pymysql.connect(
            unix_socket=str(self.folder / "mysqld.sock"), user=user, autocommit=True, defer_connect=True
        )
        try:
            sock.connect(str(self.folder / "mysqld.sock"))
            connection.connect(sock)
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            sock.close()

    def write(self, *statements: str) -> None:
        """As the writer would: open, write, close."""
        self.sql("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
        self.sql(*statements)
        self.sql("SET GLOBAL super_read_only = ON")

    def gtids(self) -> str:
        return str(self.sql("SELECT @@GLOBAL.gtid_executed")[0][0]).replace("\n", "")

    def _option_file(self) -> str:
        return option_file(self.folder, self.folder.parent / "tls", "127.0.0.1", self.ordinal, self.masters)


def option_file(folder: Path, tls: Path, host: str, ordinal: int, masters: int = 2) -> str:
    """A pet's own one, as it is with the least memory; ``folder`` stands for its volume and its run folder."""
    text = TEMPLATE.read_text()
    values = {
        "MEMORY_MIB": 512,
        "POOL_MIB": 64,
        "POOL_CHUNK_MIB": 16,
        "POOL_INSTANCES": 1,
        "MAX_CONNECTIONS": 64,
        "TEMPTABLE_MIB": 16,
        "LOG_BUFFER_MIB": 16,
        "TABLE_OPEN_CACHE": 512,
        "WORKERS": 10,
        "PENDING_MIB": 25,
        "ACCOUNTS": 32,
        "REDO_MIB": 32,
        "VOLUME_TYPE": "tmpfs",
        "FLUSH_METHOD": "fsync",
        "NATIVE_AIO": "OFF",
        "SERVER_ID": 1000 + ordinal,
        "REPORT_HOST": host,
        "INCREMENT": masters,
        "OFFSET": ordinal % masters + 1,
        "RUN": folder,
        "DATA": folder / "data",
        "TLS": tls,
        "USER_STRICT": "",
        "USER_RELAXED": "",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def run_words(words: Sequence[str]) -> tuple[int, str, str]:
    """A program's exit status and what it said, as the makers of certificates want it."""
    done = subprocess.run(list(words), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Rig:
    """Pets that can be made quickly: all are copies of one fresh data folder, each with a server_uuid of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = mysql_tree()
        self.pets: list[Mysqld] = []
        self._make_certificates()

    def add(self, ordinal: int, masters: int = 2, auto_cnf: str = "") -> Mysqld:
        port, admin_port = free_ports(2)
        folder = self.folder / f"mysql-{ordinal}"
        shutil.copytree(data_template(), folder / "data")
        if auto_cnf:
            (folder / "data/auto.cnf").write_text(auto_cnf)
        pet = Mysqld(self.tree, folder, ordinal, port, admin_port, masters)
        pet.start()
        self.pets.append(pet)
        return pet

    def ring(self, **options: Any) -> Ring:
        pets = tuple(RingPet(pet.name, pet.ordinal, "127.0.0.1", pet.port) for pet in self.pets)
        return Ring(
            "mysql", "default", pets, ca_path=str(self.folder / "tls/ca.crt"), **{"mode": Mode.SINGLE_WRITER, **options}
        )

    def connector(self, password: str = ADMIN_PASSWORD) -> Connector:
        context = tls_context((self.folder / "tls/ca.crt").read_text())
        ports = {pet.name: pet.admin_port for pet in self.pets}

        def connect(pet: RingPet, limit_s: float | None) -> Session:
            try:
                sock = socket.create_connection(("127.0.0.1", ports[pet.name]), 10)
            except OSError as problem:
                raise PetDown(Down("lost", str(problem))) from problem
            return open_session(
                pet,
                user="petset_admin",
                password=password,
                context=context,
                sock=sock,
                name="localhost",
                limit_s=limit_s,
            )

        return connect

    def stop(self) -> None:
        for pet in self.pets:
            pet.stop(signal.SIGKILL)

    def _make_certificates(self) -> None:
        files, _end = make_certificates(run_words, "mysql.default", ["localhost", "127.0.0.1"], 30)
        (self.folder / "tls").mkdir()
        for name, text in files.items():
            (self.folder / "tls" / name).write_text(text)
            os.chmod(self.folder / "tls" / name, 0o600)


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    rig = Rig(folder)
    try:
        yield rig
    finally:
        rig.stop()
