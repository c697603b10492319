# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks ask of whom and in which order: the playbooks and roles themselves, with modules that note it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.roles.plays import LOCAL, run_playbook
from tools.common import ROOT

pytestmark = pytest.mark.programs

# In the place of each module; an action needs no process of its own.
ACTION = """
import json, os, pathlib
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        folder = pathlib.Path(os.environ["FOLDER"])
        call = {{**self._task.args, "module": {name!r}, "check": self._task.check_mode}}
        with (folder / "calls").open("a") as calls:
            calls.write(json.dumps(call, default=str) + "\\n")
        answers = json.loads((folder / "answers.json").read_text())
        looks = " look" if self._task.check_mode else ""
        return {{"changed": False, **answers.get({name!r} + looks, answers.get({name!r}, {{}}))}}
"""
ANSWERS: dict[str, Any] = {
    "pet_volume": {"changed": False, "pets": [], "others": []},
    "pet_volume_info": {"pets": [], "volumes": []},
    "nfs_export_info": {"exports": [{"path": "/srv/1"}, {"path": "/srv/2"}]},
    "pet_set": {"changed": True, "ready": True, "kept": []},
    "pet_proxy": {"changed": True, "ready": True, "proxies": []},
    "nfs_export": {"changed": True, "foreign_problems": []},
}
# playbook, variables, words of the message
REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "status": ("status", {"petset_namespace": "a.b"}, ['petset_namespace: \\"a.b\\"', "at most 63 characters"]),
    "status-words": (
        "status",
        {"petset_status_fails_on": ["broken", "unsure"]},
        ["petset_status_fails_on", "unsure", "degraded, uncertain, broken"],
    ),
    "teardown": ("teardown", {"petset_replicas": "two"}, ["petset_replicas", "two"]),
    "teardown-names": ("teardown", {"petset_confirm_absent": ["mysql-0", "mysql-2"]}, ["mysql-2: no pet of"]),
    "teardown-exports": (
        "teardown",
        {"petset_confirm_absent": ["mysql-1"], "petset_teardown_exports": "true"},
        ["petset_teardown_exports: true: mysql-0 keep claims and volumes", "named in petset_confirm_absent"],
    ),
    "teardown-exports-of-others": (
        "teardown",
        {
            "petset_confirm_absent": ["mysql-0", "mysql-1"],
            "petset_teardown_exports": True,
            "petset_nfs_managed": "false",
            "petset_nfs_server": "192.0.2.10",
        },
        ["petset_teardown_exports: true: with petset_nfs_managed: false there are no exports of this collection"],
    ),
    "recovery-drill": (
        "recovery",
        {"petset_recovery_action": "drill", "petset_recovery_drills": [{"kind": "pod_delete"}, {"kind": "pod_kill"}]},
        ["pod_kill", "pod_delete, mysqld_kill"],
    ),
    "recovery-hook": (
        "recovery",
        {
            "petset_recovery_action": "drill",
            "petset_recovery_drills": [{"kind": "pod_delete"}, {"kind": "node_power_off", "hook": "power.yml"}],
        },
        ["recovery_check_drill.hook", "power.yml", "its absolute path"],
    ),
}  # fmt: skip

# What pet_volume_info may find.
FIRST: dict[str, Any] = {
    "name": "mysql-0", "claim": "db-mysql-0", "phase": "Bound", "volume": "default-mysql-0", "volume_phase": "Bound",
}  # fmt: skip
VOLUME = {"claim": "default/db-mysql-0", "phase": "Bound", "server": "192.0.2.1", "path": "/srv/0"}
ALL: dict[str, Any] = {
    "petset_confirm_absent": ["mysql-0", "mysql-1"],
    "petset_teardown_exports": True,
    "petset_nfs_path": "/srv/{ordinal}",
}


