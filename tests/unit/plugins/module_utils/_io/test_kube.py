# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ObjectRef
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import Answer, NoAnswer
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "labels": {"x": "y"}},
        "data": data,
    }


REF = ObjectRef(kinds.CONFIG_MAP, "a", "default")
RESET = NoAnswer("connection reset", sent=True)
REFUSED = NoAnswer("connection refused", sent=False)


def status(code: int, message: str = "busy", **headers: str) -> Answer:
    return Answer(code, headers, json.dumps({"kind": "Status", "message": message}).encode())


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def test_one_call_is_one_request(cluster: FakeCluster) -> None:
    client = cluster.client()
    client.create(config_map(k="v"))
    assert client.get(kinds.CONFIG_MAP, "a", "default")["data"] == {"k": "v"}  # type: ignore[index]
    assert client.get(kinds.CONFIG_MAP, "b", "default") is None
    (listed,) = client.list(kinds.CONFIG_MAP, "default", label_selector="x=y")
    assert listed["kind"] == "ConfigMap"
    assert client.list(kinds.CONFIG_MAP, "default", label_selector="x=z") == []
    assert client.delete(REF)
    assert not client.delete(REF)
    assert client.count() == {
        "create configmaps": 1,
        "delete configmaps": 2,
        "get configmaps": 2,
        "list configmaps": 2,
    }
    assert [one.verb for one in client.writes()] == ["create", "delete", "delete"]


def test_a_dry_run_writes_nothing_and_counts_as_no_write(cluster: FakeCluster) -> None:
    client = cluster.client()
    client.create(config_map(), dry_run=True)
    client.apply(config_map(), dry_run=True)
    assert cluster.all(kinds.CONFIG_MAP) == []
    assert client.writes() == ()
    client.create(config_map())
    client.delete(REF, dry_run=True)
    client.patch(REF, {"data": {"x": "y"}}, dry_run=True)
    assert "data" not in cluster.live(kinds.CONFIG_MAP, "a", "default") or not cluster.all(kinds.CONFIG_MAP)[0]["data"]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_429_and_5xx_are_repeated(cluster: FakeCluster, code: int) -> None:
    clock = FakeClock()
    client = cluster.client(clock)
    cluster.fail_next(status(code), times=3)
    assert client.list(kinds.CONFIG_MAP, "default") == []
    assert len(client.requests) == 4
    assert clock.time_s > 1000.0


def test_retry_after_is_honoured(cluster: FakeCluster) -> None:
    clock = FakeClock()
    cluster.fail_next(status(429, **{"retry-after": "3"}))
    cluster.client(clock).list(kinds.CONFIG_MAP, "default")
    assert clock.time_s >= 1003.0


def test_an_overloaded_api_is_given_up_on_at_the_limit(cluster: FakeCluster) -> None:
    clock = FakeClock()
    client = cluster.client(clock, limit_s=20.0)
    client.list(kinds.CONFIG_MAP, "default")
    cluster.fail_next(status(503, "no leader"), times=999)
    with pytest.raises(errors.TryAgain, match="no leader"):
        client.list(kinds.CONFIG_MAP, "default")
    assert 1000.0 < clock.time_s <= 1020.0
    assert len(client.requests) < 30


def test_a_wrong_address_is_told_early_and_with_its_source(cluster: FakeCluster) -> None:
    clock = FakeClock()
    cluster.fail_next(REFUSED, times=999)
    with pytest.raises(errors.Unreachable) as problem:
        cluster.client(clock).list(kinds.CONFIG_MAP, "default")
    assert "https://fake.invalid:6443" in str(problem.value)
    assert "comes from the test" in str(problem.value)
    assert clock.time_s < 1007.0


def test_an_api_that_restarts_is_waited_for(cluster: FakeCluster) -> None:
    clock = FakeClock()
    client = cluster.client(clock)
    client.list(kinds.CONFIG_MAP, "default")
    cluster.fail_next(REFUSED, times=12)
    assert client.list(kinds.CONFIG_MAP, "default") == []
    assert clock.time_s > 1020.0


def test_bad_tls_is_not_repeated(cluster: FakeCluster) -> None:
    cluster.fail_next(NoAnswer("TLS: self-signed", sent=False, hint="give the cluster's CA"), times=9)
    client = cluster.client()
    with pytest.raises(errors.Unreachable, match="Give the cluster's CA"):
        client.list(kinds.CONFIG_MAP, "default")
    assert len(client.requests) == 1


@pytest.mark.parametrize("lost", [RESET, status(504)])
def test_a_create_whose_answer_was_lost_is_recognised(cluster: FakeCluster, lost: Answer | NoAnswer) -> None:
    cluster.fail_next(lost, method="POST", land=True)
    made = cluster.client().create(config_map(k="v"))
    assert made["data"] == {"k": "v"}
    assert len(cluster.all(kinds.CONFIG_MAP)) == 1


def test_a_create_that_somebody_else_won_is_not_taken_for_ours(cluster: FakeCluster) -> None:
    cluster.add(config_map(k="theirs"))
    cluster.fail_next(RESET, method="POST")
    with pytest.raises(errors.AlreadyExists):
        cluster.client().create(config_map(k="ours"))


def test_a_refused_connection_makes_nothing_ambiguous(cluster: FakeCluster) -> None:
    cluster.add(config_map(), manager="stateful.petset")
    cluster.fail_next(REFUSED, method="POST")
    with pytest.raises(errors.AlreadyExists):
        cluster.client().create(config_map())


