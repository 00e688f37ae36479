"""What a request head says of a call before its body is read: where to, from where, by whom. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import urlsplit

from mcpace_sidecar.cache.policy import Private, digest, variant
from mcpace_sidecar.call import cors, protected_resource, refusals
from mcpace_sidecar.call.protected_resource import Resource
from mcpace_sidecar.call.refusals import OK_JSON, Refusal
from mcpace_sidecar.call.settings import PLACES, Settings
from mcpace_sidecar.http import compression
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.identity import origins
from mcpace_sidecar.identity.callers import AUTHORIZATION, bearer_of
from mcpace_sidecar.identity.client import Caller, Client
from mcpace_sidecar.mcp.methods import MODERN

_MIRRORS: Final = re.compile(
    rb"^(?:(mcp-name)|mcp-param-[^:\r\n]*):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)
_JSON_TYPE: Final = re.compile(
    rb'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?[ \t]*;?', re.IGNORECASE
)
_ONCE: Final = (AUTHORIZATION, b"content-type", b"mcp-protocol-version", b"mcp-session-id", b"origin")
_FORWARDED: Final = b"x-forwarded-"
_PERSONS: Final = frozenset(
    _FORWARDED + what
    for what in (
        b"user",
        b"email",
        b"groups",
        b"preferred-username",
        b"access-token",
        b"id-token",
        b"client-cert",
    )
)
"""Headers in which a gateway names a person; all others like them are of the address that is public."""
_BATCHED: Final = (b"", b"2025-03-26")
_METHODS: Final = frozenset({b"POST", b"GET", b"DELETE", b"OPTIONS"})


class Context:
    """What one request head says under one configuration: kept with the head, so worked out once."""

    __slots__ = (
        "_credential",
        "_loopback",
        "_persons",
        "_private",
        "_session",
        "_target",
        "_unmirrored",
        "_upstream",
        "_varies",
        "believed",
        "caller",
        "coding",
        "grant",
        "health",
        "may_batch",
        "mirrors",
        "modern",
        "onward",
        "own",
        "paired",
        "public",
        "refusal",
        "route",
        "session",
        "settings",
        "token",
        "trace",
        "variant",
        "version",
    )

    def __init__(
        self, settings: Settings, upstream: Address, head: RequestHead, *, loopback: bool, believed: bool,
        paired: bool = False,
    ) -> None:  # fmt: skip
        """`believed`: what it says of the way here may pass; `paired`: its target is an open stream's."""
        self.settings = settings
        self.believed, self.paired = believed, paired
        self._upstream, self._loopback = upstream, loopback
        self.route: str = "pair" if paired else _route(settings, head)
        self.health: bool = head.path == settings.health_path
        """Whether a balancer asks how we are."""
        self.refusal: Refusal | None = _refusal(settings, head, self.route, loopback=loopback)
        """Of what is refused by its head alone."""
        self.grant: cors.Grant | None = cors.granted(settings.guard.origins, head)
        """What answers bear for a page of another origin."""
        self.own: tuple[bytes, bytes] | None = self._own(head)
        """The sidecar's own answer, whoever asks: head and body."""
        self.version: bytes = head.get(b"mcp-protocol-version") or b""
        self.modern: bool = self.version >= MODERN
        self.may_batch: bool = self.version in _BATCHED and self.route != "pair"
        on_stream = self.route == "pair"
        self._session: bytes = head.target if on_stream else head.get(b"mcp-session-id") or b""
        # The server may answer by it even where the era that is claimed has no sessions.
        self.session: bytes = b"" if self.modern and not on_stream else self._session
        self.mirrors = True
        """Whether the headers mirror the body that this is of."""
        self.trace: bytes = (head.get(b"traceparent") or b"")[:64]
        self.coding: bytes = compression.choose(head.get(b"accept-encoding"))
        identities = settings.identities
        authorization = head.get(AUTHORIZATION)
        api_key = head.get(identities.key_header)
        self.caller: Caller | None = identities.by_credential(api_key, authorization)
        """Who is calling, where the head alone tells."""
        self.token: bytes = b""
        """A token of our issuer, still to be judged."""
        bearer = bearer_of(authorization)
        if self.caller is None and bearer and identities.is_token(bearer):
            self.token = bearer
        hidden = self._hidden(api_key, authorization)
        host = head.get(b"host") if settings.preserves_host else None
        told = _told(settings, head, believed=believed)
        self.onward: bytes = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (
            head.method,
            head.target,
            host or str(upstream).encode(),
            b"".join(
                line
                for name, line in head.onward
                if name not in hidden and (believed or not name.startswith(_FORWARDED))
            )
            + told,
        )
        # A token that is verified here and goes no further is told by its subject: tokens are renewed.
        verified = self.token and not settings.forward_credential
        names = {identities.key_header, b"x-api-key", b"cookie", *(() if verified else (AUTHORIZATION,))}
        self._credential = _values(head, tuple(sorted(names)))
        self._varies = _values(head, settings.vary_on)
        passed = _passed(head, hidden) if believed else ()
        self._persons = _values(head, tuple(name for name in passed if name in _PERSONS))
        self._target = head.target
        places = tuple(name for name in passed if name not in _PERSONS) + tuple(sorted(PLACES))
        self.public: bytes = digest((told, host or b"", *_values(head, places)))
        """What the server is told of its public address, beside what the way here says."""
        self.variant: bytes = variant(self.version, head.target, self.public, b"")
        self._unmirrored: Context | None = None
        self._private: tuple[Client, tuple[bytes, ...], Private | None] | None = None

    def _hidden(self, api_key: bytes | None, authorization: bytes | None) -> AbstractSet[bytes]:
        """The headers that go no further as they came."""
        identities = self.settings.identities
        hidden = set(identities.apart)
        if not self.settings.forward_credential:
            hidden |= identities.ours(api_key, authorization)
        if self.route in ("mcp", "pair"):
            hidden.add(b"accept-encoding")  # answers are read here, and compressed here
        return hidden

    def _own(self, head: RequestHead) -> tuple[bytes, bytes] | None:
        asked = cors.preflight(head) if self.grant is not None else None
        if asked is not None:
            return asked, b""
        if head.method == b"GET" and head.path.startswith(protected_resource.WELL_KNOWN.encode()):
            protected = self.resource(head)
            if protected is not None and head.path in protected.paths:
                return OK_JSON, protected.document
        return None

    def resource(self, head: RequestHead) -> Resource | None:
        """What tokens for this server are for, where they are verified here. `head`: what this is of."""
        return protected_resource.of(
            self.settings,
            head,
            trusted=self.believed and bool(self.settings.identities.networks),
            loopback=self._loopback,
        )

    def uncompressed(self, head: RequestHead) -> Context:
        """The same, of a message whose answer goes into another's. `head`: what they are of."""
        context = Context(
            self.settings, self._upstream, head, loopback=self._loopback, believed=self.believed,
            paired=self.paired,
        )  # fmt: skip
        context.coding = b""
        return context

    def unmirrored(self, head: RequestHead) -> Context:
        """The same, of calls of other tools (its headers mirror the body since 2026-07-28); made once."""
        if self._unmirrored is None:
            context = self._unmirrored = self.uncompressed(head)
            context.mirrors = False
            context.onward = _MIRRORS.sub(b"", self.onward)
        return self._unmirrored

    def mirrored(self, name: bytes, params: bytes) -> bytes:
        """The lines that mirror the call of another tool, beside `unmirrored`.

        `name` is the value of `Mcp-Name`, `params` the lines of the arguments that are mirrored.
        """
        named = next((found[1] for found in _MIRRORS.finditer(self.onward) if found[1]), b"")
        return (b"%b: %b\r\n" % (named, name) if named else b"") + (params if self.modern else b"")

    def private(self, client: Client, named: tuple[bytes, ...]) -> Private | None:
        """What tells this user's results from all others'; None: nothing does.

        `named`: whom the header lines of the way here name to the server, beside what tells us.
        """
        known = self._private
        if known is None or known[0] is not client or known[1] != named:
            nobody = client.anonymous and not self._credential and not self._varies
            person = (*self._varies, b"", *self._persons, b"", *named)
            # The targets of a pair are sessions themselves.
            target = b"" if self.route == "pair" else self._target
            mark = None if nobody else Private(client, self._credential, person, target, self._session)
            known = self._private = (client, named, mark)
        return known[2]


