"""Pages that any replica hands out, kept in a real Redis."""

from __future__ import annotations

import pytest
from tests.kit.paging import ITEMS, PAGED, answer_with, next_page
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted


@pytest.mark.parametrize("size", [2_200_000, 4_180_000])
@pytest.mark.parametrize("redis", [False, True])
async def test_a_result_up_to_the_largest_is_paged_though_no_cache_is_written(
    scripted: Scripted, start: Start, redis_server: RedisServer, size: int, redis: bool
) -> None:
    scripted.answer = answer_with(
        {"content": [], "structuredContent": {"result": ["x" * 97] * (size // 100)}}
    )
    url = redis_server.url if redis else None
    sidecars = [await start(scripted.port, PAGED, cache_url=url) for _ in range(1 + redis)]
    handles = []
    for _ in range(2):
        page = (await sidecars[0].call("list"))[2]["result"]["structuredContent"]
        assert page["total"] == size // 100
        handles.append(page["handle"])
    for handle in handles:
        last = await next_page(sidecars[-1], handle, page["total_pages"])
        assert last["structuredContent"]["page"] == page["total_pages"]


async def test_a_page_is_read_from_any_replica_with_the_same_credential_alone(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    scripted.answer = answer_with({"content": [], "structuredContent": {"result": ITEMS}})
    one, other = [await start(scripted.port, PAGED, cache_url=redis_server.url) for _ in range(2)]
    anna, bert = {"Authorization": "Bearer anna"}, {"Authorization": "Bearer bert"}
    _, _, body = await one.call("list", **anna)
    handle = body["result"]["structuredContent"]["handle"]
    page = await next_page(other, handle, 3, headers=anna)
    assert page["structuredContent"]["data"] == ITEMS[200:]
    for headers in (bert, {}):
        page = await next_page(other, handle, 3, headers=headers)
        assert page["isError"] is True
        assert "call the tool again" in page["content"][0]["text"]
