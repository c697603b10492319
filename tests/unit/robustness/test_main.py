# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: what a suite that is cut short still does; stored histories are judged again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness import __main__ as command
from tests.robustness import runner
from tests.robustness.__main__ import main
from tests.robustness.history import render_line
from tests.robustness.report import Run
from tests.robustness.runner import finish
from tests.robustness.scenarios import SABOTAGE, Scenario
from tests.unit.robustness.histories import good

STORED = Path(__file__).parents[2] / "robustness" / "testdata"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "write_report", lambda *_: None)


def test_a_good_history_passes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(STORED / "good", tmp_path / "good")
    assert main(["recheck", str(tmp_path)]) == 0
    assert "1 of 1 runs as they should be" in capsys.readouterr().out


def test_a_spoilt_one_does_not_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(STORED / "sabotage-row-deleted", tmp_path / "bad")
    assert main(["recheck", str(tmp_path)]) == 1
    assert "mysql-0 lacks 1 acknowledged rows: (100, 8)" in capsys.readouterr().out


def test_a_run_that_was_killed_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(STORED / "good", tmp_path / "good")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "operations.jsonl").write_text("".join(map(render_line, good().operations)))
    assert main(["recheck", str(tmp_path)]) == 1
    assert "killed: cannot be judged: a history has one meta record, not 0" in capsys.readouterr().out


def test_an_empty_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recheck", str(tmp_path)]) == 2
    assert "holds no history" in capsys.readouterr().out


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Runs a suite of which each run gives a stored history and ends with ``after``; gives what was staged."""

    def stage(*words: str, after: Callable[[int], None]) -> tuple[int, list[str]]:
        done: list[str] = []

        class Stand:
            """In the place of world and runner."""

            def __init__(self, *_args: object) -> None:
                self.earlier = 0

            def run(self, scenario: Scenario) -> Run:
                done.append(scenario.fault)
                after(len(done))
                return finish(STORED / "good")

            def play(self, *_args: object, **_options: object) -> None:
                """Nothing to do."""

            rebuild = heal_everything = play

        monkeypatch.setattr(command, "World", Stand)
        monkeypatch.setattr(command, "Runner", Stand)
        monkeypatch.setattr(command, "BUILD", tmp_path)
        return main(["run", *words]), done

    return stage


def test_a_suite_with_a_limit_ends_with_its_sabotage(
    staged: Callable[..., tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit left it out, so that nothing proved that the checkers bite."""
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)

    def pass_time(_count: int) -> None:
        nonlocal now_s
        now_s += 60.0

    status, done = staged("--suite", "long", "--seed", "1", "--limit-min", "4", after=pass_time)
    assert (status, sorted(done[5:])) == (0, sorted(SABOTAGE))
    shown = capsys.readouterr().out
    assert "the limit of 4 min was over:" in shown
    assert "8 of 8 runs as they should be" in shown


def test_a_suite_that_is_interrupted_shows_what_it_has(
    staged: Callable[..., tuple[int, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    status, done = staged("--suite", "long", "--seed", "1", after=interrupt)
    assert (status, len(done)) == (130, 3)
    assert "2 of 2 runs as they should be" in capsys.readouterr().out
