# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pet_proxy against a real API server and the real controllers; the kubelet is played by the test."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import urllib.error
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _proxy
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import FieldConflict, Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import ProxyConfig, read_hash
from ansible_collections.stateful.petset.plugins.module_utils._core.proxy_probe import View, look_command, parse_view
from ansible_collections.stateful.petset.plugins.module_utils._io import proxy as _io_proxy
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient
from ansible_collections.stateful.petset.plugins.modules import pet_proxy, pet_proxy_info
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked

from lab.debian import ensure_haproxy
from tests.api.cluster import ADMIN_TOKEN, Cluster, free_ports
from tests.api.conftest import Killed, client_for, dying_client
from tests.api.proxied import wait_for
from tests.api.test_pet_set import MERGE, Kubelet, told_of_broken_image

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

    def run(self, *, check: bool = False, killed_after: int | None = None, **options: Any) -> dict[str, Any]:
        """``killed_after``: so many writes; the run ends in Killed if it has more to write."""
        given = {"set": "mysql", "namespace": self.namespace, "wait_timeout": 60, **options}
        client = None if killed_after is None else dying_client(self.api, killed_after)
        return self._run(pet_proxy.argument_spec(), _proxy.run_pet_proxy, given, check, client)

    def info(self, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "namespace": self.namespace, **options}
        return self._run(pet_proxy_info.argument_spec(), _proxy.run_pet_proxy_info, given, False)

    def _run(
        self, spec: Any, body: Any, given: dict[str, Any], check: bool, client: KubeClient | None = None
    ) -> dict[str, Any]:
        module = FakeModule(checked(spec, given), check, True)
        self.client = client or client_for(self.api, ADMIN_TOKEN)
        self._position = self.api.audit_position()
        partial: dict[str, Any] = {"changed": False}
        result: dict[str, Any] = {**partial, **body(module, self.client, partial)}
        return result

    def writes(self) -> list[str]:
        return self.api.audited_writes(self._position)

    def pods(self) -> set[str]:
        return {one["metadata"]["uid"] for one in self.api.request("GET", self.path("pods"))["items"]}

    def say_that_they_run(self) -> list[str]:
        """What a kubelet says of pods whose processes run; gives their names."""
        pods = self.api.request("GET", self.path("pods"))["items"]
        for pod in pods:
            pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-11-25T00:00:00Z"}}
            path = self.path("pods", f"{pod['metadata']['name']}/status")
            self.api.request("PATCH", path, {"status": pod["status"]}, MERGE)
        return sorted(pod["metadata"]["name"] for pod in pods)

    def stored(self) -> dict[str, str]:
        data: dict[str, str] = self.api.request("GET", self.path("configmaps", "mysql-haproxy"))["data"]
        return data

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
    """Nothing runs in the pods here, so nobody has to load anything."""
    world.run()
    pods, spec = world.pods(), world.deployment()["spec"]
    result = world.run(replicas=3)
    assert [line.split(" ")[:2] for line in result["actions"]] == [["update", "ConfigMap"], ["update", "Deployment"]]
    assert not result["restarts_proxies"]
    assert world.pods() == pods
    assert world.deployment()["spec"] == spec
    assert read_hash(world.stored()["haproxy.cfg"]) == result["config_hash"]
    assert not world.run(replicas=3)["changed"]


def test_a_configuration_that_nobody_can_try_is_not_written(world: World) -> None:
    world.run()
    text = world.stored()
    # As if a proxy ran there: the API server finds no kubelet to run anything by.
    world.say_that_they_run()
    with pytest.raises(Refused, match="could not be tried there"):
        world.run(replicas=3)
    assert [line for line in world.writes() if "configmaps" in line or "deployments" in line] == []
    assert world.stored() == text
    assert not world.run()["changed"]
    info = world.info()
    assert info["agree"] is None
    assert "could not be asked" in info["table"]


