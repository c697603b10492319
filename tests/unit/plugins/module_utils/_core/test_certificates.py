# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.stateful.petset.plugins.module_utils._core.certificates import (
    certificate_names,
    render_authority_config,
    render_server_config,
)
from ansible_collections.stateful.petset.tests.unit.fakes.pets import SPEC, spec_with


def test_all_names_by_which_a_pet_is_spoken_to() -> None:
    names = certificate_names(SPEC)
    assert {"*.db.default.svc.cluster.local", "mysql-0.db", "mysql-1.db", "mysql", "mysql.default.svc"} <= set(names)
    assert len(set(names)) == len(names)
    assert "mysql-19.db" in certificate_names(spec_with(replicas=20))


def test_the_common_names_differ_and_fit() -> None:
    subject = "m" * 52 + "." + "n" * 63
    ours = [
        next(line for line in text.splitlines() if line.startswith("CN = "))[5:]
        for text in (render_authority_config(subject), render_server_config(subject, ["a"]))
    ]
    assert ours[0] != ours[1]
    assert all(len(name) <= 64 for name in ours)
