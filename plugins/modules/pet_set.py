#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_set
short_description: Run a set of MySQL pets in Kubernetes
version_added: 0.1.0
description:
  - Makes all objects of a pet set in one call. A service account with a role of its own, the Secrets, the ConfigMap
    with the start-up program, the governing service, the clients' service, the StatefulSet and its disruption budget.
  - Volumes and claims come first, see M(stateful.petset.pet_volume). A pet without a claim is refused.
  - Everything is compared before anything is written. The task changes all it has to, or names every obstacle and
    changes nothing. A run that has nothing to change sends no write.
  - Waits until each pet is really ready, and says of each that is not why not.
  - Objects are written by server-side apply as C(stateful.petset). Fields that somebody else owns are not overwritten.
  - The pets comply with the Pod Security Standard C(restricted).
options:
  set:
    description: Name of the set, at most 52 characters. Its pets are C(<set>-0), C(<set>-1) and so on.
    type: str
    required: true
    aliases: [name]
  namespace:
    description: Namespace of the set.
    type: str
    default: default
  state:
    description:
      - V(present) makes the set as described.
      - V(absent) deletes its objects. Claims, volumes, data, the Secrets (the data needs its passwords), the ConfigMap
        that records which pets have data, the Lease that records which of them has every acknowledged write, and the
        namespace stay. The task waits until the pods are gone.
    type: str
    choices: [present, absent]
    default: present
  replicas:
    description:
      - Number of pets.
      - A number below that of the running set is refused. Taking pets away is never a side effect.
    type: int
    default: 2
  masters:
    description: Number of pets, from ordinal 0 on, that may be written to. Sets the step of the automatic numbers.
    type: int
    default: 2
  image:
    description: Image with C(mysqld). Required for O(state=present).
    type: str
  image_pull_policy:
    description: When the node asks the registry.
    type: str
    choices: [Always, IfNotPresent, Never]
    default: IfNotPresent
  image_pull_secrets:
    description: Names of Secrets with access to the registry.
    type: list
    elements: str
    default: []
  boot_files:
    description:
      - The pets' start-up program, file name to text. The role P(stateful.petset.pet_set#role) brings it.
      - Required for O(state=present). A change of it rolls the pets.
    type: dict
  agent:
    description:
      - The agent beside each C(mysqld), a sidecar. It decides, by a Lease in the API, which pet may be written to.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Whether there is one. Without it no pet is ever opened for writing by itself.
        type: bool
        default: true
      image:
        description: Any image with C(python3), 3.11 or later.
        type: str
        default: python:3.13-slim
      resources:
        description: What the agent asks for and may use, with V(requests) and V(limits) as in a pod.
        type: dict
        default: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}
  agent_files:
    description:
      - The agent's sources, file name to text. The role P(stateful.petset.pet_set#role) brings them.
      - Required for O(state=present), unless O(agent.enabled=false). A change of them rolls the pets; another PyMySQL
        where the module runs does not.
    type: dict
  service:
    description: Name of the governing service, by which pets find each other as C(<pet>.<service>).
    type: str
    default: db
  client_service:
    description: The service for clients.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Whether there is one.
        type: bool
        default: true
      name:
        description: Its name. The name of the set when it is not given.
        type: str
      type:
        description: Its type.
        type: str
        choices: [ClusterIP, NodePort, LoadBalancer]
        default: ClusterIP
      port:
        description: Its port.
        type: int
        default: 3306
      node_port:
        description: Its port on the nodes. The cluster chooses one when it is not given.
        type: int
      annotations:
        description: Annotations, for example for a load balancer.
        type: dict
        default: {}
      source_ranges:
        description: Networks that a load balancer lets in.
        type: list
        elements: str
        default: []
  cluster_domain:
    description: DNS domain of the cluster.
    type: str
    default: cluster.local
  claim_template:
    description: First part of the claims' names, C(<claim_template>-<set>-<ordinal>).
    type: str
    default: db
  capacity:
    description: Size that the claims ask for, a quantity such as V(10Gi). Cannot be changed in a running set.
    type: raw
    default: 10Gi
  storage_class:
    description: Storage class of the claims. Empty for volumes that were made beforehand, such as those on NFS.
    type: str
    default: ''
  access_mode:
    description: Access mode of the claims.
    type: str
    choices: [ReadWriteOnce, ReadWriteOncePod, ReadWriteMany]
    default: ReadWriteOnce
  resources:
    description:
      - What a pet asks for and may use. The memory limit decides the size of InnoDB's buffer pool.
    type: dict
    default: {}
    suboptions:
      requests:
        description: Quantities by resource.
        type: dict
        default: {cpu: 250m, memory: 1Gi}
      limits:
        description: Quantities by resource.
        type: dict
        default: {memory: 1Gi}
  uid:
    description: User id of C(mysqld).
    type: int
    default: 999
  gid:
    description: Group id of C(mysqld).
    type: int
    default: 999
  fs_group:
    description: Group that the volume's files are given. For block volumes only; the kubelet cannot do it on NFS.
    type: int
  termination_grace:
    description: Seconds that a pet has to shut down.
    type: int
    default: 300
  startup_timeout:
    description:
      - Seconds that a pet has until C(mysqld) runs, before it is started anew. Long enough for the lock of a dead node
        to lapse.
    type: int
    default: 3600
  update_strategy:
    description: Whether a change rolls the pets by itself, or waits until somebody deletes them.
    type: str
    choices: [RollingUpdate, OnDelete]
    default: RollingUpdate
  partition:
    description: Only pets with at least this ordinal are rolled.
    type: int
    default: 0
  min_ready:
    description: Seconds that a pet has to be ready to count as such.
    type: int
    default: 0
  server_id_base:
    description: C(server_id) of pet 0; each further pet has one more.
    type: int
    default: 1000
  durability:
    description: With V(full) an O(mysql_config) that could lose an acknowledged write is refused.
    type: str
    choices: [full, relaxed]
    default: full
  mysql_config:
    description:
      - Settings of C(mysqld), name to value. Those that make the pet this pet, or that keep transactions from it, are
        refused.
      - A change rolls the pets.
    type: dict
    default: {}
  passwords:
    description:
      - Passwords of the collection's own accounts. One that is not given is made once and kept.
      - A value that differs from the stored one is refused, because it would not change the account in MySQL.
    type: dict
    default: {}
    suboptions:
      root:
        description: Password of C(root), which can log in inside of the pod only.
        type: raw
      replication:
        description: Password for replication, at most 32 bytes.
        type: raw
      admin:
        description: Password of the account that the collection itself uses.
        type: raw
      agent:
        description: Password of the agent beside the server.
        type: raw
  app:
    description: An account and a schema for an application, made when a pet is initialised.
    type: dict
    suboptions:
      user:
        description: Name of the account.
        type: str
        required: true
      password:
        description: Its password. Made once and kept when it is not given.
        type: raw
      database:
        description: Its schema. The name of the account when it is not given.
        type: str
  passwords_secret:
    description:
      - Name of a Secret that you keep yourself, with the keys V(root-password), V(replication-password),
        V(admin-password) and V(agent-password), and with O(app) also V(app-user), V(app-password) and V(app-database).
    type: str
  tls_secret:
    description:
      - Name of a Secret that you keep yourself, with the keys V(ca.crt), V(tls.crt) and V(tls.key). Without it an
        authority and a certificate are made once with C(openssl) where the module runs.
    type: str
  tls_days:
    description: Days that a certificate made here is valid.
    type: int
    default: 3650
  store_changed_passwords:
    description: Store the values of O(passwords) although others are stored. Only after the accounts were changed.
    type: bool
    default: false
  labels:
    description: Labels for all objects.
    type: dict
    default: {}
  pod_labels:
    description: Labels for the pods. A change rolls the pets.
    type: dict
    default: {}
  pod_annotations:
    description: Annotations for the pods. A change rolls the pets.
    type: dict
    default: {}
  env:
    description: Variables of the environment for the pets. Numbers have to be quoted.
    type: dict
    default: {}
  node_selector:
    description: Labels of the nodes that may run pets.
    type: dict
    default: {}
  tolerations:
    description: Taints that the pets tolerate, as in a pod.
    type: list
    elements: dict
    default: []
  priority_class:
    description: Priority class of the pods.
    type: str
  create_namespace:
    description: Whether to make the namespace when it is missing.
    type: bool
    default: false
  namespace_labels:
    description: Labels for a namespace that is made here. An existing one is never changed.
    type: dict
    default: {}
  adopt:
    description:
      - Objects, as V(Kind/name), that exist, were not made by this collection and are handed over to it. Others of that
        kind are refused by name.
    type: list
    elements: str
    default: []
  force_conflicts:
    description: Take over fields that another manager owns. Without it such a field is an error that names both.
    type: bool
    default: false
  recreate:
    description:
      - V(orphan) allows the StatefulSet to be deleted around its running pods and made anew, when the claim template or
        the pod management policy has to change. Pods, claims and data stay.
    type: str
    choices: [never, orphan]
    default: never
  heal_stuck_pods:
    description:
      - Whether pods that hold a roll-out up are deleted. These are pods of an old revision that are not ready for
        10 seconds and would be replaced anyway. A ready pod is never deleted.
    type: bool
    default: true
  nodes_off:
    description:
      - Names of nodes that are surely off, powered down or fenced. Their pets wait for them otherwise, since nobody but
        a person can know whether a node that is silent still runs and writes.
      - Such a node gets the taint C(node.kubernetes.io/out-of-service=nodeshutdown:NoExecute) when it holds a pet, by
        which Kubernetes lets go of all its pods. The pet starts on another node once the NFS server has freed the old
        locks. No pod is deleted by force.
      - A node that is Ready, or that is not there, is refused. Take the taint off once the node is back.
      - With O(state=absent) the pods of such a node go as well; else they stay until it is back.
      - Needs the right to patch nodes.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.wait
  - stateful.petset.attributes
