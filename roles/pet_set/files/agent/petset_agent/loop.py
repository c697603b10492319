# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop: looks, asks ``decide``, does what it says. Everything that can block has a thread of its own."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pymysql

from .decide import Decision, Memory, decide, pledge
from .fence import order_kill
from .lease import LeaseApi, Outdated, Unreachable
from .model import (
    NEVER,
    Fence,
    Lease,
    Marker,
    Observation,
    Peer,
    PutLease,
    PutResult,
    Server,
    Settings,
    SqlAction,
)
from .mysqld import Database, Look, MarkerWriter, RawPeer, explain
from .rewind import Rewinder, judge
from .server import AgentServer, View

TICK_S = 0.25
LOOK_EVERY_S = 0.4
READ_EVERY_S = 0.4
ASK_EVERY_S = 0.4
ASK_LIMIT_S = 0.7
RESOLVE_EVERY_S = 1.0
FAILURE_TOLD_S = 5.0
# An address may be anybody's by now, who answers whatever he likes.
NO_ANSWER = (OSError, ValueError, KeyError, TypeError, AttributeError, HTTPException)


def _age(now_s: float, then_s: float) -> float | None:
    return round(now_s - then_s, 3) if then_s != NEVER else None


def _answered(said: Mapping[str, Any], asked_s: float) -> float:
    """When the mysqld of an agent last answered it, at the latest what its words prove. An older agent has only yes."""
    if "answered_s_ago" not in said:
        return asked_s if said["alive"] else NEVER
    ago_s = said["answered_s_ago"]
    return NEVER if ago_s is None else asked_s - float(ago_s) - float(said["age_s"] or 0.0)


def say(text: str) -> None:
    """One line in the container's log."""
    sys.stderr.write(f"petset-agent: {text}\n")
    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Config:
    """Where everything is. ``peers``: address of the agent of each other master by its name.

    An address may have become that of another set's pet of the same name: agents say of which ``namespace`` they are.
    """

    settings: Settings
    socket_path: str
    password_file: Path
    peers: dict[str, str]
    port: int = 8008
    host: str = ""
    namespace: str = ""
    volume: Path = Path("/var/lib/petset")


class SqlWorker:
    """One thread with one connection: carries out one action at a time, and looks after it and every so often.

    It sleeps on the connection itself, so that the end of mysqld is seen at once.
    """

    def __init__(self, database: Database, peers: Callable[[], list[RawPeer]], wake: Callable[[], None]) -> None:
        self._database = database
        self._peers = peers
        self._wake = wake
        self._lock = threading.Lock()
        self._action: SqlAction | None = None
        self._look = Look(Server())
        self._read_end, self._write_end = os.pipe()
        self._failure, self._failed_s = "", NEVER

    @property
    def failure(self) -> str:
        """What failed lately. What was wrong and lasts fails again soon."""
        return self._failure if time.monotonic() - self._failed_s < FAILURE_TOLD_S else ""

    def state(self) -> tuple[Look, bool]:
        """The last look, and whether an action is on its way."""
        with self._lock:
            return self._look, self._action is not None

    def do(self, action: SqlAction) -> None:
        """Hand over one action; the next only after ``state`` says that none is on its way."""
        with self._lock:
            self._action = action
        os.write(self._write_end, b"x")

    def run(self) -> None:
        """For ever."""
        while True:
            with self._lock:
                action, before = self._action, self._look
            if action is not None:
                self._carry_out(action)
            look = self._database.look(self._peers(), before)
            with self._lock:
                self._look = look
                if self._action is action:
                    self._action = None
                more = self._action is not None
            self._wake()
            if not more:
                self._sleep(LOOK_EVERY_S if not look.error else 0.1)

    def _carry_out(self, action: SqlAction) -> None:
        try:
            self._database.carry_out(action)
            self._failure = ""
        except (pymysql.err.Error, OSError) as error:
            self._failure, self._failed_s = f"{type(action).__name__}: {explain(error)}", time.monotonic()
            say(f"failed: {self._failure}")
            self._database.close()

    def _sleep(self, seconds: float) -> None:
        files = [self._read_end]
        connection = self._database.fileno()
        if connection is not None:
            files.append(connection)
        ready, _write, _error = select.select(files, [], [], seconds)
        if self._read_end in ready:
            os.read(self._read_end, 64)


