"""The cache on the wire: joined, stale, invalidated, purged, and never somebody else's."""

import asyncio
import time
from typing import Any

import pytest
from tests.kit.caching import SHARED, Counting, number, result_of
from tests.kit.calls import ANSWER, tier
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import until

MODERN = "2026-07-28"


def age(sidecar: Running) -> None:
    """Let what is kept be fresh no more."""
    for entry in sidecar.kept():
        entry.fresh_until = time.monotonic() - 0.001


async def joined(server: Counting, sidecar: Running, calls: int) -> list[asyncio.Future[Any]]:
    """So many identical calls, of which one has reached the server, who does not answer it yet."""
    server.go.clear()
    before = server.calls
    making = [asyncio.ensure_future(sidecar.call("t")) for _ in range(calls)]
    await until(lambda: server.calls == before + 1, "one to lead")
    await sidecar.busy(calls)
    return making


async def test_identical_calls_in_flight_are_one_call_of_the_server(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, SHARED)
    calls = await joined(server, sidecar, 10)
    server.go.set()
    assert [(await call)[2]["result"]["n"] for call in calls] == [1] * 10
    assert server.calls == 1
    samples = await sidecar.metrics()
    assert samples['mcpace_cache_requests_total{result="joined",tool="t"}'] == 9


async def test_a_leader_whose_client_leaves_goes_on_for_the_others(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    server.go.clear()
    sidecar = await start(scripted.port, SHARED)
    _, leader = await sidecar.begin("t")
    await until(lambda: server.calls == 1, "the leader to reach the server")
    others = [asyncio.ensure_future(number(sidecar)) for _ in range(3)]
    await sidecar.busy(4)
    leader.transport.abort()
    await until(lambda: len(sidecar.connections.open) == 3, "it to have left")
    server.go.set()
    assert await asyncio.gather(*others) == [1] * 3
    assert server.calls == 1


async def test_calls_that_joined_one_that_fails_ask_for_themselves(
    scripted: Scripted, start: Start
) -> None:
    go, heard = asyncio.Event(), 0

    async def fail_once(request: Heard) -> Any:
        nonlocal heard
        if b"tools/call" in request.body:
            heard += 1
            first = heard == 1
            await go.wait()
            yield result_of(isError=True) if first else result_of(n=2)
        else:
            yield result_of()

    scripted.answer = fail_once
    sidecar = await start(scripted.port, SHARED)
    calls = [asyncio.ensure_future(sidecar.call("t")) for _ in range(3)]
    await sidecar.busy(3)
    go.set()
    results = [body["result"] for _, _, body in await asyncio.gather(*calls)]
    assert sorted(results, key=str) == [{"isError": True}, {"n": 2}, {"n": 2}]


async def test_a_stale_result_is_answered_at_once_while_a_new_one_is_fetched(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    tool = {"name": "t", "ttl": "1m", "scope": "shared", "staleWhileRevalidate": "1m"}
    sidecar = await start(scripted.port, {"cache": {"tools": [tool]}})
    assert await number(sidecar) == 1
    age(sidecar)
    server.go.clear()
    assert await number(sidecar) == 1
    await until(lambda: server.calls == 2, "the refresh to reach the server")
    assert await number(sidecar) == 1, "one refresh is enough"
    server.go.set()
    await until(lambda: not sidecar.plane.flights._waiting, "the refresh to land")
    kept = next(iter(sidecar.kept()))
    assert kept.result == b'{"n":2}'
    samples = await sidecar.metrics()
    assert samples['mcpace_cache_requests_total{result="stale",tool="t"}'] == 2


@pytest.mark.parametrize("failure", ["down", "500"])
async def test_a_stale_result_stands_in_for_a_server_that_fails(
    scripted: Scripted, start: Start, failure: str
) -> None:
    Counting(scripted)
    tool = {"name": "t", "ttl": "1m", "scope": "shared", "staleIfError": "1m"}
    config = {"cache": {"tools": [tool]}, "upstream": {"connectTimeout": "1s"}}
    sidecar = await start(scripted.port, config)
    assert await number(sidecar) == 1
    age(sidecar)
    if failure == "down":
        await scripted.stop()
    else:
        scripted.answer = lambda _: json_answer(b'"oops"', b"500 Internal Server Error")
    assert await number(sidecar) == 1
    status, _, body = await sidecar.call("never-cached")
    assert "error" in body or status == 500


async def test_an_error_of_the_tool_is_told_even_where_a_stale_result_is_kept(
    scripted: Scripted, start: Start
) -> None:
    Counting(scripted)
    tool = {"name": "t", "ttl": "1m", "scope": "shared", "staleIfError": "1m"}
    sidecar = await start(scripted.port, {"cache": {"tools": [tool]}})
    assert await number(sidecar) == 1
    age(sidecar)
    scripted.answer = lambda _: result_of(isError=True)
    assert (await sidecar.call("t"))[2]["result"] == {"isError": True}


LIST = {"jsonrpc": "2.0", "id": 1, "method": "prompts/list", "params": {}}


async def test_a_list_is_kept_as_long_and_for_whom_it_says(scripted: Scripted, start: Start) -> None:
    asked: list[bytes] = []

    def answer(heard: Heard) -> bytes:
        asked.append(heard.headers.get(b"authorization", b""))
        scope = b"private" if heard.headers.get(b"authorization") else b"public"
        return result_of(prompts=[], ttlMs=60_000, cacheScope=scope.decode(), n=len(asked))

    sidecar = await start(scripted.port)
    await until(lambda: scripted.heard, "a handshake")
    scripted.answer = answer

    async def n(**headers: str) -> int:
        return int((await sidecar.post(LIST, MCP_Protocol_Version=MODERN, **headers))[2]["result"]["n"])

    await n()  # what the first says of itself is learned
    public = await n()
    assert await n() == public
    scripted.answer = lambda heard: result_of(
        prompts=[], ttlMs=60_000, cacheScope="private", n=heard.headers[b"authorization"][-1]
    )
    sidecar.plane.results.purge([b"all"], lambda: None)
    assert [await n(Authorization=f"Bearer {who}") for who in "abab"] == [97, 98, 97, 98]
    heard = len(scripted.calls)
    assert [await n(Authorization=f"Bearer {who}") for who in "abab"] == [97, 98, 97, 98]
    assert len(scripted.calls) == heard


async def test_a_list_without_a_ttl_is_not_kept_unless_the_manifest_gives_it_one(
    scripted: Scripted, start: Start
) -> None:
    for config, expected in (({}, 3), ({"cache": {"lists": {"ttl": "1m", "scope": "shared"}}}, 1)):
        sidecar = await start(scripted.port, config)
        scripted.answer = lambda _: result_of(prompts=[])
        before = len(scripted.calls)
        for _ in range(3):
            await sidecar.post(LIST)
        assert len(scripted.calls) - before == expected


async def test_every_page_of_a_list_is_its_own_entry(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, {"cache": {"lists": {"ttl": "1m", "scope": "shared"}}})
    scripted.answer = lambda heard: result_of(page=heard.message.get("params", {}).get("cursor", "first"))
    for _ in range(2):
        for cursor in ("first", "a", "b"):
            params = {} if cursor == "first" else {"cursor": cursor}
            _, _, body = await sidecar.post(LIST | {"params": params})
            assert body["result"]["page"] == cursor


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_list_that_the_server_says_has_changed_is_asked_for_anew(
    scripted: Scripted, start: Start, era: str
) -> None:
    """The sidecar listens itself: no client does here."""
    changed, opened = asyncio.Event(), asyncio.Event()
    capabilities = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}
    n = 0

    async def answer(heard: Heard) -> Any:
        nonlocal n
        method = heard.message.get("method") if heard.body else "GET"
        if method in ("GET", "subscriptions/listen"):
            yield SSE + chunk(b": hello\n\n")
            opened.set()
            await changed.wait()
            yield chunk(b'data: {"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}\n\n')
            await asyncio.Event().wait()
        elif method == "server/discover" and era == "legacy":
            yield json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}', b"404 No")
        elif method in ("server/discover", "initialize"):
            yield result_of(capabilities=capabilities, protocolVersion="2025-11-25")
        elif method == "tools/list":
            yield result_of(tools=[])
        else:
            n += method == "prompts/list"
            yield result_of(prompts=[], n=n)

    scripted.answer = answer
    sidecar = await start(scripted.port, {"cache": {"lists": {"ttl": "1h", "scope": "shared"}}})
    await until(lambda: sidecar.handshake.subscribed and opened.is_set(), "the subscription")
    for _ in range(2):
        _, _, body = await sidecar.post(LIST)
        assert body["result"]["n"] == 1
    changed.set()

    async def anew() -> bool:
        return (await sidecar.post(LIST))[2]["result"]["n"] == 2

    await until(anew, "the changed list")


