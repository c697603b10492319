# SPDX-License-Identifier: GPL-3.0-or-later
"""Costly things are built once, whole or not at all, however many ask for them and whatever fails."""

from __future__ import annotations

import json
import string
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import paths
from lab.log import LabError

PATIENCE_S = 10


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# -- where things are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "cache", "state"),
    [
        ({}, "/home/me/.cache/stateful-petset-lab", "/var/lib/petset-lab"),
        ({"XDG_CACHE_HOME": "/big"}, "/big/stateful-petset-lab", "/var/lib/petset-lab"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/stateful-petset-lab", "/var/lib/petset-lab"),
        ({"PETSET_LAB_CACHE": "/c", "XDG_CACHE_HOME": "/big"}, "/c", "/var/lib/petset-lab"),
        ({"PETSET_LAB_STATE": "/s"}, "/home/me/.cache/stateful-petset-lab", "/s"),
        (
            {"PETSET_LAB_STATE": "", "PETSET_LAB_CACHE": ""},
            "/home/me/.cache/stateful-petset-lab",
            "/var/lib/petset-lab",
        ),
    ],
)
def test_where_cache_and_state_are(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], cache: str, state: str
) -> None:
    for name in ("PETSET_LAB_CACHE", "PETSET_LAB_STATE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (str(paths.cache_root()), str(paths.state_root())) == (cache, state)


# -- keys ------------------------------------------------------------------------------------------------------------

inputs = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(inputs)
def test_a_key_is_the_same_each_time_and_fits_a_file_name(value: object) -> None:
    key = paths.key_of("forky", value)
    assert key == paths.key_of("forky", value)
    assert len(key) == 12
    assert set(key) <= set(string.hexdigits.lower())


@given(inputs, inputs)
def test_other_inputs_have_another_key(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (paths.key_of(one) == paths.key_of(other)) is same


def test_a_key_is_pinned_so_that_a_cache_outlives_the_lab_that_filled_it() -> None:
    assert paths.key_of("v1.36.3", ("-trimpath",), {"b": 1, "a": Path("/x")}) == "78af1b1d8134"


# -- cached ----------------------------------------------------------------------------------------------------------


def test_a_thing_is_built_once(cache: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "program").write_text("1")

    first = paths.cached("kube", "k1", "build it", build)
    assert first == cache / "kube-k1"
    assert (first / "program").read_text() == "1"
    assert paths.cached("kube", "k1", "build it", build) == first
    assert len(built) == 1
    paths.cached("kube", "k2", "build another", build)
    paths.cached("disk", "k1", "build another", build)
    assert len(built) == 3
    assert not any(folder.exists() for folder in built)


def test_the_builder_works_beside_the_place_where_the_thing_is_looked_for(cache: Path) -> None:
    def build(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        assert not (cache / "kube-k").exists()
        # a rename within one folder is the one step that makes it appear
        assert folder.parent == cache

    paths.cached("kube", "k", "build it", build)


@pytest.mark.parametrize("failure", [LabError("no network"), OSError("disk full"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing_that_looks_finished(cache: Path, failure: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise failure

    with pytest.raises(type(failure)):
        paths.cached("kube", "k", "build it", fail)
    assert not (cache / "kube-k").exists()

    def succeed(folder: Path) -> None:
        assert list(folder.iterdir()) == [], "the next builder starts from an empty folder"
        (folder / "whole").write_text("whole")

    assert [p.name for p in paths.cached("kube", "k", "build it", succeed).iterdir()] == ["whole"]


def test_what_a_killed_builder_left_is_cleared_away(cache: Path) -> None:
    left = cache / ".kube-k.partial"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert list(paths.cached("kube", "k", "build it", lambda folder: None).iterdir()) == []
    assert not left.exists()


def test_a_build_tells_that_it_began_and_how_it_ended(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.cached("kube", "k", "build Kubernetes", lambda folder: None)
    paths.cached("kube", "k", "build Kubernetes", lambda folder: None)
    with pytest.raises(ZeroDivisionError):
        paths.cached("kube", "k2", "build more", lambda folder: 1 // 0)  # type: ignore[arg-type,return-value]
    out, err = capsys.readouterr()
    assert out == "", "standard output is for values"
    lines = [line.split("] ", 1)[1] for line in err.splitlines()]
    assert lines[0] == "... build Kubernetes"
    assert lines[1].startswith("ok  build Kubernetes (")
    assert lines[2] == "... build more"
    assert lines[3].startswith("!!! build more: failed after ")
    assert len(lines) == 4


def test_two_builders_of_one_thing_wait_for_each_other(cache: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    built: list[str] = []
    found: list[Path] = []

    def build(folder: Path) -> None:
        built.append(threading.current_thread().name)
        begun.set()
        assert go_on.wait(PATIENCE_S)
        (folder / "program").touch()

    def ask() -> None:
        found.append(paths.cached("kube", "k", "build it", build))

    first, second = threading.Thread(target=ask, name="first"), threading.Thread(target=ask, name="second")
    first.start()
    assert begun.wait(PATIENCE_S)
    second.start()
    second.join(0.03)
    assert second.is_alive(), "the second waits"
    assert found == []
    go_on.set()
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert built == ["first"]
    assert found == [cache / "kube-k"] * 2
    assert (cache / "kube-k" / "program").exists()


def test_the_second_builder_builds_when_the_first_fails(cache: Path) -> None:
    begun, fail = threading.Event(), threading.Event()
    errors: list[LabError] = []

    def failing(folder: Path) -> None:
        begun.set()
        assert fail.wait(PATIENCE_S)
        raise LabError("no network")

    def first() -> None:
        try:
            paths.cached("kube", "k", "build it", failing)
        except LabError as error:
            errors.append(error)

    def second() -> None:
        paths.cached("kube", "k", "build it", lambda folder: (folder / "program").touch())

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert begun.wait(PATIENCE_S)
    other.start()
    fail.set()
    one.join(PATIENCE_S)
    other.join(PATIENCE_S)
    assert len(errors) == 1
    assert (cache / "kube-k" / "program").exists()


# -- locked ----------------------------------------------------------------------------------------------------------


class Holder(threading.Thread):
    """Somebody else who takes the lock and keeps it until told to let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.has = threading.Event()
        self.let_go = threading.Event()

    def run(self) -> None:
        with paths.locked(self.path):
            self.has.set()
            self.let_go.wait(PATIENCE_S)

    def waits(self) -> bool:
        return not self.has.wait(0.03)


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet.lock"
    first, second = Holder(path), Holder(path)
    first.start()
    assert first.has.wait(PATIENCE_S)
    second.start()
    assert second.waits()
    first.let_go.set()
    assert second.has.wait(PATIENCE_S)
    second.let_go.set()
    second.join(PATIENCE_S)


def test_a_lock_falls_with_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with paths.locked(tmp_path / "lock"):
            raise LabError("no")

    for _ in range(2):
        with pytest.raises(LabError):
            fail()


def test_two_locks_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with paths.locked(tmp_path / "a.lock"), paths.locked(tmp_path / "b.lock"):
        assert (tmp_path / "a.lock").exists()


def test_who_waited_for_a_lock_file_that_down_took_away_waits_for_the_new_one(tmp_path: Path) -> None:
    """``down`` removes the lab's lock file: whoever has waited for that one would hold a lock that nobody sees."""
    path = tmp_path / ".lab.lock"
    down, up, other_up = Holder(path), Holder(path), Holder(path)
    down.start()
    assert down.has.wait(PATIENCE_S)
    up.start()
    assert up.waits()
    path.unlink()
    down.let_go.set()
    assert up.has.wait(PATIENCE_S)
    other_up.start()
    assert other_up.waits(), "two hold the lock of one lab"
    up.let_go.set()
    assert other_up.has.wait(PATIENCE_S)
    other_up.let_go.set()
    for thread in (down, up, other_up):
        thread.join(PATIENCE_S)
