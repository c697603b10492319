# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object of a pet set, rendered from one :class:`PetSetSpec`.

The pods fit Pod Security "restricted": no root, no capability, no privilege escalation, the runtime's seccomp profile,
a root file system that cannot be written. Every field that the API server would fill in and that another value would
break is written out, so that it is owned, compared and repaired.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .agent import hash_agent
from .names import LABEL_SET, PREFIX, own_labels
from .pod_parts import READABLE, render_container_security, render_pod_common

Json = Any
Manifest = dict[str, Any]

LABEL_COMPONENT: Final = "app.kubernetes.io/component"
COMPONENT_PET: Final = "pet"
ANNOTATION_CONFIG_HASH: Final = f"{PREFIX}/config-hash"
ANNOTATION_AGENT_HASH: Final = f"{PREFIX}/agent-hash"
ANNOTATION_NOT_AFTER: Final = f"{PREFIX}/certificate-not-after"
KNOWN_PETS_KEY: Final = "known-pets"
MYSQL_CONTAINER: Final = "mysqld"
PREPARE_CONTAINER: Final = "prepare"
AGENT_CONTAINER: Final = "agent"
AGENT_ZIP: Final = "agent.zip"
PORT: Final = 3306
AGENT_PORT: Final = 8008
# Where the pet's start-up program looks; the program is the collection's own, so these are no options.
BOOT_PATH: Final = "/petset/boot"
SECRET_PATH: Final = "/petset/secret"  # noqa: S105
TLS_PATH: Final = "/petset/tls"
RUN_PATH: Final = "/petset/run"
SCRATCH_PATH: Final = "/petset/scratch"
VOLUME_PATH: Final = "/var/lib/petset"
AGENT_PATH: Final = "/petset/agent"
API_PATH: Final = "/petset/api"
# The kubelet renews a token when 80 % of its time is over; the agent reads it anew for each request.
_TOKEN_S: Final = 3600


@dataclass(frozen=True, slots=True)
class ClientService:
    """The service for clients. ``node_port`` None lets the cluster choose, and keeps what it chose."""

    name: str
    type: str = "ClusterIP"
    port: int = PORT
    node_port: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    source_ranges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probes:
    """Times of the probes, in seconds. All of them look at the pet itself only.

    ``startup_timeout_s`` has to outlast the lease of a dead NFS client (a lock that its mysqld held) and then InnoDB's
    crash recovery of the whole data set; until it is over neither of the other probes is asked.
    """

    startup_timeout_s: int = 3600
    startup_period_s: int = 2
    live_period_s: int = 10
    live_timeout_s: int = 10
    live_failures: int = 6
    ready_period_s: int = 3
    ready_timeout_s: int = 3
    ready_failures: int = 2


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent beside each mysqld.

    ``files``    its sources, ``petset_agent/<name>.py`` to text
    ``zip_b64``  the zip of them and PyMySQL as it stands in the ConfigMap
    """

    image: str
    files: Mapping[str, str] = field(default_factory=dict)
    zip_b64: str = ""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Another one when the pets have to be rolled to run it."""
        return hash_agent(self.files)


