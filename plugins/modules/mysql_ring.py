#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_ring
short_description: Replicate between the masters of a set of MySQL pets
version_added: 0.1.0
description:
  - Sets up the channel C(ring) between the masters of a set, both ways, by GTID and with TLS, and makes pets from
    O(masters) on read-only replicas that move to the other master when theirs is gone.
  - Asks all pets at the same time through the port-forward of the API server, compares, and runs only the statements
    that are missing. A second run sends none.
  - Makes the Lease that names the pets which hold every acknowledged write. The agents beside the pets decide by it who
    is the writer. Once it is there, roles follow it.
  - Never overwrites data. Masters with unrelated data, transactions that only a replica has, and pets that lost
    transactions of their own stop the run with their names. Received transactions are applied before a channel is
    changed. A pet is seeded by CLONE only when it is empty.
  - What a commit that waits for its acknowledgement could explain stops the run only when it was seen for 15 seconds.
  - A pet that does not answer is reported, and what depends on it is left alone.
  - What a writer that crashed still held unacknowledged is merged by the ring when it is back. It is named as late.
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
  clone_limit:
    description:
      - Seconds that a run waits for the CLONE of one pet at most, however well it gets on. V(0) sets no limit.
      - A copy that gets on is otherwise waited for as long as it takes, and O(wait_timeout) counts from its last
        progress on. When either is over the task fails and says how far the copy is. The pet goes on with it, and the
        next run waits for it again.
    type: int
    default: 0
  lag_limit:
    description: Seconds that a pet may lag behind before it is called degraded.
    type: int
    default: 10
  passwords_secret:
    description: Name of the Secret with the passwords. The one that the pods have when it is not given.
    type: str
  tls_secret:
    description: Name of the Secret with the authority's certificate. The one that the pods have when it is not given.
    type: str
  state:
    description: Only V(present). Replication ends with the set.
    type: str
    choices: [present]
    default: present
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.wait
  - stateful.petset.attributes
requirements:
  - PyMySQL
notes:
  - Needs the right to C(get) the StatefulSet and its two Secrets, to C(get), C(create) and C(patch) the Lease, and to
    C(get) and C(create) C(pods/portforward).
  - A pet that catches up is waited for as long as it gets on. O(wait_timeout) counts from the last time on at which it
    had fewer transactions to apply than ever.
  - With O(wait) the task ends when the ring is healthy and a writer is open, which the agents see to.
  - A CLONE that this run begins is waited for also without O(wait), and is under the same limits.
  - A stopped channel is the business of the agent beside its pet, also in check mode. It is started here only when the
    agent has left it stopped for 30 seconds, or when the set has no agents.
seealso:
  - module: stateful.petset.mysql_ring_info
  - module: stateful.petset.pet_set
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Replicate between both pets
  stateful.petset.mysql_ring:
    set: mysql

- name: Write to both pets
  stateful.petset.mysql_ring:
    set: mysql
    mode: spread
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, one line for each statement. No password is in it.
  type: list
  elements: str
  returned: always
  sample: ["mysql-0: START REPLICA FOR CHANNEL 'ring'"]
notes:
  description: What check mode cannot know.
  type: list
  elements: str
  returned: in check mode
waited_s:
  description: Seconds that the wait took.
  type: float
  returned: when it was waited for
progress:
  description: What was seen while waiting.
  type: list
  elements: str
  returned: when it was waited for
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
troubles:
  description: What is wrong or not known, each by a stable word with what mends it.
  type: list
  elements: dict
  returned: success
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
error:
  description: A stable word for the kind of failure.
  type: str
  returned: failure
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module
from ansible_collections.stateful.petset.plugins.module_utils._ring import parse_wish, run_mysql_ring


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        wait=True,
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        masters={"type": "int", "default": 2},
        mode={"type": "str", "choices": ["single_writer", "spread"], "default": "single_writer"},
        clone_threshold={"type": "int", "default": 1024},
        clone_limit={"type": "int", "default": 0},
        lag_limit={"type": "int", "default": 10},
        passwords_secret={"type": "str", "no_log": False},
        tls_secret={"type": "str", "no_log": False},
        state={"type": "str", "choices": ["present"], "default": "present"},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(
        module, lambda client, partial: run_mysql_ring(module, client, partial), lambda: parse_wish(module.params)
    )


if __name__ == "__main__":
    main()
