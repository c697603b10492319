# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories of pet_volume against the API in memory; each case of the reports is named by its id."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import Answer, NoAnswer
from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import Options, find_pets
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster
from ansible_collections.stateful.petset.tests.unit.fakes.volumes import (
    NFS,
    PV,
    PVC,
    absent,
    by_hand,
    csi_driver,
    pod,
    present,
    recorded,
    storage_class,
)

CASES = Path(__file__).parents[3] / "cases" / "reports"
NO_SIZES = {"1k", "1E3", "1500m"}
EQUAL = [
    one
    for one in yaml.safe_load((CASES / "rp-vol-05.yml").read_text())["inputs"]
    if one.get("equal") and one["a"] not in NO_SIZES
]
CHECK = Options(check_mode=True, diff=True)
NO_WAIT = Options(wait_s=None)


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.auto_bind = True
    return made


def volume(cluster: FakeCluster, name: str = "default-mysql-0") -> dict[str, Any]:
    found = cluster.live(PV, name)
    if found is None:
        raise AssertionError(f"no volume {name}")
    return found


def claim(cluster: FakeCluster, name: str = "db-mysql-0") -> dict[str, Any]:
    found = cluster.live(PVC, name, "default")
    if found is None:
        raise AssertionError(f"no claim {name}")
    return found


def refused(cluster: FakeCluster, **changes: Any) -> str:
    """The message of a run that is refused, after proof that it wrote nothing."""
    before = copy.deepcopy(cluster._objects)
    with pytest.raises(errors.Refused) as problem:
        present(cluster, **changes)
    assert cluster._objects == before
    return str(problem.value)


def test_the_first_run_makes_and_binds_everything(cluster: FakeCluster) -> None:
    result, client = present(cluster)
    assert result["changed"]
    assert recorded(client) == {"create persistentvolumes": 2, "create persistentvolumeclaims": 2}
    assert [(pet["name"], pet["phase"], pet["ready"]) for pet in result["pets"]] == [
        ("mysql-0", "Bound", True),
        ("mysql-1", "Bound", True),
    ]
    assert result["pets"][1]["actions"] == [
        "create PersistentVolume default-mysql-1 (the pet has none)",
        "create PersistentVolumeClaim default/db-mysql-1 (the pet has none)",
    ]


def test_the_second_run_takes_two_requests_and_no_write(cluster: FakeCluster) -> None:
    present(cluster, replicas=30)
    result, client = present(cluster, replicas=30)
    assert not result["changed"]
    assert result["actions"] == []
    assert client.count() == {"list persistentvolumeclaims": 1, "list persistentvolumes": 1}


def test_more_pets_leave_the_others_alone(cluster: FakeCluster) -> None:
    present(cluster)
    before = volume(cluster)["metadata"]["resourceVersion"]
    _result, client = present(cluster, replicas=3)
    assert recorded(client) == {"create persistentvolumes": 1, "create persistentvolumeclaims": 1}
    assert volume(cluster)["metadata"]["resourceVersion"] == before


def test_check_mode_says_what_the_real_run_does(cluster: FakeCluster) -> None:
    told, client = present(cluster, CHECK)
    assert client.writes() == ()
    done, _client = present(cluster, Options(diff=True))
    assert told["actions"] == done["actions"]
    assert told["diff"] == done["diff"]
    assert "claimRef" in told["diff"][0]["after"]


def test_rp_ans_01_check_mode_without_the_namespace(cluster: FakeCluster) -> None:
    for create in (True, False):
        options = Options(check_mode=True, create_namespace=create)
        result, client = present(cluster, options, namespace="shop")
        assert client.writes() == ()
        assert len(result["actions"]) == 4 + create
        assert any("shop" in warning for warning in result["warnings"]) is not create
    present(cluster)
    result, client = present(cluster, CHECK)
    assert not result["changed"]
    assert client.writes() == ()


def test_rp_ans_07_a_missing_namespace_is_told_before_anything_is_made(cluster: FakeCluster) -> None:
    with pytest.raises(errors.NamespaceMissing, match="Namespace shop"):
        present(cluster, namespace="shop")
    assert cluster.all(PV) == []
    present(cluster, Options(create_namespace=True), namespace="shop")
    assert cluster.live(kinds.NAMESPACE, "shop") is not None


def test_rp_ans_06_a_terminating_namespace_is_told_before_anything_is_made(cluster: FakeCluster) -> None:
    cluster.live(kinds.NAMESPACE, "default")["metadata"]["deletionTimestamp"] = "now"  # type: ignore[index]
    with pytest.raises(errors.NamespaceTerminating):
        present(cluster)
    assert cluster.all(PV) == []


@pytest.mark.parametrize("spelling", ["2001:db8::10", "[2001:db8::10]", "2001:DB8:0::10"])
def test_rp_vol_01_another_spelling_of_the_server_is_no_change(cluster: FakeCluster, spelling: str) -> None:
    present(cluster, nfs={**NFS, "server": "2001:db8::10"})
    assert volume(cluster)["spec"]["nfs"]["server"] == "2001:db8::10"
    result, client = present(cluster, nfs={**NFS, "server": spelling})
    assert not result["changed"]
    assert client.writes() == ()
    # A volume that somebody made with brackets is the same, too.
    volume(cluster)["spec"]["nfs"]["server"] = "[2001:db8::10]"
    assert not present(cluster, nfs={**NFS, "server": spelling})[0]["changed"]


def release(cluster: FakeCluster) -> None:
    cluster.remove(PVC, "db-mysql-0", "default")
    cluster.bind()
    assert volume(cluster)["status"]["phase"] == "Released"


@pytest.mark.parametrize("phase", ["Released", "Failed"])
def test_rp_vol_02_a_released_volume_goes_to_the_same_pet_again(cluster: FakeCluster, phase: str) -> None:
    present(cluster)
    uid = volume(cluster)["metadata"]["uid"]
    release(cluster)
    volume(cluster)["status"]["phase"] = phase
    result, client = present(cluster)
    assert "repaired: released by an earlier default/db-mysql-0, data kept" in result["actions"][0]
    assert recorded(client) == {"patch persistentvolumes": 1, "create persistentvolumeclaims": 1}
    assert volume(cluster)["metadata"]["uid"] == uid
    assert volume(cluster)["spec"]["claimRef"]["uid"] == claim(cluster)["metadata"]["uid"]
    assert result["pets"][0]["ready"]
    assert not present(cluster)[0]["changed"]


