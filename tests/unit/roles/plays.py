# SPDX-License-Identifier: GPL-3.0-or-later
"""A play of a role on this machine, in one run of ansible-playbook with a host for each case; the tasks of a role."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def tasks_in(block: Any) -> list[dict[str, Any]]:
    """All tasks, those within blocks as well."""
    found: list[dict[str, Any]] = []
    for task in block or ():
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += tasks_in(task.get(part))
    return found


def collections_path() -> Path:
    """The folder that has the collection which is tested."""
    spec = importlib.util.find_spec("ansible_collections.stateful.petset")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).parents[2]


def copy_role(folder: Path, role: Path, action: str, own: Sequence[str], replaced: Sequence[str]) -> None:
    """Make a collection with a copy of a role in which ``action`` stands in for modules, by its ``{name}``.

    ``own`` are the collection's, ``replaced`` those of ansible.builtin that the role's tasks call.
    """
    collection = folder / "ansible_collections" / "stateful" / "petset"
    (collection / "plugins" / "action").mkdir(parents=True)
    for name in (*own, *replaced):
        (collection / "plugins" / "action" / f"{name}.py").write_text(action.format(name=name))
    words = re.compile(rf"^( +)ansible\.builtin\.({'|'.join(replaced)}):", re.MULTILINE)
    for path in role.rglob("*.*"):
        copy = collection / "roles" / role.name / path.relative_to(role)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(words.sub(r"\1stateful.petset.\2:", path.read_text()))


def run_playbook(
    folder: Path, collections: Path, play: str, inventory: Mapping[str, Any], *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The end of a play, whatever it is."""
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    (folder / "play.yml").write_text(play)
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.yml", "play.yml", *options],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
            "ANSIBLE_REMOTE_TMP": str(folder / "tmp"),
            "ANSIBLE_FORKS": "4",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def run_play(
    folder: Path,
    collections: Path,
    play: str,
    hosts: Mapping[str, Mapping[str, Any]],
    *options: str,
    **environment: str,
) -> tuple[str, list[tuple[str, Any]]]:
    """What it printed, and of each message that it showed the host and the text, in order."""
    named = {name: {**LOCAL, **given} for name, given in hosts.items()}
    done = run_playbook(folder, collections, play, {"hosts": named}, *options, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    # The output of debug is the result: a module that writes it down would cost more than the role.
    shown = re.findall(r"^ok: \[([-\w]+)\] => (\{\n.*?^\})", done.stdout, re.MULTILINE | re.DOTALL)
    return done.stdout, [(host, json.loads(result)["msg"]) for host, result in shown]
