# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the pages for users are run, in check mode, against a real API server.

The README's are those of docs/stories/first_run.md (tests/unit/meta/test_examples.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.cluster import Cluster
from tests.examples import PAGES, Page, read_page

pytestmark = [pytest.mark.api, pytest.mark.playbooks]

# For pages that speak of a set which is there already.
USUAL = "all: {vars: {petset_nfs_managed: false, petset_nfs_server: 192.0.2.20}}\n"
# A limit needs it by name.
LOCALHOST = """
all:
  hosts:
    localhost: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
# A drill and a look need pets that run: molecule/recovery does both.
NEEDS_PETS = "stateful.petset.recovery"


def to_run(page: Page) -> list[tuple[str, ...]]:
    """A page's commands that need no pets; all are run in check mode, so some are the same now."""
    commands = {tuple(word for word in words if word not in ("--check", "--diff")) for words in page.commands}
    return sorted(words for words in commands if NEEDS_PETS not in words)


@pytest.fixture
def fast_class(api: Cluster) -> Iterator[None]:
    """The storage class of docs/stories/other_storage.md; who makes its volumes is not looked for among CSI drivers."""
    manifest = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "fast"},
        "provisioner": "example.com/in-tree",
        "reclaimPolicy": "Retain",
    }
    api.request("POST", "/apis/storage.k8s.io/v1/storageclasses", manifest)
    yield
    api.request("DELETE", "/apis/storage.k8s.io/v1/storageclasses/fast")


@pytest.mark.usefixtures("fast_class")
@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md" and to_run(read_page(name))])
def test_examples_work_as_they_stand(api: Cluster, namespace: str, tmp_path: Path, name: str) -> None:
    page = read_page(name)
    inventories = [content for file, content in page.files if file == "inventory.yml"] or [USUAL]
    for number, inventory in enumerate(inventories):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "inventory.yml").write_text(inventory)
        (folder / "localhost.yml").write_text(LOCALHOST)
        for words in to_run(page):
            position = api.audit_position()
            done = subprocess.run(
                [
                    *(Path(sys.executable).with_name(words[0]), *words[1:], "--check"),
                    # The NFS server of an example is nobody's; its play is what tests/lab runs.
                    *("--limit", "localhost", "-i", "localhost.yml"),
                    *("-e", f"petset_namespace={namespace}", "-e", f"petset_kubeconfig={api.kubeconfig()}"),
                ],
                cwd=folder,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
            changed = re.findall(r"^localhost .* changed=(\d+) ", said, re.MULTILINE)
            assert (changed != ["0"]) is ("stateful.petset.site" in words), said
            assert [line for line in api.audited_writes(position) if "(dry run)" not in line] == []
