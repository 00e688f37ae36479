"""The manifests of `examples/`: each is started as `mcpace run` starts it, and does what it is for."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.kit.asking import Answered, ask, call, send
from tests.kit.issuer import RSA_KEY, Issuer
from tests.kit.laptop import Run, mcpace, running, wait_for
from tests.kit.programs import ROOT
from tests.kit.redis import RedisServer
from tools.packages.install import modules, node, python_v1
from tools.ports import free_port

EXAMPLES = ROOT / "examples"
PLACES = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")


@dataclass(frozen=True)
class Served:
    """An example that runs."""

    run: Run
    url: str

    def call(self, tool: str, /, headers: dict[str, str] | None = None, **arguments: object) -> Answered:
        return call(self.url, tool, headers, **arguments)

    def metrics(self) -> str:
        (place,) = re.findall(r"(http://\S+/metrics)", self.run.said)
        return send(place).body.decode()


Start = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def started(tmp_path: Path, weather: int) -> Start:
    """Starts an example as it stands, but for the ports, before a weather server that runs already."""

    @contextmanager
    def start(
        name: str, *command: str, change: dict[str, str] | None = None, **environment: str
    ) -> Iterator[Served]:
        text = (EXAMPLES / f"{name}.yaml").read_text()
        if "transport: stdio" not in text:
            text = text.replace("\nspec:\n", f"\nspec:\n  port: {free_port() if command else weather}\n", 1)
        for old, new in (change or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "manifest.yaml"
        path.write_text(text)
        rest = ("--", *command) if command else ()
        with running(tmp_path, *PLACES, path, *rest, cwd=tmp_path, **environment) as run:
            yield Served(run, run.url())

    return start


def test_cache_answers_what_was_asked_before_until_a_storm_is_reported(started: Start):
    with started("cache") as served:
        for city in ("Oslo", " OSLO"):
            assert "-3" in served.call("get-weather", city=city).text
        assert 'mcpace_cache_requests_total{result="memory",tool="get-weather"} 1.0' in served.metrics()
        served.call("report-storm", city="Oslo")
        served.call("get-weather", city="Oslo")
        assert 'mcpace_cache_requests_total{result="memory",tool="get-weather"} 1.0' in served.metrics()


def test_limits_refuse_the_third_report_of_a_minute_and_say_so_to_the_model(started: Start):
    with started("limits") as served:
        said = [served.call("report-storm", city="Oslo") for _ in range(3)]
        assert [bool(each.result.get("isError")) for each in said] == [False, False, True]
        assert "retry" in said[2].text.lower(), said[2].text


def test_tiers_give_a_client_with_a_key_more_and_refuse_one_with_a_wrong_one(started: Start):
    with started("tiers") as served:
        for key, most in (
            ({}, "10"),
            ({"X-API-Key": "a-key-of-anna"}, "60"),
            ({"X-API-Key": "a-key-of-acme"}, "300"),
        ):
            answered = served.call("get-weather", key, city="Oslo")
            assert f"q={most};" in answered.headers["RateLimit-Policy"]
        assert served.call("get-weather", {"X-API-Key": "guessed"}, city="Oslo").status == 401


def test_jwt_takes_a_token_of_the_issuer_and_tells_others_where_to_log_in(started: Start):
    issuer = Issuer()
    issuer.keys["one"] = RSA_KEY
    with started("jwt", change={"https://id.example.com/.well-known/jwks.json": issuer.url}) as served:
        refused = served.call("get-weather", city="Oslo")
        assert refused.status == 401
        assert "https://mcp.example.com/.well-known/" in refused.headers["WWW-Authenticate"]
        token = issuer.token(iss="https://id.example.com/", aud="https://mcp.example.com/mcp", plan="pro")
        answered = served.call("get-weather", {"Authorization": f"Bearer {token}"}, city="Oslo")
        assert "-3" in answered.text
        assert "q=600;" in answered.headers["RateLimit-Policy"]


def test_parallel_offers_many_calls_in_one(started: Start):
    with started("parallel") as served:
        cities = [
            {"tool": "get-weather", "arguments": {"city": city}} for city in ("Oslo", "Lima", "Cairo")
        ]
        answered = served.call("parallel", calls=cities).result["structuredContent"]
        assert (answered["total"], answered["succeeded"]) == (3, 3)
        degrees = [each["structuredContent"]["degrees"] for each in answered["results"]]
        assert degrees == [-3, 19, 24]


def test_paging_gives_two_hundred_days_page_by_page(started: Start):
    with started("paging") as served:
        first = json.loads(served.call("forecast", city="Oslo", days=200).text)
        assert (first["total"], first["showing"], first["total_pages"]) == (200, 50, 4)
        last = json.loads(served.call("next_page", handle=first["handle"], page=4).text)
        assert last["data"][-1]["day"] == 200


def test_compression_shortens_a_large_answer(started: Start):
    with started("compression") as served:
        plain = served.call("forecast", city="Oslo", days=500)
        packed = served.call("forecast", {"Accept-Encoding": "gzip"}, city="Oslo", days=500)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(packed.body)) == plain.message
        assert len(packed.body) * 5 < len(plain.body)


def path_with(*programs: Path) -> str:
    return os.pathsep.join((*(str(each) for each in programs), os.environ["PATH"]))


def test_stdio_npm_serves_a_server_of_npm(started: Start, tmp_path: Path):
    (tmp_path / "node_modules").symlink_to(modules())
    with started("stdio-npm", PATH=path_with(node().parent)) as served:
        assert "echo\t" in mcpace("call", served.url).stdout


def test_stdio_pypi_serves_a_server_of_pypi_and_keeps_what_it_said(started: Start):
    with started("stdio-pypi", PATH=path_with(python_v1().parent)) as served:
        listed = mcpace("call", served.url)
        assert "convert_time\t" in listed.stdout, listed.stderr


def test_sessions_are_begun_under_ids_of_the_sidecars(started: Start):
    with started("sessions") as served:
        body = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        begun = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": body}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        answered = send(urllib.request.Request(served.url, begun, headers))
        assert answered.result["serverInfo"]["name"] == "weather"
        assert len(answered.headers["Mcp-Session-Id"]) > 100, (
            "it is sealed, and says what is known of the session"
        )


def test_redis_holds_the_budget_and_the_results_of_all_replicas(started: Start, redis_server: RedisServer):
    stores = dict.fromkeys(("MCPACE_LIMITS_URL", "MCPACE_CACHE_URL"), redis_server.url)
    with started("redis", **stores) as served:
        served.call("get-weather", city="Oslo")
        with redis_server.client() as client:
            wait_for(
                lambda: len(client.keys("mcpace:{default/weather-shared}:*")) >= 2, "keys of both in Redis"
            )


def test_egress_opens_the_door(started: Start):
    door = free_port()
    server = (sys.executable, str(EXAMPLES / "careless/server.py"))
    change = {"19001": str(door), "https://api.example.com": f"http://127.0.0.1:{free_port()}"}
    with started("egress", *server, change=change) as served:
        answered = served.call("through-the-door", city="Oslo")
        assert not answered.result.get("isError")
        assert 'mcpace_egress_requests_total{door="weather-api"' in served.metrics()


@pytest.mark.parametrize("name", ["autoscaling", "database"])
def test_what_needs_a_cluster_is_named_on_a_laptop_and_the_rest_runs(started: Start, name: str):
    with started(name) as served:
        assert f"Only a cluster does something about: {name}" in served.run.said
        assert "-3" in served.call("get-weather", city="Oslo").text


def test_monitoring_writes_a_line_for_each_call_and_counts_it(started: Start, tmp_path: Path):
    collector = f"http://127.0.0.1:{free_port()}"
    with started(
        "monitoring", change={"http://otel-collector.observability.svc:4318": collector}
    ) as served:
        served.call("get-weather", city="Oslo")
        assert 'mcp_tool_calls_total{status="success",tool="get-weather"} 1.0' in served.metrics()
        wait_for(lambda: '"get-weather"' in (tmp_path / "stdout").read_text(), "a line of the access log")


def test_browser_lets_the_page_call_and_no_other(started: Start):
    """By a preflight, as browsers ask; the example server's own guard lets no origin but a local one call."""
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    with started("browser") as served:
        page, editor, other = "https://app.example.com", "vscode-webview://abc", "https://evil.example"
        for origin in page, editor, other:
            asked = urllib.request.Request(served.url, None, asks | {"Origin": origin}, method="OPTIONS")
            assert (send(asked).headers["Access-Control-Allow-Origin"] == origin) is (origin != other)
        refused = ask(served.url, "tools/list", {"Origin": other})
        assert (refused.status, refused.message["error"]["code"]) == (403, 40300)


def test_every_example_is_started_here():
    """By its own name; `tour.yaml` is what `make run` starts, and those in folders have tests of their own."""
    text = Path(__file__).read_text()
    tried = set(re.findall(r'started\(\s*"([\w-]+)"', text)) | {"autoscaling", "database"}
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} - {"tour"} == tried
