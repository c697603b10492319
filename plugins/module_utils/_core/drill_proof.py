# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill has proven, from what was seen before, during and after it. What nobody could see is unknown, and what
is unknown proves nothing.

Times are seconds on the workload's own clock, which begins with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .drill import DrillKind, Identity, UnderWay
from .names import pet_name
from .report import Check, Mark, Report, Span, Timeline, bin_counts, find_gap, merge_lane

Row = tuple[int, int]
"""Number of the connection and number of the write."""

TRUE: Final = "true"
FALSE: Final = "false"
UNKNOWN: Final = "unknown"
WORDS: Final = {TRUE: "proven", FALSE: "failed", UNKNOWN: "unknown"}
_BIN_S: Final = 0.1
# The workload looks at each pet several times a second and tells it at least each second, if nothing hangs.
_PATIENCE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Write:
    """One row that was sent. ``outcome``: ok (acknowledged), fail (surely not done) or info (nobody knows)."""

    client: int
    number: int
    sent_s: float
    ended_s: float
    outcome: str

    @property
    def row(self) -> Row:
        """Its key in the table."""
        return self.client, self.number


@dataclass(frozen=True, slots=True)
class WorkLog:
    """What the workload has told. ``began`` is its wall clock at 0 s, None without a first line.

    ``complete``: it has said its last word, so nothing of it is missing.
    ``looks``     at each pet: time and state
    """

    began: float | None = None
    writes: tuple[Write, ...] = ()
    looks: Mapping[str, tuple[tuple[float, str], ...]] = field(default_factory=dict)
    complete: bool = False
    trouble: str = ""

    @property
    def acknowledged(self) -> tuple[Write, ...]:
        """In the order of their ends."""
        return tuple(sorted((one for one in self.writes if one.outcome == "ok"), key=lambda one: one.ended_s))

    @property
    def end_s(self) -> float:
        """The last time in it."""
        looks = (at for pet in self.looks.values() for at, _state in pet)
        return max((*(one.ended_s for one in self.writes), *looks), default=0.0)


