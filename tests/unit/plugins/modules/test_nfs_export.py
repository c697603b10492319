# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from ansible_collections.stateful.petset.plugins.module_utils._core.errors import PetsetError, Refused
from ansible_collections.stateful.petset.plugins.module_utils._core.exports import encode, parse_exports, render_path
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_desired import render_drop_in
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_options import render_table_options
from ansible_collections.stateful.petset.plugins.module_utils._core.exports_table import Facts, build_table
from ansible_collections.stateful.petset.plugins.module_utils._io.nfs import NfsServer
from ansible_collections.stateful.petset.plugins.modules import nfs_export, nfs_export_info

OWN = "/etc/exports.d/mysql.exports"
HEAD = render_drop_in("mysql", ()).decode()
ETAB = "var/lib/nfs/etab"


class Ended(Exception):
    """exit_json or fail_json was called."""

    def __init__(self, failed: bool, result: dict[str, Any]) -> None:
        self.failed = failed
        self.result = result
        super().__init__(str(result))


class Double:
    """What the modules use of AnsibleModule."""

    def __init__(self, params: dict[str, Any], check_mode: bool = False) -> None:
        self.params = params
        self.check_mode = check_mode
        self.warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        raise Ended(True, {"msg": msg, **kwargs})

    def exit_json(self, **kwargs: Any) -> NoReturn:
        raise Ended(False, kwargs)

    def get_bin_path(self, _arg: str, *, opt_dirs: Any) -> str | None:
        return None

    def run_command(self, _args: Any, **_kwargs: Any) -> tuple[int, str, str]:
        raise AssertionError("nothing may be run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("etc/exports.d", "srv/a", "var/lib/nfs", "proc/fs/nfsd"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/fs/nfsd/threads").write_text("8\n")
    return tmp_path


def server(root: Path, exportfs: str | None = "/usr/sbin/exportfs") -> NfsServer:
    def run(_argv: Any) -> tuple[int, str, str]:
        files = [parse_exports(file.raw or b"", file.name) for file in io.observe_files()]
        lines = [
            f"{render_path(row.path)}\t{row.client}({','.join(render_table_options(row.entry.options))})\n"
            for row in build_table(files, Facts()).rows
        ]
        (root / ETAB).write_bytes(encode("".join(lines)))
        return 0, "", ""

    io = NfsServer(run, exportfs, str(root))
    return io


