# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen on an NFS server, and the steps that change it. Plain data; :mod:`.exports_plan` makes the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from .exports import printable
from .exports_table import Facts


def render_ownership(uid: int | None, gid: int | None, mode: int | None) -> str:
    """``999:999 0750`` with a dash for what is left as it is."""
    owner = "-" if uid is None else str(uid)
    group = "-" if gid is None else str(gid)
    return f"{owner}:{group} {'-' if mode is None else format(mode, '04o')}"


@dataclass(frozen=True)
class FileText:
    """An export file. ``raw`` is None when it could not be read, ``error`` says why."""

    name: str
    raw: bytes | None
    error: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What is there. ``files`` are those that exportfs reads, in its order.

    ``etab``    the export table of the user space, None when there is none
    ``users``   and ``groups``: the numbers of the names that are wanted; None for one that the server does not know
    ``busy``    per real path the addresses of clients that hold files open there
    ``known_addresses`` the client names by which the kernel knows each connected address
    ``owed_flush`` client names of a run that was killed before it flushed the kernel's caches
    ``running`` whether the kernel's server has threads
    """

    files: tuple[FileText, ...] = ()
    etab: bytes | None = None
    facts: Facts = field(default_factory=Facts)
    users: Mapping[str, int | None] = field(default_factory=dict)
    groups: Mapping[str, int | None] = field(default_factory=dict)
    busy: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known_addresses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owed_flush: tuple[str, ...] = ()
    has_folder: bool = True
    has_exportfs: bool = True
    running: bool = False
    versions: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class MakeFolder:
    """Make /etc/exports.d itself."""

    path: str

    def describe(self) -> str:
        """For a person."""
        return f"make {self.path}"


@dataclass(frozen=True)
class MakeDirectory:
    """Make an exported directory, with its parents."""

    path: str
    uid: int | None
    gid: int | None
    mode: int

    def describe(self) -> str:
        """For a person."""
        return f"make directory {printable(self.path)} ({render_ownership(self.uid, self.gid, self.mode)})"


@dataclass(frozen=True)
class SetOwnership:
    """Change owner, group or mode of a directory; None leaves it. Never what is inside."""

    path: str
    uid: int | None
    gid: int | None
    mode: int | None
    before: str

    def describe(self) -> str:
        """For a person."""
        wanted = render_ownership(self.uid, self.gid, self.mode)
        return f"set {printable(self.path)} to {wanted} (it is {self.before})"


@dataclass(frozen=True)
class WriteDropIn:
    """Replace the drop-in as a whole."""

    path: str
    before: bytes | None
    after: bytes

    def describe(self) -> str:
        """For a person."""
        return f"{'write' if self.before is None else 'change'} {self.path}"


@dataclass(frozen=True)
class MarkWithdrawn(WriteDropIn):
    """Take paths out of the drop-in, and keep them in it as comments until exportfs has withdrawn them."""

    def describe(self) -> str:
        """For a person."""
        return f"take what is withdrawn out of {self.path}, with a mark until exportfs has run"


@dataclass(frozen=True)
class RemoveDropIn:
    """Remove the drop-in. The directories and what is in them stay."""

    path: str
    before: bytes

    def describe(self) -> str:
        """For a person."""
        return f"remove {self.path}; the exported data stay"


@dataclass(frozen=True)
class Reexport:
    """Run exportfs -ra, which makes the table of the kernel follow the files."""

    reason: str

    def describe(self) -> str:
        """For a person."""
        return f"run exportfs -ra: {self.reason}"


@dataclass(frozen=True)
class FlushCaches:
    """Make the kernel forget by which client names it knows the addresses that are connected."""

    clients: tuple[str, ...]

    def describe(self) -> str:
        """For a person."""
        names = ", ".join(map(printable, self.clients))
        return f"flush the kernel's caches of client names, because of {names}"


Step = Union[MakeFolder, MakeDirectory, SetOwnership, WriteDropIn, RemoveDropIn, Reexport, FlushCaches]
