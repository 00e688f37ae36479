"""One run: who is measured, with which calls, in which turns, and what came of it.

Nothing is called that was not named, or says that it only reads and was agreed to. Contenders take turns, window by
window, with the same calls drawn in the same order, so that what else the machine does befalls all alike.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mcpace_cli.bench import contenders, result
from mcpace_cli.bench.arguments import UnmadeError, make
from mcpace_cli.bench.contenders import BARE, THROUGH, WITHOUT, Counted, Running, Stage, Variant
from mcpace_cli.bench.load import PARALLEL, Call, Server, Step, same
from mcpace_cli.bench.result import Contender, Goal, Lever, Machine, Result, Settings, Window
from mcpace_cli.call import Target
from mcpace_cli.manifest import read, without_file
from mcpace_cli.show import plain
from mcpace_sidecar import __version__
from mcpace_sidecar.contract.budget import UNLIMITED, memory_limit
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.errors import ConfigError, McpaceError

MOST_TOGETHER: Final = 32
"""Calls that the tool `parallel` takes."""
_TOGETHER: Final = 8
"""Calls of a step by which the lever `parallel` is told, unless more were asked for."""
_BUSY: Final = 0.85
"""Part of a core that the load uses, from which on it may be what is measured."""
_FEW: Final = 10
"""Steps beyond a percentile, with fewer of which it says little."""
_TICK: Final = 0.2
_OWN_TOOLS: Final = frozenset({PARALLEL, "next_page"})
_WORDS: Final = 60

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False, markup=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    targets: tuple[str, ...]
    command: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    yes: bool = False
    arguments: tuple[str, ...] = ()
    optional: bool = False
    distinct: int = 16
    together: int = 1
    clients: int = 4
    rate: float | None = None
    duration: float = 10.0
    rounds: int = 5
    warm_up: float = 1.0
    seed: int = 1
    levers: bool = False
    limits: bool = False
    api_key_header: str = "X-API-Key"
    name: str | None = None


@dataclass
class _Live:
    """One that answers calls: a URL, with its sidecar's counters where that is ours."""

    name: str
    words: str
    server: Server
    running: Running | None = None
    parallel: bool = False


@dataclass
class _Entry:
    """One whose turn comes in each round."""

    live: _Live
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
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcpace-bench-")))
        folder.chmod(0o700)
        stage = await stack.enter_async_context(Stage(folder, say))
        notes: list[str] = []
        table = await _contenders(asked, stage, notes)
        for live in table.all:
            stack.push_async_callback(live.server.end)
            try:
                await live.server.begin()
            except McpaceError as error:
                raise ConfigError(f"{live.name} ({live.words}) cannot be called: {error}") from None
        first = table.compared[0]
        calls = await _calls(asked, first.server, notes)
        measured = await _measure(asked, table, calls, notes)
    return measured


@dataclass
class _Table:
    """Who is compared, and by whom the levers are told."""

    compared: list[_Live]
    bare: _Live | None = None
    alone: dict[str, _Live] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    spec: contenders.Spec = field(default_factory=dict)
    manifest: str = ""

    @property
    def all(self) -> list[_Live]:
        """Each once."""
        every = [*self.compared, *([self.bare] if self.bare else []), *self.alone.values()]
        return list({id(live): live for live in every}.values())


