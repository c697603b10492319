# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From settings to an HTTP transport: reads kubeconfigs, runs credential plugins, reads service account tokens.

The Python client ``kubernetes`` supplies the HTTP pool with its TLS and proxy rules (and port-forwarding to whoever
needs it). The kubeconfig is read here all the same: the client's loader swallows a failing credential plugin and goes
on without credentials, and cannot say which contexts there are.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import contextlib
import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlencode

from .._core.errors import BadConnectionSettings
from .._core.kubeconfig import (
    Connection,
    ExecPlugin,
    Setting,
    complete_by_options,
    connection_from_kubeconfig,
    connection_from_options,
    merge_kubeconfigs,
)

try:
    import kubernetes
    import kubernetes.client
    import urllib3
    import urllib3.exceptions
    import yaml
except ImportError:
    HAS_KUBERNETES = False
    KUBERNETES_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HAS_KUBERNETES = True
    KUBERNETES_IMPORT_ERROR = None

BROKEN_CLIENTS = ("36.0.0", "36.0.1")
"""These send no bearer token at all (kubernetes-client/python#2582, repaired in 36.0.2)."""
SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
DEFAULT_KUBECONFIG = "~/.kube/config"
POOL_SIZE = 8
CONNECT_TIMEOUT_S = 5.0

RunCommand = Callable[[Sequence[str], Mapping[str, str]], tuple[int, str, str]]
"""Runs a program with an environment; gives exit status, stdout, stderr. OSError when it cannot be started."""
RegisterSecret = Callable[[str], None]


def client_version() -> str:
    """Version of the Python client, empty when it is not installed."""
    return str(getattr(kubernetes, "__version__", "")) if HAS_KUBERNETES else ""


class NoAnswer(Exception):
    """The transport got no answer. ``sent`` is False only when the request surely never reached the server."""

    def __init__(self, reason: str, *, sent: bool, hint: str = "") -> None:
        self.reason = reason
        self.sent = sent
        self.hint = hint
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Sends one request and waits for the answer. Nothing is retried here."""

    host: str
    source: str
    context: str | None

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> Answer:
        """One request. NoAnswer: refused, reset, timed out, bad TLS."""

    def refresh(self) -> bool:
        """Read the credentials once more; True when they may have changed."""


class HttpTransport:
    """The real transport over the client's connection pool. Safe to use from several threads."""

    def __init__(self, connection: Connection, *, run_command: RunCommand, register_secret: RegisterSecret) -> None:
        self.host = connection.host
        self.source = connection.source
        self.context = connection.context
        self._given = connection
        self._run_command = run_command
        self._register_secret = register_secret
        self._files = _PrivateFiles()
        self.api_client: Any = None
        self._headers: dict[str, str] = {}
        self._connect()

    def _connect(self) -> None:
        connection = self._given
        if connection.exec_plugin is not None:
            connection = with_plugin_credentials(connection, connection.exec_plugin, self._run_command)
        if connection.token_file is not None:
            connection = replace(connection, api_key=_read_token(connection.token_file, connection.source))
        for secret in (connection.api_key, connection.password):
            if secret:
                self._register_secret(secret)
        configuration = _configuration(connection, self._files)
        self.api_client = kubernetes.client.ApiClient(configuration)
        self._headers = _identity_headers(connection)
        for name, value in self._headers.items():
            # For streams, which have to know whom they would act as.
            if name.lower() != "authorization":
                self.api_client.set_default_header(name, value)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> Answer:
        """One request. NoAnswer: refused, reset, timed out, bad TLS."""
        url = self.host + path
        if query:
            url += "?" + urlencode(query)
        sent = urllib3.HTTPHeaderDict({**self._headers, **headers})
        for group in self._given.impersonate_groups:
            sent.add("Impersonate-Group", group)
        try:
            response = self.api_client.rest_client.pool_manager.request(
                method,
                url,
                headers=sent,
                body=body,
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
                retries=False,
                redirect=False,
                preload_content=True,
            )
        except urllib3.exceptions.HTTPError as problem:
            raise _no_answer(problem) from problem
        except OSError as problem:
            # A CA or key file that is not there any more, for example.
            raise NoAnswer(str(problem), sent=False) from problem
        return Answer(
            response.status, {name.lower(): value for name, value in response.headers.items()}, bytes(response.data)
        )

    def refresh(self) -> bool:
        """Run the plugin or read the token file once more. A token given as text cannot change."""
        if self._given.exec_plugin is None and self._given.token_file is None:
            return False
        self._connect()
        return True


