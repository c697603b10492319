# SPDX-License-Identifier: GPL-3.0-or-later
"""pet_volume against a real API server and the real volume controller; each case of the reports is named by its id."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ObjectRef
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import parse_volume_set
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import Answer
from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import Options, run_absent, run_present

from tests.api.cluster import ADMIN_TOKEN, PLAIN_TOKEN, Cluster
from tests.api.conftest import Killed, client_for, dying_client, losing_client
from tests.patience import patient

pytestmark = pytest.mark.api
PV, PVC = kinds.PERSISTENT_VOLUME, kinds.PERSISTENT_VOLUME_CLAIM
NFS = {"server": "2001:db8::10", "path": "/srv/{namespace}/{set}/{ordinal}"}
CHECK = Options(check_mode=True, diff=True)


class World:
    """One namespace of the API server, and runs of pet_volume in it."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.client = client_for(api, ADMIN_TOKEN)

    def wanted(self, *, present: bool = True, **changes: Any) -> Any:
        base = {"set": "mysql", "namespace": self.namespace, "replicas": 2, "capacity": "1Gi", "nfs": dict(NFS)}
        return parse_volume_set({**base, **changes}, present=present)

    def run(self, options: Options | None = None, *, token: str = ADMIN_TOKEN, **changes: Any) -> dict[str, Any]:
        """One run with its writes as the API server has recorded them, in ``audited``, and its requests."""
        client = client_for(self.api, token)
        before = self.api.audit_position()
        result = run_present(client, self.wanted(**changes), options or Options(wait_s=30.0), {})
        return {**result, "audited": self.api.audited_writes(before), "requests": client.count()}

    def remove(self, *confirmed: str, **changes: Any) -> dict[str, Any]:
        wanted = self.wanted(present=False, **changes)
        return run_absent(client_for(self.api, ADMIN_TOKEN), wanted, Options(wait_s=30.0), confirmed, {})

    def refused(self, **changes: Any) -> str:
        """The message of a run that is refused, after proof that it wrote nothing."""
        before = self.api.audit_position()
        with pytest.raises(errors.Refused) as problem:
            self.run(**changes)
        assert self.api.audited_writes(before) == []
        return str(problem.value)

    def volume(self, ordinal: int = 0) -> dict[str, Any]:
        found = self.client.get(PV, f"{self.namespace}-mysql-{ordinal}")
        if found is None:
            raise AssertionError("no volume")
        return found

    def claim(self, ordinal: int = 0) -> dict[str, Any]:
        found = self.client.get(PVC, f"db-mysql-{ordinal}", self.namespace)
        if found is None:
            raise AssertionError("no claim")
        return found

    def patch_volume(self, patch: dict[str, Any], ordinal: int = 0) -> None:
        other = KubeClient(self.client.transport, field_manager="somebody")
        other.patch(ObjectRef(PV, f"{self.namespace}-mysql-{ordinal}"), patch)

    def drop_claim(self, ordinal: int = 0) -> None:
        self.client.delete(ObjectRef(PVC, f"db-mysql-{ordinal}", self.namespace))
        until(lambda: self.client.get(PVC, f"db-mysql-{ordinal}", self.namespace) is None)

    def claim_by_hand(self, **spec: Any) -> None:
        base = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
            "volumeName": f"{self.namespace}-mysql-0",
        }
        made = {key: value for key, value in {**base, **spec}.items() if value is not None}
        metadata = {"name": "db-mysql-0", "namespace": self.namespace}
        self.client.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": made})


def until(done: Callable[[], bool], limit_s: float = 20.0) -> None:
    end = time.monotonic() + patient(limit_s)
    while not done():
        if time.monotonic() > end:
            raise AssertionError("not within the limit")
        time.sleep(0.05)


@pytest.fixture
def world(api: Cluster, namespace: str) -> World:
    return World(api, namespace)


