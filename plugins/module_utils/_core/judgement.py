# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at the cluster means for somebody who waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a look at the cluster means.

    ``done``     nothing more to wait for
    ``summary``  one line for a person, for example ``1 of 2 claims bound; db-mysql-1 Pending: no volume``
    ``pets``     the state of each pet for the result, also on failure
    ``hopeless`` set when waiting longer cannot help; the text is the reason
    ``way_out``  what to do about it
    """

    done: bool
    summary: str
    pets: Sequence[Mapping[str, Any]] = ()
    hopeless: str = ""
    way_out: str = ""
