"""What a result is kept under: the same key only for calls that must have the same answer."""

import os
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.cache.entry import Place, client_tag, credential_tag
from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.policy import CacheRule, Keys, Private, canonical, life
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.mcp.request import classify
from mcpace_sidecar.mcp.strictness import MessageError

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8)
ARGUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    max_size=4,
)


def call(arguments: object, name: str = "t", **params: object) -> bytes:
    spelled = {"name": name, "arguments": arguments, **params}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": spelled})


def key_of(body: bytes, version: bytes = b"2026-07-28", private: Private | None = None) -> bytes | None:
    rule = CacheRule(60, shared=private is None)
    places = Keys(None).places(rule, version, classify(body), private)
    return places[0].key if places else None


@given(a=ARGUMENTS, b=ARGUMENTS)
def test_two_calls_share_a_key_exactly_when_their_arguments_are_equal(a, b) -> None:
    same = msgspec.json.encode(a, order="sorted") == msgspec.json.encode(b, order="sorted")
    assert (key_of(call(a)) == key_of(call(b))) == same


def test_order_and_spacing_make_no_difference() -> None:
    body = call({"a": 1, "b": [1.5, "x"]})
    assert key_of(msgspec.json.format(body)) == key_of(body)
    assert key_of(call({"b": [1.5, "x"], "a": 1})) == key_of(body)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"x":1}', b'{"x":1.0}'),
        (b'{"x":0.1}', b'{"x":0.10000000000000000001}'),
        (b'{"x":123456789012345678901234567890}', b'{"x":123456789012345678901234567891}'),
        (b'{"x":1e400}', b'{"x":1e401}'),
        (b'{"x":"1"}', b'{"x":1}'),
        (b'{"x":null}', b"{}"),
    ],
)
def test_numbers_that_a_double_cannot_tell_apart_are_told_apart(one, other) -> None:
    template = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":%b}}'
    assert key_of(template % one) != key_of(template % other)


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        lambda body: body.replace(rb"\ufffd", rb"\ud800"),
        lambda body: body.replace(rb"\ufffd", rb"\udfff"),
        lambda body: body[:-1] + b',"tenant":1}',
        lambda body: body.replace(b'"id":1', b'"id":1,"tenant":1'),
    ],
    ids=["first half", "second half", "a member at the end", "a member within"],
)
def test_what_is_kept_for_nobody_is_so_after_a_like_call_too(spaced, other) -> None:
    body = (
        rb'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"q":"\ufffd"}}}'
    )
    if spaced:
        body = body.replace(b'"jsonrpc":', b'"jsonrpc": ')
    keys, rule = Keys(None), CacheRule(60, shared=True)
    for _ in range(2):
        assert keys.places(rule, b"", classify(body), None)
        assert not keys.places(rule, b"", classify(other(body)), None)


def test_tool_version_and_client_each_make_another_key() -> None:
    keys = {
        key_of(call({})),
        key_of(call({}, name="u")),
        key_of(call({}), version=b"2025-11-25"),
        key_of(call({}), private=Private(Client("anna"), (), (), b"/", b"")),
        key_of(call({}), private=Private(Client("bert"), (), (), b"/", b"")),
        key_of(call({}), private=Private(Client("an"), (b"na",), (), b"/", b"")),
    }
    assert len(keys) == 6


def test_volatile_meta_makes_no_difference_and_capabilities_do() -> None:
    plain = key_of(call({}))
    assert key_of(call({}, _meta={"progressToken": 7, "traceparent": "00-x"})) == plain
    assert key_of(call({}, _meta={"io.modelcontextprotocol/clientCapabilities": {"a": {}}})) != plain


def test_a_conversation_is_never_kept() -> None:
    assert key_of(call({}, inputResponses={})) is None
    assert key_of(call({}, requestState="x")) is None


