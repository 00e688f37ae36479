"""What is recorded of a session for other sidecars: whose it is, and what it takes to make it again.

The sealed id alone finds a session's owner; its record is read when that one is gone, and never on a call's
way. Whoever takes a session over claims it by the owner and epoch it has seen: of many that do so at once,
one is given it, and all are told whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

MOST_SUBSCRIPTIONS: Final = 256
"""Subscriptions that are made again."""
ABANDONED: Final = 10
"""Seconds after which a claim without a session is another's to take."""


class Owner(NamedTuple):
    """A sidecar, as peers reach it."""

    host: str
    port: int
    boot: int
    """Drawn at its start: who has its address later is another."""

    @classmethod
    def read(cls, text: str) -> Owner:
        """The owner that `str` has written; ValueError."""
        place, _, boot = text.rpartition("/")
        host, _, port = place.rpartition(":")
        if not host:
            raise ValueError(f"{text!r} names no owner")
        return cls(host, int(port), int(boot))

    @property
    def place(self) -> str:
        """Where it listens."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.boot}"


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
    """The params of the client's `initialize`, in JSON."""
    level: bytes = b""
    """The log level the client has set, in JSON; empty: none."""
    subscriptions: tuple[str, ...] = ()
    binding: bytes = b""
    """Whose it is: a digest of the credential the server has last accepted."""
    previous: tuple[Owner, int] | None = None
    """The owner and epoch before, while calls end there."""

    def fields(self) -> dict[bytes, bytes]:
        """As a hash holds it."""
        previous = f"{self.previous[0]} {self.previous[1]}" if self.previous is not None else ""
        return {
            b"owner": str(self.owner).encode(),
            b"epoch": b"%d" % self.epoch,
            b"inner": self.inner,
            b"version": self.version,
            b"initialize": self.initialize,
            b"level": self.level,
            b"subscriptions": msgspec.json.encode(self.subscriptions[:MOST_SUBSCRIPTIONS]),
            b"binding": self.binding,
            b"previous": previous.encode(),
        }

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> Record:
        """The record that a hash holds; ValueError."""
        before, _, epoch = fields.get(b"previous", b"").decode().rpartition(" ")
        subscriptions: list[str] = msgspec.json.decode(fields[b"subscriptions"], type=list[str])
        return cls(
            Owner.read(fields[b"owner"].decode()),
            int(fields[b"epoch"]),
            fields[b"inner"],
            fields[b"version"],
            fields[b"initialize"],
            fields.get(b"level", b""),
            tuple(subscriptions),
            fields.get(b"binding", b""),
            (Owner.read(before), int(epoch)) if before else None,
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
    b"previous",
)
"""Of a hash, in this order."""


class Found(NamedTuple):
    """What is known of a session's record."""

    record: Record | None
    ended: bool = False
    """Whether its client has ended it."""
    asked: bool = True
    """Whether the store has said so: False where it does not answer."""


class Records:
    """Where records are kept, in memory and in Redis; no call waits for it but one whose owner is gone."""

    def __init__(self) -> None:
        self.idle_timeout = 3600
        """Seconds for which a record is kept that its owner does not renew."""
        self.max_age = 86_400
        """Seconds for which it is remembered that a session was ended."""

    def write(self, key: bytes, record: Record) -> None:
        """Keep this, unless the session is another's by now; nobody waits for it."""
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

    def renew(self, key: bytes, owner: Owner, epoch: int, done: Callable[[bool], Any]) -> None:
        """Keep it for longer; `done` is told whether it is still this owner's, as far as is known."""
        raise NotImplementedError

    def end(self, key: bytes) -> None:
        """Its client has ended it: nobody makes it again."""
        raise NotImplementedError
