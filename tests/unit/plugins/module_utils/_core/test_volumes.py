# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import volumes
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from hypothesis import given
from hypothesis import strategies as st

CASES = Path(__file__).parents[3] / "cases" / "reports"
VOL_01: list[str] = yaml.safe_load((CASES / "rp-vol-01.yml").read_text())["inputs"]
VOL_08: list[str] = yaml.safe_load((CASES / "rp-vol-08.yml").read_text())["inputs"]
NFS = {"server": "nfs.example.com", "path": "/srv/{namespace}/{set}/{ordinal}"}


def params(**changes: Any) -> dict[str, Any]:
    base = {"set": "mysql", "namespace": "default", "replicas": 2, "capacity": "1Gi", "nfs": dict(NFS)}
    return {**base, **changes}


def refused(**changes: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as problem:
        volumes.parse_volume_set(params(**changes))
    return problem.value


def test_the_names_of_the_article() -> None:
    wanted = volumes.parse_volume_set(params())
    assert [(pet.claim, pet.volume, str(pet.source)) for pet in wanted.pets] == [
        ("db-mysql-0", "default-mysql-0", "nfs.example.com:/srv/default/mysql/0"),
        ("db-mysql-1", "default-mysql-1", "nfs.example.com:/srv/default/mysql/1"),
    ]


@pytest.mark.parametrize("text", VOL_01)
def test_rp_vol_01_one_spelling_for_every_address(text: str) -> None:
    stored, warning = volumes.parse_server("nfs.server", text)
    expected = "fe80::1%eth0" if "%" in text else "2001:db8::10"
    assert stored == expected
    assert bool(warning) == ("%" in text)
    assert volumes.canonical_server(f"[{stored}]") == stored


def test_rp_vol_01_brackets_only_where_a_path_follows() -> None:
    assert str(volumes.NfsSource("2001:db8::10", "/srv/x")) == "[2001:db8::10]:/srv/x"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " nfs",
        "nfs ",
        "nfs:/srv",
        "nfs/srv",
        "nfs://x",
        "10.0.0.300",
        "10.0.0",
        "[::1",
        "::g",
        "a..b",
        "-x",
        "ü.de",
        None,
    ],
)
def test_servers_that_are_refused(text: Any) -> None:
    with pytest.raises(InvalidInput, match=r"nfs\.server"):
        volumes.parse_server("nfs.server", text)


def test_names_are_one_in_every_spelling() -> None:
    assert volumes.parse_server("x", "NFS.Example.com.")[0] == "nfs.example.com"
    assert volumes.parse_server("x", "nfs_1")[0] == "nfs_1"


@pytest.mark.parametrize("path", VOL_08)
def test_rp_vol_08_paths(path: str) -> None:
    good = {"/srv/my data": "/srv/my data", "/srv/x/": "/srv/x", "/srv//x": "/srv/x"}
    if path in good:
        assert volumes.parse_export_path("nfs.path", path) == good[path]
        return
    with pytest.raises(InvalidInput) as problem:
        volumes.parse_export_path("nfs.path", path)
    assert "nfs.path" in str(problem.value)
    assert repr(path) in str(problem.value)


@pytest.mark.parametrize("path", ["/", "//", "/srv/./x", "/srv/x\n", "/srv/\x00", "/" + "x" * 5000, None])
def test_more_paths_that_are_refused(path: Any) -> None:
    with pytest.raises(InvalidInput):
        volumes.parse_export_path("nfs.path", path)


def test_rp_vol_04_volume_names_that_clash() -> None:
    pets = [{"ordinal": 0, "volume": "same"}, {"ordinal": 1, "volume": "same"}]
    problem = refused(pets=pets)
    assert "mysql-0 and mysql-1 would share a volume" in str(problem)
    assert "'same'" in str(problem)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/srv/a"}, {"path": "/srv/a/"}),
        ({"path": "/srv/a"}, {"path": "/srv/a/b"}),
        ({"path": "/srv/a/b"}, {"path": "/srv//a"}),
        ({"path": "/srv/a", "server": "2001:db8::1"}, {"path": "/srv/a", "server": "[2001:DB8:0::1]"}),
        ({"path": "/srv/a", "server": "NFS.example.com"}, {"path": "/srv/a"}),
    ],
)
def test_rp_vol_09_two_pets_in_one_directory(one: dict[str, str], other: dict[str, str]) -> None:
    problem = refused(pets=[{"ordinal": 0, **one}, {"ordinal": 1, **other}])
    assert "would share files" in str(problem)
    assert "mysql-0" in str(problem)
    assert "mysql-1" in str(problem)


