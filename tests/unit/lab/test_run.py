# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs: what they get, what comes back, and errors that a person can paste into a shell."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import log
from lab.log import LabError
from lab.run import CommandError, call, run


def test_standard_output_comes_back_alone() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == "out\n"


def test_arguments_are_words_and_never_a_shell_line() -> None:
    words = ["a b", "$HOME", "`id`", "*", "", "--", "'", '"', "é\n"]
    assert run(["printf", "%s|", *words]) == "".join(w + "|" for w in words)


def test_a_child_reads_nothing_unless_it_is_given() -> None:
    assert run(["cat"]) == ""
    assert run(["cat"], input_text="für dich\n") == "für dich\n"


def test_the_environment_is_added_to_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TEST_KEPT", "kept")
    monkeypatch.setenv("LAB_TEST_OTHER", "old")
    seen = run(["sh", "-c", 'echo "$LAB_TEST_KEPT $LAB_TEST_OTHER $PWD"'], env={"LAB_TEST_OTHER": "new"}, cwd=Path("/"))
    assert seen == "kept new /\n"


def test_a_failure_can_be_pasted_and_shows_what_was_printed() -> None:
    argv = ["sh", "-c", "echo out; echo 'it broke' >&2; exit 3", "a word", "$x"]
    with pytest.raises(CommandError) as caught:
        run(argv)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("exit status 3 from: sh -c ")
    assert shlex.split(first.removeprefix("exit status 3 from: ")) == argv
    assert rest == ["    | out", "    | it broke"]
    assert (caught.value.argv, caught.value.status, caught.value.output) == (argv, 3, "out\nit broke\n")
    assert isinstance(caught.value, LabError)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_command_in_an_error_can_be_pasted(argv: list[str]) -> None:
    message = str(CommandError(argv, 1, ""))
    assert shlex.split(message.removeprefix("exit status 1 from: ").removesuffix("\n")) == argv


def test_an_error_shows_the_last_lines_alone() -> None:
    shown = str(CommandError(["x"], 1, "\n".join(f"line {i}" for i in range(100)))).splitlines()
    assert len(shown) == 21
    assert shown[-1] == "    | line 99"


def test_a_status_that_is_not_checked_is_no_error() -> None:
    assert run(["sh", "-c", "echo seen; exit 1"], check=False) == "seen\n"


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("to_log", [True, False])
def test_a_program_that_is_missing_names_the_way_out(tmp_path: Path, check: bool, to_log: bool) -> None:
    with pytest.raises(LabError, match="no-such-program-of-the-lab is not installed") as caught:
        run(["no-such-program-of-the-lab", "-x"], check=check, log=tmp_path / "log" if to_log else None)
    assert caught.value.hint == "python3 -m lab doctor --fix"
    assert not isinstance(caught.value, CommandError)


def test_a_status_127_of_a_programs_own_is_that() -> None:
    with pytest.raises(CommandError, match="exit status 127"):
        run(["sh", "-c", "no-such-program-of-the-lab"])


def test_a_host_without_setpriv_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``doctor`` looks for it, and asks other programs by way of it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="setpriv is not installed") as caught:
        run(["true"])
    assert caught.value.hint == "python3 -m lab doctor --fix"


def test_a_working_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nowhere"):
        run(["true"], cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("to_log", [True, False])
def test_a_program_that_does_not_end_is_ended(tmp_path: Path, to_log: bool) -> None:
    with pytest.raises(LabError, match=r"no end after 0\.02 s: sleep 30"):
        run(["sleep", "30"], timeout_s=0.02, log=tmp_path / "log" if to_log else None)


def test_output_goes_to_the_log_which_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "build.log"
    assert run(["sh", "-c", "echo one; echo two >&2"], log=path) == ""
    run(["echo", "three"], log=path)
    assert path.read_text() == "one\ntwo\nthree\n"


def test_a_failure_with_a_log_shows_its_end_and_where_the_rest_is(tmp_path: Path) -> None:
    path = tmp_path / "build.log"
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "seq 100; exit 1"], log=path)
    assert "| 100\n" in str(caught.value)
    assert "| 50\n" not in str(caught.value)
    assert f"(whole log: {path})" in str(caught.value)


def test_output_that_is_no_text_is_no_reason_to_fail() -> None:
    assert run(["printf", r"a\377b\n"]) == "a\ufffdb\n"


# -- what the lab says -----------------------------------------------------------------------------------------------


def test_tail_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert log.tail(tmp_path / "none.log") == ""


def test_tail_shows_the_last_lines_indented(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"one\ntwo\xff\nthree\n")
    assert log.tail(tmp_path / "x.log", 2) == "    | two\ufffd\n    | three"


def test_an_error_is_printed_with_its_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        log.die(LabError("it broke", "mend it"))
    assert caught.value.code == 1
    assert capsys.readouterr() == ("", "lab: it broke\n  way out: mend it\n")
    with pytest.raises(SystemExit):
        log.die(LabError("it broke"))
    assert capsys.readouterr() == ("", "lab: it broke\n")


def test_jobs_run_at_once_all_are_waited_for_and_the_first_error_is_told() -> None:
    together = threading.Barrier(3, timeout=10)
    done: list[str] = []

    def fail(message: str) -> None:
        together.wait()
        done.append(message)
        raise LabError(message)

    def work() -> None:
        together.wait()
        done.append("worked")

    with pytest.raises(LabError, match="first"):
        log.in_parallel([lambda: fail("first"), lambda: fail("second"), work])
    assert sorted(done) == ["first", "second", "worked"]
    log.in_parallel([])


def test_who_calls_learns_of_a_kill_as_from_a_shell() -> None:
    """A playbook that was killed ended with 247 for who had begun it by ``lab run``, a status that no tool knows."""
    assert call(["sh", "-c", "kill -KILL $$"]) == 137
    assert call(["sh", "-c", "exit 3"]) == 3
