"""Large results in pages, on the wire."""

from typing import Any

import msgspec
import pytest
from tests.kit.paging import ITEMS, PAGED, answer_with, next_page
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted


async def read_all(sidecar: Running, result: Any, **more: Any) -> list[Any]:
    first = msgspec.json.decode(result["content"][0]["text"])
    size = more.get("page_size", first["page_size"])
    items = list(first["data"])
    read = len(items)
    assert first["showing"] == read
    number = read // size + 1 if size < read else 2
    if "page_size" in more:
        items, number = [], 1
    while True:
        page = await next_page(sidecar, first["handle"], number, **more)
        if page.get("isError"):
            return items
        items += msgspec.json.decode(page["content"][0]["text"])["data"]
        number += 1


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": msgspec.json.encode(ITEMS).decode()}]},
        {"content": [], "structuredContent": {"result": ITEMS}},
        {
            "content": [{"type": "text", "text": msgspec.json.encode({"result": ITEMS}).decode()}],
            "structuredContent": {"result": ITEMS},
        },
        {
            "content": [{"type": "text", "text": msgspec.json.encode(item).decode()} for item in ITEMS],
            "structuredContent": {"result": ITEMS},
        },
        {"content": [{"type": "text", "text": msgspec.json.encode({"found": ITEMS, "of": "x"}).decode()}]},
    ],
    ids=["text", "structured", "both", "item by item", "in an object"],
)
async def test_a_long_array_comes_in_pages_and_nothing_is_lost(
    scripted: Scripted, start: Start, result: dict[str, Any]
) -> None:
    scripted.answer = answer_with(result)
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.call("list")
    first = msgspec.json.decode(body["result"]["content"][0]["text"])
    assert (first["total"], first["showing"], first["page"]) == (250, 100, 1)
    assert (first["page_size"], first["total_pages"]) == (100, 3)
    assert "next_page" in first["message"]
    assert len(body["result"]["content"]) == 1
    assert ("structuredContent" in body["result"]) == ("structuredContent" in result)
    if "structuredContent" in result:
        assert body["result"]["structuredContent"] == first
    assert await read_all(sidecar, body["result"]) == ITEMS
    assert await read_all(sidecar, body["result"], page_size=33) == ITEMS
    assert len(scripted.calls) == 1, "pages cost the server nothing"


async def test_images_and_other_texts_stay_on_the_first_page(scripted: Scripted, start: Start) -> None:
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    link = {"type": "resource_link", "uri": "a://b", "name": "b"}
    note = {"type": "text", "text": "measured by hand"}
    result = {
        "content": [note, image, link],
        "structuredContent": {"rows": ITEMS, "unit": "m"},
        "_meta": {"a": 1},
    }
    scripted.answer = answer_with(result)
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.call("list")
    assert body["result"]["content"][1:] == [note, image, link]
    assert body["result"]["structuredContent"]["rest"] == {"unit": "m"}
    assert body["result"]["_meta"] == {"a": 1}


async def test_a_long_text_comes_in_pages_and_nothing_is_lost(scripted: Scripted, start: Start) -> None:
    text = "".join(f"line {n}: ø\n" for n in range(20_000))
    scripted.answer = answer_with({"content": [{"type": "text", "text": text}]})
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.call("list")
    first = msgspec.json.decode(body["result"]["content"][0]["text"])
    assert first["total"] == len(text)
    read = first["data"]
    for number in range(2, first["total_pages"] + 1):
        page = await next_page(sidecar, first["handle"], number)
        read += msgspec.json.decode(page["content"][0]["text"])["data"]
    assert read == text


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": msgspec.json.encode(ITEMS[:100]).decode()}]},
        {"content": [{"type": "text", "text": "short"}]},
        {"content": [{"type": "text", "text": msgspec.json.encode(ITEMS).decode()}], "isError": True},
        {"resultType": "input_required", "inputRequests": {}, "structuredContent": {"a": ITEMS}},
    ],
)
async def test_what_is_short_or_no_result_passes_whole(
    scripted: Scripted, start: Start, result: dict[str, Any]
) -> None:
    scripted.answer = answer_with(result)
    sidecar = await start(scripted.port, PAGED)
    assert (await sidecar.call("list"))[2]["result"] == result


async def test_other_tools_are_not_paged(scripted: Scripted, start: Start) -> None:
    result = {"content": [], "structuredContent": {"result": ITEMS}}
    scripted.answer = answer_with(result)
    sidecar = await start(scripted.port, PAGED)
    assert (await sidecar.call("other"))[2]["result"] == result


async def test_a_result_larger_than_can_be_held_passes_whole(scripted: Scripted, start: Start) -> None:
    result = {"content": [{"type": "text", "text": "x" * 9_000_000}]}
    scripted.answer = answer_with(result)
    sidecar = await start(scripted.port, PAGED)
    assert (await sidecar.call("list"))[2]["result"] == result


async def test_the_list_of_tools_promises_only_what_pages_keep(scripted: Scripted, start: Start) -> None:
    scripted.answer = answer_with({})
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    tools = {tool["name"]: tool for tool in body["result"]["tools"]}
    assert set(tools) == {"list", "other", "next_page"}
    assert "outputSchema" not in tools["list"]
    assert "outputSchema" in tools["other"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"handle": "0" * 32, "page": 1}, "unknown or has expired"),
        ({"handle": 7, "page": 1}, "Expected `str`"),
        ({"page": 1}, "missing required field `handle`"),
        ({"handle": "HANDLE", "page": 0}, "pages are 1 to 3"),
        ({"handle": "HANDLE", "page": 4}, "pages are 1 to 3"),
        ({"handle": "HANDLE", "page": 1, "page_size": 0}, "1 to 100"),
    ],
)
async def test_next_page_says_what_is_wrong(
    scripted: Scripted, start: Start, arguments: dict[str, Any], words: str
) -> None:
    scripted.answer = answer_with({"content": [], "structuredContent": {"result": ITEMS}})
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.call("list")
    if arguments.get("handle") == "HANDLE":
        arguments = arguments | {"handle": body["result"]["structuredContent"]["handle"]}
    _, _, body = await sidecar.call("next_page", arguments)
    assert body["result"]["isError"] is True
    assert words in body["result"]["content"][0]["text"]


async def test_a_page_holds_at_most_100_items_whatever_is_asked(scripted: Scripted, start: Start) -> None:
    scripted.answer = answer_with({"content": [], "structuredContent": {"result": ITEMS}})
    sidecar = await start(scripted.port, PAGED)
    _, _, body = await sidecar.call("list")
    handle = body["result"]["structuredContent"]["handle"]
    page = await next_page(sidecar, handle, 1, page_size=10_000)
    assert page["structuredContent"]["showing"] == 100


async def test_a_cached_result_is_paged_for_each_caller(scripted: Scripted, start: Start) -> None:
    scripted.answer = answer_with({"content": [], "structuredContent": {"result": ITEMS}})
    cache = {"cache": {"tools": [{"name": "list", "ttl": "1m", "scope": "shared"}]}}
    sidecar = await start(scripted.port, PAGED | cache)
    handles = set()
    for who in ("anna", "bert"):
        headers = {"Authorization": f"Bearer {who}"}
        _, _, body = await sidecar.call("list", **headers)
        handle = body["result"]["structuredContent"]["handle"]
        handles.add(handle)
        assert (await next_page(sidecar, handle, 2, headers=headers))["structuredContent"]["page"] == 2
    assert len(handles) == 2
    assert len(scripted.calls) == 1
