# SPDX-License-Identifier: GPL-3.0-or-later
"""What users of others reported, and each kind of trouble, staged on one set on the lab: what the collection does and
what it says. The tests build on each other as little as they can; each leaves the set well.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.examples import read_page
from tests.hidden import find_hidden
from tests.pets import MYSQL
from tests.robustness.nemesis.base import Fault, Pick
from tests.robustness.nemesis.kill import MysqldKill, pod_uid
from tests.robustness.nemesis.volumes import EmptyFolder, VolumeReleased, cordon, refusal
from tests.robustness.processes import stop_process
from tests.robustness.world import Place, World

from .conftest import Lab, wait_for
from .sites import Site, a_site, drop_in_of

pytestmark = [pytest.mark.lab, pytest.mark.stories]

NAMESPACE = "test-cases"
APP = "faults"
# Signs that a shell, an option file, SQL and a format string each read in their own way.
PASSWORDS = {
    "root": "pa'ss w\"ord\\ %s$HOME",
    "admin": "päß€ %(x)s ${HOME}#;",
    "replication": "*0123'\"\\ -p x !tag",
}
APP_PASSWORD = '\'; -- \\ "yes" ~'
OLD_STATEMENTS = (
    "SHOW MASTER STATUS",
    "SHOW SLAVE STATUS",
    'CHANGE MASTER TO MASTER_HOST = "a"',
    "START SLAVE",
    "STOP SLAVE",
    "RESET MASTER",
)
IN_SYNC = "stateful.petset/in-sync"


class Cases:
    """The set, its playbooks, its clients, and who is who."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.lab = site.lab
        self.folder = folder
        self.pets = site.pets
        self.world = World(Place(namespace=NAMESPACE, lab=site.lab.name), folder / "session.log")

    @property
    def shown(self) -> dict[str, str]:
        """What each run of a playbook has printed."""
        return {f"output of run {number}": play.output for number, play in enumerate(self.site.plays)}

    def lease(self) -> Any:
        return self.pets.get("lease", "mysql")

    @property
    def writer(self) -> str:
        return str(self.lease()["spec"]["holderIdentity"])

    @property
    def standby(self) -> str:
        return next(pet for pet in self.pets.names if pet != self.writer)

    def uuid(self, pet: str) -> str:
        return self.pets.sql(pet, "SELECT @@server_uuid")

    def gtids(self, pet: str) -> str:
        """The transactions of a pet, on one line."""
        return self.pets.sql(pet, 'SELECT REPLACE(@@global.gtid_executed, "\\n", "")')

    def lacks(self, pet: str, other: str) -> str:
        """The transactions of the other pet that this one does not have."""
        theirs = self.gtids(other)
        return self.pets.sql(pet, f'SELECT REPLACE(GTID_SUBTRACT("{theirs}", @@global.gtid_executed), "\\n", "")')

    def errors(self, pet: str, statements: str) -> list[str]:
        """The numbers of the errors that statements get on a pet, each of which is tried."""
        assert "'" not in statements
        said = self.pets.sh(pet, f"({MYSQL}'{statements}' --force) 2>&1 || true")
        return re.findall(r"^ERROR (\d+) ", said, re.MULTILINE)

    def change_channel(self, pet: str, setting: str) -> None:
        """Another setting of the channel. The pet's agent starts a channel that is stopped, also in between."""
        statements = (
            f'STOP REPLICA FOR CHANNEL "ring"; CHANGE REPLICATION SOURCE TO {setting} FOR CHANNEL "ring"; '
            'START REPLICA FOR CHANNEL "ring"'
        )
        wait_for(setting, lambda: not self.errors(pet, statements), 20)

    def behind(self, pet: str, statements: str) -> str:
        """What statements say on the standby that nobody else hears of: they are in no binary log."""
        try:
            return self.pets.sql(pet, f"SET sql_log_bin=0; SET GLOBAL super_read_only=0; {statements}")
        finally:
            self.pets.sql(pet, "SET GLOBAL super_read_only=1")

    def settings(self) -> dict[str, Any]:
        return self.world.settings(int(time.time()) % 10_000_000, 2, 1)

    def ask(self, sql: str, limit_s: float = 30, **changes: Any) -> Any:
        """What a client gets through HAProxy: rows, or the error when it gets none in time."""
        done = self.world.client("ask", {**self.settings(), "sql": sql, "limit_s": limit_s, **changes}, limit_s + 60)
        told = json.loads(done.out.splitlines()[-1])
        return told.get("rows", told.get("error"))

    def wait_well(self, seconds: float = 120) -> None:
        """Until every pet is ready, in sync, and both hold the same transactions."""
        self.pets.wait_ready(int(seconds))

        def well() -> bool:
            lease = self.lease()
            named = lease["metadata"]["annotations"].get(IN_SYNC, "")
            return set(named.split(",")) == set(self.pets.names) and bool(lease["spec"].get("holderIdentity"))

        wait_for("both pets in sync", well, seconds)

    def recovery(self) -> str:
        """What the playbook recovery says."""
        play = self.site.play("recovery", recovery_check_must_be_healthy=False, recovery_check_second_look=0)
        assert play.changes == []
        return play.output

    def wait_healthy(self, seconds: float = 60) -> str:
        """Until recovery finds the replication healthy; all that it says."""
        well = "replication: healthy"
        said: str = wait_for(well, lambda: said if well in (said := self.recovery()) else "", seconds)
        return said

    def wait_told(self, pet: str, word: str, seconds: float = 90) -> str:
        """Until recovery tells this trouble of this pet; the line with the way out."""
        row = re.compile(rf"{pet} +[a-z]+ +wrong +{word} +\S")
        said = wait_for(
            f"recovery tells {word}", lambda: said if row.search(said := self.recovery()) else None, seconds
        )
        found = re.search(rf"{pet} {word}: [^\"]+", said)
        assert found, said
        return found[0]

    def wait_ring(self, word: str, seconds: float = 60) -> str:
        """Until recovery tells this trouble of the replication; all that it says."""
        row = re.compile(rf'"    {word}: ')
        said: str = wait_for(
            f"recovery tells {word}", lambda: said if row.search(said := self.recovery()) else "", seconds
        )
        return said

    @contextmanager
    def away(self, pet: str) -> Iterator[str]:
        """Within, no pod of the pet runs, and no node takes one. Its folder on the NFS server."""
        try:
            cordon(self.world, "cordon")
            gone = ("--wait=true", "--timeout=90s", "--ignore-not-found")
            self.world.kubectl("delete", "pod", pet, *gone, limit_s=120)
            yield self.world.place.folder(pet)
        finally:
            cordon(self.world, "uncordon")

    @contextmanager
    def other_data(self, pet: str, script: str) -> Iterator[None]:
        """Within, the pet has what this script makes of ``data`` in its folder; its own data are ``kept`` there."""
        try:
            with self.away(pet) as folder:
                self.world.ssh("nfs", f"cd {folder}\nmv data kept\n{script}", limit_s=120)
            yield
        finally:
            with self.away(pet) as folder:
                back = "[ ! -e kept ] || { rm -rf data; mv kept data; }"
                self.world.ssh("nfs", f"cd {folder}\n{back}", limit_s=120)

    def make_anew(self, pet: str) -> None:
        """As the messages tell it: its volume aside, an empty one in its place, and its line out of the record."""
        with self.away(pet) as folder:
            self.world.ssh(
                "nfs",
                f"rm -rf {folder}.aside\nmv {folder} {folder}.aside\nmkdir {folder}\n"
                f"chown --reference={folder}.aside {folder}\nchmod --reference={folder}.aside {folder}\nexportfs -f",
            )
            record = self.pets.get("configmap", "mysql-boot")["data"]["known-pets"]
            lines = [f"{line}\n" for line in record.splitlines() if line.split()[:1] != [pet[-1]]]
            patch = json.dumps({"data": {"known-pets": "".join(lines)}})
            self.pets.kubectl("patch", "configmap", "mysql-boot", f"--patch={patch}")
        self.pets.wait_ready(180)
        self.world.ssh("nfs", f"rm -rf {folder}.aside", limit_s=120)

    @contextmanager
    def without_restarts(self) -> Iterator[None]:
        """What is told of a pet is left to a person: nothing starts its mysqld again meanwhile."""
        before = [self.pets.starts(pet) for pet in self.pets.names]
        yield
        assert [self.pets.starts(pet) for pet in self.pets.names] == before

    @contextmanager
    def staged(self, fault: Fault, *pets: str) -> Iterator[None]:
        """A fault that is seen to work within, and is undone after."""
        pick = Pick(pets)
        fault.setup(self.world, pick)
        try:
            fault.inject(self.world, pick)
            wait_for(fault.describe(pick), lambda: fault.is_effective(self.world, pick), fault.effect_limit_s)
            yield
        finally:
            fault.recover(self.world, pick)


