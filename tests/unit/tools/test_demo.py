# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo believes the recap of the second run."""

from __future__ import annotations

import pytest

from tools import demo

RECAP = """
TASK [a] ***
nfs-0 : ok=1 changed=9 unreachable=0

PLAY RECAP *********************************************************************
\x1b[0;33mlocalhost\x1b[0m                  : \x1b[0;32mok=12  \x1b[0m changed={0}    unreachable=0    failed=0
nfs-0                      : ok=9    changed=0    unreachable=0    failed=0    skipped=2

"""


def test_parse_recap() -> None:
    assert demo.parse_recap(RECAP.format(3)) == {"localhost": 3, "nfs-0": 0}


def test_no_recap_is_no_proof() -> None:
    assert demo.parse_recap("ERROR! the playbook could not be found") == {}


@pytest.mark.parametrize(("second", "status"), [(RECAP.format(0), 0), (RECAP.format(1), 1), ("", 1)])
def test_the_second_run_must_change_nothing(monkeypatch: pytest.MonkeyPatch, second: str, status: int) -> None:
    printed = iter([RECAP.format(7), second, "table"])
    monkeypatch.setattr(demo, "play", lambda _name: next(printed))
    monkeypatch.setattr(demo, "row", lambda: "row 1")
    assert demo.main() == status
