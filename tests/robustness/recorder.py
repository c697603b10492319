# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of the client library says about the transaction: surely not done, or unknown. Never more than that."""

from __future__ import annotations

from tests.robustness.history import Outcome

# Errors of the server's that refuse a statement before it can have changed anything that stays. What is not here is
# unknown: with autocommit an error during or after the wait for the acknowledgement looks like any other.
# Source: MySQL 9.x reference, server error messages.
SURELY_NOT_DONE = frozenset(
    {
        1040,  # too many connections
        1044,  # access denied to the schema
        1045,  # access denied
        1049,  # unknown database
        1062,  # duplicate key: the row that is there is another's
        1064,  # syntax
        1129,  # host is blocked
        1130,  # host is not allowed
        1142,  # no grant
        1146,  # no such table
        1205,  # lock wait time-out: this statement is rolled back
        1213,  # deadlock: this transaction is rolled back
        1290,  # --read-only, --super-read-only
        1792,  # read only transaction
        1836,  # read only mode
        3032,  # offline mode, at login
    }
)
# The connection was never made, so no statement was sent.
NOT_CONNECTED = frozenset({2002, 2003, 2005})


def classify(number: int | None, *, was_sent: bool) -> Outcome:
    """The outcome of an operation that ended in an error.

    ``number``    the library's error number; None for an error without one (a time-out of a socket, TLS)
    ``was_sent``  whether the statement may have left this host
    """
    if not was_sent or number in NOT_CONNECTED or number in SURELY_NOT_DONE:
        return Outcome.FAIL
    return Outcome.INFO


def error_number(error: BaseException) -> int | None:
    """The number in an error of PyMySQL: its first argument, if that is a number."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and not isinstance(first, bool) else None
