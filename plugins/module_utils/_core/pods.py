# Copyright: (c) 2026, stateful.petset contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pet's pod as the API server shows it, and why it is not ready, in one sentence with the way out.

Nothing here asks the cluster: the caller brings pods, events, the node and the log that it could read; what it could
not read is None or empty and never taken for good news.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

Json = Any

POD_INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"
REVISION_LABEL: Final = "controller-revision-hash"
# Enough to see the reason, little enough to read: lines of a crashed container's log that a message quotes.
LOG_LINES: Final = 8
_PREPARED: Final = re.compile(r"petset: prepared: .*\bserver_uuid=(?P<uuid>[0-9a-fA-F-]{36})\b")


class Trouble(enum.Enum):
    """Why a pet is not ready. The value is the stable word in results, by which a play may decide."""

    NONE = "none"
    NOT_CREATED = "not_created"
    QUOTA = "quota"
    ADMISSION = "admission"
    SCHEDULING = "scheduling"
    CLAIM = "claim"
    IMAGE = "image"
    CONFIG = "config"
    NO_NFS_CLIENT = "no_nfs_client"
    MOUNT_REFUSED = "mount_refused"
    EXPORT_MISSING = "export_missing"
    SERVER_UNREACHABLE = "server_unreachable"
    MOUNT = "mount"
    PREPARE = "prepare"
    FOLDER_EMPTIED = "folder_emptied"
    FOLDER_OF_OTHER = "folder_of_other"
    FOLDER_LOCKED = "folder_locked"
    READ_ONLY = "read_only"
    DISK_FULL = "disk_full"
    STALE_HANDLE = "stale_handle"
    WRONG_OWNER = "wrong_owner"
    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    PROBE = "probe"
    STARTING = "starting"
    NODE = "node"
    EVICTED = "evicted"
    TERMINATING = "terminating"
    OLD_REVISION = "old_revision"
    ROLLOUT_STUCK = "rollout_stuck"
    FOREIGN = "foreign"
    OTHER = "other"


# Exit statuses of the pet's start-up program when it refuses (roles/pet_set/files/boot/lib.sh), and those of them that
# stay so until somebody does something: another's folder, lost data, a wrong setting or Secret.
REFUSALS: Final = frozenset(range(10, 44))
FINAL_REFUSALS: Final = frozenset({*range(20, 28), 40, 41, 42})
# Those that are a trouble with a name of its own; the others are Trouble.PREPARE.
_REFUSED_FOR: Final[Mapping[int, Trouble]] = {
    13: Trouble.READ_ONLY,
    15: Trouble.WRONG_OWNER,
    16: Trouble.DISK_FULL,
    17: Trouble.STALE_HANDLE,
    20: Trouble.FOLDER_OF_OTHER,
    21: Trouble.FOLDER_EMPTIED,
    22: Trouble.FOLDER_EMPTIED,
    23: Trouble.FOLDER_OF_OTHER,
    24: Trouble.FOLDER_OF_OTHER,
    25: Trouble.FOLDER_OF_OTHER,
    26: Trouble.FOLDER_OF_OTHER,
    30: Trouble.FOLDER_LOCKED,
}
# The kernel's and InnoDB's words for the same troubles, when they met a program at its work.
_STORAGE_WORDS: Final = (
    (Trouble.DISK_FULL, r"No space left on device|disk full|Disk is full|quota exceeded|errno: 28\b|error: 28\b"),
    (Trouble.STALE_HANDLE, r"Stale (NFS )?file handle|errno: 116\b"),
    (Trouble.READ_ONLY, r"Read-only file system|errno: 30\b|error: 30\b"),
    (Trouble.FOLDER_LOCKED, r"Unable to lock \S+,? error: 11\b"),
)

# With it the pods of a node that is not Ready are let go. Only its key counts, and no controller sets it: a node has it
# because somebody said that it is off.
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"

# What each trouble needs; None where time is the answer.
WAY_OUT: Final[Mapping[Trouble, str]] = {
    Trouble.QUOTA: "raise the quota of the namespace, or ask for less in the resources of the set",
    Trouble.ADMISSION: "ask who runs the admission rule that is named; pets comply with Pod Security 'restricted'",
    Trouble.SCHEDULING: "free or add a node, or change the resources, node selector or tolerations of the set",
    Trouble.CLAIM: "make the volume and the claim first (role pet_volumes), then run again",
    Trouble.IMAGE: "correct the image, the pull secret or the node's way to the registry",
    Trouble.CONFIG: "create the object or the key that is named",
    Trouble.NO_NFS_CLIENT: "install the NFS client on the node (nfs-common on Debian, nfs-utils on Red Hat)",
    Trouble.MOUNT_REFUSED: "export the path to this node (role nfs_exports); mind the name the server sees it by",
    Trouble.EXPORT_MISSING: "create and export the path on the server (role nfs_exports)",
    Trouble.SERVER_UNREACHABLE: "look at the NFS server and at the way from the node to its port 2049",
    Trouble.PREPARE: "the pet's own check refused to start; do what its last words say",
    Trouble.FOLDER_EMPTIED: "mount the export that holds its data, or bring it back; nothing is initialised over it",
    Trouble.FOLDER_OF_OTHER: "find out whose folder is mounted, and correct the volume's path; the data is not touched",
    Trouble.FOLDER_LOCKED: "wait until the server frees a dead node's locks (its lease); else stop who uses the folder"
    " (docs/boot.md, Locks)",
    Trouble.READ_ONLY: "export it read-write (role nfs_exports), or correct the mount options; then delete the pod",
    Trouble.DISK_FULL: "free or add space on the server; MySQL goes on by itself",
    Trouble.STALE_HANDLE: "export the path again (role nfs_exports) and see that its folder is the old one; then delete"
    " the pod, so that it is mounted anew, one pet after the other",
    Trouble.WRONG_OWNER: "set the folder's owner on the server (role nfs_exports)",
    Trouble.OUT_OF_MEMORY: "raise the memory limit of the set",
    # For those that know the trouble alone; _why_node knows the node, and whether it has the taint.
    Trouble.NODE: "power the node on; or, only when it is surely off, fence it and name it in petset_nodes_off for a"
    f" run of the playbook site, which sets the taint {OUT_OF_SERVICE}=nodeshutdown:NoExecute unless it is there; take"
    " the taint off once the node is back",
    Trouble.ROLLOUT_STUCK: "correct what is named and run the playbook site: it replaces pods of an old revision that"
    " are not ready",
    Trouble.EVICTED: "free the resource on the node that the message names",
}


@dataclass(frozen=True, slots=True)
class Container:
    """State of one container; ``waiting`` and ``ended`` are reasons, empty when it is not waiting or never ended.

    ``since``    time of day since when it runs, as the API server wrote it
    ``started``  whether its startup probe has passed; None when nobody says so
    """

    name: str
    is_init: bool = False
    sidecar: bool = False
    ready: bool = False
    running: bool = False
    restarts: int = 0
    waiting: str = ""
    waiting_message: str = ""
    ended: str = ""
    ended_message: str = ""
    exit_code: int | None = None
    since: str = ""
    started: bool | None = None


@dataclass(frozen=True, slots=True)
class Toleration:
    """As in a pod; an empty key or effect stands for all of them."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Taint:
    """As in a node; ``effect`` is NoSchedule, NoExecute, or PreferNoSchedule, which keeps no pod away."""

    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """What counts of a pod. ``ordinal`` is None when its name does not end in one; ``owner_uid``: its controller.

    ``since``   time of day since when its node has it
    ``index``   the ordinal as its label has it, empty without the label
    ``claims``  name of each of its volumes that is a claim, and of that claim
    ``node_selector``  labels that its node must have
    """

    name: str
    uid: str
    resource_version: str = ""
    ordinal: int | None = None
    owner_uid: str = ""
    revision: str = ""
    phase: str = ""
    ready: bool = False
    deleting: bool = False
    node: str = ""
    ip: str = ""
    reason: str = ""
    message: str = ""
    unscheduled: str = ""
    containers: tuple[Container, ...] = ()
    index: str = ""
    claims: tuple[tuple[str, str], ...] = ()
    since: str = ""
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()

    @property
    def server_uuid(self) -> str:
        """Who MySQL is in there, as the pet's own check told when it let it start; empty when that is not known."""
        told = (_PREPARED.search(one.ended_message) for one in self.containers if one.is_init and one.exit_code == 0)
        return next((found["uuid"] for found in told if found), "")

    @property
    def restarts(self) -> int:
        """Restarts of all its containers so far."""
        return sum(one.restarts for one in self.containers)


