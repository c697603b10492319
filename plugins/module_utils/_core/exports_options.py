# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option list of one client of an NFS export, read and compared as exportfs does.

Two lists that look different can mean the same (``fsid=root`` and ``fsid=0``; defaults left out or spelled out;
``anonuid=4294967294`` and ``anonuid=-2``), so nothing compares texts: :func:`parse_options` gives an
:class:`ExportOptions`, equal when the server behaves equally.

Source: exports(5) of nfs-utils 2.6 to 3.1, and what exportfs 2.6.2, 2.8.3 and 3.1.1 answered when asked
(tests/lab/exports_oracle.py). Runs on NFS servers: Python 3.9, hence no slots.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

ID_MODULUS = 2**32
LONG_MAX = 2**63 - 1
ULONG_MAX = 2**64 - 1
# The user that a squashed request acts as when nothing else is said (nobody).
ANONYMOUS_ID = 65534

# Numbers of the RPC security flavours (RFC 5531, RFC 2203 pseudo flavours); two names may mean one number.
FLAVOUR_NUMBERS = {"krb5": 390003, "krb5i": 390004, "krb5p": 390005, "unix": 1, "sys": 1, "null": 0, "none": 0}
TRANSPORT_MODES = ("none", "tls", "mtls")

# word -> (field of ExportOptions, value): they hold for the whole export whatever sec= stands before them.
_PLAIN = {
    "sync": ("async_writes", False),
    "async": ("async_writes", True),
    "wdelay": ("write_delay", True),
    "no_wdelay": ("write_delay", False),
    "hide": ("nohide", False),
    "nohide": ("nohide", True),
    "crossmnt": ("crossmnt", True),
    "nocrossmnt": ("crossmnt", False),
    "subtree_check": ("subtree_check", True),
    "no_subtree_check": ("subtree_check", False),
    "auth_nlm": ("insecure_locks", False),
    "secure_locks": ("insecure_locks", False),
    "no_auth_nlm": ("insecure_locks", True),
    "insecure_locks": ("insecure_locks", True),
    "acl": ("no_acl", False),
    "no_acl": ("no_acl", True),
    "pnfs": ("pnfs", True),
    "no_pnfs": ("pnfs", False),
    "security_label": ("security_label", True),
    "nordirplus": ("no_readdirplus", True),
}
# word -> (field of Access, value): after sec= they hold for those flavours only.
_ACCESS = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "secure": ("insecure", False),
    "insecure": ("insecure", True),
    "root_squash": ("root_squash", True),
    "no_root_squash": ("root_squash", False),
    "all_squash": ("all_squash", True),
    "no_all_squash": ("all_squash", False),
}
# Options of other systems or of long ago, for a message that helps more than 'unknown keyword'.
FOREIGN_WORDS = {
    "maproot": "an option of BSD; on Linux: no_root_squash, or anonuid= and anongid=",
    "mapall": "an option of BSD; on Linux: all_squash with anonuid= and anongid=",
    "alldirs": "an option of BSD; Linux lets clients mount below an export anyway",
    "network": "an option of BSD; on Linux the network stands before the parenthesis: 192.0.2.0/24(rw)",
    "mask": "an option of BSD; on Linux the mask follows the network: 192.0.2.0/24(rw)",
    "link_relative": "an option of the user-space server of long ago",
    "link_absolute": "an option of the user-space server of long ago",
    "map_daemon": "an option of the user-space server of long ago",
    "map_static": "an option of the user-space server of long ago",
    "map_identity": "an option of long ago; it is what the server does anyway",
    "mapping": "an option of long ago; identity is what the server does anyway",
    "squash_uids": "an option of long ago without effect in the kernel's server",
    "squash_gids": "an option of long ago without effect in the kernel's server",
    "no_sync": "not an option; write async",
    "soft": "an option of the client's mount, not of the export",
    "hard": "an option of the client's mount, not of the export",
    "nolock": "an option of the client's mount, not of the export",
    "vers": "an option of the client's mount, not of the export",
}


class OptionError(ValueError):
    """exportfs would not take this word. ``code`` is a stable word, ``word`` the option as written."""

    def __init__(self, code: str, word: str, reason: str) -> None:
        self.code = code
        self.word = word
        self.reason = reason
        super().__init__(f"{word!r}: {reason}")


@dataclass(frozen=True)
class Access:
    """What one security flavour may do. The defaults are exportfs's."""

    read_only: bool = True
    insecure: bool = False
    root_squash: bool = True
    all_squash: bool = False


