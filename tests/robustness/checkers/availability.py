# SPDX-License-Identifier: GPL-3.0-or-later
"""How long clients had no acknowledged write, and whether the run can say anything at all."""

from __future__ import annotations

from tests.robustness.checkers.base import Finding, Verdict
from tests.robustness.history import History


def longest_gap_ns(times: list[int], begin_ns: int, end_ns: int) -> int:
    """The longest time without any of ``times`` between begin and end.

    >>> longest_gap_ns([10, 20, 70], 5, 100)
    50
    """
    inside = sorted(one for one in times if begin_ns <= one <= end_ns)
    return max(b - a for a, b in zip([begin_ns, *inside], [*inside, end_ns], strict=True))


def check_availability(history: History) -> Finding:
    """The longest gap, the time from the fault to the first write that began after it, and to a healthy set.

    It is false only for a fault that clients must not notice, which makes no other pet the writer either; what else is
    too long is for those who read the table.
    """
    times = [one.completed_ns for one in history.acknowledged()]
    begin_ns, end_ns = history.first("inject"), history.last("healthy")
    if not times or begin_ns is None:
        return Finding("availability", Verdict.UNKNOWN, ("nothing acknowledged, or no fault",))
    last_ns = max(times) if end_ns is None else max(end_ns, max(times))
    first_after = min((one.completed_ns for one in history.acknowledged() if one.invoked_ns > begin_ns), default=None)
    figures: dict[str, float | None] = {
        "gap_s": longest_gap_ns(times, min(begin_ns, min(times)), last_ns) / 1e9,
        "first_write_s": None if first_after is None else (first_after - begin_ns) / 1e9,
        "healthy_s": None if end_ns is None else (end_ns - begin_ns) / 1e9,
    }
    gap_s, limit_s = figures["gap_s"] or 0.0, history.meta.gap_limit_s
    if limit_s and gap_s > limit_s:
        why = f"no write was acknowledged for {gap_s:.2f} s, and clients must not notice this fault ({limit_s:g} s)"
        return Finding("availability", Verdict.FALSE, (why,), figures)
    writers = list(dict.fromkeys(one.server for one in history.acknowledged() if one.server))
    if history.meta.keeps_writer and len(writers) > 1:
        why = f"writes were acknowledged by {len(writers)} pets one after the other, and this fault concerns none"
        return Finding("availability", Verdict.FALSE, (why,), figures)
    return Finding("availability", Verdict.TRUE, (), figures)


def check_effect(history: History) -> Finding:
    """The run tested something: the fault's effect was seen, clients tried within it, and wrote again after it.

    What is missing makes the run unknown: a checker that saw nothing would pass otherwise.
    """
    inject, effective = history.first("inject"), history.first("effective")
    healthy = history.last("recovered")
    evidence = []
    if inject is None or effective is None:
        evidence.append("the fault's effect was not seen")
    if inject is not None:
        end = healthy if healthy is not None else max((one.completed_ns for one in history.operations), default=inject)
        if not any(inject <= one.completed_ns and one.invoked_ns <= max(end, inject) for one in history.operations):
            evidence.append("nothing was attempted while the fault was there")
    if healthy is None:
        evidence.append("the fault was not seen to be over")
    elif not any(one.invoked_ns > healthy for one in history.acknowledged()):
        evidence.append("nothing was acknowledged after the fault was over")
    return Finding("effect", Verdict.UNKNOWN if evidence else Verdict.TRUE, tuple(evidence))


def check_healing(history: History) -> Finding:
    """The set got healthy by the means that the fault allows: by itself, or by the playbook where it is said so."""
    meta = history.meta
    if not meta.is_settled:
        return Finding("healing", Verdict.FALSE, ("the set did not get healthy: " + "; ".join(meta.notes),))
    if meta.expect == "site" and meta.healed_by != "site":
        why = f"the playbook should heal it: {meta.healed_by or 'it was not run'}"
        return Finding("healing", Verdict.FALSE, (why, *meta.notes))
    if meta.healed_by and meta.expect in ("heal", "refuse"):
        return Finding("healing", Verdict.FALSE, (f"it should heal by itself, but needed {meta.healed_by}",))
    if history.last("healthy") is None:
        return Finding("healing", Verdict.UNKNOWN, ("the set was not seen healthy after the fault", *meta.notes))
    return Finding("healing", Verdict.TRUE, meta.notes)
