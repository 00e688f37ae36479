"""Large answers are compressed as the client accepts, and nothing else is."""

import gzip
import os
from typing import Any

import brotli
import msgspec
import pytest
import zstandard
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted, json_answer

from mcpace_sidecar.http import compression

TEXT = "the same words again and again " * 1000
BODY = msgspec.json.encode(
    {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": TEXT}]}}
)
DECODE: dict[str, Any] = {
    "zstd": zstandard.decompress,
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    "": bytes,
}
DECODERS: dict[str, Any] = DECODE | {
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body)
}
"""Those that need no size in the head, as those of HTTP clients."""


async def raw_call(sidecar: Any, accept: str) -> tuple[bytes, bytes]:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if accept:
        head += b"Accept-Encoding: %b\r\n" % accept.encode()
    raw = await sidecar.raw(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    top, _, answer = raw.partition(b"\r\n\r\n")
    return top.lower(), answer


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.1", "br"),
        ("gzip;q=0", ""),
        ("identity", ""),
        ("", ""),
    ],
)
async def test_the_answer_is_compressed_as_the_client_accepts(
    scripted: Scripted, start: Start, accept: str, coding: str
) -> None:
    scripted.answer = lambda _: json_answer(BODY)
    sidecar = await start(scripted.port)
    top, answer = await raw_call(sidecar, accept)
    assert (b"content-encoding: %b" % coding.encode() in top) == bool(coding)
    assert (b"vary: accept-encoding" in top) == bool(coding)
    assert DECODE[coding](answer) == BODY
    assert b"accept-encoding" not in scripted.calls[-1].headers, "the server need not"


async def test_hits_are_compressed_too(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(BODY)
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    for _ in range(2):
        top, answer = await raw_call(sidecar, "gzip")
        assert b"content-encoding: gzip" in top
        assert msgspec.json.decode(gzip.decompress(answer)) == msgspec.json.decode(BODY)


@pytest.mark.parametrize("coding", compression.MOST)
@pytest.mark.parametrize("wide", [b"", b"\xc3\xa9" * 40_000, os.urandom(9000).hex().encode()])
def test_what_ends_a_stem_makes_a_body_that_every_decoder_reads(coding: bytes, wide: bytes) -> None:
    beginning = TEXT.encode() + wide
    stem = compression.begin(coding, beginning)
    assert stem is not None
    for end in (b"}", b',"id":7}', b"e" * compression.LONGEST_END):
        whole = stem.ended(end)
        assert len(whole) < len(beginning)
        assert DECODERS[coding.decode()](whole) == beginning + end


async def test_a_large_hit_is_compressed_once_for_all_who_come(scripted: Scripted, start: Start) -> None:
    scripted.answer = lambda _: json_answer(BODY)
    sidecar = await start(
        scripted.port, {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}
    )
    memory = sidecar.memory
    sizes = []
    for coding in ("zstd", "br", "gzip", "zstd", "br", "gzip", ""):
        _, answer = await raw_call(sidecar, coding)
        assert msgspec.json.decode(DECODERS[coding](answer)) == msgspec.json.decode(BODY)
        sizes.append(memory.bytes)
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3] == sizes[-1], "each form is kept once, and counted"
    (entry,) = memory._entries.values()
    stems = dict(entry.compressed)
    for coding in ("zstd", "br", "gzip"):
        await raw_call(sidecar, coding)
    assert all(entry.compressed[coding] is stem for coding, stem in stems.items())
    assert memory.bytes == entry.size
    sidecar.memory.resize(0, 0)
    assert memory.bytes == 0


@pytest.mark.parametrize(
    ("answer", "config"),
    [
        (json_answer(BODY[:5000] + b'"}]}}'), {}),
        (json_answer(BODY), {"responses": {"compressOver": "1Mi"}}),
        (json_answer(gzip.compress(BODY) * 50, extra=b"Content-Encoding: gzip\r\n"), {}),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY) + 8, b"data: " + BODY + b"\n\n"),
            {},
        ),
    ],
    ids=["small", "under the bound", "compressed already", "events"],
)
async def test_what_is_not_worth_it_is_left_alone(
    scripted: Scripted, start: Start, answer: bytes, config: dict[str, Any]
) -> None:
    scripted.answer = lambda _: answer
    sidecar = await start(scripted.port, config)
    top, _ = await raw_call(sidecar, "zstd")
    assert b"content-encoding: zstd" not in top


@pytest.mark.parametrize("coding", compression.MOST)
def test_what_would_take_long_to_compress_passes_as_it_is(coding: bytes) -> None:
    most = compression.MOST[coding]
    assert compression.compress(coding, b"a" * most) is not None
    assert compression.compress(coding, b"a" * (most + 1)) is None
