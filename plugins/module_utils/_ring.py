# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of the modules mysql_ring and mysql_ring_info: look, plan, apply, judge; one plan feeds all."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ._core import kinds
from ._core.diff import merge_patch, render_diff, render_yaml
from ._core.errors import AlreadyExists, ApiError, Conflict, Forbidden, InvalidInput, NotFound
from ._core.kinds import ObjectRef
from ._core.manifests import PetSetSpec, find_agent
from ._core.names import parse_count, pet_name
from ._core.pet_set_spec import parse_identity, with_secrets_of
from ._core.redact import Redactor
from ._core.ring import MAX_PASSWORD_BYTES, SECRET_KEY, LeaseView, Mode, PetState, Ring, RingPet, State, redact_state
from ._core.ring_copy import WAY_OUT_COPY, CopyLimits, LagWatch
from ._core.ring_doubt import Looks, find_suspects
from ._core.ring_judge import RingJudgement, Word, judge_markers, judge_ring, lacks_markers, render_ring_table
from ._core.ring_plan import Kind, RingPlan, RingStep, batches_of, channel_settings, hash_password, plan_ring
from ._core.ring_trouble import Found, RingTrouble
from ._io.clock import Deadline
from ._io.compare import compare_pets
from ._io.kube import KubeClient
from ._io.mysql import HAS_PYMYSQL, PYMYSQL_IMPORT_ERROR, ChannelRuns, Connector, PetGone, Pets, port_forward_connector
from ._io.pet_set import secret_values
from ._io.wait import Judgement, wait_until
from ._module import Module, mask_secret, progress_of

Partial = MutableMapping[str, Any]
Connect = Callable[[KubeClient, str, str, str], Connector]
"""Client, namespace, authority (PEM) and password to a connector; tests hand in another."""
Adapt = Callable[[Ring], Ring]
"""A ring with other addresses, for tests; by default a copy."""

_missing_library: Callable[[str], str] = missing_required_lib
_ADMIN_KEY = "admin-password"
_ATTEMPTS = 5
# A switch of roles can look broken for a moment; what is seen so often in a row is not one.
_BROKEN_LOOKS = 6
# An agent stops its pet's receiver while it opens the pet, and starts a stopped channel within 2 s (its backoff_s). One
# that leaves it stopped for so long is not at work.
_AGENT_LIMIT_S = 30.0
# A pet that dies in the middle of each CLONE is not seeded for ever: later ones do not set the time limit back.
_SEEDINGS = 3
_LOOK_AGAIN_S = 1.0
# For how long something that a transaction under way could explain has to be seen before a run refuses for it; and
# before it is only called certain. An agent takes a standby that acknowledges nothing out of the in-sync set sooner.
_REFUSE_AFTER_S = 15.0
_CERTAIN_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class RingWish:
    """What the user asked for, checked; how many pets there are stands in the StatefulSet."""

    spec: PetSetSpec
    masters: int
    mode: Mode
    clone_over_mib: int
    lag_limit_s: float


def parse_wish(params: Mapping[str, Any]) -> RingWish:
    """InvalidInput: names the option, the value and what is allowed."""
    spec = parse_identity({**params, "claim_template": "db", "client_service": {"enabled": False}})
    for option, least in (("clone_threshold", 0), ("clone_limit", 0), ("lag_limit", 1), ("compare_limit", 1)):
        if params.get(option, least) < least:
            raise InvalidInput(option, params[option], "too small", f"a whole number from {least} on")
    return RingWish(
        spec,
        parse_count("masters", params["masters"]),
        Mode(params["mode"]),
        params["clone_threshold"],
        float(params["lag_limit"]),
    )


@dataclass(slots=True)
class Target:
    """What the API knows of the set. ``replicas`` None: there is no such set."""

    replicas: int | None
    agents: bool = False
    admin_password: str = ""
    replication_password: str = ""
    ca: str = ""
    redactor: Redactor = field(default_factory=Redactor)


@dataclass(slots=True)
class _Look:
    """One look with what it means."""

    states: Mapping[str, State]
    lease: LeaseView
    plan: RingPlan
    judged: RingJudgement


