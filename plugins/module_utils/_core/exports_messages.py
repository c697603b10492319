# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exportfs says on standard error, sorted by what it is about.

Its exit status misleads both ways: 0 although a client is missing because its name does not resolve, 1 although all
is exported because an entry stands twice. So each message is read. They are in English under LC_ALL=C.

Source: messages of exportfs 2.6.2, 2.8.3 and 3.1.1 (tests/unit/cases/exports, tests/lab/exports_oracle.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class About(Enum):
    """What a message is about."""

    FILE = "file"
    CLIENT = "client"
    PATH = "path"
    PAIR = "pair"
    ADVICE = "advice"
    OTHER = "other"


@dataclass(frozen=True)
class Message:
    """One message. ``subject`` is the file, client or path; for a pair ``client:path`` as exportfs prints it."""

    about: About
    text: str
    subject: str = ""
    line: int = 0


# Tried in this order. The groups `subject` and `line` are optional.
_FORMS: tuple[tuple[About, re.Pattern[str]], ...] = (
    (About.ADVICE, re.compile(r"No options for |No host name given with ", re.DOTALL)),
    (About.ADVICE, re.compile(r".* \[\d+\]: Neither 'subtree_check' or 'no_subtree_check' specified", re.DOTALL)),
    (About.ADVICE, re.compile(r".* \[\d+\]: No 'sync' or 'async' option specified", re.DOTALL)),
    (About.FILE, re.compile(r"can't open (?P<subject>.*) for reading", re.DOTALL)),
    (About.FILE, re.compile(r"(?P<subject>/etc/exports(?:\.d/[^:]*)?): ?(?P<line>\d+): ", re.DOTALL)),
    (About.CLIENT, re.compile(r"Failed to resolve (?P<subject>.*)", re.DOTALL)),
    (About.CLIENT, re.compile(r"Invalid (?:prefix|netmask) `.*' for (?P<subject>.*)", re.DOTALL)),
    (About.CLIENT, re.compile(r"Invalid IP address (?P<subject>.*)", re.DOTALL)),
    (About.PATH, re.compile(r"Failed to stat (?P<subject>.*): [^:]*", re.DOTALL)),
    (About.PATH, re.compile(r"(?P<subject>.*) is not a directory\. Remote access will fail", re.DOTALL)),
    (About.PATH, re.compile(r"(?P<subject>/.*) does not support NFS export", re.DOTALL)),
    (About.PATH, re.compile(r"Warning: (?P<subject>/.*) (?:requires fsid=|does not support NFS export)", re.DOTALL)),
    (About.PATH, re.compile(r"(?P<subject>/.*) requires fsid= for NFS export", re.DOTALL)),
)
_PREFIX = "exportfs: "


def parse_messages(stderr: str) -> tuple[Message, ...]:
    """Cut standard error into messages and sort them. Unknown ones are kept as OTHER, never dropped.

    >>> parse_messages("exportfs: Failed to resolve gone.example.org\\n")[0].subject
    'gone.example.org'
    """
    messages: list[Message] = []
    texts = _split(stderr)
    position = 0
    while position < len(texts):
        text = texts[position]
        if text.endswith("duplicated export entries:") and position + 2 < len(texts):
            first, second = texts[position + 1].strip(), texts[position + 2].strip()
            ignored = "incompatible" in text
            loser = re.sub(r" \(0x[0-9a-f]+\)( \[IGNORED\])?\Z", "", first)
            messages.append(Message(About.PAIR, f"{text} {first}, {second}", loser, 1 if ignored else 0))
            position += 3
            continue
        messages.append(_sort(text))
        position += 1
    return tuple(dict.fromkeys(messages))


def _split(stderr: str) -> list[str]:
    """A message begins with the program's name; lines without it continue the one before."""
    texts: list[str] = []
    for line in stderr.splitlines():
        if line.startswith(_PREFIX):
            if line[len(_PREFIX) :].strip():
                texts.append(line[len(_PREFIX) :])
        elif texts and line.strip():
            texts[-1] += "\n" + line
        elif line.strip():
            texts.append(line)
    return texts


def _sort(text: str) -> Message:
    shown = text.rstrip()
    for about, pattern in _FORMS:
        match = pattern.match(shown)
        if match is not None:
            groups = match.groupdict()
            return Message(about, shown, groups.get("subject") or "", int(groups.get("line") or 0))
    return Message(About.OTHER, shown)


def split_by_owner(
    messages: Iterable[Message], own_file: str, own_clients: Iterable[str], own_paths: Iterable[str]
) -> tuple[list[str], list[str]]:
    """The texts that blame our file, our clients or our paths, and the other ones. Advice is in neither."""
    clients, paths = set(own_clients), set(own_paths)
    own: list[str] = []
    foreign: list[str] = []
    for message in messages:
        if message.about is About.ADVICE:
            continue
        ours = (
            (message.about is About.FILE and message.subject == own_file)
            or (message.about is About.CLIENT and message.subject in clients)
            or (message.about is About.PATH and message.subject in paths)
            or (message.about is About.PAIR and any(message.subject.endswith(":" + path) for path in paths))
        )
        (own if ours else foreign).append(message.text)
    return own, foreign
