"""What is recorded of a session for other sidecars: whose it is, and what it takes to make it again.

The sealed id alone finds a session's owner; its record is read when that one is gone, and never on a call's
way. Whoever takes a session over claims it by the owner and epoch it has seen: of many that do so at once,
one is given it, and all are told whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from mcpace_sidecar.sessions.sealing import Owner

ABANDONED: Final = 30
"""Seconds after which a claim without a session is anybody's: it cannot take so long to begin one."""
_EMPTY: Final = 320
"""Bytes of a record that says nothing, and of its place among others."""


class Record(NamedTuple):
    """One session, as all sidecars know it."""

    owner: Owner
    epoch: int
    """How often it has been made again; it only rises."""
    inner: bytes
    """The server's own id; empty while it is being made."""
    version: bytes
    """The negotiated one."""
    initialize: bytes
    """The params of the client's `initialize`, in JSON; empty where its id carries them. An empty one
    that is written leaves what is there."""
    level: bytes = b""
    """The log level the client has set, in JSON; empty: none."""
    subscriptions: tuple[bytes, ...] = ()
    """The URIs that are subscribed to, as JSON."""
    binding: bytes = b""
    """Whose it is: a digest of the credential the server has last accepted."""

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        told = sum(map(len, self.subscriptions))
        return _EMPTY + len(self.inner) + len(self.initialize) + len(self.level) + told

    def fields(self) -> dict[bytes, bytes]:
        """As a hash holds it."""
        fields = {
            b"owner": str(self.owner).encode(),
            b"epoch": b"%d" % self.epoch,
            b"inner": self.inner,
            b"version": self.version,
            b"level": self.level,
            b"subscriptions": b"[%b]" % b",".join(self.subscriptions),
            b"binding": self.binding,
        }
        if self.initialize:
            fields[b"initialize"] = self.initialize
        return fields

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> Record:
        """The record that a hash holds; ValueError."""
        subscriptions = msgspec.json.decode(fields[b"subscriptions"], type=list[msgspec.Raw])
        return cls(
            Owner.read(fields[b"owner"].decode()),
            int(fields[b"epoch"]),
            fields[b"inner"],
            fields[b"version"],
            fields.get(b"initialize", b""),
            fields.get(b"level", b""),
            tuple(bytes(each) for each in subscriptions),
            fields.get(b"binding", b""),
        )


FIELDS: Final = (
    b"owner",
    b"epoch",
    b"inner",
    b"version",
    b"initialize",
    b"level",
    b"subscriptions",
    b"binding",
)
"""Of a hash, in this order."""


class Found(NamedTuple):
    """What is known of a session's record."""

    record: Record | None
    ended: bool = False
    """Whether its client has ended it."""
    asked: bool = True
    """Whether a store that all share has said so: False where there is none, or it does not answer."""


class Records:
    """Where records are kept, in memory and in Redis; no call waits for it but one whose owner is gone."""

    def __init__(self) -> None:
        self.idle_timeout = 3600
        """Seconds for which a record is kept that its owner does not renew."""
        self.max_age = 86_400
        """Seconds for which it is remembered that a session was ended."""

    def write(
        self, key: bytes, record: Record, done: Callable[[bool | None], Any], granted: int = 0
    ) -> int:
        """Keep this, and for longer, unless the session is another's by now.

        `done` is told whether it is its owner's; None: the store does not say. `granted`: bytes that its
        session has been given before. Returns how many it has now: where there is no room for more, it is
        not kept.
        """
        raise NotImplementedError

    def read(self, key: bytes, done: Callable[[Found], Any]) -> None:
        """Tell `done` what is kept."""
        raise NotImplementedError

    def claim(
        self, key: bytes, seen: tuple[Owner, int], mine: Record, done: Callable[[Found], Any]
    ) -> None:
        """Take a session over from the owner and epoch that were `seen`.

        `done` is told the record there is then: whose owner is that of `mine` has it, under the epoch that
        is said there. `mine` is kept where there is none: its record was forgotten. Whoever ended it
        has ended it.
        """
        raise NotImplementedError

    def end(self, key: bytes) -> None:
        """Its client has ended it: nobody makes it again."""
        raise NotImplementedError
