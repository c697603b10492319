# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent reads and writes, without a server."""

from __future__ import annotations

import datetime
import http.client
import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.roles.pet_set import agent_rig  # noqa: F401

from petset_agent import lease as lease_module  # isort: skip
from petset_agent import model as m  # isort: skip
from petset_agent.__main__ import read_config  # isort: skip
from petset_agent.loop import FAILURE_TOLD_S, Agent, Config, PeerAsker, SqlWorker  # isort: skip
from petset_agent.mysqld import Database, RawPeer, is_dead, join_sets, read_channel  # isort: skip
from petset_agent.server import AgentServer, View, answer  # isort: skip

LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {
        "name": "mysql",
        "resourceVersion": "9",
        "labels": {"a": "b"},
        "managedFields": [{}],
        "annotations": {"stateful.petset/in-sync": "mysql-0, mysql-1", "mine": "stays"},
    },
    "spec": {"holderIdentity": "mysql-1", "leaseTransitions": 4},
}
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)


def test_a_lease_is_read() -> None:
    found = lease_module.parse_lease(LEASE, 5.0)
    assert found == m.Lease(True, "9", "mysql-1", ("mysql-0", "mysql-1"), {}, "single_writer", "", 5.0)
    assert lease_module.parse_lease({"metadata": {}, "spec": {}}, 5.0).in_sync is None
    assert lease_module.parse_lease({"metadata": {"annotations": {"stateful.petset/in-sync": ""}}}, 5.0).in_sync == ()


def test_a_lease_that_was_written_is_read_as_meant_and_keeps_what_is_others() -> None:
    put = m.PutLease("take", "9", "mysql-0", ("mysql-0",), {"mysql-0": "ab-1"}, "mysql-0")
    body = lease_module.merge_put(LEASE, put, NOW, 3.0)
    assert body["metadata"]["annotations"]["mine"] == "stays"
    assert body["metadata"]["labels"] == {"a": "b"}
    assert "managedFields" not in body["metadata"]
    assert body["spec"] == {
        "holderIdentity": "mysql-0",
        "leaseTransitions": 5,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "renewTime": "2026-01-02T03:04:05.000006Z",
        "leaseDurationSeconds": 3,
    }
    again = lease_module.parse_lease(body, 6.0)
    assert (again.in_sync, again.incarnations, again.last_writer) == (("mysql-0",), {"mysql-0": "ab-1"}, "mysql-0")
    assert LEASE["metadata"]["resourceVersion"] == "9"


def test_giving_up_is_no_transition() -> None:
    put = m.PutLease("give up", "9", "", ("mysql-0",), {}, "mysql-1")
    assert lease_module.merge_put(LEASE, put, NOW, 3.0)["spec"]["leaseTransitions"] == 4


def test_a_source_is_known_by_its_uuid_or_its_name() -> None:
    row = {"Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes", "Source_Host": "mysql-1.db.x", "Source_UUID": "u"}
    peers = [RawPeer(m.Peer("mysql-0", 0), uuid="u")]
    assert read_channel(row, peers).source == "mysql-0"
    assert read_channel(row, []).source == "mysql-1"
    assert read_channel({}, peers) == m.Channel()


def test_an_error_of_the_applier_has_a_number_and_one_of_the_receiver_only_words() -> None:
    sql = read_channel({"Last_SQL_Errno": 1062, "Last_SQL_Error": "Duplicate", "Last_IO_Error": "no"}, [])
    assert (sql.error_no, sql.error) == (1062, "Duplicate")
    io = read_channel({"Last_SQL_Errno": 0, "Last_IO_Errno": 2003, "Last_IO_Error": "cannot connect"}, [])
    assert (io.error_no, io.error) == (0, "cannot connect")


def test_gtid_sets_are_joined() -> None:
    assert join_sets("a:1-3,\nb:2", "", "\n", "c:1") == "a:1-3,b:2,c:1"


