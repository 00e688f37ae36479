"""Counters as plain integers, shown to Prometheus by one collector.

Counting is on every call's way and costs an addition; text is made when it is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from mcpace_sidecar.contract.histogram import BOUNDS
from mcpace_sidecar.telemetry.tally import Tallies, Tally

Gauges = Callable[[], Iterator[tuple[str, dict[str, str], float]]]
"""Gives (name, labels, value) of everything that is read when it is asked for."""

COUNTERS: Final = {
    "mcp_tool_calls": ("Tool calls by how they ended.", ("tool", "status")),
    "mcpace_cache_requests": (
        "Calls of cached tools, by where the result was.",
        ("tool", "result"),
    ),
    "mcpace_cache_bypassed": (
        "Calls of cached tools not looked up: anonymous (no credential), writes, a session's first call.",
        ("tool", "reason"),
    ),
    "mcpace_request_bytes": ("Bytes of tool calls.", ("tool",)),
    "mcpace_response_bytes": ("Bytes of their answers, before compression.", ("tool",)),
    "mcpace_response_tokens": (
        "Tokens of their answers, estimated: bytes / 4, rounded down. What a model reads costs context.",
        ("tool",),
    ),
    "mcpace_cache_saved_bytes": (
        "Bytes of answers whose result was known: the server gave none of them.",
        ("tool",),
    ),
    "mcpace_shed_calls": ("Calls turned away for want of room: queue, overdue, breaker.", ("reason",)),
    "mcpace_limited_calls": ("Calls refused by a limit.", ("tier", "limit")),
    "mcpace_bad_requests": ("Requests that were no acceptable HTTP or MCP.", ("reason",)),
    "mcpace_upstream_errors": ("Answers that the server did not give.", ("reason",)),
    "mcpace_internal_errors": (
        "Exceptions that ended a call, by where it was then; each is a defect, to be reported.",
        ("stage",),
    ),
    "mcpace_shed_connections": (
        "What was refused or closed for want of room: connections, bodies, answers, slow, streams.",
        ("reason",),
    ),
    "mcpace_unauthorized_requests": ("Requests refused for their credential.", ()),
    "mcpace_session_revived": (
        "Sessions begun again: server_lost (its process), owner_lost (its replica), drained (handed over).",
        ("reason",),
    ),
    "mcpace_relayed_calls": ("Requests passed on to the replica that holds their session.", ()),
    "mcpace_relay_failures": (
        "Those that it did not answer: connect (it is gone), busy, closed, truncated, timeout, malformed.",
        ("reason",),
    ),
    "mcpace_streams_resumed": (
        "Times a client came back to a stream: goes_on, replayed, ended, lost.",
        ("result",),
    ),
    "mcpace_calls_lost": (
        "Calls of sessions that were answered by an error, because the server ended while it ran them.",
        (),
    ),
    "mcpace_config_reloads": ("Configurations taken (ok) or refused (error).", ("result",)),
}
"""Counters: name without `_total` -> (help, labels)."""

INITIAL: Final = {
    "mcpace_shed_calls": ("queue", "overdue", "breaker"),
    "mcpace_shed_connections": ("connections", "bodies", "answers", "slow", "streams"),
    "mcpace_streams_resumed": ("goes_on", "replayed", "ended", "lost"),
}
"""Values of labels that are shown before they first happen: Prometheus sees no increase in what appears."""

BYTES_PER_TOKEN: Final = 4
"""What is usual of English text and JSON; no tokenizer is on a call's way."""

Counted = Iterable[tuple[tuple[str, ...], int]]
"""The values of a counter's labels, and how often."""

