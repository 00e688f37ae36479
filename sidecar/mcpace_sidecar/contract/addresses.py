"""Where a Redis is: at an address, wherever Sentinels say that its master is, or all over a cluster.

    redis://user:password@host:6379/0                           plain
    rediss://…                                                  over TLS
    redis+sentinel://user:password@one:26379,two:26379/NAME/0   the master NAME that these Sentinels know
    redis+cluster://user:password@one:6379,two:6379             a Redis Cluster that these nodes know
    rediss+sentinel://…, rediss+cluster://…                     over TLS, the Sentinels too

A Sentinel that wants a credential of its own gets it by `?sentinel_username=…&sentinel_password=…`.
Source: redis.io, "Guidelines for Redis clients with support for Redis Sentinel".
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterator
from functools import cached_property
from itertools import cycle
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

import redis.asyncio
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mcpace_sidecar.errors import ConfigError, StoreError

T = TypeVar("T")

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SENTINEL_TIMEOUT: Final = 0.3
"""Seconds one Sentinel may take to answer before the next is asked."""
_SENTINEL: Final = "+sentinel"
_CLUSTER: Final = "+cluster"
_WRITE: Final = (
    "write redis://user:password@host:6379/0, redis+sentinel://user:password@host:26379/NAME/0,"
    " or redis+cluster://user:password@host:6379"
)
_TLS_OPTIONS: Final = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")
Place = tuple[str, int]
"""Host and port."""


class RedisAddress:
    """What a URL says. Errors leave the URL out, because a password is in it."""

    def __init__(self, url: str, authority: str | None = None) -> None:
        """`authority`: certificates in PEM by which TLS is verified. ConfigError says what to write."""
        try:
            plain, hosts, self._service = _parted(url)
            self._options: dict[str, Any] = dict(parse_url(plain))
            scheme = urlsplit(url).scheme
            _refuse_what_is_lost(urlsplit(plain), scheme)
            self.seeds: list[Place] = hosts if scheme.endswith(_CLUSTER) else []
            """Nodes to ask for the others, of a Redis Cluster."""
            self._sentinels: list[Place] = hosts if scheme.endswith(_SENTINEL) else []
            if self.seeds and int(self._options.get("db") or 0):
                raise ValueError("a Redis Cluster has no database but 0")
        except ValueError as error:
            raise ConfigError(f"the URL of a Redis cannot be used ({error}); {_WRITE}") from None
        self._is_tls = self._options.pop("connection_class", None) is SSLConnection
        if self._is_tls and authority:
            self._options["ssl_ca_data"] = authority
        self.path: str | None = self._options.get("path")
        """The path of a Unix socket, where it is one."""
        self.username: str = self._options.get("username") or ""
        self.password: str = self._options.get("password") or ""
        self.database = int(self._options.get("db") or 0)
        self._place = self._options.get("host") or "localhost", int(self._options.get("port") or REDIS_PORT)
        self.ports = {self._place[1]}
        """Ports that whoever asks must reach. A master that Sentinels name is taken to be on 6379."""
        if self._sentinels:
            self.ports = {REDIS_PORT, *(port for _, port in self._sentinels)}
        if self.seeds:
            self.ports = {port for _, port in self.seeds}
        names = ("username", "password")
        written = {name: self._options.pop(f"sentinel_{name}", None) for name in names}
        self._sentinel_login = {name: value for name, value in written.items() if value is not None}

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS of a `rediss` URL, verified unless it says `?ssl_cert_reqs=none`; ConfigError."""
        options = self._options
        if not self._is_tls:
            return None
        try:
            context = ssl.create_default_context(
                cafile=options.get("ssl_ca_certs"), cadata=options.get("ssl_ca_data")
            )
            if options.get("ssl_certfile"):
                context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        except OSError as error:
            raise ConfigError(f"the certificates for Redis are not usable PEM: {error}") from None
        if options.get("ssl_cert_reqs") == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def find(self) -> Place:
        """Host and port, now; of a cluster any node's. StoreError where no Sentinel knows."""
        if self.seeds:
            return next(self._turn)
        if not self._sentinels:
            return self._place
        try:
            seconds = SENTINEL_TIMEOUT * (len(self._sentinels) + 1)
            host, port = await within(seconds, self._sentinel.discover_master(self._service))
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(str(error) or f"{_unnamed(self._service)} in time") from None
        return str(host), int(port)

    def client(self, **options: Any) -> redis.asyncio.Redis:
        """A client of redis-py, for what is not on a call's way; of a cluster, for one `host`, `port`."""
        options = {**self._options, **options}
        if self.path is not None:
            options["unix_socket_path"] = options.pop("path")
        if not self._sentinels:
            return redis.asyncio.Redis(ssl=self._is_tls, **options)
        options.pop("host", None), options.pop("port", None)
        master = self._sentinel.master_for(self._service, ssl=self._is_tls, **options)
        assert isinstance(master, redis.asyncio.Redis)
        return master

    async def close(self) -> None:
        """Close what was opened to Sentinels."""
        for each in self._sentinel.sentinels if self._sentinels else ():
            await each.aclose()

    @cached_property
    def _turn(self) -> Iterator[Place]:
        """The seeds, one after the other: the next one may live where this one does not."""
        return cycle(self.seeds)

    @cached_property
    def _sentinel(self) -> Sentinel:
        """The Sentinels' clients, made for the first question: many an address is only read."""
        asked: dict[str, Any] = {k: v for k, v in self._options.items() if k.startswith("ssl_")}
        asked |= self._sentinel_login
        asked |= {
            "socket_timeout": SENTINEL_TIMEOUT,
            "socket_connect_timeout": SENTINEL_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),  # the next Sentinel is the other try
            "ssl": self._is_tls,
        }
        return _Sentinels(self._sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]


