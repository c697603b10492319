# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.stateful.petset.plugins.module_utils._core.ring_compare import (
    MOST_LOOKS,
    SAME_LOOKS,
    Difference,
    Table,
    Watch,
    common_tables,
    differing_keys,
    differing_structure,
    parse_parts,
    parse_tables,
    parts_statement,
    rows_statement,
    shown_keys,
)

STOCK = Table((("item", "int"), ("note", "text")), ("item",))


def test_tables_are_told_apart_by_their_columns_and_keys() -> None:
    def row(table: str, **more: object) -> dict[str, object]:
        return {"table_schema": "d", "table_name": table, **more}

    tables = parse_tables(
        [row("stock", bytes=5), row("gone", bytes=1)],
        [row("stock", column_name="item", kind="INT"), row("stock", column_name="note", kind="text")],
        [row("stock", column_name="item")],
    )
    assert tables == {("d", "stock"): STOCK}
    assert tables["d", "stock"].size == 5


def test_tables_that_are_not_the_same_are_named_and_not_compared() -> None:
    other = Table((("item", "bigint"),), ("item",))
    pets = {
        "mysql-0": {("d", "a"): STOCK, ("d", "b"): STOCK, ("d", "c"): STOCK},
        "mysql-1": {("d", "a"): other, ("d", "b"): STOCK},
        "mysql-2": {("d", "a"): STOCK, ("d", "b"): STOCK},
    }
    assert [one.describe() for one in differing_structure(pets)] == [
        "table d.a has other columns on mysql-0, mysql-2 than on mysql-1",
        "table d.c is on mysql-0 and not on mysql-1, mysql-2",
    ]
    assert [name for name, _table in common_tables(pets)] == [("d", "b")]


def test_small_tables_come_first() -> None:
    pet = {("d", name): Table(STOCK.columns, (), size) for name, size in (("a", 9), ("b", 2), ("c", 2))}
    assert [name for (_schema, name), _table in common_tables({"x": pet, "y": pet})] == ["b", "c", "a"]


def test_names_are_quoted() -> None:
    table = Table((("a`; DROP", "int"),), ("a`; DROP",))
    for text in (parts_statement(("d`d", "t"), table), rows_statement(("d`d", "t"), table, [1, 2], 5)):
        assert "FROM `d``d`.`t`" in text
        assert "`a``; DROP`" in text
    assert " IN (1, 2) LIMIT 5" in rows_statement(("d", "t"), STOCK, [1, 2], 5)
    assert "WHERE" not in parts_statement(("d", "t"), STOCK)


def test_a_difference_has_to_stay_the_same() -> None:
    watch = Watch()
    for look in range(SAME_LOOKS):
        # Part 1 differs for good, part 2 is equal, part 3 is a write on its way, part 4 moves on and on.
        here = {1: (1, "5"), 2: (9, "9"), 3: (1, "7"), 4: (look, "1")}
        there = {1: (1, "6"), 2: (9, "9"), 4: (look + 1, "1")}
        if look:
            there[3] = (1, "7")
        watch.look([here, there])
    assert list(watch.settled) == [1]
    assert watch.moving == [4]
    assert watch.groups(["mysql-0", "mysql-1"]) == (("mysql-0",), ("mysql-1",))


def test_a_part_that_was_equal_once_is_not_looked_at_again() -> None:
    watch = Watch()
    watch.look([{1: (1, "5")}, {1: (1, "5")}])
    watch.look([{1: (1, "5")}, {1: (1, "6")}])
    assert watch.moving == []
    assert not watch.settled
    assert SAME_LOOKS <= MOST_LOOKS


def test_rows_that_only_one_has_differ() -> None:
    assert differing_keys([{"1": "a", "2": "b"}, {"1": "a", "3": "b"}, {"1": "a"}]) == {"2", "3"}
    assert parse_parts([{"part": 3, "row_count": 2, "hash_sum": "99"}]) == {3: (2, "99")}


def test_a_difference_in_words() -> None:
    groups = (("mysql-0", "mysql-2"), ("mysql-1",))
    begin = "table d.t differs between mysql-0, mysql-2 and mysql-1"
    assert Difference("d.t", groups).describe() == begin
    assert Difference("d.t", groups, 2, ("7", "8")).describe() == f"{begin} in 2 rows, by primary key: 7; 8"
    assert Difference("d.t", groups, None, ("7",)).describe() == f"{begin}, by primary key: 7; …"
    assert shown_keys(["100", "9", "x" * 99, "8"]) == ("8", "9", "100")
    assert shown_keys(["x" * 99]) == ("x" * 40 + "…",)