@dataclass(slots=True)
class _Work:
    """Everything that one run of a module has at hand."""

    module: Module
    client: KubeClient
    ring: Ring
    pets: Pets
    secret: str
    redactor: Redactor
    may_lack_lease: bool = False
    broken_looks: int = 0
    left_since_s: Mapping[str, float] = field(default_factory=dict)
    looks: Looks = field(default_factory=lambda: Looks(_REFUSE_AFTER_S))
    deadline: Deadline | None = None
    seedings: Counter[str] = field(default_factory=Counter)
    lags: LagWatch = field(default_factory=LagWatch)

    def look(self) -> _Look:
        """The Lease first: what pets say afterwards is at least as new as their roles."""
        lease = _observe_lease(self.client, self.ring, self.may_lack_lease)
        states = {name: redact_state(one, self.redactor.hide) for name, one in self.pets.observe().items()}
        up = {name: state for name, state in states.items() if isinstance(state, PetState)}
        self.looks = self.looks.after(find_suspects(self.ring, up, lease), up, self.client.clock.now_s())
        plan = plan_ring(self.ring, states, lease, hash_password(self.secret) if self.secret else "", self.looks)
        self._do_what_was_left(plan)
        return _Look(states, lease, plan, judge_ring(self.ring, states, lease, plan))

    def _do_what_was_left(self, plan: RingPlan) -> None:
        now_s = self.client.clock.now_s()
        self.left_since_s = {name: self.left_since_s.get(name, now_s) for name in plan.left}
        for name, since_s in self.left_since_s.items():
            if now_s - since_s >= _AGENT_LIMIT_S:
                plan.steps.append(plan.left.pop(name))

    def look_after_agents(self) -> _Look:
        """A look when the agents have done what they do by themselves: it is no change of ours, nor is it foretold."""
        look = self.look_without_doubt()
        while look.plan.left and not look.plan.refusals:
            names = ", ".join(look.plan.left)
            progress_of(self.module)(f"replication of {self.ring.set_name}: the agent starts the channel of {names}")
            self.client.clock.sleep(_LOOK_AGAIN_S)
            look = self.look_without_doubt()
        return look

    def look_without_doubt(self) -> _Look:
        """A look when what could be a transaction under way has passed, or has lasted."""
        look = self.look()
        while self.looks.must_go_on and not look.plan.refusals:
            said = "; ".join(look.plan.doubts or look.judged.uncertain)
            progress_of(self.module)(f"replication of {self.ring.set_name}: {said}: looking again")
            self.client.clock.sleep(_LOOK_AGAIN_S)
            look = self.look()
        return look


def observe_target(client: KubeClient, spec: PetSetSpec) -> Target:
    """Three reads. NotFound: a Secret or a key of it is missing. InvalidInput: a password too long."""
    live = client.get(kinds.STATEFUL_SET, spec.name, spec.namespace)
    if live is None:
        return Target(None)
    spec = with_secrets_of(spec, live)
    with ThreadPoolExecutor(2) as pool:
        refs = [ObjectRef(kinds.SECRET, name, spec.namespace) for name in (spec.secret, spec.tls_secret)]
        passwords, tls = pool.map(lambda ref: client.get(ref.kind, ref.name, ref.namespace), refs)
    admin, replication = (_value(passwords, spec.namespace, spec.secret, key) for key in (_ADMIN_KEY, SECRET_KEY))
    size = len(replication.encode())
    if size > MAX_PASSWORD_BYTES:
        raise InvalidInput(
            f"Secret {spec.namespace}/{spec.secret}, key {SECRET_KEY}",
            None,
            f"the password has {size} bytes, MySQL takes no longer one than {MAX_PASSWORD_BYTES} for a channel",
            f"at most {MAX_PASSWORD_BYTES} bytes",
        )
    live_spec = live.get("spec") or {}
    return Target(
        int(live_spec.get("replicas", 1)),
        find_agent((live_spec.get("template") or {}).get("spec") or {}) is not None,
        admin,
        replication,
        _value(tls, spec.namespace, spec.tls_secret, "ca.crt"),
        Redactor(tuple(secret_values(dict(zip(refs, (passwords, tls))), spec).values())),
    )


def _value(secret: Mapping[str, Any] | None, namespace: str, name: str, key: str) -> str:
    text = ((secret or {}).get("data") or {}).get(key)
    if not text:
        what = f"has no key {key}" if secret is not None else "is not there"
        raise NotFound(
            f"Secret {namespace}/{name}", what, status=404, way_out="run pet_set first, or bring the Secret back"
        )
    try:
        # A line end at the end of a file that somebody made by hand is not part of the value; the pets cut it too.
        return base64.b64decode(text).decode().rstrip("\n")
    except (binascii.Error, UnicodeDecodeError):
        raise NotFound(f"Secret {namespace}/{name}", f"key {key} is not text") from None


