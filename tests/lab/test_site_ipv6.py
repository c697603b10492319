# SPDX-License-Identifier: GPL-3.0-or-later
"""The site playbook with an NFS server that the nodes reach by an IPv6 address, and exports to the nodes' ones.

Each party writes such an address another way: exports(5) without brackets, the volume too, the mount with them. No
other set may be on the lab: a node that has something mounted from the server already goes on with that connection (NFS
4.1 finds out that both addresses are one server), and so comes from its IPv4 address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .conftest import Lab, wait_for
from .sites import Site, a_site, folder_of

pytestmark = [pytest.mark.lab, pytest.mark.stories]

NAMESPACE = "test-ipv6"
FOLDER = folder_of(NAMESPACE)


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    plan = lab.state.plan
    mounted = "grep -w nfs4 /proc/mounts || true"
    for node in plan.nodes:
        wait_for(f"{node.name} has nothing mounted", lambda name=node.name: not lab.ssh(name, mounted).stdout, 60)
    given = {
        "petset_nfs_server": plan.machine("nfs").ip6,
        "petset_nfs_clients": [node.ip6 for node in plan.nodes],
    }
    with a_site(lab, NAMESPACE, tmp_path_factory.mktemp("ipv6"), **given) as site:
        yield site


def test_a_server_with_an_ipv6_address(lab: Lab, site: Site) -> None:
    site.play("site")
    again = site.play("site")
    assert (again.changes, again.writes) == ([], [])
    server = lab.state.plan.machine("nfs").ip6
    for ordinal, pet in enumerate(site.pets.names):
        path = f"{FOLDER}/mysql/{ordinal}"
        volume = site.pets.get("persistentvolume", f"{NAMESPACE}-mysql-{ordinal}")
        assert (volume["spec"]["nfs"]["server"], volume["spec"]["nfs"]["path"]) == (server, path)
        [mount] = [line for line in site.pets.sh(pet, "cat /proc/mounts").splitlines() if " /var/lib/petset " in line]
        assert mount.split()[0] == f"[{server}]:{path}"
        assert {"proto=tcp6", f"addr={server}"} <= set(mount.split()[3].split(","))
        exported = [line.split("\t") for line in lab.ssh("nfs", "cat /var/lib/nfs/etab").stdout.splitlines()]
        clients = {client.partition("(")[0] for at, client in exported if at == path}
        assert clients == {node.ip6 for node in lab.state.plan.nodes}


def test_status_and_recovery_find_the_volume_where_it_is(lab: Lab, site: Site) -> None:
    server = lab.state.plan.machine("nfs").ip6
    status = site.play("status").output
    assert f"{NAMESPACE}/mysql: healthy" in status
    for ordinal, pet in enumerate(site.pets.names):
        assert re.search(rf"{pet} +ready .* \[?{re.escape(server)}\]?:{FOLDER}/mysql/{ordinal} +yes +yes ", status)
    recovery = site.play("recovery")
    assert (recovery.changes, recovery.writes) == ([], [])
    assert not re.search(r"mysql-\d +\w+ +(wrong|unknown) ", recovery.output), recovery.output


def test_a_pet_mounts_it_again_in_a_new_pod(site: Site) -> None:
    pet = site.pets.names[0]
    old = site.pets.uid(pet)
    site.pets.kubectl("delete", "pod", pet, "--wait=false")
    site.pets.wait_there(dict.fromkeys(site.pets.names, old), [pet])
    site.pets.wait_ready()
    again = site.play("site")
    assert (again.changes, again.writes) == ([], [])