@dataclass(frozen=True, slots=True)
class Event:
    """An event about an object; ``seen`` is the last time as the API server wrote it, good for sorting only."""

    kind: str
    name: str
    reason: str
    message: str
    uid: str = ""
    type: str = "Warning"
    seen: str = ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node: ``ready`` is None when it could not be read (no permission). ``unschedulable``: it is cordoned."""

    name: str
    ready: bool | None = None
    message: str = ""
    taints: tuple[Taint, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    unschedulable: bool = False

    @property
    def out_of_service(self) -> bool:
        """Whether it has that taint."""
        return any(one.key == OUT_OF_SERVICE for one in self.taints)


@dataclass(frozen=True, slots=True)
class WhyNot:
    """One pet's trouble: the kind, what was seen, what to do (may be empty); ``final`` when time will not mend it.

    ``overdue``: it may pass by itself, and has lasted for longer than it takes when all is well.
    """

    trouble: Trouble
    seen: str
    way_out: str = ""
    final: bool = False
    overdue: bool = False

    def describe(self) -> str:
        """One sentence for a person."""
        return f"{self.seen}; {self.way_out}" if self.way_out else self.seen


READY: Final = WhyNot(Trouble.NONE, "ready")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What could be read about one pet beside its pod. ``logs`` holds a container's last lines by its name.

    ``now_s``: the time of day of this look, in seconds since 1970; None when how long something lasts does not matter.
    """

    events: tuple[Event, ...] = ()
    set_events: tuple[Event, ...] = ()
    node: NodeState | None = None
    claim_phase: str | None = None
    claim: str = ""
    logs: Mapping[str, str] = field(default_factory=dict)
    now_s: float | None = None


def parse_pod(obj: Mapping[str, Json]) -> Pod:
    """Read a pod's JSON; fields that are not there get their empty value."""
    meta, spec, status = _map(obj, "metadata"), _map(obj, "spec"), _map(obj, "status")
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    owners: list[Mapping[str, Json]] = [one for one in meta.get("ownerReferences") or () if one.get("controller")]
    name = str(meta.get("name", ""))
    inits: list[Mapping[str, Json]] = spec.get("initContainers") or []
    sidecars = {str(one.get("name")) for one in inits if one.get("restartPolicy") == "Always"}
    return Pod(
        name=name,
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        ordinal=parse_ordinal(name),
        owner_uid=str(owners[0].get("uid", "")) if owners else "",
        revision=str(_map(meta, "labels").get(REVISION_LABEL, "")),
        phase=str(status.get("phase", "")),
        ready=(conditions.get("Ready") or {}).get("status") == "True" and bool(status.get("containerStatuses")),
        deleting=meta.get("deletionTimestamp") is not None,
        node=str(spec.get("nodeName") or ""),
        ip=str(status.get("podIP") or ""),
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or ""),
        unscheduled=str(scheduled.get("message") or scheduled.get("reason") or "not scheduled yet")
        if scheduled.get("status") == "False"
        else "",
        containers=tuple(
            [_parse_container(one, True, str(one.get("name")) in sidecars) for one in _init_statuses(status)]
            + [_parse_container(one, False) for one in status.get("containerStatuses") or ()]
        ),
        index=str(_map(meta, "labels").get(POD_INDEX_LABEL, "")),
        claims=tuple(
            (str(one.get("name", "")), str(_map(one, "persistentVolumeClaim").get("claimName", "")))
            for one in spec.get("volumes") or ()
            if _map(one, "persistentVolumeClaim")
        ),
        since=str(status.get("startTime") or ""),
        node_selector=tuple((str(key), str(value)) for key, value in sorted(_map(spec, "nodeSelector").items())),
        tolerations=tuple(
            Toleration(
                str(one.get("key") or ""),
                str(one.get("operator") or "Equal"),
                str(one.get("value") or ""),
                str(one.get("effect") or ""),
            )
            for one in spec.get("tolerations") or ()
        ),
    )


