# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's image registry: Debian's docker-registry, and what is in it.

Images are pushed once, into a storage folder in the cache. Each lab's registry starts from a copy of that folder
which takes no space: big blobs, which nobody ever changes, are the same files; all that names them is copied, so a
tag moved or an image deleted in one lab is not in another.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lab.debian import ensure_tools_tree
from lab.images import MANIFEST_TYPE, Blob, ensure_images, parse_index
from lab.log import LabError, tail
from lab.paths import cached, key_of

# Raise when what is pushed, or how, changes other than by the images.
RECIPE = 1
# Blobs from this size on are shared between storages by hard links; smaller ones are copied with the rest.
SHARED_FROM_BYTES = 64 * 1024
# The repository of docker.io that a name without a slash means there: with it the registry can stand in for docker.io.
DOCKER_HUB_PREFIX = "library/"


# -- pure ------------------------------------------------------------------------------------------------------------


def render_config(storage: Path, address: str) -> str:
    """The registry's configuration: no password, plain HTTP on ``address`` (``10.0.0.1:5000``), deletion allowed.

    It is JSON, which is YAML. Nothing is fetched from elsewhere for an image that is not there: a lab in which an
    image is missing must look like that. Source: distribution 2.8, docs/configuration.md.
    """
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
            # No cache of blobs: files may be changed beneath the registry to break an image.
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": address, "secret": "lab", "headers": {"X-Content-Type-Options": ["nosniff"]}},
    }
    return json.dumps(config, indent=1) + "\n"


def manifest_url(registry_url: str, repository: str, reference: str) -> str:
    """Where a manifest is; ``reference`` is a tag or a digest."""
    return f"{registry_url.rstrip('/')}/v2/{repository}/manifests/{reference}"


def upload_url(registry_url: str, repository: str, digest: str, mount_from: str | None) -> str:
    """Where to start an upload, or to have the blob mounted from a repository that has it."""
    start = f"{registry_url.rstrip('/')}/v2/{repository}/blobs/uploads/"
    if mount_from is None:
        return start
    return f"{start}?{urllib.parse.urlencode({'mount': digest, 'from': mount_from})}"


def completion_url(registry_url: str, location: str, digest: str) -> str:
    """Where to send a blob: the location that the registry gave, whole or not, with the digest added."""
    url = urllib.parse.urlsplit(urllib.parse.urljoin(registry_url.rstrip("/") + "/", location))
    query = [*urllib.parse.parse_qsl(url.query, keep_blank_values=True), ("digest", digest)]
    return urllib.parse.urlunsplit(url._replace(query=urllib.parse.urlencode(query)))


def repositories_of(name: str) -> tuple[str, ...]:
    """The repositories that an image of this name is pushed to.

    >>> repositories_of("mysql"), repositories_of("team/app")
    (('mysql', 'library/mysql'), ('team/app',))
    """
    return (name,) if "/" in name else (name, DOCKER_HUB_PREFIX + name)


def parse_manifest(text: str) -> list[Blob]:
    """All blobs that an image manifest needs, config first. Raises LabError when it is not an image manifest."""
    try:
        manifest = json.loads(text)
        return [Blob(str(x["digest"]), int(x["size"])) for x in (manifest["config"], *manifest["layers"])]
    except (ValueError, KeyError, TypeError) as broken:
        raise LabError(f"not an image manifest: {broken!r}") from broken


# -- HTTP ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the registry said; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_kwargs: object) -> None:
        return None


# The registry is in the lab: a proxy that the environment names does not know it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def ask(
    method: str,
    url: str,
    data: bytes | BinaryIO | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> Answer:
    """One request to a registry; any status is an answer. Raises LabError when there is none."""
    if not url.startswith("http://"):
        raise LabError(f"the lab's registry speaks plain HTTP, this is no address of it: {url}")
    request = urllib.request.Request(url, data=data, headers=dict(headers or {}), method=method)  # noqa: S310
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            return Answer(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, {k.lower(): v for k, v in refused.headers.items()}, refused.read())
    except (OSError, http.client.HTTPException) as broken:
        raise LabError(f"no answer from the registry to {method} {url}: {broken}") from broken


def _must(answer: Answer, statuses: tuple[int, ...], what: str) -> Answer:
    if answer.status not in statuses:
        said = answer.body.decode(errors="replace").strip()[:500]
        raise LabError(f"the registry refused to {what}: status {answer.status} {said}")
    return answer


def _push_blob(registry_url: str, repository: str, blob: Blob, path: Path, mount_from: str | None) -> None:
    url = f"{registry_url.rstrip('/')}/v2/{repository}/blobs/{blob.digest}"
    what = f"take blob {blob.digest} for {repository}"
    if _must(ask("HEAD", url), (200, 404), what).status == 200:
        return
    start = upload_url(registry_url, repository, blob.digest, mount_from)
    begun = _must(ask("POST", start, b"", {"Content-Length": "0"}), (201, 202), what)
    if begun.status == 201:  # mounted
        return
    if "location" not in begun.headers:
        raise LabError(f"the registry gave no place to {what}")
    with path.open("rb") as content:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        where = completion_url(registry_url, begun.headers["location"], blob.digest)
        _must(ask("PUT", where, content, headers, timeout_s=600), (201,), what)


