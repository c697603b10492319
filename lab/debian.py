# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian trees and disks for the lab, made by mmdebstrap from the mirror that this host itself uses.

The mirror is read from the host's apt configuration, so that a company mirror or proxy is honoured and no address
is written down here. Releases used: ``forky`` for machines and tools (its user-mode-linux has the fast seccomp
mode), ``sid`` where forky has no package (MySQL).
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.config import REGISTRY
from lab.log import LabError
from lab.paths import cached, key_of
from lab.run import run

SUITE = "forky"
# Mirrors kept for a while can be past their Valid-Until; signatures are still checked.
APT_OPTIONS = ('Acquire::Check-Valid-Until "false"', 'Acquire::Languages "none"', 'Acquire::Retries "3"')

TOOLS = ("base-files", "libc6", "user-mode-linux", "etcd-server", "docker-registry")
PLAIN = (
    "systemd", "systemd-sysv", "udev", "dbus", "openssh-server", "python3", "python3-apt", "iproute2", "ethtool",
    "procps", "kmod", "ca-certificates", "iputils-ping", "netbase", "e2fsprogs",
)  # fmt: skip
# Units of a desktop or a pet machine's life that a lab machine only loses boot time to.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
    "fstrim.timer", "getty@tty1.service", "console-getty.service", "ldconfig.service", "systemd-firstboot.service",
    "systemd-hwdb-update.service", "systemd-pstore.service", "systemd-random-seed.service",
    "systemd-update-done.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount",
    "modprobe@drm.service", "modprobe@configfs.service",
)  # fmt: skip
NODE = ("containerd", "runc", "containernetworking-plugins", "nfs-common", "conntrack")


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where this host gets Debian from: ``uri`` as in its apt sources, and apt's own proxy settings."""

    uri: str
    proxies: tuple[str, ...] = ()


def parse_deb822(text: str) -> list[dict[str, str]]:
    """The stanzas of a deb822 ``.sources`` file, keys in lower case, continuation lines joined by blanks."""
    stanzas: list[dict[str, str]] = []
    current: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if current:
                stanzas.append(current)
            current, last = {}, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t" and last:
            current[last] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            last = name.strip().lower()
            current[last] = value.strip()
    return stanzas


def parse_one_line(text: str) -> list[tuple[str, str, list[str]]]:
    """The ``deb`` lines of a one-line style sources file as (uri, suite, components)."""
    found = []
    for raw in text.splitlines():
        words = raw.split("#", 1)[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest and not rest[0].endswith("]"):
                rest.pop(0)
            rest = rest[1:]
        if len(rest) >= 3:
            found.append((rest[0], rest[1], rest[2:]))
    return found


# How apt lets one say no (StringToBool, apt-pkg/contrib/strutl.cc).
NO = ("no", "false", "without", "off", "disable", "0")


def parse_sources(sources: dict[str, str]) -> list[tuple[str, str, list[str]]]:
    """All (uri, suite, components) of packages in sources files, file name to text, in the order of their names."""
    entries: list[tuple[str, str, list[str]]] = []
    for name in sorted(sources):
        if not name.endswith(".sources"):
            entries += parse_one_line(sources[name])
            continue
        for stanza in parse_deb822(sources[name]):
            if stanza.get("enabled", "yes").lower() in NO or "deb" not in stanza.get("types", "").split():
                continue
            components = stanza.get("components", "").split()
            entries += [
                (uri, suite, components)
                for uri in stanza.get("uris", "").split()
                for suite in stanza.get("suites", "").split()
            ]
    return [(uri.rstrip("/"), suite, components) for uri, suite, components in entries]


def parse_mirror(sources: dict[str, str], codename: str) -> str | None:
    """The URI from which a Debian host with this code name gets its release, out of its sources files.

    ``sources`` maps file name to text. Only entries for the release itself with component main count: security
    archives carry no other release of Debian. Nor do those of products, many of which have a suite ``stable main``
    or one named after the release; Debian's own is known by its updates or, without them, by its path.
    """
    releases = (codename, "stable", "oldstable", "testing")
    entries = parse_sources(sources)
    with_updates = {uri for uri, suite, _ in entries if suite in [f"{name}-updates" for name in releases]}
    found = [uri for uri, suite, components in entries if suite in releases and "main" in components]
    # sorted is stable: of equals the first
    found.sort(key=lambda uri: (uri not in with_updates, not uri.endswith("/debian")))
    return found[0] if found else None


def parse_mirror_list(text: str) -> str | None:
    """The first URI of a file that ``mirror+file:`` names (apt-transport-mirror(1)): one with its metadata a line."""
    for line in text.splitlines():
        if words := line.split("#", 1)[0].split():
            return words[0].rstrip("/")
    return None


def parse_proxies(apt_config: str) -> tuple[str, ...]:
    """apt options for the proxies in ``apt-config dump --format "%f %v%n"``. A program that finds one is left out:
    the machines do not have it.
    """
    pairs = [line.rstrip(";").split(None, 1) for line in apt_config.splitlines()]
    return tuple(
        f'{pair[0]} "{pair[1]}"'
        for pair in pairs
        if len(pair) == 2 and "proxy" in pair[0].lower() and "detect" not in pair[0].lower()
    )


def parse_os_release(text: str) -> dict[str, str]:
    """The values of an os-release file, without quotes."""
    return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in text.splitlines())}


