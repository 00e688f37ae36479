"""Software of others that the tests run, installed once into the cache of the tests.

python -m tools.packages.install
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def _folder(kind: str, pinned: str) -> Path:
    cache = Path(os.environ.get("MCPACE_CACHE", Path.home() / ".cache/mcpace"))
    return cache / f"{kind}-{hashlib.sha256((HERE / pinned).read_bytes()).hexdigest()[:12]}"


def modules() -> Path:
    """The `node_modules` of package.json: the conformance suite, official clients, a server."""
    return _folder("npm", "package-lock.json") / "node_modules"


def node() -> Path:
    """The Node.js that the suite wants, whatever the machine has."""
    return modules() / "node/bin/node"


def python_v1() -> Path:
    """A Python with version 1 of the official SDK."""
    return _folder("mcp-v1", "mcp-v1.txt") / "bin/python"


def servers() -> Path:
    """The programs of MCP servers that nobody here wrote."""
    return _folder("servers", "servers.txt") / "bin"


def main() -> int:
    """Install what is missing."""
    if not node().exists():
        npm = shutil.which("npm")
        if npm is None:
            print("npm is missing; as root: apt-get install npm", file=sys.stderr)
            return 1
        folder = modules().parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        if _run("npm packages", [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder):
            return 1
    for pinned, shown in (("mcp-v1.txt", python_v1()), ("servers.txt", servers() / "excel-mcp-server")):
        if shown.exists():
            continue
        folder = shown.parents[1]
        shutil.rmtree(folder, ignore_errors=True)
        uv = os.environ.get("UV") or shutil.which("uv") or "uv"
        make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        fill = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), "-r", pinned]
        if _run(pinned, make, HERE) or _run(pinned, fill, HERE):
            return 1
    return 0


def _run(what: str, command: list[str], folder: Path) -> int:
    print(f"Installing {what} ...", flush=True)
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write(done.stdout.decode())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
