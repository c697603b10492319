# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as a whole, on the API server in memory."""

from __future__ import annotations

import base64
import copy
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils import _module, _pet_set
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import (
    ApiError,
    FieldConflict,
    Forbidden,
    InvalidInput,
    NamespaceTerminating,
    PetsetError,
    Refused,
    TimedOut,
    Unreachable,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_probe import Mount, Probe
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import Answer
from ansible_collections.stateful.petset.plugins.modules import pet_set, pet_set_info
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.pets import (
    AGENT_FILES,
    BOOT_FILES,
    Controller,
    claim_of,
    cluster_with_claims,
    node_of,
    put_on_one_node,
    server_uuid,
    volume_of,
)


class World:
    """A cluster, its controller and a clock; each call of ``run`` is a task with a client of its own."""

    def __init__(self, cluster: FakeCluster | None = None) -> None:
        self.cluster = cluster or cluster_with_claims()
        self.controller = Controller(self.cluster)
        self.clock = FakeClock()
        self.clock.during_sleep = self.controller
        self.client: KubeClient = self.cluster.client(self.clock)
        self.module = FakeModule({}, False, False)
        self.partial: dict[str, Any] = {}

    def run(self, *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "image": "mysql:8.4", "boot_files": BOOT_FILES, "wait_timeout": 120}
        given = {"agent_files": AGENT_FILES, **given, **options}
        return self._run(pet_set.argument_spec(), _pet_set.run_pet_set, given, check, diff)

    def info(self, **options: Any) -> dict[str, Any]:
        return self._run(
            pet_set_info.argument_spec(), _pet_set.run_pet_set_info, {"set": "mysql", **options}, False, False
        )

    def _run(self, spec: Any, body: Any, given: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
        options = checked(spec, {key: value for key, value in given.items() if value is not None})
        self.module = FakeModule(options, check, diff)
        self.client = self.cluster.client(self.clock)
        self.partial = {"changed": False}
        result: dict[str, Any] = {**self.partial, **body(self.module, self.client, self.partial)}
        return result

    def writes(self) -> list[str]:
        return [f"{one.verb} {one.path}" for one in self.client.writes()]

    def secret(self, name: str = "mysql-secret") -> dict[str, str]:
        live = self.cluster.live(kinds.SECRET, name, "default")
        assert live is not None
        return {key: base64.b64decode(text).decode() for key, text in live["data"].items()}

    def set(self) -> dict[str, Any]:
        live = self.cluster.live(kinds.STATEFUL_SET, "mysql", "default")
        assert live is not None
        return live


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    # one way to mask on every core, so that a test can look what was masked; test__module.py tries both ways
    monkeypatch.setattr(_module, "_register_secret", None)
    return World()


# --- first and second run ---


def test_the_first_run_makes_everything_and_waits_for_the_pets(world: World) -> None:
    result = world.run()
    assert result["changed"]
    assert result["ready"]
    assert [pet["name"] for pet in result["pets"]] == ["mysql-0", "mysql-1"]
    assert "create StatefulSet default/mysql" in result["actions"]
    secret = world.secret()
    assert set(secret) == {"root-password", "replication-password", "admin-password", "agent-password"}
    assert len(set(secret.values())) == 4
    assert all(len(value) == 28 for value in secret.values())


def test_the_second_run_changes_nothing_and_asks_little(world: World) -> None:
    world.run()
    result = world.run()
    assert not result["changed"]
    assert result["actions"] == []
    assert world.writes() == []
    # At most 3 of each kind for the whole set and one for each pet.
    by_kind = Counter(request.path.split("/default/")[-1].split("/")[0] for request in world.client.requests)
    assert max(by_kind.values()) <= 3, by_kind
    assert sum(by_kind.values()) <= 15, by_kind


def test_the_number_of_requests_does_not_grow_with_the_pets() -> None:
    counts = []
    for pets in (2, 30):
        world = World(cluster_with_claims(pets))
        world.run(replicas=pets)
        assert not world.run(replicas=pets)["changed"]
        counts.append(len(world.client.requests))
    assert counts[0] == counts[1]


def test_a_label_that_is_added_later_reaches_every_object(world: World) -> None:
    """It reached all but the Secret of the certificate, which had been there."""
    world.run()
    done = world.run(labels={"team": "shop"})
    touched = {action.split(" (")[0].removeprefix("update ") for action in done["actions"]}
    made = {action.removeprefix("create ") for action in World().run()["actions"] if action.startswith("create ")}
    assert touched == made
    assert {"Secret default/mysql-tls", "Secret default/mysql-secret"} < touched
    before = world.secret("mysql-tls")
    assert not world.run(labels={"team": "shop"})["changed"]
    assert world.secret("mysql-tls") == before


NODE_TAINT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


def taints_of(world: World, name: str) -> Any:
    live = world.cluster.live(kinds.NODE, name)
    assert live is not None
    return (live.get("spec") or {}).get("taints")


def test_rp_sts_06_a_node_that_is_said_to_be_off_is_tainted_once(world: World) -> None:
    world.run()
    world.cluster.add(node_of("node-0", "Unknown"))
    world.cluster.add(node_of("node-9", "Unknown"))
    off = {"nodes_off": ["node-0", "node-9"]}
    check = world.run(check=True, diff=True, **off)
    assert check["actions"] == ["update Node node-0 (.spec.taints)"]
    assert check["diff"]["after"] == {"Node node-0": {"spec": {"taints": [NODE_TAINT]}}}
    assert check["diff"]["before"] == {"Node node-0": {"spec": {"taints": []}}}
    assert world.writes() == []
    done = world.run(diff=True, **off)
    assert (done["actions"], done["diff"]) == (check["actions"], check["diff"])
    assert not done["restarts_pets"]
    assert (taints_of(world, "node-0"), taints_of(world, "node-9")) == ([NODE_TAINT], None)
    again = world.run(**off)
    assert not again["changed"]
    assert world.writes() == []


def test_a_set_whose_node_is_off_can_be_taken_away(world: World) -> None:
    """Else its pods would stay for as long as the node is away."""
    world.run()
    world.cluster.add(node_of("node-0", "Unknown"))
    off: dict[str, Any] = {"state": "absent", "nodes_off": ["node-0"]}

    def let_go() -> None:
        for pod in world.cluster.all(kinds.POD):
            if pod["spec"]["nodeName"] != "node-0" or taints_of(world, "node-0"):
                world.cluster.remove(kinds.POD, pod["metadata"]["name"], "default")

    world.clock.during_sleep = let_go
    foretold = world.run(check=True, **off)["actions"]
    assert foretold[:2] == ["update Node node-0 (.spec.taints)", "delete StatefulSet default/mysql"]
    assert world.run(**off)["actions"] == foretold
    assert taints_of(world, "node-0") == [NODE_TAINT]
    assert world.cluster.all(kinds.POD) == []
    world.cluster.add(node_of("node-1", "True"))
    with pytest.raises(Refused, match="Node node-1: it is said to be off, and it is Ready"):
        world.run(state="absent", nodes_off=["node-1"])


def test_rp_sts_06_a_node_that_is_ready_is_refused_before_anything_is_touched(world: World) -> None:
    world.cluster.add(node_of("node-0", "True"))
    with pytest.raises(Refused, match=r"2 things stand in the way: .*Node node-0.*Ready.*Node node-7.*no such node"):
        world.run(nodes_off=["node-0", "node-7"])
    assert world.writes() == []


def test_a_taint_that_was_set_since_the_node_was_read_stays(world: World) -> None:
    world.run()
    world.cluster.add(node_of("node-0", "Unknown"))
    other = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    patch = KubeClient.patch

    def late(client: KubeClient, *words: Any, **options: Any) -> Any:
        if taints_of(world, "node-0") is None:
            world.cluster.edit(kinds.NODE, "node-0", None, {"spec": {"taints": [other]}})
        return patch(client, *words, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(KubeClient, "patch", late)
        world.run(nodes_off=["node-0"])
    assert taints_of(world, "node-0") == [other, NODE_TAINT]


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_without_the_right_to_taint_nodes_nothing_is_touched(world: World, verb: str) -> None:
    world.run()
    world.cluster.add(node_of("node-0", "Unknown"))
    world.cluster.deny(verb, kinds.NODE)
    before = copy.deepcopy(world.cluster.all(kinds.STATEFUL_SET))
    with pytest.raises(Forbidden, match=f"{verb}.*nodes"):
        world.run(nodes_off=["node-0"], image="mysql:9.7")
    assert world.cluster.all(kinds.STATEFUL_SET) == before


def test_passwords_stay_the_same_from_run_to_run(world: World) -> None:
    world.run()
    before, before_tls = world.secret(), world.secret("mysql-tls")
    world.run(replicas=2, image="mysql:9.7")
    assert (world.secret(), world.secret("mysql-tls")) == (before, before_tls)


def test_which_pets_have_data_is_written_down_once(world: World) -> None:
    result = world.run()
    assert any(action.startswith("record in ConfigMap default/mysql-boot") for action in result["actions"])
    live = world.cluster.live(kinds.CONFIG_MAP, "mysql-boot", "default")
    assert live is not None
    assert live["data"]["known-pets"] == f"0 {server_uuid(0)}\n1 {server_uuid(1)}\n"


def test_a_pet_whose_line_somebody_took_out_is_recorded_anew(world: World) -> None:
    """As docs/boot.md tells to begin anew: the line was then a person's, and the next run ended with a conflict."""
    world.run()
    world.cluster.edit(kinds.CONFIG_MAP, "mysql-boot", "default", {"data": {"known-pets": f"0 {server_uuid(0)}\n"}})
    result = world.run()
    assert result["actions"] == ["record in ConfigMap default/mysql-boot that pets 1 have data"]
    live = world.cluster.live(kinds.CONFIG_MAP, "mysql-boot", "default")
    assert live is not None
    assert live["data"]["known-pets"] == f"0 {server_uuid(0)}\n1 {server_uuid(1)}\n"
    assert not world.run()["changed"]


def test_a_pet_has_data_also_when_the_set_did_not_get_ready_in_time(world: World) -> None:
    """Else a run that gave up left no record, and a folder that was emptied later was initialised."""
    world.controller.unready = {"mysql-0", "mysql-1"}
    with pytest.raises(TimedOut):
        world.run(wait_timeout=20)
    live = world.cluster.live(kinds.CONFIG_MAP, "mysql-boot", "default")
    assert live is not None
    assert live["data"]["known-pets"] == f"0 {server_uuid(0)}\n1 {server_uuid(1)}\n"
    assert any(action.startswith("record in ConfigMap") for action in world.partial["actions"])


def test_a_run_while_a_pet_restarts_waits_and_changes_nothing(world: World) -> None:
    world.run()
    world.cluster.remove(kinds.POD, "mysql-1", "default")
    result = world.run()
    assert not result["changed"]
    assert result["waited_s"] > 0
    assert world.writes() == []


def test_the_status_may_move_without_a_change(world: World) -> None:
    world.run()
    world.set()["status"]["readyReplicas"] = 1
    world.set()["metadata"]["resourceVersion"] = "99999"
    assert not world.run()["changed"]


def test_what_others_changed_is_not_overwritten_but_named(world: World) -> None:
    # rp-sts-08, for a field that is ours.
    world.run()
    world.cluster.edit(kinds.STATEFUL_SET, "mysql", "default", {"spec": {"revisionHistoryLimit": 3}})
    with pytest.raises(FieldConflict) as problem:
        world.run()
    assert "kubectl-edit" in str(problem.value)
    assert ".spec.revisionHistoryLimit" in str(problem.value)
    assert world.run(force_conflicts=True)["changed"]
    assert not world.run()["changed"]


def test_rp_sts_08_an_autoscalers_higher_count_is_refused_and_nothing_written(world: World) -> None:
    world.run()
    world.cluster.edit(kinds.STATEFUL_SET, "mysql", "default", {"spec": {"replicas": 3}}, manager="autoscaler")
    with pytest.raises(Refused, match="it has 3 pets, 2 are wanted"):
        world.run(image="mysql:9.7")
    assert world.writes() == []
    assert world.set()["spec"]["replicas"] == 3


def test_rp_dns_01_names_of_pets_that_are_not_ready_are_repaired(world: World) -> None:
    world.run()
    world.cluster.edit(kinds.SERVICE, "db", "default", {"spec": {"publishNotReadyAddresses": False}})
    assert world.run()["actions"] == ["update Service default/db (.spec.publishNotReadyAddresses)"]
    live = world.cluster.live(kinds.SERVICE, "db", "default")
    assert live is not None
    assert live["spec"]["publishNotReadyAddresses"] is True


def test_rp_dns_01_the_services_are_made_before_the_set(world: World) -> None:
    actions = world.run()["actions"]
    assert actions.index("create Service default/db") < actions.index("create StatefulSet default/mysql")


def test_a_setting_that_is_left_out_again_goes(world: World) -> None:
    world.run(env={"TZ": "UTC"}, node_selector={"disk": "ssd"})
    assert world.run()["changed"]
    pod = world.set()["spec"]["template"]["spec"]
    assert "nodeSelector" not in pod
    assert "TZ" not in [one.get("name") for one in pod["containers"][0]["env"]]
    assert not world.run()["changed"]


# --- rp-sts-01 ---


def test_rp_sts_01_nothing_is_written_when_one_field_cannot_be_changed(world: World) -> None:
    world.run()
    with pytest.raises(Refused, match=r"spec\.serviceName is 'db', wanted 'peers'"):
        world.run(service="peers", image="mysql:9.7", mysql_config={"max_connections": 5})
    assert world.writes() == []


def test_rp_sts_01_the_set_is_made_anew_around_its_pods_when_asked(world: World) -> None:
    world.run()
    uids = [pod["metadata"]["uid"] for pod in world.cluster.all(kinds.POD)]
    for pod in world.cluster.all(kinds.POD):
        # The garbage collector lets go of them; the new set takes them.
        pod["metadata"]["ownerReferences"] = []

    def adopt() -> None:
        live = world.cluster.live(kinds.STATEFUL_SET, "mysql", "default")
        for pod in world.cluster.all(kinds.POD):
            if live is not None and not pod["metadata"]["ownerReferences"]:
                owner = {"kind": "StatefulSet", "uid": live["metadata"]["uid"], "controller": True}
                pod["metadata"]["ownerReferences"] = [owner]
        world.controller()

    world.clock.during_sleep = adopt
    result = world.run(capacity="20Gi", recreate="orphan")
    assert result["actions"] == ["orphan StatefulSet default/mysql", "create StatefulSet default/mysql"]
    assert [pod["metadata"]["uid"] for pod in world.cluster.all(kinds.POD)] == uids
    body = next(body for method, path, body in world.cluster.bodies if method == "DELETE")
    assert body["propagationPolicy"] == "Orphan"


# --- rp-sts-02 ---


def test_rp_sts_02_a_broken_roll_out_is_named_and_then_healed(world: World) -> None:
    world.run()
    world.controller.broken = frozenset({"mysql:bad"})
    # What the real controller does in the end: the broken pod stands, the other one is not touched.
    with pytest.raises(TimedOut) as problem:
        world.run(image="mysql:bad", wait_timeout=30)
    assert "mysql-1" in str(problem.value)
    assert "ImagePullBackOff" in str(problem.value)
    assert world.partial["changed"]
    assert len(problem.value.details["pets"]) == 2
    ready_uids = {pod["metadata"]["uid"] for pod in world.cluster.all(kinds.POD) if is_ready(pod)}
    result = world.run(image="mysql:8.4")
    assert result["ready"]
    deleted = [action for action in result["actions"] if action.startswith("delete Pod")]
    assert deleted
    assert not any(uid in str(world.cluster.bodies) for uid in ready_uids)
    assert not world.run()["changed"]


def test_rp_sts_02_not_without_leave(world: World) -> None:
    world.run()
    world.controller.broken = frozenset({"mysql:bad"})
    with pytest.raises(TimedOut):
        world.run(image="mysql:bad", wait_timeout=30)
    with pytest.raises(TimedOut):
        world.run(image="mysql:8.4", wait_timeout=60, heal_stuck_pods=False)
    assert not [one for one in world.client.requests if one.verb == "delete"]


def test_rp_sts_02_a_pod_that_became_ready_in_between_is_not_deleted(world: World) -> None:
    world.run()
    world.controller.broken = frozenset({"mysql:bad"})
    with pytest.raises(TimedOut):
        world.run(image="mysql:bad", wait_timeout=30)
    stuck = next(pod for pod in world.cluster.all(kinds.POD) if not is_ready(pod))

    def recover() -> None:
        # Between the look and the deletion: another version of the object.
        stuck["metadata"]["resourceVersion"] += "1"

    real = world.cluster.send

    def send(method: str, path: str, *rest: Any) -> Answer:
        if method == "DELETE":
            recover()
        return real(method, path, *rest)

    world.cluster.send = send  # type: ignore[method-assign]
    with pytest.raises(TimedOut):
        world.run(image="mysql:8.4", wait_timeout=60)
    assert world.cluster.live(kinds.POD, stuck["metadata"]["name"], "default") is stuck


def is_ready(pod: Mapping[str, Any]) -> bool:
    return bool(pod["status"]["conditions"][0]["status"] == "True")


# --- waiting ---


def test_a_timeout_tells_the_last_state_of_each_pet(world: World) -> None:
    world.controller.unready = {"mysql-1"}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "mysql-1", "uid": "pod-mysql-1-2"},
        "reason": "Unhealthy",
        "message": "Readiness probe failed: not listening on port 3306 yet",
        "lastTimestamp": "2026-11-25T00:00:00Z",
    }
    world.cluster.add(event)
    with pytest.raises(TimedOut) as problem:
        world.run(wait_timeout=20)
    assert "1 of 2 pets ready" in str(problem.value)
    assert "not listening on port 3306" in str(problem.value)
    assert [pet["trouble"] for pet in problem.value.details["pets"]] == ["none", "probe"]
    assert world.partial["actions"]


def test_a_refusal_of_the_pet_itself_ends_the_wait_at_once(world: World) -> None:
    def refuse() -> None:
        world.controller()
        for pod in world.cluster.all(kinds.POD):
            ended = {"exitCode": 25, "message": "petset: refused: other-ordinal: the folder belongs to pet 1"}
            prepare = {"name": "prepare", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
            pod["status"]["initContainerStatuses"] = [{**prepare, "lastState": {"terminated": ended}}]
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    world.clock.during_sleep = refuse
    with pytest.raises(TimedOut, match="the folder belongs to pet 1") as problem:
        world.run(wait_timeout=600)
    assert problem.value.details["waited_s"] < 30


def test_progress_is_told(world: World) -> None:
    result = world.run()
    assert any("pets ready" in line for line in result["progress"])
    assert world.module.logged == result["progress"]


def test_without_wait_nothing_is_waited_for(world: World) -> None:
    world.controller.paused = True
    result = world.run(wait=False)
    assert result["changed"]
    assert "pets" not in result


def test_rp_sts_06_a_pet_on_a_node_that_is_gone_is_named(world: World) -> None:
    world.run()
    world.cluster.add(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        }
    )
    pod = world.cluster.live(kinds.POD, "mysql-1", "default")
    assert pod is not None
    pod["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
    with pytest.raises(TimedOut, match="waiting for node node-1, pet mysql-1 not replaced"):
        world.run(wait_timeout=20)
    assert world.writes() == []


def test_events_nodes_and_logs_may_be_forbidden(world: World) -> None:
    for kind in (kinds.EVENT, kinds.NODE, kinds.PERSISTENT_VOLUME_CLAIM):
        world.cluster.deny("list", kind)
        world.cluster.deny("get", kind)
    world.controller.unready = {"mysql-1"}
    with pytest.raises(TimedOut, match="1 of 2 pets ready"):
        world.run(wait_timeout=20)


# --- check mode ---


def test_rp_ans_01_check_mode_on_an_empty_cluster_writes_nothing() -> None:
    world = World(FakeCluster(namespaces=()))
    result = world.run(check=True, diff=True, create_namespace=True)
    assert result["changed"]
    assert world.client.writes() == ()
    assert "create Namespace default" in result["actions"]
    assert "create StatefulSet default/mysql" in result["actions"]
    assert result["diff"]["before"] == {}


def test_rp_ans_01_check_mode_on_a_complete_cluster(world: World) -> None:
    world.run()
    result = world.run(check=True, diff=True)
    assert not result["changed"]
    assert result["diff"] == {"before": {}, "after": {}}
    assert world.writes() == []


@pytest.mark.parametrize(
    "options", [{}, {"image": "mysql:9.7"}, {"mysql_config": {"max_connections": 7}}, {"labels": {"a": "b"}}]
)
def test_the_real_run_does_what_check_mode_said(world: World, options: dict[str, Any]) -> None:
    if options:
        world.run()
    said = world.run(check=True, **options)["actions"]
    done = world.run(**options)["actions"]
    assert [action for action in done if not action.startswith("record")] == said


# --- secrets ---


def rendered(result: Mapping[str, Any]) -> str:
    return json.dumps(result, ensure_ascii=False) + json.dumps(result)


PASSWORD = "pässw'\"ord $% \\x"


def test_rp_ans_03_no_secret_in_results_diffs_logs_or_objects(world: World) -> None:
    results = [world.run(diff=True, check=check, passwords={"root": PASSWORD}) for check in (True, False, False)]
    secrets = [*world.secret().values(), world.secret("mysql-tls")["tls.key"]]
    assert PASSWORD in secrets
    shown = "".join(rendered(result) for result in results) + "".join(world.module.logged)
    for kind in (kinds.CONFIG_MAP, kinds.STATEFUL_SET, kinds.SERVICE, kinds.POD):
        shown += json.dumps(world.cluster.all(kind), ensure_ascii=False)
    for secret in secrets:
        assert secret not in shown
        assert base64.b64encode(secret.encode()).decode() not in shown
        assert secret in world.module.no_log_values


def test_rp_ans_03_the_refused_change_of_a_password_shows_neither(world: World) -> None:
    world.run(passwords={"root": PASSWORD})
    with pytest.raises(Refused) as problem:
        world.run(passwords={"root": "another"})
    assert PASSWORD not in rendered({"msg": str(problem.value), **problem.value.details})
    assert "another" not in str(problem.value)
    assert world.writes() == []
    assert world.run(passwords={"root": "another"}, store_changed_passwords=True)["changed"]
    assert world.secret()["root-password"] == "another"
    assert world.secret()["agent-password"] in world.module.no_log_values


def test_two_runs_at_once_agree_on_the_passwords(world: World) -> None:
    raced = False
    real = world.cluster.send

    def send(method: str, path: str, *rest: Any) -> Answer:
        nonlocal raced
        if method == "POST" and path.endswith("/secrets") and not raced:
            raced = True
            other = World(world.cluster)
            other.run(wait=False)
        return real(method, path, *rest)

    world.cluster.send = send  # type: ignore[method-assign]
    world.run()
    assert raced
    stored = world.secret()
    world.run()
    assert world.secret() == stored


def test_quoted_logs_hide_passwords(world: World) -> None:
    world.run(passwords={"root": PASSWORD})

    def crash() -> None:
        for pod in world.cluster.all(kinds.POD):
            state = {"terminated": {"exitCode": 1}}
            pod["status"]["containerStatuses"][0].update(state=state, ready=False)
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    crash()
    real = world.cluster.send

    def send(method: str, path: str, *rest: Any) -> Answer:
        if path.endswith("/log"):
            return Answer(200, {}, f"[ERROR] user root, password {PASSWORD}".encode())
        return real(method, path, *rest)

    world.cluster.send = send  # type: ignore[method-assign]
    with pytest.raises(TimedOut) as problem:
        world.run(wait_timeout=20)
    assert "password ********" in str(problem.value)
    assert PASSWORD not in rendered(problem.value.details)


# --- trouble on the way ---


def test_bad_input_is_refused_before_any_request(world: World) -> None:
    with pytest.raises(InvalidInput):
        world.run(set="My.SQL")
    assert world.client.requests == []


def test_a_foreign_service_stops_the_run_before_any_write(world: World) -> None:
    world.cluster.add(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"}, "spec": {}}
    )
    with pytest.raises(Refused, match=r"Service default/db: it exists and was not made for the set mysql"):
        world.run()
    assert world.writes() == []
    assert world.run(adopt=["Service/db"])["ready"]
    assert not world.run()["changed"]


def test_a_new_pet_without_a_claim_stops_the_run_before_any_write(world: World) -> None:
    world.run()
    with pytest.raises(Refused, match="db-mysql-2: it does not exist"):
        world.run(replicas=3)
    assert world.writes() == []


def test_more_pets_leave_the_others_alone(world: World) -> None:
    world.run()
    uids = {pod["metadata"]["uid"] for pod in world.cluster.all(kinds.POD)}
    world.cluster.add(claim_of("db-mysql-2"))
    world.cluster.add(volume_of(claim_of("db-mysql-2")))
    result = world.run(replicas=3)
    assert result["ready"]
    assert not result["restarts_pets"]
    assert uids < {pod["metadata"]["uid"] for pod in world.cluster.all(kinds.POD)}
    assert not world.run(replicas=3)["changed"]


def steps_of_the_first_run() -> Iterator[int]:
    world = World()
    world.run()
    yield from range(len(world.client.writes()))


@pytest.mark.parametrize("step", list(steps_of_the_first_run()))
def test_a_run_that_dies_at_any_write_converges(step: int) -> None:
    world = World()
    real = world.cluster.send
    left = step

    def send(method: str, path: str, *rest: Any) -> Answer:
        nonlocal left
        if method != "GET":
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        return real(method, path, *rest)

    world.cluster.send = send  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.cluster.send = real  # type: ignore[method-assign]
    assert world.run()["ready"]
    assert not world.run()["changed"]
    assert world.writes() == []


def what_stands(world: World) -> dict[str, Any]:
    """All objects of the cluster without what is another each time: uids, versions, random values."""
    found: dict[str, Any] = {}
    for live in copy.deepcopy(list(world.cluster._objects.values())):
        meta = live["metadata"]
        for key in ("uid", "resourceVersion", "generation", "ownerReferences"):
            meta.pop(key, None)
        for managed in meta["managedFields"]:
            managed.pop("time", None)
        live.pop("status", None)
        if live["kind"] == "Secret":
            live["data"] = sorted(live["data"])
            meta["annotations"] = sorted(meta.get("annotations", {}))
        found[f"{live['kind']} {meta['name']}"] = live
    return found


@functools.cache
def undisturbed() -> World:
    """After a first run without trouble; only looked at."""
    world = World()
    world.run()
    return world


# After the answer to its last write the run asks nothing more.
LOSSES = [(step, answered) for step in steps_of_the_first_run() for answered in (True, False)]
LOSSES.remove((LOSSES[-1][0], True))


@pytest.mark.parametrize(("step", "answered"), LOSSES)
def test_an_api_server_that_dies_after_any_write_is_named_and_caught_up_with(step: int, answered: bool) -> None:
    world = World()
    world.cluster.die_after(step + 1, answered=answered)
    with pytest.raises(Unreachable) as problem:
        world.run()
    told = str(problem.value)
    assert told.startswith("Kubernetes API https://fake.invalid:6443: answered before, now [Errno 111] Connection ref")
    assert "the next run goes on here" in told
    # A write without an answer is not known to be done.
    assert len(world.partial["actions"]) == step + answered
    assert world.partial["changed"] is (step + answered > 0)
    world.cluster.come_back()
    kept = {live["metadata"]["name"]: dict(live["data"]) for live in world.cluster.all(kinds.SECRET)}
    assert world.run()["ready"]
    assert what_stands(world) == what_stands(undisturbed())
    for name, data in kept.items():
        live = world.cluster.live(kinds.SECRET, name, "default")
        assert live is not None
        assert live["data"] == data, "a pet may have its accounts from it already"
    assert not world.run()["changed"]
    assert world.writes() == []


@pytest.mark.parametrize(("step", "answered"), LOSSES)
def test_an_api_server_that_dies_after_any_write_and_comes_back_in_time_is_no_error(step: int, answered: bool) -> None:
    world = World()
    world.cluster.die_after(step + 1, answered=answered)
    begin = world.clock.now_s()

    def pass_time() -> None:
        if world.clock.now_s() > begin + 20:
            world.cluster.come_back()
            world.controller()

    world.clock.during_sleep = pass_time
    result = world.run()
    assert world.clock.now_s() > begin + 20, "else it was never away"
    assert result["ready"]
    assert result["actions"] == undisturbed().partial["actions"]
    assert what_stands(world) == what_stands(undisturbed())
    assert not world.run()["changed"]
    assert world.writes() == []


def test_the_answers_of_a_busy_server_are_waited_for(world: World) -> None:
    world.cluster.fail_next(Answer(429, {"retry-after": "1"}, b"{}"), times=2)
    world.cluster.fail_next(Answer(503, {}, b"{}"), times=1, method="PATCH")
    assert world.run()["ready"]
    assert not world.run()["changed"]


def test_rp_ans_06_a_namespace_that_goes_in_the_middle_is_told() -> None:
    world = World()
    live = world.cluster.live(kinds.NAMESPACE, "default")
    assert live is not None
    live["metadata"]["deletionTimestamp"] = "2026"
    with pytest.raises((Refused, NamespaceTerminating), match="being deleted"):
        world.run()
    assert world.writes() == []


def test_rp_ans_10_no_right_to_read_namespaces(world: World) -> None:
    world.cluster.deny("get", kinds.NAMESPACE)
    assert world.run()["ready"]


def test_a_missing_right_is_named(world: World) -> None:
    world.cluster.deny("patch", kinds.ROLE)
    with pytest.raises(ApiError, match="may not patch roles"):
        world.run()
    assert world.partial["actions"]


# --- the agent ---


def test_another_pymysql_changes_nothing_and_other_sources_roll_the_pets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    monkeypatch.setattr(_pet_set, "read_pymysql", lambda: {"pymysql/__init__.py": b"# another version"})
    assert not world.run()["changed"]
    result = world.run(agent_files={**AGENT_FILES, "petset_agent/decide.py": "# new"}, check=True, diff=True)
    assert result["restarts_pets"]
    assert any(line.startswith("update ConfigMap default/mysql-agent") for line in result["actions"])
    shown = result["diff"]["after"]["ConfigMap default/mysql-agent"]["binaryData"]["agent.zip"]
    assert "sha256" in shown
    assert len(shown) < 100


def test_without_pymysql_it_is_said_before_anything_is_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pet_set, "read_pymysql", lambda: None)
    with pytest.raises(AssertionError) as failure:
        world.run()
    assert "PyMySQL" in str(failure.value)
    assert world.writes() == []
    assert world.run(agent={"enabled": False})["changed"]


# --- absent ---


def test_absent_keeps_what_holds_data_and_comes_back_with_it(world: World) -> None:
    world.run()
    before = world.secret()
    world.clock.during_sleep = lambda: [
        world.cluster.remove(kinds.POD, pod["metadata"]["name"], "default") for pod in world.cluster.all(kinds.POD)
    ]
    result = world.run(state="absent")
    assert result["changed"]
    assert result["kept"] == [
        "PersistentVolumeClaim default/db-mysql-0",
        "PersistentVolumeClaim default/db-mysql-1",
        "Secret default/mysql-secret",
        "Secret default/mysql-tls",
        "ConfigMap default/mysql-boot",
    ]
    assert world.cluster.all(kinds.STATEFUL_SET) == []
    assert world.cluster.all(kinds.POD) == []
    assert len(world.cluster.all(kinds.PERSISTENT_VOLUME_CLAIM)) == 2
    assert not world.run(state="absent")["changed"]
    assert world.writes() == []
    world.clock.during_sleep = world.controller
    assert world.run()["ready"]
    assert world.secret() == before


def test_absent_waits_for_the_pods_and_says_what_holds_them(world: World) -> None:
    world.run()
    world.clock.during_sleep = lambda: None
    with pytest.raises(TimedOut, match="still there: mysql-0 on node node-0"):
        world.run(state="absent", wait_timeout=10)


def test_absent_in_check_mode(world: World) -> None:
    world.run()
    result = world.run(state="absent", check=True)
    assert result["changed"]
    assert "delete StatefulSet default/mysql" in result["actions"]
    assert world.writes() == []


# --- pet_set_info ---


def test_info_tells_all_of_each_pet(world: World) -> None:
    world.run()
    result = world.info()
    assert not result["changed"]
    assert result["ready"]
    pet = result["pets"][1]
    assert pet["dns"] == "mysql-1.db.default.svc.cluster.local"
    assert pet["claim"] == "db-mysql-1"
    assert pet["claim_phase"] == "Bound"
    assert pet["export"] == "192.0.2.10:/srv/default-db-mysql-1"
    assert pet["server_uuid"] == server_uuid(1)
    assert world.writes() == []
    lines = result["table"].splitlines()
    assert lines[0].split()[:3] == ["ORDINAL", "PET", "STATE"]
    assert len(lines) == 3


OPTIONS = ("hard", "proto=tcp", "rw", "vers=4.1")


def probing(world: World, monkeypatch: pytest.MonkeyPatch, **wrong: Any) -> None:
    """What the pets see of each other: all is well, but for what mysql-0 sees."""
    ips = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in world.cluster.all(kinds.POD)}

    def observe(_client: KubeClient, _namespace: str, pets: list[str], service: str) -> dict[str, Probe]:
        peers = [f"{pet}.{service}" for pet in pets]
        probe = Probe(
            mount=Mount("nfs4", "192.0.2.10:/srv", OPTIONS),
            dns={peer: (ips[peer.partition(".")[0]],) for peer in peers},
            ping=dict.fromkeys(peers, "8.4.7"),
            sql=dict.fromkeys(peers, "ok"),
        )
        return {pet: replace(probe, **(wrong if pet == "mysql-0" else {})) for pet in pets}

    monkeypatch.setattr(_pet_set, "observe_probes", observe)


