# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import itertools
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _module
from ansible_collections.stateful.petset.plugins.module_utils._core import errors, kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.gtid import GtidSet
from ansible_collections.stateful.petset.plugins.module_utils._core.kinds import ObjectRef
from ansible_collections.stateful.petset.plugins.module_utils._core.redact import Redactor
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import Down
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import ChannelRuns, PetDown
from ansible_collections.stateful.petset.plugins.module_utils._ring import run_mysql_ring, run_mysql_ring_info
from ansible_collections.stateful.petset.plugins.modules import mysql_ring, mysql_ring_info
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock, FakeCluster
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.mysqlds import FakeMysqld, FakeMysqlds

ADMIN, REPLICATION = "admin-secret", "replication-secret"


class Killed(Exception):
    """The run ends here."""


class World:
    """A set whose pets run; the agents are played during each sleep."""

    def __init__(self, count: int = 2) -> None:
        self.cluster = FakeCluster()
        self.clock = FakeClock()
        self.clock.during_sleep = self.play_agents
        self.mysqlds = FakeMysqlds(count)
        self.agents = True
        self.module = FakeModule({}, False, False)
        metadata = {"name": "mysql", "namespace": "default"}
        template = {"spec": {"initContainers": [{"name": "prepare"}, {"name": "agent", "restartPolicy": "Always"}]}}
        spec = {"replicas": count, "template": template}
        self.cluster.add({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec})
        for name, data in (
            ("mysql-secret", {"admin-password": ADMIN, "replication-password": REPLICATION}),
            ("mysql-tls", {"ca.crt": "an authority"}),
        ):
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
            self.cluster.add(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, "name": name}, "data": encoded}
            )

    def play_agents(self) -> None:
        client = self.cluster.client()
        lease = client.get(kinds.LEASE, "mysql", "default")
        if not self.agents or lease is None or "holderIdentity" in lease["spec"]:
            return
        first = lease["metadata"]["annotations"]["stateful.petset/in-sync"].split(",")[0]
        lease["spec"]["holderIdentity"] = first
        lease["metadata"]["annotations"]["stateful.petset/in-sync"] = "mysql-0,mysql-1"
        client.replace(lease)
        self.mysqlds.pets[first].is_open = True

    def after_sleeps(self, count: int, act: Callable[[], None]) -> None:
        """In each sleep but the first ``count`` this is done as well."""
        sleeps = itertools.count(1)

        def sleep() -> None:
            if next(sleeps) > count:
                act()
            self.play_agents()

        self.clock.during_sleep = sleep

    def run(self, *, check: bool = False, info: bool = False, **options: Any) -> Mapping[str, Any]:
        module = mysql_ring_info if info else mysql_ring
        self.module = FakeModule(checked(module.argument_spec(), {"set": "mysql", **options}), check, True)
        self.client = self.cluster.client(self.clock)
        run = run_mysql_ring_info if info else run_mysql_ring
        self.partial: dict[str, Any] = {"changed": False}
        return run(self.module, self.client, self.partial, self.mysqlds.connector)


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "_register_secret", None)


def test_a_first_run_ends_healthy_and_a_second_does_nothing() -> None:
    world = World()
    predicted = world.run(check=True)
    assert world.client.writes() == ()
    assert all(pet.ran == [] for pet in world.mysqlds.pets.values())
    done = world.run()
    assert done["actions"] == predicted["actions"]
    assert done["diff"] == predicted["diff"]
    assert (done["judgement"]["word"], done["writer"], done["in_sync"]) == (
        "healthy",
        "mysql-0",
        ["mysql-0", "mysql-1"],
    )
    assert any("there is no writer" in line for line in done["progress"])
    again = world.run()
    assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
    assert sum(world.client.count().values()) == 4
    assert {ADMIN, REPLICATION} <= world.module.no_log_values
    for text in (str(done), str(again), str(world.module.logged)):
        assert ADMIN not in text
        assert REPLICATION not in text


