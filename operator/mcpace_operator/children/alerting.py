"""What rules of Prometheus are made of, whatever they judge: a server, the operator, Redis.

A ratio is judged by how fast it uses up a budget, over a long and a short window at once: the long one
says that it matters, the short one that it goes on. Source: The Site Reliability Workbook, chapter 5,
"Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from mcpace_operator.resource.monitoring import Links

Severity = Literal["critical", "warning"]
"""critical: somebody is to be woken; warning: somebody is to look in working hours."""


class Burn(NamedTuple):
    """A budget of thirty days used up so fast is told."""

    long: str
    short: str
    rate: float
    """How many times as fast as would just last for thirty days."""
    severity: Severity


BURNS: Final = (
    Burn("1h", "5m", 14.4, "critical"),
    Burn("6h", "30m", 6.0, "critical"),
    Burn("1d", "2h", 3.0, "warning"),
    Burn("3d", "6h", 1.0, "warning"),
)
EVERY: Final = 30
"""Seconds between two evaluations of what is recorded: a sum of rates times this is a number of events."""
RATE: Final = "5m"
"""The window of the recorded rates, of which longer ones are averages."""
SLOWLY: Final = frozenset({"1d", "3d"})
"""Windows that are looked at every five minutes only: they are long to read."""
MOST: Final = 0.9
"""A part above which every budget is said to burn: a large one would else want more than all."""
FEWEST: Final = 10
"""Events of the bad kind in the long window below which nobody is told: of two calls one may fail."""


class Alert(NamedTuple):
    """A row: what is told, and when."""

    name: str
    expression: str
    lasting: str
    severity: Severity
    summary: str
    description: str
    labels: Mapping[str, str] = {}


class Budget(NamedTuple):
    """A row: a part of events that may be of the bad kind, and what is told where it is used up."""

    name: str
    bad: str
    """The recorded rate of the bad ones, as it is selected."""
    every: str
    """That of all of them."""
    part: float
    """From 0 to 1."""
    severest: Severity
    summary: str
    description: str

    def alerts(self) -> Iterator[Alert]:
        """The same alert for each speed."""
        for burn in BURNS:
            threshold = max(self.part, min(burn.rate * self.part, MOST))
            ratios = " and ".join(
                f"({self._rate(self.bad, window)} / {self._rate(self.every, window)}) > {threshold:g}"
                for window in (burn.long, burn.short)
            )
            fewest = f"sum_over_time({self.bad}[{burn.long}]) * {EVERY} >= {FEWEST}"
            severity = burn.severity if self.severest == "critical" else "warning"
            yield Alert(
                self.name, f"{ratios} and {fewest}", "0m", severity,
                f"{{{{ $value | humanizePercentage }}}} {self.summary} within {burn.long}.",
                self.description, {"window": burn.long},
            )  # fmt: skip

    @staticmethod
    def _rate(recorded: str, window: str) -> str:
        return recorded if window == RATE else f"avg_over_time({recorded}[{window}])"


def appeared(counter: str, window: str) -> str:
    """Whether a rare thing happened lately: `increase` does not see the first, which makes the series."""
    new = f"count({counter} unless {counter} offset {window})"
    return f"sum(increase({counter}[{window}])) > 0 or {new} > 0"


def recording(name: str, expression: str) -> dict[str, Any]:
    """A rule that keeps what is dear to ask for."""
    return {"record": name, "expr": expression}


def alerting(alert: Alert, links: Links, dashboard: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A rule that tells somebody; `labels` are those of every alert of its kind."""
    rule = {"alert": alert.name, "expr": alert.expression, "for": alert.lasting}
    if alert.lasting == "0m":
        del rule["for"]
    return rule | {
        "labels": {"severity": alert.severity, **labels, **alert.labels},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": links.runbook(alert.name),
            "dashboard_url": dashboard,
        },
    }


def groups(name: str, records: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of rules: recordings come before what reads them, and long windows are read less often."""
    slow = [rule for rule in alerts if rule["labels"].get("window") in SLOWLY]
    usual = [*records, *(rule for rule in alerts if rule not in slow)]
    found: list[dict[str, Any]] = []
    if usual:
        found.append({"name": name, "interval": f"{EVERY}s", "rules": usual})
    if slow:
        found.append({"name": f"{name}.budget", "interval": "5m", "rules": slow})
    return found
