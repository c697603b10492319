# SPDX-License-Identifier: GPL-3.0-or-later
"""The control plane is a hardened one: nobody is anonymous, nothing is always allowed, and its files fit together."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from http.client import BadStatusLine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import controlplane, pki, processes, state
from lab.config import LabConfig, Plan
from lab.controlplane import PARTS, WORDS, Programs
from lab.log import LabError
from lab.netns import Reply
from lab.node import render_kubelet_config
from lab.state import LabState, ProcessRecord

PLAN = Plan(LabConfig("green"), 0)
PROGRAMS = Programs(Path("/c/kube"), Path("/c/coredns/coredns"), Path("/c/tools/tree"))


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    return tmp_path


@pytest.fixture
def commands(root: Path) -> dict[str, list[str]]:
    return controlplane.render_commands(PLAN, PROGRAMS)


def flags(argv: list[str]) -> dict[str, str]:
    """``--name=value`` -> value, ``--name`` -> true; a flag that is given twice would hide one."""
    found: dict[str, str] = {}
    for word in argv[1:]:
        name, _, value = word.removeprefix("--").partition("=")
        assert name not in found, name
        found[name] = value or "true"
    return found


# -- hardened --------------------------------------------------------------------------------------------------------


def test_the_api_server_knows_everybody_and_asks_for_every_right(commands: dict[str, list[str]]) -> None:
    seen = flags(commands["apiserver"])
    assert seen["authorization-mode"] == "Node,RBAC"
    assert seen["anonymous-auth"] == "false"
    assert "NodeRestriction" in seen["enable-admission-plugins"].split(",")
    assert "disable-admission-plugins" not in seen
    assert seen["profiling"] == "false"
    for needed in (
        "client-ca-file", "tls-cert-file", "tls-private-key-file", "kubelet-certificate-authority",
        "kubelet-client-certificate", "kubelet-client-key", "service-account-key-file",
        "service-account-signing-key-file", "audit-policy-file", "audit-log-path",
    ):  # fmt: skip
        assert seen[needed].startswith("/"), needed
    assert not {"token-auth-file", "basic-auth-file", "insecure-port", "insecure-bind-address"} & set(seen)


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_always_allowed(commands: dict[str, list[str]], part: str) -> None:
    line = " ".join(commands[part])
    for word in ("AlwaysAllow", "always-allow", "insecure-skip", "anonymous-auth=true", "cluster-admin"):
        assert word not in line


def test_ps_shows_no_credentials(commands: dict[str, list[str]]) -> None:
    for argv in commands.values():
        assert not re.search(r"password|token=|secret", " ".join(argv), re.IGNORECASE)


@pytest.mark.parametrize("part", ["controller-manager", "scheduler"])
def test_what_asks_the_api_server_has_its_own_identity_and_asks_it_who_may_ask(
    commands: dict[str, list[str]], part: str, root: Path
) -> None:
    seen = flags(commands[part])
    own = str(root / "green" / "kubeconfigs" / part)
    assert {seen[f"{x}kubeconfig"] for x in ("", "authentication-", "authorization-")} == {own}
    assert seen["bind-address"] == "127.0.0.1"
    assert seen["profiling"] == "false"


def test_controllers_act_as_themselves(commands: dict[str, list[str]]) -> None:
    assert flags(commands["controller-manager"])["use-service-account-credentials"] == "true"


def test_etcd_listens_where_only_the_api_servers_namespace_can_reach_it(commands: dict[str, list[str]]) -> None:
    """It has no certificates."""
    seen = flags(commands["etcd"])
    listening = {value for name, value in seen.items() if name.startswith("listen-")}
    assert listening == {"http://127.0.0.1:2379", "http://127.0.0.1:2380"}
    assert controlplane.part_namespace(PLAN, "etcd") == controlplane.part_namespace(PLAN, "apiserver")
    assert flags(commands["apiserver"])["etcd-servers"] in listening


def test_the_rights_of_the_labs_own_parts_are_few() -> None:
    """Its DNS may read what it answers from, its API server may reach kubelets; nobody gets everything."""
    objects = controlplane.render_addons(PLAN)
    for role in (o for o in objects if o["kind"] == "ClusterRole"):
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
            assert "*" not in rule["resources"] + rule["apiGroups"]
            assert "secrets" not in rule["resources"]
    bindings = {
        (b["roleRef"]["name"], *(s["name"] for s in b["subjects"]))
        for b in objects
        if b["kind"] == "ClusterRoleBinding"
    }
    assert bindings == {("system:kubelet-api-admin", "lab:apiserver"), ("lab:coredns", "lab:coredns")}
    users = {c.common_name for c in pki.certificates(PLAN)}
    assert {user for _, user in bindings} <= users


def test_every_request_of_a_user_is_in_the_audit_log_without_its_body() -> None:
    rules = controlplane.render_audit_policy()["rules"]
    assert rules[-1] == {"level": "Metadata"}
    assert {rule["level"] for rule in rules} == {"None", "Metadata"}
    quiet = {user for rule in rules[:-1] for user in rule.get("users", [])}
    assert not {"lab:admin", "system:anonymous"} & quiet
    assert all(set(rule) & {"users", "userGroups"} for rule in rules[:-1]), "a rule without either silences all"


# -- fitting together ------------------------------------------------------------------------------------------------


def test_every_part_has_a_command_a_word_and_a_namespace(commands: dict[str, list[str]]) -> None:
    assert set(commands) == set(WORDS) == set(PARTS)
    assert {controlplane.part_namespace(PLAN, part) for part in PARTS} == {"petset-green-api", "petset-green-gw"}


@given(name=st.from_regex(r"\A[a-z][a-z0-9-]{0,11}\Z"))
def test_a_part_is_known_by_its_word_and_taken_for_no_other(name: str) -> None:
    """Whatever the lab is called, as its folder's name is in most command lines."""
    lines = {p: " ".join(a) + " " for p, a in controlplane.render_commands(Plan(LabConfig(name), 0), PROGRAMS).items()}
    for part, word in WORDS.items():
        assert [p for p, line in lines.items() if word in line] == [part]


