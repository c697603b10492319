# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PyMySQL's files where the module runs, for the agent's zip."""

from __future__ import annotations

import importlib.util
import os


def read_pymysql() -> dict[str, bytes] | None:
    """``pymysql/<name>.py`` to content, from the package that is installed here; None when it is not."""
    found = importlib.util.find_spec("pymysql")
    if found is None or not found.origin:
        return None
    top = os.path.dirname(found.origin)
    files: dict[str, bytes] = {}
    for folder, _folders, names in os.walk(top):
        for name in names:
            if name.endswith(".py") and "test" not in folder[len(top) :]:
                path = os.path.join(folder, name)
                with open(path, "rb") as source:
                    files[os.path.join("pymysql", os.path.relpath(path, top)).replace(os.sep, "/")] = source.read()
    return files
