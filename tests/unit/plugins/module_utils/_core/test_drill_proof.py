# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.drill import DrillKind, Identity, UnderWay
from ansible_collections.stateful.petset.plugins.module_utils._core.drill_proof import (
    Seen,
    WorkLog,
    Write,
    build_drill_report,
    parse_log,
    prove,
    was_renewed,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.report import (
    Mark,
    render_html,
    render_json,
    render_markdown,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("mysql-0", "mysql-1")
BEFORE = {
    name: Identity(str(n), f"pod-{n}", f"claim-{n}", f"pv-{n}", f"volume-{n}", f"uuid-{n}", f"node-{n}", {"mysqld": 0})
    for n, name in enumerate(NAMES)
}
# 10 writes a second for 10 s, none acknowledged from 4 s to 6 s.
WRITES = tuple(
    Write(n % 2, n, n / 10, n / 10 + 0.05, "info" if 40 <= n < 60 else "ok") for n in range(100)
)  # fmt: skip
ROWS = frozenset(one.row for one in WRITES if one.outcome == "ok")
EARLY = frozenset(one.row for one in WRITES[:40])
DRILL = UnderWay("id", "pod_delete", "writer", ("mysql-0",), ("node-0",), "2026-11-25T12:00:00.000000Z", before=BEFORE)
GOOD = Seen(
    drill=DRILL,
    replicas=2,
    log=WorkLog(1000.0, WRITES, {"mysql-0": ((0.0, "open"), (4.0, "away"), (7.0, "closed"))}, complete=True),
    struck_s=4.0,
    healed_s=4.0,
    after={**BEFORE, "mysql-0": replace(BEFORE["mysql-0"], pod_uid="pod-9")},
    recovered_s=5.0,
    rows={"mysql-0": ROWS, "mysql-1": ROWS},
    gtids=dict.fromkeys(NAMES, "x:1-9"),
    gtids_agree=True,
    errant={"mysql-0": "", "mysql-1": ""},
    replication="true",
    proxies="true",
    dns_s=1.0,
    dns_right=True,
    marks=(Mark(6.5, "mysql-0 ready"),),
)


def verdicts(**changes: Any) -> dict[str, str]:
    return {one.name: one.verdict for one in prove(replace(GOOD, **changes)).checks if one.verdict != "true"}


def test_a_good_drill_is_proven_with_its_figures() -> None:
    proof = prove(GOOD)
    assert (proof.verdict, proof.word) == ("true", "proven"), proof.describe()
    assert proof.figures == {
        "acknowledged": 80,
        "unknown_fate": 20,
        "lost": 0,
        "gap_s": 2.1,
        "first_write_s": 2.05,
        "recovered_s": 5.0,
        "dns_s": 1.0,
        "others_restarted": 0,
    }
    assert "all 80 acknowledged rows are on every pet" in proof.describe()


def pets(name: str, **changes: Any) -> dict[str, Identity]:
    return {**GOOD.after, name: replace(GOOD.after[name], **changes)}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"recovered_s": None, "why_not": "not done"}, {"recovered": "false"}),
        ({"after": pets("mysql-1", claim_uid="other")}, {"identity": "false"}),
        ({"after": pets("mysql-1", index="0")}, {"identity": "false"}),
        ({"after": pets("mysql-0", volume="other")}, {"identity": "false"}),
        ({"after": pets("mysql-0", volume_uid="")}, {"identity": "unknown"}),
        ({"after": pets("mysql-0", server_uuid="other")}, {"server_uuid": "false"}),
        ({"after": pets("mysql-0", server_uuid="")}, {"server_uuid": "unknown"}),
        ({"after": BEFORE}, {"crash seen": "false"}),
        ({"after": {}}, {"identity": "unknown", "server_uuid": "unknown", "crash seen": "unknown"}),
        ({"dns_right": None}, {"dns": "unknown"}),
        ({"dns_right": False}, {"dns": "false"}),
        ({"dns_s": 31.0}, {"dns": "false"}),
        ({"rows": {"mysql-0": ROWS}}, {"acknowledged rows": "unknown"}),
        ({"rows": {"mysql-0": ROWS, "mysql-1": None}}, {"acknowledged rows": "unknown"}),
        ({"rows": {"mysql-0": ROWS, "mysql-1": ROWS - {(1, 1)}}}, {"acknowledged rows": "false"}),
        ({"rows": {"mysql-0": ROWS, "mysql-1": ROWS | {(1, 999)}}}, {"acknowledged rows": "false"}),
        ({"rows": {"mysql-0": ROWS | {(0, 40)}, "mysql-1": ROWS | {(0, 40)}}}, {}),
        ({"log": replace(GOOD.log, complete=False)}, {"acknowledged rows": "unknown"}),
        ({"log": WorkLog()}, {"acknowledged rows": "unknown", "clients": "unknown"}),
        (
            {"log": replace(GOOD.log, writes=WRITES[:40]), "rows": dict.fromkeys(NAMES, EARLY)},
            {"clients": "false"},
        ),
        ({"gtids_agree": None}, {"GTID sets": "unknown"}),
        ({"gtids_agree": False}, {"GTID sets": "false"}),
        ({"errant": None}, {"errant transactions": "unknown"}),
        ({"errant": {"mysql-0": "x:10", "mysql-1": ""}}, {"errant transactions": "false"}),
        ({"replication": "false"}, {"replication": "false"}),
        ({"replication": "unknown"}, {"replication": "unknown"}),
        ({"proxies": "false"}, {"proxies": "false"}),
        ({"proxies": "unknown"}, {"proxies": "unknown"}),
        ({"proxies": None}, {}),
    ],
)  # fmt: skip
def test_each_thing_that_is_not_right_is_told(changes: dict[str, Any], wrong: dict[str, str]) -> None:
    assert verdicts(**changes) == wrong
    if wrong:
        proof = prove(replace(GOOD, **changes))
        assert proof.verdict == ("false" if "false" in wrong.values() else "unknown")
        evidence = [one.evidence for one in proof.checks if one.name in wrong]
        assert all(evidence), "what is not right has its evidence"


