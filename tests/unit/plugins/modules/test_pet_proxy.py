# SPDX-License-Identifier: GPL-3.0-or-later
"""pet_proxy and pet_proxy_info as a whole, on the API server in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _proxy
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import (
    FieldConflict,
    Forbidden,
    InvalidInput,
    PetsetError,
    Refused,
    TimedOut,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import read_hash
from ansible_collections.stateful.petset.plugins.module_utils._io import proxy as io_proxy
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.modules import pet_proxy, pet_proxy_info
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.pets import put_on_one_node
from ansible_collections.stateful.petset.tests.unit.fakes.proxies import Proxies

BROKEN = "registry.invalid/haproxy:broken"


class World:
    """A cluster, its controllers and a clock; each ``run`` is a task with a client of its own."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.proxies = Proxies(self.cluster, broken=frozenset({BROKEN}))
        self.clock = FakeClock()
        self.clock.during_sleep = self.proxies
        self.client: KubeClient = self.cluster.client(self.clock)
        self.partial: dict[str, Any] = {}

    def run(self, *, check: bool = False, diff: bool = False, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "wait_timeout": 60, **options}
        return self._run(pet_proxy.argument_spec(), _proxy.run_pet_proxy, given, check, diff)

    def info(self, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", **options}
        return self._run(pet_proxy_info.argument_spec(), _proxy.run_pet_proxy_info, given, False, False)

    def _run(self, spec: Any, body: Any, given: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
        module = FakeModule(checked(spec, given), check, diff)
        self.client = self.cluster.client(self.clock)
        self.partial = {"changed": False}
        result: dict[str, Any] = {**self.partial, **body(module, self.client, self.partial)}
        return result

    def writes(self) -> list[str]:
        return [f"{one.verb} {one.path.rpartition('/namespaces/default/')[2]}" for one in self.client.writes()]

    def deployment(self) -> dict[str, Any]:
        live = self.cluster.live(kinds.DEPLOYMENT, "mysql-haproxy", "default")
        assert live is not None
        return live


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(io_proxy, "run_in_pod", world.proxies.run_in_pod)
    return world


# --- first and second run ---


def test_the_first_run_makes_everything_and_waits(world: World) -> None:
    result = world.run()
    assert result["changed"]
    assert result["ready"]
    assert len(result["proxies"]) == 2
    assert result["actions"] == [
        "create ConfigMap default/mysql-haproxy",
        "create Service default/mysql-proxy",
        "create Service default/mysql-stats",
        "create PodDisruptionBudget default/mysql-haproxy",
        "create Deployment default/mysql-haproxy",
    ]
    assert world.proxies.ran == []


def test_the_second_run_changes_nothing_and_asks_little(world: World) -> None:
    first = world.run()
    second = world.run()
    assert (second["changed"], second["actions"], second["ready"]) == (False, [], True)
    assert second["config_hash"] == first["config_hash"]
    assert world.writes() == []
    assert world.proxies.ran == []
    kinds_of = Counter(one.path.rpartition("/namespaces/default")[2].split("/")[1:2][0] if "/default/" in one.path
                       else "namespaces" for one in world.client.requests)  # fmt: skip
    assert max(kinds_of.values()) <= 3, kinds_of


@pytest.mark.parametrize("state", ["empty", "half", "complete"])
def test_rp_ans_01_check_mode_tells_what_the_run_then_does(world: World, state: str) -> None:
    if state != "empty":
        world.run()
    if state == "half":
        world.cluster.remove(kinds.SERVICE, "mysql-proxy", "default")
        options: dict[str, Any] = {"replicas": 3}
    else:
        options = {}
    told = world.run(check=True, diff=True, **options)
    assert world.writes() == []
    done = world.run(diff=True, **options)
    assert told["actions"] == done["actions"]
    assert told["changed"] is done["changed"] is (state != "complete")
    assert told["diff"] == done["diff"]


# --- a new configuration ---


def test_a_pet_is_added_without_a_new_pod(world: World) -> None:
    world.run()
    pods = world.proxies.pods()
    generation = world.deployment()["metadata"]["generation"]
    result = world.run(replicas=3)
    assert world.proxies.pods() == pods
    assert world.deployment()["metadata"]["generation"] == generation
    assert not result["restarts_proxies"]
    assert [line.split(" (")[0] for line in result["actions"]] == [
        "update ConfigMap default/mysql-haproxy",
        *(f"reload HAProxy in Pod default/{pod}" for pod in pods),
        "update Deployment default/mysql-haproxy",
    ]
    assert set(world.proxies.live.values()) == {result["config_hash"]}
    # Tried before anything was written, then one after the other.
    order = list(dict.fromkeys(world.proxies.ran))
    assert order == [("try", pods[0]), ("load", pods[0]), ("load", pods[1])]
    assert not world.run(replicas=3)["changed"]


def test_a_refused_configuration_is_not_written(world: World) -> None:
    world.run()
    before = world.proxies.text()
    world.proxies.refuses = "mysql-2"
    with pytest.raises(Refused, match=r"refuses the configuration: \[ALERT\].*no good.*was not touched"):
        world.run(replicas=3)
    assert world.writes() == []
    assert world.proxies.text() == before
    assert not world.run()["changed"]


def test_a_configuration_that_is_refused_later_is_put_back(world: World) -> None:
    world.run()
    before = world.proxies.text()
    pods = world.proxies.pods()
    take = world.proxies.run_in_pod

    def another_image(*args: Any) -> str:
        world.proxies.refuses = "mysql-2" if args[3:] and args[4][3] == "petset-load" else "\0"
        return take(*args)

    io_proxy.run_in_pod = another_image
    with pytest.raises(Refused, match="the old one was put back"):
        world.run(replicas=3)
    assert world.proxies.text() == before
    assert {world.proxies.live[pod] for pod in pods} == {read_hash(before)}
    io_proxy.run_in_pod = take
    world.proxies.refuses = "\0"
    assert world.run()["actions"] == []
    assert len(world.run(replicas=3)["actions"]) == 4


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_run_that_was_killed_before_all_proxies_knew_is_caught_up_with(world: World, killed_after: int) -> None:
    world.run()
    take, count = world.proxies.run_in_pod, [0]

    def killed(*args: Any) -> str:
        answer = take(*args)
        count[0] += answer.startswith("loaded")
        if count[0] == killed_after or (killed_after == 1 and args[4][3] == "petset-load"):
            raise KeyboardInterrupt
        return answer

    io_proxy.run_in_pod = killed
    with pytest.raises(KeyboardInterrupt):
        world.run(replicas=3)
    io_proxy.run_in_pod = take
    result = world.run(replicas=3)
    assert result["changed"]
    assert set(world.proxies.live.values()) == {result["config_hash"]}
    assert not world.run(replicas=3)["changed"]


def test_without_the_right_to_touch_pods_it_takes_longer(world: World) -> None:
    world.run()
    world.cluster.deny("patch", kinds.POD)
    waits = [0]

    def kubelet() -> None:
        world.proxies()
        waits[0] += 1
        if waits[0] == 20:
            for pod in world.proxies.pods():
                world.proxies.mounted[pod] = read_hash(world.proxies.text())

    world.clock.during_sleep = kubelet
    result = world.run(replicas=3)
    assert set(world.proxies.live.values()) == {result["config_hash"]}


def test_a_proxy_that_goes_on_with_the_old_one_is_named(world: World) -> None:
    first = world.run()
    pod = world.proxies.pods()[1]
    world.proxies.deaf.add(pod)
    with pytest.raises(TimedOut, match=f"{pod}.*still works with configuration {first['config_hash']}"):
        world.run(replicas=3)
    world.proxies.deaf.clear()
    assert [line.split(" (")[0] for line in world.run(replicas=3)["actions"]] == [
        f"reload HAProxy in Pod default/{pod}",
        "update Deployment default/mysql-haproxy",
    ]


def test_a_proxy_that_goes_away_meanwhile_holds_nothing_up(world: World) -> None:
    world.run()
    pod = world.proxies.pods()[1]
    take = world.proxies.run_in_pod

    def drained(*args: Any) -> str:
        if args[2] == pod and world.cluster.live(kinds.POD, pod, "default"):
            world.cluster.remove(kinds.POD, pod, "default")
        return take(*args)

    io_proxy.run_in_pod = drained
    result = world.run(replicas=3)
    world.proxies()
    assert world.proxies.live[world.proxies.pods()[1]] == result["config_hash"]


def test_nobody_can_be_asked(world: World) -> None:
    world.run()
    world.proxies.silent.update(world.proxies.pods())
    with pytest.raises(Refused, match=r"could not be tried there: Handshake.*pods/exec"):
        world.run(replicas=3)
    assert world.writes() == []


def test_a_new_image_rolls_and_a_broken_one_is_named(world: World) -> None:
    world.run()
    pods = world.proxies.pods()
    with pytest.raises(TimedOut, match=r"ErrImagePull.*registry"):
        world.run(image=BROKEN)
    assert set(pods) <= set(world.proxies.pods())
    result = world.run(image="haproxy:3.3")
    assert result["restarts_proxies"]
    assert not set(pods) & set(world.proxies.pods())
    assert not world.run(image="haproxy:3.3")["changed"]


def test_no_password_in_what_others_say_of_the_proxies(world: World) -> None:
    """In a pod's status, its events and the Deployment's conditions; only logs were looked at."""
    world.run()
    world.clock.during_sleep = None
    told = [f"https://robot:s3cret@{where}.invalid/v2/: 401" for where in ("status", "event", "rollout")]
    for pod in world.cluster.all(kinds.POD):
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        (container,) = pod["status"]["containerStatuses"]
        container.update(ready=False, state={"waiting": {"reason": "ErrImagePull", "message": told[0]}})
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        about = {"kind": "Pod", "name": name, "namespace": "default", "uid": uid}
        event = {"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "Failed", "message": told[1]}
        world.cluster.add({**event, "metadata": {"name": f"{name}.1", "namespace": "default"}, "involvedObject": about})
    failed = {"type": "ReplicaFailure", "status": "True", "message": told[2]}
    world.deployment()["status"].update(availableReplicas=0, conditions=[failed])
    shown = str(world.info(probe=False))
    assert "status.invalid" in shown
    assert "rollout.invalid" in shown
    with pytest.raises(TimedOut) as caught:
        world.run(wait_timeout=20)
    waited = caught.value.render()
    assert "s3cret" not in shown + waited
    assert "********@" in waited


# --- others' objects ---


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kinds.CONFIG_MAP, "mysql-haproxy"),
        (kinds.SERVICE, "mysql-proxy"),
        (kinds.SERVICE, "mysql-stats"),
        (kinds.POD_DISRUPTION_BUDGET, "mysql-haproxy"),
        (kinds.DEPLOYMENT, "mysql-haproxy"),
    ],
)
def test_other_peoples_objects_are_refused_and_left(world: World, kind: kinds.Kind, name: str) -> None:
    world.cluster.add(
        {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, "namespace": "default"}}
    )
    with pytest.raises(Refused, match=f"{kind.kind} default/{name}.*was not made for the set mysql"):
        world.run()
    assert world.writes() == []
    result = world.run(state="absent")
    assert not result["changed"]
    assert "left alone" in result["warnings"][0]


