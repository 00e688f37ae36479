"""One connection to Redis: what one tick of the loop asks travels together.

Commands go out in one write per tick and answers come back in order, to callbacks; no task or
future is made for a command.
Source: the RESP specification, version 2.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from mcpace_sidecar.contract.addresses import Place
from mcpace_sidecar.errors import StoreError

ANSWER_TIMEOUT: Final = 0.5
"""Seconds an answer may take before Redis counts as down."""
_CHECK_INTERVAL: Final = 0.1

Done = Callable[[Any], None]
"""Takes an answer, or a StoreError."""


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, lost: Callable[[Wire, str], None], on_error: Callable[[Exception], None], place: Place | None
    ) -> None:
        """`lost` is told of its end, once it serves; `on_error` what those who take an answer raise."""
        self.serving = False
        self.place = place
        """Which node of a cluster it leads to."""
        self._lost = lost
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._out: list[bytes] = []
        self._deferred: list[Callable[[], None]] = []
        self._scheduled = False
        self._waiting: deque[tuple[Done, float]] = deque()
        self._checking = False

    def send(self, done: Done, command: tuple[bytes, ...]) -> None:
        """Queue one command for the end of this tick."""
        out = self._out
        self._schedule()
        out.append(b"*%d\r\n" % len(command))
        for part in command:
            out.append(b"$%d\r\n%b\r\n" % (len(part), part))
        self._waiting.append((done, time.monotonic() + ANSWER_TIMEOUT))
        if not self._checking:
            self._checking = True
            self._loop.call_later(_CHECK_INTERVAL, self._check)

    def defer(self, ask: Callable[[], None]) -> None:
        """Call this before what this tick asks is sent."""
        self._deferred.append(ask)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def drop(self, words: str) -> None:
        """Close, and tell everybody who waits."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        waiting, self._waiting = self._waiting, deque()
        if self.serving:
            self.serving = False
            self._lost(self, words)
        error = StoreError(words)
        for done, _ in waiting:
            self._tell(done, error)

    def _tell(self, done: Done, answer: Any) -> None:
        try:
            done(answer)
        except Exception as error:  # noqa: BLE001 - because the others who wait are told all the same
            self._on_error(error)

    def _flush(self) -> None:
        deferred, self._deferred = self._deferred, []
        for ask in deferred:
            try:
                ask()
            except Exception as error:  # noqa: BLE001 - because of the same
                self._on_error(error)
        self._scheduled = False
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def _check(self) -> None:
        self._checking = False
        if not self._waiting:
            return
        if self._waiting[0][1] < time.monotonic():
            self.drop("no answer in time")
        else:
            self._checking = True
            self._loop.call_later(_CHECK_INTERVAL, self._check)

    def __repr__(self) -> str:
        where = f" to {self.place[0]}:{self.place[1]}" if self.place is not None else ""
        state = "serving" if self.serving else "closed" if self._transport is None else "greeting"
        return f"<Wire{where} {state}, {len(self._waiting)} waiting>"

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Redis closed, or the network did."""
        if self._transport is not None:
            self._transport = None
            self.drop(str(exc) if exc else "it closed the connection")

    def data_received(self, data: bytes) -> None:
        """Hand each answer to whoever asked."""
        reader = self._reader
        reader.feed(data)
        while self._waiting:
            try:
                answer = reader.gets()
            except hiredis.ProtocolError:
                self.drop("it does not speak Redis's protocol")
                return
            if answer is False:
                return
            done, _ = self._waiting.popleft()
            if not isinstance(answer, hiredis.ReplyError):
                self._tell(done, answer)
                continue
            self._tell(done, StoreError(str(answer)))
            if str(answer).startswith("READONLY"):  # the master has become a replica: find the new one
                self.drop("it is a replica now")
                return

    def eof_received(self) -> None:
        """Nothing to add: the transport closes."""

    def pause_writing(self) -> None:
        """Answers are bounded in time, so what waits is bounded too."""

    def resume_writing(self) -> None:
        """Go on."""


async def answer_of(wire: Wire, *command: bytes) -> Any:
    """Ask and await the answer; StoreError."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    wire.send(functools.partial(resolve, future), command)
    answer = await future
    if isinstance(answer, StoreError):
        raise answer
    return answer


def unread(answer: Any) -> None:
    """Hear an answer that nobody needs."""
    del answer


def resolve(future: asyncio.Future[Any], answer: Any) -> None:
    """Hand an answer to whoever awaits it, if anybody still does."""
    if not future.done():
        future.set_result(answer)
