"""A sidecar as it really runs, a process of its own: what it holds, and how it ends."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.kit.load import Load, flood
from tests.kit.sidecars import Start
from tests.kit.upstream import RESULT, Heard, Scripted, json_answer
from tests.kit.waiting import DEADLINE, STARTING, until
from tools.ports import free_port


class Process:
    """A running `mcpace sidecar`."""

    def __init__(self, process: asyncio.subprocess.Process, data: int) -> None:
        self.process = process
        self.data = data

    def resident(self) -> float:
        """Its memory, in MB."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.asynccontextmanager
async def process(folder: Path, upstream: int) -> AsyncIterator[Process]:
    """Run one, from when it answers until it has ended."""
    data, admin = free_port(), free_port()
    file = folder / f"config-{data}.yaml"
    file.write_text("{}")
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mcpace_cli", "sidecar", "--config", file, "--listen", f"127.0.0.1:{data}",
        "--admin-listen", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{upstream}",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def listening() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", data)
            writer.close()
            return True
        assert running.returncode is None, "the sidecar has ended"
        return False

    try:
        await until(listening, "the sidecar to listen", STARTING)
        yield Process(running, data)
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_sigterm_under_load_loses_no_call_and_ends_in_order(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.answer = lambda _: json_answer(RESULT)
    async with process(tmp_path, scripted.port) as one, process(tmp_path, scripted.port) as other:
        load = Load(SimpleNamespace(data=one.data))  # type: ignore[arg-type]
        await load.reach(300)
        load.port = other.data  # where the Service leads by then
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await one.process.wait() == 0
        await load.reach(300)
        answers = await load.stop()
    assert set(answers) == {"result"}, answers


async def test_readers_that_stop_reading_cost_the_process_no_memory(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.answer = flood
    async with process(tmp_path, scripted.port) as sidecar:
        streams = []
        for _ in range(21):
            _, writer = await asyncio.open_connection("127.0.0.1", sidecar.data, limit=1024)
            writer.write(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
            streams.append(writer)
            if len(streams) == 1:  # what the first stream needs is no growth
                await settled(sidecar)
                before = sidecar.resident()
        grown = await settled(sidecar) - before
        for writer in streams:
            writer.transport.abort()
    assert grown < 5, f"20 readers that do not read cost {grown:.1f} MB"


async def settled(sidecar: Process) -> float:
    """Its memory, once that is the same for a while."""
    seen: list[float] = []

    async def still() -> bool:
        await asyncio.sleep(0.05)
        seen.append(sidecar.resident())
        return len(seen) >= 10 and max(seen[-10:]) - min(seen[-10:]) < 0.1

    await until(still, "its memory to settle")
    return seen[-1]


@pytest.mark.parametrize(
    "tool", ["plain", "kept", "paged", "parallel", "given up", "missing", "large", "left", "opened"]
)
async def test_no_call_leaves_a_cycle_for_the_collector(
    scripted: Scripted, start: Start, tool: str
) -> None:
    """Cycles are looked for seldom, so calls must not make any."""

    def answer(heard: Heard) -> bytes:
        if b'"given up"' in heard.body:
            return b""
        if b'"missing"' in heard.body:
            return json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}')
        count = 400_000 if b'"large"' in heard.body or b'"left"' in heard.body else 300
        text = ",".join(str(number) for number in range(count))
        # Whoever is next waits for a connection, which must be opened.
        lines = b"Connection: close\r\n" if b'"opened"' in heard.body else b""
        result = b'{"content":[{"type":"text","text":"[%b]"}]}' % text.encode()
        return json_answer(b'{"jsonrpc":"2.0","id":1,"result":%b}' % result, extra=lines)

    scripted.answer = answer
    config = {
        "rateLimits": {"tiers": [{"name": "free", "requestsPerMinute": 100_000}]},
        "cache": {"tools": [{"name": "kept", "ttl": "1m", "scope": "shared"}]},
        "responses": {"page": {"tools": [{"name": "paged", "items": 10}]}},
        "concurrency": {"parallelTool": True},
    }
    sidecar = await start(scripted.port, config)
    arguments = {"calls": [{"tool": "plain", "arguments": {}}]} if tool == "parallel" else {}

    async def call() -> None:
        if tool == "given up":
            _, writer = await sidecar.begin("parallel", {"calls": [{"tool": tool}, {"tool": tool}]})
            await sidecar.busy(3)
            writer.transport.abort()
            await sidecar.idle()
            return
        if tool != "left":
            await sidecar.call(tool, arguments)
            return
        reader, writer = await sidecar.begin(tool)
        await reader.readexactly(100)
        writer.transport.abort()

    await call()
    await sidecar.idle()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        for _ in range(5):
            await call()
        await sidecar.idle()
        gc.collect()
        ours = [type(o) for o in gc.garbage if type(o).__module__.startswith("mcpace_sidecar")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == []
