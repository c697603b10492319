# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which a module tells the same, and what of secrets stands in each."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping

# A text, and how a word is written in such a one.
Form = tuple[str, Callable[[str], str]]


def json_form(text: str) -> Form:
    """JSON, in which a word is escaped."""
    return text, lambda word: json.dumps(word)[1:-1]


def report_forms(report: Mapping[str, str]) -> dict[str, Form]:
    """Those of a report; the picture's where it has one."""
    forms: dict[str, Form] = {
        "html": (report["html"], html.escape),
        "markdown": (
            report["markdown"],
            lambda word: word.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;"),
        ),
        "json": json_form(report["json"]),
    }
    if "svg" in report:
        forms["svg"] = (report["svg"], html.escape)
    return forms


def find_secrets(
    forms: Mapping[str, Form],
    secrets: Mapping[str, str],
    ways: Callable[[str], Iterable[str]] = lambda secret: (secret,),
) -> dict[str, set[str]]:
    """For each form the keys of the secrets that stand in it, plain or as the form writes them."""
    return {
        name: {key for key, secret in secrets.items() for way in ways(secret) if way in text or write(way) in text}
        for name, (text, write) in forms.items()
    }
