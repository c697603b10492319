# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a binary log, made up event by event; logs of real servers are read in tests/api."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import pytest

from tests.unit.roles.pet_set import agent_rig  # noqa: F401

from petset_agent import binlog  # isort: skip

ME = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
PEER = "9b0c3d52-71ca-11e1-9e33-c80aa9429562"


def sid(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))


def event(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("<IBIIIH", 1, kind, 1000, 19 + len(body), 0, flags) + body


def previous(*held: tuple[str, int, int]) -> bytes:
    body = struct.pack("<Q", len(held))
    for uuid, first, last in held:
        body += sid(uuid) + struct.pack("<Qqq", 1, first, last + 1)
    return event(35, body)


def transaction(uuid: str, number: int) -> bytes:
    gtid = event(33, struct.pack("<B16sqB", 0, sid(uuid), number, 2) + b"\0" * 16)
    return gtid + event(2, b"BEGIN") + event(16, b"\0" * 8)


def log(
    *transactions: tuple[str, int], before: Sequence[tuple[str, int, int]] = ((ME, 1, 10),), in_use: bool = True
) -> bytes:
    head = binlog.MAGIC + event(15, b"\0" * 90, int(in_use)) + previous(*before)
    return head + b"".join(transaction(*one) for one in transactions)


def read(data: bytes) -> binlog.Log:
    return binlog.read_log(io.BytesIO(data), len(data))


def test_transactions_with_their_places() -> None:
    data = log((ME, 11), (PEER, 5), (ME, 12))
    found = read(data)
    assert found.in_use
    assert found.before == {ME: ((1, 10),)}
    transactions = list(found.transactions)
    assert [str(one) for one in transactions] == [f"{ME}:11", f"{PEER}:5", f"{ME}:12"]
    assert data[: transactions[2].offset] == log((ME, 11), (PEER, 5))


@pytest.mark.parametrize("chunk", [19, 20, 60, 97, 1 << 20])
def test_events_across_the_ends_of_what_is_read_at_once(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(binlog, "_READ_BYTES", chunk)
    data = log(*((ME, number) for number in range(11, 40)), (PEER, 5))
    numbers = [one.number for one in read(data).transactions]
    assert numbers == [*range(11, 40), 5]


@pytest.mark.parametrize("lost", [1, 18, 19, 30])
def test_an_event_that_is_cut_off_is_left_out(lost: int) -> None:
    data = log((ME, 11)) + event(33, struct.pack("<B16sqB", 0, sid(ME), 12, 2))[:-lost]
    assert [one.number for one in read(data).transactions] == [11]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xfdbin" + b"\0" * 600, "encrypted"),
        (b"", "no binary log"),
        (b"hello", "no binary log"),
        (binlog.MAGIC + event(15, b"\0" * 90), "in the logs before"),
        (log() + event(42, b"\0" * 30), "plain GTID"),
        (log() + event(34, b"\0" * 30), "plain GTID"),
        (binlog.MAGIC + event(15, b"\0" * 90) + event(35, struct.pack("<Q", 1 << 56 | 1)), "tags"),
    ],
)
def test_what_is_not_cut(data: bytes, why: str) -> None:
    with pytest.raises(binlog.NotReadable, match=why):
        list(read(data).transactions)


def plan(data: bytes, theirs: str) -> binlog.Cut | None:
    return binlog.plan_cut(read(data), ME, binlog.parse_set(theirs))


def test_only_what_the_new_writer_has_not_is_cut() -> None:
    data = log((ME, 11), (ME, 12), (ME, 13))
    cut = plan(data, f"{ME}:1-11, {PEER}:1-90")
    assert cut is not None
    assert data[: cut.offset] == log((ME, 11))
    assert [one.number for one in cut.transactions] == [12, 13]
    assert plan(data, f"{ME}:1-13") is None
    assert plan(log((ME, 11), in_use=False), f"{ME}:1-10") is None, "closed in order: it is committed"


def test_what_the_new_writer_wrote_may_stand_behind() -> None:
    """Seen on the lab (node-pause): the receiver of a pet that woke was faster than its agent."""
    data = log((ME, 11), (ME, 12), (PEER, 5), (ME, 13), (PEER, 6))
    cut = plan(data, f"{ME}:1-11, {PEER}:1-6")
    assert cut is not None
    assert data[: cut.offset] == log((ME, 11))
    assert [one.number for one in cut.transactions] == [12, 13]


def test_an_end_that_cannot_be_cut() -> None:
    with pytest.raises(binlog.NotReadable, match=r"behind .*:11, .* stands .*:12"):
        plan(log((ME, 11), (ME, 12)), f"{ME}:1-10:12")
    with pytest.raises(binlog.NotReadable, match=f"stands {PEER}:5 of another server"):
        plan(log((ME, 11), (PEER, 5)), f"{ME}:1-10, {PEER}:1-4")
    with pytest.raises(binlog.NotReadable, match="logs before"):
        plan(log((ME, 11)), f"{ME}:1-9")


def test_sets() -> None:
    assert binlog.is_subset_of(((1, 10),), ((1, 4), (5, 10)))
    assert not binlog.is_subset_of(((1, 10),), ((1, 4), (6, 10)))
    with pytest.raises(binlog.NotReadable, match="tags"):
        binlog.parse_set(f"{ME}:tag:1-3")
