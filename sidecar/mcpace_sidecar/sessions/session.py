"""One session, as far as a replica knows it, and what became of the attempt to begin it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.sessions import heir
from mcpace_sidecar.sessions.sealing import Owner, Sealed, is_known


class Listener(Protocol):
    """Who listens to what the server says on its own in a session."""

    def moved(self) -> None:
        """The session goes on in another process of the server."""


class Session:
    """One session, as far as it is known here."""

    __slots__ = (
        "binding", "client", "ended", "epoch", "forgotten", "here", "holder", "id", "initialize", "inner",
        "issued", "key", "level", "listener", "news", "owner", "rebound", "recorded", "renewed", "reviving",
        "spoken", "stays", "subscriptions", "used", "version",
    )  # fmt: skip

    def __init__(self, session_id: bytes, key: bytes, sealed: Sealed) -> None:
        self.id = session_id
        """As the client knows it."""
        self.key = key
        """What names it among replicas."""
        self.issued: int = sealed.issued
        self.owner: Owner = sealed.owner
        self.here = True
        """Whether that is this sidecar."""
        self.renewed = 0.0
        """When it was last said that it lives, in seconds of the monotonic clock."""
        self.recorded = 0
        """Bytes that its record has been given; 0: none is known of."""
        self.initialize: bytes = b""
        """The params of the client's `initialize`, where its id does not carry them."""
        self.epoch = 0
        """How often it was begun again; it only rises."""
        self.inner: bytes = sealed.inner
        """As the server knows it; empty while it is begun again."""
        self.version: bytes = sealed.version
        """The protocol version that the client believes in."""
        self.spoken: bytes = b""
        """The one that the server speaks in it now, where that is another."""
        self.binding: bytes = sealed.binding
        """Of the credential that the server last accepted."""
        self.rebound = False
        """Whether that is another than it was begun with."""
        self.holder = ""
        """The known client that has shown it; empty: nobody known."""
        self.level: bytes = b""
        """The log level that was set, as JSON."""
        self.subscriptions: tuple[bytes, ...] = ()
        """The URIs that are subscribed to, as JSON."""
        self.client = ""
        self.used = 0.0
        """When a request was last sent in it, in seconds of the monotonic clock."""
        self.reviving: list[Callable[[Revived], None]] | None = None
        """Who waits until it has been begun again; None: it is not."""
        self.stays = 0.0
        """Until when nobody is asked to take it over, though this replica ends; of the same clock."""
        self.news: bytes = b""
        """Events that tell what was lost, for the next stream of the client's."""
        self.listener: Listener | None = None
        self.ended = False
        """Whether the client, or a loss, has ended it."""
        self.forgotten = False
        """Whether there was no room for it: another of the same id may be looked up."""

    def accepted(self, binding: bytes, holder: str) -> bool:
        """The server has accepted a credential; whether the session follows it.

        A known client's follows what that client shows, and nobody else: the server may not know them. Any
        other is whose the server says it is. `holder`: the client, where it is known.
        """
        if binding == self.binding:
            self.holder = holder or self.holder  # whom another replica has judged has no name here
            return False
        if is_known(self.binding) and not (holder and holder == self.holder):
            return False
        self.binding, self.holder, self.rebound = binding, holder, True
        return True

    @property
    def told(self) -> int:
        """Bytes of what its client has said."""
        return len(self.initialize) + sum(map(len, self.subscriptions))


def is_later(session: Session, owner: Owner, epoch: int) -> bool:
    """Whether somebody has begun it again later than is known here.

    Two may have done so at once who could not hear each other: then all agree on the heir.
    """
    if epoch != session.epoch or owner.place == session.owner.place:
        return epoch > session.epoch
    return heir.ranked(session.key, (owner.place, session.owner.place))[0] == owner.place


class Revived:
    """What became of the attempt to begin a session again."""

    __slots__ = ("again", "body", "denied", "error", "head")

    def __init__(
        self, *, again: bool = False, error: UpstreamError | None = None, head: ResponseHead | None = None,
        body: bytes = b"", denied: bytes = b"",
    ) -> None:  # fmt: skip
        """Neither of these: it has ended. `head`, `body`: what the server refuses it by.

        `denied`: the binding of who asked, where the session is another's.
        """
        self.denied = denied
        self.again = again
        self.error = error
        self.head = head
        self.body = body
