"""Charts as SVG inside a page: built of elements and never written as text, so no name is markup.

Drawn here and not by a plot library: those that draw SVG paint texts as outlines and colours into it, or
bring a script. Here a chart is a few kilobytes, its colours are the page's (light and dark), its texts can
be read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement

from mcpace_sidecar.contract.histogram import GROWTH, middle

WIDTH: Final = 760.0
_LEFT: Final = 56.0
_RIGHT: Final = 16.0
_TOP: Final = 14.0
_BOTTOM: Final = 34.0
_ROW: Final = 14.0
"""The height of a line of text."""
_JOINED: Final = 2
"""Buckets of 5 % that one step of a distribution is drawn of."""
_MOST_SERIES: Final = 6
"""Looks that a page's style has; then they begin anew."""


class Series(NamedTuple):
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


class Distribution(NamedTuple):
    """How long the steps of one contender took."""

    name: str
    histogram: Mapping[int, int]
    marks: Mapping[str, float]
    """Percentiles -> seconds."""


class Bar(NamedTuple):
    """One value of a chart of bars, and its words."""

    name: str
    value: float
    words: str


def look(number: int) -> str:
    """The class of the series of that number."""
    return f"s{number % _MOST_SERIES}"


def distributions(
    all_: Sequence[Distribution], say: Callable[[float], str], height: float = 260.0
) -> Element:
    """Latencies overlaid on one logarithmic axis, each with the same area, percentiles marked."""
    known = [one for one in all_ if one.histogram]
    joined = [_joined(one.histogram) for one in known]
    first = _TOP + _ROW * sum(len(one.marks) for one in known)  # the names of the marks stand above
    height += first - _TOP
    svg = _svg(height, "Distribution of latencies: " + ", ".join(one.name for one in known))
    if not known:
        return _empty(svg, height)
    low = min(min(each) for each in joined) - 2
    high = max(max(each) for each in joined) + 3
    at = _scale(low, high, _LEFT, WIDTH - _RIGHT)
    top = max(max(each.values()) / sum(each.values()) for each in joined)
    up = _scale(0, top * 1.04, height - _BOTTOM, first)
    least, most = _edge(low), _edge(high)
    for seconds in _ticks(least, most):
        x = at(_place(seconds))
        _line(svg, x, first, x, height - _BOTTOM, "grid")
        _text(svg, x, height - _BOTTOM + 18, say(seconds), "tick middle")
    _line(svg, _LEFT, height - _BOTTOM, WIDTH - _RIGHT, height - _BOTTOM, "axis")
    _text(svg, _LEFT - 8, first + 10, "more", "tick end")
    _text(svg, _LEFT - 8, height - _BOTTOM, "fewer", "tick end")
    for number, (one, each) in enumerate(zip(known, joined, strict=True)):
        total = sum(each.values())
        path = [f"M{at(min(each)):.1f} {up(0):.1f}"]
        for place in range(min(each), max(each) + 1):
            share = each.get(place, 0) / total
            path.append(f"V{up(share):.1f}H{at(place + 1):.1f}")
        path.append(f"V{up(0):.1f}")
        drawn = SubElement(svg, "path", {"d": "".join(path), "class": f"area {look(number)}"})
        SubElement(drawn, "title").text = f"{one.name}: {total:,} steps"
    y = _TOP
    for number, one in enumerate(known):
        for row, (name, seconds) in enumerate(one.marks.items()):
            x = min(max(at(_place(seconds)), _LEFT), WIDTH - _RIGHT)
            _line(svg, x, y, x, height - _BOTTOM, f"mark {look(number)} m{row}")
            after = x > WIDTH - 130
            words = f"{name} {say(seconds)}"
            label = _text(
                svg, x + (-4 if after else 4), y + 9, words, f"label {look(number)}{' end' * after}"
            )
            SubElement(label, "title").text = f"{one.name}: {words}"
            y += _ROW
    return svg


