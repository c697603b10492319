# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python is taken, and how Debian's is made to run elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import find_python

HERE = "{}.{}".format(*sys.version_info)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def empty_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Python anywhere, and no unpacking."""
    monkeypatch.delenv("PETSET_PYTHON", raising=False)
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PETSET_CACHE", str(tmp_path / "cache"))


def test_a_python_in_path_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(tmp_path / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    assert find_python.main([HERE]) == 0
    assert capsys.readouterr().out == f"{sys.executable}\n"


def test_the_first_version_asked_for_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for minor in (12, 13):
        script(tmp_path / "bin" / f"python3.{minor}", f"echo 3.{minor}; echo /the/3.{minor}")
    assert find_python.main(["3.13", "3.12"]) == 0
    assert capsys.readouterr().out == "/the/3.13\n"


def test_the_users_choice_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "python3.13", "echo 3.13; echo /from/path")
    own = script(tmp_path / "own", "echo 3.13; echo /own")
    monkeypatch.setenv("PETSET_PYTHON", str(own))
    assert next(filter(None, (find_python.usable(p, "3.13") for p in find_python.candidates("3.13")))) == "/own"


def test_pyenvs_newest_patch_release_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "pyenv"
    for patch in ("3.13.2", "3.13.10"):
        script(root / "versions" / patch / "bin" / "python3", "")
    monkeypatch.setenv("PYENV_ROOT", str(root))
    found = [path for path in find_python.candidates("3.13") if "versions" in path]
    assert [Path(path).parts[-3] for path in found] == ["3.13.10", "3.13.2"]


@pytest.mark.parametrize(
    "text",
    ["echo 'pyenv: python3.13: command not found' >&2; exit 127", "echo 3.12; echo /other", "exit 1"],
    ids=["shim", "other version", "no ensurepip"],
)
def test_what_cannot_make_environments_is_passed_over(tmp_path: Path, text: str) -> None:
    assert find_python.usable(str(script(tmp_path / "bin" / "python3.13", text)), "3.13") is None


def test_none_at_all_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_python.main(["3.99"]) == 1
    assert "no Python 3.99 here; set PETSET_PYTHON" in capsys.readouterr().err


def test_relocation_points_the_program_at_its_own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, final = tmp_path / "tree", Path("/cache/python-3.13")
    script(tree / "usr" / "bin" / "python3.13", "")
    libc = tree / "usr" / "lib" / "some-linux-gnu" / "libc.so.6"
    libc.parent.mkdir(parents=True)
    libc.touch()
    config = tree / "usr" / "lib" / "python3.13" / "_sysconfigdata_x.py"
    config.parent.mkdir()
    config.write_text("  'WHEEL_PKG_DIR': '/usr/share/python-wheels/',\n")
    log = tmp_path / "log"
    script(tmp_path / "bin" / "patchelf", f'[ "$1" = --print-interpreter ] && echo /lib64/ld.so.2 || echo "$@" >{log}')

    find_python.relocate(tree, final, "3.13")

    assert log.read_text().split() == [
        *("--set-interpreter", "/cache/python-3.13/usr/lib64/ld.so.2"),
        *("--force-rpath", "--set-rpath", "/cache/python-3.13/usr/lib/some-linux-gnu"),
        str(tree / "usr" / "bin" / "python3.13"),
    ]
    assert config.read_text() == "  'WHEEL_PKG_DIR': '/cache/python-3.13/usr/share/python-wheels/',\n"