@pytest.fixture(scope="module")
def cases(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cases]:
    folder = tmp_path_factory.mktemp("cases")
    app = {"user": APP, "database": APP, "password": APP_PASSWORD}
    given = {"petset_passwords": PASSWORDS, "petset_app": app, "petset_wait_timeout": 240}
    with a_site(lab, NAMESPACE, folder, **given) as site:
        site.play("site")
        yield Cases(site, folder)


# --- the set as it was made -------------------------------------------------------------------------------------------


def test_rp_rec_08_the_writer_is_killed_before_there_is_any_data(cases: Cases) -> None:
    """Equal sets are equal, empty or not: the other pet serves. The process is gone, the pod is not."""
    cases.wait_well()
    old, new = cases.writer, cases.standby
    pod, uuid = cases.pets.uid(old), cases.uuid(new)
    assert cases.ask("SHOW TABLES") == []
    with cases.staged(MysqldKill(), old):
        begin = time.monotonic()
        asked = "SELECT @@server_uuid, @@read_only"
        wait_for("the other pet takes writes", lambda: cases.ask(asked) == [[uuid, 0]], 20)
        assert time.monotonic() - begin < 20
    cases.wait_well()
    assert (cases.writer, cases.pets.uid(old)) == (new, pod)


def test_rp_rec_08_the_writer_is_killed_right_after_a_switch(cases: Cases) -> None:
    """The pet that has just opened is killed as well: one of the two serves, with what was acknowledged in between."""
    cases.wait_well()
    first, second = cases.writer, cases.standby
    uuid = cases.uuid(second)
    cases.ask("CREATE TABLE IF NOT EXISTS switched (n INT PRIMARY KEY)")
    asked = "SELECT @@server_uuid, @@read_only"
    with cases.staged(MysqldKill(), first):
        wait_for("the other pet takes writes", lambda: cases.ask(asked) == [[uuid, 0]], 20)
        assert cases.ask("REPLACE INTO switched VALUES (1)") == []
        with cases.staged(MysqldKill(), second):
            wait_for("a pet takes writes", lambda: cases.ask(asked, 1)[0][1:] == [0], 60)
            assert cases.ask("REPLACE INTO switched VALUES (2)") == []
    cases.wait_well()
    for pet in cases.pets.names:
        assert cases.pets.sql(pet, f"SELECT n FROM {APP}.switched ORDER BY n").split() == ["1", "2"]
    cases.ask("DROP TABLE switched")


def test_rp_rep_11_each_password_arrives_whole(cases: Cases) -> None:
    """root within the pets, admin by the collection, replication between the pets, the application through HAProxy."""
    assert [cases.pets.sql(pet, "SELECT CURRENT_USER()") for pet in cases.pets.names] == ["root@localhost"] * 2
    assert cases.ask("SELECT CURRENT_USER()") == [[f"{APP}@%"]]
    assert cases.wait_healthy().count("running from") == 2
    assert find_hidden({**PASSWORDS, APP: APP_PASSWORD}, cases.shown) == []


def test_rp_rep_02_channels_do_not_need_a_cached_password(cases: Cases) -> None:
    plugin = 'SELECT plugin FROM mysql.user WHERE user = "petset_repl"'
    for pet in cases.pets.names:
        assert cases.pets.sql(pet, plugin) == "caching_sha2_password"
        cases.pets.sql(pet, "FLUSH PRIVILEGES")
    for pet in cases.pets.names:
        cases.pets.sql(pet, 'STOP REPLICA IO_THREAD FOR CHANNEL "ring"; START REPLICA IO_THREAD FOR CHANNEL "ring"')
    state = (
        "SELECT s.SERVICE_STATE, s.LAST_ERROR_NUMBER, c.SSL_ALLOWED"
        " FROM performance_schema.replication_connection_status s"
        " JOIN performance_schema.replication_connection_configuration c USING (CHANNEL_NAME)"
    )
    for pet in cases.pets.names:
        asked = functools.partial(cases.pets.sql, pet, state)
        wait_for("the channel runs", lambda: asked().split() == ["ON", "0", "YES"], 20)  # noqa: B023


def test_rp_rep_05_running_ids_are_unique_and_not_0(cases: Cases) -> None:
    assert [cases.pets.sql(pet, "SELECT @@server_id") for pet in cases.pets.names] == ["1000", "1001"]


def test_rp_rep_10_settings_that_are_gone_are_refused_before_anything_is_touched(cases: Cases) -> None:
    wrong = {"default_authentication_plugin": "mysql_native_password"}
    play = cases.site.play("site", rc=2, petset_mysql_config=wrong)
    assert (play.changes, play.writes) == ([], [])
    assert "default_authentication_plugin" in play.output
    assert "caching_sha2_password" in play.output