@dataclass(frozen=True)
class ExportOptions:
    """The effective options of one export to one client.

    ``flavours``         (name, access) in the order of preference; ``sys`` when the list names none
    ``fsid``             number, modulo 2**32, or None
    ``uuid``             the 32 hexadecimal digits of fsid=<uuid>, or None; it goes before the number
    ``mountpoint``       None: not asked for; "" : the path itself must be a mount point; else that path must be one
    ``referral``         ("refer" or "replicas", its text), or None
    ``anonuid/anongid``  0 to 2**32 - 1
    ``transport``        allowed xprtsec modes; empty means any
    """

    async_writes: bool = False
    write_delay: bool = True
    nohide: bool = False
    crossmnt: bool = False
    subtree_check: bool = False
    insecure_locks: bool = False
    no_readdirplus: bool = False
    security_label: bool = False
    no_acl: bool = False
    pnfs: bool = False
    fsid: int | None = None
    uuid: str | None = None
    reexport: str | None = None
    mountpoint: str | None = None
    anonuid: int = ANONYMOUS_ID
    anongid: int = ANONYMOUS_ID
    referral: tuple[str, str] | None = None
    flavours: tuple[tuple[str, Access], ...] = (("sys", Access()),)
    transport: tuple[str, ...] = ()
    # As written, for output only: exportfs keeps the punctuation of a UUID.
    uuid_text: str | None = field(default=None, compare=False)

    @property
    def identity(self) -> str:
        """The fsid in one comparable word, "" when there is none."""
        if self.uuid is not None:
            return self.uuid
        return "" if self.fsid is None else str(self.fsid)

    @property
    def writable(self) -> bool:
        """Whether some flavour may write."""
        return any(not access.read_only for _name, access in self.flavours)

    def meaning(self) -> ExportOptions:
        """Without differences that do not matter: names of one flavour, all transport modes spelled out."""
        names = {1: "sys", 0: "none"}
        flavours = tuple((names.get(FLAVOUR_NUMBERS[name], name), access) for name, access in self.flavours)
        transport = () if set(self.transport) == set(TRANSPORT_MODES) else tuple(sorted(self.transport))
        return replace(self, flavours=flavours, transport=transport, uuid_text=None)


@dataclass(frozen=True)
class Draft:
    """Options half-way: default options of a line (``-rw``) are the start of each client after them."""

    common: ExportOptions = field(default_factory=lambda: ExportOptions(flavours=()))
    access: Access = Access()
    flavours: tuple[tuple[str, Access], ...] = ()

    def finish(self) -> ExportOptions:
        """The options as the server will have them."""
        # A UUID also sets the number, to whatever number it begins with; the export table keeps both.
        common = self.common
        if common.uuid_text is not None and common.fsid is not None:
            common = replace(common, fsid=_strtoul(common.uuid_text)[0] % ID_MODULUS)
        return replace(common, flavours=self.flavours or (("sys", self.access),))


def _strtoul(text: str) -> tuple[int, str]:
    """C's strtoul with base 0: the number (of a 64-bit machine) and the rest that is none."""
    match = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", text)
    if match is None:
        return 0, text
    sign, digits = match.groups()
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    number = int(digits, base)
    rest = text[match.end() :]
    if number > ULONG_MAX:
        return ULONG_MAX, rest
    return (-number) % (ULONG_MAX + 1) if sign == "-" else number, rest


def _strtol10(text: str) -> int | None:
    """C's strtol with base 10, or None when the text is not wholly a number."""
    match = re.match(r"\s*[+-]?[0-9]+\Z", text)
    if match is None:
        return None
    return max(-LONG_MAX - 1, min(LONG_MAX, int(text)))


def parse_identifier(text: str) -> int | None:
    """A user or group number as anonuid= takes it, modulo 2**32; None when it is no number.

    >>> parse_identifier("-2"), parse_identifier("0999"), parse_identifier("mysql")
    (4294967294, 999, None)
    """
    number = _strtol10(text)
    return None if number is None else number % ID_MODULUS


def _parse_fsid(draft: Draft, value: str) -> Draft:
    """fsid=root, fsid=<number as C writes it>, or fsid=<anything with exactly 32 hexadecimal digits>."""
    common = draft.common
    if value == "root":
        return replace(draft, common=replace(common, fsid=0))
    number, rest = _strtoul(value)
    if value and not rest:
        return replace(draft, common=replace(common, fsid=number % ID_MODULUS))
    digits = "".join(re.findall(r"[0-9a-fA-F]", value)).lower()
    if len(digits) != 32:
        raise OptionError("bad_fsid", f"fsid={value}", "fsid is 0 or root, a 32-bit number, or a UUID")
    return replace(draft, common=replace(common, uuid=digits, uuid_text=value))


