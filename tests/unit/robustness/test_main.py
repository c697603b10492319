# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored histories are judged again from the command line; one without an end is no pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.robustness import runner
from tests.robustness.__main__ import main
from tests.robustness.history import render_line
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
