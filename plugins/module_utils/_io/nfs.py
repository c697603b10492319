# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NFS server that a module runs on: looking at it, and carrying out a plan.

Runs on servers with Python 3.9 and nothing beside the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import re
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from .._core.errors import PetsetError
from .._core.exports import decode, encode, parse_exports, parse_table, printable
from .._core.exports_clients import ClientKind, Host, classify, parse_address
from .._core.exports_desired import Desired, parse_owed
from .._core.exports_messages import parse_messages, split_by_owner
from .._core.exports_plan import Plan, differences, paths_about, stale_names
from .._core.exports_steps import (
    FileText,
    FlushCaches,
    MakeDirectory,
    MakeFolder,
    Reexport,
    RemoveDropIn,
    SetOwnership,
    Snapshot,
    Step,
    WriteDropIn,
)
from .._core.exports_table import EXPORTS_FILE, EXPORTS_FOLDER, Facts, PathFact, reading_order
from .._core.nfs_proc import (
    Mount,
    NfsClient,
    OpenFile,
    ServerFacts,
    mount_of,
    parse_client_info,
    parse_kernel_table,
    parse_known_addresses,
    parse_listening,
    parse_mountinfo,
    parse_number,
    parse_refused,
    parse_states,
    parse_versions,
)

ETAB = "/var/lib/nfs/etab"
NFSD = "/proc/fs/nfsd"
CACHES = "/proc/net/rpc"
NFS_PORT = 2049
# What the role nfs_exports writes, and what "systemctl enable" makes.
SETTINGS = "/etc/nfs.conf.d/petset.conf"
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/nfs-server.service"
# In this order: what depends on a name after the names (measured, case rp-nfs-01).
FLUSHED = ("auth.unix.ip", "auth.unix.gid", "nfsd.fh", "nfsd.export")
# A file for each drop-in here tells of client names for which the caches have still to be flushed. Gone with a restart
# of the machine, as the caches are.
OWED = "/run/stateful.petset"
# How many files of an export are looked at to find out which ones a client holds open.
WALKED_FILES = 200_000

# (argv) -> exit status, standard output, standard error
Run = Callable[[Sequence[str]], "tuple[int, str, str]"]


class Module(Protocol):
    """What is used of AnsibleModule, which has no types of its own; tests pass a small double."""

    params: Any
    check_mode: bool

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """End as failed."""

    def exit_json(self, **kwargs: Any) -> NoReturn:
        """End as done."""

    def warn(self, warning: str) -> None:
        """Show a warning to the user."""

    def get_bin_path(self, arg: str, *, opt_dirs: Sequence[str]) -> str | None:
        """Find a program."""

    def run_command(self, args: Any, **kwargs: Any) -> tuple[int, str, str]:
        """Run a program."""


class RolledBack(PetsetError):
    """exportfs refused what was written; the old file is back in place and exported again."""

    code = "rolled_back"


@dataclass
class Outcome:
    """What was done, and what exportfs said that is not about us."""

    done: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stderr: str = ""
    status: int | None = None


def find_server(module: Module) -> NfsServer:
    """The server that a module runs on; what its programs say is in English."""
    exportfs = module.get_bin_path("exportfs", opt_dirs=["/usr/sbin", "/sbin"])
    return NfsServer(
        lambda argv: module.run_command(list(argv), environ_update={"LC_ALL": "C", "LANGUAGE": "C"}),
        exportfs,
    )


