"""One server: the process that serves it, what it says, and how it does."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import IO, Final
from urllib.parse import urlsplit

import msgspec

from mcpace_cli import asked
from mcpace_cli.live import tie
from mcpace_cli.live.rates import Rates
from mcpace_cli.live.servers import Server
from mcpace_cli.show import line_of, one_line
from mcpace_cli.target import credential
from mcpace_sidecar.contract.environment import ADMIN_TOKEN
from mcpace_sidecar.contract.report import Report
from mcpace_sidecar.contract.surface import STATS_RECENT, Path

Heard = Callable[["Served", Sequence[str]], Awaitable[None]]
"""Takes lines that a server has written."""

_KEPT: Final = 1000
"""Lines that are remembered."""
_LONGEST: Final = 16 << 10
"""Bytes of a line that are held until it is whole."""
_PIECE: Final = 64 << 10
_LOOK: Final = 0.1
"""Seconds between two looks at whether a process lives."""
_LINGER: Final = 1.0
"""Seconds that what it has written last gets to arrive."""
_PATIENCE: Final = 2.0
"""Seconds that its admin port has for an answer."""
_MOST: Final = 64 << 20
"""Bytes of an answer that are read."""
_END: Final = re.compile(rb"\r*\n|\r+(?=[^\r\n])")
"""Of a line; what begins it anew, as a progress bar does, ends it too."""


class Served:
    """Run it once; the rest can be looked at meanwhile."""

    def __init__(self, server: Server) -> None:
        self.name = one_line(server.name)
        self._asked = replace(server.asked, led=True)
        self._token = credential(ADMIN_TOKEN, "token")
        self._process: subprocess.Popen[bytes] | None = None
        self.lines: deque[str] = deque(maxlen=_KEPT)
        """What it said last."""
        self.told: tie.Told | None = None
        self.report: Report | None = None
        """How it did at the last look."""
        self.problem = ""
        """Why the last look showed nothing."""
        self.rates = Rates()
        self.code: int | None = None
        """Its exit code, as subprocess tells it."""

    async def run(self, heard: Heard, told: Callable[[Served], None], *, merged: bool) -> None:
        """Run it to its end. `merged`: standard output is heard too, and is ours otherwise."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is our own
                [sys.executable, "-P", "-m", "mcpace_cli.live.one", asked.written(self._asked)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE if merged else None,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        stream = process.stdout if merged else process.stderr
        assert stream is not None
        parts = (
            asyncio.ensure_future(self._hear(stream, heard)),
            asyncio.ensure_future(self._listen(reader, told)),
        )
        try:
            while process.poll() is None:
                await asyncio.sleep(_LOOK)
            self.code = process.returncode
            await asyncio.wait(parts, timeout=_LINGER)
            for part in parts:
                if part.done():
                    part.result()
        finally:
            for part in parts:
                part.cancel()
            writer.close()

    def end(self) -> None:
        """Ask it to end; a second time, to end at once."""
        if self._process is not None and self.code is None:
            self._process.send_signal(signal.SIGTERM)

    @property
    def lives(self) -> bool:
        """Whether its process does."""
        return self._process is not None and self._process.poll() is None

    async def _hear(self, stream: IO[bytes], heard: Heard) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), stream
        )
        rest = b""
        try:
            while data := await reader.read(_PIECE):
                *lines, rest = _END.split(rest + data)
                if len(rest) > _LONGEST:
                    lines, rest = [*lines, rest], b""
                await self._take(lines, heard)
            await self._take([rest] if rest else [], heard)
        finally:
            transport.close()

    async def _take(self, lines: Sequence[bytes], heard: Heard) -> None:
        if lines:
            said = [line_of(line) for line in lines]
            self.lines.extend(said)
            await heard(self, said)

    async def _listen(self, reader: asyncio.StreamReader, told: Callable[[Served], None]) -> None:
        with contextlib.suppress(ConnectionError):  # it was killed
            async for line in reader:
                self.told = tie.read(line)
                told(self)

    async def look(self) -> None:
        """Ask how it does."""
        if self.told is None or self.code is not None:
            return
        try:
            answer = await asyncio.to_thread(self._ask, "GET", STATS_RECENT)
            report = msgspec.json.decode(answer, type=Report)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            self.problem = f"its statistics cannot be read: {one_line(str(error))}"
            return
        self.report, self.problem = report, ""
        if report.recent is not None:
            self.rates.look(time.monotonic(), report.recent)

    async def purge(self) -> str:
        """Empty its cache; what came of it, in words."""
        if self.told is None or self.code is not None:
            return f"{self.name} does not run, so nothing is purged"
        try:
            await asyncio.to_thread(self._ask, "POST", Path.PURGE, b'{"all": true}')
        except (OSError, http.client.HTTPException) as error:
            return f"The cache of {self.name} cannot be purged: {one_line(str(error))}"
        return f"The cache of {self.name} is purged"

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """What its admin port answers; OSError, and HTTPException where that is nothing good."""
        assert self.told is not None
        place = urlsplit(self.told.page)
        assert place.hostname is not None
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(_MOST)
        finally:
            connection.close()
        if answer.status != 200:
            raise http.client.HTTPException(data[:200].decode(errors="replace").strip())
        return data
