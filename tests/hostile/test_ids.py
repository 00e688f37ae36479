"""An answer is the call's whose id it bears, in whatever form it comes and however the id is written."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tests.kit.deciding import BASE, post
from tests.kit.sharing import CONFIG
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer


def answer_of(message_id: bytes, words: bytes = b"mine", kind: bytes = b"result") -> bytes:
    said = {
        "result": b'{"content":[{"type":"text","text":"%b"}]}',
        "error": b'{"code":-32603,"message":"%b"}',
    }
    return b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (message_id, kind, said[kind.decode()] % words)


def turned(answer: bytes) -> bytes:
    """The answer with its members in the order in which the TypeScript SDK writes them."""
    entries = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(
        {n: entries[n] for n in ("result", "error", "jsonrpc", "id") if n in entries}
    )


def in_the_midst(answer: bytes) -> bytes:
    """The answer with its id where neither its beginning nor its end shows it."""
    entries = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
    members = [(n, entries[n]) for n in ("result", "id") if n in entries]
    after = [
        (b"meta", b"[" * 400 + b'"]{"' + b"]" * 400),
        (b"text", b'"%b"' % (b"x" * 5000)),
        (b"error", b"null"),
    ]
    pairs = [*((n.encode(), bytes(raw)) for n, raw in members), *after]
    return b"{%b}" % b",".join(b'"%b":%b' % pair for pair in pairs)


def cut(answer: bytes) -> list[bytes]:
    return [answer[at : at + 50_000] for at in range(0, len(answer), 50_000)]


def as_event(answer: bytes) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % answer


NOTICE = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'


async def in_pieces(head: bytes, *pieces: bytes) -> Any:
    yield head
    for piece in pieces:
        yield chunk(piece)
        await asyncio.sleep(0)
    yield b"0\r\n\r\n"


def whole_event(event: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    return head % len(event) + event


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"x" * 3_000_000
FORMS: dict[str, Any] = {
    "whole": json_answer,
    "whole, turned": lambda a: json_answer(turned(a)),
    "whole, spaced": lambda a: json_answer(msgspec.json.format(a)),
    "an event": lambda a: in_pieces(SSE, as_event(a)),
    "an event, turned": lambda a: in_pieces(SSE, as_event(turned(a))),
    "an event after another": lambda a: in_pieces(SSE, NOTICE, as_event(a)),
    "two events at once": lambda a: in_pieces(SSE, NOTICE + as_event(a)),
    "an event, its data first": lambda a: in_pieces(SSE, b"data: %b\nid: 5\n\n" % a),
    "an event, its data first, turned": lambda a: in_pieces(
        SSE, b"data: %b\nevent: message\n\n" % turned(a)
    ),
    "an event, of CR, with what looks like an id": lambda a: in_pieces(
        SSE, b'data: %b\rid: 5,"id":1}\r\r' % turned(a)
    ),
    "an event after a BOM": lambda a: in_pieces(SSE, b"\xef\xbb\xbf" + as_event(a)),
    "an event after a BOM, in pieces": lambda a: in_pieces(
        SSE, b"\xef", b"\xbb", b"\xbfdata", b": %b\r\r" % a
    ),
    "an event, whole": lambda a: whole_event(b"data: %b\nid: 5\n\n" % a),
    "an event, whole, of CR": lambda a: whole_event(b'data: %b\rid: 5,"id":1}\r\r' % turned(a)),
    "an event, whole, after a BOM": lambda a: whole_event(b"\xef\xbb\xbfdata: %b\n\n" % a),
    "in chunks": lambda a: in_pieces(CHUNKED, a[:9], a[9:40], a[40:]),
    "in chunks, turned": lambda a: in_pieces(CHUNKED, turned(a)[:9], turned(a)[9:]),
    "large": lambda a: json_answer(a.replace(b"mine", b"mine" + LONG)),
    "large, its id in the midst": lambda a: json_answer(in_the_midst(a).replace(b"mine", b"mine" + LONG)),
    "large, its id in the midst, in chunks": lambda a: in_pieces(
        CHUNKED, *cut(in_the_midst(a).replace(b"mine", b"mine" + LONG))
    ),
    "large, turned": lambda a: json_answer(turned(a).replace(b"mine", b"mine" + LONG)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tool", ["plain", "shared"])
@pytest.mark.parametrize("written", [b"2", b'"1"', b"null", b"1.5", b'"one"', b"7" * 1500])
async def test_a_result_that_bears_another_id_reaches_nobody(
    scripted: Scripted, start: Start, form: str, tool: str, written: bytes
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: FORMS[form](answer_of(written))
    raw = await ask(sidecar, tool)
    connections = scripted.connections
    whole = form.startswith("large") and ("turned" in form or "midst" in form)
    assert b"the id of another request" in raw or (whole and not raw.endswith(b"}")), raw[-300:]
    assert whole or b"mine" not in raw
    scripted.answer = lambda _: FORMS[form](answer_of(b"1"))
    assert b"mine" in await ask(sidecar, tool)
    assert scripted.connections > connections, "the connection that brought it is closed"
    samples = await sidecar.metrics()
    assert samples['mcpace_upstream_errors_total{reason="stray"}'] == 1


@pytest.mark.parametrize("form", ["whole", "an event", "in chunks", "large, turned"])
async def test_a_late_error_with_the_id_of_an_ended_call_reaches_nobody(
    scripted: Scripted, start: Start, form: str
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda heard: FORMS[form](answer_of(b"%d" % heard.message["id"]))
    assert b"mine" in await ask(sidecar, "plain", b"41")
    for written in (b"41", b"41.0"):
        scripted.answer = lambda _, written=written: FORMS[form](answer_of(written, kind=b"error"))
        raw = await ask(sidecar, "plain", b"1")
        assert b"the id of another request" in raw or not raw.endswith(b"}"), raw[-300:]
        assert b"mine" not in raw or form.startswith("large"), "of what is large only the end is held back"
    for written in (b"null", b'"server-error"', b"42"):
        scripted.answer = lambda _, written=written: FORMS[form](answer_of(written, kind=b"error"))
        assert b"mine" in await ask(sidecar, "plain", b"1"), "nobody has asked with it"


@pytest.mark.parametrize("status", [b"201 Created", b"404 Not Found", b"500 Internal Server Error"])
async def test_a_result_with_another_id_reaches_nobody_whatever_its_status(
    scripted: Scripted, start: Start, status: bytes
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: json_answer(answer_of(b"2"), status)
    raw = await ask(sidecar, "plain", b"1")
    assert b"mine" not in raw, raw
    scripted.answer = lambda _: json_answer(answer_of(b"2", kind=b"error"), status)
    raw = await ask(sidecar, "plain", b"1")
    assert raw.startswith(b"HTTP/1.1 %b\r\n" % status), "a refusal passes as it is"
    assert b"mine" in raw


async def ask(sidecar: Running, tool: str, message_id: bytes = b"1") -> bytes:
    body = b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"%b","arguments":{}}}'
    body %= (message_id, tool.encode())
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return await sidecar.raw(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(
    "form", [f for f in FORMS if f.startswith(("whole", "an event", "in")) and "after another" not in f]
)
async def test_the_parts_of_a_batch_are_found_in_every_form_of_answer(
    scripted: Scripted, start: Start, form: str
) -> None:
    sidecar = await start(scripted.port, {})
    scripted.answer = lambda heard: FORMS[form](answer_of(b"%d" % heard.message["id"]))
    messages = [BASE.message() | {"id": number} for number in (1, 2)]
    answers = await post(sidecar, BASE, messages)
    assert [answer["result"]["content"][0]["text"] for answer in answers] == ["mine", "mine"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (b"1", b"1"),
        (b"1", b"1.0"),
        (b'"a"', b'"a"'),
        (b'"a"', rb'"\u0061"'),
        (b'"\xc3\xa9"', rb'"\u00e9"'),
        (b"-0", b"0"),
        (b"12345678901234567890", b"12345678901234567890"),
        (b"12345678901234567890", b"12345678901234567000"),
        (b"-12345678901234567890", b"-1.2345678901234567e+19"),
        (b"9007199254740993", b"9007199254740992"),
    ],
)
async def test_ids_are_the_same_where_their_values_are(
    scripted: Scripted, start: Start, form: str, asked: bytes, written: bytes
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: FORMS[form](answer_of(written))
    for tool in ("plain", "shared"):
        assert b"mine" in await ask(sidecar, tool, asked)


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (b"9007199254740991", b"9007199254740992"),
        (b"12345678901234567890", b"12345678901234570000"),
        (b"1", b"1.00000000000000000000001"),
        (b"1", b"7" * 5000),
        (b"1", b"1e999"),
        (b"1", b"true"),
    ],
    ids=["one more", "another double", "a little more", "5000 digits", "huge", "no id"],
)
async def test_ids_are_not_the_same_where_their_values_are_only_near(
    scripted: Scripted, start: Start, asked: bytes, written: bytes
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: json_answer(answer_of(written))
    for tool in ("plain", "shared"):
        assert b"mine" not in await ask(sidecar, tool, asked)


async def test_ids_that_javascript_rounds_open_no_circuit(scripted: Scripted, start: Start) -> None:
    breaker = {"concurrency": {"circuitBreaker": {"failures": 2, "openFor": "1h"}}}
    sidecar = await start(scripted.port, breaker)
    scripted.answer = lambda heard: json_answer(
        answer_of(b"%d" % int(float(heard.message["id"]) if "id" in heard.message else 1))
    )
    for _ in range(3):
        assert b"mine" in await ask(sidecar, "plain", b"12345678901234567891")
    assert b"mine" in await ask(sidecar, "plain")
    assert sidecar.plane.breakers.open() == []


@pytest.mark.parametrize("digits", [21, 400, 4300, 5000, 50_000])
@pytest.mark.parametrize("sign", [b"", b"-"])
async def test_an_id_of_more_digits_than_readers_keep_apart_is_refused(
    scripted: Scripted, start: Start, digits: int, sign: bytes
) -> None:
    """So whatever an answer bears, null above all, is not taken for it."""
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: json_answer(answer_of(b"null"))
    for tool in ("plain", "shared"):
        raw = await ask(sidecar, tool, sign + b"9" * digits)
        assert raw.startswith(b"HTTP/1.1 400 ")
        assert b"20 digits at most" in raw
    assert not [heard for heard in scripted.calls if b"tools/call" in heard.body]


@pytest.mark.parametrize("form", [f for f in FORMS if "turned" not in f and "large" not in f])
@pytest.mark.parametrize("written", [b"1", b"null", b'"server-error"', b"99"])
async def test_an_error_may_bear_no_id_or_one_that_nobody_asked_with(
    scripted: Scripted, start: Start, form: str, written: bytes
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    scripted.answer = lambda _: FORMS[form](answer_of(written, b"its own words", b"error"))
    for tool in ("plain", "shared"):
        assert b"its own words" in await ask(sidecar, tool)


async def test_an_error_to_another_call_in_flight_reaches_nobody(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, CONFIG)
    waiting = asyncio.Event()

    async def answer(heard: Heard) -> Any:
        if heard.message.get("id") == 2:
            await waiting.wait()
            yield json_answer(answer_of(b"2"))
        else:
            yield json_answer(answer_of(b"2", b"to another", b"error"))

    scripted.answer = answer
    other = asyncio.ensure_future(ask(sidecar, "plain", b"2"))
    await sidecar.busy(1)
    assert b"to another" not in await ask(sidecar, "plain", b"1")
    waiting.set()
    assert b"mine" in await other


async def test_a_second_answer_on_a_kept_connection_is_given_to_nobody(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, CONFIG)
    twice = asyncio.Event()

    async def answer(heard: Heard) -> Any:
        message_id = b"%d" % heard.message["id"]
        if twice.is_set():  # the answer to the call before comes late, and first
            twice.clear()
            yield json_answer(answer_of(b"%d" % (heard.message["id"] - 1), b"of the one before"))
        yield json_answer(answer_of(message_id, b"of call " + message_id))

    scripted.answer = answer
    assert b"of call 10" in await ask(sidecar, "plain", b"10")
    twice.set()
    raw = await ask(sidecar, "plain", b"11")
    assert b"of the one before" not in raw
    assert b"error" in raw
    for number in (12, 13):
        assert b"of call %d" % number in await ask(sidecar, "plain", b"%d" % number)


@pytest.mark.parametrize("way", ["batch", "parallel"])
async def test_parts_whose_answers_bear_other_ids_fail_alone(
    scripted: Scripted, start: Start, way: str
) -> None:
    sidecar = await start(scripted.port, CONFIG)

    def answer(heard: Heard) -> bytes:
        message = heard.message
        if message.get("method") != "tools/call":
            return json_answer(answer_of(b"null", b"no", b"error"))
        odd = message["params"]["arguments"].get("odd")
        return json_answer(answer_of(b'"another"' if odd else msgspec.json.encode(message["id"])))

    scripted.answer = answer
    arguments = [{"odd": True}, {}]
    if way == "batch":
        messages = [BASE.message(tool="plain", arguments=a) | {"id": n} for n, a in enumerate(arguments)]
        bad, good = await post(sidecar, BASE, messages)
        assert "another request" in bad["error"]["message"]
        assert good["result"]["content"][0]["text"] == "mine"
    else:
        calls = {"calls": [{"tool": "plain", "arguments": a} for a in arguments]}
        said = await post(sidecar, BASE, BASE.message(tool="parallel", arguments=calls))
        summary = said["result"]["structuredContent"]
        assert summary["succeeded"] == 1
        assert "another request" in summary["errors"][0]["message"]
