# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds, manifests
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ObjectRef, ref_of
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import PetSetSpec
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import Pod
from ansible_collections.stateful.petset.plugins.module_utils._core.set_steps import (
    Action,
    NamespaceState,
    Observed,
    Options,
    Plan,
    combine_refusals,
    render_diff,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.statefulset_plan import (
    plan_absent,
    plan_known_pets,
    plan_pet_set,
    wanted_refs,
)
from ansible_collections.stateful.petset.tests.unit.fakes.pets import SPEC, claim_of, spec_with

KEYS = ("root-password", "replication-password", "admin-password", "agent-password")
OPTIONS = Options(needed_keys=KEYS)
CLAIMS = {f"db-mysql-{ordinal}": claim_of(f"db-mysql-{ordinal}") for ordinal in range(3)}
THERE = NamespaceState(exists=True)
SET = ObjectRef(kinds.STATEFUL_SET, "mysql", "default")
SECRET = ObjectRef(kinds.SECRET, "mysql-secret", "default")
TLS = ObjectRef(kinds.SECRET, "mysql-tls", "default")


def live_objects(spec: PetSetSpec = SPEC) -> dict[ObjectRef, Any]:
    """Everything as it is after a run, with the API server's additions."""
    found: dict[ObjectRef, Any] = {}
    for manifest in manifests.render_objects(spec):
        live = copy.deepcopy(manifest)
        live["metadata"].update(uid=f"uid-{len(found)}", resourceVersion="1")
        found[ref_of(manifest)] = live
    for name, keys in ((spec.secret, KEYS), (spec.tls_secret, ("ca.crt", "tls.crt", "tls.key"))):
        secret = manifests.render_secret(spec, name, dict.fromkeys(keys, "stored"), {})
        secret["metadata"].update(uid=f"uid-{name}", resourceVersion="9")
        found[ref_of(secret)] = secret
    return found


def observed(
    objects: Mapping[ObjectRef, Any] | None = None,
    claims: Mapping[str, Any] | None = CLAIMS,
    namespace: NamespaceState = THERE,
) -> Observed:
    return Observed(namespace, {**dict.fromkeys(wanted_refs(SPEC)), **(objects or {})}, claims)


def plan(spec: PetSetSpec = SPEC, seen: Observed | None = None, options: Options = OPTIONS) -> Plan:
    return plan_pet_set(spec, observed() if seen is None else seen, options)


def refusal(made: Plan) -> str:
    assert len(made.refusals) == 1, [str(one) for one in made.refusals]
    return str(made.refusals[0])


def test_an_empty_cluster_gets_everything_in_order() -> None:
    made = plan()
    assert not made.refusals
    assert [str(step.ref) for step in made.steps] == [
        "Secret default/mysql-secret",
        "Secret default/mysql-tls",
        "ServiceAccount default/mysql",
        "Role default/mysql",
        "RoleBinding default/mysql",
        "ConfigMap default/mysql-boot",
        "Service default/db",
        "Service default/mysql",
        "PodDisruptionBudget default/mysql",
        "StatefulSet default/mysql",
    ]
    assert {step.action for step in made.steps} == {Action.CREATE}
    assert not made.restarts


def test_a_complete_cluster_gets_nothing() -> None:
    assert plan(seen=observed(live_objects())) == Plan()


# Defaults and rewritings of kube-apiserver 1.36 for the set that we render, read from a real one.
SERVER_SAYS = {
    "metadata": {"generation": 3, "creationTimestamp": "2026-11-25T00:00:00Z"},
    "status": {"replicas": 2},
}


def as_the_server_has_it(live: dict[str, Any]) -> None:
    live["metadata"].update(SERVER_SAYS["metadata"])
    live["status"] = SERVER_SAYS["status"]
    spec = live["spec"]
    del spec["minReadySeconds"]
    spec["volumeClaimTemplates"][0]["status"] = {"phase": "Pending"}
    spec["template"]["metadata"]["creationTimestamp"] = None
    pod = spec["template"]["spec"]
    pod.update(restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    pod["serviceAccount"] = pod["serviceAccountName"]
    for container in [*pod["containers"], *pod["initContainers"]]:
        container["terminationMessagePath"] = "/dev/termination-log"
        container["resources"] = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def test_the_servers_defaults_are_no_difference() -> None:
    objects = live_objects()
    as_the_server_has_it(objects[SET])
    assert plan(seen=observed(objects)) == Plan()


def test_a_changed_image_is_one_update_and_rolls_the_pets() -> None:
    made = plan(spec_with(image="mysql:9.7"), observed(live_objects()))
    (step,) = made.steps
    assert step.ref == SET
    assert step.action is Action.UPDATE
    assert ".spec.template.spec.containers[mysqld].image" in [change.path for change in step.changes]
    assert made.restarts


def test_more_pets_roll_nothing() -> None:
    made = plan(spec_with(replicas=3), observed(live_objects()))
    assert [step.describe() for step in made.steps] == ["update StatefulSet default/mysql (.spec.replicas)"]
    assert not made.restarts


# --- rp-sts-01 ---


@pytest.mark.parametrize(
    ("changes", "field", "old", "new"),
    [
        ({"service": "peers"}, "spec.serviceName", "'db'", "'peers'"),
        ({"size": "20Gi"}, "spec.volumeClaimTemplates[0].spec.resources.requests.storage", "'10Gi'", "'20Gi'"),
        ({"claim_template": "data"}, "spec.volumeClaimTemplates[0].metadata.name", "'db'", "'data'"),
        ({"storage_class": "fast"}, "spec.volumeClaimTemplates[0].spec.storageClassName", "''", "'fast'"),
    ],
)
def test_rp_sts_01_immutable_fields_are_refused_before_any_write(
    changes: dict[str, Any], field: str, old: str, new: str
) -> None:
    spec = spec_with(**changes)
    claims = {
        f"{spec.claim_template}-mysql-{ordinal}": claim_of("x", storageClassName=spec.storage_class)
        for ordinal in range(2)
    }
    text = refusal(plan(spec, observed(live_objects(), claims)))
    assert f"{field} is {old}, wanted {new}" in text
    assert "StatefulSet default/mysql" in text


def test_rp_sts_01_other_field_of_the_live_set() -> None:
    objects = live_objects()
    objects[SET]["spec"]["podManagementPolicy"] = "OrderedReady"
    objects[SET]["spec"]["selector"]["matchLabels"]["x"] = "y"
    made = plan(seen=observed(objects))
    told = " ".join(str(one) for one in made.refusals)
    assert "spec.podManagementPolicy is 'OrderedReady', wanted 'Parallel'" in told
    assert "spec.selector" in told
    assert "recreate: orphan" in told


def test_rp_sts_01_the_set_is_made_anew_around_its_pods_only_when_asked() -> None:
    allowed = Options(needed_keys=KEYS, orphan=True)
    made = plan(spec_with(size="20Gi"), observed(live_objects()), allowed)
    assert not made.refusals
    assert [(step.action, str(step.ref)) for step in made.steps] == [
        (Action.ORPHAN, str(SET)),
        (Action.CREATE, str(SET)),
    ]
    assert made.steps[0].uid == live_objects()[SET]["metadata"]["uid"]
    # Where it would not help: the pods would not be found again, or would keep a name that leads nowhere.
    assert plan(spec_with(service="peers"), observed(live_objects()), allowed).refusals


def test_quantities_of_the_template_are_compared_as_such() -> None:
    objects = live_objects()
    template = objects[SET]["spec"]["volumeClaimTemplates"][0]
    template["spec"]["resources"]["requests"]["storage"] = "10240Mi"
    assert plan(seen=observed(objects)) == Plan()


# --- rp-sts-08 ---


def test_rp_sts_08_a_lower_count_is_never_a_side_effect() -> None:
    objects = live_objects()
    objects[SET]["spec"]["replicas"] = 3
    text = refusal(plan(seen=observed(objects)))
    assert "it has 3 pets, 2 are wanted" in text
    assert "Set the count to 3" in text


def test_rp_sts_08_a_higher_count_is_applied_without_force() -> None:
    objects = live_objects()
    objects[SET]["spec"]["replicas"] = 1
    (step,) = plan(seen=observed(objects)).steps
    assert not step.force


def test_ordinals_that_start_elsewhere_are_refused() -> None:
    objects = live_objects()
    objects[SET]["spec"]["ordinals"] = {"start": 5}
    assert "start at 5" in refusal(plan(seen=observed(objects)))


# --- namespace ---


def test_rp_ans_07_a_missing_namespace_is_named_before_anything_is_done() -> None:
    made = plan(seen=observed(namespace=NamespaceState(exists=False)))
    assert "Namespace default: it does not exist" in str(made.refusals[0])


def test_rp_ans_07_it_is_made_when_that_is_allowed() -> None:
    spec = spec_with(create_namespace=True, namespace_labels={"team": "x"})
    made = plan(spec, observed(namespace=NamespaceState(exists=False)))
    assert not made.refusals
    assert made.steps[0].ref == ObjectRef(kinds.NAMESPACE, "default")
    assert made.steps[0].manifest["metadata"]["labels"]["team"] == "x"
    assert plan(spec, observed(live_objects())) == Plan()


def test_rp_ans_06_a_terminating_namespace_is_named_with_what_holds_it() -> None:
    state = NamespaceState(exists=True, terminating=True, holds="persistentvolumeclaims. has 1 resource instances")
    text = str(plan(seen=observed(namespace=state)).refusals[0])
    assert "being deleted" in text
    assert "persistentvolumeclaims" in text


def test_rp_ans_06_a_terminating_object_is_named() -> None:
    objects = live_objects()
    objects[SET]["metadata"].update(deletionTimestamp="2026", finalizers=["foregroundDeletion"])
    assert "held by foregroundDeletion" in refusal(plan(seen=observed(objects)))


def test_rp_ans_10_rights_in_one_namespace_are_enough() -> None:
    assert not plan(seen=observed(namespace=NamespaceState(exists=None))).refusals


# --- whose objects ---


@pytest.mark.parametrize("kind", ["Service", "ConfigMap", "StatefulSet", "Secret"])
def test_an_object_of_somebody_else_is_refused_by_name(kind: str) -> None:
    objects = live_objects()
    ref = next(one for one in objects if one.kind.kind == kind)
    objects[ref]["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    text = refusal(plan(seen=observed(objects)))
    assert str(ref) in text
    assert "by Helm" in text
    assert f"adopt: ['{kind}/{ref.name}']" in text


def test_an_object_of_another_set_is_refused_by_name() -> None:
    objects = live_objects()
    ref = ObjectRef(kinds.SERVICE, "db", "default")
    objects[ref]["metadata"]["labels"]["stateful.petset/set"] = "other"
    assert "for the set other" in refusal(plan(seen=observed(objects)))


def test_an_object_that_was_handed_over_is_taken_with_force() -> None:
    objects = live_objects()
    ref = ObjectRef(kinds.SERVICE, "db", "default")
    objects[ref]["metadata"]["labels"] = {}
    made = plan(seen=observed(objects), options=Options(needed_keys=KEYS, adopt={"Service/db"}))
    (step,) = made.steps
    assert (step.ref, step.force) == (ref, True)


# --- volumes first ---


def test_a_new_ordinal_without_a_claim_is_refused() -> None:
    made = plan(spec_with(replicas=4), observed(live_objects()))
    assert "PersistentVolumeClaim default/db-mysql-3: it does not exist" in refusal(made)
    assert "pet_volumes" in refusal(made)


def test_check_mode_only_notes_it_since_the_claims_are_not_made_there() -> None:
    made = plan(seen=observed(claims={}), options=Options(needed_keys=KEYS, check_mode=True))
    assert not made.refusals
    assert len(made.notes) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"deletionTimestamp": "2026"}}, "being deleted"),
        ({"status": {"phase": "Lost"}}, "volume is lost"),
        ({"spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}}, "storage class 'fast'"),
        ({"spec": {"accessModes": ["ReadWriteMany"]}}, "access modes"),
    ],
)
def test_a_claim_that_is_not_fit(change: dict[str, Any], words: str) -> None:
    claims = {**CLAIMS, "db-mysql-1": {**CLAIMS["db-mysql-1"], **change}}
    assert words in refusal(plan(seen=observed(claims=claims)))


