# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _module, _pet_set, _recovery
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import NotFound
from ansible_collections.stateful.petset.plugins.module_utils._core.names import own_labels
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_probe import Mount, Probe
from ansible_collections.stateful.petset.plugins.module_utils._core.redact import Redactor
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import Answer
from ansible_collections.stateful.petset.plugins.modules import pet_recovery, pet_set
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.pets import (
    AGENT_FILES,
    BOOT_FILES,
    Controller,
    claim_of,
    cluster_with_claims,
    put_on_one_node,
    volume_of,
)
from ansible_collections.stateful.petset.tests.unit.fakes.reports import find_secrets, json_form, report_forms


class World:
    """A set that is up, and what its pets would see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster_with_claims()
        self.clock = FakeClock()
        self.clock.during_sleep = Controller(self.cluster)
        monkeypatch.setattr(_module, "_register_secret", None)
        monkeypatch.setattr(_pet_set, "observe_probes", self.probes)
        self.claim_template = "db"
        self.said: dict[str, Any] = {}
        self.options = ("hard", "local_lock=none", "proto=tcp", "rw", "vers=4.2")

    def probes(self, _client: Any, _namespace: str, names: list[str], service: str) -> dict[str, Probe]:
        addresses = {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in self.cluster.all(kinds.POD)}
        found = {
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
        return {name: replace(probe, **self.said) for name, probe in found.items()}

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


def test_pets_that_share_a_node_are_told_and_still_healthy(world: World) -> None:
    assert world.check()["shared_nodes"] == []
    put_on_one_node(world.cluster)
    result = world.check()
    assert (result["healthy"], result["troubles"]) == (True, [])
    (shared,) = result["shared_nodes"]
    told = f"{shared['evidence']}: {shared['way_out']}"
    assert "mysql-0 and mysql-1 share node node-1" in told
    assert result["table"].splitlines()[-1] == told
    assert ["nodes", told] in json.loads(result["report"]["json"])["facts"]
    assert "share node node-1" in result["report"]["markdown"]
    assert "share node node-1" in result["report"]["html"]


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


# --- no secret in a report --------------------------------------------------------------------------------------------

PASSWORDS = {
    "root-password": "pa'ss w\"ord\\\\ <%s>|$HOME",
    "admin-password": "Tr0ub4dor&3",
    "replication-password": "päß€ %(x)s;",
    "agent-password": "agent's own",
    "app-password": '\'; -- \\\\ "yes" ~',
}
SAID = " ".join(PASSWORDS.values())
LEFT = "and nothing else"


def unready(world: World, **status: Any) -> dict[str, Any]:
    pod: Any = world.cluster.live(kinds.POD, "mysql-1", "default")
    pod["status"].update({"conditions": [{"type": "Ready", "status": "False"}], **status})
    return dict(pod)


def say(world: World, reason: str, text: str, kind: str = "Pod", name: str = "mysql-1", uid: str = "") -> None:
    about = {"kind": kind, "name": name, "uid": uid}
    meta = {"name": f"event-{reason.lower()}", "namespace": "default"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about}
    world.cluster.add({**event, "reason": reason, "message": text, "lastTimestamp": "2026-11-25T00:00:00Z"})


def in_an_event(reason: str, container: dict[str, Any]) -> Callable[[World, str], None]:
    def stage(world: World, text: str) -> None:
        pod = unready(world, initContainerStatuses=[], containerStatuses=[{"name": "mysqld", "state": container}])
        say(world, reason, text, uid=pod["metadata"]["uid"])

    return stage


def in_a_container(state: dict[str, Any], field: str) -> Callable[[World, str], None]:
    def stage(world: World, text: str) -> None:
        (name,) = state
        told = {name: {**state[name], field: text}}
        unready(world, containerStatuses=[{"name": "mysqld", "restartCount": 1, "state": told}])

    return stage


def in_a_log(world: World, text: str) -> None:
    unready(world, containerStatuses=[{"name": "mysqld", "state": {"terminated": {"exitCode": 1}}}])
    real = world.cluster.send

    def send(method: str, path: str, *rest: Any) -> Any:
        return Answer(200, {}, text.encode()) if path.endswith("/log") else real(method, path, *rest)

    world.cluster.send = send  # type: ignore[method-assign]


def in_the_status_of_the_pod(world: World, text: str) -> None:
    unready(world, phase="Failed", message=text)


def in_the_word_of_the_scheduler(world: World, text: str) -> None:
    pod = unready(world)
    pod["spec"].pop("nodeName")
    pod["status"]["conditions"].append({"type": "PodScheduled", "status": "False", "message": text})


def in_the_condition_of_the_node(world: World, text: str) -> None:
    node = unready(world)["spec"]["nodeName"]
    condition = {"type": "Ready", "status": "False", "message": text}
    world.cluster.add(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": {"conditions": [condition]}}
    )


def in_an_event_of_the_set(world: World, text: str) -> None:
    world.cluster.remove(kinds.POD, "mysql-1", "default")
    refused = f"create Pod mysql-1 in StatefulSet mysql failed error: admission webhook denied the request: {text}"
    say(world, "FailedCreate", refused, "StatefulSet", "mysql")


def in_an_error_of_mysql(world: World, text: str) -> None:
    world.said = {"sql": {"mysql-0.db": f"ERROR 1064 (42000): near {text}"}}


def in_an_error_of_the_volume(world: World, text: str) -> None:
    world.said = {"file": text}


def in_a_look_that_failed(world: World, text: str) -> None:
    world.said = {"mount": None, "size": "", "failure": text}


PLACES: dict[str, Callable[[World, str], None]] = {
    "event of a probe": in_an_event("Unhealthy", {"running": {"startedAt": "2026-11-25T00:00:00Z"}}),
    "event of a mount": in_an_event("FailedMount", {"waiting": {"reason": "ContainerCreating"}}),
    "last words": in_a_container({"terminated": {"exitCode": 1}}, "message"),
    "image": in_a_container({"waiting": {"reason": "ImagePullBackOff"}}, "message"),
    "log": in_a_log,
    "status of the pod": in_the_status_of_the_pod,
    "scheduler": in_the_word_of_the_scheduler,
    "node": in_the_condition_of_the_node,
    "event of the set": in_an_event_of_the_set,
    "error of MySQL": in_an_error_of_mysql,
    "error of the volume": in_an_error_of_the_volume,
    "look that failed": in_a_look_that_failed,
}


def stage(world: World, place: str, text: str) -> dict[str, Any]:
    """The check of a set whose passwords stand in ``place``, and in annotations, of which a report quotes none."""
    secret: Any = world.cluster.live(kinds.SECRET, "mysql-secret", "default")
    secret["data"] = {key: base64.b64encode(value.encode()).decode() for key, value in PASSWORDS.items()}
    for kind, name in (
        (kinds.STATEFUL_SET, "mysql"),
        (kinds.POD, "mysql-0"),
        (kinds.PERSISTENT_VOLUME_CLAIM, "db-mysql-0"),
    ):
        live: Any = world.cluster.live(kind, name, "default")
        live["metadata"].setdefault("annotations", {})["example.com/note"] = text
    PLACES[place](world, text)
    return world.check()


def leaks(result: dict[str, Any]) -> dict[str, set[str]]:
    """For each form of the report, and all else of the result, the keys of the passwords that stand in it."""
    forms = report_forms(result["report"])
    forms["result"] = json_form(json.dumps({**result, "report": {}}))
    return find_secrets(forms, PASSWORDS)


@pytest.mark.parametrize("place", PLACES)
def test_no_password_of_the_set_gets_into_a_report(world: World, place: str) -> None:
    result = stage(world, place, f"it said {SAID} {LEFT}")
    assert leaks(result) == {"html": set(), "markdown": set(), "json": set(), "result": set()}
    # What is not secret of the same text is there: the place is one that reports quote.
    assert all(LEFT in result["report"][form] for form in ("html", "markdown", "json"))
    assert "********" in result["report"]["markdown"]


@pytest.mark.parametrize("place", PLACES)
def test_it_is_the_redaction_that_keeps_passwords_out(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Else the test above could not fail."""
    monkeypatch.setattr(Redactor, "hide", lambda _self, text: text)
    result = stage(world, place, f"it said {SAID} {LEFT}")
    assert leaks(result) == {form: set(PASSWORDS) for form in ("html", "markdown", "json", "result")}


@pytest.mark.parametrize("filled", [385, 390, 394, 885, 890, 894])
@pytest.mark.parametrize("place", ["event of a mount", "last words", "log", "scheduler"])
def test_no_part_of_a_password_is_left_where_a_text_is_cut(world: World, place: str, filled: int) -> None:
    """Logs were cut first and searched for passwords then."""
    result = stage(world, place, "." * filled + PASSWORDS["admin-password"])
    assert PASSWORDS["admin-password"][:3] not in json.dumps(result)


def test_what_a_text_calls_a_password_is_hidden_though_no_secret_may_be_read(world: World) -> None:
    world.cluster.deny("get", kinds.SECRET)
    result = stage(world, "last words", f"CREATE USER x IDENTIFIED BY 's3cret' {LEFT}")
    assert "s3cret" not in json.dumps(result)
    assert LEFT in result["report"]["json"]
