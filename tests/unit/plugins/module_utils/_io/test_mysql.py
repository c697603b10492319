# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong gets a name, and what is asked comes back in time; real servers are in tests/api."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pymysql.err
import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import TimedOut
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down, PetState, RingPet
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_copy import CopyLimits
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_judge import judge_ring
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import (
    PLACEHOLDER,
    Kind,
    RingStep,
    change_statement,
    plan_ring,
    wanted_settings,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_trouble import RingTrouble
from ansible_collections.stateful.petset.plugins.module_utils._io import mysql
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import (
    MysqlSession,
    PetDown,
    Pets,
    SqlError,
    sort_forward,
    sort_login,
)
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock
from ansible_collections.stateful.petset.tests.unit.fakes.mysqlds import FakeMysqlds, FakeSqlSession
from ansible_collections.stateful.petset.tests.unit.plugins.module_utils._core.rings import lease_of, ring_of


def operational(number: int, text: str, cause: Exception | None = None) -> Exception:
    problem = pymysql.err.OperationalError(number, text)
    if cause is not None:
        problem.original_exception = cause  # type: ignore[attr-defined]
    return problem


@pytest.mark.parametrize(
    ("problem", "closed", "kind"),
    [
        (operational(1045, "Access denied"), "", "access_denied"),
        (operational(1040, "Too many connections"), "", "busy"),
        (operational(2013, "Lost connection"), "connection refused", "not_listening"),
        (operational(2013, "Lost connection"), "", "lost"),
        (operational(2013, "Lost connection"), "error forwarding port 33062: write: broken pipe", "lost"),
        (operational(2003, "no", TimeoutError("timed out")), "", "silent"),
        (operational(2003, "no", ssl.SSLError(1, "wrong version number")), "", "tls"),
        (operational(2003, "no", ssl.SSLCertVerificationError(1, "hostname mismatch")), "", "tls"),
        (operational(2003, "no", ssl.SSLEOFError(8, "UNEXPECTED_EOF_WHILE_READING")), "", "lost"),
        (operational(2003, "no", ssl.SSLEOFError(8, "EOF occurred")), "connection refused", "not_listening"),
        (OSError("broken pipe"), "", "lost"),
    ],
)
def test_why_a_login_failed(problem: Exception, closed: str, kind: str) -> None:
    assert sort_login("mysql-0", "petset_admin", problem, closed).kind == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("(0) Reason: Handshake status 403 Forbidden", "forbidden"),
        ("(0) Reason: Handshake status 404 Not Found", "no_pod"),
        ("(0) Reason: Handshake status 401 Unauthorized", "unauthorized"),
        ("(0) Reason: timed out", "no_forward"),
    ],
)
def test_why_there_is_no_way(text: str, kind: str) -> None:
    down = sort_forward("mysql-0", text)
    assert down.kind == kind
    assert kind != "forbidden" or "pods/portforward" in down.reason


class FakeConnection:
    """Escapes as PyMySQL does and fails as told, repeating the statement as MySQL does."""

    def __init__(self, failure: int) -> None:
        self.failure = failure
        self.ran: list[str] = []

    def escape(self, value: str) -> str:
        return "'" + pymysql.converters.escape_string(value) + "'"

    def cursor(self) -> FakeConnection:
        return self

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_args: object) -> None:
        pass

    def execute(self, text: str) -> None:
        self.ran.append(text)
        if self.failure:
            raise pymysql.err.ProgrammingError(self.failure, f"You have an error near '{text}'")


def test_rp_rep_11_a_secret_is_quoted_and_never_told() -> None:
    secret = "it's \\ $ecret %s"
    connection = FakeConnection(0)
    session = MysqlSession("mysql-0", connection, lambda: None)
    session.run(f"X {PLACEHOLDER}", secret)
    assert connection.ran == ["X 'it\\'s \\\\ $ecret %s'"]
    session = MysqlSession("mysql-0", FakeConnection(1064), lambda: None)
    with pytest.raises(SqlError) as problem:
        session.run(f"X {PLACEHOLDER}", "plain-secret")
    assert "plain-secret" not in problem.value.render()
    assert problem.value.__cause__ is None
    assert "error 1064" in problem.value.render()
    with pytest.raises(SqlError) as problem:
        session.run(f"X {PLACEHOLDER}", secret)
    assert "$ecret" not in problem.value.render()


class FakeSession:
    def __init__(self, problem: Exception | None = None, hold: threading.Event | None = None) -> None:
        self.problem, self.hold, self.closed = problem, hold, False

    def query(self, text: str) -> list[Any]:
        if self.hold is not None:
            self.hold.wait()
        raise self.problem or PetDown(Down("lost", "gone"))

    def run(self, text: str, secret: str = "") -> None:
        raise self.problem or PetDown(Down("lost", "gone"))

    def close(self) -> None:
        self.closed = True


