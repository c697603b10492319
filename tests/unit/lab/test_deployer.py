# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig with few rights: what is applied, what is written, and what is said when it cannot be made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import cli, deployer, pki, state, up
from lab.config import LabConfig
from lab.log import LabError
from lab.run import CommandError
from lab.state import LabState

KUBECTL = Path("/c/kube/kubectl")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LabState:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path))
    made = LabState(LabConfig("green"), 0)
    state.save(made)
    pki.pki_folder(made.plan).mkdir(parents=True)
    (pki.pki_folder(made.plan) / "ca.crt").write_bytes(b"authority")
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str | None]]:
    """kubectl's words and input; it answers as on a cluster that has the namespace."""
    seen: list[tuple[list[str], str | None]] = []

    def run(argv: Sequence[str], *, input_text: str | None = None, **_rest: Any) -> str:
        seen.append((list(argv), input_text))
        return "a.b.c\n" if "token" in argv else ""

    monkeypatch.setattr(deployer, "run", run)
    return seen


def objects(text: str) -> list[dict[str, Any]]:
    """The manifest's objects, whether it is a list or several documents."""
    documents = list(yaml.safe_load_all(text))
    return [one for document in documents for one in (document["items"] if document["kind"] == "List" else [document])]


def test_the_rights_are_those_of_the_collection_in_the_namespace_that_was_named() -> None:
    made = objects(deployer.render_rights(deployer.RIGHTS.read_text(), "blue"))
    assert {one["kind"] for one in made} >= {"ServiceAccount", "Role", "RoleBinding", "ClusterRole"}
    assert {one["metadata"].get("namespace", "blue") for one in made} == {"blue"}
    accounts = {f"{subject['name']}@{subject['namespace']}" for one in made for subject in one.get("subjects", [])}
    assert accounts == {"petset-deployer@blue"}


@pytest.mark.parametrize("namespace", ["", "-a", "a-", "A", "a.b", "a_b", "a b", "../a", "a" * 64, "a\nb", "a\n"])
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(LabError, match=r"--deployer .*: a namespace's name is"):
        deployer.render_rights(deployer.RIGHTS.read_text(), namespace)


def test_a_manifest_that_has_changed_is_not_applied_to_another_namespace() -> None:
    with pytest.raises(LabError, match="mysql-pets"):
        deployer.render_rights("kind: List\n", "blue")


def test_the_account_is_made_and_its_token_written_for_root_alone(
    lab: LabState, calls: list[tuple[list[str], str | None]]
) -> None:
    path = deployer.write_kubeconfig(lab, "blue", KUBECTL)
    assert path == state.folder("green") / "kubeconfig-blue"
    assert path.stat().st_mode & 0o777 == 0o600
    config = json.loads(path.read_text())
    assert config["users"] == [{"name": "petset-deployer", "user": {"token": "a.b.c"}}]
    assert config["contexts"][0]["context"] == {
        "cluster": "lab-green", "user": "petset-deployer", "namespace": "blue",
    }  # fmt: skip
    assert config["clusters"][0]["cluster"]["server"] == lab.plan.api_url
    (exists, _), (apply, manifest), (token, _) = calls
    for argv in (exists, apply, token):
        assert argv[:6] == [
            "ip", "netns", "exec", lab.plan.namespace("client"), str(KUBECTL),
            f"--kubeconfig={state.folder('green') / 'kubeconfig'}",
        ]  # fmt: skip
    assert "apply" in apply
    assert manifest == deployer.render_rights(deployer.RIGHTS.read_text(), "blue")
    assert token[-4:] == ["create", "token", "petset-deployer", "--duration=24h"]


@pytest.mark.parametrize(
    ("output", "error", "words"),
    [
        ('Error from server (NotFound): namespaces "blue" not found', LabError, "there is no namespace blue"),
        ("Unable to connect to the server", CommandError, "Unable to connect"),
    ],
)
def test_nothing_is_written_without_the_namespace_or_the_api(
    lab: LabState, monkeypatch: pytest.MonkeyPatch, output: str, error: type[LabError], words: str
) -> None:
    def run(argv: Sequence[str], **_rest: Any) -> str:
        raise CommandError(argv, 1, output)

    monkeypatch.setattr(deployer, "run", run)
    with pytest.raises(LabError, match=words) as caught:
        deployer.write_kubeconfig(lab, "blue", KUBECTL)
    assert type(caught.value) is error
    if error is LabError:
        assert caught.value.hint == "python3 -m lab kubectl --name green create namespace blue"
    assert not deployer.kubeconfig_file(lab.plan, "blue").exists()


def test_the_command_prints_the_path_and_no_secret(
    lab: LabState,
    calls: list[tuple[list[str], str | None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["kubeconfig", "--name", "green"]) == 0
    assert capsys.readouterr().out == f"{state.folder('green') / 'kubeconfig'}\n"
    assert calls == []
    monkeypatch.setattr(up, "Artefacts", lambda config: type("Artefacts", (), {"kube": KUBECTL.parent}))
    assert cli.main(["kubeconfig", "--name", "green", "--deployer", "blue"]) == 0
    assert capsys.readouterr().out == f"{state.folder('green') / 'kubeconfig-blue'}\n"
