"""Who is calling: an API key of ours, a verified token, whom a trusted gateway names, or an address.

Keys come from mounted Secret files only (a folder a Secret, an entry a client) and are
held as SHA-256 digests. They are looked up by digest and then compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.identity.client import LONGEST_NAME, Caller, Client

if TYPE_CHECKING:
    from mcpace_sidecar.identity.tokens import Tokens

log = logging.getLogger(__name__)

AUTHORIZATION: Final = b"authorization"
_REMEMBERED: Final = 10_000
_LONG: Final = 256
"""Bytes of forwarding headers beyond which what they say is not remembered."""
_MAX_HOPS: Final = 32
"""How many hops before us are looked at."""
_FORWARDED: Final = (b"X-Forwarded-For", b"Forwarded", b"X-Real-IP")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class _Peer:
    """What the address that a connection comes from says by itself."""

    __slots__ = ("believed", "lines", "nearest", "told", "trusted")

    def __init__(self, peer: str, address: Ip | None, *, trusted: bool, believed: bool) -> None:
        self.trusted = trusted
        """Whether it is one of the gateways in front."""
        self.believed = believed
        """Whether what it says of the way before it may pass."""
        self.nearest = str(address) if address is not None else peer
        self.told = self.nearest or "unknown"
        """As it is told to the server."""
        self.lines = _way([self.told])
        """The header lines of the way here, where there is nothing before it."""


class Via:
    """Who calls without a credential of ours, and what the server is told of the way here."""

    __slots__ = ("apart", "believed", "caller", "identities", "lines", "named", "public", "refusal")

    def __init__(
        self, identities: Identities, apart: tuple[bytes, ...], caller: Caller, lines: bytes,
        named: tuple[bytes, ...], public: bytes, near: _Peer,
    ) -> None:  # fmt: skip
        self.identities = identities
        self.apart = apart
        self.caller = caller
        """As a gateway in front says, or by address."""
        self.lines = lines
        """The header lines of the way here: addresses, and whom a trusted gateway names."""
        self.named = named
        """Whom these lines name, whoever is held to be calling: the server may answer by them."""
        self.public = public
        """What they say of the address that is public: the server may write it into its answers."""
        self.believed: bool = near.believed
        """Whether what came of forwarding headers may pass."""
        self.refusal = ""
        """Why what they say cannot be believed, for a person; empty: it can."""


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
        self._judges_keys = bool(clients.api_keys)
        self.key_header = clients.api_key_header.lower().encode()
        """The header of API keys; the server's own where none are configured."""
        self._key_words = clients.api_key_header
        self._addresses: dict[str, Caller] = {}
        self.networks = [ipaddress.ip_network(network, strict=False) for network in clients.trusted_proxies]
        self._peers: dict[str, _Peer] = {}
        self._gateway: dict[tuple[bytes, bytes], Caller] = {}
        self._vias: dict[tuple[str, tuple[bytes, ...]], Via] = {}
        headers = clients.trusted_headers
        trusted = [headers.client, *([headers.tier] if headers.tier else [])] if headers is not None else []
        self._spelled = (*_FORWARDED, *(name.encode() for name in trusted))
        self.apart: tuple[bytes, ...] = tuple(name.lower() for name in self._spelled)
        """The headers that say of the way here, and of the client at its other end."""

    def clients(self) -> list[Client]:
        """Those that are known: of every key, and who has called lately."""
        callers = [*self._addresses.values(), *self._gateway.values()]
        if self.tokens is not None:
            callers += self.tokens.callers()
        found = [client for _, client in self._keys.values()]
        return found + [caller.client for caller in callers if caller.client is not None]

    def by_credential(self, api_key: bytes | None, authorization: bytes | None) -> Caller | None:
        """Who the two headers' values say is calling; None: they say nothing."""
        if api_key is not None and self._judges_keys:
            client = self._by_key(api_key)
            if client is None:
                words = f"The {self._key_words} is not known; leave it out or send a valid one."
                return Caller(None, words=words)
            return Caller(client)
        bearer = bearer_of(authorization)
        client = self._by_key(bearer) if bearer else None
        return Caller(client) if client is not None else None

    def ours(self, api_key: bytes | None, authorization: bytes | None) -> frozenset[bytes]:
        """The headers that hold a credential of ours, whether or not it was needed."""
        found = set()
        if api_key is not None and self._judges_keys and self._by_key(api_key) is not None:
            found.add(self.key_header)
        bearer = bearer_of(authorization)
        if bearer and (self._by_key(bearer) is not None or self.is_token(bearer)):
            found.add(AUTHORIZATION)
        return frozenset(found)

    def is_token(self, bearer: bytes) -> bool:
        """Whether a bearer is a token of our issuer's."""
        return self.tokens is not None and self.tokens.ours(bearer)

    def via(self, peer: str, apart: tuple[bytes, ...]) -> Via:
        """What the way here says: the peer's address, and the values of `apart`, or () of none."""
        known = self._vias.get((peer, apart))
        if known is None:
            known = self._look_at(peer, apart)
            if len(b"".join(apart)) <= _LONG:
                make_room(self._vias, _REMEMBERED)
                self._vias[peer, apart] = known
        return known

    def _look_at(self, peer: str, apart: tuple[bytes, ...]) -> Via:
        near = self._peer(peer)
        nearest, lines, public = near.nearest, near.lines, b""
        if any(apart[: len(_FORWARDED)]):
            nearest, lines, public = self._forwarded(near, apart)
        names = apart[len(_FORWARDED) :] if near.believed else ()
        for index, name in enumerate(names, len(_FORWARDED)):
            if name:
                lines += b"%b: %b\r\n" % (self._spelled[index], name.replace(b"\n", b", "))
        if not near.trusted or not any(names):
            return Via(self, apart, self._by_address(nearest), lines, (), public, near)
        refusal = ""
        for name in names:
            if name.find(b"\n") >= 0:
                refusal = "The gateway's headers name the client more than once."
                break
            if len(name) > LONGEST_NAME:
                refusal = f"The gateway's headers name the client in more than {LONGEST_NAME} bytes."
        caller = self._named(names[0], b"".join(names[1:])) if names[0] and not refusal else None
        via = Via(self, apart, caller or self._by_address(nearest), lines, names, public, near)
        via.refusal = refusal
        return via

    def _peer(self, peer: str) -> _Peer:
        """What an address says by itself."""
        known = self._peers.get(peer)
        if known is None:
            make_room(self._peers, _REMEMBERED)
            address = address_of(peer)
            trusted = self._is_trusted(address)
            believed = trusted or not self.networks
            known = self._peers[peer] = _Peer(peer, address, trusted=trusted, believed=believed)
        return known

    def _forwarded(self, near: _Peer, apart: tuple[bytes, ...]) -> tuple[str, bytes, bytes]:
        """What forwarding headers say: the nearest address, the lines of the way here, what is public."""
        came = [hop for hop in _hops(apart[0]) if hop]
        nearest = near.nearest
        hops = [hop.decode("latin-1") for hop in came] if not self.networks else []
        if near.trusted:
            nearest, hops = self._chain(came, nearest)
        lines = _way([*hops, near.told])
        if not near.believed:
            return nearest, lines, b""
        for index in range(1, len(_FORWARDED)):
            if apart[index]:
                lines += b"%b: %b\r\n" % (self._spelled[index], apart[index].replace(b"\n", b", "))
        return nearest, lines, _public(apart[1])

    def _by_address(self, address: str) -> Caller:
        if not self._anonymous:
            key = f"an API key as {self._key_words}, or " if self._judges_keys else ""
            return Caller(None, words=f"A credential is required: {key}Authorization: Bearer.")
        caller = self._addresses.get(address)
        if caller is None:
            make_room(self._addresses, _REMEMBERED)
            caller = self._addresses[address] = Caller(Client(f"addr:{network(address)}"))
        return caller

    def _named(self, name: bytes, tier: bytes) -> Caller:
        caller = self._gateway.get((name, tier))
        if caller is None:
            make_room(self._gateway, _REMEMBERED)
            plan = tier.decode("latin-1") if tier else None
            client = Client(f"header:{name.decode('latin-1')}", plan, anonymous=False)
            caller = self._gateway[name, tier] = Caller(client)
        return caller

    def _chain(self, hops: list[bytes], peer: str) -> tuple[str, list[str]]:
        """Return the nearest address that is no gateway of ours, and the way from there to here.

        What stands before it anybody may write, so it goes no further.
        """
        nearest, way = peer, []
        for hop in reversed(hops[-_MAX_HOPS:]):
            address = address_of(hop.decode("latin-1"))
            if address is None:
                break
            nearest = str(address)
            way.append(nearest)
            if not self._is_trusted(address):
                break
        return nearest, way[::-1]

    def _is_trusted(self, address: Ip | None) -> bool:
        return address is not None and any(address in network for network in self.networks)

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


