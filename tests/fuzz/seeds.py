"""Where fuzzing begins, and words that mean something to what is fuzzed; what it found is in `corpus`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
CALL: Final = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":[1,"\\u00e9"]},'
    b'"_meta":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}'
)
RESULT: Final = (
    b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"}],"isError":false}}'
)
_HEAD: Final = (
    b"POST /mcp?a=1 HTTP/1.1\r\nHost: a.example:80\r\nContent-Type: application/json\r\nX-Request-Id: VARY\r\n"
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nMcp-Param-City: Oslo\r\n"
    b"X-Consumer-Username: u\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
)
_ITEMS: Final = b",".join(b'{"n":%d}' % n for n in range(30))

SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "requests": (
        b"\x05\x07" + _HEAD + b"Content-Length: 3\r\n\r\n{}\n" + b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"\x01\x02"
        + _HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    ),
    "heads": (_HEAD + b"Content-Length: 3\r\n\r\n", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    "responses": (
        b"\x03\x04HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x03\x04HTTP/1.0 204\r\nContent-Length: 4\r\nKeep-Alive: timeout=5, max=10\r\n\r\n",
        b"\x02\x01a;x=1\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nrest",
    ),
    "bodies": (
        CALL,
        b' {"method":"ping","jsonrpc":"2.0","id":"\\ud83d\\ude00"}',
        b'{"jsonrpc":"2.0","method":"x"}',
    ),
    "keys": (
        b'{"name":"t","arguments":{"city":"Oslo","days":3}}',
        b'{"name":"t","arguments":{"lang":"no","city":" \\u00c5LESUND"},"_meta":{"progressToken":1}}',
        b'{"arguments":{"city":{"a":[1.5]}},"name":"t"}',
    ),
    "batches": (b"[" + CALL + b"," + CALL + b"]", b" [ [1], {}, null ]"),
    "answers": (RESULT, b"event: message\ndata: " + RESULT + b"\n\n", b'{"error":{"code":1},"id":null}'),
    "streams": (
        b"\x01\x01event: message\ndata: {}\n\n: ping\r\n\r\nid: 1\rdata: a\rdata: b\r\r",
        b"\x02\x05data: x\r\n\ndata:y\n\r\nretry: 5\n\n",
    ),
    "pages": (
        b"\x05\x03\x02" + b'{"content":[{"type":"text","text":"[%b]"}]}' % _ITEMS.replace(b'"', b'\\"'),
        b"\x05\x03\xff"
        + b'{"content":[],"structuredContent":{"rows":[%b],"total":30},"isError":false}' % _ITEMS,
        b"\x05\x00\xff" + b'{"content":[{"type":"text","text":"%b"}]}' % (b"line \\u00f8\\n" * 40),
        b"\x02\x00\x01" + b'{"content":[%b]}' % b",".join([b'{"type":"text","text":"abc"}'] * 9),
    ),
    "tokens": (
        b'{"iss":"https://id.example","aud":"weather","exp":4102444800,"sub":"ada","plan":"pro"}',
        b'{"iss":"https://id.example","aud":["weather"],"exp":1e400,"nbf":0,"sub":["a"]}',
        b"eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.AAAA",
    ),
    "configuration": (
        b"rateLimits:\n  tiers: [{name: free, requestsPerMinute: 10}]\ncache:\n  tools: [{name: a, ttl: 5m}]\n",
        b"image: weather:1\nreplicas: 2\nresponses: {page: {tools: [{name: a, items: 5, bytes: 1Ki}]}}\n",
        b"clients:\n  trustedProxies: [10.0.0.0/8]\n  trustedHeaders: {client: X-User}\nconcurrency: {}\n",
    ),
}
_HTTP: Final = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b": ", b" ", b"\t", b"\x00", b"Content-Length: 3\r\n", b"Host: a\r\n", b"VARY",
    b"Transfer-Encoding: chunked\r\n", b"Connection: ", b"close", b"X_A: 1\r\n", b"0\r\n\r\n", b"HTTP/1.1", b"\xff",
    b"Mcp-Param-A: 1\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
)  # fmt: skip
_JSON: Final = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0061", b"\\ud800", b"1e400", b"null", b"true", b"-0", b"1.0",
    b'"id":', b'"name":"n",', b'"Method":', b'"method":', b'"params":', b'"isError":true', b'"result":{', b'"error":',
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b'"uri":"a:b"', b'"resources/read"', b"data: ", b"\n\n", b"9" * 30,
)  # fmt: skip
_YAML: Final = (
    b"\n", b"  ", b"- ", b": ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: ", b"!!int ", b"null", b"~", b"1e3", b"0x1f",
    b"'", b'"', b"|\n", b"? ", b"---\n", b"#", b"2001-01-01", b"5m", b"64Mi", b"\t", b"\xc3\xa9", b"-1", b"true",
)  # fmt: skip
WORDS: Final[dict[str, tuple[bytes, ...]]] = {
    "requests": _HTTP, "heads": _HTTP, "responses": _HTTP, "bodies": _JSON, "batches": _JSON, "answers": _JSON,
    "keys": (*_JSON, b'"city":', b'"City":', b'"c\\u0069ty":', b'"arguments":{', b" ", b"\xcc\x81", b"\xc7\x85"),
    "streams": (b"\n", b"\r", b"\r\n", b"data:", b"data: ", b"id: 1", b":", b"\n\n", b"\x00", b"\xff"),
    "pages": _JSON, "tokens": (*_JSON, b".", b"="), "configuration": _YAML,
}  # fmt: skip


def kept(surface: str) -> list[bytes]:
    """The seeds of a surface, and what was found there once."""
    folder = CORPUS / surface
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [*SEEDS[surface], *(path.read_bytes() for path in found)]


def varied(surface: str, chance: random.Random) -> bytes:
    """A seed with a few changes: bytes and words put in, taken out, doubled, and joined with another's."""
    seeds = kept(surface)
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        a, b = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        match chance.randrange(7):
            case 0:
                data[a:a] = chance.choice(WORDS[surface])
            case 1:
                data[a : a + chance.randrange(1, 9)] = chance.choice(WORDS[surface])
            case 2:
                del data[a : min(b, a + 16)]
            case 3:
                data[a:a] = data[a:b] * chance.choice((1, 1, 2, 40))
            case 4 if data:
                data[a % len(data)] = chance.randrange(256)
            case 5:
                other = chance.choice(seeds)
                data[a:] = other[chance.randrange(len(other)) :]
            case _:
                data[a:a] = bytes([chance.randrange(256)])
    return bytes(data)
