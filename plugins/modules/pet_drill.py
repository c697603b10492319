#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_drill
short_description: Stage a crash of a pet under a light workload, and prove what came of it
version_added: 0.1.0
description:
  - Stages a crash while a workload writes where clients connect, and proves that every pet came back as itself, that
    every acknowledged row is on every pet, and how long clients had no write.
  - What was proven is recorded in an annotation of the StatefulSet. A drill that was proven for the present revision
    and is younger than O(max_age) is not run again.
  - A drill has steps, since a hook of the user's may have to stage the crash between them. Use the role
    P(stateful.petset.recovery_check#role), which takes them in their order and heals when a run was killed between two.
  - The drill under way is an annotation of the StatefulSet as well. Only one run at a time can have a drill.
  - It writes to a table of its own in the database C(petset), by an account that may insert there alone. Both, and the
    workload's pod, are taken away at the end.
options:
  step:
    description:
      - V(plan) looks, and says whether the drill has to be run.
      - V(begin) refuses when the set is not healthy, in a forbidden window, and in production without O(confirm);
        then it starts the workload and waits until rows are acknowledged.
      - V(crash) stages the crash. For V(node_power_off) and V(nfs_restart) it notes the time, what follows stages it.
      - V(prove) waits until everything is well again, within O(limit), reads all, judges, records and cleans up. A
        drill that proves nothing is no failure of this step, see RV(proven).
      - V(abandon) ends a drill that an earlier run did not end. It waits until the set is healthy, cleans up, and
        records that the drill was interrupted. What a hook has staged has to be healed before. Of a drill that was
        judged and could not be cleaned up after, the record stays as it is.
    type: str
    required: true
    choices: [plan, begin, crash, prove, abandon]
  kind:
    description:
      - V(pod_delete) deletes the pod.
      - V(mysqld_kill) kills mysqld by SIGKILL. It is the first process of its container, which ends with it.
      - V(container_kill) does the same to all containers of the pod, mysqld's and its agent's, at once.
      - V(both_pets) deletes the pods of all pets at once and lets them be killed in the middle of their shutdown.
      - V(node_power_off) and V(nfs_restart) are staged by somebody else between the steps V(crash) and V(prove).
    type: str
    required: true
    choices: [pod_delete, mysqld_kill, container_kill, both_pets, node_power_off, nfs_restart]
  pet:
    description:
      - The pet to hit, V(writer) for whoever clients write to. Not looked at where all are hit.
    type: str
    default: writer
  drill_id:
    description:
      - The RV(drill.id) that the step V(begin) returned; for the steps V(crash) and V(prove).
      - With the step V(abandon), no other drill than that is ended.
    type: str
  max_age:
    description: For how many seconds a proof is good.
    type: int
    default: 604800
  limit:
    description: Seconds within which everything has to be well again.
    type: int
    default: 300
  dns_ttl:
    description: Seconds for which the cluster's DNS may give an old answer.
    type: int
    default: 30
  production:
    description:
      - Whether the set is in production. Without it, it is when the StatefulSet or its namespace has the label
        C(stateful.petset/production) with the value V(true), or when the namespace may not be read.
    type: bool
  confirm:
    description: In production, V(<namespace>/<set>) of the set that may be hit.
    type: str
    default: ""
  forbidden_windows:
    description:
      - Times in which no drill may begin or go on, as V(mon-fri 08:00-18:00), V(sat,sun 00:00-24:00) or
        V(22:00-02:00). A drill may last for O(limit).
    type: list
    elements: str
    default: []
  timezone:
    description: Time zone of O(forbidden_windows).
    type: str
    default: UTC
  program:
    description: Text of the workload's program, as the role hands it on; for the step V(begin).
    type: str
  client_host:
    description: Where clients connect, by default the service of the proxies.
    type: str
  client_port:
    description: The port there.
    type: int
    default: 3306
  proxies:
    description: Whether the proxies have to be healthy as well.
    type: bool
    default: true
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
    description: Name of the governing service.
    type: str
    default: db
  cluster_domain:
    description: DNS domain of the cluster.
    type: str
    default: cluster.local
  claim_template:
    description: First part of the claims' names. By default that of the set's claim template.
    type: str
  masters:
    description: Number of pets, from ordinal 0 on, that may be written to.
    type: int
    default: 2
  mode:
    description: Whether one master is written to at a time, or all of them.
    type: str
    choices: [single_writer, spread]
    default: single_writer
  lag_limit:
    description: Seconds that a pet may be behind.
    type: int
    default: 10
  progress_file:
    description: File to which a line is added whenever something changes during a wait.
    type: path
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.attributes
attributes:
  diff_mode:
    support: none
    details:
      - What a drill changes is gone at its end, save for the record, which is in the result.
  idempotent:
    support: partial
    details:
      - A drill that is proven is not run again; one that failed is.
seealso:
  - module: stateful.petset.pet_recovery
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Look whether the drill has to be run
  stateful.petset.pet_drill:
    step: plan
    kind: mysqld_kill
    set: mysql
  register: plan

- name: Let the workload write
  stateful.petset.pet_drill:
    step: begin
    kind: mysqld_kill
    set: mysql
    program: "{{ lookup('ansible.builtin.file', 'workload.py') }}"
  register: begun
  when: plan.decision == 'run'

- name: Kill the writer's mysqld
  stateful.petset.pet_drill:
    step: crash
    kind: mysqld_kill
    set: mysql
    drill_id: "{{ begun.drill.id }}"
  when: begun is not skipped

- name: Prove what came of it
  stateful.petset.pet_drill:
    step: prove
    kind: mysqld_kill
    set: mysql
    drill_id: "{{ begun.drill.id }}"
  register: proof
  when: begun is not skipped
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a line each.
  type: list
  elements: str
  returned: always
decision:
  description:
    - V(nothing) when it is proven, V(heal) when another drill did not end or was not cleaned up after, else V(run).
  type: str
  returned: with the steps plan, begin and abandon
why:
  description: The reason for it.
  type: str
  returned: with the steps plan, begin and abandon
record:
  description: What is recorded of this drill.
  type: dict
  returned: with all steps but crash
  contains:
    kind:
      description: What was staged.
      type: str
    pet:
      description: The pet as it was asked for.
      type: str
    revision:
      description: The set's revision.
      type: str
    at:
      description: When it ended, in UTC.
      type: str
    verdict:
      description: V(proven), V(failed), V(unknown) or V(interrupted).
      type: str
    summary:
      description: One line.
      type: str
    figures:
      description: The figures.
      type: dict
under_way:
  description: The drill that did not end or was not cleaned up after, as RV(drill).
  type: dict
  returned: with the steps plan, begin and abandon
drill:
  description: The drill.
  type: dict
  returned: with the steps begin, crash and prove, unless there is nothing to do
  contains:
    id:
      description: For the next steps.
      type: str
    kind:
      description: What is staged.
      type: str
    pet:
      description: The pet as it was asked for.
      type: str
    pets:
      description: The pets that are hit.
      type: list
      elements: str
    nodes:
      description: The nodes they were on.
      type: list
      elements: str
    began:
      description: When it began, in UTC.
      type: str
    struck:
      description: When the crash was staged.
      type: str
    ended:
      description: The verdict that is recorded, where only the cleaning up is left; else empty.
      type: str
proven:
  description: Whether all findings are right and known.
  type: bool
  returned: with the step prove
verdict:
  description: V(proven), V(failed) or V(unknown).
  type: str
  returned: with the step prove
summary:
  description: One line.
  type: str
  returned: with the step prove
checks:
  description: The findings.
  type: list
  elements: dict
  returned: with the step prove
  contains:
    name:
      description: What was looked at.
      type: str
    verdict:
      description: V(true), V(false) or V(unknown).
      type: str
    evidence:
      description: What was seen, when it was not right.
      type: list
      elements: str
figures:
  description:
    - Counts of writes, and times in seconds.
    - C(gap_s) is the longest time without an acknowledged write, C(first_write_s) the time from the crash to the first
      one after that, C(recovered_s) the time until everything was judged well.
  type: dict
  returned: with the step prove
report:
  description:
    - The same as a page, as V(html), V(markdown) and V(json), and the timeline as V(svg), empty without matplotlib. The
      page holds the picture, or says what to install, and needs no other file and no network.
  type: dict
  returned: with the step prove
report_name:
  description: A name for its files.
  type: str
  returned: with the step prove
notes:
  description: What is missing in the report.
  type: list
  elements: str
  returned: with the step prove
api:
  description: Which API was spoken to and where that setting came from.
  type: dict
  returned: always
"""

from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._drill import parse_drill_wish, run_pet_drill
from ansible_collections.stateful.petset.plugins.module_utils._module import KubeModule, kube_argument_spec, run_module

KINDS = ["pod_delete", "mysqld_kill", "container_kill", "both_pets", "node_power_off", "nfs_restart"]


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        step={"type": "str", "required": True, "choices": ["plan", "begin", "crash", "prove", "abandon"]},
        kind={"type": "str", "required": True, "choices": KINDS},
        pet={"type": "str", "default": "writer"},
        drill_id={"type": "str"},
        max_age={"type": "int", "default": 604800},
        limit={"type": "int", "default": 300},
        dns_ttl={"type": "int", "default": 30},
        production={"type": "bool"},
        confirm={"type": "str", "default": ""},
        forbidden_windows={"type": "list", "elements": "str", "default": []},
        timezone={"type": "str", "default": "UTC"},
        program={"type": "str"},
        client_host={"type": "str"},
        client_port={"type": "int", "default": 3306},
        proxies={"type": "bool", "default": True},
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        claim_template={"type": "str"},
        masters={"type": "int", "default": 2},
        mode={"type": "str", "choices": ["single_writer", "spread"], "default": "single_writer"},
        lag_limit={"type": "int", "default": 10},
        progress_file={"type": "path"},
    )


def main() -> None:
    module: Any = KubeModule(argument_spec=argument_spec(), supports_check_mode=True)  # type: ignore[no-untyped-call]
    run_module(
        module,
        lambda client, partial: run_pet_drill(module, client, partial),
        lambda: parse_drill_wish(module.params),
    )


if __name__ == "__main__":
    main()