def test_twice(world: World) -> None:
    first = world.run(replicas=5)
    assert len(first["audited"]) == 10
    assert all(pet["ready"] and pet["volume_phase"] == "Bound" for pet in first["pets"])
    second = world.run(replicas=5)
    assert not second["changed"]
    assert second["audited"] == []
    assert second["requests"] == {"list persistentvolumeclaims": 1, "list persistentvolumes": 1}


def test_rp_ans_01_check_mode_on_an_empty_and_on_a_complete_cluster(world: World) -> None:
    told = world.run(CHECK)
    assert told["audited"] == []
    done = world.run(Options(wait_s=30.0, diff=True))
    assert told["actions"] == done["actions"]
    assert told["diff"] == done["diff"]
    complete = world.run(CHECK)
    assert (complete["changed"], complete["audited"], complete["diff"]) == (False, [], [])


def test_rp_ans_01_check_mode_without_the_namespace(world: World) -> None:
    nowhere = world.namespace + "-not"
    told = world.run(Options(check_mode=True, create_namespace=True), namespace=nowhere)
    assert len(told["actions"]) == 5
    assert told["audited"] == []


def test_rp_ans_07_a_namespace_that_is_not_there(world: World) -> None:
    nowhere = world.namespace + "-not"
    before = world.api.audit_position()
    with pytest.raises(errors.NamespaceMissing, match=nowhere):
        world.run(namespace=nowhere)
    assert world.api.audited_writes(before) == []
    made = world.run(Options(wait_s=30.0, create_namespace=True), namespace=nowhere)
    assert made["actions"][0] == f"create Namespace {nowhere} (it is not there)"
    assert all(pet["ready"] for pet in made["pets"])


@pytest.mark.parametrize("other", ["[2001:db8::10]", "2001:DB8:0::10"])
def test_rp_vol_01_another_spelling_is_no_change(world: World, other: str) -> None:
    world.run()
    assert world.volume()["spec"]["nfs"]["server"] == "2001:db8::10"
    again = world.run(nfs={**NFS, "server": other})
    assert (again["changed"], again["audited"]) == (False, [])


def test_rp_vol_02_a_claim_that_was_deleted_gets_its_volume_back(world: World) -> None:
    world.run()
    uid = world.volume()["metadata"]["uid"]
    world.drop_claim()
    until(lambda: world.volume()["status"]["phase"] == "Released")
    result = world.run()
    assert "repaired" in result["actions"][0]
    assert result["pets"][0]["ready"]
    assert world.volume()["metadata"]["uid"] == uid
    assert world.volume()["spec"]["claimRef"]["uid"] == world.claim()["metadata"]["uid"]
    assert not world.run()["changed"]


