"""A real Prometheus."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from tools.cluster.binaries import program
from tools.ports import free_port


class Prometheus:
    """One that scrapes and evaluates every `interval`; end it with `stop`."""

    def __init__(
        self,
        folder: Path,
        scrapes: list[dict[str, Any]],
        groups: list[dict[str, Any]],
        interval: str = "1s",
    ) -> None:
        """`scrapes`: its `scrape_configs`; `groups`: of rules, whose own intervals are too long for a test."""
        groups = [{name: each for name, each in group.items() if name != "interval"} for group in groups]
        self.url = f"http://127.0.0.1:{free_port()}"
        rules, config = folder / "rules.yaml", folder / "prometheus.yaml"
        rules.write_text(yaml.safe_dump({"groups": groups}))
        every = {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval}
        config.write_text(
            yaml.safe_dump({"global": every, "rule_files": [str(rules)], "scrape_configs": scrapes})
        )
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

    def ask(self, path: str, **query: str) -> Any:
        """What its API says; OSError while it does not listen."""
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5
        ) as answer:
            return json.loads(answer.read())["data"]

    def result(self, query: str) -> list[dict[str, Any]]:
        """What a query finds now: nothing while it does not listen yet."""
        try:
            return list(self.ask("query", query=query)["result"])
        except OSError:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            return []

    def value(self, query: str) -> float | None:
        """The first value that a query finds."""
        found = self.result(query)
        return float(found[0]["value"][1]) if found else None

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
