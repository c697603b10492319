# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pet_proxy against a real API server and the real controllers; the kubelet is played by the test."""

from __future__ import annotations

import contextlib
import urllib.error
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _proxy
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import FieldConflict, Refused, TimedOut
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import read_hash
from ansible_collections.stateful.petset.plugins.modules import pet_proxy, pet_proxy_info
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked

from tests.api.cluster import ADMIN_TOKEN, Cluster
from tests.api.conftest import client_for
from tests.api.test_pet_set import BROKEN, MERGE, Kubelet

pytestmark = pytest.mark.api


class World:
    """A namespace; each ``run`` is a task with a client of its own."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.client = client_for(api, ADMIN_TOKEN)
        self._position = 0

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        root = f"/apis/{group}" if group else "/api/v1"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def run(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "namespace": self.namespace, "wait_timeout": 60, **options}
        return self._run(pet_proxy.argument_spec(), _proxy.run_pet_proxy, given, check)

    def info(self, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "namespace": self.namespace, **options}
        return self._run(pet_proxy_info.argument_spec(), _proxy.run_pet_proxy_info, given, False)

    def _run(self, spec: Any, body: Any, given: dict[str, Any], check: bool) -> dict[str, Any]:
        module = FakeModule(checked(spec, given), check, True)
        self.client = client_for(self.api, ADMIN_TOKEN)
        self._position = self.api.audit_position()
        partial: dict[str, Any] = {"changed": False}
        result: dict[str, Any] = {**partial, **body(module, self.client, partial)}
        return result

    def writes(self) -> list[str]:
        return self.api.audited_writes(self._position)

    def pods(self) -> set[str]:
        return {one["metadata"]["uid"] for one in self.api.request("GET", self.path("pods"))["items"]}

    def deployment(self) -> dict[str, Any]:
        live: dict[str, Any] = self.api.request("GET", self.path("deployments", "mysql-haproxy", "apps/v1"))
        return live


@pytest.fixture
def world(api: Cluster, namespace: str) -> Iterator[World]:
    world = World(api, namespace)
    kubelet = Kubelet(api, namespace)
    kubelet.start()
    yield world
    with contextlib.suppress(urllib.error.HTTPError):
        api.request("DELETE", world.path("deployments", "mysql-haproxy", "apps/v1"))
    kubelet.stop()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "resources": {"requests": {"cpu": "0.1", "memory": "65536Ki"}, "limits": {"memory": "0.25Gi"}},
            "client_service": {"type": "NodePort", "annotations": {"a": 1}},
            "stats_service": {"annotations": {"prometheus.io/scrape": True}},
            "tolerations": [{"key": "db", "value": "x", "effect": "NoSchedule"}],
            "image_pull_secrets": ["registry"],
            "proxies": 1,
            "mode": "spread",
            "ip_family": "ipv6",
        },
    ],
)
def test_the_second_run_writes_nothing_and_asks_little(world: World, options: dict[str, Any]) -> None:
    first = world.run(**options)
    assert first["changed"]
    assert first["ready"]
    assert len(world.writes()) == 5
    second = world.run(**options)
    assert (second["changed"], second["actions"], second["ready"]) == (False, [], True)
    assert world.writes() == []
    kinds = Counter(one.path.rpartition(f"/{world.namespace}/")[2].split("/")[0] for one in world.client.requests)
    assert max(kinds.values()) <= 3, kinds
    assert world.run(check=True, **options)["diff"] == {"before": {}, "after": {}}


def test_rp_ans_01_check_mode_where_not_even_the_namespace_is(api: Cluster) -> None:
    world = World(api, "not-there")
    result = world.run(check=True)
    assert len(result["actions"]) == 5
    assert world.writes() == []


def test_pods_are_admitted_under_pod_security_restricted(world: World) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    world.api.request("PATCH", f"/api/v1/namespaces/{world.namespace}", label, MERGE)
    assert world.run()["ready"]


def test_a_pet_more_is_no_new_pod(world: World) -> None:
    """Nothing runs in the pods of this cluster, so nobody has to load anything; tests/api/test_haproxy.py does that."""
    world.run()
    pods, generation = world.pods(), world.deployment()["metadata"]["generation"]
    result = world.run(replicas=3)
    assert [line.split(" ")[:2] for line in result["actions"]] == [["update", "ConfigMap"], ["update", "Deployment"]]
    assert not result["restarts_proxies"]
    assert world.pods() == pods
    assert world.deployment()["metadata"]["generation"] == generation
    text = world.api.request("GET", world.path("configmaps", "mysql-haproxy"))["data"]["haproxy.cfg"]
    assert read_hash(text) == result["config_hash"]
    assert not world.run(replicas=3)["changed"]


def test_a_configuration_that_nobody_can_try_is_not_written(world: World) -> None:
    world.run()
    text = world.api.request("GET", world.path("configmaps", "mysql-haproxy"))["data"]
    # As if a proxy ran there: the API server finds no kubelet to run anything by.
    for pod in world.api.request("GET", world.path("pods"))["items"]:
        status = pod["status"]
        status["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-11-25T00:00:00Z"}}
        path = world.path("pods", f"{pod['metadata']['name']}/status")
        world.api.request("PATCH", path, {"status": status}, MERGE)
    with pytest.raises(Refused, match="could not be tried there"):
        world.run(replicas=3)
    assert [line for line in world.writes() if "configmaps" in line or "deployments" in line] == []
    assert world.api.request("GET", world.path("configmaps", "mysql-haproxy"))["data"] == text
    assert not world.run()["changed"]
    info = world.info()
    assert info["agree"] is None
    assert "could not be asked" in info["table"]


def test_a_broken_image_leaves_the_old_proxies(world: World) -> None:
    world.run()
    pods = world.pods()
    with pytest.raises(TimedOut, match="ImagePullBackOff"):
        world.run(image=BROKEN, wait_timeout=8)
    assert pods < world.pods()
    result = world.run(image="haproxy:3.2")
    assert result["ready"]
    assert world.pods() == pods
    assert not world.run()["changed"]


def test_somebody_scaled_the_proxies(world: World) -> None:
    world.run()
    scale = world.path("deployments", "mysql-haproxy/scale", "apps/v1") + "?fieldManager=autoscaler"
    world.api.request("PATCH", scale, {"spec": {"replicas": 3}}, MERGE)
    with pytest.raises(FieldConflict, match="autoscaler"):
        world.run()
    assert world.run(force_conflicts=True)["ready"]


def test_absent_and_present_again(world: World) -> None:
    world.run()
    assert len(world.run(state="absent")["actions"]) == 5
    assert world.pods() == set()
    assert not world.run(state="absent")["changed"]
    assert world.writes() == []
    assert world.info()["exists"] is False
    assert world.run()["ready"]
