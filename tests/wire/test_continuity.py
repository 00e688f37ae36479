"""Sessions under ids of ours, before a server that forgets them, breaks off, or is away for a while."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.kit.connection import Client
from tests.kit.forgetful import CALL, INITIALIZE, LIST, Forgetful, begin, breaking, posts
from tests.kit.repeating import repetitions
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import SSE, Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.call.continuing import Continuing
from mcpace_sidecar.sessions.revival import AT_ONCE

TOLD = [
    {"jsonrpc": "2.0", "id": 3, "method": "logging/setLevel", "params": {"level": "info"}},
    {"jsonrpc": "2.0", "id": 4, "method": "resources/subscribe", "params": {"uri": "memo://one"}},
]


@pytest.fixture
def server(scripted: Scripted) -> Forgetful:
    scripted.answer = server = Forgetful()
    return server


async def listens(sidecar: Running, session: str) -> Client:
    client = await Client.to(
        sidecar,
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: %b\r\n\r\n"
        % session.encode(),
    )
    await client.reads(b": open\n\n")
    return client


async def test_a_lost_session_goes_on_under_the_same_id(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    assert session not in server.sessions, "the id is ours"
    status, told, _ = await posts(sidecar, session, LIST)
    assert (status, told["mcp-session-id"]) == (200, session)
    server.forget()
    status, told, body = await posts(sidecar, session, CALL)
    assert (status, told["mcp-session-id"], body["id"]) == (200, session, 7)
    assert server.revivals == [INITIALIZE]
    assert (await sidecar.metrics())['mcpace_session_revived_total{reason="server_lost"}'] == 1
    assert (await sidecar.metrics())["mcpace_sessions"] == 1


async def test_sixty_calls_after_a_loss_begin_one_session(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    for losses in range(1, 6):
        server.forget()
        answers = await asyncio.gather(*(posts(sidecar, session, CALL) for _ in range(60)))
        assert {status for status, _, _ in answers} == {200}
        assert len(server.revivals) == losses


@pytest.mark.repeated
async def test_many_sessions_lost_at_once_are_begun_again_a_few_at_a_time(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    """Each once, and none waits for ever."""
    at_once, most = 0, 0
    as_many_as_may = asyncio.Event()

    async def begins(heard: Heard) -> AsyncIterator[bytes]:
        nonlocal at_once, most
        of_client = heard.message["params"]["clientInfo"]["name"] != "mcpace"
        at_once += of_client
        most = max(most, at_once)
        if at_once == AT_ONCE:
            as_many_as_may.set()
        if of_client:  # the first are held until there are as many as there may be
            await asyncio.wait_for(as_many_as_may.wait(), DEADLINE)
            await asyncio.sleep(0.002)
        at_once -= of_client
        yield server.begin(heard.message)

    sidecar = await start(scripted.port)
    sessions = [await begin(sidecar) for _ in range(repetitions(10_000))]
    server.forget()
    server.hooks["initialize"] = begins
    places = asyncio.Semaphore(200)

    async def calls(session: str) -> int:
        async with places:
            return (await posts(sidecar, session, CALL))[0]

    assert set(await asyncio.gather(*map(calls, sessions))) == {200}
    assert len(server.begun) == 2 * len(sessions)
    assert (at_once, most) == (0, AT_ONCE)


async def test_it_goes_on_with_what_was_negotiated_and_what_the_server_was_told(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    server.version = "2025-06-18"
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    for message in TOLD:
        assert (await posts(sidecar, session, message))[0] == 200
    server.hooks["resources/subscribe"] = lambda _: json_answer(
        b'{"jsonrpc":"2.0","id":5,"error":{"code":1,"message":"no"}}'
    )
    refused = {"jsonrpc": "2.0", "id": 5, "method": "resources/subscribe", "params": {"uri": "memo://no"}}
    await posts(sidecar, session, refused)
    del server.hooks["resources/subscribe"]
    server.forget()
    server.ran.clear()
    assert (await posts(sidecar, session, CALL))[0] == 200
    assert server.revivals == [INITIALIZE | {"protocolVersion": "2025-06-18"}]
    assert server.ran == [
        ("notifications/initialized", None),
        ("logging/setLevel", {"level": "info"}),
        ("resources/subscribe", {"uri": "memo://one"}),
        ("tools/call", CALL["params"]),
    ]


async def test_a_client_that_listens_is_told_what_was_lost(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    await posts(sidecar, session, TOLD[1])
    client = await listens(sidecar, session)
    server.forget()
    await posts(sidecar, session, CALL)
    await client.reads(b"notifications/tools/list_changed")
    await client.reads(b'notifications/resources/updated","params":{"uri":"memo://one"}')
    await client.reads(b"what it held in memory for this session is lost")
    await client.reads(b": open\n\n")
    assert [method for method, _ in server.ran].count("GET") == 2, "it listens to the new process"
    client.leave()


async def test_a_server_that_is_away_is_waited_for(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    await scripted.stop()
    server.forget()
    waiting = asyncio.create_task(posts(sidecar, session, LIST))
    await sidecar.busy(1)
    await until(lambda: not sidecar.handshake.ready, "the server to be found away")
    await scripted.start()
    assert (await waiting)[0] == 200


async def test_a_session_that_is_to_end_with_its_loss_ends(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port, {"sessions": {"onLoss": "end"}})
    session = await begin(sidecar)
    server.unknown = json_answer(
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}',
        b"400 Bad Request",
    )
    server.forget()
    for _ in range(2):
        status, _, body = await posts(sidecar, session, CALL)
        assert (status, body["error"]["message"]) == (404, "Session not found")
    assert not server.revivals


async def test_a_deleted_session_is_not_begun_again(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    delete = b"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: %b\r\n\r\n" % session.encode()
    assert (await sidecar.raw(delete)).startswith(b"HTTP/1.1 200 ")
    assert (await posts(sidecar, session, CALL))[0] == 404
    other = await begin(sidecar)
    server.forget()
    delete = b"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: %b\r\n\r\n" % other.encode()
    assert (await sidecar.raw(delete)).startswith(b"HTTP/1.1 200 "), "that it was lost is nobody's concern"
    assert (await posts(sidecar, other, CALL))[0] == 404
    assert len(server.begun) == 2


async def test_a_lost_session_too_old_is_not_begun_again_and_a_living_one_goes_on(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port, {"sessions": {"maxAge": "1d"}})
    session = await begin(sidecar)
    known = sidecar.plane.table.find(session.encode())
    assert known is not None
    known.issued -= 86_401
    assert (await posts(sidecar, session, CALL))[0] == 200
    server.forget()
    assert (await posts(sidecar, session, CALL))[0] == 404


async def test_the_new_process_may_refuse_the_credential(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer old")
    server.forget()
    server.hooks["initialize"] = lambda _: json_answer(
        b"{}", b"401 Unauthorized", b"WWW-Authenticate: Bearer\r\n"
    )
    status, headers, _ = await posts(sidecar, session, CALL, Authorization="Bearer old")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    del server.hooks["initialize"]
    assert (await posts(sidecar, session, CALL, Authorization="Bearer old"))[0] == 200


async def test_a_server_of_another_version_is_spoken_to_in_that_one(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.forget()
    server.version = "2025-06-18"
    assert (await posts(sidecar, session, CALL))[0] == 200
    assert scripted.heard[-1].headers[b"mcp-protocol-version"] == b"2025-06-18"
    server.forget()
    server.version = "2025-03-26"
    assert (await posts(sidecar, session, CALL))[0] == 404, "its client would not understand it"


@pytest.mark.parametrize("fails", ["to take what the session was told", "to speak the version"])
async def test_what_was_begun_in_vain_is_given_back_to_the_server(
    scripted: Scripted, server: Forgetful, start: Start, fails: str
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    server.forget()
    ends = fails == "to speak the version"
    if ends:
        server.version = "2025-03-26"
    else:
        server.hooks["notifications/initialized"] = breaking(b"")
    status, _, body = await posts(sidecar, session, CALL)
    assert (status, "error" in body) == (404 if ends else 200, True)
    assert len(server.revivals) == 1
    await until(lambda: not server.sessions, "the new session to be deleted")
    server.hooks.clear()
    assert (await posts(sidecar, session, CALL))[0] == (404 if ends else 200)


async def test_a_session_that_was_forgotten_goes_on_in_the_process_it_was_moved_to(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    """The server may keep it for longer than is known here what it was told."""
    sidecar = await start(scripted.port, {"sessions": {"idleTimeout": "1m"}})
    session = await begin(sidecar, Authorization="Bearer first")
    assert (await posts(sidecar, session, CALL, Authorization="Bearer first"))[0] == 200
    server.forget()
    assert (await posts(sidecar, session, CALL, Authorization="Bearer first"))[0] == 200
    assert (await posts(sidecar, session, CALL, Authorization="Bearer renewed"))[0] == 200
    sidecar.plane.table.sweep(time.monotonic() + 61)
    assert (await sidecar.metrics())["mcpace_sessions"] == 0
    assert (await posts(sidecar, session, CALL, Authorization="Bearer renewed"))[0] == 200
    assert len(server.revivals) == 1, "it is where it was"
    sidecar.plane.table.sweep(time.monotonic() + 61)
    server.forget()
    assert (await posts(sidecar, session, CALL, Authorization="Bearer first"))[0] == 404
    assert (await posts(sidecar, session, CALL, Authorization="Bearer renewed"))[0] == 200


async def test_the_id_stands_in_the_head_though_the_answer_to_initialize_is_streamed(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)

    async def streamed(whole: bytes) -> AsyncIterator[bytes]:
        head, _, body = whole.partition(b"\r\n\r\n")
        lines = [li for li in head.split(b"\r\n") if not li.startswith((b"Content-", b"HTTP"))]
        yield SSE.removesuffix(b"\r\n") + b"\r\n".join([*lines, b"", b""])
        data = b"event: message\ndata: %b\n\n" % body
        yield chunk(data[:20])
        await asyncio.sleep(0)
        yield chunk(data[20:])
        yield b"0\r\n\r\n"

    server.hooks["initialize"] = lambda heard: streamed(server.begin(heard.message))
    status, headers, body = await sidecar.post(
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
    )
    assert (status, headers["content-type"], b'"protocolVersion"' in body) == (
        200,
        "text/event-stream",
        True,
    )
    server.forget()
    del server.hooks["initialize"]
    assert (await posts(sidecar, headers["mcp-session-id"], CALL))[0] == 200


async def test_without_continuity_the_servers_own_ids_pass(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port, {"sessions": {"continuity": False}})
    session = await begin(sidecar)
    assert session in server.sessions
    server.forget()
    raw = await sidecar.raw(
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Session-Id: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (session.encode(), len(body := msgspec.json.encode(CALL)), body)
    )
    head, _, rest = server.unknown.partition(b"\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n" + rest)
    assert raw.startswith(head.split(b"\r\n")[0])


async def test_a_server_without_sessions_takes_whatever_id_a_client_makes_up(
    echo: Scripted, start: Start
) -> None:
    sidecar = await start(echo.port)
    assert (await sidecar.call("t", Mcp_Session_Id="made-up"))[0] == 200
    assert echo.calls[-1].headers[b"mcp-session-id"] == b"made-up"


async def test_a_call_of_a_session_leaves_nothing_that_only_a_collection_would_find(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await posts(sidecar, session, CALL)
        server.forget()
        await posts(sidecar, session, CALL)
        await sidecar.idle()
        assert not [each for each in gc.get_objects() if isinstance(each, Continuing)]
    finally:
        gc.enable()
