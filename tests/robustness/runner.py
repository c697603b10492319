# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: a healthy set, clients that write, a fault, everything healed, the reads of every pet, the verdict."""

from __future__ import annotations

import json
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.robustness.checkers.judge import judge
from tests.robustness.history import (
    Event,
    FinalRead,
    History,
    Meta,
    Operation,
    Outcome,
    Record,
    load,
    parse_line,
    render_line,
)
from tests.robustness.nemesis.base import Failer, Fault, NotEffective, NotRecovered, Pick, pick_pets
from tests.robustness.nemesis.kill import restarts_of
from tests.robustness.processes import stop_process
from tests.robustness.report import Run, write_report
from tests.robustness.scenarios import FAULTS, Scenario
from tests.robustness.world import CommandFailed, World

CLIENTS = 4
REGISTERS = 2
WARM_S = 3.0
TAIL_S = 3.0
# How long the sets may take to be equal once the fault is over, before the playbook is called for help.
CONVERGE_S = 60.0  # without a pet that gets on
CATCH_UP_S = 900.0
# How long pets may take to be Ready before the fault, and the set to be well after the playbook has helped.
READY_LIMIT_S = 120.0
HELP_LIMIT_S = 120.0
# From so many restarts of a pod's mysqld on, the next one waits for 40 s and longer.
RESTARTS = 2


class NotHealthy(Exception):
    """The set is not healthy before the fault, so a run would say nothing."""


@dataclass(slots=True)
class Progress:
    """What a run has found out so far, for its meta record."""

    notes: list[str]
    healed_by: str = ""
    is_settled: bool = True


class Tail:
    """When the writes that are acknowledged were sent, from a file that clients still write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.acknowledged_ns: list[int] = []
        self._place = 0

    def read(self) -> None:
        """What was added since. A line that is not whole yet is left for the next time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._place)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._place += len(line)
                record = parse_line(line.decode())
                if isinstance(record, Operation) and record.outcome is Outcome.OK:
                    self.acknowledged_ns.append(record.invoked_ns)


