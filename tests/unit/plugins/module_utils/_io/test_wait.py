# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import ApiError, TimedOut, Unreachable
from ansible_collections.stateful.petset.plugins.module_utils._io.clock import Deadline, MonotonicClock
from ansible_collections.stateful.petset.plugins.module_utils._io.wait import Judgement, Waited, wait_until
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock


def judge(count: int) -> Judgement:
    return Judgement(count >= 3, f"{count} of 3", [{"ordinal": 0, "count": count}], way_out="wait longer")


def wait(values: Iterator[int], limit_s: float = 60.0, **more: object) -> tuple[Waited[int], FakeClock, list[str]]:
    clock, lines = FakeClock(), []
    waited = wait_until(
        "pets of mysql",
        lambda: next(values),
        judge,
        Deadline(clock, limit_s),
        clock=clock,
        progress=lines.append,
        **more,  # type: ignore[arg-type]
    )
    return waited, clock, lines


def test_what_is_done_already_takes_one_look_and_no_time() -> None:
    waited, clock, lines = wait(iter([3]))
    assert (waited.looks, clock.time_s, lines) == (1, 1000.0, [])


def test_progress_is_told_only_when_something_is_new() -> None:
    _waited, _clock, lines = wait(iter([0, 0, 0, 1, 1, 3]))
    assert [line.partition("] ")[2] for line in lines] == [
        "pets of mysql: 0 of 3",
        "pets of mysql: 1 of 3",
        "pets of mysql: 3 of 3",
    ]


def test_the_interval_grows_to_its_limit() -> None:
    clock = FakeClock()
    times: list[float] = []

    def look() -> int:
        times.append(clock.time_s)
        return 3 if clock.time_s > 1040 else 0

    wait_until("x", look, judge, Deadline(clock, 60), clock=clock)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] == pytest.approx(0.2)
    assert gaps == sorted(gaps)
    assert max(gaps) == pytest.approx(3.0)


def test_the_time_out_carries_the_last_state_and_the_deadline_is_kept() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut) as problem:
        wait_until("pets of mysql", lambda: 2, judge, Deadline(clock, 10), clock=clock)
    assert clock.time_s == pytest.approx(1010.0)
    assert problem.value.details["pets"] == [{"ordinal": 0, "count": 2}]
    assert problem.value.details["waited_s"] == 10.0
    assert "not done after 10 s: 2 of 3" in str(problem.value)
    assert "Wait longer" in str(problem.value)


def test_the_reason_is_looked_for_once_at_the_end() -> None:
    asked: list[int] = []

    def explain(count: int) -> Judgement:
        asked.append(count)
        return Judgement(False, "no volume fits", way_out="make one")

    clock = FakeClock()
    with pytest.raises(TimedOut, match="no volume fits"):
        wait_until("x", lambda: 2, judge, Deadline(clock, 5), clock=clock, explain=explain)
    assert asked == [2]


def test_a_reason_that_cannot_be_read_does_not_hide_the_state() -> None:
    def explain(_count: int) -> Judgement:
        raise ApiError("events", "may not list")

    clock = FakeClock()
    with pytest.raises(TimedOut, match="2 of 3"):
        wait_until("x", lambda: 2, judge, Deadline(clock, 5), clock=clock, explain=explain)


def test_what_is_hopeless_is_not_waited_for() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut, match="waiting does not help: lost"):
        wait_until("x", lambda: 0, lambda _n: Judgement(False, "s", hopeless="lost"), Deadline(clock, 99), clock=clock)
    assert clock.time_s == 1000.0


def test_an_api_that_is_away_is_waited_for_up_to_the_deadline() -> None:
    clock = FakeClock()

    def look() -> int:
        clock.sleep(1)
        if clock.time_s < 1008:
            raise Unreachable("api", "refused")
        return 3

    def unreachable() -> int:
        raise Unreachable("a", "b")

    assert wait_until("x", look, judge, Deadline(clock, 60), clock=clock).observation == 3
    with pytest.raises(Unreachable):
        wait_until("x", unreachable, judge, Deadline(clock, 5), clock=clock)


def test_the_real_clock_never_goes_back_and_takes_no_negative_sleep() -> None:
    clock = MonotonicClock()
    before = clock.now_s()
    clock.sleep(-5)
    assert 0 <= clock.now_s() - before < 1
    deadline = Deadline(clock, 0)
    assert deadline.over
    assert deadline.left_s == 0
