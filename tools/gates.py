# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates: everything that must hold before a change goes in, apart from tests.

Usage: python -m tools.gates [--list] [--except NAME...] [NAME...]

They look at the files of the working tree that git knows or would add. Copies of them in the layout that Ansible
wants lie under ``build/``. Two gates run at a time.
"""

from __future__ import annotations

import argparse
import ast
import fnmatch
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from ansible_test._internal.host_configs import NativePythonConfig
from ansible_test._internal.python_requirements import get_venv_packages

from tools.common import (
    BUILD,
    COLLECTION,
    ROOT,
    Failed,
    Skipped,
    attempt,
    cache_root,
    environment,
    files_of_tree,
    need,
    render_table,
    run,
    say,
)

# What may stand at the top of the built collection. A new name has to be added here on purpose.
SHIPPED = {
    *("CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md"),
    *("changelogs", "docs", "meta", "playbooks", "plugins", "roles"),
}
# The tests that look at plugins alone, with what they share.
UNIT_TESTS = (
    *("galaxy.yml", "tests/config.yml", "tests/conftest.py", "tests/unit/conftest.py", "tests/unit/requirements.txt"),
    *("tests/unit/plugins/*", "tests/unit/cases/*", "tests/unit/fakes/*"),
)
# What `ansible-test sanity` looks at beside what is shipped.
SANITY_TESTS = (*UNIT_TESTS, "tests/sanity/*")
# A change of these needs a changelog fragment.
NEEDS_FRAGMENT = ("plugins/*", "roles/*", "playbooks/*")


@cache
def build_ignore(galaxy: Path) -> list[str]:
    """galaxy.yml's patterns of what is not shipped."""
    patterns: list[str] = yaml.safe_load(galaxy.read_text())["build_ignore"]
    return patterns


def is_shipped(name: str) -> bool:
    """Whether ansible-galaxy would put this file into the tarball: a pattern on it or a folder above keeps it out."""
    parts = Path(name).parts
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return not any(fnmatch.fnmatch(path, pattern) for path in above for pattern in build_ignore(ROOT / "galaxy.yml"))


def copy_tree(target: Path, names: list[str]) -> Path:
    """Make ``target`` hold these files of the checkout and no others; ansible-test's own output stays.

    Files that are the same are left alone, so that caches keyed by time stay good.
    """
    wanted = set(names)
    for old in sorted(target.rglob("*"), reverse=True):
        name = str(old.relative_to(target))
        if name.startswith((".git/", "tests/output/")) or name in (".git", "tests/output", "tests"):
            continue
        if old.is_dir() and not old.is_symlink():
            if not any(old.iterdir()):
                old.rmdir()
        elif name not in wanted:
            old.unlink()
    for name in names:
        source, copy = ROOT / name, target / name
        if not (copy.exists() and copy.stat().st_mtime_ns == source.stat().st_mtime_ns):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return target


def python_files(*folders: str) -> list[str]:
    """The Python files under these folders."""
    return [name for name in files_of_tree() if name.endswith(".py") and name.startswith(folders)]


def gate_ruff() -> str:
    """ruff check over all Python."""
    run(["ruff", "check", "--quiet", "--output-format=concise", "."])
    return ""


def gate_mypy() -> str:
    """mypy --strict over lab, tools, the benchmark, the fault harness, plugins and the agent."""
    plain = python_files("bench/", "lab/", "tools/", "tests/robustness/")
    run(["mypy", *plain])
    count = len(plain)
    # The collection's own imports need its full name, so this half is checked where it has it.
    tree = copy_tree(BUILD / "mypy" / COLLECTION, [n for n in python_files("plugins/", "roles/") if is_shipped(n)])
    names = [n for n in python_files("plugins/") if is_shipped(n)]
    if names:
        try:
            run(
                ["mypy", f"--config-file={ROOT / 'pyproject.toml'}", *[COLLECTION / name for name in names]],
                cwd=BUILD / "mypy",
                env=environment(MYPYPATH=str(BUILD / "mypy")),
            )
        except Failed as failure:
            raise Failed(str(failure).replace(f"{COLLECTION}/", "")) from None
        count += len(names)
    for folder in sorted({str(Path(n).parent) for n in python_files("roles/") if "/files/" in n}):
        inside = [n for n in python_files(f"{folder}/") if str(Path(n).parent) == folder]
        if f"{folder}/__init__.py" in inside:
            words, where = ["-p", Path(folder).name], tree / Path(folder).parent
        else:
            words, where = [Path(n).name for n in inside], tree / folder
        run(["mypy", f"--config-file={ROOT / 'pyproject.toml'}", *words], cwd=where)
        count += len(inside)
    return f"{count} files"


def gate_shellcheck() -> str:
    """shellcheck over all shell scripts."""
    need("shellcheck")
    names = [name for name in files_of_tree() if is_shell(ROOT / name)]
    run(["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", "--severity=warning", "-e", "SC1090", *names])
    return f"{len(names)} files"