seealso:
  - module: stateful.petset.pet_volume
  - module: stateful.petset.pet_set_info
requirements:
  - PyMySQL, unless O(agent.enabled=false). It goes into the agent's zip.
  - openssl, unless O(tls_secret) is given or the certificate is there already
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Run two pets on the claims that were made for them
  stateful.petset.pet_set:
    set: mysql
    image: mysql:8.4
    boot_files: "{{ start_up_program }}"
    agent_files: "{{ sources_of_the_agent }}"
    capacity: 10Gi
    resources:
      requests: {cpu: 500m, memory: 2Gi}
      limits: {memory: 2Gi}
    mysql_config:
      max_connections: 400

- name: Take the set away and keep its data
  stateful.petset.pet_set:
    set: mysql
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, one line for each object. No value of a Secret is in it.
  type: list
  elements: str
  returned: always
  sample: ["create Service default/db", "update StatefulSet default/mysql (.spec.replicas)"]
pets:
  description: Each pet as last seen, also when the task has failed.
  type: list
  elements: dict
  returned: when the set was waited for, and in check mode when it exists
  contains:
    name:
      description: Name of the pod.
      type: str
    ordinal:
      description: Its ordinal.
      type: int
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
      description: uid of the pod, another one after each replacement.
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
      description: Whether it runs an older template, as a partition or V(OnDelete) allows.
      type: bool
    restarts:
      description: Restarts of its containers.
      type: int
    server_uuid:
      description: Who MySQL is in there.
      type: str
