# SPDX-License-Identifier: GPL-3.0-or-later
"""The pet's own start-up with the lab's real mysqld, as a container would run it, without machines.

A "pod" here is the image's tree under a read-only root, with the pod's mounts, in namespaces of its own (mounts,
processes, network), as uid 999 without a capability. What NFS adds is tested on the lab's machines.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from lab.images import ensure_images, images_key, parse_index
from lab.paths import REPO, cached, key_of

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and uid 999 need root"),
]

BOOT = REPO / "roles" / "pet_set" / "files" / "boot"
CLONE_NEWNET = 0x40000000
# Everything that quoting can get wrong, in SQL, in sh and in sed.
PASSWORDS = {
    "root-password": "r'o\"o\\t %s $HOME `id` ; -- # ü€😀 \\' &",
    "replication-password": "32 bytes: '\\\"%$`;# üé&|/ end..",
    "admin-password": "a\\\\'\\",
    "agent-password": "$(id)'; DROP USER root@localhost; -- ",
    "app-user": "o'brien",
    "app-password": '"%_\\n\\0"',
    "app-database": "shop_1`%",
}
ENTER = """
ip link set lo up
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mkdir -p "$2/root/petset/boot" "$2/root/petset/secret" "$2/root/petset/tls" "$2/root/petset/run" \\
    "$2/root/petset/scratch" "$2/root/var/lib/petset"
touch "$2/root/termination-log"
mount -t proc proc "$2/root/proc"
mount --bind /dev "$2/root/dev"
for name in boot secret tls; do
    mount --bind "$2/$name" "$2/root/petset/$name"
    mount -o remount,bind,ro "$2/root/petset/$name"
