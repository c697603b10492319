# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks against a real API server, with an NFS server that others manage; the kubelet is played by the test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.cluster import PLAIN_TOKEN, Cluster
from tests.api.test_pet_set import MERGE, Kubelet
from tests.hidden import find_hidden
from tests.processes import kill_marked

pytestmark = [pytest.mark.api, pytest.mark.playbooks]

ROOT = Path(__file__).resolve().parents[2]
# Which task a write is of; the rest is the set's.
WRITTEN_BY = {r" persistentvolume": "volumes", r" mysql-(haproxy|proxy|stats)$": "proxies"}
PASSWORD = 'it\'s "100%" $ecret\\ ünd'


class Site:
    """Runs the collection's playbooks as a user would, with an inventory of few lines."""

    def __init__(self, api: Cluster, namespace: str, folder: Path) -> None:
        self.api = api
        self.namespace = namespace
        self.inventory = folder / "inventory.yml"
        self.kubeconfig = api.kubeconfig()
        # The folder of the programs of an ansible-core.
        self.bin = Path(sys.executable).parent
        self.output = ""
        self.requests: list[str] = []
        self.writes: list[str] = []

    def written(self, position: int) -> list[str]:
        """What was really written since then."""
        return [line for line in self.api.audited_writes(position) if "(dry run)" not in line]

    def volumes(self) -> list[Any]:
        """Those of the set."""
        found = self.api.request("GET", "/api/v1/persistentvolumes")["items"]
        return [one for one in found if one["metadata"]["name"].startswith(f"{self.namespace}-")]

    def play(
        self, name: str, *options: str, fails: bool = False, named_nfs: bool = False, **variables: Any
    ) -> dict[str, int]:
        given: Mapping[str, Any] = {
            "petset_namespace": self.namespace,
            "petset_nfs_managed": False,
            "petset_nfs_server": "192.0.2.10",
            "petset_kubeconfig": str(self.kubeconfig),
            "petset_wait_timeout": 60,
            "petset_passwords": {"root": PASSWORD},
            "petset_status_probe": False,
            # Nobody plays mysqld here.
            "petset_replication": False,
            **variables,
        }
        # Nothing answers there: the NFS server is others', and a run that asks it fails.
        groups = {"nfs_servers": {"hosts": {"nfs": {"ansible_host": "192.0.2.10", "ansible_timeout": 1}}}}
        found = {"vars": {k: v for k, v in given.items() if v is not None}, "children": groups if named_nfs else {}}
        self.inventory.write_text(json.dumps({"all": found}))
        position = self.api.audit_position()
        done = subprocess.run(
            [self.bin / "ansible-playbook", "-i", self.inventory, f"stateful.petset.{name}", *options],
            cwd=self.inventory.parent,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.output = done.stdout + done.stderr
        self.requests = self.api.audited_requests(position)
        self.writes = self.api.audited_writes(position)
        assert (done.returncode != 0) is fails, self.output
        recap = re.search(r"^localhost .*", done.stdout, re.MULTILINE)
        assert recap, self.output
        return {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", recap[0])}


@contextlib.contextmanager
def playing_kubelet(api: Cluster, namespace: str) -> Iterator[None]:
    """Play the kubelet of a namespace; in the end its set and its proxies go, with their pods."""
    kubelet = Kubelet(api, namespace)
    kubelet.start()
    try:
        yield
    finally:
        for path in ("apis/apps/v1", "api/v1"):
            for plural in ("statefulsets/mysql", "deployments/mysql-haproxy") if "apps" in path else ("pods",):
                with contextlib.suppress(urllib.error.HTTPError):
                    api.request("DELETE", f"/{path}/namespaces/{namespace}/{plural}")
        kubelet.stop()


@pytest.fixture
def site(api: Cluster, namespace: str, tmp_path: Path) -> Iterator[Site]:
    with playing_kubelet(api, namespace):
        yield Site(api, namespace, tmp_path)


def grant_rights(api: Cluster, namespace: str) -> str:
    """Apply the manifests that the collection ships, for a namespace; the token of their account."""
    text = (ROOT / "roles/petset/files/rights.yml").read_text().replace("mysql-pets", namespace)
    places = {
        "ServiceAccount": f"/api/v1/namespaces/{namespace}/serviceaccounts",
        **{
            kind: f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind.lower()}s"
            for kind in ("Role", "RoleBinding")
        },
        **{
            kind: f"/apis/rbac.authorization.k8s.io/v1/{kind.lower()}s"
            for kind in ("ClusterRole", "ClusterRoleBinding")
        },
    }
    for manifest in yaml.safe_load(text)["items"]:
        api.request("POST", places[manifest["kind"]], manifest)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = api.request("POST", f"{places['ServiceAccount']}/petset-deployer/token", asked)
    return str(answer["status"]["token"])


def test_the_way_of_a_set_with_the_rights_that_are_shipped(site: Site) -> None:
    site.kubeconfig = site.api.kubeconfig(grant_rights(site.api, site.namespace), name=f"{site.namespace}-deployer")
    options = ("--diff", "-vvv")
    # Check mode on an empty cluster writes nothing and says that all would be made.
    recap = site.play("site", "--check", *options)
    assert recap["failed"] == 0
    assert site.writes == []
    assert "create StatefulSet" in site.output
    assert "create Deployment" in site.output
    shown = site.output
    recap = site.play("site", *options)
    assert recap["changed"] > 0
    written = [line.split()[1] for line in site.writes if "(dry run)" not in line]
    # New proxies start while the pets do.
    assert written.index("deployments") < written.index("statefulsets")
    shown += site.output
    for second in (options, ("--check", *options)):
        recap = site.play("site", *second)
        assert recap["changed"] == 0, site.output
        assert site.writes == []
        shown += site.output
    site.play("status", petset_status_must_be_ready=True)
    assert re.search(r"ORDINAL +PET +STATE", site.output)
    assert re.search(r"mysql-1 +ready", site.output)
    assert len(re.findall(r"mysql-haproxy-[-a-z0-9]+ +ready", site.output)) == 2
    assert "192.0.2.10:/srv/petset/" in site.output
    assert site.writes == []
    site.play("status", petset_status_format="json")
    assert '"pod_uid"' in site.output
    shown += site.output
    # The playbook is run again with more pets: volumes first, then the count.
    assert site.play("site", *options, petset_replicas=3)["changed"] > 0
    shown += site.output
    site.play("site", fails=True, petset_replicas=2)
    assert "it has 3 pets, 2 are wanted" in site.output
    assert site.writes == []
    recap = site.play("teardown", petset_replicas=3)
    assert recap["changed"] > 0
    shown += site.output
    for ordinal in range(3):
        assert f"192.0.2.10:/srv/petset/{site.namespace}/mysql/{ordinal}" in site.output
    assert site.play("teardown", petset_replicas=3)["changed"] == 0
    assert site.writes == []
    assert find_hidden({"root": PASSWORD}, {"output": shown}) == []
    site.play("site", petset_replicas=3)
    pets = ["mysql-0", "mysql-1", "mysql-2"]
    named: dict[str, Any] = {"petset_replicas": 3, "petset_confirm_absent": pets}
    # What stands in the way of the last step is said before the first, and check mode knows that the set will be gone.
    (volume,) = (one for one in site.volumes() if one["metadata"]["name"].endswith("-mysql-2"))
    for policy, fails in (("Delete", True), ("Retain", False)):
        body = {"spec": {"persistentVolumeReclaimPolicy": policy}}
        site.api.request("PATCH", f"/api/v1/persistentvolumes/{volume['metadata']['name']}", body, MERGE)
        recap = site.play("teardown", *(() if fails else ("--check", "-v")), fails=fails, **named)
        assert site.writes == []
        if fails:
            assert f"its reclaim policy is {policy}: removing claim db-mysql-2 would destroy the data" in site.output
        else:
            assert recap["changed"] > 0
            assert f"delete PersistentVolumeClaim {site.namespace}/db-mysql-2" in site.output
    assert site.play("teardown", **named)["changed"] > 0
    assert site.api.request("GET", f"/api/v1/namespaces/{site.namespace}/persistentvolumeclaims")["items"] == []


@pytest.mark.parametrize("core", ["oldest", "newest"])
def test_the_way_of_a_set_with_another_ansible_core(
    site: Site, core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of the collection runs only inside a real playbook: templates of the roles, actions, filters, callbacks."""
    made = subprocess.run([ROOT / "tools/core-matrix", "--venv", core], stdout=subprocess.PIPE, text=True, check=True)
    site.bin = Path(made.stdout.strip()) / "bin"
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "ansible-home"))
    site.kubeconfig = site.api.kubeconfig(grant_rights(site.api, site.namespace), name=f"{site.namespace}-deployer")
    assert site.play("site", "--check", "--diff")["changed"] > 0
    assert site.writes == []
    assert site.play("site", "--diff")["changed"] > 0
    shown = site.output
    for second in ((), ("--check", "--diff")):
        assert site.play("site", *second)["changed"] == 0, site.output
        assert site.writes == []
    site.play("status", petset_status_must_be_ready=True)
    assert re.search(r"mysql-1 +ready", site.output)
    site.play("site", fails=True, petset_replicas=1)
    assert "it has 2 pets, 1 are wanted" in site.output
    assert site.play("teardown")["changed"] > 0
    assert site.play("teardown")["changed"] == 0
    shown = shown.replace("[WARNING]: Could not match supplied host pattern, ignoring: nfs_servers", "")
    for trouble in ("[WARNING]", "[DEPRECATION", "DEPRECATED"):
        assert trouble not in shown, shown
    assert find_hidden({"root": PASSWORD}, {"output": shown}) == []


def test_teardown_takes_the_claims_of_the_named_pets_and_no_export_that_is_needed(site: Site) -> None:
    site.kubeconfig = site.api.kubeconfig(grant_rights(site.api, site.namespace), name=f"{site.namespace}-deployer")
    site.play("site", petset_replicas=3, petset_proxy=False)
    # The inventory counts two pets.
    gone: dict[str, Any] = {"petset_confirm_absent": ["mysql-0", "mysql-1"], "petset_proxy": False}
    managed = {"petset_nfs_managed": True, "petset_nfs_clients": ["192.0.2.0/24"], "petset_teardown_exports": True}
    site.play("teardown", fails=True, named_nfs=True, **gone, **managed)
    assert "needed by mysql-2 (claim db-mysql-2 Bound, volume" in site.output
    assert site.writes == []
    assert site.play("teardown", **gone)["changed"] > 0
    claims = site.api.request("GET", f"/api/v1/namespaces/{site.namespace}/persistentvolumeclaims")["items"]
    assert [one["metadata"]["name"] for one in claims] == ["db-mysql-2"]
    assert site.play("teardown", **gone)["changed"] == 0
    assert site.writes == []


def test_replication_that_cannot_be_known_yet(site: Site) -> None:
    """The pets of this test have no mysqld, so what is told has to be that."""
    recap = site.play("site", "--check", "-v", petset_replication=True)
    assert recap["failed"] == 0
    assert site.writes == []
    assert "set up replication between 2 masters (single_writer) once the pets run" in site.output
    assert "the statements cannot be known yet" in site.output
    site.play("status", petset_replication=True)
    assert f"{site.namespace}/mysql: degraded" in site.output
    site.play("site")
    site.play("site", "--check", "-v", petset_replication=True)
    assert "cannot be known yet: mysql-0 does not answer" in site.output
    site.play("status", petset_replication=True, petset_status_format="json")
    assert '"judgement"' in site.output
    site.play("status", fails=True, petset_replication=True, petset_status_must_be_ready=True)
    assert "replication: uncertain" in site.output
    assert "mysql-1 could not be asked" in site.output
    assert f"{site.namespace}/mysql: uncertain" in site.output


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"petset_set": "My.SQL"}, "My.SQL"),
        ({"petset_replicas": 0}, "replicas"),
        ({"petset_replicas": "many"}, "petset_replicas"),
        ({"petset_capacity": "1GB"}, "1GB"),
        ({"petset_memory": "0x10"}, "0x10"),
        ({"petset_nfs_managed": True}, "nfs_servers"),
        ({"petset_nfs_managed": "maybe"}, "petset_nfs_managed"),
        ({"petset_nfs_server": ""}, "petset_nfs_server"),
        ({"petset_namespace": "not-there"}, "Namespace not-there"),
        ({"petset_mysql_config": {"sync_binlog": 0}}, "sync_binlog"),
        ({"petset_passwords": {"root": 83}}, "petset_passwords.root: no text"),
        ({"petset_passwords": {"replication": "x" * 33}}, "MySQL takes 32"),
        ({"petset_proxy_service": {"type": "External"}}, "External"),
        ({"petset_proxy_service": {"name": "mysql"}}, "client_service.name"),
        ({"petset_proxy_timeouts": {"idle": 1}}, "timeouts.idle"),
        ({"petset_context": "elsewhere"}, "known contexts: admin"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(site: Site, variables: dict[str, Any], words: str) -> None:
    site.play("site", fails=True, **variables)
    assert words in site.output
    assert site.writes == []


@pytest.mark.parametrize(
    ("name", "variables", "words"),
    [
        ("status", {"petset_set": "My.SQL"}, "at most 52 characters"),
        ("status", {"petset_status_probe": "maybe"}, "petset_status_probe"),
        ("recovery", {"petset_masters": 0}, "petset_masters: 0"),
        ("teardown", {"petset_namespace": "not.there"}, "at most 63 characters"),
        ("teardown", {"petset_replicas": 0}, "petset_replicas: 0"),
        ("teardown", {"petset_nfs_path": "srv/{pet}"}, "petset_nfs_path"),
        ("teardown", {"petset_confirm_absent": ["mysql-0", "mysql-2"]}, "mysql-2: no pet of"),
        ("teardown", {"petset_teardown_exports": True, "petset_nfs_managed": True}, "nfs_servers"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(
    site: Site, name: str, variables: dict[str, Any], words: str
) -> None:
    site.play(name, fails=True, **variables)
    assert words in site.output
    assert site.requests == []


def play_and_kill(site: Site, after: int) -> list[str]:
    """Run the site playbook as the last ``play`` did, killed with all its children as soon as it has written so often.

    What it had written by then, or nothing when it came to its end before.
    """
    position = site.api.audit_position()
    program = Path(sys.executable).with_name("ansible-playbook")
    mark = f"PETSET_TEST_RUN={site.inventory}"
    with subprocess.Popen(
        ["env", mark, program, "-i", site.inventory, "stateful.petset.site"],
        cwd=site.inventory.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        while run.poll() is None:
            if len(site.written(position)) >= after:
                kill_marked(mark)
                run.wait()
                return site.written(position)
            time.sleep(0.01)
    return []


def test_a_first_run_that_is_killed_anywhere_is_caught_up_with(site: Site) -> None:
    """Each run goes on where the last one was killed, so it is killed in the state that a first run would be.

    That a module may be killed at each single one of its writes is tested beside the module.
    """
    site.play("site", "--check")
    last: list[str] = []
    for _run in range(15):
        written = play_and_kill(site, 3)
        if not written:
            break
        last.append(written[-1])
    killed_in = {next((task for sign, task in WRITTEN_BY.items() if re.search(sign, line)), "the set") for line in last}
    assert killed_in == {"volumes", "the set", "proxies"}, last
    assert site.play("site")["changed"] == 0
    assert site.writes == []


def test_a_right_that_is_missing_is_named(site: Site) -> None:
    site.kubeconfig = site.api.kubeconfig(PLAIN_TOKEN, name="plain")
    site.play("site", fails=True)
    assert f"user plain may not list persistentvolumeclaims in namespace {site.namespace}" in site.output
    assert site.writes == []
