"""Session ids that carry what it takes to go on: the owner, the server's own id, the client's `initialize`.

An id is base64url of `01 | number of the key | nonce, 12 bytes | AES-256-GCM of the rest`, bound to the
server's namespace and name: visible ASCII, as MCP 2025-11-25 asks (basic/transports, session management).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import ipaddress
import os
import re
import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from mcpace_sidecar.sessions.key import KEY_BYTES, derive

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LONGEST: Final = 1024
"""Characters of an id beyond which it does not carry the `initialize`: gateways bound headers."""
BINDING: Final = 8
"""Bytes that tell one credential from others."""
UNBOUND: Final = b"\0" * BINDING
"""The binding of a session that was begun without a credential."""
_KNOWN: Final = 0x80
"""In the first byte of a binding: it is of a client that is known here."""
_READABLE: Final = 8192
"""Characters of an id that is looked at."""
_FORM: Final = 1
_NONCE: Final = 12
_TAG: Final = 16
_HEAD: Final = struct.Struct(">IB16sHI8sB")
"""Issued, family of the owner's address, the address, its port, its boot, binding, version."""
_VERSIONS: Final = (b"", b"2024-11-05", b"2025-03-26", b"2025-06-18", b"2025-11-25")
_EVENTS: Final = b" events"
"""What else a name of a replica's is bound to, so that it is no session's id."""
_ENDPOINTS: Final = b" endpoint"
"""The same of an endpoint of 2024-11-05."""
_RAW, _HEX, _UUID = range(3)
_SPREADING: Final = 600.0
"""Seconds for which ids are sealed by the key before, where there is one: until all replicas know both."""
_MOST_PARAMS: Final = 8 * 1024
"""Bytes of `initialize` params beyond which an id does not carry them: anybody has them squeezed."""
_DICTIONARY: Final = (
    b'"icons":[{"src":"https://","mimeType":"image/png","sizes":["48x48"]}],"websiteUrl":"https://",'
    b'"description":"","experimental":{},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":'
    b'["text/html;profile=mcp-app"]}},"tasks":{"list":{},"cancel":{},"requests":{"sampling":'
    b'{"createMessage":{}},"elicitation":{"create":{}}}},"sampling":{"context":{},"tools":{}},"elicitation":'
    b'{"form":{},"url":{}},"elicitation":{"form":{"applyDefaults":true}},"elicitation":{},"sampling":{},'
    b'"roots":{"listChanged":true},"roots":{"listChanged":false},"title":"","_meta":{},'
    b'"clientInfo":{"name":"mcp","version":"0.1.0"},"protocolVersion":"2025-03-26","capabilities":{},'
    b'{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"","version":"1.0.0"}}'
    b'{"protocolVersion":"2025-11-25","capabilities":{"sampling":{},"elicitation":{},"roots":'
    b'{"listChanged":true}},"clientInfo":{"name":"","version":"1.0.0"}}'
)
"""What `initialize` params are made of. Never changed: ids that are in use were written with it."""


class Owner(NamedTuple):
    """The sidecar that holds a session: where its relay port is, and a random number of its start."""

    host: str
    port: int
    boot: int

    @property
    def place(self) -> str:
        """Where peers reach it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host} {self.port} {self.boot}"

    @classmethod
    def read(cls, text: str) -> Owner:
        """What `str` wrote; ValueError."""
        host, port, boot = text.split(" ")
        return cls(host, int(port), int(boot))


class Sealed(NamedTuple):
    """What an id carries."""

    issued: int
    """Seconds since the epoch."""
    owner: Owner
    binding: bytes
    """Of the credential that it was begun with."""
    version: bytes
    """The protocol version that was negotiated; empty where nobody has read it."""
    inner: bytes
    """The server's own id of the session."""
    initialize: bytes
    """The params of the client's `initialize`, as JSON; empty where they did not fit."""


