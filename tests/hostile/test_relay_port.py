"""The port between sidecars: who cannot prove to be one is told nothing, costs little, and keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.redis import RedisServer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.http.receiver import Unheard
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.relay.certificate import Certificate, Certificates
from mcpace_sidecar.relay.comers import MOST
from mcpace_sidecar.relay.peer_pool import AT_ONCE
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.relay.port import RelayPort
from mcpace_sidecar.server.session import Fetch

OLD, NEW, FOREIGN = (bytes([number]) * 32 for number in range(3))
KEEPALIVE = 5.0
"""Seconds after which the kernel itself begins to doubt a machine."""
REQUEST = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"


class App:
    """Answers whatever it is asked, and remembers it."""

    def __init__(self) -> None:
        self.heads = RequestHeads()
        self.max_request_bytes = 1 << 20
        self.idle_timeout = 60.0
        self.draining = False
        self.asked: list[bytes] = []
        self.silent = False
        """Whether nothing is answered but by `waiting`."""
        self.waiting: list[ClientConnection] = []

    def judge_head(self, _: ClientConnection, __: RequestHead) -> bool:
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, _: bytes) -> App | None:
        self.asked.append(head.target)
        if self.silent:
            self.waiting.append(connection)
            return self
        connection.answer(b"HTTP/1.1 200 OK\r\n", b"relayed")
        return None

    def client_gone(self) -> None:
        """It waits no more (http.downstream.Responder)."""

    def client_paused(self, _: bool) -> None:
        """It is told nothing yet."""

    def on_bad_request(self, _: ProtocolError) -> tuple[bytes, bytes]:
        return b"", b"bad"

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        raise error


class Stream(Unheard):
    """An open stream's receiver."""

    def __init__(self) -> None:
        self.failed: list[UpstreamError] = []

    def on_failure(self, error: UpstreamError) -> None:
        self.failed.append(error)


class Relay:
    """One end: a port, and peers."""

    def __init__(self, *secrets: bytes) -> None:
        self.app = App()
        certificates = Certificates(*secrets)
        self.connections = Connections(lambda _: None, 1000, 1 << 20, 1 << 20)
        self.port = RelayPort(self.app, self.connections, certificates.server())
        self.peers = Peers(
            "127.0.0.1:0", certificates.clients(), None, None, lambda: False, self.raised, Ledger(1 << 20)
        )

    def raised(self, error: Exception) -> None:
        raise error

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port.address.port}"

    @property
    def open_connections(self) -> int:
        return len(self.connections.open) + sum(map(len, self.peers._pools.values()))

    async def ask(self, place: str) -> bytes:
        _, body = await Fetch().from_pool(self.peers.pool(place), REQUEST, DEADLINE)
        return body


@contextlib.asynccontextmanager
async def relays(*all_secrets: tuple[bytes, ...]) -> AsyncIterator[list[Relay]]:
    made = [Relay(*secrets) for secrets in all_secrets]
    try:
        for each in made:
            await each.port.open(Address("127.0.0.1", 0))
        yield made
    finally:
        for each in made:
            await each.peers.close()
            await each.port.close()
            for connection in list(each.connections.open):
                connection.abort()
        await until(lambda: not any(each.open_connections for each in made), "all connections to end")
        await asyncio.sleep(0)


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


async def test_who_does_not_answer_costs_a_third_of_a_second_once() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    place = f"127.0.0.1:{full.getsockname()[1]}"
    waiting = [socket.socket() for _ in range(3)]  # nobody takes them: the next hello is not answered
    for each in waiting:
        each.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            each.connect(full.getsockname())
    async with relays((NEW,)) as (relay,):
        assert not relay.peers.is_shunned(place)
        with pytest.raises(UpstreamError) as raised:
            await relay.ask(place)
        assert raised.value.reason == "connect"
        assert relay.peers.is_shunned(place)
    for each in (*waiting, full):
        each.close()


@pytest.mark.parametrize("calls", [40, 256])
async def test_a_burst_of_calls_to_a_peer_that_was_not_asked_before_waits_for_a_few_connections(
    calls: int,
) -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        at_once = []
        begin = other.port._begin

        def begins(comer: Any) -> None:
            begin(comer)
            at_once.append(len(other.port._shaking))

        other.port._begin = begins  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(one.ask(other.place) for _ in range(calls)))) == {b"relayed"}
        assert max(at_once) <= AT_ONCE
        assert not one.peers.is_shunned(other.place)
        assert other.port.refused == 0


@pytest.mark.parametrize("secrets", [(NEW,), (NEW, OLD)])
@pytest.mark.parametrize("taken", [1, 4])
async def test_a_peer_that_takes_a_connection_and_proves_nothing_is_busy_and_not_gone(
    secrets: tuple[bytes, ...], taken: int
) -> None:
    async with relays(secrets, (NEW,)) as (one, other):
        tls, begun = other.port._tls, [0]

        async def drop(comer: Any) -> None:
            begun[0] += 1
            if begun[0] > taken * len(secrets):
                await shake(comer)
            else:
                comer.opened.close()

        shake = other.port._shake
        other.port._shake = drop  # type: ignore[method-assign]
        if taken == 1:
            assert await one.ask(other.place) == b"relayed", "it is tried once more"
        else:
            with pytest.raises(UpstreamError) as raised:
                await one.ask(other.place)
            assert raised.value.reason == "busy"
            assert not raised.value.refused
        assert not one.peers.is_shunned(other.place)
        assert tls is other.port._tls


