"""The ten items, judged."""

import pytest
import yaml
from tests.kit.mcpserver import context, ended, told

from mcpace_operator.resource.models import parse_spec
from mcpace_operator.status.checklist import Result, judge
from mcpace_operator.status.live import Live
from mcpace_operator.status.performance import merged

ITEMS = (
    "LatencyUnderFiveSeconds",
    "DatabaseConnectionsPooled",
    "FrequentCallsCached",
    "HttpConnectionsReused",
    "LargeResponsesPaginated",
    "LimitsPreventExhaustion",
    "MetricsCollected",
    "HealthChecksConfigured",
    "IndependentCallsConcurrent",
    "MemoryStableUnderLoad",
)
CACHED = {"cache": {"tools": [{"name": "get", "ttl": "60s"}]}}
PASSED, FAILED, UNKNOWN = Result.PASSED, Result.FAILED, Result.UNKNOWN


def verdict(calls=(), spec=None, limits_up=True, ready=2, **live):
    performance = merged([told(*calls)])
    seen = Live(performance, replicas_asked=live.pop("replicas_asked", 2), **live)
    return judge(context(**(spec or {})).spec, seen, ready=ready, limits_up=limits_up)


def test_there_are_the_tutorials_ten_items():
    assert tuple(verdict()) == ITEMS


STDIO = {"transport": "stdio", "command": ["mcp-server-time"]}
MANY = [ended()] * 40


@pytest.mark.parametrize(
    ("item", "seen", "expected"),
    [
        (0, {}, UNKNOWN),
        (0, {"calls": [ended(seconds=0.04)] * 20}, PASSED),
        (0, {"calls": [ended(seconds=6)] * 20}, FAILED),
        (1, {}, UNKNOWN),
        (1, {"spec": {"database": {"secretRef": {"name": "db"}}}}, PASSED),
        (1, {"spec": {"env": [{"name": "DATABASE_URL", "value": "x"}]}}, FAILED),
        (2, {"calls": [ended()]}, UNKNOWN),
        (2, {"calls": MANY}, UNKNOWN),
        (2, {"calls": MANY, "read_only": frozenset({"get"})}, FAILED),
        (2, {"calls": MANY, "read_only": frozenset({"get"}), "spec": CACHED}, PASSED),
        (3, {}, UNKNOWN),
        (3, {"doors": {"api": (100, 3)}}, PASSED),
        (3, {"doors": {"api": (100, 90)}}, FAILED),
        (3, {"doors": {"api": (2, 2)}}, UNKNOWN),
        (3, {"spec": STDIO}, UNKNOWN),
        (3, {"spec": STDIO, "calls": MANY}, UNKNOWN),
        (3, {"spec": STDIO, "started": 30}, UNKNOWN),
        (3, {"spec": STDIO, "calls": MANY, "started": 0}, PASSED),
        (3, {"spec": STDIO, "calls": MANY, "started": 8}, PASSED),
        (3, {"spec": STDIO, "calls": MANY, "started": 30}, FAILED),
        (3, {"spec": STDIO, "calls": MANY, "started": 0, "doors": {"api": (100, 90)}}, FAILED),
        (4, {}, UNKNOWN),
        (4, {"calls": [ended(sent=1000)]}, PASSED),
        (4, {"calls": [ended(sent=200_000)]}, FAILED),
        (4, {"calls": [ended(sent=200_000)], "spec": {"responses": {"page": {"tools": [{"name": "get", "items": 10}]}}}}, PASSED),
        (5, {}, FAILED),
        (5, {"spec": {"rateLimits": {}}}, PASSED),
        (5, {"spec": {"rateLimits": {}}, "limits_up": False}, FAILED),
        (5, {"spec": {"rateLimits": {}}, "limits_up": None}, UNKNOWN),
        (6, {"replicas_asked": 0}, UNKNOWN),
        (6, {}, FAILED),
        (6, {"scraped": 500.0}, FAILED),
        (6, {"scraped": 10.0}, PASSED),
        (7, {}, PASSED),
        (7, {"ready": 0}, UNKNOWN),
        (8, {}, UNKNOWN),
        (8, {"calls": [ended(seconds=0.01)]}, UNKNOWN),
        (8, {"calls": [ended(seconds=2)] * 200}, PASSED),
        (8, {"spec": {"concurrency": {"parallelTool": True}}}, PASSED),
        (9, {}, UNKNOWN),
        (9, {"killed_for_memory": "server"}, FAILED),
        (9, {"calls": MANY, "memory": (100, 101, 99, 100)}, PASSED),
        (9, {"calls": MANY, "memory": (100, 150, 200, 300)}, FAILED),
        (9, {"calls": MANY, "memory": (100, 300)}, UNKNOWN),
    ],
)  # fmt: skip
def test_an_item_is_judged_by_what_was_seen(item, seen, expected):
    finding = verdict(**seen)[ITEMS[item]]
    assert finding.result is expected, finding.evidence
    assert finding.evidence.endswith(".")


def test_what_it_says_to_write_is_a_manifest():
    bad = {
        "calls": [ended(seconds=6, sent=200_000)] * 40,
        "read_only": frozenset({"get"}),
        "doors": {"api": (9, 9)},
    }
    mends = [f.mend for f in verdict(**bad).values() if f.mend]
    assert len(mends) >= 5
    for mend in mends:
        written = yaml.safe_load(mend.replace("SECRET-WITH-uri", "db"))
        if "egress" in written:
            written["egress"][0] |= {"url": "https://x.example", "port": 9101}
        parse_spec({"image": "weather:1"} | written)
