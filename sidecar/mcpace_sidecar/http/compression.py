"""Compressing whole answers, by what the client accepts.

What is answered again and again is compressed once, as a stem: a stream that lacks its end. An answer ends
it with what differs from answer to answer (its id), uncompressed.
Source: RFC 1951, section 3.2.4; RFC 7932, section 9.2; RFC 8878, section 3.1.1.2.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

_ORDER: Final = (b"zstd", b"br", b"gzip")
MOST: Final = {b"zstd": 4 << 20, b"br": 1 << 20, b"gzip": 1 << 20}
"""Bytes of an answer that are compressed: about 14 ms for which nobody else has a turn."""
LONGEST_END: Final = 1024
"""Bytes that may differ in the end of what is compressed once."""
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
        small = zlib.compress(body, 4, wbits=31)
    return small if len(small) < len(body) * _WORTH else None


class Stem:
    """The compressed beginning of bodies that differ in their end alone."""

    __slots__ = ("_check", "_coding", "_length", "body")

    def __init__(self, coding: bytes, body: bytes, beginning: bytes) -> None:
        self.body = body
        self._coding = coding
        self._length = len(beginning)
        self._check = zlib.crc32(beginning) if coding == b"gzip" else 0

    def ended(self, end: bytes) -> bytes:
        """A whole compressed body. `end`: at most `LONGEST_END` bytes."""
        size = len(end)
        if self._coding == b"zstd":  # a last block that is raw
            return b"%b%b%b" % (self.body, (1 | size << 3).to_bytes(3, "little"), end)
        if self._coding == b"br":  # a meta-block that is uncompressed, and an empty last one
            return b"%b%b%b\x03" % (self.body, (size - 1 << 3 | 1 << 19).to_bytes(3, "little"), end)
        check, length = zlib.crc32(end, self._check), self._length + size & 0xFFFFFFFF
        stored = struct.pack("<BHH", 1, size, size ^ 0xFFFF)
        return b"%b%b%b%b" % (self.body, stored, end, struct.pack("<II", check, length))


def begin(coding: bytes, beginning: bytes) -> Stem | None:
    """The stem of all bodies with this beginning; None where it would not be worth it, or take too long."""
    if len(beginning) > MOST[coding]:
        return None
    if coding == b"zstd":
        import zstandard  # noqa: PLC0415 - because of that

        zstd = zstandard.ZstdCompressor(3).compressobj()
        body = zstd.compress(beginning) + zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    elif coding == b"br":
        import brotli  # noqa: PLC0415 - because of that

        br = brotli.Compressor(quality=4)
        body = bytes(br.process(beginning) + br.flush())
    else:
        deflate = zlib.compressobj(4, wbits=31)
        body = deflate.compress(beginning) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return Stem(coding, body, beginning) if len(body) < len(beginning) * _WORTH else None
