# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_messages import (
    About,
    parse_messages,
    split_by_owner,
)
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[3] / "cases" / "exports"
CASES: list[dict[str, Any]] = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yml"))]
SPEAKING = [case for case in CASES if case["expect"]["stderr_lines"]]
OWN = "/etc/exports.d/case.exports"


@pytest.mark.parametrize("case", SPEAKING, ids=lambda case: str(case["id"]))
def test_every_message_of_the_cases_is_understood(case: dict[str, Any]) -> None:
    messages = parse_messages("\n".join(case["expect"]["stderr_lines"]))
    unknown = [message.text for message in messages if message.about is About.OTHER]
    # These two name neither file nor line, whatever the file: the table read back tells.
    assert [text for text in unknown if not text.startswith(("unknown flavor", "unknown xprtsec mode"))] == [
        text for text in unknown if "command line" in text or text.startswith("expected client")
    ]
    assert all(message.subject for message in messages if message.about not in (About.ADVICE, About.OTHER))


def about(text: str) -> tuple[About, str]:
    (message,) = parse_messages(text)
    return message.about, message.subject


@pytest.mark.parametrize(
    ("text", "kind", "subject"),
    [
        (
            "exportfs: /etc/exports.d/a.exports:3: syntax error: bad option list\n",
            About.FILE,
            "/etc/exports.d/a.exports",
        ),
        ('exportfs: /etc/exports: 3: bad fsid "fsid=x"\n\n', About.FILE, "/etc/exports"),
        ("exportfs: can't open /etc/exports.d/x.exports for reading\n", About.FILE, "/etc/exports.d/x.exports"),
        ("exportfs: Failed to resolve no.example.org\n", About.CLIENT, "no.example.org"),
        ("exportfs: Invalid prefix `210' for 192.0.2.201/210\n", About.CLIENT, "192.0.2.201/210"),
        ("exportfs: Invalid IP address a/b\n", About.CLIENT, "a/b"),
        ("exportfs: Failed to stat /srv/my data: No such file or directory\n", About.PATH, "/srv/my data"),
        ("exportfs: /srv/x is not a directory. Remote access will fail\n", About.PATH, "/srv/x"),
        ("exportfs: Warning: /srv/x requires fsid= for NFS export\n", About.PATH, "/srv/x"),
        ("exportfs: /srv/x does not support NFS export\n", About.PATH, "/srv/x"),
        ("exportfs: No options for /a b: suggest b(sync) to avoid warning\n", About.ADVICE, ""),
        ("something of its own\n", About.OTHER, ""),
    ],
)
def test_forms(text: str, kind: About, subject: str) -> None:
    assert about(text) == (kind, subject)


def test_advice_over_several_lines_is_one_message() -> None:
    text = (
        "exportfs: /etc/exports.d/a.exports [1]: Neither 'subtree_check' or 'no_subtree_check' specified for export"
        ' "*:/a".\n  Assuming default behaviour.\n  NOTE: this default has changed\n\n'
        "exportfs: Failed to resolve gone\nexportfs: Failed to resolve gone\n"
    )
    assert [message.about for message in parse_messages(text)] == [About.ADVICE, About.CLIENT]


def test_duplicates_are_one_message() -> None:
    text = (
        "exportfs: incompatible duplicated export entries:\n"
        "exportfs: \t192.0.2.0/24:/srv/a (0x424) [IGNORED]\nexportfs: \t192.0.2.0/24:/srv/a (0x425)\n"
        "exportfs: duplicated export entries:\nexportfs: \t*:/srv/b\nexportfs: \t*:/srv/b\n"
    )
    assert [(m.about, m.subject) for m in parse_messages(text)] == [
        (About.PAIR, "192.0.2.0/24:/srv/a"),
        (About.PAIR, "*:/srv/b"),
    ]


def test_owner() -> None:
    text = (
        'exportfs: /etc/exports:3: unknown keyword "x"\n'
        f'exportfs: {OWN}:2: unknown keyword "y"\n'
        "exportfs: Failed to resolve gone\nexportfs: Failed to resolve theirs\n"
        "exportfs: Failed to stat /srv/a: No such file or directory\n"
        "exportfs: No options for /z w: suggest w(sync) to avoid warning\n"
        "exportfs: duplicated export entries:\nexportfs: \t*:/srv/a\nexportfs: \t*:/srv/a\n"
    )
    own, foreign = split_by_owner(parse_messages(text), OWN, ["gone"], ["/srv/a"])
    assert len(own) == 4
    assert len(foreign) == 2
    assert foreign[0].startswith("/etc/exports:3:")
    assert "theirs" in foreign[1]


@given(
    st.lists(
        st.sampled_from(["exportfs: ", "Failed to resolve x", "\n", "duplicated export entries:", "\t", "é", "a:b"]),
        max_size=12,
    )
)
def test_never_raises_and_drops_nothing(parts: list[str]) -> None:
    text = "".join(parts)
    kept = " ".join(message.text for message in parse_messages(text))
    for line in text.splitlines():
        for word in line.removeprefix("exportfs: ").split():
            assert word in kept
