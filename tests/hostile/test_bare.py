"""A bare manifest changes no answer: the same requests, to the server itself and through a sidecar."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, until

AT_ONCE = 500
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{}}}'
OURS = {"date", "connection", "keep-alive", "transfer-encoding", "content-length", "vary"}
"""What belongs to one connection, or to the hour, and not to the answer."""

Answer = tuple[int, dict[str, str], bytes]


async def asked(port: int, path: str = "/mcp", **headers: str) -> Answer:
    """What a client of this port is answered."""
    told = {n.replace("_", "-"): v for n, v in headers.items()}
    lines = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json"} | told
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(CALL)}\r\n\r\n".encode() + CALL)
    async with asyncio.timeout(2 * DEADLINE):
        status, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        if "chunked" in fields.get("transfer-encoding", ""):
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
        else:
            body = await reader.readexactly(int(fields.get("content-length", "0")))
    writer.close()
    return int(status.split()[1]), {n: v for n, v in fields.items() if n not in OURS}, body


async def same(server: int, sidecar: Running, **what: str) -> Answer:
    """Ask the server and the sidecar the same; return the answer, which must be one."""
    direct, through = await asked(server, **what), await asked(sidecar.data, **what)
    here = f"http://127.0.0.1:{server}"  # which the sidecar's clients do not know
    expected = {name: value.replace(here, "") for name, value in direct[1].items()}
    expected.pop("mcp-session-id", None)  # ids are ours, and given by `initialize` alone
    assert through == (direct[0], expected, direct[2])
    return through


def result(heard: Heard) -> bytes:
    told = heard.headers.get(b"host", b"")
    body = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"%b"}]}}' % told[:4]
    return json_answer(body, extra=b"X-Of-The-Servers: own\r\n")


async def test_of_a_slow_server(scripted: Scripted, start: Start) -> None:
    async def slow(heard: Heard) -> AsyncIterator[bytes]:
        if b"tools/call" in heard.body:
            await asyncio.sleep(1.0)
        yield result(heard)

    scripted.answer = slow
    sidecar = await start(scripted.port)
    assert (await same(scripted.port, sidecar))[0] == 200


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def one_at_a_time(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server with a single thread, whose tool takes its time."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = request.param
        timeout = 1.0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if b"tools/call" in body:
                threading.Event().wait(0.7)
            if b"initialize" in body or b"tools" in body:
                answer = b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"isError":false}}'
                self.send_response(200)
            else:
                answer = b"{}"
                self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


async def test_of_a_server_that_does_one_thing_at_a_time(one_at_a_time: int, start: Start) -> None:
    sidecar = await start(one_at_a_time)
    await sidecar.ready()
    calls = asyncio.gather(*(asked(sidecar.data) for _ in range(4)))

    async def well() -> bool:
        for probe in ("/readyz", "/serverz"):
            status, why = await sidecar.admin_get(probe)
            assert status == 200, (probe, why)
        sidecar.handshake.doubt()
        return calls.done()

    await until(well, "four calls, one after the other", seconds=60, pause=0.1)
    direct = await asked(one_at_a_time)
    assert await calls == [direct] * 4


async def test_of_a_server_that_checks_api_keys_itself(scripted: Scripted, start: Start) -> None:
    def guarded(heard: Heard) -> bytes:
        if heard.headers.get(b"x-api-key") == b"theirs" or b"mcpace" in heard.body:
            return result(heard)
        return json_answer(b'{"error":"no such key"}', b"401 Unauthorized", b"WWW-Authenticate: Key\r\n")

    scripted.answer = guarded
    sidecar = await start(scripted.port)
    assert (await same(scripted.port, sidecar, X_API_Key="theirs"))[0] == 200
    assert (await same(scripted.port, sidecar, X_API_Key="another"))[0] == 401
    assert (await same(scripted.port, sidecar, Authorization="Bearer theirs"))[0] == 401
    assert (await same(scripted.port, sidecar))[0] == 401


async def test_of_a_server_that_checks_its_host_and_redirects(scripted: Scripted, start: Start) -> None:
    def checking(heard: Heard) -> bytes:
        host = heard.headers[b"host"]
        if host.rpartition(b":")[0] not in (b"127.0.0.1", b"localhost"):
            return json_answer(b'{"error":"host"}', b"421 Misdirected Request")
        if heard.line.split()[1] == b"/mcp?moved":
            lines = b"Location: http://%b/mcp/\r\n" % host
            return b"HTTP/1.1 307 Temporary Redirect\r\n%bContent-Length: 0\r\n\r\n" % lines
        return result(heard)

    scripted.answer = checking
    sidecar = await start(scripted.port)
    assert (await same(scripted.port, sidecar))[0] == 200
    status, fields, _ = await same(scripted.port, sidecar, path="/mcp?moved")
    assert (status, fields["location"]) == (307, "/mcp/")


async def test_of_a_server_that_works_on_five_hundred_calls_at_once(
    scripted: Scripted, start: Start
) -> None:
    working = 0
    all_there = asyncio.Event()

    async def meeting(heard: Heard) -> AsyncIterator[bytes]:
        """Answer nobody before all have come: fewer at once would wait for ever."""
        nonlocal working
        if b"tools/call" in heard.body:
            working += 1
            if working == AT_ONCE:
                all_there.set()
            await all_there.wait()
        yield result(heard)

    scripted.answer = meeting
    sidecar = await start(scripted.port, memory=192 << 20, files=1 << 16)
    await sidecar.ready()
    answers = await asyncio.gather(*(asked(sidecar.data) for _ in range(AT_ONCE)))
    assert {(status, body) for status, _, body in answers} == {(200, (await asked(scripted.port))[2])}


async def test_of_errors_empty_answers_and_streams(scripted: Scripted, start: Start) -> None:
    event = b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'
    answers = {
        b"a": json_answer(b'{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"?"}}'),
        b"b": json_answer(b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}', b"400 Bad Request"),
        b"c": b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"d": b"HTTP/1.1 204 No Content\r\nMcp-Session-Id: s\r\n\r\n",
        b"e": json_answer(b"<h1>oops</h1>", b"503 Service Unavailable", b"Retry-After: 9\r\n"),
        b"f": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event),
    }
    scripted.answer = lambda heard: answers.get(heard.line.split()[1][-1:], result(heard))
    sidecar = await start(scripted.port)
    for name in answers:
        await same(scripted.port, sidecar, path=f"/mcp?{name.decode()}")
