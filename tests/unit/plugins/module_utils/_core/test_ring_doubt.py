# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, LeaseView, PetState, State
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_doubt import (
    Key,
    Looks,
    Verdict,
    find_suspects,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_judge import RingJudgement, judge_ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import RingPlan, plan_ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_trouble import RingTrouble
from ansible_collections.stateful.petset.tests.unit.plugins.module_utils._core.rings import (
    UUIDS,
    gtids,
    lease_of,
    pet_of,
    ring_of,
    states_of,
    writer_of,
)
from hypothesis import given
from hypothesis import strategies as st

RING = ring_of(3)
LOST: Key = (RingTrouble.LOST_OWN, ("mysql-0",))
ALL = {"mysql-0", "mysql-1", "mysql-2"}
CERTAIN, DOUBTED, PASSING = Verdict.CERTAIN, Verdict.DOUBTED, Verdict.PASSING
PATIENCE_S = 15.0


def followed(looks: Sequence[tuple[float, str, set[str]]]) -> Looks:
    """After looks at these times, each with what the writer lacked of its own and who answered."""
    memory = Looks(PATIENCE_S)
    for now_s, missing, up in looks:
        memory = memory.after({LOST: (gtids(missing),)} if missing else {}, up, now_s)
    return memory


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        pytest.param([(0, "0:9", ALL)], DOUBTED, id="one look says nothing"),
        pytest.param([(0, "0:9", ALL), (14, "0:9", ALL), (14.9, "0:9", ALL)], DOUBTED, id="not long enough"),
        pytest.param([(0, "0:9", ALL), (15, "0:9", ALL)], DOUBTED, id="two looks are too few"),
        pytest.param([(0, "0:9", ALL), (8, "0:9", ALL), (15, "0:9", ALL)], CERTAIN, id="it lasted"),
        pytest.param([(0, "0:9", ALL), (8, "0:9-12", ALL), (15, "0:9,0:13", ALL)], CERTAIN, id="a part lasted"),
        pytest.param([(0, "0:9", ALL), (1, "0:10", ALL)], PASSING, id="it arrived, the next is under way"),
        pytest.param([(0, "0:9", ALL), (1, "", ALL), (2, "0:10", ALL)], PASSING, id="it arrived before the next came"),
        pytest.param(
            [(0, "0:9", ALL), (1, "0:10", ALL), (9, "0:10", ALL), (16, "0:10", ALL)],
            CERTAIN,
            id="one arrived, the next lasted",
        ),
        pytest.param(
            [(0, "0:9", ALL), (1, "", {"mysql-0"}), (2, "0:9", ALL)],
            DOUBTED,
            id="who had it was away: it did not arrive",
        ),
        pytest.param(
            [(0, "0:9", ALL), (1, "", {"mysql-0"}), (2, "", {"mysql-0"}), (3, "0:9", ALL), (15, "0:9", ALL)],
            CERTAIN,
            id="who had it was away for two looks",
        ),
        pytest.param(
            [(0, "0:9", ALL), (1, "0:10", {"mysql-0", "mysql-1"})], DOUBTED, id="a part of the witnesses went away"
        ),
    ],
)
def test_what_is_believed_after_several_looks(looks: list[tuple[float, str, set[str]]], verdict: Verdict) -> None:
    assert followed(looks).verdict(LOST) is verdict


@pytest.mark.parametrize(
    ("looks", "goes_on"),
    [
        ([(0, "", ALL)], False),
        ([(0, "0:9", ALL)], True),
        ([(0, "0:9", ALL), (1, "", ALL)], False),
        ([(0, "0:9", ALL), (1, "0:10", ALL)], False),
        ([(0, "0:9", ALL), (8, "0:9", ALL)], True),
        ([(0, "0:9", ALL), (8, "0:9", ALL), (15, "0:9", ALL)], False),
        ([(0, "0:9", ALL), (1, "", {"mysql-0"})], False),
        # Each time another witness is away.
        ([(n, f"0:{n + 1}", ALL - {f"mysql-{n % 2 + 1}"}) for n in range(29)], True),
        ([(n, f"0:{n + 1}", ALL - {f"mysql-{n % 2 + 1}"}) for n in range(31)], False),
    ],
)
def test_when_the_looking_stops(looks: list[tuple[float, str, set[str]]], goes_on: bool) -> None:
    assert followed(looks).must_go_on is goes_on


