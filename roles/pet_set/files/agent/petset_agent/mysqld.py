# SPDX-License-Identifier: GPL-3.0-or-later
"""Eyes and hands on the own mysqld, over its socket. Every statement has a limit; nothing is decided here."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql
import pymysql.cursors

from .model import (
    DRAIN,
    FOREVER_MS,
    KEEP,
    NEVER,
    RELEASE,
    SNAPSHOTS,
    Channel,
    Close,
    KillDumps,
    KillHolders,
    MarkerState,
    Open,
    Peer,
    SemiReplica,
    SemiSource,
    Server,
    SqlAction,
    StartChannel,
    StopReceiver,
    Trail,
    newest_covered,
)

CHANNEL = "ring"
USER = "petset_agent"
# Accounts whose sessions are not a client's: replication, the collection, this agent, the server's own.
SPARED = frozenset({"petset_agent", "petset_admin", "petset_repl", "event_scheduler", "system user", ""})
_SESSIONS = (
    "SELECT PROCESSLIST_ID AS ID, PROCESSLIST_USER AS USER, PROCESSLIST_COMMAND AS COMMAND"
    " FROM performance_schema.threads WHERE TYPE = 'FOREGROUND' AND PROCESSLIST_ID IS NOT NULL"
)
_HOLDERS = (
    "SELECT HOLDER FROM (SELECT BLOCKING_THREAD_ID AS HOLDER FROM performance_schema.data_lock_waits"
    " UNION SELECT OWNER_THREAD_ID FROM performance_schema.metadata_locks WHERE LOCK_STATUS = 'GRANTED' AND"
    " (OBJECT_TYPE IN ('GLOBAL', 'COMMIT') AND LOCK_TYPE = 'SHARED' OR OBJECT_TYPE = 'TABLE' AND LOCK_TYPE IN"
    " ('SHARED_READ_ONLY', 'SHARED_NO_WRITE', 'SHARED_NO_READ_WRITE'))"
    " UNION SELECT held.OWNER_THREAD_ID FROM performance_schema.metadata_locks AS held"
    " JOIN performance_schema.metadata_locks AS wanted ON wanted.OBJECT_TYPE = held.OBJECT_TYPE"
    " AND wanted.OBJECT_SCHEMA <=> held.OBJECT_SCHEMA AND wanted.OBJECT_NAME <=> held.OBJECT_NAME"
    " WHERE held.LOCK_STATUS = 'GRANTED' AND wanted.LOCK_STATUS = 'PENDING') AS holders"
)
LIMIT_S = 2.0
_DIE_S = 5.0
_LOCK_WAIT_TIMEOUT = 1205
_NO_DATABASE, _NO_TABLE = 1049, 1146


@dataclass(frozen=True, slots=True)
class RawPeer:
    """What a peer's agent said: ``executed`` and ``received`` are GTID sets as text."""

    peer: Peer
    uuid: str = ""
    executed: str = ""
    received: str = ""
    source_uuid: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the server. ``facts`` are for people and for the peers' agents only."""

    server: Server
    peers: tuple[Peer, ...] = ()
    facts: Mapping[str, Any] | None = None
    error: str = ""


def join_sets(*sets: str) -> str:
    """GTID sets as one text, without the server's line breaks.

    >>> join_sets("a:1,\\nb:1-2", "", "c:3")
    'a:1,b:1-2,c:3'
    """
    return ",".join(text for text in ("".join(one.split()) for one in sets) if text)


