"""`mcpace call`, against a real server behind the sidecar."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from tests.kit.laptop import manifest, mcpace
from tests.kit.sidecars import Running, Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tools.ports import free_port

WEATHER = {"city": "Paris", "degrees": 12, "sky": "cloudy"}


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mcpace_cli", "call", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


async def test_a_tool_is_called_and_its_result_is_json(weather: int, start: Start):
    sidecar = await start(weather, {})
    done = await call_beside(sidecar, "get-weather", "city=Paris")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"] == WEATHER


async def test_a_tool_is_called_without_the_official_client(weather: int, start: Start):
    sidecar = await start(weather, {})
    done = await asyncio.to_thread(mcpace, "probe", sidecar.url, "get-weather", "city=Paris", "--wait=10s")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["structuredContent"] == WEATHER
    failed = await asyncio.to_thread(mcpace, "probe", sidecar.url, "get-rain")
    assert (failed.returncode, json.loads(failed.stdout)["isError"]) == (1, True)
    nobody = await asyncio.to_thread(mcpace, "probe", f"http://127.0.0.1:{free_port()}/mcp", "get-weather")
    assert nobody.returncode == 2
    assert "/mcp: " in nobody.stderr


@pytest.mark.parametrize(("status", "remedy"), [(401, "MCPACE_API_KEY"), (403, "HTTP 403")])
@pytest.mark.parametrize("method", ["initialize", "tools/call"])
async def test_a_probe_that_is_refused_does_not_try_again(
    scripted: Scripted, method: str, status: int, remedy: str
):
    """Until --wait is over: an hour, in which nobody gives it a credential."""

    def answer(heard: Heard) -> bytes:
        if heard.message["method"] in ("server/discover", method):
            return json_answer(b"{}", status=b"%d Refused" % status)
        return json_answer(RESULT)

    scripted.answer = answer
    url = f"http://127.0.0.1:{scripted.port}/mcp"
    done = await asyncio.to_thread(mcpace, "probe", url, "get-weather", "--wait=1h")
    assert done.returncode == 2
    assert done.stderr.startswith(f"mcpace: {url}: {method} was answered with HTTP {status}")
    assert remedy in done.stderr
    assert [each.message["method"] for each in scripted.heard].count(method) == 1


async def test_a_probe_tries_again_while_the_server_is_not_there_yet(scripted: Scripted):
    def answer(_: Heard) -> bytes:
        early = len(scripted.heard) <= 2
        return json_answer(b"{}", status=b"503 Not Yet") if early else json_answer(RESULT)

    scripted.answer = answer
    url = f"http://127.0.0.1:{scripted.port}/mcp"
    done = await asyncio.to_thread(mcpace, "probe", url, "get-weather", "--wait=1h")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["isError"] is False


async def test_without_a_tool_all_are_listed(weather: int, start: Start):
    done = await call_beside(await start(weather, {}))
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} >= {
        "get-weather",
        "forecast",
        "report-storm",
    }


async def test_values_that_are_json_are_taken_as_that(weather: int, start: Start):
    done = await call_beside(await start(weather, {}), "forecast", "city=Oslo", "days=1")
    assert len(json.loads(done.stdout)["structuredContent"]["result"]) == 1


async def test_a_number_is_text_where_the_tool_takes_nothing_else(weather: int, start: Start):
    sidecar = await start(weather, {})
    for written, city in (("1e2", "1e2"), ('"42"', "42")):
        done = await call_beside(sidecar, "get-weather", f"city={written}")
        assert done.returncode == 0, done.stdout
        assert json.loads(done.stdout)["structuredContent"]["city"] == city


async def test_a_key_comes_from_the_environment(weather: int, start: Start, tmp_path):
    (tmp_path / "pro").mkdir()
    (tmp_path / "pro/anna").write_text("a-key")
    config = {
        "rateLimits": {},
        "clients": {"anonymous": "deny", "apiKeys": [{"tier": "pro", "secretRef": {"name": "pro"}}]},
    }
    sidecar = await start(weather, config, keys=tmp_path)
    assert (await call_beside(sidecar, "get-weather", "city=Paris")).returncode == 2
    done = await call_beside(sidecar, "get-weather", "city=Paris", MCPACE_API_KEY="a-key")
    assert done.returncode == 0, done.stderr


async def test_a_key_goes_into_the_header_that_is_named_or_that_the_manifest_names(
    weather: int, start: Start, tmp_path
):
    (tmp_path / "pro").mkdir()
    (tmp_path / "pro/anna").write_text("a-key")
    clients = {
        "anonymous": "deny",
        "apiKeys": [{"tier": "pro", "secretRef": {"name": "pro"}}],
        "apiKeyHeader": "X-Gate-Key",
    }
    path = manifest(tmp_path, rateLimits={}, clients=clients)
    sidecar = await start(weather, {"rateLimits": {}, "clients": clients}, keys=tmp_path)
    key = {"MCPACE_API_KEY": "a-key"}
    refused = await call_beside(sidecar, "get-weather", "city=Paris", **key)
    assert refused.returncode == 2
    assert "an API key as X-Gate-Key" in refused.stderr
    assert "--api-key-header" in refused.stderr
    for option in (("--api-key-header", "x-gate-key"), ("--manifest", str(path))):
        done = await call_beside(sidecar, "get-weather", "city=Paris", *option, **key)
        assert done.returncode == 0, done.stderr


async def test_a_limit_speaks_for_itself_and_is_not_waited_for(weather: int, start: Start):
    tiers = [{"name": "free", "requestsPerMinute": 1}]
    sidecar = await start(weather, {"rateLimits": {"tiers": tiers}})
    assert (await call_beside(sidecar, "get-weather", "city=Paris")).returncode == 0
    done = await call_beside(sidecar, "get-weather", "city=Paris", "--wait", "1h")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"mcpace: {sidecar.url}: Rate limit exceeded (calls per minute, tier free): retry in "
    )
    assert "no result" not in done.stderr


async def test_a_refused_credential_says_where_a_key_is_given(weather: int, start: Start):
    sidecar = await start(weather, {"clients": {"anonymous": "deny"}})
    done = await call_beside(sidecar, "get-weather", "city=Paris", "--wait", "1h")
    assert done.returncode == 2
    assert "A key is given by MCPACE_API_KEY (in another header than X-API-Key with" in done.stderr


async def test_an_error_of_the_server_is_its_words(weather: int, start: Start):
    done = await call_beside(await start(weather, {}), "get-weather", "--wait", "1h", "city=Paris")
    assert done.returncode == 0
    done = await call_beside(await start(weather, {"path": "/elsewhere"}), "get-weather", "city=Paris")
    assert done.returncode == 2
    assert "no result" not in done.stderr


async def test_what_went_wrong_is_one_line(weather: int, start: Start):
    sidecar = await start(weather, {})
    assert (await call_beside(sidecar, "no-such-tool")).returncode != 0
    nobody = call(f"http://127.0.0.1:{free_port()}/mcp")
    assert nobody.returncode == 2
    assert "does not accept connections" in nobody.stderr
    assert "write NAME=VALUE" in call(sidecar.url, "get-weather", "Paris").stderr
    assert "is no URL" in call("localhost", "x").stderr


async def call_beside(
    sidecar: Running, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call while the sidecar, in this process, answers."""
    return await asyncio.to_thread(call, sidecar.url, *arguments, **environment)
