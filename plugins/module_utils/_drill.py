# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of the module pet_drill: the steps of a staged crash.

A drill has steps because a hook of the user's may have to stage the crash between them. What one step has to tell the
next stands on the cluster, so that a run that is killed anywhere is recognised, and cleaned up after, by the next one.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import secrets
import string
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ._core import kinds
from ._core.drill import (
    ANNOTATION_RECORD,
    ANNOTATION_UNDER_WAY,
    WRITER,
    Decision,
    DrillKind,
    DrillWish,
    Identity,
    Record,
    UnderWay,
    decide,
    find_window,
    format_time,
    key_of,
    parse_records,
    parse_time,
    parse_under_way,
    parse_window,
    refuse_production,
    render_records,
    render_under_way,
)
from ._core.drill_objects import CONTAINER as WORKLOAD
from ._core.drill_objects import DROP, MAKE, STOP_WORKLOAD, agents_of, read_password, read_workload, render_workload
from ._core.drill_proof import (
    FALSE,
    TRUE,
    UNKNOWN,
    Row,
    Seen,
    WorkLog,
    build_drill_report,
    prove,
    redact_seen,
    was_renewed,
)
from ._core.drill_refs import drill_refs
from ._core.errors import Conflict, Forbidden, InvalidInput, PetsetError, Refused, TimedOut
from ._core.manifests import PetSetSpec
from ._core.names import pet_name
from ._core.pet_set_spec import parse_identity, with_secrets_of
from ._core.redact import Redactor
from ._core.report import Mark, render_html, render_json, render_markdown
from ._core.ring import RingPet
from ._core.statefulset import SetView, parse_statefulset
from ._io.clock import Deadline
from ._io.drill import (
    annotate,
    make_objects,
    read_identities,
    read_log,
    read_rows,
    remove_objects,
    restarts_of,
    run_statements,
    strike,
    utc_now,
)
from ._io.kube import KubeClient
from ._io.mysql import HAS_PYMYSQL, PYMYSQL_IMPORT_ERROR, Connector, PetDown, SqlError, port_forward_connector
from ._io.observe import list_pods, try_get
from ._io.pet_set import observe_redactor
from ._io.podexec import run_in_pod
from ._io.report_plot import NoPlot, draw_svg
from ._io.wait import Judgement, wait_until
from ._module import Module, mask_secret, progress_of
from ._proxy import run_pet_proxy_info
from ._recovery import no_such_set, run_pet_recovery
from ._ring import Connect, observe_target, run_mysql_ring_info

Partial = MutableMapping[str, Any]

_missing_library: Callable[[str], str] = missing_required_lib
_ALPHABET = string.ascii_letters + string.digits
# Enough that both connections work, and that the time before the crash can be seen in the picture.
_WRITES_BEFORE = 60
_WRITES_AFTER = 30
_WRITE_LIMIT_S = 60
_HEALTH_LIMIT_S = 15
_START_LIMIT_S = 90
_STOP_LIMIT_S = 15
_AGREE_LIMIT_S = 60
_CLEAN_LIMIT_S = 60
# A look costs a program in each pod; pods alone are looked at more often.
_LOOK_PODS_S = 0.5
_SUMMARY_CHARACTERS = 400


