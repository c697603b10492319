# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part has a certificate for its own work and no more, and strict readers take them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import pki
from lab.config import LabConfig, Plan
from lab.log import LabError
from lab.pki import Certificate

PLAN = Plan(LabConfig(), 0)
plans = st.builds(Plan, st.builds(LabConfig, nodes=st.integers(1, 9), extra=st.integers(0, 9)), st.integers(0, 63))


def extensions(certificate: Certificate) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in certificate.render_extensions().splitlines())


def named(plan: Plan, name: str) -> Certificate:
    return next(c for c in pki.certificates(plan) if c.name == name)


@given(plans)
def test_every_certificate_says_that_it_is_no_authority_and_what_its_key_is_for(plan: Plan) -> None:
    for certificate in pki.certificates(plan):
        seen = extensions(certificate)
        assert seen["basicConstraints"] == "critical, CA:FALSE"
        assert seen["keyUsage"] == "critical, digitalSignature, keyEncipherment"
        assert {"authorityKeyIdentifier", "subjectKeyIdentifier"} <= set(seen)


@given(plans)
def test_usages_are_those_of_the_part_alone(plan: Plan) -> None:
    usages = {c.name: extensions(c)["extendedKeyUsage"] for c in pki.certificates(plan)}
    assert usages.pop("apiserver") == "serverAuth"
    for node in plan.nodes:
        assert usages.pop(f"kubelet-{node.name}") == "serverAuth, clientAuth"
    assert set(usages) == {
        "apiserver-kubelet-client", "admin", "controller-manager", "scheduler", "kube-proxy", "coredns",
    }  # fmt: skip
    assert set(usages.values()) == {"clientAuth"}


@given(plans)
def test_what_serves_has_its_names_and_what_only_asks_has_none(plan: Plan) -> None:
    for certificate in pki.certificates(plan):
        assert ("subjectAltName" in extensions(certificate)) is certificate.server
    assert extensions(named(plan, "apiserver"))["subjectAltName"] == (
        "DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, "
        "DNS:kubernetes.default.svc.cluster.local, DNS:localhost, DNS:api, "
        "IP:10.213.0.2, IP:10.215.0.1, IP:127.0.0.1"
    )
    for node in plan.nodes:
        seen = extensions(named(plan, f"kubelet-{node.name}"))
        assert seen["subjectAltName"] == f"DNS:{node.name}, IP:{node.ip}, IP:{node.ip6}"


def test_subjects_are_the_users_and_groups_that_kubernetes_knows() -> None:
    assert {c.name: c.render_subject() for c in pki.certificates(PLAN)} == {
        "apiserver": "/CN=kube-apiserver",
        "apiserver-kubelet-client": "/CN=lab:apiserver",
        "admin": "/O=system:masters/CN=lab:admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=lab:coredns",
        "kubelet-node-1": "/O=system:nodes/CN=system:node:node-1",
        "kubelet-node-2": "/O=system:nodes/CN=system:node:node-2",
    }


@given(plans)
def test_only_the_administrator_is_master_of_all_and_only_nodes_are_nodes(plan: Plan) -> None:
    certificates = pki.certificates(plan)
    assert [c.name for c in certificates if c.organisation == "system:masters"] == ["admin"]
    assert [c.name for c in certificates if c.organisation == "system:nodes"] == [
        f"kubelet-{n.name}" for n in plan.nodes
    ]
    assert len({c.name for c in certificates}) == len({c.common_name for c in certificates}) == len(certificates)


@given(st.binary(), st.binary(), st.binary())
def test_a_kubeconfig_holds_everything_inside(ca: bytes, certificate: bytes, key: bytes) -> None:
    credentials = pki.render_credentials(certificate, key)
    text = pki.render_kubeconfig("lab-x", "https://10.213.0.2:6443", "admin", ca, credentials)
    config = json.loads(text)
    assert (config["apiVersion"], config["kind"]) == ("v1", "Config")
    (context,) = config["contexts"]
    (cluster,) = config["clusters"]
    (user,) = config["users"]
    assert config["current-context"] == context["name"] == "lab-x"
    assert (context["context"]["cluster"], context["context"]["user"]) == (cluster["name"], user["name"])
    assert cluster["cluster"]["server"] == "https://10.213.0.2:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == ca
    assert base64.b64decode(user["user"]["client-certificate-data"]) == certificate
    assert base64.b64decode(user["user"]["client-key-data"]) == key
    assert "insecure-skip-tls-verify" not in text


# -- made by openssl -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole PKI of a lab with one node."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this host")
    root = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PETSET_LAB_STATE", str(root))
        pki.ensure(Plan(LabConfig(nodes=1), 0))
    return root


@pytest.fixture
def base(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(made))
    return made / "lab" / "pki"


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