class LeaseWorker:
    """One thread for the API: reads every so often, writes when told; one request at a time."""

    def __init__(self, api: LeaseApi, wake: Callable[[], None]) -> None:
        self._api = api
        self._wake = wake
        self._lock = threading.Lock()
        self._todo = threading.Event()
        self._put: PutLease | None = None
        self._lease: Lease | None = None
        self._result: PutResult | None = None
        self._object: Any = None
        self.failure = ""

    def state(self) -> tuple[Lease | None, PutResult | None, bool]:
        """The record, the last write that ended, and whether one is on its way."""
        with self._lock:
            return self._lease, self._result, self._put is not None

    def write(self, put: PutLease) -> None:
        """Hand over one write; the next only after ``state`` says that none is on its way."""
        with self._lock:
            self._put = put
        self._todo.set()

    def run(self) -> None:
        """For ever."""
        while True:
            with self._lock:
                put = self._put
            if put is not None:
                self._write(put)
            else:
                self._read()
            self._wake()
            with self._lock:
                more = self._put is not None
            if not more:
                self._todo.wait(READ_EVERY_S)
            self._todo.clear()

    def _read(self) -> None:
        try:
            lease, self._object = self._api.read()
        except Unreachable as error:
            self.failure = str(error)
            return
        self.failure = ""
        with self._lock:
            self._lease = lease

    def _write(self, put: PutLease) -> None:
        started_s = time.monotonic()
        lease: Lease | None = None
        try:
            if self._object is None:
                raise Outdated("the lease was deleted")
            lease, self._object = self._api.write(self._object, put)
            self.failure = ""
        except (Outdated, Unreachable) as error:
            self.failure = f"{put.purpose}: {error}"
        ok = lease is not None
        if lease is None:
            # What the record says now, before anybody decides on it.
            with contextlib.suppress(Unreachable):
                lease, self._object = self._api.read()
        with self._lock:
            self._lease = lease or self._lease
            self._result = PutResult((self._result.serial if self._result else 0) + 1, started_s, ok)
            self._put = None


class PeerAsker:
    """One thread for one peer: what its agent says, every so often; and for its pledge, as long as that is wanted."""

    def __init__(self, namespace: str, me: str, name: str, url: str, wake: Callable[[], None]) -> None:
        ordinal = int(name.rpartition("-")[2])
        self._namespace = namespace
        self._me = me
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._base = ""
        self._wake = wake
        self._lock = threading.Lock()
        self._raw = RawPeer(Peer(name, ordinal))
        self._pledge = threading.Event()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def state(self) -> RawPeer:
        """The last answer."""
        with self._lock:
            return self._raw

    def want_pledge(self, wanted: bool) -> None:
        """Whether to ask that the lease be left to this pet, at once and then each time."""
        if wanted:
            self._pledge.set()
        else:
            self._pledge.clear()

    def resolve(self) -> None:
        """Look the peer's address up. While nobody knows it, the one from before is asked: it may still be its own."""
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            address = str(found[0][4][0])
            self._base = f"http://[{address}]:{self._port}" if ":" in address else f"http://{address}:{self._port}"
            with self._lock:
                self._raw = replace(self._raw, peer=replace(self._raw.peer, resolved_s=time.monotonic()))

    def resolve_for_ever(self) -> None:
        """In a thread of its own: a silent name server takes seconds, and a question for a pledge has not one."""
        while True:
            self.resolve()
            time.sleep(RESOLVE_EVERY_S)

    def run(self) -> None:
        """For ever."""
        while True:
            asked_s = time.monotonic()
            if self._pledge.is_set():
                self._ask_pledge()
            with contextlib.suppress(*NO_ANSWER):
                self._take(self._get("/status"), asked_s)
            left_s = max(0.05, ASK_EVERY_S - (time.monotonic() - asked_s))
            if self._pledge.is_set():
                time.sleep(left_s)
            else:
                self._pledge.wait(left_s)

    def _get(self, path: str) -> Any:
        if not self._base:
            raise OSError(f"{self._host}: its address is not known yet")
        with self._opener.open(self._base + path, timeout=ASK_LIMIT_S) as answer:
            return json.loads(answer.read(1_000_000))

    def _ask_pledge(self) -> None:
        asked_s = time.monotonic()
        with contextlib.suppress(*NO_ANSWER):
            said = self._get(f"/pledge?to={self._namespace}/{self._me}")
            peer = f"{self._namespace}/{self._raw.peer.name}"
            if said["pledged"] is True and said.get("by", peer) == peer:
                with self._lock:
                    self._raw = replace(self._raw, peer=replace(self._raw.peer, pledged_s=asked_s))
                self._wake()

    def _take(self, said: Any, asked_s: float) -> None:
        with self._lock:
            before = self._raw
            theirs = (said.get("namespace", self._namespace), said["name"])
            if theirs != (self._namespace, before.peer.name) or not said["current"] or not said["looked"]:
                return
            self._raw = RawPeer(
                replace(
                    before.peer,
                    asked_s=asked_s,
                    alive=bool(said["alive"]),
                    incarnation=str(said["incarnation"]),
                    open=not said.get("read_only", said["super_read_only"]),
                    source=str(said["receives_from"]),
                    semi_replica=bool(said["semi_sync_acknowledges"]),
                    answered_s=_answered(said, asked_s),
                    applied=bool(said.get("applied", True)),
                ),
                str(said["server_uuid"]),
                str(said["gtid_executed"]),
                str(said["gtid_received"]),
            )
            news = before.peer.alive != self._raw.peer.alive
        if news:
            self._wake()


