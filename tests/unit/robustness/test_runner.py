# SPDX-License-Identifier: GPL-3.0-or-later
"""A run on a set that is not there: whatever goes wrong, the fault is undone, the clients end, the run is judged."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.robustness import runner
from tests.robustness.checkers.base import Verdict
from tests.robustness.history import FinalRead, Operation, Outcome, Sample, load, render_line, to_ranges
from tests.robustness.nemesis.base import Fault, Pick
from tests.robustness.report import Run
from tests.robustness.scenarios import Scenario
from tests.robustness.world import Done, Place, World, pick_crowded
from tests.unit.robustness.histories import A, B

# What ends well ends long before, on a busy machine too.
PATIENCE_S = 60.0
CUT_S = 0.3

pytestmark = pytest.mark.slow  # clients that really write, for some tenths of a second


class Clients:
    """The clients' process: writes a row every few milliseconds until its input is closed."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self.stdin = io.StringIO()
        self.returncode = 0
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        world.clients = self

    def begin(self) -> None:
        settings = json.loads(self.stdin.getvalue())
        assert settings["password"] == "sesame"
        folder = Path(settings["folder"])
        self.client = settings["clients"][0]

        def run() -> None:
            number = 0
            with (folder / "operations.jsonl").open("a") as file, (folder / "samples.jsonl").open("a") as looks:
                while not self.stop.is_set():
                    number += 1
                    begin = time.monotonic_ns()
                    time.sleep(0.002)
                    outcome = Outcome.OK if self.world.takes_writes else Outcome.FAIL
                    if outcome is Outcome.OK:
                        self.world.rows.append(number)
                    one = Operation(0, "append", (self.client, number), begin, time.monotonic_ns(), outcome, "", B)
                    file.write(render_line(one))
                    looks.write(render_line(Sample("mysql-1", begin, time.monotonic_ns(), True, B)))
                    looks.write(render_line(Sample("mysql-0", begin, time.monotonic_ns(), False, A)))
                    file.flush()
                    looks.flush()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout)
        return "", ""


class FakeWorld:
    """A healthy set of two pets."""

    def __init__(self) -> None:
        self.place = Place()
        self.takes_writes = True
        self.rows: list[int] = []
        self.plays: list[str] = []
        self.lost = 0
        self.ready = True
        self.clients: Clients | None = None
        self.mended_by_site = True
        self.restarts: dict[str, int] = {}
        self.crowd: list[str] = []
        self.proxies_ready = True
        self.kubectls: list[str] = []
        self.looks = 0
        self.api_s = 0.0

    def say(self, text: str) -> None:
        pass

    def settings(self, number: int, clients: int, registers: int) -> dict[str, Any]:
        return {"clients": [number * 100], "registers": [], "password": "sesame"}

    def is_ready(self, pet: str) -> bool:
        return self.ready

    def pod(self, pet: str) -> dict[str, Any]:
        return {"status": {"containerStatuses": [{"name": "mysqld", "restartCount": self.restarts.get(pet, 0)}]}}

    def kubectl(self, *words: str, limit_s: float = 60) -> None:
        self.kubectls.append(" ".join(words[:3]))
        self.restarts.pop(words[2], None)

    def are_proxies_ready(self) -> bool:
        return self.proxies_ready

    def crowded(self) -> list[str]:
        return self.crowd

    def is_in_sync(self) -> bool:
        return self.ready

    def renewed_at(self) -> str:
        """Another time at each look, unless the API server is kept from the writer."""
        self.looks += 1
        return str(self.looks if self.api_s <= 0 else 0)

    def client_argv(self, command: str) -> list[str]:
        return [command]

    def start(self, *words: str) -> Clients:
        made = Clients(self)
        write = made.stdin.write

        def begin(text: str) -> int:
            done = write(text)
            made.begin()
            return done

        made.stdin.write = begin  # type: ignore[method-assign]
        return made

    def client(self, command: str, settings: dict[str, Any], limit_s: float = 0) -> Done:
        if command == "setup":
            return Done(0, "", "")
        rows = {str(settings["clients"][0]): to_ranges(self.rows[self.lost :])}
        finals = [
            FinalRead(pet, server, f"{A}:1-5", "", rows, {}, {"appended": 1})
            for pet, server in (("mysql-0", A), ("mysql-1", B))
        ]
        return Done(0, "".join(json.dumps(asdict(one)) + "\n" for one in finals), "")

    def play(self, name: str, *, ok: bool = True) -> Done:
        self.plays.append(name)
        if self.mended_by_site:
            self.takes_writes = True
        return Done(0 if self.mended_by_site else 2, '"msg": "it cannot be helped"', "")


