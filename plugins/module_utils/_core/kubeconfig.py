# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the connection to the API comes from: options, K8S_AUTH_* variables, kubeconfig. Pure; no file is read here.

The order is that of kubernetes.core, so that a task can move between the two: an option wins over its variable; a
host with credentials of its own needs nothing else; else kubeconfig or context; else in-cluster; else the default
kubeconfig; single options are laid over what was loaded. Empty text counts as not set, because AWX sends that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import BadConnectionSettings, InvalidInput

ENVIRONMENT: Mapping[str, str] = {
    "kubeconfig": "K8S_AUTH_KUBECONFIG",
    "context": "K8S_AUTH_CONTEXT",
    "host": "K8S_AUTH_HOST",
    "api_key": "K8S_AUTH_API_KEY",
    "username": "K8S_AUTH_USERNAME",
    "password": "K8S_AUTH_PASSWORD",
    "client_cert": "K8S_AUTH_CERT_FILE",
    "client_key": "K8S_AUTH_KEY_FILE",
    "ca_cert": "K8S_AUTH_SSL_CA_CERT",
    "validate_certs": "K8S_AUTH_VERIFY_SSL",
    "proxy": "K8S_AUTH_PROXY",
    "no_proxy": "K8S_AUTH_NO_PROXY",
    "impersonate_user": "K8S_AUTH_IMPERSONATE_USER",
    "impersonate_groups": "K8S_AUTH_IMPERSONATE_GROUPS",
}
"""Option of the modules to the variable that stands in for it, as in kubernetes.core."""
SECRET_OPTIONS = ("api_key", "password")
_PLAIN_OPTIONS = (
    "api_key",
    "username",
    "password",
    "client_cert",
    "client_key",
    "ca_cert",
    "proxy",
    "no_proxy",
    "proxy_headers",
    "impersonate_user",
)
_TRUE = {"true", "yes", "on", "1", "y", "t"}
_FALSE = {"false", "no", "off", "0", "n", "f"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it came from, for messages: ``option host``, ``environment variable K8S_AUTH_HOST``."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A credential plugin of a kubeconfig user (client.authentication.k8s.io)."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    api_version: str
    provide_cluster_info: bool
    install_hint: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything needed to reach one API server. ``*_data`` are base64 as in a kubeconfig; files are paths.

    ``source`` says where ``host`` came from. ``legacy_auth`` is set for users of the removed auth-provider scheme.
    """

    host: str
    source: str
    context: str | None = None
    api_key: str | None = None
    token_file: str | None = None
    username: str | None = None
    password: str | None = None
    client_cert: str | None = None
    client_cert_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    ca_cert: str | None = None
    ca_cert_data: str | None = None
    verify: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    no_proxy: str | None = None
    proxy_headers: Mapping[str, str] | None = None
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    exec_plugin: ExecPlugin | None = None
    legacy_auth: str | None = None
    cluster_info: Mapping[str, Any] | None = None


def resolve_settings(params: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Setting]:
    """The connection options that are set, each with its source. InvalidInput: K8S_AUTH_VERIFY_SSL is no boolean."""
    found: dict[str, Setting] = {}
    for option, variable in ENVIRONMENT.items():
        value = params.get(option)
        if value is not None and value not in ("", [], {}):
            found[option] = Setting(value, f"option {option}")
        elif environ.get(variable, ""):
            found[option] = Setting(_from_text(option, variable, environ[variable]), f"environment variable {variable}")
    if params.get("proxy_headers"):
        found["proxy_headers"] = Setting(params["proxy_headers"], "option proxy_headers")
    return found


def complete_by_options(settings: Mapping[str, Setting]) -> bool:
    """True when the single options are a connection by themselves: a host, and a way to say who we are."""
    have = set(settings)
    ways = ({"api_key"}, {"username", "password"}, {"client_cert", "client_key"})
    return "host" in have and any(way <= have for way in ways)


def connection_from_options(settings: Mapping[str, Setting], base: Connection | None = None) -> Connection:
    """A connection from the single options, laid over ``base`` when there is one.

    BadConnectionSettings: no host at all, or half of a pair (certificate without key, user without password).
    """
    for one, other in (("client_cert", "client_key"), ("username", "password")):
        if (one in settings) != (other in settings):
            there, missing = (one, other) if one in settings else (other, one)
            raise BadConnectionSettings(
                settings[there].source, f"{missing} is missing beside {there}", way_out=f"set {missing} as well"
            )
    if base is None:
        if "host" not in settings:
            raise BadConnectionSettings("host", "no host is set", way_out="set host, or kubeconfig")
        base = Connection(host="", source="")
    made = replace(base, **_changes(settings))
    if not made.host.startswith(("http://", "https://")):
        raise BadConnectionSettings(
            made.source, "not the address of an API server", value=made.host, way_out="write https://host:port"
        )
    return made


def _changes(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """What the single options change in a connection: also what they push aside."""
    changes: dict[str, Any] = {}
    if "host" in settings:
        changes.update(host=str(settings["host"].value).rstrip("/"), source=settings["host"].source)
    for option in _PLAIN_OPTIONS:
        if option in settings:
            changes[option] = settings[option].value
    if "ca_cert" in settings:
        changes["ca_cert_data"] = None
    if "client_cert" in settings:
        changes.update(client_cert_data=None, client_key_data=None)
    if {"api_key", "username", "client_cert"} & set(settings):
        changes.update(exec_plugin=None, legacy_auth=None, token_file=None)
    if "validate_certs" in settings:
        changes["verify"] = bool(settings["validate_certs"].value)
    if "impersonate_groups" in settings:
        changes["impersonate_groups"] = tuple(settings["impersonate_groups"].value)
    return changes


def merge_kubeconfigs(documents: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """One kubeconfig out of several (KUBECONFIG=a:b). As in kubectl, the first file that says something wins.

    Each document comes with its path; relative file names in it are made absolute with the folder of that path.
    BadConnectionSettings: not a kubeconfig.
    """
    merged: dict[str, Any] = {"clusters": [], "users": [], "contexts": []}
    for path, document in documents:
        if not isinstance(document, Mapping):
            raise BadConnectionSettings(f"kubeconfig {path}", "not a kubeconfig: a mapping is expected")
        for section in ("clusters", "users", "contexts"):
            entries = document.get(section) or []
            if not isinstance(entries, Sequence) or isinstance(entries, str):
                raise BadConnectionSettings(f"kubeconfig {path}", f"not a kubeconfig: {section} is no list")
            names = {entry["name"] for entry in merged[section]}
            for entry in entries:
                if not isinstance(entry, Mapping) or "name" not in entry:
                    raise BadConnectionSettings(f"kubeconfig {path}", f"an entry of {section} has no name")
                if entry["name"] not in names:
                    merged[section].append(_absolute(entry, section[:-1], path))
        if document.get("current-context") and not merged.get("current-context"):
            merged["current-context"] = document["current-context"]
    return merged


def connection_from_kubeconfig(config: Mapping[str, Any], where: str, context: Setting | None) -> Connection:
    """The connection of one context.

    ``where`` names the files for messages. BadConnectionSettings: no such context (the known ones are listed), no
    current context, or a context that points to a cluster or user that is not there.
    """
    known = [str(entry["name"]) for entry in config["contexts"]]
    listed = ", ".join(known) or "none"
    name = context.value if context else config.get("current-context")
    if not name:
        raise BadConnectionSettings(
            where, "no current context is set", way_out=f"set context to one of: {listed}", details={"contexts": known}
        )
    entry = _named(config["contexts"], name)
    if entry is None:
        raise BadConnectionSettings(
            f"context (from {context.source})" if context else f"current-context of {where}",
            f"no such context in {where}",
            value=name,
            way_out=f"known contexts: {listed}",
            details={"contexts": known},
        )
    details = entry.get("context") or {}
    cluster = _named(config["clusters"], details.get("cluster"))
    if cluster is None or not (cluster.get("cluster") or {}).get("server"):
        raise BadConnectionSettings(
            f"{where}, context {name}",
            f"cluster {details.get('cluster')!r} is not there or has no server",
            way_out="correct the kubeconfig",
        )
    user = _named(config["users"], details.get("user"))
    if user is None and details.get("user"):
        raise BadConnectionSettings(
            f"{where}, context {name}", f"user {details['user']!r} is not there", way_out="correct the kubeconfig"
        )
    return _connection(cluster["cluster"], (user or {}).get("user") or {}, f"{where}, context {name}", str(name))


def _connection(cluster: Mapping[str, Any], user: Mapping[str, Any], source: str, context: str) -> Connection:
    legacy = None
    if user.get("auth-provider"):
        legacy = str(user["auth-provider"].get("name"))
    groups = user.get("as-groups") or ()
    return Connection(
        host=str(cluster["server"]).rstrip("/"),
        source=source,
        context=context,
        api_key=user.get("token") or None,
        token_file=None if user.get("token") else user.get("tokenFile") or None,
        username=user.get("username") or None,
        password=user.get("password") or None,
        client_cert=user.get("client-certificate") or None,
        client_cert_data=user.get("client-certificate-data") or None,
        client_key=user.get("client-key") or None,
        client_key_data=user.get("client-key-data") or None,
        ca_cert=cluster.get("certificate-authority") or None,
        ca_cert_data=cluster.get("certificate-authority-data") or None,
        verify=not cluster.get("insecure-skip-tls-verify", False),
        tls_server_name=cluster.get("tls-server-name") or None,
        proxy=cluster.get("proxy-url") or None,
        impersonate_user=user.get("as") or None,
        impersonate_groups=tuple(groups),
        exec_plugin=_exec_plugin(user["exec"], source) if user.get("exec") else None,
        legacy_auth=legacy,
        cluster_info=cluster,
    )


def _exec_plugin(entry: Mapping[str, Any], source: str) -> ExecPlugin:
    for key in ("command", "apiVersion"):
        if not entry.get(key):
            raise BadConnectionSettings(source, f"the exec plugin has no {key}", way_out="correct the kubeconfig")
    return ExecPlugin(
        command=str(entry["command"]),
        args=tuple(str(arg) for arg in entry.get("args") or ()),
        env={str(item["name"]): str(item.get("value", "")) for item in entry.get("env") or ()},
        api_version=str(entry["apiVersion"]),
        provide_cluster_info=bool(entry.get("provideClusterInfo")),
        install_hint=str(entry.get("installHint") or "").strip(),
    )


def _named(entries: Sequence[Mapping[str, Any]], name: object) -> Mapping[str, Any] | None:
    return next((entry for entry in entries if entry.get("name") == name), None)


def _absolute(entry: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    made = dict(entry)
    inner = dict(made.get(key) or {})
    folder = path.rpartition("/")[0]
    for field in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        value = inner.get(field)
        if folder and isinstance(value, str) and value and not value.startswith("/"):
            inner[field] = f"{folder}/{value}"
    plugin = inner.get("exec")
    if folder and isinstance(plugin, Mapping):
        command = str(plugin.get("command") or "")
        # As in kubectl: a command with a slash is relative to the file, a bare name is looked up in PATH.
        if "/" in command and not command.startswith("/"):
            inner["exec"] = {**plugin, "command": f"{folder}/{command}"}
    made[key] = inner
    return made


def _from_text(option: str, variable: str, text: str) -> Any:
    if option == "validate_certs":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise InvalidInput(f"environment variable {variable}", text, "not a boolean", "true or false")
    if option == "impersonate_groups":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
