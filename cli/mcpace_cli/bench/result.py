"""What was measured: windows, figures made of them, how two results differ. Kept without arguments.

A figure is the median over the rounds, beside its least and its most: two figures differ where these do not
overlap. Percentiles come from buckets that grow by 5 %, so they are within 2.5 % of the truth.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from mcpace_cli.bench.units import SIZES, TIMES, amount, duration, part, size
from mcpace_sidecar.contract.histogram import percentile
from mcpace_sidecar.contract.report import BUCKETS
from mcpace_sidecar.errors import ConfigError

VERSION: Final = 1
"""Of the file that `--save` writes: counted up where what a member means has changed."""
BYTES_PER_TOKEN: Final = 4
"""An estimate: what a tokenizer makes of English and JSON is near it."""
_LARGEST: Final = 64 * 1024 * 1024

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Word = Annotated[str, Meta(max_length=4096)]
Lines = Annotated[str, Meta(max_length=2 << 20)]
"""Of a manifest, as YAML."""


Histogram = dict[Annotated[int, Meta(ge=0, lt=BUCKETS)], Count]
"""Bucket -> steps that succeeded; see `mcpace_sidecar.contract.histogram`."""


class ToolWindow(Struct, frozen=True):
    """The steps of one window that call one tool alone."""

    calls: Count
    failed: Count
    """Steps, and not calls."""
    received: Count
    histogram: Histogram


class Window(Struct, frozen=True, rename="camel"):
    """One window of load on one contender."""

    seconds: Annotated[float, Meta(gt=0, le=1e12)]
    """From the first step's beginning to the last one's end."""
    steps: Count
    calls: Count
    """Of tools; a step may hold several."""
    failed: Annotated[dict[Word, Count], Meta(max_length=1024)]
    """Steps by how they failed: `error` is the tool's own word, `limited` a limit's."""
    histogram: Histogram
    longest: Amount
    received: Count
    """Bytes of the answers' bodies, as they came."""
    decoded: Count
    """The same without compression."""
    late: Amount = 0.0
    """Seconds by which the load began a step later than it should have, at most."""
    bins: Annotated[tuple[Count, ...], Meta(max_length=1000)] = ()
    """Calls answered in each equal part of the window's time."""
    tools: Annotated[dict[Word, ToolWindow], Meta(max_length=10_000)] = {}
    at: Amount = 0.0
    """Seconds from the beginning of the whole."""
    looked: Count | None = None
    """Calls of cached tools, as the sidecar counts them; None where it was not asked."""
    hits: Count | None = None
    reached: Count | None = None
    """Calls that came to the server."""


class Figure(NamedTuple):
    """A median over rounds, and between what they lay."""

    median: float
    low: float
    high: float

    def apart(self, other: Figure) -> bool:
        """Whether they differ by more than their rounds do."""
        return self.high < other.low or other.high < self.low


def figure(values: Iterable[float | None]) -> Figure | None:
    """The figure of what each round has shown; None where none has."""
    known = [value for value in values if value is not None]
    return Figure(statistics.median(known), min(known), max(known)) if known else None


