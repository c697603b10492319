# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the pages and of the modules is of a kind that is tested, and its words are known.

tests/unit/meta/test_examples_run.py lets Ansible look at them; tests/api/test_examples.py runs them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import (
    PREPARE_CONTAINER,
    PetSetSpec,
    parse_known_pets,
    render_known_pets,
    render_statefulset,
)
from packaging.requirements import Requirement

from lab import cli
from lab.config import LAN, LAN6, PODS
from tests.examples import (
    ALL_PAGES,
    INSTALL,
    PAGES,
    ROLES,
    ROOT,
    STORIES,
    Block,
    Kind,
    Page,
    all_blocks,
    commands_of,
    parse_page,
    plays_of,
    read_page,
    role_of,
)
from tests.robustness.__main__ import build_parser
from tests.robustness.scenarios import FAULTS
from tests.unit.meta.test_collection import MODULES, documentation, spec_of
from tools.gates import GATES, is_shipped

PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
GROUPS = {"nfs_servers", "kube_nodes"}


def options_of(role: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options: dict[str, Any] = loaded["argument_specs"]["main"]["options"]
    return options


OPTIONS = {path.parent.name: options_of(path.parent.name) for path in (ROOT / "roles").glob("*/meta")}
VARIABLES = {name: option for options in OPTIONS.values() for name, option in options.items()}


def wrong_variables(variables: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """What is unknown, or has a value that is not allowed."""
    found = [f"{name}: unknown" for name in variables if name not in options]
    spec = {name: {**options[name], "required": False} for name in variables if name in options}
    return found + list(ArgumentSpecValidator(spec).validate({name: variables[name] for name in spec}).error_messages)


def wrong_options(module: str, given: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module says to these arguments before it does anything."""
    rules = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
    with monkeypatch.context() as patch:
        seen = spec_of(module, patch)
    validator = ArgumentSpecValidator(seen["argument_spec"], **{name: seen.get(name) for name in rules})
    return list(validator.validate(dict(given)).error_messages)


def position(block: Block) -> str:
    return f"{block.page}:{block.line}"


# --- every example is of a known kind ---


@pytest.mark.parametrize("name", ALL_PAGES)
def test_every_block_of_a_page_is_found_and_has_a_kind(name: str) -> None:
    text = (ROOT / name).read_text()
    fences = re.findall(r"^\s*(?:`{3,}|~{3,})", text, re.MULTILINE)
    fenced = [block for block in read_page(name).blocks if re.match("`{3}|~{3}", text.splitlines()[block.line - 1])]
    assert len(fences) == 2 * len(fenced)
    indented = [line for line in re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).splitlines() if line[:4] == "    "]
    commands = [block for block in read_page(name).blocks if block not in fenced]
    assert len(indented) == sum(block.text.count("\n") for block in commands)
    for block in read_page(name).blocks:
        assert block.kind in Kind


@pytest.mark.parametrize(
    "block", ["```\nls\n```\n", "```shell\nls\n```\n", "```yaml\n- a\n```\n", "```ini\n[a]\n```\n"]
)
def test_an_example_that_no_test_runs_is_found(block: str) -> None:
    (found,) = parse_page("x.md", block).blocks
    with pytest.raises(ValueError, match=r"x\.md:1: no test runs such an example"):
        _ = found.kind


@pytest.mark.parametrize("name", ["README.md", *STORIES, "docs/roles/petset.md"])
def test_a_page_of_the_playbooks_has_a_command(name: str) -> None:
    assert read_page(name).commands


@pytest.mark.parametrize("name", [name for name in ROLES if name != "docs/roles/petset.md"])
def test_a_page_of_a_role_has_a_play_with_it(name: str) -> None:
    roles = [role["role"] for block in read_page(name).blocks if block.kind is Kind.PLAYS for role in roles_of(block)]
    assert roles == [f"stateful.petset.{name.split('/')[-1].removesuffix('.md')}"]


# --- YAML ---


def roles_of(block: Block) -> list[dict[str, Any]]:
    return [role for play in plays_of(block) for role in play["roles"]]


@pytest.mark.parametrize("block", all_blocks(Kind.PLAYS), ids=position)
def test_the_plays_have_no_more_than_roles_with_known_variables(block: Block) -> None:
    for play in plays_of(block):
        assert set(play) <= {"hosts", "gather_facts", "become", "roles"}
    for role in roles_of(block):
        name = role["role"].removeprefix("stateful.petset.")
        assert wrong_variables(role["vars"], OPTIONS[name]) == []


@pytest.mark.parametrize("block", all_blocks(Kind.INVENTORY), ids=position)
def test_an_inventory_has_groups_and_variables_that_are_read(block: Block) -> None:
    found = yaml.safe_load(block.text)["all"]
    assert block.name == "inventory.yml"
    assert set(found) <= {"children", "vars"}
    assert set(found.get("children", {})) <= GROUPS
    assert wrong_variables(found["vars"], VARIABLES) == []


@pytest.mark.parametrize("block", all_blocks(Kind.VARIABLES), ids=position)
def test_variables_are_known_and_have_values_that_are_allowed(block: Block) -> None:
    found = yaml.safe_load(block.text)
    assert wrong_variables(found, VARIABLES) == []
    # What is given to a playbook has the name of the file in which it is given.
    assert bool(block.name) is (role_of(found) == "petset")
    assert not block.name or any(f"@{block.name}" in words for words in read_page(block.page).commands)


@pytest.mark.parametrize("block", all_blocks(Kind.INVENTORY, Kind.VARIABLES), ids=position)
def test_each_drill_is_one_that_the_role_takes(block: Block) -> None:
    found = yaml.safe_load(block.text)
    for drill in found.get("petset_recovery_drills", []):
        assert drill["kind"]
        assert wrong_variables({"recovery_check_drill": drill}, OPTIONS["recovery_check"]) == []


@pytest.mark.parametrize(
    ("variables", "role", "words"),
    [
        ({"petset_replicsa": 3}, "petset", "petset_replicsa: unknown"),
        ({"petset_settled": True}, "petset", "petset_settled: unknown"),
        ({"petset_replicas": "many"}, "petset", "petset_replicas"),
        ({"petset_mode": "both"}, "petset", "petset_mode"),
        ({"haproxy_client_service": {"node": 1}}, "haproxy", "node"),
        ({"haproxy_set": "mysql", "pet_set_set": "mysql"}, "haproxy", "pet_set_set: unknown"),
        ({"recovery_check_drill": {"kind": "unplug"}}, "recovery_check", "unplug"),
    ],
)
def test_a_variable_that_is_wrong_is_found(variables: dict[str, Any], role: str, words: str) -> None:
    (told,) = wrong_variables(variables, OPTIONS[role])
    assert words in told


# --- commands ---


def check_ansible_playbook(words: Sequence[str], page: Page, _monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible itself looks at the options (test_examples_run.py)."""
    (playbook,) = [word for word in words if word.startswith("stateful.petset.")]
    assert playbook.removeprefix("stateful.petset.") in PLAYBOOKS
    files = {"inventory.yml", *(name for name, _content in page.files)}
    assert {word.lstrip("@") for word in words if word.endswith(".yml")} <= files
    for flag, word in pairwise(words):
        if flag == "-e" and not word.startswith("@"):
            given = yaml.safe_load(word) if word.startswith("{") else dict([word.split("=", 1)])
            assert wrong_variables(given, VARIABLES) == []


def check_ansible(words: Sequence[str], page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOSTS of a play of the page, or all; a module with arguments that it takes."""
    pattern, *rest = words[1:]
    assert pattern in {"all", *(play["hosts"] for b in page.blocks if b.kind is Kind.PLAYS for play in plays_of(b))}
    assert set(rest[:-1]) <= {"-b", "-m"}
    assert rest[-2] == "-m"
    if rest[-1] != "ping":
        assert wrong_options(rest[-1].removeprefix("stateful.petset."), {}, monkeypatch) == []


def check_make(words: Sequence[str], _page: Page, _monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, equals, _value = word.partition("=")
        assert re.search(rf"^{name} :?=" if equals else rf"^{name}:", makefile, re.MULTILINE), word


def check_python(words: Sequence[str], page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this tree, with words that its parser takes."""
    assert words[1] == "-m"
    if words[2] == "tools.gates":
        assert set(words[3:]) <= {"--list", *(gate.name for gate in GATES)}
        return
    given = {"lab": cli.build_parser, "tests.robustness": build_parser}[words[2]]().parse_args(words[3:])
    assert set(getattr(given, "only", [])) <= set(FAULTS)
    if "--" in words:
        check(words[words.index("--") + 1 :], page, monkeypatch)


def check_kubectl(words: Sequence[str], _page: Page, _monkeypatch: pytest.MonkeyPatch) -> None:
    """``get pod`` of a pet of the default set, with a path to what its first container has said."""
    assert words[1:5] == ("get", "pod", "mysql-0", "-o")
    (path,) = words[5:]
    found = re.fullmatch(r"jsonpath=\{\.status\.initContainerStatuses\[(\d)\]\.lastState\.terminated\.message\}", path)
    assert found
    spec = PetSetSpec(name="mysql", namespace="default", replicas=2, image="mysql:8.4", boot_files={})
    pod = render_statefulset(spec)["spec"]["template"]["spec"]
    assert pod["initContainers"][int(found[1])]["name"] == PREPARE_CONTAINER


def check_ansible_galaxy(words: Sequence[str], _page: Page, _monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout is installed as it is (test_examples_run.py)."""
    assert words == INSTALL


def check_pip(words: Sequence[str], _page: Page, _monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of requirements that is in the built collection as well."""
    assert words[1:3] == ("install", "-r")
    (name,) = words[3:]
    assert is_shipped(name)
    assert (ROOT / name).exists()
    assert [Requirement(line) for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]


CHECKS: dict[str, Callable[[Sequence[str], Page, pytest.MonkeyPatch], None]] = {
    "ansible": check_ansible,
    "ansible-galaxy": check_ansible_galaxy,
    "ansible-playbook": check_ansible_playbook,
    "kubectl": check_kubectl,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    ".venv/bin/python": check_python,
}


def check(words: Sequence[str], page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert words[0] in CHECKS, f"no test knows the program {words[0]}"
    try:
        CHECKS[words[0]](tuple(words), page, monkeypatch)
    except SystemExit:
        pytest.fail(f"refused by the program itself: {' '.join(words)}")


@pytest.mark.parametrize("block", all_blocks(Kind.COMMANDS), ids=position)
def test_each_command_is_one_that_its_program_takes(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands_of(block)
    for words in commands_of(block):
        check(words, read_page(block.page), monkeypatch)


@pytest.mark.parametrize("name", ALL_PAGES)
def test_commands_within_a_sentence_are_taken_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = read_page(name)
    for line in re.findall(r"`((?:make|\S*python3? -m|ansible-playbook -) ?[^`\n]+)`", (ROOT / name).read_text()):
        words = line.split()
        if words[-1] == "--help":  # argparse's own
            words.pop()
            assert words in (["python3", "-m", "lab"], ["python", "-m", "tests.robustness"])
        else:
            check(words, page, monkeypatch)


@pytest.mark.parametrize(
    "line",
    [
        "ansible-playbook -i inventory.yml stateful.petset.scale",
        "ansible-playbook -i hosts.yml stateful.petset.site",
        "ansible-playbook -i inventory.yml stateful.petset.site -e petset_replicas=many",
        "ansible-playbook -i inventory.yml stateful.petset.site -e petset_replica=3",
        "ansible nfs -m stateful.petset.nfs_export",
        "make tests",
        "make api RELEASE=1.37",
        "python3 -m lab start-all",
        "python -m tests.robustness run --only mysqld-kil",
        "python -m tests.robustness run --suite all",
        "kubectl get pods",
        "helm install mysql",
        "ansible-galaxy collection install stateful.petset",
        "pip install -r requirements.txt",
    ],
)
def test_a_command_that_is_wrong_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(line.split(), read_page("docs/roles/nfs_exports.md"), monkeypatch)


def test_the_targets_of_make_are_those_that_are_told() -> None:
    told = re.findall(r"^\| `make (\w+)` \|", (ROOT / "DEVELOPERS.md").read_text(), re.MULTILINE)
    listed = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(told) - {"help"} == set(listed) - {"help"}


# --- JSON and text ---


def check_identity(text: str) -> None:
    """The file that the pets' start-up writes has these keys, in this order."""
    library = (ROOT / "roles/pet_set/files/boot/lib.sh").read_text()
    written = re.search(r'^\{\n  "format": .*?^\}', library, re.MULTILINE | re.DOTALL)
    assert written
    assert re.findall(r'^  "(\w+)":', written[0], re.MULTILINE) == list(json.loads(text))


def check_known_pets(text: str) -> None:
    assert render_known_pets(parse_known_pets(text)) == text


def check_picture(text: str) -> None:
    """The addresses are those that a lab has."""
    found = set(re.findall(r"\d+\.\d+\.\d+\.\d+(?:/\d+)?|[0-9a-f]+:[0-9a-f:]+::/\d+", text))
    expected = {f"{LAN}.{last}" for last in ("1", "2", "0/24")} | {f"{PODS}.{node}.0" for node in (1, 2)}
    assert found == expected | {f"{LAN6}::/64"}


# What a JSON document and a text on a page is, in their order.
DOCUMENTS: dict[str, tuple[Callable[[str], None], ...]] = {
    "docs/boot.md": (check_identity, check_known_pets),
    "lab/README.md": (check_picture,),
}


@pytest.mark.parametrize("name", ALL_PAGES)
def test_each_document_is_as_the_programs_write_it(name: str) -> None:
    found = all_blocks(Kind.JSON, Kind.TEXT, pages=(name,))
    for block, look in zip(found, DOCUMENTS.get(name, ()), strict=True):
        look(block.text)


# --- pages ---


@pytest.mark.parametrize("name", STORIES)
def test_what_is_said_to_show_a_story_is_there(name: str) -> None:
    page = read_page(name)
    assert page.shown_by
    assert [path for path in page.shown_by if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", ALL_PAGES)
def test_links_lead_to_a_page_and_a_heading(name: str) -> None:
    folder = (ROOT / name).parent
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", (ROOT / name).read_text()):
        place = (folder / target).resolve() if target else ROOT / name
        text = place.read_text()
        headings = {
            re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert not anchor or anchor in headings, f"{target}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, left = set(), ["README.md"]
    while left:
        if (name := left.pop()) not in seen:
            seen.add(name)
            targets = re.findall(r"\]\((?!https?:)([^)#]+\.md)", (ROOT / name).read_text())
            left += [str(((ROOT / name).parent / target).resolve().relative_to(ROOT)) for target in targets]
    assert set(ALL_PAGES) <= seen


@pytest.mark.parametrize("name", ALL_PAGES)
def test_files_of_the_collection_that_a_page_names_are_there(name: str) -> None:
    """Also the part of a path before a ``<word>`` or a star."""
    text = (ROOT / name).read_text()
    for path in re.findall(r"`((?:roles|playbooks|plugins|tests|molecule|docs|lab|tools|bench)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_readme_shows_the_first_run_as_its_page_does() -> None:
    readme, story = read_page("README.md"), read_page("docs/stories/first_run.md")
    assert readme.files == story.files
    assert set(readme.commands) < set(story.commands)


def test_the_readme_names_every_role_and_every_module_that_is_for_users() -> None:
    text = (ROOT / "README.md").read_text()
    table = re.findall(r"^\| \[(\w+)\]\(docs/roles/(\w+)\.md\) \| (.*?) \|", text, re.MULTILINE)
    assert {role for role, _page, _modules in table} == set(OPTIONS)
    assert all(role == page for role, page, _modules in table)
    assert sorted(module for _role, _page, modules in table for module in re.findall(r"`(\w+)`", modules)) == MODULES


# What a page says in the place of a default that is made of other variables.
SAID = {
    "nfs_exports_name": "<namespace>-<set>",
    "nfs_exports_options": "[rw, sync, no_subtree_check, all_squash, anonuid=999, anongid=999]",
}


@pytest.mark.parametrize("name", ROLES)
def test_a_page_has_every_variable_of_its_role_with_its_default(name: str) -> None:
    role = name.split("/")[-1].removesuffix(".md")
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    rows = re.findall(rf"^\| (`{role}_.*?) \| (.*?) \|", (ROOT / name).read_text(), re.MULTILINE)
    told = set()
    for names, said in rows:
        # Of several in one row those after the first are without the role's name.
        for short in re.findall(r"`(\w+)`", names):
            variable = short if short.startswith(f"{role}_") else role + short
            told.add(variable)
            if said == "not set":
                assert defaults.get(variable, "") == "", variable
            elif variable in SAID:
                assert said == f"`{SAID[variable]}`"
            else:
                text = said.strip("`")
                # A pattern is no mapping, though YAML would read one.
                value = text if re.match(r"\{\w", text) else yaml.safe_load(text)
                assert value == defaults[variable], variable
    assert told == set(OPTIONS[role])


def test_the_pages_that_are_run_are_all_that_have_a_command_for_users() -> None:
    assert {"README.md", *STORIES, "docs/roles/petset.md"} <= set(PAGES)


# --- the examples of modules ---

SAMPLES: dict[str, Any] = {"dict": {}, "list": [], "int": 1, "float": 1.0, "bool": True}


def without_templates(given: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with a value of the right type in the place of each template."""
    found = {}
    for name, value in given.items():
        option = spec.get(name, {})
        if isinstance(value, dict):
            found[name] = without_templates(value, option.get("options") or {})
        elif isinstance(value, str) and "{{" in value:
            found[name] = SAMPLES.get(option.get("type", "str"), "text")
        else:
            found[name] = value
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_takes_its_examples(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in documentation(module)["EXAMPLES"]:
        for action, given in task.items():
            if action.startswith("stateful.petset."):
                name = action.removeprefix("stateful.petset.")
                with monkeypatch.context() as patch:
                    spec = spec_of(name, patch)["argument_spec"]
                assert wrong_options(name, without_templates(given or {}, spec), monkeypatch) == [], task["name"]


@pytest.mark.parametrize("module", MODULES)
def test_examples_use_results_that_are_documented(module: str) -> None:
    """``mysql.table`` after ``register: mysql`` is a key of the module's RETURN."""
    for task in (tasks := documentation(module)["EXAMPLES"]):
        if "register" in task:
            (action,) = [key for key in task if key.startswith("stateful.petset.")]
            returned = documentation(action.removeprefix("stateful.petset."))["RETURN"]
            assert set(re.findall(rf"\b{task['register']}\.(\w+)", json.dumps(tasks))) <= set(returned)


def test_no_other_plugin_has_examples_that_nobody_looks_at() -> None:
    found = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        names = [node.targets[0] for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
        if any(isinstance(name, ast.Name) and name.id == "EXAMPLES" for name in names):
            found.add(path.relative_to(ROOT / "plugins"))
    assert {str(path) for path in found} == {f"modules/{name}.py" for name in MODULES}


@pytest.mark.parametrize(
    ("module", "given", "words"),
    [
        ("pet_volume", {"set": "mysql", "capcity": "1Gi"}, "capcity"),
        ("pet_proxy", {"set": "mysql", "client_service": {"node_prt": 1}}, "node_prt"),
        ("mysql_ring", {"set": "mysql", "mode": "both"}, "both"),
        ("pet_set_info", {}, "set"),
    ],
)
def test_arguments_that_a_module_does_not_take_are_found(
    module: str, given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert words in " ".join(wrong_options(module, given, monkeypatch))