done
mount --bind "$2/run" "$2/root/petset/run"
mount --bind "$2/scratch" "$2/root/petset/scratch"
mount --bind "$3" "$2/root/var/lib/petset"
mount --bind "$2/termination-log" "$2/root/termination-log"
[ -z "$4" ] || mount --bind /dev/null "$2/root$4"
mount -o remount,bind,ro "$2/root"
root=$2/root
shift 4
exec chroot --userspec=999:999 --groups= "$root" /usr/bin/env -i "$@"
"""


class Pod:
    """One pet's pod: folders that outlive its containers, and ways to run them."""

    def __init__(self, tree: Path, folder: Path, *, volume: Path | None = None) -> None:
        self.tree, self.folder, self.shell = tree, folder, "dash"
        self.volume = volume or folder / "volume"
        for name in ("upper", "work", "root", "boot", "secret", "tls", "run", "scratch", "volume"):
            (folder / name).mkdir(parents=True)
        for name in ("run", "scratch", "volume"):
            os.chown(folder / name, 999, 999)
        (folder / "volume").chmod(0o750)
        for file in BOOT.iterdir():
            shutil.copy(file, folder / "boot")
        for name, value in PASSWORDS.items():
            (folder / "secret" / name).write_text(value)
        make_certificates(folder / "tls")
        (folder / "termination-log").touch()
        (folder / "termination-log").chmod(0o666)
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PETSET_SET": "mysql",
            "PETSET_NAMESPACE": "default",
            "PETSET_POD": "mysql-0",
            "PETSET_ORDINAL": "0",
            "PETSET_SERVICE": "db",
            "PETSET_DOMAIN": "cluster.local",
            "PETSET_SERVER_ID_BASE": "1000",
            "PETSET_MEMORY_LIMIT_BYTES": str(768 << 20),
            "PETSET_LOCK_WAIT_S": "3",
            "PETSET_TERMINATION_LOG": "/termination-log",
        }
        self.mask = ""  # a program that this image is to lack
        self.processes: list[subprocess.Popen[bytes]] = []
        self.main: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "volume" / "data"

    @property
    def identity(self) -> dict[str, Any]:
        value = json.loads((self.folder / "volume" / ".petset-identity.json").read_text())
        assert isinstance(value, dict)
        return value

    @property
    def message(self) -> str:
        return (self.folder / "termination-log").read_text()

    def spawn(self, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        arguments = [str(self.tree), str(self.folder), str(self.volume), self.mask]
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-euc", ENTER, "enter"]
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [*unshare, *arguments, *environment, *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The whole container at once: with the first process of its namespace the kernel kills all."""
        while process.poll() is None:
            os.kill(first_process(process) or process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)

    def close(self) -> None:
        for process in self.processes:
            self.kill(process)

    def prepare(self) -> int:
        """The init container, to its end: its exit status."""
        return self.spawn(self.shell, "/petset/boot/prepare.sh", log=self.folder / "prepare.log").wait(timeout=120)

    def start(self) -> None:
        """The main container, begun."""
        self.main = self.spawn(self.shell, "/petset/boot/start.sh", log=self.folder / "main.log")

    @property
    def mysqld(self) -> int:
        """The process of the main container, as this host counts."""
        assert self.main is not None
        pid = first_process(self.main)
        assert pid is not None
        return pid

    def probe(self, what: str) -> tuple[int, str]:
        """A probe in the main container, as the kubelet would run it."""
        enter = f"nsenter --target {self.mysqld} --mount --net --pid --root --setuid 999 --setgid 999".split()
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        script = [self.shell, "/petset/boot/probe.sh", what]
        done = subprocess.run(
            [*enter, "/usr/bin/env", "-i", "--chdir=/", *environment, *script],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, done.stdout + done.stderr

    def wait_ready(self, limit_s: float = 60) -> None:
        assert self.main is not None
        end = time.monotonic() + limit_s
        while self.main.poll() is None and time.monotonic() < end:
            if first_process(self.main) and self.probe("ready")[0] == 0:
                return
            time.sleep(0.2)
        pytest.fail(f"not ready: {(self.folder / 'main.log').read_text()[-3000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.main is not None
        if self.main.poll() is None:
            os.kill(self.mysqld, how)
        return self.main.wait(timeout=60)

    def by_socket(self, user: str, password: str, **options: Any) -> pymysql.Connection[Any]:
        return pymysql.connect(
            unix_socket=str(self.folder / "run" / "mysqld.sock"), user=user, password=password.encode(), **options
        )

    def by_tcp(self, user: str, password: str, port: int = 3306, **options: Any) -> pymysql.Connection[Any]:
        """Through the pod's loopback, as a port-forward comes in."""
        connection = pymysql.connect(
            host="127.0.0.1", user=user, password=password.encode(), defer_connect=True, connect_timeout=10, **options
        )
        connection.connect(self.connect(port))
        return connection

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """A connection made inside of the pod's network (a thread can be in another one than its process)."""
        assert self.main is not None
        result: list[socket.socket | OSError] = []

        def enter() -> None:
            with Path(f"/proc/{self.mysqld}/ns/net").open("rb") as namespace:
                assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0
            try:
                result.append(socket.create_connection((host, port), timeout=10))
            except OSError as failed:
                result.append(failed)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def query(self, text: str) -> tuple[Any, ...]:
        with self.by_socket("root", PASSWORDS["root-password"]) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            return tuple(cursor.fetchall())


def first_process(unshare: subprocess.Popen[bytes]) -> int | None:
    """The first process of the namespace that ``unshare`` made, as this host counts; None before it is there."""
    words = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    return int(words[0]) if words else None


def make_certificates(folder: Path) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=mysql-0.db", "-days", "2",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )  # fmt: skip
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    (folder / "tls.key").chmod(0o644)


def unpack(target: Path, ref: str) -> None:
    layout = ensure_images()

    def blob(digest: str) -> Path:
        return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")

    manifest = json.loads(blob(parse_index((layout / "index.json").read_text())[ref].digest).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(blob(layer["digest"])) as archive:
            archive.extractall(target, filter="fully_trusted")


@pytest.fixture(scope="session")
def tree() -> Path:
    """The unpacked image; ``$PETSET_BOOT_TREE`` names another one, for example of an official image."""
    if other := os.environ.get("PETSET_BOOT_TREE"):
        return Path(other)
    key = key_of(images_key(), "mysql:9.7")
    return cached("boot-tree", key, "unpack the MySQL image", lambda target: unpack(target, "mysql:9.7"))


@pytest.fixture(scope="session")
def first(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A pet after its first start, running."""
    pod = Pod(tree, tmp_path_factory.mktemp("first"))
    with contextlib.closing(pod):
        assert pod.prepare() == 0, (pod.folder / "prepare.log").read_text()
        pod.start()
        pod.wait_ready()
        yield pod


@pytest.fixture
def pod(tree: Path, tmp_path: Path) -> Iterator[Pod]:
    """A pet that has never started."""
    pod = Pod(tree, tmp_path / "pod")
    with contextlib.closing(pod):
        yield pod


def test_first_start_is_read_only_and_signed(first: Pod) -> None:
    identity = first.identity
    uuid = first.query("SELECT @@server_uuid")[0][0]
    assert (identity["set"], identity["namespace"], identity["ordinal"]) == ("mysql", "default", 0)
    assert identity["server_uuid"] == uuid
    assert f"ordinal=0 server_uuid={uuid} generation=1 data=fresh" in first.message
    assert first.query("SELECT @@gtid_executed, @@super_read_only, @@server_id, @@gtid_mode") == (("", 1, 1000, "ON"),)
    assert first.query("SHOW REPLICA STATUS") == ()


def test_settings_are_in_force(first: Pod) -> None:
    expected = {
        "auto_increment_increment": 2,
        "auto_increment_offset": 1,
        "binlog_error_action": "ABORT_SERVER",
        "innodb_buffer_pool_size": 192 << 20,
        "innodb_doublewrite": "ON",
        "innodb_flush_log_at_trx_commit": 1,
        "lower_case_table_names": 0,
        "performance_schema": 1,
        "persisted_globals_load": 0,
        "relay_log_recovery": 1,
        "replica_net_timeout": 10,
        "report_host": "mysql-0.db.default.svc.cluster.local",
        "require_secure_transport": 1,
        "rpl_semi_sync_source_enabled": 0,
        "rpl_semi_sync_replica_enabled": 0,
        "rpl_semi_sync_source_timeout": 4294967295,
        "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
        "secure_file_priv": "NULL",
        "skip_name_resolve": 1,
        "sync_binlog": 1,
        "tmpdir": "/petset/run/tmp",
    }
    (row,) = first.query("SELECT " + ", ".join(f"@@global.{name}" for name in expected))
    assert dict(zip(expected, row, strict=True)) == expected
    active = first.query(
        "SELECT plugin_name FROM information_schema.plugins WHERE plugin_status = 'ACTIVE'"
        " AND plugin_name IN ('rpl_semi_sync_source', 'rpl_semi_sync_replica', 'clone', 'mysqlx') ORDER BY plugin_name"
    )
    assert [name for (name,) in active] == ["clone", "rpl_semi_sync_replica", "rpl_semi_sync_source"]
    log = (first.folder / "main.log").read_text()
    assert not re.search(r"\[(ERROR|Warning)\](?!.*(self signed|CA certificate))", log), log


TLS: dict[str, Any] = {"ssl": {"check_hostname": False, "verify_mode": "none"}}
NO_TLS: dict[str, Any] = {"ssl_disabled": True}


def test_accounts_come_in_with_their_passwords(first: Pod) -> None:
    first.by_socket("root", PASSWORDS["root-password"]).close()
    first.by_socket("petset_agent", PASSWORDS["agent-password"]).close()
    for port in (3306, 33062):
        first.by_tcp("petset_admin", PASSWORDS["admin-password"], port, **TLS).close()
    first.by_tcp("petset_repl", PASSWORDS["replication-password"], **TLS).close()
    first.by_tcp(PASSWORDS["app-user"], PASSWORDS["app-password"], database=PASSWORDS["app-database"], **TLS).close()
    assert first.query("SELECT user, host FROM mysql.user WHERE user NOT LIKE 'mysql.%' ORDER BY user") == (
        ("o'brien", "%"),
        ("petset_admin", "127.0.0.1"),
        ("petset_agent", "localhost"),
        ("petset_repl", "%"),
        ("root", "localhost"),
    )


@pytest.mark.parametrize(
    ("user", "password", "options"),
    [
        ("petset_admin", PASSWORDS["admin-password"], NO_TLS),
        ("petset_repl", PASSWORDS["replication-password"], NO_TLS),
        ("petset_admin", PASSWORDS["admin-password"] + "x", TLS),
        ("root", PASSWORDS["root-password"], TLS),  # the socket only
        ("root", "", TLS),
        ("petset_agent", PASSWORDS["agent-password"], TLS),
    ],
)
def test_accounts_that_stay_outside(first: Pod, user: str, password: str, options: dict[str, Any]) -> None:
    with pytest.raises(pymysql.err.OperationalError):
        first.by_tcp(user, password, **options)


def test_ports(first: Pod) -> None:
    for port, host in ((3306, "127.0.0.1"), (3306, "::1"), (33062, "127.0.0.1")):
        first.connect(port, host).close()
    for port, host in ((33062, "::1"), (33060, "127.0.0.1")):
        with pytest.raises(ConnectionRefusedError):
            first.connect(port, host)


def execute(connection: pymysql.Connection[Any], *statements: str) -> None:
    with connection, connection.cursor() as cursor:
        connection.autocommit(True)
        for statement in statements:
            cursor.execute(statement)


WORK = (
    "SET GLOBAL super_read_only = OFF",
    "SET GLOBAL read_only = OFF",
    "CREATE DATABASE IF NOT EXISTS petset",
    "CREATE TABLE IF NOT EXISTS petset.marker (id INT PRIMARY KEY)",
    "INSERT INTO petset.marker VALUES (1)",
    "SET GLOBAL rpl_semi_sync_source_enabled = ON",
    "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_AUTO_POSITION = 1",
    "SHOW REPLICA STATUS",
    "SELECT * FROM performance_schema.replication_connection_status",
    "SET GLOBAL offline_mode = ON",
    "SET GLOBAL offline_mode = OFF",
    "SET GLOBAL super_read_only = ON",
)


def test_admin_and_agent_can_do_their_work(first: Pod) -> None:
    """What the two do to real servers is in tests/api: with these grants and no others."""
    root = PASSWORDS["root-password"]
    execute(
        first.by_tcp("petset_admin", PASSWORDS["admin-password"], **TLS),
        *WORK,
        "SELECT COUNT(*) FROM mysql.user",
        "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_TABLESPACES",
        "SET GLOBAL super_read_only = OFF",
        "CREATE USER 'x'@'%' IDENTIFIED BY 'y'",
        "GRANT INSERT ON petset.marker TO 'x'@'%'",
        "DROP USER 'x'@'%'",
        "DROP TABLE petset.marker",
        "SET GLOBAL clone_valid_donor_list = '127.0.0.1:3306'",
        "SET GLOBAL super_read_only = ON",
    )
    execute(first.by_socket("root", root), "RESET REPLICA ALL", "RESET BINARY LOGS AND GTIDS")
    execute(first.by_socket("petset_agent", PASSWORDS["agent-password"]), *WORK)
    execute(
        first.by_socket("root", root),
        "RESET REPLICA ALL",
        "SET GLOBAL super_read_only = OFF",
        "DROP DATABASE petset",
        "RESET BINARY LOGS AND GTIDS",
        "SET GLOBAL super_read_only = ON",
    )


# What nobody but root may.
_ROOTS = (
    "ALTER USER 'root'@'localhost' IDENTIFIED BY 'x'",
    "CREATE DATABASE other",
    "DELETE FROM mysql.user",
    "FLUSH TABLES WITH READ LOCK",
    "GRANT SUPER ON *.* TO 'petset_repl'@'%'",
    "GRANT REPLICATION SLAVE ON *.* TO 'petset_repl'@'%'",
    "PURGE BINARY LOGS TO 'x'",
    "RESET BINARY LOGS AND GTIDS",
    "SHUTDOWN",
)


def refused_to(connection: pymysql.Connection[Any], first: Pod, statement: str) -> int:
    """The number of the error that a statement gets on a pet that may be written to."""
    with pytest.raises(pymysql.err.MySQLError) as refused:
        execute(connection, "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF", statement)
    execute(first.by_socket("root", PASSWORDS["root-password"]), "SET GLOBAL super_read_only = ON")
    return int(refused.value.args[0])


@pytest.mark.parametrize("statement", _ROOTS)
def test_admin_cannot_take_more(first: Pod, statement: str) -> None:
    admin = first.by_tcp("petset_admin", PASSWORDS["admin-password"], **TLS)
    assert refused_to(admin, first, statement) in {1044, 1045, 1142, 1227}


@pytest.mark.parametrize(
    "statement",
    [*_ROOTS, "SELECT COUNT(*) FROM mysql.user", "CREATE USER 'x'@'%' IDENTIFIED BY 'y'", "DROP DATABASE petset"],
)
def test_the_agent_cannot_take_more(first: Pod, statement: str) -> None:
    agent = first.by_socket("petset_agent", PASSWORDS["agent-password"])
    assert refused_to(agent, first, statement) in {1044, 1045, 1142, 1227}


def test_app_account_has_its_schema_only(first: Pod) -> None:
    execute(first.by_socket("root", PASSWORDS["root-password"]), "SET GLOBAL super_read_only=OFF, read_only=OFF")
    app = first.by_tcp(PASSWORDS["app-user"], PASSWORDS["app-password"], **TLS)
    execute(app, "CREATE TABLE `shop_1``%`.t (id INT)", "DROP TABLE `shop_1``%`.t")
    app = first.by_tcp(PASSWORDS["app-user"], PASSWORDS["app-password"], **TLS)
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        execute(app, "CREATE DATABASE `shopX1``abc`")  # what _ and % would let in
    execute(
        first.by_socket("root", PASSWORDS["root-password"]),
        "RESET BINARY LOGS AND GTIDS",
        "SET GLOBAL super_read_only=ON",
    )


def test_no_password_is_left_in_a_file(first: Pod) -> None:
    needles = [value.encode() for name, value in PASSWORDS.items() if name.endswith("-password") and len(value) > 10]
    needles += [needle.replace(b"\\", b"\\\\").replace(b"'", b"\\'") for needle in needles]
    for name in ("volume", "run", "scratch", "upper", "prepare.log", "main.log", "termination-log"):
        top = first.folder / name
        for path in [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]:
            content = path.read_bytes()
            assert not [needle for needle in needles if needle in content], path
    assert not (first.folder / "scratch" / "init").exists()


def test_probes_follow_the_server(first: Pod) -> None:
    assert [first.probe(what) for what in ("startup", "live", "ready")] == [(0, "")] * 3
    os.kill(first.mysqld, signal.SIGSTOP)
    try:
        assert first.probe("live") == (1, "mysqld is stopped\n")
        assert first.probe("ready")[0] == 1
    finally:
        os.kill(first.mysqld, signal.SIGCONT)
    assert first.probe("ready") == (0, "")


def test_second_pod_on_the_same_volume_is_refused(first: Pod, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As after a forced deletion: the first one is alive, perhaps on another node."""
    second = Pod(first.tree, tmp_path / "second", volume=first.folder / "volume")
    request.addfinalizer(second.close)
    assert second.prepare() == 30
    assert "refused: locked: /var/lib/petset is in use by pod mysql-0" in second.message
    # Without flock in the image InnoDB's own lock holds; it tries for 100 s.
    second.mask = "/usr/bin/flock"
    second.start()
    deadline = time.monotonic() + 30
    while "Unable to lock" not in (log := (second.folder / "main.log").read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "this image has no flock" in log
    assert "Unable to lock" in log
    second.stop(signal.SIGKILL)
    assert first.query("SELECT 1") == ((1,),)


def test_same_pet_after_a_clean_stop_and_after_a_crash(first: Pod) -> None:
    execute(
        first.by_socket("root", PASSWORDS["root-password"]),
        "SET GLOBAL super_read_only=OFF, read_only=OFF",
        "CREATE DATABASE stay",
        "CREATE TABLE stay.t (id INT PRIMARY KEY)",
        "INSERT INTO stay.t VALUES (1)",
    )
    uuid = first.query("SELECT @@server_uuid")
    for how in (signal.SIGTERM, signal.SIGKILL):
        assert (first.stop(how) == 0) is (how == signal.SIGTERM)
        assert first.prepare() == 0
        first.start()
        first.wait_ready()
        assert first.query("SELECT @@super_read_only, COUNT(*) FROM stay.t") == ((1, 1),)
        assert first.query("SELECT @@server_uuid") == uuid
    assert "data=known" in first.message


# ---- pods of their own -----------------------------------------------------------------------------------------------


def test_pets_differ_and_begin_equal(first: Pod, pod: Pod) -> None:
    """The second pet, under bash as sh, with a setting that only a first start can take."""
    pod.shell = "bash"
    pod.environment |= {"PETSET_POD": "mysql-1", "PETSET_ORDINAL": "1"}
    (pod.folder / "boot" / "user.cnf").write_text("[mysqld]\nlower_case_table_names = 1\n")
    assert pod.prepare() == 0, (pod.folder / "prepare.log").read_text()
    pod.start()
    pod.wait_ready()
    assert pod.identity["server_uuid"] != first.identity["server_uuid"]
    assert pod.query("SELECT @@server_id, @@gtid_executed, @@auto_increment_offset, @@lower_case_table_names") == (
        (1001, "", 2, 1),
    )
    assert pod.stop() == 0


def test_setting_that_mysqld_does_not_know(pod: Pod) -> None:
    (pod.folder / "boot" / "user.cnf").write_text("[mysqld]\nno_such_setting = 1\n")
    assert pod.prepare() == 41
    assert "unknown variable 'no_such_setting=1'" in pod.message
    assert not pod.data.exists()


def test_folder_of_root_is_refused(pod: Pod) -> None:
    os.chown(pod.folder / "volume", 0, 0)
    (pod.folder / "volume").chmod(0o755)
    assert pod.prepare() == 15
    assert "belongs to 0:0, mode 755, and mysqld runs as 999:999" in pod.message
    (pod.folder / "volume").chmod(0o700)
    assert pod.prepare() == 15


def test_terminated_at_a_first_start_it_ends_at_once(pod: Pod) -> None:
    pod.main = pod.spawn("dash", "/petset/boot/prepare.sh", log=pod.folder / "prepare.log")
    deadline = time.monotonic() + 30
    while not (pod.folder / "scratch" / "init" / "data").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    assert pod.stop() == 143
    assert time.monotonic() - began < 5
    assert not pod.data.exists()


def test_kills_at_many_moments_converge(pod: Pod) -> None:
    """One pod, killed later and later in its first start, each time with all its processes."""
    kills = 0
    after_s = 0.1
    while True:
        process = pod.spawn("dash", "/petset/boot/prepare.sh", log=pod.folder / "prepare.log")
        try:
            assert process.wait(timeout=after_s) == 0, (pod.folder / "prepare.log").read_text()
            break
        except subprocess.TimeoutExpired:
            pod.kill(process)
        kills += 1
        if pod.data.exists():
            assert (pod.data / ".petset-identity.json").exists()
        else:
            assert not (pod.folder / "volume" / ".petset-identity.json").exists()
        after_s *= 1.3
    assert kills > 5
    assert sorted(os.listdir(pod.folder / "volume")) == [".petset-identity.json", ".petset-lock", "data"]
    pod.start()
    pod.wait_ready()
    assert pod.query("SELECT @@server_uuid") == ((pod.identity["server_uuid"],),)
    assert "Starting crash recovery" not in (pod.folder / "main.log").read_text()
    pod.stop()