def test_rp_rep_01_only_the_new_words_are_sent(cases: Cases) -> None:
    """A server counts the statements that it could not parse, by account: of the collection's there is none, although
    it has looked at the channel, changed, stopped and started it. What the old words get is counted as root's.
    """
    cases.wait_well()
    pet = cases.standby
    cases.change_channel(pet, "SOURCE_RETRY_COUNT = 5")
    sent = [action for *_where, actions in cases.site.play("site").changes for action in actions]
    assert [one for one in sent if one.startswith(f"{pet}: CHANGE REPLICATION SOURCE TO SOURCE_RETRY_COUNT = 0 ")], sent
    assert [one for one in sent if one.startswith(f"{pet}: START REPLICA ")], sent
    assert [one for one in sent if re.search(r"\b(MASTER|SLAVE)\b", one)] == []
    # By the new names of columns and variables.
    assert cases.wait_healthy().count("running from") == 2
    counted = (
        "SELECT USER, SUM_ERROR_RAISED FROM performance_schema.events_errors_summary_by_user_by_error"
        " WHERE ERROR_NUMBER = 1064 AND SUM_ERROR_RAISED > 0 AND USER IS NOT NULL"
    )
    for one in cases.pets.names:
        assert cases.errors(one, "; ".join(OLD_STATEMENTS)) == ["1064"] * len(OLD_STATEMENTS)
        found = dict(line.split("\t") for line in cases.pets.sql(one, counted).splitlines())
        assert int(found["root"]) >= len(OLD_STATEMENTS)
        # The client program mysql, by which pets are pinged as petset_repl, asks "select $$" first: an error as well.
        assert not {"petset_admin", "petset_agent"} & set(found), found
    cases.wait_well()


def test_rp_rep_03_names_and_passwords_that_are_too_long(cases: Cases) -> None:
    """Refused before anything is touched, where the pets' own server refuses them too: 32, of a password in bytes."""
    pet, long_name = cases.standby, "u" * 33
    taken, refused = ("a" * 32, "é" * 16), ("a" * 33, "é" * 32)

    def change(passwords: tuple[str, str]) -> str:
        channel = 'CHANGE REPLICATION SOURCE TO SOURCE_HOST = "nobody", SOURCE_PASSWORD = "{}" FOR CHANNEL "probe"; '
        return "SET NAMES utf8mb4; " + "".join(map(channel.format, passwords))

    try:
        assert cases.errors(pet, change(taken)) == []
        assert cases.errors(pet, f'{change(refused)}CREATE USER "{long_name}"') == ["3056", "3056", "1470"]
    finally:
        cases.errors(pet, 'RESET REPLICA ALL FOR CHANNEL "probe"')
    app = {"user": long_name, "database": APP, "password": APP_PASSWORD}
    for given, words in (
        ({"petset_passwords": {**PASSWORDS, "replication": refused[0]}}, "it has 33 bytes, MySQL takes 32 here"),
        ({"petset_passwords": {**PASSWORDS, "replication": refused[1]}}, "it has 64 bytes, MySQL takes 32 here"),
        ({"petset_app": app}, f"app.user: '{long_name}': not a name for MySQL"),
    ):
        play = cases.site.play("site", rc=2, **given)
        assert words in play.output
        assert (play.changes, play.writes) == ([], [])
        assert not [password for password in refused if password in play.output]


def test_rp_rep_13_ten_checks_in_a_row_under_load_are_healthy(cases: Cases) -> None:
    settings = {**cases.settings(), "folder": str(cases.folder)}
    cases.world.client("setup", {**settings, "limit_s": 30})
    playbook = cases.folder / "look.yml"
    task = {
        "stateful.petset.mysql_ring_info": {
            "set": "mysql",
            "namespace": NAMESPACE,
            "kubeconfig": cases.site.kubeconfig,
        },
        "register": "looks",
        "loop": list(range(10)),
    }
    words = {
        "ansible.builtin.debug": {"msg": "words {{ looks.results | map(attribute='judgement.word') | join(',') }}"}
    }
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task, words]}]))
    clients = cases.world.start(*cases.world.client_argv("workload"))
    try:
        assert clients.stdin is not None
        clients.stdin.write(json.dumps(settings) + "\n")
        clients.stdin.flush()
        count = "SELECT COUNT(*) FROM appended"
        wait_for("rows", lambda: int(cases.ask(count)[0][0]) > 10)
        before = int(cases.ask(count)[0][0])
        play = cases.site.play(str(playbook))
        assert int(cases.ask(count)[0][0]) > before + 50
    finally:
        stop_process(clients, 30)
    assert "words " + ",".join(["healthy"] * 10) in play.output
    assert play.changes == []


def test_rp_hap_01_checks_do_not_log_in(cases: Cases) -> None:
    """HAProxy 3.2 cannot log in to an account of MySQL 9; its checks ask the agent, who can."""
    config = cases.pets.get("configmap", "mysql-haproxy")["data"]["haproxy.cfg"]
    assert "option httpchk" in config
    assert "mysql-check" not in config
    version = cases.pets.version(cases.writer)
    assert int(version.split(".")[0]) >= 8
    readers = {cases.ask("SELECT @@server_uuid", port=3307)[0][0] for _try in range(4)}
    assert readers == {cases.uuid(pet) for pet in cases.pets.names}


def test_rp_hap_02_servers_that_want_tls_are_up_and_clients_without_it_are_told(cases: Cases) -> None:
    assert [cases.pets.sql(pet, "SELECT @@require_secure_transport") for pet in cases.pets.names] == ["1", "1"]
    assert cases.ask("SELECT 1") == [[1]]
    assert "3159" in cases.ask("SELECT 1", limit_s=0, tls=False)


def test_rp_hap_03_no_number_of_cut_connections_blocks_the_proxies(cases: Cases) -> None:
    """As plain TCP checks make them: 30 a pet, where one is allowed. Checks go to the agent, so none is HAProxy's."""
    pets = cases.pets.names
    try:
        for pet in pets:
            cases.pets.sql(pet, "SET GLOBAL max_connect_errors = 1")
        for port in (3306, 3307):
            address = cases.world.proxy_address()
            script = f"for i in $(seq 30); do exec 3<>/dev/tcp/{address}/{port}; exec 3<&-; done"
            cases.lab.run("bash", "-c", script)
        assert cases.ask("SELECT 1", limit_s=0) == [[1]]
        assert cases.ask("SELECT 1", limit_s=0, port=3307) == [[1]]
        blocked = "SELECT COALESCE(SUM(COUNT_HOST_BLOCKED_ERRORS), 0) FROM performance_schema.host_cache"
        assert [cases.pets.sql(pet, blocked) for pet in pets] == ["0", "0"]
    finally:
        for pet in pets:
            cases.pets.sql(pet, "SET GLOBAL max_connect_errors = DEFAULT")


# --- pods that come and go --------------------------------------------------------------------------------------------


