# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.drill_objects import read_password


@pytest.mark.parametrize(
    ("secret", "password"),
    [
        ({"data": {"password": base64.b64encode("päss".encode()).decode()}}, "päss"),
        ({"data": {"password": "%"}}, ""),
        ({"data": {"password": base64.b64encode(b"\xff").decode()}}, ""),
        ({"data": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_password_that_cannot_be_read_is_none(secret: dict[str, Any] | None, password: str) -> None:
    """It is only read to be hidden: a Secret that somebody has spoilt ends no drill."""
    assert read_password(secret) == password
