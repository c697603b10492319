# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.stateful.petset.plugins.module_utils._core.gtid import LAST, BadGtidSet, GtidSet
from hypothesis import given
from hypothesis import strategies as st

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"

# The naive model: each GTID by itself.
Model = frozenset[tuple[str, str, int]]


@st.composite
def written(draw: st.DrawFn) -> tuple[str, Model]:
    """A text as somebody may write it, and what it means."""
    model: set[tuple[str, str, int]] = set()
    parts = []
    for _part in range(draw(st.integers(0, 4))):
        uuid = draw(st.sampled_from([A, B]))
        words = [draw(st.sampled_from([uuid, uuid.upper(), uuid.replace("-", "")]))]
        tag = ""
        for _word in range(draw(st.integers(1, 4))):
            if draw(st.booleans()):
                tag = draw(st.sampled_from(["one", "_two"]))
                words.append(draw(st.sampled_from([tag, tag.upper()])))
            first, last = draw(st.integers(1, 30)), draw(st.integers(1, 30))
            words.append(f"{first}-{last}" if first != last else str(first))
            model |= {(uuid, tag, number) for number in range(first, last + 1)}
        blank = draw(st.sampled_from(["", " ", "\n"]))
        parts.append(f"{blank}:{blank}".join(words))
    return draw(st.sampled_from([",", ",\n", " , "])).join(parts), frozenset(model)


def model_of(some: GtidSet) -> Model:
    return frozenset((uuid, tag, n) for (uuid, tag), first, last in some.intervals() for n in range(first, last + 1))


@given(written())
def test_reads_what_is_written(one: tuple[str, Model]) -> None:
    text, model = one
    read = GtidSet.parse(text)
    assert model_of(read) == model
    assert len(read) == len(model)
    assert bool(read) is bool(model)
    assert read.uuids() == {uuid for uuid, _tag, _n in model}
    assert GtidSet.parse(str(read)) == read
    assert str(GtidSet.parse(str(read))) == str(read)


@given(written(), written())
def test_counts_like_sets(one: tuple[str, Model], two: tuple[str, Model]) -> None:
    left, right = GtidSet.parse(one[0]), GtidSet.parse(two[0])
    assert model_of(left | right) == one[1] | two[1]
    assert model_of(left - right) == one[1] - two[1]
    assert model_of(left & right) == one[1] & two[1]
    assert left.issubset(right) is one[1].issubset(two[1])
    assert (left <= right) is (one[1] <= two[1])
    assert (left == right) is (one[1] == two[1])
    assert model_of(left.of([A.upper()])) == {entry for entry in one[1] if entry[0] == A}
    if left == right:
        assert hash(left) == hash(right)


def test_writes_what_mysql_writes() -> None:
    text = f"{B}:9,{A.upper()}:tag:7-8:1-3,\n{A}:5:1-3:4"
    assert str(GtidSet.parse(text)) == f"{A}:1-5:tag:1-3:7-8,{B}:9"
    assert str(GtidSet()) == ""
    assert f"{A}:2" in GtidSet.parse(f"{A}:1-3")
    assert f"{A}:tag:2" not in GtidSet.parse(f"{A}:1-3")
    assert "1-5" in repr(GtidSet.parse(f"{A}:1-5"))
    assert GtidSet.parse(f"{{{A}}}:1") == GtidSet.parse(f"{A}:1")
    assert GtidSet() != ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense:1", "is not a UUID"),
        (A, "no interval after the UUID"),
        (f"{A}:", "neither an interval nor a tag"),
        (f"{A}:0", f"not within 1 to {LAST}"),
        (f"{A}:1-{LAST + 1}", f"not within 1 to {LAST}"),
        (f"{A}:1-2-3", "neither an interval nor a tag"),
        (f"{A}:-1", "neither an interval nor a tag"),
        (f"{A}:tag", "no interval after tag 'tag'"),
        (f"{A}:tag:other:1", "no interval after tag 'tag'"),
        (f"{A}:{'t' * 33}:1", "neither an interval nor a tag"),
        (f"{A}:٣", "neither an interval nor a tag"),
    ],
)
def test_names_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(BadGtidSet, match=reason):
        GtidSet.parse(text)