async def _contenders(asked: Asked, stage: Stage, notes: list[str]) -> _Table:
    """Start what is to be measured; ConfigError."""
    if not asked.targets:
        manifest = without_file(asked.command, None)
        say(f"Starting {asked.command[0]} by its standard input and output")
        live = await _through(asked, stage, Variant(THROUGH, manifest, contenders.spec_of(manifest)))
        live.words = "the command, by its standard input and output"
        return _Table([live])
    if len(asked.targets) == 1 and not _is_url(asked.targets[0]):
        return await _levers(asked, stage, asked.targets[0], notes)
    if asked.levers:
        raise ConfigError("--levers is for one MANIFEST alone")
    compared, acting = [], ""
    several = len(asked.targets) > 1
    for number, target in enumerate(asked.targets):
        if _is_url(target):
            compared.append(_at(asked, f"url {number + 1}" if several else "url", target, target))
            continue
        variant = _variant(asked, target, notes)
        name = Path(target).stem
        if name in [live.name for live in compared]:
            name = f"{name} {number + 1}"
        live = await _through(asked, stage, variant)
        live.name, live.words = name, f"{target} through the sidecar"
        compared.append(live)
        acting = _acting(variant)
    if not several and asked.command:
        raise ConfigError("a COMMAND goes with a MANIFEST: what is at the URL runs already")
    return _Table(compared, manifest=acting)


async def _levers(asked: Asked, stage: Stage, target: str, notes: list[str]) -> _Table:
    """One manifest: its server as it is, the same through the sidecar, and each lever alone."""
    whole = _variant(asked, target, notes)
    spec, lines = whole.spec, contenders.levers(whole.spec)
    own = bool(whole.command or spec.get("command"))
    if "pooling" in lines and not (own and contenders.uses_doors(spec)):
        del lines["pooling"]
        notes.append(
            "The part of pooling is not told: that takes a server that is started here, and whose env, command or"
            " args in the manifest name the door's address."
        )
    doorless = {key: part for key, part in spec.items() if key != "egress" or "pooling" in lines}
    bare = contenders.without(doorless, lines)
    over_pipes = spec.get("transport") == "stdio"
    served = await _through(asked, stage, Variant(BARE, whole.manifest, bare, whole.command))
    served.words = "the sidecar without any lever"
    if over_pipes:
        notes.append(
            "A server of stdio cannot be called without what speaks HTTP for it: it is compared with the sidecar"
            " without any lever."
        )
        compared = [served]
    elif spec.get("transport") == "sse":
        notes.append(
            "The pair with SSE is not called directly: it is compared with the sidecar without any lever."
        )
        compared = [served]
    else:
        assert served.running is not None
        compared = [_at(asked, WITHOUT, "the server itself", served.running.direct)]
    through = served
    if bare != spec:
        through = await _through(asked, stage, whole)
    through.name, through.words = THROUGH, f"{target} through the sidecar"
    if through is not compared[0]:
        compared.append(through)
    found = _Table(compared, served, lines=lines, spec=spec, manifest=_acting(whole))
    if asked.levers:
        for name in lines:
            alone = contenders.without(doorless, lines.keys() - {name})
            live = await _through(asked, stage, Variant(name, whole.manifest, alone, whole.command))
            live.words = f"{name} alone"
            found.alone[name] = live
    elif lines:
        notes.append(f"--levers tells the part of each: {', '.join(lines)}.")
    return found


def _variant(asked: Asked, target: str, notes: list[str]) -> Variant:
    path = Path(target)
    if not path.exists():
        raise ConfigError(
            f"{target}: no such file, and no URL: write a MANIFEST, or for example http://127.0.0.1:8000/mcp"
        )
    manifest = read(path, asked.name, asked.command)
    for problem in contenders.missing(manifest):
        say(f"spec.{problem}; put it there, or set the variable yourself")
    spec = contenders.spec_of(manifest)
    if not asked.limits and "rateLimits" in spec:
        spec = contenders.unlimited(spec)
        notes.append(
            f"The limits of {path.name} are lifted, which would refuse the load; --limits keeps them."
        )
    return Variant(THROUGH, manifest, spec, asked.command)


def _acting(variant: Variant) -> str:
    """What the sidecar is told, to be shown: nothing of the server's environment or command."""
    return contenders.written(variant.manifest.spec.sidecar_config())


async def _through(asked: Asked, stage: Stage, variant: Variant) -> _Live:
    say(f"Starting {variant.name} ...")
    running = await stage.run(variant)
    live = _at(asked, variant.name, "", running.url)
    live.running = running
    live.parallel = bool((variant.spec.get("concurrency") or {}).get("parallelTool"))
    return live


