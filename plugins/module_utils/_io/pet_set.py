# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading, writing and waiting for a pet set. Everything that is decided, is decided in ``_core``."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .._core import kinds
from .._core.errors import Conflict, FieldConflict
from .._core.kinds import ObjectRef
from .._core.manifests import KNOWN_PETS_KEY, PetSetSpec, parse_known_pets, render_config_map
from .._core.names import LABEL_NAMESPACE, LABEL_ORDINAL, LABEL_SET, claim_name
from .._core.pods import (
    Event,
    Evidence,
    Pod,
    parse_pod,
    redact_events,
    redact_evidence,
    redact_pod,
)
from .._core.redact import Redactor
from .._core.set_steps import Action, Observed, Step
from .._core.statefulset import PetState, Readiness, SetView, decide_readiness, parse_statefulset, plan_healing
from .._core.statefulset_plan import REPAIRED, wanted_refs
from .clock import Clock
from .kube import KubeClient, Manifest
from .observe import list_pods, observe_events, observe_logs, observe_namespace, observe_node, try_get, try_list
from .wait import Judgement

# Reads that do not depend on each other go out together.
_AT_ONCE = 8
# What explains a pet that is not ready is looked up after this time, and then not more often than every so often.
_LOOK_DEEPER_AFTER_S = 5.0
_LOOK_DEEPER_EVERY_S = 10.0
# The controller replaces most pods of an old revision by itself; what it has not touched in this time is stuck.
HEAL_AFTER_S = 10.0

Secrets = Mapping[str, str]


def observe_pet_set(
    client: KubeClient, spec: PetSetSpec, refs: Sequence[ObjectRef] = (), nodes: Sequence[str] = ()
) -> Observed:
    """One request per object (by default what the set is made of) and per node, one for the claims.

    Forbidden: an object of the set itself, or a node that was named, may not be read.
    """
    refs = refs or wanted_refs(spec)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        namespace = pool.submit(observe_namespace, client, spec.namespace)
        claims = pool.submit(list_claims, client, spec)
        found = list(pool.map(lambda ref: client.get(ref.kind, ref.name, ref.namespace), refs))
        named = list(pool.map(lambda name: client.get(kinds.NODE, name), nodes))
        return Observed(
            namespace=namespace.result(),
            objects=dict(zip(refs, found, strict=True)),
            claims=claims.result(),
            nodes=dict(zip(nodes, named, strict=True)),
            pods=observe_pods(client, spec) if nodes else (),
        )


def list_claims(client: KubeClient, spec: PetSetSpec) -> dict[str, Any] | None:
    """The claims of the namespace by name, or None when they may not be listed."""
    listed = try_list(client, kinds.PERSISTENT_VOLUME_CLAIM, spec.namespace)
    return None if listed is None else {one["metadata"]["name"]: one for one in listed}


def known_pets_of(observed: Observed, spec: PetSetSpec) -> dict[int, str]:
    """The record of pets that have had data, as it is stored now."""
    live = observed.objects.get(ObjectRef(kinds.CONFIG_MAP, spec.config_map, spec.namespace)) or {}
    return parse_known_pets(str((live.get("data") or {}).get(KNOWN_PETS_KEY, "")))


def secret_values(objects: Mapping[ObjectRef, Any], spec: PetSetSpec) -> dict[str, str]:
    """What is secret in the Secrets that were read, by key; only to keep it out of all output."""
    values: dict[str, str] = {}
    for name in (spec.secret, spec.tls_secret):
        live = objects.get(ObjectRef(kinds.SECRET, name, spec.namespace)) or {}
        for key, text in (live.get("data") or {}).items():
            if key.endswith("-password") or key == "tls.key":
                try:
                    values[key] = base64.b64decode(text).decode()
                except (binascii.Error, UnicodeDecodeError):
                    continue
    return values


def observe_redactor(client: KubeClient, spec: PetSetSpec) -> Redactor:
    """Hides the secrets of the set, as far as they may be read."""
    refs = [ObjectRef(kinds.SECRET, name, spec.namespace) for name in (spec.secret, spec.tls_secret)]
    found = {ref: try_get(client, ref.kind, ref.name, ref.namespace) for ref in refs}
    return Redactor(tuple(secret_values(found, spec).values()))


# --- writing ----------------------------------------------------------------------------------------------------------