@dataclass(frozen=True, slots=True)
class PetSetSpec:
    """What the user wants, checked. Names are valid, quantities are quantities, texts are texts.

    ``boot_files``      the start-up program, file name to text
    ``user_config``     text of the user's my.cnf section
    ``known_pets``      server_uuid by ordinal of the pets that have had data, kept outside of their volumes
    ``durability``      full or relaxed: whether user_config may weaken what an acknowledged write relies on
    ``partition``       None with the strategy OnDelete
    ``fs_group``        None for NFS, where kubelet cannot apply it; needed for block volumes
    ``agent``           None: nothing runs beside mysqld, and nobody decides which pet may be written to
    ``pod_labels`` and ``pod_annotations`` are the user's; a change of them rolls the pets
    """

    name: str
    namespace: str
    replicas: int
    image: str
    boot_files: Mapping[str, str]
    service: str = "db"
    client_service: ClientService | None = None
    cluster_domain: str = "cluster.local"
    claim_template: str = "db"
    size: str = "10Gi"
    storage_class: str = ""
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    uid: int = 999
    gid: int = 999
    fs_group: int | None = None
    termination_grace_s: int = 300
    probes: Probes = Probes()
    strategy: str = "RollingUpdate"
    partition: int = 0
    min_ready_s: int = 0
    masters: int = 2
    server_id_base: int = 1000
    durability: str = "full"
    user_config: str = ""
    known_pets: Mapping[int, str] = field(default_factory=dict)
    secret_name: str = ""
    tls_secret_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Json], ...] = ()
    priority_class: str = ""
    create_namespace: bool = False
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    agent: Agent | None = None

    @property
    def role_rules(self) -> tuple[Mapping[str, Json], ...]:
        """What the pets may do in the API: nothing, or what the agent needs for its Lease."""
        if self.agent is None:
            return ()
        rule = {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [self.lease],
            "verbs": ["get", "update", "patch"],
        }
        return (rule,)

    @property
    def lease(self) -> str:
        """Name of the Lease, the record of the writer and of the pets that have every acknowledged write."""
        return self.name

    @property
    def agent_config_map(self) -> str:
        """Name of the ConfigMap with the agent's zip."""
        return f"{self.name}-agent"

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which the set and its services find the pets and nothing else of this set."""
        return {LABEL_SET: self.name, LABEL_COMPONENT: COMPONENT_PET}

    @property
    def config_map(self) -> str:
        """Name of the ConfigMap with the start-up program and the settings."""
        return f"{self.name}-boot"

    @property
    def secret(self) -> str:
        """Name of the Secret with the passwords."""
        return self.secret_name or f"{self.name}-secret"

    @property
    def tls_secret(self) -> str:
        """Name of the Secret with the certificates."""
        return self.tls_secret_name or f"{self.name}-tls"

    @property
    def domain(self) -> str:
        """The governing service's own domain, below which the pets' names lie."""
        return f"{self.service}.{self.namespace}.svc.{self.cluster_domain}"


def find_agent(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The agent's container, a sidecar, in the spec of a pet's pod; None in a set without agents."""
    return next((one for one in pod.get("initContainers") or () if one.get("name") == AGENT_CONTAINER), None)


def render_objects(spec: PetSetSpec) -> tuple[Manifest, ...]:
    """All objects without the Secrets and without the namespace, in the order in which they have to be made.

    The services come before the set: a name that was asked for too early is remembered as missing by the cluster's
    DNS for about 30 s.
    """
    objects = [
        render_service_account(spec),
        render_role(spec),
        render_role_binding(spec),
        render_config_map(spec),
        *([render_agent_config_map(spec, spec.agent)] if spec.agent is not None else []),
        render_governing_service(spec),
    ]
    if spec.client_service is not None:
        objects.append(render_client_service(spec, spec.client_service))
    objects += [render_disruption_budget(spec), render_statefulset(spec)]
    return tuple(objects)


def _metadata(spec: PetSetSpec, name: str, annotations: Mapping[str, str] | None = None) -> Manifest:
    meta: Manifest = {
        "name": name,
        "namespace": spec.namespace,
        "labels": {**spec.labels, **own_labels(spec.namespace, spec.name)},
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


def render_namespace(spec: PetSetSpec) -> Manifest:
    """The namespace, for when the user lets it be made."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": spec.namespace,
            "labels": {"app.kubernetes.io/managed-by": PREFIX, **spec.namespace_labels},
        },
    }


def render_service_account(spec: PetSetSpec) -> Manifest:
    """The pets' own account, whose token is not mounted: mysqld has nothing to ask the API."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(spec, spec.name),
        "automountServiceAccountToken": False,
    }


def render_role(spec: PetSetSpec) -> Manifest:
    """What the pets may do in the API."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _metadata(spec, spec.name),
        "rules": [dict(rule) for rule in spec.role_rules],
    }


def render_role_binding(spec: PetSetSpec) -> Manifest:
    """Role and account tied together."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(spec, spec.name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": spec.name},
        "subjects": [{"kind": "ServiceAccount", "name": spec.name, "namespace": spec.namespace}],
    }


