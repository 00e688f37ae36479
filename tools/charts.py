"""The pictures of dashboards in `docs/dashboards`: plain charts of what their panels' queries find.

No Grafana draws them. A Prometheus scrapes sidecars and an operator that are at work; what a cluster's
exporters would say is written (`tests/kit/scene.py`).

python -m tools.charts [--seconds 240]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import sys
import tempfile
import time
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import Any, Final

from tests.kit.dashboards import Asked, asked, dashboards
from tests.kit.operator import Operator
from tests.kit.prometheus import Prometheus
from tests.kit.redis import RedisServer
from tests.kit.scene import Scene, scene, variables
from tests.kit.waiting import STARTING, until
from tools.cluster.controlplane import ControlPlane
from tools.cluster.kubectl import Kubectl
from tools.monitoring.drawn import Line, Panel, picture

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs/dashboards"
POINTS: Final = 40
"""Of a line."""
WARMING: Final = 300.0
"""Seconds of calls before those that are shown: panels look back for as long."""
_CLIENTS: Final = 4
_CITIES: Final = ("Paris", "Lima", "Oslo", "Cairo", "Quito", "Hanoi", "Turin", "Davos")


def found(made: dict[str, Any], prometheus: Prometheus, start: float, end: float) -> list[Panel]:
    """A dashboard's panels, with what their queries find between two moments."""
    queries: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for each in asked():
        if each.dashboard == made["uid"]:
            queries[each.panel, each.kind].append(each)
    panels = []
    for panel in made["panels"]:
        kind, title = panel["type"], panel["title"]
        mine = [
            each
            for each in queries[title, kind]
            if each.query in {t["expr"] for t in panel.get("targets", ())}
        ]
        if kind == "table":
            panels.append(_table(title, mine, prometheus, end))
        else:
            lines = [line for each in mine for line in _lines(each, prometheus, start, end)]
            panels.append(Panel(kind, title, mine[0].unit if mine else "", lines))
    return panels


def _lines(each: Asked, prometheus: Prometheus, start: float, end: float) -> list[Line]:
    query = each.filled(**variables(each))
    step = (end - start) / POINTS
    answer = prometheus.ask("query_range", query=query, start=str(start), end=str(end), step=str(step))
    lines = []
    for one in answer["result"]:
        points = [(at - start, float(value)) for at, value in one["values"] if math.isfinite(float(value))]
        if points:
            lines.append(Line(_named(each.legend, one["metric"]), points))
    return lines


def _table(title: str, queries: list[Asked], prometheus: Prometheus, end: float) -> Panel:
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for each in queries:
        query = each.filled(**variables(each))
        for one in prometheus.ask("query", query=query, time=str(end))["result"]:
            name = one["metric"].get("tool") or f"{one['metric']['namespace']}/{one['metric']['server']}"
            if math.isfinite(value := float(one["value"][1])):
                rows[name][each.legend] = value
    return Panel("table", title, columns=[(e.legend, e.unit) for e in queries], rows=sorted(rows.items()))


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend).strip()


async def _client(seen: Scene, number: int) -> None:
    """Calls now more, now fewer, until it is cancelled."""
    chance = random.Random(number)  # noqa: S311 - because it decides nothing but what is called
    while True:
        wave = 1.3 + math.sin(time.monotonic() / 20)
        await asyncio.sleep(chance.expovariate(1.0) * 0.25 / wave)
        await seen.traffic.weather(chance.choice(_CITIES), int(time.monotonic() / 15))
        if chance.random() < 0.1:
            await seen.traffic.others()
        if chance.random() < 0.03:
            await seen.traffic.flow(int(time.monotonic() * 1000))
        if chance.random() < 0.1:
            await seen.lines.call("echo", {}, **seen.client)


async def _owner(api: Kubectl) -> None:
    """Changes a server's manifest now and then, until it is cancelled."""
    for number in count(1):
        await asyncio.to_thread(api.apply, "weather", image=f"weather:{number}")
        await asyncio.sleep(7)


async def _pictures(
    folder: Path, seconds: float, api: Kubectl, operator: Operator, redis: RedisServer
) -> None:
    async with scene(folder, operator, redis) as seen:
        await until(seen.is_scraped, "every target to be scraped", STARTING)
        chance = random.Random(0)  # noqa: S311 - because of the same
        seen.traffic.latency = lambda: chance.lognormvariate(math.log(0.04), 0.7)
        clients = [asyncio.create_task(_client(seen, number)) for number in range(_CLIENTS)]
        clients.append(asyncio.create_task(_owner(api)))
        done, _ = await asyncio.wait(
            clients, timeout=WARMING + seconds, return_when=asyncio.FIRST_EXCEPTION
        )
        assert not done, [client.exception() for client in done]
        end = time.time()
        start = end - seconds
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for uid, made in dashboards().items():
            panels = await asyncio.to_thread(found, made, seen.prometheus, start, end)
            note = f"Plain charts of what its queries found in {seconds / 60:.2g} minutes, not Grafana's."
            drawn = picture(made["title"], note, panels)
            assert "no data" not in drawn, [panel.title for panel in panels if not panel.lines]
            path = PICTURES / f"{uid.removeprefix('mcpace-')}.svg"
            path.write_text(drawn, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def main() -> int:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="of calls that are shown, after five minutes"
    )
    options = parser.parse_args()
    seconds: float = options.seconds
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plane, redis = ControlPlane(folder / "plane"), RedisServer(folder)
        redis.start()
        plane.start()
        api = Kubectl(plane.kubeconfig, folder / "cache")
        urls = {"MCPACE_LIMITS_URL": redis.url, "MCPACE_CACHE_URL": redis.url}
        operator = Operator(api, folder / "operator.log", **urls)
        try:
            api.ok("apply", "-f", str(ROOT / "crds/mcpservers.yaml"))
            api.ok(
                "wait", "--for=jsonpath={.status.conditions}", "crd/mcpservers.mcpace.dev", "--timeout=30s"
            )
            api.ok("wait", "--for=condition=Established", "crd/mcpservers.mcpace.dev", "--timeout=30s")
            operator.start()
            asyncio.run(_pictures(folder, seconds, api, operator, redis))
        finally:
            operator.stop()
            plane.stop()
            redis.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