def _observe_lease(client: KubeClient, ring: Ring, may_lack: bool) -> LeaseView:
    try:
        return LeaseView(client.get(kinds.LEASE, ring.set_name, ring.namespace))
    except Forbidden as problem:
        if not may_lack:
            raise
        return LeaseView(unknown=problem.reason)


def _open(
    module: Module,
    client: KubeClient,
    wish: RingWish,
    target: Target,
    connect: Connect,
    adapt: Adapt,
    *,
    info: bool = False,
) -> _Work:
    if not HAS_PYMYSQL:
        module.fail_json(msg=_missing_library("PyMySQL"), exception=PYMYSQL_IMPORT_ERROR)
    for secret in (target.admin_password, target.replication_password):
        mask_secret(module, secret)
    spec = wish.spec
    ring = Ring(
        spec.name,
        spec.namespace,
        tuple(
            RingPet(name, ordinal, f"{name}.{spec.domain}")
            for ordinal in range(target.replicas or 0)
            for name in [pet_name(spec.name, ordinal)]
        ),
        masters=wish.masters,
        mode=wish.mode,
        clone_over_mib=wish.clone_over_mib,
        lag_limit_s=wish.lag_limit_s,
        agents=target.agents,
    )
    ring = adapt(ring)
    try:
        connector = connect(client, spec.namespace, target.ca, target.admin_password)
    except ValueError as problem:  # ssl.SSLError is one
        raise InvalidInput(
            f"Secret {spec.namespace}/{spec.tls_secret}, key ca.crt", None, f"not a certificate: {problem}", "PEM"
        ) from None
    pets = Pets(ring, connector, clock=client.clock, limits=_copy_limits(module.params))
    return _Work(module, client, ring, pets, target.replication_password, target.redactor, info)


def _copy_limits(params: Mapping[str, Any]) -> CopyLimits:
    """The module that only looks has neither option, and waits for no CLONE."""
    return CopyLimits(params.get("wait_timeout", math.inf), params.get("clone_limit") or math.inf)


# --- mysql_ring -------------------------------------------------------------------------------------------------------


def run_mysql_ring(
    module: Module,
    client: KubeClient,
    partial: Partial,
    connect: Connect = port_forward_connector,
    adapt: Adapt = replace,
) -> Mapping[str, Any]:
    """The module mysql_ring. ``partial`` always says what was done so far."""
    partial["actions"] = []
    wish = parse_wish(module.params)
    target = observe_target(client, wish.spec)
    if target.replicas is None:
        return _without_set(module, wish)
    work = _open(module, client, wish, target, connect, adapt)
    try:
        look = work.look_after_agents()
        look.plan.raise_if_refused(work.ring.set_name)
        result = _diff(module, work.ring, look)
        if module.check_mode:
            actions = [step.describe() for step in look.plan.steps]
            notes = [f"cannot be known yet: {reason}" for reason in look.plan.pending]
            return {**result, **_render(look), "changed": bool(actions), "actions": actions, "notes": notes}
        try:
            look = _apply(work, look, partial)
            is_done = look.judged.word is Word.HEALTHY
        except PetGone:
            if not module.params["wait"]:
                raise
            is_done = False
        if module.params["wait"] and not is_done:
            look, waited = _wait(work, partial)
            result.update(waited)
        return {**result, **_render(look), "changed": partial["changed"], "actions": partial["actions"]}
    finally:
        work.pets.close()


def _without_set(module: Module, wish: RingWish) -> Mapping[str, Any]:
    subject = f"StatefulSet {wish.spec.namespace}/{wish.spec.name}"
    if not module.check_mode:
        raise NotFound(subject, "it does not exist", status=404, way_out="make the set with pet_set first")
    return {
        "changed": True,
        "actions": [f"set up replication between {wish.masters} masters ({wish.mode.value}) once the pets run"],
        "notes": [f"the statements cannot be known yet: {subject} does not exist"],
        "pets": [],
        "writer": None,
        "in_sync": [],
        "judgement": {"word": Word.UNCERTAIN.value, "certain": [], "uncertain": ["there is no such set"], "notes": []},
        "troubles": [],
    }


