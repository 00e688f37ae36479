"""Streams of sessions whose clients' connections break: they come back, and hear the rest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.connection import Client
from tests.kit.forgetful import VERSION, Forgetful, begin
from tests.kit.sidecars import Running, Start
from tests.kit.speaking import PROGRESS, RESPONSE, Speaking, ids, leave, sends
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "t", "arguments": {}}}


@pytest.fixture
def server(scripted: Scripted) -> Forgetful:
    scripted.answer = server = Forgetful()
    server.hooks["tools/call"] = Speaking()
    server.hooks["GET"] = Speaking()
    return server


@pytest.fixture(autouse=True)
async def leaving() -> AsyncIterator[None]:
    yield
    await leave()


def calls(server: Forgetful) -> Speaking:
    return server.hooks["tools/call"]  # type: ignore[return-value]


def listening(server: Forgetful) -> Speaking:
    return server.hooks["GET"]  # type: ignore[return-value]


async def away(sidecar: Running, client: Client) -> None:
    gone = len(sidecar.plane.recordings.away)
    client.leave()
    await until(lambda: len(sidecar.plane.recordings.away) > gone, "the client's leaving to be noticed")


async def called(sidecar: Running, server: Forgetful, session: str, **headers: str) -> tuple[Client, bytes]:
    """A call that was answered by some progress, and what was read of that."""
    client = await sends(sidecar, session, CALL, **(VERSION | headers))
    await calls(server).opened(len(calls(server).asked) or 1)
    calls(server).says(PROGRESS % 1)
    return client, await client.reads(b'"n":1}}\n\n')


async def rest(sidecar: Running, session: str, last: str, **headers: str) -> bytes:
    """All that is answered to a client that comes back."""
    client = await sends(sidecar, session, Last_Event_ID=last, Connection="close", **(VERSION | headers))
    return await client.reader.read(-1)


async def test_a_call_goes_on_and_its_client_hears_the_rest(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    first, second = ids(said)
    assert b"id: %b\ndata: \n\n" % first.encode() in said, "an id before anything was said"
    await away(sidecar, client)
    calls(server).says(PROGRESS % 2)
    await until(lambda: b'"n":2' in (sidecar_said(sidecar)), "the event to be held")
    client = await sends(sidecar, session, Last_Event_ID=second, **VERSION)
    said = await client.reads(b'"n":2}}\n\n')
    assert said.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    assert b'"n":1' not in said
    calls(server).says(PROGRESS % 3, RESPONSE, ends=True)
    said = await client.reads(b"0\r\n\r\n")
    assert said.count(b"data: ") == 2
    last = ids(said)[-1]
    assert last.startswith("e.")
    assert [method for method, _ in server.ran] == ["tools/call"], "the server was asked once"
    assert (await rest(sidecar, session, last)).startswith(b"HTTP/1.1 405 ")
    again = await rest(sidecar, session, first)
    assert [b'"n":%d' % n in again for n in (1, 2, 3)] == [True] * 3
    assert b'"result":' in again
    assert [method for method, _ in server.ran] == ["tools/call"]
    await sidecar.idle()


def sidecar_said(sidecar: Running) -> bytes:
    """What is held of all streams."""
    found = b""
    for of in sidecar.plane.recordings._of.values():
        for recording in of.values():
            found += recording.after(recording.first - 1) or b""
    return found


async def test_an_answer_that_came_meanwhile_is_given_to_who_comes_back(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    await away(sidecar, client)
    calls(server).says(RESPONSE, ends=True)
    await sidecar.idle()
    again = await rest(sidecar, session, ids(said)[-1])
    assert again.count(b"data: ") == 1
    assert ids(again)[0].startswith("e.")


async def test_a_client_that_does_not_come_back_is_given_up(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port, {"concurrency": {}})
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    await away(sidecar, client)
    assert sidecar.plane.bulkhead.in_flight == 1, "the server is at work on it"
    await sidecar.forsaken()
    assert sidecar.plane.bulkhead.in_flight == 0
    assert sidecar.plane.recordings.ledger.held == 0
    told = await rest(sidecar, session, ids(said)[-1])
    assert told.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    assert b'"id":7,"error":{"code":50200' in told
    assert ids(told)[0].startswith("e.")
    await until(calls(server).asked[0].reader.at_eof, "the server's connection to be closed")


async def test_a_call_that_its_client_cancels_is_given_up(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    await away(sidecar, client)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    assert (await sidecar.post(cancelled, Mcp_Session_Id=session, **VERSION))[0] == 202
    await sidecar.idle()
    assert (await rest(sidecar, session, ids(said)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_before_2025_11_25_ids_come_with_what_is_said_and_no_event_is_made_up(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    server.version = "2025-06-18"
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    version = {"Mcp_Protocol_Version": "2025-06-18"}
    silent = await sends(sidecar, session, CALL, **version)
    await silent.reads(b"\r\n\r\n")
    silent.leave()
    await sidecar.idle()  # it has no id to come back with
    client = await sends(sidecar, session, CALL, **version)
    await calls(server).opened(2)
    calls(server).says(PROGRESS % 1)
    said = await client.reads(b'"n":1}}\n\n')
    assert (said.count(b"data: "), len(ids(said))) == (1, 1)
    await away(sidecar, client)
    calls(server).says(RESPONSE, ends=True)
    await sidecar.idle()
    assert b'"result":' in await rest(sidecar, session, ids(said)[0], **version)


@pytest.mark.parametrize("knows", [True, False])
async def test_what_the_server_said_on_its_own_meanwhile_is_heard_by_who_listens_again(
    scripted: Scripted, server: Forgetful, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await listening(server).opened(1)
    listening(server).says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await away(sidecar, client)
    listening(server).says(PROGRESS % 2)
    await until(lambda: b'"n":2' in sidecar_said(sidecar), "the event to be held")
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    said = await client.reads(b'"n":2}}\n\n')
    assert b'"n":1' not in said
    listening(server).says(PROGRESS % 3)
    await client.reads(b'"n":3}}\n\n')
    assert len(listening(server).asked) == 1
    await away(sidecar, client)
    await sidecar.forsaken()


@pytest.mark.parametrize("knows", [True, False])
async def test_a_stream_whose_connection_broke_unnoticed_goes_on_with_who_asks_for_it_again(
    scripted: Scripted, server: Forgetful, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    gone = await sends(sidecar, session, **VERSION)
    await listening(server).opened(1)
    listening(server).says(PROGRESS % 1)
    last = ids(await gone.reads(b'"n":1}}\n\n'))[-1]
    if knows:
        listening(server).says(PROGRESS % 2)
        await until(lambda: b'"n":2' in sidecar_said(sidecar), "the event to be said to nobody")
    open_one, busy = server.hooks["GET"], json_answer(b"{}", b"409 Conflict")
    server.hooks["GET"] = lambda _: busy
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    if knows:
        assert b'"n":1' not in await client.reads(b'"n":2}}\n\n')
    else:
        await client.reads(b"\r\n\r\n")
    server.hooks["GET"] = open_one
    listening(server).says(PROGRESS % 3)
    assert b'"n":2' not in await client.reads(b'"n":3}}\n\n')
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            await gone.reader.read(-1)
    assert len(sidecar.in_flight) == 1


async def test_a_session_that_is_listened_to_is_not_taken_from_its_client_by_another(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar, Authorization="Bearer mine")
    client = await sends(sidecar, session, Authorization="Bearer mine", **VERSION)
    await listening(server).opened(1)
    listening(server).says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    open_one, busy = server.hooks["GET"], json_answer(b"{}", b"409 Conflict")
    server.hooks["GET"] = lambda _: busy
    assert (await rest(sidecar, session, last, Authorization="Bearer other")).startswith(b"HTTP/1.1 409 ")
    server.hooks["GET"] = open_one
    listening(server).says(PROGRESS % 2)
    await client.reads(b'"n":2}}\n\n')


@pytest.mark.parametrize("knows", [True, False])
async def test_what_the_server_said_before_it_ended_its_stream_is_heard_by_who_comes_back(
    scripted: Scripted, server: Forgetful, start: Start, knows: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await listening(server).opened(1)
    listening(server).says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await away(sidecar, client)
    listening(server).says(PROGRESS % 2, PROGRESS % 3, ends=True)
    await sidecar.idle()
    headers: Any = {"Last_Event_ID": last} if knows else {}
    client = await sends(sidecar, session, **(VERSION | headers))
    said = await client.reads(b'"n":3}}\n\n')
    assert [b'"n":%d' % n in said for n in (1, 2, 3)] == [False, True, True]
    assert len(listening(server).asked) == 1, "the server has nothing to say of that"
    for number, headers in enumerate(({"Last_Event_ID": ids(said)[-1]}, {})):
        client = await sends(sidecar, session, **(VERSION | headers))
        await listening(server).opened(2 + number)
        listening(server).says(PROGRESS % 4, ends=True)
        said = await client.reads(b"0\r\n\r\n")
        assert said.count(b'"n":') == 1, "nothing is said twice"


async def test_what_nobody_came_back_to_hear_is_not_held(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await listening(server).opened(1)
    listening(server).says(PROGRESS % 1)
    await client.reads(b'"n":1}}\n\n')
    await away(sidecar, client)
    listening(server).says(PROGRESS % 2)
    await until(lambda: b'"n":2' in sidecar_said(sidecar), "the event to be held")
    await sidecar.forsaken()
    assert sidecar.plane.recordings.ledger.held == 0


async def test_a_stream_that_the_server_ends_for_now_is_resumed_there(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await calls(server).opened(1)
    calls(server).says(b"id: theirs 1\nretry: 10\ndata: \n\n", ends=True)
    said = await client.reads(b"0\r\n\r\n")
    assert b"retry: 10\n" in said
    assert b"theirs" not in said
    for number in (2, 3):
        client = await sends(sidecar, session, Last_Event_ID=ids(said)[-1], **VERSION)
        await listening(server).opened(number - 1)
        assert listening(server).asked[-1].headers[b"last-event-id"] == b"theirs %d" % (number - 1)
        end = RESPONSE if number == 3 else PROGRESS % number
        listening(server).says(b"id: theirs %d\n%b" % (number, end), ends=True)
        said = await client.reads(b"0\r\n\r\n")
    assert ids(said)[-1].startswith("e.")
    assert (await rest(sidecar, session, ids(said)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_the_server_is_asked_again_from_where_it_was_heard_and_another_process_from_nowhere(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, **VERSION)
    await listening(server).opened(1)
    listening(server).says(b"id: one\n" + PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    client.leave()
    await sidecar.forsaken()
    client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await listening(server).opened(2)
    assert listening(server).asked[-1].headers[b"last-event-id"] == b"one"
    listening(server).says(b"id: two\n" + PROGRESS % 2)
    await client.reads(b'"n":2}}\n\n')
    listening(server).asked[-1].writer.transport.abort()
    await listening(server).opened(3)
    assert listening(server).asked[-1].headers[b"last-event-id"] == b"two"
    server.forget()
    await sidecar.post(
        {"jsonrpc": "2.0", "id": 8, "method": "tools/list"}, Mcp_Session_Id=session, **VERSION
    )
    await listening(server).opened(4)
    assert b"last-event-id" not in listening(server).asked[-1].headers
    listening(server).says(PROGRESS % 4)
    await client.reads(b'"n":4}}\n\n')
    client.leave()
    again = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await again.reads(b"\r\n\r\n")
    again.leave()


@pytest.mark.parametrize("answers", [True, False])
async def test_a_call_resumed_at_a_server_whose_process_is_lost_is_told_so(
    scripted: Scripted, server: Forgetful, start: Start, answers: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await calls(server).opened(1)
    calls(server).says(b"id: theirs 1\nretry: 10\ndata: \n\n", ends=True)
    last = ids(await client.reads(b"0\r\n\r\n"))[-1]
    if answers:
        client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
        await listening(server).opened(1)
        listening(server).says(b"id: theirs 2\n" + PROGRESS % 1)
        await client.reads(b'"n":1}}\n\n')
        server.forget()
        listening(server).asked[-1].writer.transport.abort()
    else:
        server.forget()
        client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    told = await client.reads(b'"id":7,"error":{"code":50200')
    assert ids(told)[-1].startswith("e.")
    await sidecar.idle()
    assert len(listening(server).asked) == answers, "the next process is not asked"
    assert (await rest(sidecar, session, ids(told)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_what_follows_the_response_of_a_resumed_call_is_waited_for_by_nobody(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await calls(server).opened(1)
    calls(server).says(b"id: theirs 1\ndata: \n\n", ends=True)
    last = ids(await client.reads(b"0\r\n\r\n"))[-1]
    client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await listening(server).opened(1)
    listening(server).says(RESPONSE)
    await client.reads(b'"isError":false}}\n\n')
    listening(server).asked[-1].writer.transport.abort()
    assert await client.reads(b"0\r\n\r\n") == b"0\r\n\r\n", "its response was said"
    assert len(listening(server).asked) == 1


async def test_an_error_on_a_stream_bears_the_id_of_its_end(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, _ = await called(sidecar, server, session)
    calls(server).says(ends=True)
    said = await client.reads(b"0\r\n\r\n")
    assert b'"error":{"code":50200' in said
    assert (await rest(sidecar, session, ids(said)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_without_continuity_streams_are_the_servers(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port, {"sessions": {"continuity": False}})
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await calls(server).opened(1)
    calls(server).says(b"id: one\n" + PROGRESS % 1)
    said = await client.reads(b'"n":1}}\n\n')
    assert said.endswith(b"\r\nid: one\n" + PROGRESS % 1)
    client.leave()
    await sidecar.idle()
    client = await sends(sidecar, session, Last_Event_ID="one", **VERSION)
    await listening(server).opened(1)
    assert listening(server).asked[-1].headers[b"last-event-id"] == b"one"
    client.leave()


async def test_a_stream_that_was_announced_with_a_length_is_said_without_it(
    scripted: Scripted, server: Forgetful, start: Start
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


async def test_a_long_request_is_not_held_while_its_client_is_gone(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    arguments = {"params": {"name": "t", "arguments": {"long": "x" * 1_000_000}}}
    client = await sends(sidecar, session, CALL | arguments, **VERSION)
    await calls(server).opened(1)
    calls(server).says(PROGRESS % 1)
    await client.reads(b'"n":1}}\n\n')
    await away(sidecar, client)
    (held,) = [each.call for each in sidecar.plane.in_flight if each.call.message is not None]
    assert (len(held.body), held.received > 1_000_000) == (0, True)
