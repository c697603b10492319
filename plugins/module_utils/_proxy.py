# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bodies of the modules pet_proxy and pet_proxy_info: observe, plan, apply, wait; one plan feeds all else."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from ._core import kinds
from ._core.errors import AlreadyExists, Conflict, Forbidden
from ._core.haproxy import CONFIG_FILE, SINGLE_WRITER, read_hash, render_config
from ._core.kinds import ObjectRef
from ._core.options import parse_adopt
from ._core.pods import Pod
from ._core.proxy import ANNOTATION_MODE, ProxySpec
from ._core.proxy_plan import (
    ProxyPlan,
    is_running,
    judge_rollout,
    parse_rollout,
    plan_proxy,
    plan_proxy_absent,
    render_proxy_pod,
    why_not_ready,
)
from ._core.proxy_probe import Verdict, judge_views, render_view, table_of_proxies
from ._core.proxy_spec import parse_proxy_identity, parse_proxy_spec
from ._core.set_steps import Action, Options, Step, combine_refusals, is_own, render_diff
from ._core.shared_nodes import move_a_proxy, note_shared_nodes
from ._io.clock import Deadline
from ._io.kube import KubeClient
from ._io.observe import observe_shared_nodes
from ._io.pet_set import apply_step
from ._io.proxy import (
    ProxySeen,
    ProxyWatcher,
    Reloader,
    observe_proxy,
    observe_proxy_pods,
    observe_views,
    try_config,
)
from ._io.wait import Judgement, wait_until
from ._module import Module, progress_of

Partial = MutableMapping[str, Any]
Objects = Mapping[ObjectRef, Any]

# How often a run starts over because somebody else wrote at the same moment.
_ATTEMPTS = 5


