# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL on the pets, by way of the API server's port-forward, with TLS from end to end.

The port-forward gives one end of a socket pair; PyMySQL takes it in place of a connection of its own and wraps it in
TLS, so that the pet's certificate is checked against the set's authority and the pet's name in DNS: neither the API
server nor the node sees what is said. All pets are asked side by side, each within a limit.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .._core.errors import PetsetError, TimedOut
from .._core.kinds import POD
from .._core.ring import CHANNEL, STATUSES, VARIABLES, Answers, Down, PetState, Ring, RingPet, State, parse_answers
from .._core.ring_copy import WAY_OUT_COPY, CloneProgress, CopyLimits, CopyWatch, parse_clone_progress
from .._core.ring_plan import PLACEHOLDER, Kind, RingStep
from .clock import Clock, MonotonicClock
from .kube import KubeClient, Request
from .streams import open_port_forward

try:
    import pymysql
    import pymysql.cursors
    import pymysql.err
except ImportError:
    HAS_PYMYSQL = False
    PYMYSQL_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HAS_PYMYSQL = True
    PYMYSQL_IMPORT_ERROR = None

ADMIN_PORT = 33062
ADMIN_USER = "petset_admin"
LOOK_LIMIT_S = 15.0
"""For one look at a pet, connecting included."""
STATEMENT_LIMIT_S = 30.0
PAUSES_S = (0.2, 0.6, 1.2)
"""Before each new attempt at a connection that was lost: a way through API server, kubelet and runtime breaks off now
and then, with nothing wrong at its end."""
PASSING = frozenset({"lost", "no_forward"})
APPLY_SLICE_S = 5
CLONE_LOOK_S = 1.0
_RESTART_FAILED = 3707
_SYNTAX = 1064
# Each of the channel's threads, or both, run although the statement needs them to be stopped.
_MUST_STOP = (1198, 3017, 3021, 3081, 3085)
_NO_TABLE = 1146
_NO_DATABASE = 1049
_LOST = (2006, 2013, 1053)

Row = Mapping[str, Any]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


# The sets by themselves: performance_schema cuts values at 1024 characters.
_SETS = "SELECT @@GLOBAL.gtid_executed AS gtid_executed, @@GLOBAL.gtid_purged AS gtid_purged"
_PAIR = "SELECT VARIABLE_NAME AS variable_name, VARIABLE_VALUE AS variable_value FROM performance_schema."
_VARIABLE_NAMES = _list([name for name in VARIABLES if name not in ("gtid_executed", "gtid_purged")])
_VARIABLES = f"{_PAIR}global_variables WHERE VARIABLE_NAME IN ({_VARIABLE_NAMES})"
_STATUS = f"{_PAIR}global_status WHERE VARIABLE_NAME IN ({_list(STATUSES)})"
_CONFIGURATION = "SELECT * FROM performance_schema.replication_connection_configuration"
_REPLICA_STATUS = "SHOW REPLICA STATUS"
_FAILOVER = "SELECT * FROM performance_schema.replication_asynchronous_connection_failover"
_CLONE = "SELECT STATE AS state FROM performance_schema.clone_status"
_SIZE = "SELECT SUM(FILE_SIZE) AS bytes FROM information_schema.INNODB_TABLESPACES"
# A hash of the stored password, so that a changed one is seen; the password itself is never read.
_SECRETS = "SELECT Channel_name AS channel_name, SHA2(User_password, 256) AS password_hash FROM mysql.slave_master_info"
_WORKERS = (
    "SELECT CHANNEL_NAME AS channel_name, LAST_ERROR_NUMBER AS number, LAST_ERROR_MESSAGE AS message "
    "FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER <> 0"
)
_BEATS = "SELECT pet FROM petset.heartbeat"
_PROGRESS = (
    "SELECT STAGE AS stage, STATE AS state, ESTIMATE AS estimate, DATA AS data FROM performance_schema.clone_progress"
)


class PetDown(Exception):
    """A pet cannot be asked; ``down`` says why."""

    def __init__(self, down: Down) -> None:
        self.down = down
        super().__init__(down.reason)


class SqlError(PetsetError):
    """A statement failed on a pet."""

    code = "sql_error"


