# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's report says what the checkers found, and the table sums up all runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.robustness.checkers.base import Verdict
from tests.robustness.checkers.judge import judge
from tests.robustness.report import SAFETY, Run, build_report, render_summary, render_summary_markdown, write_report
from tests.robustness.scenarios import FAULTS
from tests.unit.robustness.histories import PETS, good


def test_a_report_stands_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the picture needs it")
    history = good()
    write_report(tmp_path, history, judge(history))
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "<script" not in page
    assert "8 acknowledged rows, 0 lost" in page
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "true"
    assert "![" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_timeline_has_what_happened() -> None:
    history = good()
    timeline = build_report(history, judge(history)).timeline
    assert sum(timeline.counts) == 11
    assert [span.text for span in timeline.faults] == ["mysqld-kill"]
    assert timeline.gap.end_s - timeline.gap.begin_s > 2.5
    assert [lane.name for lane in timeline.lanes] == list(PETS)
    assert {one.state for lane in timeline.lanes for one in lane.segments} == {"open", "closed"}
    assert "mysqld-kill on mysql-0" in [mark.text for mark in timeline.marks]


def test_the_table_has_a_row_for_each_fault() -> None:
    bad = good(finals=good().finals[:1], meta=replace(good().meta, is_settled=False))
    other = good(meta=replace(good().meta, fault="noop"))
    runs = [Run(one, judge(one)) for one in (good(), bad, other)]
    lines = [line.split() for line in render_summary(runs).splitlines()]
    assert lines[1][:5] == ["mysqld-kill", "2", "1", "16", "not"]
    assert lines[1][-1] == "false"
    assert lines[2] == ["noop", "1", "1", "8", "0", "2.60", "2.60", "by", "itself", "true"]
    markdown = render_summary_markdown(runs, "Faults")
    assert "| noop | 1 | 1 | 8 | 0 | 2.60 | 2.60 | by itself | true |" in markdown


def test_damage_on_purpose_has_to_be_found() -> None:
    lost = tuple(replace(one, rows={"100": [[1, 3], [6, 9]]}) for one in good().finals)
    for finals, is_found in ((lost, True), (good().finals, False)):
        history = good(finals=finals, meta=replace(good().meta, expect="red"))
        assert Run(history, judge(history)).is_as_expected is is_found
    assert Run(good(), judge(good())).is_as_expected


def test_damage_on_purpose_has_to_be_found_by_the_checker_that_is_for_it() -> None:
    """A difference that two writers left says nothing of the checker that looks for two writers."""
    lost = tuple(replace(one, rows={"100": [[1, 3], [6, 9]]}) for one in good().finals)
    for reddens, is_found in ((("lost_writes",), True), (("single_writer",), False)):
        history = good(finals=lost, meta=replace(good().meta, expect="red", reddens=reddens))
        assert Run(history, judge(history)).is_as_expected is is_found
    for fault in FAULTS.values():
        assert bool(fault.reddens) is (fault.expect == "red")
        assert set(fault.reddens) <= set(SAFETY)


def test_a_set_that_does_not_heal_is_no_damage_found() -> None:
    history = good(meta=replace(good().meta, expect="red", is_settled=False))
    judged = judge(history)
    assert judged.verdict is Verdict.FALSE
    assert not Run(history, judged).is_as_expected


def test_all_checkers_of_safety_are_there() -> None:
    assert set(SAFETY) == {one.checker for one in judge(good()).findings} - {"effect", "healing", "availability"}
