# SPDX-License-Identifier: GPL-3.0-or-later
"""Each case of tests/unit/cases/exports: the table, the exit status and what our tools must say.

The same cases run against the real exportfs on the lab (tests/lab/test_exports.py), so that both cannot drift apart.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import parse_exports, printable
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_clients import (
    ClientKind,
    Host,
    classify,
    parse_address,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_plan import parse_files
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_steps import FileText, Snapshot
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import (
    Facts,
    PathFact,
    Table,
    build_table,
    reading_order,
    reads_file,
)

FOLDER = Path(__file__).parents[3] / "cases" / "exports"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in (yaml.safe_load(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.yml")))
}

# What our tools must say of each case, as codes; a code with '!' means that exportfs fails or loses an export for it.
# The cases' prose (warnings, collection_must) says why. Cases that are not here must draw no remark at all.
SAYS: dict[str, set[str]] = {
    "ex-02-blank-trap": {"no_options", "blank_before_options", "world", "insecure"},
    "ex-03-blank-after-comma": {"bad_option_list!"},
    "ex-04-unquoted-blank-path": {"no_options", "unresolved!", "missing_path!", "world", "not_a_mountpoint!"},
    "ex-05-unquoted-blank-path-client": {"no_options", "bad_address!"},
    "ex-08-single-quotes": {"no_options", "unresolved!", "relative_path!"},
    "ex-09-escaped-quotes": {"no_options", "unknown_keyword!", "relative_path!"},
    "ex-10-bsd-options": {"unknown_keyword!"},
    "ex-11-dash-defaults": {"no_root_squash"},
    "ex-12-dash-defaults-twice": {"no_root_squash"},
    "ex-13-no-options": {"no_options"},
    "ex-14-path-only": {"no_client", "world"},
    "ex-15-options-without-host": {"blank_before_options", "world", "no_root_squash"},
    "ex-16-duplicate-same-file": {"duplicate!", "world"},
    "ex-17-duplicate-conflict": {"conflict!"},
    "ex-18-duplicate-two-files": {"conflict!"},
    "ex-19-same-path-other-clients-two-files": {"world"},
    "ex-20-bad-prefix": {"bad_prefix!"},
    "ex-21-host-bits-set": {"host_bits", "no_root_squash", "insecure"},
    "ex-23-ipv6-brackets": {"bracketed_client!", "no_root_squash"},
    "ex-24-wildcards": {"address_pattern"},
    "ex-26-hostnames": {"unresolved!"},
    "ex-27-name-and-address-same-host": {"conflict!"},
    "ex-28-sec-list": {"world", "insecure", "async"},
    "ex-30-gss-client": {"gss_client"},
    "ex-31-bad-sec": {"unknown_flavour!"},
    "ex-32-fsid-forms": {"fsid_twice"},
    "ex-33-fsid-bad": {"bad_fsid!"},
    "ex-35-unsupported-fs": {"unexportable"},
    "ex-36-missing-dir": {"missing_path!", "world"},
    "ex-37-file-not-dir": {"relative_path!", "not_a_directory!"},
    "ex-40-continuation-broken": {
        "broken_continuation",
        "no_options",
        "unresolved!",
        "no_client",
        "relative_path!",
        "world",
    },
    "ex-41-continuation-in-options": {"bad_option_list!"},
    "ex-46-bom": {"byte_order_mark", "relative_path!"},
    "ex-48-long-line": {"no_root_squash"},
    "ex-49-long-token": {"word_too_long!"},
    "ex-52-mp": {"not_a_mountpoint!"},
    "ex-54-anon-name": {"bad_anon_id!"},
    "ex-55-unknown-keyword": {"unknown_keyword!"},
    "ex-56-contradiction": {"unknown_keyword!"},
    "ex-57-same-client-twice-in-line": {"conflict!"},
    "ex-58-trailing-slash": {"conflict!"},
    "ex-59-unclosed": {"bad_option_list!"},
    "ex-60-extra-paren": {"bad_option_list!"},
    "ex-61-comma-clients": {"unresolved!"},
    "ex-62-world-forms": {"world"},
    "ex-63-overlap": {"world", "no_root_squash"},
    "ex-64-nested": {"nested", "no_root_squash"},
    "ex-65-xprtsec": {"unknown_transport!"},
    "ex-66-old-options": {"unknown_keyword!", "pnfs"},
    "ex-67-squash-ids": {"unknown_keyword!"},
    "ex-70-bad-octal": {"missing_path!"},
    "ex-71-error-in-first-of-two-files": {"unknown_keyword!"},
    "ex-72-dir-named-exports": {"unreadable!"},
    "ex-73-comment-backslash": {"no_client", "relative_path!", "world"},
    "ex-74-hash-glued": {"bad_option_list!"},
    "ex-75-continuation-glued": {"async", "subtree_check"},
    "ex-77-fsid-large": {"async", "no_root_squash"},
    "ex-79-managed-block": {"no_root_squash"},
    "ex-80-sec-world": {"world"},
    "ex-81-k8s-tutorial": {"world", "no_root_squash", "insecure"},
    "ex-82-function-not-implemented": {"unresolved!"},
}
# What the shell lines under `also` make of paths.
MADE = {
    "ex-34-needs-fsid": {"/run/case-tmpfs": PathFact("directory", "/run/case-tmpfs", "tmpfs")},
    "ex-35-unsupported-fs": {"/srv/case/ovl": PathFact("directory", "/srv/case/ovl", "overlay", True)},
    "ex-37-file-not-dir": {"/srv/case/plainfile": PathFact("file", "/srv/case/plainfile", "ext4")},
    "ex-58-trailing-slash": {"/srv/case/link": PathFact("directory", "/srv/case/a", "ext4")},
}


def case_facts(case: dict[str, Any], paths: set[str], clients: set[str]) -> Facts:
    """What a server with the case's directories and hosts file knows."""
    hosts: dict[str, Host | None] = {}
    for line in case["needs"].get("hosts", "").splitlines():
        address, canonical, *aliases = line.split()
        for name in (canonical, *aliases):
            hosts[name] = Host(canonical, (address,))
    for client in clients:
        if classify(client) is ClientKind.HOST and parse_address(client) is None:
            hosts.setdefault(client, None)
    directories = set(case["needs"]["directories"])
    directories |= {str(parent) for one in directories for parent in Path(one).parents}
    facts = dict(MADE.get(case["id"], {}))
    for path in paths:
        plain = posixpath.normpath(path) if path.startswith("/") else path
        there = plain in directories
        facts.setdefault(path, PathFact("directory" if there else "missing", plain if there else path, "ext4"))
    return Facts(hosts, facts)


