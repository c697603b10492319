# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pet_drill on the controller: runs the module and shows its progress."""

from __future__ import annotations

from ansible_collections.stateful.petset.plugins.plugin_utils._progress import ProgressAction


class ActionModule(ProgressAction):
    """pet_drill, with its progress shown."""