class Database:
    """One connection that is made again when it is lost. Not for two threads at once."""

    def __init__(
        self,
        socket_path: str,
        password_file: Path,
        guard: Callable[[bool, bool], None] = lambda _on, _wait: None,
        fence: Callable[[], bool] = lambda: False,
    ) -> None:
        """``guard`` is told at each look whether every commit waits for its acknowledgement; and before one may not,
        for which it may take some time. ``fence`` has mysqld killed; False when nobody is there to do that.
        """
        self._guard = guard
        self._fence = fence
        self._socket_path = socket_path
        self._password_file = password_file
        self._connection: pymysql.Connection[Any] | None = None
        self._snapshots: deque[tuple[float, str]] = deque(maxlen=SNAPSHOTS)
        self._trails: dict[str, Trail[str]] = {}
        self.incarnation = ""

    def fileno(self) -> int | None:
        """The connection's file descriptor, readable when the server has ended it."""
        sock = getattr(self._connection, "_sock", None)
        return None if sock is None else int(sock.fileno())

    def connect(self, read_limit_s: float = LIMIT_S) -> pymysql.Connection[Any]:
        """A connection of its own; the password is read anew each time."""
        return pymysql.connect(
            unix_socket=self._socket_path,
            user=USER,
            password=self._password_file.read_bytes(),  # text would be taken for Latin-1
            connect_timeout=int(LIMIT_S),
            read_timeout=read_limit_s,
            write_timeout=LIMIT_S,
            autocommit=True,
            charset="utf8mb4",
            cursorclass=pymysql.cursors.DictCursor,
            init_command="SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1",
        )

    def close(self) -> None:
        """Forget the connection."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None

    def _query(self, statement: str, values: Iterable[Any] = ()) -> list[dict[str, Any]]:
        if self._connection is None:
            before = self._stamp()
            connection = self.connect()
            if self._stamp() != before:
                connection.close()
                raise pymysql.err.OperationalError(2013, "mysqld was started anew in between")
            if before != self.incarnation:
                self._trails.clear()
            self._connection, self.incarnation = connection, before
            self._snapshots.clear()
        with self._connection.cursor() as cursor:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall())

    def _stamp(self) -> str:
        """Each start of mysqld makes its socket anew."""
        found = os.stat(self._socket_path)  # noqa: PTH116
        return f"{found.st_ino}-{found.st_mtime_ns}"

    def _is_of(self, incarnation: str) -> bool:
        """Whether the socket is still that of a start that was looked at."""
        with contextlib.suppress(OSError):
            return incarnation.endswith(f"-{self._stamp()}")
        return False

    # --- eyes ---------------------------------------------------------------------------------------------------------

    def look(self, peers: Iterable[RawPeer], before: Look) -> Look:
        """The server as it is now; ``before`` with its age when it does not answer. Raises nothing."""
        started_s = time.monotonic()
        try:
            return self._look(list(peers), started_s)
        except (pymysql.err.Error, OSError) as error:
            self.close()
            server = replace(before.server, dead=is_dead(error))
            if server.dead or not self._is_of(server.incarnation):
                # Each start is closed. What was open has gone, and nobody must be killed for it.
                server = replace(server, open=False, offline=False, waiting=0)
            return replace(before, server=server, error=explain(error))

    def _look(self, raw_peers: list[RawPeer], started_s: float) -> Look:
        row = self._query(
            "SELECT @@global.super_read_only AS super_read_only, @@global.read_only AS read_only,"
            " @@global.offline_mode AS offline_mode, @@global.gtid_executed AS executed, @@server_uuid AS uuid,"
            " @@version AS version, @@global.rpl_semi_sync_source_enabled AS semi_source,"
            " @@global.rpl_semi_sync_source_timeout AS semi_timeout,"
            " @@global.rpl_semi_sync_source_wait_no_replica AS semi_no_replica,"
            " @@global.rpl_semi_sync_replica_enabled AS semi_replica"
        )[0]
        status = {
            one["Variable_name"].lower().removeprefix("rpl_semi_sync_"): one["Value"]
            for one in self._query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%%'", ())
        }
        rows = self._query(f"SHOW REPLICA STATUS FOR CHANNEL '{CHANNEL}'") if self._has_channel() else []
        executed = join_sets(row["executed"])
        self._snapshots.append((started_s, executed))
        replica = rows[0] if rows else {}
        received = join_sets(replica.get("Retrieved_Gtid_Set") or "")
        applied = self._subset(received, executed)
        # read_only was read before the set, and is ON only when no commit is on its way that the set does not name.
        closed = bool(row["read_only"]) and not int(status.get("source_wait_sessions", 0))
        peers = tuple(self._compare(raw, executed, received, closed=closed) for raw in raw_peers)
        uuid = str(row["uuid"])
        server = Server(
            answered_s=started_s,
            dead=False,
            incarnation=f"{uuid[:8]}-{self.incarnation}",
            uuid=uuid,
            # While SET GLOBAL super_read_only waits for a commit, that variable says ON already, and OFF again when the
            # wait is given up; read_only tells the truth.
            open=not row["read_only"],
            offline=bool(row["offline_mode"]),
            executed=executed,
            received=received,
            applied=applied,
            semi_source=bool(row["semi_source"]),
            waits_forever=int(row["semi_timeout"]) >= FOREVER_MS and bool(row["semi_no_replica"]),
            semi_replica=bool(row["semi_replica"]),
            clients=int(status.get("source_clients", 0)),
            waiting=int(status.get("source_wait_sessions", 0)),
            acks=int(status.get("source_yes_tx", 0)),
            channel=read_channel(replica, raw_peers),
        )
        # MySQL's status says OFF when semi-sync is on and has let a commit go.
        self._guard(server.semi_source and server.waits_forever and status.get("source_status") == "ON", False)
        facts = {
            "server_uuid": uuid,
            "version": row["version"],
            "super_read_only": bool(row["super_read_only"]),
            "read_only": bool(row["read_only"]),
            "offline_mode": bool(row["offline_mode"]),
            "semi_sync_acknowledges": status.get("replica_status") == "ON",
            "semi_sync_timeout_ms": int(row["semi_timeout"]),
            "source_uuid": replica.get("Source_UUID") or "",
            "channels": [
                {
                    "name": CHANNEL,
                    "source_host": replica.get("Source_Host"),
                    "io": replica.get("Replica_IO_Running"),
                    "sql": replica.get("Replica_SQL_Running"),
                    "lag_s": replica.get("Seconds_Behind_Source"),
                    "errno": replica.get("Last_SQL_Errno") or replica.get("Last_IO_Errno"),
                    "error": replica.get("Last_SQL_Error") or replica.get("Last_IO_Error"),
                }
            ]
            if replica
            else [],
        }
        return Look(server, peers, facts)

    def _has_channel(self) -> bool:
        found = self._query(
            "SELECT 1 FROM performance_schema.replication_connection_configuration WHERE CHANNEL_NAME = %s", (CHANNEL,)
        )
        return bool(found)

    def _subset(self, inner: str, outer: str) -> bool:
        return bool(self._query("SELECT GTID_SUBSET(%s, %s) AS yes", (inner, outer))[0]["yes"])

    def _subtract(self, whole: str, part: str) -> str:
        return join_sets(str(self._query("SELECT GTID_SUBTRACT(%s, %s) AS rest", (whole, part))[0]["rest"]))

    def _compare(self, raw: RawPeer, executed: str, received: str, *, closed: bool) -> Peer:
        """A peer's sets beside ours. Of ours the newest that it covers: while clients write, it never has our last; and
        of its the newest that we have executed. ``closed``: no client's commit is on its way here.
        """
        ours, theirs = join_sets(executed, received), join_sets(raw.executed, raw.received)
        as_of_s = newest_covered(self._snapshots, lambda one: self._subset(one, theirs))
        reached_s = NEVER
        if raw.peer.answered_s != NEVER:
            trail = self._trails.setdefault(raw.peer.name, Trail())
            trail.add(raw.peer.answered_s, raw.peer.incarnation, raw.executed)
            reached_s = trail.follow(lambda one: self._subset(one, executed))
        return replace(
            raw.peer,
            uuid=raw.uuid,
            covers=as_of_s != NEVER,
            covers_as_of_s=as_of_s,
            covered=self._subset(theirs, ours),
            reached_s=reached_s,
            more=self._subtract(theirs, executed) if closed and theirs else "",
            less="" if raw.peer.open or raw.peer.answered_s == NEVER else self._subtract(ours, theirs),
        )

    # --- hands --------------------------------------------------------------------------------------------------------

    def carry_out(self, action: SqlAction) -> None:
        """One action. Raises pymysql.err.Error, OSError."""
        match action:
            case Close():
                self._close_for_clients(action.waiting)
            case Open():
                # read_only OFF switches super_read_only off as well, in one statement. A statement that reaches a
                # server which hangs is too late when it wakes: the look after it closes again.
                if time.monotonic() < action.until_s:
                    self._query("SET GLOBAL offline_mode = OFF")
                    self._query("SET GLOBAL read_only = OFF")
            case StartChannel():
                thread = "SQL_THREAD " if action.applier_only else ""
                self._query(f"START REPLICA {thread}FOR CHANNEL '{CHANNEL}'")
            case StopReceiver():
                if action.opening:
                    self._kill(self._lock_holders())
                self._query(f"STOP REPLICA IO_THREAD FOR CHANNEL '{CHANNEL}'")
            case KillDumps():
                self._kill(one["ID"] for one in self._sessions() if one["COMMAND"].startswith("Binlog Dump"))
                self._kill(self._lock_holders())
            case KillHolders():
                self._kill(self._lock_holders())
            case SemiSource():
                if action.on:
                    self._query("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 1")
                    # Otherwise MySQL goes on alone at once when the last replica's connection ends.
                    self._query("SET GLOBAL rpl_semi_sync_source_wait_no_replica = ON")
                    self._query("SET GLOBAL rpl_semi_sync_source_timeout = %s", (action.timeout_ms,))
                if not action.on or action.timeout_ms < FOREVER_MS:
                    self._guard(False, True)
                self._query("SET GLOBAL rpl_semi_sync_source_enabled = %s", (int(action.on),))
            case SemiReplica():
                self._query("SET GLOBAL rpl_semi_sync_replica_enabled = %s", (int(action.on),))
                # A receiver that runs has told its source already; it has to come again to say so.
                if self._has_channel():
                    self._query(f"STOP REPLICA IO_THREAD FOR CHANNEL '{CHANNEL}'")

    def _close_for_clients(self, waiting: str) -> None:
        """Order matters: a client whose commit waits for its acknowledgement must be gone before the wait ends.

        super_read_only takes effect when no commit is on its way any more; what commits at this moment gets its
        acknowledgement. It would wait for one that gets none: then offline_mode ends the clients' connections first, so
        that none hears OK, and only after that the wait is ended; or mysqld is, see ``Close``. A commit that is still
        being written waits for nothing yet and counts like one that does, so only super_read_only tells that none is
        left. offline_mode ends the sessions of replicas as well: there is nothing to be waited for after it.
        """
        if (waiting == DRAIN or not self._waiters()) and self._make_read_only():
            self._kill(self._clients())
            self._let_go()
            return
        self._query("SET GLOBAL offline_mode = ON")
        self._kill(self._clients())
        if waiting == KEEP:
            return
        if waiting != RELEASE and not self._make_read_only() and self._end():
            return
        # Who may connect all the same has perhaps come again.
        self._kill(self._clients())
        self._let_go()

    def _waiters(self) -> int:
        return int(self._query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'")[0]["Value"])

    def _make_read_only(self) -> bool:
        """False: commits are on their way, and were not through within a second."""
        try:
            self._query("SET GLOBAL super_read_only = ON")
        except pymysql.err.OperationalError as error:
            if error.args[0] != _LOCK_WAIT_TIMEOUT:
                raise
            return False
        return True

    def _let_go(self) -> None:
        """Commits wait for nobody any more; closed by super_read_only, which an attempt before may not have come to."""
        self._guard(False, True)
        self._query("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
        self._query("SET GLOBAL super_read_only = ON")
        self._query("SET GLOBAL offline_mode = OFF")

    def _end(self) -> bool:
        """Have mysqld killed, and see it dead; False when nobody does that. OperationalError: it does not answer, and
        is not dead either: what it holds stays guarded.
        """
        if not self._fence():
            return False
        end_s = time.monotonic() + _DIE_S
        answers = True
        while time.monotonic() < end_s:
            try:
                # Its limit of processor time is looked at only while it uses some.
                self._query("SELECT BENCHMARK(2000000, MD5('petset'))")
            except (pymysql.err.Error, OSError) as error:
                self.close()
                answers = False
                if is_dead(error):
                    return True
                time.sleep(0.02)
            else:
                answers = True
        if not answers:
            raise pymysql.err.OperationalError(2013, "mysqld was ordered to be killed, and has not ended yet")
        return False

    def _sessions(self) -> list[dict[str, Any]]:
        return self._query(f"{_SESSIONS} AND PROCESSLIST_COMMAND IS NOT NULL")

    def _clients(self) -> list[int]:
        return [
            one["ID"]
            for one in self._sessions()
            if _is_client(one) and not one["COMMAND"].startswith(("Binlog Dump", "Daemon"))
        ]

    def _lock_holders(self) -> list[int]:
        """Clients that hold what stops writes (LOCK TABLES, FLUSH TABLES WITH READ LOCK), or what somebody waits for.

        Row locks that nobody waits for are not looked at: InnoDB would stand still while it lists them.
        """
        return [one["ID"] for one in self._query(f"{_SESSIONS} AND THREAD_ID IN ({_HOLDERS})") if _is_client(one)]

    def _kill(self, sessions: Iterable[int]) -> None:
        for number in sessions:
            with contextlib.suppress(pymysql.err.Error):
                self._query("KILL %s", (int(number),))


def _is_client(session: Mapping[str, Any]) -> bool:
    return (session["USER"] or "") not in SPARED


def read_channel(row: Mapping[str, Any], peers: Iterable[RawPeer]) -> Channel:
    """A row of SHOW REPLICA STATUS. The source is a pet by its server_uuid, else by the first part of its host."""
    if not row:
        return Channel()
    uuid, host = row.get("Source_UUID") or "", str(row.get("Source_Host") or "")
    source = next((raw.peer.name for raw in peers if uuid and raw.uuid == uuid), host.partition(".")[0])
    error_no = int(row.get("Last_SQL_Errno") or 0)
    lag = row.get("Seconds_Behind_Source")
    io = {"Yes": "on", "Connecting": "connecting"}.get(str(row.get("Replica_IO_Running")), "off")
    return Channel(
        configured=True,
        io=io,
        applier=row.get("Replica_SQL_Running") == "Yes",
        error_no=error_no,
        error=str(row.get("Last_SQL_Error" if error_no else "Last_IO_Error") or ""),
        lag_s=None if lag is None else float(lag),
        source=source,
    )


def is_dead(error: BaseException) -> bool:
    """Whether nobody listens on the socket, rather than somebody who does not answer."""
    causes: list[BaseException | None] = [error, getattr(error, "original_exception", None), error.__cause__]
    return any(isinstance(one, ConnectionRefusedError | FileNotFoundError) for one in causes)


def explain(error: BaseException) -> str:
    """An error in one line. Passwords are never in MySQL's errors."""
    return f"{type(error).__name__}: {error}"[:300]


