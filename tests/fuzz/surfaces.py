"""What strangers' bytes reach, each with what must hold of it, whatever they are.

A surface takes bytes and returns, or raises what it should not: an error of another type than it
documents, or an AssertionError where it and its oracle differ.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final
from unicodedata import normalize

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from tests.fuzz.wire import cuts, heads, requests, responses

from mcpace_operator.resource.models import parse_spec
from mcpace_sidecar.cache.policy import CacheRule, Keys, of_tool
from mcpace_sidecar.call.book import first_page, later_page
from mcpace_sidecar.call.paging import paginate
from mcpace_sidecar.call.policies import PageRule
from mcpace_sidecar.contract.config import SidecarConfig, parse, parse_strictly
from mcpace_sidecar.contract.config.cache import CachedTool
from mcpace_sidecar.contract.config.clients import Jwt
from mcpace_sidecar.contract.config.document import read_yaml
from mcpace_sidecar.contract.config.traffic import PagedTool
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.http import sse
from mcpace_sidecar.identity.tokens import Tokens
from mcpace_sidecar.mcp import answers as said
from mcpace_sidecar.mcp import ids, methods, request
from mcpace_sidecar.mcp.strictness import MessageError

LONGEST: Final = 8192
"""Bytes of an input."""
LONGEST_SECONDS: Final = 0.5
"""CPU time that one input may take, instrumented and slow machines included: far above what is linear."""


def bounded(surface: Callable[[bytes], None], data: bytes) -> None:
    """Run a surface, in bounded time."""
    data = data[:LONGEST]
    began = time.process_time()
    surface(data)
    took = time.process_time() - began
    assert took < LONGEST_SECONDS, f"{len(data)} bytes took {took:.2f} s"


# -- bodies


def bodies(data: bytes) -> None:
    """A message is what Python reads: its method, its target, its id."""
    try:
        message = request.classify(data)
    except MessageError:
        return
    if getattr(message, "halved", False):
        return  # halves of surrogate pairs: Python keeps them
    try:
        read = json.loads(data)
    except RecursionError:
        return
    assert isinstance(read, dict), read
    assert read.get("method") == message.method
    assert "id" not in read or read["id"] is None or json.loads(message.id or b"null") == read["id"]
    name = methods.COUNTED.get(message.method or "")
    if name is not None:
        assert read["params"][name] == message.target
    assert read["jsonrpc"] == "2.0"


def batches(data: bytes) -> None:
    """The parts of a batch are the array's, one by one."""
    try:
        parts = request.split(data)
    except MessageError:
        return
    try:
        read = json.loads(data)
    except RecursionError:
        return
    assert [json.loads(part) for part in parts] == read


@cache
def _keyed() -> CacheRule:
    key = {"arguments": ["city"], "ignoreCase": True}
    tool = {"name": "t", "ttl": "1m", "scope": "shared", "key": key}
    rule = of_tool(CachedTool.model_validate(tool))
    assert rule is not None
    return rule


def _kept_under(params: bytes) -> list[bytes]:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    return [place.key for place in Keys(None).places(_keyed(), b"", request.classify(body), None)]


def keys(data: bytes) -> None:
    """A call is kept only where all readers find the same city, and together with that city alone."""
    try:
        found = _kept_under(data)
    except MessageError:
        return
    if not found:
        return
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return  # more than params: other surfaces look at that
    params = json.loads(data, object_pairs_hook=_once, parse_int=_Number, parse_float=_Number)
    arguments = params.get("arguments", {})
    assert [name for name in arguments if name.casefold() == "city"] in (["city"], []), arguments
    assert "city" in arguments or not arguments
    city = arguments.get("city")
    if isinstance(city, _Number) or not isinstance(city, str) or len(city) > 64 or len(params) > 2:
        return
    twin = city.swapcase() if city.isascii() else city
    for spelled, same in ((city, True), (twin, True), (f"{city}x", False)):
        others = {"lang": "no", "city": f"\t{normalize('NFC', spelled)} "}
        again = json.dumps({"name": params["name"], "arguments": others}).encode()
        assert (_kept_under(again) == found) == same, (city, spelled)


def answers(data: bytes) -> None:
    """An answer is read without a word, whatever it is; two ways of judging it agree."""
    said.kind(data)
    said.id_of(data)
    said.suspect(data)
    ids.written_id(data)
    said.read_events(data)
    said.stray(data, b"1")
    said.stray(data, b"1", events=True)
    outcome, quick = said.read_answer(data), said.succeeded(data)
    try:
        read = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return
    plain = isinstance(read, dict) and data[:1] == b"{" and b"\\" not in data and "error" not in read
    if plain and isinstance(read.get("result"), dict) and "isError" not in str(read["result"].values()):
        assert outcome.ok == quick, (outcome.ok, quick)
        flag = read["result"].get("isError", False)
        assert not isinstance(flag, bool) or not outcome.result or outcome.ok != flag


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _lines(events: list[bytes]) -> list[bytes]:
    """Events without the line ends around them: an LF after a cut CR leads the next event, or an empty one."""
    return [lines for event in events if (lines := event.strip(b"\r\n"))]


