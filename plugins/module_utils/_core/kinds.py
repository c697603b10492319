# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of Kubernetes objects that the collection touches, with their paths in the API.

Paths are known, so no discovery request is ever sent. Source: the API reference of Kubernetes 1.32 to 1.37;
all groups below are GA in that whole range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource: ``api_version`` as it stands in a manifest, ``plural`` as it stands in the path."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of the collection, of one object or of its subresource.

        A namespaced kind without namespace gives the collection over all namespaces.
        ValueError: a name without the namespace it needs, or a subresource without a name.
        """
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        if self.namespaced and namespace is None and name is not None:
            raise ValueError(f"{self.kind} {name} needs a namespace")
        if subresource is not None and name is None:
            raise ValueError(f"{self.kind}: subresource {subresource} needs a name")
        if self.namespaced and namespace is not None:
            root += f"/namespaces/{quote(namespace, safe='')}"
        root += f"/{self.plural}"
        if name is not None:
            root += f"/{quote(name, safe=':')}"
        if subresource is not None:
            root += f"/{subresource}"
        return root


CONFIG_MAP = Kind("v1", "configmaps", "ConfigMap")
CONTROLLER_REVISION = Kind("apps/v1", "controllerrevisions", "ControllerRevision")
CSI_DRIVER = Kind("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
DEPLOYMENT = Kind("apps/v1", "deployments", "Deployment")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
EVENT = Kind("v1", "events", "Event")
JOB = Kind("batch/v1", "jobs", "Job")
CRON_JOB = Kind("batch/v1", "cronjobs", "CronJob")
LEASE = Kind("coordination.k8s.io/v1", "leases", "Lease")
NAMESPACE = Kind("v1", "namespaces", "Namespace", namespaced=False)
NETWORK_POLICY = Kind("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
NODE = Kind("v1", "nodes", "Node", namespaced=False)
PERSISTENT_VOLUME = Kind("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
PERSISTENT_VOLUME_CLAIM = Kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
POD = Kind("v1", "pods", "Pod")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
RESOURCE_QUOTA = Kind("v1", "resourcequotas", "ResourceQuota")
ROLE = Kind("rbac.authorization.k8s.io/v1", "roles", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
SECRET = Kind("v1", "secrets", "Secret")
SELF_SUBJECT_ACCESS_REVIEW = Kind(
    "authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
SERVICE = Kind("v1", "services", "Service")
SERVICE_ACCOUNT = Kind("v1", "serviceaccounts", "ServiceAccount")
STATEFUL_SET = Kind("apps/v1", "statefulsets", "StatefulSet")
STORAGE_CLASS = Kind("storage.k8s.io/v1", "storageclasses", "StorageClass", namespaced=False)
VOLUME_ATTACHMENT = Kind("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", namespaced=False)


def all_kinds() -> tuple[Kind, ...]:
    """Every kind of the table."""
    return tuple(value for value in globals().values() if isinstance(value, Kind))


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest. ValueError: not in the table."""
    wanted = (manifest.get("apiVersion"), manifest.get("kind"))
    for kind in all_kinds():
        if (kind.api_version, kind.kind) == wanted:
            return kind
    raise ValueError(f"apiVersion {wanted[0]!r} kind {wanted[1]!r} is not a kind that the collection knows")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object of the API by kind, namespace and name. ``namespace`` is None for cluster-wide kinds."""

    kind: Kind
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.kind} {where}{self.name}"


def ref_of(manifest: Mapping[str, Any]) -> ObjectRef:
    """The reference of a manifest. ValueError: unknown kind or no name."""
    metadata = manifest.get("metadata") or {}
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"manifest of kind {manifest.get('kind')!r} has no metadata.name")
    kind = kind_of(manifest)
    return ObjectRef(kind, name, metadata.get("namespace") if kind.namespaced else None)
