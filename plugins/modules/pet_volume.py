#!/usr/bin/python
# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pet_volume
short_description: A volume and a claim for each pet of a set
version_added: 0.1.0
author:
  - stateful.petset contributors (@stateful-petset)
description:
  - Makes, for every pet of a set in one call, a PersistentVolume on NFS and the PersistentVolumeClaim that its pod
    looks for, bound to each other both ways, so that pet N gets directory N and nothing else.
  - With O(storage_class) instead of O(nfs) only the claims are made. The class makes the volumes, or has them already.
  - Data is never deleted. The reclaim policy is always Retain, a volume is never taken from another claim, and where a
    volume points to is never changed; what stands against the wish is named, with what to do about it.
  - Objects made by hand are adopted when everything agrees. A volume whose claim was deleted (phase Released) is given
    to the new claim of the same pet when server, path, ordinal and old claim agree.
extends_documentation_fragment:
  - stateful.petset.kube
  - stateful.petset.wait
  - stateful.petset.attributes
options:
  state:
    description:
      - With V(present), volumes and claims are there and bound.
      - With V(absent), claims and volumes are removed as objects; the data stays where it is. Each pet has to be named
        in O(confirm_absent), no pod may use its claim, the set must not want it any more, and its volume has to keep
        its data. Volumes that a class has made are kept, as they are all that tells where the data is.
    type: str
    choices: [present, absent]
    default: present
  set:
    description:
      - Name of the set, at most 52 characters.
    type: str
    required: true
    aliases: [name]
  namespace:
    description:
      - Namespace of the set.
    type: str
    default: default
  create_namespace:
    description:
      - Whether to make the namespace when it is not there. Without this a missing namespace is an error, before
        anything is changed.
    type: bool
    default: false
  replicas:
    description:
      - Number of pets.
    type: int
  start:
    description:
      - Ordinal of the first pet.
    type: int
    default: 0
  ordinals:
    description:
      - The ordinals of the pets, instead of O(replicas) and O(start).
    type: list
    elements: int
  claim_template:
    description:
      - Name of the claim template of the set. The claim of a pet is called C(<claim_template>-<set>-<ordinal>), because
        that is the name its pod looks for.
    type: str
    default: db
  capacity:
    description:
      - Size of each volume, for example V(10Gi). Compared by value, so V(1Gi) is V(1024Mi).
      - On NFS it is a number for matching only; what limits a pet is the file system of the server. It cannot be
        changed later. With O(storage_class) it can grow when the class allows it, never shrink.
      - Required for O(state=present), unless each of O(pets) has its own.
    type: str
  nfs:
    description:
      - Where the directories of the pets are. Either this or O(storage_class) is required for O(state=present).
    type: dict
    suboptions:
      server:
        description:
          - Name or address of the NFS server as the nodes reach it. IPv6 with or without brackets.
        type: str
        required: true
      path:
        description:
          - Directory of a pet, with V({ordinal}) or V({pet}) in it, and V({namespace}) and V({set}) where wanted.
        type: str
        required: true
      mount_options:
        description:
          - Mount options of the volumes, one to an item. Options that endanger data are refused, such as V(soft),
            V(nolock), UDP or NFS before 4.1.
          - A change takes effect when a pet is restarted.
          - The default is V(nfsvers=4.1), V(hard), V(proto=tcp), V(timeo=600), V(retrans=2), V(noatime), V(nosuid),
            V(nodev); for a server with an IPv6 address V(proto=tcp6), as C(mount.nfs) reaches none with V(proto=tcp).
            For a server whose name has IPv6 addresses alone the list has to be given.
        type: list
        elements: str
  storage_class:
    description:
      - StorageClass of the claims. It, and its CSI driver, have to be there.
      - A class without a provisioner (V(kubernetes.io/no-provisioner)), as for local volumes, has to have a free volume
        for each new claim. One whose C(claimRef) names a claim is kept for it; among the others Kubernetes chooses.
    type: str
  accept_delete_policy:
    description:
      - Take a storage class whose reclaim policy is not Retain, or such volumes of a class without a provisioner. The
        data then goes with the claim.
    type: bool
    default: false
  access_mode:
    description:
      - Access mode of volumes and claims. V(ReadWriteOncePod) needs a CSI driver, so it goes with O(storage_class).
    type: str
    choices: [ReadWriteOnce, ReadWriteOncePod, ReadWriteMany]
    default: ReadWriteOnce
  volume_pattern:
    description:
      - Name of the volume of a pet, with V({ordinal}) or V({pet}) in it. Volumes are cluster-wide, so a name without
        V({namespace}) can clash with another set.
    type: str
    default: '{namespace}-{set}-{ordinal}'
  pets:
    description:
      - What is different for single pets, for example one that lives on another server.
    type: list
    elements: dict
    default: []
    suboptions:
      ordinal:
        description:
          - Which pet.
        type: int
        required: true
      server:
        description:
          - Its NFS server.
        type: str
      path:
        description:
          - Its directory.
        type: str
      capacity:
        description:
          - Size of its volume.
        type: str
      volume:
        description:
          - Name of its volume, for one that is there already.
        type: str
  labels:
    description:
      - Further labels of volumes and claims.
    type: dict
    default: {}
  confirm_absent:
    description:
      - With O(state=absent), the names of the pets whose claims and volumes may be removed, for example V(mysql-2).
    type: list
    elements: str
    default: []
  after_set:
    description:
      - With O(state=absent) in check mode, say what would be removed once the set and its pods are gone, as a playbook
        does that removes them first. What else uses a claim still counts. Without check mode it has no effect.
    type: bool
    default: false
