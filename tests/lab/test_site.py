# SPDX-License-Identifier: GPL-3.0-or-later
"""The site playbook on real machines, with a kubeconfig that has the least rights: what check mode says is what is
done, what is done is done once, and no secret is seen.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import pytest

from tests.hidden import find_hidden
from tests.pets import Pets
from tools import demo

from .conftest import Lab
from .sites import (
    ROOT_PASSWORD,
    Play,
    Processes,
    Site,
    a_site,
    cluster_texts,
    drop_in_of,
    folder_of,
    journals,
    secrets_of,
)

pytestmark = pytest.mark.lab

NAMESPACE = "test-site"
FOLDER = folder_of(NAMESPACE)
DROP_IN = drop_in_of(NAMESPACE)
VOLUME = "/var/lib/petset"
FLUSH = "flush the kernel's caches of client names"
RECORD = f"record in ConfigMap {NAMESPACE}/mysql-boot that pets "


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # Without it the set has a service of its own as long as there are no proxies.
    with a_site(lab, NAMESPACE, tmp_path_factory.mktemp("site"), petset_client_service={"enabled": False}) as site:
        yield site


@dataclass(frozen=True, slots=True)
class Runs:
    """Check mode on the empty cluster; a run that makes volumes and the set only; check mode on what is half built; the
    run that makes the rest; a second one, and check mode after it. ``began_s``: when (``time.monotonic``).
    """

    foretold: Play
    half: Play
    foretold_rest: Play
    made: Play
    again: Play
    foretold_again: Play
    began_s: float


@pytest.fixture(scope="module")
def runs(site: Site) -> Runs:
    options = ("--diff", "-vvv")
    began_s = time.monotonic()
    with Processes(site.lab, site.folder):
        foretold = site.play("site", "--check", *options)
        left = site.lab.ssh("nfs", f"ls -d {FOLDER} {DROP_IN} 2>/dev/null || true").stdout
        assert left == "", "check mode has written on the NFS server"
        return Runs(
            foretold,
            site.play("site", *options, petset_replication=False, petset_proxy=False),
            site.play("site", "--check", *options),
            site.play("site", *options),
            site.play("site", *options),
            site.play("site", "--check", *options),
            began_s,
        )


@pytest.fixture(scope="module")
def pets(site: Site) -> Pets:
    return site.pets


def foreseeable(play: Play) -> list[tuple[Any, ...]]:
    """The changes without what only shows when the pets run: that they have data, and how their replication is set up.

    That replication will be set up is foretold. Whether the NFS server may be restarted for its settings depends on who
    is connected at that moment: other tests' clients go when their lease is over. So does whether
    the kernel's caches of client names have to be emptied: a server that is not there yet has none.
    """
    found = []
    for *where, actions in play.changes:
        if where[-1].endswith("Restart the service for its new settings"):
            continue
        if "mysql_replication" in where[-1]:
            assert actions, where
            found.append((*where, ["set up replication"]))
        else:
            found.append((*where, [action for action in actions if not action.startswith((RECORD, FLUSH))]))
    return found


def test_check_mode_on_an_empty_cluster_tells_the_changes_of_the_real_runs(runs: Runs) -> None:
    assert runs.foretold.writes == []
    # Each run begins with what it would do to the set and to the proxies.
    assert sorted(foreseeable(runs.foretold)) == sorted(foreseeable(runs.half) + foreseeable(runs.made))
    recorded = [action for *_where, actions in runs.half.changes for action in actions if action.startswith(RECORD)]
    assert len(recorded) <= 2
    actions = [action for *_where, actions in runs.foretold.changes for action in actions]
    for word in ("write /etc/exports.d/", "create PersistentVolume ", "create StatefulSet ", "create Deployment "):
        assert any(action.startswith(word) for action in actions), actions


# On a starved host the agents change the writer several times in the first minute; what is not known is not foretold.
@pytest.mark.stories
def test_check_mode_on_a_half_built_cluster_tells_the_changes_to_the_last_statement(runs: Runs) -> None:
    """Volumes and the set are there and the pets answer, so nothing is left that cannot be known."""
    assert runs.foretold_rest.writes == []
    assert runs.foretold_rest.changes == runs.made.changes
    tasks = [task.rpartition(" : ")[2] for _host, play, task, _actions in runs.made.changes if "Check" not in play]
    assert tasks == ["Replication between the pets", "The proxies"]
    actions = [action for *_where, actions in runs.made.changes for action in actions]
    assert sum(action.count("CHANGE REPLICATION SOURCE TO") for action in actions) == 2, actions


def test_a_second_run_changes_nothing(runs: Runs) -> None:
    assert runs.again.changes == runs.foretold_again.changes == []
    assert runs.again.writes == runs.foretold_again.writes == []


def test_a_second_run_asks_little(runs: Runs) -> None:
    """At most three requests for each kind of object, and one for each pet."""
    asked = Counter(request["resource"] for request in runs.again.requests)
    assert {kind: count for kind, count in asked.items() if count > 3 + 2} == {}


def test_the_rights_that_are_shipped_were_enough(runs: Runs, site: Site) -> None:
    users = {request["user"] for play in site.plays for request in play.requests}
    assert users == {f"system:serviceaccount:{NAMESPACE}:petset-deployer"}
    table = site.play("status").output
    assert re.search(r"mysql-0 +ready", table)
    assert re.search(r"mysql-1 +ready", table)


def kernel_mounts(lab: Lab, node: str, uid: str) -> list[list[str]]:
    """Source, mount point, type and options of all NFS volumes that a node's kernel has for a pod."""
    lines = [line.split() for line in lab.ssh(node, "cat /proc/mounts").stdout.splitlines()]
    return [line[:4] for line in lines if line[1].startswith(f"/var/lib/kubelet/pods/{uid}/") and line[2] == "nfs4"]


