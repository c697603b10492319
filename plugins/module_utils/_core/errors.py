# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of the collection: each names the object, the value, the reason and the way out.

A module turns them into ``fail_json`` in one place (``_module.guarded_run``). ``code`` is a stable word for
playbooks and tests; the texts may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PetsetError(Exception):
    """Something the user has to know about.

    ``subject``  the variable, option or object it is about, for example ``PersistentVolume default-mysql-0``
    ``value``    the value that is wrong, or None when there is none (never a secret)
    ``reason``   what is wrong, a sentence without a full stop
    ``way_out``  what to do, a sentence without a full stop; empty when there is nothing to say
    ``details``  more fields for the result of the module, for example the last observed state of each pet
    """

    code = "error"

    def __init__(
        self,
        subject: str,
        reason: str,
        *,
        value: object = None,
        way_out: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.subject = subject
        self.reason = reason
        self.value = value
        self.way_out = way_out
        self.details: dict[str, Any] = dict(details or {})
        super().__init__(self.render())

    def render(self) -> str:
        """One line for a person: ``subject: value: reason. Way out.``"""
        value = "" if self.value is None else f" {self.value!r}:"
        text = f"{self.subject}:{value} {self.reason}".rstrip(".") + "."
        if self.way_out:
            text += f" {self.way_out[:1].upper()}{self.way_out[1:]}".rstrip(".") + "."
        return text


class InvalidInput(PetsetError, ValueError):
    """A variable has a value that cannot be right. Raised before anything is touched."""

    code = "invalid_input"

    def __init__(self, variable: str, value: object, reason: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(variable, reason, value=value, way_out=f"allowed: {allowed}" if allowed else "")


class Refused(PetsetError):
    """What is there does not allow the change without risk to data or to other people's objects."""

    code = "refused"


class TimedOut(PetsetError):
    """A wait came to its deadline. ``details`` holds the last observed state of each pet and the reason."""

    code = "timed_out"


class ApiError(PetsetError):
    """The Kubernetes API answered with an error, or did not answer. ``status`` is the HTTP status, 0 for no answer."""

    code = "api_error"
    status = 0

    def __init__(
        self,
        subject: str,
        reason: str,
        *,
        status: int = 0,
        value: object = None,
        way_out: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        super().__init__(subject, reason, value=value, way_out=way_out, details=details)


class BadConnectionSettings(ApiError):
    """kubeconfig, context or the single options do not add up to a connection. No request was sent."""

    code = "bad_connection_settings"


class Unreachable(ApiError):
    """No answer from the API within the limit: names the address and where that setting came from."""

    code = "api_unreachable"


class Unauthorized(ApiError):
    """401, also after the credentials were read once more."""

    code = "unauthorized"


class Forbidden(ApiError):
    """403 by authorization: the verb, the resource and the namespace that are missing are in ``missing``."""

    code = "forbidden"

    def __init__(self, subject: str, reason: str, *, missing: Mapping[str, str], way_out: str) -> None:
        self.missing = dict(missing)
        super().__init__(subject, reason, status=403, way_out=way_out, details={"missing_permission": dict(missing)})


class AdmissionRefused(ApiError):
    """403 (or 400) by quota, policy or a webhook: repeating it does not help."""

    code = "admission_refused"


class NamespaceMissing(ApiError):
    """404: the namespace itself is not there."""

    code = "namespace_missing"


class NamespaceTerminating(ApiError):
    """403: the namespace is being deleted, nothing can be created in it."""

    code = "namespace_terminating"


class NotFound(ApiError):
    """404 of a single object, where its absence is an error."""

    code = "not_found"


class AlreadyExists(ApiError):
    """409 on create: somebody else made it in the meantime. Observe again."""

    code = "already_exists"


class Conflict(ApiError):
    """409 on update or delete: the object changed in between. Observe again."""

    code = "conflict"


class FieldConflict(ApiError):
    """409 of server-side apply: fields are owned by another manager; ``managers`` names them with their fields."""

    code = "field_conflict"

    def __init__(self, subject: str, reason: str, *, managers: Mapping[str, list[str]], way_out: str) -> None:
        self.managers = dict(managers)
        super().__init__(subject, reason, status=409, way_out=way_out, details={"managers": dict(managers)})


class Invalid(ApiError):
    """422: the API names fields and values that it does not take; ``fields`` maps each field to the message."""

    code = "invalid_object"

    def __init__(self, subject: str, reason: str, *, fields: Mapping[str, str], way_out: str = "") -> None:
        self.fields = dict(fields)
        super().__init__(subject, reason, status=422, way_out=way_out, details={"fields": dict(fields)})


class TryAgain(ApiError):
    """429 or 5xx that did not go away within the limit."""

    code = "api_overloaded"