def test_the_certificates_in_the_commands_are_those_that_are_made(commands: dict[str, list[str]], root: Path) -> None:
    base = str(root / "green" / "pki")
    made = {f"{c.name}.{e}" for c in pki.certificates(PLAN) for e in ("crt", "key")}
    made |= {"ca.crt", "ca.key", "service-account.key", "service-account.pub"}
    used = {
        value.removeprefix(base + "/")
        for argv in commands.values()
        for word in argv
        if (value := word.partition("=")[2]).startswith(base)
    }
    assert len(used) > 5
    assert used <= made


def test_the_audit_log_is_where_lab_logs_looks(commands: dict[str, list[str]]) -> None:
    assert flags(commands["apiserver"])["audit-log-path"] == str(controlplane.log_file(PLAN, "audit"))


def test_a_lost_node_is_noticed_after_more_than_two_of_its_leases(commands: dict[str, list[str]]) -> None:
    grace_s = int(flags(commands["controller-manager"])["node-monitor-grace-period"].removesuffix("s"))
    # kubelet renews its lease every quarter of its duration
    renewal_s = render_kubelet_config(PLAN)["nodeLeaseDurationSeconds"] / 4
    assert grace_s > 2 * renewal_s


def test_kube_proxy_masquerades_what_it_sends_on_and_serves_node_ports_on_the_gateway() -> None:
    config = controlplane.render_kube_proxy(PLAN, Path("/k/kube-proxy"))
    assert (config["mode"], config["nftables"]["masqueradeAll"]) == ("nftables", True)
    assert config["clusterCIDR"] == "10.214.0.0/16"
    assert config["nodePortAddresses"] == ["10.213.0.1/32"]
    assert config["clientConnection"] == {"kubeconfig": "/k/kube-proxy"}


def test_the_corefile_answers_for_the_cluster_and_forwards_the_rest() -> None:
    text = controlplane.render_corefile(PLAN, Path("/k/coredns"), ["10.0.0.2", "9.9.9.9"])
    cluster, rest = text.split(".:53 {")
    assert cluster.startswith("cluster.local:53 10.in-addr.arpa:53 {")
    assert "kubernetes cluster.local in-addr.arpa {" in cluster
    assert "kubeconfig /k/coredns lab-green\n" in cluster
    assert "forward" not in cluster, "a name of the cluster is asked nowhere else"
    assert "forward . 10.0.0.2 9.9.9.9\n" in rest
    assert "10.213.0.1 registry.lab\n" in rest
    assert text.count("bind 10.213.0.1\n") == 2
    assert text.count("{") == text.count("}")


def test_the_corefile_names_the_context_that_the_kubeconfig_has() -> None:
    context = json.loads(pki.render_kubeconfig("lab-green", PLAN.api_url, "coredns", b"", {}))["current-context"]
    assert f"kubeconfig /k {context}\n" in controlplane.render_corefile(PLAN, Path("/k"), ["9.9.9.9"])


