"""Answers in the coding that a client accepts, and what is compressed once and ended often."""

from __future__ import annotations

import gzip

import brotli
import pytest
import zstandard

from mcpace_sidecar.http.compression import LONGEST_END, MOST, begin, choose, compress

READ = {
    b"gzip": gzip.decompress,
    b"br": brotli.decompress,
    b"zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}
TEXT = b'{"city":"Oslo","rows":[%b]}' % b",".join(b"%d" % number for number in range(5000))


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, b""),
        (b"", b""),
        (b"identity", b""),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br", b"br"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"*", b"zstd"),
        (b"zstd;q=0, *", b"br"),
        (b"zstd;q=0.000, br; q=0 , gzip;q=0.001", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"*;q=0", b""),
        (b"gzip;q=0", b""),
        (b"compress", b""),
    ],
)
def test_the_best_coding_that_is_accepted_is_taken(accept: bytes | None, coding: bytes) -> None:
    assert choose(accept) == coding


@pytest.mark.parametrize("coding", READ)
def test_what_is_compressed_is_read_as_it_was(coding: bytes) -> None:
    small = compress(coding, TEXT)
    assert small is not None
    assert len(small) < len(TEXT) / 2
    assert READ[coding](small) == TEXT


@pytest.mark.parametrize("coding", READ)
def test_what_grows_little_smaller_or_would_take_long_stays_as_it_is(coding: bytes) -> None:
    noise = bytes(hash((n, n * n)) % 251 for n in range(3000))
    assert compress(coding, noise) is begin(coding, noise) is None
    assert compress(coding, b"x" * MOST[coding]) is not None
    assert compress(coding, b"x" * (MOST[coding] + 1)) is None
    assert begin(coding, b"x" * (MOST[coding] + 1)) is None


@pytest.mark.parametrize("coding", READ)
@pytest.mark.parametrize("end", [b"}", b',"id":1}', b"x" * LONGEST_END])
def test_a_stem_is_ended_in_as_many_ways_as_there_are_answers(coding: bytes, end: bytes) -> None:
    stem = begin(coding, TEXT)
    assert stem is not None
    for each in (end, end + b"?" if len(end) < LONGEST_END else end, end):
        assert READ[coding](stem.ended(each)) == TEXT + each
