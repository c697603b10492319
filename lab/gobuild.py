# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs built from their Go modules: Kubernetes, CoreDNS and kwok.

The Go module proxy is the one place to have any Kubernetes release from without a container registry or a download
site. Nothing is patched: each program is built by a module of our own that only says which release it wants. Results
live in the lab's cache, keyed by release, build flags and compiler, so only the first ``up`` pays for them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.log import LabError, say
from lab.paths import cached, is_cached, key_of
from lab.run import CommandError, run

DEFAULT_MINOR = "1.36"
# The newest patch release of each minor on the Go module proxy, seen 2026-11-25. Pinned: two people who build the lab
# from one commit get the same cluster.
KUBERNETES_PATCHES: Mapping[str, str] = {
    "1.33": "v1.33.13",
    "1.34": "v1.34.4",
    "1.35": "v1.35.4",
    "1.36": "v1.36.3",
    "1.37": "v1.37.2",
}
KUBE_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "kube-proxy")
# What an API server without machines is made of, beside etcd.
API_PROGRAMS = ("kube-apiserver", "kube-controller-manager")
COREDNS_VERSION = "v1.15.0"
# What a cluster's Corefile uses and what tests of name resolution need. All plugins together (route53, azure, etcd,
# tracing, ...) take twice as long to build.
COREDNS_PLUGINS = (
    "bind", "cache", "errors", "forward", "health", "hosts", "kubernetes", "loadbalance", "log", "loop", "metrics",
    "ready", "reload", "root", "template",
)  # fmt: skip
KWOK_VERSION = "v0.8.0"

