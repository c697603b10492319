# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's MySQL settings: checked against what an acknowledged write and the pet's identity rely on.

The start-up program puts them before its own lines, so that a setting refused here would not come into force anyway;
it is refused so that nobody believes that it did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .errors import InvalidInput

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
# What MySQL itself strips from the front of an option's name. Source: manual, "Program Option Modifiers".
_MODIFIERS: Final = ("loose_", "skip_", "disable_", "enable_", "maximum_")

# Setting to the values that keep an acknowledged write. Source: manual, innodb_flush_log_at_trx_commit, sync_binlog.
_DURABLE: Final[Mapping[str, frozenset[str]]] = {
    "sync_binlog": frozenset({"1"}),
    "innodb_flush_log_at_trx_commit": frozenset({"1"}),
    "innodb_doublewrite": frozenset({"ON", "1", "TRUE", "DETECT_AND_RECOVER"}),
    "innodb_flush_method": frozenset({"FSYNC", "O_DSYNC", "O_DIRECT"}),
    # From 4 on it may damage data, with 6 the redo log is not read.
    "innodb_force_recovery": frozenset({"0"}),
}

# Setting to the values with which a pet has every transaction, as it was made, and passes it on; none: without it. No
# durability makes the others right: a standby that lacks some transactions would become the writer. Source: manual,
# "Replica Server Options", "Binary Logging Options"; relay_log_recovery needs relay_log_purge; with fewer
# server_id_bits two server_ids may be taken for one, whose transactions are skipped.
WHOLE: Final[Mapping[str, frozenset[str]]] = {
    "binlog_do_db": frozenset(),
    "binlog_format": frozenset({"ROW", "2"}),
    "binlog_ignore_db": frozenset(),
    "init_replica": frozenset(),
    "init_slave": frozenset(),
    "relay_log_purge": frozenset({"ON", "1", "TRUE"}),
    "replica_exec_mode": frozenset({"STRICT"}),
    "replica_skip_errors": frozenset({"OFF"}),
    "replicate_do_db": frozenset(),
    "replicate_do_table": frozenset(),
    "replicate_ignore_db": frozenset(),
    "replicate_ignore_table": frozenset(),
    "replicate_rewrite_db": frozenset(),
    "replicate_same_server_id": frozenset(),
    "replicate_wild_do_table": frozenset(),
    "replicate_wild_ignore_table": frozenset(),
    "server_id_bits": frozenset({"32"}),
    "slave_exec_mode": frozenset({"STRICT"}),
    "slave_skip_errors": frozenset({"OFF"}),
    "tc_heuristic_recover": frozenset({"OFF"}),
}

# What makes the pet this pet, or what the collection decides at run time. Names as options and as plugins' options.
OWNED: Final = frozenset(
    {
        "admin_address",
        "admin_port",
        "admin_ssl_ca",
        "admin_ssl_cert",
        "admin_ssl_key",
        "auto_generate_certs",
        "auto_increment_increment",
        "auto_increment_offset",
        "binlog_error_action",
        "binlog_row_image",
        "basedir",
        "bind_address",
        "chroot",
        "create_admin_listener_thread",
        "daemonize",
        "datadir",
        "enforce_gtid_consistency",
        "grant_tables",
        "gtid_mode",
        "host_cache_size",
        "init_file",
        "initialize",
        "initialize_insecure",
        "innodb_data_home_dir",
        "innodb_doublewrite_dir",
        "innodb_log_group_home_dir",
        "innodb_numa_interleave",
        "innodb_undo_directory",
        "innodb_read_only",
        "local_infile",
        "log_bin",
        "log_bin_index",
        "log_error",
        "log_replica_updates",
        "log_slave_updates",
        "mysqlx",
        "name_resolve",
        "networking",
        "offline_mode",
        "persisted_globals_load",
        "pid_file",
        "plugin_load",
        "port",
        "read_only",
        "relay_log",
        "relay_log_index",
        "relay_log_recovery",
        "replica_preserve_commit_order",
        "replica_start",
        "report_host",
        "report_port",
        "require_secure_transport",
        "rpl_semi_sync_replica_enabled",
        "rpl_semi_sync_source_enabled",
        "rpl_semi_sync_source_timeout",
        "rpl_semi_sync_source_wait_for_replica_count",
        "rpl_semi_sync_source_wait_no_replica",
        "rpl_semi_sync_source_wait_point",
        "secure_file_priv",
        "server_id",
        "server_uuid",
        "slave_start",
        "socket",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "stack_trace",
        "super_read_only",
        "user",
    }
)