def test_rp_vol_02_from_phase_failed_with_a_claim_that_waits_already(world: World) -> None:
    world.run()
    world.patch_volume({"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
    world.drop_claim()
    until(lambda: world.volume()["status"]["phase"] == "Failed")
    world.claim_by_hand()
    result = world.run()
    assert result["pets"][0]["ready"]
    assert world.volume()["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_rp_vol_02_not_for_another_claim(world: World) -> None:
    world.run()
    world.drop_claim()
    until(lambda: world.volume()["status"]["phase"] == "Released")
    text = world.refused(claim_template="data")
    assert f"reserved for claim {world.namespace}/db-mysql-0" in text


def test_a_claim_that_lost_its_volume_gets_it_back(world: World) -> None:
    world.run()
    name = world.volume()["metadata"]["name"]
    world.patch_volume({"metadata": {"finalizers": None}})
    world.client.delete(ObjectRef(PV, name))
    # The protection of bound volumes may put its finalizer back in between.
    until(lambda: _gone(world, name))
    until(lambda: world.claim()["status"]["phase"] == "Lost")
    result = world.run()
    assert result["pets"][0]["ready"]
    assert not world.run()["changed"]


def _gone(world: World, name: str) -> bool:
    if world.client.get(PV, name) is None:
        return True
    with contextlib.suppress(errors.ApiError):
        world.patch_volume({"metadata": {"finalizers": None}})
    return False


@pytest.fixture
def default_class(api: Cluster) -> Iterator[str]:
    manifest = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/none",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }
    api.request("POST", "/apis/storage.k8s.io/v1/storageclasses", manifest)
    yield "standard"
    api.request("DELETE", "/apis/storage.k8s.io/v1/storageclasses/standard")


def test_rp_vol_03_a_default_class_gets_into_no_claim(world: World, default_class: str) -> None:
    assert all(pet["ready"] for pet in world.run()["pets"])
    assert world.claim()["spec"]["storageClassName"] == ""


def test_rp_vol_03_a_claim_that_got_the_default_class_is_named_with_both(world: World, default_class: str) -> None:
    world.claim_by_hand(storageClassName=None)
    text = world.refused()
    assert "'standard'" in text
    assert "wanted is ''" in text


def test_a_class_that_waits_for_the_pod(world: World, default_class: str) -> None:
    result = world.run(nfs=None, storage_class="standard")
    assert [pet["reason"] for pet in result["pets"]] == ["waits for its first pod, as its class wants it"] * 2
    assert not world.run(nfs=None, storage_class="standard")["changed"]
    with pytest.raises(errors.Refused, match="not bound yet"):
        world.run(nfs=None, storage_class="standard", capacity="2Gi")


def test_a_class_that_is_not_there(world: World, default_class: str) -> None:
    assert "use one of: standard" in world.refused(nfs=None, storage_class="fast")


def test_rp_vol_04_pet_n_gets_directory_n_whatever_comes_first(world: World) -> None:
    # A foreign claim that fits asks first, and the claims of the pets come in reverse order.
    world.client.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "greedy", "namespace": world.namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "",
            },
        }
    )
    for ordinals in ([2], [1], [0]):
        world.run(replicas=None, ordinals=ordinals)
    result = world.run(replicas=3)
    assert not result["changed"]
    assert [pet["path"].rpartition("/")[2] for pet in result["pets"]] == ["0", "1", "2"]
    greedy = world.client.get(PVC, "greedy", world.namespace)
    assert greedy is not None
    assert greedy["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("first", "second"), [("1Gi", "1024Mi"), ("1073741824", "1Gi"), ("1e9", "1000M"), ("0.5Gi", "512Mi")]
)
def test_rp_vol_05_another_spelling_of_a_size_is_no_change(world: World, first: str, second: str) -> None:
    world.run(capacity=first)
    again = world.run(capacity=second)
    assert (again["changed"], again["audited"]) == (False, [])


@pytest.mark.parametrize("size", ["512Mi", "2Gi"])
def test_rp_vol_06_the_size_of_an_nfs_volume_stays(world: World, size: str) -> None:
    world.run()
    text = world.refused(capacity=size)
    assert "1Gi" in text
    assert size in text


