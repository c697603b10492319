# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.recovery import (
    TROUBLES,
    Diagnosis,
    Finding,
    Verdict,
    build_report,
    diagnose,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.report import render_html, render_markdown

GOOD_OPTIONS = ["hard", "local_lock=none", "proto=tcp", "rw", "vers=4.2"]
UUIDS = {0: "aaaaaaaa-0000-4000-8000-000000000000", 1: "bbbbbbbb-0000-4000-8000-000000000001"}


def storage(
    size: str = "ok",
    file: str = "ok",
    free_bytes: int | None = 1 << 30,
    write: str = "ok",
    server_uuid: str | None = None,
) -> dict[str, Any]:
    return {"size": size, "free_bytes": free_bytes, "file": file, "write": write, "server_uuid": server_uuid}


def mounted(*options: str, **changes: Any) -> dict[str, Any]:
    found = {"type": "nfs4", "source": "192.0.2.10:/srv/1", "options": list(options) or GOOD_OPTIONS}
    return {"mount": {**found, "pnfs": "not configured", "layouts": 0, **changes}}


def pet(ordinal: int, **changes: Any) -> dict[str, Any]:
    return {
        "ordinal": ordinal,
        "name": f"mysql-{ordinal}",
        "ready": True,
        "trouble": "none",
        "reason": "",
        "server_uuid": UUIDS[ordinal],
        "pod_index": str(ordinal),
        "claim": f"db-mysql-{ordinal}",
        "claim_uid": f"claim-{ordinal}",
        "claim_owner": {"namespace": "default", "set": "mysql", "ordinal": str(ordinal)},
        "volume_claim_uid": f"claim-{ordinal}",
        "volume_owner": {"namespace": "default", "set": "mysql", "ordinal": str(ordinal)},
        "claim_phase": "Bound",
        "volume": f"default-mysql-{ordinal}",
        "volume_phase": "Bound",
        "bound_both_ways": True,
        "export": f"192.0.2.10:/srv/{ordinal}",
        **mounted(source=f"192.0.2.10:/srv/{ordinal}"),
        "storage": storage(),
        "dns_ok": True,
        "dns_wrong": {},
        "ping_ok": True,
        "ping": {"mysql-0.db": "9.7.4", "mysql-1.db": "9.7.4"},
        "probe_failure": "",
        **changes,
    }


def look(*known: dict[int, str] | None, **changes: Any) -> Diagnosis:
    return diagnose("mysql", [pet(0), pet(1, **changes)], known[0] if known else UUIDS)


def not_right(diagnosis: Diagnosis) -> list[Finding]:
    return [one for one in diagnosis.findings if one.verdict is not Verdict.RIGHT]


def test_a_good_set_is_healthy() -> None:
    diagnosis = look()
    assert diagnosis.healthy
    assert not_right(diagnosis) == []
    assert len(diagnosis.findings) == 16
    assert diagnosis.describe() == "every pet is itself, on its own volume, and answers"


def test_a_server_that_exports_it_read_only_is_told_before_mysqld_ends() -> None:
    """The mount still says rw: the server answers, and takes no write (case rp-nfs-09)."""
    (found,) = not_right(look(storage=storage(write="refused")))
    assert (found.check, found.trouble, found.verdict) == ("storage", "read_only", Verdict.WRONG)
    assert found.way_out
    assert not not_right(look(storage=storage(write="unknown", server_uuid=UUIDS[1].upper())))


