"""Bodies that are valid and odd: each is answered, and judged as the server reads it."""

from typing import Any

import msgspec
import pytest
from tests.kit.collector import Collector
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer

from mcpace_sidecar.mcp.request import classify

CACHED = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}


def call_of(arguments: bytes, message_id: bytes = b"7") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t","arguments":%b}}' % (
        message_id,
        arguments,
    )


class Numbering:
    """Answers each call with its number, under the id it was asked with."""

    def __init__(self, scripted: Scripted) -> None:
        self.bodies: list[bytes] = []
        scripted.answer = self.answer

    def answer(self, heard: Heard) -> bytes:
        if b"tools/call" not in heard.body:
            return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
        self.bodies.append(heard.body)
        return json_answer(b'{"jsonrpc":"2.0","id":7,"result":{"n":%d}}' % len(self.bodies))


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"x":%b}' % (b"7" * 4301),
        b'{"x": %b}' % (b"7" * 4301),
        b'{"x":-%b}' % (b"7" * 100_000),
        b'{"x":-0}',
        b'{"x":[0, -0]}',
    ],
    ids=["4301 digits", "4301 digits and a space", "100000 digits", "-0", "-0 in an array"],
)
async def test_arguments_that_have_no_one_spelling_are_asked_for_each_time(
    scripted: Scripted, start: Start, arguments: bytes
) -> None:
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for expected in (1, 2):
        status, _, body = await sidecar.post(call_of(arguments))
        assert (status, body["result"]) == (200, {"n": expected})
    assert server.bodies == [call_of(arguments)] * 2
    assert not sidecar.in_flight


@pytest.mark.parametrize("spelling", [b"1e400", b"-1e-400", b"0.10000000000000000001", b"7" * 4000])
async def test_numbers_beyond_a_double_are_kept_by_their_spelling(
    scripted: Scripted, start: Start, spelling: bytes
) -> None:
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for _ in range(2):
        _, _, body = await sidecar.post(call_of(b'{"x":%b}' % spelling))
        assert body["result"] == {"n": 1}
    _, _, body = await sidecar.post(call_of(b'{"x":%b}' % (spelling + b"1")))
    assert body["result"] == {"n": 2}
    assert len(server.bodies) == 2


WRAPPED = 3
"""Levels of the message, its params and its arguments."""


@pytest.mark.parametrize("levels", [1, 100, 512 - WRAPPED])
@pytest.mark.parametrize("spaced", [False, True])
async def test_what_is_nested_up_to_the_deepest_level_passes(
    scripted: Scripted, start: Start, levels: int, spaced: bool
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    text = b'"%b"' % (b"[{" * 1000 + rb"\"[[" * 1000)
    deep = b"[" * levels + text + b"]" * levels
    many = b"[%b]" % b",".join([b'[{"a":[]},"]]"]'] * 1000)
    arguments = b'{"x":%b%b,"y":%b}' % (b" " * spaced, deep, many)
    status, _, body = await sidecar.post(call_of(arguments))
    assert (status, body["result"]) == (200, {"n": 1})


@pytest.mark.parametrize("levels", [513 - WRAPPED, 700, *range(940, 1000, 2), 5_000, 200_000])
@pytest.mark.parametrize("left", [b"[", b'{"[":', b'{"\\"]":'], ids=["arrays", "objects", "escapes"])
@pytest.mark.parametrize("name", [b'"name":"t"', b'"name": "t"', b'"name":"parallel"'])
async def test_what_is_nested_deeper_is_refused_in_the_same_words_at_every_depth(
    scripted: Scripted, start: Start, levels: int, left: bytes, name: bytes
) -> None:
    """Also near the depth at which the interpreter itself gives up."""
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED | {"concurrency": {"parallelTool": True}})
    right = b"]" if left == b"[" else b"}"
    arguments = b'{"x":%b1%b}' % (left * levels, right * levels)
    status, _, body = await sidecar.post(call_of(arguments).replace(b'"name":"t"', name))
    assert (status, body["id"]) == (400, 7), body
    assert "nested too deeply: it may have 512 levels" in body["error"]["message"]
    assert not server.bodies
    assert not sidecar.in_flight


@pytest.mark.parametrize("levels", [511, 512, 966, 970, 20_000])
async def test_a_message_of_any_method_is_nested_no_deeper(
    scripted: Scripted, start: Start, levels: int
) -> None:
    sidecar = await start(scripted.port, CACHED)
    body = b'{"jsonrpc":"2.0","id":"p","method":"ping","params":%b%b}' % (
        b'{"a":' * levels,
        b"1" + b"}" * levels,
    )
    status, _, answer = await sidecar.post(body)
    if levels == 511:
        assert status == 200
    else:
        assert (status, answer["id"], answer["error"]["code"]) == (400, "p", -32700)


