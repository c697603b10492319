# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words in which a pet set is planned: what was read, what is allowed, what is to be done, and how it is shown."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import kinds
from .errors import PetsetError, Refused
from .kinds import ObjectRef
from .manifests import Manifest
from .names import LABEL_MANAGED_BY, LABEL_SET, PREFIX
from .ownership import FieldChange
from .pods import Pod

Json = Any

HIDDEN: Final = "(stored, not shown)"
NEW: Final = "(new value, not shown)"


class Action(enum.Enum):
    """What a step does to its object. ORPHAN deletes a set and leaves its pods running."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Step:
    """One write. ``changes`` is empty for a create; ``generate`` names keys of a Secret whose values are to be made."""

    action: Action
    ref: ObjectRef
    manifest: Manifest = field(default_factory=dict)
    changes: tuple[FieldChange, ...] = ()
    before: Json = None
    uid: str = ""
    resource_version: str = ""
    force: bool = False
    generate: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for a person; no value of a Secret."""
        what = f"{self.action.value} {self.ref}"
        paths = [change.path for change in self.changes]
        return f"{what} ({', '.join(paths[:6])}{', ...' if len(paths) > 6 else ''})" if paths else what


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order; nothing may be done while ``refusals`` is not empty.

    ``notes`` say what a check cannot know; ``restarts``: the pets will be rolled.
    """

    steps: tuple[Step, ...] = ()
    refusals: tuple[PetsetError, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """A namespace: ``exists`` is None when it could not be read (rights in one namespace only)."""

    exists: bool | None = None
    terminating: bool = False
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read. ``objects`` has a key for each object that was asked for; None: it is not there.

    ``claims``  the claims of the namespace by name, or None when they could not be listed
    ``nodes``   the nodes that are said to be off by name, None for one that is not there
    ``pods``    the set's pods; read only when there are such nodes
    """

    namespace: NamespaceState
    objects: Mapping[ObjectRef, Json]
    claims: Mapping[str, Json] | None
    nodes: Mapping[str, Json] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the user allows. ``adopt`` holds "Kind/name" of objects that were not made by the collection.

    ``nodes_off``: names of nodes that are off, as the user says.
    """

    adopt: Collection[str] = ()
    force_conflicts: bool = False
    orphan: bool = False
    check_mode: bool = False
    passwords: Mapping[str, str] = field(default_factory=dict)
    needed_keys: tuple[str, ...] = ()
    store_changed_passwords: bool = False
    nodes_off: tuple[str, ...] = ()
    manage_secret: bool = True
    manage_tls: bool = True


def uid_of(obj: Json) -> str:
    return str(((obj or {}).get("metadata") or {}).get("uid", ""))


def is_own(obj: Json, set_name: str) -> bool:
    """Whether an object was made for this set by the collection."""
    labels = ((obj or {}).get("metadata") or {}).get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == PREFIX and labels.get(LABEL_SET) == set_name


def maker_of(obj: Json) -> str:
    """Who seems to have made an object, for a message."""
    meta = obj.get("metadata") or {}
    labels = meta.get("labels") or {}
    if labels.get(LABEL_SET):
        return f", but for the set {labels[LABEL_SET]}"
    managers = sorted({str(one.get("manager")) for one in meta.get("managedFields") or () if one.get("manager")})
    maker = labels.get(LABEL_MANAGED_BY) or ", ".join(managers)
    return f", but by {maker}" if maker else ""


def combine_refusals(set_name: str, refusals: Sequence[PetsetError]) -> PetsetError:
    """One error out of all that stands in the way, so that a person sees it at once."""
    if len(refusals) == 1:
        return refusals[0]
    return Refused(
        f"Pet set {set_name}",
        f"{len(refusals)} things stand in the way: " + " ".join(f"({n}) {one}" for n, one in enumerate(refusals, 1)),
        details={"refusals": [str(one) for one in refusals]},
    )


def render_diff(steps: Sequence[Step]) -> dict[str, Any]:
    """Before and after of every object that changes, for Ansible's diff. No value of a Secret is in it."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for step in steps:
        name = str(step.ref)
        if step.before is not None:
            before[name] = _hide_binary(step.before)
        if step.action in (Action.CREATE, Action.UPDATE):
            after[name] = _hide(step) if step.ref.kind is kinds.SECRET else _hide_binary(step.manifest)
        elif step.action is Action.ORPHAN:
            before[name] = "set around running pods"
    return {"before": before, "after": after}


def _hide_binary(obj: Json) -> Json:
    """Base64 tells nobody anything: its length and a few digits of its hash do."""
    if not isinstance(obj, Mapping) or not obj.get("binaryData"):
        return obj
    shown = {
        key: f"({len(text) * 3 // 4} bytes, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]} of the base64)"
        for key, text in obj["binaryData"].items()
    }
    return {**obj, "binaryData": shown}


def _hide(step: Step) -> Json:
    changed = {change.path for change in step.changes}
    keys = sorted({*step.manifest.get("data", {}), *step.generate})
    shown = {key: NEW if f".data[{key}]" in changed or not step.changes else HIDDEN for key in keys}
    return {
        "metadata": step.manifest.get("metadata", {"name": step.ref.name, "namespace": step.ref.namespace}),
        "data": shown,
    }