def address_of(hop: str) -> Ip | None:
    """The address that one hop is, however it is written; None: it is none.

    `192.0.2.1`, `192.0.2.1:40001`, `2001:db8::1`, `[2001:db8::1]:40001`, in quotes or not, with a
    zone or not; an IPv4 address mapped into IPv6 is the IPv4 address (RFC 7239, section 6).
    """
    text = hop.strip(" \t").strip('"')
    port = ""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        port = f":{port}"
    if len(text) > _LONGEST or (port and not (port[0] == ":" and port[1:].isdecimal() and port.isascii())):
        return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


_LONGEST: Final = 64
"""The longest an address is written, its zone included."""


def network(address: str) -> str:
    """The address that stands for one client: IPv4 whole, IPv6 by its /64."""
    ip = address_of(address)
    if ip is None:
        return address or "unknown"
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ip.version == 6 else str(ip)


_PAIR: Final = re.compile(rb'[ \t]*([A-Za-z0-9-]+)=(?:[^\s"\\]*|"[^"\\]*")[ \t]*')


def _public(forwarded: bytes) -> bytes:
    """A Forwarded header without its addresses (RFC 7239); one that readers may read differently, whole."""
    pairs = [_PAIR.fullmatch(pair) for pair in re.split(rb"[;,\n]", forwarded)] if forwarded else []
    if any(pair is None for pair in pairs):
        return forwarded
    return b";".join(p[0].strip() for p in pairs if p is not None and p[1].lower() not in (b"for", b"by"))


def _way(hops: list[str]) -> bytes:
    return b"X-Forwarded-For: %b\r\n" % ", ".join(hops).encode("latin-1")


def _hops(value: bytes) -> list[bytes]:
    return [hop.strip(b" \t") for hop in value.replace(b"\n", b",").split(b",")]