def test_rp_hap_06_and_rp_rec_05_a_pet_comes_back_with_another_address_and_its_uuid(cases: Cases) -> None:
    """Readers notice nothing: no connection is led to the pet before a check has passed, nor to its old address. Its
    auto.cnf was left open to everybody, which MySQL does not trust; it is the same server all the same.
    """
    pet = cases.standby
    uuid, old = cases.uuid(pet), cases.pets.get("pod", pet)
    auto_cnf = f"{cases.world.place.folder(pet)}/data/auto.cnf"
    assert cases.lab.ssh("nfs", f"chmod 0666 {auto_cnf}").rc == 0
    polling = cases.world.start(*cases.world.client_argv("poll"))
    assert polling.stdin is not None
    polling.stdin.write(json.dumps({**cases.settings(), "port": 3307}) + "\n")
    polling.stdin.flush()
    try:
        assert polling.stdout is not None
        assert polling.stdout.readline() == "polling\n"
        deleted = time.time()
        cases.pets.kubectl("delete", "pod", pet, "--wait=false")
        cases.pets.wait_there({pet: old["metadata"]["uid"]}, [pet])
        started = time.time()
        cases.wait_well()
        time.sleep(5)
    finally:
        said = stop_process(polling, 20)[0]
    looks = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    new = cases.pets.get("pod", pet)
    assert new["status"]["podIP"] != old["status"]["podIP"]
    # A session that began at the moment of the end is cut; from then on none is led to the pet that went.
    assert [look for look in looks if "error" in look and not deleted < look["at_s"] < deleted + 2] == []
    back = [look["at_s"] for look in looks if look.get("server") == uuid and look["at_s"] > started]
    assert back
    # The kubelet's own word that it is ready comes no later than some checks after the first session.
    assert cases.uuid(pet) == uuid
    assert cases.lab.ssh("nfs", f"stat -c %a {auto_cnf}").stdout.strip() == "640"


def test_rp_sts_02_and_rp_dns_01_a_roll_out_that_is_stuck(cases: Cases) -> None:
    """The pod that waits is named with its reason, the ready one is left alone, and the corrected template heals it.
    The same runs repair the governing service, by which a pet is found that is not ready.
    """
    pets = cases.pets
    patch = json.dumps({"spec": {"publishNotReadyAddresses": False}})
    pets.kubectl("patch", "service", "db", f"--patch={patch}")
    old = {pet: pets.uid(pet) for pet in pets.names}
    broken = cases.site.play("site", rc=2, petset_image="registry.lab:5000/mysql:none", petset_wait_timeout=25)
    assert re.search(r"mysql-1: container \w+: (ErrImagePull|ImagePullBackOff)", broken.output)
    assert pets.get("service", "db")["spec"]["publishNotReadyAddresses"] is True
    assert pets.uid("mysql-0") == old["mysql-0"]
    assert pets.is_ready("mysql-0")
    assert not pets.is_ready("mysql-1")
    address = pets.get("pod", "mysql-1")["status"]["podIP"]
    wait_for("the name", lambda: address in pets.sh("mysql-0", "getent hosts mysql-1.db || true"), 40)
    assert "playbook site" in cases.wait_told("mysql-0", "rollout_stuck", 30)
    cases.site.play("site")
    assert pets.uid("mysql-0") == old["mysql-0"]
    assert pets.uid("mysql-1") != old["mysql-1"]
    cases.wait_well()


def test_rp_rec_06_data_that_hold_another_password_than_the_secret(cases: Cases) -> None:
    """As of a set that was made anew around kept volumes: it is said which claim's, and nothing is initialised."""
    secret = cases.pets.get("secret", "mysql-secret")["data"]["admin-password"]
    try:
        # No word that the collection may say itself: Ansible would mask it there.
        set_secret(cases, base64.b64encode(b"wr0ng-Passw0rd").decode())
        said = cases.recovery()
    finally:
        set_secret(cases, secret)
    for ordinal in range(2):
        assert f"claim db-mysql-{ordinal} hold another password than the Secret" in said
    assert "old_password: " in said
    cases.wait_healthy()


def set_secret(cases: Cases, value: str) -> None:
    patch = json.dumps({"data": {"admin-password": value}})
    cases.pets.kubectl("patch", "secret", "mysql-secret", f"--patch={patch}")


def test_rp_rec_02_rp_rec_03_rp_dns_02_all_pets_are_stopped_and_one_comes_back_alone(cases: Cases) -> None:
    """A proxy that starts while there is no pet runs and turns clients away. A pet that was down while the other was
    written to does not open alone. With both back, replication goes on by itself, and the row is on both.
    """
    pets = cases.pets
    cases.wait_well()
    behind = cases.standby
    ahead = cases.writer
    scale(cases, [ahead])
    wait_for("the pet is gone", lambda: behind not in names_of(cases), 60)
    table = "CREATE TABLE IF NOT EXISTS alone (id INT PRIMARY KEY)"
    assert cases.ask(table, limit_s=30) == []
    assert cases.ask("INSERT INTO alone VALUES (1)", limit_s=30) == []
    scale(cases, [])
    wait_for("both pets are gone", lambda: not names_of(cases), 60)

    proxies = proxies_of(cases)
    pets.kubectl("delete", "pod", proxies[0], "--wait=false")
    wait_for("another proxy", lambda: proxies[0] not in proxies_of(cases) and len(proxies_of(cases)) == 2, 60)
    pets.kubectl("rollout", "status", "deployment/mysql-haproxy", "--timeout=60s")
    assert "error" in str(cases.ask("SELECT 1", limit_s=0)).lower()

    scale(cases, [behind])
    pets.kubectl("wait", "pod", behind, "--for=condition=Ready", "--timeout=90s")
    time.sleep(8)
    assert pets.sql(behind, "SELECT @@super_read_only") == "1"
    assert "error" in str(cases.ask("INSERT INTO alone VALUES (2)", limit_s=0)).lower()

    scale(cases, list(pets.names))
    cases.wait_well()
    wait_for("the row", lambda: cases.ask("SELECT id FROM alone") == [[1]], 30)
    for pet in pets.names:
        assert pets.sql(pet, f"SELECT COUNT(*) FROM {APP}.alone") == "1"
    assert cases.writer == ahead
    for name in proxies_of(cases):
        assert [one["restartCount"] for one in pets.get("pod", name)["status"]["containerStatuses"]] == [0]
    cases.wait_healthy()


def scale(cases: Cases, wanted: list[str]) -> None:
    """Only these pets run: an ordinal to begin with, and a number."""
    start = min((int(pet[-1]) for pet in wanted), default=0)
    patch = json.dumps({"spec": {"ordinals": {"start": start}, "replicas": len(wanted)}})
    cases.pets.kubectl("patch", "statefulset", "mysql", f"--patch={patch}")


def names_of(cases: Cases) -> set[str]:
    """The pods of pets that are there."""
    pods = cases.pets.get("pods")["items"]
    return {pod["metadata"]["name"] for pod in pods} & set(cases.pets.names)


def proxies_of(cases: Cases) -> list[str]:
    pods = cases.pets.get("pods")["items"]
    return sorted(one for pod in pods if (one := pod["metadata"]["name"]).startswith("mysql-haproxy"))


# --- troubles, each by its name ---------------------------------------------------------------------------------------


