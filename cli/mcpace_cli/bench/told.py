"""A result on the terminal: a table for people, a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from mcpace_cli.bench.result import MEASURES, Contender, Figure, Lever, Result, changes, differences
from mcpace_cli.bench.units import amount
from mcpace_cli.show import plain, table

HEADS = ("", "P50", "P95", "P99", "CALLS/S", "ERRORS", "HITS", "BYTES", "TOKENS")
TOOL_HEADS = ("TOOL", "", "P50", "P95", "P99", "BYTES")
LEVER_HEADS = ("LEVER ALONE", "OF", "P50", "P95", "CALLS/S", "BYTES", "AT THE SERVER")


def tell(measured: Result, then: Result | None) -> None:
    """Print it for people."""
    table(HEADS, [_row(contender) for contender in measured.contenders])
    names = sorted({name for contender in measured.contenders for name in contender.tools})
    if len(names) > 1:
        click.echo()
        rows = [_tool_row(name, contender) for name in names for contender in measured.contenders]
        table(TOOL_HEADS, [row for row in rows if row])
    for words in gains(measured):
        click.echo(f"\n{words}")
    if measured.levers:
        click.echo()
        table(LEVER_HEADS, [_lever_row(lever) for lever in measured.levers])
    if then is not None:
        click.echo(f"\nSince {plain(then.when)}:")
        for words in differences(then, measured):
            click.echo(f"  {plain(words)}")
        rows = [
            (
                change.contender,
                change.measure,
                figure(change.measure, change.then),
                figure(change.measure, change.now),
                change.verdict,
            )
            for change in changes(then, measured)
        ]
        table(("", "MEASURE", "THEN", "NOW", ""), rows)
    click.echo("\nMedians over the rounds, in brackets the least and the most; tokens are bytes / 4.")
    for words in measured.notes:
        click.echo(plain(words))


def _row(contender: Contender) -> Sequence[object]:
    return (contender.name, *(figure(name, each.of(contender)) for name, each in MEASURES.items()))


def _tool_row(name: str, contender: Contender) -> Sequence[object]:
    if name not in contender.tools:
        return ()
    parts = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    latencies = [figure(measure, contender.tool_latency(name, part)) for measure, part in parts]
    return (name, contender.name, *latencies, figure("bytes", contender.tool_bytes(name)))


def figure(name: str, value: Figure | None) -> str:
    """`3.2 ms (3.1 ms - 3.4 ms)`."""
    if value is None:
        return "-"
    said = MEASURES[name].said
    middle, low, high = said(value.median), said(value.low), said(value.high)
    return middle if low == high else f"{middle} ({low} - {high})"


def _lever_row(lever: Lever) -> Sequence[object]:
    cells = [
        lever.name,
        ", ".join(lever.tools) + (f", {lever.together} together" if lever.together > 1 else ""),
    ]
    for name in ("p50", "p95", "rate", "bytes"):
        said, of = MEASURES[name].said, MEASURES[name].of
        before, after = of(lever.without), of(lever.alone)
        if before is None or after is None:
            cells.append("-")
        else:
            cells.append(f"{said(before.median)} -> {said(after.median)}{_times(name, before, after)}")
    cells.append(
        " -> ".join(
            "-" if one.reached is None else f"{one.reached} of {one.calls}"
            for one in (lever.without, lever.alone)
        )
    )
    return cells


def _times(name: str, before: Figure, after: Figure) -> str:
    if not before.apart(after):
        return ", the same"
    return f", {ratio(name, before, after)}"


def ratio(name: str, before: Figure, after: Figure) -> str:
    """`12 times quicker`, as the measure's better is; `1.2 times slower`."""
    better, worse = {
        "p50": ("quicker", "slower"), "p95": ("quicker", "slower"), "p99": ("quicker", "slower"),
        "rate": ("more", "fewer"), "bytes": ("smaller", "larger"), "tokens": ("fewer", "more"),
    }[name]  # fmt: skip
    low, high = sorted((before.median, after.median))
    gained = (after.median < before.median) == MEASURES[name].less
    if low <= 0:
        return better if gained else worse
    return f"{amount(high / low)} times {better if gained else worse}"


def gains(measured: Result) -> list[str]:
    """What the last is beside the first, a sentence a measure that differs by more than the rounds do."""
    first, last = measured.contenders[0], measured.contenders[-1]
    if first is last:
        return []
    found = []
    for name in ("p50", "p95", "rate", "bytes", "tokens"):
        before, after = MEASURES[name].of(first), MEASURES[name].of(last)
        if before is not None and after is not None and before.apart(after):
            said = MEASURES[name].said
            found.append(
                f"{name} {said(before.median)} -> {said(after.median)}, {ratio(name, before, after)}"
            )
    words = "; ".join(found) or "no measure differs by more than its rounds do"
    told = [f"{plain(last.name)} beside {plain(first.name)}: {words}."]
    if last.reached is not None and last.reached < last.calls:
        told.append(
            f"Of {last.calls:,} calls through {plain(last.name)} {last.reached:,} came to the server."
        )
    return told


def document(measured: Result, then: Result | None, failed: Sequence[str]) -> dict[str, Any]:
    """What programs read: figures in seconds, bytes and parts of one."""
    told: dict[str, Any] = {
        "version": measured.version,
        "when": measured.when,
        "machine": msgspec.to_builtins(measured.machine),
        "settings": msgspec.to_builtins(measured.settings),
        "contenders": [_document(contender) for contender in measured.contenders],
        "levers": [
            {
                "name": lever.name,
                "together": lever.together,
                "tools": list(lever.tools),
                "without": _document(lever.without),
                "alone": _document(lever.alone),
            }
            for lever in measured.levers
        ],
        "notes": list(measured.notes),
        "failed": list(failed),
    }
    if then is not None:
        told["changes"] = [
            {
                "contender": change.contender,
                "measure": change.measure,
                "then": change.then._asdict(),
                "now": change.now._asdict(),
                "verdict": change.verdict,
            }
            for change in changes(then, measured)
        ]
    return told


def _document(contender: Contender) -> dict[str, Any]:
    told: dict[str, Any] = {"name": contender.name, "words": contender.words}
    for name, measure in MEASURES.items():
        told[name] = _figure(measure.of(contender))
    told["tools"] = {
        name: {
            "p50": _figure(contender.tool_latency(name, 0.5)),
            "p95": _figure(contender.tool_latency(name, 0.95)),
            "p99": _figure(contender.tool_latency(name, 0.99)),
            "bytes": _figure(contender.tool_bytes(name)),
        }
        for name in contender.tools
    }
    return told | {"calls": contender.calls, "reached": contender.reached, "failures": contender.reasons}


def _figure(value: Figure | None) -> dict[str, float] | None:
    return value._asdict() if value is not None else None
