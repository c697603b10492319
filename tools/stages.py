# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages behind `make test`, and behind `make gates`, `make unit` and the like one by one.

Usage: python3 -m tools.stages [NAME...]

Standard library alone: the first stage makes the environment that the others use. All stages run, also after one
that failed, save that nothing is tried on a lab that did not come up. Tests on the lab wait for machines most of the
time: when all stages run, those that only compute run aside of them, with what they leave of the processors; what they
print is shown when they end. At the end stands a table, and below it one line in pytest's own form that counts the
tests of all stages.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tools.common import BUILD, ROOT, VENV, Failed, Outcome, Skipped, attempt, environment, render_table, say

REPORTS = BUILD / "reports"
INSTALLED = BUILD / "installed"
# What the tools of .venv run on, best first; ansible-core 2.21 wants 3.12 or later.
PYTHONS = ("3.13", "3.14", "3.12")
# The gates that take minutes.
LONG_GATES = ("sanity", "units", "ansible-lint")
# Where a stage that runs aside prints; nothing for one that runs in front.
_ASIDE: ContextVar[IO[str] | None] = ContextVar("_ASIDE", default=None)
# Before a child of a stage that runs aside: it gets a processor when nobody else wants it, and gives it back at once
# (SCHED_IDLE), so that the lab's machines are not late.
WHEN_IDLE = ("chrt", "--idle", "0")


def live(argv: Sequence[str | Path], **extra: str) -> None:
    """Run a child whose output goes to the reader, or to the file of a stage aside. Raises Failed when it fails."""
    words = [str(word) for word in argv]
    out = _ASIDE.get()
    print(f"$ {' '.join(words)}", file=out, flush=True)
    done = subprocess.run(
        [*(WHEN_IDLE if out else ()), *words],
        cwd=ROOT,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT if out else None,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"exit status {done.returncode} of: {' '.join(words)}")


