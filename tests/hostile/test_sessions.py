"""Sessions of the handshake era: what a lost one costs, and what a made-up one does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit.connection import Client
from tests.kit.forgetful import Forgetful, begin
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import until

LIMITS = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 3, "requestsPerDay": 100}]}}
LOST = json_answer(
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}', b"404 Not Found"
)
THREE = {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 600, "requestsPerDay": 3}]}}

GATEWAY = {
    "clients": {"trustedProxies": ["127.0.0.0/8"], "trustedHeaders": {"client": "X-Consumer"}},
}


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


async def test_a_forged_id_is_none_and_creates_nothing(scripted: Scripted, start: Start) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    elsewhere = await start(scripted.port)
    for forged in (
        session[:-1] + ("A" if session[-1] != "A" else "B"),
        await begin(elsewhere),
        "x",
        session * 4,
    ):
        status, _, body = await sidecar.call("t", Mcp_Session_Id=forged)
        assert (status, body["error"]["message"]) == (404, "Session not found")
    assert not server.ran
    assert all(b"tools/call" not in heard.body for heard in scripted.heard), "it was not even asked"
    assert (await sidecar.metrics())['mcpace_bad_requests_total{reason="session"}'] == 4


async def test_a_lost_session_is_not_begun_again_for_anothers_credential(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer mine")
    server.forget()
    begun = len(server.begun)
    for stolen in ({"Authorization": "Bearer another's"}, {}):
        assert (await sidecar.call("t", Mcp_Session_Id=session, **stolen))[0] == 404
    assert len(server.begun) == begun
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer mine"))[0] == 200


async def test_a_session_follows_the_credential_that_the_server_accepts(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer first")
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer renewed"))[0] == 200
    server.forget()
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer first"))[0] == 404
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer renewed"))[0] == 200


async def posted(sidecar: Running, session: str, message: dict[str, Any], **headers: str) -> int:
    return (await sidecar.post({"jsonrpc": "2.0"} | message, Mcp_Session_Id=session, **headers))[0]


async def in_events(server: Forgetful, sidecar: Running, session: str, credential: str) -> None:
    events = b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'

    async def streamed(_: Heard) -> AsyncIterator[bytes]:
        yield SSE
        yield chunk(events)
        yield b"0\r\n\r\n"

    server.hooks["ping"] = streamed
    assert await posted(sidecar, session, {"id": 1, "method": "ping"}, Authorization=credential) == 200


async def in_a_notification(server: Forgetful, sidecar: Running, session: str, credential: str) -> None:
    noted = {"method": "notifications/roots/list_changed"}
    assert await posted(sidecar, session, noted, Authorization=credential) == 202


async def in_listening(server: Forgetful, sidecar: Running, session: str, credential: str) -> None:
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\nAuthorization: {credential}\r\n\r\n"
    client = await Client.to(sidecar, head.encode())
    await client.reads(b": open\n\n")
    client.leave()
    await sidecar.forsaken()


@pytest.mark.parametrize("renew", [in_events, in_a_notification, in_listening])
async def test_it_follows_a_renewed_credential_whatever_it_was_accepted_for(
    scripted: Scripted, start: Start, renew: Any
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer first")
    await renew(server, sidecar, session, "Bearer renewed")
    server.forget()
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer first"))[0] == 404
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer renewed"))[0] == 200


async def test_a_credential_that_the_server_refuses_changes_nothing(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer mine")
    server.hooks["ping"] = lambda _: json_answer(b"{}", b"401 Unauthorized")
    ping = {"id": 1, "method": "ping"}
    assert await posted(sidecar, session, ping, Authorization="Bearer another's") == 401
    server.forget()
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer another's"))[0] == 404
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer mine"))[0] == 200


async def test_another_known_client_uses_a_session_and_does_not_take_it_over(
    scripted: Scripted, start: Start
) -> None:
    """The server cannot tell them apart, and accepts whoever knows the id."""
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port, GATEWAY)
    session = await begin(sidecar, X_Consumer="anna")
    for user in ("anna", "bert"):
        assert (await sidecar.call("t", Mcp_Session_Id=session, X_Consumer=user))[0] == 200
    assert (await sidecar.call("t", Mcp_Session_Id=session))[0] == 200
    server.forget()
    assert (await sidecar.call("t", Mcp_Session_Id=session, X_Consumer="bert"))[0] == 404
    assert (await sidecar.call("t", Mcp_Session_Id=session))[0] == 404
    assert (await sidecar.call("t", Mcp_Session_Id=session, X_Consumer="anna"))[0] == 200


async def test_a_session_belongs_to_its_client_whatever_key_that_has(
    scripted: Scripted, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "keys" / "anna"
    secret.write_text("old")
    scripted.answer = server = Forgetful()
    config = {"clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "keys"}}], "anonymous": "deny"}}
    sidecar = await start(scripted.port, config, keys=tmp_path)
    session = await begin(sidecar, X_API_Key="old")
    server.forget()
    secret.write_text("new")

    async def rotated() -> bool:
        return await posted(sidecar, session, {"id": 1, "method": "ping"}, X_API_Key="new") != 401

    await until(rotated, "the new key to be known")
    assert (await sidecar.call("t", Mcp_Session_Id=session, X_API_Key="new"))[0] == 200


async def test_a_flood_of_sessions_that_are_only_begun_takes_no_room(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = Forgetful()
    sidecar = await start(scripted.port)
    for _ in range(20):
        await asyncio.gather(*(begin(sidecar) for _ in range(50)))
    assert (await sidecar.metrics())["mcpace_sessions"] == 0


async def test_whoever_has_many_sessions_costs_nobody_else_what_is_known_of_theirs(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port, GATEWAY)
    sidecar.plane.table._most = 50
    level = {"id": 1, "method": "logging/setLevel", "params": {"level": "info"}}

    async def uses(user: str) -> str:
        session = await begin(sidecar, X_Consumer=user)
        assert await posted(sidecar, session, level, X_Consumer=user) == 200
        return session

    honest = await uses("anna")
    many = [await uses("bert") for _ in range(200)]
    assert (await sidecar.metrics())["mcpace_sessions"] <= 50
    for session, user, told in ((honest, "anna", True), (many[0], "bert", False)):
        server.forget()
        server.ran.clear()
        assert (await sidecar.call("t", Mcp_Session_Id=session, X_Consumer=user))[0] == 200
        assert (("logging/setLevel", level["params"]) in server.ran) is told


async def test_a_server_that_forgets_at_once_is_not_asked_for_ever(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.forget()
    server.hooks["notifications/initialized"] = lambda _: (server.forget(), server.unknown)[1]
    begun = len(server.begun)
    assert (await sidecar.call("t", Mcp_Session_Id=session))[0] == 404
    assert len(server.begun) - begun <= 3


async def test_an_id_that_the_server_gives_outside_of_initialize_goes_nowhere(
    scripted: Scripted, start: Start
) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    scripted.answer = lambda _: json_answer(body, extra=b"Mcp-Session-Id: inner\r\n")
    sidecar = await start(scripted.port)
    status, headers, _ = await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert (status, "mcp-session-id" in headers) == (200, False)


async def test_anothers_credential_does_not_end_a_lost_session(scripted: Scripted, start: Start) -> None:
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer mine")
    server.forget()
    delete = f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\n"
    answer = await sidecar.raw(f"{delete}Authorization: Bearer another's\r\n\r\n".encode())
    assert b" 404 " in answer.partition(b"\r\n")[0]
    assert (await sidecar.call("t", Mcp_Session_Id=session, Authorization="Bearer mine"))[0] == 200


@pytest.mark.parametrize("params", [[], {"clientInfo": {"name": "n" * 100_000}}])
async def test_an_initialize_that_no_id_carries_is_not_found_once_it_is_lost(
    scripted: Scripted, start: Start, params: object
) -> None:
    scripted.answer = server = Forgetful()
    server.hooks["initialize"] = lambda heard: server.begin(
        heard.message | {"params": {"clientInfo": {"name": "c"}}}
    )
    sidecar = await start(scripted.port)
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    session = (await sidecar.post(message))[1]["mcp-session-id"]
    assert (await sidecar.call("t", Mcp_Session_Id=session))[0] == 200
    server.forget()
    status, _, body = await sidecar.call("t", Mcp_Session_Id=session)
    assert (status, body["error"]["message"]) == (404, "Session not found")


async def test_a_call_whose_client_left_is_not_kept_for_the_session(
    scripted: Scripted, start: Start
) -> None:
    """Nor is its body: whoever posts and leaves would fill the memory while a session is begun again."""
    scripted.answer = server = Forgetful()
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.forget()
    release = asyncio.Event()

    async def late(heard: Heard) -> AsyncIterator[bytes]:
        await release.wait()
        yield server.begin(heard.message)

    server.hooks["initialize"] = late
    first = asyncio.create_task(sidecar.call("t", Mcp_Session_Id=session))
    known = sidecar.plane.table.find(session.encode())
    await until(lambda: known.reviving is not None, "the session to be begun again")
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n"
    leaving = [(await asyncio.open_connection("127.0.0.1", sidecar.data))[1] for _ in range(10)]
    for writer in leaving:
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await until(lambda: len(known.reviving) == 11, "all to wait for it")
    for writer in leaving:
        writer.transport.abort()
    await until(lambda: len(known.reviving) == 1, "those who left to be forgotten")
    release.set()
    assert (await first)[0] == 200