WRONG: dict[str, dict[str, Any]] = {
    "mount_refused": {"ready": False, "trouble": "mount_refused", "reason": "node node-1 cannot mount: access denied"},
    "prepare": {"ready": False, "trouble": "prepare", "reason": "refused: known-pet-empty: it is empty"},
    "node": {"ready": False, "trouble": "node", "reason": "node node-1 does not answer"},
    "wrong_name": {"name": "mysql-7"},
    "other_server": {"server_uuid": "cccccccc-0000-4000-8000-000000000002"},
    "wrong_claim": {"claim": "db-mysql-0"},
    "wrong_ordinal": {"claim_owner": {"namespace": "default", "set": "mysql", "ordinal": "0"}},
    "claim_lost": {"claim_phase": "missing"},
    "volume_lost": {"claim_phase": "Lost"},
    "claim_not_bound": {"claim_phase": "Pending"},
    "volume_released": {"volume_phase": "Released"},
    "volume_not_bound": {"volume_phase": "Failed"},
    "volume_of_other_claim": {"bound_both_ways": False},
    "wrong_export": mounted(source="192.0.2.10:/srv/2"),
    "read_only": mounted("ro", *GOOD_OPTIONS),
    "nfs_version": mounted("hard", "proto=tcp", "vers=3", "local_lock=none"),
    "nfs_soft": mounted("soft", "proto=tcp", "vers=4.1", "local_lock=none"),
    "nfs_no_locks": mounted("hard", "proto=tcp", "vers=4.1", "local_lock=all"),
    "nfs_transport": mounted("hard", "proto=udp", "vers=4.1", "local_lock=none"),
    "nfs_pnfs": mounted(pnfs="LAYOUT_SCSI"),
    "server_unreachable": {"storage": storage(size="silent", file="silent", free_bytes=None)},
    "nfs_grace": {"storage": storage(file="silent")},
    "stale_handle": {"storage": storage(size="Stale file handle", free_bytes=None)},
    "export_withdrawn": {"storage": storage(file="Permission denied")},
    "folder_emptied": {"storage": storage(file="No such file or directory")},
    "folder_of_other": {"storage": storage(server_uuid=UUIDS[0])},
    "disk_full": {"storage": storage(free_bytes=12 << 20)},
    "dns": {"dns_ok": False, "dns_wrong": {"mysql-0.db": []}},
    "no_answer": {"ping_ok": False, "ping": {"mysql-0.db": "failed", "mysql-1.db": "9.7.4"}},
    "no_sql": {"ping_ok": False, "sql": {"mysql-0.db": "ok", "mysql-1.db": "ERROR 1045: Access denied"}},
    "same_volume": {"volume": "default-mysql-0"},
    "same_export": {"export": "192.0.2.10:/srv/0", **mounted(source="192.0.2.10:/srv/0")},
}


@pytest.mark.parametrize("trouble", WRONG)
def test_each_trouble_has_its_own_name_and_evidence(trouble: str) -> None:
    diagnosis = look(**WRONG[trouble])
    (found,) = not_right(diagnosis)
    assert (found.verdict, found.trouble) == (Verdict.WRONG, trouble)
    assert found.evidence
    assert trouble in TROUBLES
    assert bool(found.way_out) == any(line.startswith(f"{found.pet} {trouble}: ") for line in diagnosis.ways_out())
    assert not diagnosis.healthy
    assert found.evidence in diagnosis.describe()


def test_rp_sts_06_the_way_out_of_a_node_that_is_off_fits_one_that_has_the_taint() -> None:
    (found,) = not_right(look(ready=False, trouble="node", reason="node n2 is not Ready"))
    assert "only when it is surely off" in found.way_out
    assert "name it in petset_nodes_off" in found.way_out
    assert "out-of-service=nodeshutdown:NoExecute unless it is there; take the taint off" in found.way_out


@pytest.mark.parametrize(
    ("changes", "word", "evidence"),
    [
        ({"pod_index": "0"}, "wrong_name", "label apps.kubernetes.io/pod-index of its pod is 0, its name says 1"),
        ({"claim": None}, "wrong_claim", "it uses claim (none), its own is db-mysql-1"),
        ({"claim_owner": {"ordinal": "7"}}, "wrong_ordinal", "claim db-mysql-1 is labelled ordinal 7 instead of 1"),
        (
            {"volume_owner": {"namespace": "other", "set": "mysql", "ordinal": "0"}},
            "wrong_ordinal",
            "volume default-mysql-1 is labelled namespace other instead of default, ordinal 0 instead of 1",
        ),
        (
            {"bound_both_ways": False, "volume_claim_uid": "old"},
            "volume_of_other_claim",
            "to the one with uid old, this one's is claim-1",
        ),
    ],
)
def test_what_pod_claim_and_volume_say_of_themselves_is_compared(
    changes: dict[str, Any], word: str, evidence: str
) -> None:
    (found,) = not_right(look(**changes))
    assert found.trouble == word
    assert evidence in found.evidence


@pytest.mark.parametrize("changes", [{"pod_index": None}, {"claim_owner": None, "volume_owner": {"set": "mysql"}}])
def test_labels_that_are_not_there_are_no_trouble(changes: dict[str, Any]) -> None:
    """Claims that the controller makes of a template, and volumes of a provisioner, have none."""
    assert look(**changes).healthy


def test_two_pets_with_one_uuid_are_told_beside_the_wrong_record() -> None:
    assert {one.trouble for one in not_right(look(server_uuid=UUIDS[0]))} == {"other_server", "same_server_uuid"}


