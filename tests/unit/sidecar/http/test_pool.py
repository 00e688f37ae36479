"""Connections to the server that are kept: which are used again, and which never."""

from __future__ import annotations

import pytest
from tests.kit.pool import CHUNKED, OK, Server


async def test_only_a_kept_connection_that_closes_without_an_answer_may_have_been_stale() -> None:
    server = Server()
    first, _, wire = await server.ask()
    wire.ends()
    await wire.settled()
    assert first.error is not None
    assert (first.reason, first.error.stale) == ("closed", False)
    _, _, wire = await server.ask()
    wire.says(OK)
    second, _, kept = await server.ask()
    assert kept is wire
    kept.ends()
    await kept.settled()
    assert second.error is not None
    assert (second.reason, second.error.stale) == ("closed", True)


@pytest.mark.parametrize("when", ["before it is asked", "after an answer"])
async def test_a_connection_on_which_something_comes_that_nobody_asked_for_is_used_no_more(
    when: str,
) -> None:
    server = Server()
    receiver, _, wire = await server.ask()
    wire.says(OK, *[OK] * (when == "before it is asked"))
    assert receiver.body == b"hello"
    if when == "after an answer":
        await wire.settled()
        wire.says(b"HTTP")
    again, _, other = await server.ask()
    assert other is not wire, "what comes before a request is no answer to it"
    assert wire.lost
    other.says(OK)
    assert again.body == b"hello"


async def test_bytes_behind_an_answer_fail_it_where_they_come_with_it() -> None:
    server = Server()
    receiver, _, wire = await server.ask()
    wire.says(OK + OK)
    await wire.settled()
    assert (receiver.reason, receiver.ends) == ("malformed", 1)
    assert wire.lost
    server.assert_at_rest()


async def test_a_pool_and_its_connections_say_what_they_are_at() -> None:
    server = Server()
    assert repr(server.pool) == "<Pool 0/1024 connections, 0 idle, 0 waiting>"
    _, ticket, wire = await server.ask()
    connection = ticket.connection
    assert repr(connection).startswith("<UpstreamConnection sent, ")
    assert repr(connection).endswith(" s of silence left>")
    assert repr(server.pool) == "<Pool 1/1024 connections, 0 idle, 0 waiting>"
    wire.says(OK[:-2])
    assert repr(connection).startswith("<UpstreamConnection gathered, ")
    wire.says(OK[-2:])
    assert repr(connection) == "<UpstreamConnection free>"
    assert repr(server.pool) == "<Pool 1/1024 connections, 1 idle, 0 waiting>"
    _, _, wire = await server.ask(patience=None)
    wire.says(CHUNKED)
    assert repr(connection) == "<UpstreamConnection streamed, a stream>"
    assert repr(server.pool) == "<Pool 0/1024 connections, 0 idle, 0 waiting, 1 streams>"
