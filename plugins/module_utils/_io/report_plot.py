# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of a drill as a picture, by matplotlib. Without matplotlib a report has no picture and says so."""

from __future__ import annotations

import io
from typing import Any, Final

from .._core.errors import PetsetError
from .._core.report import LANE_STATES, Timeline

try:
    # No pyplot: it looks for a display. Agg and SVG need none.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
except ImportError as error:
    HAS_MATPLOTLIB = False
    MATPLOTLIB_ERROR: ImportError | None = error
else:
    HAS_MATPLOTLIB = True
    MATPLOTLIB_ERROR = None

WRITES: Final = "#2f6fb3"
FAULT: Final = "#cf222e"
INK: Final = "#24292f"
SOFT: Final = "#57606a"
LANE_COLOURS: Final = {"open": "#2da44e", "closed": "#afb8c1", "away": "#ffb3ad"}
# Under a text, so that lines do not cross it.
_PLATE: Final = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
_SETTINGS: Final[dict[Any, Any]] = {
    "font.size": 9,
    "font.family": "sans-serif",
    # Text stays text: it can be searched and read aloud, and the file is small.
    "svg.fonttype": "none",
    # The same timeline gives the same file.
    "svg.hashsalt": "petset",
}


class NoPlot(PetsetError):
    """matplotlib is not installed."""


def draw_svg(timeline: Timeline) -> str:
    """The picture as an ``<svg>`` element to put into a page. Raises NoPlot."""
    text = _draw(timeline, "svg").decode()
    return text[text.index("<svg") :]


def draw_png(timeline: Timeline) -> bytes:
    """The picture as a PNG. Raises NoPlot."""
    return _draw(timeline, "png")


def _draw(timeline: Timeline, kind: str) -> bytes:
    if not HAS_MATPLOTLIB:
        raise NoPlot(
            "matplotlib",
            "a picture of the timeline needs it",
            way_out="install it, for example by: pip install matplotlib",
        )
    with rc_context(_SETTINGS):
        lanes = len(timeline.lanes)
        figure = Figure(figsize=(11, 4.0 + 0.32 * lanes), layout="constrained")
        FigureCanvasAgg(figure)
        if lanes:
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 0.36 * lanes))
            _draw_lanes(bottom, timeline)
        else:
            top = bottom = figure.subplots()
        _draw_writes(top, timeline)
        bottom.set_xlabel("seconds since the begin")
        out = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
        figure.savefig(out, format=kind, dpi=120, metadata=metadata)
    return out.getvalue()


def _draw_writes(axes: Any, timeline: Timeline) -> None:
    edges = [index * timeline.bin_s for index in range(len(timeline.counts) + 1)]
    axes.stairs(timeline.counts, edges, fill=True, color=WRITES, alpha=0.85, linewidth=0)
    tallest = max(timeline.counts, default=0) or 1
    axes.set_xlim(0, timeline.end_s)
    # Room above for the gap and for the texts of the marks.
    axes.set_ylim(0, tallest * 1.75)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= tallest and tick == int(tick)])
    axes.set_ylabel(f"acknowledged writes\nper {timeline.bin_s * 1000:.0f} ms", loc="bottom")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for span in timeline.faults:
        axes.axvspan(span.begin_s, max(span.end_s, span.begin_s + timeline.bin_s), color=FAULT, alpha=0.13, linewidth=0)
    _draw_marks(axes, timeline, tallest)
    gap = timeline.gap
    if gap is not None and gap.end_s - gap.begin_s >= 3 * timeline.bin_s:
        height = tallest * 1.06
        axes.annotate(
            "", (gap.begin_s, height), (gap.end_s, height), arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1.1}
        )
        near_end = (gap.begin_s + gap.end_s) / 2 > timeline.end_s * 0.85
        axes.text(
            gap.end_s if near_end else (gap.begin_s + gap.end_s) / 2,
            height + tallest * 0.03,
            gap.text,
            ha="right" if near_end else "center",
            va="bottom",
            color=INK,
            weight="bold",
            bbox=_PLATE,
        )


def _draw_marks(axes: Any, timeline: Timeline, tallest: int) -> None:
    """A line at each mark; texts in as many rows as keep them from lying over each other."""
    rows_end: list[float] = []
    width_of_letter = timeline.end_s * 0.0078
    for mark in sorted(timeline.marks, key=lambda one: one.at_s):
        text = mark.text if len(mark.text) <= 44 else mark.text[:43] + "…"
        length = width_of_letter * len(text)
        to_left = mark.at_s + length > timeline.end_s
        begin = mark.at_s - length if to_left else mark.at_s
        row = next((index for index, end in enumerate(rows_end) if end < begin), len(rows_end))
        if row == len(rows_end):
            rows_end.append(0.0)
        rows_end[row] = begin + length + width_of_letter
        height = tallest * (1.68 - 0.1 * min(row, 4))
        axes.plot([mark.at_s, mark.at_s], [0, height], color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.text(
            mark.at_s,
            height,
            f"{text} " if to_left else f" {text}",
            ha="right" if to_left else "left",
            va="center",
            color=SOFT,
            fontsize=8,
            bbox=_PLATE,
        )


def _draw_lanes(axes: Any, timeline: Timeline) -> None:
    names = [lane.name for lane in timeline.lanes]
    for index, lane in enumerate(timeline.lanes):
        for state, colour in LANE_COLOURS.items():
            bars = [(one.begin_s, one.end_s - one.begin_s) for one in lane.segments if one.state == state]
            if bars:
                axes.broken_barh(bars, (index - 0.36, 0.72), facecolors=colour, linewidth=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    shown = {one.state for lane in timeline.lanes for one in lane.segments}
    axes.legend(
        handles=[Patch(color=LANE_COLOURS[state], label=text) for state, text in LANE_STATES.items() if state in shown],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.55 if len(names) > 1 else -0.9),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
