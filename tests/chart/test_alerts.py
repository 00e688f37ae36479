"""Every alert, as promtool sees it: silent while all is well, firing when it is not, over when it is well again."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.kit.programs import ROOT
from tests.kit.rules import of_a_release, of_a_server
from tools.cluster.binaries import program

from mcpace_operator.children.alerting import BURNS

SERVER = 'namespace="ns",service="weather-metrics"'
OPERATOR = 'namespace="sys",service="mcpace-metrics"'


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    return of_a_server(rateLimits={}) + of_a_release()


def alerts(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (rule for group in groups for rule in group["rules"] if "alert" in rule)


def counter(*phases: tuple[float, int]) -> str:
    """Values of a counter, a minute apart: how much it grows a minute, and for how many minutes."""
    total, values = 0.0, []
    for each, minutes in phases:
        for _ in range(minutes):
            total += each
            values.append(f"{total:g}" if total < 1e6 else f"{total:.0f}")
    return " ".join(values)


def gauge(*phases: tuple[float | None, int]) -> str:
    """Values of a gauge, a minute apart; None is none at all."""
    return " ".join(
        "_" if value is None else f"{value:g}" for value, minutes in phases for _ in range(minutes)
    )


WELL, ILL, AGAIN = 120, 60, 600
"""Minutes of each part of a course."""


class Course(NamedTuple):
    """What is scraped; in the second part something is wrong."""

    series: dict[str, str]
    end: int = AGAIN
    """Minutes after which it is over."""


def rates(well: float, ill: float) -> str:
    return counter((well, WELL), (ill, ILL), (well, AGAIN))


def states(well: float | None, ill: float | None) -> str:
    return gauge((well, WELL), (ill, ILL), (well, 60))


def calls(status: str, selecting: str = SERVER) -> str:
    return f'mcp_tool_calls_total{{{selecting},pod="a",tool="t",status="{status}"}}'


def took(suffix: str, more: str = "") -> str:
    return f'mcp_tool_duration_seconds_{suffix}{{{SERVER},pod="a",tool="t"{more}}}'


BUDGETED = 420
"""Minutes after which the short window of the longest is well again: six hours, and more."""
COURSES = {
    "McpServerErrors": Course({calls("success"): rates(60, 60), calls("failed"): rates(0, 540)}, BUDGETED),
    "McpServerSlow": Course(
        {
            took("count"): rates(60, 60),
            took("bucket", ',le="5.0"'): rates(60, 0),
            took("bucket", ',le="+Inf"'): rates(60, 60),
            calls("success"): rates(60, 60),
        },
        BUDGETED,
    ),
    "McpServerOverloaded": Course({calls("success"): rates(60, 60), calls("shed"): rates(0, 60)}, BUDGETED),
    "McpServerDown": Course({f'mcpace_server_ready{{{SERVER},pod="a"}}': states(1, 0)}, 10),
    "McpServerCircuitOpen": Course(
        {f'mcpace_circuit_open{{{SERVER},pod="a",tool="t"}}': states(None, 1)}, 10
    ),
    "McpServerMemoryNearLimit": Course(
        {
            f'mcpace_server_memory_bytes{{{SERVER},pod="a"}}': states(500, 950),
            f'mcpace_server_memory_limit_bytes{{{SERVER},pod="a"}}': states(1000, 1000),
        },
        10,
    ),
    "McpServerSecretMissing": Course({f'mcpace_missing_secrets{{{SERVER},pod="a"}}': states(0, 1)}, 10),
    "McpServerInternalErrors": Course(
        {
            f'mcpace_internal_errors_total{{{SERVER},pod="a",stage="answer"}}': gauge(
                (None, WELL), (1, ILL + AGAIN)
            )
        },
        20,
    ),
    "McpServerLimitsNotShared": Course(
        {f'mcpace_redis_up{{{SERVER},pod="a",store="limits"}}': states(1, 0)}, 10
    ),
    "McpaceReconcilesFail": Course(
        {
            f'mcpace_operator_reconciles_total{{{OPERATOR},pod="a",result="ok"}}': rates(10, 2),
            f'mcpace_operator_reconciles_total{{{OPERATOR},pod="a",result="error"}}': rates(0, 30),
        },
        BUDGETED,
    ),
    "McpaceOperatorDown": Course({f'mcpace_operator_leading{{{OPERATOR},pod="a"}}': states(1, 0)}, 10),
    "McpaceQueueStands": Course({f'mcpace_operator_queue{{{OPERATOR},pod="a"}}': states(0, 3)}, 20),
    "McpaceNamespacesUnread": Course(
        {f'mcpace_operator_unread_namespaces{{{OPERATOR},pod="a"}}': states(0, 1)}, 10
    ),
    "McpaceRedisDown": Course(
        {f'mcpace_redis_up{{{SERVER},pod="{pod}",store="cache"}}': states(1, 0) for pod in "ab"}, 10
    ),
}
"""Alert -> what must make it fire, and end."""
SHORT = {"McpServerInternalErrors": 5}
"""Alerts that tell of what has happened: minutes after which it fires; of others, at the end of what is wrong."""


def about(name: str, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules of an alert, and the recordings that it reads."""
    read = " ".join(rule["expr"] for rule in alerts(groups) if rule["alert"] == name)

    def concerns(rule: dict[str, Any]) -> bool:
        return rule["alert"] == name if "alert" in rule else rule["record"] in read

    kept = [group | {"rules": list(filter(concerns, group["rules"]))} for group in groups]
    return [group for group in kept if group["rules"]]


