"""An answer belongs to whoever could have fetched it: requests that differ in what may decide, never share one."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit.issuer import AUDIENCE, ISSUER, RSA_KEY, Issuer
from tests.kit.sharing import CONFIG, GATEWAY
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import until

DECIDING = (
    b"mcp-protocol-version",
    b"mcp-session-id",
    b"authorization",
    b"cookie",
    b"x-api-key",
    b"x-user",
    b"x-gateway-client",
    b"x-gateway-plan",
    b"x-forwarded-user",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-prefix",
    b"x-script-name",
)
"""The headers that the server of these tests answers by."""


@dataclass(frozen=True)
class Request:
    """A request, as far as its answer may depend on it."""

    target: str = "/mcp?tenant=a"
    headers: dict[str, str] = field(
        default_factory=lambda: {"MCP-Protocol-Version": "2025-03-26", "Authorization": "Bearer one"}
    )
    arguments: Any = field(default_factory=lambda: {"city": "Oslo"})
    meta: Any = None

    def given(self, **headers: str) -> Request:
        return replace(self, headers=self.headers | {n.replace("_", "-"): v for n, v in headers.items()})

    def message(self, method: str = "tools/call", tool: str = "t", arguments: Any = None) -> Any:
        wanted = self.arguments if arguments is None else arguments
        params = {"name": tool, "arguments": wanted} if method == "tools/call" else dict(self.arguments)
        if self.meta is not None:
            params["_meta"] = self.meta
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def post(sidecar: Running, request: Request, message: Any) -> Any:
    body = msgspec.json.encode(message)
    lines = {"Host": "localhost", "Content-Type": "application/json"} | request.headers
    head = f"POST {request.target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items() if v)
    raw = await sidecar.raw(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    top, _, answer = raw.partition(b"\r\n\r\n")
    return msgspec.json.decode(answer) if answer[:1] in (b"{", b"[") else top


class Echo:
    """Answers with what it saw: of the request's line, headers and params, what may decide an answer."""

    def __init__(self, scripted: Scripted) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()
        self.status = b"200 OK"
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        message = heard.message if heard.body else {}
        method = message.get("method")
        if method not in ("tools/call", "prompts/list"):
            error = {"code": -32601, "message": "no"}
            yield json_answer(
                msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "error": error})
            )
            return
        self.calls += 1
        await self.go.wait()
        params = message["params"]
        meta = params.get("_meta") or {}
        seen = {
            "target": heard.line.split()[1].decode(),
            "headers": {n.decode(): heard.headers[n].decode() for n in DECIDING if n in heard.headers},
            "arguments": params.get("arguments", {k: v for k, v in params.items() if k != "_meta"}),
            "capabilities": meta.get("io.modelcontextprotocol/clientCapabilities"),
        }
        result = {"seen": seen, "rows": [seen] * 8, "ttlMs": 60_000, "cacheScope": "private"}
        if method == "tools/call":
            result = {"content": [], "structuredContent": result}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        yield json_answer(body, self.status)


def seen(answer: Any) -> Any:
    """What the server saw of the request that this is the answer to."""
    result = answer["result"]
    result = result.get("structuredContent", result)
    return result["seen"] if "seen" in result else result["rest"]["seen"]


BESIDE = {"clients": GATEWAY["clients"] | {"apiKeys": [{"secretRef": {"name": "gateway"}, "tier": "free"}]}}
OURS = "a key of ours"
"""Which goes no further than the sidecar."""
BASE = Request()
CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}

