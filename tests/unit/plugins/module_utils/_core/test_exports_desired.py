# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import decode, parse_exports
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import (
    Desired,
    derive_fsid,
    parse_desired,
    parse_mode,
    parse_name,
    parse_option_list,
    parse_path,
    render_drop_in,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import reads_file
from hypothesis import given
from hypothesis import strategies as st

CASE = Path(__file__).parents[3] / "cases" / "reports" / "rp-ans-12.yml"
MODES = [one["mode"] for one in yaml.safe_load(CASE.read_text("utf-8"))["inputs"] if "mode" in one]


def params(*exports: dict[str, Any], **others: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "name": "mysql", "state": "present", "purge": True, "withdraw_in_use": False, "adopt": False,
        "machines": None, "exports": [],
    }  # fmt: skip
    for export in exports:
        item = {
            "path": "/srv/a", "state": "present", "clients": [{"client": "192.0.2.0/24", "options": None}],
            "options": ["rw"], "fsid": "auto", "fsid_seed": None, "owner": None, "group": None, "mode": None,
            "create": False,
        }  # fmt: skip
        whole["exports"].append({**item, **export})
    return {**whole, **others}


def refused(*exports: dict[str, Any], **others: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as problem:
        parse_desired(params(*exports, **others))
    assert problem.value.allowed
    return problem.value


def test_a_plain_set() -> None:
    desired = parse_desired(params({"path": "/srv//a/"}, {"path": "/srv/b", "mode": "0750", "owner": "999"}))
    assert desired.file == "/etc/exports.d/mysql.exports"
    assert [export.path for export in desired.exports] == ["/srv/a", "/srv/b"]
    assert desired.exports[1].mode == 0o750
    ((client, options),) = desired.exports[0].clients
    assert client == "192.0.2.0/24"
    assert options.writable
    assert options.uuid_text == derive_fsid("/srv/a")


def test_options_of_a_client_replace_those_of_the_export() -> None:
    clients = [
        {"client": "192.0.2.1", "options": None},
        {"client": "192.0.2.2", "options": ["ro,all_squash", "anonuid=5"]},
    ]
    (_one, first), (_two, second) = parse_desired(params({"clients": clients})).exports[0].clients
    assert first.writable
    assert not second.writable
    assert second.anonuid == 5


@pytest.mark.parametrize("name", ["mysql", "default-mysql", "a.b_c", "9"])
def test_names_are_read_by_exportfs(name: str) -> None:
    assert reads_file(parse_name(name) + ".exports")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "mysql.exports", "-x", "x" * 201, "a\n", "\u00e9"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_name(name)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("srv/rel", "absolute"),
        ("/srv/../etc", "'..'"),
        ("", "absolute"),
        ("/srv/x ", "blank at the end"),
        ("/", "root directory"),
        ("//", "root directory"),
        ("/srv/\\040", "backslash"),
        ("/srv/a\nb", "control"),
    ],
)
def test_rp_vol_08_refused_paths(path: str, word: str) -> None:
    error = refused({"path": path})
    assert error.subject == "exports[0].path"
    assert word in str(error)


@pytest.mark.parametrize(
    ("path", "plain"), [("/srv/x/", "/srv/x"), ("/srv//x", "/srv/x"), ("/srv/my data", "/srv/my data")]
)
def test_rp_vol_08_equal_paths(path: str, plain: str) -> None:
    assert parse_path(path, "path") == plain


@pytest.mark.parametrize("value", ["750", "0750", "1777"])
def test_modes(value: str) -> None:
    assert parse_mode(value, "mode") == int(value, 8)


@pytest.mark.parametrize("value", [488, 750, "0o750", "u=rwx", "89", "", True])
def test_modes_that_yaml_may_have_changed(value: object) -> None:
    with pytest.raises(InvalidInput):
        parse_mode(value, "mode")


@pytest.mark.parametrize("value", MODES)
def test_rp_ans_12_a_mode_that_yaml_has_read_is_refused(value: int) -> None:
    """0755 is 493 by YAML, and 755 may be meant as either; neither becomes the mode of a directory."""
    error = refused({"mode": value})
    assert (error.subject, error.value) == ("exports[0].mode", value)
    assert "octal digits in quotes" in error.allowed


