"""Pages of what is large or odd: cut in bounded time and memory, nothing lost, nothing within a character."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.work import assert_linear

from mcpace_sidecar.call.book import Book, first_page, later_page
from mcpace_sidecar.call.page_rate import A_MINUTE, PageRate
from mcpace_sidecar.call.paging import LARGEST, MAX_ITEMS, MAX_RESULT, paginate
from mcpace_sidecar.call.policies import PageRule
from mcpace_sidecar.call.settings import UNASKED_PAGES
from mcpace_sidecar.contract.config.traffic import PagedTool

RULE = PageRule(PagedTool.model_validate({"name": "t", "items": 100, "bytes": "64Ki"}))
PAGED = {"responses": {"page": {"tools": [{"name": "t", "items": 100, "bytes": "64Ki"}]}}}
MIB = 1024 * 1024


def encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


def with_text(text: str, structured: Any = None) -> bytes:
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if structured is not None:
        result["structuredContent"] = structured
    return encoded(result)


def array(item: bytes, size: int) -> bytes:
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


def structured(document: bytes) -> bytes:
    return b'{"content":[],"structuredContent":{"result":%b}}' % document


def all_of(result: bytes, rule: PageRule = RULE) -> tuple[dict[str, Any], list[Any]]:
    """The first page's result, and the data of every page."""
    cut = paginate(result, rule)
    assert cut is not None
    first = msgspec.json.decode(first_page(*cut, "h", "next_page"))
    said = msgspec.json.decode(first["content"][0]["text"])
    data = [said["data"]]
    for number in range(2, said["total_pages"] + 1):
        page = msgspec.json.decode(later_page(cut[0], number, None, "h", "next_page"))
        data.append(msgspec.json.decode(page["content"][0]["text"])["data"])
    return first, data


