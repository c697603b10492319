# SPDX-License-Identifier: GPL-3.0-or-later
"""The option file, the user's settings in it, and text that goes into SQL."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.mycnf import OWNED, WHOLE, render_user_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.roles.pet_set.boot_rig import BOOT, Rig, in_each_shell

pytestmark = pytest.mark.programs
# Options that a server has only as skip_…: those of the table in mycnf.py are without it.
NEGATED = ("grant_tables", "networking", "slave_start")


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "pod", getattr(request, "param", ("sh",)))
    rig.fill()
    return rig


def start(rig: Rig, **environment: str) -> dict[str, str]:
    done = rig.run("start.sh", **environment)
    assert done.returncode == 0, done.stderr
    text = (rig.root / "petset" / "run" / "my.cnf").read_text()
    assert not re.search(r"@[A-Z_]+@", text)
    assert str(rig.root) in text
    return rig.settings


# ---- the option file -------------------------------------------------------------------------------------------------


@in_each_shell
def test_the_pets_own_settings(rig: Rig) -> None:
    got = start(rig)
    expected = {
        "server_id": "1001",
        "report_host": "mysql-1.db.default.svc.cluster.local",
        "super_read_only": "ON",
        "skip_replica_start": "ON",
        "persisted_globals_load": "OFF",
        "sync_binlog": "1",
        "innodb_flush_log_at_trx_commit": "1",
        "innodb_doublewrite": "ON",
        "binlog_error_action": "ABORT_SERVER",
        "require_secure_transport": "ON",
        "secure_file_priv": "NULL",
        "mysqlx": "OFF",
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        # A dead link is noticed in seconds and not in a minute; the agents' times are made for it.
        "replica_net_timeout": "10",
        "auto_increment_increment": "2",
        "auto_increment_offset": "2",
        "datadir": str(rig.data),
        "bind_address": "*",
    }
    assert {name: got[name] for name in expected} == expected
    # Off the volume: what dies with the process anyway.
    for name in ("socket", "pid_file", "tmpdir", "innodb_temp_tablespaces_dir"):
        assert got[name].startswith(str(rig.root / "petset" / "run"))


def test_settings_follow_the_kind_of_volume(rig: Rig) -> None:
    assert start(rig)["innodb_flush_method"] == "fsync"
    rig.mount(kind="ext4", options="rw")
    assert start(rig)["innodb_flush_method"] == "O_DIRECT"


@pytest.mark.parametrize("mib", [0, 256, 512, 768, 1024, 2048, 4096, 8192, 16384, 65536, 1048576])
def test_memory_fits_the_container(rig: Rig, mib: int) -> None:
    got = start(rig, PETSET_MEMORY_LIMIT_BYTES=str(mib << 20))
    pool, chunk = (int(got[f"innodb_buffer_pool_{name}"].removesuffix("M")) for name in ("size", "chunk_size"))
    instances = int(got["innodb_buffer_pool_instances"])
    # InnoDB rounds up to a multiple of chunk size times instances; nothing may be left to round.
    assert pool % (chunk * instances) == 0
    assert pool >= 64
    assert pool <= max(64, (mib or 768) - 480)
    assert pool >= 0.55 * (mib - 480)
    assert instances == 1 or pool >= 1024
    assert 64 <= int(got["max_connections"]) <= 1000
    assert pool <= 64 or int(got["temptable_max_ram"].removesuffix("M")) + pool < (mib or 768)


# The limit in MiB, and what becomes of the settings below with it.
BY_LIMIT = [
    (256, 64, 64, 16, 16, 400, 5, 16, 32, 32, 32, 2),
    (512, 64, 64, 25, 16, 512, 10, 25, 32, 32, 32, 2),
    (640, 112, 80, 32, 16, 640, 12, 32, 32, 32, 32, 2),
    (1024, 368, 128, 51, 25, 1024, 16, 51, 51, 51, 51, 2),
    (4096, 2304, 512, 204, 64, 4000, 16, 128, 204, 204, 204, 8),
    (65536, 45056, 1000, 1024, 64, 4000, 16, 128, 1000, 1000, 1000, 16),
]
FOLLOWING = (
    "innodb_buffer_pool_size",
    "max_connections",
    "temptable_max_ram",
    "innodb_log_buffer_size",
    "table_open_cache",
    "replica_parallel_workers",
    "replica_pending_jobs_size_max",
    "performance_schema_accounts_size",
    "performance_schema_hosts_size",
    "performance_schema_users_size",
    "MALLOC_ARENA_MAX",
)
# Those with a row of another form, or that share one.
UNROWED = {"innodb_buffer_pool_size", "performance_schema_hosts_size", "performance_schema_users_size"}


def following(rig: Rig, **environment: str) -> dict[str, int]:
    """What follows the limit, as mysqld gets it: from its option file and its environment."""
    rig.shim("mysqld", '#!/bin/sh\nprintf "%s" "${MALLOC_ARENA_MAX:-none}" >"$PETSET_ROOT/arenas"\n')
    got = start(rig, **environment)
    got["MALLOC_ARENA_MAX"] = (rig.root / "arenas").read_text()
    return {name: int(got[name].removesuffix("M")) for name in FOLLOWING}


@in_each_shell
@pytest.mark.parametrize("numbers", BY_LIMIT, ids=lambda numbers: str(numbers[0]))
def test_three_pets_of_640_mib_were_killed_for_their_memory_within_seconds(rig: Rig, numbers: tuple[int, ...]) -> None:
    """Replication alone took 150 MiB, the log buffer 64; with the buffer pool in use that was more than the limit."""
    assert following(rig, PETSET_MEMORY_LIMIT_BYTES=str(numbers[0] << 20)) == dict(
        zip(FOLLOWING, numbers[1:], strict=True)
    )


@pytest.mark.parametrize("mib", [100, 480, 640, 3000, 100000])
def test_the_page_says_how_the_numbers_follow_from_the_limit(rig: Rig, mib: int) -> None:
    page = (BOOT.parents[3] / "docs" / "boot.md").read_text()
    rows = re.findall(r"^\| `(\w+)`.*? \| `L`(?: / (\d+))?, within (\d+)(?: MiB)? to (\d+)( GiB)?", page, re.MULTILINE)
    assert {row[0] for row in rows} == {*FOLLOWING} - UNROWED
    got = following(rig, PETSET_MEMORY_LIMIT_BYTES=str(mib << 20))
    for name, divisor, low, high, gib in rows:
        assert got[name] == min(max(mib // int(divisor or 1), int(low)), int(high) * (1024 if gib else 1)), name
    (share, server, least) = map(int, re.findall(r"(\d+) % of `L` - (\d+), at least (\d+) MiB", page)[0])
    exact = max((mib - server) * share / 100, least)
    assert exact - 1024 < got["innodb_buffer_pool_size"] <= exact


def test_the_number_of_heaps_that_a_container_has_already_stays(rig: Rig) -> None:
    assert following(rig, MALLOC_ARENA_MAX="5")["MALLOC_ARENA_MAX"] == 5


def test_what_follows_the_limit_is_the_users_to_change(rig: Rig) -> None:
    names = [name for name in FOLLOWING if name.islower()]
    (rig.boot / "user.cnf").write_text("[mysqld]\n" + "".join(f"{name} = 7\n" for name in names))
    got = following(rig)
    assert {name: got[name] for name in names} == dict.fromkeys(names, 7)


@pytest.mark.parametrize("masters", [1, 2, 3])
def test_masters_never_draw_the_same_number(tmp_path: Path, masters: int) -> None:
    offsets = []
    for ordinal in range(5):
        pet = {"PETSET_ORDINAL": str(ordinal), "PETSET_POD": f"mysql-{ordinal}"}
        rig = Rig(tmp_path / str(ordinal), environment=pet)
        rig.fill(ordinal=ordinal)
        got = start(rig, PETSET_MASTERS=str(masters))
        assert got["auto_increment_increment"] == str(masters)
        offsets.append(int(got["auto_increment_offset"]))
    assert sorted(offsets[:masters]) == list(range(1, masters + 1))
    assert all(1 <= offset <= masters for offset in offsets)  # a greater one would be ignored by the server


def test_every_setting_is_explained() -> None:
    """Each block of settings begins with a comment that says why; the words of the file are the documentation."""
    for block in re.split(r"\n\n|^@.*\n", (BOOT / "petset.cnf.in").read_text(), flags=re.MULTILINE):
        lines = [line for line in block.splitlines() if line and not line.startswith("[")]
        assert not lines or lines[0].startswith("#") or lines[0].startswith(("datadir", "@")), block


# ---- the user's settings ---------------------------------------------------------------------------------------------


@in_each_shell
def test_users_settings_come_between(rig: Rig) -> None:
    text = "[mysqld]\nmax-connections = 42 # few\nlong_query_time=0.5\nlower_case_table_names=1"  # and no line end
    (rig.boot / "user.cnf").write_text(text)
    got = start(rig)
    assert got["max_connections"] == "42 # few"
    assert got["long_query_time"] == "0.5"
    assert got["lower_case_table_names"] == "1"
    assert got["sync_binlog"] == "1"


@pytest.mark.parametrize("has_prlimit", [True, False])
def test_a_stack_trace_stays_where_only_a_handled_signal_ends_mysqld(rig: Rig, has_prlimit: bool) -> None:
    """The kernel drops a signal to a container's first process that has no handler: SIGABRT without the trace's."""
    folder, lib = rig.root / "few", rig.boot / "lib.sh"
    folder.mkdir()
    lib.write_text(re.sub(r"^PATH=.*$", "", lib.read_text(), flags=re.MULTILINE))
    for path in map(Path, os.environ["PATH"].split(":")):
        for program in path.iterdir() if path.is_dir() else ():
            if program.name != "prlimit" and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    if has_prlimit:
        (folder / "prlimit").symlink_to("/bin/true")
    assert rig.run("start.sh", PATH=f"{rig.bin}:{folder}").returncode == 0
    lines = (rig.root / "petset" / "run" / "my.cnf").read_text().splitlines()
    assert ("skip_stack_trace" in lines) is has_prlimit


def test_users_text_is_taken_as_it_is(rig: Rig) -> None:
    text = "[mysqld]\ninit_connect = \"SET @x = '@POOL_MIB@ \\\\1 & |'\"\n"
    (rig.boot / "user.cnf").write_text(text)
    assert rig.run("start.sh").returncode == 0
    assert text in (rig.root / "petset" / "run" / "my.cnf").read_text()


REFUSED = [
    ("sync_binlog=0", 42, "sync_binlog = 0"),
    ("sync-binlog = 100", 42, "sync_binlog = 100"),
    ("  SYNC_BINLOG=0", 42, "sync_binlog = 0"),
    ("loose-sync_binlog=0", 42, "sync_binlog = 0"),
    ("innodb_flush_log_at_trx_commit = '2'", 42, "innodb_flush_log_at_trx_commit = 2"),
    ("innodb_flush_log_at_trx_commit=0 # fast", 42, "innodb_flush_log_at_trx_commit = 0"),
    ("innodb_doublewrite=OFF", 42, "innodb_doublewrite = OFF"),
    ("innodb_doublewrite=DETECT_ONLY", 42, "innodb_doublewrite = DETECT_ONLY"),
    ("skip-innodb-doublewrite", 42, "skip_innodb_doublewrite = (no value)"),
    ("innodb_flush_method=nosync", 42, "innodb_flush_method = nosync"),
    ("innodb_flush_method=O_DIRECT_NO_FSYNC", 42, "innodb_flush_method = O_DIRECT_NO_FSYNC"),
    ("super_read_only=OFF", 41, "super_read_only is set by the collection"),
    ("skip-log-bin", 41, "skip_log_bin is set by the collection"),
    ("datadir=/tmp", 41, "datadir is set by the collection"),
    ("server-id = 7", 41, "server_id is set by the collection"),
    ("rpl_semi_sync_source_timeout=1000", 41, "rpl_semi_sync_source_timeout is set by the collection"),
    ("binlog_error_action=IGNORE_ERROR", 41, "binlog_error_action is set by the collection"),
    ("stack-trace", 41, "stack_trace is set by the collection"),
    ("plugin_load=x.so", 41, "plugin_load is set by the collection"),
    ("replicate-wild-ignore-table = shop.log%", 41, "would not have, or not pass on, every transaction"),
    ("loose-replica-skip-errors=1062", 41, "replica_skip_errors = 1062: a pet would not have"),
    ("replica_exec_mode=IDEMPOTENT", 41, "replica_exec_mode = IDEMPOTENT"),
    ("skip-relay-log-purge", 41, "skip_relay_log_purge = (no value)"),
    ("innodb_force_recovery = 6", 42, "innodb_force_recovery = 6"),
    ("[client]", 41, "mysqld does not read section [client]"),
    ("!include /etc/my.cnf", 41, "'!include /etc/my.cnf': files cannot be included"),
]


@pytest.mark.parametrize(("line", "status", "words"), REFUSED)
def test_users_setting_is_refused(rig: Rig, line: str, status: int, words: str) -> None:
    (rig.boot / "user.cnf").write_text(f"[mysqld]\n# fine\nmax_connections=10\n{line}")
    assert rig.run("start.sh").returncode == status
    assert words in rig.message


ACCEPTED = [
    "sync_binlog = 1",
    'innodb_flush_log_at_trx_commit="1"',
    "innodb_doublewrite",
    "innodb_doublewrite = on",
    "innodb_doublewrite=DETECT_AND_RECOVER",
    "innodb_flush_method = O_DIRECT",
    "plugin-load-add = audit.so",
    "; sync_binlog = 0",
    "# sync_binlog = 0",
    "[mysqld-8.4]",
    "[server]",
]


@pytest.mark.parametrize("line", ACCEPTED)
def test_users_setting_is_accepted(rig: Rig, line: str) -> None:
    (rig.boot / "user.cnf").write_text(f"[mysqld]\n{line}\n")
    start(rig)


def test_the_module_and_the_pet_refuse_the_same_settings(rig: Rig) -> None:
    """What one of them knows and the other does not comes into force by hand, or stops a pet that was made."""
    own = (BOOT / "petset.cnf.in").read_text()
    forms = ["{}", "loose_{}", "skip_{}", "disable_{}", "loose_skip_{}"]
    cases = [(form, name, "shop") for name in WHOLE for form in forms]
    cases += [("{}", name, value) for name, values in WHOLE.items() for value in values]
    # Of some a server knows only the form with skip_.
    for name in sorted(OWNED):
        is_negated = re.search(rf"^skip_{name}\b", own, re.MULTILINE) or name in NEGATED
        cases.append(("skip_{}" if is_negated else "{}", name, "shop"))
    lines = [(form.format(name).replace("_", "-" if position % 2 else "_"), value)
             for position, (form, name, value) in enumerate(cases)]  # fmt: skip
    loop = (
        "PETSET_TERMINATION_LOG=/dev/null; durability=full; while IFS= read -r one; do "
        'printf "%s\\n" "$one" >"$boot/user.cnf"; status=0; '
        "(check_user_settings) >/dev/null 2>&1 || status=$?; echo $status; done"
    )
    statuses = rig.call(loop, "".join(f"{name} = {value}\n" for name, value in lines).encode()).decode().split()
    refused = {line: status == "41" for line, status in zip(lines, statuses, strict=True)}
    differ = []
    for (name, value), by_pet in refused.items():
        try:
            render_user_config("mysql_config", {name: value})
            by_module = False
        except InvalidInput:
            by_module = True
        differ += [(name, value)] if by_module is not by_pet else []
    assert differ == []
    assert sum(refused.values()) > 150


@in_each_shell
def test_relaxed_durability_lets_them_pass_and_win(rig: Rig) -> None:
    (rig.boot / "user.cnf").write_text("sync_binlog=0\ninnodb_doublewrite=OFF\n")
    got = start(rig, PETSET_DURABILITY="relaxed")
    assert (got["sync_binlog"], got["innodb_doublewrite"]) == ("0", "OFF")
    assert got["innodb_flush_log_at_trx_commit"] == "1"
    (rig.boot / "user.cnf").write_text("super_read_only=OFF\n")
    assert rig.run("start.sh", PETSET_DURABILITY="relaxed").returncode == 41


def test_a_spelling_that_gets_past_the_check_has_no_effect(rig: Rig) -> None:
    """The order is the guard; the check only says so. Here a prefix, which no version of the range takes."""
    (rig.boot / "user.cnf").write_text("[mysqld]\nsync_binlo = 0\n")
    start(rig)
    text = (rig.root / "petset" / "run" / "my.cnf").read_text()
    assert text.index("sync_binlo = 0") < text.index("sync_binlog = 1") < text.index("super_read_only = ON")


# ---- SQL -------------------------------------------------------------------------------------------------------------


def unquote(literal: str) -> str:
    """What MySQL reads from a string literal. Source: manual, String Literals (default SQL mode)."""
    assert literal[0] == literal[-1] == "'"
    body = literal[1:-1]
    assert not re.search(r"(?<!\\)(\\\\)*'", body), "a quote ends the literal too early"
    plain = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
    return re.sub(r"\\(.)", lambda found: plain.get(found[1], found[1]), body, flags=re.DOTALL)


NASTY = ["'", '"', "\\", "\\'", "''", "a\\", "%s", "$HOME `id` $(id)", " x ", "ü€😀", "-- #;", "&|/\\1\\n", "-n", "\\c"]


@in_each_shell
@pytest.mark.parametrize("text", NASTY)
def test_sql_string(rig: Rig, text: str) -> None:
    assert unquote(rig.call("sql_string", text.encode()).decode()) == text
    assert unquote(rig.call("sql_string", text.encode() + b"\n").decode()) == text


def test_sql_string_of_anything(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "pod")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1))
    def check(text: str) -> None:
        assert unquote(rig.call("sql_string", text.encode()).decode()) == text

    check()


@in_each_shell
def test_sql_names(rig: Rig) -> None:
    assert rig.call("sql_name", b"sh`op_1%") == b"`sh``op_1%`"
    assert rig.call("sql_pattern", b"sh`op_1%") == b"`sh``op\\_1\\%`"


@in_each_shell
def test_accounts(rig: Rig) -> None:
    shutil.rmtree(rig.data)
    (rig.volume / ".petset-identity.json").unlink()
    for name, value in {"app-user": "o'brien", "app-password": "\\", "app-database": "my_shop"}.items():
        (rig.secret / name).write_text(value + "\n")
    assert rig.run().returncode == 0
    sql = (rig.root / "accounts.sql").read_text()
    assert "CREATE USER 'o\\'brien'@'%' IDENTIFIED BY '\\\\';\nCREATE DATABASE `my_shop`;\n" in sql
    assert "GRANT ALL ON `my\\_shop`.* TO 'o\\'brien'@'%';" in sql
    assert sql.startswith("SET SESSION sql_log_bin = 0;")
    assert sql.endswith("\nSHUTDOWN;\n")
    for account in re.findall(r"CREATE USER '(petset_\w+)'@'(\S+)'(.*)", sql):
        assert account[1] == "localhost" or account[2].endswith(" REQUIRE SSL;")


# ---- the scripts themselves ------------------------------------------------------------------------------------------


def test_only_coreutils_and_sed() -> None:
    """No grep, awk, find, python and the like: slim images have none."""
    code = "\n".join(path.read_text() for path in BOOT.glob("*.sh"))
    for program in ("grep", "awk", "find", "python3", "perl", "mysqladmin", "hostname", "ps", "pgrep", "xargs", "cmp"):
        assert not re.search(rf"^[^#\n]*(^|[|;&(] *|\s){program} -", code, re.MULTILINE), program
