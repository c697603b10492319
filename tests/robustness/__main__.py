# SPDX-License-Identifier: GPL-3.0-or-later
"""Usage: python -m tests.robustness run [--suite short|long] [--seed N] [--only FAULT...] | recheck FOLDER | list"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.robustness.checkers.base import Verdict
from tests.robustness.report import Run, render_summary, render_summary_markdown
from tests.robustness.runner import Runner, finish
from tests.robustness.scenarios import FAULTS, SABOTAGE, plan_suite
from tests.robustness.world import Place, World
from tools.common import BUILD


def say(text: str) -> None:
    """At once."""
    print(text, flush=True)


def show(runs: Sequence[Run], folder: Path) -> int:
    """The table, what went wrong, and the exit status: 0 only if every run passed."""
    for run in runs:
        for finding in run.judgement.findings:
            if finding.verdict is not Verdict.TRUE:  # also of sabotage: what bit is worth reading
                say(f"{run.history.meta.fault}: {finding.checker} is {finding.verdict}: {'; '.join(finding.evidence)}")
    say("\n" + render_summary(runs))
    passed = sum(run.is_as_expected for run in runs)
    say(f"\n{passed} of {len(runs)} runs as they should be; histories and reports: {folder}")
    return 0 if runs and passed == len(runs) else 1


def cmd_run(args: argparse.Namespace) -> int:
    """Stage a suite."""
    seed = args.seed if args.seed is not None else secrets.randbelow(1 << 31)
    plan = plan_suite(args.suite, seed, args.only, args.times)
    folder = BUILD / "faults" / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    say(f"{len(plan)} runs, seed {seed} (again: --suite {args.suite} --seed {seed}), {folder}")
    world = World(Place(namespace=args.namespace, lab=args.lab), folder / "session.log")
    runner = Runner(world, folder, say)
    runs: list[Run] = []
    left_out = 0
    interrupted = False
    begin = time.monotonic()
    try:
        if not args.no_site:
            say("playbook site")
            world.play("site")
        for index, scenario in enumerate(plan):
            is_sabotage = scenario.fault in SABOTAGE
            # A short suite has to prove as well that its checkers bite.
            if not is_sabotage and args.limit_min and time.monotonic() - begin > args.limit_min * 60:
                left_out += 1
                continue
            say(f"[{index + 1}/{len(plan)}] {scenario.fault} (seed {scenario.seed})")
            run = runner.run(scenario)
            runs.append(run)
            gap = run.judgement.figure("gap_s")
            say(f"  {run.judgement.verdict}, longest gap {'-' if gap is None else f'{gap:.2f} s'}")
            if is_sabotage or run.judgement.is_damaged:
                # Else every run after it would tell of the same damage.
                say("  the set's data are damaged: a new one takes its place")
                world.rebuild()
                runner.earlier = -1
            elif not run.history.meta.is_settled:
                say("  the set is not healthy: all faults are healed, then the playbook runs once")
                world.heal_everything()
                world.play("site", ok=False)
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted: the run under way is not judged")
    finally:
        world.heal_everything()
        if runs:
            heading = f"Fault runs of {time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, seed {seed}"
            (folder / "summary.md").write_text(render_summary_markdown(runs, heading))
    if left_out:
        say(f"the limit of {args.limit_min:g} min was over: {left_out} runs were left out")
    return show(runs, folder) or (130 if interrupted else 0)


def cmd_recheck(args: argparse.Namespace) -> int:
    """Judge stored histories again."""
    folders = sorted({path.parent for path in args.folder.rglob("*.jsonl")})
    if not folders:
        say(f"{args.folder} holds no history")
        return 2
    runs, broken = [], 0
    for one in folders:
        try:
            runs.append(finish(one))
        except ValueError as error:
            # a run that was killed has no end; it is no pass
            broken += 1
            say(f"{one.name}: cannot be judged: {error}")
    return show(runs, args.folder) or min(broken, 1)


def cmd_list(args: argparse.Namespace) -> int:
    """The faults."""
    for name, fault in FAULTS.items():
        say(f"{name:<22} {'long ' if fault.is_long else '     '}{(fault.__doc__ or '').splitlines()[0]}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description="Stage faults on the lab.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="stage a suite of faults and print the table")
    run.add_argument("--suite", choices=("short", "long"), default="short")
    run.add_argument("--seed", type=int)
    run.add_argument("--only", nargs="+", default=[], metavar="FAULT")
    run.add_argument("--times", type=int, help="runs of each fault")
    run.add_argument("--limit-min", type=float, default=0, help="start no run after so many minutes, sabotage apart")
    run.add_argument("--namespace", default="faults")
    run.add_argument("--lab", default="lab")
    run.add_argument("--no-site", action="store_true", help="the set is there already")
    run.set_defaults(handler=cmd_run)
    recheck = commands.add_parser("recheck", help="judge stored histories again")
    recheck.add_argument("folder", type=Path)
    recheck.set_defaults(handler=cmd_recheck)
    commands.add_parser("list", help="the faults").set_defaults(handler=cmd_list)
    return parser


def main(argv: Sequence[str]) -> int:
    """Do what the words say."""
    args = build_parser().parse_args(argv)
    status: int = args.handler(args)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
