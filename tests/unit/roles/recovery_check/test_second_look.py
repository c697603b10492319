# SPDX-License-Identifier: GPL-3.0-or-later
"""When the role looks twice and which look counts: the role itself, with modules that give what was written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.plays import run_play
from tools.common import ROOT

pytestmark = pytest.mark.programs

# In the place of each module; an action needs no process of its own, so eight cases take seconds.
ACTION = """
import json, os, pathlib
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        case = self._task.args["set"]
        looks = pathlib.Path(os.environ["LOOKS"], case + "-" + {name!r})
        count = int(looks.read_text()) if looks.exists() else 0
        looks.write_text(str(count + 1))
        answers = json.loads(pathlib.Path(os.environ["LOOKS"], "answers.json").read_text())[case][{name!r}]
        return dict(answers[min(count, len(answers) - 1)], changed=False)
"""


def pets(healthy: bool = True) -> dict[str, Any]:
    return {"healthy": healthy, "summary": "mysql-1 restarts", "table": "PETS", "report": [], "troubles": []}


def ring(word: str = "healthy", writer: str = "mysql-0") -> dict[str, Any]:
    judgement = {"word": word, "certain": [], "uncertain": [], "notes": []}
    pets = [{"name": "mysql-1"}, {"name": "mysql-0"}]
    return {
        "judgement": judgement,
        "writer": writer,
        "pets": pets,
        "summary": f"{word}: why",
        "table": "RING",
        "troubles": [],
    }


def proxies(writer: str = "mysql-0", readers: tuple[str, ...] = ("mysql-0", "mysql-1")) -> dict[str, Any]:
    return {
        "writers": [writer],
        "readers": readers,
        "ready": True,
        "troubles": [],
        "summary": "proxies",
        "table": "PROXIES",
    }


READERS = "the proxies together send readers to "
READABLE = "the pets that can be read from are mysql-0, mysql-1"
# name -> what the modules answer, look by look (the last one for ever), the looks that are taken, the end
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], int, str]] = {
    "well": ([pets()], [ring()], [proxies()], 1, ""),
    "caught-up": ([pets()], [ring("degraded"), ring()], [proxies()], 2, ""),
    "restarted": ([pets(False), pets()], [ring("degraded"), ring()], [proxies()], 2, ""),
    "writer-moved": ([pets()], [ring(), ring(writer="mysql-1")], [proxies("mysql-1")], 2, ""),
    "reader-back": ([pets()], [ring()], [proxies(readers=("mysql-0",)), proxies()], 2, ""),
    "reader-away": ([pets()], [ring()], [proxies(readers=("mysql-1",))], 2, f"{READERS}mysql-1, {READABLE}"),
    "nobody-reads": ([pets()], [ring()], [proxies(readers=())], 2, f"{READERS}nobody, {READABLE}"),
    "reads-too-much": (
        [pets()],
        [ring()],
        [proxies(readers=("mysql-0", "mysql-1", "mysql-2"))],
        2,
        f"{READERS}mysql-0, mysql-1, mysql-2, {READABLE}",
    ),
    "reader-lags": ([pets()], [ring("degraded")], [proxies(readers=("mysql-0",))], 2, "replication degraded: why"),
    "stays": ([pets()], [ring("degraded")], [proxies()], 2, "replication degraded: why"),
    "gets-worse": ([pets()], [ring("degraded"), ring("broken")], [proxies()], 2, "replication broken: why"),
    "broken": ([pets()], [ring("broken"), ring()], [proxies()], 1, "replication broken: why"),
    "one-look": ([pets()], [ring("degraded"), ring()], [proxies()], 1, "replication degraded: why"),
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: stateful.petset.recovery_check
          vars:
            recovery_check_set: "{{ inventory_hostname }}"
            recovery_check_second_look: "{{ 0 if inventory_hostname == 'one-look' else 1 }}"
      rescue:
        - ansible.builtin.debug:
            msg: "{{ {'end': ansible_failed_result.msg} | to_json }}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of ansible-playbook with a host for each case; each look and each end is a file."""
    folder = tmp_path_factory.mktemp("second-look")
    collection = folder / "ansible_collections" / "stateful" / "petset"
    (collection / "plugins" / "action").mkdir(parents=True)
    (collection / "roles").mkdir()
    (collection / "roles" / "recovery_check").symlink_to(ROOT / "roles" / "recovery_check")
    for name in ("pet_recovery", "mysql_ring_info", "pet_proxy_info"):
        (collection / "plugins" / "action" / f"{name}.py").write_text(ACTION.format(name=name))
    answers = {
        case: {"pet_recovery": one, "mysql_ring_info": two, "pet_proxy_info": three}
        for case, (one, two, three, _looks, _end) in CASES.items()
    }
    (folder / "answers.json").write_text(json.dumps(answers))
    output, shown = run_play(folder, folder, PLAY, {case: {} for case in CASES}, LOOKS=str(folder))
    (folder / "output").write_text(output)
    (folder / "shown.json").write_text(json.dumps(shown))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_looks(folder: Path, case: str) -> None:
    *_answers, looks, _end = CASES[case]
    taken = {
        name: (folder / f"{case}-{name}").read_text() for name in ("pet_recovery", "mysql_ring_info", "pet_proxy_info")
    }
    assert taken == dict.fromkeys(taken, str(looks))


@pytest.mark.parametrize("case", CASES)
def test_the_last_look_counts(folder: Path, case: str) -> None:
    *_answers, _looks, end = CASES[case]
    shown = json.loads((folder / "shown.json").read_text())
    ends = [text for host, text in shown if host == case and '"end"' in text]
    assert ends == ([json.dumps({"end": f"default/{case}: {end}"})] if end else [])


def test_what_is_looked_at_again_is_told(folder: Path) -> None:
    said = (folder / "output").read_text()
    assert '"second look in 1 s: replication degraded: why"' in said
    assert '"second look in 1 s: mysql-1 restarts; replication degraded: why"' in said
    assert '"second look in 1 s: the proxies send writes to mysql-1, the writer is mysql-0"' in said
    assert '"second look in 1 s: replication broken' not in said
