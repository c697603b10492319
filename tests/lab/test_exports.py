# SPDX-License-Identifier: GPL-3.0-or-later
"""Export files and the module's code against the real exportfs of the lab's NFS machine.

The cases of tests/unit/cases/exports are what the parser is tested with as well, so that both cannot drift apart. Most
tests work in private namespaces on the machine (exports_oracle.py); those at the end need the kernel's server and a
client, and leave the machine as it was.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._io.nfs import OWED

from tests.lab import exports_random

pytestmark = pytest.mark.lab

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REMOTE = "/run/petset-exports-test"
CASES: list[dict[str, Any]] = [
    yaml.safe_load(path.read_text("utf-8")) for path in sorted((ROOT / "tests/unit/cases/exports").glob("*.yml"))
]
OWN = "/etc/exports.d/mysql.exports"
CLIENTS = [{"client": "192.0.2.0/24"}]


class Remote:
    """The programs of this folder and the collection's code on the NFS machine."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        folders = [f"{REMOTE}/petset_code/_core", f"{REMOTE}/petset_code/_io"]
        self.need(lab.ssh("nfs", ["mkdir", "-p", *folders]))
        self.need(lab.ssh("nfs", ["touch", f"{REMOTE}/petset_code/__init__.py"]))
        for name in ("exports_oracle.py", "exports_driver.py"):
            lab.put("nfs", HERE / name, f"{REMOTE}/{name}")
        for name in self.code():
            lab.put("nfs", ROOT / "plugins/module_utils" / name, f"{REMOTE}/petset_code/{name}")

    @staticmethod
    def code() -> list[str]:
        """What the module sends to a server, by and large."""
        core = ROOT / "plugins/module_utils/_core"
        names = [f"_core/{path.name}" for path in sorted([*core.glob("exports*.py"), core / "nfs_proc.py"])]
        return [*names, "_core/errors.py", "_core/__init__.py", "_io/__init__.py", "_io/nfs.py"]

    @staticmethod
    def need(done: Any) -> Any:
        assert done.rc == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def run(self, program: str, data: Any, *words: str) -> Any:
        line = f"cd {REMOTE} && exec python3 {program} {shlex.join(words)}"
        return json.loads(self.need(self.lab.ssh("nfs", line, input_text=json.dumps(data))).stdout)

    def ask(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What exportfs makes of files."""
        return list(self.run("exports_oracle.py", questions))

    def drive(self, scenarios: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """What the module's code makes of them."""
        return list(self.run("exports_driver.py", scenarios))

    def here(self, *runs: dict[str, Any]) -> list[dict[str, Any]]:
        """The module's code on the machine itself."""
        return list(self.run("exports_driver.py", [{"prepare": {}, "runs": list(runs)}], "--here")[0])


@pytest.fixture(scope="module")
def remote(nfs_server: Any) -> Remote:
    return Remote(nfs_server)


def question(case: dict[str, Any]) -> dict[str, Any]:
    files = case.get("files") or [{"name": case["file"], "text": case["text"]}]
    needs = case["needs"]
    return {
        "files": [{"name": one["name"], "text": one["text"].encode().decode("latin-1")} for one in files],
        **{key: needs[key] for key in ("directories", "hosts", "netgroup", "also") if key in needs},
    }


@pytest.fixture(scope="module")
def answers(remote: Remote) -> dict[str, dict[str, Any]]:
    """All cases in one go."""
    given = remote.ask([question(case) for case in CASES])
    return {case["id"]: answer for case, answer in zip(CASES, given, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_case(answers: dict[str, dict[str, Any]], case: dict[str, Any]) -> None:
    answer, expect = answers[case["id"]], case["expect"]
    table = [{**row, "path": decoded(row["path"])} for row in answer["table"]]
    if "count" in expect:
        assert len(table) == expect["count"]
        table = table[:2] + table[-2:]
    assert table == expect["exports"]
    assert answer["status"] == expect["exit_status"]
    # nfs-utils before 2.8 also advises to write subtree_check or no_subtree_check, over three lines.
    said = [
        line
        for line in answer["stderr"].encode("latin-1").decode().splitlines()
        if line.strip() and not line.startswith("  ") and "Neither 'subtree_check'" not in line
    ]
    assert [line.split() for line in said] == [line.split() for line in expect["stderr_lines"]]


@pytest.mark.parametrize("start", range(0, 600, 200))
def test_random_files(remote: Remote, start: int) -> None:
    """Our reader and exportfs agree on files that nobody thought of. The seeds are fixed."""
    texts = [exports_random.make_file(seed) for seed in range(start, start + 200)]
    fair = 0
    for text, answer in zip(texts, remote.ask([exports_random.question(text) for text in texts]), strict=True):
        expected = exports_random.expect(text)
        if not expected.fair:
            continue
        fair += 1
        table = [{**row, "path": decoded(row["path"]), "client": decoded(row["client"])} for row in answer["table"]]
        rest = [row for row in expected.table if row not in table] + [row for row in table if row not in expected.table]
        assert rest == [], repr(text)
        assert answer["status"] == expected.status, repr(text)
    assert fair > 150


def decoded(text: str) -> str:
    """A word as `exportfs -s` prints it, with escapes and bytes decoded."""
    raw = re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match.group(1), 8)), text)
    return raw.encode("latin-1").decode("utf-8", "surrogateescape")