def parse_drill_wish(params: Mapping[str, Any]) -> tuple[DrillWish, datetime.tzinfo, PetSetSpec]:
    """What is wanted, the zone of its windows, and the set.

    InvalidInput: names the option, the value and what is allowed.
    """
    spec = parse_identity({**params, "client_service": {"enabled": False}})
    for option in ("max_age", "limit", "dns_ttl"):
        if params[option] < 1:
            raise InvalidInput(option, params[option], "too small", "a whole number of seconds from 1 on")
    kind = DrillKind(params["kind"])
    try:
        zone: datetime.tzinfo = zoneinfo.ZoneInfo(params["timezone"])
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        if params["timezone"] != "UTC":
            raise InvalidInput(
                "timezone", params["timezone"], "not known on this host", "a name as Europe/Berlin"
            ) from None
        zone = datetime.timezone.utc
    pet = params["pet"]
    if pet != WRITER and not (pet.startswith(f"{spec.name}-") and pet[len(spec.name) + 1 :].isdigit()):
        raise InvalidInput("pet", pet, f"not a pet of {spec.name}", f"writer, or {spec.name}-<ordinal>")
    if params["mode"] == "spread" and pet == WRITER and not kind.hits_all:
        raise InvalidInput("pet", pet, "with mode spread all masters are written to", "the name of a pet")
    wish = DrillWish(
        kind=kind,
        set_name=spec.name,
        namespace=spec.namespace,
        pet=pet,
        max_age_s=float(params["max_age"]),
        limit_s=float(params["limit"]),
        production=params["production"],
        confirm=params["confirm"] or "",
        windows=tuple(parse_window("forbidden_windows", one) for one in params["forbidden_windows"] or ()),
        dns_ttl_s=float(params["dns_ttl"]),
        host=params["client_host"] or f"{spec.name}-proxy.{spec.namespace}.svc.{spec.cluster_domain}",
        port=params["client_port"],
    )
    return wish, zone, spec


# What mysql_ring_info has beside the options of a drill. Rows are not compared here: a drill reads its own table whole.
_RING_OPTIONS = {"clone_threshold": 1024, "passwords_secret": None, "tls_secret": None, "compare": False}


@dataclass(frozen=True, slots=True)
class _Health:
    """One judgement of pets, replication and proxies."""

    pets: Mapping[str, Any]
    ring: Mapping[str, Any]
    proxies: Mapping[str, Any] | None
    mode: str

    @property
    def word(self) -> str:
        """Of the replication."""
        return str(self.ring["judgement"]["word"])

    @property
    def dns_right(self) -> bool | None:
        """Whether every pet finds every pet; None when one of them could not look."""
        told = [pet.get("dns_ok") for pet in self.pets["pets"]]
        return None if not told or None in told else all(told)

    @property
    def proxies_wrong(self) -> str:
        """Why the proxies are not well; empty when they are, or when nobody looks."""
        seen = self.proxies
        if seen is None:
            return ""
        if not seen["ready"] or seen["troubles"]:
            return str(seen["summary"])
        if self.mode == "single_writer" and seen.get("writers") != [self.ring["writer"]]:
            return f"they send writes to {', '.join(seen.get('writers') or []) or 'nobody'}"
        return ""

    @property
    def reasons(self) -> list[str]:
        """All that is not well or not known."""
        told = [
            "" if self.pets["healthy"] else str(self.pets["summary"]),
            "" if self.word == "healthy" else f"replication {self.ring['summary']}",
            f"proxies: {self.proxies_wrong}" if self.proxies_wrong else "",
        ]
        return [one for one in told if one]