@cache
def find_mirror() -> Mirror:
    """The host's mirror (``$PETSET_LAB_MIRROR`` overrides). Raises LabError when its apt sources name none."""
    options = parse_proxies(run(["apt-config", "dump", "--format", "%f %v%n", "Acquire"]))
    if own := os.environ.get("PETSET_LAB_MIRROR"):
        return Mirror(own, options)
    way_out = "set PETSET_LAB_MIRROR to the address of a Debian mirror that carries forky and sid"
    release = parse_os_release(Path("/etc/os-release").read_text())
    if release.get("ID", "debian") != "debian":
        raise LabError(f"this host is {release['ID']}: its apt sources name no Debian mirror", way_out)
    apt = Path("/etc/apt")
    files = [
        apt / "sources.list",
        *(apt / "sources.list.d").glob("*.list"),
        *(apt / "sources.list.d").glob("*.sources"),
    ]
    codename = release.get("VERSION_CODENAME", "")
    uri = parse_mirror({str(f): f.read_text() for f in files if f.is_file()}, codename)
    if uri is None:
        raise LabError(f"no Debian mirror found in /etc/apt/sources.list* for release '{codename}'", way_out)
    if uri.startswith("mirror+file:"):
        # as on Debian's cloud images; the machines do not have that file
        path = Path("/" + uri.removeprefix("mirror+file:").lstrip("/"))
        uri = parse_mirror_list(path.read_text()) if path.is_file() else None
        if uri is None:
            raise LabError(f"{path}, which this host's apt sources name, names no mirror", way_out)
    return Mirror(uri, options)


def render_mmdebstrap(
    mirror: Mirror,
    target: Path,
    *,
    suite: str,
    variant: str,
    include: Sequence[str],
    extra_suites: Sequence[str] = (),
    hooks: Sequence[str] = (),
) -> list[str]:
    """The command line that makes a Debian tree; ``hooks`` are further mmdebstrap options, passed as they are."""
    argv = ["mmdebstrap", "--mode=root", f"--variant={variant}", "--format=directory", f"--include={','.join(include)}"]
    argv += [f"--aptopt={option}" for option in (*APT_OPTIONS, *mirror.proxies)]
    argv += ['--dpkgopt=path-exclude=/usr/share/doc/*', '--dpkgopt=path-exclude=/usr/share/man/*',
             '--dpkgopt=path-exclude=/usr/share/locale/*']  # fmt: skip
    argv += hooks
    argv += [suite, str(target)]
    argv += [f"deb {mirror.uri} {name} main" for name in (suite, *extra_suites)]
    return argv


def mmdebstrap(
    target: Path,
    *,
    suite: str = SUITE,
    variant: str,
    include: Sequence[str],
    extra_suites: Sequence[str] = (),
    hooks: Sequence[str] = (),
) -> None:
    """Make a Debian tree at ``target`` (see render_mmdebstrap); its output goes to ``<target>.log``."""
    argv = render_mmdebstrap(
        find_mirror(), target, suite=suite, variant=variant, include=include, extra_suites=extra_suites, hooks=hooks
    )
    run(argv, log=target.with_name(target.name + ".log"), env={"DEBIAN_FRONTEND": "noninteractive"})


# `extract` unpacks packages without running their scripts: no base-files script makes the merged-/usr links.
MERGED_USR = '--setup-hook=cd "$1" && for d in bin sbin lib lib64; do mkdir -p usr/$d && ln -sfn usr/$d $d; done'


def ensure_tools_tree() -> Path:
    """A forky tree with etcd, docker-registry and user-mode-linux, to be entered with chroot (about 300 MB)."""

    def build(target: Path) -> None:
        mmdebstrap(target / "tree", variant="extract", include=TOOLS, hooks=[MERGED_USR])
        for folder in ("proc", "sys", "dev", "tmp", "lab", "cache", "run", "etc"):
            (target / "tree" / folder).mkdir(exist_ok=True)

    key = key_of(find_mirror().uri, SUITE, TOOLS, 1)
    return cached("tools", key, "unpack the lab's tools (user-mode-linux, etcd, registry)", build) / "tree"


HAPROXY = ("base-files", "libc6", "haproxy")
# The tree's own loader and libraries, without a chroot. HAProxy's master starts itself anew by its argv[0] when it
# reloads: that has to be this script again.
HAPROXY_SCRIPT = """#!/bin/sh
tree="${0%/*}/tree"
exec "$tree/usr/lib64/ld-linux-x86-64.so.2" --argv0 "$0" --library-path "$tree/usr/lib/x86_64-linux-gnu" \\
    "$tree/usr/sbin/haproxy" "$@"
"""