def redact_pod(pod: Pod, hide: Callable[[str], str]) -> Pod:
    """The pod without secrets in the words that may be quoted. What a check that went well has told stays."""
    return replace(
        pod,
        message=hide(pod.message),
        unscheduled=hide(pod.unscheduled),
        containers=tuple(
            one
            if one.is_init and one.exit_code == 0
            else replace(one, waiting_message=hide(one.waiting_message), ended_message=hide(one.ended_message))
            for one in pod.containers
        ),
    )


def redact_events(events: Iterable[Event], hide: Callable[[str], str]) -> tuple[Event, ...]:
    """The events without secrets in their words."""
    return tuple(replace(one, message=hide(one.message)) for one in events)


def redact_evidence(evidence: Evidence, hide: Callable[[str], str]) -> Evidence:
    """The evidence without secrets in its words. Logs are hidden where they are read, before they are cut."""
    return replace(
        evidence,
        events=redact_events(evidence.events, hide),
        set_events=redact_events(evidence.set_events, hide),
        node=evidence.node and replace(evidence.node, message=hide(evidence.node.message)),
    )


def _map(obj: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    value = obj.get(key)
    return value if isinstance(value, Mapping) else {}


def _init_statuses(status: Mapping[str, Json]) -> Sequence[Mapping[str, Json]]:
    return status.get("initContainerStatuses") or ()


def _parse_container(obj: Mapping[str, Json], is_init: bool, sidecar: bool = False) -> Container:
    state, last = _map(obj, "state"), _map(obj, "lastState")
    waiting = _map(state, "waiting")
    ended = _map(state, "terminated") or _map(last, "terminated")
    code = ended.get("exitCode")
    return Container(
        name=str(obj.get("name", "")),
        is_init=is_init,
        sidecar=sidecar,
        ready=bool(obj.get("ready")),
        running=bool(state.get("running")),
        restarts=int(obj.get("restartCount") or 0),
        waiting=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or ""),
        ended=str(ended.get("reason") or ("Error" if code else "")),
        ended_message=str(ended.get("message") or ""),
        exit_code=code if isinstance(code, int) else None,
        since=str(_map(state, "running").get("startedAt") or ""),
        started=started if isinstance(started := obj.get("started"), bool) else None,
    )


def parse_ordinal(pod_name: str) -> int | None:
    """The ordinal at the end of a pod's name.

    >>> parse_ordinal("mysql-10"), parse_ordinal("mysql-x"), parse_ordinal("mysql-01")
    (10, None, None)
    """
    match = re.search(r"-(0|[1-9][0-9]*)$", pod_name)
    return int(match.group(1)) if match else None


def parse_event(obj: Mapping[str, Json]) -> Event:
    """Read an event of core/v1 or of events.k8s.io."""
    about = _map(obj, "involvedObject") or _map(obj, "regarding")
    series = _map(obj, "series")
    seen = obj.get("lastTimestamp") or series.get("lastObservedTime") or obj.get("eventTime") or ""
    return Event(
        kind=str(about.get("kind", "")),
        name=str(about.get("name", "")),
        uid=str(about.get("uid", "")),
        reason=str(obj.get("reason", "")),
        message=str(obj.get("message") or obj.get("note") or ""),
        type=str(obj.get("type", "")),
        seen=str(seen),
    )


def parse_node(obj: Mapping[str, Json]) -> NodeState:
    """Read whether a node is Ready and whom it takes; "Unknown" (its kubelet is silent) is not ready."""
    meta, spec = _map(obj, "metadata"), _map(obj, "spec")
    node = NodeState(
        str(meta.get("name", "")),
        taints=tuple(
            Taint(str(one.get("key") or ""), str(one.get("value") or ""), str(one.get("effect") or ""))
            for one in spec.get("taints") or ()
        ),
        labels=tuple((str(key), str(value)) for key, value in sorted(_map(meta, "labels").items())),
        unschedulable=bool(spec.get("unschedulable")),
    )
    for one in _map(obj, "status").get("conditions") or ():
        if one.get("type") == "Ready":
            return replace(node, ready=one.get("status") == "True", message=str(one.get("message") or ""))
    return node


# --- why a pet is not ready ------------------------------------------------------------------------------------------

