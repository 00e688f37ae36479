"""Events that pass one by one: read on the way, in whatever pieces they come."""

from __future__ import annotations

import asyncio
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.played import Played, body_of

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NOTICE = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
QUESTION = b'data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}\n\n'
RESULT = b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n'
ERROR = b'data: {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}\n\n'
ANOTHERS = b'data: {"jsonrpc":"2.0","id":2,"result":{"content":[{"text":"secret"}]}}\n\n'
LAST = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.mark.parametrize(("last", "status"), [(RESULT, "success"), (ERROR, "error"), (b"", "error")])
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 60), max_size=8))
def test_events_pass_as_they_are_in_whatever_pieces_they_come(
    last: bytes, status: str, cuts: list[int]
) -> None:
    async def play() -> None:
        played = Played()
        client, server = await played.call()
        events = NOTICE + QUESTION + last
        ends = [*accumulate(cuts, initial=0), len(events)]
        server.says(HEAD, *(chunk(events[a:b]) for a, b in pairwise(ends) if events[a:b]), LAST)
        await client.settled()
        assert body_of(client.sent) == events
        assert played.statuses == {status: 1}
        played.assert_at_rest()

    asyncio.run(play())


async def test_an_event_is_passed_on_as_soon_as_it_is_whole_and_none_before() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(NOTICE + RESULT[:20]))
    assert client.sent.endswith(chunk(NOTICE)), "the one that is whole"
    server.says(chunk(RESULT[20:]))
    assert client.sent.endswith(chunk(RESULT))


async def test_events_that_come_together_pass_in_one_write() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(NOTICE * 3 + RESULT))
    assert client.sent.endswith(chunk(NOTICE * 3 + RESULT))


async def test_the_response_to_another_request_reaches_nobody_and_ends_the_servers_connection() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(NOTICE + ANOTHERS))
    await client.settled()
    assert b"secret" not in client.sent
    assert NOTICE in client.sent, "what came before it is the call's own"
    assert b'"id":1,"error":' in client.sent
    assert server.lost
    played.assert_at_rest()


async def test_after_its_own_response_that_of_another_ends_the_call_with_what_it_has() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(RESULT + ANOTHERS))
    await client.settled()
    assert body_of(client.sent) == RESULT
    assert played.statuses == {"success": 1}
    played.assert_at_rest()


@pytest.mark.parametrize(("before", "told"), [(NOTICE, True), (RESULT, False)])
async def test_a_server_that_fails_is_told_in_the_stream_unless_the_response_has_passed(
    before: bytes, told: bool
) -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(before))
    server.breaks()
    await client.settled()
    body = body_of(client.sent)
    assert body.startswith(before)
    assert (b'"error"' in body[len(before) :]) == told
    played.assert_at_rest()


async def test_the_last_event_may_lack_its_empty_line() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(RESULT[:-1]), LAST)
    await client.settled()
    assert body_of(client.sent) == RESULT[:-1]
    assert played.statuses == {"success": 1}


async def test_an_event_for_which_there_is_no_room_passes_unread() -> None:
    played = Played()
    played.pool.gathered.most = 1000
    client, server = await played.call()
    long = b"data: " + b"x" * 2000
    server.says(HEAD, chunk(long[:500]))
    assert long[:500] not in client.sent, "it is held while there is room"
    server.says(chunk(long[500:]))
    assert client.sent.endswith(chunk(long)), "and passes when there is none"
    assert played.pool.gathered.held == 0
    server.says(chunk(b"y\n\n"), LAST)
    await client.settled()
    assert body_of(client.sent) == long + b"y\n\n"
    played.assert_at_rest()
