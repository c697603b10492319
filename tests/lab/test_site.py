# SPDX-License-Identifier: GPL-3.0-or-later
"""The site playbook on real machines, with a kubeconfig that has the least rights: what check mode says is what is
done, what is done is done once, and no secret is seen.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
import yaml

from tests.pets import Pets

from .conftest import ROOT, Lab

pytestmark = pytest.mark.lab

NAMESPACE = "test-site"
FOLDER = f"/srv/petset/{NAMESPACE}"
DROP_IN = f"/etc/exports.d/{NAMESPACE}-mysql.exports"
RECORD = f"record in ConfigMap {NAMESPACE}/mysql-boot that pets "
ROOT_PASSWORD = 'it\'s "100%" $ecret\\ ünd'


@dataclass(frozen=True, slots=True)
class Play:
    """A run of a playbook: its output, its exit status, what each task did, and what the API server recorded."""

    output: str
    rc: int
    tasks: Sequence[Mapping[str, Any]]
    requests: Sequence[Mapping[str, Any]]

    @property
    def changes(self) -> list[tuple[str, str, str, list[str]]]:
        """Host, play, task and actions of everything that changed or would be changed, in order."""
        return [(t["host"], t["play"], t["task"], t["actions"] or []) for t in self.tasks if t["changed"]]

    @property
    def writes(self) -> list[str]:
        return [f"{r['verb']} {r['uri']}" for r in self.requests if r["verb"] not in ("get", "list", "watch")]


class Site:
    """Runs the collection's playbooks on the lab as somebody who has no more than the rights that it ships."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.kubeconfig = lab.cli("kubeconfig", "--deployer", NAMESPACE).stdout.strip()
        self.plays: list[Play] = []

    def audited(self) -> list[str]:
        return self.lab.cli("logs", "audit", "-n", "0").stdout.splitlines()

    def play(self, name: str, *options: str, rc: int = 0, **variables: Any) -> Play:
        watch = self.folder / "watch.jsonl"
        watch.unlink(missing_ok=True)
        given = {
            **yaml.safe_load((ROOT / "lab/site.yml").read_text()),
            "petset_namespace": NAMESPACE,
            "petset_create_namespace": False,
            "petset_kubeconfig": self.kubeconfig,
            "petset_passwords": {"root": ROOT_PASSWORD},
            **variables,
        }
        extra = self.folder / "variables.json"
        extra.write_text(json.dumps(given))
        before = len(self.audited())
        done = self.lab.run(
            "env",
            "ANSIBLE_NOCOLOR=1",
            f"ANSIBLE_CALLBACK_PLUGINS={ROOT / 'tests' / 'callback'}",
            "ANSIBLE_CALLBACKS_ENABLED=petset_watch",
            f"PETSET_WATCH_FILE={watch}",
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--extra-vars=@{extra}",
            f"stateful.petset.{name}",
            *options,
            ok=False,
            timeout_s=400,
        )
        requests = [json.loads(line) for line in self.audited()[before:]]
        play = Play(
            done.stdout + done.stderr,
            done.rc,
            [task for line in watch.read_text().splitlines() if "outcome" in (task := json.loads(line))],
            [
                {
                    "verb": one["verb"],
                    "uri": one["requestURI"],
                    "user": one["user"]["username"],
                    **one.get("objectRef", {"resource": ""}),
                }
                for one in requests
                if str(one.get("userAgent", "")).startswith("stateful.petset")
                # Not what runs in pods, nor what others do on the same lab.
                and one["sourceIPs"] == [self.lab.state.plan.client_ip]
                and NAMESPACE in one["requestURI"] + one["user"]["username"]
            ],
        )
        self.plays.append(play)
        assert play.rc == rc, play.output
        return play


def clean(lab: Lab) -> None:
    """Leave nothing of these tests, also of a run that was killed."""
    # The data goes as well, so no pet has to end in order.
    now = ("--force", "--grace-period=0", "--timeout=60s")
    lab.kubectl("delete", "statefulset,pod", "--all", "-n", NAMESPACE, *now, ok=False)
    lab.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    cluster_wide = [f"{kind}/petset-deployer-{NAMESPACE}" for kind in ("clusterrole", "clusterrolebinding")]
    volumes = [f"persistentvolume/{NAMESPACE}-mysql-{ordinal}" for ordinal in range(2)]
    lab.kubectl("delete", *cluster_wide, *volumes, "--ignore-not-found", "--timeout=60s")
    script = f"rm -f {DROP_IN}; if command -v exportfs; then exportfs -ra; fi; rm -rf {FOLDER}"
    assert lab.ssh("nfs", script).rc == 0


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    clean(lab)
    lab.kubectl("create", "namespace", NAMESPACE)
    yield Site(lab, tmp_path_factory.mktemp("site"))
    clean(lab)


@dataclass(frozen=True, slots=True)
class Runs:
    """Check mode on the empty cluster, the first run, a second one, and check mode after it."""

    foretold: Play
    made: Play
    again: Play
    foretold_again: Play


