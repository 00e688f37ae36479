"""A result as one page of HTML: self-contained, without a script, fit to be shown around.

It is built of elements, whose texts are escaped where they are written. Its policy lets it load nothing,
run nothing, and be styled by the one style that stands in it. Of arguments it knows nothing, of the
manifest what a sidecar is told.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from mcpace_cli.bench import plot, told
from mcpace_cli.bench.result import (
    MEASURES,
    Contender,
    Figure,
    Lever,
    Result,
    changes,
    differences,
)
from mcpace_cli.bench.units import amount, duration
from mcpace_cli.show import plain

_MARKS: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_SHORT: Final = 80
"""Characters that are shown of a name."""

STYLE: Final = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --line: #d9dee3; --page: #ffffff; --card: #f6f8fa; --good: #116329;
  --bad: #a40e26;
  --c0: #8a5a00; --c1: #0969da; --c2: #8250df; --c3: #1a7f37; --c4: #cf222e; --c5: #57606a; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6edf3; --soft: #9da7b1; --line: #30363d; --page: #0d1117; --card: #161b22; --good: #56d364;
  --bad: #ff7b72;
  --c0: #e3b341; --c1: #58a6ff; --c2: #bc8cff; --c3: #56d364; --c4: #ff7b72; --c5: #9da7b1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 60px; max-width: 1000px; background: var(--page); color:
  var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", "Noto Sans", sans-serif;  overflow-wrap: anywhere; }
h1 { font-size: 24px; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 8px; }
p { margin: 6px 0; } .soft { color: var(--soft); } .small { font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin:
  20px 0 6px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-weight: 650; font-variant-numeric:
  tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
td:first-child { white-space: normal; max-width: 150px; overflow-wrap: anywhere; }
thead th { color: var(--soft); font-weight: 600; font-size: 12.5px; }
tbody th { padding-top: 12px; overflow-wrap: anywhere; white-space: normal; }
td i { display: block; font-style: normal; font-size: 12px; color: var(--soft); }
.better { color: var(--good); } .worse { color: var(--bad); }
svg { display: block; width: 100%; height: auto; margin: 6px 0; }
svg text { font: 11px system-ui, "Segoe UI", "Noto Sans", sans-serif; fill: var(--soft); }
svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
svg .label, svg .value { font-size: 12px; fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .area { fill: currentColor; fill-opacity: .22; stroke: currentColor; stroke-width: 1.5; }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linejoin: round; }
svg .under { fill: currentColor; fill-opacity: .12; }
svg .mark { stroke: currentColor; stroke-width: 1.2; } svg .m1 { stroke-dasharray: 6 3; } svg .m2 {
  stroke-dasharray: 2 3; }
svg .bar { fill: currentColor; } svg text.label { font-weight: 600; } svg text.s0, svg text.s1, svg
  text.s2, svg text.s3,
svg text.s4, svg text.s5 { fill: currentColor; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); } .s3 { color: var(--c3); }
.s4 { color: var(--c4); } .s5 { color: var(--c5); }
svg .s0.area, svg .s0.line { stroke-dasharray: 5 2.5; }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 4px 0 0; }
.key span { min-width: 0; }
.key svg { width: 26px; display: inline-block; margin: 0 6px 0 0; vertical-align: -2px; }
.lever { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px 6px; margin: 12px 0; }
.lever h3 { font-size: 15px; margin: 0 0 2px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px;
  margin: 8px 0;
  overflow-x: auto; font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 3px 18px; margin: 8px 0;
  font-size:
  14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 20px; } li { margin: 4px 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; } .lever, .tile, svg { break-inside: avoid; } }
"""


def page(measured: Result, then: Result | None = None) -> str:
    """The whole page."""
    html = Element("html", {"lang": "en"})
    head, body = SubElement(html, "head"), SubElement(html, "body")
    seal = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{seal}'; base-uri 'none'; form-action 'none'"
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "title").text = f"mcpace bench: {', '.join(_named(c) for c in measured.contenders)}"
    SubElement(head, "style").text = STYLE
    first, last = measured.contenders[0], measured.contenders[-1]
    _say(body, "h1", _title(measured))
    _say(body, "p", f"{plain(measured.when)}, mcpace {plain(measured.machine.mcpace)}", "soft small")
    if first is not last:
        _tiles(body, measured)
    if last.reached is not None and last.reached < last.calls:
        _say(
            body,
            "p",
            f"Of {last.calls:,} calls through {_named(last)} {last.reached:,} came to the server.",
        )
    _figures(body, measured)
    _say(body, "h2", "How long a step took")
    _key(body, measured.contenders)
    body.append(plot.distributions([_distribution(each) for each in measured.contenders], duration))
    _say(
        body, "p",
        "Each outline has the same area; the time is on a logarithmic axis. Lines mark p50 (whole), p95"
        " (dashed) and p99 (dotted) of all rounds together.", "soft small",
    )  # fmt: skip
    _tools(body, measured)
    _say(body, "h2", "Calls a second, over time")
    _key(body, measured.contenders)
    body.append(plot.lines([_series(each) for each in measured.contenders], "s", "Calls a second", amount))
    _say(
        body,
        "p",
        "They take turns, window by window; here each one's windows stand one after another.",
        "soft small",
    )
    if measured.levers:
        _say(body, "h2", "The part of each lever")
        _say(body, "p", "Each alone beside the sidecar without any of them.", "soft small")
        for lever in measured.levers:
            _lever(body, lever)
    if then is not None:
        _since(body, then, measured)
    if measured.manifest:
        _say(body, "h2", "What the sidecar was told")
        _say(SubElement(body, "pre"), "code", plain(measured.manifest))
    _method(body, measured)
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html") + "\n"