async def test_a_connection_that_fails_takes_nothing_from_calls_that_others_serve() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"

        async def drop(comer: Any) -> None:
            comer.opened.close()

        other.port._shake = drop  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(one.ask(other.place) for _ in range(40)))) == {b"relayed"}


def drops_all(*sockets: Any) -> None:
    """Let the kernel drop whatever comes there, as if the machine had vanished."""
    one = struct.pack("HBBI", 6, 0, 0, 0)  # return 0: of each packet, nothing (bpf(4))
    held = ctypes.create_string_buffer(one)
    program = struct.pack("HL", 1, ctypes.addressof(held))
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


async def test_a_machine_that_vanishes_ends_its_kept_connections_at_once() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await asyncio.gather(one.ask(other.place), one.ask(other.place)) == [b"relayed"] * 2
        other.app.silent = True
        accepted = [guest._transport.get_extra_info("socket") for guest in other.connections.open]  # type: ignore[attr-defined]
        listens = Stream()
        one.peers.pool(other.place).request((REQUEST,), listens, None)
        await until(lambda: other.app.asked == [b"/"] * 3, "the stream's request")
        drops_all(*other.port._listening, *accepted)
        asked = [asyncio.ensure_future(one.ask(other.place)) for _ in range(3)]
        began = time.monotonic()
        told = await asyncio.gather(*asked, return_exceptions=True)
        reasons = [each.reason for each in told if isinstance(each, UpstreamError)]
        assert sorted(reasons) == ["closed", "connect", "connect"], "one was sent, on the kept connection"
        assert time.monotonic() - began < KEEPALIVE, "that nobody is there was asked, and not waited for"
        assert one.peers.is_shunned(other.place)
        assert [error.reason for error in listens.failed] == ["closed"]


async def test_a_peer_that_thinks_is_left_alone() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        other.app.silent = True
        asked = asyncio.ensure_future(one.ask(other.place))
        await until(lambda: other.app.asked == [b"/"], "the request")
        await until(lambda: other.port.refused > 0, "the question whether it is there")
        assert not asked.done()
        assert not one.peers.is_shunned(other.place)
        other.app.waiting[0].answer(b"HTTP/1.1 200 OK\r\n", b"thought")
        assert await asked == b"thought"
        assert other.port.begun == 1, "no handshake was spent on it"


async def test_a_connection_to_a_peer_is_watched_for_seconds_and_not_for_minutes() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"
        pool: Any = one.peers.pool(other.place)
        for connection in [*pool._all, *other.connections.open]:
            opened = connection._transport.get_extra_info("socket")
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 5


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


async def hostile(port: int, until_: float, hello: bytes, counted: list[int]) -> None:
    """Connect, say something, leave; again and again."""
    while time.monotonic() < until_:
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
        hostiles = [
            flood.create_task(hostile(relay.port.address.port, began + 2.0, said, counted))
            for _ in range(64)
        ]
        await until(lambda: counted[0] > 500, "the flood")
        assert await peer.ask(relay.place) == b"relayed"
        await asyncio.wait(hostiles)
        seconds = time.monotonic() - began
        budget = relay.port.failing
        assert relay.port.begun - before <= budget.burst + budget.rate * seconds + 2
        assert relay.app.asked == [b"/"]


async def test_peers_find_each_other_in_redis_while_sessions_live_and_by_name_without_it(
    redis_server: RedisServer,
) -> None:
    certificates = Certificates(NEW).clients()
    link = Link("limits", RedisAddress(redis_server.url), "mcpace:{ns/peers}:")
    await link.connect()
    lives = [True, True, False]
    made = [
        Peers(f"10.0.0.{n}:18081", certificates, link, None, lambda n=n: lives[n], print, Ledger(0))
        for n in range(3)
    ]
    beating = [asyncio.create_task(each.stay_present()) for each in made]

    async def found(peers: Peers) -> Any:
        told: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        peers.look(told.set_result)
        return sorted(await told)

    both = ["10.0.0.0:18081", "10.0.0.1:18081"]

    async def are_found() -> None:
        while await found(made[0]) != both:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(DEADLINE):
        await are_found()
    made[0].shun("10.0.0.1:18081")
    assert await found(made[0]) == both[:1]
    made[1].leave()
    assert await found(made[1]) == both  # who looks lives
    for task in beating:
        task.cancel()
    await link.close()
    named = Peers(
        "127.0.0.7:9",
        certificates,
        link,
        Address("127.0.0.8,127.0.0.9", 9),
        lambda: False,
        print,
        Ledger(0),
    )
    assert await found(named) == ["127.0.0.7:9", "127.0.0.8:9", "127.0.0.9:9"]
