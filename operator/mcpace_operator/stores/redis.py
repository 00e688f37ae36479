"""The two shared stores: whether they answer, and a user of its own for each server.

A server's user may do what a sidecar does, on that server's keys alone, and run no program but the
functions that the operator loads. Its password is derived, so the operator makes the same user again
after a Redis has forgotten everything. Where the given credential may not make users (a Redis of
yours), servers share it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from mcpace_operator.children.context import Credentials
from mcpace_operator.masterkey import login
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.status.seen import StoreState
from mcpace_operator.stores import shares
from mcpace_operator.stores.nodes import Node, Nodes
from mcpace_sidecar.contract.addresses import misplaced
from mcpace_sidecar.contract.scripts import BEFORE, SCRIPTS, library
from mcpace_sidecar.errors import StoreError

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 2.0
CUT_OFF: Final = 600.0
"""Seconds for which a server that took more than its share has no user."""

_GREETING: Final = ("asking", "auth", "hello", "ping", "select")
COMMANDS: Final = {
    "limits": (
        *_GREETING, "fcall", "evalsha", "time", "get", "incrby", "hget", "hmget", "hset",
        "expire", "expireat", "pexpire", "del", "zadd", "zcard", "zrange", "zrem", "zremrangebyscore",
    ),
    "cache": (
        *_GREETING, "get", "mget", "set", "del", "pttl", "pexpire", "publish", "subscribe", "unsubscribe",
    ),
}  # fmt: skip
"""What a sidecar does with each store. A script is run by its digest: only one that was loaded."""
SCRIPTED: Final = ("eval",)
"""What it does as well where functions cannot be loaded: before Redis 7."""

_UNUSABLE: Final = "it does not take the operator's credential"
_GREEDY: Final = (
    "this server took more than its share of the store, and was cut off for ten minutes;"
    " with redis.limits.maxMemory the store holds more clients"
)


def username(key: Key) -> str:
    """A server's user."""
    return f"mcpace:{key}"


