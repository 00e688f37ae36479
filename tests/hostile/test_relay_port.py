"""The port between sidecars: who cannot prove to be one is told nothing, costs little, and keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time

import pytest
from tests.kit.relays import FOREIGN, NEW, OLD, REQUEST, relays
from tests.kit.sidecars import Start, relaying
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.relay.certificate import Certificate
from mcpace_sidecar.relay.comers import MOST


async def test_sidecars_of_one_server_hear_each_other() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"
        assert await one.ask(other.place) == b"relayed"
        assert one.peers.pool(other.place).opened == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("one", [(OLD,), (NEW, OLD), (NEW,)])
@pytest.mark.parametrize("other", [(OLD,), (NEW, OLD), (NEW,)])
async def test_while_a_key_is_replaced_any_two_that_share_one_find_it(
    one: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    async with relays(one, other) as (here, there):
        if set(one) & set(other):
            assert await here.ask(there.place) == b"relayed"
        else:
            with pytest.raises(UpstreamError):
                await here.ask(there.place)
            assert there.app.asked == []


def client(certificate: Certificate | None, asked_for: Certificate) -> tuple[ssl.SSLContext, str]:
    """Somebody who knows the name to ask for, and trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if certificate is None else certificate.client()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context, asked_for.name


@pytest.mark.parametrize("presented", [None, FOREIGN])
async def test_who_presents_no_certificate_or_another_servers_is_not_read(presented: bytes | None) -> None:
    async with relays((NEW,)) as (relay,):
        context, name = client(Certificate(presented) if presented else None, Certificate(NEW))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", relay.port.address.port, ssl=context, server_hostname=name
        )
        writer.write(REQUEST)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        await until(lambda: relay.port.refused == 1, "the refusal")
        assert relay.app.asked == []
        assert not relay.connections.open
        writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None])
async def test_older_tls_and_plain_http_are_not_read(version: ssl.TLSVersion | None) -> None:
    async with relays((NEW,)) as (relay,):
        context = None
        if version is not None:
            context = Certificate(NEW).client()
            context.minimum_version = context.maximum_version = version
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", relay.port.address.port, ssl=context,
                server_hostname=Certificate(NEW).name if context else None,
            )  # fmt: skip
            writer.write(REQUEST)
            assert b"relayed" not in await reader.read()
            writer.close()
        await until(lambda: relay.port.refused == 1, "the refusal")
        assert relay.app.asked == []


async def test_a_stranger_at_a_peers_address_is_handed_nothing() -> None:
    """An address is another's when its pod is gone: it must not be told what clients send."""
    heard = bytearray()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()

    foreign = Certificate(FOREIGN)
    tls = foreign.server(foreign, Certificate(NEW))
    stranger = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=tls)
    async with relays((NEW,)) as (relay,):
        with pytest.raises(UpstreamError) as raised:
            await relay.ask(f"127.0.0.1:{stranger.sockets[0].getsockname()[1]}")
        assert raised.value.reason == "connect"
    stranger.close()
    assert not heard


async def test_connections_that_say_nothing_are_bounded_in_all_and_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcpace_sidecar.relay.port.WAITS", 0.5)
    async with relays((NEW,), (NEW,)) as (relay, peer):
        opened = []
        try:
            for number in range(20):
                for _ in range(40):
                    each = socket.socket()
                    each.bind((f"127.0.1.{number + 1}", 0))
                    opened.append(each)
                    await asyncio.get_running_loop().sock_connect(
                        each, ("127.0.0.1", relay.port.address.port)
                    )
            await until(lambda: relay.port.refused + len(relay.port.comers) == 800, "all to have come")
            assert len(relay.port.comers) <= MOST
            assert await peer.ask(relay.place) == b"relayed"
            await until(lambda: not relay.port.comers, "those who say nothing to be dropped")
            assert relay.port.refused == 800
            assert relay.port.begun == 1
        finally:
            for each in opened:
                each.close()


async def hostile(port: int, enough: asyncio.Event, hello: bytes, counted: list[int]) -> None:
    """Connect, say something, leave; again and again."""
    while not enough.is_set():
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.2):
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
                counted[0] += 1
                writer.write(hello)
                await writer.drain()
                writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_flood_of_handshakes_is_bounded_and_a_peer_is_heard_all_the_same() -> None:
    async with relays((NEW,), (NEW,)) as (relay, peer), asyncio.TaskGroup() as flood:
        hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        context, name = client(Certificate(FOREIGN), Certificate(NEW))
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(*hello, server_hostname=name).do_handshake()
        counted = [0]
        began, before = time.monotonic(), relay.port.begun
        said = hello[1].read()
        enough = asyncio.Event()
        hostiles = [
            flood.create_task(hostile(relay.port.address.port, enough, said, counted)) for _ in range(64)
        ]
        await until(lambda: counted[0] > 500, "the flood")
        assert await peer.ask(relay.place) == b"relayed"
        await until(lambda: counted[0] > 1000, "the flood to go on")
        enough.set()
        await asyncio.wait(hostiles)
        seconds = time.monotonic() - began
        budget = relay.port.failing
        assert relay.port.begun - before <= budget.burst + budget.rate * seconds + 2
        assert relay.app.asked == [b"/"]


async def test_connections_of_other_replicas_count_among_all_that_there_may_be(
    scripted: Scripted, start: Start
) -> None:
    options = relaying()
    sidecar = await start(scripted.port, **options)
    relay = options["relay_listen"]
    certificate = Certificate(*options["session_keys"])
    _, writer = await asyncio.open_connection(
        relay.host, relay.port, ssl=certificate.client(), server_hostname=certificate.name
    )
    await until(lambda: len(sidecar.connections.open) == 1, "the peer's connection to be counted")
    assert (await sidecar.metrics())["mcp_active_connections"] == 0, "it is no client's"
    writer.close()
    await until(lambda: not sidecar.connections.open, "it to have left")