def test_rp_vol_06_growth_where_the_class_allows_it(world: World, default_class: str) -> None:
    world.run(nfs=None, storage_class="standard")
    for ordinal in (0, 1):
        claim = world.claim(ordinal)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{world.namespace}-dyn-{ordinal}"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": "example.com", "volumeHandle": f"{world.namespace}-{ordinal}"},
                "claimRef": {
                    "namespace": world.namespace,
                    "name": claim["metadata"]["name"],
                    "uid": claim["metadata"]["uid"],
                },
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "standard",
            },
        }
        world.client.create(volume)
    until(lambda: all(world.claim(one)["status"]["phase"] == "Bound" for one in (0, 1)))
    result = world.run(nfs=None, storage_class="standard", capacity="2Gi")
    # Each once; the binder may still write to a claim, then its patch conflicts and is sent again.
    assert set(result["audited"]) == {f"patch persistentvolumeclaims db-mysql-{ordinal}" for ordinal in (0, 1)}
    assert world.claim()["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert not world.run(nfs=None, storage_class="standard", capacity="2Gi")["changed"]
    assert "cannot shrink" in world.refused(nfs=None, storage_class="standard", capacity="1Gi")
    result = world.remove("mysql-1", nfs=None, ordinals=[1], replicas=None)
    assert result["kept"] == [f"mysql-1: PersistentVolume {world.namespace}-dyn-1 (csi)"]
    assert world.client.get(PV, f"{world.namespace}-dyn-1") is not None


def test_rp_vol_08_blanks_and_slashes_in_a_path(world: World) -> None:
    nfs = {**NFS, "path": "/srv/my data/{namespace}/{pet}"}
    world.run(nfs=nfs)
    again = world.run(nfs={**nfs, "path": nfs["path"].replace("/{pet}", "//{pet}/")})
    assert (again["changed"], again["audited"]) == (False, [])


def test_rp_vol_10_where_a_volume_points_to_is_never_changed(world: World) -> None:
    world.run()
    for nfs in ({**NFS, "server": "192.0.2.9"}, {**NFS, "path": "/new/{pet}"}):
        text = world.refused(nfs=nfs)
        assert "cannot be changed" in text
        assert "[2001:db8::10]:/srv/" in text


def test_rp_vol_10_options_policy_and_labels_are_changed(world: World) -> None:
    world.run()
    world.patch_volume({"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
    options = ["nfsvers=4.2", "hard"]
    result = world.run(nfs={**NFS, "mount_options": options}, labels={"team": "db"}, access_mode="ReadWriteOnce")
    assert len(result["audited"]) == 4
    assert world.volume()["spec"]["mountOptions"] == options
    assert world.volume()["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert not world.run(nfs={**NFS, "mount_options": options}, labels={"team": "db"})["changed"]


def test_objects_made_by_hand_are_adopted(world: World) -> None:
    wanted = world.wanted()
    from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import volume_manifest

    manifest = volume_manifest(wanted, wanted.pets[0])
    del manifest["metadata"]["labels"], manifest["spec"]["claimRef"]
    world.client.create(manifest)
    world.claim_by_hand(volumeName=None)
    result = world.run()
    assert all(pet["ready"] for pet in result["pets"])
    assert world.claim()["metadata"]["labels"]["stateful.petset/ordinal"] == "0"
    assert not world.run()["changed"]


def test_a_time_out_says_why(world: World) -> None:
    # A class that nobody provisions for, bound at once: the controller writes an event and waits for ever.
    name = f"{world.namespace}-slow"
    world.client.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "example.com/none",
            "reclaimPolicy": "Retain",
        }
    )
    try:
        with pytest.raises(errors.TimedOut, match="ExternalProvisioning") as problem:
            world.run(Options(wait_s=5.0), nfs=None, storage_class=name)
    finally:
        world.client.delete(ObjectRef(kinds.STORAGE_CLASS, name))
    assert "0 of 2 claims bound" in str(problem.value)
    assert "provisioner" in problem.value.way_out


# Removal.


def pod(world: World) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mysql-1", "namespace": world.namespace},
        "spec": {
            # Only a pod that has a node holds its claim.
            "nodeName": "no-such-node",
            "containers": [{"name": "a", "image": "none"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "db-mysql-1"}}],
        },
    }


def test_rp_ans_06_absent_then_present(world: World) -> None:
    world.run()
    world.client.create(pod(world))
    with pytest.raises(errors.Refused, match="in use by mysql-1"):
        world.remove("mysql-1", ordinals=[1], replicas=None)
    world.client.delete(ObjectRef(kinds.POD, "mysql-1", world.namespace), grace_period_s=0)
    result = world.remove("mysql-1", ordinals=[1], replicas=None)
    assert result["kept"] == [f"mysql-1: [2001:db8::10]:/srv/{world.namespace}/mysql/1"]
    assert world.client.get(PV, f"{world.namespace}-mysql-1") is None
    assert not world.remove(ordinals=[1], replicas=None)["changed"]
    again = world.run()
    assert all(pet["ready"] for pet in again["pets"])