def test_rp_vol_02_also_when_the_claim_was_made_anew_already(cluster: FakeCluster) -> None:
    present(cluster)
    release(cluster)
    by_hand(cluster, PVC)
    result, client = present(cluster)
    # The controller may bind the claim between our two writes; the second is then planned anew.
    assert set(recorded(client)) == {"patch persistentvolumes", "patch persistentvolumeclaims"}
    assert result["pets"][0]["ready"]


@pytest.mark.parametrize(
    "change",
    [
        {"nfs": {**NFS, "path": "/other/{ordinal}"}},
        {"nfs": {**NFS, "server": "elsewhere"}},
        {"set": "other", "volume_pattern": "default-mysql-{ordinal}"},
        {"claim_template": "data"},
        {"pets": [{"ordinal": 1, "volume": "default-mysql-0"}, {"ordinal": 0, "volume": "x"}]},
    ],
    ids=["path", "server", "set", "claim", "ordinal"],
)
def test_rp_vol_02_a_released_volume_goes_to_nobody_else(cluster: FakeCluster, change: dict[str, Any]) -> None:
    present(cluster, replicas=1)
    release(cluster)
    assert "PersistentVolume default-mysql-0" in refused(cluster, **{"replicas": 2, **change})


def test_a_claim_that_lost_its_volume_gets_it_back(cluster: FakeCluster) -> None:
    present(cluster)
    claim(cluster)["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    cluster.remove(PV, "default-mysql-0")
    cluster.bind()
    assert claim(cluster)["status"]["phase"] == "Lost"
    result, _client = present(cluster)
    assert "claim db-mysql-0 has lost it" in result["actions"][0]
    assert volume(cluster)["spec"]["claimRef"]["uid"] == claim(cluster)["metadata"]["uid"]
    assert result["pets"][0]["ready"]


@pytest.mark.parametrize("there", ["standard", None], ids=["default-class", "no-class"])
def test_rp_vol_03_a_wrong_class_is_named_with_both(cluster: FakeCluster, there: str | None) -> None:
    by_hand(cluster, PVC, storageClassName=there)
    if there is None:
        # A claim from before the default class counts as one without class.
        assert present(cluster)[0]["pets"][0]["ready"]
        return
    text = refused(cluster)
    assert "PersistentVolumeClaim default/db-mysql-0" in text
    assert "'standard'" in text
    assert "wanted is ''" in text


def test_rp_vol_04_a_foreign_claim_cannot_take_a_pets_volume(cluster: FakeCluster) -> None:
    foreign = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": "theirs"}
    by_hand(cluster, PV, claimRef=foreign)
    text = refused(cluster)
    assert "reserved for claim default/theirs" in text
    assert "wanted is default/db-mysql-0" in text


def test_rp_vol_04_a_claim_that_would_bind_anywhere_is_tied_to_its_volume(cluster: FakeCluster) -> None:
    by_hand(cluster, PV, claimRef=None)
    by_hand(cluster, PVC, volumeName=None)
    result, client = present(cluster, replicas=1)
    assert set(recorded(client)) == {"patch persistentvolumes", "patch persistentvolumeclaims"}
    assert claim(cluster)["spec"]["volumeName"] == "default-mysql-0"
    assert result["pets"][0]["ready"]


def test_a_claim_that_is_bound_elsewhere_is_refused(cluster: FakeCluster) -> None:
    by_hand(cluster, PVC, volumeName="pvc-1234")
    text = refused(cluster)
    assert "bound to volume pvc-1234, wanted is default-mysql-0" in text
    assert "pets[].volume" in text


@pytest.mark.parametrize("case", EQUAL, ids=lambda one: f"{one['a']}-{one['b']}")
def test_rp_vol_05_another_spelling_of_the_size_is_no_change(cluster: FakeCluster, case: dict[str, Any]) -> None:
    sizes = [case["a"], str(case["b"])]
    for first in sizes:
        for second in sizes:
            world = FakeCluster()
            world.auto_bind = True
            present(world, capacity=first)
            result, client = present(world, capacity=second)
            assert not result["changed"]
            assert client.writes() == ()


def test_rp_vol_05_a_size_that_the_server_keeps_as_it_is(cluster: FakeCluster) -> None:
    by_hand(cluster, PV, capacity={"storage": "1073741824"})
    by_hand(cluster, PVC, resources={"requests": {"storage": "1073741824"}})
    present(cluster)
    assert claim(cluster)["spec"]["resources"]["requests"]["storage"] == "1073741824"


@pytest.mark.parametrize("size", ["2Gi", "512Mi"])
def test_rp_vol_06_nfs_volumes_neither_grow_nor_shrink(cluster: FakeCluster, size: str) -> None:
    present(cluster)
    text = refused(cluster, capacity=size)
    assert "1Gi" in text
    assert size in text
    assert "dynamic" in text
    result, _client = present(
        cluster, replicas=3, capacity=size, pets=[{"ordinal": 0, "capacity": "1Gi"}, {"ordinal": 1, "capacity": "1Gi"}]
    )
    assert result["pets"][2]["capacity"] == size


def test_rp_vol_08_a_trailing_slash_is_no_change(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["spec"]["nfs"]["path"] += "/"
    assert not present(cluster, nfs={**NFS, "path": NFS["path"] + "//"})[0]["changed"]


def test_rp_vol_09_another_name_of_the_same_server(cluster: FakeCluster) -> None:
    pets = [{"ordinal": 1, "server": "nfs2", "path": "/srv/default/mysql/0/below"}]
    assert "are the same server" in refused(cluster, pets=pets)
    present(cluster, pets=[{**pets[0], "server": "nfs3"}])


def test_rp_vol_09_a_directory_that_is_somebody_elses_volume(cluster: FakeCluster) -> None:
    by_hand(cluster, PV, claimRef=None)
    cluster.live(PV, "default-mysql-0")["metadata"]["name"] = "theirs"  # type: ignore[index]
    cluster._objects[("persistentvolumes", None, "theirs")] = cluster._objects.pop(
        ("persistentvolumes", None, "default-mysql-0")
    )
    text = refused(cluster)
    assert "nfs.example.com:/srv/default/mysql/0 belongs to PersistentVolume theirs already" in text
    present(cluster, pets=[{"ordinal": 0, "volume": "theirs"}])


@pytest.mark.parametrize("path", ["/srv/default/mysql/0", "/srv/default/mysql"])
def test_rp_vol_09_somebody_elses_volume_by_another_name_of_the_server(cluster: FakeCluster, path: str) -> None:
    """Two servers of one name and one of another: only the names were compared."""
    made = by_hand(cluster, PV, nfs={"server": "nfs2", "path": path}, claimRef=None)
    cluster._objects[("persistentvolumes", None, "theirs")] = cluster._objects.pop(
        ("persistentvolumes", None, made["metadata"]["name"])
    )
    cluster._objects[("persistentvolumes", None, "theirs")]["metadata"]["name"] = "theirs"
    if path.endswith("/0"):
        text = refused(cluster)
        assert "nfs.example.com:/srv/default/mysql/0 belongs to PersistentVolume theirs already as nfs2:/srv" in text
        return
    result, _client = present(cluster)
    assert any("theirs as nfs2:/srv/default/mysql share files" in one for one in result["warnings"])


def test_a_volume_of_a_parent_directory_is_warned_about(cluster: FakeCluster) -> None:
    by_hand(cluster, PV, nfs={"server": "nfs.example.com", "path": "/srv"}, claimRef=None)
    cluster._objects[("persistentvolumes", None, "backup")] = cluster._objects.pop(
        ("persistentvolumes", None, "default-mysql-0")
    )
    cluster._objects[("persistentvolumes", None, "backup")]["metadata"]["name"] = "backup"
    result, _client = present(cluster)
    assert any("PersistentVolume backup share files" in one for one in result["warnings"])


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (
            {"server": "new.example.com"},
            ["nfs.example.com:/srv/default/mysql/0", "new.example.com:/srv/default/mysql/0"],
        ),
        ({"path": "/new/{ordinal}"}, ["nfs.example.com:/srv/default/mysql/0", "nfs.example.com:/new/0"]),
    ],
)
def test_rp_vol_10_where_a_volume_points_to_is_never_changed(
    cluster: FakeCluster, change: dict[str, str], texts: list[str]
) -> None:
    present(cluster)
    text = refused(cluster, nfs={**NFS, **change})
    for one in [*texts, "cannot be changed", "copy the files", "confirm_absent"]:
        assert one in text


