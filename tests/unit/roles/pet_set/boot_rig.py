# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the pet's start-up scripts below a folder, with a fake mysqld, under each shell that images have as sh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BOOT = Path(__file__).resolve().parents[4] / "roles" / "pet_set" / "files" / "boot"
# For tests of what shells could differ in; the others run under this host's sh.
in_each_shell = pytest.mark.parametrize(
    "rig",
    [
        pytest.param(argv, id=argv[0], marks=pytest.mark.skipif(not shutil.which(argv[0]), reason=f"no {argv[0]}"))
        for argv in (("dash",), ("bash", "--posix"))
    ],
    indirect=True,
)
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER_UUID = "aaaaaaaa-71ca-11e1-9e33-c80aa9429562"
NFS_OPTIONS = "rw,noatime,vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=none"
# What mysqld leaves after --initialize-insecure, as far as the scripts look; the init file is kept for the test.
MYSQLD = """#!/bin/sh
printf '%s\\n' "$*" >>"$PETSET_ROOT/mysqld.calls"
for argument in "$@"; do
    case $argument in
        --datadir=*) datadir=${argument#--datadir=} ;;
        --initialize-insecure) does=initialize ;;
        --validate-config) does=validate ;;
        --init-file=*) does=accounts init_file=${argument#--init-file=} ;;
    esac
done
case ${does:-serve} in
    validate) [ ! -e "$PETSET_ROOT/invalid" ] || { echo "T 0 [ERROR] [MY-1] unknown variable 'x=1'." >&2; exit 1; } ;;
    initialize)
        [ ! -e "$PETSET_ROOT/broken" ] || { echo "T 0 [ERROR] [MY-2] no room." >&2; exit 1; }
        [ ! -e "$datadir" ] || exit 1
        mkdir -p "$datadir/mysql" "$datadir/#innodb_redo"
        echo table >"$datadir/mysql.ibd"
        printf '[auto]\\nserver-uuid=%s\\n' "$FAKE_UUID" >"$datadir/auto.cnf"
        ;;
    accounts) cat "$init_file" >"$PETSET_ROOT/accounts.sql" ;;
    serve) exec sleep "${FAKE_SERVE_S:-0}" ;;
esac
"""

# Syncing a busy host's disk takes seconds, so tests only note that it was asked for.
SYNC = """#!/bin/sh
printf '%s\\n' "sync $*" >>"$PETSET_ROOT/syncs"
"""
DD = """#!/bin/sh
for argument in "$@"; do
    case $argument in
        of=*) printf 'sync %s\\n' "${argument#of=}" >>"$PETSET_ROOT/syncs"; echo x >"${argument#of=}" ;;
    esac
done
"""


@dataclass
class Rig:
    """A pod's folders below ``root``; ``run`` plays a container."""

    root: Path
    shell: tuple[str, ...] = ("sh",)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("boot", "secret", "tls", "run", "scratch"):
            (self.root / "petset" / name).mkdir(parents=True)
        self.volume.mkdir(parents=True)
        for path in BOOT.iterdir():
            shutil.copy(path, self.boot)
        for name in ("root", "replication", "admin", "agent"):
            (self.secret / f"{name}-password").write_text(f"{name} secret")
        for name in ("ca.crt", "tls.crt", "tls.key"):
            (self.root / "petset" / "tls" / name).write_text(name)
        self.bin.mkdir()
        self.shim("mysqld", MYSQLD)
        self.shim("sync", SYNC)
        self.shim("dd", DD)
        self.mount()
        self.environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PETSET_ROOT": str(self.root),
            "PETSET_PROC": str(self.root / "proc"),
            "PETSET_TERMINATION_LOG": str(self.root / "termination-log"),
            "PETSET_SET": "mysql",
            "PETSET_NAMESPACE": "default",
            "PETSET_POD": "mysql-1",
            "PETSET_ORDINAL": "1",
            "PETSET_SERVICE": "db",
            "PETSET_DOMAIN": "cluster.local",
            "PETSET_SERVER_ID_BASE": "1000",
            "PETSET_MEMORY_LIMIT_BYTES": str(1 << 30),
            "PETSET_LOCK_WAIT_S": "0",
            "PETSET_FIRST_START_MIB": "1",
            "FAKE_UUID": UUID,
        } | self.environment

    @property
    def boot(self) -> Path:
        return self.root / "petset" / "boot"

    @property
    def secret(self) -> Path:
        return self.root / "petset" / "secret"

    @property
    def volume(self) -> Path:
        return self.root / "var" / "lib" / "petset"

    @property
    def data(self) -> Path:
        return self.volume / "data"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def identity(self) -> dict[str, Any]:
        value = json.loads((self.volume / ".petset-identity.json").read_text())
        assert isinstance(value, dict)
        return value

    @property
    def message(self) -> str:
        """What the kubelet would show as the container's message."""
        path = self.root / "termination-log"
        return path.read_text() if path.exists() else ""

    @property
    def settings(self) -> dict[str, str]:
        """The option file as mysqld understands it: the last word counts."""
        result = {}
        for line in (self.root / "petset" / "run" / "my.cnf").read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                result[name.strip().replace("-", "_")] = value.strip()
        return result

    def shim(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def mount(
        self, kind: str = "nfs4", options: str = NFS_OPTIONS, own: str = "rw,relatime", stats: str | None = None
    ) -> None:
        """Set what the kernel says of the volume's mount."""
        folder = self.root / "proc" / "self"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mountinfo").write_text(
            "21 1 8:1 / / ro,relatime shared:1 - ext4 /dev/root ro\n"
            f"70 21 0:50 / {self.volume} {own} master:3 - {kind} [fd00::1]:/export/mysql-1 {options}\n"
            f"71 70 0:51 / {self.volume}/other ro - tmpfs tmpfs ro\n"
        )
        if stats is not None:
            (folder / "mountstats").write_text(stats)

    def fill(self, uuid: str = UUID, **identity: object) -> None:
        """A data folder that has served, with its identity file."""
        self.make_data(self.data, uuid)
        whole = {
            "format": 1,
            "set": "mysql",
            "namespace": "default",
            "ordinal": 1,
            "server_uuid": UUID,
            "generation": 1,
        }
        (self.volume / ".petset-identity.json").write_text(json.dumps(whole | identity))

    def make_data(self, folder: Path, uuid: str = UUID) -> None:
        (folder / "mysql").mkdir(parents=True)
        (folder / "mysql.ibd").write_text("table")
        (folder / "auto.cnf").write_text(f"[auto]\nserver-uuid={uuid}\n")

    def tree(self) -> list[str]:
        """All that is in the volume."""
        return sorted(str(path.relative_to(self.volume)) for path in self.volume.rglob("*"))

    def run(self, script: str = "prepare.sh", *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, str(self.boot / script), *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            start_new_session=True,
        )

    def call(self, function: str, text: bytes) -> bytes:
        """One of the scripts' functions, with ``text`` as its input."""
        code = f'set -- "{self.boot}"; . "$1/lib.sh"; . "$1/settings.sh"; {function}'
        return subprocess.run(
            [*self.shell, "-c", code], env=self.environment, input=text, capture_output=True, check=True, timeout=60
        ).stdout
