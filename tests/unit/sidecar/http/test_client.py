"""A connection to the server, step by step: odd interleavings of what is asked, answered, read and lost."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.pool import CHUNKED, CLOSING, CONTINUE, GET, OK, POST, Receiver, Server
from tests.kit.repeating import repetitions

from mcpace_sidecar.http.client import MAX_INTERIM, MAX_WHOLE, MOST_WIDE
from mcpace_sidecar.http.head import MAX_HEAD

ANSWERS = {
    "a length": (OK, b"hello"),
    "no body": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
    "interim answers": (CONTINUE * 3 + OK, b"hello"),
    "a large one": (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_WHOLE + 1) + b"x" * (MAX_WHOLE + 1),
        b"x" * (MAX_WHOLE + 1),
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
@given(cuts=st.lists(st.integers(1, 300), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(what: str, cuts: list[int]) -> None:
    data, body = ANSWERS[what]
    at = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]

    async def play() -> None:
        server = Server()
        receiver, _, wire = await server.ask()
        wire.says(*(data[begin:end] for begin, end in pairwise(at)))
        assert (receiver.status // 100, receiver.body, receiver.ends) == (2, body, 1)
        server.assert_at_rest()
        again, _, other = await server.ask()
        assert other is wire, "it is kept for the next request"
        wire.says(OK)
        assert again.body == b"hello"

    asyncio.run(play())


def test_a_head_like_the_last_one_is_found_again_and_no_other_is_taken_for_it() -> None:
    longer = OK.replace(b"\r\n\r\n", b"\r\nX-More: than before\r\n\r\n")
    answers = [CONTINUE + OK, OK, CONTINUE + OK, longer, OK, ANSWERS["no body"][0], ANSWERS["chunks"][0]]

    async def play() -> None:
        server = Server()
        for data in answers * 2:
            body = b"" if data == ANSWERS["no body"][0] else b"hello"
            for cut in range(len(data)):
                receiver, _, wire = await server.ask()
                wire.says(data[:cut], data[cut:])
                assert (receiver.status // 100, receiver.body, receiver.ends) == (2, body, 1), (data, cut)
        server.assert_at_rest()

    asyncio.run(play())


@given(pieces=st.lists(st.binary(max_size=5), max_size=4))
def test_an_answer_without_a_length_ends_with_its_connection_and_not_with_an_error(
    pieces: list[bytes],
) -> None:
    async def play() -> None:
        for error in (None, ConnectionResetError()):
            server = Server()
            receiver, _, wire = await server.ask()
            wire.says(CLOSING, *pieces)
            assert not receiver.ends
            if error is None:
                wire.ends()
                await wire.settled()
            else:
                wire.breaks(error)
            assert receiver.body == b"".join(pieces)
            assert receiver.reason == ("truncated" if error is not None else "")

    asyncio.run(play())


CUT = {
    "in its head": b"HTTP/1.1 200 OK\r\nCont",
    "in its body": OK[:-1],
    "before its body": OK[:-5],
    "in a chunk": CHUNKED + b"5\r\nhel",
    "before the last chunk": CHUNKED + b"5\r\nhello\r\n",
    "in a large body": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhello" % (MAX_WHOLE + 1),
}


@pytest.mark.parametrize("where", CUT)
@pytest.mark.parametrize("how", ["ends", "breaks"])
async def test_an_answer_that_breaks_off_fails_once_and_nothing_is_held_of_it(where: str, how: str) -> None:
    server = Server()
    receiver, _, wire = await server.ask()
    wire.says(CUT[where])
    getattr(wire, how)()
    await wire.settled()
    assert (receiver.reason, receiver.ends) == ("truncated", 1)
    assert len(server.pool) == 0
    server.assert_at_rest()


MALFORMED = {
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "a size that is none": CHUNKED + b"zz\r\n",
    "interim answers without end": CONTINUE * (MAX_INTERIM + 1),
    "a head without end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * MAX_HEAD,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_answer_fails_the_request_once_and_closes_the_connection(what: str) -> None:
    server = Server()
    receiver, _, wire = await server.ask()
    wire.says(MALFORMED[what], OK)
    await wire.settled()
    assert (receiver.reason, receiver.ends) == ("malformed", 1)
    assert wire.lost
    server.assert_at_rest()


async def test_a_request_that_is_given_up_hears_nothing_more() -> None:
    server = Server()
    receiver, ticket, wire = await server.ask()
    wire.says(OK[:-2])
    ticket.cancel()
    wire.says(b"lo")
    await wire.settled()
    assert not receiver.heard
    assert wire.lost
    server.assert_at_rest()


async def test_who_reads_slowly_stops_the_reading_and_the_next_request_finds_it_going() -> None:
    server = Server()
    receiver, ticket, wire = await server.ask()
    wire.says(CHUNKED, b"5\r\nhello\r\n")
    ticket.pause(True)
    wire.says(b"0\r\n\r\n")
    assert not receiver.ends
    assert not wire.is_reading()
    ticket.pause(False)
    await wire.settled()
    assert (receiver.body, receiver.ends) == (b"hello", 1)
    ended = Receiver()
    _, ticket, _ = await server.ask(receiver=ended)
    wire.says(CHUNKED, b"5\r\nhello\r\n")
    ticket.pause(True)
    ticket.cancel()
    await wire.settled()
    assert ended.heard == ["head", "piece"]


async def test_a_reader_that_stops_at_the_last_piece_leaves_the_connection_reading() -> None:
    class Stops(Receiver):
        ticket: Any = None

        def on_piece(self, piece: bytes) -> None:
            super().on_piece(piece)
            self.ticket.pause(True)

    server = Server()
    receiver = Stops()
    _, receiver.ticket, wire = await server.ask(receiver=receiver)
    wire.says(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
    assert receiver.ends == 1
    again, _, other = await server.ask()
    assert other is wire
    wire.says(OK)
    await wire.settled()
    assert again.body == b"hello"


async def test_an_answer_to_head_has_no_body_whatever_length_it_names() -> None:
    server = Server()
    receiver, _, wire = await server.ask(GET.replace(b"GET", b"HEAD"))
    wire.says(OK.removesuffix(b"hello"))
    assert (receiver.heard, receiver.body) == (["answer"], b"")
    again, _, other = await server.ask()
    assert other is wire
    wire.says(OK)
    assert again.body == b"hello"


async def test_a_silence_that_is_the_readers_own_is_not_held_against_the_server() -> None:
    server = Server()
    receiver, ticket, wire = await server.ask()
    wire.says(CHUNKED, b"5\r\nhello\r\n")
    ticket.pause(True)
    later = asyncio.get_running_loop().time() + 1000
    server.pool.sweep(later)
    assert not receiver.ends
    ticket.pause(False)
    server.pool.sweep(later)
    assert receiver.reason == "timeout"


async def test_an_answer_that_comes_before_the_request_is_sent_costs_the_connection_alone() -> None:
    server = Server()
    _, _, wire = await server.ask()
    wire.says(OK)
    wire.stalls()
    receiver = Receiver()
    server.pool.request((POST + b"x" * 100,), receiver, 60.0)
    wire.says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
    await wire.settled()
    assert (receiver.status, receiver.body) == (400, b"no")
    assert wire.lost, "the rest of it would be taken for the next request"


async def test_only_so_many_connections_get_a_large_buffer_and_each_for_as_long_as_it_lives() -> None:
    server = Server()
    long = b"x" * 200_000
    wires = [wire for _, _, wire in [await server.ask() for _ in range(MOST_WIDE + 2)]]
    sockets = [socket.socket() for _ in wires]
    before = sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    for wire, opened in zip(wires, sockets, strict=True):
        wire.know("socket", opened)
        wire.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long), long)
    sizes = [opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for opened in sockets]
    assert [size != before for size in sizes] == [True] * MOST_WIDE + [False] * 2
    for wire in wires:
        wire.breaks()
    assert not server.pool.wide
    for opened in sockets:
        opened.close()


@pytest.mark.parametrize("at", ["answer", "head", "piece", "end"])
async def test_a_receiver_that_raises_is_failed_and_the_connection_serves_nobody_twice(at: str) -> None:
    server = Server()
    receiver = Receiver(raises=at)
    _, _, wire = await server.ask(receiver=receiver)
    wire.says(OK if at == "answer" else CHUNKED)
    if at != "answer":
        wire.says(b"5\r\nhello\r\n", b"0\r\n\r\n")
    await wire.settled()
    assert receiver.reason == "internal"
    assert receiver.heard[-2:] == [at, "failure"]
    assert [str(error) for error in server.raised] == [at]
    again, _, other = await server.ask()
    other.says(OK)
    assert again.body == b"hello"
    server.assert_at_rest()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.sampled_from([OK, OK[:30], OK[30:], CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n", CONTINUE, CLOSING, b"odd"])),
        st.tuples(st.sampled_from(["ask", "stream", "cancel", "pause", "go on", "loop", "sweep", "ends", "breaks", "stalls", "reads"])),
    ),
    max_size=25,
)  # fmt: skip


@pytest.mark.repeated
@settings(max_examples=repetitions(2000))
@given(STEPS)
def test_whatever_comes_in_whatever_order_each_request_ends_once_and_nothing_stays_held(
    steps: list[tuple[Any, ...]],
) -> None:
    async def play() -> None:
        server = Server()
        server.pool.max_connections = 2
        asked: list[tuple[Receiver, Any]] = []
        given_up: set[Receiver] = set()
        for verb, *rest in steps:
            wire = server.wires[-1] if server.wires else None
            if verb in ("ask", "stream"):
                receiver = Receiver()
                patience = 60.0 if verb == "ask" else None
                asked.append((receiver, server.pool.request((GET,), receiver, patience)))
            elif verb in ("cancel", "pause", "go on"):
                live = [each for each in asked if not each[0].ends and each[0] not in given_up]
                if live and verb == "cancel":
                    given_up.add(live[0][0])
                    live[0][1].cancel()
                elif live:
                    live[0][1].pause(verb == "pause")
            elif verb == "loop":
                for _ in range(5):
                    await asyncio.sleep(0)
            elif verb == "sweep":
                server.pool.sweep(asyncio.get_running_loop().time() + 30)
            elif wire is not None:
                getattr(wire, verb)(*rest)
        for wire in server.wires:
            wire.breaks()
        for _ in range(5):
            await asyncio.sleep(0)
        for receiver, ticket in asked:
            if not receiver.ends and receiver not in given_up:
                ticket.cancel()
                given_up.add(receiver)
        await server.pool.close()
        for _ in range(5):
            await asyncio.sleep(0)
        for receiver, _ in asked:
            assert receiver.ends == (receiver not in given_up), receiver.heard
        assert not server.raised
        assert all(wire.lost and not wire.wasted for wire in server.wires)
        server.assert_at_rest()

    asyncio.run(play())
