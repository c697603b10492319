# SPDX-License-Identifier: GPL-3.0-or-later
"""Export files as nobody would write them: entries put together at random, with a few letters changed.

Left out is what exportfs itself falls over: squash_uids as a default option makes it free memory twice, squash_gids
alone and blanks or line ends in clients or options spoil the table that it writes and reads back.
"""

from __future__ import annotations

import posixpath
import random
import socket
from dataclasses import dataclass
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.exports import ParsedFile, parse_exports
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_clients import (
    ClientKind,
    Host,
    classify,
    parse_address,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import (
    Facts,
    PathFact,
    Table,
    build_table,
)

NAME = "/etc/exports.d/case.exports"
DIRECTORIES = ["/srv/case/a", "/srv/case/b", "/srv/case/c d", "/srv/case/e\\x"]
PATHS = (
    *("/srv/case/a", "/srv/case/b", "/srv/case/a/", "/srv//case/b", "/srv/case/./a", '"/srv/case/c d"', "/"),
    *("/srv/case/c\\040d", "srv/rel", "/srv/case/nope", "/srv/case/link", "/srv/case/e\\134x"),
)
OPTIONS = (
    "ro rw sync async secure insecure root_squash no_root_squash all_squash no_all_squash hide nohide crossmnt "
    "nocrossmnt wdelay no_wdelay subtree_check no_subtree_check acl no_acl pnfs no_pnfs security_label nordirplus "
    "insecure_locks secure_locks auth_nlm no_auth_nlm sec=sys sec=krb5 sec=krb5p:sys sec=none sec=unix sec=krb5:krb5i "
    "fsid=0 fsid=root fsid=5 fsid=0x1f fsid=010 fsid=4294967295 fsid=12345678-9abc-def0-1234-56789abcdef0 fsid=-7 "
    "anonuid=5 anonuid=-2 anongid=4294967294 anongid=010 mp mp=/srv mountpoint=/x mp= refer=/a@b replicas=/a@b:/c@d"
).split()
WRONG = ["", "RW", "no_such", "sec=bad", "fsid=abc", "fsid=9x", "anonuid=x", "maproot=root", "sec="]
CLIENTS = (
    "192.0.2.1 192.0.2.2 192.0.2.0/24 192.0.2.9/24 192.0.2.0/255.255.255.0 192.0.2.0/33 192.0.2/24 192.0.2.0/ "
    "2001:db8::1 2001:DB8:0::1 2001:db8::/32 2001:db8::/129 2001:db8::/ffff:: 192.0.2.0/24x 192.0.2.0/255.255.x.0 * ** "
    "*.example.org HOST?.x host?.x @grp @GRP gss/krb5 [2001:db8::]/64 localhost 127.0.0.1 nope.example.org a,b x/y "
    "10.0.0.0/08 10.0.0.0/+8 001.2.3.4/8 fe80::/10 ::/0 0.0.0.0/0 192.0.2.0/255.255.255 2001:db8::/x: 1.2.3.4/:: "
    "192.0.2.77/-3 -rw -"
).split()
LETTERS = [
    " ",
    "\t",
    "\n",
    "\\\n",
    "\\ \n",
    "#",
    '"',
    "(",
    ")",
    ",",
    "\\040",
    "\\134",
    "\\400",
    "\\1",
    "\r",
    "\v",
    "\0",
]
ENDS = ["\n"] * 6 + ["\r\n", " # c\n", "\n\n", "  \n", "\n#c\n", "\n\r\n"]


def make_file(seed: int) -> str:
    """The text of one file, bytes as latin-1."""
    dice = random.Random(seed)
    text = "".join(_make_entry(dice) for _entry in range(dice.randint(1, 3)))
    for _change in range(dice.choice([0, 0, 0, 1, 1, 2, 4])):
        place = dice.randint(0, len(text))
        text = text[:place] + dice.choice(LETTERS) + text[place + dice.randint(0, 1) :]
    return text.rstrip("\n") if dice.random() < 0.1 else text


def _make_options(dice: random.Random) -> str:
    words = [dice.choice(OPTIONS) for _word in range(dice.randint(0, 6))]
    return ",".join([*words, dice.choice(WRONG)] if dice.random() < 0.08 else words)


def _make_entry(dice: random.Random) -> str:
    text = dice.choice(PATHS)
    for _client in range(dice.randint(0, 4)):
        text += dice.choice([" ", " ", " ", "\t", "  ", "\\\n", "\\\n  ", " \\\n"])
        kind = dice.random()
        if kind < 0.12:
            text += "-" + _make_options(dice)
        elif kind < 0.2:
            text += dice.choice(CLIENTS)
        elif kind < 0.24:
            text += f"({_make_options(dice)})"
        elif kind < 0.27:
            text += '""'
        else:
            text += f"{dice.choice(CLIENTS)}({_make_options(dice)})"
    return text + dice.choice(ENDS)


def question(text: str) -> dict[str, Any]:
    """The question for the oracle."""
    return {"files": [{"name": NAME, "text": text}], "directories": DIRECTORIES, "also": "ln -s a /srv/case/link"}


@dataclass(frozen=True)
class Expected:
    """What we say that exportfs makes of a file. ``fair`` is False when its own table cannot hold it."""

    fair: bool
    status: int
    table: list[dict[str, Any]]


def expect(text: str) -> Expected:
    """Our own answer."""
    file = parse_exports(text.encode("latin-1"), NAME)
    table = _table(file)
    fair = all(entry.path.isprintable() and entry.path.strip() and _fair(entry.client) for entry in file.entries)
    fair = fair and all(" " not in word for row in table.rows for word in render_table_options(row.entry.options))
    rows = [
        {"path": row.path, "client": row.client, "options": render_table_options(row.entry.options)}
        for row in table.rows
    ]
    return Expected(fair, table.status, rows)


def _fair(client: str) -> bool:
    return not any(letter.isspace() for letter in client)


def _table(file: ParsedFile) -> Table:
    paths = {entry.path: _path_fact(entry.path) for entry in file.entries}
    hosts: dict[str, Host | None] = {}
    for entry in file.entries:
        if classify(entry.client) is ClientKind.HOST and parse_address(entry.client) is None:
            hosts[entry.client] = _resolve(entry.client)
    return build_table([file], Facts(hosts, paths))


def _resolve(name: str) -> Host | None:
    """A resolver that knows localhost, and all that C takes for an address: 4 is 0.0.0.4."""
    if name.casefold() == "localhost":
        return Host("localhost", ("127.0.0.1", "::1"))
    try:
        found = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME | socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return Host(found[0][3] or name, tuple(str(one[4][0]) for one in found))


def _path_fact(path: str) -> PathFact:
    real = posixpath.normpath(path.replace("/srv/case/link", "/srv/case/a", 1)) if path.startswith("/") else path
    real = real.replace("//", "/")
    there = {*DIRECTORIES, "/srv/case", "/srv", "/"}
    return PathFact("directory", real) if real in there else PathFact("missing", path)
