# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the rows of all pets, within a limit of time and without any lock. See ``_core.ring_compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .._core.gtid import GtidSet
from .._core.ring import RingPet
from .._core.ring_compare import (
    COLUMNS,
    KEYS,
    MOST_LOOKS,
    TABLES,
    Comparison,
    Difference,
    Name,
    Table,
    Watch,
    common_tables,
    differing_keys,
    differing_structure,
    parse_parts,
    parse_rows,
    parse_tables,
    parts_statement,
    rows_statement,
    shown_keys,
)
from .clock import Clock, Deadline
from .mysql import Connector, PetDown, Session, SqlError

MARGIN_S = 5.0
"""The server ends a statement at the limit; the connection is given up only so much later."""
_SYNC_S = 20.0
_MOST_PARTS = 32
_MOST_ROWS = 50000
_TOO_LONG = 3024

# A TIMESTAMP reads as the session's zone has it; the sizes of tables are told as they are now, not as cached.
_SESSION = "SET SESSION time_zone = '+00:00', transaction_read_only = ON, information_schema_stats_expiry = 0"

Answer = TypeVar("Answer")


class _Late(Exception):
    """The limit of time is over, or a pet does not apply what the others hold; the text says which."""


class _Work:
    """The sessions of one comparison, one for each pet."""

    def __init__(self, pets: Sequence[RingPet], connector: Connector, deadline: Deadline) -> None:
        self.names = [pet.name for pet in pets]
        self.deadline = deadline
        self.sessions: dict[str, Session] = {}
        self.pool = ThreadPoolExecutor(len(pets))
        try:
            for pet in pets:
                self.sessions[pet.name] = connector(pet, deadline.limit_s + MARGIN_S)
            self.each(lambda session: session.run(_SESSION))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.pool.shutdown()
        for session in self.sessions.values():
            session.close()

    def each(self, ask: Callable[[Session], Answer]) -> list[Answer]:
        """The same of all pets at the same time, in their order."""
        return list(self.pool.map(lambda name: ask(self.sessions[name]), self.names))

    def left_s(self) -> float:
        if self.deadline.over:
            raise self.too_long()
        return self.deadline.left_s

    def too_long(self) -> _Late:
        return _Late(f"the limit of {self.deadline.limit_s:.0f} s was over")

    def query(self, text: str) -> list[list[Mapping[str, Any]]]:
        """A statement that the server itself ends at the limit."""
        limit = max(1, int(self.left_s() * 1000))

        def ask(session: Session) -> list[Mapping[str, Any]]:
            session.run(f"SET SESSION max_execution_time = {limit}")
            return session.query(text)

        try:
            return self.each(ask)
        except SqlError as problem:
            if problem.details.get("mysql_error") == _TOO_LONG:
                raise self.too_long() from None
            raise

    def sync(self) -> None:
        """Until each pet has applied all that any has now."""
        sets = self.each(lambda session: session.query("SELECT @@GLOBAL.gtid_executed AS held"))
        union = GtidSet()
        for rows in sets:
            union = union | GtidSet.parse(str(rows[0]["held"]))
        wait = max(1, int(min(_SYNC_S, self.left_s())))
        late = self.each(lambda session: session.query(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{union}', {wait}) AS late"))
        behind = [name for name, rows in zip(self.names, late) if str(rows[0]["late"]) != "0"]
        if behind:
            raise _Late(f"{', '.join(behind)} did not apply within {wait} s what the others hold")


def compare_pets(pets: Sequence[RingPet], connector: Connector, limit_s: float, clock: Clock) -> Comparison:
    """Compare all tables of these pets, at least two. What cannot be compared in time is named."""
    found = Comparison()
    if len(pets) < 2:
        found.not_compared.append("rows were not compared: fewer than two pets answer")
        return found
    try:
        work = _Work(pets, connector, Deadline(clock, limit_s))
    except (PetDown, SqlError) as problem:
        found.not_compared.append(f"rows were not compared: {problem}")
        return found
    try:
        _compare(work, found)
    except (PetDown, SqlError, _Late) as problem:
        found.not_compared.append(f"rows were not compared: {problem}")
    finally:
        work.close()
    return found


def _compare(work: _Work, found: Comparison) -> None:
    work.sync()
    tables = _tables(work)
    if differing_structure(tables):
        # What one pet was just told to make, the others may not have yet.
        work.sync()
        tables = _tables(work)
    found.different += differing_structure(tables)
    ordered = common_tables(tables)
    for position, (name, table) in enumerate(ordered):
        try:
            _compare_table(work, name, table, found)
        except _Late as late:
            rest = [".".join(one) for one, _table in ordered[position:]]
            shown = ", ".join(rest[:5]) + (f" and {len(rest) - 5} more" if len(rest) > 5 else "")
            found.not_compared.append(f"rows were not compared of {shown}: {late}")
            return
        found.tables += 1


def _tables(work: _Work) -> dict[str, dict[Name, Table]]:
    tables, columns, keys = (work.query(text) for text in (TABLES, COLUMNS, KEYS))
    return {name: parse_tables(*rows) for name, *rows in zip(work.names, tables, columns, keys)}


def _compare_table(work: _Work, name: Name, table: Table, found: Comparison) -> None:
    watch = Watch()
    for look in range(MOST_LOOKS):
        if look:
            work.sync()
        watch.look([parse_parts(rows) for rows in work.query(parts_statement(name, table, watch.moving))])
        if not watch.moving:
            break
    shown = ".".join(name)
    if watch.settled:
        keys, is_all = _keys(work, name, table, sorted(watch.settled)) if table.key else (set(), False)
        rows = len(keys) if keys and is_all else None
        found.different.append(Difference(shown, watch.groups(work.names), rows, shown_keys(keys)))
    if watch.moving:
        found.not_compared.append(
            f"rows of {shown} are written to faster than they can be compared ({len(watch.moving)} parts of it)"
        )


def _keys(work: _Work, name: Name, table: Table, parts: Sequence[int]) -> tuple[set[str], bool]:
    """Keys of rows that differ in two looks, with everything applied in between; and whether these are all."""
    statement = rows_statement(name, table, parts[:_MOST_PARTS], _MOST_ROWS)
    looks: list[set[str]] = []
    for look in range(2):
        if look:
            work.sync()
        answers = work.query(statement)
        if any(len(rows) >= _MOST_ROWS for rows in answers):
            # Cut off at different rows: nothing can be told from that.
            return set(), False
        looks.append(differing_keys([parse_rows(rows) for rows in answers]))
    return looks[0] & looks[1], len(parts) <= _MOST_PARTS
