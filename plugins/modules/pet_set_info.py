#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_set_info
short_description: Look at a set of MySQL pets
version_added: 0.1.0
description:
  - Tells of each pet its ordinal, node, pod, claim, volume and export, whether it is ready, and why not.
  - Sends no write and waits for nothing. What may not be read is left out.
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
    description: First part of the claims' names, for a set without a claim template.
    type: str
    default: db
  probe:
    description:
      - Whether to look from within each ready pet as well, how the kernel has mounted its volume, and whether its
        peers' names lead to them and their servers answer there with MySQL's greeting.
      - Needs the right to create C(pods/exec).
    type: bool
    default: false
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes.info
seealso:
  - module: stateful.petset.pet_set
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Look at the pets
  stateful.petset.pet_set_info:
    set: mysql
  register: mysql

- name: Show them as a table
  ansible.builtin.debug:
    msg: "{{ mysql.table.splitlines() }}"
"""

RETURN = r"""
exists:
  description: Whether the StatefulSet is there.
  type: bool
  returned: always
ready:
  description: Whether all its pets are ready.
  type: bool
  returned: always
summary:
  description: What is missing, in one line.
  type: str
  returned: when the set exists
replicas:
  description: How many pets it should have.
  type: int
  returned: when the set exists
strategy:
  description: Its update strategy.
  type: str
  returned: when the set exists
partition:
  description: Pets below this ordinal are not rolled.
  type: int
  returned: when the set exists
update_revision:
  description: The newest revision of its template.
  type: str
  returned: when the set exists
claim_template:
  description: First part of its claims' names, that of its claim template, or O(claim_template) where it has none.
  type: str
  returned: when the set exists
table:
  description: The pets as a table for a terminal.
  type: str
  returned: always
shared_nodes:
  description:
    - Nodes with several of the pets although another one would take one of them, so that a fault of one node is a
      fault of several. They work, so nothing else of the result tells it. Room on the other nodes is not looked at.
    - Where nodes may not be listed, only a node that has all of them.
  type: list
  elements: dict
  returned: when the set exists
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
pets:
  description: Each pet, by ordinal.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the pod.
      type: str
    ordinal:
      description: Its ordinal.
      type: int
    dns:
      description: Its name in DNS.
      type: str
    ready:
      description: Whether it is ready at a revision that it may have.
      type: bool
    trouble:
      description: A stable word for what is wrong, V(none) when nothing is.
      type: str
    reason:
      description: The same in a sentence.
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
    revision:
      description: Revision of its template.
      type: str
    outdated:
      description: Whether it runs an older template.
      type: bool
    restarts:
      description: Restarts of its containers.
      type: int
    pod_index:
      description: Its ordinal as the pod's label has it.
      type: str
    server_uuid:
      description: Who MySQL is in there.
      type: str
    claim:
      description:
        - The claim that its pod uses, none when the pod has no volume of that template. Without a pod, the one that
          would be its own.
      type: str
    claim_phase:
      description: Phase of the claim, V(missing) when there is none.
      type: str
    volume:
      description: Its volume.
      type: str
    volume_phase:
      description: Phase of the volume.
      type: str
    bound_both_ways:
      description: Whether the volume belongs to this very claim, and not to an older one of its name.
      type: bool
    claim_uid:
      description: uid of the claim.
      type: str
    claim_owner:
      description: The C(namespace), C(set) and C(ordinal) that the claim's labels name, as far as it has them.
      type: dict
    volume_claim_uid:
      description: uid of the claim that the volume is bound to.
      type: str
    volume_owner:
      description: The same as C(claim_owner), of the volume's labels.
      type: dict
    export:
      description: Server and path of the volume, when it is on NFS.
      type: str
    mount_options:
      description: Mount options of the volume.
      type: list
      elements: str
    capacity:
      description: Capacity of the volume.
      type: str
    mount:
      description:
        - Type, source and options of the mount as the kernel has it. For NFS also C(pnfs), the layout driver that is in
          use or V(not configured), none when the kernel does not tell, and C(layouts), how many were asked for.
      type: dict
      returned: with O(probe), for ready pets
    storage:
      description:
        - How the volume answered. C(size) and C(file) are V(ok), V(silent) or an error, of asking for its size and of
          opening a file; C(free_bytes) is the space that is left. C(write) is V(ok), V(refused) or V(unknown), whether
          the pet may write there; nothing is written. C(server_uuid) is what the identity file on it says.
      type: dict
      returned: with O(probe), for ready pets
    dns_ok:
      description: Whether all peers' names lead to their pods.
      type: bool
      returned: with O(probe), for ready pets
    dns_wrong:
      description: Names that do not, with the addresses that they lead to.
      type: dict
      returned: with O(probe), for ready pets
    ping_ok:
      description: Whether the servers of all peers answer by these names, with their greeting and to a question in SQL.
      type: bool
      returned: with O(probe), for ready pets
    ping:
      description: The version that each peer answered with, or V(failed).
      type: dict
      returned: with O(probe), for ready pets
    sql:
      description:
        - How each peer answered a question in SQL, asked as the account of the replication. V(ok), what was said
          instead, or V(unknown) when the peer sent no greeting or the image has no C(mysql) to ask with.
      type: dict
      returned: with O(probe), for ready pets
    probe_failure:
      description: Why nothing could be run in the pet.
      type: str
      returned: with O(probe), for ready pets
api:
  description: Which API was spoken to and where that setting came from.
  type: dict
  returned: always
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module
from ansible_collections.stateful.petset.plugins.module_utils._pet_set import run_pet_set_info


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        claim_template={"type": "str", "default": "db"},
        probe={"type": "bool", "default": False},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(module, lambda client, partial: run_pet_set_info(module, client, partial))


if __name__ == "__main__":
    main()
