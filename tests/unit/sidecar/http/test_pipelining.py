"""Requests that come before their turn, on a client's connection."""

from __future__ import annotations

from tests.kit.port import CLOSING, GET, LARGE, POST, Port, Responder, answers
from tests.kit.transport import HIGH, LOW


async def test_a_request_that_is_pipelined_waits_until_the_one_before_it_is_answered() -> None:
    port = Port()
    client = port.connect()
    client.says(GET % 1 + GET % 2)
    await client.settled()
    assert [responder.target for responder in port.app.asked] == [b"/1"]
    port.app.asked[0].answer()
    await client.settled()
    assert [responder.target for responder in port.app.asked] == [b"/1", b"/2"]


async def test_no_other_request_is_taken_of_a_client_that_does_not_read() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(GET % 1)
    port.app.asked[0].answer(LARGE)
    client.says(GET % 2)
    await client.settled()
    assert len(port.app.asked) == 1
    assert port.all.owed > HIGH
    client.reads()
    await client.settled()
    assert [responder.target for responder in port.app.asked] == [b"/1", b"/2"]
    assert port.all.owed == 0


async def test_what_follows_a_request_that_closes_is_never_taken() -> None:
    port = Port(Responder.answer)
    client = port.connect()
    client.says(CLOSING % 1 + GET % 2, GET % 3)
    await client.settled()
    assert answers(client.sent) == [(200, b"/1")]
    assert client.lost
    assert len(port.app.asked) == 1
    port.assert_at_rest()


async def test_what_follows_a_request_that_closes_is_not_taken_of_a_client_that_reads_late_either() -> None:
    port = Port()
    client = port.connect()
    client.stalls()
    client.says(CLOSING % 1 + GET % 2)
    port.app.asked[0].answer(LARGE)
    client.reads(HIGH - LOW + 200)  # enough to be written to again, and not all
    await client.settled()
    assert [responder.target for responder in port.app.asked] == [b"/1"], "RFC 9112, section 9.6"
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
    assert port.app.asked[0].gone == 1
    port.assert_at_rest()
    client = port.connect()
    client.says(GET % 1, (GET % 2) * (HIGH // len(GET % 2) + 1))
    assert not client.is_reading()
    port.app.asked[-1].answer()
    await client.settled()
    assert client.is_reading()
    assert port.app.asked[-1].target == b"/2"
