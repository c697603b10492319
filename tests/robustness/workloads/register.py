# SPDX-License-Identifier: GPL-3.0-or-later
"""A row that one client overwrites with rising numbers: one that goes back shows a change that came too late."""

from __future__ import annotations

from typing import Any

TABLE = "registers"
CREATE = f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT NOT NULL PRIMARY KEY, number BIGINT NOT NULL)"


class Register:
    """Writes 1, 2, 3, ... to one row that nobody else writes."""

    f = "write"

    def __init__(self, register: int) -> None:
        self.register = register
        self.number = 0

    def next_value(self) -> tuple[int, ...]:
        """The next number."""
        self.number += 1
        return (self.register, self.number)

    def statement(self, value: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        """One change in a transaction of its own; blind, as applications' are."""
        return f"UPDATE {TABLE} SET number = %s WHERE id = %s", (value[1], value[0])
