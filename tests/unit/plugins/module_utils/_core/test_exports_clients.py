# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_clients import (
    ClientError,
    ClientKind,
    Host,
    classify,
    is_world,
    network_of,
    parse_client,
    same_client,
    uncovered,
)
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"
NFS_02: dict[str, Any] = yaml.safe_load((CASES / "rp-nfs-02.yml").read_text("utf-8"))["inputs"]
HOSTS = {
    "client1": Host("client1.example.org", ("192.0.2.11",)),
    "client1.example.org": Host("client1.example.org", ("192.0.2.11", "2001:db8::11")),
    "gone": None,
}


def test_rp_nfs_02() -> None:
    with pytest.raises(ClientError, match="blank"):
        parse_client(NFS_02["client"])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("192.0.2.55/24", "192.0.2.0/24"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8:10:10::]/64", "2001:db8:10:10::/64"),
        ("2001:db8::/ffff:ffff::", "2001:db8::/32"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("db-1.example.org", "db-1.example.org"),
        ("*.example.org", "*.example.org"),
        ("node[12].example.org", "node[12].example.org"),
        ("@trusted", "@trusted"),
        ("*", "*"),
    ],
)
def test_written(text: str, written: str) -> None:
    assert parse_client(text).text == written


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "whole world"),
        ("192.0.2.0/24 ", "blank"),
        ("(rw)", "parentheses"),
        ("192.0.2.1(rw)", "parentheses"),
        ("192.0.2.1,192.0.2.2", "comma"),
        ("-rw", "dash"),
        ("192.0.2.201/210", "'210'"),
        ("2001:db8::/129", "'129'"),
        ("192.0.2.0/", "not an IP network"),
        ("192.0.2/24", "not an IP network"),
        ("192.0.2.0/255.0.255.0", "not an IP network"),
        ("projects/stuff", "not an IP network"),
        ("[192.0.2.11]", "character class"),
        ("gss/krb5i", "Kerberos"),
        ("192.0.2", "not an IP address"),
        ("010.0.0.1", "not an IP address"),
        ("3232235777", "not an IP address"),
        ("192.0.2.300", "not an IP address"),
        ("2001:db8", "not an IP address"),
        ("a b", "blank"),
        ("a#b", "#"),
        ("caf\u00e9.example.org", "ASCII"),
        ("x_/..", "not an IP network"),
        ("@", "netgroup"),
        ("-" * 3, "dash"),
        ("a..b", "not a host name"),
    ],
)
def test_refused(text: str, word: str) -> None:
    with pytest.raises(ClientError) as problem:
        parse_client(text)
    assert word in problem.value.reason
    assert problem.value.allowed


def test_notes() -> None:
    assert [code for code, _text in parse_client("192.0.2.55/24").notes] == ["host_bits"]
    assert [code for code, _text in parse_client("192.0.2.*").notes] == ["address_pattern"]
    assert parse_client("192.0.2.0/24").notes == ()


@given(st.text(max_size=40))
def test_any_text_is_classified_and_checked(text: str) -> None:
    assert classify(text) in ClientKind
    try:
        client = parse_client(text)
    except ClientError:
        return
    assert parse_client(client.text).text == client.text
    assert client.kind is classify(client.text)


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks_survive(address: Any, length: int) -> None:
    text = f"{address}/{min(length, address.max_prefixlen)}"
    written = parse_client(text).text
    assert network_of(written) == network_of(text)
    assert same_client(text, written, {})


@pytest.mark.parametrize(
    ("text", "world"),
    [("*", True), ("", True), ("0.0.0.0/0", True), ("::/0", True), ("192.0.2.0/0", True), ("192.0.2.0/", True),
     ("192.0.2.0/24", False), ("*.org", False), ("@all", False)],
)  # fmt: skip
def test_world(text: str, world: bool) -> None:
    assert is_world(text) is world


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.0/24", "192.0.2.0/255.255.255.0", True),
        ("192.0.2.5", "192.0.2.5/32", True),
        ("2001:DB8::1", "2001:db8:0:0::1", True),
        ("client1", "client1.example.org", True),
        ("192.0.2.11", "client1.example.org", True),
        ("192.0.2.12", "client1.example.org", False),
        ("*.EXAMPLE.org", "*.example.org", True),
        ("*", "", True),
        ("gone", "client1", False),
        ("192.0.2.0/24", "192.0.2.0/25", False),
    ],
)
def test_rp_nfs_07_same_client(one: str, other: str, same: bool) -> None:
    assert same_client(one, other, HOSTS) is same
    assert same_client(other, one, HOSTS) is same


def test_rp_nfs_12_both_families_are_needed() -> None:
    node = ["192.0.2.11", "2001:db8::11"]
    assert uncovered(node, ["192.0.2.0/24"], {}) == ["2001:db8::11"]
    assert uncovered(node, ["192.0.2.0/24", "2001:db8::/64"], {}) == []
    assert uncovered(node, ["client1.example.org"], HOSTS) == []
    assert uncovered(node, ["*"], {}) == []
    assert uncovered(node, ["@trusted", "*.example.org"], HOSTS) == node
    assert uncovered(["nonsense"], ["192.0.2.0/24"], {}) == ["nonsense"]