class Ranges(Database):
    """Its GTID sets are "N": transactions 1 to N."""

    def __init__(self) -> None:
        super().__init__("", Path())

    def _subset(self, inner: str, outer: str) -> bool:
        return max(map(int, inner.split(","))) <= max(map(int, outer.split(",")))

    def _subtract(self, whole: str, part: str) -> str:
        return f"{part}-{whole}"

    def compare(self, looks: list[tuple[float, int]], received: int) -> m.Peer:
        self._snapshots.extend((taken_s, str(last)) for taken_s, last in looks)
        last = str(looks[-1][1])
        raw = RawPeer(m.Peer("mysql-0", 0, asked_s=looks[-1][0]), "u", str(received))
        return self._compare(raw, last, last, closed=True)


def test_a_peer_catches_up_although_what_it_tells_is_older_than_our_last_look() -> None:
    """Two rounds that stay in step, a client that writes all the time: it never was in-sync, for twenty seconds."""
    looks = [(1.0, 100), (1.4, 140), (1.8, 180)]
    peer = Ranges().compare(looks, 179)
    assert (peer.covers, peer.covers_as_of_s) == (True, 1.4)
    assert Ranges().compare(looks, 180).covers_as_of_s == 1.8
    assert not Ranges().compare(looks, 99).covers
    # What it lacks of looks that are no longer kept says nothing.
    many = [(float(number), number) for number in range(2 * m.SNAPSHOTS)]
    assert not Ranges().compare(many, m.SNAPSHOTS - 1).covers
    assert Ranges().compare(many, m.SNAPSHOTS).covers


def test_what_a_peer_had_that_this_pet_has_not_is_said_only_when_no_commit_is_on_its_way() -> None:
    peer = m.Peer("mysql-0", 0, asked_s=2.0, answered_s=1.9)
    raw = RawPeer(peer, "u", "100", "90")
    found = Ranges()._compare(raw, "80", "70", closed=True)
    assert (found.uuid, found.more, found.less) == ("u", "80-100,90", "100,90-80,70")
    assert Ranges()._compare(raw, "80", "70", closed=False).more == ""
    assert Ranges()._compare(replace(raw, peer=replace(peer, open=True)), "80", "70", closed=True).less == ""
    silent = Ranges()._compare(replace(raw, peer=replace(peer, answered_s=m.NEVER)), "80", "70", closed=True)
    assert (silent.less, silent.reached_s) == ("", m.NEVER), "its agent has not looked yet"


def test_a_pet_reaches_what_a_peer_had_a_while_ago_although_it_is_always_behind() -> None:
    database, reached = Ranges(), []
    for number in range(60):
        raw = RawPeer(m.Peer("mysql-0", 0, answered_s=float(number)), "u", str(number))
        executed = str(max(0, number - 9))
        reached.append(database._compare(raw, executed, executed, closed=True).reached_s)
    assert reached[9:] == [float(number) for number in range(51)]


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=80),
)
def test_a_trail_never_says_more_than_is_so(steps: list[tuple[int, int, bool]]) -> None:
    """Against all that the peer ever had: what is reached is covered, and the newest that is covered unless the pet is
    farther behind than is kept.
    """
    trail: m.Trail[int] = m.Trail()
    history: list[tuple[float, int]] = []
    theirs = ours = 0
    for number, (written, applied, told) in enumerate(steps):
        theirs += written
        ours = min(theirs, ours + applied)
        if told:
            history.append((float(number), theirs))
            trail.add(float(number), "b/1", theirs)
            trail.add(float(number), "b/1", theirs)
        have = ours
        reached_s = trail.follow(lambda one, have=have: one <= have)
        covered = [taken_s for taken_s, one in history if one <= ours]
        assert reached_s <= max(covered, default=m.NEVER)
        if len(history) <= m.TRAIL:
            assert reached_s == max(covered, default=m.NEVER)


def test_a_trail_forgets_what_a_peer_came_back_without() -> None:
    """A writer that is killed comes back without what nobody was told of: nobody ever gets it."""
    trail: m.Trail[int] = m.Trail()
    trail.add(1.0, "b/1", 7)
    trail.add(2.0, "b/2", 6)
    assert trail.follow(lambda one: one <= 6) == 2.0


