# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a JSON line for each task, what it is and how long it took, to the file that BENCH_TASK_TIMES names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """``{"play": ..., "task": ..., "seconds": ...}``, in the order of the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._play = ""
        self._task = ""
        self._begin_s = 0.0

    def _end(self) -> None:
        if self._task:
            line = {"play": self._play, "task": self._task, "seconds": round(time.monotonic() - self._begin_s, 3)}
            with Path(os.environ["BENCH_TASK_TIMES"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._task = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._end()
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins, so the one before has ended."""
        self._end()
        self._task, self._begin_s = task.get_name(), time.monotonic()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler counts as a task."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run has ended."""
        self._end()
