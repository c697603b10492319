# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import http.server
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core import kinds
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import BadConnectionSettings
from ansible_collections.stateful.petset.plugins.module_utils._core.kubeconfig import (
    Connection,
    resolve_settings,
)
from ansible_collections.stateful.petset.plugins.module_utils._io import kubeauth
from ansible_collections.stateful.petset.plugins.module_utils._io.kube import KubeClient


def kubeconfig(user: Mapping[str, Any], server: str = "https://lab:6443") -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": dict(user)}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def find(params: Mapping[str, Any], environ: Mapping[str, str], home: Path) -> Connection:
    return kubeauth.find_connection(resolve_settings(params, environ), environ, service_account_dir=str(home / "sa"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, document: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_rp_ans_09_the_order_of_the_sources(home: Path) -> None:
    option = write(home / "option", kubeconfig({"token": "o"}, "https://option"))
    env = write(home / "env", kubeconfig({"token": "e"}, "https://env"))
    listed = write(home / "listed", kubeconfig({"token": "l"}, "https://listed"))
    write(home / ".kube" / "config", kubeconfig({"token": "d"}, "https://default"))
    for name, text in (("token", "sa-token"), ("ca.crt", "pem")):
        (home / "sa").mkdir(exist_ok=True)
        (home / "sa" / name).write_text(text)
    inside = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    everything = {"K8S_AUTH_KUBECONFIG": env, "KUBECONFIG": listed, **inside}
    awx = {**everything, "K8S_AUTH_HOST": "https://awx", "K8S_AUTH_API_KEY": "t"}

    assert find({"kubeconfig": option}, awx, home).host == "https://awx"
    assert find({"kubeconfig": option}, everything, home).host == "https://option"
    assert find({}, everything, home).host == "https://env"
    assert find({}, {"KUBECONFIG": listed, **inside}, home).host == "https://[fd00::1]:443"
    assert find({"context": "x"}, {"KUBECONFIG": listed, **inside}, home).host == "https://listed"
    assert find({}, {"KUBECONFIG": listed}, home).host == "https://listed"
    assert find({}, {}, home).host == "https://default"
    assert "environment variable K8S_AUTH_HOST" in find({}, awx, home).source


def test_nothing_to_connect_with(home: Path) -> None:
    with pytest.raises(BadConnectionSettings, match="nothing to connect with"):
        find({}, {}, home)
    with pytest.raises(BadConnectionSettings, match="the address alone is not enough"):
        find({"host": "https://x"}, {}, home)


def test_a_pod_without_token_does_not_pretend_to_be_in_cluster(home: Path) -> None:
    with pytest.raises(BadConnectionSettings, match="nothing to connect with"):
        find({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, home)


def test_a_wrong_path_names_the_path_and_its_source(home: Path) -> None:
    with pytest.raises(BadConnectionSettings) as problem:
        find({}, {"K8S_AUTH_KUBECONFIG": str(home / "nowhere")}, home)
    assert str(home / "nowhere") in str(problem.value)
    assert "K8S_AUTH_KUBECONFIG" in str(problem.value)


def test_rp_ans_03_a_broken_kubeconfig_is_not_quoted(home: Path) -> None:
    path = home / "broken"
    path.write_text("users:\n- name: u\n  user: {token: s3cret\n")
    with pytest.raises(BadConnectionSettings, match="not YAML") as problem:
        find({"kubeconfig": str(path)}, {}, home)
    assert "s3cret" not in str(problem.value)
    assert problem.value.__cause__ is None


def test_a_kubeconfig_as_mapping(home: Path) -> None:
    assert find({"kubeconfig": kubeconfig({"token": "t"})}, {}, home).api_key == "t"


def plugin(**credentials: Any) -> str:
    given = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": credentials}
    return json.dumps(given)


def run_plugin(status: int, out: str, err: str = "") -> tuple[Connection, list[Any]]:
    calls: list[Any] = []

    def run(args: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
        calls.append((list(args), dict(env)))
        return status, out, err

    user = {"exec": {"command": "login", "args": ["a"], "apiVersion": "client.authentication.k8s.io/v1"}}
    connection = kubeauth.find_connection(resolve_settings({"kubeconfig": kubeconfig(user)}, {}), {})
    if connection.exec_plugin is None:
        raise AssertionError("no plugin")
    return kubeauth.with_plugin_credentials(connection, connection.exec_plugin, run), calls


def test_rp_ans_08_the_output_of_the_plugin_is_used() -> None:
    connection, calls = run_plugin(0, plugin(token="fresh"))
    assert connection.api_key == "fresh"
    assert calls[0][0] == ["login", "a"]
    assert json.loads(calls[0][1]["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
    connection, _calls = run_plugin(0, plugin(clientCertificateData="CERT", clientKeyData="KEY"))
    assert base64.b64decode(connection.client_key_data or "") == b"KEY"


@pytest.mark.parametrize(
    ("status", "out", "err", "text"),
    [
        (3, "", "x\nnot logged in", "exit status 3: not logged in"),
        (1, "", "", "exit status 1: it said nothing"),
        (0, "nonsense", "", "did not print an ExecCredential"),
        (0, "{}", "", "did not print an ExecCredential"),
        (0, plugin(), "", "neither a token nor a certificate"),
        (0, plugin(clientCertificateData="CERT"), "", "neither a token nor a certificate"),
    ],
)
def test_rp_ans_08_a_failing_plugin_is_named(status: int, out: str, err: str, text: str) -> None:
    with pytest.raises(BadConnectionSettings, match=text) as problem:
        run_plugin(status, out, err)
    assert "'login'" in str(problem.value)
    assert "context x" in str(problem.value)


def test_rp_ans_08_a_plugin_that_is_not_there() -> None:
    def run(_args: Sequence[str], _env: Mapping[str, str]) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory")

    user = {"exec": {"command": "login", "apiVersion": "v1", "installHint": "get it from the shop"}}
    connection = kubeauth.find_connection(resolve_settings({"kubeconfig": kubeconfig(user)}, {}), {})
    with pytest.raises(BadConnectionSettings, match="cannot be started: No such file") as problem:
        kubeauth.with_plugin_credentials(connection, connection.exec_plugin, run)  # type: ignore[arg-type]
    assert "get it from the shop" in str(problem.value)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with what it was asked, or with 401 for a token that is not the server's."""

    def do_GET(self) -> None:
        seen: list[Any] = self.server.seen  # type: ignore[attr-defined]
        wanted: str = self.server.token  # type: ignore[attr-defined]
        seen.append((self.path, dict(self.headers), self.headers.get_all("Impersonate-Group")))
        good = self.headers.get("Authorization") == f"Bearer {wanted}"
        body = json.dumps({"items": []} if good else {"kind": "Status", "message": "Unauthorized"}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.seen = []  # type: ignore[attr-defined]
        made.token = "t0ken"  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def client_for(connection: Connection, run: Any = None) -> tuple[KubeClient, list[str]]:
    secrets: list[str] = []
    transport = kubeauth.HttpTransport(connection, run_command=run, register_secret=secrets.append)
    return KubeClient(transport), secrets


def url(server: http.server.ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_the_real_transport_sends_token_query_and_groups(server: Any) -> None:
    connection = Connection(
        host=url(server), source="test", api_key="t0ken", impersonate_user="me", impersonate_groups=("a", "b")
    )
    client, secrets = client_for(connection)
    assert client.list(kinds.POD, "default", label_selector="a=b c") == []
    path, headers, groups = server.seen[0]
    assert path == "/api/v1/namespaces/default/pods?labelSelector=a%3Db+c"
    assert headers["Impersonate-User"] == "me"
    assert groups == ["a", "b"]
    assert headers["User-Agent"] == "stateful.petset"
    assert secrets == ["t0ken"]


def test_rp_ans_08_an_expired_token_is_renewed_once(server: Any) -> None:
    tokens = iter(["old", "t0ken"])

    def run(_args: Sequence[str], _env: Mapping[str, str]) -> tuple[int, str, str]:
        return 0, plugin(token=next(tokens)), ""

    user = {"exec": {"command": "login", "apiVersion": "client.authentication.k8s.io/v1"}}
    settings = resolve_settings({"kubeconfig": kubeconfig(user, url(server))}, {})
    client, secrets = client_for(kubeauth.find_connection(settings, {}), run)
    assert client.list(kinds.POD, "default") == []
    assert secrets == ["old", "t0ken"]
    assert [one.status for one in client.requests] == [401, 200]


def test_a_service_account_token_is_read_again(server: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    client, _secrets = client_for(Connection(host=url(server), source="test", token_file=str(token)))
    token.write_text("t0ken\n")
    assert client.list(kinds.POD, "default") == []


def test_a_refused_connection(server: Any) -> None:
    transport = kubeauth.HttpTransport(
        Connection(host="http://127.0.0.1:1", source="test"), run_command=None, register_secret=print
    )
    with pytest.raises(kubeauth.NoAnswer, match="refused") as problem:
        transport.send("GET", "/", {}, {}, None, 1.0)
    assert not problem.value.sent


def test_a_server_that_hangs_up_may_have_done_it() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        transport = kubeauth.HttpTransport(
            Connection(host=f"http://127.0.0.1:{listener.getsockname()[1]}", source="test"),
            run_command=None,
            register_secret=print,
        )
        with pytest.raises(kubeauth.NoAnswer) as problem:
            transport.send("POST", "/", {}, {}, b"{}", 2.0)
        thread.join()
    assert problem.value.sent


def test_keys_that_came_as_data_are_private_files_and_go_away() -> None:
    files = kubeauth._PrivateFiles()
    path = files.path(None, base64.b64encode(b"key").decode(), "test")
    assert path is not None
    assert Path(path).read_bytes() == b"key"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    files.remove()
    assert not os.path.exists(path)
    with pytest.raises(BadConnectionSettings, match="not base64"):
        files.path(None, "!", "test")
    with pytest.raises(BadConnectionSettings, match="no such file"):
        files.path("/nowhere/ca.pem", None, "test")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("CA cert does not include key usage extension", "keyCertSign"),
        ("self-signed certificate in certificate chain", "ca_cert"),
        ("unable to get local issuer certificate", "ca_cert"),
        ("IP address mismatch, certificate is not valid for '10.0.0.1'", "tls-server-name"),
    ],
)
def test_hints_for_tls(text: str, hint: str) -> None:
    assert hint in kubeauth._tls_hint(text)


def test_a_removed_auth_provider_is_named() -> None:
    user = {"auth-provider": {"name": "oidc"}}
    connection = kubeauth.find_connection(resolve_settings({"kubeconfig": kubeconfig(user)}, {}), {})
    with pytest.raises(BadConnectionSettings, match="removed in 1"):
        client_for(connection)
