"""Compiles what a call passes through, with mypyc, when a wheel is built with MCPACE_COMPILE=1.

The source is the same either way; a wheel built without it is pure Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOMS: Final = (
    "bulkhead",
    "cache",
    "call",
    "conversations",
    "http",
    "identity",
    "limits",
    "mcp",
    "redis",
    "relay",
    "sessions",
    "stdio",
    "telemetry",
)
"""The rooms that a call passes through."""
ALSO: Final = ("bounded", "clock", "contract/histogram")
INTERPRETED: Final = {
    "mcp/jsonrpc": "msgspec reads its annotations at run time",
    "cache/redis": "coroutines, off the path",
    "cache/store": "protocols",
    "conversations/redis": "off the path",
    "conversations/store": "protocols",
    "call/batch": "closures, off the common path",
    "call/fanout": "closures, off the common path",
    "call/own_tools": "closures, off the common path",
    "call/pages": "closures, off the common path",
    "call/parallel": "closures, off the common path",
    "http/compression": "one call of a library each",
    "http/fetch": "coroutines, off the path",
    "http/listener": "sockets of a server are a tuple to asyncio and a list to uvloop",
    "http/receiver": "protocols, and receivers off the path",
    "http/tcp": "socket options",
    "identity/tokens": "a library's work, and coroutines",
    "identity/origins": "remembered with the head",
    "mcp/headers": "remembered with the head",
    "mcp/uris": "remembered with the head",
    "relay/certificate": "a library's work",
    "relay/peers": "coroutines, and one look-up a relayed call",
    "relay/port": "coroutines, off the path",
    "relay/succession": "coroutines, off the path",
    "sessions/heir": "off the path",
    "sessions/key": "remembered with the head",
    "sessions/sealing": "remembered with the head",
    "sessions/revival": "coroutines, off the path",
    "stdio/channel": "protocols, and asyncio's",
    "stdio/guard": "off the path",
    "stdio/strays": "off the path",
    "stdio/pipes": "asyncio's protocols",
    "stdio/processes": "coroutines, off the path",
    "telemetry/accesslog": "off unless asked for",
    "telemetry/faults": "off the path",
    "telemetry/spans": "off unless asked for",
}
"""What in those rooms stays as it is, and why."""


def modules() -> list[str]:
    """What is compiled, by path."""
    package = Path(__file__).parent / "sidecar/mcpace_sidecar"
    found = [
        f"{room}/{path.stem}"
        for room in ROOMS
        for path in sorted((package / room).glob("*.py"))
        if path.stem != "__init__"
    ]
    if not INTERPRETED.keys() <= set(found):
        raise RuntimeError(f"compile.py names what is not there: {sorted(INTERPRETED.keys() - set(found))}")
    return [*ALSO, *(module for module in found if module not in INTERPRETED)]


class Compile(BuildHookInterface):
    """Adds the compiled modules to the wheel, beside their source."""

    def dependencies(self) -> list[str]:
        """What the build needs: the compiler, and the packages whose types it reads."""
        if not _wanted():
            return []
        return [
            "mypy[mypyc]>=2.1",
            "setuptools>=80",
            "msgspec",
            "httptools",
            "redis[hiredis]",
            "pydantic",
            "prometheus-client",
        ]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is put together."""
        del version
        if not _wanted():
            return
        self._folder = Path(tempfile.mkdtemp(prefix="mcpace-compile-"))
        shutil.copytree(Path(self.root, "sidecar"), self._folder / "sidecar")
        work = self._folder / "sidecar"
        (work / "mypy.ini").write_text(
            "[mypy]\nignore_missing_imports = True\nfollow_imports = silent\nplugins = pydantic.mypy\n"
        )
        files = [f"mcpace_sidecar/{module}.py" for module in modules()]
        command = [sys.executable, "-m", "mypyc", *files]
        done = subprocess.run(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        compiled = [path for path in work.rglob("*.so") if "build" not in path.relative_to(work).parts]
        if done.returncode or len(compiled) <= len(files):
            raise RuntimeError(done.stdout.decode())
        for path in compiled:
            build_data["force_include"][str(path)] = str(path.relative_to(work))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is there."""
        del version, build_data, artifact_path
        if _wanted():
            shutil.rmtree(self._folder)


def _wanted() -> bool:
    return os.environ.get("MCPACE_COMPILE") == "1"