class Playbooks:
    """The collection with the modules replaced; ``calls`` is what the last run asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[dict[str, Any]] = []
        collection = folder / "ansible_collections" / "stateful" / "petset"
        (collection / "plugins" / "action").mkdir(parents=True)
        for name in ("playbooks", "roles"):
            (collection / name).symlink_to(ROOT / name)
        for module in (ROOT / "plugins" / "modules").glob("*.py"):
            (collection / "plugins" / "action" / module.name).write_text(ACTION.format(name=module.stem))

    def run(
        self, name: str, *options: str, answers: dict[str, Any] | None = None, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.run_text(f"- import_playbook: stateful.petset.{name}\n", *options, answers=answers, **variables)

    def run_text(
        self,
        play: str,
        *options: str,
        answers: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        **variables: Any,
    ) -> subprocess.CompletedProcess[str]:
        calls = self.folder / "calls"
        calls.write_text("")
        (self.folder / "answers.json").write_text(json.dumps({**ANSWERS, **(answers or {})}))
        groups = {"nfs_servers": {"hosts": {"nfs": LOCAL}}, "kube_nodes": {"hosts": {"node": LOCAL}}}
        inventory = {"vars": variables, "children": groups}
        more = {"FOLDER": str(self.folder), **(environment or {})}
        done = run_playbook(self.folder, self.folder, play, inventory, *options, **more)
        self.calls = [json.loads(line) for line in calls.read_text().splitlines()]
        return done

    @property
    def told(self) -> list[str]:
        """Each call in short: the module, its state, and whether it only looked."""
        return [
            " ".join([one["module"], *([one["state"]] if "state" in one else []), *(["look"] if one["check"] else [])])
            for one in self.calls
        ]


@pytest.fixture(scope="module")
def playbooks(tmp_path_factory: pytest.TempPathFactory) -> Playbooks:
    return Playbooks(tmp_path_factory.mktemp("playbooks"))


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anybody_is_asked(playbooks: Playbooks, case: str) -> None:
    name, variables, words = REFUSED[case]
    done = playbooks.run(name, **variables)
    assert done.returncode != 0, done.stdout
    for word in words:
        assert word in done.stdout
    assert playbooks.told == []


def _other(ordinal: int, **changes: Any) -> dict[str, Any]:
    names = {"name": f"mysql-{ordinal}", "claim": f"db-mysql-{ordinal}", "volume": f"default-mysql-{ordinal}"}
    path = f"/srv/petset/default/mysql/{ordinal}"
    return {**names, "ordinal": ordinal, "phase": "Bound", "volume_phase": "Bound", "path": path, **changes}


def _site(playbooks: Playbooks, others: list[dict[str, Any]], **variables: Any) -> subprocess.CompletedProcess[str]:
    answers = {"pet_volume": {"pets": [], "others": others}}
    given = {"petset_replication": False, "petset_proxy": False, **variables}
    return playbooks.run("site", answers=answers, **given)


def test_rp_nfs_09_site_keeps_the_export_of_a_volume_that_is_there(playbooks: Playbooks) -> None:
    """Three pets, a teardown, and two are wanted: the third's export went from under its volume without a word."""
    others = [_other(2), _other(4, phase="", volume_phase="Released")]
    done = _site(playbooks, others, petset_replicas=2)
    assert done.returncode != 0
    for words in (
        "petset_replicas: 2: mysql-2 (claim db-mysql-2 Bound, volume default-mysql-2 Bound); "
        "mysql-4 (volume default-mysql-4 Released) of default/mysql would not be counted",
        "Allowed: petset_replicas: 5; or, once",
        'teardown with petset_replicas: 5 and petset_confirm_absent: [\\"mysql-2\\", \\"mysql-4\\"].',
    ):
        assert words in done.stdout
    assert playbooks.told == ["pet_volume present look", "pet_set present look"]


@pytest.mark.parametrize(
    "variables",
    [
        {"petset_replicas": 3},
        {"petset_replicas": 2, "petset_nfs_managed": False, "petset_nfs_server": "192.0.2.1"},
        {"petset_replicas": 2, "petset_storage_class": "fast"},
        {"petset_replicas": 2, "nfs_exports_extra": [{"path": "/srv/petset/default/mysql/2"}]},
    ],
)
def test_rp_nfs_09_where_no_export_goes_nothing_is_refused(playbooks: Playbooks, variables: dict[str, Any]) -> None:
    done = _site(playbooks, [_other(2)], **variables)
    assert "would not be counted" not in done.stdout
    # The plays that touch something have begun.
    assert {"nfs_export look", "pet_set present"} & set(playbooks.told), done.stdout


