"""What results are kept under: two generated requests share a place only where no server could tell them apart."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.repeating import repetitions
from tests.kit.sharing import CONFIG, GATEWAY

from mcpace_sidecar.call.port import DataPort
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.mcp.request import classify
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar

VALUE = st.text('ab:;,="\\ %0', min_size=1, max_size=4).map(str.strip).filter(bool)
HOST = st.sampled_from(["localhost", "127.0.0.1", "a.example", "a.example:80"])
PUBLIC = {
    "Host": HOST,
    "X-Forwarded-Host": VALUE | HOST,
    "X-Forwarded-Proto": VALUE,
    "X-Forwarded-Port": VALUE,
    "X-Forwarded-Prefix": VALUE,
    "X-Script-Name": VALUE,
}
"""The server may write these into anybody's answer."""
OWN = {
    "Authorization": VALUE.map("Bearer {}".format) | VALUE,
    "Cookie": VALUE,
    "X-API-Key": VALUE,
    "Mcp-Session-Id": VALUE,
    "X-User": VALUE,
    "X-Forwarded-User": VALUE,
    "X-Forwarded-Email": VALUE,
}
"""Of these an answer may be its caller's own."""
NAMED = {"X-Gateway-Client": VALUE, "X-Gateway-Plan": VALUE}
DECOYS = {
    "X-Request-Id": VALUE,
    "User-Agent": VALUE,
    "Accept": VALUE,
    "Tracestate": VALUE,
    "Traceparent": st.integers(1, 9).map("00-4bf92f3577b34da6a3ce929d0e0e473{}-00f067aa0ba902b7-01".format),
}
"""No answer depends on these."""
ALL = PUBLIC | OWN | NAMED
VERSIONS = st.sampled_from(["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"])
TARGETS = VALUE.map(lambda text: "/mcp?t=" + text.encode().hex()) | st.just("/mcp")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)
DECIDING: dict[str, st.SearchStrategy[Any]] = ALL | {
    "version": VERSIONS,
    "target": TARGETS,
    "arguments": st.dictionaries(st.sampled_from("abc"), JSON, max_size=2),
    "capabilities": JSON,
}
SHARED = {*PUBLIC, "version", "target", "arguments", "capabilities"}
REQUEST = st.fixed_dictionaries(
    {"Host": HOST, "version": VERSIONS, "target": TARGETS, "arguments": DECIDING["arguments"], "Authorization": VALUE},
    optional={name: value for name, value in DECIDING.items() if name not in ("Host", "version", "target", "arguments", "Authorization")},
)  # fmt: skip
AROUND = st.fixed_dictionaries({"progressToken": st.integers(1, 9)}, optional=DECOYS)
CITY = st.sampled_from(["Oslo", "OSLO", " oslo", "Bergen", "bergen ", "", "1"]) | JSON
NAMED_CITY = st.fixed_dictionaries({"city": CITY}, optional={"a": JSON, "b": JSON})
"""Arguments of a tool whose `key` names `city`, and folds it."""
KEPT = ("Host", "version", "target", "arguments")
"""What a request is not without."""


@functools.cache
def port(trusting: bool) -> DataPort:
    config = parse(SidecarConfig, CONFIG | (GATEWAY if trusting else {}))
    here = Address("127.0.0.1", 0)
    options = Options(lambda: config, (), here, here, Address("127.0.0.1", 1), keys=Path("/nowhere"))
    return Sidecar(options).data_port


def places(of: DataPort, request: dict[str, Any], around: dict[str, Any], tool: str) -> set[bytes]:
    """The keys of the places that the result of a request may be kept in."""
    meta = {"progressToken": around["progressToken"]}
    if "capabilities" in request:
        meta["io.modelcontextprotocol/clientCapabilities"] = request["capabilities"]
    params = {"name": tool, "arguments": request["arguments"], "_meta": meta}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    lines = {
        "Content-Type": "application/json",
        "MCP-Protocol-Version": request["version"],
        **{name: value for name, value in (request | around).items() if name in ALL or name in DECOYS},
    }
    head = f"POST {request['target']} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items())
    raw = f"{head}Content-Length: {len(body)}\r\n\r\n".encode()
    connection = ClientConnection(of, of.heads, Connections(lambda _: None))
    connection.peer = "127.0.0.1"
    asked = connection.request
    read, asked.trace, asked.lines, asked.apart = of.heads.read(raw)
    call = of.exchange(connection, read, body).call
    call.client = (call.context.caller or call.via.caller).client
    message = classify(body)
    rule = of.plane.settings.policies.of(message).cache
    assert rule is not None
    return {p.key for p in of.plane.settings.keys.places(rule, call.variant, message, call.private)}


def changed(one: dict[str, Any], part: str, data: st.DataObject) -> dict[str, Any]:
    """A request that differs in one part, or not even in that."""
    other = dict(one)
    if part in KEPT or data.draw(st.booleans(), "whether it changes, or goes"):
        other[part] = data.draw(DECIDING[part], part)
    else:
        other.pop(part, None)
    return other


def alike(one: dict[str, Any], other: dict[str, Any], part: str) -> tuple[bool, bool]:
    """Whether two requests are one in this part; whether the server is told nothing of it."""
    first, second = (
        msgspec.json.encode([each.get(part), part in each], order="sorted") for each in (one, other)
    )
    return first == second, part == "Host" and "X-Forwarded-Host" in one


@pytest.mark.repeated
@pytest.mark.parametrize("trusting", [False, True], ids=["bare", "behind a gateway"])
@settings(deadline=None, max_examples=repetitions(3000))
@given(
    one=REQUEST, part=st.sampled_from(sorted(DECIDING)), around=st.tuples(AROUND, AROUND), data=st.data()
)
def test_two_requests_share_a_place_only_where_nothing_that_decides_differs(
    trusting: bool, one: dict[str, Any], part: str, around: tuple[Any, Any], data: st.DataObject
) -> None:
    other, of = changed(one, part, data), port(trusting)
    if part in NAMED and not trusting:
        return  # a header like another
    same, unseen = alike(one, other, part)
    for tool in ("t", "shared"):
        first, second = (places(of, *asked, tool) for asked in ((one, around[0]), (other, around[1])))
        assert first
        if same or unseen or (tool == "shared" and part not in SHARED):
            assert first == second, f"{part} keeps apart what is one"
        else:
            assert not first & second, f"{part} makes no difference"


def folded(arguments: dict[str, Any]) -> bytes:
    city = arguments["city"]
    return msgspec.json.encode(city.strip().lower() if isinstance(city, str) else city, order="sorted")


@pytest.mark.repeated
@settings(deadline=None, max_examples=repetitions(2000))
@given(
    one=REQUEST,
    part=st.sampled_from(sorted({*DECIDING} - {"arguments", *NAMED})),
    arguments=st.tuples(NAMED_CITY, NAMED_CITY),
    around=st.tuples(AROUND, AROUND),
    data=st.data(),
)
def test_a_key_of_the_manifests_changes_nothing_but_which_arguments_tell_two_requests_apart(
    one: dict[str, Any], part: str, arguments: tuple[Any, Any], around: tuple[Any, Any], data: st.DataObject
) -> None:
    other, of = changed(one, part, data), port(False)
    same, unseen = alike(one, other, part)
    requests = (one | {"arguments": arguments[0]}, other | {"arguments": arguments[1]})
    first, second = (places(of, *asked, "keyed") for asked in zip(requests, around, strict=True))
    assert first
    if (same or unseen) and folded(arguments[0]) == folded(arguments[1]):
        assert first == second
    else:
        assert not first & second
