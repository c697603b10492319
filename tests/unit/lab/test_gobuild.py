# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions that are understood, the modules that are written and the programs of one's own that are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import gobuild
from lab.log import LabError

# The shape of Kubernetes' own go.mod: staging modules are required as v0.0.0 and pointed at folders.
KUBERNETES_GO_MOD = """\
// This is a generated file. Do not edit directly.
module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	github.com/blang/semver/v4 v4.0.0
	k8s.io/api v0.0.0
	k8s.io/client-go v0.0.0
	k8s.io/klog/v2 v2.140.0
	k8s.io/kube-openapi v0.0.0-20260317180543-43fb72c5454a
	k8s.io/system-validators v1.12.1
	k8s.io/utils v0.0.0-20260210185600-b8788abfbbc2
	sigs.k8s.io/yaml v1.6.0
)

replace (
	k8s.io/client-go => ./staging/src/k8s.io/client-go
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/sample-controller => ./staging/src/k8s.io/sample-controller
)
"""


@pytest.mark.parametrize(
    ("word", "release"),
    [
        ("1.36", "v1.36.3"),
        ("v1.33", "v1.33.13"),
        (" 1.37 ", "v1.37.2"),
        ("1.35.1", "v1.35.1"),
        ("v1.34.0", "v1.34.0"),
    ],
)
def test_minor_or_release_is_understood(word: str, release: str) -> None:
    assert gobuild.parse_kubernetes_version(word) == release


@pytest.mark.parametrize("word", ["1.32", "1.38", "v1.32.4", "2.36", "1", "latest", "", "1.36.x", "1.36.3-rc.1"])
def test_other_versions_are_refused_with_the_range(word: str) -> None:
    with pytest.raises(LabError) as refused:
        gobuild.parse_kubernetes_version(word)
    assert "1.33 to 1.37" in str(refused.value.hint)


def test_each_pinned_patch_belongs_to_its_minor() -> None:
    assert gobuild.DEFAULT_MINOR in gobuild.KUBERNETES_PATCHES
    for minor, release in gobuild.KUBERNETES_PATCHES.items():
        assert gobuild.KubeBinaries(release, Path("/x")).minor == minor


def test_go_mod_points_staging_modules_at_their_published_release() -> None:
    assert gobuild.render_go_mod("v1.36.3", KUBERNETES_GO_MOD) == (
        "module petset.invalid/kubernetes\n"
        "\n"
        "go 1.26.0\n"
        "\n"
        "godebug default=go1.26\n"
        "\n"
        "require k8s.io/kubernetes v1.36.3\n"
        "\n"
        "replace (\n"
        "\tk8s.io/api => k8s.io/api v0.36.3\n"
        "\tk8s.io/client-go => k8s.io/client-go v0.36.3\n"
        "\tk8s.io/sample-controller => k8s.io/sample-controller v0.36.3\n"
        ")\n"
    )


@pytest.mark.parametrize("module", ["k8s.io/utils", "k8s.io/kube-openapi", "k8s.io/klog/v2", "sigs.k8s.io/yaml"])
def test_modules_with_versions_of_their_own_are_not_replaced(module: str) -> None:
    assert f"\t{module} " not in gobuild.render_go_mod("v1.36.3", KUBERNETES_GO_MOD)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("module k\n\ngo 1.24.0\n\nreplace k8s.io/api => ./staging/src/k8s.io/api\n", "go 1.24.0\n\nrequire"),
        (KUBERNETES_GO_MOD + "godebug gotypesalias=0\n", "godebug default=go1.26\ngodebug gotypesalias=0\n"),
    ],
)
def test_go_and_godebug_lines_are_those_of_kubernetes(text: str, expected: str) -> None:
    assert expected in gobuild.render_go_mod("v1.33.13", text)
    assert "\tk8s.io/api => k8s.io/api v0.33.13\n" in gobuild.render_go_mod("v1.33.13", text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("module other\n\ngo 1.26.0\n", "staging"), (KUBERNETES_GO_MOD.replace("go 1.26.0\n", ""), "'go' line")],
)
def test_another_go_mod_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        gobuild.render_go_mod("v1.36.3", text)


def test_programs_are_told_their_release_and_no_build_time() -> None:
    flags = gobuild.render_version_flags("v1.36.3", "2026-07-22T18:07:38Z").split(" -X ")
    assert flags[0] == "-s -w"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        told = dict(flag.removeprefix(package + ".").split("=", 1) for flag in flags if flag.startswith(package))
        assert told == {
            "gitVersion": "v1.36.3", "gitMajor": "1", "gitMinor": "36", "gitCommit": "", "gitTreeState": "archive",
            "buildDate": "2026-07-22T18:07:38Z",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("1.24.0", (1, 24, 0)),
        ("go1.27rc1", (1, 27)),
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go1.26.8 X:nodwarf5", (1, 26, 8)),
    ],
)
def test_go_release_is_read(text: str, release: tuple[int, ...]) -> None:
    assert gobuild.parse_go_release(text) == release


