# SPDX-License-Identifier: GPL-3.0-or-later
"""Container images made of Debian packages, without a container engine.

Packages are resolved and fetched by apt in a root of its own and unpacked, never installed: no package script runs,
so all of it works in any container or unprivileged build. The result is one OCI image layout in the cache.

Layers are not compressed: they never leave this host, and a slow machine unpacks plain tar several times faster. They
are sorted, with one fixed time for all files, so the same packages give the same digests.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.debian import APT_OPTIONS, SUITE, find_mirror
from lab.gobuild import ensure_static_program
from lab.log import LabError
from lab.paths import cache_root, cached, key_of, locked
from lab.run import run

# Raise when what this file does to the trees changes in a way that its tables do not show.
RECIPE = 1
# 2026-01-01T00:00:00Z, for every file and image: an image's digest must not depend on when it was made.
CREATED_S = 1767225600
CREATED = "2026-01-01T00:00:00Z"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MYSQL_MAJOR = "9.7"

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"

FILES = Path(__file__).with_name("image_files")

# What a person expects in a shell inside of a container.
BASE_PACKAGES = (
    "base-files", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "hostname", "libc-bin", "libc6", "mawk",
    "netbase", "procps", "sed", "tar", "util-linux",
)  # fmt: skip
# Layer -> the packages in it, beside those of the base layer.
LAYER_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "mysql": ("mysql-server-core", "mysql-client-core", "openssl"),
    "haproxy": ("haproxy",),
    "python": ("python3", "python3-pymysql"),
}
# Needed only by package scripts, or by parts that are dropped: no image runs perl, pam or debconf.
DROPPED_PACKAGES = (
    "adduser", "base-passwd", "debconf", "libc-gconv-modules-extra", "libdb5.3*", "libgdbm*", "libpam-*", "libperl*",
    "libsasl2-modules-db", "libsemanage*", "libsepol*", "login*", "passwd", "perl*", "sensible-utils", "systemd*",
    "tzdata*", "ucf",
)  # fmt: skip
# Folders and files that no container needs. The count of files matters more than bytes on the lab's machines.
DROPPED_PATHS = (
    "boot", "etc/alternatives", "etc/apt", "etc/cron.*", "etc/init.d", "etc/logrotate.d", "etc/perl",
    "usr/lib/systemd", "usr/lib/tmpfiles.d", "usr/lib/valgrind", "usr/share/apport", "usr/share/bash-completion",
    "usr/share/bug", "usr/share/common-licenses", "usr/share/doc", "usr/share/doc-base", "usr/share/gcc",
    "usr/share/gdb", "usr/share/icons", "usr/share/info", "usr/share/libc-bin", "usr/share/lintian",
    "usr/share/locale", "usr/share/man", "usr/share/menu", "usr/share/perl*", "usr/share/pixmaps",
    "usr/share/util-linux", "usr/share/vim", "usr/share/zsh", "usr/lib/x86_64-linux-gnu/perl*",
    # mysql: data for other languages' messages, plugins for clients, tools for offline files
    "usr/share/mysql/[!cde]*", "usr/share/mysql/cz*", "usr/share/mysql/da*", "usr/share/mysql/du*",
    "usr/share/mysql/es*", "usr/lib/mysql/plugin/authentication_*_client.so", "usr/lib/mysql/plugin/*telemetry*",
    "usr/bin/ibd2sdi", "usr/bin/innochecksum", "usr/bin/myisam*", "usr/bin/mysql_migrate_keyring",
    "usr/bin/mysql_secure_installation", "usr/bin/mysqlimport", "usr/bin/mysqlshow", "usr/bin/mysqlslap",
    "usr/bin/my_print_defaults", "usr/bin/mysql_config_editor", "usr/bin/mysql_tzinfo_to_sql", "usr/bin/mysqlcheck",
    "usr/bin/mysqld_multi", "usr/bin/mysqldumpslow", "usr/bin/perror",
    # python: its own tests, the means to install more, modules whose library is dropped
    "usr/lib/python3*/lib-dynload/_dbm*", "usr/lib/python3*/lib-dynload/_gdbm*", "usr/lib/python3*/lib-dynload/_test*",
    "usr/lib/python3*/ensurepip", "usr/lib/python3*/pydoc_data", "usr/lib/python3*/test", "usr/lib/python3*/turtle*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of an image layout: ``digest`` as ``sha256:...``, ``size`` in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its name and tag, its layers from the bottom, and what a run of it starts with.

    ``user`` is empty for root. ``labels`` are in the config, so they are part of the digest.
    """

    name: str
    tag: str
    layers: tuple[str, ...]
    cmd: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """``mysql:9.7``"""
        return f"{self.name}:{self.tag}"


