# SPDX-License-Identifier: GPL-3.0-or-later
"""Shorthand for tests of volumes and claims: options, a run against the API in memory, objects made by hand."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core import kinds, volumes
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import Options, run_absent, run_present
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster

NFS = {"server": "nfs.example.com", "path": "/srv/{namespace}/{set}/{ordinal}"}
PV, PVC = kinds.PERSISTENT_VOLUME, kinds.PERSISTENT_VOLUME_CLAIM


def params(**changes: Any) -> dict[str, Any]:
    base = {"set": "mysql", "namespace": "default", "replicas": 2, "capacity": "1Gi", "nfs": dict(NFS)}
    return {**base, **changes}


def dynamic(**changes: Any) -> dict[str, Any]:
    return params(nfs=None, storage_class="fast", **changes)


def storage_class(name: str = "fast", **changes: Any) -> dict[str, Any]:
    base = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "ebs.csi.aws.com",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
    return {**base, **changes}


def csi_driver(name: str = "ebs.csi.aws.com") -> dict[str, Any]:
    return {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": {}}


def pod(name: str, claim: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": phase},
    }


def present(
    cluster: FakeCluster, options: Options | None = None, clock: FakeClock | None = None, **changes: Any
) -> tuple[dict[str, Any], KubeClient]:
    """One run of pet_volume with state present. Changes are options of the module."""
    client = cluster.client(clock)
    base = dynamic if changes.pop("is_dynamic", False) else params
    wanted = volumes.parse_volume_set(base(**changes))
    result = run_present(client, wanted, options or Options(), {}, resolve=resolve)
    return result, client


def absent(
    cluster: FakeCluster, *confirmed: str, options: Options | None = None, **changes: Any
) -> tuple[dict[str, Any], KubeClient]:
    """One run of pet_volume with state absent."""
    client = cluster.client()
    wanted = volumes.parse_volume_set(params(**changes), present=False)
    return run_absent(client, wanted, options or Options(), confirmed, {}), client


def resolve(server: str) -> frozenset[str]:
    """nfs.example.com and nfs2 are one machine; nothing else has an address."""
    return frozenset({"192.0.2.1"}) if server in ("nfs.example.com", "nfs2") else frozenset()


def by_hand(cluster: FakeCluster, kind: kinds.Kind, ordinal: int = 0, **changes: Any) -> dict[str, Any]:
    """The object that the collection would make, without its labels, as somebody else made it."""
    wanted = volumes.parse_volume_set(params())
    pet = wanted.pets[ordinal]
    manifest = volumes.volume_manifest(wanted, pet) if kind is PV else volumes.claim_manifest(wanted, pet)
    manifest = copy.deepcopy(manifest)
    del manifest["metadata"]["labels"]
    manifest["spec"].update(changes)
    manifest["spec"] = {key: value for key, value in manifest["spec"].items() if value is not None}
    return cluster.add(manifest)


def recorded(client: KubeClient) -> dict[str, int]:
    """Writes by verb and resource."""
    found: dict[str, int] = {}
    for one in client.writes():
        key = f"{one.verb} {one.path.split('/')[-1] if one.verb == 'create' else one.path.split('/')[-2]}"
        found[key] = found.get(key, 0) + 1
    return found