class Contender(Struct, frozen=True, rename="camel"):
    """One of those that were measured against each other."""

    name: Word
    words: Word
    windows: Annotated[tuple[Window, ...], Meta(max_length=10_000)]

    def latency(self, part: float) -> Figure | None:
        """Seconds that `part` (0 to 1) of the steps did not exceed."""
        return figure(percentile(window.histogram, part) for window in self.windows)

    def overall(self, part: float) -> float | None:
        """The same of all rounds together."""
        return percentile(self.histogram, part)

    @property
    def rate(self) -> Figure | None:
        """Calls a second that were answered well."""
        return figure(_good(window) / window.seconds for window in self.windows)

    @property
    def failed(self) -> Figure | None:
        """The part of the steps that failed."""
        return figure(sum(window.failed.values()) / window.steps for window in self.windows if window.steps)

    @property
    def hits(self) -> Figure | None:
        """The part of the calls that the cache answered."""
        return figure(
            window.hits / window.calls if window.hits is not None else None
            for window in self.windows
            if window.calls
        )

    @property
    def received(self) -> Figure | None:
        """Bytes of a call's answer, as they came."""
        return figure(window.received / window.calls for window in self.windows if window.calls)

    @property
    def tokens(self) -> Figure | None:
        """Tokens of a call's answer, estimated."""
        return figure(
            window.decoded / window.calls / BYTES_PER_TOKEN for window in self.windows if window.calls
        )

    @property
    def calls(self) -> int:
        """Calls in all."""
        return sum(window.calls for window in self.windows)

    @property
    def reached(self) -> int | None:
        """Those of them that came to the server, as far as that is known."""
        known = [window.reached for window in self.windows]
        return sum(each or 0 for each in known) if known and None not in known else None

    @property
    def histogram(self) -> dict[int, int]:
        """Of all rounds together."""
        merged: dict[int, int] = {}
        for window in self.windows:
            for bucket, count in window.histogram.items():
                merged[bucket] = merged.get(bucket, 0) + count
        return merged

    @property
    def tools(self) -> list[str]:
        """Those that it was called with, by name."""
        return sorted({name for window in self.windows for name in window.tools})

    def tool_latency(self, name: str, part: float) -> Figure | None:
        """The same as `latency` of one tool's steps."""
        told = [window.tools[name].histogram for window in self.windows if name in window.tools]
        return figure(percentile(histogram, part) for histogram in told)

    def tool_bytes(self, name: str) -> Figure | None:
        """Bytes of one tool's answer, as they came."""
        told = [window.tools[name] for window in self.windows if name in window.tools]
        return figure(each.received / each.calls for each in told if each.calls)

    @property
    def reasons(self) -> dict[str, int]:
        """Steps of all rounds by how they failed."""
        merged: dict[str, int] = {}
        for window in self.windows:
            for reason, count in window.failed.items():
                merged[reason] = merged.get(reason, 0) + count
        return merged


def _good(window: Window) -> float:
    failed = sum(window.failed.values())
    return window.calls * (window.steps - failed) / window.steps if window.steps else 0.0


class Lever(Struct, frozen=True):
    """One part of a manifest, measured alone beside nothing of it."""

    name: Word
    words: Lines
    """What the manifest says of it."""
    together: Count
    """Calls of a step."""
    tools: Annotated[tuple[Word, ...], Meta(max_length=10_000)]
    """Those that it is about, and was measured with."""
    without: Contender
    alone: Contender


class Machine(Struct, frozen=True):
    """What it was measured on."""

    system: Word
    processor: Word
    cores: Count
    memory: Count
    """Bytes."""
    python: Word
    mcpace: Word
    load: Amount
    """Processes that wanted to run when it began, on average of a minute."""


class Settings(Struct, frozen=True, rename="camel"):
    """How it was measured."""

    tools: Annotated[tuple[Word, ...], Meta(max_length=10_000)]
    made: bool
    """Whether the arguments were made from the input schemas, and not given."""
    distinct: Count
    """How many different steps there were."""
    together: Count
    clients: Count
    rate: Amount | None
    """Steps a second of the open loop; None: the closed loop."""
    duration: Amount
    """Seconds of each contender in all."""
    rounds: Count
    warm_up: Amount
    seed: int


class Result(Struct, frozen=True, rename="camel"):
    """One run, as it is kept."""

    version: int
    when: Word
    machine: Machine
    settings: Settings
    contenders: Annotated[tuple[Contender, ...], Meta(min_length=1, max_length=64)]
    levers: Annotated[tuple[Lever, ...], Meta(max_length=64)] = ()
    manifest: Lines = ""
    """What the sidecar was told, as YAML: no environment and no Secret is in it."""
    notes: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()

    @property
    def judged(self) -> Contender:
        """The one that thresholds are for: what stands last."""
        return self.contenders[-1]


def save(result: Result, path: Path) -> None:
    """Write a result; OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def load(path: Path) -> Result:
    """Read what was saved, maybe by another version; ConfigError."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path} is larger than what --save writes")
        body = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(body, type=_Versioned).version
    except msgspec.DecodeError:
        raise ConfigError(f"{path} is no result of mcpace bench; --save FILE writes one") from None
    if version != VERSION:
        raise ConfigError(f"{path} is of version {version} of the format, and this mcpace reads {VERSION}")
    try:
        return msgspec.json.decode(body, type=Result)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is no result of mcpace bench: {error}") from None


