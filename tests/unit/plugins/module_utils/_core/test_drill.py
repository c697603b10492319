# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.drill import (
    LABEL_PRODUCTION,
    DrillKind,
    DrillWish,
    Identity,
    Record,
    UnderWay,
    decide,
    find_window,
    format_time,
    parse_records,
    parse_time,
    parse_under_way,
    parse_window,
    refuse_production,
    render_records,
    render_under_way,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput, Refused
from hypothesis import given
from hypothesis import strategies as st

UTC = datetime.UTC
# A Wednesday.
NOW = datetime.datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
WISH = DrillWish(DrillKind.MYSQLD_KILL, "mysql", "shop")
PROVEN = Record("mysqld_kill", "writer", "rev-1", format_time(NOW - datetime.timedelta(hours=1)), "proven")


def at(hour: int, minute: int = 0, days: int = 0) -> datetime.datetime:
    return NOW.replace(hour=hour, minute=minute) + datetime.timedelta(days=days)


@pytest.mark.parametrize(
    ("window", "moment", "length_s", "is_in"),
    [
        ("mon-fri 08:00-18:00", at(7, 59), 0, False),
        ("mon-fri 08:00-18:00", at(8), 0, True),
        ("mon-fri 08:00-18:00", at(17, 59), 0, True),
        ("mon-fri 08:00-18:00", at(18), 0, False),
        ("mon-fri 08:00-18:00", at(12, days=3), 0, False),
        ("mon-fri 08:00-18:00", at(7, 56), 300, True),
        ("mon-fri 08:00-18:00", at(7, 54), 300, False),
        ("22:00-02:00", at(23), 0, True),
        ("22:00-02:00", at(1, 59), 0, True),
        ("22:00-02:00", at(2), 0, False),
        ("wed 22:00-02:00", at(1, days=1), 0, True),
        ("wed 22:00-02:00", at(1), 0, False),
        ("fri-mon 00:00-24:00", at(0, days=5), 0, True),
        ("fri-mon 00:00-24:00", at(0, days=6), 0, False),
        ("sat,wed 12:00-12:01", at(12), 0, True),
        ("SUN 00:00-24:00", at(12, days=4), 0, True),
    ],
)
def test_windows(window: str, moment: datetime.datetime, length_s: float, is_in: bool) -> None:
    parsed = parse_window("forbidden_windows", window)
    assert (find_window([parsed], moment, length_s) is not None) is is_in


@pytest.mark.parametrize(
    "text",
    ["", "8-18", "08:00-25:00", "08:60-09:00", "08:00-08:00", "24:00-02:00", "foo 08:00-09:00",
     "mon-tue-wed 08:00-09:00", "mon,,tue 08:00-09:00", "24:01-25:00", 7, None],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput, match="forbidden_windows"):
        parse_window("forbidden_windows", text)


@given(st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 6), st.integers(0, 7 * 1440 - 1))
def test_a_window_holds_just_its_minutes(begin: int, length: int, day: int, offset: int) -> None:
    """Whatever day it begins on: a window of so many minutes, once a week, holds so many of the week's minutes."""
    if length == 1440 and begin:
        length -= 1
    end = begin + length
    shown = end if end <= 1440 else end - 1440
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    text = f"{days[day]} {begin // 60:02}:{begin % 60:02}-{shown // 60:02}:{shown % 60:02}"
    window = parse_window("w", text)
    monday = datetime.datetime(2026, 11, 23, tzinfo=UTC)
    moment = monday + datetime.timedelta(minutes=offset)
    assert window.holds(moment) is ((offset - day * 1440 - begin) % (7 * 1440) < length)


def decided(**changes: object) -> str:
    record = replace(PROVEN, **changes)
    return decide(WISH, "rev-1", {WISH.key: record}, None, NOW).word


def test_a_proof_counts_for_its_revision_and_so_long() -> None:
    assert decided() == "nothing"
    assert decided(at=format_time(NOW - datetime.timedelta(days=8))) == "run"
    assert decided(at=format_time(NOW - datetime.timedelta(days=7))) == "nothing"
    # From the future: a clock is wrong, and nobody knows which.
    assert decided(at=format_time(NOW + datetime.timedelta(hours=1))) == "run"
    assert decided(at="yesterday") == "run"
    assert decided(revision="rev-0") == "run"
    for verdict in ("failed", "unknown", "interrupted", ""):
        assert decided(verdict=verdict) == "run"
    assert decide(WISH, "", {WISH.key: replace(PROVEN, revision="")}, None, NOW).word == "run"
    assert decide(WISH, "rev-1", {}, None, NOW).word == "run"
    assert decide(replace(WISH, pet="mysql-0"), "rev-1", {WISH.key: PROVEN}, None, NOW).word == "run"


