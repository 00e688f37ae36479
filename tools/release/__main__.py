"""All of a release, in `dist/VERSION`: `make release VERSION=1.2.3` (docs/releasing.md).

It is dry: nothing is tagged or pushed, and the checkout stays as it is. With --publish the commit that
everything was made of is taken over and tagged, and what would push it is said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tools.release import images, packages, proof
from tools.release.programs import ROOT, ReleaseError
from tools.release.source import Source, branch, check, committed, tag

PARTS: Final = ("compiled", "images")
"""What takes minutes, and may be left out."""


def main() -> int:
    """Make it, or say what is in the way."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", help="such as 1.2.3, and greater than the last")
    parser.add_argument("--without", action="append", choices=PARTS, default=[], help="what is left out")
    parser.add_argument("--publish", action="store_true", help="commit and tag")
    asked = parser.parse_args()
    try:
        release(ROOT, asked.version, asked.without, publish=asked.publish)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def release(root: Path, wanted: str, without: Collection[str], *, publish: bool) -> None:
    """Make everything, and tell of it. ReleaseError."""
    check(root, wanted)
    onto = branch(root) if publish else ""
    began = datetime.now(UTC)
    out = root / "dist" / wanted
    with committed(root, wanted, f"{began:%Y-%m-%d}") as source, _whole(out) as folder:
        left_out = _make(source, folder, without)
        parameters: dict[str, Any] = {"version": wanted, "without": sorted(without)}
        if base := os.environ.get("BASE"):
            parameters["base"] = base
        proof.write(source, folder, parameters, began)
        if publish:
            tag(root, source)
    _tell(root, out, left_out)
    if publish:
        print(f"v{wanted} is tagged here. Nothing is signed or pushed; these push:")
        print("".join(f"  {line}\n" for line in _pushes(out, wanted, onto)), end="")
    else:
        print(
            "Nothing is signed, tagged or pushed."
            f" `make release VERSION={wanted} PUBLISH=1` makes it anew, and tags what it is made of."
        )


def _make(source: Source, out: Path, without: Collection[str]) -> list[str]:
    """Everything but the proof; what was left out, and why."""
    left_out: list[str] = []
    _say("Building the wheel and the sdist ...")
    wheel = packages.pure(source, out)
    if "compiled" in without:
        left_out.append("compiled wheels: by WITHOUT")
    else:
        _say("Compiling wheels; this takes minutes for each Python ...")
        left_out += packages.compiled(source, out)
    digests: dict[str, str] = {}
    if "images" in without:
        left_out.append("images: by WITHOUT")
    else:
        platforms, others = images.buildable()
        left_out += others
        if platforms:
            _say(f"Building images of {' and '.join(platforms)}; this takes minutes ...")
            digests = images.build(source, out, platforms)
    _say("Packing the chart, and listing what all of it brings ...")
    packages.chart(source.tree, out, digests)
    packages.bill(source, out, wheel)
    return left_out


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that takes its place at the end, with all that there is to be, or never."""
    partial = out.with_name(f".{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tell(root: Path, out: Path, left_out: Collection[str]) -> None:
    print(f"In {out.relative_to(root)}:")
    for path in sorted(out.iterdir()):
        print(f"  {path.stat().st_size / 1024:>10,.0f} KiB  {path.name}")
    if left_out:
        print("Left out:")
        print("".join(f"  {line}\n" for line in left_out), end="")


def _pushes(out: Path, version: str, onto: str) -> Iterator[str]:
    folder = f"dist/{version}"
    yield f"git push origin {onto} v{version}"
    yield f"uv publish {folder}/mcpace-{version}.tar.gz {folder}/mcpace-{version}-py3-none-any.whl"
    for image in images.IMAGES.values():
        archive = image.archive(version)
        if (out / archive).exists():
            there = f"docker://REGISTRY/{image.name}:{version}"
            yield f"skopeo copy --all --preserve-digests oci-archive:{folder}/{archive} {there}"
    yield f"helm push {folder}/mcpace-{version}.tgz oci://REGISTRY/charts"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