def test_rp_vol_10_what_may_be_changed_is_changed_and_said(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    volume(cluster)["metadata"]["labels"]["team"] = "old"
    options = ["nfsvers=4.2", "hard"]
    result, client = present(cluster, nfs={**NFS, "mount_options": options}, labels={"team": "db"})
    assert "reclaim policy Delete would not keep the data; mount options differ; labels" in result["actions"][0]
    assert recorded(client) == {"patch persistentvolumes": 2, "patch persistentvolumeclaims": 2}
    assert volume(cluster)["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume(cluster)["spec"]["mountOptions"] == options
    assert volume(cluster)["metadata"]["labels"]["team"] == "db"
    assert any("restart mysql-0" in one for one in result["warnings"])
    assert not present(cluster, nfs={**NFS, "mount_options": options}, labels={"team": "db"})[0]["changed"]


def test_rp_vol_10_the_order_of_mount_options_is_no_difference(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["spec"]["mountOptions"].reverse()
    assert not present(cluster)[0]["changed"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"persistentVolumeReclaimPolicy": "Delete"}, "reclaim policy Delete, wanted Retain"),
        ({"mountOptions": ["soft"]}, "mount options soft"),
        ({"mountOptions": None}, "mount options none"),
        ({"capacity": {"storage": "2Gi"}}, "capacity is 2Gi, wanted is 1Gi"),
        ({"accessModes": ["ReadOnlyMany"]}, "access modes are ReadOnlyMany"),
        ({"storageClassName": "manual"}, "class is 'manual'"),
        ({"volumeMode": "Block"}, "block or read-only"),
        ({"nfs": None, "hostPath": {"path": "/x"}}, "a volume of kind hostPath"),
        ({"nfs": {"server": "nfs.example.com", "path": "/srv/default/mysql/0", "readOnly": True}}, "read-only"),
    ],
)
def test_a_volume_made_by_hand_is_adopted_only_when_all_agrees(
    cluster: FakeCluster, change: dict[str, Any], text: str
) -> None:
    by_hand(cluster, PV, **change)
    assert text in refused(cluster)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"accessModes": ["ReadOnlyMany"]}, "access modes are ReadOnlyMany"),
        ({"volumeMode": "Block"}, "volume mode is Block"),
        ({"resources": {"requests": {"storage": "2Gi"}}}, "asks for 2Gi, wanted is 1Gi; a claim cannot shrink"),
        ({"resources": {"requests": {"storage": "1Mi"}}}, "asks for 1Mi, wanted is 1Gi"),
    ],
)
def test_a_claim_made_by_hand_is_adopted_only_when_all_agrees(
    cluster: FakeCluster, change: dict[str, Any], text: str
) -> None:
    by_hand(cluster, PVC, **change)
    assert text in refused(cluster)


def test_objects_made_by_hand_that_agree_are_adopted(cluster: FakeCluster) -> None:
    for ordinal in (0, 1):
        by_hand(cluster, PV, ordinal)
        by_hand(cluster, PVC, ordinal)
    cluster.bind()
    result, client = present(cluster)
    assert recorded(client) == {"patch persistentvolumes": 2, "patch persistentvolumeclaims": 2}
    assert all("(labels)" in action for action in result["actions"])
    assert not present(cluster)[0]["changed"]


