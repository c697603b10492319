# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run does with the drill of one that was killed, in which order: the role itself, with modules that note it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.plays import LOCAL, copy_role, run_playbook
from tools.common import ROOT

pytestmark = pytest.mark.programs

ROLE = ROOT / "roles" / "recovery_check"
# What would change this machine, or would take time; the names are taken over by the collection of the test.
REPLACED = ("pause", "systemd_service")
# In the place of each module; an action needs no process of its own. As the real one, the module does not end a drill
# whose fault is still there: no node comes back and no NFS server starts by itself.
ACTION = """
import json, os, pathlib
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        folder, host = pathlib.Path(os.environ["FOLDER"]), task_vars["inventory_hostname"]
        case = json.loads((folder / "cases.json").read_text())[host]
        args, calls = dict(self._task.args), folder / (host + ".calls")
        before = calls.read_text().splitlines() if calls.exists() else []
        said = {{
            "pet_drill": "{{step}}", "power": "{{node}} {{power}}", "pause": "pause",
            "systemd_service": "{{name}} {{state}} on " + str(self._task.delegate_to),
        }}[{name!r}].format_map(args)
        with calls.open("a") as file:
            print(said, file=file)
        if {name!r} != "pet_drill" or args["step"] == "prove":
            return {{
                "changed": True, "proven": True, "verdict": "proven", "summary": "", "figures": {{}}, "notes": [],
                "report_name": "drill",
            }}
        drill = case["under_way"] or {{"kind": args["kind"], "nodes": ["node-1"]}}
        if args["step"] == "plan":
            return {{"changed": False, "decision": case["decision"], "why": "why", "under_way": case["under_way"]}}
        if args["step"] == "begin":
            begun = {{"id": "1", "kind": args["kind"], "pets": ["mysql-0"], "nodes": ["node-1"]}}
            return {{"changed": True, "decision": "run", "drill": begun}}
        if args["step"] == case["fails"]:
            return {{"failed": True, "msg": args["step"] + " failed"}}
        heals = {{"node_power_off": drill["nodes"][0] + " on", "nfs_restart": "nfs-server started on server"}}
        missing = heals.get(drill["kind"])
        if args["step"] == "abandon" and missing and missing not in before and not self._task.check_mode:
            return {{"failed": True, "msg": "the set is not healthy: " + missing + " is missing"}}
        return {{"changed": True}}
"""
PLAY = """
- hosts: all:!nfs_servers
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: stateful.petset.recovery_check
          vars:
            recovery_check_action: drill
      rescue:
        - ansible.builtin.debug:
            msg: "END {{ inventory_hostname }} {{ ansible_failed_result.msg }}"
"""
KILL: dict[str, Any] = {"kind": "mysqld_kill"}
POWER: dict[str, Any] = {"kind": "node_power_off", "hook": "/power.yml"}
NFS: dict[str, Any] = {"kind": "nfs_restart"}
NODE_OFF = {"kind": "node_power_off", "nodes": ["node-7"], "ended": ""}
NFS_DOWN = {"kind": "nfs_restart", "nodes": ["node-7"], "ended": ""}
DRILL = ["begin", "crash", "prove"]
POWER_DRILL = ["begin", "crash", "node-1 off", "pause", "node-1 on", "prove"]
NFS_DRILL = ["begin", "crash", "nfs-server restarted on server", "prove"]
STARTED = "nfs-server started on server"
# name -> the drill that is under way, those of this run (the first is at hand), the step that fails, what is done
CASES: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]], str, list[str]]] = {
    "node": (NODE_OFF, [POWER], "", ["plan", "node-7 on", "abandon", *POWER_DRILL]),
    "node-of-another": (NODE_OFF, [KILL, POWER], "", ["plan", "node-7 on", "abandon", *DRILL]),
    "node-judged": ({**NODE_OFF, "ended": "proven"}, [POWER], "", ["plan", "node-7 on", "abandon", *POWER_DRILL]),
    "nfs": (NFS_DOWN, [NFS], "", ["plan", STARTED, "abandon", *NFS_DRILL]),
    "nfs-of-another": (NFS_DOWN, [KILL, NFS], "", ["plan", STARTED, "abandon", *DRILL]),
    "heals-itself": ({**NODE_OFF, "kind": "container_kill"}, [KILL], "", ["plan", "abandon", *DRILL]),
    "cannot-end": (NODE_OFF, [POWER], "abandon", ["plan", "node-7 on", "abandon"]),
    "none": (None, [KILL], "", ["plan", *DRILL]),
    # The run that has begun it heals it as well when a step of it fails.
    "node-fails": (None, [POWER], "crash", ["plan", "begin", "crash", "node-1 on", "abandon"]),
    "nfs-fails": (None, [NFS], "crash", ["plan", "begin", "crash", STARTED, "abandon"]),
}
# In check mode nothing is switched, started or staged.
LOOKS = {case: ["plan", "abandon"] if under_way else ["plan", "begin"] for case, (under_way, *_others) in CASES.items()}


def run_cases(folder: Path, *options: str) -> Path:
    """One run of ansible-playbook with a host for each case; what was called on whose account."""
    copy_role(folder, ROLE, ACTION, ("pet_drill", "power"), REPLACED)
    hook = folder / "power.yml"
    hook.write_text(
        "- stateful.petset.power: {node: '{{ recovery_check_node }}', power: '{{ recovery_check_power }}'}\n"
    )
    hosts, cases = {}, {}
    for name, (under_way, given, fails, _done) in CASES.items():
        drills = [{**one, "hook": str(hook)} if "hook" in one else one for one in given]
        hosts[name] = {**LOCAL, "recovery_check_drill": drills[0], "recovery_check_drills": drills}
        cases[name] = {"under_way": under_way, "decision": "heal" if under_way else "run", "fails": fails}
    (folder / "cases.json").write_text(json.dumps(cases))
    inventory = {"hosts": hosts, "children": {"nfs_servers": {"hosts": {"server": LOCAL}}}}
    done = run_playbook(folder, folder, PLAY, inventory, *options, FOLDER=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_cases(tmp_path_factory.mktemp("drills"))


@pytest.fixture(scope="module")
def look(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_cases(tmp_path_factory.mktemp("look"), "--check")


def calls(folder: Path, case: str) -> list[str]:
    return (folder / f"{case}.calls").read_text().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_a_fault_of_a_killed_run_is_healed_before_anything_else(folder: Path, case: str) -> None:
    """Without it the pet of a node that is off never comes back, and the drill can never be ended."""
    assert calls(folder, case) == CASES[case][-1]


@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_as_its_steps_do(folder: Path, case: str) -> None:
    fails = CASES[case][2]
    said = re.findall(rf'"msg": "END {case} (.*)"', (folder / "output").read_text())
    assert said == ([f"{fails} failed"] if fails else [])


@pytest.mark.parametrize("case", CASES)
def test_in_check_mode_nothing_is_healed_or_staged(look: Path, case: str) -> None:
    assert calls(look, case) == LOOKS[case]
