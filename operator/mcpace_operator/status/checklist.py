"""The ten items of the performance checklist, judged on live numbers. Pure.

Source: the checklist that closes "MCP Server Performance Optimization".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any, Final

from mcpace_operator.resource.database import Database
from mcpace_operator.resource.models import McpServerSpec
from mcpace_operator.status.live import Live
from mcpace_operator.status.performance import Performance, Tool

P95: Final = 5.0
"""Seconds under which 95 % of calls shall be answered."""
FREQUENT: Final = 30
"""Calls in five minutes from which a tool is worth caching."""
LARGE: Final = 64 << 10
"""Bytes of a mean answer from which it is worth paging."""
SCRAPED: Final = 120.0
"""Seconds within which somebody must have read the metrics."""
REUSED: Final = 5.0
"""Requests per connection from which connections are reused."""
GROWTH: Final = 1.5
"""Growth of memory, over an hour at most, that is no longer stable."""
ROUNDS: Final = 4
"""Readings of memory from which anything can be said of its growth."""


class Result(Enum):
    """How an item stands."""

    PASSED = "Passed"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One item, judged. `mend` is what to write in the manifest."""

    result: Result
    evidence: str
    mend: str = ""


def cached_tools(spec: McpServerSpec) -> frozenset[str]:
    """The tools that the manifest caches."""
    return frozenset(tool.name for tool in spec.cache.tools) if spec.cache else frozenset()


def judge(spec: McpServerSpec, live: Live, *, ready: int, limits_up: bool | None) -> dict[str, Verdict]:
    """Every item, in the tutorial's order. `limits_up`: whether the shared store answers."""
    performance = live.performance
    return {
        "LatencyUnderFiveSeconds": _latency(performance),
        "DatabaseConnectionsPooled": _database(spec.database, spec.env),
        "FrequentCallsCached": _cached(spec, live),
        "HttpConnectionsReused": _reused(spec, live),
        "LargeResponsesPaginated": _paginated(spec, performance),
        "LimitsPreventExhaustion": _limits(spec, limits_up),
        "MetricsCollected": _metrics(live),
        "HealthChecksConfigured": _health(ready),
        "IndependentCallsConcurrent": _concurrent(spec, performance),
        "MemoryStableUnderLoad": _memory(live),
    }


def _latency(performance: Performance) -> Verdict:
    p95 = performance.p95
    if p95 is None:
        return Verdict(Result.UNKNOWN, "No call was answered in five minutes.")
    evidence = f"95 % of calls take up to {p95:.2g} s."
    if p95 < P95:
        return Verdict(Result.PASSED, evidence)
    slowest = max(performance.tools, key=lambda tool: tool.p95 or 0.0)
    mend = f"cache: {{tools: [{{name: {slowest.name}, ttl: 60s}}]}}"
    return Verdict(Result.FAILED, f"{evidence} The slowest tool is {slowest.name}.", mend)


def _database(database: Database | None, env: tuple[dict[str, Any], ...]) -> Verdict:
    if database is not None:
        many = database.max_connections
        return Verdict(Result.PASSED, f"PgBouncer keeps at most {many} connections per pod.")
    own = sorted(str(e.get("name")) for e in env if str(e.get("name")).startswith(("DATABASE_", "PG")))
    if own:
        words = f"The server is given {', '.join(own)} and opens its own connections."
        return Verdict(Result.FAILED, words, "database: {secretRef: {name: SECRET-WITH-uri}}")
    return Verdict(
        Result.UNKNOWN, "No database is known of.", "database: {secretRef: {name: SECRET-WITH-uri}}"
    )


def _cached(spec: McpServerSpec, live: Live) -> Verdict:
    cached = cached_tools(spec)
    frequent = [tool for tool in live.performance.tools if tool.calls >= FREQUENT]
    if not frequent:
        return Verdict(Result.UNKNOWN, f"No tool was called {FREQUENT} times in five minutes.")
    missing = [tool for tool in frequent if tool.name not in cached]
    sure = [tool for tool in missing if tool.name in live.read_only]
    if sure:
        worst = max(sure, key=lambda tool: tool.calls)
        words = f"{worst.name} is read-only, was called {_about(worst.calls)} times and is not cached."
        return Verdict(Result.FAILED, words, f"cache: {{tools: [{{name: {worst.name}, ttl: 60s}}]}}")
    if missing:
        worst = max(missing, key=lambda tool: tool.calls)
        words = f"{worst.name} was called {_about(worst.calls)} times; cache it if it changes nothing."
        return Verdict(Result.UNKNOWN, words, f"cache: {{tools: [{{name: {worst.name}, ttl: 60s}}]}}")
    answered = sum(tool.answered for tool in frequent) or 1
    return Verdict(
        Result.PASSED, f"{sum(tool.hits for tool in frequent) / answered:.0%} came from the cache."
    )


def _reused(spec: McpServerSpec, live: Live) -> Verdict:
    doors = _doors(live)
    if spec.transport != "stdio" or doors.result is Result.FAILED:
        return doors
    return _processes(spec, live)


