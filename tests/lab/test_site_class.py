# SPDX-License-Identifier: GPL-3.0-or-later
"""The site playbook with a storage class that has volumes and makes none, as that of local volumes does: the collection
makes claims only, and the volumes that somebody made are theirs before and after.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.pets import Pets

from .conftest import Lab, wait_for
from .sites import Play, Site, a_site, clean, folder_of

pytestmark = pytest.mark.lab

NAMESPACE = "test-class"
CLASS = "test-class-ready-made"
FOLDER = folder_of(NAMESPACE)
VOLUMES = ("test-class-disk-0", "test-class-disk-1")
# The class's volumes, and nothing of the NFS server that other sets may be on.
OPTIONS: dict[str, Any] = {"petset_storage_class": CLASS}


def manifests(server: str) -> list[dict[str, Any]]:
    """A class as in the manual, without a reclaim policy; the volume of pet 0 is kept for it, the other for nobody."""
    meta = {"name": CLASS}
    found: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": meta,
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for ordinal, name in enumerate(VOLUMES):
        spec = {
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "mountOptions": ["nfsvers=4.1", "hard", "proto=tcp", "noatime"],
            "nfs": {"server": server, "path": f"{FOLDER}/mysql/{ordinal}"},
        }
        if ordinal == 0:
            spec["claimRef"] = {"namespace": NAMESPACE, "name": "db-mysql-0"}
        found.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    return found


@contextlib.contextmanager
def ready_made(lab: Lab) -> Iterator[None]:
    """The class and its volumes, made anew; gone at the end, when the claims are."""
    objects = [f"storageclass/{CLASS}", *(f"persistentvolume/{name}" for name in VOLUMES)]
    gone = ("delete", *objects, "--ignore-not-found", "--timeout=60s")
    lab.kubectl(*gone)
    given = {"apiVersion": "v1", "kind": "List", "items": manifests(lab.state.plan.machine("nfs").ip)}
    lab.kubectl("apply", "-f", "-", input_text=json.dumps(given))
    try:
        yield
    finally:
        lab.kubectl(*gone)


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    clean(lab, NAMESPACE, 0)
    with ready_made(lab), a_site(lab, NAMESPACE, tmp_path_factory.mktemp("class"), 0) as site:
        # Somebody's exports: the run with the class knows nothing of them.
        site.play("site", "--limit", "nfs_servers")
        yield site


@dataclass(frozen=True, slots=True)
class Runs:
    """Check mode on the empty namespace, the run that makes the set, a second one; ``before``: the volumes' uids."""

    before: dict[str, str]
    foretold: Play
    made: Play
    again: Play


def uids(lab: Lab) -> dict[str, str]:
    """The uids of the volumes of the class, and of all that are bound to claims of the namespace."""
    return {
        one["metadata"]["name"]: one["metadata"]["uid"]
        for one in lab.get("persistentvolumes")["items"]
        if one["spec"].get("storageClassName") == CLASS or one["spec"].get("claimRef", {}).get("namespace") == NAMESPACE
    }


@pytest.fixture(scope="module")
def runs(site: Site) -> Runs:
    before = uids(site.lab)
    foretold = site.play("site", "--check", **OPTIONS)
    return Runs(before, foretold, site.play("site", **OPTIONS), site.play("site", **OPTIONS))


@pytest.fixture(scope="module")
def pets(site: Site) -> Pets:
    return site.pets


def test_check_mode_foretells_claims_and_no_volume(runs: Runs) -> None:
    assert runs.foretold.writes == []
    actions = [action for *_where, actions in runs.foretold.changes for action in actions]
    claims = [f"create PersistentVolumeClaim {NAMESPACE}/db-mysql-{ordinal} (the pet has none)" for ordinal in (0, 1)]
    # The play that looks first tells them, and so does the one that would make them.
    assert set(claims) == {action for action in actions if "PersistentVolume" in action}


def test_both_pets_are_ready_on_volumes_of_the_class(runs: Runs, site: Site, pets: Pets) -> None:
    assert [pets.is_ready(pet) for pet in pets.names] == [True, True]
    for ordinal, (pet, name) in enumerate(zip(pets.names, VOLUMES, strict=True)):
        claim = pets.get("persistentvolumeclaim", f"db-{pet}")
        assert (claim["status"]["phase"], claim["spec"]["storageClassName"]) == ("Bound", CLASS)
        assert claim["spec"]["volumeName"] == name
        volume = pets.get("persistentvolume", name)
        assert volume["status"]["phase"] == "Bound"
        assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
        assert "data" in site.lab.ssh("nfs", f"ls {FOLDER}/mysql/{ordinal}").stdout.split()
        [mount] = [line for line in pets.sh(pet, "cat /proc/mounts").splitlines() if " /var/lib/petset " in line]
        assert mount.split()[0] == f"{volume['spec']['nfs']['server']}:{FOLDER}/mysql/{ordinal}"


def test_no_volume_was_made_or_changed_and_nothing_was_exported(runs: Runs, site: Site) -> None:
    assert uids(site.lab) == runs.before
    assert set(runs.before) == set(VOLUMES)
    for play in (runs.foretold, runs.made, runs.again):
        assert {r["verb"] for r in play.requests if r["resource"] == "persistentvolumes"} <= {"get", "list"}
        assert {task["host"] for task in play.tasks} == {"localhost"}
    verbs = {r["verb"] for r in runs.made.requests if r["resource"] == "persistentvolumeclaims"}
    assert verbs - {"get", "list"} == {"create"}
    labels = [one["metadata"].get("labels", {}) for one in site.lab.get("persistentvolume", *VOLUMES)["items"]]
    assert labels == [{}, {}]


def test_a_second_run_changes_nothing(runs: Runs) -> None:
    assert runs.again.changes == []
    assert runs.again.writes == []


def test_status_is_healthy_and_tells_where_the_data_is(runs: Runs, site: Site) -> None:
    output = site.play("status", **OPTIONS).output
    assert f"{NAMESPACE}/mysql: healthy" in output
    for ordinal, name in enumerate(VOLUMES):
        assert re.search(rf"mysql-{ordinal} +ready .* {name} +\S+:{FOLDER}/mysql/{ordinal} +yes +yes ", output)


def test_a_third_pet_without_a_volume_is_refused_before_anything_is_written(runs: Runs, site: Site) -> None:
    play = site.play("site", rc=2, petset_replicas=3, **OPTIONS)
    assert "none of its volumes is free for db-mysql-2 (2Gi)" in play.output
    assert play.writes == []


def test_teardown_removes_the_claims_and_leaves_volumes_and_data(runs: Runs, site: Site) -> None:
    site.play("teardown", petset_confirm_absent=["mysql-0", "mysql-1"], **OPTIONS)
    left = site.lab.get("statefulsets,pods,services,persistentvolumeclaims", "-n", NAMESPACE)["items"]
    assert left == []
    assert uids(site.lab) == runs.before
    released = "{.items[*].status.phase}"
    wait_for(
        "both volumes are Released",
        lambda: site.lab.kubectl("get", "pv", *VOLUMES, f"-o=jsonpath={released}").stdout == "Released Released",
        30,
    )
    for ordinal in (0, 1):
        assert "data" in site.lab.ssh("nfs", f"ls {FOLDER}/mysql/{ordinal}").stdout.split()
