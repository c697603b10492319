# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents and layers of the images, and the start-up rules of the two that have a script."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab import images
from lab.images import Blob, Image
from lab.log import LabError

LAYERS = (Blob("sha256:aa", 10), Blob("sha256:bb", 20))
FULL = Image(
    "app", "1", ("base", "app"), ("serve", "-x"), entrypoint=("start",), env=("A=b",), user="app", workdir="/w",
    ports=("80",), volumes=("/data",), stop_signal="SIGUSR1", labels={"k": "v"},
)  # fmt: skip


def test_config_holds_all_that_an_image_says() -> None:
    assert images.render_config(FULL, "amd64", LAYERS) == {
        "created": "2026-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [images.PATH, "A=b"], "Entrypoint": ["start"], "Cmd": ["serve", "-x"], "User": "app",
            "WorkingDir": "/w", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGUSR1",
            "Labels": {"k": "v"},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:aa", "sha256:bb"]},
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "lab layer base"},
            {"created": "2026-01-01T00:00:00Z", "created_by": "lab layer app"},
        ],
    }  # fmt: skip


def test_config_leaves_out_what_an_image_does_not_say() -> None:
    config = images.render_config(Image("app", "1", ("base",), ("serve",)), "arm64", LAYERS[:1])
    assert config["config"] == {"Env": [images.PATH], "Cmd": ["serve"]}


def test_manifest_names_config_and_plain_tar_layers() -> None:
    assert images.render_manifest(Blob("sha256:cc", 5), LAYERS) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:cc", "size": 5},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:aa", "size": 10},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:bb", "size": 20},
        ],
    }


def test_index_can_be_read_back() -> None:
    manifests = {"mysql:9.7": Blob("sha256:aa", 1), "mysql:9.7-next": Blob("sha256:bb", 2)}
    index = images.render_index(manifests, "amd64")
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert images.parse_index(images.encode(index).decode()) == manifests


@pytest.mark.parametrize("text", ["", "{}", '{"manifests": [{"digest": "sha256:aa", "size": 1}]}', '{"manifests": 3}'])
def test_other_index_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="index of an image layout"):
        images.parse_index(text)


def test_same_document_is_the_same_blob() -> None:
    assert images.blob_of(images.encode({"b": 1, "a": 2})) == images.blob_of(images.encode({"a": 2, "b": 1}))
    assert images.blob_of(b"").digest == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_images_are_those_that_tests_and_users_name() -> None:
    refs = [image.ref for image in images.IMAGES]
    mysqls = ["mysql-official:9.7", "mysql:9.7", "mysql:9.7-next"]
    assert sorted(refs) == ["haproxy:3.2", *mysqls, "pause:3.10", "python:3"]
    made = {*images.LAYER_PACKAGES, "mysql-official", "pause"}
    assert {layer for image in images.IMAGES for layer in image.layers} == made


def test_next_mysql_differs_by_digest_and_shares_all_layers() -> None:
    this, following = (next(x for x in images.IMAGES if x.ref == ref) for ref in ("mysql:9.7", "mysql:9.7-next"))
    assert this.layers == following.layers
    assert images.render_config(this, "amd64", LAYERS) != images.render_config(following, "amd64", LAYERS)


# -- packages ---------------------------------------------------------------------------------------------------------


def test_print_uris_is_read() -> None:
    text = (
        "Reading package lists...\n"
        "The following NEW packages will be installed:\n"
        "  bash zlib1g\n"
        "'http://mirror/pool/main/b/bash/bash_5.3-1_amd64.deb' bash_5.3-1_amd64.deb 1234 SHA256:00\n"
        "'http://mirror/pool/z/zlib1g_1.3-2_amd64.deb' zlib1g_1%3a1.3-2_amd64.deb 99 \n"
    )
    assert images.parse_print_uris(text) == {"bash": "bash_5.3-1_amd64.deb", "zlib1g": "zlib1g_1%3a1.3-2_amd64.deb"}


@pytest.mark.parametrize("package", ["perl", "perl-base", "libperl5.42", "debconf", "systemd-sysusers", "tzdata"])
def test_packages_for_package_scripts_are_dropped(package: str) -> None:
    assert images.is_dropped(package)


@pytest.mark.parametrize("package", ["debconf-not", "libsystemd0", "mysql-server-core", "bash", "passwd2"])
def test_other_packages_are_kept(package: str) -> None:
    assert not images.is_dropped(package)