class NfsServer:
    """``root`` is put before every path, for tests; ``exportfs`` is None where it is not installed."""

    def __init__(self, run: Run, exportfs: str | None, root: str = "") -> None:
        self.run = run
        self.exportfs = exportfs
        self.root = root

    # Looking

    def _at(self, path: str) -> bytes:
        return encode(self.root + path)

    def _read(self, path: str) -> str:
        """A small file, "" when there is none."""
        try:
            with open(self._at(path), "rb") as file:
                return decode(file.read())
        except OSError:
            return ""

    def observe(self, desired: Desired) -> Snapshot:
        """All that the plan needs. Names are looked up, files and directories are only read."""
        files = self.observe_files()
        parsed = {file.name: parse_exports(file.raw or b"", file.name) for file in files}
        entries = [entry for one in parsed.values() for entry in one.entries]
        words = {entry.client for entry in entries}
        words |= {client for export in desired.exports for client, _options in export.clients}
        paths = {entry.path for entry in entries}
        own = parsed.get(desired.file)
        own_text = next((file.raw for file in files if file.name == desired.file), None)
        about = paths_about(desired, () if own is None else own.entries, parse_owed(own_text or b"", desired.file))
        paths |= set(about)
        points = [entry.options.mountpoint for entry in entries]
        points += [options.mountpoint for export in desired.exports for _client, options in export.clients]
        paths |= {point for point in points if point}
        facts = Facts(self.observe_hosts(words), self.observe_paths(paths))
        etab = encode(self._read(ETAB))
        # What is neither in the drop-in nor in the export table cannot be withdrawn.
        served = {entry.path for entry in parse_table(etab)}
        served |= {facts.real(entry.path) for entry in (() if own is None else own.entries)}
        return Snapshot(
            files=files,
            etab=etab or None,
            facts=facts,
            users={name: _user(name) for name in _wanted(export.owner for export in desired.exports)},
            groups={name: _group(name) for name in _wanted(export.group for export in desired.exports)},
            busy=self.observe_busy(sorted(served & {facts.real(path) for path in about})),
            known_addresses=parse_known_addresses(self._read(f"{CACHES}/auth.unix.ip/content")),
            owed_flush=tuple(self._read(_owed_flush(desired)).splitlines()),
            has_folder=os.path.isdir(self._at(EXPORTS_FOLDER)),
            has_exportfs=self.exportfs is not None,
            running=bool(parse_number(self._read(f"{NFSD}/threads"))),
            versions=parse_versions(self._read(f"{NFSD}/versions")),
        )

    def observe_files(self) -> tuple[FileText, ...]:
        """The files that exportfs reads, in its order. It skips folders, and opens links wherever they lead."""
        files = []
        if os.path.lexists(self._at(EXPORTS_FILE)):
            files.append(self._read_export_file(EXPORTS_FILE))
        try:
            found = [(decode(one.name), one) for one in os.scandir(self._at(EXPORTS_FOLDER))]
        except OSError:
            found = []
        regular = [name for name, one in found if one.is_symlink() or one.is_file(follow_symlinks=False)]
        files += [self._read_export_file(f"{EXPORTS_FOLDER}/{name}") for name in reading_order(regular)]
        return tuple(files)

    def observe_skipped(self) -> tuple[str, ...]:
        """Files in exports.d that exportfs does not read because of their name."""
        try:
            names = [decode(name) for name in os.listdir(self._at(EXPORTS_FOLDER))]
        except OSError:
            return ()
        return tuple(f"{EXPORTS_FOLDER}/{name}" for name in sorted(set(names) - set(reading_order(names))))

    def _read_export_file(self, name: str) -> FileText:
        try:
            with open(self._at(name), "rb") as file:
                return FileText(name, file.read())
        except IsADirectoryError:
            # A link to a folder can be opened, and holds nothing.
            return FileText(name, b"")
        except OSError as error:
            return FileText(name, None, error.strerror or str(error))

    def observe_hosts(self, words: Iterable[str]) -> dict[str, Host | None]:
        """Names through the server's own resolver, as exportfs does."""
        hosts: dict[str, Host | None] = {}
        for word in words:
            if classify(word) is not ClientKind.HOST or parse_address(word.partition("%")[0]) is not None:
                continue
            try:
                found = socket.getaddrinfo(word, None, type=socket.SOCK_DGRAM, flags=socket.AI_CANONNAME)
            except (OSError, UnicodeError):
                hosts[word] = None
                continue
            addresses = dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found)
            hosts[word] = Host(found[0][3] or word, tuple(addresses))
        return hosts

    def observe_paths(self, paths: Iterable[str]) -> dict[str, PathFact]:
        """What is at the paths; for one that is missing, the file system that it would be on."""
        mounts = parse_mountinfo(self._read("/proc/self/mountinfo"))
        return {path: self._observe_path(path, mounts) for path in paths}

    def _observe_path(self, path: str, mounts: Sequence[Mount]) -> PathFact:
        if not path.startswith("/"):
            return PathFact("missing", path)
        try:
            status = os.stat(self._at(path))
        except (OSError, ValueError):
            parent = path
            while parent != "/" and not os.path.exists(self._at(parent)):
                parent = os.path.dirname(parent)
            mount = mount_of(self._real(parent), mounts)
            # Where it will be once it is made: a parent may be a link.
            return PathFact("missing", self._real(path), "" if mount is None else mount.fstype)
        real = self._real(path)
        mount = mount_of(real, mounts)
        kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISBLK, "block device"))
        return PathFact(
            kind=next((kind for test, kind in kinds if test(status.st_mode)), "special file"),
            real=real,
            fstype="" if mount is None else mount.fstype,
            is_mountpoint=mount is not None and mount.target == real,
            uid=status.st_uid,
            gid=status.st_gid,
            mode=stat.S_IMODE(status.st_mode),
            mount_options=() if mount is None else mount.options,
        )

    def _real(self, path: str) -> str:
        return decode(os.path.realpath(self._at(path)))[len(os.path.realpath(self.root)) if self.root else 0 :] or "/"

    def observe_clients(self) -> tuple[tuple[NfsClient, tuple[OpenFile, ...]], ...]:
        """The connected NFSv4 clients with the files they hold open."""
        folder = f"{NFSD}/clients"
        try:
            names = sorted(os.listdir(self._at(folder)))
        except OSError:
            return ()
        return tuple(
            (
                parse_client_info(self._read(f"{folder}/{decode(name)}/info")),
                parse_states(self._read(f"{folder}/{decode(name)}/states")),
            )
            for name in names
        )

    def observe_busy(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Which clients hold files open below which of these paths."""
        clients = [(client.address, opened) for client, opened in self.observe_clients() if opened]
        busy = {}
        for path in paths if clients else ():
            wanted = {one for _address, opened in clients for one in opened}
            held = self._files_below(path, wanted)
            addresses = [address for address, opened in clients if held.intersection(opened)]
            if addresses:
                busy[path] = tuple(dict.fromkeys(addresses))
        return busy

    def _files_below(self, path: str, wanted: set[OpenFile]) -> set[OpenFile]:
        """Those of the wanted files that lie below a path; a search with an end."""
        found: set[OpenFile] = set()
        seen = 0
        for folder, folders, files in os.walk(self._at(path)):
            for name in [b".", *folders, *files]:
                seen += 1
                if seen > WALKED_FILES or found == wanted:
                    return found
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(folder, name))
                    one = OpenFile((os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino)
                    if one in wanted:
                        found.add(one)
        return found

    def observe_server(self) -> ServerFacts:
        """How the kernel's server is set up and who uses it."""
        threads = self._read(f"{NFSD}/threads")
        leases = parse_number(self._read("/proc/sys/fs/leases-enable"))
        return ServerFacts(
            threads=parse_number(threads) or 0,
            versions=parse_versions(self._read(f"{NFSD}/versions")),
            lease_s=parse_number(self._read(f"{NFSD}/nfsv4leasetime")),
            grace_s=parse_number(self._read(f"{NFSD}/nfsv4gracetime")),
            clients=tuple(client for client, _opened in self.observe_clients()),
            kernel_table=parse_kernel_table(self._read(f"{NFSD}/exports")),
            refused=parse_refused(self._read(f"{CACHES}/nfsd.export/content")),
            package_version=self._package_version(),
            listening=any(parse_listening(self._read(f"/proc/net/{table}"), NFS_PORT) for table in ("tcp", "tcp6")),
            enabled=os.path.lexists(self._at(UNIT_LINK)),
            settings=self._settings(),
            delegations=None if leases is None else leases != 0,
        )

    def _settings(self) -> str | None:
        """Our settings of the server as they are written down, None when they are not."""
        return self._read(SETTINGS) if os.path.exists(self._at(SETTINGS)) else None

    def _package_version(self) -> str:
        """exportfs has no option for its version; mountd of the same package has."""
        mountd = None if self.exportfs is None else os.path.join(os.path.dirname(self.exportfs), "rpc.mountd")
        if mountd is None or not os.path.exists(mountd):
            return ""
        _status, out, err = self.run([mountd, "--version"])
        match = re.search(r"version\s+(\S+)", out + err)
        return "" if match is None else match.group(1)

    # Changing

    def apply(self, plan: Plan, desired: Desired) -> Outcome:
        """Carry out the plan. Raises RolledBack when exportfs does not take our file."""
        outcome = Outcome()
        undo: WriteDropIn | RemoveDropIn | None = None
        for step in plan.steps:
            if isinstance(step, FlushCaches):
                self._owe(_owed_flush(desired), step.clients)
        for step in plan.steps:
            if isinstance(step, (WriteDropIn, RemoveDropIn)):
                undo = step
            if isinstance(step, Reexport):
                self._reexport(plan, desired, undo, outcome)
            else:
                self._apply_step(step)
            outcome.done.append(step.describe())
            if isinstance(step, FlushCaches):
                self._remove(_owed_flush(desired))
                outcome.warnings += self._review_flush(plan)
        return outcome

    def _owe(self, path: str, names: Sequence[str]) -> None:
        """Write down what has to be flushed, before anything is exported for which it is needed."""
        os.makedirs(self._at(os.path.dirname(path)), mode=0o755, exist_ok=True)
        self._write(path, encode("".join(f"{name}\n" for name in names)))

    def _apply_step(self, step: Step) -> None:
        if isinstance(step, MakeFolder):
            os.makedirs(self._at(step.path), mode=0o755, exist_ok=True)
        elif isinstance(step, MakeDirectory):
            os.makedirs(os.path.dirname(self._at(step.path)), mode=0o755, exist_ok=True)
            os.mkdir(self._at(step.path), step.mode)
            self._own(step.path, step.uid, step.gid, step.mode)
        elif isinstance(step, SetOwnership):
            self._own(step.path, step.uid, step.gid, step.mode)
        elif isinstance(step, WriteDropIn):
            self._write(step.path, step.after)
        elif isinstance(step, RemoveDropIn):
            self._remove(step.path)
        elif isinstance(step, FlushCaches):
            self._flush()

    def _own(self, path: str, uid: int | None, gid: int | None, mode: int | None) -> None:
        """Owner first, as a change of owner may take mode bits away."""
        folder = os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchown(folder, -1 if uid is None else uid, -1 if gid is None else gid)
            if mode is not None:
                os.fchmod(folder, mode)
        finally:
            os.close(folder)

    def _write(self, path: str, raw: bytes) -> None:
        """Whole or not at all. The temporary name begins with a dot, so exportfs does not read it."""
        target = self._at(path)
        folder = os.path.dirname(target)
        handle, temporary = tempfile.mkstemp(prefix=b".petset-", suffix=b".tmp", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(path))
        _sync_folder(os.path.dirname(self._at(path)))

    def _flush(self) -> None:
        """Old kernels drop what is older than the time written; newer ones drop all."""
        for name in FLUSHED:
            path = self._at(f"{CACHES}/{name}/flush")
            try:
                with open(path, "wb") as file:
                    file.write(b"%d\n" % (int(time.time()) + 1))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise

    def _review_flush(self, plan: Plan) -> list[str]:
        """What the kernel knows connected machines by after the flush; an entry that it dropped is marked there."""
        known = parse_known_addresses(self._read(f"{CACHES}/auth.unix.ip/content"))
        table = parse_table(encode(self._read(ETAB)))
        names = stale_names(plan.expected, table, known, plan.hosts)
        if not names:
            return []
        shown = ", ".join(printable(name) for name in names)
        return [
            f"the kernel's caches were flushed, and it still knows connected machines without {shown}: they may be "
            "refused with 'No such file or directory' for up to half an hour, or until they connect anew"
        ]

    def _exportfs(self) -> tuple[int, str]:
        if self.exportfs is None:
            reason = "exportfs is not installed"
            raise PetsetError("exportfs", reason, way_out="install nfs-kernel-server (Debian) or nfs-utils (RedHat)")
        status, _out, err = self.run([self.exportfs, "-ra"])
        return status, err

    def _reexport(
        self, plan: Plan, desired: Desired, undo: WriteDropIn | RemoveDropIn | None, outcome: Outcome
    ) -> None:
        """exportfs -ra, judged by what it says and by the table that it leaves, never by its exit status alone."""
        outcome.status, outcome.stderr = self._exportfs()
        clients = {row.entry.client for row in plan.expected} | {row.client for row in plan.expected}
        paths = {row.path for row in plan.expected} | {row.entry.path for row in plan.expected}
        own, outcome.foreign = split_by_owner(parse_messages(outcome.stderr), desired.file, clients, paths)
        table = parse_table(encode(self._read(ETAB)))
        wrong = own + differences(plan.expected, plan.withdrawn, table, plan.hosts)
        if not wrong:
            served = parse_kernel_table(self._read(f"{NFSD}/exports"))
            outcome.warnings += [
                f"the kernel still serves {printable(path)} to {printable(client)}"
                for path, client in plan.withdrawn
                if (path, client) in served
            ]
            return
        raise self._roll_back(wrong, desired, undo, outcome)

    def _roll_back(
        self, wrong: Sequence[str], desired: Desired, undo: WriteDropIn | RemoveDropIn | None, outcome: Outcome
    ) -> RolledBack:
        """Put the old text back and export it again; what exportfs said is in the error."""
        details = {"exportfs": {"rc": outcome.status, "stderr": outcome.stderr}, "done": outcome.done}
        if undo is None:
            way_out = "the file was not changed by this run, so there is nothing to take back"
        else:
            if undo.before is None:
                self._remove(undo.path)
            else:
                self._write(undo.path, undo.before)
            status, err = self._exportfs()
            details["exportfs_after_roll_back"] = {"rc": status, "stderr": err}
            was = "the file is gone again" if undo.before is None else "the old text is back in place"
            way_out = f"{was}, and exportfs -ra was run; directories that were made stay"
        reason = "exportfs does not take it: " + "; ".join(wrong)
        if outcome.foreign:
            reason += f" (exportfs also said: {'; '.join(outcome.foreign)})"
        return RolledBack(desired.file, reason, way_out=way_out, details=details)


def _owed_flush(desired: Desired) -> str:
    return f"{OWED}/{os.path.basename(desired.file)}.flush"


def _wanted(names: Iterable[str | None]) -> list[str]:
    return sorted({name for name in names if name is not None})


def _user(name: str) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _group(name: str) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _sync_folder(folder: bytes) -> None:
    """A rename or removal is durable when the folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
