# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of the modules pet_set and pet_set_info: observe, plan, apply, wait; one plan feeds everything else."""

from __future__ import annotations

import base64
import datetime
import secrets
import string
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ._core import kinds
from ._core.agent import render_zip
from ._core.certificates import certificate_names
from ._core.errors import AlreadyExists, Conflict, Forbidden
from ._core.kinds import ObjectRef
from ._core.manifests import AGENT_ZIP, ANNOTATION_AGENT_HASH, ANNOTATION_NOT_AFTER, PetSetSpec
from ._core.names import claim_name
from ._core.nodes_off import parse_nodes_off
from ._core.options import parse_adopt
from ._core.pet_probe import judge_probes, redact_probe
from ._core.pet_set_spec import parse_identity, parse_passwords, parse_spec, with_secrets_of
from ._core.pods import Pod, parse_ordinal, redact_pod
from ._core.redact import Redactor
from ._core.secrets_plan import TLS_KEYS
from ._core.set_steps import Observed, Options, Plan, Step, combine_refusals, is_own, render_diff
from ._core.shared_nodes import move_a_pet, note_shared_nodes
from ._core.statefulset import SetView, decide_readiness, parse_statefulset, plan_healing
from ._core.statefulset_plan import absent_refs, is_kept, plan_absent, plan_known_pets, plan_pet_set
from ._core.status_table import render_table
from ._io.agent import read_pymysql
from ._io.clock import Deadline
from ._io.kube import KubeClient
from ._io.observe import observe_shared_nodes
from ._io.openssl import make_certificates
from ._io.pet_set import (
    Secrets,
    Seen,
    Watcher,
    apply_step,
    judge_seen,
    known_pets_of,
    list_claims,
    observe_evidence,
    observe_pet_set,
    observe_pods,
    observe_redactor,
    observe_storage,
    record_known_pets,
    render_pet,
    secret_values,
)
from ._io.podexec import observe_probes
from ._io.wait import Judgement, wait_until
from ._module import Module, mask_secret, progress_of

Partial = MutableMapping[str, Any]

_missing_library: Callable[[str], str] = missing_required_lib

# Long enough that nobody guesses it, short enough for a replication channel (32 bytes).
PASSWORD_CHARACTERS = 28
_ALPHABET = string.ascii_letters + string.digits
# How often a run starts over because somebody else wrote at the same moment.
_ATTEMPTS = 5
_WARN_DAYS = 60


def make_password() -> str:
    """A password that no shell, option file or SQL statement has to quote; about 166 bits."""
    return "".join(secrets.choice(_ALPHABET) for _place in range(PASSWORD_CHARACTERS))