class Agent:
    """All of it."""

    def __init__(self, config: Config, api: LeaseApi) -> None:
        self._config = config
        self._event = threading.Event()
        wake = self._event.set
        me, namespace = config.settings.me, config.namespace
        self._askers = [PeerAsker(namespace, me, name, url, wake) for name, url in sorted(config.peers.items())]
        run = self._run_folder = Path(config.socket_path).parent
        self._lease = LeaseWorker(api, wake)
        self._rewinder = Rewinder(
            config.volume,
            run,
            lambda waited_s: judge(
                config.settings,
                self._lease.state()[0],
                [one.state() for one in self._askers],
                time.monotonic(),
                waited_s,
            ),
            say,
        )
        self._sql = SqlWorker(
            Database(
                config.socket_path, config.password_file, self._rewinder.guard, functools.partial(order_kill, run)
            ),
            lambda: [one.state() for one in self._askers],
            wake,
        )
        self._marker = MarkerWriter(Database(config.socket_path, config.password_file), config.settings.me, wake)
        now_s = time.monotonic()
        # What an agent before this one may have pledged a moment ago is kept.
        self._memory = Memory(now_s, pledge_until_s=now_s + config.settings.lease_s)
        self._deciding = threading.Lock()
        self._view = View()
        self._told = self._news = ""
        # Made by stop.sh, and taken away by the next start.sh.
        self._leaving = run / "leaving"
        self.terminating = False
        self._server = AgentServer(config.port, lambda: self._view, config.host, self.pledge, self._rewinder.may_start)

    def run(self) -> None:
        """Until mysqld has gone after SIGTERM, and the lease with it."""
        self._server.start()
        of_peers = [run for one in self._askers for run in (one.resolve_for_ever, one.run)]
        for run in (self._sql.run, self._lease.run, self._rewinder.run, *of_peers):
            threading.Thread(target=self._guard, args=(run,), daemon=True).start()
        ended_s: float | None = None
        while True:
            self._event.wait(TICK_S)
            self._event.clear()
            seen = self.step()
            if not self.terminating or not seen.server.dead:
                continue
            now_s = time.monotonic()
            ended_s = now_s if ended_s is None else ended_s
            mine = seen.lease is not None and seen.lease.holder == self._config.settings.me
            if not mine or now_s - ended_s > 5:
                say("mysqld has ended: so does the agent")
                return

    @staticmethod
    def _guard(run: Callable[[], None]) -> None:
        """A thread that ends takes the agent with it: the kubelet starts a whole one."""
        try:
            run()
        finally:
            say("a thread has ended, giving up")
            os._exit(70)

    def pledge(self, asker: str) -> bool:
        """Pledge to leave the lease to its holder for a while; between two rounds. ``asker``: namespace/pet."""
        namespace, _slash, holder = asker.rpartition("/")
        if namespace != self._config.namespace:
            return False
        with self._deciding:
            lease, _put, _busy = self._lease.state()
            after = pledge(self._config.settings, lease, self._memory, holder, time.monotonic())
            self._memory = after or self._memory
        return after is not None

    def step(self) -> Observation:
        """One round: observe, decide, act, tell."""
        with self._deciding:
            return self._step()

    def _step(self) -> Observation:
        look, sql_busy = self._sql.state()
        lease, put, lease_busy = self._lease.state()
        spoilt, doubt = self._rewinder.check(look.server)
        seen = Observation(
            server=look.server,
            lease=lease,
            put=put,
            lease_busy=lease_busy,
            sql_busy=sql_busy,
            peers=look.peers,
            heard=tuple(one.state().peer for one in self._askers),
            marker=self._marker.state,
            terminating=self.terminating,
            leaving=self._leaving.exists(),
            spoilt=spoilt,
            doubt=doubt,
        )
        now_s = time.monotonic()
        decision = decide(self._config.settings, seen, self._memory, now_s)
        self._memory = decision.memory
        for asker in self._askers:
            asker.want_pledge(decision.ask_pledge)
        self._tell(seen, look, decision, now_s)
        for action in decision.actions:
            if isinstance(action, PutLease):
                self._lease.write(action)
            elif isinstance(action, Marker):
                self._marker.write()
            elif isinstance(action, Fence):
                order_kill(self._run_folder)
            else:
                self._sql.do(action)
        return seen

    def _tell(self, seen: Observation, look: Look, decision: Decision, now_s: float) -> None:
        settings, server, lease = self._config.settings, seen.server, seen.lease
        healthy_until_s = server.answered_s + settings.hang_s if not server.dead else float("-inf")
        facts = look.facts or {}
        reasons = tuple(one for one in (*decision.reasons, look.error, self._sql.failure, self._lease.failure) if one)
        status = {
            "super_read_only": True,
            "read_only": True,
            "semi_sync_acknowledges": False,
            "server_uuid": "",
            "channels": [],
            **facts,
            "name": settings.me,
            "namespace": self._config.namespace,
            "ordinal": settings.ordinal,
            "role": decision.role,
            # False: just started, the server may be well all the same.
            "looked": bool(look.facts or look.error),
            "alive": now_s < healthy_until_s,
            "answered_s_ago": _age(now_s, server.answered_s),
            "incarnation": server.incarnation,
            "gtid_executed": server.executed,
            "gtid_received": server.received,
            "applied": server.applied,
            "receives_from": server.channel.source if server.channel.io == "on" else "",
            "semi_sync": {
                "source": server.semi_source,
                "replica": server.semi_replica,
                "clients": server.clients,
                "waiting": server.waiting,
            },
            "lease": None
            if lease is None
            else {
                "exists": lease.exists,
                "holder": lease.holder,
                "in_sync": None if lease.in_sync is None else list(lease.in_sync),
                "mode": lease.mode,
                "last_writer": lease.last_writer,
                "age_s": round(now_s - lease.asked_s, 3),
                "renewed_s_ago": _age(now_s, decision.memory.renewed_s),
                "pledged_s_ago": _age(now_s, decision.memory.pledged_s),
            },
            "last_decision": [type(one).__name__ for one in decision.actions],
            "reasons": list(reasons),
        }
        holder = lease is not None and lease.holder == settings.me
        in_sync = lease is not None and settings.me in (lease.in_sync or ())
        lag_s = server.channel.lag_s
        metrics = {
            "petset_up": float(now_s < healthy_until_s),
            "petset_lease_holder": float(holder),
            "petset_in_sync": float(in_sync),
            "petset_in_sync_pets": float(len(lease.in_sync or ()) if lease else 0),
            "petset_open": float(server.open),
            "petset_semi_sync_clients": float(server.clients),
            "petset_semi_sync_waiting_sessions": float(server.waiting),
            "petset_channel_running": float(server.channel.running),
            "petset_channel_lag_seconds": -1.0 if lag_s is None else lag_s,
            "petset_behind_writer_seconds": -1.0 if decision.behind_s is None else round(decision.behind_s, 3),
        }
        self._view = View(
            now_s,
            decision.writer_until_s,
            decision.reader_until_s,
            healthy_until_s,
            reasons,
            status,
            metrics,
            settings.fence_s,
            # Not while a statement is on its way: it may be closing, or starting the channel.
            left=seen.leaving
            and not seen.sql_busy
            and all(isinstance(one, PutLease | Marker | Fence) for one in decision.actions)
            and (not server.open or now_s >= healthy_until_s),
        )
        news = [one.purpose for one in decision.actions if isinstance(one, PutLease) and one.purpose != "renew"]
        news += [str(one) for one in decision.actions if not isinstance(one, PutLease | Marker)]
        told = f"{decision.role}: {'; '.join(reasons) or 'all is well'}"
        line = f"{told}{' -> ' if news else ''}{', '.join(news)}"
        # What is tried again and again while nothing changes is told once.
        known = self._news if told == self._told else ""
        if line != known if news else told != self._told:
            say(line)
        self._told, self._news = told, line if news else known