def test_a_drill_that_did_not_end_comes_first() -> None:
    under_way = UnderWay("id", "pod_delete", "writer", ("mysql-0",), ("node-0",), format_time(NOW))
    decision = decide(WISH, "rev-1", {WISH.key: PROVEN}, under_way, NOW)
    assert (decision.word, decision.under_way) == ("heal", under_way)
    assert "pod_delete of writer" in decision.why
    assert "did not end" in decision.why


def test_a_drill_that_was_not_cleaned_up_after_comes_first_and_says_that_its_record_stays() -> None:
    under_way = UnderWay("id", "pod_delete", "writer", ("mysql-0",), ("node-0",), format_time(NOW), ended="proven")
    decision = decide(WISH, "rev-1", {WISH.key: PROVEN}, under_way, NOW)
    assert (decision.word, decision.record) == ("heal", PROVEN)
    assert "was not cleaned up after (its record stays: proven)" in decision.why


def test_a_mark_of_a_release_that_did_not_write_how_it_ended_is_read() -> None:
    under_way = UnderWay("id", "pod_delete", "writer", ("mysql-0",), ("node-0",), format_time(NOW))
    told = json.loads(render_under_way(under_way))
    del told["ended"]
    assert parse_under_way(json.dumps(told)) == under_way


texts = st.text(max_size=8)
identities = st.builds(
    Identity, texts, texts, texts, texts, texts, texts, texts, st.dictionaries(texts, st.integers(0, 9), max_size=2)
)


@given(
    st.builds(
        UnderWay, texts, texts, texts, st.lists(texts, max_size=2).map(tuple), st.lists(texts, max_size=2).map(tuple),
        texts, texts, st.floats(-1e6, 1e6), st.dictionaries(texts, identities, max_size=2), texts,
    )
)  # fmt: skip
def test_a_drill_under_way_is_read_as_it_was_written(drill: UnderWay) -> None:
    assert parse_under_way(render_under_way(drill)) == drill


@given(
    st.dictionaries(
        texts,
        st.builds(Record, texts, texts, texts, texts, texts, texts, st.dictionaries(texts, st.integers(), max_size=2)),
        max_size=3,
    )
)
def test_records_are_read_as_they_were_written(records: dict[str, Record]) -> None:
    assert parse_records(render_records(records)) == records


@given(
    st.text()
    | st.recursive(st.none() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x)).map(json.dumps)
)
def test_what_somebody_else_wrote_there_proves_nothing(text: str) -> None:
    records = parse_records(text)
    assert decide(WISH, "rev-1", records, None, NOW).word == "run"
    under_way = parse_under_way(text)
    assert (under_way is None) is (text == "")


def test_times() -> None:
    assert parse_time(format_time(NOW)) == NOW
    assert parse_time("") is None


@pytest.mark.parametrize(
    ("production", "confirm", "labels", "refused"),
    [
        (None, "", [{}, {}], ""),
        (None, "", [{LABEL_PRODUCTION: "true"}, {}], "it is production"),
        (None, "", [{}, {LABEL_PRODUCTION: "True"}], "it is production"),
        (None, "", [{}, {LABEL_PRODUCTION: "false"}], ""),
        (None, "", [{}, None], "could not be read"),
        (None, "shop/mysql", [{}, None], ""),
        (None, "shop/other", [{LABEL_PRODUCTION: "true"}, {}], "it is production"),
        (True, "", [{}, {}], "it is production"),
        (True, "yes", [{}, {}], "confirm: shop/mysql"),
        (True, "shop/mysql", [{}, {}], ""),
        (False, "", [{LABEL_PRODUCTION: "true"}, None], ""),
    ],
)
def test_production_has_to_be_named(
    production: bool | None, confirm: str, labels: list[dict[str, str] | None], refused: str
) -> None:
    wish = replace(WISH, production=production, confirm=confirm)
    if not refused:
        refuse_production(wish, labels)
        return
    with pytest.raises(Refused, match=refused):
        refuse_production(wish, labels)


def test_who_is_hit() -> None:
    assert WISH.aim(2, "mysql-1") == ("mysql-1",)
    assert replace(WISH, pet="mysql-0").aim(2, "mysql-1") == ("mysql-0",)
    assert replace(WISH, kind=DrillKind.BOTH_PETS).aim(3, None) == ("mysql-0", "mysql-1", "mysql-2")
    with pytest.raises(Refused, match="there is no writer"):
        WISH.aim(2, None)
    with pytest.raises(Refused, match="mysql-0, mysql-1"):
        replace(WISH, pet="mysql-2").aim(2, "mysql-1")