@dataclass(slots=True)
class _Work:
    """What a step has at hand."""

    module: Module
    client: KubeClient
    wish: DrillWish
    zone: datetime.tzinfo
    spec: PetSetSpec
    connect: Connect
    partial: Partial
    marks: list[tuple[datetime.datetime, str]] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    _connector: Connector | None = None
    _redactor: Redactor | None = None

    # -- looking -----------------------------------------------------------------------------------------------------

    def live(self) -> Mapping[str, Any]:
        """The StatefulSet. NotFound."""
        found = self.client.get(kinds.STATEFUL_SET, self.spec.name, self.spec.namespace)
        if found is None:
            raise no_such_set(self.spec)
        return found

    def decide(self, live: Mapping[str, Any]) -> Decision:
        """What has to be done."""
        notes = notes_of(live)
        revision = parse_statefulset(live).update_revision
        records = parse_records(notes.get(ANNOTATION_RECORD))
        return decide(self.wish, revision, records, parse_under_way(notes.get(ANNOTATION_UNDER_WAY)), utc_now())

    def judge(self) -> _Health:
        """Pets, replication and proxies, as the passive check judges them."""
        params = self.module.params
        pets = run_pet_recovery(with_params(self.module, **params, probe=True), self.client, {})
        ring = self.ring()
        proxies = None
        if params["proxies"]:
            proxies = run_pet_proxy_info(with_params(self.module, **params, probe=True), self.client, {})
        return _Health(pets, ring, proxies, params["mode"])

    def ring(self) -> Mapping[str, Any]:
        """The replication alone."""
        params = {**self.module.params, **_RING_OPTIONS}
        return run_mysql_ring_info(with_params(self.module, **params), self.client, {}, self.connect)

    def hide(self, text: str) -> str:
        """Words of others without the passwords of the set and of the workload. The latter's Secret goes with it."""
        if self._redactor is None:
            own = observe_redactor(self.client, with_secrets_of(self.spec, self.live()))
            secret = drill_refs(self.spec.name, self.spec.namespace)[-1]
            password = read_password(try_get(self.client, secret.kind, secret.name, secret.namespace))
            self._redactor = Redactor((*own.values, password))
        return self._redactor.hide(text)

    def read_log(self) -> WorkLog:
        """What the workload has told, without passwords in its words."""
        log = read_log(self.client, self.spec)
        return replace(log, trouble=self.hide(log.trouble)) if log.trouble else log

    # -- SQL ---------------------------------------------------------------------------------------------------------

    @property
    def connector(self) -> Connector:
        """To the pets, as the administrator."""
        if self._connector is None:
            if not HAS_PYMYSQL:
                self.module.fail_json(msg=_missing_library("PyMySQL"), exception=PYMYSQL_IMPORT_ERROR)
            target = observe_target(self.client, self.spec)
            mask_secret(self.module, target.admin_password)
            self._connector = self.connect(self.client, self.spec.namespace, target.ca, target.admin_password)
        return self._connector

    def pet(self, name: str) -> RingPet:
        """As a connector wants it."""
        return RingPet(name, int(name.rpartition("-")[2]), f"{name}.{self.spec.domain}")

    def on_writer(self, what: str, statements: tuple[str, ...], limit_s: float, secret: str = "") -> None:
        """Statements on whoever is the writer; once more when that changes. SqlError, TimedOut."""
        last = [""]

        def attempt() -> bool:
            writer = self.ring()["writer"]
            if not writer:
                last[0] = "there is no writer"
                return False
            try:
                run_statements(self.connector, self.pet(writer), statements, secret)
            except (PetDown, SqlError) as problem:
                last[0] = f"{writer}: {problem}"
                return False
            return True

        wait_until(
            what,
            attempt,
            lambda done: Judgement(done, last[0] or "done", way_out="look at the pets with the playbook status"),
            Deadline(self.client.clock, limit_s),
            clock=self.client.clock,
            progress=progress_of(self.module),
        )

    # -- telling -----------------------------------------------------------------------------------------------------

    def did(self, *lines: str) -> None:
        """Something was done."""
        self.partial["changed"] = True
        self.partial["actions"] += lines

    def mark(self, text: str, at: datetime.datetime | None = None) -> None:
        """For the timeline."""
        self.marks.append((at or utc_now(), text))


