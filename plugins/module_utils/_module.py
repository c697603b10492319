# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module shares: options of the connection, one place for errors, secrets, progress.

A module is thin::

    def main() -> None:
        module = KubeModule(argument_spec=kube_argument_spec(set=dict(type="str")), supports_check_mode=True)
        run_module(module, lambda client, partial: run(module, client, partial), lambda: parse(module.params))
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NoReturn, Protocol

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._core.errors import PetsetError
from ._core.kubeconfig import resolve_settings
from ._io.clock import Clock
from ._io.kube import KubeClient, RetryPolicy
from ._io.kubeauth import (
    BROKEN_CLIENTS,
    HAS_KUBERNETES,
    KUBERNETES_IMPORT_ERROR,
    HttpTransport,
    client_version,
    find_connection,
)
from ._io.wait import Progress

try:
    from ansible.module_utils.secrets import (  # type: ignore[import-not-found, unused-ignore]
        register_secret as _register_secret,
    )
except ImportError:  # before ansible-core 2.22
    _register_secret = None

_missing_library: Callable[[str], str] = missing_required_lib
_SECRET_NAME = re.compile("SECRET|TOKEN|PASSW|KEY|CREDENTIAL", re.IGNORECASE)
PROGRESS_VARIABLE = "STATEFUL_PETSET_PROGRESS"

KUBE_ARG_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "raw", "no_log": False},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "proxy_headers": {
        "type": "dict",
        "options": {
            "proxy_basic_auth": {"type": "str", "no_log": True},
            "basic_auth": {"type": "str", "no_log": True},
            "user_agent": {"type": "str"},
        },
    },
    "impersonate_user": {"type": "str"},
    "impersonate_groups": {"type": "list", "elements": "str"},
}
"""Connection options with the names of kubernetes.core. The variables K8S_AUTH_* stand in for options that are not set.

They are read here rather than by ``fallback`` of the argument spec, so that messages can say which of the two it was.
"""

WAIT_ARG_SPEC: dict[str, dict[str, Any]] = {
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 300},
    "progress_file": {"type": "path"},
}


class Module(Protocol):
    """What is used of AnsibleModule, which has no types of its own; tests pass a small double."""

    params: Any
    check_mode: bool
    no_log_values: set[str]
    _name: str
    _diff: bool
    _verbosity: int

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """End as failed."""

    def exit_json(self, **kwargs: Any) -> NoReturn:
        """End as done."""

    def warn(self, warning: str) -> None:
        """Show a warning to the user."""

    def log(self, msg: str) -> None:
        """Write to the system log."""

    def run_command(self, args: Any, **kwargs: Any) -> tuple[int, str, str]:
        """Run a program."""


class KubeModule(AnsibleModule):  # type: ignore[misc, unused-ignore]
    """An AnsibleModule that keeps the secrets of a kubeconfig given as a mapping even out of its first line in the log.

    No option of the argument spec can say so: as ``no_log`` the path of a file would be hidden as well.
    """

    def _log_invocation(self) -> None:
        module: Any = self
        mask_kubeconfig(module)
        super()._log_invocation()  # type: ignore[no-untyped-call]


def kube_argument_spec(*, wait: bool = False, **options: Mapping[str, Any]) -> dict[str, Any]:
    """The argument spec of a module: its own options and the shared ones."""
    shared = {**KUBE_ARG_SPEC, **(WAIT_ARG_SPEC if wait else {})}
    return {name: dict(entry) for name, entry in {**shared, **options}.items()}


def mask_secret(module: Module, secret: str) -> None:
    """Keep a value that did not come through a ``no_log`` option out of all output, on every ansible-core."""
    if not secret:
        return
    if _register_secret is not None:
        _register_secret(secret)
    else:
        module.no_log_values.add(secret)


def mask_kubeconfig(module: Module) -> None:
    """The secrets in the option ``kubeconfig``, when it is the content and not a path."""
    given = module.params.get("kubeconfig")
    if isinstance(given, Mapping):
        for secret in _secrets_of(given):
            mask_secret(module, secret)


def require_client(module: Module) -> None:
    """Fail when the Python client is missing, or is one of the two that send no token."""
    if not HAS_KUBERNETES:
        module.fail_json(msg=_missing_library("kubernetes"), exception=KUBERNETES_IMPORT_ERROR)
    version = client_version()
    if version in BROKEN_CLIENTS:
        reason = "this release sends no bearer token, so the API would see an anonymous user"
        way_out = "install kubernetes 36.0.2 or later (or 35 or earlier)"
        module.fail_json(
            msg=f"Python package kubernetes {version}: {reason}. {way_out[:1].upper()}{way_out[1:]}.",
            error="broken_client",
            reason=reason,
            way_out=way_out,
        )


