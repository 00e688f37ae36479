"""What a call's result is kept under, for how long, or that it is not kept at all. Pure.

Caching tools is opt-in, tool by tool; what the modern era calls cacheable says so itself, by
`ttlMs` and `cacheScope`. The key holds everything that an answer may depend on: protocol
version, the request's target with its query, method, canonical params without volatile `_meta` (of a
tool's arguments those that its `key` names, where it has one), and, unless the result may be shared,
the client, its credentials and its session.
Source: MCP 2026-07-28, server/utilities/caching.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from unicodedata import normalize

import msgspec

from mcpace_sidecar.bounded import make_room
from mcpace_sidecar.cache.entry import ALL, Place, client_tag, credential_tag
from mcpace_sidecar.contract.config.cache import Cache, CachedTool, Lists, ResultKey
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.mcp.jsonrpc import CacheHints
from mcpace_sidecar.mcp.methods import LISTS, TOOLS_CALL
from mcpace_sidecar.mcp.request import Message
from mcpace_sidecar.mcp.strictness import refuse_duplicates

VOLATILE: Final = frozenset(
    {"progressToken", "traceparent", "tracestate", "baggage", "io.modelcontextprotocol/clientInfo"}
)
"""The `_meta` keys that no answer may depend on."""

LONGEST: Final = 86_400.0
"""Seconds that a server's own `ttlMs` may ask for at most."""

LONGEST_PARAMS: Final = 256 * 1024
"""Bytes of params beyond which a call is not kept: decoding and comparing them would take long."""

LONGEST_FOLDED: Final = 256
"""Characters beyond which `ignoreCase` leaves a text as it is: n accents are ordered in n * n steps."""

_REMEMBERED: Final = 4096
_LONG: Final = 2048
_CONVERSATION: Final = ("inputResponses", "requestState")


class KeyRule:
    """Which arguments of a tool tell its results apart, where not all of them do."""

    __slots__ = ("_alike", "_folds", "_longest", "_names", "stamp")

    def __init__(self, key: ResultKey) -> None:
        self._names = frozenset(key.arguments)
        self._folds = key.ignore_case
        self._alike = frozenset(map(_fold, self._names))
        self._longest = max(map(len, self._alike))
        self.stamp = _encode.encode([sorted(self._names), self._folds])
        """What no other rule has: calls under two rules, as in a rollout, have no key in common."""

    def chosen(self, arguments: object) -> dict[str, Any] | None:
        """Of these arguments those that count; None: such a call is never kept.

        None for what is no object, for a name that is one of ours but for the case of its letters, which
        some readers take for it, and where there are arguments and none is ours: a name that is misspelled
        in the manifest must not make all calls one.
        """
        if not isinstance(arguments, dict):
            return None
        chosen: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in self._names:
                chosen[name] = _folded(value) if self._folds else value
            elif len(name) <= self._longest and _fold(name) in self._alike:  # folding shortens nothing
                return None
        return chosen if chosen or not arguments else None


def _folded(value: Any) -> Any:
    if isinstance(value, str) and len(value) <= LONGEST_FOLDED:
        return _fold(value.strip())
    return value


def _fold(text: str) -> str:
    """One form of all texts that differ in case and composition alone. Source: Unicode, D145."""
    if text.isascii():
        return text.lower()
    return normalize("NFD", normalize("NFD", text).casefold())


class CacheRule:
    """How one tool's results, or one kind of list, are kept. Times in seconds."""

    __slots__ = ("hinted", "if_error", "key", "shared", "stale", "ttl", "while_revalidate")

    def __init__(
        self, ttl: float, shared: bool, while_revalidate: float = 0.0, if_error: float = 0.0,
        hinted: bool = False, key: KeyRule | None = None,
    ) -> None:  # fmt: skip
        self.ttl = ttl
        """Of a hinted result: what holds where the server says nothing. 0: it is not kept."""
        self.shared = shared
        self.while_revalidate = while_revalidate
        self.if_error = if_error
        self.stale = max(while_revalidate, if_error)
        self.hinted = hinted
        """Whether the result itself may say how long, and for whom."""
        self.key = key
        """Of a tool: which arguments count. None: all of them, as they are spelled."""


def of_tool(tool: CachedTool) -> CacheRule | None:
    """The rule of a configured tool."""
    if tool.ttl is None:
        return None
    return CacheRule(
        seconds(tool.ttl),
        tool.scope == "shared",
        seconds(tool.stale_while_revalidate) if tool.stale_while_revalidate else 0.0,
        seconds(tool.stale_if_error) if tool.stale_if_error else 0.0,
        key=KeyRule(tool.key) if tool.key is not None else None,
    )


def of_list(method: str, lists: Lists | None) -> CacheRule:
    """The rule of a method that is hinted."""
    if lists is None or method not in LISTS:
        return CacheRule(0.0, shared=False, hinted=True)
    return CacheRule(seconds(lists.ttl), lists.scope == "shared", hinted=True)


_hints: Final = msgspec.json.Decoder(CacheHints)


def life(rule: CacheRule, result: bytes) -> tuple[float, bool]:
    """Return (seconds the result is fresh, whether it may be shared); 0 seconds: keep it not."""
    if not rule.hinted:
        return rule.ttl, rule.shared
    try:
        hints = _hints.decode(result)
    except (ValueError, RecursionError):
        return 0.0, False
    if hints.ttl_ms is None:
        return rule.ttl, rule.shared
    return min(max(0.0, hints.ttl_ms / 1000), LONGEST), hints.cache_scope == "public"