def _doors(live: Live) -> Verdict:
    mend = "egress: [{name: api, url: https://api.example.com, port: 9101}]"
    used = {name: numbers for name, numbers in live.doors.items() if numbers[0]}
    if not used:
        words = "Connections to the server are kept; its own calls go through no door."
        return Verdict(Result.UNKNOWN, words, mend)
    name, (requests, opened) = min(used.items(), key=lambda item: item[1][0] / max(1, item[1][1]))
    words = f"Through the door {name}, {_about(requests)} requests used {_about(opened)} connections."
    if requests < REUSED:
        return Verdict(Result.UNKNOWN, words)
    if requests / max(1, opened) >= REUSED:
        return Verdict(Result.PASSED, words)
    return Verdict(Result.FAILED, words, f"egress: [{{name: {name}, keepAlive: 100, idleTimeout: 5m}}]")


def _processes(spec: McpServerSpec, live: Live) -> Verdict:
    """Of a server of stdio a process is what a connection is of others."""
    calls, started = sum(tool.calls for tool in live.performance.tools), live.started
    if started is None or calls < REUSED:
        return Verdict(Result.UNKNOWN, "Too few calls were seen to say how long processes are kept.")
    words = f"For {_about(calls)} calls in five minutes, {_about(started)} processes were started."
    if calls / max(1, started) >= REUSED:
        return Verdict(Result.PASSED, words)
    mend = "stdio: {processes: shared}" if spec.stdio.processes == "perSession" else ""
    return Verdict(Result.FAILED, words, mend)


def _paginated(spec: McpServerSpec, performance: Performance) -> Verdict:
    page = spec.responses.page
    paged = {tool.name for tool in page.tools} if page else set()
    answered = [tool for tool in performance.tools if tool.answered]
    if not answered:
        return Verdict(Result.UNKNOWN, "No call was answered in five minutes.")
    largest = max(answered, key=_mean_size)
    large = [tool for tool in answered if _mean_size(tool) > LARGE and tool.name not in paged]
    if large:
        worst = max(large, key=_mean_size)
        words = f"An answer of {worst.name} has {_mean_size(worst) / 1024:.2g} KiB on average, on one page."
        mend = f"responses: {{page: {{tools: [{{name: {worst.name}, items: 100, bytes: 64Ki}}]}}}}"
        return Verdict(Result.FAILED, words, mend)
    size = f"{_mean_size(largest) / 1024:.2g} KiB"
    return Verdict(Result.PASSED, f"The largest answers, of {largest.name}, have {size} on average.")


def _limits(spec: McpServerSpec, up: bool | None) -> Verdict:
    if spec.rate_limits is None:
        return Verdict(Result.FAILED, "Anybody may call as often as they like.", "rateLimits: {}")
    if up:
        return Verdict(Result.PASSED, "Limits are shared by all replicas.")
    if up is None:
        return Verdict(Result.UNKNOWN, "Each replica limits on its own: no Redis is configured.")
    return Verdict(Result.FAILED, "Redis does not answer, so limits are not shared.")


def _metrics(live: Live) -> Verdict:
    if not live.replicas_asked:
        return Verdict(Result.UNKNOWN, "No replica could be asked.")
    if live.scraped is not None and live.scraped < SCRAPED:
        return Verdict(Result.PASSED, "Prometheus, or something like it, reads the metrics.")
    words = (
        "Nobody has read the metrics in two minutes: install Prometheus Operator, or scrape NAME-metrics."
    )
    return Verdict(Result.FAILED, words, "monitoring: {serviceMonitor: true}")


def _health(ready: int) -> Verdict:
    if ready:
        return Verdict(Result.PASSED, f"{ready} ready by the MCP handshake, restarted when they hang.")
    return Verdict(Result.UNKNOWN, "No replica is ready yet.")


def _concurrent(spec: McpServerSpec, performance: Performance) -> Verdict:
    concurrency = spec.concurrency
    if concurrency is not None and concurrency.parallel_tool:
        return Verdict(Result.PASSED, "The tool `parallel` runs independent calls at once.")
    mend = "concurrency: {parallelTool: true}"
    if performance.p95 is None:
        return Verdict(Result.UNKNOWN, "No call was answered in five minutes.", mend)
    if performance.at_once > 1:
        return Verdict(Result.PASSED, f"{performance.at_once:.2g} calls ran at once on average.")
    return Verdict(Result.UNKNOWN, "Calls came one after the other.", mend)


def _memory(live: Live) -> Verdict:
    if live.killed_for_memory is not None:
        words = f"The container {live.killed_for_memory} was killed for its memory."
        return Verdict(Result.FAILED, words, "resources: {limits: {memory: 1Gi}}")
    if len(live.memory) < ROUNDS or not live.performance.calls:
        return Verdict(
            Result.UNKNOWN, "Too little was seen: it takes metrics-server, and a while of calls."
        )
    early = median(live.memory[: len(live.memory) // 2])
    growth = live.memory[-1] / max(1, early)
    words = f"It uses {live.memory[-1] / (1 << 20):.2g} MiB, {growth:.2g} times what it did."
    return Verdict(Result.PASSED if growth < GROWTH else Result.FAILED, words)


def _mean_size(tool: Tool) -> float:
    return tool.sent / max(1, tool.answered)


def _about(number: int) -> str:
    """Two digits: what is said shall not change with every call."""
    digits = max(0, len(str(number)) - 2)
    return str(round(number, -digits))
