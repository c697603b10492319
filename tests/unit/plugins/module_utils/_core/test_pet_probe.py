# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import pet_probe
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_probe import Probe, judge_probes, parse_probe

ROOT = Path(__file__).resolve().parents[5]
OUTPUT = """\
mount nfs4 192.0.2.10:/srv/0 rw,vers=4.1,hard,proto=tcp rw,nosuid
nfsv4 bm0=0xfdffbfff,bm1=0x40f9be3e,acl=0x3,sessions,pnfs=LAYOUT_FLEX_FILES,lease=90,lease_expired=0
layoutget 12 12 0 3120 1872 4 51 55 0
size 1000 4096
file ok
identity bbbbbbbb-0000-4000-8000-000000000001
write refused
dns mysql-0.db 10.0.0.1
dns mysql-1.db 10.0.0.2
ping mysql-0.db 9.7.4
ping mysql-1.db failed
sql mysql-0.db ok
sql mysql-1.db failed ERROR 2013: Lost connection
noise
"""


def test_the_output_is_read() -> None:
    probe = parse_probe(OUTPUT)
    assert probe.mount is not None
    assert (probe.mount.type, probe.mount.source) == ("nfs4", "192.0.2.10:/srv/0")
    assert probe.mount.options == ("hard", "nosuid", "proto=tcp", "rw", "vers=4.1")
    assert (probe.mount.pnfs, probe.mount.layouts) == ("LAYOUT_FLEX_FILES", 12)
    assert probe.dns["mysql-1.db"] == ("10.0.0.2",)
    assert probe.ping == {"mysql-0.db": "9.7.4", "mysql-1.db": "failed"}
    assert probe.sql == {"mysql-0.db": "ok", "mysql-1.db": "ERROR 2013: Lost connection"}
    assert (probe.size, probe.free_bytes, probe.file) == ("ok", 4096000, "ok")
    assert (probe.identity, probe.write) == ("bbbbbbbb-0000-4000-8000-000000000001", "refused")
    assert parse_probe("identity \nwrite unknown") == parse_probe("") == Probe()


@pytest.mark.parametrize(
    ("said", "size", "file"),
    [
        ("size silent\nfile silent", "silent", "silent"),
        ("size 7 4096\nfile silent", "ok", "silent"),
        ("size failed Stale file handle\nfile failed Stale file handle", "Stale file handle", "Stale file handle"),
        ("size 7 4096\nfile failed Permission denied", "ok", "Permission denied"),
    ],
)
def test_how_a_volume_answers(said: str, size: str, file: str) -> None:
    judged = judge_probes({"mysql-0": parse_probe(said)}, {}, "db")["mysql-0"]["storage"]
    assert (judged["size"], judged["file"]) == (size, file)


def test_the_program_asks_the_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pet_probe, "SCRIPT", pet_probe.SCRIPT.replace(pet_probe.VOLUME_PATH, str(tmp_path)))

    def look() -> Probe:
        command = pet_probe.probe_command([])
        return parse_probe(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)

    gone = look()
    assert (gone.size, gone.file) == ("ok", "No such file or directory")
    # Opening a pipe that nobody writes to waits, as a file of a server in its grace period does.
    os.mkfifo(tmp_path / pet_probe.IDENTITY_FILE)
    assert look().file == "silent"
    (tmp_path / pet_probe.IDENTITY_FILE).unlink()
    identity = (
        (ROOT / "roles/pet_set/files/boot/lib.sh").read_text().partition("cat <<END\n{\n")[2].partition("\nEND")[0]
    )
    uuid = "bbbbbbbb-0000-4000-8000-000000000001"
    (tmp_path / pet_probe.IDENTITY_FILE).write_text("{\n" + identity.replace("$1", uuid))
    good = look()
    assert good.identity == uuid
    assert (gone.identity, gone.write) == ("", "ok")
    assert (good.size, good.file) == ("ok", "ok")
    assert good.free_bytes is not None
    assert good.free_bytes > 0


# Of Linux 6.12: another mount before it, ours twice (the later one is on top), a local one after it.
MOUNTSTATS = """\
device tmpfs mounted on /dev with fstype tmpfs
device 192.0.2.10:/srv/other mounted on /mnt with fstype nfs4 statvers=1.1
\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=LAYOUT_SCSI,lease=90
\tper-op statistics
\t   LAYOUTGET: 9 9 0 1 1 0 0 0 0
device 192.0.2.10:/srv/0 mounted on {path} with fstype nfs4 statvers=1.1
\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=LAYOUT_SCSI,lease=90
\tper-op statistics
\t   LAYOUTGET: 8 8 0 1 1 0 0 0 0
device 192.0.2.10:/srv/0 mounted on {path} with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,hard,proto=tcp
\tnfsv4:\tbm0=0xfdffbfff,bm1=0x40f9be3e,acl=0x3,sessions,pnfs=not configured,lease=90,lease_expired=0
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
\t   LAYOUTGET: 0 0 0 0 0 0 0 0 0
device proc mounted on {path}/proc with fstype proc
"""