def without_mirrors(lines: bytes) -> bytes:
    """These header lines, without those that mirror the arguments of a call."""
    return _MIRRORS.sub(b"", lines) if lines else lines


def _misread(settings: Settings, head: RequestHead) -> Refusal | None:
    """A header that decides and stands there twice: of two readers each may take another."""
    once = {name for name in (*_ONCE, settings.identities.key_header) if len(head.values(name)) > 1}
    if once:
        return Refusal(refusals.HEADER, f"The header {min(once).decode()} stands there more than once.")
    return None


def _unreadable(head: RequestHead) -> Refusal | None:
    """A body that the server could read otherwise than it is read here (RFC 9110, section 8)."""
    if any(coding.lower() not in (b"", b"identity") for coding in head.values(b"content-encoding")):
        words = "Send the body as it is: a Content-Encoding is not accepted."
        return Refusal(refusals.CODING, words)
    if _JSON_TYPE.fullmatch(head.get(b"content-type") or b"") is None:
        words = "Send Content-Type: application/json, in UTF-8 and without another charset."
        return Refusal(refusals.TYPE, words)
    return None


def _told(settings: Settings, head: RequestHead, *, believed: bool) -> bytes:
    """What the server is told of the scheme and host that the client knows, where nobody has told it."""
    public = urlsplit(settings.config.public_url or "")
    host, scheme = public.netloc.encode() or head.get(b"host"), public.scheme.encode() or b"http"
    lines = b""
    if host and not (believed and head.get(b"x-forwarded-host") is not None):
        lines += b"X-Forwarded-Host: %b\r\n" % host
    if not (believed and head.get(b"x-forwarded-proto") is not None):
        lines += b"X-Forwarded-Proto: %b\r\n" % scheme
    return lines