def test_who_refuses_is_dead_and_who_is_silent_is_not() -> None:
    assert is_dead(ConnectionRefusedError())
    assert is_dead(FileNotFoundError())
    assert not is_dead(TimeoutError())


@pytest.mark.parametrize(
    ("path", "at_s", "status"),
    [
        ("/writer", 100.5, 200),
        ("/writer", 101.0, 503),
        ("/reader", 101.0, 200),
        ("/reader", 102.5, 503),
        ("/healthz", 101.5, 200),
        ("/livez", 102.5, 503),
        ("/status", 999.0, 200),
        ("/nothing", 100.0, 404),
    ],
)
def test_answers_and_their_age(path: str, at_s: float, status: int) -> None:
    view = View(100.0, 101.0, 103.0, 103.0, ("because",), {"name": "x"}, {})
    assert answer(view, path, at_s)[0] == status


def test_a_no_says_why() -> None:
    view = View(100.0, 0.0, 0.0, 0.0, ("mysql-1 holds the lease",))
    assert answer(view, "/writer", 100.1)[2] == "mysql-1 holds the lease\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_the_server_answers_each_method(method: str) -> None:
    now_s = time.monotonic()
    server = AgentServer(0, lambda: View(now_s, now_s + 60, now_s + 60, now_s + 60, stale_s=60), "127.0.0.1")
    server.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
        connection.request(method, "/writer")
        found = connection.getresponse()
        assert (found.status, found.read()) == (200, b"" if method == "HEAD" else b"ok\n")
        connection.close()
    finally:
        server.shutdown()
        server.server_close()


def test_the_environment_of_a_pod() -> None:
    environment = {
        "PETSET_POD": "mysql-2",
        "PETSET_SET": "mysql",
        "PETSET_SERVICE": "db",
        "PETSET_NAMESPACE": "demo",
        "PETSET_MASTERS": "2",
        "KUBERNETES_SERVICE_HOST": "fd00::1",
    }
    config, api = read_config(environment)
    assert config.settings.ordinal == 2
    assert config.peers == {"mysql-0": "http://mysql-0.db:8008", "mysql-1": "http://mysql-1.db:8008"}
    assert (api.url, api.name, api.namespace) == ("https://[fd00::1]:443", "mysql", "demo")
    assert config.namespace == "demo"


def test_metrics_are_numbers() -> None:
    text = answer(View(metrics={"petset_up": 1.0}), "/metrics", 0.0)[2]
    values: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _blank, value = line.partition(" ")
            values[name] = float(value)
    assert values == {"petset_up": 1.0, "petset_writer": 0.0, "petset_reader": 0.0}
    assert json.loads(answer(View(), "/status", 0.0)[2])["age_s"] is None