def test_rp_vol_09_the_same_path_on_another_server_is_in_doubt() -> None:
    wanted = volumes.parse_volume_set(params(pets=[{"ordinal": 1, "server": "other", "path": "/srv/default/mysql/0"}]))
    assert [(a.name, b.name) for a, b in volumes.server_clashes(wanted.pets)] == [("mysql-0", "mysql-1")]


def test_names_that_only_begin_alike_do_not_overlap() -> None:
    assert not volumes.overlap("/srv/a", "/srv/ab")
    assert volumes.overlap("/srv/a", "/srv/a")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("soft", "use hard"),
        ("softerr", "use hard"),
        ("nolock", "one node only"),
        ("local_lock=all", "one node only"),
        ("local_lock=flock", "one node only"),
        ("udp", "proto=tcp"),
        ("proto=udp", "proto=tcp"),
        ("nfsvers=3", "4.1 and 4.2"),
        ("vers=4", "4.1 and 4.2"),
        ("nfsvers=4.0", "4.1 and 4.2"),
        ("v3", "version 3"),
        ("minorversion=1", "write nfsvers"),
        ("bg", "background"),
        ("ro", "write"),
        ("noac", "synchronous"),
        ("actimeo=0", "synchronous"),
        ("nconnect=17", "1 to 16"),
        ("timeo=0", "above 0"),
        ("hard,nolock", "not one mount option"),
        ("hard nolock", "not one mount option"),
        ("", "not one mount option"),
    ],
)
def test_rp_vol_09_mount_options_that_endanger_data(option: str, reason: str) -> None:
    problem = refused(nfs={**NFS, "mount_options": ["nfsvers=4.2", option]})
    assert reason in str(problem)
    assert problem.subject == "nfs.mount_options"


@pytest.mark.parametrize(
    "options",
    [["nfsvers=4.1", "vers=4.2"], ["nfsvers=4.1", "atime", "noatime"], ["nfsvers=4.2", "proto=tcp", "proto=rdma"]],
)
def test_mount_options_that_contradict_each_other(options: list[str]) -> None:
    assert "contradicts" in str(refused(nfs={**NFS, "mount_options": options}))


@pytest.mark.parametrize(
    ("server", "option", "allowed"),
    [
        ("2001:db8::10", "proto=tcp", "proto=tcp6"),
        ("[2001:db8::10]", "proto=rdma", "proto=rdma6"),
        ("192.0.2.10", "proto=tcp6", "proto=tcp"),
        ("192.0.2.10", "mountproto=rdma6", "mountproto=rdma"),
    ],
)
def test_a_transport_of_the_other_address_family_is_refused(server: str, option: str, allowed: str) -> None:
    """mount.nfs said 'Failed to resolve server ...: Address family for hostname not supported', for ever."""
    given = {**NFS, "server": server, "mount_options": ["nfsvers=4.1", option]}
    assert f"Allowed: {allowed}" in str(refused(nfs=given))
    for other in ("nfs.example.com", "2001:db8::10" if "6" in option else "192.0.2.10"):
        assert option in volumes.parse_volume_set(params(nfs={**given, "server": other})).mount_options


def test_a_pet_on_an_ipv6_address_mounts_over_it() -> None:
    """Without options of the user each volume gets the transport that mount.nfs takes for its server."""
    wanted = volumes.parse_volume_set(params(pets=[{"ordinal": 1, "server": "2001:db8::10", "path": "/srv/b"}]))
    first, second = (volumes.volume_manifest(wanted, pet)["spec"]["mountOptions"] for pet in wanted.pets)
    assert first == list(volumes.DEFAULT_MOUNT_OPTIONS)
    assert second == [one.replace("proto=tcp", "proto=tcp6") for one in first]
    chosen = volumes.parse_volume_set(params(nfs={**NFS, "mount_options": ["nfsvers=4.2", "hard"]}))
    assert volumes.mount_options_of(chosen, chosen.pets[0]) == ("nfsvers=4.2", "hard")


@pytest.mark.parametrize("options", [[], ["hard"]])
def test_mount_options_without_a_version(options: list[str]) -> None:
    assert "version is missing" in str(refused(nfs={**NFS, "mount_options": options}))


