# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import Container, Event, Evidence, Pod, Trouble
from ansible_collections.stateful.petset.plugins.module_utils._core.statefulset import (
    SetView,
    Strategy,
    decide_readiness,
    parse_statefulset,
    plan_healing,
)
from hypothesis import given
from hypothesis import strategies as st

VIEW = SetView("mysql", "default", "set", 3, 3, 2, update_revision="new", current_revision="new")


def view_with(**changes: Any) -> SetView:
    return SetView(**{**{name: getattr(VIEW, name) for name in SetView.__slots__}, **changes})


def pod(ordinal: int, revision: str = "new", ready: bool = True, **changes: Any) -> Pod:
    fields = {"uid": f"u{ordinal}", "owner_uid": "set", "node": "n", "resource_version": "5", **changes}
    return Pod(name=f"mysql-{ordinal}", ordinal=ordinal, revision=revision, ready=ready, **fields)


def test_a_set_is_read() -> None:
    view = parse_statefulset(
        {
            "metadata": {"name": "mysql", "namespace": "db", "uid": "u", "generation": 4},
            "spec": {
                "replicas": 3,
                "ordinals": {"start": 2},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
                "minReadySeconds": 5,
            },
            "status": {
                "observedGeneration": 3,
                "updateRevision": "r2",
                "currentRevision": "r1",
                "availableReplicas": 1,
            },
        }
    )
    assert list(view.ordinals) == [2, 3, 4]
    assert (view.partition, view.min_ready_s, view.is_observed) == (1, 5, False)
    assert parse_statefulset({}).replicas == 1
    assert parse_statefulset({"spec": {"updateStrategy": {"type": "Novel"}}}).strategy is Strategy.UNKNOWN


BOTH = (pod(0), pod(1))


@pytest.mark.parametrize(
    ("changes", "pods", "ready", "missing"),
    [
        ({}, BOTH, True, {}),
        # The status speaks of an older specification.
        ({"observed_generation": 2}, BOTH, False, {}),
        ({}, (pod(0),), False, {1: Trouble.NOT_CREATED}),
        ({}, (pod(0), pod(1, ready=False)), False, {1: Trouble.STARTING}),
        # Ready, but of the old template, and the roll-out has not come to it.
        ({}, (pod(0, "old"), pod(1)), False, {0: Trouble.OLD_REVISION}),
        # A partition: pets below it stay at the old revision, and that is as wanted.
        ({"partition": 1}, (pod(0, "old"), pod(1)), True, {}),
        ({"partition": 1}, (pod(0, "old"), pod(1, "old")), False, {1: Trouble.OLD_REVISION}),
        ({"partition": 2}, (pod(0, "old"), pod(1, "old")), True, {}),
        # OnDelete: any revision will do, but readiness counts.
        ({"strategy": Strategy.ON_DELETE}, (pod(0, "old"), pod(1, "old")), True, {}),
        ({"strategy": Strategy.ON_DELETE}, (pod(0, "old", ready=False), pod(1)), False, {0: Trouble.STARTING}),
        ({"strategy": Strategy.RECREATE}, (pod(0, "old"), pod(1)), False, {0: Trouble.OLD_REVISION}),
        # A pod that goes still looks ready.
        ({}, (pod(0, deleting=True), pod(1)), False, {0: Trouble.TERMINATING}),
        # A pod of somebody else, or of a set of the same name that was deleted around it.
        ({}, (pod(0, owner_uid="other"), pod(1)), False, {0: Trouble.FOREIGN}),
        ({}, (pod(0, owner_uid=""), pod(1)), False, {0: Trouble.FOREIGN}),
        # More pods than wanted do not matter.
        ({}, (*BOTH, pod(2, ready=False)), True, {}),
        ({"min_ready_s": 10, "available_replicas": 1}, BOTH, False, {}),
        ({"min_ready_s": 10, "available_replicas": 2}, BOTH, True, {}),
        ({"deleting": True}, BOTH, False, {}),
        ({"replicas": 0}, (), True, {}),
        ({"first_ordinal": 1, "replicas": 1}, (pod(1),), True, {}),
    ],
)
def test_readiness(changes: dict[str, Any], pods: tuple[Pod, ...], ready: bool, missing: dict[int, Trouble]) -> None:
    readiness = decide_readiness(view_with(**changes), pods)
    assert readiness.ready is ready
    assert {pet.ordinal: pet.why.trouble for pet in readiness.missing} == missing
    assert (readiness.describe() == "all pets are ready") is ready


NO_IMAGE = (Container("mysqld", waiting="ImagePullBackOff", waiting_message="not found"),)


def test_rp_sts_02_a_roll_out_that_waits_for_a_broken_pod_is_stuck() -> None:
    """The pod keeps its own trouble; the pets whose turn does not come say what they wait for."""
    zero, one = decide_readiness(VIEW, (pod(0, "old"), pod(1, ready=False, containers=NO_IMAGE))).pets
    assert (zero.why.trouble, one.why.trouble) == (Trouble.ROLLOUT_STUCK, Trouble.IMAGE)
    assert "waits for mysql-1: container mysqld: ImagePullBackOff" in zero.why.describe()


