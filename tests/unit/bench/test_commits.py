# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared differs in its storage alone, and a load that lost rows is no figure."""

from __future__ import annotations

import json

import pytest

from bench.commits import LOCAL_FOLDER, SETS, local_objects, parse_load, variables_of
from bench.figures import LOCAL, OURS, PEER
from tools.common import Failed


def test_only_the_storage_differs() -> None:
    storage = {"petset_nfs_managed", "petset_nfs_server", "petset_nfs_path", "petset_mount_options"} | {
        "petset_storage_class",
        "petset_namespace",
    }
    ours, peer, local = (variables_of(who, "10.0.0.1") for who in (OURS, PEER, LOCAL))
    for other in (peer, local):
        assert {key for key in {*ours, *other} if ours.get(key) != other.get(key)} <= storage
    assert peer["petset_nfs_server"] == "10.0.0.1"
    assert len({one["petset_namespace"] for one in (ours, peer, local)}) == 3


def test_the_local_volume_lies_on_the_node_where_the_pets_are() -> None:
    storage_class, volume = json.loads(local_objects())["items"]
    assert volume["spec"]["storageClassName"] == storage_class["metadata"]["name"]
    assert volume["spec"]["local"]["path"] == LOCAL_FOLDER
    assert volume["metadata"]["name"] == SETS[LOCAL]
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    (expression,) = term["matchExpressions"]
    (node,) = expression["values"]
    assert variables_of(LOCAL, "")["pet_set_node_selector"] == {expression["key"]: node}


def test_commits_a_second() -> None:
    assert parse_load("2000000000 1500 1500\n", 1) == 750.0


@pytest.mark.parametrize("text", ["", "5 10 10 10", "ERROR 1045", "2000000000 1499 1500", "0 10 10"])
def test_a_load_that_lost_rows_is_no_figure(text: str) -> None:
    with pytest.raises(Failed):
        parse_load(text, 8)
