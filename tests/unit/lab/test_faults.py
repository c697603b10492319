# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults are planned before they are made, a healed lab is the lab before, and nonsense is refused untouched."""

from __future__ import annotations

import re
import signal
import subprocess
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lab import controlplane, faults, network, processes, ssh, state, up
from lab.config import LabConfig, MachineSpec, Plan
from lab.faults import Slowness
from lab.log import LabError
from lab.network import Cut
from lab.state import LabState, ProcessRecord

PLAN = Plan(LabConfig("lab", nodes=2), 0)
PARTIES = list(PLAN.parties())
pairs = st.sampled_from(list(permutations(PARTIES, 2)))
cut_sets = st.sets(pairs)


# -- cuts ------------------------------------------------------------------------------------------------------------


@given(cut_sets, pairs, st.booleans())
def test_healing_what_was_cut_gives_the_cuts_before(before: set[Cut], pair: Cut, one_way: bool) -> None:
    a, b = pair
    assume(not before & {(a, b), (b, a)})
    cut = faults.plan_cuts(PLAN, before, a, b, one_way)
    assert faults.plan_heal(PLAN, cut, a, b) == sorted(before)
    assert faults.plan_heal(PLAN, cut, b, a) == sorted(before)


@given(cut_sets, pairs, st.booleans())
def test_a_cut_adds_the_directions_asked_for_and_no_others(before: set[Cut], pair: Cut, one_way: bool) -> None:
    a, b = pair
    cuts = faults.plan_cuts(PLAN, before, a, b, one_way)
    assert set(cuts) == before | ({(a, b)} if one_way else {(a, b), (b, a)})
    assert len(set(cuts)) == len(cuts)
    assert faults.plan_cuts(PLAN, cuts, a, b, one_way) == cuts, "a cut twice is a cut"


@given(cut_sets)
def test_healing_without_a_name_heals_all(before: set[Cut]) -> None:
    assert faults.plan_heal(PLAN, before, None, None) == []


@given(cut_sets, st.sampled_from(PARTIES))
def test_healing_one_party_heals_all_of_its_cuts_and_no_others(before: set[Cut], party: str) -> None:
    assert set(faults.plan_heal(PLAN, before, party, None)) == {cut for cut in before if party not in cut}


@given(cut_sets, pairs)
def test_healing_a_pair_heals_both_directions_and_no_others(before: set[Cut], pair: Cut) -> None:
    assert set(faults.plan_heal(PLAN, before, *pair)) == before - {pair, pair[::-1]}


@given(cut_sets, st.none() | st.sampled_from(PARTIES), st.none() | st.sampled_from(PARTIES))
def test_healing_twice_is_healing_once(before: set[Cut], a: str | None, b: str | None) -> None:
    assume(a is not None or b is None)
    healed = faults.plan_heal(PLAN, before, a, b)
    assert faults.plan_heal(PLAN, healed, a, b) == healed


@pytest.mark.parametrize(("a", "b"), [("node-1", "node-9"), ("nobody", "nfs"), ("", "nfs"), ("etcd", "api")])
def test_a_party_that_is_not_there_is_named_with_those_that_are(a: str, b: str) -> None:
    wrong = next(name for name in (a, b) if name not in PARTIES)
    with pytest.raises(LabError, match=f"no party '{wrong}' to cut") as caught:
        faults.plan_cuts(PLAN, [], a, b, False)
    assert caught.value.hint == "one of: gateway, api, client, node-1, node-2, nfs"


@pytest.mark.parametrize("party", PARTIES)
def test_a_party_cannot_be_cut_from_itself(party: str) -> None:
    with pytest.raises(LabError, match=f"'{party}' cannot be cut from itself"):
        faults.plan_cuts(PLAN, [], party, party, False)


@pytest.mark.parametrize(("a", "b"), [("nod-1", None), ("node-1", "nsf"), ("nobody", "nfs")])
def test_healing_a_party_that_is_not_there_is_an_error_not_a_success(a: str, b: str | None) -> None:
    """A cut would stay behind a mistyped name."""
    with pytest.raises(LabError, match=r"no party '(nod-1|nsf|nobody)' to heal") as caught:
        faults.plan_heal(PLAN, [("node-1", "nfs")], a, b)
    assert "nfs" in str(caught.value.hint)


