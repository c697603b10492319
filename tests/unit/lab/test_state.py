# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a lab comes back from disk as it was, and slots are shared out once."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import state
from lab.config import LabConfig
from lab.log import LabError
from lab.state import LabState, ProcessRecord

names = st.from_regex(r"\A[a-z][a-z0-9-]{0,11}\Z")
configs = st.builds(
    LabConfig, names, st.integers(1, 9), st.integers(0, 9), st.sampled_from(["1.33", "1.36", "v1.37.2"]),
    st.none() | st.text(min_size=1),
)  # fmt: skip
records = st.builds(ProcessRecord, st.integers(1, 2**22), st.integers(0, 2**63), st.text())
parties = st.sampled_from(["gateway", "api", "client", "node-1", "node-2", "nfs"])
states = st.builds(
    LabState,
    configs,
    st.integers(0, 63),
    st.dictionaries(st.sampled_from(["etcd", "apiserver", "node-1", "nfs"]), records),
    st.lists(st.tuples(parties, parties), unique=True),
)


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


# -- the file --------------------------------------------------------------------------------------------------------


@given(states)
def test_a_state_comes_back_from_json(lab: LabState) -> None:
    back = LabState.from_json(json.loads(json.dumps(lab.to_json())))
    assert (back.config, back.slot, back.processes) == (lab.config, lab.slot, lab.processes)
    assert back.cuts == sorted(lab.cuts)
    assert back.to_json() == lab.to_json()


def test_a_state_comes_back_from_disk(root: Path) -> None:
    lab = LabState(
        LabConfig("green", 3, 1, "1.37", "/bin"),
        7,
        {"etcd": ProcessRecord(12, 34567, "bin/etcd "), "node-1": ProcessRecord(13, 34568, "umid=node-1 ")},
        [("nfs", "node-1"), ("node-1", "nfs")],
    )
    state.save(lab)
    assert state.load("green") == lab
    assert state.need("green") == lab
    assert lab.plan.uplink_ip == "10.212.7.2"
    assert sorted(p.name for p in (root / "green").iterdir()) == ["state.json"]


def test_the_file_of_today_is_read_by_the_lab_of_tomorrow(root: Path) -> None:
    """A lab that is up is taken down by a newer checkout."""
    text = """{
 "config": {"name": "lab", "nodes": 2, "extra": 0, "kubernetes": "1.36", "kube_bin_dir": null},
 "slot": 0,
 "processes": {"etcd": [10117, 24412, "bin/etcd "]},
 "cuts": [["node-1", "nfs"]]
}"""
    (root / "lab").mkdir(parents=True)
    (root / "lab" / "state.json").write_text(text)
    assert state.load("lab") == LabState(
        LabConfig(), 0, {"etcd": ProcessRecord(10117, 24412, "bin/etcd ")}, [("node-1", "nfs")]
    )


def test_a_lab_that_is_not_there_is_none_or_told_with_those_that_are() -> None:
    assert state.load("lab") is None
    with pytest.raises(LabError, match=r"there is no lab 'lab' \(there are: none\)") as caught:
        state.need("lab")
    assert caught.value.hint == "python3 -m lab up --name lab"
    for name in ("green", "blue"):
        state.save(LabState(LabConfig(name), 0))
    with pytest.raises(LabError, match=r"there is no lab 'lab' \(there are: blue, green\)"):
        state.need("lab")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": {"name": "lab", "colour": "red"}, "slot": 0}'])
def test_a_state_file_that_cannot_be_read_is_named_with_the_way_out(root: Path, text: str) -> None:
    (root / "lab").mkdir(parents=True)
    (root / "lab" / "state.json").write_text(text)
    with pytest.raises(LabError) as caught:
        state.load("lab")
    assert str(root / "lab" / "state.json") in str(caught.value)
    assert caught.value.hint == "python3 -m lab down --name lab"


def test_all_labs_are_those_with_a_state(root: Path) -> None:
    assert state.all_labs() == []
    for name in ("a", "b"):
        state.save(LabState(LabConfig(name), 0))
    (root / "half").mkdir()
    (root / "doctor.log").touch()
    assert sorted(state.all_labs()) == ["a", "b"]