def _apply(work: _Work, look: _Look, partial: Partial) -> _Look:
    """Carry out the steps; begins anew with a new look when somebody else was faster. Gives the last look."""
    attempt = 0
    while look.plan.steps:
        attempt += 1
        try:
            for batch in batches_of(look.plan.steps):
                _run_batch(work, batch, partial)
        except (AlreadyExists, Conflict, ChannelRuns):
            if attempt >= _ATTEMPTS:
                raise
            look = work.look_without_doubt()
            look.plan.raise_if_refused(work.ring.set_name)
            continue
        return work.look_without_doubt()
    return look


def _run_batch(work: _Work, batch: Sequence[Sequence[RingStep]], partial: Partial) -> None:
    """The steps of each pet in their order, all pets at the same time. Told in the plan's order, whoever was first."""
    done: list[list[str]] = [[] for _steps in batch]

    def run(steps: Sequence[RingStep], told: list[str]) -> None:
        for step in steps:
            _run_step(work, step)
            told.append(step.describe())

    try:
        with ThreadPoolExecutor(len(batch)) as pool:
            running = [pool.submit(run, steps, told) for steps, told in zip(batch, done)]
        for one in running:
            one.result()
    finally:
        told = [action for actions in done for action in actions]
        partial["changed"] = partial["changed"] or bool(told)
        partial["actions"] += told


def _run_step(work: _Work, step: RingStep) -> None:
    if step.kind is Kind.LEASE_CREATE and step.body is not None:
        work.client.create(step.body)
    elif step.kind is Kind.LEASE_CHANGE:
        work.client.patch(ObjectRef(kinds.LEASE, work.ring.set_name, work.ring.namespace), step.body)
    else:
        work.pets.run(step, work.secret, progress_of(work.module))
        if step.kind is Kind.CLONE:
            work.seedings[step.pet] += 1
            if work.deadline is not None and work.seedings[step.pet] <= _SEEDINGS:
                work.deadline.extend()


def _wait(work: _Work, partial: Partial) -> tuple[_Look, dict[str, Any]]:
    """Until it is healthy. What becomes possible meanwhile is done: a pet comes up, a CLONE ends.

    A CLONE that gets on, also one of an earlier run, sets the time limit back. So does a pet that catches up.
    """
    deadline = work.deadline = Deadline(work.client.clock, work.module.params["wait_timeout"])

    def observe() -> _Look:
        look = work.look()
        look.plan.raise_if_refused(work.ring.set_name)
        _watch_copies(work, look, deadline)
        if work.lags.see(look.judged.catching_up()):
            deadline.extend()
        try:
            return _apply(work, look, partial)
        except PetGone:
            # It restarts, for example; waiting for it is what this is for.
            return work.look()

    def explain(look: _Look) -> Judgement:
        judgement = render(look, hopeless_of(look))
        over = _why_copies_are_over(work, look)
        if judgement.hopeless or not over:
            return judgement
        return replace(judgement, summary="; ".join([*over, judgement.summary]), way_out=WAY_OUT_COPY)

    def hopeless_of(look: _Look) -> str:
        return "; ".join(look.judged.broken) if work.broken_looks >= _BROKEN_LOOKS else ""

    def judge(look: _Look) -> Judgement:
        word = look.judged.word
        work.broken_looks = work.broken_looks + 1 if word is Word.BROKEN else 0
        return render(look, hopeless_of(look))

    def render(look: _Look, hopeless: str) -> Judgement:
        return Judgement(
            look.judged.word is Word.HEALTHY and look.judged.writer is not None,
            look.judged.summary(),
            [pet.as_dict() for pet in look.judged.pets],
            hopeless=hopeless,
            way_out="look at the reasons; playbook status shows the same at any time",
        )

    waited = wait_until(
        f"replication of {work.ring.namespace}/{work.ring.set_name}",
        observe,
        judge,
        deadline,
        clock=work.client.clock,
        progress=progress_of(work.module),
        explain=explain,
    )
    return waited.observation, {"waited_s": round(waited.seconds, 1), "progress": waited.lines}


def _watch_copies(work: _Work, look: _Look, deadline: Deadline) -> None:
    copied = {name: one for name, one in look.states.items() if isinstance(one, PetState) and one.is_copied_to}
    further = [name for name, state in copied.items() if work.pets.watch_copy(name, state.clone_progress)]
    if further:
        deadline.extend()
    now_s = work.client.clock.now_s()
    if any(work.pets.copies[name].is_too_long(now_s, work.pets.limits) for name in copied):
        deadline.end()


