# SPDX-License-Identifier: GPL-3.0-or-later
"""What the site playbook has made, seen from the NFS server, the API and inside of the pets."""

from __future__ import annotations

import base64
from typing import Any

from tests.pets import Pets


def test_the_server_exports_a_directory_for_each_pet(nfs: Any, pets: Pets) -> None:
    assert nfs.service("nfs-server").is_enabled
    assert nfs.socket("tcp://0.0.0.0:2049").is_listening
    table = nfs.check_output("cat /var/lib/nfs/etab")
    for ordinal in range(len(pets.names)):
        path = f"/srv/petset/{pets.namespace}/mysql/{ordinal}"
        assert f"{path}\t" in table
        folder = nfs.file(path)
        assert (folder.is_directory, folder.uid, folder.gid, oct(folder.mode)) == (True, 999, 999, "0o750")
        assert nfs.file(f"{path}/.petset-identity.json").contains(f'"ordinal": {ordinal},')


def test_the_server_speaks_version_4_1_and_later_only(nfs: Any) -> None:
    versions = nfs.check_output("cat /proc/fs/nfsd/versions").split()
    assert {"-3", "-4.0", "+4.1"} <= set(versions)


def test_volumes_and_claims_are_bound_by_ordinal(pets: Pets) -> None:
    for ordinal, pet in enumerate(pets.names):
        found = pets.identity(pet)
        assert found["claims"] == [f"db-mysql-{ordinal}"]
        assert found["volume"] == f"{pets.namespace}-mysql-{ordinal}"
        assert found["path"] == f"/srv/petset/{pets.namespace}/mysql/{ordinal}"
        volume = pets.get("persistentvolume", found["volume"])
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert volume["status"]["phase"] == "Bound"


def test_pets_run_on_different_nodes_without_privileges(pets: Pets) -> None:
    pods = [pets.get("pod", pet) for pet in pets.names]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == len(pods)
    for pod in pods:
        for container in pod["spec"]["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["readOnlyRootFilesystem"] is True
    assert pets.sh("mysql-0", "id -u; id -g").split() == ["999", "999"]


def test_the_data_lie_on_nfs_mounted_hard(pets: Pets) -> None:
    for pet in pets.names:
        mounts = pets.sh(pet, "cat /proc/self/mounts")
        [line] = [line.split() for line in mounts.splitlines() if line.split()[1] == "/var/lib/petset"]
        assert line[2] == "nfs4"
        options = set(line[3].split(","))
        assert {"hard", "proto=tcp", "rw", "noatime"} <= options
        assert not {"soft", "nolock"} & options
        assert pets.sql(pet, "SELECT @@datadir") == "/var/lib/petset/data/"


def test_pets_reach_each_other_by_their_short_names(pets: Pets) -> None:
    addresses = {pet: pets.get("pod", pet)["status"]["podIP"] for pet in pets.names}
    for here in pets.names:
        for there in pets.names:
            answer = pets.sh(here, f"getent ahosts {there}.db").split()
            assert answer[0] == addresses[there]
            assert pets.version(there) in pets.greeting(here, there)


def test_each_pet_is_a_server_of_its_own(pets: Pets) -> None:
    rows = [
        pets.sql(pet, "SELECT @@server_id, @@auto_increment_offset, @@auto_increment_increment") for pet in pets.names
    ]
    assert [row.split() for row in rows] == [["1000", "1", "2"], ["1001", "2", "2"]]
    assert len({pets.sql(pet, "SELECT @@server_uuid") for pet in pets.names}) == len(pets.names)


def test_no_password_is_seen_from_outside_of_the_secret(pets: Pets) -> None:
    secret = pets.get("secret", "mysql-secret")
    passwords = [base64.b64decode(value).decode() for key, value in secret["data"].items() if key.endswith("password")]
    assert len(passwords) >= 4
    seen = pets.kubectl("get", "pods,configmaps,statefulsets,events", "--output=yaml")
    seen += "".join(pets.kubectl("logs", pet, "--all-containers") for pet in pets.names)
    seen += "".join(pets.sh(pet, "cat /proc/[0-9]*/cmdline /proc/1/environ | tr '\\000' ' '") for pet in pets.names)
    assert not [password for password in passwords if password in seen]