def render_secret(spec: PetSetSpec, name: str, values: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    """A Secret of text values. Its manifest must not be shown anywhere."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(spec, name, annotations),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(values.items())},
    }


def render_config_map(spec: PetSetSpec) -> Manifest:
    """The start-up program, the user's settings, and which pets have had data."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, spec.config_map),
        "data": {**_boot_data(spec), KNOWN_PETS_KEY: render_known_pets(spec.known_pets)},
    }


def render_agent_config_map(spec: PetSetSpec, agent: Agent) -> Manifest:
    """The agent's zip."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, spec.agent_config_map, {ANNOTATION_AGENT_HASH: agent.hash}),
        "binaryData": {AGENT_ZIP: agent.zip_b64},
    }


def _boot_data(spec: PetSetSpec) -> dict[str, str]:
    return {**{name: spec.boot_files[name] for name in sorted(spec.boot_files)}, "user.cnf": spec.user_config}


def render_known_pets(known: Mapping[int, str]) -> str:
    """The set's own record of its pets' identities: a pet with a line here never starts on an empty folder.

    >>> render_known_pets({1: "b", 0: "a"})
    '0 a\\n1 b\\n'
    """
    return "".join(f"{ordinal} {uuid}\n" for ordinal, uuid in sorted(known.items()))


def parse_known_pets(text: str) -> dict[int, str]:
    """Read the record; lines that are none are passed over.

    >>> parse_known_pets("0 a\\n# note\\n1  b\\n")
    {0: 'a', 1: 'b'}
    """
    words = (line.split() for line in text.splitlines())
    return {int(one[0]): one[1] for one in words if len(one) == 2 and one[0].isdigit()}


def config_hash(spec: PetSetSpec) -> str:
    """Changes when a pet has to be started again to follow its configuration. No secret and no record goes in."""
    text = json.dumps(_boot_data(spec), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render_governing_service(spec: PetSetSpec) -> Manifest:
    """The headless service that gives each pet its name, also while it is not ready: peers meet before that."""
    ports: list[Manifest] = [{"name": "db", "port": PORT, "protocol": "TCP", "targetPort": "mysql"}]
    if spec.agent is not None:
        ports.append({"name": "agent", "port": AGENT_PORT, "protocol": "TCP", "targetPort": "agent"})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, spec.service),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": spec.selector,
            "ports": ports,
        },
    }


def render_client_service(spec: PetSetSpec, client: ClientService) -> Manifest:
    """The service for clients: pets that are ready."""
    port: Manifest = {"name": "mysql", "port": client.port, "protocol": "TCP", "targetPort": "mysql"}
    if client.node_port is not None:
        port["nodePort"] = client.node_port
    body: Manifest = {
        "type": client.type,
        "publishNotReadyAddresses": False,
        "selector": spec.selector,
        "ports": [port],
    }
    if client.source_ranges:
        body["loadBalancerSourceRanges"] = list(client.source_ranges)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, client.name, client.annotations),
        "spec": body,
    }


def render_disruption_budget(spec: PetSetSpec) -> Manifest:
    """One pet at a time may be drained; a pet that is not ready anyway never blocks a drain."""
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


def render_statefulset(spec: PetSetSpec) -> Manifest:
    """The set itself."""
    update: Manifest = {"type": spec.strategy}
    if spec.strategy == "RollingUpdate":
        update["rollingUpdate"] = {"partition": spec.partition}
    body: Manifest = {
        "replicas": spec.replicas,
        "serviceName": spec.service,
        # Two masters do not wait for each other, and all pets come back at once after a power cut.
        "podManagementPolicy": "Parallel",
        "updateStrategy": update,
        "revisionHistoryLimit": 10,
        "minReadySeconds": spec.min_ready_s,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": spec.selector},
        "template": _render_template(spec),
        "volumeClaimTemplates": [_render_claim_template(spec)],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": _metadata(spec, spec.name),
        "spec": body,
    }


def _render_claim_template(spec: PetSetSpec) -> Manifest:
    """The template that gives the claims their names. It cannot be changed later, so nothing variable is in it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": spec.claim_template},
        "spec": {
            "accessModes": list(spec.access_modes),
            "resources": {"requests": {"storage": spec.size}},
            "storageClassName": spec.storage_class,
            "volumeMode": "Filesystem",
        },
    }