def _running(**changes: Any) -> Pod:
    return pod(1, ready=False, containers=(Container("mysqld", running=True),), **changes)


@pytest.mark.parametrize(
    ("new", "event", "trouble", "words"),
    [
        (pod(1, ready=False), None, Trouble.STARTING, "being started on node n"),
        (_running(), None, Trouble.STARTING, "started, not ready yet"),
        (_running(), ("Unhealthy", "Readiness probe failed: no answer"), Trouble.PROBE, "Readiness probe failed"),
        (pod(1, ready=False), ("FailedMount", "failed to sync configmap cache"), Trouble.MOUNT, "cannot mount"),
    ],
)
def test_rp_sts_02_a_roll_out_that_may_only_take_its_time_is_not_stuck_and_says_for_whom_it_waits(
    new: Pod, event: tuple[str, str] | None, trouble: Trouble, words: str
) -> None:
    """It said that its turn is to come, which need not be so: there was nothing to look at."""
    events = () if event is None else (Event("Pod", "mysql-1", *event),)
    zero, one = decide_readiness(VIEW, (pod(0, "old"), new), {"mysql-1": Evidence(events=events)}).pets
    assert (zero.why.trouble, one.why.trouble) == (Trouble.OLD_REVISION, trouble)
    assert "still at revision old; the roll-out waits for mysql-1: " in zero.why.describe()
    assert words in zero.why.describe()


@pytest.mark.parametrize(
    ("age_s", "started", "trouble"),
    [
        (100, False, Trouble.OLD_REVISION),
        (400, False, Trouble.ROLLOUT_STUCK),
        (400, True, Trouble.OLD_REVISION),
        (4000, True, Trouble.ROLLOUT_STUCK),
    ],
)
def test_a_roll_out_that_waits_for_a_start_without_end_is_stuck(age_s: int, started: bool, trouble: Trouble) -> None:
    """It was called old_revision for ever, as if its turn were to come."""
    runs = Container("mysqld", running=True, since="1970-01-01T00:00:00Z", started=started)
    evidence = {"mysql-1": Evidence(now_s=float(age_s))}
    zero, one = decide_readiness(VIEW, (pod(0, "old"), pod(1, ready=False, containers=(runs,))), evidence).pets
    assert zero.why.trouble is trouble
    assert one.why.trouble in (Trouble.STARTING, Trouble.PROBE)
    probe = "readiness" if started else "startup"
    assert f"runs for {age_s} s, its {probe} probe has not passed" in zero.why.seen
    assert ("playbook site" in zero.why.way_out) is (trouble is Trouble.ROLLOUT_STUCK)


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        ('create Pod mysql-1 in StatefulSet mysql failed error: pods "mysql-1" is forbidden: exceeded quota', "quota"),
        ("create Pod mysql-1 in StatefulSet mysql failed error: admission webhook denied the request", "admission"),
    ],
)
def test_rp_sts_02_a_roll_out_whose_pod_is_refused_is_stuck(message: str, trouble: str) -> None:
    events = (Event("StatefulSet", "mysql", "FailedCreate", message),)
    zero, one = decide_readiness(VIEW, (pod(0, "old"),), set_events=events).pets
    assert (zero.why.trouble, one.why.trouble.value) == (Trouble.ROLLOUT_STUCK, trouble)
    assert "waits for mysql-1: the pod was refused" in zero.why.describe()
    assert "site" in zero.why.way_out


@pytest.mark.parametrize(
    ("code", "words", "trouble"),
    [
        (16, "", "disk_full"),
        (1, "No space left on device", "disk_full"),
        (21, "", "folder_emptied"),
        (15, "", "wrong_owner"),
    ],
)
def test_rp_sts_02_a_roll_out_that_waits_for_somebody_at_the_volume_is_stuck(
    code: int, words: str, trouble: str
) -> None:
    ended = Container("mysqld", waiting="CrashLoopBackOff", ended="Error", exit_code=code, ended_message=words)
    zero, one = decide_readiness(VIEW, (pod(0, "old"), pod(1, ready=False, containers=(ended,)))).pets
    assert (zero.why.trouble, one.why.trouble.value) == (Trouble.ROLLOUT_STUCK, trouble)


def test_a_pet_of_the_old_revision_keeps_the_name_of_a_trouble_that_its_revision_did_not_bring() -> None:
    full = (Container("mysqld", waiting="CrashLoopBackOff", ended="Error", exit_code=16),)
    one = decide_readiness(VIEW, (pod(0), pod(1, "old", ready=False, containers=full))).pets[1]
    assert one.why.trouble is Trouble.DISK_FULL