def last_columns(result: Mapping[str, Any]) -> list[list[str]]:
    lines = result["table"].splitlines()
    assert lines[0].split()[-3:] == ["DNS", "PING", "MOUNTED"]
    return [line.split()[-3:] for line in lines[1:3]]


def test_info_from_within_the_pets_has_the_columns_of_names_servers_and_mounts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    probing(world, monkeypatch)
    result = world.info(probe=True)
    assert last_columns(result) == [["yes", "yes", "hard,proto=tcp,rw,vers=4.1"]] * 2
    assert [pet["mount"]["options"] for pet in result["pets"]] == [list(OPTIONS)] * 2
    assert len(result["table"].splitlines()) == 3


@pytest.mark.parametrize(
    ("wrong", "columns", "note"),
    [
        ({"dns": {}}, ["no", "yes"], "mysql-0: mysql-1.db is unknown to it"),
        (
            {"dns": {"mysql-0.db": ("10.0.0.1",), "mysql-1.db": ("10.9.9.9",)}},
            ["no", "yes"],
            "mysql-0: mysql-1.db is 10.9.9.9 to it",
        ),
        (
            {"ping": {"mysql-0.db": "8.4.7", "mysql-1.db": "failed"}},
            ["yes", "no"],
            "mysql-0: mysql-1.db does not answer",
        ),
        (
            {"sql": {"mysql-0.db": "ok", "mysql-1.db": "ERROR 1045"}},
            ["yes", "no"],
            "mysql-0: mysql-1.db does not answer SQL: ERROR 1045",
        ),
    ],
)
def test_info_says_in_its_columns_which_pet_cannot_be_reached(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], columns: list[str], note: str
) -> None:
    world.run()
    probing(world, monkeypatch, **wrong)
    result = world.info(probe=True)
    assert last_columns(result) == [[*columns, ",".join(OPTIONS)], ["yes", "yes", ",".join(OPTIONS)]]
    assert note in result["table"].splitlines()[3:]


