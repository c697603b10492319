# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make demo` shows: the site playbook twice on the lab, the second time without a change, then the status.

Usage: python3 -m tools.demo
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

from tools.common import ROOT, VENV, Failed, environment, say
from tools.stages import INSTALLED

# The lab's image, and sizes that fit its nodes.
VARIABLES = ROOT / "lab" / "site.yml"
RECAP = re.compile(r"^(?P<host>\S+)\s*:\s*ok=\d+\s+changed=(?P<changed>\d+)\s", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse_recap(text: str) -> dict[str, int]:
    """How many tasks changed something on each host, out of what ansible-playbook printed."""
    recap = COLOUR.sub("", text).rpartition("PLAY RECAP")[2]
    return {match["host"]: int(match["changed"]) for match in RECAP.finditer(recap)}


def play(name: str) -> str:
    """Run a playbook of the built collection inside the lab, shown live; what it printed. Raises Failed."""
    begin = time.monotonic()
    words = ["-e", f"@{VARIABLES.relative_to(ROOT)}", f"stateful.petset.{name}"]
    argv = [sys.executable, "-m", "lab", "run", "--", str(VENV / "bin" / "ansible-playbook"), *words]
    say(f"$ ansible-playbook {' '.join(words)}")
    printed = []
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=environment(ANSIBLE_COLLECTIONS_PATH=str(INSTALLED), ANSIBLE_CALLBACK_RESULT_FORMAT="yaml"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        for line in child.stdout or ():
            printed.append(line)
            say(line.rstrip("\n"))
    if child.returncode != 0:
        raise Failed(f"the playbook {name} failed: exit status {child.returncode}")
    say(f"== {name}: {time.monotonic() - begin:.1f} s")
    return "".join(printed)


def main() -> int:
    """Play it; the exit status says whether it went as told."""
    try:
        play("site")
        recap = parse_recap(play("site"))
        if not recap or any(recap.values()):
            raise Failed(f"the second run should change nothing on any host, but: {recap or 'no recap was printed'}")
        say("== the second run changed nothing")
        play("status")
    except Failed as failure:
        say(f"demo: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
