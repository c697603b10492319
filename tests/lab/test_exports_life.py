# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up of an NFS server that is killed at every task, on a machine without one and on one with other settings.

The server is stopped and restarted here, so no set may run on the lab. What is exported is two folders without pets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab
from .sites import Play, Site, a_site, drop_in_of, folder_of

pytestmark = [pytest.mark.lab, pytest.mark.stories]

NAMESPACE = "test-exports-life"
FOLDER = folder_of(NAMESPACE)
DROP_IN = drop_in_of(NAMESPACE)
# The play for the NFS server alone. Clients of sets that are gone may still be on the server's list.
EXPORTS = ("--limit", "nfs_servers")
ALWAYS: dict[str, Any] = {"nfs_exports_restart": "always"}
# Not the number that the server has by itself.
OTHER_THREADS = {**ALWAYS, "nfs_exports_threads": 11}
# Seconds into a task: before its module has begun, and in the middle of its work.
MOMENTS = {
    "Install the NFS server (Debian)": (0.0, 2.0),
    "Export the directories": (0.0, 1.2),
    "Restart the service for its new settings": (0.0, 0.5),
}
# Other sets' drop-ins stay as they are.
WITHOUT_SETTINGS = f"""
rm -f {DROP_IN} /etc/nfs.conf.d/petset.conf /etc/sysctl.d/60-petset-nfs.conf
rm -rf {FOLDER}
exportfs -ra
echo 1 > /proc/sys/fs/leases-enable
"""
# Without a setting the kernel keeps the times that it was told last, and takes others only while the server is stopped.
AS_DISTRIBUTED = """
systemctl stop nfs-server
echo 90 > /proc/fs/nfsd/nfsv4leasetime
echo 90 > /proc/fs/nfsd/nfsv4gracetime
systemctl start nfs-server
test $(cat /proc/fs/nfsd/threads) -gt 0
test $(cat /proc/fs/nfsd/nfsv4leasetime) = 90
"""
INSTALL = "export DEBIAN_FRONTEND=noninteractive; dpkg --configure -a; apt-get -q -y install nfs-kernel-server"


@pytest.fixture(scope="module")
def site(nfs_server: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_site(nfs_server, NAMESPACE, tmp_path_factory.mktemp("exports-life")) as site:
        try:
            yield site
            # What the next tests find is a server with the usual settings,
            site.play("site", *EXPORTS, **ALWAYS)
        finally:
            # and after a failure one that runs.
            assert nfs_server.ssh("nfs", f"{INSTALL}; systemctl start nfs-server", timeout_s=300).rc == 0


def prepare(site: Site, script: str) -> None:
    done = site.lab.ssh("nfs", WITHOUT_SETTINGS + script, timeout_s=300)
    assert done.rc == 0, done.stderr


def names_of(play: Play) -> list[str]:
    return [task.rpartition(" : ")[2] for _host, name, task, _actions in play.changes if "Check" not in name]


def tasks(*names: str) -> list[tuple[str, str]]:
    return [("Exports", f"stateful.petset.nfs_exports : {name}") for name in names]


def must_be_set_up(site: Site, threads: int) -> None:
    """What the machine itself says; a server that would only after its next start do what it should is found here."""
    look = (
        "cat /proc/fs/nfsd/nfsv4leasetime /proc/fs/nfsd/nfsv4gracetime /proc/sys/fs/leases-enable; "
        "systemctl is-active nfs-server; systemctl is-enabled nfs-server; "
        "grep ^threads= /etc/nfs.conf.d/petset.conf; grep -c ^fs.leases-enable /etc/sysctl.d/60-petset-nfs.conf; "
        f"stat -c %u:%g:%a {FOLDER}/mysql/0 {FOLDER}/mysql/1"
    )
    done = site.lab.ssh("nfs", look)
    assert done.rc == 0, done.stderr
    server = ["30", "30", "0", "active", "enabled", f"threads={threads}", "1"]
    assert done.stdout.split() == [*server, *["999:999:750"] * 2]
    versions = site.lab.ssh("nfs", "cat /proc/fs/nfsd/versions").stdout.split()
    assert {"+4.1", "+4.2"} <= set(versions)
    assert not {"+3", "+4.0"} & set(versions)
    nodes = {node.ip for node in site.lab.state.plan.nodes}
    exported = [line.split("\t") for line in site.lab.ssh("nfs", "cat /var/lib/nfs/etab").stdout.splitlines()]
    own = {(path, clients.partition("(")[0]) for path, clients in exported if path.startswith(f"{FOLDER}/")}
    assert own == {(f"{FOLDER}/mysql/{ordinal}", node) for ordinal in (0, 1) for node in nodes}


def test_a_fresh_server_whose_set_up_is_killed_at_every_task_is_caught_up_with(site: Site) -> None:
    prepare(site, "DEBIAN_FRONTEND=noninteractive apt-get -q -y remove nfs-kernel-server; test ! -e /usr/sbin/exportfs")
    work = ["Write the settings of the server", "Install the NFS server (Debian)", "Export the directories"]
    assert set(work) <= set(names_of(site.play("site", "--check", *EXPORTS, **ALWAYS)))
    # The package starts the service; that it did is looked at all the same.
    walk = tasks(*work[:2], "Start the service", work[2])
    killed = site.kill_at_each(walk, MOMENTS, *EXPORTS, **ALWAYS)
    assert {name for name, _after_s in killed} >= set(work), killed
    assert ("Install the NFS server (Debian)", 2.0) in killed
    site.play("site", *EXPORTS, **ALWAYS)
    must_be_set_up(site, threads=16)
    assert site.play("site", *EXPORTS, **ALWAYS).changes == []


def test_a_running_server_whose_new_settings_are_killed_at_every_task_is_caught_up_with(site: Site) -> None:
    prepare(site, AS_DISTRIBUTED)
    work = [
        "Give the running server its new number of threads",
        "Write the settings of the server",
        "Write down that the server hands out no delegations",
        "Hand out no delegations from now on",
        "Export the directories",
        "Restart the service for its new settings",
    ]
    foretold = names_of(site.play("site", "--check", *EXPORTS, **OTHER_THREADS))
    assert [name for name in foretold if name in work] == work
    restart = work[-1]
    killed = site.kill_at_each(tasks(*work), {restart: MOMENTS[restart]}, *EXPORTS, **OTHER_THREADS)
    assert {name for name, _after_s in killed} == set(work), killed
    site.play("site", *EXPORTS, **OTHER_THREADS)
    must_be_set_up(site, threads=11)
    assert site.play("site", *EXPORTS, **OTHER_THREADS).changes == []
