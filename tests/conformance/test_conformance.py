"""The official conformance suite says the same of a server and of the same server behind the sidecar."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.kit.programs import ROOT, serving
from tests.kit.replicas import replicas
from tests.kit.sidecars import Start
from tools.packages.install import modules, node
from tools.ports import free_port

from mcpace_sidecar.stdio.pipes import Pipes

EVERYTHING: dict[str, Any] = {
    "rateLimits": {
        "tiers": [{"name": "free", "requestsPerMinute": 1_000_000, "requestsPerDay": 1_000_000}]
    },
    "cache": {
        "tools": [
            {"name": "test_simple_text", "ttl": "1m", "scope": "shared", "staleWhileRevalidate": "1m"},
            {"name": "test_image_content", "ttl": "1m"},
            {"name": "test_error_handling", "ttl": "1m", "scope": "shared"},
            {"name": "test_input_required_result_elicitation", "ttl": "1m", "scope": "shared"},
        ],
        "lists": {"ttl": "1m"},
    },
    "concurrency": {"parallelTool": True, "circuitBreaker": {"failures": 1000}},
    "responses": {
        "compressOver": "100",
        "page": {"tools": [{"name": "test_multiple_content_types", "items": 50}]},
    },
}


async def suite(port: int, version: str, folder: Path) -> dict[str, list[str]]:
    """Run the suite against a server: scenario -> the checks that did not pass."""
    script = modules() / "@modelcontextprotocol/conformance/dist/index.js"
    process = await asyncio.create_subprocess_exec(
        node(), script, "server", "--url", f"http://127.0.0.1:{port}/mcp",
        "--requirements", version, "-o", folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    verdicts: dict[str, list[str]] = {}
    for checks in folder.glob("*/checks.json"):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", checks.parent.name.removeprefix("server-"))
        found = json.loads(checks.read_text())
        verdicts[scenario] = sorted(c["id"] for c in found if c["status"] == "FAILURE")
    assert len(verdicts) > 25, output.decode()
    return verdicts


@pytest.fixture
async def fixture_server():
    port = free_port()
    async with serving(port, sys.executable, ROOT / "tests/conformance/server.py"):
        yield port


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_the_suite_gives_the_same_result_directly_and_through_the_sidecar(
    fixture_server: int, start: Start, tmp_path: Path, version: str
) -> None:
    """Every feature is on, and none is. Scored scenarios all pass; of the others the same checks fail."""
    direct = await suite(fixture_server, version, tmp_path / "direct")
    for name, config in (("bare", {}), ("everything", EVERYTHING)):
        sidecar = await start(fixture_server, config)
        await sidecar.ready()
        through = await suite(sidecar.data, version, tmp_path / name)
        assert through == direct, name
    listed = await asyncio.create_subprocess_exec(
        node(), modules() / "@modelcontextprotocol/conformance/dist/index.js", "list",
        "--requirements", version, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await listed.communicate()
    scored = output.decode().partition("Server scenarios")[2].partition("Client scenarios")[0]
    names = [line.strip(" -") for line in scored.splitlines() if line.startswith("  - ")]
    assert names
    failing = {name: through[name] for name in names if through.get(name)}
    assert not failing


async def test_the_suite_gives_the_same_result_through_three_replicas_in_turns(
    fixture_server: int, tmp_path: Path
) -> None:
    direct = await suite(fixture_server, "2025-11-25", tmp_path / "direct")
    command = [sys.executable, str(ROOT / "tests/conformance/server.py")]
    for name, config in (("bare", {}), ("everything", EVERYTHING)):
        (folder := tmp_path / f"replicas-{name}").mkdir()
        async with replicas(folder, 3, config, command) as server:
            through = await suite(urlsplit(server.url).port, "2025-11-25", tmp_path / name)
            assert through == direct, name
            assert min(server.turns) > 20, "each replica was asked"


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_whatever_the_suite_finds_right_over_http_it_finds_right_through_processes(
    fixture_server: int, start: Start, tmp_path: Path, version: str
) -> None:
    """Directly the SDK's own streams fail one unscored check, of an event that no process sends."""
    direct = await suite(fixture_server, version, tmp_path / "direct")
    around = {name: value for name, value in os.environ.items() if name != "PORT"}
    launch = Pipes((sys.executable, str(ROOT / "tests/conformance/server.py")), around, "conformance")
    sidecar = await start(1, {"transport": "stdio"}, launch=launch)
    await sidecar.ready()
    through = await suite(sidecar.data, version, tmp_path / "processes")
    assert through.keys() == direct.keys()
    assert {name: failed for name, failed in through.items() if not set(failed) <= set(direct[name])} == {}
