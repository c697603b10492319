# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role asks of the server, in which order: its own tasks, with modules that note it and a server of paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.unit.roles.plays import copy_role, run_play
from tools.common import ROOT

pytestmark = [pytest.mark.programs, pytest.mark.slow]

ROLE = ROOT / "roles" / "nfs_exports"
# What would change this machine, or look at it; the names are taken over by the collection of the test.
REPLACED = "apt command copy dnf file find setup systemd_service template wait_for".split()
# In the place of each module; an action needs no process of its own. The server has its settings once it was started
# or restarted.
ACTION = """
import json, os, pathlib
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        folder, host = pathlib.Path(os.environ["FOLDER"]), task_vars["inventory_hostname"]
        args, look = self._task.args, self._task.check_mode
        case = json.loads((folder / "cases.json").read_text())[host]
        calls = folder / (host + ".calls")
        made = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        with calls.open("a") as file:
            file.write(json.dumps({{"module": {name!r}, "look": look, "diff": self._task.diff, **args}}) + "\\n")
        if {name!r} == "nfs_export_info":
            runs = case["before"]["server"]["running"]
            starts = ("restarted",) if runs else ("started", "restarted")
            begun = any(one["module"] == "systemd_service" and one["state"] in starts for one in made)
            return {{"changed": False, **case["after" if begun else "before"]}}
        if {name!r} == "nfs_export":
            if case["refused"] or case["broken"] and args["foreign_errors"] == "fail":
                return {{"failed": True, "msg": case["refused"] or case["broken"][0]}}
            server = case["before"] if args.get("describe_server") else {{}}
            # Every look says changed, so that a role that believed it would be seen.
            changed = look or bool(case["plan"])
            told = {{"look": look, "plan": case["plan"], "foreign_problems": case["broken"]}}
            return {{"changed": changed, **told, **server}}
        if {name!r} == "setup":
            return {{"changed": False, "ansible_facts": {{"ansible_os_family": case["family"]}}}}
        leases = "1" if case["before"]["server"]["delegations"] else "0"
        return {{"changed": False, "stdout": leases, "matched": 1}}
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: stateful.petset.nfs_exports
        - ansible.builtin.debug:
            msg: "{{ {'needed': nfs_exports_restart_needed | default(none), 'result': nfs_exports_result} | to_json }}"
      rescue:
        - ansible.builtin.debug:
            msg: "{{ {'end': ansible_failed_result.msg} | to_json }}"
"""
GIVEN: dict[str, Any] = {"nfs_exports_clients": ["192.0.2.0/24"]}
NODE = {"address": "192.0.2.11"}