@pytest.mark.parametrize(
    ("have", "needed", "toolchain"),
    [
        ("go1.26.8", "1.26.0", None),
        ("go1.26.0", "1.26.0", None),
        ("go1.27.1", "1.24.0", None),
        ("go1.25.9", "1.26.0", "go1.26.0+auto"),
        ("go1.21.0", "1.26.0", "go1.26.0+auto"),
    ],
)
def test_newer_toolchain_is_fetched_only_when_needed(have: str, needed: str, toolchain: str | None) -> None:
    assert gobuild.decide_toolchain(have, needed, "Kubernetes v1.36.3") == toolchain


def test_go_that_cannot_fetch_a_newer_one_is_refused() -> None:
    with pytest.raises(LabError, match=r"needs Go 1\.26\.0; this machine has go1\.19\.8") as refused:
        gobuild.decide_toolchain("go1.19.8", "1.26.0", "Kubernetes v1.36.3")
    assert "install Go 1.26.0" in str(refused.value.hint)


def test_no_go_names_both_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="no Go compiler") as refused:
        gobuild.observe_go_version()
    assert "--kube-bin-dir" in str(refused.value.hint)
    assert "go.dev" in str(refused.value.hint)


def test_coredns_has_the_plugins_of_a_cluster_and_no_more() -> None:
    source = gobuild.render_coredns_main(("kubernetes", "errors"))
    assert source.startswith("package main\n")
    assert source.count("/plugin/") == 2
    assert {"kubernetes", "forward", "cache", "errors", "health", "ready", "loop"} <= set(gobuild.COREDNS_PLUGINS)


def test_build_command_is_one_without_a_shell() -> None:
    argv = gobuild.render_build_command(Path("/cache/x"), "-s -w", ["a", "b"])
    assert argv[:2] == ["go", "build"]
    assert "-ldflags=-s -w" in argv
    assert argv[-4:] == ["-o", "/cache/x/", "a", "b"]


def _programs(folder: Path, versions: dict[str, str]) -> None:
    for name, version in versions.items():
        text = f"Client Version: {version}" if name == "kubectl" else f"Kubernetes {version}"
        (folder / name).write_text(f"#!/bin/sh\necho '{text}'\n")
        (folder / name).chmod(0o755)


def test_own_programs_are_taken_with_their_release(tmp_path: Path) -> None:
    _programs(tmp_path, dict.fromkeys(gobuild.KUBE_PROGRAMS, "v1.35.2"))
    found = gobuild.ensure_kubernetes(bin_dir=tmp_path)
    assert found == gobuild.KubeBinaries("v1.35.2", tmp_path)
    assert found["kubelet"] == tmp_path / "kubelet"
    with pytest.raises(KeyError):
        found["kubeadm"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kubelet": "v1.35.1"}, "not of one release: .*kubelet v1.35.1"),
        (dict.fromkeys(gobuild.KUBE_PROGRAMS, "v1.30.0"), "it knows 1.33 to 1.37"),
    ],
)
def test_own_programs_must_be_of_one_known_release(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    _programs(tmp_path, {**dict.fromkeys(gobuild.KUBE_PROGRAMS, "v1.35.2"), **change})
    with pytest.raises(LabError, match=complaint):
        gobuild.ensure_kubernetes(bin_dir=tmp_path)


def test_missing_own_programs_are_named(tmp_path: Path) -> None:
    _programs(tmp_path, {name: "v1.35.2" for name in gobuild.KUBE_PROGRAMS if name != "kube-proxy"})
    (tmp_path / "kubectl").chmod(0o644)
    with pytest.raises(LabError, match="lacks kubectl, kube-proxy"):
        gobuild.ensure_kubernetes(bin_dir=tmp_path)


def test_api_programs_are_the_labs_own_where_it_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another release is not built whole for its API server, and one that was built whole is not built again."""
    monkeypatch.setenv("PETSET_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(gobuild, "observe_go_version", lambda: "go1.26.8")
    built: list[tuple[str, tuple[str, ...]]] = []

    def build(_partial: Path, version: str, programs: tuple[str, ...]) -> None:
        built.append((version, programs))

    monkeypatch.setattr(gobuild, "_build_kubernetes", build)
    gobuild.ensure_api_programs("1.37")
    gobuild.ensure_api_programs("v1.37.2")
    gobuild.ensure_api_programs()
    whole = gobuild.ensure_kubernetes("1.33").folder
    assert gobuild.ensure_api_programs("1.33") == whole
    assert built == [
        ("v1.37.2", gobuild.API_PROGRAMS),
        (gobuild.KUBERNETES_PATCHES[gobuild.DEFAULT_MINOR], gobuild.KUBE_PROGRAMS),
        ("v1.33.13", gobuild.KUBE_PROGRAMS),
    ]
