"""Bodies that are valid and odd: each is answered, and judged as the server reads it."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
import redis
from tests.kit.collector import Collector
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.conversations.memory import REMEMBERED, ROUNDS, Conversations
from mcpace_sidecar.conversations.questions import PATIENCE
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


RESOURCES = {
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "resources": [
            {"name": "db://reports/*", "requestsPerMinute": 2, "cost": 3},
            {"name": "HTTP://Files.Example:80/a/*", "requestsPerMinute": 2},
            {"name": "file:///a/*", "requestsPerMinute": 2},
        ],
    }
}


def read_of(uri: str, message_id: int = 7) -> Any:
    return {"jsonrpc": "2.0", "id": message_id, "method": "resources/read", "params": {"uri": uri}}


@pytest.mark.parametrize(
    "uri",
    [
        "DB://reports/q1",
        " db://reports/q1",
        "db://reports/q1\n",
        "\u0000\u001fdb://reports/q1",
        "d\tb://reports/q1",
        "db://rep\norts/q1",
        "db://reports/../reports/q1",
        "db://other/../reports/q1".replace("other/..", "reports/x/.."),
        "db://reports/./q1",
        "db://reports/%2e%2e/secret",
        "db://reports/../secret",
        "db://%72eports/q1",
        "db:%2F%2Freports/q1",
        "http://files.example:80/a/b",
        "http:\\\\files.example\\a\\b",
        "http:files.example/a/b",
        "http://files.example/x/../a/b",
        "http://files.example/%61/b",
        "http://FILES.example/a/b",
        "file:////a/b",
        "file:///..//a/b",
        "file:////%61/b",
        "file://localhost//a/b",
    ],
)
async def test_a_resource_is_limited_however_its_uri_is_written(
    scripted: Scripted, start: Start, uri: str
) -> None:
    """Two reads are allowed; written so that readers differ, it is refused or counted as the plain one."""
    reached: list[str] = []

    def answer(heard: Heard) -> bytes:
        message = heard.message
        if message.get("method") == "resources/read":
            reached.append(message["params"]["uri"])
        return json_answer(
            b'{"jsonrpc":"2.0","id":%b,"result":{}}' % msgspec.json.encode(message.get("id"))
        )

    scripted.answer = answer
    sidecar = await start(scripted.port, RESOURCES)
    for _ in range(4):
        status, _, body = await sidecar.post(read_of(uri))
        if status == 400:
            assert body["id"] == 7
            assert "write it so" in body["error"]["message"]
    assert len(reached) <= 2, reached


@pytest.mark.parametrize(
    "uri", ["db://reports/q1", "http://files.example/a/b", "db://reports/q%201", "file:///a//b"]
)
async def test_the_plain_spelling_of_a_resource_passes_up_to_its_limit(
    scripted: Scripted, start: Start, uri: str
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    sidecar = await start(scripted.port, RESOURCES)
    answers = [(await sidecar.post(read_of(uri)))[2] for _ in range(3)]
    assert ["result" in a for a in answers] == [True, True, False]


@pytest.mark.parametrize(
    "uri", ["urn:isbn:1", "no uri at all", "notes://a b/", "other://x/%41", "DB://other/q1", ""]
)
async def test_resources_without_limits_pass_however_they_are_written(
    scripted: Scripted, start: Start, uri: str
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    sidecar = await start(scripted.port, RESOURCES)
    for _ in range(4):
        status, _, body = await sidecar.post(read_of(uri))
        assert (status, body["result"]) == (200, {})
    assert [h.message["params"]["uri"] for h in scripted.calls if b"resources/read" in h.body] == [uri] * 4


@pytest.mark.parametrize("name", ["t ", " t", "T", "t\u0301", "\uff54", "t\u200b"])
async def test_a_tools_name_is_compared_exactly(scripted: Scripted, start: Start, name: str) -> None:
    """A blank more, or another Unicode form, is another tool: no SDK takes it for this one."""
    server = Numbering(scripted)
    sidecar = await start(scripted.port, CACHED)
    for _ in range(2):
        params = {"name": name, "arguments": {}}
        await sidecar.post({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})
    assert len(server.bodies) == 2


def limited(per_minute: int) -> dict[str, Any]:
    return {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": per_minute}]}}


class Asking:
    """A server of 2026-07-28 that asks something before it answers."""

    def __init__(self, scripted: Scripted, form: str) -> None:
        self.form = form
        self.states = 0
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        message = heard.message
        if message.get("method") not in ("tools/call", "prompts/get"):
            yield json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
            return
        params = message["params"]
        if params.get("requestState") and params["requestState"] != "more":
            result: Any = {"resultType": "complete", "content": []}
        else:
            self.states += 1
            result = {
                "resultType": "input_required",
                "inputRequests": {"a": {}},
                "requestState": f"state {self.states} \u00e9",
            }
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        if self.form == "whole":
            yield json_answer(body)
        else:
            yield (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                b"data: " + body + b"\n\n"
            )
            heard.writer.close()


def asked(state: str | None = None, tool: str = "t", method: str = "tools/call") -> Any:
    params: dict[str, Any] = {"name": tool, "arguments": {}}
    if state is not None:
        params |= {"requestState": state, "inputResponses": {"a": {}}}
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


@pytest.mark.parametrize("form", ["whole", "event"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
async def test_a_call_that_goes_on_is_counted_once(
    scripted: Scripted, start: Start, form: str, method: str
) -> None:
    Asking(scripted, form)
    sidecar = await start(scripted.port, limited(1))
    modern = {"MCP_Protocol_Version": "2026-07-28"}
    _, _, body = await sidecar.post(asked(method=method), **modern)
    raw = (
        body
        if isinstance(body, dict)
        else json.JSONDecoder().raw_decode(body.decode()[body.index(b"{") :])[0]
    )
    state = raw["result"]["requestState"]
    _, _, refused = await sidecar.post(asked("made up", method=method), **modern)
    assert refused["error"]["code"] == 42900
    _, _, refused = await sidecar.post(asked(state, tool="another", method=method), **modern)
    assert refused["error"]["code"] == 42900
    _, _, refused = await sidecar.post(asked(state, method=method), Authorization="Bearer x", **modern)
    assert refused["error"]["code"] == 42900
    _, _, body = await sidecar.post(asked(state, method=method), **modern)
    assert b"complete" in (body if isinstance(body, bytes) else msgspec.json.encode(body))
    _, _, refused = await sidecar.post(asked(state, method=method), **modern)
    assert refused["error"]["code"] == 42900, "each question lets one call pass"


MODERN_CALL = {"MCP_Protocol_Version": "2026-07-28"}


async def test_a_call_goes_on_at_any_replica_and_at_one_alone(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    Asking(scripted, "whole")
    one, other = [
        await start(scripted.port, limited(1), limits_url=redis_server.url, leasing=False) for _ in range(2)
    ]
    _, _, body = await one.post(asked(), **MODERN_CALL)
    state = body["result"]["requestState"]
    _, _, refused = await other.post(asked("made up"), **MODERN_CALL)
    assert refused["error"]["code"] == 42900
    answers = await asyncio.gather(
        *(sidecar.post(asked(state), **MODERN_CALL) for sidecar in (other, one, other, one))
    )
    bodies = [body for _, _, body in answers]
    assert [b["result"]["resultType"] for b in bodies if "result" in b] == ["complete"], bodies
    assert [b["error"]["code"] for b in bodies if "error" in b] == [42900] * 3
    with redis.Redis(port=redis_server.port) as client:
        assert not list(client.scan_iter("*:asked:*")), "what has gone on is forgotten"


async def test_what_was_asked_while_redis_was_down_goes_on_where_it_was_asked(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    Asking(scripted, "whole")
    sidecar = await start(scripted.port, limited(1), limits_url=redis_server.url)
    redis_server.stop()
    await until(lambda: up(sidecar, 0.0), "Redis to be missed")
    _, _, body = await sidecar.post(asked(), **MODERN_CALL)
    redis_server.start()
    await until(lambda: up(sidecar, 1.0), "Redis to be found")
    _, _, done = await sidecar.post(asked(body["result"]["requestState"]), **MODERN_CALL)
    assert done["result"]["resultType"] == "complete"
    _, _, counted = await sidecar.post(asked(), **MODERN_CALL)
    assert "result" in counted, "what went on has taken nothing of the new bucket"
    _, _, refused = await sidecar.post(asked(), **MODERN_CALL)
    assert refused["error"]["code"] == 42900


async def up(sidecar: Running, value: float) -> bool:
    return (await sidecar.metrics())['mcpace_redis_up{store="limits"}'] == value


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "two replicas in turn"])
async def test_a_conversation_without_end_is_counted_again_and_again(
    scripted: Scripted, start: Start, redis_server: RedisServer, shared: bool
) -> None:
    questions = 0

    def ask(heard: Heard) -> bytes:
        nonlocal questions
        questions += 1
        result = {"resultType": "input_required", "requestState": f"s{questions}", "inputRequests": {}}
        return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "result": result}))

    scripted.answer = ask
    urls = [redis_server.url] * 2 if shared else [None]
    sidecars = [await start(scripted.port, limited(2), limits_url=url, leasing=False) for url in urls]
    _, _, body = await sidecars[0].post(asked(), **MODERN_CALL)
    before = questions
    for number in range(3 * ROUNDS):
        sidecar = sidecars[number % len(sidecars)]
        _, _, body = await sidecar.post(asked(body["result"]["requestState"]), **MODERN_CALL)
        if "error" in body:
            break
    assert body["error"]["code"] == 42900
    assert questions - before == 2 * ROUNDS + 1, "each of two counted calls covers so many questions"


def test_questions_are_remembered_up_to_a_bound_and_for_a_time() -> None:
    now = 0.0
    conversations = Conversations(lambda: now)
    for number in range(2 * REMEMBERED):
        conversations.asked(b"%d" % number, 0)
    assert len(conversations) <= REMEMBERED
    assert conversations.continues(b"%d" % (2 * REMEMBERED - 1))
    assert not conversations.continues(b"0")
    now = PATIENCE + 1
    assert not conversations.continues(b"%d" % (2 * REMEMBERED - 2))


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
