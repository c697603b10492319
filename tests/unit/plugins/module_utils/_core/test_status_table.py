# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.status_table import cell_text, render_table
from hypothesis import given
from hypothesis import strategies as st


def test_a_table() -> None:
    table = render_table(["PET", "READY", "N"], [["mysql-0", True, 10], ["mysql-1", None, 9]])
    assert table.splitlines() == ["PET      READY   N", "mysql-0  yes    10", "mysql-1  -       9"]


def test_wide_characters_take_two_columns() -> None:
    lines = render_table(["A", "B"], [["数据", "x"], ["ab", "y"]]).splitlines()
    assert lines == ["A     B", "数据  x", "ab    y"]


@pytest.mark.parametrize(("value", "text"), [(None, "-"), ("", "-"), (0, "0"), (False, "no"), ("a\nb", "a b")])
def test_cells(value: Any, text: str) -> None:
    assert cell_text(value) == text


def test_a_row_has_to_fit() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        render_table(["A"], [["x", "y"]])


CELLS = st.none() | st.integers() | st.booleans() | st.text(max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5))
def test_one_line_per_row_without_blanks_at_the_end(rows: list[tuple[Any, ...]]) -> None:
    lines = render_table(["A", "B", "C"], rows).split("\n")
    assert len(lines) == len(rows) + 1
    assert all(line == line.rstrip(" ") for line in lines)