def test_cuts_are_made_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    made: list[list[Cut]] = []
    monkeypatch.setattr(network, "apply_cuts", lambda plan, cuts: made.append(list(cuts)))
    lab = LabState(LabConfig(), 0)
    faults.set_cuts(lab, [("node-1", "nfs")])
    assert made == [[("node-1", "nfs")]]
    assert state.need("lab").cuts == [("node-1", "nfs")]


def test_cuts_that_could_not_be_made_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))

    def refuse(plan: Plan, cuts: list[Cut]) -> None:
        raise LabError("nft says no")

    monkeypatch.setattr(network, "apply_cuts", refuse)
    lab = LabState(LabConfig(), 0)
    with pytest.raises(LabError, match="nft says no"):
        faults.set_cuts(lab, [("node-1", "nfs")])
    assert lab.cuts == []


# -- slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slowness", "words"),
    [
        (Slowness(), "netem limit 20000"),
        (Slowness(delay_ms=50), "netem limit 20000 delay 50ms"),
        (Slowness(delay_ms=0.5), "netem limit 20000 delay 0.5ms"),
        (Slowness(loss_percent=1), "netem limit 20000 loss 1%"),
        (Slowness(loss_percent=0.01), "netem limit 20000 loss 0.01%"),
        (Slowness(rate_mbit=10), "netem limit 20000 rate 10mbit"),
        (Slowness(100, 2.5, 8), "netem limit 20000 delay 100ms loss 2.5% rate 8mbit"),
        (Slowness(0, 0, 0.1), "netem limit 20000 delay 0ms loss 0% rate 0.1mbit"),
    ],
)
def test_netem_words(slowness: Slowness, words: str) -> None:
    assert slowness.render_netem() == words


@given(
    st.none() | st.floats(0, 1e5, allow_nan=False).map(lambda x: round(x, 3)),
    st.none() | st.floats(0, 100).map(lambda x: round(x, 3)),
    st.none() | st.floats(0.001, 1e5).map(lambda x: round(x, 3)),
)
def test_netem_is_told_the_number_that_was_asked_for(
    delay: float | None, loss: float | None, rate: float | None
) -> None:
    words = Slowness(delay, loss, rate).render_netem().split()
    for name, unit, wanted in (("delay", "ms", delay), ("loss", "%", loss), ("rate", "mbit", rate)):
        assert (name in words) is (wanted is not None)
        if wanted is not None:
            text = words[words.index(name) + 1]
            assert re.fullmatch(rf"\d+(\.\d+)?{unit}", text), text
            assert float(text.removesuffix(unit)) == wanted


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"delay_ms": -1}, "--delay -1"),
        ({"delay_ms": float("nan")}, "--delay nan"),
        ({"delay_ms": float("inf")}, "--delay inf"),
        ({"loss_percent": -0.1}, "--loss -0.1"),
        ({"loss_percent": 100.5}, "--loss 100.5"),
        ({"rate_mbit": 0}, "--rate 0"),
        ({"rate_mbit": -3}, "--rate -3"),
        ({"rate_mbit": float("nan")}, "--rate nan"),
    ],
)
def test_a_slowness_that_cannot_be_is_refused_before_the_machine_is_touched(
    wrong: dict[str, float], message: str
) -> None:
    """tc would refuse it half-way through, with the machine's queues taken apart."""
    with pytest.raises(LabError, match=re.escape(message)):
        Slowness(**wrong)


def executed(monkeypatch: pytest.MonkeyPatch, answer: str = "qdisc netem 20: parent 1:2") -> list[tuple[str, str]]:
    scripts: list[tuple[str, str]] = []

    def execute(plan: Plan, spec: MachineSpec, script: str, timeout_s: float = 60, check: bool = True) -> str:
        scripts.append((spec.name, script))
        return answer

    monkeypatch.setattr(ssh, "execute", execute)
    return scripts


