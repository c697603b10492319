# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do all pets hold the same rows? The statements that ask, and what the answers mean; ``_io.compare`` asks.

Replication does not tell. A row event finds its row by the primary key alone and overwrites it, without a look at what
the source had there before: when two masters change one row at the same time, each ends with the other's values, both
appliers run on, and the GTID sets are equal (tried on MySQL 9.7; tests/api/test_ring_compare.py shows it).

Each table is cut into parts by the primary key, and each part has a count and a sum over hashes of its rows. No lock is
taken and no moment is shared by the pets, so parts may differ because a write is on its way. Such a part changes: one
that differs in several looks in a row, with the same values on each pet each time, although every pet has meanwhile
applied all that any had before, differs for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PARTS = 1024
"""Of each table, by the CRC of its primary key."""
SAME_LOOKS = 3
"""So many looks in a row with the same difference are one for good."""
MOST_LOOKS = 8
SHOWN_KEYS = 3
_KEY_LENGTH = 40
# Schemas of the server, and the agents' heartbeat, which is written to all the time.
_LEFT_OUT = "'information_schema', 'mysql', 'performance_schema', 'petset', 'sys'"
# Their values are short in hexadecimal as well; everything else goes through a hash of its own.
_SHORT = frozenset(
    "bigint bit date datetime decimal double enum float int mediumint set smallint time timestamp tinyint year".split()
)
_BYTES = frozenset("binary varbinary tinyblob blob mediumblob longblob".split())

_ALL = f"NOT IN ({_LEFT_OUT})"
TABLES = " ".join(
    [
        "SELECT TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name, DATA_LENGTH AS bytes",
        f"FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA {_ALL}",
    ]
)
COLUMNS = " ".join(
    [
        "SELECT TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name, COLUMN_NAME AS column_name, DATA_TYPE AS kind",
        f"FROM information_schema.COLUMNS WHERE TABLE_SCHEMA {_ALL} AND EXTRA NOT LIKE '%VIRTUAL GENERATED%'",
        "ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
    ]
)
KEYS = " ".join(
    [
        "SELECT TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name, COLUMN_NAME AS column_name",
        f"FROM information_schema.STATISTICS WHERE INDEX_NAME = 'PRIMARY' AND TABLE_SCHEMA {_ALL}",
        "ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX",
    ]
)

Row = Mapping[str, Any]
Part = tuple[int, str]
"""Rows, and the sum of their hashes."""
Parts = Mapping[int, Part]
"""The parts of a table that have rows, by number."""
Name = tuple[str, str]
"""Schema and table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as one pet has it: its columns with their types, the names of those in its primary key, its bytes."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    size: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """A table that differs for good. ``groups``: the pets that agree among themselves. ``rows`` None: not known."""

    table: str
    groups: tuple[tuple[str, ...], ...]
    rows: int | None = None
    keys: tuple[str, ...] = ()
    what: str = ""

    def describe(self) -> str:
        """One line."""
        pets = " and ".join(", ".join(group) for group in self.groups)
        if self.what:
            return f"table {self.table} {self.what}"
        text = f"table {self.table} differs between {pets}"
        if self.rows is not None:
            text += f" in {self.rows} row{'s' if self.rows > 1 else ''}"
        if self.keys:
            more = "" if self.rows == len(self.keys) else "; …"
            text += f", by primary key: {'; '.join(self.keys)}{more}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """For results."""
        return {
            "table": self.table,
            "pets": [list(group) for group in self.groups],
            "rows": self.rows,
            "primary_keys": list(self.keys),
            "text": self.describe(),
        }


@dataclass(slots=True)
class Comparison:
    """What a comparison came to. ``not_compared``: sentences about what is not known."""

    tables: int = 0
    different: list[Difference] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For results."""
        return {
            "tables": self.tables,
            "different": [one.as_dict() for one in self.different],
            "not_compared": list(self.not_compared),
        }


def parse_tables(tables: Iterable[Row], columns: Iterable[Row], keys: Iterable[Row]) -> dict[Name, Table]:
    """The tables of a pet from its answers to TABLES, COLUMNS and KEYS."""
    of_columns: dict[Name, list[tuple[str, str]]] = {}
    of_keys: dict[Name, list[str]] = {}
    for row in columns:
        column = (str(row["column_name"]), str(row["kind"]).lower())
        of_columns.setdefault(_name(row), []).append(column)
    for row in keys:
        of_keys.setdefault(_name(row), []).append(str(row["column_name"]))
    return {
        name: Table(tuple(of_columns[name]), tuple(of_keys.get(name, ())), int(row["bytes"] or 0))
        for row in tables
        # Dropped between two answers: then it is not there.
        if (name := _name(row)) in of_columns
    }


def _name(row: Row) -> Name:
    return str(row["table_schema"]), str(row["table_name"])


def differing_structure(pets: Mapping[str, Mapping[Name, Table]]) -> list[Difference]:
    """Tables that some pets lack, or have with other columns."""
    found = []
    for name in sorted({name for tables in pets.values() for name in tables}):
        have = [pet for pet, tables in pets.items() if name in tables]
        lack = [pet for pet in pets if pet not in have]
        shown = ".".join(name)
        if lack:
            what = f"is on {', '.join(have)} and not on {', '.join(lack)}"
            found.append(Difference(shown, (tuple(have), tuple(lack)), what=what))
        elif len({pets[pet][name] for pet in have}) > 1:
            groups = _groups({pet: pets[pet][name] for pet in have})
            what = f"has other columns on {' than on '.join(', '.join(group) for group in groups)}"
            found.append(Difference(shown, groups, what=what))
    return found


