# SPDX-License-Identifier: GPL-3.0-or-later
"""A pet that is killed while replication is set up for the first time, between the statements or within one.

Each time a set of its own, from nothing. The run gets through or says why it does not; the next one does the rest.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.robustness.nemesis.base import Pick
from tests.robustness.nemesis.kill import MysqldKill
from tests.robustness.world import Place, World

from .conftest import Lab, wait_for
from .sites import a_site

pytestmark = [pytest.mark.lab, pytest.mark.stories]

NAMESPACE = "test-first"
TASK = "TASK [stateful.petset.mysql_replication : Replication between the pets]"


# How long after the task has begun: accounts and settings, channels, the wait until they run.
@pytest.mark.parametrize(
    ("victims", "after_s"),
    [(("mysql-0",), 0.0), (("mysql-1",), 1.5), (("mysql-0",), 3.0), (("mysql-0", "mysql-1"), 1.5)],
    ids=["first-at-once", "second", "first-later", "both"],
)
def test_a_pet_that_is_killed_in_the_first_set_up_of_replication(
    lab: Lab, tmp_path: Path, victims: tuple[str, ...], after_s: float
) -> None:
    with a_site(lab, NAMESPACE, tmp_path) as site:
        world = World(Place(namespace=NAMESPACE, lab=lab.name), tmp_path / "world.log")
        running = site.start("site")
        try:
            running.wait_for_task(TASK, 240, every_s=0.1)
            begin = time.monotonic()
            fault, pick = MysqldKill(), Pick(victims)
            fault.setup(world, pick)
            time.sleep(max(0.0, begin + after_s - time.monotonic()))
            assert running.is_in_task(TASK), "the task is over already"
            fault.inject(world, pick)
            wait_for("mysqld is killed", lambda: fault.is_effective(world, pick), 10)
            play = running.wait()
        finally:
            running.kill()
        assert play.rc in (0, 2), play.output
        if play.rc:
            [failed] = [task for task in play.tasks if task["outcome"] == "failed"]
            assert failed["task"].endswith("Replication between the pets"), play.output
            assert any(pet in failed["msg"] for pet in victims), failed["msg"]
            assert "Run again" in failed["msg"], failed["msg"]
        site.play("site")
        settled = site.play("site")
        assert (settled.changes, settled.writes) == ([], [])
        assert re.search(rf"{NAMESPACE}/mysql: healthy", site.play("status").output)
        executed = [site.pets.sql(pet, "SELECT @@server_uuid, @@gtid_executed").split() for pet in site.pets.names]
        assert executed[0][1] == executed[1][1]
        # No pet has transactions of its own that the other should not have: both uuids, at most, and nobody else's.
        assert set(re.findall(r"[0-9a-f-]{36}", executed[0][1])) <= {uuid for uuid, _gtids in executed}