def defaults(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What AnsibleModule makes of the options."""
    params: dict[str, Any] = {}
    for name, entry in spec.items():
        value = given.get(name, entry.get("default"))
        if value is not None and "options" in entry:
            value = [defaults(entry["options"], one) for one in value]
        params[name] = value
    return params


def call(root: Path, check_mode: bool = False, io: NfsServer | None = None, **given: Any) -> tuple[Ended, list[str]]:
    module = Double(defaults(nfs_export.ARGUMENT_SPEC, given), check_mode)
    with pytest.raises(Ended) as ended:
        nfs_export.run(module, io or server(root))
    return ended.value, module.warnings


EXPORT = {"path": "/srv/a", "clients": [{"client": "192.0.2.0/24"}], "options": ["rw"], "fsid": "7"}


def test_apply_and_again(root: Path) -> None:
    ended, _warnings = call(root, name="mysql", exports=[EXPORT])
    assert not ended.failed
    result = ended.result
    assert result["changed"]
    assert result["file"] == OWN
    assert result["exportfs"] == {"rc": 0, "stderr": ""}
    (row,) = result["exports"]
    assert (row["path"], row["client"], row["fsid"]) == ("/srv/a", "192.0.2.0/24", "7")
    assert "rw" in row["options"]
    again, _warnings = call(root, name="mysql", exports=[EXPORT])
    assert not again.result["changed"]
    assert again.result["plan"] == []
    assert again.result["diff"] == []
    assert "exportfs" not in again.result
    assert again.result["exports"] == result["exports"]


def test_check_mode_tells_the_truth_and_changes_nothing(root: Path) -> None:
    planned, _warnings = call(root, check_mode=True, name="mysql", exports=[EXPORT])
    assert not (root / OWN[1:]).exists()
    real, _warnings = call(root, name="mysql", exports=[EXPORT])
    for key in ("plan", "diff", "exports", "changed"):
        assert planned.result[key] == real.result[key]


def test_check_mode_without_packages(root: Path) -> None:
    ended, warnings = call(root, check_mode=True, io=server(root, None), name="mysql", exports=[EXPORT])
    assert ended.result["changed"]
    assert "exportfs is not installed yet" in warnings


def test_withdrawing_on_a_machine_without_packages(root: Path) -> None:
    (root / "proc/fs/nfsd/threads").unlink()
    never, warnings = call(root, io=server(root, None), name="mysql", state="absent")
    assert (never.failed, never.result["changed"], warnings) == (False, False, [])
    (root / OWN[1:]).write_text(HEAD + "/srv/a 192.0.2.0/24(rw)\n")
    told, _warnings = call(root, check_mode=True, io=server(root, None), name="mysql", state="absent")
    done, _warnings = call(root, io=server(root, None), name="mysql", state="absent")
    assert told.result["plan"] == done.result["plan"] == [f"remove {OWN}; the exported data stay"]
    assert not (root / OWN[1:]).exists()
    again, _warnings = call(root, io=server(root, None), name="mysql", state="absent")
    assert not again.result["changed"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("given", [{"exports": [EXPORT]}, {"state": "absent"}])
def test_a_drop_in_of_others_is_left_alone_until_it_is_handed_over(
    root: Path, check_mode: bool, given: dict[str, Any]
) -> None:
    theirs = "/srv/z 192.0.2.0/24(ro)\n"
    (root / OWN[1:]).write_text(theirs)
    with pytest.raises(Refused, match="nfs_exports_adopt") as problem:
        nfs_export.run(Double(defaults(nfs_export.ARGUMENT_SPEC, {"name": "mysql", **given}), check_mode), server(root))
    assert OWN in str(problem.value)
    assert (root / OWN[1:]).read_text() == theirs
    assert not (root / ETAB).exists()
    ended, _warnings = call(root, check_mode, name="mysql", adopt=True, **given)
    assert ended.result["changed"]
    if check_mode:
        assert (root / OWN[1:]).read_text() == theirs
    elif "exports" in given:
        assert (root / OWN[1:]).read_text().startswith(HEAD)
        assert not call(root, name="mysql", **given)[0].result["changed"]
    else:
        assert not (root / OWN[1:]).exists()


@pytest.mark.parametrize("check_mode", [True, False])
def test_rp_nfs_03_foreign_errors(root: Path, check_mode: bool) -> None:
    (root / "etc/exports").write_text("/srv/z 192.0.2.1(ro, rw)\n")
    ended, _warnings = call(root, check_mode=check_mode, name="mysql", exports=[EXPORT])
    assert ended.failed
    assert "/etc/exports:1:" in ended.result["msg"]
    assert ended.result["changed"]
    assert (root / OWN[1:]).exists() != check_mode
    ended, warnings = call(root, check_mode=check_mode, name="mysql", exports=[EXPORT], foreign_errors="warn")
    assert not ended.failed
    assert any("/etc/exports:1:" in text for text in warnings)


def test_warnings_reach_the_user(root: Path) -> None:
    _ended, warnings = call(root, name="mysql", exports=[{**EXPORT, "clients": [{"client": "*"}]}])
    assert any("whole world" in text for text in warnings)


def test_errors_become_messages(root: Path) -> None:
    with pytest.raises(PetsetError, match="absolute"):
        nfs_export.run(
            Double(defaults(nfs_export.ARGUMENT_SPEC, {"name": "mysql", "exports": [{**EXPORT, "path": "srv"}]})),
            server(root),
        )


def info(root: Path, name: str | None = None) -> dict[str, Any]:
    with pytest.raises(Ended) as ended:
        nfs_export_info.run(Double({"name": name}, True), server(root))
    assert not ended.value.failed
    return ended.value.result


def test_info(root: Path) -> None:
    call(root, name="mysql", exports=[EXPORT])
    (root / "etc/exports").write_text("/srv/z *(rw)\n")
    (root / "etc/exports.d/old.conf").write_text("")
    nfsd = root / "proc/fs/nfsd"
    (nfsd / "versions").write_text("+3 +4 -4.0 +4.1\n")
    (nfsd / "nfsv4leasetime").write_text("90\n")
    (nfsd / "exports").write_text("/srv/a\t192.0.2.0/24(rw)\n")
    result = info(root)
    assert not result["changed"]
    assert [(row["path"], row["file"], row["line"], row["in_table"], row["used"]) for row in result["exports"]] == [
        ("/srv/a", OWN, 3, True, True),
        ("/srv/z", "/etc/exports", 1, False, False),
    ]
    codes = {problem["code"] for problem in result["problems"]}
    assert {"world", "v3_served", "missing_path"} <= codes
    assert result["skipped_files"] == ["/etc/exports.d/old.conf"]
    assert result["differences"] == ["/srv/z for * is not in the export table"]
    assert result["server"]["lease_s"] == 90
    assert result["server"]["running"]
    assert [row["path"] for row in info(root, "mysql")["exports"]] == ["/srv/a"]


CLIENT = """clientid: 0x1
address: "192.0.2.11:890"
status: confirmed
seconds from last renew: 12
name: "Linux NFSv4.2 node-1"
minor version: 2
"""


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("problem", ["", "/srv/z 192.0.2.1(ro, rw)\n"])
def test_the_server_is_described_as_by_info(root: Path, check_mode: bool, problem: str) -> None:
    (root / "etc/exports").write_text(problem)
    (root / "proc/fs/nfsd/clients/1").mkdir(parents=True)
    (root / "proc/fs/nfsd/clients/1/info").write_text(CLIENT)
    (root / "proc/fs/nfsd/versions").write_text("-3 +4 -4.0 +4.1\n")
    ended, _warnings = call(root, check_mode, name="mysql", exports=[EXPORT], describe_server=True)
    # What others broke is a failure after the work, and the server is told of all the same.
    assert ended.failed is bool(problem)
    looked = info(root)
    for key in ("server", "clients"):
        assert ended.result[key] == looked[key]
    assert ended.result["server"]["versions"] == {"3": False, "4": True, "4.0": False, "4.1": True}
    assert [client["name"] for client in ended.result["clients"]] == ["Linux NFSv4.2 node-1"]


def test_the_server_is_not_described_unasked(root: Path) -> None:
    ended, _warnings = call(root, name="mysql", exports=[EXPORT])
    assert not {"server", "clients"} & set(ended.result)


def test_a_machine_without_packages_is_described(root: Path) -> None:
    (root / "proc/fs/nfsd/threads").unlink()
    io = server(root, None)
    ended, _warnings = call(root, True, io, name="mysql", exports=[EXPORT], describe_server=True)
    found = ended.result["server"]
    assert (found["package_version"], found["running"], found["settings"]) == ("", False, None)
    assert ended.result["clients"] == []


def test_info_tells_of_exports_that_no_file_gives(root: Path) -> None:
    (root / ETAB).write_text("/srv/q\t*(ro)\n")
    assert info(root)["differences"] == ["/srv/q for * is still in the export table"]


@pytest.mark.parametrize("module", [nfs_export, nfs_export_info])
def test_documentation_is_the_spec(module: Any) -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    spec = module.ARGUMENT_SPEC

    def same(options: dict[str, Any], entries: dict[str, Any]) -> None:
        assert set(options) == set(entries)
        for name, entry in entries.items():
            said = options[name]
            for key in ("type", "elements", "choices", "default", "required"):
                assert said.get(key) == entry.get(key), f"{name}.{key}"
            same(said.get("suboptions", {}), entry.get("options", {}))

    same(documented, spec)
