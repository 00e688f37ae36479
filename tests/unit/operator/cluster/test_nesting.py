"""JSON that is nested thousands deep: an API server stores it, and no reader may end of it."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tools.ports import free_port

from mcpace_operator.cluster.nesting import DEEPEST, ShallowResponse, decoded, shallow


def nested(levels: int, beside: str = '"b": "}]{["') -> bytes:
    return ('{"a": [' * (levels // 2) + "1" + f"], {beside}}}" * (levels // 2)).encode()


def depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
        deepest += 1
    return deepest


@pytest.mark.parametrize("levels", [250, 3_000, 9_900])
def test_what_is_nested_too_deeply_is_left_out_and_all_else_is_read(levels: int):
    text = b'{"metadata": {"name": "one"}, "spec": ' + nested(levels) + b', "status": {"url": "there"}}'
    body = decoded(text)
    assert body["metadata"]["name"] == "one"
    assert body["status"]["url"] == "there"
    assert body["spec"]["b"] == "}]{["
    assert depth(body) <= DEEPEST + 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_nested_as_usual_is_as_it_was(value: Any):
    for ascii_ in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
        assert shallow(text) == text
        if b"\\ud" not in text:  # halves of a pair, which no API server stores
            assert decoded(text) == value


async def test_a_watch_goes_on_over_an_object_that_is_nested_too_deeply():
    lines = [b'{"type": "ADDED", "object": ' + nested(levels) + b"}" for levels in (4, 9_000, 6)]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for line in lines:
            await response.write(line[:1000])
            await response.write(line[1000:] + b"\n")
        return response

    app, port = web.Application(), free_port()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(response_class=ShallowResponse) as session:
            got = b""
            async with session.get(f"http://127.0.0.1:{port}/?watch=true") as watch:
                async for piece in watch.content.iter_chunked(1 << 20):
                    got += piece
            first, second, third = [decoded(line) for line in got.splitlines()]
            assert json.loads(lines[0]) == first
            assert depth(second) <= DEEPEST + 2
            assert json.loads(lines[2]) == third
    finally:
        await runner.cleanup()