def of_nfs(options: Iterable[str]) -> set[str]:
    """The options that are the file system's own; the others are those of each mount of it."""
    return {option for option in options if "=" in option or option in ("hard", "soft", "softerr")}


def test_status_tells_of_each_pet_what_the_cluster_the_node_and_the_pets_say(
    runs: Runs, site: Site, pets: Pets
) -> None:
    """Each column, in the table and in JSON, beside what is found out without the collection."""
    rows = {row["name"]: row for row in site.play("status", petset_status_format="json").told("Pets")}
    assert tuple(rows) == pets.names
    header, *lines = site.play("status").told("Pets")
    titles = "ORDINAL PET STATE NODE IP POD UID RESTARTS CLAIM VOLUME EXPORT DNS PING MOUNTED"
    assert header.split() == titles.split()
    assert len(lines) == len(pets.names), lines
    server = site.lab.state.plan.machine("nfs").ip
    ips = {pet: pets.get("pod", pet)["status"]["podIP"] for pet in pets.names}
    uuids = {pet: pets.sql(pet, "SELECT @@server_uuid") for pet in pets.names}
    versions = {f"{pet}.db": pets.version(pet) for pet in pets.names}
    for ordinal, (pet, line) in enumerate(zip(pets.names, lines, strict=True)):
        row, pod, identity = rows[pet], pets.get("pod", pet), pets.identity(pet)
        node, uid = pod["spec"]["nodeName"], pod["metadata"]["uid"]
        export = f"{server}:{FOLDER}/mysql/{ordinal}"
        assert (row["ordinal"], row["node"], row["pod_uid"], row["ip"]) == (ordinal, node, uid, ips[pet])
        assert ([row["claim"]], row["claim_phase"]) == (identity["claims"], "Bound")
        assert (row["volume"], row["volume_phase"]) == (identity["volume"], "Bound")
        assert (row["bound_both_ways"], row["server_uuid"]) == (True, uuids[pet])
        assert row["export"] == export == f"{server}:{identity['path']}"

        # Names lead to the pods that the API tells of, and the servers there are who they should be.
        assert {other: pets.addresses(pet, other) for other in pets.names} == {o: {ip} for o, ip in ips.items()}
        assert (row["dns_ok"], row["dns_wrong"], row["dns"]) == (True, {}, f"{pet}.db.{NAMESPACE}.svc.cluster.local")
        heard = zip(versions.values(), pets.greetings(pet), strict=True)
        assert [version in greeting for version, greeting in heard] == [True] * len(pets.names)
        assert pets.answers(pet) == list(uuids.values())
        assert (row["ping_ok"], row["sql"]) == (True, dict.fromkeys(versions, "ok"))
        assert {name: said.split("-")[0] for name, said in row["ping"].items()} == versions

        # The mount is the kernel's, on the node and in the pod.
        [[source, point, kind, options]] = kernel_mounts(site.lab, node, uid)
        assert point.endswith(f"/{identity['volume']}")
        assert (row["mount"]["type"], row["mount"]["source"]) == (kind, source) == ("nfs4", export)
        assert of_nfs(row["mount"]["options"]) == of_nfs(options.split(","))
        inside = [one.split() for one in pets.sh(pet, "cat /proc/mounts").splitlines()]
        assert [set(one[3].split(",")) for one in inside if one[1] == VOLUME] == [set(row["mount"]["options"])]
        assert {"vers=4.1", "vers=4.2"} & set(row["mount"]["options"])
        assert {"hard", "proto=tcp", "rw"} <= set(row["mount"]["options"])

        restarts = sum(one["restartCount"] for one in pod["status"]["containerStatuses"])
        wanted = [str(ordinal), pet, "ready", node, ips[pet], uid, str(restarts), row["claim"], row["volume"], export]
        assert line.split() == [*wanted, "yes", "yes", ",".join(row["mount"]["options"])]