def find_connection(
    settings: Mapping[str, Setting], environ: Mapping[str, str], *, service_account_dir: str = SERVICE_ACCOUNT_DIR
) -> Connection:
    """The connection to use, in the order that ``kubeconfig`` of the core describes.

    BadConnectionSettings: nothing is there to connect with, or a file or context is wrong.
    """
    if complete_by_options(settings):
        return connection_from_options(settings)
    context = settings.get("context")
    if "kubeconfig" in settings:
        given = settings["kubeconfig"]
        return connection_from_options(settings, _load(given.value, given.source, context))
    if context is None and environ.get("KUBERNETES_SERVICE_HOST"):
        inside = in_cluster_connection(environ, service_account_dir)
        if inside is not None:
            return connection_from_options(settings, inside)
    listed = environ.get("KUBECONFIG", "")
    source = "environment variable KUBECONFIG" if listed else "default kubeconfig"
    paths = listed or DEFAULT_KUBECONFIG
    if any(os.path.exists(os.path.expanduser(path)) for path in paths.split(os.pathsep) if path):
        return connection_from_options(settings, _load(paths, source, context))
    if "host" in settings:
        raise BadConnectionSettings(
            settings["host"].source,
            "the address alone is not enough: no credentials are set and there is no kubeconfig",
            value=settings["host"].value,
            way_out="set api_key (or client_cert and client_key), or kubeconfig",
        )
    raise BadConnectionSettings(
        "connection to Kubernetes",
        f"nothing to connect with: no option and no K8S_AUTH_ variable is set, not in a cluster, and no {paths}",
        way_out="set kubeconfig (or K8S_AUTH_KUBECONFIG), or host and api_key",
    )


