"""A dashboard as plain charts: what its panels' queries found, in one SVG. Pure; Grafana has no part in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

WIDE: Final = 1000.0
_GAP: Final = 10.0
_NUMBERS: Final = 6
"""Numbers beside each other."""
_GRAPHS: Final = 3
_NUMBER_HIGH: Final = 56.0
_GRAPH_HIGH: Final = 168.0
_PLOT: Final = (56.0, 24.0, 8.0, 40.0)
"""Left, top, right, below: what axes and legend take of a graph."""
_ROW: Final = 17.0
_NAMES: Final = 105.0
"""What a table's names take."""
_SHADES: Final = 8
_LEGENDS: Final = 4
"""Lines that are named; the others are counted."""
_LOOKS: Final = (
    ("#0b6bcb", ""), ("#c2410c", "5 2"), ("#15803d", "2 2"), ("#7c3aed", "7 2 2 2"), ("#64748b", "1 2"), ("#be185d", "9 3"),
)  # fmt: skip
"""Colour and dashes: none is told by its colour alone."""


class Line(NamedTuple):
    """A series: seconds since the beginning, and values."""

    legend: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """One panel, and what was found for it."""

    kind: str
    """As Grafana calls it: stat, timeseries, table, heatmap; row is a heading."""
    title: str
    unit: str = ""
    lines: Sequence[Line] = ()
    columns: Sequence[tuple[str, str]] = ()
    """Of a table: title and unit."""
    rows: Sequence[tuple[str, Mapping[str, float]]] = ()
    """Of a table: a name, and the columns' values."""


