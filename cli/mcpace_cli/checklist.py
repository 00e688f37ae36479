"""The checklist on a laptop: one sidecar's report, judged as the operator judges those of all replicas."""

from __future__ import annotations

from mcpace_operator.resource.models import McpServerSpec
from mcpace_operator.status.checklist import judge
from mcpace_operator.status.live import Live
from mcpace_operator.status.performance import merged
from mcpace_sidecar.contract.report import Item, Report


def checklist(spec: McpServerSpec, report: Report) -> tuple[Item, ...]:
    """Every item, in order."""
    processes = report.processes
    in_window = report.uptime_seconds <= report.window_seconds
    live = Live(
        merged([report]),
        replicas_asked=1,
        read_only=frozenset(report.read_only_tools),
        scraped=report.scraped_seconds_ago,
        doors={name: (door.requests, door.connections) for name, door in report.doors.items()},
        started=processes.starts if processes is not None and in_window else None,
    )
    verdicts = judge(spec, live, ready=int(report.ready), limits_up=report.stores.get("limits"))
    return tuple(
        Item(name, verdict.result.value, verdict.evidence, verdict.mend)
        for name, verdict in verdicts.items()
    )