def run_pet_proxy(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    """The module pet_proxy. ``partial`` always says what was done so far."""
    partial["actions"] = []
    if module.params["state"] == "absent":
        return _run_absent(module, client, partial)
    return _run_present(module, client, partial)


def _run_present(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    spec = parse_proxy_spec(module.params)
    options = Options(
        adopt=parse_adopt(module.params["adopt"]),
        force_conflicts=module.params["force_conflicts"],
        check_mode=module.check_mode,
    )
    attempt = 0
    while True:
        attempt += 1
        namespace, objects = observe_proxy(client, spec)
        plan = plan_proxy(spec, namespace, objects, options)
        if plan.plan.refusals:
            raise combine_refusals(spec.set_name, plan.plan.refusals)
        if module.check_mode:
            return _predict(module, client, spec, plan, objects)
        try:
            _apply(module, client, spec, plan, objects, partial)
            break
        except (AlreadyExists, Conflict):
            if attempt >= _ATTEMPTS:
                raise
            client.clock.sleep(0.2 * attempt)
    result: dict[str, Any] = {
        "changed": partial["changed"],
        "actions": partial["actions"],
        "restarts_proxies": plan.plan.restarts,
        "config_hash": read_hash(render_config(spec.config)),
    }
    if module._diff:
        result["diff"] = render_diff(plan.plan.steps)
    if module.params["wait"]:
        result.update(_wait_ready(module, client, spec))
    return result


def _reload_line(spec: ProxySpec, pod: Pod) -> str:
    return f"reload HAProxy in Pod {spec.namespace}/{pod.name}"


def _apply(
    module: Module, client: KubeClient, spec: ProxySpec, plan: ProxyPlan, objects: Objects, partial: Partial
) -> None:
    """The steps in order. Running proxies load a new configuration after the ConfigMap and before the Deployment,
    whose annotation records that they all have.
    """
    config_map = ObjectRef(kinds.CONFIG_MAP, spec.name, spec.namespace)
    old_data: Mapping[str, str] | None = None
    if plan.reload and any(step.ref == config_map for step in plan.plan.steps):
        try_config(client, spec, observe_proxy_pods(client, spec), render_config(spec.config))
    for step in plan.plan.steps:
        if step.ref == config_map and step.action is Action.UPDATE:
            old_data = dict((objects.get(config_map) or {}).get("data") or {})
        if plan.reload and step.ref.kind is kinds.DEPLOYMENT:
            _reload(module, client, spec, old_data, partial)
        apply_step(client, step, lambda _step: ({}, {}))
        _note(partial, step)


def _note(partial: Partial, step: Step) -> None:
    partial["changed"] = True
    partial["actions"].append(step.describe())


def _reload(
    module: Module, client: KubeClient, spec: ProxySpec, old_data: Mapping[str, str] | None, partial: Partial
) -> None:
    def done(pod: Pod) -> None:
        partial["changed"] = True
        partial["actions"].append(_reload_line(spec, pod))

    Reloader(
        client=client,
        spec=spec,
        digest=read_hash(render_config(spec.config)),
        deadline=Deadline(client.clock, module.params["wait_timeout"]),
        progress=progress_of(module),
        done=done,
        old_data=old_data,
    ).reload()


def _predict(
    module: Module, client: KubeClient, spec: ProxySpec, plan: ProxyPlan, objects: Objects
) -> Mapping[str, Any]:
    """What the real run would do, from the same plan."""
    actions = [step.describe() for step in plan.plan.steps]
    seen: dict[str, Any] = {}
    live = objects.get(ObjectRef(kinds.DEPLOYMENT, spec.name, spec.namespace))
    if live is not None and (plan.reload or module.params["wait"]):
        pods = observe_proxy_pods(client, spec)
        if plan.reload:
            actions[-1:-1] = [_reload_line(spec, pod) for pod in pods if is_running(pod)]
        judged = judge_rollout(parse_rollout(live), pods, {})
        seen = {"ready": judged.done, "proxies": list(judged.pets), **_served(module, client, spec, pods)}
    result: dict[str, Any] = {
        **seen,
        "changed": bool(actions),
        "actions": actions,
        "notes": list(plan.plan.notes),
        "restarts_proxies": plan.plan.restarts,
        "config_hash": read_hash(render_config(spec.config)),
    }
    if module._diff:
        result["diff"] = render_diff(plan.plan.steps)
    return result


def _wait_ready(module: Module, client: KubeClient, spec: ProxySpec) -> dict[str, Any]:
    watcher = ProxyWatcher(client, spec, client.clock)
    waited = wait_until(
        f"Deployment {spec.namespace}/{spec.name}",
        watcher.look,
        watcher.judge,
        Deadline(client.clock, module.params["wait_timeout"]),
        clock=client.clock,
        progress=progress_of(module),
        explain=watcher.explain,
    )
    return {
        "ready": True,
        "proxies": list(waited.judgement.pets),
        "waited_s": round(waited.seconds, 1),
        "progress": waited.lines,
        **_served(module, client, spec, waited.observation.pods),
    }


def _served(module: Module, client: KubeClient, spec: ProxySpec, pods: Sequence[Pod]) -> dict[str, Any]:
    """What the proxies say of the pets, if that is asked for. Without the right to ask them nothing is known."""
    if not module.params["probe"]:
        return {}
    asked = [pod for pod in pods if is_running(pod) and not pod.deleting]
    try:
        views = observe_views(client, spec, asked)
    except Forbidden as problem:
        said = [problem.render()]
        return {"agree": None, "writers": None, "readers": None, "troubles": said, "uncertain": said}
    return _render_verdict(judge_views(views, read_hash(render_config(spec.config)), spec.config.mode), bool(views))


def _render_verdict(verdict: Verdict, known: bool) -> dict[str, Any]:
    return {
        "agree": verdict.agree if known else None,
        "writers": list(verdict.writers) if known else None,
        "readers": list(verdict.readers) if known else None,
        "troubles": list(verdict.troubles),
        "uncertain": list(verdict.uncertain),
    }


# --- state: absent ----------------------------------------------------------------------------------------------------


def _run_absent(module: Module, client: KubeClient, partial: Partial) -> Mapping[str, Any]:
    spec = parse_proxy_identity(module.params)
    _namespace, objects = observe_proxy(client, spec)
    plan = plan_proxy_absent(spec, objects)
    result: dict[str, Any] = {
        "changed": bool(plan.steps),
        "actions": partial["actions"],
        "warnings": list(plan.warnings),
    }
    if module._diff:
        result["diff"] = render_diff(plan.steps)
    if module.check_mode:
        result["actions"] = [step.describe() for step in plan.steps]
        return result
    for step in plan.steps:
        apply_step(client, step, lambda _step: ({}, {}))
        _note(partial, step)
    if module.params["wait"]:
        result.update(_wait_gone(module, client, spec))
    return result


def _wait_gone(module: Module, client: KubeClient, spec: ProxySpec) -> dict[str, Any]:
    def look() -> tuple[bool, tuple[Pod, ...]]:
        live = client.get(kinds.DEPLOYMENT, spec.name, spec.namespace)
        return live is not None and is_own(live, spec.set_name), observe_proxy_pods(client, spec)

    def judge(seen: tuple[bool, tuple[Pod, ...]]) -> Judgement:
        there, pods = seen
        left = [f"{pod.name} on node {pod.node or '(none)'}" for pod in pods]
        left += [f"Deployment {spec.name}"] if there else []
        return Judgement(
            not left,
            f"still there: {', '.join(left)}" if left else "all proxies are gone",
            way_out="proxies wait for their clients for as long as their termination grace lets them; run again",
        )

    waited = wait_until(
        f"Deployment {spec.namespace}/{spec.name}",
        look,
        judge,
        Deadline(client.clock, module.params["wait_timeout"]),
        clock=client.clock,
        progress=progress_of(module),
    )
    return {"waited_s": round(waited.seconds, 1)}


# --- pet_proxy_info ---------------------------------------------------------------------------------------------------


def run_pet_proxy_info(module: Module, client: KubeClient, _partial: Partial) -> Mapping[str, Any]:
    """The module pet_proxy_info: what each proxy says of the pets. Nothing is written and nothing is waited for."""
    spec = parse_proxy_identity(module.params)
    live = client.get(kinds.DEPLOYMENT, spec.name, spec.namespace)
    if live is None:
        return {
            "changed": False,
            "exists": False,
            "ready": False,
            "proxies": [],
            "troubles": [],
            "uncertain": [],
            "summary": "there are no proxies",
            "table": "there are no proxies",
        }
    stored = client.get(kinds.CONFIG_MAP, spec.name, spec.namespace) or {}
    wanted = read_hash(str((stored.get("data") or {}).get(CONFIG_FILE, "")))
    mode = str(((stored.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_MODE, SINGLE_WRITER))
    pods = [pod for pod in observe_proxy_pods(client, spec) if not pod.deleting]
    seen = ProxySeen(parse_rollout(live), tuple(pods))
    stuck = why_not_ready(pods, {})
    asked = [pod for pod in pods if is_running(pod)] if module.params["probe"] else []
    views = observe_views(client, spec, asked)
    verdict = judge_views(views, wanted, mode)
    empty: dict[str, Any] = {
        "config_hash": None,
        "mounted_hash": None,
        "writers": [],
        "readers": [],
        "failure": "",
        "servers": [],
    }
    proxies: list[dict[str, Any]] = [
        {
            **render_proxy_pod(pod, stuck.get(pod.name)),
            **(render_view(views[pod.name]) if pod.name in views else empty),
        }
        for pod in pods
    ]
    judged = judge_rollout(seen.rollout, pods, {})
    shared = [one.render(move_a_proxy(spec.namespace, one)) for one in observe_shared_nodes(client, pods)]
    return {
        "changed": False,
        "exists": True,
        "ready": judged.done,
        "summary": "; ".join([judged.summary, *verdict.troubles]),
        "mode": mode,
        "config_hash": wanted or None,
        **_render_verdict(verdict, bool(views)),
        "proxies": proxies,
        "shared_nodes": shared,
        "table": "\n".join([table_of_proxies(proxies, verdict), *note_shared_nodes(shared)]),
    }
