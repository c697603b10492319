# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at and changing a server whose files are under a temporary folder, with exportfs played by a double.

The double keeps a table as exportfs does. The real exportfs is asked on the lab (tests/lab/test_exports.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import (
    encode,
    parse_exports,
    parse_table,
    render_path,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import (
    Desired,
    parse_desired,
    render_drop_in,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_plan import plan_exports
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_steps import FlushCaches
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import Facts, build_table
from ansible_collections.stateful.petset.plugins.module_utils._io import nfs
from ansible_collections.stateful.petset.plugins.module_utils._io.nfs import NfsServer, Outcome, RolledBack

OWN = "/etc/exports.d/mysql.exports"
HEAD = render_drop_in("mysql", ()).decode()
MOUNTINFO = "22 1 98:0 / / rw - ext4 /dev/root rw\n25 22 0:22 / /srv/ovl rw - overlay overlay rw\n"


class Server:
    """A server in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[list[str]] = []
        self.stderr = ""
        self.status = 0
        self.drops: set[str] = set()
        for name in ("etc/exports.d", "srv/a", "srv/b", "srv/ovl", "var/lib/nfs", "proc/self"):
            (root / name).mkdir(parents=True)
        self.write("/proc/self/mountinfo", MOUNTINFO)
        self.io = NfsServer(self.run, "/usr/sbin/exportfs", str(root))

    def write(self, path: str, text: str) -> None:
        (self.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path[1:]).write_bytes(encode(text))

    def read(self, path: str) -> str:
        return (self.root / path[1:]).read_text()

    def nfsd(self) -> None:
        """The kernel's server runs and has its caches."""
        self.write("/proc/fs/nfsd/threads", "8\n")
        for name in nfs.FLUSHED:
            self.write(f"/proc/net/rpc/{name}/flush", "")

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.calls.append(list(argv))
        files = [parse_exports(file.raw or b"", file.name) for file in self.io.observe_files()]
        table = build_table(files, Facts())
        lines = [
            f"{render_path(row.path)}\t{row.client}({','.join(render_table_options(row.entry.options))})\n"
            for row in table.rows
            if row.client not in self.drops
        ]
        self.write("/var/lib/nfs/etab", "".join(lines))
        return self.status, "", self.stderr

    def wants(self, *exports: dict[str, Any], **others: Any) -> Desired:
        whole: dict[str, Any] = {
            "name": "mysql", "state": "present", "purge": True, "withdraw_in_use": False, "adopt": False,
            "machines": None, "exports": [],
        }  # fmt: skip
        for export in exports:
            item = {
                "path": "/srv/a", "state": "present", "clients": [{"client": "192.0.2.0/24", "options": None}],
                "options": ["rw"], "fsid": "7", "fsid_seed": None, "owner": None, "group": None, "mode": None,
                "create": False,
            }  # fmt: skip
            whole["exports"].append({**item, **export})
        return parse_desired({**whole, **others})

    def converge(self, desired: Desired) -> tuple[bool, Outcome]:
        plan = plan_exports(desired, self.io.observe(desired))
        return plan.changed, self.io.apply(plan, desired)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_first_and_second_run(server: Server) -> None:
    changed, outcome = server.converge(server.wants({}))
    assert changed
    assert server.calls == [["/usr/sbin/exportfs", "-ra"]]
    assert outcome.status == 0
    assert len(outcome.done) == 2
    assert "/srv/a 192.0.2.0/24(rw," in server.read(OWN)
    assert (server.root / OWN[1:]).stat().st_mode & 0o777 == 0o644
    assert os.listdir(server.root / "etc/exports.d") == ["mysql.exports"]
    changed, _outcome = server.converge(server.wants({}))
    assert not changed
    assert len(server.calls) == 1


def test_directories_are_made_with_their_parents_and_mode(server: Server) -> None:
    uid, gid = str(os.getuid()), str(os.getgid())
    export = {"path": "/srv/pets/my data/0", "create": True, "mode": "0750", "owner": uid, "group": gid}
    assert server.converge(server.wants(export))[0]
    made = server.root / "srv/pets/my data/0"
    assert made.stat().st_mode & 0o7777 == 0o750
    assert not server.converge(server.wants(export))[0]
    made.chmod(0o700)
    (made / "data").write_text("x")
    changed, outcome = server.converge(server.wants(export))
    assert changed
    assert len(server.calls) == 1
    assert "0700" in outcome.done[0]
    assert made.stat().st_mode & 0o7777 == 0o750
    assert (made / "data").read_text() == "x"


@pytest.mark.parametrize("old", ["", HEAD + "/srv/b 192.0.2.0/24(ro,fsid=8)\n"])
def test_rp_nfs_11_roll_back(server: Server, old: str) -> None:
    if old:
        server.write(OWN, old)
        server.run([])
        server.calls.clear()
    server.drops = {"192.0.2.0/24"} if not old else set()
    server.stderr = f'exportfs: {OWN}:3: unknown keyword "xprtsec=tls"\n'
    with pytest.raises(RolledBack) as problem:
        server.converge(server.wants({"options": ["rw", "xprtsec=tls"]}))
    assert 'unknown keyword "xprtsec=tls"' in str(problem.value)
    assert ("back in place" if old else "gone again") in str(problem.value)
    assert (server.read(OWN) if old else (server.root / OWN[1:]).exists()) == (old or False)
    assert len(server.calls) == 2
    assert os.listdir(server.root / "etc/exports.d") == (["mysql.exports"] if old else [])


def test_rp_nfs_04_a_client_that_is_missing_in_the_table(server: Server) -> None:
    """Exit status 0, nothing about our file on standard error: the table tells."""
    server.drops = {"192.0.2.0/24"}
    server.stderr = "exportfs: something unheard of\n"
    with pytest.raises(RolledBack, match=r"/srv/a for 192.0.2.0/24 is not in the export table.*something unheard of"):
        server.converge(server.wants({}))
    assert not (server.root / OWN[1:]).exists()


def test_a_drop_in_that_is_removed_comes_back_when_the_row_stays(server: Server) -> None:
    server.converge(server.wants({}))
    text = server.read(OWN)
    kept = server.read("/var/lib/nfs/etab")

    def stubborn(argv: Sequence[str]) -> tuple[int, str, str]:
        server.write("/var/lib/nfs/etab", kept)
        return 0, "", ""

    server.io.run = stubborn
    with pytest.raises(RolledBack, match="still in the export table"):
        server.converge(server.wants(state="absent"))
    assert server.read(OWN) == text


def test_rp_nfs_03_foreign_errors_keep_our_file(server: Server) -> None:
    server.write("/etc/exports", "/srv/b 192.0.2.1(ro, rw)\n")
    server.stderr, server.status = "exportfs: /etc/exports:1: syntax error: bad option list\n", 1
    changed, outcome = server.converge(server.wants({}))
    assert changed
    assert outcome.foreign == ["/etc/exports:1: syntax error: bad option list"]
    assert "/srv/a" in server.read(OWN)
    assert server.read("/etc/exports") == "/srv/b 192.0.2.1(ro, rw)\n"


def test_rp_nfs_01_flush(server: Server) -> None:
    server.nfsd()
    server.converge(server.wants({}))
    assert all(server.read(f"/proc/net/rpc/{name}/flush").strip().isdigit() for name in nfs.FLUSHED)


@pytest.mark.parametrize("moment", ["_exportfs", "_flush"])
def test_rp_nfs_01_a_run_killed_before_its_flush(server: Server, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The table has the new name by then, so that only the killed run knew that it was new."""
    server.nfsd()
    server.converge(server.wants({}))
    more = server.wants(
        {"clients": [{"client": name, "options": None} for name in ("192.0.2.0/24", "192.0.2.11", "*")]}
    )

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(server.io, moment, die)
        with pytest.raises(Killed):
            server.converge(more)
    if moment == "_exportfs":
        # Somebody else's run exports it; the row is there, and nothing was flushed.
        server.run([])
    changed, outcome = server.converge(more)
    assert changed
    assert outcome.done == ["flush the kernel's caches of client names, because of *, 192.0.2.11"]
    assert all(server.read(f"/proc/net/rpc/{name}/flush").strip().isdigit() for name in nfs.FLUSHED)
    assert not server.converge(more)[0]
    assert list((server.root / nfs.OWED[1:]).iterdir()) == []


def test_rp_nfs_01_a_flush_that_does_nothing_is_told(server: Server) -> None:
    """The files of a test are no kernel: what is known stays."""
    server.nfsd()
    known = "#domain\n{hash}nfsd 192.0.2.11 {names}\n"
    server.write("/proc/net/rpc/auth.unix.ip/content", known.format(hash="", names="198.51.100.0/24"))
    _changed, outcome = server.converge(server.wants({}))
    (warning,) = [one for one in outcome.warnings if "flushed" in one]
    assert "192.0.2.0/24" in warning
    server.converge(server.wants(state="absent"))
    server.write("/proc/net/rpc/auth.unix.ip/content", known.format(hash="# ", names="198.51.100.0/24"))
    assert not [one for one in server.converge(server.wants({}))[1].warnings if "flushed" in one]


def test_flush_where_a_cache_is_missing(server: Server) -> None:
    server.write("/proc/net/rpc/auth.unix.ip/flush", "")
    server.io._apply_step(FlushCaches(("*",)))
    assert server.read("/proc/net/rpc/auth.unix.ip/flush")


def test_absent_keeps_the_data(server: Server) -> None:
    server.converge(server.wants({}))
    (server.root / "srv/a/ibdata1").write_text("x")
    assert server.converge(server.wants(state="absent"))[0]
    assert not (server.root / OWN[1:]).exists()
    assert parse_table(server.read("/var/lib/nfs/etab").encode()) == ()
    assert (server.root / "srv/a/ibdata1").read_text() == "x"
    assert not server.converge(server.wants(state="absent"))[0]


class Killed(BaseException):
    """The process ends here."""


TWO = [{}, {"path": "/srv/b", "fsid": "8"}]
MORE = {"clients": [{"client": "192.0.2.0/24"}, {"client": "203.0.113.5"}]}


@pytest.mark.parametrize(
    ("before", "after", "row"),
    [
        ({"exports": [MORE]}, {"exports": [{}]}, "203.0.113.5"),
        ({"exports": TWO}, {"exports": [{}]}, "/srv/b"),
        ({"exports": TWO}, {"exports": TWO[1:], "state": "absent"}, "/srv/b"),
        ({"exports": TWO}, {"exports": [], "state": "absent"}, "/srv/a"),
    ],
    ids=["client", "purged", "absent-path", "absent"],
)
def test_what_was_withdrawn_does_not_stay_served_after_a_kill_before_exportfs(
    server: Server, before: dict[str, Any], after: dict[str, Any], row: str
) -> None:
    def wants(exports: list[dict[str, Any]], **others: Any) -> Desired:
        return server.wants(*exports, **others)

    def die(_argv: Sequence[str]) -> tuple[int, str, str]:
        raise Killed

    server.converge(wants(**before))
    server.io.run = die
    with pytest.raises(Killed):
        server.converge(wants(**after))
    assert row in server.read("/var/lib/nfs/etab")
    server.io.run = server.run
    changed, outcome = server.converge(wants(**after))
    assert changed
    assert outcome.status == 0
    assert row not in server.read("/var/lib/nfs/etab")
    assert (server.root / OWN[1:]).exists() == (after["exports"] != [])
    assert "withdrawn" not in (server.read(OWN) if after["exports"] else "")
    calls = len(server.calls)
    assert not server.converge(wants(**after))[0]
    assert len(server.calls) == calls


def test_rows_of_other_paths_that_are_exported_by_hand_are_left_alone(server: Server) -> None:
    server.converge(server.wants({}))
    by_hand = server.read("/var/lib/nfs/etab") + "/srv/b\t203.0.113.5(ro)\n"
    server.write("/var/lib/nfs/etab", by_hand)
    assert not server.converge(server.wants({}))[0]
    assert server.read("/var/lib/nfs/etab") == by_hand


def test_a_client_left_behind_in_the_table_is_seen_to_hold_files_open(server: Server) -> None:
    server.converge(server.wants({}))
    server.write("/var/lib/nfs/etab", server.read("/var/lib/nfs/etab") + "/srv/b\t203.0.113.5(rw)\n")
    file = server.root / "srv/b/ibdata1"
    file.write_text("")
    status = file.stat()
    block = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    server.write("/proc/fs/nfsd/clients/3/info", 'address: "203.0.113.5:890"\n')
    server.write("/proc/fs/nfsd/clients/3/states", f'- 0x1: {{ type: open, superblock: "{block}" }}\n')
    with pytest.raises(Refused, match=r"/srv/b would be withdrawn for 203.0.113.5"):
        server.converge(server.wants({"path": "/srv/b", "fsid": "8"}, state="absent"))


def test_what_the_kernel_still_serves_is_told(server: Server) -> None:
    server.converge(server.wants({}))
    server.write("/proc/fs/nfsd/exports", "/srv/a\t192.0.2.0/24(rw)\n")
    _changed, outcome = server.converge(server.wants(state="absent"))
    assert outcome.warnings == ["the kernel still serves /srv/a to 192.0.2.0/24"]


def test_without_exportfs(server: Server) -> None:
    server.io.exportfs = None
    with pytest.raises(Refused, match="nfs-utils"):
        server.converge(server.wants({}))
    assert not (server.root / OWN[1:]).exists()


def test_files_in_reading_order_and_what_is_skipped(server: Server) -> None:
    for name in ("10-b.exports", "9-a.exports", "x.conf", ".h.exports"):
        server.write(f"/etc/exports.d/{name}", "")
    (server.root / "etc/exports.d/dir.exports").mkdir()
    (server.root / "etc/exports.d/gone.exports").symlink_to("/nonexistent")
    (server.root / "etc/exports.d/link.exports").symlink_to(server.root / "srv")
    found = server.io.observe_files()
    folder = "/etc/exports.d/"
    names = ["9-a.exports", "10-b.exports", "gone.exports", "link.exports"]
    assert [file.name for file in found] == [folder + name for name in names]
    assert found[2].raw is None
    assert "No such file" in found[2].error
    assert found[3].raw == b""
    server.write("/etc/exports", "")
    assert server.io.observe_files()[0].name == "/etc/exports"
    assert server.io.observe_skipped() == (folder + ".h.exports", folder + "x.conf")


def test_paths(server: Server) -> None:
    (server.root / "srv/file").write_text("")
    (server.root / "srv/link").symlink_to(server.root / "srv/a")
    (server.root / "srv/a").chmod(0o751)
    facts = server.io.observe_paths(["/srv/a", "/srv/file", "/srv/link", "/srv/new/0", "/srv/ovl/x", "rel", "/srv/ovl"])
    assert facts["/srv/a"].kind == "directory"
    assert facts["/srv/a"].mode == 0o751
    assert facts["/srv/a"].fstype == "ext4"
    assert not facts["/srv/a"].is_mountpoint
    assert facts["/srv/file"].kind == "file"
    assert facts["/srv/link"].real == "/srv/a"
    assert (facts["/srv/new/0"].kind, facts["/srv/new/0"].fstype) == ("missing", "ext4")
    assert facts["/srv/ovl/x"].fstype == "overlay"
    assert facts["/srv/ovl"].is_mountpoint
    assert facts["rel"].kind == "missing"


def test_a_directory_below_a_link_that_does_not_exist_yet(server: Server) -> None:
    (server.root / "srv/link").symlink_to(server.root / "srv/b")
    assert server.io.observe_paths(["/srv/link/0"])["/srv/link/0"].real == "/srv/b/0"


def test_names(server: Server) -> None:
    hosts = server.io.observe_hosts(["localhost", "192.0.2.1", "*", "@g", "10.0.0.0/8", "fe80::1%lo"])
    assert set(hosts) == {"localhost"}
    assert hosts["localhost"] is not None
    assert set(hosts["localhost"].addresses) <= {"127.0.0.1", "::1"}


def test_a_name_that_does_not_resolve(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no such host")

    monkeypatch.setattr(nfs.socket, "getaddrinfo", refuse)
    assert server.io.observe_hosts(["gone.example.org"]) == {"gone.example.org": None}


def test_rp_nfs_09_who_holds_files_open(server: Server) -> None:
    file = server.root / "srv/a/sub/ibdata1"
    file.parent.mkdir()
    file.write_text("")
    status = file.stat()
    block = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    server.write("/proc/fs/nfsd/clients/3/info", 'address: "192.0.2.11:890"\n')
    server.write("/proc/fs/nfsd/clients/3/states", f'- 0x1: {{ type: open, superblock: "{block}" }}\n')
    server.write("/proc/fs/nfsd/clients/4/info", 'address: "192.0.2.12:890"\n')
    server.write("/proc/fs/nfsd/clients/4/states", "")
    assert server.io.observe_busy(["/srv/a", "/srv/b"]) == {"/srv/a": ("192.0.2.11",)}
    server.converge(server.wants({}))
    with pytest.raises(Refused, match=r"withdrawn for 192.0.2.11"):
        server.converge(server.wants(state="absent"))
    assert server.converge(server.wants(state="absent", withdraw_in_use=True))[0]


def test_server_facts(server: Server) -> None:
    server.write("/proc/fs/nfsd/threads", "8\n")
    server.write("/proc/fs/nfsd/versions", "-3 +4 -4.0 +4.1 +4.2\n")
    server.write("/proc/fs/nfsd/nfsv4leasetime", "30\n")
    server.write("/proc/fs/nfsd/nfsv4gracetime", "20\n")
    facts = server.io.observe_server()
    assert (facts.threads, facts.lease_s, facts.grace_s) == (8, 30, 20)
    assert not facts.versions["3"]
    assert facts.clients == ()
    assert (facts.listening, facts.enabled, facts.settings, facts.delegations) == (False, False, None, None)


def test_whether_the_server_is_set_up(server: Server) -> None:
    listen = (
        "  2: 00000000000000000000000000000000:0801 00000000000000000000000000000000:0000 0A 00000000:00000000 00\n"
    )
    server.write("/proc/net/tcp", "  0: 0100007F:0801 0100007F:9C40 01 00000000:00000000 00:00000000\n")
    server.write("/proc/sys/fs/leases-enable", "0\n")
    server.write("/etc/nfs.conf.d/petset.conf", "[nfsd]\n")
    facts = server.io.observe_server()
    assert (facts.listening, facts.settings, facts.delegations) == (False, "[nfsd]\n", False)
    server.write("/proc/net/tcp6", listen)
    server.write("/etc/systemd/system/multi-user.target.wants/nfs-server.service", "")
    server.write("/proc/sys/fs/leases-enable", "1\n")
    facts = server.io.observe_server()
    assert (facts.listening, facts.enabled, facts.delegations) == (True, True, True)


def test_a_server_without_nfsd(server: Server) -> None:
    facts = server.io.observe_server()
    assert (facts.threads, facts.lease_s, dict(facts.versions)) == (0, None, {})


def test_users_and_groups(server: Server) -> None:
    snapshot = server.io.observe(server.wants({"owner": "root", "group": "no-such-group"}))
    assert snapshot.users == {"root": 0}
    assert snapshot.groups == {"no-such-group": None}
    assert server.io.observe(server.wants({"owner": "999"})).users == {"999": 999}


def test_a_write_that_fails_leaves_nothing_behind(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.write(OWN, HEAD + "/srv/b 192.0.2.0/24(ro,fsid=8)\n")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nfs.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        server.converge(server.wants({}))
    assert server.read(OWN) == HEAD + "/srv/b 192.0.2.0/24(ro,fsid=8)\n"
    assert os.listdir(server.root / "etc/exports.d") == ["mysql.exports"]
