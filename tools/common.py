# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gates and the stages share: places, children with kept output, and the table at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
VENV = ROOT / ".venv"
COLLECTION = Path("ansible_collections/stateful/petset")


class Failed(Exception):
    """A check found something; the text is for the reader."""


class Skipped(Exception):
    """There is nothing to do; the text says why."""


def cache_root() -> Path:
    """``$PETSET_CACHE``, else ``stateful-petset`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("PETSET_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stateful-petset"


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child: the pinned tools first in PATH, nothing that points at another collection."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    env["PATH"] = f"{VENV / 'bin'}:{env['PATH']}"
    return env | extra


def run(argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a child without input and return what it printed, both streams in order; raise Failed with that text."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        cwd=cwd or ROOT,
        env=env if env is not None else environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"$ {' '.join(words)}\n{done.stdout.rstrip()}\nexit status {done.returncode}")
    return done.stdout


def need(*programs: str) -> None:
    """Install the Debian packages of these programs when they are missing (each is named as its package).

    Raises Failed when they are missing and this is not root, or the install fails.
    """
    missing = [name for name in programs if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Failed(f"install {' '.join(missing)} first")
    env = environment(DEBIAN_FRONTEND="noninteractive")
    run(["apt-get", "-q", "update"], env=env)
    run(["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing], env=env)


def files_of_tree() -> list[str]:
    """The files of the checkout as git sees them, new ones that are not ignored included, sorted."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    return sorted({name for name in listed.split("\0") if name and (ROOT / name).is_file()})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one gate or stage went: ``word`` is ok, FAIL or SKIPPED; ``note`` is short."""

    name: str
    word: str
    seconds: float
    note: str = ""


def attempt(name: str, work: Callable[[], str | None]) -> tuple[Outcome, str]:
    """Do a piece of work that may return a note; the outcome and, when it failed, the text that says why."""
    begin = time.monotonic()
    word, why = "ok", ""
    try:
        note = work() or ""
    except Skipped as reason:
        word, note = "SKIPPED", str(reason)
    except Failed as failure:
        word, note, why = "FAIL", "", str(failure)
    return Outcome(name, word, time.monotonic() - begin, note), why


def render_table(title: str, outcomes: Sequence[Outcome], total_s: float | None = None) -> str:
    """A table of outcomes with their seconds, one a line, and what all took: their sum, if it is not given."""
    width = max((len(o.name) for o in outcomes), default=0)
    width = max(width, len(title), len("total"))
    lines = [f"{title:<{width}}  seconds  result"]
    lines += [f"{o.name:<{width}}  {o.seconds:7.1f}  {o.word}{'  ' + o.note if o.note else ''}" for o in outcomes]
    total_s = sum(o.seconds for o in outcomes) if total_s is None else total_s
    lines.append(f"{'total':<{width}}  {total_s:7.1f}")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once, so that the order is right when children print too."""
    print(text, flush=True)
