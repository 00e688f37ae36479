"""What memory a process of a usual server of stdio takes.

`python benchmarks/processes.py` starts five of each, the warm one and four more, shakes hands with each,
and lists its tools. RSS counts all that a process touches, PSS what it shares by its share: of PSS a
container's memory is made. docs/stdio.md says what they were.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.packages.install import modules, node, python_v1, servers

NPM = modules() / "@modelcontextprotocol"
AT_ONCE = 5
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "processes", "version": "1"},
}


def commands(folder: str) -> dict[str, list[Any]]:
    """The servers' names -> what starts them."""
    return {
        "mcp-server-time": [python_v1().parent / "mcp-server-time", "--local-timezone", "UTC"],
        "mcp-server-git": [python_v1().parent / "mcp-server-git", "--repository", folder],
        "mcp-server-fetch": [servers() / "mcp-server-fetch"],
        "server-filesystem": [node(), NPM / "server-filesystem/dist/index.js", folder],
        "server-memory": [node(), NPM / "server-memory/dist/index.js"],
        "server-everything": [node(), NPM / "server-everything/dist/index.js", "stdio"],
    }


class Process:
    """One of them."""

    def __init__(self, command: list[Any]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def shake_hands(self) -> None:
        """Begin, and ask for its tools."""
        self._ask("initialize", INITIALIZE)
        self._write({"method": "notifications/initialized"})
        assert self._ask("tools/list", {})["result"]["tools"]

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._write({"id": 1, "method": method, "params": params})
        assert self._process.stdout is not None
        while True:
            message = json.loads(self._process.stdout.readline())
            if "result" in message or "error" in message:
                return message

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
        self._process.stdin.flush()

    def memory(self) -> tuple[float, float]:
        """RSS and PSS, in MiB."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        return int(found["Rss"]) / 1024, int(found["Pss"]) / 1024

    def end(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Measure all, and print a table."""
    print("| server | RSS, MiB | PSS, MiB |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, command in commands(folder).items():
            processes = [Process(command) for _ in range(AT_ONCE)]
            for each in processes:
                each.shake_hands()
            used = [each.memory() for each in processes]
            rss, pss = (statistics.median(values) for values in zip(*used, strict=True))
            for each in processes:
                each.end()
            print(f"| `{name}` | {rss:.0f} | {pss:.0f} |")


if __name__ == "__main__":
    main()
