# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: what Kubernetes takes, what the collection makes of them, and messages that say which rule was broken.

Sources: RFC 1123 labels and subdomains, RFC 6335 service names, ``k8s.io/apimachinery/pkg/util/validation``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import InvalidInput

PREFIX = "stateful.petset"
FIELD_MANAGER = PREFIX
"""The field manager of every write, so that ``kubectl get --show-managed-fields`` shows what the collection owns."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_SET = f"{PREFIX}/set"
LABEL_NAMESPACE = f"{PREFIX}/namespace"
LABEL_ORDINAL = f"{PREFIX}/ordinal"

MAX_SET_NAME = 52
"""63 for a label, less a dash and the hash of up to 10 characters in ``controller-revision-hash``."""
MAX_ORDINAL = 9999

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_LABEL_TEXT = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", re.ASCII)
_ALLOWED_LABEL = "lower-case letters, digits and '-', a letter or digit first and last, at most {} characters"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def parse_dns_label(variable: str, value: object, *, max_length: int = 63) -> str:
    """A name without dots (RFC 1123 label). InvalidInput says which rule is broken."""
    allowed = _ALLOWED_LABEL.format(max_length)
    text = _text(variable, value, allowed)
    if "." in text:
        raise InvalidInput(variable, text, "dots are not allowed here", allowed)
    if _LABEL.fullmatch(text) is None:
        raise InvalidInput(variable, text, _label_fault(text), allowed)
    if len(text) > max_length:
        raise InvalidInput(variable, text, f"{len(text)} characters are too many", allowed)
    return text


def parse_dns_subdomain(variable: str, value: object, *, max_length: int = 253) -> str:
    """A name that may have dots (RFC 1123 subdomain). InvalidInput says which rule is broken."""
    allowed = f"labels of {_ALLOWED_LABEL.format(63)}, joined by dots, at most {max_length} characters together"
    text = _text(variable, value, allowed)
    for part in text.split("."):
        if _LABEL.fullmatch(part) is None:
            raise InvalidInput(variable, text, _label_fault(part), allowed)
    if len(text) > max_length:
        raise InvalidInput(variable, text, f"{len(text)} characters are too many", allowed)
    return text


def parse_set_name(variable: str, value: object) -> str:
    """Name of a pet set: a label of at most 52 characters, since its pods carry it in a label with a hash."""
    return parse_dns_label(variable, value, max_length=MAX_SET_NAME)


def parse_service_name(variable: str, value: object) -> str:
    """Name of a service: a label that begins with a letter (RFC 1035), since older API servers want that."""
    text = parse_dns_label(variable, value)
    if text[0].isdigit():
        raise InvalidInput(variable, text, "the name of a service begins with a letter", _ALLOWED_LABEL.format(63))
    return text


def parse_port_name(variable: str, value: object) -> str:
    """Name of a port (RFC 6335): at most 15 characters, lower case, at least one letter, no double dash."""
    allowed = "at most 15 lower-case letters, digits and single '-', at least one letter"
    text = parse_dns_label(variable, value, max_length=15)
    if "--" in text or not any(char.isalpha() for char in text):
        raise InvalidInput(variable, text, "not the name of a port", allowed)
    return text


def parse_label_key(variable: str, key: object) -> str:
    """Key of a label or annotation: an optional prefix (subdomain), one slash, a name of at most 63 characters."""
    allowed = (
        "an optional prefix like example.com and a '/', then at most 63 letters, digits, '-', '_' and '.', "
        "beginning and ending with a letter or digit"
    )
    text = _text(variable, key, allowed)
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        raise InvalidInput(variable, text, "only one '/' is allowed in a label key", allowed)
    if slash:
        parse_dns_subdomain(variable, prefix)
    if not name or len(name) > 63 or _LABEL_TEXT.fullmatch(name) is None:
        raise InvalidInput(variable, text, "not a label key", allowed)
    return text


def parse_label_value(variable: str, value: object) -> str:
    """Value of a label: empty, or at most 63 characters. InvalidInput says which rule is broken."""
    allowed = "nothing, or at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
    if not isinstance(value, str):
        raise InvalidInput(variable, value, "the value of a label is text; quote it", allowed)
    if len(value) > 63:
        raise InvalidInput(variable, value, f"{len(value)} characters are too many", allowed)
    if _LABEL_TEXT.fullmatch(value) is None:
        bad = sorted({char for char in value if not re.match(r"[-A-Za-z0-9_.]", char, re.ASCII)})
        reason = f"{' '.join(map(repr, bad))} not allowed in a label" if bad else "begins or ends with '-', '_' or '.'"
        raise InvalidInput(variable, value, reason, allowed)
    return value


def parse_labels(variable: str, labels: Mapping[str, object] | None) -> dict[str, str]:
    """Labels of the user. InvalidInput names key, value and rule, also for keys that are the collection's own."""
    checked: dict[str, str] = {}
    for key, value in (labels or {}).items():
        parse_label_key(f"{variable} (key)", key)
        if key == LABEL_MANAGED_BY or key.startswith(f"{PREFIX}/"):
            raise InvalidInput(f"{variable} (key)", key, "this label is the collection's own", "any other key")
        checked[key] = parse_label_value(f"{variable}[{key}]", value)
    return checked


