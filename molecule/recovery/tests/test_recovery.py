# SPDX-License-Identifier: GPL-3.0-or-later
"""Crashes are staged, proven and recorded; a run that is killed in the middle of one is healed by the next."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.pets import Pets

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
        self.power = bool(os.environ.get("PETSET_POWER") or os.environ.get("PETSET_LAB"))

    @property
    def drills(self) -> list[dict[str, Any]]:
        kinds = ("pod_delete", "mysqld_kill", "container_kill", "both_pets", "nfs_restart")
        found: list[dict[str, Any]] = [{"kind": kind} for kind in kinds]
        if self.power:
            hook = str(self.project / "molecule" / "recovery" / "tasks" / "power.yml")
            found.append({"kind": "node_power_off", "hook": hook, "hold_s": 5})
        return found

    def start(self, *drills: Mapping[str, Any]) -> subprocess.Popen[str]:
        """In a session of its own, so that it can be killed with all that it has started."""
        given = {"recovery_check_report_dir": str(self.reports)}
        if drills:
            given |= {"petset_recovery_action": "drill", "petset_recovery_drills": list(drills)}
        return subprocess.Popen(
            [
                "ansible-playbook",
                f"--inventory={os.environ['ANSIBLE_INVENTORY']}",
                f"--extra-vars=@{self.project / 'molecule' / 'vars.yml'}",
                f"--extra-vars={json.dumps(given)}",
                "stateful.petset.recovery",
            ],
            cwd=self.project,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "MOLECULE_PROJECT_DIRECTORY": str(self.project)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *drills: Mapping[str, Any]) -> tuple[str, int]:
        """To its end: what it has said, and how much it has changed."""
        process = self.start(*drills)
        output = process.communicate(timeout=1200)[0]
        assert process.returncode == 0, output
        [changed] = re.findall(r"^localhost .*changed=(\d+)", output, re.MULTILINE)
        return output, int(changed)


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
    process = recovery.start({"kind": "container_kill", "pet": "mysql-1"})
    try:
        wait_for(lambda: bool(notes(pets, UNDER_WAY).get("struck")))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert pets.get("pod", "mysql-drill")["status"]["phase"] == "Running"
    assert notes(pets, RECORD) == {}


def test_the_next_run_heals_it_and_proves_each_crash(pets: Pets, recovery: Recovery, reports: Path) -> None:
    output, changed = recovery.run(*recovery.drills)
    assert changed > 0
    assert "a drill (container_kill of mysql-1" in output
    records = notes(pets, RECORD)
    told = {key: one["verdict"] for key, one in records.items()}
    kinds = [one["kind"] for one in recovery.drills]
    keys = [kind if kind in ("both_pets", "nfs_restart") else f"{kind} writer" for kind in kinds]
    assert told == {"container_kill mysql-1": "interrupted", **dict.fromkeys(keys, "proven")}, output
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