def _load(value: Any, source: str, context: Setting | None) -> Connection:
    if isinstance(value, Mapping):
        return connection_from_kubeconfig(merge_kubeconfigs([("", value)]), f"the mapping in {source}", context)
    documents: list[tuple[str, Any]] = []
    paths = [os.path.abspath(os.path.expanduser(path)) for path in str(value).split(os.pathsep) if path]
    for path in paths:
        # As in kubectl, one of several files may be absent, but not all of them.
        if not os.path.exists(path) and len(paths) > 1:
            continue
        try:
            with open(path, encoding="utf-8") as handle:
                documents.append((path, yaml.safe_load(handle)))
        except OSError as problem:
            raise BadConnectionSettings(
                f"kubeconfig (from {source})",
                f"cannot be read: {problem.strerror}",
                value=path,
                way_out="correct the path; it is a path on the machine that runs the module, the controller as a rule",
            ) from problem
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            # The text of a YAML error can quote the file, which may hold keys: only the place is told.
            mark = getattr(problem, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark is not None else ""
            raise BadConnectionSettings(f"kubeconfig (from {source})", f"not YAML{place}", value=path) from None
    if not documents:
        raise BadConnectionSettings(f"kubeconfig (from {source})", "none of the files is there", value=str(value))
    where = "kubeconfig " + os.pathsep.join(path for path, _document in documents)
    return connection_from_kubeconfig(merge_kubeconfigs(documents), where, context)


def in_cluster_connection(environ: Mapping[str, str], service_account_dir: str) -> Connection | None:
    """The connection of a pod's service account; None when the pod has no token (automount is off, as in AWX)."""
    token_file = os.path.join(service_account_dir, "token")
    ca_cert = os.path.join(service_account_dir, "ca.crt")
    if not (os.path.isfile(token_file) and os.path.isfile(ca_cert)):
        return None
    host = environ["KUBERNETES_SERVICE_HOST"]
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    source = "in-cluster service account (KUBERNETES_SERVICE_HOST)"
    return Connection(host=f"https://{address}", source=source, token_file=token_file, ca_cert=ca_cert)


def with_plugin_credentials(connection: Connection, plugin: ExecPlugin, run_command: RunCommand) -> Connection:
    """Run a credential plugin and take over what it says.

    BadConnectionSettings names the command and its exit status, so that a missing plugin does not look like a
    refused user.
    """
    info: dict[str, Any] = {
        "apiVersion": plugin.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if plugin.provide_cluster_info and connection.cluster_info:
        info["spec"]["cluster"] = dict(connection.cluster_info)
    subject = f"credential plugin of {connection.source}"
    hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
    way_out = "install the command where the module runs, or give api_key instead" + hint
    try:
        status, out, err = run_command(
            [plugin.command, *plugin.args], {**plugin.env, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        )
    except OSError as problem:
        reason = f"cannot be started: {problem.strerror or problem}"
        raise BadConnectionSettings(subject, reason, value=plugin.command, way_out=way_out) from problem
    if status != 0:
        last = err.strip().splitlines()[-1:] or ["it said nothing"]
        raise BadConnectionSettings(
            subject, f"ended with exit status {status}: {last[0][:300]}", value=plugin.command, way_out=way_out
        )
    try:
        given = json.loads(out)
        credentials = given["status"]
        if given["apiVersion"] != plugin.api_version or not isinstance(credentials, dict):
            raise ValueError("version")
    except (ValueError, KeyError, TypeError):
        raise BadConnectionSettings(
            subject, f"did not print an ExecCredential of {plugin.api_version}", value=plugin.command
        ) from None
    token, cert, key = (credentials.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if cert and key:
        return replace(
            connection,
            api_key=token or None,
            client_cert=None,
            client_key=None,
            client_cert_data=_encoded(cert),
            client_key_data=_encoded(key),
        )
    if token:
        return replace(connection, api_key=token)
    raise BadConnectionSettings(subject, "gave neither a token nor a certificate with its key", value=plugin.command)


def _identity_headers(connection: Connection) -> dict[str, str]:
    headers: dict[str, str] = {}
    if connection.api_key:
        headers["Authorization"] = f"Bearer {connection.api_key}"
    elif connection.username and connection.password is not None:
        pair = f"{connection.username}:{connection.password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    if connection.impersonate_user:
        headers["Impersonate-User"] = connection.impersonate_user
    return headers


def _configuration(connection: Connection, files: _PrivateFiles) -> Any:
    configuration = kubernetes.client.Configuration()
    configuration.host = connection.host
    configuration.verify_ssl = connection.verify
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.ssl_ca_cert = files.path(connection.ca_cert, connection.ca_cert_data, connection.source)
    configuration.cert_file = files.path(connection.client_cert, connection.client_cert_data, connection.source)
    configuration.key_file = files.path(connection.client_key, connection.client_key_data, connection.source)
    if connection.tls_server_name:
        configuration.tls_server_name = connection.tls_server_name
    if connection.proxy:
        configuration.proxy = connection.proxy
    if connection.no_proxy:
        configuration.no_proxy = connection.no_proxy
    if connection.proxy_headers:
        configuration.proxy_headers = dict(connection.proxy_headers)
    authorization = _identity_headers(connection).get("Authorization")
    if authorization:
        configuration.api_key["authorization"] = authorization
    if connection.legacy_auth is not None:
        raise BadConnectionSettings(
            connection.source,
            "the user has an auth-provider, which Kubernetes removed in 1.26",
            value=connection.legacy_auth,
            way_out="use a credential plugin (exec) in the kubeconfig, or give api_key",
        )
    return configuration


def _read_token(path: str, source: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            token = handle.read().strip()
    except OSError as problem:
        raise BadConnectionSettings(source, f"token file cannot be read: {problem.strerror}", value=path) from problem
    if not token:
        raise BadConnectionSettings(source, "the token file is empty", value=path)
    return token


def _encoded(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def _no_answer(problem: Exception) -> NoAnswer:
    """Sort the pool's exceptions. Source: urllib3.exceptions of 1.26 and 2.x."""
    reason = str(problem).rpartition(": ")[2] or str(problem)
    hint = ""
    if isinstance(problem, urllib3.exceptions.SSLError) or "CERTIFICATE" in str(problem):
        reason = f"TLS: {reason}"
        hint = _tls_hint(str(problem))
        return NoAnswer(reason, sent=False, hint=hint)
    never_sent = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.ProxyError,
        urllib3.exceptions.LocationValueError,
    )
    if isinstance(problem, urllib3.exceptions.ConnectTimeoutError) and not isinstance(
        problem, urllib3.exceptions.NewConnectionError
    ):
        reason = f"no connection within {CONNECT_TIMEOUT_S:.0f} s"
    elif isinstance(problem, urllib3.exceptions.ReadTimeoutError):
        reason = "no answer within the time limit of the request"
    return NoAnswer(reason, sent=not isinstance(problem, never_sent), hint=hint)


def _tls_hint(text: str) -> str:
    if "key usage" in text.lower() or "keyusage" in text.lower():
        # Python 3.13 checks certificates strictly (VERIFY_X509_STRICT); other clients do not.
        return (
            "Python 3.13 and later refuse a CA certificate without the key usage extension: issue the CA again with "
            "keyCertSign, or run the module with Python 3.12"
        )
    if "self-signed" in text or "self signed" in text or "unable to get local issuer" in text:
        return "give the cluster's CA with ca_cert"
    if "doesn't match" in text or "not valid for" in text or "mismatch" in text:
        return "use a name or address that stands in the certificate, or tls-server-name in the kubeconfig"
    return "check ca_cert and the address"


class _PrivateFiles:
    """Keys and certificates that came as data, as files that only we can read; gone at exit."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._count = 0

    def path(self, given: str | None, data: str | None, source: str) -> str | None:
        if not data:
            if given and not os.path.isfile(os.path.expanduser(given)):
                raise BadConnectionSettings(source, "no such file", value=given, way_out="correct the path")
            return os.path.expanduser(given) if given else None
        try:
            content = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError):
            raise BadConnectionSettings(source, "certificate or key data is not base64") from None
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="petset-")
            atexit.register(self.remove)
        self._count += 1
        path = os.path.join(self._folder, f"{self._count}.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(content)
        return path

    def remove(self) -> None:
        """Delete the files; also called when the module ends."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)
            self._folder = None
