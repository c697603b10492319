# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the certificates of a set: names and extensions, as configuration for the ``openssl`` program.

Since Python 3.13 certificates are checked strictly (``VERIFY_X509_STRICT``): an authority without the extension key
usage, or a certificate without the authority's key identifier, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .manifests import PetSetSpec
from .names import pet_name

# A wildcard never stands for a whole short name (OpenSSL wants two dots behind it), so these are listed one by one.
_LISTED_PETS: Final = 16
# RFC 5280, ub-common-name. MySQL wants the authority's name to differ from the server's (manual, "Creating SSL
# Certificates").
_MAX_COMMON_NAME: Final = 64


def certificate_names(spec: PetSetSpec) -> tuple[str, ...]:
    """All DNS names by which a pet is spoken to: each by the governing service, all by the clients' service."""
    names = [
        "localhost",
        f"*.{spec.domain}",
        f"*.{spec.service}.{spec.namespace}.svc",
        f"*.{spec.service}.{spec.namespace}",
    ]
    names += [f"{pet_name(spec.name, ordinal)}.{spec.service}" for ordinal in range(max(_LISTED_PETS, spec.replicas))]
    if spec.client_service is not None:
        client = f"{spec.client_service.name}.{spec.namespace}.svc"
        names += [spec.client_service.name, f"{spec.client_service.name}.{spec.namespace}", client]
        names.append(f"{client}.{spec.cluster_domain}")
    return tuple(dict.fromkeys(names))


def render_authority_config(subject: str) -> str:
    """Configuration for the authority."""
    return f"""\
[req]
prompt = no
distinguished_name = name
string_mask = utf8only
[name]
CN = {_common_name(subject, " CA")}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


def render_server_config(subject: str, names: Sequence[str]) -> str:
    """Configuration for the servers' certificate; pets are each other's clients, so it serves for both ends."""
    alternatives = "".join(f"DNS.{number} = {name}\n" for number, name in enumerate(names, 1))
    return f"""\
[req]
prompt = no
distinguished_name = name
string_mask = utf8only
[name]
CN = {_common_name(subject, "")}
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = @names
[names]
{alternatives}IP.1 = 127.0.0.1
IP.2 = ::1
"""


def _common_name(subject: str, suffix: str) -> str:
    return subject[: _MAX_COMMON_NAME - len(suffix)] + suffix
