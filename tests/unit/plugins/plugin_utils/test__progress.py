# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from pathlib import Path

from ansible_collections.stateful.petset.plugins.plugin_utils._progress import following


def test_lines_are_shown_while_the_context_lasts(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    path.write_text("from before\n")
    shown: list[str] = []
    first = threading.Event()

    def show(line: str) -> None:
        shown.append(line)
        first.set()

    with following(str(path), show, interval_s=0.01), path.open("a") as handle:
        handle.write("one\ntw")
        handle.flush()
        assert first.wait(10)
        assert shown == ["one"]
        handle.write("o\nhälf")
        handle.flush()
    assert shown == ["one", "two"]


def test_what_is_written_at_the_very_end_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    shown: list[str] = []
    with following(str(path), shown.append, interval_s=60):
        path.write_text("last\n")
    assert shown == ["last"]


def test_a_file_that_never_comes_is_no_error(tmp_path: Path) -> None:
    shown: list[str] = []
    with following(str(tmp_path / "nowhere" / "progress"), shown.append, interval_s=0.01):
        pass
    assert shown == []


def test_every_module_that_waits_shows_its_progress() -> None:
    plugins = Path(__file__).resolve().parents[4] / "plugins"
    waiting = {p.stem for p in (plugins / "modules").glob("*.py") if "stateful.petset.wait\n" in p.read_text()}
    assert waiting >= {"pet_set", "pet_volume"}
    assert waiting <= {path.stem for path in (plugins / "action").glob("*.py")}
