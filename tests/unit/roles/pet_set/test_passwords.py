# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that YAML has read as something else than text, in the role by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.roles.plays import collections_path, run_play
from tools.common import ROOT

pytestmark = pytest.mark.programs

# name of the host -> its variables, and what is named
PASSWORDS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, ""),
    "texts": ({"pet_set_passwords": {"root": "0123"}, "pet_set_app": {"password": "0"}}, ""),
    "made": ({"pet_set_passwords": {"root": None}, "pet_set_app": {"user": "a", "password": None}}, ""),
    "numbers": ({"pet_set_passwords": {"root": 83, "agent": 1.5, "admin": "x"}}, "agent, root"),
    "app": ({"pet_set_app": {"password": 83}}, "app.password"),
    "zero": ({"pet_set_app": {"password": 0}}, "app.password"),
    "no": ({"pet_set_passwords": {"root": False}, "pet_set_app": {"password": False}}, "root, app.password"),
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - block:
        - TASK
        - ansible.builtin.debug:
            msg: ""
      rescue:
        - ansible.builtin.debug:
            msg: "{{ ansible_failed_result.msg }}"
"""


@pytest.mark.slow
def test_rp_ans_12_passwords_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    """A password 0 or false of the application was taken for none, so that another one was made."""
    task = yaml.safe_load((ROOT / "roles/pet_set/tasks/main.yml").read_text())[0]
    base = {"pet_set_passwords": {}, "pet_set_app": {}}
    hosts = {name: {**base, **given} for name, (given, _named) in PASSWORDS.items()}
    _output, shown = run_play(tmp_path, collections_path(), PLAY.replace("TASK", json.dumps(task)), hosts)
    told = dict(shown)
    for host, (_given, named) in PASSWORDS.items():
        assert (f"(to look at: {named})" in told[host]) if named else told[host] == "", (host, told[host])
        assert "83" not in told[host].replace("0123 into 83", "")
