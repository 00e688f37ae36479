"""The operator as a process, started and ended as a kubelet would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.kit.waiting import STARTING, until
from tools.cluster.kubectl import Kubectl
from tools.ports import free_port


class Operator:
    """One operator, with a log of its own."""

    def __init__(self, api: Kubectl, log: Path, **environment: str) -> None:
        self.log = log
        self._environment = os.environ | {
            "KUBECONFIG": str(api.kubeconfig),
            "MCPACE_MASTER_KEY": "a-master-key-of-more-than-32-characters",
            "MCPACE_HEALTH_PORT": str(free_port()),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it listens or has ended: on a busy machine importing alone takes long."""
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "mcpace_cli", "operator"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + STARTING
        while process.poll() is None and not self.readiness()[0] and time.monotonic() < deadline:
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(number)
            try:
                assert process.wait(20) in (0, -number), self.log.read_text()
            finally:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()

    def readiness(self) -> tuple[int, list[str]]:
        """What its `/readyz` says: the status, and what keeps it from being ready; 0 while it does not listen."""
        url = f"http://127.0.0.1:{self._environment['MCPACE_HEALTH_PORT']}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, json.load(answer)["problems"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["problems"]
        except OSError:
            return 0, []

    def ended(self) -> int | None:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.poll()

    async def settled(self, api: Kubectl, namespace: str = "default") -> dict[str, str]:
        """Wait until nothing changes any more, and return the versions."""
        previous: dict[str, str] = {}

        async def still() -> bool:
            nonlocal previous
            await asyncio.sleep(0.5)
            before, previous = previous, api.versions(namespace)
            return before == previous != {}

        await until(still, "the cluster to come to rest")
        return previous
