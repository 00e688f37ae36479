"""Who listens: the open event streams of all clients, and who goes when there are too many.

The client with the most streams loses the one that has been silent for the longest: a crowd behind one
address lives as long as there is room for it, and a client that hoards pays for that itself. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Listener(Protocol):
    """One open stream."""

    def close_stream(self) -> None:
        """End it in order; its client may open another."""


class Audience:
    """The open streams, by client, the longest silent first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._of: dict[str, dict[Listener, None]] = {}
        self._clients: dict[Listener, str] = {}

    def enter(self, listener: Listener, client: str) -> list[Listener]:
        """Take in a stream of this client's; return those that must be closed for it."""
        self._clients[listener] = client
        self._of.setdefault(client, {})[listener] = None
        leaving = []
        while len(self._clients) > self.most:
            heaviest = max(self._of, key=lambda name: len(self._of[name]))
            other = next(iter(self._of[heaviest]))
            self.leave(other)
            leaving.append(other)
        return leaving

    def heard(self, listener: Listener) -> None:
        """Something was said on it."""
        client = self._clients.get(listener)
        if client is not None:
            streams = self._of[client]
            del streams[listener]
            streams[listener] = None

    def leave(self, listener: Any) -> None:
        """It has ended."""
        client = self._clients.pop(listener, None)
        if client is not None:
            streams = self._of[client]
            del streams[listener]
            if not streams:
                del self._of[client]

    def __iter__(self) -> Iterator[Listener]:
        return iter(list(self._clients))

    def __len__(self) -> int:
        return len(self._clients)