def test_arguments_that_two_readers_would_understand_differently_are_refused() -> None:
    with pytest.raises(MessageError, match="twice"):
        canonical(b'{"name":"t","arguments":{"a":1,"a":2}}')


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keep(results: MemoryResults, name: bytes, result: bytes, ttl: float, tags: tuple[bytes, ...] = ()):
    results.keep(Place(name, tags), results.marks.of(tags), result, ttl, 0)


def test_memory_holds_no_more_bytes_than_its_bound_and_forgets_the_least_used() -> None:
    results = MemoryResults(3 * 700, clock=Clock())
    for name in (b"a", b"b", b"c"):
        keep(results, name, b"x" * 100, 60)
    results.near(b"a")
    keep(results, b"d", b"x" * 100, 60)
    assert results.near(b"b") is None
    assert results.near(b"a") is not None
    assert results.bytes <= 2100
    keep(results, b"huge", b"x" * 2000, 60)
    assert results.near(b"huge") is None
    assert len(results) == 3


@pytest.mark.parametrize("private", [False, True], ids=["shared", "private"])
def test_results_cost_no_more_memory_than_is_counted(*, private: bool) -> None:
    results, many = MemoryResults(1 << 30), 5_000
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(many):
        tags: tuple[bytes, ...] = (b"all", b"tool:" + str(number % 10).encode())
        if private:
            tags += (client_tag(f"addr:192.0.2.{number}"), credential_tag(os.urandom(16)))
        marks = tuple(mark.decode().encode() for mark in results.marks.of(tags))  # as Redis gives them
        results.keep(Place(os.urandom(16), tags), marks, os.urandom(100), 60, 0)
    cost = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(results) == many
    assert cost <= results.bytes <= 1.5 * cost, (
        f"{cost / many:.0f} bytes each, {results.bytes / many:.0f} counted"
    )


def test_memory_holds_no_more_entries_than_its_bound() -> None:
    results = MemoryResults(1_000_000, 2, Clock())
    for name in (b"a", b"b", b"c"):
        keep(results, name, b"x", 60)
    assert (len(results), results.near(b"a")) == (2, None)


def test_a_result_is_forgotten_when_its_time_is_over() -> None:
    clock = Clock()
    results = MemoryResults(10_000, clock=clock)
    keep(results, b"a", b"x", 5)
    clock.now = 4.9
    entry = results.near(b"a")
    assert entry is not None
    assert entry.result == b"x"
    clock.now = 5.0
    assert results.near(b"a") is None
    assert results.bytes == 0


def test_purging_a_tag_makes_old_what_carries_it_and_nothing_else() -> None:
    results = MemoryResults(10_000)
    keep(results, b"a", b"x", 60, (b"all", b"tool:t"))
    keep(results, b"b", b"x", 60, (b"all", b"tool:u"))
    results.purge([b"tool:t"], lambda: None)
    assert results.near(b"a") is None
    assert results.near(b"b") is not None
    results.purge([b"all"], lambda: None)
    assert results.near(b"b") is None


def test_a_result_asked_for_before_a_purge_and_kept_after_it_is_old() -> None:
    results = MemoryResults(10_000)
    place = Place(b"a", (b"tool:t",))
    marks = results.marks.of(place.tags)
    results.purge([b"tool:t"], lambda: None)
    results.marks.of(place.tags)  # another call begins
    results.keep(place, marks, b"old", 60, 0)
    assert results.near(b"a") is None


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (b'{"ttlMs":5000,"cacheScope":"public"}', (5.0, True)),
        (b'{"ttlMs":5000,"cacheScope":"private"}', (5.0, False)),
        (b'{"ttlMs":5000}', (5.0, False)),
        (b'{"ttlMs":0,"cacheScope":"public"}', (0.0, True)),
        (b'{"ttlMs":-1}', (0.0, False)),
        (b'{"ttlMs":1e300}', (86400.0, False)),
        (b'{"ttlMs":"soon"}', (0.0, False)),
        (b"{}", (7.0, False)),
    ],
)
def test_a_result_says_itself_how_long_and_for_whom_it_may_be_kept(result, expected) -> None:
    assert life(CacheRule(7.0, shared=False, hinted=True), result) == expected