def test_rp_ans_06_a_claim_that_a_pod_holds_is_waited_for_and_the_pod_named(world: World) -> None:
    world.run()
    world.client.create(pod(world))
    world.client.delete(ObjectRef(PVC, "db-mysql-1", world.namespace))
    with pytest.raises(errors.TimedOut, match="held by pod mysql-1"):
        world.run(Options(wait_s=2.0))
    assert "kubernetes.io/pvc-protection" in world.claim(1)["metadata"]["finalizers"]

    def end_pod() -> None:
        time.sleep(1)
        world.client.delete(ObjectRef(kinds.POD, "mysql-1", world.namespace), grace_period_s=0)

    thread = threading.Thread(target=end_pod)
    thread.start()
    result = world.run()
    thread.join()
    assert all(pet["ready"] for pet in result["pets"])


# Rights.


def grant(world: World, namespaced: dict[str, list[str]], cluster: dict[str, list[str]] | None = None) -> None:
    """Give user ``plain`` verbs on resources, in the namespace and cluster-wide."""
    subject = [{"kind": "User", "name": "plain", "apiGroup": "rbac.authorization.k8s.io"}]
    group = "rbac.authorization.k8s.io"
    for kind, rights in (("Role", namespaced), ("ClusterRole", cluster or {})):
        if not rights:
            continue
        metadata: dict[str, Any] = {"name": f"{world.namespace}-plain"}
        if kind == "Role":
            metadata["namespace"] = world.namespace
        where = f"/namespaces/{world.namespace}" if kind == "Role" else ""
        rules = [
            {"apiGroups": ["", "storage.k8s.io"], "resources": [name], "verbs": verbs} for name, verbs in rights.items()
        ]
        base = f"/apis/{group}/v1{where}"
        world.api.request("POST", f"{base}/{kind.lower()}s", {"metadata": metadata, "rules": rules})
        ref = {"apiGroup": group, "kind": kind, "name": metadata["name"]}
        world.api.request(
            "POST", f"{base}/{kind.lower()}bindings", {"metadata": metadata, "roleRef": ref, "subjects": subject}
        )
    # The authorizer learns of new rules a moment later.
    plain = client_for(world.api, PLAIN_TOKEN)

    def may() -> bool:
        with contextlib.suppress(errors.Forbidden):
            plain.list(PVC, world.namespace)
            if cluster and "persistentvolumes" in cluster and "list" in cluster["persistentvolumes"]:
                plain.list(PV)
            return True
        return False

    until(may)


def revoke(world: World) -> None:
    for kind in ("clusterrolebindings", "clusterroles"):
        with contextlib.suppress(OSError):
            world.api.request("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}/{world.namespace}-plain")


CLAIM_RIGHTS = {"persistentvolumeclaims": ["list", "create", "patch"]}


def test_rp_ans_10_the_least_rights_are_enough(world: World) -> None:
    grant(world, CLAIM_RIGHTS, {"persistentvolumes": ["list", "create", "patch"]})
    try:
        result = world.run(token=PLAIN_TOKEN)
        assert all(pet["ready"] for pet in result["pets"])
        assert len(result["audited"]) == 4
        assert world.run(token=PLAIN_TOKEN)["audited"] == []
    finally:
        revoke(world)


def test_rp_ans_10_without_rights_on_volumes(world: World) -> None:
    grant(world, CLAIM_RIGHTS)
    with pytest.raises(errors.Forbidden) as problem:
        world.run(token=PLAIN_TOKEN)
    assert "user plain may not get persistentvolumes cluster-wide" in str(problem.value)
    for manifest in problem.value.details["wanted_objects"]:
        world.client.create(manifest)
    names = [f"{world.namespace}-mysql-{ordinal}" for ordinal in (0, 1)]
    base = "/apis/rbac.authorization.k8s.io/v1"
    metadata = {"name": f"{world.namespace}-plain"}
    rule = {"apiGroups": [""], "resources": ["persistentvolumes"], "resourceNames": names, "verbs": ["get"]}
    world.api.request("POST", f"{base}/clusterroles", {"metadata": metadata, "rules": [rule]})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]}
    subjects = [{"kind": "User", "name": "plain", "apiGroup": "rbac.authorization.k8s.io"}]
    world.api.request(
        "POST", f"{base}/clusterrolebindings", {"metadata": metadata, "roleRef": ref, "subjects": subjects}
    )
    try:
        until(lambda: _may_get(world, names[0]))
        assert all(pet["ready"] for pet in world.run(token=PLAIN_TOKEN)["pets"])
    finally:
        revoke(world)