@pytest.fixture(scope="module")
def runs(site: Site) -> Runs:
    options = ("--diff", "-vvv")
    foretold = site.play("site", "--check", *options)
    left = site.lab.ssh("nfs", f"ls -d {FOLDER} {DROP_IN} 2>/dev/null || true").stdout
    assert left == "", "check mode has written on the NFS server"
    return Runs(
        foretold, site.play("site", *options), site.play("site", *options), site.play("site", "--check", *options)
    )


@pytest.fixture(scope="module")
def pets(lab: Lab) -> Pets:
    return Pets(NAMESPACE, kubectl_argv=(sys.executable, "-m", "lab", "kubectl", "--name", lab.name, "--"))


def foreseeable(play: Play) -> list[tuple[Any, ...]]:
    """The changes without what only shows when the pets run: that they have data, and how their replication is set up.

    That replication will be set up is foretold. Whether the NFS server may be restarted for its settings depends on who
    is connected at that moment: other tests' clients go when their lease is over.
    """
    found = []
    for *where, actions in play.changes:
        if where[-1].endswith("Restart the service for its new settings"):
            continue
        if "mysql_replication" in where[-1]:
            assert actions, where
            found.append((*where, ["set up replication"]))
        else:
            found.append((*where, [action for action in actions if not action.startswith(RECORD)]))
    return found


def test_check_mode_on_an_empty_cluster_tells_the_changes_of_the_real_run(runs: Runs) -> None:
    assert runs.foretold.writes == []
    assert foreseeable(runs.foretold) == foreseeable(runs.made)
    recorded = [action for *_where, actions in runs.made.changes for action in actions if action.startswith(RECORD)]
    assert len(recorded) <= 2
    actions = [action for *_where, actions in runs.foretold.changes for action in actions]
    for word in ("write /etc/exports.d/", "create PersistentVolume ", "create StatefulSet "):
        assert any(action.startswith(word) for action in actions), actions


def test_a_second_run_changes_nothing(runs: Runs) -> None:
    assert runs.again.changes == runs.foretold_again.changes == []
    assert runs.again.writes == runs.foretold_again.writes == []


def test_a_second_run_asks_little(runs: Runs) -> None:
    """At most three requests for each kind of object, and one for each pet."""
    asked = Counter(request["resource"] for request in runs.again.requests)
    assert {kind: count for kind, count in asked.items() if count > 3 + 2} == {}


def test_the_rights_that_are_shipped_were_enough(runs: Runs, site: Site) -> None:
    users = {request["user"] for play in site.plays for request in play.requests}
    assert users == {f"system:serviceaccount:{NAMESPACE}:petset-deployer"}
    table = site.play("status").output
    assert re.search(r"mysql-0 +ready", table)
    assert re.search(r"mysql-1 +ready", table)


def test_the_pets_take_a_password_with_every_sign(runs: Runs, pets: Pets) -> None:
    assert [pets.sql(pet, "SELECT CURRENT_USER()") for pet in pets.names] == ["root@localhost"] * 2


def test_recovery_finds_nothing_wrong_and_changes_nothing(runs: Runs, site: Site) -> None:
    play = site.play("recovery")
    assert play.changes == []
    assert play.writes == []
    assert re.search(r"replication: healthy", play.output)
    assert re.search(r"mysql-\d +writer ", play.output)


def test_a_run_while_a_pet_restarts_waits_and_changes_nothing(runs: Runs, site: Site, pets: Pets) -> None:
    old = pets.uid("mysql-1")
    pets.kubectl("delete", "pod", "mysql-1", "--wait=false")
    assert "test-site/mysql: " in site.play("recovery", rc=2).output
    play = site.play("site")
    assert play.changes == []
    assert play.writes == []
    # It has not come to its end on the old pod: the set was ready when it ended.
    assert pets.uid("mysql-1") != old
    assert [pets.is_ready(pet) for pet in pets.names] == [True, True]


def test_no_secret_was_seen(runs: Runs, site: Site) -> None:
    """Neither in what Ansible printed with -vvv --diff, nor in the addresses of requests."""
    objects = site.lab.get("secrets", "-n", NAMESPACE)["items"]
    secrets = {
        key: base64.b64decode(value).decode()
        for one in objects
        for key, value in one["data"].items()
        if not key.endswith(".crt")
    }
    assert {"root-password", "replication-password"} <= set(secrets)
    assert secrets["root-password"] == ROOT_PASSWORD
    shown = "".join(play.output for play in site.plays)
    shown += "".join(unquote_plus(request["uri"]) for play in site.plays for request in play.requests)
    for key, secret in secrets.items():
        for form in (secret, json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode()):
            assert form not in shown, key


def test_teardown_with_the_same_rights_leaves_the_data(runs: Runs, site: Site) -> None:
    play = site.play("teardown", petset_confirm_absent=["mysql-0", "mysql-1"], petset_teardown_exports=True)
    assert f"{FOLDER}/mysql/1" in play.output
    left = site.lab.get("statefulsets,pods,services,persistentvolumeclaims", "-n", NAMESPACE)["items"]
    assert left == []
    assert f"{FOLDER}/" not in site.lab.ssh("nfs", "cat /var/lib/nfs/etab").stdout
    assert "data" in site.lab.ssh("nfs", f"ls {FOLDER}/mysql/1").stdout
