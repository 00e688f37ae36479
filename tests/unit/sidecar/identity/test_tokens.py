"""Bearer tokens: whose they are, and how seldom their issuer is asked for keys."""

import asyncio
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from tests.kit.issuer import AUDIENCE, EC_KEY, ISSUER, OTHER_KEY, RSA_KEY, Issuer, b64

from mcpace_sidecar.contract.config.clients import Jwt
from mcpace_sidecar.identity.client import LONGEST_NAME
from mcpace_sidecar.identity.tokens import Tokens

UNSIGNED = b'{"alg":"none","kid":"one"}'


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys = {"one": RSA_KEY, "ec": EC_KEY}
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


def tokens(issuer: Issuer, **more: Any) -> Tokens:
    return Tokens(
        Jwt.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url} | more)
    )


async def words_about(judge: Tokens, token: str) -> str:
    caller = await judge.judge(token.encode())
    assert caller.client is None
    return caller.words


async def test_a_token_names_its_client_its_tier_and_who_is_meant_by_it(issuer: Issuer) -> None:
    judge = tokens(issuer, tierClaim="plan", clientClaim="client_id")
    for kid, algorithm in (("one", "RS256"), ("ec", "ES256")):
        token = issuer.token(kid, algorithm, client_id="shop", sub="anna", plan="pro").encode()
        assert judge.known(token) is None
        caller = await judge.judge(token)
        assert caller.client is not None
        assert (caller.client.name, caller.client.tier) == ("jwt:shop", "pro")
        assert caller.client.subject == f'["{ISSUER}", "anna"]'
        assert judge.known(token) is caller, "it costs its verification once"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "other"}, "not valid"),
        ({"iss": "https://other.example"}, "not valid"),
        ({"exp": 1}, "not valid"),
        ({"exp": None}, "not valid"),
        ({"exp": "soon"}, "not valid"),
        ({"nbf": 99999999999}, "not valid"),
        ({"sub": None}, "does not name its client"),
        ({"sub": ""}, "does not name its client"),
        ({"sub": "a\nb"}, "does not name its client"),
        ({"sub": "a" * (LONGEST_NAME + 1)}, "does not name its client"),
    ],
)
async def test_a_token_that_does_not_hold_is_refused_in_words_and_not_remembered(
    issuer: Issuer, claims: dict[str, Any], words: str
) -> None:
    judge = tokens(issuer)
    token = issuer.token(**claims)
    assert words in await words_about(judge, token)
    assert judge.known(token.encode()) is None


async def test_only_the_issuers_own_keys_and_the_signatures_that_are_named_count(issuer: Issuer) -> None:
    judge = tokens(issuer, algorithms=["RS256"])
    assert "not valid" in await words_about(judge, issuer.token(key=OTHER_KEY))
    assert "not valid" in await words_about(judge, issuer.token("ec", "ES256"))
    unsigned = f"{b64(UNSIGNED)}.{issuer.token().split('.')[1]}."
    assert "not valid" in await words_about(judge, unsigned)


async def test_made_up_key_ids_cost_the_issuer_one_fetch_in_ten_seconds(issuer: Issuer) -> None:
    judge = tokens(issuer)
    asked = [judge.judge(issuer.token(key=OTHER_KEY, kid="one").encode()) for _ in range(3)]
    await asyncio.gather(*asked)
    assert issuer.fetched == 1, "all who ask meanwhile wait for the same"
    for number in range(20):
        token = jwt.encode({"iss": ISSUER}, OTHER_KEY, "RS256", headers={"kid": f"x{number}"})
        assert "not one of its issuer's" in await words_about(judge, token)
    assert issuer.fetched == 1


async def test_an_issuer_that_is_away_is_no_verdict_on_the_token(issuer: Issuer) -> None:
    judge = tokens(issuer, jwksURL="http://127.0.0.1:1/keys")
    caller = await judge.judge(issuer.token().encode())
    assert (caller.client, caller.status) == (None, 503)
    assert "retry" in caller.words


@pytest.mark.parametrize("token", [b"", b"a.b", b"a.b.c", b"a.b.c.d", b"." * 20000, b"\xff.\xff.\xff"])
def test_what_is_no_token_of_our_issuer_is_left_to_the_server(token: bytes) -> None:
    judge = Tokens(
        Jwt.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": "http://a.example"})
    )
    assert not judge.ours(token)
    assert not judge.ours(jwt.encode({"iss": "https://other.example"}, "k" * 32).encode())
    assert judge.ours(jwt.encode({"iss": ISSUER}, "k" * 32).encode())
