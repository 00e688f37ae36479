"""Streams of a scripted server's, on which it says what a test wants, when it wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from tests.kit.connection import Client
from tests.kit.forgetful import VERSION, Forgetful
from tests.kit.sidecars import Running
from tests.kit.upstream import SSE, Heard, chunk
from tests.kit.waiting import until

PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"n":%d}}\n\n'
RESPONSE = b'data: {"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false}}\n\n'


class Speaking:
    """A hook (kit.forgetful): each request opens a stream, which says what it is given."""

    def __init__(self) -> None:
        self.asked: list[Heard] = []
        self._said: list[asyncio.Queue[bytes | None]] = []

    def __call__(self, heard: Heard) -> AsyncIterator[bytes]:
        said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.asked.append(heard)
        self._said.append(said)

        async def streamed() -> AsyncIterator[bytes]:
            yield SSE
            while (event := await said.get()) is not None:
                yield chunk(event)
            yield b"0\r\n\r\n"

        return streamed()

    async def opened(self, streams: int) -> None:
        await until(lambda: len(self.asked) == streams, f"{streams} streams to be opened")

    def says(self, *events: bytes, ends: bool = False, stream: int = -1) -> None:
        for event in (*events, *((None,) if ends else ())):
            self._said[stream].put_nowait(event)


class SpeakingServer(Forgetful):
    """A server of sessions whose calls and streams of sessions are such streams."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.hooks["tools/call"] = Speaking()
        self.listening = self.hooks["GET"] = Speaking()


async def sends(sidecar: Running, session: str, message: Any = None, **headers: str) -> Client:
    """A request of a session, whose answer is read from the connection: a POST, or a GET without a message."""
    body = msgspec.json.encode(message) if message is not None else b""
    lines = {
        "Host": "localhost",
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": session,
    }
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    if message is not None:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    verb = "GET" if message is None else "POST"
    client = await Client.to(sidecar, f"{verb} /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
    sidecar.guests.append(client.writer)
    return client


def ids(said: bytes) -> list[str]:
    """The ids of the events in what was read."""
    return [line[4:].decode() for line in said.split(b"\n") if line.startswith(b"id: ")]


async def away(sidecar: Running, client: Client) -> None:
    gone = len(sidecar.plane.recordings.away)
    client.leave()
    await until(lambda: len(sidecar.plane.recordings.away) > gone, "the client's leaving to be noticed")


async def rest(sidecar: Running, session: str, last: str, **headers: str) -> bytes:
    """All that is answered to a client that comes back."""
    client = await sends(sidecar, session, Last_Event_ID=last, Connection="close", **(VERSION | headers))
    return await client.reader.read(-1)


def held(sidecar: Running) -> bytes:
    """What is held of all streams."""
    found = b""
    for of in sidecar.plane.recordings._of.values():
        for recording in of.values():
            found += recording.after(recording.first - 1) or b""
    return found
