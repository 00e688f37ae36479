"""The terminal while frames are drawn on it: a screen of its own, each key at once, and nothing echoed.

It is as it was when we leave it, however we do: where we are killed and can do nothing, a shell does it,
which reads from a pipe of ours. Drawing is done by a thread: a terminal may stop to take what is written,
and what is served does not stop with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Self, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

K = TypeVar("K")

_STDIN: Final = 0
_STDOUT: Final = 1
_USUAL: Final = (80, 24)
"""Columns and lines of one that does not say how large it is."""
_SEQUENCE: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)

_GUARD: Final = """
trap '' INT TERM HUP QUIT TSTP
exec 3>&1
read -r word && exit
[ "$(stty -g <&3)" != "$2" ] || stty "$1" <&3
printf '\\033[?1049l\\033[?25h'
"""
"""Puts a terminal back that is still as we made it."""


def pressed(sent: bytes, keys: Mapping[bytes, K]) -> list[K]:
    """The keys that are known by what they send. Who is gone sends b"", which may be known too."""
    return [keys[each] for each in _SEQUENCE.findall(sent) or [b""] if each in keys]


def is_ours() -> bool:
    """Whether there is a terminal to draw on, and no other program has the foreground."""
    if not all(map(os.isatty, (_STDIN, _STDOUT, 2))):
        return False
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return False
    try:
        return os.tcgetpgrp(_STDIN) == os.getpgrp()
    except OSError:
        return False


class Terminal(Generic[K]):
    """It, as a context."""

    def __init__(
        self, keys: Mapping[bytes, K], press: Callable[[K], None], changed: Callable[[], None]
    ) -> None:
        """`keys` by what they send; `changed`: its size has, or what it shows is lost."""
        self._keys = keys
        self._press = press
        self._changed = changed
        self._before = termios.tcgetattr(_STDIN)
        self._guard: subprocess.Popen[bytes] | None = None
        self._live: Live | None = None
        self._drawing = ThreadPoolExecutor(1, "terminal")
        # Characters that it has no way to show are no reason to fail.
        self._file = os.fdopen(_STDOUT, "w", encoding=sys.stdout.encoding, errors="replace", closefd=False)
        self._console = Console(
            file=self._file, force_terminal=True, force_interactive=True, highlight=False, emoji=False,
            markup=False,
        )  # fmt: skip

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and lines."""
        try:
            width, height = os.get_terminal_size(_STDOUT)
        except OSError:
            return _USUAL
        return width or _USUAL[0], height or _USUAL[1]

    @property
    def knows_unicode(self) -> bool:
        """Whether it is told characters beyond ASCII."""
        return self._file.encoding.lower().replace("-", "").startswith("utf")

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            self._take()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        loop = asyncio.get_running_loop()
        self._give_back()
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGTSTP)
        self._drawing.shutdown(wait=False)

    async def draw(self, shown: RenderableType, size: tuple[int, int]) -> None:
        """Show it, made for that size, in place of what is shown."""
        await asyncio.get_running_loop().run_in_executor(self._drawing, self._draw, shown, size)

    def _draw(self, shown: RenderableType, size: tuple[int, int]) -> None:
        if self._live is not None:
            self._console.size = size
            with contextlib.suppress(OSError):  # it is gone, and SIGHUP says so
                self._live.update(shown, refresh=True)

    def _take(self) -> None:
        mode = termios.tcgetattr(_STDIN)
        usual = _mode_in_words()
        mode[0] &= ~termios.IXON  # nothing stops what we draw
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(_STDIN, termios.TCSANOW, mode)
        self._guard = _guard(usual, _mode_in_words())
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._live.start()
        asyncio.get_running_loop().add_reader(_STDIN, self._read)

    def _give_back(self) -> None:
        asyncio.get_running_loop().remove_reader(_STDIN)
        with contextlib.suppress(OSError):
            self._drawing.submit(self._stop).result()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(_STDIN, termios.TCSANOW, self._before)
        if self._guard is not None:
            self._guard.communicate(b"\n")
            self._guard = None

    def _stop(self) -> None:
        """After what is being drawn."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _read(self) -> None:
        try:
            sent = os.read(_STDIN, 1024)
        except OSError:
            sent = b""
        if not sent:  # it is gone
            asyncio.get_running_loop().remove_reader(_STDIN)
        for key in pressed(sent, self._keys):
            self._press(key)

    def _suspend(self) -> None:
        """Ctrl-Z: what is served goes on, and is shown again when we are."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._changed()


def _mode_in_words() -> str:
    """The terminal's mode, as stty reads it; empty where there is no stty."""
    try:
        told = subprocess.run(
            ["stty", "-g"],  # noqa: S607 - because it is where it is
            stdin=_STDIN,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return told.stdout.strip()


def _guard(usual: str, ours: str) -> subprocess.Popen[bytes]:
    """What puts the terminal back where we are killed, until it is given a line."""
    return subprocess.Popen(  # noqa: S603 - because the shell's words are ours
        ["/bin/sh", "-c", _GUARD, "mcpace-terminal", usual, ours],
        stdin=subprocess.PIPE,
        stdout=_STDOUT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
