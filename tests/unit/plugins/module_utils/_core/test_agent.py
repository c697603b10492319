# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's zip and its place in the pods."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core import manifests
from ansible_collections.stateful.petset.plugins.module_utils._core.agent import (
    hash_agent,
    parse_agent_files,
    render_zip,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import InvalidInput
from ansible_collections.stateful.petset.plugins.module_utils._core.manifests import Agent
from ansible_collections.stateful.petset.plugins.module_utils._io.agent import read_pymysql
from ansible_collections.stateful.petset.tests.unit.fakes.pets import AGENT_FILES, SPEC

AGENT = Agent("python:3.13-slim", AGENT_FILES, "emlw", {"limits": {"memory": "128Mi"}})
WITH = replace(SPEC, agent=AGENT)


def rendered(kind: str, name: str, spec: Any = WITH) -> dict[str, Any]:
    return next(
        one for one in manifests.render_objects(spec) if one["kind"] == kind and one["metadata"]["name"] == name
    )


def template(spec: Any = WITH) -> dict[str, Any]:
    found: dict[str, Any] = rendered("StatefulSet", "mysql", spec)["spec"]["template"]
    return found


def test_the_zip_depends_on_its_content_only() -> None:
    first = render_zip(AGENT_FILES, {"pymysql/__init__.py": b"1"})
    assert first == render_zip(dict(reversed(AGENT_FILES.items())), {"pymysql/__init__.py": b"1"})
    assert first != render_zip(AGENT_FILES, {"pymysql/__init__.py": b"2"})
    assert zipfile.ZipFile(io.BytesIO(first)).testzip() is None


def test_the_zip_runs_with_nothing_but_python(tmp_path: Path) -> None:
    text = "import pymysql.cursors\n\n\ndef main():\n    print(pymysql.__file__)\n"
    library = read_pymysql()
    assert library is not None
    path = tmp_path / "agent.zip"
    path.write_bytes(render_zip({**AGENT_FILES, "petset_agent/__main__.py": text}, library))
    done = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(path)), done.stderr


def test_the_hash_is_of_the_sources() -> None:
    assert hash_agent(AGENT_FILES) == hash_agent(dict(reversed(AGENT_FILES.items())))
    assert hash_agent({**AGENT_FILES, "petset_agent/decide.py": "other"}) != hash_agent(AGENT_FILES)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "it is missing"),
        ({}, "it is missing"),
        ({"petset_agent/__init__.py": ""}, "files are missing"),
        ({**AGENT_FILES, "other/x.py": ""}, "not a file of the agent"),
        ({**AGENT_FILES, "petset_agent/x.py": 5}, "not a file of the agent"),
    ],
)
def test_files_that_are_refused(files: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_agent_files(files)


def test_a_zip_too_large_for_a_config_map_is_refused() -> None:
    noise = random.Random(1).randbytes(800_000)
    with pytest.raises(InvalidInput, match="too many bytes"):
        render_zip(AGENT_FILES, {"pymysql/noise.py": noise})


def test_without_an_agent_nothing_of_it_is_there() -> None:
    kinds = [(one["kind"], one["metadata"]["name"]) for one in manifests.render_objects(SPEC)]
    assert ("ConfigMap", "mysql-agent") not in kinds
    assert rendered("Role", "mysql", SPEC)["rules"] == []
    assert [one["name"] for one in template(SPEC)["spec"]["initContainers"]] == ["prepare"]


def test_the_sidecar_starts_after_the_check_and_ends_after_mysqld() -> None:
    prepare, agent = template()["spec"]["initContainers"]
    assert (prepare["name"], agent["name"], agent["restartPolicy"]) == ("prepare", "agent", "Always")
    assert agent["command"] == ["python3", "/petset/agent/agent.zip"]
    assert agent["image"] == "python:3.13-slim"
    assert agent["ports"] == [{"name": "agent", "containerPort": 8008, "protocol": "TCP"}]
    assert agent["resources"] == {"limits": {"memory": "128Mi"}}
    assert {one["name"] for one in agent["env"]} == {
        "PETSET_SET", "PETSET_SERVICE", "PETSET_MASTERS", "PETSET_NAMESPACE", "PETSET_POD",
    }  # fmt: skip


def test_the_sidecar_complies_with_pod_security_restricted() -> None:
    pod = template()["spec"]
    security = pod["initContainers"][1]["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert {key for volume in pod["volumes"] for key in volume} - {"name"} <= allowed


def test_the_token_and_one_password_are_the_agents_alone() -> None:
    pod = template()["spec"]
    assert pod["automountServiceAccountToken"] is False
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert "serviceAccountToken" in volumes["api"]["projected"]["sources"][0]
    assert [one["key"] for one in volumes["agent-secret"]["secret"]["items"]] == ["agent-password"]
    mounts = {
        one["name"]: {mount["name"] for mount in one["volumeMounts"]}
        for one in [*pod["initContainers"], *pod["containers"]]
    }
    assert "api" not in mounts["prepare"] | mounts["mysqld"]
    assert mounts["agent"] == {"agent", "agent-secret", "api", "run", "db"}
    writable = [mount["name"] for mount in pod["initContainers"][1]["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["db"], "to cut off what a killed writer told nobody"
    assert mounts["agent"] - {"db"} <= set(volumes)


def test_mysqld_is_told_where_its_agent_is() -> None:
    def port(spec: manifests.PetSetSpec) -> list[str]:
        return [
            one["value"] for one in template(spec)["spec"]["containers"][0]["env"] if one["name"] == "PETSET_AGENT_PORT"
        ]

    assert port(WITH) == ["8008"]
    assert port(SPEC) == []


def test_the_role_is_for_the_sets_own_lease() -> None:
    assert rendered("Role", "mysql")["rules"] == [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["mysql"],
            "verbs": ["get", "update", "patch"],
        }
    ]


def test_agents_find_each_other_by_the_governing_service() -> None:
    ports = rendered("Service", "db")["spec"]["ports"]
    assert [(one["name"], one["port"]) for one in ports] == [("db", 3306), ("agent", 8008)]


def test_sources_roll_the_pets_and_the_library_does_not() -> None:
    other = replace(SPEC, agent=replace(AGENT, zip_b64="b3RoZXI="))
    assert template(other) == template()
    changed = replace(SPEC, agent=replace(AGENT, files={**AGENT_FILES, "petset_agent/decide.py": "x"}))
    assert template(changed) != template()