PAIRS: dict[str, tuple[dict[str, Any], Request, Request]] = {
    "query": ({}, BASE, replace(BASE, target="/mcp?tenant=b")),
    "no query": ({}, BASE, replace(BASE, target="/mcp")),
    "version": ({}, BASE, BASE.given(MCP_Protocol_Version="2025-06-18")),
    "session": ({}, BASE.given(Mcp_Session_Id="s1"), BASE.given(Mcp_Session_Id="s2")),
    "authorization": ({}, BASE, BASE.given(Authorization="Bearer two")),
    "no authorization": ({}, BASE.given(X_User="u"), BASE.given(X_User="u", Authorization="")),
    "cookie": ({}, BASE.given(Cookie="sid=1"), BASE.given(Cookie="sid=2")),
    "X-API-Key of the server's": ({}, BASE.given(X_API_Key="k1"), BASE.given(X_API_Key="k2")),
    "varyOn": ({}, BASE.given(X_User="anna"), BASE.given(X_User="bert")),
    "gateway's client": (GATEWAY, BASE.given(X_Gateway_Client="a"), BASE.given(X_Gateway_Client="b")),
    "gateway's tier": (
        GATEWAY,
        BASE.given(X_Gateway_Client="a", X_Gateway_Plan="free"),
        BASE.given(X_Gateway_Client="a", X_Gateway_Plan="pro"),
    ),
    "gateway's client beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a"),
        BASE.given(X_API_Key=OURS, X_Gateway_Client="b"),
    ),
    "a client beside a key, and none": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a"),
        BASE.given(X_API_Key=OURS),
    ),
    "gateway's client beside a bearer": (
        BESIDE,
        BASE.given(Authorization=f"Bearer {OURS}", X_Gateway_Client="a"),
        BASE.given(Authorization=f"Bearer {OURS}", X_Gateway_Client="b"),
    ),
    "gateway's tier beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a", X_Gateway_Plan="free"),
        BASE.given(X_API_Key=OURS, X_Gateway_Client="a", X_Gateway_Plan="pro"),
    ),
    "a person whom a gateway names": (
        {},
        BASE.given(X_Forwarded_User="anna"),
        BASE.given(X_Forwarded_User="bert"),
    ),
    "a person beside a key": (
        BESIDE,
        BASE.given(X_API_Key=OURS, X_Forwarded_User="anna"),
        BASE.given(X_API_Key=OURS),
    ),
    "arguments": ({}, BASE, replace(BASE, arguments={"city": "Bergen"})),
    "capabilities": ({}, BASE, replace(BASE, meta=CAPABLE)),
    "public host": ({}, BASE, BASE.given(Host="127.0.0.1")),
    "forwarded host": ({}, BASE, BASE.given(X_Forwarded_Host="evil.example")),
    "forwarded scheme": ({}, BASE, BASE.given(X_Forwarded_Proto="https")),
    "forwarded prefix": (
        {},
        BASE.given(X_Forwarded_Prefix="/a"),
        BASE.given(X_Forwarded_Prefix="/b"),
    ),
    "forwarded prefix of a gateway's": (GATEWAY, BASE, BASE.given(X_Forwarded_Prefix="/a")),
    "script name": ({}, BASE, BASE.given(X_Script_Name="/a")),
}
PUBLIC = tuple(n for n in PAIRS if n.split()[0] in ("public", "forwarded", "script"))
THE_SAME_PERSON = ("session", "version", "arguments", "capabilities", *PUBLIC)
"""What tells answers apart, and not whose they are."""
SHARED = ("query", "no query", "version", "arguments", "capabilities", *PUBLIC)
"""What tells answers apart even where the manifest says that they are everybody's."""


def expected(request: Request) -> Any:
    lines = {name.lower().encode(): value for name, value in request.headers.items()}
    lines = {b"x-forwarded-host": lines.get(b"host", "localhost"), b"x-forwarded-proto": "http"} | lines
    return {
        "target": request.target,
        "headers": {n.decode(): lines[n] for n in DECIDING if lines.get(n) and OURS not in lines[n]},
        "arguments": request.arguments,
        "capabilities": (request.meta or {}).get("io.modelcontextprotocol/clientCapabilities"),
    }


def age(sidecar: Running) -> None:
    """Let what is kept be fresh no more."""
    for entry in sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001


