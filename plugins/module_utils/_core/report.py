# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill: what was staged, what clients saw, what every pet had afterwards.

One :class:`Report` gives a page of HTML that needs nothing else, a Markdown twin and a JSON twin. Every text that goes
in is shown as it is, so a secret must not be put in (redact.py); every value is escaped for where it stands. Times on
the timeline are seconds since its begin.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

FORMAT: Final = 1
# States of a lane, with the words of the legend; report_plot.py has a colour for each.
LANE_STATES: Final = {"open": "open for writes", "closed": "read only", "away": "no answer"}
WORD_OF_VERDICT: Final = {"true": "passed", "false": "FAILED", "unknown": "not known"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a short text."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted: a fault."""

    begin_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a lane in one of LANE_STATES."""

    begin_s: float
    end_s: float
    state: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One pet over the time."""

    name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Acknowledged writes in each bin of ``bin_s`` seconds, and what happened. ``gap``: the longest time without."""

    bin_s: float
    counts: tuple[int, ...]
    faults: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    lanes: tuple[Lane, ...] = ()
    gap: Span | None = None

    @property
    def end_s(self) -> float:
        """Where it ends."""
        return self.bin_s * len(self.counts)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; ``verdict`` is true, false or unknown."""

    name: str
    verdict: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All of a drill. ``facts``: name and value, in the order to show; ``at``: the time of day it began, with zone."""

    title: str
    at: str
    verdict: str
    summary: str
    facts: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    timeline: Timeline | None = None
    format: int = field(default=FORMAT)


def bin_counts(times_s: Iterable[float], end_s: float, bin_s: float = 0.1) -> tuple[int, ...]:
    """How many of ``times_s`` fall into each bin from 0 to ``end_s``; what lies outside is not counted.

    >>> bin_counts([0.05, 0.06, 0.25], 0.4)
    (2, 0, 1, 0)
    """
    counts = [0] * max(1, round(end_s / bin_s))
    for at in times_s:
        index = int(at / bin_s + 1e-9)
        if at >= 0 and index < len(counts):
            counts[index] += 1
    return tuple(counts)


def merge_lane(name: str, looks: Sequence[tuple[float, str]], end_s: float, patience_s: float = 1.0) -> Lane:
    """A lane from looks at a pet (time, state), in order. A look holds until the next one, at most ``patience_s``."""
    segments: list[Segment] = []
    for index, (at, state) in enumerate(looks):
        until = min(looks[index + 1][0] if index + 1 < len(looks) else end_s, at + patience_s, end_s)
        if until <= at:
            continue
        last = segments[-1] if segments else None
        if last and last.state == state and at - last.end_s < 0.001:
            segments[-1] = Segment(last.begin_s, until, state)
        else:
            segments.append(Segment(at, until, state))
    return Lane(name, tuple(segments))


def find_gap(times_s: Sequence[float], begin_s: float, end_s: float) -> Span | None:
    """The longest time without any of ``times_s`` between begin and end; None if there is no room for one."""
    inside = [begin_s, *sorted(at for at in times_s if begin_s <= at <= end_s), end_s]
    pairs = [(b - a, a, b) for a, b in zip(inside, inside[1:]) if b > a]
    if not pairs:
        return None
    length, begin, end = max(pairs)
    return Span(begin, end, f"{length:.2f} s without a write")


def render_json(report: Report) -> str:
    """The JSON twin: all figures, for programs."""
    return json.dumps(asdict(report), indent=2, sort_keys=True) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def render_markdown(report: Report, picture: str = "", no_picture: str = "") -> str:
    """The Markdown twin. ``picture``: file name of the timeline beside it, or empty; ``no_picture`` then says why."""
    lines = [f"# {_cell(report.title)}", "", f"**{WORD_OF_VERDICT[report.verdict]}** · {_cell(report.at)}", ""]
    if report.summary:
        lines += [_cell(report.summary), ""]
    if picture:
        lines += [f"![Acknowledged writes over the time]({picture})", ""]
    elif no_picture:
        lines += [f"No picture of the timeline: {_cell(no_picture)}", ""]
    if report.facts:
        lines += ["| what | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in report.facts] + [""]
    if report.checks:
        lines += ["| check | verdict | evidence |", "|---|---|---|"]
        lines += [
            f"| {_cell(one.name)} | {WORD_OF_VERDICT[one.verdict]} | {_cell('; '.join(one.evidence)) or '-'} |"
            for one in report.checks
        ] + [""]
    if report.timeline and report.timeline.marks:
        lines += ["| at | what happened |", "|---:|---|"]
        lines += [f"| {mark.at_s:.2f} s | {_cell(mark.text)} |" for mark in report.timeline.marks] + [""]
    return "\n".join(lines)


_STYLE: Final = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #57606a; --good: #1a7f37; --bad: #cf222e; --open: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #9198a1; --good: #3fb950; --bad: #ff7b72;
  --open: #d29922 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.at { color: var(--soft); margin: .2rem 0 1rem } .summary { font-size: 1.1rem }
.word { font-weight: 600 } .true { color: var(--good) } .false { color: var(--bad) } .unknown { color: var(--open) }
figure { margin: 1rem 0; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem }
figure svg { width: 100%; height: auto; display: block }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
td.at-s { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
"""


def _row(*cells: str) -> str:
    return "<tr>" + "".join(cells) + "</tr>"


def render_html(report: Report, svg: str = "", no_picture: str = "") -> str:
    """One page that needs no other file and no network. ``svg``: the timeline as report_plot draws it, or empty;
    ``no_picture`` then says why.
    """
    text = html.escape
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(report.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{text(report.title)}</h1>",
        f'<p class="at"><span class="word {report.verdict}">{WORD_OF_VERDICT[report.verdict]}</span>'
        f" · {text(report.at)}</p>",
    ]
    if report.summary:
        parts.append(f'<p class="summary">{text(report.summary)}</p>')
    if svg:
        parts.append(f"<figure>{svg}</figure>")
    elif no_picture:
        parts.append(f'<p class="at">No picture of the timeline: {text(no_picture)}</p>')
    if report.facts:
        rows = [_row(f"<th>{text(name)}</th>", f"<td>{text(value)}</td>") for name, value in report.facts]
        parts.append('<h2>Figures</h2><div class="wide"><table>' + "".join(rows) + "</table></div>")
    if report.checks:
        rows = [
            _row(
                f"<th>{text(one.name)}</th>",
                f'<td class="word {one.verdict}">{WORD_OF_VERDICT[one.verdict]}</td>',
                "<td>" + ("<br>".join(text(line) for line in one.evidence) or "&ndash;") + "</td>",
            )
            for one in report.checks
        ]
        parts.append('<h2>Checks</h2><div class="wide"><table>' + "".join(rows) + "</table></div>")
    if report.timeline and report.timeline.marks:
        rows = [
            _row(f'<td class="at-s">{mark.at_s:.2f} s</td>', f"<td>{text(mark.text)}</td>")
            for mark in report.timeline.marks
        ]
        parts.append('<h2>What happened</h2><div class="wide"><table>' + "".join(rows) + "</table></div>")
    parts.append("</body></html>\n")
    return "\n".join(parts)
