"""Compressing whole answers, by what the client accepts."""

from __future__ import annotations

from typing import Final

_ORDER: Final = (b"zstd", b"br", b"gzip")
MOST: Final = {b"zstd": 4 << 20, b"br": 1 << 20, b"gzip": 1 << 20}
"""Bytes of an answer that are compressed: about 14 ms for which nobody else has a turn."""
_WORTH: Final = 0.9
"""A compressed answer must be smaller than this part of it."""


def choose(accept: bytes | None) -> bytes:
    """The coding for an Accept-Encoding header's value; empty: none (RFC 9110, section 12.5.3)."""
    if not accept:
        return b""
    accepted: dict[bytes, bool] = {}
    for item in accept.lower().split(b","):
        coding, _, parameters = item.strip().partition(b";")
        quality = parameters.replace(b" ", b"").removeprefix(b"q=")
        accepted[coding.strip()] = not quality or quality.strip(b"0.") != b""
    for coding in _ORDER:
        if accepted.get(coding, accepted.get(b"*", False)):
            return coding
    return b""


def compress(coding: bytes, body: bytes) -> bytes | None:
    """The body in that coding; None where that would not be worth it, or take too long."""
    if len(body) > MOST[coding]:
        return None
    # Imported when first used: most answers are small, and a codec is memory.
    if coding == b"zstd":
        import zstandard  # noqa: PLC0415 - because of that

        small = zstandard.compress(body, 3)
    elif coding == b"br":
        import brotli  # noqa: PLC0415 - because of that

        small = bytes(brotli.compress(body, quality=4))
    else:
        import zlib  # noqa: PLC0415 - because of that

        small = zlib.compress(body, 4, wbits=31)
    return small if len(small) < len(body) * _WORTH else None