def test_claims_that_may_not_be_listed_are_a_warning() -> None:
    made = plan(seen=observed(claims=None))
    assert not made.refusals
    assert "could not be listed" in made.warnings[0]


def test_a_new_ordinal_that_had_data_before_is_refused_by_name() -> None:
    """docs/stories/more_pets.md: nobody knows how old they are."""
    objects = live_objects()
    spec = spec_with(replicas=SPEC.replicas + 1, known_pets={SPEC.replicas: "u9"})
    claims = {**CLAIMS, f"db-mysql-{SPEC.replicas}": CLAIMS["db-mysql-1"]}
    text = refusal(plan(spec, observed(objects, claims=claims)))
    assert f"claim default/db-mysql-{SPEC.replicas}" in text
    assert "u9" in text
    assert "known-pets" in text
    master = spec_with(replicas=SPEC.replicas + 1, masters=SPEC.replicas + 1, known_pets={SPEC.replicas: "u9"})
    assert not plan(master, observed(objects, claims=claims)).refusals, "somebody scaled a master away: it catches up"
    again = spec_with(replicas=SPEC.replicas + 1, known_pets={0: "u0"})
    assert not plan(again, observed(objects, claims=claims)).refusals


# --- secrets ---


def test_missing_passwords_are_made_once_and_given_ones_stored() -> None:
    made = plan(options=Options(needed_keys=KEYS, passwords={"root-password": "given"}))
    step = made.steps[0]
    assert step.ref == SECRET
    assert step.generate == KEYS[1:]
    assert set(step.manifest["data"]) == {"root-password"}