# Words of kubelet, mount(8), mount.nfs(8) and the kernel, most telling first. Seen with util-linux 2.36 to 2.41 and
# nfs-utils 1.3 to 2.8.
_MOUNT_WORDS: Final = (
    (Trouble.NO_NFS_CLIENT, r"bad option; for several filesystems|unknown filesystem type '?nfs|"
                            r"mount\.nfs4?: (not found|No such)"),
    (Trouble.EXPORT_MISSING, r"mount\.nfs4?:.*(No such file or directory|does not exist)|"
                             r"reason given by server: No such file"),
    (Trouble.STALE_HANDLE, r"Stale (NFS )?file handle"),
    (Trouble.MOUNT_REFUSED, r"access denied by server|Operation not permitted|mount\.nfs4?: Permission denied"),
    (Trouble.SERVER_UNREACHABLE, r"Connection refused|Connection timed out|timed out while mounting|No route to host|"
                                 r"Network is unreachable|Failed to resolve server|Name or service not known|"
                                 r"Temporary failure in name resolution"),
    (Trouble.MOUNT_REFUSED, r"Protocol not supported|requested NFS version or transport protocol is not supported"),
    (Trouble.CONFIG, r"(configmap|secret) \"?[^\" ]+\"? not found|references non-existent (config|secret) key"),
)  # fmt: skip
_IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CONFIG_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"}
)

# A pet's check of its volume waits for a dead node's locks and for a server's grace period, 90 s each; a mysqld that
# runs may be recovering what it has, which takes as long as there is data.
OVERDUE_S: Final = 300
OVERDUE_RECOVERY_S: Final = 3600


def decide_create_trouble(pod_name: str, events: Iterable[Event]) -> WhyNot:
    """Why the set's controller has not made this pod, from the events of the set."""
    failed = [one for one in events if one.reason in ("FailedCreate", "FailedUpdate") and pod_name in _names_in(one)]
    if not failed:
        return WhyNot(Trouble.NOT_CREATED, "the pod has not been created yet")
    text = max(failed, key=lambda one: one.seen).message
    if "exceeded quota" in text or "must specify" in text:
        trouble = Trouble.QUOTA
    elif "PersistentVolumeClaim" in text:
        trouble = Trouble.CLAIM
    elif "forbidden" in text or "denied the request" in text or "admission webhook" in text:
        trouble = Trouble.ADMISSION
    else:
        trouble = Trouble.NOT_CREATED
    return _why(trouble, f"the pod was refused: {_shorten(text)}")