def test_a_field_of_somebody_else_is_named(world: World) -> None:
    world.run()
    world.cluster.edit(kinds.DEPLOYMENT, "mysql-haproxy", "default", {"spec": {"replicas": 5}}, manager="autoscaler")
    with pytest.raises(FieldConflict, match="autoscaler"):
        world.run()
    assert world.run(force_conflicts=True)["ready"]


def test_a_missing_namespace(world: World) -> None:
    with pytest.raises(Refused, match="it does not exist"):
        world.run(namespace="nowhere")
    # rp-ans-01: check mode of a whole site comes before the namespace is made.
    told = world.run(namespace="nowhere", check=True)
    assert len(told["actions"]) == 5
    assert told["notes"] == ["Namespace nowhere does not exist yet; the real run needs it"]
    assert world.writes() == []


def test_absent_and_present_again(world: World) -> None:
    world.run()
    told = world.run(check=True, state="absent")
    assert world.writes() == []
    world.clock.during_sleep = lambda: [
        world.cluster.remove(kinds.POD, name, "default") for name in world.proxies.pods()
    ]
    result = world.run(state="absent")
    assert told["actions"] == result["actions"]
    assert [line.split(" ")[1] for line in result["actions"]] == [
        "Deployment", "PodDisruptionBudget", "Service", "Service", "ConfigMap",
    ]  # fmt: skip
    assert not world.run(state="absent")["changed"]
    world.clock.during_sleep = world.proxies
    assert world.run()["ready"]


