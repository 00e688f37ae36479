"""One process of the server: its lines in and out, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import msgspec

from mcpace_sidecar.http.ledger import Holding, Ledger
from mcpace_sidecar.mcp.jsonrpc import Said
from mcpace_sidecar.stdio.channel import Channel
from mcpace_sidecar.stdio.lines import LIGHT, Cutter, utf8

STARTING: Final = 0
"""It is being started: what is written waits."""
RUNNING: Final = 1
ENDING: Final = 2
"""It was asked to end, and nobody hears it any more."""
ENDED: Final = 3
"""It has ended; what it has started may still live."""
_NAMES: Final = ("starting", "running", "ending", "ended")

TO_END: Final = 2.0
"""Seconds that a process gets to end when its input has ended."""
TO_TERMINATE: Final = 3.0
"""The same after SIGTERM; then it is killed."""
MOST_UNREAD: Final = 16 << 20
"""Bytes that wait for a process that does not read, beyond which it is given nothing more."""

_said: Final = msgspec.json.Decoder(Said)


class Holder:
    """Who has a process."""

    def on_line(self, process: Process, line: bytes, said: Said) -> None:
        """It has written a message."""
        raise NotImplementedError

    def on_dropped(self, process: Process, message_id: bytes) -> None:
        """It has written a message too long to be read; the id is empty where it bears none."""
        raise NotImplementedError

    def on_lost(self, process: Process, words: str) -> None:
        """It has ended, unasked; how, in words."""
        raise NotImplementedError


class Process:
    """It, from its start until nothing of it is left."""

    __slots__ = (
        "_channel",
        "_cutter",
        "_due",
        "_killing",
        "_on_end",
        "_on_error",
        "_unread",
        "_waiting",
        "answered",
        "gone",
        "holder",
        "junk",
        "number",
        "probed",
        "since",
        "state",
    )

    def __init__(
        self, number: int, holder: Holder | None, gathered: Ledger,
        on_end: Callable[[Process, str], str], gone: Callable[[Process], None],
        on_error: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        """`on_end` is told how it ended unasked, and says so in better words; `gone`: nothing is left."""
        self.number = number
        self.holder = holder
        """None: nobody's yet, or it was asked to end."""
        self.gone = gone
        self.state = STARTING
        self.since = monotonic()
        self.answered = False
        """Whether it has answered anything."""
        self.probed = False
        """Whether it was asked what some servers end at."""
        self.junk = 0
        """Lines that were no messages."""
        self._on_end = on_end
        self._on_error = on_error
        self._cutter = Cutter(gathered)
        self._unread = Holding(gathered)
        self._channel: Channel | None = None
        self._waiting: list[bytes] = []
        self._due = 0.0
        """When the next step is taken to its end."""
        self._killing = 0

    @property
    def ran(self) -> bool:
        """Whether it was started at all."""
        return self._channel is not None

    @property
    def baffled(self) -> bool:
        """Whether it has ended at that: no failure, but an answer."""
        return self.probed and self.ran and not self.answered

    @property
    def usable(self) -> bool:
        """Whether it may be given a message."""
        return self.state <= RUNNING

    @property
    def stuck(self) -> bool:
        """Whether it does not read what it is given, and there is no room for more of that."""
        return not self._weigh() or self._unread.size > MOST_UNREAD

    def _weigh(self) -> bool:
        """Count what it has not read; whether there is room for it."""
        unread = self._channel.unread() if self._channel is not None else 0
        if unread <= LIGHT:
            self._unread.resize(0)
            return True
        return self._unread.resize(unread)

    def write(self, line: bytes) -> None:
        """Give it a message, which `line_of` has made a line."""
        if self._channel is None:
            self._waiting.append(line + b"\n")
        else:
            self._channel.write(line + b"\n")
            if len(line) > LIGHT:
                self._weigh()

    # -- what its channel tells

    def started(self, channel: Channel) -> None:
        """It runs."""
        self._channel = channel
        if self.state == ENDING:
            channel.end_input()
            return
        self.state = RUNNING
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            channel.write(line)

    def feed(self, data: bytes) -> None:
        """It has written this to its standard output."""
        for line in self._cutter.feed(data):
            if line:
                self._take(line)
        if self._cutter.dropped:
            dropped, self._cutter.dropped = self._cutter.dropped, []
            for message_id in dropped:
                if self.holder is not None:
                    self.holder.on_dropped(self, message_id)

    def _take(self, line: bytes) -> None:
        line = utf8(line)
        try:
            said = _said.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if said is None or (said.method is None and not said.result and not said.error):
            if line.strip():
                self.junk += 1
                if self._channel is not None:
                    self._channel.echo(line)
            return
        holder = self.holder
        if holder is None:
            return
        try:
            holder.on_line(self, line.strip() if line.endswith(b"\r") else line, said)
        except Exception as error:  # noqa: BLE001 - because the process goes on, and so do others' calls
            self._on_error(error)

    def lost(self, how: str) -> None:
        """It has ended, or could not be started."""
        if self.state == ENDED:
            return
        asked = self.state == ENDING
        self.state = ENDED
        self._cutter.release()
        self._unread.resize(0)
        if asked:
            return
        self._due = monotonic()
        words = self._on_end(self, how)
        holder, self.holder = self.holder, None
        if holder is not None:
            try:
                holder.on_lost(self, words)
            except Exception as error:  # noqa: BLE001 - because of the same
                self._on_error(error)

    # -- its end

    def end(self) -> None:
        """Let it end: its input ends now, it is asked after a while, and at last it is killed."""
        if self.state >= ENDING:
            return
        self.state = ENDING
        self.holder = None
        self._due = monotonic() + TO_END
        self._unread.resize(0)
        if self._channel is not None:
            self._channel.end_input()

    def hurry(self) -> None:
        """Kill it now, if it ends."""
        self._due, self._killing = 0.0, 1

    def look(self, now: float) -> bool:
        """Take the next step where it is due; whether nothing is left of it."""
        if self.state < ENDING:
            self._weigh()
            return False
        channel = self._channel
        if channel is None:
            return self.state == ENDED
        if self.state == ENDED and not channel.lives():
            channel.close()
            return True
        if now >= self._due:
            if self._killing == 0:
                channel.terminate()
                self._due = now + TO_TERMINATE
            else:
                channel.kill()
            self._killing = 1
        return False

    def __repr__(self) -> str:
        said = [_NAMES[self.state], f"{monotonic() - self.since:.0f} s"]
        if self.junk:
            said.append(f"{self.junk} lines that are no messages")
        if self._channel is not None and self._channel.unread():
            said.append(f"{self._channel.unread()} bytes unread")
        return f"<Process {self.number} {', '.join(said)}>"
