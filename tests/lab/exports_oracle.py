#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the real exportfs what it makes of export files, without touching the machine's own exports.

The program starts itself again in mount and network namespaces of its own. There /etc is a copy, /srv and
/var/lib/nfs are empty, names come from the case's hosts file only, and no nfsd runs, so neither the machine's files
nor its kernel's export table can change. It needs root, util-linux' unshare and Python >= 3.9; nothing is installed.

Input (standard input): a JSON list of questions::

    {"files": [{"name": "/etc/exports.d/x.exports", "text": "..."}],   text as latin-1 of the bytes
     "directories": [...], "hosts": "...", "netgroup": "...", "also": "shell lines"}

Output: a JSON list of ``{"status": int, "stderr": str, "etab": str, "table": [{"path", "client", "options"}]}``,
where table is `exportfs -s` cut into words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXPORTFS = os.environ.get("EXPORTFS", "/usr/sbin/exportfs").split()
QUIET_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
HERE = "/run/exports-oracle"


def sh(*argv: str) -> None:
    """Run one command of the set-up; its failure is the oracle's failure."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def prepare() -> None:
    """Give this mount namespace its own /etc, /srv and /var/lib/nfs."""
    sh("mount", "--make-rprivate", "/")
    os.makedirs(HERE, exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", "mode=0755", "none", HERE)
    sh("cp", "-a", "/etc", HERE + "/etc")
    sh("mount", "--bind", HERE + "/etc", "/etc")
    sh("mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/srv")
    os.makedirs("/var/lib/nfs", exist_ok=True)
    sh("mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/var/lib/nfs")
    Path("/etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\nnetgroup: files\n")
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    Path("/etc/resolv.conf").write_text("")
    if not os.path.exists("/proc/fs/nfsd/export_features"):
        # Without nfsd exportfs believes that the kernel knows no option per flavour; say what a current one says.
        sh("mount", "-t", "tmpfs", "none", "/proc/fs")
        os.makedirs("/proc/fs/nfsd")
        Path("/proc/fs/nfsd/export_features").write_text("0x3feff 0xf\n")


def clear() -> None:
    """Undo what the last question left behind."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1].encode().decode("unicode_escape")
        if target.startswith(("/srv/", "/run/ovlcase")):
            sh("umount", target)
    sh("sh", "-c", "rm -rf /srv/* /run/case-tmpfs /run/ovlcase /etc/exports /etc/exports.d /var/lib/nfs/*")
    os.makedirs("/etc/exports.d")
    Path("/etc/exports").write_text("")


def arrange(question: dict) -> None:
    """Put the files in place."""
    clear()
    for directory in question.get("directories", []):
        os.makedirs(directory, exist_ok=True)
    Path("/etc/hosts").write_text(QUIET_HOSTS + question.get("hosts", ""))
    Path("/etc/netgroup").write_text(question.get("netgroup", ""))
    for one in question.get("files", []):
        Path(one["name"]).write_bytes(one["text"].encode("latin-1"))
    if question.get("also"):
        sh("bash", "-ec", question["also"])


def ask(question: dict) -> dict:
    """Put the files in place, run `exportfs -ra`, read the table back."""
    arrange(question)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    ran = subprocess.run([*EXPORTFS, "-ra"], capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    etab = Path("/var/lib/nfs/etab").read_bytes() if Path("/var/lib/nfs/etab").exists() else b""
    shown = subprocess.run([*EXPORTFS, "-s"], capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    table = []
    for line in shown.stdout.decode("latin-1").splitlines():
        path, _, rest = line.partition("  ")
        client, _, options = rest.partition("(")
        table.append({"path": path, "client": client, "options": options.rstrip(")").split(",")})
    return {
        "status": ran.returncode,
        "stderr": ran.stderr.decode("latin-1"),
        "etab": etab.decode("latin-1"),
        "table": table,
    }


def main() -> None:
    if "--inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "--mount", "--net", sys.executable, os.path.abspath(__file__), "--inside"])
    prepare()
    answers = [ask(question) for question in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