def _may_get(world: World, name: str) -> bool:
    try:
        return client_for(world.api, PLAIN_TOKEN).get(PV, name) is not None
    except errors.Forbidden:
        return False


# A run that does not come to its end.


@pytest.mark.parametrize("after", range(5))
def test_killed_at_each_write_and_run_again(world: World, after: int) -> None:
    client = dying_client(world.api, after)
    with contextlib.suppress(Killed):
        run_present(client, world.wanted(), Options(wait_s=30.0), {})
    result = world.run()
    assert result["changed"] is (after < 4)
    assert all(pet["ready"] for pet in result["pets"])
    assert not world.run()["changed"]


def test_rp_ans_04_somebody_else_makes_the_objects_in_between(world: World) -> None:
    """Nobody has them when the run looks, and all are there when it writes: another run was faster."""
    client = client_for(world.api, ADMIN_TOKEN)
    real, lock, others = client.transport.send, threading.Lock(), []

    def send(method: str, *args: Any) -> Answer:
        with lock:
            if method != "GET" and not others:
                others.append(world.run())
        return real(method, *args)

    client.transport.send = send  # type: ignore[method-assign, assignment]
    result = run_present(client, world.wanted(), Options(wait_s=30.0), {})
    assert len(others[0]["audited"]) == 4
    assert all(pet["ready"] for pet in result["pets"])
    assert not world.run()["changed"]


def what_stands(world: World) -> dict[str, Any]:
    """What the runs made, without what is another in each namespace and at each time."""
    found: dict[str, Any] = {}
    for ordinal in (0, 1):
        volume, claim = world.volume(ordinal), world.claim(ordinal)
        assert volume["spec"]["claimRef"].pop("uid") == claim["metadata"]["uid"]
        for kind, live in (("volume", volume), ("claim", claim)):
            live["spec"].get("claimRef", {}).pop("resourceVersion", None)
            kept = {
                "labels": live["metadata"]["labels"],
                "annotations": live["metadata"].get("annotations"),
                "spec": live["spec"],
                "phase": live["status"]["phase"],
            }
            found[f"{kind} {ordinal}"] = json.loads(json.dumps(kept).replace(world.namespace, "NAMESPACE"))
    return found


@pytest.fixture
def undisturbed(api: Cluster, namespace: str) -> dict[str, Any]:
    """What stands after a first run without trouble, in another namespace."""
    other = World(api, f"{namespace}-undisturbed")
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": other.namespace}})
    other.run()
    return what_stands(other)


# the controllers look for the API again after half a minute at the latest, and only they can bind
BINDS = Options(wait_s=90.0)