def test_rp_sts_02_a_broken_pod_of_the_old_revision_is_stuck() -> None:
    zero, one = decide_readiness(VIEW, (pod(0), pod(1, "old", ready=False, containers=NO_IMAGE))).pets
    assert zero.ready
    assert one.why.trouble is Trouble.ROLLOUT_STUCK
    assert "ImagePullBackOff" in one.why.seen
    assert "site" in one.why.way_out
    # One that the roll-out would not come to has its own trouble only.
    kept = view_with(strategy=Strategy.ON_DELETE)
    assert decide_readiness(kept, (pod(0), pod(1, "old", ready=False, containers=NO_IMAGE))).pets[1].why.trouble is (
        Trouble.IMAGE
    )


def test_a_pod_that_was_told_to_go_is_not_ready_whatever_it_says() -> None:
    readiness = decide_readiness(VIEW, BOTH, gone_uids={"u1"})
    assert [pet.why.trouble for pet in readiness.pets] == [Trouble.NONE, Trouble.TERMINATING]
    assert decide_readiness(VIEW, (pod(0), pod(1, uid="u1-again")), gone_uids={"u1"}).ready


def test_outdated_pets_are_told_although_they_may_be_so() -> None:
    readiness = decide_readiness(view_with(strategy=Strategy.ON_DELETE), (pod(0, "old"), pod(1)))
    assert [pet.outdated for pet in readiness.pets] == [True, False]


def test_a_pet_that_was_refused_says_why() -> None:
    text = 'create Pod mysql-1 in StatefulSet mysql failed error: pods "mysql-1" is forbidden: exceeded quota: q'
    event = Event("StatefulSet", "mysql", "FailedCreate", text)
    readiness = decide_readiness(VIEW, (pod(0),), set_events=(event,))
    assert "mysql-1: the pod was refused" in readiness.describe()
    assert readiness.missing[0].why.trouble is Trouble.QUOTA


# --- rp-sts-02: a broken roll-out that the controller does not mend ---


@pytest.mark.parametrize(
    ("changes", "pods", "healed"),
    [
        ({}, (pod(0), pod(1, "broken", ready=False)), [1]),
        ({}, (pod(0, "a", ready=False), pod(1, "b", ready=False)), [1, 0]),
        ({}, (pod(0, "old"), pod(1, "old")), []),
        ({}, (pod(0, ready=False), pod(1, ready=False)), []),
        ({}, (pod(0), pod(1, "broken", ready=False, deleting=True)), []),
        ({}, (pod(0), pod(1, "broken", ready=False, owner_uid="other")), []),
        ({}, (pod(0), pod(1, "", ready=False)), []),
        ({"partition": 2}, (pod(0), pod(1, "broken", ready=False)), []),
        ({"strategy": Strategy.ON_DELETE}, (pod(0), pod(1, "broken", ready=False)), []),
        ({"observed_generation": 2}, (pod(0), pod(1, "broken", ready=False)), []),
        ({"update_revision": ""}, (pod(0), pod(1, "broken", ready=False)), []),
        ({"deleting": True}, (pod(0), pod(1, "broken", ready=False)), []),
        ({}, (pod(0), pod(1), pod(7, "broken", ready=False)), []),
    ],
)
def test_rp_sts_02_only_stuck_pods_of_an_old_revision_are_healed(
    changes: dict[str, Any], pods: tuple[Pod, ...], healed: list[int]
) -> None:
    assert [one.ordinal for one in plan_healing(view_with(**changes), pods)] == healed


PODS = st.builds(
    pod,
    st.integers(0, 4),
    st.sampled_from(["old", "new", "broken", ""]),
    st.booleans(),
    deleting=st.booleans(),
    owner_uid=st.sampled_from(["set", "other", ""]),
)
VIEWS = st.builds(
    view_with,
    replicas=st.integers(0, 4),
    partition=st.integers(0, 4),
    observed_generation=st.integers(2, 3),
    strategy=st.sampled_from(list(Strategy)),
    deleting=st.booleans(),
)


@given(VIEWS, st.lists(PODS, max_size=5, unique_by=lambda one: one.ordinal))
def test_nothing_ready_is_ever_healed_and_a_ready_set_has_nothing_to_heal(view: SetView, pods: list[Pod]) -> None:
    healed = plan_healing(view, pods)
    assert all(not one.ready and one.owner_uid == "set" and one.revision != "new" for one in healed)
    if decide_readiness(view, pods).ready:
        assert healed == ()


@given(VIEWS, st.lists(PODS, max_size=5, unique_by=lambda one: one.ordinal))
def test_a_ready_set_has_every_pet_ready_under_its_own_control(view: SetView, pods: list[Pod]) -> None:
    if decide_readiness(view, pods).ready:
        mine = {one.ordinal: one for one in pods if one.ready and one.owner_uid == "set" and not one.deleting}
        assert set(view.ordinals) <= set(mine)
