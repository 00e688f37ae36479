"""Who is calling: an API key of ours, a verified token, whom a trusted gateway names, or an address.

Keys come from mounted Secret files only (a folder a Secret, an entry a client) and are
held as SHA-256 digests. They are looked up by digest and then compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpace_sidecar.config.clients import Clients
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.remembered import make_room

if TYPE_CHECKING:
    from mcpace_sidecar.tokens import Tokens

log = logging.getLogger(__name__)

API_KEY: Final = b"x-api-key"
AUTHORIZATION: Final = b"authorization"
_REMEMBERED: Final = 10_000


class Client:
    """One caller. `name` tells callers apart and holds no secret; `tier` is None if unknown."""

    __slots__ = ("anonymous", "name", "subject", "tier")

    def __init__(
        self, name: str, tier: str | None = None, *, anonymous: bool = True, subject: str = ""
    ) -> None:
        self.name = name
        self.tier = tier
        self.anonymous = anonymous
        self.subject = subject
        """Of a verified token its issuer and subject: several may use one client."""

    def __repr__(self) -> str:
        return f"<Client {self.name}>"


class Caller:
    """What a request's credentials say."""

    __slots__ = ("client", "header", "status", "until", "words")

    def __init__(
        self, client: Client | None, header: bytes | None = None, *,
        words: str = "", until: float = math.inf, status: int = 401,
    ) -> None:  # fmt: skip
        self.client = client
        """None: refuse."""
        self.header = header
        """The header that held a credential of ours."""
        self.words = words
        """Why it is refused, for a person."""
        self.until = until
        """When this stops to be so, in seconds since the epoch."""
        self.status = status
        """The HTTP status of a refusal."""


def read_keys(clients: Clients, folder: Path | None) -> tuple[dict[bytes, Client], tuple[str, ...]]:
    """Return the clients by the digest of their key, and the names of the Secrets not found.

    Raises ConfigError where one key stands for two clients.
    """
    known: dict[bytes, Client] = {}
    missing: list[str] = []
    for keys in clients.api_keys:
        secret = keys.secret_ref.name
        entries = sorted(_entries(folder / secret)) if folder is not None else []
        if not entries:
            missing.append(secret)
        for entry in entries:
            key = entry.read_bytes().strip()
            if not key:
                log.warning("Secret %s: the key of %s is empty and ignored", secret, entry.name)
                continue
            digest = hashlib.sha256(key).digest()
            client = Client(f"key:{secret}/{entry.name}", keys.tier, anonymous=False)
            other = known.get(digest)
            if other is not None and (other.name, other.tier) != (client.name, client.tier):
                raise ConfigError(
                    f"{other.name.removeprefix('key:')} and {secret}/{entry.name} hold the same key:"
                    " give every client a key of its own"
                )
            known[digest] = client
    return known, tuple(missing)


def _entries(folder: Path) -> list[Path]:
    # The kubelet keeps its versions in entries that begin with two dots.
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file()]


class Identities:
    """Decides who is calling, under one set of keys."""

    def __init__(
        self, clients: Clients, keys: Mapping[bytes, Client], tokens: Tokens | None = None
    ) -> None:
        self.tokens = tokens
        self._keys = {digest: (digest, client) for digest, client in keys.items()}
        self._anonymous = clients.anonymous == "allow"
        self._addresses: dict[str, Caller] = {}
        self.networks = [ipaddress.ip_network(network, strict=False) for network in clients.trusted_proxies]
        self._trusted: dict[str, bool] = {}
        self._gateway: dict[tuple[bytes, bytes], Caller] = {}
        headers = clients.trusted_headers
        self._client_header = headers.client.lower().encode() if headers is not None else None
        self._tier_header = headers.tier.lower().encode() if headers is not None and headers.tier else None
        self.trusted_headers: frozenset[bytes] = frozenset(
            name for name in (self._client_header, self._tier_header) if name is not None
        )
        """The headers that only a trusted proxy may send."""

    def trusts(self, peer: str) -> bool:
        """Whether an address is one of the gateways in front."""
        if not self.networks:
            return False
        known = self._trusted.get(peer)
        if known is None:
            make_room(self._trusted, _REMEMBERED)
            known = self._trusted[peer] = self._is_trusted(peer)
        return known

    def by_credential(self, api_key: bytes | None, authorization: bytes | None) -> Caller | None:
        """Who the two headers' values say is calling; None: they say nothing, or `is_token`."""
        if api_key is not None:
            client = self._by_key(api_key)
            if client is None:
                return Caller(None, words="The X-API-Key is not known; leave it out or send a valid one.")
            return Caller(client, API_KEY)
        bearer = bearer_of(authorization)
        if bearer:
            client = self._by_key(bearer)
            if client is not None:
                return Caller(client, AUTHORIZATION)
        return None

    def by_connection(self, head: RequestHead, peer: str) -> Caller:
        """Who calls without a credential of ours: as a trusted gateway says, or by address."""
        if self.trusts(peer):
            name = head.get(self._client_header) if self._client_header is not None else None
            if name:
                tier = head.get(self._tier_header) if self._tier_header is not None else None
                return self._named(name, tier or b"")
            peer = self._forwarded(head, peer)
        if not self._anonymous:
            words = "A credential is required: an API key as X-API-Key, or Authorization: Bearer."
            return Caller(None, words=words)
        caller = self._addresses.get(peer)
        if caller is None:
            make_room(self._addresses, _REMEMBERED)
            caller = self._addresses[peer] = Caller(Client(f"addr:{network(peer)}"))
        return caller

    def _named(self, name: bytes, tier: bytes) -> Caller:
        caller = self._gateway.get((name, tier))
        if caller is None:
            make_room(self._gateway, _REMEMBERED)
            plan = tier.decode("latin-1") if tier else None
            client = Client(f"header:{name.decode('latin-1')}", plan, anonymous=False)
            caller = self._gateway[name, tier] = Caller(client)
        return caller

    def _forwarded(self, head: RequestHead, peer: str) -> str:
        """The nearest address that is no gateway of ours; what stands before it anybody may write."""
        hops = b",".join(head.values(b"x-forwarded-for")).split(b",")
        for hop in reversed(hops):
            address = hop.strip().decode("latin-1")
            if not address:
                break
            if address.count(":") == 1:
                address = address.partition(":")[0]  # IPv4 with a port
            peer = address.strip("[]")
            if not self._is_trusted(peer):
                break
        return peer

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self.networks)

    def _by_key(self, key: bytes) -> Client | None:
        digest = hashlib.sha256(key).digest()
        known = self._keys.get(digest)
        if known is not None and hmac.compare_digest(known[0], digest):
            return known[1]
        return None


def bearer_of(authorization: bytes | None) -> bytes:
    """The token of an Authorization header's value; empty if it holds none."""
    if authorization is not None and authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip()
    return b""


def network(address: str) -> str:
    """The address that stands for one client: IPv4 whole, IPv6 by its /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
