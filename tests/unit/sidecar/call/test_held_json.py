"""What is read of JSON that is too long to be held."""

from __future__ import annotations

import asyncio
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.played import Played, body_of

from mcpace_sidecar.call.held_json import MOST_JUDGED, Seen

LONG = b"an error of a mirror " * 20
ANSWERS = {
    b'{"result":{"text":"%b","isError":true},"id":1}' % LONG: True,
    b'{"result":{"text":"%b","isError" : true},"id":1}' % LONG: True,
    b'{"error":{"message":"%b"},"id":1}' % LONG: True,
    b'{"result":{"text":"%b","isError":false},"id":1}' % LONG: False,
    b'{"result":{"text":"\\"error\\": %b"},"id":1}' % LONG: False,
}


@pytest.mark.parametrize("answer", ANSWERS)
@given(cuts=st.lists(st.integers(1, 60), max_size=40))
def test_signs_of_an_error_are_seen_in_whatever_pieces_they_come(answer: bytes, cuts: list[int]) -> None:
    seen = Seen()
    for start, end in pairwise([*accumulate(cuts, initial=0), len(answer)]):
        seen.look_at(answer[start : max(start, end)])
    assert seen.suspect == ANSWERS[answer]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def answer_of(message_id: int, size: int, member: str = "text") -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":{"%b":"%b"}}' % (message_id, member.encode(), b"x" * size)


@settings(max_examples=30)
@given(size=st.sampled_from([10, 1000, 70_000]), cuts=st.lists(st.integers(1, 30_000), max_size=5))
def test_what_is_short_is_answered_whole_with_its_length_in_whatever_pieces_it_comes(
    size: int, cuts: list[int]
) -> None:
    async def play() -> None:
        played = Played()
        client, server = await played.call()
        answer = answer_of(1, size)
        ends = [*accumulate(cuts, initial=0), len(answer)]
        server.says(HEAD, *(chunk(answer[a:b]) for a, b in pairwise(ends) if answer[a:b]))
        assert client.sent == b"", "nothing passes before it is whole"
        server.says(LAST)
        await client.settled()
        assert b"Content-Length: %d\r\n" % len(answer) in client.sent
        assert body_of(client.sent) == answer
        assert played.statuses == {"success": 1}
        played.assert_at_rest()

    asyncio.run(play())


async def test_what_is_longer_than_is_judged_whole_passes_a_piece_behind() -> None:
    played = Played()
    client, server = await played.call()
    answer = answer_of(1, MOST_JUDGED + 100_000)
    pieces = [answer[at : at + 100_000] for at in range(0, len(answer), 100_000)]
    server.says(HEAD, *map(chunk, pieces[:-1]))
    assert b"200 OK" in client.sent
    assert pieces[-2] not in client.sent.partition(b"\r\n\r\n")[2][-100_100:], "the last may show an error"
    server.says(chunk(pieces[-1]), LAST)
    await client.settled()
    assert body_of(client.sent) == answer
    assert played.statuses == {"success": 1}
    played.assert_at_rest()


@pytest.mark.parametrize("first", ["id", "result"])
async def test_what_is_too_long_and_anothers_is_cut_before_its_end(first: str) -> None:
    played = Played()
    client, server = await played.call()
    text = b"x" * (MOST_JUDGED + 100_000)
    if first == "id":
        answer = b'{"jsonrpc":"2.0","id":2,"result":{"text":"%b"}}' % text
    else:
        answer = b'{"result":{"text":"%b"},"jsonrpc":"2.0","id":2}' % text
    server.says(HEAD, *(chunk(answer[at : at + 100_000]) for at in range(0, len(answer), 100_000)), LAST)
    await client.settled()
    assert answer[-100:] not in client.sent
    if first == "id":
        assert text[:100] not in client.sent, "it was known whose it is before anything passed"
        assert b'"id":1,"error":' in client.sent
    else:
        assert client.lost, "what cannot be completed is broken off"
    assert "success" not in played.statuses
    played.assert_at_rest()


async def test_what_finds_no_room_passes_as_it_comes() -> None:
    played = Played()
    played.pool.gathered.most = 1000
    client, server = await played.call()
    answer = answer_of(1, 5000)
    server.says(HEAD, chunk(answer[:3000]))
    assert b"200 OK" in client.sent
    assert played.pool.gathered.held == 0
    server.says(chunk(answer[3000:]), LAST)
    await client.settled()
    assert body_of(client.sent) == answer
    played.assert_at_rest()


async def test_a_client_that_leaves_frees_what_is_held_for_it() -> None:
    played = Played()
    client, server = await played.call()
    server.says(HEAD, chunk(answer_of(1, 5000)[:3000]))
    assert played.pool.gathered.held == 3000
    client.breaks()
    await client.settled()
    played.assert_at_rest()
