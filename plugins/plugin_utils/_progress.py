# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the progress of a module while it runs.

A module cannot print: standard output is its result. So the action plugin of a module that waits hands it a file on the
controller, and shows each line that the module adds. This works where the module runs on the controller itself
(connection local, without become), which is where modules that talk to the API run as a rule.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

INTERVAL_S = 0.25
Show = Callable[[str], None]


@contextlib.contextmanager
def following(path: str, show: Show, interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Show every line that is added to a file while the context lasts, the last ones included."""
    ended = threading.Event()
    try:
        offset = os.path.getsize(path)
    except OSError:
        offset = 0

    def follow() -> None:
        position, rest, last = offset, b"", False
        while True:
            # Asked before reading, so that nothing that was written before the end is missed.
            last = ended.wait(interval_s)
            with contextlib.suppress(OSError), open(path, "rb") as handle:
                handle.seek(position)
                added = handle.read()
                position += len(added)
                *lines, rest = (rest + added).split(b"\n")
                for line in lines:
                    show(line.decode("utf-8", "replace"))
            if last:
                return

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class ProgressAction(ActionBase):  # type: ignore[misc, unused-ignore]
    """Runs the module of the same name and shows its progress; changes nothing else."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        with self._shown(args):
            result.update(
                self._execute_module(module_args=args, task_vars=task_vars, wrap_async=bool(self._task.async_val))
            )
        return result

    @contextlib.contextmanager
    def _shown(self, args: dict[str, Any]) -> Iterator[None]:
        local = getattr(self._connection, "transport", "") in ("local", "ansible.builtin.local")
        if not local or self._play_context.become or self._task.async_val or self._task.check_mode:
            yield
            return
        display = Display()
        own = None
        if not args.get("progress_file"):
            handle, own = tempfile.mkstemp(prefix="petset-progress-")
            os.close(handle)
            args["progress_file"] = own
        try:
            with following(os.path.expanduser(str(args["progress_file"])), lambda line: display.display(f"  {line}")):
                yield
        finally:
            if own is not None:
                os.unlink(own)
