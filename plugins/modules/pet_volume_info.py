#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_volume_info
short_description: Look at the volumes and claims of the pets of a set
version_added: 0.1.0
author:
  - stateful.petset contributors (@stateful-petset)
description:
  - Says for each pet which claim and volume it has, whether they are bound to each other, and where the data is.
  - Takes two requests for the whole set. Without permission to list volumes it says what the claims alone tell, unless
    O(directories) are given.
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes.info
options:
  set:
    description:
      - Name of the set.
    type: str
    required: true
    aliases: [name]
  namespace:
    description:
      - Namespace of the set.
    type: str
    default: default
  claim_template:
    description:
      - Name of the claim template of the set.
    type: str
    default: db
  directories:
    description:
      - Directories of an NFS server. Every volume that is in one of them is named in RV(volumes), whoever made it. The
        server is not compared, since it may have several names.
    type: list
    elements: str
    default: []
seealso:
  - module: stateful.petset.pet_volume
"""

EXAMPLES = r"""
- name: Where is the data of each pet
  stateful.petset.pet_volume_info:
    set: mysql
  register: volumes

- name: Show it
  ansible.builtin.debug:
    msg: "{{ volumes.pets | map(attribute='path') }}"

- name: Who needs a directory
  stateful.petset.pet_volume_info:
    set: mysql
    directories: [/srv/petset/default/mysql/0]
  register: needs
"""

RETURN = r"""
pets:
  description: Each pet that has a claim, or a volume reserved for it, in the order of the ordinals.
  returned: success
  type: list
  elements: dict
  contains:
    ordinal:
      description: Ordinal of the pet.
      type: int
    name:
      description: Name of its pod.
      type: str
    claim:
      description: Name of its claim.
      type: str
    claim_uid:
      description: Uid of its claim, empty when there is none.
      type: str
    volume:
      description: Name of its volume, empty when there is none.
      type: str
    server:
      description: NFS server of its volume.
      type: str
    path:
      description: Directory of its volume.
      type: str
    storage_class:
      description: Class of its claim.
      type: str
    capacity:
      description: What its claim asks for.
      type: str
    phase:
      description: Phase of its claim, empty when there is none.
      type: str
    volume_phase:
      description: Phase of its volume, empty when it cannot be read.
      type: str
    reclaim_policy:
      description: Reclaim policy of its volume, empty when it cannot be read.
      type: str
    mount_options:
      description: Mount options of its volume.
      type: list
      elements: str
    ready:
      description: Whether claim and volume are bound to each other.
      type: bool
    reason:
      description: Why they are not.
      type: str
volumes:
  description: Each volume that is in one of O(directories), by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    claim:
      description: The claim that it is reserved for, C(<namespace>/<claim>), empty when there is none.
      type: str
    phase:
      description: Its phase.
      type: str
    server:
      description: Its NFS server.
      type: str
    path:
      description: Its directory.
      type: str
api:
  description: The API that was talked to, and where its address comes from.
  returned: success
  type: dict
requests:
  description: Number of requests by verb and resource.
  returned: with verbosity 2 or more
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.names import parse_dns_label, parse_set_name
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import (
    DEFAULT_CLAIM_TEMPLATE,
    parse_export_path,
)
from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import find_pets
from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        claim_template={"type": "str", "default": DEFAULT_CLAIM_TEMPLATE},
        directories={"type": "list", "elements": "str", "default": []},
    )


def parse(params: Mapping[str, Any]) -> tuple[str, str, str, tuple[str, ...]]:
    return (
        parse_dns_label("namespace", params["namespace"]),
        parse_set_name("set", params["set"]),
        parse_dns_label("claim_template", params["claim_template"]),
        tuple(one if one == "/" else parse_export_path("directories", one) for one in params["directories"]),
    )


def main() -> None:
    module: Any = KubeModule(  # type: ignore[no-untyped-call]
        argument_spec=argument_spec(), supports_check_mode=True
    )
    run_module(
        module,
        lambda client, _partial: find_pets(client, *parse(module.params)),
        lambda: parse(module.params),
    )


if __name__ == "__main__":
    main()