def test_layers_hold_what_the_base_has_not() -> None:
    resolved = {
        "base": {"bash": "bash_1.deb", "libc6": "libc6_1.deb", "perl": "perl_1.deb"},
        "mysql": {"bash": "bash_1.deb", "libc6": "libc6_2.deb", "mysql": "mysql_9.deb", "perl": "perl_1.deb"},
    }
    assert images.plan_layers(resolved) == {
        "base": ["bash_1.deb", "libc6_1.deb"],
        "mysql": ["libc6_2.deb", "mysql_9.deb"],
    }


def test_apt_knows_nothing_of_the_host() -> None:
    config = images.render_apt_config(Path("/r"), ['Acquire::Retries "3"'])
    assert 'Dir::State::status "/r/status";\n' in config
    assert 'Dir::Etc::sourceparts "/dev/null";\n' in config
    assert config.endswith('Acquire::Retries "3";\n')
    assert images.render_sources("http://m/debian", "/k.gpg", ("forky", "sid")) == (
        "deb [signed-by=/k.gpg] http://m/debian forky main\ndeb [signed-by=/k.gpg] http://m/debian sid main\n"
    )


def test_users_are_in_passwd_and_group() -> None:
    passwd, group = images.render_passwd({"mysql": (999, "/var/lib/mysql", "/bin/bash")})
    assert "mysql:x:999:999::/var/lib/mysql:/bin/bash\n" in passwd
    assert passwd.startswith("root:x:0:0::/root:/bin/bash\n")
    assert "mysql:x:999:\n" in group
    assert "nogroup:x:65534:\n" in group


# -- layers -----------------------------------------------------------------------------------------------------------


