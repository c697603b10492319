#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_recovery
short_description: Check that every pet is itself, on its own volume, and answers
version_added: 0.1.0
description:
  - Judges each pet by its pod, its identity, its claim and volume, the mount as the kernel has it, and the names and
    answers of its peers. Each trouble has a name of its own, the evidence, and what mends it.
  - Sends no write and waits for nothing. What may not be read or could not be asked is unknown, which is not healthy.
  - It does not look at replication.
options:
  set:
    description: Name of the set.
    type: str
    required: true
    aliases: [name]
  namespace:
    description: Namespace of the set.
    type: str
    default: default
  service:
    description: Name of the governing service, for a set that has none in its specification.
    type: str
    default: db
  cluster_domain:
    description: DNS domain of the cluster.
    type: str
    default: cluster.local
  claim_template:
    description: First part of the claims' names. By default that of the set's claim template.
    type: str
  probe:
    description:
      - Whether to look from within each ready pet. Without it mounts, names and answers are unknown.
      - Needs the right to create C(pods/exec).
    type: bool
    default: true
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes.info
seealso:
  - module: stateful.petset.pet_set_info
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Check the pets
  stateful.petset.pet_recovery:
    set: mysql
  register: check

- name: Insist on health
  ansible.builtin.assert:
    that: check.healthy
    fail_msg: "{{ check.summary }}"
"""

RETURN = r"""
healthy:
  description: Whether all that is looked at is right, and known.
  type: bool
  returned: success
certain:
  description: Whether nothing is unknown.
  type: bool
  returned: success
verdict:
  description: The worst of all findings, V(right), V(unknown) or V(wrong).
  type: str
  returned: success
summary:
  description: What is wrong, or not known, in one line.
  type: str
  returned: success
troubles:
  description: Each finding that is not right.
  type: list
  elements: dict
  returned: success
  contains:
    pet:
      description: Name of the pet.
      type: str
    check:
      description: What was looked at.
      type: str
    trouble:
      description: A stable word for what is wrong, V(unknown) when nobody could tell.
      type: str
    evidence:
      description: What was seen.
      type: str
    way_out:
      description: What mends it.
      type: str
pets:
  description: Each pet as M(stateful.petset.pet_set_info) returns it.
  type: list
  elements: dict
  returned: success
shared_nodes:
  description:
    - Nodes that several pets share, as M(stateful.petset.pet_set_info) returns them. Each pet may be right all the
      same, so RV(healthy) does not depend on it.
  type: list
  elements: dict
  returned: success
table:
  description: All findings as a table for a terminal.
  type: str
  returned: success
report:
  description: The same as a page, as V(html), V(markdown) and V(json).
  type: dict
  returned: success
api:
  description: Which API was spoken to and where that setting came from.
  type: dict
  returned: always
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module
from ansible_collections.stateful.petset.plugins.module_utils._recovery import run_pet_recovery


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        claim_template={"type": "str"},
        probe={"type": "bool", "default": True},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(module, lambda client, partial: run_pet_recovery(module, client, partial))


if __name__ == "__main__":
    main()
