#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_proxy_info
short_description: Look at the proxies before a set of MySQL pets
version_added: 0.1.0
description:
  - Tells of each proxy whether it works, which configuration it works with, which pets it sends writes and reads to,
    and whether all proxies agree.
  - Sends no write and waits for nothing.
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
  probe:
    description:
      - Whether to ask each proxy, from within its pod, for its statistics. Without it only the pods are looked at.
      - Needs the right to create C(pods/exec).
    type: bool
    default: true
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes.info
seealso:
  - module: stateful.petset.pet_proxy
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Ask the proxies
  stateful.petset.pet_proxy_info:
    set: mysql
  register: proxies

- name: Insist that all of them send writes to one pet
  ansible.builtin.assert:
    that:
      - proxies.agree
      - proxies.writers | length == 1
"""

RETURN = r"""
exists:
  description: Whether there are proxies.
  type: bool
  returned: always
ready:
  description: Whether all of them work.
  type: bool
  returned: always
summary:
  description: All of it in a sentence.
  type: str
  returned: always
table:
  description: The proxies as a table, one line for each, and what is wrong below it.
  type: str
  returned: always
troubles:
  description: What is wrong or could not be asked, a sentence for each. Empty when all is well.
  type: list
  elements: str
  returned: always
uncertain:
  description:
    - Those of the RV(troubles) that say of a proxy that it could not be asked. It may be well; the others are certain.
  type: list
  elements: str
  returned: always
mode:
  description: V(single_writer) or V(spread).
  type: str
  returned: when there are proxies
config_hash:
  description: Hash of the configuration that all should work with.
  type: str
  returned: when there are proxies
agree:
  description: Whether all proxies send writes to the same pets. Null when not all of them could be asked.
  type: bool
  returned: when there are proxies
writers:
  description: The pets that any proxy sends writes to. Null when none could be asked.
  type: list
  elements: str
  returned: when there are proxies
readers:
  description: The pets that all proxies send reads to. Null when none could be asked.
  type: list
  elements: str
  returned: when there are proxies
shared_nodes:
  description:
    - Nodes with several of the proxies although another one would take one of them, so that a fault of one node is a
      fault of several. They work, so nothing else of the result tells it. Room on the other nodes is not looked at.
    - Where nodes may not be listed, only a node that has all of them.
  type: list
  elements: dict
  returned: when there are proxies
  contains:
    node:
      description: Name of the node.
      type: str
    pods:
      description: Names of its pods.
      type: list
      elements: str
    free:
      description: Nodes that would take one of them. Null when nodes may not be listed.
      type: list
      elements: str
    evidence:
      description: The same in a sentence.
      type: str
    way_out:
      description: What has them apart again.
      type: str
proxies:
  description: Each proxy.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the pod.
      type: str
    ready:
      description: Whether it works.
      type: bool
    reason:
      description: Why it does not.
      type: str
    pod_uid:
      description: uid of the pod.
      type: str
    node:
      description: Its node.
      type: str
    ip:
      description: Its address.
      type: str
    restarts:
      description: Restarts of its containers.
      type: int
    config_hash:
      description: Hash of the configuration that it works with.
      type: str
    mounted_hash:
      description: Hash of the file that it would load.
      type: str
    writers:
      description: The pets that it sends writes to.
      type: list
      elements: str
    readers:
      description: The pets that it sends reads to.
      type: list
      elements: str
    failure:
      description: Why it could not be asked.
      type: str
    servers:
      description:
        - What it says of each pet in the back ends V(writer) and V(reader), with C(backend), C(pet), C(up), C(status),
          C(address), C(check) (the last answer to its check), C(since_s) (seconds) and C(sessions).
      type: list
      elements: dict
api:
  description: Which API was spoken to and where that setting came from.
  type: dict
  returned: always
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module
from ansible_collections.stateful.petset.plugins.module_utils._proxy import run_pet_proxy_info


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        probe={"type": "bool", "default": True},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(module, lambda client, partial: run_pet_proxy_info(module, client, partial))


if __name__ == "__main__":
    main()