def export(path: str = "/srv/case/a", **more: Any) -> dict[str, Any]:
    return {"path": path, "clients": CLIENTS, "options": ["rw"], **more}


def run(*exports: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "mysql", "exports": list(exports), **more}


PLACE = {"directories": ["/srv/case/a", "/srv/case/b"]}
ODD = [
    "/srv/case/my data",
    "/srv/case/a#b",
    '/srv/case/q"r',
    "/srv/case/p (old)",
    "/srv/case/e\\x",
    "/srv/case/dépôt 中",
]


def test_a_second_run_changes_nothing(remote: Remote) -> None:
    wanted = run(
        export("/srv/pets/0", create=True, owner="999", group="999", mode="0750", fsid_seed="default/mysql/0"),
        export("/srv/pets/1", create=True, options=["rw", "all_squash", "anonuid=4294967294", "sec=sys:krb5p"]),
    )
    ((first, second),) = remote.drive([{"prepare": {}, "runs": [wanted, wanted]}])
    assert first.get("changed") is True, first
    assert first["modes"]["/srv/pets/0"] == "999:999 0750"
    assert "/srv/pets/1\t192.0.2.0/24(" in first["etab"]
    assert second["changed"] is False, second["plan"]
    assert second["etab"] == first["etab"]


def test_any_path_and_client(remote: Remote) -> None:
    clients = [{"client": client} for client in ("192.0.2.55/24", "[2001:DB8::]/64", "*.example.org", "@trusted", "*")]
    wanted = run(*(export(path, create=True, clients=clients) for path in ODD))
    ((first, second),) = remote.drive([{"prepare": {}, "runs": [wanted, wanted]}])
    assert first.get("changed") is True, first
    assert second["changed"] is False, second["plan"]
    assert first["etab"].count("\n") == len(ODD) * len(clients)


def test_rp_nfs_07_names_are_compared_after_resolving(remote: Remote) -> None:
    """Also an IPv6 address, which the table shows without brackets, and lines that are folded when they are printed."""
    hosts = "192.0.2.11 client1.example.org client1\n"
    clients = [{"client": one} for one in ("client1", "192.0.2.12", "[2001:db8::12]")]
    wanted = run(export(clients=clients), export("/srv/case/b", clients=[*clients, *CLIENTS]))
    ((first, second),) = remote.drive([{"prepare": {**PLACE, "hosts": hosts}, "runs": [wanted, wanted]}])
    assert first.get("changed") is True, first
    assert "client1.example.org(" in first["etab"]
    assert "2001:db8::12(" in first["etab"]
    assert first["etab"].count("\n") == 7
    assert second["changed"] is False, second["plan"]


def test_rp_nfs_11_roll_back(remote: Remote) -> None:
    """An option that our parser takes and exportfs does not: fsidd does not run, so reexport= is refused."""
    good, bad = run(export()), run(export(options=["rw", "reexport=auto-fsidnum"], fsid="none"))
    ((first, second),) = remote.drive([{"prepare": PLACE, "runs": [good, bad]}])
    assert second["error"] == "rolled_back", second
    assert "exportfs does not take it" in second["message"]
    assert second["files"] == first["files"]
    assert second["etab"] == first["etab"]


def test_rp_nfs_04_unresolvable(remote: Remote) -> None:
    ((result,),) = remote.drive([{"prepare": PLACE, "runs": [run(export(clients=[{"client": "gone.example.org"}]))]}])
    assert result["error"] == "refused"
    assert "gone.example.org" in result["message"]
    assert result["files"] == {}


