# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to a registry, and what a lab's own storage shares with the cached one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import pytest

from lab import images, registry
from lab.log import LabError
from lab.registry import Answer

URL = "http://registry.test:5000"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class FakeRegistry:
    """A registry in memory that keeps to the API: blobs belong to repositories, manifests need their blobs."""

    def __init__(self) -> None:
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.log: list[str] = []
        self.sent_bytes = 0
        self.mounts = True

    def ask(
        self, method: str, url: str, data: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None, timeout_s: float = 60,
    ) -> Answer:  # fmt: skip
        parts = urlsplit(url)
        self.log.append(f"{method} {parts.path}")
        body = data if isinstance(data, bytes) else data.read() if data else b""
        kind = "/blobs/" if "/blobs/" in url else "/manifests/"
        repository, _, rest = parts.path.removeprefix("/v2/").partition(kind)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        held = self.blobs.setdefault(repository, {})
        if "/manifests/" in parts.path:
            return self._manifest(method, repository, rest, body)
        if method == "HEAD":
            return Answer(200 if rest in held else 404, {}, b"")
        if method == "POST":
            source = self.blobs.get(query.get("from", ""), {})
            if self.mounts and query.get("mount") in source:
                held[query["mount"]] = source[query["mount"]]
                return Answer(201, {}, b"")
            return Answer(202, {"location": f"/v2/{repository}/blobs/uploads/7?_state=abc"}, b"")
        assert (method, query["_state"]) == ("PUT", "abc")
        assert (headers or {})["Content-Length"] == str(len(body))
        if _digest(body) != query["digest"]:
            return Answer(400, {}, b"DIGEST_INVALID")
        held[query["digest"]] = body
        self.sent_bytes += len(body)
        return Answer(201, {}, b"")

    def _manifest(self, method: str, repository: str, reference: str, body: bytes) -> Answer:
        if method == "PUT":
            if {x.digest for x in registry.parse_manifest(body.decode())} - set(self.blobs[repository]):
                return Answer(400, {}, b"MANIFEST_BLOB_UNKNOWN")
            self.manifests[repository, reference] = body
            return Answer(201, {"docker-content-digest": _digest(body)}, b"")
        found = self.manifests.get((repository, reference))
        if found is None:
            return Answer(404, {}, b"MANIFEST_UNKNOWN")
        return Answer(200, {"docker-content-digest": _digest(found)}, b"" if method == "HEAD" else found)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """In place of the network."""
    server = FakeRegistry()
    monkeypatch.setattr(registry, "ask", server.ask)
    return server


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with ``app:1`` and ``app:2``, which share a layer of 1000 bytes."""
    blobs = tmp_path / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def store(data: bytes) -> images.Blob:
        (blobs / _digest(data).removeprefix("sha256:")).write_bytes(data)
        return images.blob_of(data)

    layer = store(b"x" * 1000)
    manifests = {}
    for tag in ("1", "2"):
        config = store(images.encode(images.render_config(images.Image("app", tag, ("l",), (tag,)), "amd64", [layer])))
        manifests[f"app:{tag}"] = store(images.encode(images.render_manifest(config, [layer])))
    (tmp_path / "layout/index.json").write_bytes(images.encode(images.render_index(manifests, "amd64")))
    return tmp_path / "layout"


def test_pushed_image_is_served_under_both_names(fake: FakeRegistry, layout: Path) -> None:
    digest = registry.push(layout, URL, "app", "1")
    assert registry.observe_digest(URL, "app", "1") == digest
    assert registry.observe_digest(URL, "library/app", "1") == digest
    assert registry.observe_digest(URL, "app", "2") is None


def test_shared_layer_is_sent_once(fake: FakeRegistry, layout: Path) -> None:
    registry.push(layout, URL, "app", "1")
    first = fake.sent_bytes
    registry.push(layout, URL, "app", "2")
    assert 1000 < first < 2000
    assert fake.sent_bytes - first < 1000


def test_registry_without_mounting_gets_each_blob_sent(fake: FakeRegistry, layout: Path) -> None:
    fake.mounts = False
    digest = registry.push(layout, URL, "app", "1")
    assert registry.observe_digest(URL, "library/app", "1") == digest
    assert fake.sent_bytes > 2000


def test_second_push_sends_no_blob(fake: FakeRegistry, layout: Path) -> None:
    registry.push(layout, URL, "app", "1")
    fake.log.clear()
    registry.push(layout, URL, "app", "1")
    assert not [line for line in fake.log if "/uploads/" in line]


def test_manifest_comes_after_its_blobs(fake: FakeRegistry, layout: Path) -> None:
    registry.push(layout, URL, "app", "1")
    assert fake.log[-1] == "PUT /v2/library/app/manifests/1"


def test_tag_can_be_moved(fake: FakeRegistry, layout: Path) -> None:
    one, two = (registry.push(layout, URL, "app", tag) for tag in ("1", "2"))
    assert one != two
    assert registry.tag_as(URL, "app", "2", "1") == two
    assert registry.observe_digest(URL, "app", "1") == two
    with pytest.raises(LabError, match="refused to give app:9: status 404 MANIFEST_UNKNOWN"):
        registry.tag_as(URL, "app", "9", "1")


def test_unknown_image_is_named_with_those_there_are(fake: FakeRegistry, layout: Path) -> None:
    with pytest.raises(LabError, match=r"no image app:3 .* app:1, app:2"):
        registry.push(layout, URL, "app", "3")
    assert fake.log == []


def test_damaged_blob_is_refused(fake: FakeRegistry, layout: Path) -> None:
    layer = layout / "blobs/sha256" / _digest(b"x" * 1000).removeprefix("sha256:")
    layer.write_bytes(b"y" * 1000)
    with pytest.raises(LabError, match=r"refused to take blob sha256:\S+ for app: status 400 DIGEST_INVALID"):
        registry.push(layout, URL, "app", "1")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/a/blobs/uploads/1?_state=x%3D%3D", f"{URL}/v2/a/blobs/uploads/1?_state=x%3D%3D&digest=sha256%3Aaa"),
        (f"{URL}/v2/a/blobs/uploads/1", f"{URL}/v2/a/blobs/uploads/1?digest=sha256%3Aaa"),
    ],
)
def test_upload_ends_where_the_registry_says(location: str, expected: str) -> None:
    assert registry.completion_url(URL, location, "sha256:aa") == expected


def test_only_the_labs_plain_registry_is_spoken_to() -> None:
    with pytest.raises(LabError, match="no address of it: https://"):
        registry.ask("GET", "https://registry.test/v2/")


@pytest.mark.parametrize("text", ["", "[]", '{"config": {}}', '{"config": {"digest": "x", "size": 1}}'])
def test_other_manifest_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="not an image manifest"):
        registry.parse_manifest(text)


def test_config_is_a_closed_registry_without_password() -> None:
    config = json.loads(registry.render_config(Path("/lab/registry"), "10.0.0.1:5000"))
    assert config["http"]["addr"] == "10.0.0.1:5000"
    assert config["storage"]["filesystem"] == {"rootdirectory": "/lab/registry"}
    assert config["storage"]["delete"] == {"enabled": True}
    assert not {"auth", "proxy"} & set(config)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A registry's storage with a big blob, a small one and a tag."""
    root = tmp_path / "cached/docker/registry/v2"
    for name, data in {
        "blobs/sha256/aa/aabb/data": b"L" * registry.SHARED_FROM_BYTES,
        "blobs/sha256/cc/ccdd/data": b"{}",
        "repositories/app/_manifests/tags/1/current/link": b"sha256:ccdd",
        "repositories/app/_uploads/7/data": b"L" * registry.SHARED_FROM_BYTES,
    }.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(data)
    return tmp_path / "cached"


