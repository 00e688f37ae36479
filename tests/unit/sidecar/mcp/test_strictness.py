"""What two JSON readers could understand differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.mcp.strictness import (
    MAX_DEPTH,
    MEMBERS,
    MessageError,
    look_closely,
    plain,
    refuse_deep,
    refuse_duplicates,
    refuse_lookalikes,
    without_halves,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, inside: bytes = b"1") -> bytes:
    return b"[" * levels + inside + b"]" * levels


@pytest.mark.parametrize("inside", [b"1", b'"]]]]"', rb'"\"]]\\"', rb'"\"[[["', b'"a","b"', b'{"a":"["}'])
def test_as_many_levels_as_there_may_be_pass_and_one_more_does_not(inside: bytes) -> None:
    deepest = MAX_DEPTH - (inside[:1] == b"{")
    refuse_deep(nested(deepest, inside), b"7")
    with pytest.raises(MessageError, match="512 levels") as refused:
        refuse_deep(nested(deepest + 1, inside), b"7")
    assert refused.value.message_id == b"7"


def test_many_brackets_side_by_side_are_not_deep() -> None:
    refuse_deep(b"[%b[]]" % (b"[]," * 5000), b"7")
    refuse_deep(b'["%b"]' % (b"[" * 5000), b"7")


@given(VALUES)
def test_what_has_each_name_once_is_taken_however_it_is_written(value: Any) -> None:
    body = {"a": value, "b": [value]}
    for written in (json.dumps(body), json.dumps(body, indent=2), json.dumps(body, ensure_ascii=False)):
        refuse_duplicates(written.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":1, "a" :1}',
        rb'{"a":1,"\u0061":2}',
        b'[{"x":{"a":1,"b":2,"a":3}}]',
    ],
)
def test_a_name_that_stands_twice_is_refused_at_any_depth(body: bytes) -> None:
    with pytest.raises(MessageError, match="stands twice"):
        refuse_duplicates(body)


def test_numbers_of_any_length_are_not_looked_at() -> None:
    refuse_duplicates(b'{"a":%b}' % (b"7" * 5000))


@pytest.mark.parametrize(
    ("raw", "surely"),
    [(b'{"a":1,"b":"x"}', True), (b"{}", False), (b'{"a":1,"a":2}', False), (b'{"a": 1}', False)],
)
def test_by_its_length_alone_an_object_is_known_to_have_each_name_once(raw: bytes, surely: bool) -> None:
    assert plain(raw, MEMBERS.decode(raw)) == surely


@pytest.mark.parametrize("raw", [b'{ "a" : 1, "b": [ ] }', rb'{"\u0061":1}', b"{}"])
def test_spaces_and_escapes_are_looked_through(raw: bytes) -> None:
    look_closely(raw)


@pytest.mark.parametrize("raw", [b'{ "a" : 1, "a": 2 }', rb'{"a":1,"\u0061":2}'])
def test_a_name_that_stands_twice_behind_spaces_and_escapes_is_refused(raw: bytes) -> None:
    with pytest.raises(MessageError, match="stands twice"):
        look_closely(raw)


def test_a_large_object_with_escaped_names_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="or is written with escapes"):
        look_closely(rb'{"\u0061":1,"x":"%b"}' % (b"x" * 300_000))


@pytest.mark.parametrize(
    ("name", "refused"), [("Method", True), ("METHOD", True), ("method", False), ("x", False)]
)
def test_a_name_that_only_its_case_tells_from_one_of_ours_is_refused(name: str, refused: bool) -> None:
    entries = MEMBERS.decode(json.dumps({name: 1}))
    if not refused:
        refuse_lookalikes(entries, frozenset({"method"}))
        return
    with pytest.raises(MessageError, match=f"Write 'method' for '{name}'"):
        refuse_lookalikes(entries, frozenset({"method"}))


@pytest.mark.parametrize(
    ("body", "mended"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\udca9 a"', rb'"\ufffd a"'),
        (rb'"\ud83d\ud83d\udca9"', rb'"\ufffd\ud83d\udca9"'),
        (rb'"\ud83d\udca9"', None),
        (rb'"\\ud83d"', None),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (b'"plain"', None),
    ],
)
def test_half_of_a_surrogate_pair_is_written_as_what_stands_for_it(
    body: bytes, mended: bytes | None
) -> None:
    assert without_halves(body) == mended
    assert mended is None or len(mended) == len(body)
