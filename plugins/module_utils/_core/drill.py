# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill: a staged crash. What may be staged, when, what is remembered of it, and whether it has to be run at all.

What is remembered stands in two annotations of the StatefulSet itself, never of its pod template: the drill that is
under way, so that a run that was killed in the middle is recognised by the next one, and the record of those that were.
"""

from __future__ import annotations

import datetime
import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .errors import InvalidInput, Refused
from .names import PREFIX, pet_name

ANNOTATION_RECORD: Final = f"{PREFIX}/drills"
ANNOTATION_UNDER_WAY: Final = f"{PREFIX}/drill"
LABEL_PRODUCTION: Final = f"{PREFIX}/production"
WRITER: Final = "writer"
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)", re.ASCII)


class DrillKind(enum.Enum):
    """What is staged."""

    POD_DELETE = "pod_delete"
    MYSQLD_KILL = "mysqld_kill"
    CONTAINER_KILL = "container_kill"
    BOTH_PETS = "both_pets"
    NODE_POWER_OFF = "node_power_off"
    NFS_RESTART = "nfs_restart"

    @property
    def by_hook(self) -> bool:
        """Whether somebody else than the module stages it."""
        return self in (DrillKind.NODE_POWER_OFF, DrillKind.NFS_RESTART)

    @property
    def hits_all(self) -> bool:
        """Whether every pet is hit."""
        return self in (DrillKind.BOTH_PETS, DrillKind.NFS_RESTART)

    @property
    def replaces_pod(self) -> bool:
        """Whether another pod has to come."""
        return self in (DrillKind.POD_DELETE, DrillKind.BOTH_PETS)

    @property
    def restarts(self) -> tuple[str, ...]:
        """Containers that have to be started again in the pod that stays."""
        return {
            DrillKind.MYSQLD_KILL: ("mysqld",),
            DrillKind.CONTAINER_KILL: ("mysqld", "agent"),
        }.get(self, ())


# --- when it must not be ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which nothing is staged: minutes of the day, and the days on which it begins (0 is Monday)."""

    text: str
    days: frozenset[int]
    begin: int
    end: int

    def holds(self, moment: datetime.datetime) -> bool:
        """Whether a moment, in the windows' own time zone, lies in it. Past midnight the day is that of its begin."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


def parse_window(variable: str, text: Any) -> Window:
    """``mon-fri 08:00-18:00``, ``sat,sun 00:00-24:00``, ``22:00-02:00`` (each day). InvalidInput."""
    allowed = "[days] HH:MM-HH:MM, for example mon-fri 08:00-18:00, sat,sun 00:00-24:00 or 22:00-02:00"
    found = _WINDOW.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None:
        raise InvalidInput(variable, text, "not a window", allowed)
    begin, end = (_minute(variable, text, found[name], allowed) for name in ("begin", "end"))
    if begin == end or begin == 24 * 60:
        raise InvalidInput(variable, text, "it has no length, or begins at 24:00", allowed)
    return Window(text, _parse_days(variable, text, found["days"], allowed), begin, end)


def _minute(variable: str, text: str, time: str, allowed: str) -> int:
    hour, minute = map(int, time.split(":"))
    if minute > 59 or hour * 60 + minute > 24 * 60:
        raise InvalidInput(variable, text, f"{time} is no time of day", allowed)
    return hour * 60 + minute


def _parse_days(variable: str, text: str, days: str | None, allowed: str) -> frozenset[int]:
    if not days:
        return frozenset(range(7))
    found: set[int] = set()
    for part in days.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not set(ends) <= set(_DAYS):
            raise InvalidInput(variable, text, f"{part!r} is no day", allowed)
        first, last = _DAYS.index(ends[0]), _DAYS.index(ends[-1])
        found |= {day % 7 for day in range(first, last + (1 if last >= first else 8))}
    return frozenset(found)


def find_window(windows: Sequence[Window], begin: datetime.datetime, length_s: float) -> Window | None:
    """The first window that a drill of that length, begun then, would be in."""
    for minute in range(int(length_s // 60) + 2):
        moment = begin + datetime.timedelta(seconds=min(minute * 60, length_s))
        for window in windows:
            if window.holds(moment):
                return window
    return None


# --- what is remembered -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """What a pet is known by. ``restarts``: how often each of its containers was started again."""

    index: str
    pod_uid: str
    claim_uid: str
    volume: str
    volume_uid: str
    server_uuid: str
    node: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A drill that has begun and is not cleaned up after. Times are UTC as in ``format_time``.

    ``pet``       the word that the user chose; ``pets``: who that was
    ``nodes``     where each of them ran
    ``struck``    when the crash was staged; empty before
    ``offset_s``  the clock of the workload less that of the controller
    ``before``    who every pet of the set was
    ``ended``     the verdict that is recorded of it, when only the cleaning up is left; empty before
    """

    id: str
    kind: str
    pet: str
    pets: tuple[str, ...]
    nodes: tuple[str, ...]
    began: str
    struck: str = ""
    offset_s: float = 0.0
    before: Mapping[str, Identity] = field(default_factory=dict)
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A drill that was. ``verdict``: proven, failed, unknown or interrupted."""

    kind: str
    pet: str
    revision: str
    at: str
    verdict: str
    summary: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """One line."""
        return f"{self.kind} of {self.pet} at {self.at}, revision {self.revision}: {self.verdict}"


def format_time(at: datetime.datetime) -> str:
    """UTC with microseconds, as it is sorted and read."""
    return at.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime.datetime | None:
    """None: it is no such time."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return None