def test_openssl_verifies_every_certificate_strictly_for_its_purpose(base: Path) -> None:
    certificates = pki.certificates(Plan(LabConfig(nodes=1), 0))
    for purpose, wanted in (("sslserver", "server"), ("sslclient", "client")):
        files = [base / f"{c.name}.crt" for c in certificates if getattr(c, wanted)]
        shown = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", base / "ca.crt", *files)
        assert shown.splitlines() == [f"{file}: OK" for file in files]
    refused = subprocess.run(
        ["openssl", "verify", "-purpose", "sslclient", "-CAfile", base / "ca.crt", base / "apiserver.crt"],
        capture_output=True,
    )
    assert refused.returncode != 0, "the API server's certificate is not one to log in with"


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Both ends in memory; gives the server's, which knows who the client is."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[1]


def contexts(base: Path, server_name: str, client_name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(base / "ca.crt"))
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(base / "ca.crt"))
    for context, name in ((server, server_name), (client, client_name)):
        context.load_cert_chain(base / f"{name}.crt", base / f"{name}.key")
        # the default from Python 3.13 on: an authority without keyUsage is refused
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


def test_python_talks_to_the_api_server_as_the_administrator(base: Path) -> None:
    server = shake_hands(*contexts(base, "apiserver", "admin"), "10.213.0.2")
    subject = dict(field[0] for field in (server.getpeercert() or {})["subject"])  # type: ignore[misc]
    assert subject == {"organizationName": "system:masters", "commonName": "lab:admin"}


def test_a_kubelet_serves_the_api_server(base: Path) -> None:
    assert shake_hands(*contexts(base, "kubelet-node-1", "apiserver-kubelet-client"), "10.213.0.11").getpeercert()


@pytest.mark.parametrize(
    ("server", "client", "name"),
    [
        ("apiserver", "admin", "10.213.0.11"),
        ("admin", "kubelet-node-1", "10.213.0.2"),
        ("apiserver", "apiserver", "10.213.0.2"),
    ],
    ids=["another-address", "a-client-as-server", "a-server-as-client"],
)
def test_a_certificate_is_not_taken_for_what_it_is_not(base: Path, server: str, client: str, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(*contexts(base, server, client), name)


def test_keys_are_closed_to_others(base: Path) -> None:
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    keys = list(base.glob("*.key"))
    assert len(keys) == 2 + 8
    assert {stat.S_IMODE(key.stat().st_mode) & 0o077 for key in keys} == {0}


def test_nothing_but_keys_and_certificates_is_left(base: Path) -> None:
    assert {p.suffix for p in base.iterdir()} == {".crt", ".key", ".pub"}
    assert not [p for p in base.iterdir() if p.name.startswith(".")]


def test_what_is_there_is_not_issued_again(base: Path) -> None:
    before = {p: p.stat() for p in base.iterdir()}
    pki.ensure(Plan(LabConfig(nodes=1), 0))
    assert {p: p.stat() for p in base.iterdir()} == before


def test_a_kubeconfig_is_for_its_owner_alone(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    pki.write_kubeconfig(Plan(LabConfig(nodes=1), 0), "admin", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    user = json.loads(path.read_text())["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == (base / "admin.key").read_bytes()


# -- killed in between -----------------------------------------------------------------------------------------------


def fake_openssl(monkeypatch: pytest.MonkeyPatch, die_at: int | None = None) -> list[list[str]]:
    """An openssl that writes what it is asked for, and at call ``die_at`` is killed with half of it on disk."""
    calls: list[list[str]] = []

    def run(argv: list[str]) -> str:
        calls.append(argv)
        for option in ("-keyout", "-out"):
            if option in argv:
                half = len(calls) == die_at
                Path(argv[argv.index(option) + 1]).write_text("ha" if half else "half and whole")
        if len(calls) == die_at:
            raise LabError("killed")
        return ""

    monkeypatch.setattr(pki, "run", run)
    # one after the other, so that the count tells where
    monkeypatch.setattr(pki, "in_parallel", lambda jobs: [job() for job in jobs])
    return calls


@pytest.mark.parametrize("die_at", range(1, 20))
def test_a_lab_killed_while_it_makes_certificates_has_them_whole_the_next_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, die_at: int
) -> None:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    plan = Plan(LabConfig(nodes=1), 0)
    with monkeypatch.context() as patch:
        fake_openssl(patch, die_at)
        with pytest.raises(LabError, match="killed"):
            pki.ensure(plan)
    fake_openssl(monkeypatch)
    pki.ensure(plan)
    base = pki.pki_folder(plan)
    wanted = {"ca", *(c.name for c in pki.certificates(plan))}
    assert {p.name for p in base.iterdir()} == {
        *(f"{name}.{ending}" for name in wanted for ending in ("crt", "key")),
        "service-account.key",
        "service-account.pub",
    }
    assert {p.read_text() for p in base.iterdir()} == {"half and whole"}


def test_a_whole_pki_takes_that_many_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that the test above dies at each of them."""
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    calls = fake_openssl(monkeypatch)
    pki.ensure(Plan(LabConfig(nodes=1), 0))
    assert len(calls) == 19
    assert os.listdir(tmp_path) == ["lab"]
