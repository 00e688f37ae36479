"""`mcpace bench` as a person types it: the slow example, servers of others, what is called, and what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.browser import browsing
from tests.kit.laptop import MCPACE, WEATHER, listens, manifest, mcpace, wait_for
from tests.kit.programs import ROOT, weather_server
from tests.kit.slow import FOLDER, SLOW, sources
from tools.packages.install import modules, node, python_v1
from tools.ports import free_port

from mcpace_cli.bench import result

PAGE_LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs/bench.md").read_text(), re.DOTALL)
    for line in block.splitlines()
]
SHORT = ("--duration", "1s", "--rounds", "2", "--warm-up", "300ms")


def bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MCPACE, "bench", *map(str, arguments)], env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=220,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def counts(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts", timeout=10) as answer:
        return dict(json.loads(answer.read()))


def slow(folder: Path, far: int, *levers: str) -> Path:
    """The example in a folder of its own, on ports of its own; with some of its levers, where they are named."""
    place = folder / "examples/slow"
    place.mkdir(parents=True)
    for name in ("server.py", "far.py"):
        (place / name).symlink_to(FOLDER / name)
    text = (FOLDER / "manifest.yaml").read_text()
    document = yaml.safe_load(text.replace("8101", str(free_port())).replace("8100", str(far)))
    spec = document["spec"]
    spec["port"] = free_port()
    kept = {"image", "port", *(levers or spec)}
    document["spec"] = {key: part for key, part in spec.items() if key in kept}
    (place / "manifest.yaml").write_text(yaml.safe_dump(document))
    return place / "manifest.yaml"


def typed(line: str, folder: Path, more: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of the page as a person types it, but shorter."""
    assert line.startswith("mcpace bench ")
    path = os.pathsep.join(map(str, (Path(sys.executable).parent, python_v1().parent, os.environ["PATH"])))
    words = line.replace("mcpace bench", f"mcpace bench {' '.join(SHORT)} {more}", 1)
    return subprocess.run(
        ["sh", "-ec", words], cwd=folder, env=os.environ | {"PATH": path} | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220,
    )  # fmt: skip


async def looked_at(report: Path, kept: Path) -> None:
    """What a person sees of a report in a browser: each figure and lever as it was measured, and nothing else."""
    measured = result.load(kept)
    async with browsing() as seen:
        await seen.page.goto(report.as_uri())
        rows = seen.page.locator("table").first.locator("tbody tr")
        for number, contender in enumerate(measured.contenders):
            shown = await rows.nth(number).locator("td").all_inner_texts()
            for text, measure in zip(shown[1:], result.MEASURES.values(), strict=True):
                figure = measure.of(contender)
                assert text.split("\n")[0] == ("-" if figure is None else measure.said(figure.median))
        assert await seen.page.locator("svg path.area").count() >= 2, "distributions, over each other"
        levers = seen.page.locator(".lever")
        assert await levers.locator("h3").all_inner_texts() == [each.name for each in measured.levers]
        for number, lever in enumerate(measured.levers):
            for figure in (lever.without.latency(0.5), lever.alone.latency(0.5)):
                assert figure is not None
                words = result.MEASURES["p50"].said(figure.median)
                assert words in str(await levers.nth(number).locator("svg").first.text_content())
        await seen.quiet()
    assert seen.asked == [report.as_uri()]


def test_the_slow_example_gains_by_each_of_its_levers(tmp_path: Path):
    with sources() as far:
        slow(tmp_path, far)
        done = typed(PAGE_LINES[0], tmp_path, "--yes --distinct 3 -o json --save r.json", FAR_PORT=str(far))
    measured = told(done)
    direct, through = measured["contenders"]
    assert (direct["name"], through["name"]) == ("direct", "mcpace")
    assert direct["failures"] == through["failures"] == {}
    assert direct["hits"] is None
    assert through["reached"] < through["calls"]
    assert set(direct["tools"]) == {"city-report", "quote", "sensor", "orders"}
    assert "calls-so-far" not in done.stderr
    levers = {lever["name"]: lever for lever in measured["levers"]}
    assert list(levers) == ["cache", "pooling", "parallel", "paging", "compression"]
    cache = levers["cache"]
    assert cache["tools"] == ["city-report"]
    assert cache["without"]["reached"] == cache["without"]["calls"] > 0
    assert cache["alone"]["reached"] <= 3, "each report is made once"
    assert cache["alone"]["calls"] > 10 * cache["alone"]["reached"]
    assert cache["alone"]["p50"]["median"] * 3 < cache["without"]["p50"]["median"]
    for name, times in (("paging", 10), ("compression", 3)):
        bytes_ = [levers[name][side]["tools"]["orders"]["bytes"]["median"] for side in ("without", "alone")]
        assert bytes_[0] > times * bytes_[1], (name, bytes_)
    assert levers["paging"]["tools"] == ["orders"]
    assert levers["parallel"]["together"] == 8
    assert all(lever["alone"]["failures"] == {} for lever in levers.values())
    assert json.loads((tmp_path / "r.json").read_text())["version"] == 1
    page = (tmp_path / "slow.html").read_text()
    assert "Content-Security-Policy" in page
    assert "API" not in page, "the server's environment is nobody's business"
    asyncio.run(looked_at(tmp_path / "slow.html", tmp_path / "r.json"))


