"""`mcpace init`: a manifest from what a server says of itself."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from pathlib import Path

import pytest
import yaml
from tests.kit.laptop import WEATHER, mcpace, running
from tests.kit.programs import ROOT
from tools.packages.install import python_v1
from tools.ports import free_port

from mcpace_cli.check import judge

LINES = [sys.executable, "-I", str(ROOT / "tests/kit/lineserver.py")]
PLACES = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
COUNTING = """
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations
from pathlib import Path

server = MCPServer("9 Odd: 'names' \\u202e", version="1\\n2")
READS = ToolAnnotations(read_only_hint=True, open_world_hint=True)


@server.tool(annotations=READS)
def rows() -> list[str]:
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write("rows ")
    return [f"row {number:0100d}" for number in range(500)]


@server.tool(annotations=READS)
def text(length: int) -> str:
    with Path(__file__).with_name("calls").open("a") as calls:
        calls.write("text ")
    return "x" * length


@server.tool(name="yes", annotations=READS)
def affirm() -> str:
    return "yes"


@server.tool(name="-: {odd}", annotations=ToolAnnotations(read_only_hint=False))
def odd() -> str:
    return ""


@server.tool()
def silent() -> str:
    return ""


server.run()
"""


def switched_on(text: str) -> str:
    """The manifest with every suggestion in it."""
    return re.sub(r"(?m)^( *)# ", r"\1", text)


def valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "judged.yaml"
    path.write_text(text)
    assert judge(path).found == [] or all(each.severity == "warning" for each in judge(path).found), text


def test_a_server_of_stdio_gets_a_manifest_that_is_valid_and_runs(tmp_path: Path):
    path = tmp_path / "made.yaml"
    done = mcpace("init", "--out", path, "--", *LINES)
    assert done.returncode == 0, done.stderr
    assert f"mcpace run {path}" in done.stderr
    made = yaml.safe_load(path.read_text())
    assert made["spec"]["transport"] == "stdio"
    assert made["spec"]["command"] == LINES
    assert set(made["spec"]) == {"image", "transport", "command"}, "nothing is switched on"
    assert mcpace("check", path).returncode == 0
    with running(tmp_path, *PLACES, path) as run:
        assert "echo" in mcpace("tools", run.url()).stdout


def test_a_server_that_runs_gets_one_and_so_does_one_that_a_command_starts(tmp_path: Path):
    port = free_port()
    started = mcpace("init", "--port", port, "--", *WEATHER)
    assert started.returncode == 0, started.stderr
    assert started.stderr.rstrip().endswith(f"mcpace run MANIFEST -- {shlex.join(WEATHER)}")
    path = tmp_path / "weather.yaml"
    with running(tmp_path, *PLACES, "--port", port, "--", *WEATHER) as run:
        run.url()
        done = mcpace("init", "--from", f"http://127.0.0.1:{port}/mcp", "--out", path)
        assert done.returncode == 0, done.stderr
        assert path.read_text() == started.stdout
    assert yaml.safe_load(started.stdout) == {
        "apiVersion": "mcpace.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": "weather"},
        "spec": {"image": "weather:latest", "port": port},
    }
    assert "##   report-storm: writes" in started.stdout
    path.write_text(switched_on(path.read_text()))
    spec = yaml.safe_load(path.read_text())["spec"]
    assert spec["cache"]["tools"] == [
        {"name": "get-weather", "ttl": "1m", "scope": "shared"},
        {"name": "forecast", "ttl": "1m", "scope": "shared"},
        {"name": "report-storm", "invalidates": ["get-weather", "forecast"]},
    ]
    assert [tool["name"] for tool in spec["rateLimits"]["tools"]] == ["report-storm"]
    with running(tmp_path, *PLACES, path, "--", *WEATHER) as run:
        url = run.url()
        assert mcpace("check", path, "--against", url).returncode == 0
        assert mcpace("call", url, "get-weather", "city=Oslo").returncode == 0
        path.write_text(path.read_text().replace("name: forecast", "name: forecats"))
        wrong = mcpace("check", path, "--against", url)
        assert wrong.returncode == 1
        assert "'forecats' is no tool that the server lists; did you mean forecast?" in wrong.stderr
        assert re.match(rf"{re.escape(str(path))}:\d+:\d+: spec\.cache\.tools\[1\]\.name: ", wrong.stderr)
        misspelled = "name: forecast, key: {arguments: [cty]}"
        path.write_text(path.read_text().replace("name: forecats", misspelled))
        wrong = mcpace("check", path, "--against", url)
        assert wrong.returncode == 1
        assert "spec.cache.tools[1].key.arguments[0]: 'cty' is no argument of 'forecast'" in wrong.stderr
        assert "did you mean city?" in wrong.stderr


def test_no_tool_is_called_but_those_that_are_named_and_what_they_took_is_said(tmp_path: Path):
    (tmp_path / "server.py").write_text(COUNTING)
    command = [sys.executable, str(tmp_path / "server.py")]
    plain = mcpace("init", "--", *command)
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "calls").exists()
    assert "responses" not in plain.stdout
    done = mcpace("init", "--call", "rows", "--call", "text length=40000", "--", *command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == "rows text "
    made = yaml.safe_load(switched_on(done.stdout))
    assert made["spec"]["responses"]["page"]["tools"] == [
        {"name": "rows", "items": 20},
        {"name": "text", "bytes": "32Ki"},
    ]
    assert re.search(r"##   text: read-only, open-world; answered in \d+ ms, \d\d,\d{3} bytes", done.stdout)


def test_what_a_server_writes_while_it_is_asked_is_shown_only_where_it_fails():
    quiet = mcpace("init", "--", python_v1().parent / "mcp-server-time", "--local-timezone", "UTC")
    assert quiet.returncode == 0, quiet.stderr
    assert quiet.stderr.startswith("Look at it with "), "its own log is of no interest"
    failing = mcpace("init", "--", sys.executable, "-c", "import sys; sys.exit('no database here')")
    assert failing.returncode == 2
    assert "no database here\n" in failing.stderr
    assert "its process ended, or closed its output, before it answered" in failing.stderr


def test_a_server_that_starts_elsewhere_or_not_at_all_is_told_from_one_that_does():
    port, other = free_port(), free_port()
    ended = mcpace("init", "--port", port, "--", sys.executable, "-c", "print('no database'); exit(3)")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no database\n" in ended.stderr
    assert "The server ended with exit code 3." in ended.stderr
    elsewhere = mcpace("init", "--port", port, "--", "env", f"PORT={other}", *WEATHER)
    assert elsewhere.returncode == 2
    assert f"The command listens on {other}: write --port {other}." in elsewhere.stderr
    with socket.create_server(("127.0.0.1", port)):
        taken = mcpace("init", "--port", port, "--", *WEATHER)
    assert taken.returncode == 2
    assert f"Port {port} is taken" in taken.stderr


def test_a_servers_odd_words_make_no_odd_manifest(tmp_path: Path):
    (tmp_path / "server.py").write_text(COUNTING)
    done = mcpace("init", "--", sys.executable, tmp_path / "server.py")
    made = yaml.safe_load(done.stdout)
    assert re.fullmatch("[a-z][-a-z0-9]*[a-z0-9]", made["metadata"]["name"])
    assert "\u202e" not in done.stdout
    valid(tmp_path, done.stdout)
    valid(tmp_path, switched_on(done.stdout))
    spec = yaml.safe_load(switched_on(done.stdout))["spec"]
    assert [tool["name"] for tool in spec["cache"]["tools"]] == ["rows", "text", "yes", "-: {odd}"]
    assert [tool["name"] for tool in spec["rateLimits"]["tools"]] == ["-: {odd}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Write --from URL, or after -- the command that starts the server."),
        (["--from", "http://127.0.0.1:1/mcp", "--", "x"], "Write --from URL, or after --"),
        (["--from", "http://127.0.0.1:1/mcp", "--port", "80"], "--port is for a command"),
        (["--from", "http://127.0.0.1:1/mcp"], "does not accept connections"),
        (["--out", "HERE", "--", *LINES], "is there already"),
        (["--out", "no/m.yaml", "--", *LINES], "there is no folder no; make it first"),
        (["mcp-server-time"], "'mcp-server-time' belongs after --: mcpace init -- mcp-server-time"),
        (["http://127.0.0.1:1/mcp"], "belongs after --from: mcpace init --from http://127.0.0.1:1/mcp"),
        (["npx", "-y", "server"], "What belongs to the server's command goes after --."),
        (["--call", "nowhere", "--", *LINES], "the server lists no such tool"),
        (["--call", "echo x", "--", *LINES], "write NAME=VALUE"),
        (["--name", "Not A Name", "--", *LINES], "metadata.name must be at most"),
    ],
)
def test_what_keeps_from_writing_is_said(tmp_path: Path, arguments: list[str], words: str):
    (tmp_path / "here").write_text("kept")
    done = mcpace("init", *(str(tmp_path / "here") if each == "HERE" else each for each in arguments))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (tmp_path / "here").read_text() == "kept"
