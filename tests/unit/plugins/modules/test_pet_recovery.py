# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _module, _pet_set, _recovery
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import NotFound
from ansible_collections.stateful.petset.plugins.module_utils._core.names import own_labels
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_probe import Mount, Probe
from ansible_collections.stateful.petset.plugins.modules import pet_recovery, pet_set
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.pets import (
    AGENT_FILES,
    BOOT_FILES,
    Controller,
    claim_of,
    cluster_with_claims,
    volume_of,
)


class World:
    """A set that is up, and what its pets would see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster_with_claims()
        self.clock = FakeClock()
        self.clock.during_sleep = Controller(self.cluster)
        monkeypatch.setattr(_module, "_register_secret", None)
        monkeypatch.setattr(_pet_set, "observe_probes", self.probes)
        self.claim_template = "db"
        self.options = ("hard", "local_lock=none", "proto=tcp", "rw", "vers=4.2")

    def probes(self, _client: Any, _namespace: str, names: list[str], service: str) -> dict[str, Probe]:
        addresses = {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in self.cluster.all(kinds.POD)}
        return {
            name: Probe(
                Mount("nfs4", f"192.0.2.10:/srv/default-{self.claim_template}-{name}", self.options, "not configured"),
                {f"{peer}.{service}": (addresses[peer],) for peer in names},
                {f"{peer}.{service}": "9.7.4" for peer in names},
                "",
                "ok",
                1 << 30,
                "ok",
            )
            for name in names
        }

    def up(self, **options: Any) -> None:
        given: dict[str, Any] = {"set": "mysql", "image": "mysql:8.4", "boot_files": BOOT_FILES, "wait_timeout": 120}
        given |= {"agent_files": AGENT_FILES, **options}
        module = FakeModule(checked(pet_set.argument_spec(), given), False, False)
        _pet_set.run_pet_set(module, self.cluster.client(self.clock), {"changed": False})

    def check(self, **options: Any) -> dict[str, Any]:
        module = FakeModule(checked(pet_recovery.argument_spec(), {"set": "mysql", **options}), True, False)
        self.client = self.cluster.client(self.clock)
        return dict(_recovery.run_pet_recovery(module, self.client, {"changed": False}))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch)
    for name in ("db-mysql-0", "db-mysql-1"):
        made.cluster.add(volume_of(claim_of(name)))
    made.up()
    return made


def test_a_good_set_is_healthy_and_nothing_is_written(world: World) -> None:
    result = world.check()
    assert result["summary"] == "every pet is itself, on its own volume, and answers"
    assert result["healthy"]
    assert result["certain"]
    assert not result["changed"]
    assert result["troubles"] == []
    assert not world.client.writes()
    assert json.loads(result["report"]["json"])["verdict"] == "true"


def test_the_claims_of_a_set_with_another_claim_template_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each healthy pet of such a set had the trouble wrong_claim."""
    world = World(monkeypatch)
    world.claim_template = "data"
    for name in ("data-mysql-0", "data-mysql-1"):
        world.cluster.add(claim_of(name))
        world.cluster.add(volume_of(claim_of(name)))
    world.up(claim_template="data")
    assert world.check()["summary"] == "every pet is itself, on its own volume, and answers"
    assert world.check(claim_template="data")["healthy"]
    # Who says which template it has to be is told when it is another one.
    troubles = world.check(claim_template="db")["troubles"]
    assert [(one["pet"], one["trouble"]) for one in troubles] == [
        ("mysql-0", "wrong_claim"),
        ("mysql-1", "wrong_claim"),
    ]


def test_a_released_volume_is_named_with_its_way_out(world: World) -> None:
    live = world.cluster.live(kinds.PERSISTENT_VOLUME, "default-db-mysql-1", None)
    assert live is not None
    live["status"]["phase"] = "Released"
    (trouble,) = world.check()["troubles"]
    assert trouble["trouble"] == "volume_released"
    assert trouble["pet"] == "mysql-1"
    assert "site" in trouble["way_out"]


