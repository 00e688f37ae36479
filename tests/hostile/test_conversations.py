"""Calls that go on after the server has asked something: counted once, at any replica, and never without end."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
import redis
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.conversations.memory import REMEMBERED, ROUNDS, Conversations
from mcpace_sidecar.conversations.questions import PATIENCE


def limited(per_minute: int) -> dict[str, Any]:
    return {"rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": per_minute}]}}


class Asking:
    """A server of 2026-07-28 that asks something before it answers."""

    def __init__(self, scripted: Scripted, form: str) -> None:
        self.form = form
        self.states = 0
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        message = heard.message
        if message.get("method") not in ("tools/call", "prompts/get"):
            yield json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
            return
        params = message["params"]
        if params.get("requestState") and params["requestState"] != "more":
            result: Any = {"resultType": "complete", "content": []}
        else:
            self.states += 1
            result = {
                "resultType": "input_required",
                "inputRequests": {"a": {}},
                "requestState": f"state {self.states} \u00e9",
            }
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], "result": result})
        if self.form == "whole":
            yield json_answer(body)
        else:
            yield (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                b"data: " + body + b"\n\n"
            )
            heard.writer.close()


def asked(state: str | None = None, tool: str = "t", method: str = "tools/call") -> Any:
    params: dict[str, Any] = {"name": tool, "arguments": {}}
    if state is not None:
        params |= {"requestState": state, "inputResponses": {"a": {}}}
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


@pytest.mark.parametrize("form", ["whole", "event"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
async def test_a_call_that_goes_on_is_counted_once(
    scripted: Scripted, start: Start, form: str, method: str
) -> None:
    Asking(scripted, form)
    sidecar = await start(scripted.port, limited(1))
    modern = {"MCP_Protocol_Version": "2026-07-28"}
    _, _, body = await sidecar.post(asked(method=method), **modern)
    raw = (
        body
        if isinstance(body, dict)
        else json.JSONDecoder().raw_decode(body.decode()[body.index(b"{") :])[0]
    )
    state = raw["result"]["requestState"]
    _, _, refused = await sidecar.post(asked("made up", method=method), **modern)
    assert refused["error"]["code"] == 42900
    _, _, refused = await sidecar.post(asked(state, tool="another", method=method), **modern)
    assert refused["error"]["code"] == 42900
    _, _, refused = await sidecar.post(asked(state, method=method), Authorization="Bearer x", **modern)
    assert refused["error"]["code"] == 42900
    _, _, body = await sidecar.post(asked(state, method=method), **modern)
    assert b"complete" in (body if isinstance(body, bytes) else msgspec.json.encode(body))
    _, _, refused = await sidecar.post(asked(state, method=method), **modern)
    assert refused["error"]["code"] == 42900, "each question lets one call pass"


MODERN_CALL = {"MCP_Protocol_Version": "2026-07-28"}


async def test_a_call_goes_on_at_any_replica_and_at_one_alone(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    Asking(scripted, "whole")
    one, other = [
        await start(scripted.port, limited(1), limits_url=redis_server.url, leasing=False) for _ in range(2)
    ]
    _, _, body = await one.post(asked(), **MODERN_CALL)
    state = body["result"]["requestState"]
    _, _, refused = await other.post(asked("made up"), **MODERN_CALL)
    assert refused["error"]["code"] == 42900
    answers = await asyncio.gather(
        *(sidecar.post(asked(state), **MODERN_CALL) for sidecar in (other, one, other, one))
    )
    bodies = [body for _, _, body in answers]
    assert [b["result"]["resultType"] for b in bodies if "result" in b] == ["complete"], bodies
    assert [b["error"]["code"] for b in bodies if "error" in b] == [42900] * 3
    with redis.Redis(port=redis_server.port) as client:
        assert not list(client.scan_iter("*:asked:*")), "what has gone on is forgotten"


async def test_what_was_asked_while_redis_was_down_goes_on_where_it_was_asked(
    scripted: Scripted, start: Start, redis_server: RedisServer
) -> None:
    Asking(scripted, "whole")
    sidecar = await start(scripted.port, limited(1), limits_url=redis_server.url)
    redis_server.stop()
    await until(lambda: up(sidecar, 0.0), "Redis to be missed")
    _, _, body = await sidecar.post(asked(), **MODERN_CALL)
    redis_server.start()
    await until(lambda: up(sidecar, 1.0), "Redis to be found")
    _, _, done = await sidecar.post(asked(body["result"]["requestState"]), **MODERN_CALL)
    assert done["result"]["resultType"] == "complete"
    _, _, counted = await sidecar.post(asked(), **MODERN_CALL)
    assert "result" in counted, "what went on has taken nothing of the new bucket"
    _, _, refused = await sidecar.post(asked(), **MODERN_CALL)
    assert refused["error"]["code"] == 42900


async def up(sidecar: Running, value: float) -> bool:
    return (await sidecar.metrics())['mcpace_redis_up{store="limits"}'] == value


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "two replicas in turn"])
async def test_a_conversation_without_end_is_counted_again_and_again(
    scripted: Scripted, start: Start, redis_server: RedisServer, shared: bool
) -> None:
    questions = 0

    def ask(heard: Heard) -> bytes:
        nonlocal questions
        questions += 1
        result = {"resultType": "input_required", "requestState": f"s{questions}", "inputRequests": {}}
        return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 7, "result": result}))

    scripted.answer = ask
    urls = [redis_server.url] * 2 if shared else [None]
    sidecars = [await start(scripted.port, limited(2), limits_url=url, leasing=False) for url in urls]
    _, _, body = await sidecars[0].post(asked(), **MODERN_CALL)
    before = questions
    for number in range(3 * ROUNDS):
        sidecar = sidecars[number % len(sidecars)]
        _, _, body = await sidecar.post(asked(body["result"]["requestState"]), **MODERN_CALL)
        if "error" in body:
            break
    assert body["error"]["code"] == 42900
    assert questions - before == 2 * ROUNDS + 1, "each of two counted calls covers so many questions"


def test_questions_are_remembered_up_to_a_bound_and_for_a_time() -> None:
    now = 0.0
    conversations = Conversations(lambda: now)
    for number in range(2 * REMEMBERED):
        conversations.asked(b"%d" % number, 0)
    assert len(conversations) <= REMEMBERED
    assert conversations.continues(b"%d" % (2 * REMEMBERED - 1))
    assert not conversations.continues(b"0")
    now = PATIENCE + 1
    assert not conversations.continues(b"%d" % (2 * REMEMBERED - 2))