def run_pet_set(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    """The module pet_set. ``partial`` always says what was done so far."""
    partial["actions"] = []
    if module.params["state"] == "absent":
        return _run_absent(module, client, partial)
    return _run_present(module, client, partial)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the user asked for, checked."""

    spec: PetSetSpec
    options: Options


def _parse(module: Module) -> _Wish:
    params = module.params
    spec = parse_spec(params)
    given, needed = parse_passwords(params["passwords"] or {}, params["app"])
    return _Wish(
        spec,
        Options(
            adopt=parse_adopt(params["adopt"]),
            force_conflicts=params["force_conflicts"],
            orphan=params["recreate"] == "orphan",
            check_mode=module.check_mode,
            passwords=given,
            needed_keys=needed,
            store_changed_passwords=params["store_changed_passwords"],
            nodes_off=parse_nodes_off("nodes_off", params["nodes_off"]),
            manage_secret=not params["passwords_secret"],
            manage_tls=not params["tls_secret"],
        ),
    )


def _run_present(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    wish = _parse(module)
    for value in wish.options.passwords.values():
        if value in (module.params["passwords"] or {}).values():
            mask_secret(module, value)
    attempt = 0
    while True:
        attempt += 1
        observed = observe_pet_set(client, wish.spec, nodes=wish.options.nodes_off)
        masked = secret_values(observed.objects, wish.spec)
        for value in masked.values():
            mask_secret(module, value)
        spec = replace(wish.spec, known_pets=known_pets_of(observed, wish.spec))
        spec = _with_zip(module, spec, observed)
        plan = plan_pet_set(spec, observed, wish.options)
        if plan.refusals:
            raise combine_refusals(spec.name, plan.refusals)
        if module.check_mode:
            return _predict(module, client, spec, observed, plan)
        try:
            _apply(module, client, spec, plan, partial)
            break
        except (AlreadyExists, Conflict):
            if attempt >= _ATTEMPTS:
                raise
            client.clock.sleep(0.2 * attempt)
    result: dict[str, Any] = {
        "changed": partial["changed"],
        "actions": partial["actions"],
        "restarts_pets": plan.restarts,
        "warnings": [*plan.warnings, *_certificate_warnings(observed, spec)],
    }
    if module._diff:
        result["diff"] = render_diff(plan.steps)
    if module.params["wait"]:
        result.update(_wait_ready(module, client, spec, partial, tuple(masked.values())))
    return result


def _with_zip(module: Module, spec: PetSetSpec, observed: Observed) -> PetSetSpec:
    """The spec with the agent's zip: the one that is there while the agent's sources are the same, else a new one."""
    agent = spec.agent
    if agent is None:
        return spec
    live = observed.objects.get(ObjectRef(kinds.CONFIG_MAP, spec.agent_config_map, spec.namespace)) or {}
    there = str((live.get("binaryData") or {}).get(AGENT_ZIP, ""))
    notes = (live.get("metadata") or {}).get("annotations") or {}
    if not there or notes.get(ANNOTATION_AGENT_HASH) != agent.hash:
        library = read_pymysql()
        if library is None:
            module.fail_json(msg=_missing_library("PyMySQL"))
        there = base64.b64encode(render_zip(agent.files, library)).decode()
    return replace(spec, agent=replace(agent, zip_b64=there))


def _apply(module: Module, client: KubeClient, spec: PetSetSpec, plan: Plan, partial: Partial) -> None:
    def generate(step: Step) -> tuple[Secrets, Mapping[str, str]]:
        made, annotations = _generate(module, spec, step)
        for key, value in made.items():
            if key.endswith(("-password", ".key")):
                mask_secret(module, value)
        return made, annotations

    for step in plan.steps:
        apply_step(client, step, generate)
        partial["changed"] = True
        partial["actions"].append(step.describe())


def _generate(module: Module, spec: PetSetSpec, step: Step) -> tuple[Secrets, Mapping[str, str]]:
    """Values that a Secret still lacks."""
    if step.generate != TLS_KEYS:
        return {key: make_password() for key in step.generate}, {}
    files, end_s = make_certificates(
        lambda words: module.run_command(list(words), handle_exceptions=False),
        f"{spec.name}.{spec.namespace}",
        certificate_names(spec),
        module.params["tls_days"],
    )
    end = datetime.datetime.fromtimestamp(end_s, datetime.timezone.utc)
    return files, {ANNOTATION_NOT_AFTER: end.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _certificate_warnings(observed: Observed, spec: PetSetSpec) -> list[str]:
    live = observed.objects.get(ObjectRef(kinds.SECRET, spec.tls_secret, spec.namespace)) or {}
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_NOT_AFTER, "")
    try:
        end = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return []
    days = int((end.timestamp() - time.time()) // 86400)
    if days > _WARN_DAYS:
        return []
    return [f"the certificate in Secret {spec.namespace}/{spec.tls_secret} ends in {days} days ({text})"]


def _predict(module: Module, client: KubeClient, spec: PetSetSpec, observed: Observed, plan: Plan) -> Mapping[str, Any]:
    """What the real run would do, from the same plan."""
    actions = [step.describe() for step in plan.steps]
    seen: dict[str, Any] = {}
    live = observed.objects.get(ObjectRef(kinds.STATEFUL_SET, spec.name, spec.namespace))
    if live is not None and module.params["wait"]:
        view, pods = parse_statefulset(live), observe_pods(client, spec)
        known, refusals = plan_known_pets(spec.known_pets, pods)
        if refusals:
            raise combine_refusals(spec.name, refusals)
        if known != spec.known_pets:
            actions.append(_record_line(spec.known_pets, spec, known))
        if module.params["heal_stuck_pods"]:
            actions += [_heal_line(spec, pod) for pod in plan_healing(view, pods)]
        readiness = decide_readiness(view, pods)
        seen = {"ready": readiness.ready, "pets": [render_pet(pet) for pet in readiness.pets]}
    result: dict[str, Any] = {
        **seen,
        "changed": bool(actions),
        "actions": actions,
        "notes": list(plan.notes),
        "restarts_pets": plan.restarts,
        "warnings": [*plan.warnings, *_certificate_warnings(observed, spec)],
    }
    if module._diff:
        result["diff"] = render_diff(plan.steps)
    return result


def _record_line(recorded: Mapping[int, str], spec: PetSetSpec, known: Mapping[int, str]) -> str:
    new = sorted(set(known) - set(recorded))
    return f"record in ConfigMap {spec.namespace}/{spec.config_map} that pets {', '.join(map(str, new))} have data"


def _heal_line(spec: PetSetSpec, pod: Pod) -> str:
    return f"delete Pod {spec.namespace}/{pod.name} (of revision {pod.revision}, not ready, holds the roll-out up)"


def _wait_ready(
    module: Module, client: KubeClient, spec: PetSetSpec, partial: Partial, masked: tuple[str, ...]
) -> dict[str, Any]:
    def healed(pod: Pod) -> None:
        partial["changed"] = True
        partial["actions"].append(_heal_line(spec, pod))

    watcher = Watcher(client, spec, client.clock, module.params["heal_stuck_pods"], healed, masked)
    recorded = dict(spec.known_pets)

    def look() -> Seen:
        """Whoever told its name has data from then on, whether or not the set gets ready in time."""
        seen = watcher.look()
        known, refusals = plan_known_pets(recorded, seen.pods)
        if refusals:
            raise combine_refusals(spec.name, refusals)
        if known != recorded:
            record_known_pets(client, replace(spec, known_pets=known))
            partial["changed"] = True
            partial["actions"].append(_record_line(recorded, spec, known))
            recorded.update(known)
        return seen

    waited = wait_until(
        f"StatefulSet {spec.namespace}/{spec.name}",
        look,
        judge_seen,
        Deadline(client.clock, module.params["wait_timeout"]),
        clock=client.clock,
        progress=progress_of(module),
        explain=watcher.explain,
    )
    return {
        "changed": partial["changed"],
        "actions": partial["actions"],
        "ready": True,
        "pets": list(waited.judgement.pets),
        "waited_s": round(waited.seconds, 1),
        "progress": waited.lines,
    }


# --- state: absent ----------------------------------------------------------------------------------------------------


def _run_absent(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    spec = parse_identity(module.params)
    nodes_off = parse_nodes_off("nodes_off", module.params["nodes_off"])
    observed = observe_pet_set(client, spec, absent_refs(spec), nodes_off)
    plan = plan_absent(spec, observed)
    if plan.refusals:
        raise combine_refusals(spec.name, plan.refusals)
    result: dict[str, Any] = {
        "changed": bool(plan.steps),
        "actions": partial["actions"],
        "kept": _kept(spec, observed) + _kept_lease(client, spec),
        "warnings": list(plan.warnings),
    }
    if module._diff:
        result["diff"] = render_diff(plan.steps)
    if module.check_mode:
        result["actions"] = [step.describe() for step in plan.steps]
        return result
    for step in plan.steps:
        apply_step(client, step, lambda _step: ({}, {}))
        partial["changed"] = True
        partial["actions"].append(step.describe())
    if module.params["wait"]:
        result.update(_wait_gone(module, client, spec))
    return result


def _kept(spec: PetSetSpec, observed: Observed) -> list[str]:
    """What stays: the set's claims, the Secrets that its data needs, the record of the pets that have data."""
    prefix = f"{spec.claim_template}-{spec.name}-"
    claims = [name for name in observed.claims or () if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    kept = [
        str(ObjectRef(kinds.PERSISTENT_VOLUME_CLAIM, name, spec.namespace))
        for name in sorted(claims, key=lambda name: parse_ordinal(name) or 0)
    ]
    return kept + [str(ref) for ref, live in observed.objects.items() if is_kept(ref, spec) and live is not None]


def _kept_lease(client: KubeClient, spec: PetSetSpec) -> list[str]:
    """The Lease stays as well: it says which pets have every acknowledged write."""
    try:
        live = client.get(kinds.LEASE, spec.lease, spec.namespace)
    except Forbidden:
        return []
    return [str(ObjectRef(kinds.LEASE, spec.lease, spec.namespace))] if live is not None else []


def _wait_gone(module: Module, client: KubeClient, spec: PetSetSpec) -> dict[str, Any]:
    """Wait until the set and its pods are gone; says what holds those that are not."""

    def look() -> Seen:
        live = client.get(kinds.STATEFUL_SET, spec.name, spec.namespace)
        view = parse_statefulset(live) if live is not None and is_own(live, spec.name) else None
        return Seen(view, observe_pods(client, spec), None)

    def judge(seen: Seen) -> Judgement:
        left = [pod.name for pod in seen.pods]
        if seen.view is not None:
            left.append(f"StatefulSet {spec.name}")
        return Judgement(not left, f"still there: {', '.join(left)}" if left else "all pets are gone")

    def explain(seen: Seen) -> Judgement:
        view = SetView(spec.name, spec.namespace, "", 0, 0, 0)
        evidence, _events = observe_evidence(client, spec, view, seen.pods, Redactor().hide)
        nodes = {pod.name: evidence[pod.name].node for pod in seen.pods}
        told = [
            f"{pod.name} on node {pod.node or '(none)'}"
            + (" which is not Ready" if (node := nodes[pod.name]) is not None and node.ready is False else "")
            for pod in seen.pods
        ]
        return Judgement(
            False,
            f"still there: {', '.join(told) or 'the set'}",
            way_out="run again when the node is back, or with it in nodes_off when it is surely off",
        )

    waited = wait_until(
        f"StatefulSet {spec.namespace}/{spec.name}",
        look,
        judge,
        Deadline(client.clock, module.params["wait_timeout"]),
        clock=client.clock,
        progress=progress_of(module),
        explain=explain,
    )
    return {"waited_s": round(waited.seconds, 1)}


# --- pet_set_info -----------------------------------------------------------------------------------------------------


def run_pet_set_info(module: Module, client: KubeClient, _partial: Partial) -> Mapping[str, Any]:
    """The module pet_set_info: the whole set as it is, with reasons. Nothing is written and nothing is waited for."""
    params = module.params
    spec = parse_identity({**params, "client_service": {"enabled": False}})
    live = client.get(kinds.STATEFUL_SET, spec.name, spec.namespace)
    if live is None:
        return {"changed": False, "exists": False, "ready": False, "pets": [], "table": "there is no such set"}
    view = parse_statefulset(live)
    spec = replace(spec, service=str((live.get("spec") or {}).get("serviceName") or spec.service))
    spec = replace(spec, claim_template=view.claim_template or spec.claim_template)
    pods = observe_pods(client, spec)
    readiness = decide_readiness(view, pods)
    # Only words of others can hold a secret: who shows none reads none.
    redactor = Redactor()
    if readiness.missing or params["probe"]:
        redactor = observe_redactor(client, with_secrets_of(spec, live))
        pods = tuple(redact_pod(pod, redactor.hide) for pod in pods)
        readiness = decide_readiness(view, pods)
    stuck = [pet.pod for pet in readiness.missing]
    if readiness.missing:
        evidence, set_events = observe_evidence(client, spec, view, stuck, redactor.hide)
        readiness = decide_readiness(view, pods, evidence, set_events=set_events)
    own = {pet.ordinal: claim_name(spec.claim_template, spec.name, pet.ordinal) for pet in readiness.pets}
    # What the pod itself names, where there is one: whoever judges holds it against what its ordinal says.
    claims = {
        pet.ordinal: own[pet.ordinal] if pet.pod is None else dict(pet.pod.claims).get(spec.claim_template)
        for pet in readiness.pets
    }
    looked_at = {ordinal: claim or own[ordinal] for ordinal, claim in claims.items()}
    storage = observe_storage(client, spec.namespace, list_claims(client, spec), looked_at.values())
    pets: list[dict[str, Any]] = [
        {
            **render_pet(pet),
            **storage[looked_at[pet.ordinal]],
            "claim": claims[pet.ordinal],
            "dns": f"{pet.name}.{spec.domain}",
        }
        for pet in readiness.pets
    ]
    if params["probe"]:
        ready = {pet.name: pet.pod.ip for pet in readiness.pets if pet.ready and pet.pod is not None}
        seen = observe_probes(client, spec.namespace, list(ready), spec.service)
        probes = {name: redact_probe(probe, redactor.hide) for name, probe in seen.items()}
        judged = judge_probes(probes, ready, spec.service)
        pets = [{**pet, **judged.get(pet["name"], {})} for pet in pets]
    shared = [one.render(move_a_pet(spec.namespace)) for one in observe_shared_nodes(client, pods)]
    return {
        "changed": False,
        "exists": True,
        "ready": readiness.ready,
        "summary": readiness.describe(),
        "replicas": view.replicas,
        "strategy": view.strategy.value,
        "partition": view.partition,
        "update_revision": view.update_revision,
        "claim_template": spec.claim_template,
        "pets": pets,
        "shared_nodes": shared,
        "table": "\n".join([table_of(pets), *note_shared_nodes(shared)]),
    }


def table_of(pets: Sequence[Mapping[str, Any]]) -> str:
    """The table of pet_set_info, one line per pet."""
    columns: tuple[tuple[str, str], ...] = (
        ("ORDINAL", "ordinal"),
        ("PET", "name"),
        ("STATE", "state"),
        ("NODE", "node"),
        ("IP", "ip"),
        ("POD UID", "pod_uid"),
        ("RESTARTS", "restarts"),
        ("CLAIM", "claim"),
        ("VOLUME", "volume"),
        ("EXPORT", "export"),
    )
    if any("dns_ok" in pet for pet in pets):
        columns += (("DNS", "dns_ok"), ("PING", "ping_ok"), ("MOUNTED", "mounted"))
    rows = [
        {
            **pet,
            "state": "ready" if pet["ready"] else pet["trouble"],
            "mounted": ",".join((pet.get("mount") or {}).get("options", ())),
        }
        for pet in pets
    ]
    table = render_table(
        [title for title, _key in columns], [[row.get(key) for _title, key in columns] for row in rows]
    )
    notes = [f"{pet['name']}: {pet['reason']}" for pet in pets if not pet["ready"]]
    for pet in pets:
        notes += [
            f"{pet['name']}: {name} is {', '.join(found) or 'unknown'} to it"
            for name, found in pet.get("dns_wrong", {}).items()
        ]
        notes += [
            f"{pet['name']}: {name} does not answer" for name, said in pet.get("ping", {}).items() if said == "failed"
        ]
        notes += [
            f"{pet['name']}: {name} does not answer SQL: {said}"
            for name, said in pet.get("sql", {}).items()
            if said not in ("ok", "unknown")
        ]
        notes += (
            [f"{pet['name']}: nothing could be run in it: {pet['probe_failure']}"] if pet.get("probe_failure") else []
        )
    return "\n".join([table, *notes])