def _at(asked: Asked, name: str, words: str, url: str) -> _Live:
    return _Live(name, words, Server(Target(url, asked.api_key_header), asked.clients))


def _is_url(target: str) -> bool:
    return "://" in target


async def _calls(asked: Asked, server: Server, notes: list[str]) -> list[Call]:
    """The calls to make, agreed to, and tried once each tool; ConfigError."""
    try:
        listed = {tool["name"]: tool for tool in await server.tools()}
    except McpaceError as error:
        raise ConfigError(f"the tools cannot be listed: {error}") from None
    names = list(asked.tools) or _agreed(asked, listed)
    for name in asked.tools:
        if name not in listed:
            meant = Vocabulary(listed).meant(name)
            raise ConfigError(f"there is no tool {plain(name)}, but {_some(listed)}{meant}")
    given = _given(asked, names)
    chosen: list[list[Call]] = []
    for name in dict.fromkeys(names):
        schema = listed[name].get("inputSchema")
        calls: list[Call] = []
        try:
            calls = [Call(name, each, schema) for each in given.get(name) or _made(asked, name, schema)]
            refused = await server.trial(calls[0])
        except UnmadeError as error:
            refused = str(error)
        if not refused:
            chosen.append(calls)
            continue
        words = f"{plain(name)}: {plain(refused)}"
        if name in given:
            notes.append(f"{words}: the tool answers so to the first of the arguments given.")
            chosen.append(calls)
        elif asked.tools:
            raise ConfigError(f"{words}. Give arguments that it takes: --arguments '{{…}}'")
        else:
            say(f"Left out: {words}")
    if not chosen:
        raise ConfigError("no tool is left that can be called; name one by --tool, with its --arguments")
    # The tools in turn, each as often.
    return [calls[at % len(calls)] for at in range(max(map(len, chosen))) for calls in chosen]


def _some(names: Any) -> str:
    listed = [plain(name) for name in names]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return ", ".join(listed[:20]) + more or "none at all"


def _agreed(asked: Asked, listed: dict[str, Any]) -> list[str]:
    """The tools that say that they only read, once that is agreed to; ConfigError."""
    found = [
        name
        for name, tool in listed.items()
        if isinstance(tool.get("annotations"), dict)
        and tool["annotations"].get("readOnlyHint") is True
        and name not in _OWN_TOOLS
    ]
    if not found:
        raise ConfigError(
            f"no tool says that it only reads (readOnlyHint); name what may be called by --tool: {_some(listed)}"
        )
    say("These tools say that they only read, and will be called many times:")
    for name in found:
        words = plain(str(listed[name].get("description") or "")).strip().partition("\n")[0]
        say(f"  {plain(name)}  {words[:_WORDS]}")
    if asked.yes:
        return found
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to agree: say --yes, or name tools by --tool")
    if not click.confirm("Call them?", err=True):
        raise ConfigError("nothing was called; name tools by --tool")
    return found


def _made(asked: Asked, name: str, schema: Any) -> list[dict[str, Any]]:
    """Different arguments for a tool, as many as were asked for or there are; UnmadeError."""
    found: dict[bytes, dict[str, Any]] = {}
    for at in range(asked.distinct * 2):
        made = make(schema, f"{asked.seed} {name} {at}", optional=asked.optional)
        found.setdefault(msgspec.json.encode(made), made)
        if len(found) == asked.distinct:
            break
    return list(found.values())