def streams(data: bytes) -> None:
    """Events are the same in any cut, and nothing of a stream is lost."""
    pieces, wire = cuts(data)
    whole, cut = sse.Events(), sse.Events()
    events = whole.feed(wire)
    rest = whole.rest()
    assert b"".join(events) + rest == wire
    parts = [event for piece in pieces for event in cut.feed(piece)]
    parts.append(cut.rest())
    assert b"".join(parts) == wire
    assert _lines(parts) == _lines([*events, rest])
    for event in events:
        assert sse.data_of(sse.with_data(event, b"x")) == b"x"


# -- pages


def pages(data: bytes) -> None:
    """Pages put together are the whole: an array of the result, or its text."""
    if len(data) < 4:
        return
    items, size, result = data[0] % 100 + 1, 40 + data[1] * 16, data[3:]
    rule = PageRule(PagedTool.model_validate({"name": "t", "items": items, "bytes": str(size)}))
    try:
        cut = paginate(result, rule)
    except (ValueError, RecursionError):
        return  # it passes whole
    if cut is None:
        return
    book, more = cut
    json.loads(first_page(book, more, "h", "next_page"))
    shown: list[Any] = []
    total, number = 0, 0
    while True:
        number += 1
        try:
            page = later_page(book, number, data[2] % 100 + 1 if data[2] < 200 else None, "h", "next_page")
        except ValueError:
            break
        read = _read(_read(page)["content"][0]["text"])
        assert read["page"] == str(number)
        assert read["data"]
        total = int(read["total"])
        shown.extend([read["data"]] if isinstance(read["data"], str) else read["data"])
    whole = _read(result)
    blocks = [block for block in whole.get("content", []) if isinstance(block, dict)]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and _is_text(block)]
    if all(isinstance(piece, str) for piece in shown) and "".join(shown) in texts:
        assert total in (len("".join(shown)), len(shown))
        return
    assert len(shown) == total
    assert shown in [
        texts,
        *_arrays(whole.get("structuredContent")),
        *(a for t in texts for a in _arrays(t)),
    ]


class _Number(str):
    """A number as it is spelt."""

    __slots__ = ()


def _read(document: str | bytes) -> Any:
    """JSON with its numbers as they are spelt."""
    return json.loads(document, parse_int=_Number, parse_float=_Number)


def _is_text(block: dict[str, Any]) -> bool:
    """Whether it holds a text: what else stands there is not paged."""
    text = block.get("text")
    return isinstance(text, str) and not isinstance(text, _Number)


def _arrays(document: Any) -> list[Any]:
    """The arrays that pages may be of: a document that is one, or those that it holds."""
    if isinstance(document, str):
        try:
            document = _read(document)
        except (ValueError, RecursionError):
            return []
    inner = document.values() if isinstance(document, dict) else [document]
    return [value for value in inner if isinstance(value, list)]


# -- tokens


@cache
def _signing() -> tuple[Tokens, jwt.PyJWK, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwt.PyJWK.from_dict(json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "ES256")
    config = {"issuer": "https://id.example", "audience": "weather", "jwksURL": "https://id.example/keys"}
    return Tokens(Jwt.model_validate(config | {"algorithms": ("ES256",), "tierClaim": "plan"})), public, key


def tokens(data: bytes) -> None:
    """A token is a stranger's or names a client by valid claims, whatever it or its claims are."""
    judge, public, key = _signing()
    assert judge.ours(data) in (True, False)
    judge._key(data)
    caller = judge._verify(data, public)
    assert caller.client is None
    signed = jwt.api_jws.encode(data, key, "ES256").encode()
    judge.ours(signed)
    caller = judge._verify(signed, public)
    if caller.client is not None:
        claims = json.loads(data)
        assert claims["iss"] == "https://id.example"
        assert "weather" in claims["aud"]
        assert float(claims["exp"]) > time.time() - 60
        assert caller.client.name == f"jwt:{claims['sub']}"


# -- configuration


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="mcpace-fuzz-")) / "manifest.yaml"


def configuration(data: bytes) -> None:
    """A configuration is taken or refused in words; what is taken strictly is taken."""
    _file().write_bytes(data)
    try:
        document = read_yaml(_file())
    except ConfigError as error:
        assert str(error)
        return
    config = _worded(lambda: parse(SidecarConfig, document))
    strict = _worded(lambda: parse_strictly(SidecarConfig, document))
    if strict is not None:
        assert config is not None
        assert config[0] == strict
    if isinstance(document, dict):
        _worded(lambda: parse_spec(document))


def _worded(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ConfigError as error:
        assert str(error)
        return None


SURFACES: Final[dict[str, Callable[[bytes], None]]] = {
    surface.__name__: surface
    for surface in (
        requests,
        heads,
        responses,
        bodies,
        batches,
        keys,
        answers,
        streams,
        pages,
        tokens,
        configuration,
    )
}