def test_labels_of_another_pet_are_refused(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["metadata"]["labels"]["stateful.petset/ordinal"] = "1"
    assert "belongs to ordinal 1" in refused(cluster)
    volume(cluster)["metadata"]["labels"]["stateful.petset/ordinal"] = "0"
    claim(cluster)["metadata"]["labels"]["stateful.petset/set"] = "other"
    assert "'other'" in refused(cluster)


def test_all_problems_are_told_at_once(cluster: FakeCluster) -> None:
    by_hand(cluster, PVC, 0, volumeName="pvc-0")
    by_hand(cluster, PV, 1, storageClassName="manual")
    before = copy.deepcopy(cluster._objects)
    with pytest.raises(errors.Refused, match="2 problems") as problem:
        present(cluster)
    assert [one["subject"] for one in problem.value.details["problems"]] == [
        "PersistentVolumeClaim default/db-mysql-0",
        "PersistentVolume default-mysql-1",
    ]
    assert cluster._objects == before


def test_a_time_out_tells_the_event_of_the_claim(cluster: FakeCluster) -> None:
    cluster.auto_bind = False
    for reason, when in (("FailedBinding", "2026-01-02T00:00:00Z"), ("Old", "2026-01-01T00:00:00Z")):
        cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": reason.lower(), "namespace": "default"},
                "involvedObject": {"kind": "PersistentVolumeClaim", "name": "db-mysql-1"},
                "reason": reason,
                "message": "no persistent volumes available",
                "lastTimestamp": when,
            }
        )
    clock = FakeClock()
    with pytest.raises(errors.TimedOut) as problem:
        present(cluster, Options(wait_s=30), clock)
    assert clock.time_s == pytest.approx(1030.0)
    assert "0 of 2 claims bound" in str(problem.value)
    assert "FailedBinding: no persistent volumes available" in str(problem.value)
    assert [pet["event"] for pet in problem.value.details["pets"]] == [
        "",
        "FailedBinding: no persistent volumes available",
    ]


def test_waiting_takes_one_list_of_each_kind_a_look(cluster: FakeCluster) -> None:
    cluster.auto_bind = False
    clock = FakeClock()

    def later() -> None:
        if clock.time_s > 1005:
            cluster.bind()

    clock.during_sleep = later
    result, client = present(cluster, clock=clock, replicas=10)
    assert all(pet["ready"] for pet in result["pets"])
    counts = client.count()
    assert counts["list persistentvolumeclaims"] < 15
    assert counts["list persistentvolumes"] <= counts["list persistentvolumeclaims"] + 5
    assert "list events" not in counts


def test_claims_are_made_when_the_binder_has_seen_the_volumes(cluster: FakeCluster) -> None:
    """A claim that came before the binder had seen its volume was bound in the binder's next round, 15 s later."""
    cluster.auto_bind = False
    clock = FakeClock()
    seen: list[tuple[float, int, int]] = []

    def later() -> None:
        seen.append((clock.time_s, len(cluster.all(PV)), len(cluster.all(PVC))))
        if clock.time_s > 1000.45:
            cluster.bind()

    clock.during_sleep = later
    result, _client = present(cluster, clock=clock)
    assert all(pet["ready"] for pet in result["pets"])
    assert [(volumes, claims) for time_s, volumes, claims in seen if time_s < 1000.45] == [(2, 0)] * 2


def test_a_binder_that_does_not_look_is_not_waited_for_long(cluster: FakeCluster) -> None:
    cluster.auto_bind = False
    clock = FakeClock()
    with pytest.raises(errors.PetsetError):
        present(cluster, Options(wait_s=20.0), clock)
    assert len(cluster.all(PVC)) == 2


def test_without_wait_nothing_is_waited_for(cluster: FakeCluster) -> None:
    cluster.auto_bind = False
    clock = FakeClock()
    result, _client = present(cluster, NO_WAIT, clock)
    assert clock.time_s == 1000.0
    assert [pet["ready"] for pet in result["pets"]] == [False, False]


