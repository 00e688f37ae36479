"""The two shared stores: whether they answer, and a user of its own for each server.

A server's user may do what a sidecar does, on that server's keys alone. Its password is
derived, so the operator makes the same user again after a Redis has forgotten everything.
Where the given credential may not make users (an external Redis), servers share it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from mcpace_operator.children.meta import Credentials
from mcpace_operator.conditions import StoreState
from mcpace_operator.masterkey import login
from mcpace_operator.server import Server
from mcpace_operator.settings import OperatorSettings
from mcpace_sidecar.errors import StoreError
from mcpace_sidecar.redis import RedisAddress, within

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 2.0
TIMEOUT: Final = 2.0
_ASKING: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
    "retry": Retry(NoBackoff(), 0),
    "decode_responses": True,
}

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

    def __init__(self, name: str, url: str, authority: str | None, passwords: Sequence[str] = ()) -> None:
        """`passwords`: what may log in to an embedded Redis, whose URL holds none; the best first."""
        self.name = name
        self.url = url
        self.up = False
        self.refused = False
        """Whether it answers, and takes no credential of ours."""
        self.users: set[str] = set()
        """Users made since this Redis last started."""
        self.shared = False
        """Whether users cannot be made, so that servers share the given credential."""
        self._passwords = passwords
        self._run_id = ""
        urls = [with_user(url, "default", password) for password in passwords] or [url]
        self._addresses = [RedisAddress(each, authority) for each in urls]
        self._clients = [address.client(**_ASKING) for address in self._addresses]
        self._client = self._clients[0]

    async def check(self) -> bool:
        """Ask whether it answers; return whether anything changed since the last time."""
        before = (self.up, self.refused, self._run_id)
        try:
            await self._log_in()
            self.up, self.refused = True, False
        except NoPermissionError:
            self.up, self.refused = True, False  # it answers; an external Redis need not tell more
        except (RedisError, OSError, TimeoutError) as error:
            refused = isinstance(error, AuthenticationError)
            if self.up or (refused and not self.refused):
                words = "does not take our credential" if refused else "does not answer"
                log.warning("Redis (%s) %s: %s", self.name, words, error)
            self.up, self.refused = False, refused
        if before[2] != self._run_id:
            self.users.clear()
        changed = before != (self.up, self.refused, self._run_id)
        if changed and self.up:
            log.info("Redis (%s) answers", self.name)
        return changed

    async def _log_in(self) -> None:
        """Ask which run of it this is, by whichever password it takes; raises as `within`."""
        for client in self._clients:
            try:
                run_id = (await within(2 * TIMEOUT, client.info("server")))["run_id"]
            except AuthenticationError:
                if client is self._clients[-1]:
                    raise
                continue
            self._client = client
            break
        if self._passwords and run_id != self._run_id:
            # It was started with the key as it was then: from now on it takes what is accepted now.
            rules = ("resetpass", *login(list(self._passwords)))
            await within(2 * TIMEOUT, self._client.execute_command("ACL", "SETUSER", "default", *rules))
            self._client = self._clients[0]
        self._run_id = run_id

    async def url_for(self, server: Server, passwords: Sequence[str]) -> str:
        """Make the server's user unless it is there, and return its URL; StoreError.

        It may log in with any of the passwords, and is told the first. While Redis is down the URL is
        the same, and the user is made when it is back.
        """
        user = username(server)
        if self.up and not self.shared and user not in self.users:
            prefix = f"mcpace:{{{server.key}}}:"
            rules = ["reset", "on", *login(list(passwords)), f"~{prefix}*", f"&{prefix}*", *COMMANDS]
            try:
                await within(2 * TIMEOUT, self._client.execute_command("ACL", "SETUSER", user, *rules))
            except (NoPermissionError, ResponseError) as error:
                log.warning("Redis (%s) lets us make no users, so servers share one: %s", self.name, error)
                self.shared = True
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreError(f"Redis ({self.name}): {error}") from None
            else:
                self.users.add(user)
        return self.url if self.shared else with_user(self.url, user, passwords[0])

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
        for client, address in zip(self._clients, self._addresses, strict=True):
            await client.aclose()
            await address.close()


class Stores:
    """Both stores."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self.limits = self._store("limits", settings.limits_url)
        self.cache = self._store("cache", settings.cache_url)

    async def credentials(self, server: Server) -> Credentials:
        """The server's own URLs; StoreError if its user could not be made."""
        passwords = self._settings.master_key.accepted("redis", server.uid)
        return Credentials(
            limits_url=await self.limits.url_for(server, passwords) if self.limits else None,
            cache_url=await self.cache.url_for(server, passwords) if self.cache else None,
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

    def _store(self, name: str, url: str | None) -> Store | None:
        settings = self._settings
        if url is None:
            return None
        passwords = settings.master_key.administering(name) if name in settings.embedded else ()
        return Store(name, url, settings.redis_authority, passwords)

    def _all(self) -> list[Store]:
        return [store for store in (self.limits, self.cache) if store is not None]
