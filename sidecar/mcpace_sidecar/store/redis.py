"""The stores that all replicas share, in Redis.

A `Link` knows whether its Redis answers. While it does not, calls are not held up by it:
limits fall back to what the server's manifest chose, results to this replica's memory, and
a probe looks for Redis again. Every command is bounded in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Final, Literal, TypeVar, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.limits.bucket import ALLOWED, Charge, Verdict, share
from mcpace_sidecar.store.memory import MemoryLimits, MemoryResults

log = logging.getLogger(__name__)

ANSWER_TIMEOUT: Final = 0.5
"""Seconds a command may take before Redis counts as down."""
PROBE_INTERVAL: Final = 0.5
PRESENCE_INTERVAL: Final = 5.0
PRESENCE_LIFE: Final = 15
"""Seconds after which a silent replica no longer counts."""
_MAX_WRITES: Final = 256

WhenDown = Literal["local", "open", "closed"]
T = TypeVar("T")

TAKE: Final = files("mcpace_sidecar.store").joinpath("take.lua").read_text(encoding="utf-8")
PRESENT: Final = files("mcpace_sidecar.store").joinpath("present.lua").read_text(encoding="utf-8")


class Link:
    """One Redis, and whether it answers. `name` is the metric's label, `prefix` begins every key."""

    def __init__(self, name: str, url: str, prefix: str) -> None:
        self.name = name
        self.prefix = prefix
        self.up = False
        self.failures = 0
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=ANSWER_TIMEOUT,
            socket_connect_timeout=ANSWER_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )
        self._probe: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Try once; if Redis does not answer, keep trying in the background."""
        try:
            await self.ask(self._client.ping())
        except StoreError as error:
            log.warning("Redis (%s) does not answer: %s", self.name, error)

    async def ask(self, command: Awaitable[T]) -> T:
        """Await a command; StoreError, and the link counts as down, if it fails."""
        try:
            async with asyncio.timeout(2 * ANSWER_TIMEOUT):
                answer = await command
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            if self.up:
                log.warning("Redis (%s) is down: %s", self.name, _words(error))
            self.up = False
            if self._probe is None:
                self._probe = asyncio.get_running_loop().create_task(self._look_again())
            raise StoreError(_words(error)) from None
        if not self.up:
            log.info("Redis (%s) answers", self.name)
            self.up = True
        return answer

    @property
    def client(self) -> redis.asyncio.Redis:
        """The commands, each to be awaited through `ask`."""
        return self._client

    async def close(self) -> None:
        """Close every connection."""
        if self._probe is not None:
            self._probe.cancel()
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    async def _look_again(self) -> None:
        try:
            while not self.up:
                await asyncio.sleep(PROBE_INTERVAL)
                try:
                    async with asyncio.timeout(2 * ANSWER_TIMEOUT):
                        await cast("Awaitable[Any]", self._client.ping())
                except (RedisError, OSError, TimeoutError):
                    continue
                self.up = True
                log.info("Redis (%s) answers again", self.name)
        finally:
            self._probe = None


class RedisLimits:
    """Levels in Redis, judged and taken there in one script, on Redis's own clock."""

    def __init__(self, link: Link, when_down: Callable[[], WhenDown]) -> None:
        self.link = link
        self.replicas = 1
        self.local = MemoryLimits()
        self.decided_without: dict[str, int] = {"local": 0, "open": 0, "closed": 0}
        self._when_down = when_down
        self._take = link.client.register_script(TAKE)
        self._present = link.client.register_script(PRESENT)
        self._self = f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}"

    def take(self, charges: Sequence[Charge]) -> Verdict | Awaitable[Verdict]:
        """Take all charges or none; without Redis, as the manifest chose."""
        return self._ask(charges) if self.link.up else self._without(charges)

    async def _ask(self, charges: Sequence[Charge]) -> Verdict:
        keys = [f"{self.link.prefix}{charge.key}" for charge in charges]
        args: list[Any] = []
        for charge in charges:
            args += ["quota" if charge.daily else "bucket", charge.capacity, charge.amount]
        try:
            wait, index = await self.link.ask(self._take(keys=keys, args=args))
        except StoreError:
            return self._without(charges)
        if wait == 0:
            return ALLOWED
        return Verdict(allowed=False, retry_after=wait / 1e6, kind=charges[index - 1].kind)

    def _without(self, charges: Sequence[Charge]) -> Verdict:
        mode = self._when_down()
        self.decided_without[mode] += 1
        if mode == "open":
            return ALLOWED
        if mode == "closed":
            return Verdict(allowed=False, retry_after=1.0)
        return self.local.take(list(share(charges, self.replicas)))

    async def stay_present(self) -> None:
        """Count the live replicas, this one among them, so that each knows its share."""
        key = f"{self.link.prefix}replicas"
        while True:
            if self.link.up:
                with contextlib.suppress(StoreError):
                    self.replicas = await self.link.ask(
                        self._present(keys=[key], args=[self._self, PRESENCE_LIFE])
                    )
            await asyncio.sleep(PRESENCE_INTERVAL)

    async def leave(self) -> None:
        """This replica ends: the others' shares grow."""
        if self.link.up:
            with contextlib.suppress(StoreError):
                key = f"{self.link.prefix}replicas"
                await self.link.ask(self.link.client.zrem(key, self._self))


class RedisResults:
    """Results in this replica's memory, then in Redis."""

    def __init__(self, link: Link, memory: MemoryResults) -> None:
        self.link = link
        self.memory = memory
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def shared(self) -> bool:
        """Whether Redis answers."""
        return self.link.up

    def near(self, key: bytes) -> bytes | None:
        """A result in this replica's memory."""
        return self.memory.near(key)

    async def far(self, key: bytes) -> bytes | None:
        """A result in Redis, kept near from now on for the rest of its life."""
        name = self.link.prefix + "result:" + key.hex()
        pipeline = self.link.client.pipeline(transaction=False)
        pipeline.get(name)
        pipeline.pttl(name)
        try:
            result, left = await self.link.ask(pipeline.execute())
        except StoreError:
            return None
        if result is None or left <= 0:
            return None
        self.memory.keep(key, result, left / 1000)
        return cast("bytes", result)

    def keep(self, key: bytes, result: bytes, ttl: float) -> None:
        """Keep a result here, and in Redis without waiting for it."""
        self.memory.keep(key, result, ttl)
        if self.link.up and len(self._writes) < _MAX_WRITES:
            task = asyncio.get_running_loop().create_task(self._write(key, result, ttl))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _write(self, key: bytes, result: bytes, ttl: float) -> None:
        name = self.link.prefix + "result:" + key.hex()
        with contextlib.suppress(StoreError):
            await self.link.ask(
                cast("Awaitable[Any]", self.link.client.set(name, result, px=int(ttl * 1000)))
            )


def _words(error: Exception) -> str:
    # A TimeoutError says nothing, and no message of redis-py holds the URL's password.
    return str(error) or "no answer in time"
