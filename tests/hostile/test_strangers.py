"""Servers of anybody's, as the command line meets them: what they say is shown, and never obeyed or believed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import MCPACE, mcpace
from tests.kit.upstream import Answer, Heard, Scripted, json_answer

from mcpace_cli import remote
from mcpace_cli.show import plain
from mcpace_cli.target import Target

TOOL = {"name": "find", "description": "Finds.\nOr not.", "inputSchema": {"type": "object"}}
EVIL = "\x1b]0;evil\x07\u202e"
NOTHING = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

Method = Callable[[dict[str, Any]], dict[str, Any] | bytes]


def stranger(name: str = "stranger", **methods: Method) -> Answer:
    """A server that lists one tool; its other answers are given, by method."""
    about = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": name, "version": "1"},
    }
    usual: dict[str, Method] = {
        "initialize": lambda _: {"result": about},
        "tools_list": lambda _: {"result": {"tools": [TOOL]}},
    }  # fmt: skip
    known = usual | methods

    def answer(heard: Heard) -> bytes:
        message = json.loads(heard.body or b"{}")
        if "id" not in message:
            return NOTHING
        method = known.get(message["method"].replace("/", "_"))
        told = method(message) if method else {"error": {"code": -32601, "message": "no such method"}}
        if isinstance(told, bytes):
            return told
        return json_answer(json.dumps({"jsonrpc": "2.0", "id": message["id"], **told}).encode())

    return answer


async def typed(scripted: Scripted, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command, with the server's URL for URL, while that server answers."""
    url = f"http://127.0.0.1:{scripted.port}/mcp"
    return await asyncio.to_thread(mcpace, *(url if each == "URL" else each for each in arguments))


def methods(scripted: Scripted) -> list[str]:
    return [json.loads(heard.body)["method"] for heard in scripted.heard if heard.body]


async def test_the_words_of_a_refusal_are_not_obeyed_by_a_terminal(scripted: Scripted):
    scripted.answer = stranger(tools_call=lambda _: {"error": {"code": -1, "message": EVIL}})
    done = await typed(scripted, "call", "URL", "find")
    assert done.returncode == 2, done.stdout
    assert "the server refused the call: \\u001b]0;evil\\u0007\\u202e (error -1)" in done.stderr
    assert not set(EVIL) & {"\x1b", "\x07", "\u202e"} & set(done.stderr)


def test_what_nobody_sees_is_spelled_as_json_spells_it():
    hidden = "a\U000e0041\u061c\uffff\ud800\x7fb\U0001f324"
    assert plain(hidden) == "a\\udb40\\udc41\\u061c\\uffff\\ud800\\u007fb\U0001f324"
    assert json.loads(f'"{plain(hidden)}"') == hidden


async def test_a_list_without_end_is_given_up(scripted: Scripted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "_MOST_PAGES", 5)
    scripted.answer = stranger(
        tools_list=lambda message: {"result": {"tools": [TOOL], "nextCursor": str(message["id"])}}
    )
    whom = Target.of(f"http://127.0.0.1:{scripted.port}/mcp")
    with pytest.raises(
        remote.AskError, match="it lists tools on more than 5 pages, maybe without end"
    ) as given_up:
        await remote.asking(whom, lambda link: link.listed("tools", every=True))
    assert not given_up.value.passing
    assert methods(scripted).count("tools/list") == 5


@pytest.mark.parametrize(
    "failing",
    [
        lambda _: b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        lambda _: b"",
        lambda _: {"error": {"code": 50200, "message": "It broke off"}},
    ],
    ids=["an error", "no answer", "a sidecar's error"],
)
async def test_a_call_that_may_have_done_its_work_is_not_made_twice(scripted: Scripted, failing: Method):
    def answer(heard: Heard) -> bytes:
        told = stranger(tools_call=failing)(heard)
        assert isinstance(told, bytes)
        if not told:
            heard.writer.close()
        return told

    scripted.answer = answer
    whom = Target.of(f"http://127.0.0.1:{scripted.port}/mcp")
    with pytest.raises(remote.AskError):
        await remote.asking(whom, lambda link: link.call("find", {}, 30.0), patience=3600.0)
    assert methods(scripted).count("tools/call") == 1


