"""A real Redis."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import redis
from tests.kit.waiting import STARTING
from tools.ports import free_port


class RedisServer:
    """A real Redis that a test may stop and start again, empty."""

    def __init__(
        self, folder: Path, *arguments: str, config: Path | None = None, password: str | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._config = [config] if config is not None else []
        self._password = password
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: run `make test`, or install Debian's package redis-server"
        self._process = subprocess.Popen(
            [
                program, *self._config, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder,
                *self._arguments,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + STARTING
        with self.client(**({"password": self._password} if self._password else {})) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert self._process.poll() is None, "redis-server has ended"
                    assert time.monotonic() < deadline, "redis-server does not answer"
                else:
                    return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Let it end in order, so that it writes what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)
