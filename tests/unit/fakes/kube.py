# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server in memory, for unit tests alone. It stands where the HTTP transport stands, so that everything above it
(retries, errors, counting) is the real code.

It does what the real one does where the collection depends on it: 404, 409, 422, 403, 429; uids and resourceVersions;
managedFields with server-side apply, its conflicts and removals; dry runs; finalizers; namespaces that are missing or
terminating; the immutable fields of volumes and claims; and, when asked (``bind()``), what the volume controller does.
tests/api runs the same stories against the real one, so that the two cannot drift.
"""

from __future__ import annotations

import copy
import functools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import Kind, all_kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.quantity import format_bytes, parse_quantity
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient, RetryPolicy
from ansible_collections.stateful.petset.plugins.module_utils._io.kubeauth import Answer, NoAnswer
from ansible_collections.stateful.petset.tests.unit.fakes.fields import (
    comparable,
    drop,
    entry_of,
    json_patched,
    lay_over,
    leaf_values,
    leaves,
    merged,
    owned_by,
    paths_in,
    remaining,
)

Json = Any
Path = tuple[str, ...]
Fault = Callable[[str, str], "Answer | NoAnswer | None"]


class FakeClock:
    """Time that passes only when somebody sleeps; ``during_sleep`` runs in each sleep and may change the world."""

    def __init__(self) -> None:
        self.time_s = 1000.0
        self.during_sleep: Callable[[], None] | None = None

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += max(0.0, seconds)
        if self.during_sleep is not None:
            self.during_sleep()


@dataclass
class _Refusal(Exception):
    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class FakeCluster:
    """The objects and the rules. Also a Transport: hand it to ``KubeClient``, or take ``client()``."""

    def __init__(self, *, namespaces: tuple[str, ...] = ("default",), user: str = "tester") -> None:
        self.host = "https://fake.invalid:6443"
        self.source = "the test"
        self.context: str | None = None
        self.user = user
        self.auto_bind = False
        self.refreshes = 0
        self.can_refresh = False
        self.bodies: list[tuple[str, str, Json]] = []
        self._objects: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        self._denied: set[tuple[str, str, str | None]] = set()
        self._faults: list[Fault] = []
        self._version = 100
        self._lock = threading.RLock()
        for name in namespaces:
            self.add(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}}
            )

    # What tests do to it.

    def client(self, clock: FakeClock | None = None, **retry: float) -> KubeClient:
        """A client on this cluster that never really sleeps."""
        return KubeClient(self, clock=clock or FakeClock(), retry=RetryPolicy(**retry), seed=1)

    def add(self, manifest: Mapping[str, Any], *, manager: str = "kubectl-create") -> dict[str, Any]:
        """Put an object there as somebody else would, past all rules. Gives the stored object."""
        kind = kinds.kind_of(manifest)
        return self._store(kind, copy.deepcopy(dict(manifest)), manager, "Update")

    def live(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The stored object itself (tests may change it), None when it is not there. Counts as no request."""
        return self._objects.get((kind.plural, namespace if kind.namespaced else None, name))

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        """All stored objects of a kind by name."""
        return [
            value
            for key, value in sorted(self._objects.items(), key=lambda item: str(item[0]))
            if key[0] == kind.plural
        ]

    def edit(
        self, kind: Kind, name: str, namespace: str | None, patch: Mapping[str, Any], manager: str = "kubectl-edit"
    ) -> None:
        """Merge a patch as somebody else would, past all rules."""
        live = self.live(kind, name, namespace)
        if live is None:
            raise KeyError(name)
        self._save(kind, live, merged(live, patch), manager, "Update")

    def remove(self, kind: Kind, name: str, namespace: str | None = None) -> None:
        """Take an object away at once, finalizers or not."""
        del self._objects[(kind.plural, namespace if kind.namespaced else None, name)]

    def deny(self, verb: str, kind: Kind, namespace: str | None = None) -> None:
        """RBAC: forbid a verb (None: in every namespace)."""
        self._denied.add((verb, kind.plural, namespace))

    def fail_next(
        self, answer: Answer | NoAnswer, *, times: int = 1, method: str = "", path: str = "", land: bool = False
    ) -> None:
        """The next requests that fit get this answer; ``land``: carried out first, its answer is lost."""
        left = [times]

        def fault(this_method: str, this_path: str) -> Answer | NoAnswer | None:
            if left[0] > 0 and this_method.startswith(method) and path in this_path:
                left[0] -= 1
                return answer
            return None

        fault.land = land  # type: ignore[attr-defined]
        self._faults.append(fault)

    def die_after(self, writes: int, *, answered: bool = True) -> None:
        """Carry out so many writes and be away from then on, until ``come_back``.

        ``answered`` False: it dies between the last of them and its answer.
        """
        left, away = [writes], NoAnswer("[Errno 111] Connection refused", sent=False)

        def last(method: str, _path: str) -> NoAnswer | None:
            if method != "GET" and left[0] > 0:
                left[0] -= 1
                if left[0] == 0 and not answered:
                    return NoAnswer("Connection reset by peer", sent=True)
            return None

        def gone(_method: str, _path: str) -> NoAnswer | None:
            return away if left[0] == 0 else None

        last.land = True  # type: ignore[attr-defined]
        # Asked first, so that the last write itself gets through.
        self._faults += [gone, last]

    def come_back(self) -> None:
        """No fault any more."""
        self._faults.clear()

    # Transport.

    def refresh(self) -> bool:
        self.refreshes += 1
        return self.can_refresh

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> Answer:
        with self._lock:
            fault = next(((f, a) for f in self._faults if (a := f(method, path)) is not None), None)
            if fault is not None and not getattr(fault[0], "land", False):
                return _given(fault[1])
            answer = self._carry_out(method, path, dict(query), headers, body)
            if fault is not None:
                return _given(fault[1])
            return answer

    def _carry_out(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        parsed = json.loads(body) if body else None
        self.bodies.append((method, path, parsed))
        try:
            code, result = self._route(method, path, query, headers.get("Content-Type", ""), parsed)
        except _Refusal as refusal:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": refusal.message,
                "reason": refusal.reason,
                "details": refusal.details,
                "code": refusal.code,
            }
            return Answer(refusal.code, refusal.headers, json.dumps(status).encode())
        if self.auto_bind and method != "GET":
            self.bind()
        return Answer(code, {}, json.dumps(result).encode())

    def _route(self, method: str, path: str, query: dict[str, str], content_type: str, body: Json) -> tuple[int, Json]:
        kind, namespace, name, subresource = _parse_path(path)
        dry_run = query.get("dryRun") == "All"
        manager = query.get("fieldManager", "unknown")
        verb = {
            "GET": "get" if name else "list",
            "POST": "create",
            "PUT": "update",
            "PATCH": "patch",
            "DELETE": "delete",
        }[method]
        self._authorize(verb, kind, namespace, name)
        key = (kind.plural, namespace, name or "")
        live = self._objects.get(key)
        if verb == "list":
            return 200, {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version,
                "items": self._list(kind, namespace, query),
            }
        if verb == "create":
            return 201, self._create(kind, namespace, body, manager, dry_run)
        if verb == "patch" and content_type.startswith("application/apply-patch") and live is None:
            return 201, self._apply(kind, namespace, None, body, manager, query.get("force") == "true", dry_run)
        if live is None:
            details = {"name": name, "kind": kind.plural, "group": kind.group}
            raise _Refusal(404, "NotFound", f'{kind.plural} "{name}" not found', details)
        if verb == "get":
            return 200, copy.deepcopy(live)
        if verb == "delete":
            return 200, self._delete(kind, live, body or {}, dry_run or query.get("dryRun") == "All")
        if verb == "patch" and content_type.startswith("application/apply-patch"):
            return 200, self._apply(kind, namespace, live, body, manager, query.get("force") == "true", dry_run)
        if verb == "patch":
            wanted = _patched(live, body) if "json-patch" in content_type else _without_empty(merged(live, body))
        else:
            wanted = {**copy.deepcopy(body), "kind": kind.kind, "apiVersion": kind.api_version}
            wanted.setdefault("status", copy.deepcopy(live.get("status", {})))
        asked = (body.get("metadata") or {}).get("resourceVersion") if isinstance(body, dict) else None
        if asked not in (None, live["metadata"]["resourceVersion"]):
            message = f'Operation cannot be fulfilled on {kind.plural} "{name}": the object has been modified'
            raise _Refusal(409, "Conflict", message, {"name": name, "kind": kind.plural})
        if subresource != "status":
            wanted["status"] = copy.deepcopy(live.get("status", {}))
        return 200, self._save(kind, live, wanted, manager, "Update", dry_run=dry_run)

    def _authorize(self, verb: str, kind: Kind, namespace: str | None, name: str | None) -> None:
        for one in ((verb, kind.plural, None), (verb, kind.plural, namespace)):
            if one in self._denied:
                subject = f'{kind.plural} "{name}"' if name else kind.plural
                scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
                text = f'cannot {verb} resource "{kind.plural}" in API group "{kind.group}" {scope}'
                message = f'{subject} is forbidden: User "{self.user}" {text}'
                raise _Refusal(403, "Forbidden", message, {"name": name or "", "kind": kind.plural})

    def _list(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> list[Json]:
        found = []
        for (plural, space, _name), value in sorted(self._objects.items(), key=lambda item: str(item[0])):
            if plural != kind.plural or (namespace is not None and space != namespace):
                continue
            labels = value["metadata"].get("labels") or {}
            if not all(_selects(part, labels.get) for part in query.get("labelSelector", "").split(",") if part):
                continue
            field = functools.partial(_dig, value)
            if not all(_selects(part, field) for part in query.get("fieldSelector", "").split(",") if part):
                continue
            item = copy.deepcopy(value)
            # As the real server: items of a list carry neither kind nor apiVersion.
            del item["kind"], item["apiVersion"]
            found.append(item)
        return found

    def _check_namespace(self, kind: Kind, namespace: str | None) -> None:
        if not kind.namespaced:
            return
        space = self._objects.get(("namespaces", None, namespace or ""))
        if space is None:
            details = {"name": namespace, "kind": "namespaces"}
            raise _Refusal(404, "NotFound", f'namespaces "{namespace}" not found', details)

    def _create(self, kind: Kind, namespace: str | None, body: Json, manager: str, dry_run: bool) -> Json:
        self._check_namespace(kind, namespace)
        made = copy.deepcopy(body)
        made.setdefault("metadata", {})
        if kind.namespaced:
            made["metadata"]["namespace"] = namespace
        name = made["metadata"]["name"]
        if (kind.plural, namespace, name) in self._objects:
            details = {"name": name, "kind": kind.plural}
            raise _Refusal(409, "AlreadyExists", f'{kind.plural} "{name}" already exists', details)
        space = self._objects.get(("namespaces", None, namespace or ""))
        if kind.namespaced and space is not None and space["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {namespace} because it is being terminated"
            causes = [{"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}]
            details = {"name": name, "kind": kind.plural, "causes": causes}
            raise _Refusal(403, "Forbidden", f'{kind.plural} "{name}" is forbidden: {text}', details)
        self._validate(kind, None, made)
        if dry_run:
            return made
        return copy.deepcopy(self._store(kind, made, manager, "Update"))

    def _store(self, kind: Kind, made: dict[str, Any], manager: str, operation: str) -> dict[str, Any]:
        metadata = made.setdefault("metadata", {})
        self._version += 1
        metadata.update(
            uid=metadata.get("uid") or f"uid-{self._version}",
            resourceVersion=str(self._version),
            creationTimestamp="2026-11-25T00:00:00Z",
            generation=1,
        )
        _default(kind, made)
        metadata["managedFields"] = [entry_of(manager, operation, set(leaves(made)))]
        self._objects[(kind.plural, metadata.get("namespace") if kind.namespaced else None, metadata["name"])] = made
        return made

    def _save(
        self,
        kind: Kind,
        live: dict[str, Any],
        wanted: dict[str, Any],
        manager: str,
        operation: str,
        *,
        dry_run: bool = False,
        owned: set[Path] | None = None,
        force: bool = False,
    ) -> Json:
        """Replace the stored object; the version moves only when something is different."""
        for name in (
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "resourceVersion",
            "managedFields",
            "generation",
            "name",
            "namespace",
        ):
            if name in live["metadata"]:
                wanted["metadata"][name] = live["metadata"][name]
        if manager != "kubectl-edit" and manager != "controller":
            self._validate(kind, live, wanted)
        old, new = dict(leaf_values(live)), dict(leaf_values(wanted))
        changed = {path for path in new if old.get(path, _NONE) != new[path]}
        gone = set(old) - set(new)
        if owned is None:
            if not changed and not gone and live.get("status") == wanted.get("status"):
                return copy.deepcopy(live)
            owned = changed | {path for path in owned_by(live, manager, operation) if path in new}
        taken = (changed if operation == "Update" or force else set()) | gone
        entries = remaining(live, manager, operation, taken)
        if owned:
            entries.append(entry_of(manager, operation, owned))
        same = not changed and not gone and live.get("status") == wanted.get("status")
        if same and comparable(entries) == comparable(live["metadata"].get("managedFields") or []):
            return copy.deepcopy(live)
        wanted["metadata"]["managedFields"] = entries
        if dry_run:
            return wanted
        self._version += 1
        wanted["metadata"]["resourceVersion"] = str(self._version)
        if any(path[0] == "f:spec" for path in changed | gone):
            wanted["metadata"]["generation"] = live["metadata"].get("generation", 1) + 1
        self._objects[
            (kind.plural, wanted["metadata"].get("namespace") if kind.namespaced else None, wanted["metadata"]["name"])
        ] = wanted
        if wanted["metadata"].get("deletionTimestamp") and not wanted["metadata"].get("finalizers"):
            self.remove(kind, wanted["metadata"]["name"], wanted["metadata"].get("namespace"))
        return copy.deepcopy(wanted)

    def _apply(
        self,
        kind: Kind,
        namespace: str | None,
        live: dict[str, Any] | None,
        body: Json,
        manager: str,
        force: bool,
        dry_run: bool,
    ) -> Json:
        if live is None:
            made = copy.deepcopy(body)
            self._check_namespace(kind, namespace)
            self._validate(kind, None, made)
            if dry_run:
                return made
            owned = set(leaves(made))
            stored = self._store(kind, made, manager, "Apply")
            stored["metadata"]["managedFields"] = [entry_of(manager, "Apply", owned)]
            return copy.deepcopy(stored)
        mine = dict(leaf_values(body))
        there = dict(leaf_values(live))
        conflicts: list[dict[str, str]] = []
        for entry in live["metadata"].get("managedFields") or ():
            if (entry["manager"], entry["operation"]) == (manager, "Apply"):
                continue
            for path in sorted(paths_in(entry["fieldsV1"]) & set(mine)):
                if path in there and there[path] != mine[path]:
                    text = f'conflict with "{entry["manager"]}" using {kind.api_version}'
                    dotted = "".join("." + step[2:] if step.startswith("f:") else f"[{step[2:]}]" for step in path)
                    conflicts.append({"reason": "FieldManagerConflict", "message": text, "field": dotted})
        if conflicts and not force:
            raise _Refusal(409, "Conflict", f"Apply failed with {len(conflicts)} conflict(s)", {"causes": conflicts})
        wanted = copy.deepcopy(live)
        others: set[Path] = set()
        for entry in live["metadata"].get("managedFields") or ():
            if (entry["manager"], entry["operation"]) != (manager, "Apply"):
                others |= paths_in(entry["fieldsV1"])
        for path in owned_by(live, manager, "Apply") - set(mine) - others:
            drop(wanted, path)
        lay_over(wanted, body)
        return self._save(kind, live, wanted, manager, "Apply", dry_run=dry_run, owned=set(mine), force=force)

    def _delete(self, kind: Kind, live: dict[str, Any], options: Mapping[str, Any], dry_run: bool) -> Json:
        metadata = live["metadata"]
        for name, value in (options.get("preconditions") or {}).items():
            if metadata.get(name) != value:
                message = (
                    f"Precondition failed: {name} in precondition: {value}, {name} in object meta: {metadata.get(name)}"
                )
                raise _Refusal(409, "Conflict", message, {"name": metadata["name"], "kind": kind.plural})
        if dry_run or options.get("dryRun"):
            return live
        if metadata.get("finalizers"):
            metadata.setdefault("deletionTimestamp", "2026-11-25T01:00:00Z")
            self._version += 1
            metadata["resourceVersion"] = str(self._version)
        else:
            self.remove(kind, metadata["name"], metadata.get("namespace"))
        return {"kind": "Status", "status": "Success"}

    def _validate(self, kind: Kind, live: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
        """The few rules of the real validation that the collection has to meet with."""
        faults: list[tuple[str, str]] = []
        spec, old = wanted.get("spec") or {}, (live or {}).get("spec") or {}
        if kind == kinds.PERSISTENT_VOLUME and live is not None and _source(spec) != _source(old):
            faults.append(
                (
                    "spec.persistentvolumesource",
                    "Forbidden: spec.persistentvolumesource is immutable after creation",
                )
            )
        if kind == kinds.PERSISTENT_VOLUME_CLAIM and live is not None:
            self._validate_claim(live, spec, old, faults)
        if kind == kinds.STATEFUL_SET and live is not None:
            mutable = {
                "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
            }  # fmt: skip
            if any(spec.get(name) != old.get(name) for name in {*spec, *old} - mutable):
                faults.append(
                    ("spec", "Forbidden: updates to statefulset spec for fields other than these are forbidden")
                )
        if faults:
            name = wanted["metadata"].get("name", "")
            causes = [{"reason": "FieldValueForbidden", "field": path, "message": text} for path, text in faults]
            message = f'{kind.kind} "{name}" is invalid: {faults[0][0]}: {faults[0][1]}'
            raise _Refusal(422, "Invalid", message, {"name": name, "kind": kind.kind, "causes": causes})

    def _validate_claim(self, live: Json, spec: Json, old: Json, faults: list[tuple[str, str]]) -> None:
        before, after = _request(old), _request(spec)
        free = {"resources", "volumeAttributesClassName"} | (set() if old.get("volumeName") else {"volumeName"})
        if any(spec.get(name) != old.get(name) for name in {*spec, *old} - free):
            faults.append(
                ("spec", "Forbidden: spec is immutable after creation except resources.requests for bound claims")
            )
        if after < before:
            faults.append(("spec.resources.requests.storage", "Forbidden: field can not be less than status.capacity"))
        elif after > before:
            storage_class = self._objects.get(("storageclasses", None, spec.get("storageClassName") or ""))
            if not storage_class or not storage_class.get("allowVolumeExpansion"):
                name = live["metadata"]["name"]
                text = "only dynamically provisioned pvc can be resized"
                raise _Refusal(403, "Forbidden", f'persistentvolumeclaims "{name}" is forbidden: {text}', {})

    def bind(self) -> None:
        """What the persistent volume controller does to pre-bound pairs, claims and volumes that went away."""
        volumes = {one["metadata"]["name"]: one for one in self.all(kinds.PERSISTENT_VOLUME)}
        claims = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one
            for one in self.all(kinds.PERSISTENT_VOLUME_CLAIM)
        }
        for volume in volumes.values():
            ref = volume["spec"].get("claimRef")
            if not ref:
                volume["status"] = {"phase": "Available"}
                continue
            claim = claims.get((ref.get("namespace"), ref.get("name")))
            if ref.get("uid") and (claim is None or claim["metadata"]["uid"] != ref["uid"]):
                if volume["status"].get("phase") != "Released":
                    self._touch(volume, {"phase": "Released"})
            elif claim is None:
                volume["status"] = {"phase": "Available"}
            elif (not ref.get("uid") or volume["status"].get("phase") != "Bound") and _may_bind(volume, claim):
                ref.update(uid=claim["metadata"]["uid"], resourceVersion=claim["metadata"]["resourceVersion"])
                self._touch(volume, {"phase": "Bound"})
                claim["spec"]["volumeName"] = volume["metadata"]["name"]
                self._touch(claim, {"phase": "Bound", "capacity": dict(volume["spec"]["capacity"])})
        for claim in claims.values():
            if claim["status"].get("phase") == "Bound" and claim["spec"]["volumeName"] not in volumes:
                self._touch(claim, {"phase": "Lost"})

    def _touch(self, live: dict[str, Any], status: dict[str, Any]) -> None:
        self._version += 1
        live["metadata"]["resourceVersion"] = str(self._version)
        live["status"] = {**(live.get("status") or {}), **status}


class _None:
    pass


_NONE = _None()


def _given(answer: Answer | NoAnswer) -> Answer:
    if isinstance(answer, NoAnswer):
        raise answer
    return answer


def _parse_path(path: str) -> tuple[Kind, str | None, str | None, str | None]:
    parts = path.strip("/").split("/")
    api, rest = ("/".join(parts[1:2]), parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    for kind in all_kinds():
        if kind.api_version == api and kind.plural == rest[0]:
            return kind, namespace, rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else None
    raise _Refusal(404, "NotFound", f"the server could not find the requested resource: {path}")


def _selects(part: str, value_of: Callable[[str], Any]) -> bool:
    key, _equals, value = part.replace("==", "=").partition("=")
    return bool(value_of(key) == value)


def _dig(value: Json, path: str) -> Json:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _default(kind: Kind, made: dict[str, Any]) -> None:
    """The defaults of the real server that tests would miss."""
    spec = made.setdefault("spec", {}) if "spec" in made else {}
    if kind == kinds.PERSISTENT_VOLUME:
        spec.setdefault("volumeMode", "Filesystem")
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        made.setdefault("status", {"phase": "Pending"})
        made["metadata"].setdefault("finalizers", [])
    elif kind == kinds.PERSISTENT_VOLUME_CLAIM:
        spec.setdefault("volumeMode", "Filesystem")
        made.setdefault("status", {"phase": "Pending"})
    for holder, key in (
        (spec.get("capacity") or {}, "storage"),
        ((spec.get("resources") or {}).get("requests") or {}, "storage"),
    ):
        if isinstance(holder.get(key), str):
            holder[key] = _canonical(holder[key])


def _canonical(text: str) -> str:
    """As the server rewrites quantities: binary units stay binary; plain numbers stay."""
    if text.isdigit() or (any(char in text for char in "eE") and text[-1].isdigit()):
        return text
    exact = parse_quantity(text)
    if exact.denominator != 1 or text.endswith("i") or "i" in text:
        return format_bytes(int(exact)) if exact.denominator == 1 else text
    number = int(exact)
    for suffix, power in (("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3)):
        if number % 10**power == 0:
            return f"{number // 10**power}{suffix}"
    return str(number)


def _request(spec: Json) -> Fraction:
    text = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    return parse_quantity(str(text)) if text else Fraction(0)


def _without_empty(wanted: Json) -> Json:
    """As the real server: a map of the object that is empty afterwards is left out."""
    return {key: value for key, value in wanted.items() if value != {} or key in ("spec", "status")}


def _patched(live: Json, patch: Json) -> Json:
    try:
        return json_patched(live, patch)
    except ValueError as problem:
        raise _Refusal(422, "Invalid", f"the server rejected our request: {problem}") from None


def _source(spec: Json) -> list[Json]:
    return [spec.get(name) for name in ("nfs", "csi", "hostPath")]


def _may_bind(volume: Json, claim: Json) -> bool:
    if claim["spec"].get("volumeName") not in (None, "", volume["metadata"]["name"]):
        return False
    capacity = parse_quantity(str(volume["spec"]["capacity"]["storage"]))
    same_class = (volume["spec"].get("storageClassName") or "") == (claim["spec"].get("storageClassName") or "")
    modes = set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
    return bool(same_class and modes and capacity >= _request(claim["spec"]))
