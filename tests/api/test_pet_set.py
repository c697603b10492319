# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pet_set against a real API server and the real controllers; only the kubelet is played by the test."""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _pet_set
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import (
    FieldConflict,
    Invalid,
    Refused,
    TimedOut,
    Unreachable,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import render_statefulset
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.modules import pet_set
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.pets import AGENT_FILES, BOOT_FILES, server_uuid, spec_with

from tests.api.cluster import ADMIN_TOKEN, Cluster
from tests.api.conftest import Killed, client_for, dying_client, losing_client
from tests.patience import patient

pytestmark = pytest.mark.api

MERGE = "application/merge-patch+json"
BROKEN = "registry.invalid/mysql:broken"
# But mysql-tls, which is made once.
EVERY_OBJECT = {
    "patch serviceaccounts mysql", "patch roles mysql", "patch rolebindings mysql", "patch configmaps mysql-boot",
    "patch configmaps mysql-agent", "patch services db", "patch services mysql", "patch poddisruptionbudgets mysql",
    "patch secrets mysql-secret", "patch secrets mysql-tls", "patch statefulsets mysql",
}  # fmt: skip

OWN_KINDS = (
    ("serviceaccounts", ""), ("secrets", ""), ("configmaps", ""), ("services", ""), ("statefulsets", "apps/v1"),
    ("roles", "rbac.authorization.k8s.io/v1"), ("rolebindings", "rbac.authorization.k8s.io/v1"),
    ("poddisruptionbudgets", "policy/v1"),
)  # fmt: skip


class Kubelet(threading.Thread):
    """Binds the pods of a namespace to a node that never runs anything, and writes the status that a kubelet would."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        super().__init__(daemon=True)
        self.api = api
        self.namespace = namespace
        self.node = f"{namespace}-node"
        self.failure: BaseException | None = None
        self._end = threading.Event()
        self._beat = time.monotonic()
        api.request("POST", "/api/v1/nodes", {"metadata": {"name": self.node}, "status": self._node_status()})

    def run(self) -> None:
        while not self._end.wait(0.15):
            try:
                self._sync()
                # Without a sign of life for 50 s the controllers would take the node for dead.
                if time.monotonic() - self._beat > 5:
                    self._beat = time.monotonic()
                    path = f"/api/v1/nodes/{self.node}/status"
                    self.api.request("PATCH", path, {"status": self._node_status()}, MERGE)
            except urllib.error.HTTPError as problem:
                if problem.code not in (404, 409):
                    self.failure = problem
                    return
            except OSError:  # the API is away for a moment
                continue

    def stop(self) -> None:
        self._end.set()
        self.join(20)
        with contextlib.suppress(urllib.error.HTTPError):
            self.api.request("DELETE", f"/api/v1/nodes/{self.node}")
        if self.failure is not None:
            raise self.failure

    def _sync(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        for pod in self.api.request("GET", path)["items"]:
            name = pod["metadata"]["name"]
            if pod["metadata"].get("deletionTimestamp"):
                self.api.request("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})
            elif not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
                self.api.request("POST", f"{path}/{name}/binding", {"metadata": {"name": name}, "target": target})
            elif not (pod.get("status") or {}).get("containerStatuses"):
                self.api.request("PATCH", f"{path}/{name}/status", {"status": self._status(pod)}, MERGE)

    @staticmethod
    def _node_status() -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        return {"conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}]}

    def _status(self, pod: dict[str, Any]) -> dict[str, Any]:
        image = pod["spec"]["containers"][0]["image"]
        # The proxies' pods have no ordinal.
        ordinal = int(pod["metadata"]["labels"].get("apps.kubernetes.io/pod-index", 90))
        works = image != BROKEN
        told = f"petset: prepared: ordinal={ordinal} server_uuid={server_uuid(ordinal)} generation=1 data=known"
        first, main = (pod["spec"][kind][0]["name"] for kind in ("initContainers", "containers"))
        container = {"name": main, "image": image, "imageID": "", "ready": works, "restartCount": 0}
        # Nothing runs here, and a proxy that seemed to run would be asked what it has loaded.
        running: dict[str, Any] = {"running": {}} if main == "mysqld" else {"waiting": {"reason": "ContainerCreating"}}
        state: dict[str, Any] = running if works else {"waiting": {"reason": "ImagePullBackOff"}}
        prepare = {"name": first, "image": image, "imageID": "", "ready": works, "restartCount": 0}
        ended = {"exitCode": 0, "message": told} if works else None
        return {
            "phase": "Running" if works else "Pending",
            "podIP": f"10.9.0.{ordinal + 1}",
            "conditions": [{"type": "Ready", "status": str(works)}],
            "containerStatuses": [{**container, "state": state}],
            "initContainerStatuses": [{**prepare, "state": {"terminated": ended} if ended else state}],
        }


class World:
    """A namespace with claims; each ``run`` is a task with a client of its own."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.client = client_for(api, ADMIN_TOKEN)
        self.partial: dict[str, Any] = {}
        self._position = 0

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        root = f"/apis/{group}" if group else "/api/v1"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def make_claims(self, count: int) -> None:
        for ordinal in range(count):
            volume, claim = f"{self.namespace}-mysql-{ordinal}", f"db-mysql-{ordinal}"
            common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
            spec = {
                **common,
                "capacity": {"storage": "10Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.namespace, "name": claim},
                "nfs": {"server": "192.0.2.10", "path": f"/srv/{ordinal}"},
            }
            self.api.request("POST", "/api/v1/persistentvolumes", {"metadata": {"name": volume}, "spec": spec})
            wanted = {**common, "volumeName": volume, "resources": {"requests": {"storage": "10Gi"}}}
            self.api.request("POST", self.path("persistentvolumeclaims"), {"metadata": {"name": claim}, "spec": wanted})

    def run(
        self,
        *,
        check: bool = False,
        killed_after: int | None = None,
        patience_s: float = 6.0,
        client: KubeClient | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """``killed_after``: so many writes; the run ends in Killed if it has more to write.

        ``patience_s``: how long it tries to get its first answer.
        ``client``: another one than a new one of the administrator's.
        """
        given = {"set": "mysql", "namespace": self.namespace, "image": "mysql:8.4", "boot_files": BOOT_FILES}
        given["agent_files"] = AGENT_FILES
        module = FakeModule(checked(pet_set.argument_spec(), {**given, "wait_timeout": 60, **options}), check, True)
        if client is not None:
            self.client = client
        elif killed_after is not None:
            self.client = dying_client(self.api, killed_after)
        else:
            self.client = client_for(self.api, ADMIN_TOKEN, first_limit_s=patience_s)
        self._position = self.api.audit_position()
        self.partial = {"changed": False}
        result: dict[str, Any] = {**self.partial, **_pet_set.run_pet_set(module, self.client, self.partial)}
        return result

    def writes(self) -> list[str]:
        return self.api.audited_writes(self._position)

    def set(self) -> dict[str, Any]:
        live: dict[str, Any] = self.api.request("GET", self.path("statefulsets", "mysql", "apps/v1"))
        return live

    def secrets(self) -> dict[str, Any]:
        found = self.api.request("GET", self.path("secrets"))["items"]
        return {one["metadata"]["name"]: one["data"] for one in found}

    def what_stands(self) -> dict[str, Any]:
        """What the run made, without what is another in each namespace and at each time."""
        found = {}
        for plural, group in OWN_KINDS:
            query = "?labelSelector=stateful.petset/set=mysql"
            for live in self.api.request("GET", self.path(plural, group=group) + query)["items"]:
                meta = live["metadata"]
                kept = {key: live[key] for key in ("spec", "rules", "roleRef", "subjects", "binaryData") if key in live}
                for key in ("clusterIP", "clusterIPs"):
                    kept.get("spec", {}).pop(key, None)
                kept |= {"labels": meta["labels"], "annotations": sorted(meta.get("annotations", {}))}
                # Passwords are random, and who has data is known when pets have started.
                kept["keys"] = sorted(live.get("data", {}))
                kept["texts"] = {
                    key: text for key, text in live.get("data", {}).items() if plural == "configmaps" and "." in key
                }
                found[f"{plural} {meta['name']}"] = json.loads(json.dumps(kept).replace(self.namespace, "NAMESPACE"))
        return found

    def pods(self) -> dict[str, str]:
        return {
            one["metadata"]["name"]: one["metadata"]["uid"]
            for one in self.api.request("GET", self.path("pods"))["items"]
        }


@pytest.fixture
def world(api: Cluster, namespace: str) -> Iterator[World]:
    world = World(api, namespace)
    world.make_claims(2)
    kubelet = Kubelet(api, namespace)
    kubelet.start()
    yield world
    with contextlib.suppress(urllib.error.HTTPError):
        api.request("DELETE", world.path("statefulsets", "mysql", "apps/v1"))
    kubelet.stop()


def told_of_broken_image(world: Any) -> str:
    """The error of a run whose image cannot be pulled, with the reason; it takes its time on a busy machine."""
    for wait_s in (3, 15, 60):
        with pytest.raises(TimedOut) as problem:
            world.run(image=BROKEN, wait_timeout=wait_s)
        if "ImagePullBackOff" in str(problem.value):
            return str(problem.value)
    raise problem.value


def test_the_second_run_writes_nothing_and_asks_little(world: World) -> None:
    first = world.run(
        resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "1Gi"}},
        tolerations=[{"key": "db", "value": "x", "effect": "NoSchedule"}],
        node_selector={},
        env={"TZ": "UTC", "EMPTY": ""},
        client_service={"type": "NodePort"},
        min_ready=0,
    )
    assert first["changed"]
    assert len(world.writes()) == 12
    again: dict[str, Any] = {
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "tolerations": [{"key": "db", "value": "x", "effect": "NoSchedule"}],
        "env": {"TZ": "UTC", "EMPTY": ""},
        "client_service": {"type": "NodePort"},
    }
    second = world.run(**again)
    assert second["actions"] == []
    assert not second["changed"]
    assert world.writes() == []
    kinds = Counter(one.path.rpartition(f"/{world.namespace}/")[2].split("/")[0] for one in world.client.requests)
    assert max(kinds.values()) <= 3, kinds
    assert world.run(check=True, **again)["diff"] == {"before": {}, "after": {}}


def test_each_change_is_one_write_and_then_none(world: World) -> None:
    """Each comes on top of those before it, so that nothing is written but what the new option is for."""
    world.run(update_strategy="OnDelete")
    config, pets = "patch configmaps mysql-boot", "patch statefulsets mysql"
    changes: list[tuple[dict[str, Any], set[str]]] = [
        ({"mysql_config": {"max_connections": 7}}, {config, pets}),
        ({"termination_grace": 60}, {pets}),
        ({"node_selector": {"disk": "ssd"}}, {pets}),
        ({"resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "2Gi"}}}, {pets}),
        ({"client_service": {"annotations": {"a": 1}}}, {"patch services mysql"}),
        ({"labels": {"team": "x"}}, EVERY_OBJECT),
    ]
    options: dict[str, Any] = {"update_strategy": "OnDelete"}
    for change, writes in changes:
        options |= change
        assert world.run(**options)["changed"], change
        assert (len(world.writes()), set(world.writes())) == (len(writes), writes), change
        result = world.run(**options)
        assert result["actions"] == [], change
        assert world.writes() == []
    pod = world.set()["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "250m"}, "limits": {"memory": "2Gi"}}


def test_rp_ans_01_check_mode_where_not_even_the_namespace_is(api: Cluster, client: KubeClient) -> None:
    world = World(api, "not-there")
    result = world.run(check=True, create_namespace=True)
    assert result["changed"]
    assert result["actions"][0] == "create Namespace not-there"
    assert world.writes() == []


def test_pods_are_admitted_under_pod_security_restricted(world: World) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    world.api.request("PATCH", f"/api/v1/namespaces/{world.namespace}", label, MERGE)
    assert world.run()["ready"]


def test_one_pet_at_a_time_is_drained_and_one_that_is_not_ready_holds_no_drain_up(world: World) -> None:
    """As the eviction API judges it, which is what `kubectl drain` asks."""
    world.run()
    budget = world.path("poddisruptionbudgets", "mysql", "policy/v1")

    def fall(name: str, left: int) -> None:
        ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        world.api.request("PATCH", world.path("pods", f"{name}/status"), ready, MERGE)
        until_healthy(left)

    def until_healthy(count: int) -> None:
        end = time.monotonic() + patient(20)
        while (status := world.api.request("GET", budget).get("status", {})).get("currentHealthy") != count:
            assert time.monotonic() < end, status
            time.sleep(0.05)

    def evicted(name: str) -> int:
        wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        try:
            world.api.request("POST", world.path("pods", f"{name}/eviction") + "?dryRun=All", wanted)
        except urllib.error.HTTPError as problem:
            return problem.code
        return 201

    until_healthy(2)
    assert evicted("mysql-0") == 201
    fall("mysql-1", left=1)
    assert evicted("mysql-0") == 429
    assert evicted("mysql-1") == 201
    fall("mysql-0", left=0)
    assert [evicted(name) for name in ("mysql-0", "mysql-1")] == [201, 201]


def test_rp_sts_01_immutable_fields(world: World) -> None:
    world.run()
    with pytest.raises(Refused, match=r"spec\.serviceName is 'db', wanted 'peers'"):
        world.run(service="peers", image="mysql:9.7")
    assert world.writes() == []
    # The table of what cannot be changed is the API server's own.
    live = spec_with(namespace=world.namespace)
    for name, value in (
        ("serviceName", "peers"),
        ("podManagementPolicy", "OrderedReady"),
        ("selector", {"matchLabels": {"x": "y"}}),
        ("volumeClaimTemplates", []),
    ):
        manifest = render_statefulset(live)
        manifest["spec"][name] = value
        if name == "selector":
            manifest["spec"]["template"]["metadata"]["labels"]["x"] = "y"
        with pytest.raises(Invalid, match="spec"):
            world.client.apply(manifest, dry_run=True)


def test_rp_sts_01_a_set_made_anew_keeps_its_pods(world: World) -> None:
    world.run()
    pods, uid = world.pods(), world.set()["metadata"]["uid"]
    result = world.run(capacity="20Gi", recreate="orphan")
    assert result["actions"][0].startswith("orphan")
    assert world.pods() == pods
    assert world.set()["metadata"]["uid"] != uid
    assert not world.run(capacity="20Gi")["changed"]


def test_rp_sts_02_a_broken_roll_out_is_named_and_healed(world: World) -> None:
    world.run()
    assert "mysql-1" in told_of_broken_image(world)
    pods = world.pods()
    result = world.run(image="mysql:8.4")
    assert result["ready"]
    # The pet that was not reached by the broken template has never been touched.
    assert world.pods()["mysql-0"] == pods["mysql-0"]
    assert world.pods()["mysql-1"] != pods["mysql-1"]
    assert not world.run()["changed"]


def test_rp_sts_07_values_of_the_wrong_kind(world: World) -> None:
    world.run(labels={"flag": True}, pod_annotations={"port": 8181}, env={"FLAG": True}, replicas="2")
    pod = world.set()["spec"]["template"]
    assert world.set()["metadata"]["labels"]["flag"] == "true"
    assert pod["metadata"]["annotations"]["port"] == "8181"
    assert {"name": "FLAG", "value": "true"} in pod["spec"]["containers"][0]["env"]


def test_rp_sts_08_somebody_scaled_the_set(world: World) -> None:
    world.run()
    scale = world.path("statefulsets", "mysql/scale", "apps/v1") + "?fieldManager=autoscaler"
    world.api.request("PATCH", scale, {"spec": {"replicas": 3}}, MERGE)
    with pytest.raises(Refused, match="it has 3 pets, 2 are wanted"):
        world.run()
    assert world.writes() == []
    world.api.request("PATCH", scale, {"spec": {"replicas": 1}}, MERGE)
    with pytest.raises(FieldConflict) as problem:
        world.run()
    assert "autoscaler" in str(problem.value)
    assert ".spec.replicas" in str(problem.value)
    assert world.run(force_conflicts=True)["ready"]


def test_rp_dns_01_names_before_readiness_are_repaired(world: World) -> None:
    world.run()
    service = world.path("services", "db")
    world.api.request("PATCH", service, {"spec": {"publishNotReadyAddresses": False}}, MERGE)
    assert world.run()["actions"] == [f"update Service {world.namespace}/db (.spec.publishNotReadyAddresses)"]
    assert world.api.request("GET", service)["spec"]["publishNotReadyAddresses"] is True
    assert not world.run()["changed"]


def test_absent_and_present_again(world: World) -> None:
    world.run()
    path = world.path("secrets", "mysql-secret")
    secret = world.api.request("GET", path)["data"]
    assert world.run(state="absent")["changed"]
    assert world.pods() == {}
    assert not world.run(state="absent")["changed"]
    assert world.writes() == []
    assert len(world.api.request("GET", world.path("persistentvolumeclaims"))["items"]) == 2
    assert world.run()["ready"]
    assert world.api.request("GET", path)["data"] == secret


def test_a_first_run_that_is_killed_after_each_write_is_caught_up_with(world: World) -> None:
    """Each run goes on where the last one was killed, so it is killed in the state that a first run would be."""
    written: list[str] = []
    for _run in range(20):
        with contextlib.suppress(Killed):
            world.run(killed_after=1)
            break
        written += world.writes()
    # The record of known pets grows as they tell their names: at once, or one after the other.
    assert len(set(written)) == 11, written
    once = [one for one in written if one != "patch configmaps mysql-boot"]
    assert len(once) == len(set(once)) == 10, written
    assert len(world.writes()) == 1
    assert not world.run()["changed"]
    assert world.writes() == []


def test_an_api_server_that_is_away_when_the_run_begins_is_waited_for(api: Cluster, world: World) -> None:
    world.run(wait=False)
    api.stop_api()
    back = threading.Timer(1.0, api.start_api)
    back.start()
    assert world.run(patience_s=60.0)["ready"]
    back.join()
    assert not world.run()["changed"]


@pytest.fixture
def undisturbed(api: Cluster, namespace: str) -> dict[str, Any]:
    """What stands after a first run without trouble, in another namespace."""
    other = World(api, f"{namespace}-undisturbed")
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": other.namespace}})
    other.make_claims(2)
    other.run(wait=False)
    return other.what_stands()


# Each write has its turn on the API server in memory; here the server, its port and its controllers are real.
@pytest.mark.parametrize(("writes", "answered"), [(2, False), (8, True)])
def test_an_api_server_that_dies_between_two_writes_is_named_and_caught_up_with(
    world: World, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    with (
        losing_client(world.api, writes, answered=answered, limit_s=1.0) as client,
        pytest.raises(Unreachable) as problem,
    ):
        world.run(client=client, wait_timeout=3)
    told = str(problem.value)
    assert told.startswith(f"Kubernetes API {world.api.host}: answered before, now ")
    assert "Connection refused" in told
    assert "the next run goes on here" in told
    assert len(world.partial["actions"]) == (writes if answered else writes - 1)
    assert len(world.what_stands()) == writes
    secrets = world.secrets()
    assert world.run(wait_timeout=180)["ready"]
    assert world.what_stands() == undisturbed
    assert secrets.items() <= world.secrets().items()
    assert not world.run()["changed"]
    assert world.writes() == []


@pytest.mark.parametrize(("writes", "answered"), [(5, False)])
def test_an_api_server_that_dies_between_two_writes_and_comes_back_is_no_error(
    world: World, undisturbed: dict[str, Any], writes: int, answered: bool
) -> None:
    with losing_client(world.api, writes, answered=answered, back=True) as client:
        assert world.run(client=client, wait_timeout=180)["ready"]
    assert world.what_stands() == undisturbed
    assert not world.run()["changed"]
    assert world.writes() == []
