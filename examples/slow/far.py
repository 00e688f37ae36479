"""What the slow server asks: a few sources, far away. Plain HTTP on $FAR_PORT, standard library alone.

A round trip takes 15 ms. Whoever opens a connection waits two of them, as for TCP and TLS, and whoever asks
waits one. `/counts` says how many connections were opened and how many questions were answered, and takes
no time.
"""

import asyncio
import contextlib
import hashlib
import json
import os

ROUND_TRIP = 0.015
PORT = int(os.environ.get("FAR_PORT", "8100"))
connections = requests = 0


def answer(path: str) -> object:
    """What a source says: the same for the same path."""
    if path == "/counts":
        return {"connections": connections, "requests": requests}
    kind, _, name = path.removeprefix("/").partition("/")
    drawn = int(hashlib.sha256(path.encode()).hexdigest()[:6], 16)
    return {"source": kind, "of": name, "value": drawn % 1000 / 10}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, kept as long as the other side likes."""
    global connections, requests  # noqa: PLW0603 - because two numbers need no class
    first = True
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            if path != "/counts":
                connections += first
                requests += 1
                await asyncio.sleep(ROUND_TRIP * (3 if first else 1))
                first = False
            body = json.dumps(answer(path)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    writer.close()


async def main() -> None:
    """Listen until ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", PORT)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