# -- written whole ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "new" / "file"
    before = os.umask(0o077)
    try:
        state.write_atomically(path, "text ü\n", mode=mode)
    finally:
        os.umask(before)
    assert path.read_text() == "text ü\n"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    state.write_atomically(path, "old")

    def fail(self: Path, target: Path) -> None:
        assert self.read_text() == "new"
        assert path.read_text() == "old"
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="killed here"):
            state.write_atomically(path, "new")
    assert path.read_text() == "old"
    state.write_atomically(path, "newer")
    assert path.read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_secret_is_at_no_moment_readable_by_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kubeconfig was written for all to read and closed a moment later."""
    modes: list[int] = []
    beside = tmp_path / ".kubeconfig.new"
    beside.write_text("left by a killed one, for all to read")
    beside.chmod(0o666)
    chmod, replace = Path.chmod, Path.replace

    def note(path: Path) -> None:
        if path.stat().st_size:
            modes.append(stat.S_IMODE(path.stat().st_mode))

    def noting_chmod(self: Path, mode: int) -> None:
        note(self)
        chmod(self, mode)

    def noting_replace(self: Path, target: Path) -> Path:
        note(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "chmod", noting_chmod)
    monkeypatch.setattr(Path, "replace", noting_replace)
    before = os.umask(0)
    try:
        state.write_atomically(tmp_path / "kubeconfig", "secret", mode=0o600)
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert (tmp_path / "kubeconfig").read_text() == "secret"


# -- slots -----------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 63), max_size=63))
def test_a_free_slot_is_the_lowest_that_nobody_has(taken: set[int]) -> None:
    slot = state.free_slot(iter(taken))
    assert slot not in taken
    assert 0 <= slot <= 63
    assert set(range(slot)) <= taken


def test_no_free_slot_is_told() -> None:
    with pytest.raises(LabError, match="64 labs are on this host") as caught:
        state.free_slot(range(64))
    assert "down" in str(caught.value.hint)


def test_each_lab_gets_a_slot_and_one_that_is_given_back_is_used_again(root: Path) -> None:
    slots = {name: state.create_or_update(LabConfig(name)).slot for name in ("a", "b", "c")}
    assert slots == {"a": 0, "b": 1, "c": 2}
    (root / "b" / "state.json").unlink()
    assert state.create_or_update(LabConfig("d")).slot == 1
    assert state.create_or_update(LabConfig("a")).slot == 0


# -- up on a lab that is there ---------------------------------------------------------------------------------------


def test_up_again_changes_nothing(root: Path) -> None:
    first = state.create_or_update(LabConfig("lab"))
    first.processes["etcd"] = ProcessRecord(1, 2, "x")
    first.cuts = [("node-1", "nfs")]
    state.save(first)
    before = (root / "lab" / "state.json").stat()
    assert state.create_or_update(LabConfig("lab")) == first
    after = (root / "lab" / "state.json").stat()
    # Reading it may change the time of access.
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_a_lab_grows_and_keeps_what_it_has() -> None:
    first = state.create_or_update(LabConfig("lab", 2))
    first.processes["etcd"] = ProcessRecord(1, 2, "x")
    state.save(first)
    grown = state.create_or_update(LabConfig("lab", 3, 1))
    assert (grown.config.nodes, grown.config.extra) == (3, 1)
    assert grown.processes == first.processes
    assert state.load("lab") == grown


@pytest.mark.parametrize(
    "wish", [LabConfig("lab", 1, 1), LabConfig("lab", 2, 0), LabConfig("lab", 2, 1, "1.37"), LabConfig("lab", 3, 0)]
)
def test_a_lab_does_not_shrink_or_change_its_kubernetes(wish: LabConfig) -> None:
    first = state.create_or_update(LabConfig("lab", 2, 1))
    with pytest.raises(LabError) as caught:
        state.create_or_update(wish)
    assert "lab 'lab' is there with 2 nodes, 1 further machines, Kubernetes 1.36" in str(caught.value)
    assert f"asked for: {wish.nodes}, {wish.extra}, {wish.kubernetes}" in str(caught.value)
    assert "down --name lab" in str(caught.value.hint)
    assert state.load("lab") == first
