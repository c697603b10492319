# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what a playbook's tasks did: a line of JSON for each result, into the file PETSET_WATCH_FILE."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: petset_watch
type: notification
short_description: For the tests of this collection
description: Writes down what tasks did.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "petset_watch"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.play = ""

    def write(self, **line: Any) -> None:
        with open(os.environ["PETSET_WATCH_FILE"], "a") as handle:
            handle.write(json.dumps(line, default=str) + "\n")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.play = play.get_name()

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
