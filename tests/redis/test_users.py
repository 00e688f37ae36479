"""Users of Redis may do whatever is asked of it in their name: those that the operator makes, and one of yours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.kit.programs import ROOT
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_operator.masterkey import MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Stores, with_user
from mcpace_sidecar.conversations.redis import RedisConversations
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.sessions.record import Record
from mcpace_sidecar.sessions.redis import RedisRecords
from mcpace_sidecar.sessions.sealing import Owner

SERVER = Server(Key("default", "weather"), "uid", 1, {}, {})
CONFIG: dict[str, Any] = {
    "cache": {"tools": [{"name": "cached", "ttl": "1m", "scope": "shared"}]},
    "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 600, "requestsPerDay": 10}]},
}
BORN = Record(
    Owner("10.0.0.1", 18081, 1), 0, b"inner", b"2025-11-25", b"{}", b'"debug"', (b'"file:///"',), b"whose"
)


def rule_of_the_page() -> list[str]:
    """What the page says that a user of yours must be allowed."""
    page = (ROOT / "docs/howto/redis.md").read_text()
    (rule,) = re.findall(r"```text\n(on .*)\n```", page)
    return rule.split()


async def remembered(link: Link) -> None:
    """A session and a conversation begin, go on, and end."""
    records, conversations = RedisRecords(link), RedisConversations(link)
    done = asyncio.get_running_loop().create_future()
    records.write(b"k", BORN, done.set_result)
    await done
    records.end(b"k")
    conversations.asked(b"c", 1)
    done = asyncio.get_running_loop().create_future()
    assert conversations.continues(b"c", done.set_result) is None
    assert await done == 2


@asynccontextmanager
async def looked_at(settings: OperatorSettings) -> AsyncIterator[Stores]:
    """The operator's half."""
    stores = Stores(settings)
    await stores.check()
    yield stores
    await stores.close()


@pytest.mark.parametrize("whose", ["a server's own", "one of yours"])
@pytest.mark.parametrize("store", ["limits", "cache"])
async def test_a_user_may_do_whatever_is_asked_in_its_name(
    redis_server: RedisServer, start: Start, scripted: Scripted, store: str, whose: str
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    own = whose == "a server's own"
    url = redis_server.url if own else with_user(redis_server.url, "yours", "secret")
    async with AsyncExitStack() as closing:
        redis = closing.enter_context(redis_server.client())
        redis.execute_command("ACL SETUSER", "yours", "reset", ">secret", *rule_of_the_page())
        redis.acl_log_reset()
        settings = OperatorSettings(**{f"{store}_url": url}, master_key=MasterKey(b"k" * 32))
        stores = await closing.enter_async_context(looked_at(settings))
        given = await stores.credentials(SERVER)
        made = stores.limits or stores.cache
        assert made is not None
        assert made.up
        assert made.shared is not own
        urls = {"limits_url": given.limits_url, "cache_url": given.cache_url}
        both = [await start(scripted.port, CONFIG, name=str(SERVER.key), **urls) for _ in range(2)]
        for each in both:
            assert "result" in (await each.call("cached"))[2]
            await each.call("t")
        (link, *_) = both[0].links
        if store == "limits":
            await remembered(link)
            assert not redis.keys("*:session:*") or redis.hlen(redis.keys("*:session:*")[0]) == 1, (
                "what is known of it is gone"
            )
        else:
            both[0].plane.results.purge([b"all"])
            await until(lambda: any(c["sub"] == "1" for c in redis.client_list()), "purges to be heard")
        await link.ask(b"PING")
        assert link.up
        refused = [(entry["username"], entry["object"]) for entry in redis.acl_log()]
        assert set(refused) <= ({("yours", "acl|setuser")} if not own else set()), refused
