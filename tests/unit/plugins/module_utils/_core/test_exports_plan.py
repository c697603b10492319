# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what is wanted and what is there, to steps, warnings and refusals. No server, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import parse_exports, parse_table
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_clients import Host
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import (
    Desired,
    parse_desired,
    render_drop_in,
    render_owed,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_plan import Plan, differences, plan_exports
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_steps import (
    FileText,
    FlushCaches,
    MakeDirectory,
    MakeFolder,
    MarkWithdrawn,
    Reexport,
    RemoveDropIn,
    SetOwnership,
    Snapshot,
    WriteDropIn,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import Facts, PathFact

OWN = "/etc/exports.d/mysql.exports"
HEAD = render_drop_in("mysql", ()).decode()
ROW = "sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs"
DIRECTORY = PathFact("directory", "/srv/a", "ext4", uid=0, gid=0, mode=0o755)


def wanted(*exports: dict[str, Any], **others: Any) -> Desired:
    whole: dict[str, Any] = {
        "name": "mysql", "state": "present", "purge": True, "withdraw_in_use": False, "adopt": False,
        "machines": None, "exports": [],
    }  # fmt: skip
    for export in exports:
        item = {
            "path": "/srv/a", "state": "present", "clients": [{"client": "192.0.2.0/24", "options": None}],
            "options": ["rw"], "fsid": "7", "fsid_seed": None, "owner": None, "group": None, "mode": None,
            "create": False,
        }  # fmt: skip
        whole["exports"].append({**item, **export})
    return parse_desired({**whole, **others})


def there(
    files: Mapping[str, str] | None = None,
    etab: str = "",
    paths: Mapping[str, PathFact] | None = None,
    hosts: Mapping[str, Host | None] | None = None,
    **others: Any,
) -> Snapshot:
    texts = tuple(FileText(name, text.encode()) for name, text in (files or {}).items())
    facts = Facts(hosts or {}, {"/srv/a": DIRECTORY, **(paths or {})})
    return Snapshot(files=texts, etab=etab.encode() or None, facts=facts, **{"running": True, **others})


def row(path: str = "/srv/a", client: str = "192.0.2.0/24", more: str = "", access: str = "rw") -> str:
    return f"{path}\t{client}({access},{ROW},fsid=7{more},sec=sys,{access},secure,root_squash,no_all_squash)\n"


def applied(desired: Desired, snapshot: Snapshot) -> str:
    """The drop-in as the plan leaves it."""
    written = [step.after for step in plan_exports(desired, snapshot).steps if isinstance(step, WriteDropIn)]
    if not written:
        raise LookupError("nothing is written")
    return written[-1].decode()


def kinds(plan: Plan) -> list[str]:
    return [type(step).__name__ for step in plan.steps]


def refusal(desired: Desired, snapshot: Snapshot) -> str:
    with pytest.raises(Refused) as problem:
        plan_exports(desired, snapshot)
    assert problem.value.details["refusals"]
    return str(problem.value)


def test_first_run_and_second_run() -> None:
    desired = wanted({})
    first = plan_exports(desired, there())
    assert kinds(first) == ["WriteDropIn", "Reexport", "FlushCaches"]
    assert first.diff[0]["before"] == ""
    assert "/srv/a 192.0.2.0/24(rw,sync,no_subtree_check,fsid=7,root_squash)" in first.diff[0]["after"]
    second = plan_exports(desired, there({OWN: applied(desired, there())}, row()))
    assert second.steps == ()
    assert second.diff == ()
    assert not second.changed
    assert [(r.path, r.client) for r in second.expected] == [("/srv/a", "192.0.2.0/24")]


def test_rp_nfs_05_another_notation_is_no_change() -> None:
    """Nothing is run either: exportfs would flush what clients use."""
    text = HEAD + '"/srv/a/" 192.0.2.0/255.255.255.0(no_subtree_check,fsid=0x7,ro,rw,sync)\n'
    plan = plan_exports(wanted({}), there({OWN: text}, row(client="192.0.2.0/255.255.255.0"), {"/srv/a/": DIRECTORY}))
    assert plan.steps == ()


def test_a_changed_option_is_a_change_without_restart() -> None:
    plan = plan_exports(wanted({"options": ["ro"]}), there({OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n"}, row()))
    assert kinds(plan) == ["WriteDropIn", "Reexport"]
    assert "rw" in plan.diff[0]["before"]


@pytest.mark.parametrize(
    ("etab", "word"),
    [
        ("", "is not in the export table"),
        (row(access="ro"), "has other options"),
        (row(more=",async"), "has other options"),
    ],
)
def test_a_table_that_lags_behind_is_exported_again(etab: str, word: str) -> None:
    """A run that was killed between writing and exporting heals itself."""
    plan = plan_exports(wanted({}), there({OWN: applied(wanted({}), there())}, etab))
    (step,) = (one for one in plan.steps if isinstance(one, Reexport))
    assert word in step.reason
    assert not [one for one in plan.steps if isinstance(one, WriteDropIn)]


def test_rp_nfs_01_a_new_client_name_needs_a_flush() -> None:
    """An export with a client name that the table has already needs none."""
    other = "/srv/z\t192.0.2.0/24(ro)\n"
    assert kinds(plan_exports(wanted({}), there(etab=other))) == ["WriteDropIn", "Reexport"]
    plan = plan_exports(wanted({}), there(etab="/srv/z\t198.51.100.0/24(ro)\n"))
    assert plan.steps[-1] == FlushCaches(("192.0.2.0/24",))
    assert "FlushCaches" not in kinds(plan_exports(wanted({}), there(running=False)))


def test_rp_nfs_01_a_run_killed_before_the_flush() -> None:
    files = {OWN: applied(wanted({}), there())}
    stale = {"192.0.2.11": frozenset({"198.51.100.0/24"})}
    plan = plan_exports(wanted({}), there(files, row(), known_addresses=stale))
    assert plan.steps == (FlushCaches(("192.0.2.0/24",)),)
    for fresh in ({"192.0.2.11": frozenset({"198.51.100.0/24", "192.0.2.0/24"})}, {"203.0.113.1": frozenset({"*"})}):
        assert plan_exports(wanted({}), there(files, row(), known_addresses=fresh)).steps == ()


@pytest.mark.parametrize(
    ("cached", "flushed"),
    [
        ({"192.0.2.11": {"192.0.2.0/24"}}, True),
        ({"192.0.2.11": {"192.0.2.0/24", "NODE-1.example"}}, False),
        # mountd compares texts: its address is not its name.
        ({"192.0.2.11": {"192.0.2.11"}}, True),
        ({"192.0.2.12": {"192.0.2.0/24"}}, False),
    ],
)
def test_rp_nfs_01_a_run_killed_before_the_flush_for_a_machine_by_name(
    cached: dict[str, set[str]], flushed: bool
) -> None:
    hosts = {"node-1": Host("node-1.example", ("192.0.2.11",))}
    desired = wanted({"clients": [{"client": "node-1", "options": None}]})
    files = {OWN: applied(desired, there(hosts=hosts))}
    addresses = {address: frozenset(names) for address, names in cached.items()}
    etab = row(client="node-1.example")
    plan = plan_exports(desired, there(files, etab, hosts=hosts, known_addresses=addresses))
    assert plan.steps == ((FlushCaches(("node-1.example",)),) if flushed else ())


def test_rp_nfs_01_a_run_killed_before_the_flush_for_an_address() -> None:
    desired = wanted({"clients": [{"client": "192.0.2.11", "options": None}]})
    files = {OWN: applied(desired, there())}
    etab = row(client="192.0.2.11")
    stale = {"192.0.2.11": frozenset({"192.0.2.0/24"}), "192.0.2.12": frozenset({"192.0.2.0/24"})}
    assert plan_exports(desired, there(files, etab, known_addresses=stale)).steps == (FlushCaches(("192.0.2.11",)),)
    fresh = {"192.0.2.11": frozenset({"192.0.2.0/24", "192.0.2.11"})}
    assert plan_exports(desired, there(files, etab, known_addresses=fresh)).steps == ()


def test_directories() -> None:
    desired = wanted({"create": True, "owner": "mysql", "group": "999", "mode": "0750"})
    users = {"users": {"mysql": 999}, "groups": {"999": 999}}
    missing = PathFact("missing", "/srv/a", "ext4")
    plan = plan_exports(desired, there(paths={"/srv/a": missing}, **users))
    assert plan.steps[0] == MakeDirectory("/srv/a", 999, 999, 0o750)
    assert plan.diff[0] == {
        "before_header": "/srv/a", "after_header": "/srv/a", "before": "missing\n", "after": "999:999 0750\n"
    }  # fmt: skip
    plan = plan_exports(desired, there(paths={"/srv/a": DIRECTORY}, **users))
    assert plan.steps[0] == SetOwnership("/srv/a", 999, 999, 0o750, "0:0 0755")
    right = PathFact("directory", "/srv/a", "ext4", uid=999, gid=999, mode=0o750)
    assert kinds(plan_exports(desired, there(paths={"/srv/a": right}, **users)))[0] == "WriteDropIn"
    half = PathFact("directory", "/srv/a", "ext4", uid=999, gid=999, mode=0o700)
    step = plan_exports(desired, there(paths={"/srv/a": half}, **users)).steps[0]
    assert isinstance(step, SetOwnership)
    assert (step.uid, step.gid, step.mode) == (None, None, 0o750)


def test_the_folder_of_the_drop_ins_is_made() -> None:
    assert isinstance(plan_exports(wanted({}), there(has_folder=False)).steps[0], MakeFolder)


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        (PathFact("missing", "/srv/a"), ["/srv/a does not exist", "create"]),
        (PathFact("file", "/srv/a"), ["/srv/a is a file, not a directory"]),
        (PathFact("directory", "/srv/a", "overlay"), ["/srv/a", "overlay", "cannot export"]),
        (PathFact("directory", "/srv/a", "9p"), ["9p"]),
        (PathFact("missing", "/srv/a", "overlay"), ["overlay"]),
    ],
)
def test_rp_nfs_08_refused_paths(fact: PathFact, words: list[str]) -> None:
    said = refusal(wanted({}), there(paths={"/srv/a": fact}))
    for word in words:
        assert word in said
    assert "Nothing was changed" in said


def test_fuse_needs_an_identity() -> None:
    fuse = {"/srv/a": PathFact("directory", "/srv/a", "fuse.sshfs")}
    assert "fsid" in refusal(wanted({"fsid": "none"}), there(paths=fuse))
    assert plan_exports(wanted({}), there(paths=fuse)).changed


def test_mountpoint_has_to_be_one() -> None:
    desired = wanted({"options": ["rw", "mp"]})
    assert "not a mount point" in refusal(desired, there())
    mounted = PathFact("directory", "/srv/a", "ext4", is_mountpoint=True)
    assert plan_exports(desired, there(paths={"/srv/a": mounted})).changed


def test_all_refusals_at_once() -> None:
    desired = wanted(
        {"owner": "nobody-here", "clients": [{"client": "gone.example.org"}]},
        {"path": "/srv/b", "fsid": "8"},
    )
    snapshot = there(
        paths={"/srv/b": PathFact("missing", "/srv/b")}, hosts={"gone.example.org": None}, users={"nobody-here": None}
    )
    with pytest.raises(Refused) as problem:
        plan_exports(desired, snapshot)
    assert len(problem.value.details["refusals"]) == 3
    for word in ("nobody-here", "gone.example.org", "/srv/b"):
        assert word in str(problem.value)


def test_rp_nfs_04_a_name_that_does_not_resolve() -> None:
    said = refusal(wanted({"clients": [{"client": "gone"}]}), there(hosts={"gone": None}))
    assert "/srv/a: client gone does not resolve" in said


@pytest.mark.parametrize(("place", "winner"), [("/etc/exports", "/etc/exports"), ("/etc/exports.d/z.exports", OWN)])
def test_rp_nfs_06_another_file_exports_it_differently(place: str, winner: str) -> None:
    said = refusal(wanted({}), there({place: "/srv/a 192.0.2.0/24(ro)\n"}))
    for word in (f"{place}:1", OWN, f"{winner} would win", "/srv/a for 192.0.2.0/24"):
        assert word in said


@pytest.mark.parametrize("client", ["192.0.2.0/24", "192.0.2.0/255.255.255.0", "192.0.2.9/24"])
def test_rp_nfs_06_another_file_exports_it_equally(client: str) -> None:
    said = refusal(wanted({}), there({"/etc/exports": f"# x\n/srv/a {client}(rw,fsid=7)\n"}))
    assert "/etc/exports:2" in said
    assert "remove it there" in said


def test_rp_nfs_07_another_file_names_the_machine_otherwise() -> None:
    hosts = {"client1": Host("client1.example.org", ("192.0.2.11",))}
    said = refusal(
        wanted({"clients": [{"client": "192.0.2.11"}]}), there({"/etc/exports": "/srv/a client1(ro)\n"}, hosts=hosts)
    )
    assert "/etc/exports:1" in said


def test_rp_nfs_07_the_table_has_the_canonical_name() -> None:
    hosts = {"client1": Host("client1.example.org", ("192.0.2.11",))}
    desired = wanted({"clients": [{"client": "client1"}]})
    files = {OWN: applied(desired, there(hosts=hosts))}
    plan = plan_exports(desired, there(files, row(client="client1.example.org"), hosts=hosts))
    assert plan.steps == ()
    assert plan.expected[0].client == "client1.example.org"


def test_other_clients_in_another_file_are_fine() -> None:
    plan = plan_exports(wanted({}), there({"/etc/exports": "/srv/a 198.51.100.0/24(ro)\n"}))
    assert plan.changed
    assert plan.foreign == ()


def test_two_names_of_one_machine() -> None:
    hosts = {"client1": Host("client1.example.org", ("192.0.2.11",))}
    clients = [{"client": "client1"}, {"client": "192.0.2.11"}]
    assert "name the same machine" in refusal(wanted({"clients": clients}), there(hosts=hosts))


def test_an_identity_that_another_file_has() -> None:
    said = refusal(wanted({}), there({"/etc/exports": "/srv/z 198.51.100.1(ro,fsid=7)\n"}))
    assert "fsid 7" in said
    assert "/etc/exports:1" in said


def test_two_links_to_one_directory() -> None:
    paths = {"/srv/b": PathFact("directory", "/srv/a", "ext4")}
    said = refusal(wanted({}, {"path": "/srv/b", "fsid": "8"}), there(paths=paths))
    assert f"{OWN}:4: /srv/a is exported to 192.0.2.0/24 here" in said


def test_rp_nfs_12_nodes_that_are_not_let_in() -> None:
    machines = [
        {"name": "node-1", "addresses": ["192.0.2.11", "2001:db8::11"]},
        {"name": "n2", "addresses": ["192.0.2.12"]},
    ]
    said = refusal(wanted({}, machines=machines), there())
    assert "no client entry lets in node-1 (2001:db8::11)" in said
    assert "n2" not in said
    clients = [{"client": "192.0.2.0/24"}, {"client": "2001:db8::/64"}]
    assert plan_exports(wanted({"clients": clients}, machines=machines), there()).changed


@pytest.mark.parametrize(
    ("clients", "missing"),
    [
        (["192.0.2.0/24"], "n1 (198.51.100.1), n2 (2001:db8::2)"),
        (["192.0.2.0/24", "198.51.100.0/24"], "n2 (2001:db8::2)"),
        (["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"], ""),
        # Nobody can say whom these let in.
        (["192.0.2.0/24", "*.example.org"], ""),
        (["192.0.2.0/24", "@nodes"], ""),
    ],
)
def test_rp_nfs_12_nodes_that_may_come_from_elsewhere_are_warned_of(clients: list[str], missing: str) -> None:
    machines = [
        {"name": "n1", "addresses": ["198.51.100.1"], "required": False},
        {"name": "n2", "addresses": ["192.0.2.12", "2001:db8::2"], "required": False},
    ]
    words = [{"client": client} for client in clients]
    desired = wanted({"clients": words}, {"path": "/srv/b", "fsid": "8", "clients": words}, machines=machines)
    paths = {"/srv/b": PathFact("directory", "/srv/b", "ext4")}
    found = [text for text in plan_exports(desired, there(paths=paths)).warnings if "lets in" in text]
    told = f"no client entry lets in {missing}; mounts from there would be refused: /srv/a, /srv/b"
    assert found == ([told] if missing else [])
    machines[0]["required"] = True
    desired = wanted({}, machines=machines)
    assert "no client entry lets in n1" in refusal(desired, there())


BUSY = {"/srv/a": ("192.0.2.11",)}
REMOVAL = ["MarkWithdrawn", "Reexport", "RemoveDropIn"]


@pytest.mark.parametrize(
    ("desired", "what"),
    [
        (wanted(state="absent"), "withdrawn for 192.0.2.11"),
        (wanted({"options": ["ro"]}), "made read-only for 192.0.2.11"),
        (wanted({"clients": [{"client": "198.51.100.0/24"}]}), "withdrawn for 192.0.2.11"),
        (wanted({"path": "/srv/b", "fsid": "8"}), "withdrawn for 192.0.2.11"),
    ],
)
def test_rp_nfs_09_in_use(desired: Desired, what: str) -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n"}
    paths = {"/srv/b": PathFact("directory", "/srv/b", "ext4")}
    said = refusal(desired, there(files, row(), paths, busy=BUSY))
    assert f"/srv/a would be {what}, which holds files open there; stop its pet first" in said
    assert "withdraw_in_use" in said


def test_rp_nfs_09_in_use_but_not_harmed() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n"}
    narrower = wanted({"clients": [{"client": "192.0.2.11"}]})
    assert plan_exports(narrower, there(files, row(), busy=BUSY)).changed
    forced = wanted(state="absent", withdraw_in_use=True)
    assert kinds(plan_exports(forced, there(files, row(), busy=BUSY))) == REMOVAL
    idle = {"/srv/a": ("203.0.113.5",)}
    assert plan_exports(wanted(state="absent"), there(files, row(), busy=idle)).changed


def test_absent_removes_the_file_and_nothing_else() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n"}
    plan = plan_exports(wanted(state="absent"), there(files, row()))
    assert kinds(plan) == REMOVAL
    assert "data stay" in plan.steps[-1].describe()
    assert plan.withdrawn == (("/srv/a", "192.0.2.0/24"),)
    assert plan.diff[0]["after"] == ""
    assert plan_exports(wanted(state="absent"), there()).steps == ()


def test_absent_of_one_path_keeps_the_others() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n/srv/b 192.0.2.0/24(rw,fsid=8) *(ro)\n"}
    plan = plan_exports(wanted({}, state="absent"), there(files, row()))
    assert [(r.path, r.client) for r in plan.expected] == [("/srv/b", "192.0.2.0/24"), ("/srv/b", "*")]
    assert plan.withdrawn == (("/srv/a", "192.0.2.0/24"),)


def test_purge() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n/srv/b 192.0.2.0/24(rw,fsid=8)\n"}
    assert "/srv/b" not in applied(wanted({}), there(files, row()))
    kept = plan_exports(wanted({}, purge=False), there(files, row() + row("/srv/b").replace("fsid=7", "fsid=8")))
    assert kept.steps == ()


LINK = PathFact("directory", "/srv/a", "ext4")
NODE = {"node-1": Host("node-1.example", ("192.0.2.11",))}
# name -> the client in the drop-in, the other files, the further rows of the export table, what is withdrawn
LEFT_BEHIND: dict[str, tuple[str, dict[str, str], str, tuple[tuple[str, str], ...]]] = {
    "nothing": ("192.0.2.0/24", {}, "", ()),
    "a client": ("192.0.2.0/24", {}, row(client="203.0.113.5"), (("/srv/a", "203.0.113.5"),)),
    "everybody": ("192.0.2.0/24", {}, row(client="*"), (("/srv/a", "*"),)),
    "another path": ("192.0.2.0/24", {}, row("/srv/z", "203.0.113.5"), ()),
    "a name that we use": ("node-1", {}, row(client="node-1.example"), ()),
    "an address that we name": ("node-1", {}, row(client="192.0.2.11"), ()),
    "a client of others": (
        "192.0.2.0/24", {"/etc/exports": "/srv/a 203.0.113.0/255.255.255.0(ro)\n"}, row(client="203.0.113.0/24"), ()
    ),
    "a client of others by a link": (
        "192.0.2.0/24", {"/etc/exports": "/srv/link 203.0.113.5(ro)\n"}, row(client="203.0.113.5"), ()
    ),
    # It may be the row of the name that does not resolve now; exportfs would take it away.
    "a machine of others that does not resolve": (
        "192.0.2.0/24", {"/etc/exports": "/srv/a gone(ro)\n"}, row(client="gone.example"), ()
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_BEHIND)
def test_a_client_that_a_killed_run_took_away_is_not_served_for_ever(case: str) -> None:
    """The drop-in is new already, so only the export table tells of it."""
    client, files, rest, withdrawn = LEFT_BEHIND[case]
    hosts = {**NODE, "gone": None}
    paths = {"/srv/link": LINK}
    desired = wanted({"clients": [{"client": client, "options": None}]})
    files = {**files, OWN: applied(desired, there(hosts=hosts))}
    served = "node-1.example" if client == "node-1" else client
    etab = rest if "node-1" in rest else row(client=served) + rest
    plan = plan_exports(desired, there(files, etab, paths, hosts))
    assert plan.withdrawn == withdrawn
    if not withdrawn:
        assert "still" not in " ".join(step.describe() for step in plan.steps)
        return
    assert kinds(plan) == ["Reexport"]
    assert "is still in the export table" in plan.steps[0].describe()
    assert plan_exports(desired, there(files, row(client=served), paths, hosts)).steps == ()


def test_a_client_that_a_killed_run_took_away_by_a_link() -> None:
    desired = wanted({"path": "/srv/link"})
    paths = {"/srv/link": LINK}
    files = {OWN: applied(desired, there(paths=paths))}
    plan = plan_exports(desired, there(files, row() + row(client="203.0.113.5"), paths))
    assert plan.withdrawn == (("/srv/a", "203.0.113.5"),)
    assert kinds(plan) == ["Reexport"]


def test_a_client_left_behind_that_holds_files_open() -> None:
    files = {OWN: applied(wanted({}), there())}
    etab = row() + row(client="203.0.113.5")
    busy = {"/srv/a": ("203.0.113.5",)}
    assert "withdrawn for 203.0.113.5" in refusal(wanted({}), there(files, etab, busy=busy))
    assert kinds(plan_exports(wanted({}, withdraw_in_use=True), there(files, etab, busy=busy))) == ["Reexport"]


@pytest.mark.parametrize(
    "desired", [wanted({"path": "/srv/b", "fsid": "8"}), wanted({}, state="absent"), wanted(state="absent")]
)
def test_a_path_that_a_killed_run_took_away_is_not_served_for_ever(desired: Desired) -> None:
    """Nothing names the path any more, not even the options: the drop-in has it as a mark until exportfs has run."""
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n"}
    paths = {"/srv/b": PathFact("directory", "/srv/b", "ext4")}
    first = plan_exports(desired, there(files, row(), paths))
    (mark,) = (step for step in first.steps if isinstance(step, MarkWithdrawn))
    assert b"\n#withdrawn: /srv/a\n" in mark.after
    assert parse_exports(mark.after, OWN).problems == ()
    killed = {OWN: mark.after.decode()}
    second = plan_exports(desired, there(killed, row(), paths))
    assert second.withdrawn == (("/srv/a", "192.0.2.0/24"),)
    assert [kind for kind in kinds(second) if kind != "FlushCaches"] == kinds(first)[1:3]
    assert second.changed
    # Somebody ran exportfs meanwhile: only the mark is left to take away.
    assert not plan_exports(desired, there(killed, "", paths)).withdrawn


def test_a_path_that_comes_back_needs_no_mark() -> None:
    marked = applied(wanted({}), there()) + "#withdrawn: /srv/b\n"
    paths = {"/srv/b": PathFact("directory", "/srv/b", "ext4")}
    both = wanted({}, {"path": "/srv/b", "fsid": "8"})
    plan = plan_exports(both, there({OWN: marked}, row(), paths))
    assert kinds(plan) == ["WriteDropIn", "Reexport"]
    assert plan.withdrawn == ()
    assert "withdrawn" not in applied(both, there({OWN: marked}, row(), paths))


def test_a_client_that_another_file_also_names_is_not_withdrawn() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n", "/etc/exports.d/z.exports": "/srv/a 192.0.2.0/24(ro)\n"}
    assert plan_exports(wanted(state="absent"), there(files, row())).withdrawn == ()


def test_rp_nfs_03_broken_foreign_files_are_named() -> None:
    files = {"/etc/exports": "# x\n/srv/x 192.0.2.1(ro, rw)\n/srv/y 192.0.2.1(ro)\n"}
    plan = plan_exports(wanted({}), there(files))
    assert plan.changed
    assert [(problem.file, problem.line) for problem in plan.foreign] == [("/etc/exports", 2)]
    unreadable = there()
    broken = Snapshot(
        files=(FileText("/etc/exports.d/x.exports", None, "No such file or directory"),), facts=unreadable.facts
    )
    assert "x.exports: cannot be read" in plan_exports(wanted({}), broken).foreign[0].describe()


def test_rp_nfs_02_foreign_blank_trap_is_a_warning() -> None:
    plan = plan_exports(wanted({}), there({"/etc/exports": "/srv/z 192.0.2.0/24 (rw,insecure)\n"}))
    assert [text for text in plan.warnings if "/etc/exports:1:" in text and "whole world" in text]


def test_our_own_file_broken_by_hand_is_written_anew() -> None:
    plan = plan_exports(wanted({}), there({OWN: HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7,nonsense)\n"}, row()))
    assert kinds(plan)[0] == "WriteDropIn"
    assert any("broken by hand" in text for text in plan.warnings)


@pytest.mark.parametrize(
    ("export", "word"),
    [
        ({"clients": [{"client": "*"}]}, "whole world"),
        ({"clients": [{"client": "::/0"}]}, "whole world"),
        ({"options": ["no_root_squash"]}, "no_root_squash"),
        ({"options": ["async"]}, "async"),
        ({"options": ["insecure"]}, "insecure"),
        ({"options": ["pnfs"]}, "pnfs"),
        ({"options": ["subtree_check"]}, "subtree_check"),
        ({"clients": [{"client": "192.0.2.9/24"}]}, "whole network"),
        ({"clients": [{"client": "192.0.2.*"}]}, "host names"),
        ({"options": ["rw", "all_squash", "anonuid=999"]}, "belongs to 0, but requests of 192.0.2.0/24 act as 999"),
    ],
)
def test_warnings(export: dict[str, Any], word: str) -> None:
    assert any(word in text for text in plan_exports(wanted(export), there()).warnings)


def test_a_sound_export_draws_no_warning() -> None:
    assert plan_exports(wanted({}), there(versions={"3": False, "4.0": False, "4.1": True})).warnings == ()


def test_more_warnings() -> None:
    assert any("NFSv3" in text for text in plan_exports(wanted({}), there(versions={"3": True})).warnings)
    link = {"/srv/a": PathFact("directory", "/data/a", "ext4")}
    assert any("mount /data/a" in text for text in plan_exports(wanted({}), there(paths=link)).warnings)
    memory = {"/srv/a": PathFact("directory", "/srv/a", "tmpfs")}
    assert any("restarts" in text for text in plan_exports(wanted({}), there(paths=memory)).warnings)
    assert any("does not run" in text for text in plan_exports(wanted({}), there(running=False)).warnings)
    nested = there({"/etc/exports": "/srv *(ro)\n"})
    assert any("inside /srv" in text for text in plan_exports(wanted({}), nested).warnings)


def test_without_packages_only_check_mode_has_a_plan() -> None:
    bare = there(has_exportfs=False, has_folder=False, running=False)
    assert "nfs-kernel-server" in refusal(wanted({}), bare)
    plan = plan_exports(wanted({}), bare, check_mode=True)
    assert kinds(plan) == ["MakeFolder", "WriteDropIn", "Reexport"]
    assert any("not installed" in text for text in plan.warnings)


@pytest.mark.parametrize("check_mode", [True, False])
def test_withdrawing_where_nothing_is_served(check_mode: bool) -> None:
    """The packages were never installed, or are gone: nothing can be exported, so nothing has to be taken back."""
    bare: dict[str, Any] = {"has_exportfs": False, "running": False}
    nothing = plan_exports(wanted(state="absent"), there(has_folder=False, **bare), check_mode=check_mode)
    assert (nothing.steps, nothing.diff, nothing.warnings) == ((), (), ())
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw)\n", "/etc/exports": "/srv/z *(ro)\n"}
    left = plan_exports(wanted(state="absent"), there(files, row(), **bare), check_mode=check_mode)
    assert left.steps == (RemoveDropIn(OWN, files[OWN].encode()),)
    two = {OWN: files[OWN] + "/srv/b 192.0.2.0/24(rw)\n"}
    one = wanted({"path": "/srv/b", "state": "absent"}, purge=False)
    some = plan_exports(
        one, there(two, paths={"/srv/b": PathFact("directory", "/srv/b", "ext4")}, **bare), check_mode=check_mode
    )
    assert kinds(some) == ["WriteDropIn"]


def test_withdrawing_without_exportfs_from_a_server_that_runs_is_refused() -> None:
    files = {OWN: HEAD + "/srv/a 192.0.2.0/24(rw)\n"}
    assert "not installed" in refusal(wanted(state="absent"), there(files, row(), has_exportfs=False))


THEIRS = "# the office\n/srv/share 198.51.100.0/24(ro,fsid=9)\n"


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    "desired",
    [
        wanted({}),
        wanted({}, purge=False),
        wanted(state="absent"),
        wanted({}, state="absent"),
        # Nothing would be written, and still it would be ours from then on.
        wanted({"path": "/srv/share", "clients": [{"client": "198.51.100.0/24"}], "options": ["ro"], "fsid": "9"}),
    ],
)
@pytest.mark.parametrize("text", [THEIRS, "# no export yet\n", "# Ansible managed\n", "nonsense"])
def test_a_drop_in_that_somebody_else_wrote_is_not_ours_by_its_name(
    desired: Desired, check_mode: bool, text: str
) -> None:
    """It was rewritten, so that its lines were gone, and removed by state absent."""
    paths = {"/srv/share": PathFact("directory", "/srv/share", "ext4")}
    for bare in ({}, {"has_exportfs": False, "running": False}):
        with pytest.raises(Refused) as problem:
            plan_exports(desired, there({OWN: text}, paths=paths, **bare), check_mode=check_mode)
        told = str(problem.value)
        for words in (
            f"{OWN} was not written by this collection",
            "move it away",
            "adopt",
            "nfs_exports_adopt",
            "true",
        ):
            assert words in told
        assert "Nothing was changed" in told


@pytest.mark.parametrize("desired", [wanted({}), wanted(state="absent")])
def test_a_drop_in_that_cannot_be_read_is_not_taken_for_ours(desired: Desired) -> None:
    snapshot = replace(there(), files=(FileText(OWN, None, "Input/output error"),))
    assert f"{OWN} cannot be read (Input/output error)" in refusal(desired, snapshot)
    assert plan_exports(replace(desired, adopt=True), snapshot).changed == bool(desired.exports)


def test_adopt_takes_the_lines_over_as_purge_says() -> None:
    paths = {"/srv/share": PathFact("directory", "/srv/share", "ext4")}
    snapshot = there({OWN: THEIRS}, row("/srv/share", "198.51.100.0/24"), paths)
    purged = plan_exports(wanted({}, adopt=True), snapshot)
    assert purged.withdrawn == (("/srv/share", "198.51.100.0/24"),)
    assert "/srv/share" not in applied(wanted({}, adopt=True), snapshot)
    kept = applied(wanted({}, adopt=True, purge=False), snapshot)
    assert kept.startswith(HEAD)
    assert "/srv/share 198.51.100.0/24(ro," in kept
    gone = plan_exports(wanted(state="absent", adopt=True), snapshot)
    assert kinds(gone) == REMOVAL
    # Those who hold files open there are looked after as with an own drop-in.
    busy = replace(snapshot, busy={"/srv/share": ("198.51.100.7",)})
    assert "withdraw_in_use" in refusal(wanted(state="absent", adopt=True), busy)


def test_what_was_adopted_is_ours_in_the_next_run() -> None:
    """A file that says all that is wanted already gets the header all the same."""
    theirs = applied(wanted({}), there()).replace(HEAD, "")
    first = applied(wanted({}, adopt=True), there({OWN: theirs}, row()))
    assert first == HEAD + theirs
    assert plan_exports(wanted({}), there({OWN: first}, row())).steps == ()


@pytest.mark.parametrize("text", ["", "\n", " \t\n"])
@pytest.mark.parametrize("desired", [wanted({}), wanted(state="absent")])
def test_an_empty_drop_in_is_nobodys(desired: Desired, text: str) -> None:
    assert plan_exports(desired, there({OWN: text})).changed


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        "# put here by hand\n\n" + HEAD + "/srv/a 192.0.2.0/24(rw,fsid=7)\n",
        HEAD + "/srv/share *(ro)\n",
        render_owed(HEAD.encode(), ["/srv/a"]).decode(),
        # As every version so far has written it, also under another name of the set.
        "# default-mysql: written by Ansible (stateful.petset.nfs_export). Changes made here by hand are overwritten;\n"
        "# other files are never touched.\n/srv/a 192.0.2.0/24(rw,fsid=7)\n",
    ],
)
def test_a_drop_in_with_the_header_stays_ours(text: str) -> None:
    assert plan_exports(wanted({}), there({OWN: text})).changed
    assert plan_exports(wanted(state="absent"), there({OWN: text})).changed


def test_differences_after_applying() -> None:
    plan = plan_exports(wanted({}), there())
    assert differences(plan.expected, (), parse_table(row().encode()), {}) == []
    assert len(differences(plan.expected, (("/srv/z", "*"),), parse_table(b"/srv/z\t*(ro)\n"), {})) == 2


def test_every_step_is_described() -> None:
    steps = [
        MakeFolder("/etc/exports.d"),
        MakeDirectory("/a", 1, None, 0o750),
        SetOwnership("/a", None, 2, None, "0:0 0755"),
        WriteDropIn(OWN, None, b"x"),
        MarkWithdrawn(OWN, b"x", b"y"),
        RemoveDropIn(OWN, b"x"),
        Reexport("why"),
        FlushCaches(("*",)),
    ]
    texts = [step.describe() for step in steps]
    assert texts[1] == "make directory /a (1:- 0750)"
    assert len(set(texts)) == len(steps)
