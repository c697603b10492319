# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates must be able to fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import common, gates
from tools.common import Failed


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own small checkout with one commit, which the gates look at."""
    root = tmp_path / "repo"
    write(root, "README.md", "x")
    git(root, "init", "-q")
    commit(root)
    for module in (common, gates):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.delenv("PETSET_BASE", raising=False)
    return root


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def no_lint(monkeypatch: pytest.MonkeyPatch, repo: Path) -> Path:
    """The repository, with antsibull-changelog left out: it has no changelog to lint."""
    run = gates.run
    monkeypatch.setattr(gates, "run", lambda argv, **more: "" if argv[0] != "git" else run(argv, **more))
    return repo


@pytest.mark.parametrize("name", ["plugins/modules/a.py", "roles/r/tasks/main.yml", "playbooks/site.yml"])
def test_a_shipped_change_without_a_fragment_is_refused(
    no_lint: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    base = git(no_lint, "rev-parse", "HEAD")
    monkeypatch.setenv("PETSET_BASE", base)
    write(no_lint, name, "x")
    commit(no_lint)
    with pytest.raises(Failed, match=rf"1 shipped files changed since {base[:12]}, {name} the first"):
        gates.gate_changelog()
    write(no_lint, "changelogs/fragments/1-a.yml", "trivial: [x]")
    commit(no_lint)
    assert gates.gate_changelog() == f"since {base[:12]}"


def test_a_change_of_tests_needs_no_fragment(no_lint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PETSET_BASE", git(no_lint, "rev-parse", "HEAD"))
    write(no_lint, "tests/unit/test_a.py", "x")
    commit(no_lint)
    assert gates.gate_changelog()


def test_the_range_starts_at_the_last_release(repo: Path) -> None:
    first = git(repo, "rev-parse", "HEAD")
    assert gates.changelog_base() == git(repo, "hash-object", "-t", "tree", "/dev/null")
    git(repo, "tag", "0.1.0")
    write(repo, "a", "x")
    commit(repo)
    assert git(repo, "rev-parse", gates.changelog_base()) == first


def test_the_range_of_a_branch_starts_where_it_left_origin(repo: Path) -> None:
    first = git(repo, "rev-parse", "HEAD")
    git(repo, "update-ref", "refs/remotes/origin/main", first)
    git(repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    write(repo, "a", "x")
    commit(repo)
    assert gates.changelog_base() == first


def test_copies_hold_what_the_tree_holds(repo: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    write(repo, "plugins/a.py", "1")
    write(repo, "plugins/old/b.py", "2")
    gates.copy_tree(target, common.files_of_tree())
    write(target, "tests/output/kept", "x")
    write(target, ".git/config", "x")
    write(repo, "plugins/a.py", "changed")
    (repo / "plugins/old/b.py").unlink()
    gates.copy_tree(target, common.files_of_tree())
    held = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert held == [".git/config", "README.md", "plugins/a.py", "tests/output/kept"]
    assert (target / "plugins/a.py").read_text() == "changed"
    assert not (target / "plugins/old").exists()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/bin/sh", True),
        ("#!/usr/bin/env bash", True),
        ("#!/bin/dash -e", True),
        ("#!/usr/bin/env python3", False),
        ("#!/usr/bin/fish", False),
        ("echo", False),
    ],
)
def test_is_shell(tmp_path: Path, first: str, expected: bool) -> None:
    (tmp_path / "x").write_text(f"{first}\nexit\n")
    assert gates.is_shell(tmp_path / "x") is expected


def test_pips_settings_reach_the_environments_of_ansible_test() -> None:
    listed = ":env:.cert='/of/env'\nglobal.cert='/of/file'\nglobal.find-links='/a\\n/b'\nfreeze.timeout='10'\n"
    assert gates.render_pip_conf(listed).splitlines() == [
        "[global]",
        "cert = /of/env",
        "find-links = /a",
        "    /b",
        "quiet = 1",
    ]


def test_an_unknown_gate_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gates.main(["rufff"])
    assert "no gate named rufff" in capsys.readouterr().err


def test_a_red_gate_makes_the_run_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def red() -> str:
        raise Failed("the finding")

    monkeypatch.setattr(gates, "GATES", [gates.Gate("green", lambda: ""), gates.Gate("red", red)])
    assert gates.main([]) == 1
    printed = capsys.readouterr().out
    assert "the finding" in printed
    assert gates.main(["green"]) == 0