class Sealer:
    """Seals and opens the ids of one server."""

    def __init__(self, name: str, secrets: Sequence[bytes] = ()) -> None:
        """`name`: the server's namespace and name. `secrets`: the present one, and the one before; none:
        one is drawn, which ends with this process.
        """  # noqa: D205 - because it reads on
        self._bound = f"mcpace session 1 {name}".encode()
        self._secrets = tuple(secrets) or (os.urandom(KEY_BYTES),)
        self._spread_at = monotonic() + _SPREADING

    @cached_property
    def _ciphers(self) -> tuple[tuple[int, AESGCM], ...]:
        """Each with its number, which one key in 256 shares with another; the present one first."""
        # Imported here because cryptography is held in memory only where a server has sessions.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - because of that

        keys = [derive(secret, b"session id 1") for secret in self._secrets]
        return tuple((hashlib.sha256(key).digest()[0], AESGCM(key)) for key in keys)

    def binding(self, credential: Sequence[bytes], *, known: bool = False) -> bytes:
        """What tells this credential from others, under whatever secret; UNBOUND where there is none.

        `known`: whether the client is.
        """
        if not credential:
            return UNBOUND
        said = hashlib.sha256(self._bound)
        for part in credential:
            said.update(b"%d:%b" % (len(part), part))
        first, *rest = said.digest()[:BINDING]
        return bytes((first | _KNOWN if known else first & ~_KNOWN, *rest))

    def name_of(self, owner: Owner) -> bytes:
        """What a replica is called in ids of events: only replicas learn who it is."""
        return self._hide(str(owner).encode(), _EVENTS)

    def named(self, name: bytes) -> Owner | None:
        """The replica of this name; None: no replica was given it."""
        plain = self._find(name, _EVENTS)
        return Owner.read(plain.decode()) if plain is not None else None

    def endpoint(self, owner: Owner, binding: bytes) -> bytes:
        """What a replica adds to the endpoint of a stream of 2024-11-05; each time another.

        `binding`: of who has opened the stream.
        """
        return self._hide(binding + str(owner).encode(), _ENDPOINTS)

    def holder(self, name: bytes) -> tuple[Owner, bytes] | None:
        """The replica that has added this, and the binding of who opened the stream; None: none has."""
        plain = self._find(name, _ENDPOINTS)
        return (Owner.read(plain[BINDING:].decode()), plain[:BINDING]) if plain is not None else None

    def _hide(self, plain: bytes, what: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        _, cipher = self._ciphers[0 if monotonic() > self._spread_at else -1]
        return _encode(nonce + cipher.encrypt(nonce, plain, self._bound + what))

    def _find(self, hidden: bytes, what: bytes) -> bytes | None:
        # Imported here because cryptography is held in memory only where a server has sessions.
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - because of that

        for _, cipher in self._ciphers:
            with contextlib.suppress(InvalidTag, ValueError):
                raw = base64.b64decode(hidden + b"=" * (-len(hidden) % 4), b"-_", validate=True)
                return cipher.decrypt(raw[:_NONCE], raw[_NONCE:], self._bound + what)
        return None

    def seal(self, sealed: Sealed) -> bytes:
        """An id."""
        number, cipher = self._ciphers[0 if monotonic() > self._spread_at else -1]
        nonce = os.urandom(_NONCE)
        begin = bytes((_FORM, number)) + nonce
        plain = _packed(sealed)
        params = sealed.initialize if len(sealed.initialize) <= _MOST_PARAMS else b""
        text = _encode(begin + cipher.encrypt(nonce, plain + _deflated(params), self._bound))
        if len(text) > LONGEST:
            text = _encode(begin + cipher.encrypt(nonce, plain, self._bound))
        return text

    def open(self, text: bytes) -> tuple[bytes, Sealed] | None:
        """The key of a session and what its id carries; None: it is none of ours."""
        if not _HEAD.size < len(text) <= _READABLE or len(text) % 4 == 1:
            return None
        try:
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        nonce, rest = raw[2 : 2 + _NONCE], raw[2 + _NONCE :]
        if raw[0] != _FORM or len(rest) < _TAG + _HEAD.size or _encode(raw) != text:
            return None
        # Imported here because cryptography is held in memory only where a server has sessions.
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - because of that

        for number, cipher in self._ciphers:
            if number != raw[1]:
                continue
            try:
                return nonce.hex().encode(), _unpacked(cipher.decrypt(nonce, rest, self._bound))
            except InvalidTag:
                continue
            except (zlib.error, ValueError, IndexError, struct.error):
                return None
        return None


def is_known(binding: bytes) -> bool:
    """Whether it is of a client that is known here."""
    return binding[0] >= _KNOWN


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _packed(sealed: Sealed) -> bytes:
    address = ipaddress.ip_address(sealed.owner.host)
    version = _VERSIONS.index(sealed.version) if sealed.version in _VERSIONS else 0
    head = _HEAD.pack(
        sealed.issued, address.version, address.packed.ljust(16, b"\0"), sealed.owner.port,
        sealed.owner.boot, sealed.binding, version,
    )  # fmt: skip
    inner = sealed.inner
    if re.fullmatch(rb"[0-9a-f]{32}", inner):
        return head + bytes((_HEX,)) + bytes.fromhex(inner.decode())
    if re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", inner):
        return head + bytes((_UUID,)) + bytes.fromhex(inner.replace(b"-", b"").decode())
    return head + bytes((_RAW,)) + struct.pack(">H", len(inner)) + inner


def _unpacked(plain: bytes) -> Sealed:
    issued, family, packed, port, boot, binding, version = _HEAD.unpack_from(plain)
    address = ipaddress.ip_address(packed[: 4 if family == 4 else 16])
    kind, rest = plain[_HEAD.size], plain[_HEAD.size + 1 :]
    if kind == _RAW:
        end = 2 + struct.unpack_from(">H", rest)[0]
        inner = rest[2:end]
    else:
        end = 16
        text = rest[:end].hex()
        inner = text.encode()
        if kind == _UUID:
            inner = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()
    binding = UNBOUND if binding == UNBOUND else binding  # so that all that have none hold one
    return Sealed(
        issued, Owner(str(address), port, boot), binding, _VERSIONS[version], inner, _inflated(rest[end:])
    )


def _deflated(params: bytes) -> bytes:
    squeezing = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_DICTIONARY)
    return squeezing.compress(params) + squeezing.flush() if params else b""


def _inflated(deflated: bytes) -> bytes:
    if not deflated:
        return b""
    return zlib.decompressobj(-15, zdict=_DICTIONARY).decompress(deflated, _MOST_PARAMS)