def test_the_default_mount_options_pass_their_own_rules() -> None:
    assert volumes.parse_mount_options("x", list(volumes.DEFAULT_MOUNT_OPTIONS)) == volumes.DEFAULT_MOUNT_OPTIONS
    assert volumes.parse_mount_options("x", ["vers=4.2", "nconnect=4", "sec=krb5p"]) == (
        "vers=4.2",
        "nconnect=4",
        "sec=krb5p",
    )


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"nfs": None}, "nfs"),
        ({"storage_class": "fast"}, "nfs"),
        ({"nfs": None, "storage_class": "Fast"}, "storage_class"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"ordinals": []}, "ordinals"),
        ({"ordinals": [1, 1]}, "ordinals"),
        ({"start": 9999}, "start + replicas"),
        ({"set": "my.sql"}, "set"),
        ({"set": "x" * 53}, "set"),
        ({"namespace": "Shop"}, "namespace"),
        ({"capacity": None}, "capacity"),
        ({"capacity": "010"}, "capacity"),
        ({"capacity": "1GB"}, "capacity"),
        ({"nfs": {"server": "x", "path": "/srv/{set}"}}, "nfs.path"),
        ({"nfs": {"server": "x", "path": "srv/{ordinal}"}}, "nfs.path"),
        ({"nfs": {"server": "x", "path": "/srv/{pod}"}}, "nfs.path"),
        ({"volume_pattern": "vol"}, "volume_pattern"),
        ({"volume_pattern": "Vol-{ordinal}"}, "volume_pattern"),
        ({"access_mode": "ReadWriteOncePod"}, "access_mode"),
        ({"pets": [{"ordinal": 5}]}, "pets[].ordinal"),
        ({"pets": [{"ordinal": 0}, {"ordinal": 0}]}, "pets[].ordinal"),
        ({"pets": [{"ordinal": 1, "capacity": "1gi"}]}, "pets[1].capacity"),
        ({"pets": [{"ordinal": 1, "server": "a b"}]}, "pets[1].server"),
        ({"pets": [{"ordinal": 1, "path": "/../x"}]}, "pets[1].path"),
        ({"pets": [{"ordinal": 1, "volume": "A"}]}, "pets[1].volume"),
        ({"labels": {"a b": "x"}}, "labels (key)"),
        ({"claim_template": "d.b"}, "claim_template"),
    ],
)
def test_bad_input_names_the_option(changes: dict[str, Any], subject: str) -> None:
    assert refused(**changes).subject == subject


def test_removal_needs_neither_back_end_nor_capacity() -> None:
    wanted = volumes.parse_volume_set({"set": "mysql", "namespace": "default", "ordinals": [2]}, present=False)
    assert [pet.claim for pet in wanted.pets] == ["db-mysql-2"]


def test_rp_vol_03_the_class_is_always_written_on_both() -> None:
    wanted = volumes.parse_volume_set(params())
    for manifest in (volumes.volume_manifest(wanted, wanted.pets[0]), volumes.claim_manifest(wanted, wanted.pets[0])):
        assert manifest["spec"]["storageClassName"] == ""


def test_rp_vol_04_both_point_to_each_other() -> None:
    wanted = volumes.parse_volume_set(params())
    for pet in wanted.pets:
        volume, claim = volumes.volume_manifest(wanted, pet), volumes.claim_manifest(wanted, pet)
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        ref = volume["spec"]["claimRef"]
        assert (ref["namespace"], ref["name"]) == (claim["metadata"]["namespace"], claim["metadata"]["name"])
        assert "uid" not in ref
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_claims_of_a_class_name_no_volume() -> None:
    wanted = volumes.parse_volume_set(params(nfs=None, storage_class="fast", access_mode="ReadWriteOncePod"))
    manifest = volumes.claim_manifest(wanted, wanted.pets[0])
    assert "volumeName" not in manifest["spec"]
    assert manifest["spec"]["storageClassName"] == "fast"
    with pytest.raises(ValueError, match="no volume of its own"):
        volumes.volume_manifest(wanted, wanted.pets[0])


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "my data", "{ordinal}"]), max_size=6))
def test_paths_that_are_taken_are_their_own_canonical_form(parts: list[str]) -> None:
    try:
        path = volumes.parse_export_path("x", "/" + "/".join(parts))
    except InvalidInput:
        return
    assert volumes.parse_export_path("x", path) == path
    assert ".." not in path.split("/")
    assert "//" not in path


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_has_one_spelling(address: Any) -> None:
    forms = {str(address), address.exploded, f"[{address}]", address.exploded.upper()}
    assert {volumes.parse_server("x", form)[0] for form in forms} == {str(address)}


@given(st.ip_addresses(v=6), st.sampled_from(["/srv/A", "/srv//A/", "//srv/A"]))
def test_rp_vol_09_every_spelling_of_an_export_is_one(address: Any, path: str) -> None:
    plain = f"[{address}]:/srv/A"
    for form in (str(address), address.exploded, f"[{address.exploded.upper()}]"):
        assert volumes.canonical_export(f"{form}:{path}") == plain
    assert volumes.canonical_export(f"NFS.Example.com.:{path}") == "nfs.example.com:/srv/A"
    assert volumes.canonical_export(plain) == plain


@pytest.mark.parametrize("text", ["", "/dev/sdb", ":/srv", "nfs", "tmpfs", "fd00::1"])
def test_what_is_no_export_stays_as_it_is(text: str) -> None:
    assert volumes.canonical_export(text) == text