def _passed(head: RequestHead, hidden: AbstractSet[bytes]) -> tuple[bytes, ...]:
    """The forwarding headers that are passed on as they came, without those of the way here."""
    passed = {name for name, _ in head.onward if name.startswith(_FORWARDED)}
    return tuple(sorted(passed - hidden))


def _values(head: RequestHead, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(b"%b:%b" % (name, b"\0".join(values)) for name in names if (values := head.values(name)))


def _route(settings: Settings, head: RequestHead) -> str:
    """`mcp` and `pair` are judged; `open` is forwarded unjudged; `passed` needs only an identity."""
    if head.path == settings.path:
        return "open" if head.method == b"OPTIONS" else "mcp"
    if head.path == settings.health_path:
        return "open"
    if head.path.startswith(b"/.well-known/") and b".." not in head.path and b"%" not in head.path:
        return "open"
    if head.path in settings.pass_paths:
        return "passed"
    return "pair" if settings.pair and head.method == b"POST" else "unknown"


def _refusal(settings: Settings, head: RequestHead, route: str, *, loopback: bool) -> Refusal | None:
    if route == "unknown":
        words = f"The MCP endpoint is {settings.config.endpoint}; other paths must be in passPaths."
        return Refusal(refusals.PATH, f"Not found. {words}")
    if head.method not in _METHODS and route == "mcp":
        return Refusal(refusals.METHOD, "The MCP endpoint takes POST, GET, DELETE and OPTIONS.")
    if route == "open" and head.path == settings.health_path:
        asks = head.method in (b"GET", b"HEAD")
        return None if asks else Refusal(refusals.METHOD, "The health path takes GET and HEAD.")
    if head.method in (b"HEAD", b"TRACE"):
        return Refusal(refusals.METHOD, f"{head.method.decode()} is not passed on.")
    if not settings.guard.admits(head, loopback=loopback):
        return Refusal(refusals.ORIGIN, origins.WORDS)
    if route == "open":
        return None
    posted = head.method == b"POST" and route != "passed"
    return _misread(settings, head) or (_unreadable(head) if posted else None)