def test_the_labs_own_way_in_stays_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch)
    faults.slow(LabState(LabConfig(), 0), "node-1", Slowness(delay_ms=3000))
    ((name, script),) = scripts
    assert name == "node-1"
    assert "flower dst_ip 10.213.0.254 classid 1:1\n" in script
    assert "flower src_ip 10.213.0.254 action pass\n" in script
    assert script.count("netem limit 20000 delay 3000ms") == 2, "once for what is sent, once for what is received"
    assert script.startswith(faults.SLOW_OFF), "one slowness replaces the other"


def test_a_machine_runs_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch, "")
    faults.slow(LabState(LabConfig(), 0), "nfs", None)
    assert scripts == [("nfs", faults.SLOW_OFF)]


def test_a_slowness_that_did_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    executed(monkeypatch, "qdisc noqueue 0: root")
    with pytest.raises(LabError, match="netem did not take on node-1"):
        faults.slow(LabState(LabConfig(), 0), "node-1", Slowness(1))


def test_a_slowness_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch)
    with pytest.raises(LabError, match="nothing to do") as caught:
        faults.slow(LabState(LabConfig(), 0), "node-1", Slowness())
    assert "--off" in str(caught.value.hint)
    assert scripts == []


def shell_takes(script: str) -> bool:
    return subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_the_scripts_are_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch)
    lab = LabState(LabConfig(), 0)
    faults.slow(lab, "node-1", Slowness(1, 2, 3))
    faults.slow(lab, "node-1", None)
    faults.disk_full(lab, "node-1", "/var/lib", 4096)
    faults.disk_free(lab, "node-1", "/var/lib")
    faults.clock(lab, "node-1", -300)
    faults.clock(lab, "node-1", 0)
    assert len(scripts) == 6
    assert all(shell_takes(script) for _, script in scripts)
    assert not shell_takes("if")


# -- clock -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("+90", 90), ("90", 90), ("90s", 90), ("-90", -90), ("-5m", -300), ("+5m", 300), ("2h", 7200),
        ("-2h", -7200), ("1.5h", 5400), ("0.5", 0.5), ("-0", 0),
    ],
)  # fmt: skip
def test_shifts(text: str, seconds: float) -> None:
    assert faults.parse_shift(text) == seconds


@given(st.integers(-(10**6), 10**6), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("h", 3600)]))
def test_a_shift_is_its_number_in_its_unit(number: int, unit: tuple[str, int]) -> None:
    for sign in ("", "+") if number >= 0 else ("",):
        assert faults.parse_shift(f"{sign}{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize("text", ["", "m", "5d", "5 m", "1e3", "--5", "+-5", "5mm", "nan", "inf", "0x10", "5m\n", ".5"])
def test_what_is_no_shift_is_refused_with_examples(text: str) -> None:
    with pytest.raises(LabError, match=r"\+90, -5m, 2h") as caught:
        faults.parse_shift(text)
    assert repr(text) in str(caught.value)


def test_a_clock_moves_against_its_own_time_and_back_to_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch)
    monkeypatch.setattr(faults.time, "time", lambda: 1_800_000_000.25)
    lab = LabState(LabConfig(), 0)
    faults.clock(lab, "node-1", -300)
    faults.clock(lab, "node-1", 0)
    assert [script for _, script in scripts] == ["date -s @$(($(date +%s) + -300))\n", "date -s @1800000000.250\n"]


# -- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "relative", "/a b", "/$(reboot)", "/a'b", "/a\nb", "~", "/ü", "/a;b"])
@pytest.mark.parametrize("do", [faults.disk_full, faults.disk_free])
def test_a_path_that_a_shell_could_misread_is_refused(monkeypatch: pytest.MonkeyPatch, do: Any, path: str) -> None:
    scripts = executed(monkeypatch)
    with pytest.raises(LabError, match="an absolute path of letters"):
        do(LabState(LabConfig(), 0), "nfs", path)
    assert scripts == []


def test_what_fills_a_disk_is_what_frees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = executed(monkeypatch)
    lab = LabState(LabConfig(), 0)
    faults.disk_full(lab, "nfs", "/srv/nfs-1.0_x")
    faults.disk_free(lab, "nfs", "/srv/nfs-1.0_x")
    (_, fill), (_, free) = scripts
    assert "cd '/srv/nfs-1.0_x'\n" in fill
    assert f">> {faults.BALLAST}" in fill
    assert free.startswith(f"rm -f '/srv/nfs-1.0_x/{faults.BALLAST}'\n")


