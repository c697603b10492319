# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.nfs_proc import (
    Mount,
    NfsClient,
    OpenFile,
    ServerFacts,
    mount_of,
    parse_client_info,
    parse_kernel_table,
    parse_known_addresses,
    parse_mountinfo,
    parse_number,
    parse_refused,
    parse_states,
    parse_versions,
    review_server,
    strip_port,
    unescape,
)
from hypothesis import given
from hypothesis import strategies as st

INFO = """clientid: 0x6d0596d0675dfa8d
address: "[2001:db8::11]:890"
status: confirmed
seconds from last renew: 12
name: "Linux NFSv4.2 node-1"
minor version: 2
Implementation domain: "kernel.org"
callback state: UP
"""
STATES = """- 0x00000001: { type: open, access: rw, deny: --, superblock: "fd:10:13649", filename: "0/ibdata1" }
- 0x00000002: { type: lock, superblock: "fd:10:13649", filename: "0/ibdata1", owner: "x" }
- 0x00000003: { type: deleg, access: r, superblock: "00:2a:7", filename: "0/x" }
"""
MOUNTS = """22 1 98:0 / / rw,relatime shared:1 - ext4 /dev/root rw
25 22 0:22 / /srv rw - tmpfs none rw,size=1k
26 25 0:23 / /srv/my\\040data rw master:1 shared:2 - overlay overlay rw,lowerdir=/l,nfs_export=on
27 22 0:24 / /srvx rw - xfs /dev/b rw
"""


def test_client() -> None:
    assert parse_client_info(INFO) == NfsClient(
        "2001:db8::11", "Linux NFSv4.2 node-1", "4.2", "confirmed", 12, "0x6d0596d0675dfa8d"
    )


def test_states() -> None:
    assert parse_states(STATES) == (OpenFile((0xFD, 0x10), 13649), OpenFile((0, 0x2A), 7))


@pytest.mark.parametrize(
    ("text", "address"),
    [("192.0.2.11:890", "192.0.2.11"), ("[2001:db8::1]:1", "2001:db8::1"), ("2001:db8::1", "2001:db8::1"), ("", "")],
)
def test_ports(text: str, address: str) -> None:
    assert strip_port(text) == address


def test_versions() -> None:
    assert parse_versions("-2 -3 +4 -4.0 +4.1 +4.2\n") == {
        "2": False, "3": False, "4": True, "4.0": False, "4.1": True, "4.2": True
    }  # fmt: skip


def test_known_addresses() -> None:
    text = (
        "#class IP domain\nnfsd 192.0.2.11 192.0.2.0/24,*\n# nfsd 192.0.2.12 192.0.2.0/24\n"
        "nfsd 192.0.2.13 -no-domain-\nnfsd 192.0.2.14 $192.0.2.14\nnfsd ::ffff:192.0.2.15 *\nnfsd 2001:db8::1 *\n"
    )
    assert parse_known_addresses(text) == {
        "192.0.2.11": frozenset({"192.0.2.0/24", "*"}),
        "192.0.2.15": frozenset({"*"}),
        "2001:db8::1": frozenset({"*"}),
    }


def test_refused() -> None:
    """A negative entry has no flags; one that ran out has."""
    text = (
        "#path domain(flags)\n# /srv/a\t192.0.2.0/24()\n# /srv/b\t*(ro,sync)\n/srv/c\t*(ro)\n"
        "# expiry=1 refcnt=1 flags=5\n"
        "# /srv/my\\040data\t*()\n"
    )
    assert parse_refused(text) == (("/srv/a", "192.0.2.0/24"), ("/srv/my data", "*"))


def test_kernel_table() -> None:
    text = "# Version 1.1\n# Path Client(Flags) # IPs\n/srv/a\t192.0.2.0/24,*(rw,sync,uuid=1:2,sec=1)\n"
    assert parse_kernel_table(text) == (("/srv/a", "192.0.2.0/24"), ("/srv/a", "*"))


def test_mounts() -> None:
    mounts = parse_mountinfo(MOUNTS)
    assert mounts[2] == Mount("/srv/my data", "overlay", ("rw", "lowerdir=/l", "nfs_export=on"))
    for path, fstype in (("/srv", "tmpfs"), ("/srv/x", "tmpfs"), ("/srvy", "ext4"), ("/srv/my data/1", "overlay")):
        found = mount_of(path, mounts)
        assert found is not None
        assert found.fstype == fstype
    assert mount_of("/x", ()) is None


def test_a_later_mount_covers_an_earlier_one() -> None:
    found = mount_of("/a/b", (Mount("/a", "ext4", ()), Mount("/a", "tmpfs", ())))
    assert found is not None
    assert found.fstype == "tmpfs"


@given(st.text(max_size=200))
def test_parsers_never_raise(text: str) -> None:
    parse_client_info(text)
    parse_states(text)
    parse_versions(text)
    parse_known_addresses(text)
    parse_refused(text)
    parse_kernel_table(text)
    parse_mountinfo(text)
    unescape(text)
    parse_number(text)


def facts(threads: int = 8, lease_s: int | None = 30, **versions: bool) -> ServerFacts:
    return ServerFacts(threads, versions, lease_s, 30, (), (), (), "")


def test_review() -> None:
    assert review_server(facts()) == []
    said = [code for code, _text in review_server(ServerFacts(0, {"3": True, "4.0": True}, 120, 90, (), (), (), ""))]
    assert said == ["v3_served", "v4_0_served", "not_running", "long_lease"]
    assert [code for code, _text in review_server(facts(lease_s=100))] == ["long_lease"]
    assert review_server(facts(lease_s=99)) == []
