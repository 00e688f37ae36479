"""A pool of kept connections to one address.

An idle connection takes a request at once, without a task; only a connection that must be opened, or
waited for, is asynchronous. Open streams, which have no patience, are counted apart: they take no
connection from calls.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from time import monotonic

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.contract.config.traffic import Upstream
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.contract.report import Pooled
from mcpace_sidecar.errors import UpstreamError, unforeseen, words_of
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.client import Home, UpstreamConnection
from mcpace_sidecar.http.known import ResponseHeads
from mcpace_sidecar.http.receiver import Receiver


class PendingRequest:
    """A request that waits for a connection; `cancel` takes it out of the line."""

    __slots__ = ("_line", "connection", "deadline", "patience", "receiver", "request")

    def __init__(
        self, request: Sequence[bytes], receiver: Receiver, patience: float | None, line: Line
    ) -> None:
        self.request = request
        self.receiver: Receiver | None = receiver
        self.patience = patience
        self.deadline = monotonic() + patience if patience is not None else 0.0
        self.connection: UpstreamConnection | None = None
        self._line = line
        line[self] = None

    def cancel(self) -> None:
        """Give the request up, wherever it is."""
        self._line.pop(self, None)
        self.receiver = None
        if self.connection is not None:
            self.connection.cancel()

    def pause(self, paused: bool) -> None:
        """Stop or resume reading the answer."""
        if self.connection is not None:
            self.connection.pause(paused)

    def serves(self, receiver: Receiver) -> bool:
        """Whether this receiver is still to be answered."""
        if self.connection is not None:
            return self.connection.serves(receiver)
        return self.receiver is receiver

    def distrust(self, error: UpstreamError) -> None:
        """Close its connection, and fail whoever has that now."""
        if self.connection is not None:
            self.connection.fail(error)

    def serve(self, connection: UpstreamConnection) -> None:
        """Send it, now that there is a connection, which knows the receiver from here on."""
        receiver, self.receiver = self.receiver, None  # who holds this: no cycle stays
        assert receiver is not None
        request, self.request = self.request, ()
        self.connection = connection
        connection.send(request, receiver, self.patience)

    def fail(self, error: UpstreamError) -> None:
        """There will be no connection; it has left the line."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.on_failure(error)


Line = OrderedDict[PendingRequest, None]
"""Who waits, the first first."""


