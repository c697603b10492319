# SPDX-License-Identifier: GPL-3.0-or-later
"""The light workload of a drill: rows through the clients' address, a line of JSON for each, and a look at each pet.

    {"begin": wall clock}                                     the first line; all other times are seconds since then
    {"c": connection, "n": number, "s": sent, "e": ended, "o": ok|fail|info}     ok: acknowledged, info: nobody knows
    {"p": pet, "t": time, "a": open|closed|away}              what its agent says
    {"x": reason}                                             a connection that did not come about, each reason once
    {"end": time}                                             the last line, after SIGTERM

No number is ever sent twice: what is unknown stays unknown.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pymysql

CLIENTS = 2
PAUSE_S = 0.06
LOOK_S = 0.2
CONNECT_S = 1.0
ANSWER_S = 2.0
# Said by a server that is there and refuses: the row is surely not written. Everything else may have been.
REFUSED = frozenset({1040, 1044, 1045, 1142, 1146, 1203, 1226, 1290, 1792, 1836, 3032})

began_s = time.monotonic()
stop = threading.Event()
lock = threading.Lock()
reasons: set[str] = set()


def now() -> float:
    """Seconds since the begin."""
    return round(time.monotonic() - began_s, 4)


def tell(**words: Any) -> None:
    """One line, out at once and whole."""
    line = json.dumps(words, separators=(",", ":")) + "\n"
    with lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def connect(context: ssl.SSLContext, password: str) -> Any:
    """To the clients' address, by TLS; the certificate is the pets' own, whoever leads there."""
    sock = socket.create_connection((os.environ["DRILL_HOST"], int(os.environ["DRILL_PORT"])), CONNECT_S)
    try:
        connection = pymysql.connect(
            host=os.environ["DRILL_SERVER_NAME"],
            user=os.environ["DRILL_USER"],
            password=password,
            ssl=context,
            autocommit=True,
            connect_timeout=ANSWER_S,
            read_timeout=ANSWER_S,
            write_timeout=ANSWER_S,
            defer_connect=True,
        )
        sock.settimeout(ANSWER_S)
        connection.connect(sock)
    except BaseException:
        sock.close()
        raise
    return connection


def write(client: int, context: ssl.SSLContext, password: str) -> None:
    """Rows until it is told to stop; a new connection whenever something was wrong with the old one."""
    connection: Any = None
    number = 0
    while not stop.is_set():
        if connection is None:
            try:
                connection = connect(context, password)
            except (pymysql.err.Error, OSError) as problem:
                say_once(problem, password)
                stop.wait(0.1)
                continue
        number += 1
        sent = now()
        outcome = "ok"
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {os.environ['DRILL_TABLE']} VALUES ({client}, {number})")  # noqa: S608
        except (pymysql.err.Error, OSError) as problem:
            code = problem.args[0] if problem.args else 0
            outcome = "fail" if code in REFUSED else "info"
            with contextlib.suppress(Exception):
                connection._force_close()
            connection = None
        tell(c=client, n=number, s=sent, e=now(), o=outcome)
        stop.wait(PAUSE_S)


def say_once(problem: Exception, password: str) -> None:
    """A reason is worth one line. Hidden before it is cut: a half of a password is recognised by nobody."""
    text = f"{type(problem).__name__}: {' '.join(map(str, problem.args))}".replace(password, "********")[:200]
    with lock:
        new = text not in reasons and len(reasons) < 20
        reasons.add(text)
    if new:
        tell(x=text)


def look(pet: str, where: str) -> None:
    """What a pet's agent says, each time it is another thing and at least once a second."""
    host, _colon, port = where.rpartition(":")
    last, said = "", 0.0
    while not stop.wait(LOOK_S):
        at = now()
        connection = http.client.HTTPConnection(host, int(port), timeout=0.8)
        try:
            connection.request("GET", "/writer")
            state = "open" if connection.getresponse().status == 200 else "closed"
        except (OSError, http.client.HTTPException):
            state = "away"
        finally:
            connection.close()
        if state != last or at - said >= 0.8:
            tell(p=pet, t=at, a=state)
            last, said = state, at


def main() -> None:
    """Until SIGTERM, or until nobody can want it any more."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    password = Path(os.environ["DRILL_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    context = ssl.create_default_context(cafile=os.environ["DRILL_CA_FILE"])
    tell(begin=time.time() - now())
    threads = [threading.Thread(target=write, args=(one, context, password), daemon=True) for one in range(CLIENTS)]
    for part in filter(None, os.environ.get("DRILL_AGENTS", "").split(",")):
        pet, _equals, where = part.partition("=")
        threads.append(threading.Thread(target=look, args=(pet, where), daemon=True))
    for thread in threads:
        thread.start()
    stop.wait(float(os.environ["DRILL_LIMIT_S"]))
    stop.set()
    for thread in threads:
        thread.join(ANSWER_S + CONNECT_S + 1)
    tell(end=now())


if __name__ == "__main__":
    main()
