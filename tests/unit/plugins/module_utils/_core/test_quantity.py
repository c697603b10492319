# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.quantity import (
    format_bytes,
    parse_capacity,
    parse_quantity,
    same_quantity,
)
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"
VOL_05: list[dict[str, Any]] = yaml.safe_load((CASES / "rp-vol-05.yml").read_text())["inputs"]


@pytest.mark.parametrize("case", [one for one in VOL_05 if "b" in one], ids=lambda one: f"{one['a']}-{one['b']}")
def test_rp_vol_05_compares_by_value(case: dict[str, Any]) -> None:
    # YAML 1.1 reads 1e9 as text and 1E3 as text; both are what a user would hand over.
    assert same_quantity(case["a"], str(case["b"])) is case["equal"]


@pytest.mark.parametrize("case", [one for one in VOL_05 if "valid" in one], ids=lambda one: one["a"])
def test_rp_vol_05_refuses_what_is_no_capacity(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as problem:
        parse_capacity(case["a"], "pet_volumes_capacity")
    assert "pet_volumes_capacity" in str(problem.value)
    assert repr(case["a"]) in str(problem.value)
    assert "Gi" in str(problem.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("010", "leading zero"),
        ("0x10", "hexadecimal"),
        ("1GB", "has no B: write G or Gi"),
        ("25GB", "has no B: write G or Gi"),
        ("25GiB", "has no B: write G or Gi"),
        ("1gi", "write Gi"),
        ("1g", "write G or Gi"),
        ("1K", "write k"),
        ("1 Gi", "no blanks"),
        (" 1Gi", "no blanks"),
        ("1Gi\n", "no blanks"),
        ("", "not a quantity"),
        ("Gi", "not a quantity"),
        ("1.2.3Gi", "not a quantity"),
        ("٣Gi", "not a quantity"),
        ("1e", "not a quantity"),
    ],
)
def test_rp_vol_06_says_what_is_wrong_with_the_unit(text: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        parse_quantity(text, "capacity")


@pytest.mark.parametrize("value", [8, 16, 1.5, True, None, ["1Gi"]])
def test_rp_ans_12_numbers_that_yaml_made_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="quote it"):
        parse_quantity(value, "capacity")


def test_rp_ans_12_a_yaml_octal_that_came_as_text_is_too_small() -> None:
    # storage: 010 is 8 in YAML 1.1, and Ansible makes it the text '8'.
    with pytest.raises(InvalidInput, match="010 is read as 8"):
        parse_capacity("8")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", Fraction(1)),
        ("+1", Fraction(1)),
        ("-1Gi", Fraction(-(2**30))),
        (".5Gi", Fraction(2**29)),
        ("1.", Fraction(1)),
        ("0.1", Fraction(1, 10)),
        ("100m", Fraction(1, 10)),
        ("1E", Fraction(10**18)),
        ("1E3", Fraction(1000)),
        ("1e-3", Fraction(1, 1000)),
        ("1n", Fraction(1, 10**9)),
    ],
)
def test_values(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["1500m", "8Ei", "0.3Gi", "0", "-5Gi", "512Ki"])
def test_capacities_that_no_volume_can_have(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_capacity(text)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_format_is_exact(size: int) -> None:
    assert parse_quantity(format_bytes(size)) == size


@given(
    st.integers(min_value=1, max_value=10**6),
    st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]),
    st.integers(min_value=1, max_value=10**6),
    st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]),
)
def test_same_quantity_is_equality_of_values(one: int, unit: str, other: int, other_unit: str) -> None:
    left, right = f"{one}{unit}", f"{other}{other_unit}"
    assert same_quantity(left, right) == (parse_quantity(left) == parse_quantity(right))
    assert same_quantity(left, left)


@given(st.text(max_size=8))
def test_any_text_is_a_quantity_or_a_clear_refusal(text: str) -> None:
    refused: InvalidInput | None = None
    try:
        parse_quantity(text, "capacity")
    except InvalidInput as problem:
        refused = problem
    if refused is not None:
        assert (refused.subject, refused.value) == ("capacity", text)