def promtool(
    folder: Path, groups: list[dict[str, Any]], series: dict[str, str], *asked: dict[str, Any]
) -> str:
    """What promtool complains of; nothing where all that is asked is so."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": list(asked),
            }
        ],
    }
    (folder / "test.yaml").write_text(json.dumps(test))
    done = subprocess.run(
        [str(program("promtool")), "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def firing(name: str, minute: int, is_so: bool) -> dict[str, Any]:
    """Asks whether an alert fires then."""
    told = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    samples = [{"labels": "{}", "value": float(is_so)}]
    return {"expr": f"({told} > bool 0) or vector(0)", "eval_time": f"{minute}m", "exp_samples": samples}


@pytest.mark.parametrize("name", COURSES)
def test_an_alert_is_silent_fires_and_is_over(
    name: str, groups: list[dict[str, Any]], tmp_path: Path
) -> None:
    course = COURSES[name]
    complaint = promtool(
        tmp_path, about(name, groups), course.series,
        firing(name, WELL - 2, False),
        firing(name, WELL + SHORT.get(name, ILL - 2), True),
        firing(name, WELL + ILL + course.end, False),
    )  # fmt: skip
    assert not complaint, complaint


def test_every_alert_has_its_course_and_every_course_its_alert(groups: list[dict[str, Any]]) -> None:
    assert {rule["alert"] for rule in alerts(groups)} == set(COURSES)


@pytest.mark.parametrize(
    ("part", "windows"),
    [(0.03, set()), (0.08, {"3d"}), (0.2, {"3d", "1d"}), (0.4, {"3d", "1d", "6h"}), (0.85, {"3d", "1d", "6h", "1h"})],
)  # fmt: skip
def test_the_faster_a_budget_burns_the_sooner_and_the_louder_it_is_told(
    part: float, windows: set[str], groups: list[dict[str, Any]], tmp_path: Path
) -> None:
    minutes = 12 * 60
    series = {
        calls("success"): counter((100 * (1 - part), minutes)),
        calls("failed"): counter((100 * part, minutes)),
    }
    severity = {burn.long: burn.severity for burn in BURNS}
    asked = {
        "expr": 'count by (window, severity) (ALERTS{alertname="McpServerErrors",alertstate="firing"})',
        "eval_time": f"{minutes - 1}m",
        "exp_samples": [
            {"labels": f'{{window="{window}", severity="{severity[window]}"}}', "value": 1}
            for window in windows
        ],
    }
    complaint = promtool(tmp_path, about("McpServerErrors", groups), series, asked)
    assert not complaint, complaint


def test_one_failure_of_two_calls_wakes_nobody(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    series = {
        calls("success"): counter((0, 60), (1, 1), (0, 60)),
        calls("failed"): counter((0, 60), (1, 1), (0, 60)),
    }
    complaint = promtool(tmp_path, groups, series, firing("McpServerErrors", 65, False))
    assert not complaint, complaint


def test_a_budget_of_more_than_a_burns_part_can_still_be_used_up(tmp_path: Path) -> None:
    groups = of_a_server(monitoring={"alerts": {"errorRate": "50%"}})
    series = {calls("success"): counter((1, 120)), calls("failed"): counter((99, 120))}
    complaint = promtool(tmp_path, groups, series, firing("McpServerErrors", 110, True))
    assert not complaint, complaint


def test_a_server_whose_metrics_are_gone_is_down(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    series = {f'mcpace_server_ready{{{SERVER},pod="a"}}': gauge((1, 30), (None, 30))}
    complaint = promtool(
        tmp_path, groups, series, firing("McpServerDown", 29, False), firing("McpServerDown", 55, True)
    )
    assert not complaint, complaint


RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ["## What it means", "## What to look at", "## What to do"]


def dashboards() -> dict[str, dict[str, Any]]:
    folder = ROOT / "charts/mcpace/files/dashboards"
    return {made["uid"]: made for made in (json.loads(path.read_text()) for path in folder.iterdir())}


def test_every_alert_says_what_it_is_what_to_do_and_where_to_look(groups: list[dict[str, Any]]) -> None:
    known = dashboards()
    for rule in alerts(groups):
        name, words = rule["alert"], rule["annotations"]
        assert words["summary"].endswith("."), name
        assert words["description"].endswith("."), name
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["labels"]["namespace"] in ("ns", "sys"), name
        assert (RUNBOOKS / words["runbook_url"].rpartition("/")[2]).stem == name
        assert words["runbook_url"].startswith(("docs/runbooks/", "https://books.example/")), name
        path, _, query = words["dashboard_url"].removeprefix("https://grafana.example").partition("?")
        assert path.startswith("/d/"), name
        variables = {variable["name"] for variable in known[path.removeprefix("/d/")]["templating"]["list"]}
        assert {
            each.partition("=")[0].removeprefix("var-") for each in query.split("&") if each
        } <= variables


def test_every_alert_has_its_page_every_page_its_alert_and_all_are_listed(
    groups: list[dict[str, Any]],
) -> None:
    names = {rule["alert"] for rule in alerts(groups)}
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == names
    listed = (RUNBOOKS / "README.md").read_text()
    for name in names:
        text = (RUNBOOKS / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n"), name
        assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS, name
        assert f"[{name}]({name}.md)" in listed


def test_the_manifests_links_lead_where_the_chart_says() -> None:
    groups = of_a_release()
    urls = {rule["annotations"]["runbook_url"] for rule in alerts(groups)}
    assert all(url.startswith("https://books.example/Mcpace") for url in urls)
    text = json.dumps(groups)
    assert "RELEASE" not in text
    assert "_URL" not in text


def test_promtool_finds_nothing_wrong_with_any_rule(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    done = subprocess.run(
        [str(program("promtool")), "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


NAMES = re.compile(r"`([a-z]\w*(?:\.\w+)+)(?:: [^`]*)?`")


def test_every_field_and_value_that_a_page_names_is_there() -> None:
    documented = {
        name.replace("[]", "")
        for page in ("docs/reference.md", "charts/mcpace/README.md")
        for name in re.findall(r"^\| `([\w.\[\]]+)` \|", (ROOT / page).read_text(), re.MULTILINE)
    }
    for path in RUNBOOKS.glob("*.md"):
        for name in NAMES.findall(path.read_text()):
            known = re.sub(r"\bresources\..+", "resources", name)  # Kubernetes' own from there on
            assert any(f"{each}.".startswith(f"{known}.") for each in documented), (
                f"{path.name} names {name}"
            )
