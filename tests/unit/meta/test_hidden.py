# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret that a run showed would be found: the tests that look for one only see that nothing is found."""

from __future__ import annotations

import json

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.ring_plan import hash_password

from tests.hidden import find_hidden

SECRET = 'it\'s "100%"o'
DIGEST = "n9X.Gs0lAz5SWkVUGa3Ot0OUdJbCJ/Ov3mCpl6YMmr7"
# As caching_sha2_password stores it; its salt has bytes that no text shows as they are.
STORED = b"$A$005$" + bytes(range(1, 21)) + DIGEST.encode()
SHOWN = {
    "plain": SECRET,
    "in JSON": 'it\'s \\"100%\\"o',
    "in a URL": "it%27s%20%22100%25%22o",
    "base64": "aXQncyAiMTAwJSJv",
    "in SQL": "it''s \"100%\"o",
    "hexadecimal": SECRET.encode().hex(),
    "HEXADECIMAL": SECRET.encode().hex().upper(),
    "the modules' hash": hash_password(SECRET),
    "SHA2() in capitals": hash_password(SECRET).upper(),
}
STORED_SHOWN = {
    "HEX()": STORED.hex().upper(),
    "lower case": STORED.hex(),
    "as it is": STORED.decode(),
    "in JSON": json.dumps(STORED.decode()),
    "repr": repr(STORED),
    "the digest alone": DIGEST,
    "the digest in lower hexadecimal": DIGEST.encode().hex(),
}


@pytest.mark.parametrize("form", SHOWN)
def test_rp_rep_09_a_password_would_have_been_seen(form: str) -> None:
    texts = {"output": f"...{SHOWN[form]}...", "log": "nothing"}
    assert find_hidden({"root-password": SECRET}, texts) == ["root-password in output"]


@pytest.mark.parametrize("form", STORED_SHOWN)
def test_rp_rep_09_a_stored_hash_would_have_been_seen(form: str) -> None:
    texts = {"output": f"...{STORED_SHOWN[form]}...", "log": "nothing"}
    found = find_hidden({}, texts, {"petset_repl": [STORED.hex().upper()]})
    assert found[0] == "stored password of petset_repl in output"
    assert DIGEST not in str(found)


def test_rp_rep_09_a_stored_hash_is_seen_of_an_account_that_nobody_named() -> None:
    assert find_hidden({}, {"diff": f"AS '{STORED.decode()}'"}) == ["a stored password in diff"]


def test_what_shows_no_secret_is_not_found() -> None:
    text = "changed: [localhost] sha256 0123456789ab, $A$B$, CREATE USER ... AS '<hidden>'"
    assert find_hidden({"root-password": SECRET}, {"output": text}, {"root": [STORED.hex()], "none": []}) == []


def test_short_forms_are_in_no_text_by_chance() -> None:
    """What is left of a short secret in base64 would be anywhere."""
    assert find_hidden({"short": "ab"}, {"output": "a b ab YWI="}) == []
    assert find_hidden({"short": "ab"}, {"output": hash_password("ab")}) == ["short in output"]