def _render_template(spec: PetSetSpec) -> Manifest:
    labels = {
        **spec.labels,
        **spec.pod_labels,
        **own_labels(spec.namespace, spec.name),
        **spec.selector,
        "app.kubernetes.io/name": "mysql",
        "app.kubernetes.io/instance": spec.name,
    }
    return {
        "metadata": {
            "labels": labels,
            "annotations": {
                **spec.pod_annotations,
                "kubectl.kubernetes.io/default-container": MYSQL_CONTAINER,
                ANNOTATION_CONFIG_HASH: config_hash(spec),
                **({ANNOTATION_AGENT_HASH: spec.agent.hash} if spec.agent is not None else {}),
            },
        },
        "spec": _render_pod(spec),
    }


def _render_pod(spec: PetSetSpec) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": spec.name,
        **render_pod_common(spec),
        "initContainers": [_render_container(spec, PREPARE_CONTAINER, "prepare.sh")],
        "containers": [
            {
                **_render_container(spec, MYSQL_CONTAINER, "start.sh"),
                "ports": [{"name": "mysql", "containerPort": PORT, "protocol": "TCP"}],
                **_render_probes(spec.probes),
            }
        ],
        "volumes": [
            {"name": "boot", "configMap": {"name": spec.config_map, "defaultMode": READABLE}},
            {"name": "secret", "secret": {"secretName": spec.secret, "defaultMode": READABLE}},
            {"name": "tls", "secret": {"secretName": spec.tls_secret, "defaultMode": READABLE}},
            {"name": "run", "emptyDir": {}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    if spec.agent is not None:
        pod["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", f"{BOOT_PATH}/stop.sh"]}}}
        pod["containers"][0]["env"].append({"name": "PETSET_AGENT_PORT", "value": str(AGENT_PORT)})
        pod["initContainers"].append(_render_agent(spec, spec.agent))
        pod["volumes"] += _render_agent_volumes(spec)
    if spec.fs_group is not None:
        pod["securityContext"].update(fsGroup=spec.fs_group, fsGroupChangePolicy="OnRootMismatch")
    return pod


def _render_agent(spec: PetSetSpec, agent: Agent) -> Manifest:
    """The agent, a sidecar: it starts before mysqld and ends after it, so that the lease is handed back.

    It sees one password of the Secret, mysqld's socket, the volume (to cut off, before mysqld starts, what a killed
    writer has told nobody) and, as the only container, a token for the API.
    """
    mounts = ((AGENT_PATH, "agent"), (SECRET_PATH, "agent-secret"), (API_PATH, "api"), (RUN_PATH, "run"))
    own = {"PETSET_SET", "PETSET_SERVICE", "PETSET_MASTERS", "PETSET_NAMESPACE", "PETSET_POD"}
    container: Manifest = {
        "name": AGENT_CONTAINER,
        "image": agent.image,
        "imagePullPolicy": spec.image_pull_policy,
        "restartPolicy": "Always",
        "command": ["python3", f"{AGENT_PATH}/{AGENT_ZIP}"],
        "env": [one for one in _render_env(replace(spec, env={})) if one["name"] in own],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT, "protocol": "TCP"}],
        # Only whether its loop runs: a mysqld that is down is no reason to start the agent anew.
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": "agent", "scheme": "HTTP"},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
            "successThreshold": 1,
            # The pod's own is mysqld's, and long: an agent that waits for it takes no lease meanwhile.
            "terminationGracePeriodSeconds": 1,
        },
        "securityContext": render_container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *({"name": name, "mountPath": path, "readOnly": True} for path, name in mounts),
            {"name": spec.claim_template, "mountPath": VOLUME_PATH},
        ],
    }
    if agent.resources:
        container["resources"] = {kind: dict(amounts) for kind, amounts in agent.resources.items() if amounts}
    return container


