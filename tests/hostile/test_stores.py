"""A store that answers, and not as Redis does: calls are judged without it, and nobody ends for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import hiredis
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer

ODD = {
    "a word": b"+OK\r\n",
    "a number": b":1\r\n",
    "nothing": b"$-1\r\n",
    "a text": b"$3\r\nabc\r\n",
    "an empty list": b"*0\r\n",
    "numbers": b"*6\r\n:1\r\n:0\r\n:9\r\n:1\r\n:1\r\n:1\r\n",
    "few numbers": b"*3\r\n:1\r\n:0\r\n:0\r\n",
    "texts": b"*6\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n",
    "lists": b"*2\r\n*1\r\n:1\r\n*0\r\n",
    "a truth": b"#t\r\n",
    "a map": b"%1\r\n+a\r\n+b\r\n",
    "another's message": b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:5\r\n",
    "an error": b"-ERR no\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}
CONFIG = {
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 100_000}]},
    "cache": {"tools": [{"name": "t", "ttl": "1h", "scope": "shared"}]},
}


class OddStore:
    """Greets as Redis does, and answers everything else with one thing."""

    def __init__(self, odd: bytes) -> None:
        self.url = ""
        self._odd = odd

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["OddStore"]:
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        try:
            yield self
        finally:
            server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    name = command[0].upper()
                    known = {
                        b"HELLO": b"-ERR unknown command\r\n",
                        b"PING": b"+PONG\r\n",
                        b"CLIENT": b"+OK\r\n",
                    }
                    writer.write(known.get(name, self._odd))
        writer.close()


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_calls_are_judged_without_a_store_that_answers_oddly(
    scripted: Scripted, start: Start, odd: bytes
) -> None:
    def answer(heard: Heard) -> bytes:
        return json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}')

    scripted.answer = answer
    async with OddStore(odd).serve() as store:
        sidecar = await start(scripted.port, CONFIG, limits_url=store.url, cache_url=store.url)
        for number in range(5):
            status, _, body = await sidecar.call("t", {"n": number})
            assert (status, body.get("result", body)) == (200, {"content": [], "isError": False})
        samples = await sidecar.metrics()
        assert not [name for name in samples if name.startswith("mcpace_internal_errors")], samples
        assert not sidecar.ending
        assert not sidecar.in_flight