def is_shell(path: Path) -> bool:
    """Whether the first line asks for sh or bash."""
    with path.open("rb") as file:
        return re.match(rb"#!\s*\S*[/ ](?:ba|da)?sh\b", file.readline(200)) is not None


def gate_yamllint() -> str:
    """yamllint over all YAML."""
    names = [name for name in files_of_tree() if name.endswith((".yml", ".yaml"))]
    run(["yamllint", "--strict", "--format=parsable", *names])
    return f"{len(names)} files"


def gate_ansible_lint() -> str:
    """ansible-lint, profile production."""
    tree = copy_tree(BUILD / "lint" / COLLECTION, files_of_tree())
    git_add(tree)
    run(
        ["ansible-lint", "--nocolor", "-q"],
        cwd=tree,
        env=environment(ANSIBLE_COLLECTIONS_PATH=str(BUILD / "lint"), ANSIBLE_HOME=str(BUILD / "ansible-home")),
    )
    return ""


def git_add(tree: Path) -> None:
    """Make a copy a git checkout: ansible-test and ansible-lint ask git for the files."""
    if not (tree / ".git").exists():
        run(["git", "init", "--quiet", "."], cwd=tree)
    run(["git", "add", "--all", "--force", "--", ".", ":!tests/output"], cwd=tree)


def gate_sanity() -> str:
    """ansible-test sanity in its own environments."""
    names = [
        name
        for name in files_of_tree()
        if is_shipped(name) or any(fnmatch.fnmatch(name, pattern) for pattern in SANITY_TESTS)
    ]
    tree = copy_tree(BUILD / "sanity" / COLLECTION, names)
    git_add(tree)
    ansible_test(tree, "sanity")
    return f"{len(names)} files"


def gate_units() -> str:
    """ansible-test units: the tests of plugins also pass under Ansible's own loader, without the checkout."""
    wanted = [name for name in files_of_tree() if any(fnmatch.fnmatch(name, pattern) for pattern in UNIT_TESTS)]
    if not any(Path(name).name.startswith("test_") for name in wanted):
        raise Skipped("tests/unit/plugins has no tests yet")
    tree = copy_tree(BUILD / "units" / COLLECTION, sorted({*wanted, *filter(is_shipped, files_of_tree())}))
    git_add(tree)
    printed = ansible_test(tree, "units")
    return ", ".join(re.findall(r"=+ (\d.*? passed.*?) in .*=+", printed))


# Stands where ansible-test wants its download of get-pip.py: the interpreter has a pip of its own, that serves.
GET_PIP = """\
import subprocess
import sys

sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip"], stdout=subprocess.DEVNULL))
"""


def ansible_test(tree: Path, command: str) -> str:
    """Run an ansible-test command under ``--venv`` in a copy of the collection, its home in the cache."""
    version = "{}.{}".format(*sys.version_info)
    pip = get_venv_packages(NativePythonConfig(version=version, path=sys.executable))["pip"]
    home = cache_root() / "ansible-test"
    script = home / ".ansible" / "test" / "cache" / f"get_pip_{pip.replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(GET_PIP)
    # ansible-test keeps pip's variables from its children, so a mirror or a certificate would be lost on the way.
    settings = home / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    settings.write_text(render_pip_conf(run([sys.executable, "-m", "pip", "config", "list"])))
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    env = environment(HOME=str(home), XDG_CACHE_HOME=caches)
    env.pop("XDG_CONFIG_HOME", None)
    return run(["ansible-test", command, "--venv", "--python", version, "--color", "no"], cwd=tree, env=env)


def render_pip_conf(listed: str) -> str:
    """A pip.conf with the settings that ``pip config list`` printed, and quiet.

    ``listed`` has lines like ``global.cert='/x'`` from files and ``:env:.cert='/x'`` from the environment, which wins.
    Values are Python literals.
    """
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        if found := re.fullmatch(r"(?:global|install|:env:)\.([\w-]+)=(.*)", line):
            settings[found[1]] = str(ast.literal_eval(found[2])).replace("\n", "\n    ")
    settings["quiet"] = "1"
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))


def gate_docs() -> str:
    """antsibull-docs over the collection's documentation."""
    tree = copy_tree(BUILD / "docs" / COLLECTION, [n for n in files_of_tree() if is_shipped(n) or n == "galaxy.yml"])
    run(
        [
            *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "dependent"),
            *("--disallow-unknown-collection-refs", "--check-extra-docs-refs", "."),
        ],
        cwd=tree,
        env=environment(ANSIBLE_COLLECTIONS_PATH=str(BUILD / "docs")),
    )
    return ""


