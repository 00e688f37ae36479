"""The server that `mcpace run` starts: it and all it starts end with us, and nobody else's is taken for it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kit.laptop import MCPACE, WEATHER, listens, manifest, mcpace, port_of, running, wait_for
from tests.kit.waiting import DEADLINE
from tools.ports import free_port

from mcpace_sidecar.stdio.pipes import ended

SHELL = ["sh", "-c", f"{' '.join(WEATHER)}; true"]
LISTEN = (
    "import os,socket,time; s=socket.create_server(('127.0.0.1',int(os.environ['PORT']))); time.sleep(99)"
)


def npm(folder: Path) -> list[str]:
    (folder / "package.json").write_text(json.dumps({"name": "s", "scripts": {"start": " ".join(WEATHER)}}))
    return ["npm", "--prefix", str(folder), "start"]


@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGINT, "direct"),
        (signal.SIGINT, "npm"),
        (signal.SIGTERM, "sh"),
        (signal.SIGHUP, "sh"),
        (signal.SIGQUIT, "sh"),
    ],
)
def test_every_signal_ends_the_server_with_all_it_started(
    tmp_path: Path, number: signal.Signals, command: str
):
    path = manifest(tmp_path)
    started = {"direct": WEATHER, "sh": SHELL}.get(command) or npm(tmp_path)
    with running(tmp_path, path, "--", *started) as run:
        assert run.url()
        run.send(number)
        assert run.wait() == 0, run.said
    assert not listens(port_of(path))
    assert "Traceback" not in run.said


def daemon(body: str) -> str:
    """A program that forks twice, and becomes the leader of a session between."""
    return f"import os,signal,time\nif os.fork(): os.wait(); os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n{body}"


def test_a_server_that_leaves_our_session_is_still_ours_and_ends_with_us(tmp_path: Path):
    path = manifest(tmp_path)
    apart = f"setsid {' '.join(WEATHER)} & exec sleep 99"
    with running(tmp_path, path, "--", "sh", "-c", apart) as run:
        assert run.url()
        run.send(signal.SIGTERM)
        assert run.wait() == 0, run.said
    assert not listens(port_of(path))


@pytest.mark.parametrize("times", [1, 2], ids=["asked", "hurried"])
def test_a_helper_that_is_nobodys_child_ends_with_the_server(tmp_path: Path, times: int):
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if times == 2 else ""
    (tmp_path / "helper.py").write_text(
        daemon(f"{stubborn}print('helper', os.getpid(), flush=True)\ntime.sleep(99)")
    )
    command = f"{sys.executable} {tmp_path / 'helper.py'}; exec {' '.join(WEATHER)}"
    with running(tmp_path, manifest(tmp_path), "--", "sh", "-c", command) as run:
        assert run.url()
        helper = int(run.until_said("helper ").rpartition("helper ")[2].split()[0])
        for _ in range(times):
            run.send(signal.SIGINT)
            run.until_said("Ending; once more ends it at once")
        assert run.wait() == (0 if times == 1 else 130), run.said
    wait_for(lambda: not Path(f"/proc/{helper}").exists(), "the helper to end")


def test_a_helper_that_ends_leaves_no_zombie(tmp_path: Path):
    (tmp_path / "helper.py").write_text(daemon("print('helper', os.getpid(), flush=True)"))
    command = f"{sys.executable} {tmp_path / 'helper.py'}; exec sleep 99"
    with running(tmp_path, manifest(tmp_path), "--", "sh", "-c", command) as run:
        helper = int(run.until_said("helper ").rpartition("helper ")[2].split()[0])
        wait_for(lambda: not Path(f"/proc/{helper}").exists(), "the helper to be asked about")


def test_what_was_below_us_before_is_not_the_servers_and_lives_on(tmp_path: Path):
    line = 'sleep 99 & echo $! >"$0/before"; exec "$@"'
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            ["sh", "-c", line, str(tmp_path), *MCPACE, "run", str(manifest(tmp_path)), "--", *WEATHER],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        wait_for(lambda: "http://" in (tmp_path / "said").read_text().partition("/mcp")[0], "the URL")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        os.kill(int((tmp_path / "before").read_text()), signal.SIGKILL)
    finally:
        process.kill()


@pytest.mark.parametrize("command", [WEATHER, SHELL], ids=["direct", "sh"])
def test_the_server_ends_even_where_we_are_killed(tmp_path: Path, command: list[str]):
    path = manifest(tmp_path)
    with running(tmp_path, path, "--", *command) as run:
        assert run.url()
        run.process.kill()
        run.wait()
        wait_for(lambda: not listens(port_of(path)), "the server to end")


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path: Path):
    path = manifest(tmp_path)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with running(tmp_path, path, "--", *WEATHER) as run:
            assert run.url()
            run.send(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                run.wait(1)
            assert listens(port_of(path))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_hurries(tmp_path: Path):
    path = manifest(tmp_path)
    stubborn = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('really', 'up', flush=True); time.sleep(99)"
    with running(tmp_path, path, "--", sys.executable, "-c", stubborn) as run:
        run.until_said("really up")
        run.send(signal.SIGINT)
        run.until_said("Ending; once more ends it at once")
        run.send(signal.SIGINT)
        assert run.wait(8) == 130


def test_a_server_that_does_not_end_when_asked_is_killed(tmp_path: Path):
    path = manifest(tmp_path)
    stubborn = (
        "import signal,time,os; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('pid', os.getpid(), flush=True); time.sleep(99)"
    )
    with running(tmp_path, path, "--", sys.executable, "-c", stubborn) as run:
        pid = int(run.until_said("pid ").rpartition("pid ")[2].split()[0])
        run.send(signal.SIGTERM)
        assert run.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_port_that_is_taken_before_is_no_server_of_ours(tmp_path: Path, weather: int):
    done = mcpace("run", manifest(tmp_path, port=weather), "--", "sleep", "100")
    assert done.returncode == 2
    assert f"Port {weather} is taken by PID " in done.stderr
    assert "leave the command out to use what listens" in done.stderr


def test_a_stranger_that_listens_later_is_not_taken_for_the_command(tmp_path: Path):
    path = manifest(tmp_path)
    with running(tmp_path, path, "--", "sleep", "100") as run:
        run.until_said("Starting the server: sleep 100")
        with subprocess.Popen(WEATHER, env=os.environ | {"PORT": str(port_of(path))}) as stranger:
            try:
                assert run.wait(30) == 1
            finally:
                stranger.kill()
        assert f"PID {stranger.pid} (" in run.said
        assert "the command did not start it" in run.said
        assert "Ready" not in run.said


def test_without_a_command_the_server_that_listens_is_used(tmp_path: Path, weather: int):
    with running(tmp_path, manifest(tmp_path, port=weather)) as run:
        assert run.url()
        assert "Using the server that listens on port" in run.said
    assert listens(weather)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_how_the_server_ended_is_said(tmp_path: Path, code: str, said: str):
    done = mcpace("run", manifest(tmp_path), "--", sys.executable, "-c", code)
    assert done.returncode == 1
    assert f"The server {said}." in done.stderr
    assert "over stdio" not in done.stderr


def test_a_number_that_is_no_signal_is_said_too():
    assert ended(-250) == "was killed by signal 250"


def test_a_server_of_stdio_that_ends_at_once_is_told_what_it_is(tmp_path: Path):
    done = mcpace("run", manifest(tmp_path), "--", "true")
    assert done.returncode == 1
    assert "The server ended with exit code 0." in done.stderr
    assert "If it speaks MCP over stdio, write `transport: stdio` in the manifest" in done.stderr


def test_a_server_that_reads_its_standard_input_is_told_what_it_is(tmp_path: Path):
    with running(tmp_path, manifest(tmp_path), "--", "cat") as run:
        said = run.until_said("the command reads its standard input")
    assert "If it speaks MCP over stdio, write `transport: stdio`" in said


def test_a_server_on_another_port_is_found(tmp_path: Path):
    other = free_port()
    code = LISTEN.replace("int(os.environ['PORT'])", str(other))
    with running(
        tmp_path, manifest(tmp_path), "--", "sh", "-c", f'{sys.executable} -c "{code}"; true'
    ) as run:
        assert f"write `port: {other}`" in run.until_said("The command listens on")


def test_a_server_that_does_not_listen_is_told_the_port_to_listen_on(tmp_path: Path):
    path = manifest(tmp_path)
    with running(tmp_path, path, "--", "sleep", "100") as run:
        said = run.until_said("Waiting for the server (5 s)")
    assert "(connection refused). Let it listen on $PORT" in said
    assert "or write its `port` in the manifest" in said


def test_a_web_server_is_named_for_what_it_is_and_left_in_peace(tmp_path: Path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/index.html").write_text("<html>hello</html>")
    path = manifest(tmp_path)
    web = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        str(port_of(path)),
        "--bind",
        "127.0.0.1",
        "-d",
        tmp_path / "web",
    ]
    with running(tmp_path, path, "--", *web) as run:
        began = time.monotonic()
        said = run.until_said("Waiting for the server (5 s)")
        asked = said.count('"POST /mcp')
        assert asked < 3 * (time.monotonic() - began) + 10, said
    assert "HTML" in said
    assert "no MCP server" in said


def test_the_command_gets_no_secret_of_ours(tmp_path: Path):
    code = "import os; print('seen', [n for n in os.environ if n.startswith('MCPACE_')])"
    done = mcpace("run", manifest(tmp_path), "--", sys.executable, "-c", code, MCPACE_ADMIN_TOKEN="secret")
    assert "seen []" in done.stderr


def test_two_at_once_choose_ports_and_say_them(tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with (
        running(folders[0], manifest(folders[0]), "--", *WEATHER) as one,
        running(folders[1], manifest(folders[1]), "--", *WEATHER) as two,
    ):
        assert one.url() != two.url()
        assert "/metrics" in one.said
        assert "/metrics" in two.said


def test_several_started_at_once_share_no_usual_port(tmp_path: Path):
    usual = {"port": free_port(), "adminPort": free_port()}
    folders = [tmp_path / str(number) for number in range(3)]
    with contextlib.ExitStack() as stack:
        runs = []
        for folder in folders:
            folder.mkdir()
            path = manifest(folder, sidecar=usual)
            runs.append(stack.enter_context(running(folder, path, "--", *WEATHER)))
        urls = [run.url() for run in runs]
        said = "".join(run.said for run in runs)
    assert len(set(urls)) == len(folders)
    assert f"http://127.0.0.1:{usual['port']}/mcp" in urls, said
    assert len(set(re.findall(r"http://\S+/metrics", said))) == len(folders), said


def test_a_usual_port_that_is_taken_at_the_last_moment_leads_to_a_free_one(tmp_path: Path):
    """It starts by asking its Redis: here a thief, who takes the port before he lets it go on."""
    usual = free_port()
    path = manifest(tmp_path, sidecar={"port": usual})
    with socket.create_server(("127.0.0.1", 0)) as redis:
        redis.settimeout(DEADLINE)
        limits = f"redis://127.0.0.1:{redis.getsockname()[1]}/0"
        with running(tmp_path, path, "--", *WEATHER, MCPACE_LIMITS_URL=limits) as run:
            asking, _ = redis.accept()
            with asking:
                thief = socket.create_server(("127.0.0.1", usual))
            with thief:
                redis.close()
                url = run.url()
                assert f":{usual}/" not in url
                assert mcpace("call", url, "get-weather", "city=Oslo").returncode == 0, run.said


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
def test_a_usual_port_makes_way_for_the_other_that_is_asked_for(tmp_path: Path, flag: str):
    port = free_port()
    path = manifest(tmp_path, sidecar={"adminPort" if flag == "--listen" else "port": port})
    with running(tmp_path, path, f"{flag}=127.0.0.1:{port}", "--", *WEATHER) as run:
        url = run.url()
        assert (f":{port}/mcp" in url) == (flag == "--listen")
        assert (f":{port}/metrics" in run.said) == (flag == "--admin-listen")


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])
def test_every_address_is_said_to_be_others_too_and_the_url_can_be_called(tmp_path: Path, host: str):
    with running(tmp_path, manifest(tmp_path), f"--listen={host}:{free_port()}", "--", *WEATHER) as run:
        url = run.url()
        assert url.startswith("http://127.0.0.1:")
        assert mcpace("call", url, "get-weather", "city=Oslo").returncode == 0
        assert "is no address of this machine alone: others may call too" in run.said
        assert "others may read" not in run.said


def test_a_server_that_does_not_listen_yet_is_not_said_to_be_used(tmp_path: Path):
    path = manifest(tmp_path)
    with running(tmp_path, path) as run:
        run.until_said(f"Nothing listens on port {port_of(path)} yet: start the server there")
        assert "Using" not in run.said


UNVERSIONED = """
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
KNOWN = {
    "server/discover": {
        "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "mine"}},
    },
    "tools/list": {"tools": [{"name": "only", "inputSchema": {"type": "object"}}]},
}
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = KNOWN.get(asked["method"])
        said = {"result": known} if known else {"error": {"code": -32601, "message": "no such method"}}
        body = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), **said}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_server_without_a_version_and_with_one_tool_is_announced_so(tmp_path: Path):
    with running(tmp_path, manifest(tmp_path), "--", sys.executable, "-c", UNVERSIONED) as run:
        run.url()
        assert "Ready: mine, 1 tool, MCP 2026-07-28\n" in run.said
