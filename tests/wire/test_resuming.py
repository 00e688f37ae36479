"""Streams of sessions whose clients' connections break: they come back, and hear the rest."""

import pytest
from tests.kit.connection import Client
from tests.kit.forgetful import CALL, VERSION, begin
from tests.kit.sidecars import Running, Start
from tests.kit.speaking import PROGRESS, RESPONSE, SpeakingServer, away, held, ids, rest, sends
from tests.kit.upstream import Scripted
from tests.kit.waiting import until


@pytest.fixture
def server(scripted: Scripted) -> SpeakingServer:
    scripted.answer = server = SpeakingServer()
    return server


async def called(
    sidecar: Running, server: SpeakingServer, session: str, **headers: str
) -> tuple[Client, bytes]:
    """A call that was answered by some progress, and what was read of that."""
    client = await sends(sidecar, session, CALL, **(VERSION | headers))
    await server.calls.opened(len(server.calls.asked) or 1)
    server.calls.says(PROGRESS % 1)
    return client, await client.reads(b'"n":1}}\n\n')


async def test_a_call_goes_on_and_its_client_hears_the_rest(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    first, second = ids(said)
    assert b"id: %b\ndata: \n\n" % first.encode() in said, "an id before anything was said"
    await away(sidecar, client)
    server.calls.says(PROGRESS % 2)
    await until(lambda: b'"n":2' in held(sidecar), "the event to be held")
    client = await sends(sidecar, session, Last_Event_ID=second, **VERSION)
    said = await client.reads(b'"n":2}}\n\n')
    assert said.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    assert b'"n":1' not in said
    server.calls.says(PROGRESS % 3, RESPONSE, ends=True)
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


async def test_an_answer_that_came_meanwhile_is_given_to_who_comes_back(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, said = await called(sidecar, server, session)
    await away(sidecar, client)
    server.calls.says(RESPONSE, ends=True)
    await sidecar.idle()
    again = await rest(sidecar, session, ids(said)[-1])
    assert again.count(b"data: ") == 1
    assert ids(again)[0].startswith("e.")


async def test_a_client_that_does_not_come_back_is_given_up(
    scripted: Scripted, server: SpeakingServer, start: Start
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
    await until(server.calls.asked[0].reader.at_eof, "the server's connection to be closed")


async def test_a_call_that_its_client_cancels_is_given_up(
    scripted: Scripted, server: SpeakingServer, start: Start
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
    scripted: Scripted, server: SpeakingServer, start: Start
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
    await server.calls.opened(2)
    server.calls.says(PROGRESS % 1)
    said = await client.reads(b'"n":1}}\n\n')
    assert (said.count(b"data: "), len(ids(said))) == (1, 1)
    await away(sidecar, client)
    server.calls.says(RESPONSE, ends=True)
    await sidecar.idle()
    assert b'"result":' in await rest(sidecar, session, ids(said)[0], **version)


async def test_a_stream_that_the_server_ends_for_now_is_resumed_there(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(b"id: theirs 1\nretry: 10\ndata: \n\n", ends=True)
    said = await client.reads(b"0\r\n\r\n")
    assert b"retry: 10\n" in said
    assert b"theirs" not in said
    for number in (2, 3):
        client = await sends(sidecar, session, Last_Event_ID=ids(said)[-1], **VERSION)
        await server.listening.opened(number - 1)
        assert server.listening.asked[-1].headers[b"last-event-id"] == b"theirs %d" % (number - 1)
        end = RESPONSE if number == 3 else PROGRESS % number
        server.listening.says(b"id: theirs %d\n%b" % (number, end), ends=True)
        said = await client.reads(b"0\r\n\r\n")
    assert ids(said)[-1].startswith("e.")
    assert (await rest(sidecar, session, ids(said)[-1])).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("answers", [True, False])
async def test_a_call_resumed_at_a_server_whose_process_is_lost_is_told_so(
    scripted: Scripted, server: SpeakingServer, start: Start, answers: bool
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(b"id: theirs 1\nretry: 10\ndata: \n\n", ends=True)
    last = ids(await client.reads(b"0\r\n\r\n"))[-1]
    if answers:
        client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
        await server.listening.opened(1)
        server.listening.says(b"id: theirs 2\n" + PROGRESS % 1)
        await client.reads(b'"n":1}}\n\n')
        server.forget()
        server.listening.asked[-1].writer.transport.abort()
    else:
        server.forget()
        client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    told = await client.reads(b'"id":7,"error":{"code":50200')
    assert ids(told)[-1].startswith("e.")
    await sidecar.idle()
    assert len(server.listening.asked) == answers, "the next process is not asked"
    assert (await rest(sidecar, session, ids(told)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_what_follows_the_response_of_a_resumed_call_is_waited_for_by_nobody(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(b"id: theirs 1\ndata: \n\n", ends=True)
    last = ids(await client.reads(b"0\r\n\r\n"))[-1]
    client = await sends(sidecar, session, Last_Event_ID=last, **VERSION)
    await server.listening.opened(1)
    server.listening.says(RESPONSE)
    await client.reads(b'"isError":false}}\n\n')
    server.listening.asked[-1].writer.transport.abort()
    assert await client.reads(b"0\r\n\r\n") == b"\r\n0\r\n\r\n", "its response was said"
    assert len(server.listening.asked) == 1


async def test_an_error_on_a_stream_bears_the_id_of_its_end(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    client, _ = await called(sidecar, server, session)
    server.calls.says(ends=True)
    said = await client.reads(b"0\r\n\r\n")
    assert b'"error":{"code":50200' in said
    assert (await rest(sidecar, session, ids(said)[-1])).startswith(b"HTTP/1.1 405 ")


async def test_without_continuity_streams_are_the_servers(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port, {"sessions": {"continuity": False}})
    session = await begin(sidecar)
    client = await sends(sidecar, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(b"id: one\n" + PROGRESS % 1)
    said = await client.reads(b'"n":1}}\n\n')
    assert said.endswith(b"\r\nid: one\n" + PROGRESS % 1)
    client.leave()
    await sidecar.idle()
    client = await sends(sidecar, session, Last_Event_ID="one", **VERSION)
    await server.listening.opened(1)
    assert server.listening.asked[-1].headers[b"last-event-id"] == b"one"
    client.leave()


async def test_a_long_request_is_not_held_while_its_client_is_gone(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    sidecar = await start(scripted.port)
    session = await begin(sidecar)
    arguments = {"params": {"name": "t", "arguments": {"long": "x" * 1_000_000}}}
    client = await sends(sidecar, session, CALL | arguments, **VERSION)
    await server.calls.opened(1)
    server.calls.says(PROGRESS % 1)
    await client.reads(b'"n":1}}\n\n')
    await away(sidecar, client)
    (kept,) = [each.call for each in sidecar.plane.in_flight if each.call.message is not None]
    assert (len(kept.body), kept.received > 1_000_000) == (0, True)
    await sidecar.forsaken()
