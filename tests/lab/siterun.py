# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the collection's playbooks on the lab, and what is to be taken away after them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.pets import Pets

from .conftest import ROOT, Lab


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
    """Runs the collection's playbooks on the lab as somebody who has no more than the rights that it ships.

    ``given``  variables of every run, beside those of the lab's own site
    """

    def __init__(self, lab: Lab, folder: Path, namespace: str, **given: Any) -> None:
        self.lab = lab
        self.folder = folder
        self.namespace = namespace
        self.given = given
        self.kubeconfig = lab.cli("kubeconfig", "--deployer", namespace).stdout.strip()
        self.plays: list[Play] = []

    @property
    def pets(self) -> Pets:
        """The set that was made."""
        """The set that was made."""
        return Pets(
            self.namespace, kubectl_argv=(sys.executable, "-m", "lab", "kubectl", "--name", self.lab.name, "--")
        )

    def audited(self) -> list[str]:
        return self.lab.cli("logs", "audit", "-n", "0").stdout.splitlines()

    def play(self, name: str, *options: str, rc: int = 0, **variables: Any) -> Play:
        """A playbook of the collection by its name, or of the test's own by its path."""
        watch = self.folder / "watch.jsonl"
        watch.unlink(missing_ok=True)
        given = {
            **yaml.safe_load((ROOT / "lab/site.yml").read_text()),
            "petset_namespace": self.namespace,
            "petset_create_namespace": False,
            "petset_kubeconfig": self.kubeconfig,
            **self.given,
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
            name if name.startswith("/") else f"stateful.petset.{name}",
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
                and self.namespace in one["requestURI"] + one["user"]["username"]
            ],
        )
        self.plays.append(play)
        assert play.rc == rc, play.output
        return play


def folder_of(namespace: str) -> str:
    """Where a namespace's pets have their folders on the NFS server."""
    return f"/srv/petset/{namespace}"


def drop_in_of(namespace: str) -> str:
    """The file with a namespace's exports on the NFS server."""
    return f"/etc/exports.d/{namespace}-mysql.exports"


def clean(lab: Lab, namespace: str, pets: int = 2) -> None:
    """Leave nothing of a test's namespace, also of a run that was killed."""
    # The data goes as well, so no pet has to end in order.
    now = ("--force", "--grace-period=0", "--timeout=60s")
    lab.kubectl("delete", "statefulset,pod", "--all", "-n", namespace, *now, ok=False)
    lab.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
    cluster_wide = [f"{kind}/petset-deployer-{namespace}" for kind in ("clusterrole", "clusterrolebinding")]
    volumes = [f"persistentvolume/{namespace}-mysql-{ordinal}" for ordinal in range(pets)]
    lab.kubectl("delete", *cluster_wide, *volumes, "--ignore-not-found", "--timeout=60s")
    script = (
        f"rm -f {drop_in_of(namespace)}; if command -v exportfs; then exportfs -ra; fi; rm -rf {folder_of(namespace)}"
    )
    assert lab.ssh("nfs", script).rc == 0
