# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks on the lab, as somebody who has no more than the rights that it ships: what they printed,
what each task did, what the API server recorded, and what could be read on the way by somebody who looks for passwords.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import ssh
from tests.pets import Pets
from tests.processes import kill_marked

from .conftest import ROOT, Lab, wait_for

ROOT_PASSWORD = 'it\'s "100%" $ecret\\ ünd'


@dataclass(frozen=True, slots=True)
class Play:
    """A run of a playbook: its output, its exit status, what each task did, and what the API server recorded."""

    output: str
    rc: int
    tasks: Sequence[Mapping[str, Any]]
    requests: Sequence[Mapping[str, Any]]
    kill: Mapping[str, Any] | None = None

    @property
    def was_killed(self) -> bool:
        """With what runs it, or alone: that tells it as a shell does."""
        return self.rc in (-signal.SIGKILL, 128 + signal.SIGKILL)

    @property
    def changes(self) -> list[tuple[str, str, str, list[str]]]:
        """Host, play, task and actions of everything that changed or would be changed, in order."""
        return [(t["host"], t["play"], t["task"], t["actions"] or []) for t in self.tasks if t["changed"]]

    @property
    def writes(self) -> list[str]:
        return [f"{r['verb']} {r['uri']}" for r in self.requests if r["verb"] not in ("get", "list", "watch")]

    def told(self, task: str) -> Any:
        """The message of a task that only tells something, by its name without that of the role."""
        after = re.split(rf"^TASK \[(?:\S+ : )?{re.escape(task)}\] ", self.output, flags=re.MULTILINE)[1:]
        assert len(after) == 1, self.output
        return json.JSONDecoder().raw_decode(after[0], after[0].index(" => ") + 4)[0]["msg"]


