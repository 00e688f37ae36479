"""`mcpace tools`, `resources`, `prompts` and what `mcpace call` tells, through the official client."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import mcpace
from tests.kit.programs import ROOT, serving
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted, json_answer
from tools.ports import free_port

WEATHER = [sys.executable, str(ROOT / "examples/weather/server.py")]
OWN = '''
import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("many", version="2")


@server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True))
def drop(table: str, really: bool = False) -> str:
    """Drop a table.

    For good."""
    return f"dropped {table}"


@server.tool()
def rows(count: int) -> list[int]:
    """Some rows."""
    return list(range(count))


@server.tool()
def fail() -> str:
    raise ValueError("it does not work")


@server.resource("notes://today", mime_type="text/plain")
def today() -> str:
    """What is to be done."""
    return "nothing"


@server.resource("notes://{day}")
def day(day: str) -> str:
    return day


@server.prompt()
def greet(name: str, style: str = "kind") -> str:
    """A greeting."""
    return f"Greet {name}"


server.run(sys.argv[1], **({"host": "127.0.0.1", "port": int(sys.argv[2])} if sys.argv[2:] else {}))
'''


@pytest.fixture
def many(tmp_path: Path) -> list[str]:
    (tmp_path / "server.py").write_text(OWN)
    return [sys.executable, str(tmp_path / "server.py")]


async def beside(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, while a server in this process answers."""
    return await asyncio.to_thread(mcpace, *arguments, **environment)


def test_a_servers_tools_resources_and_prompts_are_tables(many: list[str]):
    tools = mcpace("tools", "--", *many, "stdio")
    assert tools.returncode == 0, tools.stderr
    assert [line.split(maxsplit=1)[0] for line in tools.stdout.splitlines()] == [
        "NAME",
        "drop",
        "rows",
        "fail",
    ]
    assert tools.stdout.splitlines()[1].split("   ")[1:] != []
    assert "table really?" in tools.stdout
    assert "writes, destructive" in tools.stdout
    assert "Drop a table." in tools.stdout
    assert "For good" not in tools.stdout
    resources = mcpace("resources", "--", *many, "stdio").stdout
    assert "notes://today" in resources
    assert "notes://{day}" in resources
    assert "text/plain" in resources
    prompts = mcpace("prompts", "--", *many, "stdio").stdout.splitlines()
    assert prompts[1].split() == ["greet", "name", "style?", "A", "greeting."]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_the_list_as_the_server_sent_it(many: list[str], form: str):
    done = mcpace("tools", "-o", form, "--", *many, "stdio")
    told = (json.loads if form == "json" else yaml.safe_load)(done.stdout)
    assert [each["name"] for each in told["tools"]] == ["drop", "rows", "fail"]
    assert told["tools"][0]["annotations"]["destructiveHint"] is True
    assert told["tools"][0]["inputSchema"]["required"] == ["table"]


@pytest.mark.parametrize(("transport", "path"), [("streamable-http", "/mcp"), ("sse", "/sse")])
def test_a_url_is_spoken_to_as_it_turns_out(many: list[str], transport: str, path: str):
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    with subprocess.Popen([*many, transport, str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            listed = mcpace("tools", url, "--wait", "60s", "-o", "json")
            assert listed.returncode == 0, listed.stderr
            assert len(json.loads(listed.stdout)["tools"]) == 3
            done = mcpace("call", url, "rows", "count=3", "-o", "json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["result"]["structuredContent"] == {"result": [0, 1, 2]}
            if transport == "sse":
                refused = mcpace("tools", url, "--transport", "http")
                assert refused.returncode == 2
                assert "HTTP 4" in refused.stderr
        finally:
            server.kill()


def test_a_command_is_called_as_a_url_is(many: list[str]):
    done = mcpace("call", "rows", "count=2", "--", *many, "stdio")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"] == {"result": [0, 1]}
    assert " ms" in done.stderr
    failed = mcpace("call", "fail", "-o", "table", "--", *many, "stdio")
    assert failed.returncode == 1
    assert "Error executing tool fail" in failed.stdout
    nothing = mcpace("call", "rows", "--", "no-such-program")
    assert nothing.returncode == 2
    assert "Cannot start 'no-such-program'" in nothing.stderr
    assert "Traceback" not in nothing.stderr


async def test_a_call_tells_its_time_what_is_left_and_whether_it_was_a_hit(weather: int, start: Start):
    config: dict[str, Any] = {
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 10, "requestsPerDay": 100}]},
        "cache": {"tools": [{"name": "get-weather", "ttl": "5m", "scope": "shared"}]},
    }
    sidecar = await start(weather, config)
    admin = f"http://127.0.0.1:{sidecar.admin}"
    told = []
    for _ in range(2):
        done = await beside("call", sidecar.url, "get-weather", "city=Oslo", "--admin", admin, "-o", "json")
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert [each["cache"] for each in told] == ["miss", "memory"]
    left = [{limit["name"]: limit["remaining"] for limit in each["limits"]} for each in told]
    assert [each["day"] for each in left] == [99, 98]
    assert all(each["minute"] < 10 for each in left)
    assert told[0]["milliseconds"] > 100, "the example takes a quarter of a second"
    done = await beside("call", sidecar.url, "get-weather", "city=Oslo", "--admin", admin)
    assert re.search(
        r"^\d+ ms; cache: hit \(memory\); left: \d of minute \(whole in \d+ s\), 97 of day", done.stderr
    ), done.stderr