def test_absent_says_what_it_waits_for(world: World) -> None:
    world.run()
    with pytest.raises(TimedOut, match=r"still there: mysql-haproxy.*on node node-"):
        world.run(state="absent")


# --- options ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"set": "My.SQL"}, "My.SQL"),
        ({"set": "m" * 53}, "53 characters"),
        ({"namespace": "a.b"}, "namespace"),
        ({"replicas": 0}, "replicas"),
        ({"masters": 0}, "masters"),
        ({"proxies": 0}, "proxies"),
        ({"image": "a b"}, "image"),
        ({"cluster_domain": "x_y"}, "cluster_domain"),
        ({"timeouts": {"check_ms": 1}}, "timeouts.check_ms"),
        ({"timeouts": {"idle": 5}}, "timeouts.idle"),
        ({"max_connections": 1}, "max_connections"),
        ({"threads": 0}, "threads"),
        ({"client_service": {"name": "db"}}, "client_service.name"),
        ({"client_service": {"name": "mysql"}}, "another service of this set"),
        ({"client_service": {"port": 3307}}, "client_service.read_port"),
        ({"client_service": {"port": 70000}}, "client_service.port"),
        ({"client_service": {"node_port": 30306}}, "a ClusterIP service has none"),
        (
            {"client_service": {"type": "NodePort", "node_port": 30306, "read_node_port": 30306}},
            "client_service.read_node_port",
        ),
        ({"client_service": {"source_ranges": ["192.0.2.0/24"]}}, "type LoadBalancer"),
        ({"client_service": {"type": "LoadBalancer", "source_ranges": ["192.0.2.1/24"]}}, "not a network"),
        ({"client_service": {"annotations": {"a b": "c"}}}, "client_service.annotations"),
        ({"stats_service": {"name": "mysql-proxy"}}, "stats_service.name"),
        ({"resources": {"requests": {"memory": "1Gi"}}}, "more than the limit"),
        ({"labels": {"a": "b c"}}, "labels"),
        ({"tolerations": [{"keys": "x"}]}, "tolerations"),
        ({"uid": 0}, "uid"),
        ({"adopt": ["Service"]}, "adopt"),
    ],
)
def test_bad_options_are_refused_before_any_request(world: World, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as problem:
        world.run(**options)
    assert words in str(problem.value)
    assert world.client.requests == []


def test_the_services_are_as_asked_for(world: World) -> None:
    world.run(
        client_service={
            "name": "sql",
            "type": "LoadBalancer",
            "port": 13306,
            "read_port": 13307,
            "node_port": 30306,
            "read_node_port": 30307,
            "annotations": {"a": 1},
            "source_ranges": ["192.0.2.0/24"],
        },
        stats_service={"annotations": {"prometheus.io/scrape": True}},
    )
    live = world.cluster.live(kinds.SERVICE, "sql", "default")
    assert live is not None
    assert live["spec"]["type"] == "LoadBalancer"
    assert live["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert [(port["port"], port["nodePort"], port["targetPort"]) for port in live["spec"]["ports"]] == [
        (13306, 30306, "mysql"),
        (13307, 30307, "mysql-read"),
    ]
    stats = world.cluster.live(kinds.SERVICE, "mysql-stats", "default")
    assert stats is not None
    assert stats["metadata"]["annotations"] == {"prometheus.io/scrape": "true"}
    assert stats["spec"]["type"] == "ClusterIP"


def test_the_pods_can_do_little(world: World) -> None:
    world.run()
    pod = world.deployment()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "env" not in container


# --- pet_proxy_info ---


def test_info_of_proxies_that_agree(world: World) -> None:
    first = world.run()
    info = world.info()
    assert (info["exists"], info["ready"], info["agree"]) == (True, True, True)
    assert (info["writers"], info["readers"]) == (["mysql-0"], ["mysql-0", "mysql-1"])
    assert info["config_hash"] == first["config_hash"]
    assert info["mode"] == "single_writer"
    assert info["troubles"] == []
    assert world.writes() == []
    lines = info["table"].splitlines()
    assert lines[0].split() == ["PROXY", "STATE", "NODE", "WRITER", "READERS", "SESSIONS", "CONFIG"]
    assert lines[1].split()[1:] == ["ready", "node-1", "mysql-0", "mysql-0,mysql-1", "4", first["config_hash"]]
    (server,) = (one for one in info["proxies"][0]["servers"] if (one["backend"], one["pet"]) == ("writer", "mysql-1"))
    assert server == {
        "backend": "writer", "pet": "mysql-1", "up": False, "status": "DOWN", "address": "10.0.0.1:3306",
        "check": "L7OK 200 OK", "since_s": 9, "sessions": 1,
    }  # fmt: skip


def test_info_names_proxies_that_share_a_node(world: World) -> None:
    """Both were on one node after the other had been away, and its next fault was an outage."""
    world.run()
    assert world.info()["shared_nodes"] == []
    put_on_one_node(world.cluster)
    info = world.info()
    assert (info["ready"], info["troubles"]) == (True, [])
    (shared,) = info["shared_nodes"]
    assert (shared["node"], shared["free"]) == ("node-1", ["node-0"])
    assert shared["way_out"].startswith(f"kubectl --namespace default delete pod {info['proxies'][-1]['name']}: ")
    assert info["table"].splitlines()[-1] == f"{shared['evidence']}: {shared['way_out']}"


def test_info_of_proxies_that_do_not_agree(world: World) -> None:
    world.run()
    pod = world.proxies.pods()[0]
    world.proxies.writers[pod] = "mysql-1"
    info = world.info()
    assert info["agree"] is False
    assert info["writers"] == ["mysql-0", "mysql-1"]
    assert f"{pod}: mysql-1" in info["troubles"][0]
    assert info["uncertain"] == []
    assert "do not agree" in info["table"]


def test_a_run_asks_the_proxies_when_it_is_told_to(world: World) -> None:
    """What they say after the wait; in check mode those that run, and none where there are none yet."""
    assert "agree" not in world.run(check=True, probe=True)
    first = world.run(probe=True)
    foretold = world.run(check=True, probe=True)
    for found in (first, foretold):
        assert (found["agree"], found["writers"], found["troubles"]) == (True, ["mysql-0"], [])
        assert found["readers"] == ["mysql-0", "mysql-1"]
    assert foretold["changed"] is False
    world.proxies.silent.add(world.proxies.pods()[0])
    found = world.run(probe=True)
    assert found["agree"] is None
    assert found["uncertain"] == found["troubles"] != []
    assert "agree" not in world.run()


def test_a_run_without_the_right_to_ask_the_proxies_does_not_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object) -> str:
        raise Forbidden("pods/exec", "user deployer may not create pods/exec", missing={}, way_out="grant it")

    monkeypatch.setattr(io_proxy, "run_in_pod", refuse)
    for found in (world.run(probe=True), world.run(check=True, probe=True)):
        assert (found["ready"], found["agree"], found["writers"]) == (True, None, None)
        assert "may not create pods/exec" in found["troubles"][0]
        assert found["uncertain"] == found["troubles"]


