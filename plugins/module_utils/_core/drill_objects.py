# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill makes for its time: the workload's pod, program and password, its table and its account.

The table is in the collection's own database ``petset``, where the administrator of the pets may make one; of the
user's databases it may write to none, so that no drill can touch them. The account may insert into that table alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import Refused
from .manifests import AGENT_PATH, AGENT_PORT, AGENT_ZIP, LABEL_COMPONENT, Manifest, find_agent
from .names import LABEL_SET, own_labels, pet_name
from .pod_parts import READABLE, render_container_security, render_pod_common
from .ring_plan import PLACEHOLDER

Json = Any

COMPONENT: Final = "drill"
CONTAINER: Final = "workload"
PROGRAM: Final = "workload.py"
PASSWORD_KEY: Final = "password"  # noqa: S105 - the name of a key
USER: Final = "petset_drill"
TABLE: Final = "petset.drill"
_PROGRAM_PATH: Final = "/petset/drill"
_SECRET_PATH: Final = "/petset/secret"  # noqa: S105
_CA_PATH: Final = "/petset/ca"
# Ends by itself some time after everybody has given it up.
_SPARE_S: Final = 600

MAKE: Final = (
    f"DROP USER IF EXISTS '{USER}'@'%'",
    "CREATE DATABASE IF NOT EXISTS petset",
    f"DROP TABLE IF EXISTS {TABLE}",
    f"CREATE TABLE {TABLE} (client INT NOT NULL, number INT NOT NULL, PRIMARY KEY (client, number)) ENGINE=InnoDB",
    f"CREATE USER '{USER}'@'%' IDENTIFIED BY {PLACEHOLDER} REQUIRE SSL",
    f"GRANT INSERT ON {TABLE} TO '{USER}'@'%'",
)
"""On the writer, before; {PLACEHOLDER} is the password."""
DROP: Final = (f"DROP USER IF EXISTS '{USER}'@'%'", f"DROP TABLE IF EXISTS {TABLE}")
"""On the writer, afterwards."""
READ: Final = f"SELECT client, number FROM {TABLE}"  # noqa: S608 - no part of it is anybody's input


@dataclass(frozen=True, slots=True)
class Workload:
    """The pod that writes.

    ``host``, ``port``  where clients connect
    ``server_name``     a name that the pets' certificate is for; the proxies' service is not among its names
    ``avoid``           nodes where it must not be: one loses its power
    ``rest``            of the pets' pods, what lets a pod of this image run: pull secrets, tolerations, node selector
    """

    set_name: str
    namespace: str
    drill_id: str
    image: str
    program: str
    agent_config_map: str
    tls_secret: str
    host: str
    port: int
    server_name: str
    agents: Mapping[str, str]
    limit_s: float
    uid: int = 999
    gid: int = 999
    avoid: tuple[str, ...] = ()
    pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    tolerations: tuple[Mapping[str, Json], ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    priority_class: str = ""
    termination_grace_s: int = 10

    @property
    def name(self) -> str:
        """Of all its objects."""
        return f"{self.set_name}-drill"

    @property
    def selector(self) -> dict[str, str]:
        """Nobody's service finds it by the set's labels: the component is another one."""
        return {LABEL_SET: self.set_name, LABEL_COMPONENT: COMPONENT}


def read_workload(live: Mapping[str, Json], **wish: Any) -> Workload:
    """A workload that runs as the pets' agents do. Refused: the set has no agent, whose image and library it needs."""
    meta, pod = live["metadata"], live["spec"]["template"]["spec"]
    agent = find_agent(pod)
    if agent is None:
        raise Refused(
            f"StatefulSet {meta['namespace']}/{meta['name']}",
            "its pets have no agent, of which the workload takes the image and the MySQL client",
            way_out="run site with petset_agent: true",
        )
    security = pod.get("securityContext") or {}
    volumes = {one["name"]: one for one in pod.get("volumes") or ()}
    return Workload(
        set_name=str(meta["name"]),
        namespace=str(meta["namespace"]),
        image=str(agent["image"]),
        pull_policy=str(agent.get("imagePullPolicy") or "IfNotPresent"),
        agent_config_map=str(((volumes.get("agent") or {}).get("configMap") or {}).get("name", "")),
        tls_secret=str(((volumes.get("tls") or {}).get("secret") or {}).get("secretName", "")),
        uid=int(security.get("runAsUser") or 999),
        gid=int(security.get("runAsGroup") or 999),
        image_pull_secrets=tuple(str(one.get("name")) for one in pod.get("imagePullSecrets") or ()),
        tolerations=tuple(pod.get("tolerations") or ()),
        node_selector=dict(pod.get("nodeSelector") or {}),
        **wish,
    )


def agents_of(set_name: str, replicas: int, domain: str) -> dict[str, str]:
    """Where each pet's agent answers."""
    names = [pet_name(set_name, ordinal) for ordinal in range(replicas)]
    return {name: f"{name}.{domain}:{AGENT_PORT}" for name in names}


def _metadata(load: Workload) -> Manifest:
    return {
        "name": load.name,
        "namespace": load.namespace,
        "labels": {**own_labels(load.namespace, load.set_name), LABEL_COMPONENT: COMPONENT},
    }


def render_workload(load: Workload, password: str) -> tuple[Manifest, ...]:
    """Secret, ConfigMap and pod. The first must not be shown anywhere."""
    return (
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata(load),
            "type": "Opaque",
            "data": {PASSWORD_KEY: base64.b64encode(password.encode()).decode()},
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(load), "data": {PROGRAM: load.program}},
        _render_pod(load),
    )