def _render_agent_volumes(spec: PetSetSpec) -> list[Manifest]:
    password = [{"key": "agent-password", "path": "agent-password"}]
    sources: list[Manifest] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return [
        {"name": "agent", "configMap": {"name": spec.agent_config_map, "defaultMode": READABLE}},
        {"name": "agent-secret", "secret": {"secretName": spec.secret, "defaultMode": READABLE, "items": password}},
        {"name": "api", "projected": {"defaultMode": READABLE, "sources": sources}},
    ]


def _render_container(spec: PetSetSpec, name: str, script: str) -> Manifest:
    container: Manifest = {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": ["/bin/sh", f"{BOOT_PATH}/{script}"],
        "env": _render_env(spec),
        "securityContext": render_container_security(),
        # The last lines of a container that failed then stand in its status: no right to read logs is needed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "boot", "mountPath": BOOT_PATH, "readOnly": True},
            {"name": "secret", "mountPath": SECRET_PATH, "readOnly": True},
            {"name": "tls", "mountPath": TLS_PATH, "readOnly": True},
            {"name": "run", "mountPath": RUN_PATH},
            {"name": "scratch", "mountPath": SCRATCH_PATH},
            {"name": spec.claim_template, "mountPath": VOLUME_PATH},
        ],
    }
    if spec.resources:
        container["resources"] = {kind: dict(amounts) for kind, amounts in spec.resources.items() if amounts}
    return container


def _render_env(spec: PetSetSpec) -> list[Manifest]:
    def from_field(path: str) -> Manifest:
        return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}

    own: list[Manifest] = [
        {"name": "PETSET_SET", "value": spec.name},
        {"name": "PETSET_SERVICE", "value": spec.service},
        {"name": "PETSET_DOMAIN", "value": spec.cluster_domain},
        {"name": "PETSET_MASTERS", "value": str(spec.masters)},
        {"name": "PETSET_SERVER_ID_BASE", "value": str(spec.server_id_base)},
        {"name": "PETSET_DURABILITY", "value": spec.durability},
        {"name": "PETSET_NAMESPACE", "valueFrom": from_field("metadata.namespace")},
        {"name": "PETSET_POD", "valueFrom": from_field("metadata.name")},
        {"name": "PETSET_POD_UID", "valueFrom": from_field("metadata.uid")},
        {"name": "PETSET_NODE", "valueFrom": from_field("spec.nodeName")},
        {"name": "PETSET_ORDINAL", "valueFrom": from_field("metadata.labels['apps.kubernetes.io/pod-index']")},
        {
            "name": "PETSET_MEMORY_LIMIT_BYTES",
            "valueFrom": {
                "resourceFieldRef": {"containerName": MYSQL_CONTAINER, "resource": "limits.memory", "divisor": "1"}
            },
        },
    ]
    return own + [{"name": name, "value": value} for name, value in sorted(spec.env.items())]


def _render_probes(times: Probes) -> Manifest:
    def probe(what: str, period_s: int, timeout_s: int, failures: int) -> Manifest:
        return {
            "exec": {"command": ["/bin/sh", f"{BOOT_PATH}/probe.sh", what]},
            "periodSeconds": period_s,
            "timeoutSeconds": timeout_s,
            "failureThreshold": failures,
            "successThreshold": 1,
        }

    startups = -(-times.startup_timeout_s // times.startup_period_s)
    return {
        "startupProbe": probe("startup", times.startup_period_s, times.ready_timeout_s, startups),
        "livenessProbe": probe("live", times.live_period_s, times.live_timeout_s, times.live_failures),
        "readinessProbe": probe("ready", times.ready_period_s, times.ready_timeout_s, times.ready_failures),
    }
