# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of the pages for users are run against a real API server: commands in check mode, plays of the roles.

The README's are those of docs/stories/first_run.md (tests/unit/meta/test_examples.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.cluster import Cluster
from tests.api.test_playbooks import playing_kubelet
from tests.examples import PAGES, USUAL, Block, Kind, Page, all_blocks, plays_of, read_page

pytestmark = [pytest.mark.api, pytest.mark.playbooks]

# A limit needs it by name.
LOCALHOST = """
all:
  hosts:
    localhost: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
# A drill and a look need pets that run: molecule/recovery does both.
NEEDS_PETS = "stateful.petset.recovery"


def run_ansible(folder: Path, words: Sequence[str | Path]) -> tuple[str, int]:
    """What ansible-playbook said, and how much it changed on this host; it has to come to a good end."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        cwd=folder,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    (changed,) = re.findall(r"^localhost .* changed=(\d+) ", said, re.MULTILINE)
    return said, int(changed)


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
    for number, inventory in enumerate(page.inventories or (USUAL,)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "inventory.yml").write_text(inventory)
        (folder / "localhost.yml").write_text(LOCALHOST)
        for words in to_run(page):
            position = api.audit_position()
            said, changed = run_ansible(
                folder,
                [
                    *(*words[1:], "--check"),
                    # The NFS server of an example is nobody's; its play is what tests/lab runs.
                    *("--limit", "localhost", "-i", "localhost.yml"),
                    *("-e", f"petset_namespace={namespace}", "-e", f"petset_kubeconfig={api.kubeconfig()}"),
                ],
            )
            assert (changed > 0) is ("stateful.petset.site" in words), said
            assert [line for line in api.audited_writes(position) if "(dry run)" not in line] == []


class Plays:
    """The plays of the roles' pages, run on one namespace."""

    def __init__(self, api: Cluster, namespace: str, folder: Path) -> None:
        self.api = api
        self.namespace = namespace
        self.folder = folder
        self.writes: list[str] = []

    def run(self, role: str, *words: str, number: int = 0, **variables: Any) -> tuple[str, int]:
        """Run an example of the page of the role; ``variables`` without the role's prefix."""
        given = {"namespace": self.namespace, "kubeconfig": str(self.api.kubeconfig()), **variables}
        (self.folder / "play.yml").write_text(yaml.safe_dump(plays_of(role_examples(role)[number])))
        (self.folder / "given.yml").write_text(yaml.safe_dump({f"{role}_{key}": v for key, v in given.items()}))
        position = self.api.audit_position()
        outcome = run_ansible(self.folder, ["play.yml", "-e", "@given.yml", *words])
        self.writes = [line for line in self.api.audited_writes(position) if "(dry run)" not in line]
        return outcome

    def run_twice(self, role: str, **variables: Any) -> None:
        """Check mode, the example, and the example again, which changes nothing."""
        said, changed = self.run(role, "--check", "--diff", **variables)
        assert changed > 0, said
        assert self.writes == []
        said, changed = self.run(role, **variables)
        assert changed > 0, said
        said, changed = self.run(role, **variables)
        assert changed == 0, said
        assert self.writes == []


def role_examples(role: str) -> tuple[Block, ...]:
    """Plays and variables of the page of a role, those in files for a playbook aside."""
    found = all_blocks(Kind.PLAYS, Kind.VARIABLES, pages=(f"docs/roles/{role}.md",))
    return tuple(block for block in found if not block.name)


# How many examples of each page are run below. The NFS server's play is for a machine: tests/lab runs that role.
RUN = {"pet_volumes": 2, "pet_set": 1, "haproxy": 1, "mysql_replication": 1, "recovery_check": 1}


def test_every_example_of_a_role_is_run_here() -> None:
    found = {Path(block.page).stem for block in all_blocks(Kind.PLAYS)}
    assert {role: len(role_examples(role)) for role in found} == {**RUN, "nfs_exports": 1}


def test_the_plays_of_the_roles_work_as_they_stand(api: Cluster, namespace: str, tmp_path: Path) -> None:
    """One after the other, as a user would who goes without the playbooks. The kubelet is played; no MySQL answers."""
    plays = Plays(api, namespace, tmp_path)
    with playing_kubelet(api, namespace):
        plays.run_twice("pet_volumes", wait_timeout=60)
        plays.run_twice("pet_set", wait_timeout=60)
        plays.run_twice("haproxy", wait_timeout=60)
        # A third pet's volume, for the example that takes it away.
        plays.run("pet_volumes", replicas=3, wait_timeout=60)
        said, changed = plays.run("pet_volumes", number=1, wait_timeout=60)
        assert changed == 1, said
        claims = api.request("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")["items"]
        assert sorted(one["metadata"]["name"] for one in claims) == ["db-mysql-0", "db-mysql-1"]
        said, _changed = plays.run("mysql_replication", "--check", "-v")
        assert "cannot be known yet: mysql-0 does not answer" in said
        # A port-forward to a pod is no write, whatever the API server calls it.
        assert [line for line in plays.writes if " pods mysql-" not in line] == []
        # Nothing runs in these pods, so nothing in them is asked; what is not known would not pass.
        report = tmp_path / "report"
        options = {"probe": False, "second_look": 0, "must_be_healthy": False, "report_dir": str(report)}
        said, changed = plays.run("recovery_check", "-v", **options)
        assert "mysql-0 could not be asked" in said
        assert changed == 0, said
        assert [line for line in plays.writes if " pods mysql-" not in line] == []
        assert sorted(path.name for path in report.iterdir()) == ["report.html", "report.json", "report.md"]