def test_secrets_of_the_users_own_are_found_by_what_the_pods_have() -> None:
    """status, recovery and drills have no variable for them."""
    world = World()
    client = world.cluster.client()
    for kind in ("secret", "tls"):
        made = client.get(kinds.SECRET, f"mysql-{kind}", "default")
        client.delete(ObjectRef(kinds.SECRET, f"mysql-{kind}", "default"))
        metadata = {"name": f"own-{kind}", "namespace": "default"}
        world.cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": made["data"]})
    live = client.get(kinds.STATEFUL_SET, "mysql", "default")
    volumes = [{"name": kind, "secret": {"secretName": f"own-{kind}"}} for kind in ("secret", "tls")]
    live["spec"]["template"]["spec"]["volumes"] = volumes
    client.replace(live)
    assert world.run()["changed"]
    assert world.run(info=True)["judgement"]["word"] == "healthy"
    with pytest.raises(errors.NotFound, match="Secret default/other"):
        world.run(passwords_secret="other")


@pytest.mark.parametrize("victim", ["mysql-0", "mysql-1"])
@pytest.mark.parametrize("step", [0, 1])
def test_killed_at_each_step_and_run_again(victim: str, step: int) -> None:
    """What was done is told, also on the pet that was not cut off in its work."""
    world = World()
    counted = 0

    def kill(pet: str, _text: str) -> None:
        nonlocal counted
        counted += pet == victim
        if pet == victim and counted == step + 1:
            raise Killed

    world.mysqlds.before = kill
    with pytest.raises(Killed):
        world.run()
    told = [line.split()[:2] for line in world.partial["actions"]]
    both = [["CHANGE", "START"] if pet != victim else ["CHANGE", "START"][:step] for pet in ("mysql-0", "mysql-1")]
    assert told == [
        [f"{pet}:", word] for pet, words in zip(("mysql-0", "mysql-1"), both, strict=True) for word in words
    ]
    assert world.partial["changed"] is True
    world.mysqlds.before = lambda _pet, _text: None
    assert world.run()["judgement"]["word"] == "healthy"
    assert world.run()["changed"] is False


@pytest.mark.parametrize("word", ["CHANGE", "START"])
def test_a_pet_that_goes_away_in_the_first_set_up_is_waited_for(word: str) -> None:
    """Killed for its memory, say: the run ended with the connection that it had lost, a second before it was back."""
    world = World()
    pet = world.mysqlds.pets["mysql-1"]
    gone: list[str] = []

    def go_away(name: str, text: str) -> None:
        if name == "mysql-1" and text.startswith(word) and not gone:
            gone.append(text)
            pet.is_up = False
            raise PetDown(Down("lost", "the connection was lost"))

    world.mysqlds.before = go_away
    world.after_sleeps(2, lambda: setattr(pet, "is_up", True))
    done = world.run(wait_timeout=60)
    assert gone
    assert done["judgement"]["word"] == "healthy"
    told = [line.split()[:2] for line in done["actions"]]
    assert sorted(told[:-1]) == [[name, word] for name in ("mysql-0:", "mysql-1:") for word in ("CHANGE", "START")]
    assert world.run()["changed"] is False
    gone.clear()
    other = World()
    other.mysqlds.before = go_away
    with pytest.raises(errors.PetsetError, match="Run again"):
        other.run(wait=False)


def test_pets_are_set_up_at_the_same_time() -> None:
    """One after the other each took three seconds on NFS, where the channel's workers are written down."""
    world = World()
    meeting = threading.Barrier(2, timeout=20)
    world.mysqlds.before = lambda _pet, text: meeting.wait() if text.startswith("CHANGE") else None
    assert [line.split()[:2] for line in world.run()["actions"]] == [
        ["mysql-0:", "CHANGE"], ["mysql-0:", "START"], ["mysql-1:", "CHANGE"], ["mysql-1:", "START"],
        ["create", "Lease"],
    ]  # fmt: skip