@pytest.mark.parametrize(("made_anew", "word"), [(False, "claim_lost"), (True, "claim_not_bound")])
def test_the_volume_of_a_claim_that_was_lost_is_named(world: World, made_anew: bool, word: str) -> None:
    """The claim names no volume any more, but the volume names the claim."""
    volume = world.cluster.live(kinds.PERSISTENT_VOLUME, "default-db-mysql-1", None)
    claim = world.cluster.live(kinds.PERSISTENT_VOLUME_CLAIM, "db-mysql-1", "default")
    assert volume is not None
    assert claim is not None
    volume["status"]["phase"] = "Released"
    volume["spec"]["claimRef"] = {"namespace": "default", "name": "db-mysql-1", "uid": "old"}
    if made_anew:
        claim["metadata"]["uid"] = "new"
        claim["spec"].pop("volumeName")
        claim["status"]["phase"] = "Pending"
    else:
        world.cluster.remove(kinds.PERSISTENT_VOLUME_CLAIM, "db-mysql-1", "default")
    assert {one["trouble"] for one in world.check()["troubles"]} == {"volume_released", word}


def test_a_volume_of_an_older_claim_is_named(world: World) -> None:
    claim = world.cluster.live(kinds.PERSISTENT_VOLUME_CLAIM, "db-mysql-1", "default")
    volume = world.cluster.live(kinds.PERSISTENT_VOLUME, "default-db-mysql-1", None)
    assert claim is not None
    assert volume is not None
    claim["metadata"]["uid"] = "new"
    volume["spec"]["claimRef"] = {"uid": "new"}
    assert world.check()["healthy"]
    volume["spec"]["claimRef"] = {"uid": "old"}
    assert [one["trouble"] for one in world.check()["troubles"]] == ["volume_of_other_claim"]


def test_a_pod_that_uses_another_pet_s_claim_is_named(world: World) -> None:
    """The claim was computed from the pet's name, and so was what it was compared with: it never differed."""
    pod = world.cluster.live(kinds.POD, "mysql-1", "default")
    assert pod is not None
    pod["spec"]["volumes"] = [{"name": "db", "persistentVolumeClaim": {"claimName": "db-mysql-0"}}]
    troubles = {one["trouble"]: one["evidence"] for one in world.check(probe=False)["troubles"]}
    assert troubles["wrong_claim"] == "it uses claim db-mysql-0, its own is db-mysql-1"
    assert "same_volume" in troubles
    pod["spec"]["volumes"] = []
    assert {one["trouble"] for one in world.check()["troubles"]} == {"wrong_claim"}


@pytest.mark.parametrize("kind", [kinds.PERSISTENT_VOLUME_CLAIM, kinds.PERSISTENT_VOLUME])
def test_labels_of_another_ordinal_are_named(world: World, kind: kinds.Kind) -> None:
    is_claim = kind is kinds.PERSISTENT_VOLUME_CLAIM
    live = world.cluster.live(kind, "db-mysql-1" if is_claim else "default-db-mysql-1", "default" if is_claim else None)
    assert live is not None
    live["metadata"]["labels"] = own_labels("default", "mysql", 1)
    assert world.check()["healthy"]
    live["metadata"]["labels"] = own_labels("default", "mysql", 0)
    (trouble,) = world.check()["troubles"]
    assert (trouble["pet"], trouble["trouble"]) == ("mysql-1", "wrong_ordinal")
    assert "ordinal 0 instead of 1" in trouble["evidence"]


def test_a_wrong_mount_is_named(world: World) -> None:
    world.options = ("soft", "local_lock=none", "proto=tcp", "rw", "vers=4.2")
    assert {one["trouble"] for one in world.check()["troubles"]} == {"nfs_soft"}


def test_without_the_probe_it_is_not_healthy_but_not_wrong(world: World) -> None:
    result = world.check(probe=False)
    assert not result["healthy"]
    assert not result["certain"]
    assert result["verdict"] == "unknown"
    assert {one["trouble"] for one in result["troubles"]} == {"unknown"}


def test_a_set_that_is_not_there_is_an_error(world: World) -> None:
    with pytest.raises(NotFound, match="StatefulSet default/other: it does not exist"):
        world.check(set="other")
