# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a pet set is as wanted, and what must not be done.

Everything is judged before anything is written: a run either changes all it has to, or names every obstacle and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from . import kinds
from .drill_refs import drill_refs
from .errors import PetsetError, Refused
from .kinds import Kind, ObjectRef, ref_of
from .manifests import KNOWN_PETS_KEY, PetSetSpec, render_namespace, render_objects
from .names import claim_name, pet_name
from .nodes_off import plan_nodes_off
from .objects_plan import plan_object, refuse_foreign, refuse_namespace
from .ownership import compare_fields
from .pods import Pod
from .secrets_plan import plan_secrets
from .set_steps import Action, Observed, Options, Plan, Step, is_own, maker_of, uid_of

Json = Any

# What the API server lets nobody change in a StatefulSet. Source: its own message in 1.32 to 1.37 lists replicas,
# ordinals, template, updateStrategy, revisionHistoryLimit, persistentVolumeClaimRetentionPolicy and minReadySeconds
# as the fields that may change.
_IMMUTABLE: Final = ("serviceName", "selector", "podManagementPolicy", "volumeClaimTemplates")
# With these the pods of the old set go on in the new one as they are.
_ORPHAN_HELPS: Final = frozenset({"podManagementPolicy", "volumeClaimTemplates"})
# Repaired even when somebody else has set them: with another value pets cannot find each other, or a claim is lost. The
# record of known pets is added to, and who takes a line out as the messages tell does not want to keep it from then on.
REPAIRED: Final = frozenset(
    {
        f".data.{KNOWN_PETS_KEY}",
        ".spec.publishNotReadyAddresses",
        ".spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        ".spec.persistentVolumeClaimRetentionPolicy.whenScaled",
    }
)


def wanted_refs(spec: PetSetSpec) -> tuple[ObjectRef, ...]:
    """Every object to read, one request each."""
    refs = [
        ObjectRef(kinds.SECRET, spec.secret, spec.namespace),
        ObjectRef(kinds.SECRET, spec.tls_secret, spec.namespace),
    ]
    return (*refs, *(ref_of(one) for one in render_objects(spec)))


def absent_refs(spec: PetSetSpec) -> tuple[ObjectRef, ...]:
    """Every object to read before the set is taken away: what a drill that did not end has left is among them."""
    return (*wanted_refs(spec), *drill_refs(spec.name, spec.namespace))


def plan_pet_set(spec: PetSetSpec, observed: Observed, options: Options) -> Plan:
    """The plan for ``state: present``. Raises nothing: what stands in the way is in ``refusals``."""
    refusals = refuse_namespace(spec.namespace, observed.namespace, may_be_made=spec.create_namespace)
    warnings: list[str] = []
    notes: list[str] = []
    # First of all, since it needs a right of its own: without it nothing is touched.
    node_steps, doubts = plan_nodes_off(observed.nodes, observed.pods)
    steps = list(node_steps)
    refusals += doubts
    if spec.create_namespace and observed.namespace.exists is False:
        manifest = render_namespace(spec)
        steps.append(Step(Action.CREATE, ref_of(manifest), manifest))
    refusals += _foreign(spec, observed, options)
    if not refusals:
        secret_steps, problems = plan_secrets(spec, observed, options)
        steps += secret_steps
        refusals += problems
    live_set = observed.objects.get(ObjectRef(kinds.STATEFUL_SET, spec.name, spec.namespace))
    refusals += _claim_refusals(spec, observed, live_set, options, warnings, notes)
    orphaned = False
    if live_set is not None:
        problems, orphaned = _set_refusals(spec, live_set, options)
        refusals += problems
    for manifest in render_objects(spec):
        step = plan_object(manifest, observed.objects, options)
        if step is None:
            continue
        if orphaned and step.ref.kind is kinds.STATEFUL_SET:
            steps.append(Step(Action.ORPHAN, step.ref, uid=uid_of(live_set)))
            step = Step(Action.CREATE, step.ref, manifest)
        steps.append(step)
    return Plan(tuple(steps), tuple(refusals), tuple(warnings), tuple(notes), _restarts(steps))