async def test_a_name_that_stands_twice_is_refused_with_the_calls_own_id(
    scripted: Scripted, start: Start
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    status, _, body = await sidecar.post(call_of(b'{"a":1,"a":2}', b'"mine"'))
    assert (status, body["id"]) == (400, "mine")
    assert "twice" in body["error"]["message"]


HALVES = [
    rb"\ud800",
    rb"\udc00",
    rb"\uD83D",
    rb"\ud800\ud800",
    rb"a\udfffb",
    rb"\\\ud800",
    rb"\ud83d\u0041",
]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "place", [b'{"x":"%b"}', b'{"%b":1}', b'{"x":["\\ud83d\\ude00%b"]}', b'{ "x" : "%b" }']
)
async def test_half_of_a_surrogate_pair_in_arguments_passes_as_it_is_and_is_not_kept(
    scripted: Scripted, start: Start, half: bytes, place: bytes
) -> None:
    """A JavaScript client writes it of a text that it cut within an emoji."""
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    body = call_of(place % half)
    for expected in (1, 2):
        status, _, answer = await sidecar.post(body)
        assert (status, answer.get("result")) == (200, {"n": expected}), answer
    assert server.bodies == [body] * 2


@pytest.mark.parametrize(
    ("body", "message_id"),
    [
        (rb'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t\ud800"}}', 7),
        (rb'{"jsonrpc":"2.0","id":"seven","method":"resources/read","params":{"uri":"a:\udc00"}}', "seven"),
        (rb'{"jsonrpc":"2.0","id":7,"method":"tools/call\ud800","params":{"name":"t"}}', 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":%b}}'
         % (b"[" * 100_000 + b"]" * 100_000), 7),
    ],
    ids=["tool", "uri", "method", "deep"],
)  # fmt: skip
async def test_what_is_refused_is_refused_under_its_own_id(
    scripted: Scripted, start: Start, body: bytes, message_id: Any
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    status, _, answer = await sidecar.post(body)
    assert (status, answer["id"]) == (400, message_id)
    assert "surrogate" in answer["error"]["message"] or "deeply" in answer["error"]["message"]


async def test_parallel_passes_on_no_argument_that_it_could_not_spell(
    scripted: Scripted, start: Start
) -> None:
    Numbering(scripted)
    sidecar = await start(scripted.port, {"concurrency": {"parallelTool": True}})
    calls = rb'{"calls":[{"tool":"t","arguments":{"x":"\ud800"}}]}'
    _, _, body = await sidecar.post(
        call_of(calls).replace(b'"name":"t","arguments"', b'"name":"parallel","arguments"')
    )
    assert body["result"]["isError"]
    assert "surrogate" in body["result"]["content"][0]["text"]


@pytest.mark.parametrize("name", ["t ", " t", "T", "t\u0301", "\uff54", "t\u200b"])
async def test_a_tools_name_is_compared_exactly(scripted: Scripted, start: Start, name: str) -> None:
    """A blank more, or another Unicode form, is another tool: no SDK takes it for this one."""
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for _ in range(2):
        params = {"name": name, "arguments": {}}
        await sidecar.post({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
    assert len(server.bodies) == 2


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = b'"_meta":{"traceparent":"%b"}' % PARENT.encode()


@pytest.mark.parametrize(
    ("params", "changed"),
    [
        (b'"name":"t","arguments":{},%b' % TRACE, True),
        (b'"name":"t",%b,"arguments":{"x":"\\u00e9","y":[1,2]}' % TRACE, True),
        (b'"name":"t","arguments":{"t":"%b"},%b' % (PARENT.encode(), TRACE), True),
        (
            b'%b,"name":"t","arguments":{"t":"%b","_meta":{"traceparent":"%b"}}'
            % (TRACE, *[PARENT.encode()] * 2),
            True,
        ),
        (
            b'"name":"t","arguments":{"t":"%b"}, "_meta":{"traceparent":"%b"}'
            % (PARENT.encode(), PARENT.encode()),
            False,
        ),
        (b'"name":"t","arguments":{},"_meta":{"traceparent":"\\u0030%b"}' % PARENT[1:].encode(), False),
        (b'"name":"t","arguments":{},"_meta":{"trace\\u0070arent":"%b"}' % PARENT.encode(), False),
        (b'"name":"t","arguments":{"t":"%b"},"_meta":{"traceparent":"x"}' % PARENT.encode(), False),
    ],
)
def test_the_trace_is_changed_where_it_stands_and_nowhere_else(params: bytes, changed: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{%b}}' % params
    message = classify(body)
    at = message.trace_at
    if not changed:
        assert at < 0 or body[at : at + 55] != PARENT.encode() or message.trace != PARENT.encode()
        return
    other = PARENT.replace("4bf9", "ffff").encode()
    altered = msgspec.json.decode(body[:at] + other + body[at + 55 :])
    expected = msgspec.json.decode(body)
    expected["params"]["_meta"]["traceparent"] = other.decode()
    assert altered == expected


async def test_what_is_kept_was_fetched_for_the_arguments_that_were_sent(
    scripted: Scripted, start: Start, collector: Collector, traces: Any
) -> None:
    server = Numbering(scripted)
    sidecar = await start(scripted.port, traces | CACHED)
    arguments = b'{"same":"%b"}' % PARENT.encode()
    body = call_of(arguments).replace(arguments, arguments + b"," + TRACE)
    for _ in range(2):
        _, _, answer = await sidecar.post(body)
        assert answer["result"] == {"n": 1}
    (heard,) = map(msgspec.json.decode, server.bodies)
    assert heard["params"]["arguments"] == {"same": PARENT}
    assert heard["params"]["_meta"]["traceparent"] != PARENT
