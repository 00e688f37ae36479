"""Runs several servers, a process each, shows them, and ends them with itself."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final, Protocol

from mcpace_cli.child import servers_environment
from mcpace_cli.live import terminal
from mcpace_cli.live.plainly import Plainly
from mcpace_cli.live.served import Served
from mcpace_cli.live.servers import Server
from mcpace_cli.live.view import View
from mcpace_sidecar.stdio.pipes import ended

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_LOOK: Final = 0.05
_PARTING: Final = 10.0
"""Seconds that servers get to end where we fail; they end all the same."""
_OPENING: Final = 10.0
"""Seconds in which a browser that cannot be opened says so."""
_OPEN: Final = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"
_LAST: Final = 12
"""Lines that are shown of what a server said that has ended, once the view is closed."""


class Shows(Protocol):
    """How they are shown."""

    merged: bool
    """Whether what they write to standard output is shown too, and does not go to ours."""

    async def heard(self, served: Served, lines: Sequence[str]) -> None:
        """A server has said this."""

    def told(self, served: Served) -> None:
        """It is known where a server is."""

    def say(self, words: str) -> None:
        """Something of ours is to be said."""

    async def show(self) -> None:
        """Show them until it is cancelled."""


def run(servers: Sequence[Server], *, plain: bool, opens: bool) -> int:
    """Run them until they are asked to end, or have ended; the exit code. ConfigError.

    `plain`: by lines even on a terminal; `opens`: each one's page is opened in a browser.
    """
    viewed = not plain and terminal.is_ours()
    return asyncio.run(_Lead([Served(server) for server in servers], opens=opens).run(viewed=viewed))


class _Lead:
    def __init__(self, served: Sequence[Served], *, opens: bool) -> None:
        self._served = served
        self._opens = opens
        self._asked = 0
        """How often we were asked to end."""
        self._shows: Shows
        self._opening: set[asyncio.Task[None]] = set()
        self._codes: list[int] = []

    async def run(self, *, viewed: bool) -> int:
        """Until all have ended; the exit code."""
        loop = asyncio.get_running_loop()
        for number in _ENDS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            loop.add_signal_handler(number, self._end)
        self._shows = View(self._served, self._end) if viewed else Plainly(self._served)
        showing = asyncio.ensure_future(self._shows.show())
        serving = asyncio.ensure_future(self._serve())
        try:
            await asyncio.wait({showing, serving}, return_when="FIRST_COMPLETED")
        finally:
            for each in (serving, showing):
                each.cancel()
            results = await asyncio.gather(serving, showing, return_exceptions=True)
            await self._part()
        for result in results:
            if isinstance(result, Exception):
                raise result
        if viewed:
            self._say_last_words()
        return max(self._codes)

    async def _serve(self) -> None:
        await asyncio.gather(*map(self._follow, self._served))

    async def _follow(self, served: Served) -> None:
        await served.run(self._shows.heard, self._told, merged=self._shows.merged)
        assert served.code is not None
        ending = 0 if self._asked else 1
        self._codes.append(served.code if served.code >= 0 else ending)
        left = sum(each.lives for each in self._served)
        if left and not self._asked:
            others = "one other goes on" if left == 1 else f"{left} others go on"
            self._shows.say(f"{served.name} {ended(served.code)}; {others}")

    def _end(self) -> None:
        """Ask all of them to end; the second time, to do so at once."""
        self._asked += 1
        for served in self._served:
            served.end()
        self._shows.say("Ending; once more ends it at once" if self._asked == 1 else "Ending at once")

    def _told(self, served: Served) -> None:
        self._shows.told(served)
        if self._opens and served.told is not None and served.told.ready:
            task = asyncio.get_running_loop().create_task(self._open(served.told.page))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, page: str) -> None:
        """Open it in a browser, which is told no secret, and writes nothing into what is shown."""
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is our own
            [sys.executable, "-P", "-c", _OPEN, page],
            env=servers_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _OPENING
        while process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK)
        if process.returncode:
            self._shows.say(f"No browser could be opened: look at {page}")

    async def _part(self) -> None:
        """Wait for those whose tie is cut: only where we have failed do any live still."""
        deadline = time.monotonic() + _PARTING
        while any(served.lives for served in self._served) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK)

    def _say_last_words(self) -> None:
        """What those said that ended badly: the view is gone."""
        for served in self._served:
            if served.code:
                lines = list(served.lines)[-_LAST:]
                print(f"{served.name} {ended(served.code)}:", *lines, sep="\n", file=sys.stderr)
