# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import names
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"
ANS_11: list[dict[str, Any]] = yaml.safe_load((CASES / "rp-ans-11.yml").read_text())["inputs"]


@pytest.mark.parametrize("case", ANS_11, ids=lambda one: repr(one.get("value", one.get("key"))))
def test_rp_ans_11_labels(case: dict[str, Any]) -> None:
    labels = {case.get("key", "team"): case.get("value", "x")}
    if case["ok"]:
        assert names.parse_labels("labels", labels) == labels
        return
    with pytest.raises(InvalidInput) as problem:
        names.parse_labels("labels", labels)
    wrong = case.get("key", case.get("value"))
    assert repr(wrong) in str(problem.value)
    assert "allowed" in str(problem.value).lower()


@pytest.mark.parametrize("key", ["stateful.petset/ordinal", "app.kubernetes.io/managed-by"])
def test_own_labels_cannot_be_overwritten(key: str) -> None:
    with pytest.raises(InvalidInput, match="collection's own"):
        names.parse_labels("labels", {key: "x"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("my.sql", "dots are not allowed"),
        ("MySQL", "upper-case"),
        ("my_sql", "'_' not allowed"),
        ("-mysql", "begins or ends with '-'"),
        ("mysql-", "begins or ends with '-'"),
        ("", "empty"),
        ("a" * 53, "53 characters are too many"),
        ("mysql\n", "not allowed"),
        ("mýsql", "'ý' not allowed"),
        (5, "not text"),
        (None, "not text"),
    ],
)
def test_set_names_that_are_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as problem:
        names.parse_set_name("petset_name", value)
    assert "petset_name" in str(problem.value)
    assert "at most 52 characters" in problem.value.allowed


def test_a_set_name_of_52_characters_is_taken() -> None:
    assert names.parse_set_name("x", "a" * 52) == "a" * 52


@pytest.mark.parametrize("value", ["a.b", "example.com", "x" * 63 + ".a"])
def test_subdomains(value: str) -> None:
    assert names.parse_dns_subdomain("x", value) == value


@pytest.mark.parametrize("value", ["a..b", ".a", "a.", "A.b", "a/b", "a" * 254])
def test_subdomains_that_are_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        names.parse_dns_subdomain("x", value)


@pytest.mark.parametrize("value", ["Db", "3306", "a--b", "this-is-too-long", "a.b"])
def test_rp_ans_11_port_names_that_are_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        names.parse_port_name("port", value)


def test_a_service_begins_with_a_letter() -> None:
    assert names.parse_service_name("x", "db") == "db"
    with pytest.raises(InvalidInput, match="begins with a letter"):
        names.parse_service_name("x", "0db")


@pytest.mark.parametrize("value", [0, -1, 1001, True, "2", 1.0])
def test_counts_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        names.parse_count("replicas", value)


@pytest.mark.parametrize("value", [-1, 10000, False, "0"])
def test_ordinals_that_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="0 to 9999"):
        names.parse_ordinal("ordinal", value)


def test_patterns() -> None:
    fill = {"namespace": "default", "set_name": "mysql", "ordinal": 1}
    assert names.expand_pattern("p", "/srv/{namespace}/{set}/{ordinal}", **fill) == "/srv/default/mysql/1"
    assert names.expand_pattern("p", "{pet}", **fill) == "mysql-1"
    with pytest.raises(InvalidInput, match="every pet would get the same"):
        names.expand_pattern("p", "/srv/{set}", **fill)
    with pytest.raises(InvalidInput, match=r"\{number\} is not known"):
        names.expand_pattern("p", "/srv/{number}/{ordinal}", **fill)


def test_the_names_of_the_article() -> None:
    assert names.pet_name("mysql", 0) == "mysql-0"
    assert names.claim_name("db", "mysql", 1) == "db-mysql-1"


@given(st.text(alphabet=string.ascii_letters + string.digits + "-._/ é", max_size=70))
def test_what_is_taken_as_a_label_obeys_rfc_1123(text: str) -> None:
    try:
        taken = names.parse_dns_label("x", text)
    except InvalidInput:
        return
    assert 1 <= len(taken) <= 63
    assert set(taken) <= set(string.ascii_lowercase + string.digits + "-")
    assert taken[0] != "-"
    assert taken[-1] != "-"


@given(st.text(alphabet=string.ascii_lowercase + string.digits + "-", min_size=1, max_size=63))
def test_every_rfc_1123_label_is_taken(text: str) -> None:
    if text[0] != "-" and text[-1] != "-":
        assert names.parse_dns_label("x", text) == text