def test_stored_passwords_are_never_made_again() -> None:
    objects = live_objects()
    del objects[SECRET]["data"]["agent-password"]
    (step,) = plan(seen=observed(objects)).steps
    assert step.generate == ("agent-password",)
    assert [change.path for change in step.changes] == [".data[agent-password]"]
    assert step.resource_version == "9"


def test_a_given_password_that_is_not_the_stored_one_is_refused_without_being_shown() -> None:
    options = Options(needed_keys=KEYS, passwords={"root-password": "hunter2"})
    text = refusal(plan(seen=observed(live_objects()), options=options))
    assert "root-password" in text
    assert "hunter2" not in text
    stored = Options(needed_keys=KEYS, passwords={"root-password": "hunter2"}, store_changed_passwords=True)
    (step,) = plan(seen=observed(live_objects()), options=stored).steps
    assert [change.path for change in step.changes] == [".data[root-password]"]


def test_the_stored_password_may_be_given_again() -> None:
    options = Options(needed_keys=KEYS, passwords={"root-password": "stored"})
    assert plan(seen=observed(live_objects()), options=options) == Plan()


def test_keys_of_others_in_the_secret_stay() -> None:
    objects = live_objects()
    objects[SECRET]["data"]["theirs"] = "eA=="
    assert plan(seen=observed(objects)) == Plan()


