# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of the module to a checked :class:`PetSetSpec`.

Everything is judged here before any request is sent. Each message names the option as the user wrote it, the value
and what is allowed; a password is never in a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .agent import parse_agent_files
from .errors import InvalidInput
from .manifests import KNOWN_PETS_KEY, PORT, Agent, ClientService, PetSetSpec, Probes
from .mycnf import render_user_config
from .names import (
    MAX_ORDINAL,
    claim_name,
    parse_count,
    parse_dns_label,
    parse_dns_subdomain,
    parse_labels,
    parse_service_name,
    parse_set_name,
    pet_name,
)
from .options import in_range as _in_range
from .options import parse_annotations as _annotations
from .options import parse_image as _image
from .options import parse_network as _network
from .options import parse_resources as _resources
from .options import parse_toleration as _toleration
from .options import texts
from .quantity import format_bytes, parse_capacity
from .volumes import DEFAULT_CLAIM_TEMPLATE

Options = Mapping[str, Any]

BOOT_FILES: Final = frozenset(
    {"lib.sh", "settings.sh", "prepare.sh", "start.sh", "stop.sh", "fence.sh", "probe.sh", "petset.cnf.in"}
)
# Keys of the Secret by the option that gives the value, with the most bytes that MySQL takes: 32 for the password of a
# replication channel (manual, CHANGE REPLICATION SOURCE TO), 255 as the start-up program's own limit elsewhere.
PASSWORD_KEYS: Final[Mapping[str, tuple[str, int]]] = {
    "root": ("root-password", 255),
    "replication": ("replication-password", 32),
    "admin": ("admin-password", 255),
    "agent": ("agent-password", 255),
}
APP_KEYS: Final = ("app-user", "app-password", "app-database")
_OWN_VOLUMES: Final = frozenset({"boot", "secret", "tls", "run", "scratch", "agent", "agent-secret", "api"})
_CONFIG_MAP_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_USERS: Final = frozenset({"root", "mysql.sys", "mysql.session", "mysql.infoschema"})
# A ConfigMap holds 1 MiB; the rest is left to the user's settings and the record of known pets.
_MAX_BOOT_BYTES: Final = 512 * 1024
AGENT_IMAGE: Final = "python:3.13-slim"
AGENT_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "50m", "memory": "64Mi"},
    "limits": {"memory": "128Mi"},
}
MAX_SERVER_ID: Final = 2**32 - 1


def parse_spec(options: Options) -> PetSetSpec:
    """The whole specification for ``state: present``. InvalidInput: any option that cannot be right."""
    name = parse_set_name("set", options["set"])
    namespace = parse_dns_label("namespace", options["namespace"])
    replicas = parse_count("replicas", options["replicas"])
    service = parse_service_name("service", options["service"])
    template = parse_dns_label("claim_template", options["claim_template"])
    domain = parse_dns_subdomain("cluster_domain", options["cluster_domain"])
    _check_names(name, namespace, replicas, service, template, domain)
    strategy = options["update_strategy"]
    agent = _agent(options["agent"] or {}, options["agent_files"])
    masters = _in_range("masters", options["masters"], 1, 65535)
    if agent is not None and masters > 2:
        # A commit waits for one acknowledgement, and in a circle of three the one that gives it may not take over.
        raise InvalidInput(
            "masters",
            masters,
            "agents move the writer between two pets",
            "1 or 2; pets beyond them (replicas) follow and only read",
        )
    return PetSetSpec(
        name=name,
        namespace=namespace,
        replicas=replicas,
        image=_image("image", options["image"]),
        boot_files=_boot_files(options["boot_files"]),
        service=service,
        client_service=_client_service(options["client_service"] or {}, name, service),
        cluster_domain=domain,
        claim_template=template,
        size=format_bytes(parse_capacity(options["capacity"], "capacity")),
        storage_class=_storage_class(options["storage_class"]),
        access_modes=(options["access_mode"],),
        image_pull_policy=options["image_pull_policy"],
        image_pull_secrets=tuple(
            parse_dns_subdomain("image_pull_secrets", one) for one in options["image_pull_secrets"]
        ),
        resources=_resources("resources", options["resources"] or {}),
        uid=_in_range("uid", options["uid"], 1, 2**31 - 1),
        gid=_in_range("gid", options["gid"], 1, 2**31 - 1),
        fs_group=None if options["fs_group"] is None else _in_range("fs_group", options["fs_group"], 1, 2**31 - 1),
        termination_grace_s=_in_range("termination_grace", options["termination_grace"], 1, 86400),
        probes=Probes(startup_timeout_s=_in_range("startup_timeout", options["startup_timeout"], 60, 7 * 86400)),
        strategy=strategy,
        partition=_partition(options["partition"], strategy, replicas),
        min_ready_s=_in_range("min_ready", options["min_ready"], 0, 86400),
        masters=masters,
        server_id_base=_in_range("server_id_base", options["server_id_base"], 1, MAX_SERVER_ID - MAX_ORDINAL),
        durability=options["durability"],
        user_config=render_user_config(
            "mysql_config", options["mysql_config"] or {}, relaxed=options["durability"] == "relaxed"
        ),
        secret_name=_secret_name("passwords_secret", options["passwords_secret"]),
        tls_secret_name=_secret_name("tls_secret", options["tls_secret"]),
        labels=parse_labels("labels", texts("labels", options["labels"])),
        pod_labels=parse_labels("pod_labels", texts("pod_labels", options["pod_labels"])),
        pod_annotations=_annotations("pod_annotations", options["pod_annotations"]),
        env=_env(options["env"] or {}),
        node_selector=parse_labels("node_selector", texts("node_selector", options["node_selector"])),
        tolerations=tuple(_toleration(one) for one in options["tolerations"]),
        priority_class=parse_dns_subdomain("priority_class", options["priority_class"])
        if options["priority_class"]
        else "",
        create_namespace=options["create_namespace"],
        namespace_labels=parse_labels("namespace_labels", texts("namespace_labels", options["namespace_labels"])),
        agent=agent,
    )


