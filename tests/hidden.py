# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody may be shown, in each form in which a text may show it: passwords, what is computed from them, and the
hashes that MySQL stores.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import hash_password
from pymysql.converters import escape_string

# How caching_sha2_password begins what it stores: its kind and thousands of rounds. A salt of 20 bytes and the digest
# come after it.
_STORED = re.compile(r"\$A\$[0-9A-F]{3}\$")
_DIGEST_AT = len("$A$005$") + 20


def forms_of(secret: str) -> set[str]:
    """A secret as it can stand in a text: plain, as programs write it down, and as the SHA-256 that modules compare."""
    plain = secret.encode()
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        escape_string(secret),
        secret.replace("'", "''"),
        secret.replace("'", "'\\''"),
    }
    for text in (plain.hex(), hash_password(secret)):
        forms |= {text, text.upper()}
    # base64 of the secret alone, and within a longer text, wherever it begins there.
    forms.add(base64.b64encode(plain).decode())
    forms |= {base64.b64encode(b"x" * shift + plain)[4 if shift else 0 : -4].decode() for shift in range(3)}
    return forms


def stored_forms(stored: str) -> set[str]:
    """An account's authentication_string, given in hexadecimal, in its forms.

    The salt has bytes that each program escapes in its own way, so the digest behind it counts alone as well.
    """
    text = bytes.fromhex(stored).decode("utf-8", "replace")
    forms = forms_of(text) | {stored.lower(), stored.upper()}
    if _STORED.match(text) and len(text) > _DIGEST_AT:
        forms |= forms_of(text[_DIGEST_AT:])
    return forms


def find_hidden(
    secrets: Mapping[str, str], texts: Mapping[str, str], stored: Mapping[str, Iterable[str]] | None = None
) -> list[str]:
    """Which secret stands where; the secret itself is not in the answer.

    ``stored`` are authentication_strings in hexadecimal, by account. Whatever looks like one is found in any case.
    """
    forms = {key: forms_of(secret) for key, secret in secrets.items()}
    for account, hashes in (stored or {}).items():
        forms[f"stored password of {account}"] = {form for one in hashes for form in stored_forms(one)}
    found = [
        f"{key} in {name}"
        for key, seen in forms.items()
        for name, text in texts.items()
        if any(form in text for form in seen if len(form) > 5)
    ]
    return found + [f"a stored password in {name}" for name, text in texts.items() if _STORED.search(text)]