def test_rp_nfs_09_a_set_that_runs_refuses_the_lower_count_itself(playbooks: Playbooks) -> None:
    answers = {
        "pet_volume": {"pets": [], "others": [_other(2)]},
        "pet_set": {"failed": True, "msg": "a lower count is never applied"},
    }
    done = playbooks.run("site", answers=answers, petset_proxy=False)
    assert "a lower count is never applied" in done.stdout
    assert "would not be counted" not in done.stdout


@pytest.mark.parametrize(
    ("options", "managed"), [((), False), (("--check",), "false"), (("--limit", "nfs_servers"), False)]
)
def test_a_server_that_others_manage_is_not_touched(
    playbooks: Playbooks, options: tuple[str, ...], managed: bool | str
) -> None:
    """It is in the group nfs_servers all the same, as for a backup or a look by other playbooks."""
    given = {"petset_nfs_managed": managed, "petset_nfs_server": "192.0.2.1"}
    quiet = {"petset_replication": False, "petset_proxy": False}
    done = playbooks.run("site", *options, answers={"pet_volume": {"pets": [], "others": []}}, **given, **quiet)
    assert [call for call in playbooks.told if call.startswith("nfs_export")] == []
    assert done.returncode == 0, done.stdout
    # Nor does any other task do something there, while the set is run as ever.
    assert re.findall(r"^(?!skipping)\w+: \[nfs\b.*", done.stdout, re.MULTILINE) == []
    assert [call for call in playbooks.told if call.startswith("pet_set")] != [] or "--limit" in options


THIRD = {"name": "default-mysql-2", "claim": "default/db-mysql-2", "phase": "Bound", "server": "192.0.2.1"}
EXPORTED = {"exports": [{"path": f"/srv/petset/default/mysql/{ordinal}"} for ordinal in range(3)]}


def _limited(
    playbooks: Playbooks, *options: str, volumes: dict[str, Any] | None = None, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """A run of site that begins at the NFS server, which exports the directories of three pets."""
    answers = {"nfs_export_info": EXPORTED, "pet_volume_info": volumes or {"pets": [], "volumes": []}}
    return playbooks.run("site", *(options or ("--limit", "nfs_servers")), answers=answers, **variables)


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (("--limit", "nfs_servers"), {}),
        (("--limit", "nfs_servers", "--check"), {}),
        (("--start-at-task", "Check what was not checked yet"), {}),
        # The directories of all three are others by now.
        (("--limit", "nfs_servers"), {"petset_replicas": 3, "petset_nfs_path": "/data/{ordinal}"}),
    ],
)
def test_rp_nfs_09_a_run_of_the_nfs_server_alone_keeps_the_export_of_a_volume(
    playbooks: Playbooks, options: tuple[str, ...], variables: dict[str, Any]
) -> None:
    """site --limit nfs_servers skipped the look at the volumes, and withdrew the export of one that was there."""
    volume = {**THIRD, "path": "/srv/petset/default/mysql/2"}
    done = _limited(playbooks, *options, volumes={"pets": [], "volumes": [volume]}, **variables)
    assert done.returncode != 0
    words = (
        "volume default-mysql-2 Bound of default/db-mysql-2 (192.0.2.1:/srv/petset/default/mysql/2) would be withdrawn"
    )
    assert words in done.stdout
    assert playbooks.told in (["nfs_export_info", "pet_volume_info"], ["nfs_export_info look", "pet_volume_info look"])
    asked = [f"/srv/petset/default/mysql/{ordinal}" for ordinal in ((0, 1, 2) if variables else (2,))]
    assert playbooks.calls[1]["directories"] == asked


