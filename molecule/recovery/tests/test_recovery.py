# SPDX-License-Identifier: GPL-3.0-or-later
"""Crashes are staged, proven and recorded; a run that is killed in the middle of one is healed by the next."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.pets import Pets
from tests.processes import kill_marked

RECORD = "stateful.petset/drills"
UNDER_WAY = "stateful.petset/drill"
LOOK_S = 0.2


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


class Recovery:
    """The playbook as a user runs it."""

    def __init__(self, project: Path, reports: Path) -> None:
        self.project = project
        self.reports = reports
        self.mark = ""
        self.runs = 0
        self.power = bool(os.environ.get("PETSET_POWER") or os.environ.get("PETSET_LAB"))

    @property
    def drills(self) -> list[dict[str, Any]]:
        kinds = ("pod_delete", "mysqld_kill", "container_kill", "both_pets", "nfs_restart")
        found: list[dict[str, Any]] = []
        if self.power:
            # First: its hook heals what the run that was killed has left.
            hook = str(self.project / "molecule" / "recovery" / "tasks" / "power.yml")
            found.append({"kind": "node_power_off", "hook": hook, "hold_s": 5})
        return found + [{"kind": kind} for kind in kinds]

    @property
    def killed(self) -> dict[str, Any]:
        """The drill whose run is killed: a fault that does not heal by itself, where something can switch the power."""
        for one in self.drills:
            if one["kind"] == "node_power_off":
                return {**one, "pet": "mysql-1", "hold_s": 300}
        return {"kind": "container_kill", "pet": "mysql-1"}

    @property
    def printed(self) -> Path:
        """What the last run has said so far."""
        return self.reports / f"output-{self.runs}"

    def start(self, *drills: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """With nothing to drill it only looks."""
        given: dict[str, Any] = {"recovery_check_report_dir": str(self.reports)}
        if drills:
            given |= {"petset_recovery_action": "drill", "petset_recovery_drills": list(drills)}
        return self._play("stateful.petset.recovery", given)

    def _play(self, playbook: str, given: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """In a session of its own, and marked, so that it can be killed with all that it has started."""
        self.mark = f"PETSET_RECOVERY_RUN={secrets.token_hex(8)}"
        name, _equals, value = self.mark.partition("=")
        self.runs += 1
        with self.printed.open("w", encoding="utf-8") as output:
            return subprocess.Popen(
                [
                    "ansible-playbook",
                    f"--inventory={os.environ['ANSIBLE_INVENTORY']}",
                    f"--extra-vars=@{self.project / 'molecule' / 'vars.yml'}",
                    f"--extra-vars={json.dumps(given)}",
                    playbook,
                ],
                cwd=self.project,
                env={
                    **os.environ,
                    # molecule asks for colours.
                    "ANSIBLE_FORCE_COLOR": "0",
                    "ANSIBLE_NOCOLOR": "1",
                    "MOLECULE_PROJECT_DIRECTORY": str(self.project),
                    name: value,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """At once. It has switched no node on yet: on the lab the machine would have the mark as well."""
        kill_marked(self.mark)
        process.wait()

    def run(self, *drills: Mapping[str, Any]) -> tuple[str, int]:
        """To its end: what it has said, and how much it has changed."""
        return self._end(self.start(*drills))

    def site(self) -> tuple[str, int]:
        """The same of the site playbook."""
        return self._end(self._play(str(self.project / "molecule" / "converge.yml"), {}))

    def _end(self, process: subprocess.Popen[bytes]) -> tuple[str, int]:
        status = process.wait(timeout=1200)
        output = self.printed.read_text(encoding="utf-8")
        assert status == 0, output
        changed = re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)
        assert changed, output
        return output, sum(map(int, changed))


@pytest.fixture(scope="module")
def recovery(project: Path, reports: Path) -> Recovery:
    return Recovery(project, reports)


def notes(pets: Pets, name: str) -> Any:
    found = pets.get("statefulset", "mysql")["metadata"].get("annotations", {}).get(name)
    return json.loads(found) if found else {}


def wait_for(look: Callable[[], bool], seconds: int = 120) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(LOOK_S)


def leftovers(pets: Pets) -> list[str]:
    found = pets.kubectl("get", "pod,configmap,secret", "mysql-drill", "--ignore-not-found", "--output=name").split()
    table = 'SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = "petset" AND table_name = "drill"'
    found += [f"table on {pet}" for pet in pets.names if pets.sql(pet, table) != "0"]
    user = 'SELECT COUNT(*) FROM mysql.user WHERE user = "petset_drill"'
    return found + [f"account on {pet}" for pet in pets.names if pets.sql(pet, user) != "0"]


def test_a_run_is_killed_in_the_middle_of_a_drill(pets: Pets, recovery: Recovery) -> None:
    def is_struck(process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, recovery.printed.read_text(encoding="utf-8")
        return bool(notes(pets, UNDER_WAY).get("struck"))

    process = recovery.start(recovery.killed)
    try:
        wait_for(lambda: is_struck(process))
        if recovery.power:
            # Off it stays: nobody but the next run switches it on.
            [node] = notes(pets, UNDER_WAY)["nodes"]
            pets.wait_node(node, ready=False)
    finally:
        recovery.kill(process)
    assert pets.get("pod", "mysql-drill")["status"]["phase"] == "Running"
    assert notes(pets, RECORD) == {}


def test_the_next_run_heals_it_and_proves_each_crash(pets: Pets, recovery: Recovery, reports: Path) -> None:
    output = ""
    for drill in recovery.drills:
        said, changed = recovery.run(drill)
        assert changed > 0, said
        output += said
        begin = time.monotonic()
        said, changed = recovery.site()
        assert changed == 0, f"after {drill['kind']}: {said}"
        print(f"site after {drill['kind']}: {time.monotonic() - begin:.1f} s")
    interrupted = recovery.killed["kind"]
    assert f"a drill ({interrupted} of mysql-1" in output
    records = notes(pets, RECORD)
    told = {key: one["verdict"] for key, one in records.items()}
    kinds = [one["kind"] for one in recovery.drills]
    keys = [kind if kind in ("both_pets", "nfs_restart") else f"{kind} writer" for kind in kinds]
    assert told == {f"{interrupted} mysql-1": "interrupted", **dict.fromkeys(keys, "proven")}, output
    for key in keys:
        figures = records[key]["figures"]
        assert figures["lost"] == 0
        assert figures["acknowledged"] > 90
        print(f"{key}: {figures}")
    assert notes(pets, UNDER_WAY) == {}
    assert leftovers(pets) == []
    for kind in kinds:
        [page] = reports.glob(f"drill-{kind}-*.html")
        assert "passed" in page.read_text()
        assert json.loads(page.with_suffix(".json").read_text())["verdict"] == "true"
        assert page.with_suffix(".md").exists()


def test_what_is_proven_is_not_run_again(pets: Pets, recovery: Recovery) -> None:
    pods = {pet: pets.starts(pet) for pet in pets.names}
    output, changed = recovery.run(*recovery.drills)
    assert changed == 0, output
    assert output.count("nothing: proven already") == len(recovery.drills)
    assert {pet: pets.starts(pet) for pet in pets.names} == pods


def test_the_passive_check_passes(recovery: Recovery) -> None:
    _output, changed = recovery.run()
    assert changed == 0
