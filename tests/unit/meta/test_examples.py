# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the pages for users is right; tests/api/test_examples.py runs it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.examples import PAGES, ROOT, Page, read_page

PETSET: dict[str, Any] = yaml.safe_load((ROOT / "roles/petset/meta/argument_specs.yml").read_text())
OPTIONS = PETSET["argument_specs"]["main"]["options"]
PLAYBOOKS = {path.stem: path.read_text() for path in (ROOT / "playbooks").glob("*.yml")}


def known(name: str) -> bool:
    """Whether anything reads this variable."""
    if name in OPTIONS:
        return True
    specs = "".join(path.read_text() for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
    return bool(
        re.search(rf"^ +{name}:", specs, re.MULTILINE)
        or any(re.search(rf"\b{name}\b", text) for text in PLAYBOOKS.values())
    )


def variables_of(name: str, content: str) -> dict[str, Any]:
    parsed = yaml.safe_load(content)
    found = parsed["all"].get("vars", {}) if name == "inventory.yml" else parsed
    assert isinstance(found, dict)
    return found


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    return read_page(request.param)


def test_every_page_has_a_command(page: Page) -> None:
    assert page.commands


def test_each_command_names_a_playbook_and_files_that_are_there(page: Page) -> None:
    files = {"inventory.yml", *(name for name, _content in page.files)}
    for words in page.commands:
        (playbook,) = [word for word in words if word.startswith("stateful.petset.")]
        assert playbook.removeprefix("stateful.petset.") in PLAYBOOKS
        assert {word.lstrip("@") for word in words if word.endswith(".yml")} <= files


def test_each_variable_is_known_and_its_value_allowed(page: Page) -> None:
    given = [variables_of(name, content) for name, content in page.files]
    for words in page.commands:
        for flag, word in pairwise(words):
            if flag == "-e" and not word.startswith("@"):
                given.append(yaml.safe_load(word) if word.startswith("{") else dict([word.split("=", 1)]))
    for variables in given:
        assert [name for name in variables if not known(name)] == []
        result = ArgumentSpecValidator(OPTIONS).validate({k: v for k, v in variables.items() if k in OPTIONS})
        assert result.error_messages == []


def test_what_is_said_to_show_a_story_is_there(page: Page) -> None:
    if page.name.startswith("docs/stories/"):
        assert page.shown_by
    assert [name for name in page.shown_by if not (ROOT / name).exists()] == []


def test_links_lead_to_a_page_and_a_heading(page: Page) -> None:
    folder = (ROOT / page.name).parent
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]+))?\)", (ROOT / page.name).read_text()):
        text = (folder / target).resolve().read_text()
        headings = {
            re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert not anchor or anchor in headings, f"{target}#{anchor}"


def test_the_readme_shows_the_first_run_as_its_page_does() -> None:
    readme, story = read_page("README.md"), read_page("docs/stories/first_run.md")
    assert readme.files == story.files
    assert set(readme.commands) < set(story.commands)


def test_a_variable_that_nobody_reads_is_found() -> None:
    assert not known("petset_replicsa")
