"""What becomes of a manifest to be measured: levers taken away, limits lifted, doors moved."""

from __future__ import annotations

import copy

from mcpace_cli.bench import levers, stage
from mcpace_operator.resource.models import parse_spec

SPEC = {
    "image": "x",
    "env": [
        {"name": "API", "value": "http://127.0.0.1:8101/v1"},
        {"name": "OTHER", "value": "127.0.0.1:81012"},
    ],
    "args": ["--api", "localhost:8101"],
    "egress": [{"name": "api", "url": "https://api.example.com/", "port": 8101}],
    "cache": {"tools": [{"name": "a", "ttl": "5m"}]},
    "concurrency": {"parallelTool": True, "maxInFlight": 8},
    "responses": {
        "compressOver": "1Ki",
        "heartbeat": "10s",
        "page": {"tools": [{"name": "b", "items": 5}]},
    },
}


def test_a_manifest_has_the_levers_that_it_writes():
    assert list(levers.levers(SPEC)) == ["cache", "pooling", "parallel", "paging", "compression"]
    assert levers.levers({"image": "x"}) == {}
    assert (
        levers.levers(SPEC)["paging"] == "responses:\n  page:\n    tools:\n    - name: b\n      items: 5\n"
    )
    for lines in levers.levers(SPEC).values():
        assert lines.count("\n") >= 2 or ":" in lines


def test_without_levers_a_manifest_is_one_still_and_keeps_the_rest():
    before = copy.deepcopy(SPEC)
    bare = levers.without(SPEC, levers.levers(SPEC))
    assert before == SPEC
    parse_spec(bare)
    assert bare == {
        "image": "x",
        "env": [
            {"name": "API", "value": "https://api.example.com/v1"},
            {"name": "OTHER", "value": "127.0.0.1:81012"},
        ],
        "args": ["--api", "api.example.com"],
        "concurrency": {"maxInFlight": 8},
        "responses": {"compressOver": "1Gi", "heartbeat": "10s"},
    }


def test_each_lever_alone_is_a_manifest():
    lines = levers.levers(SPEC)
    for name in lines:
        alone = levers.without(SPEC, lines.keys() - {name})
        parse_spec(alone)
        left = levers.levers(alone)
        assert left[name] == lines[name]
        assert set(left) <= {name, "compression"}


def test_a_lever_is_about_the_tools_that_it_names():
    assert levers.concerned("cache", SPEC, ["a", "b", "c"]) == ["a"]
    assert levers.concerned("paging", SPEC, ["a", "b", "c"]) == ["b"]
    assert levers.concerned("pooling", SPEC, ["a", "b", "c"]) == ["a", "b", "c"]
    assert levers.concerned("cache", SPEC, ["c"]) == []


def test_doors_move_with_whatever_names_them():
    moved = levers.moved(SPEC, 9000, {8101: 9101})
    assert moved["port"] == 9000
    assert moved["egress"][0]["port"] == 9101
    assert moved["env"] == [
        {"name": "API", "value": "http://127.0.0.1:9101/v1"}, {"name": "OTHER", "value": "127.0.0.1:81012"},
    ]  # fmt: skip
    assert moved["args"] == ["--api", "127.0.0.1:9101"]
    assert levers.uses_doors(SPEC)
    assert not levers.uses_doors(SPEC | {"env": [], "args": []})


def test_limits_are_lifted_and_their_tiers_stay_for_the_keys():
    spec = {
        "image": "x",
        "rateLimits": {
            "tiers": [
                {"name": "free", "requestsPerMinute": 1},
                {"name": "pro", "requestsPerMinute": 2, "requestsPerDay": 3},
            ],
            "defaultTier": "pro",
            "tools": [{"name": "a", "requestsPerMinute": 1}],
        },
        "clients": {"apiKeys": [{"tier": "pro", "secretRef": {"name": "s"}}]},
    }
    lifted = levers.unlimited(spec)
    parse_spec(lifted)
    assert [tier["requestsPerMinute"] for tier in lifted["rateLimits"]["tiers"]] == [1_000_000, 1_000_000]
    assert "tools" not in lifted["rateLimits"]
    assert lifted["rateLimits"]["defaultTier"] == "pro"
    parse_spec(levers.unlimited(spec | {"rateLimits": {}}))
    assert levers.unlimited({"image": "x"}) == {"image": "x"}


def test_servers_that_are_started_alike_are_one_and_those_with_doors_are_not():
    def variant(name: str, spec: levers.Spec) -> str:
        return stage.Variant(name, None, spec, ("python", "server.py")).own_server  # type: ignore[arg-type]

    bare = levers.without(SPEC, levers.levers(SPEC))
    assert variant("a", bare) == variant("b", bare | {"cache": SPEC["cache"]})
    assert variant("a", SPEC) != variant("a", bare)
    assert variant("a", SPEC) != variant("b", SPEC)


def test_counts_are_read_of_tools_of_any_name():
    metrics = r"""
# TYPE mcp_tool_calls_total counter
mcp_tool_calls_total{tool="a",status="success"} 10.0
mcp_tool_calls_total{tool="b} 7\",status=\"limited\"",status="error"} 2.0
mcp_tool_calls_total{tool="a",status="limited"} 3.0
mcpace_cache_requests_total{tool="a",result="memory"} 4.0
mcpace_cache_requests_total{tool="a",result="joined"} 1.0
mcpace_cache_requests_total{tool="a",result="miss"} 2.0
mcp_tool_calls_created{tool="a",status="success"} 1.7e+09
"""
    found = stage.counted(metrics)
    assert found == stage.Counted(looked=7, hits=5, calls=15, refused=3)
    assert found.since(stage.Counted(1, 1, 1, 1)) == stage.Counted(6, 4, 14, 2)
