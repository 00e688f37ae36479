"""Tokens and key sets that are not what they should be: refused, each in its time, and never an exception."""

import asyncio
import base64
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until

from mcpace_sidecar.contract.config.clients import Jwt
from mcpace_sidecar.identity import tokens
from mcpace_sidecar.identity.tokens import Tokens

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ISSUER = "https://id.example"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims: str, header: str = '{"alg":"RS256","kid":"one"}') -> str:
    """A token of exactly these texts, rightly signed: PyJWT itself would refuse to make most of them."""
    signed = f"{b64(header.encode())}.{b64(claims.encode())}"
    return f"{signed}.{b64(KEY.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def claims(**changed: str) -> str:
    """Claims as JSON; the values are texts of JSON."""
    texts = {"iss": f'"{ISSUER}"', "aud": '"weather"', "sub": '"anna"', "exp": str(int(time.time()) + 600)}
    return "{" + ",".join(f'"{name}":{text}' for name, text in (texts | changed).items() if text) + "}"


def key_set() -> bytes:
    key = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return json.dumps({"keys": [key | {"kid": "one"}]}).encode()


Answer = Callable[[BaseHTTPRequestHandler], None]


def plainly(body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Issuer:
    """A real HTTP server that publishes whatever a test says."""

    def __init__(self) -> None:
        self.answer = plainly(key_set())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    issuer.answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self) -> dict[str, Any]:
        return {"issuer": ISSUER, "audience": "weather", "jwksURL": self.url, "tierClaim": "plan"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


async def call(sidecar: Running, text: str) -> int:
    return (await sidecar.call("t", Authorization=f"Bearer {text}"))[0]


TIMES = (
    "1e400", "-1e400", "1e308", "1" + "0" * 400, "9" * 4400, "-1", "0", "1.5", '"soon"', '""', "true", "null", "[]",
    "{}", "[[1]]", '{"a":1}', "NaN", "Infinity",
)  # fmt: skip


async def test_times_of_any_type_and_size_are_judged_and_end_no_call(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    scripted.answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    sidecar = await start(scripted.port, {"clients": {"jwt": issuer.config(), "anonymous": "deny"}})
    assert await call(sidecar, token(claims())) == 200
    for name in ("exp", "nbf", "iat"):
        for text in TIMES:
            status = await call(sidecar, token(claims(**{name: text})))
            past = name != "exp" and text in ("-1", "0", "1.5", "true", "null", "-1e400")
            lasting = name == "exp" and text == "1e308"
            assert status in ((200, 401) if past or lasting else (401,)), (name, text[:20])
    assert await call(sidecar, token(claims())) == 200
    assert not sidecar.in_flight


async def test_claims_of_other_types_than_expected_are_401(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    sidecar = await start(scripted.port, {"clients": {"jwt": issuer.config(), "anonymous": "deny"}})
    odd = (
        "1",
        "null",
        "[]",
        "{}",
        '["weather",1]',
        "[[]]",
        '""',
        "true",
        '"\\ud800"',
        '"\\u0000"',
        '"' + "a" * 300 + '"',
        "[" * 2000 + "]" * 2000,
    )
    for name in ("iss", "aud", "sub"):
        for text in odd:
            assert await call(sidecar, token(claims(**{name: text}))) == 401, (name, text[:20])
    heads = (
        '{"alg":"RS256","kid":1}', '{"alg":"RS256","kid":{}}', '{"alg":"RS256","kid":[]}', '{"alg":1,"kid":"one"}',
        '{"alg":null,"kid":"one"}', '{"kid":"one"}', '{"alg":"RS256","kid":"one","crit":["x"]}', "[]", "1", "null", "{",
        '{"alg":"RS256","kid":"one","b64":false,"crit":["b64"]}',
    )  # fmt: skip
    for text in heads:
        assert await call(sidecar, token(claims(), text)) == 401, text
    for text in ("..", "a..", ".a.", "=.=.=", "é.a.a", token(claims()) + "=", token(claims())[:-3]):
        assert await call(sidecar, text) == 401, text
    assert not sidecar.in_flight
    assert not scripted.calls


async def test_a_tier_that_is_no_text_is_no_tier(scripted: Scripted, start: Start, issuer: Issuer) -> None:
    config = {
        "clients": {"jwt": issuer.config()},
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 1}]},
    }
    sidecar = await start(scripted.port, config)
    for number, text in enumerate(("1", "null", "[]", "{}", '"none"')):
        name = f'"c{number}"'
        assert await call(sidecar, token(claims(plan=text, sub=name))) == 200
        _, _, body = await sidecar.call("t", Authorization=f"Bearer {token(claims(plan=text, sub=name))}")
        assert body["error"]["data"]["tier"] == "free"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(
    changed=st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "plan", "jti"]), JSON
    )
)
def test_every_rightly_signed_token_has_a_verdict(changed: dict[str, Any]) -> None:
    known = Tokens(Jwt.model_validate(Issuer.config(_Nowhere())))
    known._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(json.loads(key_set())).keys}
    known._fetched = time.monotonic()
    text = token(claims(**{name: json.dumps(value) for name, value in changed.items()})).encode()
    known.ours(text)
    caller = asyncio.run(known.judge(text))
    assert caller.client is not None or caller.status == 401


