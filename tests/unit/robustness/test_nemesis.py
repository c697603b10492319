# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault goes through its stages in order and is undone from any of them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.robustness.nemesis.base import Failer, Fault, NotEffective, NotRecovered, Pick, WrongOrder, pick_pets
from tests.robustness.nemesis.volumes import refusal, render_twin
from tests.robustness.scenarios import FAULTS, SABOTAGE, SHORT, exploratory, plan_suite
from tests.robustness.world import World

NO_WORLD = cast(World, None)


class Recorded(Fault):
    name = "recorded"
    hold_s = 5.0

    def __init__(self, effective: bool = True, recovered: bool = True, breaks: bool = False) -> None:
        self.calls: list[str] = []
        self.effective, self.recovered, self.breaks = effective, recovered, breaks

    def setup(self, world: World, pick: Pick) -> None:
        self.calls.append("setup")

    def inject(self, world: World, pick: Pick) -> None:
        self.calls.append("inject")
        if self.breaks:
            raise OSError("half of it is done")

    def is_effective(self, world: World, pick: Pick) -> bool:
        return self.effective

    def recover(self, world: World, pick: Pick) -> None:
        self.calls.append("recover")

    def is_recovered(self, world: World, pick: Pick) -> bool:
        return self.recovered


def failer(fault: Fault) -> tuple[Failer, list[str]]:
    phases: list[str] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    made = Failer(
        fault, NO_WORLD, Pick(("mysql-0",)), lambda phase, _: phases.append(phase), now=lambda: clock[0], sleep=sleep
    )
    return made, phases


def test_all_stages_in_order() -> None:
    fault = Recorded()
    one, phases = failer(fault)
    one.setup()
    one.inject()
    one.wait_until_effective()
    one.hold()
    one.recover()
    one.wait_until_recovered()
    one.clean_up()
    assert phases == ["inject", "effective", "recover", "recovered"]
    assert fault.calls == ["setup", "inject", "recover"]


def test_no_effect_is_told_and_undone() -> None:
    fault = Recorded(effective=False)
    one, phases = failer(fault)
    one.setup()
    one.inject()
    with pytest.raises(NotEffective, match="no effect seen in 60 s"):
        one.wait_until_effective()
    one.clean_up()
    one.clean_up()
    assert fault.calls == ["setup", "inject", "recover"]
    assert phases == ["inject"]


def test_a_blow_that_fails_half_way_is_undone() -> None:
    fault = Recorded(breaks=True)
    one, _ = failer(fault)
    one.setup()
    with pytest.raises(OSError, match="half"):
        one.inject()
    one.clean_up()
    assert fault.calls[-1] == "recover"


def test_no_recovery_is_told() -> None:
    one, _ = failer(Recorded(recovered=False))
    one.setup()
    one.inject()
    one.wait_until_effective()
    one.recover()
    with pytest.raises(NotRecovered, match="not whole again after 120 s"):
        one.wait_until_recovered()


def test_what_was_not_injected_is_not_undone() -> None:
    fault = Recorded()
    one, _ = failer(fault)
    one.setup()
    one.clean_up()
    assert fault.calls == ["setup"]


@pytest.mark.parametrize("step", ["inject", "wait_until_effective", "hold", "recover", "wait_until_recovered"])
def test_no_stage_is_left_out(step: str) -> None:
    one, _ = failer(Recorded())
    with pytest.raises(WrongOrder):
        getattr(one, step)()


@pytest.mark.parametrize(
    ("aim", "writer", "picked"),
    [
        ("writer", "mysql-1", ("mysql-1",)),
        ("other", "mysql-1", ("mysql-0",)),
        ("both", "mysql-1", ("mysql-1", "mysql-0")),
        ("writer", None, ("mysql-0",)),
        ("writer", "stranger", ("mysql-0",)),
    ],
)
def test_pick_pets(aim: str, writer: str | None, picked: tuple[str, ...]) -> None:
    assert pick_pets(aim, writer, ["mysql-0", "mysql-1"]).pets == picked


def test_a_suite_repeats_itself_by_its_seed() -> None:
    assert plan_suite("long", 7) == plan_suite("long", 7)
    assert plan_suite("long", 7) != plan_suite("long", 8)
    assert len(plan_suite("long", 7)) >= 60
    long = [one.fault for one in plan_suite("long", 7)]
    assert set(long[: -len(SABOTAGE)]) == set(FAULTS) - set(SABOTAGE)
    assert sorted(long[-len(SABOTAGE) :]) == sorted(SABOTAGE)
    assert set(SABOTAGE) == {name for name in FAULTS if name.startswith("sabotage-")}
    assert [one.fault for one in plan_suite("short", 1)] == list(SHORT)
    assert sorted(one.fault for one in exploratory(3, {"noop": 2, "pod-delete": 1})) == ["noop", "noop", "pod-delete"]


def test_an_unknown_fault_is_named() -> None:
    with pytest.raises(ValueError, match="no fault named earthquake"):
        plan_suite("short", 1, ["earthquake"])


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_whole(name: str) -> None:
    fault = FAULTS[name]
    assert fault.expect in ("heal", "site", "refuse", "red")
    assert fault.aim in ("writer", "other", "both")
    assert fault.__doc__
    for step in ("inject", "is_effective", "recover" if fault.hold_s else "inject"):
        assert getattr(fault, step) is not getattr(Fault, step), f"{name} lacks {step}"


def test_a_refusal_is_read_from_the_pods_status() -> None:
    terminated = {"terminated": {"exitCode": 22, "message": "petset: refused: known-pet-empty: it is empty\n"}}
    pod = {
        "status": {"initContainerStatuses": [{"name": "prepare", "state": {"waiting": {}}, "lastState": terminated}]}
    }
    assert refusal(pod) == "petset: refused: known-pet-empty: it is empty"
    assert refusal(None) == ""
    assert refusal({"status": {"containerStatuses": [{"state": {"running": {}}}]}}) == ""


def test_the_twin_is_no_part_of_the_set() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "mysql-1", "namespace": "faults", "labels": {"app": "mysql"}},
        "spec": {
            "nodeName": "node-1",
            "hostname": "mysql-1",
            "initContainers": [{"name": "prepare", "env": []}, {"name": "agent", "restartPolicy": "Always"}],
            "containers": [
                {
                    "name": "mysqld",
                    "livenessProbe": {},
                    "env": [{"name": "PETSET_POD", "valueFrom": {}}, {"name": "PETSET_SET", "value": "mysql"}],
                }
            ],
        },
    }
    twin = render_twin(pod, "twin")
    assert twin["metadata"] == {"name": "twin", "namespace": "faults", "labels": {"app": "twin"}}
    assert [one["name"] for one in twin["spec"]["initContainers"]] == ["prepare"]
    assert {one["name"]: one["value"] for one in twin["spec"]["containers"][0]["env"]} == {
        "PETSET_POD": "mysql-1",
        "PETSET_LOCK_WAIT_S": "3",
        "PETSET_SET": "mysql",
    }
    assert "nodeName" not in twin["spec"]
    assert pod["spec"]["nodeName"] == "node-1"
