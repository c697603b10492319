# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import datetime
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.stateful.petset.plugins.module_utils import _drill, _module, _pet_set, _ring
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.drill_objects import (
    DROP,
    KILL_AGENT,
    KILL_MYSQLD,
    MAKE,
    READ,
    STOP_WORKLOAD,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.drill_proof import WorkLog, parse_log
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput, Refused, TimedOut
from ansible_collections.stateful.petset.plugins.module_utils._core.pet_probe import Mount, Probe
from ansible_collections.stateful.petset.plugins.module_utils._core.redact import Redactor
from ansible_collections.stateful.petset.plugins.module_utils._core.report import Timeline
from ansible_collections.stateful.petset.plugins.module_utils._core.ring import RingPet
from ansible_collections.stateful.petset.plugins.module_utils._io import drill as io_drill
from ansible_collections.stateful.petset.plugins.module_utils._io import podexec, report_plot
from ansible_collections.stateful.petset.plugins.module_utils._io.mysql import SqlError
from ansible_collections.stateful.petset.plugins.modules import mysql_ring, pet_drill, pet_set
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeClock
from ansible_collections.stateful.petset.tests.unit.fakes.module import FakeModule, checked
from ansible_collections.stateful.petset.tests.unit.fakes.mysqlds import FakeMysqlds, FakeSqlSession
from ansible_collections.stateful.petset.tests.unit.fakes.pets import (
    AGENT_FILES,
    BOOT_FILES,
    Controller,
    claim_of,
    cluster_with_claims,
    volume_of,
)
from ansible_collections.stateful.petset.tests.unit.fakes.reports import find_secrets, json_form, report_forms

BEGIN = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
KINDS = pet_drill.KINDS


class Killed(Exception):
    """The run ends here."""


class Session(FakeSqlSession):
    """Knows the drill's statements as well."""

    world: Mysqlds

    def run(self, text: str, secret: str = "") -> None:
        if text in (*MAKE, *DROP):
            self.check()
            assert self.pet.is_open, "only the writer may be written to"
            self.world.before(self.name, text)
            if text.startswith("CREATE USER"):
                assert len(secret) >= 20
                self.world.passwords.append(secret)
            if " TABLE " in text:
                self.world.tables = text.startswith("CREATE")
            return
        super().run(text, secret)

    def query(self, text: str) -> list[Mapping[str, Any]]:
        if text == READ:
            self.check()
            return [{"client": client, "number": number} for client, number in self.world.rows(self.name)]
        return super().query(text)


class Mysqlds(FakeMysqlds):
    """``lost``: rows that a pet does not have."""

    def __init__(self, world: World) -> None:
        super().__init__(2)
        self.drill_world = world
        self.tables = False
        self.passwords: list[str] = []
        self.lost: dict[str, set[tuple[int, int]]] = {}

    def connector(self, *_args: Any) -> Any:
        def connect(pet: RingPet, _limit_s: float | None) -> Session:
            session = Session(self, pet.name)
            session.check()
            return session

        return connect

    def rows(self, name: str) -> list[tuple[int, int]]:
        return sorted({one.row for one in self.drill_world.log().acknowledged} - self.lost.get(name, set()))


class World:
    """A set that is up and replicates; a workload whose log grows with the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, claim_template: str = "db") -> None:
        self.cluster = cluster_with_claims()
        self.claim_template = claim_template
        for ordinal in range(2) if claim_template != "db" else ():
            claim = claim_of(f"{claim_template}-mysql-{ordinal}")
            self.cluster.add(claim)
            self.cluster.add(volume_of(claim))
        self.clock = FakeClock()
        self.controller = Controller(self.cluster)
        self.clock.during_sleep = self.tick
        self.mysqlds = Mysqlds(self)
        self.down: list[tuple[float, float]] = []
        self.silent_s = 3.0
        self.began_s = 0.0
        self.stopped_s: float | None = None
        self.comes_back = True
        self.annotations: list[Any] = []
        monkeypatch.setattr(_module, "_register_secret", None)
        monkeypatch.setattr(_pet_set, "observe_probes", self.probes)
        monkeypatch.setattr(_drill, "utc_now", self.now)
        monkeypatch.setattr(_drill, "read_log", lambda _client, _spec, last=None: self.log())
        monkeypatch.setattr(_drill, "run_in_pod", self.run_in_pod)
        monkeypatch.setattr(io_drill, "run_once_in_pod", self.run_in_pod)
        self.up()

    # -- the world goes on -------------------------------------------------------------------------------------------

    def now(self) -> datetime.datetime:
        return BEGIN + datetime.timedelta(seconds=self.clock.time_s)

    def tick(self) -> None:
        if self.comes_back:
            self.controller()
        for pod in self.cluster.all(kinds.POD):
            if pod["metadata"]["name"].startswith("mysql-") and pod["metadata"]["name"][6:].isdigit():
                pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] = pod["metadata"]["name"][6:]
        lease = self.cluster.live(kinds.LEASE, "mysql", "default")
        if lease is not None and "holderIdentity" not in lease["spec"]:
            lease["spec"]["holderIdentity"] = "mysql-0"
            lease["metadata"]["annotations"]["stateful.petset/in-sync"] = "mysql-0,mysql-1"
            self.mysqlds.pets["mysql-0"].is_open = True

    def hit(self) -> None:
        self.down.append((self.clock.time_s, self.clock.time_s + self.silent_s))

    def pod(self, name: str) -> Any:
        return self.cluster.live(kinds.POD, name, "default")

    def log(self) -> WorkLog:
        """Twenty writes a second while the pod is there."""
        pod = self.pod("mysql-drill")
        if pod is not None and not self.began_s:
            self.began_s = self.clock.time_s
            assert self.mysqlds.tables
        if not self.began_s:
            return WorkLog()
        end = self.stopped_s or self.clock.time_s
        lines: list[Any] = [{"begin": self.now().timestamp() - self.clock.time_s + self.began_s + 100.0}]
        for number in range(int((end - self.began_s) * 20)):
            at = number / 20
            lost = any(begin <= self.began_s + at < until for begin, until in self.down)
            lines.append({"c": number % 2, "n": number, "s": at, "e": at + 0.01, "o": "info" if lost else "ok"})
        lines += [{"end": end}] if self.stopped_s else []
        return parse_log("\n".join(map(json.dumps, lines)))

    def run_in_pod(self, _client: Any, _namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
        if command == STOP_WORKLOAD:
            assert pod == "mysql-drill"
            self.stopped_s = self.clock.time_s
            return ""
        assert (container, command) in (("mysqld", KILL_MYSQLD), ("agent", KILL_AGENT))
        status = self.pod(pod)["status"]
        if container == "mysqld":
            status["containerStatuses"][0]["restartCount"] += 1
            self.hit()
        else:
            status["initContainerStatuses"].append({"name": "agent", "restartCount": 1, "state": {}})
        return "SIGKILL\n"

    def probes(self, _client: Any, _namespace: str, names: list[str], service: str) -> dict[str, Probe]:
        addresses = {name: self.pod(name)["status"]["podIP"] for name in names}
        return {
            name: Probe(
                Mount(
                    "nfs4",
                    f"192.0.2.10:/srv/default-{self.claim_template}-{name}",
                    ("hard", "proto=tcp", "rw", "vers=4.2"),
                    "not configured",
                ),
                {f"{peer}.{service}": (addresses[peer],) for peer in names},
                {f"{peer}.{service}": "9.7.4" for peer in names},
                size="ok",
                free_bytes=1 << 30,
                file="ok",
            )
            for name in names
        }

    # -- runs --------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        given: dict[str, Any] = {"set": "mysql", "image": "mysql:8.4", "boot_files": BOOT_FILES, "wait_timeout": 120}
        given |= {"agent_files": AGENT_FILES, "claim_template": self.claim_template}
        module = FakeModule(checked(pet_set.argument_spec(), given), False, False)
        _pet_set.run_pet_set(module, self.cluster.client(self.clock), {"changed": False})
        module = FakeModule(checked(mysql_ring.argument_spec(), {"set": "mysql"}), False, False)
        _ring.run_mysql_ring(module, self.cluster.client(self.clock), {"changed": False}, self.mysqlds.connector)
        self.tick()

    def step(self, step: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"set": "mysql", "step": step, "kind": "mysqld_kill", "proxies": False, "program": "# it", **options}
        self.module = FakeModule(checked(pet_drill.argument_spec(), given), check, False)
        self.module.warn = lambda _text: None  # type: ignore[method-assign]
        self.client = self.cluster.client(self.clock)
        self.partial: dict[str, Any] = {"changed": False}
        return dict(_drill.run_pet_drill(self.module, self.client, self.partial, self.mysqlds.connector))

    def drill(self, **options: Any) -> dict[str, Any]:
        """The steps as the role takes them."""
        begun = self.step("begin", **options)
        told = {**options, "drill_id": begun["drill"]["id"]}
        self.step("crash", **told)
        if options.get("kind") == "node_power_off":
            self.pod("mysql-0")["status"]["containerStatuses"][0]["restartCount"] += 1
            self.hit()
            self.clock.sleep(30)
        if "pod" in options.get("kind", "") or options.get("kind") == "both_pets":
            self.hit()
        return self.step("prove", **told)

    def notes(self) -> Mapping[str, str]:
        live = self.cluster.live(kinds.STATEFUL_SET, "mysql", "default")
        assert live is not None
        found: Mapping[str, str] = live["metadata"].get("annotations") or {}
        return found

    def leftovers(self) -> list[str]:
        found = [
            kind.kind
            for kind in (kinds.POD, kinds.CONFIG_MAP, kinds.SECRET)
            if self.cluster.live(kind, "mysql-drill", "default") is not None
        ]
        return found + (["table"] if self.mysqlds.tables else [])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drill_is_proven_recorded_and_not_run_again(world: World, kind: str) -> None:
    revision = world.cluster.live(kinds.STATEFUL_SET, "mysql", "default")["status"]["updateRevision"]  # type: ignore[index]
    before = {name: world.pod(name)["metadata"]["uid"] for name in ("mysql-0", "mysql-1")}
    assert world.step("plan", kind=kind)["decision"] == "run"
    proof = world.drill(kind=kind)
    assert proof["proven"], proof["summary"]
    assert proof["changed"]
    replaced = {name for name, uid in before.items() if world.pod(name)["metadata"]["uid"] != uid}
    assert replaced == {"pod_delete": {"mysql-0"}, "both_pets": {"mysql-0", "mysql-1"}}.get(kind, set())
    if kind != "nfs_restart":
        assert proof["figures"]["gap_s"] == pytest.approx(3.0, abs=0.2)
        assert proof["figures"]["first_write_s"] == pytest.approx(3.0, abs=0.2)
    assert proof["figures"]["lost"] == 0
    assert world.leftovers() == []
    assert set(world.notes()) == {"stateful.petset/drills"}
    assert proof["record"]["revision"] == revision
    # The pods' template is as it was: nothing is rolled.
    assert world.cluster.live(kinds.STATEFUL_SET, "mysql", "default")["status"]["updateRevision"] == revision  # type: ignore[index]
    again = world.step("plan", kind=kind)
    assert (again["decision"], again["changed"]) == ("nothing", False)
    assert "proven" in again["why"]
    again = world.step("begin", kind=kind)
    assert (again["decision"], again["changed"]) == ("nothing", False)
    assert not world.client.writes()
    json.loads(proof["report"]["json"])
    world.clock.time_s += 8 * 86400
    assert world.step("plan", kind=kind)["decision"] == "run"


def test_a_set_with_another_claim_template_is_drilled_on_its_own_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """No drill began: each pet was said to use another claim than its own."""
    world = World(monkeypatch, "data")
    proof = world.drill()
    assert proof["proven"], proof["summary"]


def test_the_identity_of_a_pet_has_the_claim_of_the_set_s_template(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "data")
    world.step("begin")
    before = json.loads(world.notes()["stateful.petset/drill"])["before"]
    for name in ("mysql-0", "mysql-1"):
        claim = world.cluster.live(kinds.PERSISTENT_VOLUME_CLAIM, f"data-{name}", "default")
        assert claim is not None
        assert before[name]["claim_uid"] == claim["metadata"]["uid"]
        assert before[name]["volume"] == f"default-data-{name}"


def test_no_password_is_told(world: World) -> None:
    begun = world.step("begin")
    secret = world.cluster.live(kinds.SECRET, "mysql-drill", "default")
    assert secret is not None
    (password,) = world.mysqlds.passwords
    assert base64.b64decode(secret["data"]["password"]).decode() == password
    assert password in world.module.no_log_values
    pod = world.pod("mysql-drill")
    assert password not in str([begun, pod, world.module.logged, dict(world.notes())])
    # Of the pets' own Secret it sees the authority alone.
    (ca,) = [one["secret"] for one in pod["spec"]["volumes"] if one["name"] == "ca"]
    assert ca["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


# --- no secret in a report --------------------------------------------------------------------------------------------

PASSWORDS = {
    "root-password": "pa'ss w\"ord\\\\ <%s>|$HOME",
    "admin-password": "Tr0ub4dor&3",
    "replication-password": "päß€ %(x)s;",
    "agent-password": "agent's own",
    "app-password": '\'; -- \\\\ "yes" ~',
    "drill": "l3tters <&> 'only'",
}
LEFT = "and nothing else"


def _ways(password: str) -> list[str]:
    return [password, html.escape(password), quote(password), quote(password, safe=""), quote_plus(password)]


SAID = " ".join(["it said", *(way for one in PASSWORDS.values() for way in _ways(one)), LEFT])


def in_a_word_of_the_workload(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log was cut, so its last trouble is told."""
    monkeypatch.setattr(
        _drill, "read_log", lambda *_args: replace(world.log(), complete=False, trouble=f"OperationalError: {SAID}")
    )


def in_an_error_of_the_replication(world: World, _monkeypatch: pytest.MonkeyPatch) -> None:
    world.mysqlds.pets["mysql-1"].sql_error = (1064, SAID)


def in_a_look_that_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def probes(*args: Any) -> dict[str, Probe]:
        return {name: replace(one, mount=None, size="", failure=SAID) for name, one in world.probes(*args).items()}

    monkeypatch.setattr(_pet_set, "observe_probes", probes)


def in_a_word_of_a_proxy(_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"ready": True, "troubles": [SAID], "summary": SAID, "writers": []}
    monkeypatch.setattr(_drill, "run_pet_proxy_info", lambda *_args: told)


PLACES: dict[str, Callable[[World, pytest.MonkeyPatch], None]] = {
    "workload": in_a_word_of_the_workload,
    "replication": in_an_error_of_the_replication,
    "look that failed": in_a_look_that_failed,
    "proxy": in_a_word_of_a_proxy,
}


def _drill_that_quotes(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> dict[str, Any]:
    """A drill that proves nothing, for the reason in whose words all the passwords stand."""
    well = {"ready": True, "troubles": [], "summary": "", "writers": ["mysql-0"]}
    monkeypatch.setattr(_drill, "run_pet_proxy_info", lambda *_args: well)
    secret: Any = world.cluster.live(kinds.SECRET, "mysql-secret", "default")
    secret["data"] = {
        key: base64.b64encode(value.encode()).decode() for key, value in PASSWORDS.items() if key != "drill"
    }
    # The channels have the new one as well, as the agents would have set it.
    for pet in world.mysqlds.pets.values():
        pet.password = PASSWORDS["replication-password"]
    told = {"proxies": True, "limit": 30}
    told |= {"drill_id": world.step("begin", **told)["drill"]["id"]}
    secret = world.cluster.live(kinds.SECRET, "mysql-drill", "default")
    secret["data"]["password"] = base64.b64encode(PASSWORDS["drill"].encode()).decode()
    world.step("crash", **told)
    PLACES[place](world, monkeypatch)
    proof = world.step("prove", **told)
    assert not proof["proven"]
    assert world.leftovers() == []
    return proof


def _leaks(proof: dict[str, Any], notes: Mapping[str, str]) -> dict[str, set[str]]:
    """For each form of the report, all else of the result, and what is recorded, whose passwords stand in it."""
    forms = report_forms(proof["report"])
    forms["result"] = json_form(json.dumps({**proof, "report": {}}))
    forms["record"] = json_form(json.dumps(json.loads(notes["stateful.petset/drills"])))
    return find_secrets(forms, PASSWORDS, _ways)


@pytest.mark.parametrize("place", PLACES)
def test_no_password_gets_into_the_report_of_a_drill(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """That of the workload, and all in words of the workload or of a proxy, were quoted in it and in the record."""
    proof = _drill_that_quotes(world, monkeypatch, place)
    assert {form: found for form, found in _leaks(proof, world.notes()).items() if found} == {}
    # What is not secret of the same text is there: the place is one that reports quote.
    assert all(LEFT in proof["report"][form] for form in ("html", "markdown", "json"))
    assert "********" in proof["summary"]


@pytest.mark.parametrize("place", PLACES)
def test_it_is_the_redaction_that_keeps_passwords_out_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Else the test above could not fail."""
    monkeypatch.setattr(Redactor, "hide", lambda _self, text: text)
    leaks = _leaks(_drill_that_quotes(world, monkeypatch, place), world.notes())
    assert {form: leaks[form] for form in ("html", "markdown", "json", "result")} == {
        form: set(PASSWORDS) for form in ("html", "markdown", "json", "result")
    }
    assert leaks["record"]


def test_no_password_is_told_while_the_workload_cannot_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def quoting(*_args: Any) -> WorkLog:
        return WorkLog(1.0, trouble=f"OperationalError: {world.mysqlds.passwords[0]} {LEFT}")

    monkeypatch.setattr(_drill, "read_log", quoting)
    with pytest.raises(TimedOut, match=LEFT) as raised:
        world.step("begin")
    assert world.mysqlds.passwords[0] not in str([raised.value.render(), raised.value.details, world.module.logged])


# --- the picture ------------------------------------------------------------------------------------------------------


class Loads(HTMLParser):
    """What a page would fetch: whatever is named by an attribute or a style and is not within the page itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.found: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "link", "base", "iframe", "frame", "object", "embed", "foreignobject"):
            self.found.append(tag)
        for name, value in attrs:
            if name.partition(":")[2] in ("href", "base") or name in (
                "src", "srcset", "href", "data", "poster", "action", "background", "http-equiv",
            ):  # fmt: skip
                self._names(value or "")
            elif not name.startswith("on"):
                self.handle_data(value or "")
            else:
                self.found.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        """A style, in an element or an attribute."""
        for address in re.findall(r"""url\(\s*["']?([^"')]*)""", data):
            self._names(address)
        self.found += re.findall(r"@import[^;]*", data)

    def handle_pi(self, data: str) -> None:
        self.found.append(data)

    def _names(self, address: str) -> None:
        if not address.startswith(("#", "data:")):
            self.found.append(address)


@pytest.mark.parametrize(
    "part",
    [
        '<script>1</script>', '<img src="https://x/y.png">', '<link rel="stylesheet" href="a.css">',
        "<style>@import 'a.css';</style>", "<style>p { background: url(//x/y.png) }</style>",
        '<svg><image xlink:href="y.png"/></svg>', '<svg><use href="other.svg#a"/></svg>', '<p style="fill: url(y)">',
        '<p onclick="1">', '<?xml-stylesheet href="a.css"?>', '<svg xml:base="http://x/">',
        '<meta http-equiv="refresh" content="1">',
    ],
)  # fmt: skip
def test_what_a_page_loads_is_found(part: str) -> None:
    """Else the tests below could not fail."""
    assert Loads(f"<html>{part}</html>").found
    assert not Loads('<svg xmlns="http://www.w3.org/2000/svg"><use xlink:href="#a" clip-path="url(#p)"/></svg>').found


def test_the_page_of_a_drill_holds_the_picture_and_needs_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Timeline] = []

    def draw(timeline: Timeline) -> str:
        drawn.append(timeline)
        return '<svg xmlns="http://www.w3.org/2000/svg"><title>timeline</title><use xlink:href="#a"/></svg>'

    monkeypatch.setattr(_drill, "draw_svg", draw)
    proof = world.drill()
    report = proof["report"]
    (timeline,) = drawn
    assert sum(timeline.counts) > 90
    assert timeline.gap is not None
    assert timeline.gap.end_s - timeline.gap.begin_s == pytest.approx(3.0, abs=0.2)
    assert any(mark.text == "mysqld_kill: mysql-0" for mark in timeline.marks)
    assert f"<figure>{report['svg']}</figure>" in report["html"]
    assert f"]({proof['report_name']}.svg)" in report["markdown"]
    assert Loads(report["html"]).found == []
    assert (proof["notes"], "No picture" in report["html"] + report["markdown"]) == ([], False)


@pytest.mark.skipif(not report_plot.HAS_MATPLOTLIB, reason="matplotlib is not installed")
def test_the_page_of_a_drill_with_its_real_picture_needs_nothing_else(world: World) -> None:
    page = Loads(world.drill()["report"]["html"])
    assert page.tags.count("svg") == 1
    assert "path" in page.tags
    assert page.found == []


def test_a_drill_s_report_without_matplotlib_says_what_to_install(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the result said so; whoever opened the page saw a report that seemed whole."""
    monkeypatch.setattr(report_plot, "HAS_MATPLOTLIB", False)
    proof = world.drill()
    assert proof["proven"]
    assert proof["report"]["svg"] == ""
    (note,) = proof["notes"]
    assert "pip install matplotlib" in note
    for form in ("html", "markdown"):
        text = proof["report"][form]
        assert f"No picture of the timeline: {note}" in text
        assert "<svg" not in text
        assert "![" not in text
    assert Loads(proof["report"]["html"]).found == []


def test_check_mode_tells_and_touches_nothing(world: World) -> None:
    told = world.step("begin", check=True)
    assert told["changed"]
    assert any("mysqld_kill of mysql-0" in line for line in told["actions"])
    assert not world.client.writes()
    assert world.step("crash", check=True)["changed"]
    assert world.step("prove", check=True)["changed"]
    assert (world.notes(), world.leftovers()) == ({}, [])


def test_a_set_that_is_not_healthy_is_left_alone(world: World) -> None:
    world.mysqlds.pets["mysql-1"].runs = False
    with pytest.raises(Refused, match="the set is not healthy: replication"):
        world.step("begin")
    assert not world.client.writes()


def test_a_forbidden_window_is_kept(world: World) -> None:
    with pytest.raises(Refused, match="forbidden window 12:00-13:00"):
        world.step("begin", forbidden_windows=["12:00-13:00"])
    # At one place it is noon, at the other it is not.
    world.step("begin", forbidden_windows=["12:00-13:00"], timezone="Asia/Tokyo", check=True)
    with pytest.raises(InvalidInput, match="timezone"):
        world.step("begin", timezone="Middle/Earth")


def test_production_needs_its_name(world: World) -> None:
    world.cluster.edit(
        kinds.NAMESPACE, "default", None, {"metadata": {"labels": {"stateful.petset/production": "true"}}}
    )
    with pytest.raises(Refused, match="Set confirm: default/mysql"):
        world.step("begin")
    assert world.step("begin", confirm="default/mysql", check=True)["changed"]
    world.cluster.deny("get", kinds.NAMESPACE)
    with pytest.raises(Refused, match="may be production"):
        world.step("begin")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pet": "other-0"}, "other-0"),
        ({"pet": "mysql-x"}, "mysql-x"),
        ({"limit": 0}, "limit"),
        ({"max_age": 0}, "max_age"),
        ({"forbidden_windows": ["always"]}, "always"),
        ({"mode": "spread"}, "writer"),
        ({"program": ""}, "program"),
    ],
)
def test_wrong_options_are_named(world: World, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        world.step("begin", **options)


def test_a_pet_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="mysql-0, mysql-1"):
        world.step("begin", pet="mysql-7")


def test_a_lost_row_is_told_and_recorded(world: World) -> None:
    world.mysqlds.lost = {"mysql-1": {(0, 2)}}
    proof = world.drill()
    assert (proof["proven"], proof["verdict"], proof["figures"]["lost"]) == (False, "failed", 1)
    assert "mysql-1 lacks 1 of" in proof["summary"]
    assert world.leftovers() == []
    plan = world.step("plan")
    assert (plan["decision"], plan["record"]["verdict"]) == ("run", "failed")


def test_a_pet_that_does_not_come_back_is_told(world: World) -> None:
    begun = world.step("begin", kind="pod_delete")
    world.comes_back = False
    told = {"kind": "pod_delete", "drill_id": begun["drill"]["id"], "limit": 60}
    world.step("crash", **told)
    world.mysqlds.pets["mysql-0"].is_up = False
    proof = world.step("prove", **told)
    assert (proof["proven"], proof["verdict"]) == (False, "failed")
    assert "recovered: not done after" in proof["summary"]
    # Nobody takes writes: the account stays, and with it the mark that lets the next run clean up.
    assert world.partial["warnings"]
    assert "stateful.petset/drill" in world.notes()
    world.comes_back = True
    world.mysqlds.pets["mysql-0"].is_up = True
    world.tick()
    world.step("abandon", kind="pod_delete")
    assert (world.leftovers(), set(world.notes())) == ([], {"stateful.petset/drills"})
    assert world.step("plan", kind="pod_delete")["record"]["verdict"] == "failed"


def _prove_without_cleaning_up(world: World, what: str) -> dict[str, Any]:
    """``what`` is in the way: the pod does not go, or nobody takes the DROP."""
    told = {"drill_id": world.step("begin")["drill"]["id"]}
    world.step("crash", **told)
    before = world.mysqlds.before

    def refuse(_name: str, text: str) -> None:
        if text in DROP:
            raise SqlError("mysql-0", "Lost connection to MySQL server during query")

    if what == "table":
        world.mysqlds.before = refuse
    else:
        world.pod("mysql-drill")["metadata"]["finalizers"] = ["example.com/slow"]
    proof = world.step("prove", **told)
    world.mysqlds.before = before
    assert proof["proven"], proof["summary"]
    assert world.partial["warnings"][0].startswith("not cleaned up, the next run will")
    return proof


@pytest.mark.parametrize("what", ["pod", "table"])
def test_a_proof_stands_when_the_cleaning_up_failed(world: World, what: str) -> None:
    """The next run took the mark for that of a run that was killed: the proof was lost and the crash staged again."""
    proof = _prove_without_cleaning_up(world, what)
    plan = world.step("plan")
    assert (plan["decision"], plan["under_way"]["ended"]) == ("heal", "proven")
    assert "was not cleaned up after" in plan["why"]
    assert plan["record"] == proof["record"]
    # Nothing that this run may still try stages or judges it again.
    for step in ("crash", "prove"):
        with pytest.raises(Refused, match="it has ended: proven"):
            world.step(step, drill_id=proof["drill"]["id"])
    if what == "pod":
        with pytest.raises(Refused, match="Pod default/mysql-drill"):
            world.step("abandon")
        assert world.step("plan")["record"] == proof["record"]
        world.cluster.remove(kinds.POD, "mysql-drill", "default")
    told = world.step("abandon", check=True)
    assert told["changed"]
    assert not world.client.writes()
    assert told["actions"] == ["clean up after mysqld_kill of writer; its record stays: proven"]
    told = world.step("abandon")
    assert told["changed"]
    assert told["record"] == proof["record"]
    assert (world.leftovers(), set(world.notes())) == ([], {"stateful.petset/drills"})
    begun = world.step("begin")
    assert (begun["decision"], begun["changed"], begun["record"]) == ("nothing", False, proof["record"])
    assert world.pod("mysql-0")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_proof_stands_wherever_the_run_that_cleans_up_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = _prove_without_cleaning_up(world, "table")
    send, written = world.cluster.send, [0, 0]

    def killing(method: str, path: str, *rest: Any) -> Any:
        answer = send(method, path, *rest)
        if method != "GET":
            written[0] += 1
            if written[0] == written[1]:
                raise Killed
        return answer

    monkeypatch.setattr(world.cluster, "send", killing)
    for at in range(1, 20):
        written[:] = [0, at]
        try:
            world.step("abandon")
        except Killed:
            assert world.step("plan")["record"] == proof["record"]
        else:
            break
    assert at > 1
    assert world.step("plan")["decision"] == "nothing"
    assert world.leftovers() == []


def test_killed_at_each_write_and_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the run ends: the next one finds it, ends it honestly, and then drills."""
    counted = 0
    at = 0
    send = world.cluster.send

    def killing(method: str, path: str, *rest: Any) -> Any:
        nonlocal counted
        answer = send(method, path, *rest)
        if method != "GET":
            counted += 1
            if counted == at:
                raise Killed
        return answer

    monkeypatch.setattr(world.cluster, "send", killing)
    seen = set()
    for at in range(1, 40):
        counted = 0
        world.began_s, world.stopped_s, world.down = 0.0, None, []
        try:
            world.drill()
        except Killed:
            pass
        else:
            break
        at = 0
        world.began_s, world.stopped_s, world.down = 0.0, None, []
        plan = world.step("plan")
        seen.add(plan["decision"])
        if plan["decision"] == "heal":
            told = world.step("abandon")
            assert told["record"]["verdict"] == "interrupted"
        assert world.leftovers() == []
        # Killed after the last write of all: then it is proven, and the annotation is taken away by hand.
        if world.step("plan")["decision"] == "nothing":
            live = world.cluster.live(kinds.STATEFUL_SET, "mysql", "default")
            assert live is not None
            del live["metadata"]["annotations"]["stateful.petset/drills"]
    assert seen == {"heal", "nothing"}
    assert counted >= 8


def test_another_run_s_drill_is_not_proven_by_this_one(world: World) -> None:
    first = world.step("begin")["drill"]["id"]
    with pytest.raises(Refused, match="did not end"):
        world.step("begin")
    with pytest.raises(Refused, match="another one is under way"):
        world.step("abandon", drill_id="somebody-else")
    world.step("abandon")
    with pytest.raises(Refused, match="it is not under way"):
        world.step("crash", drill_id=first)
    world.began_s = 0.0
    second = world.step("begin")["drill"]["id"]
    with pytest.raises(Refused, match="nothing was staged yet"):
        world.step("prove", drill_id=second)
    with pytest.raises(Refused, match="another one is"):
        world.step("prove", drill_id=first)


def test_an_interrupted_drill_is_recorded_as_one(world: World) -> None:
    begun = world.step("begin")
    world.step("crash", drill_id=begun["drill"]["id"])
    plan = world.step("plan")
    assert (plan["decision"], plan["under_way"]["kind"]) == ("heal", "mysqld_kill")
    assert world.step("abandon", check=True)["changed"]
    assert not world.client.writes()
    ended = world.step("abandon")
    assert ended["record"]["verdict"] == "interrupted"
    assert "after the crash at" in ended["record"]["summary"]
    assert world.leftovers() == []
    again = world.step("abandon")
    assert not again["changed"]


def test_a_workload_that_cannot_write_stages_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_drill, "read_log", lambda *_args: WorkLog(1.0, trouble="OperationalError: 1045"))
    with pytest.raises(TimedOut, match="OperationalError: 1045"):
        world.step("begin")
    assert world.partial["drill"]["id"]
    assert world.pod("mysql-0")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_set_without_agents_is_refused(world: World) -> None:
    live = world.cluster.live(kinds.STATEFUL_SET, "mysql", "default")
    assert live is not None
    live["spec"]["template"]["spec"]["initContainers"] = []
    with pytest.raises(Refused, match="have no agent"):
        world.step("begin")


def test_teardown_takes_leftovers_away(world: World) -> None:
    world.step("begin")
    assert world.leftovers() == ["Pod", "ConfigMap", "Secret", "table"]
    given = {"set": "mysql", "state": "absent", "wait": False}
    module = FakeModule(checked(pet_set.argument_spec(), given), False, False)
    _pet_set.run_pet_set(module, world.cluster.client(world.clock), {"changed": False})
    assert world.leftovers() == ["table"]
    assert world.cluster.live(kinds.SECRET, "mysql-secret", "default") is not None


def test_the_workload_is_no_privileged_pod_and_stays_off_a_node_that_goes(world: World) -> None:
    world.step("begin", kind="node_power_off")
    spec = world.pod("mysql-drill")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-0"]}]}
    ]
    # No service of the set leads to it.
    assert world.pod("mysql-drill")["metadata"]["labels"]["app.kubernetes.io/component"] == "drill"


