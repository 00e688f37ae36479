"""The Redis processes behind one URL: one, the one that Sentinels name, or every node of a cluster."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from mcpace_sidecar.contract.addresses import Place, RedisAddress, within

TIMEOUT: Final = 2.0
"""Seconds that one question may take."""
_OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "decode_responses": True,
}
_GONE: Final = ("fail", "noaddr", "handshake")


class Node(NamedTuple):
    """One process, and what it told of itself; nothing where it may not say."""

    client: Redis
    told: dict[str, Any]

    @property
    def is_master(self) -> bool:
        """Whether it takes writes, as far as is known."""
        return bool(self.told.get("role", "master") == "master")

    async def ask(self, *command: str) -> Any:
        """Ask, and return the answer; RedisError, OSError, TimeoutError."""
        return await within(2 * TIMEOUT, self.client.execute_command(*command))


class Nodes:
    """Found anew by each look, because nodes come, go and change their parts."""

    def __init__(self, url: str, authority: str | None) -> None:
        self.address = RedisAddress(url, authority)
        self._clients: dict[Place | None, Redis] = {}

    async def look(self) -> list[Node]:
        """Every process that answers; RedisError, OSError, TimeoutError where none does."""
        if not self.address.seeds:
            return [await self._asked(None)]
        error: Exception = ConnectionError("no node of the cluster answers")
        for seed in self.address.seeds:
            try:
                places = await self._cluster(seed)
            except (RedisError, OSError, TimeoutError) as failed:
                error = failed
                continue
            asked = await asyncio.gather(*map(self._asked, places), return_exceptions=True)
            for place in set(self._clients) - {*places, *self.address.seeds}:
                await self._clients.pop(place).aclose()
            if nodes := [node for node in asked if isinstance(node, Node)]:
                return nodes
        raise error

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        await self.address.close()

    async def _cluster(self, seed: Place) -> list[Place]:
        """The places of all nodes, as one of them knows them."""
        try:
            known = await within(2 * TIMEOUT, self._client(seed).execute_command("CLUSTER NODES"))
        except AuthenticationError:
            raise
        except (NoPermissionError, RedisError) as refused:
            if "cluster support disabled" in str(refused):
                return [seed]  # whoever asked says what is wrong with it
            raise
        places = []
        for where, node in known.items():
            host, _, port = where.rpartition(":")
            if not any(gone in node["flags"] for gone in _GONE):
                # Its certificate is of the name that it announces, if it announces one.
                name = node["hostname"] if self.address.tls is not None else ""
                places.append((name or host.strip("[]") or seed[0], int(port)))
        return places or [seed]

    async def _asked(self, place: Place | None) -> Node:
        client = self._client(place)
        try:
            return Node(client, dict(await within(2 * TIMEOUT, client.info())))
        except NoPermissionError:
            return Node(client, {})  # it answers; a Redis of somebody's need not tell more

    def _client(self, place: Place | None) -> Redis:
        client = self._clients.get(place)
        if client is None:
            where = {} if place is None else {"host": place[0], "port": place[1]}
            client = self._clients[place] = self.address.client(**_OPTIONS, **where)
        return client
