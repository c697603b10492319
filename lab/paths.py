# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things, and how costly things are built once.

Cache: what is slow to build, keyed by what it is built from, shared by all labs, safe to delete when no lab is up.
State: one folder for each lab, on disk, so that ``down`` finds what a crashed session left.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.log import step

REPO = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """``$PETSET_LAB_CACHE``, else ``$XDG_CACHE_HOME/stateful-petset-lab``, else the same under ``~/.cache``."""
    if own := os.environ.get("PETSET_LAB_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stateful-petset-lab"


def state_root() -> Path:
    """``$PETSET_LAB_STATE``, else ``/var/lib/petset-lab``."""
    return Path(os.environ.get("PETSET_LAB_STATE") or "/var/lib/petset-lab")


def key_of(*inputs: object) -> str:
    """A short stable key of the inputs (anything that JSON can hold)."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file while inside; it falls with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # `down` takes its lab's file away: a lock on that one would be a lock that nobody else sees
            if _is_at(handle.fileno(), path):
                yield
                return


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_cached(kind: str, key: str) -> bool:
    """Whether :func:`cached` would have nothing to build."""
    return (cache_root() / f"{kind}-{key}").is_dir()


def cached(kind: str, key: str, what: str, build: Callable[[Path], None]) -> Path:
    """The folder ``<cache>/<kind>-<key>``, built by ``build(empty folder)`` if it is not there yet.

    Built beside and renamed when complete: a killed build leaves nothing that looks finished, and two builders of
    one thing wait for each other.
    """
    final = cache_root() / f"{kind}-{key}"
    if final.is_dir():
        return final
    with locked(cache_root() / f".{kind}-{key}.lock"):
        if final.is_dir():
            return final
        partial = cache_root() / f".{kind}-{key}.partial"
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        with step(what):
            build(partial)
        partial.rename(final)
    return final
