"""The server that `mcpace run` starts: a session and a process group of its own, which end with us.

Whatever the command starts in turn (`npm start`, `sh -c '…; true'`) is of the group. What leaves it
(setsid, a double fork) is still below us on Linux, as the orphans there become our children, and ends
with us too. A guard, a shell that reads from a pipe of ours, ends the group where we are killed and can
end nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import Collection, Mapping
from typing import Final, TextIO

from mcpace_cli import processes
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.stdio.guard import Guard

END_TIMEOUT: Final = 10.0
"""Seconds that the server gets to end after SIGTERM."""
_KILLED: Final = 2.0
_LOOK: Final = 0.1


def servers_environment(values: Mapping[str, str]) -> dict[str, str]:
    """That of a server which is started. What is ours is no business of its: stores, the admin token."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MCPACE_")}
    return {**ours, **values}


class Child:
    """A server that runs, with all that it starts."""

    def __init__(
        self, process: asyncio.subprocess.Process, stdin: int, adopted: Collection[int] | None
    ) -> None:
        """`stdin` is our end of its standard input; `adopted`: what was below us before, if we adopt."""
        self.pid = process.pid
        self._process = process
        self._stdin = stdin
        self.asked = False
        """Whether it was given something to read."""
        self._guard = Guard()
        self._guard.watch(process.pid)
        self._others = None if adopted is None else {*adopted, self._guard.pid}
        """What is below us and not the server's; None: orphans are not ours."""

    @classmethod
    async def start(
        cls, command: tuple[str, ...], environment: Mapping[str, str], output: TextIO | None = None
    ) -> Child:
        """Start it; ConfigError where it cannot be started."""
        # Its output goes to standard error: standard output holds the URL and nothing else. Its input
        # stays open and empty: some servers end when it is closed.
        others = processes.descendants(os.getpid()) if processes.adopt() else None
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                stdin=reading,
                stdout=(output or sys.stderr).fileno(),
                stderr=output.fileno() if output is not None else None,
                start_new_session=True,
            )
        except OSError as error:
            os.close(writing)
            raise ConfigError(f"Cannot start '{command[0]}': {error.strerror}") from error
        finally:
            os.close(reading)
        os.set_blocking(writing, False)
        return cls(process, writing, others)

    def members(self) -> set[int]:
        """The server and all that it has started, as far as it lives."""
        if self._others is None:
            return self._session()
        return processes.descendants(os.getpid(), self._others)

    def _session(self) -> set[int]:
        """The processes of its session that live; only itself where the system does not tell."""
        found = processes.session(self.pid)
        if found is not None:
            return found
        with contextlib.suppress(OSError):
            os.killpg(self.pid, 0)
            return {self.pid}
        return set()

    def reads(self) -> bool:
        """Whether it has read from its standard input; the first question gives it an empty line."""
        try:
            if not self.asked:
                os.write(self._stdin, b"\n")
                self.asked = True
                return False
            unread = fcntl.ioctl(self._stdin, termios.FIONREAD, b"\0" * 4)
        except OSError:
            return False
        return int.from_bytes(unread, sys.byteorder) == 0

    async def wait(self) -> int:
        """Wait until it and all of its session have ended; return its own exit code."""
        while (code := self._process.returncode) is None or self._session():
            self._bury()
            await asyncio.sleep(_LOOK)
        return code

    async def end(self) -> None:
        """End the whole of it: asked first, killed after a while."""
        for number, patience in ((signal.SIGTERM, END_TIMEOUT), (signal.SIGKILL, _KILLED)):
            deadline = time.monotonic() + patience
            self._signal(number)
            while self._lives() and time.monotonic() < deadline:
                await asyncio.sleep(_LOOK)
                self._bury()
                if number == signal.SIGKILL:
                    self._signal(number)  # what was started meanwhile
        self._release()

    def kill(self) -> None:
        """End at once what has not ended."""
        if not self._guard.dismissed:
            self._signal(signal.SIGKILL)
            self._release()

    def _lives(self) -> bool:
        return self._process.returncode is None or bool(self.members())

    def _bury(self) -> None:
        """What was adopted and has ended stays in the system's table until it is asked about."""
        if self._others is not None:
            processes.bury({self.pid, self._guard.pid})

    def _signal(self, number: signal.Signals) -> None:
        # Once it has ended, its number may be that of a stranger's group.
        whole = self._others is None or self._process.returncode is None
        if whole:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)
        for pid in self.members():
            with contextlib.suppress(OSError):
                if not whole or os.getpgid(pid) != self.pid:
                    os.kill(pid, number)

    def _release(self) -> None:
        """Let the guard go, and its standard input be at its end."""
        if not self._guard.dismissed:
            self._guard.dismiss()
            os.close(self._stdin)
