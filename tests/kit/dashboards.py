"""The dashboards of the chart, as Grafana would ask what they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.kit.programs import ROOT

FOLDER = ROOT / "charts/mcpace/files/dashboards"


def dashboards() -> dict[str, dict[str, Any]]:
    """Its uid -> a dashboard."""
    return {
        made["uid"]: made for made in (json.loads(path.read_text()) for path in sorted(FOLDER.iterdir()))
    }


class Asked(NamedTuple):
    """A query of a panel."""

    dashboard: str
    panel: str
    kind: str
    unit: str
    legend: str
    query: str

    def filled(self, **variables: str) -> str:
        """The query with variables in place, and intervals as for a short time."""
        query = self.query.replace("$__rate_interval", "1m").replace("$__range", "5m")
        for name, value in variables.items():
            query = query.replace(f"${{{name}}}", value).replace(f"${name}", value)
        return query

    @property
    def labels(self) -> set[str]:
        """The labels that its legend names."""
        return set(re.findall(r"\{\{(\w+)\}\}", self.legend))


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel but rows, with its dashboard's uid."""
    for uid, made in dashboards().items():
        for panel in made["panels"]:
            if panel["type"] != "row":
                yield uid, panel


def asked() -> Iterator[Asked]:
    """Every query of every panel."""
    for uid, panel in panels():
        config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
        columns = {
            each["matcher"]["options"]: value["value"]
            for each in config["overrides"]
            for value in each["properties"]
            if value["id"] == "unit"
        }
        for target in panel["targets"]:
            legend = target["legendFormat"]
            unit = columns[legend] if panel["type"] == "table" else config["defaults"].get("unit", "")
            if panel["type"] == "heatmap":
                unit = panel["options"]["cellValues"]["unit"]
            yield Asked(uid, panel["title"], panel["type"], unit, legend, target["expr"])
