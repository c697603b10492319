# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_clients import network_of
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import (
    ANONYMOUS_ID,
    OptionError,
    parse_identifier,
    parse_options,
    render_options,
    render_table_options,
    same_options,
    split_options,
)
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"
NFS_10: list[dict[str, Any]] = yaml.safe_load((CASES / "rp-nfs-10.yml").read_text("utf-8"))["inputs"]

WORDS = (
    "ro rw sync async secure insecure root_squash no_root_squash all_squash no_all_squash hide nohide crossmnt "
    "nocrossmnt wdelay no_wdelay subtree_check no_subtree_check acl no_acl pnfs no_pnfs security_label nordirplus "
    "insecure_locks secure_locks auth_nlm no_auth_nlm sec=sys sec=krb5 sec=krb5p:sys sec=none:unix sec=krb5:krb5i "
    "fsid=0 fsid=root fsid=5 fsid=0x1f fsid=010 fsid=4294967295 fsid=-7 fsid=12345678-9abc-def0-1234-56789abcdef0 "
    "anonuid=5 anonuid=-2 anongid=4294967294 anongid=010 mp mp=/srv mountpoint=/x refer=/a@b replicas=/a@b:/c@d "
    "squash_uids=1-5 xprtsec=tls xprtsec=mtls:none reexport=auto-fsidnum"
).split()
LISTS = st.lists(st.sampled_from(WORDS), max_size=12).map(",".join)


@pytest.mark.parametrize("case", NFS_10, ids=lambda case: str(case["want"]))
def test_rp_nfs_10(case: dict[str, Any]) -> None:
    if "/" in case["want"]:
        assert (network_of(case["want"]) == network_of(case["table"])) is case["equal"]
        return
    # The case shows only the words that look different; rw is the same on both sides.
    table = case["table"] if "sec=" in case["table"] else "rw," + case["table"]
    want = case["want"] if "sec=" in case["want"] else "rw," + case["want"]
    assert same_options(parse_options(want), parse_options(table)) is case["equal"]


@given(LISTS)
def test_round_trip(text: str) -> None:
    options = parse_options(text)
    assert parse_options(render_options(options)) == options


@given(LISTS)
def test_the_table_means_the_same(text: str) -> None:
    options = parse_options(text)
    words = render_table_options(options)
    if options.subtree_check:
        # exportfs -s shows it by leaving no_subtree_check out, which an option list cannot say.
        words.insert(0, "subtree_check")
    assert same_options(parse_options(",".join(words)), options)


@given(LISTS.filter(lambda text: "sec=" not in text), st.randoms())
def test_order_does_not_matter_without_sec(text: str, random: Any) -> None:
    """Of contradicting words the last one wins, so only lists without contradictions can be shuffled."""
    options = parse_options(text)
    rendered = render_options(options).split(",")
    random.shuffle(rendered)
    assert parse_options(",".join(rendered)) == options


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("", "ro,sync,wdelay,hide,root_squash,no_all_squash,secure,no_subtree_check,sec=sys", True),
        ("rw,ro", "ro", True),
        ("sec=unix", "sec=sys", True),
        ("sec=null", "sec=none", True),
        ("sec=sys:krb5", "sec=krb5:sys", False),
        ("xprtsec=none:tls:mtls", "", True),
        ("xprtsec=tls", "", False),
        ("fsid=0x10", "fsid=16", True),
        ("fsid=010", "fsid=8", True),
        ("fsid=12345678-9ABC-def0-1234-56789abcdef0", "fsid=123456789abcdef0123456789abcdef0", True),
        ("fsid=5", "", False),
        ("anonuid=65534", "", True),
        ("anonuid=0999", "anonuid=999", True),
        ("mp", "mountpoint", True),
        ("mp=/a", "mp", False),
        ("subtree_check", "", False),
        ("sec=krb5,rw,sec=sys,rw", "rw,sec=krb5:sys", True),
    ],
)
def test_equality(one: str, other: str, equal: bool) -> None:
    assert same_options(parse_options(one), parse_options(other)) is equal


def test_words_after_sec_belong_to_it() -> None:
    options = parse_options("insecure,rw,no_root_squash,sec=krb5:sys,ro,sec=krb5p,all_squash,async")
    access = dict(options.flavours)
    assert [name for name, _access in options.flavours] == ["krb5", "sys", "krb5p"]
    assert access["krb5"].read_only
    assert access["sys"] == access["krb5"]
    assert access["krb5p"].all_squash
    assert access["krb5p"].read_only
    assert access["krb5p"].insecure
    assert options.async_writes


def test_a_uuid_goes_before_the_number() -> None:
    options = parse_options("fsid=5,fsid=aabbccddeeff00112233445566778899")
    assert options.identity == "aabbccddeeff00112233445566778899"


def test_thirty_two_decimal_digits_are_a_number() -> None:
    assert parse_options("fsid=12345678901234567890123456789012").fsid == 2**32 - 1


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("rw,no_such", "unknown_keyword", "no_such"),
        ("RW", "unknown_keyword", "RW"),
        ("rw,,ro", "unknown_keyword", ""),
        ("maproot=root", "unknown_keyword", "maproot=root"),
        ("fsid=mysql-0", "bad_fsid", "fsid=mysql-0"),
        ("fsid=", "bad_fsid", "fsid="),
        ("anonuid=mysql", "bad_anon_id", "anonuid=mysql"),
        ("anongid=0x10", "bad_anon_id", "anongid=0x10"),
        ("sec=kerberos", "unknown_flavour", "sec=kerberos"),
        ("sec=", "unknown_flavour", "sec="),
        ("xprtsec=ssl", "unknown_transport", "xprtsec=ssl"),
        ("squash_uids=x", "bad_squash_list", "squash_uids=x"),
        ("vers=4", "unknown_keyword", "vers=4"),
    ],
)
def test_refused_words(text: str, code: str, word: str) -> None:
    with pytest.raises(OptionError) as problem:
        parse_options(text)
    assert (problem.value.code, problem.value.word) == (code, word)


@pytest.mark.parametrize("word", ["maproot=root", "vers=4", "map_static=/x"])
def test_words_of_elsewhere_are_explained(word: str) -> None:
    with pytest.raises(OptionError, match=r"BSD|client's mount|long ago"):
        parse_options(word)


def test_a_comma_at_the_end_adds_nothing() -> None:
    assert split_options("rw, sync,") == ["rw", "sync"]
    assert split_options(",") == [""]


@given(st.integers(-(2**70), 2**70))
def test_identifiers_are_taken_modulo(number: int) -> None:
    clamped = max(-(2**63), min(2**63 - 1, number))
    assert parse_identifier(str(number)) == clamped % 2**32


def test_default_identity() -> None:
    assert parse_options("").anonuid == ANONYMOUS_ID
    assert parse_options("").identity == ""