def key_of(kind: DrillKind, pet: str) -> str:
    """Under which a drill is recorded: what was asked for, not who happened to be the writer."""
    return kind.value if kind.hits_all else f"{kind.value} {pet}"


def render_under_way(drill: UnderWay) -> str:
    """For the annotation."""
    return json.dumps(asdict(drill), sort_keys=True, separators=(",", ":"))


def parse_under_way(text: str | None) -> UnderWay | None:
    """None: no drill is under way. One that cannot be read is one all the same, of which nothing is known."""
    if not text:
        return None
    try:
        told = json.loads(text)
        return UnderWay(
            **{
                **told,
                "pets": tuple(told["pets"]),
                "nodes": tuple(told["nodes"]),
                "before": {name: Identity(**one) for name, one in told["before"].items()},
            }
        )
    except (TypeError, KeyError, AttributeError, ValueError):
        return UnderWay("", "unknown", "unknown", (), (), "")


def render_records(records: Mapping[str, Record]) -> str:
    """For the annotation."""
    told = {key: asdict(one) for key, one in records.items()}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def parse_records(text: str | None) -> dict[str, Record]:
    """By key. What cannot be read is no proof: it is left out."""
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return {}
    found = {}
    for key, one in told.items() if isinstance(told, Mapping) else ():
        try:
            found[str(key)] = Record(**one)
        except TypeError:
            continue
    return found


# --- what has to be done ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrillWish:
    """What the user wants, checked.

    ``pet``          ``writer`` or a pet's name
    ``max_age_s``    for how long a proof is good
    ``limit_s``      within which everything has to be well again
    ``production``   None: the labels of the set and of its namespace say so
    ``dns_ttl_s``    for how long the cluster's DNS may give an old answer
    ``address``      where clients connect, port included
    """

    kind: DrillKind
    set_name: str
    namespace: str
    pet: str = WRITER
    max_age_s: float = 604800
    limit_s: float = 300
    production: bool | None = None
    confirm: str = ""
    windows: tuple[Window, ...] = ()
    dns_ttl_s: float = 30
    host: str = ""
    port: int = 3306

    @property
    def key(self) -> str:
        """Under which it is recorded."""
        return key_of(self.kind, self.pet)

    def aim(self, replicas: int, writer: str | None) -> tuple[str, ...]:
        """The pets that are hit. Refused: there is no such pet, or no writer."""
        pets = tuple(pet_name(self.set_name, ordinal) for ordinal in range(replicas))
        if self.kind.hits_all:
            return pets
        wanted = writer if self.pet == WRITER else self.pet
        if wanted not in pets:
            raise Refused(
                f"pet {self.pet}",
                "there is no writer" if self.pet == WRITER else f"the set has the pets {', '.join(pets)}",
                way_out="name one of them, or 'writer'",
            )
        return (str(wanted),)


@dataclass(frozen=True, slots=True)
class Decision:
    """What has to be done, and ``why``, a sentence.

    ``word``  ``nothing`` (proven), ``heal`` (another is under way, or not cleaned up after) or ``run``
    """

    word: str
    why: str
    record: Record | None = None
    under_way: UnderWay | None = None


def decide(
    wish: DrillWish,
    revision: str,
    records: Mapping[str, Record],
    under_way: UnderWay | None,
    now: datetime.datetime,
) -> Decision:
    """Whether the drill has to be run. A proof counts for its revision only, and only so long."""
    record = records.get(wish.key)
    if under_way is not None:
        how = f"was not cleaned up after (its record stays: {under_way.ended})" if under_way.ended else "did not end"
        why = f"a drill ({under_way.kind} of {under_way.pet}, begun {under_way.began or 'some time'}) {how}"
        return Decision("heal", why, record, under_way)
    if record is None:
        return Decision("run", f"{wish.key} was never tried")
    at = parse_time(record.at)
    age_s = None if at is None else (now - at).total_seconds()
    if record.verdict != "proven":
        return Decision("run", f"the last one was not proven: {record.describe()}", record)
    if not revision or record.revision != revision:
        return Decision("run", f"the set is at revision {revision}, proven is {record.revision}", record)
    if age_s is None or not 0 <= age_s <= wish.max_age_s:
        return Decision("run", f"the proof is not of the last {wish.max_age_s:.0f} s: {record.describe()}", record)
    return Decision("nothing", f"proven already: {record.describe()}", record)


def refuse_production(wish: DrillWish, labels: Sequence[Mapping[str, str] | None]) -> None:
    """Refused: it is production and nobody has said its name. Labels that could not be read (None) may say so."""
    told = wish.production
    if told is None:
        told = any(one is None or str(one.get(LABEL_PRODUCTION, "")).lower() == "true" for one in labels)
    name = f"{wish.namespace}/{wish.set_name}"
    if told and wish.confirm != name:
        raise Refused(
            f"set {name}",
            "it is production" if all(one is not None for one in labels) or wish.production
            else "it may be production: the labels of its namespace could not be read",
            way_out=f"set confirm: {name} if clients may miss it for a while",
        )  # fmt: skip
