# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user wants exported, checked before anything is touched.

Each refusal is an :class:`InvalidInput` that names the variable (``exports[0].clients[1].options``), the value and
what is allowed. Nothing here looks at the server.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import InvalidInput
from .exports import LONGEST_WORD_BYTES, encode, parse_exports, render_entry, render_path, unwritable
from .exports_clients import ClientError, parse_client
from .exports_options import ExportOptions, OptionError, parse_options, render_options
from .exports_table import EXPORTS_FOLDER, SUFFIX

# uuid5 of NAMESPACE_URL and "urn:stateful.petset:nfs-export". It must never change, or clients get stale handles.
FSID_NAMESPACE = uuid.UUID("c9b625f9-e541-551e-b6f7-9435fbe0c2f4")
# Before a path that is withdrawn from the drop-in while exportfs has still to run; a comment for exportfs.
_OWED = b"#withdrawn: "
# In the first line of every drop-in of every version so far, after the name. It is how the next run knows its own file.
_WRITTEN_BY = "written by Ansible (stateful.petset.nfs_export)"
_HEADER = re.compile(rb"^#[^\n]*: " + re.escape(_WRITTEN_BY).encode(), re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")


@dataclass(frozen=True)
class DesiredExport:
    """One path. ``clients`` are (client, effective options with the fsid) in the order given.

    ``mode`` is a number, ``owner`` and ``group`` names or numbers as text; None leaves them as they are.
    """

    path: str
    clients: tuple[tuple[str, ExportOptions], ...]
    create: bool = False
    owner: str | None = None
    group: str | None = None
    mode: int | None = None


@dataclass(frozen=True)
class Machine:
    """A machine that is to be let in, by all of its addresses. If it is not ``required``, that is a warning."""

    name: str
    addresses: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True)
