# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab carries what the collection needs: a set of pets on NFS volumes, names, services, and machines that fail.

Plain manifests, so that this says something of the lab alone.
"""

from __future__ import annotations

import json
import time

import pytest

from lab.soak import FLUSH_CACHES

from .conftest import Lab, wait_for

pytestmark = pytest.mark.lab

NAMESPACE = "story"
IMAGE = "registry.lab:5000/python:3"
# Each pet serves its volume over HTTP: what another machine reads there came through DNS, pod network and NFS.
SERVE = """
import http.server, os
os.chdir("/data")
http.server.test(HandlerClass=http.server.SimpleHTTPRequestHandler, port=8000, bind="0.0.0.0")
"""


def manifests(server: str) -> list[dict]:
    labels = {"app": "web"}
    objects: list[dict] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for i in range(2):
        objects += [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"story-web-{i}"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "",
                    "mountOptions": ["nfsvers=4.2", "hard", "proto=tcp"],
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "namespace": NAMESPACE,
                        "name": f"data-web-{i}",
                    },
                    "nfs": {"server": server, "path": f"/srv/story/web-{i}"},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": f"data-web-{i}", "namespace": NAMESPACE},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "",
                    "volumeName": f"story-web-{i}",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        ]
    ports = [{"name": "http", "port": 8000}]
    objects += [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pets", "namespace": NAMESPACE},
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels, "ports": ports},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"type": "NodePort", "selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {
                "serviceName": "pets",
                "replicas": 2,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "securityContext": {
                            "runAsUser": 999,
                            "runAsGroup": 999,
                            "runAsNonRoot": True,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "affinity": {
                            "podAntiAffinity": {
                                "requiredDuringSchedulingIgnoredDuringExecution": [
                                    {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
                                ]
                            }
                        },
                        "containers": [
                            {
                                "name": "web",
                                "image": IMAGE,
                                "command": ["python3", "-c", SERVE],
                                "securityContext": {
                                    "allowPrivilegeEscalation": False,
                                    "readOnlyRootFilesystem": True,
                                    "capabilities": {"drop": ["ALL"]},
                                },
                                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                                "readinessProbe": {"httpGet": {"path": "/marker", "port": 8000}, "periodSeconds": 1},
                            }
                        ],
                    },
                },
                "volumeClaimTemplates": [
                    {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "metadata": {"name": "data"},
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "",
                            "resources": {"requests": {"storage": "1Gi"}},
                        },
                    }
                ],
            },
        },
    ]
    return objects


def pods(lab: Lab) -> dict[str, dict]:
    return {p["metadata"]["name"]: p for p in lab.get("pods", "-n", NAMESPACE)["items"]}


def ready(lab: Lab) -> dict[str, dict]:
    """Pods by name, when both are ready; else nothing."""
    found = pods(lab)
    good = [
        p
        for p in found.values()
        if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
    ]
    return found if len(good) == 2 else {}


def fetch(lab: Lab, url: str) -> str:
    """What a client of the lab reads at an address; empty when it cannot."""
    return lab.run(
        "python3",
        "-c",
        f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=3).read().decode())",
        ok=False,
    ).stdout.strip()


def fetch_from_pet(lab: Lab, pet: str, url: str) -> str:
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=3).read().decode())"
    return lab.kubectl("exec", "-n", NAMESPACE, pet, "--", "python3", "-c", code, ok=False).stdout.strip()


@pytest.fixture(scope="module")
def story(nfs_server: Lab):
    lab = nfs_server
    server = lab.state.plan.machine("nfs").ip
    done = lab.ssh(
        "nfs",
        """
        for i in 0 1; do
            mkdir -p /srv/story/web-$i
            echo "pet $i" > /srv/story/web-$i/marker
            chown -R 999:999 /srv/story/web-$i
            echo "/srv/story/web-$i 10.213.0.0/24(rw,sync,no_subtree_check,root_squash,fsid=10$i)"
        done > /etc/exports.d/story.exports
        exportfs -ra"""
        + FLUSH_CACHES,
    )
    assert done.rc == 0, done.stderr
    lab.kubectl(
        "apply", "-f", "-", input_text=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests(server)})
    )
    wait_for("both pets are ready", lambda: ready(lab), 120)
    yield lab
    lab.kubectl("delete", "namespace", NAMESPACE, "--wait=true", timeout_s=180)
    lab.kubectl("delete", "pv", "story-web-0", "story-web-1", timeout_s=60)
    lab.ssh("nfs", "rm -f /etc/exports.d/story.exports; exportfs -ra; rm -rf /srv/story")


def test_pets_run_on_different_nodes_each_with_its_own_volume(story: Lab) -> None:
    found = pods(story)
    assert {p["spec"]["nodeName"] for p in found.values()} == {"node-1", "node-2"}
    for i in range(2):
        assert (
            story.kubectl("exec", "-n", NAMESPACE, f"web-{i}", "--", "cat", "/data/marker").stdout.strip() == f"pet {i}"
        )


def test_nodes_mount_nfs_4_2_without_flexfile_layouts(story: Lab) -> None:
    for node in ("node-1", "node-2"):
        stats = story.ssh(node, "cat /proc/self/mountstats").stdout
        blocks = [b for b in stats.split("device ") if "/srv/story/" in b]
        assert blocks, stats
        for block in blocks:
            assert "vers=4.2" in block
            assert "pnfs=not configured" in block


def test_a_pet_reads_another_by_its_name(story: Lab) -> None:
    for name in ("web-1.pets", f"web-1.pets.{NAMESPACE}.svc.cluster.local"):
        wait_for(
            f"web-0 reads http://{name}",
            lambda n=name: fetch_from_pet(story, "web-0", f"http://{n}:8000/marker") == "pet 1",
            40,
        )


def test_clients_reach_the_service_by_name_address_and_node_port(story: Lab) -> None:
    service = story.get("service", "-n", NAMESPACE, "web")
    address, port = service["spec"]["clusterIP"], service["spec"]["ports"][0]["nodePort"]
    for url in (
        f"http://web.{NAMESPACE}.svc.cluster.local:8000/marker",
        f"http://{address}:8000/marker",
        f"http://gateway:{port}/marker",
    ):
        wait_for(f"a client reads {url}", lambda u=url: fetch(story, u) in ("pet 0", "pet 1"), 40)


def test_a_pet_reaches_the_service_that_it_belongs_to(story: Lab) -> None:
    seen = {fetch_from_pet(story, "web-0", "http://web:8000/marker") for _ in range(12)}
    assert seen >= {"pet 0", "pet 1"}, "through the service a pet has to meet itself (hairpin) and the other one"


def test_the_api_refuses_who_has_no_certificate_and_kubelet_too(story: Lab) -> None:
    plan = story.state.plan
    for url in (f"{plan.api_url}/api/v1/nodes", f"https://{plan.machine('node-1').ip}:10250/pods"):
        code = f"""