UNKNOWN: dict[str, dict[str, Any]] = {
    "does not tell whether it uses pNFS": mounted(pnfs=None),
    "claims may not be read": {"claim_phase": None},
    "may not be read, or is not there": {"volume_phase": None},
    "which claim volume default-mysql-1 belongs to": {"bound_both_ways": None},
    "its server_uuid is not known": {"server_uuid": None},
    "nobody could look": {"dns_ok": None},
    "no such shell": {"mount": None, "probe_failure": "no such shell"},
    "the volume says: command not found": {"storage": storage(file="command not found")},
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_what_nobody_could_see_is_unknown_and_not_healthy(why: str) -> None:
    diagnosis = look(**UNKNOWN[why])
    (found,) = not_right(diagnosis)
    assert found.verdict is Verdict.UNKNOWN
    assert why in found.evidence
    assert diagnosis.verdict is Verdict.UNKNOWN
    assert not diagnosis.healthy


@pytest.mark.parametrize("known", [None, {0: UUIDS[0]}])
def test_without_a_record_identity_is_unknown(known: dict[int, str] | None) -> None:
    assert {(one.check, one.verdict) for one in not_right(look(known))} == {("identity", Verdict.UNKNOWN)}


def test_a_look_that_was_not_taken_is_unknown() -> None:
    bare = pet(1)
    for key in ("mount", "storage", "dns_ok", "ping_ok", "dns_wrong", "ping", "probe_failure"):
        del bare[key]
    diagnosis = diagnose("mysql", [pet(0), bare], UUIDS)
    assert {one.check for one in not_right(diagnosis)} == {"mount", "storage", "dns", "ping"}
    assert diagnosis.verdict is Verdict.UNKNOWN


def test_no_pets_are_not_healthy() -> None:
    assert not diagnose("mysql", [], UUIDS).healthy


def test_a_volume_of_a_storage_class_has_no_nfs_options() -> None:
    block = {"export": None, "mount": {"type": "ext4", "source": "/dev/sdb", "options": ["rw"]}}
    assert diagnose("mysql", [pet(0, **block), pet(1, **block)], UUIDS).healthy


@pytest.mark.parametrize(
    ("export", "source"),
    [
        ("NFS.Example.com.:/srv/1", "nfs.example.com:/srv/1"),
        ("192.0.2.10:/srv//1/", "192.0.2.10:/srv/1"),
        ("[FD00:0::1]:/srv/1", "[fd00::1]:/srv/1"),
    ],
)
def test_the_kernels_spelling_of_an_export_is_no_other_export(export: str, source: str) -> None:
    diagnosis = look(export=export, **mounted(source=source))
    assert diagnosis.healthy
    both = diagnose("mysql", [pet(0, export=source, **mounted(source=source)), pet(1, export=export)], UUIDS)
    assert "same_export" in {one.trouble for one in not_right(both)}


def test_paths_that_differ_in_case_are_two_exports() -> None:
    pets = [pet(n, export=f"h:/srv/{p}", **mounted(source=f"h:/srv/{p}")) for n, p in enumerate(("a", "A"))]
    assert diagnose("mysql", pets, UUIDS).healthy


def test_layouts_that_were_asked_for_are_told_though_none_is_configured_by_now() -> None:
    (found,) = not_right(look(**mounted(layouts=3)))
    assert (found.trouble, "3 layouts" in found.evidence) == ("nfs_pnfs", True)


def test_a_local_disk_in_place_of_the_export_is_wrong() -> None:
    (found,) = not_right(look(mount={"type": "ext4", "source": "/dev/sda", "options": ["rw"]}))
    assert found.trouble == "wrong_export"


def test_a_trouble_beside_an_unknown_is_told_as_trouble() -> None:
    for (wrong, changes), (_why, hidden) in itertools.product(WRONG.items(), UNKNOWN.items()):
        if set(changes) & set(hidden):
            continue
        diagnosis = look(**changes, **hidden)
        assert diagnosis.verdict is Verdict.WRONG, wrong
        assert wrong in {one.trouble for one in diagnosis.findings}


def test_the_report_says_it() -> None:
    report = build_report("default/mysql", "2026-01-02", look(**WRONG["volume_released"]))
    assert report.verdict == "false"
    page = render_html(report)
    assert "volume default-mysql-1 is Released" in page
    assert "run the playbook site" in page
    assert "| volume | FAILED |" in render_markdown(report)
    assert [one.verdict for one in report.checks if one.name != "volume"] == ["true"] * 7


def test_the_documentation_names_every_trouble() -> None:
    """Here, or with the troubles of pods."""
    folder = Path(__file__).resolve().parents[5] / "docs/roles"
    text = (folder / "recovery_check.md").read_text() + (folder / "pet_set.md").read_text()
    assert [word for word in TROUBLES if f"`{word}`" not in text] == []
