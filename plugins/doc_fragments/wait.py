# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of waiting; the code is in module_utils/_module.py (WAIT_ARG_SPEC)."""

    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until what was asked for is really there.
      - Nothing is waited for in check mode.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds to wait at most, by a clock that nobody can set.
      - When they are over the task fails, with the last state of each pet and the reason that Kubernetes gives.
    type: int
    default: 300
  progress_file:
    description:
      - File to which a line is added whenever the state of a pet changes during the wait. Ansible itself shows
        nothing of a running module; follow this file with C(tail -f), or the system log with C(journalctl -f).
      - Can also be set with E(STATEFUL_PETSET_PROGRESS) in the environment of the task.
    type: path
"""
