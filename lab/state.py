# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a lab on disk: one folder and one JSON file for each, written whole or not at all.

The processes themselves are the truth about what runs (see :mod:`lab.processes`); the file keeps what cannot be seen
from outside: the configuration, the slot, the cuts, and which process plays which part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.config import LabConfig, Plan
from lab.log import LabError
from lab.paths import locked, state_root


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process of ours: its pid, its start time in clock ticks since boot, and a word of its command line. Only a
    process that matches all three is touched: a pid alone may be somebody else's by now.
    """

    pid: int
    start_ticks: int
    word: str


@dataclass(slots=True)
class LabState:
    """The state file's content. A part that a user stopped keeps its record: that of a process that has ended."""

    config: LabConfig
    slot: int
    processes: dict[str, ProcessRecord] = field(default_factory=dict)
    cuts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """Names and addresses."""
        return Plan(self.config, self.slot)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "config": self.config.to_json(),
            "slot": self.slot,
            "processes": {n: [p.pid, p.start_ticks, p.word] for n, p in sorted(self.processes.items())},
            "cuts": [list(cut) for cut in sorted(self.cuts)],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabState:
        """Back from plain data."""
        return cls(
            config=LabConfig.from_json(data["config"]),
            slot=data["slot"],
            processes={n: ProcessRecord(*p) for n, p in data["processes"].items()},
            cuts=[(a, b) for a, b in data["cuts"]],
        )


def folder(name: str) -> Path:
    """The lab's folder."""
    return state_root() / name


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content so that a reader sees the old or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    # made anew and closed before anything is in it: it may be a secret
    beside.unlink(missing_ok=True)
    beside.touch(mode=0o600)
    beside.chmod(mode)
    beside.write_text(text)
    beside.replace(path)


def write_if_changed(path: Path, text: str) -> None:
    """As write_atomically, but a file that says so already stays as it is."""
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)


def load(name: str) -> LabState | None:
    """The state of a lab; None when there is none of that name. Raises LabError when its file cannot be read."""
    path = folder(name) / "state.json"
    try:
        return LabState.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        # another version of the lab wrote it, or a person
        raise LabError(f"cannot read {path}: {error!r}", f"python3 -m lab down --name {name}") from error


def need(name: str) -> LabState:
    """The state of a lab that must be there."""
    state = load(name)
    if state is None:
        known = ", ".join(sorted(all_labs())) or "none"
        raise LabError(f"there is no lab '{name}' (there are: {known})", f"python3 -m lab up --name {name}")
    return state


def save(state: LabState) -> None:
    """Write the state file."""
    write_atomically(folder(state.config.name) / "state.json", json.dumps(state.to_json(), indent=1) + "\n")


def all_labs() -> list[str]:
    """Names of all labs that have a state on this host."""
    try:
        return [p.parent.name for p in state_root().glob("*/state.json")]
    except OSError:
        return []


def free_slot(taken: Iterable[int]) -> int:
    """The lowest slot that no other lab has (0 to 63). Pure."""
    used = set(taken)
    for slot in range(64):
        if slot not in used:
            return slot
    raise LabError("64 labs are on this host: no slot is free", "take one down: python3 -m lab down --name ...")


def create_or_update(config: LabConfig) -> LabState:
    """The state for ``up``: a new one with a free slot, or the one there is with nodes and machines added.

    Raises LabError when the lab that is there cannot become what is asked for.
    """
    with locked(state_root() / ".slots.lock"):
        state = load(config.name)
        if state is None:
            others = [load(name) for name in all_labs()]
            state = LabState(config, free_slot(o.slot for o in others if o))
            save(state)
            return state
        old = state.config
        if config.nodes < old.nodes or config.extra < old.extra or config.kubernetes != old.kubernetes:
            raise LabError(
                f"lab '{config.name}' is there with {old.nodes} nodes, {old.extra} further machines, Kubernetes "
                f"{old.kubernetes}; asked for: {config.nodes}, {config.extra}, {config.kubernetes}",
                f"take it down first (python3 -m lab down --name {config.name}) or give another --name",
            )
        if config != old:
            state.config = config
            save(state)
        return state
