"""One connection to Redis for the data path: what one tick of the loop asks travels together.

Commands go out in one write per tick and answers come back in order, to callbacks; no task or
future is made for a command. redis-py does everything that is not on a call's way.

In a Redis Cluster all keys of a server have one hash tag, so they are in one slot, and at any moment at
one node, which is where the connection leads. A node that has not the slot answers MOVED; one that is
handing it over, ASK for keys that have gone already, and TRYAGAIN for a command whose keys are partly
here and partly there. Such a command was not run: it is sent where its answer will be.
Source: the RESP specification, version 2; the Redis Cluster specification.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from mcpace_sidecar.contract.addresses import Place, RedisAddress, misplaced
from mcpace_sidecar.contract.scripts import Script
from mcpace_sidecar.errors import StoreError, WrongStoreError

log = logging.getLogger(__name__)

ANSWER_TIMEOUT: Final = 0.5
"""Seconds an answer may take before Redis counts as down."""
CONNECT_TIMEOUT: Final = 0.5
RECONNECT_INTERVAL: Final = 0.5
TRY_AGAIN: Final = 0.01
"""Seconds until a command is sent again whose keys are on their way to another node."""
_HOPS: Final = 4
"""Nodes that are asked one after the other where a slot is."""
_CHECK_INTERVAL: Final = 0.1

_NO_FUNCTION: Final = re.compile(
    r"ERR Function not found|ERR unknown command|NOPERM .*fcall", re.IGNORECASE
)
"""Not loaded; before Redis 7; not ours to call."""

Done = Callable[[Any], None]
"""Takes an answer, or a StoreError."""


class Link:
    """One Redis, and whether it answers. `name` is the metric's label, `prefix` begins every key.

    While it does not answer, `up` is false, whoever asks is told so at once, and a task looks for
    it again. `on_up` is called each time it is found.
    """

    def __init__(self, name: str, address: RedisAddress, prefix: str) -> None:
        self.name = name
        self.address = address
        self._tls = address.tls
        self.prefix = prefix.encode()
        self.up = False
        self.changed_at = 0.0
        """When it was last found or lost, in seconds of the monotonic clock."""
        self.failures = 0
        self.on_up: Callable[[], None] = lambda: None
        self.on_error: Callable[[Exception], None] = _unheard
        """Told what those who take an answer raise: it is theirs, and no fault of Redis."""
        self._functions = True
        """Whether scripts are called as functions; found out anew by each connection."""
        self._wire: _Wire | None = None
        self._nodes: dict[Place, _Wire] = {}  # of a cluster, those that we are connected to
        self._reaching: dict[Place, list[Callable[[_Wire | None], None]]] = {}
        self._reaches: set[asyncio.Task[None]] = set()
        self._said = ""
        """Why it could not be used, as last logged."""
        self._keeping: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def connect(self) -> None:
        """Try once; from then on stay connected, or keep trying, in the background."""
        if not await self._try():
            self._lost.set()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def send(self, done: Done, *command: bytes) -> None:
        """Ask; `done` takes the answer, or a StoreError, later or at once."""
        if self._wire is None or not self.up:
            done(StoreError("Redis is down"))
        elif self.address.seeds:
            self._wire.send(_Routed(self, self._wire, done, command).answered, command)
        else:
            self._wire.send(done, command)

    def defer(self, ask: Callable[[], None]) -> None:
        """Call this just before what is asked in this tick is sent, so that it can ask once for many."""
        if self._wire is None or not self.up:
            ask()
        else:
            self._wire.defer(ask)

    def run(self, done: Done, script: Script, keys: list[bytes], *arguments: bytes) -> None:
        """Run a script on these keys: as a function where it was loaded as one."""
        count = b"%d" % len(keys)

        def called(answer: Any) -> None:
            if isinstance(answer, StoreError) and _NO_FUNCTION.match(str(answer)):
                self._functions = False
                self.send(judged, b"EVALSHA", script.digest, count, *keys, *arguments)
            else:
                done(answer)

        def judged(answer: Any) -> None:
            if isinstance(answer, StoreError):
                words = str(answer)
                if words.startswith("NOSCRIPT"):
                    self.send(judged, b"EVAL", script.text, count, *keys, *arguments)
                    return
                # Who may send no script looks for the function again: it may have been loaded by now.
                self._functions = words.startswith("NOPERM")
            done(answer)

        if self._functions:
            self.send(called, b"FCALL", script.function, count, *keys, *arguments)
        else:
            self.send(judged, b"EVALSHA", script.digest, count, *keys, *arguments)

    async def ask(self, *command: bytes) -> Any:
        """Ask and await the answer; StoreError. For what is not on a call's way."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        self.send(functools.partial(_resolve, future), *command)
        answer = await future
        if isinstance(answer, StoreError):
            raise answer
        return answer

    async def close(self) -> None:
        """Close the connection; what was asked is told so."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        for task in self._reaches:
            task.cancel()
        for node in [*self._nodes.values()]:
            node.drop("the sidecar ends")
        if self._wire is not None:
            self._wire.drop("the sidecar ends")
        await self.address.close()

    @property
    def current(self) -> _Wire | None:
        """The connection in use."""
        return self._wire

    @property
    def place(self) -> Place | None:
        """Host and port of the node where the keys are, of a cluster."""
        return self._wire.place if self._wire is not None else None

    def moved(self, place: Place, then: Callable[[_Wire | None], None]) -> None:
        """The keys are at another node now: go there."""

        def there(wire: _Wire | None) -> None:
            if wire is not None and self._wire is not None and self._wire is not wire:
                log.info("Redis (%s): the keys have moved to %s:%d", self.name, *place)
                self._wire = wire
            then(wire)

        self.reach(place, there)

    def reach(self, place: Place, then: Callable[[_Wire | None], None]) -> None:
        """Call with the connection to a node of the cluster, or None; now or later."""
        node = self._nodes.get(place)
        if node is not None:
            then(node)
        elif place in self._reaching:
            self._reaching[place].append(then)
        else:
            self._reaching[place] = [then]
            task = asyncio.get_running_loop().create_task(self._reach(place))
            self._reaches.add(task)
            task.add_done_callback(self._reaches.discard)

    async def _reach(self, place: Place) -> None:
        node: _Wire | None = None
        try:
            node = await self._open(place)
        except (OSError, TimeoutError, StoreError) as error:
            log.warning("Redis (%s): %s:%d is not reached: %s", self.name, *place, error)
        for then in self._reaching.pop(place):
            then(node)

    def lost(self, wire: _Wire, words: str) -> None:
        """Called by a connection at its end."""
        if wire.place is not None and self._nodes.get(wire.place) is wire:
            del self._nodes[wire.place]
        if wire is not self._wire:
            return
        self._wire = None
        self.failures += 1
        if self.up:
            log.warning("Redis (%s) is down: %s", self.name, words)
        self.up = False
        self.changed_at = time.monotonic()
        self._lost.set()

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not await self._try():
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _try(self) -> bool:
        wire, words = None, ""
        for _ in self.address.seeds or (None,):
            try:
                place = await self.address.find()
                opened = self._nodes.get(place) or await self._open(place)
                wire = await self._follow(opened) if self.address.seeds else opened
            except (OSError, TimeoutError, StoreError) as error:
                words = str(error) or "no answer in time"
            except Exception as error:  # noqa: BLE001 - because what answers may be no Redis
                words = f"its answers are none of Redis's ({type(error).__name__})"
            else:
                break
        if wire is None:
            if words != self._said:
                log.warning("Redis (%s) does not answer: %s", self.name, words)
            self._said = words
            self.failures += 1
            return False
        self._wire = wire
        self._functions = True
        self._said = ""
        self.up = True
        self.changed_at = time.monotonic()
        log.info("Redis (%s) answers", self.name)
        self.on_up()
        return True

    async def _open(self, place: Place) -> _Wire:
        """A connection that has been let in; OSError, TimeoutError, StoreError."""
        address, loop = self.address, asyncio.get_running_loop()
        wire = _Wire(self)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: wire, address.path)
                else:
                    await loop.create_connection(lambda: wire, *place, ssl=self._tls)
            await self._greet(wire)
        except (OSError, TimeoutError, StoreError):
            wire.drop("not reached")
            raise
        wire.serving = True
        if address.seeds:
            wire.place = place
            self._nodes[place] = wire
        return wire

    async def _follow(self, wire: _Wire) -> _Wire:
        """The connection to the node that has the keys; StoreError."""
        for _ in range(_HOPS):
            try:
                await _answer(wire, b"GET", self.prefix + b"here")
            except StoreError as error:
                kind, place = _redirection(str(error), wire.place)
                if place is None:
                    raise
                if kind == "ASK":  # on its way: its owner still is who was asked
                    return wire
                wire = self._nodes.get(place) or await self._open(place)
            else:
                return wire
        raise StoreError("the nodes of the cluster do not agree on where the keys are")

    async def _greet(self, wire: _Wire) -> None:
        address = self.address
        if address.password:
            user = [address.username.encode()] if address.username else []
            await _answer(wire, b"AUTH", *user, address.password.encode())
        with contextlib.suppress(StoreError):  # unknown before Redis 6
            wrong = misplaced(address, *_told(await _answer(wire, b"HELLO")))
            if wrong is not None:
                raise WrongStoreError(wrong)
        if address.database:
            await _answer(wire, b"SELECT", b"%d" % address.database)
        await _answer(wire, b"PING")


class _Routed:
    """One command on its way through a cluster."""

    def __init__(self, link: Link, wire: _Wire, done: Done, command: tuple[bytes, ...]) -> None:
        self._link = link
        self._wire = wire
        self._done = done
        self._command = command
        self._until = time.monotonic() + ANSWER_TIMEOUT

    def answered(self, answer: Any) -> None:
        """Pass the answer on, or the command to where it will be answered."""
        if not isinstance(answer, StoreError) or time.monotonic() > self._until:
            self._done(answer)
            return
        words = str(answer)
        kind, place = _redirection(words, self._wire.place)
        if kind == "MOVED" and place is not None:
            self._link.moved(place, self._again)
        elif kind == "ASK" and place is not None:
            self._link.reach(place, self._ask)
        elif words.startswith("TRYAGAIN"):
            asyncio.get_running_loop().call_later(TRY_AGAIN, lambda: self._again(self._link.current))
        else:
            self._done(answer)

    def _again(self, wire: _Wire | None) -> None:
        if wire is None:
            self._done(StoreError("the node that has the keys is not reached"))
            return
        self._wire = wire
        wire.send(self.answered, self._command)

    def _ask(self, wire: _Wire | None) -> None:
        if wire is not None:
            wire.send(unread, (b"ASKING",))
        self._again(wire)


class _Wire(asyncio.Protocol):
    """An asyncio protocol."""

    def __init__(self, link: Link) -> None:
        self.serving = False
        self.place: Place | None = None
        """Which node of a cluster it leads to."""
        self._link = link
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
            self._link.lost(self, words)
        error = StoreError(words)
        for done, _ in waiting:
            self._tell(done, error)

    def _tell(self, done: Done, answer: Any) -> None:
        try:
            done(answer)
        except Exception as error:  # noqa: BLE001 - because the others who wait are told all the same
            self._link.on_error(error)

    def _flush(self) -> None:
        deferred, self._deferred = self._deferred, []
        for ask in deferred:
            try:
                ask()
            except Exception as error:  # noqa: BLE001 - because of the same
                self._link.on_error(error)
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


def _unheard(error: Exception) -> None:
    log.error("Internal error: %s", type(error).__qualname__)


async def _answer(wire: _Wire, *command: bytes) -> Any:
    """Ask and await the answer; StoreError."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    wire.send(functools.partial(_resolve, future), command)
    answer = await future
    if isinstance(answer, StoreError):
        raise answer
    return answer


def _told(hello: Any) -> tuple[str, str]:
    """Mode and role of who answered HELLO: a list of names and values."""
    pairs = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else {}
    mode, role = pairs.get(b"mode", b""), pairs.get(b"role", b"")
    return (
        (mode.decode(), role.decode()) if isinstance(mode, bytes) and isinstance(role, bytes) else ("", "")
    )


def _redirection(words: str, asked: Place | None) -> tuple[str, Place | None]:
    """What `MOVED slot host:port` and `ASK slot host:port` say; the host may be that of who was asked."""
    parts = words.split()
    if len(parts) < 3 or parts[0] not in ("MOVED", "ASK"):
        return "", None
    host, _, port = parts[2].rpartition(":")
    host = host.strip("[]") or (asked[0] if asked is not None else "")
    return (parts[0], (host, int(port))) if host and port.isdigit() else ("", None)


def unread(answer: Any) -> None:
    """Hear an answer that nobody needs."""
    del answer


def _resolve(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)