def test_rp_rep_08_drawn_numbers_never_meet_and_a_duplicate_key_is_told_and_not_skipped(cases: Cases) -> None:
    """With one writer the other side's row is one that somebody wrote past the collection; the numbers that pets draw
    differ all the same, for the day on which roles change. With both written to: tests/lab/test_site_life.py.
    """
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    table, row = f"{APP}.numbers", 1000
    cases.pets.sql(other, f"CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, side VARCHAR(9))")
    wait_for("the table", lambda: not cases.lacks(pet, other), 30)
    draw = f'BEGIN; INSERT INTO {table} (side) VALUES ("a"), ("b"), ("c"); SELECT id FROM {table}; ROLLBACK'
    drawn = {other: cases.pets.sql(other, draw).split(), pet: cases.behind(pet, draw).split()}
    assert [len(drawn[one]) for one in cases.pets.names] == [3, 3]
    assert [{int(number) % 2 for number in drawn[one]} for one in cases.pets.names] == [{1}, {0}]
    try:
        cases.pets.sql(pet, "SET GLOBAL auto_increment_increment = 1")
        cases.behind(pet, f'INSERT INTO {table} VALUES ({row}, "{pet}")')
        cases.pets.sql(other, f'INSERT INTO {table} VALUES ({row}, "{other}")')
        with cases.without_restarts():
            said = cases.wait_ring("replication_duplicate_key")
        told = re.search(rf"{pet} does not apply what {other} sends: error 1062: [^\"]*", said)
        assert told, said
        assert table in told[0]
        transaction = re.search(rf"{cases.uuid(other)}:\d+", told[0])
        assert transaction, told[0]
        assert f"applier stopped (1062) from {other}" in said
        offset = int(pet[-1]) + 1
        running = (
            f"{pet} has auto_increment_increment 1 and auto_increment_offset {offset}, it should have 2 and {offset}"
        )
        assert running in said
        play = cases.site.play("site", rc=2)
        assert "error 1062" in play.output
        assert (play.changes, play.writes) == ([], [])
        has = f'SELECT GTID_SUBSET("{transaction[0]}", @@global.gtid_executed)'
        assert [cases.pets.sql(one, has) for one in (other, pet)] == ["1", "0"]
        assert cases.pets.sql(pet, f"SELECT side FROM {table} WHERE id = {row}") == pet
    finally:
        cases.pets.sql(pet, "SET GLOBAL auto_increment_increment = 2")
        # The way out that is told: the row that does not count goes, and the applier goes on.
        cases.behind(pet, f'DELETE FROM {table} WHERE id = {row} AND side = "{pet}"')
        cases.pets.sql(pet, 'START REPLICA FOR CHANNEL "ring"')
    wait_for("the row", lambda: cases.pets.sql(pet, f"SELECT side FROM {table} WHERE id = {row}") == other, 30)
    cases.wait_well()
    assert "auto_increment" not in cases.wait_healthy()


def test_an_applier_that_stops_is_told_with_its_reason(cases: Cases) -> None:
    """A row that is missing, then a damaged relay log. A duplicate key is rp_rep_08."""
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    table = f"{APP}.told"
    cases.pets.sql(other, f"CREATE TABLE {table} (a INT PRIMARY KEY, b INT); INSERT INTO {table} VALUES (1, 1), (2, 2)")
    wait_for("the table", lambda: not cases.lacks(pet, other), 30)
    try:
        cases.behind(pet, f"DELETE FROM {table} WHERE a = 1")
        cases.pets.sql(other, f"UPDATE {table} SET b = 7 WHERE a = 1")
        with cases.without_restarts():
            said = cases.wait_ring("replication_missing_row")
        assert re.search(rf"{pet} does not apply what {other} sends: error 1032: ", said), said
        assert "bring the row back" in said
        # The agent leaves an applier alone that stopped for an error: what arrives now is in the relay log alone.
        log = cases.pets.sh(pet, "ls /var/lib/petset/data/relaylog*.[0-9]* | tail -1")
        before = int(cases.pets.sh(pet, f"stat -c %s {log}"))
        cases.pets.sql(other, "; ".join(f"UPDATE {table} SET b = {number} WHERE a = 2" for number in range(20)))
        # Not its last number: that may be of the pet's own transactions, which it does not receive.
        received = (
            f'SELECT GTID_SUBSET("{cases.gtids(other)}", CONCAT(@@global.gtid_executed, ",", RECEIVED_TRANSACTION_SET))'
            " FROM performance_schema.replication_connection_status"
        )
        wait_for("the transactions are received", lambda: cases.pets.sql(pet, received) == "1", 30)
        middle = before + (int(cases.pets.sh(pet, f"stat -c %s {log}")) - before) // 2
        assert middle > before
        spoil = f"tr '\\000' '\\377' | dd of={log} bs=1 seek={middle} conv=notrunc 2>/dev/null"
        cases.pets.sh(pet, f"head -c 200 /dev/zero | {spoil}")
    finally:
        cases.behind(pet, f"REPLACE INTO {table} VALUES (1, 1)")
        cases.pets.sql(pet, 'START REPLICA FOR CHANNEL "ring"')
    assert "delete the pod" in cases.wait_ring("replication_relay_log")
    old = cases.pets.uid(pet)
    cases.pets.kubectl("delete", "pod", pet, "--wait=true", "--timeout=90s")
    wait_for("a new pod", lambda: cases.pets.uid(pet) != old, 60)
    cases.wait_well()
    assert cases.pets.sql(pet, f"SELECT b FROM {table}").split() == ["7", "19"]


@pytest.mark.parametrize(
    ("setting", "word", "evidence"),
    [
        ("SOURCE_PORT = 1", "replication_network", "Message: Can.t connect to MySQL server"),
        ('SOURCE_SSL_CA = "/petset/tls/tls.crt"', "replication_tls", "SSL connection error"),
        ('SOURCE_PASSWORD = "another"', "replication_password", "Access denied for user"),
    ],
    ids=["not reached", "not trusted", "not let in"],
)
def test_a_receiver_that_gets_nothing_is_told_and_site_puts_its_channel_right(
    cases: Cases, setting: str, word: str, evidence: str
) -> None:
    """Logs that are purged are rp_rep_06."""
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    try:
        with cases.without_restarts():
            cases.change_channel(pet, setting)
            said = cases.wait_ring(word)
        told = re.search(rf'{pet} [a-z ]+ {other}[^"]*{evidence}', said)
        assert told, said
        assert "another" not in told[0]
    finally:
        play = cases.site.play("site", rc=None)
    assert play.rc == 0, play.output
    done = [action for *_task, actions in play.changes for action in actions]
    assert any(action.startswith(f"{pet}: CHANGE REPLICATION SOURCE TO ") for action in done), done
    cases.wait_well()
    cases.wait_healthy()


def test_the_server_in_its_grace_period(cases: Cases) -> None:
    """It lasts until every client has come back: one is kept from it."""
    cases.wait_well()
    pet, node = cases.writer, cases.world.node_of(cases.standby)
    assert cases.world.node_of(pet) != node
    cases.lab.cli("pause", node)
    try:
        assert cases.lab.ssh("nfs", "systemctl restart nfs-server").rc == 0
        assert "wait" in cases.wait_told(pet, "nfs_grace", 15)
    finally:
        cases.lab.cli("resume", node)
    cases.wait_well()