def common_tables(pets: Mapping[str, Mapping[Name, Table]]) -> list[tuple[Name, Table]]:
    """The tables that all pets have alike, the small ones first: then a limit of time leaves out the fewest."""
    first = next(iter(pets.values()))
    same = [(n, t) for n, t in first.items() if all(tables.get(n) == t for tables in pets.values())]
    return sorted(same, key=lambda one: (one[1].size, one[0]))


def parts_statement(name: Name, table: Table, only: Iterable[int] = ()) -> str:
    """Count and sum of each part; of some parts only when any are named."""
    wanted = f"{_part(table)} AS part, COUNT(*) AS row_count, SUM({_hash(table)}) AS hash_sum"
    return " ".join(["SELECT", wanted, "FROM", f"{_quoted(*name)}{_where(table, only)}", "GROUP BY part"])


def rows_statement(name: Name, table: Table, only: Iterable[int], limit: int) -> str:
    """Primary key and hash of each row of some parts."""
    key = ", ', ', ".join(_shown(column, kind) for column, kind in _key(table))
    wanted = f"CONCAT({key}) AS row_key, {_hash(table)} AS row_hash"
    return " ".join(["SELECT", wanted, "FROM", f"{_quoted(*name)}{_where(table, only)}", f"LIMIT {int(limit)}"])


def parse_parts(rows: Iterable[Row]) -> dict[int, Part]:
    """The answer to ``parts_statement``."""
    return {int(row["part"]): (int(row["row_count"]), str(row["hash_sum"])) for row in rows}


def parse_rows(rows: Iterable[Row]) -> dict[str, str]:
    """The answer to ``rows_statement``: hash by key."""
    return {str(row["row_key"]): str(row["row_hash"]) for row in rows}


class Watch:
    """One table over several looks: which of its parts are equal, differ for good, or still move."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[tuple[Part | None, ...], int]] = {}
        self.settled: dict[int, tuple[Part | None, ...]] = {}
        self.first = True

    def look(self, pets: Sequence[Parts]) -> None:
        """Take in the parts as each pet has them; after the first look those in ``moving`` only."""
        numbers = {n for parts in pets for n in parts} if self.first else set(self.seen)
        self.first = False
        before, self.seen = self.seen, {}
        for number in sorted(numbers):
            values = tuple(parts.get(number) for parts in pets)
            if len(set(values)) == 1:
                continue
            old, count = before.get(number, (values, 0))
            count = count + 1 if old == values else 1
            if count >= SAME_LOOKS:
                self.settled[number] = values
            else:
                self.seen[number] = (values, count)

    @property
    def moving(self) -> list[int]:
        """Parts that differ and may yet become equal."""
        return sorted(self.seen)

    def groups(self, pets: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The pets that agree among themselves in all parts that differ for good."""
        rows = {pet: tuple(self.settled[n][i] for n in sorted(self.settled)) for i, pet in enumerate(pets)}
        return _groups(rows)


def differing_keys(pets: Sequence[Mapping[str, str]]) -> set[str]:
    """Keys whose row is not the same on all pets, or not on all of them."""
    return {key for rows in pets for key in rows if len({other.get(key) for other in pets}) > 1}


def shown_keys(keys: Iterable[str]) -> tuple[str, ...]:
    """A few of them, none of them long."""
    ordered = sorted(keys, key=lambda key: (len(key), key))[:SHOWN_KEYS]
    return tuple(key if len(key) <= _KEY_LENGTH else f"{key[:_KEY_LENGTH]}…" for key in ordered)


def _groups(values: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    groups: dict[Any, list[str]] = {}
    for pet, value in values.items():
        groups.setdefault(value, []).append(pet)
    return tuple(tuple(group) for group in groups.values())


def _key(table: Table) -> list[tuple[str, str]]:
    kinds = dict(table.columns)
    return [(column, kinds.get(column, "")) for column in table.key]


def _quoted(*names: str) -> str:
    return ".".join(f"`{name.replace('`', '``')}`" for name in names)


def _value(column: str, kind: str) -> str:
    """A column as letters that mean one value only."""
    # Of a FLOAT six digits are shown, of the same number as DOUBLE all.
    value = f"CAST({_quoted(column)} AS DOUBLE)" if kind == "float" else _quoted(column)
    value = f"CAST({value} AS BINARY)"
    return f"IFNULL({f'HEX({value})' if kind in _SHORT else f'SHA2({value}, 256)'}, '-')"


def _shown(column: str, kind: str) -> str:
    return f"HEX({_quoted(column)})" if kind in _BYTES else f"CONVERT({_quoted(column)} USING utf8mb4)"


def _part(table: Table) -> str:
    columns = _key(table) or table.columns
    return f"CRC32(CONCAT_WS(',', {', '.join(_value(*column) for column in columns)})) % {PARTS}"


def _hash(table: Table) -> str:
    # 60 bits: their sum over any number of rows is an exact DECIMAL, and equal rows do not cancel out as with XOR.
    text = ", ".join(_value(*column) for column in table.columns)
    return f"CAST(CONV(LEFT(SHA2(CONCAT_WS(',', {text}), 256), 15), 16, 10) AS UNSIGNED)"


def _where(table: Table, only: Iterable[int]) -> str:
    numbers = ", ".join(str(int(number)) for number in only)
    return f" WHERE {_part(table)} IN ({numbers})" if numbers else ""
