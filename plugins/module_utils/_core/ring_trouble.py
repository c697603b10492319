# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with replication, each by a stable word with what mends it; errors of threads by their numbers."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .ring import Fault


class RingTrouble(enum.Enum):
    """The value is the stable word in results, by which a play may decide."""

    DUPLICATE_KEY = "replication_duplicate_key"
    MISSING_ROW = "replication_missing_row"
    PURGED_LOG = "replication_purged_log"
    PASSWORD = "replication_password"  # noqa: S105 - a word
    TLS = "replication_tls"
    NETWORK = "replication_network"
    RELAY_LOG = "replication_relay_log"
    SAME_SERVER = "replication_same_server"
    ERROR = "replication_error"
    STOPPED = "replication_stopped"
    CONNECTING = "replication_connecting"
    LAG = "replication_lag"
    NOT_SET_UP = "replication_not_set_up"
    REFUSED = "replication_refused"
    PENDING = "replication_pending"
    ERRANT = "errant_transactions"
    LATE = "late_transactions"
    LOST_OWN = "lost_transactions"
    NO_MARKER = "marker_missing"
    UNDER_WAY = "transactions_under_way"
    NOT_READ_ONLY = "not_read_only"
    NOT_OPEN = "not_open"
    NO_WRITER = "no_writer"
    NOT_IN_SYNC = "not_in_sync"
    NO_ACKNOWLEDGEMENT = "no_acknowledgement"
    AUTO_INCREMENT = "auto_increment"
    OLD_PASSWORD = "old_password"  # noqa: S105 - a word
    NO_ANSWER = "not_asked"


_BY_ITSELF: Final = "it tries again each second without limit"
# What each needs; none where time is the answer.
WAYS_OUT: Final[Mapping[RingTrouble, str]] = {
    RingTrouble.DUPLICATE_KEY: "both pets wrote a row with one key: compare the two rows, correct or delete the one"
    " that does not count on the pet that is named, then START REPLICA there; never skip the transaction",
    RingTrouble.MISSING_ROW: "the row that is changed is not there: somebody wrote to one pet alone; bring the row back"
    " on the pet that is named, then START REPLICA there; never skip the transaction",
    RingTrouble.PURGED_LOG: "the binary logs that it needs are gone: keep its volume aside and give the pet an empty"
    " one, then run site: it is seeded by CLONE",
    RingTrouble.PASSWORD: "the Secret and the account differ: set the account's password to that of the Secret on the"
    " writer, or bring the Secret back, then run site",
    RingTrouble.TLS: "the connection has to be encrypted and the certificate to fit: run site, which sets SOURCE_SSL"
    " and the certificates",
    RingTrouble.NETWORK: f"look at the source and at the way to it; {_BY_ITSELF}",
    RingTrouble.RELAY_LOG: "what was received is damaged on this pet and whole at its source: restart this pet's mysqld"
    " (delete the pod), which fetches it anew",
    RingTrouble.SAME_SERVER: "two pets have one server_uuid or server_id: one of them runs on a copy of the other's"
    " folder; find out which before both write",
    RingTrouble.ERROR: "correct what the error names, then START REPLICA on the pet; never skip the transaction",
    RingTrouble.STOPPED: "its agent starts it within seconds; if not, run site, which then does",
    RingTrouble.CONNECTING: _BY_ITSELF,
    RingTrouble.NOT_SET_UP: "run site",
    RingTrouble.REFUSED: "do what the message says; nothing was changed",
    RingTrouble.ERRANT: "decide whose data counts; keep this pet's volume aside, give it an empty one, and run site",
    RingTrouble.LATE: "wait: the ring merges them; look at what they change, nobody was told that they are done",
    RingTrouble.LOST_OWN: "keep this pet's volume aside and give it an empty one, then run site",
    RingTrouble.NO_MARKER: "this pet's data were changed or replaced behind replication: compare the rows of all pets"
    " (status with petset_status_compare), keep its volume aside, give it an empty one, and run site",
    RingTrouble.UNDER_WAY: "look again in some seconds, and see why acknowledgements take long; keep every volume",
    RingTrouble.NOT_READ_ONLY: "see who opened it, then SET GLOBAL super_read_only = ON there; its agent does so too",
    RingTrouble.NO_WRITER: "wait for the agents; see their logs when it lasts",
    RingTrouble.NOT_IN_SYNC: "wait until it has caught up; its agent puts it back",
    RingTrouble.AUTO_INCREMENT: "the pet's option file has the right values, so somebody changed them at run time: SET"
    " GLOBAL both on the pet that is named (sessions that are open keep theirs), or delete the pod",
    RingTrouble.OLD_PASSWORD: "put the password that the data hold into the Secret; nothing is initialised anew",
    RingTrouble.NO_ANSWER: "look at that pet (status tells why it is not ready)",
}

_NUMBERS: Final[Mapping[RingTrouble, frozenset[int]]] = {
    RingTrouble.DUPLICATE_KEY: frozenset({1062, 1586}),
    RingTrouble.MISSING_ROW: frozenset({1032}),
    # 13114 and 13117 wrap another error, which the text names.
    RingTrouble.PURGED_LOG: frozenset({1236, 1789}),
    RingTrouble.PASSWORD: frozenset({1045, 1698, 1862, 3118}),
    RingTrouble.TLS: frozenset({2012, 2026, 2059, 2061, 3159}),
    RingTrouble.NETWORK: frozenset({1129, 1158, 1159, 1160, 1161, 2002, 2003, 2005, 2006, 2013, 2055}),
    RingTrouble.RELAY_LOG: frozenset({1594, 1595, 13121, 13122}),
}
_TEXTS: Final = (
    (RingTrouble.SAME_SERVER, r"equal MySQL server (ids|UUIDs)|same server_\S+ as this replica"),
    (RingTrouble.PURGED_LOG, r"purged|has more GTIDs than the source|Could not find first log file name"),
    (RingTrouble.RELAY_LOG, r"relay log (read|write) failure|Could not parse relay log event"),
)


def classify_fault(fault: Fault) -> RingTrouble:
    """The trouble that an error of a receiver or an applier is.

    The text goes first where one number stands for several errors: 13117 and 13114 wrap others, and the source's 1236
    is about purged logs as well as about a copied server_uuid.

    >>> classify_fault(Fault(1062, "Duplicate entry")).value
    'replication_duplicate_key'
    """
    if not fault:
        return RingTrouble.STOPPED
    for trouble, words in _TEXTS:
        if re.search(words, fault.text, re.IGNORECASE):
            return trouble
    numbers = [fault.number, *(int(one) for one in re.findall(r"(?:error(?:_code)?:? ?|MY-0*)(\d{4,5})\b", fault.text))]
    for number in numbers:
        for trouble, known in _NUMBERS.items():
            if number in known:
                return trouble
    return RingTrouble.ERROR


@dataclass(frozen=True, slots=True)
class Found:
    """One trouble: the pet (empty when it is about the set), the word, what was seen, what mends it."""

    pet: str
    trouble: RingTrouble
    evidence: str
    way_out: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For results, in the form of pet_recovery's troubles."""
        return {
            "pet": self.pet,
            "check": "replication",
            "trouble": self.trouble.value,
            "evidence": self.evidence,
            "way_out": self.way_out or WAYS_OUT.get(self.trouble, ""),
        }


TROUBLES: Final = tuple(one.value for one in RingTrouble)
