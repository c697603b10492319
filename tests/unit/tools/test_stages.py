# SPDX-License-Identifier: GPL-3.0-or-later
"""The counts that `make test` closes with, and what a stage without tests does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools import stages
from tools.common import ROOT, Failed, Skipped
from tools.stages import STAGES, Counts, Stage, parse_junit, read_reports, render_closing

JUNIT = '<testsuites><testsuite tests="7" failures="1" errors="2" skipped="1" time="1.5"/></testsuites>'


def test_parse_junit() -> None:
    assert parse_junit(JUNIT) == Counts(passed=3, failed=1, errors=2, skipped=1, seconds=1.5)


def test_reports_are_summed(tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(JUNIT)
    assert read_reports(tmp_path.glob("*.xml")) == Counts(passed=6, failed=2, errors=4, skipped=2, seconds=3.0)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (Counts(passed=3, seconds=1.234), "3 passed in 1.23s"),
        (Counts(passed=3, failed=1, errors=1, skipped=2), "1 failed, 3 passed, 2 skipped, 1 error in 0.00s"),
        (Counts(errors=2), "2 errors in 0.00s"),
        (Counts(), "no tests ran in 0.00s"),
    ],
)
def test_the_closing_line_is_pytests(counts: Counts, words: str) -> None:
    line = render_closing(counts)
    assert line.strip("=") == f" {words} "
    assert len(line) == 80


def test_the_closing_line_is_the_one_that_pytest_prints(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n@pytest.mark.skip\ndef test_c(): pass\n"
        "@pytest.fixture\ndef bad(): raise OSError\ndef test_d(bad): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=out.xml", "--rootdir=.", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    theirs = done.stdout.splitlines()[-1].strip("= ").rpartition(" in ")[0]
    ours = render_closing(read_reports([tmp_path / "out.xml"])).strip("= ").rpartition(" in ")[0]
    assert ours == theirs == "1 failed, 1 passed, 1 skipped, 1 error"


def test_a_folder_without_tests_is_said_and_skipped() -> None:
    with pytest.raises(Skipped, match="tests/unit/cases/none has no tests yet"):
        stages.pytest("none", "tests/unit/cases/none")


def test_the_stages_of_make_test() -> None:
    assert [stage.name for stage in STAGES if not stage.is_usual] == ["stories"]
    assert [stage.name for stage in STAGES if stage.is_usual] == [
        "set-up",
        "gates",
        "unit",
        "api",
        "playbooks",
        "servers",
        "lab",
        "scenarios",
        "programs",
        "sanity",
        "cores",
    ]
    assert all(stage.work.__doc__ for stage in STAGES)


def test_a_stage_that_is_not_usual_runs_when_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def usual() -> None:
        """usual"""
        ran.append("usual")

    def long() -> None:
        """long"""
        ran.append("long")

    monkeypatch.setattr(stages, "REPORTS", tmp_path)
    monkeypatch.setattr(stages, "STAGES", [Stage("usual", usual), Stage("long", long, is_usual=False)])
    assert stages.main([]) == stages.main(["long"]) == 0
    assert ran == ["usual", "long"]


def run_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *works) -> int:
    monkeypatch.setattr(stages, "REPORTS", tmp_path)
    monkeypatch.setattr(stages, "STAGES", [Stage(f"s{n}", work) for n, work in enumerate(works)])
    return stages.main([])


def good() -> None:
    """good"""


def bad() -> None:
    """bad"""
    raise Failed("it broke")


def absent() -> None:
    """absent"""
    raise Skipped("not there yet")


@pytest.mark.parametrize(
    ("works", "status"), [((good, absent), 0), ((good, bad, good), 1), ((bad,), 1), ((absent,), 0)]
)
def test_one_bad_stage_makes_the_run_fail_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], works, status: int
) -> None:
    assert run_main(monkeypatch, tmp_path, *works) == status
    table = capsys.readouterr().out.partition("stage ")[2].splitlines()
    words = {good: "ok", bad: "FAIL", absent: "SKIPPED  not there yet"}
    assert [line.split(maxsplit=2)[2] for line in table[1:-2]] == [words[work] for work in works]
    assert "no tests ran" in table[-1]


def test_stages_that_only_compute_run_aside_of_those_that_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the priority of the idle, and what they print does not stand between the lines of the others."""
    has_run = threading.Event()
    seen: list[str] = []

    def first() -> None:
        """first"""
        assert not has_run.is_set()

    def lab() -> None:
        """lab"""
        assert has_run.wait(30), "the one aside has not run while this one waits"
        stages.live(["sh", "-c", "echo the lab"])

    def sanity() -> None:
        """sanity"""
        script = "import os; print('policy', os.sched_getscheduler(0) == os.SCHED_IDLE)"
        stages.live([sys.executable, "-c", script])
        seen.append((tmp_path / "sanity.log").read_text())
        has_run.set()

    def cores() -> None:
        """cores"""
        stages.live(["sh", "-c", "echo of no use; exit 3"])

    chosen = [
        Stage("first", first),
        Stage("sanity", sanity, aside=True),
        Stage("lab", lab, waits=True),
        Stage("cores", cores, aside=True),
    ]
    monkeypatch.setattr(stages, "REPORTS", tmp_path)
    monkeypatch.setattr(stages, "STAGES", chosen)
    assert stages.main([]) == 1
    assert "policy True" in seen[0]
    told = capsys.readouterr().out
    assert "policy True" in told.partition("##### sanity, aside")[2].partition("##### sanity: ok")[0]
    assert "of no use" in told.partition("##### cores, aside")[2].partition("##### cores: FAIL")[0]
    table = told.rpartition("stage ")[2].splitlines()
    assert [line.split()[0] for line in table[1:-2]] == ["first", "lab", "sanity", "cores"]
    # Whoever names one wants to see it at once.
    assert stages.main(["cores"]) == 1
    assert "aside" not in capsys.readouterr().out


def test_nothing_is_left_aside_when_nothing_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def late() -> None:
        """late"""
        ran.append("late")

    monkeypatch.setattr(stages, "REPORTS", tmp_path)
    monkeypatch.setattr(stages, "STAGES", [Stage("late", late, aside=True), Stage("good", good)])
    assert stages.main([]) == 0
    assert ran == ["late"]


def test_nothing_runs_without_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "stage_setup", bad)
    assert run_main(monkeypatch, tmp_path, bad, good) == 1
    assert "s1" not in capsys.readouterr().out


def test_the_stages_need_the_standard_library_alone() -> None:
    code = "import sys; import tools.stages, tools.demo, tools.find_python; print('yaml' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