def case_files(case: dict[str, Any]) -> tuple[FileText, ...]:
    """The files in the order in which exportfs reads them; others are left out, as by the observer."""
    given = {one["name"]: one["text"] for one in case.get("files") or [{"name": case["file"], "text": case["text"]}]}
    texts = {name: FileText(name, text.encode()) for name, text in given.items()}
    if case["id"] == "ex-72-dir-named-exports":
        name = "/etc/exports.d/dangling.exports"
        texts[name] = FileText(name, None, "No such file or directory")
    names = [name for name in texts if name == "/etc/exports"]
    folder = "/etc/exports.d/"
    names += [folder + name for name in reading_order(name[len(folder) :] for name in texts if name.startswith(folder))]
    return tuple(texts[name] for name in names)


def case_table(case: dict[str, Any]) -> Table:
    files = parse_files(Snapshot(files=case_files(case)))
    entries = [entry for file in files for entry in file.entries]
    options = [entry.options.mountpoint for entry in entries if entry.options.mountpoint]
    facts = case_facts(case, {entry.path for entry in entries} | set(options), {entry.client for entry in entries})
    return build_table(files, facts)


@pytest.mark.parametrize("name", CASES)
def test_table(name: str) -> None:
    case = CASES[name]
    rows = [
        {"path": row.path, "client": row.client, "options": render_table_options(row.entry.options)}
        for row in case_table(case).rows
    ]
    wanted = case["expect"]["exports"]
    if "count" in case["expect"]:
        # The case shows the first two and the last two of many.
        assert len(rows) == case["expect"]["count"]
        rows = rows[:2] + rows[-2:]
    assert rows == wanted


@pytest.mark.parametrize("name", CASES)
def test_exit_status(name: str) -> None:
    assert case_table(CASES[name]).status == CASES[name]["expect"]["exit_status"]


@pytest.mark.parametrize("name", CASES)
def test_says(name: str) -> None:
    problems = case_table(CASES[name]).problems
    said = {problem.code + ("!" if problem.fails or problem.loses else "") for problem in problems}
    assert said == SAYS.get(name, set()), [problem.describe() for problem in problems]