async def running(scripted: Scripted, start: Start, more: dict[str, Any], *requests: Request) -> Any:
    """A server, a sidecar before it, and the sessions of these requests known as alive."""
    echo = Echo(scripted)
    sidecar = await start(scripted.port, CONFIG | more)
    for request in requests:
        session = request.headers.get("Mcp-Session-Id")
        if session:
            await post(sidecar, request, request.message(tool="unknown"))
    echo.calls = 0
    return echo, sidecar


@pytest.fixture
def start(start: Start, tmp_path: Path) -> Start:
    """The same, with a Secret that holds a key."""
    secret = tmp_path / "gateway"
    secret.mkdir()
    (secret / "one").write_text(OURS)
    return functools.partial(start, keys=tmp_path)


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Any:
    return PAIRS[request.param]


@pytest.mark.parametrize("tool", ["t", "quick", "tolerant"])
async def test_what_is_kept_for_one_is_never_given_to_another(
    scripted: Scripted, start: Start, pair: Any, tool: str
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other, other, one):
        assert seen(await post(sidecar, request, request.message(tool=tool))) == expected(request)
    assert echo.calls <= 4, "whoever has a credential is answered from the cache"


async def test_calls_in_flight_are_joined_by_none_that_another_could_not_have_made(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    echo.go.clear()
    calls = [
        asyncio.ensure_future(post(sidecar, request, request.message())) for request in (one, other, one)
    ]
    await until(lambda: echo.calls == 2, "both requests to reach the server")
    await sidecar.busy(3)
    echo.go.set()
    answers = await asyncio.gather(*calls)
    assert [seen(a) for a in answers] == [expected(one), expected(other), expected(one)]


@pytest.mark.parametrize("tool", ["tolerant", "quick"])
async def test_what_is_stale_stands_in_for_nobody_elses_call(
    scripted: Scripted, start: Start, pair: Any, tool: str
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    await post(sidecar, one, one.message(tool=tool))
    age(sidecar)
    echo.status = b"500 Internal Server Error"
    answer = await post(sidecar, other, other.message(tool=tool))
    assert seen(answer) == expected(other), "the server's own answer, though it is a 500"
    echo.status = b"200 OK"
    assert seen(await post(sidecar, one, one.message(tool=tool))) == expected(one)


async def test_a_refresh_is_made_as_its_caller_would_have(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other):
        await post(sidecar, request, request.message(tool="quick"))
    age(sidecar)
    before = echo.calls
    for request in (one, other):
        await post(sidecar, request, request.message(tool="quick"))
    await until(lambda: echo.calls >= before + 2, "both to be fetched anew")
    await until(lambda: not sidecar.plane.flights, "the new results to be kept")
    for request in (one, other):
        assert seen(await post(sidecar, request, request.message(tool="quick"))) == expected(request)


async def test_a_list_that_is_private_is_given_to_nobody_else(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other, one, other):
        answer = await post(sidecar, request, request.message("prompts/list"))
        assert seen(answer) == expected(request)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("version", "arguments", "capabilities")])
async def test_parts_of_a_batch_share_nothing_with_another_caller(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        messages = [request.message(), request.message() | {"id": 2}]
        answers = await post(sidecar, request, messages)
        assert [seen(a) for a in answers] == [expected(request)] * 2


async def test_calls_within_parallel_share_nothing_with_another_caller(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        arguments = {"calls": [{"tool": "t", "arguments": request.arguments}] * 2}
        answer = await post(sidecar, request, request.message(tool="parallel", arguments=arguments))
        results = answer["result"]["structuredContent"]["results"]
        assert [seen({"result": r}) for r in results] == [expected(request)] * 2
        direct = await post(sidecar, request, request.message())
        assert seen(direct) == expected(request)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("arguments", "capabilities")])