def _names_in(event: Event) -> frozenset[str]:
    """Names of pods in an event of the set ("create Pod mysql-1 in StatefulSet mysql failed error: ...")."""
    return frozenset(re.findall(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", event.message))


def decide_why_not_ready(pod: Pod, evidence: Evidence) -> WhyNot:
    """Why this pod is not ready, from the outermost cause to the innermost; READY when it is.

    Order matters: a node that is gone explains all below it, a mount that fails explains a container that waits.
    """
    if pod.deleting:
        return _why_deleting(pod, evidence.node)
    if pod.ready:
        return READY
    if pod.phase == "Failed":
        if pod.reason == "Evicted":
            return _why(Trouble.EVICTED, f"evicted: {_shorten(pod.message)}")
        # The controller replaces a failed pod.
        return WhyNot(Trouble.OTHER, f"the pod has failed: {_shorten(pod.message or pod.reason or 'no reason given')}")
    if not pod.node:
        return _why_unscheduled(pod, evidence)
    if evidence.node is not None and evidence.node.ready is False:
        return _why_node(
            pod, evidence.node, f"node {pod.node} is not Ready ({_shorten(evidence.node.message) or 'silent'})"
        )
    for container in pod.containers:
        why = _why_container(container, evidence)
        if why is not None:
            return why
    return _why_mount(pod, evidence) or _why_probe(pod, evidence)


def _why_deleting(pod: Pod, node: NodeState | None) -> WhyNot:
    if node is not None and node.ready is False:
        return _why_node(pod, node, f"waiting for node {pod.node}, pet {pod.name} not replaced: the node is not Ready")
    seen = f"the old pod is shutting down on node {pod.node or '(none)'}"
    if node is not None and node.ready and node.out_of_service:
        return WhyNot(
            Trouble.TERMINATING,
            f"{seen}, which runs and has the taint {OUT_OF_SERVICE} all the same, so that it keeps no pod",
            describe_untaint(node.name),
        )
    return WhyNot(Trouble.TERMINATING, seen)


def _why_node(pod: Pod, node: NodeState, seen: str) -> WhyNot:
    """Whether the node is off, or only cannot be heard, nothing here can know: that is for a person to say."""
    if node.out_of_service:
        return WhyNot(
            Trouble.NODE,
            f"{seen}; it has the taint {OUT_OF_SERVICE} already, by which {pod.name} is let go and starts on"
            " another node",
            f"once the node is back, {describe_untaint(node.name)}",
        )
    return WhyNot(
        Trouble.NODE,
        seen,
        f"power the node on; or, only when it is surely off (one that still runs would write to the same folder), fence"
        f" it and run the playbook site with petset_nodes_off: [{node.name}], which has it let go of its pets (as does:"
        f" kubectl taint node {node.name} {OUT_OF_SERVICE}=nodeshutdown:NoExecute); once it is back,"
        f" {describe_untaint(node.name)}",
    )


def describe_untaint(node: str) -> str:
    """What to do with the taint of a node that is back."""
    return f"take the taint off: kubectl taint node {node} {OUT_OF_SERVICE}-"


def _why_unscheduled(pod: Pod, evidence: Evidence) -> WhyNot:
    text = pod.unscheduled
    if evidence.claim_phase is not None and evidence.claim_phase != "Bound" and "persistentvolumeclaim" in text.lower():
        return _why(Trouble.CLAIM, f"claim {evidence.claim} is {evidence.claim_phase}: {_shorten(text)}")
    if re.search(r'persistentvolumeclaim "?[^" ]*"? not found|unbound immediate', text):
        return _why(Trouble.CLAIM, _shorten(text))
    if text:
        why = _why(Trouble.SCHEDULING, f"no node takes it: {_shorten(text)}")
        if OUT_OF_SERVICE in text:
            way_out = (
                f"{why.way_out}; of a node that is back take the taint off: kubectl taint node NODE {OUT_OF_SERVICE}-"
            )
            return replace(why, way_out=way_out)
        return why
    return WhyNot(Trouble.STARTING, "waiting for the scheduler")


def _why_container(container: Container, evidence: Evidence) -> WhyNot | None:
    """The trouble of one container, or None when it has none that it shows."""
    where = f"container {container.name}"
    if container.waiting in _IMAGE_REASONS:
        return _why(Trouble.IMAGE, f"{where}: {container.waiting}: {_shorten(container.waiting_message)}")
    if container.waiting in _CONFIG_REASONS:
        said = container.waiting_message
        # A volume that is mounted and does not answer as it should is looked at before the container is made.
        trouble = find_storage_trouble(said) if "/volumes/kubernetes.io~" in said else None
        return _why(trouble or Trouble.CONFIG, f"{where}: {container.waiting}: {_shorten(said)}")
    crashed = container.exit_code not in (None, 0) and not container.running
    if not crashed and container.waiting != "CrashLoopBackOff":
        return None
    words = last_lines(container.ended_message or evidence.logs.get(container.name, ""))
    said = f"; its last words: {words}" if words else ""
    ended = f"{where} ended with exit status {container.exit_code}, {container.restarts} restarts"
    if container.ended == "OOMKilled":
        return _why(Trouble.OUT_OF_MEMORY, f"{ended}: killed for memory{said}")
    if container.exit_code in REFUSALS:
        trouble = _REFUSED_FOR.get(container.exit_code or 0, Trouble.PREPARE)
    else:
        trouble = find_storage_trouble(words) or Trouble.CRASH
    return _why(trouble, ended + said, final=container.exit_code in FINAL_REFUSALS and container.restarts > 0)


def find_storage_trouble(words: str) -> Trouble | None:
    """The trouble that an error of the volume's is about; None when the words are about something else.

    >>> find_storage_trouble("dd: writing 'x': No space left on device")
    <Trouble.DISK_FULL: 'disk_full'>
    """
    return next((trouble for trouble, sign in _STORAGE_WORDS if re.search(sign, words, re.IGNORECASE)), None)


def _why_mount(pod: Pod, evidence: Evidence) -> WhyNot | None:
    """A mount that fails, told by the newest event about it; only while no container has started."""
    if any(one.running or one.exit_code is not None for one in pod.containers):
        return None
    reasons = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
    failed = sorted((one for one in evidence.events if one.reason in reasons), key=lambda one: one.seen)
    for event in reversed(failed):
        for trouble, words in _MOUNT_WORDS:
            if re.search(words, event.message, re.IGNORECASE):
                return _why(trouble, f"node {pod.node} cannot mount: {_shorten(_mount_output(event.message))}")
    if failed:
        why = _why(Trouble.MOUNT, f"node {pod.node} cannot mount: {_shorten(_mount_output(failed[-1].message))}")
        return replace(why, overdue=_age_s(pod.since, evidence.now_s) >= OVERDUE_S)
    return None


def _mount_output(message: str) -> str:
    """The part of kubelet's message that mount itself said; all of it when there is no such part."""
    match = re.search(r"Output: (.+)", message, re.DOTALL)
    return match.group(1) if match else message


def _why_probe(pod: Pod, evidence: Evidence) -> WhyNot:
    unhealthy = sorted((one for one in evidence.events if one.reason == "Unhealthy"), key=lambda one: one.seen)
    started = [one for one in pod.containers if one.running and not one.is_init]
    # A sidecar runs all the time; only a container that has to end first is at work.
    preparing = [one for one in pod.containers if one.is_init and one.running and not one.sidecar]
    if started:
        one = next((one for one in started if not one.ready), started[0])
        return _why_not_answering(one, unhealthy[-1].message if unhealthy else "", evidence.now_s)
    if preparing:
        age_s = _age_s(preparing[0].since, evidence.now_s)
        seen = f"container {preparing[0].name} is at work{_for(age_s)}"
        return WhyNot(Trouble.STARTING, seen, overdue=age_s >= OVERDUE_S)
    waiting = next((one for one in pod.containers if one.waiting), None)
    if waiting is not None and waiting.waiting not in ("ContainerCreating", "PodInitializing"):
        return WhyNot(
            Trouble.OTHER, f"container {waiting.name}: {waiting.waiting}: {_shorten(waiting.waiting_message)}"
        )
    age_s = _age_s(pod.since, evidence.now_s)
    return WhyNot(Trouble.STARTING, f"being started on node {pod.node}{_for(age_s)}", overdue=age_s >= OVERDUE_S)


def _why_not_answering(container: Container, said: str, now_s: float | None) -> WhyNot:
    """A container that runs and does not pass its probe: which one, for how long, and the probe's last words."""
    age_s = _age_s(container.since, now_s)
    overdue = age_s >= (OVERDUE_S if container.started is False else OVERDUE_RECOVERY_S)
    probe = {False: "startup probe", True: "readiness probe", None: ""}[container.started]
    where = f"container {container.name} runs{_for(age_s)}" + (f", its {probe} has not passed" if probe else "")
    where += f", {container.restarts} restarts" if container.restarts else ""
    if not said and not overdue:
        return WhyNot(Trouble.STARTING, f"started, not ready yet: {where}")
    return replace(_why(Trouble.PROBE, f"{where}: {_shorten(said)}" if said else where), overdue=overdue)


def _age_s(since: str, now_s: float | None) -> float:
    """Seconds since a time of day of the API server; 0 when either is not known, or the clocks differ.

    >>> _age_s("1970-01-01T00:01:00Z", 100.0), _age_s("", 100.0), _age_s("1970-01-01T00:01:00Z", 1.0)
    (40.0, 0.0, 0.0)
    """
    try:
        at = datetime.datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return 0.0
    return max(0.0, now_s - at.timestamp()) if now_s is not None else 0.0


def _for(age_s: float) -> str:
    return f" for {age_s:.0f} s" if age_s >= 1 else ""


def _why(trouble: Trouble, seen: str, final: bool = False) -> WhyNot:
    return WhyNot(trouble, seen, WAY_OUT.get(trouble, ""), final)


def _shorten(text: str, limit: int = 400) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def last_lines(text: str, lines: int = LOG_LINES) -> str:
    """The last lines of a log that say something, on one line.

    >>> last_lines("a\\n\\nb\\n", 1)
    'b'
    """
    kept: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return _shorten(" | ".join(kept), 900)