class Pool(Home):
    """Kept connections to one address, opened as needed up to a limit."""

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None = None,
        *,
        on_error: Callable[[Exception], None] = unforeseen,
        max_idle: int | None = None,
    ) -> None:
        """`tls`: how to speak to an address outside; the server itself is on the loopback.

        `on_error` is told what receivers raise, and readers of answers. `max_idle`: connections that are
        kept without a request; None: any number.
        """
        super().__init__(address, on_error, near=tls is None)
        self.opened = 0
        """Connections opened so far."""
        self.most_opening = sys.maxsize
        """How many may be opened at once; whoever waits is served by those that there are, too."""
        self.max_idle = max_idle
        self._tls = tls
        self._hosts = list(address.hosts)
        self._bound(Upstream())
        self._heads = ResponseHeads()
        self._idle: deque[UpstreamConnection] = deque()
        self._all: set[UpstreamConnection] = set()
        self._line: Line = OrderedDict()
        self._streams_line: Line = OrderedDict()
        self._opening: set[asyncio.Task[None]] = set()

    def adopt(self, config: SidecarConfig) -> None:
        """Use these bounds from the next request on."""
        self._bound(config.upstream)

    def _bound(self, settings: Upstream) -> None:
        self.max_connections = settings.max_connections
        self.idle_timeout = seconds(settings.idle_timeout)
        self.connect_timeout = seconds(settings.connect_timeout)

    def request(
        self, request: Sequence[bytes], receiver: Receiver, patience: float | None
    ) -> UpstreamConnection | PendingRequest:
        """Send a request on an idle connection, or line up for one.

        `request`: its pieces, one at least, joined when it is sent: those that wait share what is the
        same of them.
        `patience`: the seconds the server may be silent. None: any, and it opens a stream, which
        is given a connection of its own beyond the calls' `max_connections`.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                connection.send(request, receiver, patience)
                return connection
        line = self._line if patience is not None else self._streams_line
        waiting = PendingRequest(request, receiver, patience, line)
        self._open_for_line()
        return waiting

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back; the line is served first."""
        if self._serve(connection):
            return
        kept = len(self._idle)
        if (self.max_idle is not None and kept >= self.max_idle) or self._calls > self.max_connections:
            connection.close()
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is lost."""
        self._all.discard(connection)
        self.streams.discard(connection)
        self.wide.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_for_line()

    def at_work(self, now: float) -> bool:
        """Whether the server is at work on a call, and not silent for longer than it may be."""
        return any(connection.at_work(now) for connection in self._all)

    def sweep(self, now: float) -> None:
        """Fail what waited too long, close what was idle too long; about twice a second."""
        for connection in list(self._all):
            try:
                connection.look(now)
            except Exception as error:  # noqa: BLE001 - because the others are looked at all the same
                self.on_error(error)
                connection.fail(UpstreamError("internal", "Internal error"))
        for waiting in [w for w in self._line if w.deadline < now]:
            self._line.pop(waiting, None)
            words = f"No connection to the server became free within {waiting.patience:g} s."
            waiting.fail(UpstreamError("busy", words))
        over = [connection for connection in self._idle if connection.idle_until < now]
        for connection in over:
            self._idle.remove(connection)
            connection.close()

    def pooled(self) -> Pooled:
        """What is reported of the connections."""
        return Pooled(
            open=len(self._all), idle=len(self._idle), of=self.max_connections,
            waiting=len(self._line) + len(self._streams_line), opened=self.opened,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._all)

    def counts(self) -> list[tuple[str, int]]:
        """How many connections are in each state."""
        idle, streams = len(self._idle), len(self.streams)
        return [("busy", len(self._all) - idle - streams), ("idle", idle), ("streams", streams)]

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._line) + len(self._streams_line)

    def __repr__(self) -> str:
        said = [f"{self._calls}/{self.max_connections} connections", f"{len(self._idle)} idle"]
        said.append(f"{self.waiting} waiting")
        if self.streams:
            said.append(f"{len(self.streams)} streams")
        return f"<Pool {', '.join(said)}>"

    async def close(self) -> None:
        """Close every connection."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._all):
            connection.cancel()

    @property
    def _calls(self) -> int:
        return len(self._all) - len(self.streams)

    def _serve(self, connection: UpstreamConnection) -> bool:
        line = self._line if self._calls <= self.max_connections and self._line else self._streams_line
        if not line:
            return False
        waiting, _ = line.popitem(last=False)
        waiting.serve(connection)
        return True

    def _open_for_line(self) -> None:
        calls = max(0, min(len(self._line), self.max_connections - self._calls))
        wanted = min(calls + len(self._streams_line), self.most_opening)
        for _ in range(wanted - len(self._opening)):
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            self._open_for_line()

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self.connect_timeout):
                connection = await self._connect()
        except (OSError, TimeoutError) as error:
            self.not_opened(error)
            return
        except Exception as error:  # noqa: BLE001 - because those who wait are told, whatever it is
            self.on_error(error)
            self._fail_line(UpstreamError("connect", f"{self.address} cannot be connected to."))
            return
        self.opened += 1
        self._all.add(connection)
        self.give_back(connection)

    def not_opened(self, error: OSError) -> None:
        """One connection could not be opened: it speaks for the address, and nobody would fare better."""
        refused = not isinstance(error, TimeoutError)
        how = words_of(error) if refused else f"not within {self.connect_timeout:g} s"
        words = f"The server does not accept connections on {self.address} ({how})."
        if isinstance(error, ssl.SSLError):
            words = f"TLS with {self.address} failed: {error.reason or error}."
        self._fail_line(UpstreamError("connect", words, refused=refused))

    async def _connect(self) -> UpstreamConnection:
        """Connect to the first of the hosts that accepts; OSError."""
        *others, last = self._hosts
        for host in others:
            try:
                return await self._connect_to(host)
            except ssl.SSLError:
                raise  # it is there, and not to be trusted
            except OSError:
                continue
        return await self._connect_to(last)

    async def _connect_to(self, host: str) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(self, self._heads), host, self.address.port,
            ssl=self._tls, server_hostname=self.address.host if self._tls is not None else None,
        )  # fmt: skip
        self._hosts = sorted(self._hosts, key=lambda other: other != host)  # the first one next time
        return connection

    def _fail_line(self, error: UpstreamError) -> None:
        for line in (self._line, self._streams_line):
            for waiting in list(line):
                line.pop(waiting, None)
                waiting.fail(error)