def test_rp_nfs_09_a_run_of_the_nfs_server_alone_that_cannot_ask_withdraws_nothing(playbooks: Playbooks) -> None:
    done = _limited(playbooks, volumes={"failed": True, "msg": "no answer from https://192.0.2.9:6443"})
    assert done.returncode != 0
    assert "no answer from https://192.0.2.9:6443" in done.stdout
    assert playbooks.told == ["nfs_export_info", "pet_volume_info"]


@pytest.mark.parametrize(
    ("variables", "looks"),
    [
        ({}, ["nfs_export_info", "pet_volume_info"]),
        ({"petset_replicas": 3}, ["nfs_export_info"]),
        ({"petset_replicas": 3, "petset_nfs_path": "/srv//petset/{namespace}/{set}/{ordinal}/"}, ["nfs_export_info"]),
        ({"nfs_exports_extra": [{"path": "/srv/petset/default/mysql/2", "clients": []}]}, ["nfs_export_info"]),
    ],
)
def test_a_run_of_the_nfs_server_alone_exports_when_no_volume_is_hurt(
    playbooks: Playbooks, variables: dict[str, Any], looks: list[str]
) -> None:
    """The cluster is asked only where something would be withdrawn."""
    _limited(playbooks, **variables)
    # What is done there is the matter of the role nfs_exports, which has its own look first.
    assert playbooks.told[: len(looks) + 1] == [*looks, "nfs_export look"]


def test_a_run_of_the_nfs_server_alone_has_its_variables_checked(playbooks: Playbooks) -> None:
    done = _limited(playbooks, petset_replicas=0)
    assert done.returncode != 0
    assert "petset_replicas: 0: no number of pets" in done.stdout
    assert playbooks.told == []


def test_a_whole_run_looks_once(playbooks: Playbooks) -> None:
    done = _site(playbooks, [])
    assert not {"pet_volume_info", "nfs_export_info"} & set(playbooks.told), done.stdout
    assert playbooks.told.count("nfs_export look") == 1, done.stdout


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "playbooks").glob("*.yml"))])
def test_what_templates_need_is_loaded_once_and_not_by_each_task(playbooks: Playbooks, name: str) -> None:
    """Each task is a process of its own; all filters and tests were loaded in it, 0.05 s and more for each."""
    done = playbooks.run_text(f"- import_playbook: stateful.petset.{name}\n", environment={"ANSIBLE_DEBUG": "1"})
    assert len(re.findall(r"Loading FilterModule 'core'", done.stdout)) == 1
    assert len(re.findall(r"Loading TestModule 'core'", done.stdout)) == 1


def test_teardown_looks_first_and_takes_the_objects_of_the_named_pets(playbooks: Playbooks) -> None:
    done = playbooks.run("teardown", petset_confirm_absent="mysql-1", petset_mount_options=["soft"])
    assert done.returncode == 0, done.stdout
    assert playbooks.told == [
        "pet_volume_info",
        "pet_proxy absent look",
        "pet_set absent look",
        "pet_volume absent look",
        "pet_proxy absent",
        "pet_set absent",
        "pet_volume absent",
    ]
    removal = playbooks.calls[-1]
    assert (removal["ordinals"], removal["confirm_absent"]) == ([1], ["mysql-1"])
    assert "nfs" not in removal


def test_teardown_without_names_keeps_all_claims(playbooks: Playbooks) -> None:
    done = playbooks.run("teardown", petset_proxy=False)
    assert done.returncode == 0, done.stdout
    assert playbooks.told == ["pet_volume_info", "pet_set absent look", "pet_set absent"]


@pytest.mark.parametrize("module", ["pet_proxy", "pet_set", "pet_volume", "nfs_export"])
def test_what_would_be_refused_stops_teardown_before_anything_is_touched(playbooks: Playbooks, module: str) -> None:
    """Somebody else's file under the name of the drop-in was met when set and claims were gone."""
    answers = {f"{module} look": {"failed": True, "msg": "it is somebody else's"}}
    done = playbooks.run("teardown", answers=answers, **ALL)
    assert done.returncode != 0
    assert "it is somebody else's" in done.stdout
    assert playbooks.told[-1] == f"{module} absent look"
    assert [call for call in playbooks.told if not call.endswith(("_info", " look"))] == []


