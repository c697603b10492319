# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of the module pet_recovery: one look at the set, one diagnosis, and the report made of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, MutableMapping
from typing import Any

from ._core import kinds
from ._core.errors import Forbidden, NotFound
from ._core.manifests import KNOWN_PETS_KEY, PetSetSpec, parse_known_pets
from ._core.pet_set_spec import parse_identity
from ._core.recovery import Verdict, build_report, diagnose
from ._core.report import render_html, render_json, render_markdown
from ._core.shared_nodes import note_shared_nodes
from ._core.status_table import render_table
from ._io.kube import KubeClient
from ._module import Module
from ._pet_set import run_pet_set_info


def no_such_set(spec: PetSetSpec) -> NotFound:
    """For those that only look at a set that is there."""
    return NotFound(
        f"StatefulSet {spec.namespace}/{spec.name}",
        "it does not exist",
        status=404,
        way_out="look at set and namespace, or run the playbook site first",
    )


def run_pet_recovery(module: Module, client: KubeClient, partial: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The module pet_recovery. Nothing is written and nothing is waited for. NotFound: there is no such set."""
    params = module.params
    spec = parse_identity({**params, "client_service": {"enabled": False}})
    seen = run_pet_set_info(module, client, partial)
    if not seen["exists"]:
        raise no_such_set(spec)
    try:
        record = client.get(kinds.CONFIG_MAP, spec.config_map, spec.namespace)
    except Forbidden:
        known = None
    else:
        known = parse_known_pets(str(((record or {}).get("data") or {}).get(KNOWN_PETS_KEY, "")))
    template = spec.claim_template if params["claim_template"] else seen["claim_template"]
    diagnosis = diagnose(spec.name, seen["pets"], known, template, spec.namespace)
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    notes = note_shared_nodes(seen["shared_nodes"])
    report = build_report(f"{spec.namespace}/{spec.name}", at, diagnosis, notes)
    return {
        "changed": False,
        "healthy": diagnosis.healthy,
        "certain": all(one.verdict is not Verdict.UNKNOWN for one in diagnosis.findings),
        "verdict": diagnosis.verdict.value,
        "summary": diagnosis.describe(),
        "troubles": [
            {
                "pet": one.pet,
                "check": one.check,
                "trouble": one.trouble or "unknown",
                "evidence": one.evidence,
                "way_out": one.way_out,
            }
            for one in diagnosis.findings
            if one.verdict is not Verdict.RIGHT
        ],
        "pets": seen["pets"],
        "shared_nodes": seen["shared_nodes"],
        "table": "\n".join(
            [
                render_table(
                    ["PET", "CHECK", "VERDICT", "TROUBLE", "EVIDENCE"],
                    [[one.pet, one.check, one.verdict.value, one.trouble, one.evidence] for one in diagnosis.findings],
                ),
                *diagnosis.ways_out(),
                *notes,
            ]
        ),
        "report": {
            "html": render_html(report),
            "markdown": render_markdown(report),
            "json": render_json(report),
        },
    }