def test_rp_nfs_03_foreign_error(remote: Remote) -> None:
    broken = {**PLACE, "files": [{"name": "/etc/exports", "text": "/srv/case/b 192.0.2.1(ro, rw)\n"}]}
    ((result,),) = remote.drive([{"prepare": broken, "runs": [run(export())]}])
    assert result.get("changed") is True, result
    assert any(line.startswith("/etc/exports:1:") for line in result["foreign"])
    assert any(line.startswith("/etc/exports:1:") for line in result["foreseen"])
    assert "/srv/case/a" in result["etab"]


def test_rp_nfs_02_a_blank_before_the_options(remote: Remote) -> None:
    """Refused where it is given; where such a line is found, it is told that its options are the whole world's."""
    wanted = run(export(clients=[{"client": "192.0.2.0/24 "}]))
    ((refused,),) = remote.drive([{"prepare": PLACE, "runs": [wanted]}])
    assert "'192.0.2.0/24 '" in refused["message"], refused
    assert refused["files"] == {}
    trap = {**PLACE, "files": [{"name": "/etc/exports", "text": "/srv/case/b 192.0.2.0/24 (rw,insecure)\n"}]}
    ((found,),) = remote.drive([{"prepare": trap, "runs": [run(export())]}])
    assert [text for text in found["warnings"] if "/etc/exports:1:" in text and "whole world" in text], found
    # The real exportfs says nothing against it and does as it was told.
    assert "/srv/case/b\t*(rw" in found["etab"]


@pytest.mark.parametrize("options", ["(ro)", "(rw)"])
def test_rp_nfs_06_another_file(remote: Remote, options: str) -> None:
    other = {**PLACE, "files": [{"name": "/etc/exports", "text": f"/srv/case/a 192.0.2.0/24{options}\n"}]}
    ((result,),) = remote.drive([{"prepare": other, "runs": [run(export(fsid="none"))]}])
    assert result["error"] == "refused"
    assert "/etc/exports:1" in result["message"]
    assert result["files"] == {}


def test_rp_nfs_08_overlay(remote: Remote) -> None:
    (case,) = (one for one in CASES if one["id"] == "ex-35-unsupported-fs")
    ((result,),) = remote.drive([{"prepare": question(case) | {"files": []}, "runs": [run(export("/srv/case/ovl"))]}])
    assert result["error"] == "refused"
    assert "overlay" in result["message"]


def test_absent_keeps_the_data(remote: Remote) -> None:
    absent = {"name": "mysql", "state": "absent"}
    kept = {"name": "mysql", "state": "absent", "before": ["test -s /srv/case/a/data"]}
    runs = [run(export()), {**absent, "before": ["echo x > /srv/case/a/data"]}, kept]
    ((_first, gone, again),) = remote.drive([{"prepare": PLACE, "runs": runs}])
    assert gone.get("changed") is True, gone
    assert gone["files"] == {}
    assert gone["etab"] == ""
    assert again["changed"] is False


def test_interrupted_run_heals(remote: Remote) -> None:
    """Written, but exportfs was never run."""
    wanted = run(export())
    runs = [wanted, {**wanted, "before": ["rm /var/lib/nfs/etab"]}, wanted]
    ((first, second, third),) = remote.drive([{"prepare": PLACE, "runs": runs}])
    assert second["changed"] is True
    assert second["plan"][0].startswith("run exportfs -ra")
    assert second["etab"] == first["etab"]
    assert third["changed"] is False


# The kernel's server and a client, from here on.

PET = "/srv/petset-exports-test/0"


@pytest.fixture
def withdrawn(remote: Remote) -> Any:
    yield
    # While it is exported: a client that cannot give its delegations back makes the server wait 90 s with the removal.
    one = "umount $one 2>/dev/null || umount -f -l $one 2>/dev/null || true"
    remote.lab.ssh("node-1", f"for one in /mnt/petset-a /mnt/petset-b; do {one}; done")
    remote.here({"name": "petset-exports-test", "state": "absent", "withdraw_in_use": True})
    remote.lab.ssh("nfs", "rm -rf /srv/petset-exports-test")