# The server would not start with it. mysql_native_password is left to the server: 8.4 still has it, 9.0 has not.
_REMOVED: Final[Mapping[str, str]] = {
    "default_authentication_plugin": "authentication_policy in its place; caching_sha2_password is the default",
}


def plain_name(name: str) -> str:
    """An option's name as the server sees it: underscores, no modifier in front.

    >>> plain_name("loose-skip-name-resolve")
    'name_resolve'
    """
    text = name.replace("-", "_").lower()
    while True:
        for modifier in _MODIFIERS:
            if text.startswith(modifier):
                text = text[len(modifier) :]
                break
        else:
            return text


def _modifiers(name: str) -> str:
    text = name.replace("-", "_").lower()
    return text[: len(text) - len(plain_name(name))]


def parse_value(variable: str, value: Any) -> str:
    """A value as it stands in an option file. Booleans become ON and OFF; numbers their digits.

    InvalidInput: lists, maps, nothing, or a text with a line break (it would begin another setting).
    """
    allowed = "text on one line, a number or a boolean"
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str):
        raise InvalidInput(variable, value, "not a value for an option file", allowed)
    if any(char in value for char in "\n\r\0"):
        raise InvalidInput(variable, value, "it has a line break in it", allowed)
    return value


def render_user_config(variable: str, settings: Mapping[str, Any], *, relaxed: bool = False) -> str:
    """The text of ``user.cnf``: one section, sorted, quoted where an option file needs it.

    InvalidInput: a name that is none, the same setting twice in two spellings, a setting of the collection, one with
    which a pet would not have every transaction, or one that would weaken durability while ``relaxed`` is false.
    """
    lines: dict[str, str] = {}
    for name, raw in settings.items():
        where = f"{variable}[{name}]"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInput(variable, name, "not the name of a MySQL setting", "letters, digits, '_', '-' and '.'")
        plain = plain_name(name)
        value = parse_value(where, raw)
        if plain in lines:
            raise InvalidInput(where, value, "this setting is there twice, in two spellings", "each setting once")
        if plain in _REMOVED:
            raise InvalidInput(where, value, f"{name} is no setting of MySQL 8.4 and later", _REMOVED[plain])
        _check_owned(where, name, plain, value)
        _check_whole(where, name, plain, value)
        _check_durable(where, name, plain, value, relaxed)
        lines[plain] = f"{name.replace('-', '_')} = {_quote(value)}"
    return "".join(f"{line}\n" for line in ["[mysqld]", *(lines[name] for name in sorted(lines))])


def _check_owned(where: str, name: str, plain: str, value: str) -> None:
    # MySQL takes an unambiguous beginning for the whole name: server-i is server_id.
    whole_names = {*_DURABLE, *WHOLE}
    shortened = len(plain) > 6 and plain not in whole_names and any(one.startswith(plain) for one in OWNED)
    if plain in OWNED or shortened:
        raise InvalidInput(
            where, value, f"{name} is set by the collection", "any setting that is not the pet's identity"
        )


def _check_whole(where: str, name: str, plain: str, value: str) -> None:
    names = [plain] if plain in WHOLE else [one for one in WHOLE if len(plain) > 6 and one.startswith(plain)]
    allowed = {one for full in names if full == plain for one in WHOLE[full]}
    if names and (_modifiers(name).removeprefix("loose_") or value.upper() not in allowed):
        raise InvalidInput(
            where,
            value,
            "with it a pet would not have, or not pass on, every transaction as it was made: acknowledged writes could "
            "be lost when it becomes the writer",
            " or ".join(sorted(allowed)) if allowed else f"settings without {name}; leave rows out where they are read",
        )


def _check_durable(where: str, name: str, plain: str, value: str, relaxed: bool) -> None:
    safe = _DURABLE.get(plain)
    if safe is None or relaxed:
        return
    if _modifiers(name).removeprefix("loose_") or value.upper() not in safe:
        raise InvalidInput(
            where,
            value,
            "with this value an acknowledged write can be lost in a crash",
            f"{' or '.join(sorted(safe))}; or any value with durability: relaxed",
        )


def _quote(value: str) -> str:
    """Quote what an option file would read otherwise: comments, quotes, backslashes, blanks at the ends."""
    if value and not re.search(r"[#;'\"\\]|^\s|\s$", value):
        return value
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
