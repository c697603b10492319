# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of HAProxy as text; tests/api asks the real program."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import (
    Ports,
    ProxyConfig,
    Times,
    config_hash,
    read_hash,
    render_config,
    render_files,
)
from hypothesis import given
from hypothesis import strategies as st

CONFIG = ProxyConfig(("mysql-0", "mysql-1", "mysql-2"), "db.default.svc.cluster.local")


def section(text: str, title: str) -> list[str]:
    """The lines of one section, without their indent."""
    for one in text.split("\n\n"):
        lines = one.splitlines()
        while lines and lines[0].startswith("#"):
            lines.pop(0)
        if lines and lines[0] == title:
            return [line.strip() for line in lines[1:]]
    raise AssertionError(f"no section {title}")


def servers(text: str, backend: str) -> list[str]:
    return [line.split()[1] for line in section(text, f"backend {backend}") if line.startswith("server ")]


def test_masters_are_written_to_and_all_pets_are_read_from() -> None:
    text = render_config(CONFIG)
    assert servers(text, "writer") == ["mysql-0", "mysql-1"]
    assert servers(text, "reader") == ["mysql-0", "mysql-1", "mysql-2"]
    assert "server mysql-1 mysql-1.db.default.svc.cluster.local.:3306" in section(text, "backend writer")