def test_a_lost_secret_is_not_replaced_by_new_passwords_that_fit_no_account() -> None:
    objects = live_objects()
    del objects[SECRET]
    spec = spec_with(known_pets={0: "u0", 1: "u1"})
    text = str(plan(spec, observed(objects)).refusals[0])
    assert "pets 0, 1 have data" in text
    given = Options(needed_keys=KEYS, passwords=dict.fromkeys(KEYS, "old"))
    assert not plan(spec, observed(objects), given).refusals


def test_an_app_that_comes_after_the_first_start_is_refused_as_no_pet_would_make_its_account() -> None:
    options = Options(needed_keys=(*KEYS, "app-password"), passwords={"app-user": "shop", "app-database": "shop"})
    text = refusal(plan(spec_with(known_pets={0: "u0"}), observed(live_objects()), options))
    assert "pets 0 have data already" in text
    assert "CREATE USER" in text
    assert not plan(spec_with(known_pets={}), observed(live_objects()), options).refusals
    objects = live_objects()
    objects[SECRET]["data"] |= dict.fromkeys(("app-user", "app-database"), "c2hvcA==") | {"app-password": "eA=="}
    assert not plan(spec_with(known_pets={0: "u0"}), observed(objects), options).refusals


def test_a_secret_of_the_user_has_to_have_the_keys() -> None:
    options = Options(needed_keys=KEYS, manage_secret=False, manage_tls=False)
    made = plan(options=options)
    assert [str(one.subject) for one in made.refusals] == [str(SECRET), str(TLS)]
    objects = live_objects()
    for ref in (SECRET, TLS):
        objects[ref]["metadata"]["labels"] = {}
    del objects[SECRET]["data"]["agent-password"]
    assert "lacks the keys agent-password" in refusal(plan(seen=observed(objects), options=options))
    objects[SECRET]["data"]["agent-password"] = "eA=="
    assert plan(seen=observed(objects), options=options) == Plan()


