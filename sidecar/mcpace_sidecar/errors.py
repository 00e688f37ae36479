"""Everything this package raises on purpose."""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)


class McpaceError(Exception):
    """Base of all of them."""


class ConfigError(McpaceError):
    """A configuration that cannot be used; the message says what to write instead."""


def words_of(error: OSError) -> str:
    """The system's words, without the address that asyncio puts before them."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()  # a name that is not known has numbers of its own


class ListenError(ConfigError):
    """A port that cannot be listened on. `address` is that which was asked for."""

    def __init__(self, address: object, words: str) -> None:
        super().__init__(f"Cannot listen on {address}: {words}")
        self.address = address


class ProtocolError(McpaceError):
    """Bytes that are no acceptable HTTP message.

    `status` is the HTTP status that answers it, `reason` the metric's label.
    """

    def __init__(self, status: int, reason: str, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.reason = reason


class UpstreamError(McpaceError):
    """The server did not answer as it should: refused, closed, slow or malformed.

    `stale` is true when a kept connection ended before any byte of an answer: most
    likely the server had closed it while it was idle, and never saw the request.
    `refused` is true when nothing listens where it should.
    """

    def __init__(self, reason: str, words: str, *, stale: bool = False, refused: bool = False) -> None:
        super().__init__(words)
        self.reason = reason
        self.stale = stale
        self.refused = refused


class SilentError(OSError):
    """A peer that does not acknowledge a connection."""


class BusyError(OSError):
    """A peer that takes a connection, and does not prove itself in time."""


class LostError(McpaceError):
    """A call that nothing would ever have led on, or a slot that outlived its call."""


class StoreError(McpaceError):
    """Redis did not answer in time, or not as it should."""


class WrongStoreError(OSError):
    """A Redis answers, and is not what its URL says."""


def unforeseen(error: Exception) -> None:
    """Log what somebody raised who was only told something, where nobody else listens for it."""
    log.error("Internal error: %s", type(error).__qualname__)