def test_every_case_is_known() -> None:
    assert len(CASES) == 79
    assert set(SAYS) <= set(CASES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ex-02-blank-trap", ["192.0.2.0/24 before the blank", "whole world"]),
        ("ex-03-blank-after-comma", ["/etc/exports.d/case.exports:1:", "nothing after it"]),
        ("ex-10-bsd-options", ["maproot", "BSD"]),
        ("ex-17-duplicate-conflict", [":2:", "/etc/exports.d/case.exports:1, which wins"]),
        ("ex-18-duplicate-two-files", ["/etc/exports.d/20-two.exports:1:", "/etc/exports:1, which wins"]),
        ("ex-20-bad-prefix", ["210"]),
        ("ex-27-name-and-address-same-host", ["192.0.2.11 (the same machine as client1.example.org)"]),
        ("ex-30-gss-client", ["sec=krb5i"]),
        ("ex-35-unsupported-fs", ["/srv/case/ovl", "overlay"]),
        ("ex-46-bom", ["byte order mark"]),
        ("ex-54-anon-name", ["anonuid=mysql"]),
        ("ex-59-unclosed", [":1:"]),
        ("ex-60-extra-paren", [":2:"]),
        ("ex-66-old-options", ["link_relative", "long ago"]),
        ("ex-67-squash-ids", ["'20'"]),
        ("ex-72-dir-named-exports", ["dangling.exports"]),
    ],
)
def test_names_the_culprit(name: str, words: list[str]) -> None:
    said = "\n".join(problem.describe() for problem in case_table(CASES[name]).problems)
    for word in words:
        assert word in said


def test_world_is_reported_alike_in_all_forms() -> None:
    said = [p for p in case_table(CASES["ex-62-world-forms"]).problems if p.code == "world"]
    assert [(p.path, p.client) for p in said] == [
        ("/srv/case/a", "*"),
        ("/srv/case/b", "0.0.0.0/0"),
        ("/srv/case/b", "::/0"),
    ]


def build(text: str, **facts: Any) -> Table:
    return build_table([parse_exports(text.encode(), "/etc/exports")], Facts(**facts))


def test_rp_nfs_13_root_of_the_tree_lacks_a_flavour() -> None:
    table = build("/srv 192.0.2.0/24(ro,fsid=0)\n/srv/a 192.0.2.0/24(rw,sec=krb5)\n")
    said = [p for p in table.problems if p.code == "root_lacks_flavour"]
    assert len(said) == 1
    assert "krb5" in said[0].text
    assert "/srv/a" in said[0].text
    both = build("/srv 192.0.2.0/24(ro,fsid=0,sec=sys:krb5)\n/srv/a 192.0.2.0/24(rw,sec=krb5)\n")
    assert not [p for p in both.problems if p.code == "root_lacks_flavour"]


def test_one_network_in_two_notations() -> None:
    table = build("/srv/a 192.0.2.0/24(ro) 192.0.2.0/255.255.255.0(rw)\n")
    assert len(table.rows) == 2
    assert [p.code for p in table.problems] == ["same_network"]


def test_fsid_is_compared_modulo_two_to_the_32() -> None:
    table = build("/a 192.0.2.1(ro,fsid=3627484160)\n/b 192.0.2.1(ro,fsid=-667483136)\n/c 192.0.2.1(ro,fsid=7)\n")
    assert [(p.code, p.path) for p in table.problems] == [("fsid_twice", "/b")]


def test_overlay_that_can_be_exported() -> None:
    fact = PathFact("directory", "/a", "overlay", True, mount_options=("rw", "index=on", "nfs_export=on"))
    assert build("/a 192.0.2.1(ro)\n", paths={"/a": fact}).problems == ()


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10-a.exports", "9-b.exports"], ["9-b.exports", "10-a.exports"]),
        (["a.exports", "B.exports"], ["B.exports", "a.exports"]),
        (["a1.exports", "a01.exports"], ["a01.exports", "a1.exports"]),
        (["a10.exports", "a010.exports", "a00.exports", "a0.exports"],
         ["a00.exports", "a010.exports", "a0.exports", "a10.exports"]),
        (["x.conf", ".h.exports", "x.exports~", ".exports", "U.EXPORTS", "noext"], []),
    ],
)  # fmt: skip
def test_reading_order(names: list[str], order: list[str]) -> None:
    assert reading_order(names) == order
    assert [name for name in names if reads_file(name)] == [name for name in names if name in order]


def test_printable() -> None:
    assert printable("/a\udcff\n") == "/a\\xff\\n"
