# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ``ansible_collections.stateful.petset`` and ``lab`` importable in every test.

From a plain checkout a folder under ``build/`` gets the layout that Ansible wants, by links. Programs started by
tests find it through ``ANSIBLE_COLLECTIONS_PATH``. Under ``ansible-test`` the checkout has that layout already, and
its own loader is left alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = "ansible_collections.stateful.petset"
# What an import or a play may use. Not the whole checkout: build/ would lie inside itself.
LINKED = ("galaxy.yml", "meta", "playbooks", "plugins", "roles", "tests")


def collection_tree(root: Path) -> Path:
    """The folder to put on a search path so that the checkout at ``root`` is found as the collection."""
    if root.parts[-3:] == tuple(COLLECTION.split(".")):
        return root.parents[2]
    tree = root / "build" / "tree"
    folder = tree.joinpath(*COLLECTION.split("."))
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        if (root / name).exists():
            with contextlib.suppress(FileExistsError):  # another run of pytest may be making it too
                (folder / name).symlink_to(os.path.relpath(root / name, folder))
    return tree


def is_importable() -> bool:
    try:
        return importlib.util.find_spec(COLLECTION) is not None
    except ModuleNotFoundError:
        return False


if not is_importable():
    tree = str(collection_tree(ROOT))
    sys.path.insert(0, tree)
    importlib.invalidate_caches()
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = tree
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
