# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table that a person reads in a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any


def render_table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns side by side, each as wide as its widest cell; numbers to the right; nothing is "-".

    No line ends in blanks. ValueError: a row has another number of cells than there are titles.

    >>> print(render_table(["PET", "RESTARTS"], [["mysql-0", 0], ["mysql-1", None]]))
    PET      RESTARTS
    mysql-0         0
    mysql-1         -
    """
    for row in rows:
        if len(row) != len(titles):
            raise ValueError(f"{len(row)} cells in a row of a table with {len(titles)} columns")
    cells = [[cell_text(cell) for cell in row] for row in rows]
    right = [_is_numeric([row[index] for row in rows]) for index in range(len(titles))]
    widths = [max([_width(title), *(_width(row[index]) for row in cells)]) for index, title in enumerate(titles)]
    lines = []
    for line in [list(titles), *cells]:
        padded = [_pad(cell, width, to_right) for cell, width, to_right in zip(line, widths, right, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def cell_text(value: Any) -> str:
    """A value in one cell: one line, and "-" for nothing."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(str(value).split())


def _is_numeric(values: Sequence[Any]) -> bool:
    numbers = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in values if value is not None]
    return bool(numbers) and all(numbers)


def _width(text: str) -> int:
    """Columns in a terminal: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _pad(text: str, width: int, to_right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if to_right else text + blanks
