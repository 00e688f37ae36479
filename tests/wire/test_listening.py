"""Streams on which a server speaks on its own in a session, whose clients' connections break."""

import asyncio
import contextlib
from typing import Any

import pytest
from tests.kit.forgetful import VERSION, begin
from tests.kit.sidecars import Start
from tests.kit.speaking import PROGRESS, SpeakingServer, away, held, ids, rest, sends
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import DEADLINE, until


@pytest.fixture
def server(scripted: Scripted) -> SpeakingServer:
    scripted.answer = server = SpeakingServer()
    return server


@pytest.mark.parametrize("knows", [True, False])
async def test_what_the_server_said_on_its_own_meanwhile_is_heard_by_who_listens_again(
    scripted: Scripted, server: SpeakingServer, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await away(sidecar, client)
    server.listening.says(PROGRESS % 2)
    await until(lambda: b'"n":2' in held(sidecar), "the event to be held")
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    said = await client.reads(b'"n":2}}\n\n')
    assert b'"n":1' not in said
    server.listening.says(PROGRESS % 3)
    await client.reads(b'"n":3}}\n\n')
    assert len(server.listening.asked) == 1
    await away(sidecar, client)
    await sidecar.forsaken()


@pytest.mark.parametrize("knows", [True, False])
async def test_a_stream_whose_connection_broke_unnoticed_goes_on_with_who_asks_for_it_again(
    scripted: Scripted, server: SpeakingServer, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    gone = await sends(sidecar, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    last = ids(await gone.reads(b'"n":1}}\n\n'))[-1]
    if knows:
        server.listening.says(PROGRESS % 2)
        await until(lambda: b'"n":2' in held(sidecar), "the event to be said to nobody")
    open_one, busy = server.hooks["GET"], json_answer(b"{}", b"409 Conflict")
    server.hooks["GET"] = lambda _: busy
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    if knows:
        assert b'"n":1' not in await client.reads(b'"n":2}}\n\n')
    else:
        await client.reads(b"\r\n\r\n")
    server.hooks["GET"] = open_one
    server.listening.says(PROGRESS % 3)
    assert b'"n":2' not in await client.reads(b'"n":3}}\n\n')
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            await gone.reader.read(-1)
    assert len(sidecar.in_flight) == 1


async def test_a_session_that_is_listened_to_is_not_taken_from_its_client_by_another(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer mine")
    client = await sends(sidecar, session, Authorization="Bearer mine", **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    open_one, busy = server.hooks["GET"], json_answer(b"{}", b"409 Conflict")
    server.hooks["GET"] = lambda _: busy
    assert (await rest(sidecar, session, last, Authorization="Bearer other")).startswith(b"HTTP/1.1 409 ")
    server.hooks["GET"] = open_one
    server.listening.says(PROGRESS % 2)
    await client.reads(b'"n":2}}\n\n')


@pytest.mark.parametrize("knows", [True, False])
async def test_what_the_server_said_before_it_ended_its_stream_is_heard_by_who_comes_back(
    scripted: Scripted, server: SpeakingServer, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await away(sidecar, client)
    server.listening.says(PROGRESS % 2, PROGRESS % 3, ends=True)
    await sidecar.idle()
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    said = await client.reads(b'"n":3}}\n\n')
    assert [b'"n":%d' % n in said for n in (1, 2, 3)] == [False, True, True]
    assert len(server.listening.asked) == 1, "the server has nothing to say of that"
    for number, headers in enumerate(({"Last_Event_ID": ids(said)[-1]}, {})):
        client = await sends(sidecar, session, **(VERSION | headers))
        await server.listening.opened(2 + number)
        server.listening.says(PROGRESS % 4, ends=True)
        said = await client.reads(b"0\r\n\r\n")
        assert said.count(b'"n":') == 1, "nothing is said twice"


async def test_what_nobody_came_back_to_hear_is_not_held(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    await client.reads(b'"n":1}}\n\n')
    await away(sidecar, client)
    server.listening.says(PROGRESS % 2)
    await until(lambda: b'"n":2' in held(sidecar), "the event to be held")
    await sidecar.forsaken()
    assert sidecar.plane.recordings.ledger.held == 0


async def test_the_server_is_asked_again_from_where_it_was_heard_and_another_process_from_nowhere(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(b"id: one\n" + PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    client.leave()
    await sidecar.forsaken()
    client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await server.listening.opened(2)
    assert server.listening.asked[-1].headers[b"last-event-id"] == b"one"
    server.listening.says(b"id: two\n" + PROGRESS % 2)
    await client.reads(b'"n":2}}\n\n')
    server.listening.asked[-1].writer.transport.abort()
    await server.listening.opened(3)
    assert server.listening.asked[-1].headers[b"last-event-id"] == b"two"
    server.forget()
    await sidecar.post(
        {"jsonrpc": "2.0", "id": 8, "method": "tools/list"}, Mcp_Session_Id=session, **VERSION
    )
    await server.listening.opened(4)
    assert b"last-event-id" not in server.listening.asked[-1].headers
    server.listening.says(PROGRESS % 4)
    await client.reads(b'"n":4}}\n\n')
    client.leave()
    again = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await again.reads(b"\r\n\r\n")
    again.leave()


async def test_a_stream_that_was_announced_with_a_length_is_said_without_it(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    said = PROGRESS % 1

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    server.hooks["GET"] = lambda _: head % len(said) + said
    client = await sends(sidecar, session, **VERSION)
    answer = await client.reads(b"0\r\n\r\n")
    assert b"content-length" not in answer.lower()
    assert said.partition(b"data: ")[2] in answer
