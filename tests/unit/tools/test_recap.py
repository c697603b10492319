# SPDX-License-Identifier: GPL-3.0-or-later
"""When a second run counts as one that changed nothing."""

from __future__ import annotations

import pytest

from tools.recap import parse_recap, what_happened


def line(host: str, changed: int = 0, failed: int = 0, unreachable: int = 0) -> str:
    return (
        f"{host:<26} : ok=7    changed={changed}    unreachable={unreachable}    failed={failed}    "
        "skipped=2    rescued=0    ignored=0   \n"
    )


HEAD = "TASK [x] ****\nok: [nfs-0] => changed=0\n\nPLAY RECAP *********\n"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        pytest.param(HEAD + line("localhost") + line("nfs-0"), [], id="nothing"),
        # The NFS host's line satisfied the check while localhost changed something.
        pytest.param(HEAD + line("localhost", 3) + line("nfs-0"), ["localhost: changed=3"], id="one of two"),
        pytest.param(HEAD + line("localhost", 10), ["localhost: changed=10"], id="ten begins with one"),
        pytest.param(
            HEAD + line("localhost", failed=1) + line("nfs-0", unreachable=1),
            ["localhost: failed=1", "nfs-0: unreachable=1"],
            id="failed",
        ),
        pytest.param(
            HEAD + "\x1b[0;33mlocalhost\x1b[0m : \x1b[0;32mok=7 \x1b[0m \x1b[0;33mchanged=2 \x1b[0m unreachable=0 "
            "failed=0",
            ["localhost: changed=2"],
            id="coloured",
        ),
        pytest.param(HEAD + line("a") + HEAD + line("b", 1), ["b: changed=1"], id="the last recap counts"),
        pytest.param(HEAD + "localhost : ok=1 changed=0\n",
                     ["localhost: failed=unknown", "localhost: unreachable=unknown"], id="cut off"),
        pytest.param("ERROR! the playbook could not be found: changed=0", ["no recap was printed"], id="no recap"),
        pytest.param(HEAD, ["no recap was printed"], id="empty recap"),
    ],
)  # fmt: skip
def test_a_second_run_is_one_that_changed_nothing_on_any_host(printed: str, said: list[str]) -> None:
    assert what_happened(printed) == said


def test_every_count_of_every_host() -> None:
    found = parse_recap(HEAD + line("localhost", 3) + line("fd00::1"))
    assert list(found) == ["localhost", "fd00::1"]
    assert found["localhost"] == {
        "ok": 7, "changed": 3, "unreachable": 0, "failed": 0, "skipped": 2, "rescued": 0, "ignored": 0,
    }  # fmt: skip