class Processes:
    """A real HAProxy for each pod, on ports and in a folder of its own. Brings them the ConfigMap as a kubelet does:
    when their pod was touched. ``spoil`` is a text that makes a configuration one that HAProxy refuses.
    """

    def __init__(self, world: World, folder: Path, pods: list[str]) -> None:
        self.world = world
        self.spoil = "\0"
        self.ports = dict(zip(pods, zip(*[iter(free_ports(3 * len(pods)))] * 3, strict=True), strict=True))
        self.folders = {pod: folder / pod for pod in pods}
        self.masters: dict[str, subprocess.Popen[bytes]] = {}
        for pod in pods:
            self.folders[pod].mkdir()
            self.mount(pod)
            with (folder / f"{pod}.log").open("wb") as log:
                self.masters[pod] = subprocess.Popen(
                    [ensure_haproxy(), "-W", "-db", "-f", self.folders[pod] / "haproxy.cfg"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
                )  # fmt: skip
            wait_for(lambda pod=pod: self.look(pod).live)  # type: ignore[misc]

    def local(self, pod: str, text: str) -> str:
        """A configuration or a program as it has to be on this machine."""
        for usual, port in zip((3306, 3307, 8404), self.ports[pod], strict=True):
            text = re.sub(rf"bind :{usual}$", f"bind 127.0.0.1:{port}", text, flags=re.MULTILINE)
            text = text.replace(f"port={usual}\n", f"port={port}\n")
        text = text.replace("/petset/haproxy", str(self.folders[pod])).replace(
            "    parse-resolv-conf\n", "    nameserver dns0 127.0.0.1:9\n"
        )
        if pod in self.masters:
            text = text.replace("master=1\n", f"master={self.masters[pod].pid}\n")
        return text + "backend spoilt\n    server nowhere\n" if self.spoil in text and "global\n" in text else text

    def mount(self, pod: str) -> None:
        for name, text in self.world.stored().items():
            (self.folders[pod] / name).write_text(self.local(pod, text))

    def look(self, pod: str) -> View:
        return parse_view(self.run_in_pod(None, "", pod, "haproxy", look_command(ProxyConfig(("mysql-0",), "db"))))

    def run_in_pod(self, _client: object, _namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
        assert container == "haproxy"
        if command[3] == "petset-load":
            live = self.world.api.request("GET", self.world.path("pods", pod))
            if "stateful.petset/config-hash" in live["metadata"].get("annotations", {}):
                self.mount(pod)
        done = subprocess.run(
            [self.local(pod, word) for word in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={"PATH": f"{ensure_haproxy().parent}:{os.environ['PATH']}"},
        )
        return done.stdout

    def stop(self) -> None:
        for master in self.masters.values():
            master.terminate()
        for master in self.masters.values():
            master.wait(10)


@pytest.fixture
def processes(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    world.run()
    processes = Processes(world, tmp_path, world.say_that_they_run())
    monkeypatch.setattr(_io_proxy, "run_in_pod", processes.run_in_pod)
    yield processes
    processes.stop()


def test_real_proxies_load_a_configuration_one_after_the_other(world: World, processes: Processes) -> None:
    pods, names = world.pods(), list(processes.masters)
    told = world.run(check=True, replicas=3)
    result = world.run(replicas=3)
    assert told["actions"] == result["actions"]
    assert [line for line in result["actions"] if line.startswith("reload")] == [
        f"reload HAProxy in Pod {world.namespace}/{name}" for name in names
    ]
    assert {processes.look(name).live for name in names} == {result["config_hash"]}
    assert {server.pet for name in names for server in processes.look(name).servers} == {
        "mysql-0", "mysql-1", "mysql-2",
    }  # fmt: skip
    assert world.pods() == pods
    assert all(master.poll() is None for master in processes.masters.values())
    info = world.info()
    assert [proxy["config_hash"] for proxy in info["proxies"]] == [result["config_hash"]] * 2
    assert (info["agree"], info["troubles"]) == (True, ["no pet takes writes"])
    assert not world.run(replicas=3)["changed"]
    assert world.writes() == []


def test_rp_hap_07_a_configuration_that_haproxy_refuses_never_goes_live(world: World, processes: Processes) -> None:
    stored, names = world.stored(), list(processes.masters)
    processes.spoil = "mysql-2"
    with pytest.raises(Refused, match=r"\[ALERT\].*'server' expects.*was not touched"):
        world.run(replicas=3)
    assert world.stored() == stored
    assert {processes.look(name).live for name in names} == {read_hash(stored["haproxy.cfg"])}
    # The other way in: only the second one refuses it, as another image might, after it was written.
    take = processes.local
    processes.local = (  # type: ignore[method-assign]
        lambda pod, text: (
            take(pod, text) if pod == names[1] else take(pod, text).replace("backend spoilt\n    server nowhere\n", "")
        )
    )
    with pytest.raises(Refused, match="the old one was put back"):
        world.run(replicas=3)
    assert world.stored() == stored
    assert processes.look(names[1]).live == read_hash(stored["haproxy.cfg"])
    processes.spoil = "\0"
    assert not world.run()["changed"]
    assert world.run(replicas=3)["changed"]
    assert len({processes.look(name).live for name in names}) == 1


def test_a_broken_image_leaves_the_old_proxies(world: World) -> None:
    world.run()
    pods = world.pods()
    told_of_broken_image(world)
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


def test_a_first_run_that_is_killed_after_each_write_is_caught_up_with(world: World) -> None:
    """Each run goes on where the last one was killed, so it is killed in the state that a first run would be."""
    written: list[str] = []
    for _run in range(10):
        with contextlib.suppress(Killed):
            world.run(killed_after=1)
            break
        written += world.writes()
    assert len(written) == len(set(written)) == 4, written
    assert len(world.writes()) == 1
    assert not world.run()["changed"]
    assert world.writes() == []


def test_absent_and_present_again(world: World) -> None:
    world.run()
    assert len(world.run(state="absent")["actions"]) == 5
    assert world.pods() == set()
    assert not world.run(state="absent")["changed"]
    assert world.writes() == []
    assert world.info()["exists"] is False
    assert world.run()["ready"]
