"""Everything that hostile clients do at once, in a container's default memory, and honest calls beside it.

Bodies that stop half-way, heads that come byte by byte, answers that nobody reads, streams that stay idle,
100,000 credentials and 100,000 networks. The run fails if an honest call fails, the process is ended or not
ready, an exception ended a call, or memory at the end is more than it was in the middle.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rig import CONFIG, Contender, Rig, arguments, metrics, publish, rss

from mcpace_operator.children.sidecar import MEMORY

LIMIT = MEMORY + (16 << 20)
"""What the operator gives a sidecar whose cache has 16 MiB."""
ALLOWED = 1.05
HONEST, PAUSE, PATIENCE = 20, 0.1, 10.0
"""Honest clients, seconds between two calls of one, and seconds in which each must be answered."""
MANY = 100_000
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"%bContent-Length: %d\r\n\r\n"
)
CALL = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{"city":"%d"}}}'


class Attack:
    """The clients of both kinds, and what they saw."""

    def __init__(self, port: int, ending: float) -> None:
        self.port = port
        self.ending = ending
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []
        self.took: list[float] = []
        self._next = 0

    async def opened(self, receive: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that reads ahead only so much."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=raw, limit=receive)

    async def honest(self, number: int) -> None:
        """Calls at a steady pace over a kept connection; what was closed while idle is opened again."""
        reader = writer = None
        count = 0
        while time.monotonic() < self.ending:
            count += 1
            body = (CALL % (count, ("plain", "cached", "mine")[count % 3], count % 50)).encode()
            line = b"X-Forwarded-For: 198.51.100.%d\r\nAuthorization: Bearer honest-%d\r\n" % (
                number,
                number,
            )
            began = time.monotonic()
            for fresh in (False, True):
                if writer is None or fresh:
                    reader, writer = await self.opened()
                try:
                    writer.write(HEAD % (line, len(body)) + body)
                    async with asyncio.timeout(PATIENCE):
                        answer = await whole(reader)
                    break
                except (OSError, asyncio.IncompleteReadError):
                    answer = b""
                except TimeoutError:
                    answer = b"nothing within the time allowed"
                    break
            self.took.append(time.monotonic() - began)
            if b'"id":%d' % count not in answer[:600] or not answer.startswith(b"HTTP/1.1 200"):
                self.failures.append(f"{number}, call {count}: {answer[:300]!r}")
                return
            self.seen["honest calls"] += 1
            await asyncio.sleep(PAUSE)

    async def again(self, what: str, attack: Callable[[], Awaitable[None]]) -> None:
        """One attacker, who comes again whenever he is shown the door."""
        while time.monotonic() < self.ending:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                self.seen[what] += 1
                await attack()
            await asyncio.sleep(0.2)

    async def held(self, reader: asyncio.StreamReader) -> None:
        """Wait until the sidecar closes, reading nothing that it says but the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.ending - time.monotonic())):
                while await reader.read(4096):
                    pass

    async def half_body(self) -> None:
        """A body that stops half-way."""
        reader, writer = await self.opened()
        writer.write(HEAD % (b"", 4_000_000) + b'{"jsonrpc":"2.0","id":1,"pad":"' + b"x" * 300_000)
        await self.held(reader)
        writer.close()

    async def slow_head(self) -> None:
        """A head that comes byte by byte."""
        reader, writer = await self.opened()
        for byte in HEAD % (b"X-Slow: " + b"s" * 900 + b"\r\n", 2):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)
            if reader.at_eof() or time.monotonic() > self.ending:
                break
        writer.close()

    async def slow_reader(self) -> None:
        """Ten large answers that nobody reads."""
        _, writer = await self.opened(4096)
        body = (CALL % (1, "answer1000000", 1)).encode()
        for _ in range(10):
            writer.write(HEAD % (b"", len(body)) + body)
        while time.monotonic() < self.ending and not writer.is_closing():
            await asyncio.sleep(1)
            writer.write(b" ")
            await writer.drain()
        writer.close()

    async def idle_stream(self) -> None:
        """A stream that stays open."""
        reader, writer = await self.opened()
        writer.write(b"GET /mcp?stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        await self.held(reader)
        writer.close()

    async def many(self) -> None:
        """Calls as fast as they are answered, each with a credential and from a network of its own."""
        reader, writer = await self.opened()
        while time.monotonic() < self.ending:
            self._next += 1
            number = self._next % MANY
            network = b"2001:db8:%x:%x::1" % (number >> 8, number & 255)
            line = b"X-Forwarded-For: %b\r\nAuthorization: Bearer guess-%d\r\n" % (network, number)
            body = (CALL % (1, "mine", number % 7)).encode()
            writer.write(HEAD % (line, len(body)) + body)
            answer = await whole(reader)
            self.seen["credentials and networks"] += answer.startswith(b"HTTP/1.1 200")
        writer.close()

    async def run(self, only: list[str]) -> None:
        """Both kinds, until the end; `only`: of the hostile ones these."""
        attacks = {
            "bodies": (self.half_body, 200),
            "heads": (self.slow_head, 200),
            "readers": (self.slow_reader, 100),
            "streams": (self.idle_stream, 200),
            "many": (self.many, 8),
        }
        assert set(only) <= set(attacks), f"attacks are {', '.join(attacks)}"
        coming = [(what, attacks[what][0]) for what in only or attacks for _ in range(attacks[what][1])]
        await asyncio.gather(
            *(self.honest(number) for number in range(HONEST)),
            *(self.again(what, attack) for what, attack in coming),
        )


async def whole(reader: asyncio.StreamReader) -> bytes:
    """One answer of a known length."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(found[1]) if found else 0)


@contextmanager
def contained(limit: int) -> Iterator[Path | None]:
    """A control group with this much memory, where one may be made: who takes more is ended."""
    version2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = (
        Path("/sys/fs/cgroup" if version2 else "/sys/fs/cgroup/memory") / f"mcpace-hostile-{os.getpid()}"
    )
    try:
        group.mkdir()
        (group / ("memory.max" if version2 else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    try:
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


async def watch(sidecar: Contender, seconds: float, only: list[str]) -> tuple[Attack, list[float]]:
    """Attack for so long; return what was seen, and the resident memory of each second."""
    attack = Attack(sidecar.port, time.monotonic() + seconds)
    running = asyncio.create_task(attack.run(only))
    memory: list[float] = []
    while not running.done():
        await asyncio.sleep(1)
        memory.append(rss(sidecar.pid))
        if not memory[-1]:  # whoever answers on its port is another
            raise SystemExit("the sidecar has ended")
        await asyncio.to_thread(ready, sidecar)
        print(f"  {len(memory)} s: {memory[-1]:.1f} MB, {dict(attack.seen)}", file=sys.stderr, flush=True)
    await running
    return attack, memory


def ready(sidecar: Contender) -> None:
    """End the run where the sidecar is not ready: being attacked is no reason."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{sidecar.admin}/readyz", timeout=PATIENCE).close()
    except OSError as error:
        raise SystemExit(f"the sidecar is not ready, or no more: {error}") from None


