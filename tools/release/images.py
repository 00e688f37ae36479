"""Images of every platform that can be built here, by buildah, as OCI archives with their digests."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.release.programs import run
from tools.release.source import Source

PLATFORMS: Final = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""Platform of images -> the machine that runs it."""
_ALSO_CALLED: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_EMULATORS: Final = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Image:
    """One that the chart names."""

    name: str
    dockerfile: str
    target: str = ""

    def archive(self, version: str) -> str:
        """The name of its file."""
        return f"{self.name.replace('/', '-')}-{version}.oci.tar"


IMAGES: Final[Mapping[str, Image]] = {
    "sidecar": Image("mcpace/sidecar", "Dockerfile", "sidecar"),
    "operator": Image("mcpace/operator", "Dockerfile", "operator"),
    "test": Image("mcpace/example-weather", "examples/weather/Dockerfile"),
}
"""Part of the chart's values that names it -> the image."""


def buildable() -> tuple[list[str], list[str]]:
    """The platforms that images can be built for here, and why not for the others."""
    if not shutil.which("buildah"):
        return [], ["images: there is no buildah (Debian: apt-get install buildah)"]
    emulators = [path.name for path in _EMULATORS.iterdir()] if _EMULATORS.is_dir() else []
    return judge(platform.machine(), emulators)


def judge(machine: str, emulators: Collection[str]) -> tuple[list[str], list[str]]:
    """The same, of any machine, by what the kernel's binfmt_misc hands to an emulator."""
    own = _ALSO_CALLED.get(machine.lower(), machine)
    built, left_out = [], []
    for name, runs_it in PLATFORMS.items():
        if own == runs_it or f"qemu-{runs_it}" in emulators:
            built.append(name)
        else:
            left_out.append(
                f"images of {name}: this machine is {own} and emulates no {runs_it}"
                " (Debian: apt-get install qemu-user-static)"
            )
    return built, left_out


def build(source: Source, out: Path, platforms: Collection[str]) -> dict[str, str]:
    """An archive of each image with all platforms; part of the chart's values -> its digest. ReleaseError.

    BASE in the environment names another base than the Dockerfiles'.
    """
    return {part: _build(image, source, out, platforms) for part, image in IMAGES.items()}


def _build(image: Image, source: Source, out: Path, platforms: Collection[str]) -> str:
    base = os.environ.get("BASE")
    # Anew: layers of an earlier build hold that day's Debian, and buildah 1.28 takes one platform's for
    # another's where they are alike. The list has a name of its own, so that nothing of a build that
    # failed is in this one. Files keep their times (no --timestamp): bytecode is good for a source of the
    # time that it was compiled from.
    name = f"localhost/{image.name}:{source.commit[:12]}-{os.getpid()}"
    run(
        "buildah", "build", "--layers=false", f"--platform={','.join(platforms)}", f"--manifest={name}",
        *([f"--build-arg=BASE={base}"] if base else []),
        *([f"--target={image.target}"] if image.target else []),
        "-f", source.tree / image.dockerfile, source.tree,
        cwd=source.tree,
    )  # fmt: skip
    archive = out / image.archive(source.version)
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder) / "digest"
        run(
            "buildah", "manifest", "push", "--all", "--rm", "--format=oci", f"--digestfile={digest}", name,
            f"oci-archive:{archive}:{image.name}:{source.version}",
            cwd=source.tree,
        )  # fmt: skip
        return digest.read_text(encoding="utf-8").strip()
