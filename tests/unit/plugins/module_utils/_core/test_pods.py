# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import (
    OUT_OF_SERVICE,
    READY,
    Container,
    Event,
    Evidence,
    NodeState,
    Pod,
    Taint,
    Trouble,
    decide_create_trouble,
    decide_why_not_ready,
    last_lines,
    parse_event,
    parse_node,
    parse_ordinal,
    parse_pod,
)

UUID = "3f0c9b7e-0000-4000-8000-000000000001"


def pod_json(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "mysql-1",
            "uid": "u1",
            "resourceVersion": "7",
            "labels": {"controller-revision-hash": "mysql-abc"},
            "ownerReferences": [{"kind": "X", "uid": "no"}, {"kind": "StatefulSet", "uid": "set", "controller": True}],
        },
        "spec": {"nodeName": "n1"},
        "status": status,
    }


def test_a_pod_is_read() -> None:
    ready = {"type": "Ready", "status": "True"}
    container = {"name": "mysqld", "ready": True, "restartCount": 2, "state": {"running": {}}}
    prepare = {"name": "prepare", "restartCount": 1, "state": {"terminated": {"exitCode": 0, "message": told()}}}
    pod = parse_pod(
        pod_json(
            phase="Running",
            podIP="10.0.0.1",
            conditions=[ready],
            containerStatuses=[container],
            initContainerStatuses=[prepare],
        )
    )
    assert (pod.ordinal, pod.owner_uid, pod.revision, pod.node, pod.ip) == (1, "set", "mysql-abc", "n1", "10.0.0.1")
    assert pod.ready
    assert pod.restarts == 3
    assert pod.server_uuid == UUID


def told() -> str:
    return f"petset: prepared: ordinal=1 server_uuid={UUID} generation=1 data=known\n"


@pytest.mark.parametrize("obj", [{}, {"metadata": None, "status": None}, {"spec": {}, "status": {"conditions": None}}])
def test_an_empty_pod_is_not_ready(obj: dict[str, Any]) -> None:
    pod = parse_pod(obj)
    assert not pod.ready
    assert pod.uid == ""


def test_a_ready_condition_without_containers_is_not_believed() -> None:
    assert not parse_pod(pod_json(conditions=[{"type": "Ready", "status": "True"}])).ready


@pytest.mark.parametrize(
    ("name", "ordinal"), [("mysql-0", 0), ("a-b-12", 12), ("mysql", None), ("mysql-01", None), ("mysql-", None)]
)
def test_ordinals(name: str, ordinal: int | None) -> None:
    assert parse_ordinal(name) == ordinal


def test_events_of_both_apis() -> None:
    old = {"involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "message": "m", "lastTimestamp": "2026"}
    new = {
        "regarding": {"kind": "Pod", "name": "p"},
        "reason": "R",
        "note": "m",
        "series": {"lastObservedTime": "2026"},
    }
    assert parse_event(old) == parse_event({**new, "type": ""})
    assert parse_event(old).seen == "2026"


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False)])
def test_a_silent_node_is_not_ready(status: str, ready: bool) -> None:
    node = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
    assert parse_node(node).ready is ready
    assert parse_node({"metadata": {"name": "n1"}}).ready is None


# --- why not ready ---

MOUNT = 'MountVolume.SetUp failed for volume "x" : mount failed: exit status 32\nMounting command: mount\nOutput: '
CREATING = (
    Container("mysqld", waiting="PodInitializing"),
    Container("prepare", is_init=True, waiting="PodInitializing"),
)


def pod_with(**changes: Any) -> Pod:
    return Pod(**{"name": "mysql-0", "uid": "u", "node": "n1", "ordinal": 0, "phase": "Pending", **changes})


def mount_event(text: str, seen: str = "1", reason: str = "FailedMount") -> Event:
    return Event("Pod", "mysql-0", reason, text, seen=seen)


def crashed(code: int, *, init: bool = False, reason: str = "Error", restarts: int = 1, words: str = "") -> Container:
    name = "prepare" if init else "mysqld"
    return Container(
        name, init, restarts=restarts, waiting="CrashLoopBackOff", ended=reason, ended_message=words, exit_code=code
    )


HELPER = "bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program."