def test_status_says_which_pet_answers_no_question(runs: Runs, site: Site, pets: Pets) -> None:
    """A server that takes connections and lets the account of the replication not in; names are as right as before."""
    pets.sql_here_alone("mysql-1", "ALTER USER petset_repl ACCOUNT LOCK")
    try:
        rows = site.play("status", petset_status_format="json").told("Pets")
        table = site.play("status").told("Pets")
    finally:
        pets.sql_here_alone("mysql-1", "ALTER USER petset_repl ACCOUNT UNLOCK")
    assert [(row["dns_ok"], row["ping_ok"]) for row in rows] == [(True, False)] * 2
    assert [row["sql"]["mysql-0.db"] for row in rows] == ["ok"] * 2
    assert all("ERROR 3118" in row["sql"]["mysql-1.db"] for row in rows), rows
    assert [line.split()[-3:-1] for line in table[1:3]] == [["yes", "no"]] * 2
    notes = [line.partition(": ERROR 3118")[0] for line in table[3:]]
    assert notes == [f"{pet}: mysql-1.db does not answer SQL" for pet in pets.names]


def test_the_pets_take_a_password_with_every_sign(runs: Runs, pets: Pets) -> None:
    assert [pets.sql(pet, "SELECT CURRENT_USER()") for pet in pets.names] == ["root@localhost"] * 2


def test_the_row_of_the_demo_gets_to_every_pet_through_haproxy(runs: Runs, site: Site, pets: Pets) -> None:
    taken, *had = demo.row(NAMESPACE, site.lab.name).splitlines()
    found = re.fullmatch(r"row (\d+) \((written at [\d:]+ through HAProxy)\) was taken by (mysql-\d+)", taken)
    assert found, taken
    number, text, writer = found.groups()
    assert writer in pets.names
    assert had == [f"{name} has it: {text}" for name in pets.names]
    # As the pets say without the demo.
    assert [pets.sql(name, f"SELECT text FROM demo.demo WHERE id = {number}") for name in pets.names] == [text] * 2


def test_recovery_finds_nothing_wrong_and_changes_nothing(runs: Runs, site: Site) -> None:
    play = site.play("recovery")
    assert play.changes == []
    assert play.writes == []
    assert re.search(r"replication: healthy", play.output)
    assert re.search(r"mysql-\d +writer ", play.output)