class ChannelRuns(SqlError):
    """The channel was started since it was looked at, by the pet's agent for example."""

    code = "channel_runs"


class PetGone(SqlError):
    """The connection was lost under a statement: whether it was carried out, the next look will tell."""

    code = "pet_gone"


class Session(Protocol):
    """One connection to a pet."""

    def query(self, text: str) -> list[Row]:
        """Rows by column name in lower case. PetDown: the connection is lost."""

    def run(self, text: str, secret: str = "") -> None:
        """A statement, with the secret in place of its placeholder. SqlError (ChannelRuns is one), PetDown."""

    def close(self) -> None:
        """Never fails."""


Connector = Callable[[RingPet, "float | None"], Session]
"""Connects to a pet; the second is the limit in seconds for each answer. PetDown says why not."""


class MysqlSession:
    """A session over PyMySQL."""

    def __init__(self, pet: str, connection: Any, on_close: Callable[[], None]) -> None:
        self.pet = pet
        self._connection = connection
        self._on_close = on_close

    def query(self, text: str) -> list[Row]:
        """Rows by column name in lower case."""
        try:
            with self._connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute(text)
                return [{name.lower(): _text(value) for name, value in row.items()} for row in cursor.fetchall() or ()]
        except (pymysql.err.Error, OSError) as problem:
            raise self._sorted(problem, text, "") from problem

    def run(self, text: str, secret: str = "") -> None:
        """A statement, with the secret in place of its placeholder."""
        filled = text.replace(PLACEHOLDER, self._connection.escape(secret)) if PLACEHOLDER in text else text
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(filled)
        except (pymysql.err.Error, OSError) as problem:
            # Without the cause: its text may quote the statement, and with it the secret.
            raise self._sorted(problem, text, secret) from None

    def close(self) -> None:
        """Never fails."""
        with contextlib.suppress(Exception):
            self._connection.close()
        self._on_close()

    def _sorted(self, problem: Exception, text: str, secret: str) -> Exception:
        number, said = _number_of(problem)
        if secret:
            # A syntax error quotes a piece of the statement, cut anywhere.
            said = "not understood" if number == _SYNTAX else said
            for form in (secret, self._connection.escape(secret)[1:-1]):
                said = said.replace(form, "<hidden>")
        if isinstance(problem, OSError) or number in _LOST or isinstance(problem, pymysql.err.InterfaceError):
            return PetDown(Down("lost", f"the connection was lost ({said or type(problem).__name__})"))
        shown = text.replace(PLACEHOLDER, "<hidden>")
        return (ChannelRuns if number in _MUST_STOP else SqlError)(
            f"pet {self.pet}",
            f"error {number}: {said}",
            value=shown if len(shown) < 300 else shown[:300] + "…",
            way_out="look at the pet's log; a run goes on from where this one stopped",
            details={"mysql_error": number},
        )


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _number_of(problem: Exception) -> tuple[int, str]:
    args = problem.args
    if args and isinstance(args[0], int):
        return args[0], str(args[1]) if len(args) > 1 else ""
    return 0, str(problem)


def open_session(
    pet: RingPet,
    *,
    user: str,
    password: str,
    context: ssl.SSLContext,
    sock: Any,
    name: str = "",
    limit_s: float | None = STATEMENT_LIMIT_S,
    why_closed: Callable[[], str] = str,
    on_close: Callable[[], None] = lambda: None,
) -> MysqlSession:
    """Log in by TLS over a socket; the certificate has to be for ``name``, the pet's host without it.

    PetDown: sorted by what went wrong.
    """
    connection = pymysql.connect(
        host=name or pet.host,
        user=user,
        password=password.encode(),  # text would be taken for Latin-1
        ssl=context,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=int(LOOK_LIMIT_S),
        read_timeout=limit_s,
        write_timeout=limit_s,
        program_name="stateful.petset",
        defer_connect=True,
    )
    try:
        connection.connect(sock)
    except (pymysql.err.Error, OSError) as problem:
        down = sort_login(pet.name, user, problem, why_closed())
        with contextlib.suppress(OSError):
            sock.close()
        on_close()
        raise PetDown(down) from None
    return MysqlSession(pet.name, connection, on_close)