class _Versioned(Struct):
    version: int


class Goal(NamedTuple):
    """What `--fail-if` asks for: `p95>200ms`."""

    words: str
    name: str
    above: bool
    bound: float

    def missed(self, contender: Contender) -> str:
        """What was measured where it is what the run is to fail for; empty where it is not."""
        measured = MEASURES[self.name].of(contender)
        if measured is None:
            return f"{self.words}: {self.name} was not measured"
        over = measured.median > self.bound if self.above else measured.median < self.bound
        return f"{self.words}: {self.name} is {MEASURES[self.name].said(measured.median)}" if over else ""


class Measure(NamedTuple):
    """A row of what is measured: how it is read of a contender, and said."""

    of: Callable[[Contender], Figure | None]
    said: Callable[[float], str]
    units: Mapping[str, float]
    """How a bound may be written -> what it is multiplied by."""
    less: bool
    """Whether less is better."""


MEASURES: Final[Mapping[str, Measure]] = {
    "p50": Measure(lambda one: one.latency(0.50), duration, TIMES, less=True),
    "p95": Measure(lambda one: one.latency(0.95), duration, TIMES, less=True),
    "p99": Measure(lambda one: one.latency(0.99), duration, TIMES, less=True),
    "rate": Measure(lambda one: one.rate, amount, {"": 1.0, "/s": 1.0}, less=False),
    "errors": Measure(lambda one: one.failed, part, {"%": 0.01}, less=True),
    "hits": Measure(lambda one: one.hits, part, {"%": 0.01}, less=False),
    "bytes": Measure(lambda one: one.received, size, SIZES, less=True),
    "tokens": Measure(lambda one: one.tokens, amount, {"": 1.0}, less=True),
}
"""What is measured of each contender, in the order in which it is shown."""


def goal(text: str) -> Goal:
    """Read `p95>200ms`; ConfigError says what to write instead."""
    match = re.fullmatch(r"\s*([a-z0-9]+)\s*([<>])\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([^\s0-9]*)\s*", text)
    measure = MEASURES.get(match[1]) if match else None
    if match is None or measure is None:
        raise ConfigError(
            f"--fail-if {text!r}: write one of {', '.join(MEASURES)}, > or <, and a bound: p95>200ms"
        )
    if match[4] not in measure.units:
        units = " or ".join(unit or "no unit" for unit in measure.units)
        raise ConfigError(f"--fail-if {text!r}: of {match[1]} write the bound with {units}")
    return Goal(text.strip(), match[1], match[2] == ">", float(match[3]) * measure.units[match[4]])


class Change(NamedTuple):
    """One measure of a contender, then and now."""

    contender: str
    measure: str
    then: Figure
    now: Figure

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `the same` where the rounds overlap."""
        if not self.then.apart(self.now):
            return "the same"
        return "better" if (self.now.median < self.then.median) == MEASURES[self.measure].less else "worse"


def changes(then: Result, now: Result) -> list[Change]:
    """How two runs differ, contender by contender, matched by name."""
    known = {contender.name: contender for contender in then.contenders}
    found = []
    for contender in now.contenders:
        other = known.get(contender.name)
        for name, measure in MEASURES.items() if other is not None else ():
            assert other is not None
            before, after = measure.of(other), measure.of(contender)
            if before is not None and after is not None:
                found.append(Change(contender.name, name, before, after))
    return found


def differences(then: Result, now: Result) -> list[str]:
    """What makes two runs hard to compare, in words."""
    parts: list[tuple[str, Struct, Struct]] = [
        (name, then.settings, now.settings) for name in Settings.__struct_fields__
    ]
    parts += [(name, then.machine, now.machine) for name in ("processor", "cores", "system", "python")]
    return [
        f"{name.replace('_', ' ')} was {before} and is {after}"
        for name, old, new in parts
        if (before := getattr(old, name)) != (after := getattr(new, name))
    ]
