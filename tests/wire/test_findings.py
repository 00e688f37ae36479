"""Rules without effect are said: by the log at Ready, by /stats and /config, by a metric."""

import logging

from tests.kit.sidecars import Start
from tests.kit.waiting import until

CONFIG = {
    "rateLimits": {
        "tools": [{"name": "report_storm", "requestsPerMinute": 2}],
        "prompts": [{"name": "plan", "cost": 2}],
    },
    "cache": {
        "tools": [
            {"name": "get-weather", "ttl": "5m"},
            {"name": "report-storm", "ttl": "5m", "scope": "shared"},
        ]
    },
}


async def test_rules_without_effect_are_said_everywhere(weather: int, start: Start, caplog):
    sidecar = await start(weather, CONFIG)
    with caplog.at_level(logging.WARNING):
        await until(lambda: "Without effect: " in caplog.text, "the findings in the log")
    reasons = {"UnknownTool", "UnknownPrompt", "NobodyIsToldApart", "ToolWrites"}
    for path in ("/stats", "/config"):
        _, told = await sidecar.admin_get(path)
        assert {finding["reason"] for finding in told["findings"]} == reasons, path
        assert all(finding["message"] in caplog.text for finding in told["findings"])
    metrics = await sidecar.metrics()
    for reason in reasons:
        assert metrics[f'mcpace_rules_without_effect{{reason="{reason}"}}'] == 1.0


async def test_a_finding_goes_with_its_cause_and_is_logged_once(weather: int, start: Start, caplog):
    config = dict(CONFIG)
    sidecar = await start(weather, config)
    await until(lambda: "report_storm" in caplog.text, "the finding")
    config["rateLimits"] = {"tools": [{"name": "report-storm", "requestsPerMinute": 2}]}
    sidecar.reload()
    assert "UnknownTool" not in [f.reason for f in sidecar.findings.now()]
    sidecar.findings.tell()
    assert caplog.text.count("'get-weather' is cached per client") == 1


async def test_calls_that_pass_by_the_cache_are_counted_by_their_reason(weather: int, start: Start):
    sidecar = await start(weather, {"cache": CONFIG["cache"]})
    await sidecar.ready()
    await sidecar.call("get-weather", {"city": "Oslo"})
    await sidecar.call("report-storm", {"city": "Oslo"})
    await sidecar.call("forecast", {"city": "Oslo"})
    metrics = await sidecar.metrics()
    passed = {
        name: count for name, count in metrics.items() if name.startswith("mcpace_cache_bypassed_total")
    }
    assert passed == {
        'mcpace_cache_bypassed_total{reason="anonymous",tool="get-weather"}': 1.0,
        'mcpace_cache_bypassed_total{reason="writes",tool="report-storm"}': 1.0,
    }


async def test_a_caller_with_a_credential_of_the_servers_own_ends_the_finding(weather: int, start: Start):
    sidecar = await start(weather, {"cache": {"tools": [{"name": "get-weather", "ttl": "5m"}]}})
    await sidecar.ready()
    assert [f.reason for f in sidecar.findings.now()] == ["NobodyIsToldApart"]
    await sidecar.call("get-weather", {"city": "Oslo"}, Authorization="Bearer anna")
    assert sidecar.findings.now() == ()