def venv_of(name: str) -> Path:
    """The environment of a lock of requirements/, made now if need be. Raises Failed."""
    made = subprocess.run(
        [ROOT / "tools" / "venv", ROOT / "requirements" / f"{name}.lock", *PYTHONS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise Failed(f"no environment of {name}.lock: see above")
    return Path(made.stdout.strip())


def ensure_venv() -> None:
    """Point .venv at the environment of the lock, made now if need be."""
    target = venv_of("dev")
    if VENV.is_symlink() and VENV.readlink() == target:
        return
    if VENV.is_dir() and not VENV.is_symlink():
        raise Failed(f"{VENV} is a folder that this project did not make; move it away")
    VENV.unlink(missing_ok=True)
    VENV.symlink_to(target)


def lab(*words: str) -> None:
    """A command of the lab, on the Python that runs this: it needs no environment."""
    live([sys.executable, "-m", "lab", *words])


def has_lab() -> bool:
    """Whether the lab has its command line yet."""
    return (ROOT / "lab" / "__main__.py").exists()


def pytest(name: str, folder: str, *options: str) -> None:
    """Run a folder of tests. Raises Skipped when it has none; a folder whose tests are all left out is a failure."""
    if not any((ROOT / folder).rglob("test_*.py")):
        raise Skipped(f"{folder} has no tests yet")
    REPORTS.mkdir(parents=True, exist_ok=True)
    live([VENV / "bin" / "pytest", folder, f"--junitxml={REPORTS / name}.xml", *options])


def stage_setup() -> None:
    """the tools' environment; what the lab needs from the host"""
    ensure_venv()
    if has_lab():
        lab("doctor", "--fix")


def stage_gates() -> None:
    """types, documentation, changelog, build: the gates that take no more than a minute"""
    live([VENV / "bin" / "python", "-m", "tools.gates", "--except", *LONG_GATES])


def stage_sanity() -> None:
    """ansible-test sanity and units, ansible-lint: the gates that take minutes"""
    live([VENV / "bin" / "python", "-m", "tools.gates", *LONG_GATES])


def stage_unit() -> None:
    """unit tests within one process"""
    pytest("unit", "tests/unit", "-m", "not programs", "--numprocesses=auto")


def stage_programs() -> None:
    """unit tests that run whole programs: plays of the roles, the pets' start-up, the drill's workload"""
    pytest("programs", "tests/unit", "-m", "programs", "--numprocesses=auto")


def stage_cores() -> None:
    """unit tests with the oldest and the newest ansible-core"""
    live([ROOT / "tools" / "core-matrix"])


# Two API servers side by side: a test waits for its controllers, or for Ansible, more than it computes. Tests that take
# long stand at the top of their files, and who has nothing left to do takes over from the other.
TWO_WORKERS = ("--numprocesses=2", "--dist=worksteal")


def stage_api() -> None:
    """tests against a real API server and etcd, without machines"""
    pytest("api", "tests/api", "-m", "not servers and not playbooks", *TWO_WORKERS)


def stage_playbooks() -> None:
    """whole playbooks against a real API server, without machines"""
    pytest("playbooks", "tests/api", "-m", "playbooks", *TWO_WORKERS)


def stage_servers() -> None:
    """tests with real mysqlds, agents and proxies on this host, without machines"""
    pytest("servers", "tests/api", "-m", "servers and not stories")


def stage_lab() -> None:
    """tests on the lab's machines"""
    if not has_lab():
        raise Skipped("the lab has no command line yet")
    # What was exported or deployed on a lab before is no part of the tests.
    if not os.environ.get("PETSET_KEEP_LAB"):
        lab("down")
    pytest("lab", "tests/lab", "-m", "lab and not stories")


# Scenarios of the stage `stories` alone.
STORIES = ("recovery",)


def scenarios() -> list[str]:
    """The names of the molecule scenarios."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def stage_scenarios() -> None:
    """molecule's stories on the lab, with the collection as it is built"""
    names = [name for name in scenarios() if name not in STORIES]
    if not names:
        raise Skipped("molecule/ has no scenarios yet")
    run_scenarios(names)


def stage_stories() -> None:
    """the long stories on the lab: reported cases, a set's whole life, failover and drills"""
    if not os.environ.get("PETSET_KEEP_LAB"):
        lab("down")
    pytest("stories-servers", "tests/api", "-m", "stories")
    pytest("stories", "tests/lab", "-m", "stories")
    run_scenarios(["pets", *STORIES], PETSET_STORIES="1")


def run_scenarios(names: Sequence[str], **env: str) -> None:
    """Each on the lab, all of them whatever becomes of one. Raises Failed."""
    live([VENV / "bin" / "python", "-m", "tools.gates", "build"])
    lab("up")
    bad = []
    try:
        for name in names:
            begin = time.monotonic()
            try:
                live(
                    [sys.executable, "-m", "lab", "run", "--", VENV / "bin" / "molecule", "test", "-s", name],
                    ANSIBLE_COLLECTIONS_PATH=str(INSTALLED),
                    MOLECULE_GLOB="molecule/*/molecule.yml",
                    **env,
                )
            except Failed:
                bad.append(name)
            say(f"scenario {name}: {'FAIL' if name in bad else 'ok'} in {time.monotonic() - begin:.1f} s")
    finally:
        if not os.environ.get("PETSET_KEEP_LAB"):
            lab("down")
    if bad:
        raise Failed(f"scenarios failed: {', '.join(bad)}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A named part of `make test`; its docstring is the line of help. Some run only when they are named.

    One that ``waits`` leaves processors to those that may be ``aside``.
    """

    name: str
    work: Callable[[], None]
    is_usual: bool = True
    waits: bool = False
    aside: bool = False


STAGES = (
    Stage("set-up", stage_setup),
    Stage("gates", stage_gates),
    Stage("unit", stage_unit),
    Stage("api", stage_api),
    Stage("playbooks", stage_playbooks),
    Stage("servers", stage_servers),
    Stage("lab", stage_lab, waits=True),
    Stage("scenarios", stage_scenarios, waits=True),
    Stage("programs", stage_programs, aside=True),
    Stage("sanity", stage_sanity, aside=True),
    Stage("cores", stage_cores, aside=True),
    Stage("stories", stage_stories, is_usual=False),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tests went how; ``seconds`` is their sum."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed,
            self.failed + other.failed,
            self.errors + other.errors,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
        )


def parse_junit(text: str) -> Counts:
    """The counts in a JUnit file of pytest."""
    total = Counts()
    for suite in ET.fromstring(text).iter("testsuite"):  # noqa: S314 - our own pytest wrote it
        tests, failed, errors, skipped = (int(suite.get(k, 0)) for k in ("tests", "failures", "errors", "skipped"))
        passed = tests - failed - errors - skipped
        total += Counts(passed, failed, errors, skipped, float(suite.get("time", 0)))
    return total


def render_closing(counts: Counts) -> str:
    """pytest's closing line for these counts."""
    numbers = (
        (counts.failed, "failed"),
        (counts.passed, "passed"),
        (counts.skipped, "skipped"),
        (counts.errors, "error" if counts.errors == 1 else "errors"),
    )
    words = ", ".join(f"{number} {word}" for number, word in numbers if number) or "no tests ran"
    return f" {words} in {counts.seconds:.2f}s ".center(80, "=")


def read_reports(files: Iterable[Path]) -> Counts:
    """The sum over JUnit files."""
    return sum((parse_junit(path.read_text()) for path in files), Counts())


def render_end(outcome: Outcome, why: str) -> str:
    """The line behind what a stage printed."""
    return f"##### {outcome.name}: {outcome.word} in {outcome.seconds:.1f} s {outcome.note or why}".rstrip()


def run_stage(stage: Stage) -> Outcome:
    """One stage, with a line before it and one behind it."""
    say(f"\n##### {stage.name}: {stage.work.__doc__}")
    outcome, why = attempt(stage.name, stage.work)
    say(render_end(outcome, why))
    return outcome


@dataclass(slots=True)
class Aside:
    """Stages one after the other in a thread of their own; the output of each in a file until it is ``told``."""

    stages: Sequence[Stage]
    thread: threading.Thread | None = None
    done: list[tuple[Stage, Outcome, str]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self.thread is None and self.stages:
            say(f"\n##### aside, while others wait: {', '.join(stage.name for stage in self.stages)}")
            REPORTS.mkdir(parents=True, exist_ok=True)
            self.thread = threading.Thread(target=self.run, daemon=True)
            self.thread.start()

    def run(self) -> None:
        """What the thread does."""
        for stage in self.stages:
            with (REPORTS / f"{stage.name}.log").open("w") as out:
                # A thread has a context of its own: nothing in front is redirected.
                _ASIDE.set(out)
                outcome, why = attempt(stage.name, stage.work)
            self.done.append((stage, outcome, why))

    def tell(self) -> None:
        """Show what has ended since."""
        while len(self.outcomes) < len(self.done):
            stage, outcome, why = self.done[len(self.outcomes)]
            say(f"\n##### {stage.name}, aside: {stage.work.__doc__}")
            say((REPORTS / f"{stage.name}.log").read_text(errors="replace").rstrip())
            say(render_end(outcome, why))
            self.outcomes.append(outcome)

    def end(self) -> None:
        """Wait for all of them, and show them."""
        self.start()
        if self.thread is not None:
            self.thread.join()
        self.tell()


def run_stages(chosen: Sequence[Stage], *, is_all: bool) -> list[Outcome]:
    """Run them in order; when they are all there are, those that may run aside of those that wait do so."""
    aside = Aside([stage for stage in chosen if is_all and stage.aside])
    outcomes = []
    for stage in chosen:
        if stage in aside.stages:
            continue
        if stage.waits:
            aside.start()
        outcomes.append(run_stage(stage))
        aside.tell()
        if stage.work is stage_setup and outcomes[-1].word == "FAIL":
            return outcomes
    aside.end()
    return outcomes + aside.outcomes


def main(argv: Sequence[str]) -> int:
    """Run the named stages, or all; the exit status says whether none failed."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.stages", description="Run the stages of `make test`.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(stage.name for stage in STAGES))
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.names) - {stage.name for stage in STAGES}):
        parser.error(f"no stage named {', '.join(unknown)}")
    shutil.rmtree(REPORTS, ignore_errors=True)
    chosen = [stage for stage in STAGES if (stage.name in args.names if args.names else stage.is_usual)]
    begin = time.monotonic()
    outcomes = run_stages(chosen, is_all=not args.names)
    say("\n" + render_table("stage", outcomes, time.monotonic() - begin))
    say(render_closing(read_reports(sorted(REPORTS.glob("*.xml")))))
    return 1 if any(outcome.word == "FAIL" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