# Each write has its turn on the API server in memory; here the server, its port and its controllers are real.
@pytest.mark.parametrize(("writes", "answered"), [(1, True), (3, False)])
def test_the_api_server_is_killed_between_two_writes_and_stays_away(
    world: World, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    with (
        losing_client(world.api, writes, answered=answered, limit_s=1.0) as client,
        pytest.raises(errors.Unreachable) as problem,
    ):
        run_present(client, world.wanted(), Options(wait_s=3.0), {})
    told = str(problem.value)
    assert told.startswith(f"Kubernetes API {world.api.host}: answered before, now ")
    assert "Connection refused" in told
    assert "the next run goes on here" in told
    result = world.run(BINDS)
    assert len(result["audited"]) == 4 - writes
    assert what_stands(world) == undisturbed
    again = world.run()
    assert (again["changed"], again["audited"]) == (False, [])


@pytest.mark.parametrize(("writes", "answered"), [(2, False)])
def test_the_api_server_is_killed_between_two_writes_and_comes_back(
    world: World, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    with losing_client(world.api, writes, answered=answered, back=True) as client:
        result = run_present(client, world.wanted(), BINDS, {})
    assert all(pet["ready"] for pet in result["pets"])
    assert what_stands(world) == undisturbed
    again = world.run()
    assert (again["changed"], again["audited"]) == (False, [])


def test_the_api_server_is_away_when_the_run_begins_and_stays_away(world: World) -> None:
    client = client_for(world.api, ADMIN_TOKEN, limit_s=2.0)
    client.list(kinds.NAMESPACE)
    world.api.stop_api()
    try:
        with pytest.raises(errors.Unreachable, match="answered before") as problem:
            run_present(client, world.wanted(), Options(wait_s=5.0), {})
        assert world.api.host in str(problem.value)
        assert "option host" in str(problem.value)
    finally:
        world.api.start_api()
    assert all(pet["ready"] for pet in world.run(BINDS)["pets"])


# Through Ansible itself.


def play(
    world: World, tmp_path: Path, tasks: list[dict[str, Any]], *args: str, **env: str
) -> subprocess.CompletedProcess[str]:
    book = tmp_path / "play.json"
    book.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("K8S_AUTH")},
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        **env,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(book), *args]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def role(world: World, **variables: Any) -> dict[str, Any]:
    base = {
        "pet_volumes_set": "mysql",
        "pet_volumes_namespace": world.namespace,
        "pet_volumes_replicas": 2,
        "pet_volumes_capacity": "1Gi",
        "pet_volumes_nfs": dict(NFS),
    }
    return {
        "name": "Volumes",
        "ansible.builtin.include_role": {"name": "stateful.petset.pet_volumes"},
        "vars": {**base, **variables},
    }


def test_the_role_twice_with_the_variables_of_awx(world: World, tmp_path: Path) -> None:
    """AWX hands over host, token, a file with the CA, and empty text for what is not set."""
    env = {
        "K8S_AUTH_HOST": world.api.host,
        "K8S_AUTH_API_KEY": ADMIN_TOKEN,
        "K8S_AUTH_VERIFY_SSL": "True",
        "K8S_AUTH_SSL_CA_CERT": str(world.api.ca),
        "K8S_AUTH_CONTEXT": "",
    }
    checked = play(world, tmp_path, [role(world)], "--check", "--diff", **env)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "changed=1" in checked.stdout
    assert "claimRef" in checked.stdout
    assert world.client.get(PVC, "db-mysql-0", world.namespace) is None
    first = play(world, tmp_path, [role(world)], "--diff", "-vvv", **env)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "changed=1" in first.stdout
    second = play(world, tmp_path, [role(world)], **env)
    assert "changed=0" in second.stdout, second.stdout + second.stderr
    for done in (checked, first, second):
        assert ADMIN_TOKEN not in done.stdout + done.stderr


def test_progress_is_shown_while_the_task_runs(world: World, tmp_path: Path) -> None:
    name = f"{world.namespace}-slow"
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    world.client.create({**made, "provisioner": "example.com/none", "reclaimPolicy": "Retain"})
    try:
        task = role(world, pet_volumes_nfs={}, pet_volumes_storage_class=name, pet_volumes_wait_timeout=10)
        done = play(world, tmp_path, [task], K8S_AUTH_KUBECONFIG=str(world.api.kubeconfig()))
    finally:
        world.client.delete(ObjectRef(kinds.STORAGE_CLASS, name))
    assert done.returncode != 0
    before, shown, after = done.stdout.partition("claims of mysql: 0 of 2 claims bound")
    assert "Volumes and claims of the pets" in before
    assert shown
    assert "ExternalProvisioning" in after + done.stderr


