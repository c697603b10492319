#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive the collection's own code for exports against the exportfs of this machine, without Ansible.

It lies beside exports_oracle.py, and beside a package ``petset_code`` with the folders _core and _io of the
collection's module_utils. Without ``--here`` it works in namespaces of its own, as the oracle does; with it, on the
machine itself.

Input (standard input): a JSON list of scenarios ``{"prepare": a question of the oracle, "runs": [options of the module
nfs_export]}``. Output: per scenario a list with a result per run::

    {"changed", "plan": [...], "foreign": [...], "warnings": [...], "stderr",      when it went well
     "error": code, "message",                                                     when it did not
     "files": {name: text}, "etab", "modes": {path: "uid:gid mode"}}
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import exports_oracle
from petset_code._core.errors import PetsetError
from petset_code._core.exports_desired import parse_desired
from petset_code._core.exports_plan import plan_exports
from petset_code._io.nfs import NfsServer

DEFAULTS = {
    "state": "present",
    "purge": True,
    "machines": None,
    "withdraw_in_use": False,
    "adopt": False,
    "exports": None,
}
EXPORT = {
    "state": "present", "clients": None, "options": [], "fsid": "auto", "fsid_seed": None, "create": False,
    "owner": None, "group": None, "mode": None,
}  # fmt: skip


def run_program(argv):
    """As AnsibleModule.run_command, with the program that the oracle uses."""
    words = [*exports_oracle.EXPORTFS, *argv[1:]] if argv[0] == "exportfs" else list(argv)
    done = subprocess.run(
        words, capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    return (
        done.returncode,
        done.stdout.decode("utf-8", "surrogateescape"),
        done.stderr.decode("utf-8", "surrogateescape"),
    )


def apply(options):
    """One run of the module."""
    exports = options.get("exports")
    params = {**DEFAULTS, **options, "exports": None if exports is None else [{**EXPORT, **one} for one in exports]}
    server = NfsServer(run_program, "exportfs")
    try:
        desired = parse_desired(params)
        plan = plan_exports(desired, server.observe(desired))
        outcome = server.apply(plan, desired)
    except PetsetError as error:
        return {"error": error.code, "message": str(error)}
    return {
        "changed": plan.changed,
        "plan": [step.describe() for step in plan.steps],
        "foreign": outcome.foreign,
        "foreseen": [problem.describe() for problem in plan.foreign],
        "warnings": [*plan.warnings, *outcome.warnings],
        "stderr": outcome.stderr,
    }


def look(paths):
    """What is on the machine after a run."""
    folder = Path("/etc/exports.d")
    etab = Path("/var/lib/nfs/etab")
    modes = {}
    for path in paths:
        if os.path.isdir(path):
            status = os.stat(path)
            modes[path] = f"{status.st_uid}:{status.st_gid} {status.st_mode & 0o7777:04o}"
    return {
        "files": {str(one): one.read_text("latin-1") for one in sorted(folder.iterdir()) if one.is_file()},
        "etab": etab.read_text("latin-1") if etab.exists() else "",
        "modes": modes,
    }


def main():
    here = "--here" in sys.argv
    if not here and "--inside" not in sys.argv:
        words = [sys.executable, os.path.abspath(__file__), "--inside"]
        os.execvp("unshare", ["unshare", "--mount", "--net", *words])
    if not here:
        exports_oracle.prepare()
    results = []
    for scenario in json.load(sys.stdin):
        if not here:
            exports_oracle.arrange(scenario["prepare"])
        runs = []
        for options in scenario["runs"]:
            for line in options.pop("before", []):
                subprocess.run(["sh", "-ec", line], check=True, stdout=sys.stderr)
            paths = [one["path"] for one in options.get("exports") or []]
            runs.append({**apply(options), **look(paths)})
        results.append(runs)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
