"""Every panel of every dashboard has data: a real Prometheus scrapes real sidecars, an operator, and what Redis is told."""

from __future__ import annotations

import asyncio
import math
import re
import time
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.kit.dashboards import asked, dashboards
from tests.kit.operator import Operator
from tests.kit.prometheus import Prometheus
from tests.kit.redis import RedisServer
from tests.kit.scene import RECORDED, scene, shown
from tests.kit.waiting import until
from tools.charts import found
from tools.cluster.kubectl import Kubectl
from tools.monitoring.drawn import picture


async def test_every_panel_has_data_with_its_legend_and_numbers_that_stats_tells_too(
    api: Kubectl, operator: Operator, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with scene(tmp_path, operator, redis_server) as seen:
        await until(seen.is_scraped, "every target to be scraped")
        _, before = await seen.sidecar.admin_get("/stats")
        await seen.lines.call("echo", {}, **seen.client)
        api.apply("weather", image="weather:1")
        await until(lambda: api.get("deployment/weather"), "the operator to have looked at a server")
        await seen.traffic.flow(2)
        _, after = await seen.sidecar.admin_get("/stats")
        calls = sum(tool["count"] for tool in after["calls"].values())

        async def counted() -> bool:
            return await seen.ask('sum(mcp_tool_calls_total{service="weather-metrics"})') == calls

        await until(counted, f"{calls} calls to be counted")
        missing = list(asked())

        def none_missing() -> bool:
            missing[:] = [each for each in missing if not shown(each, seen.prometheus)]
            return not missing

        try:
            await until(partial(asyncio.to_thread, none_missing), "data", pause=0.2)
        except AssertionError:
            raise AssertionError("\n".join(map(str, missing))) from None
        for each in asked():
            series = await until(partial(asyncio.to_thread, shown, each, seen.prometheus), str(each))
            for labels, value in series:
                assert value >= 0, each
                assert each.unit != "percentunit" or value <= 1, (each, value)
                # The server's own breaker has no tool.
                assert each.labels - {"tool"} <= labels.keys(), (each, labels)
                assert each.kind != "table" or {"tool", "server"} & labels.keys(), (each, labels)
        await compared(seen.prometheus, before, after)

        async def known() -> bool:
            return await seen.ask("max(mcpace_operator_servers)") == 1

        await until(known, "the server to be counted")
        for made in dashboards().values():
            panels = await asyncio.to_thread(found, made, seen.prometheus, time.time() - 10, time.time())
            drawn = picture(made["title"], "", panels)
            assert "no data" not in drawn
            assert not [
                each["title"] for each in made["panels"] if f">{escape(each['title'])}<" not in drawn
            ]


async def compared(prometheus: Prometheus, before: Any, after: Any) -> None:
    """What panels say of the calls between two looks at /stats is what these say."""

    def grown(field: str, *tools: str) -> float:
        def total(stats: Any) -> float:
            return sum(
                each[field] for name, each in stats["calls"].items() if name in (tools or stats["calls"])
            )

        return total(after) - total(before)

    wanted = {
        "Hit ratio": grown("hits", "get-weather") / grown("count", "get-weather"),
        "Failed": grown("errors") / grown("count"),
        "Ready replicas": 1.0,
        "In flight": 1.0,
    }
    assert wanted["Hit ratio"] == 0.75
    for each in asked():
        if each.dashboard == "mcpace-server" and each.kind == "stat" and each.panel in wanted:
            ((_, value),) = await until(partial(asyncio.to_thread, shown, each, prometheus), str(each))
            assert math.isclose(value, wanted.pop(each.panel), rel_tol=0.02), each
    assert not wanted
    (tokens,) = [each for each in asked() if each.legend == "Tokens per answer"]
    tokens = tokens._replace(query=tokens.query.replace("$__rate_interval", "5m"))  # however long it took
    series = await until(partial(asyncio.to_thread, shown, tokens, prometheus), str(tokens))
    told = {labels["tool"]: value for labels, value in series}
    assert 0 < told["history"] < 100, "it is limited: refusals are answers too, and shorter than 400 bytes"


def test_what_is_recorded_is_what_panels_read_of_others() -> None:
    others = re.compile(r"\b(?:kube|redis)_\w+")
    recorded = {name for _, text in RECORDED.values() for name in others.findall(text)}
    assert recorded == {name for each in asked() for name in others.findall(each.query)}