def test_the_dns_service_leads_to_the_gateway() -> None:
    objects = controlplane.render_addons(PLAN)
    service = next(o for o in objects if o["kind"] == "Service")
    slices = next(o for o in objects if o["kind"] == "EndpointSlice")
    assert service["spec"]["clusterIP"] == PLAN.dns_service_ip
    assert "selector" not in service["spec"], "there is no pod behind it"
    assert slices["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert slices["endpoints"] == [{"addresses": ["10.213.0.1"]}]
    assert [p["name"] for p in slices["ports"]] == [p["name"] for p in service["spec"]["ports"]]


def test_no_pod_is_placed_on_the_gateway() -> None:
    node = controlplane.render_gateway_node(PLAN)
    assert node["spec"]["unschedulable"] is True
    assert node["spec"]["taints"][0]["effect"] == "NoExecute"


@pytest.mark.parametrize(
    ("version", "outlives"),
    [
        ("Kubernetes v1.33.13\n", True),
        ("Kubernetes v1.36.3", True),
        ("Kubernetes v1.37.0-alpha.1", False),
        ("Kubernetes v1.37.2\n", False),
        ("Kubernetes v1.40.0+vendor.7", False),
        ("Kubernetes v2.1.0", False),
    ],
)
def test_kube_proxy_of_1_37_exits_with_its_node(version: str, outlives: bool) -> None:
    assert controlplane.outlives_its_node(version) is outlives


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"}},
            "/api/v1/namespaces/kube-system/services/kube-dns",
        ),
        (
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a", "namespace": "b"}},
            "/apis/discovery.k8s.io/v1/namespaces/b/endpointslices/a",
        ),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "lab:coredns"},
            },
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/lab:coredns",
        ),
    ],
)
def test_where_an_object_is(manifest: dict[str, Any], path: str) -> None:
    assert controlplane._object_path(manifest) == path


def test_every_addon_has_an_address() -> None:
    paths = [controlplane._object_path(o) for o in controlplane.render_addons(PLAN)]
    assert len(set(paths)) == len(paths)


# -- written and started ---------------------------------------------------------------------------------------------


def fake_pki(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki, "ensure", lambda plan: None)
    monkeypatch.setattr(controlplane, "host_nameservers", lambda: ("9.9.9.9",))
    monkeypatch.setattr(
        pki, "write_kubeconfig", lambda plan, name, path: controlplane.write_atomically(path, name, mode=0o600)
    )


FILES = {
    "kubeconfig", "audit-policy.json", "kube-proxy.json", "Corefile", "kubeconfigs/controller-manager",
    "kubeconfigs/scheduler", "kubeconfigs/kube-proxy", "kubeconfigs/coredns",
}  # fmt: skip


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root / "green")) for p in (root / "green").rglob("*") if p.is_file()}


def test_all_files_that_the_parts_read_are_written(
    monkeypatch: pytest.MonkeyPatch, root: Path, commands: dict[str, list[str]]
) -> None:
    fake_pki(monkeypatch)
    controlplane.write_configuration(PLAN)
    assert files(root) == FILES
    read = {
        word.rpartition("=")[2].removeprefix(f"{root}/green/")
        for argv in commands.values()
        for word in argv
        if word.startswith(("--kubeconfig=", "--config=", "-conf=", "--audit-policy-file="))
    }
    assert read <= FILES


@pytest.mark.parametrize("die_at", range(len(FILES)))
def test_a_configuration_that_is_not_whole_has_no_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, root: Path, die_at: int
) -> None:
    """``up`` takes the kubeconfig as the sign that all is written: one killed before has to write it all again."""
    fake_pki(monkeypatch)
    written: list[Path] = []

    def write(path: Path, text: str, mode: int = 0o644) -> None:
        if len(written) == die_at:
            raise LabError("killed")
        written.append(path)
        state.write_atomically(path, text, mode)

    monkeypatch.setattr(controlplane, "write_atomically", write)
    with pytest.raises(LabError, match="killed"):
        controlplane.write_configuration(PLAN)
    assert "kubeconfig" not in (files(root) if written else set())


def spawned(monkeypatch: pytest.MonkeyPatch, lab: LabState, part: str) -> tuple[list[str], dict[str, Any]]:
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def spawn(argv: list[str], **how: Any) -> ProcessRecord:
        calls.append((argv, how))
        return ProcessRecord(4711, 12, how["word"])

    monkeypatch.setattr(processes, "spawn", spawn)
    assert controlplane.start(lab, part, PROGRAMS) is True
    (call,) = calls
    return call