def apply_step(client: KubeClient, step: Step, generate: Callable[[Step], tuple[Secrets, Mapping[str, str]]]) -> None:
    """Carry out one step. ``generate`` makes the values (and annotations) of a Secret that are still missing.

    AlreadyExists, Conflict: somebody was faster; observe and plan again.
    """
    if step.action is Action.DELETE:
        _delete(client, step, "Background")
    elif step.action is Action.ORPHAN:
        _delete(client, step, "Orphan")
        _wait_gone(client, step.ref)
    elif step.ref.kind is kinds.SECRET:
        _apply_secret(client, step, generate)
    elif step.ref.kind is kinds.NODE:
        # Its taints are one field of many owners, so none may be lost that was set since they were read.
        client.patch(step.ref, {"metadata": {"resourceVersion": step.resource_version}, **step.manifest})
    else:
        _apply_object(client, step.manifest, force=step.force)


def _delete(client: KubeClient, step: Step, propagation: str) -> None:
    client.delete(step.ref, uid=step.uid, propagation=propagation)


def _wait_gone(client: KubeClient, ref: ObjectRef) -> None:
    """The garbage collector lets go of the pods before the set disappears; that takes a moment."""
    for _attempt in range(60):
        if client.get(ref.kind, ref.name, ref.namespace) is None:
            return
        client.clock.sleep(0.5)
    raise Conflict(str(ref), "it is still there 30 s after it was deleted", status=409, way_out="run again")


def _apply_object(client: KubeClient, manifest: Manifest, *, force: bool = False) -> None:
    try:
        client.apply(manifest, force=force)
    except FieldConflict as conflict:
        contested = {field_path for paths in conflict.managers.values() for field_path in paths}
        if not contested <= REPAIRED:
            raise
        client.apply(manifest, force=True)


def _apply_secret(
    client: KubeClient, step: Step, generate: Callable[[Step], tuple[Secrets, Mapping[str, str]]]
) -> None:
    """Never server-side apply here: two runs at once would overwrite each other's passwords without a conflict."""
    values, annotations = generate(step) if step.generate else ({}, {})
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    manifest = {**step.manifest, "data": {**step.manifest.get("data", {}), **encoded}}
    if annotations:
        manifest["metadata"] = {**manifest["metadata"], "annotations": dict(annotations)}
    if step.action is Action.CREATE:
        client.create(manifest)
        return
    changed = {change.path for change in step.changes}
    patch = {
        "metadata": {"labels": manifest["metadata"]["labels"], "resourceVersion": step.resource_version},
        "data": {key: value for key, value in manifest["data"].items() if f".data[{key}]" in changed},
    }
    client.patch(step.ref, patch)


