# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that run beside the harness."""

from __future__ import annotations

import subprocess


def stop_process(process: subprocess.Popen[str], limit_s: float = 20) -> tuple[str, str]:
    """End a started command by closing its input; by force if it does not listen. What it said."""
    try:
        return process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()