def test_a_half_bound_pair_is_not_called_bound(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["spec"]["claimRef"]["uid"] = ""
    with pytest.raises(errors.TimedOut, match="is not bound to it"):
        present(cluster, Options(wait_s=5))


# Trouble in the middle of a run.

CONFLICT = Answer(409, {}, b'{"kind": "Status", "reason": "Conflict", "message": "modified"}')
EXISTS = Answer(409, {}, b'{"kind": "Status", "reason": "AlreadyExists"}')
BUSY = Answer(429, {"retry-after": "1"}, b"{}")
BROKEN = Answer(500, {}, b"{}")


@pytest.mark.parametrize(
    "answer", [CONFLICT, BUSY, BROKEN, NoAnswer("reset", sent=True)], ids=["409", "429", "500", "reset"]
)
@pytest.mark.parametrize("land", [False, True], ids=["lost", "landed"])
@pytest.mark.parametrize("nth", range(4))
def test_rp_ans_04_trouble_at_any_write_ends_well(cluster: FakeCluster, answer: Any, land: bool, nth: int) -> None:
    path = ["persistentvolumes", "persistentvolumeclaims"][nth % 2]
    cluster.fail_next(answer, method="POST", path=path, land=land, times=1 + nth // 2)
    result, _client = present(cluster)
    assert all(pet["ready"] for pet in result["pets"])
    assert not present(cluster)[0]["changed"]


def test_rp_ans_04_a_conflict_that_never_ends_is_told(cluster: FakeCluster) -> None:
    present(cluster)
    cluster.fail_next(CONFLICT, method="PATCH", times=99)
    with pytest.raises(errors.Conflict):
        present(cluster, labels={"a": "b"})


def test_rp_ans_04_somebody_else_makes_the_object_first(cluster: FakeCluster) -> None:
    cluster.fail_next(EXISTS, method="POST", path="persistentvolumeclaims")
    assert all(pet["ready"] for pet in present(cluster)[0]["pets"])


@pytest.mark.parametrize("stop_after", range(4))
def test_a_run_that_was_killed_is_ended_by_the_next(cluster: FakeCluster, stop_after: int) -> None:
    left = [stop_after]
    real = cluster.send

    def send(method: str, *args: Any) -> Answer:
        if method != "GET":
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        return real(method, *args)

    cluster.send = send  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        present(cluster)
    cluster.send = real  # type: ignore[method-assign]
    result, _client = present(cluster)
    assert result["changed"]
    assert all(pet["ready"] for pet in result["pets"])
    assert not present(cluster)[0]["changed"]


def what_stands(cluster: FakeCluster) -> dict[str, Any]:
    """All objects without what is another each time; a volume's claim is named by what it is, not by its uid."""
    found: dict[str, Any] = {}
    claims = {live["metadata"]["uid"]: live["metadata"]["name"] for live in cluster.all(PVC)}
    for live in copy.deepcopy(list(cluster._objects.values())):
        for key in ("uid", "resourceVersion", "generation"):
            live["metadata"].pop(key, None)
        ref = live.get("spec", {}).get("claimRef", {})
        ref.pop("resourceVersion", None)
        if "uid" in ref:
            ref["uid"] = claims[ref["uid"]]
        found[f"{live['kind']} {live['metadata']['name']}"] = live
    return found


@pytest.fixture
def undisturbed() -> dict[str, Any]:
    """What stands after a first run without trouble."""
    other = FakeCluster()
    other.auto_bind = True
    present(other)
    return what_stands(other)


@pytest.mark.parametrize("answered", [True, False], ids=["between", "unanswered"])
@pytest.mark.parametrize("writes", range(1, 5))
def test_the_api_dies_after_any_write_and_is_caught_up_with(
    cluster: FakeCluster, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    cluster.die_after(writes, answered=answered)
    with pytest.raises(errors.Unreachable, match=r"fake\.invalid:6443: answered before, now \[Errno 111\] Connection"):
        present(cluster)
    cluster.come_back()
    result, _client = present(cluster)
    assert result["changed"] is (writes < 4)
    assert all(pet["ready"] for pet in result["pets"])
    assert what_stands(cluster) == undisturbed
    again, client = present(cluster)
    assert (again["changed"], client.writes()) == (False, ())


@pytest.mark.parametrize("answered", [True, False], ids=["between", "unanswered"])
@pytest.mark.parametrize("writes", range(1, 5))
def test_the_api_dies_after_any_write_and_comes_back_in_time(
    cluster: FakeCluster, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    cluster.die_after(writes, answered=answered)
    clock = FakeClock()
    clock.during_sleep = lambda: cluster.come_back() if clock.now_s() > 1020 else None
    result, _client = present(cluster, clock=clock)
    assert clock.now_s() > 1020, "else it was never away"
    assert all(pet["ready"] for pet in result["pets"])
    assert what_stands(cluster) == undisturbed
    assert not present(cluster)[0]["changed"]


def test_the_api_goes_away_for_good_and_what_was_done_is_told(cluster: FakeCluster) -> None:
    from ansible_collections.stateful.petset.plugins.module_utils._core.volumes import parse_volume_set
    from ansible_collections.stateful.petset.plugins.module_utils._io.volumes import run_present
    from ansible_collections.stateful.petset.tests.unit.fakes.volumes import params

    cluster.fail_next(NoAnswer("refused", sent=False), method="POST", path="persistentvolumeclaims", times=999)
    partial: dict[str, Any] = {}
    with pytest.raises(errors.Unreachable, match="answered before"):
        run_present(cluster.client(), parse_volume_set(params(replicas=1)), Options(), partial)
    assert partial["changed"]
    assert partial["actions"] == ["create PersistentVolume default-mysql-0 (the pet has none)"]


# Looking.


@pytest.mark.parametrize(
    ("directories", "found"),
    [
        ((), []),
        (("/srv/default/mysql/1",), ["default-mysql-1"]),
        (("/srv/default/mysql",), ["default-mysql-0", "default-mysql-1", "dump"]),
        (("/srv/default/mysql/0", "/srv/default/mysql/1"), ["default-mysql-0", "default-mysql-1", "dump"]),
        (("/",), ["default-mysql-0", "default-mysql-1", "dump"]),
        # Neither what only begins with the same letters, nor a directory below: its export is another one.
        (("/srv/default/my", "/srv/default/mysql/0/dump/old"), []),
    ],
)
def test_volumes_in_directories_are_found_whoever_made_them(
    cluster: FakeCluster, directories: tuple[str, ...], found: list[str]
) -> None:
    present(cluster)
    spec = {"nfs": {"server": "another-name", "path": "/srv/default/mysql/0/dump/"}}
    cluster.add({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "dump"}, "spec": spec})
    volumes = find_pets(cluster.client(), "default", "mysql", "db", directories)["volumes"]
    assert [one["name"] for one in volumes] == found
    told = [(one["claim"], one["server"], one["path"]) for one in volumes if one["name"] == "dump"]
    assert told == [("", "another-name", "/srv/default/mysql/0/dump")] * len(told)


def test_volumes_that_cannot_be_seen_are_not_taken_for_gone(cluster: FakeCluster) -> None:
    present(cluster)
    cluster.deny("list", PV)
    assert len(find_pets(cluster.client(), "default", "mysql", "db")["pets"]) == 2
    with pytest.raises(errors.Forbidden, match="may not list persistentvolumes"):
        find_pets(cluster.client(), "default", "mysql", "db", ("/srv",))


# Rights.


def test_rp_ans_10_without_rights_on_volumes_the_wanted_objects_are_listed(cluster: FakeCluster) -> None:
    cluster.deny("list", PV)
    cluster.deny("get", PV)
    with pytest.raises(errors.Forbidden) as problem:
        present(cluster)
    text = str(problem.value)
    assert "user tester may not get persistentvolumes cluster-wide" in text
    assert "administrator" in text
    objects = problem.value.details["wanted_objects"]
    assert [one["metadata"]["name"] for one in objects] == ["default-mysql-0", "default-mysql-1"]


def test_rp_ans_10_volumes_that_an_administrator_made_are_used(cluster: FakeCluster) -> None:
    present(cluster)
    cluster.deny("list", PV)
    cluster.deny("create", PV)
    cluster.deny("get", kinds.NAMESPACE)
    for name in ("db-mysql-0", "db-mysql-1"):
        cluster.remove(PVC, name, "default")
    for one in cluster.all(PV):
        del one["spec"]["claimRef"]["uid"]
    result, _client = present(cluster)
    assert all(pet["ready"] for pet in result["pets"])


def test_rp_ans_10_a_create_that_is_not_allowed(cluster: FakeCluster) -> None:
    cluster.deny("create", PV)
    with pytest.raises(errors.Forbidden) as problem:
        present(cluster)
    assert problem.value.missing["verb"] == "create"
    assert len(problem.value.details["wanted_objects"]) == 4


def test_rp_ans_10_only_what_is_needed_is_looked_up(cluster: FakeCluster) -> None:
    present(cluster)
    for kind in (kinds.NAMESPACE, kinds.NODE, kinds.STORAGE_CLASS, kinds.POD, kinds.EVENT, kinds.CSI_DRIVER):
        cluster.deny("list", kind)
        cluster.deny("get", kind)
    assert not present(cluster)[0]["changed"]


# Storage classes.


def test_a_class_that_waits_for_the_pod_is_not_waited_for(cluster: FakeCluster) -> None:
    cluster.add(storage_class())
    cluster.add(csi_driver())
    result, client = present(cluster, is_dynamic=True, access_mode="ReadWriteOncePod")
    assert recorded(client) == {"create persistentvolumeclaims": 2}
    assert [pet["reason"] for pet in result["pets"]] == ["waits for its first pod, as its class wants it"] * 2
    assert not present(cluster, is_dynamic=True, access_mode="ReadWriteOncePod")[0]["changed"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metadata": {"name": "slow"}}, "StorageClass fast: it is not there. Make it, or use one of: slow"),
        ({"reclaimPolicy": "Delete"}, "the data would go with the claim"),
        ({"provisioner": "kubernetes.io/gce-pd"}, "CSI driver pd.csi.storage.gke.io is not installed"),
        ({"provisioner": "nfs.csi.k8s.io"}, "CSI driver nfs.csi.k8s.io is not installed"),
    ],
)
def test_classes_that_are_refused(cluster: FakeCluster, change: dict[str, Any], text: str) -> None:
    cluster.add(storage_class(**change))
    cluster.add(csi_driver())
    assert text in refused(cluster, is_dynamic=True)


def test_a_class_without_reclaim_policy_deletes(cluster: FakeCluster) -> None:
    made = storage_class()
    del made["reclaimPolicy"]
    cluster.add(made)
    cluster.add(csi_driver())
    assert "reclaim policy is Delete" in refused(cluster, is_dynamic=True)
    present(cluster, is_dynamic=True, accept_delete_policy=True)


def ready_made(cluster: FakeCluster, name: str, claim_ref: str = "", **spec: Any) -> None:
    """A volume of a class that makes none; ``claim_ref`` is the claim that it is kept for."""
    base = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "fast",
        "local": {"path": f"/mnt/{name}"},
        **({"claimRef": {"namespace": "default", "name": claim_ref}} if claim_ref else {}),
    }
    phase = spec.pop("phase", "Available")
    manifest = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    cluster.add({**manifest, "spec": {**base, **spec}, "status": {"phase": phase}})


@pytest.fixture
def by_class(cluster: FakeCluster) -> FakeCluster:
    """A class without a provisioner and, as for most of them, without a reclaim policy of its own."""
    cluster.add(storage_class(provisioner="kubernetes.io/no-provisioner", reclaimPolicy="Delete"))
    return cluster


def test_a_class_without_a_provisioner_was_refused_although_its_volumes_were_there(by_class: FakeCluster) -> None:
    for ordinal in (0, 1):
        ready_made(by_class, f"disk-{ordinal}", f"db-mysql-{ordinal}")
    result, client = present(by_class, is_dynamic=True)
    assert recorded(client) == {"create persistentvolumeclaims": 2}
    assert result["warnings"] == []
    assert all(pet["ready"] for pet in result["pets"])
    assert not present(by_class, is_dynamic=True)[0]["changed"]


def test_volumes_that_are_kept_for_nobody_are_chosen_by_kubernetes_and_that_is_said(by_class: FakeCluster) -> None:
    ready_made(by_class, "disk-a", "db-mysql-0")
    ready_made(by_class, "disk-b", capacity={"storage": "3Gi"})
    result, _client = present(by_class, is_dynamic=True)
    (said,) = result["warnings"]
    assert "Kubernetes chooses which of those that are there it binds to db-mysql-1;" in said


@pytest.mark.parametrize(
    "other",
    [
        {"phase": "Released"},
        {"phase": "Failed"},
        {"storageClassName": "slow"},
        {"capacity": {"storage": "1023Mi"}},
        {"capacity": {}},
        {"accessModes": ["ReadOnlyMany"]},
        {"volumeMode": "Block"},
        {"claim_ref": "db-other-1"},
        {"claim_ref": "db-mysql-0"},
        {"claimRef": {"namespace": "elsewhere", "name": "db-mysql-1"}},
        {"claimRef": {"namespace": "default", "name": "db-mysql-1", "uid": "of-an-older-claim"}},
    ],
    ids=str,
)
def test_a_class_without_a_free_volume_for_each_claim_is_refused(by_class: FakeCluster, other: dict[str, Any]) -> None:
    """Else a claim would wait for ever."""
    ready_made(by_class, "disk-0", "db-mysql-0")
    ready_made(by_class, "disk-1", **other)
    said = refused(by_class, is_dynamic=True)
    assert "none of its volumes is free for db-mysql-1 (1Gi) with access mode ReadWriteOnce" in said


def test_the_smallest_claim_takes_the_smallest_volume(by_class: FakeCluster) -> None:
    """Otherwise the first claim would seem to take the only volume that is large enough for the second."""
    ready_made(by_class, "a-large", capacity={"storage": "2Gi"})
    ready_made(by_class, "b-small")
    pets = [{"ordinal": 1, "capacity": "2Gi"}]
    assert present(by_class, CHECK, is_dynamic=True, pets=pets)[0]["changed"]
    pets = [{"ordinal": 0, "capacity": "2Gi"}, {"ordinal": 1, "capacity": "2Gi"}]
    assert "free for db-mysql-1 (2Gi)" in refused(by_class, is_dynamic=True, pets=pets)


@pytest.mark.parametrize("names", [("db-mysql-0", "db-mysql-1"), ("db-mysql-0", ""), ("", "")])
def test_ready_made_volumes_that_lose_the_data_are_refused(by_class: FakeCluster, names: tuple[str, str]) -> None:
    ready_made(by_class, "disk-0", names[0])
    ready_made(by_class, "disk-1", names[1], persistentVolumeReclaimPolicy="Delete")
    assert "volumes disk-1 (Delete) is not Retain: the data would go with the claim" in refused(
        by_class, is_dynamic=True
    )
    assert present(by_class, is_dynamic=True, accept_delete_policy=True)[0]["changed"]


def test_a_volume_that_no_claim_can_take_may_have_any_reclaim_policy(by_class: FakeCluster) -> None:
    for ordinal in (0, 1):
        ready_made(by_class, f"disk-{ordinal}", f"db-mysql-{ordinal}")
    ready_made(by_class, "others", persistentVolumeReclaimPolicy="Delete")
    assert present(by_class, is_dynamic=True)[0]["changed"]


def test_a_claim_that_is_being_bound_needs_no_other_volume(by_class: FakeCluster) -> None:
    """A run that was killed has made the claims. The binder says that a volume is taken before the claim is Bound."""
    by_class.auto_bind = False
    for ordinal in (0, 1):
        ready_made(by_class, f"disk-{ordinal}", f"db-mysql-{ordinal}")
    present(by_class, NO_WAIT, is_dynamic=True)
    volume(by_class, "disk-1")["spec"]["claimRef"]["uid"] = claim(by_class, "db-mysql-1")["metadata"]["uid"]
    volume(by_class, "disk-1")["status"]["phase"] = "Bound"
    assert not present(by_class, NO_WAIT, is_dynamic=True)[0]["changed"]


def test_ready_made_volumes_that_may_not_be_read_are_warned_about(by_class: FakeCluster) -> None:
    by_class.deny("list", kinds.PERSISTENT_VOLUME)
    result, _client = present(by_class, is_dynamic=True)
    (said,) = result["warnings"]
    assert "no permission to list persistentvolumes" in said


def test_a_provisioner_that_is_no_csi_driver_is_warned_about(cluster: FakeCluster) -> None:
    cluster.add(storage_class(provisioner="rancher.io/local-path"))
    result, _client = present(cluster, is_dynamic=True)
    assert any("rancher.io/local-path" in one for one in result["warnings"])


def test_the_rights_to_look_at_one_class_are_enough_to_refuse_it(cluster: FakeCluster) -> None:
    """The rights that petset_access makes: with them a class that deletes the data was only warned about."""
    cluster.add(storage_class(reclaimPolicy="Delete"))
    cluster.add(csi_driver())
    cluster.deny("list", kinds.STORAGE_CLASS)
    assert "reclaim policy is Delete" in refused(cluster, is_dynamic=True)


def test_a_class_that_may_not_be_read_is_warned_about_and_the_event_decides(cluster: FakeCluster) -> None:
    cluster.deny("get", kinds.STORAGE_CLASS)
    for ordinal in (0, 1):
        cluster.add(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"e{ordinal}", "namespace": "default"},
                "involvedObject": {"kind": "PersistentVolumeClaim", "name": f"db-mysql-{ordinal}"},
                "reason": "WaitForFirstConsumer",
            }
        )
    result, _client = present(cluster, is_dynamic=True)
    assert any("could not be checked" in one for one in result["warnings"])
    assert all(pet["ready"] for pet in result["pets"])


