"""A client's connection, step by step: odd interleavings of what is sent, read, answered and lost."""

from __future__ import annotations

import asyncio
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.port import CHUNKED, CLOSING, GET, LARGE, MIB, OK, POST, Port, Responder, answers
from tests.kit.repeating import repetitions
from tests.kit.transport import HIGH, LOW, Transport

from mcpace_sidecar.http.gathering import HEAD_TIMEOUT
from mcpace_sidecar.http.head import MAX_HEAD
from mcpace_sidecar.http.server import LINGER


@pytest.mark.parametrize("framing", ["length", "chunked"])
@given(sizes=st.lists(st.sampled_from([1, 2, 4095, 4096, 4097, 70_000]), min_size=1, max_size=8))
def test_a_long_body_is_the_same_in_whatever_pieces_it_comes(framing: str, sizes: list[int]) -> None:
    async def send() -> None:
        port = Port(Responder.answer)
        client = port.connect()
        body = bytes(n % 251 for n in range(sum(sizes)))
        ends = list(accumulate(sizes, initial=0))
        pieces = [body[start:end] for start, end in pairwise(ends)]
        if framing == "length":
            client.says(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body), *pieces)
        else:
            client.says(CHUNKED, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")
        client.says(POST % 2)
        assert [responder.body for responder in port.app.asked] == [body, b"hello"]

    asyncio.run(send())


@pytest.mark.parametrize("size", [100, 32 * 1024 - 1, 32 * 1024, 300_000])
async def test_an_answer_of_any_length_comes_behind_its_head(size: int) -> None:
    body = b"y" * size
    port = Port(lambda responder: responder.answer(body))
    client = port.connect()
    client.says(GET % 1, GET % 2)
    assert answers((await client.settled()).sent) == [(200, body)] * 2


async def test_a_request_is_the_same_in_bytes_that_come_one_by_one() -> None:
    port = Port(Responder.answer)
    client = port.connect()
    client.says(*(bytes([byte]) for byte in POST % 1))
    assert [(responder.target, responder.body) for responder in port.app.asked] == [(b"/1", b"hello")]
    assert answers(client.sent) == [(200, b"/1")]


@given(
    requests=st.lists(st.sampled_from([GET, POST]), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 200), max_size=8),
)
def test_pipelined_requests_are_answered_in_order_in_whatever_pieces_they_come(
    requests: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(request % number for number, request in enumerate(requests))
    at = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]

    async def play() -> Transport:
        port = Port(Responder.answer)
        client = port.connect()
        for begin, end in pairwise(at):
            client.says(data[begin:end])
            await client.settled()
        for _ in requests:
            await client.settled()
        return client

    client = asyncio.run(play())
    assert answers(client.sent) == [(200, b"/%d" % number) for number in range(len(requests))]


STATES = {
    "idle": b"",
    "after an answer": GET % 1,
    "in a head": b"GET /2 HTT",
    "in a body": (POST % 2)[:-2],
    "in chunks": CHUNKED + b"3\r\nab",
    "refused": b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["ends", "breaks"])
async def test_a_client_may_leave_at_any_point_and_nothing_is_held_of_it(state: str, how: str) -> None:
    port = Port(Responder.answer)
    client = port.connect()
    client.says(STATES[state])
    handed = len(port.app.asked)
    getattr(client, how)()
    await client.settled()
    assert client.lost
    assert not client.wasted
    assert len(port.app.asked) == handed == (state == "after an answer")
    port.assert_at_rest()