def test_a_disk_that_is_nearly_full(cases: Cases) -> None:
    try:
        cases.lab.cli("disk-full", "nfs", "/srv", "--leave", str(20 << 20))
        with cases.without_restarts():
            assert "space" in cases.wait_told(cases.standby, "disk_full", 20)
    finally:
        cases.lab.cli("disk-free", "nfs", "/srv")


@contextmanager
def drop_in_changed(cases: Cases, change: str, pets: Sequence[str]) -> Iterator[None]:
    """The set's exports after a script has moved or copied the file to NAME.off. After it it is back, and these pets
    mount anew."""
    drop_in = drop_in_of(NAMESPACE)
    try:
        assert cases.lab.ssh("nfs", f"{change}; exportfs -ra; exportfs -f").rc == 0
        yield
    finally:
        script = f"[ ! -e {drop_in}.off ] || mv {drop_in}.off {drop_in}; exportfs -ra; exportfs -f"
        assert cases.lab.ssh("nfs", script).rc == 0
        # The kubelet tries a new pod's mount at once, an old one's when its time comes. One after the other, as
        # docs/boot.md tells, so that each comes back on its node and can give back locks that nobody holds any more.
        for pet in pets:
            old = cases.pets.uid(pet)
            cases.pets.kubectl("delete", "pod", pet, "--wait=false", "--grace-period=0", "--force")
            cases.pets.wait_there({pet: old}, [pet], 60)
            wait_for("its node", lambda: "nodeName" in cases.pets.get("pod", pet)["spec"], 20)  # noqa: B023


@contextmanager
def export_edited(cases: Cases, pet: str, edit: str) -> Iterator[None]:
    """The line of the pet's export changed by a command of sed, until the block ends."""
    drop_in = drop_in_of(NAMESPACE)
    edit = shlex.quote(f"\\#^{cases.world.place.folder(pet)} #{edit}")
    script = f"sed -i.off {edit} {drop_in}; if cmp -s {drop_in}.off {drop_in}; then exit 1; fi"
    with drop_in_changed(cases, script, [pet]):
        yield


def identity_of(cases: Cases, pet: str) -> str:
    """Of the pet's folder on the server, what would be another after it was initialised, or is there meanwhile."""
    script = "cat .petset-identity.json data/auto.cnf; ls -d .data.new-* 2>/dev/null || true"
    done = cases.lab.ssh("nfs", f"cd {cases.world.place.folder(pet)}; {script}")
    assert done.rc == 0, done.stderr
    return done.stdout


def test_an_export_that_is_withdrawn(cases: Cases) -> None:
    """From under a running pet, and then for a pod that is to mount it. Its node may still mount the other pet's
    export, so the server knows the node and not the handle; it refuses a node to which it exports nothing at all.
    """
    cases.wait_well()
    pet = cases.standby
    with export_edited(cases, pet, "d"):
        assert "export the path again" in cases.wait_told(pet, "stale_handle", 60)
        assert not re.search(rf"{pet} +\w+ +wrong +export_withdrawn", cases.recovery())
        cases.pets.kubectl("delete", "pod", pet, "--wait=false", "--grace-period=5")
        assert (
            "export"
            in wait_for(
                "recovery tells it",
                lambda: re.search(rf"{pet} (mount_refused|export_missing): [^\"]+", cases.recovery()),
                90,
            )[0]
        )
    cases.wait_well()


def test_all_exports_that_are_withdrawn(cases: Cases) -> None:
    """The whole file is gone, from under both pets. It is told by one word, whatever kubelet says meanwhile.

    A container that cannot be made, as its volume is stale, was called a mistake in the set's configuration.
    """
    cases.wait_well()
    before = [identity_of(cases, pet) for pet in cases.pets.names]
    drop_in = drop_in_of(NAMESPACE)
    with drop_in_changed(cases, f"mv {drop_in} {drop_in}.off", cases.pets.names):
        for pet in cases.pets.names:
            assert "export the path again" in cases.wait_told(pet, "stale_handle", 60)
        for _look in range(4):
            assert not re.search(r"mysql-\d +\w+ +wrong +config ", cases.recovery())
    cases.wait_well(180)
    assert [identity_of(cases, pet) for pet in cases.pets.names] == before


def test_locks_that_nobody_holds_any_more_keep_no_pet_down(cases: Cases) -> None:
    """mysqld ends while its node may not ask the server: the server keeps its locks, as the node stays its client."""
    cases.wait_well()
    pet = cases.standby
    before, node = identity_of(cases, pet), cases.world.node_of(pet)
    drop_in = drop_in_of(NAMESPACE)
    with drop_in_changed(cases, f"mv {drop_in} {drop_in}.off", cases.pets.names):
        mysqld = cases.world.mysqld_pid(pet, cases.pets.uid(pet), node)
        assert cases.lab.ssh(node, f"kill -9 {mysqld}").rc == 0
        assert "export the path again" in cases.wait_told(pet, "stale_handle", 60)
    assert cases.world.node_of(pet) == node
    cases.pets.kubectl("wait", "pod", pet, "--for=condition=Ready", "--timeout=60s")
    cases.wait_well()
    assert identity_of(cases, pet) == before


def test_an_export_that_is_read_only(cases: Cases) -> None:
    """From under a running pet, whose mount still says rw; whether its mysqld lives on or has ended over it."""
    cases.wait_well()
    pet = cases.standby
    before = identity_of(cases, pet)
    with export_edited(cases, pet, "s/(rw,/(ro,/g"):
        assert "export it read-write" in cases.wait_told(pet, "read_only")
        assert identity_of(cases, pet) == before
    cases.wait_well()
    assert identity_of(cases, pet) == before


class FolderOfOther(EmptyFolder):
    """Another pet's folder stands where the pet's own should be. It must not start, nor touch what it finds."""

    name = "folder-of-other"

    def inject(self, world: World, pick: Pick) -> None:
        """As somebody who mounts the wrong disk while the pet is down; the second pet is the other."""
        folder, other = (world.place.folder(pet) for pet in pick.pets)
        self._while_down(world, pick.pet, f"mountpoint -q {folder} || mount --bind {other} {folder}\nexportfs -f")

    def is_effective(self, world: World, pick: Pick) -> bool:
        """The new pod refuses, by the name of the reason."""
        pod = world.pod(pick.pet)
        return pod_uid(pod) != self.uids[pick.pet] and "other-ordinal" in refusal(pod)

    def recover(self, world: World, pick: Pick) -> None:
        """Its own folder again. The server may hold the other's a moment longer."""
        folder = world.place.folder(pick.pet)
        if world.ssh("nfs", f"mountpoint -q {folder}", ok=False).rc == 0:
            script = f"exportfs -f\numount {folder} || umount -l {folder}\nexportfs -f"
            self._while_down(world, pick.pet, script)


def test_a_folder_of_another_pet(cases: Cases) -> None:
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    before = [identity_of(cases, one) for one in (pet, other)]
    with cases.staged(FolderOfOther(), pet, other):
        assert "the data is not touched" in cases.wait_told(pet, "folder_of_other")
        assert identity_of(cases, pet) == identity_of(cases, other) == before[1]
    cases.wait_well(180)
    assert [identity_of(cases, one) for one in (pet, other)] == before