def lines(
    all_: Sequence[Series], x_words: str, y_words: str, say: Callable[[float], str], height: float = 220.0
) -> Element:
    """Series over time, from zero; a point that is no number breaks a line off."""
    svg = _svg(height, f"{y_words} over time: " + ", ".join(one.name for one in all_))
    points = [point for one in all_ for point in one.points if not math.isnan(point[0])]
    if not any(y for _, y in points):
        return _empty(svg, height)
    most, top = max(x for x, _ in points), max(y for _, y in points)
    at = _scale(0, most, _LEFT, WIDTH - _RIGHT)
    up = _scale(0, top * 1.08, height - _BOTTOM, _TOP)
    for value in _even(top):
        _line(svg, _LEFT, up(value), WIDTH - _RIGHT, up(value), "grid")
        _text(svg, _LEFT - 6, up(value) + 4, say(value), "tick end")
    for value in _even(most):
        _text(svg, at(value), height - _BOTTOM + 18, f"{value:g} {x_words}", "tick middle")
    _line(svg, _LEFT, height - _BOTTOM, WIDTH - _RIGHT, height - _BOTTOM, "axis")
    for number, one in enumerate(all_):
        run: list[tuple[float, float]] = []
        for x, y in [*one.points, (math.nan, math.nan)]:
            if not math.isnan(x):
                run.append((x, y))
            elif run:
                _run(svg, [(at(a), up(b)) for a, b in run], up(0), look(number))
                run = []
    return svg


def bars(all_: Sequence[Bar], looks: Sequence[str] = ()) -> Element:
    """Values beside each other, with their names and words; the longest is as wide as there is room."""
    row, left, right = 24.0, 120.0, 190.0
    height = row * len(all_) + 6
    svg = _svg(height, "; ".join(f"{bar.name} {bar.words}" for bar in all_))
    most = max((bar.value for bar in all_), default=0) or 1.0
    for number, bar in enumerate(all_):
        y = number * row + 4
        _text(svg, left - 8, y + 13, bar.name, "label end")
        wide = max(1.5, bar.value / most * (WIDTH - left - right))
        css = f"bar {looks[number] if looks else look(number)}"
        SubElement(
            svg,
            "rect",
            {
                "x": f"{left:g}",
                "y": f"{y:g}",
                "width": f"{wide:.1f}",
                "height": "17",
                "rx": "2",
                "class": css,
            },
        )
        _text(svg, left + wide + 7, y + 13, bar.words, "value")
    return svg


def _joined(histogram: Mapping[int, int]) -> dict[int, int]:
    joined: dict[int, int] = {}
    for number, count in histogram.items():
        joined[number // _JOINED] = joined.get(number // _JOINED, 0) + count
    return joined


def _place(seconds: float) -> float:
    """Where a duration lies among what `_joined` makes of buckets."""
    return math.log(max(seconds, 1e-9) / middle(0), GROWTH) / _JOINED + 0.5 / _JOINED


def _edge(place: float) -> float:
    return float(middle(0) * GROWTH ** (place * _JOINED - 0.5))


def _ticks(low: float, high: float) -> list[float]:
    """Round durations between two, six or so: powers of ten, and 2 and 5 times them where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 4:
            break
    return found


def _even(most: float) -> list[float]:
    """Round values from zero on, five or so."""
    step = 10.0 ** math.floor(math.log10(most))
    step = next(step * factor for factor in (0.2, 0.25, 0.5, 1, 2) if most / (step * factor) <= 5.5)
    return [step * number for number in range(int(most / step) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    wide = (end - start) / ((high - low) or 1.0)
    return lambda value: start + (value - low) * wide


def _svg(height: float, words: str) -> Element:
    svg = Element("svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img"})
    SubElement(svg, "title").text = words
    return svg


def _empty(svg: Element, height: float) -> Element:
    _text(svg, WIDTH / 2, height / 2, "nothing was answered well", "tick middle")
    return svg


def _run(svg: Element, points: Sequence[tuple[float, float]], floor: float, css: str) -> None:
    (first, _), (last, _) = points[0], points[-1]
    drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"M{first:.1f} {floor:.1f}L{drawn}L{last:.1f} {floor:.1f}Z"
    SubElement(svg, "path", {"d": area, "class": f"under {css}"})
    SubElement(svg, "path", {"d": f"M{drawn}", "class": f"line {css}"})


def _line(svg: Element, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
    places = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    SubElement(svg, "line", {**{name: f"{value:.1f}" for name, value in places.items()}, "class": css})


def _text(svg: Element, x: float, y: float, words: str, css: str) -> Element:
    text = SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": css})
    text.text = words
    return text