_MYSQL = Image(
    "mysql", MYSQL_MAJOR, ("base", "mysql"), ("mysqld",), env=(f"MYSQL_MAJOR={MYSQL_MAJOR}",), ports=("3306", "33060")
)
IMAGES: tuple[Image, ...] = (
    _MYSQL,
    # The same server under another tag and digest: something to roll out.
    Image(
        _MYSQL.name, f"{MYSQL_MAJOR}-next", _MYSQL.layers, _MYSQL.cmd, env=_MYSQL.env, ports=_MYSQL.ports,
        labels={"org.opencontainers.image.description": "the same server, as a release to roll out to"},
    ),
    # The same server again, arranged as the image that MySQL's vendor publishes.
    Image(
        "mysql-official", MYSQL_MAJOR, ("base", "mysql", "mysql-official"), ("mysqld",),
        entrypoint=("docker-entrypoint.sh",), env=_MYSQL.env, ports=_MYSQL.ports, volumes=("/var/lib/mysql",),
    ),
    Image(
        "haproxy", "3.2", ("base", "haproxy"), ("haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"),
        entrypoint=("docker-entrypoint.sh",), user="haproxy", workdir="/var/lib/haproxy", stop_signal="SIGUSR1",
    ),
    Image("python", "3", ("base", "python"), ("python3",), env=("LANG=C.UTF-8",)),
    Image("pause", "3.10", ("pause",), (), entrypoint=("/pause",), user="65535:65535"),
)  # fmt: skip

PAUSE_SOURCE = """\
// Holds a pod's namespaces open and reaps what is left to it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
"""


# -- pure ------------------------------------------------------------------------------------------------------------


def encode(document: object) -> bytes:
    """JSON as it is stored and hashed: the same document gives the same bytes."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def blob_of(data: bytes) -> Blob:
    """The descriptor of these bytes."""
    return Blob("sha256:" + hashlib.sha256(data).hexdigest(), len(data))


def render_config(image: Image, architecture: str, layers: Sequence[Blob]) -> dict[str, object]:
    """The OCI image config; as the layers are not compressed, their digests are their diff ids.

    Source: OCI image specification 1.1, config.md.
    """
    config: dict[str, object] = {"Env": [PATH, *image.env]}
    optional: dict[str, object] = {
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.cmd),
        "User": image.user,
        "WorkingDir": image.workdir,
        "ExposedPorts": {f"{port}/tcp": {} for port in image.ports},
        "Volumes": {volume: {} for volume in image.volumes},
        "StopSignal": image.stop_signal,
        "Labels": dict(image.labels),
    }
    config |= {name: value for name, value in optional.items() if value}
    return {
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created": CREATED, "created_by": f"lab layer {name}"} for name in image.layers],
    }


def render_descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    """How an OCI document points at a blob."""
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def render_manifest(config: Blob, layers: Sequence[Blob]) -> dict[str, object]:
    """The OCI image manifest. Source: OCI image specification 1.1, manifest.md."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": render_descriptor(CONFIG_TYPE, config),
        "layers": [render_descriptor(LAYER_TYPE, layer) for layer in layers],
    }


def render_index(manifests: Mapping[str, Blob], architecture: str) -> dict[str, object]:
    """The layout's ``index.json``: ``manifests`` maps ``name:tag`` to the image's manifest."""
    return {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            render_descriptor(MANIFEST_TYPE, blob)
            | {"platform": {"architecture": architecture, "os": "linux"}, "annotations": {REF_NAME: ref}}
            for ref, blob in sorted(manifests.items())
        ],
    }


def parse_index(text: str) -> dict[str, Blob]:
    """``name:tag`` -> manifest of a layout's ``index.json``. Raises LabError when it is not one of ours."""
    try:
        return {
            str(entry["annotations"][REF_NAME]): Blob(str(entry["digest"]), int(entry["size"]))
            for entry in json.loads(text)["manifests"]
        }
    except (ValueError, KeyError, TypeError) as broken:
        raise LabError(f"not the index of an image layout of the lab: {broken!r}") from broken


def parse_print_uris(text: str) -> dict[str, str]:
    """Package -> file name of the .deb, from ``apt-get --print-uris install``.

    Lines are ``'URI' file_name size hash``; a colon of the version is written ``%3a`` in the file name.
    """
    names = re.findall(r"^'[^']+' (\S+\.deb) \d+", text, re.MULTILINE)
    return {name.partition("_")[0]: name for name in names}