@given(st.lists(st.tuples(st.sampled_from(["", "0:9", "0:10", "0:9-10", "0:11"]), st.booleans()), max_size=30))
def test_only_what_every_look_has_shown_is_ever_certain(looks: list[tuple[str, bool]]) -> None:
    memory = followed([(n, missing, ALL if full else {"mysql-0"}) for n, (missing, full) in enumerate(looks)])
    if LOST not in memory.shown or memory.verdict(LOST) is not CERTAIN:
        return
    (lasting,) = memory.lasting(LOST, (gtids("0:1"),))
    since = len(looks) - 1 - int(memory.seconds(LOST))
    assert memory.seconds(LOST) >= PATIENCE_S
    # A look that showed nothing counts only when everybody answered.
    assert all(lasting <= gtids(missing) for missing, full in looks[since:] if missing or full)


def looked(
    *looks: Sequence[State], patience_s: float = 2.0, lease: LeaseView | None = None
) -> tuple[RingPlan, RingJudgement]:
    """Plan and judgement after looks a second apart."""
    view = lease or lease_of()
    memory = Looks(patience_s)
    for number, pets in enumerate(looks):
        states = states_of(*pets)
        up = {name: state for name, state in states.items() if isinstance(state, PetState)}
        memory = memory.after(find_suspects(RING, up, view), up, float(number))
        plan = plan_ring(RING, states, view, looks=memory)
    return plan, judge_ring(RING, states, view, plan)


WAITING = (writer_of(RING, 0, "0:1-5"), pet_of(RING, 1, "0:1-6"), pet_of(RING, 2, "0:1-5"))
AHEAD = (writer_of(RING, 0, "0:1-5"), pet_of(RING, 1, "0:1-5"), pet_of(RING, 2, "0:1-5,x:1"))
TORN = (writer_of(RING, 0, "0:1-5"), pet_of(RING, 1, "0:1-4,x:1"), pet_of(RING, 2, "0:1-4"))


@pytest.mark.parametrize("pets", [WAITING, AHEAD, TORN], ids=["lost", "errant at a replica", "torn masters"])
def test_rp_rep_13_a_commit_that_waits_for_its_acknowledgement_is_not_lost(pets: tuple[PetState, ...]) -> None:
    """One look told the user to put the writer's volume aside while a standby was slow to acknowledge."""
    for looks in (1, 2):
        plan, told = looked(*[pets] * looks)
        assert (plan.refusals, plan.steps) == ([], [])
        assert plan.doubts
        assert told.word.value == "uncertain"
        assert {one.trouble for one in told.troubles} == {RingTrouble.UNDER_WAY}
        assert "volume aside" not in str([one.as_dict() for one in told.troubles])
        assert not any(pet.errant for pet in told.pets)
    plan, told = looked(pets, pets, pets)
    assert plan.refusals
    assert "seen for 2 s" in plan.refusals[0].render()
    assert plan.doubts == []
    assert told.word.value == "broken"
    done = (writer_of(RING, 0, "0:1-6,x:1"), pet_of(RING, 1, "0:1-6,x:1"), pet_of(RING, 2, "0:1-6,x:1"))
    plan, told = looked(pets, done)
    assert (plan.refusals, plan.doubts, told.summary()) == ([], [], "healthy")


def test_other_transactions_at_each_look_hinder_nothing_and_are_not_certain() -> None:
    """A busy writer with a slow standby shows others each time."""
    later = (writer_of(RING, 0, "0:1-6"), pet_of(RING, 1, "0:1-7"), pet_of(RING, 2, "0:1-5"))
    plan, told = looked(WAITING, later)
    assert (plan.refusals, plan.doubts) == ([], [])
    assert told.uncertain == [
        f"mysql-0 lacks transactions of its own ({UUIDS[0]}:7), which may be under way: a commit that waits for its "
        "acknowledgement is not counted yet"
    ]
    plan, told = looked(WAITING, later, later, later)
    assert f"of its own that another pet has ({UUIDS[0]}:7, seen for 2 s)" in plan.refusals[0].render()
    assert told.word.value == "broken"


def test_other_reasons_are_refused_at_once_and_the_doubt_is_not_said_with_them() -> None:
    copied = (WAITING[0], replace(WAITING[1], server_id=1000), WAITING[2])
    plan, told = looked(copied)
    (refusal,) = plan.refusals
    assert "same server_id" in refusal.render()
    assert not any("volume aside" in one for one in told.broken)


def test_a_pet_that_does_not_answer_leaves_the_doubt() -> None:
    plan, _told = looked(WAITING, (WAITING[0], Down("lost", "it is down"), WAITING[2]), WAITING)
    assert plan.doubts == [f"mysql-0 seems to lack transactions of its own ({UUIDS[0]}:6)"]