def main() -> None:
    """Attack, watch, and fail where it shows."""
    parser = arguments(__doc__, rounds=1, seconds=600)
    parser.add_argument("--only", nargs="*", default=[], help="of bodies, heads, readers, streams, many")
    options = parser.parse_args()
    build = "compiled" if options.compiled else "python"
    with contained(LIMIT) as group, Rig(options.compiled) as rig:
        within = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group) if group else ()
        sidecar = rig.sidecar(build, CONFIG, within=within, environment={"MCPACE_MEMORY_LIMIT": str(LIMIT)})
        attack, memory = asyncio.run(watch(sidecar, options.seconds, options.only))
        said = metrics(sidecar)
    tenth = max(1, len(memory) // 10)
    middle, late = statistics.median(memory[4 * tenth : 6 * tenth]), statistics.median(memory[-tenth:])
    took = sorted(attack.took)
    shed = {reason: int(float(count)) for reason, count in re.findall(
        r'^mcpace_shed_connections_total{reason="(\w+)"} (\S+)', said, re.MULTILINE)}  # fmt: skip
    enforced = "" if group else " (watched, not enforced)"
    p50, p99, longest = (took[at] * 1000 for at in (len(took) // 2, len(took) * 99 // 100, -1))
    words = (
        f"{options.seconds / 60:.0f} minutes within {LIMIT >> 20} MiB{enforced}: {json.dumps(attack.seen)};"
        f" turned away: {json.dumps(shed)}. Honest calls took {p50:.1f} ms at p50, {p99:.0f} ms at p99,"
        f" {longest:.0f} ms at most. {middle:.1f} MB in the middle, {late:.1f} MB at the end,"
        f" {max(memory):.1f} MB at most."
    )
    publish("hostile", words, write=options.write)
    if attack.failures:
        raise SystemExit(f"{len(attack.failures)} honest clients were harmed: {attack.failures[0]}")
    if re.search(r"^mcpace_internal_errors_total\S* [1-9]", said, re.MULTILINE):
        raise SystemExit("exceptions ended calls: see mcpace_internal_errors_total")
    if max(memory) * 1e6 > LIMIT:
        raise SystemExit("it has taken more memory than its container has")
    # Until everybody has come once, what is remembered of clients grows to its bounds.
    if attack.seen["credentials and networks"] > 2 * MANY and late > middle * ALLOWED:
        raise SystemExit(f"memory has grown by {late / middle - 1:.1%}")


if __name__ == "__main__":
    main()
