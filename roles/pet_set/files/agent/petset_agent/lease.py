# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease in the Kubernetes API: read it, and write it only if nobody else has."""

from __future__ import annotations

import datetime
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from .model import SINGLE_WRITER, Lease, PutLease

PREFIX = "stateful.petset"
IN_SYNC = f"{PREFIX}/in-sync"
MODE = f"{PREFIX}/mode"
INCARNATIONS = f"{PREFIX}/incarnations"
LAST_WRITER = f"{PREFIX}/last-writer"
FOLLOWERS = f"{PREFIX}/followers"


class Unreachable(Exception):
    """The API did not answer, or not as it should."""


class Outdated(Exception):
    """Somebody else has written the lease: nothing was changed."""


def parse_lease(obj: Any, asked_s: float) -> Lease:
    """The record that an object of the API holds."""
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    notes = meta.get("annotations") or {}
    members = notes.get(IN_SYNC)
    return Lease(
        exists=True,
        version=str(meta.get("resourceVersion", "")),
        holder=spec.get("holderIdentity") or "",
        in_sync=None if members is None else split(members),
        incarnations=dict(one.split("=", 1) for one in split(notes.get(INCARNATIONS, "")) if "=" in one),
        mode=notes.get(MODE) or SINGLE_WRITER,
        last_writer=notes.get(LAST_WRITER, ""),
        asked_s=asked_s,
        followers=notes.get(FOLLOWERS),
    )


def split(text: str) -> tuple[str, ...]:
    """A comma list.

    >>> split("mysql-0, mysql-1,")
    ('mysql-0', 'mysql-1')
    """
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def merge_put(obj: Any, put: PutLease, now: datetime.datetime, lease_s: float) -> dict[str, Any]:
    """The object to write: what others keep in it stays as it is."""
    meta, spec = dict(obj.get("metadata") or {}), dict(obj.get("spec") or {})
    meta.pop("managedFields", None)
    meta["resourceVersion"] = put.version
    meta["annotations"] = {
        **(meta.get("annotations") or {}),
        IN_SYNC: ",".join(put.in_sync),
        INCARNATIONS: ",".join(f"{name}={value}" for name, value in sorted(put.incarnations.items())),
        LAST_WRITER: put.last_writer,
    }
    stamp = now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if put.holder and put.holder != (spec.get("holderIdentity") or ""):
        spec["acquireTime"] = stamp
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
    spec.update(holderIdentity=put.holder, renewTime=stamp, leaseDurationSeconds=max(1, round(lease_s)))
    return {**obj, "metadata": meta, "spec": spec}


@dataclass(slots=True)
class LeaseApi:
    """One Lease. ``limit_s`` for each step of a request; the token is read anew for each, since it is renewed."""

    url: str
    namespace: str
    name: str
    token_file: Path
    ca_file: Path
    lease_s: float
    limit_s: float = 0.7

    def read(self) -> tuple[Lease, Any]:
        """The record and its object. Raises Unreachable."""
        asked_s = time.monotonic()
        try:
            obj = self._request("GET", self._path, None)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return Lease(asked_s=asked_s), None
            raise Unreachable(f"the API answers {error.code}") from None
        return parse_lease(obj, asked_s), obj

    def write(self, obj: Any, put: PutLease) -> tuple[Lease, Any]:
        """Compare-and-set. Raises Outdated (nothing was written) and Unreachable (it may have been)."""
        asked_s = time.monotonic()
        body = merge_put(obj, put, datetime.datetime.now(datetime.UTC), self.lease_s)
        try:
            stored = self._request("PUT", self._path, body)
        except urllib.error.HTTPError as error:
            if error.code in (404, 409):
                raise Outdated(f"the API answers {error.code}") from None
            raise Unreachable(f"the API answers {error.code}") from None
        return replace(parse_lease(stored, asked_s), asked_s=asked_s), stored

    @property
    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{self.name}"

    def _request(self, method: str, path: str, body: Any) -> Any:
        try:
            request = urllib.request.Request(  # noqa: S310 - the address is the cluster's own
                self.url + path,
                None if body is None else json.dumps(body).encode(),
                {
                    "Authorization": f"Bearer {self.token_file.read_text().strip()}",
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                    "User-Agent": f"{PREFIX}-agent",
                },
                method=method,
            )
            with urllib.request.urlopen(request, timeout=self.limit_s, context=self._context()) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            raise
        except (OSError, ValueError, HTTPException) as error:
            raise Unreachable(f"{type(error).__name__}: {error}"[:200]) from None

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        # Python 3.13 refuses authorities without keyUsage, which some clusters have; all else is still checked.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