RENEWED = [
    ("pod_delete", {"pod_uid": "new"}, True),
    ("pod_delete", {"restarts": {"mysqld": 1}}, False),
    ("both_pets", {"pod_uid": "new"}, True),
    ("both_pets", {}, False),
    ("mysqld_kill", {"restarts": {"mysqld": 1}}, True),
    ("mysqld_kill", {}, False),
    ("mysqld_kill", {"pod_uid": "new"}, False),
    ("container_kill", {"restarts": {"mysqld": 1}}, False),
    ("container_kill", {"restarts": {"mysqld": 1, "agent": 1}}, True),
    ("node_power_off", {"restarts": {"mysqld": 1}}, True),
    ("node_power_off", {"pod_uid": "new"}, True),
    ("node_power_off", {}, False),
    ("nfs_restart", {}, True),
    ("mysqld_kill", {"pod_uid": ""}, None),
]


@pytest.mark.parametrize(("kind", "changes", "told"), RENEWED)
def test_the_crash_is_seen_in_the_pod(kind: str, changes: dict[str, Any], told: bool | None) -> None:
    before = BEFORE["mysql-0"]
    assert was_renewed(DrillKind(kind), before, replace(before, **changes)) is told


rows = st.frozensets(st.tuples(st.integers(0, 1), st.integers(0, 99)))


@given(rows, rows)
def test_proven_rows_are_on_every_pet(first: frozenset[tuple[int, int]], second: frozenset[tuple[int, int]]) -> None:
    """Whatever the pets have: it is proven when, and only when, both have all that was acknowledged."""
    seen = replace(GOOD, rows={"mysql-0": first, "mysql-1": second})
    proof = prove(seen)
    (check,) = (one for one in proof.checks if one.name == "acknowledged rows")
    possible = {one.row for one in WRITES}
    right = first >= ROWS and second >= ROWS and first | second <= possible
    assert (check.verdict == "true") is right
    assert proof.figures["lost"] == len(ROWS - (first & second))


UNKNOWN: dict[str, Any] = {
    "after": {}, "rows": {}, "gtids_agree": None, "errant": None, "replication": "unknown", "proxies": "unknown",
    "dns_right": None, "log": WorkLog(),
}  # fmt: skip


@given(st.sets(st.sampled_from(sorted(UNKNOWN)), min_size=1))
def test_what_nobody_saw_is_never_proven(names: set[str]) -> None:
    proof = prove(replace(GOOD, **{name: UNKNOWN[name] for name in names}))
    assert proof.verdict == "unknown"


LINES = [
    {"begin": 1000.0},
    {"c": 0, "n": 1, "s": 0.1, "e": 0.2, "o": "ok"},
    {"p": "mysql-0", "t": 0.3, "a": "open"},
    {"x": "OperationalError: no"},
    {"end": 1.0},
]


def test_a_log_is_read() -> None:
    log = parse_log("\n".join(map(json.dumps, LINES)))
    assert log == WorkLog(
        1000.0,
        (Write(0, 1, 0.1, 0.2, "ok"),),
        {"mysql-0": ((0.3, "open"),)},
        complete=True,
        trouble="OperationalError: no",
    )
    assert log.end_s == 0.3


def test_a_log_that_lost_its_begin_is_not_whole() -> None:
    assert not parse_log("\n".join(map(json.dumps, LINES[1:]))).complete


@given(st.lists(st.sampled_from([json.dumps(one) for one in LINES]) | st.text(max_size=20)), st.integers(0, 30))
def test_lines_that_are_none_are_passed_over(lines: list[str], cut: int) -> None:
    text = "\n".join(lines)
    log = parse_log(text[: len(text) - cut])
    assert len(log.writes) <= sum(line == json.dumps(LINES[1]) for line in lines)


def test_the_report_tells_all_and_escapes_it() -> None:
    seen = replace(GOOD, why_not="<script>", recovered_s=None)
    report = build_drill_report("shop/mysql", seen, prove(seen), "rev-1")
    page, text = render_html(report, ""), render_markdown(report, "")
    for told in ("Drill pod_delete on shop/mysql", "rev-1", "longest time without a write", "2.1 s", "mysql-0 ready"):
        assert told in page
        assert told in text
    assert "<script>" not in page
    data = json.loads(render_json(report))
    assert sum(data["timeline"]["counts"]) == 80
    assert data["timeline"]["gap"]["begin_s"] == pytest.approx(4.0, abs=0.1)
    assert data["verdict"] == "false"


def test_a_pet_that_started_again_without_being_hit_is_counted() -> None:
    after = pets("mysql-1", restarts={"mysqld": 1})
    assert prove(replace(GOOD, after=after)).figures["others_restarted"] == 1
