# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the files of the tree, whoever adds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tools.common import ROOT, files_of_tree
from tools.gates import GATES, SHIPPED, is_shipped

# Written so that this file does not match itself.
MACHINE_PATHS = re.compile(r"(?<![\w.])/wor[k]/|/far[m]/|\.\./share[d]|\.\./\.librar[y]")
REGISTRIES = re.compile(
    r"deb\.debian\.or[g]|archive\.ubuntu\.co[m]|pypi\.or[g]|pythonhosted\.or[g]|(?:proxy|sum)\.golang\.or[g]"
    r"|registry\.npmjs|rubygems\.or[g]|crates\.i[o]|ci-files\.testing\.ansible"
)
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bAKI[A][0-9A-Z]{16}\b|\bgh[pousr]_\w{36}"
)

TEXTS = {
    name: text
    for name in files_of_tree()
    if (text := (ROOT / name).read_bytes().decode("utf-8", "surrogateescape")) and "\0" not in text
}


def matches(pattern: re.Pattern[str], *, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found.group()[:60]}"
        for name, text in TEXTS.items()
        if not name.endswith(but)
        for found in pattern.finditer(text)
    ]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATHS, "see /wor" + "k/main"),
        (MACHINE_PATHS, "`.." + "/shared/x.md`"),
        (REGISTRIES, "http://deb.debian" + ".org/debian"),
        (SECRETS, "-----BEGIN RSA PRIVATE" + " KEY-----\n" + "a" * 64),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_no_path_of_one_machine() -> None:
    assert matches(MACHINE_PATHS) == []


def test_no_registry_host() -> None:
    assert matches(REGISTRIES, but=("go.sum",)) == []


def test_no_secret() -> None:
    assert matches(SECRETS) == []


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".py")])
def test_python_names_its_licence(name: str) -> None:
    head = TEXTS[name].splitlines()[:20]
    assert any("SPDX-License-Identifier: GPL-3.0-or-later" in line for line in head)


def test_every_top_level_name_is_shipped_or_left_out_on_purpose() -> None:
    strange = {Path(name).parts[0] for name in files_of_tree() if is_shipped(name)} - SHIPPED - {"galaxy.yml"}
    assert not strange, "add them to build_ignore in galaxy.yml, or to SHIPPED in tools/gates.py"


@pytest.mark.parametrize("name", ["lab/run.py", "tests/unit/conftest.py", ".ci/run", "tools/venv", "Makefile"])
def test_what_only_developers_need_is_not_shipped(name: str) -> None:
    assert not is_shipped(name)


def test_every_sanity_exception_gives_its_reason() -> None:
    lines = [line for name, text in TEXTS.items() if "/sanity/ignore-" in name for line in text.splitlines()]
    assert [line for line in lines if not re.search(r" # \S.{10}", line)] == []


LOCKS = ["dev", "core-oldest", "core-newest"]


def pins(lock: str) -> dict[str, Version]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / f"{lock}.lock").read_text(), re.MULTILINE)
    return {name: Version(version) for name, version in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_all_that_is_asked_for(lock: str) -> None:
    pinned = pins(lock)
    for line in (ROOT / "requirements" / f"{lock}.in").read_text().splitlines():
        if line and not line.startswith("#"):
            wanted = Requirement(line)
            assert pinned[wanted.name.lower()] in wanted.specifier, f"run tools/lock: {line}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    entries = re.findall(r"^\S.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_testinfra_has_no_rival_in_pytest(lock: str) -> None:
    assert "pytest-testinfra" in pins(lock)
    assert "pytest-ansible" not in pins(lock)


def test_the_client_that_sends_no_token_is_refused_everywhere() -> None:
    for name in ("meta/ee-requirements.txt", "tests/unit/requirements.txt", "requirements/dev.in"):
        line = next(line for line in TEXTS[name].splitlines() if line.startswith("kubernetes"))
        assert not list(Requirement(line).specifier.filter(["36.0.0", "36.0.1"])), name


def test_the_developers_page_and_the_makefile_tell_the_same_targets() -> None:
    made = re.findall(r"^([a-z]+):.*## ", TEXTS["Makefile"], re.MULTILINE)
    told = re.findall(r"^\| `make ([a-z]+)`", TEXTS["DEVELOPERS.md"], re.MULTILINE)
    assert told == made
    assert set(made) >= {"help", "gates", "unit", "api", "lab", "site", "status", "demo", "test", "bench", "faults"}


def test_the_developers_page_has_every_gate() -> None:
    section = TEXTS["DEVELOPERS.md"].partition("## Gates")[2].partition("\n## ")[0]
    told = [name for first in re.findall(r"^\| ([a-z, -]+) \|", section, re.MULTILINE) for name in first.split(", ")]
    assert sorted(told) == sorted(gate.name for gate in GATES)


def test_ci_calls_what_people_call() -> None:
    lines = [line for line in TEXTS[".ci/run"].splitlines() if line and not line.startswith("#")]
    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]


def test_the_changelog_fragments_have_known_sections() -> None:
    sections = {name for name, _title in yaml.safe_load(TEXTS["changelogs/config.yaml"])["sections"]}
    sections |= {"release_summary", "trivial"}
    for name, text in TEXTS.items():
        if name.startswith("changelogs/fragments/"):
            assert set(yaml.safe_load(text)) <= sections, name