@pytest.mark.parametrize(("masters", "expected"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_no_more_masters_than_pets(masters: int, expected: int) -> None:
    assert len(servers(render_config(replace(CONFIG, masters=masters)), "writer")) == expected


# rp-hap-01, rp-hap-02, rp-hap-03: the pets' agents are asked, over HTTP. mysql-check cannot log in, a plain connection
# says nothing about writing and makes MySQL block the proxy, and neither knows anything of require_secure_transport.
@pytest.mark.parametrize("backend", ["writer", "reader"])
def test_rp_hap_01_02_03_agents_are_asked_and_mysqld_is_left_alone(backend: str) -> None:
    lines = section(render_config(CONFIG), f"backend {backend}")
    assert "option httpchk" in lines
    assert f"http-check send meth GET uri /{backend} ver HTTP/1.1 hdr Host {backend}" in lines
    assert "http-check expect status 200" in lines
    (defaults,) = (line for line in lines if line.startswith("default-server "))
    assert "check port 8008 " in defaults
    assert "mysql-check" not in render_config(CONFIG)
    assert "tcp-check" not in render_config(CONFIG)


def test_rp_dns_02_no_name_has_to_be_there_when_the_proxy_starts() -> None:
    text = render_config(CONFIG)
    assert section(text, "resolvers cluster")
    for backend in ("writer", "reader"):
        lines = section(text, f"backend {backend}")
        (defaults,) = (line for line in lines if line.startswith("default-server "))
        assert " resolvers cluster " in defaults
        assert re.search(r" init-addr (\S+,)?none ", defaults), "none is the last resort"
        assert not [line for line in lines if line.startswith("server ") and "init-addr" in line]


def test_rp_hap_05_sessions_end_with_their_pet_and_nobody_is_preferred() -> None:
    text = render_config(CONFIG)
    for backend in ("writer", "reader"):
        (defaults,) = (line for line in section(text, f"backend {backend}") if line.startswith("default-server "))
        assert "on-marked-down shutdown-sessions" in defaults
        assert "fall 1 rise 1" in defaults
    assert "backup" not in text
    assert "stick" not in text
    # Should two pets ever offer to be the writer, all proxies choose the same one.
    assert "balance first" in section(text, "backend writer")


def test_rp_hap_06_a_pet_with_a_new_address_is_found_and_comes_up_by_its_check() -> None:
    text = render_config(CONFIG)
    assert "hold valid 1s" in section(text, "resolvers cluster")
    for backend in ("writer", "reader"):
        (defaults,) = (line for line in section(text, f"backend {backend}") if line.startswith("default-server "))
        assert "resolvers cluster" in defaults
        assert "init-addr none init-state down" in defaults


def test_rp_hap_07_the_last_line_is_ended_and_names_are_unique() -> None:
    for text in render_files(CONFIG).values():
        assert text.endswith("\n")
        assert "\r" not in text
    with pytest.raises(InvalidInput, match="each name once"):
        render_config(replace(CONFIG, pets=("mysql-0", "mysql-0")))


def test_writes_are_spread_when_that_is_wanted() -> None:
    assert "balance leastconn" in section(render_config(replace(CONFIG, mode="spread")), "backend writer")


def test_times() -> None:
    text = render_config(replace(CONFIG, times=Times(check_ms=300, connect_ms=400, waiting_ms=0 + 50, idle_s=100)))
    lines = section(text, "defaults")
    assert "timeout connect 400ms" in lines
    assert "timeout client 100s" in lines
    assert "timeout server 100s" in lines
    assert " inter 300ms " in text
    assert "lua.petset_wait writer 50 if { nbsrv(writer) eq 0 }" in text


def test_a_session_outlives_the_wait_timeout_of_mysql() -> None:
    assert Times().idle_s > 8 * 3600


@pytest.mark.parametrize(("family", "bind", "prefer"), [("ipv4", ":3306", "ipv4"), ("ipv6", ":::3306 v4v6", "ipv6")])
def test_families(family: str, bind: str, prefer: str) -> None:
    text = render_config(replace(CONFIG, family=family))
    assert f"bind {bind}" in section(text, "frontend writer_clients")
    assert f"resolve-prefer {prefer}" in text


def test_nobody_gets_a_way_to_command_the_proxy() -> None:
    text = render_config(CONFIG)
    assert "stats socket" not in text
    assert "stats admin" not in text
    assert "level admin" not in text


# --- the hash ---


def test_the_hash_is_told_in_the_file_and_by_the_proxy() -> None:
    text = render_config(CONFIG)
    assert read_hash(text) == config_hash(CONFIG)
    assert f'string "{config_hash(CONFIG)}" if {{ path /config-hash }}' in text


@pytest.mark.parametrize("text", ["", "global\n", "\n# config-hash: 1\n"])
def test_a_file_without_hash(text: str) -> None:
    assert read_hash(text) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"pets": ("mysql-0", "mysql-1")},
        {"masters": 1},
        {"mode": "spread"},
        {"domain": "db.other.svc.cluster.local"},
        {"max_connections": 100},
        {"threads": 1},
        {"family": "ipv6"},
        {"times": Times(check_ms=201)},
        {"ports": Ports(health=8009)},
    ],
)
def test_the_hash_changes_with_everything(change: dict[str, Any]) -> None:
    assert config_hash(replace(CONFIG, **change)) != config_hash(CONFIG)
    assert config_hash(replace(CONFIG)) == config_hash(CONFIG)


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pets": ()}, "pets"),
        ({"pets": ("mysql 0",)}, "'mysql 0'"),
        ({"pets": ("mysql-0\n    server evil 192.0.2.1",)}, "pets"),
        ({"pets": ("x" * 64,)}, "at most 63"),
        ({"domain": "db.default."}, "domain"),
        ({"domain": "db..svc"}, "domain"),
        ({"domain": "db.default check"}, "domain"),
        ({"mode": "both"}, "single_writer or spread"),
        ({"family": "any"}, "ipv4 or ipv6"),
        ({"masters": 0}, "masters"),
        ({"masters": True}, "masters"),
        ({"threads": 0}, "threads"),
        ({"threads": 65}, "from 1 to 64"),
        ({"max_connections": 9}, "max_connections"),
        ({"nameservers": ("localhost",)}, "address:port"),
        ({"bind_address": "all"}, "bind_address"),
        ({"ports": Ports(reader=3306)}, "three different ports"),
        ({"ports": Ports(stats=80)}, "ports.stats"),
        ({"ports": Ports(mysql=0)}, "ports.mysql"),
        ({"times": Times(check_ms=10)}, "timeouts.check_ms"),
        ({"times": Times(idle_s=0)}, "timeouts.idle"),
        ({"times": Times(waiting_ms=0)}, "timeouts.waiting_ms"),
        ({"times": Times(connect_ms=2.5)}, "timeouts.connect_ms"),  # type: ignore[arg-type]
    ],
)
def test_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        render_config(replace(CONFIG, **change))
    assert words in str(caught.value)


@given(
    st.lists(st.text(max_size=12), max_size=4),
    st.text(max_size=20),
    st.integers(-2, 70),
    st.integers(-1, 2_100_000),
)
def test_only_what_was_meant_gets_in(pets: list[str], domain: str, threads: int, number: int) -> None:
    """Whatever is given is refused, or stands in the file as exactly one word on the lines that it belongs to."""
    config = ProxyConfig(tuple(pets), domain, threads=threads, times=Times(idle_s=number), max_connections=number)
    try:
        text = render_config(config)
    except InvalidInput:
        return
    assert servers(text, "reader") == pets
    assert all(line.isascii() and len(line) < 500 for line in text.splitlines())
    assert len([line for line in text.splitlines() if line.lstrip().startswith("server ")]) == len(pets) * 2 - max(
        0, len(pets) - config.masters
    )
