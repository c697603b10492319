# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resource quantities of Kubernetes as exact numbers.

Source of the grammar: ``k8s.io/apimachinery/pkg/api/resource/quantity.go``: a decimal number, then a binary suffix
(Ki..Ei), a decimal suffix (n u m, none, k..E) or a decimal exponent (e or E and digits). Text is never compared:
the server rewrites some spellings (1024Mi becomes 1Gi) and keeps others (1073741824), so only values count.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .errors import InvalidInput

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_PATTERN = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3}|)"
)
MAX_BYTES = 2**63 - 1
"""The server keeps capacities in 64 bits."""
MIN_CAPACITY_BYTES = 2**20
"""Below 1Mi a capacity is a slip, for example a YAML 010 that was read as 8."""

ALLOWED = "a number with one of the units Ki Mi Gi Ti Pi Ei or k M G T P E, for example 10Gi"
_SLIPS = (
    (re.compile(r"[0-9.]+\s*([KMGTPE])i?B", re.IGNORECASE), "the unit has no B: write {0} or {0}i"),
    (re.compile(r"[0-9.]+([mgtpe])i", re.ASCII), "units are case-sensitive: write {0}i"),
    (re.compile(r"[0-9.]+([gtp])", re.ASCII), "units are case-sensitive: write {0} or {0}i"),
    (re.compile(r"[0-9.]+(K)", re.ASCII), "write k (1000) or Ki (1024)"),
    (re.compile(r"[0-9.]+(ki)", re.ASCII), "units are case-sensitive: write Ki"),
)


def parse_quantity(value: object, variable: str = "quantity") -> Fraction:
    """The exact value of a quantity.

    InvalidInput: not text, blanks, a leading zero (010 is 8 in YAML 1.1), hexadecimal, an unknown unit.

    >>> parse_quantity("1.5Gi") == parse_quantity("1536Mi")
    True
    >>> parse_quantity("1E") == parse_quantity("1e18")
    True
    """
    if isinstance(value, bool) or not isinstance(value, str):
        raise InvalidInput(variable, value, "a quantity is text; quote it, so that YAML cannot change it", ALLOWED)
    match = _PATTERN.fullmatch(value)
    if match is None:
        raise InvalidInput(variable, value, _why_not(value), ALLOWED)
    number, suffix = match["number"], match["suffix"]
    if re.match(r"0[0-9]", number):
        raise InvalidInput(variable, value, "a leading zero is ambiguous (YAML reads 010 as 8)", ALLOWED)
    exact = Fraction(f"0{number}" if number.startswith(".") else number.rstrip("."))
    if suffix in _BINARY:
        exact *= _BINARY[suffix]
    elif suffix in _DECIMAL:
        exact *= Fraction(10) ** _DECIMAL[suffix]
    else:
        exact *= Fraction(10) ** int(suffix[1:])
    return -exact if match["sign"] == "-" else exact


def parse_capacity(value: object, variable: str = "capacity") -> int:
    """Bytes of a volume: a quantity that is whole, at least 1Mi and fits 64 bits.

    InvalidInput: as parse_quantity, and zero, negative, fractions of bytes, or so small that it must be a slip.
    """
    exact = parse_quantity(value, variable)
    if exact <= 0:
        raise InvalidInput(variable, value, "a capacity is more than zero", ALLOWED)
    if exact.denominator != 1:
        raise InvalidInput(variable, value, "a capacity is a whole number of bytes", ALLOWED)
    if exact < MIN_CAPACITY_BYTES:
        raise InvalidInput(
            variable,
            value,
            f"that is {exact} bytes, less than 1Mi; the unit is missing, or YAML changed the number (010 is read as 8)",
            ALLOWED,
        )
    if exact > MAX_BYTES:
        raise InvalidInput(variable, value, "more than the API can hold (8Ei - 1)", ALLOWED)
    return int(exact)


def read_quantity(value: object) -> Fraction | None:
    """The value of a quantity that came from the API, None when it is not one (never raises)."""
    try:
        return parse_quantity(str(value) if isinstance(value, (int, float)) else value)
    except InvalidInput:
        return None


def same_quantity(one: object, other: object) -> bool:
    """True when both are quantities of equal value."""
    left, right = read_quantity(one), read_quantity(other)
    return left is not None and left == right


def format_bytes(size_bytes: int) -> str:
    """The shortest exact spelling of a number of bytes.

    >>> format_bytes(1536 * 2**20), format_bytes(10**9), format_bytes(1000001)
    ('1536Mi', '1G', '1000001')
    """
    for suffix, factor in reversed(_BINARY.items()):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{suffix}"
    for suffix in ("E", "P", "T", "G", "M", "k"):
        factor = 10 ** _DECIMAL[suffix]
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{suffix}"
    return str(size_bytes)


def _why_not(value: str) -> str:
    if value != value.strip() or any(char.isspace() for char in value):
        return "no blanks are allowed in a quantity"
    if re.match(r"0[xXoObB]", value):
        return "hexadecimal, octal and binary numbers are not quantities"
    for pattern, hint in _SLIPS:
        found = pattern.fullmatch(value)
        if found:
            return f"not a quantity; {hint.format(found[1].upper())}"
    return "not a quantity"
