"""Whose a result is by its credential: a token, a gateway's word beside it, and one that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit.deciding import BASE, PAIRS, PUBLIC, post, running, seen, with_a_key
from tests.kit.issuer import AUDIENCE, ISSUER, RSA_KEY, Issuer
from tests.kit.sharing import GATEWAY
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted

THE_SAME_PERSON = ("session", "version", "arguments", "capabilities", *PUBLIC)
"""What tells answers apart, and not whose they are."""


@pytest.fixture
def start(start: Start, tmp_path: Path) -> Start:
    return with_a_key(start, tmp_path)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys = {"one": RSA_KEY}
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.mark.parametrize(
    ("more", "one", "other", "shares"),
    [
        ({"clientClaim": "azp"}, {"sub": "anna"}, {"sub": "bert"}, False),
        ({}, {"sub": "anna", "azp": "x"}, {"sub": "anna", "azp": "y"}, True),
        ({"clientClaim": "azp"}, {"azp": "app"}, {"azp": "other"}, False),
        ({"tierClaim": "plan"}, {"plan": "free"}, {"plan": "pro"}, False),
        ({}, {"iat": 1}, {"iat": 2}, True),
        ({"forward": True}, {"scope": "read write"}, {"scope": "read"}, False),
    ],
    ids=["subject", "another claim", "client", "tier", "renewed", "forwarded and of less scope"],
)
@pytest.mark.parametrize("paged", [False, True])
async def test_a_verified_token_is_its_issuer_subject_and_client_and_itself_where_it_is_forwarded(
    scripted: Scripted,
    start: Start,
    issuer: Issuer,
    more: Any,
    one: Any,
    other: Any,
    shares: bool,
    paged: bool,
) -> None:
    more = dict(more)
    clients = {
        "forwardCredential": more.pop("forward", False),
        "jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url} | more,
    }
    echo, sidecar = await running(scripted, start, {"clients": clients})
    requests = [
        BASE.given(Authorization=f"Bearer {issuer.token(**({'azp': 'app'} | claims))}")
        for claims in (one, other)
    ]
    if paged:
        first = await post(sidecar, requests[0], BASE.message(tool="long"))
        handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
        wanted = {"handle": handle, "page": 2}
        answer = await post(sidecar, requests[1], BASE.message(tool="next_page", arguments=wanted))
        assert bool(answer["result"].get("isError")) != shares
        return
    for request in (*requests, *requests):
        await post(sidecar, request, request.message())
    assert echo.calls == (1 if shares else 2)


async def test_whom_a_gateway_names_beside_a_verified_token_has_answers_of_his_own(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url}
    echo, sidecar = await running(scripted, start, {"clients": GATEWAY["clients"] | {"jwt": jwt}})
    token = BASE.given(Authorization=f"Bearer {issuer.token(sub='anna')}")
    requests = [token.given(X_Gateway_Client="a"), token.given(X_Gateway_Client="b"), token]
    for request in (*requests, *requests):
        answer = seen(await post(sidecar, request, request.message()))
        wanted = request.headers.get("X-Gateway-Client")
        assert answer["headers"].get("x-gateway-client") == wanted
    assert echo.calls == 3
    first = await post(sidecar, requests[0], BASE.message(tool="long"))
    handle = msgspec.json.decode(first["result"]["content"][0]["text"])["handle"]
    wanted = BASE.message(tool="next_page", arguments={"handle": handle, "page": 2})
    refused = [
        bool((await post(sidecar, request, wanted))["result"].get("isError")) for request in requests
    ]
    assert refused == [False, True, True]


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
@pytest.mark.parametrize("name", PAIRS)
async def test_who_is_refused_loses_what_is_kept_for_him_alone(
    scripted: Scripted, start: Start, status: bytes, name: str
) -> None:
    more, one, other = PAIRS[name]
    echo, sidecar = await running(scripted, start, more, one, other)
    for request in (one, other):
        await post(sidecar, request, request.message())
    assert echo.calls == 2
    echo.status = status
    await post(sidecar, one, one.message(tool="unknown"))
    await post(sidecar, other, other.message())
    same = name in THE_SAME_PERSON
    assert echo.calls == (4 if same else 3), "he alone, and in every form of his calls"
    await post(sidecar, one, one.message())
    assert echo.calls == (5 if same else 4)


async def test_of_two_tokens_beside_one_key_only_the_one_that_is_refused_loses_its_results(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    jwt = {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url}
    echo, sidecar = await running(scripted, start, {"clients": {"jwt": jwt}})
    gate = BASE.given(X_API_Key="the gateway's, to the server")
    anna, bert = [gate.given(Authorization=f"Bearer {issuer.token(sub=sub)}") for sub in ("anna", "bert")]
    for request in (anna, bert):
        await post(sidecar, request, request.message())
    echo.status = b"401 Unauthorized"
    await post(sidecar, anna, anna.message(tool="unknown"))
    assert echo.calls == 3
    assert seen(await post(sidecar, bert, bert.message()))
    assert echo.calls == 3
    await post(sidecar, anna, anna.message())
    assert echo.calls == 4