def _why_copies_are_over(work: _Work, look: _Look) -> list[str]:
    now_s = work.client.clock.now_s()
    return [
        f"{name}: {why}"
        for name, watch in work.pets.copies.items()
        if isinstance(state := look.states.get(name), PetState)
        and state.is_copied_to
        and (why := watch.why_over(now_s, work.pets.limits))
    ]


def _diff(module: Module, ring: Ring, look: _Look) -> dict[str, Any]:
    if not module._diff:
        return {}
    entries = []
    for name, after in look.plan.predicted.items():
        state = look.states[name]
        before = channel_settings(state.channel) if isinstance(state, PetState) and state.channel else None
        header = f"channel ring of {name}"
        entries.append(
            {
                "before_header": header,
                "after_header": header,
                "before": render_yaml(before) if before else "",
                "after": render_yaml(after),
            }
        )
    for step in look.plan.steps:
        if step.kind is Kind.LEASE_CREATE:
            entries.append(render_diff(step.text, None, step.body))
        elif step.kind is Kind.LEASE_CHANGE:
            entries.append(render_diff(step.text, step.before, merge_patch(step.before, step.body)))
    return {"diff": entries}


def _render(look: _Look) -> dict[str, Any]:
    judged = look.judged
    return {
        "pets": [pet.as_dict() for pet in judged.pets],
        "writer": judged.writer,
        "in_sync": list(judged.in_sync),
        "judgement": {
            "word": judged.word.value,
            "certain": [*judged.broken, *judged.degraded],
            "uncertain": list(judged.uncertain),
            "notes": list(judged.notes),
        },
        "troubles": [found.as_dict() for found in judged.troubles],
        "summary": judged.summary(),
        "table": render_ring_table(judged),
    }


# --- mysql_ring_info --------------------------------------------------------------------------------------------------


def run_mysql_ring_info(
    module: Module,
    client: KubeClient,
    _partial: Partial,
    connect: Connect = port_forward_connector,
    adapt: Adapt = replace,
) -> Mapping[str, Any]:
    """The module mysql_ring_info: the same look and judgement. Writes nothing, waits only while in doubt."""
    wish = parse_wish(module.params)
    try:
        target = observe_target(client, wish.spec)
    except (Forbidden, NotFound) as problem:
        return _unknown(problem)
    if target.replicas is None:
        return {**_unknown(None), "exists": False}
    work = _open(module, client, wish, target, connect, adapt, info=True)
    try:
        work.looks = Looks(_CERTAIN_AFTER_S)
        look = work.look_without_doubt()
        if lacks_markers(look.states):
            client.clock.sleep(_LOOK_AGAIN_S)
            first, look = look, work.look_without_doubt()
            judge_markers(first.states, look.states, look.judged)
        result: dict[str, Any] = {"changed": False, "exists": True}
        if module.params["compare"]:
            result["comparison"] = _compare(work, look)
        elif wish.mode is Mode.SPREAD and len(work.ring.master_pets) > 1:
            look.judged.notes.append("whether all pets hold the same rows was not asked for (compare)")
        return {**result, **_render(look)}
    finally:
        work.pets.close()


def _compare(work: _Work, look: _Look) -> dict[str, Any]:
    """Compare the rows of the pets that answer; what is found becomes part of the judgement."""
    up = [pet for pet in work.ring.pets if isinstance(look.states.get(pet.name), PetState)]
    compared = compare_pets(up, work.pets.connector, work.module.params["compare_limit"], work.client.clock)
    look.judged.broken += [one.describe() for one in compared.different]
    look.judged.uncertain += compared.not_compared
    return compared.as_dict()


def _unknown(problem: ApiError | None) -> dict[str, Any]:
    reason = problem.render() if problem is not None else "there is no such set"
    return {
        "changed": False,
        "exists": True,
        "pets": [],
        "writer": None,
        "in_sync": [],
        "judgement": {"word": Word.UNCERTAIN.value, "certain": [], "uncertain": [reason], "notes": []},
        "troubles": [Found("", RingTrouble.NO_ANSWER, reason).as_dict()],
        "summary": f"{Word.UNCERTAIN.value}: {reason}",
        "table": f"replication: {Word.UNCERTAIN.value}\n  not known: {reason}",
    }
