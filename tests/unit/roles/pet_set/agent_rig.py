# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's package, which is no part of the collection's Python, for tests."""

from __future__ import annotations

import sys
from pathlib import Path

AGENT = Path(__file__).resolve().parents[4] / "roles" / "pet_set" / "files" / "agent"
if str(AGENT) not in sys.path:
    sys.path.insert(0, str(AGENT))
