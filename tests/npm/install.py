"""What the tests need of npm, installed once into the cache of the tests.

python -m tests.npm.install
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def modules() -> Path:
    """The `node_modules` that belong to package.json as it is."""
    cache = Path(os.environ.get("MCPACE_CACHE", Path.home() / ".cache/mcpace"))
    mark = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    return cache / f"npm-{mark}" / "node_modules"


def node() -> Path:
    """The Node.js that the suite wants, whatever the machine has."""
    return modules() / "node/bin/node"


def main() -> int:
    """Install what is missing."""
    target = modules()
    if node().exists():
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("npm is missing; as root: apt-get install npm", file=sys.stderr)
        return 1
    print("Installing npm packages ...", flush=True)
    folder = target.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode or not node().exists():
        sys.stderr.write(done.stdout.decode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
