# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig for an account that has the rights the collection's manifest gives, and no more.

It is the one thing here that reads from the collection: the manifest that a user would apply to a cluster.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab import pki
from lab.config import Plan
from lab.log import LabError
from lab.network import in_namespace
from lab.run import CommandError, run
from lab.state import LabState, folder, write_atomically

RIGHTS = Path(__file__).resolve().parents[1] / "roles" / "petset" / "files" / "rights.yml"
ACCOUNT = "petset-deployer"
PLACEHOLDER = "mysql-pets"
"""The namespace in the manifest, which says that one's own goes there."""
LIFETIME = "24h"


def render_rights(manifest: str, namespace: str) -> str:
    """The manifest for a namespace. Pure. Raises LabError for a name that no namespace can have."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
        raise LabError(
            f"--deployer {namespace!r}: a namespace's name is 1 to 63 characters a-z, 0-9 and '-', no '-' at its ends"
        )
    if PLACEHOLDER not in manifest or ACCOUNT not in manifest:
        raise LabError(f"{RIGHTS} does not name the namespace {PLACEHOLDER} and the account {ACCOUNT} any more")
    return manifest.replace(PLACEHOLDER, namespace)


def kubeconfig_file(plan: Plan, namespace: str) -> Path:
    """Where the kubeconfig of a namespace's account is."""
    return folder(plan.config.name) / f"kubeconfig-{namespace}"


def write_kubeconfig(lab: LabState, namespace: str, kubectl: Path) -> Path:
    """Give the rights in a namespace that is there, and write a kubeconfig with a new token of their account,
    readable by root alone. Raises LabError when the namespace is missing or the API server does not answer.
    """
    plan = lab.plan
    manifest = render_rights(RIGHTS.read_text(), namespace)

    def administrate(*words: str, input_text: str | None = None) -> str:
        admin = f"--kubeconfig={folder(plan.config.name) / 'kubeconfig'}"
        return run(
            in_namespace(plan.namespace("client"), [str(kubectl), admin, f"--namespace={namespace}", *words]),
            input_text=input_text,
            timeout_s=60,
        )

    try:
        administrate("get", "namespace", namespace)
    except CommandError as error:
        if "NotFound" not in error.output:
            raise
        raise LabError(
            f"there is no namespace {namespace}; the account is made in it",
            f"python3 -m lab kubectl --name {plan.config.name} create namespace {namespace}",
        ) from error
    administrate("apply", "--filename=-", input_text=manifest)
    token = administrate("create", "token", ACCOUNT, f"--duration={LIFETIME}").strip()
    path = kubeconfig_file(plan, namespace)
    authority = (pki.pki_folder(plan) / "ca.crt").read_bytes()
    write_atomically(
        path,
        pki.render_kubeconfig(
            f"lab-{plan.config.name}", plan.api_url, ACCOUNT, authority, {"token": token}, namespace=namespace
        ),
        mode=0o600,
    )
    return path