@pytest.mark.parametrize("part", [p for p in PARTS if p not in ("registry", "kube-proxy")])
def test_a_part_is_started_in_its_namespace_and_noted_at_once(
    monkeypatch: pytest.MonkeyPatch, commands: dict[str, list[str]], part: str
) -> None:
    lab = LabState(LabConfig("green"), 0)
    argv, how = spawned(monkeypatch, lab, part)
    assert argv == ["ip", "netns", "exec", controlplane.part_namespace(PLAN, part), *commands[part]]
    assert how == {"word": WORDS[part], "log": controlplane.log_file(PLAN, part)}
    assert state.need("green").processes == {part: ProcessRecord(4711, 12, WORDS[part])}


def test_the_registry_sees_the_labs_folder_through_a_mount_of_its_own(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    argv, _ = spawned(monkeypatch, LabState(LabConfig("green"), 0), "registry")
    assert argv[:8] == ["ip", "netns", "exec", "petset-green-gw", "unshare", "--mount", "--", "sh"]
    assert argv[-7:] == [
        "/c/tools/tree", f"{root}/green",
        "chroot", "/c/tools/tree", "/usr/bin/docker-registry", "serve", "/lab/registry.yml",
    ]  # fmt: skip


def test_a_part_that_runs_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "is_alive", lambda record: record is not None)
    monkeypatch.setattr(processes, "spawn", lambda *args, **how: pytest.fail("started"))
    lab = LabState(LabConfig("green"), 0, {"etcd": ProcessRecord(1, 2, "bin/etcd ")})
    assert controlplane.start(lab, "etcd", PROGRAMS) is False


@pytest.mark.parametrize(
    ("version", "fails"), [("v1.36.3", False), ("v1.36.3", True), ("v1.37.2", False)], ids=["ok", "fails", "1.37"]
)
def test_the_node_that_kube_proxy_waits_for_is_there_only_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fails: bool
) -> None:
    did: list[str] = []

    def request(plan: Plan, path: str, *, method: str = "GET", **_how: Any) -> Reply:
        did.append(f"{method} {path}")
        return Reply(200, b"{}")

    def wait(lab: LabState, parts: list[str]) -> None:
        did.append("wait")
        if fails:
            raise LabError("no answer")

    (tmp_path / "kube-proxy").write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
    (tmp_path / "kube-proxy").chmod(0o755)
    monkeypatch.setattr(controlplane, "request", request)
    monkeypatch.setattr(controlplane, "wait_until_ready", wait)
    monkeypatch.setattr(processes, "spawn", lambda argv, **how: ProcessRecord(1, 2, how["word"]))
    lab = LabState(LabConfig("green"), 0)
    programs = replace(PROGRAMS, kube=tmp_path)
    if fails:
        with pytest.raises(LabError):
            controlplane.start(lab, "kube-proxy", programs)
    else:
        controlplane.start(lab, "kube-proxy", programs)
    assert "kube-proxy" in lab.processes
    if version == "v1.37.2":
        assert did == [], "it would exit with its node"
        return
    assert did == [
        "POST /api/v1/nodes",
        "PATCH /api/v1/nodes/gateway/status",
        "wait",
        "DELETE /api/v1/nodes/gateway",
    ]


# -- answers ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(controlplane, "time", made)
    return made


def node(name: str, *conditions: tuple[str, str]) -> dict[str, Any]:
    status = {"conditions": [{"type": t, "status": s} for t, s in conditions]} if conditions else {}
    return {"metadata": {"name": name}, "status": status}


def test_a_node_is_ready_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        node("a", ("MemoryPressure", "False"), ("Ready", "True")),
        node("b", ("Ready", "False")),
        node("c", ("Ready", "Unknown")),
        node("d", ("MemoryPressure", "True")),
        node("e"),
    ]
    monkeypatch.setattr(controlplane, "request", lambda *a, **k: Reply(200, json.dumps({"items": items}).encode()))
    assert controlplane.node_conditions(PLAN) == {"a": True, "b": False, "c": False, "d": False, "e": False}


@pytest.mark.parametrize(("boot", "is_ready"), [("now", True), ("before", False), (None, False)])
def test_a_node_that_was_ready_before_its_power_went_is_not_ready_yet(
    monkeypatch: pytest.MonkeyPatch, boot: str | None, is_ready: bool
) -> None:
    """For 40 s the API says Ready of a node that is off; power-on came back before it was Ready again."""
    one = node("a", ("Ready", "True"))
    one["status"]["nodeInfo"] = {"bootID": boot} if boot else {}
    monkeypatch.setattr(controlplane, "request", lambda *a, **k: Reply(200, json.dumps({"items": [one]}).encode()))
    assert controlplane.node_conditions(PLAN, {"a": "now"}) == {"a": is_ready}
    assert controlplane.node_conditions(PLAN, {"b": "now"}) == {"a": True}


@pytest.mark.parametrize("part", [p for p in PARTS if p != "apiserver"])
def test_a_part_is_asked_in_its_own_namespace_whether_it_answers(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    asked: list[str] = []
    statuses = iter([200, 503])

    def http_request(namespace: str, ip: str, port: int, path: str, **_how: Any) -> Reply:
        asked.append(namespace)
        return Reply(next(statuses), b"")

    monkeypatch.setattr(controlplane.netns, "http_request", http_request)
    assert controlplane.is_ready(PLAN, part) is True
    assert controlplane.is_ready(PLAN, part) is False
    assert asked == [controlplane.part_namespace(PLAN, part)] * 2


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), BadStatusLine("")])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_cannot_be_asked_is_not_ready(monkeypatch: pytest.MonkeyPatch, part: str, error: Exception) -> None:
    def fail(*_args: Any, **_how: Any) -> Reply:
        raise error

    monkeypatch.setattr(controlplane.netns, "http_request", fail)
    monkeypatch.setattr(controlplane, "request", fail)
    assert controlplane.is_ready(PLAN, part) is False


def test_an_api_server_that_refuses_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlplane, "request", lambda *a, **k: Reply(401, b"{}"))
    with pytest.raises(OSError, match="nodes: 401"):
        controlplane.node_conditions(PLAN)


def test_nodes_that_are_not_ready_in_time_are_named_with_where_to_look(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def conditions(plan: Plan, _boots: object) -> dict[str, bool]:
        if clock.now < 3:
            raise ConnectionRefusedError
        return {"node-1": True, "node-2": False}

    monkeypatch.setattr(controlplane, "node_conditions", conditions)
    with pytest.raises(LabError, match=r"not Ready after 12 s: node-2$") as caught:
        controlplane.wait_until_nodes_ready(LabState(LabConfig(), 0), ["node-1", "node-2"], timeout_s=12)
    assert "logs node-2" in str(caught.value.hint)
    assert capsys.readouterr().err.count("waiting for Ready: node-2") == 2
    controlplane.wait_until_nodes_ready(LabState(LabConfig(), 0), ["node-1"])


def test_a_part_that_ends_while_starting_is_told_at_once_with_its_log(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    log = controlplane.log_file(PLAN, "etcd")
    log.parent.mkdir(parents=True)
    log.write_text("bind: address in use\n")
    monkeypatch.setattr(controlplane, "is_ready", lambda plan, part: False)
    monkeypatch.setattr(processes, "is_alive", lambda record: False)
    with pytest.raises(LabError, match=r"etcd ended while starting\n    \| bind: address in use\n"):
        controlplane.wait_until_ready(LabState(LabConfig("green"), 0), ["etcd"])
    assert clock.now == 0


def test_parts_that_stay_silent_are_told_when_time_is_over(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(controlplane, "is_ready", lambda plan, part: part == "etcd")
    monkeypatch.setattr(processes, "is_alive", lambda record: True)
    with pytest.raises(LabError, match=r"no answer from coredns, registry after 7 s"):
        controlplane.wait_until_ready(LabState(LabConfig("green"), 0), ["etcd", "coredns", "registry"], timeout_s=7)
    assert 7 < clock.now < 8


def test_an_addon_that_is_refused_for_a_while_is_sent_again(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """kube-system and the bootstrap roles come a moment after readiness."""
    sent: list[str] = []

    def request(plan: Plan, path: str, **_how: Any) -> Reply:
        sent.append(path)
        return Reply(200 if len(sent) > 3 else 404, b"namespaces not found")

    monkeypatch.setattr(controlplane, "request", request)
    controlplane.apply_addons(PLAN)
    assert len(sent) == 3 + len(controlplane.render_addons(PLAN))
    assert all(path.endswith("?fieldManager=petset-lab&force=true") for path in sent)


def test_an_addon_that_is_refused_for_good_is_named(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(controlplane, "request", lambda *a, **k: Reply(403, b"no"))
    with pytest.raises(LabError, match=r"ClusterRoleBinding lab:apiserver: 403 b'no'"):
        controlplane.apply_addons(PLAN)