def test_the_pages_other_commands_do_what_it_says(tmp_path: Path):
    (tmp_path / "server.py").symlink_to(ROOT / "examples/weather/server.py")
    (tmp_path / "zones.json").write_text('[{"timezone": "Europe/Oslo"}, {"timezone": "UTC"}]')
    head = {"apiVersion": "mcpace.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "weather"}}
    for name in ("before", "after"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(head | {"spec": {"port": free_port()}}))
    with weather_server() as port:
        wait_for(
            lambda: mcpace("call", f"http://127.0.0.1:{port}/mcp").returncode == 0, "the server to answer"
        )
        for line in PAGE_LINES[1:]:
            done = typed(line.replace(":8000/", f":{port}/").replace("p95>400ms", "p95>40s"), tmp_path)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            assert "CALLS/S" in done.stdout
    assert "Since " in done.stdout


def test_a_door_saves_the_slow_example_its_connections(tmp_path: Path):
    with sources() as far:
        path = slow(tmp_path, far, "env", "egress")
        measured = told(
            bench(path, "--levers", "--tool", "quote", *SHORT, "-o", "json", "--", *SLOW, FAR_PORT=str(far))
        )
        seen = counts(far)
    direct, through = measured["contenders"]
    (pooling,) = measured["levers"]
    assert pooling["name"] == "pooling"
    made = [direct, through, pooling["without"], pooling["alone"]]
    assert all(one["calls"] > 0 and one["failures"] == {} for one in made)
    by_doors = through["calls"] + pooling["alone"]["calls"]
    assert seen["requests"] >= sum(one["calls"] for one in made)
    assert seen["connections"] <= seen["requests"] - by_doors + 20, (seen, by_doors)
    assert seen["connections"] >= direct["calls"] + pooling["without"]["calls"]


def test_eight_calls_at_once_take_less_than_eight_in_a_row(tmp_path: Path):
    path = slow(tmp_path, 1, "concurrency")
    few = ("--tool", "sensor", "--clients", 1, "--duration", "3s", "--rounds", 2, "-o", "json")
    measured = told(bench(path, "--levers", *few, "--", *SLOW, API="http://localhost.invalid"))
    (parallel,) = measured["levers"]
    assert (parallel["name"], parallel["together"]) == ("parallel", 8)
    without, alone = parallel["without"], parallel["alone"]
    assert without["failures"] == alone["failures"] == {}
    assert alone["reached"] == alone["calls"], "the calls of `parallel` count, and it does not"
    assert without["p50"]["low"] > 8 * 0.06 * 0.95
    assert alone["p50"]["median"] < 0.8 * without["p50"]["median"], parallel


def test_nothing_is_called_that_was_not_named_or_agreed_to():
    with weather_server() as port:
        url = f"http://127.0.0.1:{port}/mcp"
        wait_for(lambda: mcpace("call", url).returncode == 0, "the weather server to answer")
        refused = bench(url, *SHORT)
        assert refused.returncode == 2
        assert "say --yes" in refused.stderr
        assert "get-weather" in refused.stderr
        unknown = bench(url, "--tool", "get-wether", *SHORT)
        assert unknown.returncode == 2
        assert "did you mean get-weather?" in unknown.stderr
        agreed = told(bench(url, "--yes", *SHORT, "-o", "json"))
        assert set(agreed["contenders"][0]["tools"]) == {"get-weather", "forecast"}
        first = mcpace("call", url, "report-storm", "city=Oslo")
        assert '"1 storms reported"' in first.stdout, "a tool that writes was called unasked"
        named = told(bench(url, "--tool", "report-storm", *SHORT, "-o", "json"))
        assert set(named["contenders"][0]["tools"]) == {"report-storm"}


def test_arguments_are_kept_nowhere(tmp_path: Path):
    (tmp_path / "given.json").write_text('[{"city": "Secretville"}, {"city": "Hiddenham"}]')
    kept, page = tmp_path / "r.json", tmp_path / "r.html"
    with weather_server() as port:
        url = f"http://127.0.0.1:{port}/mcp"
        wait_for(lambda: mcpace("call", url).returncode == 0, "the weather server to answer")
        given = ("--tool", "forecast", "--arguments", f"@{tmp_path / 'given.json'}")
        secret = url.replace("//", "//me:Secretville@") + "?key=Hiddenham"
        done = bench(url, secret, *given, *SHORT, "--save", kept, "--report", page)
        assert done.returncode == 0, done.stderr
        files = tmp_path / "wrong.json", tmp_path / "wrong.html"
        wrong = bench(
            url, "--tool", "forecast", "--arguments", '{"town": "Secretville"}', *SHORT,
            "--save", files[0], "--report", files[1],
        )  # fmt: skip
    assert "Secretville" in wrong.stderr, "the server's words, which repeat what it was given"
    said = [done.stdout, done.stderr, wrong.stdout, *(file.read_text() for file in (kept, page, *files))]
    for text in said:
        assert "Secretville" not in text
        assert "Hiddenham" not in text
    assert "forecast" in kept.read_text(), "the tool itself is no secret"
    assert "forecast" in wrong.stdout, wrong.stderr
    assert "the tool fails with the first of the arguments given" in wrong.stdout


def test_a_run_is_compared_with_one_that_was_kept_and_fails_where_it_was_told_to(tmp_path: Path):
    kept = tmp_path / "r.json"
    with weather_server() as port:
        url = f"http://127.0.0.1:{port}/mcp"
        wait_for(lambda: mcpace("call", url).returncode == 0, "the weather server to answer")
        first = bench(
            url,
            "--tool",
            "get-weather",
            *SHORT,
            "--save",
            kept,
            "--fail-if",
            "p50>1ms",
            "--fail-if",
            "errors>0%",
        )
        assert first.returncode == 1, first.stdout + first.stderr
        assert "Failed: p50>1ms: p50 is 2" in first.stderr
        assert "errors" not in first.stderr
        again = bench(url, "--tool", "get-weather", *SHORT, "--compare", kept, "--clients", 2)
    assert again.returncode == 0, again.stderr
    assert "Since " in again.stdout
    assert "clients was 4 and is 2" in again.stdout
    assert re.search(r"^url +p50 +.*ms", again.stdout, re.MULTILINE), again.stdout


def test_the_open_loop_keeps_its_rate_and_says_so():
    with weather_server() as port:
        url = f"http://127.0.0.1:{port}/mcp"
        wait_for(lambda: mcpace("call", url).returncode == 0, "the weather server to answer")
        done = told(bench(url, "--tool", "forecast", "--rate", 20, *SHORT, "-o", "json"))
    (contender,) = done["contenders"]
    assert contender["calls"] == 20
    assert any("no coordinated omission" in words for words in done["notes"])


EVERYTHING = ("@modelcontextprotocol/server-everything/dist/index.js", "stdio")


@pytest.mark.parametrize(
    ("command", "tool"),
    [
        ([str(node()), str(modules() / EVERYTHING[0]), EVERYTHING[1]], "echo"),
        ([str(python_v1().parent / "mcp-server-time"), "--local-timezone", "UTC"], "get_current_time"),
    ],
    ids=["server-everything", "mcp-server-time"],
)
def test_a_server_that_nobody_here_wrote_is_measured_by_its_standard_input_and_output(
    command: list[str], tool: str
):
    given = ["--arguments", '{"timezone": "Europe/Oslo"}'] if "time" in tool else []
    measured = told(bench("--tool", tool, *given, *SHORT, "-o", "json", "--", *command))
    (contender,) = measured["contenders"]
    assert contender["failures"] == {}
    assert contender["calls"] > 0
    assert set(contender["tools"]) == {tool}


def test_a_server_that_nobody_here_wrote_gains_by_its_levers(tmp_path: Path):
    page, kept = tmp_path / "r.html", tmp_path / "r.json"
    tool = "trigger-long-running-operation"
    command = [str(node()), str(modules() / EVERYTHING[0]), "streamableHttp"]
    path = manifest(
        tmp_path,
        cache={"tools": [{"name": tool, "ttl": "5m", "scope": "shared"}]},
        concurrency={"parallelTool": True},
    )
    given = ("--tool", tool, "--arguments", '{"duration": 0.1, "steps": 1}', "--clients", 1)
    few = ("--duration", "2s", "--rounds", 2, "--warm-up", "300ms")
    keeping = ("--levers", "--report", page, "--save", kept, "-o", "json")
    measured = told(bench(path, *given, *few, *keeping, "--", *command))
    assert all(one["failures"] == {} for one in measured["contenders"])
    cache, parallel = measured["levers"]
    assert (cache["name"], parallel["name"]) == ("cache", "parallel")
    assert cache["alone"]["reached"] <= 1
    assert cache["without"]["reached"] == cache["without"]["calls"]
    assert cache["alone"]["p50"]["median"] * 3 < cache["without"]["p50"]["median"]
    assert parallel["without"]["p50"]["low"] > 8 * 0.1 * 0.95, "one after another"
    assert parallel["alone"]["p50"]["median"] < 0.8 * parallel["without"]["p50"]["median"]
    asyncio.run(looked_at(page, kept))


def test_arguments_that_are_made_and_not_taken_are_asked_for():
    command = [str(python_v1().parent / "mcp-server-time"), "--local-timezone", "UTC"]
    done = bench("--tool", "get_current_time", *SHORT, "--", *command)
    assert done.returncode == 2
    assert "get_current_time: " in done.stderr
    assert "--arguments" in done.stderr


def test_two_manifests_are_measured_beside_each_other_and_limits_are_lifted(tmp_path: Path):
    port = free_port()
    before = {"apiVersion": "mcpace.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "weather"}}
    limits = {"tiers": [{"name": "free", "requestsPerMinute": 1}]}
    cache = {"tools": [{"name": "get-weather", "ttl": "5m", "scope": "shared"}]}
    (tmp_path / "before.yaml").write_text(
        yaml.safe_dump(before | {"spec": {"port": port, "rateLimits": limits}})
    )
    (tmp_path / "after.yaml").write_text(
        yaml.safe_dump(before | {"spec": {"port": port, "rateLimits": limits, "cache": cache}})
    )
    both = (tmp_path / "before.yaml", tmp_path / "after.yaml", "--tool", "get-weather", "--distinct", 2)
    measured = told(bench(*both, *SHORT, "-o", "json", "--", *WEATHER))
    old, new = measured["contenders"]
    assert (old["name"], new["name"]) == ("before", "after")
    assert old["failures"] == new["failures"] == {}
    assert old["reached"] == old["calls"]
    assert new["reached"] <= 2
    assert any("--limits keeps them" in words for words in measured["notes"])
    kept = bench(*both, *SHORT, "--limits", "-o", "json", "--", *WEATHER)
    assert kept.returncode == 1
    assert "before answered no call well" in kept.stderr
    assert set(json.loads(kept.stdout)["contenders"][0]["failures"]) == {"limited"}


def test_what_is_no_target_is_said_with_what_to_write(tmp_path: Path):
    pair = manifest(tmp_path, transport="sse")
    for arguments, words in (
        ((), "Write a URL, a MANIFEST"),
        (("nowhere.yaml",), "no such file"),
        (("http://127.0.0.1:1/mcp", "--yes"), "cannot be called"),
        (("http://127.0.0.1:1/mcp", "--", "true"), "runs already"),
        (("http://127.0.0.1:1/mcp", "--levers"), "--levers is for one MANIFEST"),
        (("http://127.0.0.1:1/mcp", "--fail-if", "p95"), "p95>200ms"),
        (("http://127.0.0.1:1/mcp", "--report", tmp_path / "no/r.html"), "there is no folder"),
        (("--", "/no/such/program"), "no such program"),
        ((pair,), "the older pair with SSE is not measured"),
    ):
        done = bench(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_run_that_is_broken_off_leaves_no_process(tmp_path: Path):
    port = free_port()
    path = tmp_path / "weather.yaml"
    server = {"apiVersion": "mcpace.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "weather"}}
    path.write_text(yaml.safe_dump(server | {"spec": {"port": port}}))
    command = [*MCPACE, "bench", str(path), "--tool", "get-weather", "--duration", "10m", "--", *WEATHER]
    with (
        (tmp_path / "err").open("w") as err,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err) as process,
    ):
        wait_for(lambda: listens(port), "the server to listen")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, (tmp_path / "err").read_text()
    wait_for(lambda: not listens(port), "the server to end")
    assert "Traceback" not in (tmp_path / "err").read_text()
