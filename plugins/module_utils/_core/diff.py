# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a change: both sides as YAML, without the server's own fields and without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "(hidden)"
HIDDEN_CHANGED = "(hidden, will be different)"
_SERVER_METADATA = frozenset(
    {"uid", "resourceVersion", "managedFields", "creationTimestamp", "generation", "selfLink", "deletionTimestamp"}
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@=+-]*", re.ASCII)
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: maps are merged, None removes, everything else replaces. Nothing is changed in place."""
    if not isinstance(patch, Mapping):
        return patch
    merged: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def shown(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without status and without what only the server writes."""
    result = {key: value for key, value in manifest.items() if key != "status"}
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in _SERVER_METADATA}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    result["metadata"] = metadata
    return result


def render_diff(header: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, str]:
    """One entry of Ansible's ``diff``. None is an object that is not there. Of a Secret only the keys are shown."""
    left, right = shown(before) if before else None, shown(after) if after else None
    if "Secret" in {(one or {}).get("kind") for one in (left, right)}:
        left, right = hide_secret_values(left, right)
    return {
        "before_header": header,
        "after_header": header,
        "before": render_yaml(left) if left else "",
        "after": render_yaml(right) if right else "",
    }


def hide_secret_values(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Both sides with every value of ``data`` and ``stringData`` replaced; a changed one says so on the right side."""
    left, right = dict(before) if before else None, dict(after) if after else None
    for section in ("data", "stringData"):
        old = (before or {}).get(section) or {}
        new = (after or {}).get(section) or {}
        if left is not None and section in left:
            left[section] = dict.fromkeys(old, HIDDEN)
        if right is not None and section in right:
            right[section] = {
                key: HIDDEN_CHANGED if key in old and old[key] != value else HIDDEN for key, value in new.items()
            }
    return left, right


def render_yaml(value: Any) -> str:
    """Plain YAML in block style with sorted keys; good enough to be read, and to be parsed again."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key in sorted(value, key=str):
            yield from _entry(f"{indent}{_scalar(str(key))}:", value[key], indent + "  ")
    elif isinstance(value, (list, tuple)) and value:
        for item in value:
            if isinstance(item, (Mapping, list, tuple)) and item:
                first, *rest = _lines(item, indent + "  ")
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(item)}"
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(label: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, (Mapping, list, tuple)) and value:
        yield label
        yield from _lines(value, indent)
    else:
        yield f"{label} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return "".join(char if char.isprintable() else _escaped(char) for char in json.dumps(value, ensure_ascii=False))


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
