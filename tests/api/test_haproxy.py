# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real HAProxy does with the configuration: on loopback, with names from a DNS server of the test."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.haproxy import (
    ProxyConfig,
    Times,
    config_hash,
    render_files,
)
from ansible_collections.stateful.petset.plugins.module_utils._core.proxy_probe import (
    Loaded,
    judge_views,
    load_command,
    look_command,
    parse_answer,
    parse_view,
    try_command,
)

from lab.debian import ensure_haproxy
from tests.api.proxied import DOMAIN, Proxied, proxied, wait_for
from tests.patience import patient

pytestmark = [pytest.mark.api, pytest.mark.servers]

CONFIG = ProxyConfig(("mysql-0", "mysql-1"), DOMAIN)


def check(config: ProxyConfig, folder: Path) -> subprocess.CompletedProcess[str]:
    """``haproxy -c`` as a pod runs it."""
    for name, text in render_files(replace(config, folder=str(folder))).items():
        (folder / name).write_text(text)
    return subprocess.run(
        [ensure_haproxy(), "-c", "-f", folder / "haproxy.cfg"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mode": "spread"},
        {"pets": ("mysql-0",), "masters": 1},
        {"pets": tuple(f"mysql-{ordinal}" for ordinal in range(30)), "masters": 3},
        {"pets": (f"{'m' * 52}-9999",), "domain": ".".join(["d" * 63] * 2)},
        {"family": "ipv6"},
        {"nameservers": ("127.0.0.1:53", "[::1]:5353")},
        {"threads": 64, "max_connections": 10},
        {"threads": 1, "max_connections": 5000},
        {"times": Times(50, 50, 50, 1, 60, 10)},
        {"times": Times(60_000, 60_000, 60_000, 60_000, 2_000_000, 2_000_000)},
    ],
)
def test_haproxy_takes_what_is_rendered_without_a_word(change: dict[str, Any], tmp_path: Path) -> None:
    done = check(replace(CONFIG, **change), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_rp_hap_07_what_haproxy_itself_says_of_broken_files(tmp_path: Path) -> None:
    """Should a later HAProxy become stricter or milder, the renderer's rules may follow."""
    assert check(CONFIG, tmp_path).returncode == 0
    path = tmp_path / "haproxy.cfg"
    text = path.read_text()
    for broken in (text.rstrip("\n"), text + "backend writer\n    server mysql-0 192.0.2.1:1\n"):
        path.write_text(broken)
        assert subprocess.run([ensure_haproxy(), "-c", "-f", path], capture_output=True, check=False).returncode == 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Proxied]:
    """Three pets, the first of which takes writes, and one proxy."""
    with proxied(tmp_path) as world:
        for ordinal in range(3):
            world.add(ordinal).status["/reader"] = 200
        world.pets["mysql-0"].status["/writer"] = 200
        world.start()
        wait_for(lambda: world.writer() == "mysql-0")
        yield world


def test_writes_go_to_the_writer_alone(world: Proxied) -> None:
    assert {world.writer() for _try in range(20)} == {"mysql-0"}
    assert world.pets["mysql-1"].sessions == world.pets["mysql-2"].sessions == 0


def test_reads_go_to_every_pet_that_may_be_read(world: Proxied) -> None:
    def readers() -> set[str]:
        clients = [world.client(reader=True) for _try in range(6)]
        try:
            return {client.server for client in clients}
        finally:
            for client in clients:
                client.close()

    wait_for(lambda: readers() == {"mysql-0", "mysql-1", "mysql-2"})
    world.pets["mysql-2"].status["/reader"] = 503
    wait_for(lambda: readers() == {"mysql-0", "mysql-1"}, 2)


def test_rp_hap_05_sessions_move_with_the_writer_and_nothing_moves_back(world: Proxied) -> None:
    old, new = world.pets["mysql-0"], world.pets["mysql-1"]
    session, reading = world.client(), world.client(reader=True)
    start = time.monotonic()
    old.status["/writer"] = 503
    new.status["/writer"] = 200
    assert session.is_cut(2)
    assert world.writer() == "mysql-1"
    assert time.monotonic() - start < patient(1)
    assert reading.echo("still") == "still"
    # The first one is healthy again, but it is not the writer.
    session = world.client()
    served = old.sessions
    time.sleep(1)
    assert session.echo("still") == "still"
    assert {world.writer() for _try in range(5)} == {"mysql-1"}
    # Even if it said so as well while the other does: sessions stay, and all proxies choose the same one.
    assert old.sessions == served
    old.status["/writer"] = 200
    time.sleep(0.5)
    assert session.echo("still") == "still"