@pytest.mark.parametrize(
    ("variables", "texts"),
    [
        ({"pet_volumes_capacity": "25GB"}, ["capacity", "25GB", "write G or Gi"]),
        ({"pet_volumes_replicas": 0}, ["replicas", "out of range"]),
        ({"pet_volumes_set": "My.Sql"}, ["set", "My.Sql", "dots are not allowed"]),
        ({"pet_volumes_nfs": {"server": "x", "path": "srv/{ordinal}"}}, ["nfs.path", "relative"]),
        ({"pet_volumes_nfs": {"server": "x"}}, ["path"]),
        ({"pet_volumes_wait": "maybe"}, ["pet_volumes_wait", "maybe"]),
    ],
)
def test_bad_input_of_the_role_is_refused(
    world: World, tmp_path: Path, variables: dict[str, Any], texts: list[str]
) -> None:
    before = world.api.audit_position()
    done = play(world, tmp_path, [role(world, **variables)], K8S_AUTH_KUBECONFIG=str(world.api.kubeconfig()))
    assert done.returncode != 0
    for text in texts:
        assert text in done.stdout + done.stderr
    assert world.api.audited_writes(before) == []


def test_rp_ans_09_context_and_kubeconfig(world: World, tmp_path: Path) -> None:
    task = {
        "name": "Look",
        "stateful.petset.pet_volume_info": {"set": "mysql", "namespace": world.namespace, "context": "stage"},
    }
    path = str(world.api.kubeconfig())
    done = play(world, tmp_path, [task], K8S_AUTH_KUBECONFIG=path)
    assert "known contexts: admin" in done.stdout + done.stderr
    task["stateful.petset.pet_volume_info"] = {"set": "mysql", "namespace": world.namespace}
    show = {"name": "Show", "ansible.builtin.debug": {"var": "looked.api"}}
    done = play(world, tmp_path, [{**task, "register": "looked"}, show], K8S_AUTH_KUBECONFIG=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert world.api.host in done.stdout
    assert "context admin" in done.stdout


def test_rp_ans_03_a_kubeconfig_as_mapping_shows_no_token(world: World, tmp_path: Path) -> None:
    document = json.loads(world.api.kubeconfig().read_text())
    document["clusters"][0]["cluster"]["certificate-authority"] = str(world.api.ca)
    task = {
        "name": "Look",
        "stateful.petset.pet_volume_info": {"set": "mysql", "namespace": world.namespace, "kubeconfig": document},
    }
    done = play(world, tmp_path, [task], "-vvv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ADMIN_TOKEN not in done.stdout.replace(str(tmp_path / "play.json"), "")


def test_rp_ans_08_an_exec_plugin(world: World, tmp_path: Path) -> None:
    plugin = tmp_path / "login"
    given = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": ADMIN_TOKEN},
    }
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(given)}\nEND\n")
    plugin.chmod(0o755)
    document = json.loads(world.api.kubeconfig().read_text())
    document["clusters"][0]["cluster"].update(
        {"certificate-authority": str(world.api.ca), "tls-server-name": "localhost"}
    )
    document["users"][0]["user"] = {"exec": {"command": "./login", "apiVersion": "client.authentication.k8s.io/v1"}}
    path = tmp_path / "config"
    path.write_text(json.dumps(document))
    task = {
        "name": "Look",
        "stateful.petset.pet_volume_info": {"set": "mysql", "namespace": world.namespace, "kubeconfig": str(path)},
    }
    done = play(world, tmp_path, [task], "-vvv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ADMIN_TOKEN not in done.stdout + done.stderr
    plugin.write_text("#!/bin/sh\necho not logged in >&2\nexit 7\n")
    done = play(world, tmp_path, [task])
    assert "exit status 7: not logged in" in done.stdout + done.stderr
    plugin.unlink()
    done = play(world, tmp_path, [task])
    assert "cannot be started" in done.stdout + done.stderr
