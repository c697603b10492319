# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's certificates, made by the openssl program: one authority, a certificate for each part, short-lived keys.

The authority carries keyUsage: Python 3.13 and later refuse one without (strict X.509).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.config import DOMAIN, SERVICES, Plan
from lab.log import in_parallel
from lab.run import run
from lab.state import folder, write_atomically

DAYS = 3650


@dataclass(frozen=True, slots=True)
class Certificate:
    """What goes into a certificate: file name, subject (common name = Kubernetes user, organisation = group), names
    and addresses it serves, and whether it is for a server, a client or both.
    """

    name: str
    common_name: str
    organisation: str | None = None
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    server: bool = False
    client: bool = True

    def render_extensions(self) -> str:
        """The openssl extension file for it. Pure."""
        usage = ", ".join([*(["serverAuth"] if self.server else []), *(["clientAuth"] if self.client else [])])
        names = [f"DNS:{name}" for name in self.dns] + [f"IP:{ip}" for ip in self.ips]
        lines = [
            "basicConstraints = critical, CA:FALSE",
            "keyUsage = critical, digitalSignature, keyEncipherment",
            f"extendedKeyUsage = {usage}",
            "authorityKeyIdentifier = keyid",
            "subjectKeyIdentifier = hash",
        ]
        if names:
            lines.append(f"subjectAltName = {', '.join(names)}")
        return "\n".join(lines) + "\n"

    def render_subject(self) -> str:
        """The subject in openssl's notation. Pure."""
        return (f"/O={self.organisation}" if self.organisation else "") + f"/CN={self.common_name}"


def certificates(plan: Plan) -> list[Certificate]:
    """All certificates of a lab. Pure."""
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    server_ips = (plan.api_ip, f"{SERVICES}.0.1", "127.0.0.1")
    return [
        Certificate(
            "apiserver",
            "kube-apiserver",
            dns=(*kubernetes, "localhost", "api"),
            ips=server_ips,
            server=True,
            client=False,
        ),
        Certificate("apiserver-kubelet-client", "lab:apiserver"),
        Certificate("admin", "lab:admin", "system:masters"),
        Certificate("controller-manager", "system:kube-controller-manager"),
        Certificate("scheduler", "system:kube-scheduler"),
        Certificate("kube-proxy", "system:kube-proxy"),
        Certificate("coredns", "lab:coredns"),
        *(
            Certificate(
                f"kubelet-{n.name}",
                f"system:node:{n.name}",
                "system:nodes",
                dns=(n.name,),
                ips=(n.ip, n.ip6),
                server=True,
            )
            for n in plan.nodes
        ),
    ]


def pki_folder(plan: Plan) -> Path:
    """Where keys and certificates are."""
    return folder(plan.config.name) / "pki"


def ensure(plan: Plan) -> None:
    """The authority, the service account key, and every certificate that is not there yet."""
    base = pki_folder(plan)
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (base / "ca.crt").exists():
        run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                str(base / "ca.key"),
                "-out",
                str(base / ".ca.crt"),
                "-days",
                str(DAYS),
                "-subj",
                f"/CN=lab {plan.config.name}",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
            ]
        )
        (base / ".ca.crt").rename(base / "ca.crt")
    private, public = base / "service-account.key", base / "service-account.pub"
    if not public.exists():
        run(["openssl", "genrsa", "-out", str(private), "2048"])
        run(["openssl", "rsa", "-in", str(private), "-pubout", "-out", str(base / ".service-account.pub")])
        (base / ".service-account.pub").rename(public)
    missing = [c for c in certificates(plan) if not (base / f"{c.name}.crt").exists()]
    in_parallel([lambda c=c: _issue(base, c) for c in missing])  # type: ignore[misc]


def _issue(base: Path, certificate: Certificate) -> None:
    name = certificate.name
    extensions, request = base / f".{name}.ext", base / f".{name}.csr"
    extensions.write_text(certificate.render_extensions())
    run(
        [
            "openssl",
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            str(base / f"{name}.key"),
            "-out",
            str(request),
            "-subj",
            certificate.render_subject(),
        ]
    )
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            str(request),
            "-CA",
            str(base / "ca.crt"),
            "-CAkey",
            str(base / "ca.key"),
            "-set_serial",
            "0x" + base64.b16encode(os.urandom(8)).decode(),
            "-days",
            str(DAYS),
            "-extfile",
            str(extensions),
            "-out",
            str(base / f".{name}.crt"),
        ]
    )
    (base / f".{name}.crt").rename(base / f"{name}.crt")
    extensions.unlink()
    request.unlink()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def render_kubeconfig(
    cluster: str, server: str, user: str, ca: bytes, credentials: Mapping[str, str], namespace: str = "default"
) -> str:
    """A kubeconfig with everything inside (JSON, which YAML readers take). Pure. ``credentials`` are the user's as
    they stand there: a token, or a certificate and its key (``render_credentials``).
    """
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
            "users": [{"name": user, "user": dict(credentials)}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user, "namespace": namespace}}],
            "current-context": cluster,
        },
        indent=1,
    )


def render_credentials(certificate: bytes, key: bytes) -> dict[str, str]:
    """What a kubeconfig has for somebody with a client certificate. Pure."""
    return {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}


def write_kubeconfig(plan: Plan, certificate: str, path: Path) -> None:
    """A kubeconfig for one of the certificates, readable by root alone."""
    base = pki_folder(plan)
    text = render_kubeconfig(
        f"lab-{plan.config.name}",
        plan.api_url,
        certificate,
        (base / "ca.crt").read_bytes(),
        render_credentials((base / f"{certificate}.crt").read_bytes(), (base / f"{certificate}.key").read_bytes()),
    )
    write_atomically(path, text, mode=0o600)
