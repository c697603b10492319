# SPDX-License-Identifier: GPL-3.0-or-later
"""(e): commits a second of one pet on our exports, with the usual playbook's options, and on the node's own disk.

Three sets of one pet each, on the same node, with the same image and the same settings (every commit is flushed, in
the redo log and in the binary log); only what the volume lies on differs. Clients are the image's own ``mysql``, each
with one connection through the pet's socket, so that the network between client and server has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.figures import LOCAL, OURS, PEER
from tools.common import Failed

CLIENTS = (1, 8)
STATEMENTS = {1: 1500, 8: 6000}
NODE = "node-1"
SETS = {OURS: "bench-commits-ours", PEER: "bench-commits-peer", LOCAL: "bench-commits-local"}
FOLDER = "/srv/bench-commits-peer"
LOCAL_FOLDER = "/var/lib/bench-commits-local"
CLASS = "bench-local"

# Opens the pet, as no agent does; prints nanoseconds from the first statement to the last commit, then the rows.
LOAD = r"""
set -u
login() {
    mysql --defaults-extra-file=<(printf '[client]\nuser=root\npassword="%s"\n' "$(cat /petset/secret/root-password)") \
        --socket=/petset/run/mysqld.sock "$@"
}
login -e 'SET GLOBAL read_only = OFF; CREATE DATABASE IF NOT EXISTS petset_bench; DROP TABLE IF EXISTS petset_bench.t;
          CREATE TABLE petset_bench.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, v CHAR(100) NOT NULL)' || exit 1
each=$(($2 / $1))
begin=$(date +%s%N)
for _ in $(seq "$1"); do
    yes "INSERT INTO petset_bench.t (v) VALUES (REPEAT('x', 100));" | head -n "$each" | login &
done
wait
end=$(date +%s%N)
echo $((end - begin)) $(login -N -e 'SELECT COUNT(*) FROM petset_bench.t') $((each * $1))
"""


def variables_of(who: str, server: str) -> Mapping[str, Any]:
    """What the site playbook is given for a set."""
    storages: Mapping[str, Mapping[str, Any]] = {
        OURS: {},
        # The options of bench/peer/templates/volume.yml.j2; the export is made as its template does.
        PEER: {
            "petset_nfs_managed": False,
            "petset_nfs_server": server,
            "petset_nfs_path": FOLDER + "/{ordinal}",
            "petset_mount_options": ["nfsvers=4.2", "hard", "noatime"],
        },
        LOCAL: {"petset_storage_class": CLASS},
    }
    return {
        **storages[who],
        "petset_namespace": SETS[who],
        "petset_replicas": 1,
        "petset_replication": False,
        "petset_agent": False,
        "petset_proxy": False,
        "pet_set_node_selector": {"kubernetes.io/hostname": NODE},
    }


def local_objects() -> str:
    """A class and the one volume of it, on the node's own disk.

    Nobody has its provisioner: the volume is made here. (``kubernetes.io/no-provisioner`` is what pet_volume refuses.)
    """
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    objects = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": CLASS},
            "provisioner": "bench.example/by-hand",
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": SETS[LOCAL]},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": CLASS,
                "local": {"path": LOCAL_FOLDER},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            },
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def parse_load(text: str, count: int) -> float:
    """Commits a second from what LOAD printed. Raises Failed when rows are missing: then it was no fair load."""
    words = text.split()
    if len(words) != 3 or not all(word.isdigit() for word in words):
        raise Failed(f"the load printed {text.strip()!r}, three numbers were expected")
    nanoseconds, rows, wanted = (int(word) for word in words)
    if rows != wanted or not nanoseconds:
        raise Failed(f"{rows} of {wanted} rows are there after the load of {count} clients")
    return rows / (nanoseconds / 1e9)


def measure(lab: Callable[..., str], who: str, count: int) -> float:
    """Commits a second of a set under this many clients."""
    words = ("bash", "-c", LOAD, "load", str(count), str(STATEMENTS[count]))
    return parse_load(lab("kubectl", "-n", SETS[who], "exec", "mysql-0", "-c", "mysqld", "--", *words), count)


def prepare(lab: Callable[..., str], network: str) -> None:
    """The folders, the usual export, and the local volume."""
    owner = "chown 999:999"
    lab("ssh", NODE, f"mkdir -p {LOCAL_FOLDER} && {owner} {LOCAL_FOLDER} && chmod 0750 {LOCAL_FOLDER}")
    line = f"{FOLDER}/0 {network}(rw,sync,no_subtree_check,no_root_squash,fsid=98765)"
    lab(
        "ssh",
        "nfs",
        f"mkdir -p {FOLDER}/0 && {owner} {FOLDER}/0 && chmod 0750 {FOLDER}/0 && "
        f"echo '{line}' > /etc/exports.d/{SETS[PEER]}.exports && exportfs -ra",
    )
    lab("run", "--", "sh", "-c", 'printf %s "$0" | kubectl apply -f -', local_objects())


def remove(lab: Callable[..., str]) -> None:
    """Everything of it, data included: it is the benchmark's own."""
    for namespace in SETS.values():
        lab("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
    volumes = [f"{SETS[OURS]}-mysql-0", f"{SETS[PEER]}-mysql-0", SETS[LOCAL]]
    lab("kubectl", "delete", "pv", *volumes, "--ignore-not-found", "--wait=true")
    lab("kubectl", "delete", "storageclass", CLASS, "--ignore-not-found")
    lab("ssh", NODE, f"rm -rf {LOCAL_FOLDER}")
    paths = f"{FOLDER} /srv/petset/{SETS[OURS]}"
    lab("ssh", "nfs", f"rm -f /etc/exports.d/*bench-commits*; exportfs -ra; for one in {paths}; do rm -rf $one; done")
