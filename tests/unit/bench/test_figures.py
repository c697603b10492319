# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark makes of its measurements."""

from __future__ import annotations

import pytest

from bench.__main__ import kept
from bench.figures import GOALS, LOCAL, OURS, PEER, Goal, judge, median_of, render_page
from tools.common import ROOT

ABOUT = {"date": "2026-11-27 10:00", "machine": "2 cores", "load": "2.0"}


def page_of(found: list[dict[str, object]]) -> str:
    return render_page({"run": {"about": ABOUT, "found": found}})


def values(what: str, ours: list[float], peer: list[float]) -> list[dict[str, object]]:
    return [{"what": what, "who": OURS, "value": one} for one in ours] + [
        {"what": what, "who": PEER, "value": one} for one in peer
    ]


def row(page: str, title: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_medians_and_ratio_stand_in_the_row() -> None:
    page = page_of(values("second", [5.0, 4.0, 90.0], [30.0, 24.0, 25.0]))
    ours, peer = "5.0 s (4 to 90, 3)", "25.0 s (24 to 30, 3)"
    assert row(page, "second run") == ["second run", ours, peer, "5.0", "5 times less", "met"]


def test_a_goal_that_is_missed_is_said() -> None:
    page = page_of(values("second", [5.1], [25.0]))
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
    page = page_of(values("first", [10.0], []))
    assert row(page, "first run, in all")[1:4] == ["10.0 s", "-", ""]
    assert sum(line.startswith("| ") for line in page.splitlines()) == 2


def test_commits_stand_in_a_table_of_their_own() -> None:
    rates = {OURS: [500.0, 400.0, 600.0], PEER: [250.0], LOCAL: [2000.0]}
    found = [{"what": "commits-8", "who": who, "value": one} for who, values in rates.items() for one in values]
    page = page_of(found)
    assert row(page, "8") == ["8", "500 (400 to 600, 3)", "250", "2000", "2.00", "0.25"]
    assert "Commits a second" not in page_of(values("first", [10.0], []))


def test_parts_stand_together_each_with_its_time() -> None:
    parts = {
        "run": {"about": ABOUT, "found": values("second", [5.0], [30.0])},
        "soak": {"about": ABOUT | {"date": "2026-11-28 09:00"}, "found": values("soak-again", [0.25], [])},
    }
    page = render_page(parts)
    assert "- part `run`: 2026-11-27 10:00 UTC, load of the host at its end 2.0\n" in page
    assert "- part `soak`: 2026-11-28 09:00 UTC" in page
    assert page.count("- machine: 2 cores\n") == 1
    assert row(page, "second run")[-1] == "met"
    assert row(page, "lab soak: TCP segments sent again, of 100,000")[1] == "0.250 segments"


def test_no_median_without_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_of([])


def test_every_goal_has_a_title_of_its_own() -> None:
    assert len({goal.title for goal in GOALS}) == len({goal.key for goal in GOALS}) == len(GOALS)


def test_the_page_shows_the_figures_that_are_kept() -> None:
    """A part that was measured from a fresh clone would have taken the other parts off the page."""
    assert (ROOT / "docs" / "bench.md").read_text() == render_page(kept())
