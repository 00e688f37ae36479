"""A terminal on which a test runs a program, presses keys, and looks at what is drawn."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.kit.waiting import DEADLINE, STARTING

_SHELL: Final = """
import fcntl, os, signal, sys, termios
told, held = int(sys.argv[1]), int(sys.argv[2])
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
pid = os.fork()
if not pid:
    os.close(told)
    os.close(held)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[3], sys.argv[3:])
os.write(told, b"%d\\n" % pid)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
os.write(told, b"%d\\n" % code)
os.read(held, 1)
"""
"""What a shell is to a program: it gives it the foreground, waits for it, and keeps the terminal."""
_HOME: Final = b"\x1b[H"
_OBEYED: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_OURS: Final = re.compile(rb"\x1b\[(?:[0-9;]*m|H|\?1049[hl]|\?25[hl])|[\r\n]")
"""Colours, home, another screen, the cursor; the ends of lines."""
_OTHERS: Final = re.compile(rb"[\x00-\x1f\x7f][^\x00-\x1f]{0,4}")
_KEYS: Final = "q quit"
"""What the last line of a frame begins with."""
_USUAL: Final = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
_DECIDING: Final = frozenset({"NO_COLOR", "COLUMNS", "LINES", "LC_ALL"})
"""Variables by which others would decide what is drawn."""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(
        self, command: Sequence[object], environment: dict[str, str], cwd: Path | None, width: int,
        height: int,
    ) -> None:  # fmt: skip
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self.width, self.height = width, height
        self._size()
        self.before = termios.tcgetattr(self._slave)
        self.output = b""
        around = {name: value for name, value in os.environ.items() if name not in _DECIDING}
        self._told, told = os.pipe()
        held, self._held = os.pipe()
        os.set_blocking(self._told, False)
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, str(told), str(held), *map(str, command)],
            env=around | _USUAL | environment, cwd=cwd, pass_fds=(told, held),
            stdin=self._slave, stdout=self._slave, stderr=self._slave,
        )  # fmt: skip
        os.close(told)
        os.close(held)
        self._said = b""

    def _size(self) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.height, self.width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._size()  # the system tells the program in front, by SIGWINCH

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    @property
    def pid(self) -> int:
        return int(self.until(lambda: self._numbers, "the program to start")[0])

    @property
    def code(self) -> int | None:
        """The program's exit code, as subprocess tells it; None while it runs."""
        numbers = self._numbers
        return int(numbers[1]) if len(numbers) > 1 else None

    @property
    def _numbers(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            self._said += os.read(self._told, 64)
        return self._said.split(b"\n")[:-1]

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    @property
    def frame(self) -> str:
        """What was last drawn whole; empty where nothing was."""
        for piece in reversed(self.output.split(_HOME)[1:]):
            lines = _lines(piece)
            if len(lines) >= self.height and lines[self.height - 1].startswith(_KEYS):
                return "\n".join(lines[: self.height])
        return ""

    @property
    def text(self) -> str:
        """All that was ever written, without what a terminal obeys."""
        return "\n".join(_lines(self.output))

    @property
    def obeyed(self) -> set[bytes]:
        """What the terminal was told that is neither text nor what a view is drawn with."""
        return set(_OTHERS.findall(_OURS.sub(b"", self.output)))

    @property
    def is_as_before(self) -> bool:
        """Whether it takes lines and echoes them as before, shows its first screen, and a cursor."""
        screens = re.findall(rb"\x1b\[\?1049([hl])", self.output)
        cursors = re.findall(rb"\x1b\[\?25([hl])", self.output)
        usual = (not screens or screens[-1] == b"l") and (not cursors or cursors[-1] == b"h")
        return usual and termios.tcgetattr(self._slave) == self.before

    def until(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
        """Read until the condition is true, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(self._master, 65536):
                    self.output += data
            if value := condition():
                return value
            left = deadline - time.monotonic()
            assert left > 0, (
                f"waited {seconds:g} s in vain: {what}; drawn:\n{self.frame}\n{self.text[-2000:]}"
            )
            select.select([self._master], [], [], min(left, 0.05))

    def until_drawn(self, *words: str, seconds: float = STARTING) -> str:
        """Read until the last frame shows all of these, and return it."""

        def drawn() -> str:
            frame = self.frame
            if all(each in frame for each in words):
                return frame
            assert self.code is None, f"it has ended; it wrote:\n{self.text[-4000:]}"
            return ""

        return str(self.until(drawn, f"{words} to be drawn", seconds))

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        return int(self.until(lambda: self._numbers[1:], "its end")[0])

    def stopped(self) -> None:
        """Wait until it is stopped, as by Ctrl-Z (proc(5))."""
        stat = Path(f"/proc/{self.pid}/stat")
        self.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it to stop")

    def close(self) -> None:
        try:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            self.ended()
        finally:
            self.send(signal.SIGKILL)
            os.close(self._held)
            self._shell.wait(DEADLINE)
            for each in (self._told, self._master, self._slave):
                os.close(each)


def _lines(written: bytes) -> list[str]:
    return _OBEYED.sub(b"", written).decode(errors="replace").replace("\r", "").split("\n")


@contextlib.contextmanager
def on_a_terminal(
    *command: object, cwd: Path | None = None, width: int = 120, height: int = 40, **environment: str
) -> Iterator[Terminal]:
    """A program on a terminal, ended with the `with` statement."""
    terminal = Terminal(command, environment, cwd, width, height)
    try:
        yield terminal
    finally:
        terminal.close()