def _tree(folder: Path, mtime_s: int, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {Path(name).name}")
        os.utime(folder / name, (mtime_s, mtime_s))
    (folder / "run").mkdir()
    (folder / "run").chmod(0o1777)
    (folder / "link").symlink_to("a/one")
    os.link(folder / "a/one", folder / "z-hard")
    os.utime(folder / "a", (mtime_s, mtime_s))
    return folder


def test_layer_does_not_depend_on_time_or_order(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    one = images.write_layer(_tree(tmp_path / "1", 1000, ["a/one", "a/two", "b"]), blobs)
    two = images.write_layer(_tree(tmp_path / "2", 2000, ["b", "a/two", "a/one"]), blobs)
    assert one == two
    assert [path.name for path in blobs.iterdir()] == [one.digest.removeprefix("sha256:")]
    data = (blobs / one.digest.removeprefix("sha256:")).read_bytes()
    assert images.blob_of(data) == one


def test_layer_keeps_modes_links_and_hard_links(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", 1000, ["a/one", "b"])
    (tree / "b").chmod(0o4755)
    os.mkfifo(tree / "pipe")
    blob = images.write_layer(tree, tmp_path)
    with tarfile.open(tmp_path / blob.digest.removeprefix("sha256:"), "r:") as archive:
        members = {member.name: member for member in archive}
        assert list(members) == ["a", "a/one", "b", "link", "run", "z-hard"]
        assert members["run"].mode == 0o1777
        assert members["b"].mode == 0o4755
        assert members["link"].linkname == "a/one"
        assert members["a/one"].isreg()
        assert (members["z-hard"].islnk(), members["z-hard"].linkname) == (True, "a/one")
        assert {(m.mtime, m.uname, m.gname) for m in members.values()} == {(images.CREATED_S, "", "")}
        content = archive.extractfile("b")
        assert content is not None
        assert content.read() == b"content of b"


# -- start-up scripts -------------------------------------------------------------------------------------------------


def _fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)


def _start(script: str, tmp_path: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.run(
        [str(images.FILES / script), *argv], env={"PATH": path, **env}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "started"),
    [
        (["haproxy", "-f", "/x.cfg"], "haproxy -W -db -f /x.cfg"),
        (["-f", "/x.cfg"], "haproxy -W -db -f /x.cfg"),
        (["echo", "hello there"], "hello there"),
    ],
)
def test_haproxy_starts_as_master_with_workers(tmp_path: Path, argv: list[str], started: str) -> None:
    _fake(tmp_path, "haproxy", 'echo "haproxy $*"')
    assert _start("haproxy-entrypoint.sh", tmp_path, *argv).stdout == started + "\n"


@pytest.fixture
def mysql(tmp_path: Path) -> Path:
    """A folder with a mysqld that notes how it is run, whose help has lines that look like its table of values."""
    (tmp_path / "data").mkdir()
    _fake(
        tmp_path, "mysqld",
        f'echo "mysqld $*" >> {tmp_path}/calls\n'
        'if [[ $* == *--help* ]]; then\n'
        '  printf "  --socket=name\\n              socket creation.\\n              datadir elsewhere.\\n"\n'
        f'  printf "datadir   {tmp_path}/data/\\nsocket    ${{SOCKET-{tmp_path}/run/mysqld.sock}}\\n"\n'
        '  exit ${HELP_STATUS:-0}\n'
        'fi\n'
        f'if [[ $* == *--initialize* ]]; then mkdir {tmp_path}/data/mysql; exit; fi\n'
        'if [[ $* == *--skip-networking* ]]; then exec sleep 30; fi\n',
    )  # fmt: skip
    _fake(tmp_path, "mysql", f'echo "mysql ${{*#*/dev/fd/*}}" >> {tmp_path}/clients; cat >> {tmp_path}/sql')
    _fake(tmp_path, "id", "echo 999")
    _fake(tmp_path, "chown", f'echo "chown $*" >> {tmp_path}/calls')
    return tmp_path


def _calls(folder: Path) -> list[str]:
    lines = (folder / "calls").read_text().splitlines()
    return [line for line in lines if "--help" not in line]


def test_official_mysql_refuses_an_empty_folder_without_a_password(mysql: Path) -> None:
    done = _start("mysql-official-entrypoint.sh", mysql, "mysqld")
    assert done.returncode == 1
    assert "not initialised and no password option is given" in done.stderr
    assert _calls(mysql) == []


def test_official_mysql_initialises_then_starts(mysql: Path) -> None:
    (mysql / "secret").write_text("it's")
    done = _start(
        "mysql-official-entrypoint.sh", mysql, "--port=3307",
        MYSQL_ROOT_PASSWORD_FILE=str(mysql / "secret"), MYSQL_DATABASE="app", MYSQL_USER="u", MYSQL_PASSWORD="p",
    )  # fmt: skip
    # the stand-in for the temporary server is killed, which the script rightly calls a bad stop
    assert "the temporary server did not stop well" in done.stderr
    calls = _calls(mysql)
    assert [" --initialize-insecure " in calls[0], " --skip-networking " in calls[1]] == [True, True]
    assert all(call.startswith("mysqld --port=3307 ") for call in calls)
    sql = (mysql / "sql").read_text()
    assert "ALTER USER 'root'@'localhost' IDENTIFIED BY 'it\\'s';" in sql
    assert "CREATE DATABASE IF NOT EXISTS `app`;" in sql
    assert "CREATE USER 'u'@'%' IDENTIFIED BY 'p';" in sql
    assert "it's" not in (mysql / "clients").read_text()


def test_official_mysql_leaves_a_database_alone(mysql: Path) -> None:
    (mysql / "data/mysql").mkdir()
    done = _start("mysql-official-entrypoint.sh", mysql, "mysqld", MYSQL_ROOT_PASSWORD="x")
    assert (done.returncode, _calls(mysql)) == (0, ["mysqld "])


@pytest.mark.parametrize("socket", ["", ".", "/", "creation."])
def test_official_mysql_owns_no_folder_that_mysqld_did_not_name(mysql: Path, socket: str) -> None:
    _fake(mysql, "id", "echo 0")
    done = _start("mysql-official-entrypoint.sh", mysql, "mysqld", MYSQL_ALLOW_EMPTY_PASSWORD="1", SOCKET=socket)
    assert done.returncode == 1
    assert "no absolute path for socket" in done.stderr
    assert _calls(mysql) == []


def test_official_mysql_shows_why_the_configuration_is_refused(mysql: Path) -> None:
    done = _start("mysql-official-entrypoint.sh", mysql, "mysqld", "--wrong", HELP_STATUS="1")
    assert (done.returncode, "refuses its configuration" in done.stderr) == (1, True)


def test_official_mysql_runs_other_commands_untouched(mysql: Path) -> None:
    assert _start("mysql-official-entrypoint.sh", mysql, "echo", "mysqld").stdout == "mysqld\n"
    assert not (mysql / "calls").exists()


def test_documents_are_json() -> None:
    assert json.loads(images.encode({"a": [1]})) == {"a": [1]}
