"""Who is calling: an API key of ours, or an address.

Keys come from mounted Secret files only (a folder a Secret, an entry a client) and are
held as SHA-256 digests. They are looked up by digest and then compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mcpace_sidecar.config import Clients
from mcpace_sidecar.errors import ConfigError

log = logging.getLogger(__name__)

API_KEY: Final = b"x-api-key"
AUTHORIZATION: Final = b"authorization"
_REMEMBERED: Final = 10_000


class Client(msgspec.Struct, frozen=True):
    """One caller. `name` tells callers apart and holds no secret; `tier` is None if unknown."""

    name: str
    tier: str | None = None
    anonymous: bool = True


class Caller(msgspec.Struct, frozen=True):
    """What a request's credentials say."""

    client: Client | None
    """None: refuse."""
    key_header: bytes | None = None
    """The header that held a key of ours."""
    words: str = ""
    """Why it is refused, for a person."""


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
            if other is not None and other != client:
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

    def __init__(self, clients: Clients, keys: Mapping[bytes, Client]) -> None:
        self._keys = {digest: (digest, client) for digest, client in keys.items()}
        self._anonymous = clients.anonymous == "allow"
        self._addresses: dict[str, Caller] = {}

    def by_credential(self, api_key: bytes | None, authorization: bytes | None) -> Caller | None:
        """Who the two headers' values say is calling; None: they say nothing to us."""
        if api_key is not None:
            client = self._by_key(api_key)
            if client is None:
                return Caller(None, words="The X-API-Key is not known; leave it out or send a valid one.")
            return Caller(client, API_KEY)
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            client = self._by_key(authorization[7:].strip())
            if client is not None:
                return Caller(client, AUTHORIZATION)
        return None

    def by_address(self, address: str) -> Caller:
        """Who calls without a credential of ours."""
        if not self._anonymous:
            words = "An API key is required, as X-API-Key or as Authorization: Bearer."
            return Caller(None, words=words)
        caller = self._addresses.get(address)
        if caller is None:
            if len(self._addresses) >= _REMEMBERED:
                self._addresses.clear()
            caller = self._addresses[address] = Caller(Client(f"addr:{network(address)}"))
        return caller

    def _by_key(self, key: bytes) -> Client | None:
        digest = hashlib.sha256(key).digest()
        known = self._keys.get(digest)
        if known is not None and hmac.compare_digest(known[0], digest):
            return known[1]
        return None


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