def put_manifest(registry_url: str, repository: str, tag: str, manifest: bytes) -> str:
    """Give a manifest a tag, which may be on another one so far; returns its digest by the registry."""
    what = f"take the manifest of {repository}:{tag}"
    headers = {"Content-Type": MANIFEST_TYPE}
    answer = _must(ask("PUT", manifest_url(registry_url, repository, tag), manifest, headers), (201,), what)
    return answer.headers.get("docker-content-digest", "")


def observe_digest(registry_url: str, repository: str, tag: str) -> str | None:
    """The digest that a tag names at present; None when there is no such tag or repository."""
    answer = ask("HEAD", manifest_url(registry_url, repository, tag), headers={"Accept": MANIFEST_TYPE})
    if answer.status == 404:
        return None
    return _must(answer, (200,), f"tell of {repository}:{tag}").headers.get("docker-content-digest")


def push(layout: Path, registry_url: str, name: str, tag: str) -> str:
    """Push ``name:tag`` of an image layout, to each of ``repositories_of(name)``; returns the manifest's digest.

    What the registry has already is not sent again. Raises LabError when the layout has no such image, or the
    registry says no.
    """
    manifests = parse_index((layout / "index.json").read_text())
    if (blob := manifests.get(f"{name}:{tag}")) is None:
        raise LabError(f"no image {name}:{tag} in {layout}: there are {', '.join(sorted(manifests))}")
    blobs = layout / "blobs" / "sha256"
    manifest = (blobs / blob.digest.removeprefix("sha256:")).read_bytes()
    home = repositories_of(name)[0]
    for repository in repositories_of(name):
        for part in parse_manifest(manifest.decode()):
            path = blobs / part.digest.removeprefix("sha256:")
            _push_blob(registry_url, repository, part, path, None if repository == home else home)
        told = put_manifest(registry_url, repository, tag, manifest)
        if told != blob.digest:
            raise LabError(f"the registry says that {repository}:{tag} is {told}, it was sent {blob.digest}")
    return blob.digest


def tag_as(registry_url: str, repository: str, tag: str, new_tag: str) -> str:
    """Give an image one more tag, or move a tag to it, as a user who pushes over an old tag does."""
    url = manifest_url(registry_url, repository, tag)
    answer = _must(ask("GET", url, headers={"Accept": MANIFEST_TYPE}), (200,), f"give {repository}:{tag}")
    return put_manifest(registry_url, repository, new_tag, answer.body)


# -- the registry's program and storage ------------------------------------------------------------------------------


def registry_command(tools: Path, config: Path) -> list[str]:
    """Run the tools tree's docker-registry on this host's own files: through its own loader, without chroot."""
    loader = next(iter(sorted((tools / "usr").glob("lib*/ld-linux-*.so.*"))), None)
    if loader is None:
        raise LabError(f"no program loader in {tools}", "delete that folder: it is made anew")
    libraries = ":".join(str(path) for path in sorted((tools / "usr/lib").glob("*-linux-gnu*")))
    return [str(loader), "--library-path", libraries, str(tools / "usr/bin/docker-registry"), "serve", str(config)]


@contextlib.contextmanager
def running_registry(storage: Path, work: Path, timeout_s: float = 20) -> Iterator[str]:
    """A registry on a free loopback port while inside; gives its URL. Its files other than storage go to ``work``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage.mkdir(parents=True, exist_ok=True)
    config, log = work / "registry.yml", work / "registry.log"
    config.write_text(render_config(storage, address))
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *registry_command(ensure_tools_tree(), config)]
    with log.open("ab") as sink:
        server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(server, f"http://{address}", log, timeout_s)
        yield f"http://{address}"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while server.poll() is None:
        with contextlib.suppress(LabError):
            if ask("GET", f"{url}/v2/", timeout_s=2).status == 200:
                return
        if time.monotonic() > deadline:
            raise LabError(f"the registry does not answer after {timeout_s} s\n{tail(log)}")
        time.sleep(0.02)
    raise LabError(f"the registry ended with status {server.returncode}\n{tail(log)}")


def ensure_registry_storage() -> Path:
    """The storage folder of a registry that has all of the lab's images, filled if the cache has none."""
    layout = ensure_images()

    def build(partial: Path) -> None:
        storage, work = partial / "storage", partial / "work"
        work.mkdir()
        with running_registry(storage, work) as url:
            for ref in parse_index((layout / "index.json").read_text()):
                name, _, tag = ref.rpartition(":")
                push(layout, url, name, tag)
        shutil.rmtree(work)

    key = key_of(RECIPE, layout.name, ensure_tools_tree().parent.name)
    return cached("registry", key, "push the images into the registry's storage", build) / "storage"


def seed_storage(cached_storage: Path, target: Path) -> None:
    """Make ``target`` (which must not exist) a storage of its own with all that ``cached_storage`` holds.

    The registry writes files that name things (links of tags and layers) in place, but a blob's data only once, under
    its digest, by renaming a finished upload. So the data can be one file in many storages; the rest is copied.
    """
    blobs = cached_storage / "docker/registry/v2/blobs"
    if not blobs.is_dir():
        raise LabError(f"{cached_storage} is not the storage of a registry", "delete that folder: it is made anew")

    def copy(source: str, destination: str) -> str:
        if Path(source).is_relative_to(blobs) and Path(source).stat().st_size >= SHARED_FROM_BYTES:
            try:
                os.link(source, destination)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(source, destination)
        else:
            shutil.copyfile(source, destination)
        return destination

    shutil.copytree(cached_storage, target, copy_function=copy)
