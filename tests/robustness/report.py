# SPDX-License-Identifier: GPL-3.0-or-later
"""A run as a report (the collection's own renderer), and all runs of a session as one table."""

from __future__ import annotations

import datetime
import importlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - makes the collection importable
from tests.robustness.checkers.base import Verdict, worst
from tests.robustness.checkers.judge import Judgement
from tests.robustness.history import History

_UTILS = "ansible_collections.stateful.petset.plugins.module_utils"
core: Any = importlib.import_module(f"{_UTILS}._core.report")
plot: Any = importlib.import_module(f"{_UTILS}._io.report_plot")
table: Any = importlib.import_module(f"{_UTILS}._core.status_table")

# Of events, those that a reader wants to see on the picture.
SHOWN = {"inject": "", "recover": "undone", "recovered": "whole again", "heal": "", "healthy": "healthy", "state": ""}


def build_timeline(history: History) -> Any:
    """The picture's data. Pure."""
    times = [one.completed_ns for one in history.acknowledged()]
    known = times + [event.at_ns for event in history.events] + [one.asked_ns for one in history.samples]
    if not known:
        return None
    begin, end = min(known), max(known)

    def at(ns: int) -> float:
        return (ns - begin) / 1e9

    seconds = [at(one) for one in times]
    marks = [
        core.Mark(at(event.at_ns), SHOWN[event.phase] or event.note or event.name)
        for event in history.events
        if event.phase in SHOWN
    ]
    faults: tuple[Any, ...] = ()
    if (inject := history.first("inject")) is not None:
        over = history.last("recovered") or history.last("recover") or end
        faults = (core.Span(at(inject), at(over), history.meta.fault),)
    word = {True: "open", False: "closed", None: "away"}
    lanes = tuple(
        core.merge_lane(
            pet, [(at(one.answered_ns), word[one.is_open]) for one in history.samples if one.pet == pet], at(end), 3.0
        )
        for pet in history.meta.pets
    )
    gap = core.find_gap(seconds, min(seconds), max(seconds)) if seconds else None
    return core.Timeline(0.1, core.bin_counts(seconds, at(end)), faults, tuple(marks), lanes, gap)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def build_report(history: History, judgement: Judgement) -> Any:
    """One run for the collection's renderer. Pure."""
    meta = history.meta
    at = datetime.datetime.fromtimestamp(
        (meta.wall_base_ns + (history.events[0].at_ns if history.events else 0)) / 1e9, tz=datetime.UTC
    )
    lost = judgement.figure("lost")
    facts = (
        ("fault", f"{meta.fault}, aimed at {meta.target or '-'}"),
        ("acknowledged rows", _whole(judgement.figure("acknowledged"))),
        ("acknowledged rows lost", _whole(lost)),
        ("rows of unknown fate, and how many of them landed",
         f"{_whole(judgement.figure('unknown'))}, {_whole(judgement.figure('unknown_landed'))}"),
        ("longest time without an acknowledged write", _seconds(judgement.figure("gap_s"))),
        ("from the fault to the first write sent after it", _seconds(judgement.figure("first_write_s"))),
        ("from the fault to a healthy set", _seconds(judgement.figure("healthy_s"))),
        ("healed", describe_healing(history)),
        ("seed", str(meta.seed)),
    )  # fmt: skip
    summary = (
        f"{_whole(judgement.figure('acknowledged'))} acknowledged rows, {_whole(lost)} lost; longest time without a "
        f"write {_seconds(judgement.figure('gap_s'))}."
    )
    checks = tuple(core.Check(one.checker, str(one.verdict), one.evidence) for one in judgement.findings)
    return core.Report(
        f"{meta.fault} on {meta.target or 'nothing'}",
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        str(judgement.verdict),
        summary,
        facts,
        checks,
        build_timeline(history),
    )


def _whole(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0f}"


def describe_healing(history: History) -> str:
    """By itself, by which command, or not."""
    if not history.meta.is_settled:
        return "no: needs a person"
    return history.meta.healed_by or "by itself"


def write_report(folder: Path, history: History, judgement: Judgement) -> None:
    """report.html, report.md, report.json and, if it can be drawn, timeline.svg into the run's folder."""
    report = build_report(history, judgement)
    svg = ""
    if report.timeline is not None and plot.HAS_MATPLOTLIB:
        svg = plot.draw_svg(report.timeline)
        (folder / "timeline.svg").write_text(svg, encoding="utf-8")
        (folder / "timeline.png").write_bytes(plot.draw_png(report.timeline))
    (folder / "report.html").write_text(core.render_html(report, svg), encoding="utf-8")
    (folder / "report.md").write_text(core.render_markdown(report, "timeline.svg" if svg else ""), encoding="utf-8")
    (folder / "report.json").write_text(core.render_json(report), encoding="utf-8")


# Checkers of what clients were told and pets hold. That a set does not heal is no proof that damage was found.
SAFETY = ("lost_writes", "unexpected_rows", "registers", "gtids", "checksums", "identity", "foreign", "single_writer")


@dataclass(frozen=True, slots=True)
class Run:
    """One run's history and verdict."""

    history: History
    judgement: Judgement

    @property
    def is_as_expected(self) -> bool:
        """Whether it passed; damage on purpose has to be found, by all the checkers that are for it."""
        if self.history.meta.expect == "red":
            found = {one.checker for one in self.judgement.findings if one.verdict is Verdict.FALSE}
            reddens = self.history.meta.reddens
            return found.issuperset(reddens) if reddens else not found.isdisjoint(SAFETY)
        return self.judgement.verdict is Verdict.TRUE


def table_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[Any]]]:
    """Titles and a row for each fault, in the order of their first run. Pure."""
    titles = ["FAULT", "RUNS", "PASSED", "ACKNOWLEDGED", "LOST", "GAP MEDIAN S", "GAP MAX S", "HEALED", "VERDICT"]
    rows: list[list[Any]] = []
    for name in dict.fromkeys(run.history.meta.fault for run in runs):
        ours = [run for run in runs if run.history.meta.fault == name]
        gaps = [gap for run in ours if (gap := run.judgement.figure("gap_s")) is not None]
        lost = [run.judgement.figure("lost") for run in ours]
        rows.append(
            [
                name,
                len(ours),
                sum(run.is_as_expected for run in ours),
                round(sum(run.judgement.figure("acknowledged") or 0 for run in ours)),
                "not known" if None in lost else round(sum(one or 0 for one in lost)),
                f"{statistics.median(gaps):.2f}" if gaps else None,
                f"{max(gaps):.2f}" if gaps else None,
                ", ".join(sorted({describe_healing(run.history) for run in ours})),
                str(worst(run.judgement.verdict for run in ours)),
            ]
        )
    return titles, rows


def render_summary(runs: Sequence[Run]) -> str:
    """The table for a terminal."""
    titles, rows = table_rows(runs)
    return str(table.render_table(titles, rows))


def render_summary_markdown(runs: Sequence[Run], heading: str) -> str:
    """The table for docs/."""
    titles, rows = table_rows(runs)
    lines = [
        f"# {heading}",
        "",
        "| " + " | ".join(title.lower() for title in titles) + " |",
        "|---" * len(titles) + "|",
    ]
    lines += ["| " + " | ".join(str(table.cell_text(cell)) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
