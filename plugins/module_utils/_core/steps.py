# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan is a list of steps; each step is one write to the API with what was there before and what will be after.

``changed``, the diff, check mode and the result all come from the same plan, so they cannot tell different stories.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .diff import merge_patch, render_diff
from .errors import Refused
from .kinds import ObjectRef


class Verb(enum.Enum):
    """What a step does. PATCH is a merge patch that fails when the object has changed since it was read."""

    CREATE = "create"
    PATCH = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One write.

    ``body``   the manifest of a CREATE, the merge patch of a PATCH, nothing for a DELETE
    ``before`` the object as it was read, None for a CREATE
    ``why``    a few words for people
    """

    verb: Verb
    ref: ObjectRef
    why: str
    body: Mapping[str, Any] | None = None
    before: Mapping[str, Any] | None = None

    @property
    def uid(self) -> str | None:
        """The uid of the object that was read."""
        return ((self.before or {}).get("metadata") or {}).get("uid")

    @property
    def resource_version(self) -> str | None:
        """The version of the object that was read."""
        return ((self.before or {}).get("metadata") or {}).get("resourceVersion")

    def predict(self) -> Mapping[str, Any] | None:
        """The object afterwards, None when it is gone."""
        if self.verb is Verb.DELETE:
            return None
        if self.verb is Verb.CREATE:
            return self.body
        patched = merge_patch(self.before, self.body)
        return patched if isinstance(patched, dict) else None

    def describe(self) -> str:
        """For example ``create PersistentVolume default-mysql-0 (the pet has none)``."""
        return f"{self.verb.value} {self.ref} ({self.why})"


@dataclass(frozen=True, slots=True)
class Plan:
    """``groups``: the steps of each pet in their order; pets do not depend on each other.

    ``first``: what has to come before all (the namespace). ``kept``: where data stays after a removal.
    """

    groups: Mapping[int, tuple[Step, ...]]
    first: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps."""
        return self.first + tuple(step for group in self.groups.values() for step in group)

    @property
    def changed(self) -> bool:
        """True when there is anything to do."""
        return bool(self.steps)


@dataclass(slots=True)
class Findings:
    """All that stands against a plan, collected so that one run shows everything there is to repair."""

    problems: list[Refused] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def refuse(self, subject: str, reason: str, way_out: str) -> None:
        """Note a reason against the plan."""
        self.problems.append(Refused(subject, reason, way_out=way_out))

    def raise_if_any(self) -> None:
        """Refused: one problem as it is; several as one error that says them all."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise Refused(
                f"{len(self.problems)} problems",
                "; ".join(problem.render().rstrip(".") for problem in self.problems),
                way_out="repair each of them and run again; nothing was changed",
                details={
                    "problems": [
                        {"subject": one.subject, "reason": one.reason, "way_out": one.way_out} for one in self.problems
                    ]
                },
            )


def diff_of(steps: tuple[Step, ...]) -> list[dict[str, str]]:
    """The diff of a plan, one entry for each object, as Ansible shows it. Values of Secrets are hidden."""
    return [render_diff(str(step.ref), step.before, step.predict()) for step in steps]