def with_user(url: str, user: str, password: str) -> str:
    """The URL of a store with another credential in it."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"))


class Store:
    """One store, seen by the operator: a Redis, or all nodes of a cluster."""

    def __init__(self, name: str, url: str, authority: str | None, passwords: Sequence[str] = ()) -> None:
        """`passwords`: what may log in to an embedded Redis, whose URL holds none; the best first."""
        self.name = name
        self.url = url
        self.up = False
        self.unusable = ""
        """Why it cannot be used though it answers."""
        self.users: set[str] = set()
        """Users made since any node of it last started."""
        self.shared = False
        """Whether users cannot be made, so that servers share the given credential."""
        self.runs: frozenset[str] = frozenset()
        """Which runs of which nodes it is: another set may have forgotten everything."""
        self.commands: frozenset[str] = frozenset(COMMANDS[name])
        """What users may do, as the other store may be the same Redis."""
        self._functions = True
        self._passwords = passwords
        self._logins = [
            Nodes(with_user(url, "default", password) if password else url, authority)
            for password in (*passwords, *([] if passwords else [""]))
        ]
        self._nodes: list[Node] = []
        self._unsaved = False
        self._cut: dict[str, float] = {}  # user -> until when, of the monotonic clock

    @property
    def embedded(self) -> bool:
        """Whether it is the release's own."""
        return bool(self._passwords)

    async def check(self) -> bool:
        """Ask whether it answers; return whether anything changed since the last time."""
        before = (self.up, self.unusable, self.runs)
        try:
            await self._look()
        except (RedisError, OSError, TimeoutError) as error:
            unusable = _UNUSABLE if isinstance(error, AuthenticationError) else ""
            if self.up or unusable != self.unusable:
                log.warning(
                    "Redis (%s) %s: %s", self.name, "refuses us" if unusable else "does not answer", error
                )
            self.up, self.unusable = False, unusable
        changed = before != (self.up, self.unusable, self.runs)
        if changed and self.up:
            log.info("Redis (%s) answers", self.name)
        return changed

    async def _look(self) -> None:
        nodes = await self._log_in()
        told = nodes[0].told
        wrong = misplaced(
            self._logins[0].address,
            told.get("redis_mode", ""),
            told.get("role", "") if len(nodes) == 1 else "",
        )
        if wrong is not None:
            if wrong != self.unusable:
                log.warning("Redis (%s) cannot be used: %s", self.name, wrong)
            self.up, self.unusable = False, wrong
            return
        runs = frozenset(str(node.told.get("run_id", "")) for node in nodes)
        self._nodes = nodes
        if runs != self.runs:
            await self._prepare()
            self.users.clear()
        self.runs = runs
        self.up, self.unusable = True, ""

    async def _log_in(self) -> list[Node]:
        """Look with whichever password it takes; raises as `Nodes.look`."""
        for login_ in self._logins[:-1]:
            try:
                return await login_.look()
            except AuthenticationError:
                continue
        return await self._logins[-1].look()

    async def _prepare(self) -> None:
        """What a Redis that has just started must have before it has users."""
        if self.embedded:
            # It was started with the key as it was then: from now on it takes what is accepted now.
            rules = ("resetpass", *login(list(self._passwords)))
            await self._everywhere("ACL SETUSER", "default", *rules)
            self._unsaved = True
        if self.name != "limits":
            return
        try:
            for node in self._nodes:
                if node.is_master:
                    await _load(node)
        except ResponseError as error:  # before Redis 7, or not ours to load
            log.info("Redis (%s) takes no functions, so scripts are sent: %s", self.name, error)
            self._functions = False
        else:
            self._functions = True

    async def url_for(self, server: Server, passwords: Sequence[str]) -> str:
        """Make the server's user unless it is there, and return its URL; StoreError.

        It may log in with any of the passwords, and is told the first. While Redis is down the URL is
        the same, and the user is made when it is back.
        """
        user = username(server.key)
        if self.up and not self.shared and user not in self.users and user not in self._cut:
            prefix = f"mcpace:{{{server.key}}}:"
            commands = sorted(self.commands | (frozenset() if self._functions else frozenset(SCRIPTED)))
            may = ("-@all", *(f"+{command}" for command in commands))
            rules = ("reset", "on", *login(list(passwords)), f"~{prefix}*", f"&{prefix}*", *may)
            try:
                await self._everywhere("ACL SETUSER", user, *rules)
            except (NoPermissionError, ResponseError) as error:
                log.warning("Redis (%s) lets us make no users, so servers share one: %s", self.name, error)
                self.shared = True
            except (RedisError, OSError, TimeoutError) as error:
                raise StoreError(f"Redis ({self.name}): {error}") from None
            else:
                self.users.add(user)
                self._unsaved = True
        return self.url if self.shared else with_user(self.url, user, passwords[0])

    async def drop(self, user: str) -> None:
        """Remove a user; the server is gone."""
        self.users.discard(user)
        self._cut.pop(user, None)
        if self.up and not self.shared:
            try:
                await self._everywhere("ACL DELUSER", user)
                self._unsaved = True
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("Redis (%s): the user %s stays: %s", self.name, user, error)

    async def tend(self, servers: Collection[Key]) -> bool:
        """Look after an embedded Redis: shares, users of servers gone, its file of users.

        Return whether a server was cut off, or may come back. What fails is tried again.
        """
        if not self.embedded or not self.up:
            return False
        now = time.monotonic()
        back = [user for user, until in self._cut.items() if until <= now]
        for user in back:
            del self._cut[user]
        changed = bool(back)
        (node,) = self._nodes
        try:
            if self.name == "limits" and shares.is_filling(node.told):
                for user in await shares.greedy(node) - self._cut.keys():
                    await shares.cut_off(node, user)
                    log.warning("Redis (%s): %s took more than its share, and is cut off", self.name, user)
                    self._cut[user] = now + CUT_OFF
                    self.users.discard(user)
                    changed = True
            if self._unsaved:
                wanted = {username(key) for key in servers}
                for user in await node.ask("ACL USERS"):
                    if user.startswith("mcpace:") and user not in wanted:
                        await node.ask("ACL DELUSER", user)
                # Redis keeps users in a file of its own, so that it knows them when we are away.
                await node.ask("ACL SAVE")
                self._unsaved = False
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Redis (%s) could not be looked after: %s", self.name, error)
        return changed

    def state(self, key: Key) -> StoreState:
        """What a server's condition says of it."""
        if username(key) in self._cut:
            return StoreState(up=False, unusable=_GREEDY)
        return StoreState(self.up, self.unusable)

    async def close(self) -> None:
        """Close every connection."""
        for nodes in self._logins:
            await nodes.close()

    async def _everywhere(self, *command: str) -> None:
        for node in self._nodes:
            await node.ask(*command)


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

    def state(self, store: Store | None, key: Key) -> StoreState:
        """What a server's condition says of a store."""
        return StoreState(None) if store is None else store.state(key)

    async def drop(self, server: Server) -> None:
        """The server is gone: so is its user."""
        for store in self._all():
            await store.drop(username(server.key))

    async def watch(self, servers: Collection[Key], changed: Callable[[], None]) -> None:
        """Ask both every two seconds; `changed` is called when the answer differs."""
        while True:
            differs = await self.check()
            if any([await store.tend(servers) for store in self._all()]) or differs:
                changed()
            await asyncio.sleep(CHECK_INTERVAL)

    async def check(self) -> bool:
        """Ask both once; return whether anything changed."""
        changed = any([await store.check() for store in self._all()])
        if self.limits and self.cache:
            # One Redis may be both, and a server has one user in it.
            same = self.limits.runs == self.cache.runs
            for store in self._all():
                commands = frozenset(
                    COMMANDS["limits"] + COMMANDS["cache"] if same else COMMANDS[store.name]
                )
                if commands != store.commands:
                    store.commands = commands
                    store.users.clear()
                    changed = True
        return changed

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


async def _load(node: Node) -> None:
    """Load the functions, which Redis keeps in its files, and the scripts of sidecars before them."""
    for script in (*SCRIPTS.values(), *BEFORE):
        await node.ask("SCRIPT LOAD", script.text.decode())
    try:
        await node.ask("FUNCTION LOAD", library())
    except ResponseError as error:
        if "already exists" not in str(error):
            raise
