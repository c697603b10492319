# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From an answer of the Kubernetes API to the error that says what it means. Pure.

Source: ``metav1.Status`` with its reasons and causes (k8s.io/apimachinery/pkg/apis/meta/v1/types.go), the texts of
the RBAC authorizer and of server-side apply conflicts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import errors
from .kinds import Kind, ObjectRef

_DENIED = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')
_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked for: the verb (list, get, create, apply, patch, update, delete) and the object or collection."""

    verb: str
    kind: Kind
    name: str | None
    namespace: str | None

    @property
    def subject(self) -> str:
        """The object or collection, for messages."""
        if self.name is None:
            return f"{self.kind.plural} in {self.namespace}" if self.namespace else self.kind.plural
        return str(ObjectRef(self.kind, self.name, self.namespace))


@dataclass(frozen=True, slots=True)
class Status:
    """The parts of a metav1.Status that matter. ``kind`` is the resource that the status is about."""

    message: str = ""
    reason: str = ""
    kind: str = ""
    causes: Sequence[Mapping[str, Any]] = ()


def parse_body(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body, None when it is something else."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def parse_status(body: bytes) -> Status:
    """The status in a body; of anything else (a proxy's page) the first characters as the message."""
    parsed = parse_body(body)
    if parsed is None:
        return Status(message=body[:300].decode("utf-8", "replace").strip())
    details = parsed.get("details") or {}
    return Status(
        message=str(parsed.get("message") or ""),
        reason=str(parsed.get("reason") or ""),
        kind=str(details.get("kind") or ""),
        causes=tuple(cause for cause in details.get("causes") or () if isinstance(cause, dict)),
    )


def error_of(call: Call, code: int, body: bytes, host: str, source: str, location: str = "") -> errors.ApiError:
    """The typed error of an answer that is no success. ``source`` says where the address ``host`` comes from."""
    status = parse_status(body)
    message = status.message or f"status {code}"
    if code == 401:
        return errors.Unauthorized(
            f"Kubernetes API {host}",
            "the credentials are not accepted (401)",
            status=code,
            way_out=f"check the token or certificate of {source}; it may have expired",
        )
    if code == 403:
        return _forbidden(call, status)
    if code == 404 and status.kind == "namespaces" and call.namespace is not None:
        return errors.NamespaceMissing(
            f"Namespace {call.namespace}",
            "it is not there",
            status=code,
            way_out="check its name, or let it be created (create_namespace)",
        )
    if code == 404:
        return errors.NotFound(call.subject, f"{call.verb}: {message}", status=code)
    if code == 409:
        return _conflict(call, status)
    if code == 422:
        return _invalid(call, status)
    if code in (301, 302, 307, 308):
        return errors.ApiError(
            call.subject,
            f"{host} redirects to {location or 'somewhere'}",
            status=code,
            way_out=f"set the address of the API itself (it comes from {source})",
        )
    if code == 400 and "admission webhook" in message:
        return errors.AdmissionRefused(call.subject, message, status=code, way_out="ask who runs that admission rule")
    reason = f" {status.reason}" if status.reason else ""
    return errors.ApiError(call.subject, f"{call.verb}: status {code}{reason}: {message}", status=code)


def _invalid(call: Call, status: Status) -> errors.Invalid:
    fields: dict[str, str] = {}
    for cause in status.causes:
        name, text = str(cause.get("field", "")), str(cause.get("message", ""))
        fields[name] = f"{fields[name]}; {text}" if name in fields else text
    if call.kind.kind == "Secret":
        # The texts of the API quote values.
        fields = dict.fromkeys(fields, "refused (the text is hidden, it may quote the value)")
        told = "; ".join(f"{name}: {text}" for name, text in fields.items()) or "a field (the text is hidden)"
    else:
        told = "; ".join(f"{name}: {text}" for name, text in fields.items()) or status.message
    return errors.Invalid(call.subject, f"the API does not take it: {told}", fields=fields)


def _forbidden(call: Call, status: Status) -> errors.ApiError:
    reasons = {cause.get("reason") for cause in status.causes}
    if "NamespaceTerminating" in reasons or "because it is being terminated" in status.message:
        return errors.NamespaceTerminating(
            f"Namespace {call.namespace}",
            f"it is being deleted, so {call.kind.kind} {call.name} cannot be made in it",
            status=403,
            way_out="wait until it is gone (a claim that a pod still uses can hold it), then run again",
        )
    denied = _DENIED.search(status.message)
    if denied is None and status.message and "cannot" not in status.message:
        return errors.AdmissionRefused(
            call.subject,
            status.message,
            status=403,
            way_out="that is a quota, a policy or an admission rule, not a missing permission",
        )
    # RBAC knows no apply: it is a patch, and a create as well where the object is not there yet.
    verb = denied["verb"] if denied else {"apply": "patch"}.get(call.verb, call.verb)
    resource = denied["resource"] if denied else call.kind.plural
    missing = {"verb": verb, "resource": resource, "group": call.kind.group, "user": denied["user"] if denied else ""}
    where = "cluster-wide" if not call.kind.namespaced or call.namespace is None else f"in namespace {call.namespace}"
    if call.namespace is not None:
        missing["namespace"] = call.namespace
    group = f" of group {call.kind.group}" if call.kind.group else ""
    who = f"user {missing['user']}" if missing["user"] else "the user"
    return errors.Forbidden(
        call.subject,
        f"{who} may not {verb} {resource}{group} {where}",
        missing=missing,
        way_out=f"give {who} a role with verb {verb} on {resource} {where}",
    )


def _conflict(call: Call, status: Status) -> errors.ApiError:
    if status.reason == "AlreadyExists":
        return errors.AlreadyExists(call.subject, "it exists already", status=409, way_out="run again")
    managers: dict[str, list[str]] = {}
    for cause in status.causes:
        found = _MANAGER.search(str(cause.get("message", "")))
        if found:
            managers.setdefault(found["manager"], []).append(str(cause.get("field", "")))
    if managers:
        told = "; ".join(f"{name} owns {', '.join(owned)}" for name, owned in managers.items())
        return errors.FieldConflict(
            call.subject,
            f"fields are managed by somebody else: {told}",
            managers=managers,
            way_out="stop the other one from writing these fields, or leave them out of your variables",
        )
    return errors.Conflict(
        call.subject, f"{call.verb}: it changed in between ({status.message})", status=409, way_out="run again"
    )
