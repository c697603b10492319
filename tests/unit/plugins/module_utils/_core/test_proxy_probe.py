# SPDX-License-Identifier: GPL-3.0-or-later
"""What proxies say, read and compared; tests/api has the answers of a real one."""

from __future__ import annotations

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import ProxyConfig
from ansible_collections.stateful.petset.plugins.module_utils._core.proxy_probe import (
    Loaded,
    Server,
    View,
    judge_views,
    load_command,
    look_command,
    parse_answer,
    parse_view,
    table_of_proxies,
    try_command,
)
from hypothesis import given
from hypothesis import strategies as st

CONFIG = ProxyConfig(("mysql-0",), "db.default.svc.cluster.local")
HEAD = "# pxname,svname,scur,status,check_status,check_code,last_chk,lastchg,addr,\n"


def view(*writers: str, live: str = "h", readers: tuple[str, ...] = ("mysql-0", "mysql-1")) -> View:
    servers = [Server("writer", pet, True, "UP") for pet in writers]
    return View(live, live, (*servers, *(Server("reader", pet, True, "UP") for pet in readers)))


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("taken\n", Loaded.LIVE, ""),
        ("live\n", Loaded.LIVE, ""),
        ("loaded\n", Loaded.JUST_NOW, ""),
        ("mounted 0123\n", Loaded.NOT_MOUNTED, "0123"),
        ("mounted \n", Loaded.NOT_MOUNTED, ""),
        ("still 0123\n", Loaded.STILL_OLD, "0123"),
        ("refused\n[NOTICE] x\n[ALERT] a\n[ALERT] b\n", Loaded.REFUSED, "[ALERT] a | [ALERT] b"),
        ("refused\nsh: haproxy: not found\n", Loaded.REFUSED, "sh: haproxy: not found"),
        ("", Loaded.UNKNOWN, ""),
        ("something else\n", Loaded.UNKNOWN, "else"),
    ],
)
def test_answers(text: str, state: Loaded, words: str) -> None:
    answer = parse_answer(text)
    assert (answer.state, answer.words) == (state, words)
    assert answer.done is (state in (Loaded.LIVE, Loaded.JUST_NOW))


@pytest.mark.parametrize(
    ("status", "up"),
    [("UP", True), ("UP 1/3", True), ("DOWN", False), ("DOWN 1/2", False), ("MAINT", False), ("NOLB", False)],
)
def test_a_server_is_up_only_when_haproxy_says_so(status: str, up: bool) -> None:
    seen = parse_view(f"mounted h\nlive h\n{HEAD}writer,mysql-0,3,{status},L7OK,200,OK,7,10.0.0.1:3306,\n")
    assert [server.up for server in seen.servers] == [up]
    assert seen.servers[0].sessions == 3


def test_rows_of_front_ends_and_sums_are_no_pets() -> None:
    rows = "writer_clients,FRONTEND,0,OPEN,,,,,,\nwriter,BACKEND,0,UP,,,,1,,\nstats,FRONTEND,0,OPEN,,,,,,\n"
    assert parse_view(f"mounted h\nlive h\n{HEAD}{rows}").servers == ()


@pytest.mark.parametrize("text", ["", "mounted h\nlive \n", "mounted h\n<html>busy</html>"])
def test_no_statistics_are_a_failure_and_not_an_empty_view(text: str) -> None:
    assert parse_view(text).failure


@given(st.text(max_size=300))
def test_whatever_a_pod_prints_is_read(text: str) -> None:
    parse_answer(text)
    parse_view(text)
    parse_view(f"{HEAD}{text}")


@pytest.mark.parametrize(
    ("views", "mode", "agree", "writers", "words"),
    [
        ({}, "single_writer", None, (), []),
        ({"a": view("mysql-0"), "b": view("mysql-0")}, "single_writer", True, ("mysql-0",), []),
        (
            {"a": view("mysql-0"), "b": view("mysql-1")},
            "single_writer",
            False,
            ("mysql-0", "mysql-1"),
            ["do not agree"],
        ),
        ({"a": view("mysql-0"), "b": view()}, "single_writer", False, ("mysql-0",), ["b: none"]),
        ({"a": view(), "b": view()}, "single_writer", True, (), ["no pet takes writes"]),
        ({"a": view("mysql-0"), "b": View(failure="away")}, "single_writer", None, ("mysql-0",), ["b: away"]),
        ({"a": View(failure="away")}, "single_writer", None, (), ["a: away"]),
        (
            {"a": view("mysql-0"), "b": view("mysql-1"), "c": View(failure="away")},
            "single_writer",
            False,
            ("mysql-0", "mysql-1"),
            ["do not agree", "c: away"],
        ),
        ({"a": view("mysql-0", "mysql-1")}, "single_writer", True, ("mysql-0", "mysql-1"), ["more than one pet"]),
        ({"a": view("mysql-0", "mysql-1")}, "spread", True, ("mysql-0", "mysql-1"), []),
        ({"a": view("mysql-0", live="old")}, "single_writer", True, ("mysql-0",), ["configuration old, wanted is h"]),
        ({"a": view("mysql-0", live="")}, "single_writer", True, ("mysql-0",), ["configuration (none)"]),
    ],
)
def test_verdicts(
    views: dict[str, View], mode: str, agree: bool | None, writers: tuple[str, ...], words: list[str]
) -> None:
    verdict = judge_views(views, "h", mode)
    assert (verdict.agree, verdict.writers) == (agree, writers)
    assert len(verdict.troubles) == len(words)
    for word in words:
        assert any(word in trouble for trouble in verdict.troubles), verdict.troubles
    # What a proxy that answers says is certain; only of one that does not, nothing is.
    assert verdict.uncertain == tuple(f"{name}: {one.failure}" for name, one in views.items() if one.failure)
    assert set(verdict.uncertain) <= set(verdict.troubles)


def test_the_table_keeps_what_is_not_known_apart() -> None:
    verdict = judge_views({"a": view(), "b": View(failure="away")}, "h", "single_writer")
    assert table_of_proxies([], verdict).splitlines()[1:] == ["not known: b: away", "no pet takes writes"]


def test_readers_are_those_of_all() -> None:
    views = {"a": view("mysql-0"), "b": view("mysql-0", readers=("mysql-1", "mysql-2"))}
    assert judge_views(views, "h", "single_writer").readers == ("mysql-1",)


def test_commands_carry_no_text_of_a_user_into_the_shell() -> None:
    for command in (try_command("x'; rm -rf /"), load_command(CONFIG, "0123"), look_command(CONFIG)):
        assert command[:2] == ["/bin/sh", "-c"]
        assert "rm -rf" not in command[2]
