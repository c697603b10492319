# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing one export file, letter by letter as exportfs does.

exportfs reads words: a path, then clients until the line ends. Quotes and octal escapes belong to the word, a
backslash before the line's end is a blank, ``#`` is a comment only where a word could begin, and the first word that
it does not like ends the reading of the whole file. None of this shows in its exit status alone, so the reader here
keeps both what exportfs would export and what it says or silently drops.

Source: exports(5), and exportfs 2.6.2, 2.8.3 and 3.1.1 when asked (tests/lab/exports_oracle.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .exports_options import Draft, ExportOptions, OptionError, draft_options, parse_options

# Sizes of exportfs's buffers, counted in bytes after escapes are decoded: the longest path, the longest other word.
LONGEST_PATH_BYTES = 1024
LONGEST_WORD_BYTES = 511

# Sets rather than bytes: the end of the file, -1, can be looked for in them.
_ENDS_WORD = frozenset(b" \t\n\v\f\r\0")
_BETWEEN_WORDS = frozenset(b" \t\0")
_BETWEEN_LINES = frozenset(b" \t\n\0")
_OCTAL = b"01234567"
_END = -1
_NEWLINE = 0x0A
_BACKSLASH = 0x5C
_QUOTE = 0x22
_HASH = 0x23
_SPACE = 0x20


@dataclass(frozen=True)
class Problem:
    """Something about the export files that the user should know.

    ``code``    a stable word
    ``fails``   exportfs ends with status 1 for it, and the NFS service does not start at boot
    ``loses``   an export that somebody wrote down does not exist
    ``file``    path of the file, or "" when it is about several
    ``line``    number of the line, 0 when it is about the whole file
    ``text``    a sentence for a person, without file and line
    ``path``    and ``client``: what it is about, as written
    """

    code: str
    text: str
    file: str = ""
    line: int = 0
    fails: bool = False
    loses: bool = False
    path: str = ""
    client: str = ""

    def describe(self) -> str:
        """``/etc/exports:3: text``."""
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return where + self.text


@dataclass(frozen=True)
class Entry:
    """One path for one client, as it stands in a file. ``options`` are the effective ones.

    ``client`` is "" where a path stands alone, and ``*`` for options that stand alone: exportfs keeps these apart.
    """

    file: str
    line: int
    path: str
    client: str
    options: ExportOptions
    # The line has default options, so that a client without a parenthesis is no accident.
    has_defaults: bool = False
    has_options: bool = True


@dataclass(frozen=True)
class ParsedFile:
    """All that exportfs takes from a file. ``complete`` is False when it stopped reading before the end."""

    name: str
    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True


def decode(raw: bytes) -> str:
    """A path or word for Python: UTF-8, other bytes as surrogates, so that nothing is lost."""
    return raw.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The reverse of :func:`decode`."""
    return text.encode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    r"""For messages and results: bytes that are no UTF-8 as \xNN, line ends and controls escaped."""
    shown = encode(text).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)


class _TooLong(Exception):
    """A word does not fit into exportfs's buffer."""


class _Reader:
    """The file as a stream of characters with one step back."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = 0

    @property
    def line(self) -> int:
        """The line of the next character. exportfs counts otherwise: it forgets comment lines."""
        return self.raw.count(b"\n", 0, self.position) + 1

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.raw)

    def _get(self) -> int:
        if self.at_end:
            return _END
        self.position += 1
        return self.raw[self.position - 1]

    def get(self) -> int:
        """The next character; a backslash with the line's end and the blanks after it count as one blank."""
        letter = self._get()
        if letter == _BACKSLASH and self.raw[self.position : self.position + 1] == b"\n":
            self.position += 1
            while self.raw[self.position : self.position + 1] in (b" ", b"\t"):
                self.position += 1
            return _SPACE
        return letter

    def skip(self, blanks: frozenset[int]) -> None:
        """Skip these characters, and comments up to the end of their line."""
        while True:
            before = self.position
            letter = self.get()
            if letter == _HASH:
                while letter not in (_END, _NEWLINE):
                    before = self.position
                    letter = self._get()
            if letter == _END:
                return
            if letter not in blanks:
                self.position = before
                return

    def word(self, longest: int) -> bytes:
        """The next word with quotes removed and octal escapes decoded; empty at the end of a line or file.

        An escape is decoded as soon as its last digit is read, so what was decoded can begin another one.
        Raises _TooLong, having read as far as exportfs does.
        """
        token = bytearray()
        quoted = False
        letter = 0
        while len(token) <= longest:
            letter = self.get()
            if letter == _END or (not quoted and letter in _ENDS_WORD):
                break
            if letter == _QUOTE:
                quoted = not quoted
                continue
            token.append(letter)
            tail = token[-4:]
            if (
                len(tail) == 4
                and tail[0] == _BACKSLASH
                and tail[1] in b"0123"
                and tail[2] in _OCTAL
                and tail[3] in _OCTAL
            ):
                token[-4:] = bytes((int(bytes(tail[1:]), 8),))
        if letter == _NEWLINE:
            self.position -= 1
        if len(token) > longest:
            raise _TooLong
        return bytes(token)


def _c_string(raw: bytes) -> str:
    """C sees a word only up to the first NUL."""
    return decode(raw.split(b"\0", 1)[0])


@dataclass
class _State:
    """Where the reading of a file is."""

    reader: _Reader
    name: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    path: str = ""
    defaults: Draft = field(default_factory=Draft)
    has_defaults: bool = False
    complete: bool = True

    def stop(self, code: str, line: int, text: str, *, fails: bool = True, client: str = "") -> None:
        """exportfs reads no further."""
        self.complete = False
        rest = "; exportfs reads nothing after it in this file"
        self.problems.append(
            Problem(code, text + rest, self.name, line, fails=fails, loses=True, path=self.path, client=client)
        )


def parse_exports(raw: bytes, name: str = "") -> ParsedFile:
    """Read a file in the format of exports(5), or the export table (etab), which has the same.

    Never raises. What exportfs would complain about, or silently leave out, is in ``problems``.
    """
    state = _State(_Reader(raw), name)
    _find_odd_bytes(state)
    while state.complete and _read_path(state):
        first = True
        while state.complete and _read_client(state, first):
            first = False
    return ParsedFile(name, tuple(state.entries), tuple(state.problems), state.complete)


def _find_odd_bytes(state: _State) -> None:
    """Marks of editors of other systems."""
    if state.reader.raw.startswith(b"\xef\xbb\xbf"):
        text = "the file begins with a byte order mark, which becomes part of the first path"
        state.problems.append(Problem("byte_order_mark", text, state.name, 1))
    for match in re.finditer(rb"\\[ \t]+\r?\n|\\\r\n", state.reader.raw):
        line = state.reader.raw.count(b"\n", 0, match.start()) + 1
        text = "a backslash with a blank after it does not continue the line"
        state.problems.append(Problem("broken_continuation", text, state.name, line))


def _read_path(state: _State) -> bool:
    """The first word of an entry. False at the end of what exportfs reads."""
    reader = state.reader
    state.path = ""
    reader.skip(_BETWEEN_LINES)
    line = reader.line
    if reader.at_end:
        return False
    try:
        raw = reader.word(LONGEST_PATH_BYTES)
    except _TooLong:
        state.stop("path_too_long", line, f"a path of more than {LONGEST_PATH_BYTES} bytes", fails=False)
        return False
    if not raw:
        if reader.raw[reader.position :].strip():
            what = "a line with only a carriage return, another control character or empty quotes"
            state.stop("unread_rest", line, what, fails=False)
        return False
    state.path = _c_string(raw)
    state.defaults = Draft()
    state.has_defaults = False
    return True


def _read_client(state: _State, first: bool) -> bool:
    """One client of the line, with default options before it. False at the end of the line."""
    line = state.reader.line
    try:
        raw = _next_word(state)
        if raw.startswith(b"-"):
            state.defaults = draft_options(_c_string(raw)[1:], state.defaults)
            state.has_defaults = True
            raw = _next_word(state)
        elif not raw and not first:
            return False
        client, options, has_options = _split_client(state, _c_string(raw), line)
        effective = draft_options(options, state.defaults).finish()
    except _TooLong:
        state.stop("word_too_long", line, f"a word of more than {LONGEST_WORD_BYTES} bytes")
        return False
    except OptionError as error:
        state.stop(error.code, line, f"option {error}")
        return False
    except _BadList as error:
        state.stop("bad_option_list", line, str(error))
        return False
    state.entries.append(Entry(state.name, line, state.path, client, effective, state.has_defaults, has_options))
    return True


class _BadList(Exception):
    """An option list whose parentheses do not fit."""


def _next_word(state: _State) -> bytes:
    state.reader.skip(_BETWEEN_WORDS)
    return state.reader.word(LONGEST_WORD_BYTES)


def _split_client(state: _State, word: str, line: int) -> tuple[str, str, bool]:
    """client(options) into client, options and whether there were any, with exportfs's remarks on what is missing."""
    client, bracket, rest = word.partition("(")
    if bracket:
        options, closing, after = rest.partition(")")
        if not closing:
            raise _BadList(f"{printable(word)!r}: a blank inside the parentheses, or the closing one is missing")
        if after:
            raise _BadList(f"{printable(word)!r}: {printable(after)!r} follows the closing parenthesis")
        if not client:
            state.problems.append(_blank_trap(state, word, line))
        return client or "*", options, True
    if not word:
        text = f"{printable(state.path)} stands without a client: exported to the whole world"
        state.problems.append(Problem("no_client", text, state.name, line, path=state.path, client="*"))
    elif not state.has_defaults:
        text = f"client {printable(client)} of {printable(state.path)} has no options: read-only by default"
        state.problems.append(Problem("no_options", text, state.name, line, path=state.path, client=client))
    return client, "", False


def _blank_trap(state: _State, word: str, line: int) -> Problem:
    """``client (options)``: the options are for everybody, the client has none."""
    shown = printable(state.path)
    text = f"options {printable(word)} stand without a client: {shown} is exported to the whole world"
    before = state.entries[-1] if state.entries else None
    if before is not None and before.line == line and before.path == state.path and not before.has_options:
        text += f", and client {printable(before.client)} before the blank gets default options"
    return Problem("blank_before_options", text, state.name, line, path=state.path, client="*")


_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+,:=@%~^!$&*;<>?[]{}|`'")


def render_path(path: str) -> str:
    r"""Write a path as one word of an export file; exportfs reads the very same path from it.

    Printable letters stay, UTF-8 too; blanks, quotes, ``#``, parentheses, backslashes and control characters become
    octal. After a backslash digits are escaped as well, since exportfs would take a decoded backslash and three
    digits for another escape. ``-`` as the first letter is fine: the path is the first word.

    >>> render_path("/srv/my data"), render_path("/srv/a#b")
    ('/srv/my\\040data', '/srv/a\\043b')
    """
    raw = encode(path)
    escape_digits = b"\\" in raw
    out = bytearray()
    for letter in raw:
        plain = letter >= 0x80 or letter in _SAFE
        if plain and not (escape_digits and letter in b"0123456789"):
            out.append(letter)
        else:
            out += b"\\%03o" % letter
    return decode(bytes(out))


def unwritable(path: str) -> str:
    """Why exportfs cannot hold this path whatever we write, or "" when it can.

    Its own table is written with each backslash as an escape and read again, and there a backslash followed by three
    octal digits is decoded twice: the daemon would look for another path.
    """
    raw = encode(path)
    if b"\0" in raw:
        return "a path cannot contain NUL"
    if len(raw) > LONGEST_PATH_BYTES:
        return f"a path has at most {LONGEST_PATH_BYTES} bytes, this one has {len(raw)}"
    if re.search(rb"\\[0-3][0-7][0-7]", raw):
        return "exportfs reads a backslash with three octal digits as another character, even when it is escaped"
    if any(letter < 0x20 or letter == 0x7F for letter in raw):
        return "control characters in a path are not written"
    return ""


def render_entry(path: str, clients: list[tuple[str, str]]) -> str:
    """One line: a path and its (client, option list) pairs."""
    return " ".join([render_path(path), *(f"{client}({options})" for client, options in clients)]) + "\n"


def parse_table(text: bytes) -> tuple[Entry, ...]:
    """The export table from /var/lib/nfs/etab. (`exportfs -s` shows subtree_check by leaving a word out.)"""
    return parse_exports(text, "etab").entries


__all__ = [
    "Entry",
    "ExportOptions",
    "ParsedFile",
    "Problem",
    "decode",
    "encode",
    "parse_exports",
    "parse_options",
    "parse_table",
    "printable",
    "render_entry",
    "render_path",
    "unwritable",
]
