# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that others wrote (logs, events, errors of MySQL) without the secrets that may stand in them.

Hidden are the set's own secrets in each way of writing in which they may have got there, and whatever a text itself
calls a password. A text has to be hidden before it is cut: a half of a password is recognised by nobody.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, quote_plus

STARS: Final = "********"

# A line of a key is long enough not to be met by chance.
_LEAST_LINE: Final = 16
_QUOTED: Final = r"""(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")"""
_CALLED: Final = (
    # CREATE USER, ALTER USER: a password, or the hash that MySQL writes in its place into the binary log.
    re.compile(rf"(\bIDENTIFIED\s+(?:WITH\s+\S+\s+)?(?:BY|AS)\s+(?:PASSWORD\s+)?){_QUOTED}", re.IGNORECASE),
    re.compile(rf"(\b\w*(?:PASSWORD|PASSWD|MYSQL_PWD)\s*=\s*)(?:{_QUOTED}|[^\s,;'\"&]+)", re.IGNORECASE),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE),
    re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|$)", re.DOTALL),
)


@dataclass(frozen=True)
class Redactor:
    """Hides ``values`` and what a text calls a password. Without values, where none may be read, only the latter."""

    values: tuple[str, ...] = ()

    @cached_property
    def _ways(self) -> tuple[str, ...]:
        """All ways of writing all values, the longest first; once, as each look hides many texts."""
        return tuple(sorted({form for value in self.values for form in _forms(value)}, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """The text with stars in the place of each secret.

        >>> Redactor(("it's",)).hide("using it\\\\'s as CREATE USER x IDENTIFIED BY 'other'")
        'using ******** as CREATE USER x IDENTIFIED BY ********'
        """
        for form in self._ways:
            text = text.replace(form, STARS)
        for pattern in _CALLED:
            text = pattern.sub(rf"\g<1>{STARS}", text)
        return text


def _forms(value: str) -> set[str]:
    """How a secret may stand in a text: as it is, as SQL, JSON, a URL, a page, a shell, Python and base64 have it."""
    forms: set[str] = set()
    for plain in (value, value.strip()):
        if not plain:
            continue
        escaped = plain.replace("\\", "\\\\")
        forms |= {plain, escaped, escaped.replace("'", "\\'"), escaped.replace("'", "\\'").replace('"', '\\"')}
        forms |= {plain.replace("'", "''"), plain.replace('"', '""'), " ".join(plain.split())}
        forms |= {json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1], repr(plain)[1:-1]}
        forms |= {html.escape(plain), html.escape(plain, quote=False)}
        forms |= {quote(plain, safe=""), quote(plain), quote_plus(plain), shlex.quote(plain)}
        forms |= {base64.b64encode(f"{plain}{end}".encode()).decode() for end in ("", "\n")}
        forms |= {line.strip() for line in plain.splitlines() if len(line.strip()) >= _LEAST_LINE}
    return forms - {""}
