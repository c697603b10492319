# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of pet_proxy to a checked :class:`ProxySpec`; each message names option, value and rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidInput
from .haproxy import ProxyConfig, Times, render_config
from .names import (
    parse_count,
    parse_dns_label,
    parse_dns_subdomain,
    parse_labels,
    parse_service_name,
    parse_set_name,
    pet_name,
)
from .options import (
    in_range,
    parse_annotations,
    parse_image,
    parse_network,
    parse_resources,
    parse_toleration,
    texts,
)
from .proxy import ProxyService, ProxySpec, StatsService

Options = Mapping[str, Any]


def parse_proxy_spec(options: Options) -> ProxySpec:
    """The whole specification for ``state: present``. InvalidInput: any option that cannot be right."""
    name = parse_set_name("set", options["set"])
    namespace = parse_dns_label("namespace", options["namespace"])
    service = parse_service_name("service", options["service"])
    domain = parse_dns_subdomain("cluster_domain", options["cluster_domain"])
    replicas = parse_count("replicas", options["replicas"])
    times = options.get("timeouts") or {}
    usual = Times()
    config = ProxyConfig(
        pets=tuple(pet_name(name, ordinal) for ordinal in range(replicas)),
        domain=f"{service}.{namespace}.svc.{domain}",
        masters=in_range("masters", options["masters"], 1, 1000),
        mode=options["mode"],
        times=Times(
            check_ms=times.get("check_ms", usual.check_ms),
            check_answer_ms=times.get("check_answer_ms", usual.check_answer_ms),
            connect_ms=times.get("connect_ms", usual.connect_ms),
            waiting_ms=times.get("waiting_ms", usual.waiting_ms),
            idle_s=times.get("idle", usual.idle_s),
            old_sessions_s=times.get("old_sessions", usual.old_sessions_s),
        ),
        max_connections=options["max_connections"],
        threads=options["threads"],
        family=options["ip_family"],
    )
    render_config(config)
    return ProxySpec(
        set_name=name,
        namespace=namespace,
        config=config,
        client_service=_client_service(options.get("client_service") or {}, name, service),
        stats_service=_stats_service(options.get("stats_service") or {}, options, name, service),
        image=parse_image("image", options["image"]),
        image_pull_policy=options["image_pull_policy"],
        image_pull_secrets=tuple(
            parse_dns_subdomain("image_pull_secrets", one) for one in options["image_pull_secrets"]
        ),
        proxies=in_range("proxies", options["proxies"], 1, 100),
        resources=parse_resources("resources", options.get("resources") or {}),
        uid=in_range("uid", options["uid"], 1, 2**31 - 1),
        gid=in_range("gid", options["gid"], 1, 2**31 - 1),
        termination_grace_s=in_range("termination_grace", options["termination_grace"], 10, 86400),
        labels=parse_labels("labels", texts("labels", options["labels"])),
        pod_labels=parse_labels("pod_labels", texts("pod_labels", options["pod_labels"])),
        pod_annotations=parse_annotations("pod_annotations", options["pod_annotations"]),
        node_selector=parse_labels("node_selector", texts("node_selector", options["node_selector"])),
        tolerations=tuple(parse_toleration(one) for one in options["tolerations"]),
        priority_class=parse_dns_subdomain("priority_class", options["priority_class"])
        if options["priority_class"]
        else "",
    )


def parse_proxy_identity(options: Options) -> ProxySpec:
    """As much as is needed to find the objects, for ``state: absent`` and for looking."""
    name = parse_set_name("set", options["set"])
    namespace = parse_dns_label("namespace", options["namespace"])
    return ProxySpec(
        set_name=name,
        namespace=namespace,
        config=ProxyConfig((pet_name(name, 0),), f"none.{namespace}"),
        client_service=_client_service(options.get("client_service") or {}, name, ""),
        stats_service=_stats_service(options.get("stats_service") or {}, options, name, ""),
    )


def _service_name(variable: str, given: Any, usual: str, *others: str) -> str:
    name = parse_service_name(variable, given or usual)
    if name in others:
        raise InvalidInput(variable, name, "another service of this set has this name", "a name of its own")
    return name


def _client_service(options: Options, set_name: str, service: str) -> ProxyService:
    # The set's own service for clients is called as the set, unless it was given another name.
    name = _service_name("client_service.name", options.get("name"), f"{set_name}-proxy", service, set_name)
    kind = options.get("type") or "ClusterIP"
    ports = [
        in_range(f"client_service.{key}", options.get(key) or usual, 1, 65535)
        for key, usual in (("port", 3306), ("read_port", 3307))
    ]
    if ports[0] == ports[1]:
        raise InvalidInput("client_service.read_port", ports[1], "it is client_service.port as well", "another port")
    node_ports: list[int | None] = [options.get("node_port"), options.get("read_node_port")]
    for key, number in zip(("node_port", "read_node_port"), node_ports, strict=True):
        if number is None:
            continue
        in_range(f"client_service.{key}", number, 1, 65535)
        if kind == "ClusterIP":
            raise InvalidInput(f"client_service.{key}", number, "a ClusterIP service has none", "type NodePort")
    if node_ports[0] is not None and node_ports[0] == node_ports[1]:
        raise InvalidInput("client_service.read_node_port", node_ports[1], "it is node_port as well", "another port")
    ranges = tuple(parse_network("client_service.source_ranges", one) for one in options.get("source_ranges") or ())
    if ranges and kind != "LoadBalancer":
        raise InvalidInput("client_service.source_ranges", list(ranges), f"type {kind} has none", "type LoadBalancer")
    return ProxyService(
        name=name,
        type=kind,
        port=ports[0],
        read_port=ports[1],
        node_port=node_ports[0],
        read_node_port=node_ports[1],
        annotations=parse_annotations("client_service.annotations", options.get("annotations")),
        source_ranges=ranges,
    )


def _stats_service(options: Options, all_options: Options, set_name: str, service: str) -> StatsService | None:
    if not options.get("enabled", True):
        return None
    client = (all_options.get("client_service") or {}).get("name") or f"{set_name}-proxy"
    return StatsService(
        name=_service_name("stats_service.name", options.get("name"), f"{set_name}-stats", service, set_name, client),
        annotations=parse_annotations("stats_service.annotations", options.get("annotations")),
    )
