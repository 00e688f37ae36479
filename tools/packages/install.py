"""Software of others that tests and benchmarks run, installed once into the cache of the tests.

python -m tools.packages.install [--yardsticks]
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


def supergateway() -> Path:
    """A bridge from stdio to HTTP, which Node.js runs."""
    return _folder("yardsticks", "yardsticks/package-lock.json") / "node_modules/supergateway/dist/index.js"


def mcp_proxy() -> Path:
    """Another, in Python."""
    return _folder("mcp-proxy", "yardsticks/mcp-proxy.txt") / "bin/mcp-proxy"


def main() -> int:
    """Install what is missing: what tests run, and with `--yardsticks` what only benchmarks do."""
    npm = [("package-lock.json", node(), modules().parent)]
    pypi = [
        ("mcp-v1.txt", python_v1(), python_v1().parents[1]),
        ("servers.txt", servers() / "excel-mcp-server", servers().parent),
    ]
    if "--yardsticks" in sys.argv[1:]:
        npm.append(("yardsticks/package-lock.json", supergateway(), supergateway().parents[3]))
        pypi.append(("yardsticks/mcp-proxy.txt", mcp_proxy(), mcp_proxy().parents[1]))
    for install, kinds in ((_from_npm, npm), (_from_pypi, pypi)):
        for pinned, shown, folder in kinds:
            if shown.exists():
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if install(pinned, folder):
                return 1
    return 0


def _from_npm(pinned: str, folder: Path) -> int:
    npm = shutil.which("npm")
    if npm is None:
        print("npm is missing; as root: apt-get install npm", file=sys.stderr)
        return 1
    folder.mkdir(parents=True)
    lock = HERE / pinned
    for file in (lock, lock.with_name("package.json")):
        shutil.copy(file, folder)
    return _run("npm packages", [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], folder)


def _from_pypi(pinned: str, folder: Path) -> int:
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
    fill = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), "-r", pinned]
    return _run(pinned, make, HERE) or _run(pinned, fill, HERE)


def _run(what: str, command: list[str], folder: Path) -> int:
    print(f"Installing {what} ...", flush=True)
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.write(done.stdout.decode())
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