def gate_changelog() -> str:
    """antsibull-changelog lint; a change of what is shipped comes with a fragment."""
    run(["antsibull-changelog", "lint"])
    base = changelog_base()
    changed = run(["git", "diff", "--name-only", "--no-renames", base, "HEAD"]).splitlines()
    shipped = [name for name in changed if any(fnmatch.fnmatch(name, pattern) for pattern in NEEDS_FRAGMENT)]
    fragments = [name for name in changed if fnmatch.fnmatch(name, "changelogs/fragments/*")]
    if shipped and not fragments:
        raise Failed(
            f"{len(shipped)} shipped files changed since {base[:12]}, {shipped[0]} the first, and no fragment came "
            "with them: add changelogs/fragments/<slug>.yml (section `trivial` when users see nothing of it)"
        )
    return f"since {base[:12]}"


def changelog_base() -> str:
    """Where the range starts: ``$PETSET_BASE``, else where this branch left origin's, else the last tag, else nothing.

    On the branch itself there is nothing between it and origin's, so the last release counts.
    """
    if own := os.environ.get("PETSET_BASE"):
        return own
    head = run(["git", "rev-parse", "HEAD"]).strip()
    for question in (["merge-base", "HEAD", "origin/HEAD"], ["describe", "--tags", "--abbrev=0"]):
        try:
            answer = run(["git", *question]).strip()
        except Failed:
            continue
        if answer != head:
            return answer
    return run(["git", "hash-object", "-t", "tree", "/dev/null"]).strip()


def gate_build() -> str:
    """Build and install the tarball; only what belongs into it is in it, and every module's page can be read."""
    tree = copy_tree(BUILD / "export" / COLLECTION, files_of_tree())
    dist, installed = BUILD / "dist", BUILD / "installed"
    for folder in (dist, installed):
        shutil.rmtree(folder, ignore_errors=True)
    run(["ansible-galaxy", "collection", "build", "--output-path", dist, tree])
    (tarball,) = dist.glob("*.tar.gz")
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    strange = ", ".join(sorted({Path(name).parts[0] for name in names} - SHIPPED))
    if strange:
        raise Failed(f"{tarball.name} holds {strange}: add it to build_ignore in galaxy.yml, or to SHIPPED here")
    lost = [n for n in files_of_tree() if n.startswith(("plugins/", "roles/", "playbooks/")) and n not in names]
    if lost:
        raise Failed(f"{tarball.name} lacks {', '.join(lost)}")
    env = environment(ANSIBLE_COLLECTIONS_PATH=str(installed), ANSIBLE_HOME=str(BUILD / "ansible-home"))
    run(["ansible-galaxy", "collection", "install", "--offline", "-p", installed, tarball], env=env)
    modules = sorted(path.stem for path in (installed / COLLECTION / "plugins" / "modules").glob("[!_]*.py"))
    if modules:
        wanted = [f"stateful.petset.{name}" for name in modules]
        pages = json.loads(run(["ansible-doc", "--type", "module", "--json", *wanted], env=env))
        if unread := [name for name in wanted if not pages.get(name, {}).get("doc")]:
            raise Failed(f"ansible-doc has no page for {', '.join(unread)}")
    return f"{len(names)} names, {len(modules)} modules"


@dataclass(frozen=True, slots=True)
class Gate:
    """A named check: ``work`` returns a short note or raises Failed."""

    name: str
    work: Callable[[], str]


# The long ones first, as two run at a time.
GATES = (
    Gate("sanity", gate_sanity),
    Gate("units", gate_units),
    Gate("ansible-lint", gate_ansible_lint),
    Gate("mypy", gate_mypy),
    Gate("docs", gate_docs),
    Gate("build", gate_build),
    Gate("ruff", gate_ruff),
    Gate("yamllint", gate_yamllint),
    Gate("shellcheck", gate_shellcheck),
    Gate("changelog", gate_changelog),
)


def main(argv: list[str]) -> int:
    """Run the named gates, or all; the exit status says whether all are green."""
    parser = argparse.ArgumentParser(prog="python -m tools.gates", description="Run the gates.")
    parser.add_argument("--list", action="store_true", help="print the gates and what they look at")
    parser.add_argument("--except", nargs="+", default=[], dest="left_out", metavar="NAME", help="gates to leave out")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the gates to run (default: all)")
    args = parser.parse_args(argv)
    if args.list:
        say("\n".join(f"{gate.name:<14}{(gate.work.__doc__ or '').splitlines()[0]}" for gate in GATES))
        return 0
    if unknown := sorted({*args.names, *args.left_out} - {gate.name for gate in GATES}):
        parser.error(f"no gate named {', '.join(unknown)}; there are {', '.join(gate.name for gate in GATES)}")
    chosen = [gate for gate in GATES if gate.name not in args.left_out and (not args.names or gate.name in args.names)]
    outcomes = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for future in as_completed([pool.submit(attempt, gate.name, gate.work) for gate in chosen]):
            outcome, why = future.result()
            outcomes.append(outcome)
            say(f"gate {outcome.name}: {outcome.word} in {outcome.seconds:.1f} s {outcome.note}".rstrip())
            if why:
                say(why)
    say("\n" + render_table("gate", outcomes))
    return 1 if any(outcome.word == "FAIL" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