def test_a_third_pet_is_cloned_and_followed_up_in_one_run() -> None:
    world = World()
    world.run()
    world.mysqlds.write("mysql-0", 9)
    grown = FakeMysqlds(3)
    grown.pets.update(world.mysqlds.pets)
    world.mysqlds = grown
    for name in ("mysql-0", "mysql-1"):
        grown.pets[name].purged = grown.pets[name].executed
    lease = world.client.get(kinds.STATEFUL_SET, "mysql", "default")
    assert lease is not None
    lease["spec"]["replicas"] = 3
    world.client.replace(lease)
    done = world.run()
    record, *actions = done["actions"]
    # Before it receives anything: nothing is cut off a killed writer's log any more.
    assert record == "change Lease default/mysql (followers: mysql-2)"
    words = [line.partition(": ")[2].split()[0] for line in actions]
    assert words == ["SET", "SET", "SET", "CLONE", "CHANGE", "START", "SELECT", "SELECT"]
    assert all(line.startswith("mysql-2") for line in actions)
    assert done["judgement"]["word"] == "healthy"
    assert done["pets"][2]["role"] == "replica"
    assert world.run()["changed"] is False


@pytest.mark.parametrize("times", [1, 4, 5])
def test_a_channel_that_its_agent_starts_before_it_is_changed_is_looked_at_again(times: int) -> None:
    """After a CLONE the agent starts the donor's channel, which came with the data: the run ended with error 3081."""
    world = World()
    world.run()
    pet = world.mysqlds.pets["mysql-1"]
    assert pet.config is not None
    pet.config["connection_retry_count"] = "3"
    pet.runs = False
    started: list[str] = []

    def start(name: str, text: str) -> None:
        if name == "mysql-1" and text.startswith("CHANGE") and len(started) < times:
            started.append(text)
            pet.runs = True

    world.mysqlds.before = start
    if times == 5:
        with pytest.raises(ChannelRuns):
            world.run()
        return
    done = world.run()
    assert done["judgement"]["word"] == "healthy"
    assert len(started) == times
    assert done["actions"][-2].startswith("mysql-1: CHANGE REPLICATION SOURCE TO SOURCE_RETRY_COUNT = ")
    assert done["actions"][-1] == "mysql-1: START REPLICA FOR CHANNEL 'ring'"
    assert world.run()["changed"] is False


def begin_copy(world: World) -> FakeMysqld:
    """Data, whose first binary logs are purged, and a third pet that an earlier run has begun to seed by CLONE."""
    world.run()
    world.mysqlds.write("mysql-0", 9)
    for name in ("mysql-0", "mysql-1"):
        world.mysqlds.pets[name].purged = world.mysqlds.pets[name].executed
    pet = world.mysqlds.pets["mysql-2"] = FakeMysqld(2)
    pet.copied_mib = 0
    return pet


def copy_on(world: World, pet: FakeMysqld, step: Callable[[int], int | None]) -> None:
    """In each sleep the copy goes to what ``step`` makes of the MiB; None ends it."""

    def sleep() -> None:
        if pet.copied_mib is not None:
            pet.copied_mib = step(pet.copied_mib)
            if pet.copied_mib is None:
                donor = world.mysqlds.pets["mysql-1"]
                pet.executed, pet.purged = donor.executed, donor.executed

    world.after_sleeps(0, sleep)


def test_a_clone_of_an_earlier_run_is_waited_for_as_long_as_it_gets_on() -> None:
    """The second run ended after its 600 s beside a copy that went on."""
    world = World(3)
    pet = begin_copy(world)
    copy_on(world, pet, lambda mib: mib + 1 if mib < 100 else None)
    done = world.run(wait_timeout=60)
    assert done["waited_s"] > 200
    assert done["judgement"]["word"] == "healthy"
    assert any("mysql-2 is being seeded by CLONE: FILE COPY, 77 of 480 MiB" in line for line in done["progress"])
    assert not any("CLONE" in action for action in done["actions"])
    assert not any("CLONE" in text for text in pet.ran)