FORGIVING = {
    "cache": {
        "tools": [
            {"name": "t", "ttl": "1m", "scope": "shared", "staleIfError": "1h"},
            {"name": "w", "invalidates": ["t"]},
        ]
    }
}


async def test_those_who_joined_a_call_that_failed_in_the_tool_are_not_given_an_old_result(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, FORGIVING)
    assert await number(sidecar) == 1
    age(sidecar)
    calls = await joined(server, sidecar, 4)
    server.failing = True
    server.go.set()
    bodies = [(await call)[2]["result"] for call in calls]
    assert [body.get("isError") for body in bodies] == [True] * 4, bodies


async def test_those_who_joined_a_call_that_the_server_did_not_answer_are_given_an_old_result(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, FORGIVING)
    assert await number(sidecar) == 1
    age(sidecar)
    calls = await joined(server, sidecar, 4)
    await scripted.stop()
    assert [(await call)[2]["result"]["n"] for call in calls] == [1] * 4


async def test_a_writing_call_makes_results_old_though_its_client_does_not_wait_for_it(
    scripted: Scripted, start: Start
) -> None:
    server = Counting(scripted)
    sidecar = await start(scripted.port, FORGIVING)
    assert await number(sidecar) == 1
    server.go.clear()
    _, writer = await sidecar.begin("w")
    await until(lambda: server.calls == 2, "the writing call to reach the server")
    writer.transport.abort()
    await sidecar.idle()
    server.go.set()
    assert await number(sidecar) == 3


