# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a benchmark: medians, ratios and the page that shows them. Pure.

A measurement is ``{"who": "ours" | "peer" | "local", "what": "first", "value": 12.3}``: seconds, or a number where the
name says so. ``local``: a pet on its node's own disk, of which there are commits a second alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS, PEER, LOCAL = "ours", "peer", "local"


@dataclass(frozen=True, slots=True)
class Goal:
    """What is compared. ``times``: how often ours has to fit into the peer's; ``limit``: what ours may be at most."""

    key: str
    title: str
    times: float | None = None
    limit: float | None = None
    unit: str = "s"


GOALS: tuple[Goal, ...] = (
    Goal("first", "first run, in all"),
    Goal("first-own", "first run, without the pods' own start", times=4),
    Goal("pods", "the pods' own start", times=2),
    Goal("second", "second run", times=5),
    Goal("requests-first", "API requests of the first run", unit=""),
    Goal("requests-second", "API requests of the second run", unit=""),
    Goal("writes-second", "writes to the API of the second run", limit=0, unit=""),
    *(
        goal
        for pairs in (2, 10, 30)
        for goal in (
            Goal(f"pair-first-{pairs}", f"export, volume and claim, first run, a pair of {pairs}", times=20),
            Goal(f"pair-second-{pairs}", f"export, volume and claim, second run, a pair of {pairs}", times=40),
        )
    ),
    Goal("lab-up", "a second lab, all cached, to two Ready nodes", limit=45),
    Goal("lab-again", "up on a lab that is up", limit=3),
    Goal("lab-power-on", "power-on of a node to Ready", limit=30),
    Goal("lab-memory", "memory of the lab with two nodes", limit=8192, unit="MiB"),
    Goal("lab-cold", "a lab with nothing cached, to two Ready nodes", limit=720),
    Goal("soak-idle-median", "lab soak: 4 KiB O_DSYNC over NFS, idle, median", limit=0.6, unit="ms"),
    Goal("soak-idle-p99", "lab soak: the same, 99 of 100", limit=3, unit="ms"),
    Goal("soak-longest", "lab soak: the longest of these writes, under load", limit=200, unit="ms"),
    Goal("soak-again", "lab soak: TCP segments sent again, of 100,000", limit=1, unit="segments"),
    Goal("soak-host-late", "lab soak: by how much the host woke a sleeper of its own late, at worst", unit="ms"),
)


def median_of(values: Sequence[float]) -> float:
    """The middle one. Raises ValueError without any."""
    if not values:
        raise ValueError("no values")
    return float(statistics.median(values))


def show(value: float | None, unit: str = "s") -> str:
    """A number as people read it.

    >>> show(12.345), show(0.0123), show(7, ""), show(None)
    ('12.3 s', '0.012 s', '7', '-')
    """
    if value is None:
        return "-"
    text = f"{value:.0f}" if not unit or abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{text} {unit}".rstrip()


def _spread(values: Sequence[float]) -> str:
    return f" ({min(values):.3g} to {max(values):.3g}, {len(values)})"


def judge(goal: Goal, ours: float | None, peer: float | None) -> str:
    """What the goal says of two medians: ``met``, ``not met``, or nothing where there is no goal or no figure."""
    if ours is None:
        return ""
    if goal.limit is not None:
        return "met" if ours <= goal.limit else "not met"
    if goal.times is None or peer is None:
        return ""
    return "met" if ours * goal.times <= peer else "not met"


def render_goal(goal: Goal) -> str:
    """The goal in words, empty when there is none."""
    if goal.limit is not None:
        return f"at most {show(goal.limit, goal.unit)}"
    return "" if goal.times is None else f"{goal.times:g} times less"


def collect(measurements: Iterable[Mapping[str, object]]) -> dict[tuple[str, str], list[float]]:
    """Values by goal and side."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in measurements:
        found.setdefault((str(one["what"]), str(one["who"])), []).append(float(str(one["value"])))
    return found


def render_page(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """The page for docs/, in Markdown.

    ``parts``: by name, ``found`` (measurements) and ``about`` (``date``, ``machine`` and ``load`` when it ended).
    """
    values = collect(one for part in parts.values() for one in part["found"])
    machines = sorted({part["about"]["machine"] for part in parts.values()})
    lines = [
        "# What it costs, measured",
        "",
        "Made by `make bench`: this collection beside the usual playbook (`bench/peer`: kubernetes.core, templates and",
        "loops), by turns on the same lab in one run. Medians; in parentheses the smallest, the largest and how many.",
        "",
        *(f"- machine: {machine}" for machine in machines),
        *(
            f"- part `{name}`: {part['about']['date']} UTC, load of the host at its end {part['about']['load']}"
            for name, part in parts.items()
        ),
        "",
        "| what | this collection | the usual playbook | ratio | goal | |",
        "|---|---|---|---|---|---|",
    ]
    for goal in GOALS:
        sides: dict[str, float | None] = {}
        cells = []
        for who in (OURS, PEER):
            found = values.get((goal.key, who), [])
            sides[who] = median_of(found) if found else None
            cells.append(show(sides[who], goal.unit) + (_spread(found) if len(found) > 1 and goal.unit else ""))
        ours, peer = sides[OURS], sides[PEER]
        if ours is None and peer is None:
            continue
        ratio = f"{peer / ours:.1f}" if ours and peer is not None else ""
        lines.append(
            f"| {goal.title} | {cells[0]} | {cells[1]} | {ratio} | {render_goal(goal)} | {judge(goal, ours, peer)} |"
        )
    return "\n".join([*lines, *_render_commits(values)]) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return show(median_of(values), "") + (_spread(values) if len(values) > 1 else "")


def _render_commits(values: Mapping[tuple[str, str], Sequence[float]]) -> list[str]:
    """Commits a second by storage, more is better; nothing when they were not measured."""
    counts = sorted({int(what.removeprefix("commits-")) for what, _who in values if what.startswith("commits-")})
    if not counts:
        return []
    lines = [
        "",
        "Commits a second of one pet, everything flushed at each; only what the volume lies on differs. The lab's",
        "disks are files of one host: the network's and the server's part in a commit shows here, and no disk's.",
        "",
        "| clients | our exports | the usual options | the node's own disk | ours / usual | ours / own disk |",
        "|---|---|---|---|---|---|",
    ]
    for count in counts:
        found = {who: values.get((f"commits-{count}", who), []) for who in (OURS, PEER, LOCAL)}
        cells = [
            show(median_of(one), "") + (_spread(one) if len(one) > 1 else "") if one else "-" for one in found.values()
        ]
        ratios = [
            f"{median_of(found[OURS]) / median_of(found[who]):.2f}" if found[OURS] and found[who] else ""
            for who in (PEER, LOCAL)
        ]
        lines.append(f"| {count} | {' | '.join([*cells, *ratios])} |")
    return lines