def test_a_pet_that_never_answers_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "LOOK_LIMIT_S", 0.2)
    hold = threading.Event()

    def connect(pet: RingPet, _limit_s: float | None) -> Any:
        return FakeSession(hold=hold if pet.ordinal else None)

    states = Pets(ring_of(), connect).observe()
    assert [state.kind for state in states.values() if isinstance(state, Down)] == ["lost", "silent"]
    hold.set()


Watch = Callable[[str, int], None]


class WatchedSession(FakeSqlSession):
    """Tells of each read of the pet's set: its name, and how many such reads it has answered before this one."""

    def __init__(self, world: FakeMysqlds, name: str, before: Watch, after: Watch) -> None:
        super().__init__(world, name)
        self.before, self.after = before, after
        self.reads = 0

    def query(self, text: str) -> list[Mapping[str, Any]]:
        if "@@GLOBAL.gtid_executed" not in text:
            return super().query(text)
        self.before(self.name, self.reads)
        rows = super().query(text)
        self.after(self.name, self.reads)
        self.reads += 1
        return rows


def test_all_pets_are_asked_side_by_side_in_both_looks() -> None:
    """None gets on before all are at the same point; one after the other, the first would wait in vain."""
    world = FakeMysqlds(5)
    meeting = threading.Barrier(len(world.pets), timeout=5.0)
    met: list[tuple[str, int]] = []

    def connect(pet: RingPet, _limit_s: float | None) -> WatchedSession:
        meeting.wait()
        return WatchedSession(world, pet.name, lambda *_read: meeting.wait() and None, lambda *read: met.append(read))

    states = Pets(ring_of(len(world.pets)), connect).observe()
    assert [state for state in states.values() if isinstance(state, Down)] == []
    assert sorted(met) == [(name, reads) for name in world.pets for reads in (0, 1)]


@pytest.mark.parametrize(("first", "second"), [("mysql-0", "mysql-1"), ("mysql-1", "mysql-0")])
def test_a_source_that_moves_on_between_the_reads_makes_nothing_look_errant_or_behind(first: str, second: str) -> None:
    """All sets are read once more after all were read, and a set is held against a later one of the other pet."""
    world, ring = FakeMysqlds(2), ring_of()
    for pet, source in (ring.pets, ring.pets[::-1]):
        session = FakeSqlSession(world, pet.name)
        session.run(change_statement(wanted_settings(ring, pet, source)))
        session.run("START REPLICA")
    world.pets["mysql-0"].is_open = True
    world.write("mysql-0", 5)
    first_was_read = threading.Event()
    order: list[tuple[str, int]] = []

    def before(name: str, reads: int) -> None:
        if (name, reads) == (second, 0):
            assert first_was_read.wait(5.0)
        elif reads:
            world.write("mysql-0", 12)

    def after(name: str, reads: int) -> None:
        order.append((name, reads))
        if (name, reads) == (first, 0):
            # Committed, and applied by the replica, before the other one is read.
            world.write("mysql-0", 9)
            first_was_read.set()

    states = Pets(ring, lambda pet, _limit_s: WatchedSession(world, pet.name, before, after)).observe()
    assert order[:2] == [(first, 0), (second, 0)]
    assert sorted(order[2:]) == [("mysql-0", 1), ("mysql-1", 1)]
    uuid = world.pets["mysql-0"].uuid
    seen = {name: (str(one.executed), str(one.later)) for name, one in states.items() if isinstance(one, PetState)}
    assert seen == {first: (f"{uuid}:1-5", f"{uuid}:1-12"), second: (f"{uuid}:1-9", f"{uuid}:1-12")}
    judged = judge_ring(ring, states, lease_of(), plan_ring(ring, states, lease_of()))
    assert [(pet.errant, pet.late, pet.behind) for pet in judged.pets] == [("", "", 0)] * 2
    assert {found.trouble for found in judged.troubles}.isdisjoint(
        {RingTrouble.ERRANT, RingTrouble.LATE, RingTrouble.LOST_OWN, RingTrouble.UNDER_WAY, RingTrouble.LAG}
    ), judged.summary()


@pytest.mark.parametrize(
    ("kinds", "attempts", "ends"),
    [
        (["lost"] * 9, 4, "lost"),
        (["no_forward", "lost", "silent"], 3, "silent"),
        (["tls"], 1, "tls"),
        (["lost", "access_denied"], 2, "access_denied"),
    ],
)
def test_a_connection_that_broke_off_is_made_again(
    monkeypatch: pytest.MonkeyPatch, kinds: list[str], attempts: int, ends: str
) -> None:
    """One end in the middle of the TLS handshake made a healthy set's replication 'uncertain'."""
    monkeypatch.setattr(mysql, "PAUSES_S", (0.0, 0.0, 0.0))
    made: list[FakeSession] = []

    def connect(_pet: RingPet, _limit_s: float | None) -> Any:
        kind = kinds[len(made)]
        made.append(FakeSession(PetDown(Down(kind, "no"))))
        if kind != "lost":
            raise PetDown(Down(kind, "no"))
        return made[-1]

    pets = Pets(ring_of(1), connect)
    state = pets.observe()["mysql-0"]
    assert isinstance(state, Down)
    assert state.kind == ends
    assert len(made) == attempts
    assert all(session.closed for session, kind in zip(made, kinds, strict=False) if kind == "lost")
    assert pets.sessions == {}


