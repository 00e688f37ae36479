"""The version: it stands in pyproject.toml, and from there wherever else it is written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

_NUMBER: Final = r"\d+\.\d+\.\d+"
ALONE: Final[Mapping[str, str]] = {
    "sidecar/mcpace_sidecar/__init__.py": rf'(?<=__version__: Final = "){_NUMBER}',
    "charts/mcpace/Chart.yaml": rf"(?<=ersion: ){_NUMBER}",
    "uv.lock": rf'(?<=name = "mcpace"\nversion = "){_NUMBER}',
}
"""File -> where in it the version stands by itself."""
IMAGE: Final = rf"(?<=mcpace/)((?:sidecar|operator|example-[a-z]+):){_NUMBER}"
"""An image of ours with its tag."""
NAMING: Final = ("*.md", "docs/**/*.md", "examples/**/*.yaml", "benchmarks/*.py", "tests/**/*.py")
"""The files that may name one."""


def version(root: Path = ROOT) -> str:
    """The project's version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def places(root: Path = ROOT) -> list[str]:
    """The files in which it is written, beside those that are generated as a whole."""
    naming = (path for pattern in NAMING for path in root.glob(pattern) if path.is_file())
    found = {str(path.relative_to(root)) for path in naming if re.search(IMAGE, _read(path))}
    return [*ALONE, *sorted(found)]


def written(name: str, root: Path = ROOT) -> str:
    """A file as it is, with the version that the project has."""
    text = _read(root / name)
    if name in ALONE:
        text = re.sub(ALONE[name], version(root), text)
    return re.sub(IMAGE, rf"\g<1>{version(root)}", text)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
