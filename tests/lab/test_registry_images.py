# SPDX-License-Identifier: GPL-3.0-or-later
"""The real registry serves the real images, and the images are what their names promise. No machines, loopback only."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import images, registry
from lab.images import IMAGES, MANIFEST_TYPE, parse_index
from lab.log import LabError

pytestmark = [pytest.mark.lab, pytest.mark.slow]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.fixture(scope="module")
def manifests() -> dict[str, images.Blob]:
    """``name:tag`` -> manifest, of the cached layout."""
    return parse_index((images.ensure_images() / "index.json").read_text())


def _seeded(folder: Path) -> Path:
    folder.mkdir()
    registry.seed_storage(registry.ensure_registry_storage(), folder / "storage")
    return folder / "storage"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on a storage as a lab has it."""
    folder = tmp_path_factory.mktemp("registry")
    with registry.running_registry(_seeded(folder / "lab"), folder) as address:
        yield address


@pytest.mark.parametrize("ref", [image.ref for image in IMAGES])
def test_each_image_is_served_under_its_names(url: str, manifests: dict[str, images.Blob], ref: str) -> None:
    name, _, tag = ref.partition(":")
    for repository in registry.repositories_of(name):
        assert registry.observe_digest(url, repository, tag) == manifests[ref].digest
        answer = registry.ask("GET", registry.manifest_url(url, repository, tag), headers={"Accept": MANIFEST_TYPE})
        assert images.blob_of(answer.body) == manifests[ref]
        for blob in registry.parse_manifest(answer.body.decode()):
            head = registry.ask("HEAD", f"{url}/v2/{repository}/blobs/{blob.digest}")
            assert (head.status, head.headers["content-length"]) == (200, str(blob.size))


def test_next_mysql_has_another_digest(url: str) -> None:
    digests = {registry.observe_digest(url, "mysql", tag) for tag in ("9.7", "9.7-next")}
    assert len(digests) == 2
    assert None not in digests


def test_unknown_image_is_not_there(url: str) -> None:
    assert registry.observe_digest(url, "mysql", "0.0") is None
    assert registry.observe_digest(url, "nothing", "1") is None


def test_what_one_lab_changes_the_other_does_not_see(tmp_path: Path, manifests: dict[str, images.Blob]) -> None:
    one, two = _seeded(tmp_path / "one"), _seeded(tmp_path / "two")
    this, following = manifests["mysql:9.7"].digest, manifests["mysql:9.7-next"].digest
    python = manifests["python:3"].digest
    with registry.running_registry(one, tmp_path / "one") as url:
        assert registry.tag_as(url, "mysql", "9.7-next", "9.7") == following
        assert registry.observe_digest(url, "mysql", "9.7") == following
        assert registry.ask("DELETE", registry.manifest_url(url, "python", python)).status == 202
        assert registry.observe_digest(url, "python", "3") is None
        # the whole image once more over what is there: nothing shared may be written to
        assert registry.push(images.ensure_images(), url, "haproxy", "3.2") == manifests["haproxy:3.2"].digest
    with registry.running_registry(two, tmp_path / "two") as url:
        assert registry.observe_digest(url, "mysql", "9.7") == this
        assert registry.observe_digest(url, "python", "3") == python
    for data in (registry.ensure_registry_storage() / "docker/registry/v2/blobs/sha256").rglob("data"):
        assert images.blob_of(data.read_bytes()).digest == f"sha256:{data.parent.name}"


def test_registry_that_cannot_start_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "render_config", lambda storage, address: f"version: {storage} {address}\n")
    with (
        pytest.raises(LabError, match=r"(?s)ended with status 1.*configuration error"),
        registry.running_registry(tmp_path / "storage", tmp_path),
    ):
        pytest.fail("it must not come up")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, manifests: dict[str, images.Blob]) -> dict[str, Path]:
    """Image -> its tree, unpacked from its layers."""
    layout = images.ensure_images() / "blobs/sha256"
    trees = {}
    for ref in ("mysql:9.7", "mysql-official:9.7", "haproxy:3.2", "python:3"):
        trees[ref] = tmp_path_factory.mktemp(ref.partition(":")[0])
        manifest = json.loads((layout / manifests[ref].digest.removeprefix("sha256:")).read_text())
        for layer in manifest["layers"]:
            blob = layout / layer["digest"].removeprefix("sha256:")
            subprocess.run(["tar", "-xpf", blob, "-C", trees[ref], "--numeric-owner"], check=True)
    return trees


def _inside(root: Path, script: str) -> str:
    # No /proc and no /dev of the host in there, and no network: whatever runs in it reaches nothing else.
    argv = ["unshare", "--mount", "--pid", "--fork", "--net", "--", "chroot", root, "/bin/sh", "-ec", script]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env={"PATH": images.PATH[5:]}).stdout


@needs_root
@pytest.mark.parametrize("ref", ["mysql:9.7", "mysql-official:9.7", "haproxy:3.2", "python:3"])
def test_no_program_of_an_image_lacks_a_library(roots: dict[str, Path], ref: str) -> None:
    script = """
    find /usr/bin /usr/sbin /usr/lib -type f '(' -perm -100 -o -name '*.so*' ')' | while read -r file; do
        ldd "$file" 2>/tmp/errors | sed -n "s|not found|not found by $file|p"
    done
    rm -f /tmp/errors
    """
    assert _inside(roots[ref], script) == ""


@needs_root
@pytest.mark.parametrize(
    ("ref", "script", "said"),
    [
        ("mysql:9.7", "mysqld --version; mysql --version; id -u mysql", "mysqld  Ver 9.7."),
        ("mysql-official:9.7", "docker-entrypoint.sh --version; cat /etc/my.cnf", "!includedir /etc/mysql/conf.d/"),
        ("haproxy:3.2", "docker-entrypoint.sh -v; id -u haproxy; cat /usr/local/etc/haproxy/errors/503.http", "3.2."),
        ("python:3", "python3 -c 'import ssl, sqlite3, pymysql, json; print(json.__cached__)'", "/json/__pycache__/"),
    ],
)
def test_programs_of_an_image_run(roots: dict[str, Path], ref: str, script: str, said: str) -> None:
    assert said in _inside(roots[ref], script)


@needs_root
def test_mysql_images_have_no_python(roots: dict[str, Path]) -> None:
    for ref in ("mysql:9.7", "mysql-official:9.7"):
        assert not list(roots[ref].glob("usr/*bin/python*"))


def test_same_packages_make_the_same_images(tmp_path: Path) -> None:
    first = images.ensure_images()
    images._build_images(tmp_path)
    if (first / "packages.json").read_bytes() != (tmp_path / "packages.json").read_bytes():
        pytest.skip("the mirror has newer packages than the cached images are made of")
    assert (first / "index.json").read_bytes() == (tmp_path / "index.json").read_bytes()
