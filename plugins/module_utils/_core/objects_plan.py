# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to one object, and what stands in the way of it; the same for every module."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .errors import PetsetError, Refused
from .kinds import ObjectRef, ref_of
from .manifests import Manifest
from .names import FIELD_MANAGER
from .ownership import MISSING, FieldChange, compare_owned, project
from .set_steps import Action, NamespaceState, Options, Step, is_own, maker_of, uid_of

Json = Any
Objects = Mapping[ObjectRef, Json]


def refuse_namespace(name: str, state: NamespaceState, *, may_be_made: bool) -> list[PetsetError]:
    """Why nothing can be made in the namespace; nothing when it can, or when nobody may look."""
    if state.terminating:
        return [
            Refused(
                f"Namespace {name}",
                f"it is being deleted{f' ({state.holds})' if state.holds else ''}, nothing can be made in it",
                way_out="wait until it is gone, then run again",
            )
        ]
    if state.exists is False and not may_be_made:
        return [
            Refused(
                f"Namespace {name}",
                "it does not exist",
                way_out="correct the name, or let it be made by create_namespace: true",
            )
        ]
    return []


def refuse_foreign(
    set_name: str, refs: Iterable[ObjectRef], objects: Objects, adopt: Collection[str]
) -> list[PetsetError]:
    """Objects in our way that are not ours, or that are going. ``adopt`` holds Kind/name of what is handed over."""
    refusals: list[PetsetError] = []
    for ref in refs:
        live = objects.get(ref)
        if live is None:
            continue
        meta = live.get("metadata") or {}
        if meta.get("deletionTimestamp"):
            held = ", ".join(meta.get("finalizers") or ()) or "its pods"
            refusals.append(Refused(str(ref), f"it is being deleted, held by {held}", way_out="wait, then run again"))
        elif not is_own(live, set_name) and f"{ref.kind.kind}/{ref.name}" not in adopt:
            refusals.append(
                Refused(
                    str(ref),
                    f"it exists and was not made for the set {set_name}{maker_of(live)}",
                    way_out=f"use another name, delete it, or hand it over with adopt: ['{ref.kind.kind}/{ref.name}']",
                )
            )
    return refusals


def plan_object(manifest: Manifest, objects: Objects, options: Options) -> Step | None:
    """The step for one object that is no Secret; None when it is as wanted."""
    ref = ref_of(manifest)
    live = objects.get(ref)
    if live is None:
        return Step(Action.CREATE, ref, manifest)
    changes = compare_owned(manifest, live, FIELD_MANAGER)
    if not changes:
        return None
    force = options.force_conflicts or f"{ref.kind.kind}/{ref.name}" in options.adopt
    return Step(Action.UPDATE, ref, manifest, changes, _before(manifest, live, changes), uid_of(live), force=force)


def _before(manifest: Manifest, live: Json, changes: Sequence[FieldChange]) -> Json:
    """The live object as far as the diff is about it; fields that go are put in a list of their own."""
    before = project(live, manifest)
    gone = {change.path: change.live for change in changes if change.wanted is MISSING and change.live is not MISSING}
    return {**before, "fields that go": gone} if gone else before
