# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds


def test_paths() -> None:
    assert kinds.POD.path("shop", "mysql-0") == "/api/v1/namespaces/shop/pods/mysql-0"
    assert kinds.POD.path("shop", "mysql-0", "log") == "/api/v1/namespaces/shop/pods/mysql-0/log"
    assert kinds.POD.path() == "/api/v1/pods"
    assert kinds.STATEFUL_SET.path("shop") == "/apis/apps/v1/namespaces/shop/statefulsets"
    assert kinds.PERSISTENT_VOLUME.path(None, "a") == "/api/v1/persistentvolumes/a"
    assert kinds.PERSISTENT_VOLUME.path("ignored", "a") == "/api/v1/persistentvolumes/a"


def test_paths_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        kinds.POD.path(None, "mysql-0")
    with pytest.raises(ValueError, match="needs a name"):
        kinds.POD.path("shop", None, "log")


def test_references() -> None:
    manifest = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a", "namespace": "b"}}
    assert str(kinds.ref_of(manifest)) == "PersistentVolumeClaim b/a"
    with pytest.raises(ValueError, match=r"no metadata\.name"):
        kinds.ref_of({"apiVersion": "v1", "kind": "Pod"})
    with pytest.raises(ValueError, match="is not a kind"):
        kinds.kind_of({"apiVersion": "v2", "kind": "Pod"})


def test_no_two_kinds_share_a_path() -> None:
    paths = [kind.path() for kind in kinds.all_kinds()]
    assert len(paths) == len(set(paths)) > 20
