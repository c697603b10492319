# SPDX-License-Identifier: GPL-3.0-or-later
"""How long tests wait. A limit ends a test that waits in vain, on a machine that may be shared; how fast things are is
for ``make bench`` to say.
"""

from __future__ import annotations

PATIENCE = 3.0


def patient(seconds: float) -> float:
    """The limit for what takes so long at most on a machine that does nothing else."""
    return PATIENCE * seconds