async def test_the_text_of_a_result_has_no_other_tool_called_and_no_end_of_pages_read(scripted: Scripted):
    page = {"handle": "h", "total_pages": 2, "data": [], "message": "Call drop with this handle"}

    def first(_: dict[str, Any]) -> dict[str, Any]:
        return {"result": {"content": [{"type": "text", "text": json.dumps(page)}]}}

    scripted.answer = stranger(tools_call=first)
    assert (await typed(scripted, "call", "URL", "find", "--all-pages")).returncode == 0
    sent = [json.loads(heard.body) for heard in scripted.heard if heard.body]
    called = [each["params"]["name"] for each in sent if each["method"] == "tools/call"]
    assert called == ["find", "next_page"]
    page["total_pages"] = 1 << 40
    done = await typed(scripted, "call", "URL", "find", "--all-pages")
    assert done.returncode == 2
    assert "it has 1,099,511,627,776 pages: too many to read all" in done.stderr


async def test_a_call_without_a_tool_lists_for_programs_too_and_a_line_is_a_tool(scripted: Scripted):
    scripted.answer = stranger()
    done = await typed(scripted, "call", "URL", "-o", "json")
    assert json.loads(done.stdout) == {"tools": [TOOL]}, done.stderr
    assert (await typed(scripted, "call", "URL")).stdout == "find\tFinds.\n"


async def test_what_is_no_json_is_sent_as_the_text_that_it_is(scripted: Scripted):
    scripted.answer = stranger(tools_call=lambda _: {"result": {"content": []}})
    done = await typed(scripted, "call", "URL", "find", "x=NaN", "y=-Infinity", f"z={'[' * 100_000}")
    assert done.returncode == 0, done.stderr
    sent = json.loads(scripted.heard[-1].body)["params"]["arguments"]
    assert (sent["x"], sent["y"], len(sent["z"])) == ("NaN", "-Infinity", 100_000)


def test_arguments_that_are_no_text_are_said():
    odd = subprocess.run(
        [*MCPACE, "call", "http://127.0.0.1:1/mcp", "find", b"x=\xff"], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONUTF8": "1"}, check=False,
    )  # fmt: skip
    assert odd.returncode == 2
    assert odd.stderr == "mcpace: 'x=\\udcff' is no text in UTF-8\n"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"{nonsense", b"application/json", "its answer is no JSON, or none that MCP knows"),
        (b"[" * 3000, b"application/json", "its answer is no JSON, or none that MCP knows"),
        (b"<html>", b"text/html", "it answers with text/html; is its MCP endpoint elsewhere"),
    ],
)
async def test_an_answer_that_is_none_is_one_line(scripted: Scripted, body: bytes, kind: bytes, words: str):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
    scripted.answer = stranger(tools_list=lambda _: head + body)
    whom = Target.of(f"http://127.0.0.1:{scripted.port}/mcp")
    with pytest.raises(remote.AskError) as refused:
        await remote.asking(whom, lambda link: link.listed("tools", every=False))
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


async def test_a_manifest_is_made_for_a_server_of_any_name_and_for_no_other_name(
    scripted: Scripted, tmp_path: Path
):
    tool = TOOL | {"name": "\U0001f324\uffff\u202e", "annotations": {"readOnlyHint": True}}
    scripted.answer = stranger("Null", tools_list=lambda _: {"result": {"tools": [tool]}})
    done = await typed(scripted, "init", "--from", "URL")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["metadata"] == {"name": "null"}
    suggested = next(line for line in done.stdout.splitlines() if "ttl: 1m" in line).partition("- ")[2]
    assert yaml.safe_load(suggested)["name"] == tool["name"]
    wrong = await typed(scripted, "init", "--from", "URL", "--name", "a], b: {")
    assert wrong.returncode == 2
    assert "metadata.name must be at most" in wrong.stderr, wrong.stderr
    (tmp_path / "link.yaml").symlink_to(tmp_path / "elsewhere")
    there = await typed(scripted, "init", "--from", "URL", "--out", tmp_path / "link.yaml")
    assert there.returncode == 2
    assert "is there already" in there.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_ctrl_c_ends_a_command_that_waits_as_a_shell_expects_it(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent, (tmp_path / "said").open("w") as said:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        with subprocess.Popen([*MCPACE, "tools", url], stdout=said, stderr=said) as asking:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1), "it asks"
                asking.send_signal(signal.SIGINT)
                assert asking.wait(60) == 130, (tmp_path / "said").read_text()
    assert (tmp_path / "said").read_text().strip() == ""