@pytest.mark.parametrize("how", ["ends", "breaks"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_before_its_answer_is_told_to_its_responder_once(
    how: str, begun: bool
) -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    (responder,) = port.app.asked
    if begun:
        responder.connection.start(OK, None)
        responder.connection.send(b"half")
    getattr(client, how)()
    await client.settled()
    assert responder.gone == 1
    responder.connection.send(b"more")
    responder.connection.finish()
    responder.answer()
    assert not client.wasted
    port.assert_at_rest()


async def test_a_responder_hears_of_a_slow_client_even_in_the_midst_of_its_own_writing() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    (responder,) = port.app.asked
    responder.connection.start(OK, None)
    responder.connection.send(LARGE)
    assert responder.pauses == [True]
    responder.connection.send(b"more")
    client.reads()
    assert responder.pauses == [True, False]
    responder.connection.finish()
    await client.settled()
    assert client.sent.endswith(b"\r\n4\r\nmore\r\n0\r\n\r\n")
    assert port.all.owed == 0


async def test_a_slow_client_that_leaves_owes_nothing_more() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    port.app.asked[0].answer(LARGE)
    assert port.all.owed
    client.breaks()
    port.assert_at_rest()


async def test_a_client_that_expects_100_is_told_to_go_on_once_its_head_is_judged() -> None:
    head = b"POST /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    port = Port(Responder.answer)
    client = port.connect()
    client.says(head)
    assert client.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.says(b"hello")
    assert answers(client.sent.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == [(200, b"/1")]
    whole = port.connect()
    whole.says(head + b"hello")
    assert answers(whole.sent) == [(200, b"/1")], "its body is here already"
    port.app.judges = True
    refused = port.connect()
    refused.says(head)
    assert answers(refused.sent) == [(403, b"no")]


async def test_who_is_refused_by_the_head_is_still_read_for_a_while_into_nothing() -> None:
    port = Port(Responder.answer)
    port.app.judges = True
    client = port.connect()
    client.says((POST % 1)[:-5], b"hel", b"lo", GET % 2)
    assert answers(client.sent) == [(403, b"no")]
    assert client.ended
    assert not client.is_closing()
    assert not port.app.asked
    port.all.sweep(asyncio.get_running_loop().time() + LINGER + 1)
    await client.settled()
    assert client.lost
    port.assert_at_rest()


REFUSED = {
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n", 400),
    "an extension": (CHUNKED + b"1;a=b\r\na\r\n0\r\n\r\n", 400),
    "a chunk that is longer": (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
    "a size that is none": (CHUNKED + b"-1\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "bare newlines": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a head without end": (b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD, 431),
    "too long a body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MIB + 1), 413),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_request_is_refused_once_and_nothing_behind_it_is_taken(what: str) -> None:
    data, status = REFUSED[what]
    port = Port(Responder.answer)
    client = port.connect()
    client.says(data, GET % 2)
    await client.settled()
    assert [status for status, _ in answers(client.sent)] == [status]
    assert client.ended
    assert not port.app.asked
    client.breaks()
    port.assert_at_rest()


async def test_a_request_that_raises_is_answered_500_and_the_others_go_on() -> None:
    def raises(responder: Responder) -> None:
        if responder.target == b"/1":
            raise ValueError("odd")
        responder.answer()

    port = Port(raises)
    one, other = port.connect(), port.connect()
    one.says(GET % 1)
    other.says(GET % 2)
    assert answers(one.sent) == [(500, b"broken")]
    assert answers(other.sent) == [(200, b"/2")]
    assert [str(error) for error in port.app.raised] == ["odd"]


async def test_an_answer_that_ends_before_its_length_is_cut() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    (responder,) = port.app.asked
    responder.connection.start(OK, 10)
    responder.connection.send(b"half")
    responder.connection.finish()
    await client.settled()
    assert client.lost
    assert client.sent.endswith(b"\r\n\r\nhalf")


async def test_no_second_answer_is_written_into_one_that_has_begun() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    (responder,) = port.app.asked
    responder.connection.start(OK, None)
    responder.answer()
    await client.settled()
    assert client.lost
    assert client.sent.count(b"HTTP/1.1 ") == 1


async def test_an_answer_of_unknown_length_to_http_1_0_ends_with_the_connection() -> None:
    port = Port()
    client = port.connect()
    client.says(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    (responder,) = port.app.asked
    responder.connection.start(OK, None)
    responder.connection.send(b"whole")
    responder.connection.finish()
    await client.settled()
    assert client.sent.endswith(b"\r\n\r\nwhole")
    assert b"chunked" not in client.sent
    assert client.lost


async def test_whoever_takes_too_long_is_refused_and_whoever_is_answered_is_not() -> None:
    port = Port()
    slow, waiting = port.connect(), port.connect()
    slow.says((POST % 1)[:-2])
    waiting.says(GET % 2)
    port.all.sweep(asyncio.get_running_loop().time() + HEAD_TIMEOUT + 1)
    assert [status for status, _ in answers(slow.sent)] == [408]
    assert not waiting.sent
    port.app.asked[0].answer()
    assert answers(waiting.sent) == [(200, b"/2")]


async def test_a_connection_too_many_takes_the_place_of_one_that_is_idle() -> None:
    port = Port(most=1)
    first = port.connect()
    second = port.connect()
    await first.settled()
    assert first.lost
    second.says(GET % 1)
    third = port.connect()
    await third.settled()
    assert third.lost, "nobody is idle"
    assert [status for status, _ in answers(third.sent)] == [503]
    assert port.shed == ["connections"] * 2


async def test_a_request_with_an_empty_body_makes_no_room_once_it_is_whole() -> None:
    port = Port()
    asked, large, more = port.connect(), port.connect(), port.connect()
    asked.says(CHUNKED + b"0\r\n\r\n")
    large.says(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (MIB, b"x" * MIB))
    more.says(b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
    assert [status for status, _ in answers(more.sent)] == [503]
    assert not asked.sent, "it is being answered"
    port.app.asked[0].answer()
    assert answers(asked.sent) == [(200, b"/1")]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.sampled_from([GET % 1, POST % 2, CHUNKED + b"1\r\na\r\n0\r\n\r\n", CLOSING % 3, b"GET /4", b"\r\n\r\n"])),
        st.tuples(st.sampled_from(["answer", "large", "start", "send", "finish", "stalls", "reads", "some", "loop", "drain"])),
        st.tuples(st.sampled_from(["ends", "breaks", "sweep"])),
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
        port = Port()
        client = port.connect()
        done: set[Responder] = set()

        def now(what: str) -> None:
            responder = next((t for t in port.app.asked if t not in done and not t.gone), None)
            if responder is None:
                return
            if what in ("answer", "large"):
                done.add(responder)
                responder.answer(LARGE if what == "large" else None)
            elif what == "start":
                responder.connection.start(OK, None)
                responder.connection.send(b"begun")
            elif what == "send":
                responder.connection.start(OK, None)
                responder.connection.send(b"more")
            elif what == "finish":
                done.add(responder)
                responder.answer()

        for verb, *rest in steps:
            before = len(port.app.asked)
            if verb == "says":
                client.says(*rest)
            elif verb in ("ends", "breaks", "stalls", "reads"):
                getattr(client, verb)()
            elif verb == "some":
                client.reads(HIGH - LOW + 500)
            elif verb == "loop":
                await client.settled()
            elif verb == "sweep":
                port.all.sweep(asyncio.get_running_loop().time() + 1000)
            elif verb == "drain":
                port.app.draining = True
            else:
                now(verb)
            waiting = [t for t in port.app.asked if t not in done and not t.gone]
            assert len(waiting) <= 1, "one at a time"
            assert len(port.app.asked) <= before + 1, "a turn of the loop apart"
        await client.settled()
        client.breaks()
        await client.settled()
        assert not client.wasted, "nothing is written to a connection that is lost"
        assert all(responder.gone <= 1 for responder in port.app.asked)
        assert not port.app.raised
        port.assert_at_rest()

    asyncio.run(play())


async def test_a_connection_says_how_far_its_request_is() -> None:
    port = Port()
    client = port.connect()
    (connection,) = port.all.open
    assert repr(connection) == "<ClientConnection idle>"
    whole = POST % 1
    client.says(whole[:10])
    assert repr(connection) == "<ClientConnection head>"
    client.says(whole[10:-3])
    assert repr(connection) == "<ClientConnection body, 2 bytes held>"
    client.says(whole[-3:])
    assert repr(connection) == "<ClientConnection asked, 5 bytes held>"
    connection.start(OK, None)
    assert repr(connection) == "<ClientConnection begun, 5 bytes held>"
    connection.finish()
    assert repr(connection) == "<ClientConnection idle>"
    assert (
        repr(port.all) == "<Connections 1/10 connections, 0 gathered, 0 bytes held, 0 slow, 0 bytes owed>"
    )
    client.says(b"what is this?\r\n\r\n")
    assert repr(connection) == "<ClientConnection lingering>"
