# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes and claims of a set in a real cluster: look, plan, carry out, wait, and say why not.

Requests when nothing is to do: one list of claims, and for NFS one list of volumes. Everything else (namespace,
storage classes, driver, pods, events) is looked at only when the outcome depends on it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from .._core import errors
from .._core.kinds import (
    CSI_DRIVER,
    EVENT,
    NAMESPACE,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    STATEFUL_SET,
    STORAGE_CLASS,
)
from .._core.steps import Plan, Step, Verb, diff_of
from .._core.volumes import VolumeSet, volume_manifest
from .._core.volumes_live import (
    LiveClaim,
    LiveVolume,
    Snapshot,
    ordinals_of_set,
    parse_claim,
    parse_class,
    parse_volume,
    users_of_claims,
)
from .._core.volumes_plan import (
    NO_PROVISIONER,
    driver_of,
    needs_class,
    needs_namespace,
    plan_present,
    servers_in_doubt,
)
from .._core.volumes_removal import is_anything_left, plan_absent, without_set
from .._core.volumes_report import (
    ClaimReport,
    explain_claims,
    find_others_in,
    find_pets_in,
    find_volumes_in,
    judge_bound,
    judge_gone,
    report_claims,
)
from .apply import apply_plan
from .clock import Deadline
from .kube import KubeClient
from .wait import Judgement, Progress, no_progress, wait_until

Resolve = Callable[[str], frozenset[str]]
ROUNDS = 4
"""How often a plan is made anew when the cluster changed while it was carried out."""
BINDER_S = 3.0
"""How long new volumes may stay unseen by the binder before their claims are made all the same."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run behaves. ``wait_s`` None: nothing is waited for. ``after_set``: check mode predicts a later state."""

    check_mode: bool = False
    wait_s: float | None = 300.0
    create_namespace: bool = False
    diff: bool = False
    after_set: bool = False


def resolve_host(server: str) -> frozenset[str]:
    """Addresses of a name, none when it has none or DNS does not answer."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(server, None))
    except (OSError, UnicodeError):
        return frozenset()


def observe(client: KubeClient, wanted: VolumeSet, *, resolve: Resolve = resolve_host) -> Snapshot:
    """What matters for ``present``. Forbidden: the claims, or for NFS the volumes, may not be read at all."""
    snapshot = Snapshot(claims=_claims(client, wanted))
    if wanted.is_static:
        snapshot = replace(snapshot, volumes=_volumes(client, wanted))
        addresses = {server: resolve(server) for server in servers_in_doubt(wanted, snapshot)}
        snapshot = replace(snapshot, addresses=addresses)
    elif needs_class(wanted, snapshot):
        snapshot = _with_class(client, wanted, snapshot)
    if needs_namespace(wanted, snapshot):
        snapshot = replace(snapshot, namespace=_namespace(client, wanted.namespace))
    return snapshot


def observe_for_removal(client: KubeClient, wanted: VolumeSet) -> Snapshot:
    """What matters for ``absent``: also who uses the claims, and what the set wants. Nothing there: two requests."""
    snapshot = Snapshot(claims=_claims(client, wanted), volumes=_or_none(lambda: _all_volumes(client)))
    if not is_anything_left(wanted, snapshot):
        return snapshot
    users = _or_none(lambda: users_of_claims(client.list(POD, wanted.namespace)))
    ordinals = _or_none(lambda: ordinals_of_set(client.get(STATEFUL_SET, wanted.name, wanted.namespace)))
    return replace(snapshot, users=users, set_ordinals=ordinals)


def find_pets(
    client: KubeClient, namespace: str, set_name: str, template: str, directories: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The pets of a set by their claims and volumes, and all volumes in directories. Two requests.

    Forbidden: the claims may not be read, or the volumes, with directories.
    """
    claims = {claim.name: claim for claim in map(parse_claim, client.list(PERSISTENT_VOLUME_CLAIM, namespace))}
    volumes = _all_volumes(client) if directories else _or_none(lambda: _all_volumes(client))
    snapshot = Snapshot(claims=claims, volumes=volumes)
    return {
        "pets": find_pets_in(namespace, set_name, template, snapshot),
        "volumes": find_volumes_in(directories, snapshot),
    }


