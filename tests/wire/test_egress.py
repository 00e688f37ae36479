"""Doors: plain HTTP in, kept TLS out, for a server that opens a client for each of its calls."""

import asyncio
import contextlib
import os
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from mcp import Client
from tests.kit.programs import ROOT
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE
from tools.ports import free_port


class Api:
    """A real HTTPS server that counts its connections and handshakes."""

    def __init__(self, folder: Path) -> None:
        self.connections = 0
        self.seen: list[tuple[str, str, bytes]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                api.connections += 1
                super().setup()

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.seen.append((f"{self.command} {self.path}", self.headers["Host"], body))
                status = 500 if self.path.endswith("/broken") else 200
                text = b'{"sky":"snow"}'
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_POST = do_HEAD = do_PUT = answer  # noqa: N815 - because the library calls them so

            def log_message(self, *_: Any) -> None:
                pass

        self.ca = folder / "ca.pem"
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost").configure_cert(context)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.block_on_close = False  # a door keeps its connections
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(api.ca))
    yield api
    api.server.shutdown()
    api.server.server_close()


def door(api: Api, **more: Any) -> dict[str, Any]:
    return {"egress": [{"name": "api", "url": f"{api.url}/v1", "port": free_port(), **more}]}


async def test_calls_pass_a_door_with_path_body_and_host_over_one_kept_connection(
    scripted: Any, start: Start, api: Api
) -> None:
    config = door(api)
    sidecar = await start(scripted.port, config)
    url = f"http://127.0.0.1:{config['egress'][0]['port']}"
    for _ in range(5):
        async with httpx2.AsyncClient() as client:  # a new client for each call: the tutorial's worst case
            answer = await client.get(f"{url}/weather?city=Oslo")
            assert answer.json() == {"sky": "snow"}
            answer = await client.post(f"{url}/report", content=b"storm")
            assert answer.status_code == 200
            answer = await client.head(f"{url}/weather")
            assert (answer.status_code, answer.content) == (200, b"")
    assert api.seen[0] == ("GET /v1/weather?city=Oslo", f"localhost:{api.port}", b"")
    assert api.seen[1] == ("POST /v1/report", f"localhost:{api.port}", b"storm")
    assert api.connections == 1
    samples = await sidecar.metrics()
    assert samples['mcpace_egress_requests_total{door="api",result="2xx"}'] == 15
    assert samples['mcpace_egress_connections_opened_total{door="api"}'] == 1


async def test_a_door_verifies_whom_it_speaks_to(
    scripted: Any, start: Start, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    config = door(api)
    sidecar = await start(scripted.port, config)
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{config['egress'][0]['port']}/weather")
    assert answer.status_code == 502
    assert "TLS" in answer.text
    assert not api.seen
    assert (await sidecar.metrics())['mcpace_egress_requests_total{door="api",result="connect"}'] == 1


async def test_errors_of_the_other_side_pass_and_are_counted(scripted: Any, start: Start, api: Api) -> None:
    config = door(api)
    sidecar = await start(scripted.port, config)
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{config['egress'][0]['port']}/broken")
    assert answer.status_code == 500
    assert (await sidecar.metrics())['mcpace_egress_requests_total{door="api",result="5xx"}'] == 1


@pytest.mark.parametrize(("whole", "result"), [(True, "2xx"), (False, "truncated")])
async def test_a_streamed_answer_is_counted_once_and_by_how_it_ended(
    scripted: Scripted, start: Start, whole: bool, result: str
) -> None:
    read = asyncio.Event()

    async def in_pieces(heard: Heard) -> AsyncIterator[bytes]:
        if heard.line.startswith(b"POST"):
            yield json_answer(b"{}")
            return
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        await read.wait()
        if whole:
            yield b"0\r\n\r\n"
        else:
            heard.writer.transport.abort()

    scripted.answer = in_pieces
    port = free_port()
    egress = [{"name": "api", "url": f"http://127.0.0.1:{scripted.port}", "port": port}]
    sidecar = await start(scripted.port, {"egress": egress})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await reader.readuntil(b"hello")
        read.set()
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
    samples = await sidecar.metrics()
    counted = {k: v for k, v in samples.items() if k.startswith("mcpace_egress_requests_total")}
    assert counted == {f'mcpace_egress_requests_total{{door="api",result="{result}"}}': 1}
    assert samples['mcpace_egress_wait_seconds_total{door="api"}'] > 0
    writer.close()


async def test_a_door_listens_on_the_loopback_alone_and_follows_the_configuration(
    scripted: Any, start: Start, api: Api
) -> None:
    config = door(api)
    sidecar = await start(scripted.port, config, listen="*")
    doors = sidecar.doors
    (opened,) = doors.open.values()
    assert opened._server is not None
    assert [s.getsockname()[0] for s in opened._server.sockets] == ["127.0.0.1"]
    before, changed = config["egress"][0], free_port()
    await doors.adopt(())
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", before["port"])
    from mcpace_sidecar.contract.config.traffic import Door  # noqa: PLC0415 - because only this test makes one

    await doors.adopt([Door.model_validate(before | {"port": changed})])
    _, writer = await asyncio.open_connection("127.0.0.1", changed)
    writer.close()


async def test_a_door_saves_a_server_that_makes_a_client_for_each_call_its_handshakes(
    start: Start, api: Api
) -> None:
    """A real MCP server, as the tutorial says one should not be written, with and without a door."""
    config, port = door(api), free_port()
    url = f"http://127.0.0.1:{config['egress'][0]['port']}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "examples/careless/server.py",
        env=os.environ | {"PORT": str(port), "API": api.url, "DOOR": url},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    sidecar = await start(port, config)
    await sidecar.ready()
    async with Client(sidecar.url) as client:
        for tool, connections in (("direct", 8), ("through-the-door", 1)):
            api.connections = 0
            for _ in range(8):
                result = await client.call_tool(tool, {"city": "Oslo"})
                assert "snow" in str(result.content), result
            assert api.connections == connections, tool
    process.kill()
    await process.wait()