def test_exports_go_last_when_nothing_needs_them(playbooks: Playbooks) -> None:
    done = playbooks.run("teardown", **ALL)
    assert done.returncode == 0, done.stdout
    assert playbooks.told == [
        "pet_volume_info",
        "pet_volume_info",
        "pet_proxy absent look",
        "pet_set absent look",
        "pet_volume absent look",
        "nfs_export absent look",
        "pet_proxy absent",
        "pet_set absent",
        "pet_volume absent",
        "nfs_export_info",
        "pet_volume_info",
        "nfs_export absent",
    ]
    looks = [call for call in playbooks.calls if call["module"] == "pet_volume_info"]
    # What is in the drop-in counts as well.
    assert [look.get("directories") for look in looks] == [["/srv/0", "/srv/1"], None, ["/srv/0", "/srv/1", "/srv/2"]]


def test_all_looks_of_teardown_are_for_the_claims_of_the_set(playbooks: Playbooks) -> None:
    """Where the data is was asked for claims of another name, so that it said that there is none."""
    done = playbooks.run("teardown", pet_volumes_claim_template="data", **ALL)
    assert done.returncode == 0, done.stdout
    looks = [call for call in playbooks.calls if call["module"] in ("pet_volume_info", "pet_volume")]
    assert len(looks) == 5
    assert {look.get("claim_template") for look in looks} == {"data"}


@pytest.mark.parametrize(("given", "asked"), [({}, None), ({"recovery_check_claim_template": "data"}, "data")])
def test_the_recovery_check_takes_the_claim_template_of_the_set(
    playbooks: Playbooks, given: dict[str, Any], asked: str | None
) -> None:
    sound = {"healthy": True, "summary": "", "table": "", "troubles": []}
    answers = {"pet_recovery": sound}
    done = playbooks.run("recovery", answers=answers, petset_replication=False, petset_proxy=False, **given)
    assert done.returncode == 0, done.stdout
    assert playbooks.told == ["pet_recovery"]
    assert playbooks.calls[0].get("claim_template") == asked


def test_rp_nfs_09_exports_that_are_needed_are_named_before_anything_is_touched(playbooks: Playbooks) -> None:
    """By pets that petset_replicas does not count, and by volumes of others; a named pet's own will be gone."""
    pets = [
        FIRST,
        {**FIRST, "name": "mysql-2", "claim": "db-mysql-2", "volume": "default-mysql-2"},
        {**FIRST, "name": "mysql-3", "claim": "db-mysql-3", "phase": "", "volume": "old", "volume_phase": "Released"},
        {**FIRST, "name": "mysql-4", "claim": "db-mysql-4", "phase": "Pending", "volume": "", "volume_phase": ""},
    ]
    volumes = [
        {**VOLUME, "name": "default-mysql-0"},
        {**VOLUME, "name": "backup", "claim": "ops/backup", "path": "/srv/0/dump"},
        {**VOLUME, "name": "spare", "claim": "", "phase": "Available"},
    ]
    done = playbooks.run("teardown", answers={"pet_volume_info": {"pets": pets, "volumes": volumes}}, **ALL)
    assert done.returncode != 0
    told = [
        "mysql-2 (claim db-mysql-2 Bound, volume default-mysql-2 Bound)",
        "mysql-3 (volume old Released)",
        "mysql-4 (claim db-mysql-4 Pending)",
        "volume backup Bound of ops/backup (192.0.2.1:/srv/0/dump)",
        "volume spare Available of no claim (192.0.2.1:/srv/0)",
    ]
    assert f"the exports of default/mysql stay, because they are needed by {'; '.join(told)}. Allowed" in done.stdout
    assert playbooks.told == ["pet_volume_info"]


