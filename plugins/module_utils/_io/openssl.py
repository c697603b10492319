# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority of one set and its servers' certificate, made with the ``openssl`` program.

The program is there on every controller, a Python library for this is not. The authority's key is thrown away at
once: nobody can issue another certificate that the set's clients would trust.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .._core.certificates import render_authority_config, render_server_config
from .._core.errors import PetsetError

RunCommand = Callable[[Sequence[str]], tuple[int, str, str]]

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(
    run_command: RunCommand, subject: str, names: Sequence[str], days: int, folder: str | None = None
) -> tuple[dict[str, str], int]:
    """Files for the Secret (ca.crt, tls.crt, tls.key, all PEM) and the moment in epoch seconds when they end.

    ``folder`` is where the temporary folder is made, readable for this user only and gone afterwards.
    PetsetError: openssl is missing or fails.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="petset-tls-") as place:
        work = Path(place)
        (work / "ca.cnf").write_text(render_authority_config(subject), encoding="ascii")
        (work / "tls.cnf").write_text(render_server_config(subject, names), encoding="ascii")

        def openssl(*words: str) -> str:
            return _openssl(run_command, words)

        def file(name: str) -> str:
            return str(work / name)

        lifetime = ("-days", str(days), "-sha256")
        openssl(
            "req", "-x509", *_NEW_KEY, *lifetime, "-config", file("ca.cnf"), "-extensions", "authority",
            "-keyout", file("ca.key"), "-out", file("ca.crt"),
        )  # fmt: skip
        openssl(
            "req", "-new", *_NEW_KEY, "-sha256", "-config", file("tls.cnf"),
            "-keyout", file("tls.key"), "-out", file("tls.csr"),
        )  # fmt: skip
        openssl(
            "x509", "-req", *lifetime, "-in", file("tls.csr"), "-CA", file("ca.crt"), "-CAkey", file("ca.key"),
            "-CAcreateserial", "-extfile", file("tls.cnf"), "-extensions", "server", "-out", file("tls.crt"),
        )  # fmt: skip
        end = openssl("x509", "-noout", "-enddate", "-in", file("tls.crt")).strip().partition("=")[2]
        made = {name: (work / name).read_text(encoding="ascii") for name in ("ca.crt", "tls.crt", "tls.key")}
        return made, ssl.cert_time_to_seconds(end)


def _openssl(run_command: RunCommand, words: Sequence[str]) -> str:
    way_out = "install openssl where the module runs, or bring a Secret of your own with tls_secret"
    try:
        status, out, err = run_command(["openssl", *words])
    except OSError as problem:
        raise PetsetError("openssl", f"it cannot be run: {problem.strerror}", way_out=way_out) from problem
    if status != 0:
        said = " ".join(err.split())[-300:]
        raise PetsetError("openssl", f"openssl {words[0]} ended with status {status}: {said}", way_out=way_out)
    return out
