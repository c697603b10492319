# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import (
    LONGEST_PATH_BYTES,
    LONGEST_WORD_BYTES,
    ParsedFile,
    decode,
    encode,
    parse_exports,
    parse_table,
    printable,
    render_entry,
    render_path,
    unwritable,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import parse_options
from hypothesis import example, given
from hypothesis import strategies as st

CLIENTS = st.sampled_from(
    ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8::/64", "*.example.org", "node?.example.org", "@group", "*",
     "gss/krb5i", "db-1", "[ab]c.example.org"]
)  # fmt: skip
# Any path that a Linux file system can hold, as bytes.
RAW_PATHS = st.binary(min_size=1, max_size=40).map(lambda raw: b"/" + raw.replace(b"\0", b"_"))
PATHS = RAW_PATHS.map(decode) | st.text(min_size=1, max_size=20).filter(lambda t: "\0" not in t).map(
    lambda text: "/" + text.encode("utf-8", "replace").decode()
)


def parse(text: str) -> ParsedFile:
    return parse_exports(encode(text), "f")


def pairs(text: str) -> list[tuple[str, str]]:
    return [(entry.path, entry.client) for entry in parse(text).entries]


def codes(text: str) -> list[str]:
    return [problem.code for problem in parse(text).problems]


@given(PATHS, st.lists(CLIENTS, min_size=1, max_size=4))
@example("/srv/my data", ["*"])
@example("/a\"b'c#d(e)f\\g", ["*"])
@example("/-x", ["*"])
@example("/\\\\040", ["*"])
def test_round_trip(path: str, clients: list[str]) -> None:
    text = render_entry(path, [(client, "rw,sync,fsid=5") for client in clients])
    assert "\n" not in text[:-1]
    parsed = parse("# head\n" + text + "/next 192.0.2.9(ro)\n")
    assert [(e.path, e.client) for e in parsed.entries] == [(path, c) for c in clients] + [("/next", "192.0.2.9")]
    assert not [p for p in parsed.problems if p.fails or p.loses]
    assert parsed.entries[0].options == parse_options("rw,fsid=5")


@given(PATHS)
def test_a_path_is_written_without_what_ends_a_word(path: str) -> None:
    assert not re.search(rb"[\s\"#()\\]", re.sub(rb"\\[0-3][0-7]{2}", b"", encode(render_path(path))))


@given(st.binary(max_size=300))
@example(b"/a *(rw)\r\n\r\n/b *(rw)")
@example(b'"\\')
def test_never_raises(raw: bytes) -> None:
    parsed = parse_exports(raw, "f")
    for problem in parsed.problems:
        assert problem.describe()
        assert 0 <= problem.line <= raw.count(b"\n") + 1
    parse_table(raw)


@given(st.text(alphabet=' \t\n\\"#(),-=/*ar:w0147\r\0é', max_size=80))
def test_never_raises_on_what_looks_like_exports(text: str) -> None:
    parse(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv/a\\040b *(ro)", "/srv/a b"),
        ('"/srv/a b" *(ro)', "/srv/a b"),
        ('/srv/"a b"c *(ro)', "/srv/a bc"),
        ("/srv/a\\40b *(ro)", "/srv/a\\40b"),
        ("/srv/a\\400 *(ro)", "/srv/a\\400"),
        # Decoded twice: the first escape gives the backslash of the second one.
        ("/srv/\\134040 *(ro)", "/srv/ "),
        ("/srv/b#c *(ro)", "/srv/b#c"),
        ("/srv/a\\000b *(ro)", "/srv/a"),
        ("/srv/caf\\303\\251 *(ro)", "/srv/café"),
    ],
)
def test_path_words(text: str, path: str) -> None:
    assert pairs(text + "\n") == [(path, "*")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A line that holds only a carriage return ends the reading, silently.
        ("/a c(ro)\r\n\r\n/b c(ro)\r\n", [("/a", "c")]),
        ("/a c(ro)\r\n/b c(ro)\r\n", [("/a", "c"), ("/b", "c")]),
        ('"" c(ro)\n/b c(ro)\n', []),
        ('/a "" c(ro)\n', [("/a", ""), ("/a", "c")]),
        # Default options at the end of a line are an export to everybody.
        ("/a c(ro) -rw\n", [("/a", "c"), ("/a", "")]),
        ("/a -ro -rw c\n", [("/a", "-rw"), ("/a", "c")]),
        ("/a\f192.0.2.1(ro)\n", [("/a", "192.0.2.1")]),
        ("/a \\\n# x\n/b c(ro)\n", [("/a", ""), ("/b", "c")]),
        ("/a c(ro) \\\n\\\n  d(ro)\n", [("/a", "c"), ("/a", "d")]),
        ("/a c(ro)", [("/a", "c")]),
        ("/a c(ro) \\", [("/a", "c"), ("/a", "\\")]),
        ("", []),
        ("# only\n\n", []),
    ],
)
def test_lines(text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(text) == expected


def test_what_is_silently_unread_is_said() -> None:
    assert codes("/a c(ro)\r\n\r\n/b c(ro)\r\n") == ["unread_rest"]
    assert not parse("/a c(ro)\r\n\r\n/b c(ro)\r\n").complete
    long_path = "/" + "x" * LONGEST_PATH_BYTES
    assert codes(f"{long_path} c(ro)\n") == ["path_too_long"]
    assert not parse(f"{long_path} c(ro)\n").problems[0].fails
    assert pairs(f"{long_path[:-1]} c(ro)\n") == [(long_path[:-1], "c")]


@pytest.mark.parametrize(
    ("length", "said"), [(LONGEST_WORD_BYTES, ["no_options"]), (LONGEST_WORD_BYTES + 1, ["word_too_long"])]
)
def test_longest_word(length: int, said: list[str]) -> None:
    assert codes("/a " + "x" * length + "\n") == said


def test_lines_are_counted_with_comments() -> None:
    """exportfs forgets comment lines when it counts; a person looks at the file."""
    assert [(p.code, p.line) for p in parse("# one\n# two\n/a c(nonsense)\n").problems] == [("unknown_keyword", 3)]


def test_windows_line_ends_after_a_backslash() -> None:
    assert "broken_continuation" in codes("/a \\\r\n c(ro)\n")


def test_blank_trap_names_the_client_before_the_blank() -> None:
    problem = parse("/a 192.0.2.0/24 (rw)\n").problems[-1]
    assert (problem.code, problem.client) == ("blank_before_options", "*")
    assert "192.0.2.0/24 before the blank" in problem.text
    assert "before the blank" not in parse("/a (rw)\n").problems[-1].text


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/a\0", "NUL"),
        ("/" + "x" * 1024, "1025"),
        ("/a\\040", "backslash"),
        ("/a\nb", "control"),
        ("/a\x7f", "control"),
    ],
)
def test_unwritable(path: str, word: str) -> None:
    assert word in unwritable(path)


@pytest.mark.parametrize("path", ["/a", "/a b", "/a\\b", "/a\\400", "/é", "/" + "x" * 1023, "/a\udcff"])
def test_writable(path: str) -> None:
    assert unwritable(path) == ""


def test_etab_with_its_escapes() -> None:
    text = b"/srv/a\\040b\t192.0.2.1(rw,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,"
    text += b"secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,rw,secure,root_squash,no_all_squash)\n"
    (entry,) = parse_table(text)
    assert (entry.path, entry.client) == ("/srv/a b", "192.0.2.1")
    assert entry.options == parse_options("rw")


def test_printable_shows_controls() -> None:
    assert printable("/a\tb") == "/a\\tb"