def said(value: float, unit: str) -> str:
    """A value with its unit, as Grafana's names of units mean it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or not value else f"{value * 1000:.3g} ms"
    if unit in ("bytes", "Bps"):
        step = min(4, int(math.log(value, 1024))) if value >= 1 else 0
        return f"{value / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}{'/s' * (unit == 'Bps')}"
    number = f"{value / 1000:.3g}k" if value >= 1000 else f"{value:.3g}"
    return number + (" /s" if unit in ("reqps", "ops", "cps") else "")


def picture(title: str, note: str, panels: Sequence[Panel]) -> str:
    """All panels in their order, as SVG."""
    svg = Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "role": "img"}
    )
    paper = SubElement(svg, "rect", {"width": f"{WIDE:g}", "fill": "#fff"})
    _text(svg, _GAP, 24, title, size=17, bold=True)
    _text(svg, _GAP, 42, note, colour="#475569")
    x, y, high = 0.0, 54.0, 0.0
    for panel in panels:
        wide, tall = _size(panel)
        if x + wide > WIDE + 0.5:
            x, y = 0.0, y + high
            high = 0.0
        _DRAWN[panel.kind](_box(svg, x, y, wide, tall, panel), panel, wide - _GAP, tall - _GAP)
        x, high = x + wide, max(high, tall)
    height = f"{y + high + _GAP:g}"
    paper.set("height", height)
    svg.set("viewBox", f"0 0 {WIDE:g} {height}")
    return tostring(svg, encoding="unicode") + "\n"


def _size(panel: Panel) -> tuple[float, float]:
    if panel.kind == "stat":
        return WIDE / _NUMBERS, _NUMBER_HIGH + _GAP
    if panel.kind in ("timeseries", "heatmap"):
        return WIDE / _GRAPHS, _GRAPH_HIGH + _GAP
    return WIDE, 26.0 if panel.kind == "row" else 44 + _ROW * (len(panel.rows) + 1)


def _box(svg: Element, x: float, y: float, wide: float, high: float, panel: Panel) -> Element:
    at = SubElement(svg, "g", {"transform": f"translate({x + _GAP / 2:g} {y:g})"})
    if panel.kind != "row":
        size = {"width": f"{wide - _GAP:g}", "height": f"{high - _GAP:g}"}
        SubElement(at, "rect", {**size, "rx": "3", "fill": "none", "stroke": "#cbd5e1"})
        _text(at, 8, 16, panel.title, size=_fitting(panel.title, wide - _GAP - 16, 11), bold=True)
    return at


def _heading(at: Element, panel: Panel, wide: float, high: float) -> None:
    del wide, high
    _text(at, 4, 18, panel.title, size=13, bold=True)


def _number(at: Element, panel: Panel, wide: float, high: float) -> None:
    known = [line for line in panel.lines if line.points]
    words = said(known[0].points[-1][1], panel.unit) if known else "no data"
    _text(at, wide / 2, high - 12, words, size=20, anchor="middle")


def _graph(at: Element, panel: Panel, wide: float, high: float) -> None:
    left, top, right, below = _PLOT
    points = [point for line in panel.lines for point in line.points]
    if not points:
        _text(at, wide / 2, high / 2, "no data", anchor="middle", colour="#475569")
        return
    most = max(x for x, _ in points) or 1.0
    highest = max(y for _, y in points) or 1.0
    across = _scale(most, left, wide - right)
    up = _scale(highest * 1.05, high - below, top)
    for value in (0.0, highest / 2, highest):
        _rule(at, left, up(value), wide - right, up(value))
        _text(at, left - 4, up(value) + 3, said(value, panel.unit), size=9, anchor="end", colour="#475569")
    _minutes(at, most, across, high - below + 12)
    for place, line in enumerate(panel.lines):
        colour, dashes = _LOOKS[place % len(_LOOKS)]
        drawn = "L".join(f"{across(x):.0f} {up(y):.1f}" for x, y in line.points)
        look = {"fill": "none", "stroke": colour, "stroke-width": "1.5"}
        SubElement(
            at, "path", {"d": f"M{drawn}", **look, **({"stroke-dasharray": dashes} if dashes else {})}
        )
    _legend(at, [line.legend for line in panel.lines], wide, high - 9)


def _legend(at: Element, names: Sequence[str], wide: float, y: float) -> None:
    named = names if len(names) <= _LEGENDS else names[: _LEGENDS - 1]
    each = (wide - 12) / max(1, min(len(names), _LEGENDS))
    for place, name in enumerate(named):
        colour, dashes = _LOOKS[place % len(_LOOKS)]
        x = 8 + place * each
        _rule(at, x, y - 3, x + 14, y - 3, colour, dashes)
        room = int((each - 20) / 4.9)
        _text(at, x + 17, y, name if len(name) <= room else name[: room - 1] + "…", size=9)
    if len(named) < len(names):
        _text(at, 8 + len(named) * each, y, f"and {len(names) - len(named)} more", size=9, colour="#475569")


def _heat(at: Element, panel: Panel, wide: float, high: float) -> None:
    """A histogram over time: the darker, the more of the column's calls; buckets in which there are none are left out."""
    left, top, right, _ = _PLOT
    below = 24.0
    buckets = sorted(panel.lines, key=lambda line: float(line.legend))
    counted = [dict(line.points) for line in buckets]  # what Prometheus counts up to each bucket
    times = sorted({x for each in counted for x in each})
    cells: dict[tuple[int, float], float] = {}
    for x in times:
        before = 0.0
        for place, each in enumerate(counted):
            value = each.get(x, before)
            if value - before > 1e-9:
                cells[place, x] = value - before
            before = value
    if not cells:
        _text(at, wide / 2, high / 2, "no data", anchor="middle", colour="#475569")
        return
    first, last = min(place for place, _ in cells), max(place for place, _ in cells)
    step = (wide - left - right) / len(times)
    row = (high - top - below) / (last - first + 1)
    most = max(cells.values())
    across = _scale(times[-1] or 1.0, left, wide - right)
    shades: dict[int, list[str]] = {}
    for (place, x), value in cells.items():
        corner = f"M{left + times.index(x) * step:.1f} {top + (last - place) * row:.1f}"
        shade = math.ceil(value / most * _SHADES)
        shades.setdefault(shade, []).append(f"{corner}h{step:.1f}v{row:.1f}h-{step:.1f}z")
    for shade, squares in sorted(shades.items()):
        look = {"fill": "#0b6bcb", "fill-opacity": f"{shade / _SHADES:.2f}"}
        SubElement(at, "path", {"d": "".join(squares), **look})
    for place in range(first, last + 1, max(1, (last - first) // 6)):
        words = buckets[place].legend
        words = "more" if words == "+Inf" else said(float(words), "s")
        middle = top + (last - place + 0.5) * row + 3
        _text(at, left - 4, middle, words, size=9, anchor="end", colour="#475569")
    _minutes(at, times[-1] or 1.0, across, high - below + 12)


def _table(at: Element, panel: Panel, wide: float, high: float) -> None:
    del high
    each = (wide - _NAMES) / max(1, len(panel.columns))
    for place, (name, _) in enumerate(panel.columns):
        right = _NAMES + (place + 1) * each - 6
        _text(at, right, 36, name, size=_fitting(name, each - 10, 10), anchor="end", bold=True)
    for number, (name, values) in enumerate(panel.rows):
        y = 36 + _ROW * (number + 1)
        _text(at, 8, y, name, size=10)
        for place, (column, unit) in enumerate(panel.columns):
            words = said(values[column], unit) if column in values else ""
            _text(at, _NAMES + (place + 1) * each - 6, y, words, size=10, anchor="end")


_DRAWN: Final[Mapping[str, Callable[[Element, Panel, float, float], None]]] = {
    "row": _heading,
    "stat": _number,
    "timeseries": _graph,
    "heatmap": _heat,
    "table": _table,
}


def _fitting(words: str, room: float, most: float) -> float:
    """The size of bold letters that fit, as far as their widths can be guessed."""
    return min(most, room / (0.58 * len(words)))


def _minutes(at: Element, most: float, across: Callable[[float], float], y: float) -> None:
    for part in (0.0, 0.5, 1.0):
        words = f"{most * part / 60:.3g} min"
        anchor = "end" if part == 1.0 else "middle"
        _text(at, across(most * part), y, words, size=9, anchor=anchor, colour="#475569")


def _scale(most: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + value / most * (end - start)


def _rule(
    at: Element, x1: float, y1: float, x2: float, y2: float, colour: str = "#e2e8f0", dashes: str = ""
) -> None:
    places = {
        name: f"{value:.1f}" for name, value in zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2), strict=True)
    }
    SubElement(at, "line", {**places, "stroke": colour, **({"stroke-dasharray": dashes} if dashes else {})})


def _text(
    at: Element, x: float, y: float, words: str, *, size: float = 11, anchor: str = "start",
    bold: bool = False, colour: str = "#0f172a",
) -> None:  # fmt: skip
    looks = {"font-size": f"{size:.3g}", "fill": colour}
    if anchor != "start":
        looks["text-anchor"] = anchor
    if bold:
        looks["font-weight"] = "bold"
    text = SubElement(at, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **looks})
    text.text = words