def test_seeded_storage_shares_big_blobs_alone(storage: Path, tmp_path: Path) -> None:
    target = tmp_path / "lab"
    registry.seed_storage(storage, target)
    shared = {
        str(path.relative_to(target / "docker/registry/v2"))
        for path in target.rglob("*")
        if path.is_file() and path.samefile(storage / path.relative_to(target))
    }
    assert shared == {"blobs/sha256/aa/aabb/data"}
    assert {p.relative_to(target) for p in target.rglob("*")} == {p.relative_to(storage) for p in storage.rglob("*")}


def test_tag_moved_in_one_lab_stays_in_the_others(storage: Path, tmp_path: Path) -> None:
    link = "docker/registry/v2/repositories/app/_manifests/tags/1/current/link"
    for lab in ("one", "two"):
        registry.seed_storage(storage, tmp_path / lab)
    (tmp_path / "one" / link).write_bytes(b"sha256:0000")  # in place, as the registry does
    assert (tmp_path / "two" / link).read_bytes() == (storage / link).read_bytes() == b"sha256:ccdd"


def test_storage_on_another_file_system_is_copied(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, destination: str) -> None:
        raise OSError(18, f"Invalid cross-device link: {source} -> {destination}")

    monkeypatch.setattr(registry.os, "link", refuse)
    registry.seed_storage(storage, tmp_path / "lab")
    data = tmp_path / "lab/docker/registry/v2/blobs/sha256/aa/aabb/data"
    assert data.stat().st_size == registry.SHARED_FROM_BYTES
    assert data.stat().st_nlink == 1


def test_folder_that_is_no_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="not the storage of a registry"):
        registry.seed_storage(tmp_path, tmp_path / "lab")
