"""Rules that do nothing: each is found, named by its path, and nothing else is."""

from pathlib import Path

import pytest

from mcpace_sidecar.call.settings import Settings
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.mcp.catalog import Catalog, ServerInfo
from mcpace_sidecar.server.findings import REASONS, Findings, find

SERVER = ServerInfo("weather", "1", "2026-07-28")
TOOLS = [
    {"name": "get-weather", "inputSchema": {"type": "object", "properties": {"city": {}, "days": {}}}},
    {"name": "report-storm", "annotations": {"readOnlyHint": False}},
    {"name": "drop", "annotations": {"destructiveHint": True}},
]
LIMITED = {"rateLimits": {"tools": [{"name": "report_storm", "requestsPerMinute": 2}]}}


def settings(document: dict, keys: Path | None = None) -> Settings:
    return Settings(parse(SidecarConfig, document)[0], (), keys)


def catalog(*, tools=TOOLS, prompts=None, locked=False) -> Catalog:
    known = Catalog()
    known.learn(SERVER, tools, prompts)
    known.locked = locked
    return known


def cached(**tool: object) -> dict:
    return {"cache": {"tools": [{"ttl": "5m", "scope": "shared"} | tool]}}


@pytest.mark.parametrize(
    ("document", "reason", "words"),
    [
        (
            LIMITED,
            "UnknownTool",
            "rateLimits.tools[0].name: 'report_storm' is no tool that the server lists; did you mean report-storm?",
        ),
        (cached(name="getWeather"), "UnknownTool", "cache.tools[0].name: 'getWeather'"),
        (
            {"responses": {"page": {"tools": [{"name": "get-waether", "items": 5}]}}},
            "UnknownTool",
            "did you mean get-weather?",
        ),
        (
            {"rateLimits": {"prompts": [{"name": "plan_trip", "cost": 2}]}},
            "UnknownPrompt",
            "rateLimits.prompts[0].name: 'plan_trip' is no prompt that the server lists; did you mean plan-trip?",
        ),
        (cached(name="report-storm"), "ToolWrites", "(readOnlyHint: false), so it is never cached"),
        (
            cached(name="get-weather", key={"arguments": ["days", "City"]}),
            "UnknownArgument",
            "cache.tools[0].key.arguments[1]: 'City' is no argument of 'get-weather'; did you mean city?",
        ),
        (cached(name="drop"), "ToolWrites", "(destructiveHint: true)"),
        (cached(name="get-weather", scope="client"), "NobodyIsToldApart", "write `scope: shared`"),
        (
            {"cache": {"tools": [{"name": "report-storm", "invalidates": ["get-weather"]}]}},
            "NothingToInvalidate",
            "cache.tools[0].invalidates[0]: nothing of 'get-weather' is kept",
        ),
        ({"rateLimits": {"tools": [{"name": "drop"}]}}, "EmptyLimit", "rateLimits.tools[0]: 'drop'"),
        ({"rateLimits": {"resources": [{"name": "db://*"}]}}, "EmptyLimit", "rateLimits.resources[0]"),
        (
            {"rateLimits": {"tools": [{"name": "drop", "requestsPerMinute": 600}]}},
            "LimitOutOfReach",
            "but no tier lets a client: the largest, enterprise, has 300 (rateLimits.tiers is not written)",
        ),
        (
            {"rateLimits": {"prompts": [{"name": "plan-trip", "requestsPerMinute": 31, "cost": 10}]}},
            "LimitOutOfReach",
            "31 times a minute at a cost of 10, but no tier",
        ),
        (
            {
                "rateLimits": {
                    "tiers": [{"name": "a", "requestsPerMinute": 5}, {"name": "b", "requestsPerMinute": 3}],
                    "resources": [{"name": "db://*", "requestsPerMinute": 6}],
                }
            },
            "LimitOutOfReach",
            "the largest, a, has 5; write at most 5",
        ),
        ({"clients": {"anonymous": "deny"}}, "NobodyMayCall", "no apiKeys, jwt or trustedHeaders are set"),
        (
            {"clients": {"anonymous": "deny", "apiKeys": [{"tier": "pro", "secretRef": {"name": "s"}}]}},
            "NobodyMayCall",
            "because the Secret s is not there",
        ),
    ],
)
def test_each_rule_that_does_nothing_is_found(document, reason, words):
    assert reason in REASONS
    (found,) = find(settings(document), catalog(prompts=[{"name": "plan-trip"}]), ())
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"rateLimits": {"tools": [{"name": "report-storm", "requestsPerMinute": 2}]}},
        {"rateLimits": {"tools": [{"name": "drop", "requestsPerMinute": 600, "per": "server"}]}},
        {"rateLimits": {"tools": [{"name": "drop", "requestsPerMinute": 30, "cost": 10}]}},
        cached(name="get-weather"),
        cached(name="get-weather", key={"arguments": ["city"], "ignoreCase": True}),
        {"cache": {"tools": [{"name": "get-weather", "ttl": "1m"}], "varyOn": ["X-User"]}},
        {
            "cache": {
                "tools": [
                    {"name": "get-weather", "ttl": "1m", "scope": "shared"},
                    {"name": "report-storm", "invalidates": ["get-weather"]},
                ]
            }
        },
        {
            "rateLimits": {"tools": [{"name": "parallel", "cost": 2}, {"name": "next_page", "cost": 2}]},
            "concurrency": {"parallelTool": True},
            "responses": {"page": {"tools": [{"name": "get-weather", "items": 5}]}},
        },
    ],
)
def test_rules_that_do_something_are_not(document):
    assert find(settings(document), catalog(), ()) == ()


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "object"},
        {"properties": {"city": {}}, "additionalProperties": True},
        {"properties": {"city": {}}, "allOf": [{"$ref": "#/$defs/more"}]},
        {"properties": ["city"]},
        [],
    ],
)
def test_nothing_is_said_of_arguments_of_a_tool_that_may_take_others(schema):
    document = cached(name="t", key={"arguments": ["ctiy"]})
    assert find(settings(document), catalog(tools=[{"name": "t", "inputSchema": schema}]), ()) == ()


