#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_proxy
short_description: Run HAProxy before a set of MySQL pets
version_added: 0.1.0
description:
  - Makes the proxies of a pet set in one call. A ConfigMap with the configuration, a Deployment, its disruption budget,
    the service for clients and a service for statistics.
  - Clients come to one port for writes and to another for reads. A pet gets traffic while the agent beside it answers
    C(/writer) or C(/reader) with status 200, and loses its sessions at the first other answer. Nothing falls back to a
    pet that returns.
  - Does not use C(mysql-check), which cannot log in to MySQL 8.4 and later. Plain connections are not made either, so
    MySQL does not block the proxies' address after many of them.
  - A new configuration is tried by a running proxy before it is written, and by each new pod before it starts. When
    pets are added, the proxies load it one after the other, and sessions go on.
  - Everything is compared before anything is written. A run that has nothing to change sends no write.
  - The pods comply with the Pod Security Standard C(restricted). No password is in the configuration.
options:
  set:
    description: Name of the set, at most 52 characters.
    type: str
    required: true
    aliases: [name]
  namespace:
    description: Namespace of the set.
    type: str
    default: default
  state:
    description: Whether the proxies are there. With V(absent) clients can reach the pets by their own services only.
    type: str
    choices: [present, absent]
    default: present
  replicas:
    description: Number of pets.
    type: int
    default: 2
  masters:
    description: Number of pets, from ordinal 0 on, that may be written to.
    type: int
    default: 2
  mode:
    description:
      - With V(single_writer) one pet takes all writes, and should two ever offer that, all proxies choose the same one.
      - With V(spread) writes go to all pets that offer to take them, to the one with the fewest connections.
    type: str
    choices: [single_writer, spread]
    default: single_writer
  service:
    description: Name of the governing service, to which the pets' names belong.
    type: str
    default: db
  cluster_domain:
    description: DNS domain of the cluster.
    type: str
    default: cluster.local
  image:
    description: Image with HAProxy 3.2 or later, a shell, and one of C(bash), C(curl) and C(wget).
    type: str
    default: haproxy:3.2
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
  proxies:
    description: Number of proxies.
    type: int
    default: 2
  client_service:
    description: The service for clients.
    type: dict
    default: {}
    suboptions:
      name:
        description: Its name. The name of the set with C(-proxy) when it is not given.
        type: str
      type:
        description: Its type.
        type: str
        choices: [ClusterIP, NodePort, LoadBalancer]
        default: ClusterIP
      port:
        description: Its port for writes.
        type: int
        default: 3306
      read_port:
        description: Its port for reads, answered by every pet that has caught up.
        type: int
        default: 3307
      node_port:
        description: The nodes' port for writes. The cluster chooses one when it is not given.
        type: int
      read_node_port:
        description: The nodes' port for reads. The cluster chooses one when it is not given.
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
  stats_service:
    description: The service for the page C(/stats) and for Prometheus at C(/metrics), port 8404, inside of the cluster.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Whether there is one.
        type: bool
        default: true
      name:
        description: Its name. The name of the set with C(-stats) when it is not given.
        type: str
      annotations:
        description: Annotations, for example those by which a Prometheus finds it.
        type: dict
        default: {}
  resources:
    description: What a proxy asks for and may use.
    type: dict
    default: {}
    suboptions:
      requests:
        description: Quantities by resource.
        type: dict
        default: {cpu: 100m, memory: 64Mi}
      limits:
        description: Quantities by resource.
        type: dict
        default: {memory: 256Mi}
  timeouts:
    description: Times of HAProxy. The defaults fit the agent's.
    type: dict
    default: {}
    suboptions:
      check_ms:
        description: Milliseconds between two checks of a pet.
        type: int
        default: 200
      check_answer_ms:
        description: Milliseconds that the agent has for its answer.
        type: int
        default: 1000
      connect_ms:
        description: Milliseconds for a connection to a pet.
        type: int
        default: 250
      waiting_ms:
        description: Milliseconds that a client is held which comes while no pet is open, before it is turned away.
        type: int
        default: 1000
      idle:
        description: Seconds of silence after which a session ends. Longer than MySQL's C(wait_timeout), 8 hours.
        type: int
        default: 29400
      old_sessions:
        description: Seconds that sessions may go on after a new configuration was loaded.
        type: int
        default: 29400
  max_connections:
    description: Most connections of one proxy.
    type: int
    default: 4000
  threads:
    description: Most threads of one proxy. It takes no more than its node has processors.
    type: int
    default: 2
  ip_family:
    description: Whether the pets have IPv4 or IPv6 addresses. With V(ipv6) clients may come by both.
    type: str
    choices: [ipv4, ipv6]
    default: ipv4
  uid:
    description: User id of the proxies.
    type: int
    default: 99
  gid:
    description: Group id of the proxies.
    type: int
    default: 99
  termination_grace:
    description: Seconds that a proxy which has to go leaves to its clients.
    type: int
    default: 60
  labels:
    description: Labels for all objects. A change restarts the proxies.
    type: dict
    default: {}
  pod_labels:
    description: Labels for the pods. A change restarts the proxies.
    type: dict
    default: {}
  pod_annotations:
    description: Annotations for the pods. A change restarts the proxies.
    type: dict
    default: {}
  node_selector:
    description: Labels of the nodes that may run proxies.
    type: dict
    default: {}
  tolerations:
    description: Taints that the proxies tolerate, as in a pod.
    type: list
    elements: dict
    default: []
  priority_class:
    description: Priority class of the pods.
    type: str
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
  probe:
    description:
      - Whether to ask the proxies, when they work, which pets they send writes and reads to, as
        M(stateful.petset.pet_proxy_info) does; in check mode those that run.
      - Without the right to create C(pods/exec) nothing is known of it, which is no failure.
    type: bool
    default: false
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.wait
  - stateful.petset.attributes
