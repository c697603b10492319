# SPDX-License-Identifier: GPL-3.0-or-later
"""A good history passes, and each way to spoil it is found by the checker that is for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.robustness.checkers.availability import longest_gap_ns
from tests.robustness.checkers.base import Verdict, worst
from tests.robustness.checkers.convergence import parse_gtids, subtract
from tests.robustness.checkers.judge import Judgement, judge
from tests.robustness.checkers.single_writer import Window, open_windows
from tests.robustness.history import History, Outcome, Sample
from tests.unit.robustness.histories import A, B, C, S, append, final, good, write


def verdicts(judgement: Judgement) -> dict[str, Verdict]:
    return {one.checker: one.verdict for one in judgement.findings}


def spoilt(**changes: object) -> History:
    return good(**changes)


def with_final(index: int, **changes: object) -> History:
    finals = list(good().finals)
    finals[index] = replace(finals[index], **changes)  # type: ignore[arg-type]
    return good(finals=tuple(finals))


def test_a_good_history_passes_with_its_figures() -> None:
    judgement = judge(good())
    assert set(verdicts(judgement).values()) == {Verdict.TRUE}
    assert judgement.verdict is Verdict.TRUE
    assert (judgement.figure("acknowledged"), judgement.figure("lost")) == (8, 0)
    assert (judgement.figure("unknown"), judgement.figure("unknown_landed")) == (1, 0)
    assert judgement.figure("gap_s") == pytest.approx(2.6)
    assert judgement.figure("first_write_s") == pytest.approx(2.51)
    assert judgement.figure("healthy_s") == pytest.approx(5.5)
    assert judge(good(meta=replace(good().meta, gap_limit_s=2.7))).verdict is Verdict.TRUE


FALSE = {
    "clients noticed what they must not": ("availability", good(meta=replace(good().meta, gap_limit_s=2.5))),
    "an acknowledged row is missing on one pet": ("lost_writes", with_final(1, rows={"100": [[1, 3], [6, 9]]})),
    "an acknowledged row is missing on both": (
        "lost_writes",
        good(finals=(final("mysql-0", A, rows={"100": [[1, 8]]}), final("mysql-1", B, rows={"100": [[1, 8]]}))),
    ),
    "a row that nobody wrote": ("unexpected_rows", with_final(0, rows={"100": [[1, 4], [6, 10]]})),
    "a row that surely failed is there": (
        "unexpected_rows",
        good(
            operations=tuple(
                replace(one, outcome=Outcome.FAIL) if one.outcome is Outcome.INFO and one.f == "append" else one
                for one in good().operations
            ),
            finals=(final("mysql-0", A, rows={"100": [[1, 9]]}), final("mysql-1", B, rows={"100": [[1, 9]]})),
        ),
    ),
    "a register went back to an acknowledged number": ("registers", with_final(0, registers={"7": 2})),
    "a register went back to a number of unknown fate": ("registers", with_final(1, registers={"7": 3})),
    "a register is gone": ("registers", with_final(1, registers={})),
    "a transaction is on one pet only": ("gtids", with_final(0, gtid_executed=f"{A}:1-6,{B}:1-6")),
    "a transaction is missing in the middle": ("gtids", with_final(0, gtid_executed=f"{A}:1-2:4-5,{B}:1-6")),
    "a stranger's transaction": (
        "foreign",
        good(
            finals=tuple(
                replace(one, gtid_executed=one.gtid_executed + ",cccccccc-0000-4000-8000-00000000000c:1")
                for one in good().finals
            )
        ),
    ),
    "two pets with one uuid": ("foreign", good(finals=(final("mysql-0", A), final("mysql-1", A)))),
    "a table differs": ("checksums", with_final(0, checksums={"appended": 1, "registers": 12})),
    "a table is missing": ("checksums", with_final(0, checksums={"appended": 11, "registers": None})),
    "the set stays ill": ("healing", good(meta=replace(good().meta, is_settled=False))),
    "help was needed": ("healing", good(meta=replace(good().meta, healed_by="site"))),
    "the playbook should have healed it": ("healing", good(meta=replace(good().meta, expect="site"))),
    "the playbook that should heal it failed": (
        "healing",
        good(meta=replace(good().meta, expect="site", healed_by="site (failed)")),
    ),
    "what was refused did not come back by itself": (
        "healing",
        good(meta=replace(good().meta, expect="refuse", healed_by="site")),
    ),
    "another pet became the writer, and nobody had to": (
        "availability",
        good(meta=replace(good().meta, keeps_writer=True)),
    ),
    "a pet was initialised anew": ("identity", with_final(1, server=C)),
    "rows of earlier runs are gone on both": (
        "lost_writes",
        good(
            meta=replace(good().meta, earlier=7),
            finals=tuple(replace(one, earlier=6) for one in good().finals),
        ),
    ),
    "a pet that nobody could look at acknowledged writes beside another": (
        "single_writer",
        good(
            samples=tuple(
                replace(one, is_open=None) if one.pet == "mysql-1" and one.asked_ns > S else one
                for one in good().samples
            ),
            operations=tuple(
                sorted(
                    (*good().operations, append(1.2, 10, server=B), append(1.7, 11, server=B)),
                    key=lambda one: one.completed_ns,
                )
            ),
            finals=tuple(replace(one, rows={"100": [[1, 4], [6, 11]]}) for one in good().finals),
        ),
    ),
    "two pets open at once": (
        "single_writer",
        good(samples=tuple(replace(one, is_open=True) for one in good().samples)),
    ),
}


@pytest.mark.parametrize("what", FALSE)
def test_what_is_wrong_is_false(what: str) -> None:
    checker, history = FALSE[what]
    judgement = judge(history)
    assert verdicts(judgement)[checker] is Verdict.FALSE, judgement
    assert judgement.verdict is Verdict.FALSE
    assert all(one.evidence for one in judgement.findings if one.verdict is Verdict.FALSE)


UNKNOWN = {
    "the effect was not seen": (
        "effect",
        good(events=tuple(one for one in good().events if one.phase != "effective")),
    ),
    "the fault was not seen to be over": (
        "effect",
        good(events=tuple(one for one in good().events if one.phase != "recovered")),
    ),
    "nothing was attempted within the fault": (
        "effect",
        good(operations=tuple(one for one in good().operations if not 1.9 * S < one.invoked_ns < 6.1 * S)),
    ),
    "nothing was acknowledged after it": (
        "effect",
        good(operations=tuple(one for one in good().operations if one.invoked_ns < 6.1 * S)),
    ),
    "nothing was acknowledged at all": (
        "lost_writes",
        good(operations=tuple(one for one in good().operations if one.outcome is not Outcome.OK)),
    ),
    "a pet was not read": ("lost_writes", good(finals=good().finals[:1])),
    "a pet could not be read": ("gtids", with_final(1, error="no answer", rows={}, gtid_executed="")),
    "no checksums": ("checksums", good(finals=tuple(replace(one, checksums={}) for one in good().finals))),
    "the set was not seen healthy": (
        "healing",
        good(events=tuple(one for one in good().events if one.phase != "healthy")),
    ),
    "no pet was seen open": (
        "single_writer",
        good(samples=tuple(replace(one, is_open=None, server="") for one in good().samples)),
    ),
    "a pet answered no look": (
        "single_writer",
        good(samples=tuple(replace(one, is_open=None) if one.pet == "mysql-1" else one for one in good().samples)),
    ),
    "the looks at a pet ended early": (
        "single_writer",
        good(samples=(*good().samples, Sample("mysql-0", 30 * S, 30 * S + 1, False, A))),
    ),
    "nobody ever saw a pet": (
        "identity",
        good(
            samples=tuple(one for one in good().samples if one.pet == "mysql-0"),
            finals=(good().finals[0], replace(good().finals[1], error="no answer", server="")),
        ),
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_judged_is_unknown(what: str) -> None:
    checker, history = UNKNOWN[what]
    judgement = judge(history)
    assert verdicts(judgement)[checker] is Verdict.UNKNOWN, judgement
    assert judgement.verdict is not Verdict.TRUE


def test_a_row_of_unknown_fate_may_have_landed() -> None:
    finals = tuple(replace(one, rows={"100": [[1, 9]]}) for one in good().finals)
    judgement = judge(good(finals=finals))
    assert judgement.verdict is Verdict.TRUE
    assert judgement.figure("unknown_landed") == 1


def test_a_late_write_of_unknown_fate_may_be_the_register() -> None:
    history = good(
        operations=(*good().operations, write(7.2, 5, Outcome.INFO)),
        finals=tuple(replace(one, registers={"7": 5}) for one in good().finals),
    )
    assert judge(history).verdict is Verdict.TRUE


def test_a_loss_is_told_though_another_pet_was_not_read() -> None:
    history = good(finals=(final("mysql-0", A, rows={"100": [[1, 3]]}), final("mysql-1", B, error="away", rows={})))
    assert verdicts(judge(history))["lost_writes"] is Verdict.FALSE


def test_heartbeats_between_the_reads_are_no_difference() -> None:
    """Sets are read one after the other; what one had first, the others must have a little later."""
    finals = (
        final("mysql-0", A, gtid_executed=f"{A}:1-5,{B}:1-6", gtid_later=f"{A}:1-5,{B}:1-9"),
        final("mysql-1", B, gtid_executed=f"{A}:1-5,{B}:1-7", gtid_later=f"{A}:1-5,{B}:1-9"),
    )
    assert judge(good(finals=finals)).verdict is Verdict.TRUE


def test_in_spread_mode_two_may_be_open() -> None:
    history = good(
        meta=replace(good().meta, mode="spread"),
        samples=tuple(replace(one, is_open=True) for one in good().samples),
    )
    assert judge(history).verdict is Verdict.TRUE


def test_help_that_belongs_to_the_fault_is_no_failure() -> None:
    history = good(meta=replace(good().meta, healed_by="site", expect="site"))
    assert judge(history).verdict is Verdict.TRUE


def test_rows_of_earlier_runs_may_be_more_but_not_fewer() -> None:
    """What a client never heard of may land after the reads of its run."""
    for earlier in (7, 8, -1):
        finals = tuple(replace(one, earlier=earlier) for one in good().finals)
        assert judge(good(meta=replace(good().meta, earlier=7), finals=finals)).verdict is Verdict.TRUE


def test_the_worst_verdict_wins_and_nothing_is_unknown() -> None:
    assert worst([]) is Verdict.UNKNOWN
    assert worst([Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN]) is Verdict.FALSE


def look(pet: str, at_ms: int, is_open: bool | None, server: str = A) -> Sample:
    return Sample(pet, at_ms * 1_000_000, (at_ms + 2) * 1_000_000, is_open, server)


@pytest.mark.parametrize(
    ("looks", "windows"),
    [
        ([look("p", 0, True)], []),
        ([look("p", 0, True), look("p", 100, True)], [(2, 100)]),
        ([look("p", 0, True), look("p", 100, True), look("p", 200, True)], [(2, 200)]),
        ([look("p", 0, True), look("p", 100, False), look("p", 200, True)], []),
        ([look("p", 0, True), look("p", 100, None), look("p", 200, True)], []),
        # so long without a look that it may have been closed in between
        ([look("p", 0, True), look("p", 5000, True)], []),
        # another server under the pet's name
        ([look("p", 0, True, A), look("p", 100, True, B)], []),
    ],
)
def test_a_window_is_only_what_is_proven(looks: list[Sample], windows: list[tuple[int, int]]) -> None:
    expected = [Window("p", begin * 1_000_000, end * 1_000_000) for begin, end in windows]
    assert open_windows(tuple(looks)) == expected


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(0, 500), st.integers(500, 1000))
def test_no_stretch_without_a_write_is_longer_than_the_gap(times: list[int], begin: int, end: int) -> None:
    gap = longest_gap_ns(times, begin, end)
    inside = {one for one in times if begin <= one <= end} | {begin, end}
    assert all(
        any(at < one <= at + gap for one in inside) for at in range(begin, end - gap + 1) if at + gap <= end and gap
    )
    assert gap <= end - begin


ranges = st.sets(st.integers(1, 40), max_size=25)


def render(numbers: set[int]) -> str:
    return ":".join([A, *map(str, sorted(numbers, reverse=True))]) if numbers else ""


@given(ranges, ranges)
def test_subtraction_is_that_of_sets(left: set[int], right: set[int]) -> None:
    gone: set[int] = set()
    for part in subtract(parse_gtids(render(left)), parse_gtids(render(right))):
        low, high = part.rsplit(":", 1)[1].split("-")
        gone |= set(range(int(low), int(high) + 1))
    assert gone == left - right


def test_tags_are_sets_of_their_own() -> None:
    assert parse_gtids(f"{A}:1-3:mine:1-2") == {A: [(1, 3)], f"{A}:mine": [(1, 2)]}
    with pytest.raises(ValueError, match="not a GTID set"):
        parse_gtids("what")


def test_an_append_after_all_is_counted_once() -> None:
    history = good(operations=(*good().operations, append(7.1, 9)))
    assert judge(history).figure("acknowledged") == 8


def test_a_row_on_no_pet_is_told_apart_from_one_that_was_not_replicated() -> None:
    one = judge(with_final(1, rows={"100": [[1, 3], [6, 9]]}))
    assert (one.figure("lost"), one.figure("gone")) == (1, 0)
    both = judge(good(finals=tuple(replace(final, rows={"100": [[1, 3], [6, 8]]}) for final in good().finals)))
    assert (both.figure("lost"), both.figure("gone")) == (2, 2)
    assert "2 of them are on no pet: (100, 4), (100, 9)" in str(both.findings)