@pytest.mark.parametrize(
    ("said", "trouble", "words"),
    [
        (f"mount: /x: {HELPER}", Trouble.NO_NFS_CLIENT, "nfs-common"),
        ("mount: /x: unknown filesystem type 'nfs'.", Trouble.NO_NFS_CLIENT, "nfs-utils"),
        ("mount.nfs: Stale file handle for h:/a on /x", Trouble.STALE_HANDLE, "export the path again"),
        ("mount.nfs: access denied by server while mounting h:/a", Trouble.MOUNT_REFUSED, "access denied"),
        ("mount.nfs: Operation not permitted for h:/a on /x", Trouble.MOUNT_REFUSED, "not permitted"),
        ("mount.nfs: Protocol not supported", Trouble.MOUNT_REFUSED, "Protocol"),
        ("mount.nfs: mounting h:/a failed, reason given by server: No such file or directory",
         Trouble.EXPORT_MISSING, "create and export"),
        ("mount.nfs: Connection refused for h:/a on /x", Trouble.SERVER_UNREACHABLE, "2049"),
        ("mount.nfs: Connection timed out", Trouble.SERVER_UNREACHABLE, "2049"),
        ("mount.nfs: Failed to resolve server h.example: Name or service not known",
         Trouble.SERVER_UNREACHABLE, "h.example"),
        ("mount: /x: something new", Trouble.MOUNT, "something new"),
    ],
)  # fmt: skip
def test_why_a_volume_is_not_mounted(said: str, trouble: Trouble, words: str) -> None:
    why = decide_why_not_ready(pod_with(containers=CREATING), Evidence(events=(mount_event(MOUNT + said),)))
    assert why.trouble is trouble
    assert words in why.describe()
    assert "\n" not in why.describe()


def test_other_volumes_that_are_not_mounted() -> None:
    text = 'MountVolume.SetUp failed for volume "boot" : configmap "mysql-boot" not found'
    why = decide_why_not_ready(pod_with(containers=CREATING), Evidence(events=(mount_event(text),)))
    assert why.trouble is Trouble.CONFIG
    assert "mysql-boot" in why.seen


def waiting(reason: str, message: str = "") -> Container:
    return Container("mysqld", waiting=reason, waiting_message=message)


@pytest.mark.parametrize(
    ("container", "trouble", "words"),
    [
        (waiting("ImagePullBackOff", "manifest unknown"), Trouble.IMAGE, "manifest unknown"),
        (waiting("InvalidImageName"), Trouble.IMAGE, "InvalidImageName"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), Trouble.CONFIG, "not found"),
        (
            waiting(
                "CreateContainerError",
                'failed to generate spec: failed to stat "/var/lib/kubelet/pods/a/volumes/kubernetes.io~nfs/v-0": stat '
                "/var/lib/kubelet/pods/a/volumes/kubernetes.io~nfs/v-0: stale file handle",
            ),
            Trouble.STALE_HANDLE,
            "stale file handle",
        ),
        (
            waiting("CreateContainerError", "failed to create /x: mkdir /x: read-only file system"),
            Trouble.CONFIG,
            "mkdir /x",
        ),
        (waiting("SomethingNew", "odd"), Trouble.OTHER, "odd"),
        (crashed(139, words="a\nb\nSegmentation fault"), Trouble.CRASH, "Segmentation fault"),
        (crashed(137, reason="OOMKilled"), Trouble.OUT_OF_MEMORY, "memory"),
        (crashed(10, init=True, words="petset: refused: bad-environment: PETSET_SET"), Trouble.PREPARE, "PETSET_SET"),
        (crashed(13, init=True, words="petset: refused: read-only: x"), Trouble.READ_ONLY, "read-write"),
        (crashed(15, init=True, words="petset: refused: wrong-owner: x"), Trouble.WRONG_OWNER, "owner"),
        (crashed(16, init=True, words="petset: refused: no-space: x"), Trouble.DISK_FULL, "space"),
        (crashed(17, init=True, words="petset: refused: stale: x"), Trouble.STALE_HANDLE, "export the path again"),
        (crashed(20, init=True, words="petset: refused: unknown-content: x"), Trouble.FOLDER_OF_OTHER, "whose folder"),
        (crashed(21, init=True, words="petset: refused: data-missing: x"), Trouble.FOLDER_EMPTIED, "initialised over"),
        (crashed(22, init=True, words="petset: refused: known-pet-empty: x"), Trouble.FOLDER_EMPTIED, "bring it back"),
        (crashed(23, init=True, words="petset: refused: other-set: x"), Trouble.FOLDER_OF_OTHER, "whose folder"),
        (crashed(24, init=True, words="petset: refused: other-namespace: x"), Trouble.FOLDER_OF_OTHER, "whose folder"),
        (crashed(25, init=True, words="petset: refused: it belongs to pet 1"), Trouble.FOLDER_OF_OTHER, "to pet 1"),
        (crashed(26, init=True, words="petset: refused: uuid-mismatch: x"), Trouble.FOLDER_OF_OTHER, "whose folder"),
        (crashed(30, init=True, words="petset: refused: locked: x"), Trouble.FOLDER_LOCKED, "lease"),
        (crashed(1, words="[InnoDB] Error number 28 means 'No space left on device'"), Trouble.DISK_FULL, "space"),
        (crashed(1, words="Unable to lock ./ibdata1 error: 11"), Trouble.FOLDER_LOCKED, "locks"),
        (crashed(2, words="fsync(): Stale file handle"), Trouble.STALE_HANDLE, "mounted anew"),
        (crashed(1, words="Can't create x (OS errno 30 - Read-only file system)"), Trouble.READ_ONLY, "read-write"),
        (Container("mysqld", running=True), Trouble.STARTING, "not ready yet"),
        (Container("mysqld", running=True, exit_code=1, restarts=3), Trouble.STARTING, "not ready yet"),
        (Container("prepare", True, running=True), Trouble.STARTING, "prepare is at work"),
    ],
)
def test_why_a_container_is_not_ready(container: Container, trouble: Trouble, words: str) -> None:
    why = decide_why_not_ready(pod_with(containers=(container,)), Evidence())
    assert why.trouble is trouble
    assert words in why.describe()


