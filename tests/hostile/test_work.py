"""Time is bounded by bytes: whatever is read, eight times as much takes at most ten times the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.work import assert_linear

from mcpace_sidecar.cache.policy import canonical
from mcpace_sidecar.http.sse import Events, data_of, with_data
from mcpace_sidecar.mcp.answers import read_answer, read_events, stray, succeeded, suspect
from mcpace_sidecar.mcp.ids import written_id
from mcpace_sidecar.mcp.outline import Outline
from mcpace_sidecar.mcp.request import classify, is_batch, split
from mcpace_sidecar.mcp.strictness import _deepest, refuse_duplicates
from mcpace_sidecar.mcp.uris import readings

KIB = 1024
CALL = b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t","arguments":%b}}'


def times(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


ARGUMENTS: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda n: b"[%b1]" % times(b"1,", n),
    "objects": lambda n: b"[%b{}]" % times(b"{},", n),
    "digits": lambda n: times(b"7", n),
    "many long numbers": lambda n: b"[%b1]" % times(b"7" * 4000 + b",", n),
    "a fraction": lambda n: b"1." + times(b"7", n),
    "nested": lambda n: times(b"[", n // 2) + times(b"]", n // 2),
    "nested objects": lambda n: times(b'{"a":', n // 6) + b"1" + times(b"}", n // 6),
    "text": lambda n: b'"%b"' % times(b"a", n),
    "escapes": lambda n: b'"%b"' % times(rb"\"", n),
    "backslashes": lambda n: b'"%b"' % times(rb"\\", n),
    "surrogate pairs": lambda n: b'"%b"' % times(rb"\ud83d\ude00", n),
    "halves": lambda n: b'"%b"' % times(rb"\ud83d", n),
    "a half at the end": lambda n: rb'"%b\ud83d"' % times(rb"\ud83d\ude00", n),
    "a half after backslashes": lambda n: rb'"%b\ud83d"' % times(rb"\\", n),
    "brackets in texts": lambda n: b"[%b1]" % times(b'{"[":"]"},', n),
    "names": lambda n: b"{%b}" % b",".join(b'"%d":1' % k for k in range(n // 10)),
    "a name again and again": lambda n: b'{%b"a":1}' % times(b'"a":1,', n),
    "spaces": lambda n: b"{%b}" % times(b" ", n),
    "judged names": lambda n: b"[%b1]" % times(b'{"name":1,"params":2,"method":3},', n),
    "minus": lambda n: b"[%b1]" % times(b"-0.5, ", n),
    "broken off": lambda n: b'{"a":"%b' % times(rb"\\", n),
}
BODIES: dict[str, Callable[[int], bytes]] = {
    **{name: lambda n, make=make: CALL % (b"1", make(n)) for name, make in ARGUMENTS.items()},
    "long id": lambda n: CALL % (b'"%b"' % times(b"a", n), b"{}"),
    "long id of escapes": lambda n: CALL % (b'"%b"' % times(rb"\"", n), b"{}"),
    "long number as id": lambda n: CALL % (times(b"7", n), b"{}"),
    "members": lambda n: CALL[:-1] % (b"1", b"{}") + b",%b}" % times(b'"k":1,', n)[:-1],
    "different members": lambda n: (
        CALL[:-1] % (b"1", b"{}") + b",%b}" % b",".join(b'"%d":1' % k for k in range(n // 10))
    ),
    "blanks before": lambda n: times(b" ", n) + CALL % (b"1", b"{}"),
    "blanks between": lambda n: CALL.replace(b",", b"," + times(b" ", n // 4)) % (b"1", b"{}"),
    "batch": lambda n: b"[%b1]" % times(b"1,", n),
    "batch of calls": lambda n: b"[%b1]" % times(CALL % (b"1", b"{}") + b",", n),
}
READERS: dict[str, Callable[[bytes], Any]] = {
    "classify": classify,
    "split": split,
    "is_batch": is_batch,
    "refuse_duplicates": refuse_duplicates,
    "canonical": canonical,
    "written_id": written_id,
}


BRACKETS = st.text(r'[]{}"\,:a', max_size=6)
NESTED = st.recursive(
    BRACKETS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(BRACKETS, inner, max_size=4),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(NESTED)
def test_levels_are_counted_and_brackets_in_strings_are_none(value: Any) -> None:
    assert _deepest(json.dumps([value]).encode()) == 1 + depth(value)


def tolerant(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def reading(made: Any) -> Any:
        try:
            return read(made)
        except ValueError:
            return None

    return reading


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BODIES)
def test_requests(kind: str, reader: str) -> None:
    assert_linear(BODIES[kind], tolerant(READERS[reader]), 8 * KIB)


ANSWERS: dict[str, Callable[[int], bytes]] = {
    "result": lambda n: (
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % times(b"a", n)
    ),
    "another's": lambda n: b'{"jsonrpc":"2.0","id":2,"result":[%b1]}' % times(b"1,", n),
    "turned": lambda n: b'{"result":{"a":"%b"},"jsonrpc":"2.0","id":1}' % times(rb"\"", n),
    "spaced": lambda n: b'{%b"id" : 1, "result": {}}' % times(b" ", n),
    "isError": lambda n: b'{"jsonrpc":"2.0","id":1,"result":{"a":"%b"}}' % times(rb"\"isError\":", n),
    "blank ids": lambda n: b'{"a":1%b}' % times(b', "id" ', n),
    "members": lambda n: b'{"jsonrpc":"2.0","id":1,"result":{%b"a":1}}' % times(b'"k":1,', n),
    "events": lambda n: times(b'data: {"jsonrpc":"2.0","method":"m"}\n\n', n),
    "tiny events": lambda n: times(b"a\n\n", n),
    "an event of many lines": lambda n: times(b"data: 1\n", n) + b"\n",
    "one long event": lambda n: b"data: " + times(b"a", n) + b"\n\n",
    "carriage returns": lambda n: times(b"\r", n),
    "no end": lambda n: times(b"data: a\r\n", n),
}
ANSWER_READERS: dict[str, Callable[[bytes], Any]] = {
    "succeeded": succeeded,
    "suspect": suspect,
    "read_answer": read_answer,
    "read_events": read_events,
    "stray": lambda body: stray(body, b"1"),
    "stray events": lambda body: stray(body, b"1", events=True),
    "written_id": written_id,
    "data_of": data_of,
    "with_data": lambda event: with_data(event, b"{}"),
    "events": lambda body: Events().feed(body),
}


@pytest.mark.parametrize("reader", ANSWER_READERS)
@pytest.mark.parametrize("kind", ANSWERS)
def test_answers(kind: str, reader: str) -> None:
    assert_linear(ANSWERS[kind], tolerant(ANSWER_READERS[reader]), 8 * KIB)


TOPS: dict[str, Callable[[int], bytes]] = {
    "records": lambda n: b'{"result":[%b' % times(b'{"a":"b","c":[1,"d"]},', n),
    "levels": lambda n: b'{"result":' + times(b"[", n // 2) + times(b"]", n // 2),
    "up and down": lambda n: b'{"result":[' + times(b"[[[]]],", n),
    "back to the top": lambda n: b"{" + times(b'"a":[[[]]],', n),
    "members": lambda n: b"{" + times(b'"a":1,', n),
    "commas": lambda n: b"{" + times(b",", n),
    "a long text": lambda n: b'{"result":"' + times(b"a", n),
    "a long text within": lambda n: b'{"result":["' + times(rb"\"", n),
    "a long number": lambda n: b'{"result":' + times(b"7", n),
    "texts of brackets": lambda n: b'{"result":[' + times(b'"[{",', n),
    "backslashes": lambda n: b'{"result":["' + times(b"\\", n),
    "blanks": lambda n: b"{" + times(b" ", n),
}


@pytest.mark.parametrize("length", [1, 100, 64 * KIB])
@pytest.mark.parametrize("kind", TOPS)
def test_the_top_level_of_what_is_never_whole(kind: str, length: int) -> None:
    def feed(body: bytes) -> None:
        outline = Outline()
        for at in range(0, len(body), length):
            outline.feed(body[at : at + length])

    assert_linear(TOPS[kind], feed, min(64, length) * KIB)


@pytest.mark.parametrize("length", [1, 7, 100])
@pytest.mark.parametrize(
    "kind", ["one long event", "an event of many lines", "events", "no end", "carriage returns"]
)
def test_a_stream_in_very_many_pieces(kind: str, length: int) -> None:
    def feed(stream: bytes) -> None:
        events = Events()
        for at in range(0, len(stream), length):
            events.feed(stream[at : at + length])
            assert events.overfull is False

    assert_linear(ANSWERS[kind], feed, KIB * length)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "db://" + "a/" * (n // 2),
        lambda n: "db://" + "../" * (n // 3),
        lambda n: "http://h/" + "%2e%2e/" * (n // 7),
        lambda n: "db:" + "%25" * (n // 3),
        lambda n: " " * n + "db://a",
        lambda n: "d" * n,
        lambda n: "http://" + "a." * (n // 2),
        lambda n: "http://" + "\u00e9" * n,
    ],
    ids=["segments", "dots", "escaped dots", "escapes", "blanks", "scheme", "labels", "wide"],
)
def test_uris(make: Callable[[int], str]) -> None:
    assert_linear(make, readings, 8 * KIB)
