"""What is asked of a server that runs on this machine: limits, results, checklist; and what is said wrong."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import WEATHER, manifest, mcpace, running, wait_for
from tests.kit.redis import RedisServer
from tests.kit.slow import SLOW, sources
from tools.ports import free_port

from mcpace_cli.remote import AskError, Link, ask
from mcpace_cli.target import Target

HERE = "addr:127.0.0.1"
TOKEN = "a-token-of-the-admin-port"


def call(url: str, times: int = 1) -> None:
    """Call a tool by the official client, which must be answered each time."""

    async def do(link: Link) -> None:
        for _ in range(times):
            assert not (await link.client.call_tool("get-weather", {"city": "Oslo"})).is_error

    ask(Target.of(url), do)


def read(*arguments: object, code: int = 0, **environment: str) -> Any:
    done = mcpace(*arguments, "-o", "json", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_refused_client_is_seen_and_let_on_and_results_are_seen_and_made_old(tmp_path: Path):
    admin = f"http://127.0.0.1:{free_port()}"
    path = manifest(
        tmp_path,
        rateLimits={"tiers": [{"name": "free", "requestsPerMinute": 1000, "requestsPerDay": 3}]},
        cache={"tools": [{"name": "get-weather", "ttl": "1h", "scope": "shared"}]},
    )
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--admin-listen", admin.removeprefix("http://"))
    guarded = {"MCPACE_ADMIN_TOKEN": TOKEN}
    with running(tmp_path, path, *listen, "--", *WEATHER, **guarded) as run:
        url = run.url()
        call(url, 3)
        with pytest.raises(AskError):
            call(url)

        told = read("limits", "show", admin, **guarded)
        (client,) = told["clients"]
        assert (told["limited"], client["client"], client["tier"]) == (True, HERE, "free")
        day = {each["limit"]: each for each in client["limits"]}["day"]
        assert (day["left"], day["of"]) == (0, 3)
        shown = mcpace("limits", "show", admin, HERE, **guarded).stdout.splitlines()
        assert shown[0].split() == ["CLIENT", "TIER", "LIMIT", "LEFT", "OF", "WHOLE", "IN"]
        assert [line.split()[:3] for line in shown[1:]] == [[HERE, "free", "minute"], [HERE, "free", "day"]]
        nobody = mcpace("limits", "show", admin, "key:x/y", **guarded)
        assert (nobody.returncode, "No call of key:x/y is counted" in nobody.stderr) == (0, True)

        done = mcpace("limits", "reset", admin, HERE, **guarded)
        assert (done.returncode, "has all of its limits" in done.stdout) == (0, True), done.stderr
        call(url)

        kept = read("cache", "show", admin, **guarded)
        assert kept["replicas"][0]["results"] >= 1, "a list that the server lets be kept may be there too"
        (tool,) = kept["tools"]
        assert (tool["name"], tool["hits"]) == ("get-weather", 3)
        wrong = mcpace("cache", "purge", admin, **guarded)
        assert (wrong.returncode, "--tool NAME, --client NAME, or --all" in wrong.stderr) == (2, True)
        assert mcpace("cache", "purge", admin, "--tool", "get-weather", **guarded).returncode == 0
        call(url)
        assert read("cache", "show", admin, **guarded)["tools"][0]["hits"] == 3, "the server was asked"

        for given in ("", "wrong"):
            refused = mcpace("limits", "show", admin, MCPACE_ADMIN_TOKEN=given)
            assert (refused.returncode, "set MCPACE_ADMIN_TOKEN" in refused.stderr) == (2, True)


FAILING = {
    "FrequentCallsCached": "cache",
    "HttpConnectionsReused": "egress",
    "LargeResponsesPaginated": "responses",
    "LimitsPreventExhaustion": "rateLimits",
    "MetricsCollected": "monitoring",
}
"""Items that the slow server fails -> the field of the manifest that mends each."""


def stats(admin: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{admin}/stats?recent", timeout=30) as answer:
        return dict(json.loads(answer.read()))


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["result"] for each in told["items"]}


def test_a_server_that_fails_five_items_passes_once_the_lines_that_are_shown_are_applied(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    """The slow server behind a door that keeps no connection, as somebody with a key calls it."""
    monkeypatch.setenv("MCPACE_API_KEY", "key-of-anna")
    admin, door = f"http://127.0.0.1:{free_port()}", free_port()

    async def report(link: Link) -> None:
        for first in range(0, 30, 10):
            cities = [f"city {number}" for number in range(first, first + 10)]
            asked = (link.client.call_tool("city-report", {"city": city}) for city in cities)
            assert not any(each.is_error for each in await asyncio.gather(*asked))

    async def orders(link: Link) -> int:
        return len((await link.client.call_tool("orders", {"year": 2026})).content[0].text)

    with sources() as far:
        path = manifest(
            tmp_path,
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"anna": "key-of-anna"}},
            clients={"apiKeys": [{"tier": "enterprise", "secretRef": {"name": "keys"}}]},
            env=[{"name": "API", "value": f"http://127.0.0.1:{door}"}, {"name": "FAR_PORT", "value": str(far)}],
            egress=[{"name": "sources", "url": f"http://127.0.0.1:{far}", "port": door, "keepAlive": 0}],
        )  # fmt: skip
        listen = ("--listen", f"127.0.0.1:{free_port()}", "--admin-listen", admin.removeprefix("http://"))
        with running(tmp_path, path, *listen, "--", *SLOW, MCPACE_LIMITS_URL=redis_server.url) as run:
            url = run.url()
            ask(Target.of(url), report)
            whole = ask(Target.of(url), orders)

            before = read("check", admin, code=1)
            assert {name for name, result in verdicts(before).items() if result == "Failed"} == set(FAILING)
            assert set(before["mended"]) == set(FAILING.values())
            table = mcpace("check", admin)
            assert table.returncode == 1
            _, _, lines = table.stdout.partition("in the manifest:\n\n")
            assert set(yaml.safe_load(lines)["spec"]) == set(FAILING.values())

            server, *others = yaml.safe_load_all(path.read_text())
            shown = yaml.safe_load(lines)["spec"]
            shown["egress"] = [
                server["spec"]["egress"][0] | shown["egress"][0]
            ]  # beside what is there, as is said
            server["spec"] |= shown
            path.write_text(yaml.safe_dump_all([server, *others]))

            def applied() -> bool:
                told = stats(admin)
                limits = {each["name"]: each["result"] for each in told["checklist"]}[
                    "LimitsPreventExhaustion"
                ]
                opened = told["doors"].get("sources")  # not there while it is opened anew
                return limits == "Passed" and opened is not None and opened["requests"] == 0

            wait_for(applied, "the lines to be in force")
            for _ in range(2):
                ask(Target.of(url), report)
            assert ask(Target.of(url), orders) < whole / 10, "a page of them"
            urllib.request.urlopen(f"{admin}/metrics", timeout=30).close()  # as Prometheus does
            after = read("check", admin)
            assert len(after["items"]) == 10
            assert (after["passed"], after["mended"]) == (True, {})
            assert {name for name, result in verdicts(after).items() if result == "Passed"} >= set(FAILING)
            assert stats(admin)["calls"]["city-report"]["hits"] == 30, "those of the second round"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "http://127.0.0.1:1/"), "does not answer"),
        (("limits", "show", "http://x:y/"), "is no URL; write for example"),
        (("check", "weather", "MANIFEST.yaml"), "weather is no file, so a server that runs"),
        (("check", "weather"), "No cluster is known"),
        (("top",), "No cluster is known"),
        (("top", "weather", "-A"), "leave -A out"),
        (("top", "http://127.0.0.1:9091"), "write the name of an McpServer"),
        (("limits", "reset", "weather"), "Missing argument 'CLIENT'"),
        (("logs", "weather", "--tail", "-1"), "is not in the range"),
    ],
)
def test_what_is_said_wrong_is_answered_by_what_to_say(
    tmp_path: Path, arguments: tuple[str, ...], words: str
):
    done = mcpace(*arguments, KUBECONFIG=str(tmp_path / "none"), HOME=os.fspath(tmp_path))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