def sort_login(pet: str, user: str, problem: Exception, why_closed: str) -> Down:
    """Why a login failed, as a stable word and a sentence."""
    number, said = _number_of(problem)
    cause = getattr(problem, "original_exception", problem)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Down(
            "tls",
            f"its certificate is not accepted: {getattr(cause, 'verify_message', cause)}",
            "check that the pet's certificate is from the authority in the set's TLS Secret and has the pet's name",
        )
    # An end in the middle of the handshake is a connection that broke off; TLS that cannot agree says so in an alert.
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Down("tls", f"TLS failed: {getattr(cause, 'reason', cause)}", "check the set's TLS Secret")
    if number in (1045, 1698, 1251):
        return Down(
            "access_denied",
            f"MySQL does not let {user} in: access denied",
            "the password in the set's Secret is not that of the account; after a change in MySQL store the new one",
        )
    if number in (1040, 1203):
        return Down("busy", f"MySQL has no connection left ({said})", "raise max_connections")
    if "refused" in why_closed:
        return Down("not_listening", f"mysqld does not listen on its admin port {ADMIN_PORT} ({why_closed})")
    if isinstance(cause, TimeoutError):
        return Down("silent", "no answer in time")
    return Down("lost", f"the connection failed (error {number}: {said})" + (f": {why_closed}" if why_closed else ""))


