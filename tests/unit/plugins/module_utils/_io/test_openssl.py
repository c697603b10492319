# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.certificates import certificate_names
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import PetsetError
from ansible_collections.stateful.petset.plugins.module_utils._io.openssl import make_certificates
from ansible_collections.stateful.petset.tests.unit.fakes.pets import SPEC


def run(words: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int, Path]:
    folder = tmp_path_factory.mktemp("tls")
    files, end_s = make_certificates(run, "mysql.default", certificate_names(SPEC), 3650, str(folder))
    assert os.listdir(folder) == [], "no key is left behind"
    for name, text in files.items():
        (folder / name).write_text(text)
    return files, end_s, folder


def test_the_authoritys_key_is_not_kept(made: tuple[dict[str, str], int, Path]) -> None:
    files, end_s, _folder = made
    assert set(files) == {"ca.crt", "tls.crt", "tls.key"}
    assert 3649 <= (end_s - time.time()) / 86400 <= 3650


@pytest.mark.parametrize(
    "name", ["mysql-0.db", "mysql-7.db.default.svc.cluster.local", "mysql.default.svc", "localhost"]
)
def test_a_strict_client_trusts_the_server_by_each_name(made: tuple[dict[str, str], int, Path], name: str) -> None:
    folder = made[2]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=lambda: server.wrap_socket(theirs, server_side=True).close())
    serving.start()
    with client.wrap_socket(ours, server_hostname=name) as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    serving.join(timeout=10)


def shake_hands(*ends: ssl.SSLObject) -> None:
    for _turn in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def test_another_name_is_refused(made: tuple[dict[str, str], int, Path]) -> None:
    folder = made[2]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(outgoing, incoming, server_side=True)
    ours = client.wrap_bio(incoming, outgoing, server_hostname="mysql-0.other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ours, theirs)


def test_a_missing_program_is_named_with_the_way_out(tmp_path: Path) -> None:
    def missing(_words: Sequence[str]) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(PetsetError, match="tls_secret"):
        make_certificates(missing, "x", ["x"], 1, str(tmp_path))
    with pytest.raises(PetsetError, match="ended with status 1: bad option"):
        make_certificates(lambda _words: (1, "", "bad\noption"), "x", ["x"], 1, str(tmp_path))
    assert os.listdir(tmp_path) == []
