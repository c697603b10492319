# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories live on disk and come back as they were; stored ones keep their verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.robustness.checkers.judge import judge
from tests.robustness.history import History, Intent, Outcome, assemble, load, parse_line, render_line, to_ranges
from tests.unit.robustness.histories import good

STORED = Path(__file__).parents[2] / "robustness" / "testdata"


def store(history: History, folder: Path) -> None:
    (folder / "a.jsonl").write_text("".join(render_line(one) for one in history.operations))
    rest = (history.meta, *history.samples, *history.events, *history.finals)
    (folder / "b.jsonl").write_text("".join(render_line(one) for one in rest))


def test_a_history_comes_back_from_disk(tmp_path: Path) -> None:
    history = good()
    store(history, tmp_path)
    loaded = load(tmp_path)
    assert loaded.meta == history.meta
    assert loaded.operations == history.operations
    assert loaded.events == history.events
    assert loaded.finals == history.finals
    assert sorted(loaded.samples, key=repr) == sorted(history.samples, key=repr)
    assert judge(loaded) == judge(history)


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    store(good(), tmp_path)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"type":"operation","proc')
    assert load(tmp_path).operations == good().operations


def test_what_a_client_was_about_to_try_when_it_died_is_of_unknown_fate(tmp_path: Path) -> None:
    """Its row may be there: without the intent it was a row that nobody had sent."""
    history = good()
    store(history, tmp_path)
    last = history.operations[-1]
    known = Intent(last.process, last.f, last.value, last.invoked_ns)
    died = Intent(9, "append", (900, 1), last.invoked_ns)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.writelines(render_line(one) for one in (known, died))
    (found,) = set(load(tmp_path).operations) - set(history.operations)
    assert (found.process, found.f, found.value, found.outcome) == (9, "append", (900, 1), Outcome.INFO)
    assert found.completed_ns >= last.completed_ns
    assert len(load(tmp_path).operations) == len(history.operations) + 1


@pytest.mark.parametrize("text", ["", "[]", '{"type":"else"}', '{"type":"event"}', '{"type":"meta","format":9}', "{"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a record of a history"):
        parse_line(text)


def test_a_history_has_one_meta(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one meta record, not 0"):
        assemble(good().operations)
    with pytest.raises(ValueError, match="holds no history"):
        load(tmp_path)


def test_ranges_are_short() -> None:
    assert to_ranges([]) == []
    assert to_ranges([5, 5, 4, 9]) == [[4, 5], [9, 9]]


@pytest.mark.parametrize("folder", sorted(STORED.iterdir()), ids=lambda path: path.name)
def test_a_stored_history_keeps_its_verdict(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    judgement = judge(load(folder))
    assert str(judgement.verdict) == expected["verdict"]
    assert {one.checker: str(one.verdict) for one in judgement.findings} == expected["checkers"]