def test_a_crash_without_a_word_in_the_status_is_told_by_the_log() -> None:
    why = decide_why_not_ready(pod_with(containers=(crashed(1),)), Evidence(logs={"mysqld": "Cannot open datafile"}))
    assert "Cannot open datafile" in why.seen


UNHEALTHY = Event("Pod", "mysql-0", "Unhealthy", "Readiness probe failed: not listening on port 3306 yet")
PENDING_CLAIM = Evidence(claim="db-mysql-0", claim_phase="Pending")
DEAD_NODE = Evidence(node=NodeState("n1", False, "Kubelet stopped posting"))


@pytest.mark.parametrize(
    ("changes", "evidence", "trouble", "words"),
    [
        ({"ready": True}, Evidence(), Trouble.NONE, "ready"),
        ({"node": "", "unscheduled": "0/2 nodes: 2 Insufficient memory."}, Evidence(), Trouble.SCHEDULING, "memory"),
        ({"node": "", "unscheduled": 'persistentvolumeclaim "c" not found'}, Evidence(), Trouble.CLAIM, '"c"'),
        (
            {"node": "", "unscheduled": "unbound immediate PersistentVolumeClaims"},
            PENDING_CLAIM,
            Trouble.CLAIM,
            "Pending",
        ),
        ({"node": ""}, Evidence(), Trouble.STARTING, "scheduler"),
        ({"containers": (Container("mysqld", running=True),)}, Evidence((UNHEALTHY,)), Trouble.PROBE, "not listening"),
        ({"containers": CREATING}, Evidence(), Trouble.STARTING, "node n1"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, Evidence(), Trouble.EVICTED, "memory"),
        ({"phase": "Failed", "reason": "NodeLost"}, Evidence(), Trouble.OTHER, "NodeLost"),
        ({"containers": CREATING}, DEAD_NODE, Trouble.NODE, "Kubelet stopped"),
        ({"deleting": True, "ready": True}, Evidence(), Trouble.TERMINATING, "shutting down"),
    ],
)
def test_why_a_pod_is_not_ready(changes: dict[str, Any], evidence: Evidence, trouble: Trouble, words: str) -> None:
    why = decide_why_not_ready(pod_with(**changes), evidence)
    assert why.trouble is trouble
    assert words in why.describe()


TAINT = "node.kubernetes.io/out-of-service"


def silent_node(*taints: dict[str, str]) -> NodeState:
    ready = {"type": "Ready", "status": "Unknown"}
    return parse_node({"metadata": {"name": "n2"}, "spec": {"taints": taints}, "status": {"conditions": [ready]}})


# As a node that is off has them by itself.
OWN_TAINTS = ({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},)