import ssl, urllib.request, urllib.error
context = ssl._create_unverified_context()
try:
    print(urllib.request.urlopen({url!r}, context=context, timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
        assert story.run("python3", "-c", code).stdout.strip() == "401", url


def test_a_kubelet_may_not_touch_another_node(story: Lab) -> None:
    """The Node authorizer and NodeRestriction are on."""
    kubeconfig = story.state.plan
    path = f"/var/lib/petset-lab/{kubeconfig.config.name}/machines/node-1/share/node/kubeconfig"
    done = story.run("kubectl", "--kubeconfig", path, "label", "node", "node-2", "x=y", ok=False)
    assert done.rc != 0
    assert "Forbidden" in done.stderr or "forbidden" in done.stderr


def test_an_image_that_is_not_there_is_told_by_the_node(story: Lab) -> None:
    story.kubectl("run", "-n", NAMESPACE, "nobody", "--image=registry.lab:5000/nobody:1", "--restart=Never")
    try:

        def reason() -> str:
            statuses = story.get("pod", "-n", NAMESPACE, "nobody")["status"].get("containerStatuses", [])
            return statuses[0]["state"].get("waiting", {}).get("reason", "") if statuses else ""

        assert wait_for("the pull is refused", lambda: reason() in ("ErrImagePull", "ImagePullBackOff"), 60)
    finally:
        story.kubectl("delete", "pod", "-n", NAMESPACE, "nobody", "--grace-period=0", "--force")


def test_a_node_comes_back_from_a_power_cut_with_its_pet(story: Lab) -> None:
    before = pods(story)["web-1"]
    node = before["spec"]["nodeName"]
    story.cli("power-off", node)
    assert story.cli("status", "--json", ok=False).rc == 1
    wait_for(f"{node} is not Ready", lambda: not story_ready(story)[node], 60)
    began = time.monotonic()
    story.cli("power-on", node)
    took = time.monotonic() - began
    assert took < 60, f"{node} took {took:.0f} s to Ready"
    after = wait_for("both pets are ready again", lambda: ready(story), 120)["web-1"]
    assert after["spec"]["nodeName"] == node
    assert story.kubectl("exec", "-n", NAMESPACE, "web-1", "--", "cat", "/data/marker").stdout.strip() == "pet 1"


def story_ready(lab: Lab) -> dict[str, bool]:
    return {
        n["metadata"]["name"]: any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"]["conditions"])
        for n in lab.get("nodes")["items"]
    }


def test_a_cut_between_nodes_parts_their_pods_and_healing_joins_them(story: Lab) -> None:
    url = "http://web-1.pets:8000/marker"
    wait_for("the pets meet", lambda: fetch_from_pet(story, "web-0", url) == "pet 1", 60)
    story.cli("cut", "node-1", "node-2")
    try:
        assert fetch_from_pet(story, "web-0", url) == ""
        assert any("node-1 -> node-2" in line for line in story.cli("status", ok=False).stdout.splitlines())
        assert all(story_ready(story).values()), "the nodes still reach the API"
    finally:
        story.cli("heal")
    wait_for("the pets meet again", lambda: fetch_from_pet(story, "web-0", url) == "pet 1", 30)


def test_a_cut_one_way_stops_only_that_way(story: Lab) -> None:
    address = pods(story)["web-0"]["status"]["podIP"]
    node = pods(story)["web-0"]["spec"]["nodeName"]
    story.cli("cut", "client", node, "--one-way")
    try:
        assert story.state.cuts == [("client", node)]
        assert fetch(story, f"http://{address}:8000/marker") == ""
    finally:
        story.cli("heal", "client", node)
    assert wait_for("the client reads again", lambda: fetch(story, f"http://{address}:8000/marker"), 20) == "pet 0"


def test_a_node_cut_from_the_nfs_server_waits_and_goes_on(story: Lab) -> None:
    """hard mounts: a write waits for the server instead of failing."""
    node = pods(story)["web-0"]["spec"]["nodeName"]
    write = "import os; f = os.open('/data/late', os.O_CREAT | os.O_WRONLY | os.O_SYNC)\n"
    write += "os.write(f, b'late'); print('written')"
    story.cli("cut", node, "nfs")
    try:
        stuck = story.kubectl("exec", "-n", NAMESPACE, "web-0", "--", "timeout", "3", "python3", "-c", write, ok=False)
        assert "written" not in stuck.stdout
    finally:
        story.cli("heal")
    wait_for(
        "the write ends",
        lambda: (
            story.ssh("nfs", "cat /srv/story/web-0/late 2>/dev/null || true").stdout == "late"
            or "written"
            in story.kubectl(
                "exec", "-n", NAMESPACE, "web-0", "--", "timeout", "20", "python3", "-c", write, ok=False
            ).stdout
        ),
        60,
    )