def _given(asked: Asked, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Arguments of the command line, tool by tool; ConfigError, which repeats none of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for text in asked.arguments:
        tool, equals, rest = ("", "", text) if text[:1] in "{[@" else text.partition("=")
        if tool and (not equals or tool not in names):
            raise ConfigError(
                "--arguments: write JSON, @FILE, or TOOL=JSON with one of the tools that are called"
            )
        try:
            told = json.loads(Path(rest[1:]).read_text(encoding="utf-8") if rest.startswith("@") else rest)
        except OSError as error:
            raise ConfigError(f"--arguments {rest}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ConfigError('--arguments holds no JSON; write \'{"city": "Paris"}\'') from None
        several = told if isinstance(told, list) else [told]
        if not several or not all(isinstance(each, dict) for each in several):
            raise ConfigError("--arguments: write an object, or a list of objects to be taken in turn")
        for name in [tool] if tool else names:
            found.setdefault(name, []).extend(several)
    return found


def _steps(calls: Sequence[Call], together: int) -> list[Step]:
    """As many steps as there are calls, each of so many that follow each other."""
    number = len(calls)
    steps = [
        tuple(calls[(at * together + more) % number] for more in range(together)) for at in range(number)
    ]
    return list({same(step): step for step in steps}.values())


async def _measure(asked: Asked, table: _Table, calls: list[Call], notes: list[str]) -> Result:
    steps = _steps(calls, asked.together)
    entries = [
        _Entry(live, steps, live.parallel and asked.together > 1, live.name) for live in table.compared
    ]
    alone: dict[str, tuple[_Entry, _Entry]] = {}
    without: dict[tuple[int, tuple[str, ...]], _Entry] = {}
    every = list(dict.fromkeys(call.tool for call in calls))
    for name, live in table.alone.items():
        assert table.bare is not None
        about = contenders.concerned(name, table.spec, every)
        if not about:
            notes.append(f"The part of {name} is not told: none of its tools is called.")
            continue
        together = max(asked.together, _TOGETHER) if name == "parallel" else asked.together
        theirs = _steps([call for call in calls if call.tool in about], together)
        base = without.get((together, tuple(about)))
        if base is None:
            base = without[together, tuple(about)] = _Entry(table.bare, theirs, parallel=False, label=BARE)
        alone[name] = (base, _Entry(live, base.steps, live.parallel and together > 1, name))
    turns = [*entries, *without.values(), *(each for _, each in alone.values())]
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    machine = _machine()
    busiest = await _alternate(asked, turns)
    levers = tuple(
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
        levers=levers,
        manifest=table.manifest,
        notes=tuple(notes),
    )


async def _alternate(asked: Asked, turns: list[_Entry]) -> float:
    """Warm up, and let each have its window in each round; return how much of a core the load used at most."""
    seconds = asked.duration / asked.rounds
    began, busiest = time.perf_counter(), 0.0
    total = len(turns) * (asked.warm_up + asked.duration)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(None), TimeRemainingColumn(), console=err, transient=True,
        disable=not err.is_terminal,
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
    """A window with what the sidecar has counted in it. `own`: calls of its own tool `parallel`, whose calls count."""
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
            f"Closed loop: each of {asked.clients} clients asks when it was answered, so a slow server is asked less,"
            " and what would have waited meanwhile is not seen (coordinated omission); --rate avoids that."
        )
    else:
        late = max((window.late for one in compared for window in one.windows), default=0.0)
        yield (
            f"Open loop: {result.amount(asked.rate)} steps a second, whose time counts from when they were due"
            f" (no coordinated omission); the load itself was late by {result.duration(late)} at most."
        )
    if any(one.hits is not None and one.hits.median > 0 for one in compared):
        yield "The hit ratio is that of these arguments, drawn evenly; your clients repeat theirs more, or less."
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


def say(text: str) -> None:
    """A line for the person at the terminal."""
    err.print(text)


def failures(measured: Result, goals: Sequence[Goal]) -> list[str]:
    """Why the run fails: a goal that was missed, or a contender that never answered well."""
    found = [words for each in goals if (words := each.missed(measured.judged))]
    for contender in measured.contenders:
        if contender.latency(0.5) is None:
            found.append(f"{contender.name} answered no call well")
    return found