@pytest.mark.parametrize("state", [{"deleting": True}, {"phase": "Unknown"}, {"phase": "Running"}])
def test_rp_sts_06_a_pet_on_a_dead_node_is_waited_for_by_name_with_the_way_out(state: dict[str, Any]) -> None:
    why = decide_why_not_ready(pod_with(name="mysql-1", node="n2", **state), Evidence(node=silent_node(*OWN_TAINTS)))
    assert why.trouble is Trouble.NODE
    assert ("waiting for node n2, pet mysql-1 not replaced" in why.seen) is ("deleting" in state)
    # The taint only of a node that is off, and it comes off again: nothing else may be placed there.
    assert "power the node on; or, only when it is surely off" in why.way_out
    assert "run the playbook site with petset_nodes_off: [n2]" in why.way_out
    assert f"kubectl taint node n2 {TAINT}=nodeshutdown:NoExecute); once it is back" in why.way_out
    assert why.way_out.endswith(f"take the taint off: kubectl taint node n2 {TAINT}-")


@pytest.mark.parametrize("effect", ["NoExecute", "NoSchedule"])
@pytest.mark.parametrize("state", [{"deleting": True}, {"phase": "Unknown"}])
def test_rp_sts_06_a_node_that_is_said_to_be_off_is_not_to_be_tainted_again(state: dict[str, Any], effect: str) -> None:
    node = silent_node(*OWN_TAINTS, {"key": TAINT, "value": "nodeshutdown", "effect": effect})
    why = decide_why_not_ready(pod_with(name="mysql-1", node="n2", **state), Evidence(node=node))
    assert why.trouble is Trouble.NODE
    assert f"it has the taint {TAINT} already, by which mysql-1 is let go" in why.seen
    assert "=nodeshutdown" not in why.describe()
    assert "power the node on" not in why.describe()
    assert why.way_out == f"once the node is back, take the taint off: kubectl taint node n2 {TAINT}-"


def test_a_taint_that_was_left_on_a_node_that_is_back_is_named() -> None:
    node = NodeState("n1", True, taints=(Taint(OUT_OF_SERVICE),))
    why = decide_why_not_ready(pod_with(deleting=True), Evidence(node=node))
    assert why.trouble is Trouble.TERMINATING
    assert why.way_out == f"take the taint off: kubectl taint node n1 {TAINT}-"
    text = f"0/1 nodes are available: 1 node(s) had untolerated taint {{{TAINT}: nodeshutdown}}."
    why = decide_why_not_ready(pod_with(node="", unscheduled=text), Evidence())
    assert why.trouble is Trouble.SCHEDULING
    assert f"kubectl taint node NODE {TAINT}-" in why.way_out


NOW_S = 1795000000.0


