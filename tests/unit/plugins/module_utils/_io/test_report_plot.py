# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.report import (
    Lane,
    Mark,
    Segment,
    Span,
    Timeline,
)
from ansible_collections.stateful.petset.plugins.module_utils._io import report_plot

needs_matplotlib = pytest.mark.skipif(not report_plot.HAS_MATPLOTLIB, reason="matplotlib is not installed")

TIMELINE = Timeline(
    0.1,
    (3, 2, 0, 0, 0, 0, 4, 1),
    (Span(0.2, 0.6, "kill"),),
    (Mark(0.2, "killed <it>"), Mark(0.75, "whole again")),
    (Lane("mysql-0", (Segment(0, 0.8, "open"),)), Lane("mysql-1", (Segment(0.1, 0.4, "away"),))),
    Span(0.2, 0.6, "0.40 s without a write"),
)


@needs_matplotlib
def test_an_svg_has_its_texts_and_asks_for_nothing() -> None:
    svg = report_plot.draw_svg(TIMELINE)
    root = ET.fromstring(svg)
    text = " ".join("".join(root.itertext()).split())
    for word in ("killed <it>", "0.40 s without a write", "mysql-0", "mysql-1", "no answer", "acknowledged writes"):
        assert word in text
    assert "<image" not in svg
    assert svg == report_plot.draw_svg(TIMELINE)


@needs_matplotlib
def test_a_png_is_one() -> None:
    assert report_plot.draw_png(Timeline(0.1, (0,))).startswith(b"\x89PNG\r\n")


def test_without_matplotlib_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_plot, "HAS_MATPLOTLIB", False)
    with pytest.raises(report_plot.NoPlot, match="pip install matplotlib"):
        report_plot.draw_svg(TIMELINE)
