# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples that stand in the pages for users, as data: files and commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/stories/{path.name}" for path in (ROOT / "docs" / "stories").glob("*.md")))


@dataclass(frozen=True, slots=True)
class Page:
    """``files``: (name, content) of the YAML blocks that begin with their name as a comment, in order; one name can
    stand twice. ``commands``: words of the ``ansible-playbook`` lines. ``shown_by``: what the page says shows it."""

    name: str
    files: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    shown_by: tuple[str, ...]


def parse_page(name: str, text: str) -> Page:
    """Read a page in Markdown.

    >>> page = parse_page("x.md", "    ansible-playbook -i i.yml stateful.petset.site  # now\\n\\nShown by `a.py`.\\n")
    >>> page.commands, page.shown_by
    ((('ansible-playbook', '-i', 'i.yml', 'stateful.petset.site'),), ('a.py',))
    """
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    files = [(found[1], block) for block in blocks if (found := re.match(r"# ([\w.]+\.yml)\n", block))]
    lines = re.findall(r"^    (ansible-playbook .*)$", text, re.MULTILINE)
    told = re.search(r"^Shown by (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return Page(
        name,
        tuple(files),
        tuple(tuple(shlex.split(line, comments=True)) for line in lines),
        tuple(re.findall(r"`([^`]+)`", told[1])) if told else (),
    )


def read_page(name: str) -> Page:
    """A page of this tree."""
    return parse_page(name, (ROOT / name).read_text())
