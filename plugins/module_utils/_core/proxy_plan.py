# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that the proxies are as wanted, and how far a roll-out of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import kinds
from .errors import PetsetError
from .judgement import Judgement
from .kinds import Kind, ObjectRef, ref_of
from .manifests import ANNOTATION_CONFIG_HASH
from .objects_plan import plan_object, refuse_foreign, refuse_namespace
from .pods import Evidence, Pod, WhyNot, decide_why_not_ready
from .proxy import CONTAINER, ProxySpec, render_proxy
from .redact import Redactor
from .set_steps import Action, NamespaceState, Options, Plan, Step, is_own, maker_of, uid_of

Json = Any
Objects = Mapping[ObjectRef, Json]


@dataclass(frozen=True, slots=True)
class ProxyPlan:
    """``plan.steps`` in order. ``reload``: running proxies have to load the ConfigMap anew before the last step."""

    plan: Plan
    reload: bool = False


def proxy_refs(spec: ProxySpec) -> tuple[ObjectRef, ...]:
    """Every object to read, one request each."""
    return tuple(ref_of(one) for one in render_proxy(spec))


def plan_proxy(spec: ProxySpec, namespace: NamespaceState, objects: Objects, options: Options) -> ProxyPlan:
    """The plan for ``state: present``. Raises nothing: what stands in the way is in ``refusals``."""
    # A look at what a whole site would do comes before the namespace is made.
    refusals: list[PetsetError] = refuse_namespace(spec.namespace, namespace, may_be_made=options.check_mode)
    notes: tuple[str, ...] = ()
    if namespace.exists is False:
        notes = (f"Namespace {spec.namespace} does not exist yet; the real run needs it",)
    refusals += refuse_foreign(spec.set_name, proxy_refs(spec), objects, options.adopt)
    found = [plan_object(manifest, objects, options) for manifest in render_proxy(spec)]
    steps = tuple(step for step in found if step is not None)
    rolls = any(
        change.path.startswith(".spec.template")
        for step in steps
        if step.ref.kind is kinds.DEPLOYMENT and step.action is Action.UPDATE
        for change in step.changes
    )
    return ProxyPlan(Plan(steps, tuple(refusals), notes=notes, restarts=rolls), _must_reload(spec, objects))


def _must_reload(spec: ProxySpec, objects: Objects) -> bool:
    """Whether proxies run that may have loaded another configuration: what the Deployment's annotation is for."""
    wanted = render_proxy(spec)[-1]
    live = objects.get(ref_of(wanted))
    if live is None:
        return False
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    return bool(annotations.get(ANNOTATION_CONFIG_HASH) != wanted["metadata"]["annotations"][ANNOTATION_CONFIG_HASH])


_GO: Final[tuple[Kind, ...]] = (
    kinds.DEPLOYMENT,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
)


def plan_proxy_absent(spec: ProxySpec, objects: Objects) -> Plan:
    """Take the proxies away. Other people's objects stay, with a warning."""
    steps: list[Step] = []
    warnings: list[str] = []
    for kind in _GO:
        for ref, live in objects.items():
            if ref.kind is not kind or live is None:
                continue
            if not is_own(live, spec.set_name):
                warnings.append(f"{ref} was not made for the set {spec.set_name}{maker_of(live)}: left alone")
                continue
            before = {"metadata": {"name": ref.name, "namespace": ref.namespace}}
            steps.append(Step(Action.DELETE, ref, before=before, uid=uid_of(live)))
    return Plan(tuple(steps), warnings=tuple(warnings))


# --- readiness --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rollout:
    """A Deployment's numbers of pods: ``updated`` have the newest template, ``total`` all that are not going.

    ``failure`` is the controller's own word about pods that it cannot make.
    """

    observed: bool
    wanted: int
    updated: int
    available: int
    total: int
    failure: str = ""

    @property
    def done(self) -> bool:
        """Whether all pods are there, new and available, and no other."""
        return self.observed and self.updated >= self.wanted <= self.available and self.total == self.wanted


def parse_rollout(live: Mapping[str, Json]) -> Rollout:
    """Read a Deployment's JSON."""
    meta, spec, status = (live.get(key) or {} for key in ("metadata", "spec", "status"))
    failed = [
        str(one.get("message", ""))
        for one in status.get("conditions") or ()
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True"
    ]
    return Rollout(
        observed=int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0),
        wanted=int(spec.get("replicas", 1)),
        updated=int(status.get("updatedReplicas") or 0),
        available=int(status.get("availableReplicas") or 0),
        total=int(status.get("replicas") or 0),
        failure=Redactor().hide(" ".join(failed)),
    )


def why_not_ready(pods: Sequence[Pod], evidence: Mapping[str, Evidence]) -> dict[str, WhyNot]:
    """By name, each pod that does not work and is not going, with the reason."""
    found = {
        pod.name: decide_why_not_ready(pod, evidence.get(pod.name, Evidence())) for pod in pods if not pod.deleting
    }
    return {name: why for name, why in found.items() if why.trouble.value != "none"}


def judge_rollout(rollout: Rollout | None, pods: Sequence[Pod], evidence: Mapping[str, Evidence]) -> Judgement:
    """What a look at the proxies means for somebody who waits."""
    if rollout is None:
        return Judgement(
            False,
            "the proxies are not there",
            hopeless="the Deployment was deleted in the meantime",
            way_out="run again",
        )
    stuck = why_not_ready(pods, evidence)
    summary = f"{min(rollout.available, rollout.updated)} of {rollout.wanted} proxies ready"
    parts = [f"{name}: {why.describe()}" for name, why in stuck.items()]
    if not rollout.observed:
        parts.insert(0, "the controller has not yet looked at the new specification")
    if rollout.failure:
        parts.append(rollout.failure)
    final = next((f"{name}: {why.seen}" for name, why in stuck.items() if why.final), "")
    return Judgement(
        done=rollout.done,
        summary="; ".join([summary, *parts]),
        pets=[render_proxy_pod(pod, stuck.get(pod.name)) for pod in pods if not pod.deleting],
        hopeless="" if rollout.done else final,
        way_out=next((why.way_out for why in stuck.values() if why.way_out), ""),
    )


def render_proxy_pod(pod: Pod, why: WhyNot | None) -> dict[str, Any]:
    """One proxy for a result."""
    return {
        "name": pod.name,
        "ready": why is None,
        "reason": "" if why is None else why.describe(),
        "pod_uid": pod.uid,
        "node": pod.node or None,
        "ip": pod.ip or None,
        "restarts": pod.restarts,
    }


def is_running(pod: Pod) -> bool:
    """Whether a process runs in there that may have loaded an older configuration."""
    return not pod.deleting and any(one.name == CONTAINER and one.running for one in pod.containers)