def is_dropped(package: str) -> bool:
    """Whether a package's files stay out of every image."""
    return any(
        package.startswith(pattern[:-1]) if pattern.endswith("*") else package == pattern
        for pattern in DROPPED_PACKAGES
    )


def plan_layers(resolved: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Layer -> .deb files to unpack into it: what its packages need, less what the base layer has already.

    ``resolved`` maps each layer to all packages (and their files) that it needs, the base's included. A package that
    a layer needs in another version than the base's is in that layer again, and hides the base's files.
    """
    base = set(resolved["base"].values())
    return {
        layer: sorted(
            deb for package, deb in packages.items() if not is_dropped(package) and (layer == "base" or deb not in base)
        )
        for layer, packages in resolved.items()
    }


def render_apt_config(root: Path, options: Iterable[str]) -> str:
    """apt's configuration for a root of its own that knows nothing of this host's packages."""
    settings = {
        "Dir::Etc": f"{root}/etc",
        "Dir::Etc::sourcelist": f"{root}/etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::State": f"{root}/state",
        "Dir::State::status": f"{root}/status",
        "Dir::Cache": f"{root}/cache",
        "APT::Install-Recommends": "false",
        "APT::Default-Release": SUITE,
        "APT::Sandbox::User": "root",
    }
    return "".join([*(f'{name} "{value}";\n' for name, value in settings.items()), *(f"{x};\n" for x in options)])


def render_sources(uri: str, keyring: str, suites: Sequence[str]) -> str:
    """apt's sources.list for these suites of one mirror."""
    return "".join(f"deb [signed-by={keyring}] {uri} {suite} main\n" for suite in suites)


def render_passwd(users: Mapping[str, tuple[int, str, str]]) -> tuple[str, str]:
    """``/etc/passwd`` and ``/etc/group`` with root, nobody and these users (name -> id, home, shell)."""
    everybody = {
        "root": (0, "/root", "/bin/bash"),
        "daemon": (1, "/usr/sbin", "/usr/sbin/nologin"),
        "nobody": (65534, "/nonexistent", "/usr/sbin/nologin"),
        **users,
    }
    passwd = "".join(f"{name}:x:{uid}:{uid}::{home}:{shell}\n" for name, (uid, home, shell) in everybody.items())
    group = "".join(f"{'nogroup' if name == 'nobody' else name}:x:{uid}:\n" for name, (uid, _, _) in everybody.items())
    return passwd, group


# -- layers ----------------------------------------------------------------------------------------------------------


def _put(tree: Path, name: str, content: str, mode: int = 0o644) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def _folder(tree: Path, name: str, mode: int, owner: int = 0) -> None:
    path = tree / name
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner)