def notes_of(live: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations of an object."""
    return (live.get("metadata") or {}).get("annotations") or {}


def with_params(module: Module, **params: Any) -> Module:
    """The same module with other options, for the bodies of modules that look."""
    other = copy.copy(module)
    other.params = params
    return other


def run_pet_drill(
    module: Module, client: KubeClient, partial: Partial, connect: Connect = port_forward_connector
) -> Mapping[str, Any]:
    """The module pet_drill. ``partial`` always says what was done so far."""
    partial["actions"] = []
    wish, zone, spec = parse_drill_wish(module.params)
    work = _Work(module, client, wish, zone, spec, connect, partial)
    steps = {"plan": _plan, "begin": _begin, "crash": _crash, "prove": _prove, "abandon": _abandon}
    result = steps[module.params["step"]](work)
    return {"changed": partial["changed"], "actions": partial["actions"], **result}


def _told(decision: Decision) -> dict[str, Any]:
    under_way, record = decision.under_way, decision.record
    return {
        "decision": decision.word,
        "why": decision.why,
        "record": None if record is None else _as_dict(record),
        "under_way": None if under_way is None else _about(under_way),
    }


def _as_dict(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _about(drill: UnderWay) -> dict[str, Any]:
    """What a playbook needs to know of a drill."""
    return {
        "id": drill.id,
        "kind": drill.kind,
        "pet": drill.pet,
        "pets": list(drill.pets),
        "nodes": list(drill.nodes),
        "began": drill.began,
        "struck": drill.struck,
        "ended": drill.ended,
    }


# --- plan -------------------------------------------------------------------------------------------------------------


def _plan(work: _Work) -> dict[str, Any]:
    return _told(work.decide(work.live()))


# --- begin ------------------------------------------------------------------------------------------------------------


def _begin(work: _Work) -> dict[str, Any]:
    """Refuse, or let the workload write."""
    live = work.live()
    decision = work.decide(live)
    if decision.word == "nothing":
        return _told(decision)
    subject = f"drill {work.wish.key} of {work.spec.namespace}/{work.spec.name}"
    if decision.word == "heal":
        raise Refused(subject, decision.why, way_out="heal what it staged, then end it with step: abandon")
    _refuse_time(work, subject)
    refuse_production(work.wish, [_labels(live), _labels_of_namespace(work)])
    view = parse_statefulset(live)
    health = _need_health(work, subject)
    pets = work.wish.aim(view.replicas, health.ring["writer"])
    uuids = {one["name"]: one["server_uuid"] for one in health.ring["pets"]}
    before = read_identities(work.client, work.spec, view, uuids)
    nodes = tuple(dict.fromkeys(before[name].node for name in pets if name in before))
    now = utc_now()
    drill = UnderWay(
        id=secrets.token_hex(6),
        kind=work.wish.kind.value,
        pet=work.wish.pet,
        pets=pets,
        nodes=nodes,
        began=format_time(now),
        before=before,
    )
    load = read_workload(
        live,
        drill_id=drill.id,
        program=work.module.params["program"] or "",
        host=work.wish.host,
        port=work.wish.port,
        server_name=f"{pet_name(work.spec.name, 0)}.{work.spec.domain}",
        agents=agents_of(work.spec.name, view.replicas, work.spec.domain),
        limit_s=work.wish.limit_s,
        avoid=nodes if work.wish.kind is DrillKind.NODE_POWER_OFF else (),
    )
    if not load.program:
        raise InvalidInput("program", None, "it is missing", "the workload's program, as the role hands it on")
    would = [f"write through {load.host}:{load.port} by Pod {load.namespace}/{load.name}"]
    if work.module.check_mode:
        work.did(*would, f"{work.wish.kind.value} of {', '.join(pets)}", "judge, record and clean up")
        return {**_told(decision), "drill": _about(drill)}
    version = str(live["metadata"].get("resourceVersion", ""))
    try:
        annotate(work.client, work.spec, version, under_way=render_under_way(drill))
    except Conflict as problem:
        raise Refused(subject, "somebody changes the set at this moment", way_out="run again") from problem
    work.did(*would)
    # A run that fails from here on still says which drill it has begun.
    work.partial["drill"] = _about(drill)
    _start(work, load, drill)
    return {**_told(decision), "drill": _about(drill)}


def _need_health(work: _Work, subject: str) -> _Health:
    """A healthy set, at the second or third look at least: one answer that was missed is no illness."""
    deadline = Deadline(work.client.clock, _HEALTH_LIMIT_S)
    while True:
        health = work.judge()
        if not health.reasons:
            return health
        if deadline.over:
            raise Refused(subject, f"the set is not healthy: {'; '.join(health.reasons)}", way_out="mend that first")
        work.client.clock.sleep(1.0)


def _refuse_time(work: _Work, subject: str) -> None:
    now = utc_now().astimezone(work.zone)
    window = find_window(work.wish.windows, now, work.wish.limit_s)
    if window is not None:
        raise Refused(
            subject,
            f"it would be in the forbidden window {window.text} ({work.module.params['timezone']})",
            way_out="run it at another time",
        )


def _labels(live: Mapping[str, Any] | None) -> Mapping[str, str]:
    return ((live or {}).get("metadata") or {}).get("labels") or {}


def _labels_of_namespace(work: _Work) -> Mapping[str, str] | None:
    try:
        return _labels(work.client.get(kinds.NAMESPACE, work.spec.namespace))
    except Forbidden:
        return None


def _start(work: _Work, load: Any, drill: UnderWay) -> None:
    """Make the account and the pod, and wait for writes."""
    password = "".join(secrets.choice(_ALPHABET) for _place in range(28))
    mask_secret(work.module, password)
    remove_objects(work.client, work.spec)
    work.on_writer("the account of the workload", MAKE, _CLEAN_LIMIT_S, password)
    make_objects(work.client, render_workload(load, password))
    offsets: list[float] = []

    def observe() -> WorkLog:
        log = work.read_log()
        if log.began is not None and log.writes:
            offsets.append(log.began + log.end_s - utc_now().timestamp())
        return log

    def judge(log: WorkLog) -> Judgement:
        count = len(log.acknowledged)
        both = len({one.client for one in log.acknowledged}) > 1
        return Judgement(
            both and count >= _WRITES_BEFORE and len(offsets) > 2,
            f"{count} writes acknowledged{f'; {log.trouble}' if log.trouble else ''}",
            hopeless="the workload has ended" if log.complete else "",
            way_out=f"look at Pod {work.spec.namespace}/{load.name}: its events and its log",
        )

    wait_until(
        "the workload",
        observe,
        judge,
        Deadline(work.client.clock, _START_LIMIT_S),
        clock=work.client.clock,
        progress=progress_of(work.module),
        longest_interval_s=1.0,
    )
    # The newest line was written some time before it was read: the largest difference is the nearest to the truth.
    annotate(work.client, work.spec, None, under_way=render_under_way(replace(drill, offset_s=max(offsets))))


# --- crash ------------------------------------------------------------------------------------------------------------


def _own(work: _Work) -> UnderWay:
    """The drill that this run has begun. Refused: it is not under way any more."""
    decision = work.decide(work.live())
    drill, wanted = decision.under_way, work.module.params["drill_id"]
    if drill is None or not drill.id or drill.id != wanted:
        raise Refused(
            f"drill {wanted or '(without drill_id)'}",
            "it is not under way" if drill is None else f"another one is: {decision.why}",
            way_out="begin anew; only one run of the playbook at a time can have a drill",
        )
    if drill.ended:
        raise Refused(f"drill {drill.id}", f"it has ended: {drill.ended}", way_out="clean up with step: abandon")
    return drill


def _crash(work: _Work) -> dict[str, Any]:
    """Stage it, or, where a hook does that, note the time."""
    if work.module.check_mode:
        work.did(f"{work.wish.kind.value} of {work.wish.pet}")
        return {}
    drill = _own(work)
    if drill.struck:
        raise Refused(
            f"drill {drill.id}",
            f"it was staged at {drill.struck} already; a second crash would be told as one",
            way_out="take step: prove, or step: abandon",
        )
    kind = DrillKind(drill.kind)
    struck = replace(drill, struck=format_time(utc_now()))
    # First: a run that is killed at the next moment must not pass for one that has staged nothing.
    annotate(work.client, work.spec, None, under_way=render_under_way(struck))
    work.did(f"begin {kind.value} of {', '.join(drill.pets)}")
    if not kind.by_hook:
        work.did(*strike(work.client, kind, work.spec, {name: drill.before[name] for name in drill.pets}))
    return {"drill": _about(struck)}


# --- prove ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Course:
    """How it went on after the crash. Moments are the controller's; None: it did not come to that."""

    healed: datetime.datetime
    ready: datetime.datetime | None = None
    named: datetime.datetime | None = None
    well: datetime.datetime | None = None
    health: _Health | None = None
    why_not: str = ""


def _prove(work: _Work) -> dict[str, Any]:
    """Wait until all is well, let the workload end, read all, judge, record, clean up."""
    if work.module.check_mode:
        work.did("judge, record and clean up")
        return {}
    drill = _own(work)
    struck = parse_time(drill.struck)
    if struck is None:
        raise Refused(f"drill {drill.id}", "nothing was staged yet", way_out="take step: crash first")
    view = parse_statefulset(work.live())
    revision = view.update_revision
    course = _Course(utc_now() if DrillKind(drill.kind).by_hook else struck)
    if DrillKind(drill.kind).by_hook:
        work.mark("healed", course.healed)
    _follow(work, drill, view.replicas, course)
    seen = _read(work, drill, view, struck, course)
    proof = prove(seen)
    report = build_drill_report(f"{work.spec.namespace}/{work.spec.name}", seen, proof, revision)
    record = _record(work, drill, revision, proof.word, proof.describe(), proof.figures)
    _end(work, drill, record, tolerant=True)
    svg = no_picture = ""
    try:
        svg = draw_svg(report.timeline) if report.timeline else ""
    except NoPlot as problem:
        no_picture = problem.render()
    name = f"drill-{drill.kind}-{'-'.join(drill.pets)}-{drill.began[:19].replace(':', '')}Z"
    return {
        "proven": proof.verdict == TRUE,
        "verdict": proof.word,
        "summary": proof.describe(),
        "checks": [{"name": one.name, "verdict": one.verdict, "evidence": list(one.evidence)} for one in proof.checks],
        "figures": dict(proof.figures),
        "drill": _about(drill),
        "record": _as_dict(record),
        "notes": [no_picture] if no_picture else [],
        "report_name": name,
        "report": {
            "html": render_html(report, svg, no_picture),
            "markdown": render_markdown(report, f"{name}.svg" if svg else "", no_picture),
            "json": render_json(report),
            "svg": svg,
        },
    }


def _follow(work: _Work, drill: UnderWay, replicas: int, course: _Course) -> None:
    """Until everything is well again, or the limit is over."""
    deadline = Deadline(work.client.clock, work.wish.limit_s)
    shared: dict[str, Any] = {"clock": work.client.clock, "progress": progress_of(work.module)}
    names = [pet_name(work.spec.name, ordinal) for ordinal in range(replicas)]
    try:
        wait_until(
            "the pods",
            lambda: _look_at_pods(work, drill, names),
            lambda left: Judgement(not left, "; ".join(left) or "all pods are ready"),
            deadline,
            longest_interval_s=_LOOK_PODS_S,
            **shared,
        )
        course.ready = utc_now()

        def observe() -> _Health:
            health = work.judge()
            if health.dns_right and course.named is None:
                course.named = utc_now()
            course.health = health
            return health

        wait_until(
            "the set",
            observe,
            lambda health: Judgement(not health.reasons, "; ".join(health.reasons) or "healthy"),
            deadline,
            longest_interval_s=1.0,
            **shared,
        )
        course.well = utc_now()
        work.mark("judged healthy", course.well)
    except TimedOut as problem:
        course.why_not = problem.reason
        return
    with contextlib.suppress(TimedOut):  # no write afterwards is a finding
        _wait_writes(work, drill, course.well)


def _wait_writes(work: _Work, drill: UnderWay, well: datetime.datetime) -> None:
    """Clients write again for a while after all is well."""

    def judge(log: WorkLog) -> Judgement:
        since = well.timestamp() + drill.offset_s - (log.began or 0.0)
        count = sum(one.sent_s >= since for one in log.acknowledged)
        return Judgement(
            count >= _WRITES_AFTER,
            f"{count} writes acknowledged since",
            hopeless="it has ended" if log.complete else "",
        )

    wait_until(
        "the workload",
        work.read_log,
        judge,
        Deadline(work.client.clock, _WRITE_LIMIT_S),
        clock=work.client.clock,
        progress=progress_of(work.module),
        longest_interval_s=1.0,
    )


def _look_at_pods(work: _Work, drill: UnderWay, names: list[str]) -> list[str]:
    """What is still missing of the pods, a sentence each; marks what has changed."""
    live = {one["metadata"]["name"]: one for one in list_pods(work.client, work.spec.namespace, work.spec.selector)}
    left = []
    for name in names:
        pod = live.get(name)
        state, why = _state_of(pod), ""
        after = None if pod is None else _identity_of(pod)
        if name in drill.pets and not was_renewed(DrillKind(drill.kind), drill.before.get(name), after):
            # Ready is a word of the past until the kubelet has seen that something is gone.
            why = f"{name}: the crash is not seen yet"
        elif state != "ready":
            why = f"{name}: {state}"
        if why:
            left.append(why)
        if work.said.get(name, "ready") != state:
            work.mark(f"{name} {state}")
        work.said[name] = state
    return left


def _state_of(pod: Mapping[str, Any] | None) -> str:
    if pod is None:
        return "gone"
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return "ready" if ready else "not ready"


def _identity_of(pod: Mapping[str, Any]) -> Identity:
    return Identity("", str(pod["metadata"].get("uid", "")), "", "", "", "", "", restarts_of(pod))


def _read(work: _Work, drill: UnderWay, view: SetView, struck: datetime.datetime, course: _Course) -> Seen:
    """End the workload and read all that the proof is made of."""
    log = _stop(work)
    names = [pet_name(work.spec.name, ordinal) for ordinal in range(view.replicas)]
    ring, agree = _wait_agree(work, names)
    uuids = {one["name"]: one["server_uuid"] for one in ring["pets"]}
    rows: Mapping[str, frozenset[Row] | None] = {}
    with contextlib.suppress(PetsetError):
        rows = read_rows(work.connector, [work.pet(name) for name in names])
    began = log.began if log.began is not None else struck.timestamp() + drill.offset_s

    def on_log(at: datetime.datetime) -> float:
        return round(at.timestamp() + drill.offset_s - began, 3)

    answering = len(ring["pets"]) == view.replicas and all(one["answers"] for one in ring["pets"])
    word = ring["judgement"]["word"]
    health = course.health
    proxies: str | None = None
    if work.module.params["proxies"]:
        proxies = UNKNOWN if health is None else FALSE if health.proxies_wrong else TRUE
    named, ready = course.named, course.ready
    seen = Seen(
        drill=drill,
        replicas=view.replicas,
        log=log,
        struck_s=on_log(struck),
        healed_s=on_log(course.healed),
        after=read_identities(work.client, work.spec, view, uuids),
        recovered_s=None if course.well is None else (course.well - struck).total_seconds(),
        why_not=course.why_not,
        rows=rows,
        gtids={one["name"]: one["gtid_executed"] for one in ring["pets"] if one["answers"]},
        gtids_agree=agree,
        errant={one["name"]: one["errant"] for one in ring["pets"]} if answering else None,
        replication={"healthy": TRUE, "uncertain": UNKNOWN}.get(word, FALSE),
        replication_words=str(ring["summary"]),
        proxies=proxies,
        proxies_words="" if health is None else health.proxies_wrong,
        dns_s=None if named is None or ready is None else max(0.0, (named - ready).total_seconds()),
        dns_right=None if health is None else health.dns_right,
        dns_ttl_s=work.wish.dns_ttl_s,
        marks=tuple(Mark(on_log(at), text) for at, text in work.marks),
    )
    return redact_seen(seen, work.hide)


def _stop(work: _Work) -> WorkLog:
    """Let the workload say its last word; what it has told, whole or not."""
    pod = drill_refs(work.spec.name, work.spec.namespace)[0]
    # When it cannot be told, its log is not whole, and that is a finding.
    with contextlib.suppress(RuntimeError):
        run_in_pod(work.client, work.spec.namespace, pod.name, WORKLOAD, STOP_WORKLOAD)
    deadline = Deadline(work.client.clock, _STOP_LIMIT_S)
    log = work.read_log()
    while not log.complete and not deadline.over:
        work.client.clock.sleep(0.5)
        log = work.read_log()
    return log


def _wait_agree(work: _Work, names: list[str]) -> tuple[Mapping[str, Any], bool | None]:
    """The replication when every pet has what the others have, or when the time for that is over."""

    def judge(ring: Mapping[str, Any]) -> Judgement:
        agree = _agree(ring, names)
        return Judgement(bool(agree), "GTID sets are equal" if agree else "GTID sets differ")

    last: dict[str, Mapping[str, Any]] = {}

    def observe() -> Mapping[str, Any]:
        last["ring"] = work.ring()
        return last["ring"]

    with contextlib.suppress(TimedOut):
        wait_until(
            "the pets' GTID sets",
            observe,
            judge,
            Deadline(work.client.clock, _AGREE_LIMIT_S),
            clock=work.client.clock,
            longest_interval_s=1.0,
        )
    return last["ring"], _agree(last["ring"], names)


def _agree(ring: Mapping[str, Any], names: list[str]) -> bool | None:
    """Whether no pet has what another lacks. With other clients writing two sets are hardly ever read at one moment:
    then what the source had at the first look and the pet has at the second counts.
    """
    pets = {one["name"]: one for one in ring["pets"]}
    if not all(name in pets and pets[name]["answers"] for name in names):
        return None
    if len({pets[name]["gtid_executed"] for name in names}) == 1:
        return True
    clean = not any(one["errant"] or one["late"] for one in pets.values())
    return clean and all(one["behind"] == 0 for one in pets.values())


# --- ending -----------------------------------------------------------------------------------------------------------


def _record(
    work: _Work, drill: UnderWay, revision: str, verdict: str, summary: str, figures: Mapping[str, Any]
) -> Record:
    return Record(
        drill.kind, drill.pet, revision, format_time(utc_now()), verdict, summary[:_SUMMARY_CHARACTERS], dict(figures)
    )


def _end(work: _Work, drill: UnderWay, record: Record, *, tolerant: bool) -> None:
    """Clean up, then write the record and take the mark of the drill away, in one write.

    ``tolerant``: what cannot be cleaned up is left to the next run, which is told of it by the mark that stays.
    """
    with _forgiven(tolerant) as failed:
        work.did(*remove_objects(work.client, work.spec))
        work.on_writer("the account of the workload", DROP, _CLEAN_LIMIT_S)
    # The mark that stays says what came of the drill: the next run has to clean up, and nothing else.
    mark = render_under_way(replace(drill, ended=record.verdict)) if failed else None
    if failed:
        work.partial.setdefault("warnings", []).append(f"not cleaned up, the next run will: {failed[0]}")
    live = work.live()
    records = parse_records(notes_of(live).get(ANNOTATION_RECORD))
    if drill.kind in {one.value for one in DrillKind}:
        records[key_of(DrillKind(drill.kind), drill.pet)] = record
    annotate(work.client, work.spec, None, record=render_records(records), under_way=mark)
    work.did(f"record {record.kind} of {record.pet}: {record.verdict}")


@contextlib.contextmanager
def _forgiven(tolerant: bool) -> Iterator[list[str]]:
    failed: list[str] = []
    try:
        yield failed
    except PetsetError as problem:
        if not tolerant:
            raise
        failed.append(problem.render())


def _abandon(work: _Work) -> dict[str, Any]:
    """End a drill that was broken off: wait until the set is well, clean up, and record that nothing was proven.

    Of one that was judged and not cleaned up after the record stays.
    """
    live = work.live()
    decision = work.decide(live)
    drill = decision.under_way
    if drill is None:
        return _told(decision)
    wanted = work.module.params["drill_id"]
    if wanted and wanted != drill.id:
        raise Refused(f"drill {wanted}", f"another one is under way: {decision.why}", way_out="leave that one alone")
    recorded = f"; its record stays: {drill.ended}" if drill.ended else ", and record that it was interrupted"
    if work.module.check_mode:
        work.did(f"clean up after {drill.kind} of {drill.pet}{recorded}")
        return _told(decision)
    # First: nobody waits for its writes any more. The mark stays until all is done.
    work.did(*remove_objects(work.client, work.spec))
    if drill.ended != "proven":
        _wait_well(work)
    if drill.ended:
        work.on_writer("the account of the workload", DROP, _CLEAN_LIMIT_S)
        annotate(work.client, work.spec, None, under_way=None)
        work.did(f"clean up after {drill.kind} of {drill.pet}{recorded}")
        return _told(decision)
    struck = f"after the crash at {drill.struck}" if drill.struck else "before anything was staged"
    revision = parse_statefulset(live).update_revision
    record = _record(work, drill, revision, "interrupted", f"the run ended {struck}", {})
    _end(work, drill, record, tolerant=False)
    return {**_told(decision), "record": _as_dict(record)}


def _wait_well(work: _Work) -> None:
    wait_until(
        "the set",
        work.judge,
        lambda health: Judgement(
            not health.reasons, "; ".join(health.reasons) or "healthy", way_out="mend that, then run again"
        ),
        Deadline(work.client.clock, work.wish.limit_s),
        clock=work.client.clock,
        progress=progress_of(work.module),
    )
