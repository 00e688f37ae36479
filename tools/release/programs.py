"""The programs that a release is made with: where they are, and what is said where one fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tools.cluster.binaries import program

ROOT: Final = Path(__file__).parents[2]
_LAST: Final = 4000
"""Characters of what a program said."""


class ReleaseError(Exception):
    """Why nothing is released; the words say what to do."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a program printed. ReleaseError, with what it said last, where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()[-_LAST:]
        raise ReleaseError(f"`{Path(command[0]).name} {command[1]}` failed:\n{said}")
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    """What git printed there, without the line's end. ReleaseError."""
    return run("git", *arguments, cwd=folder).rstrip("\n")


def uv() -> str:
    """The one that runs us, or else the Makefile's."""
    return os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv/bin/uv")


def helm() -> Path:
    """Helm, built now where there is none."""
    found = shutil.which("helm")
    return Path(found) if found else program("helm")
