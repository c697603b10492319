# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out a plan: the only place where steps become writes. Pets are done side by side, each in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from .._core.steps import Plan, Step, Verb
from .kube import KubeClient

WORKERS = 6
"""Pets at the same time: less than the connection pool, and kind to a small API server."""

Done = Callable[[Step], None]


def apply_step(client: KubeClient, step: Step) -> None:
    """One write. AlreadyExists, Conflict: the world is not as it was read; observe and plan again."""
    if step.verb is Verb.CREATE and step.body is not None:
        client.create(step.body)
    elif step.verb is Verb.PATCH:
        client.patch(step.ref, step.body)
    elif step.verb is Verb.DELETE:
        client.delete(step.ref, uid=step.uid)
    else:
        raise ValueError(f"step without a body: {step.describe()}")


def apply_plan(client: KubeClient, plan: Plan, done: Done, *, workers: int = WORKERS) -> None:
    """All steps of a plan. ``done`` is told each step that was carried out (one call at a time is not promised).

    The first error of any pet is raised, after the pets that were begun have ended; no further ones are begun.
    """
    for step in plan.first:
        apply_step(client, step)
        done(step)

    def run(group: Sequence[Step]) -> None:
        for step in group:
            apply_step(client, step)
            done(step)

    groups = list(plan.groups.values())
    if len(groups) <= 1:
        for group in groups:
            run(group)
        return
    with ThreadPoolExecutor(max_workers=min(workers, len(groups))) as pool:
        futures = [pool.submit(run, group) for group in groups]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