def test_rp_ans_12_has_both_modes() -> None:
    assert MODES == [0o755, 755]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["rw", "nosuch"], "nosuch"),
        (["rw, sync"], "blank"),
        (["(rw)"], "parentheses"),
        (["fsid=0"], "the option fsid"),
        (["squash_uids=0-5"], "all_squash"),
        (["maproot=root"], "BSD"),
        (["rw", ""], "empty option"),
        (["rw,,sync"], "empty option"),
        (["RW"], "RW"),
        (["anonuid=mysql"], "mysql"),
        (["sec=kerberos"], "kerberos"),
        (["xprtsec=ssl"], "ssl"),
        (["rw#"], "#"),
    ],
)
def test_refused_options(words: list[str], named: str) -> None:
    error = refused({"options": words})
    assert error.subject == "exports[0].clients[0].options"
    assert named in str(error)


def test_rp_nfs_02_and_others_in_clients() -> None:
    for client in ("192.0.2.0/24 ", "(rw,insecure)", "gss/krb5i", "192.0.2.201/210", "a,b", ""):
        error = refused({"clients": [{"client": client}]})
        assert error.subject == "exports[0].clients[0].client"
        assert repr(client) in str(error)


def test_too_long_for_exportfs() -> None:
    assert "511" in str(refused({"options": ["refer=/" + "x" * 500]}))


def test_no_client_is_the_world() -> None:
    assert "whole world" in str(refused({"clients": []}))


def test_twice() -> None:
    assert "stands twice" in str(refused({}, {"path": "/srv/a/"}))
    assert "stands twice" in str(refused({"clients": [{"client": "192.0.2.0/24"}, {"client": "192.0.2.9/24"}]}))
    error = refused({"fsid": "7"}, {"path": "/srv/b", "fsid": "7"})
    assert error.subject == "exports[1].fsid"
    assert "/srv/a" in str(error)


@pytest.mark.parametrize(
    ("fsid", "identity"),
    [("0", "0"), (0, "0"), ("root", "0"), ("7", "7"), ("none", ""),
     ("12345678-9abc-def0-1234-56789abcdef0", "123456789abcdef0123456789abcdef0")],
)  # fmt: skip
def test_fsid(fsid: Any, identity: str) -> None:
    assert parse_desired(params({"fsid": fsid})).exports[0].clients[0][1].identity == identity


@pytest.mark.parametrize("fsid", ["mysql-0", "12345678", "0 ", "a,b", "(1)"])
def test_bad_fsid(fsid: str) -> None:
    if fsid == "12345678":
        assert parse_desired(params({"fsid": fsid})).exports[0].clients[0][1].fsid == 12345678
        return
    assert refused({"fsid": fsid}).subject == "exports[0].fsid"


def test_fsid_comes_from_the_seed_and_not_from_the_path() -> None:
    seeded = {"fsid_seed": "default/mysql/0"}
    one = parse_desired(params({"path": "/a", **seeded})).exports[0].clients[0][1].uuid_text
    other = parse_desired(params({"path": "/b", **seeded})).exports[0].clients[0][1].uuid_text
    assert one == other == "70bf8dba-0717-5627-8dc9-9610fdf34699"


@given(st.text(max_size=30), st.text(max_size=30))
def test_derived_identities(one: str, other: str) -> None:
    assert uuid.UUID(derive_fsid(one)).version == 5
    assert (derive_fsid(one) == derive_fsid(other)) == (one == other)


def test_absent() -> None:
    whole: Desired = parse_desired(params(state="absent"))
    assert whole.purge
    assert not whole.exports
    some = parse_desired(params({"path": "/srv/a"}, state="absent"))
    assert some.withdrawn == ("/srv/a",)
    assert not some.purge
    mixed = parse_desired(params({"path": "/srv/a"}, {"path": "/srv/b", "state": "absent"}))
    assert mixed.withdrawn == ("/srv/b",)
    assert mixed.purge
    assert "nothing to export" in str(refused())


def test_machines_need_addresses() -> None:
    assert refused({}, machines=[{"name": "n1", "addresses": []}]).subject == "machines[0].addresses"


def test_owner_names() -> None:
    assert refused({"owner": "my sql"}).subject == "exports[0].owner"


@given(st.text(min_size=1, max_size=20))
def test_what_is_written_is_read_back(text: str) -> None:
    try:
        path = parse_path("/srv/" + text.encode("utf-8", "replace").decode(), "path")
    except InvalidInput:
        return
    options = parse_option_list(["rw", "all_squash"], "options")
    raw = render_drop_in("mysql", [(path, [("192.0.2.1", options), ("*", options)])])
    parsed = parse_exports(raw, "f")
    assert [(entry.path, entry.client) for entry in parsed.entries] == [(path, "192.0.2.1"), (path, "*")]
    assert not parsed.problems
    assert decode(raw).startswith("# mysql:")
