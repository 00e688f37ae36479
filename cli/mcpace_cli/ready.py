"""When the server that `mcpace run` serves is ready, and why it is not yet."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from mcpace_cli import sockets
from mcpace_cli.child import Child
from mcpace_cli.live import tie
from mcpace_cli.said import say
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.stdio.pipes import ended

_AT_ONCE: Final = 10.0
"""Seconds within which a server that ends has ended at once."""
_ASKED: Final = 3.0
"""Seconds until a server that does not listen is looked at: does it read its standard input?"""
_PATIENCE: Final = 5.0
"""Seconds until it is said what is waited for; then after twice as long, and so on."""
_STDIO: Final = "If it speaks MCP over stdio, write `transport: stdio` in the manifest, or leave that out."
_TRIES: Final = 3
"""Processes that fail in a row before any has answered, after which the command is believed to be wrong."""


def places(sidecar: Sidecar) -> tuple[str, str]:
    """Where this machine calls it, and the page on which it is looked at."""
    admin, data = map(_reached, sidecar.listening)
    return f"http://{data}{sidecar.configuration.settings.config.endpoint}", f"http://{admin}/"


async def announce(sidecar: Sidecar, port: int, child: Child | None, *, led: bool) -> bool:
    """Wait until the server is ready, and say so; False where it is somebody else's."""
    began, due = time.monotonic(), _PATIENCE
    processes = sidecar.processes
    while not sidecar.handshake.ready:
        await asyncio.sleep(0.1)
        if processes is not None and processes.in_a_row >= _TRIES and not sidecar.handshake.ready:
            say(processes.problem or "The server's processes end.", "red")
            return False
        waited = time.monotonic() - began
        if child is not None and waited >= _ASKED and not child.asked and not sockets.listens(port):
            child.reads()
        if waited >= due and not sidecar.handshake.ready:
            due *= 2
            say(f"Waiting for the server ({waited:.0f} s): {_why(sidecar, port, child)}")
    stranger = sockets.stranger(port, child.members()) if child is not None else None
    if stranger is not None:
        say(f"{stranger} listens on port {port}, and the command did not start it.", "red")
        return False
    server = sidecar.catalog.server
    if server is not None and not sidecar.catalog.locked:
        count = len(sidecar.catalog.tools)
        name = f"{server.name} {server.version}".strip() or "a server without a name"
        tools = "1 tool" if count == 1 else f"{count} tools"
        say(f"Ready: {name}, {tools}, MCP {server.protocol_version}")
    else:
        say("Ready: a server that speaks to its own clients alone, so its tools are not known yet")
    sidecar.findings.tell()
    admin, data = sidecar.listening
    for place, what in ((data, "call"), (admin, "read the metrics")):
        if not place.is_loopback:
            say(f"{place} is no address of this machine alone: others may {what} too", "yellow")
    url, page = places(sidecar)
    say(f"A page to look at: {page} (for programs: {page}metrics, {page}stats)")
    if led:
        tie.tell(tie.Told(url, page, ready=True))
    else:
        # The one line on standard output: for scripts, and for people to paste into a client.
        print(url, flush=True)
    return True


def say_end(code: int, port: int, sidecar: Sidecar, lived: float) -> None:
    """Say how the server has ended, which lived for so many seconds."""
    say(f"The server {ended(code)}.", "red")
    if code == 0 and lived < _AT_ONCE and not sidecar.handshake.was_ready.is_set():
        say(f"It never listened on port {port}. {_STDIO} If it went to the background, keep it in front.")


def _reached(place: Address) -> Address:
    """Where this machine reaches what listens there: an address of none is every one."""
    here = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - because nothing is bound
    return Address(here.get(place.host, place.host), place.port)


def _why(sidecar: Sidecar, port: int, child: Child | None) -> str:
    """Why the server is not ready, and what to do."""
    problem = sidecar.handshake.problem
    if sidecar.processes is not None:
        return sidecar.processes.problem or "its first process has not answered yet."
    if sockets.listens(port):
        return problem
    if child is None:
        return f"{problem} Start it on port {port}, write its `port`, or give its command after --."
    others = sorted(sockets.ports_of(child.members()) - {port})
    if others:
        listed = ", ".join(map(str, others))
        return f"{problem} The command listens on {listed}: write `port: {others[0]}` in the manifest."
    if child.reads():
        return f"Nothing listens on port {port}, and the command reads its standard input. {_STDIO}"
    return f"{problem} Let it listen on $PORT, which is {port} for it, or write its `port` in the manifest."
