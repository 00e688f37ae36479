"""What sessions that outlive the server's process cost: a call in one, its memory, and beginning it again.

Calls are measured in turns beside a sidecar with `continuity: false`, before a server that answers for next
to nothing. What a loss costs is measured with a server that nobody here wrote, beside its own `initialize`
and call.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rig import (
    CONFIG,
    LOAD_CORE,
    SESSIONS,
    Client,
    Contender,
    Rig,
    Window,
    arguments,
    machine,
    median,
    publish,
    ratio,
    rss,
    started,
    table,
    wait_for,
)
from tools.packages.install import modules, node
from tools.ports import free_port

SERVER = [node(), modules() / "@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp"]
OFF = CONFIG + "sessions: {continuity: false}\n"
MANY = 10_000
"""Sessions that one replica knows at once."""
HEADS = 5_000
"""Heads enough to fill what is remembered of them: it is bounded, and no session's."""
LOST = 20
"""Sessions that are lost at a time."""


@dataclass(frozen=True)
class Goal:
    """What is measured, and how it must come out."""

    what: str
    value: str
    bound: float
    at_least: bool

    @property
    def row(self) -> tuple[str, ...]:
        """As the table says it."""
        return self.what, self.value, f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    @property
    def missed(self) -> bool:
        """Whether it has not come out so, beyond what noisy neighbours explain."""
        value = float(self.value.lstrip("~"))
        return value < self.bound * 0.9 if self.at_least else value > self.bound * 1.1


def main() -> None:
    """Measure and print; fail where a goal is missed."""
    options = arguments(__doc__, rounds=5, seconds=2).parse_args()
    with Rig(options.compiled) as rig:
        build = "compiled" if options.compiled else "python"
        rig.start(LOAD_CORE, [rig.folder / "upstream", SESSIONS, "sessions"])
        wait_for(f"http://127.0.0.1:{SESSIONS}/")
        start = partial(rig.sidecar, build, upstream=SESSIONS)
        ours, off, crowded = start(CONFIG), start(OFF), start(CONFIG)
        holds = crowd(crowded)
        session, named = (f"tool=plain session={Client(who.port).begin()}" for who in (ours, off))
        beside = f"tool=plain session={Client(crowded.port).begin()}"
        calls = {
            "in a session": (ours, session),
            "in a session, `continuity: false`": (off, named),
            f"in a session, beside {MANY:,} idle ones": (crowded, beside),
            "of no session": (ours, "tool=plain"),
            "of no session, `continuity: false`": (off, "tool=plain"),
        }
        windows: dict[str, list[Window]] = {what: [] for what in calls}
        for _ in range(options.rounds):
            for what, (who, call) in calls.items():
                windows[what].append(rig.window(who, call, seconds=options.seconds))
        for who in (ours, off, crowded):
            rig.check(who)
        lost = begun_again(rig, build, options.rounds)
    kept, without, many, passed, plain = windows.values()
    goals = [
        Goal("a call in a session, of `continuity: false`", ratio(kept, without), 0.95, at_least=True),
        Goal(
            f"the same beside {MANY:,} idle sessions, of one alone", ratio(many, kept), 0.95, at_least=True
        ),
        Goal("a call of no session, of `continuity: false`", ratio(passed, plain), 0.95, at_least=True),
        Goal("the first call after a loss, times the server's own", f"{lost.times:.2f}", 3, at_least=False),
        Goal("bytes of an idle session in the sidecar", f"{holds:.0f}", 1024, at_least=False),
    ]
    rows = [(what, *median(each)) for what, each in windows.items()]
    publish(
        "sessions",
        f"{table(('a call', 'calls/s', 'CPU µs'), *rows)}\n\n"
        f"{table(('', 'measured', 'goal'), *(goal.row for goal in goals))}\n\n{lost}\n\n"
        f"{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=options.write,
    )
    missed = [goal.what for goal in goals if goal.missed]
    if missed:
        raise SystemExit(f"missed: {'; '.join(missed)}")


def crowd(sidecar: Contender) -> float:
    """Begin sessions that make one call each; return the bytes that each holds."""
    client = Client(sidecar.port)
    client.begin()
    for number in range(HEADS):
        client.call("plain", **{"Accept-Encoding": f"identity;q=0.{number:04}"})
    before = rss(sidecar.pid)
    for _ in range(MANY - 2):  # one has warmed it, and one is called in
        client.begin()
        client.call("plain")
    return (rss(sidecar.pid) - before) / (MANY - 2) * 1e6


@dataclass(frozen=True)
class Loss:
    """What a lost session's first call took, and the server's own `initialize` and call, in seconds."""

    first: list[float]
    own: list[float]

    @property
    def times(self) -> float:
        """How many times the server's own, in the median of pairs."""
        return statistics.median(ours / own for ours, own in zip(self.first, self.own, strict=True))

    def __str__(self) -> str:
        first, own = (statistics.median(each) * 1e3 for each in (self.first, self.own))
        return (
            f"With `server-everything` over HTTP, the first call after its process was replaced takes"
            f" {first:.1f} ms; its own `initialize` and call take {own:.1f} ms ({len(self.own)} pairs)."
        )


def begun_again(rig: Rig, build: str, rounds: int) -> Loss:
    """Replace the server's process under sessions, and call in each."""
    loss, port = Loss([], []), free_port()
    sidecar: Contender | None = None
    for _ in range(rounds):
        with served(port):
            sidecar = sidecar or rig.sidecar(build, upstream=port)
            clients = [Client(sidecar.port) for _ in range(LOST)]
            for client in clients:
                client.begin()
                client.call("echo")
        with served(port):
            direct = Client(port)
            direct.begin()
            direct.call("echo")
            for client in clients:
                began = time.perf_counter()
                client.call("echo")
                loss.first.append(time.perf_counter() - began)
                began = time.perf_counter()
                direct.initialize()
                answered = time.perf_counter()
                direct.post({"method": "notifications/initialized"})
                asked = time.perf_counter()
                direct.call("echo")
                loss.own.append(answered - began + time.perf_counter() - asked)
    return loss


@contextmanager
def served(port: int) -> Iterator[None]:
    """A process of the server, until the block ends."""
    with started(LOAD_CORE, SERVER, {"PORT": str(port)}):
        wait_for(f"http://127.0.0.1:{port}/mcp")
        yield


if __name__ == "__main__":
    main()