seealso:
  - module: stateful.petset.pet_set
  - module: stateful.petset.pet_proxy_info
author:
  - stateful.petset contributors (@stateful-petset)
"""

EXAMPLES = r"""
- name: Two proxies on a port of every node
  stateful.petset.pet_proxy:
    set: mysql
    replicas: 2
    client_service:
      type: NodePort
      node_port: 30306
      read_node_port: 30307

- name: Offer a third pet for reads, without cutting a session
  stateful.petset.pet_proxy:
    set: mysql
    replicas: 3
    masters: 2
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, one line for each object and each reload.
  type: list
  elements: str
  returned: always
  sample: ["update ConfigMap default/mysql-haproxy (.data[haproxy.cfg])", "reload HAProxy in Pod default/mysql-haproxy"]
config_hash:
  description: Hash of the configuration, as each proxy tells it at C(/config-hash) on its port 8404.
  type: str
  returned: O(state=present)
proxies:
  description: Each proxy as last seen.
  type: list
  elements: dict
  returned: when they were waited for, and in check mode when they exist
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
ready:
  description: Whether all proxies work.
  type: bool
  returned: when they were waited for, and in check mode when they exist
agree:
  description: Whether all proxies send writes to the same pets. Null when not all of them could be asked.
  type: bool
  returned: when they were asked (O(probe))
writers:
  description: The pets that any proxy sends writes to. Null when none could be asked.
  type: list
  elements: str
  returned: when they were asked (O(probe))
readers:
  description: The pets that all proxies send reads to. Null when none could be asked.
  type: list
  elements: str
  returned: when they were asked (O(probe))
troubles:
  description: What is wrong with what they say, or could not be asked, a sentence for each.
  type: list
  elements: str
  returned: when they were asked (O(probe))
uncertain:
  description:
    - Those of the RV(troubles) that say of a proxy that it could not be asked. It may be well; the others are certain.
  type: list
  elements: str
  returned: when they were asked (O(probe))
notes:
  description: What check mode cannot know.
  type: list
  elements: str
  returned: in check mode
waited_s:
  description: Seconds that the wait took.
  type: float
  returned: when they were waited for
restarts_proxies:
  description: Whether the change replaces the pods, and not only what they have loaded.
  type: bool
  returned: O(state=present)
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
from ansible_collections.stateful.petset.plugins.module_utils._proxy import run_pet_proxy


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        wait=True,
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        replicas={"type": "int", "default": 2},
        masters={"type": "int", "default": 2},
        mode={"type": "str", "choices": ["single_writer", "spread"], "default": "single_writer"},
        service={"type": "str", "default": "db"},
        cluster_domain={"type": "str", "default": "cluster.local"},
        image={"type": "str", "default": "haproxy:3.2"},
        image_pull_policy={"type": "str", "choices": ["Always", "IfNotPresent", "Never"], "default": "IfNotPresent"},
        image_pull_secrets={"type": "list", "elements": "str", "default": [], "no_log": False},
        proxies={"type": "int", "default": 2},
        client_service={
            "type": "dict",
            "default": {},
            "options": {
                "name": {"type": "str"},
                "type": {"type": "str", "choices": ["ClusterIP", "NodePort", "LoadBalancer"], "default": "ClusterIP"},
                "port": {"type": "int", "default": 3306},
                "read_port": {"type": "int", "default": 3307},
                "node_port": {"type": "int"},
                "read_node_port": {"type": "int"},
                "annotations": {"type": "dict", "default": {}},
                "source_ranges": {"type": "list", "elements": "str", "default": []},
            },
        },
        stats_service={
            "type": "dict",
            "default": {},
            "options": {
                "enabled": {"type": "bool", "default": True},
                "name": {"type": "str"},
                "annotations": {"type": "dict", "default": {}},
            },
        },
        resources={
            "type": "dict",
            "default": {},
            "options": {
                "requests": {"type": "dict", "default": {"cpu": "100m", "memory": "64Mi"}},
                "limits": {"type": "dict", "default": {"memory": "256Mi"}},
            },
        },
        timeouts={
            "type": "dict",
            "default": {},
            "options": {
                "check_ms": {"type": "int", "default": 200},
                "check_answer_ms": {"type": "int", "default": 1000},
                "connect_ms": {"type": "int", "default": 250},
                "waiting_ms": {"type": "int", "default": 1000},
                "idle": {"type": "int", "default": 29400},
                "old_sessions": {"type": "int", "default": 29400},
            },
        },
        max_connections={"type": "int", "default": 4000},
        threads={"type": "int", "default": 2},
        ip_family={"type": "str", "choices": ["ipv4", "ipv6"], "default": "ipv4"},
        uid={"type": "int", "default": 99},
        gid={"type": "int", "default": 99},
        termination_grace={"type": "int", "default": 60},
        labels={"type": "dict", "default": {}},
        pod_labels={"type": "dict", "default": {}},
        pod_annotations={"type": "dict", "default": {}},
        node_selector={"type": "dict", "default": {}},
        tolerations={"type": "list", "elements": "dict", "default": []},
        priority_class={"type": "str"},
        adopt={"type": "list", "elements": "str", "default": []},
        force_conflicts={"type": "bool", "default": False},
        probe={"type": "bool", "default": False},
    )


def main() -> None:
    module: Any = KubeModule(  # type: ignore[no-untyped-call]
        argument_spec=argument_spec(), supports_check_mode=True
    )
    run_module(module, lambda client, partial: run_pet_proxy(module, client, partial))


if __name__ == "__main__":
    main()
