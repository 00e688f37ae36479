"""Who is calling: keys, verified tokens, trusted gateways, addresses. Nobody gets another's answer."""

import asyncio
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.issuer import AUDIENCE, EC_KEY, ISSUER, OTHER_KEY, RSA_KEY, Issuer, b64
from tests.kit.laptop import mcpace
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import until


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    issuer.keys = {"one": RSA_KEY, "ec": EC_KEY}
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


def tokens(issuer: Issuer, **more: Any) -> dict[str, Any]:
    tiers = [{"name": "free", "requestsPerMinute": 1}, {"name": "pro", "requestsPerMinute": 100}]
    settings = {"issuer": ISSUER, "audience": AUDIENCE, "jwksURL": issuer.url, "tierClaim": "plan"}
    return {"rateLimits": {"tiers": tiers}, "clients": {"jwt": settings, **more}}


def who(heard: Heard) -> bytes:
    """What the server saw of the caller."""
    seen = {
        n.decode(): v.decode()
        for n, v in heard.headers.items()
        if n in (b"authorization", b"x-user", b"cookie")
    }
    message = heard.message
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": seen}))


def told(heard: Heard) -> bytes:
    """A server that shakes hands, and whose tool says which credential it was called with."""
    message = heard.message
    if "id" not in message:
        return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    text = heard.headers.get(b"authorization", b"").decode()
    results = {
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "told", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": text}], "isError": False},
    }
    result = results.get(message["method"])
    said = {"result": result} if result else {"error": {"code": -32601, "message": "not known"}}
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": message["id"], **said}))


async def test_a_valid_token_names_the_client_and_its_tier_and_goes_no_further(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, tokens(issuer))
    for _ in range(3):
        for kid, algorithm in (("one", "RS256"), ("ec", "ES256")):
            token = issuer.token(kid, algorithm, plan="pro")
            status, _, body = await sidecar.call("t", Authorization=f"Bearer {token}")
            assert (status, body["result"]) == (200, {}), "the token is stripped"
    assert issuer.fetched == 1, "keys are fetched once"


@pytest.mark.parametrize("variable", ["MCPACE_TOKEN", "MCPACE_TOKEN_FILE"])
async def test_mcpace_call_brings_a_token(
    scripted: Scripted, start: Start, issuer: Issuer, variable: str, tmp_path: Path
) -> None:
    scripted.answer = told
    sidecar = await start(scripted.port, tokens(issuer, anonymous="deny", forwardCredential=True))
    for token, code in ((issuer.token(), 0), (issuer.token(exp=1), 2)):
        (tmp_path / "token").write_text(token)
        given = str(tmp_path / "token") if variable.endswith("_FILE") else token
        done = await asyncio.to_thread(mcpace, "call", sidecar.url, "t", **{variable: given})
        assert done.returncode == code, done.stderr
        assert token not in done.stderr
        assert code == 2 or f"Bearer {token}" in done.stdout
    assert "a bearer token by MCPACE_TOKEN" in done.stderr


async def test_a_token_is_passed_on_where_the_manifest_says_so(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, tokens(issuer, forwardCredential=True))
    token = issuer.token()
    _, _, body = await sidecar.call("t", Authorization=f"Bearer {token}")
    assert body["result"] == {"authorization": f"Bearer {token}"}


async def test_bad_tokens_of_our_issuer_are_401_and_reach_nothing(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    sidecar = await start(scripted.port, tokens(issuer))
    unsigned = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": 9e9}, None, "none")
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, claims, _ = issuer.token().split(".")
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    confused = f"{head}.{claims}." + b64(hmac.digest(pem, f"{head}.{claims}".encode(), "sha256"))
    bad = {
        "expired": issuer.token(exp=int(time.time()) - 120),
        "for another": issuer.token(aud="other"),
        "without an end": issuer.token(exp=None),
        "without a client": issuer.token(sub=None),
        "signed by another": issuer.token(key=OTHER_KEY),
        "of an unknown key": issuer.token("made-up", key=OTHER_KEY),
        "unsigned": unsigned,
        "signed with the public key as a secret": confused,
        "of an algorithm not accepted": issuer.token(algorithm="RS512"),
    }
    for what, token in bad.items():
        status, headers, body = await sidecar.call("t", Authorization=f"Bearer {token}")
        assert (status, body["error"]["code"]) == (401, 40100), what
        assert headers["www-authenticate"].startswith("Bearer"), what
        assert token not in json.dumps(body), what
    assert not scripted.calls


async def test_tokens_of_other_issuers_are_the_servers_own(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, tokens(issuer))
    for bearer in ("opaque", "a.b.c", issuer.token(iss="https://other.example")):
        sidecar.plane.limits._forget(list(sidecar.plane.limits._levels))
        _, _, body = await sidecar.call("t", Authorization=f"Bearer {bearer}")
        assert body["result"] == {"authorization": f"Bearer {bearer}"}
    denying = await start(scripted.port, tokens(issuer, anonymous="deny"))
    assert (await denying.call("t", Authorization="Bearer opaque"))[0] == 401


async def test_a_new_key_is_fetched_when_it_is_first_seen_and_a_removed_one_is_not_believed(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, tokens(issuer))
    old = issuer.token(plan="pro")
    assert (await sidecar.call("t", Authorization=f"Bearer {old}"))[0] == 200
    issuer.keys = {"two": OTHER_KEY}
    assert (await sidecar.call("t", Authorization=f"Bearer {issuer.token('two', plan='pro')}"))[0] == 401
    assert issuer.fetched == 1, "made-up keys cost the issuer nothing for a while"
    known = sidecar.plane.settings.identities.tokens
    known._tried -= 60
    assert (await sidecar.call("t", Authorization=f"Bearer {issuer.token('two', plan='pro')}"))[0] == 200
    assert (await sidecar.call("t", Authorization=f"Bearer {old}"))[0] == 401


async def test_while_no_keys_can_be_fetched_tokens_are_not_judged(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    config = tokens(issuer)
    config["clients"]["jwt"]["jwksURL"] = "http://127.0.0.1:1/keys"
    sidecar = await start(scripted.port, config)
    status, headers, _ = await sidecar.call("t", Authorization=f"Bearer {issuer.token()}")
    assert (status, headers["retry-after"]) == (503, "1")
    assert not scripted.calls


async def test_a_renewed_token_is_the_same_client_and_another_subject_is_not(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    answers = 0

    def count(heard: Heard) -> bytes:
        nonlocal answers
        answers += b"tools/call" in heard.body
        return json_answer(b'{"jsonrpc":"2.0","id":1,"result":{"n":%d}}' % answers)

    scripted.answer = count
    config = tokens(issuer) | {"cache": {"tools": [{"name": "t", "ttl": "1m"}]}}
    sidecar = await start(scripted.port, config)

    async def n(**claims: Any) -> int:
        token = issuer.token(plan="pro", **claims)
        return int((await sidecar.call("t", Authorization=f"Bearer {token}"))[2]["result"]["n"])

    assert [await n(jti="1"), await n(jti="2"), await n(sub="bert"), await n()] == [1, 1, 2, 1]


TRUSTED = {
    "clients": {
        "trustedProxies": ["127.0.0.1/8"],  # the network, whatever its last bits
        "trustedHeaders": {"client": "X-Consumer", "tier": "X-Tier"},
    },
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1}, {"name": "pro", "requestsPerMinute": 100}]
    },
}


