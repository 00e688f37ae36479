"""An answer belongs to whoever could have fetched it: requests that differ in what may decide, never share one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit.deciding import BASE, PAIRS, PUBLIC, age, expected, post, running, seen, with_a_key
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import until

SHARED = ("query", "no query", "version", "arguments", "capabilities", *PUBLIC)
"""What tells answers apart even where the manifest says that they are everybody's."""


@pytest.fixture
def start(start: Start, tmp_path: Path) -> Start:
    return with_a_key(start, tmp_path)


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Any:
    return PAIRS[request.param]


@pytest.mark.parametrize("tool", ["t", "quick", "tolerant", "keyed"])
async def test_what_is_kept_for_one_is_never_given_to_another(
    scripted: Scripted, start: Start, pair: Any, tool: str
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other, other, one):
        assert seen(await post(sidecar, request, request.message(tool=tool))) == expected(request)
    assert echo.calls <= 4, "whoever has a credential is answered from the cache"


async def test_calls_in_flight_are_joined_by_none_that_another_could_not_have_made(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    echo.go.clear()
    calls = [
        asyncio.ensure_future(post(sidecar, request, request.message())) for request in (one, other, one)
    ]
    await until(lambda: echo.calls == 2, "both requests to reach the server")
    await sidecar.busy(3)
    echo.go.set()
    answers = await asyncio.gather(*calls)
    assert [seen(a) for a in answers] == [expected(one), expected(other), expected(one)]


@pytest.mark.parametrize("tool", ["tolerant", "quick"])
async def test_what_is_stale_stands_in_for_nobody_elses_call(
    scripted: Scripted, start: Start, pair: Any, tool: str
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    await post(sidecar, one, one.message(tool=tool))
    age(sidecar)
    echo.status = b"500 Internal Server Error"
    answer = await post(sidecar, other, other.message(tool=tool))
    assert seen(answer) == expected(other), "the server's own answer, though it is a 500"
    echo.status = b"200 OK"
    assert seen(await post(sidecar, one, one.message(tool=tool))) == expected(one)


async def test_a_refresh_is_made_as_its_caller_would_have(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other):
        await post(sidecar, request, request.message(tool="quick"))
    age(sidecar)
    before = echo.calls
    for request in (one, other):
        await post(sidecar, request, request.message(tool="quick"))
    await until(lambda: echo.calls >= before + 2, "both to be fetched anew")
    await until(lambda: not sidecar.plane.flights, "the new results to be kept")
    for request in (one, other):
        assert seen(await post(sidecar, request, request.message(tool="quick"))) == expected(request)


async def test_a_list_that_is_private_is_given_to_nobody_else(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other, one, other):
        answer = await post(sidecar, request, request.message("prompts/list"))
        assert seen(answer) == expected(request)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("version", "arguments", "capabilities")])
async def test_parts_of_a_batch_share_nothing_with_another_caller(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        messages = [request.message(), request.message() | {"id": 2}]
        answers = await post(sidecar, request, messages)
        assert [seen(a) for a in answers] == [expected(request)] * 2


async def test_calls_within_parallel_share_nothing_with_another_caller(
    scripted: Scripted, start: Start, pair: Any
) -> None:
    more, one, other = pair
    _, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        arguments = {"calls": [{"tool": "t", "arguments": request.arguments}] * 2}
        answer = await post(sidecar, request, request.message(tool="parallel", arguments=arguments))
        results = answer["result"]["structuredContent"]["results"]
        assert [seen({"result": r}) for r in results] == [expected(request)] * 2
        direct = await post(sidecar, request, request.message())
        assert seen(direct) == expected(request)


@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("arguments", "capabilities")])
async def test_the_pages_of_one_are_opened_by_nobody_else(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    _, sidecar = await running(scripted, start, more, one, other)
    first = await post(sidecar, one, one.message(tool="long"))
    handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
    wanted = {"handle": handle, "page": 2}
    answer = await post(sidecar, other, other.message(tool="next_page", arguments=wanted))
    assert answer["result"]["isError"]
    answer = await post(sidecar, one, one.message(tool="next_page", arguments=wanted))
    page = msgspec.json.decode(answer["result"]["content"][0]["text"])
    assert page["data"] == [expected(one)] * 2


@pytest.mark.parametrize("name", SHARED)
async def test_even_what_is_shared_is_told_apart_by_target_version_and_body(
    scripted: Scripted, start: Start, name: str
) -> None:
    more, one, other = PAIRS[name]
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other, one, other):
        assert seen(await post(sidecar, request, request.message(tool="shared"))) == expected(request)
    assert echo.calls == 2


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("for=192.0.2.1;host=a", "for=192.0.2.2;host=a", True),
        ('for="[2001:db8::1]:80";proto=https, for=192.0.2.1', "FOR=192.0.2.2; proto=https", True),
        ("for=192.0.2.1", "", True),
        ("for=192.0.2.1;host=a", "for=192.0.2.1;host=b", False),
        ("for=192.0.2.1", "for=192.0.2.1;proto=https", False),
        ('for="a;host=b"', 'for="a;host=c"', False),
        (r'for="a\";host=b;x="', r'for="a\";host=c;x="', False),
    ],
)
async def test_what_is_shared_is_told_apart_by_the_public_address_in_forwarded_alone(
    scripted: Scripted, start: Start, one: str, other: str, shares: bool
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for value in (one, other, one, other):
        await post(sidecar, BASE.given(Forwarded=value), BASE.message(tool="shared"))
    assert echo.calls == (1 if shares else 2)


async def test_what_is_shared_is_told_apart_by_the_host_that_the_server_sees(
    scripted: Scripted, start: Start
) -> None:
    public = {"publicURL": "https://a.example/mcp"}
    for more, calls in ((public, 1), (public | {"upstream": {"host": "preserve"}}, 2)):
        echo, sidecar = await running(scripted, start, more)
        for host in ("localhost", "127.0.0.1", "localhost"):
            await post(sidecar, BASE.given(Host=host), BASE.message(tool="shared"))
        assert echo.calls == calls


async def test_members_beside_those_of_json_rpc_are_kept_for_nobody(
    scripted: Scripted, start: Start
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for extra in ({}, {"tenant": "a"}, {"tenant": "b"}, {"tenant": "a"}):
        await post(sidecar, BASE, BASE.message(tool="shared") | extra)
    assert echo.calls == 4


@pytest.mark.parametrize("tool", ["t", "shared"])
@pytest.mark.parametrize(
    "more",
    [
        {"X_Request_Id": "{}"},
        {"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e473{}-00f067aa0ba902b7-01"},
        {"Tracestate": "a={}"},
        {"User_Agent": "client/{}"},
        {"Accept": "application/json, text/event-stream;q=0.{}"},
        {"X_Forwarded_For": "192.0.2.{}", "X_Real_IP": "192.0.2.{}", "Forwarded": "for=192.0.2.{};host=a"},
        {"X_Request_Id": "{}", "X_Correlation_Id": "{}", "User_Agent": "{}"},
    ],
    ids=["request id", "trace", "trace state", "user agent", "accept", "way", "all of them"],
)
async def test_what_decides_nothing_makes_no_difference(
    scripted: Scripted, start: Start, tool: str, more: dict[str, str]
) -> None:
    echo, sidecar = await running(scripted, start, {})
    for number in range(4):
        request = BASE.given(**{name: value.format(number) for name, value in more.items()})
        request = replace(request, meta={"progressToken": number, "traceparent": f"00-{number}"})
        assert seen(await post(sidecar, request, request.message(tool=tool))) == expected(request)
    assert echo.calls == 1