def parse_ordinal(variable: str, value: object) -> int:
    """Ordinal of a pet: 0 to 9999."""
    allowed = f"a whole number from 0 to {MAX_ORDINAL}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(variable, value, "not a whole number", allowed)
    if not 0 <= value <= MAX_ORDINAL:
        raise InvalidInput(variable, value, "out of range", allowed)
    return value


def parse_count(variable: str, value: object, *, maximum: int = 1000) -> int:
    """Number of pets: at least 1. Zero would delete nothing but hide everything, so it is refused."""
    allowed = f"a whole number from 1 to {maximum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(variable, value, "not a whole number", allowed)
    if not 1 <= value <= maximum:
        raise InvalidInput(variable, value, "out of range", allowed)
    return value


def pet_name(set_name: str, ordinal: int) -> str:
    """Name of the pod. Source: StatefulSet, "Pod identity"."""
    return f"{set_name}-{ordinal}"


def claim_name(template: str, set_name: str, ordinal: int) -> str:
    """Name of the claim that the StatefulSet controller looks for: ``<template>-<pod>``."""
    return f"{template}-{pet_name(set_name, ordinal)}"


def expand_pattern(variable: str, pattern: str, *, namespace: str, set_name: str, ordinal: int) -> str:
    """Fill in {namespace}, {set}, {ordinal} and {pet}. InvalidInput: another word in braces, or no {ordinal} or {pet}.

    >>> expand_pattern("x", "{namespace}-{pet}", namespace="default", set_name="mysql", ordinal=1)
    'default-mysql-1'
    """
    words = {"namespace": namespace, "set": set_name, "ordinal": str(ordinal), "pet": pet_name(set_name, ordinal)}
    allowed = "text with {ordinal} or {pet}, and optionally {namespace} and {set}"
    used = _PLACEHOLDER.findall(pattern)
    for word in used:
        if word not in words:
            raise InvalidInput(variable, pattern, f"{{{word}}} is not known", allowed)
    if not {"ordinal", "pet"} & set(used):
        raise InvalidInput(variable, pattern, "every pet would get the same", allowed)
    return _PLACEHOLDER.sub(lambda found: words[found[1]], pattern)


def own_labels(namespace: str, set_name: str, ordinal: int | None = None) -> dict[str, str]:
    """Labels that tie an object to its set and, when given, to its pet.

    The namespace is on cluster-wide objects as well, where it is not otherwise known.
    """
    labels = {LABEL_MANAGED_BY: PREFIX, LABEL_SET: set_name, LABEL_NAMESPACE: namespace}
    if ordinal is not None:
        labels[LABEL_ORDINAL] = str(ordinal)
    return labels


def _text(variable: str, value: object, allowed: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(variable, value, "not text; quote it", allowed)
    if not value:
        raise InvalidInput(variable, value, "empty", allowed)
    return value


def _label_fault(part: str) -> str:
    if not part:
        return "an empty part between dots"
    if part != part.lower():
        return "upper-case letters are not allowed"
    bad = sorted({char for char in part if not re.match(r"[-a-z0-9]", char, re.ASCII)})
    if bad:
        return f"{' '.join(map(repr, bad))} not allowed"
    return "begins or ends with '-'"
