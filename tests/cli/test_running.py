"""What is asked of a server that runs on this machine: limits, results, checklist; and what is said wrong."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.laptop import WEATHER, manifest, mcpace, running, wait_for
from tools.ports import free_port

from mcpace_cli.remote import AskError, Link, ask, target

HERE = "addr:127.0.0.1"
TOKEN = "a-token-of-the-admin-port"


def call(url: str, times: int = 1) -> None:
    """Call a tool by the official client, which must be answered each time."""

    async def do(link: Link) -> None:
        for _ in range(times):
            assert not (await link.client.call_tool("get-weather", {"city": "Oslo"})).is_error

    ask(target(url), do)


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


def test_a_server_that_fails_items_passes_once_the_lines_that_are_shown_are_applied(tmp_path: Path):
    admin = f"http://127.0.0.1:{free_port()}"
    path = manifest(tmp_path)
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--admin-listen", admin.removeprefix("http://"))
    with running(tmp_path, path, *listen, "--", *WEATHER) as run:
        call(run.url(), 30)
        before = read("check", admin, code=1)
        failed = {each["name"] for each in before["items"] if each["result"] == "Failed"}
        assert failed == {"FrequentCallsCached", "LimitsPreventExhaustion", "MetricsCollected"}
        assert set(before["mended"]) == {"cache", "rateLimits", "monitoring"}
        table = mcpace("check", admin)
        assert table.returncode == 1
        _, _, lines = table.stdout.partition("in the manifest:\n\n")
        assert yaml.safe_load(lines) == {"spec": before["mended"]}

        server = yaml.safe_load(path.read_text())
        server["spec"] |= before["mended"]
        path.write_text(yaml.safe_dump(server))
        urllib.request.urlopen(f"{admin}/metrics", timeout=30).close()  # as Prometheus does
        wait_for(lambda: mcpace("check", admin).returncode == 0, "every item to pass, or to be unknown")
        after = read("check", admin)
        results = {each["name"]: each["result"] for each in after["items"]}
        assert len(results) == 10
        assert (after["passed"], after["mended"]) == (True, {})
        assert results["FrequentCallsCached"] == results["MetricsCollected"] == "Passed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "http://127.0.0.1:1/"), "does not answer"),
        (("limits", "show", "http://x:y/"), "is no URL; write for example"),
        (("check", "weather", "MANIFEST.yaml"), "weather is no file, so a server that runs"),
        (("check", "weather"), "No cluster is known"),
        (("top",), "No cluster is known"),
        (("top", "weather", "-A"), "leave -A out"),
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