async def test_all_pages_of_a_result_are_one(many: list[str], start: Start):
    port = free_port()
    async with serving(port, *many, "streamable-http", port):
        sidecar = await start(port, {"responses": {"page": {"tools": [{"name": "rows", "items": 20}]}}})
        first = await beside("call", sidecar.url, "rows", "count=90")
        assert len(json.loads(json.loads(first.stdout)["content"][0]["text"])["data"]) == 20
        done = await beside("call", sidecar.url, "rows", "count=90", "--all-pages")
        assert done.returncode == 0, done.stderr
        whole = json.loads(json.loads(done.stdout)["content"][0]["text"])
        assert whole["data"] == list(range(90))
        assert (whole["showing"], whole["total"], whole["total_pages"]) == (90, 90, 1)
        assert "handle" not in whole


async def test_what_a_server_says_is_not_obeyed_by_a_terminal(scripted: Scripted):
    evil = b"\\u001b]0;evil\\u0007\\u202e"
    tools = b'{"tools":[{"name":"a%b","description":"%b","inputSchema":{"type":"object"}}]}' % (evil, evil)

    def answer(request: Any) -> bytes:
        body = json.loads(request.body)
        result = (
            tools
            if body["method"] == "tools/list"
            else (
                b'{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"x","version":"1"}}'
            )
        )
        if body["method"] == "server/discover":
            return json_answer(
                b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"no"}}' % body["id"]
            )
        return json_answer(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (body.get("id", 0), result))

    scripted.answer = answer
    for form in ("table", "json", "yaml"):
        done = await beside("tools", f"http://127.0.0.1:{scripted.port}/mcp", "-o", form)
        assert done.returncode == 0, done.stderr
        assert "evil" in done.stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


def test_a_server_that_lists_nothing_is_said(tmp_path: Path):
    server = [sys.executable, "-c", "from mcp.server.mcpserver import MCPServer; MCPServer('empty').run()"]
    done = mcpace("prompts", "--", *server)
    assert done.returncode == 0
    assert "lists no prompts" in done.stderr
    assert json.loads(mcpace("prompts", "-o", "json", "--", *server).stdout) == {"prompts": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tools"], "Write the server's URL, or after -- the command that starts it."),
        (["tools", "http://127.0.0.1:1/mcp", "x"], "One server is asked, so what is 'x'?"),
        (["tools", "localhost"], "is no URL; write for example"),
        (
            ["resources", "http://127.0.0.1:1/mcp"],
            "does not accept connections on 127.0.0.1:1 (connection refused)",
        ),
        (["prompts", "http://nowhere.invalid/mcp"], "(name or service not known)"),
        (["tools", "--", "false"], "its process ended, or closed its output, before it answered"),
    ],
)
def test_what_keeps_from_asking_is_one_line(arguments: list[str], words: str):
    done = mcpace(*arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_proxy_that_is_in_between_is_said():
    around = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:1")
    around |= dict.fromkeys(("NO_PROXY", "no_proxy"), "")
    done = mcpace("tools", "https://far.invalid/mcp", **around)
    assert done.returncode == 2
    assert "far.invalid:443, by way of the environment's proxy (connection refused)" in done.stderr