def test_an_emptied_folder(cases: Cases) -> None:
    pet = cases.standby
    with cases.staged(EmptyFolder(), pet):
        assert "nothing is initialised over it" in cases.wait_told(pet, "folder_emptied")
    cases.wait_well(180)


def test_rp_rep_04_data_that_are_copied_from_another_pet(cases: Cases) -> None:
    """As by rsync or a restore, auto.cnf with them. The pet that would be the second one with a server_uuid does not
    start, so the ring never meets two: what it then says is in tests/api/test_ring.py. Both are named, the other one
    serves, and nobody repairs the copy unasked.
    """
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    mine, theirs = cases.uuid(pet), cases.uuid(other)
    # The other one writes meanwhile: a file may go under the copier's hands.
    copy = f"cp -a ../{other[-1]}/data data 2>/dev/null || [ -e data/auto.cnf ]"
    with cases.other_data(pet, copy):
        said = wait_for(
            "the pet refuses",
            lambda: told if "uuid-mismatch" in (told := refusal(cases.world.pod(pet))) else "",
            90,
        )
        assert f"identity says server_uuid {mine}, " in said
        assert f"auto.cnf says {theirs}: " in said
        assert "the data is not touched" in cases.wait_told(pet, "folder_of_other")
        assert cases.ask("SELECT @@server_uuid, @@read_only") == [[theirs, 0]]
        assert theirs in cases.world.ssh("nfs", f"cat {cases.world.place.folder(pet)}/data/auto.cnf").out
    cases.wait_well(180)
    assert cases.uuid(pet) == mine


def test_rp_rep_07_a_writer_that_comes_back_with_less_than_it_has_written(cases: Cases) -> None:
    """As after a power cut without sync_binlog=1; what such a cut leaves is chance, so an older copy of its data, made
    by itself, takes their place. It takes no writes and never counts as in sync; what it lost is named, and nothing is
    put in its stead.
    """
    cases.wait_well()
    pet, other = cases.writer, cases.standby
    uuid, folder = cases.uuid(pet), cases.world.place.folder(pet)
    durable = "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit"
    assert [cases.pets.sql(one, durable).split() for one in cases.pets.names] == [["1", "1"]] * 2
    table = f"{APP}.tail"
    cases.pets.sql(pet, f"CREATE TABLE {table} (id INT PRIMARY KEY)")
    try:
        cases.pets.sql(pet, 'CLONE LOCAL DATA DIRECTORY = "/var/lib/petset/older"')
        before = cases.gtids(pet)
        cases.pets.sql(pet, f"INSERT INTO {table} VALUES (1); INSERT INTO {table} VALUES (2)")
        written = cases.pets.sql(pet, f'SELECT GTID_SUBTRACT(@@global.gtid_executed, "{before}")')
        older = "cp -a kept/auto.cnf kept/.petset-identity.json older/\nmv older data"
        with cases.other_data(pet, older):
            cases.pets.wait_ready(120)
            # At the next start it is as in the option file.
            cases.pets.sql(pet, "SET GLOBAL sync_binlog = 0")
            said = cases.wait_ring("lost_transactions")
            assert f"{pet}: sync_binlog is 0: acknowledged writes could be lost in a crash" in said
            lost = re.search(rf"{uuid}:[\d:-]+", cases.lacks(pet, other))
            assert lost, said
            assert cases.pets.sql(pet, f'SELECT GTID_SUBSET("{written}", "{lost[0]}")') == "1"
            assert f"pet {pet}: lacks transactions of its own that another pet has ({lost[0]}" in said
            lease = cases.lease()
            assert (lease["spec"]["holderIdentity"], lease["metadata"]["annotations"][IN_SYNC]) == (other, other)
            assert cases.ask(f"INSERT INTO {table} VALUES (3)") == []
            closed = f"SELECT @@super_read_only, COUNT(*) FROM {table} WHERE id < 3"
            assert cases.pets.sql(pet, closed).split() == ["1", "0"]
    finally:
        cases.world.ssh("nfs", f"rm -rf {folder}/older", limit_s=120)
    cases.wait_well(180)
    assert cases.uuid(pet) == uuid
    rows = f"SELECT GROUP_CONCAT(id ORDER BY id) FROM {table}"
    wait_for("all rows", lambda: [cases.pets.sql(one, rows) for one in cases.pets.names] == ["1,2,3"] * 2, 30)


def test_rp_rep_06_a_pet_that_was_away_for_longer_than_the_logs_are_kept(cases: Cases) -> None:
    """What it lacks is named before anything is started, and its data are not reset. The way out that is told, an empty
    volume, mends it by CLONE.
    """
    cases.wait_well()
    pet, other = cases.standby, cases.writer
    uuid, table = cases.uuid(pet), f"{APP}.purged"
    count = f"SELECT COUNT(*) FROM {table}"
    cases.pets.sql(other, f"CREATE TABLE {table} (id INT PRIMARY KEY); INSERT INTO {table} VALUES (1)")
    wait_for("the row", lambda: not cases.lacks(pet, other), 30)
    try:
        # Nobody listens there. Its agent would start a channel that is only stopped.
        cases.change_channel(pet, "SOURCE_PORT = 1")
        purge = "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY"
        cases.pets.sql(other, f"INSERT INTO {table} VALUES (2); {purge}")
        before = cases.gtids(pet)
        purged = cases.pets.sql(other, f'SELECT GTID_SUBTRACT(@@global.gtid_purged, "{before}")')
        assert re.fullmatch(rf"{cases.uuid(other)}:[\d-]+", purged)
        play = cases.site.play("site", rc=2)
        lacks = f"pet {pet}: lacks transactions that {other} has already purged from its binary logs: {purged}"
        assert lacks in play.output
        assert "it is then seeded by CLONE" in play.output
        assert (play.changes, play.writes) == ([], [])
        assert (cases.gtids(pet), cases.pets.sql(pet, count), cases.uuid(pet)) == (before, "1", uuid)
        cases.change_channel(pet, "SOURCE_PORT = 3306")
        assert "1236" in cases.wait_ring("replication_purged_log")
        assert (cases.gtids(pet), cases.pets.sql(pet, count), cases.uuid(pet)) == (before, "1", uuid)
    finally:
        cases.make_anew(pet)
        mended = cases.site.play("site")
    done = [action for *_where, actions in mended.changes for action in actions]
    assert [action for action in done if action.startswith(f"{pet}: CLONE INSTANCE FROM ")], done
    assert cases.pets.sql(pet, count) == "2"
    assert cases.uuid(pet) != uuid
    cases.wait_well()
    cases.wait_healthy()


