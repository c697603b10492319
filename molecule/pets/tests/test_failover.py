# SPDX-License-Identifier: GPL-3.0-or-later
"""The mysqld of the writer is killed, then the pod of the next writer deleted, while clients write through HAProxy
and remember what was acknowledged. All is judged from the histories; they stay in build/failover.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pets import Pets
from tests.robustness.checkers.base import Verdict
from tests.robustness.history import Event, History, Sample
from tests.robustness.report import Run
from tests.robustness.runner import Runner
from tests.robustness.scenarios import Scenario
from tests.robustness.world import Place, World

# The writer is the other pet after each. In `make stories` both pets lose their mysqld and both their pod.
FAULTS = ("mysqld-kill", "pod-delete")
if "PETSET_STORIES" in os.environ:
    FAULTS = ("mysqld-kill", "mysqld-kill", "pod-delete", "pod-delete")
IN_SYNC = "stateful.petset/in-sync"


@dataclass(frozen=True, slots=True)
class Failover:
    """One fault: its history with the verdicts, and who held the Lease when all was over."""

    run: Run
    holder: str

    @property
    def history(self) -> History:
        return self.run.history

    @property
    def target(self) -> str:
        return self.history.meta.target

    @property
    def other(self) -> str:
        return next(pet for pet in self.history.meta.pets if pet != self.target)

    def uuid(self, pet: str) -> str:
        return next(final.server for final in self.history.finals if final.pet == pet)

    def at(self, phase: str) -> int:
        at = self.history.last(phase)
        assert at is not None, [event.phase for event in self.history.events]
        return at


def wait_in_sync(pets: Pets, seconds: int = 60) -> str:
    """Until all pets hold every acknowledged write by the Lease, without which none takes over; who holds it."""
    deadline = time.monotonic() + seconds
    while True:
        lease = pets.get("lease", "mysql")
        named = lease["metadata"]["annotations"].get(IN_SYNC, "").split(",")
        if set(named) == set(pets.names) and lease["spec"].get("holderIdentity") in pets.names:
            return str(lease["spec"]["holderIdentity"])
        assert time.monotonic() < deadline, lease
        time.sleep(0.5)


@pytest.fixture(scope="module")
def failovers(pets: Pets, project: Path) -> list[Failover]:
    if not os.environ.get("PETSET_LAB"):
        pytest.skip("mysqld is killed from its node, which only the lab lets this do")
    folder = project / "build" / "failover" / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    world = World(Place(namespace=pets.namespace, lab=os.environ["PETSET_LAB"]), folder / "session.log")
    runner = Runner(world, folder, lambda text: world.say(text))
    found = []
    for fault in FAULTS:
        wait_in_sync(pets)
        run = runner.run(Scenario(fault, 0))
        found.append(Failover(run, wait_in_sync(pets)))
    return found


def each(check: Callable[[Failover], Any]) -> Callable[[list[Failover]], None]:
    """The check for every fault; all that fail are told."""

    def test(failovers: list[Failover]) -> None:
        assert len(failovers) == len(FAULTS)
        wrong = {f"{index} {FAULTS[index]}": found for index, one in enumerate(failovers) if (found := check(one))}
        assert not wrong

    test.__doc__ = check.__doc__
    return test


def test_every_fault_hit_the_writer_of_its_time(failovers: list[Failover]) -> None:
    hit = [one.target for one in failovers]
    assert set(hit) == set(failovers[0].history.meta.pets)
    assert all(later != earlier for earlier, later in itertools.pairwise(hit)), hit


@each
def test_rp_rec_04_no_acknowledged_row_is_lost_and_all_pets_are_equal(one: Failover) -> list[str]:
    """Every checker: rows, registers, GTID sets, checksums, one writer at a time, healed without help."""
    findings = one.run.judgement.findings
    told = [f"{f.checker}: {'; '.join(f.evidence)}" for f in findings if f.verdict is not Verdict.TRUE]
    assert told or one.run.judgement.figure("acknowledged")
    return told


@each
def test_rp_hap_05_sessions_go_to_the_other_pet_and_stay_there(one: Failover) -> list[str]:
    """Also after the pet is back: nothing moves back by itself. Every client was on the old writer before."""
    done = list(one.history.acknowledged())
    before = {op.server for op in done if op.completed_ns < one.at("inject")}
    # What was under way may still be the old writer's; after the first answer of the new one nothing is.
    first = min((op.completed_ns for op in done if op.server == one.uuid(one.other)), default=None)
    if first is None:
        return ["the other pet acknowledged nothing"]
    after = [op for op in done if op.invoked_ns > first]
    back = [op for op in after if op.invoked_ns > one.at("recovered")]
    told = []
    if before != {one.uuid(one.target)}:
        told.append(f"before the fault {before} answered, the writer was {one.target}")
    if {op.server for op in after} != {one.uuid(one.other)}:
        told.append(f"after the failover { ({op.server for op in after}) } answered, not {one.other} alone")
    if len(back) < 20 or {op.process for op in back} != {op.process for op in done}:
        told.append(f"{len(back)} writes after the pet was back, not of every client")
    return told


@each
def test_the_pet_is_back_and_the_other_holds_the_lease(one: Failover) -> list[str]:
    """It is read-only and answers, and the Lease has stayed with the other."""
    opened = open_looks(one.history, one.target, one.at("recovered"))
    told = [] if one.holder == one.other else [f"{one.holder} holds the Lease, not {one.other}"]
    if not opened or any(opened):
        told.append(f"{one.target} answered {len(opened)} looks after it was back and was open in {sum(opened)}")
    return told


def open_looks(history: History, pet: str, since_ns: int) -> list[bool]:
    """Whether a pet was open for writes, at each look that it answered."""
    looks: list[Sample] = [one for one in history.samples if one.pet == pet and one.asked_ns > since_ns]
    return [one.is_open for one in looks if one.is_open is not None]


@each
def test_the_fault_was_short_for_clients(one: Failover) -> list[str]:
    """Within the lease, the takeover and HAProxy's checks: 20 s allow for machines that are shared by many."""
    gap = one.run.judgement.figure("gap_s")
    return [] if gap is not None and gap < 20 else [f"the longest time without an acknowledged write was {gap} s"]


@each
def test_the_history_has_every_step(one: Failover) -> list[str]:
    phases = [event.phase for event in one.history.events if isinstance(event, Event)]
    wanted = ["inject", "effective", "recover", "recovered", "healthy"]
    return [] if phases == wanted else phases