def _title(measured: Result) -> str:
    first, last = measured.contenders[0], measured.contenders[-1]
    if first is last:
        return f"{_named(first)}, measured"
    return f"{_named(last)} beside {_named(first)}"


def _named(contender: Contender) -> str:
    return _short(contender.name)


def _short(text: str) -> str:
    text = plain(text)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _tiles(body: Element, measured: Result) -> None:
    first, last = measured.contenders[0], measured.contenders[-1]
    tiles = SubElement(body, "div", {"class": "tiles"})
    for name, words in (
        ("p50", "p50"),
        ("p95", "p95"),
        ("rate", "calls a second"),
        ("tokens", "tokens an answer"),
    ):
        before, after = MEASURES[name].of(first), MEASURES[name].of(last)
        if before is None or after is None:
            continue
        tile = SubElement(tiles, "div", {"class": "tile"})
        number, _, gain = told.ratio(name, before, after).partition(" times ")
        apart = before.apart(after) and gain
        _say(tile, "b", f"{number}{_TIMES}" if apart else "the same")
        said = MEASURES[name].said
        _say(tile, "span", f"{gain}, {words}" if apart else words)
        _say(tile, "span", f"{said(before.median)} → {said(after.median)}")


def _figures(body: Element, measured: Result) -> None:
    heads = ("", "p50", "p95", "p99", "calls/s", "errors", "hits", "bytes", "tokens")
    rows = [
        ((_named(each), plain(each.words)), *(_cell(name, row.of(each)) for name, row in MEASURES.items()))
        for each in measured.contenders
    ]
    _table(body, heads, rows, [plot.look(number) for number in range(len(rows))])
    rounds = measured.settings.rounds
    _say(
        body, "p",
        f"Medians over the rounds ({rounds}), and between what these lay; percentiles of each are of"
        " buckets of 5 %. Bytes are those of an answer's body as it came, tokens its bytes without"
        " compression ÷ 4.",
        "soft small",
    )  # fmt: skip


def _cell(name: str, value: Figure | None) -> tuple[str, str]:
    if value is None:
        return "-", ""
    said = MEASURES[name].said
    low, high = said(value.low), said(value.high)
    if low == high:
        return said(value.median), ""
    number, _, unit = low.rpartition(" ")
    if number and high.endswith(f" {unit}"):
        low = number
    return said(value.median), f"{low} \N{EN DASH} {high}"


def _tools(body: Element, measured: Result) -> None:
    names = sorted({name for each in measured.contenders for name in each.tools})
    if len(names) < 2:
        return
    _say(body, "h2", "Tool by tool")
    rows: list[Sequence[tuple[str, str]] | str] = []
    looks: list[str] = []
    for name in names:
        rows.append(_short(name))
        looks.append("")
        for number, each in enumerate(measured.contenders):
            if name in each.tools:
                parts = [_cell(measure, each.tool_latency(name, part)) for measure, part in _MARKS.items()]
                rows.append(((_named(each), ""), *parts, _cell("bytes", each.tool_bytes(name))))
                looks.append(plot.look(number))
    _table(body, ("", "p50", "p95", "p99", "bytes"), rows, looks)


def _table(
    body: Element,
    heads: Sequence[str],
    rows: Iterable[Sequence[tuple[str, str]] | str],
    looks: Sequence[str] = (),
) -> None:
    table = SubElement(SubElement(body, "div", {"class": "wide"}), "table")
    row = SubElement(SubElement(table, "thead"), "tr")
    for name in heads:
        _say(row, "th", name)
    inside = SubElement(table, "tbody")
    for number, cells in enumerate(rows):
        row = SubElement(inside, "tr")
        if isinstance(cells, str):
            head = SubElement(row, "th", {"colspan": str(len(heads)), "scope": "rowgroup"})
            head.text = plain(cells)
            continue
        for place, (words, more) in enumerate(cells):
            cell = SubElement(row, "td")
            if place == 0 and looks:
                _say(cell, "b", words, looks[number])
            else:
                cell.text = plain(words)
            if more:
                _say(cell, "i", more)