def _restarts(steps: Sequence[Step]) -> bool:
    return any(
        change.path.startswith(".spec.template.") or change.path == ".spec.template"
        for step in steps
        if step.ref.kind is kinds.STATEFUL_SET and step.action is Action.UPDATE
        for change in step.changes
    )


def _foreign(spec: PetSetSpec, observed: Observed, options: Options) -> list[PetsetError]:
    refs = [ref for ref in wanted_refs(spec) if _is_managed(ref, spec, options)]
    return refuse_foreign(spec.name, refs, observed.objects, options.adopt)


def _is_managed(ref: ObjectRef, spec: PetSetSpec, options: Options) -> bool:
    """Whether the object is ours to write; Secrets that the user brings are not."""
    if ref.kind is not kinds.SECRET:
        return True
    return options.manage_secret if ref.name == spec.secret else options.manage_tls


# --- the set ----------------------------------------------------------------------------------------------------------


def _claim_refusals(
    spec: PetSetSpec, observed: Observed, live_set: Json, options: Options, warnings: list[str], notes: list[str]
) -> list[PetsetError]:
    """Volumes first: the controller would make a claim that is missing, and bind it to whatever volume is free."""
    if observed.claims is None:
        warnings.append("the claims could not be listed, so nobody checked that every pet has its own")
        return []
    refusals: list[PetsetError] = []
    running = int((live_set or {}).get("spec", {}).get("replicas", 0)) if live_set else 0
    for ordinal in range(spec.replicas):
        name = claim_name(spec.claim_template, spec.name, ordinal)
        ref = ObjectRef(kinds.PERSISTENT_VOLUME_CLAIM, name, spec.namespace)
        claim = observed.claims.get(name)
        trouble = _claim_trouble(claim, spec)
        if not trouble:
            continue
        pet = f"pet {spec.name}-{ordinal}" + (" is running on it" if ordinal < running and claim is not None else "")
        if claim is None and options.check_mode:
            notes.append(f"{ref} does not exist yet; the real run needs it before the set")
            continue
        refusals.append(
            Refused(str(ref), f"{trouble} ({pet})", way_out="make volume and claim first (role pet_volumes)")
        )
    return refusals


def _claim_trouble(claim: Json, spec: PetSetSpec) -> str:
    if claim is None:
        return "it does not exist"
    if (claim.get("metadata") or {}).get("deletionTimestamp"):
        return "it is being deleted"
    if (claim.get("status") or {}).get("phase") == "Lost":
        return "its volume is lost"
    body = claim.get("spec") or {}
    for what, mine, theirs in (
        ("storage class", spec.storage_class, str(body.get("storageClassName") or "")),
        ("access modes", sorted(spec.access_modes), sorted(body.get("accessModes") or ())),
    ):
        if mine != theirs:
            return f"its {what} {theirs!r} is not the {mine!r} of the set, and the controller would not notice"
    return ""


def _set_refusals(spec: PetSetSpec, live: Json, options: Options) -> tuple[list[PetsetError], bool]:
    """Obstacles in the live set, and whether it has to be made anew around its running pods."""
    refusals: list[PetsetError] = []
    ref = ObjectRef(kinds.STATEFUL_SET, spec.name, spec.namespace)
    body = live.get("spec") or {}
    count = body.get("replicas", 1)
    if spec.replicas < count:
        refusals.append(
            Refused(
                str(ref),
                f"it has {count} pets, {spec.replicas} are wanted: a lower count is never applied as a side effect,"
                " since a pet with data would go",
                value=spec.replicas,
                way_out=f"set the count to {count}; taking pets away is a step of its own",
            )
        )
    refusals += [
        Refused(
            f"claim {spec.namespace}/{claim_name(spec.claim_template, spec.name, ordinal)}",
            f"pet {pet_name(spec.name, ordinal)} had data (server_uuid {spec.known_pets[ordinal]}) before the count was"
            " lowered, and nobody knows how old they are",
            way_out="delete the claim and empty its directory, or keep that aside, and take the line of"
            f" ordinal {ordinal} out of known-pets in ConfigMap {spec.namespace}/{spec.config_map}: the pet is then"
            " made anew",
        )
        # A master that somebody scaled away comes back: the ring judges by GTID what it lacks.
        for ordinal in range(max(count, spec.masters), spec.replicas)
        if ordinal in spec.known_pets
    ]
    start = int((body.get("ordinals") or {}).get("start") or 0)
    if start:
        refusals.append(
            Refused(
                str(ref), f"its ordinals start at {start}, not at 0", way_out="remove spec.ordinals.start from the set"
            )
        )
    wanted = next(one for one in render_objects(spec) if one["kind"] == "StatefulSet")["spec"]
    changed = [(name, list(compare_fields({name: wanted[name]}, {name: body.get(name)}))) for name in _IMMUTABLE]
    changed = [(name, changes) for name, changes in changed if changes]
    for name, changes in changed:
        if options.orphan and name in _ORPHAN_HELPS:
            continue
        listed = "; ".join(f"spec{one.path} is {one.live!r}, wanted {one.wanted!r}" for one in changes)
        way_out = (
            "set it back; or let the set be deleted around its running pods and made anew, with recreate: orphan"
            if name in _ORPHAN_HELPS
            else "set it back; or delete the set with state: absent (claims and data stay) and make it anew"
        )
        refusals.append(Refused(str(ref), f"the API lets nobody change this: {listed}", way_out=way_out))
    return refusals, bool(changed) and not refusals