def test_a_claim_that_is_deleted_from_under_a_running_pet(cases: Cases) -> None:
    """Who makes claims is down, as somebody's control plane may be, so nothing covers up that it is gone. The pet runs
    on; site makes the claim again and binds it to the same volume.
    """
    cases.wait_well()
    pet = cases.standby
    uuid, pod = cases.uuid(pet), cases.pets.uid(pet)
    cases.lab.cli("stop", "controller-manager")
    try:
        cases.pets.kubectl("delete", "pvc", f"db-{pet}", "--wait=false")
        cases.pets.kubectl("patch", "pvc", f"db-{pet}", "--type=merge", '--patch={"metadata": {"finalizers": null}}')
        assert "run the playbook site" in cases.wait_told(pet, "claim_lost")
        assert cases.pets.uid(pet) == pod
    finally:
        cases.lab.cli("start", "controller-manager")
    cases.site.play("site")
    cases.wait_well()
    assert (cases.uuid(pet), cases.pets.uid(pet)) == (uuid, pod)
    settled = cases.site.play("site")
    assert (settled.changes, settled.writes) == ([], [])


def test_a_claim_that_is_lost_and_its_volume(cases: Cases) -> None:
    """Named, and mended by site, which loses nothing."""
    pet = cases.standby
    uuid = cases.uuid(pet)
    with cases.staged(VolumeReleased(), pet):
        assert "run the playbook site" in cases.wait_told(pet, "volume_released")
        assert re.search(rf"{pet} (claim_lost|claim_not_bound): run the playbook site", cases.recovery())
        cases.site.play("site")
    cases.wait_well()
    assert cases.uuid(pet) == uuid


def test_rp_rec_01_a_pet_of_a_dead_node_starts_on_another(cases: Cases) -> None:
    """rp-sts-06 as well: nothing is done until somebody says that the node is off, which is not believed of one that is
    Ready. Then the pet starts elsewhere, waits for the locks of the dead node until their lease is over, and removes
    none of them.
    """
    cases.wait_well()
    pet = cases.standby
    uuid, old, node = cases.uuid(pet), cases.pets.uid(pet), cases.world.node_of(pet)
    taint, tainter = "node.kubernetes.io/out-of-service", f"{NAMESPACE}-tainter"
    early = cases.site.play("site", rc=2, petset_nodes_off=[node])
    assert f"Node {node}: it is said to be off, and it is Ready" in early.output
    assert early.writes == []
    cases.lab.cli("power-off", node)
    try:
        assert "power the node on" in cases.wait_told(pet, "node", 90)
        assert cases.pets.uid(pet) == old
        told = cases.site.play("site", "--check", "--diff", petset_nodes_off=[node])
        foretold = [action for *_task, actions in told.changes for action in actions]
        assert set(foretold) == {f"update Node {node} (.spec.taints)"}
        assert taint in told.output
        assert taint not in cases.lab.kubectl("get", "node", node, "-o", "json").stdout
        # A right of its own: the deployer has none on nodes but to look at them.
        refused = cases.site.play("site", rc=2, petset_nodes_off=[node])
        assert re.search(rf"Node {node}: .*patch.*nodes", refused.output), refused.output
        cases.lab.kubectl("create", "clusterrole", tainter, "--verb=patch", "--resource=nodes")
        account = f"{NAMESPACE}:petset-deployer"
        cases.lab.kubectl(
            "create", "clusterrolebinding", tainter, f"--clusterrole={tainter}", f"--serviceaccount={account}"
        )
        cases.site.play("site", petset_nodes_off=[node])
        assert cases.pets.uid(pet) != old
        assert cases.world.node_of(pet) != node
        assert cases.uuid(pet) == uuid
        again = cases.site.play("site", petset_nodes_off=[node])
        assert (again.changes, again.writes) == ([], [])
    finally:
        cases.lab.kubectl("taint", "node", node, f"{taint}-", ok=False)
        cases.lab.kubectl("delete", "clusterrole,clusterrolebinding", tainter, "--ignore-not-found")
        cases.lab.cli("power-on", node)
    cases.pets.wait_node(node, ready=True)
    cases.wait_well()


def test_pods_that_share_a_node_are_told_and_parted_as_the_message_says(cases: Cases) -> None:
    """After a node was away for longer than Kubernetes waits, all pods stayed on the other one, and nothing said so."""
    cases.wait_well()
    shared = cases.world.node_of(cases.writer)
    others = [node for node in cases.world.nodes() if node != shared]
    gone = ("--wait=true", "--timeout=90s")
    try:
        for node in others:
            cases.lab.kubectl("cordon", node)
        cases.pets.kubectl("delete", "pod", cases.standby, *gone)
        cases.pets.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=proxy", *gone)
        wait_for("the proxies", cases.world.are_proxies_ready, 90)
        cases.wait_well()
        # A node that takes none is no way out.
        assert "share node" not in cases.recovery()
    finally:
        for node in others:
            cases.lab.kubectl("uncordon", node)
    for said in (cases.recovery(), cases.site.play("status").output):
        assert f"mysql-0 and mysql-1 share node {shared}, " in said
        assert f"node {others[0]} would take one" in said
        (proxy,) = set(re.findall(rf"kubectl --namespace {NAMESPACE} delete pod (mysql-haproxy-\S+):", said))
    cases.pets.kubectl("delete", "pod", proxy, *gone)
    wait_for("the proxies", cases.world.are_proxies_ready, 90)
    cases.pets.kubectl("delete", "pod", cases.standby, *gone)
    cases.wait_well()
    assert "share node" not in cases.recovery() + cases.site.play("status").output
    play = cases.site.play("site")
    assert (play.changes, play.writes) == ([], [])


def test_the_drills_that_a_page_shows_are_proven_as_they_stand_there(cases: Cases, tmp_path: Path) -> None:
    """The example of docs/stories/crash.md, but for where the NFS server is and where the reports go."""
    cases.wait_well()
    (text,) = (text for name, text in read_page("docs/stories/crash.md").files if name == "drills.yml")
    shown = {name: value for name, value in yaml.safe_load(text).items() if not name.startswith("petset_nfs_")}
    shown["recovery_check_report_dir"] = str(tmp_path)
    cases.site.play("recovery", **shown)
    kinds = [drill["kind"] for drill in shown["petset_recovery_drills"]]
    assert sorted(page.name.split("-")[1] for page in tmp_path.glob("*.html")) == sorted(kinds)
    again = cases.site.play("recovery", **shown)
    assert (again.changes, again.writes) == ([], [])
    assert again.output.count("nothing: proven already") == len(kinds)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_rp_rep_09_after_all_this_a_run_changes_nothing(cases: Cases) -> None:
    """Accounts whose stored passwords have a random salt are no change, and neither password nor hash is shown."""
    unset = json.dumps([{"op": "remove", "path": "/spec/ordinals"}])
    cases.pets.kubectl("patch", "statefulset", "mysql", "--type=json", f"--patch={unset}")
    play = cases.site.play("site", "--diff", "-vv")
    assert play.changes == []
    assert play.writes == []
    stored = cases.pets.stored_passwords()
    assert stored["petset_repl"]
    assert find_hidden({**PASSWORDS, APP: APP_PASSWORD}, cases.shown, stored) == []
