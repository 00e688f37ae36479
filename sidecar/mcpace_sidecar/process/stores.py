"""Where limits, results and conversations are kept: here, or in the Redis that the options name."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from mcpace_sidecar.cache.memory import MemoryResults
from mcpace_sidecar.cache.store import ResultStore
from mcpace_sidecar.conversations.memory import Conversations
from mcpace_sidecar.conversations.store import ConversationStore
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.store import LimitStore
from mcpace_sidecar.process.configuration import Configuration
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.sessions.memory import MemoryRecords
from mcpace_sidecar.sessions.record import Records
from mcpace_sidecar.telemetry.faults import Faults

if TYPE_CHECKING:
    from mcpace_sidecar.cache.redis import RedisResults
    from mcpace_sidecar.limits.redis import RedisLimits
    from mcpace_sidecar.redis.link import Link


class Stores:
    """The stores of one sidecar, and its links to Redis."""

    def __init__(
        self, options: Options, configuration: Configuration, memory: MemoryResults, faults: Faults
    ) -> None:
        """Raises ConfigError. Redis's parts are imported where there is one."""
        self.links: list[Link] = []
        self.redis_limits: RedisLimits | None = None
        self.redis_results: RedisResults | None = None
        self._memory = memory
        self._local_limits = MemoryLimits()
        self.limits: LimitStore = self._local_limits
        self.results: ResultStore = memory
        self.conversations: ConversationStore = Conversations()
        self.records: Records = MemoryRecords()
        if options.limits_url is None and options.cache_url is None:
            return
        # Imported here because a sidecar without Redis should not hold its client in memory.
        from mcpace_sidecar.cache.redis import RedisResults  # noqa: PLC0415 - because of that
        from mcpace_sidecar.contract.addresses import RedisAddress  # noqa: PLC0415 - because of that
        from mcpace_sidecar.conversations.redis import (  # noqa: PLC0415 - because of that
            RedisConversations,
        )
        from mcpace_sidecar.limits.redis import RedisLimits  # noqa: PLC0415 - because of that
        from mcpace_sidecar.redis.link import Link  # noqa: PLC0415 - because of that
        from mcpace_sidecar.sessions.redis import RedisRecords  # noqa: PLC0415 - because of that

        def link(name: str, url: str) -> Link:
            address = RedisAddress(url, options.redis_authority)
            prefix = f"mcpace:{{{options.name}}}:"
            made = Link(name, address, prefix, lambda error: faults.tell("store", error))
            self.links.append(made)
            return made

        if options.limits_url is not None:
            limits = link("limits", options.limits_url)
            self.limits = self.redis_limits = RedisLimits(
                limits, lambda: configuration.settings.when_redis_is_down, leasing=options.leasing
            )
            self.conversations = RedisConversations(limits)
            self.records = RedisRecords(limits)
        if options.cache_url is not None:
            self.results = self.redis_results = RedisResults(link("cache", options.cache_url), memory)

    def kept(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What looks after them, for as long as the sidecar runs."""
        if self.redis_limits is not None:
            yield self.redis_limits.stay_present()
        if self.redis_results is not None:
            yield self.redis_results.hear_purges()

    def sweeps(self) -> Iterator[Callable[[float], None]]:
        """What forgets what has outlived its time; each takes the moment it is called at."""
        limits, results = self.redis_limits, self.redis_results
        if limits is not None:
            yield limits.sweep
            yield lambda _: limits.local.sweep()
        if results is not None:
            yield lambda _: results.sweep()
        yield lambda _: self._local_limits.sweep()
        yield lambda _: self._memory.sweep()

    def gauges(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """What metrics say of them."""
        yield "mcpace_cache_bytes", {}, self._memory.bytes
        yield "mcpace_cache_entries", {}, len(self._memory)
        yield "mcpace_limit_levels", {}, len(self.limits)
        for link in self.links:
            yield "mcpace_redis_up", {"store": link.name}, float(link.up)
            yield "mcpace_redis_failures", {"store": link.name}, link.failures
        if self.redis_limits is not None:
            yield "mcpace_limit_replicas", {}, self.redis_limits.replicas
            for mode, count in self.redis_limits.decided_without.items():
                yield "mcpace_decided_without_redis", {"mode": mode}, count

    async def connect(self) -> None:
        """Look for each Redis; from then on it is looked for in the background."""
        for link in self.links:
            await link.connect()

    async def leave(self) -> None:
        """Tell the other replicas that this one is no more."""
        if self.redis_limits is not None:
            await self.redis_limits.leave()

    async def close(self) -> None:
        """Close the links; what was asked is told so."""
        for link in self.links:
            await link.close()