def test_info_says_nothing_in_the_columns_of_a_pet_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    probing(world, monkeypatch)
    world.cluster.remove(kinds.POD, "mysql-1", "default")
    result = world.info(probe=True)
    assert last_columns(result) == [["yes", "yes", ",".join(OPTIONS)], ["-", "-", "-"]]
    assert "dns_ok" not in result["pets"][1]
    assert result["pets"][1]["pod_uid"] is None


def test_info_says_why_it_could_not_look_from_within(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    monkeypatch.setattr(
        _pet_set,
        "observe_probes",
        lambda _client, _namespace, pets, _service: dict.fromkeys(pets, Probe(failure="forbidden")),
    )
    result = world.info(probe=True)
    assert last_columns(result) == [["-", "-", "-"]] * 2
    assert "mysql-0: nothing could be run in it: forbidden" in result["table"].splitlines()


def test_info_says_why_not_and_needs_no_cluster_rights(world: World) -> None:
    world.controller.unready = {"mysql-1"}
    with pytest.raises(TimedOut):
        world.run(wait_timeout=20)
    for kind in (kinds.NODE, kinds.PERSISTENT_VOLUME):
        world.cluster.deny("get", kind)
    result = world.info()
    assert not result["ready"]
    assert result["pets"][1]["trouble"] == "starting"
    assert result["pets"][1]["export"] is None
    assert "mysql-1: started, not ready yet" in result["table"]


@pytest.mark.parametrize("readable", [True, False])
def test_info_names_pets_that_share_a_node(world: World, readable: bool) -> None:
    """Pods that lost their node stayed together on the other one, and nothing said so until that one failed."""
    world.run()
    assert world.info()["shared_nodes"] == []
    assert not any(one.path.endswith("/nodes") for one in world.client.requests)
    put_on_one_node(world.cluster)
    if not readable:
        world.cluster.deny("list", kinds.NODE)
    result = world.info()
    assert result["ready"]
    (shared,) = result["shared_nodes"]
    assert (shared["node"], shared["pods"]) == ("node-1", ["mysql-0", "mysql-1"])
    assert shared["free"] == (["node-0"] if readable else None)
    assert result["table"].splitlines()[-1] == f"{shared['evidence']}: {shared['way_out']}"
    assert "kubectl --namespace default delete pod" in shared["way_out"]
    assert "does not write" in shared["way_out"]


def test_info_on_a_set_that_is_not_there(world: World) -> None:
    result = world.info()
    assert result["exists"] is False
    assert result["pets"] == []


# --- documentation ---


@pytest.mark.parametrize("module", [pet_set, pet_set_info])
def test_the_documentation_parses(module: Any) -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    own = set(module.argument_spec()) - set(pet_set_info.argument_spec()) | set(options)
    assert own >= set(options)
    yaml.safe_load(module.RETURN)
    yaml.safe_load(module.EXAMPLES)


def test_errors_are_all_of_one_family() -> None:
    assert issubclass(TimedOut, PetsetError)
