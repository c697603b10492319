# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples that stand in the pages, as data: blocks, and of them files, plays and commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def find_pages(*patterns: str) -> tuple[str, ...]:
    """Names of the pages of this tree that match, sorted."""
    return tuple(sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)))


STORIES = find_pages("docs/stories/*.md")
ROLES = find_pages("docs/roles/*.md")
# CHANGELOG.md is made from the fragments.
ALL_PAGES = tuple(name for name in find_pages("*.md", "[!.]*/README.md", "docs/**/*.md") if name != "CHANGELOG.md")

# The inventory for pages that show none, as they speak of a set which is there already.
USUAL = "all: {vars: {petset_nfs_managed: false, petset_nfs_server: 192.0.2.20}}\n"
# How a user gets the collection.
INSTALL = ("ansible-galaxy", "collection", "install", ".")


class Kind(Enum):
    """What can be done with an example."""

    PLAYS = "plays, run as they are"
    INVENTORY = "an inventory of the playbooks"
    VARIABLES = "variables, for a playbook or a role"
    COMMANDS = "a command on each line"
    JSON = "a JSON document"
    TEXT = "a file or a picture, which has a test of its own"


@dataclass(frozen=True, slots=True)
class Block:
    """An example. ``language``: the word behind the fence; of an indented block it is ``console``."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that it is said to be in its first line; empty for none."""
        found = re.match(r"# ([\w.]+\.yml)\n", self.text)
        return found[1] if found else ""

    @property
    def kind(self) -> Kind:
        """Raises ValueError for a block that no test knows how to run."""
        simple = {"console": Kind.COMMANDS, "json": Kind.JSON, "text": Kind.TEXT}
        if self.language in simple:
            return simple[self.language]
        content = yaml.safe_load(self.text) if self.language == "yaml" else None
        if isinstance(content, list) and all(isinstance(play, dict) and "hosts" in play for play in content):
            return Kind.PLAYS
        if isinstance(content, dict):
            return Kind.INVENTORY if set(content) == {"all"} else Kind.VARIABLES
        raise ValueError(
            f"{self.page}:{self.line}: no test runs such an example ({self.language or 'no language'}). Allowed: yaml "
            "(plays, an inventory, variables), console (commands), json, text"
        )


@dataclass(frozen=True, slots=True)
class Page:
    """``files``: (name, content) of the YAML blocks that begin with their name as a comment, in order; one name can
    stand twice. ``commands``: words of the ``ansible-playbook`` lines. ``shown_by``: what the page says shows it."""

    name: str
    blocks: tuple[Block, ...]
    files: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    shown_by: tuple[str, ...]

    @property
    def inventories(self) -> tuple[str, ...]:
        """Those that the page shows."""
        return tuple(content for name, content in self.files if name == "inventory.yml")


def parse_blocks(name: str, text: str) -> tuple[Block, ...]:
    r"""The fenced and the indented blocks of a page in Markdown.

    >>> [(b.line, b.language, b.text) for b in parse_blocks("x.md", "a\n\n    ls\n    id\n\n```yaml\n    a: 1\n```\n")]
    [(3, 'console', 'ls\nid\n'), (6, 'yaml', '    a: 1\n')]
    """
    found = []
    fenced = r"^(?P<fence>`{3,}|~{3,})(?P<language>.*)\n(?P<fenced>(?:.*\n)*?)(?P=fence)\s*$"
    indented = r"(?<=\n\n)(?P<indented>(?: {4}.*\n)+)"
    for block in re.finditer(f"{fenced}|{indented}", text, re.MULTILINE):
        line = text.count("\n", 0, block.start()) + 1
        if block["indented"]:
            found.append(Block(name, line, "console", re.sub(r"^ {4}", "", block["indented"], flags=re.MULTILINE)))
        else:
            found.append(Block(name, line, block["language"].strip(), block["fenced"]))
    return tuple(found)


def commands_of(block: Block) -> tuple[tuple[str, ...], ...]:
    """The words of each line of a block of commands."""
    lines = (shlex.split(line, comments=True) for line in block.text.splitlines())
    return tuple(tuple(words) for words in lines if words)


def parse_page(name: str, text: str) -> Page:
    r"""Read a page in Markdown.

    >>> page = parse_page("x.md", "X\n\n    ansible-playbook stateful.petset.site  # now\n\nShown by `a.py`.\n")
    >>> page.commands, page.shown_by
    ((('ansible-playbook', 'stateful.petset.site'),), ('a.py',))
    """
    blocks = parse_blocks(name, text)
    commands = [words for block in blocks if block.language == "console" for words in commands_of(block)]
    told = re.search(r"^Shown by (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return Page(
        name,
        blocks,
        tuple((block.name, block.text) for block in blocks if block.language == "yaml" and block.name),
        tuple(words for words in commands if words[0] == "ansible-playbook"),
        tuple(re.findall(r"`([^`]+)`", told[1])) if told else (),
    )


@cache
def read_page(name: str) -> Page:
    """A page of this tree."""
    return parse_page(name, (ROOT / name).read_text())


def all_blocks(*kinds: Kind, pages: tuple[str, ...] = ALL_PAGES) -> tuple[Block, ...]:
    """The examples of these kinds."""
    return tuple(block for name in pages for block in read_page(name).blocks if block.kind in kinds)


# With commands for a user's own cluster.
PAGES = tuple(name for name in ALL_PAGES if read_page(name).commands)


def role_of(variables: Any) -> str:
    """The role that variables are for, by their names' first part; ``petset`` where the playbooks hand them on."""
    roles = {path.parent.name for path in (ROOT / "roles").glob("*/meta")}
    found = {role for name in variables for role in roles if name.startswith(f"{role}_")}
    return found.pop() if len(found) == 1 else "petset"


def plays_of(block: Block) -> list[dict[str, Any]]:
    """The plays of an example, or one that runs the role to which its variables belong."""
    content = yaml.safe_load(block.text)
    if block.kind is Kind.PLAYS:
        plays: list[dict[str, Any]] = content
        return plays
    role = {"role": f"stateful.petset.{role_of(content)}", "vars": content}
    return [{"hosts": "localhost", "gather_facts": False, "roles": [role]}]
