"""What people install: wheels, the sdist, the chart; and a bill of what it all brings."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tools.release.programs import ReleaseError, helm, run, uv
from tools.release.source import Source

_MINORS: Final = range(11, 20)
"""Of Python 3, those that compiled wheels are looked for."""
_HAS_HEADERS: Final = (
    "import os, sysconfig; print(os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))"
)


def pure(source: Source, out: Path) -> Path:
    """The sdist, and of what it holds the wheel that runs everywhere; that one's path."""
    _build(source, out, source.tree, MCPACE_COMPILE="0")
    (wheel,) = out.glob("*-py3-none-any.whl")
    return wheel


def compiled(source: Source, out: Path) -> list[str]:
    """A wheel for this machine and each Python that can compile one; why there is none."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        return ["compiled wheels: there is no C compiler (Debian: apt-get install gcc libc6-dev)"]
    (sdist,) = out.glob("*.tar.gz")
    found = list(_interpreters(source.tree))
    for interpreter in found:
        _build(source, out, "--wheel", "--python", interpreter, sdist, MCPACE_COMPILE="1")
    if not found:
        return ["compiled wheels: no Python here has its headers (Debian: apt-get install python3-dev)"]
    return []


def chart(tree: Path, out: Path, digests: Mapping[str, str]) -> Path:
    """The chart, packed, with the images by their digests.

    `digests`: part of the values that names an image -> sha256:….
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(tree / "charts/mcpace", Path(folder) / "mcpace"))
        values = copy / "values.yaml"
        text = values.read_text(encoding="utf-8")
        values.write_text(_with_digests(text, digests), encoding="utf-8")
        run(helm(), "package", copy, "--destination", out, cwd=tree)
    (packed,) = out.glob("mcpace-*.tgz")
    return packed


def bill(source: Source, out: Path, wheel: Path) -> None:
    """A CycloneDX document of all Python packages, as the lock pins them: licences, and who needs whom."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pins, python = folder / "pins.txt", folder / "venv/bin/python"
        extras = ("--no-dev", "--all-extras", "--no-emit-project")
        run(uv(), "export", "--frozen", "--quiet", *extras, "-o", pins, cwd=source.tree)
        run(uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
        install = (uv(), "pip", "install", "--quiet", "--python", python, "--no-deps")
        run(*install, "-r", pins, wheel, cwd=folder)
        # Its own types write it: to validate it takes longer than all else that is quick here.
        run(
            sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate",
            "--pyproject", source.tree / "pyproject.toml", "--mc-type", "application",
            "--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON",
            "--output-file", out / f"mcpace-{source.version}.cdx.json", python,
            cwd=folder,
        )  # fmt: skip


def _build(source: Source, out: Path, *arguments: str | Path, **environment: str) -> None:
    epoch = str(source.seconds)
    run(
        uv(), "build", "--quiet", "--out-dir", out, *arguments,
        cwd=source.tree, SOURCE_DATE_EPOCH=epoch, **environment,
    )  # fmt: skip
    (out / ".gitignore").unlink(missing_ok=True)  # uv's, for folders that git would see


def _interpreters(cwd: Path) -> Iterator[str]:
    for minor in _MINORS:
        found = shutil.which(f"python3.{minor}")
        if found and _has_headers(found, cwd):
            yield found


def _has_headers(python: str, cwd: Path) -> bool:
    try:
        return run(python, "-c", _HAS_HEADERS, cwd=cwd).strip() == "True"
    except ReleaseError:  # what stands for a Python that is not there, as shims do
        return False


def _with_digests(values: str, digests: Mapping[str, str]) -> str:
    for part, digest in digests.items():
        pattern = rf'^({part}:\n(?: .*\n|\n)*?    digest: )""$'
        values, found = re.subn(pattern, rf'\g<1>"{digest}"', values, count=1, flags=re.MULTILINE)
        if not found:
            raise ReleaseError(f"The chart's values have no {part}.image.digest to write one into")
    return values
