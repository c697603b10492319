# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import html
import json

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.report import (
    Check,
    Lane,
    Mark,
    Report,
    Segment,
    Span,
    Timeline,
    bin_counts,
    find_gap,
    merge_lane,
    render_html,
    render_json,
    render_markdown,
)

SHARP = '<script>|"&'


def report() -> Report:
    timeline = Timeline(0.1, (1, 0, 2), marks=(Mark(0.1, SHARP),))
    return Report(
        SHARP, "2026-01-02", "false", SHARP, ((SHARP, SHARP),), (Check(SHARP, "unknown", (SHARP,)),), timeline
    )


def test_every_text_is_escaped_in_html() -> None:
    page = render_html(report())
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7
    assert "FAILED" in page
    assert "not known" in page


def test_a_text_cannot_break_a_markdown_table() -> None:
    text = render_markdown(report(), "timeline.svg")
    assert "<script" not in text
    assert f"| {SHARP.replace('<', '&lt;').replace('|', chr(92) + '|')} |" in text
    assert "(timeline.svg)" in text
    assert "![" not in render_markdown(report())


def test_a_report_without_a_picture_says_why() -> None:
    page, text = render_html(report(), "", SHARP), render_markdown(report(), "", SHARP)
    assert f"No picture of the timeline: {html.escape(SHARP)}" in page
    assert "No picture of the timeline: &lt;script>" in text
    assert "No picture" not in render_html(report(), "<svg/>", SHARP) + render_markdown(report(), "x.svg", SHARP)
    assert "No picture" not in render_html(report()) + render_markdown(report())


def test_json_has_all_figures() -> None:
    data = json.loads(render_json(report()))
    assert data["timeline"]["counts"] == [1, 0, 2]
    assert data["checks"][0] == {"name": SHARP, "verdict": "unknown", "evidence": [SHARP]}
    assert data["format"] == 1


def test_bins_count_what_lies_inside() -> None:
    assert bin_counts([], 0.0) == (0,)
    assert bin_counts([-0.1, 0.0, 0.3, 0.9], 0.5) == (1, 0, 0, 1, 0)
    assert sum(bin_counts([one / 100 for one in range(1000)], 10)) == 1000


def test_a_lane_is_made_of_looks_that_hold_for_a_while() -> None:
    looks = [(0.0, "open"), (0.5, "open"), (1.0, "away"), (9.0, "closed")]
    assert merge_lane("p", looks, 10) == Lane(
        "p", (Segment(0.0, 1.0, "open"), Segment(1.0, 2.0, "away"), Segment(9.0, 10, "closed"))
    )


@pytest.mark.parametrize(
    ("times", "begin", "end", "gap"),
    [
        ([1, 2, 5, 6], 1, 6, (2, 5)),
        ([], 0, 3, (0, 3)),
        ([1, 2], 0, 9, (2, 9)),
        ([4], 4, 4, None),
    ],
)
def test_the_gap_is_the_longest(times: list[float], begin: float, end: float, gap: tuple[float, float] | None) -> None:
    found = find_gap(times, begin, end)
    assert (found and (found.begin_s, found.end_s)) == gap


def test_a_gap_says_its_length() -> None:
    assert find_gap([1, 3.5], 1, 3.5) == Span(1, 3.5, "2.50 s without a write")
