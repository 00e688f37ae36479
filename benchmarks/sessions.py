"""What sessions that outlive pods cost: a call in one, at its replica or another, its memory, and its loss.

Calls are measured in turns beside a sidecar with `continuity: false`, before a server that answers for next
to nothing. What a loss costs is measured with a server that nobody here wrote, beside its own `initialize`
and call.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from load import Client
from redis import Redis
from rig import (
    CONFIG,
    LOAD_CORE,
    REDIS,
    SESSIONS,
    Contender,
    Rig,
    Window,
    arguments,
    cpu,
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
FILLING = 3_000
"""Sessions after which the memory of heads, which is bounded and no session's, is full."""
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


@dataclass(frozen=True)
class Loss:
    """What the first calls after it took, and the server's own `initialize` and call, in seconds."""

    how: str
    first: list[float]
    own: list[float]

    def watch(self, clients: list[Client], port: int) -> None:
        """Call each, in turns with the server itself."""
        direct = Client(port)
        direct.begin()
        direct.call("echo")
        for client in clients:
            began = time.perf_counter()
            client.call("echo")
            self.first.append(time.perf_counter() - began)
            began = time.perf_counter()
            direct.initialize()
            answered = time.perf_counter()
            direct.post({"method": "notifications/initialized"})
            asked = time.perf_counter()
            direct.call("echo")
            self.own.append(answered - began + time.perf_counter() - asked)

    @property
    def times(self) -> float:
        """How many times the server's own, in the median of pairs."""
        return statistics.median(ours / own for ours, own in zip(self.first, self.own, strict=True))

    def __str__(self) -> str:
        first, own = (statistics.median(each) * 1e3 for each in (self.first, self.own))
        return (
            f"With `server-everything` over HTTP, the first call after {self.how} takes {first:.1f} ms;"
            f" its own `initialize` and call take {own:.1f} ms ({len(self.own)} pairs)."
        )


def main() -> None:
    """Measure and print; fail where a goal is missed."""
    options = arguments(__doc__, rounds=5, seconds=2).parse_args()
    with Rig(options.compiled) as rig:
        bench = Bench(rig, "compiled" if options.compiled else "python")
        windows, share = bench.calls(options.rounds, options.seconds)
        holds, recorded = bench.crowded()
        replaced, lost = bench.replaced(options.rounds), bench.lost(options.rounds)
    ours, off, beside, relayed, plain, plain_off = windows.values()
    # Where each of both replicas has a core, the busier one says how many calls they carry.
    apart = statistics.median(
        our.cost / (two.cost * max(share, 1 - share)) for our, two in zip(ours, relayed, strict=True)
    )
    goals = [
        Goal("a call in a session, of `continuity: false`", ratio(ours, off), 0.95, at_least=True),
        Goal(f"beside {MANY:,} idle sessions, of one alone", ratio(beside, ours), 0.95, at_least=True),
        Goal("of no session, of `continuity: false`", ratio(plain, plain_off), 0.95, at_least=True),
        Goal("relayed over TLS, of local: a core for each replica", f"~{apart:.2f}", 0.45, at_least=True),
        Goal(
            "first call after the server's process was replaced", f"{replaced.times:.2f}", 3, at_least=False
        ),
        Goal("first call after the replica was lost", f"{lost.times:.2f}", 3, at_least=False),
        Goal("bytes of an idle session in the sidecar", f"{holds:.0f}", 1024, at_least=False),
        Goal("bytes of an idle session in Redis", f"{recorded:.0f}", 1024, at_least=False),
    ]
    rows = [(what, *median(each)) for what, each in windows.items()]
    publish(
        "sessions",
        f"{table(('a call', 'calls/s', 'CPU µs'), *rows)}\n\n"
        f"{table(('', 'measured', 'goal'), *(goal.row for goal in goals))}\n\n"
        f"Both replicas on one core carry {ratio(relayed, ours)} of local calls; {share:.0%} of that CPU"
        f" time is the one's that the client asks.\n{replaced}\n{lost}\n\n"
        f"{machine()}; {options.rounds} rounds of {options.seconds:g} s.",
        write=options.write,
    )
    missed = [goal.what for goal in goals if goal.missed]
    if missed and options.rounds > 1:  # one round is judged by nobody
        raise SystemExit(f"missed: {'; '.join(missed)}")


