# SPDX-License-Identifier: GPL-3.0-or-later
"""An AnsibleModule of which nothing is left but what the collection uses; programs are really run."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any, NoReturn

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


class FakeModule:
    _name = "pet_set"
    _verbosity = 0

    def __init__(self, params: Mapping[str, Any], check_mode: bool, diff: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self._diff = diff
        self.no_log_values: set[str] = set()
        self.logged: list[str] = []

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        raise AssertionError(msg)

    def exit_json(self, **kwargs: Any) -> NoReturn:
        raise AssertionError("the caller ends the module")

    def warn(self, warning: str) -> None:
        raise AssertionError(warning)

    def log(self, msg: str) -> None:
        self.logged.append(msg)

    def run_command(self, args: Any, **kwargs: Any) -> tuple[int, str, str]:
        assert kwargs.pop("handle_exceptions") is False
        assert not kwargs
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def checked(spec: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options as Ansible hands them to a module: defaults filled in, types turned."""
    result = ArgumentSpecValidator(dict(spec)).validate(dict(given))
    assert not result.error_messages, result.error_messages
    parameters: Mapping[str, Any] = result.validated_parameters
    return parameters
