"""One run: who is measured, with which calls, in which turns, and what came of it.

Contenders take turns, window by window, with the same calls drawn in the same order, so that what else the
machine does befalls all alike.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import os
import platform
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mcpace_cli.bench import levers, result, units
from mcpace_cli.bench.asked import Asked, err
from mcpace_cli.bench.calls import calls as calls_of
from mcpace_cli.bench.calls import steps as steps_of
from mcpace_cli.bench.contenders import BARE, Live, Table, contenders
from mcpace_cli.bench.load import Call, Step
from mcpace_cli.bench.result import Contender, Goal, Lever, Machine, Result, Settings, Window
from mcpace_cli.bench.stage import Counted, Stage
from mcpace_cli.show import plain
from mcpace_sidecar import __version__
from mcpace_sidecar.contract.budget import UNLIMITED, memory_limit
from mcpace_sidecar.errors import ConfigError, McpaceError

_TOGETHER: Final = 8
"""Calls of a step by which the lever `parallel` is told, unless more were asked for."""
_BUSY: Final = 0.85
"""Part of a core that the load uses, from which on it may be what is measured."""
_ENOUGH: Final = 4
"""Rounds from which on two that are alike lie apart by chance in fewer than 3 % of the runs."""
_FEW: Final = 10
"""Steps beyond a percentile, with fewer of which it says little."""
_TICK: Final = 0.2


@dataclass
class _Entry:
    """One whose turn comes in each round."""

    live: Live
    steps: Sequence[Step]
    parallel: bool
    label: str
    windows: list[Window] = field(default_factory=list)

    def contender(self, name: str = "", words: str = "") -> Contender:
        """What was measured of it."""
        return Contender(name or self.live.name, words or self.live.words, tuple(self.windows))


def run(asked: Asked) -> Result:
    """Measure; ConfigError for what a person must mend."""
    return uvloop.run(_run(asked))


async def _run(asked: Asked) -> Result:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpace-bench-"))  # for us alone
        stage = await stack.enter_async_context(Stage(Path(folder)))
        notes: list[str] = []
        table = await contenders(asked, stage, notes)
        for live in table.all:
            stack.push_async_callback(live.server.end)
            try:
                await live.server.begin()
            except McpaceError as error:
                raise ConfigError(f"{live.name} ({live.words}) cannot be called: {error}") from None
        first = table.compared[0]
        calls = await calls_of(asked, first.server, notes)
        return await _measure(asked, table, calls, notes)


async def _measure(asked: Asked, table: Table, calls: list[Call], notes: list[str]) -> Result:
    steps = steps_of(calls, asked.together)
    entries = [
        _Entry(live, steps, live.parallel and asked.together > 1, live.name) for live in table.compared
    ]
    alone: dict[str, tuple[_Entry, _Entry]] = {}
    without: dict[tuple[int, tuple[str, ...]], _Entry] = {}
    every = list(dict.fromkeys(call.tool for call in calls))
    for name, live in table.alone.items():
        assert table.bare is not None
        about = levers.concerned(name, table.spec, every)
        if not about:
            notes.append(f"The part of {name} is not told: none of its tools is called.")
            continue
        together = max(asked.together, _TOGETHER) if name == "parallel" else asked.together
        theirs = steps_of([call for call in calls if call.tool in about], together)
        base = without.get((together, tuple(about)))
        if base is None:
            base = without[together, tuple(about)] = _Entry(table.bare, theirs, parallel=False, label=BARE)
        alone[name] = (base, _Entry(live, base.steps, live.parallel and together > 1, name))
    turns = [*entries, *without.values(), *(each for _, each in alone.values())]
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    machine = _machine()
    busiest = await _alternate(asked, turns)
    alone_told = tuple(
        Lever(
            name=name,
            words=table.lines[name],
            together=len(each.steps[0]),
            tools=tuple(dict.fromkeys(call.tool for step in each.steps for call in step)),
            without=base.contender(BARE, "no lever"),
            alone=each.contender(),
        )
        for name, (base, each) in alone.items()
    )
    compared = tuple(entry.contender() for entry in entries)
    settings = Settings(
        tools=tuple(dict.fromkeys(plain(call.tool)[:4096] for call in calls)),
        made=not asked.arguments,
        distinct=len(steps),
        together=asked.together,
        clients=asked.clients,
        rate=asked.rate,
        duration=asked.duration,
        rounds=asked.rounds,
        warm_up=asked.warm_up,
        seed=asked.seed,
    )
    notes += _remarks(asked, compared, machine, busiest)
    return Result(
        version=result.VERSION,
        when=when,
        machine=machine,
        settings=settings,
        contenders=compared,
        levers=alone_told,
        manifest=table.manifest,
        notes=tuple(notes),
    )


async def _alternate(asked: Asked, turns: list[_Entry]) -> float:
    """Warm up, and let each have its window in each round; return the most of a core that the load used."""
    seconds = asked.duration / asked.rounds
    began, busiest = time.perf_counter(), 0.0
    total = len(turns) * (asked.warm_up + asked.duration)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(None), TimeRemainingColumn(), console=err,
        transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with progress:
        bar = progress.add_task("warming up", total=total)

        async def window(entry: _Entry, draw: Iterator[int], length: float) -> Window:
            ticking = asyncio.get_running_loop().create_task(_tick(lambda: progress.advance(bar, _TICK)))
            try:
                server = entry.live.server
                if asked.rate is None:
                    return await server.closed(entry.steps, draw, length, parallel=entry.parallel)
                return await server.opened(entry.steps, draw, length, asked.rate, parallel=entry.parallel)
            finally:
                ticking.cancel()

        for number, entry in enumerate(turns):
            if asked.warm_up:
                await window(entry, _draw(asked.seed, -1, len(entry.steps)), asked.warm_up)
            progress.update(bar, completed=(number + 1) * asked.warm_up)
        for number in range(asked.rounds):
            order = list(turns)
            random.Random(f"{asked.seed} order {number}").shuffle(order)  # noqa: S311 - because nothing is kept secret by it
            for place, entry in enumerate(order):
                progress.update(bar, description=f"round {number + 1} of {asked.rounds}: {entry.label}")
                before = await entry.live.running.counted() if entry.live.running else None
                at, used = time.perf_counter(), time.process_time()
                shown = await window(entry, _draw(asked.seed, number, len(entry.steps)), seconds)
                busiest = max(busiest, (time.process_time() - used) / (time.perf_counter() - at))
                after = await entry.live.running.counted() if entry.live.running else None
                own = shown.steps if entry.parallel else 0
                entry.windows.append(_with_counts(shown, at - began, before, after, own))
                done = len(turns) * asked.warm_up + (number * len(turns) + place + 1) * seconds
                progress.update(bar, completed=done)
    return busiest


async def _tick(advance: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_TICK)
        advance()


def _draw(seed: int, number: int, steps: int) -> Iterator[int]:
    """Which step is next: the same for all in a round; first each once, while they warm up."""
    if number < 0:
        yield from range(steps)
    drawing = random.Random(f"{seed} steps {number}")  # noqa: S311 - because nothing is kept secret by it
    while True:
        yield drawing.randrange(steps)


def _with_counts(
    shown: Window, at: float, before: Counted | None, after: Counted | None, own: int
) -> Window:
    """A window with what the sidecar has counted in it. `own`: calls of its tool `parallel` itself."""
    if before is None or after is None:
        return msgspec.structs.replace(shown, at=at)
    new = after.since(before)
    reached = max(0, new.calls - new.hits - new.refused - own)
    return msgspec.structs.replace(shown, at=at, looked=new.looked, hits=new.hits, reached=reached)


def _remarks(
    asked: Asked, compared: Sequence[Contender], machine: Machine, busiest: float
) -> Iterator[str]:
    """What a reader should know of the figures."""
    if asked.rate is None:
        yield (
            f"Closed loop: each of {asked.clients} clients asks when it was answered, so a slow server is"
            " asked less, and what would have waited meanwhile is not seen (coordinated omission); --rate"
            " avoids that."
        )
    else:
        late = max((window.late for one in compared for window in one.windows), default=0.0)
        yield (
            f"Open loop: {units.amount(asked.rate)} steps a second, whose time counts from when they were"
            f" due (no coordinated omission); the load itself was late by {units.duration(late)} at most."
        )
    if any(one.hits is not None and one.hits.median > 0 for one in compared):
        yield "The hit ratio is that of these arguments, drawn evenly; clients repeat theirs more, or less."
    if asked.rounds < _ENOUGH and len(compared) > 1:
        chance = math.comb(2 * asked.rounds, asked.rounds) / 2
        yield (
            f"Two that are alike lie apart once in {chance:g} times, of {asked.rounds} rounds each;"
            " more --rounds tell more."
            if asked.rounds > 1
            else "One round shows no spread, so any two seem to differ; more --rounds tell more."
        )
    few = min((sum(window.histogram.values()) for one in compared for window in one.windows), default=0)
    if few < 100 * _FEW:
        yield (
            f"The least window holds {few} steps: its p99 rests on {few // 100 or 'less than one'};"
            " a longer --duration, or fewer --rounds, tells more."
        )
    for one in compared:
        if one.reasons:
            told = ", ".join(f"{count} {plain(reason)}" for reason, count in sorted(one.reasons.items()))
            yield f"Of {one.name} there failed: {told}."
    if busiest > _BUSY:
        yield f"The load used up to {busiest:.0%} of a core: it may be what limited the calls a second."
    if machine.load > machine.cores:
        yield f"The machine was busy when it began (load {machine.load:.1f} on {machine.cores} cores)."


def _machine() -> Machine:
    processor = platform.processor() or platform.machine()
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        models = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
        processor = models[1] if models else processor
    except OSError:
        pass
    limit = memory_limit()
    if limit == UNLIMITED:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=processor[:200],
        cores=os.cpu_count() or 1,
        memory=limit,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        mcpace=__version__,
        load=os.getloadavg()[0],
    )


def failures(measured: Result, goals: Sequence[Goal]) -> list[str]:
    """Why the run fails: a goal that was missed, or a contender that never answered well."""
    found = [words for each in goals if (words := each.missed(measured.judged))]
    silent = [contender.name for contender in measured.contenders if contender.latency(0.5) is None]
    return found + [f"{name} answered no call well" for name in silent]