def ago(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(NOW_S - seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


LOCKED = Event(
    "Pod", "mysql-0", "Unhealthy", "Startup probe failed: still checking the volume, or waiting for its lock"
)


@pytest.mark.parametrize(
    ("started", "age_s", "events", "trouble", "overdue", "words"),
    [
        (False, 12, (), Trouble.STARTING, False, "container mysqld runs for 12 s, its startup probe has not passed"),
        (
            False,
            12,
            (LOCKED,),
            Trouble.PROBE,
            False,
            "for 12 s, its startup probe has not passed: Startup probe failed",
        ),
        (
            False,
            412,
            (LOCKED,),
            Trouble.PROBE,
            True,
            "for 412 s, its startup probe has not passed: Startup probe failed",
        ),
        # Events are kept for an hour, and not everybody may read them.
        (False, 4000, (), Trouble.PROBE, True, "runs for 4000 s, its startup probe has not passed"),
        (True, 412, (), Trouble.STARTING, False, "runs for 412 s, its readiness probe has not passed"),
        (True, 412, (UNHEALTHY,), Trouble.PROBE, False, "its readiness probe has not passed: Readiness probe failed"),
        (True, 4000, (UNHEALTHY,), Trouble.PROBE, True, "for 4000 s, its readiness probe has not passed"),
        (None, 412, (UNHEALTHY,), Trouble.PROBE, False, "container mysqld runs for 412 s: Readiness probe failed"),
        # The clock here is behind that of the cluster.
        (False, -90, (), Trouble.STARTING, False, "container mysqld runs, its startup probe has not passed"),
    ],
)
def test_a_start_is_told_with_its_probe_and_how_long_it_takes(
    started: bool | None, age_s: float, events: tuple[Event, ...], trouble: Trouble, overdue: bool, words: str
) -> None:
    status = {"name": "mysqld", "state": {"running": {"startedAt": ago(age_s)}}}
    container = parse_pod(pod_json(containerStatuses=[status | ({} if started is None else {"started": started})]))
    why = decide_why_not_ready(container, Evidence(events=events, now_s=NOW_S))
    assert (why.trouble, why.overdue) == (trouble, overdue)
    assert words in why.describe()


@pytest.mark.parametrize(("age_s", "overdue"), [(20, False), (900, True)])
def test_a_pod_that_does_not_get_to_its_containers_is_told_with_its_age(age_s: float, overdue: bool) -> None:
    """A preparation that hangs on its volume, a mount without a word from mount(8), a node that does not begin."""
    status = {"name": "prepare", "state": {"running": {"startedAt": ago(age_s)}}}
    preparing = parse_pod(pod_json(startTime=ago(age_s), initContainerStatuses=[status]))
    begun = parse_pod(pod_json(startTime=ago(age_s)))
    why = decide_why_not_ready(preparing, Evidence(now_s=NOW_S))
    assert (why.trouble, why.overdue) == (Trouble.STARTING, overdue)
    assert f"container prepare is at work for {age_s} s" in why.seen
    why = decide_why_not_ready(begun, Evidence(now_s=NOW_S))
    assert (why.trouble, why.overdue) == (Trouble.STARTING, overdue)
    assert f"being started on node n1 for {age_s} s" in why.seen
    why = decide_why_not_ready(begun, Evidence((mount_event("timed out"),), now_s=NOW_S))
    assert (why.trouble, why.overdue) == (Trouble.MOUNT, overdue)


def test_the_newest_mount_error_counts() -> None:
    events = (
        mount_event(MOUNT + "mount.nfs: access denied by server", "2"),
        mount_event(MOUNT + "mount.nfs: Connection refused", "1"),
    )
    why = decide_why_not_ready(pod_with(containers=CREATING), Evidence(events=events))
    assert why.trouble is Trouble.MOUNT_REFUSED


def test_an_old_mount_error_does_not_explain_a_started_pet() -> None:
    events = (mount_event(MOUNT + "mount.nfs: access denied by server"),)
    pod = pod_with(containers=(Container("mysqld", running=True),))
    assert decide_why_not_ready(pod, Evidence(events=events)).trouble is Trouble.STARTING


@pytest.mark.parametrize(("code", "restarts", "final"), [(25, 1, True), (25, 0, False), (30, 5, False), (1, 5, False)])
def test_only_a_refusal_that_time_does_not_mend_ends_the_wait(code: int, restarts: int, final: bool) -> None:
    pod = pod_with(containers=(crashed(code, init=True, restarts=restarts),))
    assert decide_why_not_ready(pod, Evidence()).final is final


def refused(message: str, seen: str = "1") -> Event:
    text = f"create Pod mysql-1 in StatefulSet mysql failed error: {message}"
    return Event("StatefulSet", "mysql", "FailedCreate", text, seen=seen)


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        ('pods "mysql-1" is forbidden: exceeded quota: q, requested: memory=1Gi', Trouble.QUOTA),
        ('pods "mysql-1" is forbidden: violates PodSecurity "restricted:latest"', Trouble.ADMISSION),
        ('admission webhook "x.example" denied the request: no', Trouble.ADMISSION),
        ("failed to create PersistentVolumeClaim db-mysql-1: forbidden", Trouble.CLAIM),
        ("something else", Trouble.NOT_CREATED),
    ],
)
def test_why_the_controller_made_no_pod(message: str, trouble: Trouble) -> None:
    why = decide_create_trouble("mysql-1", [refused(message)])
    assert why.trouble is trouble
    assert message in why.seen


def test_events_about_another_pet_do_not_count() -> None:
    assert decide_create_trouble("mysql-11", [refused("exceeded quota: q")]).trouble is Trouble.NOT_CREATED
    assert decide_create_trouble("mysql-1", []).seen == "the pod has not been created yet"


def test_only_the_last_lines_are_quoted() -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    assert last_lines(text, 2) == "line 98 | line 99"
    assert len(last_lines("x" * 5000)) <= 900
    assert last_lines("") == ""


def test_ready_is_ready() -> None:
    assert decide_why_not_ready(pod_with(ready=True), Evidence()) is READY