class _Nowhere(Issuer):
    def __init__(self) -> None:
        self.url = "http://127.0.0.1:1/keys"


KEY_SETS = {
    "nothing": b"",
    "no JSON": b"<html>",
    "no object": b"[]",
    "null": b"null",
    "keys of another type": b'{"keys": 5}',
    "keys that are none": b'{"keys": [1, null, "a", [], {}]}',
    "keys of no kind": b'{"keys": [{"kty": "none", "kid": "one"}]}',
    "a broken key": b'{"keys": [{"kty": "RSA", "kid": "one", "n": "", "e": ""}]}',
    "a deep one": b'{"keys": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a huge number": b'{"keys": [' + b"9" * 5000 + b"]}",
    "too many": b'{"keys": [' + b",".join([b'{"kty":"oct","k":"YQ"}'] * 200) + b"]}",
    "a huge one": b'{"keys": [], "x": "' + b"a" * 2 * 1024 * 1024 + b'"}',
    "no UTF-8": b'{"keys": ["\xff"]}',
}


@pytest.mark.parametrize("what", KEY_SETS)
async def test_a_key_set_that_is_none_leaves_tokens_unjudged(
    scripted: Scripted, start: Start, issuer: Issuer, what: str
) -> None:
    issuer.answer = plainly(KEY_SETS[what])
    sidecar = await start(scripted.port, {"clients": {"jwt": issuer.config(), "anonymous": "deny"}})
    assert await call(sidecar, token(claims())) == 503
    issuer.answer = plainly(key_set())
    known = sidecar.plane.settings.identities.tokens
    assert known is not None
    known._tried -= 60
    assert await call(sidecar, token(claims())) == 200


async def test_an_answer_that_is_no_http_leaves_tokens_unjudged(
    scripted: Scripted, start: Start, issuer: Issuer
) -> None:
    for line in (
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 500 No\r\n\r\n",
    ):
        issuer.answer = lambda handler, line=line: handler.connection.sendall(line)  # type: ignore[misc]
        sidecar = await start(scripted.port, {"clients": {"jwt": issuer.config(), "anonymous": "deny"}})
        issuer.answer = lambda handler, line=line: _say(handler, line)  # type: ignore[misc]
        assert await call(sidecar, token(claims())) == 503


def _say(handler: BaseHTTPRequestHandler, line: bytes) -> None:
    handler.connection.sendall(line)
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


async def test_a_key_set_that_trickles_holds_nobody_for_long(
    scripted: Scripted, start: Start, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "FETCH_TIMEOUT", 0.3)
    asked, ending = threading.Event(), threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        handler.send_response(200)
        handler.end_headers()
        while not ending.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    issuer.answer = trickle
    sidecar = await start(scripted.port, {"clients": {"jwt": issuer.config(), "anonymous": "deny"}})
    try:
        assert await call(sidecar, token(claims())) == 503
        assert asked.is_set()
        known = sidecar.plane.settings.identities.tokens
        assert known is not None
        await until(lambda: known._fetching is None, "the fetch to be given up while the answer goes on")
    finally:
        ending.set()


def test_keys_of_another_kind_verify_nothing() -> None:
    known = Tokens(Jwt.model_validate(Issuer.config(_Nowhere())))
    elliptic = jwt.algorithms.ECAlgorithm.to_jwk(
        ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True
    )
    known._keys = {"one": jwt.PyJWK.from_dict(elliptic | {"kid": "one"})}
    known._fetched = time.monotonic()
    assert asyncio.run(known.judge(token(claims()).encode())).status == 401
    header = b64(b'{"alg":"HS256","kid":"one"}')
    signed = f"{header}.{b64(claims().encode())}"
    forged = f"{signed}.{b64(hmac.digest(b'', signed.encode(), 'sha256'))}"
    assert asyncio.run(known.judge(forged.encode())).status == 401