def grown(cluster: FakeCluster, size: str, **change: Any) -> dict[str, Any]:
    cluster.add(storage_class(**change))
    cluster.add(csi_driver())
    present(cluster, is_dynamic=True)
    for one in cluster.all(PVC):
        one["status"]["phase"] = "Bound"
        one["spec"]["volumeName"] = "pvc-" + one["metadata"]["name"]
        cluster.add(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": one["spec"]["volumeName"]},
                "spec": {
                    "csi": {"driver": "x"},
                    "claimRef": {
                        "namespace": "default",
                        "name": one["metadata"]["name"],
                        "uid": one["metadata"]["uid"],
                    },
                    "persistentVolumeReclaimPolicy": "Retain",
                },
                "status": {"phase": "Bound"},
            }
        )
    cluster.auto_bind = False
    return present(cluster, is_dynamic=True, capacity=size)[0]


def test_rp_vol_06_a_class_that_can_expand_grows(cluster: FakeCluster) -> None:
    result = grown(cluster, "2Gi")
    assert result["changed"]
    assert claim(cluster)["spec"]["resources"]["requests"]["storage"] == "2Gi"
    again, client = present(cluster, is_dynamic=True, capacity="2048Mi")
    assert not again["changed"]
    assert client.count() == {"list persistentvolumeclaims": 1}