def read_password(secret: Manifest | None) -> str:
    """Of the workload's account, only to keep it out of all output. Empty when there is none, or it is no text."""
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(PASSWORD_KEY, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _render_pod(load: Workload) -> Manifest:
    mounts = ((AGENT_PATH, "agent"), (_PROGRAM_PATH, "program"), (_SECRET_PATH, "secret"), (_CA_PATH, "ca"))
    settings = {
        "PYTHONPATH": f"{AGENT_PATH}/{AGENT_ZIP}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DRILL_HOST": load.host,
        "DRILL_PORT": str(load.port),
        "DRILL_SERVER_NAME": load.server_name,
        "DRILL_USER": USER,
        "DRILL_TABLE": TABLE,
        "DRILL_PASSWORD_FILE": f"{_SECRET_PATH}/{PASSWORD_KEY}",
        "DRILL_CA_FILE": f"{_CA_PATH}/ca.crt",
        "DRILL_AGENTS": ",".join(f"{pet}={where}" for pet, where in sorted(load.agents.items())),
        "DRILL_LIMIT_S": str(int(load.limit_s) + _SPARE_S),
    }
    pod: Manifest = {
        **render_pod_common(load),
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(load.limit_s) + 2 * _SPARE_S,
        "containers": [
            {
                "name": CONTAINER,
                "image": load.image,
                "imagePullPolicy": load.pull_policy,
                "command": ["python3", "-u", f"{_PROGRAM_PATH}/{PROGRAM}"],
                "env": [{"name": name, "value": value} for name, value in settings.items()],
                "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                "securityContext": render_container_security(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [{"name": name, "mountPath": path, "readOnly": True} for path, name in mounts],
            }
        ],
        "volumes": [
            {"name": "agent", "configMap": {"name": load.agent_config_map, "defaultMode": READABLE}},
            {"name": "program", "configMap": {"name": load.name, "defaultMode": READABLE}},
            {"name": "secret", "secret": {"secretName": load.name, "defaultMode": READABLE}},
            {
                "name": "ca",
                "secret": {
                    "secretName": load.tls_secret,
                    "defaultMode": READABLE,
                    # The key of the pets' certificate is in there as well, and none of the workload's business.
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                },
            },
        ],
    }
    if load.avoid:
        pod["affinity"]["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_avoid(load.avoid)]}
        }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(load), "spec": pod}


def _avoid(nodes: Sequence[str]) -> Manifest:
    # One name for each expression: the API takes no more.
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in nodes]
    return {"matchFields": fields}


# --- striking ---------------------------------------------------------------------------------------------------------

# mysqld is the first process of its container, and the kernel drops a SIGKILL that comes from within for such a one.
# It sends one itself, and does not drop it, when a process is past its limit of processor time. Nothing but the right
# to run a program in the pod is needed for that, no privilege and no access to the node.
_BY_LIMIT: Final = """\
if prlimit --pid 1 --cpu=1:1 2>/dev/null; then
    echo SIGKILL
else
    kill -ABRT 1 && echo SIGABRT
fi
"""
KILL_MYSQLD: Final = ("/bin/sh", "-c", _BY_LIMIT)
KILL_AGENT: Final = ("python3", "-c", "import resource; resource.prlimit(1, resource.RLIMIT_CPU, (1, 1))")
STOP_WORKLOAD: Final = ("python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
