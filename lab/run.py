# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where the lab starts other programs.

Every child gets an argument list (never a shell line), no standard input unless given, and its failure comes back
as a :class:`CommandError` that holds the command, ready to be pasted into a shell, and what it printed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.log import LabError, tail


class CommandError(LabError):
    """A command that exited with a status that was not expected."""

    def __init__(self, argv: Sequence[str], status: int, output: str, hint: str | None = None) -> None:
        shown = "\n".join("    | " + line for line in output.strip().splitlines()[-20:])
        super().__init__(f"exit status {status} from: {shlex.join(argv)}\n{shown}", hint)
        self.argv = list(argv)
        self.status = status
        self.output = output


def call(argv: Sequence[str]) -> int:
    """Run a command with this terminal; its exit status, that of a shell (128 + n) when signal n has ended it."""
    status = subprocess.call(argv)
    return 128 - status if status < 0 else status


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    input_text: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
) -> str:
    """Run a command to its end and return its standard output (empty when it went to ``log``).

    ``env`` is added to this process's environment. With ``log`` both output streams are appended to that file; on
    failure the error shows its last lines and its path. Children die with this process (``setpriv --pdeathsig``),
    so a killed ``up`` leaves no build behind it that writes on.

    Raises CommandError when ``check`` and the status is not 0, LabError when the program is missing or too slow.
    """
    full_env = {**os.environ, **(env or {})}
    bound = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as sink:
                status = subprocess.run(
                    bound,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=full_env,
                    cwd=cwd,
                    timeout=timeout_s,
                    check=False,
                ).returncode
            output, errors = "", tail(log) + f"\n(whole log: {log})"
        else:
            piped = subprocess.run(
                bound,
                input=input_text,
                stdin=None if input_text is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=full_env,
                cwd=cwd,
                timeout=timeout_s,
                check=False,
            )
            status, output, errors = piped.returncode, piped.stdout, piped.stdout + piped.stderr
    except subprocess.TimeoutExpired as late:
        raise LabError(f"no end after {timeout_s} s: {shlex.join(argv)}") from late
    except FileNotFoundError as missing:
        # that of this host's own setpriv, or of the folder to work in
        if missing.filename == bound[0]:
            raise LabError(f"{bound[0]} is not installed", "python3 -m lab doctor --fix") from missing
        raise LabError(f"there is no folder {missing.filename} to run {argv[0]} in") from missing
    if status == 127 and "setpriv: failed to execute" in errors:
        raise LabError(f"{argv[0]} is not installed", "python3 -m lab doctor --fix")
    if check and status != 0:
        raise CommandError(argv, status, errors)
    return output
