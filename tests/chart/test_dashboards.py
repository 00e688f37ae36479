"""The chart's dashboards, without any data: what they ask is PromQL, of metrics that there are, in their units."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
import yaml
from tests.kit.dashboards import FOLDER, asked, dashboards, panels
from tests.kit.helm import CHART
from tests.kit.programs import ROOT
from tests.kit.rules import of_a_release, of_a_server
from tools.cluster.binaries import program
from tools.monitoring.drawn import Line, Panel, picture, said

from mcpace_operator.health import METRICS
from mcpace_sidecar.telemetry.metrics import COUNTED_ELSEWHERE, COUNTERS, GAUGES

QUERIES = list(asked())
UNITS = [
    (r"tokens", "short"),
    (r"histogram_quantile|:p95_5m|lag_seconds", "s"),
    (r"(rate\(|:rate5m).* / ", "percentunit"),
    (r"^avg ", "percentunit"),
    (r"rate\(\w*_bytes|_bytes:rate5m|saved_bytes_total", "Bps"),
    (r"_bytes\b", "bytes"),
    (r"(cpu|wait)_seconds_total", "short"),
    (r"evicted_keys", "cps"),
    (r"commands_processed", "ops"),
    (r"increase\(|^\(?count\(", "short"),
    (r"rate\(|:rate5m", "reqps"),
    (r"", "short"),
]
"""What a query asks for -> the unit it comes in; the first that is found counts."""
OF_OTHERS = re.compile(r"kube_\w+|redis_\w+|process_\w+|ALERTS")


def known() -> set[str]:
    """The series that sidecars, operator and rules make."""
    names = {f"{name}_total" for name in (*COUNTERS, *COUNTED_ELSEWHERE)} | set(GAUGES)
    for metric in METRICS:
        (family,) = metric.describe()
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    for histogram in ("mcp_tool_duration_seconds", "mcpace_operator_reconcile_seconds"):
        names |= {f"{histogram}_{part}" for part in ("bucket", "count", "sum")}
    groups = of_a_server() + of_a_release()
    return names | {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    variables = {"namespace": "ns", "server": "weather"}
    rules = [
        {"record": f"query:{number}", "expr": each.filled(**variables)}
        for number, each in enumerate(QUERIES)
    ]
    marks = [
        annotation["expr"].replace("$namespace", "ns").replace("$server", "weather")
        for made in dashboards().values()
        for annotation in made["annotations"]["list"]
    ]
    rules += [{"record": f"mark:{number}", "expr": expression} for number, expression in enumerate(marks)]
    assert len(marks) == 4
    assert not [rule for rule in rules if "$" in rule["expr"].replace('"$1"', "")], (
        "a variable that nobody sets"
    )
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [str(program("promtool")), "check", "rules", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("uid", dashboards())
def test_a_query_reads_series_that_there_are(uid: str) -> None:
    there = known()
    for each in QUERIES:
        if each.dashboard == uid:
            read = set(
                re.findall(
                    r"\b(?:mcp\w*:[\w:]+|(?:mcp|kube|redis|process)\w*_\w+|ALERTS)(?=[{\[)\s]|$)",
                    each.query,
                )
            )
            assert read, each
            assert not {name for name in read if not OF_OTHERS.fullmatch(name)} - there, each


@pytest.mark.parametrize("uid", dashboards())
def test_a_variable_is_a_label_of_a_metric_that_there_is(uid: str) -> None:
    variables = {each["name"]: each for each in dashboards()[uid]["templating"]["list"]}
    assert set(variables) >= {"datasource", "namespace"}
    assert variables.pop("datasource")["query"] == "prometheus"
    for variable in variables.values():
        query = variable["query"]["query"]
        (metric,) = re.findall(r"^label_values\((\w+)", query)
        assert metric in known()
        assert variable["datasource"]["uid"] == "${datasource}"


def test_every_number_has_its_unit_and_every_line_its_legend() -> None:
    for each in QUERIES:
        wanted = next(unit for words, unit in UNITS if re.search(words, each.query))
        if each.kind == "heatmap":
            wanted = "reqps"
        assert each.unit == wanted, each
        grouped = re.match(r"(?:topk\(10, )?(?:sum|max|avg) by \(([\w, ]+)\)", each.query)
        if each.kind == "timeseries" and grouped:
            assert each.labels == set(grouped[1].split(", ")), each
        assert each.legend, each


def test_every_panel_says_what_it_shows_and_lies_beside_the_others() -> None:
    for uid, made in dashboards().items():
        places = [(panel["title"], panel["gridPos"]) for panel in made["panels"]]
        for (one, first), (other, second) in combinations(places, 2):
            apart = (
                first["x"] + first["w"] <= second["x"] or second["x"] + second["w"] <= first["x"]
                or first["y"] + first["h"] <= second["y"] or second["y"] + second["h"] <= first["y"]
            )  # fmt: skip
            assert apart, f"{uid}: {one} lies over {other}"
        assert all(place["x"] + place["w"] <= 24 for _, place in places)
    for uid, panel in panels():
        assert panel["description"].endswith("."), (uid, panel["title"])
        assert panel["datasource"]["uid"] == "${datasource}", (uid, panel["title"])


def test_dashboards_lead_to_each_other_and_a_row_of_the_fleet_to_its_server() -> None:
    known = dashboards()
    assert set(known) == {"mcpace-fleet", "mcpace-server", "mcpace-clients", "mcpace-operator"}
    for made in known.values():
        (link,) = made["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(made["tags"])
    links = re.findall(r"/d/([\w-]+)\?([^\"]+)", json.dumps(known["mcpace-fleet"]))
    assert links
    for uid, query in links:
        variables = {each["name"] for each in known[uid]["templating"]["list"]}
        assert {f"var-{name}" for name in variables} == {
            each.partition("=")[0] for each in query.split("&")
        }


def configmaps(*settings: str) -> list[dict]:
    done = subprocess.run(
        [
            str(program("helm")), "template", "mcpace", CHART, "-n", "sys",
            *(f"--set-string={each}" if "label" in each else f"--set={each}" for each in settings),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        document
        for document in yaml.safe_load_all(done.stdout)
        if document and any(name.endswith(".json") for name in document.get("data") or {})
    ]


def test_the_chart_brings_them_as_grafanas_sidecar_finds_them() -> None:
    assert not configmaps()
    found = configmaps("metrics.dashboards.enabled=true", "metrics.dashboards.folder=MCP")
    shown = {}
    for document in found:
        assert document["kind"] == "ConfigMap"
        assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert document["metadata"]["annotations"] == {"grafana_folder": "MCP"}
        shown |= document["data"]
    assert shown == {f"mcpace-{path.name}": path.read_text() for path in FOLDER.iterdir()}


def test_labels_and_annotations_are_the_readers_own() -> None:
    found = configmaps(
        "metrics.dashboards.enabled=true",
        "metrics.dashboards.labels.team=a",
        "metrics.dashboards.annotations.x=y",
    )
    for document in found:
        assert document["metadata"]["labels"]["team"] == "a"
        assert document["metadata"]["annotations"] == {"x": "y"}


def test_every_dashboard_has_its_picture_with_every_panel_drawn_of_data() -> None:
    """`python -m tools.charts` draws them."""
    for uid, made in dashboards().items():
        drawn = (ROOT / f"docs/dashboards/{uid.removeprefix('mcpace-')}.svg").read_text()
        titles = re.findall(r"<text [^>]*font-weight=\"bold\"[^>]*>([^<]*)</text>", drawn)
        assert {escape(each["title"]) for each in made["panels"]} <= set(titles)
        assert "no data" not in drawn
        assert len(drawn) < 150 << 10


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.25, "percentunit", "25 %"), (0.0123, "s", "12.3 ms"), (2.5, "s", "2.5 s"), (0, "s", "0 s"),
        (1536, "bytes", "1.5 KiB"), (3 << 20, "Bps", "3 MiB/s"), (0.5, "bytes", "0.5 B"), (12_345, "short", "12.3k"),
        (7, "reqps", "7 /s"),
    ],
)  # fmt: skip
def test_a_value_is_said_in_its_unit(value: float, unit: str, words: str) -> None:
    assert said(value, unit) == words


def test_a_panel_of_which_nothing_was_found_says_so_and_no_name_is_markup() -> None:
    line = Line("<script>", [(0.0, 1.0), (60.0, 2.0)])
    drawn = picture("a & b", "", [Panel("timeseries", "<b>", "s", [line]), Panel("stat", "none", "s")])
    assert drawn.count("no data") == 1
    root = ET.fromstring(drawn)
    assert {"<script>", "<b>", "a & b", "2 s"} <= {text.text for text in root.iter() if text.text}
