"""`examples/compose/`: what it starts, started as processes; Docker is not to be had here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.asking import call, send
from tests.kit.laptop import MCPACE, wait_for
from tests.kit.programs import ROOT, weather_server
from tests.kit.redis import RedisServer
from tools.ports import free_port

FOLDER = ROOT / "examples/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def interpolated(text: str) -> str:
    """Variables that nobody has set, as Compose reads them."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "keys/weather-pro").mkdir(parents=True)
    (tmp_path / "keys/weather-pro/anna").write_text("a-key-of-anna")
    return tmp_path / "keys"


def test_the_file_starts_a_server_that_limits_and_caches_in_redis(
    tmp_path: Path, keys: Path, redis_server: RedisServer
):
    sidecar = SERVICES["sidecar"]
    assert SERVICES["server"]["network_mode"] == "service:sidecar"
    port, admin = free_port(), free_port()
    environment = {name: interpolated(str(value)) for name, value in sidecar["environment"].items()}
    for store in ("MCPACE_LIMITS_URL", "MCPACE_CACHE_URL"):
        environment[store] = environment[store].replace("redis:6379", f"127.0.0.1:{redis_server.port}")
    with weather_server() as server:
        there = {
            "*:18080": f"127.0.0.1:{port}", "*:18090": f"127.0.0.1:{admin}", "127.0.0.1:8000": f"127.0.0.1:{server}",
            "/etc/mcpace/keys": str(keys), "/etc/mcpace": str(FOLDER),
        }  # fmt: skip
        command = "\n".join(sidecar["command"])
        for inside, here in there.items():
            assert inside in command
            command = command.replace(inside, here)
        log = (tmp_path / "log").open("w")
        with log, subprocess.Popen(
            [*MCPACE, *command.split("\n")], env=os.environ | environment, stdout=log, stderr=log
        ) as process:  # fmt: skip
            try:
                ready = f"http://127.0.0.1:{admin}/readyz"
                wait_for(lambda: answers(ready, process), (tmp_path / "log").read_text())
                url = f"http://127.0.0.1:{port}/mcp"
                for key, most in ({}, "10"), ({"X-API-Key": "a-key-of-anna"}, "600"):
                    answered = call(url, "get-weather", key, city="Oslo")
                    assert "-3" in answered.text
                    assert f"q={most};" in answered.headers["RateLimit-Policy"]
                with redis_server.client(db=1) as client:
                    wait_for(lambda: client.keys("mcpace:{compose/weather}:*"), "a result in Redis")
                (_, _, script) = sidecar["healthcheck"]["test"][1:]
                healthy = script.replace("127.0.0.1:18090", f"127.0.0.1:{admin}")
                assert subprocess.run([sys.executable, "-c", healthy]).returncode == 0
            finally:
                process.terminate()


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the sidecar has ended"
    try:
        return send(url).status == 200
    except OSError:
        return False


def test_what_the_file_names_is_there():
    for name in ("sidecar", "server"):
        build = SERVICES[name]["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        dockerfile = (ROOT / build.get("dockerfile", "Dockerfile")).read_text()
        assert build.get("target", "") in dockerfile
    volumes = {
        each.partition(":")[0] for service in SERVICES.values() for each in service.get("volumes", ())
    }
    assert volumes - {"."} == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)