def test_half_a_certificate_is_refused() -> None:
    objects = live_objects()
    del objects[TLS]["data"]["tls.key"]
    assert "lacks the keys tls.key" in refusal(plan(seen=observed(objects)))


# --- diff ---


def test_the_diff_shows_what_changes_and_no_secret() -> None:
    options = Options(needed_keys=KEYS, passwords={"root-password": "hunter2"}, store_changed_passwords=True)
    made = plan(spec_with(image="mysql:9.7"), observed(live_objects()), options)
    diff = render_diff(made.steps)
    text = repr(diff)
    assert "hunter2" not in text
    assert "c3RvcmVk" not in text
    secret = diff["after"][str(SECRET)]["data"]
    assert secret["root-password"] == "(new value, not shown)"
    assert secret["agent-password"] == "(stored, not shown)"
    image = ("spec", "template", "spec", "containers", 0, "image")
    assert dig(diff["before"][str(SET)], image) == "mysql:8.4"
    assert dig(diff["after"][str(SET)], image) == "mysql:9.7"
    assert set(diff["before"]) == set(diff["after"]) == {str(SECRET), str(SET)}


def dig(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def test_the_diff_of_nothing_is_empty() -> None:
    assert render_diff(()) == {"before": {}, "after": {}}


def test_all_refusals_are_told_at_once() -> None:
    made = plan(spec_with(replicas=5), observed(live_objects()))
    problem = combine_refusals("mysql", made.refusals)
    assert "2 things stand in the way" in str(problem)
    assert "db-mysql-3" in str(problem)
    assert "db-mysql-4" in str(problem)


# --- the record of known pets ---


def pet(ordinal: int, uuid: str, **changes: Any) -> Pod:
    from ansible_collections.stateful.petset.plugins.module_utils._core.pods import Container

    told = f"petset: prepared: ordinal={ordinal} server_uuid={uuid} generation=1 data=known"
    container = Container("prepare", True, exit_code=0, ended_message=told)
    return Pod(f"mysql-{ordinal}", f"u{ordinal}", ordinal=ordinal, containers=(container,), **changes)


UUIDS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(3)]


def test_pets_are_recorded_once_they_have_data() -> None:
    known, refusals = plan_known_pets({0: UUIDS[0]}, [pet(0, UUIDS[0]), pet(1, UUIDS[1])])
    assert known == {0: UUIDS[0], 1: UUIDS[1]}
    assert not refusals
    assert plan_known_pets(known, [pet(0, UUIDS[0])]) == (known, ())


def test_a_pet_that_is_another_than_recorded_is_named() -> None:
    known, refusals = plan_known_pets({0: UUIDS[0]}, [pet(0, UUIDS[2])])
    assert known == {0: UUIDS[0]}
    assert UUIDS[2] in str(refusals[0])
    assert "Pod mysql-0" in str(refusals[0])


# --- absent ---


def test_absent_takes_what_holds_no_data() -> None:
    made = plan_absent(SPEC, observed(live_objects()))
    assert not made.refusals
    assert [str(step.ref) for step in made.steps] == [
        "StatefulSet default/mysql",
        "PodDisruptionBudget default/mysql",
        "Service default/db",
        "Service default/mysql",
        "RoleBinding default/mysql",
        "Role default/mysql",
        "ServiceAccount default/mysql",
    ]
    assert all(step.uid for step in made.steps)
    assert plan_absent(SPEC, observed()) == Plan()


def test_absent_leaves_what_is_somebody_elses() -> None:
    objects = live_objects()
    objects[ObjectRef(kinds.SERVICE, "db", "default")]["metadata"]["labels"] = {}
    made = plan_absent(SPEC, observed(objects))
    assert "Service default/db" not in [str(step.ref) for step in made.steps]
    assert "Service default/db" in made.warnings[0]


def test_absent_never_takes_claims_along() -> None:
    objects = live_objects()
    objects[SET]["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] = "Delete"
    text = refusal(plan_absent(SPEC, observed(objects)))
    assert "claims would go with the set" in text
