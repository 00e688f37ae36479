"""One caller, and what a request's credentials say."""

from __future__ import annotations

import math
from typing import Any, Final

LONGEST_NAME: Final = 256
"""The longest a client's name may be that a gateway or a token gives, in bytes."""


class Client:
    """One caller. `name` tells callers apart and holds no secret; `tier` is None if unknown."""

    __slots__ = ("anonymous", "name", "notes", "subject", "tier")

    def __init__(
        self, name: str, tier: str | None = None, *, anonymous: bool = True, subject: str = ""
    ) -> None:
        self.name = name
        self.tier = tier
        self.anonymous = anonymous
        self.subject = subject
        """Of a verified token its issuer and subject: several may use one client."""
        self.notes: Any = None
        """What the limits have worked out for it."""

    def __repr__(self) -> str:
        return f"<Client {self.name}>"


class Caller:
    """What a request's credentials say."""

    __slots__ = ("client", "status", "until", "words")

    def __init__(
        self, client: Client | None, *, words: str = "", until: float = math.inf, status: int = 401
    ) -> None:
        self.client = client
        """None: refuse."""
        self.words = words
        """Why it is refused, for a person."""
        self.until = until
        """When this stops to be so, in seconds since the epoch."""
        self.status = status
        """The HTTP status of a refusal."""