# -dwarf=false spares the compiler the debug data that -s -w throws away at the end; stack traces stay whole.
GO_FLAGS = ("-mod=mod", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
# GOWORK: a workspace file above the cache folder must not reach in. GOGC: the compiler trades memory for time.
GO_ENV: Mapping[str, str] = {"CGO_ENABLED": "0", "GOWORK": "off", "GOGC": "400"}

_VERSION = re.compile(r"v?(1)\.(\d+)\.(\d+)")
_MINOR = re.compile(r"v?(1\.\d+)")
_STAGING = re.compile(r"^(?:\s*|replace\s+)(k8s\.io/\S+)\s+=>\s+\./staging/\S+", re.MULTILINE)
_GO_WORD = re.compile(r"^go (\d+\.\d+(?:\.\d+)?)", re.MULTILINE)
_GODEBUG = re.compile(r"^godebug (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KubeBinaries:
    """``version`` as ``v1.36.3``; ``folder`` holds every program of :data:`KUBE_PROGRAMS`."""

    version: str
    folder: Path

    @property
    def minor(self) -> str:
        """``1.36`` of ``v1.36.3``."""
        return self.version.removeprefix("v").rpartition(".")[0]

    def __getitem__(self, program: str) -> Path:
        """The path of one of :data:`KUBE_PROGRAMS`."""
        if program not in KUBE_PROGRAMS:
            raise KeyError(program)
        return self.folder / program


# -- pure ------------------------------------------------------------------------------------------------------------


def parse_kubernetes_version(text: str) -> str:
    """The full release that a user's word names.

    >>> parse_kubernetes_version("1.36"), parse_kubernetes_version("1.35.2")
    ('v1.36.3', 'v1.35.2')

    Raises LabError for anything else than a minor or a release of a minor in :data:`KUBERNETES_PATCHES`.
    """
    supported = f"{min(KUBERNETES_PATCHES)} to {max(KUBERNETES_PATCHES)}"
    way_out = f"name a minor from {supported} or one of its releases, as in --kubernetes {DEFAULT_MINOR}"
    word = text.strip()
    if match := _MINOR.fullmatch(word):
        minor, release = match[1], None
    elif match := _VERSION.fullmatch(word):
        minor, release = f"{match[1]}.{match[2]}", f"v{match[1]}.{match[2]}.{match[3]}"
    else:
        raise LabError(f"{text!r} is not a Kubernetes version", way_out)
    if minor not in KUBERNETES_PATCHES:
        raise LabError(f"Kubernetes {text} is not one that the lab knows: it knows {supported}", way_out)
    return release or KUBERNETES_PATCHES[minor]


def parse_go_release(text: str) -> tuple[int, ...]:
    """``(1, 26, 8)`` of ``go1.26.8``, ``1.26.8`` or ``go version go1.26.8 linux/amd64``; ``(1, 27)`` of ``go1.27rc1``.

    Raises LabError when there is no such number in the text.
    """
    match = re.search(r"\b(?:go)?(\d+(?:\.\d+)+)", text)
    if not match:
        raise LabError(f"cannot read a Go version from {text!r}", "run: go version")
    return tuple(int(part) for part in match[1].split("."))


def parse_go_directive(go_mod: str) -> str:
    """The Go release that a go.mod asks for, as ``1.26.0``. Raises LabError when it names none."""
    match = _GO_WORD.search(go_mod)
    if not match:
        raise LabError("this go.mod has no 'go' line, so the compiler that it needs is unknown")
    return match[1]


def render_go_mod(version: str, kubernetes_go_mod_text: str) -> str:
    """The go.mod that builds Kubernetes ``version`` from the module proxy.

    Kubernetes' own go.mod points its staging modules (k8s.io/api, ...) at folders that its module archive leaves out.
    They are published beside it as v0.MINOR.PATCH, so each gets a ``replace`` with that release. Modules that only
    share the name, k8s.io/utils and k8s.io/kube-openapi, have versions of their own and stay as required. ``go`` and
    ``godebug`` lines are Kubernetes' own: both change how the built programs behave.

    Raises LabError when the text names no staging module: then it is not Kubernetes' go.mod.
    """
    staging = sorted(set(_STAGING.findall(kubernetes_go_mod_text)))
    if not staging:
        raise LabError(f"the go.mod of k8s.io/kubernetes {version} names no staging modules", "clear Go's module cache")
    published = "v0." + version.removeprefix("v1.")
    lines = ["module petset.invalid/kubernetes", "", f"go {parse_go_directive(kubernetes_go_mod_text)}", ""]
    if godebug := _GODEBUG.findall(kubernetes_go_mod_text):
        lines += [*(f"godebug {setting}" for setting in godebug), ""]
    lines += [f"require k8s.io/kubernetes {version}", "", "replace ("]
    lines += [f"\t{module} => {module} {published}" for module in staging]
    return "\n".join([*lines, ")", ""])


def render_version_flags(version: str, released: str) -> str:
    """The linker flags that tell the Kubernetes programs which release they are.

    ``released`` is the time of the release, as ``2026-07-22T18:07:38Z``: the time of the build would give each
    build other bytes. The commit is not known from a module; an empty one makes client-go say ``unknown``.
    """
    major, minor, _ = version.removeprefix("v").split(".")
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "",
        "gitTreeState": "archive",
        "buildDate": released,
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    settings = [f"-X {package}.{name}={value}" for package in packages for name, value in values.items()]
    return " ".join(["-s -w", *settings])


def render_simple_go_mod(name: str, module: str, version: str, go: str) -> str:
    """The go.mod of a module that wants one other module."""
    return f"module petset.invalid/{name}\n\ngo {go}\n\nrequire {module} {version}\n"


def render_coredns_main(plugins: Sequence[str] = COREDNS_PLUGINS) -> str:
    """A CoreDNS with these plugins; their order in a query is CoreDNS' own, not that of the imports."""
    imports = [f'\t_ "github.com/coredns/coredns/plugin/{plugin}"' for plugin in sorted(plugins)]
    return "\n".join(
        [
            "package main",
            "",
            "import (",
            '\t"github.com/coredns/coredns/coremain"',
            *imports,
            ")",
            "",
            "func main() { coremain.Run() }",
            "",
        ]
    )


def render_build_command(output: Path, ldflags: str, packages: Sequence[str]) -> list[str]:
    """The ``go build`` that puts the programs of ``packages`` into the folder ``output``."""
    return ["go", "build", *GO_FLAGS, f"-ldflags={ldflags}", "-o", f"{output}/", *packages]


def decide_toolchain(have: str, needed: str, what: str) -> str | None:
    """The GOTOOLCHAIN to build ``what`` with: None to leave it as the machine has it, as its Go is new enough.

    Go fetches toolchains as modules, from where all else comes; a machine that says GOTOOLCHAIN=local for other
    reasons is overruled only when its Go is too old. Raises LabError for a Go (before 1.21) that cannot do that.
    """
    if parse_go_release(have) >= parse_go_release(needed):
        return None
    if parse_go_release(have) < (1, 21):
        raise LabError(
            f"{what} needs Go {needed}; this machine has {have}, which cannot fetch a newer one by itself",
            f"install Go {needed} or later (https://go.dev/doc/install)",
        )
    return f"go{needed}+auto"


# -- IO --------------------------------------------------------------------------------------------------------------


def observe_go_version() -> str:
    """``go1.26.8``: the Go on this machine. Raises LabError with the way out when there is none."""
    if shutil.which("go") is None:
        raise LabError(
            "there is no Go compiler (go) on PATH, and the lab builds Kubernetes from Go modules",
            "install Go 1.26 or later (https://go.dev/doc/install) or give the programs with --kube-bin-dir",
        )
    return run(["go", "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}).strip()


def _toolchain(needed: str, what: str) -> dict[str, str]:
    """What to add to Go's environment so that it is new enough for ``what``."""
    have = observe_go_version()
    wanted = decide_toolchain(have, needed, what)
    if wanted is None:
        return {}
    say(f"    {what} needs Go {needed}, this machine has {have}: Go fetches the newer toolchain")
    return {"GOTOOLCHAIN": wanted}


def _download(module: str, version: str) -> dict[str, str]:
    """Have a module in Go's module cache: what ``go mod download -json`` says of it (GoMod, Info, Dir, ...)."""
    # Outside of any module, so that nobody's go.mod has a say.
    try:
        text = run(["go", "mod", "download", "-json", f"{module}@{version}"], env=GO_ENV, cwd=Path("/"))
    except CommandError as failed:
        raise LabError(
            f"Go cannot download {module} {version}:\n{failed}",
            "check that the release exists, and GOPROXY and the network: go env GOPROXY",
        ) from failed
    found = json.loads(text)
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _build(partial: Path, ldflags: str, packages: Sequence[str], env: Mapping[str, str]) -> None:
    """Build ``packages`` in the module that lies in ``partial/module``; programs go to ``partial``."""
    log = partial / "build.log"
    run(
        ["nice", "-n", "5", *render_build_command(partial, ldflags, packages)],
        env={**GO_ENV, **env},
        cwd=partial / "module",
        log=log,
    )


def _write_module(partial: Path, go_mod: str, main: str | None = None) -> None:
    module = partial / "module"
    module.mkdir()
    (module / "go.mod").write_text(go_mod)
    if main is not None:
        (module / "main.go").write_text(main)


def _build_kubernetes(partial: Path, version: str, programs: Sequence[str]) -> None:
    source = _download("k8s.io/kubernetes", version)
    go_mod = Path(source["GoMod"]).read_text()
    released = str(json.loads(Path(source["Info"]).read_text()).get("Time", "1970-01-01T00:00:00Z"))
    _write_module(partial, render_go_mod(version, go_mod))
    packages = [f"k8s.io/kubernetes/cmd/{program}" for program in programs]
    env = _toolchain(parse_go_directive(go_mod), f"Kubernetes {version}")
    _build(partial, render_version_flags(version, released), packages, env)


def _check_bin_dir(folder: Path) -> KubeBinaries:
    """The user's own programs: all there, and all of one release that the lab knows."""
    folder = folder.resolve()
    missing = [name for name in KUBE_PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        raise LabError(
            f"{folder} lacks {', '.join(missing)} (or they may not be executed)",
            f"put all of {', '.join(KUBE_PROGRAMS)} of one release there, or leave --kube-bin-dir out",
        )
    versions = {name: _said_version(folder / name) for name in KUBE_PROGRAMS}
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        raise LabError(f"the programs in {folder} are not of one release: {told}", "take all from one release")
    return KubeBinaries(parse_kubernetes_version(versions["kubelet"]), folder)


def _said_version(program: Path) -> str:
    if program.name == "kubectl":
        text = run([str(program), "version", "--client"], env={"KUBECONFIG": "/dev/null"})
    else:
        text = run([str(program), "--version"])
    match = re.search(r"v1\.\d+\.\d+", text)
    if not match:
        raise LabError(f"cannot read a release from what {program} says its version is: {text.strip()!r}")
    return match[0]


def ensure_kubernetes(minor_or_version: str = DEFAULT_MINOR, bin_dir: Path | None = None) -> KubeBinaries:
    """The programs of :data:`KUBE_PROGRAMS`: from ``bin_dir`` if given (its release is what counts then), else
    from the cache, else built, which takes some 4 minutes of two cores.

    Raises LabError for a version that the lab does not know, programs that are missing or mixed, no Go compiler.
    """
    if bin_dir is not None:
        return _check_bin_dir(bin_dir)
    version = parse_kubernetes_version(minor_or_version)
    folder = cached(
        "kube", _key_of_kubernetes(version), f"build Kubernetes {version} from Go modules (some 4 min on two cores)",
        lambda partial: _build_kubernetes(partial, version, KUBE_PROGRAMS),
    )  # fmt: skip
    return KubeBinaries(version, folder)


def ensure_api_programs(minor_or_version: str = DEFAULT_MINOR) -> Path:
    """A folder with :data:`API_PROGRAMS` at least.

    The default release's is that of :func:`ensure_kubernetes`, as a lab needs all of them anyway; of another release
    no more than these are built. Raises LabError for a version that the lab does not know, no Go compiler.
    """
    version = parse_kubernetes_version(minor_or_version)
    key = _key_of_kubernetes(version)
    if version == KUBERNETES_PATCHES[DEFAULT_MINOR] or is_cached("kube", key):
        return ensure_kubernetes(version).folder
    return cached(
        "kube-api", key, f"build the API server of Kubernetes {version} from Go modules (some 3 min on two cores)",
        lambda partial: _build_kubernetes(partial, version, API_PROGRAMS),
    )  # fmt: skip


def _key_of_kubernetes(version: str) -> str:
    key = key_of(version, GO_FLAGS, render_version_flags(version, ""), observe_go_version())
    return f"{version}-{key}"


def ensure_coredns(version: str = COREDNS_VERSION) -> Path:
    """The program ``coredns`` with :data:`COREDNS_PLUGINS`, built if the cache has none."""

    def build(partial: Path) -> None:
        source = _download("github.com/coredns/coredns", version)
        go = parse_go_directive(Path(source["GoMod"]).read_text())
        _write_module(
            partial, render_simple_go_mod("coredns", "github.com/coredns/coredns", version, go), render_coredns_main()
        )
        _build(partial, "-s -w", ["."], _toolchain(go, f"CoreDNS {version}"))

    key = key_of(version, GO_FLAGS, COREDNS_PLUGINS, observe_go_version())
    return cached("coredns", f"{version}-{key}", f"build CoreDNS {version} from Go modules", build) / "coredns"


def ensure_kwok(version: str = KWOK_VERSION) -> Path:
    """The program ``kwok`` (fake nodes, to see the API at scale), built if the cache has none."""

    def build(partial: Path) -> None:
        source = _download("sigs.k8s.io/kwok", version)
        go = parse_go_directive(Path(source["GoMod"]).read_text())
        _write_module(partial, render_simple_go_mod("kwok", "sigs.k8s.io/kwok", version, go))
        _build(partial, "-s -w", ["sigs.k8s.io/kwok/cmd/kwok"], _toolchain(go, f"kwok {version}"))

    key = key_of(version, GO_FLAGS, observe_go_version())
    return cached("kwok", f"{version}-{key}", f"build kwok {version} from Go modules", build) / "kwok"


def ensure_static_program(name: str, source: str) -> Path:
    """One small Go program without dependencies, linked statically, built if the cache has none."""

    def build(partial: Path) -> None:
        _write_module(partial, f"module petset.invalid/{name}\n\ngo 1.21\n", source)
        _build(partial, "-s -w", ["."], {})

    key = key_of(name, source, GO_FLAGS, observe_go_version())
    return cached("program", f"{name}-{key}", f"build {name}", build) / name