def ensure_haproxy() -> Path:
    """A program ``haproxy`` of the release that the lab's image has, to be run right here; nothing is installed."""

    def build(target: Path) -> None:
        mmdebstrap(target / "tree", variant="extract", include=HAPROXY, hooks=[MERGED_USR])
        script = target / "haproxy"
        script.write_text(HAPROXY_SCRIPT)
        script.chmod(0o755)

    key = key_of(find_mirror().uri, SUITE, HAPROXY, HAPROXY_SCRIPT, 1)
    return cached("haproxy", key, "unpack haproxy", build) / "haproxy"


ROOTFS = Path(__file__).with_name("rootfs")


def _rootfs_inputs() -> dict[str, str]:
    return {str(p.relative_to(ROOTFS)): p.read_text() for p in sorted(ROOTFS.rglob("*")) if p.is_file()}


def _finish_machine_tree(tree: Path, overlay: str, units: Sequence[str]) -> None:
    """Lay the lab's own files (``lab/rootfs/<overlay>``) over a machine's tree and enable its units."""
    run(["cp", "-a", "--no-preserve=ownership", f"{ROOTFS / overlay}/.", str(tree)])
    for folder in ("lab", "share"):
        (tree / folder).mkdir(exist_ok=True)
    if units:
        run(["chroot", str(tree), "systemctl", "enable", *units])


def ensure_machine_disks() -> tuple[Path, Path]:
    """The disks (plain machine, Kubernetes node), as sparse ext4 images that machines boot copy-on-write.

    The plain machine is a Debian with sshd and python3 only; the node is the same with containerd, CNI plugins and
    the NFS client. Both carry the kernel modules of the user-mode-linux kernel that boots them.
    """
    tools = ensure_tools_tree()
    mirror = find_mirror()

    def build(target: Path) -> None:
        tree = target / "tree"
        sources = target / "debian.list"
        sources.write_text(f"deb [check-valid-until=no] {mirror.uri} {SUITE} main\n")
        mmdebstrap(tree, variant="minbase", include=PLAIN)
        (tree / "etc/apt/sources.list.d").mkdir(parents=True, exist_ok=True)
        (tree / "etc/apt/sources.list").unlink(missing_ok=True)
        shutil.copy(sources, tree / "etc/apt/sources.list.d/debian.list")
        apt = (*APT_OPTIONS, *mirror.proxies, 'APT::Install-Recommends "false"')
        (tree / "etc/apt/apt.conf.d/90lab").write_text("".join(option + ";\n" for option in apt))
        modules = next((tools / "usr/lib/uml/modules").iterdir())
        shutil.copytree(modules, tree / "lib/modules" / modules.name, symlinks=True)
        run(["chroot", str(tree), "depmod", modules.name])
        _finish_machine_tree(tree, "plain", ["lab-boot.service"])
        run(["chroot", str(tree), "systemctl", "mask", *MASKED])
        _write_disk(tree, target / "plain.ext4")
        install = f"apt-get -q update && apt-get -q -y install {shlex.join(NODE)} && apt-get clean"
        install += " && rm -rf /var/lib/apt/lists/*"
        shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
        run(
            ["unshare", "--mount", "--", "sh", "-ec",
             'mount -t proc proc "$1/proc" && printf "exit 101" > "$1/usr/sbin/policy-rc.d" && '
             'chmod +x "$1/usr/sbin/policy-rc.d" && chroot "$1" sh -ec "$2" && rm "$1/usr/sbin/policy-rc.d"',
             "sh", str(tree), install],
            log=target / "node.log", env={"DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        _finish_machine_tree(tree, "node", ["kubelet.service"])
        registry = tree / "etc/containerd/certs.d" / REGISTRY
        registry.mkdir(parents=True)
        (tree / "etc/containerd/registry.toml").rename(registry / "hosts.toml")
        _write_disk(tree, target / "node.ext4")
        shutil.rmtree(tree)

    key = key_of(mirror.uri, SUITE, PLAIN, NODE, MASKED, _rootfs_inputs(), tools.parent.name, 1)
    folder = cached("machines", key, "make the machines' disks (plain Debian and Kubernetes node)", build)
    return folder / "plain.ext4", folder / "node.ext4"


DISK_BYTES = 20 * 1024**3


def _write_disk(tree: Path, disk: Path) -> None:
    """Pack a tree into a sparse ext4 image of DISK_BYTES."""
    with disk.open("wb") as image:
        image.truncate(DISK_BYTES)
    run(["mkfs.ext4", "-q", "-F", "-L", "lab", "-E", "lazy_itable_init=1,nodiscard", "-m", "0",
         "-d", str(tree), str(disk)])  # fmt: skip
