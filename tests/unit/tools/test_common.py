# SPDX-License-Identifier: GPL-3.0-or-later
"""Children with kept output, outcomes, the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.common import Failed, Outcome, Skipped, attempt, cache_root, environment, files_of_tree, render_table, run


def test_run_returns_both_streams_in_order() -> None:
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); print('three')"
    assert run([sys.executable, "-c", code]) == "one\ntwo\nthree\n"


def test_a_failed_child_tells_command_output_and_status() -> None:
    with pytest.raises(Failed) as failure:
        run([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"])
    text = str(failure.value)
    assert text.startswith(f"$ {sys.executable} -c ")
    assert text.endswith("why\nexit status 3")


def test_a_child_has_no_input() -> None:
    assert run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"]) == "''\n"


def fail() -> str:
    raise Failed("a finding")


def skip() -> str:
    raise Skipped("nothing there")


@pytest.mark.parametrize(
    ("work", "word", "note", "why"),
    [
        (lambda: "3 files", "ok", "3 files", ""),
        (lambda: None, "ok", "", ""),
        (fail, "FAIL", "", "a finding"),
        (skip, "SKIPPED", "nothing there", ""),
    ],
)
def test_attempt(work, word: str, note: str, why: str) -> None:
    outcome, text = attempt("x", work)
    assert (outcome.name, outcome.word, outcome.note, text) == ("x", word, note, why)
    assert outcome.seconds >= 0


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        attempt("x", lambda: str(1 // 0))


def test_the_table_has_a_line_for_each_and_the_sum() -> None:
    table = render_table("gate", [Outcome("sanity", "ok", 12.34, "9 files"), Outcome("mypy", "FAIL", 1.0)])
    assert table.splitlines() == [
        "gate    seconds  result",
        "sanity     12.3  ok  9 files",
        "mypy        1.0  FAIL",
        "total      13.3",
    ]


def test_the_environment_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", "/elsewhere")
    monkeypatch.setenv("KEPT", "yes")
    env = environment(EXTRA="1")
    assert "ANSIBLE_COLLECTIONS_PATH" not in env
    assert (env["KEPT"], env["EXTRA"]) == ("yes", "1")
    assert env["PATH"].split(":")[0].endswith("/.venv/bin")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PETSET_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/stateful-petset"),
        ({"HOME": "/c"}, "/c/.cache/stateful-petset"),
    ],
)
def test_the_cache(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], expected: str) -> None:
    for name in ("PETSET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_files_of_the_tree_hold_this_one_and_nothing_that_is_made() -> None:
    names = files_of_tree()
    assert "tests/unit/tools/test_common.py" in names
    assert not [name for name in names if name.startswith((".venv", "build/", ".git/"))]