def record_known_pets(client: KubeClient, spec: PetSetSpec) -> None:
    """Write down which pets have data; ``spec.known_pets`` holds all of them."""
    _apply_object(client, render_config_map(spec))


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the set: None when it is not there. ``states`` per pet, with reasons as far as looked for."""

    view: SetView | None
    pods: tuple[Pod, ...]
    readiness: Readiness | None


@dataclass(slots=True)
class Watcher:
    """Looks at a set again and again, and heals what the user allows.

    ``gone_uids``   pods that were told to go and must not count
    ``healed``      called with each pod that was deleted because it held up a roll-out
    ``secrets``     values that must not appear in what is quoted
    """

    client: KubeClient
    spec: PetSetSpec
    clock: Clock
    heal: bool = False
    healed: Callable[[Pod], None] = lambda _pod: None
    secrets: tuple[str, ...] = ()
    gone_uids: set[str] = field(default_factory=set)
    _first_s: float | None = None
    _deeper_s: float | None = None
    _stuck_since: dict[str, float] = field(default_factory=dict)
    _evidence: dict[str, Evidence] = field(default_factory=dict)
    _set_events: tuple[Event, ...] = ()

    def look(self) -> Seen:
        """One request for the set and one for its pods; more only when a pet keeps us waiting."""
        live = self.client.get(kinds.STATEFUL_SET, self.spec.name, self.spec.namespace)
        if live is None:
            return Seen(None, (), None)
        view = parse_statefulset(live)
        hide = Redactor(self.secrets).hide
        pods = tuple(redact_pod(pod, hide) for pod in observe_pods(self.client, self.spec))
        if self.heal:
            self._heal(view, pods)
        readiness = self._judge(view, pods)
        now_s = self.clock.now_s()
        self._first_s = now_s if self._first_s is None else self._first_s
        due_s = (
            self._first_s + _LOOK_DEEPER_AFTER_S if self._deeper_s is None else self._deeper_s + _LOOK_DEEPER_EVERY_S
        )
        if not readiness.ready and now_s >= due_s:
            readiness = self._look_deeper(view, pods, readiness)
        return Seen(view, pods, readiness)

    def explain(self, seen: Seen) -> Judgement:
        """The judgement with all reasons that can be found now."""
        if seen.view is None or seen.readiness is None:
            return judge_seen(seen)
        return judge_seen(Seen(seen.view, seen.pods, self._look_deeper(seen.view, seen.pods, seen.readiness)))

    def _judge(self, view: SetView, pods: tuple[Pod, ...]) -> Readiness:
        return decide_readiness(
            view, pods, self._evidence, set_events=self._set_events, gone_uids=frozenset(self.gone_uids)
        )

    def _look_deeper(self, view: SetView, pods: tuple[Pod, ...], readiness: Readiness) -> Readiness:
        self._deeper_s = self.clock.now_s()
        self._evidence, self._set_events = observe_evidence(
            self.client, self.spec, view, [pet.pod for pet in readiness.missing], Redactor(self.secrets).hide
        )
        return self._judge(view, pods)

    def _heal(self, view: SetView, pods: tuple[Pod, ...]) -> None:
        stuck = plan_healing(view, pods)
        now_s = self.clock.now_s()
        self._stuck_since = {pod.uid: self._stuck_since.get(pod.uid, now_s) for pod in stuck}
        for pod in stuck:
            if now_s - self._stuck_since[pod.uid] < HEAL_AFTER_S or pod.uid in self.gone_uids:
                continue
            ref = ObjectRef(kinds.POD, pod.name, self.spec.namespace)
            try:
                # Ready by now, or another pod of that name: then the version is another one, and nothing happens.
                done = self.client.delete(ref, uid=pod.uid, resource_version=pod.resource_version)
            except Conflict:
                continue
            if done:
                self.gone_uids.add(pod.uid)
                self.healed(pod)


def observe_pods(client: KubeClient, spec: PetSetSpec) -> tuple[Pod, ...]:
    """The set's pods in one request."""
    return tuple(parse_pod(one) for one in list_pods(client, spec.namespace, spec.selector))


def judge_seen(seen: Seen) -> Judgement:
    """What a look means for the wait."""
    if seen.view is None or seen.readiness is None:
        return Judgement(
            False, "the set is not there", hopeless="the set was deleted in the meantime", way_out="run again"
        )
    readiness = seen.readiness
    total = len(readiness.pets)
    summary = f"{total - len(readiness.missing)} of {total} pets ready"
    if not readiness.ready:
        summary += f"; {readiness.describe()}"
    lost = next((pet for pet in readiness.missing if pet.why.final), None)
    return Judgement(
        done=readiness.ready,
        summary=summary,
        pets=[render_pet(pet) for pet in readiness.pets],
        hopeless=f"{lost.name}: {lost.why.seen}" if lost else "",
        way_out=next((pet.why.way_out for pet in readiness.missing if pet.why.way_out), ""),
    )


def render_pet(pet: PetState) -> dict[str, Any]:
    """One pet for a result."""
    pod = pet.pod
    return {
        "ordinal": pet.ordinal,
        "name": pet.name,
        "ready": pet.ready,
        "trouble": pet.why.trouble.value,
        "reason": pet.why.describe(),
        "pod_uid": pod.uid if pod else None,
        "node": (pod.node or None) if pod else None,
        "ip": (pod.ip or None) if pod else None,
        "revision": (pod.revision or None) if pod else None,
        "outdated": pet.outdated,
        "restarts": pod.restarts if pod else 0,
        "server_uuid": (pod.server_uuid or None) if pod else None,
        "pod_index": (pod.index or None) if pod else None,
    }