async def test_a_cached_tool_is_asked_once_and_answered_under_each_callers_id(
    scripted: Scripted, start: Start
) -> None:
    cache = {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}
    sidecar = await start(scripted.port, {"cache": cache})
    scripted.answer = lambda _: json_answer(ANSWER)
    for message_id in (1, "two", 3):
        message = {
            "jsonrpc": "2.0",
            "id": message_id,
            "method": "tools/call",
            "params": {"name": "t", "arguments": {}},
        }
        _, _, body = await sidecar.post(message)
        assert (body["id"], body["result"]["content"][0]["text"]) == (message_id, "nø")
    assert len(scripted.calls) == 1
    await sidecar.call("uncached")
    await sidecar.call("uncached")
    assert len(scripted.calls) == 3


async def test_cached_answers_are_free_where_the_manifest_says_so(scripted: Scripted, start: Start):
    cache = {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}
    sidecar = await start(scripted.port, tier(2, countCacheHits=False) | {"cache": cache})
    scripted.answer = lambda _: json_answer(ANSWER)
    for _ in range(5):
        assert "result" in (await sidecar.call("t"))[2]
    assert "result" in (await sidecar.call("other"))[2]
    assert "error" in (await sidecar.call("other"))[2]
    assert "result" in (await sidecar.call("t"))[2], "a hit is answered over the limit"


async def test_an_answer_in_an_event_stream_is_cached_too(scripted: Scripted, start: Start) -> None:
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    scripted.answer = lambda _: (
        SSE + chunk(b"event: message\r\ndata: " + ANSWER + b"\r\n\r\n") + b"0\r\n\r\n"
    )
    _, first, _ = await sidecar.call("t")
    _, second, body = await sidecar.call("t")
    assert first["content-type"] == "text/event-stream"
    assert second["content-type"] == "application/json"
    assert body["result"]["isError"] is False
    assert len(scripted.calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"isError":true}}'),
        json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}'),
        json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}'),
        json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}', b"500 Oops"),
        json_answer(b"not json"),
    ],
)
async def test_what_must_never_be_cached_is_not(scripted: Scripted, start: Start, answer: bytes) -> None:
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    scripted.answer = lambda _: answer
    message = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
    for _ in range(2):
        await sidecar.raw(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(message), message)
        )
    assert len(scripted.calls) == 2


async def test_private_results_stay_with_their_credential(scripted: Scripted, start: Start) -> None:
    cache = {"varyOn": ["X-User"], "tools": [{"name": "t", "ttl": "1m"}]}
    sidecar = await start(scripted.port, {"cache": cache})
    scripted.answer = lambda h: json_answer(
        b'{"jsonrpc":"2.0","id":1,"result":{"who":"%b%b"}}'
        % (h.headers.get(b"authorization", b"-"), h.headers.get(b"x-user", b""))
    )

    async def who(**headers: str) -> str:
        return str((await sidecar.call("t", **headers))[2]["result"]["who"])

    for _ in range(2):
        assert await who(Authorization="Bearer a") == "Bearer a"
        assert await who(Authorization="Bearer b") == "Bearer b"
        assert await who(Authorization="Bearer a", X_User="u") == "Bearer au"
        assert await who(Authorization="Bearer a", Mcp_Session_Id="s") == "Bearer a"
    assert len(scripted.calls) == 5, "of a session, the first call goes to the server"
    for _ in range(2):
        assert await who() == "-"
    assert len(scripted.calls) == 7, "without a credential nothing private is cached"


async def test_a_tool_that_says_it_changes_something_is_not_cached_even_where_configured(
    weather: int, start: Start
) -> None:
    sidecar = await start(
        weather, {"cache": {"tools": [{"name": "report-storm", "ttl": "1m", "scope": "shared"}]}}
    )
    await sidecar.ready()
    assert sidecar.catalog.forbids_caching("report-storm")
    assert not sidecar.catalog.forbids_caching("get-weather")