@pytest.mark.parametrize("silent", [1, 2])
def test_info_of_proxies_that_cannot_be_asked(world: World, silent: int) -> None:
    world.run()
    pods = world.proxies.pods()
    world.proxies.silent.update(pods[:silent])
    info = world.info()
    # What is not known is not said to be right.
    assert info["agree"] is None
    assert info["writers"] == (["mysql-0"] if silent == 1 else [])
    assert info["uncertain"] == info["troubles"]
    assert [text.split(": ")[:2] for text in info["uncertain"]] == [
        [pod, "it could not be asked"] for pod in pods[:silent]
    ]
    assert [line for line in info["table"].splitlines() if line.startswith("not known: ")] == [
        f"not known: {text}" for text in info["uncertain"]
    ]


def test_info_of_a_proxy_with_an_old_configuration(world: World) -> None:
    first = world.run()
    pod = world.proxies.pods()[0]
    world.proxies.live[pod] = "0123"
    assert world.info()["troubles"] == [f"{pod}: it works with configuration 0123, wanted is {first['config_hash']}"]


def test_info_without_a_writer(world: World) -> None:
    world.run(mode="spread")
    for pod in world.proxies.pods():
        world.proxies.writers[pod] = "nobody"
    info = world.info()
    assert (info["agree"], info["writers"], info["mode"]) == (True, [], "spread")
    assert info["troubles"] == ["no pet takes writes"]


def test_info_without_proxies_and_without_asking(world: World) -> None:
    missing = world.info()
    assert (missing["exists"], missing["troubles"], missing["uncertain"]) == (False, [], [])
    world.run()
    info = world.info(probe=False)
    assert (info["ready"], info["agree"], info["writers"]) == (True, None, None)
    assert world.proxies.ran == []


def test_errors_are_the_collections_own(world: World) -> None:
    world.cluster.deny("get", kinds.DEPLOYMENT)
    with pytest.raises(PetsetError, match="deployments"):
        world.run()
