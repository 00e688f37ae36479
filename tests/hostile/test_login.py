"""Where a token is had: what a 401 says, to whom, and that official clients log in by it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from tests.kit.programs import ROOT, serving
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Scripted
from tests.kit.waiting import DEADLINE
from tools.packages.install import modules, node
from tools.ports import free_port

ISSUER = "https://id.example"
JWT = {"issuer": ISSUER, "audience": "weather", "jwksURL": f"{ISSUER}/keys"}
DENY = {"jwt": JWT, "anonymous": "deny"}
METADATA = "/.well-known/oauth-protected-resource"


async def asked(sidecar: Running, path: str, **headers: str) -> tuple[int, Any]:
    """What a GET of the data port is answered with."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    host = "" if "Host" in headers else "Host: localhost\r\n"
    raw = await sidecar.raw(f"GET {path} HTTP/1.1\r\n{host}{lines}\r\n".encode())
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else body


async def test_a_401_names_the_metadata_and_the_metadata_the_issuer(
    scripted: Scripted, start: Start
) -> None:
    public = "https://mcp.example/weather/mcp"
    sidecar = await start(scripted.port, {"publicURL": public, "clients": DENY})
    status, headers, _ = await sidecar.call("t")
    assert status == 401
    url = f"https://mcp.example{METADATA}/weather/mcp"
    assert headers["www-authenticate"] == f'Bearer realm="mcp", resource_metadata="{url}"'
    for path in (METADATA, f"{METADATA}/mcp", f"{METADATA}/weather/mcp"):
        status, document = await asked(sidecar, path)
        assert status == 200, path
        assert document["resource"] == public
        assert document["authorization_servers"] == [ISSUER]
    assert not scripted.calls, "the server is not asked"


async def test_without_tokens_of_ours_the_metadata_is_the_servers(scripted: Scripted, start: Start) -> None:
    sidecar = await start(scripted.port, {"publicURL": "https://mcp.example/mcp"})
    await asked(sidecar, METADATA)
    assert [heard.line for heard in scripted.calls] == [f"GET {METADATA} HTTP/1.1".encode()]


@pytest.mark.parametrize(
    ("listen", "trusted", "headers", "resource"),
    [
        ("127.0.0.1", [], {"Host": "localhost:7"}, "http://localhost:7/mcp"),
        ("127.0.0.1", [], {"Host": "localhost", "X_Forwarded_Host": "evil.example"}, "http://localhost/mcp"),
        ("0.0.0.0", [], {"Host": "evil.example"}, None),
        ("0.0.0.0", [], {"Host": "a.example", "X_Forwarded_Host": "evil.example"}, None),
        (
            "0.0.0.0", ["127.0.0.1"],
            {"Host": "10.0.0.1", "X_Forwarded_Host": "evil.example, mcp.example", "X_Forwarded_Proto": "https"},
            "https://mcp.example/mcp",
        ),
        ("0.0.0.0", ["127.0.0.1"], {"Host": "evil.example"}, None),
        ("0.0.0.0", ["127.0.0.1"], {"Host": "x", "X_Forwarded_Host": 'a.example", x="'}, None),
    ],
)  # fmt: skip
async def test_only_somebody_believable_says_under_which_url_the_server_is_reached(
    scripted: Scripted,
    start: Start,
    listen: str,
    trusted: list[str],
    headers: dict[str, str],
    resource: str | None,
) -> None:
    clients = DENY | {"trustedProxies": trusted}
    sidecar = await start(scripted.port, {"clients": clients}, listen=listen)
    _, said, _ = await sidecar.call("t", **headers)
    challenge = said["www-authenticate"]
    if resource is None:
        assert challenge == 'Bearer realm="mcp"', "no document is named"
    else:
        status, document = await asked(sidecar, METADATA, **headers)
        assert (status, document["resource"]) == (200, resource)
        assert METADATA in challenge
    assert "evil" not in challenge


@pytest.fixture
async def issuer() -> AsyncIterator[str]:
    """The URL of a real OpenID provider, which nobody here wrote."""
    port = free_port()
    script = ROOT / "tests/clients/issuer.mjs"
    async with serving(port, node(), script, NODE_MODULES=str(modules()), AUDIENCE="weather"):
        yield f"http://127.0.0.1:{port}"


async def guarded(start: Start, upstream: int, issuer: str) -> Running:
    """A sidecar that lets only tokens of this issuer in."""
    jwt = {"issuer": issuer, "audience": "weather", "jwksURL": f"{issuer}/jwks"}
    sidecar = await start(upstream, {"clients": {"jwt": jwt, "anonymous": "deny"}})
    await sidecar.ready()
    return sidecar


class Drawer:
    """Keeps what an official client keeps of its login."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


async def browse(place: str, redirect: str) -> dict[str, str]:
    """A browser without a screen: what the issuer sends back to the client."""
    script = (
        "const {login} = await import(process.argv[1]);"
        "console.log(JSON.stringify(Object.fromEntries(await login(process.argv[2], process.argv[3]))))"
    )
    process = await asyncio.create_subprocess_exec(
        node(), "--input-type=module", "-e", script, ROOT / "tests/clients/browser.mjs", place, redirect,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def test_the_official_python_client_logs_in_by_what_the_401_says(
    weather: int, issuer: str, start: Start
) -> None:
    sidecar = await guarded(start, weather, issuer)
    redirect = "http://127.0.0.1:1/callback"
    came: list[dict[str, str]] = []

    async def go(place: str) -> None:
        came.append(await browse(place, redirect))

    async def come_back() -> AuthorizationCodeResult:
        last = came[-1]
        return AuthorizationCodeResult(code=last["code"], state=last.get("state"), iss=last.get("iss"))

    metadata = OAuthClientMetadata(
        client_name="scenario", redirect_uris=[redirect], token_endpoint_auth_method="none",
        grant_types=["authorization_code"], response_types=["code"],
    )  # fmt: skip
    login = OAuthClientProvider(sidecar.url, metadata, Drawer(), go, come_back)
    async with (
        asyncio.timeout(2 * DEADLINE),
        httpx2.AsyncClient(auth=login) as http,
        streamable_http_client(sidecar.url, http_client=http) as (reading, writing),
        ClientSession(reading, writing) as client,
    ):
        await client.initialize()
        assert "get-weather" in [tool.name for tool in (await client.list_tools()).tools]
    assert len(came) == 1, "one login is enough"


async def test_the_official_typescript_client_logs_in_by_what_the_401_says(
    weather: int, issuer: str, start: Start
) -> None:
    sidecar = await guarded(start, weather, issuer)
    process = await asyncio.create_subprocess_exec(
        node(), ROOT / "tests/clients/typescript_v2_login.mjs", sidecar.url,
        env=os.environ | {"NODE_MODULES": str(modules())},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    got = json.loads(output.splitlines()[-1])
    assert got["refused"] is True
    assert "get-weather" in got["tools"]