def mount(remote: Remote, path: str, target: str) -> Any:
    server = remote.lab.state.plan.machine("nfs").ip
    line = f"mkdir -p {target} && timeout 20 mount -t nfs -o vers=4.2,soft,timeo=50,retrans=1 {server}:{path} {target}"
    return remote.lab.ssh("node-1", line)


@pytest.mark.usefixtures("withdrawn")
def test_rp_nfs_01_a_connected_client_sees_an_export_under_a_new_name(remote: Remote) -> None:
    address = remote.lab.state.plan.machine("node-1").ip
    network = address.rsplit(".", 1)[0] + ".0/24"
    # The address alone may be in the table for another's export, and is then no new name.
    new = str(ipaddress.ip_network(f"{address}/29", strict=False))
    one = {"path": PET, "create": True, "mode": "0777", "options": ["rw"], "clients": [{"client": network}]}
    two = {**one, "path": PET[:-1] + "1", "clients": [{"client": new}]}
    (first,) = remote.here({"name": "petset-exports-test", "exports": [one]})
    assert first.get("changed") is True, first
    assert mount(remote, one["path"], "/mnt/petset-a").rc == 0
    second, third = remote.here(*({"name": "petset-exports-test", "exports": [one, two]} for _time in range(2)))
    assert any(step.startswith("flush the kernel's caches") for step in second["plan"]), (first, second)
    assert not [one for one in second.get("warnings", []) if "flushed" in str(one)], second["warnings"]
    assert mount(remote, two["path"], "/mnt/petset-b").rc == 0
    assert third["changed"] is False, third["plan"]


@pytest.mark.usefixtures("withdrawn")
def test_rp_nfs_01_a_run_killed_before_its_flush(remote: Remote) -> None:
    """What such a run leaves: drop-in, table, and the note of what it owes. Also for a machine by its name."""
    address = remote.lab.state.plan.machine("node-1").ip
    name = "petset-exports-test-node"
    file = "/etc/exports.d/petset-exports-test.exports"
    remote.lab.ssh("nfs", f"echo '{address} {name}' >> /etc/hosts")
    try:
        network = address.rsplit(".", 1)[0] + ".0/24"
        one = {"path": PET, "create": True, "mode": "0777", "options": ["rw"], "clients": [{"client": network}]}
        two = {**one, "path": PET[:-1] + "1", "clients": [{"client": name}]}
        both = {"name": "petset-exports-test", "exports": [one, two]}
        remote.here(both)
        whole = remote.lab.ssh("nfs", f"cat {file}").stdout.rstrip()
        remote.here(
            {"name": "petset-exports-test", "state": "absent"}, {"name": "petset-exports-test", "exports": [one]}
        )
        assert mount(remote, one["path"], "/mnt/petset-a").rc == 0
        remote.lab.ssh(
            "nfs",
            f"cat > {file} <<'END'\n{whole}\nEND\n/usr/sbin/exportfs -ra\n"
            f"mkdir -p {OWED}\necho {name} > {OWED}/petset-exports-test.exports.flush",
        )
        refused = mount(remote, two["path"], "/mnt/petset-b")
        assert "No such file or directory" in refused.stderr, refused
        healed, again = remote.here(both, both)
        assert [step.split(",")[0] for step in healed["plan"]] == ["flush the kernel's caches of client names"], healed
        assert not [text for text in healed.get("warnings", []) if "flushed" in str(text)], healed["warnings"]
        assert mount(remote, two["path"], "/mnt/petset-b").rc == 0
        assert again["changed"] is False, again["plan"]
    finally:
        remote.lab.ssh("nfs", f"sed -i '/ {name}$/d' /etc/hosts")


