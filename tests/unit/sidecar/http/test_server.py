"""A client's connection, step by step: odd interleavings of what is sent, read, answered and lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.repeating import repetitions
from tests.kit.transport import HIGH, LOW, Transport

from mcpace_sidecar.errors import ProtocolError
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.gathering import HEAD_TIMEOUT
from mcpace_sidecar.http.head import MAX_HEAD, RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import LINGER, ClientConnection

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CLOSING = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LARGE = b"x" * (HIGH + 1)
MIB = 1 << 20


class Turn:
    """A request that is answered when the test says so."""

    def __init__(self, connection: ClientConnection, target: bytes, body: bytes) -> None:
        self.connection = connection
        self.target = target
        self.body = body
        self.gone = 0
        self.pauses: list[bool] = []

    def client_gone(self) -> None:
        self.gone += 1

    def client_paused(self, paused: bool) -> None:
        self.pauses.append(paused)

    def answer(self, body: bytes | None = None) -> None:
        self.connection.answer(OK, self.target if body is None else body)


class App:
    """Answers when a test wants it to, or at once with the request's target."""

    def __init__(self, at_once: Callable[[Turn], Any] | None = None) -> None:
        self.heads = RequestHeads()
        self.max_request_bytes = MIB
        self.idle_timeout = 60.0
        self.draining = False
        self.turns: list[Turn] = []
        self.raised: list[Exception] = []
        self.judges = False
        self._at_once = at_once

    def judge_head(self, connection: ClientConnection, _: RequestHead) -> bool:
        if self.judges:
            connection.answer(b"HTTP/1.1 403 Forbidden\r\n", b"no")
        return self.judges

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> Turn | None:
        turn = Turn(connection, bytes(head.target), body)
        self.turns.append(turn)
        if self._at_once is None:
            return turn
        self._at_once(turn)
        return None

    def on_bad_request(self, error: ProtocolError) -> tuple[bytes, bytes]:
        return b"", str(error).encode()

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        self.raised.append(error)
        return b"", b"broken"


class Port:
    """A port, and its connections."""

    def __init__(self, at_once: Callable[[Turn], Any] | None = None, most: int = 10) -> None:
        self.app = App(at_once)
        self.shed: list[str] = []
        self.all = Connections(self.shed.append, most, MIB, MIB)

    def connect(self) -> Transport:
        return Transport.connect(ClientConnection(self.app, self.app.heads, self.all))

    def assert_at_rest(self) -> None:
        """Nothing is held of connections that are lost."""
        assert (self.all.held, self.all.owed, self.all.open) == (0, 0, set())


def answers(sent: bytes) -> list[tuple[int, bytes]]:
    """(status, body) of each answer, all of a known length."""
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found.append((int(head.split()[1]), sent[:length]))
        sent = sent[length:]
    return found


