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

MODULES: Final = (
    "audience",
    "bulkhead",
    "cache/entry",
    "cache/policy",
    "call",
    "catalog",
    "conversations",
    "cors",
    "dataplane",
    "events",
    "flight",
    "histogram",
    "http/connections",
    "http/framing",
    "http/head",
    "http/known",
    "http/lines",
    "http/server",
    "ledger",
    "limits/bucket",
    "limits/lease",
    "limits/plan",
    "identity",
    "lookup",
    "messages",
    "metrics",
    "notes",
    "outline",
    "paging",
    "proxy",
    "questions",
    "remembered",
    "replies",
    "resource",
    "sessions",
    "settings",
    "spent",
    "ssepair",
    "stats",
    "store/limits",
    "store/memory",
    "store/wire",
    "stream",
    "streamed",
    "treatment",
    "turns",
    "upstream",
)


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
        files = [f"mcpace_sidecar/{module}.py" for module in MODULES]
        command = [sys.executable, "-m", "mypyc", *files]
        done = subprocess.run(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        compiled = [path for path in work.rglob("*.so") if "build" not in path.relative_to(work).parts]
        if done.returncode or len(compiled) <= len(MODULES):
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