def test_rp_nfs_09_a_run_that_begins_with_the_exports_keeps_those_that_are_needed(playbooks: Playbooks) -> None:
    """The set was not looked at, so its pets have all that they had, named or not."""
    found = {"pets": [FIRST], "volumes": [{**VOLUME, "name": "default-mysql-0"}]}
    done = playbooks.run("teardown", "--limit", "nfs_servers", answers={"pet_volume_info": found}, **ALL)
    assert done.returncode != 0
    assert "needed by mysql-0 (claim db-mysql-0 Bound, volume default-mysql-0 Bound). Allowed" in done.stdout
    assert playbooks.told == ["nfs_export absent look", "nfs_export_info", "pet_volume_info"]


@pytest.mark.parametrize(("options", "last"), [(["--check"], "nfs_export absent look"), ([], "nfs_export absent")])
@pytest.mark.parametrize("given", [{}, {"nfs_exports_withdraw_in_use": True}])
def test_files_that_the_pets_hold_open_count_only_when_the_pets_are_gone(
    playbooks: Playbooks, options: list[str], last: str, given: dict[str, Any]
) -> None:
    """Check mode said of a set that runs that its exports cannot be withdrawn, and the run withdrew them."""
    done = playbooks.run("teardown", *options, **ALL, **given)
    assert done.returncode == 0, done.stdout
    withdrawals = [call for call in playbooks.calls if call["module"] == "nfs_export"]
    assert playbooks.told[-1] == last
    assert [call["withdraw_in_use"] for call in withdrawals] == [True, bool(options or given)]


def test_a_removal_that_fails_leaves_the_exports(playbooks: Playbooks) -> None:
    answers = {"pet_volume": {"failed": True, "msg": "mysql-1 is in use"}, "pet_volume look": {}}
    done = playbooks.run("teardown", answers=answers, **ALL)
    assert done.returncode != 0
    assert playbooks.told[-1] == "pet_volume absent"


def status_answers(word: str) -> dict[str, Any]:
    """A set whose replication is this, with pets and proxies that are ready."""
    reasons = [f"mysql-1 is {word}"]
    judgement = {"word": word, "certain": [], "uncertain": [], "notes": []}
    if word != "healthy":
        judgement["uncertain" if word == "uncertain" else "certain"] = reasons
    summary = word if word == "healthy" else f"{word}: {reasons[0]}"
    pets = {"exists": True, "ready": True, "summary": "2 of 2 ready", "table": "", "pets": []}
    ring = {"judgement": judgement, "summary": summary, "table": "", "pets": [], "writer": "mysql-0", "in_sync": []}
    return {"pet_set_info": pets, "mysql_ring_info": ring}


@pytest.mark.parametrize(
    ("variables", "ends"),
    [
        ({}, {"broken": 0}),
        ({"petset_status_fails_on": ["broken"]}, {"broken": 2, "uncertain": 0}),
        # As -e on a command line gives it.
        ({"petset_status_fails_on": "broken,uncertain"}, {"uncertain": 2, "degraded": 0}),
        ({"petset_status_must_be_ready": True}, {"degraded": 2, "healthy": 0}),
    ],
)
def test_status_fails_with_the_words_that_were_asked_for(
    playbooks: Playbooks, variables: dict[str, Any], ends: dict[str, int]
) -> None:
    for word, status in ends.items():
        done = playbooks.run("status", answers=status_answers(word), petset_proxy=False, **variables)
        assert done.returncode == status, (word, done.stdout)
        assert f"default/mysql: {word}" in done.stdout
        said = f"default/mysql: {word}: 2 of 2 ready; replication {word}: mysql-1 is {word}"
        assert (said in done.stdout) is (status != 0)
        assert playbooks.told == ["pet_set_info", "mysql_ring_info"]


def test_a_set_that_is_not_there_is_degraded_and_fails_when_that_was_asked_for(playbooks: Playbooks) -> None:
    answers = {"pet_set_info": {"exists": False, "ready": False, "table": "there is no such set", "pets": []}}
    for words, status in ((["broken", "uncertain"], 0), (["degraded"], 2)):
        done = playbooks.run("status", answers=answers, petset_proxy=False, petset_status_fails_on=words)
        assert done.returncode == status, done.stdout
        assert "default/mysql: degraded" in done.stdout