def test_a_pledge_is_asked_for_by_name_and_only_with_get() -> None:
    asked: list[str] = []

    def pledge(holder: str) -> bool:
        asked.append(holder)
        return holder == "mysql-1"

    server = AgentServer(0, View, "127.0.0.1", pledge)
    server.start()
    try:
        said = []
        for method, path in (
            ("GET", "/pledge?to=mysql-1"),
            ("GET", "/pledge?to=x"),
            ("GET", "/pledge"),
            ("HEAD", "/pledge?to=mysql-1"),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
            connection.request(method, path)
            found = connection.getresponse()
            said.append((found.status, found.read()))
            connection.close()
    finally:
        server.shutdown()
        server.server_close()
    assert said == [
        (200, b'{"pledged": true}\n'),
        (200, b'{"pledged": false}\n'),
        (200, b'{"pledged": false}\n'),
        (404, b""),
    ]
    assert asked == ["mysql-1", "x", ""]


class Failing(Database):
    """No statement comes through."""

    def carry_out(self, action: m.SqlAction) -> None:
        raise OSError("timed out")


def test_a_statement_that_failed_once_is_told_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on the lab: a START REPLICA that had timed out stood beside "all is well" for minutes."""
    worker = SqlWorker(Failing("/nowhere", Path("/nowhere")), list, lambda: None)
    worker._carry_out(m.StartChannel())
    assert worker.failure == "StartChannel: OSError: timed out"
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s + FAILURE_TOLD_S + 1)
    assert worker.failure == ""


class Record:
    """A lease in the API that mysql-1 holds, and that was last read a second ago."""

    lease_s = 3.0

    def read(self) -> tuple[m.Lease, Any]:
        return m.Lease(True, "1", "mysql-1", ("mysql-0", "mysql-1"), asked_s=time.monotonic() - 1), {}

    def write(self, _obj: Any, _put: m.PutLease) -> tuple[m.Lease, Any]:
        raise AssertionError("nothing is to be written")


def test_an_agent_pledges_between_two_rounds_and_is_asked_by_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(m.Settings("mysql-0", 0), "/nowhere", Path("/nowhere"), {}, 0, "127.0.0.1", "demo")
    giver = Agent(config, Record())  # type: ignore[arg-type]
    giver._server.start()
    try:
        assert giver.pledge("demo/mysql-1") is False, "it has not read the lease yet"
        giver._lease._read()
        before_s = giver._memory.pledge_until_s
        assert before_s > time.monotonic(), "what an agent before it may have pledged is kept"
        for asker in ("demo/mysql-2", "mysql-1", "other/mysql-1", "demo/", ""):
            assert giver.pledge(asker) is False
        assert giver._memory.pledge_until_s == before_s
        begin_s = time.monotonic()
        url = f"http://127.0.0.1:{giver._server.server_address[1]}"
        stranger = PeerAsker("other", "mysql-1", "mysql-0", url, lambda: None)
        stranger.resolve()
        stranger._ask_pledge()
        assert stranger.state().peer.pledged_s == m.NEVER
        asker = PeerAsker("demo", "mysql-1", "mysql-0", url, lambda: None)
        asker._ask_pledge()
        assert asker.state().peer.pledged_s == m.NEVER, "its address is not known yet"
        asker.resolve()
        # From here on no name server answers.
        asker._host = "mysql-0.db"
        known = socket.getaddrinfo("127.0.0.1", asker._port, type=socket.SOCK_STREAM)

        def no_names(host: str, *_words: object, **_more: object) -> Any:
            if host == "127.0.0.1":
                return known
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        monkeypatch.setattr(socket, "getaddrinfo", no_names)
        asker.resolve()
        asker._ask_pledge()
        assert begin_s <= asker.state().peer.pledged_s <= time.monotonic()
        kept_s = giver._memory.pledge_until_s
        assert kept_s >= begin_s + 3
        giver.step()
        assert giver._memory.pledge_until_s == kept_s
        assert asker._get("/pledge?to=demo/nobody") == {"by": "demo/mysql-0", "pledged": False}
        other = PeerAsker("demo", "mysql-1", "mysql-2", url, lambda: None)
        monkeypatch.undo()
        other.resolve()
        other._ask_pledge()
        assert other.state().peer.pledged_s == m.NEVER, "the address is another pet's by now"
        said = {**asker._get("/status"), "looked": True, "gtid_received": ""}
        stranger._take(said, 7.0)
        assert stranger.state().peer.asked_s == m.NEVER, "a pet of the same name in another namespace"
        asker._take(said, 7.0)
        assert asker.state().peer.asked_s == 7.0
    finally:
        giver._server.shutdown()
        giver._server.server_close()


def test_what_is_tried_again_and_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A set that is taken away with its rights: ten lines a second."""
    agent = Agent(Config(m.Settings("mysql-1", 1), "/nowhere", Path("/nowhere"), {}, 0, "127.0.0.1"), Record())  # type: ignore[arg-type]
    agent._server.server_close()
    agent._lease._read()
    agent._lease._write = lambda put: None  # type: ignore[method-assign]
    for _round in range(3):
        agent._lease._put = None
        agent._memory.give_up_put_s = m.NEVER
        agent.step()
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "-> give up" in line] == said[:1], said
