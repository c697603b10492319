# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading, reloading and waiting for the proxies. Everything that is decided, is decided in ``_core``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .._core import kinds
from .._core.errors import Forbidden, NotFound, Refused
from .._core.judgement import Judgement
from .._core.kinds import ObjectRef
from .._core.manifests import ANNOTATION_CONFIG_HASH
from .._core.pods import Evidence, Pod, parse_pod, redact_evidence, redact_pod
from .._core.proxy import CONTAINER, ProxySpec, render_proxy_config_map
from .._core.proxy_plan import Rollout, is_running, judge_rollout, parse_rollout, proxy_refs, why_not_ready
from .._core.proxy_probe import (
    LoadAnswer,
    Loaded,
    View,
    load_command,
    look_command,
    parse_answer,
    parse_view,
    try_command,
)
from .._core.redact import Redactor
from .._core.set_steps import NamespaceState
from .clock import Clock, Deadline
from .kube import KubeClient
from .observe import list_pods, observe_events, observe_logs, observe_namespace, observe_node
from .podexec import run_in_pod
from .wait import Progress, wait_until

_AT_ONCE = 8
# No secret is the proxies' own, so what a text itself calls a password is all that there is to hide.
_HIDE = Redactor().hide
_LOOK_DEEPER_AFTER_S = 5.0
_LOOK_DEEPER_EVERY_S = 10.0
# The kubelet brings a changed ConfigMap within a second once its pod is touched, else within about a minute.
_LONGEST_PAUSE_S = 1.0


def observe_proxy(client: KubeClient, spec: ProxySpec) -> tuple[NamespaceState, dict[ObjectRef, Any]]:
    """One request per object and one for the namespace."""
    refs = proxy_refs(spec)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        namespace = pool.submit(observe_namespace, client, spec.namespace)
        found = list(pool.map(lambda ref: client.get(ref.kind, ref.name, ref.namespace), refs))
        return namespace.result(), dict(zip(refs, found, strict=True))


def observe_proxy_pods(client: KubeClient, spec: ProxySpec) -> tuple[Pod, ...]:
    """The proxies' pods in one request, by name."""
    found = (redact_pod(parse_pod(one), _HIDE) for one in list_pods(client, spec.namespace, spec.selector))
    return tuple(sorted(found, key=lambda pod: pod.name))


# --- a new configuration ----------------------------------------------------------------------------------------------


def try_config(client: KubeClient, spec: ProxySpec, pods: Iterable[Pod], text: str) -> None:
    """Let a running proxy judge the configuration before anything is written.

    Refused: it does not take it, with its words; or nobody could ask it.
    """
    pod = next((one for one in pods if one.ready and is_running(one)), None)
    if pod is None:  # the container ``check`` of the next pod judges it
        return
    try:
        answer = parse_answer(run_in_pod(client, spec.namespace, pod.name, CONTAINER, try_command(text)))
    except RuntimeError as problem:
        raise Refused(
            f"Pod {spec.namespace}/{pod.name}",
            f"the new configuration could not be tried there: {problem}",
            way_out="see to the right to create pods/exec and to the pod; the running configuration was not touched",
        ) from problem
    if not answer.done:
        raise _refusal(spec, pod, answer, "the running configuration was not touched")


def _refusal(spec: ProxySpec, pod: Pod, answer: LoadAnswer, rest: str) -> Refused:
    words = answer.words or "it gave no reason"
    return Refused(
        f"Pod {spec.namespace}/{pod.name}",
        f"its HAProxy refuses the configuration: {words}",
        way_out=f"correct the options that its words are about, or use HAProxy 3.2 or later; {rest}",
        details={"haproxy": words},
    )


