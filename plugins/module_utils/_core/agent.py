# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as one zip that any image with python3 runs: its sources, and PyMySQL, which the image need not have."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

from .errors import InvalidInput

PACKAGE = "petset_agent"
REQUIRED = frozenset({f"{PACKAGE}/__init__.py", f"{PACKAGE}/__main__.py", f"{PACKAGE}/decide.py"})
# A ConfigMap holds 1 MiB, a third of which base64 takes.
MAX_ZIP_BYTES = 700 * 1024
_FILE = re.compile(rf"{PACKAGE}/[a-z_]+\.py")
_MAIN = b"from petset_agent.__main__ import main\n\nmain()\n"
# The first day that a zip can name: the bytes depend on the content only.
_DATE = (1980, 1, 1, 0, 0, 0)


def parse_agent_files(files: Any) -> dict[str, str]:
    """The agent's sources, ``petset_agent/<name>.py`` to text. InvalidInput: files are missing or are none of it."""
    allowed = "a map from petset_agent/<name>.py to text, as the role pet_set makes it; or agent.enabled: false"
    if not isinstance(files, Mapping) or not files:
        raise InvalidInput("agent_files", None, "it is missing", allowed)
    missing = sorted(REQUIRED - set(files))
    if missing:
        raise InvalidInput("agent_files", missing, "files are missing", allowed)
    for name, text in files.items():
        if not _FILE.fullmatch(str(name)) or not isinstance(text, str):
            raise InvalidInput("agent_files", name, "not a file of the agent", allowed)
    return dict(files)


def hash_agent(files: Mapping[str, str]) -> str:
    """Changes with the agent's sources only: another PyMySQL on another controller does not roll the pets."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()[:16]


def render_zip(files: Mapping[str, str], library: Mapping[str, bytes]) -> bytes:
    """The zip; ``library`` is PyMySQL, ``pymysql/<name>.py`` to content. The same content gives the same bytes.

    InvalidInput: it is too large for a ConfigMap.
    """
    content = {"__main__.py": _MAIN, **library, **{name: text.encode() for name, text in files.items()}}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o444 << 16
            archive.writestr(entry, content[name])
    data = sink.getvalue()
    if len(data) > MAX_ZIP_BYTES:
        raise InvalidInput("agent_files", len(data), "too many bytes with PyMySQL", f"at most {MAX_ZIP_BYTES} bytes")
    return data
