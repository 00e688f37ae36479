"""Sessions of the handshake era: what a lost one costs, and what a made-up one does."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

LIMITS = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3, "requestsPerDay": 100}]}}
LOST = json_answer(
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}', b"404 Not Found"
)
THREE = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 600, "requestsPerDay": 3}]}}


def forgetful(heard: Heard) -> bytes:
    """A server that knows the session `alive` alone."""
    if heard.headers.get(b"mcp-session-id") != b"alive":
        return LOST
    body = {"jsonrpc": "2.0", "id": heard.message.get("id"), "result": {"content": []}}
    return json_answer(msgspec.json.encode(body))


async def test_a_call_of_a_lost_session_is_not_charged(scripted: Scripted, start: Start) -> None:
    scripted.answer = forgetful
    sidecar = await start(scripted.port, LIMITS)
    for _ in range(3):
        status, headers, _ = await sidecar.call("t", Mcp_Session_Id="lost")
        assert status == 404
        assert "ratelimit" not in headers, "it took nothing"
    for _ in range(3):
        status, _, body = await sidecar.call("t", Mcp_Session_Id="alive")
        assert (status, "result" in body) == (200, True)
    _, _, body = await sidecar.call("t", Mcp_Session_Id="alive")
    assert body["error"]["code"] == 42900


async def test_made_up_sessions_are_limited_all_the_same(scripted: Scripted, start: Start) -> None:
    scripted.answer = forgetful
    sidecar = await start(scripted.port, LIMITS)
    statuses = [(await sidecar.call("t", Mcp_Session_Id=f"made-up-{n}"))[0] for n in range(20)]
    assert statuses == [404] * 6 + [200] * 14, (
        "three that are given back, three that are not, then refusals"
    )
    assert len(scripted.calls) == 6


async def test_redis_gets_nothing_back_that_was_taken_while_it_was_away(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    release = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        await release.wait()
        yield LOST

    scripted.answer = lambda h: late() if h.headers.get(b"mcp-session-id") == b"lost" else forgetful(h)
    redis_server.stop()
    sidecar = await start(scripted.port, THREE, limits_url=redis_server.url)
    lost = asyncio.create_task(sidecar.call("t", Mcp_Session_Id="lost"))
    await until(lambda: scripted.calls, "the server to be asked")
    redis_server.start()
    await until(lambda: sidecar.links[0].up, "Redis to be found")
    for _ in range(3):
        assert "result" in (await sidecar.call("t", Mcp_Session_Id="alive"))[2]
    release.set()
    assert (await lost)[0] == 404
    _, _, body = await sidecar.call("t", Mcp_Session_Id="alive")
    assert body["error"]["code"] == 42900, "three a day, and Redis counted three"
