"""`monitoring`, as the operator reads it: what Prometheus is told beside what the sidecar needs to know."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from mcpace_sidecar.contract.config import Model
from mcpace_sidecar.contract.config.base import spelled
from mcpace_sidecar.contract.config.traffic import Monitoring
from mcpace_sidecar.contract.quantity import Duration

Percent = Annotated[
    str, spelled(r"^(100|[1-9]?[0-9](\.[0-9]{1,2})?)%$", "write a part such as 5% or 0.5%", max_length=6)
]
"""A part of a hundred, such as 5% or 0.5%."""


def part(percent: Percent) -> float:
    """A percentage as a number from 0 to 1."""
    return float(percent.removesuffix("%")) / 100


class Alerts(Model):
    """Alerts in this server's PrometheusRule, where the cluster knows the kind."""

    enabled: bool = Field(default=True, description="False where you bring your own.")
    p95: Duration = Field(
        default="5s",
        description="95 of 100 calls take no longer, or the server is slow: judged by the bucket above.",
    )
    error_rate: Percent = Field(
        default="5%",
        description="The part of calls that may fail in thirty days; alerts tell how fast it is used up.",
    )


class ServerMonitoring(Monitoring):
    """What can be looked at, and by whom."""

    service_monitor: bool = Field(
        default=True, description="A ServiceMonitor for this server, where the cluster knows the kind."
    )
    alerts: Alerts = Alerts()


class Links(NamedTuple):
    """Where an alert leads to."""

    runbooks: str = ""
    """The address of the folder of runbooks; without one, where they are in mcpace's own files."""
    grafana: str = ""
    """The address of Grafana; without one, links are paths of it."""

    def runbook(self, alert: str) -> str:
        """The page of an alert."""
        return f"{self.runbooks.rstrip('/') or 'docs/runbooks'}/{alert}.md"

    def dashboard(self, uid: str, **variables: str) -> str:
        """A dashboard, with its variables set."""
        query = "&".join(f"var-{name}={value}" for name, value in variables.items())
        return f"{self.grafana.rstrip('/')}/d/{uid}{'?' if query else ''}{query}"
