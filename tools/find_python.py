#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the path of a Python that virtual environments can be made from.

Usage: tools/find_python.py VERSION...       e.g. tools/find_python.py 3.13 3.14 3.12

Looked at, for each version in turn: ``$PETSET_PYTHON``, PATH, pyenv's versions. ansible-core needs a newer Python
than Debian 12 has, so when none is found the first version that a Debian release carries is unpacked into the cache
and made to run where it lies; that takes about 10 s, once, and changes nothing on the host.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.common import Failed, cache_root, need

PROBE = "import ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
# Which Debian release has which Python.
SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "forky"}


def candidates(version: str) -> Iterator[str]:
    """Paths that may be a Python of this version, best first; they need not exist."""
    if own := os.environ.get("PETSET_PYTHON"):
        yield own
    for folder in os.get_exec_path():
        yield str(Path(folder, f"python{version}"))
        yield str(Path(folder, "python3"))
    for root in (os.environ.get("PYENV_ROOT"), "~/.pyenv"):
        if root:
            found = Path(root).expanduser().glob(f"versions/{version}.*/bin/python3")
            yield from map(str, sorted(found, key=lambda path: patch_of(path.parts[-3]), reverse=True))
    yield str(unpacked(version))


def patch_of(folder: str) -> int:
    """The last number of ``3.13.10``; -1 for a folder that is no plain release, such as ``3.13-dev``."""
    found = re.fullmatch(r"\d+\.\d+\.(\d+)", folder)
    return int(found[1]) if found else -1


def usable(path: str, version: str) -> str | None:
    """The interpreter behind a path when it runs, has the version, and can make virtual environments."""
    if not shutil.which(path):
        return None
    # A pyenv shim exists for versions that it then refuses to start, so only running it tells.
    done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found, executable = done.stdout.splitlines()[:2]
    return executable if found == version else None


def unpacked(version: str) -> Path:
    """Where a Python of this version lies in the cache once ``unpack`` has put it there."""
    return cache_root() / f"python-{version}" / "usr" / "bin" / f"python{version}"


def unpack(version: str) -> Path:
    """Unpack Debian's Python into the cache and point it at its own C library, so that the host's may be older."""
    from lab.debian import MERGED_USR, mmdebstrap

    python = unpacked(version)
    final = python.parents[2]
    final.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{final}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.exists():
            return python
        need("mmdebstrap", "patchelf")
        print(f"find_python: unpacking Python {version} of Debian {SUITES[version]} to {final}", file=sys.stderr)
        tree = Path(f"{final}.partial")
        shutil.rmtree(tree, ignore_errors=True)
        packages = [f"python{version}", f"python{version}-venv"]
        mmdebstrap(tree, suite=SUITES[version], variant="extract", include=packages, hooks=[MERGED_USR])
        relocate(tree, final, version)
        tree.rename(final)
    return python


def relocate(tree: Path, final: Path, version: str) -> None:
    """Make the Python in ``tree`` run once the tree is at ``final``.

    The loader is named by an absolute path in the program. An RPATH (not a RUNPATH) of the program also holds for
    the libraries that extension modules ask for. Debian's ensurepip takes its wheels from a fixed folder.
    """
    program = tree / "usr" / "bin" / f"python{version}"
    loader = subprocess.run(["patchelf", "--print-interpreter", program], check=True, text=True, capture_output=True)
    libc = next((tree / "usr" / "lib").glob("*/libc.so.6"))
    subprocess.run(
        [
            *("patchelf", "--set-interpreter", final / "usr" / loader.stdout.strip().lstrip("/")),
            *("--force-rpath", "--set-rpath", final / libc.parent.relative_to(tree)),
            program,
        ],
        check=True,
    )
    for config in (tree / "usr" / "lib" / f"python{version}").glob("_sysconfigdata_*.py"):
        if not config.is_symlink():
            text = config.read_text()
            config.write_text(re.sub(r"('WHEEL_PKG_DIR': ')", rf"\1{final}", text))


def main(versions: list[str]) -> int:
    """Print the first that serves; the exit status says whether there was one."""
    for version in versions:
        for path in candidates(version):
            if found := usable(path, version):
                print(found)
                return 0
    try:
        for version in versions:
            if version in SUITES and (found := usable(str(unpack(version)), version)):
                print(found)
                return 0
    except Failed as failure:
        print(f"find_python: {failure}", file=sys.stderr)
    print(f"find_python: no Python {' or '.join(versions)} here; set PETSET_PYTHON to one", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
