"""Where messages of 2024-11-05 are posted: the server's endpoint, and which replica holds the stream.

Where there are several replicas, whoever holds a stream adds that to its endpoint, sealed, as a last
parameter of the query, which the server is not told. Pure.
"""

from __future__ import annotations

from typing import Final

_NAME: Final = b"mcpace="


def named(endpoint: bytes, name: bytes) -> bytes:
    """An endpoint, with what a replica adds to it."""
    return b"%b%b%b%b" % (endpoint, b"&" if b"?" in endpoint else b"?", _NAME, name)


def name_of(target: bytes) -> bytes:
    """What a replica has added to an endpoint; empty: nothing."""
    before, _, name = target.rpartition(_NAME)
    return name if before[-1:] in (b"?", b"&") else b""


def of_server(target: bytes) -> bytes:
    """An endpoint, as the server knows it."""
    name = name_of(target)
    return target[: -len(_NAME + name) - 1] if name else target