# -- power and pauses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "do",
    [
        lambda lab: faults.power_off(lab, "node-7"),
        lambda lab: faults.power_on(lab, "node-7", None),
        lambda lab: faults.pause(lab, "node-7"),
        lambda lab: faults.resume(lab, "node-7"),
        lambda lab: faults.slow(lab, "node-7", Slowness(1)),
        lambda lab: faults.disk_full(lab, "node-7", "/"),
        lambda lab: faults.clock(lab, "node-7", 1),
    ],
    ids=["power_off", "power_on", "pause", "resume", "slow", "disk_full", "clock"],
)
def test_a_machine_that_is_not_there_is_named_with_those_that_are(do: Any) -> None:
    with pytest.raises(LabError, match="no machine 'node-7'") as caught:
        do(LabState(LabConfig(), 0))
    assert caught.value.hint == "one of: node-1, node-2, nfs"


@pytest.mark.parametrize("do", [faults.stop_part, lambda lab, part: faults.start_part(lab, part, None)])
def test_a_part_that_is_not_there_is_named_with_those_that_are(do: Any) -> None:
    with pytest.raises(LabError, match="no part 'kubelet'") as caught:
        do(LabState(LabConfig(), 0), "kubelet")
    assert caught.value.hint == "one of: " + ", ".join(controlplane.PARTS)


@pytest.mark.parametrize("do", [faults.pause, faults.resume])
@pytest.mark.parametrize("name", ["node-1", "etcd"])
def test_what_does_not_run_cannot_be_paused(do: Any, name: str) -> None:
    with pytest.raises(LabError, match=f"'{name}' does not run") as caught:
        do(LabState(LabConfig("green"), 0), name)
    assert caught.value.hint == "python3 -m lab up --name green"


def test_power_off_and_stop_of_what_is_off_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "kill_session", lambda record: pytest.fail("killed"))
    faults.power_off(LabState(LabConfig(), 0), "node-1")
    faults.stop_part(LabState(LabConfig(), 0), "etcd")


def test_a_machines_kernel_is_paused_before_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[list[int], int]] = []
    monkeypatch.setattr(processes, "is_alive", lambda record: True)
    monkeypatch.setattr(processes, "is_paused", lambda record: bool(sent))
    monkeypatch.setattr(processes, "session_pids", lambda session: [session, 11, 12])
    monkeypatch.setattr(processes, "send", lambda pids, number: sent.append((list(pids), number)))
    lab = LabState(LabConfig(), 0, {"node-1": ProcessRecord(10, 1, "umid=node-1 ")})
    faults.pause(lab, "node-1")
    faults.resume(lab, "node-1")
    assert sent == [([10], signal.SIGSTOP), ([10, 11, 12], signal.SIGSTOP), ([10, 11, 12], signal.SIGCONT)]


def test_a_machine_that_does_not_stop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "is_alive", lambda record: True)
    monkeypatch.setattr(processes, "is_paused", lambda record: False)
    monkeypatch.setattr(processes, "session_pids", lambda session: [])
    monkeypatch.setattr(processes, "send", lambda pids, number: None)
    with pytest.raises(LabError, match="'nfs' did not stop"):
        faults.pause(LabState(LabConfig(), 0, {"nfs": ProcessRecord(10, 1, "umid=nfs ")}), "nfs")


@pytest.mark.parametrize("alive", [False, True])
def test_a_machine_that_is_on_is_not_booted_again(monkeypatch: pytest.MonkeyPatch, alive: bool) -> None:
    did: list[str] = []
    monkeypatch.setattr(processes, "is_alive", lambda record: alive)
    monkeypatch.setattr(up, "boot", lambda lab, spec, artefacts: did.append(f"boot {spec.name}"))
    monkeypatch.setattr(
        faults.machine, "wait_until_up", lambda lab, specs: did.append("wait " + " ".join(s.name for s in specs))
    )
    faults.power_on(LabState(LabConfig(), 0), "node-2", None)  # type: ignore[arg-type]
    assert did == [*([] if alive else ["boot node-2"]), "wait node-2"]