@pytest.mark.parametrize("framing", ["length", "chunked"])
@given(sizes=st.lists(st.sampled_from([1, 2, 4095, 4096, 4097, 70_000]), min_size=1, max_size=8))
def test_a_long_body_is_the_same_in_whatever_pieces_it_comes(framing: str, sizes: list[int]) -> None:
    async def send() -> None:
        port = Port(Turn.answer)
        client = port.connect()
        body = bytes(n % 251 for n in range(sum(sizes)))
        ends = list(accumulate(sizes, initial=0))
        pieces = [body[start:end] for start, end in pairwise(ends)]
        if framing == "length":
            client.says(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body), *pieces)
        else:
            client.says(CHUNKED, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")
        client.says(POST % 2)
        assert [turn.body for turn in port.app.turns] == [body, b"hello"]

    asyncio.run(send())


@pytest.mark.parametrize("size", [100, 32 * 1024 - 1, 32 * 1024, 300_000])
async def test_an_answer_of_any_length_comes_behind_its_head(size: int) -> None:
    body = b"y" * size
    port = Port(lambda turn: turn.answer(body))
    client = port.connect()
    client.says(GET % 1, GET % 2)
    assert answers((await client.settled()).sent) == [(200, body)] * 2


async def test_a_request_is_the_same_in_bytes_that_come_one_by_one() -> None:
    port = Port(Turn.answer)
    client = port.connect()
    client.says(*(bytes([byte]) for byte in POST % 1))
    assert [(turn.target, turn.body) for turn in port.app.turns] == [(b"/1", b"hello")]
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
        port = Port(Turn.answer)
        client = port.connect()
        for begin, end in pairwise(at):
            client.says(data[begin:end])
            await client.settled()
        for _ in requests:
            await client.settled()
        return client

    client = asyncio.run(play())
    assert answers(client.sent) == [(200, b"/%d" % number) for number in range(len(requests))]


async def test_a_request_that_is_pipelined_waits_until_the_one_before_it_is_answered() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1 + GET % 2)
    await client.settled()
    assert [turn.target for turn in port.app.turns] == [b"/1"]
    port.app.turns[0].answer()
    await client.settled()
    assert [turn.target for turn in port.app.turns] == [b"/1", b"/2"]


async def test_no_other_request_is_taken_of_a_client_that_does_not_read() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    port.app.turns[0].answer(LARGE)
    client.says(GET % 2)
    await client.settled()
    assert len(port.app.turns) == 1
    assert port.all.owed > HIGH
    client.reads()
    await client.settled()
    assert [turn.target for turn in port.app.turns] == [b"/1", b"/2"]
    assert port.all.owed == 0


async def test_what_follows_a_request_that_closes_is_never_taken() -> None:
    port = Port(Turn.answer)
    client = port.connect()
    client.says(CLOSING % 1 + GET % 2, GET % 3)
    await client.settled()
    assert answers(client.sent) == [(200, b"/1")]
    assert client.lost
    assert len(port.app.turns) == 1
    port.assert_at_rest()


async def test_what_follows_a_request_that_closes_is_not_taken_of_a_client_that_reads_late_either() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(CLOSING % 1 + GET % 2)
    port.app.turns[0].answer(LARGE)
    client.reads(HIGH - LOW + 200)  # enough to be written to again, and not all
    await client.settled()
    assert [turn.target for turn in port.app.turns] == [b"/1"], "RFC 9112, section 9.6"
    client.reads()
    await client.settled()
    assert client.lost
    assert answers(client.sent) == [(200, LARGE)]
    port.assert_at_rest()