def settings(**given: Any) -> str:
    """petset.conf as the role writes it."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), autoescape=False)
    return environment.get_template("petset.conf.j2").render({**defaults, **given})


def found(*clients: dict[str, str], versions: dict[str, bool] | None = None, **server: Any) -> dict[str, Any]:
    """What is told of the server; unless told otherwise of one that has all that the role wants."""
    served = {"3": False, "4": True, "4.0": False, "4.1": True, "4.2": True, **(versions or {})}
    whole = {
        "running": True, "threads": 16, "versions": served, "lease_s": 30, "grace_s": 30, "package_version": "2.8.3",
        "listening": True, "enabled": True, "settings": settings(), "delegations": False,
    }  # fmt: skip
    return {"server": {**whole, **server}, "clients": list(clients)}


def bare() -> dict[str, Any]:
    """A machine without any server."""
    return found(
        versions={"4.1": False}, running=False, threads=0, lease_s=None, grace_s=None, package_version="",
        listening=False, enabled=False, settings=None,
    )  # fmt: skip


def threads(number: int) -> str:
    return f"""command /bin/sh -c echo "$1" > /proc/fs/nfsd/threads sh {number}"""


SETTLED = ["nfs_export look"]
DUE = [*SETTLED, "nfs_export"]
# A server counts as started when it is so at boot as well, and when something answers.
START = ["systemd_service started enabled", "wait_for 2049"]
BEGIN = ["nfs_export look", "template", "apt nfs-kernel-server", *START, "nfs_export"]
RESTART = ["systemd_service restarted", *START]
LEASE = {"lease_s": 90}
BROKEN = {"broken": ["/etc/exports:1: x"], "nfs_exports_foreign_errors": "warn"}
# name -> what is found, variables, what is done, whether a restart is still needed, words that are said
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], bool | None, str]] = {
    "settled": (found(NODE), {}, SETTLED, False, ""),
    "settled-always": (found(NODE), {"nfs_exports_restart": "always"}, SETTLED, False, ""),
    # A look at a server with all settings is followed by the real call for a plan, and for files of others.
    "settled-plan": (found(NODE), {"plan": ["write x"]}, DUE, False, ""),
    "settled-broken": (found(NODE), BROKEN, DUE, False, ""),
    "settled-broken-fails": (
        found(NODE), {"broken": ["/etc/exports:1: x"]}, DUE, None, "/etc/exports:1: x"
    ),
    "settled-plan-and-broken": (found(NODE), {**BROKEN, "plan": ["write x"]}, DUE, False, ""),
    "absent": (bare(), {"nfs_exports_state": "absent"}, ["nfs_export"], None, ""),
    "absent-settled": (found(), {"nfs_exports_state": "absent"}, ["nfs_export"], None, ""),
    "bare": (bare(), {}, BEGIN, False, ""),
    "bare-redhat": (bare(), {"family": "RedHat"}, [*BEGIN[:2], "dnf nfs-utils", *BEGIN[3:]], False, ""),
    "stopped": (found(running=False, threads=0), {}, BEGIN, False, ""),
    "not-at-boot": (found(NODE, enabled=False), {}, BEGIN, False, ""),
    "not-listening": (found(NODE, listening=False), {}, BEGIN, False, ""),
    # When the server may be restarted.
    "idle": (found(**LEASE), {}, BEGIN + RESTART, False, ""),
    "idle-never": (found(**LEASE), {"nfs_exports_restart": "never"}, BEGIN, True, "nfs_exports_restart is never"),
    "busy": (found(NODE, **LEASE), {}, BEGIN, True, "Clients are connected (192.0.2.11)"),
    "busy-always": (found(NODE, **LEASE), {"nfs_exports_restart": "always"}, BEGIN + RESTART, False, ""),
    "broken": (found(**LEASE), BROKEN, BEGIN, True, "export files of others are broken"),
    "broken-always": (
        found(**LEASE), {**BROKEN, "nfs_exports_restart": "always"}, BEGIN, True, "export files of others are broken"
    ),
    "broken-fails": (found(**LEASE), {"broken": ["/etc/exports:1: x"]}, BEGIN, None, "/etc/exports:1: x"),
    "absent-adopt": (bare(), {"nfs_exports_state": "absent", "nfs_exports_adopt": True}, ["nfs_export"], None, ""),
    "adopt": (found(NODE), {"nfs_exports_adopt": True, "plan": ["write x"]}, DUE, False, ""),
    # What needs a restart.
    "grace": (found(grace_s=90), {}, BEGIN + RESTART, False, ""),
    "serves-v3": (found(versions={"3": True}), {}, BEGIN + RESTART, False, ""),
    "serves-v4-0": (found(versions={"4.0": True}), {}, BEGIN + RESTART, False, ""),
    "lacks-v4-1": (found(versions={"4.1": False}), {}, BEGIN + RESTART, False, ""),
    "settings-only": (found(NODE, settings="x"), {}, BEGIN, False, ""),
    "not-ours": (found(**LEASE), {"nfs_exports_configure": False}, SETTLED, False, ""),
    "not-ours-without-package": (
        bare(), {"nfs_exports_configure": "false"}, ["nfs_export look", "apt nfs-kernel-server", "nfs_export"], None, ""
    ),
    "delegations": (
        found(NODE, delegations=True), {},
        [*BEGIN[:2], "command /bin/sh -c echo 0 > /proc/sys/fs/leases-enable", *BEGIN[2:]], False, "",
    ),
    "delegations-allowed": (found(NODE, delegations=True), {"nfs_exports_delegations": True}, SETTLED, False, ""),
    # A number of threads is set once, at once and without a restart.
    "threads": (
        found(NODE), {"nfs_exports_threads": "24"}, ["nfs_export look", threads(24), *BEGIN[1:]], False, ""
    ),
    "threads-of-others": (
        found(NODE, threads=8, settings=None), {}, ["nfs_export look", threads(16), *BEGIN[1:]], False, ""
    ),
    "threads-by-need": (found(NODE, threads=3), {}, SETTLED, False, ""),
    "threads-by-need-and-more": (found(NODE, threads=3, enabled=False), {}, BEGIN, False, ""),
    # Nothing is touched.
    "refused": (bare(), {"refused": "not an IP network"}, ["nfs_export look"], None, "not an IP network"),
    "refused-settled": (found(), {"refused": "in use"}, SETTLED, None, "in use"),
}  # fmt: skip
OWN = ("family", "broken", "refused", "plan")
# Where the module fails, before or after the work.
FAILED = [
    case
    for case, (_before, given, *_rest) in CASES.items()
    if "refused" in given or ("broken" in given and "nfs_exports_foreign_errors" not in given)
]


def run_cases(folder: Path, names: Iterable[str], *options: str) -> Path:
    """One run of ansible-playbook with a host for each case; what it asked of whom, what it said, how it ended."""
    copy_role(folder, ROLE, ACTION, ("nfs_export", "nfs_export_info"), REPLACED)
    cases, hosts = {}, {}
    for name in names:
        before, given, *_others = CASES[name]
        after = found(*before["clients"])
        cases[name] = {
            "before": before, "after": after, "family": given.get("family", "Debian"),
            "broken": given.get("broken", []), "refused": given.get("refused", ""), "plan": given.get("plan", []),
        }  # fmt: skip
        hosts[name] = {**GIVEN, **{key: value for key, value in given.items() if key not in OWN}}
    (folder / "cases.json").write_text(json.dumps(cases))
    output, shown = run_play(folder, folder, PLAY, hosts, *options, FOLDER=str(folder), ANSIBLE_DIFF_ALWAYS="true")
    (folder / "output").write_text(output)
    (folder / "shown.json").write_text(json.dumps(shown))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_cases(tmp_path_factory.mktemp("server"), CASES)


def calls(folder: Path, case: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{case}.calls").read_text().splitlines()]


def told(call: dict[str, Any]) -> str:
    """A call in short, and "" for one that only looks or that all runs make alike."""
    if call["module"] == "command":
        return "" if call["argv"][0] == "cat" else " ".join(["command", *map(str, call["argv"])])
    if call["module"] == "systemd_service":
        return " ".join(["systemd_service", call["state"], *(["enabled"] if call.get("enabled") is True else [])])
    if call["module"] == "nfs_export":
        return "nfs_export look" if call["look"] else "nfs_export"
    if call["module"] in ("apt", "dnf"):
        return " ".join([call["module"], *call["name"]])
    if call["module"] == "wait_for":
        return f"wait_for {call['port']}"
    return "template" if call["module"] == "template" else ""


def texts(folder: Path, case: str) -> list[str]:
    return [text for host, text in json.loads((folder / "shown.json").read_text()) if host == case]


@pytest.mark.parametrize("case", CASES)
def test_what_is_done_and_in_which_order(folder: Path, case: str) -> None:
    _before, _given, done, _needed, _words = CASES[case]
    assert [word for word in map(told, calls(folder, case)) if word] == done


@pytest.mark.parametrize("case", CASES)
def test_how_it_ends(folder: Path, case: str) -> None:
    _before, given, done, needed, words = CASES[case]
    *said, last = texts(folder, case)
    end = json.loads(last)
    if case in FAILED:
        assert end == {"end": words}
        return
    assert end["needed"] == needed
    assert len(said) == (1 if words else 0)
    assert words in " ".join(said)
    # The result is the one of the call that counts, and a look never changed anything.
    result = end["result"]
    assert result["look"] is (done == SETTLED)
    assert result["changed"] is ("plan" in given)
    assert result["foreign_problems"] == given.get("broken", [])


@pytest.mark.parametrize("case", [case for case, (_before, given, *_rest) in CASES.items() if "refused" in given])
def test_a_refusal_comes_before_anything_is_touched(folder: Path, case: str) -> None:
    (only,) = calls(folder, case)
    assert told(only) == "nfs_export look"


def test_the_first_look_shows_no_diff_and_is_no_change(folder: Path) -> None:
    """The double of the module says changed of a look, and nothing else in this case does."""
    look, real = (call for call in calls(folder, "busy") if call["module"] == "nfs_export")
    assert (look["look"], look["diff"], real["look"], real["diff"]) == (True, False, False, True)
    differ = ("look", "diff", "foreign_errors", "state", "describe_server")
    assert {k: v for k, v in look.items() if k not in differ} == {k: v for k, v in real.items() if k not in differ}
    # Broken files of others do not keep the own exports from being applied.
    assert (look["foreign_errors"], real["foreign_errors"]) == ("warn", "fail")
    assert re.search(r"^busy +: .* changed=0 ", (folder / "output").read_text(), re.MULTILINE)


@pytest.mark.parametrize("case", [case for case, (_before, _given, done, *_rest) in CASES.items() if done == SETTLED])
def test_a_server_where_nothing_is_to_be_done_is_asked_once(folder: Path, case: str) -> None:
    """The second run called the module for real after two looks had found nothing to do."""
    (only,) = calls(folder, case)
    assert (only["module"], only["look"], only["describe_server"]) == ("nfs_export", True, True)
    assert re.search(rf"^{case} +: .* changed=0 ", (folder / "output").read_text(), re.MULTILINE)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("settled-") and CASES[case][2] == DUE])
def test_a_plan_and_a_foreign_problem_bring_the_real_call(folder: Path, case: str) -> None:
    """A look is told to warn only, and changes nothing; what the user wants is asked for in the second call."""
    look, real = calls(folder, case)
    assert (look["look"], real["look"], real["state"]) == (True, False, "present")
    assert look["foreign_errors"] == "warn"
    assert real["foreign_errors"] == CASES[case][1].get("nfs_exports_foreign_errors", "fail")


@pytest.mark.parametrize("case", ["adopt", "absent-adopt", "settled-plan", "absent"])
def test_a_drop_in_of_others_is_handed_over_in_each_call_or_in_none(folder: Path, case: str) -> None:
    """A look that is refused for it would stop the run that is allowed to take it over."""
    handed = {call["adopt"] for call in calls(folder, case)}
    assert handed == {case.endswith("adopt")}


@pytest.mark.parametrize("case", ["bare", "idle", "busy", "broken"])
def test_a_first_run_looks_before_once_and_after_for_the_restart(folder: Path, case: str) -> None:
    asked = [call["module"] for call in calls(folder, case) if call["module"].startswith("nfs_export")]
    assert asked[:2] == ["nfs_export", "nfs_export_info"]
    # What waits for the threads comes before the exports, the look for the restart after them.
    assert asked[2:4] == ["nfs_export", "nfs_export_info"]


def test_check_mode_foretells_what_the_run_would_do(tmp_path: Path) -> None:
    """In check mode both calls only look; the second is the one that shows its diff and says changed."""
    cases = ("settled", "settled-plan", "bare")
    folder = run_cases(tmp_path, cases, "--check")
    for case in cases:
        # Nothing is waited for that is not there yet.
        done = [word for word in CASES[case][2] if not word.startswith("wait_for")]
        done = ["nfs_export look" if word == "nfs_export" else word for word in done]
        assert [word for word in map(told, calls(folder, case)) if word] == done
        first, *real = (call for call in calls(folder, case) if call["module"] == "nfs_export")
        assert (first["describe_server"], first["diff"]) == (True, False)
        assert [(call["diff"], "describe_server" in call) for call in real] == [(True, False)] * (len(done) > 1)
        end = json.loads(texts(folder, case)[-1])
        assert (end["needed"], end["result"]["changed"]) == (False, case != "settled")