@pytest.mark.parametrize("text", ["", MOUNTSTATS])
def test_the_program_reads_the_layouts_of_its_own_mount(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    path = pet_probe.VOLUME_PATH
    (tmp_path / "mountstats").write_text(text.replace("{path}", path))
    (tmp_path / "mountinfo").write_text(f"36 35 0:52 / {path} rw,nosuid - nfs4 192.0.2.10:/srv/0 rw,hard\n")
    monkeypatch.setattr(pet_probe, "SCRIPT", pet_probe.SCRIPT.replace("/proc/self", str(tmp_path)))
    command = pet_probe.probe_command([])
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    mount = parse_probe(done.stdout).mount
    assert mount is not None
    assert (mount.source, mount.layouts) == ("192.0.2.10:/srv/0", 0)
    assert mount.pnfs == ("not configured" if text else "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may drop its rights")
def test_the_program_asks_whether_it_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o755)
    for parent in folder.parents:
        if parent.owner() != "root" or parent == Path("/tmp"):
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    monkeypatch.setattr(pet_probe, "SCRIPT", pet_probe.SCRIPT.replace(pet_probe.VOLUME_PATH, str(folder)))
    said = subprocess.run(
        pet_probe.probe_command([]), capture_output=True, text=True, check=True, timeout=30, user=65534, group=65534
    )
    assert parse_probe(said.stdout).write == "refused"
    assert list(folder.iterdir()) == []


def test_names_and_servers_are_judged() -> None:
    judged = judge_probes({"mysql-0": parse_probe(OUTPUT)}, {"mysql-0": "10.0.0.1", "mysql-1": "10.0.0.9"}, "db")
    assert judged["mysql-0"]["dns_ok"] is False
    assert judged["mysql-0"]["dns_wrong"] == {"mysql-1.db": ["10.0.0.2"]}
    assert judged["mysql-0"]["ping_ok"] is False


@pytest.mark.parametrize("probe", [Probe(failure="forbidden"), parse_probe("ping mysql-0.db unknown")])
def test_what_nobody_could_see_is_not_bad_news(probe: Probe) -> None:
    assert judge_probes({"mysql-0": probe}, {"mysql-0": "10.0.0.1"}, "db")["mysql-0"]["ping_ok"] is None


@pytest.mark.parametrize(
    ("said", "is_right"), [("ok", True), ("unknown", True), ("failed ERROR 1045 (28000): Access denied", False)]
)
def test_a_greeting_is_not_enough(said: str, is_right: bool) -> None:
    """A server at its limit of connections, or with other passwords, greets and answers nobody."""
    probe = parse_probe(f"ping mysql-0.db 9.7.4\nsql mysql-0.db {said}")
    assert judge_probes({"mysql-0": probe}, {"mysql-0": "10.0.0.1"}, "db")["mysql-0"]["ping_ok"] is is_right


def greet(server: socket.socket) -> None:
    with server:
        connection, _peer = server.accept()
        with connection:
            connection.sendall(b"\x4a\x00\x00\x00\x0a" + b"9.7.4\x00" + b"\x08\x00\x00\x00saltsalt\x00rest")


def test_the_program_hears_a_server_and_tells_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    speaking = threading.Thread(target=greet, args=(server,))
    speaking.start()
    monkeypatch.setattr(pet_probe, "SCRIPT", pet_probe.SCRIPT.replace("port=3306", f"port={port}"))
    command = pet_probe.probe_command(["localhost"])
    heard = parse_probe(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)
    speaking.join(10)
    assert heard.ping == {"localhost": "9.7.4"}
    assert {"127.0.0.1", "::1"} & set(heard.dns["localhost"])
    silent = parse_probe(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)
    assert silent.ping == {"localhost": "failed"}


def test_the_program_is_posix_shell() -> None:
    subprocess.run(["sh", "-n", "-c", pet_probe.SCRIPT], check=True)


PASSWORD = 'it\'s "100%" $ecret\\ \\n # ; end'
CLIENT = """\
#!/bin/sh
echo "$@" >"$0.words"
cat "${1#--defaults-file=}" >"$0.options"
cat "$0.says"
exit "$(cat "$0.status")"
"""


@pytest.mark.parametrize(
    ("says", "status", "told"),
    [
        ("1\n", 0, "ok"),
        ("ERROR 1045 (28000): Access denied\n", 1, "ERROR 1045 (28000): Access denied"),
        ("mysql: [ERROR] unknown variable 'ssl-mode=VERIFY_CA'.\n", 7, "unknown"),
        ("", 0, "failed"),
    ],
)
def test_the_program_asks_in_sql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, status: int, told: str
) -> None:
    """As the replication's account; the password, with any sign, only through a pipe."""
    client = tmp_path / "mysql"
    client.write_text(CLIENT)
    client.chmod(0o755)
    (tmp_path / "mysql.says").write_text(says)
    (tmp_path / "mysql.status").write_text(str(status))
    (tmp_path / "replication-password").write_text(PASSWORD)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    speaking = threading.Thread(target=greet, args=(server,))
    speaking.start()
    script = pet_probe.SCRIPT.replace("port=3306", f"port={port}").replace(pet_probe.SECRET_PATH, str(tmp_path))
    monkeypatch.setattr(pet_probe, "SCRIPT", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(
        pet_probe.probe_command(["localhost"]), capture_output=True, text=True, check=True, timeout=30
    )
    speaking.join(10)
    assert parse_probe(done.stdout).sql == {"localhost": told}
    words = (tmp_path / "mysql.words").read_text()
    assert f"--host=localhost --port={port}" in words
    options = dict(line.partition("=")[::2] for line in (tmp_path / "mysql.options").read_text().splitlines()[1:])
    assert options["user"] == "petset_repl"
    assert options["ssl-mode"] == "VERIFY_CA"
    # What MySQL makes of it: the quotes around it go, and what a backslash protects stands for itself.
    assert re.sub(r"\\(.)", r"\1", options["password"][1:-1]) == PASSWORD
    assert PASSWORD not in words + done.stdout + done.stderr
