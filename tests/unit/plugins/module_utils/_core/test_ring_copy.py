# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.ring_copy import (
    CloneProgress,
    CopyLimits,
    CopyWatch,
    LagWatch,
    parse_clone_progress,
)
from hypothesis import given
from hypothesis import strategies as st

DROP = {"stage": "DROP DATA", "state": "Completed", "estimate": None, "data": 0}


def copy(mib: int, state: str = "In Progress") -> dict[str, Any]:
    return {"stage": "FILE COPY", "state": state, "estimate": 500 << 20, "data": mib << 20}


def test_progress_of_a_clone() -> None:
    later = {"stage": "FILE SYNC", "state": "Not Started", "estimate": 0, "data": 0}
    assert parse_clone_progress([]).describe() == "beginning"
    assert parse_clone_progress([DROP, copy(120), later]).describe() == "FILE COPY, 120 of 500 MiB"
    assert parse_clone_progress([DROP]).describe() == "DROP DATA, 0 of 0 MiB"


def test_a_stage_that_ends_is_progress_as_a_byte_is() -> None:
    steps = [
        parse_clone_progress(rows)
        for rows in ([], [DROP], [DROP, copy(1)], [DROP, copy(2)], [DROP, copy(2, "Completed")])
    ]
    assert all(one.reached < two.reached for one, two in itertools.pairwise(steps))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=40))
def test_only_what_is_further_than_ever_sets_the_limit_back(looks: list[tuple[int, int]]) -> None:
    """A pet that dies at the same place in each copy is not waited for without end."""
    limits = CopyLimits(still_s=100.0)
    watch, now_s, best, moved_s = CopyWatch(0.0, 0.0), 0.0, 0, 0.0
    for mib, pause_s in looks:
        now_s += pause_s
        assert watch.see(parse_clone_progress([copy(mib)]), now_s) is (mib > best)
        if mib > best:
            best, moved_s = mib, now_s
        assert bool(watch.why_over(now_s, limits)) is (now_s - moved_s >= 100.0)


def test_a_copy_that_gets_on_is_over_by_the_limit_that_was_asked_for_alone() -> None:
    for limit_s, words in ((50.0, "CLONE has taken 50 s, clone_limit is 50 s: FILE COPY, 49 of 500 MiB"), (60.0, "")):
        watch = CopyWatch(0.0, 0.0)
        for second in range(50):
            watch.see(parse_clone_progress([copy(second)]), float(second))
        assert watch.why_over(50.0, CopyLimits(10.0, limit_s)) == words
    assert CopyWatch(0.0, 0.0, CloneProgress()).why_over(1e9, CopyLimits()) == ""


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=40))
def test_only_fewer_transactions_than_ever_are_progress(looks: list[tuple[str, int]]) -> None:
    """A pet that its writer outruns is not waited for without end: there are only so many fewer."""
    watch, seen = LagWatch(), dict[str, list[int]]()
    for pet, behind in looks:
        before = seen.setdefault(pet, [])
        assert watch.see({pet: behind}) is (bool(before) and behind < min(before))
        before.append(behind)
