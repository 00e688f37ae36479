"""`mcpace run` on a terminal: what is drawn, the keys, what is left of it; and several servers at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import MCPACE, WEATHER, listens, manifest, mcpace, running, wait_for
from tests.kit.redis import RedisServer
from tests.kit.terminal import Terminal, on_a_terminal
from tests.kit.waiting import STARTING

RUN = [*MCPACE, "run"]
CACHED = {"cache": {"tools": [{"name": "get-weather", "ttl": "5m", "scope": "shared"}]}}
STARTS = {"command": WEATHER[:1], "args": WEATHER[1:]}
ROW = re.compile(r"^get-weather .*?(\d+) +(\d+) +(\d+) +(\d+) +(\d+) *$", re.MULTILINE)
"""Calls, hits, limited, errors and in flight are its last columns."""
CRASHES = """
import sys
from mcpace_cli.live import view

draw = view.frame

def fails(served, wish):
    if wish.note:
        raise RuntimeError("drawn no more")
    return draw(served, wish)

view.frame = fails
from mcpace_cli.__main__ import main
main()
"""
HOSTILE = r"""
import json, sys

def say(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    sys.stdout.flush()

print("\x1b]0;owned\x07\x1b[2J\x9b31m says \x1b[31mred\x1b[0m things\r50%\r\u202etxt", file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    number = message.get("id")
    if message.get("method") == "initialize":
        info = {"name": "evil\x1b[2J\x1b]0;owned\x07", "version": "1\u202e"}
        version = message["params"]["protocolVersion"]
        say(id=number, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
    elif message.get("method") == "tools/list":
        tools = [{"name": "\x1b[31m<script>\x07\n", "inputSchema": {"type": "object"}}]
        say(id=number, result={"tools": tools})
    elif number is not None:
        say(id=number, error={"code": -32601, "message": "no such method\x1b[2J"})
"""


def named(folder: Path, name: str, **spec: Any) -> Path:
    """A manifest of its own; its server has a port, unless it is of stdio."""
    (folder / name).mkdir()
    path = manifest(folder / name, **spec)
    document = yaml.safe_load(path.read_text())
    document["metadata"]["name"] = name
    path.write_text(yaml.safe_dump(document))
    return path


def places(terminal: Terminal) -> tuple[str, str]:
    """Where the server that is drawn is called, and its page."""
    frame = terminal.until_drawn("Ready: ")
    found = re.search(r"^(http://\S+/mcp) +a page: (http://\S+/)", frame, re.MULTILINE)
    assert found is not None, frame
    return found[1], found[2]


def stats(page: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{page}stats?recent") as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def call(url: str) -> None:
    done = mcpace("call", url, "get-weather", "city=Oslo")
    assert done.returncode == 0, done.stderr


def drawn(terminal: Terminal) -> list[int]:
    """Calls, hits, limited, errors and in flight of get-weather."""
    found = ROW.search(terminal.frame)
    return [int(each) for each in found.groups()] if found else []


def test_a_terminal_shows_what_each_tool_does_and_the_log_below(tmp_path: Path):
    path = manifest(tmp_path, **CACHED)
    with on_a_terminal(*RUN, path, "--", *WEATHER) as terminal:
        url, page = places(terminal)
        call(url)
        call(url)
        terminal.until(lambda: drawn(terminal)[:2] == [2, 1], "two calls, one of them a hit")
        told = stats(page)["calls"]["get-weather"]
        assert drawn(terminal) == [told["count"], told["hits"], told["limited"], told["errors"], 0]
        kept = stats(page)["cache"]["results"]
        frame = terminal.until_drawn(f"cache: {kept} result", "Ready: weather 1.4.0, MCP ")
        head, log = frame.split("-- log ")
        assert re.search(r"^TOOL +CALLS/S +CURVE +P50 +P95 +P99 +CALLS +HITS +LIMITED", head, re.MULTILINE)
        for tool in ("forecast", "report-storm"):
            assert re.search(rf"^{tool} +0 ", head, re.MULTILINE), head
        assert "A page to look at:" in log
        path.write_text(path.read_text().replace("5m", "6m"))
        terminal.until_drawn("The configuration was reloaded: cache.tools[0].ttl: 5m -> 6m")
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.obeyed == set()


def test_p_purges_the_cache_and_l_shows_the_log_or_not(tmp_path: Path):
    with on_a_terminal(*RUN, manifest(tmp_path, **CACHED), "--", *WEATHER) as terminal:
        url, page = places(terminal)
        call(url)
        terminal.press(b"p")
        terminal.until_drawn("The cache of weather is purged", "cache: 0 results, 0 B of ", "-- log ")
        call(url)
        assert stats(page)["calls"]["get-weather"]["hits"] == 0
        terminal.press(b"l")
        terminal.until(lambda: terminal.frame and "-- log " not in terminal.frame, "no log")
        terminal.press(b"l")
        terminal.until_drawn("-- log ")


def test_arrows_and_tab_lead_from_server_to_server(tmp_path: Path):
    weather, tides = (named(tmp_path, name, **STARTS) for name in ("weather", "tides"))
    with on_a_terminal(*RUN, weather, tides) as terminal:
        here, _ = places(terminal)
        terminal.until_drawn("[weather", " tides")
        terminal.press(b"\t")
        terminal.until_drawn("[tides", "Ready: ")
        there, _ = places(terminal)
        assert there != here
        for keys, name in (
            (b"\x1b[D", "weather"),
            (b"\x1bOC", "tides"),
            (b"\x1b[Z", "weather"),
            (b"\x1b[A", "tides"),
        ):
            terminal.press(keys)
            terminal.until_drawn(f"[{name}")
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_a_frame_is_as_large_as_the_terminal_whatever_becomes_of_it(tmp_path: Path):
    with on_a_terminal(*RUN, manifest(tmp_path), "--", *WEATHER) as terminal:
        terminal.until_drawn("Ready: ", "LIMITED")
        for width, height in ((80, 24), (40, 8), (200, 60)):
            terminal.resize(width, height)
            terminal.until(
                lambda wide=width: max(map(len, terminal.frame.split("\n"))) == wide,
                f"a frame of {width} columns",
            )


def presses(keys: bytes) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.press(keys)


def sends(number: signal.Signals) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.send(number)


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        pytest.param(presses(b"q"), 0, id="q"),
        pytest.param(presses(b"\x03"), 0, id="Ctrl-C"),
        pytest.param(presses(b"\x1c"), 0, id="Ctrl-backslash"),
        pytest.param(sends(signal.SIGTERM), 0, id="SIGTERM"),
        pytest.param(sends(signal.SIGHUP), 0, id="SIGHUP"),
        pytest.param(sends(signal.SIGKILL), -signal.SIGKILL, id="killed"),
    ],
)
def test_the_terminal_is_as_before_and_nothing_is_left(
    tmp_path: Path, leave: Callable[[Terminal], None], code: int
):
    with on_a_terminal(*RUN, manifest(tmp_path), "--", *WEATHER) as terminal:
        ports = [int(re.findall(r":(\d+)/", place)[0]) for place in places(terminal)]
        assert not terminal.is_as_before
        leave(terminal)
        assert terminal.ended() == code, terminal.text[-2000:]
        terminal.until(lambda: terminal.is_as_before, "the terminal to be as before")
        terminal.until(lambda: not any(map(listens, ports)), "nothing to listen any more")


def test_the_terminal_is_as_before_after_a_crash_and_says_why(tmp_path: Path):
    with on_a_terminal(
        sys.executable, "-c", CRASHES, "run", manifest(tmp_path), "--", *WEATHER
    ) as terminal:
        ports = [int(re.findall(r":(\d+)/", place)[0]) for place in places(terminal)]
        terminal.press(b"p")
        assert terminal.ended() == 1
        assert terminal.is_as_before
        assert "RuntimeError: drawn no more" in terminal.text
        terminal.until(lambda: not any(map(listens, ports)), "nothing to listen any more")


def test_a_server_that_ends_closes_the_view_and_is_told_of_on_the_terminal(tmp_path: Path):
    code = "import sys, time; print('no such database', file=sys.stderr); sys.exit(3)"
    with on_a_terminal(*RUN, manifest(tmp_path), "--", sys.executable, "-c", code) as terminal:
        assert terminal.ended() == 1
        assert terminal.is_as_before
        after = terminal.text.rpartition("weather ended with exit code 1:")[2]
        assert "no such database" in after, terminal.text
        assert "The server ended with exit code 3." in after


def test_ctrl_z_gives_the_terminal_back_and_serving_goes_on(tmp_path: Path):
    with on_a_terminal(*RUN, manifest(tmp_path), "--", *WEATHER) as terminal:
        url, _ = places(terminal)
        terminal.press(b"\x1a")
        terminal.stopped()
        terminal.until(lambda: terminal.is_as_before, "the terminal to be as before")
        call(url)
        seen = len(terminal.output)
        terminal.send(signal.SIGCONT)
        terminal.until(
            lambda: ROW.search(terminal.frame) and b"\x1b[?1049h" in terminal.output[seen:], "the view"
        )
        terminal.until(lambda: drawn(terminal)[:1] == [1], "the call that was made meanwhile")
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before


def test_nothing_that_a_server_writes_is_obeyed(tmp_path: Path):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    command = [sys.executable, tmp_path / "hostile.py"]
    with on_a_terminal(*RUN, "--", *command) as terminal:
        frame = terminal.until_drawn("Ready: ", "says red things", "<script>")
        assert r"Ready: evil\u001b[2J\u001b]0;owned\u0007 1\u202e" in frame
        assert r"\u001b[31m<script>\u0007" in frame
        assert r"\u001b]0;owned\u0007\u001b[2J" in frame
        assert r"\u202etxt" in frame
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.obeyed == set()
        assert "\u202e" not in terminal.text
    with on_a_terminal(*RUN, "--plain", "--", *command) as terminal:
        terminal.until(lambda: "says red things" in terminal.text and "/mcp" in terminal.text, "its lines")
        terminal.send(signal.SIGTERM)
        assert terminal.ended() == 0
        assert terminal.obeyed == set()
        assert b"\x1b" not in terminal.output


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(("--plain",), {}), ((), {"NO_COLOR": "1"}), ((), {"TERM": "dumb"})],
    ids=["--plain", "NO_COLOR", "dumb"],
)
def test_lines_are_said_where_no_view_is_wanted(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str]
):
    with on_a_terminal(*RUN, *arguments, manifest(tmp_path), "--", *WEATHER, **environment) as terminal:
        url = re.compile(r"^http://127\.0\.0\.1:\d+/mcp$", re.MULTILINE)
        found = terminal.until(lambda: url.search(terminal.text), "the URL on a line of its own")
        terminal.until(
            lambda: "Ready: weather 1.4.0, 3 tools" in terminal.text, "it to be said that it is ready"
        )
        call(found[0])
        terminal.press(b"\x03")
        assert terminal.ended() == 0
        terminal.until(
            lambda: "Ending; once more ends it at once" in terminal.text, "it to be said that it ends"
        )
        assert b"\x1b" not in terminal.output


def test_a_program_without_the_foreground_says_lines_and_is_not_stopped(tmp_path: Path):
    line = '"$@" & wait'
    with on_a_terminal("bash", "-mc", line, "run", *RUN, manifest(tmp_path), "--", *WEATHER) as terminal:
        terminal.until(lambda: "Ready: weather" in terminal.text, "its lines")
        assert b"\x1b" not in terminal.output
        (job,) = Path(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read_text().split()
        os.kill(int(job), signal.SIGTERM)
        assert terminal.ended() == 0


def test_several_servers_are_told_apart_and_one_that_fails_is_named(tmp_path: Path):
    fails = named(tmp_path, "tides", command=["sh"], args=["-c", "echo no database >&2; exit 3"])
    path = named(tmp_path, "weather", **STARTS)
    with running(tmp_path, path, fails) as run:
        name, url = run.url().split()
        assert name == "weather"
        call(url)
        run.until_said("tides ended with exit code 1; one other goes on")
        assert "tides   | no database" in run.said
        assert "tides   | The server ended with exit code 3." in run.said
        run.until_said("weather | Ready: weather 1.4.0")
        run.send(signal.SIGTERM)
        assert run.wait() == 1
        assert "Ending; once more ends it at once" in run.said


def test_every_server_of_a_file_is_run_and_each_has_ports_of_its_own(tmp_path: Path):
    both = [named(tmp_path, name, **STARTS).read_text() for name in ("weather", "tides")]
    path = tmp_path / "both.yaml"
    path.write_text("---\n".join(both))
    with running(tmp_path, path) as run:

        def lines() -> dict[str, str]:
            return dict(line.split() for line in (tmp_path / "stdout").read_text().splitlines())

        urls = wait_for(lambda: len(lines()) == 2 and lines(), f"two URLs; it said:\n{run.said}")
        assert set(urls) == {"weather", "tides"}
        assert urls["weather"] != urls["tides"]
        for url in urls.values():
            call(url)
        run.send(signal.SIGINT)
        assert run.wait() == 0


def test_one_that_is_killed_is_named_too_and_is_the_exit_code(tmp_path: Path):
    with running(tmp_path, *(named(tmp_path, name, **STARTS) for name in ("weather", "tides"))) as run:
        run.until_said("tides   | Ready: ")
        run.until_said("weather | Ready: ")
        children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
        (pid,) = [each for each in children if '"tides"' in Path(f"/proc/{each}/cmdline").read_text()]
        os.kill(int(pid), signal.SIGKILL)
        run.until_said("tides was killed by SIGKILL; one other goes on")
        run.send(signal.SIGTERM)
        assert run.wait() == 1


def test_where_nobody_reads_the_urls_servers_go_on_and_end_in_order(tmp_path: Path):
    both = [named(tmp_path, name, **STARTS) for name in ("weather", "tides")]
    reading, writing = os.pipe()
    os.close(reading)
    said = tmp_path / "said"
    with (
        said.open("w") as err,
        subprocess.Popen(
            [*map(str, RUN), *map(str, both)], stdin=subprocess.DEVNULL, stdout=writing, stderr=err
        ) as process,
    ):
        os.close(writing)
        try:
            wait_for(lambda: said.read_text().count("| A page to look at: ") == 2, "both to be ready")
            process.send_signal(signal.SIGTERM)
            assert process.wait(STARTING) == 0, said.read_text()
        finally:
            process.kill()
    assert "BrokenPipeError" not in said.read_text()


def test_servers_end_where_what_shows_them_is_killed(tmp_path: Path):
    path = named(tmp_path, "weather", **STARTS)
    with running(tmp_path, path, named(tmp_path, "tides", **STARTS)) as run:

        def pages() -> list[int]:
            found = re.findall(r"A page to look at: http://127\.0\.0\.1:(\d+)/ ", run.said)
            return [int(port) for port in found] if len(found) == 2 else []

        ports = [*wait_for(pages, "both to be ready")]
        run.process.kill()
        ports.append(yaml.safe_load(path.read_text())["spec"]["port"])
        wait_for(lambda: not any(map(listens, ports)), "sidecars and servers to end")


def test_redis_is_shared_by_all_and_its_password_is_not_taken_from_the_command_line(
    tmp_path: Path, redis_server: RedisServer
):
    both = [named(tmp_path, name, **STARTS, **CACHED) for name in ("weather", "tides")]
    with running(tmp_path, "--redis", redis_server.url, *both) as run:
        run.until_said("tides   | Ready: ")
        run.until_said("weather | Ready: ")
        for line in wait_for(
            lambda: len(told := (tmp_path / "stdout").read_text().splitlines()) == 2 and told, "two URLs"
        ):
            call(line.split()[1])
        with redis_server.client() as client:
            kept = wait_for(lambda: [*client.scan_iter("*default/weather*")], "keys of weather")
            assert kept
            assert wait_for(lambda: [*client.scan_iter("*default/tides*")], "keys of tides")
    done = mcpace("run", "--redis", "redis://me:hidden@127.0.0.1:1/0", both[0])
    assert done.returncode == 2
    assert "MCPACE_LIMITS_URL_FILE" in done.stderr
    assert "hidden" not in done.stderr


def test_open_opens_the_page_in_a_browser(tmp_path: Path):
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" >"$OPENED.part"\nmv "$OPENED.part" "$OPENED"\n')
    browser.chmod(0o755)
    opened = tmp_path / "opened"
    none_else = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "TERM": ""}
    around = {"BROWSER": str(browser), "OPENED": str(opened)} | none_else
    with running(tmp_path, "--open", manifest(tmp_path), "--", *WEATHER, **around) as run:
        run.url()
        wait_for(opened.exists, f"the browser to be started; it said:\n{run.said}")
        page = opened.read_text().strip()
        assert f"A page to look at: {page} " in run.said
    browser.write_text("#!/bin/sh\nexit 1\n")
    with running(tmp_path, "--open", manifest(tmp_path), "--", *WEATHER, **around) as run:
        run.until_said("No browser could be opened: look at http://127.0.0.1:")


def test_what_can_be_said_of_one_server_alone_is_refused_for_several(tmp_path: Path):
    weather, tides = (named(tmp_path, name, **STARTS) for name in ("weather", "tides"))
    both = tmp_path / "both.yaml"
    both.write_text(f"{weather.read_text()}---\n{tides.read_text()}")
    same = tmp_path / "same.yaml"
    same.write_text(tides.read_text().replace("tides", "currents"))
    for arguments, words in (
        ((weather, tides, "--", "true"), "What stands after -- starts one server, and there are 2"),
        ((both, "--", "true"), "choose one by --name: weather, tides"),
        ((weather, tides, "--listen", "127.0.0.1:0"), "--listen is one place, and there are 2 servers"),
        ((both, "--admin-listen", "127.0.0.1:0"), "`sidecar.adminPort` into its manifest"),
        ((weather, tides, "--name", "tides"), "--name chooses one McpServer of one MANIFEST"),
        ((weather, weather), "2 servers are called default/weather: give each a metadata.name of its own"),
        ((tides, same), "The commands of default/tides and default/currents would both listen on port"),
        ((weather, tmp_path / "nowhere.yaml"), "nowhere.yaml: no such file"),
    ):
        done = mcpace("run", *arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