class Bench:
    """The sidecars that are measured: replicas of one server, and one that lets the server's ids pass."""

    def __init__(self, rig: Rig, build: str) -> None:
        self._rig = rig
        self._environment = {"MCPACE_LIMITS_URL": rig.redis(), "MCPACE_SESSION_KEY": "5e" * 32}
        self._start = partial(rig.sidecar, build, environment=self._environment)
        rig.start(LOAD_CORE, [rig.folder / "upstream", SESSIONS, "sessions"])
        wait_for(f"http://127.0.0.1:{SESSIONS}/")

    def replica(self, upstream: int, name: str = "bench/one") -> Contender:
        """A sidecar that others reach."""
        more = ("--name", name, "--relay-listen", f"127.0.0.1:{free_port()}")
        return self._start(CONFIG, upstream=upstream, more=more)

    def calls(self, rounds: int, seconds: float) -> tuple[dict[str, list[Window]], float]:
        """Windows of each kind of call; and of the CPU time of those relayed, the part of who was asked."""
        ours, other = self.replica(SESSIONS), self.replica(SESSIONS)
        self._crowded = self.replica(SESSIONS, "bench/crowded")
        off = self._start(OFF, upstream=SESSIONS, more=("--name", "bench/off"))
        self._holds = crowd(self._crowded)
        both = Contender(other.port, other.pid, other.admin, beside=(ours.pid,))
        session = Client(ours.port).begin()
        sessions = [Client(who.port).begin() for who in (off, self._crowded)]
        called = {
            "in a session": (ours, session),
            "in a session, `continuity: false`": (off, sessions[0]),
            f"in a session, beside {MANY:,} idle ones": (self._crowded, sessions[1]),
            "in a session, relayed": (both, session),
            "of no session": (ours, ""),
            "of no session, `continuity: false`": (off, ""),
        }
        windows: dict[str, list[Window]] = {what: [] for what in called}
        asked = spent = 0.0
        for _ in range(rounds):
            for what, (who, name) in called.items():
                call = f"tool=plain session={name}" if name else "tool=plain"
                before = cpu(who.pid), who.cpu
                windows[what].append(self._rig.window(who, call, seconds=seconds))
                if who is both:
                    asked += cpu(who.pid) - before[0]
                    spent += who.cpu - before[1]
        for who in (ours, off, self._crowded, other):
            self._rig.check(who)
        return windows, asked / spent

    def crowded(self) -> tuple[float, float]:
        """Bytes of an idle session in the sidecar, and in Redis."""
        with Redis(port=REDIS) as store:
            keys = list(store.scan_iter("mcpace:{bench/crowded}:session:*", 1000))
            sizes = [store.memory_usage(key) or 0 for key in keys[:: len(keys) // 100 or 1]]
        if len(keys) < MANY * 0.99:
            raise SystemExit(f"of {MANY} sessions {len(keys)} are recorded")
        return self._holds, statistics.mean(sizes)

    def replaced(self, rounds: int) -> Loss:
        """Replace the server's process under sessions, and call in each."""
        loss, port = Loss("its process was replaced", [], []), free_port()
        sidecar: Contender | None = None
        for _ in range(rounds):
            with served(port):
                sidecar = sidecar or self.replica(port, "bench/replaced")
                clients = begun(sidecar)
            with served(port):
                loss.watch(clients, port)
        return loss

    def lost(self, rounds: int) -> Loss:
        """End a replica and its server, and call its sessions at another."""
        loss, port, gone = (
            Loss("the replica that held the session was lost", [], []),
            free_port(),
            free_port(),
        )
        with served(port):
            heir = self.replica(port, "bench/lost")
            Client(heir.port).begin()
            for _ in range(rounds):
                with served(gone):
                    owner = self.replica(gone, "bench/lost")
                    clients = begun(owner)
                    os.kill(owner.pid, signal.SIGKILL)
                loss.watch([client.moved(heir.port) for client in clients], port)
        return loss


def crowd(sidecar: Contender) -> float:
    """Begin sessions that make one call each; return the bytes that each holds."""
    client, before = Client(sidecar.port), 0.0
    for number in range(MANY - 1):  # and one in which is called
        if number == FILLING:
            before = rss(sidecar.pid)
        client.begin()
        client.call("plain")
    return (rss(sidecar.pid) - before) / (MANY - 1 - FILLING) * 1e6


def begun(sidecar: Contender) -> list[Client]:
    """Clients, each with a session in use."""
    clients = [Client(sidecar.port) for _ in range(LOST)]
    for client in clients:
        client.begin()
        client.call("echo")
    return clients


@contextmanager
def served(port: int) -> Iterator[None]:
    """A process of the server, until the block ends."""
    with started(LOAD_CORE, SERVER, {"PORT": str(port)}):
        wait_for(f"http://127.0.0.1:{port}/mcp")
        yield


if __name__ == "__main__":
    main()
