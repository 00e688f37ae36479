"""Servers of stdio on a laptop: the page's commands, and what is left of processes."""

import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import Run, listens, manifest, mcpace, running, wait_for
from tests.kit.programs import ROOT
from tools.packages.install import modules, node, python_v1
from tools.ports import free_port

from mcpace_sidecar.stdio import strays

SERVER = [sys.executable, "-I", str(ROOT / "tests/kit/lineserver.py")]
PAGE = (ROOT / "docs/stdio.md").read_text()
PAGE_LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
PAGE_MANIFESTS = {
    yaml.safe_load(block)["metadata"]["name"]: block
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
}
PLACES = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
OWN = """
from mcp.server import MCPServer

server = MCPServer("mine")


@server.tool()
def hello(name: str) -> str:
    return f"Hello {name}"


server.run()
"""


def processes_of(run: Run) -> set[int]:
    """The processes whose lines were shown, by the name that they have in front."""
    return {int(pid) for pid in re.findall(r"^\w+\[(\d+)\]: ", run.said, re.MULTILINE)}


def lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("line", PAGE_LINES)
def test_the_pages_commands_serve_a_server_of_stdio(tmp_path: Path, line: str):
    (tmp_path / "server.py").write_text(OWN)
    (tmp_path / "time.yaml").write_text(PAGE_MANIFESTS["time"])
    (tmp_path / "node_modules").symlink_to(modules())
    program, command, *rest = line.split()
    assert (program, command) == ("mcpace", "run")
    path = os.pathsep.join(
        map(str, (Path(sys.executable).parent, python_v1().parent, node().parent, os.environ["PATH"]))
    )
    with running(tmp_path, *PLACES, *rest, cwd=tmp_path, PATH=path) as run:
        url = run.url()
        assert "Starting processes of the server, one for each session, 16 at most: " in run.said
        listed = mcpace("call", url)
        assert listed.returncode == 0, listed.stderr
        assert listed.stdout.strip()


def test_the_pages_other_manifest_is_one(tmp_path: Path):
    (tmp_path / "memory.yaml").write_text(PAGE_MANIFESTS["memory"])
    (tmp_path / "node_modules").symlink_to(modules())
    path = os.pathsep.join((str(node().parent), os.environ["PATH"]))
    with running(tmp_path, *PLACES, "memory.yaml", cwd=tmp_path, PATH=path) as run:
        done = mcpace("call", run.url(), "read_graph")
        assert "entities" in done.stdout, done.stderr


def test_a_command_with_a_port_is_a_server_of_http(tmp_path: Path):
    port = free_port()
    weather = [sys.executable, ROOT / "examples/weather/server.py"]
    with running(tmp_path, *PLACES, "--port", port, "--", *weather) as run:
        done = mcpace("call", run.url(), "get-weather", "city=Oslo")
        assert "degrees" in done.stdout, done.stderr
        assert listens(port)


def test_a_command_given_beside_a_manifest_is_started(tmp_path: Path):
    path = manifest(tmp_path, transport="stdio")
    with running(tmp_path, *PLACES, path, "--", *SERVER) as run:
        done = mcpace("call", run.url())
        assert "echo" in done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_processes_when_mcpace_run_ends_however_it_does(
    tmp_path: Path, number: signal.Signals
):
    script = 'echo "$$ here" >&2; trap "" TERM; sleep 3600 & exec "$@"'
    with running(tmp_path, *PLACES, "--", "sh", "-c", script, "sh", *SERVER, "deaf") as run:
        run.url()
        pids = wait_for(lambda: processes_of(run), "a process to say something")
        run.send(number)
        run.wait()
        wait_for(lambda: not any(map(lives, pids)), f"the groups {pids} to end; {run.said}")


def test_not_even_what_has_left_its_group_is_left_when_mcpace_run_is_killed(tmp_path: Path):
    script = 'echo "$MCPACE_PROCESS here" >&2; exec "$@"'
    with running(tmp_path, *PLACES, "--", "sh", "-c", script, "sh", *SERVER, "leaves") as run:
        run.url()
        marks = wait_for(lambda: set(re.findall(r"([0-9a-f]+\.\d+) here", run.said)), "a process to say so")
        wait_for(lambda: all(map(strays.alive, marks)), "its child to begin")
        run.send(signal.SIGKILL)
        run.wait()
        wait_for(lambda: not any(map(strays.alive, marks)), f"what bears {marks} to end")


def test_a_session_goes_on_when_its_process_ends_without_a_manifest_too(tmp_path: Path):
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with running(tmp_path, *PLACES, "--", *SERVER) as run:
        url = run.url()

        def post(method: str, **params: object) -> dict[str, Any]:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
                headers.setdefault("Mcp-Session-Id", answer.headers["Mcp-Session-Id"])
                return dict(json.loads(answer.read()))

        post(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "t", "version": "1"},
        )
        first = post("tools/call", name="pid")["result"]
        assert "error" in post("tools/call", name="die")
        assert post("tools/call", name="pid")["result"] != first


def test_a_second_interrupt_ends_deaf_processes_at_once(tmp_path: Path):
    script = 'echo "$$ here" >&2; exec "$@"'
    with running(tmp_path, *PLACES, "--", "sh", "-c", script, "sh", *SERVER, "deaf") as run:
        run.url()
        pids = wait_for(lambda: processes_of(run), "a process to say something")
        run.send(signal.SIGINT)
        run.until_said("once more ends it at once")
        run.send(signal.SIGINT)
        assert run.wait(4.5) == 130, "it waited for what it had killed"
        wait_for(lambda: not any(map(lives, pids)), f"the groups {pids} to end")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exits", "The server's process ended with exit code 1 before it answered `initialize`."),
        ("banner", "what is not belongs to its standard error"),
    ],
)
def test_a_server_that_never_answers_ends_mcpace_run_with_what_it_got_wrong(
    tmp_path: Path, how: str, words: str
):
    done = mcpace("run", *PLACES, "--", *SERVER, how)
    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Write a MANIFEST, or the command of a server of stdio: mcpace run -- npx -y SERVER."),
        (("--", "no-such-program"), "Cannot start 'no-such-program': there is no such program"),
        (("none.yaml", "--port", "1", "--", "x"), "--port is for a command without a manifest"),
        (("http://127.0.0.1:1/mcp",), "A URL is no MANIFEST: mcpace init --from URL --out FILE writes one"),
    ],
)
def test_what_cannot_be_run_is_said(arguments: tuple[str, ...], words: str):
    done = mcpace("run", *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_a_manifest_of_stdio_needs_a_command(tmp_path: Path):
    done = mcpace("run", manifest(tmp_path, transport="stdio"))
    assert done.returncode == 2
    assert "transport stdio needs `command`" in done.stderr