ROW = b'{"id":1,"name":"%b","at":1.10}' % (b"station" * 14)
KINDS: dict[str, Any] = {
    "numbers": lambda n: structured(array(b"1", n)),
    "strings": lambda n: structured(array(b'"a"', n)),
    "empty objects": lambda n: structured(array(b"{}", n)),
    "an object and numbers": lambda n: structured(b"[ {}," + array(b"1", n)[1:]),
    "rows": lambda n: structured(array(ROW, n)),
    "rows in a text": lambda n: with_text(array(ROW, n).decode()),
    "text": lambda n: with_text("hello world\n" * (n // 12)),
    "text without lines": lambda n: with_text("h" * n),
    "wide text": lambda n: with_text("\U0001f600" * (n // 4)),
    "control characters": lambda n: with_text("\x01" * (n // 6)),
    "many texts": lambda n: b'{"content":%b}' % array(b'{"type":"text","text":"a line"}', n),
    "a string of a tool": lambda n: with_text("a: b\n" * (n // 10), {"result": "a: b\n" * (n // 10)}),
    "members": lambda n: b'{"content":[],"structuredContent":{%b}}' % array(b'"k":1', n)[1:-1],
    "members of the result": lambda n: b"{%b}" % array(b'"k":1', n)[1:-1],
    "nested": lambda n: structured(b"[" * (n // 2) + b"]" * (n // 2)),
    "pretty and structured": lambda n: with_text(
        msgspec.json.format(array(ROW, n // 2), indent=2).decode(),
        {"result": msgspec.Raw(array(ROW, n // 2))},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_takes_work_in_proportion_to_the_bytes(kind: str) -> None:
    assert_linear(KINDS[kind], lambda result: paginate(result, RULE), 256 * 1024)


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_the_largest_result_takes_a_few_times_its_bytes(kind: str) -> None:
    result = KINDS[kind](MAX_RESULT * 3 // 4)
    assert len(result) <= MAX_RESULT
    tracemalloc.start()
    try:
        paginate(result, RULE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 7 * len(result), f"{peak / len(result):.1f} times the result"


@pytest.mark.parametrize("size", [MIB, 3 * MIB])
def test_a_page_costs_what_it_is_long_however_long_the_result_is(size: int) -> None:
    for result in (structured(array(ROW, size)), with_text("hello world\n" * (size // 12))):
        cut = paginate(result, RULE)
        assert cut is not None
        tracemalloc.start()
        try:
            later_page(cut[0], 2, 7, "h", "next_page")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MIB


def test_more_items_than_are_paged_pass_whole() -> None:
    assert paginate(structured(encoded([1] * (MAX_ITEMS + 1))), RULE) is None
    assert paginate(structured(encoded([{}] * (MAX_ITEMS + 1))), RULE) is None
    assert paginate(structured(encoded([1] * MAX_ITEMS)), RULE) is not None
    rows = [{"a": 1, "b": 2, "c": "x" * 10}] * (MAX_ITEMS - 1)
    assert paginate(structured(encoded(rows)), RULE) is not None, "three commas each, but fewer rows"


def test_what_a_python_tool_returns_as_a_string_is_paged_though_structured_content_repeats_it() -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    first, data = all_of(with_text(text, {"result": text}))
    assert "".join(data) == text
    assert len(data) > 1
    assert first["structuredContent"]["data"] == data[0]
    assert len(encoded(first)) < 3 * 64 * 1024


@pytest.mark.parametrize("name", ["result", "text", "output"])
def test_the_name_that_structured_content_gives_a_text_makes_no_difference(name: str) -> None:
    text = "word " * 40_000
    first, data = all_of(with_text(text, {"ok": True, name: text}))
    assert "".join(data) == text
    assert text not in str(first)


def test_a_large_text_is_paged_beside_structured_items_that_are_few() -> None:
    text = "a line of the log\n" * 10_000
    items = {"items": [{"id": 1}, {"id": 2}]}
    first, data = all_of(with_text(text, items))
    assert "".join(data) == text
    assert first["structuredContent"] == items, "it stays as it is"
    assert len(encoded(first)) < 2 * 64 * 1024


def test_large_structured_items_are_paged_beside_a_text_that_is_small() -> None:
    items = [{"id": n, "name": "x" * 40} for n in range(5000)]
    first, data = all_of(with_text("5000 items", {"items": items, "unit": "m"}))
    assert [item for page in data for item in page] == items
    assert first["content"][1:] == [{"type": "text", "text": "5000 items"}]
    assert first["structuredContent"]["rest"] == {"unit": "m"}


def test_a_json_array_in_the_string_of_a_tool_is_paged_item_by_item() -> None:
    items = [{"id": n} for n in range(5000)]
    text = encoded(items).decode()
    first, data = all_of(with_text(text, {"result": text}))
    assert [item for page in data for item in page] == items
    assert text not in str(first)


CHARACTERS = st.sampled_from(
    ["a", "\n", "\r\n", "é", "€", "\U0001f600", "e\u0301", '"', "\\", "\x00", "\u2028"]
)


@given(text=st.lists(CHARACTERS, min_size=20, max_size=400).map("".join), size=st.integers(1, 19))
def test_texts_are_cut_between_characters_wherever_the_cut_falls(text: str, size: int) -> None:
    rule = PageRule(PagedTool.model_validate({"name": "t", "bytes": size}))
    _, data = all_of(with_text(text), rule)
    assert "".join(data) == text
    assert all(len(piece.encode()) <= max(size, 4) for piece in data)


@given(
    lengths=st.lists(st.integers(0, 40), min_size=2, max_size=80),
    size=st.integers(10, 200),
    page_size=st.integers(1, 100),
)
def test_every_page_keeps_to_the_bytes_whatever_size_is_asked_for(lengths, size, page_size) -> None:
    items = ["x" * length for length in lengths]
    rule = PageRule(PagedTool.model_validate({"name": "t", "bytes": size}))
    cut = paginate(encoded({"content": [], "structuredContent": {"result": items}}), rule)
    if cut is None:
        return
    book, number, read = Book(cut[0]), 0, []
    while len(read) < len(items):
        number += 1
        page = msgspec.json.decode(later_page(cut[0], number, page_size, "h", "n"))["structuredContent"]
        read += page["data"]
        assert len(page["data"]) == 1 or len(encoded(page["data"])) <= size + 1
        assert len(page["data"]) <= book.largest
    assert read == items


def test_two_of_the_largest_books_are_held_where_no_cache_is_written() -> None:
    assert UNASKED_PAGES > 2 * (LARGEST + 1000)


async def paged(sidecar: Running, page: int, handle: str) -> Any:
    return (await sidecar.call("next_page", {"handle": handle, "page": page}))[2]["result"]


def serve(scripted: Scripted, result: bytes) -> None:
    def answer(heard: Heard) -> bytes:
        message_id = encoded(heard.message.get("id"))
        return json_answer(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (message_id, result))

    scripted.answer = answer


async def test_the_pages_of_one_result_are_read_up_to_a_bound_of_their_own(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, PAGED)
    serve(scripted, structured(encoded([1] * 1000)))
    handles = []
    for _ in range(2):
        _, _, body = await sidecar.call("t")
        handles.append(msgspec.json.decode(body["result"]["content"][0]["text"])["handle"])
    rate = sidecar.plane.page_rate
    place = next(key for key in sidecar.memory._entries)
    while not rate.wait(place):
        pass
    refused = await paged(sidecar, 2, handles[0])
    assert refused["isError"]
    assert "too fast: retry in" in refused["content"][0]["text"]
    assert not (await paged(sidecar, 2, handles[1])).get("isError"), "another result's are read as before"


def test_turns_come_back_with_time_and_are_remembered_up_to_a_bound() -> None:
    now = 0.0
    rate = PageRate(lambda: now)
    assert sum(rate.wait(b"a") == 0 for _ in range(A_MINUTE + 50)) == A_MINUTE
    assert 0 < rate.wait(b"a") <= 0.1 + 1e-9
    now += 1.0
    assert sum(rate.wait(b"a") == 0 for _ in range(50)) == A_MINUTE // 60
    for number in range(30_000):
        rate.wait(b"%d" % number)
    assert len(rate) <= 10_000


async def test_handles_that_are_guessed_leave_nothing_behind(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    sidecar = await start(scripted.port, PAGED, cache_url=redis_server.url)
    for number in range(20):
        page = await paged(sidecar, 1, f"guess {number}")
        assert "unknown or has expired" in page["content"][0]["text"]
    assert not sidecar.plane.results._leading


async def test_a_result_of_tiny_items_passes_whole_and_calls_go_on(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, PAGED)
    serve(scripted, structured(array(b"1", 6 * MIB)))
    _, _, body = await sidecar.call("t")
    assert len(body["result"]["structuredContent"]["result"]) == 3 * MIB
