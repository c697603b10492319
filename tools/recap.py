# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of ansible-playbook did, out of its recap: for the demo and the benchmark."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"^(?P<host>\S+)\s*:\s*(?P<counts>ok=\d+(?:\s+\w+=\d+)*)\s*$", re.MULTILINE)
_NONE_OF = ("changed", "failed", "unreachable")


def parse_recap(printed: str) -> dict[str, dict[str, int]]:
    """By host the counts of the last recap: ok, changed, failed and so on. Empty when there is none."""
    recap = _COLOUR.sub("", printed).rpartition("PLAY RECAP")[2]
    return {
        line["host"]: {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", line["counts"])}
        for line in _LINE.finditer(recap)
    }


def what_happened(printed: str) -> list[str]:
    """What keeps this from being a run that changed nothing: each host with its count, or that no recap was printed."""
    recap = parse_recap(printed)
    if not recap:
        return ["no recap was printed"]
    return [
        f"{host}: {word}={counts.get(word, 'unknown')}"
        for host, counts in recap.items()
        for word in _NONE_OF
        if counts.get(word) != 0
    ]
