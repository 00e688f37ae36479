"""The admin port: what it shows, and to whom; a changed configuration is taken, a bad one refused."""

from tests.kit.calls import ANSWER, tier
from tests.kit.sidecars import Start
from tests.kit.upstream import Scripted, json_answer
from tests.kit.waiting import until


async def test_a_changed_configuration_is_taken_and_a_bad_one_refused(
    scripted: Scripted, start: Start
) -> None:
    sidecar = await start(scripted.port, tier(1))
    scripted.answer = lambda _: json_answer(ANSWER)
    await sidecar.call("t")
    assert "error" in (await sidecar.call("t"))[2]
    sidecar.config["rateLimits"] = {"tiers": [{"name": "gold", "requestsPerMinute": 100}]}
    sidecar.reload()
    assert "result" in (await sidecar.call("t"))[2]
    sidecar.config["rateLimits"] = {"tiers": [{"name": "gold", "requestsPerMinute": -1}]}
    sidecar.reload()
    assert "result" in (await sidecar.call("t"))[2]
    samples = await sidecar.metrics()
    assert samples['mcpace_config_reloads_total{result="ok"}'] == 1
    assert samples['mcpace_config_reloads_total{result="error"}'] == 1


async def test_a_changed_file_is_noticed(scripted: Scripted, start: Start, tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a")
    sidecar = await start(scripted.port, tier(1), watched=(path,))
    sidecar.config["rateLimits"] = {"tiers": [{"name": "gold", "requestsPerMinute": 100}]}
    path.write_text("changed")
    await until(lambda: sidecar.plane.settings.limits.default_tier == "gold", "the reload")


async def test_the_admin_port_guards_statistics_with_the_servers_token(weather: int, start: Start) -> None:
    sidecar = await start(weather, admin_token="t0ken")
    await sidecar.ready()
    assert (await sidecar.admin_get("/stats"))[0] == 401
    assert (await sidecar.admin_get("/stats", Authorization="Bearer wrong"))[0] == 401
    status, stats = await sidecar.admin_get("/stats", Authorization="Bearer t0ken")
    assert status == 200
    assert stats["server"] == {"name": "weather", "version": "1.4.0", "protocolVersion": "2026-07-28"}
    assert stats["tools"] == ["forecast", "get-weather", "report-storm"]
    status, health = await sidecar.admin_get("/healthz")
    assert (status, health["status"], health["tools_registered"]) == (200, "healthy", 3)
    assert (await sidecar.admin_get("/readyz"))[0] == 200
    assert (await sidecar.admin_get("/nothing"))[0] == 404


async def test_the_configuration_in_force_is_shown_to_whoever_holds_the_token(
    scripted: Scripted, start: Start
) -> None:
    config = {
        "upstream": {"timeout": "7s"},
        "concurrency": {},
        "clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "s"}}]},
    }
    sidecar = await start(scripted.port, config, admin_token="t0ken")
    assert (await sidecar.admin_get("/config"))[0] == 401
    _, shown = await sidecar.admin_get("/config", Authorization="Bearer t0ken")
    assert shown["upstream"]["timeout"] == "7s"
    assert shown["concurrency"]["maxInFlight"] == 64, "defaults are shown too"
    assert shown["clients"]["apiKeys"] == [{"tier": "pro", "secretRef": {"name": "s"}}]


async def test_a_tool_the_server_does_not_list_never_becomes_a_label(weather: int, start: Start) -> None:
    sidecar = await start(weather)
    await sidecar.ready()
    await sidecar.call("get-weather", {"city": "Oslo"}, MCP_Protocol_Version="2025-11-25")
    for name in ("invented-1", "invented-2"):
        await sidecar.call(name, MCP_Protocol_Version="2025-11-25")
    labels = {n for n in await sidecar.metrics() if n.startswith("mcp_tool_calls_total")}
    assert all('tool="get-weather"' in label or 'tool="other"' in label for label in labels)
