# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of the proxies' containers in a real shell, with a program that says what it was called with."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import CONFIG_FILE, ProxyConfig
from ansible_collections.stateful.petset.plugins.module_utils._core.pods import FINAL_REFUSALS
from ansible_collections.stateful.petset.plugins.module_utils._core.proxy import (
    REFUSED_STATUS,
    ProxyService,
    ProxySpec,
    render_deployment,
)

pytestmark = pytest.mark.programs

SPEC = ProxySpec(
    set_name="mysql",
    namespace="default",
    config=ProxyConfig(("mysql-0", "mysql-1"), "db.default.svc.cluster.local"),
    client_service=ProxyService("mysql-proxy"),
)
FILE = f"{SPEC.config.folder}/{CONFIG_FILE}"
CHECKED = f"-c -f {FILE}"
SERVING = f"-W -db -f {FILE}"
# The image's own program ends with 1 and tells its reasons on standard error.
HAPROXY = """#!/bin/sh
echo "$$ $*" >> "$CALLS"
case "$1" in
-c) [ "$CHECK" = 0 ] || echo "[ALERT] unknown keyword 'nonsense'" >&2; exit "$CHECK" ;;
*) exit 7 ;;
esac
"""


@dataclass(frozen=True)
class Ended:
    status: int
    said: str
    pid: int
    calls: list[tuple[int, str]]

    @property
    def asked(self) -> list[str]:
        return [words for _pid, words in self.calls]


def container(kind: str) -> dict[str, Any]:
    (only,) = render_deployment(SPEC)["spec"]["template"]["spec"][kind]
    found: dict[str, Any] = only
    return found


def start(folder: Path, kind: str, check: int) -> Ended:
    """A container's command to its end. ``check``: how haproxy -c ends; when it should serve it ends with 7."""
    calls, program = folder / "calls", folder / "bin" / "haproxy"
    program.parent.mkdir()
    program.write_text(HAPROXY)
    program.chmod(0o755)
    calls.touch()
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(calls), "CHECK": str(check)}
    with subprocess.Popen(
        container(kind)["command"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        said = child.communicate(timeout=60)[0]
    pairs = (line.partition(" ") for line in calls.read_text().splitlines())
    return Ended(child.returncode, said, child.pid, [(int(pid), words) for pid, _space, words in pairs])


@pytest.mark.parametrize("kind", ["initContainers", "containers"])
@pytest.mark.parametrize("status", [1, 127])
def test_a_configuration_that_the_image_refuses_is_never_served(tmp_path: Path, kind: str, status: int) -> None:
    """The main container looks again: it may start anew with another file than the one its pod began with."""
    ended = start(tmp_path, kind, check=status)
    assert ended.asked == [CHECKED]
    assert ended.status == REFUSED_STATUS == 40
    assert "unknown keyword 'nonsense'" in ended.said, "the reason is what the status of the container shows"


def test_the_check_of_a_good_configuration_ends_and_serves_nothing(tmp_path: Path) -> None:
    ended = start(tmp_path, "initContainers", check=0)
    assert (ended.asked, ended.status) == ([CHECKED], 0)


def test_a_good_configuration_is_served_in_the_place_of_the_shell(tmp_path: Path) -> None:
    ended = start(tmp_path, "containers", check=0)
    assert ended.asked == [CHECKED, SERVING]
    assert ended.status == 7, "its end is the container's"
    assert ended.calls[-1][0] == ended.pid, "a shell before it would keep the signals that end or reload it"


def test_waiting_runs_know_the_status_as_one_that_does_not_pass_by_itself() -> None:
    assert REFUSED_STATUS in FINAL_REFUSALS


@pytest.mark.parametrize(("kind", "name"), [("initContainers", "check"), ("containers", "haproxy")])
def test_both_look_at_the_file_that_is_mounted_and_tell_why_they_ended(kind: str, name: str) -> None:
    one = container(kind)
    assert one["name"] == name
    assert one["image"] == SPEC.image, "another release may take other words"
    assert {"name": "config", "mountPath": str(Path(FILE).parent), "readOnly": True} in one["volumeMounts"]
    assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"