class Site:
    """Runs the collection's playbooks in a namespace. ``variables`` are given to each, after those of lab/site.yml."""

    def __init__(self, lab: Lab, namespace: str, folder: Path, **variables: Any) -> None:
        self.lab = lab
        self.namespace = namespace
        self.folder = folder
        self.variables = variables
        self.progress = folder / "progress"
        self.kubeconfig = lab.cli("kubeconfig", "--deployer", namespace).stdout.strip()
        self.plays: list[Play] = []

    @property
    def pets(self) -> Pets:
        """The set of two that it makes."""
        return pets_of(self.lab, self.namespace)

    def audited(self) -> list[str]:
        return self.lab.cli("logs", "audit", "-n", "0").stdout.splitlines()

    def start(self, name: str, *options: str, environment: Sequence[str] = (), **variables: Any) -> Running:
        """Begin a run of a playbook of the collection by its name, or of a test's own by its path.

        It has a process group of its own, so that a kill takes ansible-playbook with all its children.
        """
        watch = self.folder / f"watch-{len(self.plays)}.jsonl"
        watch.write_text("")
        given = {
            **yaml.safe_load((ROOT / "lab/site.yml").read_text()),
            "petset_namespace": self.namespace,
            "petset_create_namespace": False,
            "petset_kubeconfig": self.kubeconfig,
            "petset_passwords": {"root": ROOT_PASSWORD},
            "petset_progress_file": str(self.progress),
            **self.variables,
            **variables,
        }
        extra = self.folder / "variables.json"
        extra.write_text(json.dumps(given))
        words = [sys.executable, "-m", "lab", "run", "--name", self.lab.name, "--"]
        words += ["env", "ANSIBLE_NOCOLOR=1", "ANSIBLE_CALLBACK_RESULT_FORMAT=json"]
        words += [f"ANSIBLE_CALLBACK_PLUGINS={ROOT / 'tests' / 'callback'}"]
        words += ["ANSIBLE_CALLBACKS_ENABLED=petset_watch", f"PETSET_WATCH_FILE={watch}", *environment]
        words += [str(Path(sys.executable).with_name("ansible-playbook")), f"--extra-vars=@{extra}"]
        printed = self.folder / f"output-{len(self.plays)}"
        before = len(self.audited())
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [*words, name if name.startswith("/") else f"stateful.petset.{name}", *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return Running(self, process, watch, printed, before)

    def play(self, name: str, *options: str, rc: int | None = 0, **variables: Any) -> Play:
        """A run to its end; ``rc`` is the exit status that it has to have, None for any."""
        play = self.start(name, *options, **variables).wait()
        assert rc is None or play.rc == rc, play.output[-20000:]
        return play

    def play_and_kill(self, moments: Sequence[tuple[str, str, float]], *options: str, **variables: Any) -> Play:
        """Run site, killed so long after the first of these tasks (play, task, seconds) has begun."""
        kill = [f"PETSET_KILL_TASKS={json.dumps(moments)}"]
        return self.start("site", *options, environment=kill, **variables).wait()

    def kill_at_each(
        self,
        tasks: Sequence[tuple[str, str]],
        moments: Mapping[str, Sequence[float]],
        *options: str,
        **variables: Any,
    ) -> list[tuple[str, float]]:
        """Run site again and again, each time killed at another task, until a run gets through.

        ``tasks``: pairs of a play and a task, twice where it is to be killed twice. They need not all come, nor in this
        order. ``moments``: for tasks by name how long after their begin, if not at once. Gives where it was killed.
        """
        killed: list[tuple[str, float]] = []
        left = [
            (play, task, after_s) for play, task in tasks for after_s in moments.get(task.rpartition(" : ")[2], (0.0,))
        ]
        while left:
            play = self.play_and_kill(left, *options, **variables)
            assert play.rc == 0 or play.was_killed, play.output
            if play.kill is None:
                assert play.rc == 0, play.output
                return killed
            moment = (play.kill["play"], play.kill["task"], play.kill["after_s"])
            left.remove(moment)
            if play.was_killed:
                killed.append((moment[1].rpartition(" : ")[2], moment[2]))
        return killed

    def requests_after(self, before: int) -> list[dict[str, Any]]:
        return [
            {
                "verb": one["verb"],
                "uri": one["requestURI"],
                "user": one["user"]["username"],
                **one.get("objectRef", {"resource": ""}),
            }
            for line in self.audited()[before:]
            for one in [json.loads(line)]
            if str(one.get("userAgent", "")).startswith("stateful.petset")
            # Not what runs in pods, nor what others do on the same lab.
            and one["sourceIPs"] == [self.lab.state.plan.client_ip]
            and self.namespace in one["requestURI"] + one["user"]["username"]
        ]


@dataclass(slots=True)
class Running:
    """A run that has begun."""

    site: Site
    process: subprocess.Popen[bytes]
    watch: Path
    printed: Path
    before: int

    def wait(self, limit_s: float = 420) -> Play:
        try:
            self.process.wait(limit_s)
        finally:
            self.kill()
        lines = [json.loads(line) for line in self.watch.read_text().splitlines()]
        play = Play(
            self.printed.read_text(errors="replace"),
            self.process.returncode,
            [line for line in lines if "outcome" in line],
            # Of a run that was killed nobody asks what it requested.
            self.site.requests_after(self.before) if self.process.returncode >= 0 else [],
            next((line for line in lines if "kill" in line), None),
        )
        self.site.plays.append(play)
        return play

    def wait_for_task(self, task: str, limit_s: float, every_s: float = 1.0) -> None:
        """Until it has begun the task whose line in the output has this text."""
        wait_for(f"the run comes to {task}", lambda: task in self.printed.read_text(errors="replace"), limit_s, every_s)

    def is_in_task(self, task: str) -> bool:
        """Whether that task is the last it has begun, and nothing came of it yet."""
        return task in self.printed.read_text(errors="replace").splitlines()[-1]

    def kill(self) -> None:
        """End what is left of it. What runs it ends with it, and the module of a worker that a kill left behind too."""
        kill_marked(f"PETSET_WATCH_FILE={self.watch}")
        self.process.wait(30)


def folder_of(namespace: str) -> str:
    """Where a namespace's pets have their folders on the NFS server."""
    return f"/srv/petset/{namespace}"


def drop_in_of(namespace: str) -> str:
    """The file with a namespace's exports on the NFS server."""
    return f"/etc/exports.d/{namespace}-mysql.exports"


def clean(lab: Lab, namespace: str, pets: int) -> None:
    """Leave nothing of these tests, also of a run that was killed."""
    # The data goes as well, so no pet has to end in order.
    now = ("--force", "--grace-period=0", "--timeout=60s")
    lab.kubectl("delete", "statefulset,deployment,pod", "--all", "-n", namespace, *now, ok=False)
    lab.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
    cluster_wide = [f"{kind}/petset-deployer-{namespace}" for kind in ("clusterrole", "clusterrolebinding")]
    volumes = [f"persistentvolume/{namespace}-mysql-{ordinal}" for ordinal in range(pets)]
    lab.kubectl("delete", *cluster_wide, *volumes, "--ignore-not-found", "--timeout=60s")
    script = (
        f"rm -f {drop_in_of(namespace)}; if command -v exportfs; then exportfs -ra; fi; rm -rf {folder_of(namespace)}"
    )
    assert lab.ssh("nfs", script).rc == 0


@contextlib.contextmanager
def a_site(lab: Lab, namespace: str, folder: Path, pets: int = 2, **variables: Any) -> Iterator[Site]:
    """A namespace of its own, with nothing in it at the start, and gone at the end."""
    clean(lab, namespace, pets)
    lab.kubectl("create", "namespace", namespace)
    try:
        yield Site(lab, namespace, folder, **variables)
    finally:
        clean(lab, namespace, pets)


def pets_of(lab: Lab, namespace: str, count: int = 2) -> Pets:
    names = tuple(f"mysql-{ordinal}" for ordinal in range(count))
    return Pets(namespace, names, (sys.executable, "-m", "lab", "kubectl", "--name", lab.name, "--"))


# --- who reads along --------------------------------------------------------------------------------------------------


# Each command line once, and an empty line each time: it ends when nobody reads any more.
LOOK = """
import os, time
told = set()
while True:
    lines = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open("/proc/" + pid + "/cmdline", "rb") as file:
                    line = file.read().replace(bytes(1), b" ").replace(b"\\n", b" ").strip()
            except OSError:
                continue
            if line not in told:
                told.add(line)
                lines.append(line)
    with open(1, "wb", closefd=False) as out:
        out.write(b"\\n".join([*lines, b"", b""]))
    time.sleep(0.3)
"""


@dataclass(slots=True)
class Processes:
    """The command lines of all processes, looked at again and again: of the machines, and of this host.

    One process on each, for as long as it takes: with a ``ps`` every 0.3 s the machines were so busy that the pets took
    each other for dead.
    """

    lab: Lab
    folder: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Processes:
        plan = self.lab.state.plan
        look = ["python3", "-c", LOOK]
        commands = {m.name: ssh.argv(plan, m, [shlex.join(look)]) for m in plan.machines}
        for name, argv in {**commands, "host": look}.items():
            with (self.folder / f"ps-{name}").open("wb") as out:
                self.children.append(
                    subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
                )
        return self

    def __exit__(self, *_what: object) -> None:
        for child in self.children:
            child.terminate()
            child.wait(30)

    def seen(self) -> dict[str, str]:
        """Machine to all its command lines, each once."""
        files = sorted(self.folder.glob("ps-*"))
        return {one.name: "\n".join(sorted(set(one.read_text(errors="replace").splitlines()))) for one in files}


def secrets_of(lab: Lab, namespace: str) -> dict[str, str]:
    """All that is secret in the namespace's Secrets, by the name of its key; of a private key one line."""
    found = {}
    for one in lab.get("secrets", "-n", namespace)["items"]:
        for key, value in one["data"].items():
            text = base64.b64decode(value).decode()
            if key.endswith("-password"):
                found[key] = text
            elif key.endswith(".key"):
                lines = text.splitlines()
                found[key] = lines[len(lines) // 2]
    return found


def cluster_texts(lab: Lab, namespace: str) -> dict[str, str]:
    """What the cluster shows of a set to those who may not read its Secrets, the logs of all containers with it."""
    kinds = "configmaps,leases,events,pods,statefulsets,deployments,replicasets,services,persistentvolumeclaims"
    kinds += ",endpointslices,poddisruptionbudgets,roles,rolebindings,serviceaccounts,controllerrevisions"
    texts = {kind: lab.kubectl("get", kind, "-n", namespace, "-o", "yaml").stdout for kind in kinds.split(",")}
    texts["persistentvolumes"] = lab.kubectl("get", "persistentvolumes", "-o", "yaml").stdout
    for pod in lab.get("pods", "-n", namespace)["items"]:
        name = pod["metadata"]["name"]
        logs = lab.kubectl("logs", name, "-n", namespace, "--all-containers", "--prefix", "--tail=-1")
        texts[f"log of {name}"] = logs.stdout
    return texts


def journals(lab: Lab, since_s: float) -> dict[str, str]:
    """What the machines wrote to their journals within the last seconds."""
    script = f"journalctl --quiet --no-pager --since=-{int(since_s) + 1}s"
    return {f"journal of {m.name}": lab.ssh(m.name, script).stdout for m in lab.state.plan.machines}
