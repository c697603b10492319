# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secrets of a pet set: passwords are stored or made once, and never replaced by a run that was not told so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from . import kinds
from .errors import PetsetError, Refused
from .kinds import ObjectRef
from .manifests import Manifest, PetSetSpec, render_secret
from .ownership import MISSING, FieldChange, compare_fields, project
from .pet_set_spec import APP_KEYS
from .set_steps import HIDDEN, Action, Observed, Options, Step, uid_of

Json = Any

TLS_KEYS: Final = ("ca.crt", "tls.crt", "tls.key")


def plan_secrets(spec: PetSetSpec, observed: Observed, options: Options) -> tuple[list[Step], list[PetsetError]]:
    """Steps for both Secrets, and what stands in the way."""
    steps: list[Step] = []
    refusals: list[PetsetError] = []
    ref = ObjectRef(kinds.SECRET, spec.secret, spec.namespace)
    live = observed.objects.get(ref)
    if not options.manage_secret:
        refusals += _missing_keys(ref, live, options.needed_keys, "passwords_secret")
    else:
        step, problems = _plan_passwords(spec, ref, live, options)
        steps += [step] if step else []
        refusals += problems
    ref = ObjectRef(kinds.SECRET, spec.tls_secret, spec.namespace)
    live = observed.objects.get(ref)
    if not options.manage_tls:
        refusals += _missing_keys(ref, live, TLS_KEYS, "tls_secret")
    elif live is None:
        steps.append(Step(Action.CREATE, ref, render_secret(spec, ref.name, {}, {}), generate=TLS_KEYS))
    elif set(TLS_KEYS) - set(live.get("data") or {}):
        # Half a certificate is of no use, and pets may be running with the other half.
        refusals += _missing_keys(ref, live, TLS_KEYS, "tls_secret")
    else:
        manifest = render_secret(spec, ref.name, {}, {})
        manifest["data"] = live["data"]
        step = _plan_update(ref, live, manifest)
        steps += [step] if step else []
    return steps, refusals


def _missing_keys(ref: ObjectRef, live: Json, needed: Collection[str], option: str) -> list[PetsetError]:
    if live is None:
        return [Refused(str(ref), "it does not exist", way_out=f"create it, or leave {option} out so that it is made")]
    missing = sorted(set(needed) - set(live.get("data") or {}))
    if not missing:
        return []
    return [
        Refused(
            str(ref),
            f"it lacks the keys {', '.join(missing)}",
            way_out="add them; or delete it, if nothing uses it, so that it is made anew",
        )
    ]


def _plan_passwords(
    spec: PetSetSpec, ref: ObjectRef, live: Json, options: Options
) -> tuple[Step | None, list[PetsetError]]:
    """Store what was given, let the rest be generated once, never replace what is there by itself.

    The accounts in the data folder keep their passwords whatever the Secret says, so a new value in the Secret alone
    would only lock the collection out.
    """
    have = (live or {}).get("data") or {}
    given = render_secret(spec, ref.name, options.passwords, {})["data"]
    differing = sorted(key for key, value in given.items() if key in have and have[key] != value)
    if differing and not options.store_changed_passwords:
        return None, [
            Refused(
                str(ref),
                f"the values given for {', '.join(differing)} are not those that are stored",
                way_out="leave the password out to keep the stored one; a new value here does not change the accounts"
                " in MySQL: change them there first, then store the new value with store_changed_passwords: true",
            )
        ]
    generate = tuple(key for key in options.needed_keys if key not in have and key not in given)
    known = ", ".join(map(str, sorted(spec.known_pets)))
    late = sorted(key for key in {*generate, *given} if key in APP_KEYS and key not in have)
    if live is not None and late and spec.known_pets:
        # prepare.sh makes the account at a pet's first start, before there is any binary log.
        return None, [
            Refused(
                str(ref),
                f"app: its account would not be made, pets {known} have data already",
                way_out="leave app out, and make database and user on the writer, with CREATE DATABASE, CREATE USER ..."
                " REQUIRE SSL and GRANT: every pet gets them, also later ones",
            )
        ]
    if live is None and generate and spec.known_pets:
        # The data folders keep the passwords that they were made with; new ones would fit no account (rp-rec-06).
        return None, [
            Refused(
                str(ref),
                f"it is gone, but pets {known} have data whose accounts keep the"
                f" old passwords; missing: {', '.join(generate)}",
                way_out="bring the Secret back, or give the old values with passwords and app",
            )
        ]
    if live is None:
        return Step(Action.CREATE, ref, render_secret(spec, ref.name, options.passwords, {}), generate=generate), []
    manifest = render_secret(spec, ref.name, {}, {})
    # A key that we stored once and leave out now would be taken away by server-side apply.
    manifest["data"] = {**have, **given}
    changed = sorted({*differing, *generate, *(set(given) - set(have))})
    return _plan_update(ref, live, manifest, changed, generate), []


def _plan_update(
    ref: ObjectRef, live: Json, manifest: Manifest, changed: Collection[str] = (), generate: tuple[str, ...] = ()
) -> Step | None:
    """Labels, and the keys that have changed; None when there is nothing to do."""
    have = live.get("data") or {}
    changes = tuple(compare_fields({"metadata": manifest["metadata"]}, live))
    changes += tuple(FieldChange(f".data[{key}]", HIDDEN if key in have else MISSING, HIDDEN) for key in changed)
    if not changes:
        return None
    before = {"metadata": project(live["metadata"], manifest["metadata"]), "data": dict.fromkeys(sorted(have), HIDDEN)}
    version = str(live["metadata"].get("resourceVersion", ""))
    return Step(Action.UPDATE, ref, manifest, changes, before, uid_of(live), version, generate=generate)
