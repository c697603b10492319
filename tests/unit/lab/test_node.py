# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node reads at boot: a kubelet that lets nobody in unasked, its own pod network, and files where units look."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import debian, node, pki
from lab.config import REGISTRY, LabConfig, Plan

PLAN = Plan(LabConfig("green"), 0)
KUBELET = node.render_kubelet_config(PLAN)
ROOTFS = debian.ROOTFS / "node"


def test_kubelet_lets_in_whom_the_api_server_knows_and_lets_do_what_it_allows() -> None:
    assert KUBELET["authentication"]["anonymous"] == {"enabled": False}
    assert KUBELET["authentication"]["webhook"]["enabled"] is True
    assert KUBELET["authentication"]["x509"] == {"clientCAFile": "/lab/node/ca.crt"}
    assert KUBELET["authorization"]["mode"] == "Webhook"
    assert KUBELET["readOnlyPort"] == 0
    assert "AlwaysAllow" not in json.dumps(KUBELET)


def test_kubelet_serves_with_a_certificate_of_the_labs_authority() -> None:
    """Not with one that it signs itself, which the API server would have to take unseen."""
    assert KUBELET["tlsCertFile"] == "/lab/node/kubelet.crt"
    assert KUBELET["tlsPrivateKeyFile"] == "/lab/node/kubelet.key"


def test_pods_ask_the_clusters_dns() -> None:
    assert (KUBELET["clusterDNS"], KUBELET["clusterDomain"]) == ([PLAN.dns_service_ip], "cluster.local")


@given(st.integers(1, 9))
def test_pods_have_addresses_of_their_nodes_own_range_and_no_nat(nodes: int) -> None:
    for spec in Plan(LabConfig(nodes=nodes), 0).nodes:
        (plugin,) = node.render_cni(spec)["plugins"]
        assert plugin["ipam"]["ranges"] == [[{"subnet": spec.pod_cidr}]]
        assert (plugin["ipMasq"], plugin["isDefaultGateway"], plugin["hairpinMode"]) == (False, True, True)


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shared folder of node-2 after prepare, with certificates that are only names."""
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    base = pki.pki_folder(PLAN)
    base.mkdir(parents=True)
    for name in ("ca", *(c.name for c in pki.certificates(PLAN))):
        for ending in ("crt", "key"):
            (base / f"{name}.{ending}").write_text(f"{name}.{ending}")
            (base / f"{name}.{ending}").chmod(0o600 if ending == "key" else 0o644)
    node.prepare(PLAN, PLAN.machine("node-2"))
    return tmp_path / "green" / "machines" / "node-2" / "share" / "node"


def test_a_node_finds_its_own_credentials_and_nobody_elses(share: Path) -> None:
    assert {str(p.relative_to(share)) for p in share.rglob("*") if p.is_file()} == {
        "kubelet.yaml", "cni/10-pods.conflist", "env", "ca.crt", "kubelet.crt", "kubelet.key", "kubeconfig",
    }  # fmt: skip
    assert (share / "kubelet.crt").read_text() == "kubelet-node-2.crt"
    assert (share / "kubelet.key").read_text() == "kubelet-node-2.key"
    config = json.loads((share / "kubeconfig").read_text())
    assert config["users"][0]["name"] == "kubelet-node-2"
    assert config["clusters"][0]["cluster"]["server"] == "https://10.213.0.2:6443"
    assert (share / "env").read_text() == "NODE_NAME=node-2\nNODE_IP=10.213.0.12\n"
    for secret in ("kubelet.key", "kubeconfig"):
        assert stat.S_IMODE((share / secret).stat().st_mode) == 0o600


def test_the_unit_and_kubelet_look_for_files_that_are_there(share: Path) -> None:
    unit = (ROOTFS / "etc/systemd/system/kubelet.service").read_text()
    texts = [unit, (share / "kubelet.yaml").read_text()]
    wanted = {word.strip('",') for text in texts for word in text.replace("=", " ").split() if "/lab/node/" in word}
    assert len(wanted) >= 6
    for path in wanted:
        assert (share / path.removeprefix("/lab/node/")).exists(), path
    for variable in ("NODE_NAME", "NODE_IP"):
        assert f"${{{variable}}}" in unit


def test_containerd_looks_for_the_pod_network_where_it_is_written(share: Path) -> None:
    config = tomllib.loads((ROOTFS / "etc/containerd/config.toml").read_text())
    plugins = config["plugins"]
    where = plugins["io.containerd.cri.v1.runtime"]["cni"]["conf_dir"]
    assert list((share / where.removeprefix("/lab/node/")).glob("*.conflist"))
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"].startswith(REGISTRY + "/")
    mirror = tomllib.loads((ROOTFS / "etc/containerd/registry.toml").read_text())
    assert mirror["server"] == f"http://{REGISTRY}"
