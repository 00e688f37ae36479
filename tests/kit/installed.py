"""mcpace as people install it: in an environment of its own, and not from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.kit.laptop import running
from tests.kit.pages import with_port
from tests.kit.programs import ROOT
from tools.ports import free_port

UV: Final = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")
EXAMPLE: Final = "examples/cache.yaml"


def done(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """What a command printed, which must succeed."""
    ended = subprocess.run(
        [*map(str, command)], cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def installed(folder: Path, wheel: Path) -> Path:
    """The folder of its commands. What a wheel needs is there as the lock pins it, and pip."""
    pins, python = folder / "pins.txt", folder / "venv/bin/python"
    only = ("--no-dev", "--no-emit-project", "--no-hashes")
    done(UV, "export", "--frozen", "--quiet", *only, "-o", pins)
    done(UV, "venv", "--quiet", "--seed", "--python", sys.executable, folder / "venv")
    done(UV, "pip", "install", "--quiet", "--python", python, "-r", pins, wheel)
    return python.parent


def asked(commands: Path, folder: Path) -> str:
    """What `mcpace call` prints of a tool that `mcpace run` serves by an example's manifest."""
    manifest = folder / "manifest.yaml"
    manifest.write_text(with_port((ROOT / EXAMPLE).read_text(), free_port()))
    places = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    server = (commands / "python", ROOT / "examples/weather/server.py")
    with running(
        folder, *places, manifest, "--", *server, cwd=folder, program=[commands / "mcpace"]
    ) as run:
        return done(commands / "mcpace", "call", run.url(), "get-weather", "city=Oslo", cwd=folder)