async def test_the_pages_of_one_are_opened_by_nobody_else(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    _, sidecar = await running(scripted, start, more, one, other)
    first = await post(sidecar, one, one.message(tool="long"))
    handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
    wanted = {"handle": handle, "page": 2}
    answer = await post(sidecar, other, other.message(tool="next_page", arguments=wanted))
    assert answer["result"]["isError"]
    answer = await post(sidecar, one, one.message(tool="next_page", arguments=wanted))
    page = msgspec.json.decode(answer["result"]["content"][0]["text"])
    assert page["data"] == [expected(one)] * 2


@pytest.mark.parametrize("name", SHARED)
async def test_even_what_is_shared_is_told_apart_by_target_version_and_body(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        assert seen(await post(sidecar, request, request.message(tool="shared"))) == expected(request)
    assert echo.calls == 2


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("for=192.0.2.1;host=a", "for=192.0.2.2;host=a", True),
        ('for="[2001:db8::1]:80";proto=https, for=192.0.2.1', "FOR=192.0.2.2; proto=https", True),
        ("for=192.0.2.1", "", True),
        ("for=192.0.2.1;host=a", "for=192.0.2.1;host=b", False),
        ("for=192.0.2.1", "for=192.0.2.1;proto=https", False),
        ('for="a;host=b"', 'for="a;host=c"', False),
        (r'for="a\";host=b;x="', r'for="a\";host=c;x="', False),
    ],
)
async def test_what_is_shared_is_told_apart_by_the_public_address_in_forwarded_alone(
    scripted: Scripted, start: Start, one: str, other: str, shares: bool
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for value in (one, other, one, other):
        await post(sidecar, BASE.given(Forwarded=value), BASE.message(tool="shared"))
    assert echo.calls == (1 if shares else 2)


async def test_what_is_shared_is_told_apart_by_the_host_that_the_server_sees(
    scripted: Scripted, start: Start
) -> None:
    public = {"publicURL": "https://a.example/mcp"}
    for more, calls in ((public, 1), (public | {"upstream": {"host": "preserve"}}, 2)):
        echo, sidecar = await running(scripted, start, more)
        for host in ("localhost", "127.0.0.1", "localhost"):
            await post(sidecar, BASE.given(Host=host), BASE.message(tool="shared"))
        assert echo.calls == calls


async def test_members_beside_those_of_json_rpc_are_kept_for_nobody(
    scripted: Scripted, start: Start
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for extra in ({}, {"tenant": "a"}, {"tenant": "b"}, {"tenant": "a"}):
        await post(sidecar, BASE, BASE.message(tool="shared") | extra)
    assert echo.calls == 4


@pytest.mark.parametrize("tool", ["t", "shared"])
@pytest.mark.parametrize(
    "more",
    [
        {"X_Request_Id": "{}"},
        {"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e473{}-00f067aa0ba902b7-01"},
        {"Tracestate": "a={}"},
        {"User_Agent": "client/{}"},
        {"Accept": "application/json, text/event-stream;q=0.{}"},
        {"X_Forwarded_For": "192.0.2.{}", "X_Real_IP": "192.0.2.{}", "Forwarded": "for=192.0.2.{};host=a"},
        {"X_Request_Id": "{}", "X_Correlation_Id": "{}", "User_Agent": "{}"},
    ],
    ids=["request id", "trace", "trace state", "user agent", "accept", "way", "all of them"],
)
async def test_what_decides_nothing_makes_no_difference(
    scripted: Scripted, start: Start, tool: str, more: dict[str, str]
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for number in range(4):
        request = BASE.given(**{name: value.format(number) for name, value in more.items()})
        request = replace(request, meta={"progressToken": number, "traceparent": f"00-{number}"})
        assert seen(await post(sidecar, request, request.message(tool=tool))) == expected(request)
    assert echo.calls == 1


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys = {"one": RSA_KEY}
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.mark.parametrize(
    ("more", "one", "other", "shares"),
    [
        ({"clientClaim": "azp"}, {"sub": "anna"}, {"sub": "bert"}, False),
        ({}, {"sub": "anna", "azp": "x"}, {"sub": "anna", "azp": "y"}, True),
        ({"clientClaim": "azp"}, {"azp": "app"}, {"azp": "other"}, False),
        ({"tierClaim": "plan"}, {"plan": "free"}, {"plan": "pro"}, False),
        ({}, {"iat": 1}, {"iat": 2}, True),
        ({"forward": True}, {"scope": "read write"}, {"scope": "read"}, False),
    ],
    ids=["subject", "another claim", "client", "tier", "renewed", "forwarded and of less scope"],
)
@pytest.mark.parametrize("paged", [False, True])
async def test_a_verified_token_is_its_issuer_subject_and_client_and_itself_where_it_is_forwarded(
    scripted: Scripted,
    start: Start,
    issuer: Issuer,
    more: Any,
    one: Any,
    other: Any,
    shares: bool,
    paged: bool,
) -> None:
    more = dict(more)
    clients = {
        "forwardCredential": more.pop("forward", False),
        "jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url} | more,
    }
    echo, sidecar = await running(scripted, start, {"clients": clients})
    requests = [
        BASE.given(Authorization=f"Bearer {issuer.token(**({'azp': 'app'} | claims))}")
        for claims in (one, other)
    ]
    if paged:
        first = await post(sidecar, requests[0], BASE.message(tool="long"))
        handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
        wanted = {"handle": handle, "page": 2}
        answer = await post(sidecar, requests[1], BASE.message(tool="next_page", arguments=wanted))
        assert bool(answer["result"].get("isError")) != shares
        return
    for request in (*requests, *requests):
        await post(sidecar, request, request.message())
    assert echo.calls == (1 if shares else 2)


async def test_whom_a_gateway_names_beside_a_verified_token_has_answers_of_his_own(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url}
    echo, sidecar = await running(scripted, start, {"clients": GATEWAY["clients"] | {"jwt": jwt}})
    token = BASE.given(Authorization=f"Bearer {issuer.token(sub='anna')}")
    requests = [token.given(X_Gateway_Client="a"), token.given(X_Gateway_Client="b"), token]
    for request in (*requests, *requests):
        answer = seen(await post(sidecar, request, request.message()))
        wanted = request.headers.get("X-Gateway-Client")
        assert answer["headers"].get("x-gateway-client") == wanted
    assert echo.calls == 3
    first = await post(sidecar, requests[0], BASE.message(tool="long"))
    handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
    wanted = BASE.message(tool="next_page", arguments={"handle": handle, "page": 2})
    refused = [
        bool((await post(sidecar, request, wanted))["result"].get("isError")) for request in requests
    ]
    assert refused == [False, True, True]


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
@pytest.mark.parametrize("name", PAIRS)
async def test_who_is_refused_loses_what_is_kept_for_him_alone(
    scripted: Scripted, start: Start, status: bytes, name: str
) -> None:
    more, one, other = PAIRS[name]
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other):
        await post(sidecar, request, request.message())
    assert echo.calls == 2
    echo.status = status
    await post(sidecar, one, one.message(tool="unknown"))
    await post(sidecar, other, other.message())
    same = name in THE_SAME_PERSON
    assert echo.calls == (4 if same else 3), "he alone, and in every form of his calls"
    await post(sidecar, one, one.message())
    assert echo.calls == (5 if same else 4)


async def test_of_two_tokens_beside_one_key_only_the_one_that_is_refused_loses_its_results(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url}
    echo, sidecar = await running(scripted, start, {"clients": {"jwt": jwt}})
    gate = BASE.given(X_API_Key="the gateway's, to the server")
    anna, bert = [gate.given(Authorization=f"Bearer {issuer.token(sub=sub)}") for sub in ("anna", "bert")]
    for request in (anna, bert):
        await post(sidecar, request, request.message())
    echo.status = b"401 Unauthorized"
    await post(sidecar, anna, anna.message(tool="unknown"))
    assert echo.calls == 3
    assert seen(await post(sidecar, bert, bert.message()))
    assert echo.calls == 3
    await post(sidecar, anna, anna.message())
    assert echo.calls == 4


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
