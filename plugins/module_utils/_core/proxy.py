# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of the proxies before a pet set, rendered from one :class:`ProxySpec`.

The configuration is no part of the pod template: when pets are added, running proxies load it anew and keep their
sessions. That all of them have done so is recorded in an annotation of the Deployment, written last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .haproxy import CONFIG_FILE, HEALTH_PATH, ProxyConfig, config_hash, render_files
from .manifests import ANNOTATION_CONFIG_HASH, LABEL_COMPONENT, Manifest
from .names import LABEL_SET, PREFIX, own_labels
from .pod_parts import READABLE, render_container_security, render_pod_common

Json = Any

COMPONENT_PROXY: Final = "proxy"
ANNOTATION_MODE: Final = f"{PREFIX}/mode"
CONTAINER: Final = "haproxy"
CHECK_CONTAINER: Final = "check"
SCRATCH_PATH: Final = "/tmp"
# The exit status with which a pod says that nobody but a person can help; pods.py knows it.
REFUSED_STATUS: Final = 40
# Time for the cluster to stop sending new clients before the proxy stops to listen.
_LEAVE_S: Final = 5


@dataclass(frozen=True, slots=True)
class ProxyService:
    """The service for clients: ``port`` leads to the writer, ``read_port`` to all pets that may be read from.

    Ports on the nodes that are None are chosen by the cluster.
    """

    name: str
    type: str = "ClusterIP"
    port: int = 3306
    read_port: int = 3307
    node_port: int | None = None
    read_node_port: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    source_ranges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StatsService:
    """The service for the stats page and Prometheus, inside of the cluster only."""

    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """What the user wants, checked. ``set_name`` is the pet set's; ``proxies`` the number of pods."""

    set_name: str
    namespace: str
    config: ProxyConfig
    client_service: ProxyService
    stats_service: StatsService | None = None
    image: str = "haproxy:3.2"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    proxies: int = 2
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    uid: int = 99
    gid: int = 99
    termination_grace_s: int = 60
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Json], ...] = ()
    priority_class: str = ""

    @property
    def name(self) -> str:
        """Name of the Deployment, the ConfigMap and the disruption budget."""
        return proxy_name(self.set_name)

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which the proxies are found, and no pet."""
        return proxy_selector(self.set_name)


def proxy_name(set_name: str) -> str:
    """Name of the proxies' objects."""
    return f"{set_name}-haproxy"


def proxy_selector(set_name: str) -> dict[str, str]:
    """Labels of the proxies of a set."""
    return {LABEL_SET: set_name, LABEL_COMPONENT: COMPONENT_PROXY}


def render_proxy(spec: ProxySpec) -> tuple[Manifest, ...]:
    """All objects in the order in which they have to be written; the Deployment, which records the rest, is last."""
    objects = [render_proxy_config_map(spec), render_proxy_service(spec)]
    if spec.stats_service is not None:
        objects.append(render_stats_service(spec, spec.stats_service))
    return (*objects, render_proxy_budget(spec), render_deployment(spec))


def _metadata(spec: ProxySpec, name: str, annotations: Mapping[str, str] | None = None) -> Manifest:
    meta: Manifest = {
        "name": name,
        "namespace": spec.namespace,
        "labels": {**spec.labels, **own_labels(spec.namespace, spec.set_name), LABEL_COMPONENT: COMPONENT_PROXY},
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


def render_proxy_config_map(spec: ProxySpec) -> Manifest:
    """HAProxy's configuration. Nothing secret is in it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, spec.name, {ANNOTATION_MODE: spec.config.mode}),
        "data": render_files(spec.config),
    }


def render_proxy_service(spec: ProxySpec) -> Manifest:
    """The service for clients."""
    service = spec.client_service
    ports: list[Manifest] = []
    for name, port, node_port in (
        ("mysql", service.port, service.node_port),
        ("mysql-read", service.read_port, service.read_node_port),
    ):
        ports.append({"name": name, "port": port, "protocol": "TCP", "targetPort": name})
        if node_port is not None:
            ports[-1]["nodePort"] = node_port
    body: Manifest = {"type": service.type, "selector": spec.selector, "ports": ports}
    if service.source_ranges:
        body["loadBalancerSourceRanges"] = list(service.source_ranges)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, service.name, service.annotations),
        "spec": body,
    }


def render_stats_service(spec: ProxySpec, service: StatsService) -> Manifest:
    """Stats page and metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, service.name, service.annotations),
        "spec": {
            "type": "ClusterIP",
            "selector": spec.selector,
            "ports": [
                {"name": "stats", "port": spec.config.ports.stats, "protocol": "TCP", "targetPort": "stats"},
            ],
        },
    }


def render_proxy_budget(spec: ProxySpec) -> Manifest:
    """One proxy at a time may be drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(spec, spec.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": spec.selector},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def render_deployment(spec: ProxySpec) -> Manifest:
    """The proxies."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(spec, spec.name, {ANNOTATION_CONFIG_HASH: config_hash(spec.config)}),
        "spec": {
            "replicas": spec.proxies,
            # A new proxy works before an old one goes: one that does not start never replaces one that does.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": spec.selector},
            "template": _render_template(spec),
        },
    }


def _render_template(spec: ProxySpec) -> Manifest:
    template: Manifest = {
        "metadata": {
            "labels": {
                **spec.labels,
                **spec.pod_labels,
                **own_labels(spec.namespace, spec.set_name),
                **spec.selector,
                "app.kubernetes.io/name": "haproxy",
                "app.kubernetes.io/instance": spec.set_name,
            },
            "annotations": {**spec.pod_annotations, "kubectl.kubernetes.io/default-container": CONTAINER},
        },
        "spec": _render_pod(spec),
    }
    return template


def _render_pod(spec: ProxySpec) -> Manifest:
    ports = spec.config.ports
    path = f"{spec.config.folder}/{CONFIG_FILE}"
    check = f"haproxy -c -f {path} || exit {REFUSED_STATUS}"
    probe = {"httpGet": {"path": HEALTH_PATH, "port": "stats", "scheme": "HTTP"}, "timeoutSeconds": 2}
    return {
        **render_pod_common(spec),
        # A configuration that the image's own HAProxy does not take stops a new pod here, and old ones go on.
        "initContainers": [_render_container(spec, CHECK_CONTAINER, check)],
        "containers": [
            {
                **_render_container(spec, CONTAINER, f"{check}\nexec haproxy -W -db -f {path}"),
                "ports": [
                    {"name": "mysql", "containerPort": ports.writer, "protocol": "TCP"},
                    {"name": "mysql-read", "containerPort": ports.reader, "protocol": "TCP"},
                    {"name": "stats", "containerPort": ports.stats, "protocol": "TCP"},
                ],
                "readinessProbe": {**probe, "periodSeconds": 2, "failureThreshold": 2, "successThreshold": 1},
                "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6, "successThreshold": 1},
                "lifecycle": {"preStop": {"sleep": {"seconds": _LEAVE_S}}},
            }
        ],
        "volumes": [
            {"name": "config", "configMap": {"name": spec.name, "defaultMode": READABLE}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }


def _render_container(spec: ProxySpec, name: str, script: str) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": ["/bin/sh", "-c", script],
        "securityContext": render_container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "config", "mountPath": spec.config.folder, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH_PATH},
        ],
    }
    if spec.resources:
        container["resources"] = {kind: dict(amounts) for kind, amounts in spec.resources.items() if amounts}
    return container