def test_a_clone_of_an_earlier_run_that_stands_still_ends_the_wait() -> None:
    world = World(3)
    copy_on(world, begin_copy(world), lambda mib: min(mib + 1, 50))
    words = r"mysql-2: CLONE has got no further for 6\d s: FILE COPY, 50 of 480 MiB"
    with pytest.raises(errors.TimedOut, match=words) as problem:
        world.run(wait_timeout=60)
    assert "run again" in problem.value.way_out
    assert "nothing is lost" in problem.value.way_out
    assert [pet["name"] for pet in problem.value.details["pets"]] == ["mysql-0", "mysql-1", "mysql-2"]
    assert 150 < problem.value.details["waited_s"] < 300


def test_a_clone_is_not_waited_for_longer_than_was_asked_for() -> None:
    world = World(3)
    copy_on(world, begin_copy(world), lambda mib: mib + 1)
    with pytest.raises(errors.TimedOut, match=r"CLONE has taken 12\d s, clone_limit is 120 s: FILE COPY, \d\d of 480"):
        world.run(wait_timeout=60, clone_limit=120)


def test_a_clone_that_falls_back_each_time_is_not_waited_for_without_end() -> None:
    world = World(3)
    copy_on(world, begin_copy(world), lambda mib: (mib + 1) % 10)
    with pytest.raises(errors.TimedOut, match="CLONE has got no further for 6"):
        world.run(wait_timeout=60)


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_clone_that_begins_while_the_run_waits_has_its_own_time(ends_well: bool) -> None:
    world = World(3)
    pet = begin_copy(world)
    pet.copied_mib, pet.is_up = None, False
    world.after_sleeps(2, lambda: setattr(pet, "is_up", True))

    def take_long(_pet: str, text: str) -> None:
        if text.startswith("CLONE"):
            world.clock.time_s += 1000
            if not ends_well:
                raise PetDown(Down("lost", "killed for want of memory"))

    world.mysqlds.before = take_long
    if ends_well:
        assert world.run(wait_timeout=60)["judgement"]["word"] == "healthy"
        return
    # It dies in each of them, and the run still ends.
    with pytest.raises(errors.TimedOut):
        world.run(wait_timeout=60)
    assert 2 < sum("CLONE INSTANCE" in action for action in world.partial["actions"]) < 6


def catch_up(world: World, step: int) -> None:
    """The standby lags 1000 transactions behind, and applies so many in each sleep."""
    world.run()
    writer, standby = world.mysqlds.pets["mysql-0"], world.mysqlds.pets["mysql-1"]
    standby.is_slow = True
    world.mysqlds.write("mysql-0", 1000)
    applied = 0

    def sleep() -> None:
        nonlocal applied
        applied += step
        if applied > 0:
            standby.executed = standby.executed | GtidSet.parse(f"{writer.uuid}:1-{min(applied, 1000)}")
        standby.is_slow = applied < 1000

    world.after_sleeps(0, sleep)


def test_a_pet_that_catches_up_is_waited_for_as_long_as_it_gets_on() -> None:
    """Its node had been off for 400 s of writes; site ended after its 240 s, when most of them were applied."""
    world = World()
    catch_up(world, 10)
    done = world.run(wait_timeout=60)
    assert done["waited_s"] > 200
    assert done["judgement"]["word"] == "healthy"
    assert any(re.search(r"mysql-1 lags 500 s, \d+ transactions, behind mysql-0", line) for line in done["progress"])


def test_a_pet_that_lags_and_applies_nothing_ends_the_wait() -> None:
    world = World()
    catch_up(world, 0)
    with pytest.raises(errors.TimedOut, match="mysql-1 lags 500 s, 1000 transactions, behind mysql-0") as problem:
        world.run(wait_timeout=60)
    assert problem.value.details["waited_s"] < 70


def test_a_pet_that_goes_away_is_waited_for() -> None:
    world = World()
    pet = world.mysqlds.pets["mysql-1"]

    def restart(name: str, text: str) -> None:
        if name == "mysql-0":
            pet.is_up = False

    pet.is_up = False
    world.after_sleeps(3, lambda: setattr(pet, "is_up", True))
    world.mysqlds.before = restart
    done = world.run()
    assert done["judgement"]["word"] == "healthy"
    assert any("mysql-1 could not be asked" in line for line in done["progress"])


