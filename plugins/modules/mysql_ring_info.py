#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_ring_info
short_description: Look at the replication of a set of MySQL pets
version_added: 0.1.0
description:
  - Asks all pets at the same time and tells of each its role, whether it may be written to, its transactions, its lag,
    its channel, semi-synchronous replication, and transactions that only it has. One word says what it all means.
  - Sends no write, unless O(compare) asks for more. Transactions that look lost or errant are looked at again for up to
    10 seconds, since they may only be under way; nothing else is waited for. What could not be asked is told apart from
    what is certain.
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
    description: Name of the governing service, by which pets find each other.
    type: str
    default: db
  cluster_domain:
    description: DNS domain of the cluster.
    type: str
    default: cluster.local
  masters:
    description: Number of pets, from ordinal 0 on, that may be written to. Further ones are read-only replicas.
    type: int
    default: 2
  mode:
    description:
      - With V(single_writer) one master is written to at a time, the holder of the Lease.
      - With V(spread) all masters are written to. Conflicts are found and reported, they are not prevented.
    type: str
    choices: [single_writer, spread]
    default: single_writer
  clone_threshold:
    description:
      - An empty pet is seeded by CLONE when the data to be copied is larger than this, in MiB. Below it replication
        itself brings all, as long as the binary logs still reach back to the beginning.
    type: int
    default: 1024
  lag_limit:
    description: Seconds that a pet may lag behind before it is called degraded.
    type: int
    default: 10
  compare:
    description:
      - Compare the rows of all pets as well, as the only way to see a conflicting update. Replication finds a row by
        its primary key and overwrites it, so two masters that change one row at the same time end with each other's
        values, and nothing stops.
      - Reads every row of every pet that answers, without locks and also while they are written to; what is different
        only because it is on its way is not reported.
      - Tables that differ are named, with the primary keys of some of the rows.
      - Schemas of the server and the schema C(petset) are left out, and so are columns that are VIRTUAL.
    type: bool
    default: false
  compare_limit:
    description:
      - Seconds that O(compare) may take. Small tables come first; those for which there is no time are named, and the
        judgement is V(uncertain).
    type: int
    default: 60
  passwords_secret:
    description: Name of the Secret with the passwords. The one that the pods have when it is not given.
    type: str
  tls_secret:
    description: Name of the Secret with the authority's certificate. The one that the pods have when it is not given.
    type: str
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes.info
requirements:
  - PyMySQL
seealso:
  - module: stateful.petset.mysql_ring
  - module: stateful.petset.pet_set_info
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Look at the replication
  stateful.petset.mysql_ring_info:
    set: mysql
  register: ring

- name: Look whether all pets hold the same rows
  stateful.petset.mysql_ring_info:
    set: mysql
    mode: spread
    compare: true
    compare_limit: 300
  register: compared
  failed_when: compared.judgement.word != 'healthy'

- name: Show it as a table
  ansible.builtin.debug:
    msg: "{{ ring.table.splitlines() }}"
"""

RETURN = r"""
exists:
  description: Whether the StatefulSet is there.
  type: bool
  returned: always
pets:
  description: Each pet, by ordinal, also when the task has failed.
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
    role:
      description:
        - V(writer) holds the Lease, V(standby) is a master that does not, V(master) is one of several that are written
          to, V(replica) only reads, V(unknown) could not be asked.
      type: str
    answers:
      description: Whether it could be asked.
      type: bool
    read_only:
      description: V(off), V(on), or V(super) for everybody.
      type: str
    server_uuid:
      description: Who MySQL is in there.
      type: str
    version:
      description: Version of MySQL.
      type: str
    gtid_executed:
      description: The transactions that it holds.
      type: str
    channel:
      description: State of the channel C(ring).
      type: str
    source:
      description: The pet that it replicates from.
      type: str
    lag_s:
      description: Seconds behind its source.
      type: float
    behind:
      description: Transactions that its source has and it has not.
      type: int
    semi_sync:
      description: State of semi-synchronous replication.
      type: str
    errant:
      description: Transactions that only this pet has and that nothing brings to the others.
      type: str
    late:
      description: Transactions that only this pet has so far and that its peer is about to fetch.
      type: str
    reason:
      description: What is wrong with it.
      type: str
writer:
  description: The pet that holds the Lease and is open for writes.
  type: str
  returned: always
in_sync:
  description: The pets that hold every acknowledged write.
  type: list
  elements: str
  returned: always
judgement:
  description: What it all means.
  type: dict
  returned: always
  contains:
    word:
      description:
        - V(healthy), V(degraded), V(broken) when somebody has to act, or V(uncertain) when not everything could be
          asked.
      type: str
    certain:
      description: What is wrong for certain.
      type: list
      elements: str
    uncertain:
      description: What could not be known.
      type: list
      elements: str
    notes:
      description: What is worth to know and wrong with nothing.
      type: list
      elements: str
comparison:
  description: What comparing the rows came to.
  type: dict
  returned: with O(compare), when the set is there
  contains:
    tables:
      description: Number of tables that were compared.
      type: int
    different:
      description: Tables that differ.
      type: list
      elements: dict
      contains:
        table:
          description: Schema and name.
          type: str
        pets:
          description: Lists of pets that agree among themselves.
          type: list
          elements: list
        rows:
          description: Number of rows that differ, when it is known.
          type: int
        primary_keys:
          description: Primary keys of some of them.
          type: list
          elements: str
        text:
          description: The same as a sentence.
          type: str
    not_compared:
      description: What could not be compared, and why.
      type: list
      elements: str
troubles:
  description: What is wrong or not known, each by a stable word with what mends it.
  type: list
  elements: dict
  returned: always
  contains:
    pet:
      description: Name of the pet; empty when it is about the set.
      type: str
    check:
      description: V(replication).
      type: str
    trouble:
      description:
        - A stable word, for example V(replication_duplicate_key). C(docs/roles/mysql_replication.md) has them all.
      type: str
    evidence:
      description: What was seen.
      type: str
    way_out:
      description: What mends it; empty when time does.
      type: str
summary:
  description: The word and its reasons in one line.
  type: str
  returned: always
table:
  description: The pets as a table for a terminal.
  type: str
  returned: always
api:
  description: Which API was spoken to and where that setting came from.
  type: dict
  returned: always
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module
from ansible_collections.stateful.petset.plugins.module_utils._ring import parse_wish, run_mysql_ring_info


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        masters={"type": "int", "default": 2},
        mode={"type": "str", "choices": ["single_writer", "spread"], "default": "single_writer"},
        clone_threshold={"type": "int", "default": 1024},
        lag_limit={"type": "int", "default": 10},
        compare={"type": "bool", "default": False},
        compare_limit={"type": "int", "default": 60},
        passwords_secret={"type": "str", "no_log": False},
        tls_secret={"type": "str", "no_log": False},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(
        module, lambda client, partial: run_mysql_ring_info(module, client, partial), lambda: parse_wish(module.params)
    )


if __name__ == "__main__":
    main()
