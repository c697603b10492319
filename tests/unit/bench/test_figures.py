# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark makes of its measurements."""

from __future__ import annotations

import pytest

from bench.figures import GOALS, LOCAL, OURS, PEER, Goal, judge, median_of, render_page

ABOUT = {"date": "2026-11-27", "machine": "2 cores"}


def values(what: str, ours: list[float], peer: list[float]) -> list[dict[str, object]]:
    return [{"what": what, "who": OURS, "value": one} for one in ours] + [
        {"what": what, "who": PEER, "value": one} for one in peer
    ]


def row(page: str, title: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_medians_and_ratio_stand_in_the_row() -> None:
    page = render_page(values("second", [5.0, 4.0, 90.0], [30.0, 24.0, 25.0]), ABOUT)
    ours, peer = "5.0 s (4 to 90, 3)", "25.0 s (24 to 30, 3)"
    assert row(page, "second run") == ["second run", ours, peer, "5.0", "5 times less", "met"]


def test_a_goal_that_is_missed_is_said() -> None:
    page = render_page(values("second", [5.1], [25.0]), ABOUT)
    assert row(page, "second run")[-1] == "not met"


@pytest.mark.parametrize(
    ("goal", "ours", "peer", "said"),
    [
        (Goal("a", "a", times=4), 1.0, 4.0, "met"),
        (Goal("a", "a", times=4), 1.0, 3.9, "not met"),
        (Goal("a", "a", times=4), 1.0, None, ""),
        (Goal("a", "a", limit=0), 0.0, 6.0, "met"),
        (Goal("a", "a", limit=0), 1.0, 6.0, "not met"),
        (Goal("a", "a"), 1.0, 6.0, ""),
        (Goal("a", "a", limit=3), None, None, ""),
    ],
)
def test_goals(goal: Goal, ours: float | None, peer: float | None, said: str) -> None:
    assert judge(goal, ours, peer) == said


def test_what_was_not_measured_is_not_in_the_table() -> None:
    page = render_page(values("first", [10.0], []), ABOUT)
    assert row(page, "first run, in all")[1:4] == ["10.0 s", "-", ""]
    assert sum(line.startswith("| ") for line in page.splitlines()) == 2


def test_commits_stand_in_a_table_of_their_own() -> None:
    rates = {OURS: [500.0, 400.0, 600.0], PEER: [250.0], LOCAL: [2000.0]}
    found = [{"what": "commits-8", "who": who, "value": one} for who, values in rates.items() for one in values]
    page = render_page(found, ABOUT)
    assert row(page, "8") == ["8", "500 (400 to 600, 3)", "250", "2000", "2.00", "0.25"]
    assert "Commits a second" not in render_page(values("first", [10.0], []), ABOUT)


def test_no_median_without_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_of([])


def test_every_goal_has_a_title_of_its_own() -> None:
    assert len({goal.title for goal in GOALS}) == len({goal.key for goal in GOALS}) == len(GOALS)