@dataclass(slots=True)
class Reloader:
    """Makes each running proxy load the new configuration, one after the other. Sessions go on.

    ``done`` is told each pod that was made to load it; ``old_data`` is put back when a proxy refuses the new one.
    """

    client: KubeClient
    spec: ProxySpec
    digest: str
    deadline: Deadline
    progress: Progress
    done: Callable[[Pod], None]
    old_data: Mapping[str, str] | None = None
    _touched: set[str] = field(default_factory=set)

    def reload(self) -> None:
        """Refused: a proxy does not take it. TimedOut: a proxy did not get or did not load it in time."""
        for pod in observe_proxy_pods(self.client, self.spec):
            if is_running(pod):
                self._reload(pod)

    def _reload(self, pod: Pod) -> None:
        waited = wait_until(
            f"Pod {self.spec.namespace}/{pod.name}",
            lambda: self._look(pod),
            self._judge,
            self.deadline,
            clock=self.client.clock,
            progress=self.progress,
            longest_interval_s=_LONGEST_PAUSE_S,
        )
        answer = waited.observation
        if answer is not None and answer.state is Loaded.REFUSED:
            back = ""
            if self.old_data is not None:
                manifest = {**render_proxy_config_map(self.spec), "data": dict(self.old_data)}
                self.client.apply(manifest)
                back = "the old one was put back"
            raise _refusal(self.spec, pod, answer, back or "proxies go on with the one that they have")
        if answer is not None and answer.state is Loaded.JUST_NOW:
            self.done(pod)

    def _look(self, pod: Pod) -> LoadAnswer | None:
        """None: the pod is gone; another one starts with the new configuration."""
        command = load_command(self.spec.config, self.digest)
        try:
            answer = parse_answer(run_in_pod(self.client, self.spec.namespace, pod.name, CONTAINER, command))
        except RuntimeError as problem:
            live = self.client.get(kinds.POD, pod.name, self.spec.namespace)
            if live is None or parse_pod(live).uid != pod.uid or not is_running(parse_pod(live)):
                return None
            return LoadAnswer(Loaded.UNKNOWN, str(problem))
        if answer.state is Loaded.NOT_MOUNTED and pod.uid not in self._touched:
            self._touched.add(pod.uid)
            self._touch(pod)
        return answer

    def _touch(self, pod: Pod) -> None:
        """A change of the pod makes its kubelet look at its volumes now. Without the right it takes a minute."""
        patch = {"metadata": {"annotations": {ANNOTATION_CONFIG_HASH: self.digest}}}
        try:
            self.client.patch(ObjectRef(kinds.POD, pod.name, self.spec.namespace), patch)
        except (Forbidden, NotFound):
            self.progress(f"{pod.name}: it may not be annotated, so its kubelet takes its time with the new file")

    @staticmethod
    def _judge(answer: LoadAnswer | None) -> Judgement:
        if answer is None or answer.done or answer.state is Loaded.REFUSED:
            return Judgement(True, "done with the new configuration")
        return Judgement(
            False,
            {
                Loaded.NOT_MOUNTED: f"its file is still that of configuration {answer.words or '(none)'}",
                Loaded.STILL_OLD: f"it still works with configuration {answer.words or '(none)'} after its reload",
            }.get(answer.state, f"it could not be asked: {answer.words or 'no answer'}"),
            way_out="look at the pod's log and at its node's kubelet, then run again: the next run goes on here",
        )


# --- waiting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProxySeen:
    """One look at the proxies; ``rollout`` is None when the Deployment is not there."""

    rollout: Rollout | None
    pods: tuple[Pod, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


@dataclass(slots=True)
class ProxyWatcher:
    """Looks at the proxies again and again; deeper when one of them keeps us waiting."""

    client: KubeClient
    spec: ProxySpec
    clock: Clock
    _first_s: float | None = None
    _deeper_s: float | None = None
    _evidence: dict[str, Evidence] = field(default_factory=dict)

    def look(self) -> ProxySeen:
        """One request for the Deployment and one for its pods."""
        live = self.client.get(kinds.DEPLOYMENT, self.spec.name, self.spec.namespace)
        if live is None:
            return ProxySeen(None, ())
        seen = ProxySeen(parse_rollout(live), observe_proxy_pods(self.client, self.spec), self._evidence)
        now_s = self.clock.now_s()
        self._first_s = now_s if self._first_s is None else self._first_s
        due_s = (
            self._first_s + _LOOK_DEEPER_AFTER_S if self._deeper_s is None else self._deeper_s + _LOOK_DEEPER_EVERY_S
        )
        if seen.rollout is not None and not seen.rollout.done and now_s >= due_s:
            seen = self._look_deeper(seen)
        return seen

    def judge(self, seen: ProxySeen) -> Judgement:
        """What a look means for the wait."""
        return judge_rollout(seen.rollout, seen.pods, seen.evidence)

    def explain(self, seen: ProxySeen) -> Judgement:
        """The judgement with all reasons that can be found now."""
        return self.judge(self._look_deeper(seen))

    def _look_deeper(self, seen: ProxySeen) -> ProxySeen:
        self._deeper_s = self.clock.now_s()
        stuck = why_not_ready(seen.pods, {})
        for pod in seen.pods:
            if pod.name in stuck:
                evidence = Evidence(
                    events=observe_events(self.client, self.spec.namespace, "Pod", pod.name, pod.uid),
                    node=observe_node(self.client, pod.node) if pod.node else None,
                    logs=observe_logs(self.client, self.spec.namespace, pod, _HIDE),
                )
                self._evidence[pod.name] = redact_evidence(evidence, _HIDE)
        return ProxySeen(seen.rollout, seen.pods, self._evidence)


def observe_views(client: KubeClient, spec: ProxySpec, pods: Sequence[Pod]) -> dict[str, View]:
    """What each of these proxies says, by name; all are asked at the same time."""

    def look(pod: Pod) -> View:
        try:
            return parse_view(run_in_pod(client, spec.namespace, pod.name, CONTAINER, look_command(spec.config)))
        except RuntimeError as problem:
            return View(failure=f"it could not be asked: {problem}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip((pod.name for pod in pods), pool.map(look, pods), strict=True))