AWAY = "mysql-proxy-b: it could not be asked: timed out"
SPLIT = "the proxies do not agree on the writer (mysql-proxy-a: mysql-0; mysql-proxy-c: mysql-1)"
# name -> the replication's word, whether the proxies are ready, their troubles that are certain, those that are not
# known, the whole
PROXIES: dict[str, tuple[str, bool, list[str], list[str], str]] = {
    "well": ("healthy", True, [], [], "healthy"),
    "not-ready": ("healthy", False, [], [], "degraded"),
    "disagree": ("healthy", True, [SPLIT], [], "degraded"),
    "not-asked": ("healthy", True, [], [AWAY], "uncertain"),
    "not-asked-and-disagree": ("healthy", True, [SPLIT], [AWAY], "uncertain"),
    "not-asked-and-lag": ("degraded", True, [], [AWAY], "uncertain"),
    "not-asked-and-broken": ("broken", True, [], [AWAY], "broken"),
}


@pytest.mark.parametrize("case", PROXIES)
def test_a_proxy_that_could_not_be_asked_is_not_called_degraded_for_certain(playbooks: Playbooks, case: str) -> None:
    replication, ready, certain, uncertain, word = PROXIES[case]
    summary = "; ".join(["1 of 2 proxies work", *uncertain, *certain])
    seen = {"exists": True, "ready": ready, "summary": summary, "table": "", "troubles": [*uncertain, *certain]}
    answers = {**status_answers(replication), "pet_proxy_info": {**seen, "uncertain": uncertain, "proxies": []}}
    done = playbooks.run("status", answers=answers, petset_status_must_be_ready=True)
    assert f"default/mysql: {word}" in done.stdout
    assert done.returncode == (0 if word == "healthy" else 2), done.stdout
    # Nobody is told of proxies that are well, and of others all that is known, whatever the word is.
    told = f"default/mysql: {word}: 2 of 2 ready; replication "
    assert (f"; {summary}" in done.stdout) is (not ready or bool(certain or uncertain))
    assert (told in done.stdout) is (word != "healthy")
    assert playbooks.told == ["pet_proxy_info", "pet_set_info", "mysql_ring_info"]


@pytest.mark.parametrize("proxied", [True, False])
def test_pods_that_share_a_node_are_handed_on_and_the_set_is_healthy(playbooks: Playbooks, proxied: bool) -> None:
    answers = status_answers("healthy")
    answers["pet_set_info"]["shared_nodes"] = [{"node": "n1", "pods": ["mysql-0", "mysql-1"]}]
    seen = {"exists": True, "ready": True, "summary": "2 of 2 work", "table": "", "troubles": [], "uncertain": []}
    answers["pet_proxy_info"] = {**seen, "shared_nodes": [{"node": "n2", "pods": ["proxy-a", "proxy-b"]}]}
    shown = {"ANSIBLE_SHOW_CUSTOM_STATS": "true"}
    done = playbooks.run("status", answers=answers, environment=shown, petset_proxy=proxied)
    assert done.returncode == 0, done.stdout
    assert "default/mysql: healthy" in done.stdout
    handed_on = json.loads(done.stdout.partition("CUSTOM STATS")[2].partition("RUN:")[2])
    assert [one["node"] for one in handed_on["petset_shared_nodes"]] == (["n1", "n2"] if proxied else ["n1"])


def test_pets_that_are_not_ready_beside_a_proxy_that_could_not_be_asked(playbooks: Playbooks) -> None:
    away = {"exists": True, "ready": True, "summary": AWAY, "table": "", "troubles": [AWAY], "uncertain": [AWAY]}
    for proxies, word in ((away, "uncertain"), ({**away, "troubles": [], "uncertain": []}, "degraded")):
        answers = {**status_answers("healthy"), "pet_proxy_info": proxies}
        answers["pet_set_info"]["ready"] = False
        done = playbooks.run("status", answers=answers, petset_status_format="json")
        assert done.returncode == 0, done.stdout
        assert f"default/mysql: {word}" in done.stdout
        assert re.findall(r'"uncertain": \[\s*"(mysql-proxy-b)', done.stdout) == ["mysql-proxy-b"] * (
            word == "uncertain"
        )


