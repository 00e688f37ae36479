"""Processes of this machine: each by pipes, and in a session and a process group of its own.

What leaves that group ends with it all the same, where its environment says whose it is. What a process
writes to its standard error goes to ours, under the server's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import secrets
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Final, cast

from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.stdio import strays
from mcpace_sidecar.stdio.channel import Channel, Heard, Launch
from mcpace_sidecar.stdio.guard import Guard

LINGER: Final = 1.0
"""Seconds between a process's end and that of its output, after which the other is not waited for."""
_MOST_LINES: Final = 1000
"""Lines that wait for a standard error that nobody reads."""
_LONGEST: Final = 16 << 10
"""Bytes of a line of its standard error that are held until it is whole."""


class _Child(asyncio.SubprocessProtocol, Channel):
    """One process."""

    def __init__(self, process: Heard, pipes: Pipes, mark: str) -> None:
        """`mark`: by which all that it starts is known."""
        self._process = process
        self._mark = mark
        self._pipes = pipes
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None
        self._group = 0
        self._said = b""
        self._exited = self._closed = False

    # -- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._group = self._transport.get_pid()
        self._pipes.began(self._group)
        self._input = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        self._process.started(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._process.feed(data)
        else:
            self._tell(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        if fd == 0:
            closed, self._input = self._input is not None, None
            if closed:  # not by us: it reads nothing any more
                self._part()
        elif fd == 1:
            self._closed = True
            self._part()

    def process_exited(self) -> None:
        self._exited = True
        self._part()

    def _part(self) -> None:
        """It has ended, or written its last: the other follows."""
        if self._exited and self._closed:
            self._lose()
        else:
            asyncio.get_running_loop().call_later(LINGER, self._lose)

    def _lose(self) -> None:
        assert self._transport is not None
        code = self._transport.get_returncode()
        if self._said:
            self._tell(b"\n")
        closed = "closed its standard output" if self._closed else "closed its standard input"
        self._process.lost(closed if code is None else ended(code))

    # -- Channel

    def write(self, data: bytes) -> None:
        if self._input is not None and not self._input.is_closing():  # as one that has just ended is
            self._input.write(data)

    def unread(self) -> int:
        return self._input.get_write_buffer_size() if self._input is not None else 0

    def end_input(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def lives(self) -> bool:
        try:
            os.killpg(self._group, 0)
        except ProcessLookupError:
            return strays.alive(self._mark)
        except OSError:
            return True
        return True

    def close(self) -> None:
        self._pipes.left(self._group)
        if self._transport is not None:
            self._transport.close()

    def echo(self, line: bytes) -> None:
        self._tell(line + b"\n")

    def _signal(self, number: signal.Signals) -> None:
        # A group that has ended may be a stranger's by its number: `lives` was asked just before.
        with contextlib.suppress(OSError):
            os.killpg(self._group, number)
        strays.send(self._mark, number)

    def _tell(self, data: bytes) -> None:
        """Pass on what it says of itself, line by line."""
        *lines, rest = (self._said + data).split(b"\n")
        if len(rest) > _LONGEST:
            lines, rest = [*lines, rest], b""
        self._said = rest
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            self._pipes.told.say(f"{self._pipes.name}[{self._group}]: {text}\n")


class _Told:
    """Writes to our standard error by a thread: whoever reads that may stop, and we do not."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._writer: threading.Thread | None = None

    def say(self, line: str) -> None:
        """Write it next; without room it is dropped."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, daemon=True)
            self._writer.start()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(line)
                sys.stderr.flush()

    def end(self) -> None:
        """Write what is left, for a moment."""
        if self._writer is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait(None)
            self._writer.join(LINGER)


class Pipes(Launch):
    """Starts a command, each time anew."""

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str], name: str) -> None:
        """`name`: what its lines on standard error begin with."""
        self.command = command
        self._environment = environment
        self.name = name
        self.told = _Told()
        self._guard: Guard | None = None
        self._mark = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self.groups: set[int] = set()
        """The processes' groups, as far as they live: each is a session too."""

    async def start(self, process: Heard) -> None:
        """Start it."""
        mark = f"{self._mark}.{next(self._numbers)}"
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: _Child(process, self, mark), *self.command,
                env={**self._environment, strays.MARK: mark}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            words = f"Cannot start '{self.command[0]}': {error.strerror}."
            raise UpstreamError("connect", words, refused=True) from None

    def began(self, group: int) -> None:
        """A process of this group runs: it ends with us, however we end."""
        if self._guard is None:
            self._guard = Guard(self._mark)
        self._guard.watch(group)
        self.groups.add(group)

    def left(self, group: int) -> None:
        """Nothing is left of it."""
        if self._guard is not None:
            self._guard.forget(group)
        self.groups.discard(group)

    def close(self) -> None:
        """Let the guard go."""
        self.told.end()
        if self._guard is not None:
            self._guard.dismiss()


def ended(code: int) -> str:
    """How a process ended: `ended with exit code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
