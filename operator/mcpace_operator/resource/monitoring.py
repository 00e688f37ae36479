"""`monitoring`, as the operator reads it: what Prometheus is told beside what the sidecar needs to know."""

from __future__ import annotations

from typing import Annotated

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
    """A PrometheusRule for this server, where the cluster knows the kind."""

    enabled: bool = Field(default=True, description="False where you bring your own.")
    p95: Duration = Field(default="5s", description="Above this p95 of five minutes, the server is slow.")
    error_rate: Percent = Field(
        default="5%", description="Above this part of failed calls, an alert fires."
    )


class ServerMonitoring(Monitoring):
    """What can be looked at, and by whom."""

    service_monitor: bool = Field(
        default=True, description="A ServiceMonitor for this server, where the cluster knows the kind."
    )
    alerts: Alerts = Alerts()
