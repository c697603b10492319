# SPDX-License-Identifier: GPL-3.0-or-later
"""The API in memory that unit tests use behaves like the real one: each story runs on both and ends the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ObjectRef
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster

from tests.api.cluster import PLAIN_TOKEN, Cluster
from tests.api.conftest import client_for

pytestmark = pytest.mark.api
Story = Callable[[KubeClient, str], Any]
MB = {"app.kubernetes.io/managed-by": "stateful.petset"}


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": namespace, "labels": dict(MB)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ref(namespace: str) -> ObjectRef:
    return ObjectRef(kinds.CONFIG_MAP, "a", namespace)


def outcome(story: Story, client: KubeClient, namespace: str) -> Any:
    """What a story gives: its value, or the code of its error with what the error knows."""
    try:
        return story(client, namespace)
    except errors.PetsetError as problem:
        managers = getattr(problem, "managers", None)
        return problem.code, managers or sorted(getattr(problem, "fields", {}))


def create_twice(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace))
    client.create(config_map(namespace))


def create_nowhere(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace + "-not"))


def dry_create_nowhere(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace + "-not"), dry_run=True)


def apply_nowhere(client: KubeClient, namespace: str) -> Any:
    client.apply(config_map(namespace + "-not"))


def list_nowhere(client: KubeClient, namespace: str) -> Any:
    return client.list(kinds.CONFIG_MAP, namespace + "-not")


def get_nothing(client: KubeClient, namespace: str) -> Any:
    return client.get(kinds.SECRET, "no", namespace)


def patch_nothing(client: KubeClient, namespace: str) -> Any:
    client.patch(ref(namespace), {"data": {"x": "y"}})


def replace_old(client: KubeClient, namespace: str) -> Any:
    first = client.create(config_map(namespace, k="1"))
    client.patch(ref(namespace), {"data": {"k": "2"}})
    client.replace({**first, "data": {"k": "3"}})


def patch_with_old_version(client: KubeClient, namespace: str) -> Any:
    first = client.create(config_map(namespace, k="1"))
    client.patch(ref(namespace), {"data": {"k": "2"}})
    client.patch(
        ref(namespace), {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"k": "3"}}
    )


def delete_with_wrong_uid(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace))
    client.delete(ref(namespace), uid="00000000-0000-0000-0000-000000000000")


def delete_twice(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace))
    return client.delete(ref(namespace)), client.delete(ref(namespace))


def dry_delete(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace))
    return client.delete(ref(namespace), dry_run=True), client.get(kinds.CONFIG_MAP, "a", namespace) is not None


def dry_runs_write_nothing(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace), dry_run=True)
    client.apply(config_map(namespace), dry_run=True)
    return [
        one["metadata"]["name"] for one in client.list(kinds.CONFIG_MAP, namespace) if one["metadata"]["name"] == "a"
    ]


def apply_same_twice(client: KubeClient, namespace: str) -> Any:
    versions = {client.apply(config_map(namespace, k="1"))["metadata"]["resourceVersion"] for _ in range(3)}
    return len(versions)


def apply_removes_only_its_own(client: KubeClient, namespace: str) -> Any:
    client.apply(config_map(namespace, k="1", gone="x"))
    client.patch(ref(namespace), {"data": {"theirs": "y"}})
    return client.apply(config_map(namespace, k="1"))["data"]


def apply_against_another_manager(client: KubeClient, namespace: str) -> Any:
    client.apply(config_map(namespace, k="1"))
    other = KubeClient(client.transport, field_manager="somebody-else")
    other.patch(ref(namespace), {"data": {"k": "2"}})
    client.apply(config_map(namespace, k="3"))


def apply_with_force(client: KubeClient, namespace: str) -> Any:
    client.apply(config_map(namespace, k="1"))
    other = KubeClient(client.transport, field_manager="somebody-else")
    other.patch(ref(namespace), {"data": {"k": "2"}})
    return client.apply(config_map(namespace, k="3"), force=True)["data"]


def apply_the_value_of_another_manager(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace, k="1"))
    made = client.apply(config_map(namespace, k="1"))
    return sorted((entry["manager"], entry["operation"]) for entry in made["metadata"]["managedFields"])


def patch_then_list_by_label(client: KubeClient, namespace: str) -> Any:
    client.create(config_map(namespace, k="1"))
    client.patch(ref(namespace), {"metadata": {"labels": {"x": "y"}}, "data": {"k": None}})
    found = client.list(kinds.CONFIG_MAP, namespace, label_selector="x=y")
    return [(one["kind"], one["apiVersion"], one.get("data")) for one in found]


def claim(namespace: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": namespace},
        "spec": wanted,
    }


CLAIM = "c"


def change_the_class_of_a_claim(client: KubeClient, namespace: str) -> Any:
    client.create(claim(namespace))
    client.patch(ObjectRef(kinds.PERSISTENT_VOLUME_CLAIM, CLAIM, namespace), {"spec": {"storageClassName": "x"}})


def give_a_claim_its_volume(client: KubeClient, namespace: str) -> Any:
    client.create(claim(namespace))
    patch = {"spec": {"volumeName": f"{namespace}-v"}}
    return (
        client.patch(ObjectRef(kinds.PERSISTENT_VOLUME_CLAIM, CLAIM, namespace), patch)["spec"]["volumeName"]
        == f"{namespace}-v"
    )


def volume(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-v"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1024Mi"},
            "nfs": {"server": "192.0.2.1", "path": "/srv/x"},
            "storageClassName": "",
        },
    }


def move_a_volume(client: KubeClient, namespace: str) -> Any:
    client.create(volume(namespace))
    patch = {"spec": {"nfs": {"path": "/srv/y"}}}
    client.patch(ObjectRef(kinds.PERSISTENT_VOLUME, f"{namespace}-v"), patch)


def change_what_a_volume_lets_change(client: KubeClient, namespace: str) -> Any:
    client.create(volume(namespace))
    patch = {"spec": {"mountOptions": ["nfsvers=4.2"], "persistentVolumeReclaimPolicy": "Delete"}}
    spec = client.patch(ObjectRef(kinds.PERSISTENT_VOLUME, f"{namespace}-v"), patch)["spec"]
    return spec["mountOptions"], spec["persistentVolumeReclaimPolicy"]


def defaults_of_a_volume(client: KubeClient, namespace: str) -> Any:
    spec = client.create(volume(namespace))["spec"]
    return spec["persistentVolumeReclaimPolicy"], spec["volumeMode"], spec["capacity"]


STORIES: list[Story] = [
    create_twice,
    create_nowhere,
    dry_create_nowhere,
    apply_nowhere,
    list_nowhere,
    get_nothing,
    patch_nothing,
    replace_old,
    patch_with_old_version,
    delete_with_wrong_uid,
    delete_twice,
    dry_delete,
    dry_runs_write_nothing,
    apply_same_twice,
    apply_removes_only_its_own,
    apply_against_another_manager,
    apply_with_force,
    apply_the_value_of_another_manager,
    patch_then_list_by_label,
    change_the_class_of_a_claim,
    give_a_claim_its_volume,
    move_a_volume,
    change_what_a_volume_lets_change,
    defaults_of_a_volume,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_both_end_the_same(story: Story, client: KubeClient, namespace: str) -> None:
    real = outcome(story, client, namespace)
    fake = outcome(story, FakeCluster(namespaces=(namespace,)).client(), namespace)
    assert real == fake


@pytest.mark.parametrize(
    "size", ["1Gi", "1024Mi", "1073741824", "1G", "1000M", "1e9", "0.5Gi", "1.5Gi", "1536Mi", "2E3k", "100000Ki"]
)
def test_rp_vol_05_both_keep_a_size_the_same_way(client: KubeClient, namespace: str, size: str) -> None:
    if size == "2E3k":
        with pytest.raises(errors.ApiError):
            client.create(claim(namespace, size))
        return
    real = client.create(claim(namespace, size))
    fake = FakeCluster(namespaces=(namespace,)).client().create(claim(namespace, size))
    assert real["spec"]["resources"] == fake["spec"]["resources"]


def test_rp_ans_10_a_real_403_is_understood(api: Cluster, namespace: str) -> None:
    plain = client_for(api, PLAIN_TOKEN)
    with pytest.raises(errors.Forbidden) as problem:
        plain.list(kinds.PERSISTENT_VOLUME)
    assert problem.value.missing == {"verb": "list", "resource": "persistentvolumes", "group": "", "user": "plain"}
    with pytest.raises(errors.Forbidden) as problem:
        plain.apply(config_map(namespace))
    assert problem.value.missing["verb"] == "patch"
    assert problem.value.missing["namespace"] == namespace
    fake = FakeCluster(namespaces=(namespace,), user="plain")
    fake.deny("list", kinds.PERSISTENT_VOLUME)
    with pytest.raises(errors.Forbidden) as imagined:
        fake.client().list(kinds.PERSISTENT_VOLUME)
    with pytest.raises(errors.Forbidden) as real:
        plain.list(kinds.PERSISTENT_VOLUME)
    assert str(imagined.value) == str(real.value)


def test_rp_ans_04_an_update_reads_again_on_a_real_conflict(client: KubeClient, namespace: str) -> None:
    client.create(config_map(namespace, k="0"))
    other = KubeClient(client.transport, field_manager="somebody-else")
    turns = iter(range(3))

    def change(live: dict[str, Any]) -> dict[str, Any]:
        if next(turns, None) is not None:
            other.patch(ref(namespace), {"data": {"k": live["data"]["k"] + "1"}})
        live["data"]["mine"] = "yes"
        return live

    assert client.update(ref(namespace), change)["data"] == {"k": "0111", "mine": "yes"}
    turns = iter(range(99))
    with pytest.raises(errors.Conflict) as problem:
        client.update(ref(namespace), change)
    assert f"ConfigMap {namespace}/a" in str(problem.value)
    assert "the object has been modified" in str(problem.value)


def test_rp_ans_04_a_real_422_names_object_field_and_value_at_once(client: KubeClient, namespace: str) -> None:
    before = len(client.requests)
    with pytest.raises(errors.Invalid) as problem:
        client.create(claim(namespace, accessModes=["Sometimes"]))
    assert len(client.requests) == before + 1
    assert list(problem.value.fields) == ["spec.accessModes"]
    assert f"PersistentVolumeClaim {namespace}/c" in str(problem.value)
    assert "Sometimes" in str(problem.value)


def test_a_wrong_token(api: Cluster) -> None:
    with pytest.raises(errors.Unauthorized, match="option host"):
        client_for(api, "wrong").list(kinds.NAMESPACE)


def test_a_ca_that_is_not_the_servers(api: Cluster, tmp_path: Any) -> None:
    import subprocess

    other = tmp_path / "other.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*command, "-subj", "/CN=other", "-keyout", str(tmp_path / "k"), "-out", str(other)],
        check=True,
        capture_output=True,
    )
    real = copy.copy(api)
    real.ca = other
    with pytest.raises(errors.Unreachable, match="TLS") as problem:
        client_for(real, "x").list(kinds.NAMESPACE)
    assert "ca" in problem.value.way_out


def test_rp_ans_06_a_real_terminating_namespace_is_understood(api: Cluster, client: KubeClient, namespace: str) -> None:
    held = config_map(namespace)
    held["metadata"]["finalizers"] = ["example.com/held"]
    client.create(held)
    client.delete(ObjectRef(kinds.NAMESPACE, namespace))
    with pytest.raises(errors.NamespaceTerminating, match=f"Namespace {namespace}"):
        client.create(claim(namespace))
    client.patch(ref(namespace), {"metadata": {"finalizers": None}})


def test_rp_ans_03_a_real_refusal_of_a_secret_is_not_quoted(client: KubeClient, namespace: str) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "aHVudGVyMg=="},
    }
    with pytest.raises(errors.Invalid) as problem:
        client.create(secret)
    for text in ("hunter2", "aHVudGVyMg"):
        assert text not in str(problem.value) + str(problem.value.details)