async def test_reading_stops_at_64_kib_before_their_turn_and_goes_on_after_the_answer() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    before = POST % 2 + b"y" * HIGH
    client.says(before, b"z")
    assert not client.is_reading()
    assert port.all.held == len(before)
    client.breaks()
    assert port.app.turns[0].gone == 1
    port.assert_at_rest()
    client = port.connect()
    client.says(GET % 1, (GET % 2) * (HIGH // len(GET % 2) + 1))
    assert not client.is_reading()
    port.app.turns[-1].answer()
    await client.settled()
    assert client.is_reading()
    assert port.app.turns[-1].target == b"/2"


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
    port = Port(Turn.answer)
    client = port.connect()
    client.says(STATES[state])
    handed = len(port.app.turns)
    getattr(client, how)()
    await client.settled()
    assert client.lost
    assert not client.wasted
    assert len(port.app.turns) == handed == (state == "after an answer")
    port.assert_at_rest()


@pytest.mark.parametrize("how", ["ends", "breaks"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_before_its_answer_is_told_to_the_turn_once(
    how: str, begun: bool
) -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    (turn,) = port.app.turns
    if begun:
        turn.connection.start(OK, None)
        turn.connection.send(b"half")
    getattr(client, how)()
    await client.settled()
    assert turn.gone == 1
    turn.connection.send(b"more")
    turn.connection.finish()
    turn.answer()
    assert not client.wasted
    port.assert_at_rest()


async def test_a_turn_hears_of_a_slow_client_even_in_the_midst_of_its_own_writing() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    (turn,) = port.app.turns
    turn.connection.start(OK, None)
    turn.connection.send(LARGE)
    assert turn.pauses == [True]
    turn.connection.send(b"more")
    client.reads()
    assert turn.pauses == [True, False]
    turn.connection.finish()
    await client.settled()
    assert client.sent.endswith(b"\r\n4\r\nmore\r\n0\r\n\r\n")
    assert port.all.owed == 0


async def test_a_slow_client_that_leaves_owes_nothing_more() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    port.app.turns[0].answer(LARGE)
    assert port.all.owed
    client.breaks()
    port.assert_at_rest()


async def test_a_client_that_expects_100_is_told_to_go_on_once_its_head_is_judged() -> None:
    head = b"POST /1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    port = Port(Turn.answer)
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
    port = Port(Turn.answer)
    port.app.judges = True
    client = port.connect()
    client.says((POST % 1)[:-5], b"hel", b"lo", GET % 2)
    assert answers(client.sent) == [(403, b"no")]
    assert client.ended
    assert not client.is_closing()
    assert not port.app.turns
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
    port = Port(Turn.answer)
    client = port.connect()
    client.says(data, GET % 2)
    await client.settled()
    assert [status for status, _ in answers(client.sent)] == [status]
    assert client.ended
    assert not port.app.turns
    client.breaks()
    port.assert_at_rest()


async def test_a_request_that_raises_is_answered_500_and_the_others_go_on() -> None:
    def raises(turn: Turn) -> None:
        if turn.target == b"/1":
            raise ValueError("odd")
        turn.answer()

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
    (turn,) = port.app.turns
    turn.connection.start(OK, 10)
    turn.connection.send(b"half")
    turn.connection.finish()
    await client.settled()
    assert client.lost
    assert client.sent.endswith(b"\r\n\r\nhalf")


async def test_no_second_answer_is_written_into_one_that_has_begun() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1)
    (turn,) = port.app.turns
    turn.connection.start(OK, None)
    turn.answer()
    await client.settled()
    assert client.lost
    assert client.sent.count(b"HTTP/1.1 ") == 1


async def test_an_answer_of_unknown_length_to_http_1_0_ends_with_the_connection() -> None:
    port = Port()
    client = port.connect()
    client.says(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    (turn,) = port.app.turns
    turn.connection.start(OK, None)
    turn.connection.send(b"whole")
    turn.connection.finish()
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
    port.app.turns[0].answer()
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
    port.app.turns[0].answer()
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
def test_whatever_comes_in_whatever_order_each_turn_ends_once_and_nothing_stays_held(
    steps: list[tuple[Any, ...]],
) -> None:
    async def play() -> None:
        port = Port()
        client = port.connect()
        done: set[Turn] = set()

        def now(what: str) -> None:
            turn = next((t for t in port.app.turns if t not in done and not t.gone), None)
            if turn is None:
                return
            if what in ("answer", "large"):
                done.add(turn)
                turn.answer(LARGE if what == "large" else None)
            elif what == "start":
                turn.connection.start(OK, None)
                turn.connection.send(b"begun")
            elif what == "send":
                turn.connection.start(OK, None)
                turn.connection.send(b"more")
            elif what == "finish":
                done.add(turn)
                turn.answer()

        for verb, *rest in steps:
            before = len(port.app.turns)
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
            waiting = [t for t in port.app.turns if t not in done and not t.gone]
            assert len(waiting) <= 1, "one at a time"
            assert len(port.app.turns) <= before + 1, "a turn of the loop apart"
        await client.settled()
        client.breaks()
        await client.settled()
        assert not client.wasted, "nothing is written to a connection that is lost"
        assert all(turn.gone <= 1 for turn in port.app.turns)
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
