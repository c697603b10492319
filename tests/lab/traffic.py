# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a set in spread mode, in the lab's network.

Usage: python -m tests.lab.traffic fill|conflict|readers

The settings of ``World.settings`` come as a line of JSON on standard input; what is found goes to standard output, as
one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from tests.robustness.client import target_of
from tests.robustness.workloads.base import connect

MOST_TRIES = 40


def rows(connection: Any, sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def server_of(connection: Any) -> str:
    return str(rows(connection, "SELECT @@server_uuid")[0][0])


def connect_to_each(settings: dict[str, Any], port: int, servers: int, each: int = 1) -> dict[str, list[Any]]:
    """Connections by the proxies until so many servers have so many each: the proxies spread, nobody chooses."""
    target = target_of({**settings, "port": port}, settings["proxy"], 30)
    found: dict[str, list[Any]] = {}
    for _try in range(MOST_TRIES):
        connection = connect(target)
        mine = found.setdefault(server_of(connection), [])
        if len(mine) < each:
            mine.append(connection)
        else:
            connection.close()
        if len(found) == servers and all(len(one) == each for one in found.values()):
            return found
    raise SystemExit(f"{MOST_TRIES} connections to port {port} came to {sorted(found)} only")


def fill(settings: dict[str, Any]) -> dict[str, Any]:
    """Rows with drawn numbers on both sides at once, all sides from the same moment on."""
    sides = connect_to_each(settings, settings["port"], 2, each=2)
    share = settings["rows"] // 4
    start = threading.Barrier(4)
    spans: dict[str, list[tuple[float, float]]] = {}
    failed: list[str] = []

    def work(server: str, connection: Any) -> None:
        values = ", ".join([f"('{server}')"] * settings["batch"])
        start.wait()
        begin = time.monotonic()
        try:
            with connection.cursor() as cursor:
                for _batch in range(share // settings["batch"]):
                    cursor.execute(f"INSERT INTO drawn (side) VALUES {values}")
        except Exception as problem:
            failed.append(f"{server}: {problem}")
            raise
        spans.setdefault(server, []).append((begin, time.monotonic()))

    threads = [threading.Thread(target=work, args=(s, c)) for s, all_of in sides.items() for c in all_of]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in (one for all_of in sides.values() for one in all_of):
        connection.close()
    return {"spans": spans, "failed": failed}


def conflict(settings: dict[str, Any]) -> dict[str, Any]:
    """One row, changed on both sides at the same time: one side holds its lock while the other's change comes in."""
    (one, [first]), (two, [second]) = sorted(connect_to_each(settings, settings["port"], 2).items())
    rows(first, "BEGIN")
    rows(first, "UPDATE stock SET shelf = 1 WHERE item = 7")
    rows(second, "UPDATE stock SET sold = 2 WHERE item = 7")
    time.sleep(0.5)
    rows(first, "COMMIT")
    first.close()
    second.close()
    return {"shelf": one, "sold": two}


def readers(settings: dict[str, Any]) -> dict[str, Any]:
    """The servers that the port for readers leads to."""
    found = connect_to_each(settings, 3307, settings["servers"])
    for [connection] in found.values():
        connection.close()
    return {"servers": sorted(found)}


COMMANDS = {"fill": fill, "conflict": conflict, "readers": readers}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](json.loads(sys.stdin.readline()))))