def tls_context(ca: str) -> ssl.SSLContext:
    """TLS that accepts only the set's own authority and the right name. ValueError: it is no certificate."""
    context = ssl.create_default_context(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def port_forward_connector(client: KubeClient, namespace: str, ca: str, password: str) -> Connector:
    """Connections through the API server to the admin port of each pet."""
    context = tls_context(ca)

    def connect(pet: RingPet, limit_s: float | None) -> Session:
        forward = _forward(client, namespace, pet.name)
        end = forward.socket(ADMIN_PORT)
        # PyMySQL may close its own at any moment; ours stays until the library has seen the end.
        ours = getattr(end, "_socket", end)
        sock = ours.dup()
        sock.settimeout(LOOK_LIMIT_S)
        return open_session(
            pet,
            user=ADMIN_USER,
            password=password,
            context=context,
            sock=sock,
            limit_s=limit_s,
            # Its end tells what happened, what comes before only where.
            why_closed=lambda: " ".join(str(forward.error(ADMIN_PORT) or "").split())[-200:],
            on_close=lambda: _end(ours),
        )

    return connect


def _forward(client: KubeClient, namespace: str, pod: str) -> Any:
    client.requests.append(Request("get", POD.path(namespace, pod, "portforward"), 101))
    try:
        forward = open_port_forward(client, namespace, pod, ADMIN_PORT)
        # The library's thread waits for the network alone. What came in one TLS record with the answer to its request,
        # mysqld's greeting with it, lies decrypted behind its back until more comes: here, the answer to this ping.
        forward.websocket.ping()
        return forward
    except Exception as problem:  # the library lets through those of its websocket library as well
        raise PetDown(sort_forward(pod, " ".join(str(problem).split())[:300])) from problem


def _end(ours: Any) -> None:
    """Say goodbye before hanging up: the library's thread fails over an end that closes with something unread."""
    with contextlib.suppress(OSError):
        ours.settimeout(1.0)
        ours.shutdown(socket.SHUT_WR)
        while ours.recv(65536):
            pass
    with contextlib.suppress(OSError):
        ours.close()


def sort_forward(pod: str, text: str) -> Down:
    """Why no port-forward came about."""
    if "403" in text:
        return Down(
            "forbidden",
            f"no permission for pods/portforward of pod {pod}",
            "allow the verbs get and create of pods/portforward in the set's namespace",
        )
    if "404" in text:
        return Down("no_pod", f"there is no pod {pod}")
    if "401" in text:
        return Down("unauthorized", "the API does not accept the credentials for pods/portforward")
    return Down("no_forward", f"no port-forward to pod {pod}: {text}")


@dataclass(slots=True)
class Pets:
    """Sessions to all pets of a ring, opened when needed and kept. ``copies``: each CLONE that this run has seen."""

    ring: Ring
    connector: Connector
    sessions: dict[str, Session] = field(default_factory=dict)
    clock: Clock = field(default_factory=MonotonicClock)
    limits: CopyLimits = field(default_factory=CopyLimits)
    copies: dict[str, CopyWatch] = field(default_factory=dict)

    def observe(self) -> dict[str, State]:
        """What each pet says. First all, then all their GTID sets once more: see ``PetState``."""
        first: dict[str, Any] = self._each([pet.name for pet in self.ring.pets], self._ask)
        asked = [name for name, answer in first.items() if isinstance(answer, Answers)]
        later = self._each(asked, lambda name: str(self._session(name).query(_SETS)[0]["gtid_executed"]))
        states: dict[str, State] = {}
        for pet in self.ring.pets:
            answer, second = first[pet.name], later.get(pet.name)
            if isinstance(answer, Down):
                states[pet.name] = answer
            elif isinstance(second, Down):
                states[pet.name] = second
            else:
                states[pet.name] = _parsed(replace(answer, later=str(second)))
        return states

    def run(self, step: RingStep, secret: str, progress: Callable[[str], None]) -> None:
        """One step on its pet. SqlError; PetGone when it goes away meanwhile; TimedOut when a CLONE stands still."""
        try:
            if step.kind is Kind.CLONE:
                self._clone(step, secret, progress)
            elif step.kind is Kind.WAIT_APPLIED:
                self._wait_applied(step, progress)
            else:
                self._session(step.pet).run(step.text, secret)
        except PetDown as lost:
            self._drop(step.pet)
            raise PetGone(
                f"pet {step.pet}", lost.down.reason, value=step.describe(), way_out=lost.down.way_out or "run again"
            ) from lost

    def watch_copy(self, name: str, progress: CloneProgress) -> bool:
        """One look at a CLONE that is under way. Is it further than it ever was? So it is when it is seen first."""
        now_s = self.clock.now_s()
        is_new = name not in self.copies
        watch = self.copies.setdefault(name, CopyWatch(now_s, now_s))
        return watch.see(progress, now_s) or is_new

    def close(self) -> None:
        """End all sessions."""
        for name in list(self.sessions):
            self._drop(name)

    def _session(self, name: str) -> Session:
        session = self.sessions.get(name)
        if session is None:
            pet = next(one for one in self.ring.pets if one.name == name)
            session = self.sessions[name] = self.connector(pet, STATEMENT_LIMIT_S)
        return session

    def _drop(self, name: str) -> None:
        session = self.sessions.pop(name, None)
        if session is not None:
            session.close()

    def _ask(self, name: str) -> Answers:
        return _answers(self._session(name))

    def _each(self, names: Sequence[str], ask: Callable[[str], Any]) -> dict[str, Any]:
        """Ask all at the same time, each within the limit, and again where a connection broke off: a kept one can
        have died with its server. A pet that fails gives its Down."""
        results: dict[str, Any] = {name: Down("silent", f"no answer within {LOOK_LIMIT_S:.0f} s") for name in names}
        unexpected: list[Exception] = []

        def attempts(name: str) -> Any:
            for pause_s in (*PAUSES_S, None):
                try:
                    return ask(name)
                except PetDown as problem:
                    self._drop(name)
                    if pause_s is None or problem.down.kind not in PASSING:
                        return problem.down
                    results[name] = problem.down  # what stands when the time is up meanwhile
                    time.sleep(pause_s)
            raise AssertionError("the last attempt returns")

        def work(name: str) -> None:
            try:
                results[name] = attempts(name)
            except SqlError as problem:
                results[name] = Down("refused", problem.reason, problem.way_out)
            except Exception as problem:  # noqa: BLE001 - raised below, in the caller's thread
                unexpected.append(problem)

        # Daemons: a pet that never answers must not hold the module up at its end.
        threads = [threading.Thread(target=work, args=(name,), name=name, daemon=True) for name in names]
        end = time.monotonic() + LOOK_LIMIT_S
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for name, thread in zip(names, threads):
            if thread.is_alive():
                # Its thread may still use it: left to itself, not closed.
                self.sessions.pop(name, None)
        if unexpected:
            raise unexpected[0]
        return dict(results)

    def _wait_applied(self, step: RingStep, progress: Callable[[str], None]) -> None:
        statement = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{step.text}', {APPLY_SLICE_S}) AS late"
        while True:
            session = self._session(step.pet)
            if str(session.query(statement)[0]["late"]) == "0":
                return
            rows = [row for row in session.query(_REPLICA_STATUS) if row["channel_name"] == CHANNEL]
            if rows and str(rows[0].get("last_sql_errno") or "0") != "0":
                raise SqlError(
                    f"pet {step.pet}",
                    f"its applier stopped: error {rows[0]['last_sql_errno']}: {rows[0]['last_sql_error']}",
                    way_out="repair what stopped it and run again; nothing was dropped",
                )
            progress(f"{step.pet}: still applying what it has received")

    def _clone(self, step: RingStep, secret: str, progress: Callable[[str], None]) -> None:
        """CLONE in a thread of its own; progress by the pet's ordinary session.

        At its end mysqld has to restart and cannot do so itself: it ends, with error 3707 for us, and its container
        starts it anew. A statement that nobody waits for any more goes on: see ``CopyWatch`` for when that is.
        """
        pet = next(one for one in self.ring.pets if one.name == step.pet)
        session = self.connector(pet, None)
        failure: list[Exception] = []

        def work() -> None:
            try:
                session.run(step.text, secret)
            except (SqlError, PetDown) as problem:
                failure.append(problem)
            finally:
                session.close()

        thread = threading.Thread(target=work, name=f"clone {step.pet}", daemon=True)
        thread.start()
        now_s = self.clock.now_s()
        began_s = self.copies[step.pet].began_s if step.pet in self.copies else now_s
        watch = self.copies[step.pet] = CopyWatch(began_s, now_s)
        said = ""
        while thread.is_alive():
            thread.join(CLONE_LOOK_S)
            try:
                seen = parse_clone_progress(self._session(step.pet).query(_PROGRESS))
                self.watch_copy(step.pet, seen)
                line = f"{step.pet}: CLONE: {seen.describe()}"
                if line != said:
                    progress(line)
                said = line
            except PetDown:
                # A new one for the next look: what breaks off is not taken for a copy that stands still.
                self._drop(step.pet)
            except SqlError:
                # Of this look alone. What the CLONE itself says is its thread's, and no progress runs out of time.
                pass
            if thread.is_alive() and (over := watch.why_over(self.clock.now_s(), self.limits)):
                raise TimedOut(f"pet {step.pet}", over, way_out=WAY_OUT_COPY)
        self._drop(step.pet)
        if not failure or isinstance(failure[0], PetDown):
            return
        problem = failure[0]
        if isinstance(problem, SqlError) and problem.details.get("mysql_error") == _RESTART_FAILED:
            return
        raise problem


def _answers(session: Session) -> Answers:
    sets = session.query(_SETS)[0]
    variables = session.query(_VARIABLES)
    for name, value in sets.items():
        variables.append({"variable_name": name, "variable_value": value})
    clone = _rows_if_there(session, _CLONE)
    return Answers(
        variables=variables,
        status=session.query(_STATUS),
        configuration=session.query(_CONFIGURATION),
        replica_status=session.query(_REPLICA_STATUS),
        failover=session.query(_FAILOVER),
        clone=clone,
        size=session.query(_SIZE),
        secrets=session.query(_SECRETS),
        workers=session.query(_WORKERS),
        later="",
        clone_progress=session.query(_PROGRESS) if any(row["state"] == "In Progress" for row in clone) else (),
        beats=_rows_if_there(session, _BEATS),
    )


def _rows_if_there(session: Session, text: str) -> list[Row]:
    """None where the table is not there: without the clone plugin, or before an agent's first commit of its own."""
    try:
        return session.query(text)
    except SqlError as problem:
        if problem.details.get("mysql_error") not in (_NO_TABLE, _NO_DATABASE):
            raise
        return []


def _parsed(answers: Answers) -> PetState | Down:
    try:
        return parse_answers(answers)
    except (KeyError, ValueError) as problem:
        return Down("unknown_answer", f"its answer is not that of MySQL 8.4 or later ({problem!r})")