PER_TOOL: Final[dict[str, Callable[[Tally], Counted]]] = {
    "mcp_tool_calls": lambda tally: [((status,), count) for status, count in tally.statuses.items()],
    "mcpace_cache_requests": lambda tally: [((where,), count) for where, count in tally.cache.items()],
    "mcpace_request_bytes": lambda tally: [((), tally.received)],
    "mcpace_response_bytes": lambda tally: [((), tally.sent)],
    "mcpace_response_tokens": lambda tally: [((), tally.sent // BYTES_PER_TOKEN)],
    "mcpace_cache_saved_bytes": lambda tally: [((), tally.saved)] if tally.cache else [],
}
"""Counters that are read from the tally of each tool: what stands behind `tool`, and how often."""

GAUGES: Final = {
    "mcp_active_connections": ("Client connections open now.", ()),
    "mcpace_open_streams": ("Event streams of clients that are open now.", ()),
    "mcpace_sessions": ("Sessions that this replica has lately heard of.", ()),
    "mcpace_peers": ("Other replicas that this one has lately heard of, while it holds sessions.", ()),
    "mcpace_held_bytes": (
        "Bytes held for clients: bodies, answers gathered, answers that they have not read, replays.",
        ("what",),
    ),
    "mcpace_streams_away": (
        "Streams of sessions that go on while their client's connection is broken.",
        (),
    ),
    "mcpace_bound": (
        "How many, or how many bytes, there may be of each part of the budget.",
        ("what",),
    ),
    "mcpace_calls_in_flight": ("Requests being answered now.", ()),
    "mcp_tool_calls_in_flight": ("Tool calls being answered now, by tool.", ("tool",)),
    "mcpace_slots_taken": ("Slots of `concurrency` that calls hold now.", ()),
    "mcpace_full": ("Whether every slot is taken and the line is full: calls are turned away.", ()),
    "mcpace_calls_queued": ("Calls that wait for a free slot.", ()),
    "mcpace_circuit_open": (
        "Circuit breakers that are open, by tool; the server's own has none.",
        ("tool",),
    ),
    "mcpace_upstream_connections": (
        "Connections to the server that calls have, by state: busy, idle, streams.",
        ("state",),
    ),
    "mcpace_upstream_waiting": ("Requests that wait for a connection to the server.", ()),
    "mcpace_egress_connections": ("Connections that a door keeps open to the outside, by door.", ("door",)),
    "mcpace_event_loop_lag_seconds": (
        "How late the sidecar's own half-second timer came, at worst lately.",
        (),
    ),
    "mcpace_cache_bytes": ("Memory held by cached results.", ()),
    "mcpace_cache_entries": ("Cached results in memory.", ()),
    "mcpace_redis_up": ("Whether the store answers: limits, cache.", ("store",)),
    "mcpace_limit_replicas": ("Replicas that share the limits.", ()),
    "mcpace_limit_levels": (
        "Levels (what is left in a client's bucket, or of its quota) that this replica has in its memory.",
        (),
    ),
    "mcpace_config_unknown_fields": ("Fields of the configuration that this version ignores.", ()),
    "mcpace_missing_secrets": ("Secrets with API keys that are not mounted.", ()),
    "mcpace_server_memory_bytes": (
        "Memory of the server's container or process, where it can be seen.",
        (),
    ),
    "mcpace_server_memory_limit_bytes": (
        "The memory limit of the server's container, where it has one.",
        (),
    ),
    "mcpace_server_ready": ("Whether the server has answered the MCP handshake.", ()),
    "mcpace_stdio_processes": ("Processes of a server of stdio: starting, running, ending.", ("state",)),
    "mcpace_stdio_waiting": ("Sessions, or calls of `shared`, that wait for a process.", ()),
    "mcpace_rules_without_effect": (
        "Rules of the configuration that do nothing, by reason; `/stats` says which.",
        ("reason",),
    ),
}
"""Gauges: name -> (help, labels)."""

COUNTED_ELSEWHERE: Final = {
    "mcpace_server_cpu_seconds": (
        "CPU time of the server's container or process, where it can be seen.",
        "",
    ),
    "mcpace_redis_failures": ("Commands that a store did not answer.", "store"),
    "mcpace_decided_without_redis": ("Limit decisions made while Redis was down.", "mode"),
    "mcpace_egress_requests": ("Calls of the server's own, by how they ended.", "door, result"),
    "mcpace_egress_connections_opened": ("Connections that a door opened to the outside.", "door"),
    "mcpace_stdio_starts": ("Processes of a server of stdio that were started.", ""),
    "mcpace_stdio_failed_starts": (
        "Of those, by reason: command (no such), ended, refused, silent, wrote (what is no message).",
        "reason",
    ),
    "mcpace_stdio_crashes": ("Processes that had answered, and ended unasked.", ""),
    "mcpace_stdio_junk_lines": ("Lines on standard output that were no messages, and passed over.", ""),
    "mcpace_egress_wait_seconds": ("Seconds that calls waited behind a door, in all.", "door"),
}
"""Counters that their owners keep: name without `_total` -> (help, label)."""


class Metrics:
    """All counters of one sidecar."""

    def __init__(self, tallies: Tallies, gauges: Gauges) -> None:
        self.counts: dict[str, dict[tuple[str, ...], int]] = {name: defaultdict(int) for name in COUNTERS}
        for name, (_, labels) in COUNTERS.items():
            if not labels:
                self.counts[name][()] = 0
        for name, values in INITIAL.items():
            self.counts[name].update(dict.fromkeys(((value,) for value in values), 0))
        self._tallies = tallies
        self._gauges = gauges
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # CPU, memory and open files of the sidecar itself

    def count(self, name: str, *labels: str) -> None:
        """Add one."""
        self.counts[name][labels] += 1

    def text(self) -> bytes:
        """The exposition, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        tools = self._tallies.totals()
        for name, (words, labels) in COUNTERS.items():
            family = CounterMetricFamily(name, words, labels=labels)
            for values, count in self._counted(name, tools):
                family.add_metric(values, count)
            yield family
        durations = HistogramMetricFamily(
            "mcp_tool_duration_seconds", "Duration of answered tool calls.", labels=["tool"]
        )
        for name, tally in tools.items():
            within = tally.within
            if within[-1]:
                bounds = zip((*map(str, BOUNDS), "+Inf"), within, strict=True)
                durations.add_metric([name], list(bounds), tally.seconds)
        yield durations
        yield from self._read_gauges()

    def _counted(self, name: str, tools: dict[str, Tally]) -> Counted:
        read = PER_TOOL.get(name)
        if read is not None:
            for tool, tally in tools.items():
                for labels, count in read(tally):
                    yield (tool, *labels), count
        yield from self.counts[name].items()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering needs no first collection."""
        return iter(())

    def _read_gauges(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, labels, value in self._gauges():
            family = families.get(name)
            if family is None:
                if name in COUNTED_ELSEWHERE:
                    words = COUNTED_ELSEWHERE[name][0]
                    family = CounterMetricFamily(name, words, labels=list(labels))
                else:
                    family = GaugeMetricFamily(name, GAUGES[name][0], labels=list(labels))
                families[name] = family
            assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
            family.add_metric(list(labels.values()), value)
        yield from families.values()