class Private:
    """What tells one user's results from all others'."""

    __slots__ = ("credential", "tags", "who")

    def __init__(
        self,
        client: Client,
        credential: tuple[bytes, ...],
        person: tuple[bytes, ...],
        target: bytes,
        session: bytes,
    ) -> None:
        """`person`: further headers, which tell users of one credential apart, as target and session do."""
        name, subject = client.name.encode(), client.subject.encode()
        credential = (b"%d" % len(credential), *credential)
        self.who = digest(
            (name, subject, (client.tier or "").encode(), *credential, session, target, *person)
        )
        # What the server refuses it refuses in every session, and from every address.
        verified = b"" if client.anonymous else name
        self.credential = credential_tag(digest((verified, subject, *credential, target, *person)))
        """The tag of what is kept for this credential, and for nobody else who shares a part of it."""
        self.tags = (client_tag(client.name), self.credential)


class Keys:
    """Finds the places of calls; remembers them, since most calls are repeated to the letter."""

    def __init__(self, cache: Cache | None) -> None:
        names = cache.vary_on if cache is not None else ()
        self.vary_on = tuple(name.lower().encode("latin-1") for name in names)
        self._places: dict[tuple[bytes, str, str | None, bytes, bytes], tuple[Place, ...]] = {}

    def places(
        self, rule: CacheRule, variant: bytes, message: Message, private: Private | None
    ) -> tuple[Place, ...]:
        """Where the result of a call may be kept, in the order to look; empty: nowhere.

        `variant`: see there. Without `private` only what may be shared is kept. MessageError if a
        name stands twice in an object.
        """
        assert message.method is not None
        if message.more:  # of which the spelling says nothing
            return ()
        spelling = message.spelling
        spelled = (variant, message.method, message.target, spelling, private.who if private else b"")
        known = self._places.get(spelled)
        if known is None:
            known = self._find(rule, variant, message, private)
            if len(spelling) <= _LONG:
                make_room(self._places, _REMEMBERED)
                self._places[spelled] = known
        return known

    def _find(
        self, rule: CacheRule, variant: bytes, message: Message, private: Private | None
    ) -> tuple[Place, ...]:
        written = message.params
        params = canonical(written, rule.key) if written else b"{}"
        if params is None:
            return ()
        method = message.method or ""
        topic = tool_tag(message.target or "") if method == TOOLS_CALL else list_tag(method)
        places = []
        if rule.shared or rule.hinted:
            places.append(Place(_key(variant, method, params, b""), (ALL, topic)))
        if private is not None and (rule.hinted or not rule.shared):
            tags = (ALL, topic, *private.tags)
            places.append(Place(_key(variant, method, params, private.who), tags))
        return tuple(places)


def tool_tag(tool: str) -> bytes:
    """The tag of everything that one tool answered."""
    return b"tool:" + tool.encode()


def list_tag(method: str) -> bytes:
    """The tag of one kind of list, or of another method's results."""
    return b"list:" + LISTS.get(method, method).encode()


# Numbers keep their spelling: two that differ only beyond a double's precision are two keys.
_decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: msgspec.Raw(text.encode()))
_encode: Final = msgspec.json.Encoder(order="sorted")
_MINUS_ZERO: Final = re.compile(rb"[:\[,]\s*+-0(?![0-9.eE])")


def canonical(params: bytes, key: KeyRule | None = None) -> bytes | None:
    """The params in one spelling, without what is volatile; None: such a call is never kept.

    None as well for what has no one spelling here: an integer of more than 4,300 digits, -0 (an integer
    to some readers), half of a surrogate pair; and for what `key` cannot choose from, which says what
    counts of a tool's arguments. MessageError if a name stands twice in an object.
    """
    if len(params) > LONGEST_PARAMS:
        return None
    try:
        decoded = _decode.decode(params)
        spelled = _encode.encode(decoded)
    except (ValueError, RecursionError):  # msgspec's errors and Python's own
        return None
    if len(spelled) != len(params):  # spaces, escapes, or a repeated name
        refuse_duplicates(params)
    if any(name in decoded for name in _CONVERSATION) or _MINUS_ZERO.search(params) is not None:
        return None
    meta = decoded.get("_meta")
    if isinstance(meta, Mapping):
        lasting = {name: value for name, value in meta.items() if name not in VOLATILE}
        if lasting:
            decoded["_meta"] = lasting
        else:
            del decoded["_meta"]
    elif key is None:
        return spelled
    if key is None:
        return _encode.encode(decoded)
    arguments = decoded["arguments"] = key.chosen(decoded.get("arguments", {}))
    return key.stamp + _encode.encode(decoded) if arguments is not None else None


def digest(parts: tuple[bytes, ...]) -> bytes:
    """16 bytes that stand for these parts and no others."""
    sum_ = hashlib.blake2b(digest_size=16)
    for part in parts:
        sum_.update(b"%d:" % len(part))
        sum_.update(part)
    return sum_.digest()


def variant(version: bytes, target: bytes, *public: bytes) -> bytes:
    """What tells apart all answers, shared ones too.

    Protocol version, the target with its query, and what the server is told of its public address: it may
    write that into its answers.
    """
    return digest((version, target, *public))


def _key(variant: bytes, method: str, params: bytes, who: bytes) -> bytes:
    return digest((variant, method.encode(), params, who))
