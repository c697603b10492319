# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the harness that runs inside the lab's network: clients, looks at pets, and the reads at the end.

Usage: python -m tests.robustness.client setup|workload|read|ask|poll

The settings come as one line of JSON on standard input, the password with them, so that it is in no command line and
no file. ``workload`` runs until standard input ends.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.robustness.checkers.convergence import count_lacking
from tests.robustness.history import FinalRead, Record, Sample, render_line, to_ranges
from tests.robustness.workloads import append, register
from tests.robustness.workloads.base import CLIENT_ERRORS, Client, Target, connect, connect_plainly

LOOK_S = 0.1


class Log:
    """A file of records that several threads write; each line is out at once, so that a kill loses nothing."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.lock = threading.Lock()

    def __call__(self, record: Record) -> None:
        line = render_line(record)
        with self.lock:
            self.file.write(line)


def target_of(settings: dict[str, Any], host: str, timeout_s: float = 1.0) -> Target:
    """Where the settings say, at this host."""
    return Target(host, int(settings["port"]), settings["user"], settings["password"], settings["database"], timeout_s)


def setup(settings: dict[str, Any]) -> None:
    """Tables and registers of this run, through the proxy. Raises the last error when the limit is over."""
    deadline = time.monotonic() + settings.get("limit_s", 60)
    while True:
        try:
            connection = connect(target_of(settings, settings["proxy"], 5))
            with connection.cursor() as cursor:
                cursor.execute(append.CREATE)
                cursor.execute(register.CREATE)
                for one in settings["registers"]:
                    cursor.execute(f"INSERT INTO {register.TABLE} VALUES (%s, 0)", (one,))
            connection.close()
        except CLIENT_ERRORS:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def look(pet: str, target: Target, record: Callable[[Sample], None], stop: threading.Event) -> None:
    """Ask one pet again and again whether it is open for writes."""
    connection: Any = None
    server = ""
    while not stop.wait(LOOK_S):
        asked_ns = time.monotonic_ns()
        is_open: bool | None = None
        try:
            if connection is None:
                connection = connect(target)
            asked_ns = time.monotonic_ns()
            with connection.cursor() as cursor:
                # super_read_only says ON while it still waits for a commit
                cursor.execute("SELECT @@global.read_only, @@global.offline_mode, @@server_uuid")
                read_only, offline, server = cursor.fetchone()
            is_open = not read_only and not offline
        except CLIENT_ERRORS:
            if connection is not None:
                connection._force_close()
            connection = None
        record(Sample(pet, asked_ns, time.monotonic_ns(), is_open, str(server)))


def workload(settings: dict[str, Any]) -> None:
    """Clients through the proxy, and a look at each pet, until standard input ends."""
    folder = Path(settings["folder"])
    operations, samples = Log(folder / "operations.jsonl"), Log(folder / "samples.jsonl")
    stop = threading.Event()
    proxy = target_of(settings, settings["proxy"])
    jobs: list[Any] = [append.Append(number) for number in settings["clients"]]
    jobs += [register.Register(number) for number in settings["registers"]]

    def run(process: int, job: Any) -> None:
        client = Client(process, job, proxy, operations, pause_s=settings.get("pause_s", 0.02))
        while not stop.is_set():
            client.step()
        client.close()

    threads = [threading.Thread(target=run, args=(index, job), daemon=True) for index, job in enumerate(jobs)]
    threads += [
        threading.Thread(target=look, args=(pet, target_of(settings, host), samples, stop), daemon=True)
        for pet, host in settings["pets"].items()
    ]
    for thread in threads:
        thread.start()
    while sys.stdin.readline():
        pass
    stop.set()
    for thread in threads:
        thread.join(10)


def read_pet(settings: dict[str, Any], pet: str, host: str) -> FinalRead:
    """All of one pet that is compared."""
    try:
        connection = connect(target_of(settings, host, 20))
        with connection.cursor() as cursor:

            def rows(sql: str) -> list[Any]:
                cursor.execute(sql)
                return list(cursor.fetchall())

            ((server, gtids),) = rows("SELECT @@server_uuid, @@global.gtid_executed")
            sequences = {
                str(client): to_ranges(
                    one[0] for one in rows(f"SELECT seq FROM {append.TABLE} WHERE client = {int(client)}")
                )
                for client in settings["clients"]
            }
            ours = ",".join(str(int(one)) for one in settings["clients"]) or "0"
            ((earlier,),) = rows(f"SELECT COUNT(*) FROM {append.TABLE} WHERE client NOT IN ({ours})")
            wanted = ",".join(str(int(one)) for one in settings["registers"]) or "0"
            registers = {
                str(one): number
                for one, number in rows(f"SELECT id, number FROM {register.TABLE} WHERE id IN ({wanted})")
            }
            checksums = {name: rows(f"CHECKSUM TABLE {name}")[0][1] for name in (append.TABLE, register.TABLE)}
        connection.close()
    except CLIENT_ERRORS as error:
        return FinalRead(pet, "", "", error=f"{type(error).__name__}: {error}")
    return FinalRead(pet, server, " ".join(gtids.split()), "", sequences, registers, checksums, "", int(earlier))


def read_gtids(settings: dict[str, Any], host: str) -> str | None:
    """The GTID set of a pet; None if it does not answer."""
    try:
        connection = connect(target_of(settings, host, 5))
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@global.gtid_executed")
            gtids = str(cursor.fetchone()[0])
        connection.close()
    except CLIENT_ERRORS:
        return None
    return " ".join(gtids.split())


def read(settings: dict[str, Any]) -> None:
    """Wait until each pet has what any had, then print what each has, one line of JSON a pet.

    ``limit_s`` without any that lacks fewer transactions than ever, ``overall_s`` in all: a pet that was away for long
    has as much to apply as was written meanwhile.
    """
    limit_s, begin_s = settings.get("limit_s", 60), time.monotonic()
    overall_s = settings.get("overall_s", limit_s)
    pets = settings["pets"]
    fewest, deadline = math.inf, begin_s + limit_s
    while True:
        first = [read_gtids(settings, host) for host in pets.values()]
        time.sleep(0.3)
        lacking = count_lacking(first, [read_gtids(settings, host) for host in pets.values()])
        now_s = time.monotonic()
        if lacking is not None and lacking < fewest:
            fewest, deadline = lacking, min(now_s + limit_s, begin_s + overall_s)
        if lacking == 0 or now_s > deadline:
            break
    finals = [read_pet(settings, pet, host) for pet, host in pets.items()]
    time.sleep(1)
    for final in finals:
        later_gtids = read_gtids(settings, pets[final.pet]) or ""
        print(json.dumps({**asdict(final), "gtid_later": later_gtids}), flush=True)


def ask(settings: dict[str, Any]) -> None:
    """One statement (``sql``), tried again until ``limit_s`` is over; its rows as JSON. ``tls`` false: without it."""
    deadline = time.monotonic() + settings.get("limit_s", 0)
    target = target_of(settings, settings["proxy"])
    while True:
        try:
            connection = connect(target) if settings.get("tls", True) else connect_plainly(target)
            with connection.cursor() as cursor:
                cursor.execute(settings["sql"])
                rows = list(cursor.fetchall())
            connection.close()
        except CLIENT_ERRORS as error:
            if time.monotonic() > deadline:
                print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
                return
            time.sleep(0.1)
        else:
            print(json.dumps({"rows": rows}, default=str))
            return


def poll(settings: dict[str, Any]) -> None:
    """A new connection every 0.1 s until standard input ends; then, for each, when (time of day, seconds) and who
    answered, or the error. The line "polling" tells that the first one is over.
    """
    target, stop = target_of(settings, settings["proxy"]), threading.Event()
    looks: list[dict[str, Any]] = []

    def listen() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    while not stop.wait(LOOK_S):
        try:
            connection = connect(target)
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@server_uuid")
                said = {"server": str(cursor.fetchone()[0])}
            connection.close()
        except CLIENT_ERRORS as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        if not looks:
            print("polling", flush=True)
        looks.append({"at_s": time.time(), **said})
    for one in looks:
        print(json.dumps(one))


def main() -> int:
    """Run the command named first; 0 when it came to its end."""
    settings = json.loads(sys.stdin.readline())
    commands = {"setup": setup, "workload": workload, "read": read, "ask": ask, "poll": poll}
    commands[sys.argv[1]](settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
