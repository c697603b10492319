# SPDX-License-Identifier: GPL-3.0-or-later
"""The pets' own start-up in a tree arranged as the vendor's images mysql:8.4 and mysql:9.7, with a real mysqld.

Their base is Oracle Linux slim, without python, and with few programs. What is known to be there is what their recipe
installs or runs itself (docker-library/mysql, Dockerfile.oracle: bash as sh, coreutils, grep, sed, findutils, openssl,
the packers); all other programs are taken away here, util-linux with flock and awk among them. Their entrypoint is
there, and must not run.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import render_statefulset
from ansible_collections.stateful.petset.tests.unit.fakes.pets import spec_with

from lab.images import images_key
from lab.paths import cached, key_of
from tests.lab.test_boot import PASSWORDS, Pod, unpack

pytestmark = [
    pytest.mark.api,
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and uid 999 need root"),
]

COREUTILS = """
[ arch b2sum base32 base64 basename basenc cat chcon chgrp chmod chown chroot cksum comm cp csplit cut date dd df dir
dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id install join link ln logname ls
md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk pinky pr printenv printf ptx pwd
readlink realpath rm rmdir runcon seq sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat
stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir
wc who whoami yes
"""
OTHERS = """
bash sh grep egrep fgrep sed find xargs openssl gzip gunzip zcat
mysqld mysql mysqladmin mysqldump docker-entrypoint.sh
"""
KEPT = frozenset((COREUTILS + OTHERS).split())
REF = "mysql-official:9.7"


def build(target: Path) -> None:
    unpack(target, REF)
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"):
        for path in (target / folder).iterdir():
            if path.name not in KEPT:
                path.unlink()
    (target / "usr/bin/sh").unlink()
    (target / "usr/bin/sh").symlink_to("bash")
    # Whoever runs it leaves a trace.
    ran = target / "docker-entrypoint-initdb.d/ran.sh"
    ran.write_text("#!/bin/bash\necho ran > /var/lib/mysql/initdb-ran\n")
    ran.chmod(0o755)


@pytest.fixture(scope="module")
def tree() -> Path:
    key = key_of(images_key(), sorted(KEPT), Path(__file__).read_text())
    return cached("official-tree", key, f"arrange {REF} as the vendor's image", build)


class Official(Pod):
    """A pod whose containers run the command lines of the set's manifest."""

    template = render_statefulset(spec_with())["spec"]["template"]["spec"]

    @property
    def commands(self) -> dict[str, list[str]]:
        return {one["name"]: one["command"] for kind in ("initContainers", "containers") for one in self.template[kind]}

    def prepare(self) -> int:
        return self.spawn(*self.commands["prepare"], log=self.folder / "prepare.log").wait(timeout=120)

    def start(self) -> None:
        self.main = self.spawn(*self.commands["mysqld"], log=self.folder / "main.log")


@pytest.fixture(scope="module")
def pod(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Official]:
    pod = Official(tree, tmp_path_factory.mktemp("official"))
    pod.shell = "sh"
    with contextlib.closing(pod):
        yield pod


def test_the_tree_is_arranged_as_the_vendors_image(tree: Path) -> None:
    assert (tree / "usr/sbin/mysqld").is_file()
    assert os.readlink(tree / "usr/bin/sh") == "bash"
    assert "mysql:x:999:999:" in (tree / "etc/passwd").read_text()
    assert "!includedir /etc/mysql/conf.d/" in (tree / "etc/my.cnf").read_text()
    data = (tree / "var/lib/mysql").stat()
    assert (data.st_uid, data.st_mode & 0o7777) == (999, 0o1777)
    assert os.access(tree / "usr/local/bin/docker-entrypoint.sh", os.X_OK)
    programs = {path.name for path in tree.glob("usr/**/*bin/*")}
    for name in ("python3", "perl", "awk", "flock", "hostname", "ps", "setpriv", "mount"):
        assert name not in programs


def test_the_manifest_runs_no_entrypoint(pod: Official) -> None:
    container: dict[str, Any]
    for kind in ("initContainers", "containers"):
        for container in pod.template[kind]:
            # A command takes the entrypoint's place; arguments alone would be given to it.
            assert container["command"], container["name"]
            assert "args" not in container
    assert pod.template["securityContext"]["runAsUser"] == 999
    assert pod.template["securityContext"]["runAsGroup"] == 999


def test_a_pet_starts_stops_and_starts_again(pod: Official) -> None:
    (pod.folder / "upper/etc/mysql/conf.d").mkdir(parents=True)
    (pod.folder / "upper/etc/mysql/conf.d/theirs.cnf").write_text("[mysqld]\nmax_connections = 7\nno_such = 1\n")
    assert pod.prepare() == 0, (pod.folder / "prepare.log").read_text()
    said = (pod.folder / "prepare.log").read_text()
    assert "not found" not in said
    assert "[Entrypoint]" not in said
    assert "data=fresh" in pod.message
    pod.start()
    pod.wait_ready()
    assert [pod.probe(what) for what in ("startup", "live", "ready")] == [(0, "")] * 3
    # Files of the image have no say, and nothing is where the image would have put it.
    settings = "SELECT @@datadir, @@socket, @@max_connections = 7, @@super_read_only, @@server_id"
    assert pod.query(settings) == (("/var/lib/petset/data/", "/petset/run/mysqld.sock", 0, 1, 1000),)
    assert Path(f"/proc/{pod.mysqld}/cmdline").read_bytes().split(b"\0")[0] == b"mysqld"
    status = Path(f"/proc/{pod.mysqld}/status").read_text()
    assert "Uid:\t999\t999\t999\t999" in status
    assert "Gid:\t999\t999\t999\t999" in status
    assert list(Path(f"/proc/{pod.mysqld}/root/var/lib/mysql").iterdir()) == []
    pod.by_socket("petset_agent", PASSWORDS["agent-password"]).close()
    uuid = pod.query("SELECT @@server_uuid")
    assert pod.stop(signal.SIGTERM) == 0
    assert pod.prepare() == 0
    assert "data=known" in pod.message
    pod.start()
    pod.wait_ready()
    assert pod.query("SELECT @@server_uuid") == uuid
    log = (pod.folder / "main.log").read_text()
    assert "not found" not in log
    assert "this image has no flock" in log
    assert pod.stop(signal.SIGTERM) == 0
