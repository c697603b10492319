# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of the modules: the default for those that change things, C(info) for those that only look."""

    DOCUMENTATION = r"""
attributes:
  action_group:
    description: Use C(group/stateful.petset.petset) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - stateful.petset.petset
  check_mode:
    description: Can run in check mode and say what it would change, without changing anything.
    support: full
  diff_mode:
    description: Says in diff mode what has changed, or in check mode would change.
    support: full
  idempotent:
    description: When run twice in a row with the same options, the second run changes nothing.
    support: full
"""

    INFO = r"""
attributes:
  action_group:
    description: Use C(group/stateful.petset.petset) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - stateful.petset.petset
  check_mode:
    description: Can run in check mode and say what it would change, without changing anything.
    support: full
    details:
      - This module only looks.
  diff_mode:
    description: Says in diff mode what has changed, or in check mode would change.
    support: N/A
    details:
      - This module only looks.
  idempotent:
    description: When run twice in a row with the same options, the second run changes nothing.
    support: full
    details:
      - This module only looks.
"""
