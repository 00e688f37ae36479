"""Whatever raises where a call is led on, at each site in turn, ends that call and harms no other."""

import asyncio
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.kit.breaking import (
    CONFIG,
    SECRET,
    Broken,
    at_rest,
    errors,
    honest,
)
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Start
from tests.kit.sites import BREAKING
from tests.kit.upstream import Scripted
from tests.kit.waiting import until
from tools.ports import free_port

from mcpace_sidecar.call.exchange import Exchange
from mcpace_sidecar.telemetry.faults import Site

COMPILED = not inspect.isfunction(Exchange.route)
"""Whether the classes are compiled: their methods cannot be replaced then, and only real seams can break."""
SEAMS = {"record", "store", "lost", "reload", "session"}
"""The sites that can be broken without replacing a method."""


def test_every_site_is_broken_in_a_test() -> None:
    assert set(BREAKING) == set(get_args(Site))


def configured(site: str, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the options that a site needs."""
    more: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if site == "token":
        jwks = f"http://127.0.0.1:{free_port()}/keys"
        more["clients"] = {"jwt": {"issuer": "https://issuer.example", "audience": "a", "jwksURL": jwks}}
    elif site == "pair":
        more["transport"] = "sse"
    elif site == "egress":
        more["egress"] = [{"name": "out", "port": free_port(), "url": url}]
    return CONFIG | more, options


@pytest.mark.parametrize("site", sorted(get_args(Site)))
async def test_what_raises_ends_its_own_call_alone(
    scripted: Scripted,
    start: Start,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    site: str,
) -> None:
    if COMPILED and site not in SEAMS:
        pytest.skip("methods of compiled classes cannot be replaced")
    (tmp_path / "config").touch()
    config, options = configured(site, f"http://127.0.0.1:{scripted.port}")
    options["watched"] = (tmp_path / "config",)
    if site == "store":
        options["limits_url"] = redis_server.url
    sidecar = await start(scripted.port, config, **options)
    await until(lambda: scripted.heard, "a handshake")
    broken = Broken(sidecar, scripted, monkeypatch)
    others = [] if site == "pair" else [honest(sidecar, number) for number in range(20)]
    await asyncio.gather(BREAKING[site](broken), *others)
    del broken
    counted = await errors(sidecar)
    assert counted.pop(site, 0) >= 1, counted
    assert set(counted) <= ({"answer"} if site == "settle" else set()), counted
    assert SECRET not in caplog.text
    await at_rest(sidecar)
