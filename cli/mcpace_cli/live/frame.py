"""What is drawn of servers: pure, a line of the screen each. Names and words of theirs are text alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from mcpace_cli.bench.units import amount, duration, size
from mcpace_cli.live.rates import BLOCKS, Rates, spark
from mcpace_cli.live.served import Served
from mcpace_cli.show import one_line
from mcpace_sidecar.contract.report import Counted, Report
from mcpace_sidecar.stdio.pipes import ended

KEYS: Final = "q quit   p purge the cache   l log"
_SEVERAL: Final = "   ← → tab server"
_SEVERAL_ASCII: Final = "   arrows, tab: server"
_NONE: Final = Counted(0, 0, 0, 0, 0, 0.0, {})
_LEAST_NAME, _MOST_NAME = 12, 40
_LEAST_SPARK, _MOST_SPARK = 5, 60
_LEAST_LOG: Final = 6
"""Lines of the log, its head among them, that tools leave it where there is room."""
_GAP: Final = " "


@dataclass(frozen=True)
class Wish:
    """What of it people want to see, and on what."""

    width: int
    height: int
    chosen: int = 0
    """Which of the servers."""
    log: bool = True
    note: str = ""
    """What was last done."""
    blocks: str = BLOCKS

    @property
    def mark(self) -> str:
        """What stands for what there is no room for."""
        return "…" if self.blocks is BLOCKS else ""


class _Row(NamedTuple):
    name: str
    counted: Counted
    rate: float
    flying: int
    broken: bool


class _Column(NamedTuple):
    title: str
    width: int
    text: Callable[[_Row], str]
    least: int = 0
    """How wide the narrowest terminal is that shows it."""


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _count(number: int) -> str:
    """In six characters at most, up to a thousand million."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number / 1e3:.0f}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"


_COLUMNS: Final = (
    _Column("CALLS/S", 7, lambda row: amount(row.rate)),
    _Column("P50", 7, lambda row: _span(row.counted.p50), least=61),
    _Column("P95", 7, lambda row: _span(row.counted.p95), least=28),
    _Column("P99", 7, lambda row: _span(row.counted.p99), least=69),
    _Column("CALLS", 8, lambda row: _count(row.counted.count), least=110),
    _Column("HITS", 6, lambda row: _count(row.counted.hits), least=35),
    _Column("LIMITED", 7, lambda row: _count(row.counted.limited), least=43),
    _Column("ERRORS", 7, lambda row: _count(row.counted.errors), least=110),
    _Column("IN FLIGHT", 9, lambda row: _count(row.flying), least=53),
)
"""Beside the tool's name, and the curve that takes what room is left. All but the rate and what is in
flight is of the last five minutes, as on the page."""


