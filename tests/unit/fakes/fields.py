# SPDX-License-Identifier: GPL-3.0-or-later
"""Field ownership for the API server in memory: FieldsV1, merging of keyed lists, patches.

Written from the description of server-side apply, not shared with the collection's own code, which it has to judge.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = Any
Path = tuple[str, ...]

_SYSTEM = {
    "uid",
    "resourceVersion",
    "managedFields",
    "creationTimestamp",
    "generation",
    "selfLink",
    "name",
    "namespace",
}
_LIST_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "ownerReferences": (("uid",),),
}


def merged(live: Json, patch: Json) -> Json:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = copy.deepcopy(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def json_patched(live: Json, patch: Json) -> Json:
    """RFC 6902, as far as tests need it: add, replace, remove, test on maps."""
    result = copy.deepcopy(live)
    for one in patch:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in one["path"].strip("/").split("/")]
        node = result
        for step in steps[:-1]:
            node = node[int(step)] if isinstance(node, list) else node[step]
        last: Any = int(steps[-1]) if isinstance(node, list) else steps[-1]
        if one["op"] == "test":
            if node.get(last) != one["value"]:
                raise ValueError(f"test of {one['path']} failed")
        elif one["op"] == "remove":
            del node[last]
        else:
            node[last] = copy.deepcopy(one["value"])
    return result


def keys_of(name: str, elements: Json) -> tuple[str, ...] | None:
    for keys in _LIST_KEYS.get(name, ()):
        if elements and all(isinstance(one, dict) and keys[0] in one for one in elements):
            return keys
    return None


def element_key(element: Json, keys: tuple[str, ...]) -> str:
    values = {key: element.get(key, "TCP" if key == "protocol" else None) for key in keys}
    return "k:" + json.dumps(values, sort_keys=True, separators=(",", ":"))


def leaf_values(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Each leaf with its path in the notation of FieldsV1; system fields and status are nobody's."""
    if isinstance(value, dict) and (value or not path):
        for key, below in value.items():
            if (path == () and key in {"apiVersion", "kind", "status"}) or (path == ("f:metadata",) and key in _SYSTEM):
                continue
            yield from leaf_values(below, (*path, f"f:{key}"))
        return
    keys = keys_of(path[-1][2:], value) if isinstance(value, list) and path else None
    if keys is not None:
        for element in value:
            yield from leaf_values(element, (*path, element_key(element, keys)))
        return
    yield path, value


def leaves(value: Json) -> Iterator[Path]:
    for path, _value in leaf_values(value):
        yield path


def entry_of(manager: str, operation: str, paths: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": tree}


def paths_in(tree: Mapping[str, Any], path: Path = ()) -> set[Path]:
    if not tree:
        return {path} if path else set()
    return set().union(*(paths_in(below, (*path, step)) for step, below in tree.items()))


def owned_by(live: Json, manager: str, operation: str) -> set[Path]:
    for entry in live["metadata"].get("managedFields") or ():
        if (entry["manager"], entry["operation"]) == (manager, operation):
            return paths_in(entry["fieldsV1"])
    return set()


def drop(node: Json, path: Path) -> None:
    if not path:
        return
    step, rest = path[0], path[1:]
    if step.startswith("k:"):
        keys = json.loads(step[2:])
        index = next((i for i, one in enumerate(node) if element_key(one, tuple(sorted(keys))) == step), None)
        if index is None:
            return
        if rest:
            drop(node[index], rest)
        if not rest or set(node[index]) <= set(keys):
            del node[index]
    elif isinstance(node, dict) and step[2:] in node:
        if rest:
            drop(node[step[2:]], rest)
            if node[step[2:]] in ({}, []):
                del node[step[2:]]
        else:
            del node[step[2:]]


def lay_over(live: Json, body: Json, name: str = "") -> Json:
    if isinstance(live, dict) and isinstance(body, dict):
        for key, value in body.items():
            live[key] = lay_over(live[key], value, key) if key in live else copy.deepcopy(value)
        return live
    keys = keys_of(name, body) if isinstance(live, list) and isinstance(body, list) else None
    if keys is not None:
        for element in body:
            wanted = element_key(element, keys)
            index = next((i for i, one in enumerate(live) if element_key(one, keys) == wanted), None)
            if index is None:
                live.append(copy.deepcopy(element))
            else:
                lay_over(live[index], element)
        return live
    return copy.deepcopy(body)


def comparable(entries: list[Any]) -> list[str]:
    return sorted(json.dumps({k: e[k] for k in ("manager", "operation", "fieldsV1")}, sort_keys=True) for e in entries)


def remaining(live: Json, manager: str, operation: str, taken: set[Path]) -> list[dict[str, Any]]:
    """The entries of all others, without what was taken from them."""
    entries = []
    for entry in live["metadata"].get("managedFields") or ():
        if (entry["manager"], entry["operation"]) != (manager, operation):
            theirs = paths_in(entry["fieldsV1"]) - taken
            if theirs:
                entries.append(entry_of(entry["manager"], entry["operation"], theirs))
    return entries
