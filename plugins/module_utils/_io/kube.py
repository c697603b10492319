# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client for known kinds: one method call is one request, errors are typed, everything is counted.

What retries and what does not: no answer, 429 and 5xx are repeated within ``RetryPolicy``; a 409 of an update means
that the caller has to look again (``update`` does that); 401 reads the credentials once more; all else fails at once.
A request that may have reached the server although no answer came is repeated only in ways that are safe to repeat:
a create that then finds the object reads it and takes it for its own only when it is.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._core import errors
from .._core.apierrors import Call, error_of, parse_body, parse_status
from .._core.kinds import POD, Kind, ObjectRef, ref_of
from .._core.names import FIELD_MANAGER
from .clock import Clock, Deadline, MonotonicClock
from .kubeauth import Answer, NoAnswer, Transport

Manifest = dict[str, Any]

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
# JSON is YAML, so the body stays JSON; servers before 1.34 know only this media type for apply.
_APPLY_PATCH = "application/apply-patch+yaml"
_PATCH_TYPES = {"merge": _MERGE_PATCH, "strategic": _STRATEGIC_PATCH, "json": _JSON_PATCH}
_RETRIED = frozenset({429, 500, 502, 503, 504})
_WRITES = frozenset({"create", "apply", "patch", "update", "delete"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on after no answer, 429 or 5xx.

    ``limit_s``        for one request, all its attempts together, once the API has answered before
    ``first_limit_s``  the same for the very first request, where a wrong address is the likely reason
    ``request_s``      for one attempt
    """

    limit_s: float = 60.0
    first_limit_s: float = 6.0
    request_s: float = 30.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was sent, for counting: verb, path without query, status (0: no answer)."""

    verb: str
    path: str
    status: int
    dry_run: bool = False

    @property
    def is_write(self) -> bool:
        """True when it could have changed something."""
        return self.verb in _WRITES and not self.dry_run


class KubeApi(Protocol):
    """What callers need of the client; a test may pass anything that has these."""

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, None when it is not there."""

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[Manifest]:
        """All objects of a kind, in one namespace or in all."""

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Make an object that must not be there yet."""

    def apply(self, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Manifest:
        """Server-side apply."""

    def patch(
        self,
        ref: ObjectRef,
        patch: Any,
        *,
        patch_type: str = "merge",
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Change some fields."""

    def replace(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Replace a whole object."""

    def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        grace_period_s: int | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Delete; False when it was not there."""


@dataclass(slots=True)
class _Exchange:
    """One call on its way. ``ambiguous`` once an attempt may have reached the server without an answer."""

    call: Call
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = _JSON
    dry_run: bool = False
    ambiguous: bool = False


class KubeClient:
    """The client. Safe to use from several threads; keeps no cache, a ``get`` is always a request."""

    def __init__(
        self,
        transport: Transport,
        *,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        field_manager: str = FIELD_MANAGER,
        user_agent: str = FIELD_MANAGER,
        seed: int | None = None,
    ) -> None:
        self.transport = transport
        self.retry = retry or RetryPolicy()
        self.clock: Clock = clock or MonotonicClock()
        self.field_manager = field_manager
        self.user_agent = user_agent
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._answered = False
        self._random = random.Random(seed)  # noqa: S311 - spreads retries, guards nothing

    def get(
        self, kind: Kind, name: str, namespace: str | None = None, subresource: str | None = None
    ) -> Manifest | None:
        """One object, None when it is not there."""
        sent = self._exchange("get", "GET", kind, name, namespace, subresource)
        answer = self._send(sent)
        if answer.status == 404:
            return None
        return self._object(sent, answer)

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> list[Manifest]:
        """All objects of a kind, in one namespace or (None) in all; each with its apiVersion and kind filled in."""
        sent = self._exchange("list", "GET", kind, None, namespace)
        for key, value in (("labelSelector", label_selector), ("fieldSelector", field_selector)):
            if value:
                sent.query[key] = value
        found = self._object(sent, self._send(sent))
        items = found.get("items") or []
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in items]

    def pod_log(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        tail_lines: int | None = 20,
        previous: bool = False,
    ) -> str | None:
        """The last lines of a container's log, all of it with ``tail_lines`` None; None when there is none (yet)."""
        sent = self._exchange("get", "GET", POD, name, namespace, "log")
        if tail_lines is not None:
            sent.query["tailLines"] = str(tail_lines)
        if container:
            sent.query["container"] = container
        if previous:
            sent.query["previous"] = "true"
        answer = self._send(sent)
        # 204: the API server had nothing to stream, as of a container that is only about to start.
        if answer.status in (204, 400, 404):
            return None
        if answer.status != 200:
            raise self._error(sent, answer)
        return answer.body.decode("utf-8", "replace")

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Manifest:
        """Make an object that must not be there yet.

        AlreadyExists: somebody made it in between. When our own first attempt made it (its answer was lost), that is
        recognised by the field manager and the fields that we sent, and is a success.
        """
        ref = ref_of(manifest)
        sent = self._exchange("create", "POST", ref.kind, ref.name, ref.namespace, dry_run=dry_run)
        sent.query["fieldManager"] = self.field_manager
        sent.body = _encode(manifest)
        answer = self._send(sent)
        if answer.status == 409 and sent.ambiguous:
            live = self.get(ref.kind, ref.name, ref.namespace)
            if live is not None and self._is_ours(manifest, live):
                return live
        return self._object(sent, answer)

    def apply(self, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Manifest:
        """Server-side apply of all fields of ``manifest`` (never ``metadata.managedFields``).

        FieldConflict: a field is owned by somebody else; ``force`` takes it from them.
        """
        ref = ref_of(manifest)
        sent = self._exchange("apply", "PATCH", ref.kind, ref.name, ref.namespace, dry_run=dry_run)
        sent.query["fieldManager"] = self.field_manager
        sent.query["force"] = "true" if force else "false"
        sent.content_type = _APPLY_PATCH
        sent.body = _encode(manifest)
        return self._object(sent, self._send(sent))

    def patch(
        self,
        ref: ObjectRef,
        patch: Any,
        *,
        patch_type: str = "merge",
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Manifest:
        """Change some fields.

        Conflict: a merge patch with ``metadata.resourceVersion`` met an object that has changed since.
        """
        sent = self._exchange("patch", "PATCH", ref.kind, ref.name, ref.namespace, subresource, dry_run=dry_run)
        sent.query["fieldManager"] = self.field_manager
        sent.content_type = _PATCH_TYPES[patch_type]
        sent.body = _encode(patch)
        return self._object(sent, self._send(sent))

    def replace(
        self, manifest: Mapping[str, Any], *, subresource: str | None = None, dry_run: bool = False
    ) -> Manifest:
        """Replace a whole object; Conflict when its resourceVersion is not the current one any more."""
        ref = ref_of(manifest)
        sent = self._exchange("update", "PUT", ref.kind, ref.name, ref.namespace, subresource, dry_run=dry_run)
        sent.query["fieldManager"] = self.field_manager
        sent.body = _encode(manifest)
        return self._object(sent, self._send(sent))

    def update(
        self,
        ref: ObjectRef,
        change: Callable[[Manifest], Manifest | None],
        *,
        attempts: int = 5,
        dry_run: bool = False,
    ) -> Manifest:
        """Read, change, replace; on Conflict read again, a few times. ``change`` gives None when nothing is to do.

        NotFound: the object is not there. Conflict: it changed each time.
        """
        attempt = 0
        while True:
            attempt += 1
            live = self.get(ref.kind, ref.name, ref.namespace)
            if live is None:
                raise errors.NotFound(str(ref), "it is not there", status=404)
            wanted = change(live)
            if wanted is None:
                return live
            try:
                return self.replace(wanted, dry_run=dry_run)
            except errors.Conflict:
                if attempt >= attempts:
                    raise
                self.clock.sleep(self.retry.first_pause_s * attempt)

    def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
        grace_period_s: int | None = None,
        dry_run: bool = False,
    ) -> bool:
        """Delete; False when it was not there. Its finalizers may hold it for a while afterwards.

        Conflict: ``uid`` or ``resource_version`` is not that of the object (any more).
        ``propagation``: Orphan, Background or Foreground.
        """
        sent = self._exchange("delete", "DELETE", ref.kind, ref.name, ref.namespace, dry_run=dry_run)
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        wanted = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {key: value for key, value in wanted.items() if value is not None}
        if preconditions:
            options["preconditions"] = preconditions
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        if dry_run:
            # For a delete the server reads this from the body too, and the body wins.
            options["dryRun"] = ["All"]
        sent.body = _encode(options)
        answer = self._send(sent)
        if answer.status == 404:
            return False
        self._object(sent, answer)
        return True

    def count(self) -> dict[str, int]:
        """Requests so far by ``verb resource``, for example ``list pods``; subresources count as their own."""
        with self._lock:
            return dict(sorted(Counter(f"{one.verb} {_resource(one.path)}" for one in self.requests).items()))

    def writes(self) -> tuple[Request, ...]:
        """The requests that could have changed something (dry runs are not among them)."""
        with self._lock:
            return tuple(one for one in self.requests if one.is_write)

    def describe(self) -> dict[str, Any]:
        """Which API is talked to and why: for results, so that a run on the wrong cluster can be seen."""
        told = {"host": self.transport.host, "source": self.transport.source}
        if self.transport.context:
            told["context"] = self.transport.context
        return told

    def _exchange(
        self,
        verb: str,
        method: str,
        kind: Kind,
        name: str | None,
        namespace: str | None,
        subresource: str | None = None,
        *,
        dry_run: bool = False,
    ) -> _Exchange:
        if not kind.namespaced:
            namespace = None
        # A create goes to the collection, but its errors are about the object.
        path = kind.path(namespace, None if verb == "create" else name, subresource)
        sent = _Exchange(Call(verb, kind, name, namespace), method, path, dry_run=dry_run)
        if dry_run:
            sent.query["dryRun"] = "All"
        return sent

    def _send(self, sent: _Exchange) -> Answer:
        """All attempts of one call. Gives the first answer that is not to be retried."""
        limit_s = self.retry.limit_s if self._answered else self.retry.first_limit_s
        deadline = Deadline(self.clock, limit_s)
        pause_s = self.retry.first_pause_s
        refreshed = False
        while True:
            wait_s = pause_s * (0.75 + self._random.random() / 2)
            try:
                answer = self._attempt(sent)
            except NoAnswer as problem:
                sent.ambiguous = sent.ambiguous or problem.sent
                if deadline.left_s <= wait_s or problem.reason.startswith("TLS"):
                    raise self._unreachable(problem, deadline) from problem
            else:
                if answer.status == 401 and not refreshed and self.transport.refresh():
                    refreshed = True
                    continue
                if answer.status not in _RETRIED:
                    return answer
                # 5xx may come after the write; 429 comes before.
                sent.ambiguous = sent.ambiguous or answer.status != 429
                wait_s = max(wait_s, _retry_after_s(answer))
                if deadline.left_s <= wait_s:
                    raise self._try_again(sent.call, answer, deadline)
            self.clock.sleep(wait_s)
            pause_s = min(pause_s * 2, self.retry.longest_pause_s)

    def _attempt(self, sent: _Exchange) -> Answer:
        headers = {"Accept": _JSON, "User-Agent": self.user_agent}
        if sent.body is not None:
            headers["Content-Type"] = sent.content_type
        status = 0
        try:
            answer = self.transport.send(sent.method, sent.path, sent.query, headers, sent.body, self.retry.request_s)
            status = answer.status
            self._answered = True
            return answer
        finally:
            with self._lock:
                self.requests.append(Request(sent.call.verb, sent.path, status, sent.dry_run))

    def _is_ours(self, sent: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
        managers = {entry.get("manager") for entry in (live.get("metadata") or {}).get("managedFields") or ()}
        sent_labels = (sent.get("metadata") or {}).get("labels") or {}
        live_labels = (live.get("metadata") or {}).get("labels") or {}
        same_labels = all(live_labels.get(key) == value for key, value in sent_labels.items())
        return self.field_manager in managers and same_labels

    def _object(self, sent: _Exchange, answer: Answer) -> Manifest:
        if 200 <= answer.status < 300:
            parsed = parse_body(answer.body)
            if parsed is not None:
                return parsed
            raise errors.ApiError(
                sent.call.subject,
                f"{self.transport.host} answered {answer.status} with something that is not JSON",
                status=answer.status,
                way_out=f"check that the address is that of a Kubernetes API (it comes from {self.transport.source})",
            )
        raise self._error(sent, answer)

    def _error(self, sent: _Exchange, answer: Answer) -> errors.ApiError:
        location = answer.headers.get("location", "")
        return error_of(sent.call, answer.status, answer.body, self.transport.host, self.transport.source, location)

    def _unreachable(self, problem: NoAnswer, deadline: Deadline) -> errors.Unreachable:
        before = "answered before, now" if self._answered else "no answer:"
        return errors.Unreachable(
            f"Kubernetes API {self.transport.host}",
            f"{before} {problem.reason} (tried for {deadline.spent_s:.0f} s); "
            f"the address comes from {self.transport.source}",
            way_out=problem.hint or "check the address and the way to it, then run again: the next run goes on here",
            details={"api": self.describe()},
        )

    def _try_again(self, call: Call, answer: Answer, deadline: Deadline) -> errors.TryAgain:
        status = parse_status(answer.body)
        return errors.TryAgain(
            call.subject,
            f"{call.verb}: status {answer.status} ({status.message or status.reason or 'no text'}) "
            f"for {deadline.spent_s:.0f} s",
            status=answer.status,
            way_out="look at the API server's state and run again: the next run goes on from here",
        )


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _retry_after_s(answer: Answer) -> float:
    """Seconds that the server asks for, 0 when it does not; a date is not used by Kubernetes and taken for 1 s."""
    text = answer.headers.get("retry-after", "")
    if not text:
        return 0.0
    return float(text) if text.isdigit() else 1.0


def _resource(path: str) -> str:
    """``pods`` or ``pods/log`` out of a path; the name is left out."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join(parts[::2])
