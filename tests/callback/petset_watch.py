# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what a playbook's tasks did, and kills ansible-playbook with all its children at a task of choice.

PETSET_WATCH_FILE: a line of JSON for each result. PETSET_KILL_TASKS: a JSON list of a play, a task and seconds each; so
long after the first of these tasks has begun it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: petset_watch
type: notification
short_description: For the tests of this collection
description: Writes down what tasks did; kills the run at a task of choice.
"""

# They change nothing anywhere, so being killed there is being killed at the task before.
TALK = set("assert debug fail include_role include_tasks meta set_fact set_stats validate_argument_spec".split())
TALK |= {"nfs_export_info", "setup", "wait_for"}


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have; a parent before its children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as handle:
                children.setdefault(int(handle.read().rpartition(")")[2].split()[1]), []).append(int(name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "petset_watch"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.play = ""
        self.moments = json.loads(os.environ.get("PETSET_KILL_TASKS", "[]"))
        self.is_over = False

    def write(self, **line: Any) -> None:
        with open(os.environ["PETSET_WATCH_FILE"], "a") as handle:
            handle.write(json.dumps(line, default=str) + "\n")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        action = task.action.rpartition(".")[2]
        if action in TALK:
            return
        here = [self.play, task.get_name()]
        after_s = next((after_s for *place, after_s in self.moments if place == here), None)
        if self.is_over or after_s is None:
            return
        self.is_over = True
        self.write(kill=True, play=self.play, task=task.get_name(), action=action, after_s=after_s)
        if after_s:
            threading.Timer(after_s, self.kill).start()
        else:
            self.kill()

    def kill(self) -> None:
        # ansible-core gives each worker a session of its own, so a kill of the process group alone leaves the module
        # of the task working on.
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.killpg(0, signal.SIGKILL)

    def result(self, word: str, result: Any) -> None:
        found = result._result
        self.write(
            outcome=word,
            host=result._host.get_name(),
            task=result._task.get_name(),
            action=result._task.action.rpartition(".")[2],
            play=self.play,
            changed=bool(found.get("changed")),
            actions=found.get("actions", found.get("plan")),
            msg=found.get("msg") if word == "failed" else None,
        )

    def v2_runner_on_ok(self, result: Any) -> None:
        self.result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.result("failed", result)
