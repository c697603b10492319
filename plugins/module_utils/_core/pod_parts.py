# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pods of a set and those of its proxies have in common: how they are secured and where they may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

# Without fsGroup (kubelet cannot apply one to NFS) files of volumes are root's, and the pods are not root. Nobody else
# lives in these containers.
READABLE: Final = 0o444

# The resolver's default is 5 s for one lost answer (resolv.conf(5)): longer than a failover may take, and a node that
# dies may be one that a DNS server was on. kubelet adds these to the options of the pod's dnsPolicy.
DNS_OPTIONS: Final = (("timeout", "1"), ("attempts", "5"))


class PodWish(Protocol):
    """The part of a specification that a pod is made of whatever runs in it."""

    @property
    def selector(self) -> Mapping[str, str]:
        """Labels of all pods of the kind."""

    @property
    def uid(self) -> int:
        """User of all containers."""

    @property
    def gid(self) -> int:
        """Group of all containers."""

    @property
    def termination_grace_s(self) -> int:
        """Seconds that a pod may take to end."""

    @property
    def image_pull_secrets(self) -> Sequence[str]:
        """Names of Secrets."""

    @property
    def node_selector(self) -> Mapping[str, str]:
        """Labels that a node must have."""

    @property
    def tolerations(self) -> Sequence[Mapping[str, Any]]:
        """As in a pod."""

    @property
    def priority_class(self) -> str:
        """Empty for none."""


def render_pod_common(spec: PodWish) -> dict[str, Any]:
    """A pod without containers and volumes, fit for Pod Security "restricted" and spread over the nodes."""
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        # The variables of a service called mysql (MYSQL_PORT=tcp://...) would mislead MySQL's programs.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.termination_grace_s,
        "dnsConfig": {"options": [{"name": name, "value": value} for name, value in DNS_OPTIONS]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": spec.uid,
            "runAsGroup": spec.gid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "labelSelector": {"matchLabels": spec.selector},
                            "topologyKey": "kubernetes.io/hostname",
                        },
                    }
                ]
            }
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": spec.selector},
            }
        ],
    }
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in spec.image_pull_secrets]
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        pod["tolerations"] = [dict(one) for one in spec.tolerations]
    if spec.priority_class:
        pod["priorityClassName"] = spec.priority_class
    return pod


def render_container_security() -> dict[str, Any]:
    """No privilege, no capability, a root file system that cannot be written."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }
