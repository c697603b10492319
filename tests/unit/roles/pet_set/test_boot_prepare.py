# SPDX-License-Identifier: GPL-3.0-or-later
"""First starts, refusals, and kills at every step of prepare.sh; start.sh's own checks."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.roles.pet_set.boot_rig import OTHER_UUID, UUID, Rig, in_each_shell

pytestmark = pytest.mark.programs

DOCS = Path(__file__).resolve().parents[4] / "docs" / "boot.md"


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return Rig(tmp_path / "pod", getattr(request, "param", ("sh",)))


def refused(rig: Rig, script: str = "prepare.sh", **environment: str) -> tuple[int, str, str]:
    """Exit status, reason and the rest of the message; nothing may have changed in the volume, nothing started."""
    before = set(rig.tree())
    done = rig.run(script, **environment)
    match = re.fullmatch(r"petset: refused: ([a-z-]+): (.+)\n", rig.message)
    assert match, (done.returncode, done.stderr, rig.message)
    assert done.stderr.endswith(rig.message)
    assert set(rig.tree()) - {".petset-lock"} == before - {".petset-lock"}
    calls = rig.root / "mysqld.calls"
    assert not calls.exists() or "--datadir" not in calls.read_text()
    return done.returncode, match[1], match[2]


# ---- first start -----------------------------------------------------------------------------------------------------


@in_each_shell
def test_first_start_makes_data_and_identity(rig: Rig) -> None:
    done = rig.run()
    assert done.returncode == 0, done.stderr
    created = rig.identity.pop("created")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert rig.identity == {
        "format": 1,
        "set": "mysql",
        "namespace": "default",
        "ordinal": 1,
        "server_uuid": UUID,
        "created": created,
        "generation": 1,
    }
    assert rig.tree() == [
        ".petset-identity.json",
        ".petset-lock",
        "data",
        "data/#innodb_redo",
        "data/.petset-identity.json",
        "data/auto.cnf",
        "data/mysql",
        "data/mysql.ibd",
    ]
    assert rig.message == f"petset: prepared: ordinal=1 server_uuid={UUID} generation=1 data=fresh\n"


@in_each_shell
def test_second_start_changes_nothing(rig: Rig) -> None:
    assert rig.run().returncode == 0
    before = {path: path.stat().st_mtime_ns for path in rig.volume.rglob("*") if path.name != ".petset-lock"}
    (rig.root / "mysqld.calls").unlink()
    assert rig.run().returncode == 0
    assert {path: path.stat().st_mtime_ns for path in rig.volume.rglob("*") if path.name != ".petset-lock"} == before
    assert "--datadir" not in (rig.root / "mysqld.calls").read_text()
    assert rig.message == f"petset: prepared: ordinal=1 server_uuid={UUID} generation=1 data=known\n"


def test_no_password_on_a_command_line_nor_left_behind(rig: Rig) -> None:
    assert rig.run().returncode == 0
    assert "secret" in (rig.root / "accounts.sql").read_text()
    assert "secret" not in (rig.root / "mysqld.calls").read_text()
    (rig.root / "accounts.sql").unlink()
    for path in rig.root.rglob("*"):
        if path.is_file() and path.parent != rig.secret and path.parent != rig.boot:
            assert "secret" not in path.read_text(), path


def test_ordinal_from_the_pods_name(rig: Rig) -> None:
    """Clusters before 1.28 have no label for it."""
    assert rig.run(PETSET_ORDINAL="").returncode == 0
    assert rig.identity["ordinal"] == 1


def test_the_file_systems_own_entries_do_not_count(rig: Rig) -> None:
    (rig.volume / "lost+found").mkdir()
    (rig.volume / ".snapshot").mkdir()
    (rig.volume / ".nfs0000000000000001").touch()
    assert rig.run().returncode == 0


def test_leftovers_of_an_interrupted_first_start_go(rig: Rig) -> None:
    rig.make_data(rig.volume / f".data.new-{OTHER_UUID}", OTHER_UUID)
    rig.make_data(rig.volume / ".trash-1")
    assert rig.run().returncode == 0
    assert [name for name in os.listdir(rig.volume) if name.startswith((".data.new", ".trash"))] == []
    assert rig.identity["server_uuid"] == UUID


def test_identity_written_after_a_kill_behind_the_rename(rig: Rig) -> None:
    assert rig.run().returncode == 0
    (rig.volume / ".petset-identity.json").unlink()
    assert rig.run(FAKE_UUID=OTHER_UUID).returncode == 0
    assert rig.identity["server_uuid"] == UUID
    assert rig.message.endswith("data=unsigned\n")


def test_mysqld_that_fails_is_quoted(rig: Rig) -> None:
    (rig.root / "broken").touch()
    done = rig.run()
    assert done.returncode == 43
    assert rig.message.endswith("init-failed: mysqld --initialize-insecure ended with status 1: [MY-2] no room.\n")
    assert rig.tree() == [".petset-lock"]


def test_another_start_that_was_first_wins(rig: Rig) -> None:
    """Two pods without a lock between them: the kernel lets only one rename through."""
    rig.shim("sync", f'#!/bin/sh\n[ -e "{rig.data}" ] || mkdir -p "{rig.data}/mysql"\n')
    done = rig.run()
    assert done.returncode == 30
    assert "another start of this pet was here" in rig.message
    assert not (rig.volume / ".petset-identity.json").exists()


# ---- killed, and run again -------------------------------------------------------------------------------------------

# A shim for each command that writes; the one that is told to kills the whole container before it does its work.
KILLING_SHIM = """#!/bin/sh
read -r count <"$PETSET_ROOT/count"
count=$((count + 1))
echo "$count" >"$PETSET_ROOT/count"
[ "$count" -ne "$KILL_AT" ] || kill -KILL 0
{body}
"""
WRITERS = ("cat", "cp", "mkdir", "mv", "rm", "sync")


@pytest.mark.slow
@in_each_shell
def test_kill_before_every_command_converges(rig: Rig) -> None:
    """After each kill the data folder is not there or whole; the next run ends well, under one server_uuid."""
    for name in WRITERS:
        rig.shim(name, KILLING_SHIM.replace("{body}", "" if name == "sync" else f'exec /bin/{name} "$@"'))
    states = set()
    for kill_at in range(1, 100):
        for folder in (rig.volume, rig.root / "petset" / "scratch", rig.root / "petset" / "run"):
            shutil.rmtree(folder)
            folder.mkdir()
        (rig.root / "count").write_text("0\n")
        done = rig.run(KILL_AT=str(kill_at))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, (kill_at, done.stderr)
        side = any(name.startswith(".data.new-") for name in os.listdir(rig.volume))
        states.add((side, rig.data.exists(), (rig.volume / ".petset-identity.json").exists()))
        if rig.data.exists():
            assert {"auto.cnf", "mysql", "mysql.ibd", ".petset-identity.json"} <= set(os.listdir(rig.data))
        again = rig.run(KILL_AT="0", FAKE_UUID=OTHER_UUID)
        assert again.returncode == 0, (kill_at, again.stderr)
        assert f"server-uuid={rig.identity['server_uuid']}" in (rig.data / "auto.cnf").read_text()
        assert sorted(os.listdir(rig.volume)) == [".petset-identity.json", ".petset-lock", "data"], kill_at
    # The kills hit every state that there is: nothing, side folder, data without and with the identity file.
    assert states == {(False, False, False), (True, False, False), (False, True, False), (False, True, True)}


def test_kill_in_the_middle_of_the_copy(rig: Rig) -> None:
    rig.shim("cp", '#!/bin/sh\nmkdir "$3"\necho half >"$3/auto.cnf"\nkill -KILL 0\n')
    assert rig.run().returncode == -signal.SIGKILL
    assert rig.tree() == [f".data.new-{UUID}", f".data.new-{UUID}/auto.cnf", ".petset-lock"]
    (rig.bin / "cp").unlink()
    assert rig.run(FAKE_UUID=OTHER_UUID).returncode == 0
    assert rig.identity["server_uuid"] == OTHER_UUID
    assert sorted(os.listdir(rig.volume)) == [".petset-identity.json", ".petset-lock", "data"]


def test_temporary_files_of_a_killed_first_start_go(rig: Rig) -> None:
    """InnoDB refuses to start over its own old temporary tablespaces: seen with 9.7.4 after a kill."""
    stale = rig.root / "petset" / "run" / "innodb-temp" / "temp_1.ibt"
    stale.parent.mkdir()
    stale.touch()
    assert rig.run().returncode == 0
    assert not stale.exists()


def test_order_of_syncs(rig: Rig) -> None:
    """The copy is on disk before it gets its name, the name before the identity file is there."""
    assert rig.run().returncode == 0
    syncs = (rig.root / "syncs").read_text().replace(str(rig.volume), "V")
    assert syncs.splitlines() == [
        "sync V/.petset-write-test",
        f"sync -f V/.data.new-{UUID}/.petset-identity.json",
        "sync V",
        "sync V/.petset-identity.new",
        "sync V",
    ]


# ---- refusals --------------------------------------------------------------------------------------------------------


def no_identity(rig: Rig) -> None:
    rig.make_data(rig.data)


def no_data(rig: Rig) -> None:
    rig.fill()
    rig.data.rename(rig.root / "gone")


def empty_data(rig: Rig) -> None:
    no_data(rig)
    rig.data.mkdir()


def no_auto_cnf(rig: Rig) -> None:
    rig.fill()
    (rig.data / "auto.cnf").unlink()


def half_identity(rig: Rig) -> None:
    rig.fill()
    (rig.volume / ".petset-identity.json").write_text('{"format": 1, "set": "mysql"')


def known_elsewhere(rig: Rig) -> None:
    (rig.boot / "known-pets").write_text(f"0 {OTHER_UUID}\n1 {UUID}\n11 {OTHER_UUID}\n")


def known_other_uuid(rig: Rig) -> None:
    rig.fill()
    (rig.boot / "known-pets").write_text(f"1 {OTHER_UUID}\n")


FOLDERS: dict[str, tuple[Callable[[Rig], None], int, str, str]] = {
    "foreign file": (lambda rig: (rig.volume / "notes").touch(), 20, "unknown-content", "first entry: notes"),
    "data without identity": (no_identity, 20, "unknown-content", "first entry: data"),
    "empty data folder": (lambda rig: rig.data.mkdir(), 20, "unknown-content", "first entry: data"),
    "hidden file": (lambda rig: (rig.volume / "..odd").touch(), 20, "unknown-content", "first entry: ..odd"),
    "data gone": (no_data, 21, "data-missing", "nothing is initialised over lost data"),
    "data emptied": (empty_data, 21, "data-missing", "nothing is initialised over lost data"),
    "used before, empty now": (known_elsewhere, 22, "known-pet-empty", f"had data (server_uuid {UUID} in known-pets)"),
    "other set": (lambda rig: rig.fill(set="maria"), 23, "other-set", "to pet 1 of set maria in namespace default"),
    "other namespace": (lambda rig: rig.fill(namespace="prod"), 24, "other-namespace", "this is namespace default"),
    "other pet": (lambda rig: rig.fill(ordinal=0), 25, "other-ordinal", "belongs to pet 0 of set mysql"),
    "other auto.cnf": (lambda rig: rig.fill(OTHER_UUID), 26, "uuid-mismatch", f"auto.cnf says {OTHER_UUID}"),
    "no auto.cnf": (no_auto_cnf, 26, "uuid-mismatch", "auto.cnf says nothing"),
    "another volume": (known_other_uuid, 26, "uuid-mismatch", f"known-pets expects {OTHER_UUID}"),
    "identity cut off": (half_identity, 27, "identity-unreadable", "not a whole identity file"),
    "identity of the future": (lambda rig: rig.fill(format=2), 27, "identity-unreadable", "format 2"),
}


@pytest.mark.parametrize("script", ["prepare.sh", "start.sh"])
@pytest.mark.parametrize("case", FOLDERS)
def test_folder_is_refused(rig: Rig, case: str, script: str) -> None:
    make, status, reason, words = FOLDERS[case]
    make(rig)
    got = refused(rig, script)
    assert got[:2] == (status, reason)
    assert words in got[2]


def test_known_pet_with_its_data_starts(rig: Rig) -> None:
    rig.fill()
    (rig.boot / "known-pets").write_text(f"# ordinal server_uuid\n1 {UUID}\n")
    assert rig.run().returncode == 0


def test_identity_on_one_line_is_read(rig: Rig) -> None:
    rig.fill(created="2026-01-01T00:00:00Z", extra={"a": 1})
    assert "\n" not in (rig.volume / ".petset-identity.json").read_text()
    assert rig.run().returncode == 0


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PETSET_SET": ""}, "PETSET_SET is ''"),
        ({"PETSET_SET": "my_sql"}, "PETSET_SET is 'my_sql'"),
        ({"PETSET_NAMESPACE": "a|b"}, "PETSET_NAMESPACE is 'a|b'"),
        ({"PETSET_ORDINAL": "01"}, "PETSET_ORDINAL is '01'"),
        ({"PETSET_ORDINAL": "0"}, "pod mysql-1 is not pet 0 of set mysql (mysql-0)"),
        ({"PETSET_SERVER_ID_BASE": "4294967295"}, "server_id 4294967296"),
        ({"PETSET_SERVER_ID_BASE": "0x10"}, "PETSET_SERVER_ID_BASE is '0x10'"),
        ({"PETSET_MEMORY_LIMIT_BYTES": "1Gi"}, "PETSET_MEMORY_LIMIT_BYTES is '1Gi'"),
        ({"PETSET_MASTERS": "0"}, "PETSET_MASTERS is '0'"),
        ({"PETSET_DURABILITY": "weak"}, "PETSET_DURABILITY is 'weak'"),
    ],
)
def test_environment_is_refused(rig: Rig, environment: dict[str, str], words: str) -> None:
    got = refused(rig, **environment)
    assert got[:2] == (10, "bad-environment")
    assert words in got[2]


NFS = "rw,vers=4.1,hard,proto=tcp,local_lock=none"
MOUNTS = [
    ({"options": NFS.replace("4.1", "4.0")}, 12, "nfs-options", "vers=4.0 (needs 4.1 or later)"),
    ({"kind": "nfs", "options": NFS.replace("4.1", "3")}, 12, "nfs-options", "vers=3 (needs 4.1 or later)"),
    ({"options": NFS.replace("hard", "soft")}, 12, "nfs-options", "soft (an outage becomes an I/O error"),
    ({"options": NFS.replace("hard", "softerr")}, 12, "nfs-options", "softerr"),
    ({"options": NFS + ",nolock"}, 12, "nfs-options", "nolock"),
    ({"options": NFS.replace("=none", "=posix")}, 12, "nfs-options", "local_lock=posix"),
    ({"options": NFS.replace("tcp", "udp")}, 12, "nfs-options", "proto=udp (needs tcp or rdma)"),
    ({"options": NFS.replace("4.1", "4.0").replace("hard", "soft")}, 12, "nfs-options", "4.1 or later), soft (an"),
    ({"own": "ro,relatime"}, 13, "read-only", "[fd00::1]:/export/mysql-1 is mounted read-only"),
    ({"kind": "ext4", "options": "ro"}, 13, "read-only", "mounted read-only"),
]  # fmt: skip


@pytest.mark.parametrize(("mount", "status", "reason", "words"), MOUNTS)
def test_mount_is_refused(rig: Rig, mount: dict[str, str], status: int, reason: str, words: str) -> None:
    rig.mount(**mount)
    got = refused(rig)
    assert got[:2] == (status, reason)
    assert words in got[2]


@pytest.mark.parametrize(
    "mount",
    [
        {},
        {"options": NFS},
        {"options": NFS.replace("tcp", "tcp6")},
        {"kind": "ext4", "options": "rw"},
        {"kind": "xfs", "options": "rw,soft"},
    ],
)
def test_good_mounts(rig: Rig, mount: dict[str, str]) -> None:
    rig.mount(**mount)
    assert rig.run().returncode == 0


STATS = """device /dev/vda mounted on / with fstype ext4
device other:/x mounted on /var/lib/other with fstype nfs4 statvers=1.1
\tnfsv4:\tbm0=0xfdffbfff,bm1=0x40f9be3e,acl=0x3,sessions,pnfs=LAYOUT_NFSV4_1_FILES,lease_time=90,lease_expired=0
device [fd00::1]:/export/mysql-1 mounted on {volume} with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,hard
\tnfsv4:\tbm0=0xfdffbfff,bm1=0x40f9be3e,acl=0x3,sessions,pnfs={layout},lease_time=30,lease_expired=0
\tage:\t63
"""


@in_each_shell
def test_pnfs_layout_is_refused(rig: Rig) -> None:
    rig.mount(stats=STATS.format(volume=rig.volume, layout="LAYOUT_FLEX_FILES"))
    assert refused(rig)[:2] == (12, "nfs-options")
    assert "pNFS layout LAYOUT_FLEX_FILES" in rig.message


def test_no_pnfs_in_use(rig: Rig) -> None:
    rig.mount(stats=STATS.format(volume=rig.volume, layout="not configured"))
    assert rig.run().returncode == 0


def test_volume_that_is_no_mount(rig: Rig) -> None:
    (rig.root / "proc" / "self" / "mountinfo").write_text("21 1 8:1 / / ro,relatime shared:1 - ext4 /dev/root ro\n")
    assert refused(rig)[:2] == (11, "not-mounted")


WRITES = [
    ("Read-only file system", 13, "read-only"),
    ("No space left on device", 16, "no-space"),
    ("Disk quota exceeded", 16, "no-space"),
    ("Stale file handle", 17, "stale"),
    ("Input/output error", 14, "unwritable"),
]


@pytest.mark.parametrize(("words", "status", "reason"), WRITES)
def test_volume_that_cannot_be_written(rig: Rig, words: str, status: int, reason: str) -> None:
    rig.shim("dd", f"#!/bin/sh\necho \"dd: failed to open '$1': {words}\" >&2\nexit 1\n")
    got = refused(rig)
    assert got[:2] == (status, reason)
    assert words in got[2] or reason == "read-only"


@pytest.mark.parametrize(("owner", "status", "reason"), [("0:0", 15, "wrong-owner"), ("999:999", 14, "unwritable")])
def test_volume_of_another_owner(rig: Rig, owner: str, status: int, reason: str) -> None:
    rig.shim("dd", "#!/bin/sh\necho \"dd: failed to open '$1': Permission denied\" >&2\nexit 1\n")
    rig.shim("id", "#!/bin/sh\necho 999\n")
    rig.shim("stat", f"#!/bin/sh\ncase $2 in %a) echo 755 ;; *) echo {owner} ;; esac\n")
    assert refused(rig)[:2] == (status, reason)
    assert owner in rig.message


def test_data_of_another_owner(rig: Rig) -> None:
    rig.fill()
    rig.shim("id", "#!/bin/sh\necho 999\n")
    rig.shim("stat", "#!/bin/sh\necho 0\n")
    assert refused(rig)[:2] == (15, "wrong-owner")


def test_too_little_space_for_a_first_start(rig: Rig) -> None:
    assert refused(rig, PETSET_FIRST_START_MIB="999999999")[:2] == (16, "no-space")


@in_each_shell
def test_locked_volume(rig: Rig) -> None:
    rig.fill()
    with (rig.volume / ".petset-lock").open("w") as lock:
        lock.write("pod mysql-1 uid 1234 on node-b since 2026-01-01T00:00:00Z\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        got = refused(rig)
    assert got[:2] == (30, "locked")
    assert "in use by pod mysql-1 uid 1234 on node-b since" in got[2]
    assert rig.run(PETSET_POD_UID="5678", PETSET_NODE="node-c").returncode == 0
    assert (rig.volume / ".petset-lock").read_text().startswith("pod mysql-1 uid 5678 on node-c since 2")


@in_each_shell
def test_wait_for_the_lock_says_whose(rig: Rig) -> None:
    rig.mount(stats=STATS.format(volume=rig.volume, layout="not configured"))
    (rig.volume / ".petset-lock").write_text("pod mysql-1 uid 1\n")
    with (rig.volume / ".petset-lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rig.shim("sleep", "#!/bin/sh\n")
        done = rig.run(PETSET_LOCK_WAIT_S="11")
    assert done.stderr.count("waiting for the lock of pod mysql-1 uid 1: ") == 2
    assert "after its lease of 30 s" in done.stderr


@in_each_shell
def test_volume_without_locks(rig: Rig) -> None:
    rig.shim("flock", "#!/bin/sh\necho 'flock: 9: No locks available' >&2\nexit 71\n")
    assert refused(rig)[:2] == (31, "no-locks")
    assert "No locks available" in rig.message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("root-password", None, "key root-password is missing"),
        ("admin-password", b"", "key admin-password of the Secret is empty"),
        ("admin-password", b"\n", "key admin-password of the Secret is empty"),
        ("agent-password", b"a\nb", "control characters or several lines"),
        ("agent-password", b"a\0b", "control characters or several lines"),
        ("replication-password", "ü".encode() * 17, "has 34 bytes, MySQL takes 32"),
    ],
)
def test_secret_is_refused(rig: Rig, key: str, value: bytes | None, words: str) -> None:
    if value is None:
        (rig.secret / key).unlink()
    else:
        (rig.secret / key).write_bytes(value)
    got = refused(rig)
    assert got[:2] == (40, "bad-secret")
    assert words in got[2]


def test_application_account_needs_all_its_keys(rig: Rig) -> None:
    (rig.secret / "app-user").write_text("shop")
    assert refused(rig)[:2] == (40, "bad-secret")
    assert "app-password" in rig.message


def test_missing_certificate(rig: Rig) -> None:
    (rig.root / "petset" / "tls" / "tls.key").write_text("")
    assert refused(rig)[:2] == (40, "bad-secret")


def test_settings_that_mysqld_does_not_take(rig: Rig) -> None:
    (rig.root / "invalid").touch()
    assert refused(rig)[:2] == (41, "bad-setting")
    assert "[MY-1] unknown variable 'x=1'." in rig.message


# ---- start.sh --------------------------------------------------------------------------------------------------------


def test_start_needs_a_prepared_volume(rig: Rig) -> None:
    assert refused(rig, "start.sh")[:2] == (32, "not-prepared")


@in_each_shell
def test_start_becomes_mysqld(rig: Rig) -> None:
    rig.fill()
    run = rig.root / "petset" / "run"
    for name in ("mysqld.sock", "mysqld.sock.lock", "mysqld.pid"):
        (run / name).touch()
    (run / "tmp").mkdir()
    (run / "tmp" / "old").touch()
    done = rig.run("start.sh")
    assert done.returncode == 0, done.stderr
    assert (rig.root / "mysqld.calls").read_text() == f"--defaults-file={run}/my.cnf\n"
    assert sorted(os.listdir(run)) == ["innodb-temp", "main.pid", "my.cnf", "tmp"]
    assert os.listdir(run / "tmp") == []
    assert rig.message == ""


@in_each_shell
@pytest.mark.parametrize(("mode", "becomes"), [(0o666, 0o640), (0o642, 0o640), (0o640, 0o640), (0o644, 0o644)])
def test_rp_rec_05_an_auto_cnf_that_everybody_may_write_is_repaired(rig: Rig, mode: int, becomes: int) -> None:
    rig.fill()
    path = rig.data / "auto.cnf"
    path.chmod(mode)
    before = path.read_text()
    done = rig.run("start.sh")
    assert done.returncode == 0, done.stderr
    assert (path.stat().st_mode & 0o777, path.read_text()) == (becomes, before)
    assert (f"had mode {mode:o}" in done.stderr) is (mode != becomes)


@in_each_shell
def test_start_passes_its_lock_and_its_place_to_mysqld(rig: Rig) -> None:
    rig.fill()
    with subprocess.Popen(
        [*rig.shell, str(rig.boot / "start.sh")],
        env=rig.environment | {"FAKE_SERVE_S": "30"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert "starting mysqld, read-only" in process.stderr.readline()
        pid = rig.root / "petset" / "run" / "main.pid"
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            assert process.poll() is None
        assert int(pid.read_text()) == process.pid
        again = rig.run("start.sh")
        assert again.returncode == 30
        process.terminate()
        assert process.wait(timeout=10) == -signal.SIGTERM
    assert rig.run().returncode == 0


class Agent:
    """Answers /start with each of ``answers`` in turn, the last one for ever, and keeps what it was asked."""

    def __init__(self, run: Path, *answers: tuple[int, str]) -> None:
        asked = self.asked = list[tuple[str, str]]()
        left = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, (run / "starting").read_text().strip()))
                status, text = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(f"{text}\n".encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.port = str(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def give_log(rig: Rig, *, in_use: bool) -> None:
    """A binary log that its mysqld has closed, or not, and what the agent had said of it."""
    (rig.data / "binlog.index").write_text("./binlog.000001\n./binlog.000002\n")
    (rig.data / "binlog.000001").write_bytes(b"\xfebin" + b"\0" * 200)
    (rig.data / "binlog.000002").write_bytes(b"\xfebin" + b"\0" * 17 + bytes([int(in_use), 0]) + b"\0" * 200)
    (rig.volume / ".petset-guarded").write_text("binlog.000001 5\n")


@in_each_shell
def test_a_pet_whose_mysqld_was_killed_starts_when_its_agent_says_so(rig: Rig) -> None:
    rig.fill()
    give_log(rig, in_use=True)
    run = rig.root / "petset" / "run"
    agent = Agent(run, (503, "mysql-0 has not opened yet"), (503, "mysql-0 has not opened yet"), (200, "yes"))
    try:
        done = rig.run("start.sh", PETSET_AGENT_PORT=agent.port)
    finally:
        agent.stop()
    assert done.returncode == 0, done.stderr
    assert len(agent.asked) == 3
    assert len({token for _path, token in agent.asked}) == 1
    assert {path.removeprefix("/start?") == token != "" for path, token in agent.asked} == {True}
    assert done.stderr.count("its agent says when it may start: mysql-0 has not opened yet") == 1
    assert not (run / "starting").exists()
    assert not (rig.volume / ".petset-guarded").exists()


@pytest.mark.parametrize("in_use", [True, False])
def test_who_need_not_ask_or_cannot_ask_starts_at_once(rig: Rig, in_use: bool) -> None:
    """A log that was closed has no such end; and there are sets without agents."""
    rig.fill()
    give_log(rig, in_use=in_use)
    agent = Agent(rig.root, (503, "never"))
    try:
        done = rig.run("start.sh", **({} if in_use else {"PETSET_AGENT_PORT": agent.port}))
    finally:
        agent.stop()
    assert done.returncode == 0, done.stderr
    assert agent.asked == []
    assert not (rig.volume / ".petset-guarded").exists(), "what it says holds for a mysqld that runs"


def test_an_agent_that_knows_no_start_or_is_silent_is_not_waited_for(rig: Rig) -> None:
    rig.fill()
    give_log(rig, in_use=True)
    agent = Agent(rig.root / "petset" / "run", (404, "/writer /reader"))
    try:
        assert rig.run("start.sh", PETSET_AGENT_PORT=agent.port).returncode == 0
    finally:
        agent.stop()
    assert len(agent.asked) == 1
    done = rig.run("start.sh", PETSET_AGENT_PORT="1", PETSET_AGENT_SILENT_S="1")
    assert done.returncode == 0, done.stderr
    assert "the agent does not answer: mysqld starts with all that it has" in done.stderr


# ---- the table in the docs -------------------------------------------------------------------------------------------


def test_docs_name_every_refusal() -> None:
    code = (Path(__file__).resolve().parents[4] / "roles/pet_set/files/boot/lib.sh").read_text()
    statuses = dict(re.findall(r"^ {8}([a-z-]+)\) status=(\d+) ;;", code, re.MULTILINE))
    assert dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", DOCS.read_text(), re.MULTILINE)) == statuses
    assert len(set(statuses.values())) == len(statuses) > 20
    used = set()
    for path in (Path(__file__).resolve().parents[4] / "roles/pet_set/files/boot").glob("*.sh"):
        used |= set(re.findall(r"\brefuse ([a-z-]+) [\"\\\\]", path.read_text()))
    assert used == set(statuses)


def test_identity_is_plain_json(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "pod")
    assert rig.run().returncode == 0
    assert json.loads((rig.data / ".petset-identity.json").read_text()) == rig.identity
