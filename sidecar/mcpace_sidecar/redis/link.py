"""One Redis for the data path, and whether it answers: found, kept, found again.

redis-py does everything that is not on a call's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

from mcpace_sidecar.contract.addresses import Place, RedisAddress, misplaced
from mcpace_sidecar.contract.scripts import Script
from mcpace_sidecar.errors import StoreError, WrongStoreError, unforeseen
from mcpace_sidecar.redis.nodes import Nodes, redirection
from mcpace_sidecar.redis.wire import Done, Wire, answer_of, resolve

log = logging.getLogger(__name__)

CONNECT_TIMEOUT: Final = 0.5
RECONNECT_INTERVAL: Final = 0.5
_HOPS: Final = 4
"""Nodes that are asked one after the other where a slot is."""

_NO_FUNCTION: Final = re.compile(
    r"ERR Function not found|ERR unknown command|NOPERM .*fcall", re.IGNORECASE
)
"""Not loaded; before Redis 7; not ours to call."""


class Link:
    """One Redis, and whether it answers. `name` is the metric's label, `prefix` begins every key.

    While it does not answer, `up` is false, whoever asks is told so at once, and a task looks for
    it again. `on_up` is called each time it is found.
    """

    def __init__(
        self, name: str, address: RedisAddress, prefix: str,
        on_error: Callable[[Exception], None] = unforeseen,
    ) -> None:  # fmt: skip
        """`on_error` is told what those who take an answer raise: it is theirs, and no fault of Redis."""
        self.name = name
        self.address = address
        self._tls = address.tls
        self.prefix = prefix.encode()
        self.up = False
        self.changed_at = 0.0
        """When it was last found or lost, in seconds of the monotonic clock."""
        self.failures = 0
        self.on_up: Callable[[], None] = lambda: None
        self._on_error = on_error
        self._functions = True
        """Whether scripts are called as functions; found out anew by each connection."""
        self._nodes = Nodes(name, self._open)
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
        wire = self._nodes.current
        if wire is None or not self.up:
            done(StoreError("Redis is down"))
        elif self.address.seeds:
            self._nodes.send(wire, done, command)
        else:
            wire.send(done, command)

    def defer(self, ask: Callable[[], None]) -> None:
        """Call this just before what is asked in this tick is sent, so that it can ask once for many."""
        wire = self._nodes.current
        if wire is None or not self.up:
            ask()
        else:
            wire.defer(ask)

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

        self.send(functools.partial(resolve, future), *command)
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
        self._nodes.drop("the sidecar ends")
        await self.address.close()

    @property
    def place(self) -> Place | None:
        """Host and port of the node where the keys are, of a cluster."""
        return self._nodes.current.place if self._nodes.current is not None else None

    def _ended(self, wire: Wire, words: str) -> None:
        if not self._nodes.lost(wire):
            return
        self.failures += 1
        if self.up:
            log.warning("Redis (%s) is down: %s", self.name, words)
        self.up = False
        self.changed_at = time.monotonic()
        self._lost.set()

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Link {self.name} {state}, {self.failures} failures, {self._nodes!r}>"

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not await self._try():
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _try(self) -> bool:
        wire: Wire | None = None
        words = ""
        for _ in self.address.seeds or (None,):
            try:
                place = await self.address.find()
                if self.address.seeds:
                    wire = await self._follow(await self._nodes.at(place))
                else:
                    wire = await self._open(place)
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
        self._nodes.current = wire
        self._functions = True
        self._said = ""
        self.up = True
        self.changed_at = time.monotonic()
        log.info("Redis (%s) answers", self.name)
        self.on_up()
        return True

    async def _open(self, place: Place) -> Wire:
        """A connection that has been let in; OSError, TimeoutError, StoreError."""
        address, loop = self.address, asyncio.get_running_loop()
        wire = Wire(self._ended, self._on_error, place if address.seeds else None)
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
        return wire

    async def _follow(self, wire: Wire) -> Wire:
        """The connection to the node that has the keys; StoreError."""
        for _ in range(_HOPS):
            try:
                await answer_of(wire, b"GET", self.prefix + b"here")
            except StoreError as error:
                kind, place = redirection(str(error), wire.place)
                if place is None:
                    raise
                if kind == "ASK":  # on its way: its owner still is who was asked
                    return wire
                wire = await self._nodes.at(place)
            else:
                return wire
        raise StoreError("the nodes of the cluster do not agree on where the keys are")

    async def _greet(self, wire: Wire) -> None:
        address = self.address
        if address.password:
            user = [address.username.encode()] if address.username else []
            await answer_of(wire, b"AUTH", *user, address.password.encode())
        with contextlib.suppress(StoreError):  # unknown before Redis 6
            wrong = misplaced(address, *_told(await answer_of(wire, b"HELLO")))
            if wrong is not None:
                raise WrongStoreError(wrong)
        if address.database:
            await answer_of(wire, b"SELECT", b"%d" % address.database)
        await answer_of(wire, b"PING")


def _told(hello: Any) -> tuple[str, str]:
    """Mode and role of who answered HELLO: a list of names and values."""
    pairs = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else {}
    mode, role = pairs.get(b"mode", b""), pairs.get(b"role", b"")
    return (
        (mode.decode(), role.decode()) if isinstance(mode, bytes) and isinstance(role, bytes) else ("", "")
    )