def _parse_flavours(draft: Draft, value: str) -> tuple[Draft, tuple[int, ...]]:
    """sec=a:b: adds the flavours that are new and makes these the ones that the next words are about."""
    flavours = list(draft.flavours)
    active = []
    for name in value.split(":"):
        if name not in FLAVOUR_NUMBERS:
            allowed = ", ".join(sorted(FLAVOUR_NUMBERS))
            raise OptionError(
                "unknown_flavour", f"sec={value}", f"{name!r} is no security flavour; there are {allowed}"
            )
        number = FLAVOUR_NUMBERS[name]
        for position, (known, _access) in enumerate(flavours):
            if FLAVOUR_NUMBERS[known] == number:
                active.append(position)
                break
        else:
            flavours.append((name, draft.access))
            active.append(len(flavours) - 1)
    return replace(draft, flavours=tuple(flavours)), tuple(active)


def _parse_transport(draft: Draft, value: str) -> Draft:
    """xprtsec=a:b adds to the allowed modes."""
    modes = list(draft.common.transport)
    for name in value.split(":"):
        if name not in TRANSPORT_MODES:
            allowed = ", ".join(TRANSPORT_MODES)
            raise OptionError("unknown_transport", f"xprtsec={value}", f"{name!r} is no mode; there are {allowed}")
        if name not in modes:
            modes.append(name)
    return replace(draft, common=replace(draft.common, transport=tuple(modes)))


def _set_access(draft: Draft, active: tuple[int, ...], name: str, value: bool) -> Draft:
    """ro, rw, squash and secure: for the export's later flavours, and for the active ones."""
    flavours = tuple(
        (flavour, _with_access(access, name, value) if position in active else access)
        for position, (flavour, access) in enumerate(draft.flavours)
    )
    return replace(draft, access=_with_access(draft.access, name, value), flavours=flavours)


def _with_access(access: Access, name: str, value: bool) -> Access:
    return Access(
        read_only=value if name == "read_only" else access.read_only,
        insecure=value if name == "insecure" else access.insecure,
        root_squash=value if name == "root_squash" else access.root_squash,
        all_squash=value if name == "all_squash" else access.all_squash,
    )


def _set_common(draft: Draft, word: str, name: str, equals: str, value: str) -> Draft:
    """One word that is none of the plain ones; raises OptionError when exportfs does not know it."""
    common = draft.common
    if name in ("anonuid", "anongid") and equals:
        number = parse_identifier(value)
        if number is None:
            raise OptionError("bad_anon_id", word, f"{name} takes a number, not a name")
        return replace(draft, common=replace(common, **{name: number}))  # type: ignore[arg-type]
    if name == "fsid" and equals:
        return _parse_fsid(draft, value)
    if name in ("mp", "mountpoint"):
        return replace(draft, common=replace(common, mountpoint=value))
    if name in ("refer", "replicas") and equals:
        return replace(draft, common=replace(common, referral=(name, value)))
    if name == "reexport" and equals and value in ("auto-fsidnum", "predefined-fsidnum"):
        return replace(draft, common=replace(common, reexport=value))
    if name in ("squash_uids", "squash_gids") and equals:
        # Still parsed, without any effect on the kernel's server.
        if re.match(r"\d*(-\d*)?\Z", value) is None:
            raise OptionError("bad_squash_list", word, "not a list of user or group numbers")
        return draft
    hint = FOREIGN_WORDS.get(name, "")
    raise OptionError("unknown_keyword", word, hint or "exportfs does not know this option")


def split_options(text: str) -> list[str]:
    """Cut an option list into words as exportfs does: at commas, blanks before a word skipped.

    A comma at the very end adds nothing, two commas in the middle an empty word.
    """
    words = []
    rest = text.lstrip(" \t")
    while rest:
        word, _comma, rest = rest.partition(",")
        words.append(word)
        rest = rest.lstrip(" \t")
    return words


def draft_options(text: str, start: Draft | None = None) -> Draft:
    """Read an option list (without parentheses or dash) on top of ``start``. Raises OptionError."""
    draft = start if start is not None else Draft()
    # After sec= the words are about these flavours; a new list begins with none, whatever the defaults named.
    active: tuple[int, ...] = ()
    for word in split_options(text):
        if word in _PLAIN:
            name, value = _PLAIN[word]
            draft = replace(draft, common=replace(draft.common, **{name: value}))  # type: ignore[arg-type]
        elif word in _ACCESS:
            draft = _set_access(draft, active, *_ACCESS[word])
        elif word.startswith("sec="):
            draft, active = _parse_flavours(draft, word[4:])
        elif word.startswith("xprtsec="):
            draft = _parse_transport(draft, word[8:])
        else:
            draft = _set_common(draft, word, *word.partition("="))
    return draft