def test_a_run_while_a_pet_restarts_waits_and_changes_nothing(runs: Runs, site: Site, pets: Pets) -> None:
    old = pets.uid("mysql-1")
    pets.kubectl("delete", "pod", "mysql-1", "--wait=false")
    assert "test-site/mysql: " in site.play("recovery", rc=2, recovery_check_second_look=0).output
    play = site.play("site")
    assert play.changes == []
    assert play.writes == []
    # It has not come to its end on the old pod: the set was ready when it ended.
    assert pets.uid("mysql-1") != old
    assert [pets.is_ready(pet) for pet in pets.names] == [True, True]


def test_another_path_is_refused_before_the_exports_in_use_are_withdrawn(runs: Runs, site: Site) -> None:
    """What is wrong with volumes is told first: the drop-in of the set would have got the new path alone."""
    before = site.lab.ssh("nfs", f"cat {DROP_IN}; exportfs -s").stdout
    play = site.play("site", rc=2, petset_nfs_path="/srv/elsewhere/{namespace}/{set}/{ordinal}")
    assert "where a volume points to cannot be changed" in play.output
    assert play.writes == []
    assert {task["host"] for task in play.tasks} == {"localhost"}
    assert site.lab.ssh("nfs", f"cat {DROP_IN}; exportfs -s; ls -d /srv/elsewhere 2>&1 || true").stdout.startswith(
        before
    )


def test_no_secret_was_seen(runs: Runs, site: Site) -> None:
    """Neither in what Ansible printed with -vvv --diff, nor in requests, objects, logs, journals and processes."""
    secrets = secrets_of(site.lab, NAMESPACE)
    wanted = {"root-password", "replication-password", "admin-password", "agent-password", "app-password", "tls.key"}
    assert wanted <= set(secrets)
    assert secrets["root-password"] == ROOT_PASSWORD
    stored = site.pets.stored_passwords()
    assert stored["petset_repl"]
    texts = {
        **{f"output of run {number}": play.output for number, play in enumerate(site.plays)},
        "requests": "\n".join(unquote_plus(request["uri"]) for play in site.plays for request in play.requests),
        "lines of progress": site.progress.read_text(),
        **cluster_texts(site.lab, NAMESPACE),
        **journals(site.lab, time.monotonic() - runs.began_s),
        **Processes(site.lab, site.folder).seen(),
    }
    # What is looked at is there: each of them shows something of the run that is no secret.
    for name, word in {
        "output of run 3": "CHANGE REPLICATION SOURCE TO",
        "configmaps": "haproxy.cfg",
        "leases": "stateful.petset/in-sync",
        "events": "mysql-0",
        "log of mysql-0": "petset: pet 0 of set",
        "lines of progress": "mysql-0",
        "ps-node-1": "mysqld",
        "ps-node-2": "mysqld",
        "ps-nfs": "/bin/sh -c /usr/bin/python3",  # a module, by pipelining
        "ps-host": "ansible-playbook",
        "journal of nfs": "Invoked with",
        "journal of node-1": "kubelet",
    }.items():
        assert word in texts[name], name
    assert find_hidden(secrets, texts, stored) == []


def test_teardown_with_the_same_rights_leaves_the_data(runs: Runs, site: Site) -> None:
    wanted: dict[str, Any] = {"petset_confirm_absent": ["mysql-0", "mysql-1"], "petset_teardown_exports": True}
    # While the pets hold files open in the directories.
    foretold = site.play("teardown", "--check", "--diff", **wanted)
    assert foretold.writes == []
    play = site.play("teardown", "--diff", **wanted)
    said, done = ({action for *_where, actions in one.changes for action in actions} for one in (foretold, play))
    assert said == done
    assert any(action.startswith(f"remove {DROP_IN}") for action in done)
    assert f"{FOLDER}/mysql/1" in play.output
    left = site.lab.get("statefulsets,pods,services,persistentvolumeclaims", "-n", NAMESPACE)["items"]
    assert left == []
    assert f"{FOLDER}/" not in site.lab.ssh("nfs", "cat /var/lib/nfs/etab").stdout
    assert "data" in site.lab.ssh("nfs", f"ls {FOLDER}/mysql/1").stdout