def test_what_was_meant_is_no_name_that_would_forge_a_line_of_the_log():
    schema = {"properties": {"ci\nty": {}, "c\0x": {}, "\ud800": {}}}
    document = cached(name="t", key={"arguments": ["city"]})
    (found,) = find(settings(document), catalog(tools=[{"name": "t", "inputSchema": schema}]), ())
    assert found.reason == "UnknownArgument"
    assert found.message.isprintable()


def test_arguments_are_looked_at_anew_when_a_tool_lists_others():
    config, known = settings(cached(name="t", key={"arguments": ["city"]})), Catalog()
    findings = Findings(lambda: config, known, lambda _tool: False)
    for names, found in ((["city"], []), (["town"], ["UnknownArgument"]), (["city", "town"], [])):
        listed = {"name": "t", "inputSchema": {"properties": {name: {} for name in names}}}
        known.learn(SERVER, [listed])
        assert [finding.reason for finding in findings.now()] == found


def test_nothing_is_said_of_lists_that_are_not_known():
    asked = {"rateLimits": {"tools": [{"name": "x", "cost": 2}], "prompts": [{"name": "y", "cost": 2}]}}
    assert find(settings(asked), Catalog(), ()) == ()
    assert find(settings(asked), catalog(locked=True), ()) == ()
    assert [f.reason for f in find(settings(asked), catalog(), ())] == ["UnknownTool"]


def test_a_server_without_tools_is_said_to_list_none():
    (found,) = find(settings(LIMITED), catalog(tools=[]), ())
    assert "is no tool: the server lists none" in found.message


def test_private_results_of_callers_with_credentials_of_their_own_are_no_finding():
    config = settings(cached(name="get-weather", scope="client"))
    assert find(config, catalog(), ["get-weather"]) == ()
    assert find(config, catalog(locked=True), ()) == ()


def test_a_key_that_is_there_tells_callers_apart(tmp_path: Path):
    document = cached(name="get-weather", scope="client") | {
        "clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "s"}}]}
    }
    assert [f.reason for f in find(settings(document), catalog(), ())] == ["NobodyIsToldApart"]
    (tmp_path / "s").mkdir()
    (tmp_path / "s/anna").write_text("key")
    assert find(settings(document, tmp_path), catalog(), ()) == ()


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("report_storm", "report-storm"),
        ("REPORTSTORM", "report-storm"),
        ("reprot-storm", "report-storm"),
        ("zebra", None),
        ("", None),
        ("r" * 10_000, None),
    ],
)
def test_the_nearest_name_is_found_or_none(word, nearest):
    assert Vocabulary(["report-storm", "get-weather"]).nearest(word) == nearest