def parse_log(text: str) -> WorkLog:
    """Read the lines of the workload; what is none of its own (a line that was cut) is passed over."""
    began: float | None = None
    writes: list[Write] = []
    looks: dict[str, list[tuple[float, str]]] = {}
    complete, trouble = False, ""
    for line in text.splitlines():
        try:
            told = json.loads(line)
            if "o" in told:
                writes.append(Write(int(told["c"]), int(told["n"]), float(told["s"]), float(told["e"]), str(told["o"])))
            elif "p" in told:
                looks.setdefault(str(told["p"]), []).append((float(told["t"]), str(told["a"])))
            elif "begin" in told:
                began = float(told["begin"])
            elif "end" in told:
                complete = True
            elif "x" in told:
                trouble = str(told["x"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    # A log that was cut at its begin (the kubelet keeps the newest part only) is not complete.
    complete = complete and began is not None
    return WorkLog(began, tuple(writes), {pet: tuple(sorted(one)) for pet, one in looks.items()}, complete, trouble)


@dataclass(frozen=True, slots=True)
class Seen:
    """All that was seen of a drill. None: nobody could tell.

    ``recovered_s``   from the crash until everything was judged well again, None when it was not in time
    ``why_not``       then why
    ``rows``          what each pet has in the drill's table
    ``gtids``         each pet's set; ``gtids_agree``: whether none has what another lacks
    ``proxies``       None: there are none to look at
    ``errant``        by pet, transactions that it alone has
    ``dns_s``         from the pods being ready until every name led to its pod
    """

    drill: UnderWay
    replicas: int
    log: WorkLog
    struck_s: float
    healed_s: float
    after: Mapping[str, Identity] = field(default_factory=dict)
    recovered_s: float | None = None
    why_not: str = ""
    rows: Mapping[str, frozenset[Row] | None] = field(default_factory=dict)
    gtids: Mapping[str, str] = field(default_factory=dict)
    gtids_agree: bool | None = None
    errant: Mapping[str, str] | None = None
    replication: str = UNKNOWN
    replication_words: str = ""
    proxies: str | None = UNKNOWN
    proxies_words: str = ""
    dns_s: float | None = None
    dns_right: bool | None = None
    dns_ttl_s: float = 30.0
    marks: tuple[Mark, ...] = ()


def redact_seen(seen: Seen, hide: Callable[[str], str]) -> Seen:
    """The same without secrets in what MySQL, the pets and the proxies said: a proof quotes it. The log has none."""
    return replace(
        seen,
        why_not=hide(seen.why_not),
        replication_words=hide(seen.replication_words),
        proxies_words=hide(seen.proxies_words),
    )


@dataclass(frozen=True, slots=True)
class Proof:
    """The findings with the figures. ``verdict`` is true, false or unknown."""

    checks: tuple[Check, ...]
    figures: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The worst of all; nothing seen is unknown."""
        found = {one.verdict for one in self.checks}
        return FALSE if FALSE in found else UNKNOWN if UNKNOWN in found or not found else TRUE

    @property
    def word(self) -> str:
        """For the record."""
        return WORDS[self.verdict]

    def describe(self) -> str:
        """One line."""
        for verdict, lead in ((FALSE, "not so"), (UNKNOWN, "not known")):
            found = [one for one in self.checks if one.verdict == verdict]
            if found:
                return f"{lead}: " + "; ".join(f"{one.name}: {', '.join(one.evidence)}" for one in found)
        gap, rows = self.figures.get("gap_s"), self.figures.get("acknowledged")
        return f"all {rows} acknowledged rows are on every pet; the longest time without a write was {gap:.1f} s"


def prove(seen: Seen) -> Proof:
    """Judge a drill."""
    kind = DrillKind(seen.drill.kind)
    names = tuple(pet_name_of(seen, ordinal) for ordinal in range(seen.replicas))
    checks = (
        _recovered(seen),
        _same(seen, names, "identity", ("index", "claim_uid", "volume", "volume_uid"), "ordinal, claim and volume"),
        _same(seen, names, "server_uuid", ("server_uuid",), "server_uuid"),
        _renewed(seen, kind),
        _dns(seen),
        _rows(seen, names),
        _agree(seen),
        _errant(seen),
        Check("replication", seen.replication, _said(seen.replication, seen.replication_words)),
        *([] if seen.proxies is None else [Check("proxies", seen.proxies, _said(seen.proxies, seen.proxies_words))]),
        _writes(seen),
    )
    return Proof(checks, _figures(seen, names))


def pet_name_of(seen: Seen, ordinal: int) -> str:
    """By the set's name, which every pet's name begins with."""
    some = next(iter((*seen.drill.before, *seen.drill.pets)), "")
    return pet_name(some.rpartition("-")[0], ordinal)


def _said(verdict: str, words: str) -> tuple[str, ...]:
    return () if verdict == TRUE else (words or "nobody could tell",)


def _recovered(seen: Seen) -> Check:
    if seen.recovered_s is None:
        return Check("recovered", FALSE, (seen.why_not or "not in time",))
    return Check("recovered", TRUE)


def _worst(found: Iterable[tuple[str, str]], name: str) -> Check:
    """A check of verdicts with their evidence; the evidence of the worst ones only."""
    found = list(found)
    for verdict in (FALSE, UNKNOWN):
        evidence = tuple(text for one, text in found if one == verdict)
        if evidence:
            return Check(name, verdict, evidence)
    return Check(name, TRUE if found else UNKNOWN, () if found else ("nothing was seen",))


def _same(seen: Seen, names: Sequence[str], name: str, fields: Sequence[str], what: str) -> Check:
    """Every pet is who it was."""

    def one(pet: str) -> tuple[str, str]:
        before, after = seen.drill.before.get(pet), seen.after.get(pet)
        if before is None or after is None:
            return UNKNOWN, f"{pet}: {what} {'before' if before is None else 'afterwards'} not known"
        changed = [key for key in fields if getattr(before, key) != getattr(after, key)]
        blank = [key for key in fields if not getattr(before, key) or not getattr(after, key)]
        if blank:
            return UNKNOWN, f"{pet}: {', '.join(blank)} not known"
        told = ", ".join(f"{key} was {getattr(before, key)}, is {getattr(after, key)}" for key in changed)
        return (FALSE, f"{pet}: {told}") if changed else (TRUE, "")

    return _worst(map(one, names), name)


def was_renewed(kind: DrillKind, before: Identity | None, after: Identity | None) -> bool | None:
    """Whether the crash is seen in a pet's pod: another pod, or containers that were started again.

    None: nobody can tell. True for what leaves pods alone (the NFS server).
    """
    if kind is DrillKind.NFS_RESTART:
        return True
    if before is None or after is None or not before.pod_uid or not after.pod_uid:
        return None
    if before.pod_uid != after.pod_uid:
        # A pod that was to stay and is another one: it is not the crash that was staged.
        return not kind.restarts
    if kind.replaces_pod:
        return False
    wanted = kind.restarts or ("mysqld",)
    return all(after.restarts.get(name, 0) > before.restarts.get(name, 0) for name in wanted)


def _renewed(seen: Seen, kind: DrillKind) -> Check:
    """What was hit was really hit, and nothing more."""

    def one(pet: str) -> tuple[str, str]:
        before, after = seen.drill.before.get(pet), seen.after.get(pet)
        told = was_renewed(kind, before, after)
        if told is None or before is None or after is None:
            return UNKNOWN, f"{pet}: its pod was not seen"
        if told:
            return TRUE, ""
        if kind.restarts:
            pods = "" if before.pod_uid == after.pod_uid else ", and the pod is another one"
            return FALSE, f"{pet}: {' and '.join(kind.restarts)} should have been started again{pods}"
        return FALSE, f"{pet}: the pod is still {before.pod_uid} and its mysqld was not started again"

    return _worst(map(one, seen.drill.pets), "crash seen")


def _dns(seen: Seen) -> Check:
    if seen.dns_right is None:
        return Check("dns", UNKNOWN, ("no pet could look its peers' names up",))
    if not seen.dns_right or seen.dns_s is None:
        return Check("dns", FALSE, ("a name does not lead to its pod",))
    if seen.dns_s > seen.dns_ttl_s:
        text = f"names led elsewhere for {seen.dns_s:.1f} s, their answers live {seen.dns_ttl_s:.0f} s"
        return Check("dns", FALSE, (text,))
    return Check("dns", TRUE)


def _rows(seen: Seen, names: Sequence[str]) -> Check:
    """Every acknowledged row is on every pet, and none that nobody wrote."""
    wanted = {one.row for one in seen.log.acknowledged}
    possible = {one.row for one in seen.log.writes if one.outcome != "fail"}

    def one(pet: str) -> tuple[str, str]:
        rows = seen.rows.get(pet)
        if rows is None:
            return UNKNOWN, f"{pet}: its rows could not be read"
        missing, strange = wanted - rows, rows - possible
        if missing:
            return FALSE, f"{pet} lacks {len(missing)} of {len(wanted)} acknowledged rows: {_some(missing)}"
        if strange and seen.log.complete:
            return FALSE, f"{pet} has {len(strange)} rows that nobody wrote: {_some(strange)}"
        return TRUE, ""

    found = list(map(one, names))
    if not wanted:
        found.append((UNKNOWN, "no row was acknowledged"))
    if not seen.log.complete:
        found.append((UNKNOWN, f"the log of the workload is not whole {seen.log.trouble}".strip()))
    return _worst(found, "acknowledged rows")


def _some(rows: Iterable[Row], count: int = 5) -> str:
    ordered = sorted(rows)
    shown = ", ".join(f"{client}/{number}" for client, number in ordered[:count])
    return shown + (", …" if len(ordered) > count else "")


def _agree(seen: Seen) -> Check:
    if seen.gtids_agree is None:
        return Check("GTID sets", UNKNOWN, ("not every pet could be asked",))
    if not seen.gtids_agree:
        return Check("GTID sets", FALSE, tuple(f"{pet}: {text}" for pet, text in sorted(seen.gtids.items())))
    return Check("GTID sets", TRUE)


def _errant(seen: Seen) -> Check:
    if seen.errant is None:
        return Check("errant transactions", UNKNOWN, ("not every pet could be asked",))
    found = tuple(f"{pet} alone has {text}" for pet, text in sorted(seen.errant.items()) if text)
    return Check("errant transactions", FALSE if found else TRUE, found)


def _writes(seen: Seen) -> Check:
    """Clients wrote before it, and again after it."""
    before = any(one.ended_s <= seen.struck_s for one in seen.log.acknowledged)
    after = any(one.sent_s >= seen.healed_s for one in seen.log.acknowledged)
    if not before:
        return Check("clients", UNKNOWN, ("no write was acknowledged before the crash",))
    if not after:
        verdict = FALSE if seen.log.complete else UNKNOWN
        return Check("clients", verdict, ("no write was acknowledged after the crash",))
    return Check("clients", TRUE)


def _gap(seen: Seen) -> Span | None:
    """The longest time without an acknowledged write, from the last one before the crash on."""
    ended = [one.ended_s for one in seen.log.acknowledged]
    end_s = seen.log.end_s
    begin_s = max((at for at in ended if at <= seen.struck_s), default=min(seen.struck_s, end_s))
    return find_gap(ended, begin_s, end_s)


def _figures(seen: Seen, names: Sequence[str]) -> dict[str, Any]:
    acknowledged = seen.log.acknowledged
    wanted = {one.row for one in acknowledged}
    known = [rows for pet in names if (rows := seen.rows.get(pet)) is not None]
    lost = None if len(known) < len(names) or not seen.log.complete else len({*wanted} - frozenset.intersection(*known))
    gap = _gap(seen)
    return {
        "acknowledged": len(acknowledged),
        "unknown_fate": sum(one.outcome == "info" for one in seen.log.writes),
        "lost": lost,
        "gap_s": None if gap is None else round(gap.end_s - gap.begin_s, 2),
        # Not the first one that was sent after the crash: two clocks and a request lie between, and it may have been
        # acknowledged before anything was hit.
        "first_write_s": None if gap is None else round(max(0.0, gap.end_s - seen.struck_s), 2),
        "recovered_s": None if seen.recovered_s is None else round(seen.recovered_s, 1),
        "dns_s": None if seen.dns_s is None else round(seen.dns_s, 1),
        "others_restarted": sum(_was_touched(seen, pet) for pet in names if pet not in seen.drill.pets),
    }


def _was_touched(seen: Seen, pet: str) -> bool:
    """Whether a pet that was not hit has another pod, or a container that was started again."""
    before, after = seen.drill.before.get(pet), seen.after.get(pet)
    return (
        before is not None
        and after is not None
        and (before.pod_uid, before.restarts)
        != (
            after.pod_uid,
            after.restarts,
        )
    )


# --- the report -------------------------------------------------------------------------------------------------------

_FACTS: Final = {
    "acknowledged": ("acknowledged writes", ""),
    "unknown_fate": ("writes of unknown fate", ""),
    "lost": ("acknowledged writes lost", ""),
    "gap_s": ("longest time without a write", " s"),
    "first_write_s": ("crash to the first write after that", " s"),
    "recovered_s": ("crash to everything judged well", " s"),
    "dns_s": ("pods ready to all names right", " s"),
    "others_restarted": ("pets that were not hit and started again as well", ""),
}


def build_timeline(seen: Seen) -> Timeline:
    """Acknowledged writes over the time, the crash, what happened, and what each pet's agent said."""
    end_s = max(seen.log.end_s, _BIN_S)
    ended = [one.ended_s for one in seen.log.acknowledged]
    fault = Span(seen.struck_s, max(seen.healed_s, seen.struck_s), seen.drill.kind)
    marks = (Mark(seen.struck_s, f"{seen.drill.kind}: {', '.join(seen.drill.pets)}"), *seen.marks)
    return Timeline(
        _BIN_S,
        bin_counts(ended, end_s, _BIN_S),
        (fault,),
        tuple(sorted((one for one in marks if 0 <= one.at_s <= end_s), key=lambda one: one.at_s)),
        tuple(merge_lane(pet, looks, end_s, _PATIENCE_S) for pet, looks in sorted(seen.log.looks.items())),
        _gap(seen),
    )


def build_drill_report(subject: str, seen: Seen, proof: Proof, revision: str) -> Report:
    """All of a drill for a person."""
    facts = [
        ("kind", seen.drill.kind),
        ("pets", ", ".join(seen.drill.pets)),
        ("revision", revision),
        *(
            (title, "not known" if value is None else f"{value}{unit}")
            for key, (title, unit) in _FACTS.items()
            for value in [proof.figures.get(key)]
        ),
    ]
    return Report(
        f"Drill {seen.drill.kind} on {subject}",
        seen.drill.began,
        proof.verdict,
        proof.describe(),
        tuple(facts),
        proof.checks,
        build_timeline(seen),
    )