@pytest.mark.usefixtures("withdrawn")
def test_rp_nfs_05_a_change_is_no_restart(remote: Remote) -> None:
    """A client that writes all the time waits for nothing, and the server's service is the one from before."""
    address = remote.lab.state.plan.machine("node-1").ip
    one = {"path": PET, "create": True, "mode": "0777", "options": ["rw"], "clients": [{"client": address}]}
    two = {**one, "path": PET[:-1] + "1"}

    def service() -> str:
        asked = remote.lab.ssh("nfs", "systemctl show nfs-server -p InvocationID; cat /proc/fs/nfsd/threads")
        return str(remote.need(asked).stdout)

    (first,) = remote.here({"name": "petset-exports-test", "exports": [one]})
    assert first.get("changed") is True, first
    before = service()
    assert mount(remote, PET, "/mnt/petset-a").rc == 0
    writes = (
        "i=0; while [ $i -lt 60 ]; do date +%s%N; echo $i | dd of=/mnt/petset-a/w conv=fsync status=none;"
        " i=$((i+1)); sleep 0.1; done"
    )
    writing = remote.lab.ssh("node-1", f"nohup sh -c {shlex.quote(writes)} >/run/petset-writes 2>&1 & echo started")
    assert writing.rc == 0
    second, third = remote.here(*({"name": "petset-exports-test", "exports": [one, two]} for _time in range(2)))
    assert second["changed"] is True, second
    assert not [step for step in second["plan"] if "restart" in step]
    assert (third["changed"], third["plan"]) == (False, [])
    assert service() == before
    line = "sleep 7; cat /run/petset-writes; rm /run/petset-writes"
    times = [int(one) for one in remote.need(remote.lab.ssh("node-1", line)).stdout.split()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == 60
    # A grace period would be 15 s on the lab and 90 s elsewhere.
    assert max(gaps) < 5_000_000_000, gaps


@pytest.mark.usefixtures("withdrawn")
def test_rp_nfs_09_in_use(remote: Remote) -> None:
    address = remote.lab.state.plan.machine("node-1").ip
    wanted = {
        "name": "petset-exports-test",
        "exports": [{"path": PET, "create": True, "mode": "0777", "options": ["rw"], "clients": [{"client": address}]}],
    }
    remote.here(wanted)
    assert mount(remote, PET, "/mnt/petset-a").rc == 0
    # The process that is killed below is the one that has the file: else the server waits 90 s for it.
    hold = "nohup sh -c 'exec 3>/mnt/petset-a/held; exec sleep 60' >/dev/null 2>&1 & echo $!"
    pid = remote.lab.ssh("node-1", hold).stdout.strip()
    try:
        (result,) = remote.here({"name": "petset-exports-test", "state": "absent"})
        assert result.get("error") == "refused", result
        # The server knows machines and directories; volume and claim are named by the playbooks, before this.
        assert f"{PET} would be withdrawn for {address}, which holds files open there" in result["message"]
        assert "withdraw_in_use" in result["message"]
        assert PET in result["etab"]
        assert PET in result["files"]["/etc/exports.d/petset-exports-test.exports"]
    finally:
        remote.lab.ssh("node-1", f"kill {pid}")


@pytest.mark.usefixtures("withdrawn")
def test_rp_vol_07_the_server_gives_the_directory_to_the_pet(remote: Remote) -> None:
    """Owner and mode are made on the server, so no pod has to change them, and root of a node is nobody special."""
    address = remote.lab.state.plan.machine("node-1").ip
    squash = ["rw", "all_squash", "anonuid=999", "anongid=999"]
    one = {"path": PET, "create": True, "options": squash, "clients": [{"client": address}]}
    owned = {"name": "petset-exports-test", "exports": [{**one, "owner": "999", "group": "999", "mode": "0750"}]}
    (made,) = remote.here(owned)
    assert made["modes"] == {PET: "999:999 0750"}, made
    assert mount(remote, PET, "/mnt/petset-a").rc == 0
    for user in ("999", "0"):
        write = f"exec setpriv --reuid={user} --regid={user} --clear-groups sh -c 'echo x > /mnt/petset-a/by-{user}'"
        assert remote.lab.ssh("node-1", write).rc == 0
    told = remote.lab.ssh("nfs", f"stat -c %u:%g {PET}/by-999 {PET}/by-0")
    assert told.stdout.split() == ["999:999"] * 2
    refused = remote.lab.ssh("node-1", "chown 0:0 /mnt/petset-a /mnt/petset-a/by-0")
    assert refused.rc != 0
    assert "Operation not permitted" in refused.stderr
    # Somebody took the directory away from the pet: it is said, and mended where the owner was given.
    taken = f"chown 0:0 {PET}"
    unowned = {"name": "petset-exports-test", "exports": [one], "before": [taken]}
    warned, mended, settled = remote.here(unowned, owned, owned)
    assert f"{PET} belongs to 0, but requests of {address} act as 999" in warned["warnings"], warned
    assert mended["plan"] == [f"set {PET} to 999:999 - (it is 0:0 0750)"], mended
    assert mended["modes"] == {PET: "999:999 0750"}
    assert settled["changed"] is False, settled["plan"]
