# SPDX-License-Identifier: GPL-3.0-or-later
"""Pets come back as who they were: deleted one by one, all at once, or with the power of their node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.pets import Pets

Identities = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def before(pets: Pets, nfs: Any) -> Identities:
    """Who the pets are, with a row in each that no other pet has."""
    for pet in pets.names:
        pets.write_marker(pet, f"written on {pet}")
    return look(pets, nfs)


def look(pets: Pets, nfs: Any) -> Identities:
    """All that has to stay."""
    found = {pet: {**pets.identity(pet), "row": pets.read_marker(pet)} for pet in pets.names}
    # Number, owner and mode of each directory, and the identity file that the pet wrote there.
    ask = "stat -c '%i %u:%g %a' {path}; cat {path}/.petset-identity.json; echo ---"
    seen = nfs.check_output("; ".join(ask.format(path=one["path"]) for one in found.values()))
    return {pet: {**found[pet], "directory": part.strip()} for pet, part in zip(found, seen.split("---"), strict=False)}


def come_back(pets: Pets, nfs: Any, before: Identities, old: Mapping[str, str], gone: Sequence[str]) -> None:
    """Wait for new pods in the place of some; all pets are then who they were, and find each other by their names."""
    pets.wait_there(old, gone)
    pets.wait_ready()
    new = uids(pets)
    assert {pet for pet in pets.names if new[pet] != old[pet]} == set(gone)
    now = look(pets, nfs)
    assert now == before
    assert [(one["ordinal"], one["row"]) for one in now.values()] == [
        (str(ordinal), f"written on {pet}") for ordinal, pet in enumerate(pets.names)
    ]
    version = pets.version(pets.names[0])
    for pet in pets.names:
        assert [version in greeting for greeting in pets.greetings(pet)] == [True] * len(pets.names)


def uids(pets: Pets) -> dict[str, str]:
    return {pet: pets.uid(pet) for pet in pets.names}


def test_pets_differ_in_all_that_is_to_be_kept(before: Identities) -> None:
    first, second = before.values()
    assert not [key for key in first if first[key] == second[key]]


@pytest.mark.parametrize("gone", [["mysql-0"], ["mysql-0", "mysql-1"]], ids=["one", "both"])
def test_deleted_pets_come_back(pets: Pets, nfs: Any, before: Identities, gone: list[str]) -> None:
    old = uids(pets)
    pets.kubectl("delete", "pod", *gone, "--wait=false")
    come_back(pets, nfs, before, old, gone)


def test_rp_sts_06_a_pet_comes_back_with_the_power_of_its_node(
    pets: Pets, nfs: Any, before: Identities, power: Callable[[str, str], None]
) -> None:
    """Nothing is put in the pet's place while nobody can know whether it still writes; and that is said."""
    stays, goes = pets.names
    old = uids(pets)
    node = pets.get("pod", goes)["spec"]["nodeName"]
    power("off", node)
    try:
        pets.wait_node(node, ready=False)
        # As the control plane does some minutes later by itself.
        pets.kubectl("delete", "pod", goes, "--wait=false")
        assert f"waiting for node {node}, pet {goes} not replaced" in pets.status()
        assert pets.read_marker(stays) == f"written on {stays}"
        assert uids(pets) == old
    finally:
        power("on", node)
    come_back(pets, nfs, before, old, [goes])