def parse_options(text: str) -> ExportOptions:
    """The effective options of a list such as ``rw,sync,fsid=0``. Raises OptionError.

    >>> parse_options("rw,fsid=root") == parse_options("sync,fsid=0,rw")
    True
    >>> parse_options("sec=krb5p,rw,sec=sys,ro") == parse_options("sec=krb5p,ro,sec=sys,rw")
    False
    """
    return draft_options(text).finish()


def same_options(one: ExportOptions, other: ExportOptions) -> bool:
    """Whether the server behaves the same with both."""
    return one.meaning() == other.meaning()


def _signed(number: int) -> int:
    """How exportfs prints a 32-bit number: as a signed one."""
    return number - ID_MODULUS if number >= ID_MODULUS // 2 else number


def _grouped(options: ExportOptions) -> list[tuple[list[str], Access]]:
    """Neighbouring flavours with the same access stand in one sec= list."""
    groups: list[tuple[list[str], Access]] = []
    for name, access in options.flavours:
        if groups and groups[-1][1] == access:
            groups[-1][0].append(name)
        else:
            groups.append(([name], access))
    return groups


def _access_words(access: Access) -> list[str]:
    return [
        "ro" if access.read_only else "rw",
        "insecure" if access.insecure else "secure",
        "root_squash" if access.root_squash else "no_root_squash",
        "all_squash" if access.all_squash else "no_all_squash",
    ]


def _rare_words(options: ExportOptions) -> list[str]:
    """Words that exportfs prints only when they are set, from subtree_check on, in its order."""
    switches: Iterable[tuple[bool, str]] = (
        (not options.subtree_check, "no_subtree_check"),
        (options.insecure_locks, "insecure_locks"),
        (options.no_readdirplus, "nordirplus"),
        (options.security_label, "security_label"),
        (options.no_acl, "no_acl"),
        (options.pnfs, "pnfs"),
        (options.fsid is not None, f"fsid={_signed(options.fsid or 0)}"),
        (options.uuid is not None, f"fsid={options.uuid_text or options.uuid}"),
        (options.reexport is not None, f"reexport={options.reexport}"),
        (
            options.mountpoint is not None,
            "mountpoint" + ("=" if options.mountpoint else "") + (options.mountpoint or ""),
        ),
        (options.anonuid != ANONYMOUS_ID, f"anonuid={_signed(options.anonuid)}"),
        (options.anongid != ANONYMOUS_ID, f"anongid={_signed(options.anongid)}"),
        (options.referral is not None, "=".join(options.referral or ())),
    )
    return [word for wanted, word in switches if wanted]


def render_table_options(options: ExportOptions) -> list[str]:
    """The words that `exportfs -s` prints, in its order."""
    words = [
        "async" if options.async_writes else "sync",
        "wdelay" if options.write_delay else "no_wdelay",
        "nohide" if options.nohide else "hide",
    ]
    if options.crossmnt:
        words.append("crossmnt")
    words += _rare_words(options)
    for names, access in _grouped(options):
        words.append("sec=" + ":".join(names))
        words += _access_words(access)
    if options.transport:
        words.append("xprtsec=" + ":".join(options.transport))
    return words


def render_options(options: ExportOptions) -> str:
    """The option list for an export file: what matters is spelled out, other defaults are left out.

    ``parse_options(render_options(o)) == o`` for every o that parse_options gave.
    """
    groups = _grouped(options)
    words: list[str] = []
    single = len(groups) == 1
    if single:
        words.append(_access_words(groups[0][1])[0])
    words.append("async" if options.async_writes else "sync")
    words += [
        word
        for wanted, word in (
            (not options.write_delay, "no_wdelay"),
            (options.nohide, "nohide"),
            (options.crossmnt, "crossmnt"),
            (options.subtree_check, "subtree_check"),
        )
        if wanted
    ]
    words += _rare_words(options)
    if single:
        names, access = groups[0]
        words += [word for word in _access_words(access)[1:] if word not in ("secure", "no_all_squash")]
        if names != ["sys"]:
            words.append("sec=" + ":".join(names))
    else:
        for names, access in groups:
            words.append("sec=" + ":".join(names))
            words += _access_words(access)
    if options.transport:
        words.append("xprtsec=" + ":".join(options.transport))
    return ",".join(words)