class MarkerWriter:
    """Commits a row of our own in the background: the commit waits for its acknowledgement as a client's does."""

    def __init__(self, database: Database, pet: str, wake: Callable[[], None]) -> None:
        self._database = database
        self._pet = pet
        self._wake = wake
        self._lock = threading.Lock()
        self._state = MarkerState()

    @property
    def state(self) -> MarkerState:
        """Where the last marker is."""
        with self._lock:
            return self._state

    def write(self) -> None:
        """Begin one, unless one is on its way."""
        with self._lock:
            if self._state.pending_since_s is not None:
                return
            started_s = time.monotonic()
            self._state = replace(self._state, pending_since_s=started_s)
        threading.Thread(target=self._run, args=(started_s,), name="marker", daemon=True).start()

    def _run(self, started_s: float) -> None:
        good = False
        try:
            connection = self._database.connect(read_limit_s=60.0)
            with connection, connection.cursor() as cursor:
                before = _semi_sync(cursor)
                self._commit(cursor)
                after = _semi_sync(cursor)
            # Semi-sync was on, and no commit has gone without its acknowledgement meanwhile.
            good = before == after and before[0] == "ON"
        except (pymysql.err.Error, OSError):
            good = False
        with self._lock:
            self._state = MarkerState(None, started_s if good else self._state.acked_s)
        self._wake()

    def _commit(self, cursor: Any) -> None:
        statement = (
            "INSERT INTO petset.heartbeat (pet, beat, at) VALUES (%s, 1, UTC_TIMESTAMP(6))"
            " ON DUPLICATE KEY UPDATE beat = beat + 1, at = UTC_TIMESTAMP(6)"
        )
        try:
            cursor.execute(statement, (self._pet,))
        except pymysql.err.Error as error:
            if error.args[0] not in (_NO_DATABASE, _NO_TABLE):
                raise
            cursor.execute("CREATE DATABASE IF NOT EXISTS petset")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS petset.heartbeat (pet VARCHAR(63) CHARACTER SET ascii NOT NULL PRIMARY KEY,"
                " beat BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL) ENGINE = InnoDB"
            )
            cursor.execute(statement, (self._pet,))


def _semi_sync(cursor: Any) -> tuple[str, str]:
    cursor.execute("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_%'")
    found = {row["Variable_name"]: row["Value"] for row in cursor.fetchall()}
    return found.get("Rpl_semi_sync_source_status", ""), found.get("Rpl_semi_sync_source_no_tx", "")