def parse_identity(options: Options) -> PetSetSpec:
    """As much as is needed to find the objects of a set, for ``state: absent`` and for looking.

    ``claim_template`` None: it has to be read from the set; until then it is the usual one.
    """
    name = parse_set_name("set", options["set"])
    template = options["claim_template"]
    service = parse_service_name("service", options["service"])
    return PetSetSpec(
        name=name,
        namespace=parse_dns_label("namespace", options["namespace"]),
        replicas=1,
        image="none",
        boot_files={},
        service=service,
        client_service=_client_service(options.get("client_service") or {}, name, service),
        cluster_domain=parse_dns_subdomain("cluster_domain", options["cluster_domain"]),
        claim_template=DEFAULT_CLAIM_TEMPLATE if template is None else parse_dns_label("claim_template", template),
        secret_name=_secret_name("passwords_secret", options.get("passwords_secret")),
        tls_secret_name=_secret_name("tls_secret", options.get("tls_secret")),
        agent=Agent("none"),
    )


def _check_names(name: str, namespace: str, replicas: int, service: str, template: str, domain: str) -> None:
    """Names that are put together from checked ones have limits of their own."""
    last = pet_name(name, max(replicas - 1, 0))
    claim = claim_name(template, name, max(replicas - 1, 0))
    if template in _OWN_VOLUMES:
        raise InvalidInput("claim_template", template, "the pod has a volume of that name", "any other name")
    for variable, text, limit in (
        ("set", last, 63),
        ("claim_template", claim, 253),
        ("cluster_domain", f"{last}.{service}.{namespace}.svc.{domain}", 253),
    ):
        if len(text) > limit:
            raise InvalidInput(variable, text, f"{len(text)} characters are too many", f"at most {limit} together")


def _agent(options: Options, files: Any) -> Agent | None:
    if not options.get("enabled", True):
        return None
    resources = options.get("resources")
    return Agent(
        image=_image("agent.image", options.get("image") or AGENT_IMAGE),
        files=parse_agent_files(files),
        resources=_resources("agent.resources", AGENT_RESOURCES if resources is None else resources),
    )


def _boot_files(files: Any) -> dict[str, str]:
    allowed = "a map from file name to text, as the role pet_set makes it"
    if not isinstance(files, Mapping):
        raise InvalidInput("boot_files", None, "it is missing", allowed)
    missing = sorted(BOOT_FILES - set(files))
    if missing:
        raise InvalidInput("boot_files", missing, "files are missing", allowed)
    for name, text in files.items():
        if (
            not _CONFIG_MAP_KEY.fullmatch(str(name))
            or name in ("user.cnf", KNOWN_PETS_KEY)
            or not isinstance(text, str)
        ):
            raise InvalidInput("boot_files", name, "not a file of the start-up program", allowed)
    size_bytes = sum(len(text.encode()) for text in files.values())
    if size_bytes > _MAX_BOOT_BYTES:
        raise InvalidInput("boot_files", size_bytes, "too many bytes", f"at most {_MAX_BOOT_BYTES} bytes together")
    return dict(files)