def test_a_writer_that_dies(world: Proxied) -> None:
    session = world.client()
    world.pets["mysql-0"].stop()
    world.pets["mysql-1"].status["/writer"] = 200
    # Who was on the way to the dead one is turned away; whoever comes next gets the new writer.
    assert wait_for(lambda: world.writer() == "mysql-1") < patient(1)
    session.close()
    del world.pets["mysql-0"]


def test_a_client_that_comes_while_no_pet_is_open_waits_with_a_limit(world: Proxied) -> None:
    world.pets["mysql-0"].status["/writer"] = 503
    wait_for(lambda: world.writer() == "")
    start = time.monotonic()
    assert world.writer() == ""
    assert 0.3 < time.monotonic() - start < patient(1.5)
    # A pet that is no master is not written to, whatever its agent says.
    world.pets["mysql-2"].status["/writer"] = 200
    assert world.writer() == ""
    later = threading.Timer(0.1, world.pets["mysql-1"].status.update, ({"/writer": 200},))
    later.start()
    assert world.writer() == "mysql-1"
    later.join()


def test_rp_dns_02_a_proxy_that_is_there_before_the_pets(tmp_path: Path) -> None:
    """Without a single name it starts and stays, clients are turned away, and pets that come are found."""
    with proxied(tmp_path, pets=2) as world:
        world.start()
        assert world.writer() == ""
        refused = world.client(reader=True)
        assert refused.server == ""
        assert world.masters[0].poll() is None
        world.add(0).status.update({"/writer": 200, "/reader": 200})
        wait_for(lambda: world.writer() == "mysql-0")
        # What the real program says of a name that nobody knows when nothing is the last resort.
        path = tmp_path / "haproxy.cfg"
        assert check(CONFIG, tmp_path).returncode == 0
        path.write_text(path.read_text().replace("init-addr none", "init-addr libc"))
        done = subprocess.run([ensure_haproxy(), "-c", "-f", path], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "could not resolve address" in done.stderr


def test_rp_hap_06_a_pet_that_returns_with_another_address(world: Proxied) -> None:
    old = world.pets.pop("mysql-0")
    old.stop()
    del world.names.addresses[f"mysql-0.{DOMAIN}"]
    time.sleep(0.5)
    pet = world.add(0, last=2)
    time.sleep(2.5)
    # Its name leads to it by now, but it gets nothing before its agent says that it may.
    assert pet.asked > 0
    assert pet.sessions == 0
    start = time.monotonic()
    pet.status["/writer"] = 200
    assert world.writer() == "mysql-0"
    assert time.monotonic() - start < patient(1)
    assert pet.sessions == 1


def test_rp_hap_05_two_proxies_agree_also_after_a_reload(tmp_path: Path) -> None:
    with proxied(tmp_path, proxies=2) as world:
        for ordinal in range(2):
            world.add(ordinal).status["/reader"] = 200
        world.pets["mysql-1"].status["/writer"] = 200
        world.start()
        for number in (0, 1):
            wait_for(lambda number=number: world.writer(number) == "mysql-1")  # type: ignore[misc]
        view = look(world)
        assert view.up("writer") == ["mysql-1"]
        assert reload(world, replace(world.config, threads=1)) is Loaded.JUST_NOW
        assert {world.writer(number) for number in (0, 1) for _try in range(10)} == {"mysql-1"}
        verdict = judge_views({"a": look(world)}, config_hash(world.config), "single_writer")
        assert (verdict.agree, verdict.writers, verdict.troubles) == (True, ("mysql-1",), ())


def test_spread_writes_go_to_both_masters(tmp_path: Path) -> None:
    with proxied(tmp_path, pets=2, mode="spread") as world:
        for ordinal in range(2):
            world.add(ordinal).status.update({"/writer": 200, "/reader": 200})
        world.start()
        wait_for(lambda: len(look(world).up("writer")) == 2)
        clients = [world.client() for _try in range(10)]
        assert sorted(client.server for client in clients) == ["mysql-0"] * 5 + ["mysql-1"] * 5


# --- the programs that are run in a pod -------------------------------------------------------------------------------


def in_pod(command: Sequence[str], path: str = os.environ["PATH"]) -> str:
    """What a command prints when it finds the real haproxy."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{ensure_haproxy().parent}:{path}"},
        timeout=30,
    )
    return done.stdout


def look(world: Proxied) -> Any:
    (world.folder / "haproxy.cfg").unlink(missing_ok=True)
    (world.folder / "haproxy.cfg").symlink_to("haproxy-0.cfg")
    return parse_view(in_pod(look_command(world.config)))


def reload(world: Proxied, config: ProxyConfig) -> Loaded:
    """Give the first proxy another configuration, as the module does."""
    world.config = config
    (world.folder / "haproxy.cfg").unlink(missing_ok=True)
    world.write()
    (world.folder / "haproxy.cfg").symlink_to("haproxy-0.cfg")
    answer = parse_answer(in_pod(load_command(config, config_hash(config), world.masters[0].pid)))
    return answer.state


def test_a_pet_is_added_and_sessions_go_on(tmp_path: Path) -> None:
    with proxied(tmp_path, pets=2) as world:
        for ordinal in range(3):
            world.add(ordinal).status["/reader"] = 200
        world.pets["mysql-0"].status["/writer"] = 200
        world.start()
        wait_for(lambda: len(look(world).up("reader")) == 2)
        assert look(world).live == look(world).mounted == config_hash(world.config)
        sessions = [world.client(), world.client(reader=True)]
        wanted = replace(world.config, pets=("mysql-0", "mysql-1", "mysql-2"))
        # Its file is still the old one: nothing happens.
        answer = parse_answer(in_pod(load_command(wanted, config_hash(wanted), world.masters[0].pid)))
        assert (answer.state, answer.words) == (Loaded.NOT_MOUNTED, config_hash(world.config))
        stop, turned_away = [False], []

        def knock() -> None:
            while not stop[0]:
                if world.writer() != "mysql-0":
                    turned_away.append(time.monotonic())

        thread = threading.Thread(target=knock)
        thread.start()
        assert reload(world, wanted) is Loaded.JUST_NOW
        assert reload(world, wanted) is Loaded.LIVE
        wait_for(lambda: look(world).up("reader") == ["mysql-0", "mysql-1", "mysql-2"])
        stop[0] = True
        thread.join()
        assert turned_away == []
        assert [session.echo("still") for session in sessions] == ["still", "still"]
        assert world.masters[0].poll() is None


def test_a_refused_configuration_changes_nothing(world: Proxied) -> None:
    live = config_hash(world.config)
    session = world.client()
    wanted = replace(world.config, threads=1)
    assert parse_answer(in_pod(try_command(render_files(wanted)["haproxy.cfg"]))).done
    broken = render_files(wanted)["haproxy.cfg"] + "backend x\n    server nowhere\n"
    tried = parse_answer(in_pod(try_command(broken)))
    assert tried.state is Loaded.REFUSED
    assert "'server' expects" in tried.words
    assert "server nowhere" not in str(list(Path("/tmp").glob("candidate-*.cfg")))
    (world.folder / "haproxy.cfg").write_text(broken)
    answer = parse_answer(in_pod(load_command(wanted, config_hash(wanted), world.masters[0].pid)))
    assert answer.state is Loaded.REFUSED
    assert "[ALERT]" in answer.words
    assert world.get("/config-hash") == live
    assert session.echo("still") == "still"


@pytest.mark.parametrize("reader", ["bash", "curl", "wget"])
def test_one_reader_of_pages_is_enough(world: Proxied, tmp_path: Path, reader: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "sed", "cat", "sleep", reader):
        found = next((Path(one) / name for one in os.environ["PATH"].split(":") if (Path(one) / name).exists()), None)
        if found is None and name == reader:
            pytest.skip(f"no {name} on this machine")  # an image, too, has one or another
        assert found is not None, name
        (tools / name).symlink_to(found)
    (world.folder / "haproxy.cfg").symlink_to("haproxy-0.cfg")
    done = subprocess.run(
        look_command(world.config), capture_output=True, text=True, check=False, env={"PATH": str(tools)}
    )
    view = parse_view(done.stdout)
    assert view.live == view.mounted == config_hash(world.config)
    assert view.up("writer") == ["mysql-0"]
    assert {server.address for server in view.servers} == {f"127.7.{n}.1:{world.config.ports.mysql}" for n in range(3)}


def test_stats_and_metrics_are_served_and_hold_no_command(world: Proxied) -> None:
    assert "haproxy_server_status" in (world.get("/metrics") or "")
    page = world.get("/stats") or ""
    assert "mysql-0" in page
    assert 'method="post"' not in page.lower()
    assert world.get("/elsewhere") is None
