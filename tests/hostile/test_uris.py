"""A resource is limited however its URI is written."""

from typing import Any

import msgspec
import pytest
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer

RESOURCES = {
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1000}],
        "resources": [
            {"name": "db://reports/*", "requestsPerMinute": 2, "cost": 3},
            {"name": "HTTP://Files.Example:80/a/*", "requestsPerMinute": 2},
            {"name": "file:///a/*", "requestsPerMinute": 2},
        ],
    }
}


def read_of(uri: str, message_id: int = 7) -> Any:
    return {"jsonrpc": "2.0", "id": message_id, "method": "resources/read", "params": {"uri": uri}}


@pytest.mark.parametrize(
    "uri",
    [
        "DB://reports/q1",
        " db://reports/q1",
        "db://reports/q1\n",
        "\u0000\u001fdb://reports/q1",
        "d\tb://reports/q1",
        "db://rep\norts/q1",
        "db://reports/../reports/q1",
        "db://other/../reports/q1".replace("other/..", "reports/x/.."),
        "db://reports/./q1",
        "db://reports/%2e%2e/secret",
        "db://reports/../secret",
        "db://%72eports/q1",
        "db:%2F%2Freports/q1",
        "http://files.example:80/a/b",
        "http:\\\\files.example\\a\\b",
        "http:files.example/a/b",
        "http://files.example/x/../a/b",
        "http://files.example/%61/b",
        "http://FILES.example/a/b",
        "file:////a/b",
        "file:///..//a/b",
        "file:////%61/b",
        "file://localhost//a/b",
    ],
)
async def test_a_resource_is_limited_however_its_uri_is_written(
    scripted: Scripted, start: Start, uri: str
) -> None:
    """Two reads are allowed; written so that readers differ, it is refused or counted as the plain one."""
    reached: list[str] = []

    def answer(heard: Heard) -> bytes:
        message = heard.message
        if message.get("method") == "resources/read":
            reached.append(message["params"]["uri"])
        return json_answer(
            b'{"jsonrpc":"2.0","id":%b,"result":{}}' % msgspec.json.encode(message.get("id"))
        )

    scripted.answer = answer
    sidecar = await start(scripted.port, RESOURCES)
    for _ in range(4):
        status, _, body = await sidecar.post(read_of(uri))
        if status == 400:
            assert body["id"] == 7
            assert "write it so" in body["error"]["message"]
    assert len(reached) <= 2, reached


@pytest.mark.parametrize(
    "uri", ["db://reports/q1", "http://files.example/a/b", "db://reports/q%201", "file:///a//b"]
)
async def test_the_plain_spelling_of_a_resource_passes_up_to_its_limit(
    scripted: Scripted, start: Start, uri: str
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    sidecar = await start(scripted.port, RESOURCES)
    answers = [(await sidecar.post(read_of(uri)))[2] for _ in range(3)]
    assert ["result" in a for a in answers] == [True, True, False]


@pytest.mark.parametrize(
    "uri", ["urn:isbn:1", "no uri at all", "notes://a b/", "other://x/%41", "DB://other/q1", ""]
)
async def test_resources_without_limits_pass_however_they_are_written(
    scripted: Scripted, start: Start, uri: str
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":7,"result":{}}')
    sidecar = await start(scripted.port, RESOURCES)
    for _ in range(4):
        status, _, body = await sidecar.post(read_of(uri))
        assert (status, body["result"]) == (200, {})
    assert [h.message["params"]["uri"] for h in scripted.calls if b"resources/read" in h.body] == [uri] * 4
