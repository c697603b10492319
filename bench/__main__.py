# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the collection beside the usual playbook on the lab, and write the figures down.

Usage: python -m bench [--times N] [--parts run,commits,pairs,lab,soak] [--pairs 2,10,30]

Both sides get the same lab, the same machine and the same minute: they take turns. The raw figures of each part go to
bench/measured/PART.json when it came to its end, and the page in docs/bench.md is made of all of them: a part can be
measured again by itself, and the others keep theirs with their dates. One more part, ``cold``, only runs when it is
named: the lab from empty caches. It needs the lab and the built collection (`make bench` sees to both).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import commits
from bench.figures import LOCAL, OURS, PEER, render_page
from lab.state import folder
from tools.common import BUILD, ROOT, VENV, Failed, environment, say
from tools.recap import what_happened
from tools.stages import INSTALLED, venv_of

FOLDER = BUILD / "bench"  # how long each task took
MEASURED = ROOT / "bench" / "measured"
NAMESPACES = {OURS: "bench-ours", PEER: "bench-peer"}
WRITES = ("create", "update", "patch", "delete", "deletecollection")
Measurement = dict[str, Any]


def lab(*words: str, check: bool = True, extra: Mapping[str, str] | None = None) -> str:
    """A command of the lab, with these variables more in its environment."""
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        env=environment(**(extra or {})),
    )
    if check and done.returncode != 0:
        raise Failed(f"lab {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Bench:
    """The two sides, and what was measured so far."""

    def __init__(self, times: int, pairs: Sequence[int]) -> None:
        self.times = times
        self.pairs = pairs
        self.peer = venv_of("bench")
        self.found: list[Measurement] = []
        status = json.loads(lab("status", "--json"))
        nfs = next(machine for machine in status["machines"] if machine["kind"] == "nfs")
        self.server = nfs["ip"]
        self.network = nfs["ip"].rsplit(".", 1)[0] + ".0/24"
        self.audit = folder(status["name"]) / "logs" / "audit.log"
        FOLDER.mkdir(parents=True, exist_ok=True)

    def note(self, what: str, who: str, value: float) -> None:
        """One more value, shown and kept."""
        say(f"  {who:5} {what:18} {value:.3f}")
        self.found.append({"what": what, "who": who, "value": value})

    def play(self, who: str, playbook: str, *words: str, **variables: object) -> tuple[float, str]:
        """Run a playbook of a side: seconds, and what it printed; its tasks go to a file. Raises Failed."""
        times = FOLDER / f"tasks-{len(self.found)}-{who}.jsonl"
        times.unlink(missing_ok=True)
        venv = VENV if who == OURS else self.peer
        argv = [sys.executable, "-m", "lab", "run", "--", str(venv / "bin" / "ansible-playbook"), *words, playbook]
        argv += ["-e", json.dumps(variables)]
        env = environment(
            ANSIBLE_CALLBACK_PLUGINS=str(ROOT / "bench" / "callback"),
            ANSIBLE_CALLBACKS_ENABLED="task_times",
            BENCH_TASK_TIMES=str(times),
            ANSIBLE_PYTHON_INTERPRETER=str(venv / "bin" / "python"),
        )
        if who == OURS:
            env["ANSIBLE_COLLECTIONS_PATH"] = str(INSTALLED)
        else:
            env.pop("ANSIBLE_COLLECTIONS_PATH", None)
        begin = time.monotonic()
        done = subprocess.run(
            argv, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        seconds = time.monotonic() - begin
        if done.returncode != 0:
            said = done.stdout[-3000:] + done.stderr[-2000:]
            raise Failed(f"{who}: {playbook}: exit status {done.returncode}\n{said}")
        return seconds, done.stdout

    def site(self, who: str) -> tuple[float, str]:
        """The whole job of a side, once."""
        namespace = NAMESPACES[who]
        if who == OURS:
            words = ["-e", f"@{ROOT / 'lab' / 'site.yml'}"]
            seconds, printed = self.play(who, "stateful.petset.site", *words, petset_namespace=namespace)
        else:
            variables = {"peer_namespace": namespace, "lab_network": self.network}
            seconds, printed = self.play(who, str(ROOT / "bench/peer/peer.yml"), **variables)
        return seconds, printed

    def remove(self, who: str, pairs: int = 2) -> None:
        """Everything of a side, data included: it is the benchmark's own."""
        namespace = NAMESPACES[who]
        # The data goes as well, so no pet has to end in order.
        now = ("--force", "--grace-period=0", "--timeout=60s")
        lab("kubectl", "delete", "statefulset,deployment,pod", "--all", "-n", namespace, *now, check=False)
        lab("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
        names = [f"{namespace}-mysql-{number}" for number in range(pairs)]
        lab("kubectl", "delete", "pv", *names, "--ignore-not-found", "--wait=true")
        paths = f"/srv/{namespace} /srv/petset/{namespace}"
        lab("ssh", "nfs", f"rm -f /etc/exports.d/{namespace}*; exportfs -ra; for one in {paths}; do rm -rf $one; done")

    @contextmanager
    def requests(self) -> Iterator[list[Mapping[str, Any]]]:
        """The requests of people that reach the API meanwhile, from its audit log."""
        begin = self.audit.stat().st_size
        lines: list[Mapping[str, Any]] = []
        yield lines
        with self.audit.open("rb") as file:
            file.seek(begin if self.audit.stat().st_size >= begin else 0)
            for line in file.read().decode(errors="replace").splitlines():
                event = json.loads(line)
                if not str(event["user"].get("username", "")).startswith("system:"):
                    lines.append(event)


def pods_start_s(namespace: str) -> float:
    """From the set's creation until its last pod was Ready, by the API server's clock (whole seconds)."""

    def at(text: str) -> float:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC).timestamp()

    made = json.loads(lab("kubectl", "-n", namespace, "get", "statefulset", "mysql", "-o", "json"))
    pods = json.loads(lab("kubectl", "-n", namespace, "get", "pods", "-o", "json"))["items"]
    ready = [
        at(condition["lastTransitionTime"])
        for pod in pods
        if pod["metadata"]["name"].startswith("mysql-") and pod["metadata"]["name"][6:].isdigit()
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    return max(ready) - at(made["metadata"]["creationTimestamp"])


def part_run(bench: Bench) -> None:
    """(a), (b), (d): the whole job, first and second run, the pods' own start, and API requests."""
    warm_up(bench)
    for number in range(bench.times):
        say(f"run {number + 1} of {bench.times}")
        for who in (OURS, PEER) if number % 2 == 0 else (PEER, OURS):
            with bench.requests() as asked:
                first_s, _printed = bench.site(who)
            pods_s = pods_start_s(NAMESPACES[who])
            bench.note("first", who, first_s)
            bench.note("pods", who, pods_s)
            bench.note("first-own", who, max(first_s - pods_s, 0.0))
            bench.note("requests-first", who, len(asked))
            with bench.requests() as asked:
                second_s, printed = bench.site(who)
            if who == OURS and (happened := what_happened(printed)):
                raise Failed(f"the second run did not leave all as it was: {', '.join(happened)}\n{printed[-2000:]}")
            bench.note("second", who, second_s)
            bench.note("requests-second", who, len(asked))
            bench.note("writes-second", who, sum(_is_write(event) for event in asked))
            bench.remove(who)


def _is_write(event: Mapping[str, Any]) -> bool:
    """Whether a request changes objects: exec, port-forward and reviews of rights do not, though they are 'create'."""
    target = event.get("objectRef") or {}
    if target.get("subresource") in ("exec", "portforward") or str(target.get("resource", "")).endswith("reviews"):
        return False
    return event["verb"] in WRITES


def storage(bench: Bench, who: str, count: int) -> float:
    """Exports, volumes and claims of so many pets: seconds."""
    if who == OURS:
        words = ["-e", f"@{ROOT / 'lab' / 'site.yml'}"]
        ours: dict[str, object] = {"petset_namespace": NAMESPACES[who], "petset_replicas": count}
        return bench.play(who, str(ROOT / "bench/storage.yml"), *words, **ours)[0]
    peers: dict[str, object] = {
        "peer_namespace": NAMESPACES[who],
        "peer_pets": count,
        "lab_network": bench.network,
    }
    return bench.play(who, str(ROOT / "bench/peer/peer.yml"), "--tags", "storage", **peers)[0]


def warm_up(bench: Bench) -> None:
    """Once each without a figure: who comes first would pay for the NFS server's packages."""
    for who in (OURS, PEER):
        bench.remove(who)
        storage(bench, who, 1)
        bench.remove(who)


def part_pairs(bench: Bench) -> None:
    """(c): export, volume and claim alone, for a growing number of pets."""
    warm_up(bench)
    for count in bench.pairs:
        for number in range(bench.times):
            say(f"{count} pairs, {number + 1} of {bench.times}")
            for who in (OURS, PEER) if number % 2 == 0 else (PEER, OURS):
                for which in ("first", "second"):
                    bench.note(f"pair-{which}-{count}", who, storage(bench, who, count) / count)
                bench.remove(who, count)


def part_commits(bench: Bench) -> None:
    """(e): commits a second of one pet by what its volume lies on."""
    commits.remove(lab)
    try:
        # First ours: its role sets the NFS server up.
        for who in (OURS, PEER, LOCAL):
            if who == PEER:
                commits.prepare(lab, bench.network)
            words = ["-e", f"@{ROOT / 'lab' / 'site.yml'}"]
            bench.play(OURS, "stateful.petset.site", *words, **commits.variables_of(who, bench.server))
        for number in range(bench.times):
            say(f"commits, {number + 1} of {bench.times}")
            sides = (OURS, PEER, LOCAL)
            for who in sides if number % 2 == 0 else reversed(sides):
                for count in commits.CLIENTS:
                    bench.note(f"commits-{count}", who, commits.measure(lab, who, count))
    finally:
        commits.remove(lab)


def part_lab(bench: Bench) -> None:
    """The lab's own figures: a second lab beside this one, so that nobody's is taken down."""
    for _number in range(bench.times):
        try:
            begin = time.monotonic()
            lab("up", "--name", "bench")
            bench.note("lab-up", OURS, time.monotonic() - begin)
            begin = time.monotonic()
            lab("up", "--name", "bench")
            bench.note("lab-again", OURS, time.monotonic() - begin)
            status = json.loads(lab("status", "--name", "bench", "--json"))
            bench.note("lab-memory", OURS, sum(one["memory_mib"] for one in [*status["machines"], *status["parts"]]))
            lab("power-off", "--name", "bench", "node-1")
            begin = time.monotonic()
            lab("power-on", "--name", "bench", "node-1")
            bench.note("lab-power-on", OURS, time.monotonic() - begin)
        finally:
            lab("down", "--name", "bench")


def part_cold(bench: Bench) -> None:
    """The lab with nothing cached, once: Kubernetes is built and every package fetched, in a folder that goes again."""
    with tempfile.TemporaryDirectory(prefix="bench-cold-") as empty:
        caches = {name: f"{empty}/{name}" for name in ("XDG_CACHE_HOME", "GOMODCACHE", "GOCACHE")}
        # Modules are written read-only otherwise, and the folder could not be removed.
        caches |= {"PETSET_LAB_CACHE": f"{empty}/lab", "GOFLAGS": "-modcacherw"}
        try:
            begin = time.monotonic()
            lab("up", "--name", "bench", extra=caches)
            bench.note("lab-cold", OURS, time.monotonic() - begin)
        finally:
            lab("down", "--name", "bench", extra=caches)


SOAK_S = 300


def part_soak(bench: Bench) -> None:
    """Whether the lab's network is fit to measure on, once: it takes minutes and says its own median."""
    printed = lab("soak", "--seconds", str(SOAK_S), "--json", check=False)
    try:
        soak = json.loads(printed)
    except ValueError:
        raise Failed(f"lab soak printed no figures: {printed[-500:]!r}") from None
    bench.note("soak-idle-median", OURS, soak["idle"]["median_ms"])
    bench.note("soak-idle-p99", OURS, soak["idle"]["p99_ms"])
    bench.note("soak-longest", OURS, max(soak["idle"]["max_ms"], soak["loaded"]["max_ms"]))
    bench.note("soak-again", OURS, 100_000 * soak["retransmitted"] / soak["segments"])
    bench.note("soak-host-late", OURS, soak["host_late_ms"])


def about() -> dict[str, str]:
    """Where and when."""
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = os.getloadavg()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M"),
        "machine": f"{os.cpu_count()} cores ({model}), {memory_kib // 1048576} GiB; the lab's machines are on it too",
        "load": f"{load[0]:.1f}",
    }


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "run": part_run,
    "commits": part_commits,
    "pairs": part_pairs,
    "lab": part_lab,
    "soak": part_soak,
    "cold": part_cold,
}
USUAL = tuple(name for name in PARTS if name != "cold")


def measure(bench: Bench, part: str) -> None:
    """Run a part and keep its figures, with when and where. Raises Failed."""
    bench.found = []
    PARTS[part](bench)
    (MEASURED / f"{part}.json").write_text(json.dumps({"about": about(), "found": bench.found}, indent=1) + "\n")


def kept() -> dict[str, Any]:
    """What is kept of each part, some of it from earlier days and other clones."""
    files = {part: MEASURED / f"{part}.json" for part in PARTS}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}


def main(argv: Sequence[str]) -> int:
    """Measure; the exit status says whether all came to its end, not whether goals were met."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=3, help="rounds of each part (default 3)")
    parser.add_argument("--parts", default=",".join(USUAL), help=f"of {', '.join(PARTS)} (default all but cold)")
    parser.add_argument("--pairs", default="2,10,30", help="numbers of pairs (default 2,10,30)")
    args = parser.parse_args(argv)
    parts = args.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    bad = []
    try:
        bench = Bench(args.times, [int(word) for word in args.pairs.split(",")])
    except Failed as failure:
        say(f"bench: {failure}")
        return 1
    for part in parts:
        begin = time.monotonic()
        say(f"##### {part}: {(PARTS[part].__doc__ or '').splitlines()[0]}")
        try:
            measure(bench, part)
        except Failed as failure:
            say(f"bench: {part}: {failure}")
            bad.append(part)
        say(f"##### {part}: {'FAIL' if part in bad else 'ok'} in {time.monotonic() - begin:.0f} s")
    page = render_page(kept())
    (ROOT / "docs" / "bench.md").write_text(page)
    say(page)
    if bad:
        say(f"bench: not measured to the end, so their figures are older or missing: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
