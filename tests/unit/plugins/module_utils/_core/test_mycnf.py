# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.mycnf import (
    OWNED,
    WHOLE,
    plain_name,
    render_user_config,
)

BOOT = Path(__file__).parents[5] / "roles" / "pet_set" / "files" / "boot"


def render(settings: dict[Any, Any], *, relaxed: bool = False) -> str:
    return render_user_config("mysql_config", settings, relaxed=relaxed)


def test_settings_become_lines() -> None:
    settings = {
        "max-connections": 400,
        "innodb_print_all_deadlocks": False,
        "long_query_time": 0.5,
        "sql_mode": "ANSI,STRICT_ALL_TABLES",
        "init_connect": "SET @a='x # y'",
        "character_set_server": " x",
    }
    assert render(settings).splitlines() == [
        "[mysqld]",
        'character_set_server = " x"',
        "init_connect = \"SET @a='x # y'\"",
        "innodb_print_all_deadlocks = OFF",
        "long_query_time = 0.5",
        "max_connections = 400",
        "sql_mode = ANSI,STRICT_ALL_TABLES",
    ]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Sync-Binlog", "sync_binlog"), ("loose-skip-log-bin", "log_bin"), ("disable_log_bin", "log_bin")],
)
def test_names_as_the_server_sees_them(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    "name",
    [
        "datadir", "server-id", "skip-log-bin", "disable_log_bin", "loose_super_read_only", "skip_name_resolve",
        "SERVER_ID", "server_i", "skip-replica-start", "loose_rpl_semi_sync_source_enabled", "socket", "gtid-mode",
        "skip-grant-tables", "init_file",
    ],
)  # fmt: skip
def test_what_makes_the_pet_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="set by the collection") as problem:
        render({name: "x"})
    assert name in str(problem.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sync_binlog", 0),
        ("sync-binlog", "1000"),
        ("innodb_flush_log_at_trx_commit", 2),
        ("innodb_doublewrite", False),
        ("innodb_doublewrite", "DETECT_ONLY"),
        ("skip_innodb_doublewrite", True),
        ("innodb_flush_method", "nosync"),
        ("loose_sync_binlog", 0),
    ],
)
def test_durability_is_weakened_only_on_purpose(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="durability: relaxed"):
        render({name: value})
    assert name.replace("-", "_") in render({name: value}, relaxed=True)


@pytest.mark.parametrize("form", ["{}", "loose_{}", "skip_{}", "loose-skip-{}", "disable_{}"])
@pytest.mark.parametrize("dashes", [True, False])
@pytest.mark.parametrize("name", WHOLE)
def test_what_keeps_transactions_from_a_pet_is_refused(name: str, dashes: bool, form: str) -> None:
    """A filter or skipped errors were taken with durability full, and a standby without the rows could take over."""
    spelled = form.format(name.replace("_", "-") if dashes else name)
    for relaxed in (True, False):
        with pytest.raises(
            InvalidInput, match=r"not have, or not pass on, every transaction|set by the coll"
        ) as problem:
            render({spelled: "shop"}, relaxed=relaxed)
        assert spelled in str(problem.value)
    if WHOLE[name] and form in ("{}", "loose_{}"):
        assert all(name in render({spelled: value.lower()}) for value in WHOLE[name])


@pytest.mark.parametrize(
    "name", ["replica-skip-err", "log_slave_updates", "skip-log-replica-updates", "REPLICATE_do_db"]
)
def test_other_spellings_of_what_keeps_transactions_from_a_pet(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"every transaction|set by the collection"):
        render({name: "OFF" if "log" in name else "1062"})


def test_recovery_by_force_is_for_those_who_say_so() -> None:
    assert "innodb_force_recovery = 0" in render({"innodb_force_recovery": 0})
    assert "innodb_force_recovery = 6" in render({"innodb_force_recovery": 6}, relaxed=True)
    with pytest.raises(InvalidInput, match="durability: relaxed"):
        render({"innodb_force_recovery": 6})


@pytest.mark.parametrize(("name", "value"), [("sync_binlog", 1), ("sync_binlog", "1"), ("innodb_doublewrite", True)])
def test_safe_values_may_be_said(name: str, value: Any) -> None:
    assert name in render({name: value})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"a b": 1}, "not the name"),
        ({"[client]": 1}, "not the name"),
        ({1: 1}, "not the name"),
        ({"x": "a\n[client]"}, "line break"),
        ({"x": [1]}, "not a value"),
        ({"x": None}, "not a value"),
        ({"max_connections": 1, "max-connections": 2}, "twice"),
    ],
)
def test_bad_settings(settings: dict[Any, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        render(settings)


def test_the_table_covers_what_the_start_up_program_sets_last() -> None:
    text = (BOOT / "petset.cnf.in").read_text()
    own = text[text.index("# ---- the pet") :]
    names = {plain_name(name) for name in re.findall(r"^([a-z_]+) =", own, re.MULTILINE)} - {"plugin_load_add"}
    assert len(names) > 20
    assert names <= OWNED


@pytest.mark.parametrize("name", ["default_authentication_plugin", "loose-default-authentication-plugin"])
def test_rp_rep_10_a_removed_setting_is_refused_with_what_took_its_place(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"MySQL 8\.4 and later") as problem:
        render({name: "mysql_native_password"})
    assert "authentication_policy" in str(problem.value)