def kube_client(module: Module, *, retry: RetryPolicy | None = None, clock: Clock | None = None) -> KubeClient:
    """The client for the options and variables of this task. No request is sent yet.

    BadConnectionSettings: see ``find_connection``.
    """
    require_client(module)
    mask_kubeconfig(module)
    settings = resolve_settings(module.params, os.environ)
    for option in ("api_key", "password"):
        if option in settings:
            mask_secret(module, str(settings[option].value))
    connection = find_connection(settings, os.environ)
    transport = HttpTransport(
        connection,
        run_command=lambda args, env: _run_command(module, args, env),
        register_secret=lambda secret: mask_secret(module, secret),
    )
    return KubeClient(transport, retry=retry, clock=clock)


def guarded_run(
    module: Module,
    run: Callable[[MutableMapping[str, Any]], Mapping[str, Any]],
    client: KubeClient | None = None,
) -> NoReturn:
    """Run the body of a module and end it: ``exit_json`` with its result, or ``fail_json`` for a typed error.

    ``run`` gets a mapping for what is done so far (``changed``, ``actions``); it is part of the result on failure
    too, so that nothing that was changed stays unsaid. A failure has ``msg`` (all in one line), ``error`` (a stable
    word), ``reason``, ``way_out``, and what the error knows besides. ``client`` adds ``api`` and, at -vv, ``requests``.
    """
    partial: dict[str, Any] = {"changed": False}
    try:
        result = {**partial, **run(partial)}
    except PetsetError as problem:
        told = {**partial, **problem.details, **_about(module, client)}
        module.fail_json(
            msg=problem.render(),
            error=problem.code,
            reason=problem.reason,
            way_out=problem.way_out,
            **{name: value for name, value in told.items() if name not in ("msg", "error", "reason", "way_out")},
        )
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**{**result, **_about(module, client)})


def run_module(
    module: Module,
    run: Callable[[KubeClient, MutableMapping[str, Any]], Mapping[str, Any]],
    check: Callable[[], object] | None = None,
) -> NoReturn:
    """``guarded_run`` for a module that talks to Kubernetes: makes the client within the guard.

    ``check`` looks at the options first, so that bad input is told before anything is connected to.
    """
    mask_kubeconfig(module)
    try:
        if check is not None:
            check()
        client = kube_client(module)
    except PetsetError as problem:
        failure = problem
        guarded_run(module, lambda _partial: _raise(failure))
    guarded_run(module, lambda partial: run(client, partial), client)


def progress_of(module: Module) -> Progress:
    """Where lines of progress go: the system log, and the file of ``progress_file`` or STATEFUL_PETSET_PROGRESS.

    Ansible shows nothing of a running module; ``tail -f`` of that file (or ``journalctl -f``) does.
    """
    path = module.params.get("progress_file") or os.environ.get(PROGRESS_VARIABLE)

    def tell(line: str) -> None:
        module.log(line)
        if path:
            try:
                with open(path, "a", encoding="utf-8") as handle:
                    handle.write(f"{module._name}: {line}\n")
            except OSError as problem:
                module.log(f"progress file {path}: {problem.strerror}")

    return tell


def _about(module: Module, client: KubeClient | None) -> dict[str, Any]:
    if client is None:
        return {}
    about: dict[str, Any] = {"api": client.describe()}
    if module._verbosity >= 2:
        about["requests"] = client.count()
    return about


def _raise(problem: PetsetError) -> NoReturn:
    raise problem


def _run_command(module: Module, args: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    status, out, err = module.run_command(
        list(args), environ_update=dict(env), handle_exceptions=False, expand_user_and_vars=False
    )
    return status, out, err


def _secrets_of(kubeconfig: Mapping[str, Any]) -> list[str]:
    """Tokens, passwords and keys in a kubeconfig that was given as a mapping, those for its credential program too."""
    found: list[str] = []
    for entry in kubeconfig.get("users") or ():
        user = (entry.get("user") if isinstance(entry, Mapping) else None) or {}
        found += [str(user[key]) for key in ("token", "password", "client-key-data") if user.get(key)]
        program = user.get("exec")
        for one in (program.get("env") if isinstance(program, Mapping) else None) or ():
            # A short or harmless value, such as a profile's name, would be hidden wherever it stands.
            name, value = (
                (str(one.get(key) or "") for key in ("name", "value")) if isinstance(one, Mapping) else ("", "")
            )
            if len(value) >= 8 and _SECRET_NAME.search(name):
                found.append(value)
    return found
