"""The dashboards as JSON, made by the SDK's types alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tools.monitoring import clients, fleet, operator, server

BUILT: Final[Mapping[str, Callable[[], Dashboard]]] = {
    "fleet": fleet.build,
    "server": server.build,
    "clients": clients.build,
    "operator": operator.build,
}
"""The file's name -> what makes it."""


def text(name: str) -> str:
    """A dashboard as Grafana reads it; panels are numbered in their order."""
    dashboard = BUILT[name]().build()
    for number, panel in enumerate(dashboard.panels or (), 1):
        panel.id_val = number  # links to a panel shall not change when another comes
    return json.dumps(dashboard, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
