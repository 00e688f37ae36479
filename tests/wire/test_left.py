"""What clients have left of their limits, as the admin port tells it, and how one has all of them again."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.kit.calls import ANSWER, tier
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer

HERE = "addr:127.0.0.1"
LIMITED = {
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 50, "requestsPerDay": 10}],
        "tools": [{"name": "t", "requestsPerMinute": 1}],
    }
}


async def reset(sidecar: Running, body: object, **headers: str) -> tuple[int, str]:
    encoded = msgspec.json.encode(body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST /limits/reset HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(encoded)}\r\n\r\n"
    )
    raw = await sidecar.raw(head.encode() + encoded, port=sidecar.admin)
    top, _, said = raw.partition(b"\r\n\r\n")
    return int(top.split()[1]), said.decode()


async def left(sidecar: Running, query: str = "") -> dict[str, Any]:
    status, told = await sidecar.admin_get(f"/limits{query}")
    assert status == 200, told
    return dict(told)


async def test_a_refused_client_is_told_of_and_has_all_of_its_limits_again(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, LIMITED)
    scripted.answer = lambda _: json_answer(ANSWER)
    assert (await left(sidecar)) == {"clients": [], "more": 0, "limited": True, "shared": False}
    assert "result" in (await sidecar.call("t"))[2]
    assert "error" in (await sidecar.call("t"))[2]

    (client,) = (await left(sidecar))["clients"]
    assert (client["client"], client["tier"]) == (HERE, "free")
    limits = {each["limit"]: each for each in client["limits"]}
    assert {name: each["of"] for name, each in limits.items()} == {"minute": 50, "day": 10, "tool t": 1}
    assert limits["day"]["left"] == 9
    assert limits["day"]["wholeSeconds"] > 0
    (named,) = (await left(sidecar, "?client=addr%3A127.0.0.1"))["clients"]
    assert named["client"] == HERE
    assert (await left(sidecar, "?client=nobody"))["clients"] == [], "of whom nothing was taken"

    assert await reset(sidecar, {"client": HERE}) == (200, '{"reset": "addr:127.0.0.1"}')
    (client,) = (await left(sidecar))["clients"]
    assert all(each["left"] == each["of"] and each["wholeSeconds"] == 0 for each in client["limits"])
    assert "result" in (await sidecar.call("t"))[2]


async def test_what_all_clients_share_is_no_clients_own(scripted: Scripted, start: Start) -> None:
    shared = tier(50, tools=[{"name": "t", "requestsPerMinute": 1, "per": "server"}])
    sidecar = await start(scripted.port, shared)
    scripted.answer = lambda _: json_answer(ANSWER)
    assert "result" in (await sidecar.call("t"))[2]
    (client,) = (await left(sidecar))["clients"]
    assert [each["limit"] for each in client["limits"]] == ["minute"]
    assert (await reset(sidecar, {"client": HERE}))[0] == 200
    assert "error" in (await sidecar.call("t"))[2]


async def test_limits_are_told_and_reset_for_the_tokens_holder_alone(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, LIMITED, admin_token="t0ken")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Mcpace-Admin-Token": "wrong"}):
        assert (await sidecar.admin_get("/limits", **headers))[0] == 401
        assert (await reset(sidecar, {"client": HERE}, **headers))[0] == 401
    for headers in ({"Authorization": "Bearer t0ken"}, {"Mcpace-Admin-Token": "t0ken"}):
        assert (await sidecar.admin_get("/limits", **headers))[0] == 200
        assert (await sidecar.admin_get("/stats", **headers))[0] == 200
        assert (await reset(sidecar, {"client": HERE}, **headers))[0] == 200


async def test_without_limits_there_is_nothing_to_reset_and_a_wrong_body_is_told_what_to_send(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port)
    assert (await left(sidecar))["limited"] is False
    assert (await reset(sidecar, {"client": HERE}))[0] == 400
    for body in ({}, {"client": 1}, {"client": HERE, "all": True}, []):
        status, said = await reset(sidecar, body)
        assert (status, 'Send {"client"' in said) == (400, True), body