def test_a_delete_whose_answer_was_lost_is_no_error(cluster: FakeCluster) -> None:
    cluster.add(config_map())
    cluster.fail_next(RESET, method="DELETE", land=True)
    assert cluster.client().delete(REF) is False
    assert cluster.all(kinds.CONFIG_MAP) == []


def test_rp_ans_04_update_reads_again_on_a_conflict(cluster: FakeCluster) -> None:
    cluster.add(config_map(k="0"))
    turns = iter(range(3))

    def change(live: dict[str, Any]) -> dict[str, Any]:
        if next(turns, None) is not None:
            cluster.edit(
                kinds.CONFIG_MAP, "a", "default", {"data": {"theirs": live["data"]["k"] + "x"}, "metadata": {}}
            )
            cluster.edit(kinds.CONFIG_MAP, "a", "default", {"data": {"k": live["data"]["k"] + "1"}})
        live["data"]["mine"] = "yes"
        return live

    made = cluster.client().update(REF, change)
    assert made["data"]["mine"] == "yes"
    assert made["data"]["k"] == "0111"


def test_rp_ans_04_update_gives_up_after_a_few_conflicts(cluster: FakeCluster) -> None:
    cluster.add(config_map(k="0"))

    def change(live: dict[str, Any]) -> dict[str, Any]:
        cluster.edit(kinds.CONFIG_MAP, "a", "default", {"data": {"k": live["data"]["k"] + "1"}})
        return {**live, "data": {"k": "mine"}}

    client = cluster.client()
    with pytest.raises(errors.Conflict):
        client.update(REF, change)
    assert len(client.writes()) == 5


def test_rp_ans_04_update_with_nothing_to_do_writes_nothing(cluster: FakeCluster) -> None:
    cluster.add(config_map())
    client = cluster.client()
    client.update(REF, lambda _live: None)
    assert client.writes() == ()
    with pytest.raises(errors.NotFound):
        client.update(ObjectRef(kinds.CONFIG_MAP, "no", "default"), lambda _live: None)


def test_apply_names_the_other_manager_and_force_takes_over(cluster: FakeCluster) -> None:
    client = cluster.client()
    client.apply(config_map(k="1"))
    cluster.edit(kinds.CONFIG_MAP, "a", "default", {"data": {"k": "2"}})
    with pytest.raises(errors.FieldConflict) as problem:
        client.apply(config_map(k="3"))
    assert problem.value.managers == {"kubectl-edit": [".data.k"]}
    assert client.apply(config_map(k="3"), force=True)["data"] == {"k": "3"}


def test_apply_of_the_same_changes_nothing_and_removes_what_it_owned(cluster: FakeCluster) -> None:
    client = cluster.client()
    first = client.apply(config_map(k="1", l="2"))
    assert client.apply(config_map(k="1", l="2"))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    cluster.edit(kinds.CONFIG_MAP, "a", "default", {"data": {"theirs": "x"}})
    assert client.apply(config_map(k="1"))["data"] == {"k": "1", "theirs": "x"}


def test_delete_with_the_uid_of_another_object(cluster: FakeCluster) -> None:
    cluster.add(config_map())
    with pytest.raises(errors.Conflict):
        cluster.client().delete(REF, uid="other")
    assert cluster.live(kinds.CONFIG_MAP, "a", "default") is not None


def test_a_merge_patch_with_an_old_resource_version(cluster: FakeCluster) -> None:
    cluster.add(config_map())
    with pytest.raises(errors.Conflict):
        cluster.client().patch(REF, {"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}})


def test_401_reads_the_credentials_once_more(cluster: FakeCluster) -> None:
    cluster.can_refresh = True
    cluster.fail_next(status(401))
    cluster.client().list(kinds.CONFIG_MAP, "default")
    assert cluster.refreshes == 1
    cluster.fail_next(status(401), times=9)
    with pytest.raises(errors.Unauthorized, match="may have expired"):
        cluster.client().list(kinds.CONFIG_MAP, "default")
    assert cluster.refreshes == 2


def test_errors_of_the_namespace(cluster: FakeCluster) -> None:
    client = cluster.client()
    with pytest.raises(errors.NamespaceMissing):
        client.create({**config_map(), "metadata": {"name": "a", "namespace": "nowhere"}})
    cluster.live(kinds.NAMESPACE, "default")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"  # type: ignore[index]
    with pytest.raises(errors.NamespaceTerminating):
        client.create(config_map())


def test_an_answer_that_is_not_json(cluster: FakeCluster) -> None:
    cluster.fail_next(Answer(200, {}, b"<html>login</html>"))
    with pytest.raises(errors.ApiError, match="not JSON"):
        cluster.client().list(kinds.CONFIG_MAP, "default")


def test_a_log_that_is_not_there_yet(cluster: FakeCluster) -> None:
    cluster.fail_next(status(400, "container is waiting to start"))
    assert cluster.client().pod_log("mysql-0", "default") is None
    # A drill ended with "status 204: status 204" when its workload's container was about to start.
    cluster.fail_next(Answer(204, {}, b""))
    assert cluster.client().pod_log("mysql-0", "default") is None
    cluster.fail_next(Answer(200, {}, b"line 1\nline 2\n"))
    client = cluster.client()
    assert client.pod_log("mysql-0", "default", previous=True) == "line 1\nline 2\n"
    assert client.count() == {"get pods/log": 1}


def test_the_api_in_use_is_described(cluster: FakeCluster) -> None:
    cluster.context = "lab"
    described = cluster.client().describe()
    assert described == {"host": "https://fake.invalid:6443", "source": "the test", "context": "lab"}