seealso:
  - module: stateful.petset.pet_volume_info
  - name: Persistent Volumes
    description: How Kubernetes binds claims to volumes.
    link: https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

EXAMPLES = r"""
- name: A volume and a claim for each of two pets
  stateful.petset.pet_volume:
    set: mysql
    namespace: default
    replicas: 2
    capacity: 10Gi
    nfs:
      server: nfs.example.com
      path: /srv/petset/{namespace}/{set}/{ordinal}

- name: One pet lives on another server
  stateful.petset.pet_volume:
    set: mysql
    replicas: 2
    capacity: 10Gi
    nfs:
      server: 2001:db8::10
      path: /srv/petset/{pet}
    pets:
      - ordinal: 1
        server: 2001:db8::11

- name: Volumes from a storage class
  stateful.petset.pet_volume:
    set: mysql
    replicas: 2
    capacity: 10Gi
    storage_class: ebs-retain
    access_mode: ReadWriteOncePod

- name: Remove claim and volume of the third pet after the set was scaled down; its data stays
  stateful.petset.pet_volume:
    set: mysql
    ordinals: [2]
    state: absent
    confirm_absent: [mysql-2]
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, and why.
  returned: always
  type: list
  elements: str
  sample:
    - create PersistentVolume default-mysql-0 (the pet has none)
    - create PersistentVolumeClaim default/db-mysql-0 (the pet has none)
pets:
  description: Each pet in the order of the ordinals. On a time-out, as last seen.
  returned: always, unless nothing could be read
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
      description: Uid of its claim, empty when there is none yet.
      type: str
    volume:
      description: Name of its volume, empty when the class has not made it yet.
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
      description: Phase of its volume, empty when it was not looked at.
      type: str
    ready:
      description: Whether the claim is bound to the right volume, or rightly waits for its first pod.
      type: bool
    reason:
      description: Why it is not ready, or what it is.
      type: str
    event:
      description: Last event of the claim.
      returned: on a time-out
      type: str
    actions:
      description: What was done for this pet.
      type: list
      elements: str
others:
  description:
    - Pets of the set that are not among those of this call, by ordinal, and have a claim or a volume all the same, as
      after O(replicas) was lowered. Each as M(stateful.petset.pet_volume_info) returns it. Nothing is done to them.
    - With O(storage_class) the claims alone are looked at.
  returned: when O(state=present)
  type: list
  elements: dict
kept:
  description: Where the data of removed pets is.
  returned: when O(state=absent)
  type: list
  elements: str
api:
  description: The API that was talked to, and where its address comes from.
  returned: always, unless there was nothing to connect with
  type: dict
requests:
  description: Number of requests by verb and resource.
  returned: with verbosity 2 or more
  type: dict
error:
  description: Stable word for the kind of error.
  returned: on failure
  type: str
reason:
  description: What is wrong.
  returned: on failure
  type: str
way_out:
  description: What to do about it.
  returned: on failure
  type: str
wanted_objects:
  description: Manifests that somebody with more rights could create.
  returned: when a permission is missing
  type: list
  elements: dict
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import (
    ACCESS_MODES,
    DEFAULT_CLAIM_TEMPLATE,
    DEFAULT_VOLUME_PATTERN,
    VolumeSet,
    parse_volume_set,
)
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import Options, run_absent, run_present
from ansible_collections.stateful.petset.plugins.module_utils._module import (
    KubeModule,
    Module,
    kube_argument_spec,
    progress_of,
    run_module,
)


def argument_spec() -> dict[str, Any]:
    return kube_argument_spec(
        wait=True,
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        set={"type": "str", "required": True, "aliases": ["name"]},
        namespace={"type": "str", "default": "default"},
        create_namespace={"type": "bool", "default": False},
        replicas={"type": "int"},
        start={"type": "int", "default": 0},
        ordinals={"type": "list", "elements": "int"},
        claim_template={"type": "str", "default": DEFAULT_CLAIM_TEMPLATE},
        capacity={"type": "str"},
        nfs={
            "type": "dict",
            "options": {
                "server": {"type": "str", "required": True},
                "path": {"type": "str", "required": True},
                "mount_options": {"type": "list", "elements": "str"},
            },
        },
        storage_class={"type": "str"},
        accept_delete_policy={"type": "bool", "default": False},
        access_mode={"type": "str", "choices": list(ACCESS_MODES), "default": ACCESS_MODES[0]},
        volume_pattern={"type": "str", "default": DEFAULT_VOLUME_PATTERN},
        pets={
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "ordinal": {"type": "int", "required": True},
                "server": {"type": "str"},
                "path": {"type": "str"},
                "capacity": {"type": "str"},
                "volume": {"type": "str"},
            },
        },
        labels={"type": "dict", "default": {}},
        confirm_absent={"type": "list", "elements": "str", "default": []},
        after_set={"type": "bool", "default": False},
    )


def parse(params: Mapping[str, Any]) -> VolumeSet:
    return parse_volume_set(params, present=params["state"] == "present")


def run(module: Module, client: KubeClient, partial: MutableMapping[str, Any]) -> dict[str, Any]:
    params = module.params
    wanted = parse(params)
    options = Options(
        check_mode=module.check_mode,
        wait_s=float(params["wait_timeout"]) if params["wait"] else None,
        create_namespace=params["create_namespace"],
        diff=module._diff,
        after_set=params["after_set"],
    )
    progress = progress_of(module)
    if params["state"] == "present":
        return run_present(client, wanted, options, partial, progress=progress)
    return run_absent(client, wanted, options, tuple(params["confirm_absent"]), partial, progress=progress)


def main() -> None:
    module: Any = KubeModule(  # type: ignore[no-untyped-call]
        argument_spec=argument_spec(),
        mutually_exclusive=[("replicas", "ordinals")],
        required_one_of=[("replicas", "ordinals")],
        supports_check_mode=True,
    )
    run_module(module, lambda client, partial: run(module, client, partial), lambda: parse(module.params))


if __name__ == "__main__":
    main()