def test_a_kept_connection_that_died_with_its_server_is_closed_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "PAUSES_S", (0.0,))
    made: list[FakeSession] = []

    def connect(_pet: RingPet, _limit_s: float | None) -> Any:
        made.append(FakeSession())
        return made[-1]

    pets = Pets(ring_of(1), connect)
    old = pets.sessions["mysql-0"] = FakeSession()
    assert isinstance(pets.observe()["mysql-0"], Down)
    assert old.closed
    assert len(made) == 1
    assert pets.sessions == {}


def test_a_step_on_a_pet_that_is_gone_is_named() -> None:
    pets = Pets(ring_of(1), lambda *_args: FakeSession())
    with pytest.raises(SqlError, match="mysql-0"):
        pets.run(RingStep(Kind.SQL, "mysql-0", "START REPLICA"), "", lambda _line: None)


@pytest.mark.parametrize("problem", [None, SqlError("pet", "end", details={"mysql_error": 3707})])
def test_a_clone_ends_with_the_server(problem: Exception | None) -> None:
    pets = Pets(ring_of(1), lambda *_args: FakeSession(problem))
    pets.run(RingStep(Kind.CLONE, "mysql-0", "CLONE"), "", lambda _line: None)
    failed = Pets(ring_of(1), lambda *_args: FakeSession(SqlError("pet", "no", details={"mysql_error": 3862})))
    with pytest.raises(SqlError):
        failed.run(RingStep(Kind.CLONE, "mysql-0", "CLONE"), "", lambda _line: None)


class CopyingPet:
    """Its CLONE moves by a MiB in each look, which takes a minute, up to ``stands_at``; it ends at ``ends_at``."""

    def __init__(self, stands_at: int, ends_at: int) -> None:
        self.clock = FakeClock()
        self.stands_at, self.ends_at, self.looks, self.connections = stands_at, ends_at, 0, 0
        self.ended = threading.Event()

    def connect(self, _pet: RingPet, limit_s: float | None) -> Any:
        self.connections += 1
        pet = self

        class Copying(FakeSession):
            def run(self, text: str, secret: str = "") -> None:
                pet.ended.wait()

            def query(self, text: str) -> list[Any]:
                pet.looks += 1
                pet.clock.sleep(60)
                if pet.looks % 10 == 5:
                    raise PetDown(Down("lost", "gone"))
                if pet.looks >= pet.ends_at:
                    pet.ended.set()
                mib = min(pet.looks, pet.stands_at)
                return [
                    {"stage": "FILE COPY", "state": "In Progress", "estimate": 900 << 20, "data": mib << 20},
                ]

        assert (limit_s is None) is (self.connections == 1)
        return Copying()


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "CLONE_LOOK_S", 0.001)


@pytest.mark.usefixtures("no_pause")
def test_a_clone_that_gets_on_is_waited_for_and_one_that_stands_still_is_not() -> None:
    step, lines = RingStep(Kind.CLONE, "mysql-0", "CLONE"), list[str]()
    long = CopyingPet(999, 40)
    Pets(ring_of(1), long.connect, clock=long.clock, limits=CopyLimits(600.0)).run(step, "", lines.append)
    assert long.looks >= 40
    # A connection that broke off is made again.
    assert long.connections > 4
    assert "mysql-0: CLONE: FILE COPY, 16 of 900 MiB" in lines
    still = CopyingPet(7, 999)
    with pytest.raises(TimedOut, match=r"mysql-0: CLONE has got no further for 600 s: FILE COPY, 7 of 900") as problem:
        Pets(ring_of(1), still.connect, clock=still.clock, limits=CopyLimits(600.0)).run(step, "", lines.append)
    assert "run again" in problem.value.way_out
    assert "nothing is lost" in problem.value.way_out
    still.ended.set()


@pytest.mark.usefixtures("no_pause")
def test_a_clone_is_not_waited_for_longer_than_was_asked_for() -> None:
    pet = CopyingPet(999, 999)
    pets = Pets(ring_of(1), pet.connect, clock=pet.clock, limits=CopyLimits(600.0, 1800.0))
    with pytest.raises(TimedOut, match="CLONE has taken 1800 s, clone_limit is 1800 s"):
        pets.run(RingStep(Kind.CLONE, "mysql-0", "CLONE"), "", lambda _line: None)
    pet.ended.set()
