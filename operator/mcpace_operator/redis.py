"""The two shared stores: whether they answer, and a user of its own for each server.

A server's user may do what a sidecar does, on that server's keys alone. Its password is
derived, so the operator makes the same user again after a Redis has forgotten everything.
Where the given credential may not make users (an external Redis), servers share it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from mcpace_operator.children.meta import Credentials
from mcpace_operator.conditions import StoreState
from mcpace_operator.server import Server
from mcpace_operator.settings import OperatorSettings
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.redis import RedisAddress, within

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 2.0
TIMEOUT: Final = 2.0

COMMANDS: Final = (
    "-@all",
    *(f"+{name}" for name in (
        "auth", "hello", "ping", "select", "time",
        "get", "mget", "set", "del", "pttl", "eval", "evalsha",
        "hget", "hmget", "hset", "incrby", "expire", "expireat", "pexpire",
        "zadd", "zcard", "zrem", "zremrangebyscore", "publish", "subscribe", "unsubscribe",
    )),
)  # fmt: skip
"""What a sidecar does, as ACL rules."""


def username(server: Server) -> str:
    """A server's user."""
    return f"mcpace:{server.key}"


def with_user(url: str, user: str, password: str) -> str:
    """The URL of a store with another credential in it."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"))


class Store:
    """One Redis, seen by the operator."""

    def __init__(self, name: str, url: str, authority: str | None) -> None:
        self.name = name
        self.url = url
        self.up = False
        self.users: set[str] = set()
        """Users made since this Redis last started."""
        self.shared = False
        """Whether users cannot be made, so that servers share the given credential."""
        self._run_id = ""
        self._address = RedisAddress(url, authority)
        self._client = self._address.client(
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    async def check(self) -> bool:
        """Ask whether it answers; return whether anything changed since the last time."""
        before = (self.up, self._run_id)
        try:
            self._run_id = (await within(2 * TIMEOUT, self._client.info("server")))["run_id"]
            self.up = True
        except NoPermissionError:
            self.up = True  # it answers; an external Redis need not tell more
        except (RedisError, OSError, TimeoutError) as error:
            if self.up:
                log.warning("Redis (%s) does not answer: %s", self.name, error)
            self.up = False
        if before[1] != self._run_id:
            self.users.clear()
        changed = before != (self.up, self._run_id)
        if changed and self.up:
            log.info("Redis (%s) answers", self.name)
        return changed

    async def url_for(self, server: Server, password: str) -> str:
        """Make the server's user unless it is there, and return its URL; StoreError.

        While Redis is down the URL is the same, and the user is made when it is back.
        """
        user = username(server)
        if self.up and not self.shared and user not in self.users:
            prefix = f"mcpace:{{{server.key}}}:"
            rules = ["reset", "on", f">{password}", f"~{prefix}*", f"&{prefix}*", *COMMANDS]
            try:
                await within(2 * TIMEOUT, self._client.execute_command("ACL", "SETUSER", user, *rules))
            except (NoPermissionError, ResponseError) as error:
                log.warning("Redis (%s) lets us make no users, so servers share one: %s", self.name, error)
                self.shared = True
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreError(f"Redis ({self.name}): {error}") from None
            else:
                self.users.add(user)
        return self.url if self.shared else with_user(self.url, user, password)

    async def drop(self, user: str) -> None:
        """Remove a user; the server is gone."""
        self.users.discard(user)
        if self.up and not self.shared:
            try:
                await within(2 * TIMEOUT, self._client.execute_command("ACL", "DELUSER", user))
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("Redis (%s): the user %s stays: %s", self.name, user, error)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._address.close()


class Stores:
    """Both stores."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        limits, cache, authority = settings.limits_url, settings.cache_url, settings.redis_authority
        self.limits = Store("limits", limits, authority) if limits else None
        self.cache = Store("cache", cache, authority) if cache else None

    async def credentials(self, server: Server) -> Credentials:
        """The server's own URLs; StoreError if its user could not be made."""
        password = self._settings.derive("redis", server.uid)
        return Credentials(
            limits_url=await self.limits.url_for(server, password) if self.limits else None,
            cache_url=await self.cache.url_for(server, password) if self.cache else None,
        )

    def state(self, store: Store | None) -> StoreState:
        """What a condition says of a store."""
        return StoreState(None if store is None else store.up)

    async def drop(self, server: Server) -> None:
        """The server is gone: so is its user."""
        for store in self._all():
            await store.drop(username(server))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Ask both every two seconds; `changed` is called when the answer differs."""
        while True:
            if any([await store.check() for store in self._all()]):
                changed()
            await asyncio.sleep(CHECK_INTERVAL)

    async def check(self) -> None:
        """Ask both once."""
        for store in self._all():
            await store.check()

    async def close(self) -> None:
        """Close every connection."""
        for store in self._all():
            await store.close()

    def _all(self) -> list[Store]:
        return [store for store in (self.limits, self.cache) if store is not None]