@pytest.mark.parametrize("words", ["(0) Reason: Handshake status 403 Forbidden", "Connection refused"])
def test_a_crash_that_could_not_be_staged_is_told(world: World, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    begun = world.step("begin")

    def no_way(*_words: Any) -> Any:
        raise ConnectionError(words)

    monkeypatch.setattr(podexec, "open_exec", no_way)
    monkeypatch.setattr(io_drill, "run_once_in_pod", podexec.run_once_in_pod)
    with pytest.raises(Refused, match="nothing could be run in its container mysqld"):
        world.step("crash", drill_id=begun["drill"]["id"])


@pytest.mark.parametrize(
    ("kind", "hit"),
    [
        ("mysqld_kill", [("mysqld", KILL_MYSQLD)]),
        ("container_kill", [("agent", KILL_AGENT), ("mysqld", KILL_MYSQLD)]),
    ],
)
def test_a_kill_is_sent_once_though_it_breaks_its_own_stream(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, hit: list[tuple[str, Sequence[str]]]
) -> None:
    sent: list[tuple[str, Sequence[str]]] = []

    class Stream:
        def is_open(self) -> bool:
            raise ConnectionResetError("Connection to remote host was lost.")

    def open_exec(client: Any, namespace: str, pod: str, container: str, command: Sequence[str]) -> Stream:
        world.run_in_pod(client, namespace, pod, container, command)
        sent.append((container, command))
        return Stream()

    monkeypatch.setattr(podexec, "open_exec", open_exec)
    monkeypatch.setattr(podexec, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(io_drill, "run_once_in_pod", podexec.run_once_in_pod)
    proof = world.drill(kind=kind)
    assert proof["proven"], proof["summary"]
    assert sorted(sent) == hit
    assert world.pod("mysql-0")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_drill_is_not_staged_a_second_time(world: World) -> None:
    told = {"drill_id": world.step("begin")["drill"]["id"]}
    world.step("crash", **told)
    with pytest.raises(Refused, match=r"staged at .* already"):
        world.step("crash", **told)
    assert world.pod("mysql-0")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_somebody_else_s_object_of_that_name_is_left_alone(world: World) -> None:
    world.cluster.add(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mysql-drill", "namespace": "default"}}
    )
    with pytest.raises(Refused, match="ConfigMap default/mysql-drill: it was not made for the set"):
        world.step("begin")
    assert world.cluster.live(kinds.CONFIG_MAP, "mysql-drill", "default") is not None