ASKED = {"agree": True, "writers": ["mysql-0"], "ready": True, "proxies": [{"name": "a"}]}
# What the first play finds, what later modules answer, and whether the proxies are to be asked once more in the end.
AT_REST: dict[str, Any] = {
    "pet_set": {"changed": False, "ready": True, "kept": []},
    "pet_proxy": {"changed": False, **ASKED},
    "mysql_ring": {"changed": False},
    "pet_proxy_info": {**ASKED, "summary": "", "troubles": []},
}
RAN = {"changed": True, "waited_s": 1.5}
ASKED_AGAIN: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing-done": ({}, False),
    "replication-changed": ({"mysql_ring": {"changed": True}}, True),
    "set-changed": ({"pet_set": {"changed": True, "ready": True, "kept": []}}, True),
    "not-asked": ({"pet_proxy": {"changed": False, **ASKED, "agree": None, "writers": None}}, True),
    "proxies-ran-last": (
        {"mysql_ring": {"changed": True}, "pet_proxy look": {"changed": True}, "pet_proxy": {**ASKED, **RAN}},
        False,
    ),
    "proxies-ran-last-and-know-nothing": ({"pet_proxy look": {"changed": True}, "pet_proxy": RAN}, True),
}


@pytest.mark.parametrize("case", ASKED_AGAIN)
def test_proxies_that_said_it_last_are_not_asked_again_whether_clients_are_served(
    playbooks: Playbooks, case: str
) -> None:
    answers, again = ASKED_AGAIN[case]
    done = playbooks.run("site", answers={**AT_REST, **answers}, petset_storage_class="fast")
    assert done.returncode == 0, done.stdout
    assert playbooks.told.count("pet_proxy_info") == int(again)
    assert all(call["probe"] for call in playbooks.calls if call["module"] == "pet_proxy")
    assert playbooks.told.index("mysql_ring") > 0


def test_proxies_are_not_asked_of_pets_that_nobody_wants_to_be_verified(playbooks: Playbooks) -> None:
    done = playbooks.run("site", answers=AT_REST, petset_storage_class="fast", petset_verify=False)
    assert done.returncode == 0, done.stdout
    assert not any(call["probe"] for call in playbooks.calls if call["module"] == "pet_proxy")
    assert "pet_proxy_info" not in playbooks.told


SERVED = {"agree": True, "writers": ["mysql-0"], "summary": "2 of 2 proxies work", "troubles": []}
VERIFIED: dict[str, tuple[dict[str, Any], str]] = {
    "served": (SERVED, ""),
    "no-writer": (
        {**SERVED, "writers": [], "troubles": ["no pet takes writes"]},
        "clients cannot write through the proxies: 2 of 2 proxies work; no pet takes writes. Each proxy asks",
    ),
    "two-minds": ({**SERVED, "agree": False}, "clients cannot write through the proxies"),
    "not-asked": ({**SERVED, "agree": None, "writers": None}, "clients cannot write through the proxies"),
    "no-right": ({"failed": True, "msg": "user deployer may not create pods/exec"}, "may not create pods/exec"),
}


@pytest.mark.parametrize("case", VERIFIED)
def test_site_is_not_green_while_no_client_is_served(playbooks: Playbooks, case: str) -> None:
    answer, words = VERIFIED[case]
    play = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: stateful.petset.petset
        tasks_from: verify
      vars:
        petset_wait_timeout: 2
"""
    done = playbooks.run_text(play, answers={"pet_proxy_info": answer})
    assert (done.returncode == 0) is (not words), done.stdout
    assert words in done.stdout
    assert playbooks.told == ["pet_proxy_info"] * (1 if case in ("served", "no-right") else 2)
    assert playbooks.run_text(play, "--check", answers={"pet_proxy_info": answer}).returncode == 0
    assert playbooks.told == []