def _client_service(options: Options, set_name: str, service: str) -> ClientService | None:
    if not options.get("enabled", True):
        return None
    name = parse_service_name("client_service.name", options.get("name") or set_name)
    if name == service:
        raise InvalidInput("client_service.name", name, "the governing service has this name", "a name of its own")
    kind = options.get("type") or "ClusterIP"
    node_port = options.get("node_port")
    if node_port is not None:
        _in_range("client_service.node_port", node_port, 1, 65535)
        if kind == "ClusterIP":
            raise InvalidInput("client_service.node_port", node_port, "a ClusterIP service has none", "type NodePort")
    ranges = tuple(_network("client_service.source_ranges", one) for one in options.get("source_ranges") or ())
    if ranges and kind != "LoadBalancer":
        raise InvalidInput("client_service.source_ranges", list(ranges), f"type {kind} has none", "type LoadBalancer")
    return ClientService(
        name=name,
        type=kind,
        port=_in_range("client_service.port", options.get("port") or PORT, 1, 65535),
        node_port=node_port,
        annotations=_annotations("client_service.annotations", options.get("annotations")),
        source_ranges=ranges,
    )


def _storage_class(name: Any) -> str:
    return parse_dns_subdomain("storage_class", name) if name else ""


def _secret_name(variable: str, name: Any) -> str:
    return parse_dns_subdomain(variable, name) if name else ""


def _partition(partition: Any, strategy: str, replicas: int) -> int:
    if partition and strategy != "RollingUpdate":
        raise InvalidInput("partition", partition, f"update_strategy {strategy} has none", "0")
    return _in_range("partition", partition, 0, replicas)


def _env(values: Mapping[Any, Any]) -> dict[str, str]:
    for name, value in values.items():
        variable = f"env[{name}]"
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name) or name.startswith("PETSET_"):
            raise InvalidInput(
                "env", name, "not a name for a variable", "letters, digits and '_', not beginning PETSET_"
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # 0755 is 493 by now: nobody can tell what was meant.
            raise InvalidInput(variable, value, "a number, which YAML may have changed; quote it", "text or a boolean")
    return texts("env", values)


# --- passwords --------------------------------------------------------------------------------------------------------


def parse_passwords(passwords: Options, app: Options | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values to store by key of the Secret, and all keys that the Secret has to have.

    InvalidInput never carries a password: values that are not text (YAML turns 0123 into 83), empty ones, control
    characters and line breaks (no option file and no SQL prompt takes them), too many bytes.
    """
    given: dict[str, str] = {}
    needed = [key for key, _limit in PASSWORD_KEYS.values()]
    for option, (key, limit) in PASSWORD_KEYS.items():
        value = passwords.get(option)
        if value is not None:
            given[key] = _password(f"passwords.{option}", value, limit)
    if app:
        needed += APP_KEYS
        user = _plain_text("app.user", app.get("user"), 32)
        if user in _RESERVED_USERS or user.startswith("petset_"):
            raise InvalidInput("app.user", user, "this account is MySQL's or the collection's own", "any other name")
        given["app-user"] = user
        given["app-database"] = _database(app.get("database") or user)
        if app.get("password") is not None:
            given["app-password"] = _password("app.password", app["password"], 255)
    return given, tuple(needed)


def _password(variable: str, value: Any, limit: int) -> str:
    allowed = f"text of 1 to {limit} bytes on one line; leave it out to have one made"
    if not isinstance(value, str):
        raise InvalidInput(variable, None, "it is not text, YAML has changed it; quote it", allowed)
    if not value:
        raise InvalidInput(variable, None, "it is empty", allowed)
    if any(char < " " or char == "\x7f" for char in value):
        raise InvalidInput(variable, None, "it has a line break or another control character in it", allowed)
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInput(variable, None, "it is not valid Unicode", allowed) from None
    if size_bytes > limit:
        raise InvalidInput(variable, None, f"it has {size_bytes} bytes, MySQL takes {limit} here", allowed)
    return value


def _plain_text(variable: str, value: Any, limit: int) -> str:
    allowed = f"text of 1 to {limit} characters on one line"
    if (
        not isinstance(value, str)
        or not value
        or len(value) > limit
        or any(char < " " or char == "\x7f" for char in value)
    ):
        raise InvalidInput(variable, value, "not a name for MySQL", allowed)
    return value


def _database(value: Any) -> str:
    text = _plain_text("app.database", value, 64)
    if text.lower() in ("mysql", "sys", "performance_schema", "information_schema", "petset") or text.endswith(" "):
        raise InvalidInput("app.database", text, "this schema is MySQL's or the collection's own", "any other name")
    return text


def with_secrets_of(spec: PetSetSpec, live: Mapping[str, Any]) -> PetSetSpec:
    """The names of the Secrets that were not given, as the pods have them: the user's own may be called anything."""
    pod = ((live.get("spec") or {}).get("template") or {}).get("spec") or {}
    found = {one.get("name"): (one.get("secret") or {}).get("secretName") or "" for one in pod.get("volumes") or ()}
    return replace(
        spec,
        secret_name=spec.secret_name or found.get("secret", ""),
        tls_secret_name=spec.tls_secret_name or found.get("tls", ""),
    )