def run_present(
    client: KubeClient,
    wanted: VolumeSet,
    options: Options,
    partial: MutableMapping[str, Any],
    *,
    progress: Progress = no_progress,
    resolve: Resolve = resolve_host,
) -> dict[str, Any]:
    """Make it so. Gives the result of the module; ``partial`` holds what was done when an error comes."""
    deadline = Deadline(client.clock, options.wait_s or 0.0)
    warnings: list[str] = []
    all_steps: list[Step] = []
    snapshot, plan = _until_carried_out(
        client,
        wanted,
        lambda: _observe_and_plan(client, wanted, options, deadline, progress, resolve),
        options,
        partial,
        all_steps,
        warnings,
    )
    reports = report_claims(wanted, snapshot)
    if not options.check_mode and options.wait_s is not None:
        reports = _wait_until_bound(client, wanted, snapshot, plan, deadline, progress)
    elif plan.changed and not options.check_mode:
        reports = report_claims(wanted, _look(client, wanted, snapshot))
    result = _result(wanted, reports, all_steps, warnings, options, partial)
    result["others"] = find_others_in(wanted, snapshot)
    return result


def run_absent(
    client: KubeClient,
    wanted: VolumeSet,
    options: Options,
    confirmed: tuple[str, ...],
    partial: MutableMapping[str, Any],
    *,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Remove claims and volumes as objects. What is left of the data is named in ``kept``."""
    warnings: list[str] = []
    all_steps: list[Step] = []

    def look_and_plan() -> tuple[Snapshot, Plan]:
        seen = observe_for_removal(client, wanted)
        if options.check_mode and options.after_set:
            seen = without_set(wanted, seen)
        return seen, plan_absent(wanted, seen, confirmed)

    snapshot, plan = _until_carried_out(client, wanted, look_and_plan, options, partial, all_steps, warnings)
    result = _result(wanted, report_claims(wanted, snapshot), all_steps, warnings, options, partial)
    result["kept"] = list(plan.kept)
    if plan.kept:
        result["warnings"] = [*result["warnings"], "the data stays: " + "; ".join(plan.kept)]
    if not options.check_mode and options.wait_s is not None:
        uids = {step.uid for step in all_steps if step.uid}
        _wait_until_gone(client, wanted, uids, Deadline(client.clock, options.wait_s), progress)
        if all_steps:
            gone = {step.ref.name for step in all_steps if step.ref.kind is PERSISTENT_VOLUME_CLAIM}
            for pet in result["pets"]:
                if pet["claim"] in gone:
                    pet.update(phase="", ready=False, reason="removed")
    return result


def _observe_and_plan(
    client: KubeClient,
    wanted: VolumeSet,
    options: Options,
    deadline: Deadline,
    progress: Progress,
    resolve: Resolve,
) -> tuple[Snapshot, Plan]:
    try:
        snapshot = observe(client, wanted, resolve=resolve)
    except errors.Forbidden as problem:
        if problem.missing.get("resource") == PERSISTENT_VOLUME.plural:
            raise _needs_administrator(wanted, problem) from problem
        raise
    if not options.check_mode and options.wait_s is not None and _terminating(wanted, snapshot):
        _wait_until_gone(client, wanted, _terminating(wanted, snapshot), deadline, progress)
        snapshot = observe(client, wanted, resolve=resolve)
    plan = plan_present(wanted, snapshot, create_namespace=options.create_namespace, check_mode=options.check_mode)
    return snapshot, plan


def _until_carried_out(
    client: KubeClient,
    wanted: VolumeSet,
    look_and_plan: Callable[[], tuple[Snapshot, Plan]],
    options: Options,
    partial: MutableMapping[str, Any],
    all_steps: list[Step],
    warnings: list[str],
) -> tuple[Snapshot, Plan]:
    """Look, plan, carry out; when the cluster changed meanwhile, again, a few times."""

    def done(step: Step) -> None:
        all_steps.append(step)
        partial["changed"] = True
        partial["actions"] = [one.describe() for one in all_steps]

    rounds = 0
    while True:
        rounds += 1
        snapshot, plan = look_and_plan()
        warnings[:] = dict.fromkeys([*warnings, *plan.warnings])
        if options.check_mode:
            all_steps[:] = plan.steps
            return snapshot, plan
        before = len(all_steps)
        try:
            _carry_out(client, wanted, plan, done, wait=options.wait_s is not None)
        except (errors.AlreadyExists, errors.Conflict):
            if rounds >= ROUNDS:
                raise
            client.clock.sleep(0.2 * rounds)
        except errors.Forbidden as problem:
            raise _with_objects(problem, plan) from problem
        else:
            # Pets are done side by side; the result has the order of the plan.
            all_steps[before:] = plan.steps
            return snapshot, plan


def _carry_out(client: KubeClient, wanted: VolumeSet, plan: Plan, done: Callable[[Step], None], *, wait: bool) -> None:
    """The steps of a plan; all new volumes first, and the claims when the binder has seen these.

    A claim that names a volume which the binder has not seen yet is not looked at again before the binder's next
    round, up to 15 s later.
    """
    made = {step.ref.name for group in plan.groups.values() for step in group if _makes_volume(step)}
    if not wait or not made:
        apply_plan(client, plan, done)
        return
    cuts = {
        number: max((place + 1 for place, step in enumerate(group) if _makes_volume(step)), default=0)
        for number, group in plan.groups.items()
    }
    apply_plan(client, replace(plan, groups={n: group[: cuts[n]] for n, group in plan.groups.items()}), done)
    deadline, pause_s = Deadline(client.clock, BINDER_S), 0.1
    while not deadline.over and any(
        volume.name in made and volume.phase in ("", "Pending") for volume in _volumes(client, wanted).values()
    ):
        client.clock.sleep(pause_s)
        pause_s *= 2
    apply_plan(client, replace(plan, first=(), groups={n: group[cuts[n] :] for n, group in plan.groups.items()}), done)


def _makes_volume(step: Step) -> bool:
    return step.verb is Verb.CREATE and step.ref.kind is PERSISTENT_VOLUME


def _wait_until_bound(
    client: KubeClient,
    wanted: VolumeSet,
    snapshot: Snapshot,
    plan: Plan,
    deadline: Deadline,
    progress: Progress,
) -> list[ClaimReport]:
    if not plan.changed:
        reports = report_claims(wanted, snapshot)
        if all(report.ready for report in reports):
            return reports

    def explain(seen: Snapshot) -> Judgement:
        pending = {report.claim for report in report_claims(wanted, seen) if not report.ready}
        events = [one for one in _claim_events(client, wanted) if _about(one) in pending]
        return explain_claims(wanted, seen, events)

    waited = wait_until(
        f"claims of {wanted.name}",
        lambda: _look(client, wanted, snapshot),
        lambda seen: judge_bound(wanted, seen),
        deadline,
        clock=client.clock,
        progress=progress,
        explain=explain,
    )
    return report_claims(wanted, waited.observation)


def _look(client: KubeClient, wanted: VolumeSet, snapshot: Snapshot) -> Snapshot:
    """The cheap look of a wait: claims only, and volumes where the set has its own."""
    seen = replace(snapshot, claims=_claims(client, wanted))
    if wanted.is_static:
        return replace(seen, volumes=_volumes(client, wanted))
    if seen.classes is None and any(claim.phase == "Pending" for claim in seen.claims.values()):
        # Without the right to read the class, the event tells whether the claim waits for its first pod.
        events = _or_none(lambda: _claim_events(client, wanted)) or []
        return replace(seen, waiting=frozenset(_about(e) for e in events if e.get("reason") == "WaitForFirstConsumer"))
    return seen


def _wait_until_gone(
    client: KubeClient, wanted: VolumeSet, uids: set[str], deadline: Deadline, progress: Progress
) -> None:
    """Until no object with one of these uids is there. TimedOut names what holds them."""
    if not uids:
        return

    def look() -> Snapshot:
        return Snapshot(claims=_claims(client, wanted), volumes=_or_none(lambda: _all_volumes(client)))

    def explain(seen: Snapshot) -> Judgement:
        users = users_of_claims(client.list(POD, wanted.namespace))
        return judge_gone(wanted, replace(seen, users=users), uids)

    wait_until(
        f"removal of claims of {wanted.name}",
        look,
        lambda seen: judge_gone(wanted, seen, uids),
        deadline,
        clock=client.clock,
        progress=progress,
        explain=explain,
    )


def _terminating(wanted: VolumeSet, snapshot: Snapshot) -> set[str]:
    claims = [snapshot.claims[pet.claim] for pet in wanted.pets if pet.claim in snapshot.claims]
    own = {pet.volume for pet in wanted.pets}
    volumes = [volume for volume in (snapshot.volumes or {}).values() if volume.name in own]
    found = [claim.raw for claim in claims if claim.is_terminating]
    found += [volume.raw for volume in volumes if volume.is_terminating]
    return {str((raw.get("metadata") or {}).get("uid")) for raw in found}


def _claims(client: KubeClient, wanted: VolumeSet) -> dict[str, LiveClaim]:
    return {claim.name: claim for claim in map(parse_claim, client.list(PERSISTENT_VOLUME_CLAIM, wanted.namespace))}


def _all_volumes(client: KubeClient) -> dict[str, LiveVolume]:
    return {volume.name: volume for volume in map(parse_volume, client.list(PERSISTENT_VOLUME))}


def _volumes(client: KubeClient, wanted: VolumeSet) -> dict[str, LiveVolume]:
    """All volumes, so that a directory that somebody else's volume uses is seen; else those of the set by name."""
    try:
        return _all_volumes(client)
    except errors.Forbidden:
        found = [client.get(PERSISTENT_VOLUME, pet.volume) for pet in wanted.pets if pet.volume is not None]
        return {volume.name: volume for volume in (parse_volume(one) for one in found if one is not None)}


def _namespace(client: KubeClient, name: str) -> str:
    try:
        found = client.get(NAMESPACE, name)
    except errors.Forbidden:
        return "unknown"
    if found is None:
        return "missing"
    metadata, status = found.get("metadata") or {}, found.get("status") or {}
    terminating = metadata.get("deletionTimestamp") or status.get("phase") == "Terminating"
    return "terminating" if terminating else "present"


def _with_class(client: KubeClient, wanted: VolumeSet, snapshot: Snapshot) -> Snapshot:
    # The one class first: whoever may look at it need not be allowed to list them all.
    try:
        found = client.get(STORAGE_CLASS, wanted.storage_class)
    except errors.Forbidden:
        return snapshot
    listed = [found] if found is not None else _or_none(lambda: client.list(STORAGE_CLASS)) or []
    classes = {one.name: one for one in map(parse_class, listed)}
    snapshot = replace(snapshot, classes=classes)
    known = classes.get(wanted.storage_class)
    if known is not None and known.provisioner == NO_PROVISIONER:
        volumes = _or_none(lambda: _all_volumes(client))
        made = None if volumes is None else tuple(v for v in volumes.values() if v.storage_class == known.name)
        return replace(snapshot, ready_made=made)
    driver = driver_of(known.provisioner) if known else None
    if driver is None:
        return snapshot
    drivers = _or_none(lambda: {driver: client.get(CSI_DRIVER, driver) is not None})
    return replace(snapshot, drivers=drivers)


def _or_none(read: Callable[[], Any]) -> Any:
    """What may be read, None when it may not."""
    try:
        return read()
    except errors.Forbidden:
        return None


def _needs_administrator(wanted: VolumeSet, problem: errors.Forbidden) -> errors.Forbidden:
    """Volumes are cluster-wide; with rights in one namespace only, an administrator has to make them."""
    listed = ", ".join(str(pet.volume) for pet in wanted.pets)
    error = errors.Forbidden(
        problem.subject,
        f"{problem.reason}; volumes belong to the whole cluster",
        missing=problem.missing,
        way_out=f"let an administrator run this, or make {listed} out of wanted_objects and allow get on them",
    )
    error.details["wanted_objects"] = [volume_manifest(wanted, pet) for pet in wanted.pets]
    return error


def _with_objects(problem: errors.Forbidden, plan: Plan) -> errors.Forbidden:
    problem.details["wanted_objects"] = [
        dict(step.body) for step in plan.steps if step.verb is Verb.CREATE and step.body is not None
    ]
    return problem


def _claim_events(client: KubeClient, wanted: VolumeSet) -> list[dict[str, Any]]:
    selector = f"involvedObject.kind={PERSISTENT_VOLUME_CLAIM.kind}"
    return client.list(EVENT, wanted.namespace, field_selector=selector)


def _about(event: Mapping[str, Any]) -> str:
    return str((event.get("involvedObject") or {}).get("name", ""))


def _result(
    wanted: VolumeSet,
    reports: list[ClaimReport],
    steps: list[Step],
    warnings: list[str],
    options: Options,
    partial: MutableMapping[str, Any],
) -> dict[str, Any]:
    by_claim: dict[str, list[str]] = {}
    for step in steps:
        for pet in wanted.pets:
            if step.ref.name in (pet.claim, pet.volume):
                by_claim.setdefault(pet.claim, []).append(step.describe())
    result: dict[str, Any] = {
        "changed": bool(steps) or bool(partial.get("changed")),
        "actions": [step.describe() for step in steps],
        "pets": [{**report.as_result(), "actions": by_claim.get(report.claim, [])} for report in reports],
        "warnings": list(warnings),
    }
    if options.diff:
        result["diff"] = diff_of(tuple(steps))
    return result