def test_rp_vol_06_a_class_that_cannot_expand(cluster: FakeCluster) -> None:
    with pytest.raises(errors.Refused, match="allowVolumeExpansion"):
        grown(cluster, "2Gi", allowVolumeExpansion=False)


def test_rp_vol_06_nothing_shrinks(cluster: FakeCluster) -> None:
    with pytest.raises(errors.Refused, match="asks for 1Gi, wanted is 512Mi; a claim cannot shrink"):
        grown(cluster, "512Mi")


# Removal.


def test_rp_nfs_09_pets_that_are_not_counted_any_more_are_told(cluster: FakeCluster) -> None:
    present(cluster, replicas=4)
    cluster.remove(PVC, "db-mysql-3", "default")
    volume = cluster.live(PV, "default-mysql-3")
    assert volume is not None
    del volume["spec"]["claimRef"]
    # Of another set, and of the same name elsewhere.
    present(cluster, set="mysql-2", replicas=3)
    for check_mode in (True, False):
        result, client = present(cluster, Options(check_mode=check_mode), replicas=2)
        assert not result["changed"]
        assert [(one["name"], one["claim"], one["phase"], one["volume"], one["path"]) for one in result["others"]] == [
            ("mysql-2", "db-mysql-2", "Bound", "default-mysql-2", "/srv/default/mysql/2"),
            ("mysql-3", "db-mysql-3", "", "default-mysql-3", "/srv/default/mysql/3"),
        ]
        assert not client.writes()
    result, _client = present(cluster, replicas=4)
    assert result["others"] == []


def test_removal_has_to_be_confirmed_by_name(cluster: FakeCluster) -> None:
    present(cluster)
    with pytest.raises(errors.Refused, match=r"pet mysql-1: removing claim db-mysql-1 and volume default-mysql-1"):
        absent(cluster, ordinals=[1])
    with pytest.raises(errors.InvalidInput, match="no such pet"):
        absent(cluster, "mysql-2", ordinals=[1])
    assert len(cluster.all(PVC)) == 2


def test_removal_takes_the_objects_and_says_where_the_data_is(cluster: FakeCluster) -> None:
    present(cluster)
    told, client = absent(cluster, "mysql-1", ordinals=[1], options=CHECK)
    assert client.writes() == ()
    result, client = absent(cluster, "mysql-1", ordinals=[1])
    assert result["actions"] == told["actions"]
    assert recorded(client) == {"delete persistentvolumeclaims": 1, "delete persistentvolumes": 1}
    assert result["kept"] == ["mysql-1: nfs.example.com:/srv/default/mysql/1"]
    assert cluster.live(PV, "default-mysql-1") is None
    assert cluster.live(PV, "default-mysql-0") is not None
    again, client = absent(cluster, ordinals=[1])
    assert not again["changed"]
    assert client.count() == {"list persistentvolumeclaims": 1, "list persistentvolumes": 1}


