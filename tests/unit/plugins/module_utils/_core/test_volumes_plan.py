# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of the planner over worlds that are made up: what it must never do, whatever is there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import volumes
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import PetsetError, Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import (
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.steps import Plan, Verb, diff_of
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes_live import (
    Snapshot,
    parse_claim,
    parse_class,
    parse_volume,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes_plan import (
    NO_PROVISIONER,
    driver_of,
    plan_present,
    servers_in_doubt,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes_removal import plan_absent, without_set
from ansible_collections.stateful.petset.plugins.module_utils._core.volumes_report import find_others_in
from ansible_collections.stateful.petset.tests.unit.fakes.volumes import dynamic, params, storage_class
from hypothesis import given
from hypothesis import strategies as st

WANTED = volumes.parse_volume_set(params())


def _some(good: Any, *bad: Any) -> st.SearchStrategy[Any]:
    """Mostly as it should be, now and then not."""
    return st.sampled_from([good, good, good, *bad])


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Objects that look like those of the set, each with some things wrong."""
    made: dict[str, Any] = {"volumes": {}, "claims": {}}
    for pet in WANTED.pets:
        uid = draw(_some(f"uid-{pet.ordinal}", "uid-old", ""))
        if draw(st.booleans()):
            volume = volumes.volume_manifest(WANTED, pet)
            volume["metadata"].update(uid=f"v{pet.ordinal}", resourceVersion="7")
            volume["metadata"]["labels"] = draw(
                _some(volume["metadata"]["labels"], {}, {"stateful.petset/ordinal": "9"})
            )
            spec = volume["spec"]
            spec["nfs"]["server"] = draw(_some("nfs.example.com", "NFS.example.com.", "other"))
            spec["nfs"]["path"] = draw(_some(spec["nfs"]["path"], spec["nfs"]["path"] + "/", "/srv"))
            spec["capacity"]["storage"] = draw(_some("1Gi", "1024Mi", "2Gi", "x"))
            spec["storageClassName"] = draw(_some("", "manual"))
            spec["persistentVolumeReclaimPolicy"] = draw(_some("Retain", "Delete"))
            spec["mountOptions"] = draw(_some(spec["mountOptions"], [], ["soft"]))
            spec["accessModes"] = draw(_some(["ReadWriteOnce"], ["ReadWriteMany"]))
            spec["claimRef"]["name"] = draw(_some(pet.claim, "theirs"))
            if uid:
                spec["claimRef"]["uid"] = uid
            if draw(_some(False, True)):
                del spec["claimRef"]
            volume["status"] = {"phase": draw(st.sampled_from(["Available", "Bound", "Released", "Failed"]))}
            made["volumes"][pet.volume] = volume
        if draw(st.booleans()):
            claim = volumes.claim_manifest(WANTED, pet)
            claim["metadata"].update(uid=f"uid-{pet.ordinal}", resourceVersion="8")
            claim["metadata"]["labels"] = draw(_some(claim["metadata"]["labels"], {}, {"stateful.petset/set": "x"}))
            if draw(_some(False, True)):
                claim["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
            claim["spec"]["volumeName"] = draw(_some(pet.volume, "", "elsewhere"))
            claim["spec"]["storageClassName"] = draw(_some("", "standard"))
            claim["spec"]["resources"]["requests"]["storage"] = draw(_some("1Gi", "0.5Gi", "2Gi"))
            claim["status"] = {"phase": draw(st.sampled_from(["Pending", "Bound", "Lost"]))}
            made["claims"][pet.claim] = claim
    return made


def snapshot(world: Mapping[str, Any], **more: Any) -> Snapshot:
    return Snapshot(
        namespace="present",
        volumes={name: parse_volume(raw) for name, raw in world["volumes"].items()},
        claims={name: parse_claim(raw) for name, raw in world["claims"].items()},
        **more,
    )


def carried_out(world: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    after = {"volumes": dict(world["volumes"]), "claims": dict(world["claims"])}
    for step in plan.steps:
        section = after["volumes" if step.ref.kind is PERSISTENT_VOLUME else "claims"]
        predicted = step.predict()
        if predicted is None:
            del section[step.ref.name]
        else:
            section[step.ref.name] = predicted
    return after


def plan_or_none(world: Mapping[str, Any]) -> Plan | None:
    try:
        return plan_present(WANTED, snapshot(world))
    except PetsetError as problem:
        if not problem.reason:
            raise AssertionError("a refusal without a reason") from problem
        return None


@given(worlds())
def test_a_plan_never_moves_deletes_or_takes_anything(world: dict[str, Any]) -> None:
    plan = plan_or_none(world)
    if plan is None:
        return
    for step in plan.steps:
        assert step.verb is not Verb.DELETE
        if step.before is None:
            continue
        body, before = step.body or {}, step.before
        spec = body.get("spec", {})
        assert "nfs" not in spec
        assert body["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        if "claimRef" in spec and before["spec"].get("claimRef"):
            assert set(spec["claimRef"]) <= {"uid", "resourceVersion"}
        if "volumeName" in spec:
            assert before["spec"]["volumeName"] == ""


@given(worlds())
def test_the_outcome_of_a_plan_needs_no_further_plan(world: dict[str, Any]) -> None:
    plan = plan_or_none(world)
    if plan is None:
        return
    after = carried_out(world, plan)
    again = plan_or_none(after)
    assert again is not None
    assert again.steps == ()
    for pet in WANTED.pets:
        volume, claim = parse_volume(after["volumes"][pet.volume]), parse_claim(after["claims"][pet.claim])
        assert volume.source == pet.source
        assert str(volume.claim_ref) == f"default/{pet.claim}"
        assert claim.volume == volume.name
        assert volume.reclaim_policy == "Retain"
        assert "soft" not in volume.mount_options


@given(worlds())
def test_the_diff_tells_exactly_the_objects_that_change(world: dict[str, Any]) -> None:
    plan = plan_or_none(world)
    if plan is None:
        return
    shown = diff_of(plan.steps)
    assert len(shown) == len(plan.steps)
    assert all(one["before"] != one["after"] for one in shown)


def test_a_removal_is_predicted_as_it_will_be_without_the_set() -> None:
    """What is not the set's still stands in the way, and what cannot be seen is not taken for gone."""
    users = {"db-mysql-0": ("backup", "mysql-0"), "db-mysql-1": ("mysql-1",)}
    seen = without_set(WANTED, Snapshot(users=users, set_ordinals=frozenset({0, 1})))
    assert seen.users == {"db-mysql-0": ("backup",), "db-mysql-1": ()}
    assert seen.set_ordinals == frozenset()
    assert without_set(WANTED, Snapshot(set_ordinals=None)).users is None


@given(
    worlds(), st.sets(st.sampled_from(["mysql-0", "mysql-1"])), st.sets(st.sampled_from(["db-mysql-0", "db-mysql-1"]))
)
def test_removal_is_confirmed_unused_and_keeps_the_data(
    world: dict[str, Any], confirmed: set[str], used: set[str]
) -> None:
    seen = snapshot(world, users=dict.fromkeys(used, ("pod",)), set_ordinals=frozenset())
    try:
        plan = plan_absent(WANTED, seen, tuple(sorted(confirmed)))
    except PetsetError:
        return
    for ordinal, steps in plan.groups.items():
        pet = WANTED.pets[ordinal]
        assert pet.name in confirmed
        assert pet.claim not in used
        for step in steps:
            assert step.verb is Verb.DELETE
            assert step.uid
            labels = (step.before or {})["metadata"]["labels"]
            assert labels["stateful.petset/set"] == "mysql"
            if step.ref.kind is PERSISTENT_VOLUME:
                assert (step.before or {})["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
                assert any(one.startswith(f"{pet.name}: ") for one in plan.kept)


@given(worlds(), st.sets(st.sampled_from([pet.ordinal for pet in WANTED.pets])) | st.none())
def test_no_claim_goes_that_the_set_wants_or_may_want(world: dict[str, Any], ordinals: set[int] | None) -> None:
    """Where the set may not be read, it may want every pet."""
    wants = None if ordinals is None else frozenset(ordinals)
    try:
        plan = plan_absent(WANTED, snapshot(world, users={}, set_ordinals=wants), ("mysql-0", "mysql-1"))
    except PetsetError:
        return
    assert set(plan.groups).isdisjoint({0, 1} if ordinals is None else ordinals)


def _one_claim(ordinals: frozenset[int] | None) -> Snapshot:
    claim = volumes.claim_manifest(WANTED, WANTED.pets[0])
    claim["metadata"].update(uid="uid-0", resourceVersion="8")
    return snapshot({"volumes": {}, "claims": {"db-mysql-0": claim}}, users={}, set_ordinals=ordinals)


def test_a_set_that_may_not_be_read_keeps_its_claims() -> None:
    with pytest.raises(Refused, match=r"still wants it cannot be seen.*[Aa]llow get of statefulsets in default"):
        plan_absent(WANTED, _one_claim(None), ("mysql-0",))
    plan = plan_absent(WANTED, _one_claim(frozenset()), ("mysql-0",))
    assert [step.ref.name for step in plan.steps] == ["db-mysql-0"]


@given(worlds(), st.sets(st.sampled_from([0, 1])))
def test_rp_nfs_09_every_claim_and_volume_of_a_pet_that_is_not_counted_is_told(
    world: dict[str, Any], counted: set[int]
) -> None:
    pets = tuple(pet for pet in WANTED.pets if pet.ordinal in counted)
    told = {one["ordinal"] for one in find_others_in(replace(WANTED, pets=pets), snapshot(world))}
    assert told.isdisjoint(counted)
    for pet in WANTED.pets:
        volume = world["volumes"].get(pet.volume, {})
        reserved = volume.get("spec", {}).get("claimRef", {}).get("name") == pet.claim
        labelled = volume and volume["metadata"]["labels"].get("stateful.petset/set") == "mysql"
        if pet.ordinal not in counted and (pet.claim in world["claims"] or reserved or labelled):
            assert pet.ordinal in told


def test_a_prediction_without_the_set_needs_no_look_at_it() -> None:
    """The playbook has looked at the set itself, and takes it away first."""
    plan = plan_absent(WANTED, without_set(WANTED, _one_claim(None)), ("mysql-0",))
    assert [step.ref.name for step in plan.steps] == ["db-mysql-0"]


@pytest.mark.parametrize(
    ("provisioner", "driver"),
    [
        ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
        ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
        ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
        ("nfs.csi.k8s.io", "nfs.csi.k8s.io"),
        ("driver.longhorn.io", None),
        ("k8s-sigs.io/nfs-subdir-external-provisioner", None),
        ("", None),
    ],
)
def test_drivers(provisioner: str, driver: str | None) -> None:
    assert driver_of(provisioner) == driver


SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(claims=SIZES, sizes=SIZES, kept=st.booleans())
def test_a_class_that_makes_no_volumes_is_taken_when_each_claim_can_have_one(
    claims: list[int], sizes: list[int], kept: bool
) -> None:
    """Tried out in all orders; ``kept``: the first volume is for the first claim, and for no other."""
    pets = [{"ordinal": ordinal, "capacity": f"{size}Gi"} for ordinal, size in enumerate(claims)]
    wanted = volumes.parse_volume_set(dynamic(replicas=len(claims), pets=pets))
    refs: list[dict[str, str] | None] = [None] * len(sizes)
    if kept:
        refs[0] = {"namespace": "default", "name": "db-mysql-0"}
    ready_made = tuple(
        parse_volume(
            {
                "metadata": {"name": f"disk-{number}"},
                "spec": {
                    "capacity": {"storage": f"{size}Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "fast",
                    "claimRef": ref,
                },
                "status": {"phase": "Available"},
            }
        )
        for number, (size, ref) in enumerate(zip(sizes, refs, strict=True))
    )
    known = parse_class(storage_class(provisioner=NO_PROVISIONER, reclaimPolicy="Delete"))
    seen = Snapshot(namespace="present", classes={"fast": known}, ready_made=ready_made)

    def fits(claim: int, volume: int) -> bool:
        return sizes[volume] >= claims[claim] and (refs[volume] is None or claim == 0)

    possible = any(
        all(fits(claim, volume) for claim, volume in enumerate(order))
        for order in itertools.permutations(range(len(sizes)), len(claims))
    )
    try:
        plan = plan_present(wanted, seen)
    except Refused:
        assert not possible
    else:
        assert possible
        assert [step.ref.kind for step in plan.steps] == [PERSISTENT_VOLUME_CLAIM] * len(claims)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """A server as the options have it, and the same one as a volume may have it."""
    if draw(st.booleans()):
        address = draw(st.ip_addresses(v=6))
        forms = [str(address), address.exploded, address.exploded.upper(), f"[{address}]", f"[{address.exploded}]"]
    else:
        name = draw(st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,2}", fullmatch=True))
        forms = [name, name.upper(), name.capitalize(), f"{name}.", f"{name.upper()}."]
    return draw(st.sampled_from(forms)), draw(st.sampled_from(forms))


def volume_on(wanted: volumes.VolumeSet, server: str) -> Snapshot:
    world: dict[str, Any] = {"volumes": {}, "claims": {}}
    for pet in wanted.pets:
        raw = volumes.volume_manifest(wanted, pet)
        raw["spec"]["nfs"]["server"] = server
        raw["metadata"]["resourceVersion"] = "7"
        world["volumes"][pet.volume] = raw
    return snapshot(world)


def wanted_on(server: str) -> volumes.VolumeSet:
    return volumes.parse_volume_set(params(nfs={"server": server, "path": "/srv/{ordinal}"}))


@given(spellings())
def test_rp_vol_09_another_spelling_of_the_server_is_no_difference(pair: tuple[str, str]) -> None:
    wanted = wanted_on(pair[0])
    plan = plan_present(wanted, volume_on(wanted, pair[1]))
    assert [step for step in plan.steps if step.ref.kind is PERSISTENT_VOLUME] == []


@given(spellings(), spellings())
def test_rp_vol_09_another_server_is_a_difference_that_is_refused_with_the_way_out(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    if volumes.canonical_server(one[0]) == volumes.canonical_server(other[0]):
        return
    wanted = wanted_on(one[0])
    with pytest.raises(Refused, match="where a volume points to cannot be changed") as refusal:
        plan_present(wanted, volume_on(wanted, other[1]))
    assert "to keep them, set server and path back" in str(refusal.value)


@given(spellings(), st.booleans())
def test_rp_vol_09_the_volume_of_another_is_known_by_every_name_of_its_server(
    pair: tuple[str, str], by_address: bool
) -> None:
    wanted = wanted_on(pair[0])
    raw = volumes.volume_manifest(wanted, wanted.pets[0])
    raw["metadata"]["name"] = "theirs"
    raw["spec"]["nfs"]["server"] = "192.0.2.7" if by_address else pair[1]
    seen = snapshot({"volumes": {"theirs": raw}, "claims": {}})
    server = volumes.canonical_server(pair[0])
    assert servers_in_doubt(wanted, seen) == ({server, "192.0.2.7"} if by_address else set())
    address = frozenset({"192.0.2.7"})
    same = replace(seen, addresses={server: address, "192.0.2.7": address} if by_address else {})
    with pytest.raises(Refused, match="belongs to PersistentVolume theirs already"):
        plan_present(wanted, same)
    if by_address:
        assert plan_present(wanted, seen).warnings == ()