@pytest.mark.parametrize("check", [True, False])
def test_a_channel_that_its_agent_starts_soon_is_no_change(check: bool) -> None:
    world = World()
    world.run()
    pet = world.mysqlds.pets["mysql-1"]
    pet.runs = False
    world.after_sleeps(5, lambda: setattr(pet, "runs", True))
    done = world.run(check=check)
    assert (done["changed"], done["actions"], done["judgement"]["word"]) == (False, [], "healthy")
    assert any("the agent starts the channel of mysql-1" in line for line in world.module.logged)


@pytest.mark.parametrize("check", [True, False])
def test_a_channel_that_no_agent_starts_is_started(check: bool) -> None:
    world = World()
    world.run()
    world.mysqlds.pets["mysql-1"].runs = False
    done = world.run(check=check)
    assert done["actions"] == ["mysql-1: START REPLICA FOR CHANNEL 'ring'"]
    assert world.mysqlds.pets["mysql-1"].runs is not check


def test_without_agents_a_stopped_channel_is_started_at_once() -> None:
    world = World()
    world.run()
    live = world.client.get(kinds.STATEFUL_SET, "mysql", "default")
    assert live is not None
    live["spec"]["template"]["spec"]["initContainers"].pop()
    world.client.replace(live)
    world.mysqlds.pets["mysql-1"].runs = False
    begin_s = world.clock.now_s()
    assert world.run(check=True)["actions"] == ["mysql-1: START REPLICA FOR CHANNEL 'ring'"]
    assert world.clock.now_s() == begin_s


def test_without_waiting_a_pet_that_is_down_is_told() -> None:
    world = World()
    world.mysqlds.pets["mysql-1"].is_up = False
    told = world.run(wait=False)
    assert told["judgement"]["word"] == "uncertain"
    assert told["actions"] == []
    checked_run = world.run(check=True)
    assert any("mysql-1 does not answer" in note for note in checked_run["notes"])


def test_unrelated_data_stops_the_run() -> None:
    world = World()
    for name in world.mysqlds.pets:
        world.mysqlds.write(name, 3)
    with pytest.raises(errors.Refused, match="have data that the other does not have"):
        world.run()
    assert world.client.writes() == ()
    told = world.run(info=True)
    assert told["judgement"]["word"] == "broken"
    assert "only mysql-0 has" in told["table"]


def hold_back(world: World, sleeps: int) -> None:
    """The writer waits for an acknowledgement of its tenth transaction, which the standby has, for so many sleeps."""
    world.run()
    world.mysqlds.write("mysql-0", 9)
    writer, standby = world.mysqlds.pets["mysql-0"], world.mysqlds.pets["mysql-1"]
    standby.executed = GtidSet.parse(f"{writer.uuid}:1-10")
    world.after_sleeps(sleeps - 1, lambda: world.mysqlds.write("mysql-0", 10))


@pytest.mark.parametrize("info", [False, True])
def test_rp_rep_13_a_commit_that_waits_is_looked_at_again(info: bool) -> None:
    world = World()
    hold_back(world, 3)
    done = world.run(info=info)
    assert (done["changed"], done["summary"]) == (False, "healthy")
    assert any("mysql-0 seems to lack transactions of its own" in line for line in world.module.logged)
    assert world.client.writes() == ()


def test_rp_rep_13_what_lasts_is_refused_and_told() -> None:
    world = World()
    hold_back(world, 1000)
    begin_s = world.clock.now_s()
    with pytest.raises(errors.Refused, match=r"lacks transactions of its own .*, seen for 15 s"):
        world.run()
    assert world.clock.now_s() - begin_s == 15
    told = world.run(info=True)
    assert told["judgement"]["word"] == "broken"
    assert "seen for 5 s" in told["judgement"]["certain"][0]
    assert "lost_transactions" in [one["trouble"] for one in told["troubles"]]