def _key(body: Element, contenders: Sequence[Contender]) -> None:
    key = SubElement(body, "div", {"class": "key"})
    for number, each in enumerate(contenders):
        item = SubElement(key, "span")
        svg = SubElement(item, "svg", {"viewBox": "0 0 26 12", "aria-hidden": "true"})
        SubElement(svg, "path", {"d": "M1 6H25", "class": f"line {plot.look(number)}"})
        _say(item, "span", _named(each))


def _distribution(contender: Contender) -> plot.Distribution:
    marks = {name: value for name, part in _MARKS.items() if (value := contender.overall(part)) is not None}
    return plot.Distribution(_named(contender), contender.histogram, marks)


def _series(contender: Contender) -> plot.Series:
    """Answers a second in each fifth of a window, over its own time: windows one after another."""
    points: list[tuple[float, float]] = []
    began = 0.0
    for window in contender.windows:
        length = window.seconds / (len(window.bins) or 1)
        joined = max(1, len(window.bins) // 5)
        for at in range(0, len(window.bins), joined):
            some = window.bins[at : at + joined]
            points.append((began + (at + len(some) / 2) * length, sum(some) / (len(some) * length)))
        points.append((math.nan, math.nan))
        began += window.seconds
    return plot.Series(_named(contender), points)


def _lever(body: Element, lever: Lever) -> None:
    box = SubElement(body, "div", {"class": "lever"})
    _say(box, "h3", plain(lever.name))
    together = f", {lever.together} calls together" if lever.together > 1 else ""
    _say(box, "p", ", ".join(_short(name) for name in lever.tools) + together, "soft small")
    _say(SubElement(box, "pre"), "code", plain(lever.words))
    for name in ("p50", "p95", "bytes"):
        before, after = MEASURES[name].of(lever.without), MEASURES[name].of(lever.alone)
        if before is None or after is None:
            continue
        said = MEASURES[name].said
        verdict = told.ratio(name, before, after) if before.apart(after) else "the same"
        bars = [
            plot.Bar(f"{name} without", before.median, said(before.median)),
            plot.Bar("with", after.median, f"{said(after.median)}, {verdict}"),
        ]
        box.append(plot.bars(bars, ("s0", "s1")))
    if lever.without.reached is not None and lever.alone.reached is not None:
        of, without = (
            f"Of {lever.alone.calls:,} calls",
            f"{lever.without.reached:,} of {lever.without.calls:,}",
        )
        words = f"{of} {lever.alone.reached:,} came to the server; without it {without}."
        _say(box, "p", words, "soft small")


def _since(body: Element, then: Result, measured: Result) -> None:
    _say(body, "h2", f"Since {plain(then.when)}")
    found = differences(then, measured)
    if found:
        listed = SubElement(body, "ul")
        for words in found:
            _say(listed, "li", plain(words))
    rows = [
        ((_short(change.contender), ""), (change.measure, ""), _cell(change.measure, change.then),
         _cell(change.measure, change.now), (change.verdict, ""))
        for change in changes(then, measured)
    ]  # fmt: skip
    _table(body, ("", "measure", "then", "now", ""), rows)


def _method(body: Element, measured: Result) -> None:
    settings, machine = measured.settings, measured.machine
    _say(body, "h2", "How it was measured")
    loop = "closed loop" if settings.rate is None else f"open loop, {amount(settings.rate)} steps a second"
    window, warm_up = duration(settings.duration / settings.rounds), duration(settings.warm_up)
    steps = f"{settings.together} calls" if settings.together > 1 else "one call"
    listed = SubElement(body, "dl")
    for name, words in (
        ("load", f"{loop}, {settings.clients} clients"),
        ("step", f"{steps}, of {settings.distinct} different"),
        ("arguments", "made from the input schemas" if settings.made else "given, and shown nowhere"),
        ("tools", ", ".join(_short(name) for name in settings.tools)),
        ("time", f"{settings.rounds} windows of {window} each, in turn, after {warm_up} of warming up"),
        ("seed", str(settings.seed)),
        ("machine", f"{machine.processor}, {machine.cores} cores, {machine.memory / 2**30:.1f} GiB"),
        ("system", f"{machine.system}, {machine.python}; load {machine.load:.1f} when it began"),
    ):  # fmt: skip
        _say(listed, "dt", name)
        _say(listed, "dd", words)
    notes = SubElement(body, "ul")
    for words in measured.notes:
        _say(notes, "li", plain(words))


def _say(parent: Element, tag: str, words: str, css: str = "") -> None:
    element = SubElement(parent, tag, {"class": css} if css else {})
    element.text = plain(words)
