# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import html
import json
import shlex
from urllib.parse import quote

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.redact import STARS, Redactor
from hypothesis import given
from hypothesis import strategies as st

SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=6).filter(
    lambda one: one.strip() == one
)


@given(SECRETS, st.sampled_from(["plain", "sql", "json", "url", "page", "shell", "base64"]))
def test_a_secret_is_hidden_in_each_way_of_writing(secret: str, way: str) -> None:
    written = {
        "plain": secret,
        "sql": secret.replace("\\", "\\\\").replace("'", "\\'"),
        "json": json.dumps(secret)[1:-1],
        "url": quote(secret, safe=""),
        "page": html.escape(secret),
        "shell": shlex.quote(secret),
        "base64": base64.b64encode(secret.encode()).decode(),
    }[way]
    assert written not in Redactor((secret,)).hide(f"[{written}]")


@given(st.text(alphabet="abcdef ,.-", max_size=40))
def test_a_text_without_a_secret_is_left_alone(text: str) -> None:
    assert Redactor(("UPPER",)).hide(text) == text


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    assert Redactor(("abc", "abcdef")).hide("abcdef abc") == f"{STARS} {STARS}"
    assert Redactor(("", "\n")).hide("all") == "all"


KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("ALTER USER 'a'@'%' IDENTIFIED BY 'se\\'cret'", "cret"),
        ("ALTER USER 'a'@'%' IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$secret'", "secret"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = 'secret', SOURCE_PORT = 3306", "secret"),
        ("mysql --user=root --password=secret -e 1", "secret"),
        ("MYSQL_PWD=secret mysql", "secret"),
        ("cannot pull https://me:secret@registry.example/x", "secret"),
        (KEY, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"),
    ],
)
def test_what_a_text_calls_a_password_is_hidden(text: str, secret: str) -> None:
    hidden = Redactor().hide(text)
    assert secret not in hidden
    assert STARS in hidden


@pytest.mark.parametrize(
    "text",
    [
        "ERROR 1045 (28000): Access denied for user 'petset_repl'@'10.0.0.1' (using password: YES)",
        "mount.nfs: access denied by server while mounting nfs.example:/srv/petset/0",
        "the key mysql-secret/root-password is missing",
    ],
)
def test_the_word_password_alone_hides_nothing(text: str) -> None:
    assert Redactor().hide(text) == text


def test_a_line_of_a_key_is_hidden_by_itself() -> None:
    assert "MIIEvQ" not in Redactor((KEY,)).hide("bad base64 in MIIEvQIBADANBgkqhkiG9w0BAQEFAASC at line 2")