class Broken(Fault):
    """Writes are refused until it is undone, or for ever. A test that waits for a limit cuts it short."""

    name = "broken"
    hold_s = 0.1
    heal_limit_s = PATIENCE_S
    effect_limit_s = PATIENCE_S
    for_ever = False
    raises = False
    has_effect = True
    recoveries = 0

    def inject(self, world: World, pick: Pick) -> None:
        cast(FakeWorld, world).takes_writes = False
        if self.raises:
            raise OSError("half of it is done")

    def is_effective(self, world: World, pick: Pick) -> bool:
        return self.has_effect

    def recover(self, world: World, pick: Pick) -> None:
        type(self).recoveries += 1
        cast(FakeWorld, world).takes_writes = not self.for_ever


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    limits = {"WARM_S": 0.05, "TAIL_S": 0.05, "HELP_LIMIT_S": PATIENCE_S, "READY_LIMIT_S": PATIENCE_S}
    for name, value in limits.items():
        monkeypatch.setattr(runner, name, value)
    monkeypatch.setattr(runner, "write_report", lambda *_: None)
    return FakeWorld()


def run(world: FakeWorld, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Run:
    kind = type("Kind", (Broken,), changes)
    monkeypatch.setitem(runner.FAULTS, "broken", kind)
    told: list[str] = []
    done = runner.Runner(cast(World, world), folder, told.append).run(Scenario("broken", 5))
    assert world.clients is None or world.clients.stop.is_set()
    (one,) = folder.iterdir()
    assert load(one) == done.history
    assert "sesame" not in "".join(path.read_text() for path in one.iterdir())
    return done


def test_rows_that_every_pet_has_are_counted_for_the_next_run() -> None:
    one = FinalRead("mysql-0", A, "", rows={"1": [[1, 3], [5, 5]], "2": []}, earlier=10)
    assert runner.rows_of_all([one, replace(one, pet="mysql-1")]) == 14
    for other in (replace(one, earlier=-1), replace(one, earlier=9), replace(one, error="away")):
        assert runner.rows_of_all([one, other]) == -1
    assert runner.rows_of_all([]) == -1


def finding(done: Run, checker: str) -> Verdict:
    return next(one.verdict for one in done.judgement.findings if one.checker == checker)


def test_a_fault_that_is_undone_passes(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(world, tmp_path, monkeypatch)
    assert done.judgement.verdict is Verdict.TRUE, done.judgement
    assert [one.phase for one in done.history.events] == ["inject", "effective", "recover", "recovered", "healthy"]
    assert done.history.meta.target == "mysql-1"
    assert world.plays == []


def test_a_lost_row_fails(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lost = 2
    done = run(world, tmp_path, monkeypatch)
    assert finding(done, "lost_writes") is Verdict.FALSE
    assert done.judgement.figure("lost") == 2


def test_what_does_not_heal_is_helped_and_told(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(world, tmp_path, monkeypatch, for_ever=True, heal_limit_s=CUT_S)
    assert world.plays == ["site"]
    assert done.history.meta.healed_by == "site"
    assert finding(done, "healing") is Verdict.FALSE
    assert finding(done, "lost_writes") is Verdict.TRUE


def test_help_is_asked_for_where_it_belongs_to_the_fault(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(world, tmp_path, monkeypatch, for_ever=True, expect="site")
    assert world.plays == ["site"]
    assert finding(done, "healing") is Verdict.TRUE


def test_what_cannot_be_helped_needs_a_person(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.mended_by_site = False
    monkeypatch.setattr(runner, "HELP_LIMIT_S", CUT_S)
    done = run(world, tmp_path, monkeypatch, for_ever=True, heal_limit_s=CUT_S)
    assert not done.history.meta.is_settled
    assert "it cannot be helped" in " ".join(done.history.meta.notes)
    assert done.judgement.verdict is Verdict.FALSE


def test_a_fault_without_effect_is_unknown_and_undone(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(world, tmp_path, monkeypatch, has_effect=False, effect_limit_s=CUT_S)
    assert done.judgement.verdict is Verdict.UNKNOWN
    assert world.takes_writes


def test_a_blow_that_breaks_off_is_undone_and_unknown(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(world, tmp_path, monkeypatch, raises=True)
    assert world.takes_writes
    assert finding(done, "effect") is Verdict.UNKNOWN
    assert "half of it is done" in " ".join(done.history.meta.notes)


def test_a_set_that_is_ill_before_the_fault_says_nothing(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ready = False
    monkeypatch.setattr(runner, "READY_LIMIT_S", CUT_S)
    done = run(world, tmp_path, monkeypatch)
    assert done.judgement.verdict is not Verdict.TRUE
    assert done.history.first("inject") is None
    assert not done.history.meta.is_settled


def test_a_pet_that_ends_after_all_were_well_is_waited_for(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own agent ended it, and kubelet starts it again later: what it had not caught up with was called for help."""
    looks = iter([True, True, False, False, True])
    monkeypatch.setattr(runner.Runner, "all_ready", lambda _: next(looks, True))
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    read = world.client

    def client(command: str, *rest: Any, **more: Any) -> Done:
        assert command == "setup" or next(looks, None) is None, "read while a pet is away"
        return read(command, *rest, **more)

    monkeypatch.setattr(world, "client", client)
    done = run(world, tmp_path, monkeypatch)
    assert done.judgement.verdict is Verdict.TRUE, done.judgement
    assert world.plays == []


def test_a_writer_that_the_api_server_is_still_kept_from_is_waited_for(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kube-proxy led nobody to an API server that was back for 37 s; the fault after that was the second at once."""
    world.api_s = 37.0
    sleep = time.sleep

    def pass_by(seconds: float) -> None:
        world.api_s -= seconds
        sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", pass_by)
    setup = world.client

    def client(command: str, *rest: Any, **more: Any) -> Done:
        assert world.api_s <= 0
        return setup(command, *rest, **more)

    monkeypatch.setattr(world, "client", client)
    assert run(world, tmp_path, monkeypatch).judgement.verdict is Verdict.TRUE


def test_a_pet_that_was_killed_too_often_gets_a_new_pod_first(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.restarts = {"mysql-0": 1, "mysql-1": 2}
    done = run(world, tmp_path, monkeypatch)
    assert done.judgement.verdict is Verdict.TRUE
    assert world.kubectls == ["delete pod mysql-1"]


def test_pods_that_share_a_node_since_a_fault_before_get_new_places_first(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both proxies were on one node after the other had been away, and each of its faults was told as an outage."""
    world.crowd = ["mysql-haproxy-b", "mysql-1"]
    assert run(world, tmp_path, monkeypatch).judgement.verdict is Verdict.TRUE
    assert world.kubectls == ["delete pod mysql-haproxy-b", "delete pod mysql-1"]


def test_a_proxy_that_does_not_start_at_its_new_place_is_no_run(
    world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.crowd, world.proxies_ready = ["mysql-haproxy-b"], False
    monkeypatch.setattr(runner, "READY_LIMIT_S", CUT_S)
    done = run(world, tmp_path, monkeypatch)
    assert done.judgement.verdict is not Verdict.TRUE
    assert "mysql-haproxy-b got a new pod, and not every pod is Ready" in done.history.meta.notes[0]


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ({"proxy-a": "n1", "proxy-b": "n1", "mysql-0": "n1", "mysql-1": "n1"}, ["proxy-b", "mysql-0"]),
        ({"proxy-a": "n1", "proxy-b": "n2", "mysql-0": "n1", "mysql-1": "n1"}, ["mysql-0"]),
        ({"proxy-a": "n1", "proxy-b": "n1", "mysql-0": "n2", "mysql-1": "n1"}, ["proxy-b"]),
        ({"proxy-a": "n1", "proxy-b": "n2", "mysql-0": "n1", "mysql-1": "n1", "mysql-2": "n2"}, []),
        ({"proxy-a": "n1", "mysql-1": "n1"}, []),
        ({}, []),
    ],
)
def test_who_is_moved_when_all_of_a_kind_share_a_node(places: dict[str, str], moved: list[str]) -> None:
    kinds = {"proxy": "proxy", "mysql": "pet"}
    pods = [
        {
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": kinds[name.partition("-")[0]]}},
            "spec": {"nodeName": node},
        }
        for name, node in places.items()
    ]
    assert pick_crowded(pods, "mysql-1") == moved


def test_what_clients_add_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "operations.jsonl"
    tail = runner.Tail(path)
    tail.read()
    lines = [
        render_line(Operation(0, "append", (1, number), number, number + 1, outcome, "", A))
        for number, outcome in ((10, Outcome.OK), (20, Outcome.FAIL), (30, Outcome.OK))
    ]
    path.write_text(lines[0] + lines[1][:9])
    tail.read()
    assert tail.acknowledged_ns == [10]
    path.write_text("".join(lines))
    tail.read()
    tail.read()
    assert tail.acknowledged_ns == [10, 30]