def observe_evidence(
    client: KubeClient, spec: PetSetSpec, view: SetView, pods: Iterable[Pod | None], hide: Callable[[str], str]
) -> tuple[dict[str, Evidence], tuple[Event, ...]]:
    """Events, nodes, claims and last words about pets that are not ready. What may not be read is left out, and what
    ``hide`` takes for a secret.
    """
    stuck = [pod for pod in pods if pod is not None]
    set_events = redact_events(observe_events(client, spec.namespace, "StatefulSet", view.name), hide)
    names = sorted({pod.node for pod in stuck if pod.node})
    nodes = {name: observe_node(client, name) for name in names}
    claims = try_list(client, kinds.PERSISTENT_VOLUME_CLAIM, spec.namespace) if stuck else None
    phases = {one["metadata"]["name"]: (one.get("status") or {}).get("phase") for one in claims or ()}
    found: dict[str, Evidence] = {}
    for pod in stuck:
        claim = claim_name(spec.claim_template, spec.name, pod.ordinal or 0)
        evidence = Evidence(
            events=observe_events(client, spec.namespace, "Pod", pod.name, pod.uid),
            node=nodes.get(pod.node),
            claim=claim,
            claim_phase=None if claims is None else phases.get(claim) or "missing",
            logs=observe_logs(client, spec.namespace, pod, hide),
            now_s=time.time(),
        )
        found[pod.name] = redact_evidence(evidence, hide)
    return found, set_events


def _names_claim(volume: Manifest, namespace: str, name: str) -> bool:
    """Whether a volume is reserved for a claim of this name, whichever."""
    claim = (volume.get("spec") or {}).get("claimRef") or {}
    return (claim.get("namespace"), claim.get("name")) == (namespace, name)


def _owner_of(obj: Manifest | None) -> dict[str, str] | None:
    """Namespace, set and ordinal that the labels of a claim or a volume name; None where there is no such label."""
    labels = ((obj or {}).get("metadata") or {}).get("labels") or {}
    found = {
        word: str(labels[label])
        for word, label in (("namespace", LABEL_NAMESPACE), ("set", LABEL_SET), ("ordinal", LABEL_ORDINAL))
        if label in labels
    }
    return found or None


def _is_bound_both_ways(claim: Manifest | None, volume: Manifest | None) -> bool | None:
    """Whether the volume's claimRef means this very claim; None where one of them, or its uid, is not known."""
    bound = ((volume or {}).get("spec") or {}).get("claimRef") or {}
    uid = ((claim or {}).get("metadata") or {}).get("uid")
    return None if not uid or not bound.get("uid") else bool(bound["uid"] == uid)


def observe_storage(
    client: KubeClient, namespace: str, claims: Mapping[str, Any] | None, names: Iterable[str]
) -> MutableMapping[str, dict[str, Any]]:
    """Claim, volume and export of each claim's name; None for what may not be read.

    A claim that is gone, or was made anew, names no volume: then it is the volume that still names the claim.
    """
    found: dict[str, dict[str, Any]] = {}
    left: list[Manifest] | None = None
    for name in names:
        claim = (claims or {}).get(name)
        volume_name = ((claim or {}).get("spec") or {}).get("volumeName") or None
        if volume_name:
            volume = try_get(client, kinds.PERSISTENT_VOLUME, volume_name)
        elif claims is not None:
            left = left if left is not None else try_list(client, kinds.PERSISTENT_VOLUME, None) or []
            volume = next((one for one in left if _names_claim(one, namespace, name)), None)
            volume_name = volume["metadata"]["name"] if volume else None
        else:
            volume = None
        nfs = ((volume or {}).get("spec") or {}).get("nfs") or {}
        server = str(nfs.get("server", ""))
        server = f"[{server}]" if ":" in server and not server.startswith("[") else server
        found[name] = {
            "claim": name,
            "claim_phase": ((claim or {}).get("status") or {}).get("phase")
            if claim
            else (None if claims is None else "missing"),
            "volume": volume_name,
            "volume_phase": ((volume or {}).get("status") or {}).get("phase"),
            "bound_both_ways": _is_bound_both_ways(claim, volume),
            "claim_uid": ((claim or {}).get("metadata") or {}).get("uid"),
            "claim_owner": _owner_of(claim),
            "volume_claim_uid": (((volume or {}).get("spec") or {}).get("claimRef") or {}).get("uid"),
            "volume_owner": _owner_of(volume),
            "export": f"{server}:{nfs.get('path')}" if nfs else None,
            "mount_options": ((volume or {}).get("spec") or {}).get("mountOptions"),
            "capacity": (((volume or {}).get("spec") or {}).get("capacity") or {}).get("storage"),
        }
    return found