class Runner:
    """Runs on one set. ``folder``: of the session; each run gets one of its own in it."""

    def __init__(self, world: World, folder: Path, tell: Callable[[str], None]) -> None:
        self.world = world
        self.folder = folder
        self.tell = tell
        self.number = int(time.time()) % 10_000_000
        self.tail = Tail(folder / "none")
        # How many rows clients have in the set, as far as all pets agreed; -1: not known.
        self.earlier = -1

    # -- looks -------------------------------------------------------------------------------------------------------

    def acknowledged_since(self, folder: Path, since_ns: int) -> int:
        """How many writes that were sent after this moment are acknowledged.

        Each line is read once: the whole file at each look takes the machines' time from what is tested.
        """
        path = folder / "operations.jsonl"
        if self.tail.path != path:
            self.tail = Tail(path)
        self.tail.read()
        return sum(invoked_ns > since_ns for invoked_ns in self.tail.acknowledged_ns)

    def wait_for_writes(self, folder: Path, since_ns: int, limit_s: float) -> bool:
        """Until clients write again."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.acknowledged_since(folder, since_ns) >= 3:
                return True
            time.sleep(0.3)
        return False

    def writer(self, folder: Path) -> str | None:
        """The pet that was seen open for writes last."""
        path = folder / "samples.jsonl"
        looks = [json.loads(line) for line in path.read_text().splitlines()[-40:]] if path.exists() else []
        return next((one["pet"] for one in reversed(looks) if one["is_open"]), None)

    def all_ready(self) -> bool:
        """Every pet's pod."""
        return all(self.world.is_ready(pet) for pet in self.world.place.pets)

    def wait_until_ready(self, limit_s: float) -> bool:
        """Until every pet is Ready."""
        return self._wait(self.all_ready, limit_s)

    def wait_until_in_sync(self, limit_s: float) -> bool:
        """Until any pet may take over, and the writer gets through to the API server, which it renews its Lease at.

        After the API server was away kube-proxy may lead nobody to it for half a minute: a second fault by then.
        """
        before = self.world.renewed_at()
        return self._wait(lambda: self.world.is_in_sync() and self.world.renewed_at() != before, limit_s)

    def renew_pods(self) -> None:
        """New pods for pets whose mysqld was started again and again by faults before.

        kubelet lets such a container wait for up to 5 minutes (CrashLoopBackOff), which would be told of this fault.
        """
        for pet in self.world.place.pets:
            if restarts_of(self.world.pod(pet)) < RESTARTS:
                continue
            self.tell(f"  {pet} was started again {RESTARTS} times or more: a new pod for it")
            self._renew(pet)

    def part_pods(self) -> None:
        """New places for pods that are all on one node since it was the only one, as `status` says to do.

        Kubernetes moves none later, and a fault of that node would be one of all of them.
        """
        for pod in self.world.crowded():
            self.tell(f"  {pod} and all others of its kind are on one node: a new pod for it")
            self._renew(pod)

    def _renew(self, pod: str) -> None:
        self.world.kubectl("delete", "pod", pod, "--wait=true", "--timeout=90s", limit_s=120)
        proxies_ready = self._wait(self.world.are_proxies_ready, READY_LIMIT_S)
        if not proxies_ready or not self.wait_until_ready(READY_LIMIT_S) or not self.wait_until_in_sync(READY_LIMIT_S):
            raise NotHealthy(f"{pod} got a new pod, and not every pod is Ready, or not every pet in-sync")

    @staticmethod
    def _wait(look: Callable[[], bool], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not look():
            if time.monotonic() > deadline:
                return False
            time.sleep(1)
        return True

    # -- one run -----------------------------------------------------------------------------------------------------

    def run(self, scenario: Scenario) -> Run:
        """Stage one scenario and judge it from what is on disk."""
        self.number += 1
        fault = FAULTS[scenario.fault]()
        folder = self.folder / f"{self.number:07d}-{fault.name}"
        folder.mkdir(parents=True)
        begin_ns = time.monotonic_ns()
        events: list[Event] = []

        def note(phase: str, text: str) -> None:
            events.append(Event(time.monotonic_ns(), phase, fault.name, text))
            self.tell(f"  {(time.monotonic_ns() - begin_ns) / 1e9:7.2f} s  {phase}: {text}")

        progress = Progress([])
        meta = Meta(
            fault.name,
            scenario.seed,
            self.world.place.pets,
            time.time_ns() - time.monotonic_ns(),
            expect=fault.expect,
            gap_limit_s=fault.gap_limit_s,
            keeps_writer=fault.keeps_writer,
            reddens=fault.reddens,
            earlier=self.earlier,
        )
        settings = self.world.settings(self.number, CLIENTS, REGISTERS)
        settings["folder"] = str(folder)
        finals: list[FinalRead] = []
        pick = Pick(self.world.place.pets)
        clients: subprocess.Popen[str] | None = None
        try:
            # A set that still recovers from the fault before has two at once.
            if not self.wait_until_ready(READY_LIMIT_S) or not self.wait_until_in_sync(READY_LIMIT_S):
                raise NotHealthy("not every pet is Ready and in-sync before the fault")
            self.renew_pods()
            self.part_pods()
            self.world.client("setup", {**settings, "limit_s": 60}, limit_s=120)
            clients = self.world.start(*self.world.client_argv("workload"))
            if clients.stdin is None:
                raise NotHealthy("the clients have no input")
            clients.stdin.write(json.dumps(settings) + "\n")
            clients.stdin.flush()
            if not self.wait_for_writes(folder, begin_ns, 30):
                raise NotHealthy("clients cannot write before the fault")
            time.sleep(WARM_S)
            pick = pick_pets(fault.aim, self.writer(folder), self.world.place.pets)
            self.stage(fault, pick, folder, note, progress)
            time.sleep(TAIL_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lab is healed and the run is judged
            progress.notes.append(f"{type(error).__name__}: {error}")
            progress.is_settled = progress.is_settled and not isinstance(error, (NotHealthy, NotRecovered))
            self.world.say(traceback.format_exc())
            self.tell(f"  {type(error).__name__}: {str(error)[:300]}")
        finally:
            if clients is not None:
                said = stop_process(clients, 30)
                if said[1].strip():
                    self.world.say(f"clients said: {said[1][-2000:]}")
        # A pet's agent may have ended it a moment after all were well; kubelet waits before it starts it again.
        if progress.is_settled and not self.wait_until_ready(fault.heal_limit_s):
            progress.notes.append("a pet is not Ready at the end")
        finals = self.final_reads(settings, note, progress)
        meta = replace(
            meta,
            target=", ".join(pick.pets),
            healed_by=progress.healed_by,
            is_settled=progress.is_settled,
            notes=tuple(progress.notes),
        )
        self.earlier = rows_of_all(finals)
        with (folder / "run.jsonl").open("w", encoding="utf-8") as file:
            records: list[Record] = [meta, *events, *finals]
            file.writelines(render_line(one) for one in records)
        return finish(folder)

    def stage(
        self, fault: Fault, pick: Pick, folder: Path, note: Callable[[str, str], None], progress: Progress
    ) -> None:
        """The fault through all its stages, undone whatever happens; help by the playbook where it is needed."""
        failer = Failer(fault, self.world, pick, note)
        try:
            failer.setup()
            failer.inject()
            failer.wait_until_effective()
            failer.hold()
            failer.recover()
            try:
                failer.wait_until_recovered()
            except NotRecovered as error:
                progress.notes.append(str(error))
                self.call_for_help(note, progress)
                if not self.wait_until_ready(HELP_LIMIT_S):
                    raise
                note("recovered", "after help")
        except NotEffective as error:
            progress.notes.append(str(error))
        finally:
            failer.clean_up()
        if fault.expect == "site":
            self.call_for_help(note, progress)
        since_ns = time.monotonic_ns()
        if not (
            self.wait_for_writes(folder, since_ns, fault.heal_limit_s) and self.wait_until_ready(fault.heal_limit_s)
        ):
            if not progress.healed_by:
                self.call_for_help(note, progress)
            if not (
                self.wait_for_writes(folder, time.monotonic_ns(), HELP_LIMIT_S) and self.wait_until_ready(HELP_LIMIT_S)
            ):
                progress.is_settled = False
                progress.notes.append("clients cannot write, or a pet is not Ready")
                return
        note("healthy", "clients write, all pets are Ready")

    def call_for_help(self, note: Callable[[str, str], None], progress: Progress) -> None:
        """The playbook site."""
        note("heal", "playbook site")
        done = self.world.play("site", ok=False)
        progress.healed_by = "site" if done.rc == 0 else "site (failed)"
        if done.rc != 0:
            progress.notes.append("site failed: " + last_words(done.out))

    def final_reads(
        self, settings: dict[str, Any], note: Callable[[str, str], None], progress: Progress
    ) -> list[FinalRead]:
        """Every pet, once all have what any has; the playbook helps once if they do not get there."""
        for attempt in range(2):
            try:
                finals = self.read(settings)
            except (CommandFailed, ValueError) as error:
                progress.notes.append(f"final reads: {error}"[:500])
                finals = []
            probe = History(Meta("", 0, self.world.place.pets, 0), finals=tuple(finals))
            found = {one.checker: one.verdict for one in judge(probe).findings}
            if not found["gtids"] and finals:
                return finals
            if attempt == 0 and not progress.healed_by:
                progress.notes.append("pets do not become equal by themselves")
                self.call_for_help(note, progress)
            else:
                break
        return finals

    def read(self, settings: dict[str, Any]) -> list[FinalRead]:
        """The reads themselves."""
        limits = {"limit_s": CONVERGE_S, "overall_s": CATCH_UP_S}
        done = self.world.client("read", {**settings, **limits}, limit_s=CATCH_UP_S + 120)
        return [FinalRead(**json.loads(line)) for line in done.out.splitlines() if line.startswith("{")]


def rows_of_all(finals: Sequence[FinalRead]) -> int:
    """How many rows every pet has of all clients ever; -1: not known, or not the same."""
    counts = set()
    for final in finals:
        if final.error or final.earlier < 0:
            return -1
        own = sum(high - low + 1 for ranges in final.rows.values() for low, high in ranges)
        counts.add(final.earlier + own)
    return counts.pop() if len(counts) == 1 else -1


def last_words(text: str) -> str:
    """The message of a playbook that failed, as far as it can be found."""
    lines = [line for line in text.splitlines() if '"msg":' in line or "fatal:" in line or "ERROR" in line]
    return (lines[-1] if lines else text[-300:]).strip()[:500]


def finish(folder: Path) -> Run:
    """Judge a run from its folder and write its report there."""
    history = load(folder)
    judgement = judge(history)
    write_report(folder, history, judgement)
    return Run(history, judgement)