def _link(tree: Path, name: str, target: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(target)


def _put_users(tree: Path, users: Mapping[str, tuple[int, str, str]]) -> None:
    passwd, group = render_passwd(users)
    _put(tree, "etc/passwd", passwd)
    _put(tree, "etc/group", group)


def _finish_base(tree: Path) -> None:
    """What the scripts of base-files, base-passwd and mawk would have done."""
    _put_users(tree, {})
    _put(tree, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n")
    _link(tree, "usr/bin/awk", "mawk")
    _link(tree, "var/run", "/run")
    _link(tree, "var/lock", "/run/lock")
    for name in ("tmp", "var/tmp", "run/lock"):
        _folder(tree, name, 0o1777)
    for name in ("dev", "proc", "sys", "run", "home", "mnt", "opt", "srv", "usr/local/bin", "usr/local/sbin"):
        _folder(tree, name, 0o755)
    _folder(tree, "root", 0o700)


def _finish_mysql(tree: Path) -> None:
    _put_users(tree, {"mysql": (999, "/var/lib/mysql", "/bin/bash")})
    _folder(tree, "run", 0o755)
    _folder(tree, "run/mysqld", 0o1777, 999)
    _folder(tree, "var/lib/mysql", 0o1777, 999)


def _finish_mysql_official(tree: Path) -> None:
    """The paths, configuration and start-up rules of the vendor's image; the text of all of it is ours."""
    for name in ("var", "var/lib", "etc", "usr", "usr/local", "usr/local/bin"):
        _folder(tree, name, 0o755)
    _put(tree, "etc/my.cnf", (FILES / "mysql-official.cnf").read_text())
    _folder(tree, "etc/mysql", 0o755)
    _folder(tree, "etc/mysql/conf.d", 0o755)
    _folder(tree, "docker-entrypoint-initdb.d", 0o755)
    _folder(tree, "var/lib/mysql-files", 0o750, 999)
    _folder(tree, "var/lib/mysql-keyring", 0o750, 999)
    _put(tree, "usr/local/bin/docker-entrypoint.sh", (FILES / "mysql-official-entrypoint.sh").read_text(), 0o755)
    _link(tree, "entrypoint.sh", "usr/local/bin/docker-entrypoint.sh")


def _finish_haproxy(tree: Path) -> None:
    _put_users(tree, {"haproxy": (99, "/var/lib/haproxy", "/usr/sbin/nologin")})
    _folder(tree, "var/lib/haproxy", 0o755, 99)
    _folder(tree, "usr/local/etc/haproxy", 0o755)
    _link(tree, "usr/local/etc/haproxy/errors", "/etc/haproxy/errors")
    _link(tree, "usr/local/sbin/haproxy", "/usr/sbin/haproxy")
    _put(tree, "usr/local/bin/docker-entrypoint.sh", (FILES / "haproxy-entrypoint.sh").read_text(), 0o755)


def _finish_python(tree: Path, base: Path) -> None:
    """Compile the library beforehand: containers run without the right to write there and would do it each time.

    The tree's own interpreter does it, started through the tree's own loader: nothing has to be entered or mounted.
    """
    _link(tree, "usr/local/bin/python3", "/usr/bin/python3")
    _link(tree, "usr/local/bin/python", "/usr/bin/python3")
    loader = next(base.glob("usr/lib*/ld-linux-*.so.*"))
    libraries = ":".join(str(path) for root in (base, tree) for path in root.glob("usr/lib/*-linux-gnu*"))
    folders = [str(path) for path in (*tree.glob("usr/lib/python3.*"), *tree.glob("usr/lib/python3"))]
    run(
        [str(loader), "--library-path", libraries, os.path.realpath(tree / "usr/bin/python3"), "-S", "-m",
         "compileall", "-q", "--invalidation-mode", "unchecked-hash",
         "-s", str(tree), "-p", "/", *folders],
        env={"PYTHONHOME": str(tree / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def _drop_paths(tree: Path) -> None:
    for pattern in DROPPED_PATHS:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class _HashingFile(io.RawIOBase):
    """A file that knows the digest of what was written to it."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("wb", buffering=1 << 20)
        self._hash = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self._size += len(data)
        return self._handle.write(data)

    def finish(self) -> Blob:
        self._handle.close()
        return Blob("sha256:" + self._hash.hexdigest(), self._size)


def write_layer(tree: Path, blobs: Path) -> Blob:
    """Pack a tree as an uncompressed tar layer into the folder of blobs, which names it by its digest."""
    partial = blobs / f".{tree.name}.partial"
    sink = _HashingFile(partial)
    seen: dict[tuple[int, int], str] = {}
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive:
        for path in sorted(tree.rglob("*"), key=lambda p: p.relative_to(tree).parts):
            name = path.relative_to(tree).as_posix()
            info = archive.gettarinfo(path, arcname=name)
            if info is None or not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
                continue
            # The library's own memory of hard links goes by the path on disk; ours by the name in the layer.
            info.mtime, info.uname, info.gname = CREATED_S, "", ""
            state = path.lstat()
            if info.isdir() or info.issym():
                archive.addfile(info)
                continue
            inode = (state.st_dev, state.st_ino)
            if state.st_nlink > 1 and inode in seen:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, seen[inode], 0
                archive.addfile(info)
                continue
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", state.st_size
            seen[inode] = name
            with path.open("rb") as content:
                archive.addfile(info, content)
    blob = sink.finish()
    partial.rename(blobs / blob.digest.removeprefix("sha256:"))
    return blob


# -- packages --------------------------------------------------------------------------------------------------------


def _fetch_packages(work: Path) -> tuple[dict[str, list[str]], Path]:
    """Resolve and download all packages: (layer -> .deb files, the folder that holds them).

    Downloads stay in the cache, so that another recipe does not fetch them again.
    """
    mirror = find_mirror()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    if not Path(keyring).exists():
        raise LabError(f"{keyring} is missing", "apt install debian-archive-keyring")
    root = work / "apt"
    for name in ("etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    (root / "status").touch()
    (root / "etc/sources.list").write_text(render_sources(mirror.uri, keyring, (SUITE, "sid")))
    config = root / "apt.conf"
    config.write_text(render_apt_config(root, (*APT_OPTIONS, *mirror.proxies)))
    env = {"APT_CONFIG": str(config), "LC_ALL": "C"}
    run(["apt-get", "-q", "update"], env=env, log=work / "apt.log")
    resolved: dict[str, dict[str, str]] = {}
    for layer, packages in LAYER_PACKAGES.items():
        command = ["apt-get", "-q", "-y", "--print-uris", "install", *BASE_PACKAGES, *packages]
        resolved[layer] = parse_print_uris(run(command, env=env))
    plan = plan_layers(resolved)
    wanted = {deb for debs in plan.values() for deb in debs}
    exact = sorted("=".join(deb.split("_")[:2]).replace("%3a", ":") for deb in wanted)
    archives = cache_root() / "debs"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    with locked(cache_root() / ".debs.lock"):
        run(["apt-get", "-q", "-y", "download", *exact], env=env, cwd=archives, log=work / "apt.log")
    shutil.rmtree(root)
    return plan, archives


def _unpack(debs: Iterable[Path], tree: Path) -> None:
    """Unpack packages into a tree with Debian's merged /usr, whatever the packages themselves say of /bin and /lib."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(tree)])


def _mysql_version(debs: Iterable[str]) -> str:
    """``9.7.4`` from ``mysql-server-core_9.7.4-2_amd64.deb``."""
    for deb in debs:
        if match := re.match(r"mysql-server-core_([\d.]+)", deb):
            return match[1]
    raise LabError("no mysql-server-core among the packages of the image")


def _build_images(target: Path) -> None:
    work = target / "work"
    work.mkdir()
    plan, archives = _fetch_packages(work)
    version = _mysql_version(plan["mysql"])
    if not version.startswith(MYSQL_MAJOR + "."):
        raise LabError(
            f"Debian's mysql-server-core is {version} by now, the lab's image is named mysql:{MYSQL_MAJOR}",
            "adapt MYSQL_MAJOR in lab/images.py and the tests that name the image",
        )
    blobs = target / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    trees = {name: work / name for name in (*plan, "mysql-official", "pause")}

    def make(layer: str, finish: Callable[[Path], None]) -> Blob:
        tree = trees[layer]
        if layer in plan:
            _unpack((archives / deb for deb in plan[layer]), tree)
        tree.mkdir(exist_ok=True)
        _drop_paths(tree)
        finish(tree)
        return write_layer(tree, blobs)

    def finish_pause(tree: Path) -> None:
        shutil.copy(ensure_static_program("pause", PAUSE_SOURCE), tree / "pause")

    layers = {"base": make("base", _finish_base)}
    jobs: dict[str, Callable[[Path], None]] = {
        "mysql": _finish_mysql,
        "mysql-official": _finish_mysql_official,
        "haproxy": _finish_haproxy,
        "python": lambda tree: _finish_python(tree, trees["base"]),
        "pause": finish_pause,
    }
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {layer: pool.submit(make, layer, finish) for layer, finish in jobs.items()}
    layers |= {layer: future.result() for layer, future in futures.items()}
    architecture = run(["dpkg", "--print-architecture"]).strip()
    manifests = {}
    for image in IMAGES:
        chain = [layers[name] for name in image.layers]
        config = _store(blobs, encode(render_config(image, architecture, chain)))
        manifests[image.ref] = _store(blobs, encode(render_manifest(config, chain)))
    (target / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (target / "index.json").write_bytes(encode(render_index(manifests, architecture)))
    (target / "packages.json").write_bytes(encode(plan))
    shutil.rmtree(work)


def _store(blobs: Path, data: bytes) -> Blob:
    blob = blob_of(data)
    (blobs / blob.digest.removeprefix("sha256:")).write_bytes(data)
    return blob


def images_key() -> str:
    """What the images are made of, as a key: another key means other images."""
    files = {path.name: path.read_text() for path in sorted(FILES.iterdir())}
    tables = [BASE_PACKAGES, dict(LAYER_PACKAGES), DROPPED_PACKAGES, DROPPED_PATHS, PAUSE_SOURCE, IMAGES]
    return key_of(RECIPE, find_mirror().uri, SUITE, tables, files)


def ensure_images() -> Path:
    """The OCI image layout with all of :data:`IMAGES`, made if the cache has none."""
    return cached("images", images_key(), "make the container images from Debian packages", _build_images)
