"""What a request head says of a call before its body is read: where to, from where, by whom. Pure."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final
from urllib.parse import urlsplit

from mcpace_sidecar.cache.policy import Private, digest, variant
from mcpace_sidecar.call import cors, endpoint, protected_resource, routing
from mcpace_sidecar.call.protected_resource import Resource
from mcpace_sidecar.call.refusals import OK_JSON, Refusal
from mcpace_sidecar.call.session_heads import SessionHeads
from mcpace_sidecar.call.settings import OURS, PLACES, Settings
from mcpace_sidecar.http import compression
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.identity.callers import AUTHORIZATION, bearer_of
from mcpace_sidecar.identity.client import Caller, Client
from mcpace_sidecar.mcp.methods import MODERN
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.sealing import UNBOUND
from mcpace_sidecar.sessions.session import Session
from mcpace_sidecar.sessions.table import Table

_MIRRORS: Final = re.compile(
    rb"^(?:(mcp-name)|mcp-param-[^:\r\n]*):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)
_OF_MESSAGE: Final = re.compile(
    rb"^(?:accept|accept-encoding|content-type|last-event-id|mcp(?:ace)?-[a-z0-9-]*):[^\r\n]*\r\n",
    re.IGNORECASE | re.MULTILINE,
)
"""The lines that belong to one message, and not to whoever sends it."""
_FORWARDED: Final = b"x-forwarded-"
_BOUND: Final = re.compile(rb"[0-9a-f]{16}")
_RELAYED: Final = Client("relayed")
"""Whose calls those are of which another sidecar does not say it."""
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


class Context:
    """What one request head says under one configuration: kept with the head, so worked out once."""

    __slots__ = (
        "_binding",
        "_credential",
        "_judged",
        "_loopback",
        "_ours",
        "_persons",
        "_private",
        "_sealed",
        "_session",
        "_sessions",
        "_target",
        "_unmirrored",
        "_upstream",
        "_varies",
        "believed",
        "caller",
        "coding",
        "grant",
        "heads",
        "health",
        "heard_as",
        "live",
        "may_batch",
        "mirrors",
        "modern",
        "onward",
        "own",
        "paired",
        "public",
        "refusal",
        "relayed",
        "route",
        "session",
        "settings",
        "token",
        "trace",
        "unknown",
        "variant",
        "version",
    )

    def __init__(  # noqa: PLR0915 - because each line is a fact of the head
        self, settings: Settings, upstream: Address, head: RequestHead, *, loopback: bool, believed: bool,
        paired: bool = False, sessions: Table | None = None, relayed: bool = False,
    ) -> None:  # fmt: skip
        """`believed`: what it says of the way here may pass; `paired`: its target is an open stream's.

        `sessions`: those whose ids are ours; None: the server's own ids pass. `relayed`: another sidecar
        passes it on, which has judged whose it is.
        """
        self._judged = relayed
        self.relayed: bool = relayed and not paired
        """Whether that one has judged, counted and looked up all of it: not what is posted to a stream."""
        self.settings = settings
        self.believed, self.paired = believed, paired
        self._upstream, self._loopback = upstream, loopback
        self.route: str = "pair" if paired else routing.route(settings, head)
        self.health: bool = head.path == settings.health_path
        """Whether a balancer asks how we are."""
        self.refusal: Refusal | None = (
            None if relayed else routing.refusal(settings, head, self.route, loopback=loopback)
        )
        """Of what is refused by its head alone."""
        self.grant: cors.Grant | None = None if relayed else cors.granted(settings.guard.origins, head)
        """What answers bear for a page of another origin."""
        self.own: tuple[bytes, bytes] | None = self._own(head)
        """The sidecar's own answer, whoever asks: head and body."""
        self.version: bytes = head.get(b"mcp-protocol-version") or b""
        self.modern: bool = self.version >= MODERN
        self.may_batch: bool = self.version in _BATCHED and self.route != "pair"
        on_stream = self.route == "pair"
        self._sealed: bool = on_stream and endpoint.name_of(head.target) != b""
        """Whether its target is one stream's alone, which we have named."""
        self._session: bytes = head.target if on_stream else head.get(b"mcp-session-id") or b""
        # The server may answer by it even where the era that is claimed has no sessions.
        self.session: bytes = b"" if self.modern and not on_stream else self._session
        self._sessions = sessions
        self.live: Session | None = None
        """The session that it is of, where ids are ours."""
        self.unknown = False
        """Whether it names a session that there is not."""
        if sessions is not None and self.session and self.route == "mcp":
            self.live = sessions.find(self.session)
            self.unknown = self.live is None and sessions.mints
        if self.live is not None:
            self.heads = SessionHeads()
        self.heard_as: bytes = self.live.key if self.live is not None else self.session
        """By which it is remembered whether the server knows the session."""
        self._binding: tuple[Client, bytes] | None = None
        self.mirrors = True
        """Whether the headers mirror the body that this is of."""
        self.trace: bytes = (head.get(b"traceparent") or b"")[:64]
        self._unmirrored: Context | None = None
        self._private: tuple[Client, tuple[bytes, ...], Private | None, int] | None = None
        if relayed:
            self._take_over(upstream, head)
            return
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
        self._ours = identities.ours(api_key, authorization)
        """The headers that hold a credential of ours."""
        hidden = self._hidden()
        host = head.get(b"host") if settings.preserves_host else None
        told = _told(settings, head, believed=believed)
        target = endpoint.of_server(head.target) if on_stream else head.target
        self.onward: bytes = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (
            head.method,
            target,
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

    def _take_over(self, upstream: Address, head: RequestHead) -> None:
        """Take what another sidecar has made of it: it goes on as it came."""
        client = peer.client_of(head.get(peer.CLIENT)) or _RELAYED
        self.coding, self.token, self.caller = b"", b"", Caller(client)
        lines = b"".join(line for name, line in head.onward if not name.startswith(OURS))
        host = head.get(b"host") or str(upstream).encode()
        target = endpoint.of_server(head.target) if self._sealed else head.target
        self.onward = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (head.method, target, host, lines)
        self._credential = self._varies = self._persons = ()
        self._target, self.public, self.variant = head.target, b"", b""
        if self._sealed:
            self.public = digest((host, *(text for name, text in head.onward if _is_public(name))))
        told = head.get(peer.BINDING) or b""
        binding = bytes.fromhex(told.decode()) if _BOUND.fullmatch(told) else UNBOUND
        self._binding = client, binding

    def _hidden(self) -> AbstractSet[bytes]:
        """The headers that go no further as they came."""
        identities = self.settings.identities
        hidden = set(identities.apart)
        if not self.settings.forward_credential:
            hidden |= self._ours
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

    @property
    def onward_now(self) -> bytes:
        """The head that goes to the server: in a session, with the id by which the server knows it now."""
        session = self.live
        return self.onward if session is None else self.heads.to_server(self.onward, session)

    def onward_to(self, session: Session, client: Client | None) -> bytes:
        """The head that goes to the sidecar that holds the session."""
        binding = self.binding(client) if client is not None else UNBOUND
        return self.heads.to_peer(self.onward, session, client, binding)

    def session_now(self) -> Session | None:
        """The session that it is of, looked up again where that was forgotten; None: it has ended."""
        session = self.live
        if session is not None and session.forgotten and self._sessions is not None:
            session = self.live = self._sessions.find(self.session)
            self.heads, self._private = SessionHeads(), None
        return None if session is None or session.ended else session

    @property
    def sender(self) -> bytes:
        """The header lines that say who sends it, and from where: of what is sent for its sake, too."""
        return _OF_MESSAGE.sub(b"", self.onward.partition(b"\r\n")[2])

    def binding(self, client: Client) -> bytes:
        """What tells the credential of its session from others, however often a token is renewed."""
        if self._binding is None or self._binding[0] is not client:
            known = not client.anonymous
            apart = {b"cookie", *(self._ours if known else ())}  # of which the client's name says all
            shown = tuple(each for each in self._credential if each.partition(b":")[0] not in apart)
            named = (client.name.encode(),) if known else ()
            credential = (client.subject.encode(),) if client.subject else (*named, *shown)
            sessions = self._sessions
            binding = sessions.binding(credential, known=known) if sessions is not None else UNBOUND
            self._binding = client, binding
        return self._binding[1]

    def uncompressed(self, head: RequestHead) -> Context:
        """The same, of a message whose answer goes into another's. `head`: what they are of."""
        context = Context(
            self.settings, self._upstream, head, loopback=self._loopback, believed=self.believed,
            paired=self.paired, sessions=self._sessions, relayed=self._judged,
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
        known, epoch = self._private, self.live.epoch if self.live is not None else 0
        if known is None or known[0] is not client or known[1] != named or known[3] != epoch:
            if self._sealed:  # whoever posts to it, and wherever: it is this stream's
                mark: Private | None = Private(client, (), (), self._session, self._session)
                self._private = client, named, mark, epoch
                return mark
            nobody = client.anonymous and not self._credential and not self._varies
            person = (*self._varies, b"", *self._persons, b"", *named)
            # The targets of a pair are sessions themselves.
            target = b"" if self.route == "pair" else self._target
            # What was kept before a session was begun again is that process's, which has ended.
            session = b"%b %d" % (self._session, epoch) if epoch else self._session
            mark = None if nobody else Private(client, self._credential, person, target, session)
            known = self._private = (client, named, mark, epoch)
        return known[2]


def without_mirrors(lines: bytes) -> bytes:
    """These header lines, without those that mirror the arguments of a call."""
    return _MIRRORS.sub(b"", lines) if lines else lines


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


def _is_public(name: bytes) -> bool:
    """Whether a header says of the address that is public, or of who is there, and not of the way here."""
    return name in PLACES or (name.startswith(_FORWARDED) and name != b"x-forwarded-for")


def _passed(head: RequestHead, hidden: AbstractSet[bytes]) -> tuple[bytes, ...]:
    """The forwarding headers that are passed on as they came, without those of the way here."""
    passed = {name for name, _ in head.onward if name.startswith(_FORWARDED)}
    return tuple(sorted(passed - hidden))


def _values(head: RequestHead, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(b"%b:%b" % (name, b"\0".join(values)) for name in names if (values := head.values(name)))