class Desired:
    """The whole drop-in. ``withdrawn`` are paths that must not be in it; with ``purge`` neither may others be.

    ``adopt`` hands over a file of that name that the collection did not write.
    """

    name: str
    exports: tuple[DesiredExport, ...] = ()
    withdrawn: tuple[str, ...] = ()
    purge: bool = True
    withdraw_in_use: bool = False
    adopt: bool = False
    machines: tuple[Machine, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The drop-in that is ours."""
        return f"{EXPORTS_FOLDER}/{self.name}{SUFFIX}"


def derive_fsid(seed: str) -> str:
    """A UUID that is the same for the same seed on any server, for ever.

    >>> derive_fsid("default/mysql/0")
    '70bf8dba-0717-5627-8dc9-9610fdf34699'
    """
    return str(uuid.uuid5(FSID_NAMESPACE, seed))


def parse_name(name: str) -> str:
    """The name of a drop-in. exportfs silently skips dot files and other suffixes; ours is added to the name."""
    if name.endswith(SUFFIX):
        raise InvalidInput("name", name, f"{SUFFIX} is added by the module", f"the name without it, {name[:-8]!r}")
    if _NAME.match(name) is None:
        allowed = "1 to 200 letters, digits, '-', '_' and '.', the first one no dot and no dash"
        raise InvalidInput("name", name, "not the name of a drop-in that exportfs would read", allowed)
    return name


def parse_path(path: str, variable: str) -> str:
    """An absolute path in its plain form: no doubled or trailing slash, no dots.

    >>> parse_path("/srv//x/", "path")
    '/srv/x'
    """
    allowed = "an absolute path below /, without '..'"
    if not path.startswith("/"):
        raise InvalidInput(variable, path, "not an absolute path", allowed)
    if path != path.strip():
        raise InvalidInput(variable, path, "a blank at the end of the path", allowed)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(variable, path, "'..' in the path", allowed)
    if not parts:
        raise InvalidInput(variable, path, "the root directory is not exported", allowed)
    why = unwritable(path)
    if why:
        raise InvalidInput(variable, path, why, "another path")
    return "/" + "/".join(parts)


def parse_mode(value: object, variable: str) -> int | None:
    """An octal mode given as text. A bare number is refused: YAML may have read it as octal or not."""
    if value is None:
        return None
    allowed = "three or four octal digits in quotes, for example '0750'"
    if not isinstance(value, str):
        raise InvalidInput(variable, value, "a number without quotes means one thing in YAML and another here", allowed)
    if re.match(r"[0-7]{3,4}\Z", value) is None:
        raise InvalidInput(variable, value, "not a mode", allowed)
    return int(value, 8)


def parse_option_list(words: Sequence[object], variable: str) -> ExportOptions:
    """Options of one client, one word an element or several with commas between them."""
    for word in words:
        shown = str(word)
        if not shown.strip(","):
            raise InvalidInput(variable, shown, "an empty option", "options of exports(5)")
        if re.search(r"[\s()\"'\\#\x00-\x1f\x7f-\U0010ffff]", shown):
            reason = "blanks, parentheses, quotes, backslash and # would change what exportfs reads"
            raise InvalidInput(variable, shown, reason, "options of exports(5), one an element of the list")
        for part in shown.split(","):
            name = part.partition("=")[0]
            if name == "fsid":
                raise InvalidInput(variable, part, "one identity holds for all clients of an export", "the option fsid")
            if name in ("squash_uids", "squash_gids"):
                raise InvalidInput(variable, part, "without effect in the kernel's server", "all_squash with anonuid=")
    text = ",".join(str(word) for word in words)
    try:
        if "" in text.split(","):
            raise OptionError("unknown_keyword", "", "an empty option")
        return parse_options(text)
    except OptionError as error:
        raise InvalidInput(variable, error.word, error.reason, "options of exports(5)") from error


def parse_desired(params: Mapping[str, Any]) -> Desired:
    """The module's options. Raises InvalidInput."""
    name = parse_name(params["name"])
    exports: list[DesiredExport] = []
    withdrawn: list[str] = []
    notes: list[str] = []
    everything_absent = params["state"] == "absent"
    given = params["exports"] or []
    for index, item in enumerate(given):
        variable = f"exports[{index}]"
        path = parse_path(item["path"], f"{variable}.path")
        if path in withdrawn or any(path == export.path for export in exports):
            raise InvalidInput(f"{variable}.path", item["path"], "stands twice in the list", "each path once")
        if everything_absent or item["state"] == "absent":
            withdrawn.append(path)
        else:
            exports.append(_parse_export(item, path, variable, notes))
    if params["state"] == "present" and not given:
        raise InvalidInput("exports", given, "nothing to export", "at least one path, or state=absent")
    _check_identities(exports)
    machines = []
    for index, item in enumerate(params.get("machines") or []):
        if not item["addresses"]:
            raise InvalidInput(f"machines[{index}].addresses", [], f"no address for {item['name']}", "its addresses")
        machines.append(Machine(item["name"], tuple(item["addresses"]), bool(item.get("required", True))))
    return Desired(
        name=name,
        exports=tuple(exports),
        withdrawn=tuple(withdrawn),
        # With state=absent and a list only the listed paths go; without a list all of the drop-in.
        purge=not withdrawn if everything_absent else bool(params["purge"]),
        withdraw_in_use=bool(params["withdraw_in_use"]),
        adopt=bool(params["adopt"]),
        machines=tuple(machines),
        notes=tuple(notes),
    )


def _parse_export(item: Mapping[str, Any], path: str, variable: str, notes: list[str]) -> DesiredExport:
    if not item.get("clients"):
        reason = "an export without a client is an export to the whole world"
        raise InvalidInput(f"{variable}.clients", item.get("clients"), reason, "at least one client")
    identity = _parse_fsid(item, path, f"{variable}.fsid")
    clients: list[tuple[str, ExportOptions]] = []
    for position, entry in enumerate(item["clients"]):
        where = f"{variable}.clients[{position}]"
        try:
            client = parse_client(entry["client"])
        except ClientError as error:
            raise InvalidInput(f"{where}.client", entry["client"], error.reason, error.allowed) from error
        notes.extend(f"{path}: {text}" for _code, text in client.notes)
        words = entry.get("options")
        options = parse_option_list(item.get("options") or [] if words is None else words, f"{where}.options")
        options = replace(options, fsid=identity.fsid, uuid=identity.uuid, uuid_text=identity.uuid_text)
        if any(client.text.casefold() == known.casefold() for known, _options in clients):
            raise InvalidInput(f"{where}.client", entry["client"], "stands twice for this path", "each client once")
        length = len(encode(f"{client.text}({render_options(options)})"))
        if length > LONGEST_WORD_BYTES:
            reason = f"client and options are {length} bytes; exportfs reads {LONGEST_WORD_BYTES} at most"
            raise InvalidInput(f"{where}.options", render_options(options), reason, "fewer options")
        clients.append((client.text, options))
    for name in ("owner", "group"):
        value = item.get(name)
        if value is not None and re.match(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?\Z", str(value)) is None:
            raise InvalidInput(f"{variable}.{name}", value, "not a name or number", "a name or number of the server")
    return DesiredExport(
        path=path,
        clients=tuple(clients),
        create=bool(item.get("create")),
        owner=item.get("owner"),
        group=item.get("group"),
        mode=parse_mode(item.get("mode"), f"{variable}.mode"),
    )


def _parse_fsid(item: Mapping[str, Any], path: str, variable: str) -> ExportOptions:
    """Options that hold nothing but the identity of the export."""
    value = str(item.get("fsid") or "auto") if item.get("fsid") != 0 else "0"
    if value == "none":
        return ExportOptions()
    if value == "auto":
        value = derive_fsid(item.get("fsid_seed") or path)
    try:
        if re.search(r"[^A-Za-z0-9:-]", value):
            raise OptionError("bad_fsid", value, "neither a number nor a UUID")
        return parse_options(f"fsid={value}")
    except OptionError as error:
        allowed = "auto, none, a UUID, a number below 2**32, or root"
        raise InvalidInput(variable, value, error.reason, allowed) from error


def _check_identities(exports: Sequence[DesiredExport]) -> None:
    """Two paths with one identity: a client would get the files of the other one."""
    seen: dict[str, str] = {}
    for index, export in enumerate(exports):
        identity = export.clients[0][1].identity
        if identity and seen.setdefault(identity, export.path) != export.path:
            reason = f"also the identity of {seen[identity]}"
            raise InvalidInput(f"exports[{index}].fsid", identity, reason, "each identity once on a server")


def render_drop_in(name: str, exports: Sequence[tuple[str, Sequence[tuple[str, ExportOptions]]]]) -> bytes:
    """The text of the drop-in."""
    head = f"# {name}: {_WRITTEN_BY}. Changes made here by hand are overwritten;\n# other files are never touched.\n"
    lines = [
        render_entry(path, [(client, render_options(options)) for client, options in clients])
        for path, clients in exports
    ]
    return encode(head + "".join(lines))


def is_written_here(text: bytes) -> bool:
    """Whether a file has the header of :func:`render_drop_in`. Lines that were added by hand do not make it another's.

    >>> is_written_here(render_drop_in("default-mysql", ()))
    True
    >>> is_written_here(b"/srv/share *(ro)")
    False
    """
    return _HEADER.search(text) is not None


def render_owed(text: bytes, paths: Sequence[str]) -> bytes:
    """A drop-in with a mark for each path that exportfs has still to withdraw."""
    return text + b"".join(_OWED + encode(render_path(path)) + b"\n" for path in paths)


def parse_owed(text: bytes, name: str) -> tuple[str, ...]:
    """The paths that a run took out of the drop-in, and for which exportfs may not have run.

    >>> parse_owed(render_owed(b"", ["/srv/a b"]), "x")
    ('/srv/a b',)
    """
    marked = [line[len(_OWED) :] for line in text.split(b"\n") if line.startswith(_OWED)]
    return tuple(dict.fromkeys(entry.path for line in marked for entry in parse_exports(line, name).entries))
