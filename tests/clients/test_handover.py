"""What becomes of the sessions of a replica that ends in its turn: the others have them before it is gone."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.kit.rawsession import RawSession
from tests.kit.replicas import Client, Replica, Replicas, Started, client, starting
from tests.kit.waiting import DEADLINE, until

ONE = "python v1"


@pytest.fixture(params=["redis", "alone"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Started:
    return starting(request, tmp_path, MCPACE_ADMIN_TOKEN="t")


async def owner(server: Replicas, session: Client) -> int:
    """Which replica holds the session."""
    return server.holder(await session.call("process"))


async def counted(server: Replicas, metric: str) -> list[float]:
    """What each replica counts of this."""
    found = []
    for number, replica in enumerate(server.all):
        if not replica.processes:
            found.append(0.0)
            continue
        metrics = (await told(server, number, b"GET /metrics")).decode().splitlines()
        samples = [each for each in metrics if each.startswith(metric)]
        found.append(sum(float(each.rpartition(" ")[2]) for each in samples))
    return found


async def handed_over(server: Replicas) -> list[float]:
    """How many sessions of replicas that ended each replica has begun again."""
    return await counted(server, 'mcpace_session_revived_total{reason="drained"')


async def told(server: Replicas, number: int, request: bytes) -> bytes:
    """What a replica's admin port answers."""
    reader, writer = await asyncio.open_connection(server.all[number].address, server.admin)
    head = b"Host: localhost\r\nAuthorization: Bearer t\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    writer.write(request + b" HTTP/1.1\r\n" + head)
    answer = await reader.read(-1)
    writer.close()
    return answer


async def drained(server: Replicas, number: int) -> None:
    """Let a replica begin its end, as its pod's preStop does; the Service forgets it."""
    assert (await told(server, number, b"POST /drain")).startswith(b"HTTP/1.1 200 ")
    server.all[number].ready = False


@pytest.mark.parametrize("ingress", ["owner", "another"])
async def test_a_replica_that_ends_hands_its_sessions_over_while_its_call_goes_on(
    started: Started, ingress: str
) -> None:
    async with started() as server, client(ONE, server.url) as session:
        assert [await session.call("count") for _ in range(3)] == [*"123"]
        holds = await owner(server, session)
        server.next = holds if ingress == "owner" else (holds + 1) % 3
        call = session.ask("call", tool="sample", arguments={"text": "when told"})
        await session.hears("sampling/createMessage")
        await drained(server, holds)

        async def calls() -> float:
            return sum(await counted(server, "mcp_tool_calls_total"))

        before = await calls()
        fourth = session.ask("call", tool="count", arguments={})

        async def is_answered() -> bool:  # which its client hears once it has itself answered
            return await calls() > before

        await until(is_answered, "the next call to be answered")
        await session.do("tell")
        heard = await fourth
        assert heard["result"]["content"][0]["text"] == "4", "its server is asked, while it may be answered"
        answered = (await call)["result"]["content"]
        assert answered[0]["text"] == "sampled when told"
        assert [await session.call("count") for _ in range(3)] == [*"123"]
        assert await owner(server, session) != holds
        assert "server" in server.all[holds].processes
        moved = await handed_over(server)
        assert sum(moved) == 1
        assert not moved[holds]


async def test_a_session_that_nobody_takes_stays_with_the_replica_that_ends(started: Started) -> None:
    async with started(2) as server, client(ONE, server.url) as session:
        holds = await owner(server, session)
        await server.all[1 - holds].kill("server")
        await drained(server, holds)
        server.next = holds
        assert await session.call("count") == "1"
        server.next = holds
        assert await session.call("count") == "2"


class Stream:
    """The stream on which a session's client hears its server, at one replica; never opened again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def opened(cls, replica: Replica, session: RawSession) -> Stream:
        place = urlsplit(replica.url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(
            b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: %b\r\n\r\n"
            % session.id.encode()
        )
        stream = cls(reader, writer)
        await stream.hears(b"HTTP/1.1 200 ")
        await stream.hears(b"\r\n\r\n")
        return stream

    async def hears(self, word: bytes) -> None:
        """Wait for it."""
        try:
            async with asyncio.timeout(DEADLINE):
                await self.reader.readuntil(word)
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            pytest.fail(f"the stream did not bring {word!r}: {error}")


async def test_a_stream_stays_open_where_only_the_server_of_its_owner_ends(started: Started) -> None:
    async with started() as server:
        session = await RawSession(server.all[0].url).begin()
        stream = await Stream.opened(server.all[1], session)
        await server.all[0].kill("server")
        await stream.hears(b"process was replaced")
        session.url = server.all[1].url
        assert await session.call("say", text="hello") == "said"
        await stream.hears(b"hello")
        stream.writer.close()


async def test_a_session_that_is_only_listened_to_is_handed_over_and_its_client_notices_nothing(
    started: Started,
) -> None:
    async with started(3, {"drainTimeout": "30s"}) as server:
        session = await RawSession(server.all[0].url).begin()
        stream = await Stream.opened(server.all[1], session)
        await drained(server, 0)
        await stream.hears(b"process was replaced")
        assert b'"drained":true' in await told(server, 0, b"GET /drained")
        await server.all[0].kill(by=signal.SIGTERM)
        session.url = server.all[1].url
        assert await session.call("say", text="hello") == "said"
        await stream.hears(b"hello")
        assert (await handed_over(server))[0] == 0
        stream.writer.close()