def frame(all_of_them: Sequence[Served], wish: Wish) -> Text:
    """The whole screen, and not more of it."""
    served = all_of_them[wish.chosen]
    lines = [_tabs(all_of_them, wish), *_state(served), Text()]
    foot = _foot(len(all_of_them) > 1, wish)
    room = max(0, wish.height - len(lines) - len(foot))
    table = _table(served, wish, max(1, room - (min(_LEAST_LOG, room // 2) if wish.log else 0)))
    lines += table[:room]
    room -= len(table)
    log = _log(served, wish, room) if wish.log else []
    lines += [*log, *(Text() for _ in range(room - len(log)))]
    lines += foot
    for line in lines:
        line.truncate(wish.width, overflow="ellipsis" if wish.mark else "crop")
    return Text("\n", no_wrap=True, overflow="crop", end="").join(lines[: wish.height])


# -- who


def _tabs(all_of_them: Sequence[Served], wish: Wish) -> Text:
    """Their names, from one on that leaves the chosen one in sight."""
    line = Text("mcpace run ", style="bold")
    first = max(0, wish.chosen - 2)
    for number, served in enumerate(all_of_them[first:], first):
        chosen = number == wish.chosen
        mark = f"[{served.name}{_mark(served)}]" if chosen else f" {served.name}{_mark(served)} "
        line.append(mark, style="reverse" if chosen else "not bold")
    return line


def _mark(served: Served) -> str:
    if served.code is not None:
        return ": ended"
    return "" if served.report is not None and served.report.ready else ": not ready"


def _state(served: Served) -> list[Text]:
    told, report = served.told, served.report
    where = Text("starting" if told is None else f"{one_line(told.url)}   a page: {told.page}")
    if served.code is not None:
        return [where, Text(f"It {ended(served.code)}", style="bold red"), Text()]
    if report is None:
        return [where, Text(one_line(served.problem), style="yellow"), Text()]
    if not report.ready:
        return [where, Text(f"Not ready: {one_line(report.problem)}", style="yellow"), Text()]
    server = report.server
    name = f"{server.name} {server.version}, MCP {server.protocol_version}" if server else "a server"
    tools = "1 tool" if len(report.tools) == 1 else f"{len(report.tools)} tools"
    ready = Text(f"Ready: {one_line(name)}, {tools}", style="green")
    if served.problem:
        return [where, Text(one_line(served.problem), style="yellow"), _holds(report)]
    return [where, ready, _holds(report)]


def _holds(report: Report) -> Text:
    """What it holds now."""
    kept, slots = report.cache, report.slots
    of = "" if slots.of is None else f" of {slots.of:,}"
    results = "1 result" if kept.results == 1 else f"{kept.results:,} results"
    parts = [
        f"cache: {results}, {size(kept.bytes)} of {size(kept.of_bytes)}",
        f"slots taken: {slots.taken:,}{of}, {slots.queued:,} queued",
        *(
            f"{name} in Redis: {'answers' if up else 'DOES NOT ANSWER'}"
            for name, up in report.stores.items()
        ),
    ]
    if report.processes is not None:
        parts.append(f"processes: {report.processes.running:,}")
    if report.breakers:
        parts.append(f"circuit open: {', '.join(name or 'the server' for name in report.breakers)}")
    return Text(one_line("; ".join(parts)), style="dim")


# -- its tools


def _table(served: Served, wish: Wish, room: int) -> list[Text]:
    """The table of its tools, the busiest first, and of how many more there is no room for."""
    report = served.report
    if report is None:
        return []
    columns = [column for column in _COLUMNS if wish.width >= column.least]
    rows = _rows(report, served.rates)
    left = wish.width - sum(column.width + len(_GAP) for column in columns)
    shown = rows if len(rows) < room else rows[: max(0, room - 2)]
    names = [one_line(row.name) for row in shown]
    longest = max(map(cell_len, names), default=0)
    most = left - _LEAST_SPARK - len(_GAP)
    name_width = min(max(longest, _LEAST_NAME), _MOST_NAME, most if most >= _LEAST_NAME else left)
    spark_width = max(0, min(left - name_width - len(_GAP), _MOST_SPARK))
    if spark_width < _LEAST_SPARK:
        spark_width = 0
    rate, *others = columns
    curve = [set_cell_size("CURVE", spark_width)] if spark_width else []
    heads = [rate.title.rjust(rate.width), *curve, *(each.title.rjust(each.width) for each in others)]
    lines = [Text(_GAP.join([set_cell_size("TOOL", name_width), *heads]), style="bold")]
    for row, name in zip(shown, names, strict=True):
        drawn = spark(served.rates.each(row.name), spark_width, wish.blocks)
        cells = [
            rate.text(row).rjust(rate.width),
            *([drawn.rjust(spark_width)] if spark_width else []),
            *(column.text(row).rjust(column.width) for column in others),
        ]
        drawn_row = _GAP.join([_cut(name, name_width, wish.mark), *cells])
        lines.append(Text(drawn_row, style="red" if row.broken else ""))
    if len(shown) < len(rows):
        lines.append(Text(f"and {len(rows) - len(shown):,} more tools", style="dim"))
    return lines


def _cut(name: str, width: int, mark: str) -> str:
    """It, so many columns wide; where it is longer, a mark stands for the rest."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(name, max(0, width - len(mark))) + mark


def _rows(report: Report, rates: Rates) -> list[_Row]:
    """Every tool that it lists or was called for; a name that is drawn is a name that was written."""
    broken = frozenset(report.breakers)
    rows = [
        _Row(
            name,
            report.calls.get(name, _NONE),
            rates.now(name),
            report.in_flight.get(name, 0),
            name in broken,
        )
        for name in {*report.tools, *report.calls, *report.in_flight}
    ]
    return sorted(rows, key=lambda row: (-row.counted.count, row.name))


# -- what it says


def _log(served: Served, wish: Wish, room: int) -> list[Text]:
    """As many of its last lines as there is room for, under a line that says so; long ones are folded."""
    if room < 2 or wish.width < 1:
        return []
    title = "-- log "
    lines: list[Text] = []
    for said in reversed(served.lines):
        folded = chop_cells(said, wish.width) or [""]
        lines[:0] = map(Text, folded)
        if len(lines) >= room - 1:
            break
    head = Text(title + "-" * (wish.width - len(title)), style="dim")
    return [head, *lines[-(room - 1) :]]


def _foot(several: bool, wish: Wish) -> list[Text]:
    """What was last done, and the keys."""
    keys = KEYS + ((_SEVERAL if wish.blocks is BLOCKS else _SEVERAL_ASCII) if several else "")
    note = [Text(one_line(wish.note), style="bold")] if wish.note else []
    return [*note, Text(keys, style="dim")]