class _Sentinels(Sentinel):
    """Sentinels that say in a few words why they name no master: redis-py shows all that it is made of."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the master; MasterNotFoundError. Who knew it is asked first the next time."""
        said = []
        for at, each in enumerate(self.sentinels):
            asked = each.connection_pool.connection_kwargs
            place = f"{asked['host']}:{asked['port']}"
            try:
                known = await each.sentinel_masters()
            except (RedisError, OSError, TimeoutError) as error:
                said.append(f"{place}: {error or 'no answer in time'}")
                continue
            state = known.get(service_name) if isinstance(known, dict) else None
            if state and self.check_master_state(state, service_name):
                self.sentinels[0], self.sentinels[at] = each, self.sentinels[0]
                return state["ip"], state["port"]
            said.append(f"{place} knows none of that name that is up")
        raise MasterNotFoundError(f"{_unnamed(service_name)} ({'; '.join(said)[:_SAID]})")


_SAID: Final = 500
"""Characters of what is told of what Sentinels said."""


def _unnamed(service: str) -> str:
    return f"no Sentinel names a master {service}"


async def within(seconds: float, answer: Awaitable[T]) -> T:
    """Await what redis-py answers; RedisError, OSError, TimeoutError. Who is told to end, ends."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    finally:
        heed_cancellation()


def heed_cancellation() -> None:
    """Raise the CancelledError that redis-py (8.1) turns into a lost connection, and so tries again."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _refuse_what_is_lost(plain: SplitResult, scheme: str) -> None:
    """ValueError for what is written in a URL and would mean nothing."""
    path = unquote(plain.path).strip("/")
    if plain.scheme != "unix" and path and not path.isdigit():
        raise ValueError(f"{path!r} is no number of a database")
    for name in parse_qs(plain.query):
        meant = (
            name == "db"
            or (name in ("username", "password") and plain.scheme == "unix")
            or (name in _TLS_OPTIONS and plain.scheme == "rediss")
            or (name in _SENTINEL_OPTIONS and scheme.endswith(_SENTINEL))
        )
        if not meant:
            raise ValueError(f"the option {name!r} means nothing with {scheme}://")


def misplaced(address: RedisAddress, mode: str, role: str) -> str | None:
    """Why a Redis that answers will not do, in words that say what to write; None where it will.

    `mode` and `role` as HELLO and INFO tell them: standalone, cluster, sentinel; master, replica, slave.
    """
    if mode == "cluster" and not address.seeds:
        return "this is a node of a Redis Cluster: write redis+cluster://user:password@host:6379"
    if mode == "standalone" and address.seeds:
        return "this is no node of a Redis Cluster: write redis://user:password@host:6379/0"
    if mode == "sentinel":
        return "this is a Sentinel: write redis+sentinel://user:password@host:26379/NAME/0"
    if role in ("replica", "slave") and not address.seeds:
        return (
            "this is a read-only replica: name its master, or the Sentinels that know it"
            " (redis+sentinel://user:password@host:26379/NAME/0)"
        )
    return None


def _parted(url: str) -> tuple[str, list[Place], str]:
    """The URL as if it named one host; the hosts that it names; the master's name."""
    parts = urlsplit(url)
    if parts.scheme.endswith(_CLUSTER):
        credential, at, hosts = parts.netloc.rpartition("@")
        each = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not all(node.hostname for node in each):
            raise ValueError("a node's host is missing")
        plain = parts._replace(
            scheme=parts.scheme.removesuffix(_CLUSTER), netloc=f"{credential}{at}localhost"
        )
        return urlunsplit(plain), [(n.hostname or "", n.port or REDIS_PORT) for n in each], ""
    if not parts.scheme.endswith(_SENTINEL):
        return url, [], ""
    credential, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the master's name is missing")
    each = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if not all(sentinel.hostname for sentinel in each):
        raise ValueError("a Sentinel's host is missing")
    plain = parts._replace(
        scheme=parts.scheme.removesuffix(_SENTINEL),
        netloc=f"{credential}{at}localhost",
        path=f"/{database}",
    )
    return urlunsplit(plain), [(s.hostname or "", s.port or SENTINEL_PORT) for s in each], service
