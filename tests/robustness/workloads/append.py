# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are only added, each once: a missing one is a lost write, a doubled one cannot be."""

from __future__ import annotations

from typing import Any

TABLE = "appended"
CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (client BIGINT NOT NULL, seq BIGINT NOT NULL,"
    " at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), PRIMARY KEY (client, seq))"
)


class Append:
    """Adds (client, 1), (client, 2), ...; a number is never used twice."""

    f = "append"

    def __init__(self, client: int) -> None:
        self.client = client
        self.sequence = 0

    def next_value(self) -> tuple[int, ...]:
        """The next row."""
        self.sequence += 1
        return (self.client, self.sequence)

    def statement(self, value: tuple[int, ...]) -> tuple[str, tuple[Any, ...]]:
        """One row in a transaction of its own."""
        return f"INSERT INTO {TABLE} (client, seq) VALUES (%s, %s)", value
