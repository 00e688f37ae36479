"""The product at work on one endpoint, with the official client.

Starts the weather server behind the sidecar, from its manifest, and makes three calls: one that
the server answers, the same from the cache, and one over the limit. Then serves until Ctrl-C;
without a terminal it ends, with exit code 0 only if all three went so.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mcp import Client, MCPError
from rich.console import Console
from rich.markup import escape

HERE = Path(__file__).parent
CALL: dict[str, Any] = {"name": "get-weather", "arguments": {"city": "Paris"}}

out = Console(highlight=False, soft_wrap=True, emoji=False)


async def main() -> int:
    """Run the tour; return the exit code."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with tempfile.TemporaryDirectory() as folder:
        return await show(manifest(Path(folder)))


def manifest(folder: Path) -> Path:
    """The tour's manifest, with a port for the server that nobody else means by habit."""
    text = (HERE / "tour.yaml").read_text(encoding="utf-8")
    path = folder / "tour.yaml"
    path.write_text(text.replace("spec:\n", f"spec:\n  port: {free_port()}\n", 1), encoding="utf-8")
    return path


def free_port() -> int:
    """A port that nothing listens on; the next one who asks is given another."""
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        return int(trying.getsockname()[1])


async def show(path: Path) -> int:
    """Run the manifest, and make the calls."""
    server = [sys.executable, str(HERE / "weather/server.py")]
    admin = free_port()
    ports = [f"--admin-listen=127.0.0.1:{admin}"]
    command = [sys.executable, "-m", "mcpace_cli", "run", str(path), *ports, "--", *server]
    out.print("Starting an example MCP server behind the sidecar ...")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            return await process.wait() or 1
        out.print(f"\nServing [bold]{escape(url)}[/]\n")
        shown = await demonstrate(url, admin)
        if shown and sys.stdout.isatty() and sys.stdin.isatty():
            out.print(f"\nStill serving {url}. Ctrl-C ends it.")
            await wait_for_interrupt(process)
        return 0 if shown else 1
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def wait_for_interrupt(process: asyncio.subprocess.Process) -> None:
    """Wait for Ctrl-C, or for the end of the server."""
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    waits = [asyncio.create_task(interrupted.wait()), asyncio.create_task(process.wait())]
    await asyncio.wait(waits, return_when="FIRST_COMPLETED")
    for task in waits:
        task.cancel()


async def demonstrate(url: str, admin: int) -> bool:
    """Make the three calls; return whether each went as it should."""
    async with Client(url) as client:
        first, first_ms = await timed(client)
        second, second_ms = await timed(client)
        third, third_ms = await timed(client)
    for line in (
        f"  1. get-weather(Paris)   {first_ms:7.1f} ms   {describe(first)}",
        f"  2. the same again       {second_ms:7.1f} ms   {describe(second)}, from the cache",
        f"  3. once more            {third_ms:7.1f} ms   {describe(third)}",
    ):
        out.print(line, markup=False)
    answered = not isinstance(first, MCPError) and not isinstance(second, MCPError)
    refused = isinstance(third, MCPError) and third.error.code == 42900 and third.error.data
    metrics = await read_metrics(admin)
    cached = 'mcpace_cache_requests_total{result="memory",tool="get-weather"} 1.0' in metrics
    if not (answered and refused and cached):
        out.print("[red]This is not what should have happened.[/]")
        return False
    out.print(f"\n  The cache answered {first_ms / second_ms:.0f} times faster than the server.")
    return True


async def timed(client: Client) -> tuple[Any, float]:
    """Call the tool; return its result or error, and the milliseconds it took."""
    began = time.perf_counter()
    try:
        answer: Any = await client.call_tool(**CALL)
    except MCPError as error:
        answer = error
    return answer, (time.perf_counter() - began) * 1000


def describe(answer: Any) -> str:
    """The answer in a few words."""
    if isinstance(answer, MCPError):
        retry = (answer.error.data or {}).get("retryAfterMs", 0)
        return f"refused by the tier's limit: retry in {retry / 1000:.1f} s"
    content = answer.structured_content
    return f"{content['degrees']} degrees, {content['sky']}"


async def read_metrics(admin: int) -> str:
    """What the admin port tells Prometheus."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = (await reader.read(-1)).decode()
    writer.close()
    return text


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except asyncio.CancelledError:
        sys.exit(130)
