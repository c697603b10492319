# Copyright: (c) 2026, stateful.petset contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the fields that we want differ in the cluster, told from the object that was read, without a request.

Three ways were weighed:

* a hash of what was applied last, kept in an annotation: does not see what others changed since;
* a server-side dry run on every run: exact, but it is a write to every audit log and webhook, needs the right to
  patch, and costs a request per object;
* this one: every field that we render has to be equal in the live object (others' fields and the API server's
  defaults are not looked at), and every field that the server's ``managedFields`` record for our manager has to be one
  that we still render, or else it has to go. That is what server-side apply itself would decide, and it comes with
  the read.

Source: structured-merge-diff's list types and keys as Kubernetes declares them (``x-kubernetes-list-map-keys``), and
the ``FieldsV1`` format of ``metav1.ManagedFieldsEntry``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .quantity import same_quantity

Json = Any


class _Missing:
    """The type of :data:`MISSING`."""

    def __repr__(self) -> str:
        return "(not there)"


MISSING: Final = _Missing()

# Lists whose elements are known by keys: an element that somebody else added is not ours to judge. All other lists
# are compared as a whole. "ports" stands twice: Service and container.
_LIST_KEYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "imagePullSecrets": (("name",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
}

# Maps that the API treats as one value: a key too many is a difference.
_ATOMIC_MAPS: Final = frozenset({"nodeSelector", "matchLabels", "selector"})

# Fields whose zero value the server does not store ("omitempty" on a plain bool, number or text).
_DROPPED_WHEN_ZERO: Final = frozenset({"minReadySeconds", "publishNotReadyAddresses", "value"})

_QUANTITY_MAPS: Final = frozenset({"requests", "limits", "capacity"})
_QUANTITIES: Final = frozenset({"sizeLimit", "divisor"})


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that has to change: where, what stands there, what is wanted; MISSING for "no such field"."""

    path: str
    live: Json
    wanted: Json


def compare_owned(wanted: Json, live: Json, manager: str) -> tuple[FieldChange, ...]:
    """What an apply of ``wanted`` by ``manager`` would change in ``live``, in the order of ``wanted``.

    Both are whole objects as JSON. Empty: nothing would change, no request is due.
    """
    changes = list(compare_fields(wanted, live))
    for path in owned_leftovers(wanted, live, manager):
        changes.append(FieldChange(path, _at(live, path), MISSING))
    return tuple(changes)


def compare_fields(wanted: Json, live: Json) -> Iterator[FieldChange]:
    """The fields of ``wanted`` that ``live`` does not have or has with another meaning."""
    yield from _compare(wanted, live, (), "")


def _compare(wanted: Json, live: Json, names: tuple[str, ...], path: str) -> Iterator[FieldChange]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        yield from _compare_maps(wanted, live, names, path)
    elif isinstance(wanted, list) and isinstance(live, list):
        yield from _compare_lists(wanted, live, names, path)
    elif not _same_value(wanted, live, names):
        yield FieldChange(path or ".", live, wanted)


def _compare_maps(
    wanted: Mapping[str, Json], live: Mapping[str, Json], names: tuple[str, ...], path: str
) -> Iterator[FieldChange]:
    if names and names[-1] in _ATOMIC_MAPS and set(live) - set(wanted):
        yield FieldChange(path, live, wanted)
        return
    for key, value in wanted.items():
        there = live.get(key)
        yield from _compare(value, MISSING if there is None else there, (*names, key), path + _step(key))


def _compare_lists(
    wanted: Sequence[Json], live: Sequence[Json], names: tuple[str, ...], path: str
) -> Iterator[FieldChange]:
    keys = _list_keys(names, wanted)
    if keys is None:
        if len(wanted) != len(live):
            yield FieldChange(path, live, wanted)
            return
        for index, (mine, theirs) in enumerate(zip(wanted, live, strict=True)):
            yield from _compare(mine, theirs, names, f"{path}[{index}]")
        return
    for element in wanted:
        label = ",".join(str(element.get(key)) for key in keys)
        yield from _compare(
            element, find_element(live, {key: element.get(key) for key in keys}), names, f"{path}[{label}]"
        )


def _list_keys(names: tuple[str, ...], elements: Sequence[Json]) -> tuple[str, ...] | None:
    """The keys by which the elements of the list at ``names`` are known; None for a list that is one value."""
    for keys in _LIST_KEYS.get(names[-1], ()) if names else ():
        if elements and all(isinstance(one, Mapping) and all(key in one for key in keys) for one in elements):
            return keys
    return None


def find_element(elements: Json, keys: Mapping[str, Json]) -> Json:
    """The element of a list that has these key values, or MISSING. ``protocol`` left out means TCP."""
    for one in elements if isinstance(elements, list) else ():
        if isinstance(one, Mapping) and all(_key_of(one, key) == value for key, value in keys.items()):
            return one
    return MISSING


def _key_of(element: Mapping[str, Json], key: str) -> Json:
    return element.get(key, "TCP" if key == "protocol" else None)


def _same_value(wanted: Json, live: Json, names: tuple[str, ...]) -> bool:
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    if live is MISSING:
        if names and names[-1] in _DROPPED_WHEN_ZERO and not wanted:
            return True
        # The server drops empty maps and lists, but an emptyDir says what it is by being there.
        return wanted is None or (wanted in ({}, []) and names[-1:] != ("emptyDir",))
    return _is_quantity(names) and same_quantity(wanted, live)


def _is_quantity(names: tuple[str, ...]) -> bool:
    return names[-1:] != () and (names[-1] in _QUANTITIES or (len(names) > 1 and names[-2] in _QUANTITY_MAPS))


def owned_leftovers(wanted: Json, live: Json, manager: str) -> Iterator[str]:
    """Paths that ``live`` records as applied by ``manager`` and that ``wanted`` does not have any more."""
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            yield from _leftovers(entry.get("fieldsV1") or {}, wanted, "")


def _leftovers(fields: Mapping[str, Json], wanted: Json, path: str) -> Iterator[str]:
    for key, below in fields.items():
        kind, _colon, name = key.partition(":")
        if kind == "f":
            child = wanted.get(name, MISSING) if isinstance(wanted, Mapping) else MISSING
            here = path + _step(name)
        elif kind == "k":
            keys = json.loads(name)
            child = find_element(wanted, keys)
            here = f"{path}[{','.join(str(value) for value in keys.values())}]"
        elif kind == "v":
            value = json.loads(name)
            child = value if isinstance(wanted, list) and value in wanted else MISSING
            here = f"{path}[{value}]"
        else:  # ".": the container itself; "i:": a place in a list, which Kubernetes does not use
            continue
        if child is MISSING or child is None:
            yield here
        elif below:
            yield from _leftovers(below, child, here)


def project(live: Json, wanted: Json, names: tuple[str, ...] = ()) -> Json:
    """The part of ``live`` that ``wanted`` speaks of: the "before" of a diff whose "after" is ``wanted``."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        if names and names[-1] in _ATOMIC_MAPS:
            return dict(live)
        return {
            key: project(live[key], value, (*names, key)) for key, value in wanted.items() if live.get(key) is not None
        }
    if isinstance(wanted, list) and isinstance(live, list):
        keys = _list_keys(names, wanted)
        if keys is None:
            pairs = zip(live, [*wanted, *live[len(wanted) :]], strict=False)
            return [project(theirs, mine, names) for theirs, mine in pairs]
        found = [(find_element(live, {key: mine[key] for key in keys}), mine) for mine in wanted]
        return [project(theirs, mine, names) for theirs, mine in found if theirs is not MISSING]
    return wanted if _same_value(wanted, live, names) else live


def _step(key: str) -> str:
    return f".{key}" if key.replace("_", "").replace("-", "").isalnum() else f"[{key}]"


def _at(live: Json, path: str) -> Json:
    """The value at a path as :func:`_leftovers` writes it, as far as keyed lists allow; for people only."""
    node = live
    for step in _split(path):
        if isinstance(node, Mapping) and step in node:
            node = node[step]
        elif isinstance(node, list):
            node = next(
                (one for one in node if isinstance(one, Mapping) and step.split(",")[0] in map(str, one.values())),
                MISSING,
            )
        else:
            return MISSING
    return node


def _split(path: str) -> Iterator[str]:
    step, depth = "", 0
    for char in path:
        if depth == 0 and char in ".[":
            if step:
                yield step
            step = ""
            depth = 1 if char == "[" else 0
        elif depth and char == "]":
            yield step
            step, depth = "", 0
        else:
            step += char
    if step:
        yield step
