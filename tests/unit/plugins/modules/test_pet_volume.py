# SPDX-License-Identifier: GPL-3.0-or-later
"""pet_volume as Ansible runs it: a process with its arguments, an API on loopback, a result on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.modules import pet_volume, pet_volume_info
from ansible_collections.stateful.petset.tests.unit.fakes.kube import FakeCluster
from ansible_collections.stateful.petset.tests.unit.fakes.server import TOKEN, serving
from ansible_collections.stateful.petset.tests.unit.fakes.volumes import NFS, PV, PVC

ARGS: dict[str, Any] = {"set": "mysql", "replicas": 2, "capacity": "1Gi", "nfs": NFS}


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster()
    made.auto_bind = True
    return made


@pytest.fixture
def url(cluster: FakeCluster) -> Iterator[str]:
    with serving(cluster) as address:
        yield address


def run(
    module: Any, url: str, *, check: bool = False, diff: bool = False, verbosity: int = 2, **args: Any
) -> dict[str, Any]:
    """The result of a module, run in a process of its own."""
    internal = {
        "check_mode": check,
        "diff": diff,
        "verbosity": verbosity,
        "remote_tmp": "/tmp",
        "keep_remote_files": False,
    }
    given = {"host": url, "api_key": TOKEN, **args, **{f"_ansible_{key}": value for key, value in internal.items()}}
    start = (
        "import sys, json, runpy\n"
        "from ansible.module_utils import basic\n"
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read()\n"
        "basic._ANSIBLE_PROFILE = 'legacy'\n"
        f"runpy.run_module({module.__name__!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "/usr/bin:/bin", "HOME": "/nowhere"},
    )
    try:
        result = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise AssertionError(f"no result: {done.stdout}{done.stderr}") from None
    # From core 2.22 the controller is handed the secrets that it has to mask; they go no further.
    return {key: value for key, value in result.items() if not key.startswith("_ansible")}


def test_twice(cluster: FakeCluster, url: str) -> None:
    first = run(pet_volume, url, diff=True, **ARGS)
    assert first["changed"]
    assert len(first["diff"]) == 4
    assert cluster.live(PVC, "db-mysql-1", "default")["status"]["phase"] == "Bound"  # type: ignore[index]
    second = run(pet_volume, url, **ARGS)
    assert not second["changed"]
    assert second["requests"] == {"list persistentvolumeclaims": 1, "list persistentvolumes": 1}
    assert second["api"] == {"host": url, "source": "option host"}
    assert "requests" not in run(pet_volume, url, verbosity=1, **ARGS)
    found = run(pet_volume_info, url, set="mysql")
    assert [(pet["name"], pet["path"], pet["ready"]) for pet in found["pets"]] == [
        ("mysql-0", "/srv/default/mysql/0", True),
        ("mysql-1", "/srv/default/mysql/1", True),
    ]
    assert found["pets"][0]["mount_options"][0] == "nfsvers=4.1"
    assert found["volumes"] == []
    (needs,) = run(pet_volume_info, url, set="pg", directories=["/srv/default/mysql/1/"])["volumes"]
    assert (needs["name"], needs["claim"], needs["phase"]) == ("default-mysql-1", "default/db-mysql-1", "Bound")
    assert "the path is relative" in run(pet_volume_info, url, set="pg", directories=["srv"])["msg"]


def test_rp_ans_03_the_token_is_nowhere_in_the_output(url: str) -> None:
    assert TOKEN not in str(run(pet_volume, url, verbosity=4, diff=True, **ARGS))
    assert TOKEN not in str(run(pet_volume, url, verbosity=4, **{**ARGS, "capacity": "2Gi"}))


def test_check_mode_writes_nothing(cluster: FakeCluster, url: str) -> None:
    result = run(pet_volume, url, check=True, **ARGS)
    assert result["changed"]
    assert cluster.all(PV) == []


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"capacity": "25GB"}, "invalid_input", "has no B: write G or Gi"),
        ({"replicas": 0}, "invalid_input", "replicas: 0: out of range"),
        ({"set": "my.sql"}, "invalid_input", "dots are not allowed"),
        ({"namespace": "nowhere"}, "namespace_missing", "Namespace nowhere: it is not there"),
        ({"api_key": "wrong"}, "unauthorized", "credentials are not accepted"),
        ({"kubeconfig": "/nowhere/config", "host": ""}, "bad_connection_settings", "'/nowhere/config'"),
    ],
)
def test_failures_have_reason_and_way_out(
    cluster: FakeCluster, url: str, change: dict[str, Any], error: str, text: str
) -> None:
    result = run(pet_volume, url, **{**ARGS, **change})
    assert result["failed"]
    assert result["error"] == error
    assert text in result["msg"]
    assert result["reason"]
    assert result["way_out"]
    assert cluster.all(PV) == []


def test_removal(cluster: FakeCluster, url: str) -> None:
    run(pet_volume, url, **ARGS)
    refused = run(pet_volume, url, set="mysql", ordinals=[1], state="absent")
    assert refused["error"] == "refused"
    result = run(pet_volume, url, set="mysql", ordinals=[1], state="absent", confirm_absent=["mysql-1"])
    assert result["kept"] == ["mysql-1: nfs.example.com:/srv/default/mysql/1"]
    assert "the data stays" in str(result["warnings"])
    assert len(cluster.all(PV)) == 1


@pytest.mark.parametrize("module", [pet_volume, pet_volume_info])
def test_the_documentation_is_complete(module: Any) -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    fragments = Path(module.__file__).parent.parent / "doc_fragments"
    shared: dict[str, Any] = {}
    for name in ("kube", "wait"):
        if f"stateful.petset.{name}\n" in module.DOCUMENTATION:
            text = (fragments / f"{name}.py").read_text().split('r"""')[1].split('"""')[0]
            shared.update(yaml.safe_load(text)["options"])
    spec = module.argument_spec()
    assert set(options) | set(shared) == set(spec)
    for name, entry in options.items():
        assert entry["type"] == spec[name]["type"], name
        assert entry.get("default") == spec[name].get("default"), name
        assert entry.get("choices") == spec[name].get("choices"), name
        assert set(entry.get("suboptions", {})) == set(spec[name].get("options", {})), name
    for task in yaml.safe_load(module.EXAMPLES):
        for key, given in task.items():
            if key.startswith("stateful.petset."):
                assert set(given) <= set(spec), task["name"]