async def test_a_trusted_gateway_says_who_is_calling_and_others_do_not(
    scripted: Scripted, start: Start
) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, TRUSTED)
    for _ in range(3):
        assert "result" in (await sidecar.call("t", X_Consumer="anna", X_Tier="pro"))[2]
    assert scripted.calls[-1].headers[b"x-consumer"] == b"anna"
    assert "result" in (await sidecar.call("t", X_Consumer="bert"))[2]
    assert (await sidecar.call("t", X_Consumer="bert"))[2]["error"]["code"] == 42900
    config = TRUSTED | {"clients": TRUSTED["clients"] | {"trustedProxies": ["10.0.0.0/8"]}}
    foreign = await start(scripted.port, config)
    assert "result" in (await foreign.call("t", X_Consumer="anna", X_Tier="pro"))[2]
    assert b"x-consumer" not in scripted.calls[-1].headers, "nobody may pretend to the server either"
    assert "error" in (await foreign.call("t", X_Consumer="cara", X_Tier="pro"))[2]


async def test_addresses_are_read_from_configured_hops_alone(scripted: Scripted, start: Start) -> None:
    scripted.answer = who
    sidecar = await start(scripted.port, TRUSTED)
    for hops, allowed in (
        ("1.1.1.1", True),
        ("9.9.9.9, 1.1.1.1", False),
        ("1.1.1.1, 127.0.0.9", False),
        ("2.2.2.2:5555", True),
        ("2.2.2.2", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
    ):
        _, _, body = await sidecar.call("t", X_Forwarded_For=hops)
        assert ("result" in body) == allowed, hops


async def test_a_rotated_key_works_at_once_and_the_old_one_stops(
    scripted: Scripted, start: Start, tmp_path: Any
) -> None:
    scripted.answer = who
    (tmp_path / "keys").mkdir()
    secret = tmp_path / "keys" / "anna"
    secret.write_text("old")
    config = {"clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "keys"}}], "anonymous": "deny"}}
    sidecar = await start(scripted.port, config, keys=tmp_path)
    assert (await sidecar.call("t", X_API_Key="old"))[0] == 200
    secret.write_text("new")

    async def rotated() -> bool:
        return (await sidecar.call("t", X_API_Key="new"))[0] == 200

    await until(rotated, "the new key to be known")
    assert (await sidecar.call("t", X_API_Key="old"))[0] == 401


VALUES = st.sampled_from(["", "a", "b", "a\tb"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.tuples(VALUES, VALUES, VALUES, st.sampled_from(["", "1", "2"])), min_size=2, max_size=8
    )
)
async def test_nobody_ever_gets_another_users_answer(isolated: Running, calls: list[Any]) -> None:
    """Whatever of credential, cookie, varyOn header and session two calls differ in, so do their answers."""
    for authorization, cookie, user, session in calls:
        headers = {
            "Authorization": f"Bearer {authorization}" if authorization else "",
            "Cookie": f"c={cookie}" if cookie else "",
            "X_User": user,
            "Mcp_Session_Id": session,
        }
        _, _, body = await isolated.call("t", **headers)
        expected = {
            "authorization": headers["Authorization"],
            "cookie": headers["Cookie"],
            "x-user": user,
            "mcp-session-id": session,
        }
        assert body["result"] == {name: value for name, value in expected.items() if value}


@pytest.fixture
async def isolated(scripted: Scripted, start: Start) -> Running:
    def everything(heard: Heard) -> bytes:
        names = (b"authorization", b"cookie", b"x-user", b"mcp-session-id")
        seen = {n.decode(): heard.headers[n].decode() for n in names if n in heard.headers}
        return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": seen}))

    scripted.answer = everything
    return await start(
        scripted.port, {"cache": {"varyOn": ["X-User"], "tools": [{"name": "t", "ttl": "1h"}]}}
    )
