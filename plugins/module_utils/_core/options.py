# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules have, judged before any request is sent; each message names option, value and rule."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .errors import InvalidInput
from .names import parse_label_key
from .quantity import parse_capacity, parse_quantity

Options = Mapping[str, Any]

IMAGE: Final = re.compile(r"[a-zA-Z0-9][^\s]*")
# What Ansible has made of a number, true, false or nothing by the time that it is an option.
_NO_IMAGE: Final = re.compile(r"[0-9.]+|True|False|None")


def texts(variable: str, values: Mapping[Any, Any] | None) -> dict[str, str]:
    """A map for which the API wants text: whole numbers become their digits, booleans true and false.

    InvalidInput: numbers with a point (YAML has dropped digits of 9.10 already), nothing, lists, maps.
    """
    return {str(key): text_of(f"{variable}[{key}]", value) for key, value in (values or {}).items()}


def text_of(variable: str, value: Any) -> str:
    """One value of :func:`texts`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(variable, value, "the API wants text here; quote it", "text")
    return value


def in_range(variable: str, value: Any, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``. InvalidInput: anything else, also true and false."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(variable, value, "out of range", f"a whole number from {low} to {high}")
    return value


def parse_image(variable: str, image: Any) -> str:
    """An image's name. InvalidInput: no text, blanks in it, or a version alone."""
    if isinstance(image, str) and _NO_IMAGE.fullmatch(image):
        reason = "a version alone is no image, and YAML turns 9.10 into 9.1"
        raise InvalidInput(variable, image, reason, "a name as in registry/repository:tag, quoted")
    if not isinstance(image, str) or not IMAGE.fullmatch(image):
        raise InvalidInput(variable, image, "not an image", "a name as in registry/repository:tag, quoted")
    return image


def parse_network(variable: str, text: Any) -> str:
    """A network in its usual form. InvalidInput: host bits that are set, or no network."""
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        raise InvalidInput(variable, text, "not a network", "an IPv4 or IPv6 network such as 192.0.2.0/24") from None


def parse_resources(option: str, resources: Options) -> dict[str, dict[str, str]]:
    """Requests and limits of a container. InvalidInput: no quantity, or a request above its limit."""
    checked: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for kind, amounts in checked.items():
        for name, amount in (resources.get(kind) or {}).items():
            variable = f"{option}.{kind}[{name}]"
            text = str(amount) if isinstance(amount, int) and not isinstance(amount, bool) and name == "cpu" else amount
            if parse_quantity(text, variable) < 0:
                raise InvalidInput(variable, amount, "less than nothing", "a quantity of at least 0")
            if name == "memory":
                parse_capacity(text, variable)
            amounts[str(name)] = text
    for name, limit in checked["limits"].items():
        request = checked["requests"].get(name)
        if request is not None and parse_quantity(request) > parse_quantity(limit):
            raise InvalidInput(
                f"{option}.requests[{name}]", request, f"more than the limit {limit}", "at most the limit"
            )
    return {kind: amounts for kind, amounts in checked.items() if amounts}


def parse_annotations(variable: str, values: Mapping[Any, Any] | None) -> dict[str, str]:
    """Annotations as text by key. InvalidInput: no key, or a value that is not text."""
    checked = texts(variable, values)
    for key in checked:
        parse_label_key(f"{variable} (key)", key)
    return checked


def parse_toleration(one: Any) -> dict[str, Any]:
    """One toleration of a pod with the operator that the API would fill in."""
    allowed = "maps with key, operator, value, effect and tolerationSeconds, as in a pod"
    if not isinstance(one, Mapping) or set(one) - {"key", "operator", "value", "effect", "tolerationSeconds"}:
        raise InvalidInput("tolerations", one, "not a toleration", allowed)
    checked = {key: value for key, value in one.items() if value is not None}
    if "value" in checked:
        checked["value"] = text_of("tolerations.value", checked["value"])
    if "tolerationSeconds" in checked:
        try:
            checked["tolerationSeconds"] = int(checked["tolerationSeconds"])
        except (TypeError, ValueError):
            raise InvalidInput("tolerations", one, "tolerationSeconds is no number", allowed) from None
    checked.setdefault("operator", "Equal")
    return checked


def parse_adopt(names: Sequence[Any]) -> frozenset[str]:
    """Objects that are handed over, as Kind/name. InvalidInput: another form."""
    for name in names:
        if not re.fullmatch(r"[A-Z][A-Za-z]+/[a-z0-9][-a-z0-9.]*", str(name)):
            raise InvalidInput("adopt", name, "not an object", "Kind/name, for example Service/db")
    return frozenset(str(name) for name in names)
