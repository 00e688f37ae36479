"""`mcpace run` as a person runs it, on ports of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tests.kit.programs import ROOT
from tests.kit.waiting import DEADLINE, STARTING
from tools.ports import free_port

MCPACE = [sys.executable, "-m", "mcpace_cli"]
WEATHER = [sys.executable, str(ROOT / "examples/weather/server.py")]


def mcpace(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MCPACE, *map(str, arguments)], env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def manifest(folder: Path, *others: dict[str, Any], **spec: Any) -> Path:
    """A manifest whose server has a port of its own, if any, and other documents after it."""
    port = {} if spec.get("transport") == "stdio" else {"port": free_port()}
    path = folder / "manifest.yaml"
    server = {
        "apiVersion": "mcpace.dev/v1alpha1",
        "kind": "McpServer",
        "metadata": {"name": "weather"},
        "spec": {"image": "x"} | port | spec,
    }
    path.write_text(yaml.safe_dump_all([server, *others]))
    return path


def port_of(path: Path) -> int:
    return int(next(yaml.safe_load_all(path.read_text()))["spec"]["port"])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Any, what: str, seconds: float = STARTING) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.05)
    return value


class Run:
    """One `mcpace run`, and what it has said so far."""

    def __init__(
        self,
        folder: Path,
        arguments: tuple[object, ...],
        environment: dict[str, str],
        cwd: Path | None,
        program: Sequence[object],
    ) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*map(str, program), "run", *map(str, arguments)], env=os.environ | environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, cwd=cwd,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._err.read_text()

    def until_said(self, words: str) -> str:
        def said() -> bool:
            assert words in self.said or self.process.poll() is None, f"it has ended: {self.said}"
            return words in self.said

        wait_for(said, f"'{words}' in:\n{self.said}")
        return self.said

    def url(self) -> str:
        """The line on standard output, once the server is ready."""

        def line() -> str:
            text = self._out.read_text()
            assert text or self.process.poll() is None, f"it has ended: {self.said}"
            return text if text.endswith("\n") else ""

        return str(wait_for(line, f"the URL; it said:\n{self.said}")).strip()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE + 10) -> int:
        return self.process.wait(seconds)


@contextmanager
def running(
    folder: Path,
    *arguments: object,
    cwd: Path | None = None,
    program: Sequence[object] = MCPACE,
    **environment: str,
) -> Iterator[Run]:
    run = Run(folder, arguments, environment, cwd, program)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.send(signal.SIGTERM)
            try:
                run.wait()
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.wait()