def test_removal_needs_no_options_of_the_back_end(cluster: FakeCluster) -> None:
    present(cluster, volume_pattern="odd-{pet}", pets=[{"ordinal": 1, "path": "/else/where"}])
    result, _client = absent(cluster, "mysql-1", ordinals=[1], nfs=None, capacity=None)
    assert result["kept"] == ["mysql-1: nfs.example.com:/else/where"]


def test_a_pet_that_runs_keeps_its_claim(cluster: FakeCluster) -> None:
    present(cluster)
    cluster.add(pod("mysql-1", "db-mysql-1"))
    with pytest.raises(errors.Refused, match="in use by mysql-1"):
        absent(cluster, "mysql-1", ordinals=[1])
    cluster.remove(kinds.POD, "mysql-1", "default")
    cluster.add(pod("old", "db-mysql-1", "Succeeded"))
    absent(cluster, "mysql-1", ordinals=[1])


def test_a_pet_that_the_set_still_wants_keeps_its_claim(cluster: FakeCluster) -> None:
    present(cluster)
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "mysql", "namespace": "default"},
        "spec": {"replicas": 2},
    }
    cluster.add(stateful_set)
    with pytest.raises(errors.Refused, match="StatefulSet default/mysql still wants it"):
        absent(cluster, "mysql-1", ordinals=[1])
    cluster.edit(kinds.STATEFUL_SET, "mysql", "default", {"spec": {"replicas": 1}})
    absent(cluster, "mysql-1", ordinals=[1])


def test_a_volume_that_would_delete_its_data_is_not_released(cluster: FakeCluster) -> None:
    present(cluster)
    volume(cluster)["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    with pytest.raises(errors.Refused, match="reclaim policy is Delete"):
        absent(cluster, "mysql-0", ordinals=[0])


def test_objects_of_others_are_not_removed(cluster: FakeCluster) -> None:
    by_hand(cluster, PV)
    by_hand(cluster, PVC)
    cluster.bind()
    with pytest.raises(errors.Refused, match="does not carry the labels of this set"):
        absent(cluster, "mysql-0", ordinals=[0])


@pytest.mark.parametrize(("kind", "text"), [(kinds.POD, "cannot be seen"), (PV, "cannot be read")])
def test_what_cannot_be_seen_is_not_taken_for_safe(cluster: FakeCluster, kind: kinds.Kind, text: str) -> None:
    present(cluster)
    cluster.deny("list", kind)
    with pytest.raises(errors.Refused, match=text):
        absent(cluster, "mysql-0", ordinals=[0])


def test_volumes_of_a_class_are_kept(cluster: FakeCluster) -> None:
    grown(cluster, "1Gi")
    result, client = absent(cluster, "mysql-1", ordinals=[1], nfs=None)
    assert recorded(client) == {"delete persistentvolumeclaims": 1}
    assert result["kept"] == ["mysql-1: PersistentVolume pvc-db-mysql-1 (csi)"]


def test_claims_of_a_class_on_nfs_could_not_be_removed(by_class: FakeCluster) -> None:
    """Its volumes are on NFS, but neither ours nor in need of our labels."""
    nfs = {"local": None, "nfs": {"server": "nfs.example.com", "path": "/srv/one"}}
    for ordinal in (0, 1):
        ready_made(by_class, f"disk-{ordinal}", f"db-mysql-{ordinal}", **nfs)
    present(by_class, is_dynamic=True)
    for ordinal in (0, 1):
        claim(by_class, f"db-mysql-{ordinal}")["spec"]["volumeName"] = f"disk-{ordinal}"
    result, client = absent(by_class, "mysql-1", ordinals=[1], nfs=None)
    assert recorded(client) == {"delete persistentvolumeclaims": 1}
    assert result["kept"] == ["mysql-1: PersistentVolume disk-1 (nfs.example.com:/srv/one)"]
    assert volume(by_class, "disk-1")["spec"]["nfs"]["path"] == "/srv/one"
    volume(by_class, "disk-0")["spec"]["persistentVolumeReclaimPolicy"] = "Delete"
    with pytest.raises(errors.Refused, match="removing claim db-mysql-0 would destroy the data"):
        absent(by_class, "mysql-0", ordinals=[0], nfs=None)


def test_rp_ans_06_removal_waits_for_the_end_and_names_what_holds_it(cluster: FakeCluster) -> None:
    present(cluster)
    claim(cluster)["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection"]
    cluster.add(pod("backup", "other"))
    with pytest.raises(errors.TimedOut, match="PersistentVolumeClaim default/db-mysql-0") as problem:
        absent(cluster, "mysql-0", ordinals=[0], options=Options(wait_s=10))
    assert claim(cluster)["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert problem.value.details["pets"] == [{"claim": "db-mysql-0", "held_by": ""}]


def test_rp_ans_06_present_waits_for_a_claim_that_is_being_deleted(cluster: FakeCluster) -> None:
    present(cluster)
    claim(cluster)["metadata"].update(finalizers=["kubernetes.io/pvc-protection"], deletionTimestamp="now")
    cluster.add(pod("mysql-0", "db-mysql-0"))
    with pytest.raises(errors.TimedOut, match="held by pod mysql-0"):
        present(cluster, Options(wait_s=10))
    checked, _client = present(cluster, CHECK)
    assert any("is being deleted" in one for one in checked["warnings"])
    assert any("create PersistentVolumeClaim default/db-mysql-0" in one for one in checked["actions"])
    with pytest.raises(errors.Refused, match="it is being deleted"):
        present(cluster, NO_WAIT)
    clock = FakeClock()

    def end() -> None:
        if clock.time_s > 1003 and cluster.live(PVC, "db-mysql-0", "default"):
            cluster.remove(PVC, "db-mysql-0", "default")
            cluster.bind()

    clock.during_sleep = end
    result, _client = present(cluster, clock=clock)
    assert "repaired" in result["actions"][0]
    assert all(pet["ready"] for pet in result["pets"])