def test_nobody_opens_in_time() -> None:
    world = World()
    world.agents = False
    with pytest.raises(errors.TimedOut, match="no pet holds the Lease") as problem:
        world.run(wait_timeout=20)
    assert [pet["name"] for pet in problem.value.details["pets"]] == ["mysql-0", "mysql-1"]
    assert len(world.partial["actions"]) == 5


def test_what_stays_broken_is_not_waited_for() -> None:
    world = World()
    world.run()
    world.mysqlds.pets["mysql-1"].is_open = True
    with pytest.raises(errors.TimedOut, match="waiting does not help: mysql-1 is open for writes") as problem:
        world.run(wait_timeout=3000)
    assert problem.value.details["waited_s"] < 60


def test_the_mode_is_changed_in_the_lease() -> None:
    world = World()
    world.run()
    world.mysqlds.pets["mysql-1"].is_open = True
    done = world.run(mode="spread")
    assert done["actions"] == ["change Lease default/mysql (mode single_writer -> spread)"]
    assert [pet["role"] for pet in done["pets"]] == ["master", "master"]
    assert done["judgement"]["word"] == "healthy"


def test_the_marker_row_is_looked_for_on_each_pet_and_never_made() -> None:
    world = World()
    world.run()
    pets = world.mysqlds.pets
    assert world.run(info=True)["judgement"]["word"] == "healthy"
    pets["mysql-0"].beats = {"mysql-0"}
    ran = {name: len(pet.ran) for name, pet in pets.items()}
    told = world.run(info=True)
    assert told["judgement"]["word"] == "broken"
    (trouble,) = told["troubles"]
    assert (trouble["pet"], trouble["trouble"]) == ("mysql-1", "marker_missing")
    assert "marker_missing: this pet's data" in told["table"]
    assert {name: len(pet.ran) for name, pet in pets.items()} == ran
    # A row that arrives at the second look was on its way.
    world.after_sleeps(0, lambda: pets["mysql-1"].__setattr__("beats", {"mysql-0"}))
    assert world.run(info=True)["judgement"]["word"] == "healthy"


@pytest.mark.parametrize("info", [False, True])
def test_an_error_that_quotes_a_statement_tells_no_password(monkeypatch: pytest.MonkeyPatch, info: bool) -> None:
    world = World()
    world.run()
    said = f"Query: 'ALTER USER x IDENTIFIED BY 'unkn0wn'' with {REPLICATION} and {ADMIN}"
    world.mysqlds.pets["mysql-1"].sql_error = (3619, said)
    told = world.run(info=info, **({} if info else {"wait": False}))
    assert "error 3619: Query: 'ALTER USER x IDENTIFIED BY ********" in told["summary"]
    for secret in ("unkn0wn", ADMIN, REPLICATION):
        assert secret not in str(told)
    monkeypatch.setattr(Redactor, "hide", lambda _self, text: text)
    told = world.run(info=info, **({} if info else {"wait": False}))
    assert all(secret in str(told) for secret in ("unkn0wn", ADMIN, REPLICATION))


def test_info_says_what_it_may_not_see() -> None:
    world = World()
    world.run()
    world.cluster.deny("get", kinds.LEASE)
    told = world.run(info=True)
    assert told["judgement"]["word"] == "uncertain"
    assert "Lease could not be read" in told["judgement"]["uncertain"][0]
    with pytest.raises(errors.Forbidden):
        world.run()
    world.cluster.deny("get", kinds.SECRET)
    told = world.run(info=True)
    assert (told["exists"], told["judgement"]["word"]) == (True, "uncertain")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"set": "My.SQL"}, "My.SQL"),
        ({"masters": 0}, "masters"),
        ({"lag_limit": 0}, "lag_limit"),
        ({"clone_threshold": -1}, "clone_threshold"),
        ({"clone_limit": -1}, "clone_limit"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.InvalidInput, match=words):
        World().run(**options)
