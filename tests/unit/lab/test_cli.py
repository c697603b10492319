# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: each command is there, has help, and does with its words what it says."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import cli, controlplane, doctor, faults, machine, soak, ssh, state, status, up
from lab.config import LabConfig
from lab.doctor import Finding
from lab.log import LabError
from lab.state import LabState

COMMANDS = {
    "up", "down", "status", "doctor", "run", "kubectl", "kubeconfig", "ssh", "logs",
    "power-off", "power-on", "pause", "resume", "cut", "heal", "slow", "stop", "start", "disk-full", "disk-free",
    "clock", "build", "soak",
}  # fmt: skip


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PETSET_LAB_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PETSET_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PETSET_LAB", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "state"


@pytest.fixture
def lab() -> LabState:
    """A lab with two nodes that is there, as far as its state says."""
    made = LabState(LabConfig(), 0)
    state.save(made)
    return made


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = [a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(action.choices)


def parse(*words: str) -> argparse.Namespace:
    return cli.build_parser().parse_args(cli._shield(words))


def fails(*words: str) -> int:
    """The exit status of a command line that does not end well."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert isinstance(caught.value.code, int)
    return caught.value.code


# -- help ------------------------------------------------------------------------------------------------------------


def test_all_commands_are_there() -> None:
    assert set(subparsers()) == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_and_takes_a_lab(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert fails(command, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    description = subparsers()[command].description or ""
    assert len(description) > 15
    assert description in out
    assert "--name LAB" in out
    assert callable(parse(command, *NEEDED.get(command, [])).handler)


NEEDED = {
    "ssh": ["node-1"], "logs": ["etcd"], "power-off": ["node-1"], "power-on": ["node-1"], "pause": ["node-1"],
    "resume": ["node-1"], "cut": ["node-1", "nfs"], "slow": ["node-1"], "stop": ["etcd"], "start": ["etcd"],
    "disk-full": ["nfs", "/srv"], "disk-free": ["nfs", "/srv"], "clock": ["node-1", "+90"],
}  # fmt: skip


def test_the_help_lists_every_command_with_a_line_and_a_first_day(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # argparse breaks lines by the terminal's width, and differently from one Python to the next
    monkeypatch.setenv("COLUMNS", "200")
    assert fails("--help") == 0
    out = capsys.readouterr().out
    for command, sub in subparsers().items():
        assert re.search(rf"^ +{command}\s+{re.escape((sub.description or '')[:40])}", out, re.MULTILINE), command
    assert "a first day with it:" in out


def test_the_first_day_of_the_help_can_be_typed() -> None:
    lines = [line.strip() for line in cli.EPILOG.splitlines() if "python3 -m lab" in line]
    commands = [part for line in lines for part in re.split(r"  +|; ", line) if part.startswith("python3 -m lab")]
    assert len(commands) >= 9
    for command in commands:
        parse(*shlex.split(command.removesuffix("..."))[3:])


def test_every_way_out_that_the_lab_names_is_a_command() -> None:
    named = set()
    for path in Path(cli.__file__).parent.glob("*.py"):
        named |= set(re.findall(r"python3 -m lab ([a-z][a-z-]+)", path.read_text()))
    assert {"up", "down", "doctor"} <= named
    assert named <= COMMANDS


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("up", ["--nodes", "--name", "--machines", "--kubernetes", "--kube-bin-dir"]),
        ("status", ["--json"]),
        ("doctor", ["--fix"]),
        ("slow", ["--delay", "--loss", "--rate", "--off"]),
        ("cut", ["--one-way"]),
        ("soak", ["--seconds", "--json"]),
        ("kubeconfig", ["--deployer"]),
    ],
)
def test_options(command: str, options: list[str]) -> None:
    known = {word for action in subparsers()[command]._actions for word in action.option_strings}
    assert set(options) <= known


def test_no_command_or_an_unknown_one_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails() == 2
    assert fails("explode") == 2
    assert "power-off" in capsys.readouterr().err


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "words", "name"),
    [
        (None, [], "lab"),
        ("green", [], "green"),
        ("", [], "lab"),
        ("green", ["--name", "blue"], "blue"),
        (None, ["--name=blue"], "blue"),
    ],
)
def test_which_lab(monkeypatch: pytest.MonkeyPatch, variable: str | None, words: list[str], name: str) -> None:
    if variable is not None:
        monkeypatch.setenv("PETSET_LAB", variable)
    assert parse("status", *words).lab == name
    assert parse("kubectl", *words, "get", "pods").lab == name


@pytest.mark.parametrize("command", [["status"], ["down"], ["pause", "etcd"], ["run", "--", "true"], ["up"]])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_name_that_is_none_is_refused_by_every_command_before_it_names_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path, command: list[str], how: str
) -> None:
    words = command
    if how == "option":
        words = [command[0], "--name", "../other", *command[1:]]
    else:
        monkeypatch.setenv("PETSET_LAB", "../other")
    assert fails(*words) == 1
    assert "--name '../other': a lab's name is" in capsys.readouterr().err
    assert not root.exists()


@pytest.mark.parametrize(("text", "number"), [("extra=0", 0), ("extra=1", 1), ("extra=9", 9)])
def test_further_machines(text: str, number: int) -> None:
    assert parse("up", "--machines", text).machines == number


@pytest.mark.parametrize("text", ["extra", "extra=", "extra=-1", "extra=x", "1", "nodes=2", "extra=1,2", "extra=²"])
def test_what_does_not_say_how_many_further_machines(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert fails("up", "--machines", text) == 2
    assert "write extra=N" in capsys.readouterr().err


@pytest.mark.parametrize("shift", ["+90", "90", "-90", "-5m", "-1.5h", "2h", "0", "-30s"])
def test_a_clock_is_moved_back_as_the_help_says(shift: str) -> None:
    """-5m was taken for an option."""
    assert parse("clock", "node-1", shift).shift == shift
    assert parse("clock", "--name", "green", "node-1", shift).lab == "green"
    assert parse("clock", "node-1", shift, "--name", "green").lab == "green"


@pytest.mark.parametrize("word", ["-m", "--five", "-x5m"])
def test_what_is_no_shift_is_still_no_argument(word: str) -> None:
    assert fails("clock", "node-1", word) == 2


@pytest.mark.parametrize(
    ("words", "name", "argv"),
    [
        (["get", "pods"], "lab", ["get", "pods"]),
        (["get", "pods", "-n", "x"], "lab", ["get", "pods", "-n", "x"]),
        # -n was "unrecognized"
        (["-n", "kube-system", "get", "pods"], "lab", ["-n", "kube-system", "get", "pods"]),
        (["--namespace=x", "get", "pods"], "lab", ["--namespace=x", "get", "pods"]),
        (["--name", "green", "-n", "x", "get", "pods"], "green", ["-n", "x", "get", "pods"]),
        (["--name=green", "get", "--name", "y"], "green", ["get", "--name", "y"]),
        (["--", "-n", "x", "get", "pods"], "lab", ["-n", "x", "get", "pods"]),
        (["--name", "green", "--", "get"], "green", ["get"]),
        (["exec", "mysql-0", "--", "ls", "-l"], "lab", ["exec", "mysql-0", "--", "ls", "-l"]),
        (["--", "--", "x"], "lab", ["--", "x"]),
        ([], "lab", []),
        (["--name", "green"], "green", []),
    ],
)
@pytest.mark.parametrize("command", ["kubectl", "run"])
def test_the_words_of_another_program_reach_it_as_they_are(
    command: str, words: list[str], name: str, argv: list[str]
) -> None:
    seen = parse(command, *words)
    assert (seen.lab, cli._command(seen.argv)) == (name, argv)


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        ([], []),
        (["ls", "-l"], ["ls", "-l"]),
        (["--", "ls", "-l"], ["ls", "-l"]),
        (["-v"], ["-v"]),
        (["sh", "-c", "echo -- x"], ["sh", "-c", "echo -- x"]),
    ],
)
def test_the_words_after_a_machine_are_its_command(words: list[str], argv: list[str]) -> None:
    seen = parse("ssh", "--name", "green", "node-1", *words)
    assert (seen.lab, seen.machine, cli._command(seen.argv)) == ("green", "node-1", argv)


def test_stop_and_start_know_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    for part in controlplane.PARTS:
        assert parse("stop", part).target == part
    assert fails("stop", "kubelet") == 2
    assert "controller-manager" in capsys.readouterr().err


# -- configuration ---------------------------------------------------------------------------------------------------


def test_a_new_lab_is_as_asked_for() -> None:
    assert cli._config(parse("up")) == LabConfig()
    seen = cli._config(parse("up", "--name", "green", "--nodes", "3", "--machines", "extra=1", "--kubernetes", "1.37"))
    assert seen == LabConfig("green", 3, 1, "1.37")


def test_a_lab_that_is_there_keeps_what_is_not_asked_for() -> None:
    state.save(LabState(LabConfig("green", 3, 2, "1.37", "/bins"), 0))
    assert cli._config(parse("up", "--name", "green")) == LabConfig("green", 3, 2, "1.37", "/bins")
    assert cli._config(parse("up", "--name", "green", "--nodes", "4")) == LabConfig("green", 4, 2, "1.37", "/bins")
    assert cli._config(parse("up", "--name", "blue")) == LabConfig("blue")


def test_a_folder_of_programs_is_kept_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli._config(parse("up", "--kube-bin-dir", "bin")).kube_bin_dir == str(tmp_path / "bin")


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--nodes", "0"], "--nodes 0"), (["--nodes", "10"], "--nodes 10"), (["--machines", "extra=10"], "extra=10")],
)
def test_a_number_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], root: Path, words: list[str], told: str
) -> None:
    assert fails("up", *words) == 1
    assert told in capsys.readouterr().err
    assert not root.exists()


# -- outcomes --------------------------------------------------------------------------------------------------------


def test_an_error_is_told_with_its_way_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails("status", "--name", "green") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("lab: there is no lab 'green' (there are: none)\n  way out: python3 -m lab up --name green\n")


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(name: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "down", interrupt)
    assert cli.main(["down"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_fault_of_our_own_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> bool:
        raise AssertionError("a bug")

    monkeypatch.setattr(up, "down", broken)
    with pytest.raises(AssertionError, match="a bug"):
        cli.main(["down"])


@pytest.mark.parametrize(("findings", "code"), [([], 0), ([Finding("memory", False, "1 GiB", "buy more")], 1)])
def test_up_looks_at_the_host_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    ups: list[LabConfig] = []
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("user", True, "uid 0"), *findings])
    monkeypatch.setattr(up, "up", ups.append)
    if code:
        assert fails("up") == 1
        err = capsys.readouterr().err
        assert "!!  memory             1 GiB\n    way out: buy more" in err
        assert "uid 0" not in err
        assert ups == []
    else:
        assert cli.main(["up"]) == 0
        assert ups == [LabConfig()]


def test_up_on_a_lab_that_is_there_does_not_ask_the_doctor(monkeypatch: pytest.MonkeyPatch, lab: LabState) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: pytest.fail("asked"))
    monkeypatch.setattr(up, "up", lambda config: None)
    assert cli.main(["up"]) == 0


@pytest.mark.parametrize("there", [True, False])
def test_down_says_when_there_was_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    monkeypatch.setattr(up, "down", lambda name: there)
    assert cli.main(["down", "--name", "green"]) == 0
    assert ("there was no lab 'green'" in capsys.readouterr().err) is not there


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_status_is_on_standard_output_and_tells_by_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lab: LabState, healthy: bool, words: list[str]
) -> None:
    seen = status.Status("lab", "v1.36.3", healthy, [], [], [], 0)
    monkeypatch.setattr(status, "observe", lambda found: seen)
    assert cli.main(["status", *words]) == (0 if healthy else 1)
    assert capsys.readouterr().out == (status.to_json(seen) if words else status.render(seen)) + "\n"


@pytest.mark.parametrize("again", [0, 100])
def test_soak_tells_by_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lab: LabState, again: int
) -> None:
    writes = soak.Writes(1, 0.1, 0.1, 0.1)
    result = soak.Soak(5, writes, writes, 1000, again, 4.0)
    asked: list[float] = []
    monkeypatch.setattr(soak, "soak", lambda found, seconds: asked.append(seconds) or result)
    assert cli.main(["soak", "--seconds", "5"]) == (1 if again else 0)
    assert asked == [5.0]
    assert capsys.readouterr().out == soak.render(result) + "\n"
    cli.main(["soak", "--json"])
    assert capsys.readouterr().out == result.to_json() + "\n"


@pytest.mark.parametrize("words", [[], ["--fix"]])
@pytest.mark.parametrize("well", [True, False])
def test_doctor_mends_when_told_to_and_tells_by_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, words: list[str], well: bool
) -> None:
    did: list[str] = []
    monkeypatch.setattr(doctor, "fix", lambda: did.append("fix"))
    monkeypatch.setattr(doctor, "examine", lambda: did.append("examine") or [Finding("x", well, "y")])
    assert cli.main(["doctor", *words]) == (0 if well else 1)
    assert did == (["fix"] if words else []) + ["examine"]


# -- in the lab ------------------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []

    def call(argv: Sequence[str]) -> int:
        calls.append(list(argv))
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(up, "Artefacts", lambda config: SimpleNamespace(kube=Path("/c/kube"), programs=None))
    monkeypatch.setenv("PATH", "/usr/bin")
    return calls


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        (["run", "--", "ansible", "all", "-m", "ping"], ["ansible", "all", "-m", "ping"]),
        (["run", "echo", "a b"], ["echo", "a b"]),
        (["kubectl", "-n", "x", "get", "pods"], ["kubectl", "-n", "x", "get", "pods"]),
    ],
)
def test_a_command_runs_in_the_clients_network_with_all_set_and_its_status_is_the_labs(
    lab: LabState,
    called: list[list[str]],
    root: Path,
    words: list[str],
    argv: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "host_nameservers", lambda: ("10.0.0.2", "9.9.9.9"))
    assert cli.main(words) == 7
    (line,) = called
    assert line[:5] == ["ip", "netns", "exec", "petset-lab-client", "env"]
    settings = dict(word.split("=", 1) for word in line[5 : -len(argv)])
    assert line[-len(argv) :] == argv
    assert settings == {
        "KUBECONFIG": f"{root}/lab/kubeconfig",
        "K8S_AUTH_KUBECONFIG": f"{root}/lab/kubeconfig",
        "ANSIBLE_INVENTORY": f"{root}/lab/inventory.yml",
        "PETSET_LAB": "lab",
        "PETSET_LAB_FOLDER": f"{root}/lab",
        "PETSET_LAB_NAMESERVERS": "10.0.0.2 9.9.9.9",
        "PATH": "/c/kube:/usr/bin",
    }


def test_run_without_a_command_says_how(
    lab: LabState, called: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fails("run") == 1
    assert fails("run", "--") == 1
    assert "python3 -m lab run -- COMMAND" in capsys.readouterr().err
    assert called == []


def test_ssh_goes_to_the_machine_and_its_status_is_the_labs(lab: LabState, called: list[list[str]]) -> None:
    assert cli.main(["ssh", "node-2", "--", "ls", "-l"]) == 7
    assert called == [ssh.argv(lab.plan, lab.plan.machine("node-2"), ["ls", "-l"])]


def test_ssh_to_a_machine_that_is_not_there(lab: LabState, called: list[list[str]]) -> None:
    assert fails("ssh", "node-9") == 1
    assert called == []


@pytest.mark.parametrize("what", ["node-1", "nfs", "etcd", "registry", "audit"])
def test_logs_of_a_machine_of_a_part_and_of_the_audit(
    lab: LabState, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = controlplane.log_file(lab.plan, what)
    if what in ("node-1", "nfs"):
        assert path == machine.log_file(lab.plan, lab.plan.machine(what))
    assert fails("logs", what) == 1
    assert f"no log {path} yet" in capsys.readouterr().err
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {i}\n" for i in range(100)))
    assert cli.main(["logs", what]) == 0
    assert capsys.readouterr().out.splitlines() == [f"line {i}" for i in range(50, 100)]
    assert cli.main(["logs", "-n", "2", what]) == 0
    assert capsys.readouterr().out == "line 98\nline 99\n"
    assert cli.main(["logs", what, "-n", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 100


def test_logs_of_what_is_not_there(lab: LabState, capsys: pytest.CaptureFixture[str]) -> None:
    assert fails("logs", "kubelet") == 1
    assert "no machine 'kubelet'" in capsys.readouterr().err


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def did(monkeypatch: pytest.MonkeyPatch, lab: LabState) -> list[tuple[Any, ...]]:
    """What the command line asks of lab.faults, with the state that it hands over left out."""
    calls: list[tuple[Any, ...]] = []

    def note(name: str) -> Any:
        def call(found: LabState, *arguments: Any) -> str:
            assert found == lab
            calls.append((name, *arguments))
            return f"{name} says\n"

        return call

    for name in ("power_off", "power_on", "pause", "resume", "stop_part", "start_part", "set_cuts", "slow",
                 "disk_full", "disk_free", "clock"):  # fmt: skip
        monkeypatch.setattr(faults, name, note(name))
    monkeypatch.setattr(controlplane, "wait_until_nodes_ready", note("ready"))
    monkeypatch.setattr(ssh, "execute", lambda _plan, one, _script: f"boot of {one.name}\n")
    monkeypatch.setattr(up, "Artefacts", lambda config: "artefacts")
    return calls


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ("power-off node-2", [("power_off", "node-2")]),
        ("power-on node-2", [("power_on", "node-2", "artefacts"), ("ready", ["node-2"], {"node-2": "boot of node-2"})]),
        ("power-on nfs", [("power_on", "nfs", "artefacts")]),
        ("pause etcd", [("pause", "etcd")]),
        ("resume etcd", [("resume", "etcd")]),
        ("stop scheduler", [("stop_part", "scheduler")]),
        ("start scheduler", [("start_part", "scheduler", "artefacts")]),
        ("cut node-1 nfs", [("set_cuts", [("nfs", "node-1"), ("node-1", "nfs")])]),
        ("cut node-1 nfs --one-way", [("set_cuts", [("node-1", "nfs")])]),
        ("cut --one-way gateway node-1", [("set_cuts", [("gateway", "node-1")])]),
        ("heal", [("set_cuts", [])]),
        ("heal node-1", [("set_cuts", [])]),
        ("heal node-1 nfs", [("set_cuts", [])]),
        ("slow nfs --delay 50 --loss 1.5 --rate 10", [("slow", "nfs", faults.Slowness(50, 1.5, 10))]),
        ("slow nfs --delay 50", [("slow", "nfs", faults.Slowness(50))]),
        ("slow nfs --off", [("slow", "nfs", None)]),
        ("disk-full nfs /srv", [("disk_full", "nfs", "/srv", 0)]),
        ("disk-full nfs /srv --leave 4096", [("disk_full", "nfs", "/srv", 4096)]),
        ("disk-free nfs /srv", [("disk_free", "nfs", "/srv")]),
        ("clock node-1 -5m", [("clock", "node-1", -300)]),
        ("clock node-1 0", [("clock", "node-1", 0)]),
    ],
)
def test_each_fault_is_what_its_words_say(
    did: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], words: str, calls: list[tuple[Any, ...]]
) -> None:
    assert cli.main(words.split()) == 0
    assert did == calls
    out, err = capsys.readouterr()
    kind = calls[0][0]
    assert out == (f"{kind} says\n" if kind in ("disk_full", "disk_free", "clock") else "")
    told = [word for word in words.split()[:3] if word[0] not in "-/0"]
    assert re.search(rf"ok  {' '.join(told[:1])} ?{' '.join(told[1:])}", err)


@pytest.mark.parametrize(
    "words", ["cut node-1 nobody", "heal nobody", "slow nfs --loss 200", "clock node-1 soon", "power-on node-9"]
)
def test_a_fault_with_wrong_words_does_nothing(
    did: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert fails(*words.split()) == 1
    assert [call for call in did if call[0] != "power_on"] == []
    assert "ok  " not in capsys.readouterr().err


def test_a_fault_in_a_lab_that_is_not_there_leaves_no_trace_of_it(root: Path) -> None:
    assert fails("pause", "--name", "typo", "node-1") == 1
    assert not root.exists() or list(root.iterdir()) == []


def test_a_fault_is_made_while_nobody_else_works_on_the_lab(
    monkeypatch: pytest.MonkeyPatch, lab: LabState, root: Path
) -> None:
    held: list[Path] = []

    class Lock:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __enter__(self) -> None:
            held.append(self.path)

        def __exit__(self, *_error: object) -> None:
            held.remove(self.path)

    def pause(found: LabState, name: str) -> None:
        assert held == [root / ".lab.lock"]
        raise LabError("seen")

    monkeypatch.setattr(cli, "locked", Lock)
    monkeypatch.setattr(faults, "pause", pause)
    assert fails("pause", "node-1") == 1
    assert held == []


@pytest.mark.parametrize("broken", ["the output", "something else"])
def test_a_reader_that_has_seen_enough_is_no_failure(root: Path, broken: str) -> None:
    """``lab status | head -1``."""
    script = (
        "import sys, types; from lab import cli, state, status\n"
        "def words(*_what):\n"
        f"    if {broken == 'something else'}: raise BrokenPipeError(32, 'a socket')\n"
        "    return 'word ' * 100_000\n"
        "state.need = lambda name: None\n"
        "status.observe = lambda lab: types.SimpleNamespace(healthy=True)\n"
        "status.render = words\n"
        "sys.exit(cli.main(['status']))"
    )
    reader, writer = os.pipe()
    if broken == "the output":
        os.close(reader)
    root_folder = Path(cli.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=root_folder
    )
    os.close(writer)
    assert (done.returncode, "a socket" in done.stderr) == ((141, False) if broken == "the output" else (1, True))
    assert broken != "the output" or done.stderr == ""
