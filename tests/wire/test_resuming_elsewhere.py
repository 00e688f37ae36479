"""Clients whose connections break, and who come back to another replica than before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.kit.forgetful import CALL, LIST, VERSION, begin, posts
from tests.kit.paging import ITEMS, PAGED, next_page
from tests.kit.sidecars import Running, Start
from tests.kit.speaking import PROGRESS, RESPONSE, SpeakingServer, ids, rest, sends
from tests.kit.upstream import Scripted
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_sidecar.http.address import Address


@pytest.fixture
def server(scripted: Scripted) -> SpeakingServer:
    scripted.answer = server = SpeakingServer()
    return server


async def replicas(
    start: Start, scripted: Scripted, number: int, config: dict[str, Any] | None = None
) -> list[Running]:
    """So many sidecars of one server, which find each other."""
    places, port = [f"127.0.0.{each + 2}" for each in range(number)], free_port()
    found = Address(",".join(places), port)
    made = [
        await start(
            scripted.port, config, relay_listen=Address(each, port), peers=found, session_keys=(b"k" * 32,)
        )
        for each in places
    ]
    for each in made:
        await each.ready()
    return made


async def moved(holds: Running, through: Running, session: str) -> None:
    """The replica that holds a session ends, and another has taken it over."""
    holds.drain()
    holds.plane.draining_since -= 3600.0  # calls in flight keep it no longer
    assert (await posts(through, session, LIST))[0] == 200
    known = holds.plane.table.find(session.encode())
    assert known is not None
    assert not known.here


@pytest.mark.parametrize("ends", [True, False])
async def test_a_call_that_a_session_has_left_behind_is_heard_to_its_end(
    scripted: Scripted, server: SpeakingServer, start: Start, ends: bool
) -> None:
    first, holds, third = await replicas(start, scripted, 3)
    session = await begin(holds)
    client = await sends(first, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await moved(holds, first, session)
    client.leave()
    await until(lambda: holds.plane.recordings.away, "the client's leaving to be noticed")
    if ends:
        server.calls.says(PROGRESS % 2, RESPONSE, ends=True)
        await until(lambda: not holds.plane.recordings.away, "the call to end")
    for through in (first, third):
        client = await sends(through, session, Last_Event_ID=last, **VERSION)
        if not ends:
            server.calls.says(PROGRESS % 2)
        await client.reads(b'"n":2}}\n\n')
        if ends:
            assert ids(await client.reads(b'"isError":false}}\n\n'))[0].startswith("e.")
            continue
        client.leave()
        await until(lambda: holds.plane.recordings.away, "the client's leaving to be noticed")
    await holds.forsaken()


async def test_a_call_whose_replica_has_ended_since_its_session_left_is_told_that_it_is_lost(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    first, holds, third = await replicas(start, scripted, 3)
    session = await begin(holds)
    client = await sends(first, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    await moved(holds, first, session)
    client.leave()
    holds.end()
    await holds.waiting
    for through in (first, third):
        assert b'"id":7,"error":{"code":50200' in await rest(through, session, last)
        assert (await posts(through, session, LIST))[0] == 200
    assert len(server.revivals) == 1, "the session was not lost"


async def test_a_call_that_is_resumed_through_another_replica_is_told_that_its_process_is_lost(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    first, holds = await replicas(start, scripted, 2)
    session = await begin(holds)
    client = await sends(first, session, CALL, **VERSION)
    await server.calls.opened(1)
    server.calls.says(b"id: theirs 1\nretry: 10\ndata: \n\n", ends=True)
    last = ids(await client.reads(b"0\r\n\r\n"))[-1]
    client = await sends(first, session, Last_Event_ID=last, **VERSION)
    await server.listening.opened(1)
    server.listening.says(b"id: theirs 2\n" + PROGRESS % 1)
    await client.reads(b'"n":1}}\n\n')
    server.forget()
    server.listening.asked[-1].writer.transport.abort()
    told = await client.reads(b'"id":7,"error":{"code":50200')
    assert ids(told)[-1].startswith("e.")
    assert len(server.listening.asked) == 1


async def test_a_stream_that_another_replica_passes_on_goes_over_to_who_asks_for_it_again(
    scripted: Scripted, server: SpeakingServer, start: Start
) -> None:
    first, holds = await replicas(start, scripted, 2)
    session = await begin(holds)
    gone = await sends(first, session, **VERSION)
    await server.listening.opened(1)
    server.listening.says(PROGRESS % 1)
    last = ids(await gone.reads(b'"n":1}}\n\n'))[-1]
    for number, through in enumerate((first, holds, first), start=2):
        client = await sends(through, session, Last_Event_ID=last, **VERSION)
        await until(lambda: len(first.in_flight) + len(holds.in_flight) in (1, 2), "one stream to be left")
        server.listening.says(PROGRESS % number)
        last = ids(await client.reads(b'"n":%d}}\n\n' % number))[-1]
    assert len(server.listening.asked) == 1
    holds.drain()
    holds.plane.draining_since -= 3600.0
    await server.listening.opened(2)  # it is asked for where the session is by then
    server.listening.says(PROGRESS % 9)
    await client.reads(b'"n":9}}\n\n')


@pytest.mark.parametrize("meanwhile", [True, False])
@pytest.mark.parametrize("ways", ["01", "10"])
@pytest.mark.parametrize("came_in", [0, 1])
async def test_a_result_is_cut_into_pages_wherever_its_client_comes_back(
    scripted: Scripted, server: SpeakingServer, start: Start, came_in: int, ways: str, meanwhile: bool
) -> None:
    """The session is held by the second replica; `meanwhile`: whether the result comes before its client."""
    both = await replicas(start, scripted, 2, PAGED)
    holds = both[1]
    session = await begin(holds)
    client = await sends(both[came_in], session, CALL | {"params": {"name": "list"}}, **VERSION)
    await server.calls.opened(1)
    server.calls.says(PROGRESS % 1)
    last = ids(await client.reads(b'"n":1}}\n\n'))[-1]
    client.leave()
    await until(lambda: holds.plane.recordings.away, "the client's leaving to be noticed")
    result = {"content": [{"type": "text", "text": msgspec.json.encode(ITEMS).decode()}]}
    answer = b"data: %b\n\n" % msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "result": result})
    if meanwhile:
        server.calls.says(answer, ends=True)
        await until(lambda: not holds.plane.recordings.away, "the call to end")
    for number in map(int, ways):
        client = await sends(both[number], session, Last_Event_ID=last, **VERSION)
        if not meanwhile and number == int(ways[0]):
            await until(lambda: not holds.plane.recordings.away, "its client to be there again")
            server.calls.says(answer, ends=True)
        told = await client.reads(b"}\n\n")
        data = next(line[6:] for line in told.split(b"\n") if line.startswith(b"data: "))
        first = msgspec.json.decode(msgspec.json.decode(data)["result"]["content"][0]["text"])
        assert (first["total"], first["showing"]) == (250, 100)
        cut_by_holder = came_in == 1 or (not meanwhile and ways[0] == "1")
        cut = holds if cut_by_holder else both[number]
        page = await next_page(cut, first["handle"], 2, headers={"Mcp_Session_Id": session} | VERSION)
        assert msgspec.json.decode(page["content"][0]["text"])["data"] == ITEMS[100:200]
        await holds.idle()
