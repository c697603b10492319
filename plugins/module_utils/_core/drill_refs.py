# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the objects of a drill are called. By itself, as `pet_set` takes them away and needs nothing else of drills."""

from __future__ import annotations

from . import kinds
from .kinds import ObjectRef


def drill_refs(set_name: str, namespace: str) -> tuple[ObjectRef, ...]:
    """The objects of a drill, in the order in which they go."""
    name = f"{set_name}-drill"
    return tuple(ObjectRef(kind, name, namespace) for kind in (kinds.POD, kinds.CONFIG_MAP, kinds.SECRET))
