"""What a call's result is kept under, or that it is not kept at all. Pure.

Caching is opt-in per tool. The key holds everything that an answer may depend on:
protocol version, method, canonical params without volatile `_meta`, and, unless the
tool's results are declared shared, the client, its credentials and its session.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mcpace_sidecar.config import Cache
from mcpace_sidecar.messages import Message, refuse_duplicates
from mcpace_sidecar.quantity import seconds

VOLATILE: Final = frozenset(
    {"progressToken", "traceparent", "tracestate", "baggage", "io.modelcontextprotocol/clientInfo"}
)
"""The `_meta` keys that no answer may depend on."""

_REMEMBERED: Final = 4096
_LONG: Final = 2048

_CONVERSATION: Final = ("inputResponses", "requestState")


@dataclass(frozen=True, slots=True)
class Rule:
    """How one tool's results are kept."""

    ttl: float
    shared: bool


class CachePolicy:
    """The cached tools of one configuration."""

    def __init__(self, cache: Cache) -> None:
        self.vary_on = tuple(name.lower().encode("latin-1") for name in cache.vary_on)
        self._rules = {tool.name: Rule(seconds(tool.ttl), tool.scope == "shared") for tool in cache.tools}
        self._keys: dict[tuple[bytes, bytes, tuple[bytes, ...]], bytes] = {}

    def key(self, version: bytes, message: Message, private: tuple[bytes, ...]) -> bytes | None:
        """`key`, remembered: most calls of a cached tool are repeated to the letter."""
        spelled = (version, bytes(message.params), private)
        known = self._keys.get(spelled)
        if known is None:
            known = key(version, message, private)
            if known is not None and len(spelled[1]) <= _LONG:
                if len(self._keys) >= _REMEMBERED:
                    self._keys.clear()
                self._keys[spelled] = known
        return known

    def rule(self, message: Message) -> Rule | None:
        """The rule of a call, or None: it is not kept."""
        if message.method != "tools/call" or message.target is None:
            return None
        return self._rules.get(message.target)


# Numbers keep their spelling: two that differ only beyond a double's precision are two keys.
_decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: msgspec.Raw(text.encode()))
_encode: Final = msgspec.json.Encoder(order="sorted")


def canonical(params: bytes) -> bytes | None:
    """The params in one spelling, without what is volatile; None: such a call is never kept.

    MessageError if a name stands twice in an object.
    """
    decoded = _decode.decode(params)
    spelled = _encode.encode(decoded)
    if len(spelled) != len(params):  # spaces, escapes, or a repeated name
        refuse_duplicates(params)
    if any(key in decoded for key in _CONVERSATION):
        return None
    meta = decoded.get("_meta")
    if not isinstance(meta, dict):
        return spelled
    lasting = {key: value for key, value in meta.items() if key not in VOLATILE}
    if lasting:
        decoded["_meta"] = lasting
    else:
        del decoded["_meta"]
    return _encode.encode(decoded)


def key(version: bytes, message: Message, private: tuple[bytes, ...]) -> bytes | None:
    """The 16-byte key of a call's result. `private` tells clients apart; empty if shared."""
    params = canonical(bytes(message.params))
    if params is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in (version, (message.method or "").encode(), params, *private):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