ready:
  description: Whether all pets are ready.
  type: bool
  returned: when the set was waited for, and in check mode when it exists
notes:
  description: What check mode cannot know.
  type: list
  elements: str
  returned: in check mode
waited_s:
  description: Seconds that the wait took.
  type: float
  returned: when the set was waited for
restarts_pets:
  description: Whether the change rolls the pets.
  type: bool
  returned: O(state=present)
kept:
  description: What was left where it is, with O(state=absent).
  type: list
  elements: str
  returned: O(state=absent)
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
from ansible_collections.stateful.petset.plugins.module_utils._pet_set import run_pet_set


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        wait=True,
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        replicas={"type": "int", "default": 2},
        masters={"type": "int", "default": 2},
        image={"type": "str"},
        image_pull_policy={"type": "str", "choices": ["Always", "IfNotPresent", "Never"], "default": "IfNotPresent"},
        image_pull_secrets={"type": "list", "elements": "str", "default": [], "no_log": False},
        boot_files={"type": "dict"},
        agent={
            "type": "dict",
            "default": {},
            "options": {
                "enabled": {"type": "bool", "default": True},
                "image": {"type": "str", "default": "python:3.13-slim"},
                "resources": {
                    "type": "dict",
                    "default": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                },
            },
        },
        agent_files={"type": "dict"},
        service={"type": "str", "default": "db"},
        client_service={
            "type": "dict",
            "default": {},
            "options": {
                "enabled": {"type": "bool", "default": True},
                "name": {"type": "str"},
                "type": {"type": "str", "choices": ["ClusterIP", "NodePort", "LoadBalancer"], "default": "ClusterIP"},
                "port": {"type": "int", "default": 3306},
                "node_port": {"type": "int"},
                "annotations": {"type": "dict", "default": {}},
                "source_ranges": {"type": "list", "elements": "str", "default": []},
            },
        },
        cluster_domain={"type": "str", "default": "cluster.local"},
        claim_template={"type": "str", "default": "db"},
        capacity={"type": "raw", "default": "10Gi"},
        storage_class={"type": "str", "default": ""},
        access_mode={
            "type": "str",
            "choices": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"],
            "default": "ReadWriteOnce",
        },
        resources={
            "type": "dict",
            "default": {},
            "options": {
                "requests": {"type": "dict", "default": {"cpu": "250m", "memory": "1Gi"}},
                "limits": {"type": "dict", "default": {"memory": "1Gi"}},
            },
        },
        uid={"type": "int", "default": 999},
        gid={"type": "int", "default": 999},
        fs_group={"type": "int"},
        termination_grace={"type": "int", "default": 300},
        startup_timeout={"type": "int", "default": 3600},
        update_strategy={"type": "str", "choices": ["RollingUpdate", "OnDelete"], "default": "RollingUpdate"},
        partition={"type": "int", "default": 0},
        min_ready={"type": "int", "default": 0},
        server_id_base={"type": "int", "default": 1000},
        durability={"type": "str", "choices": ["full", "relaxed"], "default": "full"},
        mysql_config={"type": "dict", "default": {}},
        passwords={
            "type": "dict",
            "default": {},
            "no_log": False,
            "options": {
                "root": {"type": "raw", "no_log": True},
                "replication": {"type": "raw", "no_log": True},
                "admin": {"type": "raw", "no_log": True},
                "agent": {"type": "raw", "no_log": True},
            },
        },
        app={
            "type": "dict",
            "options": {
                "user": {"type": "str", "required": True},
                "password": {"type": "raw", "no_log": True},
                "database": {"type": "str"},
            },
        },
        passwords_secret={"type": "str", "no_log": False},
        tls_secret={"type": "str", "no_log": False},
        tls_days={"type": "int", "default": 3650},
        store_changed_passwords={"type": "bool", "default": False, "no_log": False},
        labels={"type": "dict", "default": {}},
        pod_labels={"type": "dict", "default": {}},
        pod_annotations={"type": "dict", "default": {}},
        env={"type": "dict", "default": {}},
        node_selector={"type": "dict", "default": {}},
        tolerations={"type": "list", "elements": "dict", "default": []},
        priority_class={"type": "str"},
        create_namespace={"type": "bool", "default": False},
        namespace_labels={"type": "dict", "default": {}},
        adopt={"type": "list", "elements": "str", "default": []},
        force_conflicts={"type": "bool", "default": False},
        recreate={"type": "str", "choices": ["never", "orphan"], "default": "never"},
        heal_stuck_pods={"type": "bool", "default": True},
        nodes_off={"type": "list", "elements": "str", "default": []},
    )


def main() -> None:
    module: Any = KubeModule(  # type: ignore[no-untyped-call]
        argument_spec=argument_spec(),
        required_if=[("state", "present", ["image", "boot_files"])],
        supports_check_mode=True,
    )
    run_module(module, lambda client, partial: run_pet_set(module, client, partial))


if __name__ == "__main__":
    main()
