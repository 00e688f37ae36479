"""docs/gateways.md: its manifests are such as Kubernetes takes and lead to the operator's Service, its commands work."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from tests.kit.calls import ANSWER, tier
from tests.kit.mcpserver import context
from tests.kit.programs import ROOT, serving
from tests.kit.schemas import refusals
from tests.kit.sidecars import Start
from tests.kit.upstream import Heard, Scripted, chunk, json_answer
from tests.kit.waiting import DEADLINE
from tools.ports import free_port

from mcpace_operator.children import children, service
from mcpace_operator.resource.models import parse_spec

PAGE = (ROOT / "docs/gateways.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
MANIFESTS = {block["kind"]: block for block in BLOCKS if "kind" in block}
(NGINX,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_each_way_once():
    assert set(MANIFESTS) == {"McpServer", "Ingress", "HTTPRoute", "Service"}
    assert len(COMMANDS) == 2


@pytest.mark.parametrize("kind", ["Ingress", "Service"])
def test_every_supported_kubernetes_takes_the_manifest(kind: str):
    assert not refusals(MANIFESTS[kind])


def test_the_manifest_of_the_server_is_valid():
    parse_spec(MANIFESTS["McpServer"]["spec"])


def test_every_way_leads_to_the_port_that_the_operator_opens():
    made = [child for child in children(context()) if child["kind"] == "Service"]
    (own,) = [child for child in made if not child["metadata"]["name"].endswith("-metrics")]
    (port,) = own["spec"]["ports"]
    for rule in MANIFESTS["Ingress"]["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {
                "name": own["metadata"]["name"],
                "port": {"name": port["name"]},
            }
    for rule in MANIFESTS["HTTPRoute"]["spec"]["rules"]:
        assert rule["backendRefs"] == [{"name": own["metadata"]["name"], "port": service.PORT}]
    ours = MANIFESTS["Service"]["spec"]
    assert ours["selector"] == own["spec"]["selector"]
    assert ours["ports"][0]["targetPort"] == port["targetPort"]
    assert MANIFESTS["Service"]["metadata"]["name"] not in {child["metadata"]["name"] for child in made}


@pytest.mark.parametrize("command", COMMANDS, ids=["2026-07-28", "handshake"])
async def test_the_command_calls_a_tool(command: str, weather: int, start: Start):
    sidecar = await start(weather)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env=os.environ | {"URL": sidecar.url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert '"degrees":-3' in out.decode().replace(" ", ""), out.decode()


@asynccontextmanager
async def nginx(folder: Path, sidecar: int) -> AsyncIterator[int]:
    """A real one with the page's configuration, but for its ports."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert program, "nginx is missing: run `make test`, or install Debian's package nginx-light"
    port = free_port()
    ours = NGINX.replace("127.0.0.1:18080", f"127.0.0.1:{sidecar}").replace(
        "listen 8080", f"listen 127.0.0.1:{port}"
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off;\n{temporary}{ours}}}\n"
    )
    async with serving(port, program, "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"):
        yield port


class Through:
    """A connection through the gateway, with one call on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.read = b""

    @classmethod
    async def call(cls, port: int, address: str) -> "Through":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}}'
        writer.write(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"X-Forwarded-For: %b\r\nContent-Length: %d\r\n\r\n%b" % (address.encode(), len(body), body)
        )
        return cls(reader, writer)

    async def until(self, words: bytes) -> None:
        async with asyncio.timeout(DEADLINE):
            while words not in self.read:
                more = await self._reader.read(65536)
                assert more, f"waited for {words!r}, and it closed after {self.read!r}"
                self.read += more

    def close(self) -> None:
        self._writer.close()


async def test_behind_nginx_events_pass_as_they_come_and_clients_are_told_apart(
    tmp_path: Path, scripted: Scripted, start: Start
):
    first_was_read = asyncio.Event()

    async def streamed() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        said = (
            b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}'
        )
        yield chunk(b"data: %b\n\n" % said)
        await first_was_read.wait()
        yield chunk(b"data: %b\n\n" % ANSWER) + chunk(b"")

    def answer(heard: Heard) -> bytes | AsyncIterator[bytes]:
        if b'"tools/call"' in heard.body:
            return streamed()
        return json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    scripted.answer = answer
    sidecar = await start(scripted.port, tier(1) | {"clients": {"trustedProxies": ["127.0.0.1/32"]}})
    async with nginx(tmp_path, sidecar.data) as port:
        call = await Through.call(port, "203.0.113.1")
        await call.until(b'"first"')
        first_was_read.set()
        await call.until(b'"isError":false')
        call.close()
        for address, words in ("203.0.113.1", b"42900"), ("203.0.113.2", b'"isError":false'):
            other = await Through.call(port, address)
            await other.until(words)
            other.close()
