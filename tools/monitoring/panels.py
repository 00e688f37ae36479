"""Panels as they are written here: a title, a unit, what it says, and its queries with their legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG: Final = "mcpace"
HEIGHT: Final = 8
WIDTH: Final = 12
"""Of 24."""
SERVER_PAGE: Final = (
    "/d/mcpace-server?var-datasource=${datasource:percentencode}"
    "&var-namespace=${__data.fields.namespace:percentencode}&var-server=${__data.fields.server:percentencode}"
)
"""A row of a table leads to its server."""

Query = tuple[str, str]
"""An expression and its legend."""
Column = tuple[str, str, str]
"""A column's title, its unit, its expression."""


def _asked(queries: Sequence[Query], *, instant: bool = False, form: PromQueryFormat) -> Any:
    for number, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).datasource(SOURCE)
        query = query.format(form).ref_id(chr(ord("A") + number))
        yield query.instant() if instant else query.range()


def graph(
    title: str, unit: str, words: str, *queries: Query, width: int = WIDTH, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time, from zero."""
    panel = timeseries.Panel().title(title).description(words).datasource(SOURCE).unit(unit).min(0)
    for query in _asked(queries, form=PromQueryFormat.TIME_SERIES):
        panel = panel.with_target(query)
    mode = common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
    legend = (
        common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    )
    legend = legend.placement(common.LegendPlacement.BOTTOM)
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    panel = panel.stacking(common_builders.StackingConfig().mode(mode)).fill_opacity(25 if stacked else 8)
    return (
        panel.legend(legend).tooltip(tooltip.sort(common.SortOrder.DESCENDING)).span(width).height(HEIGHT)
    )


def number(
    title: str,
    unit: str,
    words: str,
    query: str,
    *,
    width: int = 4,
    bad: float | None = None,
    good: float = 0,
) -> stat.Panel:
    """One number, with its course behind it; from `bad` on it is red, from `good` on green where none is bad."""
    panel = stat.Panel().title(title).description(words).datasource(SOURCE).unit(unit).span(width).height(4)
    (asked,) = _asked([(query, title)], form=PromQueryFormat.TIME_SERIES)
    reduced = common_builders.ReduceDataOptions().calcs(["lastNotNull"])
    steps = [dashboard.Threshold(color="green")]
    if bad is not None:
        steps.append(dashboard.Threshold(value=bad, color="red"))
    elif good:
        steps = [dashboard.Threshold(color="red"), dashboard.Threshold(value=good, color="green")]
    thresholds = dashboards.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
    panel = panel.with_target(asked).reduce_options(reduced).thresholds(thresholds)
    return panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)


def rows(
    title: str, words: str, by: Sequence[str], columns: Sequence[Column], *, leads: bool = False
) -> table.Panel:
    """A row for each value of the labels `by`, now; where it `leads`, to the dashboard of the row's server."""
    panel = table.Panel().title(title).description(words).datasource(SOURCE).span(24).height(HEIGHT + 2)
    asked = [(expression, name) for name, _, expression in columns]
    for query in _asked(asked, instant=True, form=PromQueryFormat.TABLE):
        panel = panel.with_target(query)
    names = {f"Value #{chr(ord('A') + place)}": name for place, (name, _, _) in enumerate(columns)}
    order = {name: place for place, name in enumerate((*by, *names))}
    panel = panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
        )
    )
    for name, unit, _ in columns:
        panel = panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    if leads:
        link = {"title": "Open the server", "url": SERVER_PAGE, "targetBlank": False}
        panel = panel.override_by_name(
            "server", [dashboard.DynamicConfigValue(id_val="links", value=[link])]
        )
    return panel


def heat(title: str, words: str, query: str) -> heatmap.Panel:
    """How many calls took how long: a histogram over time."""
    (asked,) = _asked([(query, "{{le}}")], form=PromQueryFormat.HEATMAP)
    color = (
        heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    )
    panel = heatmap.Panel().title(title).description(words).datasource(SOURCE).span(WIDTH).height(HEIGHT)
    panel = panel.with_target(asked).calculate(False).color(color)  # Prometheus has counted already
    panel = panel.y_axis(heatmap.YAxisConfig().unit("s")).cell_values(heatmap.CellValues().unit("reqps"))
    return panel.show_y_histogram()


def variable(
    name: str, query: str, *, label: str, several: bool = False, regex: str = ""
) -> dashboards.QueryVariable:
    """A choice among the values of a label; of `several` any or all."""
    made = dashboards.QueryVariable(name).label(label).datasource(SOURCE)
    made = made.query({"query": query, "refId": name}).regex(regex)
    made = made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made = made.sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    if several:
        every = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
        made = made.multi(True).include_all(True).all_value(".*").current(every)
    return made


def page(uid: str, title: str, words: str, *variables: dashboards.QueryVariable) -> dashboards.Dashboard:
    """A dashboard without panels yet, with links to its kin and the alerts of the shown as marks."""
    made = dashboards.Dashboard(title).uid(uid).description(words).tags([TAG]).readonly()
    made = made.time("now-6h", "now").refresh("1m").timezone("browser")
    made = made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    source = dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus")
    made = made.with_variable(source)
    for each in variables:
        made = made.with_variable(each)
    kin = dashboards.DashboardLink("mcpace").type(dashboard.DashboardLinkType.DASHBOARDS)
    return made.link(kin.tags([TAG]).as_dropdown(True).include_vars(True).keep_time(True).icon("dashboard"))


def marked(made: dashboards.Dashboard, query: str) -> dashboards.Dashboard:
    """With the alerts that fire as marks in every panel."""
    mark = dashboards.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red")
    return made.annotation(mark.expr(query))