# --- state: absent ----------------------------------------------------------------------------------------------------

# Kinds that go, in this order. Claims and volumes stay, the Secrets (the data needs its passwords), the ConfigMap with
# the record of the pets that have data, the Lease (which of them has every acknowledged write) and the namespace.
_GO: Final[tuple[Kind, ...]] = (
    kinds.STATEFUL_SET,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.SERVICE,
    kinds.ROLE_BINDING,
    kinds.ROLE,
    kinds.SERVICE_ACCOUNT,
    kinds.CONFIG_MAP,
    kinds.POD,
    kinds.SECRET,
)


def is_kept(ref: ObjectRef, spec: PetSetSpec) -> bool:
    """Whether an object of the set stays when the set goes."""
    if ref in drill_refs(spec.name, spec.namespace):
        return False
    return ref.kind is kinds.SECRET or (ref.kind is kinds.CONFIG_MAP and ref.name == spec.config_map)


def plan_absent(spec: PetSetSpec, observed: Observed) -> Plan:
    """Take the set's objects away and nothing that holds data. Other people's objects stay, with a warning."""
    node_steps, doubts = plan_nodes_off(observed.nodes, observed.pods)
    steps = list(node_steps)
    refusals = list(doubts)
    warnings: list[str] = []
    for kind in _GO:
        for ref, live in observed.objects.items():
            if ref.kind is not kind or live is None or is_kept(ref, spec):
                continue
            if not is_own(live, spec.name):
                warnings.append(f"{ref} was not made for the set {spec.name}{maker_of(live)}: left alone")
                continue
            policy = (live.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
            if kind is kinds.STATEFUL_SET and policy.get("whenDeleted") == "Delete":
                refusals.append(
                    Refused(
                        str(ref),
                        "persistentVolumeClaimRetentionPolicy.whenDeleted is Delete: the claims would go with the set",
                        way_out="run once with state: present, which sets it to Retain",
                    )
                )
            before = {"metadata": {"name": ref.name, "namespace": ref.namespace}}
            steps.append(Step(Action.DELETE, ref, before=before, uid=uid_of(live)))
    return Plan(tuple(steps), tuple(refusals), tuple(warnings))


def plan_known_pets(known: Mapping[int, str], pods: Iterable[Pod]) -> tuple[dict[int, str], tuple[PetsetError, ...]]:
    """The record with the pets that have told who they are, and what contradicts it.

    A pet whose identity is written down outside of its volume will not start on an empty folder that hides its data.
    """
    merged = dict(known)
    refusals: list[PetsetError] = []
    for pod in pods:
        if pod.ordinal is None or not pod.server_uuid or pod.deleting:
            continue
        if merged.setdefault(pod.ordinal, pod.server_uuid) != pod.server_uuid:
            refusals.append(
                Refused(
                    f"Pod {pod.name}",
                    f"it runs with server_uuid {pod.server_uuid}, but the set's record has {merged[pod.ordinal]}",
                    way_out="look at its volume; if it is the right one, correct its line in known-pets (ConfigMap)",
                )
            )
    return merged, tuple(refusals)
